//! `remove`: a file, or a folder with what is in it. Links are removed, not what they lead to.

use std::{fs, io};

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Failure, log};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tree::{Choice, walk};
use crate::whole::below;
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
        let path = self.path.as_str();
        files::check_file(path, Access::Write)?;
        let fault = |error: io::Error| trouble::io(path, "removed", &error);
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Output::default()),
            metadata => metadata.map_err(fault)?,
        };
        if !metadata.is_dir() {
            fs::remove_file(path).map_err(fault)?;
            log::info!("removed {path}");
            return Ok(Output { files: 1, ..Output::default() });
        }
        if files::granted().iter().any(|directory| directory.path == path) {
            return Err(trouble::failed(path, "removed", "it is the granted directory itself; name what is in it"));
        }
        let mut output = Output::default();
        // In this order, what is in a folder comes before it.
        for entry in walk(path, &Choice::new(&[], &[])?)?.iter().rev() {
            let here = below(path, &entry.path);
            let removed = match entry.is_folder() {
                true => fs::remove_dir(&here),
                false => fs::remove_file(&here),
            };
            removed.map_err(|error| trouble::io(&here, "removed", &error))?;
            output.files += u64::from(!entry.is_folder());
        }
        fs::remove_dir(path).map_err(fault)?;
        log::info!("removed {path}: {} files", output.files);
        Ok(output)
    }
}
