//! What kept a step from running, at the root: consequences lead back over the needs that were not met to what was not
//! one itself.

use std::collections::HashMap;

use super::Teller;
use crate::event::{NeedState, SkipReason, StepEnd, Timestamp};
use crate::explain::account::{Cause, Part, RuleAccount, Skips, What};
use crate::plan::{Join, StepId};
use crate::run::StepStatus;
use crate::scope::ScopeId;

/// What a skipped step was skipped for, at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// What became of a step; of the step itself, if it was its own rule, or the run's end.
    Step(StepId),
    /// That a join was decided.
    Join(StepId),
}

impl Root {
    pub(super) fn step(self) -> StepId {
        match self {
            Root::Step(step) | Root::Join(step) => step,
        }
    }
}

/// What skipped steps are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    /// The run's end.
    Run,
    /// The end of a scope, which a step of it brought about.
    Ended(StepId),
    /// The end of a scope that was cancelled or timed out.
    Scope(ScopeId),
    Root(Root),
}

impl Teller<'_> {
    /// The scope whose end is the reason that a step is undone: the innermost around it that has not come to its own.
    pub(super) fn undone_scope(&self, undo: StepId) -> ScopeId {
        let scopes = self.run.scopes();
        let mut scope = scopes.scope(undo);
        while let Some(opener) = scopes.place(scope).opener.filter(|opener| self.lives[opener.index()].ended.is_some())
        {
            scope = scopes.scope(opener);
        }
        scope
    }

    /// Why what was done in a scope is taken back: the first of its steps that failed, or else that its end was asked for.
    pub(super) fn in_vain(&mut self, scope: ScopeId) -> Cause {
        if let Some(known) = self.in_vain.get(&scope) {
            return known.clone();
        }
        let cause = self.find_in_vain(scope);
        self.in_vain.insert(scope, cause.clone());
        cause
    }

    fn find_in_vain(&self, scope: ScopeId) -> Cause {
        let failed = self.run.scopes().steps_of(self.plan, scope);
        let failed = failed.filter(|step| self.steps[step.index()].end == Some(StepEnd::Failed));
        if let Some(first) = failed.min_by_key(|step| self.lives[step.index()].place) {
            return self.cause(Root::Step(first));
        }
        let of = self.run.scopes().scope_path(self.plan, scope);
        match (scope, self.timed_out.contains(&scope)) {
            (ScopeId::ROOT, true) => Cause::RunTimedOut,
            (ScopeId::ROOT, false) => Cause::RunCancelled,
            (_, timed_out) => Cause::ScopeEnded { of, timed_out },
        }
    }

    pub(super) fn skipped(&mut self, step: StepId, reason: &SkipReason, at: Timestamp) {
        let decider = match reason {
            SkipReason::NeedNotMet { .. } | SkipReason::TooFewNeedsMet { .. } => self.decider(step),
            SkipReason::NotNeeded { by } => {
                let outermost = self.outermost(*by);
                let decided = self.lives[outermost.index()].decided.or_else(|| self.decider(outermost));
                self.lives[outermost.index()].decided = decided;
                decided
            }
            _ => None,
        };
        let waits = matches!(self.lives[step.index()].doing, Some((Part::Needs, _)));
        if let Some((decider, decided)) = decider.filter(|_| waits) {
            self.turn_to(step, Part::Engine, decided);
            self.lives[step.index()].skipped_after = Some(decider);
        }
        self.end(step, StepEnd::Skipped, at);
        let account = &mut self.steps[step.index()];
        account.skipped = Some(reason.explain(self.plan, self.run.scopes()));
        match reason {
            SkipReason::NeedNotMet { need, .. } => self.skipped_for(step, *need),
            SkipReason::TooFewNeedsMet { .. } => {
                let root = |need: StepId| self.lives[need.index()].root.unwrap_or(Root::Step(need));
                let mut unmet = self.unmet(step);
                let common = unmet.next().filter(|first| unmet.all(|need| root(need) == root(*first)));
                drop(unmet);
                match common {
                    Some(first) => self.skipped_for(step, first),
                    None => self.lives[step.index()].root = Some(Root::Step(step)),
                }
            }
            SkipReason::NotNeeded { by } => {
                let outermost = self.outermost(*by);
                let life = &mut self.lives[step.index()];
                life.root = Some(Root::Join(outermost));
                life.skipped_for = (outermost != *by).then_some(*by);
            }
            SkipReason::RuleFalse { rule, saw } => {
                account.rule = Some(RuleAccount { rule: rule.clone(), held: Some(false), saw: saw.clone() });
                self.lives[step.index()].root = Some(Root::Step(step));
            }
            SkipReason::ScopeEnded { .. }
            | SkipReason::ScopeCancelled
            | SkipReason::ScopeTimedOut
            | SkipReason::Asked { .. }
            | SkipReason::RunCancelled
            | SkipReason::RunTimedOut => {
                self.lives[step.index()].root = Some(Root::Step(step));
            }
        }
        let because = self.cause(self.lives[step.index()].root.unwrap_or(Root::Step(step)));
        let steps = vec![self.name(step)];
        self.tell(at, What::Skipped { because, steps });
    }

    /// Takes over the root of a need that was not met.
    fn skipped_for(&mut self, step: StepId, need: StepId) {
        let root = self.lives[need.index()].root;
        let life = &mut self.lives[step.index()];
        life.root = Some(root.unwrap_or(Root::Step(need)));
        life.skipped_for = root.map(|_| need);
    }

    /// Of the joins around this one that do not need what they are around any more, the outermost. What was found is kept
    /// on the way, so that joins in joins are looked through about once.
    pub(super) fn outermost(&mut self, join: StepId) -> StepId {
        let outer = |teller: &Teller<'_>, join: StepId| {
            teller.lives[join.index()].outer.or_else(|| teller.run.unneeded_by(join))
        };
        let mut outermost = join;
        while let Some(found) = outer(self, outermost) {
            outermost = found;
        }
        let mut here = join;
        while let Some(found) = outer(self, here) {
            self.lives[here.index()].outer = Some(outermost);
            here = found;
        }
        outermost
    }

    /// The step whose end decided a join, be it for its start or against it, and when that was.
    fn decider(&self, join: StepId) -> Option<(StepId, Timestamp)> {
        let step = self.planned(join);
        let place = |step: StepId| self.lives[step.index()].place;
        let mut over: Vec<(u32, bool, StepId)> = Vec::with_capacity(step.needs.len());
        for need in &step.needs {
            let needed = self.beside(join, need.step);
            let end = self.steps[needed.index()].end;
            over.extend(end.map(|end| (place(needed), need.state.is_met_by(end), needed)));
        }
        over.sort_unstable();
        let (of, least) = (step.needs.len(), step.join.least(step.needs.len() as u32) as usize);
        let nth = |met: bool, index: usize| over.iter().filter(|(_, is_met, _)| *is_met == met).nth(index);
        let decided = match step.join {
            Join::Merge => over.last(),
            _ => least.checked_sub(1).and_then(|last| nth(true, last)).or_else(|| nth(false, of - least)),
        };
        // An always-step waits for all ordinary ones as well.
        let last = self.last_of_steps[self.run.scopes().scope(join).index()].filter(|_| step.always);
        let decider = decided.map(|(.., need)| *need).into_iter().chain(last).max_by_key(|step| place(*step))?;
        Some((decider, self.lives[decider.index()].ended?))
    }

    /// The steps that it needs in a state other than the one that they came to.
    fn unmet(&self, step: StepId) -> impl Iterator<Item = StepId> {
        let needs = self.planned(step).needs.iter().map(move |need| (self.beside(step, need.step), need.state));
        let is_unmet =
            |needed: StepId, state: NeedState| self.steps[needed.index()].end.is_some_and(|end| !state.is_met_by(end));
        needs.filter(move |(needed, state)| is_unmet(*needed, *state)).map(|(needed, _)| needed)
    }

    /// The root of what was skipped, as it is told.
    pub(super) fn cause(&self, root: Root) -> Cause {
        let step = match root {
            Root::Step(step) => step,
            Root::Join(join) => return Cause::NotNeeded { by: self.name(join) },
        };
        let account = &self.steps[step.index()];
        match (self.run.status(step).0, &account.rule) {
            (StepStatus::Skipped(SkipReason::ScopeEnded { by }), _) => Cause::Ended { by: self.name(*by) },
            (StepStatus::Skipped(SkipReason::ScopeCancelled), _) => {
                Cause::ScopeEnded { of: self.scope_name(step), timed_out: false }
            }
            (StepStatus::Skipped(SkipReason::ScopeTimedOut), _) => {
                Cause::ScopeEnded { of: self.scope_name(step), timed_out: true }
            }
            (StepStatus::Skipped(SkipReason::Asked { reason }), _) => Cause::Asked { reason: reason.clone() },
            (StepStatus::Skipped(SkipReason::RunCancelled), _) => Cause::RunCancelled,
            (StepStatus::Skipped(SkipReason::RunTimedOut), _) => Cause::RunTimedOut,
            (StepStatus::Skipped(SkipReason::RuleFalse { .. }), Some(rule)) => {
                Cause::Rule { step: account.step.clone(), rule: rule.clone() }
            }
            (StepStatus::Skipped(SkipReason::TooFewNeedsMet { possible, least, of }), _) => {
                let (possible, least, of) = (*possible, *least, *of);
                Cause::TooFewNeeds { step: account.step.clone(), possible, least, of }
            }
            _ => Cause::Step {
                step: account.step.clone(),
                end: account.end.unwrap_or(StepEnd::Skipped),
                failure: account.failure.clone(),
            },
        }
    }

    /// All skipped steps by their roots.
    pub(super) fn skips(&self) -> Vec<Skips> {
        let mut skipped: Vec<usize> = (0..self.lives.len()).filter(|index| self.lives[*index].root.is_some()).collect();
        skipped.sort_by_key(|index| self.lives[*index].place);
        let mut groups: Vec<Skips> = Vec::new();
        // What one end kept from running is one group, whichever step it is told of.
        let mut places: HashMap<Group, usize> = HashMap::new();
        for index in skipped {
            let Some(root) = self.lives[index].root else { continue };
            let group = match (root, self.run.status(root.step()).0) {
                (Root::Step(_), StepStatus::Skipped(SkipReason::RunCancelled | SkipReason::RunTimedOut)) => Group::Run,
                (Root::Step(_), StepStatus::Skipped(SkipReason::ScopeEnded { by })) => Group::Ended(*by),
                (Root::Step(step), StepStatus::Skipped(SkipReason::ScopeCancelled | SkipReason::ScopeTimedOut)) => {
                    Group::Scope(self.run.scopes().scope(step))
                }
                _ => Group::Root(root),
            };
            let place = *places.entry(group).or_insert_with(|| {
                groups.push(Skips { because: self.cause(root), steps: Vec::new() });
                groups.len() - 1
            });
            groups[place].steps.push(self.steps[index].step.clone());
        }
        groups
    }
}
