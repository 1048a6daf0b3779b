//! The lives of steps and scopes: what a run keeps of each. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::event::{Failure, Outcome, SkipReason, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{PoolId, StepId};
use crate::scope::ScopeId;

/// A step's life.
#[derive(Clone, Debug)]
pub(super) struct StepLife {
    pub(super) state: State,
    /// Attempts started; of a step that opens scopes or waits, 1 once it has begun.
    pub(super) attempts: u32,
    /// Attempts failed; interrupted ones don't count.
    pub(super) failures: u32,
    /// How many steps of the run had come to an end with this one: 0 while it has not, and the order of ends for those
    /// that have.
    pub(super) end: u32,
    /// How many steps had come to an end when it was decided that this one may start.
    pub(super) seen: u32,
    /// Why it is ended, if somebody or something does not want it any more.
    pub(super) unwanted: Option<Box<SkipReason>>,
    /// The scopes that it opens, once it has begun.
    pub(super) family: Option<Box<Family>>,
}

impl StepLife {
    /// Before anything happened.
    pub(super) const WAITING: StepLife = StepLife {
        state: State::Waiting { met: 0, unmet: 0 },
        attempts: 0,
        failures: 0,
        end: 0,
        seen: 0,
        unwanted: None,
        family: None,
    };

    /// How it ended; `None` if it has not.
    pub(super) fn ended(&self) -> Option<StepEnd> {
        match self.state {
            State::Succeeded(_) => Some(StepEnd::Succeeded),
            State::Failed(_) => Some(StepEnd::Failed),
            State::Skipped(_) => Some(StepEnd::Skipped),
            State::Cancelled => Some(StepEnd::Cancelled),
            _ => None,
        }
    }

    /// Whether it comes to an end only when something that it began comes home: an attempt, or scopes.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.state, State::Running | State::Open)
    }
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// For its needs: so many are met, so many can't be any more.
    Waiting {
        met: u32,
        unmet: u32,
    },
    /// Enough needs are met, or the next attempt is due.
    Ready,
    /// Its needs can't be met any more, or it is not wanted any more.
    Doomed(SkipReason),
    /// The cache.
    Asking,
    Queued(PoolId),
    /// An attempt is in flight.
    Running,
    Delayed(Timestamp),
    /// It opens scopes, and they are not all over.
    Open,
    /// It waits for a time, a signal, or somebody's word.
    Parked(Box<Parked>),
    Succeeded(Given),
    Failed(Box<Failure>),
    Skipped(SkipReason),
    Cancelled,
}

/// JSON that a run was given. Most of it is only handed on; what a rule looks into is parsed when the first one does.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: Json,
    parsed: OnceLock<Value>,
}

impl Given {
    pub(super) fn new(text: Json) -> Given {
        Given { text, parsed: OnceLock::new() }
    }

    pub(super) fn value(&self) -> &Value {
        self.parsed.get_or_init(|| self.text.value())
    }
}

/// What a step waits for.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    /// The waiting is over, successfully.
    pub(super) over_at: Option<Timestamp>,
    /// It has taken too long.
    pub(super) late_at: Option<Timestamp>,
    /// Since when that stands still.
    pub(super) stands: Option<Timestamp>,
    /// What somebody said: a signal's output, or an approval's; or a rejection.
    pub(super) answer: Option<Result<Json, Failure>>,
}

/// The scopes of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    /// The list, of a step that opens a scope for each of its items, as far as it is there.
    pub(super) items: Vec<Arc<Value>>,
    /// The steps whose items it is made of; none if it was there when the step began.
    pub(super) sources: Vec<StepId>,
    /// Whether more of it may come.
    pub(super) supply: Supply,
    /// What its `until` sees of the items that have ended; nothing without one.
    pub(super) tally: Option<Box<Value>>,
    /// By item or round, the latest.
    pub(super) scopes: Vec<ScopeId>,
    /// Those that are in line for a place in the step's pool, before they open.
    pub(super) line: BTreeSet<u32>,
    /// How many of them are open.
    pub(super) open: u32,
    /// How many items have succeeded, and how many will not any more.
    pub(super) met: u32,
    pub(super) unmet: u32,
    /// How often each of them has failed, of those that have and are tried again.
    pub(super) failures: BTreeMap<u32, u32>,
    /// Those that are tried again, and when.
    pub(super) again: BTreeSet<(Timestamp, u32)>,
    /// When the next round begins.
    pub(super) next_round: Option<Timestamp>,
    /// What has become of the step, once that is known: it ends when none of them is open that it waits for.
    pub(super) verdict: Option<Result<(), Failure>>,
    /// Of items: the first that failed, and why.
    pub(super) first_failure: Option<(u32, Failure)>,
}

