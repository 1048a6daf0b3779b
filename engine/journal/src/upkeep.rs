//! Deleting runs, and giving their room back to the disk.
//!
//! Only runs that are over are deleted, by the process that drives: it alone has the writer, so that nobody appends to what
//! is being deleted. A run goes in one transaction with the note that it was there; plans and empty pages are seen to
//! afterwards, and by whoever tidies up next if the process dies in between. Positions are not given out again.
//!
//! Room goes back by writing the file anew (`VACUUM`), and only when it is worth it. SQLite's `auto_vacuum` would give it
//! back bit by bit, for a map of all pages that every commit which grows the file has to write to.

use std::collections::HashSet;
use std::path::Path;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Outcome, RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::chain::{self, Hash};
use crate::reader::{Query, ReadError, digest_of};
use crate::record::outcome_of_word;
use crate::storage::{signed, unsigned};
use crate::{AppendError, Position};

/// Runs that are deleted at once at most. One transaction holds up what is appended meanwhile, and waits for the disk once:
/// a few hundred are some tens of milliseconds.
pub const RUNS_DELETED_MAX: usize = 256;

/// The file is written anew when at least one of so many of its pages is empty, and their room is at least
/// [`EMPTY_BYTES_MIN`]. Empty pages are used again by the next runs, so that less is not worth the copy.
const EMPTY_SHARE: u64 = 4;

/// 1 MiB: writing a smaller file anew gains nothing that anybody would look for.
const EMPTY_BYTES_MIN: u64 = 1 << 20;

/// Runs to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Which: each is over. At most [`RUNS_DELETED_MAX`] keep an append from waiting long.
    pub runs: Vec<RunId>,
    /// When.
    pub at: Timestamp,
    /// Who wants it.
    pub by: String,
}

/// A run that was deleted: all that is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its id.
    pub run: RunId,
    /// Of the plan that it kept.
    pub plan: Digest,
    /// The workflow's name.
    pub workflow: String,
    /// When it was created.
    pub created: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub finished: Timestamp,
    /// How many records it had.
    pub records: u64,
    /// How many lines its log had.
    pub lines: u64,
    /// When it was deleted.
    pub at: Timestamp,
    /// Who wanted it.
    pub by: String,
}

/// What tidying up did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Plans that no run kept any more.
    pub plans: u64,
    /// The database's size before and after, in bytes; in memory both are 0.
    pub bytes_before: u64,
    /// After.
    pub bytes_after: u64,
    /// Bytes of empty pages in it, which the next runs use.
    pub bytes_empty: u64,
    /// Why the file was not written anew although much of it is empty, in SQLite's words.
    pub not_compacted: Option<String>,
}

/// Why runs were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no such run.
    #[error("the journal has no run {0}")]
    NoSuchRun(RunId),
    /// Somebody may still go on with it.
    #[error("run {0} is not over")]
    NotOver(RunId),
    /// As for an append.
    #[error(transparent)]
    Refused(AppendError),
}

/// Deletes all of the runs or none. `chain` is the journal's, which has come to `position`, and goes on with the notes.
pub(crate) fn delete(
    connection: &mut Connection,
    deletion: &Deletion,
    position: Position,
    chain: &mut Hash,
) -> rusqlite::Result<Result<Vec<Deleted>, DeleteError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE reached SET event = max(event, (SELECT coalesce(max(position), 0) FROM append)),
                            line = max(line, (SELECT coalesce(max(position), 0) FROM line))",
        (),
    )?;
    let mut deleted = Vec::with_capacity(deletion.runs.len());
    for run in &deletion.runs {
        let found = transaction
            .prepare_cached(
                "SELECT run.key, digest, workflow, created, outcome, finished,
                        (SELECT max(seq + records - 1) FROM append WHERE run = run.key),
                        (SELECT count(*) FROM line WHERE run = run.key)
                 FROM run JOIN plan ON plan.key = run.plan WHERE id = ?1",
            )?
            .query_row([&*run.0], |row| {
                let end = row.get::<_, Option<String>>(4)?.zip(row.get::<_, Option<i64>>(5)?);
                let summary = (row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(6)?, row.get(7)?);
                Ok((row.get::<_, i64>(0)?, end, summary))
            })
            .optional()?;
        let Some((key, end, summary)) = found else { return Ok(Err(DeleteError::NoSuchRun(run.clone()))) };
        let Some((word, finished)) = end else { return Ok(Err(DeleteError::NotOver(run.clone()))) };
        let (digest, workflow, created, records, lines): (_, String, i64, i64, i64) = summary;
        transaction
            .prepare_cached(
                "INSERT INTO deleted (run, plan, workflow, created, outcome, finished, records, lines, at, by, after)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                &*run.0,
                &digest,
                &workflow,
                created,
                &word,
                finished,
                records,
                lines,
                signed(deletion.at.0),
                &deletion.by,
                signed(position.0),
            ))?;
        let note = transaction.last_insert_rowid();
        transaction
            .prepare_cached(
                "INSERT INTO removed (position, deleted, records, hash)
                 SELECT position, ?2, records, hash FROM append WHERE run = ?1",
            )?
            .execute((key, note))?;
        *chain = chain::link(chain, signed(position.0), &chain::of_deletion(&transaction, note)?);
        transaction.prepare_cached("UPDATE deleted SET chain = ?2 WHERE key = ?1")?.execute((note, *chain))?;
        for table in ["append", "line", "request"] {
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE run = ?1"))?.execute([key])?;
        }
        transaction.prepare_cached("DELETE FROM run WHERE key = ?1")?.execute([key])?;
        deleted.push(Deleted {
            run: run.clone(),
            plan: digest_of(&digest).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?,
            workflow,
            created: Timestamp(unsigned(created)),
            outcome: outcome_of_word(&word).expect("only words for outcomes are written"),
            finished: Timestamp(unsigned(finished)),
            records: unsigned(records),
            lines: unsigned(lines),
            at: deletion.at,
            by: deletion.by.clone(),
        });
    }
    transaction.commit()?;
    Ok(Ok(deleted))
}

