//! Splits an expression's text into tokens: enough to bound it before the parser sees it, to find the `}` that ends a
//! hole, to know where the parts of an expression start and end, and to say plainly what the parser would say darkly.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or a word such as `in` or `true`.
    Word,
    Number,
    /// A string, with its quotes.
    Text,
    /// A string whose end is missing.
    OpenText,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// An operator or punctuation, one or two characters.
    Sign,
    /// A character that no expression has.
    Stray,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
}

/// The tokens of `text` from a byte on.
pub(crate) struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(crate) fn from(text: &'t str, at: usize) -> Tokens<'t> {
        Tokens { text, at }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            match self.text[self.at..].strip_prefix("//") {
                Some(comment) => self.at += 2 + comment.find('\n').unwrap_or(comment.len()),
                None => break,
            }
        }
        let rest = &self.text[self.at..];
        let bytes = rest.as_bytes();
        let word = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (kind, len) = match *bytes.first()? {
            b'"' | b'\'' => text_token(rest, 0),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let len = word(rest);
                let prefix = &rest[..len];
                let is_prefix = len <= 2 && prefix.bytes().all(|b| matches!(b, b'r' | b'R' | b'b' | b'B'));
                match bytes.get(len) {
                    Some(b'"' | b'\'') if is_prefix => text_token(rest, len),
                    _ => (TokenKind::Word, len),
                }
            }
            b'0'..=b'9' => {
                let whole = word(rest);
                let fraction = match bytes.get(whole) {
                    Some(b'.') if bytes.get(whole + 1).is_some_and(u8::is_ascii_digit) => 1 + word(&rest[whole + 1..]),
                    _ => 0,
                };
                let mut len = whole + fraction;
                let hexadecimal = rest.starts_with("0x") || rest.starts_with("0X");
                if !hexadecimal && rest[..len].ends_with(['e', 'E']) && matches!(bytes.get(len), Some(b'+' | b'-')) {
                    len += 1 + word(&rest[len + 1..]);
                }
                (TokenKind::Number, len)
            }
            b'(' | b'[' | b'{' => (TokenKind::Open, 1),
            b')' | b']' | b'}' => (TokenKind::Close, 1),
            _ if ["==", "!=", "<=", ">=", "&&", "||"].iter().any(|sign| rest.starts_with(sign)) => (TokenKind::Sign, 2),
            b'.' | b',' | b':' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'<' | b'>' => (TokenKind::Sign, 1),
            _ => (TokenKind::Stray, rest.chars().next().map_or(1, char::len_utf8)),
        };
        let span = self.at..self.at + len;
        self.at += len;
        Some(Token { kind, span })
    }
}

/// A string literal whose quotes start after `prefix` bytes.
fn text_token(rest: &str, prefix: usize) -> (TokenKind, usize) {
    let quoted = &rest[prefix..];
    let raw = rest[..prefix].contains(['r', 'R']);
    let quotes = match quoted {
        quoted if quoted.starts_with("\"\"\"") => "\"\"\"",
        quoted if quoted.starts_with("'''") => "'''",
        quoted => &quoted[..1],
    };
    let mut at = quotes.len();
    while at < quoted.len() {
        let tail = &quoted[at..];
        if tail.starts_with(quotes) {
            return (TokenKind::Text, prefix + at + quotes.len());
        }
        let mut chars = tail.chars();
        at += match chars.next() {
            Some('\\') if !raw => 1 + chars.next().map_or(0, char::len_utf8),
            Some(c) => c.len_utf8(),
            None => 0,
        };
    }
    (TokenKind::OpenText, rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = Tokens::from(text, 0).map(|token| &text[token.span]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn texts_are_split_as_cel_does() {
        check("steps.a.output>=1.5e-3&&!x", &["steps", ".", "a", ".", "output", ">=", "1.5e-3", "&&", "!", "x"]);
        check(r#"a["b}\"c"] // } d"#, &["a", "[", r#""b}\"c""#, "]"]);
        check(r"r'\' + '''it's''' + ü", &[r"r'\'", "+", "'''it's'''", "+", "ü"]);
        check("1.size() 0x1f-2", &["1", ".", "size", "(", ")", "0x1f", "-", "2"]);
        check("'open \\'", &["'open \\'"]);
        check("", &[]);
    }
}
