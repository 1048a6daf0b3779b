//! The tables, and how a file of an earlier version becomes one of this version.
//!
//! The layout was decided by measurement: `append` is an append-only table in the order of the rowid, with a unique index
//! for reading a run's records; the same rows clustered by run take in a third as many a second. A run's row carries what a
//! list of runs shows and an index is needed for; everything else is read from its events.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

use crate::chain;
use crate::storage::{Database, StorageError};

/// "DOWN", in the header of every journal: another program's database is never taken for one.
pub(crate) const APPLICATION_ID: i32 = 0x444F_574E;

/// The whole history. Step n makes version n + 1 of version n; steps are only ever added at the end.
pub(crate) const MIGRATIONS: &[Migration] = &[sql("
    -- Which program gave the file its present schema. One row; its shape never changes, so that any version can read it.
    CREATE TABLE journal (written_by TEXT NOT NULL) STRICT;
    INSERT INTO journal VALUES ('');

    -- Plans by digest, each once, however many runs keep it.
    CREATE TABLE plan (
        key     INTEGER PRIMARY KEY,
        digest  TEXT NOT NULL UNIQUE,
        text    TEXT NOT NULL
    ) STRICT;

    -- outcome and finished repeat what the run's last event says, written in the same transaction.
    CREATE TABLE run (
        key       INTEGER PRIMARY KEY,
        id        TEXT NOT NULL UNIQUE,
        plan      INTEGER NOT NULL REFERENCES plan (key),
        workflow  TEXT NOT NULL,
        created   INTEGER NOT NULL,  -- milliseconds since the Unix epoch, like every time here
        outcome   TEXT,              -- NULL until the run has finished
        finished  INTEGER
    ) STRICT;
    CREATE INDEX run_open ON run (key) WHERE outcome IS NULL;

    -- The log. Never updated, never deleted from, so that positions only grow.
    CREATE TABLE event (
        position  INTEGER PRIMARY KEY,
        run       INTEGER NOT NULL REFERENCES run (key),
        seq       INTEGER NOT NULL,  -- from 1; a run's version is its highest
        at        INTEGER NOT NULL,
        body      TEXT NOT NULL      -- the event as JSON
    ) STRICT;
    CREATE UNIQUE INDEX event_of_run ON event (run, seq);

    -- What attempts said.
    CREATE TABLE line (
        position  INTEGER PRIMARY KEY,
        run       INTEGER NOT NULL REFERENCES run (key),
        step      INTEGER NOT NULL,
        attempt   INTEGER NOT NULL,
        at        INTEGER NOT NULL,
        level     INTEGER NOT NULL,  -- 0 trace, 1 debug, 2 info, 3 warn, 4 error
        message   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX line_of_run ON line (run);

    -- What other processes ask of the driver. AUTOINCREMENT: an id is never used twice, so that answering one can't
    -- delete another.
    CREATE TABLE request (
        id    INTEGER PRIMARY KEY AUTOINCREMENT,
        run   INTEGER NOT NULL REFERENCES run (key),
        body  TEXT NOT NULL          -- the request as JSON
    ) STRICT;
    CREATE INDEX request_of_run ON request (run);
"), sql("
    -- Mostly one row an append, instead of one an event: a commit costs by the row. Never updated, never deleted from.
    CREATE TABLE append (
        position  INTEGER PRIMARY KEY,  -- of its last record; records are counted over all runs
        run       INTEGER NOT NULL REFERENCES run (key),
        seq       INTEGER NOT NULL,     -- of its first record within the run, from 1
        records   INTEGER NOT NULL,     -- how many it has: a run's version is its last seq + records - 1
        at        INTEGER NOT NULL,     -- of its last record
        body      TEXT NOT NULL         -- [[at, event], …] as JSON
    ) STRICT;
    INSERT INTO append
        SELECT position, run, seq, 1, at, '[[' || at || ',' || body || ']]' FROM event ORDER BY position;
    DROP TABLE event;
    CREATE UNIQUE INDEX append_of_run ON append (run, seq);
"), sql("
    -- Runs that were deleted: that they were there, and who wanted them gone. Nothing else is left of them.
    CREATE TABLE deleted (
        key       INTEGER PRIMARY KEY,
        run       TEXT NOT NULL,
        plan      TEXT NOT NULL,        -- its digest
        workflow  TEXT NOT NULL,
        created   INTEGER NOT NULL,
        outcome   TEXT NOT NULL,
        finished  INTEGER NOT NULL,
        records   INTEGER NOT NULL,     -- how many it had
        lines     INTEGER NOT NULL,     -- of its log
        at        INTEGER NOT NULL,     -- when it was deleted
        by        TEXT NOT NULL
    ) STRICT;

    -- How far positions had come when runs were deleted last: they only grow, and the last ones may be gone. One row.
    CREATE TABLE reached (event INTEGER NOT NULL, line INTEGER NOT NULL) STRICT;
    INSERT INTO reached VALUES (0, 0);
"), Migration { sql: "
    -- Chained by hash (chain.rs): each row to the one before it of its run, and all of them in their order. Nothing of a
    -- row is changed after it was written, and the hashes stand before the text, which may fill pages of its own.
    DROP INDEX append_of_run;
    ALTER TABLE append RENAME TO unchained;
    CREATE TABLE append (
        position  INTEGER PRIMARY KEY,  -- of its last record; records are counted over all runs
        run       INTEGER NOT NULL REFERENCES run (key),
        seq       INTEGER NOT NULL,     -- of its first record within the run, from 1
        records   INTEGER NOT NULL,     -- how many it has: a run's version is its last seq + records - 1
        at        INTEGER NOT NULL,     -- of its last record
        hash      BLOB NOT NULL,        -- over the row and the hash of the one before it of its run
        chain     BLOB,                 -- over the hashes of all rows up to here; with the last row of each commit
        body      TEXT NOT NULL         -- [[at, event], …] as JSON
    ) STRICT;
    ALTER TABLE deleted ADD COLUMN after INTEGER NOT NULL DEFAULT 0;  -- the last position when it was deleted
    ALTER TABLE deleted ADD COLUMN chain BLOB NOT NULL DEFAULT x'';   -- as a row's, with the note itself

    -- What is left of the rows of deleted runs: what the chain needs.
    CREATE TABLE removed (
        position  INTEGER PRIMARY KEY,
        deleted   INTEGER NOT NULL REFERENCES deleted (key),
        records   INTEGER NOT NULL,
        hash      BLOB NOT NULL
    ) STRICT;
    CREATE INDEX removed_of_run ON removed (deleted);

    -- What the chain begins with: which journal it is, and how far the rows went that were there before it. One row.
    CREATE TABLE ledger (id BLOB NOT NULL, since INTEGER NOT NULL) STRICT;
    INSERT INTO ledger SELECT randomblob(32), coalesce(max(position), 0) FROM unchained;
", then: |connection| {
    chain::take_in(connection)?;
    connection.execute_batch("DROP TABLE unchained; CREATE UNIQUE INDEX append_of_run ON append (run, seq)")
} }];

