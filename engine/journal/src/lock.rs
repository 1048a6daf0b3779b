//! One process drives the runs of a state directory: the exclusive lock on `driver.lock`, with the holder's process id
//! in it for whoever comes second.
//!
//! The lock is the system's (`flock`, `LockFileEx`): it ends with the process, however that dies, so there is no stale
//! lock to break. It guards who decides; SQLite's own locks guard the file.
//!
//! On Unix a process that is being started shares what its maker has open until it executes its program, and so keeps the
//! lock for a moment that its maker held. Who lets go therefore gives the lock back for all of them, and of one who died
//! the moment is waited for.

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

/// How often it is tried where the process is gone that signed it: what that process was starting has it, until it executes
/// its program or ends. A busy machine takes some ten milliseconds for that. It may also be held in another container,
/// whose processes have no numbers here.
const TRIES_OF_GHOST: u32 = 500;

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
        if let Some(holder) = tried(&mut file, TRIES, File::try_lock).map_err(Refused::System)? {
            // The pid is a courtesy: where it can't be read, the refusal stands without it.
            return Err(Refused::Held(holder.pid));
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

impl Drop for DriverLock {
    fn drop(&mut self) {
        // An error means that it is gone.
        self.file.get_mut().unwrap_or_else(PoisonError::into_inner).unlock().ok();
    }
}

/// Who holds the lock. Takes it for a moment, shared, to find out; [`DriverLock::take`] outlasts that.
pub(crate) fn holder(path: &Path) -> io::Result<Option<Driver>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    tried(&mut file, 1, File::try_lock_shared)
}

/// Tries to take the lock so often, and longer where whoever signed it is gone. Who holds it, if it is not to be had.
fn tried(file: &mut File, tries: u32, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<Driver>> {
    let mut tried = 0;
    loop {
        match lock(file) {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => tried += 1,
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let holder = signature(file);
        let tries = if holder.pid.is_some_and(is_gone) { TRIES_OF_GHOST } else { tries };
        if tried >= tries {
            return Ok(Some(holder));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether no process of this machine has this number, where that can be told by a file.
fn is_gone(pid: u32) -> bool {
    cfg!(target_os = "linux") && !Path::new("/proc").join(pid.to_string()).exists()
}

/// What the holder wrote: its process id, then the runs that it drives, one a line.
fn signature(file: &mut File) -> Driver {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
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

    #[test]
    fn what_was_being_started_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("driver.lock");
        let lock = DriverLock::take(&path).unwrap();
        // As a process has it between its making and its program.
        let shared = lock.file.lock().unwrap().try_clone().unwrap();
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        drop(shared);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn whoever_started_something_and_died_is_waited_for_and_whoever_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("driver.lock");
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        for (pid, expected) in [(dead.id(), TRIES_OF_GHOST), (std::process::id(), 1)] {
            std::fs::write(&path, format!("{pid}\n")).unwrap();
            let tries = std::cell::Cell::new(0);
            let never = |_: &File| {
                tries.set(tries.get() + 1);
                Err(TryLockError::WouldBlock)
            };
            let found = tried(&mut File::open(&path).unwrap(), 1, never).unwrap();
            assert_eq!((found.unwrap().pid, tries.get()), (Some(pid), expected));
        }
    }
}
