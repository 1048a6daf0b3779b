//! The durable record of runs: append, load, tail.
//!
//! ```text
//!  append ──encode→ queue ──group→ writer ──one commit→ journal.db ──→ acknowledged, horizon moves
//!                                                          │
//!  load, tail, runs, log ←──────────── readers ────────────┤
//!  another process's request ──→ inbox ── watcher sees it ─┘
//! ```
//!
//! What is acknowledged is on the disk: a crash at any moment loses nothing of it. What was not acknowledged may be there
//! or not; the run's version tells. A record is in the journal before anything acts on it, and the records of one append
//! are there all or none.
//!
//! One process drives ([`Mode::Drive`]) and appends; any number of others observe, and ask things of it ([`Request`]).
//! Queries are folds over events, except for the few that a list of runs needs.
//!
//! In reading order: the file ([`StorageError`], `schema`, `lock`, `sqlite`), writing (`record`, `queue`, `writer`),
//! reading (`reader`, `log`, `watcher`, `inbox`), deleting (`upkeep`), proving (`chain`, `verify`), and the second backend, `memory`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "in a test it is an assertion"))]

use std::collections::HashSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Record, RunId};
use tokio::sync::{oneshot, watch};

mod chain;
mod holder;
mod inbox;
mod lock;
mod log;
mod memory;
mod queue;
mod reader;
mod record;
mod schema;
mod sqlite;
mod storage;
mod sync;
mod upkeep;
mod verify;
mod watcher;
mod writer;

pub use holder::Holder;
pub use inbox::{Inbox, Pending, Request, RequestError, RequestId};
pub use lock::Driver;
pub use log::{LogFilter, LogLine};
pub use reader::{Loaded, ReadError, RunFilter, RunSummary, StateFilter};
pub use schema::SchemaError;
pub use sqlite::OpenError;
pub use storage::{BUSY_TIMEOUT, StorageError};
pub use upkeep::{DeleteError, Deleted, Deletion, RUNS_DELETED_MAX, Tidied};
pub use verify::{Difference, DifferenceKind, Mark, Verified};
pub use watcher::WATCH_INTERVAL;

use memory::Memory;
use sqlite::Sqlite;
use writer::{Start, Upkeep, Verdict};

/// A journal. Cheap to clone; the last clone that is dropped commits what still waits and closes the file.
#[derive(Clone)]
pub struct Journal {
    backend: Arc<Backend>,
}

enum Backend {
    Sqlite(Sqlite),
    Memory(Memory),
}

/// What a process wants of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To append. One process at a time.
    Drive,
    /// To read, and to ask the driver for something.
    Observe,
}

/// A new run and its first records.
#[derive(Clone, Debug)]
pub struct Create {
    /// An id that no other run of the journal has.
    pub run: RunId,
    /// Of the plan that the run keeps.
    pub plan: Digest,
    /// The plan's canonical text, stored once for all runs that keep it.
    pub plan_json: Arc<str>,
    /// The first is `RunCreated`.
    pub records: Vec<Record>,
}

/// Further records of a run.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which.
    pub run: RunId,
    /// How many records it has so far. If it has others, nothing is appended.
    pub expected: u64,
    /// All of them or none are kept.
    pub records: Vec<Record>,
    /// Requests of this run that the records answer: taken out of the inbox in the same transaction.
    pub answers: Vec<RequestId>,
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The run has another version: somebody else appended to it, or a new run's id is taken.
    #[error("run {run} has {actual} records, not {expected} as expected: somebody else has appended to it")]
    Conflict {
        /// The run.
        run: RunId,
        /// The version that the append was made for; 0 for a new run.
        expected: u64,
        /// The version that it has.
        actual: u64,
    },
    /// There is no such run.
    #[error("the journal has no run {0}")]
    NoSuchRun(RunId),
    /// The journal was opened with [`Mode::Observe`].
    #[error("this process only observes the journal: appending is for the one that drives")]
    Observing,
    /// The file. Nothing of the whole group of appends was kept; after a passing error
    /// ([`StorageError::is_passing`]) the same append may succeed later.
    #[error(transparent)]
    Storage(StorageError),
    /// An earlier error left the file in a state that is not known; everything is refused until it is opened again.
    #[error(
        "the journal takes nothing more since an earlier error: {0}. What was acknowledged before is kept; restart to go on"
    )]
    Broken(StorageError),
    /// The journal was closed, or its writer died, before the append was answered. It may have been kept.
    #[error("the journal was closed before the append was acknowledged")]
    Stopped,
}

