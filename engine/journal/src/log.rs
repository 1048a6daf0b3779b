//! What attempts said, line by line. Kept beside the events and not among them: a line decides nothing, nobody waits for
//! it, and a chatty guest must not slow a run's replay down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use downbeat_workflow::event::{RunId, Timestamp};
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::StepId;

/// A line of an attempt's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Whose.
    pub step: StepId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// As the driver's clock said.
    pub at: Timestamp,
    /// How grave.
    pub level: Level,
    /// One line, without its end.
    pub message: String,
}

/// Which lines of a run's log are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only this step's.
    pub step: Option<StepId>,
    /// Only those after this position of the log; 0 for all.
    pub after: u64,
}

/// The number that the file keeps for a level.
pub(crate) fn level_number(level: Level) -> i64 {
    level as i64
}

/// The level of a number in the file.
pub(crate) fn level_of_number(number: i64) -> Option<Level> {
    Level::ALL.get(usize::try_from(number).ok()?).copied()
}

impl LogLine {
    /// What it takes of the queue's bound, in bytes: its text and a row around it.
    pub(crate) fn weight(&self) -> usize {
        self.message.len() + 64
    }
}

/// Where lines are missing: those that found no room, and those of a group that the disk refused. Each run's gap becomes
/// one line of its log with the next commit that succeeds.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Mutex<HashMap<RunId, Gap>>);

#[derive(Debug)]
pub(crate) struct Gap {
    first: LogLine,
    count: usize,
}

impl Gaps {
    /// Notes that these lines are lost.
    pub(crate) fn note(&self, run: &RunId, lines: &[LogLine]) {
        if let Some(first) = lines.first() {
            self.put_back([(run.clone(), Gap { first: first.clone(), count: lines.len() })]);
        }
    }

    /// Takes all gaps; they are the caller's to write, or to [`Gaps::put_back`].
    pub(crate) fn take(&self) -> HashMap<RunId, Gap> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes gaps again, which could not be written.
    pub(crate) fn put_back(&self, gaps: impl IntoIterator<Item = (RunId, Gap)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (run, gap) in gaps {
            known.entry(run).and_modify(|known| known.count += gap.count).or_insert(gap);
        }
    }
}

impl Gap {
    /// Stands in the log for what is missing, as a line of the first attempt that lost one.
    pub(crate) fn line(&self) -> LogLine {
        let (lines, are, them) = if self.count == 1 { ("line", "is", "it") } else { ("lines", "are", "them") };
        let message =
            format!("{} {lines} of this run's log {are} missing here: the disk could not take {them}", self.count);
        LogLine { level: Level::Warn, message, ..self.first.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_levels_number_stands_for_it() {
        for level in Level::ALL {
            assert_eq!(level_of_number(level_number(level)), Some(level));
        }
        assert_eq!(level_of_number(5), None);
        assert_eq!(level_of_number(-1), None);
    }
}
