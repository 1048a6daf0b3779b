//! Mutual exclusion, live: over runs, over restarts, and against runs that nobody drives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use downbeat_conductor::Ending;
use downbeat_journal::{Create, Journal, Request};
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp};
use downbeat_workflow::plan::Plan;
use downbeat_workflow::run::Run;

use super::house::{House, no_inputs};
use super::scopes::plan;

/// A critical section of two steps, a second each, and what comes before it.
const SECTION: &str = r#"
pools.site = 1
[steps.before]
use = "any"
[steps.switch]
needs = ["before"]
pool = "site"
[steps.switch.steps.sleep1]
use = "any"
[steps.switch.steps.sleep2]
needs = ["sleep1"]
use = "any"
"#;

/// A journal as an engine left it that died after so many records of a run.
async fn left_after(plan: &Plan, run: &RunId, records: &[Record]) -> Journal {
    let journal = Journal::in_memory();
    let (text, digest) = plan.to_json();
    let create = Create { run: run.clone(), plan: digest, plan_json: text, records: records.to_vec() };
    journal.create(create).await.unwrap();
    journal
}

/// In which order runs have worked in the section.
fn sections(house: &House) -> Vec<String> {
    let started = house.script.started.lock().unwrap();
    let mut runs: Vec<String> = started
        .iter()
        .filter(|line| line.starts_with("sleep"))
        .map(|line| line.split(' ').nth(1).unwrap().split('/').next().unwrap().to_owned())
        .collect();
    runs.dedup();
    runs
}

#[tokio::test(start_paused = true)]
async fn a_section_of_several_steps_is_worked_in_by_one_run_at_a_time() {
    let house = House::new();
    let runs = tokio::join!(house.run(plan(SECTION)), house.run(plan(SECTION)), house.run(plan(SECTION)));
    for (_, ending) in [&runs.0, &runs.1, &runs.2] {
        assert_eq!(*ending, Ending::Finished(Outcome::Succeeded));
    }
    assert_eq!(sections(&house).len(), 3, "{:?}", house.started());
    assert_eq!(house.script.at_once_max.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn wherever_its_engine_died_a_run_has_the_section_until_it_is_over() {
    let first = House::new();
    let (run, _) = first.run(plan(SECTION)).await;
    let records = first.journal.load(&run).unwrap().records;
    let mut held = 0;
    for after in 1..records.len() {
        let plan = Arc::new(plan(SECTION));
        let left = &records[..after];
        let holds = !Run::replay(plan.clone(), run.clone(), left).unwrap().holding().is_empty();
        held += usize::from(holds);
        let house = House::at(left_after(&plan, &run, left).await, left.last().unwrap().at);
        let other = house.conductor.start(plan.clone(), no_inputs()).await.unwrap();
        // Far longer than it takes, if it may.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let resumed = house.conductor.resume(&run).await.unwrap();
        let other_id = other.id().to_string();
        assert_eq!(resumed.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded), "after {after}");
        assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded), "after {after}");
        let mut expected = [run.to_string(), other_id];
        if !holds {
            expected.reverse();
        }
        let sections = sections(&house);
        // Of one that had done its last step by then nothing is left to be seen.
        let is_over = !sections.contains(&run.to_string());
        assert!(sections == expected || is_over, "after {after}: {sections:?}");
        assert_eq!(house.script.at_once_max.load(Ordering::SeqCst), 1, "after {after}");
    }
    assert!(held >= 4, "it was in the section after {held} records only");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_drives_gives_its_place_back_when_it_is_cancelled() {
    let first = House::new();
    let (run, _) = first.run(plan(SECTION)).await;
    let records = first.journal.load(&run).unwrap().records;
    let inside = records.iter().position(|record| matches!(record.event, Event::ScopeOpened { .. })).unwrap();
    let plan = Arc::new(plan(SECTION));
    let house = House::at(left_after(&plan, &run, &records[..=inside]).await, records[inside].at);
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let other = house.conductor.start(plan, no_inputs()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.started(), ["before#1"]);
    house.journal.request(&run, Request::Cancel { reason: "it is in the way".to_owned() }).unwrap();
    assert_eq!(other.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn what_was_started_before_a_restart_counts_for_the_rate() {
    let toml = "pools.api = { rate = \"2/min\" }\n[steps.call]\npool = \"api\"\nuse = \"any\"\n";
    let first = House::at(Journal::in_memory(), Timestamp(1_000_000));
    for _ in 0..2 {
        first.run(plan(toml)).await;
    }
    let begun = |house: &House, run: &RunId| {
        let records = house.journal.load(run).unwrap().records;
        records.iter().find(|record| matches!(record.event, Event::AttemptStarted { .. })).unwrap().at
    };
    // Ten seconds later another process goes on.
    let later = House::at(first.journal.clone(), Timestamp(1_010_000));
    let (third, _) = later.run(plan(toml)).await;
    assert_eq!(begun(&later, &third), Timestamp(1_060_000));
}

#[tokio::test(start_paused = true)]
async fn who_is_more_important_is_served_first_over_all_runs() {
    let house = House::new();
    let with = |priority: i32| {
        let toml = format!("priority = {priority}\npools.one = 1\n[steps.sleep]\npool = \"one\"\nuse = \"any\"\n");
        Arc::new(plan(&toml))
    };
    let mut handles = Vec::new();
    for priority in [0, 1, 3, 2] {
        handles.push(house.conductor.start(with(priority), no_inputs()).await.unwrap());
        // It is in line before the next one comes.
        tokio::task::yield_now().await;
    }
    let ids: Vec<String> = handles.iter().map(|handle| handle.id().to_string()).collect();
    for handle in handles {
        handle.ending().await.unwrap();
    }
    assert_eq!(sections(&house), [0, 2, 3, 1].map(|at| ids[at].clone()));
}
