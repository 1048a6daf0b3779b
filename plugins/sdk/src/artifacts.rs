//! Blobs by content, by the grant `artifacts`.
//!
//! A blob is named by the digest of its bytes, so that it can be put twice, shared between steps and runs, and never
//! changed. Hand the [`Digest`] to a later step as part of the output. One blob holds at most the limit `artifact`.
//!
//! ```
//! use std::io::{Read, Write};
//! use downbeat_sdk::prelude::*;
//!
//! # let host = downbeat_sdk::testing::Host::new();
//! # host.grant_artifacts();
//! let mut writer = artifacts::Writer::open()?;
//! writeln!(writer, "a report, line by line")?;
//! let digest = writer.finish()?;
//!
//! let mut text = String::new();
//! artifacts::Reader::open(&digest)?.read_to_string(&mut text)?;
//! assert_eq!(text, "a report, line by line\n");
//! # Ok::<(), Failure>(())
//! ```

use std::borrow::Cow;
use std::io;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Refused, host};

/// A blob's name: `sha256:` and 64 lower case hexadecimal digits. It is a plain string in JSON, and its schema says
/// which strings it can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

/// Keeps a blob. It is on disk, synced, when the digest comes back.
///
/// # Errors
///
/// Not granted, too large, or the store could not be written.
pub fn put(data: impl AsRef<[u8]>) -> Result<Digest, Error> {
    host::put_artifact(data.as_ref()).map(Digest)
}

/// A whole blob.
///
/// # Errors
///
/// Not granted, not found, or the store could not be read.
pub fn get(digest: &Digest) -> Result<Vec<u8>, Error> {
    host::get_artifact(&digest.0)
}

/// A blob that is written piece by piece, as any `std::io::Write`. Dropped before [`Writer::finish`], it leaves nothing
/// behind.
#[derive(Debug)]
pub struct Writer(host::Writer);

impl Writer {
    /// Begins a blob.
    ///
    /// # Errors
    ///
    /// Not granted, or the store could not be written.
    pub fn open() -> Result<Writer, Error> {
        host::Writer::open().map(Writer)
    }

    /// Keeps the blob and gives its digest.
    ///
    /// # Errors
    ///
    /// The store could not be written.
    pub fn finish(self) -> Result<Digest, Error> {
        self.0.finish().map(Digest)
    }
}

impl io::Write for Writer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer).map_err(io::Error::other)?;
        Ok(buffer.len())
    }

    /// Does nothing: the host takes every piece as it is written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that is read piece by piece, as any `std::io::Read`.
#[derive(Debug)]
pub struct Reader(host::Reader);

impl Reader {
    /// Opens a blob.
    ///
    /// # Errors
    ///
    /// Not granted, not found, or the store could not be read.
    pub fn open(digest: &Digest) -> Result<Reader, Error> {
        host::Reader::open(&digest.0).map(Reader)
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let max = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let piece = self.0.read(max).map_err(io::Error::other)?;
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

/// Why a blob could not be kept or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not granted.
    Refused(Refused),
    /// No blob has this digest, or the text is no digest.
    NotFound(String),
    /// The blob is larger than the limit allows; the limit in bytes.
    TooLarge(u64),
    /// The store could not be read or written.
    Failed(String),
}

impl Error {
    /// What was refused, if that is what it was.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Refused(refused) => refused.fmt(f),
            Error::NotFound(digest) => write!(f, "there is no artifact `{digest}`"),
            Error::TooLarge(limit) => write!(f, "the artifact is larger than the limit `artifact` ({limit} bytes)"),
            Error::Failed(reason) => write!(f, "the store of artifacts failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn a_blob_put_twice_has_one_digest_and_comes_back_whole() -> Result<(), Error> {
        let host = Host::new();
        host.grant_artifacts();
        let digest = put("abc")?;
        // The published test vector of SHA-256.
        assert_eq!(digest.0, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(put(b"abc")?, digest);
        assert_eq!(get(&digest)?, b"abc");
        assert_eq!(Reader::open(&digest)?.size(), 3);
        Ok(())
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_nothing_behind() -> Result<(), Error> {
        use std::io::Write;
        let host = Host::new();
        host.grant_artifacts();
        let mut writer = Writer::open()?;
        writer.write_all(b"abc").expect("the double takes anything");
        drop(writer);
        let digest = Digest("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into());
        assert_eq!(get(&digest), Err(Error::NotFound(digest.0.clone())));
        Ok(())
    }

    #[test]
    fn without_the_grant_the_error_says_what_to_add() {
        let _host = Host::new();
        let error = put("abc").expect_err("nothing is granted");
        assert!(error.to_string().ends_with("set in the step: grant = { artifacts = true }"), "{error}");
    }
}
