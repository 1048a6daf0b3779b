//! What a person sees of a run while it runs: on a terminal live lines with spinners and bars, in a pipe plain lines, with
//! `--json` the event stream.
//!
//! The finished lines are the same everywhere and legible without colour. The event stream and the workflow's outputs
//! go to standard output, everything else to standard error. A screen belongs to one thread and may block it; where it
//! gets the story from, and who is not to wait for it, is `audience`'s business.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use downbeat_journal::LogLine;
use downbeat_workflow::event::{Event, Failure, Interruption, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::group::WAIT_TOLD_MS;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{BodyId, Plan, ScopeCount, StepId, StepNo};
use downbeat_workflow::run::told::TriedAgain;
use downbeat_workflow::run::{Misplaced, Run, StepStatus};
use downbeat_workflow::scope::Scopes;
use downbeat_workflow::text::visible;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;

use crate::exit::Fault;
use crate::follow::Item;
use crate::stream::{self, Names};
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
    plan: Arc<Plan>,
    id: RunId,
    /// The run as far as it has been shown. The event stream is not derived from it.
    run: Run,
    /// Those that have opened, by which steps are called.
    scopes: Scopes,
    steps: HashMap<StepId, Showing>,
    name_width: usize,
    began: Timestamp,
    succeeded: usize,
    /// Steps whose answers are another run's.
    reused: usize,
    /// Of those that succeeded, how many the cache answered.
    cached: usize,
    skipped: usize,
    cancelled: usize,
    /// Steps whose latest attempt failed, or that could not be started.
    failed: HashSet<StepId>,
    multi: MultiProgress,
}

/// What is remembered of a step that runs.
#[derive(Default)]
struct Showing {
    started: Timestamp,
    attempt: u32,
    bar: Option<ProgressBar>,
    tail: VecDeque<String>,
}

/// How far an attempt says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// So much of `total`.
    pub(crate) done: u64,
    /// Unless it does not know.
    pub(crate) total: Option<u64>,
    /// A few words, or none.
    pub(crate) message: String,
}

impl Screen {
    /// A screen for a run of which nothing has been shown.
    pub(crate) fn new(style: Style, plan: Arc<Plan>, id: RunId) -> Screen {
        Screen {
            style,
            run: Run::new(plan.clone(), id.clone()),
            scopes: Scopes::new(&plan),
            id,
            steps: HashMap::new(),
            name_width: name_width(&plan),
            plan,
            began: Timestamp::default(),
            succeeded: 0,
            reused: 0,
            cached: 0,
            skipped: 0,
            cancelled: 0,
            failed: HashSet::new(),
            multi: MultiProgress::new(),
        }
    }

    /// Says that the run is taken up again, from the records that it has.
    pub(crate) fn resumed(&mut self, records: &[Record]) -> Result<(), Misplaced> {
        for record in records {
            self.scopes.take_in(&self.plan, &record.event);
        }
        if self.style == Style::Json {
            return Ok(());
        }
        for record in records {
            self.run.apply(record)?;
            match &record.event {
                Event::RunCreated { .. } => self.began = record.at,
                Event::AttemptSucceeded { step, .. } => {
                    self.succeeded += 1;
                    self.failed.remove(step);
                }
                Event::CacheHit { step, .. } => {
                    self.succeeded += 1;
                    self.cached += 1;
                    self.failed.remove(step);
                }
                Event::AttemptFailed { step, .. } | Event::StepFailed { step, .. } => drop(self.failed.insert(*step)),
                Event::StepSkipped { .. } => self.skipped += 1,
                Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => {
                    self.cancelled += 1;
                    self.failed.remove(step);
                }
                Event::StepReused { .. } => self.reused += 1,
                _ => (),
            }
            self.forget_tried(record);
        }
        // Of those that are counted as steps: what is within others comes and goes.
        let is_over = |step: StepId| {
            let status = self.run.status(step).0;
            matches!(status, StepStatus::Succeeded(_) | StepStatus::Failed(_) | StepStatus::Skipped(_))
                || status == StepStatus::Cancelled
        };
        let own = (0..self.plan.own_steps().len() as u32).map(StepId);
        let done = own.filter(|step| self.run.step(*step).undoes.is_none() && is_over(*step)).count();
        let (name, run, steps) = (self.plan.name.bold(), self.id.bold(), steps(&self.plan));
        self.say(&format!("{name} run {run} resumed · {steps}, {done} of them done"));
        Ok(())
    }

