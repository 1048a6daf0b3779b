//! The state of a run in a word: how it ended, or whether somebody drives it right now.
//!
//! That nobody does is no fact of the run's record: an engine that died could not write it. It is read from the lock of
//! whoever drives.

use downbeat_journal::{Driver, RunSummary};
use downbeat_workflow::event::{Outcome, RunId};

use crate::exit::Fault;
use crate::place::Place;
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

/// Tells somebody who follows a run that nobody drives that nothing will happen for now.
pub(crate) fn tell_if_stopped(place: &Place, run: &RunSummary) -> Result<(), Fault> {
    if word(run.outcome, &run.id, place.driver()?.as_ref()) == "stopped" {
        talk::say(format_args!("run {} is stopped; this waits for `downbeat resume {}`", run.id, run.id));
    }
    Ok(())
}
