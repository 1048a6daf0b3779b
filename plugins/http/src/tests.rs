use std::time::Duration;

use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};

use super::*;

/// A host that answers with these, one after the other.
fn answering(responses: impl IntoIterator<Item = Result<Response, Error>>) -> Host {
    let mut responses: Vec<_> = responses.into_iter().collect();
    responses.reverse();
    let host = Host::new();
    host.on_http(move |_| responses.pop().expect("no more requests than answers"));
    host
}

fn took(status: u16, ms: u64) -> Result<Response, Error> {
    Ok(Response::new(status).with_elapsed(Duration::from_millis(ms)))
}

#[test]
fn every_field_of_the_input_reaches_the_request() {
    let host = Host::new();
    host.on_http(|request| {
        assert_eq!((&*request.method, &*request.url), ("PUT", "https://example.org/a"));
        assert_eq!(request.headers[0], ("accept".to_owned(), b"text/plain".to_vec()));
        assert_eq!(request.body.as_deref(), Some(&b"hello"[..]));
        assert_eq!((request.timeout, request.max_body), (Duration::from_secs(2), 100));
        Ok(Response::new(201))
    });
    let output = testing::run::<request>(json!({
        "url": "https://example.org/a", "method": "put", "headers": { "accept": "text/plain" }, "body": "hello",
        "timeout": "2s", "max-body": 100, "expect-status": 201,
    }));
    assert_eq!(output.expect("201 is expected")["status"], 201);
}

