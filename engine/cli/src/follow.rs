//! A run's records and log lines as they become durable, read from the journal by whoever shows them: the screen of
//! `run` and `resume`, and `--follow`.
//!
//! The journal is the queue between those who drive and those who show. So a reader that stalls (`| less`) holds nobody
//! up, what it has not taken waits on the disk and not in memory, and nothing is lost: it is read when there is room for
//! it again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use downbeat_journal::{Horizon, Journal, LogFilter, LogLine, ReadError};
use downbeat_workflow::event::{Event, Record, RunId};
use downbeat_workflow::plan::StepId;
use tokio::sync::watch;

use crate::exit::Fault;

/// How much is read ahead, in bytes of text, of the records and of the log each. 1 MiB: some thousand records; the largest
/// single ones are 16 MiB, a step's output.
const PAGE_BYTES: usize = 1 << 20;

/// What is next in a run's story.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A fact.
    Record(Record),
    /// A line of an attempt's log.
    Line(LogLine),
}

impl Item {
    /// Whether nothing comes after it.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Item::Record(Record { event: Event::RunFinished { .. }, .. }))
    }
}

/// Gives `each` what `follower` finds until the run is over, waiting in this thread for what is not there yet.
pub(crate) fn pursue(
    mut follower: Follower,
    mut horizon: watch::Receiver<Horizon>,
    mut each: impl FnMut(&Item) -> Result<(), Fault>,
) -> Result<(), Fault> {
    loop {
        // Before the look, so that what comes in between is looked at again.
        horizon.mark_unchanged();
        while let Some(item) = follower.next().map_err(Fault::engine)? {
            each(&item)?;
            if item.is_end() {
                return Ok(());
            }
        }
        if !wait(&mut horizon)? {
            return Ok(());
        }
    }
}

/// Waits in this thread until the journal has more than it had; false if it never will.
pub(crate) fn wait(horizon: &mut watch::Receiver<Horizon>) -> Result<bool, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Fault::engine)?;
    Ok(runtime.block_on(horizon.changed()).is_ok())
}

/// A place in a run's story.
pub(crate) struct Follower {
    journal: Journal,
    run: RunId,
    /// The version up to which records were read, and the position up to which the log was.
    version: u64,
    position: u64,
    records: VecDeque<Record>,
    lines: VecDeque<LogLine>,
    /// How many of `lines` are of which attempt.
    unsaid: HashMap<(StepId, u32), usize>,
    /// Whether the log may have lines that came before the records at hand and have not been read.
    log_is_behind: bool,
    /// The latest attempt of each step whose start has been told.
    begun: HashMap<StepId, u32>,
}

impl Follower {
    /// Follows a run from after the records that it has already, which are told otherwise, and from after `position` of
    /// the log; without records and from 0, that is its whole story.
    pub(crate) fn new(journal: Journal, run: RunId, told: &[Record], position: u64) -> Follower {
        let mut follower = Follower {
            journal,
            run,
            version: told.len() as u64,
            position,
            records: VecDeque::new(),
            lines: VecDeque::new(),
            unsaid: HashMap::new(),
            log_is_behind: true,
            begun: HashMap::new(),
        };
        told.iter().for_each(|record| follower.begin(record));
        follower
    }

