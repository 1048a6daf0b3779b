//! Reads the values of a [`document`](super::document) one by one, for files that are no workflows and have words of their
//! own: policies, locks. What is of the wrong shape is told where it stands, and left out.

use std::ops::Range;

use super::{Entries, Spanned, Value, ValueKind, duration_ms, size_bytes};
use crate::diagnostic::{Collector, Diagnostic};

/// What has been found wrong so far, and the ways to find more.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) out: Collector,
}

impl Fields {
    /// The entries whose keys are known, in the order of the file; the others are told. `what` is how the table is called in
    /// a sentence: "a rule".
    pub(crate) fn known<'v>(
        &mut self,
        what: &str,
        keys: &'static [&'static str],
        entries: &'v Entries<Value>,
    ) -> Vec<(&'static str, Range<usize>, &'v Value)> {
        let mut known = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match keys.iter().find(|known| **known == key.get_ref()) {
                Some(word) => known.push((*word, key.span(), value)),
                None => {
                    let message = format!("{what} has no key `{}`", key.get_ref());
                    let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                    let hint = self.out.suggest(key.get_ref(), keys.iter().copied());
                    let hint = hint.unwrap_or_else(|| format!("{what} has {}", names.join(", ")));
                    self.out
                        .push(Diagnostic::error("unknown-key", key.span(), message).label("unknown key").hint(hint));
                }
            }
        }
        known
    }

    pub(crate) fn table<'v>(&mut self, key: &str, value: &'v Value) -> &'v [(Spanned<String>, Value)] {
        match &value.kind {
            ValueKind::Table(entries) => entries,
            _ => {
                self.out.push(wrong_type(key, "a table", value));
                &[]
            }
        }
    }

    pub(crate) fn entries<'v>(&mut self, key: &str, value: &'v Value) -> Option<&'v Entries<Value>> {
        match &value.kind {
            ValueKind::Table(entries) => Some(entries),
            _ => {
                self.out.push(wrong_type(key, "a table", value));
                None
            }
        }
    }

    pub(crate) fn string(&mut self, key: &str, value: &Value) -> Option<String> {
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => {
                self.out.push(wrong_type(key, "a string", value));
                None
            }
        }
    }

    /// A list of strings, or one that stands for such a list.
    pub(crate) fn strings(&mut self, key: &str, value: &Value) -> Vec<String> {
        match &value.kind {
            ValueKind::String(text) => vec![text.clone()],
            ValueKind::List(items) => items.iter().filter_map(|item| self.string(key, item)).collect(),
            _ => {
                self.out.push(wrong_type(key, "a list of strings", value));
                Vec::new()
            }
        }
    }

    pub(crate) fn boolean(&mut self, key: &str, value: &Value) -> Option<bool> {
        match value.kind {
            ValueKind::Boolean(flag) => Some(flag),
            _ => {
                self.out.push(wrong_type(key, "`true` or `false`", value));
                None
            }
        }
    }

    pub(crate) fn count(&mut self, key: &str, value: &Value) -> Option<u64> {
        match value.kind {
            ValueKind::Integer(number) if number >= 0 => Some(number as u64),
            _ => {
                self.out.push(wrong_type(key, "a whole number, 0 or more", value));
                None
            }
        }
    }

    /// In milliseconds.
    pub(crate) fn duration(&mut self, key: &str, value: &Value) -> Option<u64> {
        let text = self.string(key, value)?;
        self.quantity("duration", key, "no duration", value, duration_ms(&text))
    }

    /// In bytes.
    pub(crate) fn size(&mut self, key: &str, value: &Value) -> Option<u64> {
        let text = self.string(key, value)?;
        self.quantity("size", key, "no size", value, size_bytes(&text))
    }

    fn quantity(
        &mut self,
        code: &'static str,
        key: &str,
        wrong: &str,
        value: &Value,
        read: Result<u64, String>,
    ) -> Option<u64> {
        let is_wrong = |reason: String| {
            Diagnostic::error(code, value.span.clone(), format!("`{key}` is {wrong}")).label(wrong).hint(reason)
        };
        read.map_err(|reason| self.out.push(is_wrong(reason))).ok()
    }

    pub(crate) fn one_of<T: Copy>(&mut self, key: &str, value: &Value, options: &[(&'static str, T)]) -> Option<T> {
        let text = self.string(key, value)?;
        if let Some((_, meant)) = options.iter().find(|(name, _)| *name == text) {
            return Some(*meant);
        }
        let names: Vec<String> = options.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hint = self.out.suggest(&text, options.iter().map(|(name, _)| *name));
        let hint = hint.unwrap_or_else(|| format!("it is one of {}", names.join(", ")));
        let found = Diagnostic::error("not-an-option", value.span.clone(), format!("`{key}` can't be `{text}`"));
        self.out.push(found.label("not one of its values").hint(hint));
        None
    }

    /// A key that has to be there, told if nothing was wrong since there were `before` errors: it may be what was.
    pub(crate) fn needed<T>(
        &mut self,
        what: &str,
        key: &str,
        span: Range<usize>,
        found: Option<T>,
        before: usize,
    ) -> Option<T> {
        if found.is_none() && self.out.error_count() == before {
            self.out.push(Diagnostic::error("missing-key", span, format!("{what} needs `{key}`")));
        }
        found
    }
}

/// A value of another type than its key has, which is to be `expected` (with its article).
pub fn wrong_type(key: &str, expected: &str, value: &Value) -> Diagnostic {
    let found = match &value.kind {
        ValueKind::String(_) => "a string",
        ValueKind::Integer(number) if *number < 0 => "a negative integer",
        ValueKind::Integer(_) => "an integer",
        ValueKind::Float(_) => "a float",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::List(_) => "a list",
        ValueKind::Table(_) => "a table",
    };
    let message = format!("`{key}` must be {expected}, not {found}");
    Diagnostic::error("wrong-type", value.span.clone(), message).label(found)
}
