//! Where in the file a part of a string stands: rules are read without their quotes and escapes, and faults in them are
//! shown with these.

use std::ops::Range;

/// The place of a string's content in the file.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Nowhere: the string does not come from a file.
    Nowhere,
    /// Byte `n` of the content is byte `n` from here.
    From(usize),
    /// With escapes: the place of each byte, and of the end.
    Each(Vec<usize>),
}

impl Place {
    /// Of the string whose literal, quotes included, stands at `span` and means `content`.
    pub(crate) fn of(source: &str, span: &Range<usize>, content: &str) -> Place {
        let literal = source.get(span.clone()).unwrap_or_default();
        let quotes = match literal {
            literal if literal.starts_with("\"\"\"") || literal.starts_with("'''") => 3,
            literal if literal.starts_with(['"', '\'']) => 1,
            _ => 0,
        };
        let Some(inner) = literal.len().checked_sub(2 * quotes).map(|len| &literal[quotes..quotes + len]) else {
            return Place::From(span.start);
        };
        match inner == content {
            true => Place::From(span.start + quotes),
            false => Place::escaped(inner, span.start + quotes, content.len()),
        }
    }

    /// Walks the literal as TOML 1.1 does. If that does not come out at the content's length, every byte is said to be
    /// at the start.
    fn escaped(inner: &str, start: usize, len: usize) -> Place {
        let mut places = Vec::with_capacity(len + 1);
        let mut push = |at: usize, bytes: usize| places.extend(std::iter::repeat_n(start + at, bytes));
        let mut at = match inner.as_bytes() {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        while at < inner.len() {
            let rest = &inner[at..];
            let mut chars = rest.chars();
            let first = chars.next().expect("there is at least one byte left");
            let (consumed, meant) = match (first, chars.next()) {
                ('\\', Some(kind @ ('u' | 'U' | 'x'))) => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
                }
                ('\\', Some(c)) if c.is_whitespace() => (1 + rest[1..].len() - rest[1..].trim_start().len(), 0),
                ('\\', Some(c)) => (1 + c.len_utf8(), 1),
                ('\r', Some('\n')) if len < inner.len() => (1, 0),
                (c, _) => (c.len_utf8(), c.len_utf8()),
            };
            push(at, meant);
            at += consumed;
        }
        push(inner.len(), 1);
        match places.len() == len + 1 {
            true => Place::Each(places),
            false => Place::Each(vec![start; len + 1]),
        }
    }

    /// Where this part of the content stands.
    pub(crate) fn span(&self, part: Range<usize>) -> Range<usize> {
        match self {
            Place::Nowhere => 0..0,
            Place::From(start) => start + part.start..start + part.end,
            Place::Each(places) => {
                let at = |index: usize| places.get(index).or(places.last()).map_or(0, |place| *place);
                at(part.start)..at(part.end).max(at(part.start))
            }
        }
    }

    /// The same with each byte somewhere else.
    pub(crate) fn moved(&self, to: impl Fn(usize) -> usize) -> Place {
        match self {
            Place::Nowhere => Place::Nowhere,
            Place::From(start) => Place::From(to(*start)),
            Place::Each(places) => Place::Each(places.iter().map(|at| to(*at)).collect()),
        }
    }

    /// The place of the rest of the content, from this byte of it on.
    pub(crate) fn after(&self, bytes: usize) -> Place {
        match self {
            Place::Nowhere => Place::Nowhere,
            Place::From(start) => Place::From(start + bytes),
            Place::Each(places) => Place::Each(places[bytes.min(places.len())..].to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character of the content that is written as itself is found in the source at its place.
    fn check(source: &str, part: &str, expected: &str) {
        let table = toml::de::DeTable::parse(source).expect("the case is TOML");
        let (_, value) = table.get_ref().iter().next().expect("it has one entry");
        let content = value.get_ref().as_str().expect("a string");
        let at = content.find(part).expect("the part is in the content");
        let span = Place::of(source, &value.span(), content).span(at..at + part.len());
        assert_eq!(&source[span], expected);
    }

    #[test]
    fn parts_of_every_kind_of_string_are_found() {
        check(r#"a = "x == y""#, "== y", "== y");
        check(r"a = 'x \ y'", r"\ y", r"\ y");
        check(r#"a = "x == \"y\" && z""#, "\"y\" &&", r#"\"y\" &&"#);
        check(r#"a = "\u00e4\U0001F600\x41 b""#, "b", "b");
        check(r#"a = "ä\tb""#, "b", "b");
        check("a = \"\"\"\nx &&\n  y\"\"\"", "y", "y");
        check("a = \"\"\"\r\nx\\\r\n   y\\n z\"\"\"", "z", "z");
        check("a = '''\nx\n'q' z'''", "'q'", "'q'");
    }
}
