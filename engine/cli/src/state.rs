//! The state of a run in a word: how it ended, or whether somebody drives it right now.
//!
//! That nobody does is no fact of the run's record: an engine that died could not write it. It is read from the lock of
//! whoever drives.

use downbeat_journal::{Driver, RunSummary};
use downbeat_workflow::event::{Outcome, RunId};

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

/// Tells somebody who follows a run that nobody drives that nothing will happen for now. `driver` was read before the
/// run was: one that ends in between has ended, and is not told as stopped.
pub(crate) fn tell_if_stopped(run: &RunSummary, driver: Option<&Driver>) {
    if word(run.outcome, &run.id, driver) == "stopped" {
        talk::say(format_args!("run {} is stopped; this waits for `downbeat resume {}`", run.id, run.id));
    }
}
