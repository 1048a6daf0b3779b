//! Whether a test came true: each expectation that did not is a diagnostic at the line that has it, with what is the case
//! instead; and so is each attempt that nobody had an answer for.

use std::ops::Range;

use downbeat_workflow::diagnostic::Diagnostic;
use downbeat_workflow::event::{Event, Outcome, SkipReason, StepEnd};
use downbeat_workflow::history::{History, StepHistory};
use downbeat_workflow::plan::{Plan, StepId};
use serde_json::Value;

use crate::file::{Bound, Reason};
use crate::rehearse::{RECORDS_MAX, Rehearsal};
use crate::suite::{Answers, Expectation, Test};
use crate::timeline::{duration, end_name, kind_name, outcome_name, outcome_words, shown};

/// Everything that is wrong with what came out, in the order of the file. A test without it has passed.
pub fn judge(test: &Test, rehearsal: &Rehearsal) -> Vec<Diagnostic> {
    let plan = rehearsal.run.plan();
    let history = History::of(plan.steps.len(), &rehearsal.records);
    let mut found = faults(test, plan, rehearsal);
    if !found.is_empty() {
        // Whatever else is not as expected may come of it.
        return found;
    }
    let judge = Judge { plan, rehearsal, history: &history };
    found.extend(test.expected.iter().filter_map(|(span, expected)| judge.expectation(span, expected)));
    found
}

/// Whether the finding is that the test could not be played to its end, rather than that something else came out.
pub fn is_fault(found: &Diagnostic) -> bool {
    matches!(found.code, "no-answer" | "endless")
}

/// Why the run could not be played to its end.
fn faults(test: &Test, plan: &Plan, rehearsal: &Rehearsal) -> Vec<Diagnostic> {
    let unanswered = |(step, attempt): &(StepId, u32)| {
        let name = &plan.step(*step).name;
        let (message, hint) = match test.answers.get(step) {
            Some(Answers::Each(answers)) => (
                format!("`{name}` was started for the {} time, with {}", nth(*attempt), count(answers.len(), "answer")),
                format!("add one to `[tests.{}.steps.{name}]` `attempts`", test.name),
            ),
            _ => (
                format!("`{name}` was started, and nothing says how it ends"),
                format!(
                    "add `[tests.{}.steps.{name}]` with `output = {{ … }}` or `failure = \"transient\"`, or \
                     `default = \"succeed\"`",
                    test.name
                ),
            ),
        };
        Diagnostic::error("no-answer", test.span.clone(), message).label("in this test").hint(hint)
    };
    let mut found: Vec<Diagnostic> = rehearsal.unanswered.iter().map(unanswered).collect();
    if rehearsal.endless {
        let message = format!("the run was given up after {RECORDS_MAX} events");
        found.push(Diagnostic::error("endless", test.span.clone(), message).label("in this test"));
    }
    found
}

fn count(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

fn nth(n: u32) -> String {
    match (n % 10, n % 100) {
        (1, n) if n != 11 => format!("{n}st"),
        (2, n) if n != 12 => format!("{n}nd"),
        (3, n) if n != 13 => format!("{n}rd"),
        _ => format!("{n}th"),
    }
}

struct Judge<'a> {
    plan: &'a Plan,
    rehearsal: &'a Rehearsal,
    history: &'a History,
}

