//! What is told of runs whose ways are not plain: undoing that was not needed, waiting, blocks that are tried again, steps that
//! were cancelled, groups and rates. A line of a page for each fact.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;

use downbeat_workflow::event::{Event, RunId, Timestamp};
use downbeat_workflow::explain::Account;
use downbeat_workflow::line::used_up_until;
use downbeat_workflow::plan::PoolId;
use downbeat_workflow::run::Run;

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;
use plans::plan;
use play::Play;

/// A run, played to its end.
struct Told(Play);

impl Told {
    fn of(toml: &str, script: &[(&str, &str)]) -> Told {
        Told(Play::of(&Arc::new(plan(toml)), script, None))
    }

    /// The page of the run, or of one of its steps, as it was after the last record before `until`, at that time.
    fn page_at(&self, step: Option<&str>, until: u64) -> String {
        let records: Vec<_> = self.0.records.iter().filter(|record| record.at.0 < until).cloned().collect();
        let run = Run::replay(self.0.run.plan().clone(), RunId("r".into()), &records).unwrap();
        let focus = step.map(|step| run.step_at(step).unwrap());
        let account = Account::of(run.plan(), run.id(), &records, Timestamp(until), focus).unwrap();
        focus.map_or_else(|| account.page(), |step| account.step_page(step.index()))
    }

    fn page(&self) -> String {
        self.page_at(None, u64::MAX)
    }

    fn step(&self, step: &str) -> String {
        self.page_at(Some(step), u64::MAX)
    }
}

/// The page has these lines, whatever else it has.
fn has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|has| has.trim_end() == *line), "no line {line:?} in:\n{page}");
    }
}

#[test]
fn what_would_undo_and_never_had_to_is_not_what_the_end_waited_for() {
    let told = Told::of(
        r#"
        [steps.w]
        use = "any"
        [steps.blk.steps.x]
        use = "any"
        undo = { use = "any" }
        [steps.each]
        foreach = [1, 2]
        [steps.each.steps.y]
        use = "any"
        undo = { use = "any" }
        [steps.last]
        needs = ["w", "blk", "each"]
        use = "any"
        "#,
        &[("w", "ok@1500"), ("x", "ok@10"), ("y", "ok@20"), ("last", "ok@500")],
    );
    let page = told.page();
    let path = page.split("waited for\n").nth(1).unwrap();
    assert_eq!(
        path.trim_end(),
        "   0 ms  w     1.5 s running
  1.5 s  last  500 ms running
  most of it: w, 1.5 s running (75 %)",
        "{page}"
    );
    has(
        &told.step("each[1]/y.undo"),
        &["state     not needed", "why       it is not needed: what it would take back was not in vain"],
    );
}

#[test]
fn an_undo_says_what_was_in_vain() {
    let told = Told::of(
        r#"
        [steps.ship]
        foreach = [1, 2]
        [steps.ship.steps.push]
        use = "any"
        undo = { use = "any" }
        "#,
        &[("ship[0]/push", "ok@10"), ("ship[1]/push", "permanent@20")],
    );
    let why = told.step("ship[0]/push.undo");
    assert!(why.contains("\nwhy       it takes back what ship[0]/push did, as ship failed (a step within it failed: 1 of 2 items failed: item 1 (2): "), "{why}");
    let cancelled = Told::of(
        "[steps.a]\nuse = \"any\"\nundo = { use = \"any\" }\n[steps.b]\nneeds = [\"a\"]\nuse = \"any\"\n",
        &[("a", "ok@10"), ("b", "ok@50"), ("cancel", "@20")],
    );
    has(&cancelled.step("a.undo"), &["why       it takes back what a did, as the run was cancelled"]);
}

