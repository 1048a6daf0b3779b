//! Groups of runs that exclude each other as a whole: which one a run belongs to, before it is one.

use serde_json::Value;

use crate::json::Json;
use crate::plan::Plan;
use crate::rule::{Scope, StepView};

/// The longest name of a group, in bytes. 256: it is made of a few inputs, and told in one line.
pub const GROUP_BYTES_MAX: usize = 256;

/// From how long on it is told that a run waited for its group, in milliseconds. 100: that of a run which finds it free takes as
/// long as a commit.
pub const WAIT_TOLD_MS: u64 = 100;

/// What the name of a group is made of: nothing has run yet.
struct Given<'p> {
    plan: &'p Plan,
    inputs: Value,
}

impl Scope for Given<'_> {
    fn inputs(&self) -> &Value {
        &self.inputs
    }

    fn step(&self, _name: &str) -> Option<StepView<'_>> {
        None
    }

    fn run_id(&self) -> &str {
        ""
    }

    fn workflow_name(&self) -> &str {
        &self.plan.name
    }

    fn workflow_directory(&self) -> &str {
        &self.plan.directory
    }
}

impl Plan {
    /// The group of a run with these inputs, if the workflow has a `[concurrency]`; or why it has no name, for a person.
    pub fn group_of(&self, inputs: &Json) -> Result<Option<String>, String> {
        let Some(concurrency) = &self.concurrency else { return Ok(None) };
        let given = Given { plan: self, inputs: inputs.value() };
        let name = match concurrency.group.render(&given) {
            Ok(name) => name.value(),
            Err(error) => return Err(format!("the group of `[concurrency]` can't be made: {error}")),
        };
        let name = match name {
            Value::String(name) => name,
            other => other.to_string(),
        };
        match name.trim() {
            "" => Err("the group of `[concurrency]` has no name with these inputs".to_owned()),
            name if name.len() > GROUP_BYTES_MAX => Err(format!(
                "the name of the group of `[concurrency]` has {} bytes; at most {GROUP_BYTES_MAX} are taken",
                name.len()
            )),
            name => Ok(Some(name.to_owned())),
        }
    }
}
