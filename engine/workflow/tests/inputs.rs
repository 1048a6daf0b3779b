//! What a run is given, held against what the workflow declares.

#![allow(clippy::unwrap_used)]

mod components;

use downbeat_workflow::inputs::{accept, parse_argument};
use downbeat_workflow::plan::{InputType, Plan};
use downbeat_workflow::spec::Source;
use serde_json::{Value, json};

fn plan() -> Plan {
    let text = r#"
        name = "inputs"
        [inputs]
        commit = { type = "string", pattern = "^[0-9a-f]{7,40}$", description = "what to release" }
        region = { type = "string", enum = ["eu", "us"], default = "eu" }
        size = { type = "integer", required = false }
        ratio = { type = "number", default = 1, enum = [1, 2.5] }
        tags = { type = "list", default = [] }
        [plugins]
        any = "any.wasm"
        [steps.a]
        use = "any"
        with = { all = "${inputs}" }
    "#;
    let (plan, diagnostics) = components::check(&Source::new("inputs.toml", text));
    assert_eq!(diagnostics, []);
    plan.unwrap()
}

fn check(given: Value, expected: Result<Value, &[&str]>) {
    let Value::Object(given) = given else { panic!("an object") };
    let expected = expected.map_err(|faults| faults.iter().map(|fault| (*fault).to_owned()).collect::<Vec<_>>());
    assert_eq!(accept(&plan(), given).map(|json| json.value()), expected);
}

#[test]
fn defaults_are_filled_in_and_what_is_optional_is_null() {
    check(
        json!({ "commit": "0123456" }),
        Ok(json!({ "commit": "0123456", "ratio": 1, "region": "eu", "size": null, "tags": [] })),
    );
    check(
        json!({ "commit": "0123456", "size": null, "ratio": 2.5, "tags": [1, {}], "region": "us" }),
        Ok(json!({ "commit": "0123456", "ratio": 2.5, "region": "us", "size": null, "tags": [1, {}] })),
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    check(
        json!({ "comit": "0123456", "zone": 1, "region": "uk", "size": 1.5, "ratio": 2, "tags": null }),
        Err(&[
            "there is no input `comit`; did you mean `commit`?",
            "there is no input `zone`; the workflow has `commit`, `ratio`, `region`, `size`, `tags`",
            "input `region` can't be \"uk\"; it is one of \"eu\", \"us\"",
            "input `size` has to be an integer, not a fractional number",
            "input `ratio` can't be 2; it is one of 1, 2.5",
            "input `tags` has to be a list, not null",
            "input `commit` is missing (string: what to release)",
        ]),
    );
    check(
        json!({ "commit": "HEAD" }),
        Err(&["input `commit` has to match the pattern `^[0-9a-f]{7,40}$`, which \"HEAD\" does not"]),
    );
}

#[test]
fn arguments_are_read_as_their_type() {
    for (kind, text, expected) in [
        (InputType::String, "5", Ok(json!("5"))),
        (InputType::String, " \"x\" ", Ok(json!(" \"x\" "))),
        (InputType::Integer, "5", Ok(json!(5))),
        (InputType::Integer, "5.5", Err("`5.5` is not a whole number such as `3`")),
        (InputType::Integer, "99999999999999999999", Err("`99999999999999999999` is not a whole number such as `3`")),
        (InputType::Number, "5", Ok(json!(5))),
        (InputType::Number, "NaN", Err("`NaN` is not a number such as `0.5`")),
        (InputType::Boolean, "true", Ok(json!(true))),
        (InputType::Boolean, "yes", Err("`yes` is not `true` or `false`")),
        (InputType::List, "[1, \"a\"]", Ok(json!([1, "a"]))),
        (InputType::List, "a,b", Err("`a,b` is not a JSON list such as `[\"a\", \"b\"]`")),
        (InputType::Object, "{\"a\": 1}", Ok(json!({ "a": 1 }))),
        (InputType::Object, "[]", Err("`[]` is not a JSON object such as `{\"a\": 1}`")),
    ] {
        assert_eq!(parse_argument(kind, text), expected.map_err(str::to_owned), "{kind:?} {text}");
    }
}
