//! The interface `artifacts` and the store of blobs behind it: files named by the SHA-256 of their content, at
//! `sha256/ab/abcdef…`. A blob appears whole and synced or not at all, is never changed, and is checked against its name
//! when it is read. Nothing here removes a blob: what is still needed is for the journal's owner to say
//! (`blobs`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use downbeat_workflow::capability::Capability;
use downbeat_workflow::description::Digest;
use downbeat_workflow::permission::Granted;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};
use wasmtime::component::Resource;

use crate::bindings::downbeat::step::artifacts as wit;
use crate::bindings::downbeat::step::types::Refusal;
use crate::reach::Reach;
use crate::replace::Pieces;
use crate::store::{MESSAGE_MAX, State};

/// What one `read` gives at most, as `wit/artifacts.wit` promises.
const READ_MAX: u32 = 1 << 20;

/// What allows all of it.
const GRANTED: Granted = Granted { capability: Capability::Artifacts, item: 0 };

/// The store of blobs.
#[derive(Clone)]
pub(crate) struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    pub(crate) fn new(root: PathBuf) -> Artifacts {
        Artifacts { root }
    }

    /// The directory of those that are.
    pub(crate) fn named(&self) -> PathBuf {
        self.root.join("sha256")
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.named().join(&digest.hex()[..2]).join(digest.hex())
    }

    /// The directory of blobs that are not whole yet.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.root.join("new")
    }

    pub(crate) fn create(&self) -> io::Result<Blob> {
        let directory = self.unfinished();
        fs::create_dir_all(&directory)?;
        Ok(Blob { file: NamedTempFile::new_in(directory)?, hash: Sha256::new(), size: 0 })
    }

    fn keep(&self, blob: Blob) -> io::Result<Digest> {
        let digest = Digest::from_sha256(blob.hash.clone().finalize().into());
        if !self.renewed(&digest) {
            let (file, digest) = blob.finish()?;
            self.name(file, &digest)?;
        }
        Ok(digest)
    }

    /// Whether a blob is there already. It is as young as if it had been written now: whoever looks for blobs that nothing
    /// mentions passes over those that a run which goes on may be about to mention.
    fn renewed(&self, digest: &Digest) -> bool {
        let Ok(stored) = File::open(self.path(digest)) else { return false };
        let _ = stored.set_modified(SystemTime::now());
        true
    }

    /// Gives a synced file its name, for good.
    pub(crate) fn name(&self, file: TempPath, digest: &Digest) -> io::Result<()> {
        if self.renewed(digest) {
            return Ok(());
        }
        let path = self.path(digest);
        let directory = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(directory)?;
        file.persist(&path)?;
        // The names have to last as well: the blob's in its folder, and the folder's own.
        for directory in [Some(directory), directory.parent(), Some(&self.root)].into_iter().flatten() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    pub(crate) fn open(&self, digest: &Digest) -> io::Result<Stored> {
        let file = File::open(self.path(digest))?;
        let size = file.metadata()?.len();
        // Nothing is read of an empty file, so that it is judged here: a crash of the file system may have emptied it.
        if size == 0 && *digest != Digest::of(b"") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob on disk is damaged"));
        }
        Ok(Stored { file, size, left: size, hash: Sha256::new(), digest: digest.clone() })
    }
}

