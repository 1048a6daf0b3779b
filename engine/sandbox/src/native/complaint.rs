//! What a program was most likely refused, from what it complained of. The kernel tells the engine nothing of what it
//! refuses a program, and a program says "Permission denied" in its own words: so this reads them, and the engine looks
//! whether the grants are the reason. Nothing depends on it but what people are told.

use std::path::Path;

/// Bytes of the end of a program's complaints that are read: the last lines say why it ended.
const READ_MAX: usize = 16 << 10;

/// Parts of words that are about others, and not about files.
const NETWORK: &[&str] = &["socket", "connect", "bind", "listen", "answer", "resolv", "network", "address", "request"];

/// Something that a program could not reach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Complaint<'t> {
    /// A file or directory.
    Path(&'t Path),
    /// Others, over the network or on this machine.
    Network,
    /// What this line does not name in a way that is known here.
    Unnamed(&'t str),
}

/// What each line that says so is about: the first path in it, or in the lines that it is the cause of, or a connection.
pub(crate) fn complaints(said: &str) -> Vec<Complaint<'_>> {
    let mut start = said.len().saturating_sub(READ_MAX);
    while !said.is_char_boundary(start) {
        start += 1;
    }
    let lines: Vec<&str> = said[start..].lines().filter(|line| !line.trim().is_empty()).collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if !["ermission denied", "ermissionDenied", "EACCES"].iter().any(|words| line.contains(words)) {
            continue;
        }
        let before = lines[..number].iter().rev();
        let is_cause = before.clone().next().is_some_and(|line| line.trim_start().starts_with("Caused by"));
        let path = path_in(line).or_else(|| before.clone().find_map(|line| path_in(line)).filter(|_| is_cause));
        let complaint = match path {
            Some(path) if !path.starts_with("/dev/tcp") && !path.starts_with("/dev/udp") => Complaint::Path(path),
            _ if NETWORK.iter().any(|word| line.contains(word)) => Complaint::Network,
            _ => Complaint::Unnamed(line),
        };
        if !found.contains(&complaint) {
            found.push(complaint);
        }
    }
    found
}

/// A line's words as programs write them, without what they are quoted with and what ends them.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || "'\"`‘’“”()[]{},;".contains(c));
    words.map(|word| word.trim_end_matches([':', '.'])).filter(|word| !word.is_empty())
}

fn path_in(line: &str) -> Option<&Path> {
    words(line).find(|word| word.len() > 1 && word.starts_with('/')).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_many_programs_complaints_are_found() {
        for (said, path) in [
            ("sh: 0: cannot open /flow/deploy.sh: Permission denied", "/flow/deploy.sh"),
            ("cat: /etc/shadow: Permission denied", "/etc/shadow"),
            ("ls: cannot open directory '/root/': Permission denied", "/root/"),
            ("error: could not load `/root/.cargo/config.toml`\n  Permission denied (os error 13), `/a b`", "/a"),
            (
                "error: failed to read `/flow/Cargo.toml`\n\nCaused by:\n  Permission denied (os error 13)",
                "/flow/Cargo.toml",
            ),
            ("Error: EACCES: permission denied, open '/tmp/x'", "/tmp/x"),
            ("fatal: could not read '/home/me/.gitconfig': Permission denied.", "/home/me/.gitconfig"),
        ] {
            assert_eq!(complaints(said), [Complaint::Path(Path::new(path))], "{said}");
        }
    }

    #[test]
    fn a_refused_connection_is_one_and_other_words_are_none() {
        assert_eq!(complaints("bash: socket: Permission denied"), [Complaint::Network]);
        assert_eq!(complaints("bash: line 1: /dev/tcp/127.0.0.1/1: connect: Permission denied"), [Complaint::Network]);
        assert_eq!(complaints("server: cannot listen: Permission denied (os error 13)"), [Complaint::Network]);
        assert_eq!(
            complaints("no such file: /flow/x\npermission granted\nPermission denied"),
            [Complaint::Unnamed("Permission denied")]
        );
        assert_eq!(complaints("sh: 1: exec: tool: Permission denied\nPermission granted").len(), 1);
        assert_eq!(complaints("no permission, nobody denied it: /flow/x"), []);
        let long = format!("é{}\nEACCES", "é".repeat(READ_MAX));
        assert_eq!(complaints(&long), [Complaint::Unnamed("EACCES")]);
    }
}
