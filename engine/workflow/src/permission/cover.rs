//! Whether a grant is within another one, and whether two have anything in common: how a policy is held against what a
//! workflow grants, and how a reviewer is told that grants have become wider.
//!
//! The wider side may have patterns for names, in which `*` stands for any text: policies speak of many workflows. What can't
//! be told for certain counts as not covered, and as overlapping. Paths are compared as they are given: whoever asks makes
//! them absolute first, with [`at_home`].

use core::net::IpAddr;

use super::{argument_fits, is_below, is_public, split, unbracketed};
use crate::capability::{FileGrant, Grant, HttpGrant, ProgramGrant};
use crate::secret::SecretGrant;

/// Whether everything that `narrow` allows is allowed by `wide` as well.
pub fn covers(wide: &Grant, narrow: &Grant) -> bool {
    match (wide, narrow) {
        (Grant::Process(wide), Grant::Process(narrow)) => covers_program(wide, narrow),
        (Grant::Files(wide), Grant::Files(narrow)) => {
            (wide.write || !narrow.write) && is_below(&wide.path, &narrow.path)
        }
        (Grant::Http(wide), Grant::Http(narrow)) => covers_http(wide, narrow),
        (Grant::Env(wide), Grant::Env(narrow)) => fits(wide, narrow),
        (Grant::Secrets(wide), Grant::Secrets(narrow)) => covers_secret(wide, narrow),
        (Grant::Whole(wide), Grant::Whole(narrow)) => wide == narrow,
        _ => false,
    }
}

/// Whether there may be a use that both allow.
pub fn overlaps(one: &Grant, other: &Grant) -> bool {
    match (one, other) {
        (Grant::Process(one), Grant::Process(other)) => {
            may_meet(&one.args, &other.args) && overlaps_program(&one.program, &other.program)
        }
        (Grant::Files(one), Grant::Files(other)) => {
            is_below(&one.path, &other.path) || is_below(&other.path, &one.path)
        }
        (Grant::Http(one), Grant::Http(other)) => overlaps_http(one, other),
        (Grant::Env(one), Grant::Env(other)) => fits(one, other) || fits(other, one),
        (Grant::Secrets(one), Grant::Secrets(other)) => overlaps_secret(one, other),
        (Grant::Whole(one), Grant::Whole(other)) => one == other,
        _ => false,
    }
}

/// Whether what is forbidden is among what is granted.
pub fn forbids(pattern: &Grant, grant: &Grant) -> bool {
    overlaps(pattern, grant) && asks_for_it(pattern, grant)
}

/// What is forbidden with a word is forbidden to those who have the word: `write = true` to those who write.
fn asks_for_it(pattern: &Grant, grant: &Grant) -> bool {
    match (pattern, grant) {
        (Grant::Files(pattern), Grant::Files(grant)) => grant.write || !pattern.write,
        (Grant::Http(pattern), Grant::Http(grant)) => is_for_private(grant) || !pattern.private,
        (Grant::Process(pattern), Grant::Process(grant)) => {
            (grant.network || !pattern.network) && (grant.daemons || !pattern.daemons)
        }
        (Grant::Secrets(pattern), Grant::Secrets(grant)) => {
            let places = [
                (pattern.insecure, grant.insecure),
                (pattern.reveal, grant.reveal),
                (pattern.env.is_some(), grant.env.is_some()),
                (pattern.host.is_some(), grant.host.is_some()),
                (pattern.header.is_some(), grant.header.is_some()),
                (pattern.body, grant.body),
                (pattern.query, grant.query),
                (pattern.path, grant.path),
            ];
            places.iter().all(|(forbidden, granted)| *granted || !forbidden)
        }
        _ => true,
    }
}

/// A grant whose relative path starts at this absolute folder, as an absolute one without `.` and `..`. Directories are
/// granted through no link, so that the text says where they are.
pub fn at_home(grant: Grant, directory: &str) -> Grant {
    match grant {
        Grant::Files(file) => Grant::Files(FileGrant { path: absolute(&file.path, directory), ..file }),
        other => other,
    }
}

