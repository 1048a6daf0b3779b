use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};
use serde_json::json;

use super::*;

#[test]
fn a_name_becomes_a_greeting_a_log_line_and_progress() {
    let host = Host::new();
    let output = testing::run::<hello>(json!({ "name": " Ada " })).expect("there is a name");
    assert_eq!(output, json!({ "greeting": "Hello, Ada!" }));
    assert_eq!(host.log(), ["info: greeting Ada"]);
    assert_eq!(host.progress().len(), 1);
}

#[test]
fn nobody_can_not_be_greeted() {
    let failure = testing::run::<hello>(json!({ "name": " " })).expect_err("there is no name");
    assert_eq!(failure.kind, Kind::InvalidInput);
}

#[test]
fn the_step_is_described_by_its_doc_comment_and_its_package() {
    let description = testing::describe::<hello>();
    assert_eq!((&*description.name, &*description.summary), ("hello", "Greets somebody."));
    assert_eq!(description.version, env!("CARGO_PKG_VERSION"));
}
