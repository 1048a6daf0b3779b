//! `pack`: a folder becomes an archive, and the same files become the same bytes, wherever and whenever they are packed.
//!
//! Entries are sorted by path; owners, times and modes are fixed, as the sandbox shows no modes to begin with. Which files
//! are programs is for the workflow to say.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use downbeat_sdk::artifacts::Digest;
use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Context, Failure, log};
use flate2::{Compression, GzBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use tar::{Builder, EntryType, Header};

use crate::tree::{Choice, Entry, Kind, lies_in, walk};
use crate::whole::{BUFFER, Hashed, below};
use crate::{Output, link, trouble};

/// The time of every entry: 2000-01-01T00:00:00Z in seconds since 1970, as a step's clock without the grant `clock` has it.
/// Not 0, which some programs take for no time at all.
const MODIFIED_S: u64 = 946_684_800;

/// `rw-r--r--`, and `rwxr-xr-x` for folders and for what the workflow calls executable.
const MODE: u32 = 0o644;
const MODE_EXECUTABLE: u32 = 0o755;

/// gzip's code for an unknown system: what packed it must not show.
const GZIP_SYSTEM: u8 = 255;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Packing {
    /// The folder to pack. Paths in the archive start below it.
    #[schemars(length(min = 1))]
    folder: String,
    /// The archive. Its end says which kind: `.tar`, `.tar.gz` or `.tgz`.
    #[schemars(regex(pattern = r"\.(tar|tar\.gz|tgz)$"))]
    to: String,
    /// Patterns of the files that are meant. Without any, all are, and empty folders as well.
    #[serde(default, rename = "match")]
    #[schemars(length(max = 100))]
    wanted: Vec<String>,
    /// Patterns of files that are not meant all the same.
    #[serde(default)]
    #[schemars(length(max = 100))]
    except: Vec<String>,
    /// Patterns of files that are programs: whoever unpacks the archive may execute them.
    #[serde(default)]
    #[schemars(length(max = 100))]
    executable: Vec<String>,
}

impl Packing {
    pub(crate) fn run(mut self, context: &Context) -> Result<Output, Failure> {
        let gzip = match self.to.as_str() {
            to if to.ends_with(".tar") => false,
            to if to.ends_with(".tar.gz") || to.ends_with(".tgz") => true,
            to => {
                return Err(Failure::invalid_input(format!(
                    "`{to}` does not say what kind of archive it is: its name ends with `.tar`, `.tar.gz` or `.tgz`"
                )));
            }
        };
        let mut choice = Choice::new(&self.wanted, &self.except)?;
        let executable = Choice::only(&self.executable)?;
        self.folder = files::check_folder(&self.folder, Access::Read)?;
        if lies_in(&self.to, &self.folder) {
            // An archive from before is not part of the folder.
            choice.leave_out(&self.folder, &self.to);
        }
        let entries = walk(&self.folder, &choice)?;
        let mut file = Hashed::begin(context, &self.to)?;
        match gzip {
            false => self.pack(&entries, &executable, &mut file)?,
            true => {
                let builder = GzBuilder::new().mtime(0).operating_system(GZIP_SYSTEM);
                let mut compressed = builder.write(&mut file, Compression::default());
                self.pack(&entries, &executable, &mut compressed)?;
                compressed.finish().map_err(|error| trouble::io(&self.to, "written", &error))?;
            }
        }
        let (digest, bytes): (Digest, u64) = file.finish()?;
        let files = entries.iter().filter(|entry| entry.is_file()).count() as u64;
        log::info!("packed {} into {}: {files} files, {bytes} bytes", self.folder, self.to);
        Ok(Output { digest: Some(digest), files, bytes, ..Output::default() })
    }

    fn pack(&self, entries: &[Entry], executable: &Choice, out: impl Write) -> Result<(), Failure> {
        let mut archive = Builder::new(out);
        for entry in entries {
            let path = below(&self.folder, &entry.path);
            let fault = |error: io::Error| trouble::io(&path, "packed", &error);
            match &entry.kind {
                Kind::Folder => {
                    let mut header = header(EntryType::Directory, MODE_EXECUTABLE, 0);
                    archive.append_data(&mut header, format!("{}/", entry.path), io::empty()).map_err(fault)?;
                }
                Kind::Special => (),
                Kind::Link { target } => {
                    link::check(&path, &entry.path, target, "packed")?;
                    let mut header = header(EntryType::Symlink, MODE_EXECUTABLE, 0);
                    archive.append_link(&mut header, &entry.path, target).map_err(fault)?;
                }
                Kind::File { bytes } => {
                    let mode = if executable.takes(&entry.path) { MODE_EXECUTABLE } else { MODE };
                    let mut header = header(EntryType::Regular, mode, *bytes);
                    let file = BufReader::with_capacity(BUFFER, File::open(&path).map_err(fault)?);
                    let file = Exactly { file, left: *bytes };
                    archive.append_data(&mut header, &entry.path, file).map_err(fault)?;
                }
            }
        }
        archive.into_inner().map(drop).map_err(|error| trouble::io(&self.to, "written", &error))
    }
}

fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_mtime(MODIFIED_S);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// As many bytes of a file as its header has promised: one that grows meanwhile is cut, one that shrinks is an error.
struct Exactly {
    file: BufReader<File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..most])? {
            0 => Err(io::Error::other("it got shorter while it was packed")),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}
