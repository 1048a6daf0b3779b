//! Whether a test came true: each expectation that did not is a diagnostic at the line that has it, with what is the case
//! instead; and so is each attempt that nobody had an answer for.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use downbeat_workflow::diagnostic::Diagnostic;
use downbeat_workflow::event::{Event, Failure, Outcome, Record, SkipReason, StepEnd};
use downbeat_workflow::history::{History, StepHistory};
use downbeat_workflow::plan::{Plan, StepId, Work};
use downbeat_workflow::run::{Run, StepStatus};
use downbeat_workflow::units::counted;
use serde_json::Value;

use crate::file::{Bound, Reason};
use crate::path::{Life, Named};
use crate::rehearse::{RECORDS_MAX, Rehearsal};
use crate::suite::{Answers, Expectation, StepExpectation, Test};
use crate::timeline::{duration, end_name, kind_name, outcome_name, outcome_words, shown};

/// Everything that is wrong with what came out, in the order of the file. A test without it has passed.
pub fn judge(test: &Test, rehearsal: &Rehearsal) -> Vec<Diagnostic> {
    let plan = rehearsal.run.plan();
    let history = History::of(plan, &rehearsal.records);
    let mut found = faults(test, plan, rehearsal);
    if !found.is_empty() {
        // Whatever else is not as expected may come of it.
        return found;
    }
    let judge = Judge::of(plan, rehearsal, &history);
    found.extend(unheard(test, rehearsal));
    found.extend(test.expected.iter().filter_map(|(span, expected)| judge.expectation(span, expected)));
    // Whatever is expected of a step that was never there, it is one thing that is not as expected.
    let mut absent = HashSet::new();
    found.retain(|found| found.code != "absent" || absent.insert(found.message.clone()));
    found
}

/// Whether the finding is that the test could not be played to its end, rather than that something else came out.
pub fn is_fault(found: &Diagnostic) -> bool {
    matches!(found.code, "no-answer" | "endless" | "waits")
}

/// What came from outside and met nobody.
fn unheard<'t>(test: &'t Test, rehearsal: &'t Rehearsal) -> impl Iterator<Item = Diagnostic> + 't {
    // What a recorded run was told may mean nothing to one that takes another course.
    rehearsal.unheard.iter().filter_map(|(place, why)| {
        let span = test.outside.get(*place)?.clone();
        Some(Diagnostic::error("unheard", span, format!("this met nobody: {why}")).label("without effect"))
    })
}

