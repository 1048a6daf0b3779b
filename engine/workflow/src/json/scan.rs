//! One look at JSON text, byte by byte, for what the engine does with every output: is it valid, and where is a member of
//! it. Nothing is built and nothing is copied.
//!
//! It is apart because it is allowed to give up: a number with an exponent or a lone surrogate it leaves to `serde_json`,
//! which has the last word and the better words. What it accepts is valid; the test below holds it to that.

/// Integers and decimals of so many characters are finite, however large: the largest double has 309 digits.
const PLAIN_NUMBER_MAX: usize = 300;

/// Whether `text` is one JSON value without doubt, at most so many levels deep.
pub(super) fn is_surely_valid(text: &str, levels: u32) -> bool {
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    scan.value(levels, &mut |_, _| ()).is_some() && scan.peek().is_none() && scan.at == text.len()
}

/// The text of the object's member of this name, the last one if there are several; `None` where it takes more than a
/// look to tell. `text` is valid.
pub(crate) fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut found = None;
    let mut escaped = false;
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    (scan.peek()? == b'{').then_some(())?;
    scan.value(u32::MAX, &mut |key, value| {
        escaped |= key.contains(&b'\\');
        if key == name.as_bytes() {
            found = Some(value);
        }
    })?;
    // A name that is written with escapes may be the one that is looked for.
    found.filter(|_| !escaped).map(|(from, to)| &text[from..to])
}

/// Takes a member's name as it is written, and where its value begins and ends.
type Each<'e> = dyn FnMut(&[u8], (usize, usize)) + 'e;

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    /// One value, with the white space before it. `each` is told of the members of the outermost object.
    fn value(&mut self, levels: u32, each: &mut Each<'_>) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.object(levels.checked_sub(1)?, each),
            b'[' => self.array(levels.checked_sub(1)?),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, below: u32, each: &mut Each<'_>) -> Option<()> {
        self.at += 1;
        if self.closes(b'}') {
            return Some(());
        }
        loop {
            (self.peek()? == b'"').then_some(())?;
            let key = self.at + 1;
            self.string()?;
            let key = key..self.at - 1;
            self.takes(b':')?;
            self.peek()?;
            let from = self.at;
            self.value(below, &mut |_, _| ())?;
            each(&self.text[key], (from, self.at));
            if self.closes(b'}') {
                return Some(());
            }
            self.takes(b',')?;
        }
    }

    fn array(&mut self, below: u32) -> Option<()> {
        self.at += 1;
        if self.closes(b']') {
            return Some(());
        }
        loop {
            self.value(below, &mut |_, _| ())?;
            if self.closes(b']') {
                return Some(());
            }
            self.takes(b',')?;
        }
    }

    /// From its opening quote to behind the closing one.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += plain_length(&self.text[self.at..]);
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => (),
                    b'u' => self.code_unit()?,
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// Four hexadecimal digits that are a character by themselves.
    fn code_unit(&mut self) -> Option<()> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let surrogate = matches!(digits, [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
        (digits.iter().all(u8::is_ascii_hexdigit) && !surrogate).then(|| self.at += 4)
    }

    fn number(&mut self) -> Option<()> {
        let from = self.at;
        self.at += usize::from(self.text[self.at] == b'-');
        match self.next()? {
            b'0' => (),
            b'1'..=b'9' => drop(self.digits()),
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            (self.digits() > 0).then_some(())?;
        }
        // What may follow a number is checked by whoever goes on; an exponent is nothing of that.
        (self.at - from <= PLAIN_NUMBER_MAX).then_some(())
    }

    fn digits(&mut self) -> usize {
        let digits = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The first byte after white space, which is skipped.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn takes(&mut self, byte: u8) -> Option<()> {
        self.closes(byte).then_some(())
    }

    fn closes(&mut self, byte: u8) -> bool {
        let closes = self.peek() == Some(byte);
        self.at += usize::from(closes);
        closes
    }
}

/// How many bytes stand for themselves, up to a quote, a backslash or a control character. A block at a time, which a
/// compiler turns into a few comparisons of whole registers: a kibibyte in 740 instructions.
pub(super) fn plain_length(text: &[u8]) -> usize {
    const BLOCK: usize = 64;
    let special = |byte: &u8| (*byte == b'"') | (*byte == b'\\') | (*byte < b' ');
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let plain =
        blocks.iter().take_while(|block| block.iter().fold(0, |any, byte| any | u8::from(special(byte))) == 0).count();
    let rest = &text[plain * BLOCK..];
    plain * BLOCK + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_written_every_day_is_surely_valid() {
        for text in [
            r#"{"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","n":-12.50,"ok":[true,false,null,{}]}"#,
            " [ ] \n",
            r#""ü\u00e9\n\"""#,
            "0",
            "-0.0",
        ] {
            assert!(is_surely_valid(text, 4), "{text}");
        }
    }

    #[test]
    fn levels_are_counted() {
        assert!(is_surely_valid("[[1]]", 2) && is_surely_valid(r#"{"a":[]}"#, 2));
        assert!(!is_surely_valid("[[1]]", 1) && !is_surely_valid(r#"{"a":[]}"#, 1));
    }

    #[test]
    fn a_member_is_found_as_it_is_written_and_the_last_one_counts() {
        let text = r#" { "a" : 1.50 , "b":{"a":"inner"}, "a" : [ 2,
            3 ], "c":"" } "#;
        assert_eq!(member(text, "a"), Some("[ 2,\n            3 ]"));
        assert_eq!((member(text, "b"), member(text, "c")), (Some(r#"{"a":"inner"}"#), Some(r#""""#)));
        assert_eq!((member(text, "d"), member("[1]", "a"), member("{}", "a")), (None, None, None));
        assert_eq!(member(r#"{"a":1,"\u0061":2}"#, "a"), None, "a name in disguise takes a parse");
    }

    /// Text that is JSON, nearly JSON, or made of its signs.
    fn texts() -> impl Strategy<Value = String> {
        let json = r#"(\[|\{"a":|\{ "b" : )*(-?[0-9]{1,3}(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?|"[a-z"\\u0-9é ]{0,40}"|true|null)(,|\]|\}| )*"#;
        prop_oneof![json, r#"[\[\]{},:"\\0-9.eE+\-a-fu \n]{0,24}"#, r#""(\\u[0-9a-fA-F]{4}|\\[nbtq]|x)*""#]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_accepted_is_valid(text in texts()) {
            if is_surely_valid(&text, 64) {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn what_was_written_by_serde_json_is_accepted_and_its_members_are_found(
            members in prop::collection::vec(("[a-c]{0,2}|\"|\n", ".{0,40}"), 0..5),
        ) {
            let value = Value::Object(members.into_iter().map(|(name, text)| (name, Value::from(text))).collect());
            let text = value.to_string();
            prop_assert!(is_surely_valid(&text, 2), "{}", text);
            for (name, inside) in value.as_object().unwrap() {
                if let Some(found) = member(&text, name) {
                    prop_assert_eq!(&serde_json::from_str::<Value>(found).unwrap(), inside);
                }
            }
        }
    }
}
