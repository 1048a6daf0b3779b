//! Two workflows in, what differs between their plans out.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use downbeat_workflow::difference::Difference;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, Work};
use serde_json::{Value, json};

mod plans;
use plans::{chain, plan, plan_with};

fn check(was: &str, is: &str, expected: &str) {
    let page = Difference::of_plans(&plan(was), &plan(is)).page();
    assert_eq!(page.trim_end(), expected.trim_matches('\n'));
}

/// The plan of a workflow with these grants, a JSON object for each step: what the plugin of the tests wants would be
/// granted nothing.
fn granted(toml: &str, grants: Value) -> Plan {
    let mut plan = plan(toml);
    for step in &mut plan.steps {
        if let Work::Use(uses) = &mut step.work {
            uses.grants = serde_json::from_value(grants[&step.name].clone()).unwrap();
        }
    }
    plan
}

const BEFORE: &str = r#"
    [inputs]
    commit = { type = "string", default = "a" }
    [pools]
    compiler = 2
    [steps.build]
    use = "any"
    pool = "compiler"
    with = { program = "cargo", args = ["build", "${inputs.commit}"] }
    timeout = "5m"
    [steps.scan]
    use = "any"
    needs = ["build"]
"#;

#[test]
fn the_order_of_the_file_makes_no_difference() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
    "#;
    let turned = r#"
        [steps.b]
        use = "any"
        [steps.a]
        use = "any"
    "#;
    check(toml, turned, "nothing has changed");
    check(BEFORE, BEFORE, "nothing has changed");
}

#[test]
fn what_may_be_reached_that_could_not_stands_out() {
    let was = json!({
        "build": { "process": ["cargo"], "files": [{ "path": "data", "write": false }] },
        "scan": { "clock": true },
    });
    let is = json!({
        "build": { "process": ["cargo", "curl"], "files": [{ "path": "data", "write": true }] },
        "scan": {},
    });
    let (was, is) = (granted(BEFORE, was), granted(BEFORE, is));
    assert_eq!(
        Difference::of_plans(&was, &is).page(),
        "\
~ steps.build
    ! may now reach files data, to write
    ! may now reach process curl
~ steps.scan
    may no longer reach clock

2 parts have changed
! more may be reached than before, by steps.build
",
    );
    // A directory that may only be read now could be read before.
    let back = Difference::of_plans(&is, &was).page();
    assert!(back.contains("may no longer reach files data, to write\n") && !back.contains("now reach files"), "{back}");
}

#[test]
fn a_new_step_reaches_what_nobody_did() {
    let was = granted("[steps.a]\nuse = \"any\"", json!({ "a": {} }));
    let is = granted("[steps.b]\nuse = \"any\"", json!({ "b": { "http": ["example.org"] } }));
    assert_eq!(
        Difference::of_plans(&was, &is).page(),
        "\
+ steps.b
    ! may now reach http example.org
- steps.a

2 parts have changed
! more may be reached than before, by steps.b
",
    );
}

