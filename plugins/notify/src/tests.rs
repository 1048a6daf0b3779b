use std::time::Duration;

use downbeat_sdk::http::{Error, Response};
use downbeat_sdk::testing::{self, Host};

use super::*;

/// Sends a message to a receiver that takes anything, and gives what it got.
fn sent(input: Value) -> Value {
    let host = Host::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    host.on_http(move |request| {
        sender.send(request.clone()).expect("the test waits for it");
        Ok(Response::new(204))
    });
    let output = testing::run::<notify>(input).expect("the receiver takes anything");
    assert_eq!(output, json!({ "status": 204 }));
    let request: Request = receiver.recv().expect("one request was sent");
    assert_eq!(request.method, "POST");
    assert!(request.headers.contains(&("idempotency-key".to_owned(), b"run-1/step".to_vec())));
    assert!(request.headers.contains(&("content-type".to_owned(), b"application/json".to_vec())));
    serde_json::from_slice(&request.body.expect("a message has a body")).expect("the body is JSON")
}

#[test]
fn a_generic_message_has_everything_in_fields_of_its_own() {
    assert_eq!(
        sent(json!({
            "url": "https://hooks.example.org/x", "title": "Rolled back", "text": "p95 is too slow", "level": "error",
            "fields": { "p95": 312.5, "version": "3f2a1c9" }, "link": "https://ci.example.org/7",
        })),
        json!({
            "title": "Rolled back", "text": "p95 is too slow", "level": "error",
            "fields": { "p95": 312.5, "version": "3f2a1c9" }, "link": "https://ci.example.org/7",
            "source": { "workflow": "workflow", "run": "run-1", "step": "step" },
        })
    );
}

#[test]
fn a_slack_message_is_one_text_in_its_markup() {
    assert_eq!(
        sent(json!({
            "url": "https://hooks.example.org/x", "kind": "slack", "title": "Rolled back", "text": "p95 > 250",
            "level": "error", "fields": { "p95": 312.5, "by": "<!channel> & co" }, "link": "https://ci.example.org/a|b",
        })),
        json!({
            "text": ":rotating_light: *Rolled back*\np95 &gt; 250\n• by: &lt;!channel&gt; &amp; co\n• p95: 312.5\n\
                     <https://ci.example.org/a%7Cb>\n_workflow · run-1_"
        })
    );
}

#[test]
fn a_body_is_sent_as_it_is() {
    let body = json!({ "msgtype": "m.text", "body": "hello" });
    assert_eq!(sent(json!({ "url": "http://x", "title": "t", "body": body })), body);
}

fn failure(answer: Result<Response, Error>) -> Failure {
    let host = Host::new();
    let mut answer = Some(answer);
    host.on_http(move |_| answer.take().expect("one request is sent"));
    testing::run::<notify>(json!({ "url": "https://hooks.example.org/secret", "title": "Hi" })).expect_err("it fails")
}

#[test]
fn a_busy_receiver_is_tried_again_and_one_that_refuses_is_not() {
    let busy = failure(Ok(Response::new(429).with_header("retry-after", "30")));
    assert_eq!((busy.kind, busy.retry_after), (downbeat_sdk::Kind::Transient, Some(Duration::from_secs(30))));
    assert_eq!(failure(Ok(Response::new(502))).kind, downbeat_sdk::Kind::Transient);
    assert_eq!(failure(Err(Error::Connection("reset".into()))).kind, downbeat_sdk::Kind::Transient);

    let gone = failure(Ok(Response::new(410).body("channel_is_archived")));
    assert_eq!(gone.kind, downbeat_sdk::Kind::Permanent);
    assert_eq!(gone.details.expect("it has details")["body"], "channel_is_archived");
}

#[test]
fn the_webhooks_address_is_kept_out_of_messages_and_logs() {
    let failure = failure(Ok(Response::new(410)));
    assert!(!failure.message.contains("secret"), "{}", failure.message);
    let host = Host::new();
    host.on_http(|_| Ok(Response::new(200)));
    testing::run::<notify>(json!({ "url": "https://hooks.example.org/secret", "title": "Hi" })).expect("it is sent");
    assert_eq!(host.log(), ["info: sent \"Hi\", answered 200"]);
}
