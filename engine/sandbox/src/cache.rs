//! What was compiled and described before, on disk, by digest. An entry that is cut short, altered, renamed, or made by
//! another engine or with other settings is not there as far as a reader can tell, and is replaced; nothing is run that
//! does not match its own seal.
//!
//! The seal finds accidents. It can't find malice, since whoever can write an entry can also seal it: against that stands
//! the directory, which has to belong to the engine's user and be closed to all others. So a CRC serves, and a
//! cryptographic hash would only be slow: code is three times the size of its component, and SHA-256 takes 4 ms for each
//! MiB where the processor does not help.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use downbeat_workflow::description::{Description, Digest};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::sandbox::SandboxError;

/// Ends every entry, after the payload's length and seal. At the end and not at the beginning, since compiled code is
/// mapped into memory from the start of its file. To be changed with the layout of entries or the meaning of a description.
const MAGIC: &[u8; 16] = b"downbeat-cache-1";

/// The magic, the payload's length (8 bytes), and the seal (4 bytes): CRC-32 over the entry's name and payload. Both
/// numbers little endian.
const TRAILER: usize = 16 + 8 + 4;

/// The cache.
pub(crate) struct Cache {
    directory: PathBuf,
    /// Of the engine's version, its settings, and the processor's features.
    settings: u64,
}

impl Cache {
    pub(crate) fn open(directory: PathBuf, engine: &Engine) -> Result<Cache, SandboxError> {
        if let Err(reason) = private(&directory) {
            return Err(SandboxError::Cache { path: directory, reason });
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache { directory, settings: hasher.finish() })
    }

    /// The code compiled from the component of this digest by an engine like this one.
    pub(crate) fn code(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.directory.join(self.code_name(digest));
        verify(&path, &mut io::sink()).ok()?;
        // SAFETY: the file was written by `keep_code` of an engine with the same version and settings (both are in its
        // name, and its name is in the seal just verified), and nobody but the engine's own user can have changed it.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        component.ok()
    }

    pub(crate) fn keep_code(&self, digest: &Digest, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        self.keep(&self.code_name(digest), &code)
    }

    pub(crate) fn description(&self, digest: &Digest) -> Option<Description> {
        let mut payload = Vec::new();
        verify(&self.directory.join(description_name(digest)), &mut payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    pub(crate) fn keep_description(&self, digest: &Digest, description: &Description) -> io::Result<()> {
        self.keep(&description_name(digest), &serde_json::to_vec(description)?)
    }

    fn code_name(&self, digest: &Digest) -> String {
        format!("{}-{:016x}.code", digest.hex(), self.settings)
    }

    /// Writes an entry beside its place, syncs it, and moves it there: a reader sees all of it or nothing.
    fn keep(&self, name: &str, payload: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
        file.write_all(payload)?;
        file.write_all(MAGIC)?;
        file.write_all(&(payload.len() as u64).to_le_bytes())?;
        let mut seal = seal(name);
        seal.update(payload);
        file.write_all(&seal.finalize().to_le_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.directory.join(name))?;
        Ok(())
    }
}

fn description_name(digest: &Digest) -> String {
    format!("{}.description", digest.hex())
}

/// Begun with the name, so that a renamed entry does not match.
fn seal(name: &str) -> crc32fast::Hasher {
    let mut seal = crc32fast::Hasher::new();
    seal.update(name.as_bytes());
    seal.update(&[0]);
    seal
}

/// Copies the payload of the entry at `path` to `out`, and fails unless its seal is right.
fn verify(path: &Path, out: &mut impl Write) -> io::Result<()> {
    let unfit = || io::Error::from(io::ErrorKind::InvalidData);
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(unfit)?;
    let mut file = File::open(path)?;
    let payload = file.metadata()?.len().checked_sub(TRAILER as u64).ok_or_else(unfit)?;
    let mut trailer = [0; TRAILER];
    file.seek(SeekFrom::Start(payload))?;
    file.read_exact(&mut trailer)?;
    let (magic, rest) = trailer.split_at(MAGIC.len());
    let (length, sealed) = rest.split_at(8);
    if magic != MAGIC || length != payload.to_le_bytes() {
        return Err(unfit());
    }
    file.seek(SeekFrom::Start(0))?;
    let mut seal = seal(name);
    let mut payload = file.take(payload);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = payload.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        seal.update(&buffer[..read]);
        out.write_all(&buffer[..read])?;
    }
    if seal.finalize().to_le_bytes() == sealed { Ok(()) } else { Err(unfit()) }
}

/// Makes the directory if need be, and checks that it belongs to this user and to nobody else.
fn private(directory: &Path) -> Result<(), String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| error.to_string())?;
    let metadata = fs::metadata(directory).map_err(|error| error.to_string())?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(format!(
            "it belongs to the user {}, and the engine runs as {user}; code in it would be run, so use a directory of your own",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "others may write to it (mode {:o}); code in it would be run: `chmod 700 {}`",
            metadata.mode() & 0o777,
            directory.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path().join("cache"), &Engine::default()).unwrap();
        (directory, cache)
    }

    fn read(cache: &Cache, name: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        verify(&cache.directory.join(name), &mut out).ok().map(|()| out)
    }

    #[test]
    fn an_entry_comes_back_as_it_was_kept() {
        let (_directory, cache) = cache();
        for payload in [&b"payload"[..], b"", b"again"] {
            cache.keep("a", payload).unwrap();
            assert_eq!(read(&cache, "a").unwrap(), payload);
        }
        assert_eq!(read(&cache, "b"), None);
    }

    #[test]
    fn an_altered_entry_is_not_there() {
        let (_directory, cache) = cache();
        let path = cache.directory.join("a");
        cache.keep("a", b"payload").unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            fs::write(&path, altered).unwrap();
            assert_eq!(read(&cache, "a"), None, "bit {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&cache, "a"), None, "cut at {at}");
        }
    }

    #[test]
    fn a_renamed_entry_is_not_there() {
        let (_directory, cache) = cache();
        cache.keep("a", b"payload").unwrap();
        fs::rename(cache.directory.join("a"), cache.directory.join("b")).unwrap();
        assert_eq!(read(&cache, "b"), None);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let Err(error) = Cache::open(directory.path().to_owned(), &Engine::default()) else { panic!("was opened") };
        assert!(error.to_string().contains("others may write to it (mode 770)"), "{error}");
    }

    #[test]
    fn the_directory_is_made_closed_to_others() {
        let (_directory, cache) = cache();
        assert_eq!(fs::metadata(&cache.directory).unwrap().mode() & 0o777, 0o700);
    }
}
