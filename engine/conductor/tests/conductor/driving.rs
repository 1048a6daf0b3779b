//! Runs over a journal in memory, their attempts scripted, in virtual time: tokio's clock stands still until nothing is
//! left to do, and then jumps to the next timer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{DriveError, Ending, StartError, end_parked};
use downbeat_journal::{Append, AppendError, Request};
use downbeat_workflow::event::{Event, FailureKind, Interruption, Outcome, Record, RunId, Timestamp};
use downbeat_workflow::plan::{Join, Plan, Pool, PoolId, Rest, StepId, Work};

use crate::house::{House, no_inputs, plan};

#[tokio::test(start_paused = true)]
async fn a_run_is_driven_to_its_end_and_the_journal_has_all_of_it() {
    let house = House::new();
    let (run, ending) = house.run(plan(&[("a", &[]), ("sleep", &["a"]), ("b", &["sleep"])])).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert_eq!(house.started(), ["a#1", "sleep#1", "b#1"]);
    let events = house.events(&run);
    assert!(matches!(events.first(), Some(Event::RunCreated { .. })));
    assert!(matches!(events.last(), Some(Event::RunFinished { outcome: Outcome::Succeeded, .. })));
    assert_eq!(events.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn retries_wait_for_their_time_and_keep_their_idempotency_key() {
    let house = House::new();
    let (run, ending) = house.run(plan(&[("flaky", &[])])).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    let key = format!("{run}/flaky");
    let lines = house.script.started.lock().unwrap().clone();
    assert_eq!(lines, [1, 2, 3].map(|attempt| format!("flaky#{attempt} {key}")));
    let records = house.journal.load(&run).unwrap().records;
    assert_eq!(records.last().unwrap().at, Timestamp(300));
}

#[tokio::test(start_paused = true)]
async fn a_stop_interrupts_what_is_in_flight_and_resume_goes_on() {
    let house = House::new();
    let started =
        house.conductor.start(Arc::new(plan(&[("sleep", &[]), ("b", &["sleep"])])), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    assert_eq!(started.ending().await.unwrap(), Ending::Stopped);
    let last = house.events(&run).pop().unwrap();
    assert_eq!(last, Event::AttemptInterrupted { step: StepId(0), attempt: 1, cause: Interruption::Stop });

    let later = House::over(house.journal.clone());
    let ending = later.conductor.resume(&run).await.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert_eq!(later.started(), ["sleep#2", "b#1"]);
    assert!(matches!(later.conductor.resume(&run).await, Err(StartError::Over(_))));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_engine_left_in_flight_is_repeated() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan(&[("sleep", &[])])), no_inputs()).await.unwrap();
    let run = started.id().clone();
    // Its records end like those of a process that was killed.
    drop(started);
    let later = House::over(house.journal.clone());
    let later_run = later.conductor.resume(&run).await;
    // The first conductor still lives in this test, but the journal takes only one history.
    let ending = later_run.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert_eq!(later.started(), ["sleep#2"]);
    let interrupted = Event::AttemptInterrupted { step: StepId(0), attempt: 1, cause: Interruption::Crash };
    assert!(house.events(&run).contains(&interrupted));
}

#[tokio::test(start_paused = true)]
async fn a_join_that_cancels_its_rest_ends_the_attempts_that_lose_and_no_other() {
    let mut plan = plan(&[("fast", &[]), ("sleep1", &[]), ("sleep2", &[]), ("first", &["fast", "sleep1"])]);
    (plan.steps[3].join, plan.steps[3].rest) = (Join::Any, Rest::Cancel);
    let house = House::new();
    let (run, ending) = house.run(plan.link()).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert_eq!(house.started(), ["fast#1", "sleep1#1", "sleep2#1", "first#1"]);
    let records = house.journal.load(&run).unwrap().records;
    let ended = |wanted: u32| {
        let ends = |record: &&Record| match record.event {
            Event::AttemptCancelled { step, .. } | Event::AttemptSucceeded { step, .. } => step == StepId(wanted),
            _ => false,
        };
        let record = records.iter().find(ends).unwrap();
        (record.at, matches!(record.event, Event::AttemptCancelled { .. }))
    };
    assert_eq!(ended(1), (Timestamp(0), true), "it is ended at once, and not waited for");
    assert_eq!(ended(2), (Timestamp(1_000), false));
}

/// A step that takes long, and one that runs whatever becomes of it.
fn plan_with_cleanup(cleanup: &'static str) -> Plan {
    let mut plan = plan(&[("sleep", &[]), (cleanup, &[])]);
    plan.steps[1].always = true;
    plan.link()
}

#[tokio::test(start_paused = true)]
async fn always_steps_run_after_a_cancel_and_a_second_one_cuts_them() {
    for (cancels, cancelled) in [(1, 1), (2, 2)] {
        let house = House::new();
        let started = house.conductor.start(Arc::new(plan_with_cleanup("sleep2")), no_inputs()).await.unwrap();
        let run = started.id().clone();
        for _ in 0..cancels {
            started.cancel("enough");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Cancelled));
        assert_eq!(house.started(), ["sleep#1", "sleep2#1"]);
        let cuts = house.events(&run).into_iter().filter(|event| matches!(event, Event::AttemptCancelled { .. }));
        assert_eq!(cuts.count(), cancelled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_run_that_is_cancelled_keeps_its_always_steps_for_whoever_resumes_it() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan_with_cleanup("clean")), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    started.ending().await.unwrap();
    let clock = Clock::new(|| Timestamp(9));
    let ending = end_parked(&house.journal, &run, "no longer wanted", Arc::new(()), &clock).await.unwrap();
    assert_eq!(ending, Ending::Stopped);
    let later = House::over(house.journal.clone());
    let ending = later.conductor.resume(&run).await.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Cancelled));
    assert_eq!(later.started(), ["clean#1"], "and nothing else is started");
}

