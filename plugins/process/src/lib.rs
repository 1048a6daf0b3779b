//! Runs one native program and makes of how it ended what a workflow can branch on.
//!
//! Starting, limiting and killing the program is the host's; here are the words around it: which exit codes are good,
//! which are worth another try, what is read out of the output, and a message that says enough without the log.

use std::collections::BTreeMap;

use downbeat_sdk::prelude::*;
use downbeat_sdk::{TextDuration, process::Completed, process::Exit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How much of the end of each output a failure's details keep, in bytes. They travel through the journal and into
/// messages; the whole output is in the log.
const DETAILS_TAIL: usize = 4096;

/// How many of the last lines of what the program wrote a failure's message shows.
const MESSAGE_LINES: usize = 3;

/// How much of the command a failure's message shows, in characters: about two lines of a terminal. The details have all
/// of it.
const MESSAGE_COMMAND: usize = 160;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// A program's name, looked up in PATH, or an absolute path: exactly what the grant `process` names.
    #[schemars(length(min = 1))]
    program: String,
    /// Handed over as they are: no shell is in between.
    #[serde(default)]
    args: Vec<String>,
    /// Additional environment variables; each name must be granted by `env`.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Where to run; a relative path starts at the workspace if that is granted, else at an empty directory.
    working_directory: Option<String>,
    /// What the program reads from its standard input.
    stdin: Option<String>,
    /// Kill the program after this time; the failure is transient. The step's own `timeout` applies as well.
    timeout: Option<TextDuration>,
    /// Read standard output and add it to the output in this form.
    parse: Option<Parse>,
    /// Exit codes that mean success.
    #[serde(default = "zero")]
    #[schemars(length(min = 1))]
    success_codes: Vec<i32>,
    /// Exit codes that mean that trying again may help.
    #[serde(default)]
    transient_codes: Vec<i32>,
    /// Whether the program's output is copied to the log as it comes.
    #[serde(default = "yes")]
    log_output: bool,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Parse {
    /// Without white space around it, as `text`.
    Text,
    /// As JSON, as `json`.
    Json,
    /// The lines that are not empty, as `lines`.
    Lines,
}

fn zero() -> Vec<i32> {
    vec![0]
}

fn yes() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Output {
    /// One of the `success-codes`.
    exit_code: i32,
    /// The end of standard output, at most the limit `process-output`. What is no UTF-8 is replaced.
    stdout: String,
    /// The end of standard error, likewise.
    stderr: String,
    /// How many bytes are missing from the beginning of `stdout`.
    stdout_dropped: u64,
    /// How many bytes are missing from the beginning of `stderr`.
    stderr_dropped: u64,
    /// Wall time in milliseconds, rounded up; 0 without the grant `clock`.
    elapsed_ms: u64,
    /// With `parse = "text"`: standard output without white space around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// With `parse = "json"`: the JSON value that was written to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    /// With `parse = "lines"`: the lines of standard output that are not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<String>>,
}

/// Runs a native program and fails when it does.
#[step(wants(
    process = "runs the program that the workflow names",
    env = "hands environment variables to the program",
    files = "runs the program in a directory that the workflow names",
    workspace = "runs the program in the run's workspace",
    clock = "tells how long the program took"
))]
fn run_program(input: Input) -> Result<Output, Failure> {
    let mut command = process::Command::new(&input.program)
        .args(&input.args)
        .stdin(input.stdin.clone().unwrap_or_default())
        .log_output(input.log_output);
    command.environment = input.env.clone().into_iter().collect();
    command.working_directory = input.working_directory.clone();
    command.timeout = input.timeout.map(|timeout| timeout.0);

    match command.run() {
        Ok(completed) => match completed.exit {
            Exit::Code(code) if input.success_codes.contains(&code) => output(&input, code, &completed),
            exit => Err(failure(&input, exit, &completed)),
        },
        Err(process::Error::TimedOut(completed)) => {
            let limit = input.timeout.map_or_else(String::new, |timeout| format!(" of {:?}", timeout.0));
            Err(Failure::transient(format!("`{}` ran longer than its timeout{limit} and was killed", line(&input)))
                .details(details(&input, ("timed-out", json!(true)), &completed)))
        }
        Err(error) => Err(error.into()),
    }
}

fn output(input: &Input, exit_code: i32, completed: &Completed) -> Result<Output, Failure> {
    let stdout = completed.stdout_text().into_owned();
    let (mut text, mut json, mut lines) = (None, None, None);
    match input.parse {
        None => {}
        Some(Parse::Text) => text = Some(stdout.trim().to_owned()),
        Some(Parse::Json) => json = Some(parse_json(input, &stdout, completed)?),
        Some(Parse::Lines) => {
            lines =
                Some(stdout.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect());
        }
    }
    Ok(Output {
        exit_code,
        stderr: completed.stderr_text().into_owned(),
        stdout_dropped: completed.stdout_dropped,
        stderr_dropped: completed.stderr_dropped,
        elapsed_ms: u64::try_from(completed.elapsed.as_millis()).unwrap_or(u64::MAX),
        text,
        json,
        lines,
        stdout,
    })
}

fn parse_json(input: &Input, stdout: &str, completed: &Completed) -> Result<Value, Failure> {
    serde_json::from_str(stdout).map_err(|error| {
        let cause = match completed.stdout_dropped {
            0 => error.to_string(),
            dropped => format!("its first {dropped} bytes were dropped; raise the step's limit `process-output`"),
        };
        Failure::permanent(format!("what `{}` wrote to standard output is not JSON: {cause}", line(input)))
            .details(details(input, ("exit-code", json!(0)), completed))
    })
}

fn failure(input: &Input, exit: Exit, completed: &Completed) -> Failure {
    let said = [completed.stderr_text(), completed.stdout_text()]
        .iter()
        .map(|text| last_lines(text))
        .find(|lines| !lines.is_empty())
        .map_or_else(String::new, |lines| format!(": {lines}"));
    let message = format!("`{}` ended with {exit}{said}", line(input));
    match exit {
        Exit::Code(code) => match input.transient_codes.contains(&code) {
            true => Failure::transient(message),
            false => Failure::permanent(message),
        }
        .details(details(input, ("exit-code", json!(code)), completed)),
        Exit::Signal(signal) => {
            Failure::permanent(message).details(details(input, ("signal", json!(signal)), completed))
        }
    }
}

fn details(input: &Input, (key, how): (&str, Value), completed: &Completed) -> Value {
    let tail = |bytes: &[u8]| {
        let bytes = &bytes[bytes.len().saturating_sub(DETAILS_TAIL)..];
        // A cut may have gone through a character: what is left of it says nothing.
        let start = bytes.iter().take(3).take_while(|byte| (**byte & 0xc0) == 0x80).count();
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    };
    json!({
        "program": input.program,
        "args": input.args,
        key: how,
        "stdout": tail(&completed.stdout),
        "stderr": tail(&completed.stderr),
    })
}

/// The command as a person would read it. Not quoted for a shell, because none was there.
fn line(input: &Input) -> String {
    let line = std::iter::once(&input.program).chain(&input.args).map(String::as_str).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_COMMAND) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