/// A path from this folder, without `.`, `..` and what else says nothing.
pub(crate) fn absolute(path: &str, directory: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a text is as a pattern says, in which `*` stands for any text.
pub fn fits(pattern: &str, text: &str) -> bool {
    // What a pattern of arguments says more is about options, and a name is none.
    argument_fits(pattern, text) || (pattern.starts_with('*') && argument_fits(pattern, &format!("x{text}")))
}

fn covers_program(wide: &ProgramGrant, narrow: &ProgramGrant) -> bool {
    let args = match (&wide.args, &narrow.args) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => covers_arguments(wide, narrow),
    };
    let env = match (&wide.env, &narrow.env) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|name| wide.iter().any(|wide| fits(wide, name))),
    };
    let directory = match (&wide.directory, &narrow.directory) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => is_below(wide, narrow),
        (Some(_), None) => false,
    };
    let digest = wide.digest.is_none() || wide.digest == narrow.digest;
    let beyond = (wide.network || !narrow.network)
        && (wide.daemons || !narrow.daemons)
        && narrow.read.iter().all(|path| wide.read.iter().any(|wide| wide == "/" || is_below(wide, path)));
    let is_it = match narrow.program.starts_with('/') {
        true => fits(&wide.program, &absolute(&narrow.program, "")),
        false => fits(&wide.program, &narrow.program),
    };
    is_it && args && env && directory && digest && beyond
}

/// A name stands for the file of this name, wherever `PATH` has it.
fn overlaps_program(one: &str, other: &str) -> bool {
    let name = |program: &str| program.rsplit('/').next().unwrap_or_default().to_owned();
    let (one, other) = match (one.starts_with('/'), other.starts_with('/')) {
        (true, true) => (absolute(one, ""), absolute(other, "")),
        (true, false) => (name(one), other.to_owned()),
        (false, true) => (one.to_owned(), name(other)),
        (false, false) => (one.to_owned(), other.to_owned()),
    };
    fits(&one, &other) || fits(&other, &one)
}

fn covers_arguments(wide: &[String], narrow: &[String]) -> bool {
    let open = |patterns: &[String]| patterns.last().is_some_and(|last| last == "**");
    let fixed = |patterns: &[String]| patterns.len() - usize::from(open(patterns));
    let enough = match (open(wide), open(narrow)) {
        (true, _) => fixed(narrow) >= fixed(wide),
        (false, true) => false,
        (false, false) => wide.len() == narrow.len(),
    };
    // A pattern taken for a text: its stars fit where the wider pattern has one as well, and nowhere else.
    enough && wide[..fixed(wide)].iter().zip(narrow).all(|(wide, narrow)| wide == narrow || argument_fits(wide, narrow))
}

/// Whether there may be arguments that are as both say.
fn may_meet(one: &Option<Vec<String>>, other: &Option<Vec<String>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    let open = |patterns: &[String]| patterns.last().is_some_and(|last| last == "**");
    let fixed = |patterns: &[String]| patterns.len() - usize::from(open(patterns));
    let (length, other_length) = (fixed(one), fixed(other));
    let lengths =
        (length == other_length) || (length < other_length && open(one)) || (length > other_length && open(other));
    let meet = |one: &String, other: &String| match (one.contains('*'), other.contains('*')) {
        (true, true) => true,
        (true, false) => argument_fits(one, other),
        (false, true) => argument_fits(other, one),
        (false, false) => one == other,
    };
    lengths && one[..length].iter().zip(&other[..other_length]).all(|(one, other)| meet(one, other))
}

