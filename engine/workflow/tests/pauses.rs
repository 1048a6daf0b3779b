//! Paused runs and steps, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use downbeat_workflow::event::{Event, Record, RunId, Timestamp, Usage};
use downbeat_workflow::plan::StepId;
use downbeat_workflow::run::{Action, Run};
use plans::{plan, plan_with};
use play::{Play, check, check_plan};

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

#[test]
fn a_pause_outlives_its_step_while_there_are_scopes_that_it_does_not_wait_for() {
    let toml = r#"
        [steps.deploy]
        foreach = { in = [1, 2], join = "any", rest = "wait" }
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        "#;
    let script = [
        ("deploy[0]/push", "ok@5"),
        ("deploy[0]/switch", "ok@15"),
        ("deploy[1]/push", "ok@18"),
        ("pause deploy", "@10"),
        ("unpause deploy", "@100"),
    ];
    // Whose item is the first differs after a crash.
    live(
        toml,
        &script,
        "
0 deploy opened
0 deploy[0]
0 deploy[1]
0 deploy[0]/push#1
0 deploy[1]/push#1
5 deploy[0]/push succeeded
5 deploy[0]/switch#1
10 paused deploy
18 deploy[1]/push succeeded
20 deploy[0]/switch succeeded
20 deploy succeeded
100 unpaused deploy
100 deploy[1]/switch#1
100 deploy[1]/switch succeeded
100 Succeeded {}",
    );
    // It is there until the last of them is over, and not longer.
    let play = Play::of(&Arc::new(plan(toml)), &script, None);
    let paused_after = |record: &Record| {
        let upto = play.records.iter().position(|other| std::ptr::eq(other, record)).unwrap();
        let run = Run::replay(Arc::new(plan(toml)), RunId("r".into()), &play.records[..=upto]).unwrap();
        run.paused().count()
    };
    let paused: Vec<usize> = play.records.iter().map(paused_after).collect();
    assert_eq!(paused.iter().filter(|count| **count == 1).count(), 4, "{paused:?}");
}

#[test]
fn the_pause_of_a_step_ends_with_it_and_that_of_a_run_with_the_run() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        "#;
    let script = [("a", "ok@10"), ("b", "ok@20"), ("pause a", "@5"), ("pause", "@15")];
    let play = Play::of(&Arc::new(plan(toml)), &script, None);
    let paused = |until: u64| {
        let records = play.records.iter().filter(|record| record.at.0 <= until);
        let run = Run::replay(Arc::new(plan(toml)), RunId("r".into()), records).unwrap();
        run.paused().map(|(step, _)| step).collect::<Vec<_>>()
    };
    assert_eq!(paused(5), [Some(StepId(0))]);
    assert_eq!(paused(10), []);
    assert_eq!(paused(15), [None]);
    assert_eq!(paused(20), [], "it is over: {:#?}", play.log);
}

#[test]
fn cancel_after_a_long_pause_leaves_always_steps_their_time() {
    live(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.always.clean]
        timeout = "60ms"
        [steps.deploy.always.clean.steps.sweep]
        use = "any"
        [steps.deploy.always.clean.steps.rinse]
        needs = ["sweep"]
        use = "any"
        [steps.deploy.always.ask]
        wait = { approval = "ann" }
        timeout = "50ms"
        "#,
        &[("sweep", "ok@10"), ("rinse", "ok@20"), ("pause", "@5"), ("cancel", "@7000")],
        "
0 deploy opened
0 deploy[0]
0 deploy/push#1
0 deploy/push succeeded
0 deploy/clean opened
0 deploy/ask opened
0 deploy/clean[0]
0 deploy/clean/sweep#1
5 paused all
10 deploy/clean/sweep succeeded
7000 cancel: enough
7000 deploy/clean/rinse#1
7020 deploy/clean/rinse succeeded
7020 deploy/clean succeeded
7045 deploy/ask failed: nobody and nothing ended the waiting within its timeout
7045 deploy cancelled
7045 Cancelled {}",
    );
}

