//! `downbeat show`: what happened in a run, from its records alone.

use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_journal::{Driver, Journal, Pending, Request, StateFilter};
use downbeat_workflow::event::{Interruption, Record, RunId, Usage};
use downbeat_workflow::history::{AttemptEnd, AttemptHistory, History, StepHistory};
use downbeat_workflow::line::used_up_until;
use downbeat_workflow::plan::{Plan, Pool, PoolId, Step, StepId};
use downbeat_workflow::run::{Run, StepStatus};
use downbeat_workflow::scope::Scopes;
use downbeat_workflow::text::{visible, visible_json};

use crate::arguments::Show;
use crate::ask::listed;
use crate::exit::{Exit, Fault};
use crate::follow::{Follower, pursue};
use crate::group;
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::screen::{Screen, Style, shortened};
use crate::state;
use crate::stream::{self, Names};
use crate::table::{table, table_with};
use crate::talk;
use crate::units;

pub(crate) fn show(place: &Place, arguments: &Show) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    // Before the run is read: one that ends in between has ended.
    let driver = place.driver()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let id = found.id.clone();
    let plan = Arc::new(load_plan(&journal, &id)?);
    if arguments.follow {
        state::tell_if_stopped(&found, driver.as_ref());
        return follow(journal, id, plan, Style::fitting(arguments.json));
    }
    let records = journal.load(&id).map_err(Fault::engine)?.records;
    if arguments.json {
        let mut scopes = Scopes::new(&plan);
        for record in &records {
            scopes.take_in(&plan, &record.event);
            talk::put_json(&stream::object(Names { plan: &plan, scopes: &scopes }, &id, record).to_string())?;
        }
        return Ok(Exit::Success);
    }
    let run = Run::replay(plan.clone(), id.clone(), &records).map_err(Fault::engine)?;
    let history = History::of(&plan, &records);
    let waits_for = group::waits_for(&journal, &run)?;
    let kept = match state::word(history.finished.map(|(_, outcome)| outcome), &id, driver.as_ref()) {
        "stopped" => journal.requests(&id).map_err(Fault::engine)?,
        _ => Vec::new(),
    };
    let lines = Lines { run: &run, pools: lines_of_pools(&plan, &records) };
    let facts = Facts { driver: driver.as_ref(), waits_for: waits_for.as_deref(), kept: &kept };
    talk::put_painted(&page(&plan, &lines, &history, &facts))?;
    Ok(Exit::Success)
}

/// The run from its beginning to its end, as `downbeat run` shows it, whoever drives it.
fn follow(journal: Journal, id: RunId, plan: Arc<Plan>, style: Style) -> Result<Exit, Fault> {
    let horizon = journal.horizon().map_err(Fault::engine)?;
    let mut screen = Screen::new(style, plan, id.clone());
    let shown = pursue(Follower::new(journal, id, &[], 0), horizon, |item| screen.take_in(item));
    screen.end_live();
    shown.map(|()| Exit::Success)
}

/// What is known beside the run's records.
struct Facts<'a> {
    driver: Option<&'a Driver>,
    /// The run that has its group.
    waits_for: Option<&'a str>,
    /// What was asked of it while nobody drove it.
    kept: &'a [Pending],
}

/// A run, and what is said of its steps that are in line for each pool.
struct Lines<'a> {
    run: &'a Run,
    pools: Vec<String>,
}

