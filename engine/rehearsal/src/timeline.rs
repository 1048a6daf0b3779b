//! What happened in a rehearsal, a line for each moment that a person would tell: the times as they are written in TOML, so
//! that one can be copied from here into a test.

use std::collections::BTreeSet;

use downbeat_workflow::event::{Event, FailureKind, Outcome, Record, StepEnd};
use downbeat_workflow::plan::{ScopeCount, StepId};
use downbeat_workflow::run::Run;
use downbeat_workflow::text::visible;

/// How much of a message a line shows, in characters.
const SHOWN_CHARS: usize = 120;

/// How much of an output. 80: a line is for what happened when, and an expectation that does not come true tells all of it.
const OUTPUT_CHARS: usize = 80;

/// A line for each record of the run but the creation and the waits for places in pools, with the time since its creation.
pub fn timeline(run: &Run, records: &[Record]) -> Vec<String> {
    let began = records.first().map_or(0, |first| first.at.0);
    let times: Vec<String> = records.iter().map(|record| duration(record.at.0 - began)).collect();
    let width = times.iter().map(String::len).max().unwrap_or(0);
    let mut opened = BTreeSet::new();
    let line = |(record, time): (&Record, &String)| {
        // A scope that was there before is tried again.
        let again = match &record.event {
            Event::ScopeOpened { step, index } => !opened.insert((*step, *index)),
            _ => false,
        };
        Some(format!("{time:>width$}  {}", words(run, &record.event, again)?))
    };
    records.iter().zip(&times).filter_map(line).collect()
}

fn words(run: &Run, event: &Event, again: bool) -> Option<String> {
    let plan = run.plan();
    let name = |step: &StepId| run.path(*step);
    Some(match event {
        Event::RunAdmitted
        | Event::RunCreated { .. }
        | Event::AttemptQueued { .. }
        | Event::WaitQueued { .. }
        | Event::CacheAsked { .. }
        | Event::ScopeQueued { .. } => return None,
        Event::CacheHit { step, output, .. } => {
            format!("{} was answered from the cache: {}", name(step), outline(output.as_str()))
        }
        Event::AttemptStarted { step, attempt: 1 } => format!("{} started", name(step)),
        Event::AttemptStarted { step, attempt } => format!("{} started, attempt {attempt}", name(step)),
        Event::AttemptSucceeded { step, output, .. } => {
            format!("{} succeeded: {}", name(step), outline(output.as_str()))
        }
        Event::AttemptFailed { step, failure, .. } | Event::StepFailed { step, failure } => {
            format!("{} failed, {}: {}", name(step), kind_name(&failure.kind), shown(&failure.message))
        }
        Event::AttemptInterrupted { step, .. } => format!("{} was interrupted", name(step)),
        Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => match run.unneeded_by(*step) {
            Some(join) => format!("{} was cancelled: `{}` does not need it any more", name(step), name(&join)),
            None => format!("{} was cancelled", name(step)),
        },
        Event::StepSkipped { step, reason } => {
            format!("{} was skipped: {}", name(step), shown(&reason.explain(plan, run.scopes())))
        }
        Event::StepOpened { step } => match run.step(*step).opens() {
            Some(_) => format!("{} began", name(step)),
            None => format!("{} waits", name(step)),
        },
        Event::CapabilityUsed { .. } => return None,
        Event::ItemsAppended { step, items, .. } => {
            let items: Vec<&str> = items.iter().map(downbeat_workflow::json::Json::as_str).collect();
            format!("{} appended {}", name(step), shown(&items.join(", ")))
        }
        Event::ScopeOpened { step, index } => match (scope_name(run, *step, *index), again) {
            (scope, true) => format!("{} began again", scope.unwrap_or_else(|| name(step))),
            (Some(scope), false) => format!("{scope} began"),
            (None, false) => return None,
        },
        Event::ScopeTimedOut { step, index } => {
            format!("{} timed out", scope_name(run, *step, *index).unwrap_or_else(|| name(step)))
        }
        Event::StepSucceeded { step, output: None } => format!("{} succeeded", name(step)),
        Event::StepSucceeded { step, output: Some(output) } => {
            format!("{} succeeded: {}", name(step), outline(output.as_str()))
        }
        Event::SignalReceived { signal, data } => format!("the signal `{signal}` came: {}", shown(data.as_str())),
        Event::ApprovalGiven { step, approved, by, note, .. } => {
            let word = if *approved { "approved" } else { "rejected" };
            let note = if note.is_empty() { String::new() } else { format!(": {}", shown(note)) };
            format!("{} was {word} by {}{note}", name(step), shown(by))
        }
        Event::StepReused { step, output, origin, .. } => {
            format!("{} was reused from run {}: {}", name(step), origin.run, outline(output.as_str()))
        }
        Event::Paused { step: Some(step), reason } => format!("{} was paused: {}", name(step), shown(reason)),
        Event::Paused { step: None, reason } => format!("the run was paused: {}", shown(reason)),
        Event::Unpaused { step: Some(step) } => format!("{} was unpaused", name(step)),
        Event::Unpaused { step: None } => "the run was unpaused".to_owned(),
        Event::StepCancelRequested { step, reason } => {
            format!("cancel of {} was asked for: {}", name(step), shown(reason))
        }
        Event::CancelRequested { reason } => format!("cancel was asked for: {}", shown(reason)),
        Event::RunTimedOut => "the run timed out".to_owned(),
        Event::RunFinished { outcome, outputs, faults } => {
            let faults: String = faults.iter().map(|fault| format!("; {}", shown(fault))).collect();
            format!("the run {}: {}{faults}", outcome_words(*outcome), outline(outputs.as_str()))
        }
    })
}