impl AppendError {
    fn conflict(run: &RunId, expected: u64, actual: u64) -> AppendError {
        AppendError::Conflict { run: run.clone(), expected, actual }
    }
}

/// The answer to an append: the run's new version, once the records are durable.
///
/// The append was handed over when this was made; it happens whether or not anybody waits. So a driver can hand in an
/// append, do something else and come back for the answer.
#[must_use = "an append that nobody waits for may fail unseen"]
#[derive(Debug)]
pub struct Appended(Answer);

#[derive(Debug)]
enum Answer {
    Given(Option<Box<Verdict>>),
    Awaited(oneshot::Receiver<Verdict>),
}

impl Appended {
    fn given(verdict: Verdict) -> Appended {
        Appended(Answer::Given(Some(Box::new(verdict))))
    }

    /// Waits without an async runtime. Blocks the thread; panics inside a runtime, where `.await` is meant.
    pub fn wait(self) -> Result<u64, AppendError> {
        match self.0 {
            Answer::Given(verdict) => *verdict.expect("an answer is taken once"),
            Answer::Awaited(receiver) => receiver.blocking_recv().unwrap_or(Err(AppendError::Stopped)),
        }
    }
}

impl Future for Appended {
    type Output = Result<u64, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answer::Given(verdict) => Poll::Ready(*verdict.take().expect("a future is not polled after it is ready")),
            Answer::Awaited(receiver) => {
                let verdict = ready!(Pin::new(receiver).poll(context));
                Poll::Ready(verdict.unwrap_or(Err(AppendError::Stopped)))
            }
        }
    }
}

/// A place in the journal, all runs together: greater is later, 0 is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A record of the journal, all runs together.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// Whose it is.
    pub run: RunId,
    /// What happened.
    pub record: Record,
}

/// How far the journal goes; no part of it ever goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    /// The last record's position.
    pub event: Position,
    /// The last log line's position.
    pub line: u64,
    /// The id of the last request ever made.
    pub request: u64,
}

impl Horizon {
    /// Moves every part that `reached` is ahead in; says whether there was one.
    fn advance(&mut self, reached: Horizon) -> bool {
        let before = *self;
        self.event = self.event.max(reached.event);
        self.line = self.line.max(reached.line);
        self.request = self.request.max(reached.request);
        *self != before
    }
}

impl Journal {
    /// Opens the journal of the state directory `dir`. To drive, the directory and its files are made if they are
    /// missing (for this user alone), and an earlier version's tables are brought up to date.
    pub fn open(dir: &Path, mode: Mode) -> Result<Journal, OpenError> {
        Ok(Journal { backend: Arc::new(Backend::Sqlite(Sqlite::open(dir, mode)?)) })
    }

    /// The process that drives the runs of the state directory `dir` right now, if there is one. Looking does not get in
    /// the way of one that begins to.
    pub fn driver(dir: &Path) -> Result<Option<Driver>, StorageError> {
        sqlite::driver(dir)
    }

    /// Lets [`Journal::driver`] tell other processes that this one drives `run`. For the process that drives; elsewhere
    /// nothing happens. What can't be written is not told: nothing but what people read depends on it.
    pub fn announce(&self, run: &RunId) {
        if let Backend::Sqlite(sqlite) = &*self.backend {
            sqlite.announce(run);
        }
    }

    /// A journal that is gone with its last clone. For tests, and for measuring the engine without a disk.
    pub fn in_memory() -> Journal {
        Journal { backend: Arc::new(Backend::Memory(Memory::new())) }
    }

