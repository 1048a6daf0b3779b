//! Runs in virtual time: a workflow, a script of how its attempts end, and the log that must come out. Every scenario is
//! also played with a crash after each of its records: recovery must lead to the same ends, with no attempt recorded twice
//! and only those in flight repeated; and replay must give the run that was live.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, Interruption, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, PoolId, StepId};
use downbeat_workflow::run::{Action, Run, StepStatus};

mod plans;
use plans::plan;

/// Plays `toml`, each attempt ending as its step's script says, and compares the log.
///
/// A script is a list of ends: `ok`, `ok={"json":1}`, `transient`, `transient:500` (with a retry-after of 500 ms), `permanent`,
/// `timeout`, each with `@ms` for how long the attempt takes (default 0). A step without a script succeeds at once.
/// The script `cancel @ms` cancels the run.
fn check(toml: &str, script: &[(&str, &str)], expected: &str) {
    let plan = Arc::new(plan(toml));
    let live = Play::of(&plan, script, None);
    assert_eq!(live.log.join("\n"), expected.trim_matches('\n'), "\nthe log differs");
    crash_everywhere(&plan, script, &live);
}

/// Plays it again with a crash after each record, and compares with what was live.
fn crash_everywhere(plan: &Arc<Plan>, script: &[(&str, &str)], live: &Play) {
    for crash_after in 1..live.records.len() {
        let crashed = Play::of(plan, script, Some(crash_after));
        let story = || format!("crash after record {crash_after}: {:#?}", crashed.log);
        assert_eq!(crashed.outcome(), live.outcome(), "{}", story());
        assert_eq!(crashed.ends(), live.ends(), "{}", story());
        let mut seen = BTreeSet::new();
        for record in &crashed.records {
            if let Event::AttemptStarted { step, attempt } = record.event {
                assert!(seen.insert((step, attempt)), "attempt recorded twice: {}", story());
            }
        }
        assert!(crashed.performed <= live.performed + crashed.lost, "repeated more than was in flight: {}", story());
    }
}

/// Up to this many steps, replay is compared with the live run at every turn; beyond that, which costs the square of the
/// run's length, at the crash alone.
const STEPS_REPLAYED: usize = 50;

struct Play {
    plan: Arc<Plan>,
    scripts: HashMap<String, Vec<String>>,
    run: Run,
    records: Vec<Record>,
    log: Vec<String>,
    now: u64,
    /// Attempts in flight by when they end.
    flying: BTreeMap<(u64, u32), u32>,
    pools: HashMap<PoolId, (u32, VecDeque<StepId>)>,
    places: HashMap<StepId, PoolId>,
    failures: HashMap<StepId, usize>,
    performed: usize,
    lost: usize,
}

