//! Where answers are kept: a folder beside the journal with a file for each, named by its key. What an entry says and
//! depends on is `downbeat_workflow::cache`'s affair; here it is found, kept, and given up when there is no room.
//!
//! Losing an entry costs only time, so that nothing here is synced: an entry is written aside and renamed into its place,
//! and one that a power cut tore is found out by its digest, as is every other damage, and removed. Room is made by
//! removing what was not used for longest; the time of a file is when it was used last.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use downbeat_workflow::cache::Entry;
use downbeat_workflow::description::Digest;

/// Bytes of all entries together. 1 GiB: thousands of outputs of an ordinary size, and a disk has room for it.
pub const ANSWERS_BYTES_MAX: u64 = 1 << 30;

/// Entries. 20,000: looking through all of them takes some ten milliseconds.
pub const ANSWERS_MAX: usize = 20_000;

/// Bytes of one entry; a longer answer is not kept. 64 MiB: four times what an output may have without a `limit` that says more,
/// and a sixteenth of the room, so that one step does not turn out all others.
pub const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What is left when room is made, in percent: else every further answer would have to make room again.
const KEPT_PERCENT: u64 = 90;

/// A file that is being written is nobody's after so long. An hour: the largest answer is written in a second.
const UNFINISHED_AFTER: Duration = Duration::from_secs(3600);

/// What the names of files that are being written begin with.
const UNFINISHED: &str = ".new-";

/// The folder of kept answers.
pub struct Answers {
    folder: PathBuf,
    bounds: Bounds,
    /// What is there, as far as this process knows; `None` before it has kept anything.
    size: Mutex<Option<Size>>,
}

#[derive(Clone, Copy)]
struct Bounds {
    count: usize,
    bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct Size {
    count: usize,
    bytes: u64,
}

impl Size {
    fn exceeds(self, bounds: Bounds) -> bool {
        self.count > bounds.count || self.bytes > bounds.bytes
    }
}

/// What was found under a key.
#[derive(Debug)]
pub enum Found {
    /// The answer.
    Hit(Box<Entry<'static>>),
    /// Nothing.
    Miss,
    /// Something that is no answer; for a person. It was removed, if it could be.
    Damaged(String),
}

/// An entry in the list of all.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key.
    pub key: Digest,
    /// Its length.
    pub bytes: u64,
    /// When it was kept or last used.
    pub used: SystemTime,
}

impl Answers {
    /// Those in this folder, which need not be there yet.
    pub fn at(folder: impl Into<PathBuf>) -> Answers {
        let bounds = Bounds { count: ANSWERS_MAX, bytes: ANSWERS_BYTES_MAX };
        Answers { folder: folder.into(), bounds, size: Mutex::default() }
    }

    /// The answer of this key, and notes that it was used.
    pub fn find(&self, key: &Digest) -> Found {
        self.look(key, true)
    }

    /// The answer of this key. Nothing is noted or removed.
    pub fn peek(&self, key: &Digest) -> Found {
        self.look(key, false)
    }

    fn look(&self, key: &Digest, is_use: bool) -> Found {
        let path = self.path(key);
        match read(&path) {
            Ok(None) => Found::Miss,
            Ok(Some((file, text))) => match Entry::read(key, &text) {
                Ok(entry) => {
                    if is_use {
                        // For the order in which room is made, and nothing else.
                        let _ = file.set_modified(SystemTime::now());
                    }
                    Found::Hit(Box::new(entry))
                }
                Err(damaged) => self.damaged(&path, damaged.to_string(), is_use),
            },
            Err(error) => self.damaged(&path, error.to_string(), is_use),
        }
    }

    fn damaged(&self, path: &Path, reason: String, is_use: bool) -> Found {
        if is_use {
            let _ = fs::remove_file(path);
        }
        Found::Damaged(format!("the kept answer {} is not used: {reason}", path.display()))
    }

