//! What a person sees of a run while it runs: on a terminal live lines with spinners and bars, in a pipe plain lines, with
//! `--json` the event stream.
//!
//! The finished lines are the same everywhere and legible without colour. Everything goes to standard error but the
//! event stream.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anstream::eprintln;
use downbeat_conductor::Watch;
use downbeat_workflow::event::{Event, Failure, FailureKind, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{Plan, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;

use crate::stream;
use crate::units;

/// How many of a failed step's last log lines are shown.
const LOG_TAIL: usize = 10;

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
            Style::Live => self.multi.suspend(|| eprintln!("{line}")),
            Style::Plain => eprintln!("{line}"),
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
                let steps = plan.steps.len();
                let plural = if steps == 1 { "" } else { "s" };
                self.say(&format!("{} run {} · {steps} step{plural}", plan.name.bold(), run.bold()));
            }
            Event::AttemptQueued { step, pool, .. } => {
                let pool = &plan.pools[pool.index()].name;
                self.step_line(view, plan, *step, &"·".dimmed().to_string(), &format!("waits for pool `{pool}`"));
            }
            Event::AttemptStarted { step, attempt } => self.started(view, plan, *step, *attempt, record.at),
            Event::AttemptSucceeded { step, usage, .. } => {
                let took = self.take_down(view, *step, record.at).1;
                self.step_line(view, plan, *step, &"✓".green().to_string(), &format!("succeeded {took}"));
                self.refusals(plan, *step, usage);
            }
            Event::AttemptFailed { step, attempt, failure, usage } => {
                self.failed(view, plan, *step, *attempt, failure, record.at);
                self.refusals(plan, *step, usage);
            }
            Event::AttemptInterrupted { step, .. } => {
                self.take_down(view, *step, record.at);
                let text = "interrupted; starts again when the run is resumed";
                self.step_line(view, plan, *step, &"■".yellow().to_string(), text);
            }
            Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => {
                self.take_down(view, *step, record.at);
                self.step_line(view, plan, *step, &"■".yellow().to_string(), "cancelled");
            }
            Event::StepFailed { step, failure } => {
                self.step_line(view, plan, *step, &"✗".red().to_string(), &format!("failed: {}", failure.message));
            }
            Event::StepSkipped { step, reason } => {
                let text = format!("skipped: {}", reason.explain(plan));
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
                self.say(&format!("{} {word} · downbeat show {run}", plan.name.bold()));
            }
        }
    }

    fn started(&self, view: &mut View, plan: &Plan, step: StepId, attempt: u32, at: Timestamp) {
        let mut showing = Showing { started: at, attempt, ..Showing::default() };
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        if self.style == Style::Live {
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
        let (showing, took) = self.take_down(view, step, at);
        let attempts = plan.step(step).retry.attempts;
        let retried = failure.kind.is_retryable() && attempts > 1;
        let count = if retried { format!(" (attempt {attempt} of {attempts})") } else { String::new() };
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
                Style::Json => stream::print(plan, run, record),
                Style::Live | Style::Plain => self.happened(&mut view, plan, run, record),
            }
        }
    }

    fn logged(&self, run: &RunId, step: StepId, attempt: u32, level: Level, line: &str) {
        if let (Style::Json, Some(plan)) = (self.style, self.plan.get()) {
            return stream::print_log(plan, run, step, attempt, level.as_str(), line);
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
