//! Plans previewed: a workflow and inputs in, the page of what a run would do out.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use downbeat_workflow::event::{Event, Record, RunId, Timestamp};
use downbeat_workflow::inputs::accept;
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::preview::{Preview, Verdict, preview};
use downbeat_workflow::run::{Action, Run};
use serde_json::{Value, json};
use std::sync::Arc;

mod plans;
use plans::{chain, plan, plan_with};

fn of(plan: &Plan, inputs: Value) -> Preview {
    let Value::Object(inputs) = inputs else { panic!("inputs are an object") };
    preview(plan, accept(plan, inputs).unwrap())
}

/// Compares the page from the first wave on; digests stand as `#`.
fn check(toml: &str, inputs: Value, expected: &str) {
    let plan = plan(toml);
    let page = of(&plan, inputs).page();
    let page = page.replace(plan.plugins[0].component.digest.short(), "#");
    let from = page.find("\nwave 1").unwrap();
    assert_eq!(page[from..].trim_matches('\n'), expected.trim_matches('\n'));
}

const RELEASE: &str = r#"
    [inputs]
    stage = { type = "boolean", default = true }
    score = { type = "number", default = 0.5 }
    [pools]
    compiler = 2
    [steps.build]
    use = "any"
    with = { score = "${inputs.score}", log = "${workflow.name}-${run.id}.log" }
    pool = "compiler"
    timeout = "5m"
    retry = { attempts = 3 }
    limit = { memory = "64MiB" }
    [steps.stage]
    use = "any"
    needs = ["build"]
    when = "inputs.stage && steps.build.output.ok"
    with = { image = "${steps.build.output.image}", score = "${inputs.score}" }
    [steps.promote]
    use = "any"
    needs = ["stage"]
    when = "inputs.score > 0.1"
    [steps.repair]
    use = "any"
    needs = ["build.failed"]
    [steps.tell]
    use = "any"
    needs = ["promote.finished"]
    with = { text = "promoted: ${steps.promote.status}" }
    [outputs]
    image = "${steps.build.output.image}"
"#;

#[test]
fn what_is_known_is_filled_in_and_what_is_open_says_for_what_it_waits() {
    check(
        RELEASE,
        json!({}),
        r#"
wave 1 of 4
  build: runs
    use      any, #
    with     {"score":0.5,"log":"w-${run.id}.log"}
    pool     compiler (2 at once)
    retry    3 attempts, the first delay 1.0 s
    timeout  5 min 00 s
    limit    memory 64.0 MiB

wave 2 of 4
  stage after build: runs if its rule holds: inputs.stage && steps.build.output.ok, where inputs.stage is true
    use      any, #
    with     {"image":"${steps.build.output.image}","score":0.5}
             waits for the end of build
    when     waits for the end of build
  repair after build.failed: runs if `build` fails
    use      any, #
    with     {}

wave 3 of 4
  promote after stage: runs if `stage` runs
    use      any, #
    with     {}
    when     true: inputs.score > 0.1, where inputs.score is 0.5

wave 4 of 4
  tell after promote.finished: runs
    use      any, #
    with     {"text":"promoted: ${steps.promote.status}"}
             waits for the end of promote

outputs
  image = "${steps.build.output.image}"

2 run if nothing fails, 3 depend on what happens, 0 will be skipped, 0 will fail
longest chain, 4 steps: build → stage → promote → tell"#,
    );
}

#[test]
fn a_rule_that_inputs_alone_decide_is_decided_with_its_consequences() {
    check(
        RELEASE,
        json!({ "stage": false }),
        r#"
wave 1 of 4
  build: runs
    use      any, #
    with     {"score":0.5,"log":"w-${run.id}.log"}
    pool     compiler (2 at once)
    retry    3 attempts, the first delay 1.0 s
    timeout  5 min 00 s
    limit    memory 64.0 MiB

wave 2 of 4
  stage after build: will be skipped: `when` is false: inputs.stage && steps.build.output.ok, where inputs.stage is false
  repair after build.failed: runs if `build` fails
    use      any, #
    with     {}

wave 3 of 4
  promote after stage: will be skipped: it needs `stage` to succeed, but `stage` will be skipped

wave 4 of 4
  tell after promote.finished: runs
    use      any, #
    with     {"text":"promoted: skipped"}

outputs
  image = "${steps.build.output.image}"

2 run if nothing fails, 1 depend on what happens, 2 will be skipped, 0 will fail
longest chain, 2 steps: build → repair"#,
    );
}

