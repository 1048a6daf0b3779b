//! Reading: a few connections of their own, which neither wait for the writer nor hold it up, and every query that the
//! journal answers.
//!
//! A query sees one state of the file, whatever is committed meanwhile. Nothing here writes.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Outcome, Record, RunId, Timestamp};
use downbeat_workflow::plan::StepId;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::log::{LogFilter, LogLine, level_of_number};
use crate::record::{decode, outcome_of_word, outcome_word};
use crate::storage::{Database, StorageError, signed, unsigned};
use crate::{Entry, Horizon, Position};

/// Connections kept for the next reader. More may be open at a time; opening one takes about 0.2 ms.
const IDLE_MAX: usize = 4;

/// Candidates that an ambiguous name is answered with at most.
const CANDIDATES_MAX: usize = 10;

/// A run as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Of the plan that it keeps.
    pub plan: Digest,
    /// The workflow's name.
    pub workflow: String,
    /// When it was created.
    pub created: Timestamp,
    /// How it ended; `None` while it has not.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How many records it has.
    pub version: u64,
    /// When the last of them happened.
    pub last_event: Timestamp,
}

/// Which runs are wanted; by default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// In which state.
    pub state: StateFilter,
    /// Only of the workflow of this name.
    pub workflow: Option<String>,
    /// The newest so many.
    pub limit: Option<usize>,
}

/// In which state wanted runs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFilter {
    /// In any.
    #[default]
    Any,
    /// Not ended.
    Open,
    /// Ended, in any way.
    Ended,
    /// Ended in this way.
    EndedAs(Outcome),
}

/// A run's records and the plan that it keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Of the plan; its text is in [`crate::Journal::plan`].
    pub plan: Digest,
    /// All of them, oldest first.
    pub records: Vec<Record>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such run.
    #[error("the journal has no run {0}")]
    NoSuchRun(RunId),
    /// No run's id begins or ends like this.
    #[error("no run's id begins or ends with `{0}`")]
    NoMatch(String),
    /// Several runs' ids do.
    #[error("several runs' ids begin or end with `{text}`: {}", list(candidates))]
    Ambiguous {
        /// What was looked for.
        text: String,
        /// The newest of them, at most ten.
        candidates: Vec<RunId>,
    },
    /// There is no such plan.
    #[error("the journal has no plan {0}")]
    NoSuchPlan(Digest),
    /// A row's text is not what this version writes.
    #[error("{what} can't be read ({reason}): it was written by a later version, or the file was changed from outside")]
    Unreadable {
        /// Which row.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn list(ids: &[RunId]) -> String {
    ids.iter().map(|id| &*id.0).collect::<Vec<_>>().join(", ")
}

/// The reading connections.
pub(crate) struct Readers {
    database: Database,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(database: Database) -> Readers {
        Readers { database, idle: Mutex::new(Vec::new()) }
    }