#[test]
fn keys_are_told_with_both_values_and_parts_with_a_sign() {
    let after = BEFORE
        .replace(r#""build", "${"#, r#""test", "${"#)
        .replace("compiler = 2", "compiler = 3")
        .replace("\n    timeout = \"5m\"", "")
        .replace("steps.scan", "steps.audit")
        .replace(r#"needs = ["build"]"#, r#"needs = ["build.finished"]"#);
    check(
        BEFORE,
        &after,
        r#"
~ pools.compiler
    size: 2 → 3
~ steps.build
    timeout: 5m → nothing
    with.args: ["build","${inputs.commit}"] → ["test","${inputs.commit}"]
+ steps.audit
- steps.scan

4 parts have changed"#,
    );
}

#[test]
fn inputs_are_compared_if_both_are_known() {
    let parsed = |text: &str| Json::parse(text).unwrap();
    let plan = chain(2);
    let difference = Difference::of_plans(&plan, &plan);
    assert!(difference.clone().and_inputs(&parsed(r#"{"a":1}"#), &parsed(r#"{"a":1}"#)).is_empty());
    let page = difference.and_inputs(&parsed(r#"{"a":1,"b.c":2}"#), &parsed(r#"{"a":2,"b":{"c":2}}"#)).page();
    assert_eq!(
        page,
        "~ given inputs\n    \"b.c\": 2 → nothing\n    a: 1 → 2\n    b.c: nothing → 2\n\n1 part has changed\n"
    );
}

#[test]
fn joins_and_their_rest_are_keys_and_a_step_that_runs_whatever_happens_is_another_part() {
    let was = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.first]
        use = "any"
        needs = ["a", "b"]
        [steps.third]
        use = "any"
        needs = ["a", "b"]
        join = "any"
        [steps.tidy]
        use = "any"
    "#;
    let is = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.first]
        use = "any"
        needs = ["a", "b"]
        join = "any"
        rest = "cancel"
        [steps.third]
        use = "any"
        needs = ["a", "b"]
        join = { at-least = 2 }
        [always.tidy]
        use = "any"
    "#;
    check(
        was,
        is,
        r#"
~ steps.first
    join: nothing → "any"
    rest: nothing → "cancel"
~ steps.third
    join: "any" → nothing
    join.at-least: nothing → 2
+ always.tidy
- steps.tidy

4 parts have changed
"#,
    );
}

const DEPLOY: &str = r#"
    [signals.go]
    [steps.deploy]
    timeout = "5m"
    [steps.deploy.steps.push]
    use = "any"
    undo = { use = "any" }
    [steps.deploy.steps.ready]
    needs = ["push"]
    wait = { signal = "go", for = "10m" }
    [steps.deploy.outputs]
    digest = "${steps.push.output}"
    [steps.suites]
    foreach = ["a", "b"]
    parallel = 2
    use = "any"
    with = { suite = "${item}" }
    [steps.poll]
    repeat = { max = 3, until = "steps.poll.output.done" }
    use = "any"
"#;

#[test]
fn steps_within_steps_are_compared_by_their_paths() {
    let after = DEPLOY
        .replace("timeout = \"5m\"", "retry = { attempts = 2 }")
        .replace("for = \"10m\"", "approval = \"ann\"")
        .replace("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]")
        .replace("max = 3", "max = 4")
        .replace("[signals.go]", "[signals]\n    go = { keep = false }")
        .replace("${steps.push.output}", "${steps.push.status}");
    check(
        DEPLOY,
        &after,
        r#"
~ signals.go
    keep: true → false
~ steps.deploy
    outputs.digest: "${steps.push.output}" → "${steps.push.status}"
    retry.attempts: 1 → 2
    timeout: 5m → nothing
~ steps.deploy.steps.ready
    wait.approval: nothing → ["ann"]
    wait.for: 10m → nothing
~ steps.suites
    foreach: ["a","b"] → ["a","b","c"]
~ steps.poll
    repeat.max: 3 → 4

5 parts have changed"#,
    );
    check(DEPLOY, DEPLOY, "nothing has changed");
    check(
        DEPLOY,
        &DEPLOY.replace("    undo = { use = \"any\" }\n", "").replace("steps.ready]", "steps.set]"),
        "
+ steps.deploy.steps.set
- steps.deploy.steps.push.undo
- steps.deploy.steps.ready

3 parts have changed",
    );
}

#[test]
fn what_steps_within_steps_may_reach_that_they_could_not_stands_out() {
    let none = json!({ "push": {}, "push.undo": {}, "suites": {}, "poll": {} });
    let some = json!({
        "push": { "http": ["example.org"] }, "push.undo": { "process": ["rm"] }, "suites": { "clock": true }, "poll": {},
    });
    let (was, is) = (granted(DEPLOY, none), granted(DEPLOY, some));
    assert_eq!(
        Difference::of_plans(&was, &is).page(),
        "\
~ steps.deploy.steps.push
    ! may now reach http example.org
~ steps.deploy.steps.push.undo
    ! may now reach process rm
~ steps.suites
    ! may now reach clock

3 parts have changed
! more may be reached than before, by steps.deploy.steps.push, steps.deploy.steps.push.undo, steps.suites
",
    );
}

#[test]
fn the_steps_of_a_sub_workflow_are_told_once_even_if_it_opens_itself() {
    let toml = r#"
        [steps.one]
        workflow = "again.toml"
        [steps.two]
        workflow = "again.toml"
    "#;
    let again =
        "[steps.work]\nuse = \"any\"\n[steps.down]\nneeds = [\"work\"]\nwhen = \"false\"\nworkflow = \"again.toml\"\n";
    let was = plan_with(toml, &[("again.toml", again)]);
    let is = plan_with(toml, &[("again.toml", &again.replace("[steps.work]", "[steps.work]\ntimeout = \"1m\""))]);
    let page = Difference::of_plans(&was, &is).page();
    assert_eq!(page, "~ steps.one.steps.work\n    timeout: nothing → 1m\n\n1 part has changed\n");
}

#[test]
fn keys_and_values_are_told_as_the_file_has_them() {
    let was = r#"
        timeout = "1m"
        [steps.a]
        use = "any"
        retry = { attempts = 2, delay = "1m30s" }
        limit = { memory = "64MiB" }
        [steps.many]
        foreach = ["x"]
        parallel = 2
        use = "any"
    "#;
    let is = was
        .replace("timeout = \"1m\"", "timeout = \"5m\"")
        .replace("1m30s", "250ms")
        .replace("64MiB", "1GiB")
        .replace("parallel = 2", "parallel = 3");
    check(
        was,
        &is,
        "
~ workflow
    timeout: 1m → 5m
~ steps.a
    limit.memory: 64MiB → 1GiB
    retry.delay: 1m30s → 250ms
~ steps.many
    parallel: 2 → 3

3 parts have changed",
    );
}

#[test]
fn long_values_are_cut_around_what_differs() {
    let list = |last: &str| {
        let names: Vec<String> = (0..60).map(|n| format!("\"name-{n:02}\"")).collect();
        format!("[steps.a]\nuse = \"any\"\nwith = {{ names = [{}, \"{last}\"] }}", names.join(", "))
    };
    let before = "\"name-56\",\"name-57\",\"name-58\",\"name-59\",\"";
    let shown = |last: &str| format!("…{}{last}\"]", &before[before.len() - 40..]);
    check(
        &list("one"),
        &list("two"),
        &format!("~ steps.a\n    with.names: {} → {}\n\n1 part has changed", shown("one"), shown("two")),
    );
}
