//! Runs that exclude each other as a whole, live: over all runs of a process, over restarts, and against runs that nobody
//! drives.

use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::{Ending, StartError};
use downbeat_journal::{Create, Journal, Request};
use downbeat_workflow::event::{Event, Outcome, Record, RunId};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::run::Run;

use super::house::{House, no_inputs};
use super::scopes::plan;

fn deploy(when_busy: &str) -> Arc<Plan> {
    Arc::new(plan(&format!(
        r#"
        inputs.region = {{ type = "string", default = "eu" }}
        concurrency = {{ group = "deploy-${{inputs.region}}", when-busy = "{when_busy}" }}
        [steps.sleep]
        use = "any"
        [always.tell]
        use = "any"
        "#
    )))
}

fn region(name: &str) -> Json {
    Json::from(serde_json::json!({ "region": name }))
}

/// When a run was admitted and when it ended, in milliseconds.
fn span(house: &House, run: &RunId) -> (Option<u64>, u64) {
    let records = house.journal.load(run).unwrap().records;
    let admitted = records.iter().find(|record| record.event == Event::RunAdmitted).map(|record| record.at.0);
    (admitted, records.last().unwrap().at.0)
}

async fn left_after(plan: &Plan, run: &RunId, records: &[Record]) -> Journal {
    let journal = Journal::in_memory();
    let (text, digest) = plan.to_json();
    let create = Create { run: run.clone(), plan: digest, plan_json: text, records: records.to_vec() };
    journal.create(create).await.unwrap();
    journal
}