#[test]
fn what_somebody_cancels_under_a_paused_run_does_what_it_always_does() {
    live(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.always.clean]
        timeout = "60ms"
        [steps.deploy.always.clean.steps.sweep]
        use = "any"
        [steps.other]
        use = "any"
        [steps.after]
        needs = ["other"]
        use = "any"
        [always.tell]
        use = "any"
        "#,
        &[
            ("push", "ok@10"),
            ("other", "ok@10"),
            ("sweep", "ok@100"),
            ("pause", "@5"),
            ("cancel deploy", "@7"),
            ("unpause", "@200"),
        ],
        // What began after the pause, and is none of it, has its timeout and no more.
        "
0 deploy opened
0 other#1
0 deploy[0]
0 deploy/push#1
5 paused all
7 cancel deploy: enough
7 deploy/push cancelled
7 deploy/clean opened
7 deploy/clean[0]
7 deploy/clean/sweep#1
10 other succeeded
67 deploy/clean[0] timed out
67 deploy/clean/sweep cancelled
67 deploy/clean failed: its steps took longer than its timeout
67 deploy cancelled
200 unpaused all
200 after#1
200 after succeeded
200 tell#1
200 tell succeeded
200 Succeeded {}",
    );
}

#[test]
fn what_undoes_a_step_that_is_cancelled_under_a_paused_run_runs() {
    live(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        undo = { use = "any" }
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        "#,
        &[("switch", "ok@10"), ("pause", "@5"), ("cancel deploy", "@7"), ("unpause", "@200")],
        "
0 deploy opened
0 deploy[0]
0 deploy/push#1
0 deploy/push succeeded
0 deploy/switch#1
5 paused all
7 cancel deploy: enough
7 deploy/switch cancelled
7 deploy/push.undo#1
7 deploy/push.undo succeeded
7 deploy cancelled
7 Succeeded {}",
    );
}

#[test]
fn what_ends_by_itself_stays_paused_with_its_always_steps() {
    live(
        r#"
        [steps.deploy]
        foreach = { in = [1, 2], join = "any", rest = "cancel" }
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.always.clean]
        use = "any"
        "#,
        &[
            ("deploy[0]/push", "ok@10"),
            ("deploy[0]/clean", "ok@10"),
            ("deploy[1]/push", "ok@99"),
            ("pause deploy", "@15"),
            ("unpause deploy", "@50"),
        ],
        "
0 deploy opened
0 deploy[0]
0 deploy[1]
0 deploy[0]/push#1
0 deploy[1]/push#1
10 deploy[0]/push succeeded
10 deploy[0]/clean#1
15 paused deploy
20 deploy[0]/clean succeeded
20 deploy[1]/push cancelled
50 unpaused deploy
50 deploy[1]/clean#1
50 deploy[1]/clean succeeded
50 deploy succeeded
50 Succeeded {}",
    );
}

#[test]
fn what_somebody_has_cancelled_is_not_paused_any_more() {
    let plan = Arc::new(plan(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.always.clean]
        use = "any"
        [steps.other]
        use = "any"
        [always.tell]
        use = "any"
        "#,
    ));
    let script = [("push", "ok@10"), ("other", "ok@10")];
    let play = Play::of(&plan, &script, None);
    let begun = play.records.iter().filter(|record| record.at.0 < 10);
    let begun = Run::replay(plan.clone(), RunId("r".into()), begun).unwrap();
    let after = |event: Event| {
        let mut run = begun.clone();
        run.apply(&Record { at: Timestamp(5), event }).unwrap();
        run
    };
    let step = |path: &str| Some(begun.step_at(path).unwrap());
    let reason = String::new;
    let cut = after(Event::StepCancelRequested { step: step("deploy").unwrap(), reason: reason() });
    assert!(cut.may_pause(None), "the rest goes on");
    assert!(!cut.may_pause(step("deploy")) && !cut.may_pause(step("deploy/push")));
    assert!(cut.may_pause(step("deploy/clean")), "by its name");
    let cut = after(Event::CancelRequested { reason: reason() });
    assert!(!cut.may_pause(None) && !cut.may_pause(step("other")));
    assert!(cut.may_pause(step("tell")) && cut.may_pause(step("deploy/clean")), "by their names");
    // Earlier versions have recorded such a pause: it holds nothing back.
    let mut paused = cut.clone();
    paused.apply(&Record { at: Timestamp(5), event: Event::Paused { step: None, reason: reason() } }).unwrap();
    for (step, attempt) in paused.in_flight() {
        let event = Event::AttemptCancelled { step, attempt, usage: Usage::default() };
        paused.apply(&Record { at: Timestamp(5), event }).unwrap();
    }
    let next = paused.next(Timestamp(5), 9);
    assert!(matches!(&next[..], [Action::Start(attempt)] if Some(attempt.step) == step("deploy/clean")), "{next:?}");
}

