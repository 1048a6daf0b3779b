//! One process drives the runs of a state directory: the exclusive lock on `driver.lock`, with the holder's process id
//! in it for whoever comes second.
//!
//! The lock is the system's (`flock`, `LockFileEx`): it ends with the process, however that dies, so there is no stale
//! lock to break. It guards who decides; SQLite's own locks guard the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held as long as this lives.
#[derive(Debug)]
pub(crate) struct DriverLock {
    _file: File,
}

/// Why the lock was not to be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// By this process, unless it had not yet written its id.
    Held(Option<u32>),
    /// The file could not be opened, locked or written.
    System(std::io::Error),
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The pid is a courtesy: where it can't be read, the refusal stands without it.
                let _ = file.read_to_string(&mut text);
                return Err(Refused::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(Refused::System(error)),
        }
        let mut sign = || {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign().map_err(Refused::System)?;
        Ok(DriverLock { _file: file })
    }
}
