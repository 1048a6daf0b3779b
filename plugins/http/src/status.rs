//! Status codes: which ones the author expects, and which of the others may be different next time.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// The statuses that mean success. In JSON a status, a class such as `"2xx"`, or a list of both.
#[derive(Debug, PartialEq)]
pub(crate) struct Expected(Vec<Range>);

/// Statuses from the first to the last of them.
#[derive(Debug, PartialEq)]
struct Range {
    first: u16,
    last: u16,
}

impl Expected {
    pub(crate) fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&status))
    }
}

impl Default for Expected {
    fn default() -> Expected {
        Expected(vec![Range { first: 200, last: 299 }])
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (index, Range { first, last }) in self.0.iter().enumerate() {
            let or = if index == 0 { "" } else { " or " };
            match first == last {
                true => write!(f, "{or}{first}")?,
                false => write!(f, "{or}{}xx", first / 100)?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Expected, D::Error> {
        let ranges = match Value::deserialize(deserializer)? {
            Value::Array(items) => items.iter().map(range).collect(),
            one => range(&one).map(|range| vec![range]),
        };
        ranges.map(Expected).map_err(de::Error::custom)
    }
}

fn range(value: &Value) -> Result<Range, String> {
    let class = |text: &str| match text.as_bytes() {
        [digit @ b'1'..=b'5', b'x', b'x'] => Some(u16::from(digit - b'0') * 100),
        _ => None,
    };
    match value {
        Value::Number(number) => (number.as_u64())
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (100..600).contains(status))
            .map(|status| Range { first: status, last: status }),
        Value::String(text) => class(text).map(|first| Range { first, last: first + 99 }),
        _ => None,
    }
    .ok_or_else(|| format!("{value} is neither a status such as 200 nor a class such as \"2xx\""))
}

impl JsonSchema for Expected {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let status = serde_json::json!({ "type": "integer", "minimum": 100, "maximum": 599 });
        let class = serde_json::json!({ "type": "string", "pattern": "^[1-5]xx$" });
        json_schema!({
            "anyOf": [
                status,
                class,
                { "type": "array", "minItems": 1, "items": { "anyOf": [status, class] } },
            ],
            "default": "2xx",
        })
    }
}

/// Whether the same request may be answered otherwise when it is sent again: the server timed out, is busy, or broken
/// for now. 501 and 505 say that it can't do this at all.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || ((500..600).contains(&status) && !matches!(status, 501 | 505))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected(value: Value) -> Expected {
        serde_json::from_value(value).expect("the value is one that is taken")
    }

    #[test]
    fn statuses_and_classes_are_accepted_alone_or_in_a_list() {
        assert!(expected(json!(204)).accepts(204) && !expected(json!(204)).accepts(200));
        assert!(expected(json!("3xx")).accepts(399) && !expected(json!("3xx")).accepts(400));
        let list = expected(json!(["2xx", 404]));
        assert!(list.accepts(404) && list.accepts(200) && !list.accepts(403));
        assert_eq!(list.to_string(), "2xx or 404");
        assert_eq!(expected(json!("2xx")), Expected::default());
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [json!(99), json!(600), json!("6xx"), json!("200"), json!("2XX"), json!(2.5), json!([null])] {
            assert!(serde_json::from_value::<Expected>(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn what_is_about_the_server_may_pass_and_what_is_about_the_request_does_not() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(may_pass(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 409, 501] {
            assert!(!may_pass(status), "{status}");
        }
    }
}
