//! The step as a workflow sees it: JSON in, JSON out.

use downbeat_sdk::testing;
use serde_json::{Value, json};

use super::*;

fn policy() -> Value {
    json!({ "min-workers": 1, "max-workers": 6, "per-worker": 40, "objective": { "p95-ms": 500 } })
}

fn window(requests: u64, workers: u32, p95_ms: Option<f64>) -> Value {
    json!({ "window-ms": 1_000, "requests": requests, "failed": 0, "workers": workers, "p95-ms": p95_ms })
}

fn decide(policy: &Value, window: Option<Value>, history: &Value) -> Result<Value, Failure> {
    testing::run::<capacity>(json!({ "policy": policy, "window": window, "history": history }))
}

#[test]
fn a_day_of_decisions_each_made_with_the_one_before() {
    let mut last = decide(&policy(), None, &json!([])).unwrap();
    let mut story = vec![(last["action"].clone(), last["to"].clone())];
    for requests in [20, 100, 100, 20, 20, 20] {
        let workers = last["to"].as_u64().unwrap() as u32;
        last = decide(&last["policy"], Some(window(requests, workers, Some(52.0))), &last["history"]).unwrap();
        story.push((last["action"].clone(), last["to"].clone()));
    }
    let expected = [("hold", 1), ("hold", 1), ("up", 5), ("hold", 5), ("hold", 5), ("down", 1), ("hold", 1)];
    assert_eq!(story, expected.map(|(action, to)| (json!(action), json!(to))));
    assert_eq!(last["history"].as_array().unwrap().len(), 6);
}

#[test]
fn the_policy_comes_out_with_its_defaults() {
    let output = decide(&policy(), None, &json!([])).unwrap();
    let expected = json!({
        "min-workers": 1, "max-workers": 6, "per-worker": 40.0, "target": 0.6, "up-above": 0.8, "down-below": 0.3,
        "down-after": 2, "objective": { "p95-ms": 500.0, "error-rate": 0.01 },
    });
    assert_eq!(output["policy"], expected);
}

#[test]
fn figures_that_are_not_asked_for_are_left_out_of_the_history() {
    let mut measured = window(20, 1, Some(52.0));
    measured["queue-peak"] = json!(3);
    let output = decide(&policy(), Some(measured), &json!([])).unwrap();
    assert_eq!(output["history"], json!([window(20, 1, Some(52.0))]));
}

#[test]
fn the_objective_is_judged_by_latency_and_failures() {
    let met = |window: Value| decide(&policy(), Some(window), &json!([])).unwrap()["objective-met"].clone();
    assert_eq!(met(window(20, 1, Some(500.0))), true);
    assert_eq!(met(window(20, 1, Some(500.5))), false);
    assert_eq!(met(window(20, 1, None)), false, "nobody was answered");
    assert_eq!(met(window(0, 1, None)), true, "nobody asked");
    let mut failed = window(200, 1, Some(52.0));
    failed["failed"] = json!(2);
    assert_eq!(met(failed.clone()), true);
    failed["failed"] = json!(3);
    assert_eq!(met(failed), false);
}

#[test]
fn the_history_is_bounded() {
    let history: Vec<Value> = (0..80).map(|_| window(20, 1, Some(52.0))).collect();
    let output = decide(&policy(), Some(window(21, 1, Some(52.0))), &json!(history)).unwrap();
    let kept = output["history"].as_array().unwrap();
    assert_eq!((kept.len(), kept.last().unwrap()["requests"].clone()), (HISTORY_MAX, json!(21)));
}

#[test]
fn a_policy_that_would_not_come_to_rest_is_refused() {
    let check = |change: Value, says: &str| {
        let mut policy = policy();
        policy.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let failure = decide(&policy, None, &json!([])).unwrap_err();
        assert!(failure.message.contains(says), "{}", failure.message);
    };
    check(json!({ "min-workers": 7 }), "1 <= min-workers <= max-workers");
    check(json!({ "min-workers": 0 }), "1 <= min-workers <= max-workers");
    check(json!({ "per-worker": 0 }), "`per-worker` is 0 and must be greater than 0");
    check(json!({ "target": 0.9 }), "down-below < target <= up-above");
    check(json!({ "down-below": 0.6 }), "down-below < target <= up-above");
    check(json!({ "target": 1.5, "up-above": 2 }), "target <= 1");
    check(json!({ "down-after": 0 }), "`down-after` is 0 and must be between 1 and 60");
}

#[test]
fn a_window_without_a_length_is_refused() {
    let mut empty = window(20, 1, None);
    empty["window-ms"] = json!(0);
    let failure = decide(&policy(), Some(empty), &json!([])).unwrap_err();
    assert!(failure.message.contains("`window-ms` must be greater than 0"));
}
