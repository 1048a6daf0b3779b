//! How a step fails, and what it means for the attempt that follows.
//!
//! One type for all of them, so that `?` works on any error: the SDK's own errors know whether trying again can help,
//! everything else is permanent until the author says otherwise.

use std::any::Any;
use std::error::Error;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{artifacts, http, process};

/// How a step fails. The engine decides by the [`Kind`] and never reads meaning out of the message, which is for people:
/// one or two sentences on what went wrong, where, and what to do.
///
/// ```
/// use std::time::Duration;
/// use downbeat_sdk::Failure;
///
/// let failure = Failure::transient("the registry answered 503")
///     .retry_after(Duration::from_secs(5))
///     .details(serde_json::json!({ "status": 503 }));
/// # assert_eq!(failure.message, "the registry answered 503");
/// ```
///
/// Every `std::error::Error` turns into a failure by `?`. It is permanent, with the messages of its sources joined by
/// colons, except for the SDK's own: an [`http::Error`] of the network or a program's time-out is transient.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// What the engine makes of it.
    pub kind: Kind,
    /// What went wrong, for a person.
    pub message: String,
    /// Facts for later steps and for people.
    pub details: Option<Map<String, Value>>,
    /// Not sooner than this; only for a transient failure.
    pub retry_after: Option<Duration>,
}

/// What the engine makes of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input is not what the step takes. Never retried.
    InvalidInput,
    /// Trying again may help. Retried as the workflow's `retry` says.
    Transient,
    /// Trying again will not help. Never retried.
    Permanent,
}

impl Failure {
    /// The input passed its schema and is wrong all the same: say which field, and what it should be.
    pub fn invalid_input(message: impl Into<String>) -> Failure {
        Failure::new(Kind::InvalidInput, message)
    }

    /// The problem may be gone when the engine tries again: a busy server, a lost connection.
    pub fn transient(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Transient, message)
    }

    /// Trying again will not help: a test that fails, a file that isn't there.
    pub fn permanent(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Permanent, message)
    }

    /// Asks the engine not to try again sooner than this. The workflow's own delay applies when it is longer. Only a
    /// transient failure is tried again at all; on the others this says nothing.
    pub fn retry_after(mut self, delay: Duration) -> Failure {
        self.retry_after = Some(delay);
        self
    }

    /// Facts for later steps and for people: `${steps.NAME.failure.details}`. What serialises to a JSON object is kept
    /// as it is; anything else is put under the key `value`. Details that can't be JSON (a NaN, a map whose keys are
    /// no strings) are replaced by the reason, under the key `lost`: a failure must never get lost over its details.
    pub fn details(mut self, details: impl Serialize) -> Failure {
        let details = crate::finite::check(&details)
            .and_then(|()| serde_json::to_value(&details).map_err(|error| error.to_string()))
            .unwrap_or_else(|reason| serde_json::json!({ "lost": reason }));
        self.details = Some(match details {
            Value::Object(object) => object,
            other => Map::from_iter([("value".to_owned(), other)]),
        });
        self
    }

    fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), details: None, retry_after: None }
    }
}

// Like `anyhow::Error`, a failure is no `Error` itself: that is what leaves room for this one conversion.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_message = cause.to_string();
            // Many errors repeat their source in their own message.
            if !message.ends_with(&cause_message) {
                message = format!("{message}: {cause_message}");
            }
            source = cause.source();
        }

        let error = &error as &dyn Any;
        let transient = if let Some(error) = error.downcast_ref::<http::Error>() {
            error.is_transient()
        } else if let Some(error) = error.downcast_ref::<process::Error>() {
            matches!(error, process::Error::TimedOut(_))
        } else {
            false
        };
        let failure = if transient { Failure::transient(message) } else { Failure::permanent(message) };

        let refused = (error.downcast_ref::<Refused>())
            .or_else(|| error.downcast_ref::<http::Error>().and_then(http::Error::refused))
            .or_else(|| error.downcast_ref::<process::Error>().and_then(process::Error::refused))
            .or_else(|| error.downcast_ref::<artifacts::Error>().and_then(artifacts::Error::refused));
        match refused {
            Some(Refused { capability, wanted, hint }) => {
                let mut details = serde_json::json!({ "capability": capability, "wanted": wanted });
                if !hint.is_empty() {
                    details["hint"] = hint.as_str().into();
                }
                failure.details(details)
            }
            None => failure,
        }
    }
}

