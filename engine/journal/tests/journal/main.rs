//! Conversations with a journal through its public face. What both backends promise is asked of both; what only a disk
//! can break (locks, kills, permissions, full disks) is asked of the one on disk.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod audit;
mod conversation;
mod crash;
mod deleting;
mod opening;
mod torn;

use std::sync::Arc;

use downbeat_journal::{Append, Create};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::StepId;

fn run_id(text: &str) -> RunId {
    RunId(Arc::from(text))
}

fn at(ms: u64, event: Event) -> Record {
    Record { at: Timestamp(ms), event }
}

fn plan() -> (Digest, Arc<str>) {
    let text = r#"{"name":"hello"}"#;
    (Digest::of(text.as_bytes()), Arc::from(text))
}

fn created(workflow: &str) -> Event {
    let inputs = Json::parse(r#"{"who": "world"}"#).unwrap();
    Event::RunCreated {
        workflow: workflow.to_owned(),
        plan: plan().0,
        inputs,
        seed: u64::MAX,
        priority: -7,
        group: Some("eu".to_owned()),
        rerun_of: None,
    }
}

fn started(step: u32) -> Event {
    Event::AttemptStarted { step: StepId(step), attempt: 1 }
}

fn finished(outcome: Outcome) -> Event {
    Event::RunFinished { outcome, outputs: Json::parse("{}").unwrap(), faults: Vec::new() }
}

/// A new run with its first record, at `ms`.
fn create(run: &RunId, ms: u64) -> Create {
    let (plan, plan_json) = plan();
    Create { run: run.clone(), plan, plan_json, records: vec![at(ms, created("hello"))] }
}

fn append(run: &RunId, expected: u64, records: Vec<Record>) -> Append {
    Append { run: run.clone(), expected, records, answers: Vec::new() }
}
