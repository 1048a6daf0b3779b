//! Any plan, with any ends of its attempts in any order: its run ends, starts no step whose join is not met, leaves none
//! behind, replays to the same states from any prefix of its journal, and can be explained at any of them. If nothing
//! fails, what was foretold of it comes true.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, NeedState, Record, RunId, StepEnd, Timestamp, Usage};
use downbeat_workflow::explain::Account;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Join, Need, Plan, Rest, Retry, StepId, StepNo};
use downbeat_workflow::preview::{Verdict, preview};
use downbeat_workflow::run::{Action, Run, StepStatus};
use proptest::prelude::*;

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;

/// A step, before it is known how many come before it.
#[derive(Clone, Debug)]
struct Sketch {
    needs: Vec<(prop::sample::Index, NeedState)>,
    join: u32,
    cancels: bool,
    always: bool,
    /// Its rule is false.
    never: bool,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    use NeedState::{Failed, Finished, Skipped, Started, Succeeded};
    let states = [Succeeded, Succeeded, Failed, Skipped, Finished, Started];
    let need = (any::<prop::sample::Index>(), prop::sample::select(states.to_vec()));
    let (always, never) = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    (prop::collection::vec(need, 0..4), 0..6_u32, any::<bool>(), always, never)
        .prop_map(|(needs, join, cancels, always, never)| Sketch { needs, join, cancels, always, never })
}

