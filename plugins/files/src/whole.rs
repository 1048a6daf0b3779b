//! Writing a file as a whole or not at all: under another name first, on disk, then renamed. Whoever looks meanwhile sees
//! the old file or the new one, also after a crash.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use downbeat_sdk::artifacts::Digest;
use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Context, Failure};
use sha2::{Digest as _, Sha256};

use crate::trouble;

/// Bytes that are written at once. Each write is a call to the host: 64 KiB is what it takes in one piece.
pub(crate) const BUFFER: usize = 64 << 10;

/// How the name of a file begins and ends that is being written.
const PARTIAL_START: &str = ".downbeat-";
const PARTIAL_END: &str = ".part";

/// Whether a file of this name is being written, or was left behind by an attempt that was killed: nobody's content.
pub(crate) fn is_partial(name: &str) -> bool {
    name.strip_prefix(PARTIAL_START).is_some_and(|rest| rest.ends_with(PARTIAL_END))
}

/// A file that is being written. Dropped before [`Whole::finish`], it leaves nothing behind.
pub(crate) struct Whole {
    path: String,
    partial: String,
    file: io::BufWriter<File>,
    bytes: u64,
    finished: bool,
}

impl Whole {
    /// Begins the file at `path`, after making the folders above it.
    pub(crate) fn begin(context: &Context, path: &str) -> Result<Whole, Failure> {
        let path = files::check_file(path, Access::Write)?;
        let folder = folder_of(&path);
        make_folders(folder)?;
        // The same name in every attempt of a step: what an interrupted one left is overwritten by the next.
        let name = hex(&Sha256::digest(format!("{}\0{path}", context.idempotency_key)));
        let partial = below(folder, &format!("{PARTIAL_START}{}{PARTIAL_END}", &name[..16]));
        let file = File::create(&partial).map_err(|error| trouble::io(&path, "written", &error))?;
        let file = io::BufWriter::with_capacity(BUFFER, file);
        Ok(Whole { path, partial, file, bytes: 0, finished: false })
    }

    /// Puts the file in its place and gives its size in bytes.
    pub(crate) fn finish(mut self) -> Result<u64, Failure> {
        let placed = (self.file.flush())
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.path));
        placed.map_err(|error| trouble::io(&self.path, "written", &error))?;
        self.finished = true;
        Ok(self.bytes)
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.finished {
            // The attempt has failed for a reason of its own; a leftover is overwritten by the next one.
            fs::remove_file(&self.partial).ok();
        }
    }
}

/// A file that is being written as a whole, and hashed on the way.
pub(crate) struct Hashed {
    whole: Whole,
    hasher: Sha256,
}

impl Hashed {
    /// As [`Whole::begin`].
    pub(crate) fn begin(context: &Context, path: &str) -> Result<Hashed, Failure> {
        Ok(Hashed { whole: Whole::begin(context, path)?, hasher: Sha256::new() })
    }

    /// Puts the file in its place and gives its digest and its size in bytes.
    pub(crate) fn finish(self) -> Result<(Digest, u64), Failure> {
        let bytes = self.whole.finish()?;
        Ok((digest(self.hasher), bytes))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.whole.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.whole.flush()
    }
}

/// Reads to the end and writes what comes, in pieces of [`BUFFER`]: `std::io::copy` takes 8 KiB, and each is a call to
/// the host. Gives the number of bytes.
pub(crate) fn pour(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => {
                to.write_all(&buffer[..count])?;
                bytes += count as u64;
            }
        }
    }
}

/// Makes a folder and those above it, as far as they are missing.
pub(crate) fn make_folders(path: &str) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(trouble::failed(path, "made", "a file of this name is in the way")),
        Err(_) => fs::create_dir_all(path).map_err(|error| trouble::io(path, "made", &error)),
    }
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

/// A path below a folder.
pub(crate) fn below(folder: &str, path: &str) -> String {
    match folder.ends_with('/') {
        true => format!("{folder}{path}"),
        false => format!("{folder}/{path}"),
    }
}

pub(crate) fn digest(hasher: Sha256) -> Digest {
    Digest(format!("sha256:{}", hex(&hasher.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
