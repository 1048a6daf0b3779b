//! Expressions and templates: what they evaluate to, what they say when they can't, and that nothing that is written in
//! them runs away.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use downbeat_workflow::event::{Failure, FailureKind};
use downbeat_workflow::json::Json;
use downbeat_workflow::rule::{EXPRESSION_BYTES_MAX, Rule, Scope, StepView, Template};
use serde_json::{Value, json};

/// A run in which `build` succeeded, `deploy` failed, `extra` was skipped and `kpi-gate` succeeded.
struct Run {
    inputs: Value,
    build: Value,
    gate: Value,
    failure: Failure,
    /// What `build` answered, as it was written; without it, rules have the parsed value alone.
    text: Option<Json>,
}

impl Run {
    fn new() -> Run {
        Run {
            inputs: json!({
                "name": "downbeat", "count": 3, "score": 0.95, "whole": 2.0, "none": null, "list": [1, 2, 3],
                "table": { "a": 1, "b-c": { "d": "deep" } }, "big": u64::MAX, "text": "ä \"q\" \n",
                "many": (0..2_000).collect::<Vec<u32>>(),
            }),
            build: json!({ "exit-code": 0, "items": [{ "x": 1, "ok": true }, { "x": 2, "ok": false }], "stdout": "fine" }),
            gate: json!({ "score": 1 }),
            failure: Failure {
                kind: FailureKind::Limit { limit: "memory".to_owned() },
                message: "out of memory".to_owned(),
                details: Some(Json::parse(r#"{"used": 5}"#).unwrap()),
                retry_after_ms: None,
                backtrace: None,
            },
            text: None,
        }
    }

    fn with_text(self) -> Run {
        Run { text: Some(Json::from(self.build.clone())), ..self }
    }
}

impl Scope for Run {
    fn inputs(&self) -> &Value {
        &self.inputs
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let (status, output, failure) = match name {
            "build" => ("succeeded", Some(&self.build), None),
            "kpi-gate" => ("succeeded", Some(&self.gate), None),
            "deploy" => ("failed", None, Some(&self.failure)),
            "extra" => ("skipped", None, None),
            _ => return None,
        };
        Some(StepView { status, output, failure, attempts: 2 })
    }

    fn output(&self, step: &str) -> Option<&Json> {
        self.text.as_ref().filter(|_| step == "build")
    }

    fn run_id(&self) -> &str {
        "r1"
    }

    fn workflow_name(&self) -> &str {
        "release"
    }

    fn workflow_directory(&self) -> &str {
        "/flows"
    }
}

/// The value of an expression, through a template that is nothing else; whether or not outputs are at hand as text.
fn value(expression: &str) -> Result<Value, String> {
    let template = Template::compile(&json!(format!("${{{expression}}}"))).map_err(|error| error.to_string())?;
    let value_in = |run: &Run| template.render(run).map(|json| json.value()).map_err(|error| error.to_string());
    let value = value_in(&Run::new());
    assert_eq!(value_in(&Run::new().with_text()), value, "{expression}");
    value
}

fn is(expression: &str, expected: Value) {
    assert_eq!(value(expression), Ok(expected), "{expression}");
}

fn fails(expression: &str, expected: &str) {
    assert_eq!(value(expression), Err(expected.to_owned()), "{expression}");
}

#[test]
fn paths_are_looked_up() {
    is("inputs.name", json!("downbeat"));
    is("inputs.table['b-c'].d", json!("deep"));
    is("inputs[\"table\"].a", json!(1));
    is("steps.build.output.items[1].x", json!(2));
    is("steps['kpi-gate'].output.score", json!(1));
    is("steps.build.output[\"exit-code\"]", json!(0));
    is("steps.build.status + steps.extra.status", json!("succeededskipped"));
    is("steps.build.attempts", json!(2));
    is("steps.deploy.failure.kind", json!("limit"));
    is("steps.deploy.failure.details.used", json!(5));
    is(
        "steps.deploy",
        json!({
            "status": "failed", "attempts": 2,
            "failure": { "kind": "limit", "message": "out of memory", "details": { "used": 5 } },
        }),
    );
    is("[run.id, workflow.name, workflow.directory]", json!(["r1", "release", "/flows"]));
    is("run", json!({ "id": "r1" }));
}

#[test]
fn what_is_not_there_is_told_with_its_path() {
    fails("steps.build.output.x", "`steps.build.output.x`: there is no `x` in the output");
    fails("inputs.table.x", "`inputs.table.x`: there is no `x` in `inputs.table`");
    fails("inputs.table['b-c'].e.f", "`inputs.table['b-c'].e`: there is no `e` in `inputs.table['b-c']`");
    fails("inputs.x + 1", "`inputs.x`: there is no `x` in `inputs`");
    fails("inputs.name.x", "`inputs.name.x`: `inputs.name` is a string, which has no `x`");
    fails("inputs.list[3]", "`inputs.list[3]`: there is no item 3 in `inputs.list`, which has 3");
    fails("inputs.list[-1]", "`inputs.list[-1]`: there is no item -1 in `inputs.list`, which has 3");
    fails("steps.deploy.output.x", "`steps.deploy.output`: the step `deploy` has failed, so it has no output");
    fails("steps.extra.output", "`steps.extra.output`: the step `extra` was skipped, so it has no output");
    fails("steps.later.output", "`steps.later`: the step `later` has not come to its end");
    fails("1 > 2 || inputs.none > 1", "`inputs.none > 1`: `>` can't take null and an integer");
    fails("1 / (inputs.count - 3)", "`1 / (inputs.count - 3)`: division by zero");
    fails("2 * (1 + (inputs.none + 1)) > 3", "`inputs.none + 1`: `+` can't take null and an integer");
    fails("('ä' + inputs.name).x", "`('ä' + inputs.name).x`: `('ä' + inputs.name)` is a string, which has no `x`");
    fails("9223372036854775807 + 1", "`9223372036854775807 + 1`: the integer is out of range");
    fails("1e308 * 10", "`1e308 * 10`: the result is no finite number");
}

/// Each with the value that CEL gives it; `cel`'s own interpreter agrees (see the next test).
const AGREED: &[&str] = &[
    "1 + 2 * 3 - 4 / 2 % 3",
    "7 / 2",
    "-7 / 2",
    "-7 % 3",
    "7.0 / 2.0",
    "-(3) + -2",
    "1 == 1.0",
    "1 < 1.5",
    "2.5 >= 2",
    "1 != 2 && !(3 > 4)",
    "'a' + \"b\" + r'\\n'",
    "'ä\\n\\u00e4' == 'ä\\nä'",
    "'abc' < 'abd'",
    "true == false",
    "[1, 2] + [3]",
    "[1, [2, 3]] == [1.0, [2, 3]]",
    "{'a': 1, 'b': [true]} == {'b': [true], 'a': 1.0}",
    "2 in [1, 2]",
    "'x' in {'x': 1}",
    "'y' in {'x': 1}",
    "{'a': {'b': 5}}.a.b",
    "{'a': {'b': 5}}['a']['b']",
    "[1, 2, 3][1]",
    "size('äöü') + size([1, 2]) + size({'a': 1})",
    "'äöü'.size()",
    "'downbeat'.contains('beat') && 'downbeat'.startsWith('down') && 'downbeat'.endsWith('t')",
    "'downbeat'.matches('^d.*t$')",
    "int('12') + int(3.9) + int(-3.9)",
    "double('1.5') + double(2)",
    "string(12) + string(true)",
    "1 > 2 ? 'a' : 'b'",
    "[1, 2, 3].map(x, x * 2)",
    "[1, 2, 3].map(x, x > 1, x * 2)",
    "[1, 2, 3].filter(x, x % 2 == 1)",
    "[1, 2, 3].all(x, x > 0)",
    "[1, 2, 3].exists(x, x == 2)",
    "[1, 2, 2].exists_one(x, x == 2)",
    "[[1], [2, 3]].all(l, l.exists(x, x > 1))",
    "[[1], [2, 3]].map(l, l.map(x, x + size(l)))",
    "{'a': 1, 'bb': 2}.all(k, size(k) > 0)",
    "true || 1 / 0 == 1",
    "1 / 0 == 1 || true",
    "!(1 / 0 == 1 && false)",
    "[0, 1].exists(x, 1 / x == 1)",
    "has({'a': 1}.a) && !has({'a': 1}.b)",
    "(1 + 2) * 3 == 9 // with a comment",
];

#[test]
fn expressions_mean_what_cels_own_interpreter_says() {
    for expression in AGREED {
        let theirs = cel::Program::compile(expression).unwrap().execute(&cel::Context::default());
        let theirs = theirs.unwrap_or_else(|error| panic!("{expression}: {error}")).json().unwrap();
        is(expression.split(" //").next().unwrap(), theirs);
    }
}

#[test]
fn integers_and_doubles_mix_because_json_does_not_keep_them_apart() {
    is("inputs.score < 1", json!(true));
    is("steps['kpi-gate'].output.score >= 0.95", json!(true));
    is("inputs.count * inputs.score > 2.8", json!(true));
    is("inputs.whole == 2", json!(true));
    is("inputs.big > 9223372036854775807", json!(true));
    is("inputs.list.map(x, x / 2.0)", json!([0.5, 1.0, 1.5]));
}

#[test]
fn texts_can_be_taken_apart_and_joined() {
    is("'a, b'.split(', ').join('+')", json!("a+b"));
    is("' Ab '.trim().lowerAscii() + 'c'.upperAscii()", json!("abC"));
    fails("[1].join(',')", "`[1].join(',')`: only strings can be joined; convert the others with `.map(x, string(x))`");
    fails("'x'.matches('(')", "`'x'.matches('(')`: no regular expression: unclosed group");
    fails("int('x')", "`int('x')`: \"x\" is no integer");
}

#[test]
fn has_asks_without_failing() {
    is("has(steps.build.output)", json!(true));
    is("has(steps.extra.output)", json!(false));
    is("has(steps.deploy.failure) && !has(steps.deploy.output)", json!(true));
    is("has(inputs.table.a) && !has(inputs.table.z)", json!(true));
    is("has(steps.build.output.stdout) ? steps.build.output.stdout : 'nothing'", json!("fine"));
}

#[test]
fn a_rule_says_what_it_saw() {
    let rule =
        Rule::compile("steps.build.output.items[0].ok && inputs.count > 5 || inputs.nothing == inputs.count").unwrap();
    let saw: Vec<(String, String)> =
        rule.saw(&Run::new()).into_iter().map(|(path, value)| (path, value.to_string())).collect();
    let expected = [("steps.build.output.items[0].ok", "true"), ("inputs.count", "3"), ("inputs.nothing", "null")];
    assert_eq!(saw, expected.map(|(path, value)| (path.to_owned(), value.to_owned())));
    let large = Rule::compile("size(inputs.many) > 1").unwrap().saw(&Run::new());
    assert_eq!(large[0].1.as_str(), "\"(8891 bytes)\"");
}

#[test]
fn a_rule_that_is_no_boolean_after_all_is_an_error() {
    assert_eq!(Rule::compile("inputs.count > 2").unwrap().holds(&Run::new()), Ok(true));
    let error = Rule::compile("inputs.count").unwrap().holds(&Run::new()).unwrap_err();
    assert_eq!(error.to_string(), "`inputs.count`: a rule is true or false, but this is an integer");
}

fn renders(template: Value, expected: Value) {
    let compiled = Template::compile(&template).unwrap();
    let rendered = compiled.render(&Run::new()).unwrap();
    assert_eq!(rendered.value(), expected, "{template}");
    // A plan keeps it as it was written, and reads it back as the same.
    let text = serde_json::to_string(&compiled).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), template);
    let again: Template = serde_json::from_str(&text).unwrap();
    assert_eq!(again.render(&Run::new()).unwrap().value(), expected);
}