    /// Hands in a new run. The answer is its version; a taken id is a [`AppendError::Conflict`].
    ///
    /// # Panics
    /// If the first record is not `RunCreated`.
    pub fn create(&self, create: Create) -> Appended {
        let sqlite = match &*self.backend {
            Backend::Memory(memory) => return Appended::given(memory.create(create)),
            Backend::Sqlite(sqlite) => sqlite,
        };
        begin(sqlite, create, Vec::new())
    }

    /// Hands in a run that was recorded elsewhere, with its log: all of it or nothing is kept.
    ///
    /// # Panics
    /// If the first record is not `RunCreated`.
    pub fn import(&self, create: Create, lines: Vec<LogLine>) -> Appended {
        match &*self.backend {
            Backend::Memory(memory) => {
                let run = create.run.clone();
                let created = memory.create(create);
                if created.is_ok() {
                    memory.append_log(&run, lines);
                }
                Appended::given(created)
            }
            Backend::Sqlite(sqlite) => begin(sqlite, create, lines),
        }
    }

    /// Hands in further records of a run. The answer is its new version, when they are durable: about one commit later,
    /// shared with whatever else is handed in meanwhile. Appends of one run may be handed in one after the other without
    /// waiting; they are taken in that order.
    pub fn append(&self, append: Append) -> Appended {
        match &*self.backend {
            Backend::Memory(memory) => Appended::given(memory.append(append)),
            Backend::Sqlite(sqlite) => {
                hand_in(sqlite, append.run, Start::At(append.expected), &append.records, append.answers)
            }
        }
    }

    /// All of a run's records.
    pub fn load(&self, run: &RunId) -> Result<Loaded, ReadError> {
        let mut records = Vec::new();
        let plan = self.replay(run, 0, |record| records.push(record))?;
        Ok(Loaded { plan, records })
    }

