//! What is in a folder: a walk that follows no links, in one order everywhere, and the patterns that choose from it.

use std::fs;

use downbeat_sdk::Failure;
use glob::{MatchOptions, Pattern};

use crate::trouble;
use crate::whole::{below, is_partial};

/// How many files, links and folders a walk looks at. 100,000: a large repository has as many, and 10 MB hold their
/// paths. What `except` leaves out as a whole folder (`target/**`) does not count. Tests have 1,000: making so many files
/// takes a disk seconds.
pub(crate) const ENTRIES_MAX: usize = if cfg!(test) { 1_000 } else { 100_000 };

/// A file, link or folder below the folder that was walked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the folder, with `/` between names.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File {
        bytes: u64,
    },
    Link {
        /// As it stands in the link.
        target: String,
    },
    /// A device, pipe or socket: it has no content to speak of.
    Special,
}

impl Entry {
    /// Whether it is a file or a link, which is what counts as a file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. } | Kind::Link { .. })
    }
}

/// Which of a folder's files are meant.
pub(crate) struct Choice {
    /// Empty: all.
    wanted: Vec<Pattern>,
    except: Vec<Pattern>,
    /// Folders that are left out with all that is in them.
    pruned: Vec<Pattern>,
    /// One file that is left out by its path.
    left_out: Option<String>,
}

/// `*` and `?` stay within a name, and match names that begin with a dot, too.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

impl Choice {
    /// Reads patterns. The error is for the workflow's author.
    pub(crate) fn new(wanted: &[String], except: &[String]) -> Result<Choice, Failure> {
        let pruned: Vec<String> =
            except.iter().filter_map(|pattern| pattern.strip_suffix("/**")).map(str::to_owned).collect();
        Ok(Choice { wanted: patterns(wanted)?, except: patterns(except)?, pruned: patterns(&pruned)?, left_out: None })
    }

    /// These patterns and nothing else: none means no file.
    pub(crate) fn only(wanted: &[String]) -> Result<Choice, Failure> {
        match wanted.is_empty() {
            true => Choice::new(&[], &["**/*".to_owned()]),
            false => Choice::new(wanted, &[]),
        }
    }

    /// Leaves out one more file of `folder`, by its path beside the folder's.
    pub(crate) fn leave_out(&mut self, folder: &str, file: &str) {
        let names = |path: &str| -> Vec<String> { names(path).map(str::to_owned).collect() };
        self.left_out = Some(names(file)[names(folder).len()..].join("/"));
    }

    /// Whether every file is meant, and with them the folders that hold none.
    pub(crate) fn is_all(&self) -> bool {
        self.wanted.is_empty() && self.except.is_empty()
    }

    /// Refuses patterns where there is nothing to choose from.
    pub(crate) fn only_for_folders(&self, path: &str) -> Result<(), Failure> {
        match self.is_all() {
            true => Ok(()),
            false => {
                Err(Failure::invalid_input(format!("`{path}` is a file; `match` and `except` choose from a folder")))
            }
        }
    }

    pub(crate) fn takes(&self, path: &str) -> bool {
        self.left_out.as_deref() != Some(path)
            && (self.wanted.is_empty() || matches(&self.wanted, path))
            && !matches(&self.except, path)
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Failure> {
    let pattern = |text: &String| {
        Pattern::new(text).map_err(|error| {
            Failure::invalid_input(format!(
                "`{text}` is no pattern: {}, after {} characters; write one such as `*.txt`, `src/**/*.rs` or `[a-f]?.log`",
                error.msg, error.pos
            ))
        })
    };
    texts.iter().map(pattern).collect()
}

fn matches(patterns: &[Pattern], path: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches_with(path, OPTIONS))
}

/// The chosen files and links of a folder and, if all are meant, its folders: sorted by path. Files that are only being
/// written are none of it, so that what was left behind by an attempt that was killed is not taken for content.
pub(crate) fn walk(folder: &str, choice: &Choice) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut looked_at = 0;
    let mut folders = vec![String::new()];
    while let Some(inside) = folders.pop() {
        let here = if inside.is_empty() { folder.to_owned() } else { below(folder, &inside) };
        let fault = |error: std::io::Error| trouble::io(&here, "read", &error);
        for found in fs::read_dir(&here).map_err(fault)? {
            let found = found.map_err(fault)?;
            let name = found.file_name();
            let Some(name) = name.to_str() else {
                return Err(trouble::failed(&here, "read", format!("the name {name:?} in it is no UTF-8")));
            };
            let path = if inside.is_empty() { name.to_owned() } else { below(&inside, name) };
            let metadata = fs::symlink_metadata(below(folder, &path)).map_err(fault)?;
            if metadata.is_dir() && matches(&choice.pruned, &path) {
                continue;
            }
            if metadata.is_file() && is_partial(name) {
                continue;
            }
            looked_at += 1;
            if looked_at > ENTRIES_MAX {
                let reason =
                    format!("it has more than {ENTRIES_MAX} entries; leave folders out with `except = [\"name/**\"]`");
                return Err(trouble::failed(folder, "walked through", reason));
            }
            let kind = match metadata.file_type() {
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    Kind::Folder
                }
                kind if kind.is_symlink() => Kind::Link { target: target(&below(folder, &path))? },
                kind if kind.is_file() => Kind::File { bytes: metadata.len() },
                _ => Kind::Special,
            };
            let meant = match kind {
                Kind::Folder => choice.is_all(),
                _ => choice.takes(&path),
            };
            if meant {
                entries.push(Entry { path, kind });
            }
        }
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

fn target(link: &str) -> Result<String, Failure> {
    let target = fs::read_link(link).map_err(|error| trouble::io(link, "read", &error))?;
    target.to_str().map(str::to_owned).ok_or_else(|| trouble::failed(link, "read", "the link's target is no UTF-8"))
}

/// Whether `inner` lies in `outer` or is the same, going by their names.
pub(crate) fn lies_in(inner: &str, outer: &str) -> bool {
    let mut inside = names(inner);
    inner.starts_with('/') == outer.starts_with('/') && names(outer).all(|name| inside.next() == Some(name))
}

/// A path's names, without those that lead nowhere.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}
