//! What a program was most likely refused, from what it complained of. The kernel tells the engine nothing of what it
//! refuses a program, and a program says "Permission denied" in its own words: so this reads them, and the engine looks
//! whether the grants are the reason. Nothing depends on it but what people are told.

use std::path::Path;

/// Bytes of the end of a program's complaints that are read: the last lines say why it ended.
const READ_MAX: usize = 16 << 10;

/// Something that a program could not reach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Complaint<'t> {
    /// A file or directory.
    Path(&'t Path),
    /// Others, over the network or on this machine.
    Network,
}

/// The first path of each line that says so, or that it is about a connection.
pub(crate) fn complaints(said: &str) -> Vec<Complaint<'_>> {
    let mut start = said.len().saturating_sub(READ_MAX);
    while !said.is_char_boundary(start) {
        start += 1;
    }
    let mut found = Vec::new();
    for line in said[start..].lines() {
        if !["ermission denied", "ermissionDenied", "EACCES"].iter().any(|words| line.contains(words)) {
            continue;
        }
        let words = line.split(|c: char| c.is_whitespace() || "'\"`‘’“”()[]{},;".contains(c));
        let path =
            words.map(|word| word.trim_end_matches([':', '.'])).find(|word| word.len() > 1 && word.starts_with('/'));
        let complaint = match path {
            Some(path) if !path.starts_with("/dev/tcp/") && !path.starts_with("/dev/udp/") => {
                Complaint::Path(Path::new(path))
            }
            _ if ["socket", "connect", "bind", "resolv", "network"].iter().any(|word| line.contains(word)) => {
                Complaint::Network
            }
            _ => continue,
        };
        if !found.contains(&complaint) {
            found.push(complaint);
        }
    }
    found
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
        assert_eq!(complaints("no such file: /flow/x\npermission granted\nPermission denied"), []);
        assert_eq!(complaints(&format!("é{}\nPermission denied", "é".repeat(READ_MAX))), []);
    }
}