    /// Runs `query` with a connection of its own.
    pub(crate) fn with<T>(&self, query: impl FnOnce(&Query<'_>) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.database.open_to_read()?,
        };
        let result = query(&Query { database: &self.database, connection: &connection });
        // One that failed at the file is not used again.
        if !matches!(result, Err(ReadError::Storage(_))) {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        result
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a page still has room for. The last thing on it may be longer: there is no page without anything on it.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> ControlFlow<()> {
        self.0 = self.0.saturating_sub(bytes);
        if self.0 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A connection to ask.
pub(crate) struct Query<'c> {
    pub(crate) database: &'c Database,
    pub(crate) connection: &'c Connection,
}

impl Query<'_> {
    /// Gives `each` the run's records after version `after`, oldest first.
    pub(crate) fn replay(&self, run: &RunId, after: u64, mut each: impl FnMut(Record)) -> Result<Digest, ReadError> {
        self.records(run, after, |record, _| {
            each(record);
            ControlFlow::Continue(())
        })
    }

    /// The run's records after version `after`, oldest first, until their texts have `bytes` together.
    pub(crate) fn records_page(&self, run: &RunId, after: u64, bytes: usize) -> Result<Vec<Record>, ReadError> {
        let mut page = Vec::new();
        let mut room = Room(bytes);
        self.records(run, after, |record, length| {
            page.push(record);
            room.take(length)
        })?;
        Ok(page)
    }

    /// Gives `each` the run's records after version `after` with the length of their texts, oldest first, until it breaks.
    fn records(
        &self,
        run: &RunId,
        after: u64,
        mut each: impl FnMut(Record, usize) -> ControlFlow<()>,
    ) -> Result<Digest, ReadError> {
        let (key, plan) = self.run(run)?;
        // From the row that holds the first record wanted: records are numbered, rows begin with any number.
        let mut statement = self.prepare(
            "SELECT seq, body FROM append WHERE run = ?1 AND seq >=
                 (SELECT coalesce(max(seq), 1) FROM append WHERE run = ?1 AND seq <= ?2 + 1) ORDER BY seq",
        )?;
        let mut rows = statement.query((key, signed(after))).map_err(|e| self.fault(e))?;
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            let seq = unsigned(self.get(row, 0)?);
            let length = row.get_ref(1).ok().and_then(|body| body.as_bytes().ok().map(<[u8]>::len)).unwrap_or(0);
            let records = self.decoded(row, 1, || format!("of run {run} from {seq} on"))?;
            let (known, each_length) = ((after + 1).saturating_sub(seq) as usize, length / records.len().max(1));
            if records.into_iter().skip(known).try_for_each(|record| each(record, each_length)).is_break() {
                break;
            }
        }
        Ok(plan)
    }

    /// The text of a plan, held against its digest: what a run may do stands in it, and nothing of it is judged again.
    pub(crate) fn plan(&self, digest: &Digest) -> Result<String, ReadError> {
        let text: String = self
            .prepare("SELECT text FROM plan WHERE digest = ?1")?
            .query_row([digest.as_str()], |row| row.get(0))
            .optional()
            .map_err(|e| self.fault(e))?
            .ok_or_else(|| ReadError::NoSuchPlan(digest.clone()))?;
        match Digest::of(text.as_bytes()) {
            found if found == *digest => Ok(text),
            found => Err(ReadError::Unreadable {
                what: format!("plan {digest}"),
                reason: format!("the text of it has the digest {found}"),
            }),
        }
    }

    pub(crate) fn tail(&self, after: Position, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let mut statement = self.prepare(
            "SELECT run.id, position, body FROM append JOIN run ON run.key = append.run
             WHERE position > ?1 ORDER BY position LIMIT ?2",
        )?;
        let mut rows = statement.query((signed(after.0), signed(limit as u64))).map_err(|e| self.fault(e))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            let run = RunId(self.get(row, 0)?);
            let last = unsigned(self.get(row, 1)?);
            let records = self.decoded(row, 2, || format!("of run {run} up to position {last}"))?;
            let before = last.saturating_sub(records.len() as u64);
            let numbered = (before + 1..).map(Position).zip(records).filter(|(position, _)| *position > after);
            entries.extend(numbered.map(|(position, record)| Entry { position, run: run.clone(), record }));
            if entries.len() >= limit {
                break;
            }
        }
        entries.truncate(limit);
        Ok(entries)
    }

    pub(crate) fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, ReadError> {
        let (state, outcome) = match filter.state {
            StateFilter::Any => ("?2 IS NULL", None),
            // Word for word the condition of the index `run_open`: recovery does not look at what has ended.
            StateFilter::Open => ("outcome IS NULL AND ?2 IS NULL", None),
            StateFilter::Ended => ("outcome IS NOT NULL AND ?2 IS NULL", None),
            StateFilter::EndedAs(outcome) => ("outcome = ?2", Some(outcome_word(outcome))),
        };
        let condition = format!("(?1 IS NULL OR workflow = ?1) AND {state}");
        let limit = filter.limit.map_or(-1, |limit| signed(limit as u64));
        self.summaries(&condition, (&filter.workflow, outcome, limit))
    }

    pub(crate) fn summary(&self, run: &RunId) -> Result<RunSummary, ReadError> {
        let mut found = self.summaries("run.id = ?1 AND ?2 IS NULL", (&*run.0, None::<&str>, 1))?;
        found.pop().ok_or_else(|| ReadError::NoSuchRun(run.clone()))
    }

    /// The run whose id is `text`, or else the only one whose id begins or ends with it.
    pub(crate) fn find(&self, text: &str) -> Result<RunId, ReadError> {
        let mut statement = self.prepare(
            "SELECT id FROM run WHERE ?1 <> '' AND (substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1)
             ORDER BY id <> ?1, key DESC LIMIT ?2",
        )?;
        let rows = statement.query_map((text, CANDIDATES_MAX as i64), |row| row.get(0)).map_err(|e| self.fault(e))?;
        let ids: Result<Vec<_>, _> = rows.map(|id| id.map(RunId)).collect();
        choose(text, ids.map_err(|e| self.fault(e))?)
    }