/// Why the run could not be played to its end.
fn faults(test: &Test, plan: &Plan, rehearsal: &Rehearsal) -> Vec<Diagnostic> {
    let unanswered = |(step, attempt): &(StepId, u32)| {
        let name = rehearsal.run.path(*step);
        let (message, hint) = match test.said(&name) {
            Some(Answers::Each(answers)) => (
                format!(
                    "`{name}` was started for the {} time, with {}",
                    nth(*attempt),
                    counted(answers.len() as u64, "answer")
                ),
                format!("add one to `[tests.{}.steps.{}]` `attempts`", test.name, key(&name)),
            ),
            _ => (
                format!("`{name}` was started, and nothing says how it ends"),
                format!(
                    "add `[tests.{}.steps.{}]` with `output = {{ … }}` or `failure = \"transient\"`, or \
                     `default = \"succeed\"`",
                    test.name,
                    key(&name)
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
    if rehearsal.run.outcome().is_none() && found.is_empty() {
        found.extend(waits(test, plan, rehearsal));
    }
    found
}

/// A path as a key of TOML.
fn key(path: &str) -> String {
    let is_bare = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { path.to_owned() } else { format!("\"{path}\"") }
}

/// The steps that wait for what never comes.
fn waits(test: &Test, plan: &Plan, rehearsal: &Rehearsal) -> Vec<Diagnostic> {
    let run = &rehearsal.run;
    let parked = (0..run.scopes().len() as u32).map(StepId).filter_map(|step| {
        match (&run.step(step).work, run.status(step).0) {
            (Work::Wait(wait), StepStatus::Parked(_)) => Some((step, wait)),
            _ => None,
        }
    });
    let found = parked.map(|(step, wait)| {
        let path = run.path(step);
        let signal = wait.signal.map(|signal| plan.signals[signal.index()].name.as_str());
        let (what, example) = match (signal, &wait.approval) {
            (Some(signal), _) => {
                (format!("the signal `{signal}`"), format!("signals = [{{ at = \"1s\", name = \"{signal}\" }}]"))
            }
            (None, _) => ("somebody's word".to_owned(), format!("approvals = [{{ at = \"1s\", step = \"{path}\" }}]")),
        };
        let message = format!("`{path}` waits for {what} for ever");
        let hint = format!("say in `[tests.{}]` when it comes: `{example}`", test.name);
        Diagnostic::error("waits", test.span.clone(), message).label("in this test").hint(hint)
    });
    found.collect()
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
    /// The steps that were started.
    begun: HashSet<StepId>,
    /// How many scopes each step opened.
    opened: HashMap<StepId, u32>,
    /// How each step failed last, and the place of that among the records.
    failures: HashMap<StepId, (usize, &'a Failure)>,
}

impl<'a> Judge<'a> {
    fn of(plan: &'a Plan, rehearsal: &'a Rehearsal, history: &'a History) -> Judge<'a> {
        let mut judge =
            Judge { plan, rehearsal, history, begun: HashSet::new(), opened: HashMap::new(), failures: HashMap::new() };
        for (place, record) in rehearsal.records.iter().enumerate() {
            judge.begun.extend(begun(&rehearsal.run, &record.event));
            match &record.event {
                Event::ScopeOpened { step, .. } => *judge.opened.entry(*step).or_default() += 1,
                Event::AttemptFailed { step, failure, .. } | Event::StepFailed { step, failure } => {
                    judge.failures.insert(*step, (place, failure));
                }
                _ => (),
            }
        }
        judge
    }
}

/// The step that begins with this event.
fn begun(run: &Run, event: &Event) -> Option<StepId> {
    match event {
        Event::AttemptStarted { step, .. } | Event::StepOpened { step } | Event::StepSucceeded { step, .. } => {
            Some(*step)
        }
        Event::StepFailed { step, .. } => Some(*step).filter(|step| matches!(run.step(*step).work, Work::Fail(_))),
        _ => None,
    }
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
            Expectation::Ran(named) => {
                let lives = named.lives(&self.rehearsal.run);
                let Some(last) = lives.last() else { return Some(self.absent(span, named)) };
                let ran = lives.iter().any(|life| self.ran(life));
                let message = format!("`{}` was never started", named.path);
                unless(ran, "ran", message, self.end_words(last)).map(|found| found.maybe_hint(self.why(last)))
            }
            Expectation::NeverRan(named) => {
                let lives = named.lives(&self.rehearsal.run);
                let ran = lives.iter().find(|life| self.ran(life))?;
                let message = format!("`{}` was started", ran.path);
                unless(false, "never-ran", message, self.end_words(ran))
            }
            Expectation::Peak(pool, expected) => {
                let (name, actual) = (&self.plan.pools[pool.index()].name, self.rehearsal.peaks[pool.index()]);
                let message = format!(
                    "at most {} in the pool `{name}` at once, not {expected}",
                    counted(actual.into(), "attempt")
                );
                unless(actual == *expected, "pool", message, format!("it is {actual}"))
            }
            Expectation::Before(named, later) => {
                let lives = named.lives(&self.rehearsal.run);
                if lives.is_empty() {
                    return Some(self.absent(span, named));
                }
                self.before(span, &lives, later)
            }
            Expectation::Step(named, expected) => {
                let lives = named.lives(&self.rehearsal.run);
                if lives.is_empty() {
                    return Some(self.absent(span, named));
                }
                lives.iter().find_map(|life| self.of_step(span, life, expected))
            }
        }
    }

    /// That the run never had such a step, and why not.
    fn absent(&self, span: &Range<usize>, named: &Named) -> Diagnostic {
        let message = format!("the run had no step `{}`", named.path);
        let found = Diagnostic::error("absent", span.clone(), message).label("never there");
        // What is around it, as far as it was there, knows why.
        let run = &self.rehearsal.run;
        let path = named.path.to_string();
        let around = path.char_indices().filter(|(_, c)| matches!(c, '/' | '[' | '.')).map(|(at, _)| &path[..at]);
        let around = around.filter_map(|path| run.step_at(path)).last();
        found.maybe_hint(around.map(|step| {
            let life = Life { path: run.path(step), tries: vec![step] };
            self.why(&life).unwrap_or_else(|| {
                format!(
                    "`{}` {} and opened {}",
                    life.path,
                    self.end_words(&life),
                    counted(self.opened(&life).into(), "scope")
                )
            })
        }))
    }

    fn of_step(&self, span: &Range<usize>, life: &Life, expected: &StepExpectation) -> Option<Diagnostic> {
        let unless = |holds: bool, code, message: String, label: String| {
            (!holds).then(|| Diagnostic::error(code, span.clone(), message).label(label))
        };
        let path = &life.path;
        match expected {
            StepExpectation::End(expected) => {
                let actual = self.ended(life);
                let message = format!("`{path}` {} instead of {}", self.end_words(life), participle(*expected));
                let label = actual.map_or("not over".to_owned(), |end| format!("it is `{}`", end_name(end)));
                unless(actual == Some(*expected), "end", message, label).map(|found| found.maybe_hint(self.why(life)))
            }
            StepExpectation::Output(expected) => match self.rehearsal.run.status(life.latest()).0 {
                StepStatus::Succeeded(actual) => {
                    let difference = difference("output", expected, &actual.value())?;
                    Some(differs(span, "output", &difference))
                }
                _ => {
                    let message = format!("`{path}` {}, and so has no output", self.end_words(life));
                    let found = Diagnostic::error("output", span.clone(), message).label("not there");
                    Some(found.maybe_hint(self.why(life)))
                }
            },
            StepExpectation::Attempts(expected) => {
                let actual = self.attempts(life);
                let message = format!("`{path}` had {}, not {expected}", counted(actual.into(), "attempt"));
                unless(actual == *expected, "attempts", message, format!("it is {actual}"))
            }
            StepExpectation::Opened(expected) => {
                let actual = self.opened(life);
                let message = format!("`{path}` opened {}, not {expected}", counted(actual.into(), "scope"));
                unless(actual == *expected, "opened", message, format!("it is {actual}"))
            }
            StepExpectation::Reason(expected) => {
                let actual = self.skipped(life).map(reason);
                let words = match actual {
                    Some(actual) => format!("`{path}` was skipped for another reason") + &told(actual),
                    None => format!("`{path}` {} and was not skipped", self.end_words(life)),
                };
                let label =
                    actual.map_or("not skipped".to_owned(), |actual| format!("it is `{}`", reason_name(actual)));
                unless(actual == Some(*expected), "reason", words, label).map(|found| found.maybe_hint(self.why(life)))
            }
            StepExpectation::Need(expected) => {
                let is_it = |need: &StepId| self.rehearsal.run.scopes().no(*need) == expected.no;
                let holds = matches!(self.skipped(life), Some(SkipReason::NeedNotMet { need, .. }) if is_it(need));
                let message = format!("`{path}` was not skipped because of `{}`", expected.path);
                unless(holds, "need", message, self.end_words(life)).map(|found| found.maybe_hint(self.why(life)))
            }
            StepExpectation::Failure(expected) => {
                let failure = self.last_failure(life);
                let actual = failure.map(|failure| kind_name(&failure.kind));
                let message = match actual {
                    Some(actual) => format!("`{path}` failed with `{actual}`, not `{}`", kind_name(expected)),
                    None => format!("no attempt of `{path}` failed"),
                };
                let label = actual.map_or("no failure".to_owned(), |actual| format!("it is `{actual}`"));
                let hint = failure.map(|failure| format!("it says: {}", shown(&failure.message)));
                unless(actual == Some(kind_name(expected)), "failure", message, label)
                    .map(|found| found.maybe_hint(hint))
            }
            StepExpectation::Says(part) => {
                let sentence = self.sentence(life);
                let holds = sentence.as_ref().is_some_and(|sentence| sentence.contains(part.as_str()));
                let message = match &sentence {
                    Some(_) => format!("why `{path}` ended so is told in other words"),
                    None => format!("`{path}` neither failed nor was skipped"),
                };
                unless(holds, "says", message, "not in it".to_owned()).map(|found| found.maybe_hint(self.why(life)))
            }
            StepExpectation::Input(expected) => {
                let given = |step: &StepId| self.rehearsal.inputs.get(&(*step, self.rehearsal.run.status(*step).1));
                match life.tries.iter().rev().find_map(given) {
                    Some(actual) => {
                        let difference = difference("input", expected, &actual.value())?;
                        Some(differs(span, "input", &difference))
                    }
                    None => {
                        let message = format!("`{path}` was never started, and so was given nothing");
                        let found = Diagnostic::error("input", span.clone(), message).label(self.end_words(life));
                        Some(found.maybe_hint(self.why(life)))
                    }
                }
            }
        }
    }

    /// Whether these were over before the other step was started.
    fn before(&self, span: &Range<usize>, lives: &[Life], later: &Named) -> Option<Diagnostic> {
        let second = &later.path;
        let Rehearsal { run, records, .. } = self.rehearsal;
        let others = later.lives(run);
        let Some(last) = others.last() else { return Some(self.absent(span, later)) };
        let tries: HashSet<StepId> = others.iter().flat_map(|other| other.tries.iter().copied()).collect();
        let begins = |record: &Record| begun(run, &record.event).is_some_and(|step| tries.contains(&step));
        let Some(starts) = records.iter().position(begins) else {
            let first = lives.first().map_or("", |life| life.path.as_str());
            let message = format!("`{second}` was never started, so that `{first}` was not before it");
            let found = Diagnostic::error("before", span.clone(), message).label(self.end_words(last));
            return Some(found.maybe_hint(self.why(last)));
        };
        let earlier = History::of(self.plan, &records[..starts]);
        // After a failure with another attempt to come, a history says that the step ended; the records after those know
        // better.
        let again = records[starts..].iter().filter_map(|record| match record.event {
            Event::AttemptStarted { step, .. } => Some(step),
            _ => None,
        });
        let again: HashSet<StepId> = again.collect();
        let is_over = |step: &StepId| {
            earlier.steps.get(step.index()).is_some_and(|step| step.ended.is_some()) && !again.contains(step)
        };
        let life = lives.iter().find(|life| !life.tries.iter().all(is_over))?;
        let at = duration(records[starts].at.0 - records[0].at.0);
        let message = format!("`{}` was not over when `{second}` was started", life.path);
        Some(Diagnostic::error("before", span.clone(), message).label(format!("started at {at}")))
    }

    /// What the history has of the latest try; nothing if nothing happened to it.
    fn step(&self, life: &Life) -> Option<&StepHistory> {
        self.history.steps.get(life.latest().index())
    }

    fn ended(&self, life: &Life) -> Option<StepEnd> {
        self.step(life)?.ended.map(|(_, end)| end)
    }

    fn skipped(&self, life: &Life) -> Option<&SkipReason> {
        self.step(life)?.skipped.as_ref()
    }

    /// How many attempts were started, over all tries.
    fn attempts(&self, life: &Life) -> u32 {
        life.tries.iter().map(|step| self.rehearsal.run.status(*step).1).sum()
    }

    /// How many scopes were opened, over all tries.
    fn opened(&self, life: &Life) -> u32 {
        life.tries.iter().filter_map(|step| self.opened.get(step)).sum()
    }

    fn ran(&self, life: &Life) -> bool {
        life.tries.iter().any(|step| self.begun.contains(step))
    }

    fn last_failure(&self, life: &Life) -> Option<&Failure> {
        let failures = life.tries.iter().filter_map(|step| self.failures.get(step));
        failures.max_by_key(|(place, _)| *place).map(|(_, failure)| *failure)
    }

    /// Why the step failed or was skipped.
    fn sentence(&self, life: &Life) -> Option<String> {
        match (self.skipped(life), self.last_failure(life)) {
            (Some(reason), _) => Some(reason.explain(self.plan, self.rehearsal.run.scopes())),
            (None, Some(failure)) => Some(failure.message.clone()),
            (None, None) => None,
        }
    }

    fn why(&self, life: &Life) -> Option<String> {
        self.sentence(life).map(|sentence| format!("of `{}`: {}", life.path, shown(&sentence)))
    }

    fn end_words(&self, life: &Life) -> String {
        match self.ended(life) {
            Some(StepEnd::Succeeded) => "succeeded",
            Some(StepEnd::Failed) => "failed",
            Some(StepEnd::Skipped) => "was skipped",
            Some(StepEnd::Cancelled) => "was cancelled",
            None if self.rehearsal.run.step(life.latest()).undoes.is_some() => "was not undone",
            None => "did not end",
        }
        .to_owned()
    }

    /// Which steps failed, when that is why the run did not end as expected.
    fn blame(&self, outcome: Outcome) -> Option<String> {
        let failed: Vec<String> = self
            .history
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| matches!(step.ended, Some((_, StepEnd::Failed))))
            .map(|(index, _)| format!("`{}`", self.rehearsal.run.path(StepId(index as u32))))
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
        SkipReason::ScopeEnded { .. } => Reason::ScopeEnded,
        SkipReason::ScopeCancelled => Reason::ScopeCancelled,
        SkipReason::ScopeTimedOut => Reason::ScopeTimedOut,
        SkipReason::Asked { .. } => Reason::Asked,
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