/// Removes plans that no run keeps and gives empty pages back, if they are many.
pub(crate) fn tidy(connection: &Connection, path: &Path) -> rusqlite::Result<Tidied> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(unsigned);
    // The write-ahead log is part of what the file takes: emptied, so that before and after tell of the same.
    let settle = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    let on_disk = || std::fs::metadata(path).map_or(0, |file| file.len());
    let plans = connection.execute("DELETE FROM plan WHERE key NOT IN (SELECT plan FROM run)", ())? as u64;
    settle()?;
    let (page, pages, empty) = (number("page_size")?, number("page_count")?, number("freelist_count")?);
    let mut tidied =
        Tidied { plans, bytes_before: on_disk(), bytes_after: 0, bytes_empty: page * empty, not_compacted: None };
    if empty * EMPTY_SHARE >= pages && page * empty >= EMPTY_BYTES_MIN {
        // A disk without room for the copy loses nothing: the pages stay for the next runs.
        match connection.execute_batch("VACUUM") {
            Ok(()) => {
                settle()?;
                tidied.bytes_empty = page * number("freelist_count")?;
            }
            Err(error) => tidied.not_compacted = Some(error.to_string()),
        }
    }
    tidied.bytes_after = on_disk();
    Ok(tidied)
}

impl Query<'_> {
    /// The runs that were deleted, the last of them first.
    pub(crate) fn deleted(&self, limit: usize) -> Result<Vec<Deleted>, ReadError> {
        let mut statement = self.prepare(
            "SELECT run, plan, workflow, created, outcome, finished, records, lines, at, by
             FROM deleted ORDER BY key DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([signed(limit as u64)]).map_err(|e| self.fault(e))?;
        let mut deleted = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            let run = RunId(self.get(row, 0)?);
            let word: String = self.get(row, 4)?;
            let time = |column| self.get(row, column).map(|at| Timestamp(unsigned(at)));
            deleted.push(Deleted {
                plan: digest_of(&self.get::<String>(row, 1)?)?,
                workflow: self.get(row, 2)?,
                created: time(3)?,
                outcome: outcome_of_word(&word).ok_or_else(|| ReadError::Unreadable {
                    what: format!("the note of run {run}, which was deleted,"),
                    reason: format!("unknown outcome `{word}`"),
                })?,
                finished: time(5)?,
                records: unsigned(self.get(row, 6)?),
                lines: unsigned(self.get(row, 7)?),
                at: time(8)?,
                by: self.get(row, 9)?,
                run,
            });
        }
        Ok(deleted)
    }

    /// Gives `each` all texts but those of some runs.
    pub(crate) fn texts(&self, but: &HashSet<RunId>, each: &mut dyn FnMut(&str)) -> Result<(), ReadError> {
        const TEXTS: [&str; 4] = [
            "SELECT run.id, text FROM run JOIN plan ON plan.key = run.plan",
            "SELECT run.id, body FROM append JOIN run ON run.key = append.run ORDER BY position",
            "SELECT run.id, message FROM line JOIN run ON run.key = line.run ORDER BY position",
            "SELECT run.id, body FROM request JOIN run ON run.key = request.run",
        ];
        for texts in TEXTS {
            let mut statement = self.prepare(texts)?;
            let mut rows = statement.query(()).map_err(|e| self.fault(e))?;
            while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
                let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
                let run = text(0).map_err(|e| self.fault(e))?;
                if but.is_empty() || !but.contains(&RunId(run.into())) {
                    each(text(1).map_err(|e| self.fault(e))?);
                }
            }
        }
        Ok(())
    }
}
