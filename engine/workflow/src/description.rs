//! What a component says of itself, as the checker needs it: the answer of `describe`, pinned to the component's digest.

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// The digest of a blob or a component: `sha256:` and 64 lower case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::{Digest as _, Sha256};
        Digest::from_sha256(Sha256::digest(bytes).into())
    }

    /// A digest from a SHA-256 that was computed piece by piece.
    pub fn from_sha256(hash: [u8; 32]) -> Digest {
        use std::fmt::Write;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash {
            write!(text, "{byte:02x}").expect("writing to a string succeeds");
        }
        Digest(text)
    }

    /// Reads a digest's text; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Digest> {
        let hex = text.strip_prefix("sha256:")?;
        let valid = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Digest(text.to_owned()))
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits, for file names.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digits of a digest.
const HEX: usize = 64;

/// Gives `each` whatever may be a digest's digits: every piece of so many of them. Looks at one byte in 64 of a text
/// without any.
pub fn digits_in(text: &str, mut each: impl FnMut(&str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(piece) = bytes.get(at..at + HEX) {
        match piece.iter().rposition(|byte| !is_hex(*byte)) {
            Some(last) => at += last + 1,
            None => {
                // Of a longer row of digits the pieces after the first are looked at by their last one.
                each(&text[at..at + HEX]);
                at += 1;
                while bytes.get(at + HEX - 1).is_some_and(|byte| is_hex(*byte)) {
                    each(&text[at..at + HEX]);
                    at += 1;
                }
                at += HEX;
            }
        }
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A component's answer to `describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// Lower case words joined by `-`.
    pub name: String,
    /// Semver.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// JSON Schema of the input.
    pub input_schema: Json,
    /// JSON Schema of the output.
    pub output_schema: Json,
    /// The capabilities it means to use.
    pub wants: Vec<Want>,
}

/// A capability that a component means to use, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The grant's name, `http`; of a kind that is granted as a list also with the one item that is meant,
    /// `http:api.example.org`.
    pub capability: String,
    /// For the person who grants it.
    pub reason: String,
}

impl Want {
    /// The grant's name.
    pub fn kind(&self) -> &str {
        self.capability.split_once(':').map_or(&self.capability, |(kind, _)| kind)
    }

    /// The one item of it that is meant, if it says so.
    pub fn item(&self) -> Option<&str> {
        self.capability.split_once(':').map(|(_, item)| item)
    }
}

/// A component that was loaded: which bytes, and what they say of themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Of the component's bytes.
    pub digest: Digest,
    /// Its answer to `describe`.
    pub description: Description,
    /// Whether it imports `items`, so that it may append items for others to work on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub items: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        digits_in(text, |hex| found.push(hex.to_owned()));
        found
    }

    #[test]
    fn digits_of_digests_are_found_whatever_is_around_them() {
        let (a, b) = ("a1".repeat(32), "0f".repeat(32));
        assert_eq!(found(&a), [a.as_str()]);
        assert_eq!(found(&format!(r#"{{"é":"sha256:{a}","y":["{b}"]}}"#)), [a.as_str(), b.as_str()]);
        assert_eq!(found(&format!("{}g{a}", "0".repeat(63))), [a.as_str()]);
        assert_eq!(found(&a[1..]), Vec::<String>::new());
        assert_eq!(found(&"A1".repeat(40)), Vec::<String>::new(), "digests are written in small letters");
        assert!(found(&format!("{a}{b}")).contains(&b), "also where one stands beside the other");
        assert_eq!(found(&format!("{a}c-{b}")), [a.clone(), format!("{}c", &a[1..]), b]);
    }
}