/// The whole page.
fn page(plan: &Plan, lines: &Lines<'_>, history: &History, facts: &Facts<'_>) -> String {
    let (run, driver) = (lines.run, facts.driver);
    let mut page = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(page, "{key:10}{value}");
    };
    line("run", &run.id().to_string());
    let data = |text: &str| visible(text, false).into_owned();
    line("workflow", &plan.name);
    let is_stopped = state::word(history.finished.map(|(_, outcome)| outcome), run.id(), driver) == "stopped";
    line("state", &state::painted(&state(run.id(), history, driver)));
    if let Some(group) = &history.group {
        line("group", &data(group));
    }
    if let Some(waits_for) = facts.waits_for {
        line("", waits_for);
    }
    if let Some(created) = history.created {
        line("created", &units::time(created));
        if let Some((finished, _)) = history.finished {
            let took = units::duration(finished.0.saturating_sub(created.0));
            line("finished", &format!("{} (took {took})", units::time(finished)));
        }
    }
    if let Some(old) = &history.rerun_of {
        line("rerun of", &old.to_string());
    }
    for (step, since) in run.paused() {
        let (what, flag) = match step {
            None => (String::new(), String::new()),
            Some(step) => (format!("{} ", run.path(step)), format!(" --step {}", run.path(step))),
        };
        let unpause = format!("`downbeat unpause {}{flag}` lets it go on", run.id());
        let reason = history.paused.get(&step).filter(|reason| !reason.is_empty());
        let reason = reason.map_or_else(String::new, |reason| format!(": {}", data(reason)));
        line("paused", &format!("{what}since {}{reason} ({unpause})", units::time(since)));
    }
    for (index, pending) in facts.kept.iter().enumerate() {
        let key = if index == 0 { "asked for" } else { "" };
        line(key, &data(&format!("{}; taken in when it is resumed", asked_for(&pending.request))));
    }
    if let Some(reason) = &history.cancel {
        line("cancelled", &data(reason));
    }
    if let Some(inputs) = &history.inputs {
        line("inputs", &visible_json(inputs.as_str()));
    }
    page.push('\n');
    let steps = in_order(run, history);
    page.push_str(&steps_table(lines, &steps, is_stopped));
    for (id, name, step) in steps {
        let failed = matches!(run.status(id).0, StepStatus::Failed(_));
        page.push_str(&failure_notes(&name, run.step(id), step, failed));
        if step.attempts.len() > 1 {
            page.push_str(&attempts_table(&name, &step.attempts, is_stopped));
        }
    }
    if let Some(outputs) = history.outputs.as_ref().filter(|outputs| outputs.as_str() != "{}") {
        let text = serde_json::to_string_pretty(&outputs.value()).expect("a value is valid JSON");
        let _ = write!(page, "\noutputs\n{}\n", visible_json(&text));
    }
    for fault in &history.faults {
        let _ = writeln!(page, "fault     {}", data(fault));
    }
    page
}

fn state(run: &RunId, history: &History, driver: Option<&Driver>) -> String {
    let outcome = history.finished.map(|(_, outcome)| outcome);
    match (state::word(outcome, run, driver), driver.and_then(|driver| driver.pid)) {
        ("running", Some(pid)) => format!("running (driven by process {pid})"),
        ("stopped", _) => format!("stopped (`downbeat resume {run}` goes on)"),
        (word, _) => word.to_owned(),
    }
}

/// What the table says of an attempt that was in flight when whoever drove the run was killed.
const INTERRUPTED: &str = "interrupted";

/// The steps as people read them, each with what it is called here: of those that were tried again within others, which time
/// it was as well.
fn in_order<'h>(run: &Run, history: &'h History) -> Vec<(StepId, String, &'h StepHistory)> {
    let (scopes, tries) = (run.scopes(), run.scopes().tries());
    let step = |id: StepId| {
        let mut name = run.path(id);
        if let Some((time, of)) = scopes.time(&tries, id) {
            let _ = write!(name, " (time {time} of {of})");
        }
        // Those of the scope that was opened last are known once something happens to them.
        history.steps.get(id.index()).map(|story| (id, name, story))
    };
    let order = scopes.in_reading_order(run.plan());
    order.into_iter().filter(|id| !run.is_never_needed(*id)).filter_map(step).collect()
}