/// A step from one version to the next.
pub(crate) struct Migration {
    sql: &'static str,
    /// What SQL can't do, afterwards and in the same transaction.
    then: fn(&Connection) -> rusqlite::Result<()>,
}

/// A step that is all SQL.
const fn sql(sql: &'static str) -> Migration {
    Migration { sql, then: |_| Ok(()) }
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An empty database, not yet a journal.
    Empty,
    /// A journal of this version; at least 1.
    Version(usize),
}

/// Why a file's schema can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It belongs to another program.
    #[error(
        "{} is another program's database (application id {application_id:#010x}): choose another state directory",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What its header says; 0 if nothing.
        application_id: i32,
    },
    /// A later version of Downbeat wrote it.
    #[error(
        "{} was written by Downbeat {written_by} (schema {found}); this is {}, which knows schemas up to {known}. Use that \
         version or a later one; the file was not touched",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        found: usize,
        /// The last version known here.
        known: usize,
        /// The version of the program, or `of an unknown version`.
        written_by: String,
    },
    /// An earlier version wrote it, and this process may only read.
    #[error(
        "{} has schema {found} of an earlier Downbeat, and reading needs {known}: it is brought up to date the next time \
         this version drives runs there",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        found: usize,
        /// The version that is needed.
        known: usize,
    },
    /// It could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Tells what the file is, without changing it.
