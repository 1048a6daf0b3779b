//! A duration in a step's input, written as workflows write it.
//!
//! The grammar is the one of `timeout` and `delay` in a workflow's TOML, so that a person who writes one knows the other.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A duration that is text in JSON: `"250ms"`, `"2s"`, `"1m30s"`, `"4h"`, `"1d"`. Units go from the largest to the
/// smallest, each at most once, without spaces.
///
/// ```
/// use downbeat_sdk::TextDuration;
///
/// let timeout: TextDuration = serde_json::from_str(r#""1m30s""#)?;
/// assert_eq!(timeout.0.as_secs(), 90);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextDuration(pub Duration);

/// Largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl std::str::FromStr for TextDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<TextDuration, String> {
        parse_ms(text)
            .map(|ms| TextDuration(Duration::from_millis(ms)))
            .ok_or_else(|| format!("`{text}` is not a duration such as `250ms`, `2s`, `1m30s`, `4h` or `1d`"))
    }
}

fn parse_ms(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let mut total: Option<u64> = None;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        // The iterator goes on from the unit before: a larger or the same one is not found any more.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let ms = digits.parse::<u64>().ok()?.checked_mul(*factor)?;
        total = Some(total.unwrap_or(0).checked_add(ms)?);
        rest = after;
    }
    total
}

impl<'de> Deserialize<'de> for TextDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TextDuration, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for TextDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "examples": ["250ms", "2s", "1m30s"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_sum_of_units() {
        for (text, ms) in [("250ms", 250), ("2s", 2_000), ("1m30s", 90_000), ("1d2h3m4s5ms", 93_784_005), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(TextDuration(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "10", "ten", "1.5h", "-1s", "5 s", "1s1m", "1s1s", "3w", "99999999999999999999d", "s", "1ß"] {
            assert!(text.parse::<TextDuration>().is_err(), "{text}");
        }
    }
}
