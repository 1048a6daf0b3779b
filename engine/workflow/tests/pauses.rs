//! Paused runs and steps, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use plans::plan;
use play::{Play, check};

/// Without crashes: what is in flight then may be ended with its run, where it had succeeded.
fn live(toml: &str, script: &[(&str, &str)], expected: &str) {
    assert_eq!(Play::of(&Arc::new(plan(toml)), script, None).log.join("\n"), expected.trim_matches('\n'));
}

#[test]
fn a_paused_run_starts_nothing_new_and_what_is_in_flight_comes_to_its_end() {
    check(
        r#"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        use = "any"
        [steps.c]
        needs = ["a.failed"]
        use = "any"
        "#,
        &[("a", "ok@10"), ("pause", "@5"), ("unpause", "@100")],
        "
0 a#1
5 paused all
10 a succeeded
10 c skipped: it needs `a` to fail, but `a` succeeded
100 unpaused all
100 b#1
100 b succeeded
100 Succeeded {}",
    );
}

#[test]
fn a_paused_step_holds_back_all_that_is_within_it_and_nothing_else() {
    check(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.other]
        use = "any"
        [steps.after]
        needs = ["other"]
        use = "any"
        "#,
        &[("push", "ok@10"), ("other", "ok@20"), ("pause deploy", "@5"), ("unpause deploy", "@100")],
        "
0 deploy opened
0 other#1
0 deploy[0]
0 deploy/push#1
5 paused deploy
10 deploy/push succeeded
20 other succeeded
20 after#1
20 after succeeded
100 unpaused deploy
100 deploy/switch#1
100 deploy/switch succeeded
100 deploy succeeded
100 Succeeded {}",
    );
}

#[test]
fn timeouts_of_runs_and_blocks_stand_still_while_they_are_paused() {
    check(
        r#"
        timeout = "80ms"
        [steps.deploy]
        timeout = "60ms"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        "#,
        &[("push", "ok@10"), ("switch", "ok@31"), ("pause", "@5"), ("unpause", "@1005")],
        "
0 deploy opened
0 deploy[0]
0 deploy/push#1
5 paused all
10 deploy/push succeeded
1005 unpaused all
1005 deploy/switch#1
1036 deploy/switch succeeded
1036 deploy succeeded
1036 Succeeded {}",
    );
}

#[test]
fn pauses_that_overlap_stop_the_clock_once() {
    // The block has 40 ms; it ran from 0 to 5, was held by the run's pause, then by its own, and may run from 300 to 335.
    check(
        r#"
        [steps.deploy]
        timeout = "40ms"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        "#,
        &[
            ("push", "ok@5"),
            ("switch", "ok@36"),
            ("pause", "@5"),
            ("pause deploy", "@100"),
            ("unpause", "@200"),
            ("unpause deploy", "@300"),
        ],
        "
0 deploy opened
0 deploy[0]
0 deploy/push#1
5 paused all
5 deploy/push succeeded
100 paused deploy
200 unpaused all
300 unpaused deploy
300 deploy/switch#1
335 deploy[0] timed out
335 deploy/switch cancelled
335 deploy failed: its steps took longer than its timeout
335 Failed {}",
    );
}

#[test]
fn an_approval_can_be_given_while_it_is_paused_but_does_not_time_out() {
    let toml = r#"
        [steps.ask]
        wait = { approval = "ann" }
        timeout = "50ms"
        [steps.go]
        needs = ["ask"]
        use = "any"
        "#;
    check(
        toml,
        &[("pause", "@10"), ("approve ask", "@500"), ("unpause", "@1000")],
        r#"
0 ask opened
10 paused all
500 ann approved ask
500 ask succeeded: {"by":"approval","who":"ann","note":""}
1000 unpaused all
1000 go#1
1000 go succeeded
1000 Succeeded {}"#,
    );
    check(
        toml,
        &[("pause", "@10"), ("unpause", "@1000")],
        "
0 ask opened
10 paused all
1000 unpaused all
1040 ask failed: nobody and nothing ended the waiting within its timeout
1040 go skipped: it needs `ask` to succeed, but `ask` failed
1040 Failed {}",
    );
}

#[test]
fn what_is_asked_to_end_ends_though_it_is_paused() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.deploy]
        needs = ["a"]
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.always.clean]
        use = "any"
        [always.tell]
        use = "any"
        "#;
    live(
        toml,
        &[("a", "ok@10"), ("pause", "@5"), ("cancel", "@50")],
        "
0 a#1
5 paused all
10 a succeeded
50 cancel: enough
50 deploy skipped: the run was cancelled before its turn
50 tell#1
50 tell succeeded
50 Cancelled {}",
    );
    live(
        toml,
        &[("push", "ok@10"), ("pause deploy", "@5"), ("cancel deploy", "@7")],
        "
0 a#1
0 a succeeded
0 deploy opened
0 deploy[0]
0 deploy/push#1
5 paused deploy
7 cancel deploy: enough
7 deploy/push cancelled
7 deploy/clean#1
7 deploy/clean succeeded
7 deploy cancelled
7 tell#1
7 tell succeeded
7 Succeeded {}",
    );
}

#[test]
fn what_was_in_line_for_a_pool_gets_in_line_again() {
    check(
        r#"
        [pools]
        one = 1
        [steps.a]
        use = "any"
        pool = "one"
        [steps.b]
        use = "any"
        pool = "one"
        "#,
        &[("a", "ok@10"), ("b", "ok@10"), ("pause", "@5"), ("unpause", "@100")],
        "
0 a#1
5 paused all
10 a succeeded
100 unpaused all
100 b#1
110 b succeeded
110 Succeeded {}",
    );
}

#[test]
fn a_step_that_is_tried_again_waits_for_the_end_of_the_pause() {
    check(
        r#"
        [steps.a]
        use = "any"
        retry = { attempts = 2, delay = "10ms", jitter = false }
        "#,
        &[("a", "transient@10 ok"), ("pause", "@5"), ("unpause", "@100")],
        "
0 a#1
5 paused all
10 a failed: Transient
100 unpaused all
100 a#2
100 a succeeded
100 Succeeded {}",
    );
}
