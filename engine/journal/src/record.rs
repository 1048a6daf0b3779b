//! The records of an append as rows, `[[at, event], …]` as JSON text, and the words that stand for an outcome.
//!
//! An append is mostly one row and not one for each of its records, because a commit costs by the row: the end of a step
//! and the start of the next one, which are always appended together, are half the price. Encoding happens on the thread
//! that appends and decoding on the one that reads, so that the writer only binds and inserts.

use std::io::Write;

use downbeat_workflow::event::{Event, Outcome, Record, Timestamp};
use downbeat_workflow::plan::StepId;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use crate::storage::signed;

/// Bytes of text after which an append goes on in another row. Many large outputs may come in at once, and SQLite takes no
/// text of more than a gigabyte; one output alone is a quarter of that at most.
const ROW_BYTES_MAX: usize = 1 << 20;

/// Bytes for a success without its output and for the start of the next step, which mostly is in the same row.
const SUCCESS_BYTES: usize = 320;

/// Records as they are inserted.
#[derive(Debug)]
pub(crate) struct Row {
    /// How many records.
    pub(crate) records: u64,
    /// When the last of them happened.
    pub(crate) at: i64,
    /// JSON.
    body: Vec<u8>,
}

impl Row {
    /// The text.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl ToSql for Row {
    /// The body, as text.
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.body)))
    }
}

pub(crate) fn encode(records: &[Record]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(1);
    for record in records {
        let at = signed(record.at.0);
        let body = match rows.last_mut() {
            Some(row) if row.body.len() < ROW_BYTES_MAX => {
                (row.records, row.at) = (row.records + 1, at);
                row.body.push(b',');
                &mut row.body
            }
            _ => {
                rows.push(Row { records: 1, at, body: vec![b'['] });
                &mut rows.last_mut().expect("it was just pushed").body
            }
        };
        write(body, record).expect("an event holds nothing that JSON can't");
    }
    rows.iter_mut().for_each(|row| row.body.push(b']'));
    rows
}

/// Writes `[at, event]`. What carries an output is written around it, as serde would look through the text once more to see
/// that it is JSON.
fn write(body: &mut Vec<u8>, Record { at, event }: &Record) -> std::io::Result<()> {
    let Event::AttemptSucceeded { step, attempt, output, usage } = event else {
        return Ok(serde_json::to_writer(body, &(at, event))?);
    };
    let (Timestamp(at), StepId(step)) = (at, step);
    body.reserve(output.as_str().len() + SUCCESS_BYTES);
    write!(body, r#"[{at},{{"attempt-succeeded":{{"step":{step},"attempt":{attempt},"output":{output},"usage":"#)?;
    serde_json::to_writer(&mut *body, usage)?;
    body.extend_from_slice(b"}}]");
    Ok(())
}

pub(crate) fn decode(body: &str) -> Result<Vec<Record>, serde_json::Error> {
    let pairs: Vec<(Timestamp, Event)> = serde_json::from_str(body)?;
    Ok(pairs.into_iter().map(|(at, event)| Record { at, event }).collect())
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

#[cfg(test)]
mod tests {
    use downbeat_workflow::event::{Refusal, Usage};
    use downbeat_workflow::json::Json;

    use super::*;

    #[test]
    fn a_success_is_written_as_serde_writes_it() {
        let refusal = Refusal { capability: "http".into(), wanted: "a\"b".into(), hint: "grant = { }".into() };
        let usage = Usage { wall_us: 1, log_bytes: 2, refusals: [refusal].into(), ..Usage::default() };
        for (output, usage) in [(r#"{"a": [1.50, "\u00e9\n"]}"#, usage), ("null", Usage::default())] {
            let output = Json::parse(output).unwrap();
            let event = Event::AttemptSucceeded { step: StepId(7), attempt: 3, output, usage };
            let record = Record { at: Timestamp(1_700_000_000_000), event };
            let mut body = Vec::new();
            write(&mut body, &record).unwrap();
            let expected = serde_json::to_string(&(record.at, &record.event)).unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }

    #[test]
    fn records_share_a_row_until_it_is_long() {
        let record = |bytes: usize| {
            let output = Json::from(serde_json::Value::String("x".repeat(bytes)));
            let event = Event::AttemptSucceeded { step: StepId(0), attempt: 1, output, usage: Usage::default() };
            Record { at: Timestamp(bytes as u64), event }
        };
        let records = [record(7), record(ROW_BYTES_MAX), record(8), record(9)];
        let rows = encode(&records);
        assert_eq!(
            rows.iter().map(|row| (row.records, row.at)).collect::<Vec<_>>(),
            [(2, ROW_BYTES_MAX as i64), (2, 9)]
        );
        let decoded = rows.iter().flat_map(|row| decode(std::str::from_utf8(&row.body).unwrap()).unwrap());
        assert_eq!(decoded.collect::<Vec<_>>(), records);
        assert!(encode(&[]).is_empty());
    }
}
