//! `remove`: a file, or a folder with what is in it. Links are removed, not what they lead to.
//!
//! It walks by itself and not with `tree`: nothing is chosen, kept or sorted, so there is no bound on the number of
//! entries, and whatever is found goes, also what was only being written and names that are no UTF-8.

use std::path::{Path, PathBuf};
use std::{fs, io};

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Failure, log};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tree::lies_in;
use crate::{Output, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Removal {
    /// The file, link or folder. A granted directory itself stays; what is in it can go.
    #[schemars(length(min = 1))]
    path: String,
}

impl Removal {
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let path = files::check_file(&self.path, Access::Write)?;
        let path = path.as_str();
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Output::default()),
            metadata => metadata.map_err(|error| fault(path, &error))?,
        };
        if !metadata.is_dir() {
            fs::remove_file(path).map_err(|error| fault(path, &error))?;
            log::info!("removed {path}");
            return Ok(Output { files: 1, ..Output::default() });
        }
        if files::granted().iter().any(|directory| lies_in(path, &directory.path) && lies_in(&directory.path, path)) {
            return Err(trouble::failed(path, "removed", "it is the granted directory itself; name what is in it"));
        }
        // Up from where a link leads is anywhere below the granted directory, or that itself.
        if path.ends_with("/..") {
            return Err(trouble::failed(path, "removed", "it ends with `..`; name the folder itself"));
        }
        let files = remove_folder(path)?;
        log::info!("removed {path}: {files} files");
        Ok(Output { files, ..Output::default() })
    }
}

/// Removes a folder and gives the number of files, links and the like that were in it.
fn remove_folder(folder: &str) -> Result<u64, Failure> {
    let mut files = 0;
    // Each after the one that it lies in. A folder stays until those in it are gone, and is looked into once more then.
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(here) = folders.last() {
        let fault = |error: io::Error| fault(here, &error);
        // Read to the end first: what a list holds while its folder changes is nowhere promised.
        let entries: Vec<fs::DirEntry> = fs::read_dir(here).and_then(Iterator::collect).map_err(fault)?;
        let mut inside = Vec::new();
        for path in entries.iter().map(fs::DirEntry::path) {
            let metadata = fs::symlink_metadata(&path).map_err(|error| self::fault(&path, &error))?;
            if metadata.is_dir() {
                inside.push(path);
            } else {
                fs::remove_file(&path).map_err(|error| self::fault(&path, &error))?;
                files += 1;
            }
        }
        if inside.is_empty() {
            fs::remove_dir(here).map_err(fault)?;
            folders.pop();
        } else {
            folders.append(&mut inside);
        }
    }
    Ok(files)
}

fn fault(path: impl AsRef<Path>, error: &io::Error) -> Failure {
    trouble::io(&path.as_ref().display().to_string(), "removed", error)
}