    /// Gives `each` a run's records after version `after` (0: all), oldest first, without holding them all. Returns the
    /// digest of the plan that it keeps. The write-ahead log can't start over while this runs: `each` should be quick.
    pub fn replay(&self, run: &RunId, after: u64, each: impl FnMut(Record)) -> Result<Digest, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.replay(run, after, each)),
            Backend::Memory(memory) => memory.replay(run, after, each),
        }
    }

    /// A run's records after version `after` (0: from the first), oldest first, until their texts have `bytes` together
    /// or there are no more; at least one, if there is one. For whoever hands them on to a reader who may be slow: what
    /// has not been asked for stays on the disk. In memory, where nothing is gained by it, a page has all of them.
    pub fn records_page(&self, run: &RunId, after: u64, bytes: usize) -> Result<Vec<Record>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.records_page(run, after, bytes)),
            Backend::Memory(memory) => {
                let mut records = Vec::new();
                memory.replay(run, after, |record| records.push(record))?;
                Ok(records)
            }
        }
    }

    /// The canonical text of a plan that some run keeps.
    pub fn plan(&self, digest: &Digest) -> Result<String, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.plan(digest)),
            Backend::Memory(memory) => memory.plan(digest),
        }
    }

    /// The records of all runs after `after`, in the order in which they were committed; at most `limit`.
    pub fn tail(&self, after: Position, limit: usize) -> Result<Vec<Entry>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.tail(after, limit)),
            Backend::Memory(memory) => Ok(memory.tail(after, limit)),
        }
    }

    /// How far the journal goes, to be waited on. In the driving process it moves with every commit; what other
    /// processes wrote is seen within [`WATCH_INTERVAL`].
    pub fn horizon(&self) -> Result<watch::Receiver<Horizon>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.horizon(),
            Backend::Memory(memory) => Ok(memory.horizon.subscribe()),
        }
    }

    /// The runs that `filter` lets through, newest first.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.runs(filter)),
            Backend::Memory(memory) => Ok(memory.runs(filter)),
        }
    }

    /// One run as a list shows it.
    pub fn summary(&self, run: &RunId) -> Result<RunSummary, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.summary(run)),
            Backend::Memory(memory) => memory.summary(run),
        }
    }

    /// The run that was created last.
    pub fn latest(&self) -> Result<Option<RunSummary>, ReadError> {
        Ok(self.runs(&RunFilter { limit: Some(1), ..RunFilter::default() })?.pop())
    }

    /// The run whose id is `text`, or else the only one whose id begins or ends with it.
    pub fn find(&self, text: &str) -> Result<RunId, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.find(text)),
            Backend::Memory(memory) => memory.find(text),
        }
    }

    /// Keeps lines of a run's log. Returns at once: they are durable with the next append (one that is handed in later
    /// never overtakes them), or a tenth of a second later. When 8 MiB of lines wait for the disk already, or it refuses
    /// them, they are dropped and one line in the log says how many. For the process that drives; elsewhere nothing
    /// happens.
    pub fn append_log(&self, run: &RunId, lines: Vec<LogLine>) {
        match &*self.backend {
            Backend::Sqlite(sqlite) => {
                if let Some(writer) = &sqlite.writer {
                    writer.log(run, lines);
                }
            }
            Backend::Memory(memory) => memory.append_log(run, lines),
        }
    }

    /// The lines of a run's log that `filter` lets through, oldest first, each with its position.
    pub fn load_log(&self, run: &RunId, filter: LogFilter) -> Result<Vec<(u64, LogLine)>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.log(run, filter, usize::MAX)),
            Backend::Memory(memory) => memory.load_log(run, filter),
        }
    }

    /// [`load_log`](Journal::load_log) by pages, as [`records_page`](Journal::records_page) has it.
    pub fn log_page(&self, run: &RunId, filter: LogFilter, bytes: usize) -> Result<Vec<(u64, LogLine)>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.log(run, filter, bytes)),
            Backend::Memory(memory) => memory.load_log(run, filter),
        }
    }

    /// Deletes runs that are over, with their records, their logs and what was asked of them: all of them, durably, or
    /// none. Positions go on from where they were, and [`Journal::deleted`] tells that the runs were there. For the process
    /// that drives. Blocks the thread; panics inside an async runtime.
    pub fn delete(&self, deletion: Deletion) -> Result<Vec<Deleted>, DeleteError> {
        match &*self.backend {
            Backend::Memory(memory) => memory.delete(&deletion),
            Backend::Sqlite(sqlite) => keep_up(sqlite, |ack| Upkeep::Delete(deletion, ack)),
        }
    }

    /// Removes plans that no run keeps, and gives room back to the disk if much of the file is empty. For the process that
    /// drives. Blocks the thread, for as long as writing the file anew takes; panics inside an async runtime.
    pub fn tidy(&self) -> Result<Tidied, DeleteError> {
        match &*self.backend {
            Backend::Memory(memory) => Ok(memory.tidy()),
            Backend::Sqlite(sqlite) => keep_up(sqlite, Upkeep::Tidy),
        }
    }

    /// The runs that were deleted, the last of them first; at most `limit`.
    pub fn deleted(&self, limit: usize) -> Result<Vec<Deleted>, ReadError> {
        match &*self.backend {
            Backend::Memory(memory) => Ok(memory.deleted(limit)),
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.deleted(limit)),
        }
    }

    /// Gives `each` all texts that the journal holds but for those of some runs: records, lines of logs, requests, and the
    /// plans that the other runs keep. For whoever asks what is still mentioned anywhere.
    pub fn texts(&self, but: &HashSet<RunId>, each: &mut dyn FnMut(&str)) -> Result<(), ReadError> {
        match &*self.backend {
            Backend::Memory(memory) => {
                memory.texts(but, each);
                Ok(())
            }
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.texts(but, each)),
        }
    }

    /// Holds all records against the chain of hashes that they were written with, in one state of the journal, and the chain
    /// against a mark that was kept. An engine may drive meanwhile; its write-ahead log can't start over until this returns.
    /// In memory, where nobody else can change anything, nothing is found.
    pub fn verify(&self, mark: Option<&Mark>) -> Result<Verified, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.verify(mark)),
            Backend::Memory(_) => Ok(Verified::default()),
        }
    }

    /// Holds one run's records against each other, and the list of runs against them. Its place among the others is not
    /// looked at.
    pub fn verify_run(&self, run: &RunId) -> Result<Verified, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.verify_run(run)),
            Backend::Memory(_) => Ok(Verified::default()),
        }
    }

    /// How far the journal has come, for [`verify`](Journal::verify) later on; `None` in memory.
    pub fn mark(&self) -> Result<Option<Mark>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.with(|query| query.mark()).map(Some),
            Backend::Memory(_) => Ok(None),
        }
    }

    /// Asks whoever drives `run`, now or later, for something. Durable when this returns. Blocks for one commit.
    pub fn request(&self, run: &RunId, request: Request) -> Result<RequestId, RequestError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => inbox::submit(&sqlite.database, run, &request),
            Backend::Memory(memory) => memory.request(run, request),
        }
    }

    /// What was asked of `run` and not answered yet, oldest first: for a driver that resumes it.
    pub fn requests(&self, run: &RunId) -> Result<Vec<Pending>, ReadError> {
        self.pending(Some(run), RequestId(0))
    }

    /// What is asked of any run, as it comes in: for the driver. The inbox keeps the journal open.
    pub fn inbox(&self) -> Result<Inbox, ReadError> {
        Ok(Inbox::new(self.clone(), self.horizon()?))
    }

    fn requests_after(&self, after: RequestId) -> Result<Vec<Pending>, ReadError> {
        self.pending(None, after)
    }

    fn pending(&self, run: Option<&RunId>, after: RequestId) -> Result<Vec<Pending>, ReadError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => {
                sqlite.readers.with(|query| inbox::pending(query.database, query.connection, run, after))
            }
            Backend::Memory(memory) => Ok(memory.pending(run, after)),
        }
    }
}

