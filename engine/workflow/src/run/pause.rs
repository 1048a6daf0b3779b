//! What is held back while the run, or a step with all that is within it, is paused: nothing new is queued, started or opened,
//! and the cache is not asked.
//! Everything else goes on: attempts in flight come to their end, what is said to the run is taken in, what can't run any more
//! is skipped, and whatever is asked to end does.
//!
//! Timeouts of runs, of scopes and of waiting stand still meanwhile, since nobody could do anything about them; delays, times
//! that a step waits for, and timeouts of attempts do not.
//!
//! What is held back is kept apart from what [`Run::next`] looks at: a run of which 100,000 steps are paused costs no more than
//! one without them.

use std::collections::BTreeSet;

use super::life::State;
use super::{Claim, Run};
use crate::event::Timestamp;
use crate::plan::{StepId, StepKind};
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

    /// Whether the run can be paused, or the step: it is not over, not paused yet, and nothing has asked for its end. What is
    /// always done, and what undoes, can be paused after that as well, by its name.
    pub fn may_pause(&self, step: Option<StepId>) -> bool {
        let is_wanted = match step {
            None => !self.root().asked,
            Some(step) => self.is_there(step) && !self.is_ended_early(step),
        };
        self.is_open() && is_wanted && !self.is_paused(step)
    }

    fn is_there(&self, step: StepId) -> bool {
        step.index() < self.steps.len() && !self.has_ended(step)
    }

    fn is_ended_early(&self, step: StepId) -> bool {
        let scope = self.scope_of(step);
        let with_its_scope = match self.kind(step) {
            StepKind::Ordinary => scope.cut.is_some(),
            StepKind::Always => scope.giving_up,
            StepKind::Undo => false,
        };
        with_its_scope || self.steps[step.index()].unwanted.is_some()
    }

    /// Takes a pause in, also one of what is ended early, which earlier versions have recorded: it holds nothing back.
    pub(super) fn pause(&mut self, step: Option<StepId>, at: Timestamp) -> Option<()> {
        let is_there = step.is_none_or(|step| self.is_there(step));
        (self.is_open() && is_there && !self.is_paused(step)).then_some(())?;
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
        self.hold_back(at);
        Some(())
    }

    pub(super) fn unpause(&mut self, step: Option<StepId>) -> Option<()> {
        self.holds.remove(&step)?;
        self.lets_go = true;
        Some(())
    }

    /// Takes what is held from now on out of what is looked at, and stops its clocks.
    fn hold_back(&mut self, at: Timestamp) {
        let looked_at = self.due.iter().chain(self.delayed.iter().map(|(_, step)| step));
        let steps: BTreeSet<StepId> = looked_at.copied().filter(|step| self.is_held(*step)).collect();
        for step in steps {
            self.sort_in(step, at);
        }
        let scopes: Vec<(Timestamp, ScopeId)> =
            self.deadlines.iter().copied().filter(|(_, scope)| self.scope_is_held(*scope)).collect();
        for deadline in scopes {
            self.deadlines.remove(&deadline);
            self.standing.insert(deadline.1, at);
        }
    }

    /// Has all go on that is not held any more, at the end of a record that ended a pause of something.
    pub(super) fn let_go(&mut self, at: Timestamp) {
        let steps: Vec<StepId> = self.held.iter().copied().filter(|step| !self.is_held(*step)).collect();
        for step in steps {
            self.sort_in(step, at);
        }
        let scopes = self.standing.iter().map(|(scope, since)| (*scope, *since));
        let scopes: Vec<(ScopeId, Timestamp)> = scopes.filter(|(scope, _)| !self.scope_is_held(*scope)).collect();
        for (scope, since) in scopes {
            self.standing.remove(&scope);
            let life = &mut self.scopes[scope.index()];
            life.opened = life.opened.plus_ms(at.0.saturating_sub(since.0));
            let opened = life.opened;
            self.has_deadline(scope, opened);
        }
    }

    /// Puts a step among those that are looked at, or those that are held.
    fn sort_in(&mut self, step: StepId, at: Timestamp) {
        match self.steps[step.index()].state {
            State::Ready => {
                self.settle(step);
                self.make_due(step, State::Ready);
            }
            State::Delayed(until) => {
                self.settle(step);
                self.delay(step, until);
            }
            State::Open => {
                self.settle(step);
                self.look_again(step);
            }
            State::Parked(_) => self.stand_or_go_on(step, at),
            _ => (),
        }
    }

    /// The timeout of a step that waits stands still, or goes on.
    fn stand_or_go_on(&mut self, step: StepId, at: Timestamp) {
        let is_held = self.is_held(step);
        let State::Parked(parked) = &mut self.steps[step.index()].state else { return };
        let before = parked.looks_at();
        match (is_held, parked.stands) {
            (true, None) => parked.stands = parked.late_at.map(|_| at),
            (false, Some(since)) => {
                parked.stands = None;
                parked.late_at = parked.late_at.map(|late_at| late_at.plus_ms(at.0.saturating_sub(since.0)));
            }
            _ => return,
        }
        let after = parked.looks_at();
        if let Some(before) = before {
            self.delayed.remove(&(before, step));
        }
        self.delayed.extend(after.map(|at| (at, step)));
        match is_held {
            true => self.held.insert(step),
            false => self.held.remove(&step),
        };
    }

    /// The pause of a step is over: it has to come to its end.
    pub(super) fn lift(&mut self, step: StepId) {
        self.lets_go |= self.holds.remove(&Some(step)).is_some();
    }

    /// Nothing of a scope that is ended early is paused any more: it has to come to its end.
    pub(super) fn lift_within(&mut self, scope: ScopeId) {
        if self.holds.is_empty() {
            return;
        }
        if scope == ScopeId::ROOT {
            self.holds.clear();
            self.lets_go = true;
            return;
        }
        let steps: Vec<StepId> = self.holds.keys().flatten().copied().collect();
        for step in steps {
            if self.is_within(self.places.scope(step), scope) {
                self.lift(step);
            }
        }
    }

    /// Somebody has asked for the end of a step: a pause of what is around it does not keep what it has opened from that.
    pub(super) fn somebody_ends(&mut self, step: StepId) {
        for scope in self.scopes_of(step).to_vec() {
            self.scopes[scope.index()].asked = true;
        }
        self.lets_go |= !self.holds.is_empty();
    }

    /// Forgets the pause of a step that is over, unless something is left of it that it does not wait for.
    pub(super) fn forget_hold(&mut self, step: StepId) {
        if self.holds.contains_key(&Some(step)) && self.has_ended(step) && !self.has_left(step) {
            self.holds.remove(&Some(step));
        }
    }

    /// The same of the steps around a scope that is over.
    pub(super) fn forget_holds_around(&mut self, scope: ScopeId) {
        let mut here = self.places.place(scope).opener;
        while let Some(step) = here {
            self.forget_hold(step);
            here = self.places.place(self.places.scope(step)).opener;
        }
    }

    /// Whether a scope is open that the step has opened, or a step within it.
    fn has_left(&self, step: StepId) -> bool {
        let is_its = |scope: &ScopeId| {
            let mut here = self.places.place(*scope).opener;
            while let Some(opener) = here.filter(|opener| *opener != step) {
                here = self.places.place(self.places.scope(opener)).opener;
            }
            here.is_some()
        };
        // Rounds hand on what they leave behind to whatever is around them.
        let mut around = Some(self.places.scope(step));
        while let Some(scope) = around {
            if self.scopes[scope.index()].children.iter().any(is_its) {
                return true;
            }
            around = self.places.place(scope).opener.map(|opener| self.places.scope(opener));
        }
        false
    }

    /// Whether a scope is the other one, or within it.
    fn is_within(&self, scope: ScopeId, other: ScopeId) -> bool {
        let mut here = Some(scope);
        while let Some(around) = here.filter(|around| *around != other) {
            here = self.places.place(around).opener.map(|opener| self.places.scope(opener));
        }
        here.is_some()
    }

    /// Whether the step may not begin anything for now.
    pub(super) fn is_held(&self, step: StepId) -> bool {
        !self.holds.is_empty() && (self.is_paused(Some(step)) || self.scope_is_held(self.places.scope(step)))
    }

    /// Whether a scope is within what is paused, with nothing between that somebody wants ended.
    pub(super) fn scope_is_held(&self, mut scope: ScopeId) -> bool {
        if self.holds.is_empty() {
            return false;
        }
        // What a round has left behind does not end with that round, but with what waits for it.
        let mut waits = scope;
        loop {
            let life = &self.scopes[scope.index()];
            if scope == waits {
                if life.asked {
                    return false;
                }
                waits = life.holder;
            }
            match self.places.place(scope).opener {
                None => return self.is_paused(None),
                Some(opener) if self.is_paused(Some(opener)) => return true,
                Some(opener) => scope = self.places.scope(opener),
            }
        }
    }

    /// The first deadline that does not stand still.
    pub(crate) fn next_deadline(&self) -> Option<&(Timestamp, ScopeId)> {
        self.deadlines.first()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Event, Record, RunId};
    use crate::json::Json;
    use crate::resolve::{Surroundings, resolve};
    use crate::spec::{Source, Spec};

    /// A run of so many items, each of which waits for a signal and then for a second.
    fn run_of(items: usize) -> Run {
        let list: Vec<String> = (0..items).map(|item| item.to_string()).collect();
        let text = format!(
            r#"
            name = "w"
            signals.go = {{}}
            [steps.each]
            timeout = "1h"
            foreach = [{}]
            [steps.each.steps.ask]
            wait = {{ signal = "go" }}
            timeout = "5s"
            [steps.each.steps.then]
            needs = ["ask"]
            wait = "1s"
            "#,
            list.join(",")
        );
        let source = Source::new("w.toml", text);
        let (spec, faults) = Spec::parse(&source);
        assert_eq!(faults, []);
        let plan = resolve(&source, &spec.expect("it is TOML"), &Surroundings::default()).plan.expect("a plan");
        let created = Run::creation(&plan, plan.to_json().1, Json::null(), 1);
        let mut run = Run::new(Arc::new(plan), RunId("r".into()));
        tell(&mut run, created);
        run
    }

    fn tell(run: &mut Run, event: Event) {
        run.apply(&Record { at: Timestamp(0), event }).expect("it can follow");
        loop {
            let decided: Vec<Event> = run.next(Timestamp(0), usize::MAX).iter().filter_map(|it| it.event()).collect();
            if decided.is_empty() {
                return;
            }
            for event in decided {
                run.apply(&Record { at: Timestamp(0), event }).expect("it was decided");
            }
        }
    }

    /// How much of the run is looked at whenever something is decided.
    fn looked_at(run: &Run) -> (usize, usize, usize) {
        (run.due.len(), run.delayed.len(), run.deadlines.len())
    }

    #[test]
    fn nothing_that_is_paused_is_looked_at() {
        let mut run = run_of(1_000);
        assert_eq!(looked_at(&run), (0, 1_000, 1_000));
        tell(&mut run, Event::Paused { step: None, reason: String::new() });
        assert_eq!(looked_at(&run), (0, 0, 0));
        // What they hear is taken in, and what is behind them could begin.
        tell(&mut run, Event::SignalReceived { signal: "go".into(), data: Json::null() });
        assert_eq!((looked_at(&run), run.held.len(), run.standing.len()), ((0, 0, 0), 1_000, 1_000));
        tell(&mut run, Event::Unpaused { step: None });
        assert_eq!((looked_at(&run), run.held.len(), run.standing.len()), ((0, 1_000, 1_000), 0, 0));
    }
}