    /// Shows what is next in the run's story. Once the event stream can't be written, nothing of it is any more.
    pub(crate) fn take_in(&mut self, item: &Item) -> Result<(), Fault> {
        if let Item::Record(record) = item {
            self.scopes.take_in(&self.plan, &record.event);
        }
        let names = Names { plan: &self.plan, scopes: &self.scopes };
        match (self.style, item) {
            (Style::Json, Item::Record(record)) => talk::put_json(&stream::object(names, &self.id, record).to_string()),
            (Style::Json, Item::Line(line)) => talk::put_json(&stream::log_object(names, &self.id, line).to_string()),
            (_, Item::Record(record)) => {
                self.run.apply(record).map_err(Fault::engine)?;
                self.happened(record)?;
                if let Some(again) = self.forget_tried(record) {
                    let delay = units::duration(again.at.0.saturating_sub(record.at.0));
                    let name = self.scopes.scope_path(&self.plan, again.scope);
                    let (mark, failures, of) = ("✗".red(), again.failures, again.of);
                    let text = format!("failed (time {failures} of {of} at most); tried again in {delay}");
                    self.say(&format!("  {mark} {name:width$}  {text}", width = self.name_width));
                }
                Ok(())
            }
            (_, Item::Line(line)) => {
                self.logged(line);
                Ok(())
            }
        }
    }

    /// Says that the engine is stopping; nothing is live any more. `typed` is whether a terminal's Ctrl-C is the reason.
    pub(crate) fn stopping(&mut self, typed: bool) {
        let is_drawn = self.style == Style::Live && self.steps.values().any(|showing| showing.bar.is_some());
        self.end_live();
        if typed && is_drawn {
            // Live lines are as wide as the terminal, so that the `^C` which it shows began a new one: what was drawn
            // then stood a line lower than its first line, which is left.
            talk::erase_line_above();
        }
        self.say("stopping: attempts in flight are ended (once more to stop at once)");
    }