/// The host said no: the workflow did not grant what was asked. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The grant's name: `process`, `http`, `artifacts`, …
    pub capability: String,
    /// What was asked for: a program's name, a path, a host.
    pub wanted: String,
    /// The line that would allow it, to be put into the step's table in the workflow's TOML: `grant = { … }`. If another
    /// key took away what the workflow grants, which one. Empty for a request, whose refusal WASI has no words for: then only
    /// the engine says what would allow it, beside the failure.
    pub hint: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refused { capability, wanted, hint } = self;
        match hint.as_str() {
            // It may be granted, and taken away by another key.
            "" => write!(f, "`{wanted}` is refused to this step ({capability})"),
            // By the contract of `types.wit`.
            line if line.starts_with("grant = ") => {
                write!(f, "`{wanted}` is not granted to this step ({capability}); to allow it, set in the step: {line}")
            }
            why => write!(f, "`{wanted}` is kept from this step ({capability}): {why}"),
        }
    }
}

impl Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_becomes_a_permanent_failure_with_its_sources() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("cannot read the report")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure = Failure::from(Outer(std::io::Error::other("the disk is gone")));
        assert_eq!(failure.kind, Kind::Permanent);
        assert_eq!(failure.message, "cannot read the report: the disk is gone");
    }

    #[test]
    fn a_refusal_is_permanent_and_shows_the_line_that_would_allow_it() {
        let refused = Refused {
            capability: "process".into(),
            wanted: "cargo".into(),
            hint: r#"grant = { process = ["cargo"] }"#.into(),
        };
        for failure in [Failure::from(refused.clone()), Failure::from(process::Error::Refused(refused))] {
            assert_eq!(failure.kind, Kind::Permanent);
            assert_eq!(
                failure.message,
                "`cargo` is not granted to this step (process); to allow it, set in the step: \
                 grant = { process = [\"cargo\"] }"
            );
            assert_eq!(failure.details.as_ref().expect("a refusal has details")["wanted"], "cargo");
        }
    }

    #[test]
    fn a_refusal_tells_of_a_line_to_set_only_where_there_is_one() {
        let refused = |hint: &str| {
            Failure::from(Refused { capability: "http".into(), wanted: "a.org".into(), hint: hint.into() })
        };
        let taken = refused("granted, and taken away by rule `web` of policy.toml:3");
        assert_eq!(
            taken.message,
            "`a.org` is kept from this step (http): granted, and taken away by rule `web` of policy.toml:3"
        );
        let unknown = refused("");
        assert_eq!(unknown.message, "`a.org` is refused to this step (http)");
        let details = unknown.details.expect("a refusal has details");
        assert_eq!(Value::Object(details), serde_json::json!({ "capability": "http", "wanted": "a.org" }));
    }

    #[test]
    fn network_trouble_is_transient_and_a_bad_url_is_not() {
        assert_eq!(Failure::from(http::Error::TimedOut("10s".into())).kind, Kind::Transient);
        assert_eq!(Failure::from(http::Error::Connection("refused".into())).kind, Kind::Transient);
        assert_eq!(Failure::from(http::Error::Invalid("no scheme".into())).kind, Kind::Permanent);
    }

    #[test]
    fn details_are_always_an_object() {
        let details = |value: Value| Value::Object(Failure::permanent("").details(value).details.expect("just set"));
        assert_eq!(details(serde_json::json!({ "a": 1 })), serde_json::json!({ "a": 1 }));
        assert_eq!(details(serde_json::json!([1, 2])), serde_json::json!({ "value": [1, 2] }));
    }

    #[test]
    fn details_that_are_no_json_are_replaced_by_the_reason() {
        let failure = Failure::permanent("").details([1.0, f64::NAN]);
        assert_eq!(failure.details.as_ref().expect("just set")["lost"], "`[1]` is NaN, and JSON has no such number");
    }
}