fn covers_http(wide: &HttpGrant, narrow: &HttpGrant) -> bool {
    let ((wide_host, wide_port), (narrow_host, narrow_port)) = (split(&wide.host), split(&narrow.host));
    let port = wide_port == Some("*")
        || wide_port == narrow_port
        || match (wide_port, narrow_port) {
            // Without a port it is 80 or 443.
            (None, Some(port)) => matches!(port, "80" | "443"),
            _ => false,
        };
    let methods = match (&wide.methods, &narrow.methods) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|method| wide.contains(method)),
    };
    let path = match (&wide.path, &narrow.path) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => {
            let wide = wide.trim_end_matches('/');
            narrow.strip_prefix(wide).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    // A name that is spelt out leads to this machine as little as a pattern does.
    let is_literal = same_host(wide_host, narrow_host) && !wide_host.contains('*');
    let private = wide.private || is_literal && !narrow.private || !narrow.private && !is_private(narrow_host);
    port && methods && path && private && host_fits(wide_host, narrow_host)
}

fn overlaps_http(one: &HttpGrant, other: &HttpGrant) -> bool {
    let ((one_host, one_port), (other_host, other_port)) = (split(&one.host), split(&other.host));
    let default = |port: Option<&str>| matches!(port, None | Some("80" | "443"));
    let port = one_port == Some("*")
        || other_port == Some("*")
        || one_port == other_port
        || (one_port.is_none() && default(other_port))
        || (other_port.is_none() && default(one_port));
    let methods = match (&one.methods, &other.methods) {
        (Some(one), Some(other)) => one.iter().any(|method| other.contains(method)),
        _ => true,
    };
    let path = match (&one.path, &other.path) {
        (Some(one), Some(other)) => {
            let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
            one.starts_with(other) || other.starts_with(one)
        }
        _ => true,
    };
    port && methods && path && (host_fits(one_host, other_host) || host_fits(other_host, one_host))
}

/// A wider one without a source means any, one without a place in requests any of them, and one that says nothing at all of
/// where the value may be, any host: what a component is not revealed, and no program has.
fn covers_secret(wide: &SecretGrant, narrow: &SecretGrant) -> bool {
    let host = match (&wide.host, &narrow.host) {
        (_, None) => true,
        (None, Some(_)) => wide.env.is_none() && !wide.reveal,
        (Some(wide), Some(narrow)) => covers_http(&anywhere(wide), &anywhere(narrow)),
    };
    let is_any_place = wide.header.is_none() && !wide.body && !wide.query && !wide.path;
    let header = match (&wide.header, &narrow.header) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(wide), Some(narrow)) => fits(&wide.to_ascii_lowercase(), narrow),
    };
    let places = header && (wide.body || !narrow.body) && (wide.query || !narrow.query) && (wide.path || !narrow.path);
    let env = match (&wide.env, &narrow.env) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(wide), Some(narrow)) => fits(wide, narrow),
    };
    fits(&wide.name, &narrow.name)
        && is_of(wide, narrow)
        && host
        && (is_any_place || places)
        && (wide.insecure || !narrow.insecure)
        && (wide.reveal || !narrow.reveal)
        && env
}

/// What is said of neither may be the same.
fn overlaps_secret(one: &SecretGrant, other: &SecretGrant) -> bool {
    let hosts = match (&one.host, &other.host) {
        (Some(one), Some(other)) => overlaps_http(&anywhere(one), &anywhere(other)),
        _ => true,
    };
    let names = fits(&one.name, &other.name) || fits(&other.name, &one.name);
    names && hosts && (is_of(one, other) || is_of(other, one))
}

/// Whether it comes from the kind of source that is meant.
fn is_of(wide: &SecretGrant, narrow: &SecretGrant) -> bool {
    let word = |grant: &SecretGrant| grant.source.as_ref().map(crate::secret::SecretSource::word);
    wide.source.is_none() || word(wide) == word(narrow)
}

/// A secret's host, whatever it leads to: that is for the grant of `http` beside it.
fn anywhere(host: &str) -> HttpGrant {
    HttpGrant { private: true, ..host.into() }
}

fn host_fits(pattern: &str, host: &str) -> bool {
    // A dot at the end says that nothing comes behind it, and the name is the same.
    let (pattern, host) = (pattern.trim_end_matches('.'), host.trim_end_matches('.'));
    same_host(pattern, host) || fits(&pattern.to_ascii_lowercase(), &host.to_ascii_lowercase())
}

