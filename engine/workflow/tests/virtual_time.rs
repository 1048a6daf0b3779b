//! What steps, their needs, retries, pools, joins and always-steps do, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{BodyId, Plan, StepId};
use downbeat_workflow::run::{Action, Claim, Run};
use plans::plan;
use play::{Play, check, crash_everywhere};

#[test]
fn steps_wait_for_their_needs() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        [steps.store]
        needs = ["fetch"]
        use = "any"
    "#;
    check(
        toml,
        &[("fetch", "ok@20")],
        "
0 fetch#1
20 fetch succeeded
20 store#1
20 store succeeded
20 Succeeded {}",
    );
}

#[test]
fn branches_run_side_by_side() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.c]
        needs = ["a", "b"]
        use = "any"
    "#;
    check(
        toml,
        &[("a", "ok@30"), ("b", "ok@10")],
        "
0 a#1
0 b#1
10 b succeeded
30 a succeeded
30 c#1
30 c succeeded
30 Succeeded {}",
    );
}

#[test]
fn transient_failures_back_off_and_time_outs_too() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        retry = { attempts = 4, delay = "10ms", factor = 2, max-delay = "30ms", jitter = false }
    "#;
    check(
        toml,
        &[("fetch", "transient timeout transient ok")],
        "
0 fetch#1
0 fetch failed: Transient
10 fetch#2
10 fetch failed: TimedOut
30 fetch#3
30 fetch failed: Transient
60 fetch#4
60 fetch succeeded
60 Succeeded {}",
    );
}

#[test]
fn retries_run_out() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        retry = { attempts = 2, delay = "10ms", jitter = false }
    "#;
    check(
        toml,
        &[("fetch", "transient")],
        "
0 fetch#1
0 fetch failed: Transient
10 fetch#2
10 fetch failed: Transient
10 Failed {}",
    );
}

#[test]
fn permanent_failures_are_not_retried() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        retry = { attempts = 9 }
    "#;
    check(
        toml,
        &[("fetch", "permanent")],
        "
0 fetch#1
0 fetch failed: Permanent
0 Failed {}",
    );
}

#[test]
fn a_guest_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        retry = { attempts = 3, delay = "100ms", factor = 1, jitter = false }
    "#;
    check(
        toml,
        &[("fetch", "transient:500 transient:1 ok")],
        "
0 fetch#1
0 fetch failed: Transient
500 fetch#2
500 fetch failed: Transient
600 fetch#3
600 fetch succeeded
600 Succeeded {}",
    );
}

#[test]
fn a_failure_skips_what_needs_success_and_runs_what_needs_failure() {
    let toml = r#"
        [steps.build]
        use = "any"
        [steps.ship]
        needs = ["build"]
        use = "any"
        [steps.announce]
        needs = ["ship"]
        use = "any"
        [steps.tell]
        needs = ["build.failed"]
        use = "any"
        [steps.clean]
        needs = ["ship.finished", "tell.finished"]
        use = "any"
    "#;
    check(
        toml,
        &[("build", "permanent")],
        "
0 build#1
0 build failed: Permanent
0 ship skipped: it needs `build` to succeed, but `build` failed
0 tell#1
0 announce skipped: it needs `ship` to succeed, but `ship` was skipped
0 tell succeeded
0 clean#1
0 clean succeeded
0 Failed {}",
    );
}

#[test]
fn what_needs_a_failure_is_skipped_on_success() {
    let toml = r#"
        [steps.build]
        use = "any"
        [steps.tell]
        needs = ["build.failed"]
        use = "any"
        [steps.log]
        needs = ["tell.skipped"]
        use = "any"
    "#;
    check(
        toml,
        &[],
        "
0 build#1
0 build succeeded
0 tell skipped: it needs `build` to fail, but `build` succeeded
0 log#1
0 log succeeded
0 Succeeded {}",
    );
}

