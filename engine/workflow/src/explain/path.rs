//! The chain of steps that a run's end waited for, and what took longest on it.
//!
//! It is found backwards, once all records are known: from what ended last over what gave each its turn, which
//! [`Teller`](super::Teller) noted while they came in. Within a step that opened scopes it is found again. How a step's own
//! time falls into parts is counted by the teller.

use std::collections::HashMap;

use serde::Serialize;

use super::{Part, Teller, Times};
use crate::event::Timestamp;
use crate::plan::StepId;
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
    /// The same of the steps that it opened: in the item or round that ended last, the chain that its end waited for.
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

impl Teller<'_> {
    /// The chain that the end waited for.
    pub(super) fn path(&self, until: Timestamp) -> Vec<Link> {
        // Of the scopes of each step the one that ended last, and when. A scope is behind the one that it is within.
        let scopes = self.run.scopes();
        let mut ends: Vec<Option<(Timestamp, u32)>> = vec![None; scopes.count()];
        let mut last: HashMap<StepId, ScopeId> = HashMap::new();
        for scope in (0..scopes.count() as u32).rev().map(ScopeId) {
            let own = scopes.steps_of(self.plan, scope).map(|step| self.ended(step, until));
            ends[scope.index()] = ends[scope.index()].max(own.max());
            let Some(opener) = scopes.place(scope).opener else { continue };
            let around = scopes.scope(opener).index();
            ends[around] = ends[around].max(ends[scope.index()]);
            let known = last.entry(opener).or_insert(scope);
            if ends[scope.index()] > ends[known.index()] {
                *known = scope;
            }
        }
        self.path_of(ScopeId::ROOT, until, &last, &ends)
    }

    /// That of a scope: from its step that ended last among those which did something, or whose scopes did, back over what
    /// gave each its turn.
    fn path_of(
        &self,
        scope: ScopeId,
        until: Timestamp,
        last: &HashMap<StepId, ScopeId>,
        ends: &[Option<(Timestamp, u32)>],
    ) -> Vec<Link> {
        let did_something =
            |step: &StepId| !self.steps[step.index()].attempts.is_empty() || self.steps[step.index()].opened;
        let end = |step: &StepId| {
            let within = last.get(step).and_then(|scope| ends[scope.index()]);
            Some(self.ended(*step, until)).max(within)
        };
        let mut path = Vec::new();
        let mut here = self.run.scopes().steps_of(self.plan, scope).filter(did_something).max_by_key(end);
        while let Some(step) = here {
            let (account, life) = (&self.steps[step.index()], &self.lives[step.index()]);
            here = life.turn_after.or(life.skipped_after).filter(|step| self.run.scopes().scope(*step) == scope);
            // What waited until the run's end was asked for had nothing before it.
            let needs_ms = if here.is_some() { account.times.needs_ms } else { 0 };
            let times = Times { needs_ms: account.times.needs_ms - needs_ms, ..account.times };
            let after_ms = self.after_ms(life.born) + needs_ms;
            let within = last.get(&step).map(|scope| self.path_of(*scope, until, last, ends)).unwrap_or_default();
            path.push(Link { step: account.step.clone(), after_ms, times, within });
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
