//! What a run's records say, arranged for readers: each step's attempts with their times, ends and use of resources.
//!
//! A fold over records, like [`Run`](crate::run::Run), but it keeps what happened instead of what follows from it.

use std::collections::BTreeMap;

use crate::event::{
    Event, Failure, Interruption, Origin, Outcome, Record, RunId, SkipReason, StepEnd, Timestamp, Usage,
};
use crate::json::Json;
use crate::plan::{Plan, StepId};

/// The story of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// When it was created; `None` before its first record.
    pub created: Option<Timestamp>,
    /// Its inputs.
    pub inputs: Option<Json>,
    /// The group whose other runs it excludes.
    pub group: Option<String>,
    /// Since when it does; `None` while it waits.
    pub admitted: Option<Timestamp>,
    /// Who asked for its end, in their words.
    pub cancel: Option<String>,
    /// When and how it ended.
    pub finished: Option<(Timestamp, Outcome)>,
    /// Its outputs, once it has ended.
    pub outputs: Option<Json>,
    /// Outputs that could not be computed.
    pub faults: Vec<String>,
    /// By [`StepId`]: the workflow's own in the plan's order, then those of each scope that was opened.
    pub steps: Vec<StepHistory>,
    /// The run whose answers it takes over.
    pub rerun_of: Option<RunId>,
    /// What is paused, the run by `None`, in the words of whoever asked for it.
    pub paused: BTreeMap<Option<StepId>, String>,
    /// The signals that were sent, in order.
    pub signals: Vec<(Timestamp, String, Json)>,
}

/// The story of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepHistory {
    /// Each attempt that was queued or started.
    pub attempts: Vec<AttemptHistory>,
    /// When and how the step came to its end.
    pub ended: Option<(Timestamp, StepEnd)>,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// Whose answer was taken instead of an attempt.
    pub cached: Option<Origin>,
    /// Why it failed without an attempt.
    pub failed: Option<Failure>,
    /// Where its answer comes from, if it did nothing itself.
    pub reused: Option<Origin>,
    /// When its scopes, or its waiting, began.
    pub opened: Option<Timestamp>,
    /// When its waiting got in line for its pool.
    pub queued: Option<Timestamp>,
}

/// The story of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptHistory {
    /// Counts from 1.
    pub attempt: u32,
    /// When it got in line for its pool.
    pub queued: Option<Timestamp>,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// When and how it ended.
    pub ended: Option<(Timestamp, AttemptEnd)>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// With this output.
    Succeeded(Json, Usage),
    /// With this failure.
    Failed(Failure, Usage),
    /// The engine stopped or died.
    Interrupted(Interruption),
    /// With its run.
    Cancelled(Usage),
}

impl AttemptEnd {
    /// What the attempt used; not known of one that was interrupted.
    pub fn usage(&self) -> Option<&Usage> {
        match self {
            AttemptEnd::Succeeded(_, usage) | AttemptEnd::Failed(_, usage) | AttemptEnd::Cancelled(usage) => {
                Some(usage)
            }
            AttemptEnd::Interrupted(_) => None,
        }
    }
}

/// Whether a run is paused as a whole, by its records alone.
pub fn is_paused<'r>(records: impl IntoIterator<Item = &'r Record>) -> bool {
    records.into_iter().fold(false, |paused, record| match record.event {
        Event::Paused { step: None, .. } => true,
        Event::Unpaused { step: None } | Event::CancelRequested { .. } => false,
        _ => paused,
    })
}

/// Whether a run waits for its group, by its records alone: it is none of those that exclude each other yet.
pub fn is_in_line<'r>(records: impl IntoIterator<Item = &'r Record>) -> bool {
    records.into_iter().fold(false, |waits, record| match &record.event {
        Event::RunCreated { group, .. } => group.is_some(),
        Event::RunAdmitted | Event::RunFinished { .. } => false,
        _ => waits,
    })
}

