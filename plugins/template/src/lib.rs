//! Makes text from JSON: reports, messages, configuration files.
//!
//! Here is the step's input and output and where templates come from: the workflow itself, or files that are granted.
//! Rendering, its bounds, and what is said when it fails is in `render`. The language is Jinja's, by minijinja.

mod render;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use downbeat_sdk::files::{self, Access};
use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::render::{Escape, Job};

/// How long one template may be, in bytes. 1 MiB: some 20,000 lines; what is longer is data.
const TEMPLATE_BYTES: u64 = 1 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// The template: its text, or where it is.
    template: Source,
    /// More templates by name, for `{% include "name" %}`, `{% extends "name" %}` and `{% import "name" as m %}`.
    #[serde(default)]
    templates: BTreeMap<String, Source>,
    /// What the templates may speak of, by name.
    #[serde(default)]
    data: Map<String, Value>,
    /// How values are written where a template does not say it itself.
    #[serde(default)]
    escape: Escape,
    /// How much work rendering may be, in minijinja's units: one for an instruction, and one for each 64 bytes of text.
    #[serde(default = "two_million")]
    #[schemars(range(min = 1, max = 100_000_000))]
    fuel: u64,
}

/// Some hundred thousand lines of a list. It also bounds what a template makes in memory, to 128 MiB: half of what the
/// limit `memory` leaves a step by default.
fn two_million() -> u64 {
    2_000_000
}

/// Where a template's text is.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a template is a text, or `{ file = \"path\" }`")]
enum Source {
    /// Here.
    Text(String),
    /// In a file below a granted directory.
    File(File),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// Its path; the directory must be granted by `files` or `workspace`.
    #[schemars(length(min = 1))]
    file: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// What came out.
    text: String,
}

/// Makes text from JSON with a Jinja template.
#[step(wants(
    files = "reads templates from files that the workflow names",
    workspace = "reads templates from the run's workspace"
))]
fn template(input: Input) -> Result<Output, Failure> {
    let main = match &input.template {
        Source::Text(_) => "template".to_owned(),
        Source::File(file) => file.file.clone(),
    };
    if input.templates.contains_key(&main) {
        return Err(Failure::invalid_input(format!(
            "`templates` has one called `{main}`, which is what the main template is called; give it another name"
        )));
    }
    let mut templates = Vec::new();
    for (name, source) in &input.templates {
        templates.push((name.clone(), text(name, source)?));
    }
    templates.push((main.clone(), text(&main, &input.template)?));
    let job = Job { main, templates, data: input.data, escape: input.escape, fuel: input.fuel };
    Ok(Output { text: job.render()? })
}

fn text(name: &str, source: &Source) -> Result<String, Failure> {
    let text = match source {
        Source::Text(text) => text.clone(),
        Source::File(File { file }) => read(file)?,
    };
    match text.len() as u64 > TEMPLATE_BYTES {
        true => Err(Failure::invalid_input(format!(
            "the template `{name}` is longer than {TEMPLATE_BYTES} bytes; move what is data into `data`"
        ))),
        false => Ok(text),
    }
}

fn read(path: &str) -> Result<String, Failure> {
    let path = &files::check_file(path, Access::Read)?;
    let fault = |reason: &dyn std::fmt::Display| {
        Failure::permanent(format!("the template file `{path}` can't be read: {reason}"))
            .details(serde_json::json!({ "path": path }))
    };
    let file = std::fs::File::open(Path::new(path)).map_err(|error| fault(&error))?;
    let mut bytes = Vec::new();
    // One more than allowed shows that there is more.
    file.take(TEMPLATE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
    let whole = bytes.len() as u64 <= TEMPLATE_BYTES;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // The bound may have cut a character, and is what is wrong then.
        Err(error) if !whole => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(error) => Err(fault(&format_args!("it is no UTF-8 after byte {}", error.utf8_error().valid_up_to()))),
    }
}

#[cfg(test)]
mod tests;
