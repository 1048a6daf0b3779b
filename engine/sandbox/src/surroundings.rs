//! What an attempt that only reads would find around it: granted variables, and everything in granted directories. Two
//! attempts of one component with the same input and the same surroundings answer the same, so this is what the key of a
//! kept answer is made of.
//!
//! Files are read, all of them, at each look: sizes and times can't tell whether a content is the same. Links within a
//! granted directory are taken by the text of where they point to, and none is followed, as in `directory`; what they point to
//! is either in the directory as well, or out of the guest's reach. Times of files are no part of the key, though a guest can see
//! them; but they are of the trace, by which two looks are compared: a file that was another one in between, and is the same
//! again, has left one.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use downbeat_workflow::cache::{DIRECTORY_DOMAIN, Fields};
use downbeat_workflow::capability::Grants;
use downbeat_workflow::description::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use crate::directory::Directory;
use crate::sandbox::Sandbox;

/// Entries of all granted directories together, files, directories and links. 20,000: a source tree; a folder of dependencies has
/// more, and is better named by its lock file.
pub const SURROUNDINGS_FILES_MAX: usize = 20_000;

/// Bytes of all files in granted directories together. 1 GiB: it is read before and after each attempt, which takes seconds.
pub const SURROUNDINGS_BYTES_MAX: u64 = 1 << 30;

/// How deeply directories nest. 64: the walk holds one open at each level.
const DEPTH_MAX: usize = 64;

/// What the trace of a look is a digest of.
const TRACE_DOMAIN: &str = "downbeat trace 1";

/// What is read at once.
const CHUNK: usize = 256 * 1024;

/// What an attempt would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Granted variables, in the order of the grant.
    pub env: Vec<(String, Option<String>)>,
    /// Granted directories, in the order of the grant: the path that the guest sees, and the digest of what is there.
    pub files: Vec<(String, Digest)>,
    /// Of which entry lies where, and when it was changed last: the same at two looks if nobody changed anything in between.
    pub trace: Digest,
}

/// Why it can't be told what an attempt would find.
#[derive(Debug, thiserror::Error)]
pub enum Unseen {
    /// There is too much.
    #[error(
        "its granted directories have more than {SURROUNDINGS_FILES_MAX} entries: grant the folders in them that the step reads"
    )]
    Files,
    /// There is too much.
    #[error(
        "the files in its granted directories have more than {} MiB: grant the folders in them that the step reads",
        SURROUNDINGS_BYTES_MAX >> 20
    )]
    Bytes,
    /// They nest too deeply.
    #[error("its granted directories nest more than {DEPTH_MAX} levels deep")]
    Depth,
    /// A directory or file can't be read, or went away meanwhile.
    #[error("the granted directory `{granted}` can't be read: {reason}")]
    Unreadable {
        /// As written in the grant.
        granted: String,
        /// Why.
        reason: String,
    },
    /// Nobody wants to know any more.
    #[error("it is not asked for any more")]
    Stopped,
}

impl Sandbox {
    /// What an attempt with these grants would find now, `directory` being its workflow's folder. Reads whole files: to be
    /// called where that may take its time, and to be given up by `stop`.
    pub fn surroundings(&self, grants: &Grants, directory: &Path, stop: &AtomicBool) -> Result<Surroundings, Unseen> {
        // As `Reach::environment` has it: what is not Unicode is not there.
        let env = grants.env.iter().map(|name| (name.clone(), std::env::var(name).ok())).collect();
        let mut walk = Walk::new(stop);
        let mut files = Vec::with_capacity(grants.files.len());
        for grant in &grants.files {
            let unreadable = |reason: String| Unseen::Unreadable { granted: grant.path.clone(), reason };
            let opened = Directory::open(&directory.join(&grant.path))
                .and_then(|opened| opened.apart_from(&self.host.reserved))
                .map_err(|barred| unreadable(barred.to_string()))?;
            let digest = walk.directory(opened.file.as_fd(), 0).map_err(|fault| match fault {
                Fault::System(error) => unreadable(error.to_string()),
                Fault::Unseen(unseen) => unseen,
            })?;
            files.push((grant.path.clone(), digest));
        }
        Ok(Surroundings { env, files, trace: walk.trace.digest() })
    }
}

