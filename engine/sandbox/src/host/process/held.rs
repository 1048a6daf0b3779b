//! A program that is granted by its digest. It is opened once: what was looked at is what is started, whatever lies at its path by
//! then.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use downbeat_workflow::description::Digest;
use rustix::io::FdFlags;
use sha2::{Digest as _, Sha256};

/// Read at a time, in bytes: programs may be larger than what there is of memory.
const CHUNK: usize = 256 << 10;

/// A program's file, as it was found.
pub(super) struct Held {
    file: File,
    path: PathBuf,
    found: State,
}

/// What is another one once somebody has written to the file: its size, and when it was written and changed.
type State = (u64, (i64, i64), (i64, i64));

impl Held {
    /// Opens a program, and reads what it holds.
    pub(super) fn open(path: &Path) -> io::Result<(Held, Digest)> {
        // A pipe does not keep whoever opens it waiting.
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let found = state(&file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let (mut chunk, mut hash) = (vec![0; CHUNK], Sha256::new());
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        let digest = Digest::from_sha256(hash.finalize().into());
        Ok((Held { file, path: path.to_owned(), found }, digest))
    }

    /// What it is started by: the open file itself, where the system has a name for that.
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        match cfg!(target_os = "linux") {
            true => format!("/proc/self/fd/{}", self.file.as_raw_fd()).into(),
            false => self.path.clone(),
        }
    }

    /// Leaves it open to what is started, in the child: an interpreter reads a script by the same name. It makes a system call only.
    pub(super) fn leave_open(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.file, FdFlags::empty())?)
    }

    /// Whether nobody has written to it since it was opened. Of a program that runs the system keeps everybody from that.
    pub(super) fn is_as_found(&self) -> io::Result<bool> {
        Ok(state(&self.file)? == self.found)
    }
}

fn state(file: &File) -> io::Result<State> {
    let found = file.metadata()?;
    Ok((found.size(), (found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_was_looked_at_is_what_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("tool"), folder.path().join("other"));
        std::os::unix::fs::symlink("/bin/echo", &path).unwrap();
        let (held, digest) = Held::open(&path).unwrap();
        assert_eq!(digest, Digest::of(&std::fs::read("/bin/echo").unwrap()));
        std::os::unix::fs::symlink("/bin/false", &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let output = Command::new(held.path()).arg("the same").output().unwrap();
        assert_eq!(output.stdout, b"the same\n");
    }

    #[test]
    fn what_is_written_to_a_program_meanwhile_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let (held, _) = Held::open(&path).unwrap();
        assert!(held.is_as_found().unwrap());
        std::fs::write(&path, "#!/bin/sh\necho more\n").unwrap();
        assert!(!held.is_as_found().unwrap());
    }
}
