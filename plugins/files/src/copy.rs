//! `copy`: a file, or a folder with what is in it.

use std::fs::{self, File};

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Context, Failure, log};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tree::{Choice, Kind, lies_in, walk};
use crate::whole::{Whole, below, folder_of, make_folders, pour};
use crate::{Output, link, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Copying {
    /// The file or folder to copy.
    #[schemars(length(min = 1))]
    from: String,
    /// The copy itself, not the folder that it goes into. Files that are there are replaced, others stay.
    #[schemars(length(min = 1))]
    to: String,
    /// For a folder: patterns of the files that are meant. Without any, all are, and empty folders as well.
    #[serde(default, rename = "match")]
    #[schemars(length(max = 100))]
    wanted: Vec<String>,
    /// For a folder: patterns of files that are not meant all the same.
    #[serde(default)]
    #[schemars(length(max = 100))]
    except: Vec<String>,
}

impl Copying {
    pub(crate) fn run(mut self, context: &Context) -> Result<Output, Failure> {
        let choice = Choice::new(&self.wanted, &self.except)?;
        self.from = files::check_file(&self.from, Access::Read)?;
        self.to = files::check_file(&self.to, Access::Write)?;
        let metadata = fs::metadata(&self.from).map_err(|error| trouble::io(&self.from, "copied", &error))?;
        let output = match metadata.is_dir() {
            true => self.copy_folder(context, &choice)?,
            false => {
                choice.only_for_folders(&self.from)?;
                let bytes = copy_file(context, &self.from, &self.to)?;
                Output { files: 1, bytes, ..Output::default() }
            }
        };
        log::info!("copied {} to {}: {} files, {} bytes", self.from, self.to, output.files, output.bytes);
        Ok(output)
    }

    fn copy_folder(&self, context: &Context, choice: &Choice) -> Result<Output, Failure> {
        if lies_in(&self.to, &self.from) {
            return Err(Failure::invalid_input(format!(
                "`{}` can't be copied into itself, to `{}`",
                self.from, self.to
            )));
        }
        let mut output = Output::default();
        let entries = walk(&self.from, choice)?;
        make_folders(&self.to)?;
        for entry in entries {
            let (from, to) = (below(&self.from, &entry.path), below(&self.to, &entry.path));
            match &entry.kind {
                Kind::Folder => {
                    make_folders(&to)?;
                    continue;
                }
                Kind::Special => continue,
                Kind::File { .. } => output.bytes += copy_file(context, &from, &to)?,
                Kind::Link { target } => {
                    link::check(&from, &entry.path, target, "copied")?;
                    make_folders(folder_of(&to))?;
                    link::make(target, &to)?;
                }
            }
            output.files += 1;
        }
        Ok(output)
    }
}

fn copy_file(context: &Context, from: &str, to: &str) -> Result<u64, Failure> {
    let mut source = File::open(from).map_err(|error| trouble::io(from, "copied", &error))?;
    let mut copy = Whole::begin(context, to)?;
    pour(&mut source, &mut copy).map_err(|error| trouble::io(from, "copied", &error))?;
    copy.finish()
}