struct Walk<'s> {
    stop: &'s AtomicBool,
    entries: usize,
    bytes: u64,
    chunk: Vec<u8>,
    trace: Fields,
}

enum Fault {
    System(io::Error),
    Unseen(Unseen),
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Fault {
        Fault::System(error.into())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::System(error)
    }
}

impl<'s> Walk<'s> {
    fn new(stop: &'s AtomicBool) -> Walk<'s> {
        Walk { stop, entries: 0, bytes: 0, chunk: Vec::new(), trace: Fields::of(TRACE_DOMAIN) }
    }

    /// Notes an entry as it is found. Whoever renames or writes it changes the time of that, which nobody can set.
    fn note(&mut self, found: &Stat) {
        let (changed, written) = ((found.st_ctime, found.st_ctime_nsec), (found.st_mtime, found.st_mtime_nsec));
        let text = format!("{} {} {} {changed:?} {written:?}", found.st_dev, found.st_ino, found.st_size);
        self.trace.add(text.as_bytes());
    }

    /// The digest of a directory: of its entries by name, each with its kind and the digest of what it holds.
    fn directory(&mut self, at: impl AsFd, depth: usize) -> Result<Digest, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Unseen(Unseen::Depth));
        }
        self.note(&fstat(&at)?);
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&at)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
                self.entries += 1;
            }
            if self.entries > SURROUNDINGS_FILES_MAX {
                return Err(Fault::Unseen(Unseen::Files));
            }
        }
        names.sort();
        let mut fields = Fields::of(DIRECTORY_DOMAIN);
        for name in names {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Fault::Unseen(Unseen::Stopped));
            }
            fields.add(name.as_bytes());
            let found = statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.note(&found);
            let kind = FileType::from_raw_mode(found.st_mode);
            // What became a link since then is refused by the opening.
            const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
            match kind {
                FileType::Directory => {
                    let inner: OwnedFd = openat(&at, &name, OPEN | OFlags::DIRECTORY, Mode::empty())?;
                    fields.add(b"directory");
                    fields.add(self.directory(&inner, depth + 1)?.as_str().as_bytes());
                }
                FileType::RegularFile => {
                    // What became a pipe since then must not hold the walk.
                    let file = File::from(openat(&at, &name, OPEN | OFlags::NONBLOCK, Mode::empty())?);
                    fields.add(b"file");
                    fields.add(self.file(file)?.as_str().as_bytes());
                }
                FileType::Symlink => {
                    fields.add(b"link");
                    fields.add(readlinkat(&at, &name, Vec::new())?.as_bytes());
                }
                // No guest can open it; that it is there can be seen.
                _ => fields.add(b"other"),
            }
        }
        Ok(fields.digest())
    }

    fn file(&mut self, mut file: File) -> Result<Digest, Fault> {
        use sha2::{Digest as _, Sha256};
        if !file.metadata()?.is_file() {
            return Err(Fault::System(io::Error::other("a file was replaced while it was looked at")));
        }
        self.chunk.resize(CHUNK, 0);
        let mut hash = Sha256::new();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Fault::Unseen(Unseen::Stopped));
            }
            let count = file.read(&mut self.chunk)?;
            if count == 0 {
                return Ok(Digest::from_sha256(hash.finalize().into()));
            }
            self.bytes += count as u64;
            if self.bytes > SURROUNDINGS_BYTES_MAX {
                return Err(Fault::Unseen(Unseen::Bytes));
            }
            hash.update(&self.chunk[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn digest(path: &Path) -> Result<Digest, Fault> {
        let stop = AtomicBool::new(false);
        Walk::new(&stop).directory(File::open(path)?, 0)
    }

    fn seen(path: &Path) -> Digest {
        digest(path).unwrap_or_else(|_| panic!("{} is read", path.display()))
    }

    #[test]
    fn a_directory_is_what_is_in_it_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for at in [&other, &one] {
            fs::create_dir_all(at.join("b/empty")).unwrap();
            fs::write(at.join("b/c"), "c").unwrap();
            fs::write(at.join("a"), "a").unwrap();
            symlink("../nowhere", at.join("link")).unwrap();
        }
        let first = seen(&one);
        assert_eq!(seen(&other), first, "wherever it lies, and in whatever order it was made");
        let changes: [fn(&Path); 8] = [
            |at| fs::write(at.join("a"), "b").unwrap(),
            |at| fs::rename(at.join("a"), at.join("d")).unwrap(),
            |at| fs::remove_dir(at.join("b/empty")).unwrap(),
            |at| fs::write(at.join("b/empty/new"), "").unwrap(),
            |at| fs::rename(at.join("b/c"), at.join("c")).unwrap(),
            |at| {
                fs::remove_file(at.join("link")).unwrap();
                symlink("../elsewhere", at.join("link")).unwrap();
            },
            |at| {
                fs::remove_file(at.join("link")).unwrap();
                fs::write(at.join("link"), "../nowhere").unwrap();
            },
            |at| {
                fs::remove_file(at.join("a")).unwrap();
                fs::create_dir(at.join("a")).unwrap();
            },
        ];
        let mut all = vec![first];
        for (index, change) in changes.into_iter().enumerate() {
            let at = dir.path().join(format!("changed-{index}"));
            copy(&one, &at);
            assert_eq!(seen(&at), all[0]);
            change(&at);
            all.push(seen(&at));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "each of them is another directory");
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
            match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => copy(&entry.path(), &to),
                (_, true) => symlink(fs::read_link(entry.path()).unwrap(), to).unwrap(),
                _ => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }

    #[test]
    fn a_file_that_was_another_one_in_between_has_left_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        let look = || {
            let stop = AtomicBool::new(false);
            let mut walk = Walk::new(&stop);
            let key = walk.directory(File::open(dir.path()).unwrap(), 0).unwrap_or_else(|_| panic!("it is read"));
            (key, walk.trace.digest())
        };
        let first = look();
        assert_eq!(look(), first, "looking leaves none");
        let aside = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        let (at, aside) = (dir.path().join("a"), aside.path().join("a"));
        // The system's clock of files goes in steps of some milliseconds: until it has gone on, it is tried again.
        let second = loop {
            fs::rename(&at, &aside).unwrap();
            fs::write(&at, "b").unwrap();
            fs::rename(&aside, &at).unwrap();
            match look() {
                second if second == first => {}
                second => break second,
            }
        };
        assert_eq!(second.0, first.0, "it is the same again");
    }

    #[test]
    fn what_a_link_points_to_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, "1").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        let first = seen(&inside);
        fs::write(&outside, "2").unwrap();
        assert_eq!(seen(&inside), first, "the guest can't see it either");
    }

    #[test]
    fn a_pipe_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let first = seen(dir.path());
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert_ne!(seen(dir.path()), first);
    }

    #[test]
    fn too_many_too_large_and_too_deep_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (many, large, deep) = (dir.path().join("many"), dir.path().join("large"), dir.path().join("deep"));
        fs::create_dir(&many).unwrap();
        fs::create_dir(&large).unwrap();
        for index in 0..=SURROUNDINGS_FILES_MAX {
            fs::write(many.join(index.to_string()), "").unwrap();
        }
        assert!(matches!(digest(&many), Err(Fault::Unseen(Unseen::Files))));
        // A file of zeros that are on no disk.
        File::create(large.join("zeros")).unwrap().set_len(SURROUNDINGS_BYTES_MAX + 1).unwrap();
        assert!(matches!(digest(&large), Err(Fault::Unseen(Unseen::Bytes))));
        fs::create_dir_all(deep.join("d/".repeat(DEPTH_MAX + 1))).unwrap();
        assert!(matches!(digest(&deep), Err(Fault::Unseen(Unseen::Depth))));
    }

    #[test]
    fn a_walk_that_nobody_waits_for_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let stop = AtomicBool::new(true);
        let ended = Walk::new(&stop).directory(File::open(dir.path()).unwrap(), 0);
        assert!(matches!(ended, Err(Fault::Unseen(Unseen::Stopped))));
    }
}