/// A blob being written. Removed when dropped.
pub(crate) struct Blob {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl Blob {
    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    /// The whole blob, on the disk, and what its name is.
    pub(crate) fn finish(self) -> io::Result<(TempPath, Digest)> {
        self.file.as_file().sync_all()?;
        Ok((self.file.into_temp_path(), Digest::from_sha256(self.hash.finalize().into())))
    }
}

/// A blob being read.
pub(crate) struct Stored {
    file: File,
    size: u64,
    left: u64,
    hash: Sha256,
    digest: Digest,
}

impl Stored {
    /// The next bytes, at most `max`; the last ones only if the whole blob was what its name says.
    pub(crate) fn read(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let mut data = vec![0; max.min(self.left) as usize];
        if self.left > 0 {
            self.file.read_exact(&mut data)?;
            self.hash.update(&data);
            self.left -= data.len() as u64;
            if self.left == 0 && Digest::from_sha256(self.hash.clone().finalize().into()) != self.digest {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob on disk is damaged"));
            }
        }
        Ok(data)
    }
}

/// The resource `writer`. Empty while a write is under way, and after one that failed.
#[allow(unreachable_pub)] // The generated bindings re-export it.
pub struct Writer(Option<(Blob, Pieces)>);

/// The resource `reader`. Empty while a read is under way, and after one that failed.
#[allow(unreachable_pub)] // The generated bindings re-export it.
pub struct Reader {
    size: u64,
    stored: Option<Stored>,
}

/// What the WIT functions fail with.
type Fault = wit::Error;

impl State {
    /// The store, if it is granted.
    fn artifacts(&mut self, wanted: &str) -> Result<Artifacts, Fault> {
        if self.reach.grants.artifacts {
            return Ok(self.host.artifacts.clone());
        }
        Err(Fault::Refused(refused(&mut self.reach, wanted)))
    }
}

impl State {
    /// Gives a blob its name, once that is on record.
    async fn keep(&mut self, store: Artifacts, blob: Blob) -> Result<String, Fault> {
        let digest = Digest::from_sha256(blob.hash.clone().finalize().into());
        self.reach.leaves(GRANTED, &format!("put {digest} ({} bytes)", blob.size)).await;
        blocking(move || store.keep(blob)).await.map(|digest| digest.as_str().to_owned())
    }
}

fn refused(reach: &mut Reach, wanted: &str) -> Refusal {
    reach.refuse_switch("artifacts", wanted).into()
}

impl From<downbeat_workflow::event::Refusal> for Refusal {
    fn from(refusal: downbeat_workflow::event::Refusal) -> Refusal {
        Refusal { capability: refusal.capability, wanted: refusal.wanted, hint: refusal.hint }
    }
}

/// Does file work in a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(failed)
}

/// What the guest hears of a fault of the store: its kind, without the host's paths.
fn failed(error: io::Error) -> Fault {
    Fault::Failed(format!("the store of blobs: {}", error.kind()))
}

/// Opens a blob, or says why there is none.
async fn open(store: Artifacts, text: String) -> Result<Stored, Fault> {
    let Some(digest) = Digest::parse(&text) else { return Err(Fault::NotFound(text)) };
    match tokio::task::spawn_blocking(move || store.open(&digest)).await.map_err(io::Error::other) {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(Fault::NotFound(text)),
        Ok(Err(error)) | Err(error) => Err(failed(error)),
    }
}

fn within(size: u64, limit: u64) -> Result<(), Fault> {
    if size > limit { Err(Fault::TooLarge(limit)) } else { Ok(()) }
}

