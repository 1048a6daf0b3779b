//! The store of blobs as its owner sees it, outside of any attempt: what is there, copies out of it and into it, and the
//! removal of what nothing mentions. How blobs lie on the disk is known to `host/artifacts` alone; which of them are still
//! needed, to whoever owns the journal.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use downbeat_workflow::description::Digest;
use tempfile::TempPath;

use crate::host::artifacts::Artifacts;

/// What is read at once of a blob that is copied.
const PIECE: usize = 1 << 16;

/// The store of blobs.
pub struct Blobs {
    store: Artifacts,
}

/// A blob that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// When it was stored last.
    pub stored: SystemTime,
}

/// A whole and synced blob that has no name yet. Dropped, it leaves nothing.
pub struct StagedBlob {
    file: TempPath,
    digest: Digest,
}

impl Blobs {
    /// The store in the directory `root`.
    pub fn at(root: PathBuf) -> Blobs {
        Blobs { store: Artifacts::new(root) }
    }

    /// All blobs, in no order.
    pub fn list(&self) -> io::Result<Vec<StoredBlob>> {
        let mut blobs = Vec::new();
        for folder in entries(&self.store.named())? {
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for entry in entries(&folder.path())? {
                let name = format!("sha256:{}", entry.file_name().to_string_lossy());
                let (Some(digest), file) = (Digest::parse(&name), entry.metadata()?) else { continue };
                if file.is_file() {
                    blobs.push(StoredBlob { digest, bytes: file.len(), stored: file.modified()? });
                }
            }
        }
        Ok(blobs)
    }

    /// A blob's size, if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.store.path(digest)).ok().filter(fs::Metadata::is_file).map(|file| file.len())
    }

    /// Copies a blob, which fails at its end if it is not what its name says.
    pub fn copy_to(&self, digest: &Digest, to: &mut dyn Write) -> io::Result<u64> {
        let mut stored = self.store.open(digest)?;
        let mut copied = 0;
        loop {
            let piece = stored.read(PIECE as u64)?;
            if piece.is_empty() {
                return Ok(copied);
            }
            to.write_all(&piece)?;
            copied += piece.len() as u64;
        }
    }

    /// Reads a blob in, to the end of `from`. It gets its name with [`StagedBlob::keep`].
    pub fn stage(&self, from: &mut dyn Read) -> io::Result<StagedBlob> {
        let mut blob = self.store.create()?;
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece)? {
                0 => break,
                read => blob.write(&piece[..read])?,
            }
        }
        let (file, digest) = blob.finish()?;
        Ok(StagedBlob { file, digest })
    }

    /// Gives a blob its name, for good.
    pub fn keep(&self, blob: StagedBlob) -> io::Result<()> {
        self.store.name(blob.file, &blob.digest)
    }

    /// Removes a blob.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.store.path(digest))
    }
}

impl StagedBlob {
    /// What its name will be.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// What is in a directory; nothing if there is none.
fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_blob_is_there_once_it_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(directory.path().join("artifacts"));
        drop(blobs.stage(&mut &b"given up"[..]).unwrap());
        let staged = blobs.stage(&mut &b"hello"[..]).unwrap();
        let digest = staged.digest().clone();
        assert_eq!((digest.clone(), blobs.list().unwrap(), blobs.size(&digest)), (Digest::of(b"hello"), vec![], None));
        blobs.keep(staged).unwrap();
        let listed: Vec<_> = blobs.list().unwrap().into_iter().map(|blob| (blob.digest, blob.bytes)).collect();
        assert_eq!((listed, blobs.size(&digest)), (vec![(digest.clone(), 5)], Some(5)));
        let mut copy = Vec::new();
        assert_eq!((blobs.copy_to(&digest, &mut copy).unwrap(), copy), (5, b"hello".to_vec()));
        blobs.remove(&digest).unwrap();
        assert_eq!(blobs.list().unwrap(), vec![]);
        assert_eq!(fs::read_dir(directory.path().join("artifacts/new")).unwrap().count(), 0);
    }
}
