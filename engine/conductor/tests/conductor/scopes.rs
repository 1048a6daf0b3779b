//! Runs with scopes and waits, live: what is asked of them from outside reaches them, also when nobody drives them.

use std::sync::Arc;

use downbeat_conductor::Ending;
use downbeat_journal::{Journal, Request};
use downbeat_workflow::event::{Event, Outcome, RunId, StepEnd};
use downbeat_workflow::history::History;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{Loaded, Surroundings, resolve};
use downbeat_workflow::run::Run;
use downbeat_workflow::spec::{Source, Spec};

use super::house::{House, no_inputs, plan as plan_of_steps};

/// The plan of a workflow whose only plugin is `any`.
pub(crate) fn plan(toml: &str) -> Plan {
    let any = plan_of_steps(&[("any", &[])]).plugins.remove(0);
    let anything = || Json::from(serde_json::json!({}));
    let mut component = any.component;
    (component.description.input_schema, component.description.output_schema) = (anything(), anything());
    let text = format!("name = \"w\"\nplugins.any = \"any.wasm\"\n{toml}");
    let source = Source::new("w.toml", text);
    let (spec, faults) = Spec::parse(&source);
    assert_eq!(faults, []);
    let plugins = [("any".to_owned(), Ok(Loaded { component, path: any.path }))].into();
    let surroundings = Surroundings { directory: "/".into(), plugins, ..Surroundings::default() };
    let resolution = resolve(&source, &spec.unwrap(), &surroundings);
    resolution.plan.unwrap_or_else(|| panic!("{:?}", resolution.diagnostics))
}

/// How each step ended, by its path.
fn ends(journal: &Journal, run: &RunId, plan: &Plan) -> Vec<(String, Option<StepEnd>)> {
    let records = journal.load(run).unwrap().records;
    let history = History::of(plan, &records);
    let replayed = Run::replay(Arc::new(plan.clone()), run.clone(), &records).unwrap();
    let steps = (0..replayed.scopes().len() as u32).map(downbeat_workflow::plan::StepId);
    steps
        .map(|step| {
            (replayed.path(step), history.steps.get(step.index()).and_then(|step| step.ended.map(|(_, end)| end)))
        })
        .collect()
}

const UNDOABLE: &str = r#"
[steps.each]
foreach = [1, 2]
use = "any"
undo = { use = "any" }
[steps.block]
needs = ["each"]
timeout = "10s"
[steps.block.steps.sleep]
use = "any"
[steps.block.steps.fail]
needs = ["sleep"]
use = "any"
"#;

#[tokio::test(start_paused = true)]
async fn blocks_items_and_undoing_are_driven_to_their_end() {
    let house = House::new();
    let (run, ending) = house.run(plan(UNDOABLE)).await;
    assert_eq!(ending, Ending::Finished(Outcome::Failed));
    let undone: Vec<String> = house.started().into_iter().filter(|line| line.contains("undo")).collect();
    assert_eq!(undone, ["each.undo#1", "each.undo#1"]);
    let keys: Vec<String> = house.script.started.lock().unwrap().clone();
    assert!(keys.contains(&format!("each#1 {run}/each[0]")), "{keys:?}");
    assert!(keys.contains(&format!("sleep#1 {run}/block/sleep")), "{keys:?}");
    assert!(keys.contains(&format!("each.undo#1 {run}/each[1].undo")), "{keys:?}");
    let ends = ends(&house.journal, &run, &plan(UNDOABLE));
    assert!(ends.contains(&("block/fail".into(), Some(StepEnd::Failed))), "{ends:?}");
}

const WAITING: &str = r#"
[signals.go]
[steps.wait]
wait = { signal = "go" }
[steps.ask]
wait = { approval = ["ann"] }
[steps.then]
needs = ["wait", "ask"]
use = "any"
"#;

#[tokio::test(start_paused = true)]
async fn signals_and_approvals_reach_a_run_that_is_driven() {
    let house = House::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let started = house.conductor.start(Arc::new(plan(WAITING)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    let answer = |by: &str| Request::Answer {
        step: "ask".into(),
        approved: true,
        by: by.into(),
        note: String::new(),
        uid: None,
    };
    house.journal.request(&run, answer("eve")).unwrap();
    house.journal.request(&run, answer("ann")).unwrap();
    // The first word counts, also before anything has come of it.
    house.journal.request(&run, answer("ann")).unwrap();
    house.journal.request(&run, Request::Signal { signal: "stop".into(), data: Json::null() }).unwrap();
    house.journal.request(&run, Request::Signal { signal: "go".into(), data: Json::null() }).unwrap();
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    let events = house.events(&run);
    let given: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::ApprovalGiven { .. })).collect();
    assert!(
        matches!(given[..], [Event::ApprovalGiven { by, .. }] if by == "ann"),
        "only those who may, and once: {given:?}"
    );
    assert!(house.journal.requests(&run).unwrap().is_empty(), "all of them are answered");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_parked_run_keeps_what_it_is_sent_and_goes_on_when_it_is_resumed() {
    let house = House::new();
    let started = house.conductor.start(Arc::new(plan(WAITING)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.conductor.stop();
    assert_eq!(started.ending().await.unwrap(), Ending::Stopped);
    let answer =
        Request::Answer { step: "ask".into(), approved: true, by: "ann".into(), note: "fine".into(), uid: None };
    house.journal.request(&run, Request::Signal { signal: "go".into(), data: Json::null() }).unwrap();
    house.journal.request(&run, answer.clone()).unwrap();
    house.journal.request(&run, answer).unwrap();
    // Another conductor that drives the journal, but not this run, leaves them.
    let other = House::over(house.journal.clone());
    let serving = tokio::spawn(other.conductor.clone().serve_requests());
    other.run(plan_of_steps(&[("sleep", &[])])).await;
    assert_eq!(house.journal.requests(&run).unwrap().len(), 3);
    let ending = other.conductor.resume(&run).await.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Succeeded));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_step_is_cancelled_from_outside_and_the_run_goes_on() {
    let house = House::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let toml = r#"
[steps.each]
foreach = [1, 2]
use = "any"
[steps.each2]
foreach = [1, 2]
[steps.each2.steps.sleep]
use = "any"
[steps.then]
needs = ["each2.finished"]
use = "any"
"#;
    let started = house.conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    let request = Request::CancelStep { step: "each2".into(), reason: "enough".into() };
    house.journal.request(&run, request).unwrap();
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    let ends = ends(&house.journal, &run, &plan(toml));
    assert!(ends.contains(&("each2".into(), Some(StepEnd::Cancelled))), "{ends:?}");
    assert!(ends.contains(&("then".into(), Some(StepEnd::Succeeded))), "{ends:?}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waits_are_kept_and_end_at_their_time() {
    let house = House::new();
    let toml = "[steps.each]\nforeach = \"${inputs.list}\"\nwait = \"1h\"\n[inputs]\nlist = { type = \"list\" }";
    let list: Vec<u32> = (0..10_000).collect();
    let inputs = Json::from(serde_json::json!({ "list": list }));
    let before = tokio::time::Instant::now();
    let handle = house.conductor.start(Arc::new(plan(toml)), inputs).await.unwrap();
    assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(before.elapsed().as_secs(), 3_600);
}