#[test]
fn a_run_that_is_paused_while_it_waits_for_its_group_has_all_its_time_from_the_end_of_the_pause() {
    check(
        r#"
        timeout = "50ms"
        concurrency = { group = "g" }
        [steps.a]
        use = "any"
        "#,
        &[("a", "ok@60"), ("pause", "@5"), ("admit", "@100"), ("unpause", "@200")],
        "
5 paused all
100 admitted to g
200 unpaused all
200 a#1
250 timed out
250 a cancelled
250 TimedOut {}",
    );
}

#[test]
fn blocks_and_waits_keep_the_places_that_they_have_while_they_are_paused() {
    check(
        r#"
        [pools]
        one = 1
        two = 1
        [steps.deploy]
        pool = "one"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.ask]
        wait = { approval = "ann" }
        pool = "two"
        [steps.later]
        needs = ["deploy.started"]
        use = "any"
        pool = "one"
        [steps.last]
        needs = ["ask.started"]
        use = "any"
        pool = "two"
        "#,
        &[
            ("push", "ok@10"),
            ("pause deploy", "@5"),
            ("pause ask", "@6"),
            ("unpause deploy", "@100"),
            ("unpause ask", "@200"),
            ("approve ask", "@300"),
        ],
        r#"
0 deploy opened
0 deploy[0]
0 ask opened
0 deploy/push#1
5 paused deploy
6 paused ask
10 deploy/push succeeded
100 unpaused deploy
100 deploy/switch#1
100 deploy/switch succeeded
100 deploy succeeded
100 later#1
100 later succeeded
200 unpaused ask
300 ann approved ask
300 ask succeeded: {"by":"approval","who":"ann","note":""}
300 last#1
300 last succeeded
300 Succeeded {}"#,
    );
}

#[test]
fn items_in_line_and_rounds_that_wait_begin_after_the_pause() {
    check(
        r#"
        [pools]
        one = 1
        [steps.deploy]
        foreach = [1, 2]
        pool = "one"
        [steps.deploy.steps.push]
        use = "any"
        [steps.poll]
        repeat = { max = 2, delay = "20ms" }
        use = "any"
        "#,
        &[("push", "ok@10"), ("pause", "@5"), ("unpause", "@100")],
        "
0 deploy opened
0 poll opened
0 poll[0]
0 deploy[0]
0 poll[0]#1
0 deploy[0]/push#1
0 poll[0] succeeded
5 paused all
10 deploy[0]/push succeeded
100 unpaused all
100 poll[1]
100 deploy[1]
100 poll[1]#1
100 deploy[1]/push#1
100 poll[1] succeeded
100 poll succeeded
110 deploy[1]/push succeeded
110 deploy succeeded
110 Succeeded {}",
    );
}

#[test]
fn a_pause_outlives_a_repeat_that_leaves_something_behind() {
    let other = r#"
        [steps.push]
        use = "any"
        [steps.switch]
        needs = ["push"]
        use = "any"
        "#;
    let plan = plan_with(
        r#"
        [steps.intake]
        repeat = 2
        [steps.intake.steps.go]
        workflow = "deploy.toml"
        detached = true
        [steps.intake.steps.ask]
        use = "any"
        "#,
        &[("deploy.toml", other)],
    );
    check_plan(
        &Arc::new(plan),
        &[
            ("intake[1]/ask", "ok@20"),
            ("intake[0]/go/push", "ok@10"),
            ("intake[1]/go/push", "ok@30"),
            ("pause intake", "@5"),
            ("unpause intake", "@100"),
        ],
        "
0 intake opened
0 intake[0]
0 intake[0]/go opened
0 intake[0]/ask#1
0 intake[0]/go[0]
0 intake[0]/go succeeded
0 intake[0]/go/push#1
0 intake[0]/ask succeeded
0 intake[1]
0 intake[1]/go opened
0 intake[1]/ask#1
0 intake[1]/go[0]
0 intake[1]/go succeeded
0 intake[1]/go/push#1
5 paused intake
10 intake[0]/go/push succeeded
20 intake[1]/ask succeeded
20 intake succeeded
30 intake[1]/go/push succeeded
100 unpaused intake
100 intake[0]/go/switch#1
100 intake[1]/go/switch#1
100 intake[0]/go/switch succeeded
100 intake[1]/go/switch succeeded
100 Succeeded {}",
    );
}
