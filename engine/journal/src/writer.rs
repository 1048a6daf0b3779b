//! The one writer: a thread that owns the writing connection and commits whatever waits as one transaction, then
//! acknowledges each append.
//!
//! A group stands or falls together with the disk: after an error everything in it is rolled back and told so. An append
//! at the wrong version is refused by itself, before anything of it is written. What versions the runs have is kept in
//! memory, which is sound because the driver lock lets no other process append.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Outcome, RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{oneshot, watch};

use crate::chain::{self, Hash, Place};
use crate::inbox::RequestId;
use crate::log::{Gap, Gaps, LogLine, level_number};
use crate::queue::Queue;
use crate::record::{Row, outcome_word};
use crate::storage::{Database, StorageError, signed, unsigned};
use crate::upkeep::{self, DeleteError, Deleted, Deletion, Tidied};
use crate::{AppendError, Horizon, Position};

/// Appends in one transaction at most. The rate hardly grows beyond a hundred rows (104,000/s; 118,000/s with a
/// thousand), while the first append of a group waits for its last one.
const GROUP_MAX: usize = 1024;

/// Runs whose version is kept in memory at most. Forgetting one costs a search at its next append.
const RUNS_KNOWN_MAX: usize = 65_536;

/// Plans whose key is kept in memory at most.
const PLANS_KNOWN_MAX: usize = 1024;

/// What the writer is asked to do.
pub(crate) enum Job {
    Append(Append),
    /// Lines of one run's log.
    Log(RunId, Vec<LogLine>),
    /// Something between two groups, in transactions of its own.
    Upkeep(Box<Upkeep>),
}

/// What is done to the whole file now and then, and where its answer goes.
pub(crate) enum Upkeep {
    Delete(Deletion, oneshot::Sender<Result<Vec<Deleted>, DeleteError>>),
    Tidy(oneshot::Sender<Result<Tidied, DeleteError>>),
}

/// An append, encoded, and where its answer goes.
pub(crate) struct Append {
    pub(crate) run: RunId,
    pub(crate) start: Start,
    pub(crate) rows: Vec<Row>,
    pub(crate) end: Option<(Outcome, Timestamp)>,
    pub(crate) answers: Vec<RequestId>,
    pub(crate) ack: oneshot::Sender<Verdict>,
}

/// Where an append begins.
pub(crate) enum Start {
    /// At a new run.
    New {
        plan: Digest,
        plan_json: Arc<str>,
        workflow: String,
        created: Timestamp,
        /// A run that was recorded elsewhere comes with its log.
        lines: Vec<LogLine>,
    },
    /// At this version of a run that exists.
    At(u64),
}

/// The run's new version, or why nothing was appended.
pub(crate) type Verdict = Result<u64, AppendError>;

/// The handle of the thread. Dropping it commits what waits, then ends the thread.
pub(crate) struct Writer {
    queue: Arc<Queue<Job>>,
    gaps: Arc<Gaps>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on a connection that [`Database::prepare_writer`] has set up.
    pub(crate) fn start(
        database: Database,
        connection: Connection,
        horizon: Arc<watch::Sender<Horizon>>,
    ) -> Result<Writer, StorageError> {
        // Positions only grow: also past what was deleted.
        let last = "SELECT max(event, (SELECT coalesce(max(position), 0) FROM append)),
                           max(line, (SELECT coalesce(max(position), 0) FROM line)) FROM reached";
        let places = connection.query_row(last, (), |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))));
        let (position, line) = places.map_err(|e| database.fault(e))?;
        let chain = chain::head(&connection).map_err(|e| database.fault(e))?;
        let path = database.path().to_path_buf();
        let queue = Arc::new(Queue::new());
        let gaps = Arc::new(Gaps::default());
        let scribe = Scribe {
            database,
            connection,
            horizon,
            gaps: gaps.clone(),
            runs: HashMap::new(),
            plans: HashMap::new(),
            position: Position(position),
            line,
            chain,
            broken: None,
        };
        let taken = Abandon(queue.clone());
        let thread = std::thread::Builder::new().name("journal-writer".to_owned());
        let thread =
            thread.spawn(move || scribe.serve(&taken.0)).map_err(|error| Database::system_fault(&path, &error))?;
        Ok(Writer { queue, gaps, thread: Some(thread) })
    }

    /// Hands in an append at once. Its answer comes to `ack`, which is dropped if the writer is gone.
    pub(crate) fn append(&self, append: Append) {
        if let Err(Job::Append(append)) = self.queue.push(Job::Append(append)) {
            let _ = append.ack.send(Err(AppendError::Stopped));
        }
    }

    /// Hands in work on the whole file. Its answer's sender is dropped if the writer is gone.
    pub(crate) fn upkeep(&self, job: Upkeep) {
        drop(self.queue.push(Job::Upkeep(Box::new(job))));
    }

    /// Hands in log lines. Where there is no room for them, the log will say so.
    pub(crate) fn log(&self, run: &RunId, lines: Vec<LogLine>) {
        let weight = lines.iter().map(LogLine::weight).sum();
        if let Err(Job::Log(run, lines)) = self.queue.push_lazily(Job::Log(run.clone(), lines), weight) {
            self.gaps.note(&run, &lines);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by its own hook, and its appends were answered `Stopped`.
            let _ = thread.join();
        }
    }
}

