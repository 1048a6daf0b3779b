//! `unpack`: an archive becomes a folder. The archive may be hostile.
//!
//! It is read twice. The first time it is judged, whole: every name, every link, the number of entries and of bytes. Only
//! then, the second time, it is written; so what is refused leaves nothing behind. What would be written through a link
//! (one of the archive's or one that lies in the folder) is refused. Reading entries is in `member`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Failure, log};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::member::{self, Bounds, Content, Member};
use crate::whole::{below, folder_of, make_folders, pour};
use crate::{Output, link, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Unpacking {
    /// The archive: tar, as it is or compressed by gzip. Its content says which, not its name.
    #[schemars(length(min = 1))]
    archive: String,
    /// The folder to unpack into. Files that are there are replaced, others stay.
    #[schemars(length(min = 1))]
    to: String,
    /// How many leading names of each path are left out. Entries that have no more names than that are skipped.
    #[serde(default)]
    #[schemars(range(max = 64))]
    strip: usize,
    /// How many bytes the archive may have, uncompressed.
    #[serde(default = "one_gib")]
    #[schemars(range(min = 1))]
    max_bytes: u64,
    /// How many entries the archive may have.
    #[serde(default = "hundred_thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_entries: usize,
}

/// What one artifact may have by default: the layer of a container image fits, and a small archive that swells to more
/// is an attack.
fn one_gib() -> u64 {
    1 << 30
}

/// As many as a walk through a folder looks at: a large repository.
fn hundred_thousand() -> usize {
    crate::tree::ENTRIES_MAX
}

impl Unpacking {
    pub(crate) fn run(mut self) -> Result<Output, Failure> {
        self.archive = files::check_file(&self.archive, Access::Read)?;
        self.to = files::check_folder(&self.to, Access::Write)?;
        let bounds = Bounds { bytes: self.max_bytes, entries: self.max_entries, strip: self.strip };

        let mut judge = Judge::new(&self.archive);
        member::each(&self.archive, bounds, &mut |member, _| judge.judge(member))?;

        make_folders(&self.to)?;
        let mut output = Output::default();
        let mut executable = 0_u64;
        // Judged again: nobody promises that it is still the same file.
        let mut judge = Judge::new(&self.archive);
        member::each(&self.archive, bounds, &mut |member, content| {
            judge.judge(member)?;
            executable += u64::from(member.executable);
            output.files += u64::from(member.content != Content::Folder);
            output.bytes += self.write(member, content)?;
            Ok(())
        })?;
        log::info!("unpacked {} into {}: {} files, {} bytes", self.archive, self.to, output.files, output.bytes);
        if executable > 0 {
            log::warn!(
                "{executable} of the files are programs, which can't be executed from here: a sandbox sets no modes"
            );
        }
        Ok(output)
    }

    /// Writes one member and gives the number of its bytes.
    fn write(&self, member: &Member, content: &mut dyn Read) -> Result<u64, Failure> {
        let path = below(&self.to, &member.path);
        self.make_real_folders(folder_of(&member.path))?;
        match &member.content {
            Content::Folder => self.make_real_folders(&member.path).map(|()| 0),
            Content::Link { target } => link::make(target, &path).map(|()| 0),
            Content::File => {
                let mut file = create(&path)?;
                pour(content, &mut file).map_err(|error| trouble::io(&path, "written", &error))
            }
            Content::Same { path: other } => {
                let other = below(&self.to, other);
                let mut source = File::open(&other).map_err(|error| trouble::io(&other, "read", &error))?;
                let mut file = create(&path)?;
                pour(&mut source, &mut file).map_err(|error| trouble::io(&path, "written", &error))
            }
        }
    }

    /// Makes the folders of a path below the target, none of which may be a link.
    fn make_real_folders(&self, path: &str) -> Result<(), Failure> {
        let mut here = self.to.clone();
        for name in path.split('/').filter(|name| *name != ".") {
            here = below(&here, name);
            match fs::symlink_metadata(&here) {
                Ok(found) if found.is_dir() => (),
                Ok(_) => {
                    let reason = "a file or link of this name is in the way; remove it, or unpack elsewhere";
                    return Err(trouble::failed(&here, "a folder", reason));
                }
                Err(_) => fs::create_dir(&here).map_err(|error| trouble::io(&here, "made", &error))?,
            }
        }
        Ok(())
    }
}

/// A new file in the place of a file or link that may be there. One that appears in between is not followed.
fn create(path: &str) -> Result<File, Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => fs::remove_file(path).map_err(|error| trouble::io(path, "replaced", &error))?,
        _ => (),
    }
    File::create_new(path).map_err(|error| trouble::io(path, "written", &error))
}

/// What is known of the archive so far.
struct Judge<'a> {
    archive: &'a str,
    /// What each path is, with what a later entry made of it.
    seen: HashMap<String, Seen>,
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Folder,
    File,
    Link,
}

impl<'a> Judge<'a> {
    fn new(archive: &'a str) -> Judge<'a> {
        Judge { archive, seen: HashMap::new() }
    }

    fn judge(&mut self, member: &Member) -> Result<(), Failure> {
        let refuse = |reason: String| Err(member::refused(self.archive, &member.path, reason));
        let mut above = member.path.as_str();
        while let Some((folder, _)) = above.rsplit_once('/') {
            match self.seen.get(folder).copied() {
                Some(Seen::Folder) => break,
                Some(_) => {
                    return refuse(format!("it lies below `{folder}`, which is a file or a link in the archive"));
                }
                None => self.seen.insert(folder.to_owned(), Seen::Folder),
            };
            above = folder;
        }
        let this = match &member.content {
            Content::Folder => Seen::Folder,
            Content::File => Seen::File,
            Content::Link { target } if !link::stays_inside(&member.path, target) => {
                return refuse(format!("it is a link to `{target}`, which may lead out of the folder"));
            }
            Content::Link { .. } => Seen::Link,
            Content::Same { path } if self.seen.get(path) != Some(&Seen::File) => {
                return refuse(format!("it is a hard link to `{path}`, which is no file of the archive before it"));
            }
            Content::Same { .. } => Seen::File,
        };
        match self.seen.insert(member.path.clone(), this) {
            Some(before) if (before == Seen::Folder) != (this == Seen::Folder) => {
                refuse("it is a folder and something else in the archive".to_owned())
            }
            _ => Ok(()),
        }
    }
}
