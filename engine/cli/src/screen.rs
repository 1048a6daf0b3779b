//! What a person sees of a run while it runs: on a terminal live lines with spinners and bars, in a pipe plain lines, with
//! `--json` the event stream.
//!
//! The finished lines are the same everywhere and legible without colour. Everything goes to standard error but the
//! event stream.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use downbeat_conductor::Watch;
use downbeat_workflow::event::{Event, Failure, FailureKind, Interruption, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{Plan, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;

use crate::exit::Fault;
use crate::stream;
use crate::talk;
use crate::units;

/// How many of a failed step's last log lines are shown.
const LOG_TAIL: usize = 10;

/// How much of a skip's reason is shown at once.
const REASON_CHARS: usize = 160;

/// Spinners and bars at once: more don't fit on a screen, and each has a thread that ticks it.
const BARS_MAX: usize = 16;

/// How much of the message of a failure is shown at once; `downbeat show` has all of it.
const MESSAGE_LINES: usize = 12;

/// How runs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Spinners and bars above which lines scroll.
    Live,
    /// One line for each thing that happened.
    Plain,
    /// The event stream on standard output.
    Json,
}

impl Style {
    /// What fits: `json` if asked for, live on a terminal, else plain.
    pub(crate) fn fitting(json: bool) -> Style {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match json {
            true => Style::Json,
            false if std::io::stderr().is_terminal() && !dumb => Style::Live,
            false => Style::Plain,
        }
    }
}

/// Shows one run.
pub(crate) struct Screen {
    style: Style,
    plan: OnceLock<Arc<Plan>>,
    view: Mutex<View>,
    multi: MultiProgress,
}

#[derive(Default)]
struct View {
    steps: HashMap<StepId, Showing>,
    name_width: usize,
    began: Timestamp,
    succeeded: usize,
    skipped: usize,
    /// Steps whose latest attempt failed, or that could not be started.
    failed: HashSet<StepId>,
    /// Why the event stream ended early.
    unwritten: Option<Fault>,
}

/// What is remembered of a step that runs.
#[derive(Default)]
struct Showing {
    started: Timestamp,
    attempt: u32,
    bar: Option<ProgressBar>,
    tail: VecDeque<String>,
}

impl Screen {
    /// A screen for the run of `plan`.
    pub(crate) fn new(style: Style) -> Screen {
        Screen { style, plan: OnceLock::new(), view: Mutex::default(), multi: MultiProgress::new() }
    }

    /// Says which plan the records are about; before the first of them.
    pub(crate) fn show(&self, plan: Arc<Plan>) {
        let width = plan.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        self.view().name_width = width;
        let _ = self.plan.set(plan);
    }

    /// Says which run is taken up again, from the records that it has.
    pub(crate) fn resumed(&self, run: &RunId, records: &[Record]) {
        let Some(plan) = self.plan.get() else { return };
        let mut view = self.view();
        for record in records {
            match &record.event {
                Event::RunCreated { .. } => view.began = record.at,
                Event::AttemptSucceeded { step, .. } => {
                    view.succeeded += 1;
                    view.failed.remove(step);
                }
                Event::AttemptFailed { step, .. } | Event::StepFailed { step, .. } => drop(view.failed.insert(*step)),
                Event::StepSkipped { .. } => view.skipped += 1,
                _ => (),
            }
        }
        let done = view.succeeded + view.skipped + view.failed.len();
        self.say(&format!("{} run {} resumed · {}, {done} of them done", plan.name.bold(), run.bold(), steps(plan)));
    }

    /// Says that the engine is stopping; nothing is live any more.
    pub(crate) fn stopping(&self) {
        self.clear();
        self.say("stopping: attempts in flight are ended (once more to stop at once)");
    }

    fn stream(&self, view: &mut View, object: &serde_json::Value) {
        if view.unwritten.is_none() {
            view.unwritten = talk::put_json(&object.to_string()).err();
        }
    }

    /// Whether all of the event stream could be written; from the first object that could not, none was.
    pub(crate) fn written(&self) -> Result<(), Fault> {
        self.view().unwritten.take().map_or(Ok(()), Err)
    }

    /// Takes the live lines away.
    pub(crate) fn clear(&self) {
        for showing in self.view().steps.values() {
            if let Some(bar) = &showing.bar {
                bar.finish_and_clear();
            }
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("nothing panics while the screen is drawn")
    }

    fn say(&self, line: &str) {
        match self.style {
            Style::Live => self.multi.suspend(|| talk::say(line)),
            Style::Plain => talk::say(line),
            Style::Json => (),
        }
    }

    fn step_line(&self, view: &View, plan: &Plan, step: StepId, mark: &str, text: &str) {
        let name = &plan.step(step).name;
        self.say(&format!("  {mark} {name:width$}  {text}", width = view.name_width));
    }

    fn happened(&self, view: &mut View, plan: &Plan, run: &RunId, record: &Record) {
        match &record.event {
            Event::RunCreated { .. } => {
                view.began = record.at;
                self.say(&format!("{} run {} · {}", plan.name.bold(), run.bold(), steps(plan)));
            }
            // Most get their place at once; how long they waited is in the record.
            Event::AttemptQueued { .. } => (),
            Event::AttemptStarted { step, attempt } => self.started(view, plan, *step, *attempt, record.at),
            Event::AttemptSucceeded { step, usage, .. } => {
                view.succeeded += 1;
                view.failed.remove(step);
                let took = self.take_down(view, *step, record.at).1;
                self.step_line(view, plan, *step, &"✓".green().to_string(), &format!("succeeded {took}"));
                self.refusals(plan, *step, usage);
            }
            Event::AttemptFailed { step, attempt, failure, usage } => {
                self.failed(view, plan, *step, *attempt, failure, record.at);
                self.refusals(plan, *step, usage);
            }
            Event::AttemptInterrupted { step, cause, .. } => {
                self.take_down(view, *step, record.at);
                let text = match cause {
                    Interruption::Stop => "interrupted; starts again when the run is resumed",
                    Interruption::Crash => "was interrupted when the engine died; starts again",
                };
                self.step_line(view, plan, *step, &"■".yellow().to_string(), text);
            }
            Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => {
                self.take_down(view, *step, record.at);
                self.step_line(view, plan, *step, &"■".yellow().to_string(), "cancelled");
            }
            Event::StepFailed { step, failure } => {
                view.failed.insert(*step);
                self.step_line(view, plan, *step, &"✗".red().to_string(), &format!("failed: {}", failure.message));
            }
            Event::StepSkipped { step, reason } => {
                view.skipped += 1;
                let text = format!("skipped: {}", shortened(&reason.explain(plan), REASON_CHARS));
                self.step_line(view, plan, *step, &"↷".dimmed().to_string(), &text);
            }
            Event::CancelRequested { reason } => self.say(&format!("{} {reason}", "cancel requested:".yellow())),
            Event::RunTimedOut => {
                let timeout = units::duration(plan.timeout_ms.unwrap_or(0));
                self.say(&format!("{} the workflow's timeout of {timeout} has passed", "timed out:".red()));
            }
            Event::RunFinished { outcome, faults, .. } => {
                for fault in faults {
                    self.say(&format!("  {} {fault}", "✗".red()));
                }
                let word = match outcome {
                    Outcome::Succeeded => "succeeded".green().bold().to_string(),
                    Outcome::Failed => "failed".red().bold().to_string(),
                    Outcome::Cancelled => "cancelled".yellow().bold().to_string(),
                    Outcome::TimedOut => "timed out".red().bold().to_string(),
                };
                let took = units::duration(record.at.0.saturating_sub(view.began.0));
                let ended =
                    |count: usize, word: &str| if count > 0 { format!(", {count} {word}") } else { String::new() };
                let counts = format!(
                    "{} succeeded{}{}",
                    view.succeeded,
                    ended(view.failed.len(), "failed"),
                    ended(view.skipped, "skipped")
                );
                self.say(&format!("{} {word} after {took} · {counts} · downbeat show {run}", plan.name.bold()));
            }
        }
    }

    fn started(&self, view: &mut View, plan: &Plan, step: StepId, attempt: u32, at: Timestamp) {
        let mut showing = Showing { started: at, attempt, ..Showing::default() };
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        let bars = view.steps.values().filter(|showing| showing.bar.is_some()).count();
        if self.style == Style::Live && bars < BARS_MAX {
            let bar = self.multi.add(ProgressBar::new_spinner());
            bar.set_style(spinner());
            bar.set_prefix(format!("{:width$}", plan.step(step).name, width = view.name_width));
            bar.set_message(again.trim_start().to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            showing.bar = Some(bar);
        } else {
            self.step_line(view, plan, step, "▸", &format!("started{again}"));
        }
        view.steps.insert(step, showing);
    }

    fn failed(&self, view: &mut View, plan: &Plan, step: StepId, attempt: u32, failure: &Failure, at: Timestamp) {
        view.failed.insert(step);
        let (showing, took) = self.take_down(view, step, at);
        let retried = attempt > 1 || (failure.kind.is_retryable() && plan.step(step).retry.attempts > 1);
        let count = if retried { format!(" (attempt {attempt})") } else { String::new() };
        let mut text = format!("failed {took}, {}{count}", kind(&failure.kind));
        let mut lines = failure.message.lines();
        for line in lines.by_ref().take(MESSAGE_LINES) {
            let _ = write!(text, "\n      {line}");
        }
        let more = lines.count();
        if more > 0 {
            let _ = write!(text, "\n      … {more} more lines in `downbeat show`");
        }
        self.step_line(view, plan, step, &"✗".red().to_string(), &text);
        if let Some(showing) = showing {
            // What the message says already is not said twice.
            let fresh: Vec<&String> =
                showing.tail.iter().filter(|line| !failure.message.contains(line.trim())).collect();
            if !fresh.is_empty() {
                self.say(&format!("      {}", "the end of its log:".dimmed()));
            }
            for line in fresh {
                self.say(&format!("      {} {line}", "│".dimmed()));
            }
        }
    }

    fn refusals(&self, plan: &Plan, step: StepId, usage: &Usage) {
        for refusal in &usage.refusals {
            self.say(&format!("      {} {}: {}", "refused".yellow(), refusal.capability, refusal.wanted));
            let name = &plan.step(step).name;
            self.say(&format!("      {} to allow it, add to [steps.{name}]: {}", "hint:".cyan().bold(), refusal.hint));
        }
    }

    fn take_down(&self, view: &mut View, step: StepId, at: Timestamp) -> (Option<Showing>, String) {
        let showing = view.steps.remove(&step);
        if let Some(bar) = showing.as_ref().and_then(|showing| showing.bar.as_ref()) {
            bar.finish_and_clear();
        }
        let took = showing.as_ref().map_or(0, |showing| at.0.saturating_sub(showing.started.0));
        (showing, format!("after {}", units::duration(took)))
    }
}

impl Watch for Screen {
    fn recorded(&self, run: &RunId, records: &[Record]) {
        let Some(plan) = self.plan.get() else { return };
        let mut view = self.view();
        for record in records {
            match self.style {
                Style::Json => self.stream(&mut view, &stream::object(plan, run, record)),
                Style::Live | Style::Plain => self.happened(&mut view, plan, run, record),
            }
        }
    }

    fn logged(&self, run: &RunId, step: StepId, attempt: u32, level: Level, line: &str) {
        if let (Style::Json, Some(plan)) = (self.style, self.plan.get()) {
            let object = stream::log_object(plan, run, step, attempt, level, line);
            return self.stream(&mut self.view(), &object);
        }
        if let Some(showing) = self.view().steps.get_mut(&step).filter(|showing| showing.attempt == attempt) {
            if showing.tail.len() == LOG_TAIL {
                showing.tail.pop_front();
            }
            showing.tail.push_back(line.to_owned());
            if let Some(bar) = &showing.bar {
                bar.set_message(line.to_owned());
            }
        }
    }

    fn progressed(&self, _run: &RunId, step: StepId, done: u64, total: Option<u64>, message: &str) {
        let view = self.view();
        let Some(bar) = view.steps.get(&step).and_then(|showing| showing.bar.as_ref()) else { return };
        if let Some(total) = total.filter(|total| *total > 0) {
            if bar.length().is_none() {
                bar.set_style(counter());
            }
            bar.set_length(total);
            bar.set_position(done.min(total));
        }
        if !message.is_empty() {
            bar.set_message(message.to_owned());
        }
    }
}

fn steps(plan: &Plan) -> String {
    let count = plan.steps.len();
    format!("{count} step{}", if count == 1 { "" } else { "s" })
}

/// The beginning of a text, so many characters of it.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The kind of a failure in a few words.
pub(crate) fn kind(kind: &FailureKind) -> String {
    match kind {
        FailureKind::InvalidInput => "invalid input".to_owned(),
        FailureKind::Transient => "transient".to_owned(),
        FailureKind::Permanent => "permanent".to_owned(),
        FailureKind::Trap => "trap".to_owned(),
        FailureKind::TimedOut => "timed out".to_owned(),
        FailureKind::Limit { limit } => format!("over the limit `{limit}`"),
        FailureKind::InvalidOutput => "invalid output".to_owned(),
        FailureKind::Host => "the engine's fault".to_owned(),
        FailureKind::Rule => "a rule failed".to_owned(),
    }
}

fn spinner() -> ProgressStyle {
    style("  {spinner:.cyan} {prefix}  {elapsed:.dim} {wide_msg:.dim}")
}

fn counter() -> ProgressStyle {
    style("  {spinner:.cyan} {prefix}  {elapsed:.dim} {bar:20.cyan/dim} {pos}/{len} {wide_msg:.dim}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is a constant that a test draws")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_templates_are_valid() {
        super::spinner();
        super::counter();
    }
}
