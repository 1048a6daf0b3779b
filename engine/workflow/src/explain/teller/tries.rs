//! Scopes that failed and are tried again: what is told of each time, and of the steps within.

use super::Teller;
use crate::event::{Failure, FailureKind, Outcome, Record, StepEnd, Timestamp};
use crate::explain::account::{AttemptAccount, Delay, End, Next, TimeOf, TryAccount, What};
use crate::plan::StepId;
use crate::scope::ScopeId;

/// How far back in the story the failures of a scope's steps are looked for. 64: they are among the last that happened.
const STORY_LOOKED_AT: usize = 64;

impl Teller<'_> {
    /// Notes that a scope is tried again, if the record's end of a step decided that.
    pub(in crate::explain) fn look_at_tries(&mut self, record: &Record) {
        let Some(again) = record.event.ends_step().and_then(|step| self.run.tried_again(step, record.at)) else {
            return;
        };
        let retry = &self.planned(again.step).retry;
        let (full_ms, at_most) = retry.grown_ms(again.failures);
        let why = Delay::Grown { full_ms, at_most, jitter: retry.jitter };
        let delay_ms = again.at.0.saturating_sub(record.at.0);
        let next = Next::Again { delay_ms, why, failures: again.failures, of: again.of };
        // The steps within, however deep, are not tried again by themselves, but they are.
        for step in &self.failed_within(again.scope) {
            let name = self.name(*step);
            if let Some(attempt) = self.steps[step.index()].attempts.last_mut() {
                attempt.next = attempt.next.map(|_| Next::WithScope);
            }
            let told = self.story.iter_mut().rev().take(STORY_LOOKED_AT).find_map(|moment| match &mut moment.what {
                What::Failed { step, next, .. } if *step == name => Some(next),
                _ => None,
            });
            if let Some(next) = told {
                *next = next.map(|_| Next::WithScope);
            }
        }
        let time = again.failures;
        let tried = self.tried(again.scope, time, Some(record.at), Some(next));
        let scope = tried.scope.clone();
        self.steps[again.step.index()].tries.push(tried);
        self.tell(record.at, What::TriedAgain { scope, next });
    }

    /// Once all records are known: which time the steps of such scopes are, and how the last time went.
    pub(super) fn tell_times(&mut self) {
        if self.plan.steps.iter().all(|step| step.opens().is_none() || step.retry.attempts < 2) {
            return;
        }
        let tries = self.run.scopes().tries();
        for step in (0..self.steps.len() as u32).map(StepId) {
            let scopes = self.run.scopes();
            let time = scopes.time(&tries, step);
            self.steps[step.index()].time_of = time.map(|(time, of)| TimeOf { time, of });
        }
        let mut last: Vec<(ScopeId, u32)> =
            tries.into_iter().filter(|(_, (time, of))| time == of).map(|(scope, (time, _))| (scope, time)).collect();
        last.sort_unstable();
        for (scope, time) in last {
            let Some(opener) = self.run.scopes().place(scope).opener else { continue };
            let ended = self.last_end_within[scope.index()].and_then(|step| self.lives[step.index()].ended);
            let ended = ended.filter(|_| self.run.outcome_of(scope).is_some());
            let tried = self.tried(scope, time, ended, None);
            self.steps[opener.index()].tries.push(tried);
        }
    }

    fn tried(&self, scope: ScopeId, attempt: u32, ended: Option<Timestamp>, next: Option<Next>) -> TryAccount {
        let first = self.run.scopes().place(scope).first;
        let opened = self.lives[first.index()].born;
        let end = match self.run.outcome_of(scope) {
            None => None,
            Some(Outcome::Succeeded) => Some(End::Succeeded),
            Some(Outcome::Cancelled) => Some(End::Cancelled),
            Some(Outcome::Failed | Outcome::TimedOut) => Some(End::Failed(self.failure_in(scope))),
        };
        TryAccount {
            scope: self.run.scopes().scope_path(self.plan, scope),
            attempt: AttemptAccount {
                attempt,
                after_ms: Some(self.after_ms(opened)),
                queued_ms: None,
                took_ms: ended.map(|ended| ended.0.saturating_sub(opened.0)),
                end,
                next,
            },
        }
    }

    /// The steps of a scope that failed, first the first.
    fn failed_in(&self, scope: ScopeId) -> Vec<StepId> {
        let steps = self.run.scopes().steps_of(self.plan, scope);
        let mut failed: Vec<StepId> =
            steps.filter(|step| self.steps[step.index()].end == Some(StepEnd::Failed)).collect();
        failed.sort_by_key(|step| self.lives[step.index()].place);
        failed
    }

    /// The steps that failed in a scope and in all that its steps opened.
    fn failed_within(&self, scope: ScopeId) -> Vec<StepId> {
        let (mut failed, mut scopes) = (Vec::new(), vec![scope]);
        while let Some(scope) = scopes.pop() {
            failed.extend(self.failed_in(scope));
            let steps = self.run.scopes().steps_of(self.plan, scope);
            scopes.extend(steps.flat_map(|step| self.run.scopes_of(step)));
        }
        failed
    }

    fn failure_in(&self, scope: ScopeId) -> Failure {
        let first = self.failed_in(scope).first().copied();
        let (kind, message) = match first.map(|step| (self.name(step), &self.steps[step.index()].failure)) {
            Some((step, Some(failure))) => (FailureKind::Scope, format!("`{step}` failed: {}", failure.message)),
            _ if self.timed_out.contains(&scope) => {
                (FailureKind::TimedOut, "its steps took longer than its timeout".to_owned())
            }
            _ => (FailureKind::Scope, "it failed".to_owned()),
        };
        Failure { kind, message, details: None, backtrace: None, retry_after_ms: None }
    }
}