/// `is_stopped`: nobody drives the run, so that nothing is in flight whatever the records say.
fn steps_table(lines: &Lines<'_>, steps: &[(StepId, String, &StepHistory)], is_stopped: bool) -> String {
    let row = |(id, name, step): &(StepId, String, &StepHistory)| {
        let (id, run) = (*id, lines.run);
        let (status, attempts) = run.status(id);
        let usage = step.attempts.iter().rev().find_map(|attempt| attempt.ended.as_ref()?.1.usage());
        let cell = |read: fn(&Usage) -> String| usage.map_or_else(String::new, read);
        vec![
            name.clone(),
            match status {
                StepStatus::Running if is_stopped => INTERRUPTED.to_owned(),
                StepStatus::Succeeded(_) if step.reused.is_some() => "reused".to_owned(),
                _ => status_word(&status).to_owned(),
            },
            if attempts == 0 { String::new() } else { attempts.to_string() },
            step.elapsed_ms().map_or_else(String::new, units::duration),
            cell(|usage| units::micros(usage.cpu_us + usage.process_cpu_us)),
            cell(|usage| units::size(usage.memory_peak)),
            cell(|usage| format!("{} / {}", units::size(usage.bytes_in), units::size(usage.bytes_out))),
            match (&step.reused, &step.cached) {
                (Some(origin), _) => format!("its answer is that of run {}", origin.run),
                (None, Some(origin)) => format!("from the cache: {} of run {}", origin.step, origin.run),
                (None, None) => why(lines, id, is_stopped),
            },
        ]
    };
    let rows: Vec<Vec<String>> = steps.iter().map(row).collect();
    let headings = ["STEP", "STATE", "ATTEMPTS", "TIME", "CPU", "MEMORY", "IN / OUT", "WHY"];
    table_with(&headings, &rows, 1, state::painted)
}

