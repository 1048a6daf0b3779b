use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};
use serde_json::{Value, json};

use super::*;

fn run(input: Value) -> Result<Value, Failure> {
    testing::run::<kpi_gate>(input)
}

fn latency(value: Value) -> Value {
    json!({ "name": "p95", "value": value, "baseline": 200, "pass": ["<= 250", "<= +20%"], "warning": ["<= 300"] })
}

#[test]
fn a_pass_shows_everything_that_led_to_it() {
    let host = Host::new();
    assert_eq!(
        run(json!({ "objectives": [latency(json!(230))] })).expect("it passes"),
        json!({
            "verdict": "pass",
            "score": 1.0,
            "summary": "pass: the score is 100%",
            "results": [{
                "name": "p95", "verdict": "pass", "reason": "230 is <= 250; 230 is <= 240 (+20% from 200)",
                "value": 230.0, "baseline": 200.0, "pass": ["<= 250", "<= +20%"], "warning": ["<= 300"],
                "weight": 1.0, "key": false,
            }],
        })
    );
    assert_eq!(host.log(), ["info: pass: the score is 100%"]);
}

#[test]
fn a_failed_gate_is_a_permanent_failure_with_the_results() {
    let failure = run(json!({ "objectives": [latency(json!(312.5))] })).expect_err("it fails");
    assert_eq!(failure.kind, Kind::Permanent);
    assert_eq!(failure.message, "fail: the score 0% is below 75%\np95: fail, 312.5 is not <= 300");
    let details = failure.details.expect("the results are there");
    assert_eq!((&details["verdict"], &details["results"][0]["verdict"]), (&json!("fail"), &json!("fail")));
}

#[test]
fn missing_data_never_passes() {
    for objective in [
        latency(Value::Null),
        json!({ "name": "p95", "pass": ["<= 250"] }),
        json!({ "name": "p95", "value": 1, "pass": ["<= +20%"] }),
    ] {
        let failure = run(json!({ "objectives": [objective] })).expect_err("data is missing");
        assert_eq!(failure.kind, Kind::Permanent);
        assert!(failure.message.starts_with("inconclusive: data is missing for p95"), "{}", failure.message);
    }
}

#[test]
fn fail_on_says_which_verdicts_stop_the_workflow() {
    let verdict = |fail_on: &str, value: Value| {
        let outcome = run(json!({ "objectives": [latency(value)], "warning-score": 0.5, "fail-on": fail_on }));
        outcome
            .map(|output| output["verdict"].clone())
            .map_err(|failure| failure.details.expect("set")["verdict"].clone())
    };
    assert_eq!(verdict("fail", json!(270)), Ok(json!("warning")));
    assert_eq!(verdict("warning", json!(270)), Err(json!("warning")));
    assert_eq!(verdict("warning", json!(230)), Ok(json!("pass")));
    assert_eq!(verdict("never", json!(999)), Ok(json!("fail")));
    assert_eq!(verdict("never", Value::Null), Ok(json!("inconclusive")));
    assert_eq!(verdict("warning", Value::Null), Err(json!("inconclusive")));
}

#[test]
fn a_gate_that_could_not_judge_is_refused_as_input() {
    for (input, part) in [
        (json!({ "objectives": [] }), "would let anything pass"),
        (json!({ "objectives": [{ "name": "a", "value": 1, "pass": [] }] }), "would always pass"),
        (json!({ "objectives": [{ "name": "a", "value": 1, "pass": ["fast"] }] }), "the objective `a`: `fast` is not"),
        (json!({ "objectives": [{ "name": "a", "pass": ["< 1"], "weight": 0 }] }), "must be greater than 0"),
        (json!({ "objectives": [latency(json!(1)), latency(json!(1))] }), "two of this name"),
        (json!({ "objectives": [latency(json!(1))], "pass-score": 0.5 }), "0 <= warning-score <= pass-score <= 1"),
        (json!({ "objectives": [latency(json!("NaN"))] }), "`objectives[0].value` can't be used"),
        (json!({ "objectives": [latency(json!(1))], "strict": true }), "unknown field `strict`"),
    ] {
        let failure = run(input).expect_err(part);
        assert_eq!(failure.kind, Kind::InvalidInput);
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<kpi_gate>();
    assert_eq!(input["required"], json!(["objectives"]));
    assert_eq!(input["properties"]["pass-score"]["default"], 0.9);
    let objective = &input["$defs"]["InputObjective"];
    assert_eq!(objective["properties"]["value"]["type"], json!(["number", "null"]));
    assert_eq!(objective["required"], json!(["name", "pass"]));
    assert_eq!(output["properties"]["score"]["type"], "number");
}
