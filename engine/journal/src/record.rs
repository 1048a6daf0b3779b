//! The records of one append as one row, `[[at, event], …]` as JSON text, and the words that stand for an outcome.
//!
//! An append is one row and not one for each of its records because a commit costs by the row: the end of a step and the
//! start of the next one, which are always appended together, are half the price. Encoding happens on the thread that
//! appends and decoding on the one that reads, so that the writer only binds and inserts.

use downbeat_workflow::event::{Event, Outcome, Record, Timestamp};

use serde::{Serialize, Serializer};

use crate::storage::signed;

/// An append's records as they are inserted.
#[derive(Debug)]
pub(crate) struct Row {
    /// How many records.
    pub(crate) records: u64,
    /// When the last of them happened.
    pub(crate) at: i64,
    pub(crate) body: String,
}

/// `None` where there is nothing to insert.
pub(crate) fn encode(records: &[Record]) -> Option<Row> {
    let at = signed(records.last()?.at.0);
    let body = serde_json::to_string(&Body(records)).expect("an event holds nothing that JSON can't");
    Some(Row { records: records.len() as u64, at, body })
}

pub(crate) fn decode(body: &str) -> Result<Vec<Record>, serde_json::Error> {
    let pairs: Vec<(Timestamp, Event)> = serde_json::from_str(body)?;
    Ok(pairs.into_iter().map(|(at, event)| Record { at, event }).collect())
}

struct Body<'r>(&'r [Record]);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|record| (record.at, &record.event)))
    }
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