#[tokio::test(start_paused = true)]
async fn a_parked_run_that_is_cancelled_twice_is_over_without_its_always_steps() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan_with_cleanup("clean")), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    started.ending().await.unwrap();
    let clock = Clock::new(|| Timestamp(9));
    let end = |reason: &'static str| end_parked(&house.journal, &run, reason, Arc::new(()), &clock);
    assert_eq!(end("no longer wanted").await.unwrap(), Ending::Stopped);
    assert_eq!(end("at once").await.unwrap(), Ending::Finished(Outcome::Cancelled));
    assert_eq!(house.started(), ["sleep#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_the_journal_cancels_the_run() {
    let house = House::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let started =
        house.conductor.start(Arc::new(plan(&[("sleep", &[]), ("b", &["sleep"])])), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.journal.request(&run, Request::Cancel { reason: "wrong branch".into() }).unwrap();
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Cancelled));
    let events = house.events(&run);
    assert!(events.contains(&Event::CancelRequested { reason: "wrong branch".into() }));
    assert!(house.journal.requests(&run).unwrap().is_empty(), "an answered request is gone");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_parked_run_waits_for_whoever_resumes_it() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan(&[("sleep", &[])])), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    started.ending().await.unwrap();
    house.journal.request(&run, Request::Cancel { reason: "late".into() }).unwrap();
    let later = House::over(house.journal.clone());
    let serving = tokio::spawn(later.conductor.clone().serve_requests());
    let ending = later.conductor.resume(&run).await.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Cancelled));
    assert_eq!(later.started(), [""; 0], "what was asked before counts before anything is started");
    let cancels = house.events(&run).into_iter().filter(|event| matches!(event, Event::CancelRequested { .. }));
    assert_eq!(cancels.count(), 1, "the inbox gives it out as well");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_parked_run_is_cancelled_while_another_one_is_driven() {
    let house = House::new();
    let parked = house.conductor.start(Arc::new(plan(&[("sleep", &[])])), no_inputs()).await.unwrap();
    let run = parked.id().clone();
    house.conductor.stop();
    parked.ending().await.unwrap();
    let later = House::over(house.journal.clone());
    let serving = tokio::spawn(later.conductor.clone().serve_requests());
    let other = later.conductor.start(Arc::new(plan(&[("sleep", &[])])), no_inputs()).await.unwrap();
    house.journal.request(&run, Request::Cancel { reason: "no longer wanted".into() }).unwrap();
    assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(house.journal.summary(&run).unwrap().outcome, Some(Outcome::Cancelled));
    assert_eq!(later.started(), ["sleep#1"], "only the other run's");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn when_the_journal_refuses_nothing_goes_on_unseen() {
    let house = House::new();
    let steps: &[(&str, &[&str])] = &[("sleep1", &[]), ("sleep2", &[]), ("flaky", &[])];
    let started = house.conductor.start(Arc::new(plan(steps)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    // Somebody else writes to the run: what its driver appends next is refused.
    let expected = house.journal.summary(&run).unwrap().version;
    let records = vec![Record { at: Timestamp(0), event: Event::CancelRequested { reason: "thief".into() } }];
    let stolen = Append { run: run.clone(), expected, records, answers: Vec::new() };
    house.journal.append(stolen).await.unwrap();
    let ending = started.ending().await;
    assert!(matches!(ending, Err(DriveError::Journal(AppendError::Conflict { .. }))), "{ending:?}");
    assert_eq!(house.script.at_once.load(Ordering::SeqCst), 0, "attempts in flight are ended");
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_when_nobody_holds_its_conductor() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan(&[("sleep", &[])])), no_inputs()).await.unwrap();
    drop(house);
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_parked_run_can_be_ended_without_executing_anything() {
    let house = House::new();
    let started =
        house.conductor.start(Arc::new(plan(&[("sleep", &[]), ("b", &["sleep"])])), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    started.ending().await.unwrap();
    end_parked(&house.journal, &run, "no longer wanted", Arc::new(()), &Clock::new(|| Timestamp(9))).await.unwrap();
    let summary = house.journal.summary(&run).unwrap();
    assert_eq!(summary.outcome, Some(Outcome::Cancelled));
    assert_eq!(house.started(), ["sleep#1"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_task_breaks_down_is_a_failure_and_not_a_hang() {
    let house = House::new();
    let (run, ending) = house.run(plan(&[("panic", &[])])).await;
    assert_eq!(ending, Ending::Finished(Outcome::Failed));
    let failures = house
        .events(&run)
        .into_iter()
        .filter(|event| matches!(event, Event::AttemptFailed { failure, .. } if failure.kind == FailureKind::Host));
    assert_eq!(failures.count(), 3, "the engine's own failures are tried again");
}

#[tokio::test(start_paused = true)]
async fn a_pool_holds_over_all_runs() {
    let house = House::new();
    let pooled = || {
        let mut plan = plan(&[("sleep1", &[]), ("sleep2", &[]), ("sleep3", &[])]);
        plan.pools = vec![Pool { name: "runner".into(), size: 2, rate: None }];
        for step in &mut plan.steps {
            if let Work::Use(uses) = &mut step.work {
                uses.pool = Some(PoolId(0));
            }
        }
        plan.link()
    };
    let (first, second) = tokio::join!(house.run(pooled()), house.run(pooled()));
    assert_eq!((first.1, second.1), (Ending::Finished(Outcome::Succeeded), Ending::Finished(Outcome::Succeeded)));
    assert_eq!(house.script.at_once_max.load(Ordering::SeqCst), 2);
    let finished = |run: &RunId| house.journal.load(run).unwrap().records.last().unwrap().at.0;
    assert_eq!(finished(&first.0).max(finished(&second.0)), 3_000, "six seconds of work, two at a time");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_runs_at_once_all_end() {
    let house = House::new();
    let mut handles = Vec::new();
    for _ in 0..1_000 {
        let plan = plan(&[("a", &[]), ("sleep", &["a"]), ("b", &["sleep"])]);
        handles.push(house.conductor.start(Arc::new(plan), no_inputs()).await.unwrap());
    }
    for handle in handles {
        assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    }
    assert_eq!(house.started().len(), 3_000);
}

#[tokio::test(start_paused = true)]
async fn lines_of_the_log_reach_the_journal() {
    let house = House::new();
    let (run, _) = house.run(plan(&[("log", &[])])).await;
    let lines = house.journal.load_log(&run, Default::default()).unwrap();
    let messages: Vec<&str> = lines.iter().map(|(_, line)| line.message.as_str()).collect();
    assert_eq!(messages, ["a line"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_components_are_missing_is_not_created() {
    let house = House::new();
    let mut unprepared = plan(&[("a", &[])]);
    unprepared.name = "unprepared".into();
    let refused = house.conductor.start(Arc::new(unprepared), no_inputs()).await;
    assert!(matches!(refused, Err(StartError::Prepare(_))));
    assert!(house.journal.latest().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_fails_the_run_and_skips_what_needs_it() {
    let house = House::new();
    let (run, ending) = house.run(plan(&[("fail", &[]), ("b", &["fail"])])).await;
    assert_eq!(ending, Ending::Finished(Outcome::Failed));
    assert_eq!(house.started(), ["fail#1"]);
    assert!(house.events(&run).iter().any(|event| matches!(event, Event::StepSkipped { step: StepId(1), .. })));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_leaves_nothing_to_wait_for() {
    let house = House::new();
    let started =
        house.conductor.start(Arc::new(plan(&[("sleep", &[]), ("b", &["sleep"])])), no_inputs()).await.unwrap();
    // Somebody else drives it on, so that the journal refuses what this one has to say next: the end, and that `b` starts.
    let later = House::over(house.journal.clone());
    let other = later.conductor.resume(started.id()).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(matches!(started.ending().await, Err(DriveError::Journal(_))));
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(house.started(), ["sleep#1"]);
    assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
}