impl Judge<'_> {
    fn expectation(&self, span: &Range<usize>, expected: &Expectation) -> Option<Diagnostic> {
        let unless = |holds: bool, code, message: String, label: String| {
            (!holds).then(|| Diagnostic::error(code, span.clone(), message).label(label))
        };
        match expected {
            Expectation::Outcome(expected) => {
                let (_, actual) = self.history.finished?;
                let message =
                    format!("the run {} instead of ending as `{}`", outcome_words(actual), outcome_name(*expected));
                let found =
                    unless(actual == *expected, "outcome", message, format!("it is `{}`", outcome_name(actual)));
                found.map(|found| found.maybe_hint(self.blame(actual)))
            }
            Expectation::Output(name, expected) => {
                let outputs = self.history.outputs.as_ref().map(|outputs| outputs.value()).unwrap_or_default();
                let fault = || self.history.faults.iter().find(|fault| fault.starts_with(&format!("output `{name}`")));
                match outputs.get(name) {
                    Some(actual) => {
                        let difference = difference(&format!("outputs.{name}"), expected, actual)?;
                        Some(differs(span, "output", &difference))
                    }
                    None => {
                        let reason = fault().map_or("it speaks of a step that did not succeed", String::as_str);
                        let message = format!("the run has no output `{name}`: {}", shown(reason));
                        Some(Diagnostic::error("output", span.clone(), message).label("not there"))
                    }
                }
            }
            Expectation::Took(bound) => {
                let actual = self.rehearsal.took_ms();
                let (holds, words) = match bound {
                    Bound::Exactly(ms) => (actual == *ms, duration(*ms)),
                    Bound::AtMost(ms) => (actual <= *ms, format!("at most {}", duration(*ms))),
                    Bound::AtLeast(ms) => (actual >= *ms, format!("at least {}", duration(*ms))),
                };
                let actual = duration(actual);
                unless(holds, "took", format!("the run took {actual} instead of {words}"), format!("it is {actual}"))
            }
            Expectation::Ran(step) => {
                let ran = self.attempts(*step) > 0;
                let message = format!("`{}` was never started", self.name(*step));
                unless(ran, "ran", message, self.end_words(*step)).map(|found| found.maybe_hint(self.why(*step)))
            }
            Expectation::NeverRan(step) => {
                let ran = self.attempts(*step) > 0;
                let message = format!("`{}` was started", self.name(*step));
                unless(!ran, "never-ran", message, self.end_words(*step))
            }
            Expectation::Peak(pool, expected) => {
                let (name, actual) = (&self.plan.pools[pool.index()].name, self.rehearsal.peaks[pool.index()]);
                let message = format!(
                    "at most {} in the pool `{name}` at once, not {expected}",
                    count(actual as usize, "attempt")
                );
                unless(actual == *expected, "pool", message, format!("it is {actual}"))
            }
            Expectation::End(step, expected) => {
                let actual = self.step(*step).ended.map(|(_, end)| end);
                let message =
                    format!("`{}` {} instead of {}", self.name(*step), self.end_words(*step), participle(*expected));
                let label = actual.map_or("not over".to_owned(), |end| format!("it is `{}`", end_name(end)));
                unless(actual == Some(*expected), "end", message, label).map(|found| found.maybe_hint(self.why(*step)))
            }
            Expectation::Attempts(step, expected) => {
                let actual = self.attempts(*step);
                let message =
                    format!("`{}` had {}, not {expected}", self.name(*step), count(actual as usize, "attempt"));
                unless(actual == *expected, "attempts", message, format!("it is {actual}"))
            }
            Expectation::Reason(step, expected) => {
                let actual = self.step(*step).skipped.as_ref().map(reason);
                let words = match actual {
                    Some(actual) => format!("`{}` was skipped for another reason", self.name(*step)) + &told(actual),
                    None => format!("`{}` {} and was not skipped", self.name(*step), self.end_words(*step)),
                };
                let label =
                    actual.map_or("not skipped".to_owned(), |actual| format!("it is `{}`", reason_name(actual)));
                unless(actual == Some(*expected), "reason", words, label).map(|found| found.maybe_hint(self.why(*step)))
            }
            Expectation::Need(step, expected) => {
                let skipped = self.step(*step).skipped.as_ref();
                let holds = matches!(skipped, Some(SkipReason::NeedNotMet { need, .. }) if need == expected);
                let message = format!("`{}` was not skipped because of `{}`", self.name(*step), self.name(*expected));
                unless(holds, "need", message, self.end_words(*step)).map(|found| found.maybe_hint(self.why(*step)))
            }
            Expectation::Failure(step, expected) => {
                let failure = self.last_failure(*step);
                let actual = failure.map(|failure| kind_name(&failure.kind));
                let message = match actual {
                    Some(actual) => {
                        format!("`{}` failed with `{actual}`, not `{}`", self.name(*step), kind_name(expected))
                    }
                    None => format!("no attempt of `{}` failed", self.name(*step)),
                };
                let label = actual.map_or("no failure".to_owned(), |actual| format!("it is `{actual}`"));
                let hint = failure.map(|failure| format!("it says: {}", shown(&failure.message)));
                unless(actual == Some(kind_name(expected)), "failure", message, label)
                    .map(|found| found.maybe_hint(hint))
            }
            Expectation::Says(step, part) => {
                let sentence = self.sentence(*step);
                let holds = sentence.as_ref().is_some_and(|sentence| sentence.contains(part.as_str()));
                let message = match &sentence {
                    Some(_) => format!("why `{}` ended so is told in other words", self.name(*step)),
                    None => format!("`{}` neither failed nor was skipped", self.name(*step)),
                };
                unless(holds, "says", message, "not in it".to_owned()).map(|found| found.maybe_hint(self.why(*step)))
            }
            Expectation::Input(step, expected) => {
                let last = self.attempts(*step);
                match self.rehearsal.inputs.get(&(*step, last)) {
                    Some(actual) => {
                        let difference = difference("input", expected, &actual.value())?;
                        Some(differs(span, "input", &difference))
                    }
                    None => {
                        let message = format!("`{}` was never started, and so was given nothing", self.name(*step));
                        let found = Diagnostic::error("input", span.clone(), message).label(self.end_words(*step));
                        Some(found.maybe_hint(self.why(*step)))
                    }
                }
            }
            Expectation::Before(step, later) => {
                let (first, second) = (self.name(*step), self.name(*later));
                let started = |event: &Event| matches!(event, Event::AttemptStarted { step, .. } if step == later);
                let starts = self.rehearsal.records.iter().position(|record| started(&record.event));
                let Some(starts) = starts else {
                    let message = format!("`{second}` was never started, so that `{first}` was not before it");
                    let found = Diagnostic::error("before", span.clone(), message).label(self.end_words(*later));
                    return Some(found.maybe_hint(self.why(*later)));
                };
                let earlier = History::of(self.plan.steps.len(), &self.rehearsal.records[..starts]);
                let over = self.ended_within(*step, starts, &earlier);
                let message = format!("`{first}` was not over when `{second}` was started");
                let at = duration(self.rehearsal.records[starts].at.0);
                unless(over, "before", message, format!("started at {at}"))
            }
        }
    }

    /// Whether the step came to its end within the first `count` records. After a failure with another attempt to come,
    /// a history says that it did; the records after those know better.
    fn ended_within(&self, step: StepId, count: usize, history: &History) -> bool {
        let again = |event: &Event| matches!(event, Event::AttemptStarted { step: other, .. } if *other == step);
        history.steps[step.index()].ended.is_some()
            && !self.rehearsal.records[count..].iter().any(|record| again(&record.event))
    }

    fn step(&self, step: StepId) -> &StepHistory {
        &self.history.steps[step.index()]
    }

    fn name(&self, step: StepId) -> &str {
        &self.plan.step(step).name
    }

    fn attempts(&self, step: StepId) -> u32 {
        self.rehearsal.run.status(step).1
    }

    fn last_failure(&self, step: StepId) -> Option<&downbeat_workflow::event::Failure> {
        let mut records = self.rehearsal.records.iter().rev();
        records.find_map(|record| match &record.event {
            Event::AttemptFailed { step: other, failure, .. } | Event::StepFailed { step: other, failure }
                if *other == step =>
            {
                Some(failure)
            }
            _ => None,
        })
    }

    /// Why the step failed or was skipped.
    fn sentence(&self, step: StepId) -> Option<String> {
        match (&self.step(step).skipped, self.last_failure(step)) {
            (Some(reason), _) => Some(reason.explain(self.plan)),
            (None, Some(failure)) => Some(failure.message.clone()),
            (None, None) => None,
        }
    }

    fn why(&self, step: StepId) -> Option<String> {
        self.sentence(step).map(|sentence| format!("of `{}`: {}", self.name(step), shown(&sentence)))
    }

    fn end_words(&self, step: StepId) -> String {
        match self.step(step).ended {
            Some((_, StepEnd::Succeeded)) => "succeeded".to_owned(),
            Some((_, StepEnd::Failed)) => "failed".to_owned(),
            Some((_, StepEnd::Skipped)) => "was skipped".to_owned(),
            Some((_, StepEnd::Cancelled)) => "was cancelled".to_owned(),
            None => "did not end".to_owned(),
        }
    }

    /// Which steps failed, when that is why the run did not end as expected.
    fn blame(&self, outcome: Outcome) -> Option<String> {
        let failed: Vec<String> = self
            .history
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| matches!(step.ended, Some((_, StepEnd::Failed))))
            .map(|(index, _)| format!("`{}`", self.name(StepId(index as u32))))
            .collect();
        let faults = self.history.faults.first().map(|fault| shown(fault));
        match (outcome, failed.as_slice()) {
            (Outcome::Failed, []) => faults,
            (Outcome::Failed, names) => Some(format!("{} failed", names.join(", "))),
            _ => None,
        }
    }
}

