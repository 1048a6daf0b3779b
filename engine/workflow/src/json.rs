//! JSON values as they cross borders: text that is known to be valid, copied and stored without being parsed again.
//!
//! A step's output is judged once, here, when it leaves the sandbox; the journal stores the text, and only rules that
//! mention it pay for a parse.

mod scan;
mod write;

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub(crate) use scan::member;
pub(crate) use write::{write_inside, write_string, write_value};

/// How deeply arrays and objects may nest. serde_json parses at most 127 levels, and nobody writes more by hand; a
/// deeper value is an attack on whatever recurses over it.
pub const JSON_DEPTH_MAX: u32 = 64;

/// The text of one valid JSON value: no lone surrogates, finite numbers, at most [`JSON_DEPTH_MAX`] levels.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// Why a text is not a [`Json`].
#[derive(Debug, thiserror::Error)]
#[error("not valid JSON: {0}")]
pub struct JsonError(#[from] serde_json::Error);

impl Json {
    /// Judges `text`. Time is linear in its length; nothing is built.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Json, JsonError> {
        let text = text.into();
        if scan::is_surely_valid(&text, JSON_DEPTH_MAX) {
            return Ok(Json(text));
        }
        let mut reader = serde_json::Deserializer::from_str(&text);
        Levels(JSON_DEPTH_MAX).deserialize(&mut reader)?;
        reader.end()?;
        Ok(Json(text))
    }

    /// Text that was just written as JSON, from a value within the bounds.
    pub(crate) fn of_valid(text: String) -> Json {
        debug_assert!(Json::parse(text.as_str()).is_ok(), "{text}");
        Json(Arc::from(text))
    }

    /// `null`.
    pub fn null() -> Json {
        Json(Arc::from("null"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parsed value. Costs a parse each time.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).expect("a Json holds valid JSON by construction")
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Json {
        Json(Arc::from(value.to_string()))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    /// Embeds the text as it is, without parsing it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// Takes the text as it stands. What is read here was judged when it was written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Json(Arc::from(raw.get())))
    }
}

/// Walks one value without keeping it, so many levels deep.
struct Levels(u32);

impl<'de> DeserializeSeed<'de> for Levels {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Levels {
    fn below<E: serde::de::Error>(&self) -> Result<u32, E> {
        self.0.checked_sub(1).ok_or_else(|| E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX} levels")))
    }
}

impl<'de> Visitor<'de> for Levels {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while seq.next_element_seed(Levels(below))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while map.next_key_seed(Levels(below))?.is_some() {
            map.next_value_seed(Levels(below))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let got = Json::parse(text).map(|json| assert_eq!(json.as_str(), text)).map_err(|e| e.to_string());
        match (got, expected) {
            (Ok(()), Ok(())) => (),
            (Err(got), Err(part)) => assert!(got.contains(part), "{got}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn valid_values_are_kept_as_they_stand() {
        check(r#"{ "a": [1, 2.5, null, true, "ü\u00e9\ud83d\ude00"] }"#, Ok(()));
        check("null", Ok(()));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        check("", Err("EOF"));
        check("NaN", Err("expected value"));
        check("1 2", Err("trailing"));
        check("1e999", Err("out of range"));
        check(r#""\ud800""#, Err("hex escape"));
        check(r#"{"\ud800":1}"#, Err("hex escape"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(64), Ok(()));
        check(&nested(65), Err("nested deeper than 64 levels"));
        check(&nested(100_000), Err("nested deeper"));
    }

    #[test]
    fn serialising_embeds_the_text() {
        #[derive(Serialize, Deserialize)]
        struct Holder {
            output: Json,
        }
        let holder = Holder { output: Json::parse(r#"{"a": 1.50}"#).unwrap() };
        let text = serde_json::to_string(&holder).unwrap();
        assert_eq!(text, r#"{"output":{"a": 1.50}}"#);
        let back: Holder = serde_json::from_str(&text).unwrap();
        assert_eq!(back.output, holder.output);
    }
}
