//! The file under the journal: how connections to it are opened and set up, and what can go wrong with it, said once in
//! words for whoever runs the engine.
//!
//! Apart from the tables on purpose: nothing here knows what is in the file. Settings and bounds of SQLite live here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::holder::{self, Holder};

/// How long a connection waits for a lock that another program holds. A request or a short look by another tool is over
/// in milliseconds; what lasts five seconds is a transaction that somebody forgot.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// 16 KiB: a commit of a group fills whole pages, and an attempt's record of a few KiB stays on one.
/// Measured at 100 rows of 1 KiB a transaction: 232,000 rows/s, against 104,000 with 4 KiB.
const PAGE_SIZE: u32 = 16 * 1024;

/// Pages in the write-ahead log before they are moved into the database: 16 MiB. The log is then overwritten from its
/// start, which costs a sync a fraction of what growing the file does (12,300 against 250 a second on ext4), so larger
/// is not better: ten times as many pages mean ten times as many slow commits before the first reuse.
const CHECKPOINT_PAGES: u32 = 1000;

/// The write-ahead log keeps its size below this, and is cut back to it after a long reader made it grow beyond. It is
/// not grown in advance: writing 16 MiB takes 20 to 40 ms, about what the first 500 commits lose by growing it, and a
/// short run would only pay.
const WAL_BYTES_KEPT: u64 = 64 * 1024 * 1024;

/// Page cache of the writing connection: the right edge of the log and of its index for some thousand runs at once.
const WRITER_CACHE_KIB: u32 = 16 * 1024;

/// Page cache of each reading connection. Runs that were driven together lie together in the log, so that loading one
/// after the other reads the same pages again.
const READER_CACHE_KIB: u32 = 16 * 1024;

/// What went wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No space is left. A used-up quota, or a limit on the size of files, that SQLite runs into while it writes is
    /// [`StorageError::Failed`]: it reports both as any other I/O error.
    #[error(
        "there is no space left for {}: free some and try again. Nothing that was acknowledged is lost",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file, its directory or its file system does not allow writing.
    #[error(
        "{} can't be written: check the permissions of the file and of its directory, and that the file system is not \
         mounted read-only",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be opened.
    #[error(
        "{} can't be opened ({detail}): check that it is a file, and that this user may read it and write to its directory",
        path.display()
    )]
    Closed {
        /// The file.
        path: PathBuf,
        /// In SQLite's or the system's words.
        detail: String,
    },
    /// Another program holds a lock for longer than [`BUSY_TIMEOUT`].
    #[error(
        "{} has been locked by {} for {} s: end that program's transaction (a database browser, a backup) and try again",
        path.display(),
        holder.as_ref().map_or("another program".to_owned(), ToString::to_string),
        BUSY_TIMEOUT.as_secs()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who that is, where the system tells.
        holder: Option<Holder>,
    },
    /// The file is not what SQLite wrote.
    #[error(
        "{} is damaged ({detail}): put back a copy, or save what is readable with `sqlite3 {0} .recover`",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// In SQLite's words.
        detail: String,
    },
    /// The file is no SQLite database at all.
    #[error("{} is not a journal: it is no SQLite database. Choose another state directory", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// Reading, writing or syncing failed, or something that should not happen.
    #[error(
        "{} failed ({detail}): check the disk, quotas, limits on the size of files and the system's log",
        path.display()
    )]
    Failed {
        /// The file.
        path: PathBuf,
        /// In SQLite's or the system's words.
        detail: String,
    },
}

impl StorageError {
    /// Whether the same write may succeed later without anything being opened again: SQLite rolled it back and its file
    /// is as before. After a failed write or sync that is not known (the system may have dropped the dirty pages).
    pub fn is_passing(&self) -> bool {
        matches!(self, StorageError::Full { .. } | StorageError::Locked { .. } | StorageError::ReadOnly { .. })
    }
}

/// The database file, by its absolute path.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    path: Arc<Path>,
    busy_timeout: Duration,
}

impl Database {
    pub(crate) fn at(path: &Path) -> Database {
        Database { path: Arc::from(path), busy_timeout: BUSY_TIMEOUT }
    }

