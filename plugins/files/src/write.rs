//! `write` and `make-folder`: what is made new.

use std::io::Write as _;

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::{Context, Failure, log};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::whole::{Hashed, make_folders};
use crate::{Output, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Writing {
    /// The file. Folders above it are made; a file that is there is replaced.
    #[schemars(length(min = 1))]
    path: String,
    /// The text to write. Either this or `json`.
    text: Option<String>,
    /// A value to write as JSON, indented, with a line end after it.
    json: Option<Value>,
}

impl Writing {
    pub(crate) fn run(self, context: &Context) -> Result<Output, Failure> {
        let text = match (self.text, self.json) {
            (Some(text), None) => text,
            (None, Some(value)) => serde_json::to_string_pretty(&value)? + "\n",
            _ => return Err(Failure::invalid_input("`write` needs either `text` or `json`, what the file shall hold")),
        };
        let mut file = Hashed::begin(context, &self.path)?;
        file.write_all(text.as_bytes()).map_err(|error| trouble::io(&self.path, "written", &error))?;
        let (digest, bytes) = file.finish()?;
        log::info!("wrote {}: {bytes} bytes", self.path);
        Ok(Output { digest: Some(digest), files: 1, bytes, ..Output::default() })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Folder {
    /// The folder.
    #[schemars(length(min = 1))]
    path: String,
}

impl Folder {
    pub(crate) fn run(self) -> Result<Output, Failure> {
        make_folders(&files::check_folder(&self.path, Access::Write)?)?;
        Ok(Output::default())
    }
}