    /// Keeps an answer, in the place of what was there. Says whether it did: one that is too long is not kept.
    pub fn keep(&self, entry: &Entry<'_>) -> io::Result<bool> {
        let text = entry.to_text();
        let bytes = text.len() as u64;
        if bytes > ANSWER_BYTES_MAX {
            return Ok(false);
        }
        if !self.folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        }
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(self.path(&entry.key))?;
        self.make_room(bytes)?;
        Ok(true)
    }

    /// Counts an entry that was just kept, and removes those that were not used for longest if there are too many now.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *size {
            Some(size) => {
                size.count += 1;
                size.bytes += bytes;
            }
            None => *size = Some(self.count_all()?),
        }
        if size.is_some_and(|size| !size.exceeds(self.bounds)) {
            return Ok(());
        }
        // What was counted twice or removed by others is set right here.
        let mut all = self.list()?;
        all.sort_by_key(|listed| listed.used);
        let mut left = Size { count: all.len(), bytes: all.iter().map(|listed| listed.bytes).sum() };
        if left.exceeds(self.bounds) {
            let kept = |most: u64| most * KEPT_PERCENT / 100;
            let goal = Bounds { count: kept(self.bounds.count as u64) as usize, bytes: kept(self.bounds.bytes) };
            for listed in all {
                if !left.exceeds(goal) {
                    break;
                }
                if self.remove(&listed.key)? {
                    left.count -= 1;
                    left.bytes -= listed.bytes;
                }
            }
        }
        *size = Some(left);
        Ok(())
    }

    fn count_all(&self) -> io::Result<Size> {
        let now = SystemTime::now();
        for entry in self.entries()? {
            let entry = entry?;
            let is_unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            if let Some(written) =
                is_unfinished.then(|| entry.metadata().and_then(|found| found.modified()).ok()).flatten()
                && now.duration_since(written).is_ok_and(|age| age > UNFINISHED_AFTER)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        let all = self.list()?;
        Ok(Size { count: all.len(), bytes: all.iter().map(|listed| listed.bytes).sum() })
    }

    /// All entries, in no order. Whether they are whole is seen when they are found.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in self.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(key) = name.to_str().and_then(|hex| Digest::parse(&format!("sha256:{hex}"))) else { continue };
            match entry.metadata() {
                Ok(found) if !found.is_file() => {}
                Ok(found) => all.push(Listed { key, bytes: found.size(), used: found.modified()? }),
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Removes an entry; whether it was there.
    pub fn remove(&self, key: &Digest) -> io::Result<bool> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(named(&path, &error)),
        }
    }

    fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => Ok(Some(entries).into_iter().flatten()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
            Err(error) => Err(named(&self.folder, &error)),
        }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.hex())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file and its text; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<(File, String)>> {
    // What is no file of the engine's may be a pipe, and opening one waits for who writes to it.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is no file of the engine's"));
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() > ANSWER_BYTES_MAX {
        return Err(io::Error::other("it is no file of the engine's"));
    }
    let mut text = String::with_capacity(found.len() as usize);
    (&file).take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some((file, text)))
}

#[cfg(test)]
mod tests {
    use downbeat_workflow::event::{Origin, RunId, Timestamp};
    use downbeat_workflow::json::Json;

    use super::*;

