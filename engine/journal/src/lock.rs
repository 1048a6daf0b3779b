//! One process drives the runs of a state directory: the exclusive lock on `driver.lock`, with the holder's process id
//! in it for whoever comes second.
//!
//! The lock is the system's (`flock`, `LockFileEx`): it ends with the process, however that dies, so there is no stale
//! lock to break. It guards who decides; SQLite's own locks guard the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use downbeat_workflow::event::RunId;

/// How often the lock is tried before it counts as held, and the pause between two tries. Somebody who only looks
/// ([`holder`]) has it for some ten microseconds; ten milliseconds outlast a dozen of them, and nobody notices.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// Held as long as this lives.
#[derive(Debug)]
pub(crate) struct DriverLock {
    file: Mutex<File>,
}

/// Why the lock was not to be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// By this process, unless it had not yet written its id.
    Held(Option<u32>),
    /// The file could not be opened, locked or written.
    System(io::Error),
}

/// The process that drives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its id, unless it has only just begun.
    pub pid: Option<u32>,
    /// The runs that it has announced, oldest first. Some of them may be over.
    pub runs: Vec<RunId>,
}

impl DriverLock {
    /// Takes the lock at once or not at all.
    pub(crate) fn take(path: &Path) -> Result<DriverLock, Refused> {
        let mut options = OpenOptions::new();
        // Not truncated: until the lock is held, what stands in the file is the holder's.
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(Refused::System)?;
        let mut tries = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES => std::thread::sleep(PAUSE),
                // The pid is a courtesy: where it can't be read, the refusal stands without it.
                Err(TryLockError::WouldBlock) => return Err(Refused::Held(signature(&mut file).pid)),
                Err(TryLockError::Error(error)) => return Err(Refused::System(error)),
            }
            tries += 1;
        }
        let mut sign = || {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign().map_err(Refused::System)?;
        Ok(DriverLock { file: Mutex::new(file) })
    }

    /// Adds a run to those that this process says it drives.
    pub(crate) fn announce(&self, run: &RunId) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::End(0))?;
        // In one piece, so that nobody reads half of it.
        file.write_all(format!("{run}\n").as_bytes())
    }
}

/// Who holds the lock. Takes it for a moment, shared, to find out; [`DriverLock::take`] outlasts that.
pub(crate) fn holder(path: &Path) -> io::Result<Option<Driver>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(signature(&mut file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What the holder wrote: its process id, then the runs that it drives, one a line.
fn signature(file: &mut File) -> Driver {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.trim().parse().ok());
    Driver { pid, runs: lines.map(|line| RunId(line.into())).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_learns_who_drives_what_and_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("driver.lock");
        assert_eq!(holder(&path).unwrap(), None);
        let lock = DriverLock::take(&path).unwrap();
        let own = std::process::id();
        assert_eq!(holder(&path).unwrap(), Some(Driver { pid: Some(own), runs: Vec::new() }));
        lock.announce(&RunId("abc".into())).unwrap();
        lock.announce(&RunId("def".into())).unwrap();
        let runs = vec![RunId("abc".into()), RunId("def".into())];
        assert_eq!(holder(&path).unwrap(), Some(Driver { pid: Some(own), runs }));
        assert!(matches!(DriverLock::take(&path), Err(Refused::Held(Some(pid))) if pid == own));
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None, "what it wrote outlives it, but means nothing then");
        assert!(DriverLock::take(&path).is_ok());
    }

    #[test]
    fn somebody_who_looks_at_the_wrong_moment_does_not_turn_a_driver_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("driver.lock");
        drop(DriverLock::take(&path).unwrap());
        let looking = File::open(&path).unwrap();
        looking.try_lock_shared().unwrap();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| DriverLock::take(&path));
            drop(looking);
            assert!(taken.join().unwrap().is_ok());
        });
    }
}
