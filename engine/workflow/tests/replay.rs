//! Recorded runs, driven through other plans: whether these do the same, and where they part.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use downbeat_workflow::event::RunId;
use downbeat_workflow::replay::replay;

use plans::plan;
use play::Play;

/// Plays a run of one plan, and drives its records through another.
fn check(was: &str, script: &[(&str, &str)], is: &str, expected: &str) {
    let was = Arc::new(plan(was));
    let played = Play::of(&was, script, None);
    let found = replay(&was, &Arc::new(plan(is)), &RunId("r".into()), &played.records).unwrap();
    assert_eq!(found.page().trim(), expected.trim(), "{:#?}", played.log);
}

const RELEASE: &str = r#"
    [steps.build]
    use = "any"
    [steps.tests]
    needs = ["build"]
    foreach = "${steps.build.output}"
    parallel = 2
    use = "any"
    with = { suite = "${item}" }
    [steps.gate]
    needs = ["tests"]
    when = "steps.tests.output[0] < 5"
    use = "any"
    retry = { attempts = 2, delay = "1s", jitter = false }
    [steps.deploy]
    needs = ["gate"]
    [steps.deploy.steps.push]
    use = "any"
    undo = { use = "any" }
    [steps.deploy.steps.switch]
    needs = ["push"]
    use = "any"
    [always.clean]
    use = "any"
    [outputs]
    gate = "${steps.gate.output}"
"#;

const SCRIPT: &[(&str, &str)] = &[
    ("build", "ok=[1,2,3]@10"),
    ("tests[0]", "ok=4@30"),
    ("tests[1]", "ok=1@10"),
    ("gate", "transient ok=7"),
    ("switch", "permanent@5"),
];

#[test]
fn the_same_plan_does_the_same() {
    check(RELEASE, SCRIPT, RELEASE, "the plan does the same as run r: all of its 30 records");
}

#[test]
fn the_order_of_the_file_makes_no_difference() {
    let was = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.c]
        needs = ["a", "b"]
        use = "any"
    "#;
    let is = r#"
        [steps.c]
        needs = ["b", "a"]
        use = "any"
        [steps.b]
        use = "any"
        [steps.a]
        use = "any"
    "#;
    check(was, &[("a", "ok@5"), ("b", "ok@3")], is, "the plan does the same as run r: all of its 8 records");
}

#[test]
fn a_rule_that_decides_otherwise_is_told_with_what_it_saw() {
    check(
        RELEASE,
        SCRIPT,
        &RELEASE.replace("output[0] < 5", "output[0] < 4"),
        "
the plan parts from run r at record 14 of 30, 40 ms after its creation
  step      gate
  the run   started attempt 1 of `gate`
  the plan  would skip it: `when` was false: steps.tests.output[0] < 4, where steps.tests.output[0] is 4
  differs   when",
    );
}

#[test]
fn a_step_that_would_not_wait_is_found_where_it_would_have_begun() {
    check(
        RELEASE,
        SCRIPT,
        &RELEASE.replace("needs = [\"gate\"]\n", ""),
        "
the plan parts from run r at record 2 of 30, 10 ms after its creation
  step      deploy
  the run   did not: its next record is that `build` succeeded
  the plan  would begin it
  differs   needs",
    );
}

#[test]
fn a_retry_that_is_gone_ends_the_step_where_it_was_tried_again() {
    check(
        RELEASE,
        SCRIPT,
        &RELEASE.replace("    retry = { attempts = 2, delay = \"1s\", jitter = false }\n", ""),
        r#"
the plan parts from run r at record 16 of 30, 1.0 s after its creation
  step      gate
  the run   started attempt 2 of `gate`
  the plan  would have it over by now: failed: scripted
  differs   retry.attempts, retry.jitter"#,
    );
}

#[test]
fn a_step_that_is_gone_is_told() {
    let is = RELEASE.replace("switch", "turn");
    check(
        RELEASE,
        SCRIPT,
        &is,
        r#"
the plan parts from run r at record 22 of 30, 1.0 s after its creation
  step      deploy/switch
  the run   started attempt 1 of `deploy/switch`
  the plan  would have no such step"#,
    );
}

