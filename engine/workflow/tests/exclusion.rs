//! Mutual exclusion, in virtual time: what holds a place in a pool, for how long, who gets the next one, and how often.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use downbeat_workflow::event::Event;
use plans::plan;
use play::{Play, check, crash_everywhere};

#[test]
fn a_block_with_a_pool_of_one_is_a_critical_section_of_several_steps() {
    check(
        r#"
        pools.one = 1
        [steps.left]
        pool = "one"
        steps.a.use = "any"
        steps.b = { use = "any", needs = ["a"] }
        [steps.right]
        pool = "one"
        steps.c.use = "any"
        steps.d = { use = "any", needs = ["c"] }
        "#,
        &[("a", "ok@10"), ("b", "ok@10"), ("c", "ok@10"), ("d", "ok@10")],
        "
0 left opened
0 right opened
0 left[0]
0 left/a#1
10 left/a succeeded
10 left/b#1
20 left/b succeeded
20 left succeeded
20 right[0]
20 right/c#1
30 right/c succeeded
30 right/d#1
40 right/d succeeded
40 right succeeded
40 Succeeded {}",
    );
}

#[test]
fn the_place_is_held_until_what_was_done_is_undone_and_the_always_steps_are_over() {
    check(
        r#"
        pools.one = 1
        [steps.first]
        pool = "one"
        [steps.first.steps.take]
        use = "any"
        undo = { use = "any" }
        [steps.first.steps.break]
        needs = ["take"]
        use = "any"
        [steps.first.always.tidy]
        use = "any"
        [steps.second]
        pool = "one"
        steps.pause.wait = "5ms"
        "#,
        &[("break", "permanent@10"), ("take.undo", "ok@10"), ("tidy", "ok@10")],
        r#"
0 first opened
0 second opened
0 first[0]
0 first/take#1
0 first/take succeeded
0 first/break#1
10 first/break failed: Permanent
10 first/take.undo#1
20 first/take.undo succeeded
20 first/tidy#1
30 first/tidy succeeded
30 first failed: `first/break` failed: scripted
30 second[0]
30 second/pause opened
35 second/pause succeeded: {"by":"time"}
35 second succeeded
35 Failed {}"#,
    );
}

#[test]
fn a_block_that_is_tried_again_gives_its_place_back_meanwhile() {
    check(
        r#"
        pools.one = 1
        [steps.flaky]
        pool = "one"
        retry = { attempts = 2, delay = "100ms", jitter = false }
        steps.try.use = "any"
        [steps.other]
        pool = "one"
        steps.do.use = "any"
        "#,
        &[("try", "permanent@10"), ("do", "ok@300")],
        "
0 flaky opened
0 other opened
0 flaky[0]
0 flaky/try#1
10 flaky/try failed: Permanent
10 other[0]
10 other/do#1
310 other/do succeeded
310 other succeeded
310 flaky[0]
310 flaky/try#1
320 flaky/try failed: Permanent
320 flaky failed: `flaky/try` failed: scripted
320 Failed {}",
    );
}

#[test]
fn items_and_rounds_have_a_place_each_and_parallel_counts_those_in_line() {
    let toml = r#"
        pools.two = 2
        [steps.items]
        pool = "two"
        foreach = { in = [1, 2, 3, 4], parallel = 3 }
        steps.do.use = "any"
        [steps.rounds]
        pool = "two"
        repeat = { max = 2, delay = "5ms" }
        steps.again.use = "any"
        "#;
    check(
        toml,
        &[("do", "ok@10"), ("again", "ok@10")],
        "
0 items opened
0 rounds opened
0 rounds[0]
0 items[0]
0 rounds[0]/again#1
0 items[0]/do#1
10 rounds[0]/again succeeded
10 items[1]
10 items[1]/do#1
10 items[0]/do succeeded
10 items[2]
10 items[2]/do#1
20 items[1]/do succeeded
20 items[3]
20 items[3]/do#1
20 items[2]/do succeeded
20 rounds[1]
20 rounds[1]/again#1
30 items[3]/do succeeded
30 items succeeded
30 rounds[1]/again succeeded
30 rounds succeeded
30 Succeeded {}",
    );
}

