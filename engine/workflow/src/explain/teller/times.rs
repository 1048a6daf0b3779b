//! Where a step's time went: each moment of it is charged to what the step did, or waited for, then.

use super::Teller;
use crate::event::Timestamp;
use crate::explain::account::Part;
use crate::plan::StepId;

impl Teller<'_> {
    /// Charges the time since it was charged last, and says what the step does from now on.
    pub(super) fn turn_to(&mut self, step: StepId, part: Part, at: Timestamp) {
        if let Some((was, since)) = self.lives[step.index()].doing.replace((part, at)) {
            self.charge(step, was, since, at);
        }
    }

    /// Charges a time to what the step did then; where it only waited for its turn to be taken up, a pause is told apart.
    pub(super) fn charge(&mut self, step: StepId, part: Part, since: Timestamp, until: Timestamp) {
        let stood = match part {
            Part::Engine | Part::Pool | Part::Cache if !self.pauses.is_empty() => self.paused_ms(step, since, until),
            _ => 0,
        };
        let times = &mut self.steps[step.index()].times;
        times.add(part, until.0.saturating_sub(since.0).saturating_sub(stood));
        times.add(Part::Paused, stood);
    }

    /// How long, within this time, the step was held back by one pause or another. They are in the order of their begin.
    pub(super) fn paused_ms(&self, step: StepId, since: Timestamp, until: Timestamp) -> u64 {
        let scopes = self.run.scopes();
        let holds = |of: Option<StepId>| {
            let mut here = Some(step);
            while let Some(step) = here.filter(|step| Some(*step) != of) {
                here = scopes.place(scopes.scope(step)).opener;
            }
            here.is_some() || of.is_none()
        };
        let (mut counted, mut ms) = (since, 0);
        for (_, from, to) in self.pauses.iter().filter(|(of, ..)| holds(*of)) {
            let (from, to) = ((*from).max(counted), to.unwrap_or(until).min(until));
            ms += to.0.saturating_sub(from.0);
            counted = counted.max(to);
        }
        ms
    }

    /// Pauses are over when somebody says so, and with what they were of.
    pub(super) fn end_pauses(&mut self, at: Timestamp) {
        for (step, _, end) in self.pauses.iter_mut().filter(|(.., end)| end.is_none()) {
            if !self.run.is_paused(*step) {
                *end = Some(at);
            }
        }
    }

    /// Notes whether a step is in its scopes, or all of them are in line or wait to be tried again.
    pub(super) fn look_at_line(&mut self, step: StepId, at: Timestamp) {
        let planned = self.planned(step);
        if planned.pool().is_some() || planned.retry.attempts > 1 {
            let part = match () {
                () if self.run.is_only_in_line(step) => Part::Pool,
                () if self.run.is_between_tries(step) => Part::Between,
                () => Part::Scopes,
            };
            self.turn_to(step, part, at);
        }
    }
}