#[test]
fn a_rule_that_fails_whatever_happens_is_told() {
    check(
        r#"
        [inputs]
        list = { type = "list" }
        [steps.a]
        use = "any"
        when = "inputs.list[3] == 1"
        [steps.b]
        use = "any"
        needs = ["a.failed"]
        [steps.c]
        use = "any"
        needs = ["a"]
        "#,
        json!({ "list": [] }),
        "
wave 1 of 2
  a: will fail: `when` can't be evaluated: `inputs.list[3]`: there is no item 3 in `inputs.list`, which has 0

wave 2 of 2
  b after a.failed: runs
    use      any, #
    with     {}
  c after a: will be skipped: it needs `a` to succeed, but `a` will fail

1 run if nothing fails, 0 depend on what happens, 1 will be skipped, 1 will fail
longest chain, 2 steps: a → b",
    );
}

#[test]
fn an_input_that_is_not_given_is_seen_as_null() {
    let plan = plan(
        r#"
        [inputs]
        who = { type = "string", required = false }
        [steps.a]
        use = "any"
        when = "inputs.who != null && run.id != ''"
        "#,
    );
    let preview = of(&plan, json!({}));
    let rule = preview.steps[0].rule.as_ref().unwrap();
    assert_eq!((rule.holds, serde_json::to_value(&rule.sees).unwrap()), (None, json!([["inputs.who", null]])));
}

#[test]
fn whether_something_is_there_is_not_known_of_a_step_that_is_not_over() {
    let plan = plan(
        r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        needs = ["a.finished"]
        when = "!has(steps.a.output) || run.id == 'x'"
        "#,
    );
    assert!(matches!(of(&plan, json!({})).steps[1].verdict, Verdict::Depends(_)));
}

