//! Advisories about crates, as RustSec keeps them (<https://github.com/rustsec/advisory-db>): a file each, with what programs read
//! in TOML at its top, and what people read below. From text to what it says, and which versions of a crate it is about;
//! where the files are, and what a component was compiled from, is others' business.
//!
//! The crate `rustsec` does the same and much more (lock files, CVSS, a git client), for some thirty crates that nothing else
//! here needs; and it ends at the first faulty file.

use semver::{Comparator, Op, Prerelease, Version, VersionReq};
use serde::{Deserialize, Serialize};

/// What components are compiled for, as advisories name it.
const ARCHITECTURE: &str = "wasm32";
const SYSTEM: &str = "wasi";

/// What somebody found out about versions of a crate.
#[derive(Clone, Debug, PartialEq)]
pub struct Advisory {
    /// `RUSTSEC-YYYY-NNNN`.
    pub id: String,
    /// The crate's name on crates.io.
    pub package: String,
    /// When it was told, `YYYY-MM-DD`.
    pub date: String,
    /// In a line.
    pub title: String,
    /// How grave it is.
    pub kind: Kind,
    /// The versions that it is no longer true of, as they are written; none if there is no such version.
    pub patched: Vec<String>,
    /// Whether it was taken back, or is true on other systems alone.
    is_void: bool,
    /// The versions that it is not about: `patched`, and those of before.
    free: Vec<VersionReq>,
}

/// How grave an advisory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It can be used against whoever runs it.
    Vulnerability,
    /// Its interface lets safe code do what is not.
    Unsound,
    /// Nobody looks after it any more.
    Unmaintained,
    /// Something else that one may want to know.
    Notice,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Vulnerability => "vulnerability",
            Kind::Unsound => "unsound",
            Kind::Unmaintained => "unmaintained",
            Kind::Notice => "notice",
        }
    }
}

/// The part for programs. It has more than is read here, and may have more still.
#[derive(Deserialize)]
struct Front {
    advisory: Head,
    #[serde(default)]
    affected: Affected,
    versions: Versions,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    package: String,
    date: String,
    informational: Option<String>,
    withdrawn: Option<String>,
}

/// Where it is true; everywhere if nothing is named.
#[derive(Default, Deserialize)]
struct Affected {
    #[serde(default)]
    arch: Vec<String>,
    #[serde(default)]
    os: Vec<String>,
}

#[derive(Deserialize)]
struct Versions {
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

impl Advisory {
    /// Reads one. An error is a line for whoever keeps the file, with the number of the line that it is about.
    pub fn parse(text: &str) -> Result<Advisory, String> {
        let opening = "```toml";
        let at = text.find(opening).filter(|at| text[..*at].trim_matches(['\u{feff}', ' ', '\r', '\n']).is_empty());
        let begin = at.ok_or("it does not begin with a block of TOML (```toml)")? + opening.len();
        let length = text[begin..].find("\n```").ok_or("its block of TOML has no end (```)")? + 1;
        let (front, below) = (&text[begin..begin + length], &text[begin + length..]);
        let Front { advisory, affected, versions } = toml::from_str(front).map_err(|error| {
            let line = text[..begin + error.span().map_or(0, |span| span.start).min(length)].matches('\n').count() + 1;
            format!("line {line}: {}", error.message().trim_end().replace('\n', ", "))
        })?;
        let title = below.lines().find_map(|line| line.strip_prefix("# ")).ok_or("it has no title (`# …`)")?;
        let kind = match advisory.informational.as_deref() {
            None => Kind::Vulnerability,
            Some("unsound") => Kind::Unsound,
            Some("unmaintained") => Kind::Unmaintained,
            Some(_) => Kind::Notice,
        };
        let range = |text: &String| text.parse().map_err(|error| format!("`{text}` is no range of versions: {error}"));
        let free = versions.patched.iter().chain(&versions.unaffected).map(range).collect::<Result<_, _>>()?;
        let is_elsewhere = |places: &[String], own| !places.is_empty() && !places.iter().any(|place| place == own);
        Ok(Advisory {
            id: advisory.id,
            package: advisory.package,
            date: advisory.date,
            title: title.trim().to_owned(),
            kind,
            is_void: advisory.withdrawn.is_some()
                || is_elsewhere(&affected.arch, ARCHITECTURE)
                || is_elsewhere(&affected.os, SYSTEM),
            patched: versions.patched,
            free,
        })
    }

