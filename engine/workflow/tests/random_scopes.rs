//! Any nest of blocks, items, rounds, waits, ends and undoing, with anything that happens to its attempts and anything asked of
//! it, in any order: its run ends, starts nothing whose needs are not met or whose scope is over, leaves no step behind, and
//! replays to the same states from any prefix of its journal.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{
    Event, Failure, FailureKind, Interruption, NeedState, Origin, Record, RunId, StepEnd, Timestamp, Usage,
};
use downbeat_workflow::explain::Account;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, PoolId, StepId, StepKind};
use downbeat_workflow::replay::replay;
use downbeat_workflow::rerun;
use downbeat_workflow::run::{Action, Run, StepStatus};
use proptest::prelude::*;

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;

/// A step, before it has a name.
#[derive(Clone, Debug)]
struct Sketch {
    what: What,
    /// Which of the steps before it, it needs, and in which state.
    need: Option<(prop::sample::Index, &'static str)>,
    again: Again,
    undo: bool,
    retry: bool,
    always: bool,
    pool: bool,
}

#[derive(Clone, Debug)]
enum What {
    Use,
    Wait(&'static str),
    Finish,
    Fail,
    Block(Vec<Sketch>, bool),
}

#[derive(Clone, Copy, Debug)]
enum Again {
    Once,
    Each(&'static str),
    Rounds(&'static str),
    /// For each item that the needed step appends, if it can.
    Items(&'static str),
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let waits = ["\"1s\"", "{ signal = \"go\" }", "{ approval = \"ann\", for = \"2s\" }"];
    let leaf = prop_oneof![
        6 => Just(What::Use),
        1 => prop::sample::select(waits.to_vec()).prop_map(What::Wait),
        1 => Just(What::Finish),
        1 => Just(What::Fail),
    ];
    step_of(leaf.boxed()).prop_recursive(2, 12, 4, |inner| {
        let block =
            (prop::collection::vec(inner, 1..4), any::<bool>()).prop_map(|(steps, timed)| What::Block(steps, timed));
        step_of(block.boxed())
    })
}

fn step_of(what: BoxedStrategy<What>) -> BoxedStrategy<Sketch> {
    let lists = [
        "[1, 2, 3]",
        "[]",
        "{ in = [1, 2, 3], join = \"any\", rest = \"cancel\", parallel = 2 }",
        "{ in = [1, 2], join = \"any\" }",
    ];
    let rounds =
        ["2", "{ until = \"index > 0\", max = 3, delay = \"1s\" }", "{ while = \"previous == null\", max = 2 }"];
    let items = [
        "",
        ", join = \"any\"",
        ", join = { at-least = 2 }, rest = \"cancel\"",
        ", parallel = 1, until = \"items.succeeded > 1\", rest = \"cancel\"",
        ", until = \"items.failed > 0 || size(items.outputs) > 2\"",
    ];
    let again = prop_oneof![
        3 => Just(Again::Once),
        1 => prop::sample::select(lists.to_vec()).prop_map(Again::Each),
        1 => prop::sample::select(rounds.to_vec()).prop_map(Again::Rounds),
        2 => prop::sample::select(items.to_vec()).prop_map(Again::Items),
    ];
    let states = ["", "", ".failed", ".finished", ".skipped", ".started", ".started"];
    let need = prop::option::of((any::<prop::sample::Index>(), prop::sample::select(states.to_vec())));
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.15), prop::bool::weighted(0.3));
    (what, need, again, flags)
        .prop_map(|(what, need, again, (undo, retry, always, pool))| Sketch {
            what,
            need,
            again,
            undo,
            retry,
            always,
            pool,
        })
        .boxed()
}

/// Writes the steps of a body below `path`.
fn write(toml: &mut String, path: &str, sketches: &[Sketch]) {
    // A body needs an ordinary step.
    let only_always = sketches.iter().all(|sketch| sketch.always);
    let mut before: Vec<(String, bool, bool)> = Vec::new();
    // Those that may append items.
    let mut sources: BTreeSet<String> = BTreeSet::new();
    let mut ends: BTreeSet<String> = BTreeSet::new();
    for (at, sketch) in sketches.iter().enumerate() {
        let always = sketch.always && !only_always;
        let (name, table) = (format!("s{at}"), if always { "always" } else { "steps" });
        let here = format!("{path}{table}.{name}");
        writeln!(toml, "[{here}]").unwrap();
        let fit: Vec<&(String, bool, bool)> = before.iter().filter(|(_, other, _)| always || !other).collect();
        if let (Some((index, state)), false) = (&sketch.need, fit.is_empty()) {
            let (needed, _, may_skip) = fit[index.index(fit.len())];
            // What can't be skipped can't be needed so.
            let state = if *state == ".skipped" && !may_skip { ".finished" } else { state };
            // After an end, nothing comes that needs it.
            let state = if ends.contains(needed) && state != ".skipped" { ".finished" } else { state };
            writeln!(toml, "needs = [\"{needed}{state}\"]").unwrap();
            let gives = sources.contains(needed) && ["", ".started", ".finished"].contains(&state);
            if let (Again::Items(how), true, What::Use | What::Wait(_) | What::Block(..)) =
                (sketch.again, gives, &sketch.what)
            {
                writeln!(toml, "foreach = {{ in = \"${{steps.{needed}.items}}\"{how} }}").unwrap();
            }
            before.push((name.clone(), always, ["", ".failed", ".started"].contains(&state)));
        } else {
            before.push((name.clone(), always, false));
        }
        let is_cached = at % 2 == 0 && !sketch.undo;
        if matches!((&sketch.what, sketch.again), (What::Use, Again::Once)) && !is_cached {
            sources.insert(name);
        }
        let is_end = matches!(sketch.what, What::Finish | What::Fail);
        if is_end {
            ends.insert(format!("s{at}"));
        }
        match sketch.again {
            _ if is_end => (),
            Again::Once | Again::Items(_) => (),
            Again::Each(list) => writeln!(toml, "foreach = {list}").unwrap(),
            Again::Rounds(rounds) => writeln!(toml, "repeat = {rounds}").unwrap(),
        }
        if sketch.retry && matches!(sketch.what, What::Use | What::Block(..)) {
            writeln!(toml, "retry = {{ attempts = 2, delay = \"1s\", jitter = false }}").unwrap();
        }
        if sketch.undo && !always && matches!(sketch.what, What::Use | What::Block(..)) {
            writeln!(toml, "undo = {{ use = \"any\" }}").unwrap();
        }
        if sketch.pool && !is_end {
            // One for each depth, so that they are taken in the same order everywhere.
            writeln!(toml, "pool = \"p{}\"\npriority = {}", path.matches('.').count() / 2, at % 2).unwrap();
        }
        match &sketch.what {
            What::Use => {
                writeln!(toml, "use = \"any\"\ncache = {is_cached}").unwrap();
            }
            What::Wait(wait) => writeln!(toml, "wait = {wait}\ntimeout = \"5s\"").unwrap(),
            What::Finish => writeln!(toml, "finish = true").unwrap(),
            What::Fail => writeln!(toml, "fail = \"so\"").unwrap(),
            What::Block(inner, timed) => {
                if *timed {
                    writeln!(toml, "timeout = \"3s\"").unwrap();
                }
                write(toml, &format!("{here}."), inner);
            }
        }
    }
}

fn end(run: &Run, step: StepId) -> Option<StepEnd> {
    match run.status(step).0 {
        StepStatus::Succeeded(_) => Some(StepEnd::Succeeded),
        StepStatus::Failed(_) => Some(StepEnd::Failed),
        StepStatus::Skipped(_) => Some(StepEnd::Skipped),
        StepStatus::Cancelled => Some(StepEnd::Cancelled),
        _ => None,
    }
}

fn is_met(state: NeedState, end: Option<StepEnd>) -> bool {
    end.is_some_and(|end| state.is_met_by(end))
}

/// Whether the needs of a step that begins are met, in its own scope.
fn needs_are_met(run: &Run, step: StepId) -> bool {
    let scopes = run.scopes();
    let scope = scopes.scope(step);
    run.step(step).needs.iter().all(|need| {
        let needed = scopes.life(run.plan(), scope, need.step);
        let has_begun = need.state == NeedState::Started && run.status(needed).1 > 0;
        has_begun || is_met(need.state, end(run, needed))
    })
}

/// Whether somebody has asked for the end of the run, of a step, or of what is around it, with nothing between but steps that
/// end with it.
fn is_asked_to_end(run: &Run, mut step: StepId, asked: &BTreeSet<StepId>, whole: bool) -> bool {
    loop {
        if asked.contains(&step) {
            return true;
        }
        if run.step(step).kind() != StepKind::Ordinary {
            return false;
        }
        match run.scopes().place(run.scopes().scope(step)).opener {
            Some(opener) => step = opener,
            None => return whole,
        }
    }
}

fn states(run: &Run) -> Vec<String> {
    (0..run.scopes().len() as u32).map(|step| format!("{:?}", run.status(StepId(step)))).collect()
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, message: String::new(), details: None, backtrace: None, retry_after_ms: None }
}

/// Whether somebody has paused the run, the step or what is around it, with nothing between whose end somebody has asked for.
fn is_held(run: &Run, step: StepId, asked: &BTreeSet<StepId>, whole: bool) -> bool {
    let mut here = step;
    loop {
        if run.is_paused(Some(here)) {
            return true;
        }
        match run.scopes().place(run.scopes().scope(here)).opener {
            Some(opener) if asked.contains(&opener) => return false,
            Some(opener) => here = opener,
            None => return run.is_paused(None) && !whole,
        }
    }
}

fn created(plan: &Plan) -> Vec<Event> {
    vec![Run::creation(plan, plan.to_json().1, Json::from(serde_json::json!({})), 1)]
}

/// Drives a run that begins so to its end; `fate` says what happens next.
fn play(
    plan: &Arc<Plan>,
    beginning: Vec<Event>,
    fate: &mut impl FnMut(usize) -> usize,
) -> Result<Vec<Record>, TestCaseError> {
    let id = RunId("r".into());
    let mut run = Run::new(plan.clone(), id.clone());
    let (mut records, mut snapshots) = (Vec::new(), Vec::new());
    let mut flying: Vec<(StepId, u32)> = Vec::new();
    let (mut asked, mut whole) = (BTreeSet::new(), false);
    let mut now = Timestamp(0);
    let mut next = beginning;
    for _ in 0..4_000 {
        for event in next.drain(..) {
            if let Event::AttemptStarted { step, .. } | Event::StepOpened { step } | Event::ScopeOpened { step, .. } =
                event
            {
                prop_assert!(
                    !is_held(&run, step, &asked, whole),
                    "{} begins though it is paused: {records:#?}",
                    run.path(step)
                );
            }
            match event {
                Event::AttemptStarted { step, attempt } => {
                    prop_assert!(needs_are_met(&run, step), "{} starts too early: {records:#?}", run.path(step));
                    prop_assert!(!run.is_cut(step), "{} starts only to be ended: {records:#?}", run.path(step));
                    let is_asked = is_asked_to_end(&run, step, &asked, whole);
                    prop_assert!(!is_asked, "{} starts though nobody wants it: {records:#?}", run.path(step));
                    flying.push((step, attempt));
                }
                Event::CacheAsked { step } | Event::CacheHit { step, .. } => {
                    prop_assert!(
                        needs_are_met(&run, step),
                        "{} is asked about too early: {records:#?}",
                        run.path(step)
                    );
                    let is_asked = is_asked_to_end(&run, step, &asked, whole);
                    prop_assert!(!is_asked, "{} is answered though nobody wants it: {records:#?}", run.path(step));
                }
                Event::StepOpened { step } => {
                    prop_assert!(needs_are_met(&run, step), "{} begins too early: {records:#?}", run.path(step));
                    let is_asked = is_asked_to_end(&run, step, &asked, whole);
                    prop_assert!(!is_asked, "{} begins though nobody wants it: {records:#?}", run.path(step));
                }
                Event::CancelRequested { .. } => whole = true,
                Event::StepCancelRequested { step, .. } => drop(asked.insert(step)),
                _ => (),
            }
            let record = Record { at: now, event };
            let applied = run.apply(&record);
            prop_assert!(applied.is_ok(), "{applied:?} after {records:#?}");
            records.push(record);
            snapshots.push(states(&run));
        }
        if run.outcome().is_some() {
            break;
        }
        let actions = run.next(now, 1 + fate(4));
        next.extend(actions.iter().filter_map(Action::event));
        if !next.is_empty() {
            continue;
        }
        // In any order: what is asked of the run may come before a place, and another place before the first in line.
        let mut taken: Vec<PoolId> = run.holding().into_iter().map(|(_, pool)| pool).collect();
        taken.extend(flying.iter().filter_map(|(step, _)| run.step(*step).pool()));
        let mut may_have = run.queued();
        may_have.retain(|(claim, pool)| !taken.contains(pool) && run.start(*claim).is_some());
        if !may_have.is_empty() && fate(4) > 0 {
            let (claim, _) = may_have[fate(may_have.len())];
            // Items get their places in the order in which they came.
            let first = may_have.iter().find(|(other, _)| other.step() == claim.step()).unwrap().0;
            next.extend(run.start(first).and_then(|action| action.event()));
            continue;
        }
        let open: Vec<StepId> =
            (0..run.scopes().len() as u32).map(StepId).filter(|step| !run.has_ended(*step)).collect();
        match fate(28) {
            0 => next.push(Event::CancelRequested { reason: String::new() }),
            1 => {
                let step = open[fate(open.len())];
                // What undoes is there only once it is to.
                if run.step(step).kind() != StepKind::Undo {
                    next.push(Event::StepCancelRequested { step, reason: String::new() });
                }
            }
            24 => {
                let step = Some(open[fate(open.len())]).filter(|_| fate(2) == 0);
                let event = Event::Paused { step, reason: String::new() };
                next.extend(run.may_pause(step).then_some(event));
            }
            25..=27 => next.extend(run.paused().next().map(|(step, _)| Event::Unpaused { step })),
            2 | 3 if run.has_signal("go") => {
                next.push(Event::SignalReceived { signal: "go".into(), data: Json::null() });
            }
            6..=9 if !flying.is_empty() => {
                let (step, _) = flying[fate(flying.len())];
                let items = (0..1 + fate(3)).map(|item| Json::from(serde_json::json!(item))).collect();
                next.push(Event::ItemsAppended { step, from: run.items_of(step) as u32, items });
            }
            4 | 5 => {
                let asked = open.iter().find(|step| run.may_answer(**step, "ann"));
                let approved = fate(2) == 0;
                next.extend(asked.map(|step| Event::ApprovalGiven {
                    step: *step,
                    approved,
                    by: "ann".into(),
                    note: String::new(),
                    uid: None,
                }));
            }
            _ => (),
        }
        if !next.is_empty() {
            continue;
        }
        let unanswered = run.asking();
        if !unanswered.is_empty() && (flying.is_empty() || fate(2) == 0) {
            let step = unanswered[fate(unanswered.len())];
            let origin = Box::new(Origin { run: RunId("e".into()), step: "it".into(), at: now });
            let hit = Event::CacheHit { step, output: Json::null(), key: Digest::of(b"key"), origin };
            match fate(2) == 0 && run.is_asking(step) {
                true => next.push(hit),
                false => next.extend(run.missed(step).and_then(|action| action.event())),
            }
            continue;
        }
        let wake_at = actions.iter().find_map(|action| match action {
            Action::WakeAt(at) => Some(*at),
            _ => None,
        });
        if !may_have.is_empty() && flying.is_empty() {
            continue;
        }
        if flying.is_empty() || (wake_at.is_some() && fate(6) == 0) {
            match wake_at {
                Some(at) => now = at,
                None if run.paused().next().is_some() => {
                    next.extend(run.paused().next().map(|(step, _)| Event::Unpaused { step }));
                }
                // Whoever waits for a signal waits until there is one.
                None if run.has_signal("go") => {
                    next.push(Event::SignalReceived { signal: "go".into(), data: Json::null() });
                }
                None => return Err(TestCaseError::fail(format!("nothing is bound to happen: {records:#?}"))),
            }
            continue;
        }
        let (step, attempt) = flying.swap_remove(fate(flying.len()));
        let usage = Usage::default();
        next.push(match fate(6) {
            _ if run.is_cut(step) && fate(2) == 0 => Event::AttemptCancelled { step, attempt, usage },
            0 => Event::AttemptFailed { step, attempt, failure: failure(FailureKind::Permanent), usage },
            1 => Event::AttemptFailed { step, attempt, failure: failure(FailureKind::Transient), usage },
            2 => Event::AttemptInterrupted { step, attempt, cause: Interruption::Crash },
            _ => Event::AttemptSucceeded { step, attempt, output: Json::null(), usage },
        });
    }
    prop_assert!(run.outcome().is_some(), "it does not end: {records:#?}");
    prop_assert!(run.unwanted().next().is_none(), "somebody is still to be ended: {records:#?}");
    for step in (0..run.scopes().len() as u32).map(StepId) {
        let is_unused = run.step(step).kind() == StepKind::Undo && run.status(step).0 == StepStatus::Waiting;
        prop_assert!(is_unused || end(&run, step).is_some(), "{} is left behind: {records:#?}", run.path(step));
    }
    for (at, snapshot) in snapshots.iter().enumerate().step_by(1 + snapshots.len() / 20) {
        let replayed = Run::replay(plan.clone(), id.clone(), &records[..=at]).unwrap();
        prop_assert_eq!(&states(&replayed), snapshot);
    }
    Ok(records)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_nest_of_scopes_ends_whatever_happens_to_it(
        sketches in prop::collection::vec(sketch(), 1..4),
        fates in prop::collection::vec(any::<prop::sample::Index>(), 96),
    ) {
        let mut toml = String::from("signals.go = {}\npools = { p0 = 1, p1 = 1, p2 = 1, p3 = 1 }\n");
        write(&mut toml, "", &sketches);
        let plan = Arc::new(plans::plan(&toml));
        let mut at = 0;
        let mut fate = |of: usize| {
            at += 1;
            fates[at % fates.len()].index(of)
        };
        let records = play(&plan, created(&plan), &mut fate)?;
        let id = RunId("r".into());
        // Driven through its own plan once more, it does the same.
        let replayed = replay(&plan, &plan, &id, &records).unwrap();
        prop_assert!(replayed.divergence.is_none(), "{} {records:#?}", replayed.page());
        // Done again, it takes over what it may, and comes to an end whatever happens to it now.
        let old = Run::replay(plan.clone(), id.clone(), &records).unwrap();
        let inputs = Json::from(serde_json::json!({}));
        let again = rerun::Again { old: &old, records: &records, plan: &plan, inputs: &inputs, from: &[], is_hearsay: false };
        let decided = again.decide();
        let beginning = again.begin(&decided, RunId("new".into()), 1, Timestamp(0)).unwrap();
        for step in &beginning.reused {
            prop_assert!(!decided.again.contains_key(step), "{} is reused and done again", old.path(*step));
            prop_assert_eq!(end(&old, *step), Some(StepEnd::Succeeded));
        }
        play(&plan, beginning.records.into_iter().map(|record| record.event).collect(), &mut fate)?;
        let account = Account::of(&plan, &id, &records, Timestamp(0), None);
        prop_assert!(account.is_ok(), "it can't be explained: {account:?}");
        prop_assert!(!account.unwrap().page().is_empty());
    }
}
