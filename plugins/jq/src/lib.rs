//! Transforms JSON with a filter in the language of jq.
//!
//! Here is the step's input and output and how many results it wants; running a filter and saying what is wrong with it
//! is in `filter`, turning its values into JSON in `json`. The language itself is jaq's, a jq in Rust. An endless filter
//! and one that hoards are not stopped here: time and memory are the sandbox's.

mod filter;
mod json;

use std::collections::BTreeMap;

use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long a filter may be, in bytes: some thousand lines. What is longer is a program, and belongs into a step of its own.
const FILTER_BYTES: usize = 64 << 10;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// The program, such as `.items | map(.price) | add`.
    #[schemars(length(min = 1, max = FILTER_BYTES))]
    filter: String,
    /// What the filter is given: its `.`.
    #[serde(default)]
    value: Value,
    /// More values, by name: `vars.limit` is `$limit` in the filter.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }))]
    vars: BTreeMap<String, Value>,
    /// Which of the filter's results are wanted.
    #[serde(default)]
    results: Wanted,
    /// How many results `results = "all"` gives at most; more of them fail the step.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_results: usize,
}

/// A filter gives any number of results, one after the other.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Wanted {
    /// Exactly one, as `result`. None and several fail the step.
    #[default]
    One,
    /// The first, as `result`; what would come after it is not computed. None fails the step.
    First,
    /// All of them, as the list `results`.
    All,
}

/// Ten thousand: more than people write rules about, and a filter that never ends giving results is found at once.
fn ten_thousand() -> usize {
    10_000
}

#[derive(Default, Serialize, JsonSchema)]
struct Output {
    /// With `results = "one"` or `"first"`: the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// With `results = "all"`: the results, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<Value>>,
}

/// Transforms JSON with a jq filter.
#[step(wants(clock = "tells the filter what time it is (`now`)"))]
fn jq(input: Input) -> Result<Output, Failure> {
    if input.filter.len() > FILTER_BYTES {
        return Err(Failure::invalid_input(format!("`filter` is longer than {FILTER_BYTES} bytes")));
    }
    // One more than wanted is enough to know that there are too many.
    let most = match input.results {
        Wanted::One => 2,
        Wanted::First => 1,
        Wanted::All => input.max_results.saturating_add(1),
    };
    let mut results = filter::run(&input.filter, input.value, input.vars, most)?;
    match (input.results, results.len()) {
        (Wanted::All, count) if count > input.max_results => Err(Failure::permanent(format!(
            "the filter gives more than {} results; narrow it, collect them in a list with `[…]`, or raise `max-results`",
            input.max_results
        ))),
        (Wanted::All, _) => Ok(Output { results: Some(results), ..Output::default() }),
        (_, 0) => Err(Failure::permanent(
            "the filter gives no result; write `results = \"all\"` if there may be none, or give one with `… // null`",
        )),
        (Wanted::One, 2..) => Err(Failure::permanent(
            "the filter gives more than one result; collect them in a list with `[…]`, or write `results = \"all\"` or \
             `results = \"first\"`",
        )),
        _ => Ok(Output { result: results.pop(), ..Output::default() }),
    }
}

#[cfg(test)]
mod tests;
