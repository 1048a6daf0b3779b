use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};
use serde_json::json;

use super::*;

fn run(input: Value) -> Result<Value, Failure> {
    testing::run::<jq>(input)
}

fn result(filter: &str, value: Value) -> Value {
    run(json!({ "filter": filter, "value": value })).expect("the filter gives one result")["result"].clone()
}

fn failure(input: Value) -> (Kind, String) {
    let failure = run(input).expect_err("it fails");
    (failure.kind, failure.message)
}

#[test]
fn a_filter_transforms_its_value() {
    let value = json!({ "items": [{ "name": "b", "price": 2 }, { "name": "a", "price": 1.5 }] });
    assert_eq!(result(".items | map(.price) | add", value.clone()), json!(3.5));
    assert_eq!(result(".items | sort_by(.name) | map(.name) | join(\", \")", value.clone()), json!("a, b"));
    assert_eq!(
        result("[.items[] | select(.price > 1.8) | {name, dear: true}]", value),
        json!([{ "name": "b", "dear": true }])
    );
    assert_eq!(result("fromjson | .a", json!(r#"{"a": [1, null]}"#)), json!([1, null]));
    assert_eq!(result("[.[] | test(\"^v[0-9]+\")]", json!(["v1", "x"])), json!([true, false]));
}

#[test]
fn without_a_value_the_filter_is_given_null() {
    assert_eq!(run(json!({ "filter": ". == null" })).expect("it runs"), json!({ "result": true }));
}

#[test]
fn variables_are_named_values() {
    let input = json!({ "filter": "map(select(. > $least)) | {$unit, values: .}", "value": [1, 5, 9],
        "vars": { "least": 4, "unit": { "short": "ms" } } });
    assert_eq!(run(input).expect("it runs")["result"], json!({ "unit": { "short": "ms" }, "values": [5, 9] }));
}

#[test]
fn results_says_how_many_are_wanted() {
    let all = |filter: &str| run(json!({ "filter": filter, "value": [1, 2], "results": "all" })).expect("it runs");
    assert_eq!(all(".[]"), json!({ "results": [1, 2] }));
    assert_eq!(all("empty"), json!({ "results": [] }));
    let first = run(json!({ "filter": ".[], error(\"never reached\")", "value": [1, 2], "results": "first" }));
    assert_eq!(first.expect("the second is not computed"), json!({ "result": 1 }));

    assert!(
        failure(json!({ "filter": ".[]", "value": [1, 2] })).1.starts_with("the filter gives more than one result")
    );
    assert!(failure(json!({ "filter": "empty" })).1.starts_with("the filter gives no result"));
    assert!(failure(json!({ "filter": "empty", "results": "first" })).1.starts_with("the filter gives no result"));
}

#[test]
fn results_without_an_end_are_stopped_at_the_bound() {
    let endless = json!({ "filter": "range(infinite)", "results": "all" });
    assert_eq!(failure(endless).1.split(';').next(), Some("the filter gives more than 10000 results"));
    let bounded = |count: u32| run(json!({ "filter": format!("range({count})"), "results": "all", "max-results": 3 }));
    assert_eq!(bounded(3).expect("as many as are allowed"), json!({ "results": [0, 1, 2] }));
    assert_eq!(bounded(4).expect_err("one too many").kind, Kind::Permanent);
}

#[test]
fn a_fault_in_the_filter_is_shown_where_it_is() {
    for (filter, message) in [
        (".items[", "line 1, column 8, at its end: closing bracket is expected here"),
        ("map(.a)\n| | .b", "line 2, column 3, at `|`: term is expected here"),
        (".a }", "line 1, column 4, at `}`: no word or sign of jq begins like this"),
        (". | mpa(.x)", "line 1, column 5, at `mpa`: there is no such function with one argument"),
        ("now2", "line 1, column 1, at `now2`: there is no such function"),
        ("$limit", "line 1, column 1, at `$limit`: there is no such variable: `vars` has none"),
        ("if . then 1", "line 1, column 12, at its end: else or end is expected here"),
        ("import \"a\" as a; .", "line 1, column 9, at `a`: a step's filter can't load modules"),
        ("\"ü\" | 1a.", "line 1, column 8, at `a`"),
    ] {
        let (kind, text) = failure(json!({ "filter": filter }));
        assert_eq!(kind, Kind::InvalidInput, "{filter}: {text}");
        let expected = format!("`filter` is no jq filter: {message}");
        assert!(text.starts_with(&expected), "{filter}:\n  {text}\n  {expected}");
    }
    let (_, text) = failure(json!({ "filter": "$c", "vars": { "a": 1, "b": 2 } }));
    assert!(text.ends_with("there is no such variable; `vars` has `$a`, `$b`"), "{text}");
}

#[test]
fn a_variable_has_a_name_that_a_filter_can_write() {
    let (kind, text) = failure(json!({ "filter": ".", "vars": { "a-b": 1 } }));
    assert_eq!(kind, Kind::InvalidInput);
    assert!(text.starts_with("`a-b` can't be a variable of a filter"), "{text}");
}

#[test]
fn an_error_of_the_filter_names_the_value_and_keeps_it() {
    let fails = |filter: &str, value: Value| {
        let failure = run(json!({ "filter": filter, "value": value })).expect_err("the filter fails");
        assert_eq!(failure.kind, Kind::Permanent);
        (failure.message, failure.details.expect("it has details")["error"].clone())
    };
    let indexed = "cannot index 5 with \"price\"";
    assert_eq!(fails(".price", json!(5)), (format!("the filter failed: {indexed}"), json!(indexed)));
    assert_eq!(
        fails("error({code: 7})", Value::Null),
        ("the filter failed: {\"code\":7}".to_owned(), json!({ "code": 7 }))
    );
    let (message, error) = fails(".x.y", json!({ "x": "long ".repeat(10_000) }));
    assert!(message.chars().count() < 600 && message.ends_with('…'), "{message}");
    assert_eq!(error.as_str().map(|text| text.chars().count()), Some(501));
}

#[test]
fn halting_ends_the_results_and_halting_with_a_code_fails() {
    let host = Host::new();
    assert_eq!(run(json!({ "filter": "1, halt, 2" })).expect("it ends"), json!({ "result": 1 }));
    let (kind, text) = failure(json!({ "filter": "\"no such release\" | halt_error(3)" }));
    assert_eq!((kind, text.as_str()), (Kind::Permanent, "the filter halted with the exit code 3; its log says why"));
    assert_eq!(host.log(), ["error: no such release"]);
}

#[test]
fn what_json_cannot_write_is_a_failure_with_its_path() {
    for (filter, message) in [
        ("{a: [1, nan]}", "`.a[1]` of a result is NaN, and JSON has no such number"),
        ("infinite", "`.` of a result is inf, and JSON has no such number"),
        ("[18446744073709551615 + 1]", "`.[0]` of a result is an integer of more than 64 bits"),
        ("{a: {(1 | tostring | tobytes): 2}}", "`.a` of a result has the key"),
        ("\"a\" | tobytes", "`.` of a result is a string of bytes"),
        ("reduce range(100) as $i (0; [.])", "a result of the filter is nested deeper than 62 levels"),
    ] {
        let (kind, text) = failure(json!({ "filter": filter }));
        assert_eq!(kind, Kind::Permanent, "{text}");
        assert!(text.starts_with(message), "{filter}: {text}");
    }
}

#[test]
fn numbers_within_64_bits_stay_as_they_are() {
    for number in
        [json!(0), json!(-1), json!(4_294_967_296_u64), json!(i64::MIN), json!(u64::MAX), json!(0.1), json!(1e300)]
    {
        assert_eq!(result(".", number.clone()), number);
    }
    assert_eq!(result(". * 1000", json!(4_000_000_000_u64)), json!(4_000_000_000_000_u64));
}

#[test]
fn a_result_may_nest_as_deeply_as_the_engine_takes_it() {
    let output =
        run(json!({ "filter": "reduce range(62) as $i (0; [.])", "results": "all" })).expect("it is deep enough");
    assert_eq!(output.to_string(), format!("{{\"results\":[{}0{}]}}", "[".repeat(62), "]".repeat(62)));
}

#[test]
fn keys_keep_their_order_and_debug_goes_to_the_log() {
    let host = Host::new();
    let text = result("debug | tojson", json!({ "b": 1, "a": 2 }));
    assert_eq!(text, json!(r#"{"b":1,"a":2}"#));
    assert_eq!(host.log(), [r#"debug: {"b":1,"a":2}"#]);
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<jq>();
    assert_eq!(input["required"], json!(["filter"]));
    assert_eq!(input["properties"]["max-results"]["default"], 10_000);
    assert_eq!(input["properties"]["vars"]["type"], "object");
    assert_eq!(output["properties"]["results"]["type"], json!(["array", "null"]));
    assert_eq!(output.get("required"), None);
}