    fn entry(name: &str, output: &str) -> Entry<'static> {
        Entry {
            key: Digest::of(name.as_bytes()),
            plugin: "any".into(),
            component: Digest::of(b"any"),
            workflow: "w".into(),
            origin: Origin { run: RunId("r1".into()), step: name.into(), at: Timestamp(7) },
            output: Json::from(serde_json::Value::from(output)),
        }
    }

    fn answers(count: usize, bytes: u64) -> (tempfile::TempDir, Answers) {
        let dir = tempfile::tempdir().unwrap();
        let answers = Answers { bounds: Bounds { count, bytes }, ..Answers::at(dir.path().join("answers")) };
        (dir, answers)
    }

    fn is_hit(answers: &Answers, name: &str) -> bool {
        matches!(answers.peek(&Digest::of(name.as_bytes())), Found::Hit(_))
    }

    /// As if it was used so many seconds after another time.
    fn used(answers: &Answers, name: &str, after_s: u64) {
        let file = File::open(answers.path(&Digest::of(name.as_bytes()))).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(after_s)).unwrap();
    }

    #[test]
    fn what_is_kept_is_found_and_the_latest_counts() {
        let (_dir, answers) = answers(10, 1 << 20);
        assert!(matches!(answers.find(&Digest::of(b"a")), Found::Miss));
        assert_eq!(answers.list().unwrap().len(), 0);
        assert!(answers.keep(&entry("a", "1")).unwrap());
        assert!(answers.keep(&entry("a", "2")).unwrap());
        let Found::Hit(found) = answers.find(&Digest::of(b"a")) else { panic!("it is there") };
        assert_eq!(*found, entry("a", "2"));
        assert_eq!(answers.list().unwrap().len(), 1);
        assert!(answers.remove(&Digest::of(b"a")).unwrap());
        assert!(!answers.remove(&Digest::of(b"a")).unwrap());
    }

    #[test]
    fn what_was_tampered_with_is_no_answer_and_is_removed() {
        let (_dir, answers) = answers(10, 1 << 20);
        answers.keep(&entry("a", "right")).unwrap();
        answers.keep(&entry("b", "other")).unwrap();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = fs::read_to_string(answers.path(&a)).unwrap();
        fs::write(answers.path(&a), text.replace("right", "wrong")).unwrap();
        assert!(matches!(answers.peek(&a), Found::Damaged(reason) if reason.contains("does not have the digest")));
        assert!(matches!(answers.find(&a), Found::Damaged(_)));
        assert!(matches!(answers.find(&a), Found::Miss), "it is gone");
        fs::copy(answers.path(&b), answers.path(&a)).unwrap();
        assert!(matches!(answers.find(&a), Found::Damaged(reason) if reason.contains("another key")));
        File::create(answers.path(&a)).unwrap().set_len(ANSWER_BYTES_MAX + 1).unwrap();
        assert!(matches!(answers.find(&a), Found::Damaged(_)), "nothing so long is read");
        assert!(is_hit(&answers, "b"));
    }

    #[test]
    fn room_is_made_by_what_was_not_used_for_longest() {
        let (_dir, answers) = answers(10, 1 << 20);
        for (index, name) in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].into_iter().enumerate() {
            answers.keep(&entry(name, name)).unwrap();
            used(&answers, name, index as u64);
        }
        // By being found, the oldest becomes the latest.
        assert!(matches!(answers.find(&Digest::of(b"a")), Found::Hit(_)));
        answers.keep(&entry("k", "k")).unwrap();
        let left = ["a", "b", "c", "d", "k"].map(|name| is_hit(&answers, name));
        assert_eq!(left, [true, false, false, true, true]);
        assert_eq!(answers.list().unwrap().len(), 9, "nine of ten, so that the next finds room");
    }

    #[test]
    fn entries_have_a_bound_together_and_each() {
        let (_dir, answers) = answers(100, 5_000);
        for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            answers.keep(&entry(name, &"x".repeat(1_000))).unwrap();
            used(&answers, name, index as u64);
        }
        assert!(!is_hit(&answers, "a") && is_hit(&answers, "d"));
        let bytes: u64 = answers.list().unwrap().iter().map(|listed| listed.bytes).sum();
        assert!(bytes <= 5_000, "{bytes}");
        assert!(!answers.keep(&entry("long", &"x".repeat(ANSWER_BYTES_MAX as usize))).unwrap());
        assert!(!is_hit(&answers, "long"));
    }

    #[test]
    fn what_a_killed_process_was_writing_is_no_entry_and_goes_in_time() {
        let (_dir, answers) = answers(10, 1 << 20);
        answers.keep(&entry("a", "1")).unwrap();
        let (old, new) = (answers.folder.join(".new-old"), answers.folder.join(".new-new"));
        fs::write(&new, "half").unwrap();
        File::create(&old).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let next = Answers::at(&answers.folder);
        next.keep(&entry("b", "1")).unwrap();
        assert_eq!(next.list().unwrap().len(), 2);
        assert_eq!((old.exists(), new.exists()), (false, true));
    }
}