fn same_host(one: &str, other: &str) -> bool {
    let address = |host: &str| unbracketed(host).parse::<IpAddr>().map(|address| address.to_canonical());
    match (address(one), address(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), Err(_)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// Whether a grant of `http` leads to what only this machine or its network can reach: by a word, or by what it names.
pub(crate) fn is_for_private(grant: &HttpGrant) -> bool {
    grant.private || is_private(split(&grant.host).0)
}

/// Whether a host as it is written is one that only this machine or its network can reach.
fn is_private(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || unbracketed(host).parse::<IpAddr>().is_ok_and(|address| !is_public(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capability;

    fn http(text: &str) -> Grant {
        Grant::Http(text.into())
    }

    fn file(path: &str, write: bool) -> Grant {
        Grant::Files(FileGrant { path: path.into(), write })
    }

    fn program(program: &str, args: &[&str]) -> Grant {
        let args = Some(args.iter().map(|arg| (*arg).to_owned()).collect());
        Grant::Process(ProgramGrant { args, ..program.into() })
    }

    #[test]
    fn a_pattern_covers_hosts_by_name_and_no_address_of_this_machine() {
        assert!(covers(&http("*.example.org"), &http("API.example.org")));
        assert!(covers(&http("*"), &http("example.org")) && covers(&http("*:*"), &http("example.org:8080")));
        assert!(
            !covers(&http("*"), &http("example.org:8080")) && !covers(&http("*.example.org"), &http("example.org"))
        );
        assert!(!covers(&http("*:*"), &http("127.0.0.1:80")) && !covers(&http("*:*"), &http("localhost:80")));
        assert!(covers(&http("127.0.0.1:*"), &http("127.0.0.1:80")) && covers(&http("[::1]"), &http("[0::1]:443")));
        let private = Grant::Http(HttpGrant { private: true, ..HttpGrant::from("*:*") });
        assert!(covers(&private, &http("127.0.0.1:80")) && covers(&private, &private));
        let intranet = Grant::Http(HttpGrant { private: true, ..HttpGrant::from("intranet") });
        assert!(!covers(&http("intranet"), &intranet) && covers(&intranet, &http("intranet")));
    }

    #[test]
    fn what_is_narrower_is_covered_and_not_the_other_way_round() {
        let narrow = Grant::Http(HttpGrant {
            methods: Some(vec!["GET".into()]),
            path: Some("/v1/x".into()),
            ..HttpGrant::from("a.org")
        });
        let wider = Grant::Http(HttpGrant {
            methods: Some(vec!["GET".into(), "HEAD".into()]),
            path: Some("/v1/".into()),
            ..HttpGrant::from("a.org")
        });
        for (wide, narrow) in [
            (&http("a.org"), &narrow),
            (&wider, &narrow),
            (&Grant::Process("git".into()), &program("git", &["fetch", "*"])),
            (&program("git", &["fetch", "*"]), &program("git", &["fetch", "origin"])),
            (&program("git", &["**"]), &program("git", &["fetch", "*", "**"])),
            (&program("git", &["fetch", "o*"]), &program("git", &["fetch", "or*n"])),
            (&file("/a", true), &file("/a/b", false)),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
            assert!(covers(wide, wide) && covers(narrow, narrow), "{wide} and {narrow} cover themselves");
            assert!(!covers(narrow, wide), "{narrow} does not cover {wide}");
            assert!(overlaps(narrow, wide) && overlaps(wide, narrow));
        }
        assert!(!covers(&program("git", &["fetch", "*"]), &program("git", &["fetch", "--upload-pack=x"])));
        assert!(!covers(&program("git", &["fetch", "*"]), &program("git", &["fetch", "**"])));
        assert!(!covers(&Grant::Process("/usr/bin/*".into()), &Grant::Process("/usr/bin/../../tmp/x".into())));
        assert!(covers(&Grant::Whole(Capability::Clock), &Grant::Whole(Capability::Clock)));
        assert!(!covers(&Grant::Whole(Capability::Clock), &Grant::Whole(Capability::Random)));
    }

    #[test]
    fn a_secret_is_covered_with_its_source_and_in_its_places() {
        use crate::secret::SecretSource;
        let secret = |name: &str, set: &dyn Fn(&mut SecretGrant)| {
            let mut grant = SecretGrant { name: name.into(), ..SecretGrant::default() };
            set(&mut grant);
            Grant::Secrets(grant)
        };
        let sent = secret("hook", &|grant| {
            grant.source = Some(SecretSource::Command(vec!["vault".into()]));
            grant.host = Some("hooks.example.org".into());
            grant.header = Some("authorization".into());
        });
        let revealed = secret("hook", &|grant| grant.reveal = true);
        let to = |host: &str| secret("*", &|grant| grant.host = Some(host.into()));
        let any = secret("*", &|_| ());
        for wide in [&any, &to("*.example.org"), &to("hooks.example.org"), &sent] {
            assert!(covers(wide, &sent), "{wide}");
            assert!(!covers(wide, &revealed), "{wide}");
        }
        for narrower in [
            to("elsewhere.org"),
            secret("other", &|_| ()),
            secret("*", &|grant| grant.reveal = true),
            secret("*", &|grant| (grant.host, grant.body) = (Some("*.example.org".into()), true)),
            secret("*", &|grant| grant.source = Some(SecretSource::Env("*".into()))),
        ] {
            assert!(!covers(&narrower, &sent), "{narrower}");
        }
        let commands = secret("*", &|grant| grant.source = Some(SecretSource::Command(Vec::new())));
        assert!(overlaps(&commands, &sent) && overlaps(&any, &revealed) && !overlaps(&to("elsewhere.org"), &sent));
    }

    #[test]
    fn what_may_have_something_in_common_overlaps() {
        assert!(
            overlaps(&http("*.evil.org:*"), &http("x.evil.org:8080")) && overlaps(&http("a.org"), &http("a.org:80"))
        );
        assert!(overlaps(&http("a.org:80"), &http("a.org:*")) && !overlaps(&http("a.org:81"), &http("a.org")));
        assert!(overlaps(&file("/a/b", true), &file("/a", false)) && !overlaps(&file("/a", true), &file("/ab", true)));
        assert!(overlaps(&Grant::Env("AWS_*".into()), &Grant::Env("AWS_KEY".into())));
        let push = program("git", &["push", "**"]);
        assert!(overlaps(&push, &Grant::Process("git".into())) && overlaps(&push, &program("git", &["*", "origin"])));
        for (one, other) in [("sh", "/bin/sh"), ("s*", "/bin/sh"), ("/bin/sh", "/bin/./sh"), ("/bin/*", "/x/../bin/sh")]
        {
            let (one, other) = (Grant::Process(one.into()), Grant::Process(other.into()));
            assert!(overlaps(&one, &other) && overlaps(&other, &one), "{one} and {other}");
        }
        assert!(!overlaps(&Grant::Process("sh".into()), &Grant::Process("/bin/ssh".into())));
        assert!(!overlaps(&Grant::Process("/bin/sh".into()), &Grant::Process("/opt/sh".into())));
        assert!(overlaps(&http("*.evil.org"), &http("a.evil.org.")) && overlaps(&http("a.org."), &http("a.org:443")));
        assert!(!overlaps(&push, &program("git", &["fetch", "**"])) && !overlaps(&push, &program("git", &[])));
    }

    #[test]
    fn relative_paths_start_at_the_workflows_folder() {
        assert_eq!(at_home(file("../data/./x", true), "/work/flow"), file("/work/data/x", true));
        assert_eq!(at_home(file("/a/../../b", true), "/work/flow"), file("/b", true));
        assert_eq!(at_home(file(".", true), "/work/flow"), file("/work/flow", true));
    }

    #[test]
    fn a_star_of_a_name_also_stands_for_what_would_be_an_option() {
        assert!(fits("*", "-x") && fits("*", "") && fits("a*", "a-x") && !fits("*b", "-a"));
    }
}