impl wit::Host for State {
    async fn put(&mut self, data: Vec<u8>) -> wasmtime::Result<Result<String, Fault>> {
        let limit = self.limits.artifact;
        let store = match self.artifacts("put").and_then(|store| within(data.len() as u64, limit).map(|()| store)) {
            Ok(store) => store,
            Err(fault) => return Ok(Err(fault)),
        };
        let (create, redactor) = (store.clone(), self.log.redactor().cloned());
        let written = blocking(move || {
            let mut blob = create.create()?;
            match redactor {
                Some(redactor) => blob.write(&redactor.bytes(&data))?,
                None => blob.write(&data)?,
            }
            Ok(blob)
        });
        match written.await {
            Ok(blob) => Ok(self.keep(store, blob).await),
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn get(&mut self, digest: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let store = match self.artifacts("get") {
            Ok(store) => store,
            Err(fault) => return Ok(Err(fault)),
        };
        self.reach.stays(GRANTED, &format!("get {digest}"));
        let read = async {
            let mut stored = open(store, digest).await?;
            within(stored.size, MESSAGE_MAX as u64)?;
            blocking(move || stored.read(u64::MAX)).await
        };
        Ok(read.await)
    }
}

impl wit::HostWriter for State {
    async fn open(&mut self) -> wasmtime::Result<Result<Resource<Writer>, Fault>> {
        let store = match self.artifacts("writer") {
            Ok(store) => store,
            Err(fault) => return Ok(Err(fault)),
        };
        match blocking(move || store.create()).await {
            Ok(blob) => {
                let pieces = Pieces::new(self.log.redactor().cloned());
                Ok(Ok(self.table.push(Writer(Some((blob, pieces))))?))
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn write(&mut self, writer: Resource<Writer>, data: Vec<u8>) -> wasmtime::Result<Result<(), Fault>> {
        let limit = self.limits.artifact;
        let Some((mut blob, mut pieces)) = self.table.get_mut(&writer)?.0.take() else { return Ok(Err(broken())) };
        if let Err(fault) = within(blob.size.saturating_add(data.len() as u64), limit) {
            return Ok(Err(fault));
        }
        let written = blocking(move || {
            let mut written = Ok(());
            pieces.push(&data, |bytes| {
                written = std::mem::replace(&mut written, Ok(())).and_then(|()| blob.write(bytes))
            });
            written.map(|()| (blob, pieces))
        });
        match written.await {
            Ok(writing) => {
                self.table.get_mut(&writer)?.0 = Some(writing);
                Ok(Ok(()))
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn finish(&mut self, writer: Resource<Writer>) -> wasmtime::Result<Result<String, Fault>> {
        let Some((mut blob, mut pieces)) = self.table.delete(writer)?.0 else { return Ok(Err(broken())) };
        let store = self.host.artifacts.clone();
        // What was held back as the beginning of a secret.
        let written = blocking(move || {
            let mut written = Ok(());
            pieces.finish(|bytes| written = blob.write(bytes));
            written.map(|()| blob)
        });
        match written.await {
            Ok(blob) => Ok(self.keep(store, blob).await),
            Err(fault) => Ok(Err(fault)),
        }
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl wit::HostReader for State {
    async fn open(&mut self, digest: String) -> wasmtime::Result<Result<Resource<Reader>, Fault>> {
        let store = match self.artifacts("reader") {
            Ok(store) => store,
            Err(fault) => return Ok(Err(fault)),
        };
        self.reach.stays(GRANTED, &format!("get {digest}"));
        match open(store, digest).await {
            Ok(stored) => Ok(Ok(self.table.push(Reader { size: stored.size, stored: Some(stored) })?)),
            Err(fault) => Ok(Err(fault)),
        }
    }

    fn size(&mut self, reader: Resource<Reader>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&reader)?.size)
    }

    async fn read(&mut self, reader: Resource<Reader>, max: u32) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let Some(mut stored) = self.table.get_mut(&reader)?.stored.take() else { return Ok(Err(broken())) };
        let read = blocking(move || {
            let data = stored.read(max.min(READ_MAX).into())?;
            Ok((stored, data))
        });
        match read.await {
            Ok((stored, data)) => {
                self.table.get_mut(&reader)?.stored = Some(stored);
                Ok(Ok(data))
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

fn broken() -> Fault {
    Fault::Failed("an earlier call on this blob failed; begin again".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn store() -> (tempfile::TempDir, Artifacts) {
        let directory = tempfile::tempdir().unwrap();
        let store = Artifacts::new(directory.path().join("artifacts"));
        (directory, store)
    }

    fn put(store: &Artifacts, pieces: &[&[u8]]) -> Digest {
        let mut blob = store.create().unwrap();
        pieces.iter().for_each(|piece| blob.write(piece).unwrap());
        store.keep(blob).unwrap()
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).map_or(0, |entries| entries.count())
    }

    #[test]
    fn a_blob_is_named_by_its_content_however_it_was_written() {
        let (_directory, store) = store();
        let digest = put(&store, &[b"he", b"llo"]);
        assert_eq!(digest, Digest::of(b"hello"));
        assert_eq!(put(&store, &[b"hello"]), digest);
        let mut stored = store.open(&digest).unwrap();
        assert_eq!((stored.read(2).unwrap(), stored.read(9).unwrap()), (b"he".to_vec(), b"llo".to_vec()));
        assert_eq!(stored.read(9).unwrap(), b"");
        assert_eq!(files(&store.root.join("new")), 0);
    }

    #[test]
    fn an_unfinished_blob_leaves_nothing() {
        let (_directory, store) = store();
        let mut blob = store.create().unwrap();
        blob.write(b"hello").unwrap();
        drop(blob);
        assert_eq!((files(&store.root.join("new")), files(&store.root.join("sha256"))), (0, 0));
    }

    #[test]
    fn a_damaged_blob_is_not_handed_out() {
        let (_directory, store) = store();
        let digest = put(&store, &[b"hello"]);
        fs::write(store.path(&digest), b"hallo").unwrap();
        assert!(store.open(&digest).unwrap().read(9).unwrap_err().to_string().contains("damaged"));
    }
}