    /// The next item, or nothing while there is none. An attempt's lines come after its start and before its end; `at`
    /// decides where in between, as the journal numbers records and lines apart.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, ReadError> {
        if self.records.is_empty() && !self.lines.front().is_some_and(|line| self.has_begun(line)) {
            let page = self.journal.records_page(&self.run, self.version, PAGE_BYTES)?;
            self.version += page.len() as u64;
            self.records.extend(page);
            // Lines are durable before the record of their attempt's end: read after it, none is missing.
            self.log_is_behind = true;
        }
        if self.lines.is_empty() && self.log_is_behind {
            let filter = LogFilter { step: None, after: self.position };
            let page = self.journal.log_page(&self.run, filter, PAGE_BYTES)?;
            self.log_is_behind = !page.is_empty();
            for (position, line) in page {
                self.position = position;
                *self.unsaid.entry((line.step, line.attempt)).or_default() += 1;
                self.lines.push_back(line);
            }
        }
        Ok(match (self.records.front(), self.lines.front()) {
            (None, None) => None,
            (Some(_), None) => self.record(),
            (Some(record), Some(line)) if !self.has_begun(line) || self.is_before(record, line) => self.record(),
            // A line whose attempt's start is not durable yet waits for it.
            (None, Some(line)) if !self.has_begun(line) => None,
            (_, Some(_)) => self.line(),
        })
    }

    /// Whether the record is told before the next line: not as long as it ends an attempt with lines to be told, also
    /// when the clock was set back in between.
    fn is_before(&self, record: &Record, line: &LogLine) -> bool {
        let ended = match &record.event {
            Event::AttemptSucceeded { step, attempt, .. }
            | Event::AttemptFailed { step, attempt, .. }
            | Event::AttemptCancelled { step, attempt, .. }
            | Event::AttemptInterrupted { step, attempt, .. } => (*step, *attempt),
            _ => return record.at <= line.at,
        };
        record.at < line.at && !self.unsaid.contains_key(&ended)
    }

    fn record(&mut self) -> Option<Item> {
        let record = self.records.pop_front()?;
        self.begin(&record);
        Some(Item::Record(record))
    }

    fn line(&mut self) -> Option<Item> {
        let line = self.lines.pop_front()?;
        if let Entry::Occupied(mut count) = self.unsaid.entry((line.step, line.attempt)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(Item::Line(line))
    }

    fn begin(&mut self, record: &Record) {
        if let Event::AttemptStarted { step, attempt } = &record.event {
            self.begun.insert(*step, *attempt);
        }
    }

    fn has_begun(&self, line: &LogLine) -> bool {
        self.begun.get(&line.step).is_some_and(|latest| line.attempt <= *latest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use downbeat_journal::{Append, Create};
    use downbeat_workflow::description::Digest;
    use downbeat_workflow::event::{Interruption, Timestamp};
    use downbeat_workflow::json::Json;
    use downbeat_workflow::log::Level;

    use super::*;

    /// A story in short: `start 1` and `end 1` are records of the step's attempts, `say 1` a line; each with its time.
    fn told(story: &[(&str, u32, u64)]) -> Vec<String> {
        let journal = Journal::in_memory();
        let run = RunId("abc".into());
        let record = |at, event| Record { at: Timestamp(at), event };
        let digest = Digest::of(b"{}");
        let created = Event::RunCreated {
            workflow: "w".into(),
            plan: digest.clone(),
            inputs: Json::from(serde_json::json!({})),
            seed: 1,
            priority: 0,
            group: None,
            rerun_of: None,
        };
        let create =
            Create { run: run.clone(), plan: digest, plan_json: Arc::from("{}"), records: vec![record(0, created)] };
        journal.create(create).wait().unwrap();
        let mut version = 1;
        for &(word, attempt, at) in story {
            let step = StepId(0);
            let event = match word {
                "start" => Event::AttemptStarted { step, attempt },
                "end" => Event::AttemptInterrupted { step, attempt, cause: Interruption::Stop },
                _ => {
                    let message = format!("at {at}");
                    let line = LogLine { step, attempt, at: Timestamp(at), level: Level::Info, message };
                    journal.append_log(&run, vec![line]);
                    continue;
                }
            };
            let records = vec![record(at, event)];
            let append = Append { run: run.clone(), expected: version, records, answers: Vec::new() };
            version = journal.append(append).wait().unwrap();
        }
        let mut follower = Follower::new(journal, run, &[], 0);
        let mut items = Vec::new();
        while let Some(item) = follower.next().unwrap() {
            items.push(match item {
                Item::Line(line) => format!("say {}", line.attempt),
                Item::Record(Record { event: Event::AttemptStarted { attempt, .. }, .. }) => format!("start {attempt}"),
                Item::Record(Record { event: Event::AttemptInterrupted { attempt, .. }, .. }) => {
                    format!("end {attempt}")
                }
                Item::Record(_) => "created".to_owned(),
            });
        }
        items
    }

    #[test]
    fn an_attempts_lines_stand_between_its_start_and_its_end() {
        let story = [("start", 1, 5), ("say", 1, 5), ("end", 1, 5), ("start", 2, 5), ("say", 2, 5), ("end", 2, 6)];
        assert_eq!(told(&story), ["created", "start 1", "say 1", "end 1", "start 2", "say 2", "end 2"]);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_tear_an_attempt_apart() {
        let story = [("start", 1, 9), ("say", 1, 3), ("end", 1, 2), ("start", 2, 1), ("say", 2, 1)];
        assert_eq!(told(&story), ["created", "start 1", "say 1", "end 1", "start 2", "say 2"]);
    }

    #[test]
    fn a_line_waits_for_its_attempts_start() {
        assert_eq!(told(&[("say", 1, 1)]), ["created"]);
        assert_eq!(told(&[("say", 1, 1), ("start", 1, 2)]), ["created", "start 1", "say 1"]);
    }
}
