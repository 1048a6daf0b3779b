//! Replaces known texts in bytes, whole or as they come in pieces: secrets by their names in everything that leaves an
//! attempt, placeholders by secrets in what it sends. Of several that begin at the same place, the longest counts.

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use downbeat_workflow::json::Json;
use serde_json::Value;
use zeroize::Zeroizing;

/// Knows what to replace by what.
pub(crate) struct Replacer {
    automaton: AhoCorasick,
    /// What takes the place of each text.
    by: Vec<Arc<str>>,
    /// The texts, in the order of their bytes, to tell whether one of them may have begun.
    sorted: Vec<Zeroizing<Vec<u8>>>,
    /// Whether any begins with this byte.
    begins: [bool; 256],
    /// The length of the longest.
    longest: usize,
}

impl Replacer {
    /// `None` if there is nothing to replace. A text that is given twice is replaced as it was given first.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (Zeroizing<Vec<u8>>, Arc<str>)>) -> Option<Replacer> {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        // Stable, so that of two the first stays.
        pairs.sort_by(|(one, _), (other, _)| one.as_slice().cmp(other.as_slice()));
        pairs.dedup_by(|(later, _), (first, _)| later.as_slice() == first.as_slice());
        let (sorted, by): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let longest = sorted.iter().map(|text: &Zeroizing<Vec<u8>>| text.len()).max()?;
        let texts = sorted.iter().map(|text| text.as_slice());
        // What it refuses are more texts than it can count.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()?;
        let mut begins = [false; 256];
        sorted.iter().for_each(|text| begins[usize::from(text[0])] = true);
        Some(Replacer { automaton, by, sorted, begins, longest })
    }

    /// The length of the longest text, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether any of the texts is there.
    pub(crate) fn finds(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    pub(crate) fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let mut done: Vec<u8> = Vec::new();
        let mut from = 0;
        for found in self.automaton.find_iter(bytes) {
            done.extend_from_slice(&bytes[from..found.start()]);
            done.extend_from_slice(self.by[found.pattern().as_usize()].as_bytes());
            from = found.end();
        }
        if from == 0 {
            return Cow::Borrowed(bytes);
        }
        done.extend_from_slice(&bytes[from..]);
        Cow::Owned(done)
    }

    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // What is replaced begins and ends between characters, as the texts are texts.
            Cow::Owned(done) => Cow::Owned(String::from_utf8_lossy(&done).into_owned()),
        }
    }

    /// In all strings and keys of a value, however they are escaped, and in its numbers, which become strings then.
    pub(crate) fn json(&self, json: Json) -> Json {
        let text = json.as_str();
        // Without a backslash, strings are written as they are.
        if !text.contains('\\') && !self.finds(text.as_bytes()) {
            return json;
        }
        let mut value = json.value();
        if self.value(&mut value) {
            return value.into();
        }
        match self.finds(text.as_bytes()) {
            // Over the border of two values: nothing can be kept of it.
            true => Value::from(self.text(text).into_owned()).into(),
            false => json,
        }
    }

    /// Whether there was anything to replace.
    fn value(&self, value: &mut Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => {
                let text = number.to_string();
                let is_one = self.finds(text.as_bytes());
                if is_one {
                    *value = Value::from(self.text(&text).into_owned());
                }
                is_one
            }
            Value::String(text) => {
                let is_one = self.finds(text.as_bytes());
                if is_one {
                    *text = self.text(text).into_owned();
                }
                is_one
            }
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.value(item) | any),
            Value::Object(members) => {
                let mut any = members.values_mut().fold(false, |any, member| self.value(member) | any);
                if members.keys().any(|key| self.finds(key.as_bytes())) {
                    let all = std::mem::take(members).into_iter();
                    *members = all.map(|(key, member)| (self.text(&key).into_owned(), member)).collect();
                    any = true;
                }
                any
            }
        }
    }

    /// Where in these bytes a text may have begun that goes on behind them: all of them, if none has.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest - 1);
        let may_begin = |at: &usize| self.begins[usize::from(bytes[*at])] && self.is_begun(&bytes[*at..]);
        (from..bytes.len()).find(may_begin).unwrap_or(bytes.len())
    }

    /// Whether a text is longer than this and begins with it.
    fn is_begun(&self, start: &[u8]) -> bool {
        let first = self.sorted.partition_point(|text| text.as_slice() <= start);
        self.sorted.get(first).is_some_and(|text| text.starts_with(start))
    }
}

/// Bytes on their way, in pieces. What may be the beginning of a text is held back until it is told; nothing else is.
pub(crate) struct Pieces {
    replacer: Option<Arc<Replacer>>,
    held: Zeroizing<Vec<u8>>,
}

