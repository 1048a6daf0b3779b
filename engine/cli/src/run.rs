//! `downbeat run`: a workflow file and inputs in, a finished run out.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{InputType, Plan};
use serde_json::{Map, Value};

use crate::arguments::Run;
use crate::drive::{self, Driven};
use crate::exit::{Exit, Fault};
use crate::files::read_text;
use crate::place::Place;
use crate::policy::Guard;
use crate::screen::Style;
use crate::workflow_file;

pub(crate) fn run(place: &Place, arguments: &Run) -> Result<Exit, Fault> {
    let (guard, sandbox) = (Guard::of(place)?, place.sandbox()?);
    let plan = workflow_file::load(&arguments.workflow, &arguments.with, &sandbox, &guard)?;
    let inputs = gather_inputs(&plan, &arguments.input, arguments.inputs.as_deref())?;
    let (journal, plan, style) = (place.drive()?, Arc::new(plan), Style::fitting(arguments.json));
    let driven =
        Driven { place, journal, sandbox, plan: plan.clone(), style, before: Vec::new(), cache: !arguments.no_cache };
    drive::drive(driven, async |conductor| conductor.start_at(plan, inputs, arguments.priority).await)
}

/// All inputs, judged; or all that is wrong with them: those of `--input`, and the object in the file of `--inputs`.
pub(crate) fn gather_inputs(plan: &Plan, arguments: &[String], file: Option<&Path>) -> Result<Json, Fault> {
    gather_inputs_over(Map::new(), plan, arguments, file)
}

/// The same where some are known already; what is given now wins.
pub(crate) fn gather_inputs_over(
    mut given: Map<String, Value>,
    plan: &Plan,
    arguments: &[String],
    file: Option<&Path>,
) -> Result<Json, Fault> {
    let mut faults = Vec::new();
    if let Some(path) = file {
        match read_text(path).and_then(|text| parse_object(&text)) {
            Ok(object) => given.extend(object),
            Err(error) => faults.push(format!("--inputs {}: {error}", path.display())),
        }
    }
    let mut typed = BTreeSet::new();
    for argument in arguments {
        match parse_input(plan, argument) {
            // One may stand in a script, the other be meant for this run: nobody knows which.
            Ok((name, _)) if !typed.insert(name.clone()) => {
                faults.push(format!("--input {argument}: `{name}` is given twice"));
            }
            Ok((name, value)) => drop(given.insert(name, value)),
            Err(fault) => faults.push(format!("--input {argument}: {fault}")),
        }
    }
    if faults.is_empty() {
        match inputs::accept(plan, given) {
            Ok(inputs) => return Ok(inputs),
            Err(all) => faults = all,
        }
    } else {
        // What could not be read may be what seems to be missing, so only what is there is judged.
        faults.extend(inputs::judge(plan, &given));
    }
    let plural = if faults.len() == 1 { "an input is wrong" } else { "inputs are wrong" };
    Err(Fault::refused(format!("{plural}; nothing was run\n  - {}", faults.join("\n  - "))))
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it must hold a JSON object, as in {\"name\": \"Ada\"}".to_owned()),
        Err(error) => Err(format!("not valid JSON: {error}")),
    }
}

fn parse_input(plan: &Plan, argument: &str) -> Result<(String, Value), String> {
    let (name, text) = argument.split_once('=').ok_or("write NAME=VALUE")?;
    let text = match text.strip_prefix('@') {
        Some(path) => read_text(path.as_ref()).map_err(|error| format!("{path}: {error}"))?,
        None => text.to_owned(),
    };
    // An input that does not exist is reported with all the others, by `accept`.
    let kind = plan.inputs.get(name).map_or(InputType::String, |input| input.kind);
    Ok((name.to_owned(), inputs::parse_argument(kind, &text)?))
}
