//! Replaces known texts in bytes, whole or as they come in pieces: secrets by their names in everything that leaves an
//! attempt, placeholders by secrets in what it sends. Of several that begin at the same place, the longest counts.
//!
//! What is blotted out is found also where white space was put into it: programs wrap base64 and hexadecimal digits into lines
//! of any length, and indent them. So both the texts and the bytes are looked at without white space, and the bytes are handed
//! on with it.

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use downbeat_workflow::json::Json;
use serde_json::Value;
use zeroize::Zeroizing;

/// White space in a row that may stand within a text, in bytes: a line end and an indentation. Also what bounds what is held back
/// of a stream.
const GAP_MAX: usize = 32;

/// Bytes of a text that have to stand before a line end to be held back with it. Many a line ends with what a text begins with,
/// and whoever follows a log waits for it; what is let go is shorter, and is no secret.
const HELD_MIN: usize = 4;

/// Bytes that are held back from which on they are not looked at again for each byte that comes: a program that writes a long secret byte by
/// byte would keep a thread busy. Half a KiB more is waited for then, or an eighth of what is held.
const LOOKED_AT_MIN: usize = 4 << 10;

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
    /// Whether white space is looked through.
    folds: bool,
}

impl Replacer {
    /// Replaces these as they are. `None` if there is nothing to replace. A text that is given twice is replaced as it was given
    /// first.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (Zeroizing<Vec<u8>>, Arc<str>)>) -> Option<Replacer> {
        Replacer::made(pairs.into_iter().collect(), false)
    }

    /// The same, and whatever white space stands within them.
    pub(crate) fn folding(pairs: impl IntoIterator<Item = (Zeroizing<Vec<u8>>, Arc<str>)>) -> Option<Replacer> {
        let folded = pairs.into_iter().map(|(text, by)| (Zeroizing::new(fold(text.trim_ascii()).into_owned()), by));
        Replacer::made(folded.collect(), true)
    }

    fn made(mut pairs: Vec<(Zeroizing<Vec<u8>>, Arc<str>)>, folds: bool) -> Option<Replacer> {
        pairs.retain(|(text, _)| !text.is_empty());
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
        Some(Replacer { automaton, by, sorted, begins, longest, folds })
    }

    /// The most bytes that a text takes where it is found.
    pub(crate) fn longest(&self) -> usize {
        if self.folds { self.longest * (GAP_MAX + 1) } else { self.longest }
    }

    /// Whether any of the texts is there.
    pub(crate) fn finds(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(&*self.looked_at(bytes))
    }

    pub(crate) fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let mut done: Vec<u8> = Vec::new();
        let (mut from, mut places) = (0, Places::new(bytes, self.folds));
        for found in self.automaton.find_iter(&*self.looked_at(bytes)) {
            let (start, end) = (places.of(found.start()), places.of(found.end() - 1) + 1);
            done.extend_from_slice(&bytes[from..start]);
            done.extend_from_slice(self.by[found.pattern().as_usize()].as_bytes());
            from = end;
        }
        if from == 0 {
            return Cow::Borrowed(bytes);
        }
        done.extend_from_slice(&bytes[from..]);
        Cow::Owned(done)
    }

    /// Bytes as the texts are: without white space, or as they are.
    fn looked_at<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.folds { fold(bytes) } else { Cow::Borrowed(bytes) }
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

    /// Where in these bytes, as they are looked at, a text may have begun that goes on behind them: all of them, if none has.
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

/// Bytes without their white space. More than [`GAP_MAX`] of it in a row is one space, which is within no text but those that have
/// as much there.
fn fold(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.iter().any(u8::is_ascii_whitespace) {
        return Cow::Borrowed(bytes);
    }
    let mut folded = Vec::with_capacity(bytes.len());
    for run in bytes.chunk_by(|one, other| one.is_ascii_whitespace() == other.is_ascii_whitespace()) {
        match run[0].is_ascii_whitespace() {
            true if run.len() > GAP_MAX => folded.push(b' '),
            true => (),
            false => folded.extend_from_slice(run),
        }
    }
    Cow::Owned(folded)
}