pub(crate) fn inspect(database: &Database, connection: &Connection) -> Result<Found, SchemaError> {
    let fault = |e| database.fault(e);
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fault)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fault)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(fault)?;
    if application_id == 0 && version == 0 && tables == 0 {
        return Ok(Found::Empty);
    }
    match usize::try_from(version) {
        Ok(version @ 1..) if application_id == APPLICATION_ID => Ok(Found::Version(version)),
        _ => Err(SchemaError::Foreign { path: database.path().to_path_buf(), application_id }),
    }
}

/// Refuses a file of a later version.
pub(crate) fn refuse_newer(
    database: &Database,
    connection: &Connection,
    found: Found,
    known: usize,
) -> Result<(), SchemaError> {
    match found {
        Found::Version(found) if found > known => {
            let written_by = connection
                .query_row("SELECT written_by FROM journal", (), |row| row.get(0))
                .optional()
                .ok()
                .flatten()
                .unwrap_or_else(|| "of an unknown version".to_owned());
            Err(SchemaError::Newer { path: database.path().to_path_buf(), found, known, written_by })
        }
        _ => Ok(()),
    }
}

/// Brings the file to the version that `migrations` ends with: all of the missing steps or none.
pub(crate) fn migrate(
    database: &Database,
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<(), SchemaError> {
    let found = inspect(database, connection)?;
    refuse_newer(database, connection, found, migrations.len())?;
    let version = match found {
        Found::Empty => 0,
        Found::Version(version) => version,
    };
    if version == migrations.len() {
        return Ok(());
    }
    let mut apply = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        for step in &migrations[version..] {
            transaction.execute_batch(step.sql)?;
            (step.then)(&transaction)?;
        }
        transaction.execute("UPDATE journal SET written_by = ?1", [env!("CARGO_PKG_VERSION")])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
        transaction.commit()
    };
    apply().map_err(|e| database.fault(e).into())
}

/// Something that a file consists of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thing {
    /// `table`, `index`, `trigger`, `view`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) table: String,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// All that a file consists of, each with its SQL, which those have not that come with a table.
pub(crate) fn of(connection: &Connection) -> rusqlite::Result<BTreeMap<Thing, Option<String>>> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let text = |row: &Row<'_>, at: usize| -> rusqlite::Result<Option<String>> {
        let bytes = row.get_ref(at)?.as_bytes_or_null().ok().flatten();
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    };
    let thing = |row: &Row<'_>| -> rusqlite::Result<(Thing, Option<String>)> {
        let part = |at| -> rusqlite::Result<String> { Ok(text(row, at)?.unwrap_or_default()) };
        Ok((Thing { kind: part(0)?, name: part(1)?, table: part(2)? }, text(row, 3)?))
    };
    statement.query_map((), thing)?.collect()
}

/// The same of a journal that is made now.
pub(crate) fn of_new() -> rusqlite::Result<BTreeMap<Thing, Option<String>>> {
    let connection = Connection::open_in_memory()?;
    for step in MIGRATIONS {
        connection.execute_batch(step.sql)?;
        (step.then)(&connection)?;
    }
    of(&connection)
}

#[cfg(test)]
mod tests {
    use downbeat_workflow::description::Digest;
    use downbeat_workflow::event::{Event, Record, RunId, Timestamp};
    use downbeat_workflow::plan::StepId;

    use super::*;
    use crate::{Append, Journal, Mode, Position};

    const FIRST: Migration = sql("CREATE TABLE journal (written_by TEXT); INSERT INTO journal VALUES ('')");

    fn file() -> (tempfile::TempDir, Database, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::File::create(&path).unwrap();
        let database = Database::at(&path);
        let connection = database.open_to_write().unwrap();
        (dir, database, connection)
    }

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn an_empty_file_becomes_a_journal_of_the_present_version() {
        let (_dir, database, mut connection) = file();
        assert_eq!(inspect(&database, &connection).unwrap(), Found::Empty);
        migrate(&database, &mut connection, MIGRATIONS).unwrap();
        assert_eq!(inspect(&database, &connection).unwrap(), Found::Version(MIGRATIONS.len()));
        assert_eq!(
            tables(&connection),
            [
                "append",
                "deleted",
                "journal",
                "ledger",
                "line",
                "plan",
                "reached",
                "removed",
                "request",
                "run",
                "sqlite_sequence"
            ]
        );
        migrate(&database, &mut connection, MIGRATIONS).expect("a file of the present version is left as it is");
    }

