//! A guest that leaves a trace of every attempt, so that a test can tell what was executed from what was recorded.
//!
//! The trace is a directory that is made, because that is one act: it happens or it does not, and never twice. What it
//! answers depends on its input alone, so that a run which was killed has the outputs of one which was not.

use std::fs;
use std::path::Path;

use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// Where traces are left: a directory that is granted.
    directory: String,
    /// What the answer is made of.
    terms: Vec<u64>,
    /// Attempts before this one fail, and may be tried again.
    #[serde(default = "one")]
    first_success: u32,
}

fn one() -> u32 {
    1
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// Of the terms, and one.
    sum: u64,
}

/// Leaves a trace of every attempt and answers a sum.
#[step(wants(files = "leaves a trace of every attempt"))]
fn witness(context: &Context, input: Input) -> Result<Output, Failure> {
    let of_step = Path::new(&input.directory).join(&context.idempotency_key);
    fs::create_dir_all(&of_step)?;
    fs::create_dir(of_step.join(context.attempt.to_string()))?;
    if context.attempt < input.first_success {
        return Err(Failure::transient(format!("attempt {} is too early", context.attempt)));
    }
    Ok(Output { sum: input.terms.iter().sum::<u64>() + 1 })
}
