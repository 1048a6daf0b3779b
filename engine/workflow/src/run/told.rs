//! What readers ask of a run beyond where its steps stand: why one was cancelled, what one waits for, which scope is tried
//! again. Apart from what decides, since nothing here does.

use super::Run;
use super::change::delay_ms;
use super::life::{Cut, Stage, State};
use crate::event::{Outcome, SkipReason, StepEnd, Timestamp};
use crate::plan::{ScopeCount, StepId, Work};
use crate::scope::ScopeId;
use crate::units::time;

/// Why a step was cancelled, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A join does not need it any more.
    NotNeeded {
        /// Which.
        by: StepId,
    },
    /// Another step succeeded that names it in `cancels`.
    Cancels {
        /// Which.
        by: StepId,
    },
    /// The step that opened it was decided by its other items.
    Decided {
        /// Which.
        by: StepId,
    },
    /// Somebody asked.
    Asked {
        /// For the end of this step: itself, or one around it.
        of: StepId,
        /// In their words.
        reason: String,
    },
    /// A scope that it is in took too long.
    ScopeTimedOut {
        /// Which.
        scope: ScopeId,
    },
    /// A step ended the scope that it is in.
    Finished {
        /// Which.
        by: StepId,
    },
    /// The run was cancelled.
    RunCancelled,
    /// The run timed out.
    RunTimedOut,
}

impl Ended {
    /// What continues "cancelled:" and "cancelled, because", of this step; nothing where its run was ended, which is told of the
    /// run.
    pub fn in_words(&self, run: &Run, step: StepId) -> Option<String> {
        Some(match self {
            Ended::NotNeeded { by } => format!("`{}` does not need it any more", run.path(*by)),
            Ended::Cancels { by } => format!("`{}` succeeded (`cancels`)", run.path(*by)),
            Ended::Decided { by } => format!("`{}` was decided without it", run.path(*by)),
            Ended::Asked { of, reason } if *of == step => format!("asked for: {reason}"),
            Ended::Asked { of, reason } => format!("the end of `{}` was asked for: {reason}", run.path(*of)),
            Ended::ScopeTimedOut { scope } => {
                format!("the timeout of `{}` passed", run.places.scope_path(&run.plan, *scope))
            }
            Ended::Finished { by } => format!("`{}` ended it all", run.path(*by)),
            Ended::RunCancelled | Ended::RunTimedOut => return None,
        })
    }
}

/// What a step waits for: whatever comes first of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// A signal of this name.
    pub signal: Option<String>,
    /// Somebody's word: of whom, and the question, if there is one and it can be made.
    pub approval: Option<(Vec<String>, Option<String>)>,
    /// Until then, successfully.
    pub until: Option<Timestamp>,
    /// It fails then; `None` also while a pause has its timeout stand still.
    pub late: Option<Timestamp>,
}

impl Waiting {
    /// In words: "waits for the signal `go`, or until …".
    pub fn in_words(&self) -> String {
        let mut awaited: Vec<String> = self.signal.iter().map(|signal| format!("for the signal `{signal}`")).collect();
        if let Some((by, question)) = &self.approval {
            let question = question.as_ref().map_or_else(String::new, |question| format!(": {question}"));
            awaited.push(format!("for the approval of {}{question}", by.join(" or ")));
        }
        awaited.extend(self.until.map(|until| format!("until {}", time(until))));
        let late = self.late.map_or_else(String::new, |late| format!(", until {} at the latest", time(late)));
        format!("waits {}{late}", awaited.join(", or "))
    }

    /// The command that ends the waiting of a step, if one does.
    pub fn command(&self, run: &Run, step: StepId) -> Option<String> {
        match (&self.approval, &self.signal) {
            (Some(_), _) => Some(format!("downbeat approve {} --step {}", run.id, run.path(step))),
            (None, Some(signal)) => Some(format!("downbeat signal {} {signal}", run.id)),
            (None, None) => None,
        }
    }
}

/// A scope that failed and is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriedAgain {
    /// Which.
    pub scope: ScopeId,
    /// The step that opens it.
    pub step: StepId,
    /// When.
    pub at: Timestamp,
    /// Which failure of it this was, counted from 1.
    pub failures: u32,
    /// How many there may be.
    pub of: u32,
}

