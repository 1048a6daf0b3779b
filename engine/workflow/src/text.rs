//! Text that came from somewhere else (a guest, a file, a component), made fit for a terminal: an escape sequence in it must
//! not move a cursor, and no character may reorder a line. Nothing here looks at what the text means.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with control characters and bidirectional overrides written as `\u{…}`. Tabs stay, and so do line feeds if
/// `lines` is set. Borrows when there is nothing to do.
pub fn visible(text: &str, lines: bool) -> Cow<'_, str> {
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

/// Control characters, line separators, and the characters that reorder text ("Trojan Source", CVE-2021-42574), the marks
/// that only hint at a direction (U+061C, U+200E, U+200F) among them; and what is nothing to the eye but makes two texts of one:
/// spaces without a width, tags. Joiners stay, without which some languages can't be written.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON text in which nothing is hidden: what [`is_hidden`] is written as `\uXXXX`, which says the same. JSON leaves such
/// characters as they are in strings, and they can be nowhere else.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.contains(|c| is_hidden(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // A line feed stands between values, never in one.
        if is_hidden(c) && c != '\n' {
            for half in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{half:04x}").expect("writing to a string succeeds");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        assert_eq!(visible("a\x1b[2Jb\tc\nd", false), "a\\u{1b}[2Jb\tc\\u{a}d");
        assert_eq!(visible("a\nb\r\u{202e}c", true), "a\nb\\u{d}\\u{202e}c");
        assert_eq!(visible("a\u{200e}b\u{200f}c\u{61c}", true), "a\\u{200e}b\\u{200f}c\\u{61c}");
        assert_eq!(visible("ad\u{200b}min\u{feff}\u{e0041}", true), "ad\\u{200b}min\\u{feff}\\u{e0041}");
        assert!(matches!(visible("plain ü", false), Cow::Borrowed(_)));
    }

    #[test]
    fn hidden_characters_in_json_are_escaped_and_mean_the_same() {
        let json = serde_json::Value::from("a\u{9b}31m\u{202e}\u{7f}\u{1b}b").to_string();
        let shown = visible_json(&json);
        assert_eq!(shown, r#""a\u009b31m\u202e\u007f\u001bb""#);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "a\u{9b}31m\u{202e}\u{7f}\u{1b}b");
        assert_eq!(visible_json("\"\u{e0041}\""), r#""\udb40\udc41""#);
        assert!(matches!(visible_json("{\n}"), Cow::Borrowed(_)));
    }
}
