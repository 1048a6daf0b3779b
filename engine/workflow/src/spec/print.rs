//! A workflow written out: as one file that says the same without overlays, templates, defaults and vars.
//!
//! What is printed is read again to the same plan: the order of steps and of the members of values is kept, while the keys of
//! a step come in that of the language, wherever they were taken over from. Comments are not kept: they are about the files
//! that they stand in.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::keys::Table;
use super::read::{Item, in_order};
use super::{Origins, Source};
use crate::text::is_hidden;

/// How long a line may get before a table has a header and lines of its own, and a list a line for each item.
const LINE_MAX: usize = 100;

/// Whether to say where values were written that are not the step's own, nor in the lowest file.
pub(super) struct Printer<'p> {
    pub(super) source: &'p Source,
    pub(super) origins: &'p Origins,
    /// Where each line starts; none if origins are not to be told.
    pub(super) lines: Option<Vec<usize>>,
}

impl Printer<'_> {
    /// The whole file.
    pub(super) fn document(&self, document: &DeTable<'_>) -> String {
        let mut text = String::new();
        let entries = in_order(document);
        for (key, item) in entries.iter().filter(|(_, item)| !item.get_ref().is_table()) {
            self.line(&mut text, key.get_ref(), item);
        }
        for (key, item) in entries {
            let DeValue::Table(table) = item.get_ref() else { continue };
            let path = name(key.get_ref());
            match path.as_str() {
                "steps" | "always" => self.steps(&mut text, &path, table),
                "inputs" | "signals" | "secrets" => {
                    for (key, item) in in_order(table) {
                        self.section(&mut text, &format!("{path}.{}", name(key.get_ref())), item);
                    }
                }
                _ => self.section(&mut text, &path, item),
            }
        }
        text.trim_start().to_owned()
    }

    fn steps(&self, text: &mut String, path: &str, steps: &DeTable<'_>) {
        for (key, item) in in_order(steps) {
            let path = format!("{path}.{}", name(key.get_ref()));
            let Some(step) = item.get_ref().as_table() else {
                let _ = write!(text, "\n[{path}]\n");
                continue;
            };
            let _ = write!(text, "\n[{path}]\n");
            let mut sections = Vec::new();
            let mut entries = in_order(step);
            // What is taken over has its place somewhere else: the keys come in the order of the language.
            entries.sort_by_key(|(key, _)| Table::Step.keys().iter().position(|known| known.name == key.get_ref()));
            for (key, item) in entries {
                let is_long = || key.get_ref().len() + inline(item).len() > LINE_MAX;
                match (key.get_ref().as_ref(), item.get_ref()) {
                    ("steps" | "always" | "outputs", DeValue::Table(_)) => sections.push((key, item)),
                    (_, DeValue::Table(_)) if is_long() => sections.push((key, item)),
                    _ => self.line(text, key.get_ref(), item),
                }
            }
            let rank = |key: &str| ["steps", "always", "outputs"].iter().position(|later| *later == key);
            sections.sort_by_key(|(key, _)| rank(key.get_ref()));
            for (key, item) in sections {
                let path = format!("{path}.{}", name(key.get_ref()));
                match (key.get_ref().as_ref(), item.get_ref()) {
                    ("steps" | "always", DeValue::Table(steps)) => self.steps(text, &path, steps),
                    _ => self.section(text, &path, item),
                }
            }
        }
    }

    /// A table with a line for each of its entries.
    fn section(&self, text: &mut String, path: &str, item: &Item<'_>) {
        let Some(table) = item.get_ref().as_table() else {
            return self.line(text, path, item);
        };
        let _ = write!(text, "\n[{path}]\n");
        for (key, item) in in_order(table) {
            self.line(text, key.get_ref(), item);
        }
    }

    fn line(&self, text: &mut String, key: &str, item: &Item<'_>) {
        let key = name(key);
        let value = inline(item);
        let value = match item.get_ref() {
            DeValue::Array(items) if key.len() + value.len() > LINE_MAX && !items.is_empty() => {
                let lines: Vec<String> = items.iter().map(|item| format!("    {},\n", inline(item))).collect();
                format!("[\n{}]", lines.concat())
            }
            _ => value,
        };
        let mut places = BTreeSet::new();
        if let Some(lines) = &self.lines {
            self.foreign(item, lines, &mut places);
        }
        let places: Vec<String> = places.into_iter().map(|(path, line)| format!("{path}:{line}")).collect();
        let comment = if places.is_empty() { String::new() } else { format!("  # {}", places.join(", ")) };
        let _ = writeln!(text, "{key} = {value}{comment}");
    }

    /// Where a value was written, if it was taken over or changed.
    fn foreign(&self, item: &Item<'_>, lines: &[usize], places: &mut BTreeSet<(String, usize)>) {
        match item.get_ref() {
            DeValue::Table(table) => table.values().for_each(|item| self.foreign(item, lines, places)),
            DeValue::Array(items) => items.iter().for_each(|item| self.foreign(item, lines, places)),
            _ => {
                let written: Range<usize> = self.origins.written(&item.span());
                let (path, file) = self.source.file(written.start);
                let is_own = written == item.span() && file.start == 0;
                if !is_own {
                    let line = |at: usize| lines.partition_point(|start| *start <= at);
                    places.insert((path.to_owned(), line(written.start) - line(file.start) + 1));
                }
            }
        }
    }
}

/// A key, with quotes if it needs them.
fn name(key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { key.to_owned() } else { string(key) }
}

fn inline(item: &Item<'_>) -> String {
    match item.get_ref() {
        DeValue::String(text) => string(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        DeValue::Table(table) if table.is_empty() => "{}".to_owned(),
        DeValue::Table(table) => {
            let entries =
                in_order(table).into_iter().map(|(key, item)| format!("{} = {}", name(key.get_ref()), inline(item)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A basic string; one without escapes if it would be full of them.
fn string(text: &str) -> String {
    let is_plain = !text.contains('\'') && !text.chars().any(is_hidden);
    if is_plain && text.contains(['"', '\\']) {
        return format!("'{text}'");
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // All of them lie below U+10000.
            c if is_hidden(c) => drop(write!(quoted, "\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
