//! Tells people through a webhook, in a form of its own or in the one that Slack and its relatives understand.
//!
//! The texts come in finished: a workflow's `${…}` has already put in what there was to put in. A receiver that wants
//! another form gets `body`, as it is. The URL often is a secret: it is neither logged nor part of a message.

mod message;

use std::collections::BTreeMap;

use downbeat_sdk::TextDuration;
use downbeat_sdk::http::Request;
use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::message::{Kind, Level};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// The webhook. Its host must be granted by `http`.
    url: String,
    /// The form of the message.
    #[serde(default)]
    kind: Kind,
    /// What it is about, in one line.
    #[schemars(length(min = 1))]
    title: String,
    /// More about it.
    text: Option<String>,
    /// How serious it is.
    #[serde(default)]
    level: Level,
    /// Facts, shown as a list.
    #[serde(default)]
    fields: BTreeMap<String, Value>,
    /// Where to read on.
    link: Option<String>,
    /// Sent as it is instead of a message made of the above.
    body: Option<Value>,
    /// Additional headers, such as `authorization`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Bounds connecting and waiting for an answer, each.
    #[serde(default = "ten_seconds")]
    #[schemars(default = "ten_seconds_text")]
    timeout: TextDuration,
}

/// A message is small and its receiver queues it: who has not answered by then is in trouble.
fn ten_seconds() -> TextDuration {
    TextDuration(std::time::Duration::from_secs(10))
}

fn ten_seconds_text() -> &'static str {
    "10s"
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// What the receiver answered: 200 to 299.
    status: u16,
}

/// Sends a message to a webhook.
#[step(wants(http = "sends the message"))]
fn notify(context: &Context, input: Input) -> Result<Output, Failure> {
    let body = input.body.clone().unwrap_or_else(|| message::render(context, &input));
    let mut request = Request::post(&input.url).timeout(input.timeout.0);
    for (name, value) in &input.headers {
        request = request.header(name, value.as_bytes());
    }
    // After an interruption the message may be sent again: a receiver that knows the header shows it once.
    if !request.has_header("idempotency-key") {
        request = request.header("idempotency-key", context.idempotency_key.as_bytes());
    }
    let response = request.json(&body)?.send()?;

    let status = response.status;
    if response.is_success() {
        log::info!("sent \"{}\", answered {status}", input.title);
        return Ok(Output { status });
    }
    let message = format!("the webhook answered {status} to the message \"{}\"", input.title);
    let failure = match status {
        408 | 429 | 500.. => Failure::transient(message),
        _ => Failure::permanent(message),
    };
    let failure = match response.retry_after() {
        Some(delay) => failure.retry_after(delay),
        None => failure,
    };
    let answer: String = response.text().chars().take(message::ANSWER_CHARS).collect();
    Err(failure.details(json!({ "status": status, "body": answer })))
}

#[cfg(test)]
mod tests;
