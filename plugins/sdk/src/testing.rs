//! For an author's native tests: a host in memory, and ways to run a step as the engine does.
//!
//! Call the function itself for its logic. [`run`] goes the whole way that the engine goes, from JSON to JSON;
//! [`describe`] shows what the checker will see.

use serde_json::Value;

pub use crate::host::{Host, Progress};
use crate::{Context, Description, Failure, Step};

/// Runs a step, named by its function, on JSON: the input is read, the output is written as in the sandbox.
///
/// # Errors
///
/// The step's failure, or the one that the SDK makes of an input or output that does not fit.
///
/// # Panics
///
/// When the output is no JSON, which would be a mistake in the SDK.
pub fn run<S: Step>(input: Value) -> Result<Value, Failure> {
    run_in::<S>(&Context::default(), input)
}

/// As [`run`], in this context.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// As [`run`].
pub fn run_in<S: Step>(context: &Context, input: Value) -> Result<Value, Failure> {
    let output = S::run(context, &input.to_string())?;
    Ok(serde_json::from_str(&output).expect("the SDK writes JSON"))
}

/// What the step says of itself.
pub fn describe<S: Step>() -> Description {
    S::describe()
}

/// The step's two schemas, of input and output.
///
/// # Panics
///
/// When a schema is no JSON, which would be a mistake in the SDK.
pub fn schemas<S: Step>() -> (Value, Value) {
    let description = S::describe();
    let parse = |schema: &str| serde_json::from_str(schema).expect("the SDK writes JSON");
    (parse(&description.input_schema), parse(&description.output_schema))
}
