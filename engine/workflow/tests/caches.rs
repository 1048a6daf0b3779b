//! Steps whose answers are kept, in virtual time: what a hit and a miss are to a run, and what may come in between.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Origin, Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::StepId;
use downbeat_workflow::run::{Action, Run};
use play::check;

#[test]
fn a_hit_succeeds_without_an_attempt_and_its_answer_is_seen_like_any_other() {
    check(
        r#"
        outputs.seen = "${steps.a.output.n}"
        [steps.a]
        use = "any"
        cache = true
        [steps.b]
        needs = ["a"]
        use = "any"
        with = { n = "${steps.a.output.n}" }
        "#,
        &[("cache a", r#"hit={"n":7}@5"#)],
        r#"
0 a asks
5 a hit: {"n":7}
5 b#1
5 b succeeded
5 Succeeded {"seen":7}"#,
    );
}

#[test]
fn a_miss_is_followed_by_an_attempt() {
    check(
        r#"
        [steps.a]
        use = "any"
        cache = true
        "#,
        &[("cache a", "miss@5")],
        "
0 a asks
5 a#1
5 a succeeded
5 Succeeded {}",
    );
}

#[test]
fn a_hit_takes_no_place_in_a_pool_and_a_miss_does() {
    check(
        r#"
        [pools]
        one = 1
        [steps.busy]
        use = "any"
        pool = "one"
        [steps.hit]
        use = "any"
        pool = "one"
        cache = true
        [steps.miss]
        use = "any"
        pool = "one"
        cache = true
        "#,
        &[("busy", "ok@100"), ("cache hit", "hit=1@5"), ("cache miss", "miss@5")],
        "
0 busy#1
0 hit asks
0 miss asks
5 hit hit: 1
100 busy succeeded
100 miss#1
100 miss succeeded
100 Succeeded {}",
    );
}

#[test]
fn the_cache_is_asked_only_when_the_rule_holds_and_again_before_each_attempt() {
    check(
        r#"
        [steps.no]
        when = "false"
        use = "any"
        cache = true
        [steps.a]
        use = "any"
        cache = true
        retry = { attempts = 2, delay = "1s", jitter = false }
        "#,
        &[("a", "transient ok"), ("cache a", "miss hit=2@5")],
        "
0 no skipped: `when` was false: false
0 a asks
0 a#1
0 a failed: Transient
1000 a asks
1005 a hit: 2
1005 Succeeded {}",
    );
}

#[test]
fn each_item_is_asked_about_by_itself() {
    check(
        r#"
        outputs.all = "${steps.a.output}"
        [steps.a]
        foreach = [1, 2]
        use = "any"
        with = { n = "${item}" }
        cache = true
        "#,
        &[("cache a[0]", "hit=10@5"), ("cache a[1]", "miss@3"), ("a[1]", "ok=20@9")],
        "
0 a opened
0 a[0]
0 a[1]
0 a[0] asks
0 a[1] asks
3 a[1]#1
5 a[0] hit: 10
12 a[1] succeeded
12 a succeeded
12 Succeeded {\"all\":[10,20]}",
    );
}

#[test]
fn an_answer_that_comes_after_the_end_of_its_step_changes_nothing() {
    check(
        r#"
        [steps.a]
        use = "any"
        cache = true
        "#,
        &[("cache a", "hit=1@100"), ("cancel", "@50")],
        "
0 a asks
50 cancel: enough
50 a skipped: the run was cancelled before its turn
50 Cancelled {}",
    );
    check(
        r#"
        [steps.slow]
        use = "any"
        cache = true
        [steps.fast]
        use = "any"
        [steps.first]
        needs = ["slow", "fast"]
        join = "any"
        rest = "cancel"
        use = "any"
        "#,
        &[("cache slow", "hit=1@100"), ("fast", "ok@10")],
        "
0 slow asks
0 fast#1
10 fast succeeded
10 slow skipped: `first` does not need it any more
10 first#1
10 first succeeded
10 Succeeded {}",
    );
}

#[test]
fn what_is_paused_does_not_ask_and_asks_again_once_it_goes_on() {
    check(
        r#"
        [pools]
        one = 1
        [steps.a]
        use = "any"
        cache = true
        [steps.miss]
        use = "any"
        pool = "one"
        cache = true
        [steps.b]
        needs = ["a"]
        use = "any"
        cache = true
        "#,
        &[
            ("cache a", "hit=1@10"),
            ("cache miss", "miss@10"),
            ("pause", "@5"),
            ("unpause", "@100"),
            ("pause b", "@107"),
            ("unpause b", "@200"),
        ],
        "
0 a asks
0 miss asks
5 paused all
100 unpaused all
100 a asks
100 miss asks
107 paused b
110 a hit: 1
110 miss#1
110 miss succeeded
200 unpaused b
200 b asks
200 b#1
200 b succeeded
200 Succeeded {}",
    );
}

#[test]
fn an_input_that_cannot_be_made_fails_before_the_cache_is_asked() {
    check(
        r#"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        use = "any"
        with = { n = "${steps.a.output.n}" }
        cache = true
        "#,
        &[("a", "ok={}")],
        "
0 a#1
0 a succeeded
0 b failed: `with` can't be evaluated: `steps.a.output.n`: there is no `n` in the output
0 Failed {}",
    );
}

/// A run of `a`, which is cached, and `b`, which is not, after its creation.
fn begun() -> Run {
    let plan = Arc::new(plans::plan("[steps.a]\nuse = \"any\"\ncache = true\n[steps.b]\nuse = \"any\"\n"));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let created = Run::creation(&plan, plan.to_json().1, Json::parse("{}").unwrap(), 1);
    run.apply(&Record { at: Timestamp(0), event: created }).unwrap();
    run
}

fn hit(step: u32) -> Record {
    let origin = Box::new(Origin { run: RunId("e".into()), step: "a".into(), at: Timestamp(0) });
    let event = Event::CacheHit { step: StepId(step), output: Json::null(), key: Digest::of(b"k"), origin };
    Record { at: Timestamp(1), event }
}

#[test]
fn a_hit_follows_only_where_the_cache_was_asked() {
    let mut run = begun();
    let asked = |step: u32| Record { at: Timestamp(0), event: Event::CacheAsked { step: StepId(step) } };
    assert!(run.apply(&hit(0)).is_err(), "before it was asked");
    assert!(run.apply(&asked(1)).is_err(), "of a step that is not cached");
    assert!(run.apply(&asked(7)).is_err() && run.apply(&hit(7)).is_err(), "of no step");
    run.apply(&asked(0)).unwrap();
    assert_eq!(run.asking(), [StepId(0)]);
    assert!(run.apply(&asked(0)).is_err(), "twice");
    run.apply(&hit(0)).unwrap();
    assert!(run.apply(&hit(0)).is_err(), "after the step's end");
    assert_eq!(run.status(StepId(0)).1, 0, "a hit is no attempt");
}

#[test]
fn who_has_no_cache_starts_the_attempt_at_once() {
    let mut run = begun();
    let action = run.missed(StepId(0)).unwrap();
    assert!(matches!(&action, Action::Start(attempt) if attempt.attempt == 1));
    run.apply(&Record { at: Timestamp(0), event: action.event().unwrap() }).unwrap();
    assert_eq!(run.missed(StepId(1)), None, "of a step that is not cached, `next` is asked");
}

#[test]
fn an_answer_is_neither_taken_nor_missed_while_its_step_is_paused() {
    let mut run = begun();
    let mut apply = |event: Event| run.apply(&Record { at: Timestamp(0), event }).map(|()| run.clone());
    apply(Event::CacheAsked { step: StepId(0) }).unwrap();
    let paused = apply(Event::Paused { step: Some(StepId(0)), reason: String::new() }).unwrap();
    assert_eq!((paused.asking(), paused.missed(StepId(0))), (vec![], None));
    assert!(apply(hit(0).event).is_err());
    let again = apply(Event::Unpaused { step: Some(StepId(0)) }).unwrap().next(Timestamp(0), 1);
    assert!(matches!(&again[..], [Action::Ask(attempt)] if attempt.step == StepId(0)), "{again:?}");
}

#[test]
fn events_of_the_cache_are_written_as_they_are_told() {
    let text = serde_json::to_string(&hit(0).event).unwrap();
    let key = Digest::of(b"k");
    let origin = r#"{"run":"e","step":"a","at":0}"#;
    assert_eq!(text, format!(r#"{{"cache-hit":{{"step":0,"output":null,"key":"{key}","origin":{origin}}}}}"#));
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), hit(0).event);
}