#[test]
fn another_input_of_an_attempt_is_a_difference() {
    check(
        RELEASE,
        SCRIPT,
        &RELEASE.replace("suite = \"${item}\"", "suite = \"${item}\", fast = true"),
        r#"
the plan parts from run r at record 6 of 30, 10 ms after its creation
  step      tests[0]
  the run   started attempt 1 of `tests[0]`
  the plan  would start it with the input {"suite":1,"fast":true} and not {"suite":1}
  differs   with.fast"#,
    );
}

#[test]
fn outputs_are_compared_at_the_end() {
    check(
        RELEASE,
        SCRIPT,
        &RELEASE.replace("gate = \"${steps.gate.output}\"", "gate = \"${steps.build.output}\""),
        r#"
the plan parts from run r at record 29 of 30, 1.0 s after its creation
  the run   ended as failed with {"gate":7}
  the plan  would end as failed with {"gate":[1,2,3]}"#,
    );
}

const CACHED: &str = r#"
    [pools]
    one = 1
    [steps.a]
    use = "any"
    with = { n = 1 }
    cache = true
    [steps.b]
    needs = ["a"]
    use = "any"
    pool = "one"
    cache = true
    retry = { attempts = 2, delay = "1s", jitter = false }
    [steps.c]
    needs = ["b"]
    use = "any"
    with = { n = "${steps.a.output}" }
"#;

/// `a` is a hit, `b` a miss each time it is asked about.
const ASKED: &[(&str, &str)] = &[("cache a", "hit=7@5"), ("cache b", "miss@3"), ("b", "transient@2 ok@4")];

#[test]
fn a_hit_is_one_again_and_a_miss_too() {
    check(CACHED, ASKED, CACHED, "the plan does the same as run r: all of its 14 records");
}

#[test]
fn whether_the_cache_is_asked_before_an_attempt_makes_no_difference() {
    let without = CACHED.replace("cache = true", "");
    let script = &ASKED[2..];
    check(&without, script, CACHED, "the plan does the same as run r: all of its 12 records");
    let misses = [("cache a", "miss@9"), ("cache b", "miss@3"), ASKED[2]];
    check(CACHED, &misses, &without, "the plan does the same as run r: all of its 15 records");
    let elsewhere = CACHED.replace("pool = \"one\"", "");
    check(CACHED, &misses, &elsewhere, "the plan does the same as run r: all of its 15 records");
    check(&elsewhere, &misses, &without, "the plan does the same as run r: all of its 13 records");
}

#[test]
fn a_hit_that_would_be_an_attempt_is_a_difference() {
    check(
        CACHED,
        ASKED,
        &CACHED.replacen("cache = true", "", 1),
        "
the plan parts from run r at record 2 of 14, 5 ms after its creation
  step      a
  the run   answered `a` from the cache, by run earlier
  the plan  would start its attempt 1
  differs   cache",
    );
}

#[test]
fn a_hit_is_the_answer_to_the_same_question_alone() {
    check(
        CACHED,
        ASKED,
        &CACHED.replace("n = 1", "n = 2"),
        r#"
the plan parts from run r at record 2 of 14, 5 ms after its creation
  step      a
  the run   answered `a` from the cache, by run earlier
  the plan  would ask the cache for its answer with the input {"n":2} and not {"n":1}
  differs   with.n"#,
    );
}

#[test]
fn a_delay_that_is_longer_is_a_difference_though_the_cache_would_be_asked_first() {
    let was = CACHED.replace("cache = true", "");
    check(
        &was,
        &ASKED[2..],
        &CACHED.replace("1s", "2s"),
        "
the plan parts from run r at record 6 of 12, 1.0 s after its creation
  step      b
  the run   put `b` in line for its pool
  the plan  would wait 1.0 s longer before the next attempt
  differs   cache, retry.delay",
    );
    check(
        CACHED,
        ASKED,
        &CACHED.replace("1s", "2s"),
        "
the plan parts from run r at record 7 of 14, 1.0 s after its creation
  step      b
  the run   asked the cache about `b`
  the plan  would wait 1.0 s longer before the next attempt
  differs   retry.delay",
    );
}
