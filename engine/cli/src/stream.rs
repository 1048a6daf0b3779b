//! The event stream as JSON lines: the journal's records with names in place of numbers.
//!
//! One object a line: `event` (the journal's name for it), `run`, `at` (RFC 3339, UTC), and the event's own fields; between
//! them, lines of logs (`attempt-logged`). Fields may be added; none is renamed.

mod schema;

use downbeat_journal::LogLine;
use downbeat_workflow::event::{Event, Record, RunId};
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::scope::Scopes;
use serde_json::{Map, Value};

use crate::units;

pub(crate) use schema::json_schema;

/// By what the numbers in events are replaced.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) plan: &'a Plan,
    /// Those that have opened by then.
    pub(crate) scopes: &'a Scopes,
}

impl Names<'_> {
    /// How people call a step of the run; a step that it does not have, by its number.
    pub(crate) fn step(self, step: StepId) -> String {
        match self.scopes.find(step) {
            Some(_) => self.scopes.path(self.plan, step),
            None => step.0.to_string(),
        }
    }
}

/// The object for one record.
pub(crate) fn object(names: Names<'_>, run: &RunId, record: &Record) -> Value {
    let (name, fields) = flattened(&record.event);
    let mut object = Map::new();
    object.insert("event".into(), name.into());
    object.insert("run".into(), run.to_string().into());
    object.insert("at".into(), units::time(record.at).into());
    for (key, mut value) in fields {
        name_indices(names, &key, &mut value);
        object.insert(key, value);
    }
    Value::Object(object)
}

/// An event's name and fields, with indices where the stream has names.
fn flattened(event: &Event) -> (String, Map<String, Value>) {
    let tagged = serde_json::to_value(event).expect("an event holds nothing that JSON can't");
    // Externally tagged: a name alone, or an object with the name as its only key.
    match tagged {
        Value::String(name) => (name, Map::new()),
        Value::Object(tagged) => match tagged.into_iter().next() {
            Some((name, Value::Object(fields))) => (name, fields),
            _ => unreachable!("an event with data is an object of one object"),
        },
        _ => unreachable!("an event is a name or an object"),
    }
}

/// The object for a line of an attempt's log, which is no record but belongs to the stream.
pub(crate) fn log_object(names: Names<'_>, run: &RunId, line: &LogLine) -> Value {
    serde_json::json!({
        "event": "attempt-logged",
        "run": run.to_string(),
        "at": units::time(line.at),
        "step": names.step(line.step),
        "attempt": line.attempt,
        "level": line.level.as_str(),
        "message": line.message,
    })
}

fn name_indices(names: Names<'_>, key: &str, value: &mut Value) {
    let index = value.as_u64().map(|index| index as u32);
    match (key, index, &mut *value) {
        ("step", Some(index), _) => *value = names.step(StepId(index)).into(),
        ("pool", Some(index), _) => *value = names.plan.pools[index as usize].name.clone().into(),
        // A step's output is its own business: `step` in there is no index.
        ("reason", _, Value::Object(reason)) => {
            for (key, value) in reason.iter_mut() {
                let field = match key.as_str() {
                    "need-not-met" => "need",
                    "not-needed" | "scope-ended" => "by",
                    _ => continue,
                };
                if let Some(step) = value.get_mut(field) {
                    name_indices(names, "step", step);
                }
            }
        }
        _ => (),
    }
}
