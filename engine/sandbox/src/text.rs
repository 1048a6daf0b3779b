//! Text that came from a guest, made fit for people: control characters visible, length bounded.
//!
//! Everything a guest says ends up in terminals, logs and web pages; an escape sequence in it must not move a cursor or
//! reorder a line. Nothing here looks at what the text means.

use std::borrow::Cow;

pub(crate) use downbeat_workflow::text::visible;

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
    fn a_cut_falls_between_characters_and_counts_what_is_missing() {
        assert_eq!(bounded("aüb", 2), "a … (3 more bytes)");
        assert_eq!(bounded("aüb", 4), "aüb");
    }

    #[test]
    fn a_quoted_text_is_a_toml_string() {
        assert_eq!(toml_string("a\"b\\c"), r#""a\"b\\c""#);
    }
}