impl Play {
    fn of(plan: &Arc<Plan>, script: &[(&str, &str)], crash_after: Option<usize>) -> Play {
        let pools = plan.pools.iter().enumerate();
        let pools = pools.map(|(index, pool)| (PoolId(index as u32), (pool.size, VecDeque::new()))).collect();
        let ends = |ends: &str| ends.split_whitespace().map(str::to_owned).collect();
        let scripts: HashMap<String, Vec<String>> =
            script.iter().map(|(step, list)| ((*step).to_owned(), ends(list))).collect();
        let cancel_at = scripts.get("cancel").map(|at| at[0].trim_start_matches('@').parse::<u64>().unwrap());
        let mut play = Play {
            plan: plan.clone(),
            scripts,
            run: Run::new(plan.clone(), RunId("r".into())),
            records: Vec::new(),
            log: Vec::new(),
            now: 0,
            flying: BTreeMap::new(),
            pools,
            places: HashMap::new(),
            failures: HashMap::new(),
            performed: 0,
            lost: 0,
        };
        let mut crash_after = crash_after;
        play.record(Run::creation(plan, plan.to_json().1, Json::from(serde_json::json!({})), 1));
        for _ in 0..10_000 {
            let mut wake_at = None;
            loop {
                let actions = play.run.next(Timestamp(play.now), usize::MAX);
                let mut decided = false;
                for action in actions {
                    if crash_after.is_some_and(|after| play.records.len() >= after) {
                        break;
                    }
                    if let Action::WakeAt(at) = action {
                        wake_at = Some(at.0);
                        continue;
                    }
                    decided = true;
                    play.record(action.event().unwrap());
                    play.carry_out(action);
                }
                if crash_after.is_some_and(|after| play.records.len() >= after) {
                    crash_after = None;
                    play.crash();
                    continue;
                }
                if !decided {
                    break;
                }
            }
            if plan.steps.len() <= STEPS_REPLAYED {
                play.check_replay();
            }
            if play.run.outcome().is_some() {
                return play;
            }
            if play.run.is_ending() {
                play.cut();
                continue;
            }
            let next_end = play.flying.keys().next().map(|(at, _)| *at);
            let at = [next_end, wake_at, cancel_at].into_iter().flatten().min().expect("something is bound to happen");
            play.now = play.now.max(at);
            if cancel_at.is_some_and(|cancel| cancel <= play.now) {
                play.record(Event::CancelRequested { reason: "enough".into() });
                play.cut();
            } else if next_end.is_some_and(|end| end <= play.now) {
                play.land();
            }
        }
        panic!("runaway: {:#?}", play.log);
    }