impl Pieces {
    /// Without a replacer, they go through as they are.
    pub(crate) fn new(replacer: Option<Arc<Replacer>>) -> Pieces {
        Pieces { replacer, held: Zeroizing::default() }
    }

    /// Hands on what is certain by now, in one or several pieces.
    pub(crate) fn push(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) {
        let Some(replacer) = &self.replacer else { return out(bytes) };
        if self.held.is_empty() {
            let certain = pass(replacer, bytes, &mut out);
            self.held.extend_from_slice(&bytes[certain..]);
        } else {
            self.held.extend_from_slice(bytes);
            let certain = pass(replacer, &self.held, &mut out);
            self.held.drain(..certain);
        }
    }

    /// Hands on what was held back: there is no more.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        if let (Some(replacer), false) = (&self.replacer, held.is_empty()) {
            out(&replacer.bytes(&held));
        }
    }
}

/// Hands on what is certain, and says how much that was of these bytes.
fn pass(replacer: &Replacer, bytes: &[u8], out: &mut impl FnMut(&[u8])) -> usize {
    let mut hand = |piece: &[u8]| {
        if !piece.is_empty() {
            out(piece);
        }
    };
    let mut from = 0;
    loop {
        let rest = &bytes[from..];
        let open = replacer.open_end(rest);
        match replacer.automaton.find(rest) {
            // Nothing that begins before it can be longer, and it is whole.
            Some(found) if found.start() < open => {
                hand(&rest[..found.start()]);
                hand(replacer.by[found.pattern().as_usize()].as_bytes());
                from += found.end();
            }
            _ => {
                hand(&rest[..open]);
                return from + open;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacer(pairs: &[(&str, &str)]) -> Arc<Replacer> {
        let pairs = pairs.iter().map(|(text, by)| (Zeroizing::new(text.as_bytes().to_vec()), Arc::from(*by)));
        Arc::new(Replacer::new(pairs).unwrap())
    }

    /// In one piece, and cut at every place and into single bytes: always the same.
    fn check(pairs: &[(&str, &str)], text: &str, expected: &str) {
        let replacer = replacer(pairs);
        assert_eq!(replacer.text(text), expected);
        let pushed = |pieces: &[&[u8]]| {
            let (mut pushed, mut stream) = (Vec::new(), Pieces::new(Some(replacer.clone())));
            pieces.iter().for_each(|piece| stream.push(piece, |bytes| pushed.extend_from_slice(bytes)));
            stream.finish(|bytes| pushed.extend_from_slice(bytes));
            String::from_utf8(pushed).unwrap()
        };
        for cut in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            assert_eq!(pushed(&[one, other]), expected, "cut at {cut}");
        }
        assert_eq!(pushed(&text.as_bytes().chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_text_is_replaced_wherever_it_is_cut() {
        check(&[("secret", "[s]")], "a secret, secsecret and secre", "a [s], sec[s] and secre");
        check(&[("aab", "[s]")], "aaab aabaab aaa", "a[s] [s][s] aaa");
        check(&[("secret", "[s]")], "", "");
    }

    #[test]
    fn of_two_that_begin_together_the_longer_is_replaced() {
        check(&[("pass", "[1]"), ("password", "[2]")], "pass passwor password", "[1] [1]wor [2]");
        check(&[("abcd", "[1]"), ("bc", "[2]"), ("cdef", "[3]")], "abcdef xbc cdef", "[1]ef x[2] [3]");
    }

    #[test]
    fn nothing_is_held_back_that_can_be_no_beginning() {
        let mut stream = Pieces::new(Some(replacer(&[("secret", "[s]")])));
        let mut pushed = Vec::new();
        stream.push(b"a line\n", |bytes| pushed.extend_from_slice(bytes));
        assert_eq!(pushed, b"a line\n");
        stream.push(b"sec", |bytes| pushed.extend_from_slice(bytes));
        assert_eq!(pushed, b"a line\n");
    }

    #[test]
    fn values_are_looked_through_however_they_are_escaped() {
        let replacer = replacer(&[("secret/1", "[s]"), ("12345678", "[n]")]);
        let check = |text: &str, expected: &str| {
            assert_eq!(replacer.json(Json::parse(text).unwrap()).as_str(), expected);
        };
        check(r#"{"a":["secret\/1",true]}"#, r#"{"a":["[s]",true]}"#);
        check(r#"{"\u0073ecret/1":0.5}"#, r#"{"[s]":0.5}"#);
        check(r#"[1,12345678]"#, r#"[1,"[n]"]"#);
        check(r#"["\n", "as it was"]"#, r#"["\n", "as it was"]"#);
    }
}
