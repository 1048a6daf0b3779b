//! What has to be blotted out once a secret has been read: its value in the forms in which it turns up in logs, answers and
//! error messages.
//!
//! White space counts for nothing in it: base64 that was wrapped into lines is base64 (`replace.rs`).
//!
//! This is the second line: a component that is not revealed a secret has nothing to tell. A component or a program that has
//! the value and means to tell it can always find a form that is not here (reversed, say, or letter by letter).

use std::fmt::Write;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::replace::Replacer;

/// Bytes of the shortest piece that is blotted out: those of the shortest secret.
const PIECE_MIN: usize = downbeat_workflow::secret::SECRET_BYTES_MIN;

/// Blots these out, each by its name: `[secret NAME]`.
pub(crate) fn redactor<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s str)>) -> Option<Replacer> {
    let forms = secrets.into_iter().flat_map(|(name, value)| {
        let by: Arc<str> = format!("[secret {name}]").into();
        forms(value).into_iter().map(move |form| (form, by.clone()))
    });
    Replacer::folding(forms)
}

/// How much of a text there is to be blotted out, in bytes.
pub(crate) fn dense(text: &str) -> usize {
    text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count()
}

/// A value as it is, its lines, and encoded: as a string of JSON, in base64 (wherever in a longer text it begins), with
/// percent signs, in hexadecimal digits.
fn forms(value: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let bytes = value.as_bytes();
    let mut forms = vec![value.to_owned(), json_string(value)];
    if value.contains(['\n', '\r']) {
        forms.extend(value.lines().map(|line| line.trim().to_owned()));
    }
    for offset in 0..3 {
        forms.extend([STANDARD, URL_SAFE].map(|alphabet| base64_within(bytes, offset, alphabet)));
    }
    for upper in [true, false] {
        // As RFC 3986 has it, as JavaScript's `encodeURIComponent`, and as those that escape whatever is no letter.
        forms.push(percent(value, upper, is_unreserved));
        forms.push(percent(value, upper, |byte| is_unreserved(byte) || b"!'()*".contains(&byte)));
        forms.push(percent(value, upper, |byte| byte.is_ascii_alphanumeric()));
        forms.push(bytes.iter().fold(String::new(), |hex, byte| hex + &hex_digits(*byte, upper)));
    }
    // As browsers' forms have it.
    forms.push(percent(value, true, |byte| is_unreserved(byte) || byte == b' ').replace(' ', "+"));
    let forms = forms.into_iter().filter(|form| dense(form) >= PIECE_MIN);
    forms.map(|form| Zeroizing::new(form.into_bytes())).collect()
}

/// As it stands between the quotes of a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Bytes with percent signs, but for those that stay as they are.
pub(crate) fn percent(text: &str, upper: bool, stays: impl Fn(u8) -> bool) -> String {
    let mut done = String::with_capacity(text.len());
    for byte in text.bytes() {
        match stays(byte) {
            true => done.push(char::from(byte)),
            false => write!(done, "%{}", hex_digits(byte, upper)).expect("writing to a string succeeds"),
        }
    }
    done
}

/// What RFC 3986 leaves unescaped everywhere.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex_digits(byte: u8, upper: bool) -> String {
    if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The digits that bytes have in base64 if they stand `offset` (0 to 2) bytes behind a multiple of three: those that depend on
/// nothing before and behind them.
fn base64_within(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let bit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
    let (first, end) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
    let digit = |at: usize| (0..6).fold(0, |digit, n| digit << 1 | usize::from(bit(at * 6 + n - offset * 8)));
    (first..end).map(|at| char::from(alphabet[digit(at)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, text: &str, expected: &str) {
        assert_eq!(redactor([("key", value)]).unwrap().text(text), expected);
    }

    #[test]
    fn a_value_is_blotted_out_in_all_its_forms() {
        let value = "pa\"ss w/rd+1";
        check(value, "is pa\"ss w/rd+1.", "is [secret key].");
        check(value, r#"{"a":"pa\"ss w/rd+1"}"#, r#"{"a":"[secret key]"}"#);
        check(value, "?a=pa%22ss%20w%2Frd%2B1&b", "?a=[secret key]&b");
        check(value, "?a=pa%22ss%20w%2frd%2b1&b", "?a=[secret key]&b");
        check(value, "a=pa%22ss+w%2Frd%2B1", "a=[secret key]");
        check(
            "(a_b-c!d*e)",
            "%28a_b-c%21d%2Ae%29 (a_b-c!d*e) %28a%5Fb%2Dc%21d%2Ae%29",
            "[secret key] [secret key] [secret key]",
        );
        check("(a_b/c!d*e)", "(a_b%2Fc!d*e)", "[secret key]");
        check(value, "70612273732077 2f", "70612273732077 2f");
        check(value, "7061227373 2f 706122737320772f72642b31", "7061227373 2f [secret key]");
        check(value, "70 61 22 73 73\n20 77 2f 72 64\n2b 31\n", "[secret key]\n");
        check(value, "706122737320772F72642B31", "[secret key]");
    }

    #[test]
    fn base64_is_found_wherever_in_it_a_value_begins() {
        // `printf 'xhunter2-hunter2' | base64` and so on.
        check("hunter2-hunter2", "aHVudGVyMi1odW50ZXIy", "[secret key]");
        check("hunter2-hunter2", "eGh1bnRlcjItaHVudGVyMg==", "eG[secret key]g==");
        check("hunter2-hunter2", "eHhodW50ZXIyLWh1bnRlcjI=", "eHh[secret key]I=");
        check("user>>>???", "dXNlcj4-Pj8_Pw==", "[secret key]w==");
        check("user>>>???", "dXNlcj4+Pj8/Pw==", "[secret key]w==");
    }

    #[test]
    fn base64_is_found_in_lines_of_any_length() {
        // `base64` wraps at 76 columns, `openssl base64` at 64, what comes by mail ends its lines with CRLF, and YAML indents.
        let value = "0123456789".repeat(12);
        let base64 = base64_within(value.as_bytes(), 0, STANDARD);
        for (width, end) in [(76, "\n"), (64, "\n"), (76, "\r\n"), (60, "\n    "), (1, "\n"), (3, " ")] {
            let lines = base64.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap());
            let text = lines.map(|line| format!("{line}{end}")).collect::<String>();
            check(&value, &format!("it is\n{text}so"), &format!("it is\n[secret key]{end}so"));
        }
        // Somewhere in what was encoded.
        let all = base64_within(format!("{}{value}{value}!", "x".repeat(50)).as_bytes(), 0, STANDARD);
        let text =
            all.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
        let clean = redactor([("key", value.as_str())]).unwrap().text(&text).into_owned();
        assert_eq!(clean.matches("[secret key]").count(), 2, "{clean}");
        assert!(clean.len() < 120, "{clean}");
    }

    #[test]
    fn the_lines_of_a_key_are_blotted_out_one_by_one() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADAN\nab\n";
        check(key, "> MIIEvQIBADAN", "> [secret key]");
        check(key, "ab", "ab");
    }
}
