//! `glob`: which files a folder has.

use downbeat_sdk::Failure;
use downbeat_sdk::files::{self, Access};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Output;
use crate::tree::{Choice, walk};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Finding {
    /// Where to look.
    #[schemars(length(min = 1))]
    folder: String,
    /// Patterns of the files that are meant, such as `src/**/*.rs`. Without any, all are.
    #[serde(default, rename = "match")]
    #[schemars(length(max = 100))]
    wanted: Vec<String>,
    /// Patterns of files that are not meant all the same, such as `target/**`.
    #[serde(default)]
    #[schemars(length(max = 100))]
    except: Vec<String>,
}

impl Finding {
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let choice = Choice::new(&self.wanted, &self.except)?;
        let folder = files::check_folder(&self.folder, Access::Read)?;
        let entries = walk(&folder, &choice)?;
        let paths: Vec<String> = entries.into_iter().filter(|entry| entry.is_file()).map(|entry| entry.path).collect();
        Ok(Output { files: paths.len() as u64, paths: Some(paths), ..Output::default() })
    }
}
