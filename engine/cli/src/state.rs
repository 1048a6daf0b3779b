//! The state of a run in a word: how it ended, or whether somebody drives it right now.
//!
//! That nobody does is no fact of the run's record: an engine that died could not write it. It is read from the lock of
//! whoever drives.

use downbeat_journal::{Driver, RunSummary};
use downbeat_workflow::event::{Outcome, RunId};
use owo_colors::OwoColorize as _;

use crate::talk;

/// The word. One that is not over is `running` if the process that drives has said so, else `stopped`.
pub(crate) fn word(outcome: Option<Outcome>, run: &RunId, driver: Option<&Driver>) -> &'static str {
    match outcome {
        Some(Outcome::Succeeded) => "succeeded",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::TimedOut) => "timed out",
        None if driver.is_some_and(|driver| driver.runs.contains(run)) => "running",
        None => "stopped",
    }
}

/// The word of a run or a step in its colour, where data has colours: that of the mark that `run` gives it.
pub(crate) fn painted(word: &str) -> String {
    if !talk::paints() {
        return word.to_owned();
    }
    match word.split(' ').next().unwrap_or_default() {
        "succeeded" | "reused" => word.green().to_string(),
        "failed" | "timed" => word.red().to_string(),
        "cancelled" | "stopped" | "interrupted" => word.yellow().to_string(),
        "running" | "in" => word.cyan().to_string(),
        "skipped" | "waiting" => word.dimmed().to_string(),
        _ => word.to_owned(),
    }
}

/// Tells somebody who follows a run that nobody drives that nothing will happen for now. `driver` was read before the
/// run was: one that ends in between has ended, and is not told as stopped.
pub(crate) fn tell_if_stopped(run: &RunSummary, driver: Option<&Driver>) {
    if word(run.outcome, &run.id, driver) == "stopped" {
        talk::say(format_args!("run {} is stopped; this waits for `downbeat resume {}`", run.id, run.id));
    }
}
