//! `downbeat prune`: deletes runs that are over, then what no run needs any more. The journal first, the files after it: a
//! process that dies in between leaves files that nothing mentions, which the next one finds.

use std::collections::{HashMap, HashSet};

use downbeat_conductor::Leftovers;
use downbeat_conductor::clock::Clock;
use downbeat_journal::{
    Deletion, Journal, Mode, OpenError, RUNS_DELETED_MAX, RunFilter, RunSummary, StateFilter, Tidied,
};
use downbeat_workflow::event::{Outcome, RunId, Timestamp};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use crate::arguments::{Prune, RunOutcome};
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::state;
use crate::table::table_with;
use crate::talk;
use crate::units::{self, counted};

pub(crate) fn prune(place: &Place, arguments: &Prune) -> Result<Exit, Fault> {
    // Only looking does not make a state folder where there is none.
    let looking = place.observe()?;
    let journal = if arguments.dry_run { looking } else { drive(place)? };
    let now = Clock::system().now();
    let runs = chosen(&journal, arguments, now)?;
    let (mut lines, mut tidied) = (0, Tidied::default());
    if !arguments.dry_run {
        let by = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
        for some in runs.chunks(RUNS_DELETED_MAX) {
            let runs = some.iter().map(|run| run.id.clone()).collect();
            let deleted = journal.delete(Deletion { runs, at: now, by: by.clone() }).map_err(Fault::engine)?;
            lines += deleted.iter().map(|run| run.lines).sum::<u64>();
        }
        tidied = journal.tidy().map_err(Fault::engine)?;
    }
    let kept = place.kept();
    let gone: HashSet<RunId> = runs.iter().map(|run| run.id.clone()).collect();
    let leftovers = kept.leftovers(&journal, &gone).map_err(Fault::engine)?;
    let failed = if arguments.dry_run { Vec::new() } else { kept.remove(&leftovers) };

    let is_chosen = !arguments.runs.is_empty() || arguments.older_than.is_some() || arguments.keep.is_some();
    let is_chosen = is_chosen || !arguments.outcome.is_empty() || arguments.workflow.is_some();
    let report = Report { is_chosen, dry_run: arguments.dry_run, runs, lines, tidied, leftovers };
    match arguments.json {
        true => talk::put_json(&report.json(&failed).to_string())?,
        false => report.tell()?,
    }
    match failed.first() {
        None => Ok(Exit::Success),
        Some(first) => {
            let message =
                format!("{} could not be removed, the first of them {first}", counted(failed.len() as u64, "file"));
            Err(Fault::engine(message).hint("the next `downbeat prune` tries again"))
        }
    }
}

/// The journal, to be driven by this process alone.
fn drive(place: &Place) -> Result<Journal, Fault> {
    Journal::open(&place.state, Mode::Drive).map_err(|error| match error {
        OpenError::Driven { dir, pid } => {
            let who = pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
            let why = "what its steps have stored may not be in the journal yet";
            let message = format!("another process{who} drives the runs in {}: {why}", dir.display());
            Fault::engine(message).hint("prune when it has ended; `--dry-run` tells what would be removed now")
        }
        other => Fault::engine(other),
    })
}

/// The runs to delete, latest first: those that are named, or those that fit all conditions; without any, none.
fn chosen(journal: &Journal, arguments: &Prune, now: Timestamp) -> Result<Vec<RunSummary>, Fault> {
    let mut runs: Vec<RunSummary> = Vec::new();
    for text in &arguments.runs {
        let run = find_run(journal, Some(text), StateFilter::Any)?;
        if run.outcome.is_none() {
            let fault = Fault::new(Exit::Usage, format!("run {} is not over", run.id));
            return Err(fault.hint(format!("`downbeat cancel {}` ends it; then it can be deleted", run.id)));
        }
        if runs.iter().all(|known| known.id != run.id) {
            runs.push(run);
        }
    }
    let Prune { older_than, keep, outcome, workflow, .. } = arguments;
    if older_than.is_none() && keep.is_none() && outcome.is_empty() && workflow.is_none() {
        return Ok(runs);
    }
    let over = RunFilter { state: StateFilter::Ended, workflow: workflow.clone(), limit: None };
    let ended_so = |run: &RunSummary| {
        outcome.is_empty() || outcome.iter().any(|wanted| run.outcome == Some(Outcome::from(*wanted)))
    };
    let mut newer: HashMap<String, usize> = HashMap::new();
    let found = journal.runs(&over).map_err(Fault::engine)?.into_iter().filter(ended_so).filter(|run| {
        let newer = newer.entry(run.workflow.clone()).or_default();
        *newer += 1;
        let is_old = older_than.is_none_or(|ms| run.finished.is_some_and(|at| at.0.saturating_add(ms) <= now.0));
        is_old && keep.is_none_or(|keep| *newer > keep)
    });
    Ok(found.collect())
}

