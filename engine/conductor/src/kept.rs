//! What runs keep beside the journal, as files: copies of components, workspaces, blobs. Which of them no run needs any
//! more, and their removal. The journal is the truth: a file is needed if something in the journal says so, so that what a
//! killed process left is found by whoever looks next.
//!
//! For whoever has the journal to drive: a step that is carried out right now may have stored what no record tells of yet.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use downbeat_journal::{Journal, ReadError, RunFilter};
use downbeat_sandbox::{Blobs, StoredBlob, remove_tree};
use downbeat_workflow::description::{Digest, digits_in};
use downbeat_workflow::event::RunId;

/// Where files of runs are.
pub struct Kept {
    components: PathBuf,
    workspaces: PathBuf,
    blobs: Blobs,
}

/// Why it could not be found out what is needed.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A folder could not be read.
    #[error("{} can't be read: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        error: io::Error,
    },
}

/// Files that no run needs.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Blobs that nothing mentions.
    pub blobs: Vec<StoredBlob>,
    /// Components that no plan names, and halves of copies.
    pub components: Vec<Leftover>,
    /// Workspaces of runs that are not there.
    pub workspaces: Vec<Leftover>,
}

/// A file or a directory that no run needs.
#[derive(Debug)]
pub struct Leftover {
    /// Where.
    pub path: PathBuf,
    /// How much it holds.
    pub bytes: u64,
}

impl Kept {
    /// Components in `components`, workspaces below `workspaces`, blobs in `artifacts`.
    pub fn new(components: PathBuf, workspaces: PathBuf, artifacts: PathBuf) -> Kept {
        Kept { components, workspaces, blobs: Blobs::at(artifacts) }
    }

    /// What no run needs but these, which are about to be deleted or are none.
    ///
    /// A blob is needed if its digest stands in a plan, a record, a line of a log or a request, whatever is around it. While
    /// runs are open, those that were stored since the oldest of them began are needed as well: their steps may tell each
    /// other of them through files.
    pub fn leftovers(&self, journal: &Journal, but: &HashSet<RunId>) -> Result<Leftovers, KeptError> {
        let runs = journal.runs(&RunFilter::default())?;
        let open = runs.iter().filter(|run| run.outcome.is_none() && !but.contains(&run.id));
        let young = open.map(|run| run.created.0).min().map(|at| UNIX_EPOCH + Duration::from_millis(at));
        let ids: HashSet<&str> = runs.iter().filter(|run| !but.contains(&run.id)).map(|run| &*run.id.0).collect();

        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error| KeptError::Folder { path, error }
        };
        let blobs = self.blobs.list().map_err(at(Path::new("artifacts")))?;
        let is_old = |blob: &StoredBlob| young.is_none_or(|young: SystemTime| blob.stored < young);
        let mut unmentioned: HashMap<String, File> =
            blobs.into_iter().filter(is_old).map(|blob| (blob.digest.hex().to_owned(), File::Blob(blob))).collect();
        let mut leftovers = Leftovers::default();
        for entry in entries(&self.components).map_err(at(&self.components))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let component = || Leftover { path: entry.path(), bytes: bytes_in(&entry.path()) };
            match name.strip_suffix(".wasm") {
                Some(hex) if Digest::parse(&format!("sha256:{hex}")).is_some() => {
                    // A component that is a blob as well is needed as either.
                    let blob = match unmentioned.remove(hex) {
                        Some(File::Blob(blob)) => Some(blob),
                        _ => None,
                    };
                    unmentioned.insert(hex.to_owned(), File::Component(component(), blob));
                }
                // A copy that was not finished has such a name.
                None if name.starts_with(".tmp") => leftovers.components.push(component()),
                _ => {}
            }
        }
        if !unmentioned.is_empty() {
            journal.texts(but, &mut |text| digits_in(text, |hex| drop(unmentioned.remove(hex))))?;
        }
        for file in unmentioned.into_values() {
            match file {
                File::Blob(blob) => leftovers.blobs.push(blob),
                File::Component(component, blob) => {
                    leftovers.components.push(component);
                    leftovers.blobs.extend(blob);
                }
            }
        }
        for entry in entries(&self.workspaces).map_err(at(&self.workspaces))? {
            if !ids.contains(&*entry.file_name().to_string_lossy()) {
                leftovers.workspaces.push(Leftover { path: entry.path(), bytes: bytes_in(&entry.path()) });
            }
        }
        Ok(leftovers)
    }

    /// The blobs that these digits of digests are names of, each once.
    pub fn blobs_among(&self, digits: &HashSet<String>) -> io::Result<Vec<StoredBlob>> {
        Ok(self.blobs.list()?.into_iter().filter(|blob| digits.contains(blob.digest.hex())).collect())
    }

    /// Copies a blob.
    pub fn copy_blob(&self, digest: &Digest, to: &mut dyn Write) -> io::Result<u64> {
        self.blobs.copy_to(digest, to)
    }

    /// Takes in a blob, for good.
    pub fn keep_blob(&self, digest: &Digest, from: &mut dyn Read) -> io::Result<()> {
        let staged = self.blobs.stage(from)?;
        match staged.digest() == digest {
            true => self.blobs.keep(staged),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "its content has another digest")),
        }
    }

    /// The copy of a component, and its size; an error if there is none.
    pub fn component(&self, digest: &Digest) -> io::Result<(fs::File, u64)> {
        let file = fs::File::open(self.components.join(format!("{}.wasm", digest.hex())))?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    }

    /// Takes in a component, for good, unless it is there. What it holds is for the sandbox to judge, which holds it against
    /// its digest before it is run.
    pub fn keep_component(&self, digest: &Digest, from: &mut dyn Read) -> io::Result<()> {
        let kept = self.components.join(format!("{}.wasm", digest.hex()));
        if kept.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.components)?;
        let mut copy = tempfile::NamedTempFile::new_in(&self.components)?;
        io::copy(from, &mut copy)?;
        copy.as_file().sync_all()?;
        copy.persist(kept)?;
        fs::File::open(&self.components)?.sync_all()
    }

    /// Removes them. Answers what could not be, and why; whoever looks next finds it again.
    pub fn remove(&self, leftovers: &Leftovers) -> Vec<String> {
        let mut failed = Vec::new();
        for blob in &leftovers.blobs {
            failed.extend(self.blobs.remove(&blob.digest).err().map(|error| format!("blob {}: {error}", blob.digest)));
        }
        for Leftover { path, .. } in leftovers.components.iter().chain(&leftovers.workspaces) {
            let removed = match fs::symlink_metadata(path) {
                Ok(file) if file.is_dir() => remove_tree(path),
                _ => fs::remove_file(path),
            };
            failed.extend(removed.err().map(|error| format!("{}: {error}", path.display())));
        }
        failed
    }
}

/// A file whose digest is looked for.
enum File {
    Blob(StoredBlob),
    Component(Leftover, Option<StoredBlob>),
}

/// What is in a directory; nothing if there is none.
fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// How much a file, or what is in a directory and below it, holds. No link is followed; what can't be looked at counts
/// nothing.
fn bytes_in(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![path.to_path_buf()];
    while let Some(path) = left.pop() {
        match fs::symlink_metadata(&path) {
            Ok(file) if file.is_dir() => left.extend(entries(&path).unwrap_or_default().iter().map(fs::DirEntry::path)),
            Ok(file) => bytes += file.len(),
            Err(_) => {}
        }
    }
    bytes
}
