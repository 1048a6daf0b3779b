//! Who holds a lock on the journal's file: a courtesy in the error message, so that a person need not search for the
//! program that forgot a transaction.
//!
//! The system's list of locks is read, and nothing is opened: closing a file ends all locks that this process has on it,
//! SQLite's among them. Only Linux has such a list; elsewhere, and where it shows nothing, nobody is named.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its program, where that can be seen.
    pub program: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "process {} ({program})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// The process, other than this one, that holds a writer's lock on the database or on the shared memory beside it.
pub(crate) fn of(database: &Path) -> Option<Holder> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut shared_memory = database.as_os_str().to_owned();
    shared_memory.push("-shm");
    let files = [database.as_os_str(), &shared_memory].map(|path| inode(Path::new(path)));
    let pid = find(&locks, files.into_iter().flatten(), std::process::id())?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned());
    Some(Holder { pid, program })
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file))
}

#[cfg(not(unix))]
fn inode(_: &Path) -> Option<u64> {
    None
}

/// The first process but `own` with a writer's lock on one of the files, by their inodes. That a file of another file
/// system with the same number is locked at this moment would name the wrong program; device numbers don't help, as some
/// file systems show others to `stat` than to their locks.
fn find(locks: &str, inodes: impl Iterator<Item = u64> + Clone, own: u32) -> Option<u32> {
    locks.lines().find_map(|line| {
        // 1: POSIX  ADVISORY  WRITE 4711 fe:01:131074 1073741824 1073742335
        let mut words = line.split_whitespace().skip(3);
        let (access, pid, file) = (words.next()?, words.next()?, words.next()?);
        let inode = file.rsplit(':').next()?.parse::<u64>().ok()?;
        let pid = pid.parse::<u32>().ok()?;
        (access == "WRITE" && pid != own && inodes.clone().any(|wanted| wanted == inode)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  READ 10 fe:01:131 128 128
2: POSIX  ADVISORY  WRITE 11 fe:01:131 120 120
2: -> POSIX  ADVISORY  WRITE 12 fe:01:131 120 120
3: FLOCK  ADVISORY  WRITE 13 fe:01:77 0 EOF
4: OFDLCK ADVISORY  WRITE -1 fe:01:78 0 EOF
";

    #[test]
    fn the_writer_that_holds_a_lock_on_one_of_the_files_is_found() {
        let holder = |inodes: &[u64], own| find(LOCKS, inodes.iter().copied(), own);
        assert_eq!(holder(&[130, 131], 1), Some(11), "who reads, and who waits, holds nobody up");
        assert_eq!(holder(&[131], 11), None, "this process does not hold itself up");
        assert_eq!(holder(&[78], 1), None, "a lock without an owner");
        assert_eq!(holder(&[5], 1), None);
    }

    #[test]
    fn a_holder_is_told_with_its_program_if_that_is_known() {
        let holder = |program: Option<&str>| Holder { pid: 7, program: program.map(str::to_owned) }.to_string();
        assert_eq!([holder(Some("sqlite3")), holder(None)], ["process 7 (sqlite3)", "process 7"]);
    }
}
