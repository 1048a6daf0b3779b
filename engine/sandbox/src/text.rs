//! Text that came from a guest, made fit for people: control characters visible, length bounded.
//!
//! Everything a guest says ends up in terminals, logs and web pages; an escape sequence in it must not move a cursor or
//! reorder a line. Nothing here looks at what the text means.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with control characters and bidirectional overrides written as `\u{…}`. Tabs stay, and so do line feeds if
/// `lines` is set. Borrows when there is nothing to do.
pub(crate) fn visible(text: &str, lines: bool) -> Cow<'_, str> {
    let shown = |c: char| !is_hidden(c) || c == '\t' || (lines && c == '\n');
    let Some(first) = text.find(|c| !shown(c)) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if shown(c) {
            out.push(c);
        } else {
            write!(out, "{}", c.escape_unicode()).expect("writing to a string succeeds");
        }
    }
    Cow::Owned(out)
}

/// Control characters, line separators, and the characters that reorder text ("Trojan Source", CVE-2021-42574).
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `max` bytes of `text`, cut between characters; says how many bytes are missing.
pub(crate) fn bounded(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let cut = text.floor_char_boundary(max);
    Cow::Owned(format!("{} … ({} more bytes)", &text[..cut], text.len() - cut))
}

/// A message of a guest: at most `max` bytes, lines kept, the rest made visible.
pub(crate) fn message(text: &str, max: usize) -> String {
    visible(&bounded(text, max), true).into_owned()
}

/// `text` as a TOML basic string. JSON's escapes are a subset of TOML's; what JSON leaves as it is and TOML forbids
/// (U+007F) is made visible first.
pub(crate) fn toml_string(text: &str) -> String {
    serde_json::Value::from(visible(text, false)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        assert_eq!(visible("a\x1b[2Jb\tc\nd", false), "a\\u{1b}[2Jb\tc\\u{a}d");
        assert_eq!(visible("a\nb\r\u{202e}c", true), "a\nb\\u{d}\\u{202e}c");
        assert!(matches!(visible("plain ü", false), Cow::Borrowed(_)));
    }

    #[test]
    fn a_cut_falls_between_characters_and_counts_what_is_missing() {
        assert_eq!(bounded("aüb", 2), "a … (3 more bytes)");
        assert_eq!(bounded("aüb", 4), "aüb");
    }

    #[test]
    fn a_quoted_text_is_a_toml_string() {
        assert_eq!(toml_string("a\"b\\c"), r#""a\"b\\c""#);
    }
}
