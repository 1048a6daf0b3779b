//! Tells the ends of a guest apart: what it said itself, what the host had to stop, and what broke. The engine branches on
//! the kind; the message is for a person; the backtrace is the guest's own, innermost frame first.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use downbeat_workflow::capability::Limits;
use downbeat_workflow::event::{Failure, FailureKind};
use downbeat_workflow::json::Json;
use downbeat_workflow::units::size;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::attempt::failed;
use crate::bindings::exports::downbeat::step::step;
use crate::host::log::Log;
use crate::replace::Replacer;
use crate::store::{DeadlinePassed, HANDLES_MAX, MESSAGE_MAX};
use crate::text;

/// Bytes of a message that are kept. Journaled with every failure; a page of text is 4 KiB.
const MESSAGE_TEXT_MAX: usize = 64 << 10;

/// Bytes of details that are kept: facts, not payload. Payload is an artifact.
const DETAILS_MAX: usize = 256 << 10;

/// Bytes of a backtrace that are kept: some 150 frames. The innermost ones come first, and those tell.
const BACKTRACE_MAX: usize = 16 << 10;

/// The guest said itself that it failed. What has to be blotted out of it is, before it is cut: the beginning of a secret would
/// not be known for one.
pub(crate) fn of_guest(failure: step::Failure, redactor: Option<&Replacer>) -> Failure {
    let (kind, message, details, retry_after_ms) = match failure {
        step::Failure::InvalidInput(p) => (FailureKind::InvalidInput, p.message, p.details, None),
        step::Failure::Transient(s) => (FailureKind::Transient, s.message, s.details, s.retry_after_ms),
        step::Failure::Permanent(p) => (FailureKind::Permanent, p.message, p.details, None),
    };
    let message = redactor.map_or(Cow::Borrowed(&*message), |redactor| redactor.text(&message));
    let mut message = text::message(&message, MESSAGE_TEXT_MAX);
    let details = details.and_then(|details| match parse_details(details) {
        Ok(details) => Some(details),
        Err(why) => {
            write!(message, " (its details were dropped: {why})").expect("writing to a string succeeds");
            None
        }
    });
    Failure { kind, message, details, backtrace: None, retry_after_ms }
}

fn parse_details(details: String) -> Result<Json, String> {
    if details.len() > DETAILS_MAX {
        return Err(format!("{} bytes, and the bound is {DETAILS_MAX}", details.len()));
    }
    if !details.trim_start().starts_with('{') {
        return Err("they are not a JSON object".into());
    }
    Json::parse(details).map_err(|error| error.to_string())
}

/// The guest answered: is it an answer?
pub(crate) fn of_output(output: String, limits: &Limits) -> Result<Json, Failure> {
    if output.len() as u64 > limits.output {
        let message = format!(
            "the output has {} bytes, and the limit `output` is {}; {}; large data is handed over as an artifact",
            output.len(),
            limits.output,
            limits.way_to_more("output")
        );
        return Err(failed(FailureKind::Limit { limit: "output".into() }, message));
    }
    Json::parse(output).map_err(|error| failed(FailureKind::InvalidOutput, format!("the output is {error}")))
}

/// A program was stopped by a limit. What the guest makes of it is its own words for that, to which it is added if the
/// workflow is not to blame for the limit.
pub(crate) fn of_program(failure: Failure, limit: &str, limits: &Limits) -> Failure {
    let by = limits.lowered_by(limit).filter(|by| !failure.message.contains(by));
    let message = match by {
        Some(_) => format!("{}; of the limit `{limit}`: {}", failure.message, limits.way_to_more(limit)),
        None => failure.message,
    };
    Failure { kind: FailureKind::Limit { limit: limit.into() }, message, ..failure }
}

/// The attempt took too long.
pub(crate) fn timed_out(timeout: Duration, limits: &Limits, backtrace: Option<String>) -> Failure {
    let mut message = format!("the attempt took longer than its time-out of {timeout:?}");
    if limits.lowered_by("timeout").is_some() {
        message = format!("{message}; {}", limits.way_to_more("timeout"));
    }
    Failure { backtrace, ..failed(FailureKind::TimedOut, message) }
}

/// The guest did not come back by itself. `denied` is the limit that the meter enforced, if any. A breakdown is told with
/// what the guest said last in its log, which has to be complete by now.
pub(crate) fn of_error(
    error: &wasmtime::Error,
    denied: Option<&'static str>,
    limits: &Limits,
    timeout: Duration,
    log: &Log,
) -> Failure {
    let mut failure = judge(error, denied, limits, timeout);
    if failure.kind == FailureKind::Trap
        && let Some(words) = log.last_words()
    {
        write!(failure.message, "; its last words: {words}").expect("writing to a string succeeds");
    }
    failure
}

