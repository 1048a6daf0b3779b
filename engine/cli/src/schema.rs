//! `downbeat schema`: the JSON Schemas of what people write and of what programs read.

use downbeat_workflow::spec;

use crate::arguments::{Described, Schema};
use crate::exit::{Exit, Fault};
use crate::stream;
use crate::talk;

pub(crate) fn schema(arguments: &Schema) -> Result<Exit, Fault> {
    let schema = match arguments.of {
        Described::Workflow => spec::json_schema(),
        Described::Events => stream::json_schema(),
    };
    let text = serde_json::to_string_pretty(&schema).expect("a schema holds nothing that JSON can't");
    talk::put_json(&text)?;
    Ok(Exit::Success)
}
