//! The inputs of a run: from what a person types or a file holds to the object that the run starts with.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::diagnostic::did_you_mean;
use crate::json::Json;
use crate::plan::{Input, InputType, Plan};
use crate::rule::regex;
use crate::schema::Kinds;

impl InputType {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            InputType::String => "string",
            InputType::Integer => "integer",
            InputType::Number => "number",
            InputType::Boolean => "boolean",
            InputType::List => "list",
            InputType::Object => "object",
        }
    }

    pub(crate) const ALL: [InputType; 6] = [
        InputType::String,
        InputType::Integer,
        InputType::Number,
        InputType::Boolean,
        InputType::List,
        InputType::Object,
    ];

    pub(crate) fn kinds(self) -> Kinds {
        match self {
            InputType::String => Kinds::TEXT,
            InputType::Integer => Kinds::INT,
            InputType::Number => Kinds::NUMBER,
            InputType::Boolean => Kinds::BOOL,
            InputType::List => Kinds::LIST,
            InputType::Object => Kinds::OBJECT,
        }
    }
}

/// A run's inputs together, in bytes of JSON. 16 MiB: they are journaled, and travel through rules.
pub const INPUTS_BYTES_MAX: usize = 16 << 20;

/// Reads the `v` of `--input k=v` as this type: a string as it is, anything else as JSON. The error is for a person.
pub fn parse_argument(kind: InputType, text: &str) -> Result<Value, String> {
    if kind == InputType::String {
        return Ok(text.into());
    }
    let example = match kind {
        InputType::Boolean => "`true` or `false`",
        InputType::Integer => "a whole number such as `3`",
        InputType::Number => "a number such as `0.5`",
        InputType::List => "a JSON list such as `[\"a\", \"b\"]`",
        _ => "a JSON object such as `{\"a\": 1}`",
    };
    let value = Json::parse(text.trim()).map(|json| json.value()).map_err(|_| format!("`{text}` is not {example}"))?;
    match fits(kind, &value) {
        true => Ok(value),
        false => Err(format!("`{text}` is not {example}")),
    }
}

/// Everything that is wrong with the inputs that are given, a sentence each; those that are missing are not asked for.
pub fn judge(plan: &Plan, given: &Map<String, Value>) -> Vec<String> {
    judge_declared(&plan.inputs, given)
}

fn judge_declared(declared: &BTreeMap<String, Input>, given: &Map<String, Value>) -> Vec<String> {
    let fault = |(name, value): (&String, &Value)| match declared.get(name) {
        None => Some(unknown(declared, name)),
        // `null` for what is optional says the same as leaving it out.
        Some(input) if !input.required && input.default.is_none() && value.is_null() => None,
        Some(input) => check(input, value).err().map(|reason| format!("input `{name}` {reason}")),
    };
    given.iter().filter_map(fault).collect()
}

fn unknown(declared: &BTreeMap<String, Input>, name: &str) -> String {
    match did_you_mean(name, declared.keys().map(String::as_str)) {
        Some(known) => format!("there is no input `{name}`; did you mean `{known}`?"),
        None if declared.is_empty() => format!("there is no input `{name}`: the workflow has none"),
        None => {
            let names: Vec<String> = declared.keys().map(|name| format!("`{name}`")).collect();
            format!("there is no input `{name}`; the workflow has {}", names.join(", "))
        }
    }
}

/// The run's inputs: what is given, held against what the plan declares, with the defaults filled in and `null` for what
/// is optional and not given. Or everything that is wrong with it, a sentence each.
pub fn accept(plan: &Plan, given: Map<String, Value>) -> Result<Json, Vec<String>> {
    accept_declared(&plan.inputs, given)
}

/// The same of whatever declares inputs.
pub(crate) fn accept_declared(
    declared: &BTreeMap<String, Input>,
    mut given: Map<String, Value>,
) -> Result<Json, Vec<String>> {
    let mut faults = judge_declared(declared, &given);
    let mut accepted = Map::new();
    for (name, input) in declared {
        let value = match (given.remove(name), &input.default) {
            (Some(value), _) => value,
            (None, Some(default)) => default.value(),
            (None, None) if input.required => {
                let what = match input.description.as_str() {
                    "" => format!("a value of type {}", input.kind.name()),
                    description => format!("{}: {description}", input.kind.name()),
                };
                faults.push(format!("input `{name}` is missing ({what})"));
                continue;
            }
            (None, None) => Value::Null,
        };
        accepted.insert(name.clone(), value);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let text = Value::Object(accepted).to_string();
    if text.len() > INPUTS_BYTES_MAX {
        let (have, most) = (text.len() >> 20, INPUTS_BYTES_MAX >> 20);
        return Err(vec![format!(
            "the inputs are {have} MiB of JSON; {most} MiB are the most: hand in a file's path instead"
        )]);
    }
    Json::parse(text).map_err(|error| vec![format!("the inputs are {error}")])
}

/// Whether a value is what an input takes. The error continues a sentence.
pub(crate) fn check(input: &Input, value: &Value) -> Result<(), String> {
    if !fits(input.kind, value) {
        return Err(format!("has to be {}, not {}", input.kind.kinds(), Kinds::of(value)));
    }
    if !input.options.is_empty() && !input.options.iter().any(|option| same(&option.value(), value)) {
        let options: Vec<&str> = input.options.iter().map(Json::as_str).collect();
        return Err(format!("can't be {value}; it is one of {}", options.join(", ")));
    }
    if let (Some(pattern), Some(text)) = (&input.pattern, value.as_str()) {
        let regex = regex(pattern).map_err(|reason| format!("can't be checked: {reason}"))?;
        if !regex.is_match(text) {
            return Err(format!("has to match the pattern `{pattern}`, which {value} does not"));
        }
    }
    Ok(())
}

pub(crate) fn fits(kind: InputType, value: &Value) -> bool {
    match kind {
        InputType::Integer => value.as_i64().is_some(),
        kind => Kinds::of(value).within(kind.kinds()),
    }
}

/// Equal, numbers by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