impl From<RunOutcome> for Outcome {
    fn from(outcome: RunOutcome) -> Outcome {
        match outcome {
            RunOutcome::Succeeded => Outcome::Succeeded,
            RunOutcome::Failed => Outcome::Failed,
            RunOutcome::Cancelled => Outcome::Cancelled,
            RunOutcome::TimedOut => Outcome::TimedOut,
        }
    }
}

/// What was removed, or would be.
struct Report {
    /// Whether anything was said of which runs.
    is_chosen: bool,
    dry_run: bool,
    runs: Vec<RunSummary>,
    lines: u64,
    tidied: Tidied,
    leftovers: Leftovers,
}

impl Report {
    /// By kind: its word, how many, and how much they hold.
    fn files(&self) -> [(&'static str, usize, u64); 3] {
        let Leftovers { blobs, components, workspaces } = &self.leftovers;
        let bytes = |files: &[downbeat_conductor::Leftover]| files.iter().map(|file| file.bytes).sum();
        [
            ("blob", blobs.len(), blobs.iter().map(|blob| blob.bytes).sum()),
            ("component", components.len(), bytes(components)),
            ("workspace", workspaces.len(), bytes(workspaces)),
        ]
    }

    fn json(&self, failed: &[String]) -> Value {
        let run = |run: &RunSummary| {
            json!({
                "run": run.id.to_string(),
                "workflow": run.workflow,
                "state": state::word(run.outcome, &run.id, None),
                "finished": run.finished.map(units::time),
                "records": run.version,
            })
        };
        let mut report = json!({
            "dry-run": self.dry_run,
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        });
        for (word, count, bytes) in self.files() {
            report[format!("{word}s")] = json!({ "count": count, "bytes": bytes });
        }
        if !self.dry_run {
            report["lines"] = json!(self.lines);
            report["plans"] = json!(self.tidied.plans);
            report["journal"] = json!({
                "bytes-before": self.tidied.bytes_before,
                "bytes-after": self.tidied.bytes_after,
                "bytes-empty": self.tidied.bytes_empty,
            });
            report["not-removed"] = json!(failed);
        }
        report
    }

    fn tell(&self) -> Result<(), Fault> {
        if !self.runs.is_empty() {
            let row = |run: &RunSummary| {
                let finished = run.finished.map_or_else(String::new, units::time);
                let state = state::word(run.outcome, &run.id, None).to_owned();
                vec![run.id.to_string(), run.workflow.clone(), state, finished]
            };
            let rows: Vec<Vec<String>> = self.runs.iter().map(row).collect();
            talk::put_painted(&table_with(&["RUN", "WORKFLOW", "STATE", "FINISHED"], &rows, 2, state::painted))?;
        }
        let would = if self.dry_run { "would be " } else { "" };
        let records: u64 = self.runs.iter().map(|run| run.version).sum();
        let mut parts = vec![counted(records, "record")];
        parts.extend((!self.dry_run).then(|| format!("{} of logs", counted(self.lines, "line"))));
        match self.runs.len() {
            0 => talk::say(format_args!("no run {would}deleted")),
            runs => {
                talk::say(format_args!("{} {would}deleted, with {}", counted(runs as u64, "run"), parts.join(" and ")))
            }
        }
        let mut files = Vec::new();
        for (word, number, bytes) in self.files().into_iter().filter(|(_, number, _)| *number > 0) {
            files.push(format!("{} ({})", counted(number as u64, word), units::size(bytes)));
        }
        files.extend((self.tidied.plans > 0).then(|| counted(self.tidied.plans, "plan")));
        if !files.is_empty() {
            talk::say(format_args!("{} {would}removed, which no run needs", files.join(", ")));
        }
        let Tidied { bytes_before, bytes_after, bytes_empty, not_compacted, .. } = &self.tidied;
        if bytes_after < bytes_before {
            let sizes = [*bytes_before, *bytes_after].map(units::size);
            talk::say(format_args!("the journal takes {} instead of {}", sizes[1], sizes[0]));
        } else if let Some(error) = not_compacted {
            let empty = units::size(*bytes_empty);
            talk::say(format_args!("{empty} of the journal are empty, and can't be given back now ({error})"));
        }
        if !self.is_chosen {
            let hint = "name the runs to be deleted, or say which: `--older-than 30d`, `--keep 20`";
            talk::say(format_args!("{} {hint}", "hint:".cyan().bold()));
        }
        Ok(())
    }
}