fn judge(error: &wasmtime::Error, denied: Option<&'static str>, limits: &Limits, timeout: Duration) -> Failure {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(backtrace);
    if error.is::<DeadlinePassed>() {
        return timed_out(timeout, limits, backtrace);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return failed(FailureKind::Host, format!("no room for the instance: {error:#}"));
    }
    if let Some(limit) = denied {
        let message = match limit {
            "memory" => format!(
                "the component asked for more than the limit `memory` of {}, and then broke down ({}); {}",
                size(limits.memory),
                reason(error),
                limits.way_to_more(limit)
            ),
            _ => format!(
                "the component asked for more than the limit `{limit}` of {} elements, and then broke down ({}); {}",
                limits.table_elements,
                reason(error),
                limits.way_to_more(limit)
            ),
        };
        return Failure { backtrace, ..failed(FailureKind::Limit { limit: limit.into() }, message) };
    }
    // The host's table and the component's own have the same bound; a handle that is lent counts as well. wasmtime keeps the
    // types of this error and the next two to itself; tests hold the texts.
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    if full || root_text(error).contains("handle limit exceeded") {
        let message = format!(
            "the component held more than {HANDLES_MAX} handles at once (streams, files, requests, moments to wait for)"
        );
        return Failure { backtrace, ..failed(FailureKind::Limit { limit: "handles".into() }, message) };
    }
    if let Some(what) = root_text(error).strip_prefix("resource limit exceeded: ") {
        let message = format!("the component is made of too many core instances ({what})");
        return Failure { backtrace, ..failed(FailureKind::Limit { limit: "instances".into() }, message) };
    }
    if root_text(error).contains("fuel allocated for hostcalls has been exhausted") {
        // Without a frame, the guest was not running: what was too large is its answer.
        let most = limits.output.max(MESSAGE_MAX as u64);
        if backtrace.is_none() {
            let message = format!("the answer has more than {most} bytes, the most that one call may carry");
            return failed(FailureKind::Limit { limit: "output".into() }, message);
        }
        let message = format!("the component handed more than {most} bytes to the host in one call");
        return Failure { backtrace, ..failed(FailureKind::Limit { limit: "message".into() }, message) };
    }
    Failure { backtrace, ..failed(FailureKind::Trap, reason(error)) }
}

/// Why it broke down, in a few words.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    let text = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("the component called `exit` with status {} instead of returning", exit.0)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
    } else {
        root_text(error)
    };
    text::message(&text, MESSAGE_TEXT_MAX)
}

fn root_text(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// The frames alone: wasmtime's heading and its advice on environment variables are left out.
pub(crate) fn backtrace(backtrace: &WasmBacktrace) -> String {
    let text = backtrace.to_string();
    let frames = text.lines().skip(1).take_while(|line| !line.starts_with("note:")).collect::<Vec<_>>().join("\n");
    text::message(frames.trim_end(), BACKTRACE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::downbeat::step::types::{Problem, Setback};
    use downbeat_workflow::capability::Lowered;

    fn problem(details: &str) -> Failure {
        let details = Some(details.to_owned());
        of_guest(step::Failure::Permanent(Problem { message: "no".into(), details }), None)
    }

    #[test]
    fn a_guests_failure_keeps_its_kind_details_and_delay() {
        let setback = Setback { message: "later\x1b".into(), details: None, retry_after_ms: Some(7) };
        let failure = of_guest(step::Failure::Transient(setback), None);
        assert_eq!((failure.kind, failure.retry_after_ms), (FailureKind::Transient, Some(7)));
        assert_eq!(failure.message, "later\\u{1b}");
        assert_eq!(problem(r#"{"a": 1}"#).details.unwrap().as_str(), r#"{"a": 1}"#);
    }

    #[test]
    fn details_that_are_no_json_object_are_dropped_and_the_message_says_so() {
        assert_eq!(problem("[1]").message, "no (its details were dropped: they are not a JSON object)");
        assert!(problem("{").message.starts_with("no (its details were dropped: not valid JSON"));
        assert!(problem(&format!("{{{}}}", " ".repeat(DETAILS_MAX))).details.is_none());
    }

    #[test]
    fn an_output_is_json_within_its_limit() {
        let limits = Limits { output: 4, ..Limits::default() };
        assert_eq!(of_output("[1]".into(), &limits).unwrap().as_str(), "[1]");
        assert_eq!(of_output("[1".into(), &limits).unwrap_err().kind, FailureKind::InvalidOutput);
        let failure = of_output("[1,2]".into(), &limits).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Limit { limit: "output".into() });
        assert!(failure.message.contains("; raise `limit = { output = … }` if it needs more; "), "{}", failure.message);
        let by = "rule `small` of policy.toml:3".to_owned();
        let lowered = ["output", "timeout"].map(|limit| Lowered { limit: limit.into(), by: by.clone() }).to_vec();
        let limits = Limits { lowered, ..limits };
        let failure = of_output("[1,2]".into(), &limits).unwrap_err();
        assert!(failure.message.contains(&format!("is 4; {by} lowered it to that; ")), "{}", failure.message);
        let failure = timed_out(Duration::from_secs(2), &limits, None);
        assert!(failure.message.ends_with(&format!("of 2s; {by} lowered it to that")), "{}", failure.message);
    }
}
