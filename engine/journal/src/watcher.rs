//! Learning what other processes wrote: a thread that asks SQLite every few milliseconds whether the file changed.
//!
//! SQLite can't tell one process of another's commit, but it answers "has anybody else committed?" from shared memory in
//! a few microseconds. Started when somebody first wants to know; the driving process learns of its own commits sooner,
//! from its writer.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::Horizon;
use crate::reader::{Query, ReadError};
use crate::storage::Database;

/// Between two looks at the file. A person who cancels a run does not notice; a look costs about 5 µs, so watching takes
/// a five-thousandth of a core.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(25);

/// The handle of the thread; dropping it ends the thread at once.
pub(crate) struct Watcher {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Looks once, then starts the thread. Everything found goes to `horizon`.
    pub(crate) fn start(database: Database, horizon: Arc<watch::Sender<Horizon>>) -> Result<Watcher, ReadError> {
        let connection = database.open_to_read()?;
        // The version before the look: a commit between the two is then seen twice rather than not at all.
        let version = data_version(&connection).map_err(|e| database.fault(e))?;
        look(&database, &connection, &horizon)?;
        let (stop, stopped) = mpsc::channel();
        let path = database.path().to_path_buf();
        let thread = std::thread::Builder::new()
            .name("journal-watcher".to_owned())
            .spawn(move || watch(&database, &connection, &horizon, &stopped, version))
            .map_err(|error| Database::system_fault(&path, &error))?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    database: &Database,
    connection: &Connection,
    horizon: &watch::Sender<Horizon>,
    stopped: &mpsc::Receiver<()>,
    mut seen: i64,
) {
    while stopped.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // What fails now (a lock, a full disk) is tried again at the next look; whoever reads gets the error itself.
        let Ok(version) = data_version(connection) else { continue };
        if version != seen && look(database, connection, horizon).is_ok() {
            seen = version;
        }
    }
}

fn look(database: &Database, connection: &Connection, horizon: &watch::Sender<Horizon>) -> Result<(), ReadError> {
    let reached = Query { database, connection }.horizon()?;
    horizon.send_if_modified(|horizon| horizon.advance(reached));
    Ok(())
}

/// A number that changes when another connection has committed.
fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))
}