impl History {
    /// The story that these records tell about a run of this plan.
    ///
    /// Whether a failed attempt was the step's last one is not recorded but follows from the plan: between two attempts,
    /// `ended` says `Failed`, and `Run::status` says `Delayed`.
    pub fn of<'r>(plan: &Plan, records: impl IntoIterator<Item = &'r Record>) -> History {
        let steps = plan.own_steps().len();
        let mut history = History { steps: vec![StepHistory::default(); steps], ..History::default() };
        for record in records {
            history.take_in(record);
        }
        history
    }

    /// Adds one record.
    pub fn take_in(&mut self, record: &Record) {
        let at = record.at;
        match &record.event {
            Event::RunCreated { inputs, group, rerun_of, .. } => {
                self.rerun_of.clone_from(rerun_of);
                self.created = Some(at);
                self.inputs = Some(inputs.clone());
                self.group.clone_from(group);
            }
            Event::RunAdmitted => self.admitted = Some(at),
            Event::AttemptQueued { step, attempt, .. } => self.attempt(*step, *attempt).queued = Some(at),
            Event::AttemptStarted { step, attempt } => {
                self.attempt(*step, *attempt).started = Some(at);
                self.step(*step).ended = None;
            }
            Event::AttemptSucceeded { step, attempt, output, usage } => {
                let end = AttemptEnd::Succeeded(output.clone(), usage.clone());
                self.attempt(*step, *attempt).ended = Some((at, end));
                self.step(*step).ended = Some((at, StepEnd::Succeeded));
            }
            Event::AttemptFailed { step, attempt, failure, usage } => {
                let end = AttemptEnd::Failed(failure.clone(), usage.clone());
                self.attempt(*step, *attempt).ended = Some((at, end));
                // Until another attempt says otherwise.
                self.step(*step).ended = Some((at, StepEnd::Failed));
            }
            Event::AttemptInterrupted { step, attempt, cause } => {
                self.attempt(*step, *attempt).ended = Some((at, AttemptEnd::Interrupted(*cause)));
            }
            Event::AttemptCancelled { step, attempt, usage } => {
                self.attempt(*step, *attempt).ended = Some((at, AttemptEnd::Cancelled(usage.clone())));
                self.step(*step).ended = Some((at, StepEnd::Cancelled));
            }
            Event::StepCancelled { step } => self.step(*step).ended = Some((at, StepEnd::Cancelled)),
            Event::StepFailed { step, failure } => {
                let life = self.step(*step);
                life.failed = Some(failure.clone());
                life.ended = Some((at, StepEnd::Failed));
            }
            Event::StepSkipped { step, reason } => {
                let life = self.step(*step);
                life.skipped = Some(reason.clone());
                life.ended = Some((at, StepEnd::Skipped));
            }
            Event::WaitQueued { step, .. } => self.step(*step).queued = Some(at),
            Event::CacheAsked { .. } => (),
            Event::CacheHit { step, origin, .. } => {
                let life = self.step(*step);
                life.cached = Some((**origin).clone());
                life.ended = Some((at, StepEnd::Succeeded));
            }
            Event::StepOpened { step } => self.step(*step).opened = Some(at),
            Event::StepSucceeded { step, .. } => self.step(*step).ended = Some((at, StepEnd::Succeeded)),
            Event::StepReused { step, origin, .. } => {
                let life = self.step(*step);
                life.reused = Some((**origin).clone());
                life.ended = Some((at, StepEnd::Succeeded));
            }
            Event::SignalReceived { signal, data } => self.signals.push((at, signal.clone(), data.clone())),
            // The steps of a scope are known once something happens to them.
            Event::ItemsAppended { .. }
            | Event::CapabilityUsed { .. }
            | Event::ScopeOpened { .. }
            | Event::ScopeQueued { .. }
            | Event::ScopeTimedOut { .. }
            | Event::ApprovalGiven { .. }
            | Event::StepCancelRequested { .. } => (),
            Event::Paused { step, reason } => drop(self.paused.insert(*step, reason.clone())),
            Event::Unpaused { step } => drop(self.paused.remove(step)),
            Event::CancelRequested { reason } => self.cancel = Some(reason.clone()),
            Event::RunTimedOut => (),
            Event::RunFinished { outcome, outputs, faults } => {
                self.finished = Some((at, *outcome));
                self.outputs = Some(outputs.clone());
                self.faults.clone_from(faults);
            }
        }
    }

    fn step(&mut self, step: StepId) -> &mut StepHistory {
        if self.steps.len() <= step.index() {
            self.steps.resize_with(step.index() + 1, StepHistory::default);
        }
        &mut self.steps[step.index()]
    }

    fn attempt(&mut self, step: StepId, attempt: u32) -> &mut AttemptHistory {
        let attempts = &mut self.step(step).attempts;
        let place = attempts.iter().rposition(|known| known.attempt == attempt).unwrap_or_else(|| {
            attempts.push(AttemptHistory { attempt, queued: None, started: None, ended: None });
            attempts.len() - 1
        });
        &mut attempts[place]
    }
}

impl StepHistory {
    /// Why the step failed: its last attempt's failure, or that of one of its rules.
    pub fn failure(&self) -> Option<&Failure> {
        let last = self.attempts.last().and_then(|attempt| attempt.ended.as_ref());
        match last {
            _ if self.failed.is_some() => self.failed.as_ref(),
            Some((_, AttemptEnd::Failed(failure, _))) => Some(failure),
            _ => None,
        }
    }

    /// From the first attempt's start to the step's end, in milliseconds.
    pub fn elapsed_ms(&self) -> Option<u64> {
        let started = self.attempts.iter().find_map(|attempt| attempt.started).or(self.opened)?;
        let (ended, _) = self.ended?;
        Some(ended.0.saturating_sub(started.0))
    }
}