    #[test]
    fn only_the_missing_steps_are_applied() {
        let (_dir, database, mut connection) = file();
        migrate(&database, &mut connection, &[FIRST]).unwrap();
        migrate(&database, &mut connection, &[FIRST, sql("CREATE TABLE a (x)"), sql("ALTER TABLE a RENAME TO b")])
            .unwrap();
        assert_eq!(tables(&connection), ["b", "journal"]);
        assert_eq!(inspect(&database, &connection).unwrap(), Found::Version(3));
    }

    #[test]
    fn records_of_the_first_version_are_kept_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::File::create(&path).unwrap();
        let database = Database::at(&path);
        let mut connection = database.open_to_write().unwrap();
        migrate(&database, &mut connection, &MIGRATIONS[..1]).unwrap();
        let digest = Digest::of(b"plan");
        let insert = format!(
            r#"INSERT INTO plan VALUES (1, '{digest}', 'plan'); INSERT INTO run VALUES (1, 'r1', 1, 'w', 7, NULL, NULL);
               INSERT INTO event VALUES (1, 1, 1, 8, '{{"attempt-started":{{"step":0,"attempt":1}}}}');
               INSERT INTO event VALUES (2, 1, 2, 9, '{{"step-cancelled":{{"step":1}}}}');"#
        );
        connection.execute_batch(&insert).unwrap();
        drop(connection);
        let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
        let run = RunId("r1".into());
        let kept = [
            Record { at: Timestamp(8), event: Event::AttemptStarted { step: StepId(0), attempt: 1 } },
            Record { at: Timestamp(9), event: Event::StepCancelled { step: StepId(1) } },
        ];
        assert_eq!(journal.load(&run).unwrap().records, kept);
        let next = Append { run: run.clone(), expected: 2, records: kept[1..].to_vec(), answers: Vec::new() };
        assert_eq!(journal.append(next).wait(), Ok(3));
        let positions = journal.tail(Position(0), 9).unwrap().into_iter().map(|entry| entry.position.0);
        assert_eq!(positions.collect::<Vec<_>>(), [1, 2, 3]);
        // Their first event is none that a run begins with; all else is chained.
        let verified = journal.verify(None).unwrap();
        assert_eq!((verified.records, verified.since), (3, Position(2)));
        let kinds: Vec<_> = verified.differences.iter().map(|difference| difference.kind.word()).collect();
        assert_eq!(kinds, ["listed"]);
        drop(journal);
        connection_to(&path).execute("UPDATE append SET at = at + 1 WHERE position = 1", ()).unwrap();
        let verified = Journal::open(dir.path(), Mode::Observe).unwrap().verify(None).unwrap();
        assert_eq!(verified.differences[0].kind.word(), "changed", "{verified:?}");
    }

    fn connection_to(path: &std::path::Path) -> Connection {
        Connection::open(path).unwrap()
    }

    #[test]
    fn a_failing_step_leaves_the_file_as_it_was() {
        let (_dir, database, mut connection) = file();
        migrate(&database, &mut connection, &[FIRST]).unwrap();
        let error =
            migrate(&database, &mut connection, &[FIRST, sql("CREATE TABLE a (x)"), sql("no SQL")]).unwrap_err();
        assert!(error.to_string().contains("syntax error"), "{error}");
        assert_eq!(tables(&connection), ["journal"]);
        assert_eq!(inspect(&database, &connection).unwrap(), Found::Version(1));
    }

    #[test]
    fn a_newer_schema_is_refused_naming_who_wrote_it() {
        let (_dir, database, mut connection) = file();
        migrate(&database, &mut connection, &[FIRST, sql("UPDATE journal SET written_by = ''")]).unwrap();
        connection.execute("UPDATE journal SET written_by = '7.1.0'", ()).unwrap();
        let error = migrate(&database, &mut connection, &[FIRST]).unwrap_err().to_string();
        assert!(error.contains("was written by Downbeat 7.1.0 (schema 2)"), "{error}");
        assert!(error.contains("knows schemas up to 1"), "{error}");
    }

    #[test]
    fn another_programs_database_is_refused() {
        let (_dir, database, mut connection) = file();
        connection.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
        let error = migrate(&database, &mut connection, MIGRATIONS).unwrap_err().to_string();
        assert!(error.contains("is another program's database"), "{error}");
        assert_eq!(tables(&connection), ["recipes"]);
    }
}