fn status_word(status: &StepStatus<'_>) -> &'static str {
    match status {
        StepStatus::Waiting => "waiting",
        StepStatus::Ready => "ready",
        StepStatus::Asking => "asking",
        StepStatus::Queued => "queued",
        StepStatus::Running => "in flight",
        StepStatus::Delayed(_) => "delayed",
        StepStatus::Open => "open",
        StepStatus::Parked(_) => "parked",
        StepStatus::Succeeded(_) => "succeeded",
        StepStatus::Failed(_) => "failed",
        StepStatus::Skipped(_) => "skipped",
        StepStatus::Cancelled => "cancelled",
    }
}

fn why(lines: &Lines<'_>, step: StepId, is_stopped: bool) -> String {
    let run = lines.run;
    let (status, attempts) = run.status(step);
    match status {
        StepStatus::Skipped(reason) => on_a_line(&reason.explain(run.plan(), run.scopes()), 120),
        StepStatus::Cancelled => {
            let ended_for = run.ended_for(step).and_then(|ended| ended.in_words(run, step));
            ended_for.map_or_else(String::new, |words| on_a_line(&words, 120))
        }
        StepStatus::Running if is_stopped => "its engine is gone; starts again when the run is resumed".to_owned(),
        StepStatus::Ready if attempts > 0 => "interrupted; starts again when the run is resumed".to_owned(),
        StepStatus::Failed(failure) => {
            let first = failure.message.lines().next().unwrap_or("");
            format!("{}: {}", failure.kind, on_a_line(first, 80))
        }
        StepStatus::Queued => run.step(step).pool().map_or_else(String::new, |pool| lines.pools[pool.index()].clone()),
        StepStatus::Parked(_) => {
            let Some(waiting) = run.waits_for(step) else { return String::new() };
            let command = waiting.command(run, step).map_or_else(String::new, |command| format!(" – `{command}`"));
            let words: Vec<String> = waiting.in_words().split_whitespace().map(str::to_owned).collect();
            format!("{}{command}", on_a_line(&words.join(" "), 120))
        }
        StepStatus::Delayed(until) => format!("next attempt at {}", units::time(until)),
        _ => String::new(),
    }
}

/// What keeps something in line for each pool, as far as this run's records say.
fn lines_of_pools(plan: &Plan, records: &[Record]) -> Vec<String> {
    let now = Clock::system().now();
    let words = |(index, pool): (usize, &Pool)| {
        let next = used_up_until(plan, PoolId(index as u32), records, now);
        match pool.rate.zip(next) {
            Some((rate, next)) => {
                let (name, next) = (&pool.name, units::time(next));
                format!("the rate {rate} of the pool `{name}` is used up; the next may begin at {next}")
            }
            None => format!("in line for the pool `{}`", pool.name),
        }
    };
    plan.pools.iter().enumerate().map(words).collect()
}

/// What was asked of a run, in words.
fn asked_for(request: &Request) -> String {
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match request {
        Request::Cancel { reason } => format!("its end{}", because(reason)),
        Request::CancelStep { step, reason } => format!("the end of `{step}`{}", because(reason)),
        Request::CancelSteps { steps, reason } => format!("the end of {}{}", listed(steps), because(reason)),
        Request::Pause { steps, reason } if steps.is_empty() => format!("a pause{}", because(reason)),
        Request::Pause { steps, reason } => format!("a pause of {}{}", listed(steps), because(reason)),
        Request::Unpause { steps } if steps.is_empty() => "the end of its pause".to_owned(),
        Request::Unpause { steps } => format!("the end of the pause of {}", listed(steps)),
        Request::Signal { signal, .. } => format!("the signal `{signal}`"),
        Request::Answer { step, approved, by, .. } => {
            format!("the {} of `{step}` by {by}", if *approved { "approval" } else { "rejection" })
        }
    }
}

/// The whole message, backtrace and refusals of a step that failed.
fn failure_notes(name: &str, plan: &Step, step: &StepHistory, failed: bool) -> String {
    let mut notes = String::new();
    if let Some(failure) = step.failure().filter(|_| failed) {
        let _ = writeln!(notes, "\n{name} failed: {}", failure.kind);
        for line in failure.message.lines().chain(failure.backtrace.iter().flat_map(|trace| trace.lines())) {
            let _ = writeln!(notes, "  {}", visible(line, false));
        }
    }
    let usages = step.attempts.iter().filter_map(|attempt| attempt.ended.as_ref()?.1.usage());
    let dropped: u64 = usages.clone().map(|usage| usage.log_dropped).sum();
    if dropped > 0 {
        let _ = writeln!(notes, "\n{} of the log of {name} were dropped (limit `log`)", units::size(dropped));
    }
    let mut unprotected: Vec<_> = usages
        .clone()
        .filter_map(|usage| usage.programs.as_ref())
        .flat_map(|programs| &programs.unprotected)
        .map(|it| it.word())
        .collect();
    unprotected.sort_unstable();
    unprotected.dedup();
    if !unprotected.is_empty() {
        let missing = unprotected.join(", ");
        let _ =
            writeln!(notes, "\nprograms of {name} ran without protections that this system does not have: {missing}");
    }
    let mut refusals: Vec<_> = usages.flat_map(|usage| &usage.refusals).collect();
    refusals.dedup();
    for refusal in refusals {
        let _ = writeln!(notes, "\n{name} was refused {}: {}", refusal.capability, refusal.wanted);
        let _ = writeln!(notes, "  hint: {}", refusal.advice(&plan.table()));
    }
    notes
}

/// So many characters where a terminal's lines are as wide as they are; all of it elsewhere.
fn on_a_line(text: &str, width: usize) -> String {
    let text = visible(text, false);
    if talk::is_read_on_terminal() { shortened(&text, width) } else { text.into_owned() }
}

fn attempts_table(name: &str, attempts: &[AttemptHistory], is_stopped: bool) -> String {
    let row = |attempt: &AttemptHistory| {
        let span = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => units::duration(to.saturating_sub(from)),
            _ => String::new(),
        };
        let ended = attempt.ended.as_ref();
        vec![
            attempt.attempt.to_string(),
            attempt.started.map_or_else(String::new, units::time),
            span(attempt.queued.map(|at| at.0), attempt.started.map(|at| at.0)),
            span(attempt.started.map(|at| at.0), ended.map(|(at, _)| at.0)),
            match (ended, attempt.started) {
                (Some((_, end)), _) => end_words(end),
                (None, Some(_)) if is_stopped => INTERRUPTED.to_owned(),
                (None, Some(_)) => "in flight".to_owned(),
                (None, None) => "not started".to_owned(),
            },
        ]
    };
    let rows: Vec<Vec<String>> = attempts.iter().map(row).collect();
    format!("\nattempts of {name}\n{}", table(&["#", "STARTED", "QUEUED FOR", "TOOK", "END"], &rows))
}

fn end_words(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Succeeded(..) => "succeeded".to_owned(),
        AttemptEnd::Failed(failure, _) => {
            let first = failure.message.lines().next().unwrap_or("");
            format!("failed, {}: {}", failure.kind, on_a_line(first, 80))
        }
        AttemptEnd::Interrupted(Interruption::Crash) => "interrupted: the engine died".to_owned(),
        AttemptEnd::Interrupted(Interruption::Stop) => "interrupted: the engine was stopped".to_owned(),
        AttemptEnd::Cancelled(_) => "cancelled".to_owned(),
    }
}