fn plan_of(sketches: &[Sketch]) -> Plan {
    let mut sketches: Vec<&Sketch> = sketches.iter().collect();
    sketches.sort_by_key(|sketch| sketch.always);
    let one = plans::plan("[steps.s]\nuse = \"any\"\nwhen = \"false\"");
    let steps = sketches.iter().enumerate().map(|(at, sketch)| {
        let mut step = one.steps[0].clone();
        step.name = format!("s{at}");
        step.always = sketch.always;
        step.when = step.when.filter(|_| sketch.never);
        for (index, state) in sketch.needs.iter().filter(|_| at > 0) {
            let need = Need { step: StepNo(index.index(at) as u32), state: *state };
            if step.needs.iter().all(|before| before.step != need.step) {
                step.needs.push(need);
            }
        }
        let most = step.needs.len().max(1) as u32;
        step.join = match sketch.join {
            0 => Join::Any,
            1 => Join::Merge,
            least @ 2..=3 => Join::AtLeast((least - 1).min(most)),
            _ => Join::All,
        };
        step.rest = if sketch.cancels { Rest::Cancel } else { Rest::Wait };
        step.retry = Retry { attempts: 2, delay_ms: 5, jitter: false, ..Retry::default() };
        step
    });
    Plan::new("random", one.plugins.clone(), steps.collect())
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

/// What the join of a step that starts says of its needs, from the definition of the word.
fn may_start(run: &Run, step: StepId) -> bool {
    let step = run.step(step);
    let ordinary = run.plan().steps.iter().enumerate().filter(|(_, other)| !other.always);
    if step.always && ordinary.map(|(at, _)| end(run, StepId(at as u32))).any(|end| end.is_none()) {
        return false;
    }
    // One that has begun is as good as over where that is all that is needed.
    let ended = |need: &Need| match run.status(StepId(need.step.0)).1 {
        1.. if need.state == NeedState::Started => Some(StepEnd::Succeeded),
        _ => end(run, StepId(need.step.0)),
    };
    let ends: Vec<Option<StepEnd>> = step.needs.iter().map(ended).collect();
    let met =
        step.needs.iter().zip(&ends).filter(|(need, end)| end.is_some_and(|end| need.state.is_met_by(end))).count();
    let all_ended = ends.iter().all(Option::is_some);
    match step.join {
        _ if step.needs.is_empty() => true,
        Join::All => met == step.needs.len(),
        Join::Any => met >= 1,
        Join::Merge => all_ended && met >= 1,
        Join::AtLeast(least) => met >= least as usize,
    }
}

fn states(run: &Run) -> Vec<String> {
    (0..run.plan().steps.len()).map(|step| format!("{:?}", run.status(StepId(step as u32)))).collect()
}

/// Drives a run to its end; `fate` says what happens next: which attempt comes home, how, and whether it was cut.
fn play(plan: &Arc<Plan>, fate: &mut impl FnMut(usize) -> usize) -> Result<(), TestCaseError> {
    let id = RunId("r".into());
    let mut run = Run::new(plan.clone(), id.clone());
    let mut records = Vec::new();
    let mut snapshots = Vec::new();
    let mut flying: Vec<(StepId, u32)> = Vec::new();
    let mut now = Timestamp(0);
    let mut next = vec![Run::creation(plan, plan.to_json().1, Json::from(serde_json::json!({})), 1)];
    for _ in 0..1_000 {
        for event in next.drain(..) {
            if let Event::AttemptStarted { step, attempt } = event {
                prop_assert!(may_start(&run, step), "{step:?} starts too early: {records:#?}");
                prop_assert!(!run.is_cut(step), "{step:?} starts only to be ended: {records:#?}");
                flying.push((step, attempt));
            }
            let record = Record { at: now, event };
            run.apply(&record).unwrap();
            records.push(record);
            snapshots.push(states(&run));
        }
        if run.outcome().is_some() {
            break;
        }
        let actions = run.next(now, usize::MAX);
        next.extend(actions.iter().filter_map(Action::event));
        if !next.is_empty() {
            continue;
        }
        let unneeded: Vec<StepId> = run.unwanted().collect();
        prop_assert!(unneeded.iter().all(|step| flying.iter().any(|(flies, _)| flies == step)), "nothing to cut");
        if flying.is_empty() {
            let Some(Action::WakeAt(at)) = actions.first() else {
                return Err(TestCaseError::fail(format!("nothing is bound to happen: {records:#?}")));
            };
            now = *at;
            continue;
        }
        if fate(16) == 0 {
            next.push(Event::CancelRequested { reason: String::new() });
            continue;
        }
        let (step, attempt) = flying.swap_remove(fate(flying.len()));
        let usage = Usage::default();
        let failure =
            |kind| Failure { kind, message: String::new(), details: None, backtrace: None, retry_after_ms: None };
        next.push(match fate(5) {
            _ if run.is_cut(step) && fate(2) == 0 => Event::AttemptCancelled { step, attempt, usage },
            0 => Event::AttemptFailed { step, attempt, failure: failure(FailureKind::Permanent), usage },
            1 => Event::AttemptFailed { step, attempt, failure: failure(FailureKind::Transient), usage },
            2 => Event::AttemptInterrupted { step, attempt, cause: downbeat_workflow::event::Interruption::Crash },
            _ => Event::AttemptSucceeded { step, attempt, output: Json::null(), usage },
        });
    }
    prop_assert!(run.outcome().is_some(), "it does not end: {records:#?}");
    for step in 0..plan.steps.len() {
        prop_assert!(end(&run, StepId(step as u32)).is_some(), "s{step} is left behind: {records:#?}");
    }
    // Not at every prefix, which would take seconds; which ones differs with the number of records.
    for at in (1..=records.len()).rev().step_by(4) {
        explained(plan, &records[..at])?;
    }
    for (at, snapshot) in snapshots.iter().enumerate() {
        let replayed = Run::replay(plan.clone(), id.clone(), &records[..=at]).unwrap();
        prop_assert_eq!(&states(&replayed), snapshot);
    }
    Ok(())
}

/// The parts of a step's time are all of it, those of the chain that the end waited for too, and what was skipped has a
/// root.
fn explained(plan: &Arc<Plan>, records: &[Record]) -> Result<(), TestCaseError> {
    let account = Account::of(plan, &RunId("r".into()), records, Timestamp(0), None).unwrap();
    for (step, told) in account.steps.iter().enumerate() {
        let about = |record: &&Record| {
            let value = serde_json::to_value(&record.event).unwrap();
            value.as_object().and_then(|tagged| tagged.values().next()?.get("step")?.as_u64()) == Some(step as u64)
        };
        let until = match told.end {
            Some(_) => records.iter().rfind(about).unwrap().at.0,
            None => account.elapsed_ms,
        };
        prop_assert_eq!(told.times.total_ms(), until, "{:?}: {:#?}", told, records);
        prop_assert_eq!(told.skipped.is_some(), told.root.is_some(), "{:?}: {:#?}", told, records);
    }
    if let Some(last) = account.path.last() {
        let path: u64 = account.path.iter().map(|link| link.times.total_ms()).sum();
        prop_assert_eq!(path, last.after_ms + last.times.total_ms(), "{:?}: {:#?}", account.path, records);
    }
    let skipped = account.skips.iter().map(|skips| skips.steps.len()).sum::<usize>();
    prop_assert_eq!(skipped, account.steps.iter().filter(|step| step.skipped.is_some()).count());
    prop_assert!(!account.page().is_empty());
    Ok(())
}

/// Plays a run in which every attempt succeeds unless it is cut.
fn play_calmly(plan: &Arc<Plan>, fate: &mut impl FnMut(usize) -> usize) -> Run {
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let apply = |run: &mut Run, event: Event| run.apply(&Record { at: Timestamp(0), event }).unwrap();
    apply(&mut run, Run::creation(plan, plan.to_json().1, Json::from(serde_json::json!({})), 1));
    while run.outcome().is_none() {
        let decided: Vec<Event> = run.next(Timestamp(0), usize::MAX).iter().filter_map(Action::event).collect();
        let is_quiet = decided.is_empty();
        decided.into_iter().for_each(|event| apply(&mut run, event));
        if is_quiet {
            let flying = run.in_flight();
            let (step, attempt) = flying[fate(flying.len())];
            let usage = Usage::default();
            let event = match run.is_cut(step) {
                true => Event::AttemptCancelled { step, attempt, usage },
                false => Event::AttemptSucceeded { step, attempt, output: Json::null(), usage },
            };
            apply(&mut run, event);
        }
    }
    run
}

/// What a region is, from its definition: whatever is needed, and only by the join or what is in the region too.
fn serves_only(plan: &Plan, join: StepNo, step: StepNo) -> bool {
    let dependents = plan.dependents(step);
    let serves = |by: StepNo| {
        let waits = plan.step(step).always || !plan.step(by).always;
        waits && (by == join || serves_only(plan, join, by))
    };
    !dependents.is_empty() && dependents.iter().all(|(by, _)| serves(*by))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_of_any_plan_ends_as_its_joins_say(
        sketches in prop::collection::vec(sketch(), 1..14),
        fates in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let plan = Arc::new(plan_of(&sketches));
        let mut at = 0;
        play(&plan, &mut |of| {
            at += 1;
            fates[at % fates.len()].index(of)
        })?;
    }

    #[test]
    fn what_is_foretold_comes_true_if_nothing_fails(
        sketches in prop::collection::vec(sketch(), 1..14),
        fates in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let plan = Arc::new(plan_of(&sketches));
        let mut at = 0;
        let run = play_calmly(&plan, &mut |of| {
            at += 1;
            fates[at % fates.len()].index(of)
        });
        for foretold in preview(&plan, Json::from(serde_json::json!({}))).steps {
            let step = plan.step_named(&foretold.step).unwrap();
            let (status, attempts) = run.status(step);
            match foretold.verdict {
                Verdict::Runs => prop_assert!(
                    matches!(status, StepStatus::Succeeded(_)), "{:?} of {:#?}: {:?}", foretold, plan.steps, status
                ),
                Verdict::Skipped(_) | Verdict::Fails(_) => prop_assert_eq!(attempts, 0, "{:?}: {:?}", foretold, status),
                Verdict::Depends(_) => (),
            }
        }
    }

    #[test]
    fn a_join_cancels_what_serves_it_alone(sketches in prop::collection::vec(sketch(), 1..14)) {
        let plan = plan_of(&sketches);
        for at in 0..plan.steps.len() {
            let join = StepNo(at as u32);
            // The regions of the joins within are part of it.
            let (mut region, mut open) = (Vec::<StepNo>::new(), vec![join]);
            while let Some(join) = open.pop() {
                region.extend(plan.region(join));
                open.extend(plan.region(join));
            }
            region.sort_unstable();
            let is_served = plan.steps[at].rest == Rest::Cancel;
            let expected: Vec<StepNo> =
                (0..at as u32).map(StepNo).filter(|step| is_served && serves_only(&plan, join, *step)).collect();
            prop_assert_eq!(region, expected);
        }
    }
}
