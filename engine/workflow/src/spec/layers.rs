//! Files laid over others: an overlay says what is different in one environment, in the words of the workflow itself.
//!
//! Tables are merged, deep; everything else of the overlay replaces what the file below says; `remove` takes keys away. It
//! happens before templates, defaults and vars are looked at, so that an overlay may change those. All texts of a source
//! are one address space, so that a place in any of them is one span.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Source;
use super::read::{Item, wrong_type};
use crate::diagnostic::{Diagnostic, did_you_mean, near_or_all};

/// After so many faults there are no more hints at similar names: comparing with all of them costs time.
const SUGGESTIONS_MAX: usize = 100;

/// What says that a step does something; a step of an overlay that has none of it changes one that is there.
const WORKS: &[&str] = &["use", "steps", "workflow", "wait", "finish", "fail", "like"];

/// A file that is laid over those before it.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// As the user named it.
    pub path: String,
    /// Where it starts in the source's text.
    start: usize,
}

impl Source {
    /// A file.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        Source { path: path.into(), text: text.into(), overlays: Vec::new() }
    }

    /// With another file laid over it: its text follows.
    pub fn with(mut self, path: impl Into<String>, text: &str) -> Source {
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.overlays.push(Overlay { path: path.into(), start: self.text.len() });
        self.text.push_str(text);
        self
    }

    /// The file that a place is in: 0 is the lowest.
    pub(crate) fn file_number(&self, at: usize) -> usize {
        self.overlays.partition_point(|overlay| overlay.start <= at)
    }

    /// The file that a place is in, by its path, and where its text is.
    pub(crate) fn file(&self, at: usize) -> (&str, Range<usize>) {
        let after = self.file_number(at);
        let end = self.overlays.get(after).map_or(self.text.len(), |next| next.start);
        match after.checked_sub(1) {
            Some(index) => (&self.overlays[index].path, self.overlays[index].start..end),
            None => (&self.path, 0..end),
        }
    }

    /// Its files' texts, the lowest first.
    pub(super) fn files(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = std::iter::once(0).chain(self.overlays.iter().map(|overlay| overlay.start));
        starts.map(|start| self.file(start).1)
    }
}

/// A table of an overlay, its places in the whole text.
pub(super) fn moved(table: DeTable<'_>, start: usize) -> DeTable<'_> {
    let moved = |span: Range<usize>| span.start + start..span.end + start;
    let mut all = DeTable::new();
    for (key, item) in table {
        let (key_span, span) = (moved(key.span()), moved(item.span()));
        all.insert(Spanned::new(key_span, key.into_inner()), Spanned::new(span, value(item.into_inner(), start)));
    }
    all
}

fn value(value: DeValue<'_>, start: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(moved(table, start)),
        DeValue::Array(mut items) => {
            for item in items.iter_mut() {
                let span = item.span();
                let inner = std::mem::replace(item.get_mut(), DeValue::Boolean(false));
                *item = Spanned::new(span.start + start..span.end + start, self::value(inner, start));
            }
            DeValue::Array(items)
        }
        value => value,
    }
}

/// Lays an overlay over a document.
pub(super) fn lay<'i>(document: &mut DeTable<'i>, mut overlay: DeTable<'i>, faults: &mut Vec<Diagnostic>) {
    if let Some(keys) = overlay.remove("remove") {
        remove(document, &keys, faults);
    }
    merge(document, overlay, Level::Words, faults);
}

/// What the keys of a table are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Words of the language.
    Words,
    /// Names of steps.
    Steps,
    /// Names of templates.
    Templates,
    /// Anything.
    Data,
}

impl Level {
    /// Of the table that this key opens.
    fn of(self, key: &str) -> Level {
        match (self, key) {
            (Level::Words, "steps" | "always") => Level::Steps,
            (Level::Words, "templates") => Level::Templates,
            (Level::Steps | Level::Templates, _) => Level::Words,
            _ => Level::Data,
        }
    }
}

/// Takes away what an overlay does not want.
fn remove(document: &mut DeTable<'_>, keys: &Item<'_>, faults: &mut Vec<Diagnostic>) {
    let Some(keys) = keys.get_ref().as_array() else {
        return faults
            .push(wrong_type("remove", "an array of keys", keys).hint("write `remove = [\"steps.NAME.KEY\"]`"));
    };
    for item in keys.iter() {
        let Some(path) = item.get_ref().as_str() else {
            faults.push(wrong_type("remove", "an array of keys such as `\"steps.NAME.KEY\"`", item));
            continue;
        };
        let (around, name) = path.rsplit_once('.').map_or((None, path), |(around, name)| (Some(around), name));
        if take(document, around, name).is_none() {
            let found = Diagnostic::error("unknown-key", item.span(), format!("there is no `{path}` to be removed"));
            let hint = if faults.len() < SUGGESTIONS_MAX { hint_at(document, path) } else { None };
            faults.push(found.label("not in the files below").maybe_hint(hint));
        }
    }
}

fn take<'i>(document: &mut DeTable<'i>, around: Option<&str>, name: &str) -> Option<Item<'i>> {
    let mut table = document;
    for part in around.iter().flat_map(|around| around.split('.')) {
        let DeValue::Table(inner) = table.get_mut(part)?.get_mut() else { return None };
        table = inner;
    }
    table.remove(name)
}

/// What a path may have meant that leads nowhere: the keys that there are where it leaves the document.
fn hint_at(document: &DeTable<'_>, path: &str) -> Option<String> {
    let mut table = document;
    let mut known: Vec<&str> = Vec::new();
    for part in path.split('.') {
        let Some(item) = table.get(part) else {
            let around: String = known.iter().map(|part| format!("{part}.")).collect();
            // More than a hint lists are not needed to know that there are more.
            let paths: Vec<String> = table.keys().take(16).map(|key| format!("{around}{}", key.get_ref())).collect();
            let similar = did_you_mean(part, table.keys().map(|key| key.get_ref().as_ref()));
            return match similar {
                Some(similar) => Some(format!("did you mean `{around}{similar}`?")),
                None => near_or_all("", paths.iter().map(String::as_str)),
            };
        };
        known.push(part);
        table = item.get_ref().as_table()?;
    }
    None
}

fn merge<'i>(below: &mut DeTable<'i>, overlay: DeTable<'i>, level: Level, faults: &mut Vec<Diagnostic>) {
    for (key, item) in overlay {
        let name = key.get_ref().to_string();
        let is_table = item.get_ref().is_table();
        match below.get_mut(name.as_str()).map(Spanned::get_mut) {
            Some(DeValue::Table(own)) if is_table => {
                if let DeValue::Table(table) = item.into_inner() {
                    merge(own, table, level.of(&name), faults);
                }
            }
            known => {
                let table = item.get_ref().as_table();
                let is_change = |table: &DeTable<'_>| !WORKS.iter().any(|work| table.contains_key(*work));
                if level == Level::Steps && known.is_none() && table.is_some_and(is_change) {
                    let names = below.keys().map(|key| key.get_ref().as_ref());
                    let similar = if faults.len() < SUGGESTIONS_MAX { did_you_mean(&name, names) } else { None };
                    let hint = match similar {
                        Some(similar) => format!("did you mean `{similar}`?"),
                        None => "a new step says what it does, with `use` for example".to_owned(),
                    };
                    let message = format!("there is no step `{name}` to be changed");
                    let found = Diagnostic::error("unknown-step", key.span(), message);
                    faults.push(found.label("not in the files below").hint(hint));
                    continue;
                }
                below.remove(name.as_str());
                below.insert(key, item);
            }
        }
    }
}