/// What may still come of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Supply {
    /// Nothing: it is all there.
    #[default]
    Whole,
    /// More, while the step runs whose items they are.
    Open,
    /// Nothing, though it is not all there; why.
    Broken(String),
}

/// A scope's life.
#[derive(Clone, Debug)]
pub(super) struct ScopeLife {
    pub(super) stage: Stage,
    /// Why it is ended early.
    pub(super) cut: Option<Cut>,
    /// Whether somebody has asked for its end: a pause of what is around it does not hold it back.
    pub(super) asked: bool,
    /// Whether always-steps and undoing are ended as well.
    pub(super) giving_up: bool,
    /// Steps that have not come to an end, and those of them that nothing has to come home for: ordinary ones, always-steps.
    pub(super) open: [u32; 2],
    pub(super) idle: [u32; 2],
    pub(super) any_failed: [bool; 2],
    /// The first ordinary step that failed.
    pub(super) first_failed: Option<StepId>,
    /// Scopes that are not over and that it waits for: those that its steps opened, and what rounds left behind.
    pub(super) children: BTreeSet<ScopeId>,
    /// The scope that waits for it: the one around it, unless that was a round that went on.
    pub(super) holder: ScopeId,
    /// What is still to be undone; the next is the last.
    pub(super) to_undo: Vec<StepId>,
    /// What is being undone.
    pub(super) undoing: Option<StepId>,
    /// Whether what its steps did was taken back, as far as it could be.
    pub(super) undone: bool,
    pub(super) opened: Timestamp,
    /// How many scopes are around it.
    pub(super) depth: u32,
    /// What rules call `item`, `index` and `previous`.
    pub(super) locals: Option<Box<Locals>>,
    /// Those of a sub-workflow.
    pub(super) inputs: Option<Given>,
    /// Why it was over before it began: its inputs can't be made.
    pub(super) refused: Option<Box<Failure>>,
    /// What it answered, once it is over.
    pub(super) output: Option<Json>,
}

impl ScopeLife {
    /// One that begins, of a body with so many steps of each kind.
    pub(super) fn new(kinds: [u32; 3], stage: Stage, opened: Timestamp, depth: u32) -> ScopeLife {
        let open = [kinds[0], kinds[1]];
        ScopeLife {
            stage,
            cut: None,
            asked: false,
            giving_up: false,
            open,
            idle: open,
            any_failed: [false; 2],
            first_failed: None,
            children: BTreeSet::new(),
            holder: ScopeId::ROOT,
            to_undo: Vec::new(),
            undoing: None,
            undone: false,
            opened,
            depth,
            locals: None,
            inputs: None,
            refused: None,
            output: None,
        }
    }

    /// How it ends, as far as its steps say so far.
    pub(super) fn outcome(&self) -> Outcome {
        match &self.cut {
            Some(Cut::Ended { .. }) | None if self.any_failed == [false; 2] => Outcome::Succeeded,
            Some(Cut::Ended { .. }) | None => Outcome::Failed,
            Some(_) if self.any_failed[1] => Outcome::Failed,
            Some(Cut::TimedOut) => Outcome::TimedOut,
            Some(Cut::Cancelled | Cut::Unwanted(_)) => Outcome::Cancelled,
        }
    }
}

/// What only the steps of an item or a round see.
#[derive(Clone, Debug, Default)]
pub(super) struct Locals {
    /// None in a round, which sees the item around it.
    pub(super) item: Option<Arc<Value>>,
    pub(super) index: Value,
    pub(super) previous: Arc<Value>,
}

/// How far a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before its first record.
    Blank,
    /// The run waits for its group.
    InLine,
    /// Ordinary steps run.
    Steps,
    /// None of them is left; what they did is taken back.
    Undo,
    /// Always-steps run.
    Always,
    /// All are over. The workflow's own scope waits for its last record.
    Over(Outcome),
    /// With its last record.
    Finished(Outcome),
}

/// Why a scope is ended before its steps are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cut {
    Cancelled,
    TimedOut,
    /// One of its steps says that this is the end.
    Ended {
        by: StepId,
    },
    /// The step that opened it is not wanted any more.
    Unwanted(SkipReason),
}
