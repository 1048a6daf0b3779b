//! Wall clocks that were set while no engine ran. (While one runs it does not look at the wall clock: see `clock`.)

use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::Ending;
use downbeat_journal::Journal;
use downbeat_workflow::event::{Event, Outcome, RunId, Timestamp};
use downbeat_workflow::plan::Plan;
use tokio::time::Instant;

use crate::house::{House, no_inputs, plan};

/// Some day, and ten years before and after it, in milliseconds.
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const BEFORE: Timestamp = Timestamp(NOW.0 - 315_360_000_000);
const AFTER: Timestamp = Timestamp(NOW.0 + 315_360_000_000);

/// Starts a run now and stops its engine once the journal has so many records.
async fn park(plan: Plan, records: u64) -> (Journal, RunId) {
    let house = House::at(Journal::in_memory(), NOW);
    let handle = house.conductor.start(Arc::new(plan), no_inputs()).await.unwrap();
    let run = handle.id().clone();
    let mut horizon = house.journal.horizon().unwrap();
    horizon.wait_for(|horizon| horizon.event.0 >= records).await.unwrap();
    house.conductor.stop();
    assert_eq!(handle.ending().await.unwrap(), Ending::Stopped);
    (house.journal, run)
}

/// Takes a run up under a clock that says `now`: how it ends, and how long that takes.
async fn resume(journal: &Journal, run: &RunId, now: Timestamp) -> (Ending, Duration) {
    let began = Instant::now();
    let house = House::at(journal.clone(), now);
    let ending = house.conductor.resume(run).await.unwrap().ending().await.unwrap();
    let times: Vec<Timestamp> = journal.load(run).unwrap().records.iter().map(|record| record.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    (ending, began.elapsed())
}

/// Created, started, failed: the next attempt is due in 100 ms, the one after it 200 ms after that fails.
const FAILED_ONCE: u64 = 3;

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_does_not_stall_a_retry() {
    let (journal, run) = park(plan(&[("flaky", &[])]), FAILED_ONCE).await;
    let (ending, took) = resume(&journal, &run, BEFORE).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert!(took <= Duration::from_millis(300), "{took:?}");
    let last = journal.load(&run).unwrap().records.last().unwrap().at;
    assert_eq!(last, NOW.plus_ms(300), "the run's own time went on");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_forward_makes_a_retry_due_at_once() {
    let (journal, run) = park(plan(&[("flaky", &[])]), FAILED_ONCE).await;
    let (ending, took) = resume(&journal, &run, AFTER).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    assert_eq!(took, Duration::from_millis(200), "only the second wait is left");
}

fn three_seconds_in_two() -> Plan {
    let mut plan = plan(&[("sleep1", &[]), ("sleep2", &["sleep1"]), ("sleep3", &["sleep2"])]);
    plan.timeout_ms = Some(2_500);
    plan.link()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_does_not_put_a_runs_time_out_off() {
    // Created, started, and a second later succeeded and started.
    let (journal, run) = park(three_seconds_in_two(), 4).await;
    let (ending, took) = resume(&journal, &run, BEFORE).await;
    assert_eq!(ending, Ending::Finished(Outcome::TimedOut));
    assert_eq!(took, Duration::from_millis(1_500), "one of two and a half seconds had passed");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_forward_lets_a_run_time_out_as_it_can_not_be_told_from_a_long_pause() {
    let (journal, run) = park(three_seconds_in_two(), 4).await;
    let (ending, took) = resume(&journal, &run, AFTER).await;
    assert_eq!((ending, took), (Ending::Finished(Outcome::TimedOut), Duration::ZERO));
    let events: Vec<Event> = journal.load(&run).unwrap().records.into_iter().map(|record| record.event).collect();
    assert!(events.contains(&Event::RunTimedOut));
}

#[tokio::test(start_paused = true)]
async fn one_runs_time_in_the_future_is_not_everybodys() {
    let (journal, ahead) = park(plan(&[("flaky", &[])]), FAILED_ONCE).await;
    let house = House::at(journal.clone(), BEFORE);
    let resumed = house.conductor.resume(&ahead).await.unwrap();
    let (fresh, ending) = house.run(plan(&[("a", &[])])).await;
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    resumed.ending().await.unwrap();
    assert_eq!(journal.summary(&fresh).unwrap().created, BEFORE);
}