#[test]
fn an_answer_comes_with_its_headers_and_as_json_if_it_is() {
    let _host = answering([Ok(Response::new(200)
        .with_header("Content-Type", "application/problem+json; charset=utf-8")
        .with_header("Vary", "a")
        .with_header("Vary", "b")
        .with_elapsed(Duration::from_micros(1_500))
        .body(r#"{"ok":true}"#))]);
    assert_eq!(
        testing::run::<request>(json!({ "url": "http://x" })).expect("200 is expected"),
        json!({
            "status": 200,
            "headers": { "content-type": "application/problem+json; charset=utf-8", "vary": "a, b" },
            "body": "{\"ok\":true}",
            "json": { "ok": true },
            "elapsed-ms": 1.5,
        })
    );
}

#[test]
fn without_a_clock_the_elapsed_time_is_null() {
    let _host = answering([Ok(Response::new(200))]);
    let output = testing::run::<request>(json!({ "url": "http://x" })).expect("200 is expected");
    assert_eq!(output.get("elapsed-ms"), Some(&Value::Null));
    assert_eq!(output.get("json"), None);
}

#[test]
fn a_busy_server_is_a_transient_failure_that_keeps_its_retry_after() {
    let _host = answering([Ok(Response::new(503).with_header("Retry-After", "7").body("busy"))]);
    let failure = testing::run::<request>(json!({ "url": "http://x/" })).expect_err("503 is not expected");
    assert_eq!((failure.kind, failure.retry_after), (Kind::Transient, Some(Duration::from_secs(7))));
    assert_eq!(failure.message, "GET http://x/ answered 503, expected 2xx");
    assert_eq!(
        failure.details.map(Value::Object),
        Some(json!({ "status": 503, "headers": { "retry-after": "7" }, "body": "busy" }))
    );
}

#[test]
fn a_wrong_request_is_a_permanent_failure_and_a_lost_connection_a_transient_one() {
    let kind = |answer| {
        let _host = answering([answer]);
        testing::run::<request>(json!({ "url": "http://x" })).expect_err("it is no success").kind
    };
    assert_eq!(kind(Ok(Response::new(404))), Kind::Permanent);
    assert_eq!(kind(Ok(Response::new(302))), Kind::Permanent);
    assert_eq!(kind(Ok(Response::new(429))), Kind::Transient);
    assert_eq!(kind(Err(Error::Connection("reset".into()))), Kind::Transient);
    assert_eq!(kind(Err(Error::TimedOut("10s".into()))), Kind::Transient);
    assert_eq!(kind(Err(Error::Protocol("not HTTP".into()))), Kind::Permanent);
}

#[test]
fn a_post_carries_the_idempotency_key_unless_it_has_its_own() {
    let key = |input: Value| {
        let host = Host::new();
        host.on_http(|request| {
            let keys: Vec<_> = request.headers.iter().filter(|(name, _)| name == "idempotency-key").collect();
            assert!(keys.len() <= 1);
            Ok(Response::new(200).body(keys.first().map_or(Vec::new(), |(_, value)| value.clone())))
        });
        testing::run::<request>(input).expect("200 is expected")["body"].clone()
    };
    assert_eq!(key(json!({ "url": "http://x", "method": "POST", "json": {} })), "run-1/step");
    assert_eq!(key(json!({ "url": "http://x", "method": "POST", "headers": { "idempotency-key": "mine" } })), "mine");
    assert_eq!(key(json!({ "url": "http://x" })), "");
}

#[test]
fn a_body_is_text_or_json_and_not_both() {
    let failure =
        testing::run::<request>(json!({ "url": "http://x", "body": "a", "json": 1 })).expect_err("two bodies");
    assert_eq!(failure.kind, Kind::InvalidInput);
}

#[test]
fn a_measurement_counts_what_would_fail_a_single_request() {
    let host = answering([took(200, 10), took(500, 1), Err(Error::Connection("reset".into())), took(200, 30)]);
    let output = testing::run::<request>(json!({ "url": "http://x", "repeat": { "count": 4 } }));
    let output = output.expect("a measurement does not fail");
    assert_eq!(
        output["stats"],
        json!({
            "requests": 4, "errors": 2, "error-rate": 0.5, "statuses": { "200": 2, "500": 1 },
            "latency-ms": { "min": 10.0, "mean": 20.0, "p50": 10.0, "p95": 30.0, "p99": 30.0, "max": 30.0 },
        })
    );
    assert_eq!((&output["status"], &output["elapsed-ms"]), (&json!(200), &json!(30.0)));
    assert_eq!(host.log(), ["warn: requests failed, the first of them so: the connection failed: reset"]);
    assert_eq!(host.progress().last().map(|progress| progress.done), Some(4));
}

#[test]
fn a_server_that_never_answers_has_an_error_rate_of_one_and_no_latency() {
    let _host = answering([Err(Error::TimedOut("5s".into())), Err(Error::Connection("refused".into()))]);
    let output = testing::run::<request>(json!({ "url": "http://x", "repeat": { "count": 2 } })).expect("no failure");
    assert_eq!(output["stats"]["error-rate"], 1.0);
    assert_eq!(output["stats"]["latency-ms"]["p95"], Value::Null);
    assert_eq!(output.get("status"), None);
}

#[test]
fn a_measurement_without_a_clock_says_how_to_get_one() {
    let host = answering([Ok(Response::new(200)), Ok(Response::new(200))]);
    let output = testing::run::<request>(json!({ "url": "http://x", "repeat": { "count": 2 } })).expect("no failure");
    assert_eq!(output["stats"]["latency-ms"]["p95"], Value::Null);
    assert_eq!(
        host.log(),
        ["warn: latency is not measured; to measure it, set `clock = true` in the grants of the step"]
    );
}

#[test]
fn an_ungranted_host_fails_a_measurement_at_once() {
    let _host = Host::new();
    let failure = testing::run::<request>(json!({ "url": "http://x:81/", "repeat": { "count": 9 } }))
        .expect_err("nothing is granted");
    assert_eq!(failure.kind, Kind::Permanent);
    assert_eq!(failure.message, "`GET http://x:81/` is refused to this step (http)");
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<request>();
    assert_eq!(input["required"], json!(["url"]));
    assert_eq!(input["properties"]["timeout"]["default"], "30s");
    assert_eq!(input["properties"]["expect-status"]["default"], "2xx");
    let stats = &output["$defs"]["Stats"]["properties"];
    assert_eq!(stats["error-rate"]["type"], "number");
    assert_eq!(output["$defs"]["Latency"]["properties"]["p95"]["type"], json!(["number", "null"]));
}