    /// The lines of the run's log that `filter` lets through, oldest first, until their texts have `bytes` together.
    pub(crate) fn log(&self, run: &RunId, filter: LogFilter, bytes: usize) -> Result<Vec<(u64, LogLine)>, ReadError> {
        let (key, _) = self.run(run)?;
        let mut statement = self.prepare(
            "SELECT position, step, attempt, at, level, message FROM line
             WHERE run = ?1 AND position > ?2 AND (?3 IS NULL OR step = ?3) ORDER BY position",
        )?;
        let step = filter.step.map(|StepId(step)| step);
        let mut rows = statement.query((key, signed(filter.after), step)).map_err(|e| self.fault(e))?;
        let mut lines = Vec::new();
        let mut room = Room(bytes);
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            let position = unsigned(self.get(row, 0)?);
            let level = self.get(row, 4)?;
            let line = LogLine {
                step: StepId(self.get(row, 1)?),
                attempt: self.get(row, 2)?,
                at: Timestamp(unsigned(self.get(row, 3)?)),
                level: level_of_number(level).ok_or_else(|| ReadError::Unreadable {
                    what: format!("line {position} of run {run}'s log"),
                    reason: format!("unknown level {level}"),
                })?,
                message: self.get(row, 5)?,
            };
            let weight = line.weight();
            lines.push((position, line));
            if room.take(weight).is_break() {
                break;
            }
        }
        Ok(lines)
    }

    /// How far everything goes.
    pub(crate) fn horizon(&self) -> Result<Horizon, ReadError> {
        let mut statement = self.prepare(
            "SELECT max(event, (SELECT coalesce(max(position), 0) FROM append)),
                    max(line, (SELECT coalesce(max(position), 0) FROM line)),
                    (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'request')
             FROM reached",
        )?;
        let horizon = statement.query_row((), |row| {
            Ok(Horizon {
                event: Position(unsigned(row.get(0)?)),
                line: unsigned(row.get(1)?),
                request: unsigned(row.get(2)?),
            })
        });
        horizon.map_err(|e| self.fault(e))
    }

    fn run(&self, run: &RunId) -> Result<(i64, Digest), ReadError> {
        let found: Option<(i64, String)> = self
            .prepare("SELECT run.key, digest FROM run JOIN plan ON plan.key = run.plan WHERE id = ?1")?
            .query_row([&*run.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|e| self.fault(e))?;
        let (key, digest) = found.ok_or_else(|| ReadError::NoSuchRun(run.clone()))?;
        Ok((key, digest_of(&digest)?))
    }

    fn summaries(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<RunSummary>, ReadError> {
        let mut statement = self.prepare(&format!(
            "SELECT run.id, digest, workflow, created, outcome, finished, seq + records - 1, at
             FROM run JOIN plan ON plan.key = run.plan
             JOIN append ON append.run = run.key AND seq = (SELECT max(seq) FROM append WHERE run = run.key)
             WHERE {condition} ORDER BY run.key DESC LIMIT ?3"
        ))?;
        let mut rows = statement.query(values).map_err(|e| self.fault(e))?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            let id = RunId(self.get(row, 0)?);
            let outcome: Option<String> = self.get(row, 4)?;
            let outcome = outcome.map(|word| {
                outcome_of_word(&word).ok_or_else(|| ReadError::Unreadable {
                    what: format!("run {id}"),
                    reason: format!("unknown outcome `{word}`"),
                })
            });
            runs.push(RunSummary {
                plan: digest_of(&self.get::<String>(row, 1)?)?,
                workflow: self.get(row, 2)?,
                created: Timestamp(unsigned(self.get(row, 3)?)),
                outcome: outcome.transpose()?,
                finished: self.get::<Option<i64>>(row, 5)?.map(|at| Timestamp(unsigned(at))),
                version: unsigned(self.get(row, 6)?),
                last_event: Timestamp(unsigned(self.get(row, 7)?)),
                id,
            });
        }
        Ok(runs)
    }

    /// The records of the append whose body is in `column`. The text is parsed where SQLite holds it.
    fn decoded(&self, row: &Row<'_>, column: usize, which: impl Fn() -> String) -> Result<Vec<Record>, ReadError> {
        let body = row.get_ref(column).map_err(|e| self.fault(e))?;
        let unreadable = |reason: String| ReadError::Unreadable { what: format!("records {}", which()), reason };
        let body = body.as_str().map_err(|error| unreadable(error.to_string()))?;
        decode(body).map_err(|error| unreadable(error.to_string()))
    }

    pub(crate) fn get<T: rusqlite::types::FromSql>(&self, row: &Row<'_>, column: usize) -> Result<T, ReadError> {
        row.get(column).map_err(|e| self.fault(e))
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, ReadError> {
        self.connection.prepare_cached(sql).map_err(|e| self.fault(e))
    }

    pub(crate) fn fault(&self, error: rusqlite::Error) -> ReadError {
        ReadError::Storage(self.database.fault(error))
    }
}

pub(crate) fn digest_of(text: &str) -> Result<Digest, ReadError> {
    Digest::parse(text)
        .ok_or_else(|| ReadError::Unreadable { what: format!("plan `{text}`"), reason: "no digest".to_owned() })
}

/// Decides between ids that fit `text`: an exact one, if any, comes first.
pub(crate) fn choose(text: &str, mut ids: Vec<RunId>) -> Result<RunId, ReadError> {
    match ids.len() {
        0 => Err(ReadError::NoMatch(text.to_owned())),
        1 => Ok(ids.remove(0)),
        _ if &*ids[0].0 == text => Ok(ids.remove(0)),
        _ => {
            ids.truncate(CANDIDATES_MAX);
            Err(ReadError::Ambiguous { text: text.to_owned(), candidates: ids })
        }
    }
}