impl Run {
    /// Why a step is ended, or was, that has been cancelled.
    pub fn ended_for(&self, step: StepId) -> Option<Ended> {
        match self.steps[step.index()].unwanted.as_deref() {
            Some(SkipReason::NotNeeded { by }) => return Some(Ended::NotNeeded { by: *by }),
            Some(SkipReason::RunCancelled) => return Some(Ended::RunCancelled),
            Some(SkipReason::Asked { reason }) => {
                return Some(match self.withdrawn_by(step) {
                    Some(by) => Ended::Cancels { by },
                    None => Ended::Asked { of: step, reason: reason.clone() },
                });
            }
            _ => (),
        }
        let scope = self.places.scope(step);
        let opener = self.places.place(scope).opener;
        match (self.scopes[scope.index()].cut.as_ref()?, opener) {
            (Cut::Ended { by }, _) => Some(Ended::Finished { by: *by }),
            (Cut::Cancelled | Cut::Unwanted(_), None) => Some(Ended::RunCancelled),
            (Cut::TimedOut, None) => Some(Ended::RunTimedOut),
            (Cut::TimedOut, Some(_)) => Some(Ended::ScopeTimedOut { scope }),
            (Cut::Cancelled | Cut::Unwanted(_), Some(opener)) => self.ended_for(opener).or_else(|| {
                // What a round has left behind may be ended with something further out.
                let is_each = matches!(self.step(opener).opens()?.scopes, ScopeCount::Each(_));
                is_each.then_some(Ended::Decided { by: opener })
            }),
        }
    }

    /// The step whose success ended this one, by its `cancels`.
    pub(crate) fn withdrawn_by(&self, step: StepId) -> Option<StepId> {
        if matches!(self.end_of(step), Some(StepEnd::Succeeded | StepEnd::Failed)) {
            return None;
        }
        let (scope, no) = self.places.find(step)?;
        let Some(SkipReason::Asked { reason }) = self.steps[step.index()].unwanted.as_deref() else { return None };
        let has_succeeded = |by: &StepId| matches!(self.steps[by.index()].state, State::Succeeded(_));
        let mut beside = self.places.steps_of(&self.plan, scope);
        beside.find(|by| self.step(*by).cancels.contains(&no) && has_succeeded(by) && *reason == self.withdraws(*by))
    }

    /// The words for the success of a step that cancels others.
    pub(super) fn withdraws(&self, by: StepId) -> String {
        format!("`{}` has succeeded", self.path(by))
    }

    /// What a step waits for.
    pub fn waits_for(&self, step: StepId) -> Option<Waiting> {
        let State::Parked(parked) = &self.steps[step.index()].state else { return None };
        let Work::Wait(wait) = &self.step(step).work else { return None };
        let approval = wait.approval.as_ref().map(|approval| {
            let question = approval.question.as_ref().and_then(|question| question.render(&self.seen_by(step)).ok());
            (approval.by.clone(), question.and_then(|question| question.value().as_str().map(str::to_owned)))
        });
        let signal = wait.signal.map(|signal| self.plan.signals[signal.index()].name.clone());
        Some(Waiting { signal, approval, until: parked.over_at, late: parked.times_out_at() })
    }

    /// The scope that failed with the end of this step, which the last record told, and is tried again.
    pub fn tried_again(&self, step: StepId, ended: Timestamp) -> Option<TriedAgain> {
        let mut scope = self.places.scope(step);
        loop {
            let place = self.places.place(scope);
            let opener = place.opener?;
            let family = self.steps[opener.index()].family.as_deref()?;
            let retry = &self.step(opener).retry;
            let failures = family.failures.get(&place.index).copied().unwrap_or(0);
            let at = ended.plus_ms(delay_ms(retry, failures, self.seed, opener));
            let is_latest = family.scopes.get(place.index as usize) == Some(&scope);
            if failures > 0 && is_latest && family.again.contains(&(at, place.index)) {
                return Some(TriedAgain { scope, step: opener, at, failures, of: retry.attempts });
            }
            // It goes on, whatever has become of the step.
            matches!(self.scopes[scope.index()].stage, Stage::Over(_)).then_some(())?;
            scope = self.places.scope(opener);
        }
    }

    /// Whether all that a step with scopes does is to wait until what failed is tried again.
    pub fn is_between_tries(&self, step: StepId) -> bool {
        let life = &self.steps[step.index()];
        let family = life.family.as_deref().filter(|_| matches!(life.state, State::Open));
        family.is_some_and(|family| family.open == 0 && family.line.is_empty() && !family.again.is_empty())
    }

    /// How a scope ended; `None` while it has not.
    pub fn outcome_of(&self, scope: ScopeId) -> Option<Outcome> {
        match self.scopes[scope.index()].stage {
            Stage::Over(outcome) | Stage::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether a step that undoes another has nothing to do in this run any more: it is over.
    pub fn is_never_needed(&self, step: StepId) -> bool {
        self.outcome().is_some() && self.step(step).undoes.is_some() && !self.has_ended(step)
    }
}