/// How people call a scope that is an item or a round; nothing for one of a step that has no other.
fn scope_name(run: &Run, step: StepId, index: u32) -> Option<String> {
    let opens = run.step(step).opens()?;
    (!matches!(opens.scopes, ScopeCount::One)).then(|| format!("{}[{index}]", run.path(step)))
}

/// The first line of a text, cut.
pub(crate) fn shown(text: &str) -> String {
    first(text, SHOWN_CHARS)
}

/// The beginning of an output.
fn outline(text: &str) -> String {
    first(text, OUTPUT_CHARS)
}

fn first(text: &str, chars: usize) -> String {
    let mut lines = text.lines();
    let first: String = lines.next().unwrap_or_default().chars().take(chars).collect();
    let cut = lines.next().is_some() || first.len() < text.trim_end().len();
    format!("{}{}", visible(&first, false), if cut { " …" } else { "" })
}

/// A duration as it is written in TOML: `0s`, `250ms`, `2m31s`, `1d4h`.
pub fn duration(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The outcome as a test names it.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::TimedOut => "timed-out",
    }
}

/// The outcome after "the run".
pub(crate) fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "was cancelled",
        Outcome::TimedOut => "timed out",
    }
}

/// The end as a test names it.
pub(crate) fn end_name(end: StepEnd) -> &'static str {
    match end {
        StepEnd::Succeeded => "succeeded",
        StepEnd::Failed => "failed",
        StepEnd::Skipped => "skipped",
        StepEnd::Cancelled => "cancelled",
    }
}

/// The kind as a test and the event stream name it.
pub(crate) fn kind_name(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::InvalidInput => "invalid-input",
        FailureKind::Transient => "transient",
        FailureKind::Permanent => "permanent",
        FailureKind::Trap => "trap",
        FailureKind::TimedOut => "timed-out",
        FailureKind::Limit { .. } => "limit",
        FailureKind::InvalidOutput => "invalid-output",
        FailureKind::Host => "host",
        FailureKind::Rule => "rule",
        FailureKind::Scope => "scope",
        FailureKind::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_back_as_what_they_were() {
        for (ms, text) in [(0, "0s"), (250, "250ms"), (151_000, "2m31s"), (100_800_000, "1d4h"), (61_001, "1m1s1ms")] {
            assert_eq!(duration(ms), text);
            assert_eq!(downbeat_workflow::spec::duration_ms(text), Ok(ms));
        }
    }

    #[test]
    fn long_texts_are_cut_and_nothing_in_them_moves_the_cursor() {
        assert_eq!(shown("a\u{1b}[31m\nb"), "a\\u{1b}[31m …");
        assert_eq!(shown(&"x".repeat(200)).chars().count(), SHOWN_CHARS + 2);
        assert_eq!(shown("short\n"), "short");
    }
}