    /// Whether it is true of this version of its crate in a component.
    pub fn is_about(&self, version: &Version) -> bool {
        !self.is_void && !self.free.iter().any(|range| is_within(version, range))
    }
}

/// Whether a version is within a range, by order alone. `VersionReq::matches` takes no version before a release that the range
/// does not name, as cargo must when it chooses one; here one was chosen, and `2.1.0-rc.1` is later than `2.0.0`.
fn is_within(version: &Version, range: &VersionReq) -> bool {
    range.comparators.iter().all(|comparator| {
        let Comparator { op, major, minor, patch, pre } = comparator;
        let low =
            Version { pre: pre.clone(), ..Version::new(*major, minor.unwrap_or_default(), patch.unwrap_or_default()) };
        let is_least = version.cmp_precedence(&low).is_ge();
        match op {
            Op::Greater if patch.is_some() => version.cmp_precedence(&low).is_gt(),
            Op::Greater => !is_before(version, next(comparator)),
            Op::GreaterEq => is_least,
            Op::Less => version.cmp_precedence(&low).is_lt(),
            Op::LessEq if patch.is_some() => version.cmp_precedence(&low).is_le(),
            Op::LessEq => is_before(version, next(comparator)),
            Op::Exact if patch.is_some() => version.cmp_precedence(&low).is_eq(),
            Op::Tilde | Op::Exact | Op::Wildcard => is_least && is_before(version, next(comparator)),
            Op::Caret => is_least && is_before(version, next_breaking(comparator)),
            // A kind of range that came later: it sets no version free.
            _ => false,
        }
    })
}

/// The first numbers that are no longer of the same minor (or, if that is not named, major) version; none if there are no
/// greater ones.
fn next(comparator: &Comparator) -> Option<(u64, u64, u64)> {
    match comparator.minor {
        Some(minor) => Some((comparator.major, minor.checked_add(1)?, 0)),
        None => Some((comparator.major.checked_add(1)?, 0, 0)),
    }
}

/// The first numbers that cargo no longer takes to fit `^…`: the first one that is not zero is counted up.
fn next_breaking(comparator: &Comparator) -> Option<(u64, u64, u64)> {
    match (comparator.major, comparator.minor, comparator.patch) {
        (0, Some(0), Some(patch)) => Some((0, 0, patch.checked_add(1)?)),
        (0, Some(minor), _) => Some((0, minor.checked_add(1)?, 0)),
        (major, ..) => Some((major.checked_add(1)?, 0, 0)),
    }
}

/// Whether a version comes before these numbers, also before what comes before their release.
fn is_before(version: &Version, numbers: Option<(u64, u64, u64)>) -> bool {
    let Some((major, minor, patch)) = numbers else { return true };
    let first = Prerelease::new("0").expect("a number may stand for what comes before a release");
    version.cmp_precedence(&Version { pre: first, ..Version::new(major, minor, patch) }).is_lt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(more: &str, versions: &str) -> String {
        format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"leaky\"\ndate = \"2026-01-31\"\nurl = \"https://example.org\"\n{more}\n[versions]\n{versions}\n```\n\n# Leaks\n\nIt leaks.\n"
        )
    }

    #[track_caller]
    fn check(versions: &str, about: &[&str], free: &[&str]) {
        let advisory = Advisory::parse(&text("", versions)).unwrap();
        for (words, expected) in [(about, true), (free, false)] {
            for version in words {
                assert_eq!(advisory.is_about(&version.parse().unwrap()), expected, "{version} by {versions}");
            }
        }
    }

    #[test]
    fn an_advisory_is_read() {
        let advisory = Advisory::parse(&text("", "patched = [\">= 1.2.0\"]\nunaffected = [\"< 1.0.0\"]")).unwrap();
        assert_eq!((advisory.id.as_str(), advisory.package.as_str()), ("RUSTSEC-2026-0001", "leaky"));
        assert_eq!((advisory.title.as_str(), advisory.date.as_str()), ("Leaks", "2026-01-31"));
        assert_eq!((advisory.kind, advisory.patched), (Kind::Vulnerability, vec![">= 1.2.0".to_owned()]));
    }

