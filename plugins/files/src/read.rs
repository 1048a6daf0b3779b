//! `read`: a text file becomes text, JSON or lines.

use std::fs::File;
use std::io::Read as _;

use downbeat_sdk::Failure;
use downbeat_sdk::files::{self, Access};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Output, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Reading {
    /// The file.
    #[schemars(length(min = 1))]
    path: String,
    /// What to make of it.
    #[serde(default)]
    parse: Parse,
    /// The largest file that is read, in bytes.
    #[serde(default = "four_mib")]
    #[schemars(range(min = 1))]
    max_bytes: u64,
}

/// What to make of a file's text.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Parse {
    /// As it is, as `text`.
    #[default]
    Text,
    /// As JSON, as `json`.
    Json,
    /// The lines that are not empty, as `lines`.
    Lines,
}

/// A quarter of what the limit `output` allows by default: escaped as JSON, a text grows.
fn four_mib() -> u64 {
    4 << 20
}

impl Reading {
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let path = files::check_file(&self.path, Access::Read)?;
        let path = path.as_str();
        let file = File::open(path).map_err(|error| trouble::io(path, "read", &error))?;
        let mut bytes = Vec::new();
        // One more than allowed shows that there is more.
        file.take(self.max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| trouble::io(path, "read", &error))?;
        let size = bytes.len() as u64;
        if size > self.max_bytes {
            let reason = format!("it has more than {} bytes, which `max-bytes` allows", self.max_bytes);
            return Err(trouble::failed(path, "read", reason));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            trouble::failed(path, "read", format!("it is no UTF-8 after byte {valid}"))
        })?;
        let output = Output { files: 1, bytes: size, ..Output::default() };
        Ok(match self.parse {
            Parse::Text => Output { text: Some(text), ..output },
            Parse::Json => {
                let value = serde_json::from_str(&text)
                    .map_err(|error| trouble::failed(path, "read", format!("it is no JSON: {error}")))?;
                Output { json: Some(value), ..output }
            }
            Parse::Lines => {
                let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned);
                Output { lines: Some(lines.collect()), ..output }
            }
        })
    }
}