#[test]
fn who_waits_says_for_what_and_then_what_ended_it() {
    let told = Told::of(
        r#"
        [signals.go]
        [steps.ask]
        wait = { approval = ["ann", "bob"], question = "Ship 1.2?" }
        [steps.neg]
        wait = { signal = "go", for = "1s" }
        [steps.slept]
        wait = "2s"
        [steps.late]
        wait = { signal = "go" }
        timeout = "4s"
        "#,
        &[("approve ask", "@5000"), ("signal go", "@3000")],
    );
    has(
        &told.page_at(Some("ask"), 500),
        &["waits     for the approval of ann or bob: Ship 1.2? – `downbeat approve r --step ask`"],
    );
    has(
        &told.page_at(None, 500),
        &[
            "  500 ms  ask waits for the approval of ann or bob: Ship 1.2? – `downbeat approve r --step ask`",
            "  500 ms  neg waits for the signal `go`, or until 1970-01-01T00:00:01.000Z – `downbeat signal r go`",
            "  500 ms  slept waits until 1970-01-01T00:00:02.000Z",
            "  500 ms  late waits for the signal `go`, until 1970-01-01T00:00:04.000Z at the latest – `downbeat signal r go`",
        ],
    );
    has(&told.step("neg"), &["waited    until its time came"]);
    has(&told.step("late"), &["waited    until the signal `go` came"]);
    assert!(told.step("ask").contains("\nwaited    until "), "{}", told.step("ask"));
}

#[test]
fn a_step_deep_within_a_block_that_is_tried_again_is_tried_again_with_it() {
    let told = Told::of(
        r#"
        [steps.blk]
        retry = { attempts = 2, delay = "200ms", jitter = false }
        [steps.blk.steps.inner.steps.each]
        foreach = [1]
        use = "any"
        "#,
        &[("each", "permanent@30")],
    );
    let page = told.page();
    let told: Vec<&str> = page.lines().filter(|line| line.contains("each[0] failed")).collect();
    let first = "   30 ms  blk/inner/each[0] failed: permanent: scripted; not tried again by itself, but with what it belongs to";
    let last = "  260 ms  blk/inner/each[0] failed: permanent: scripted; not tried again: a failure of this kind does not go away";
    assert_eq!(told, [first, last], "{page}");
}

const TRIED: &str = r#"
    [steps.blk]
    retry = { attempts = 2, delay = "200ms", jitter = false }
    [steps.blk.steps.x]
    use = "any"
    [steps.blk.steps.y]
    needs = ["x"]
    use = "any"
    "#;

#[test]
fn a_block_that_was_tried_again_tells_each_time_and_the_time_between() {
    let told = Told::of(TRIED, &[("x", "ok@10"), ("blk/y", "permanent@30")]);
    has(
        &told.page(),
        &[
            "   40 ms  blk/y failed: permanent: scripted; not tried again by itself, but with what it belongs to",
            "   40 ms  blk failed; tried again after 200 ms (its `delay`): failure 1 of 2 at most",
            "    0 ms  blk      200 ms between attempts, 80 ms in its steps",
        ],
    );
    has(
        &told.step("blk"),
        &[
            "time      280 ms: 200 ms between attempts, 80 ms in its steps",
            "tries",
            "  #1 after 0 ms: failed, a step within it failed after 40 ms",
            "     `blk/y` failed: scripted",
            "     tried again after 200 ms (its `delay`): failure 1 of 2 at most",
            "  #2 after 240 ms: failed, a step within it failed after 40 ms",
        ],
    );
    // Of what is within, the latest.
    has(
        &told.step("blk/y"),
        &[
            "step      blk/y (time 2 of 2) of run r (w)",
            "  #1 after 250 ms: failed, permanent after 30 ms",
            "     not tried again: a failure of this kind does not go away",
        ],
    );
}