#[test]
fn what_is_cut_while_it_is_in_line_never_opens_and_takes_no_place() {
    check(
        r#"
        pools.one = 1
        [steps.first]
        use = "any"
        [steps.long]
        pool = "one"
        steps.work.use = "any"
        [steps.short]
        needs = ["first"]
        pool = "one"
        steps.never.use = "any"
        [steps.pause]
        needs = ["first"]
        pool = "one"
        wait = "1h"
        [steps.last]
        needs = ["first"]
        pool = "one"
        use = "any"
        "#,
        &[("work", "ok@50"), ("cancel short", "@10"), ("cancel pause", "@10")],
        "
0 first#1
0 long opened
0 long[0]
0 long/work#1
0 first succeeded
0 short opened
10 cancel pause: enough
10 pause skipped: it was cancelled before its turn: enough
10 cancel short: enough
10 short cancelled
50 long/work succeeded
50 long succeeded
50 last#1
50 last succeeded
50 Succeeded {}",
    );
}

#[test]
fn a_cancelled_run_gives_its_places_back_when_its_always_steps_are_over() {
    check(
        r#"
        pools.one = 1
        [steps.left]
        pool = "one"
        steps.work.use = "any"
        always.tidy.use = "any"
        [steps.right]
        pool = "one"
        steps.never.use = "any"
        [always.after]
        pool = "one"
        use = "any"
        "#,
        &[("work", "ok@50"), ("tidy", "ok@10"), ("cancel", "@10")],
        "
0 left opened
0 right opened
0 left[0]
0 left/work#1
10 cancel: enough
10 left/work cancelled
10 right cancelled
10 left/tidy#1
20 left/tidy succeeded
20 left cancelled
20 after#1
20 after succeeded
20 Cancelled {}",
    );
}

#[test]
fn a_wait_holds_its_place_while_it_waits_and_its_timeout_counts_from_there() {
    check(
        r#"
        pools.desk = 1
        [steps.first]
        pool = "desk"
        timeout = "1s"
        wait = { approval = "ann" }
        [steps.second]
        pool = "desk"
        timeout = "1s"
        wait = { approval = "ann" }
        "#,
        &[("approve first", "@900"), ("approve second", "@1800")],
        r#"
0 first opened
900 ann approved first
900 first succeeded: {"by":"approval","who":"ann","note":""}
900 second opened
1800 ann approved second
1800 second succeeded: {"by":"approval","who":"ann","note":""}
1800 Succeeded {}"#,
    );
}

#[test]
fn higher_priorities_are_served_first_and_the_runs_own_counts_for_those_without_one() {
    let toml = r#"
        priority = 5
        pools.one = 1
        [steps.holder]
        pool = "one"
        use = "any"
        [steps.late]
        pool = "one"
        priority = -1
        use = "any"
        [steps.plain]
        pool = "one"
        use = "any"
        [steps.block]
        pool = "one"
        priority = 6
        steps.do.use = "any"
        [steps.urgent]
        pool = "one"
        priority = 7
        wait = "1ms"
        "#;
    let script = [("holder", "ok@10")];
    check_first_come(toml, &script, &["holder", "urgent", "block/do", "plain", "late"]);
}

/// The order in which steps begin; and that recovery, after which who was in line is in it again, agrees.
fn check_first_come(toml: &str, script: &[(&str, &str)], expected: &[&str]) {
    let plan = Arc::new(plan(toml));
    let live = Play::of(&plan, script, None);
    let began = |play: &Play| -> Vec<String> {
        let begins = play.records.iter().filter_map(|record| match record.event {
            Event::AttemptStarted { step, attempt: 1 } => Some(play.run.path(step)),
            Event::StepOpened { step } if play.run.step(step).opens().is_none() => Some(play.run.path(step)),
            _ => None,
        });
        begins.collect()
    };
    assert_eq!(began(&live), expected);
    crash_everywhere(&plan, script, &live);
    // Once all are in line, a crash does not change who is next, but that the holder has lost its place.
    let crashed = Play::of(&plan, script, Some(7));
    assert_eq!(began(&crashed)[2..], expected[2..], "{:#?}", crashed.log);
}