fn begin(sqlite: &Sqlite, create: Create, lines: Vec<LogLine>) -> Appended {
    let (workflow, created) = record::beginning_of(&create.records);
    let (plan, plan_json) = (create.plan, create.plan_json);
    let start = Start::New { plan, plan_json, workflow: workflow.to_owned(), created, lines };
    hand_in(sqlite, create.run, start, &create.records, Vec::new())
}

fn hand_in(sqlite: &Sqlite, run: RunId, start: Start, records: &[Record], answers: Vec<RequestId>) -> Appended {
    let Some(writer) = &sqlite.writer else { return Appended::given(Err(AppendError::Observing)) };
    let (ack, answer) = oneshot::channel();
    let (rows, end) = (record::encode(records), record::end_of(records));
    writer.append(writer::Append { run, start, rows, end, answers, ack });
    Appended(Answer::Awaited(answer))
}

/// Hands work on the whole file to the writer and waits for it.
fn keep_up<T>(
    sqlite: &Sqlite,
    job: impl FnOnce(oneshot::Sender<Result<T, DeleteError>>) -> Upkeep,
) -> Result<T, DeleteError> {
    let Some(writer) = &sqlite.writer else { return Err(DeleteError::Refused(AppendError::Observing)) };
    let (ack, answer) = oneshot::channel();
    writer.upkeep(job(ack));
    answer.blocking_recv().unwrap_or(Err(DeleteError::Refused(AppendError::Stopped)))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use downbeat_workflow::event::{Event, Timestamp};

    use super::*;

    #[test]
    fn a_run_that_does_not_begin_with_its_creation_panics_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for journal in [Journal::in_memory(), Journal::open(dir.path(), Mode::Drive).unwrap()] {
            for records in [Vec::new(), vec![Record { at: Timestamp(1), event: Event::RunTimedOut }]] {
                let run = RunId("r1".into());
                let create = Create { run: run.clone(), plan: Digest::of(b"{}"), plan_json: Arc::from("{}"), records };
                assert!(catch_unwind(AssertUnwindSafe(|| journal.create(create))).is_err());
                assert!(matches!(journal.summary(&run), Err(ReadError::NoSuchRun(_))));
                // Nor does anything come later: the writer commits in order, and knows of no such run.
                let append = Append { run: run.clone(), expected: 0, records: Vec::new(), answers: Vec::new() };
                assert_eq!(journal.append(append).wait(), Err(AppendError::NoSuchRun(run)));
            }
            assert_eq!(*journal.horizon().unwrap().borrow(), Horizon::default());
        }
    }
}