#[test]
fn why_a_step_was_cancelled_is_told() {
    let told = Told::of(
        r#"
        [steps.a]
        use = "any"
        cancels = ["b", "d"]
        [steps.b]
        use = "any"
        [steps.c]
        use = "any"
        [steps.d.steps.e]
        use = "any"
        [steps.each]
        foreach = { in = [1, 2, 3], join = "any", rest = "cancel" }
        use = "any"
        "#,
        &[
            ("a", "ok@20"),
            ("b", "ok@90"),
            ("c", "ok@90"),
            ("e", "ok@90"),
            ("each", "ok@90"),
            ("each[1]", "ok@30"),
            ("cancel c", "@10"),
        ],
    );
    let ran = "why       it ran as it needs nothing; then it was cancelled: ";
    has(&told.step("b"), &[&format!("{ran}`a` succeeded (`cancels`)")]);
    has(&told.step("d/e"), &[&format!("{ran}`a` succeeded (`cancels`)")]);
    has(&told.step("c"), &[&format!("{ran}asked for: enough")]);
    has(&told.step("each[0]"), &[&format!("{ran}`each` was decided without it")]);
    has(
        &told.page(),
        &[
            "  20 ms  b, d/e, d cancelled, because a succeeded (`cancels`)",
            "  30 ms  each[0], each[2] cancelled, because each was decided without them",
        ],
    );
    let outer = Told::of(
        "[steps.d.steps.e]\nuse = \"any\"\n[steps.f]\ntimeout = \"10ms\"\n[steps.f.steps.g]\nuse = \"any\"\n",
        &[("e", "ok@90"), ("g", "ok@90"), ("cancel d", "@10")],
    );
    has(&outer.step("d/e"), &[&format!("{ran}the end of `d` was asked for: enough")]);
    has(&outer.step("f/g"), &[&format!("{ran}the timeout of `f` passed")]);
}

#[test]
fn only_those_that_a_group_held_back_waited_for_it_and_only_if_it_did() {
    let toml = r#"
        concurrency.group = "g"
        [steps.a]
        use = "any"
        [steps.b]
        needs = ["a"]
        use = "any"
        "#;
    let waited = Told::of(toml, &[("a", "ok@100"), ("b", "ok@100"), ("admit", "@3000")]);
    has(&waited.step("a"), &["time      3.1 s: 3.0 s in line for the group of its run, 100 ms running"]);
    has(&waited.step("b"), &["time      3.2 s: 3.1 s waiting for its needs, 100 ms running"]);
    let passed = Told::of(toml, &[("a", "ok@100"), ("b", "ok@100"), ("admit", "@18")]);
    assert!(!passed.page().contains("group"), "{}", passed.page());
    assert!(!passed.step("b").contains("group"), "{}", passed.step("b"));
}

#[test]
fn only_a_need_that_was_met_gave_a_step_its_turn() {
    let told = Told::of(
        r#"
        [steps.ask]
        use = "any"
        when = "false"
        [steps.ship]
        needs = ["ask", "ask.skipped"]
        join = "any"
        use = "any"
        "#,
        &[],
    );
    has(
        &told.step("ship"),
        &[
            "needs     ask to succeed: was skipped after 0 ms",
            "          ask to be skipped: was skipped after 0 ms; this gave it its turn",
        ],
    );
}

#[test]
fn one_step_has_its_turn_and_what_timed_out_was_not_near_its_timeout() {
    let told = Told::of(
        "timeout = \"50ms\"\n[steps.hang]\nuse = \"any\"\n[steps.next]\nneeds = [\"hang\"]\nuse = \"any\"\n",
        &[("hang", "ok@90")],
    );
    has(&told.page(), &["  because the run timed out before its turn"]);
}

#[test]
fn a_rate_that_is_used_up_says_until_when() {
    let told = Told::of(
        "[pools]\napi = { size = 4, rate = \"2/min\" }\n[steps.each]\nforeach = [1, 2, 3]\nuse = \"any\"\npool = \"api\"\n",
        &[("each", "ok@10")],
    );
    let before = |until: u64| {
        let records = told.0.records.iter().filter(|record| record.at.0 < until);
        used_up_until(told.0.run.plan(), PoolId(0), records, Timestamp(until))
    };
    assert_eq!((before(0), before(30_000), before(60_001)), (None, Some(Timestamp(60_000)), None));
    assert!(told.0.records.iter().any(|record| matches!(record.event, Event::AttemptQueued { .. })));
}
