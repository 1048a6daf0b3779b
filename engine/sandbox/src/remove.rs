//! Directories that others have filled, removed whatever is in them. A native program may nest directories deeper than any
//! stack or number of open files reaches, and take the rights to them away from their owner; so nothing here recurses, and
//! no more than three descriptors are open at once.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fchmod, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often a directory is listed that is still not empty. A listing may miss what came into the directory meanwhile.
const ROUNDS: usize = 8;

/// Removes a directory and all that is in it, as far as it is the engine's user who owns that. No link is followed. Each
/// directory within is moved to the top before it is emptied, so that depth costs nothing.
///
/// The error is that of the first thing that could not be removed; all others are gone then, those in unremovable directories
/// excepted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let mut tree = Tree { top: opened(CWD, path)?, left: Vec::new(), moved: 0, failed: None };
    for _ in 0..ROUNDS {
        tree.empty_top();
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tree.failed.is_none() => {}
            Err(error) => return Err(tree.failed.map_or(error, io::Error::from)),
            Ok(()) => return Ok(()),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

struct Tree {
    top: OwnedFd,
    /// Directories at the top that are to be emptied.
    left: Vec<CString>,
    /// How many names were tried for those that were moved there.
    moved: u64,
    /// Why the first that could not be removed could not.
    failed: Option<Errno>,
}

impl Tree {
    fn empty_top(&mut self) {
        self.empty(None);
        while let Some(name) = self.left.pop() {
            for _ in 0..ROUNDS {
                match opened(&self.top, name.as_c_str()) {
                    Ok(within) => self.empty(Some(&within)),
                    Err(error) => self.note(error),
                }
                match unlinkat(&self.top, name.as_c_str(), AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY) if self.failed.is_none() => {}
                    Err(error) => {
                        self.note(error);
                        break;
                    }
                    Ok(()) => break,
                }
            }
        }
    }

    /// Unlinks what is in a directory (the top by `None`), but for directories: these are at the top afterwards, and noted.
    fn empty(&mut self, within: Option<&OwnedFd>) {
        let of = within.unwrap_or(&self.top).as_fd();
        let entries = match Dir::read_from(of) {
            Ok(entries) => entries,
            Err(error) => return self.failed = self.failed.or(Some(error)),
        };
        // Both borrow the top.
        let (mut left, mut moved, mut failed) = (Vec::new(), self.moved, None);
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    failed = failed.or(Some(error));
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let done = match unlinkat(of, name, AtFlags::empty()) {
                // What unlinking a directory is called by Linux, and by POSIX.
                Err(Errno::ISDIR | Errno::PERM) => match within {
                    None => Ok(Some(name.to_owned())),
                    Some(within) => move_up(within, name, &self.top, &mut moved).map(Some),
                },
                done => done.map(|()| None),
            };
            match done {
                Ok(directory) => left.extend(directory),
                Err(Errno::NOENT) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.moved = moved;
        self.left.append(&mut left);
        self.failed = self.failed.or(failed);
    }

    fn note(&mut self, error: Errno) {
        if error != Errno::NOENT {
            self.failed = self.failed.or(Some(error));
        }
    }
}

/// Moves a directory to the top, under a name that is free there.
fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> Result<CString, Errno> {
    let mut is_own = false;
    loop {
        let free = CString::new(format!(".{moved}")).unwrap_or_default();
        match renameat(from, name, top, free.as_c_str()) {
            Ok(()) => return Ok(free),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => *moved += 1,
            // What is moved is changed: it is told where it lies.
            Err(Errno::ACCESS) if !is_own => {
                opened(from, name)?;
                is_own = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens a directory, with the rights to list and change it, which its owner may have lost.
fn opened(at: impl AsFd + Copy, path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(at, path, OFlags::RDONLY | flags, Mode::empty());
    let directory = match open() {
        #[cfg(target_os = "linux")]
        Err(Errno::ACCESS) => {
            use std::os::fd::AsRawFd as _;
            use std::os::unix::fs::PermissionsExt as _;
            let place = openat(at, path, OFlags::PATH | flags, Mode::empty())?;
            let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
            let made = std::fs::set_permissions(itself, std::fs::Permissions::from_mode(0o700));
            made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::ACCESS))?;
            open()?
        }
        opened => opened?,
    };
    if fstat(&directory).is_ok_and(|found| Mode::from_raw_mode(found.st_mode) & Mode::RWXU != Mode::RWXU) {
        fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_deeper_than_a_stack_reaches_is_removed_on_a_small_one() {
        let place = tempfile::tempdir().unwrap();
        let (tree, next) = (place.path().join("tree"), place.path().join("next"));
        fs::create_dir(&tree).unwrap();
        for level in 0..20_000 {
            fs::create_dir(&next).unwrap();
            fs::rename(&tree, next.join("n")).unwrap();
            fs::rename(&next, &tree).unwrap();
            if level % 1_000 == 0 {
                fs::write(tree.join("file"), "x").unwrap();
            }
        }
        let removed = std::thread::Builder::new().stack_size(128 << 10).spawn(move || remove_tree(&tree));
        removed.unwrap().join().unwrap().unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_kept_from_its_owner_is_removed_and_where_links_lead_to_is_not() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join(".0/.1")).unwrap();
        fs::write(tree.join(".2"), "in the place of a name that directories get").unwrap();
        fs::create_dir_all(place.path().join("other/kept")).unwrap();
        symlink(place.path().join("other"), tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        for directory in ["a/b/c", "a/b", "a", ".0", ""] {
            fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && place.path().join("other/kept").is_dir());
        assert!(remove_tree(&tree).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
        symlink(place.path().join("other"), &tree).unwrap();
        assert!(remove_tree(&tree).is_err() && place.path().join("other/kept").is_dir());
    }
}
