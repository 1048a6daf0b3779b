//! The journal on disk: a state directory with `journal.db` (and SQLite's `-wal` and `-shm` beside it) and
//! `driver.lock`.
//!
//! Opening is the only thing that happens here: what the directory must look like, who may write, and in which order
//! everything is closed again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use downbeat_workflow::event::RunId;
use tokio::sync::watch;

use crate::lock::{self, Driver, DriverLock, Refused};
use crate::reader::{ReadError, Readers};
use crate::schema::{self, Found, MIGRATIONS, SchemaError};
use crate::storage::{Database, StorageError};
use crate::watcher::Watcher;
use crate::writer::Writer;
use crate::{Horizon, Mode};

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no journal in {}: nothing has been run with this state directory yet", dir.display())]
    Missing {
        /// The state directory.
        dir: PathBuf,
    },
    /// Another process drives the runs of this directory.
    #[error(
        "another process{} drives the runs in {}: stop it, wait for it, or choose another state directory. Looking at \
         runs and asking for their end work meanwhile",
        pid.map(|pid| format!(" ({pid})")).unwrap_or_default(),
        dir.display()
    )]
    Driven {
        /// The state directory.
        dir: PathBuf,
        /// The other process, unless it has only just begun.
        pid: Option<u32>,
    },
    /// The directory could not be made.
    #[error("the state directory {} can't be made ({source}): check the permissions, or choose another one", dir.display())]
    Directory {
        /// The state directory.
        dir: PathBuf,
        /// In the system's words.
        source: io::Error,
    },
    /// The tables are not ones that this version works with.
    #[error(transparent)]
    Schema(SchemaError),
    /// The file.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<SchemaError> for OpenError {
    fn from(error: SchemaError) -> OpenError {
        match error {
            SchemaError::Storage(error) => OpenError::Storage(error),
            error => OpenError::Schema(error),
        }
    }
}

/// An open state directory. The fields are closed in this order: SQLite empties its write-ahead log into the database
/// when the last connection closes, which has to be the writer's; the lock outlives everything that it protects.
pub(crate) struct Sqlite {
    pub(crate) readers: Readers,
    watcher: Mutex<Option<Watcher>>,
    /// `None` in a process that observes.
    pub(crate) writer: Option<Writer>,
    lock: Option<DriverLock>,
    pub(crate) database: Database,
    pub(crate) horizon: Arc<watch::Sender<Horizon>>,
}

impl Sqlite {
    pub(crate) fn open(dir: &Path, mode: Mode) -> Result<Sqlite, OpenError> {
        let dir = std::path::absolute(dir).map_err(|source| OpenError::Directory { dir: dir.to_path_buf(), source })?;
        match mode {
            Mode::Drive => Sqlite::drive(&dir),
            Mode::Observe => Sqlite::observe(&dir),
        }
    }

    fn drive(dir: &Path) -> Result<Sqlite, OpenError> {
        make_directory(dir).map_err(|source| OpenError::Directory { dir: dir.to_path_buf(), source })?;
        let lock_path = dir.join("driver.lock");
        let lock = DriverLock::take(&lock_path).map_err(|refused| match refused {
            Refused::Held(pid) => OpenError::Driven { dir: dir.to_path_buf(), pid },
            Refused::System(error) => Database::system_fault(&lock_path, &error).into(),
        })?;
        let path = dir.join("journal.db");
        make_file(dir, &path).map_err(|error| Database::system_fault(&path, &error))?;

        let database = Database::at(&path);
        let mut connection = database.open_to_write()?;
        // Before anything is set up: another program's or a later version's file is not touched.
        let found = schema::inspect(&database, &connection)?;
        schema::refuse_newer(&database, &connection, found, MIGRATIONS.len())?;
        database.prepare_writer(&connection)?;
        schema::migrate(&database, &mut connection, MIGRATIONS)?;

        let horizon = Arc::new(watch::Sender::new(Horizon::default()));
        let writer = Writer::start(database.clone(), connection, horizon.clone())?;
        Ok(Sqlite::assemble(database, Some(writer), Some(lock), horizon))
    }

    fn observe(dir: &Path) -> Result<Sqlite, OpenError> {
        let missing = || OpenError::Missing { dir: dir.to_path_buf() };
        let path = dir.join("journal.db");
        if !path.try_exists().map_err(|error| Database::system_fault(&path, &error))? {
            return Err(missing());
        }
        let database = Database::at(&path);
        let mut connection = database.open_to_read()?;
        let found = match schema::inspect(&database, &connection) {
            // Whoever made the file died over it, and what it left half-written can be rolled back only by one that may
            // write. SQLite takes care that it is nobody's who is still there.
            Err(SchemaError::Storage(StorageError::ReadOnly { .. })) => {
                connection = database.open_to_write()?;
                schema::inspect(&database, &connection)?
            }
            found => found?,
        };
        schema::refuse_newer(&database, &connection, found, MIGRATIONS.len())?;
        match found {
            Found::Empty => return Err(missing()),
            Found::Version(found) if found < MIGRATIONS.len() => {
                return Err(SchemaError::Older { path, found, known: MIGRATIONS.len() }.into());
            }
            Found::Version(_) => {}
        }
        let horizon = Arc::new(watch::Sender::new(Horizon::default()));
        Ok(Sqlite::assemble(database, None, None, horizon))
    }

    fn assemble(
        database: Database,
        writer: Option<Writer>,
        lock: Option<DriverLock>,
        horizon: Arc<watch::Sender<Horizon>>,
    ) -> Sqlite {
        let readers = Readers::new(database.clone());
        Sqlite { readers, watcher: Mutex::new(None), writer, lock, database, horizon }
    }

    /// Tells other processes that this one drives the run.
    pub(crate) fn announce(&self, run: &RunId) {
        if let Some(lock) = &self.lock {
            // A courtesy to people who look; a disk that refuses it will say so at the next append.
            let _ = lock.announce(run);
        }
    }

    /// How far everything goes, kept up to date from the first call on.
    pub(crate) fn horizon(&self) -> Result<watch::Receiver<Horizon>, ReadError> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_none() {
            *watcher = Some(Watcher::start(self.database.clone(), self.horizon.clone())?);
        }
        Ok(self.horizon.subscribe())
    }
}

/// The process that drives the runs of the state directory `dir` right now.
pub(crate) fn driver(dir: &Path) -> Result<Option<Driver>, StorageError> {
    let path = dir.join("driver.lock");
    lock::holder(&path).map_err(|error| Database::system_fault(&path, &error))
}

/// Makes the directory and those above it, for this user alone.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    match dir.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes an empty file for this user alone, unless there is one: SQLite gives its other files the same permissions.
fn make_file(dir: &Path, path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_directory(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A new name is durable once its directory is. Elsewhere than on Unix a directory can't be synced and need not be.
fn sync_directory(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
