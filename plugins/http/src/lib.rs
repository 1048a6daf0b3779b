//! Sends one HTTP request and fails when the answer is not the expected one; or sends it many times and reports what
//! came of it, without failing.
//!
//! What an answer means for the engine (try again, or don't) is decided here; connections, TLS and bounds are the
//! host's and the SDK's.

mod stats;
mod status;

use std::collections::BTreeMap;

use downbeat_sdk::TextDuration;
use downbeat_sdk::http::{Error, Request, Response};
use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stats::{Observation, Stats};
use crate::status::Expected;

/// How much of a body a failure's details keep, in bytes.
const DETAILS_BODY: usize = 4096;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// Absolute, `https` or `http`. Its host must be granted by `http`.
    url: String,
    /// GET, POST, …
    #[serde(default = "get")]
    #[schemars(regex(pattern = r"^[A-Za-z]+$"))]
    method: String,
    /// Sent as they are. Names in any case.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text to send. Not together with `json`.
    body: Option<String>,
    /// A value to send as JSON, with the `content-type` to match.
    json: Option<Value>,
    /// Bounds connecting, waiting for an answer, and waiting for more of it, each.
    #[serde(default = "thirty_seconds")]
    #[schemars(default = "thirty_seconds_text")]
    timeout: TextDuration,
    /// Statuses that mean success: `200`, or a class such as `"2xx"`; one or a list of them.
    #[serde(default)]
    expect_status: Expected,
    /// The largest body that is read of an answer, in bytes.
    #[serde(default = "four_mib")]
    max_body: usize,
    /// Send the request many times and measure, instead of once.
    repeat: Option<Repeat>,
}

/// A measurement: the requests go out one after the other. Answers that are not expected and answers that don't come
/// are counted and fail nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Repeat {
    /// How many requests.
    #[schemars(range(min = 1, max = 100_000))]
    count: u32,
    /// How long to pause between two of them.
    delay: Option<TextDuration>,
}

fn get() -> String {
    "GET".to_owned()
}

fn thirty_seconds() -> TextDuration {
    TextDuration(http::DEFAULT_TIMEOUT)
}

fn thirty_seconds_text() -> &'static str {
    "30s"
}

fn four_mib() -> usize {
    http::DEFAULT_MAX_BODY
}

/// The answer, the last one of a measurement. What is left out did not come.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Names in lower case; the values of a name that comes several times are joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    /// What is no UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body, if its `content-type` is JSON and it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    /// From sending the request to the end of the body, in milliseconds; null without the grant `clock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<Option<f64>>,
    /// With `repeat`: the measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
}

/// Sends an HTTP request, once or as a measurement.
#[step(wants(http = "sends the request", clock = "measures latency"))]
fn request(context: &Context, input: Input) -> Result<Output, Failure> {
    let request = prepare(context, &input)?;
    match &input.repeat {
        None => Ok(answer(&once(&request, &input.expect_status)?)),
        Some(repeat) => measure(&request, &input.expect_status, repeat),
    }
}

fn prepare(context: &Context, input: &Input) -> Result<Request, Failure> {
    let mut request = Request::new(&input.method, &input.url).timeout(input.timeout.0).max_body(input.max_body);
    for (name, value) in &input.headers {
        request = request.header(name, value.as_bytes());
    }
    request = match (&input.body, &input.json) {
        (Some(_), Some(_)) => {
            return Err(Failure::invalid_input("there are both `body` and `json`; a request has one body"));
        }
        (Some(body), None) => request.body(body.as_bytes()),
        (None, Some(json)) => request.json(json)?,
        (None, None) => request,
    };
    // An attempt may be made again after an interruption: let the server see that it is the same request. The other
    // methods are idempotent by definition (RFC 9110, section 9.2.2). Repeats of a measurement are meant to differ.
    let repeatable = !matches!(request.method.as_str(), "POST" | "PATCH");
    if !repeatable && input.repeat.is_none() && !request.has_header("idempotency-key") {
        request = request.header("idempotency-key", context.idempotency_key.as_bytes());
    }
    Ok(request)
}

fn once(request: &Request, expected: &Expected) -> Result<Response, Failure> {
    let response = request.send()?;
    if expected.accepts(response.status) {
        return Ok(response);
    }
    let status = response.status;
    let message = format!("{} {} answered {status}, expected {expected}", request.method, request.url);
    let failure = match status::may_pass(status) {
        true => Failure::transient(message),
        false => Failure::permanent(message),
    };
    let failure = match response.retry_after() {
        Some(delay) => failure.retry_after(delay),
        None => failure,
    };
    let body = &response.body[..response.body.len().min(DETAILS_BODY)];
    Err(failure.details(json!({
        "status": status,
        "headers": headers(&response),
        "body": String::from_utf8_lossy(body),
    })))
}

fn measure(request: &Request, expected: &Expected, repeat: &Repeat) -> Result<Output, Failure> {
    if repeat.count == 0 {
        return Err(Failure::invalid_input("`repeat.count` is 0: there is nothing to measure"));
    }
    let mut observations = Vec::new();
    let mut last = None;
    let mut first_error: Option<Error> = None;
    for index in 0..repeat.count {
        if let (1.., Some(delay)) = (index, repeat.delay) {
            std::thread::sleep(delay.0);
        }
        observations.push(match request.send() {
            Ok(response) => {
                let (status, elapsed) = (response.status, response.elapsed);
                last = Some(response);
                match expected.accepts(status) {
                    true => Observation::Success { status, elapsed },
                    false => Observation::Unexpected { status },
                }
            }
            // Not a property of the server that is measured: it would be the same a thousand times.
            Err(error @ (Error::Refused(_) | Error::Invalid(_))) => return Err(error.into()),
            Err(error) => {
                first_error.get_or_insert(error);
                Observation::Lost
            }
        });
        progress::report(u64::from(index) + 1, u64::from(repeat.count), &request.url);
    }
    if let Some(error) = first_error {
        log::warn!("requests failed, the first of them so: {error}");
    }
    if last.as_ref().is_some_and(|response: &Response| response.elapsed.is_none()) {
        log::warn!("latency is not measured; to measure it, set `clock = true` in the grants of the step");
    }
    Ok(Output { stats: Some(Stats::of(&observations)), ..last.as_ref().map(answer).unwrap_or_default() })
}

fn answer(response: &Response) -> Output {
    let content_type = response.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    Output {
        status: Some(response.status),
        headers: Some(headers(response)),
        body: Some(response.text().into_owned()),
        json: if is_json { response.json().ok() } else { None },
        elapsed_ms: Some(response.elapsed.map(|elapsed| (elapsed.as_secs_f64() * 1e6).round() / 1e3)),
        stats: None,
    }
}

fn headers(response: &Response) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &response.headers {
        let value = String::from_utf8_lossy(value);
        headers.entry(name.clone()).and_modify(|all| *all = format!("{all}, {value}")).or_insert(value.into_owned());
    }
    headers
}

#[cfg(test)]
mod tests;