/// A run that was alone, with all its records.
async fn whole_run() -> (RunId, Vec<Record>) {
    let house = House::new();
    let handle = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
    let run = handle.id().clone();
    handle.ending().await.unwrap();
    let records = house.journal.load(&run).unwrap().records;
    (run, records)
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_group_follow_each_other_and_those_of_another_do_not_wait() {
    let house = House::new();
    let begin = |inputs: Json| house.conductor.start(deploy("queue"), inputs);
    let first = begin(region("eu")).await.unwrap();
    let second = begin(region("eu")).await.unwrap();
    let other = begin(region("us")).await.unwrap();
    assert_eq!((first.ahead(), second.ahead()), (&[][..], &[first.id().clone()][..]));
    let ids = [first.id().clone(), second.id().clone(), other.id().clone()];
    for handle in [first, second, other] {
        assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    }
    let spans = ids.map(|id| span(&house, &id));
    assert_eq!(spans, [(Some(0), 1_000), (Some(1_000), 2_000), (Some(0), 1_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_while_it_waits_and_nothing_of_it_happens() {
    let house = House::new();
    let first = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
    let second = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
    let third = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
    second.cancel("not needed");
    let id = second.id().clone();
    assert_eq!(second.ending().await.unwrap(), Ending::Finished(Outcome::Cancelled));
    assert_eq!(span(&house, &id), (None, 0));
    let id = third.id().clone();
    first.ending().await.unwrap();
    assert_eq!(third.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(span(&house, &id), (Some(1_000), 2_000));
    assert_eq!(house.started(), ["sleep#1", "tell#1", "sleep#1", "tell#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_would_wait_is_rejected_before_there_is_one() {
    let house = House::new();
    let first = house.conductor.start(deploy("reject"), region("eu")).await.unwrap();
    let refused = house.conductor.start(deploy("reject"), region("eu")).await.map(drop);
    assert!(matches!(refused, Err(StartError::Busy { by, .. }) if by == *first.id()));
    let other = house.conductor.start(deploy("reject"), region("us")).await.unwrap();
    assert_eq!(house.journal.runs(&Default::default()).unwrap().len(), 2);
    first.ending().await.unwrap();
    other.ending().await.unwrap();
    let last = house.conductor.start(deploy("reject"), region("eu")).await.unwrap();
    assert_eq!(last.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn the_newest_run_takes_the_place_of_those_before_it_once_they_have_tidied_up() {
    let house = House::new();
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(house.conductor.start(deploy("cancel-running"), region("eu")).await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ids: Vec<RunId> = handles.iter().map(|handle| handle.id().clone()).collect();
    let mut ends = Vec::new();
    for handle in handles {
        ends.push(handle.ending().await.unwrap());
    }
    let [cancelled, succeeded] = [Outcome::Cancelled, Outcome::Succeeded].map(Ending::Finished);
    assert_eq!(ends, [cancelled.clone(), cancelled, succeeded]);
    assert_eq!(span(&house, &ids[2]), (Some(200), 1_200));
    assert_eq!(house.started(), ["sleep#1", "tell#1", "sleep#1", "tell#1", "sleep#1", "tell#1"]);
    let asked = house.events(&ids[0]).into_iter().find_map(|event| match event {
        Event::CancelRequested { reason } => Some(reason),
        _ => None,
    });
    assert_eq!(asked.unwrap(), format!("run {} of the same group `deploy-eu` takes its place", ids[1]));
}

#[tokio::test(start_paused = true)]
async fn wherever_its_engine_died_an_admitted_run_has_its_group_until_it_is_over() {
    let (run, records) = whole_run().await;
    for after in 1..records.len() {
        let left = &records[..after];
        let is_admitted = !Run::replay(deploy("queue"), run.clone(), left).unwrap().is_in_line();
        let house = House::at(left_after(&deploy("queue"), &run, left).await, left.last().unwrap().at);
        let other = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
        assert_eq!(other.ahead().is_empty(), !is_admitted, "after {after}");
        let id = other.id().clone();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let resumed = house.conductor.resume(&run).await.unwrap();
        assert_eq!(resumed.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded), "after {after}");
        assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded), "after {after}");
        let (own, others) = (span(&house, &run), span(&house, &id));
        match is_admitted {
            true => assert!(others.0.unwrap() >= own.1, "after {after}: {own:?} {others:?}"),
            false => assert!(own.0.unwrap() >= others.1, "after {after}: {own:?} {others:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_is_in_the_way_until_it_is_cancelled() {
    let (run, records) = whole_run().await;
    // It has an always-step, which the first cancel leaves to whoever resumes the run.
    let house = House::at(left_after(&deploy("queue"), &run, &records[..3]).await, records[2].at);
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let rejected = house.conductor.start(deploy("reject"), region("eu")).await.map(drop);
    assert!(matches!(rejected, Err(StartError::Busy { by, .. }) if by == run));
    let other = house.conductor.start(deploy("queue"), region("eu")).await.unwrap();
    for _ in 0..2 {
        house.journal.request(&run, Request::Cancel { reason: "in the way".to_owned() }).unwrap();
    }
    assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(house.journal.summary(&run).unwrap().outcome, Some(Outcome::Cancelled));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_whose_place_is_taken_does_first_what_it_does_in_any_case() {
    let (run, records) = whole_run().await;
    let house = House::at(left_after(&deploy("queue"), &run, &records[..3]).await, records[2].at);
    let newest = house.conductor.start(deploy("cancel-running"), region("eu")).await.unwrap();
    assert_eq!(newest.ahead(), std::slice::from_ref(&run));
    let id = newest.id().clone();
    assert_eq!(newest.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(house.journal.summary(&run).unwrap().outcome, Some(Outcome::Cancelled));
    assert_eq!(house.started(), ["tell#1", "sleep#1", "tell#1"]);
    assert!(span(&house, &id).0.unwrap() >= span(&house, &run).1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_can_not_be_named_is_refused_before_there_is_a_run() {
    let house = House::new();
    let unnamed =
        plan("inputs.x = { type = \"string\" }\nconcurrency.group = \"${inputs.x}\"\nsteps.a.use = \"any\"\n");
    let refused = house.conductor.start(Arc::new(unnamed), no_inputs()).await.map(drop);
    assert!(matches!(refused, Err(StartError::Group(_))));
    assert!(house.journal.latest().unwrap().is_none());
}