/// What is foretold comes true, if nothing fails.
#[test]
fn a_run_does_what_its_preview_says() {
    let cases = [(RELEASE, "stage"), (RACE, "far")]
        .into_iter()
        .flat_map(|(toml, input)| [(toml, input, true), (toml, input, false)]);
    for (toml, input, value) in cases {
        let plan = Arc::new(plan(toml));
        let Value::Object(given) = json!({ input: value }) else { unreachable!() };
        let inputs = accept(&plan, given).unwrap();
        let foretold = preview(&plan, inputs.clone());
        let mut run = Run::new(plan.clone(), RunId("r".into()));
        let mut started = Vec::new();
        let mut apply = |run: &mut Run, event: Event| {
            if let Event::AttemptStarted { step, .. } = event {
                started.push(run.path(step));
            }
            run.apply(&Record { at: Timestamp(0), event }).unwrap();
        };
        apply(&mut run, Run::creation(&plan, plan.to_json().1, inputs, 1));
        while run.outcome().is_none() {
            for event in run.next(Timestamp(0), usize::MAX).iter().filter_map(Action::event).collect::<Vec<_>>() {
                apply(&mut run, event);
            }
            for (claim, _) in run.queued() {
                let start = run.start(claim).unwrap().event().unwrap();
                apply(&mut run, start);
            }
            for (step, attempt) in run.in_flight() {
                let output = json!({ "ok": true, "image": "i" }).into();
                apply(&mut run, Event::AttemptSucceeded { step, attempt, output, usage: Default::default() });
            }
        }
        for step in &foretold.steps {
            let ran = started.contains(&step.step);
            match &step.verdict {
                Verdict::Runs => assert!(ran, "{step:?}"),
                Verdict::Skipped(_) | Verdict::Fails(_) => assert!(!ran, "{step:?}"),
                Verdict::Depends(_) => (),
            }
        }
        let order: Vec<usize> =
            started.iter().map(|name| foretold.steps.iter().find(|step| step.step == *name).unwrap().wave).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[test]
fn a_long_chain_is_as_many_waves() {
    let plan = chain(5_000);
    let preview = of(&plan, json!({}));
    assert_eq!((preview.longest_chain.len(), preview.steps.last().unwrap().wave), (5_000, 5_000));
    assert_eq!(plan.step_named("s4999"), Some(StepId(4_999)));
    let value = serde_json::to_value(&preview).unwrap();
    assert_eq!(value["steps"][1]["verdict"], "runs");
}

const RACE: &str = r#"
    [inputs]
    far = { type = "boolean", default = true }
    [steps.near]
    use = "any"
    [steps.ask]
    use = "any"
    when = "inputs.far"
    [steps.far]
    use = "any"
    needs = ["ask"]
    [steps.first]
    use = "any"
    needs = ["near", "far"]
    join = "any"
    rest = "cancel"
    with = { far = "${steps.far.status}" }
    [steps.repair]
    use = "any"
    needs = ["near.failed", "first.failed", "first.skipped"]
    join = { at-least = 2 }
    [steps.tell]
    use = "any"
    needs = ["first", "repair"]
    join = "merge"
    [always.release]
    use = "any"
    with = { far = "${steps.far.status}" }
    [always.report]
    use = "any"
    needs = ["near.failed", "release.failed"]
    join = "any"
"#;

#[test]
fn joins_say_what_they_take_and_whom_they_end_and_always_steps_come_last() {
    check(
        RACE,
        json!({}),
        r#"
wave 1 of 5
  near: runs
    use      any, #
    with     {}
  ask: runs if `first` is not decided before
    use      any, #
    with     {}
    when     true: inputs.far, where inputs.far is true

wave 2 of 5
  far after ask: runs if `first` is not decided before
    use      any, #
    with     {}
  first after near or far: runs
    use      any, #
    with     {"far":"${steps.far.status}"}
             waits for the end of far
    rest     cancels far, ask once it is decided

wave 3 of 5
  repair after 2 of near.failed, first.failed, first.skipped: runs if 2 of these come true: `near` fails, `first` fails, `first` is skipped
    use      any, #
    with     {}

wave 4 of 5
  tell after first, repair, one of them at least: runs
    use      any, #
    with     {}

wave 5 of 5
  release always: runs, whatever becomes of the steps
    use      any, #
    with     {"far":"${steps.far.status}"}
             waits for the end of far
  report always after near.failed or release.failed: runs if `near` fails or `release` fails
    use      any, #
    with     {}

4 run if nothing fails, 4 depend on what happens, 0 will be skipped, 0 will fail
longest chain, 5 steps: ask → far → first → repair → tell
"#,
    );
}

#[test]
fn what_is_skipped_for_sure_may_be_unfinished_when_a_join_is_decided() {
    let preview = of(&plan(RACE), json!({ "far": false }));
    let step = |name: &str| preview.steps.iter().find(|step| step.step == name).unwrap();
    assert!(matches!(step("far").verdict, Verdict::Skipped(_)));
    assert_eq!(step("first").input.as_str(), r#"{"far":"${steps.far.status}"}"#);
    assert_eq!(step("release").input.as_str(), r#"{"far":"skipped"}"#, "it comes after all steps");
}

#[test]
fn a_join_that_can_have_too_few_of_its_needs_is_skipped() {
    let toml = r#"
        [steps.a]
        use = "any"
        when = "false"
        [steps.b]
        use = "any"
        [steps.c]
        use = "any"
        when = "false"
        [steps.two]
        use = "any"
        needs = ["a", "b", "c"]
        join = { at-least = 2 }
    "#;
    let steps = of(&plan(toml), json!({})).steps;
    let why = "it takes 2 of its 3 needs, but only 1 can be met";
    assert_eq!(steps.last().unwrap().verdict, Verdict::Skipped(why.to_owned()));
}

/// Everything that is more than one attempt.
const GROWN: &str = r#"
    [inputs]
    suites = { type = "list", default = ["a", "b", "c"] }
    [pools]
    registry = 1
    [signals]
    go = { keep = false }
    [steps.test]
    foreach = "${inputs.suites}"
    parallel = 2
    use = "any"
    pool = "registry"
    with = { suite = "${item}" }
    retry = { attempts = 2 }
    undo = { use = "any", with = { it = "${item}" } }
    [steps.deploy]
    needs = ["test"]
    repeat = { until = "index > 2", max = 5, delay = "1s" }
    [steps.deploy.steps.push]
    use = "any"
    with = { image = "${inputs.suites}" }
    undo = { use = "any" }
    [steps.deploy.steps.switch]
    needs = ["push"]
    use = "any"
    when = "steps.push.output.ok"
    [steps.deploy.always.clean]
    use = "any"
    [steps.ask]
    needs = ["deploy"]
    wait = { approval = ["ann", "bob"], question = "Promote ${steps.deploy.status}?", signal = "go", for = "1h" }
    [steps.enough]
    needs = ["test"]
    when = "steps.test.output == []"
    finish = true
    [steps.stop]
    needs = ["ask.failed"]
    fail = "nobody wanted it"
"#;

#[test]
fn steps_that_open_others_or_wait_say_what_they_do() {
    check(
        GROWN,
        json!({}),
        r#"
wave 1 of 4
  test: runs
    foreach  3 items of ["a","b","c"], 2 at once
    use      any, #
    with     {"suite":"${item}"}
    pool     registry (1 at once)
    retry    2 attempts, the first delay 1.0 s
      test.undo: runs if `test` succeeded and what it belongs to does not
        use      any, #
        with     {"it":"${item}"}

wave 2 of 4
  deploy after test: runs if `enough` does not end it all before
    repeat   until index > 2, 5 rounds at most, 1.0 s apart
    steps    3
      push: runs
        use      any, #
        with     {"image":"${inputs.suites}"}
          push.undo: runs if `push` succeeded and what it belongs to does not
            use      any, #
            with     {}
      switch after push: runs if its rule holds: steps.push.output.ok
        use      any, #
        with     {}
        when     waits for the end of push
      clean always: runs, whatever becomes of the steps
        use      any, #
        with     {}
  enough after test: runs if its rule holds: steps.test.output == [], and if `stop` does not end it all before
    finish   ends what it belongs to, successfully
    when     waits for the end of test

wave 3 of 4
  ask after deploy: runs if `enough` does not end it all before
    wait     1 h 00 min, or for the signal go, or for the word of ann or bob on "Promote ${steps.deploy.status}?"

wave 4 of 4
  stop after ask.failed: runs if `ask` fails, and if `enough` does not end it all before
    fail     "nobody wanted it"

1 run if nothing fails, 4 depend on what happens, 0 will be skipped, 0 will fail
longest chain, 4 steps: test → deploy → ask → stop"#,
    );
}

/// The plan of a workflow, each step of which may reach a host of its own name.
fn granted(mut plan: Plan) -> Plan {
    for step in &mut plan.steps {
        let host = format!("{}.example", step.name);
        if let downbeat_workflow::plan::Work::Use(uses) = &mut step.work {
            uses.grants = serde_json::from_value(json!({ "http": [host] })).unwrap();
        }
    }
    plan
}

#[test]
fn every_grant_of_every_step_is_told_however_deep_it_is() {
    let deploy = r#"
        [inputs]
        target = { type = "string" }
        [steps.copy]
        use = "any"
        undo = { use = "any" }
        [steps.again]
        needs = ["copy"]
        when = "inputs.target == 'b'"
        workflow = "deploy.toml"
        with = { target = "c" }
    "#;
    let toml = format!(
        "{GROWN}\n[steps.skipped]\nwhen = \"false\"\nworkflow = \"deploy.toml\"\nwith = {{ target = \"a\" }}\n\
         [steps.stage]\nneeds = [\"ask\"]\nworkflow = \"deploy.toml\"\nwith = {{ target = \"${{inputs.suites[1]}}\" }}\ndetached = true\n"
    );
    let plan = granted(plan_with(&toml, &[("deploy.toml", deploy)]));
    let preview = of(&plan, json!({}));
    let page = preview.page();
    let json = serde_json::to_string(&preview).unwrap();
    for step in plan.steps.iter().filter(|step| step.uses().is_some()) {
        let grant = format!(r#"{{"http":["{}.example"]}}"#, step.name);
        assert_eq!(page.matches(&grant).count(), 1, "{grant}: {page}");
        assert!(json.contains(&grant), "{grant}: {json}");
    }
    let stage = page.find("  stage after ask").unwrap();
    let page = page[stage..].replace(plan.plugins[0].component.digest.short(), "#");
    assert_eq!(
        page,
        r#"  stage after ask: runs if `enough` does not end it all before
    workflow deploy, in /flows
    detached over once it has begun; the run waits for the rest
    steps    2
    with     {"target":"b"}
      copy: runs
        use      any, #
        with     {}
        grant    {"http":["copy.example"]}
          copy.undo: runs if `copy` succeeded and what it belongs to does not
            use      any, #
            with     {}
            grant    {"http":["copy.undo.example"]}
      again after copy: runs if its rule holds: inputs.target == 'b'
        workflow deploy, in /flows
        steps    those of stage
        with     {"target":"c"}

1 run if nothing fails, 5 depend on what happens, 1 will be skipped, 0 will fail
longest chain, 4 steps: test → deploy → ask → stop
"#,
    );
}

#[test]
fn what_may_be_ended_by_an_end_depends_on_it() {
    let toml = r#"
        [steps.look]
        use = "any"
        [steps.long]
        use = "any"
        [steps.done]
        needs = ["look"]
        finish = true
        [always.clean]
        use = "any"
    "#;
    let steps = of(&plan(toml), json!({})).steps;
    let verdict = |name: &str| steps.iter().find(|step| step.step == name).unwrap().verdict.clone();
    assert_eq!(verdict("look"), Verdict::Runs);
    assert_eq!(verdict("long"), Verdict::Depends(vec!["`done` does not end it all before".to_owned()]));
    assert_eq!([verdict("done"), verdict("clean")], [Verdict::Runs, Verdict::Runs]);
    let failing = of(&plan(&toml.replace("finish = true", "fail = 'no'")), json!({})).steps;
    let done = failing.iter().find(|step| step.step == "done").unwrap();
    assert_eq!(done.verdict, Verdict::Fails("it is there to: \"no\"".to_owned()));
}

#[test]
fn what_a_step_needs_that_may_be_skipped_may_be_ended_with_it() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.both]
        use = "any"
        needs = ["a", "b.failed"]
        [steps.end]
        use = "any"
        needs = ["both.finished"]
        rest = "cancel"
    "#;
    let steps = of(&plan(toml), json!({})).steps;
    let a = steps.iter().find(|step| step.step == "a").unwrap();
    assert_eq!(a.verdict, Verdict::Depends(vec!["`end` is not decided before".to_owned()]));
}