/// Where folded bytes stand among all. Asked in order: it walks along.
struct Places<'b> {
    bytes: &'b [u8],
    folds: bool,
    /// A place among the folded, and the same among all. White space before it may be passed by.
    at: (usize, usize),
}

impl<'b> Places<'b> {
    fn new(bytes: &'b [u8], folds: bool) -> Places<'b> {
        Places { bytes, folds, at: (0, 0) }
    }

    /// Where the byte stands that is at this place among the folded; nothing before it was asked for.
    fn of(&mut self, place: usize) -> usize {
        if !self.folds {
            return place;
        }
        let (mut folded, mut at) = self.at;
        loop {
            let gap = self.bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            // One that is too long is a byte itself.
            if gap > GAP_MAX {
                if folded == place {
                    break;
                }
                folded += 1;
            }
            at += gap;
            if folded == place {
                break;
            }
            let run = self.bytes[at..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
            let step = run.min(place - folded);
            (folded, at) = (folded + step, at + step);
            // Where a run ends, white space follows, and the byte that is meant stands behind it.
            if step < run {
                break;
            }
        }
        self.at = (folded, at);
        at
    }
}

/// Bytes on their way, in pieces. What may be the beginning of a text is held back until it is told; nothing else is.
pub(crate) struct Pieces {
    replacer: Option<Arc<Replacer>>,
    held: Zeroizing<Vec<u8>>,
    /// How much of what is held was handed on all the same: a short beginning, with the end of its line.
    told: usize,
    /// How much of what is held was looked at.
    looked_at: usize,
}

impl Pieces {
    /// Without a replacer, they go through as they are.
    pub(crate) fn new(replacer: Option<Arc<Replacer>>) -> Pieces {
        Pieces { replacer, held: Zeroizing::default(), told: 0, looked_at: 0 }
    }

    /// Hands on what is certain by now, in one or several pieces.
    pub(crate) fn push(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) {
        let Some(replacer) = &self.replacer else { return out(bytes) };
        if self.held.is_empty() {
            let (kept, told) = pass(replacer, bytes, 0, false, &mut out);
            self.held.extend_from_slice(&bytes[kept..]);
            self.told = told;
        } else {
            self.held.extend_from_slice(bytes);
            if self.looked_at >= LOOKED_AT_MIN && self.held.len() - self.looked_at < self.looked_at / 8 {
                return;
            }
            let (kept, told) = pass(replacer, &self.held, self.told, false, &mut out);
            self.held.drain(..kept);
            self.told = told;
        }
        self.looked_at = self.held.len();
    }

    /// Hands on what was held back: there is no more.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        let (held, told) = (std::mem::take(&mut self.held), self.told);
        (self.told, self.looked_at) = (0, 0);
        if let Some(replacer) = &self.replacer {
            pass(replacer, &held, told, true, &mut out);
        }
    }

    /// Forgets what was held back: what would have told what it is was cut off.
    pub(crate) fn cut(&mut self) {
        (self.held, self.told, self.looked_at) = (Zeroizing::default(), 0, 0);
    }

    /// Whether something is held back that was not handed on.
    pub(crate) fn holds(&self) -> bool {
        self.told < self.held.len()
    }
}

/// Hands on what is certain of these bytes, of which so many were handed on before; all of it, if they are the last. Says from where
/// on they have to be kept, and how much of that was handed on.
fn pass(replacer: &Replacer, bytes: &[u8], told: usize, is_last: bool, out: &mut impl FnMut(&[u8])) -> (usize, usize) {
    let mut hand = |piece: &[u8]| {
        if !piece.is_empty() {
            out(piece);
        }
    };
    let folded = replacer.looked_at(bytes);
    let mut places = Places::new(bytes, replacer.folds);
    // What was handed on of the bytes, and looked at of the folded.
    let (mut from, mut at) = (told, 0);
    // The first beginning stays the first one until it is looked past.
    let mut open = if is_last { folded.len() } else { replacer.open_end(&folded) };
    loop {
        if open < at {
            open = at + replacer.open_end(&folded[at..]);
        }
        match replacer.automaton.find(Input::new(&*folded).range(at..)) {
            // Nothing that begins before it can be longer, and it is whole.
            Some(found) if found.start() < open => {
                hand(&bytes[from..places.of(found.start()).max(from)]);
                hand(replacer.by[found.pattern().as_usize()].as_bytes());
                (from, at) = (places.of(found.end() - 1) + 1, found.end());
            }
            _ if open == folded.len() => {
                hand(&bytes[from..]);
                return (bytes.len(), 0);
            }
            _ => {
                let begun = places.of(open);
                let certain = if replacer.folds { let_go(bytes, begun) } else { begun }.max(from);
                hand(&bytes[from..certain]);
                return (begun, certain - begun);
            }
        }
    }
}

/// How far a beginning is handed on although it may be one: to behind the last line end, as long as less than [`HELD_MIN`] bytes of it are
/// there.
fn let_go(bytes: &[u8], begun: usize) -> usize {
    let (mut certain, mut letters) = (begun, 0);
    for (at, byte) in bytes.iter().enumerate().skip(begun) {
        match byte {
            b'\n' => certain = at + 1,
            byte if byte.is_ascii_whitespace() => (),
            _ => letters += 1,
        }
        if letters == HELD_MIN {
            return begun;
        }
    }
    certain
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

    fn folding(pairs: &[(&str, &str)]) -> Arc<Replacer> {
        let pairs = pairs.iter().map(|(text, by)| (Zeroizing::new(text.as_bytes().to_vec()), Arc::from(*by)));
        Arc::new(Replacer::folding(pairs).unwrap())
    }

    /// What comes of these pieces, before there are no more of them and in all.
    fn pushed(replacer: &Arc<Replacer>, pieces: &[&str]) -> (String, String) {
        let (mut pushed, mut stream) = (Vec::new(), Pieces::new(Some(replacer.clone())));
        pieces.iter().for_each(|piece| stream.push(piece.as_bytes(), |bytes| pushed.extend_from_slice(bytes)));
        let before = String::from_utf8(pushed.clone()).unwrap();
        stream.finish(|bytes| pushed.extend_from_slice(bytes));
        (before, String::from_utf8(pushed).unwrap())
    }

    #[test]
    fn white_space_within_a_text_is_looked_through() {
        let replacer = folding(&[("se cret/1\n", "[s]"), ("12345678", "[n]")]);
        for (text, expected) in [
            ("a secret/1 b", "a [s] b"),
            ("a  s e c\tr\r\n    et/1\n\nb", "a  [s]\n\nb"),
            ("secret/2 1234 5678 s", "secret/2 [n] s"),
            ("se\u{a0}cret/1", "se\u{a0}cret/1"),
            (" ", " "),
            ("", ""),
        ] {
            assert_eq!(replacer.text(text), expected);
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                let (one, other) = text.split_at(cut);
                assert_eq!(pushed(&replacer, &[one, other]).1, expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_line_that_ends_with_a_short_beginning_is_handed_on_at_once() {
        let replacer = folding(&[("secret/1", "[s]")]);
        assert_eq!(pushed(&replacer, &["yes\n"]).0, "yes\n");
        assert_eq!(pushed(&replacer, &["yes", "\n"]).0, "yes\n");
        assert_eq!(pushed(&replacer, &["yes"]).0, "ye");
        // What comes then is known for the rest all the same.
        assert_eq!(pushed(&replacer, &["yes\n", "ecret/1!"]).1, "yes\n[s]!");
        assert_eq!(pushed(&replacer, &["yes\n", "e", "\ncret/1!"]).1, "yes\n[s]!");
        assert_eq!(pushed(&replacer, &["yes\n", "ecr", "etary"]).1, "yes\necretary");
        assert_eq!(pushed(&replacer, &["se\n", "se\n", "cret/1"]).1, "se\nse\n[s]");
        // A longer one is not.
        assert_eq!(pushed(&replacer, &["no secr\n"]), ("no ".to_owned(), "no secr\n".to_owned()));
        assert_eq!(pushed(&replacer, &["no secr\n", "et/1"]).1, "no [s]");
    }

    #[test]
    fn white_space_without_end_is_not_held_back() {
        let replacer = folding(&[("secret/1", "[s]")]);
        let gap = |length: usize| format!("secret{}/1", " ".repeat(length));
        assert_eq!(replacer.text(&gap(GAP_MAX)), "[s]");
        assert_eq!(replacer.text(&gap(GAP_MAX + 1)), gap(GAP_MAX + 1));
        let mut stream = Pieces::new(Some(replacer.clone()));
        stream.push(b"secret", |_| ());
        for _ in 0..1000 {
            stream.push(b"  ", |_| ());
            assert!(stream.held.len() <= replacer.longest(), "{}", stream.held.len());
        }
        assert!(!stream.holds());
        // With as much of it within, a text is what it is.
        let wide = gap(GAP_MAX + 7);
        let replacer = folding(&[(&wide, "[s]")]);
        assert_eq!(replacer.text(&format!("a {wide}.")), "a [s].");
        assert_eq!(pushed(&replacer, &["a ", &wide[..20], &wide[20..], "."]).1, "a [s].");
    }

    /// Numbers that look random: a linear congruence (D. Knuth's constants for MMIX), of which the upper bits are.
    fn dice(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % below
    }

    #[test]
    fn of_any_text_in_any_pieces_no_more_is_told_than_of_the_whole() {
        let wide = " ".repeat(GAP_MAX + 1);
        let parts = ["s", "sec", "ret/1", "secret/1", "ecs", "r", "\n", " ", "\n    ", "x", "/1", "ret", &wide];
        let replacer = folding(&[("secret/1", "[s]"), ("retsec", "[r]"), ("cret", "[c]"), ("retsecs/1", "[l]")]);
        let state = &mut 1;
        for _ in 0..5_000 {
            let text: String = (0..1 + dice(state, 12)).map(|_| parts[dice(state, parts.len())]).collect();
            let whole = replacer.text(&text).into_owned();
            // Nothing is let go but with the end of a line.
            let (mut pieces, mut from) = (Vec::new(), 0);
            for (cut, _) in text.char_indices() {
                if dice(state, 3) == 0 {
                    pieces.push(&text[from..cut]);
                    from = cut;
                }
            }
            pieces.push(&text[from..]);
            let (before, all) = pushed(&replacer, &pieces);
            assert!(all == whole || text.contains('\n'), "{pieces:?}: {all:?} and not {whole:?}");
            assert!(all.starts_with(&before) && !replacer.finds(all.as_bytes()), "{pieces:?}: {all:?}");
            // Letter by letter, no text goes through.
            let anywhere: Vec<String> = text.chars().map(String::from).collect();
            let anywhere: Vec<&str> = anywhere.iter().map(String::as_str).collect();
            let all = pushed(&replacer, &anywhere).1;
            assert!(!replacer.finds(all.as_bytes()), "{text:?}: {all:?}");
        }
    }

    #[test]
    fn a_long_text_in_small_pieces_is_not_looked_at_again_for_each() {
        let long: String = (0..20_000_u32).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
        let replacer = folding(&[(&long, "[s]"), ("short-one", "[o]")]);
        let spaced = long.bytes().flat_map(|byte| [byte, b' ']).collect::<Vec<_>>();
        let (mut stream, mut told) = (Pieces::new(Some(replacer.clone())), Vec::new());
        let mut looks = 0;
        for byte in spaced.chunks(1) {
            let before = stream.looked_at;
            stream.push(byte, |bytes| told.extend_from_slice(bytes));
            looks += usize::from(stream.looked_at != before);
        }
        stream.finish(|bytes| told.extend_from_slice(bytes));
        assert_eq!(String::from_utf8(told).unwrap().trim(), "[s]");
        assert!(looks < LOOKED_AT_MIN + 100, "{looks}");
        // Many short ones in one piece, where a long one may have begun behind each.
        let many = "short-one ".repeat(2_000);
        assert_eq!(pushed(&replacer, &[&many]).1, "[o] ".repeat(2_000));
    }

    #[test]
    fn what_is_cut_off_is_not_told() {
        let mut stream = Pieces::new(Some(folding(&[("secret/1", "[s]")])));
        let mut told = Vec::new();
        stream.push(b"a secr", |bytes| told.extend_from_slice(bytes));
        stream.cut();
        stream.push(b"\nb", |bytes| told.extend_from_slice(bytes));
        stream.finish(|bytes| told.extend_from_slice(bytes));
        assert_eq!(told, b"a \nb");
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
