//! A record as a row: the event as JSON text, its time as a column of its own, and the words that stand for an outcome.
//!
//! Encoding happens on the thread that appends and decoding on the one that reads, so that the writer only binds and
//! inserts.

use downbeat_workflow::event::{Event, Outcome, Record, Timestamp};

use crate::storage::{signed, unsigned};

/// A record as it is inserted.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) at: i64,
    pub(crate) body: String,
}

pub(crate) fn encode(record: &Record) -> Row {
    let body = serde_json::to_string(&record.event).expect("an event holds nothing that JSON can't");
    Row { at: signed(record.at.0), body }
}

pub(crate) fn decode(at: i64, body: &str) -> Result<Record, serde_json::Error> {
    Ok(Record { at: Timestamp(unsigned(at)), event: serde_json::from_str::<Event>(body)? })
}

/// How and when the run ended, if these records say so.
pub(crate) fn end_of(records: &[Record]) -> Option<(Outcome, Timestamp)> {
    records.iter().rev().find_map(|record| match record.event {
        Event::RunFinished { outcome, .. } => Some((outcome, record.at)),
        _ => None,
    })
}

/// The workflow's name and when the run was created.
pub(crate) fn beginning_of(records: &[Record]) -> (&str, Timestamp) {
    match records.first() {
        Some(Record { at, event: Event::RunCreated { workflow, .. } }) => (workflow, *at),
        _ => panic!("a run's first record is RunCreated"),
    }
}

pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::TimedOut => "timed-out",
    }
}

pub(crate) fn outcome_of_word(word: &str) -> Option<Outcome> {
    [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled, Outcome::TimedOut]
        .into_iter()
        .find(|outcome| outcome_word(*outcome) == word)
}