/// Empties the queue when the thread ends, however it does, so that nobody waits for an answer that can't come.
struct Abandon(Arc<Queue<Job>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What the thread owns.
struct Scribe {
    database: Database,
    connection: Connection,
    horizon: Arc<watch::Sender<Horizon>>,
    gaps: Arc<Gaps>,
    runs: HashMap<RunId, Known>,
    plans: HashMap<Digest, i64>,
    /// Of the last record that is on the disk.
    position: Position,
    /// Of the last log line that is on the disk.
    line: u64,
    /// How far the journal's chain has come on the disk.
    chain: Hash,
    /// Set by an error after which the file's state is not known.
    broken: Option<StorageError>,
}

#[derive(Clone, Copy)]
struct Known {
    key: i64,
    version: u64,
    /// Of its last row.
    hash: Hash,
}

/// How far a group has come that is being written.
struct Reached {
    horizon: Horizon,
    chain: Hash,
    /// Whether the chain is kept with the last row; otherwise a row was written after it.
    is_kept: bool,
}

impl Scribe {
    fn serve(mut self, queue: &Queue<Job>) {
        let mut group = Vec::new();
        while queue.take(GROUP_MAX, &mut group) {
            let verdicts = self.commit_or_roll_back(&group);
            let mut upkeep = Vec::new();
            let appends = group.drain(..).filter_map(|job| match job {
                Job::Append(append) => Some(append.ack),
                Job::Log(..) => None,
                Job::Upkeep(job) => {
                    upkeep.push(job);
                    None
                }
            });
            match verdicts {
                // Whoever appended may have stopped waiting: the record stands all the same.
                Ok(verdicts) => appends.zip(verdicts).for_each(|(ack, verdict)| drop(ack.send(verdict))),
                Err(error) => appends.for_each(|ack| drop(ack.send(Err(error.clone())))),
            }
            upkeep.into_iter().for_each(|job| self.keep_up(*job));
        }
    }

    fn keep_up(&mut self, job: Upkeep) {
        let broken = self.broken.clone().map(|cause| DeleteError::Refused(AppendError::Broken(cause)));
        let database = self.database.clone();
        let fault = |error| DeleteError::Refused(AppendError::Storage(database.fault(error)));
        match job {
            Upkeep::Delete(deletion, ack) => {
                let deleted = match broken {
                    None => self.delete(&deletion).map_err(fault).flatten(),
                    Some(error) => Err(error),
                };
                let _ = ack.send(deleted);
            }
            Upkeep::Tidy(ack) => {
                let tidied = match broken {
                    None => upkeep::tidy(&self.connection, self.database.path()).map_err(fault),
                    Some(error) => Err(error),
                };
                let _ = ack.send(tidied);
            }
        }
        // Keys of what is gone may be given to others.
        self.runs.clear();
        self.plans.clear();
    }

    fn delete(&mut self, deletion: &Deletion) -> rusqlite::Result<Result<Vec<Deleted>, DeleteError>> {
        let mut chain = self.chain;
        let deleted = upkeep::delete(&mut self.connection, deletion, self.position, &mut chain)?;
        if deleted.is_ok() {
            self.chain = chain;
        }
        Ok(deleted)
    }

    fn commit_or_roll_back(&mut self, group: &[Job]) -> Result<Vec<Verdict>, AppendError> {
        if let Some(cause) = &self.broken {
            return Err(AppendError::Broken(cause.clone()));
        }
        let gaps = self.gaps.take();
        self.commit(group, &gaps).map_err(|error| {
            let cause = self.database.fault(error);
            self.gaps.put_back(gaps);
            for job in group {
                if let Job::Log(run, lines) = job {
                    self.gaps.note(run, lines);
                }
            }
            // What was noted while the group was written is not true any more.
            self.runs.clear();
            self.plans.clear();
            // After some errors SQLite has rolled back by itself.
            let rolled_back = self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
            if !rolled_back || !cause.is_passing() {
                self.broken = Some(cause.clone());
            }
            AppendError::Storage(cause)
        })
    }

    /// Everything of the group in one transaction. Returns when it is on the disk.
    fn commit(&mut self, group: &[Job], gaps: &HashMap<RunId, Gap>) -> rusqlite::Result<Vec<Verdict>> {
        if self.runs.len() > RUNS_KNOWN_MAX {
            self.runs.clear();
        }
        if self.plans.len() > PLANS_KNOWN_MAX {
            self.plans.clear();
        }
        let horizon = Horizon { event: self.position, line: self.line, ..Horizon::default() };
        let mut reached = Reached { horizon, chain: self.chain, is_kept: true };
        // The chain is kept with the last row: mostly that of the last append.
        let last = group.iter().rposition(|job| matches!(job, Job::Append(append) if !append.rows.is_empty()));
        let mut verdicts = Vec::with_capacity(group.len());
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        for (index, job) in group.iter().enumerate() {
            match job {
                Job::Append(append) => verdicts.push(self.append(append, Some(index) == last, &mut reached)?),
                Job::Log(run, lines) => self.log(run, lines, &mut reached.horizon)?,
                Job::Upkeep(_) => {}
            }
        }
        for (run, gap) in gaps {
            self.log(run, &[gap.line()], &mut reached.horizon)?;
        }
        if !reached.is_kept {
            // The last append was refused.
            self.connection
                .prepare_cached("UPDATE append SET chain = ?2 WHERE position = ?1")?
                .execute((signed(reached.horizon.event.0), reached.chain))?;
        }
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        let Reached { horizon: reached, chain, .. } = reached;
        (self.position, self.line, self.chain) = (reached.event, reached.line, chain);
        self.horizon.send_if_modified(|horizon| horizon.advance(reached));
        Ok(verdicts)
    }

    /// `is_last` in its group: the chain is kept with it.
    fn append(&mut self, append: &Append, is_last: bool, reached: &mut Reached) -> rusqlite::Result<Verdict> {
        let run = &append.run;
        let known = self.known(run)?;
        let Known { key, mut version, mut hash } = match (&append.start, known) {
            (Start::At(expected), Some(known)) if known.version == *expected => known,
            (Start::At(expected), Some(known)) => {
                return Ok(Err(AppendError::conflict(run, *expected, known.version)));
            }
            (Start::At(_), None) => return Ok(Err(AppendError::NoSuchRun(run.clone()))),
            (Start::New { .. }, Some(known)) => return Ok(Err(AppendError::conflict(run, 0, known.version))),
            (Start::New { plan, plan_json, workflow, created, lines }, None) => {
                let plan = self.plan_key(plan, plan_json)?;
                self.connection
                    .prepare_cached("INSERT INTO run (id, plan, workflow, created) VALUES (?1, ?2, ?3, ?4)")?
                    .execute((&*run.0, plan, workflow, signed(created.0)))?;
                let key = self.connection.last_insert_rowid();
                self.lines(key, lines, &mut reached.horizon)?;
                Known { key, version: 0, hash: chain::of_run_id(run) }
            }
        };
        for (index, row) in append.rows.iter().enumerate() {
            let seq = signed(version + 1);
            version += row.records;
            reached.horizon.event.0 += row.records;
            let (position, records, at) = (signed(reached.horizon.event.0), signed(row.records), row.at);
            hash = chain::of_row(&hash, Place { position, seq, records, at }, row.body());
            reached.chain = chain::link(&reached.chain, position, &hash);
            reached.is_kept = is_last && index + 1 == append.rows.len();
            let kept = reached.is_kept.then_some(reached.chain);
            self.connection
                .prepare_cached(
                    "INSERT INTO append (position, run, seq, records, at, hash, chain, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute((position, key, seq, records, at, hash, kept, row))?;
        }
        for RequestId(id) in &append.answers {
            self.connection
                .prepare_cached("DELETE FROM request WHERE id = ?1 AND run = ?2")?
                .execute((signed(*id), key))?;
        }
        if let Some((outcome, finished)) = append.end {
            self.connection.prepare_cached("UPDATE run SET outcome = ?2, finished = ?3 WHERE key = ?1")?.execute((
                key,
                outcome_word(outcome),
                signed(finished.0),
            ))?;
            // Nothing can be asked of a run that has ended.
            self.connection.prepare_cached("DELETE FROM request WHERE run = ?1")?.execute([key])?;
            self.runs.remove(run);
        } else if let Some(known) = self.runs.get_mut(run) {
            (known.version, known.hash) = (version, hash);
        } else {
            self.runs.insert(run.clone(), Known { key, version, hash });
        }
        Ok(Ok(version))
    }

    fn log(&mut self, run: &RunId, lines: &[LogLine], reached: &mut Horizon) -> rusqlite::Result<()> {
        // Lines of a run that was never created belong to nobody.
        let Some(Known { key, .. }) = self.known(run)? else { return Ok(()) };
        self.lines(key, lines, reached)
    }

    fn lines(&self, key: i64, lines: &[LogLine], reached: &mut Horizon) -> rusqlite::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO line (position, run, step, attempt, at, level, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for line in lines {
            reached.line += 1;
            let (at, level) = (signed(line.at.0), level_number(line.level));
            insert.execute((signed(reached.line), key, line.step.0, line.attempt, at, level, &line.message))?;
        }
        Ok(())
    }

    fn known(&mut self, run: &RunId) -> rusqlite::Result<Option<Known>> {
        if let Some(known) = self.runs.get(run) {
            return Ok(Some(*known));
        }
        let found = self
            .connection
            .prepare_cached(
                "SELECT run.key, seq + records - 1, hash FROM run JOIN append ON append.run = run.key
                 WHERE id = ?1 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row([&*run.0], |row| {
                let hash = chain::stored(row, 2)?.unwrap_or([0; 32]);
                Ok(Known { key: row.get(0)?, version: unsigned(row.get(1)?), hash })
            })
            .optional()?;
        if let Some(known) = found {
            self.runs.insert(run.clone(), known);
        }
        Ok(found)
    }

    fn plan_key(&mut self, digest: &Digest, text: &str) -> rusqlite::Result<i64> {
        if let Some(key) = self.plans.get(digest) {
            return Ok(*key);
        }
        let found = self
            .connection
            .prepare_cached("SELECT key FROM plan WHERE digest = ?1")?
            .query_row([digest.as_str()], |row| row.get(0))
            .optional()?;
        let key = match found {
            Some(key) => key,
            None => self
                .connection
                .prepare_cached("INSERT INTO plan (digest, text) VALUES (?1, ?2)")?
                .insert((digest.as_str(), text))?,
        };
        self.plans.insert(digest.clone(), key);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use downbeat_workflow::event::{Event, Record};
    use downbeat_workflow::json::Json;
    use downbeat_workflow::plan::StepId;

    use super::*;
    use crate::record::encode;
    use crate::schema::{MIGRATIONS, migrate};
    use downbeat_workflow::log::Level;

    /// A writer whose connection is `broken_by` a statement, and a connection beside it to look through.
    struct Bench {
        writer: Writer,
        beside: Connection,
        _dir: tempfile::TempDir,
    }

    fn bench(broken_by: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::File::create(&path).unwrap();
        let database = Database::at(&path).with_busy_timeout(Duration::from_millis(20));
        let mut connection = database.open_to_write().unwrap();
        database.prepare_writer(&connection).unwrap();
        migrate(&database, &mut connection, MIGRATIONS).unwrap();
        connection.execute_batch(broken_by).unwrap();
        let beside = database.open_to_write().unwrap();
        let horizon = Arc::new(watch::Sender::new(Horizon::default()));
        Bench { writer: Writer::start(database, connection, horizon).unwrap(), beside, _dir: dir }
    }

    fn run() -> RunId {
        RunId(Arc::from("r1"))
    }

    fn row(bytes: usize) -> Vec<Row> {
        rows(&[bytes])
    }

    /// Of records that are so long.
    fn rows(bytes: &[usize]) -> Vec<Row> {
        let record = |bytes: &usize| {
            let output = Json::from(serde_json::Value::String("x".repeat(*bytes)));
            let event = Event::AttemptSucceeded { step: StepId(0), attempt: 1, output, usage: Default::default() };
            Record { at: Timestamp(1), event }
        };
        encode(&bytes.iter().map(record).collect::<Vec<_>>())
    }

    fn line(message: &str) -> LogLine {
        let (step, attempt, at) = (StepId(0), 1, Timestamp(1));
        LogLine { step, attempt, at, level: Level::Info, message: message.to_owned() }
    }

    impl Bench {
        fn append(&self, start: Start, rows: Vec<Row>) -> Verdict {
            let (ack, answer) = oneshot::channel();
            self.writer.append(Append { run: run(), start, rows, end: None, answers: Vec::new(), ack });
            answer.blocking_recv().unwrap_or(Err(AppendError::Stopped))
        }

        fn create(&self) -> Verdict {
            let plan = Digest::of(b"plan");
            let (plan_json, workflow) = (Arc::from("plan"), "hello".to_owned());
            self.append(Start::New { plan, plan_json, workflow, created: Timestamp(1), lines: Vec::new() }, row(8))
        }

        fn count(&self, table: &str) -> i64 {
            self.beside.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
        }
    }

    /// The words of a refusal.
    fn refusal(verdict: Verdict) -> String {
        verdict.expect_err("it was refused").to_string()
    }

    #[test]
    fn a_full_disk_refuses_the_append_keeps_what_was_acknowledged_and_is_passing() {
        // Room for the tables and a little more.
        let bench = bench("PRAGMA max_page_count = 20");
        assert_eq!(bench.create(), Ok(1));
        let said = refusal(bench.append(Start::At(1), rows(&[8, 1_000_000])));
        assert!(
            said.contains("there is no space left for") && said.contains("Nothing that was acknowledged"),
            "{said}"
        );
        assert_eq!(bench.count("append"), 1);
        assert_eq!(bench.append(Start::At(1), row(8)), Ok(2), "what still fits is taken");
    }

    #[test]
    fn a_locked_file_refuses_the_append_and_is_passing() {
        let bench = bench("");
        assert_eq!(bench.create(), Ok(1));
        bench.beside.execute_batch("BEGIN IMMEDIATE").unwrap();
        let said = refusal(bench.append(Start::At(1), row(8)));
        assert!(said.contains("has been locked by another program"), "{said}");
        bench.beside.execute_batch("COMMIT").unwrap();
        assert_eq!(bench.append(Start::At(1), row(8)), Ok(2));
    }

    #[test]
    fn a_file_that_became_read_only_refuses_the_append() {
        let bench = bench("PRAGMA query_only = on");
        let said = refusal(bench.create());
        assert!(said.contains("can't be written: check the permissions"), "{said}");
        assert_eq!(bench.count("run"), 0);
    }

    #[test]
    fn after_an_error_that_should_not_happen_nothing_more_is_taken() {
        let bench = bench("");
        assert_eq!(bench.create(), Ok(1));
        bench
            .beside
            .execute_batch("CREATE TRIGGER broken BEFORE INSERT ON append BEGIN SELECT raise(abort, 'bad sector'); END")
            .unwrap();
        let said = refusal(bench.append(Start::At(1), row(8)));
        assert!(said.contains("failed (bad sector)"), "{said}");
        bench.beside.execute_batch("DROP TRIGGER broken").unwrap();
        let said = refusal(bench.append(Start::At(1), row(8)));
        assert!(said.starts_with("the journal takes nothing more since an earlier error"), "{said}");
        assert_eq!(bench.count("append"), 1);
    }

    #[test]
    fn log_lines_that_found_no_room_leave_a_line_that_counts_them() {
        let bench = bench("");
        assert_eq!(bench.create(), Ok(1));
        // More than the queue's whole bound, so that it never fits.
        let many = vec![line(&"x".repeat(1024 * 1024)); 9];
        bench.writer.log(&run(), many.clone());
        bench.writer.log(&run(), many);
        assert_eq!(bench.append(Start::At(1), vec![]), Ok(1));
        let message: String = bench.beside.query_row("SELECT message FROM line", (), |row| row.get(0)).unwrap();
        assert_eq!(message, "18 lines of this run's log are missing here: the disk could not take them");
    }

    #[test]
    fn log_lines_of_a_refused_group_leave_a_line_that_counts_them() {
        let bench = bench("");
        assert_eq!(bench.create(), Ok(1));
        bench.beside.execute_batch("BEGIN IMMEDIATE").unwrap();
        bench.writer.log(&run(), vec![line("a"), line("b")]);
        refusal(bench.append(Start::At(1), row(8)));
        bench.beside.execute_batch("COMMIT").unwrap();
        assert_eq!(bench.append(Start::At(1), row(8)), Ok(2));
        let message: String = bench.beside.query_row("SELECT message FROM line", (), |row| row.get(0)).unwrap();
        assert!(message.starts_with("2 lines of this run's log are missing"), "{message}");
    }

    #[test]
    fn whoever_appends_after_the_writer_has_gone_is_told() {
        let bench = bench("");
        bench.writer.queue.abandon();
        assert_eq!(bench.create(), Err(AppendError::Stopped));
    }
}
