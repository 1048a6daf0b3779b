//! Pages that show how conversations with the program go: blocks of the language `console` that begin with a command, and
//! then have what it said, from a real run.
//!
//! What differs from run to run (ids, times, sizes, digests) stands in a page as it once was; it is passed over when a
//! page is held against what is said today. `DOWNBEAT_BLESS=1` writes those blocks anew that say something else.

use std::fmt::Write as _;

use regex::Regex;

use crate::{redact, repository};

/// A command, and what it said.
#[derive(Clone, Debug)]
pub struct Talk {
    /// As it is typed, without the prompt.
    pub typed: String,
    /// What it said, without paths of this machine.
    pub said: String,
    /// Whether lines may come in another order the next time: steps side by side.
    pub any_order: bool,
    /// Lines that may say something else the next time, as they are once redacted.
    pub varies: Option<Regex>,
}

impl Talk {
    /// With lines that may come in another order the next time.
    #[must_use]
    pub fn in_any_order(mut self) -> Talk {
        self.any_order = true;
        self
    }

    /// With lines that may say something else the next time.
    #[must_use]
    pub fn but_for(mut self, pattern: &str) -> Talk {
        self.varies = Some(Regex::new(pattern).expect("the pattern is a constant"));
        self
    }

    /// The first and the last lines of it, so many of each; an ellipsis stands for what is between.
    #[must_use]
    pub fn shortened(mut self, first: usize, last: usize) -> Talk {
        let lines: Vec<&str> = self.said.lines().collect();
        if lines.len() > first + last {
            self.said = [&lines[..first], &["…"], &lines[lines.len() - last..]].concat().join("\n");
        }
        self
    }

    /// What is compared of a text that it is to say.
    fn essence(&self, said: &str) -> Vec<String> {
        let kept = |line: &&str| self.varies.as_ref().is_none_or(|varies| !varies.is_match(line));
        let redacted = redact(said);
        let mut lines: Vec<String> = redacted.lines().filter(kept).map(|line| line.trim_end().to_owned()).collect();
        if self.any_order {
            lines.sort();
        }
        lines
    }
}

/// Holds the blocks of a page against conversations: each has to be there, in this order, and to say what was said.
pub fn hold(page: &str, talks: &[Talk]) {
    const FENCE: &str = "```console\n$ ";
    let path = repository().join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let (mut anew, mut wrong, mut rest, mut talks) = (String::new(), String::new(), text.as_str(), talks.iter());
    while let Some((before, block)) = rest.split_once(FENCE) {
        let (block, behind) = block.split_once("\n```").unwrap_or_else(|| panic!("{page}: a block has no end"));
        let (typed, said) = block.split_once('\n').unwrap_or((block, ""));
        let talk = talks.next().unwrap_or_else(|| panic!("{page}: `{typed}` is not tried by any test"));
        assert_eq!(typed, talk.typed, "{page}: another command is tried here");
        let says = match talk.essence(said) == talk.essence(&talk.said) {
            true => said,
            false => talk.said.as_str(),
        };
        if says != said {
            let _ = writeln!(wrong, "$ {typed}\n--- the page\n{said}\n--- today\n{says}\n");
        }
        let line = if says.is_empty() { "" } else { "\n" };
        let _ = write!(anew, "{before}{FENCE}{typed}{line}{says}\n```");
        rest = behind;
    }
    anew.push_str(rest);
    if let Some(talk) = talks.next() {
        panic!("{page}: `{}` is tried, but not shown", talk.typed);
    }
    if std::env::var_os("DOWNBEAT_BLESS").is_some() && !wrong.is_empty() {
        std::fs::write(&path, anew).expect("it can be written");
        return;
    }
    assert!(wrong.is_empty(), "{page} is behind (DOWNBEAT_BLESS=1 brings it up to date):\n{wrong}");
}

/// The rows of the table of attacks below a heading of the rogue guest's README, cells as they are. Of several tables, the last.
pub fn attacks(heading: &str) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(repository().join("tests/guests/rogue/README.md")).expect("it is there");
    let section = readme.split(&format!("\n## {heading}\n")).nth(1).expect("it has the heading");
    let section = section.split("\n## ").next().unwrap_or_default().trim_end();
    let table = section.rsplit("\n\n").next().unwrap_or_default();
    let row = |line: &str| {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let rows: Vec<_> = table.lines().filter_map(row).skip(2).collect();
    assert!(rows.len() > 10, "the table of {heading} is there");
    rows
}

/// A cell without its backticks.
pub fn unquoted(cell: &str) -> &str {
    cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or(cell)
}
