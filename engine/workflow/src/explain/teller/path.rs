//! The chain of steps that a run's end waited for, and what took longest on it.
//!
//! It is found backwards, once all records are known: from what ended last over what gave each its turn, which
//! [`Teller`](super::Teller) noted while they came in. Within a step that opened scopes it is found again. How a step's own
//! time falls into parts is counted by the teller.

use std::collections::HashMap;

use serde::Serialize;

use super::Teller;
use crate::event::Timestamp;
use crate::explain::account::{Part, Times};
use crate::plan::{ScopeCount, StepId};
use crate::scope::ScopeId;

/// A step on the chain that the end waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// Which.
    pub step: String,
    /// When its turn came, in milliseconds since the run's creation.
    pub after_ms: u64,
    /// Where its time went from then on.
    pub times: Times,
    /// The same of the steps that it opened: in the item that ended last and in those that had to end before it, in every
    /// round, and each time that it was tried, the chain that its end waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Link>,
}

/// The longest part of the chain that the end waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bottleneck {
    /// Whose.
    pub step: String,
    /// What it did meanwhile.
    pub part: Part,
    /// How long.
    pub ms: u64,
    /// Of the run's time, rounded down.
    pub percent: u64,
}

/// What is known of a run's scopes before its chain is looked for.
struct Known {
    /// When the last step that is told in each scope or within it ended, and its place among the ends.
    ends: Vec<Option<(Timestamp, u32)>>,
    /// The scopes that each step opened.
    opened: HashMap<StepId, Vec<ScopeId>>,
    /// Steps within a scope that were undone as this one was.
    undone: HashMap<ScopeId, Vec<StepId>>,
}

impl Teller<'_> {
    /// The chain that the end waited for.
    pub(super) fn path(&self, until: Timestamp) -> Vec<Link> {
        let scopes = self.run.scopes();
        let mut known = Known { ends: vec![None; scopes.count()], opened: HashMap::new(), undone: HashMap::new() };
        for step in (0..self.lives.len() as u32).map(StepId) {
            if let Some(scope) = self.lives[step.index()].undone_in.filter(|scope| *scope != scopes.scope(step)) {
                known.undone.entry(scope).or_default().push(step);
            }
        }
        // A scope is behind the one that it is within.
        for scope in (0..scopes.count() as u32).rev().map(ScopeId) {
            // What would take something back, and has not had to, was waited for by nobody.
            let is_asked = |step: &StepId| {
                let (life, account) = (&self.lives[step.index()], &self.steps[step.index()]);
                self.planned(*step).undoes.is_none() || account.undoing.is_some() || life.ended.is_some()
            };
            let own = self.told_of(scope, &known).filter(is_asked).map(|step| self.ended(step, until)).max();
            known.ends[scope.index()] = known.ends[scope.index()].max(own);
            let Some(opener) = scopes.place(scope).opener else { continue };
            let around = scopes.scope(opener).index();
            known.ends[around] = known.ends[around].max(known.ends[scope.index()]);
            known.opened.entry(opener).or_default().push(scope);
        }
        self.path_of(ScopeId::ROOT, until, &known)
    }

    /// The steps that are told in a scope.
    fn told_of<'k>(&'k self, scope: ScopeId, known: &'k Known) -> impl Iterator<Item = StepId> + 'k {
        let own = self.run.scopes().steps_of(self.plan, scope).filter(move |step| self.told_in(*step) == scope);
        own.chain(known.undone.get(&scope).into_iter().flatten().copied())
    }

    /// That of a scope: from its step that ended last among those which did something, or whose scopes did, back over what
    /// gave each its turn.
    fn path_of(&self, scope: ScopeId, until: Timestamp, known: &Known) -> Vec<Link> {
        let did_something = |step: &StepId| {
            let account = &self.steps[step.index()];
            !account.attempts.is_empty() || account.opened || account.cached.is_some()
        };
        let end = |step: &StepId| {
            let opened = known.opened.get(step).into_iter().flatten();
            opened.filter_map(|scope| known.ends[scope.index()]).max().max(Some(self.ended(*step, until)))
        };
        let mut path = Vec::new();
        let mut here = self.told_of(scope, known).filter(did_something).max_by_key(end);
        while let Some(step) = here {
            let (account, life) = (&self.steps[step.index()], &self.lives[step.index()]);
            here = life.turn_after.or(life.skipped_after).filter(|step| self.told_in(*step) == scope);
            // What waited until the run's end was asked for had nothing before it.
            let needs_ms = if here.is_some() { account.times.needs_ms } else { 0 };
            let times = Times { needs_ms: account.times.needs_ms - needs_ms, ..account.times };
            let after_ms = self.after_ms(life.born) + needs_ms;
            let within = self.scopes_on_path(step, known).into_iter();
            let within = within.flat_map(|scope| self.path_of(scope, until, known)).collect();
            path.push(Link { step: account.step.clone(), after_ms, times, within });
        }
        path.reverse();
        path
    }

    /// Of the scopes that a step opened, those that its end waited for, in order: the one that ended last, before it the last
    /// that had ended when it opened, and so on. Items that nothing kept from beginning together have none before them.
    fn scopes_on_path(&self, step: StepId, known: &Known) -> Vec<ScopeId> {
        let mut by_end: Vec<(u32, ScopeId)> = known
            .opened
            .get(&step)
            .into_iter()
            .flatten()
            .copied()
            .filter_map(|scope| Some((known.ends[scope.index()]?, scope)))
            .map(|((_, place), scope)| (place, scope))
            .collect();
        by_end.sort_unstable();
        let waits = match self.planned(step).opens().map(|opens| &opens.scopes) {
            Some(ScopeCount::Each(each)) => each.parallel.is_some() || self.planned(step).retry.attempts > 1,
            _ => true,
        };
        let mut path: Vec<ScopeId> = by_end.last().map(|(_, last)| *last).into_iter().collect();
        while let Some(here) = path.last().filter(|_| waits) {
            let before = by_end.partition_point(|(place, _)| *place <= self.ends_before[here.index()]);
            let Some((_, before)) = before.checked_sub(1).map(|last| by_end[last]) else { break };
            path.push(before);
        }
        path.reverse();
        path
    }

    /// When a step ended, and its place among the ends; where it has not, now and behind all.
    fn ended(&self, step: StepId, until: Timestamp) -> (Timestamp, u32) {
        let life = &self.lives[step.index()];
        (life.ended.unwrap_or(until), if life.ended.is_some() { life.place } else { u32::MAX })
    }
}

/// The longest part of a chain; of equal ones the first. Where most of a step's time went in one part of one step within it,
/// that is it.
pub(super) fn longest(path: &[Link]) -> Option<(&Link, Part, u64)> {
    let parts = path.iter().flat_map(|link| link.times.parts().map(move |(part, ms)| (link, part, ms)));
    let parts = parts.map(|(link, part, ms)| match longest(&link.within) {
        Some(inner) if part == Part::Scopes && inner.2.saturating_mul(2) >= ms => inner,
        _ => (link, part, ms),
    });
    parts.reduce(|most, part| if part.2 > most.2 { part } else { most })
}
