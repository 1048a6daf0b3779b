//! Writes JSON to the end of a text. What it writes is what `serde_json` writes, to the byte; strings without anything to
//! escape, which nearly all are, are copied instead of being looked at byte by byte.

use std::fmt::Write;

use serde_json::Value;

use super::scan::plain_length;

/// A value.
pub(crate) fn write_value(json: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_string(json, text),
        other => write!(json, "{other}").expect("a String takes any text"),
    }
}

/// A text as a string.
pub(crate) fn write_string(json: &mut String, text: &str) {
    json.push('"');
    write_inside(json, text);
    json.push('"');
}

/// A text as the inside of a string.
pub(crate) fn write_inside(json: &mut String, text: &str) {
    if plain_length(text.as_bytes()) == text.len() {
        return json.push_str(text);
    }
    let quoted = serde_json::to_string(text).expect("a text is written as JSON");
    json.push_str(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in "([a-z\"\\\\\u{0}-\u{20}é\u{7f}]|.){0,80}") {
            let mut json = String::new();
            write_value(&mut json, &Value::from(text.as_str()));
            prop_assert_eq!(json, serde_json::to_string(&text).expect("a text is written as JSON"));
        }
    }
}
