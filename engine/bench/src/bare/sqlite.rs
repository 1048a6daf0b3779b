//! Bare SQLite: rows into a table and an index like the journal's, with its settings (write-ahead log, a full sync at
//! every commit) and nothing around them: no queue, no encoding, nobody who waits for an answer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::Connection;

/// A database of its own.
pub(crate) struct Sqlite {
    connection: Connection,
    /// Rows so far.
    rows: i64,
}

/// Where rows go: as many runs at a time and rows a run as the journal gets in the same figure, so that the index grows in
/// the same places.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) runs: i64,
    pub(crate) rows_per_run: i64,
}

impl Sqlite {
    /// Makes the database in a folder.
    pub(crate) fn create(folder: &Path) -> Result<Sqlite> {
        let connection = Connection::open(folder.join("bare.db")).context("bare SQLite can't make its file")?;
        connection.execute_batch(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
             PRAGMA wal_autocheckpoint = 1000; PRAGMA cache_size = -16384;
             CREATE TABLE append (position INTEGER PRIMARY KEY, run INTEGER NOT NULL, seq INTEGER NOT NULL,
                                  records INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
             CREATE UNIQUE INDEX append_of_run ON append (run, seq);",
        )?;
        Ok(Sqlite { connection, rows: 0 })
    }

    /// Inserts rows of so many bytes, so many a transaction; gives how long each transaction took.
    pub(crate) fn insert(
        &mut self,
        transactions: usize,
        rows: usize,
        bytes: usize,
        spread: Spread,
    ) -> Result<Vec<Duration>> {
        let body = "x".repeat(bytes);
        let mut insert =
            self.connection.prepare("INSERT INTO append (run, seq, records, at, body) VALUES (?1, ?2, 2, ?3, ?4)")?;
        let mut durations = Vec::with_capacity(transactions);
        for _ in 0..transactions {
            let started = Instant::now();
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
            for _ in 0..rows {
                let Spread { runs, rows_per_run } = spread;
                let run = self.rows / (runs * rows_per_run) * runs + self.rows % runs;
                insert.execute((run, self.rows, self.rows, &body))?;
                self.rows += 1;
            }
            self.connection.prepare_cached("COMMIT")?.execute(())?;
            durations.push(started.elapsed());
        }
        Ok(durations)
    }
}