fn participle(end: StepEnd) -> &'static str {
    match end {
        StepEnd::Succeeded => "succeeding",
        StepEnd::Failed => "failing",
        StepEnd::Skipped => "being skipped",
        StepEnd::Cancelled => "being cancelled",
    }
}

fn told(reason: Reason) -> String {
    format!(": `{}`", reason_name(reason))
}

fn reason(reason: &SkipReason) -> Reason {
    match reason {
        SkipReason::NeedNotMet { .. } => Reason::NeedNotMet,
        SkipReason::TooFewNeedsMet { .. } => Reason::TooFewNeedsMet,
        SkipReason::NotNeeded { .. } => Reason::NotNeeded,
        SkipReason::RuleFalse { .. } => Reason::RuleFalse,
        SkipReason::RunCancelled => Reason::RunCancelled,
        SkipReason::RunTimedOut => Reason::RunTimedOut,
    }
}

fn reason_name(reason: Reason) -> &'static str {
    let named = crate::file::REASONS.iter().find(|(_, known)| *known == reason);
    named.map_or("", |(name, _)| name)
}

/// Where two values differ, and what is there.
struct Difference {
    path: String,
    expected: String,
    actual: String,
}

fn differs(span: &Range<usize>, code: &'static str, difference: &Difference) -> Diagnostic {
    let Difference { path, expected, actual } = difference;
    let message = format!("`{path}` is {actual} instead of {expected}");
    Diagnostic::error(code, span.clone(), message).label(format!("it is {actual}"))
}

/// The first place at which the actual value is not what is expected: a table must have at least the keys of the expected
/// one, anything else must be equal, numbers by value.
fn difference(path: &str, expected: &Value, actual: &Value) -> Option<Difference> {
    match (expected, actual) {
        (Value::Object(members), Value::Object(others)) => members.iter().find_map(|(key, expected)| {
            let path = format!("{path}.{key}");
            match others.get(key) {
                Some(actual) => difference(&path, expected, actual),
                None => Some(Difference { path, expected: shown(&expected.to_string()), actual: "missing".to_owned() }),
            }
        }),
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let mut pairs = items.iter().zip(others).enumerate();
            pairs.find_map(|(index, (expected, actual))| difference(&format!("{path}[{index}]"), expected, actual))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (expected, actual) if expected == actual => None,
        (expected, actual) => Some(Difference {
            path: path.to_owned(),
            expected: shown(&expected.to_string()),
            actual: shown(&actual.to_string()),
        }),
    }
}