#[test]
fn a_rule_decides_and_the_skip_says_what_it_saw() {
    let toml = r#"
        [steps.gate]
        use = "any"
        [steps.approve]
        needs = ["gate"]
        when = "steps.gate.output.score < 0.95"
        use = "any"
        [steps.promote]
        needs = ["gate"]
        when = "steps.gate.output.score >= 0.95"
        use = "any"
        [outputs]
        score = "${steps.gate.output.score}"
        text = "score ${steps.gate.output.score}!"
        approved = "${steps.approve.output}"
    "#;
    check(
        toml,
        &[("gate", r#"ok={"score":0.97}"#)],
        "
0 gate#1
0 gate succeeded
0 approve skipped: `when` was false: steps.gate.output.score < 0.95, where steps.gate.output.score is 0.97
0 promote#1
0 promote succeeded
0 Succeeded {\"score\":0.97,\"text\":\"score 0.97!\"}",
    );
}

#[test]
fn a_rule_that_cannot_be_evaluated_fails_its_step() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        when = "steps.a.output.x > 1"
        use = "any"
        [steps.c]
        needs = ["b.failed"]
        use = "any"
    "#;
    let plan = Arc::new(plan(toml));
    let play = Play::of(&plan, &[("a", r#"ok={"y":1}"#)], None);
    assert_eq!(play.outcome(), Some(Outcome::Failed));
    assert_eq!(play.ends(), [r#"succeeded {"y":1}"#, "failed Rule", "succeeded null"]);
}

#[test]
fn a_pool_lets_only_so_many_in() {
    let toml = r#"
        [pools]
        runner = 2
        [steps.a]
        use = "any"
        pool = "runner"
        [steps.b]
        use = "any"
        pool = "runner"
        [steps.c]
        use = "any"
        pool = "runner"
    "#;
    check(
        toml,
        &[("a", "ok@10"), ("b", "ok@30"), ("c", "ok@10")],
        "
0 a#1
0 b#1
10 a succeeded
10 c#1
20 c succeeded
30 b succeeded
30 Succeeded {}",
    );
}

#[test]
fn a_cancelled_run_ends_what_flies_and_skips_the_rest() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        use = "any"
        [steps.c]
        use = "any"
        retry = { attempts = 2, delay = "1h", jitter = false }
    "#;
    check(
        toml,
        &[("a", "ok@50"), ("c", "transient"), ("cancel", "@10")],
        "
0 a#1
0 c#1
0 c failed: Transient
10 cancel: enough
10 a cancelled
10 b skipped: the run was cancelled before its turn
10 c cancelled
10 Cancelled {}",
    );
}

#[test]
fn a_place_that_comes_after_a_cancel_starts_nothing() {
    let toml = r#"
        pools.runner = 1
        [steps.a]
        use = "any"
        pool = "runner"
        [steps.b]
        use = "any"
        pool = "runner"
    "#;
    let plan = Arc::new(plan(toml));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let apply = |run: &mut Run, event: Event| run.apply(&Record { at: Timestamp(0), event }).unwrap();
    apply(&mut run, Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1));
    for action in run.next(Timestamp(0), 9) {
        apply(&mut run, action.event().unwrap());
    }
    assert!(run.start(Claim::Attempt(StepId(1), 1)).is_some());
    apply(&mut run, Event::CancelRequested { reason: "enough".into() });
    assert_eq!(run.start(Claim::Attempt(StepId(1), 1)), None);
    // After a crash another step may be first in line, and so the cancelled one: only the ends of the run must agree.
    for crash_after in 0..8 {
        let play = Play::of(&plan, &[("a", "ok@50"), ("b", "ok@50"), ("cancel", "@10")], Some(crash_after));
        assert_eq!(play.outcome(), Some(Outcome::Cancelled), "{:#?}", play.log);
    }
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let plan = Arc::new(plan("[steps.a]\nuse = \"any\""));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let (step, attempt, usage) = (StepId(0), 1, Usage::default());
    for event in [
        Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1),
        Event::AttemptStarted { step, attempt },
        Event::AttemptSucceeded { step, attempt, output: Json::null(), usage },
        Event::CancelRequested { reason: "late".into() },
    ] {
        run.apply(&Record { at: Timestamp(0), event }).unwrap();
    }
    let last = run.next(Timestamp(0), 1);
    assert!(matches!(&last[..], [Action::Record(Event::RunFinished { outcome: Outcome::Succeeded, .. })]), "{last:?}");
}

#[test]
fn a_workflow_has_a_time_out() {
    let toml = r#"
        timeout = "1s"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        use = "any"
        [steps.c]
        needs = ["b"]
        use = "any"
    "#;
    check(
        toml,
        &[("a", "ok@400"), ("b", "ok@900")],
        "
0 a#1
400 a succeeded
400 b#1
1000 timed out
1000 c skipped: the run timed out before its turn
1000 b cancelled
1000 TimedOut {}",
    );
}

#[test]
fn jitter_comes_from_the_runs_seed() {
    let toml = r#"
        [steps.a]
        use = "any"
        retry = { attempts = 3, delay = "1s", factor = 1 }
    "#;
    let plan = Arc::new(plan(toml));
    let play = Play::of(&plan, &[("a", "transient")], None);
    let starts: Vec<u64> = play
        .records
        .iter()
        .filter(|record| matches!(record.event, Event::AttemptStarted { .. }))
        .map(|record| record.at.0)
        .collect();
    let waits = [starts[1] - starts[0], starts[2] - starts[1]];
    assert!(waits.iter().all(|wait| (500..=1000).contains(wait)), "{waits:?}");
    assert_ne!(waits[0], waits[1]);
    assert_eq!(Play::of(&plan, &[("a", "transient")], None).log, play.log);
}

#[test]
fn a_record_that_does_not_follow_is_refused_and_changes_nothing() {
    let plan = Arc::new(plan("[steps.a]\nuse = \"any\""));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let created = Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1);
    run.apply(&Record { at: Timestamp(0), event: created.clone() }).unwrap();
    let misplaced = [
        created,
        Event::AttemptStarted { step: StepId(0), attempt: 2 },
        Event::AttemptSucceeded { step: StepId(0), attempt: 1, output: Json::null(), usage: Usage::default() },
        Event::AttemptStarted { step: StepId(7), attempt: 1 },
        Event::RunFinished { outcome: Outcome::Succeeded, outputs: Json::null(), faults: Vec::new() },
    ];
    for event in misplaced {
        let refused = run.apply(&Record { at: Timestamp(1), event }).unwrap_err();
        assert_eq!(refused.position, 1);
    }
    assert_eq!(run.next(Timestamp(1), 1).len(), 1);
}

/// Four times a step that opens, six lanes of eight steps side by side (every other lane through a pool of two, every
/// fourth step with two retries) and a step whose rule is false; in the last lane a step that fails for good.
#[test]
fn a_run_of_two_hundred_steps_ends_the_same_after_a_crash_at_any_record() {
    let mut toml = "pools.narrow = { size = 2 }\n".to_owned();
    let mut script = Vec::new();
    let mut step = |name: &str, needs: &[String], more: &str, ends: String| {
        writeln!(toml, "[steps.{name}]\nuse = \"any\"\nneeds = {needs:?}\n{more}").unwrap();
        script.push((name.to_owned(), ends));
        name.to_owned()
    };
    let mut ends: Vec<String> = Vec::new();
    for round in 0..4 {
        let needs: Vec<String> = ends.drain(..).map(|end| format!("{end}.finished")).collect();
        let open = step(&format!("r{round}"), &needs, "", "ok={\"go\":false}@3".to_owned());
        let never = format!("when = \"steps.{open}.output.go\"");
        step(&format!("r{round}_never"), std::slice::from_ref(&open), &never, String::new());
        for lane in 0..6 {
            let mut before = open.clone();
            for place in 0..8 {
                let took = 1 + (round + 3 * lane + 5 * place) % 7;
                let (more, ends) = match (lane % 2, place % 4) {
                    (_, 3) => (
                        "retry = { attempts = 3, delay = \"4ms\" }",
                        format!("transient@{took} timeout@{took} ok={{\"place\":{place}}}@{took}"),
                    ),
                    (0, _) => ("pool = \"narrow\"", format!("ok={{\"place\":{place}}}@{took}")),
                    _ if (round, lane, place) == (3, 5, 6) => ("", format!("permanent@{took}")),
                    _ => ("", format!("ok@{took}")),
                };
                before = step(&format!("r{round}_{lane}_{place}"), &[before], more, ends);
            }
            ends.push(before);
        }
    }
    let plan = Arc::new(plan(&toml));
    assert_eq!(plan.steps.len(), 200);
    let script: Vec<(&str, &str)> = script.iter().map(|(step, ends)| (&**step, &**ends)).collect();
    let live = Play::of(&plan, &script, None);
    assert_eq!(live.outcome(), Some(Outcome::Failed));
    assert!(live.records.len() > 600, "{} records", live.records.len());
    crash_everywhere(&plan, &script, &live);
}

/// 100,000 steps must cost a hundred thousand times a step. Counted in looks at the plan's steps it would be exact; a run
/// that scanned its steps at every event would take hours here instead of a second.
#[test]
fn a_long_run_costs_its_length_and_not_its_square() {
    let count = 100_000;
    let plan = Arc::new(plans::chain(count));
    let play = Play::lean(&plan);
    assert_eq!(play, count);
}

#[test]
fn an_output_that_is_handed_on_whole_is_handed_on_as_it_was_written() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        needs = ["a"]
        with = { from = "${steps.a.output}" }
    "#;
    let plan = Arc::new(plan(toml));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let created = Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1);
    let output = Json::parse(r#"{ "price": 1.50 }"#).unwrap();
    let ended = Event::AttemptSucceeded { step: StepId(0), attempt: 1, output, usage: Usage::default() };
    for event in [created, Event::AttemptStarted { step: StepId(0), attempt: 1 }, ended] {
        run.apply(&Record { at: Timestamp(0), event }).unwrap();
    }
    let [Action::Start(attempt)] = &run.next(Timestamp(0), 1)[..] else { panic!("b starts") };
    assert_eq!(attempt.input.as_str(), r#"{"from":{ "price": 1.50 }}"#);
}

#[test]
fn room_bounds_how_many_attempts_are_started() {
    let plan = Arc::new(plan("[steps.a]\nuse = \"any\"\n[steps.b]\nuse = \"any\""));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let created = Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1);
    run.apply(&Record { at: Timestamp(0), event: created }).unwrap();
    assert_eq!(run.next(Timestamp(0), 0), []);
    let one = run.next(Timestamp(0), 1);
    assert_eq!(one.len(), 1);
    run.apply(&Record { at: Timestamp(0), event: one[0].event().unwrap() }).unwrap();
    assert!(matches!(&run.next(Timestamp(0), 5)[..], [Action::Start(attempt)] if attempt.step == StepId(1)));
}

impl Play {
    /// Drives a run whose attempts all succeed at once, without keeping a log; how many succeeded.
    fn lean(plan: &Arc<Plan>) -> usize {
        let mut run = Run::new(plan.clone(), RunId("r".into()));
        let created = Run::creation(plan, plan.to_json().1, Json::from(serde_json::json!({})), 1);
        run.apply(&Record { at: Timestamp(0), event: created }).unwrap();
        let mut succeeded = 0;
        while run.outcome().is_none() {
            for action in run.next(Timestamp(0), usize::MAX) {
                let event = action.event().unwrap();
                run.apply(&Record { at: Timestamp(0), event }).unwrap();
                if let Action::Start(attempt) = action {
                    let (step, attempt, output) = (attempt.step, attempt.attempt, Json::null());
                    let event = Event::AttemptSucceeded { step, attempt, output, usage: Usage::default() };
                    run.apply(&Record { at: Timestamp(0), event }).unwrap();
                    succeeded += 1;
                }
            }
        }
        succeeded
    }
}

/// Three steps, and one that joins them as it is told.
fn joined(join: &str) -> String {
    format!(
        r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.c]
        use = "any"
        [steps.join]
        needs = ["a", "b", "c"]
        {join}
        use = "any"
        "#
    )
}

#[test]
fn a_join_of_any_starts_once_with_the_first_need_that_is_met() {
    check(
        &joined("join = \"any\""),
        &[("a", "permanent@10"), ("b", "ok@20"), ("c", "ok@30"), ("join", "ok@5")],
        "
0 a#1
0 b#1
0 c#1
10 a failed: Permanent
20 b succeeded
20 join#1
25 join succeeded
30 c succeeded
30 Failed {}",
    );
}

#[test]
fn a_join_of_any_is_skipped_when_no_need_can_be_met_any_more() {
    check(
        &joined("join = \"any\""),
        &[("a", "permanent@10"), ("b", "permanent@20"), ("c", "permanent@30")],
        "
0 a#1
0 b#1
0 c#1
10 a failed: Permanent
20 b failed: Permanent
30 c failed: Permanent
30 join skipped: it takes 1 of its 3 needs, but none can be met
30 Failed {}",
    );
}

#[test]
fn a_merge_waits_for_all_and_starts_if_one_was_met() {
    check(
        &joined("join = \"merge\""),
        &[("a", "ok@10"), ("b", "permanent@20"), ("c", "permanent@30")],
        "
0 a#1
0 b#1
0 c#1
10 a succeeded
20 b failed: Permanent
30 c failed: Permanent
30 join#1
30 join succeeded
30 Failed {}",
    );
}

#[test]
fn a_merge_of_nothing_is_skipped() {
    check(
        &joined("join = \"merge\""),
        &[("a", "permanent@10"), ("b", "permanent@20"), ("c", "permanent")],
        "
0 a#1
0 b#1
0 c#1
0 c failed: Permanent
10 a failed: Permanent
20 b failed: Permanent
20 join skipped: it takes 1 of its 3 needs, but none can be met
20 Failed {}",
    );
}

#[test]
fn a_partial_join_starts_with_the_last_need_that_it_takes() {
    check(
        &joined("join = { at-least = 2 }"),
        &[("a", "ok@10"), ("b", "ok@20"), ("c", "permanent@30")],
        "
0 a#1
0 b#1
0 c#1
10 a succeeded
20 b succeeded
20 join#1
20 join succeeded
30 c failed: Permanent
30 Failed {}",
    );
}

#[test]
fn a_partial_join_is_skipped_as_soon_as_too_few_can_be_met() {
    check(
        &joined("join = { at-least = 2 }"),
        &[("a", "permanent@10"), ("b", "permanent@20"), ("c", "ok@30")],
        "
0 a#1
0 b#1
0 c#1
10 a failed: Permanent
20 b failed: Permanent
20 join skipped: it takes 2 of its 3 needs, but only 1 can be met
30 c succeeded
30 Failed {}",
    );
}

#[test]
fn exclusive_branches_meet_again_in_a_merge() {
    let toml = r#"
        [steps.gate]
        use = "any"
        [steps.promote]
        needs = ["gate"]
        when = "steps.gate.output.good"
        use = "any"
        [steps.repair]
        needs = ["gate"]
        when = "!steps.gate.output.good"
        use = "any"
        [steps.tell]
        needs = ["promote", "repair"]
        join = "merge"
        use = "any"
        with.text = "${has(steps.promote.output) ? steps.promote.output : steps.repair.status}"
        [outputs]
        told = "${steps.tell.status}"
    "#;
    check(
        toml,
        &[("gate", r#"ok={"good":true}"#), ("promote", "ok@10")],
        "
0 gate#1
0 gate succeeded
0 promote#1
0 repair skipped: `when` was false: !steps.gate.output.good, where steps.gate.output.good is true
10 promote succeeded
10 tell#1
10 tell succeeded
10 Succeeded {\"told\":\"succeeded\"}",
    );
}

#[test]
fn two_states_of_a_step_are_alternatives_of_a_join_of_any() {
    let toml = r#"
        [steps.a]
        when = "size(run.id) > 0"
        use = "any"
        [steps.b]
        needs = ["a.failed", "a.skipped"]
        join = "any"
        use = "any"
    "#;
    check(
        toml,
        &[("a", "permanent")],
        "
0 a#1
0 a failed: Permanent
0 b#1
0 b succeeded
0 Failed {}",
    );
}

/// Two branches of two steps, of which the first that comes through is enough; `a1` is needed elsewhere too.
const RACE: &str = r#"
    [steps.a1]
    use = "any"
    [steps.a2]
    needs = ["a1"]
    use = "any"
    [steps.b1]
    use = "any"
    [steps.b2]
    needs = ["b1"]
    use = "any"
    [steps.audit]
    needs = ["a1"]
    use = "any"
    [steps.first]
    needs = ["a2", "b2"]
    join = "any"
    rest = "cancel"
    use = "any"
"#;

#[test]
fn a_join_that_cancels_its_rest_ends_the_branches_that_lose() {
    check(
        RACE,
        &[("a1", "ok@10"), ("a2", "ok@10"), ("b1", "ok@500"), ("audit", "ok@500"), ("first", "ok@5")],
        "
0 a1#1
0 b1#1
10 a1 succeeded
10 a2#1
10 audit#1
20 a2 succeeded
20 b2 skipped: `first` does not need it any more
20 first#1
20 b1 cancelled
25 first succeeded
510 audit succeeded
510 Succeeded {}",
    );
}

#[test]
fn what_serves_something_else_too_is_not_cancelled() {
    check(
        RACE,
        &[("a1", "ok@500"), ("b1", "ok@10"), ("b2", "ok@10"), ("audit", "ok@5")],
        "
0 a1#1
0 b1#1
10 b1 succeeded
10 b2#1
20 b2 succeeded
20 a2 skipped: `first` does not need it any more
20 first#1
20 first succeeded
500 a1 succeeded
500 audit#1
505 audit succeeded
505 Succeeded {}",
    );
}

#[test]
fn what_waits_for_its_next_attempt_is_cancelled_with_the_rest() {
    let toml = r#"
        [steps.a]
        use = "any"
        retry = { attempts = 9, delay = "1h", jitter = false }
        [steps.b]
        use = "any"
        [steps.first]
        needs = ["a", "b"]
        join = "any"
        rest = "cancel"
        use = "any"
    "#;
    check(
        toml,
        &[("a", "transient@1"), ("b", "ok@10")],
        "
0 a#1
0 b#1
1 a failed: Transient
10 b succeeded
10 a cancelled
10 first#1
10 first succeeded
10 Succeeded {}",
    );
}

#[test]
fn a_join_of_all_that_cancels_its_rest_gives_up_at_the_first_failure() {
    check(
        &joined("rest = \"cancel\""),
        &[("a", "permanent@10"), ("b", "ok@500"), ("c", "ok@5")],
        "
0 a#1
0 b#1
0 c#1
5 c succeeded
10 a failed: Permanent
10 join skipped: it needs `a` to succeed, but `a` failed
10 b cancelled
10 Failed {}",
    );
}

#[test]
fn joins_in_joins_are_cancelled_with_all_that_serves_them() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.c]
        needs = ["b"]
        use = "any"
        [steps.d]
        use = "any"
        [steps.inner]
        needs = ["c", "d"]
        join = "any"
        rest = "cancel"
        use = "any"
        [steps.outer]
        needs = ["a", "inner"]
        join = "any"
        rest = "cancel"
        use = "any"
        [steps.after]
        needs = ["outer"]
        use = "any"
    "#;
    check(
        toml,
        &[("a", "ok@10"), ("b", "ok@500"), ("d", "ok@500")],
        "
0 a#1
0 b#1
0 d#1
10 a succeeded
10 c skipped: `inner` does not need it any more
10 inner skipped: `outer` does not need it any more
10 outer#1
10 b cancelled
10 d cancelled
10 outer succeeded
10 after#1
10 after succeeded
10 Succeeded {}",
    );
}

#[test]
fn what_waits_for_its_place_is_skipped_with_the_rest_and_takes_none() {
    let toml = r#"
        pools.one = 1
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        pool = "one"
        [steps.c]
        use = "any"
        pool = "one"
        [steps.first]
        needs = ["a", "c"]
        join = "any"
        rest = "cancel"
        use = "any"
    "#;
    // After a crash another step may be first in line, so that this is not played with one.
    let play = Play::of(&Arc::new(plan(toml)), &[("a", "ok@10"), ("b", "ok@20")], None);
    let expected = "
0 a#1
0 b#1
10 a succeeded
10 c skipped: `first` does not need it any more
10 first#1
10 first succeeded
20 b succeeded
20 Succeeded {}";
    assert_eq!(play.log.join("\n"), expected.trim());
}

#[test]
fn a_step_sees_what_had_ended_when_its_join_let_it_start_however_often_it_is_tried() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.c]
        needs = ["a", "b"]
        join = "any"
        use = "any"
        with = { a = "${steps.a.status}", b = "${steps.b.status}" }
        retry = { attempts = 2, delay = "1s", jitter = false }
    "#;
    let plan = Arc::new(plan(toml));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let mut apply = |at: u64, event: Event| {
        run.apply(&Record { at: Timestamp(at), event }).unwrap();
        let input = |action: Action| match action {
            Action::Start(attempt) => Some(attempt.input.as_str().to_owned()),
            _ => None,
        };
        run.next(Timestamp(at), 9).into_iter().find_map(input).unwrap_or_default()
    };
    let ended = |step: u32| Event::AttemptSucceeded {
        step: StepId(step),
        attempt: 1,
        output: Json::null(),
        usage: Usage::default(),
    };
    let started = |step: u32| Event::AttemptStarted { step: StepId(step), attempt: 1 };
    apply(0, Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1));
    apply(0, started(0));
    apply(0, started(1));
    assert_eq!(apply(1, ended(0)), r#"{"a":"succeeded","b":"unfinished"}"#);
    apply(1, started(2));
    apply(2, ended(1));
    let failure = Failure {
        kind: FailureKind::Transient,
        message: "scripted".into(),
        details: None,
        backtrace: None,
        retry_after_ms: None,
    };
    let again = apply(2_000, Event::AttemptFailed { step: StepId(2), attempt: 1, failure, usage: Usage::default() });
    assert_eq!(again, "", "it is tried again a second later");
    let retried = run.next(Timestamp(3_000), 9);
    let [Action::Start(attempt)] = &retried[..] else { panic!("{retried:?}") };
    assert_eq!(attempt.input.as_str(), r#"{"a":"succeeded","b":"unfinished"}"#);
}

#[test]
fn a_plan_without_joins_is_written_as_before_there_were_any() {
    let (text, _) = plan("[steps.a]\nuse = \"any\"\n[steps.b]\nuse = \"any\"\nneeds = [\"a\"]").to_json();
    assert!(!text.contains("join") && !text.contains("rest"), "{text}");
    let plan = Plan::from_json(&plan(RACE).to_json().0).unwrap();
    let first = plan.named_in(BodyId(0), "first").unwrap();
    let mut region: Vec<&str> = plan.region(first).iter().map(|step| &*plan.step(*step).name).collect();
    region.sort_unstable();
    assert_eq!(region, ["a2", "b1", "b2"]);
}

/// A ladder of joins, each of which serves the next, and each of which a step serves alone; and all of them cancel.
#[test]
fn a_hundred_thousand_nested_joins_cost_their_number() {
    let count = 50_000;
    let mut toml = String::from("[steps.j0]\nuse = \"any\"\n");
    for at in 1..count {
        let before = at - 1;
        writeln!(toml, "[steps.s{at}]\nuse = \"any\"\n[steps.j{at}]\nuse = \"any\"\nrest = \"cancel\"").unwrap();
        writeln!(toml, "needs = [\"j{before}\", \"s{at}.finished\"]").unwrap();
    }
    assert_eq!(Play::lean(&Arc::new(plan(&toml))), 2 * count - 1);
}

/// Two steps; and three that run whatever becomes of them.
const ALWAYS: &str = r#"
    timeout = "1s"
    [steps.lease]
    use = "any"
    [steps.work]
    needs = ["lease"]
    use = "any"
    [always.tell]
    needs = ["work.failed"]
    use = "any"
    [always.collect]
    use = "any"
    retry = { attempts = 2, delay = "2s", jitter = false }
    [always.release]
    needs = ["lease", "collect.finished"]
    use = "any"
    with.work = "${steps.work.status}"
"#;

#[test]
fn always_steps_run_when_all_steps_have_come_to_an_end() {
    check(
        ALWAYS,
        &[("lease", "ok@10"), ("work", "ok@10"), ("collect", "ok@10")],
        "
0 lease#1
10 lease succeeded
10 work#1
20 work succeeded
20 tell skipped: it needs `work` to fail, but `work` succeeded
20 collect#1
30 collect succeeded
30 release#1
30 release succeeded
30 Succeeded {}",
    );
}

#[test]
fn always_steps_run_after_a_failure_and_do_not_heal_it() {
    check(
        ALWAYS,
        &[("work", "permanent@10")],
        "
0 lease#1
0 lease succeeded
0 work#1
10 work failed: Permanent
10 tell#1
10 collect#1
10 tell succeeded
10 collect succeeded
10 release#1
10 release succeeded
10 Failed {}",
    );
}

#[test]
fn an_always_step_that_fails_fails_the_run() {
    check(
        ALWAYS,
        &[("release", "permanent")],
        "
0 lease#1
0 lease succeeded
0 work#1
0 work succeeded
0 tell skipped: it needs `work` to fail, but `work` succeeded
0 collect#1
0 collect succeeded
0 release#1
0 release failed: Permanent
0 Failed {}",
    );
}

#[test]
fn always_steps_run_after_a_cancel_and_are_not_cut_by_it() {
    check(
        ALWAYS,
        &[("work", "ok@500"), ("collect", "transient@10 ok@10"), ("cancel", "@100")],
        "
0 lease#1
0 lease succeeded
0 work#1
100 cancel: enough
100 work cancelled
100 tell skipped: it needs `work` to fail, but `work` was cancelled
100 collect#1
110 collect failed: Transient
2110 collect#2
2120 collect succeeded
2120 release#1
2120 release succeeded
2120 Cancelled {}",
    );
}

#[test]
fn a_second_cancel_ends_always_steps_too() {
    check(
        ALWAYS,
        &[("work", "ok@500"), ("collect", "ok@500"), ("cancel", "@100 @200")],
        "
0 lease#1
0 lease succeeded
0 work#1
100 cancel: enough
100 work cancelled
100 tell skipped: it needs `work` to fail, but `work` was cancelled
100 collect#1
200 cancel: enough
200 collect cancelled
200 release skipped: the run was cancelled before its turn
200 Cancelled {}",
    );
}

#[test]
fn a_cancel_that_finds_only_always_steps_ends_them() {
    check(
        ALWAYS,
        &[("collect", "ok@500"), ("cancel", "@100")],
        "
0 lease#1
0 lease succeeded
0 work#1
0 work succeeded
0 tell skipped: it needs `work` to fail, but `work` succeeded
0 collect#1
100 cancel: enough
100 collect cancelled
100 release skipped: the run was cancelled before its turn
100 Cancelled {}",
    );
}

#[test]
fn the_time_out_of_a_workflow_is_not_that_of_its_always_steps() {
    check(
        ALWAYS,
        &[("work", "ok@5000"), ("collect", "ok@5000")],
        "
0 lease#1
0 lease succeeded
0 work#1
1000 timed out
1000 work cancelled
1000 tell skipped: it needs `work` to fail, but `work` was cancelled
1000 collect#1
6000 collect succeeded
6000 release#1
6000 release succeeded
6000 TimedOut {}",
    );
}

#[test]
fn always_steps_join_as_others_do_once_all_steps_are_over() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [always.either]
        needs = ["a.failed", "b.failed"]
        join = "any"
        use = "any"
        with.text = "${has(steps.a.failure) ? steps.a.failure.message : 'b'}"
        [always.both]
        needs = ["a.failed", "b.failed"]
        use = "any"
    "#;
    check(
        toml,
        &[("a", "permanent@10"), ("b", "ok@20")],
        "
0 a#1
0 b#1
10 a failed: Permanent
20 b succeeded
20 either#1
20 both skipped: it needs `b` to fail, but `b` succeeded
20 either succeeded
20 Failed {}",
    );
}

#[test]
fn what_a_cancelled_run_ends_is_not_put_down_to_a_join() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.both]
        use = "any"
        needs = ["a", "b"]
        rest = "cancel"
    "#;
    let plan = Arc::new(plan(toml));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let usage = Usage::default();
    // The driver takes in the cancel and the end of `a` at once, before it asks what follows.
    for event in [
        Run::creation(&plan, plan.to_json().1, Json::from(serde_json::json!({})), 1),
        Event::AttemptStarted { step: StepId(0), attempt: 1 },
        Event::AttemptStarted { step: StepId(1), attempt: 1 },
        Event::CancelRequested { reason: "enough".into() },
        Event::AttemptCancelled { step: StepId(0), attempt: 1, usage },
    ] {
        run.apply(&Record { at: Timestamp(0), event }).unwrap();
    }
    assert!(run.is_cut(StepId(1)));
    assert_eq!(run.unneeded_by(StepId(1)), None);
}
