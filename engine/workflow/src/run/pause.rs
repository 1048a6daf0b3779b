//! What is held back while the run, or a step with all that is within it, is paused: nothing new is queued, started or opened,
//! and the cache is not asked.
//! Everything else goes on: attempts in flight come to their end, what is said to the run is taken in, what can't run any more
//! is skipped, and whatever is asked to end does.
//!
//! Timeouts of runs, of scopes and of waiting stand still meanwhile, since nobody could do anything about them; delays, times
//! that a step waits for, and timeouts of attempts do not.

use super::life::State;
use super::{Claim, Run};
use crate::event::Timestamp;
use crate::plan::StepId;
use crate::scope::ScopeId;

impl Run {
    /// Whether somebody has paused this step, or the run (`None`), and has not let it go on.
    pub fn is_paused(&self, step: Option<StepId>) -> bool {
        self.holds.contains_key(&step)
    }

    /// What is paused, and since when: the run (`None`), then steps.
    pub fn paused(&self) -> impl Iterator<Item = (Option<StepId>, Timestamp)> {
        self.holds.iter().map(|(step, since)| (*step, *since))
    }

    /// Whether the run can be paused, or the step: it is not over and not paused yet.
    pub fn may_pause(&self, step: Option<StepId>) -> bool {
        let is_there = step.is_none_or(|step| step.index() < self.steps.len() && !self.has_ended(step));
        self.is_open() && is_there && !self.is_paused(step)
    }

    pub(super) fn pause(&mut self, step: Option<StepId>, at: Timestamp) -> Option<()> {
        self.may_pause(step).then_some(())?;
        self.holds.insert(step, at);
        // They get in line again once they may: a place that comes meanwhile goes back.
        for (claim, _) in self.queued() {
            match claim {
                Claim::Scope(step, index) if self.is_held(step) => self.out_of_line(step, index, at),
                Claim::Attempt(step, _) | Claim::Wait(step) if self.is_held(step) => self.make_due(step, State::Ready),
                _ => (),
            }
        }
        // And ask the cache again: what it says meanwhile is not waited for any more.
        for step in self.asking() {
            if self.is_held(step) {
                self.make_due(step, State::Ready);
            }
        }
        Some(())
    }

    pub(super) fn unpause(&mut self, step: Option<StepId>, at: Timestamp) -> Option<()> {
        let since = self.holds.remove(&step)?;
        let stood = |until: Timestamp| until.0.saturating_sub(since.0);
        let scopes: Vec<(ScopeId, u64)> = (0..self.scopes.len() as u32)
            .map(ScopeId)
            .filter(|scope| self.is_part_of(*scope, step))
            .map(|scope| (scope, stood(self.scope_held_since(scope).map_or(at, |other| other.min(at)))))
            .collect();
        for (scope, ms) in scopes {
            self.prolong(scope, ms);
        }
        let parked = self.select(|life| match &life.state {
            State::Parked(parked) => parked.late_at,
            _ => None,
        });
        for (waiting, late_at) in parked {
            if Some(waiting) == step || self.is_part_of(self.places.scope(waiting), step) {
                let ms = stood(self.held_since(waiting).map_or(at, |other| other.min(at)));
                self.wait_longer(waiting, late_at.plus_ms(ms));
            }
        }
        Some(())
    }

    /// Gives a scope so much more time than its timeout.
    fn prolong(&mut self, scope: ScopeId, ms: u64) {
        let opened = self.scopes[scope.index()].opened;
        if let Some(timeout) = self.timeout_ms(scope).filter(|_| ms > 0) {
            let later = opened.plus_ms(ms);
            if self.deadlines.remove(&(opened.plus_ms(timeout), scope)) {
                self.deadlines.insert((later.plus_ms(timeout), scope));
            }
            self.scopes[scope.index()].opened = later;
        }
    }

    fn wait_longer(&mut self, step: StepId, until: Timestamp) {
        let State::Parked(parked) = &mut self.steps[step.index()].state else { return };
        let before = parked.looks_at();
        parked.late_at = Some(until);
        let after = parked.looks_at();
        if let Some(before) = before {
            self.delayed.remove(&(before, step));
        }
        self.delayed.extend(after.map(|at| (at, step)));
    }

    /// Nothing of a scope that is ended early is held back: it has to come to its end.
    pub(super) fn lift_within(&mut self, scope: ScopeId) {
        if self.holds.is_empty() {
            return;
        }
        if scope == ScopeId::ROOT {
            return self.holds.clear();
        }
        let within: Vec<StepId> = self.holds.keys().flatten().copied().collect();
        for step in within {
            let mut here = Some(self.places.scope(step));
            while let Some(around) = here {
                if around == scope {
                    self.holds.remove(&Some(step));
                }
                here = self.places.place(around).opener.map(|opener| self.places.scope(opener));
            }
        }
    }

    /// Whether the step may not begin anything for now.
    pub(super) fn is_held(&self, step: StepId) -> bool {
        !self.holds.is_empty() && self.held_since(step).is_some()
    }

    /// The first deadline that does not stand still.
    pub(crate) fn next_deadline(&self) -> Option<&(Timestamp, ScopeId)> {
        match self.holds.is_empty() {
            true => self.deadlines.first(),
            false => self.deadlines.iter().find(|(_, scope)| self.scope_held_since(*scope).is_none()),
        }
    }

    fn held_since(&self, step: StepId) -> Option<Timestamp> {
        let own = self.holds.get(&Some(step)).copied();
        own.into_iter().chain(self.scope_held_since(self.places.scope(step))).min()
    }

    fn scope_held_since(&self, mut scope: ScopeId) -> Option<Timestamp> {
        let mut since = self.holds.get(&None).copied();
        while let Some(opener) = self.places.place(scope).opener {
            since = since.into_iter().chain(self.holds.get(&Some(opener)).copied()).min();
            scope = self.places.scope(opener);
        }
        since
    }

    /// Whether a scope is one of the run's, or within the step.
    fn is_part_of(&self, mut scope: ScopeId, step: Option<StepId>) -> bool {
        let Some(step) = step else { return true };
        while let Some(opener) = self.places.place(scope).opener {
            if opener == step {
                return true;
            }
            scope = self.places.scope(opener);
        }
        false
    }
}