#[test]
fn holes_alone_keep_their_type_and_holes_in_text_are_interpolated() {
    renders(json!("${inputs.count}"), json!(3));
    renders(json!("${ inputs.list }"), json!([1, 2, 3]));
    renders(json!("${inputs.none}"), json!(null));
    renders(json!("n = ${inputs.count}, s = ${inputs.name}!"), json!("n = 3, s = downbeat!"));
    renders(json!("${inputs.name}${inputs.count}"), json!("downbeat3"));
    renders(json!("list: ${inputs.list}"), json!("list: [1,2,3]"));
    renders(json!("text: ${inputs.text}"), json!("text: ä \"q\" \n"));
    renders(
        json!({ "a": ["${inputs.count}", { "b \"": "x${run.id}" }], "c": 1.5 }),
        json!({ "a": [3, { "b \"": "xr1" }], "c": 1.5 }),
    );
    renders(json!("${ {'a': '}'}['a'] + \"{\" }"), json!("}{"));
}

#[test]
fn a_part_of_an_output_is_handed_on_as_the_step_wrote_it() {
    let wrote = r#"{"a": [1.50, 123456789012345678901234567890], "b": {"c":"\u00e9\""}, "b": {"c": "last"}}"#;
    let run = Run { text: Some(Json::parse(wrote).unwrap()), ..Run::new() };
    let render = |template: Value| Template::compile(&template).unwrap().render(&run).unwrap().to_string();
    assert_eq!(render(json!("${steps.build.output.a}")), "[1.50, 123456789012345678901234567890]");
    assert_eq!(render(json!({ "x": ["${steps.build.output.b.c}", true] })), r#"{"x":["last",true]}"#);
}

#[test]
fn holes_do_not_nest_a_value_deeper_than_it_may_be() {
    let nested = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let run = |levels: usize| Run { text: Some(Json::parse(nested(levels)).unwrap()), ..Run::new() };
    let template = Template::compile(&json!({ "x": "${steps.build.output.a}" })).unwrap();
    assert!(template.render(&run(63)).is_ok());
    let template = Template::compile(&json!({ "x": { "y": "${steps.build.output.a}" } })).unwrap();
    let error = template.render(&run(63)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than 64 levels"), "{error}");
}

#[test]
fn dollars_stand_for_themselves_unless_they_open_a_hole() {
    renders(json!("$5 and $"), json!("$5 and $"));
    renders(json!("$${HOME}"), json!("${HOME}"));
    renders(json!("$$${HOME} ${inputs.count}"), json!("$${HOME} 3"));
    renders(json!("a } b { c"), json!("a } b { c"));
    let constant = Template::constant(Json::from(json!({ "a": "${not a hole} $${x}" })));
    assert_eq!(constant.render(&Run::new()).unwrap().value(), json!({ "a": "${not a hole} $${x}" }));
    let again: Template = serde_json::from_str(&serde_json::to_string(&constant).unwrap()).unwrap();
    assert_eq!(again.render(&Run::new()).unwrap().value(), json!({ "a": "${not a hole} $${x}" }));
}

#[test]
fn null_is_no_text() {
    let error = Template::compile(&json!("x ${inputs.none}")).unwrap().render(&Run::new()).unwrap_err().to_string();
    assert!(error.starts_with("`inputs.none`: there is null here, which is no text"), "{error}");
}

#[test]
fn a_template_knows_which_steps_it_mentions() {
    let template =
        Template::compile(&json!(["${steps.a.output}", "x ${inputs.b} ${steps['c-d'].status == 'failed'}"])).unwrap();
    assert_eq!(template.steps().collect::<Vec<_>>(), ["a", "c-d"]);
}

/// However an expression is built up to the bounds, it neither exhausts a small stack nor takes long.
#[test]
fn expressions_are_bounded_before_they_are_parsed() {
    let shapes: [fn(usize) -> String; 22] = [
        |n| "(".repeat(n) + "1" + &")".repeat(n),
        |n| "[".repeat(n) + &"]".repeat(n),
        |n| "{'a':".repeat(n) + "1" + &"}".repeat(n),
        |n| "!".repeat(n) + "true",
        |n| "-".repeat(n) + "1",
        |n| "1".to_owned() + &" + 1".repeat(n),
        |n| "1".to_owned() + &" == 1".repeat(n),
        |n| "true".to_owned() + &" && true".repeat(n),
        |n| "inputs".to_owned() + &".a".repeat(n),
        |n| "inputs".to_owned() + &"[0]".repeat(n),
        |n| "inputs.a".to_owned() + &".trim()".repeat(n),
        |n| "inputs.a".to_owned() + &".map(x, x)".repeat(n),
        |n| "true ? ".repeat(n) + "1" + &" : 2".repeat(n),
        |n| "true ? 1 : ".repeat(n) + "2",
        |n| "size(".repeat(n) + "''" + &")".repeat(n),
        |n| "x".repeat(n),
        |n| "'".to_owned() + &"x".repeat(n) + "'",
        |n| "(".repeat(n),
        |n| "&&".repeat(n),
        |n| "1 ".repeat(n),
        |n| "(a + ".repeat(n) + "b" + &")".repeat(n),
        |n| "[a.b.c.d + ".repeat(n) + "b" + &"]".repeat(n),
    ];
    let stack = 1 << 20;
    let small = std::thread::Builder::new().stack_size(stack).spawn(move || {
        let start = Instant::now();
        let mut refused = 0;
        for shape in shapes {
            for size in [10, 15, 60, 120, 170, 250, 500, 5_000, 100_000] {
                match Rule::compile(&shape(size)) {
                    Ok(rule) => drop(rule.holds(&Run::new())),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > shapes.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    });
    small.unwrap().join().unwrap();
    assert!(Rule::compile(&" ".repeat(EXPRESSION_BYTES_MAX + 1)).is_err());
}

#[test]
fn evaluation_ends_when_its_budget_does() {
    for expression in [
        "inputs.many.all(a, inputs.many.all(b, a + b >= 0))",
        "inputs.many.map(a, inputs.many)",
        "inputs.many.map(a, inputs.many.map(b, a)).size() > 0",
        "inputs.many.map(a, string(a) + 'x').map(a, a + a).map(a, a + a).map(a, inputs.many.map(b, a + a)).size() > 0",
        "inputs.many.all(a, inputs.many == inputs.many)",
        "inputs.many.exists(a, a in inputs.many && inputs.many.exists(b, 'x' == string(b)))",
    ] {
        let start = Instant::now();
        let error = value(expression).unwrap_err();
        assert!(error.contains("more than 1000000 units of work"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{expression}: {:?}", start.elapsed());
    }
    is("inputs.many.filter(a, inputs.list.exists(b, a == b))", json!([1, 2, 3]));
}

#[test]
fn holes_do_not_multiply_a_large_value_into_gigabytes() {
    struct Large(Value);
    impl Scope for Large {
        fn inputs(&self) -> &Value {
            &self.0
        }
        fn step(&self, _: &str) -> Option<StepView<'_>> {
            None
        }
        fn run_id(&self) -> &str {
            "r1"
        }
        fn workflow_name(&self) -> &str {
            "w"
        }
        fn workflow_directory(&self) -> &str {
            "/w"
        }
    }
    let scope = Large(json!({ "text": "x".repeat(1 << 20) }));
    let template = |copies: usize| Template::compile(&json!(vec!["${inputs.text}"; copies])).unwrap();
    assert!(template(15).render(&scope).is_ok());
    let error = template(5_000).render(&scope).unwrap_err();
    assert_eq!(error.message, "filled in, it is longer than 16 MiB; larger things are artifacts");
}