    #[cfg(test)]
    pub(crate) fn with_busy_timeout(self, busy_timeout: Duration) -> Database {
        Database { busy_timeout, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that may write, without the settings of [`Database::prepare_writer`].
    pub(crate) fn open_to_write(&self) -> Result<Connection, StorageError> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // SQLite falls back to reading when the file is write-protected; say so now, not at the first append.
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(|e| self.fault(e))? {
            return Err(StorageError::ReadOnly { path: self.path.to_path_buf() });
        }
        Ok(connection)
    }

    /// A connection that reads; it never blocks the writer.
    pub(crate) fn open_to_read(&self) -> Result<Connection, StorageError> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let cache = connection.pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB));
        cache.map_err(|e| self.fault(e))?;
        Ok(connection)
    }

    fn open(&self, access: OpenFlags) -> Result<Connection, StorageError> {
        let setup = || {
            // Each connection is used by one thread at a time, so SQLite needs no mutex of its own.
            let connection = Connection::open_with_flags(&*self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(self.busy_timeout)?;
            connection.set_prepared_statement_cache_capacity(32);
            // Plans are made once, not for every value that is bound: a sixth of the time of loading short runs.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            // References are kept by the writer, which looks every run up anyway; checking them again costs a search a row.
            connection.pragma_update(None, "foreign_keys", false)?;
            Ok(connection)
        };
        setup().map_err(|e| self.fault(e))
    }

    /// Makes `connection` the durable writer: write-ahead log, a full sync at every commit.
    pub(crate) fn prepare_writer(&self, connection: &Connection) -> Result<(), StorageError> {
        let setup = || -> rusqlite::Result<String> {
            // Takes effect only while the database is empty.
            connection.pragma_update(None, "page_size", PAGE_SIZE)?;
            let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT as i64)?;
            connection.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
            Ok(mode)
        };
        match setup().map_err(|e| self.fault(e))?.as_str() {
            "wal" => Ok(()),
            mode => Err(StorageError::Failed {
                path: self.path.to_path_buf(),
                detail: format!(
                    "it stays in journal mode `{mode}` where `wal` was asked for; is it on a network file system?"
                ),
            }),
        }
    }

    /// The words for what SQLite reported.
    pub(crate) fn fault(&self, error: rusqlite::Error) -> StorageError {
        let path = self.path.to_path_buf();
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StorageError::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StorageError::ReadOnly { path },
            Some(ErrorCode::CannotOpen) => StorageError::Closed { path, detail },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StorageError::Locked { holder: holder::of(&path), path }
            }
            Some(ErrorCode::DatabaseCorrupt) => StorageError::Corrupt { path, detail },
            Some(ErrorCode::NotADatabase) => StorageError::NotADatabase { path },
            _ => StorageError::Failed { path, detail },
        }
    }

    /// The words for what the system reported about the file or its directory.
    pub(crate) fn system_fault(path: &Path, error: &std::io::Error) -> StorageError {
        use std::io::ErrorKind;
        let path = path.to_path_buf();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StorageError::ReadOnly { path },
            _ => StorageError::Closed { path, detail: error.to_string() },
        }
    }
}

/// Into SQLite's integers. Times, counts and lengths stay far below 2^63; what does not is held at its end.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Out of SQLite's integers. Only [`signed`] wrote them.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_syncs_every_commit_to_a_write_ahead_log_that_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::File::create(&path).unwrap();
        let database = Database::at(&path);
        let connection = database.open_to_write().unwrap();
        database.prepare_writer(&connection).unwrap();
        let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        const FULL: i64 = 2;
        assert_eq!((mode.as_str(), number("synchronous")), ("wal", FULL));
        assert_eq!((number("page_size"), number("wal_autocheckpoint")), (16_384, 1000));
        assert_eq!((number("foreign_keys"), number("journal_size_limit")), (0, 64 << 20));
    }

    #[test]
    fn numbers_beyond_sqlites_are_held_at_its_end() {
        assert_eq!([0, 7, u64::MAX].map(|n| unsigned(signed(n))), [0, 7, i64::MAX as u64]);
    }
}
