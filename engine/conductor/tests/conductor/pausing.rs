//! Pauses, live: what is asked reaches what is left of a step that is over.

use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::Ending;
use downbeat_journal::Request;
use downbeat_workflow::event::{Event, Outcome};
use downbeat_workflow::plan::StepId;

use super::house::{House, no_inputs};
use super::scopes::plan;

fn pause(steps: &[&str]) -> Request {
    Request::Pause { steps: steps.iter().map(|step| (*step).to_owned()).collect(), reason: String::new() }
}

fn unpause(steps: &[&str]) -> Request {
    Request::Unpause { steps: steps.iter().map(|step| (*step).to_owned()).collect() }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_paused_step_that_is_over_can_be_let_go_on() {
    // The first item is enough; the second one has still a step to do when the pause comes.
    let toml = r#"
[steps.each]
foreach = { in = [1, 2], join = "any", rest = "wait" }
[steps.each.steps.sleep1]
when = "item == 1"
use = "any"
[steps.each.steps.sleep2]
when = "item == 2"
use = "any"
[steps.each.steps.more]
needs = ["sleep2"]
use = "any"
"#;
    let house = House::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let started = house.conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.journal.request(&run, pause(&["each"])).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = house.events(&run);
    let has_ended = |event: &Event| matches!(event, Event::StepSucceeded { step: StepId(0), .. });
    assert!(events.iter().any(has_ended), "the step is over: {events:?}");
    assert!(!house.started().contains(&"more#1".to_owned()), "and what is left of it is paused");
    house.journal.request(&run, unpause(&["each"])).unwrap();
    let ending = tokio::time::timeout(Duration::from_secs(60), started.ending()).await;
    assert_eq!(ending.expect("it comes to its end").unwrap(), Ending::Finished(Outcome::Succeeded));
    assert!(house.started().contains(&"more#1".to_owned()));
    serving.abort();
}