    /// Takes the live lines away; what is said from now on is plain.
    pub(crate) fn end_live(&mut self) {
        if self.style == Style::Live {
            for showing in self.steps.values_mut() {
                if let Some(bar) = showing.bar.take() {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
            }
            // Without a terminal to draw on, this fails, and there is nothing to clear.
            let _ = self.multi.clear();
            self.style = Style::Plain;
        }
    }

    /// Whether there is something that moves between two records.
    pub(crate) fn is_live(&self) -> bool {
        self.style == Style::Live
    }

    /// Says a line of the engine's own.
    pub(crate) fn say(&self, line: &str) {
        match self.style {
            Style::Live => self.multi.suspend(|| talk::say(line)),
            Style::Plain => talk::say(line),
            Style::Json => (),
        }
    }

    fn step_line(&self, step: StepId, mark: &str, text: &str) {
        let name = self.run.path(step);
        self.say(&format!("  {mark} {name:width$}  {text}", width = self.name_width));
    }

    fn happened(&mut self, record: &Record) -> Result<(), Fault> {
        match &record.event {
            Event::RunCreated { group, rerun_of, .. } => {
                self.began = record.at;
                let of = rerun_of.as_ref().map_or_else(String::new, |old| format!(" · a rerun of {old}"));
                let (name, run, steps) = (self.plan.name.bold(), self.id.bold(), steps(&self.plan));
                let group = group.as_ref().map_or_else(String::new, |group| format!(" · group {group}"));
                self.say(&format!("{name} run {run} · {steps}{group}{of}"));
            }
            Event::RunAdmitted => {
                let waited_ms = record.at.0.saturating_sub(self.began.0);
                if waited_ms >= WAIT_TOLD_MS {
                    self.say(&format!("its turn in the group came after {}", units::duration(waited_ms)));
                }
            }
            // Most get their place at once; how long they waited is in the record.
            Event::AttemptQueued { .. } | Event::WaitQueued { .. } | Event::ScopeQueued { .. } => (),
            // It takes milliseconds; a hit or an attempt follows.
            Event::CacheAsked { .. } => (),
            Event::CacheHit { step, origin, .. } => {
                self.succeeded += 1;
                self.cached += 1;
                self.failed.remove(step);
                let text = format!("answered from the cache, by run {}", origin.run);
                self.step_line(*step, &"✓".green().to_string(), &text);
            }
            Event::AttemptStarted { step, attempt } => self.started(*step, *attempt, record.at),
            Event::AttemptSucceeded { step, usage, .. } => {
                self.succeeded += 1;
                self.failed.remove(step);
                let took = self.take_down(*step, record.at).1;
                self.step_line(*step, &"✓".green().to_string(), &format!("succeeded {took}"));
                self.refusals(*step, usage, "");
            }
            Event::AttemptFailed { step, attempt, failure, usage } => {
                self.failed(*step, *attempt, failure, record.at);
                self.refusals(*step, usage, &failure.message);
            }
            Event::AttemptInterrupted { step, cause, .. } => {
                self.take_down(*step, record.at);
                let text = match cause {
                    Interruption::Stop => "interrupted; starts again when the run is resumed",
                    Interruption::Crash => "was interrupted when the engine died; starts again",
                };
                self.step_line(*step, &"■".yellow().to_string(), text);
            }
            Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => {
                self.take_down(*step, record.at);
                self.cancelled += 1;
                self.failed.remove(step);
                let why = self.run.ended_for(*step).and_then(|ended| ended.in_words(&self.run, *step));
                let why = why.map_or_else(String::new, |why| format!(": {}", shortened(&why, REASON_CHARS)));
                self.step_line(*step, &"■".yellow().to_string(), &format!("cancelled{why}"));
            }
            Event::StepFailed { step, failure } => {
                self.failed.insert(*step);
                // What failed within it has told the rest.
                let lines = if self.run.step(*step).opens().is_some() { 1 } else { MESSAGE_LINES };
                let message: Vec<&str> = failure.message.lines().take(lines).collect();
                self.step_line(*step, &"✗".red().to_string(), &format!("failed: {}", message.join("\n      ")));
            }
            Event::StepSkipped { step, reason } => {
                self.skipped += 1;
                let text = format!("skipped: {}", shortened(&reason.explain(&self.plan, &self.scopes), REASON_CHARS));
                self.step_line(*step, &"↷".dimmed().to_string(), &text);
            }
            Event::StepOpened { step } => {
                let Some(waiting) = self.run.waits_for(*step) else { return Ok(()) };
                self.step_line(*step, "…", &waiting.in_words());
            }
            // What becomes of its steps is told; of items, what becomes of those who work on them. What an attempt used is for
            // those who ask (`audit show`).
            Event::ScopeOpened { .. } | Event::ItemsAppended { .. } | Event::CapabilityUsed { .. } => (),
            Event::ScopeTimedOut { step, .. } => {
                self.step_line(*step, &"■".yellow().to_string(), "its timeout has passed");
            }
            Event::StepSucceeded { step, .. } => {
                self.succeeded += 1;
                self.step_line(*step, &"✓".green().to_string(), "succeeded");
            }
            Event::SignalReceived { signal, .. } => self.say(&format!("{} {signal}", "signal:".cyan())),
            Event::ApprovalGiven { step, approved, by, note, uid } => {
                let word = if *approved { "approved by" } else { "rejected by" };
                let uid = uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
                let note = if note.is_empty() { String::new() } else { format!(": {note}") };
                self.step_line(*step, &"✎".cyan().to_string(), &format!("{word} {by}{uid}{note}"));
            }
            Event::StepReused { step, origin, .. } => {
                self.reused += 1;
                self.step_line(*step, &"↺".green().to_string(), &format!("reused from run {}", origin.run));
            }
            Event::Paused { step, reason } => {
                let word = "paused:".yellow();
                match step {
                    Some(step) => self.step_line(*step, &"‖".yellow().to_string(), &format!("paused: {reason}")),
                    None => self.say(&format!("{word} {reason}; `downbeat unpause {}` lets it go on", self.id)),
                }
            }
            Event::Unpaused { step: Some(step) } => self.step_line(*step, "▸", "unpaused"),
            Event::Unpaused { step: None } => self.say(&format!("{} it goes on", "unpaused:".cyan())),
            Event::StepCancelRequested { step, reason } => {
                self.step_line(*step, &"■".yellow().to_string(), &format!("cancel requested: {reason}"));
            }
            Event::CancelRequested { reason } => self.say(&format!("{} {reason}", "cancel requested:".yellow())),
            Event::RunTimedOut => {
                let timeout = units::duration(self.plan.timeout_ms.unwrap_or(0));
                self.say(&format!("{} the workflow's timeout of {timeout} has passed", "timed out:".red()));
            }
            Event::RunFinished { outcome, outputs, faults } => {
                self.end_live();
                for fault in faults {
                    self.say(&format!("  {} {fault}", "✗".red()));
                }
                let word = match outcome {
                    Outcome::Succeeded => "succeeded".green().bold().to_string(),
                    Outcome::Failed => "failed".red().bold().to_string(),
                    Outcome::Cancelled => "cancelled".yellow().bold().to_string(),
                    Outcome::TimedOut => "timed out".red().bold().to_string(),
                };
                let took = units::duration(record.at.0.saturating_sub(self.began.0));
                let ended =
                    |count: usize, word: &str| if count > 0 { format!(", {count} {word}") } else { String::new() };
                let counts = format!(
                    "{} succeeded{}{}{}{}{}",
                    self.succeeded,
                    if self.cached > 0 { format!(" ({} from the cache)", self.cached) } else { String::new() },
                    ended(self.reused, "reused"),
                    ended(self.failed.len(), "failed"),
                    ended(self.skipped, "skipped"),
                    ended(self.cancelled, "cancelled")
                );
                let (name, run) = (self.plan.name.bold(), &self.id);
                self.say(&format!("{name} {word} after {took} · {counts} · downbeat show {run}"));
                return print_outputs(outputs);
            }
        }
        Ok(())
    }

    /// The scope that is tried again with this record; what failed within it did so for this time only.
    fn forget_tried(&mut self, record: &Record) -> Option<TriedAgain> {
        let again = self.run.tried_again(record.event.ends_step()?, record.at)?;
        let scopes = self.run.scopes();
        let is_within = |step: &StepId| {
            let mut scope = Some(scopes.scope(*step)).filter(|scope| *scope != again.scope);
            while let Some(here) = scope {
                let Some(opener) = scopes.place(here).opener else { return false };
                scope = Some(scopes.scope(opener)).filter(|scope| *scope != again.scope);
            }
            true
        };
        self.failed.retain(|step| !is_within(step));
        Some(again)
    }

    fn started(&mut self, step: StepId, attempt: u32, at: Timestamp) {
        let mut showing = Showing { started: at, attempt, ..Showing::default() };
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        let bars = self.steps.values().filter(|showing| showing.bar.is_some()).count();
        if self.style == Style::Live && bars < BARS_MAX {
            let bar = self.multi.add(ProgressBar::new_spinner());
            bar.set_style(spinner());
            bar.set_prefix(format!("{:width$}", self.run.path(step), width = self.name_width));
            bar.set_message(again.trim_start().to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            showing.bar = Some(bar);
        } else {
            self.step_line(step, "▸", &format!("started{again}"));
        }
        self.steps.insert(step, showing);
    }

    fn failed(&mut self, step: StepId, attempt: u32, failure: &Failure, at: Timestamp) {
        self.failed.insert(step);
        let (showing, took) = self.take_down(step, at);
        let retried = attempt > 1 || (failure.kind.is_retryable() && self.run.step(step).retry.attempts > 1);
        let count = if retried { format!(" (attempt {attempt})") } else { String::new() };
        let again = match self.run.status(step).0 {
            StepStatus::Delayed(until) => {
                format!("; tried again in {}", units::duration(until.0.saturating_sub(at.0)))
            }
            _ => String::new(),
        };
        let mut text = format!("failed {took}, {}{count}{again}", failure.kind);
        let mut lines = failure.message.lines();
        for line in lines.by_ref().take(MESSAGE_LINES) {
            let _ = write!(text, "\n      {line}");
        }
        let more = lines.count();
        if more > 0 {
            let _ = write!(text, "\n      … {more} more lines in `downbeat show`");
        }
        self.step_line(step, &"✗".red().to_string(), &text);
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

    /// What was refused, and what would allow it, unless the step has `said` so itself.
    fn refusals(&self, step: StepId, usage: &Usage, said: &str) {
        for refusal in usage.refusals.iter().filter(|refusal| !said.contains(&refusal.hint)) {
            self.say(&format!("      {} {}: {}", "refused".yellow(), refusal.capability, refusal.wanted));
            let table = self.run.step(step).table();
            self.say(&format!("      {} {}", "hint:".cyan().bold(), refusal.advice(&table)));
        }
    }

    fn take_down(&mut self, step: StepId, at: Timestamp) -> (Option<Showing>, String) {
        let showing = self.steps.remove(&step);
        if let Some(bar) = showing.as_ref().and_then(|showing| showing.bar.as_ref()) {
            bar.finish_and_clear();
            self.multi.remove(bar);
        }
        let took = showing.as_ref().map_or(0, |showing| at.0.saturating_sub(showing.started.0));
        (showing, format!("after {}", units::duration(took)))
    }

    fn logged(&mut self, line: &LogLine) {
        let Some(showing) = self.steps.get_mut(&line.step).filter(|showing| showing.attempt == line.attempt) else {
            return;
        };
        if showing.tail.len() == LOG_TAIL {
            showing.tail.pop_front();
        }
        showing.tail.push_back(line.message.clone());
        if let Some(bar) = &showing.bar {
            bar.set_message(visible(&line.message, false).into_owned());
        }
    }

    /// Shows how far a step's attempt says it is.
    pub(crate) fn progressed(&self, step: StepId, progress: &Progress) {
        let Some(bar) = self.steps.get(&step).and_then(|showing| showing.bar.as_ref()) else { return };
        if let Some(total) = progress.total.filter(|total| *total > 0) {
            if bar.length().is_none() {
                bar.set_style(counter());
            }
            bar.set_length(total);
            bar.set_position(progress.done.min(total));
        }
        if !progress.message.is_empty() {
            bar.set_message(visible(&progress.message, false).into_owned());
        }
    }
}

/// How wide the names of steps are at most that others are told beside. 32: what is deep within others stands out of its column
/// rather than to push all others to the right.
const NAME_WIDTH_MAX: usize = 32;

/// How wide the column of names is: for those of the workflow's steps and of all within them, of items and rounds the first ten.
fn name_width(plan: &Plan) -> usize {
    let mut width = 0;
    let mut left: Vec<(StepNo, usize)> = plan.steps_of(BodyId(0)).map(|no| (StepNo(no), 0)).collect();
    // A workflow may open itself.
    let mut seen = HashSet::new();
    while let Some((no, before)) = left.pop() {
        let step = plan.step(no);
        // What takes something back is rarely there.
        if step.undoes.is_some() {
            continue;
        }
        let own = before + step.name.chars().count();
        if own <= NAME_WIDTH_MAX {
            width = width.max(own);
        }
        let Some(opens) = step.opens().filter(|_| own < NAME_WIDTH_MAX) else { continue };
        let index = if matches!(opens.scopes, ScopeCount::One) { 0 } else { "[0]".len() };
        let is_step = plan.body(opens.body).is_some_and(|body| body.answer.is_step());
        match is_step {
            true if own + index <= NAME_WIDTH_MAX => width = width.max(own + index),
            true => (),
            false if seen.insert((opens.body, own + index)) => {
                left.extend(plan.steps_of(opens.body).map(|no| (StepNo(no), own + index + 1)));
            }
            false => (),
        }
    }
    width
}

/// The workflow's outputs, as JSON on standard output; nothing if it has none.
fn print_outputs(outputs: &Json) -> Result<(), Fault> {
    let value = outputs.value();
    if value.as_object().is_some_and(|outputs| !outputs.is_empty()) {
        let text = serde_json::to_string_pretty(&value).expect("a value is valid JSON");
        talk::put_json(&text)?;
    }
    Ok(())
}

pub(crate) fn steps(plan: &Plan) -> String {
    let count = plan.own_steps().iter().filter(|step| step.undoes.is_none()).count();
    format!("{count} step{}", if count == 1 { "" } else { "s" })
}

/// The beginning of a text, so many characters of it.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn spinner() -> ProgressStyle {
    match talk::has_colours() {
        true => style("  {spinner:.cyan} {prefix}  {elapsed:.dim} {wide_msg:.dim}"),
        false => style("  {spinner} {prefix}  {elapsed} {wide_msg}"),
    }
}

fn counter() -> ProgressStyle {
    match talk::has_colours() {
        true => style("  {spinner:.cyan} {prefix}  {elapsed:.dim} {bar:20.cyan/dim} {pos}/{len} {wide_msg:.dim}"),
        false => style("  {spinner} {prefix}  {elapsed} {bar:20} {pos}/{len} {wide_msg}"),
    }
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
