//! The smallest step there is: a name in, a greeting out, a line in the log.

use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Whom to greet.
    #[schemars(length(min = 1))]
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// The greeting.
    greeting: String,
}

/// Greets somebody.
#[step]
fn hello(input: Input) -> Result<Output, Failure> {
    let name = input.name.trim();
    if name.is_empty() {
        return Err(Failure::invalid_input("`name` is empty: whom shall I greet?"));
    }
    log::info!("greeting {name}");
    progress::report(1, 1, format!("greeted {name}"));
    Ok(Output { greeting: format!("Hello, {name}!") })
}

#[cfg(test)]
mod tests;