    #[test]
    fn it_is_about_the_versions_that_are_neither_patched_nor_unaffected() {
        check("patched = []", &["0.0.1", "9.0.0"], &[]);
        check(
            "patched = [\">= 1.2.3\", \"~1.1.5\"]\nunaffected = [\"< 1.0.0\"]",
            &["1.0.0", "1.1.4", "1.2.3-rc.1"],
            &["0.9.9", "1.1.5", "1.2.3", "1.2.4-rc.1", "2.0.0"],
        );
        check("patched = [\">= 0.3.1, < 0.4.0\", \">= 0.4.2\"]", &["0.3.0", "0.4.0", "0.4.1"], &["0.3.1", "0.4.2"]);
        check("patched = [\"^0.5.2\"]", &["0.5.1", "0.6.0", "0.6.0-rc.1"], &["0.5.2", "0.5.9"]);
        check("patched = [\"^0.0.3\"]", &["0.0.2", "0.0.4"], &["0.0.3"]);
        check("patched = [\"~1.2\"]", &["1.1.9", "1.3.0", "1.3.0-alpha"], &["1.2.0", "1.2.9"]);
        check("patched = [\"= 1.2.3\", \"2.*\"]", &["1.2.2", "1.2.4", "3.0.0"], &["1.2.3", "1.2.3+wasi", "2.7.1"]);
        check("patched = [\"> 1.2.3\", \"<= 0.2\"]", &["1.2.3", "0.3.0"], &["1.2.4", "0.2.7", "0.1.0"]);
        check("patched = [\"> 1.2\"]", &["1.2.9"], &["1.3.0"]);
        check("patched = [\"*\"]", &[], &["0.0.1"]);
        check("patched = [\"^18446744073709551615\"]", &["1.0.0"], &["18446744073709551615.1.0"]);
    }

    #[test]
    fn one_that_was_taken_back_or_is_about_other_systems_is_about_none() {
        let is_about = |more: &str| {
            let advisory = Advisory::parse(&text(more, "patched = []")).unwrap();
            advisory.is_about(&Version::new(1, 0, 0))
        };
        assert!(!is_about("withdrawn = \"2026-02-01\""));
        assert!(!is_about("[affected]\nos = [\"windows\"]"));
        assert!(!is_about("[affected]\narch = [\"x86_64\"]"));
        assert!(is_about("[affected]\nos = [\"linux\", \"wasi\"]\narch = [\"wasm32\"]"));
        assert!(is_about("[affected.functions]\n\"leaky::leak\" = [\"< 1.2.0\"]"));
    }

    #[test]
    fn what_only_informs_is_told_apart() {
        for (word, kind) in [
            ("unsound", Kind::Unsound),
            ("unmaintained", Kind::Unmaintained),
            ("notice", Kind::Notice),
            ("surprise", Kind::Notice),
        ] {
            let advisory = Advisory::parse(&text(&format!("informational = \"{word}\""), "patched = []")).unwrap();
            assert_eq!(advisory.kind, kind, "{word}");
        }
    }

    #[test]
    fn a_faulty_one_says_what_is_wrong_and_where() {
        let fault = |text: &str| Advisory::parse(text).unwrap_err();
        assert_eq!(fault("# Title\n"), "it does not begin with a block of TOML (```toml)");
        assert_eq!(fault("```toml\n[advisory]\n"), "its block of TOML has no end (```)");
        assert_eq!(
            fault("```toml\n[advisory]\nid = 1\n```\n# T\n"),
            "line 3: invalid type: integer `1`, expected a string"
        );
        assert!(fault("```toml\n[advisory]\nid = \n```\n# T\n").starts_with("line 3: "));
        assert!(fault("```toml\n[advisory]\nid = \"X\"\n```\n# T\n").contains("missing field `package`"));
        assert!(fault(&text("", "unaffected = []")).contains("missing field `patched`"));
        assert!(fault(&text("", "patched = [\"soon\"]")).starts_with("`soon` is no range of versions: "));
        assert_eq!(fault(&text("", "patched = []").replace("# Leaks", "Leaks")), "it has no title (`# …`)");
    }

    #[test]
    fn it_is_read_with_the_line_ends_of_other_systems() {
        let advisory = Advisory::parse(&text("", "patched = [\">= 1.0.0\"]").replace('\n', "\r\n")).unwrap();
        assert_eq!((advisory.title.as_str(), advisory.patched.len()), ("Leaks", 1));
    }
}