    fn record(&mut self, event: Event) {
        let record = Record { at: Timestamp(self.now), event };
        self.log.extend(self.line(&record.event));
        self.run.apply(&record).unwrap();
        if let Event::AttemptFailed { step, .. } = record.event {
            *self.failures.entry(step).or_default() += 1;
        }
        self.records.push(record);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(attempt) => self.fly(attempt.step, attempt.attempt),
            Action::Queue { step, pool, .. } => {
                self.pools.get_mut(&pool).unwrap().1.push_back(step);
                self.serve(pool);
            }
            Action::Record(_) | Action::WakeAt(_) => (),
        }
    }

    fn serve(&mut self, pool: PoolId) {
        loop {
            let (free, line) = self.pools.get_mut(&pool).unwrap();
            if *free == 0 {
                return;
            }
            let Some(step) = line.pop_front() else { return };
            let Some(action) = self.run.start(step) else { continue };
            *free -= 1;
            self.places.insert(step, pool);
            self.record(action.event().unwrap());
            self.carry_out(action);
        }
    }

    fn fly(&mut self, step: StepId, attempt: u32) {
        self.performed += 1;
        let (_, took) = self.end_of(step);
        self.flying.insert((self.now + took, step.0), attempt);
    }

    /// How the current attempt of a step ends: by how many have failed, so that a repeated attempt ends the same way.
    fn end_of(&self, step: StepId) -> (String, u64) {
        let failures = self.failures.get(&step).copied().unwrap_or(0);
        let script = self.scripts.get(&self.plan.step(step).name);
        let end = script.map_or("ok", |ends| &ends[failures.min(ends.len() - 1)]);
        end.split_once('@').map_or((end.into(), 0), |(end, took)| (end.into(), took.parse().unwrap()))
    }

    fn land(&mut self) {
        let ((_, step), attempt) = self.flying.pop_first().unwrap();
        let step = StepId(step);
        let (end, _) = self.end_of(step);
        let usage = Usage::default();
        let fail = |kind, retry_after_ms| Failure {
            kind,
            message: "scripted".into(),
            details: None,
            backtrace: None,
            retry_after_ms,
        };
        let (word, rest) = end.split_once([':', '=']).unwrap_or((&end, ""));
        let output = || if rest.is_empty() { Json::null() } else { Json::parse(rest).unwrap() };
        self.record(match word {
            "ok" => Event::AttemptSucceeded { step, attempt, output: output(), usage },
            "transient" => {
                Event::AttemptFailed { step, attempt, failure: fail(FailureKind::Transient, rest.parse().ok()), usage }
            }
            "timeout" => Event::AttemptFailed { step, attempt, failure: fail(FailureKind::TimedOut, None), usage },
            "permanent" => Event::AttemptFailed { step, attempt, failure: fail(FailureKind::Permanent, None), usage },
            other => panic!("no such end: {other}"),
        });
        self.give_back(step);
    }

    fn give_back(&mut self, step: StepId) {
        if let Some(pool) = self.places.remove(&step) {
            self.pools.get_mut(&pool).unwrap().0 += 1;
            self.serve(pool);
        }
    }

    fn cut(&mut self) {
        while let Some(((_, step), attempt)) = self.flying.pop_first() {
            self.record(Event::AttemptCancelled { step: StepId(step), attempt, usage: Usage::default() });
        }
    }

    fn crash(&mut self) {
        self.check_replay();
        self.log.push("crash".into());
        self.lost += self.run.in_flight().len();
        self.run = Run::replay(self.plan.clone(), RunId("r".into()), &self.records).unwrap();
        self.flying.clear();
        self.places.clear();
        for (index, (free, line)) in &mut self.pools {
            *free = self.plan.pools[index.index()].size;
            line.clear();
        }
        for (step, attempt) in self.run.in_flight() {
            self.record(Event::AttemptInterrupted { step, attempt, cause: Interruption::Crash });
        }
        for (step, pool) in self.run.queued() {
            self.pools.get_mut(&pool).unwrap().1.push_back(step);
        }
        let pools: Vec<PoolId> = self.pools.keys().copied().collect();
        for pool in pools {
            self.serve(pool);
        }
    }

    /// The journal alone gives the run that is live.
    fn check_replay(&self) {
        let replayed = Run::replay(self.plan.clone(), RunId("r".into()), &self.records).unwrap();
        let look = |run: &Run| {
            let steps: Vec<String> =
                (0..self.plan.steps.len()).map(|step| format!("{:?}", run.status(StepId(step as u32)))).collect();
            let next = run.next(Timestamp(self.now), usize::MAX);
            (steps, run.version(), run.outcome(), run.in_flight(), run.queued(), next)
        };
        assert_eq!(look(&replayed), look(&self.run));
    }

    fn outcome(&self) -> Option<Outcome> {
        self.run.outcome()
    }

    fn ends(&self) -> Vec<String> {
        let end = |index: usize| match self.run.status(StepId(index as u32)).0 {
            StepStatus::Succeeded(output) => format!("succeeded {output}"),
            StepStatus::Failed(failure) => format!("failed {:?}", failure.kind),
            other => format!("{other:?}"),
        };
        (0..self.plan.steps.len()).map(end).collect()
    }

    fn line(&self, event: &Event) -> Option<String> {
        let name = |step: &StepId| self.plan.step(*step).name.clone();
        let text = match event {
            Event::RunCreated { .. } | Event::AttemptQueued { .. } => return None,
            Event::AttemptStarted { step, attempt } => format!("{}#{attempt}", name(step)),
            Event::AttemptSucceeded { step, .. } => format!("{} succeeded", name(step)),
            Event::AttemptFailed { step, failure, .. } => format!("{} failed: {:?}", name(step), failure.kind),
            Event::AttemptInterrupted { step, .. } => format!("{} interrupted", name(step)),
            Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => format!("{} cancelled", name(step)),
            Event::StepFailed { step, failure } => format!("{} failed: {}", name(step), failure.message),
            Event::StepSkipped { step, reason } => format!("{} skipped: {}", name(step), reason.explain(&self.plan)),
            Event::CancelRequested { reason } => format!("cancel: {reason}"),
            Event::RunTimedOut => "timed out".into(),
            Event::RunFinished { outcome, outputs, faults } => format!("{outcome:?} {outputs} {}", faults.join(", ")),
        };
        Some(format!("{} {text}", self.now).trim_end().to_owned())
    }
}

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
    assert!(run.start(StepId(1)).is_some());
    apply(&mut run, Event::CancelRequested { reason: "enough".into() });
    assert_eq!(run.start(StepId(1)), None);
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