#[test]
fn a_rate_bounds_the_starts_in_any_window_also_over_a_restart() {
    let toml = r#"
        pools.api = { rate = "2/min" }
        [steps.call]
        foreach = [1, 2, 3, 4, 5]
        pool = "api"
        use = "any"
        [steps.batch]
        needs = ["call"]
        pool = "api"
        steps.one.use = "any"
        "#;
    check(
        toml,
        &[("call", "ok@100")],
        "
0 call opened
0 call[0]
0 call[1]
0 call[2]
0 call[3]
0 call[4]
0 call[0]#1
0 call[1]#1
100 call[0] succeeded
100 call[1] succeeded
60000 call[2]#1
60000 call[3]#1
60100 call[2] succeeded
60100 call[3] succeeded
120000 call[4]#1
120100 call[4] succeeded
120100 call succeeded
120100 batch opened
120100 batch[0]
120100 batch/one#1
120100 batch/one succeeded
120100 batch succeeded
120100 Succeeded {}",
    );
    // Wherever the engine dies: what it started before counts.
    let plan = Arc::new(plan(toml));
    for crash_after in 1..40 {
        let play = Play::of(&plan, &[("call", "ok@100")], Some(crash_after));
        let starts: Vec<u64> = downbeat_workflow::line::starts(&play.records).into_iter().map(|(_, at)| at.0).collect();
        assert!(starts.windows(3).all(|three| three[2] - three[0] >= 60_000), "{crash_after}: {starts:?}");
    }
}

#[test]
fn size_and_rate_hold_both() {
    check(
        r#"
        pools.api = { size = 1, rate = "2/s" }
        [steps.call]
        foreach = [1, 2, 3]
        pool = "api"
        use = "any"
        "#,
        &[("call", "ok@300")],
        "
0 call opened
0 call[0]
0 call[1]
0 call[2]
0 call[0]#1
300 call[0] succeeded
300 call[1]#1
600 call[1] succeeded
1000 call[2]#1
1300 call[2] succeeded
1300 call succeeded
1300 Succeeded {}",
    );
}

#[test]
fn a_sub_workflow_with_a_pool_is_excluded_as_a_whole_also_when_it_is_detached() {
    let deploy = "
        [steps.push]
        use = \"any\"
        [steps.warm]
        needs = [\"push\"]
        use = \"any\"
        ";
    let plan = Arc::new(plans::plan_with(
        r#"
        pools.site = 1
        [steps.left]
        pool = "site"
        workflow = "deploy.toml"
        detached = true
        [steps.right]
        pool = "site"
        workflow = "deploy.toml"
        "#,
        &[("deploy.toml", deploy)],
    ));
    play::check_plan(
        &plan,
        &[("push", "ok@10"), ("warm", "ok@10")],
        "
0 left opened
0 right opened
0 left[0]
0 left succeeded
0 left/push#1
10 left/push succeeded
10 left/warm#1
20 left/warm succeeded
20 right[0]
20 right/push#1
30 right/push succeeded
30 right/warm#1
40 right/warm succeeded
40 right succeeded
40 Succeeded {}",
    );
}

#[test]
fn nested_places_are_taken_from_the_outside_in_and_held_together() {
    check(
        r#"
        pools.outer = 1
        pools.inner = 1
        [steps.whole]
        pool = "outer"
        [steps.whole.steps.part]
        pool = "inner"
        steps.do.use = "any"
        [steps.other]
        pool = "inner"
        steps.do.use = "any"
        "#,
        &[("do", "ok@10")],
        "
0 whole opened
0 other opened
0 whole[0]
0 other[0]
0 whole/part opened
0 other/do#1
10 other/do succeeded
10 other succeeded
10 whole/part[0]
10 whole/part/do#1
20 whole/part/do succeeded
20 whole/part succeeded
20 whole succeeded
20 Succeeded {}",
    );
}

#[test]
fn a_block_that_is_tried_again_at_once_gives_its_place_back_before_it_gets_in_line() {
    check(
        r#"
        pools.two = 2
        [steps.flaky]
        pool = "two"
        retry = { attempts = 2, delay = "0s" }
        steps.try.use = "any"
        "#,
        &[("try", "permanent@10")],
        "
0 flaky opened
0 flaky[0]
0 flaky/try#1
10 flaky/try failed: Permanent
10 flaky[0]
10 flaky/try#1
20 flaky/try failed: Permanent
20 flaky failed: `flaky/try` failed: scripted
20 Failed {}",
    );
}
