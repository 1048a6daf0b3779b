//! The fold of a run's records into an account, beside a [`Run`] that takes in the same ones. What a step was skipped for is
//! found in `roots`, where its time went in `times`, the chain that the end waited for in `path`; here is what each record
//! says.

mod path;
mod roots;
mod times;
mod tries;
mod waits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use self::path::longest;
pub use self::path::{Bottleneck, Link};
use self::roots::Root;
use super::account::{
    Account, AttemptAccount, CachedAccount, Cause, Delay, End, Moment, NEAR_PERCENT, Near, NeedAccount, Never, Next,
    Part, RuleAccount, StepAccount, Undoing, What,
};
use crate::event::{Event, Failure, FailureKind, Outcome, Record, RunId, SkipReason, StepEnd, Timestamp, Usage};
use crate::group::WAIT_TOLD_MS;
use crate::plan::{Need, Plan, ScopeCount, Step, StepId, StepKind, StepNo};
use crate::preview::withheld;
use crate::run::told::Ended;
use crate::run::{Misplaced, RETRY_AFTER_MAX_MS, Run, StepStatus};
use crate::scope::ScopeId;

/// Folds records into an account.
pub(super) struct Teller<'p> {
    plan: &'p Arc<Plan>,
    focus: Option<StepId>,
    run: Run,
    created: Timestamp,
    finished: Option<(Timestamp, Outcome)>,
    faults: Vec<String>,
    story: Vec<Moment>,
    steps: Vec<StepAccount>,
    lives: Vec<Life>,
    /// How many ends of steps were recorded.
    ends: u32,
    /// Of each scope, how many of its ordinary steps have not come to their end.
    open: Vec<usize>,
    /// Of each scope, the last of its ordinary steps, once all have come to their end.
    last_of_steps: Vec<Option<StepId>>,
    /// Of each scope, the last of its steps that have come to their end, without those that were skipped.
    last_end: Vec<Option<StepId>>,
    /// The same, of its steps and of all within it.
    last_end_within: Vec<Option<StepId>>,
    /// Of each scope, how many ends of steps had been recorded when it opened.
    ends_before: Vec<u32>,
    /// What was paused (the run by `None`), from when to when.
    pauses: Vec<(Option<StepId>, Timestamp, Option<Timestamp>)>,
    /// Scopes that took too long.
    timed_out: HashSet<ScopeId>,
    /// Why scopes are undone, once somebody has asked.
    in_vain: HashMap<ScopeId, Cause>,
}

/// What is kept of a step while records come in.
#[derive(Clone, Debug)]
struct Life {
    /// What it is doing, since when; `None` once it has ended.
    doing: Option<(Part, Timestamp)>,
    /// When its scope opened.
    born: Timestamp,
    ended: Option<Timestamp>,
    /// Which end of a step in this run its own was.
    place: u32,
    turn_after: Option<StepId>,
    /// The step whose end decided that this one is skipped.
    skipped_after: Option<StepId>,
    queued: Option<Timestamp>,
    started: Option<Timestamp>,
    failures: u32,
    root: Option<Root>,
    /// The skipped step that it was skipped for.
    skipped_for: Option<StepId>,
    /// Of a step that undoes another, once it is started: the scope that is undone, its own or one around it.
    undone_in: Option<ScopeId>,
    /// Of a join that no other join needs any more: one further out, as far as was looked.
    outer: Option<StepId>,
    /// Of a join that was decided: the step whose end did it, and when that was, once somebody has asked.
    decided: Option<(StepId, Timestamp)>,
}

impl<'p> Teller<'p> {
    pub(super) fn new(plan: &'p Arc<Plan>, id: &RunId, focus: Option<StepId>) -> Teller<'p> {
        let mut teller = Teller {
            plan,
            focus,
            run: Run::new(plan.clone(), id.clone()),
            created: Timestamp(0),
            finished: None,
            faults: Vec::new(),
            story: Vec::new(),
            steps: Vec::new(),
            lives: Vec::new(),
            ends: 0,
            open: Vec::new(),
            last_of_steps: Vec::new(),
            last_end: Vec::new(),
            last_end_within: Vec::new(),
            ends_before: Vec::new(),
            pauses: Vec::new(),
            timed_out: HashSet::new(),
            in_vain: HashMap::new(),
        };
        teller.grow(None);
        teller
    }

    /// The workflow's own steps may begin. Only those that its group has held back have `waited` for it.
    fn begin(&mut self, waited: bool, at: Timestamp) {
        for index in 0..self.lives.len() {
            let step = StepId(index as u32);
            let part = if self.is_ready(step) { Part::Engine } else { Part::Needs };
            if let Some((doing, _)) = self.lives[index].doing.as_mut().filter(|_| !waited || part == Part::Needs) {
                *doing = part;
            }
            self.turn_to(step, part, at);
        }
    }

    /// Adds the steps of the scope that was opened last, if there are any that are not known.
    fn grow(&mut self, at: Option<Timestamp>) {
        let plan = self.plan;
        let mut open = 0;
        for index in self.steps.len()..self.run.scopes().len() {
            let id = StepId(index as u32);
            let step = self.planned(id);
            open += usize::from(step.kind() == StepKind::Ordinary);
            self.steps.push(StepAccount {
                step: self.name(id),
                always: step.always,
                join: step.join,
                pool: step.pool().map(|pool| plan.pools[pool.index()].name.clone()),
                withheld: step.uses().map(|uses| withheld(plan, uses)).unwrap_or_default(),
                ..StepAccount::default()
            });
            let part = if self.is_ready(id) { Part::Engine } else { Part::Needs };
            self.lives.push(Life {
                doing: at.map(|at| (part, at)),
                born: at.unwrap_or(Timestamp(0)),
                ended: None,
                place: 0,
                turn_after: None,
                skipped_after: None,
                queued: None,
                started: None,
                failures: 0,
                root: None,
                skipped_for: None,
                undone_in: None,
                outer: None,
                decided: None,
            });
        }
        self.open.push(open);
        self.last_of_steps.push(None);
        self.last_end.push(None);
        self.last_end_within.push(None);
        self.ends_before.push(self.ends);
    }

    /// What a step of the run is in the plan.
    fn planned(&self, step: StepId) -> &'p Step {
        self.plan.step(self.run.scopes().no(step))
    }

    /// The life of a step of the plan in the scope of another one.
    fn beside(&self, step: StepId, no: StepNo) -> StepId {
        let scopes = self.run.scopes();
        scopes.life(self.plan, scopes.scope(step), no)
    }

    pub(super) fn take_in(&mut self, record: &Record) -> Result<(), Misplaced> {
        let at = record.at;
        match &record.event {
            Event::CacheAsked { step }
            | Event::AttemptQueued { step, .. }
            | Event::WaitQueued { step, .. }
            | Event::AttemptStarted { step, .. }
            | Event::StepOpened { step } => self.about_to_start(*step, record),
            Event::StepSucceeded { step, .. } | Event::StepReused { step, .. } | Event::StepFailed { step, .. } => {
                self.ask_rule(*step)
            }
            _ => (),
        }
        self.run.apply(record)?;
        self.end_pauses(at);
        match &record.event {
            Event::AttemptStarted { step, attempt: 1 } | Event::StepOpened { step } if self.plan.has_starts() => {
                let plan = self.plan;
                for (dependent, _) in plan.dependents(self.run.scopes().no(*step)) {
                    let dependent = self.beside(*step, *dependent);
                    // What goes on beside it is not what the end waited for before it.
                    if matches!(self.lives[dependent.index()].doing, Some((Part::Needs, _))) && self.is_ready(dependent)
                    {
                        self.turn_to(dependent, Part::Engine, at);
                    }
                }
            }
            _ => (),
        }
        match &record.event {
            Event::RunCreated { .. } => {
                self.created = at;
                for life in &mut self.lives {
                    (life.doing, life.born) = (Some((Part::Group, at)), at);
                }
                if !self.run.is_in_line() {
                    self.begin(false, at);
                }
            }
            Event::RunAdmitted => {
                let (group, waited_ms) = (self.run.group().unwrap_or_default().to_owned(), self.after_ms(at));
                if waited_ms >= WAIT_TOLD_MS {
                    self.tell(at, What::Admitted { group });
                }
                self.begin(waited_ms >= WAIT_TOLD_MS, at);
            }
            Event::CacheAsked { step } => self.turn_to(*step, Part::Cache, at),
            Event::CacheHit { step, key, origin, .. } => {
                let origin = (**origin).clone();
                self.steps[step.index()].cached = Some(CachedAccount { key: key.clone(), origin: origin.clone() });
                self.end(*step, StepEnd::Succeeded, at);
                let step = self.name(*step);
                self.tell(at, What::Cached { step, origin });
            }
            Event::AttemptQueued { step, attempt, .. } => {
                self.turn_to(*step, Part::Pool, at);
                self.lives[step.index()].queued = Some(at);
                self.attempt(*step, *attempt);
            }
            Event::AttemptStarted { step, attempt } => {
                self.turn_to(*step, Part::Running, at);
                let after_ms = self.after_ms(at);
                let life = &mut self.lives[step.index()];
                life.started = Some(at);
                let queued_ms = life.queued.take().map(|queued| at.0.saturating_sub(queued.0));
                let account = self.attempt(*step, *attempt);
                account.after_ms = Some(after_ms);
                account.queued_ms = queued_ms;
            }
            Event::AttemptSucceeded { step, attempt, usage, .. } => {
                self.close(*step, *attempt, at, End::Succeeded);
                self.used(*step, *attempt, usage);
                self.end(*step, StepEnd::Succeeded, at);
                let name = self.name(*step);
                match self.steps[step.index()].attempts.len() {
                    0..=1 => self.tell(at, What::Succeeded { steps: vec![name] }),
                    _ => self.tell(at, What::Recovered { step: name, attempt: *attempt }),
                }
            }
            Event::AttemptFailed { step, attempt, failure, usage } => self.failed(*step, *attempt, failure, usage, at),
            Event::AttemptInterrupted { step, attempt, cause } => {
                // Until it was found, nobody can tell attempt from outage.
                if let Some((doing, _)) = &mut self.lives[step.index()].doing {
                    *doing = Part::Interrupted;
                }
                self.turn_to(*step, Part::Engine, at);
                self.close(*step, *attempt, at, End::Interrupted(*cause));
                let steps = vec![self.name(*step)];
                self.tell(at, What::Interrupted { steps, cause: *cause });
            }
            Event::AttemptCancelled { step, attempt, usage } => {
                self.close(*step, *attempt, at, End::Cancelled);
                self.used(*step, *attempt, usage);
                self.cancelled(*step, at);
            }
            Event::StepOpened { step } => {
                let part = if self.planned(*step).opens().is_some() { Part::Scopes } else { Part::Parked };
                self.turn_to(*step, part, at);
                self.steps[step.index()].opened = true;
            }
            Event::ItemsAppended { .. } | Event::CapabilityUsed { .. } => (),
            Event::WaitQueued { step, .. } => self.turn_to(*step, Part::Pool, at),
            Event::ScopeQueued { step, .. } => self.look_at_line(*step, at),
            Event::ScopeOpened { step, .. } => {
                self.look_at_line(*step, at);
                self.grow(Some(at));
            }
            Event::ScopeTimedOut { step, index } => {
                self.timed_out.extend(self.run.scopes_of(*step).get(*index as usize).copied());
                let is_one = matches!(self.planned(*step).opens().map(|opens| &opens.scopes), Some(ScopeCount::One));
                let name = self.name(*step);
                let scope = if is_one { name } else { format!("{name}[{index}]") };
                self.tell(at, What::ScopeTimedOut { scope });
            }
            Event::StepSucceeded { step, output } => {
                self.steps[step.index()].waited = output.as_ref().and_then(|output| self.waited(*step, output));
                self.end(*step, StepEnd::Succeeded, at);
                let steps = vec![self.name(*step)];
                self.tell(at, What::Succeeded { steps });
            }
            Event::SignalReceived { signal, .. } => self.tell(at, What::Signalled { signal: signal.clone() }),
            Event::ApprovalGiven { step, approved, by, note, uid } => {
                let step = self.name(*step);
                self.tell(
                    at,
                    What::Answered { step, approved: *approved, by: by.clone(), note: note.clone(), uid: *uid },
                );
            }
            Event::StepReused { step, origin, .. } => {
                self.steps[step.index()].reused = Some((**origin).clone());
                self.end(*step, StepEnd::Succeeded, at);
                let steps = vec![self.name(*step)];
                self.tell(at, What::Reused { run: origin.run.clone(), steps });
            }
            Event::Paused { step, reason } => {
                self.pauses.push((*step, at, None));
                let step = step.map(|step| self.name(step));
                self.tell(at, What::Paused { step, reason: reason.clone() });
            }
            Event::Unpaused { step } => {
                let step = step.map(|step| self.name(step));
                self.tell(at, What::Unpaused { step });
            }
            Event::StepCancelRequested { step, reason } => {
                let step = self.name(*step);
                self.tell(at, What::StepCancelRequested { step, reason: reason.clone() });
            }
            Event::StepCancelled { step } => self.cancelled(*step, at),
            Event::StepFailed { step, failure } => {
                self.steps[step.index()].failure = Some(failure.clone());
                self.end(*step, StepEnd::Failed, at);
                let step = self.name(*step);
                self.tell(at, What::Failed { step, attempt: None, failure: failure.clone(), next: None });
            }
            Event::StepSkipped { step, reason } => self.skipped(*step, reason, at),
            Event::CancelRequested { reason } => self.tell(at, What::CancelRequested { reason: reason.clone() }),
            Event::RunTimedOut => {
                self.timed_out.insert(ScopeId::ROOT);
                self.tell(at, What::TimedOut);
            }
            Event::RunFinished { outcome, faults, .. } => {
                self.finished = Some((at, *outcome));
                self.faults.clone_from(faults);
            }
        }
        Ok(())
    }

    pub(super) fn account(mut self, now: Timestamp) -> Account {
        let until = self.finished.map_or(now.max(self.run.latest()), |(at, _)| at);
        for index in 0..self.steps.len() {
            let step = StepId(index as u32);
            self.steps[index].state = match self.steps[index].reused {
                Some(_) => "reused",
                None if self.run.is_never_needed(step) => "not needed",
                None => state(&self.run.status(step).0),
            };
            self.steps[index].waits = self.waits(step);
            self.steps[index].needs = self.needs(step);
            self.steps[index].turn_after = self.lives[index].turn_after.map(|step| self.name(step));
            if let Some((part, since)) = self.lives[index].doing {
                self.charge(step, part, since, until);
            }
            self.steps[index].root = self.lives[index].root.map(|root| self.name(root.step()));
            let cancelled = matches!(self.run.status(step).0, StepStatus::Cancelled);
            let not_needed = matches!(self.run.status(step).0, StepStatus::Skipped(SkipReason::NotNeeded { .. }));
            let by = self.run.unneeded_by(step).filter(|_| cancelled || not_needed);
            self.steps[index].not_needed_by = by.map(|by| self.name(by));
            let because = self.run.ended_for(step).filter(|_| cancelled && self.steps[index].not_needed_by.is_none());
            self.steps[index].cancelled = because.and_then(|because| because.in_words(&self.run, step));
        }
        self.tell_times();
        if let Some(focus) = self.focus {
            let mut chain = Vec::new();
            let root = self.lives[focus.index()].root;
            let mut here = self.lives[focus.index()].skipped_for;
            while let Some(step) = here.filter(|step| Some(*step) != root.map(Root::step)) {
                chain.push(self.name(step));
                here = self.lives[step.index()].skipped_for;
            }
            chain.reverse();
            self.steps[focus.index()].chain = chain;
            self.steps[focus.index()].because = root.map(|root| self.cause(root));
        }
        let path = self.path(until);
        let elapsed_ms = self.after_ms(until);
        let longest = longest(&path).filter(|(_, _, ms)| *ms > 0);
        let bottleneck = longest.map(|(link, part, ms)| Bottleneck {
            step: link.step.clone(),
            part,
            ms,
            percent: ms.saturating_mul(100).checked_div(elapsed_ms).unwrap_or(0),
        });
        Account {
            run: self.run.id().clone(),
            workflow: self.plan.name.clone(),
            outcome: self.finished.map(|(_, outcome)| outcome),
            stopped: false,
            created: self.created,
            elapsed_ms,
            skips: self.skips(),
            story: self.story,
            path,
            bottleneck,
            faults: self.faults,
            steps: self.steps,
        }
    }

    // What a record says.

    /// What is known of a step only before the record of its start is applied.
    fn about_to_start(&mut self, step: StepId, record: &Record) {
        if self.steps[step.index()].attempts.is_empty() {
            self.ask_rule(step);
        }
        // Its turn came with no step's end alone: something was to be undone first, or is now.
        let waits = matches!(self.lives[step.index()].doing, Some((Part::Needs, _)));
        if let Some(undone) = self.planned(step).undoes.filter(|_| self.steps[step.index()].undoing.is_none()) {
            let scope = self.undone_scope(step);
            if waits {
                self.lives[step.index()].undone_in = Some(scope);
            }
            let (undone, because) = (self.name(self.beside(step, undone)), self.in_vain(scope));
            self.steps[step.index()].undoing = Some(Undoing { step: undone, because });
        }
        if let Some(last) = self.last_before(self.told_in(step)).filter(|_| waits) {
            let ended = self.lives[last.index()].ended.unwrap_or(record.at);
            self.turn_to(step, Part::Engine, ended);
            self.lives[step.index()].turn_after = Some(last);
        }
        if self.focus == Some(step) && matches!(record.event, Event::AttemptStarted { .. } | Event::CacheAsked { .. }) {
            let with = self.planned(step).uses().map(|uses| &uses.with);
            self.steps[step.index()].input = with.and_then(|with| with.render(&self.run.seen_by(step)).ok());
        }
    }

    /// The scope whose story a step belongs to: its own, but of one that undoes another that which is undone.
    fn told_in(&self, step: StepId) -> ScopeId {
        self.lives[step.index()].undone_in.unwrap_or_else(|| self.run.scopes().scope(step))
    }

    /// Of what is told in a scope, the last step that has come to its end.
    fn last_before(&self, scope: ScopeId) -> Option<StepId> {
        let within = self.last_end_within[scope.index()].filter(|last| self.told_in(*last) == scope);
        within.or(self.last_end[scope.index()])
    }

    /// Asks the step's rule as it was asked when the step's turn came.
    fn ask_rule(&mut self, step: StepId) {
        let Some(when) = &self.planned(step).when else { return };
        let account = &mut self.steps[step.index()];
        if account.rule.is_none() && self.run.status(step).0 == StepStatus::Ready {
            let (rule, seen) = (when.source().to_owned(), self.run.seen_by(step));
            account.rule = Some(RuleAccount { rule, held: when.holds(&seen).ok(), saw: when.saw(&seen) });
        }
    }

    fn failed(&mut self, step: StepId, attempt: u32, failure: &Failure, usage: &Usage, at: Timestamp) {
        self.lives[step.index()].failures += 1;
        let failures = self.lives[step.index()].failures;
        let retry = &self.planned(step).retry;
        let next = match self.run.status(step).0 {
            StepStatus::Delayed(until) => {
                let delay_ms = until.0.saturating_sub(at.0);
                let asked = failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS);
                let why = match delay_ms == asked && asked > 0 {
                    true => Delay::Asked,
                    false => {
                        let (full_ms, at_most) = retry.grown_ms(failures);
                        Delay::Grown { full_ms, at_most, jitter: retry.jitter }
                    }
                };
                Next::Again { delay_ms, why, failures, of: retry.attempts }
            }
            _ if !failure.kind.is_retryable() => Next::Never(Never::NotRetried),
            _ if retry.attempts == 1 => Next::Never(Never::OnlyOne),
            _ if failures >= retry.attempts => Next::Never(Never::AttemptsUsedUp),
            StepStatus::Waiting => Next::Never(Never::NotNeeded),
            _ => Next::Never(Never::RunEnding),
        };
        self.close(step, attempt, at, End::Failed(failure.clone()));
        self.attempt(step, attempt).next = Some(next);
        self.used(step, attempt, usage);
        if failure.kind == FailureKind::TimedOut {
            // That it went over it is told already.
            self.steps[step.index()].near.retain(|near| near.attempt != attempt || near.limit != "timeout");
        }
        match next {
            Next::Again { .. } => self.turn_to(step, Part::Between, at),
            // Its end is a record of its own.
            Next::Never(Never::NotNeeded) => self.turn_to(step, Part::Engine, at),
            Next::Never(_) | Next::WithScope => {
                self.steps[step.index()].failure = Some(failure.clone());
                self.end(step, StepEnd::Failed, at);
            }
        }
        let step = self.name(step);
        self.tell(at, What::Failed { step, attempt: Some(attempt), failure: failure.clone(), next: Some(next) });
    }

    fn cancelled(&mut self, step: StepId, at: Timestamp) {
        self.end(step, StepEnd::Cancelled, at);
        let steps = vec![self.name(step)];
        let what = match self.run.ended_for(step) {
            Some(Ended::NotNeeded { by }) => {
                let by = self.outermost(by);
                What::Cancelled { by: Some(self.name(by)), steps }
            }
            Some(Ended::Decided { by }) => What::Cancelled { by: Some(self.name(by)), steps },
            Some(Ended::Cancels { by }) => What::Cut { by: Some(self.name(by)), steps },
            _ if self.run.is_ending() => What::Cancelled { by: None, steps },
            _ => What::Cut { by: None, steps },
        };
        self.tell(at, what);
    }

    /// Adds to the story; what is of a kind with the moment before is told with it.
    fn tell(&mut self, at: Timestamp, what: What) {
        let after_ms = self.after_ms(at);
        let what = match self.story.last_mut() {
            Some(moment) => match moment.what.join(what) {
                Some(what) => what,
                None => {
                    moment.until_ms = Some(after_ms).filter(|until| *until > moment.after_ms);
                    return;
                }
            },
            None => what,
        };
        self.story.push(Moment { after_ms, until_ms: None, what });
    }

    fn end(&mut self, step: StepId, end: StepEnd, at: Timestamp) {
        // What was open around it may be over with it, while others are still in line.
        let scopes = self.run.scopes();
        let around = scopes.place(scopes.scope(step)).opener;
        let again = self.run.tried_again(step, at).map(|again| again.step);
        if let Some(around) = around.filter(|around| !self.run.has_ended(*around)) {
            self.look_at_line(around, at);
        }
        if let Some(again) = again.filter(|again| Some(*again) != around) {
            self.look_at_line(again, at);
        }
        self.ends += 1;
        let life = &mut self.lives[step.index()];
        life.ended = Some(at);
        life.place = self.ends;
        let doing = life.doing.take();
        self.steps[step.index()].end = Some(end);
        if let Some((was, since)) = doing {
            self.charge(step, was, since, at);
        }
        let plan = self.plan;
        let (scope, no) = self.run.scopes().find(step).expect("a step of the run");
        if end != StepEnd::Skipped {
            self.last_end[scope.index()] = Some(step);
            let mut around = Some(scope);
            while let Some(scope) = around {
                self.last_end_within[scope.index()] = Some(step);
                around = self.run.scopes().place(scope).opener.map(|opener| self.run.scopes().scope(opener));
            }
        }
        for (dependent, _) in plan.dependents(no) {
            self.may_have_its_turn(self.beside(step, *dependent), step, at);
        }
        if plan.step(no).kind() != StepKind::Ordinary {
            return;
        }
        self.open[scope.index()] -= 1;
        if self.open[scope.index()] == 0 {
            self.last_of_steps[scope.index()] = Some(step);
            // Steps that were skipped as their scope was ended lead back to nothing: before them is what was ended with it.
            let leads_back = end != StepEnd::Skipped || self.lives[step.index()].skipped_after.is_some();
            let last = self.last_end[scope.index()].filter(|_| !leads_back).unwrap_or(step);
            let at = self.lives[last.index()].ended.unwrap_or(at);
            for later in self.run.scopes().steps_of(plan, scope) {
                if self.planned(later).kind() != StepKind::Ordinary {
                    self.may_have_its_turn(later, last, at);
                }
            }
        }
    }

    /// Notes that a step's turn has come with the end of another, if it has.
    fn may_have_its_turn(&mut self, step: StepId, after: StepId, at: Timestamp) {
        let waits = matches!(self.lives[step.index()].doing, Some((Part::Needs, _)));
        if waits && self.is_ready(step) {
            self.turn_to(step, Part::Engine, at);
            self.lives[step.index()].turn_after = Some(after);
        }
    }

    fn close(&mut self, step: StepId, attempt: u32, at: Timestamp, end: End) {
        let took_ms = self.lives[step.index()].started.take().map(|started| at.0.saturating_sub(started.0));
        let account = self.attempt(step, attempt);
        account.took_ms = took_ms;
        account.end = Some(end);
    }

    /// Takes in what an attempt used: refusals, each once, and the bounds that it came near to.
    fn used(&mut self, step: StepId, attempt: u32, usage: &Usage) {
        let plan = self.planned(step);
        let Some(limits) = plan.uses().map(|uses| &uses.limits) else { return };
        let timeout = plan.timeout_ms.unwrap_or(limits.time_ms);
        let account = &mut self.steps[step.index()];
        for refusal in &usage.refusals {
            if !account.refusals.contains(refusal) {
                account.refusals.push(refusal.clone());
            }
        }
        let programs = usage.programs.as_deref();
        let used = [
            ("memory", usage.memory_peak, limits.memory, 0),
            ("table-elements", usage.table_elements_peak, limits.table_elements, 0),
            ("output", usage.bytes_out, limits.output, 0),
            ("log", usage.log_bytes, limits.log, usage.log_dropped),
            ("process-memory", programs.map_or(0, |programs| programs.memory_peak), limits.process_memory, 0),
            ("processes", programs.map_or(0, |programs| programs.processes_peak), limits.processes, 0),
            ("timeout", usage.wall_us / 1_000, timeout, 0),
        ];
        for (limit, used, most, dropped) in used {
            let percent = (u128::from(used) * 100 / u128::from(most.max(1))).min(u128::from(u64::MAX)) as u64;
            if percent >= NEAR_PERCENT || dropped > 0 {
                account.near.push(Near { attempt, limit, used, most, percent, dropped });
            }
        }
    }

    // What follows from all of it.

    fn needs(&self, step: StepId) -> Vec<NeedAccount> {
        let need = |need: &Need| {
            let needed = self.beside(step, need.step);
            let life = &self.lives[needed.index()];
            NeedAccount {
                step: self.name(needed),
                wanted: need.state,
                was: self.steps[needed.index()].end,
                after_ms: life.ended.map(|at| self.after_ms(at)),
            }
        };
        self.planned(step).needs.iter().map(need).collect()
    }

    fn is_ready(&self, step: StepId) -> bool {
        self.run.status(step).0 == StepStatus::Ready
    }

    fn after_ms(&self, at: Timestamp) -> u64 {
        at.0.saturating_sub(self.created.0)
    }

    fn name(&self, step: StepId) -> String {
        self.run.path(step)
    }

    fn scope_name(&self, step: StepId) -> String {
        let scopes = self.run.scopes();
        scopes.scope_path(self.plan, scopes.scope(step))
    }

    fn attempt(&mut self, step: StepId, attempt: u32) -> &mut AttemptAccount {
        let attempts = &mut self.steps[step.index()].attempts;
        let place = attempts.iter().rposition(|known| known.attempt == attempt).unwrap_or_else(|| {
            let (after_ms, queued_ms, took_ms, end, next) = (None, None, None, None, None);
            attempts.push(AttemptAccount { attempt, after_ms, queued_ms, took_ms, end, next });
            attempts.len() - 1
        });
        &mut attempts[place]
    }
}

fn state(status: &StepStatus<'_>) -> &'static str {
    match status {
        StepStatus::Waiting => "waiting",
        StepStatus::Ready => "ready",
        StepStatus::Asking => "asking the cache",
        StepStatus::Queued => "queued",
        StepStatus::Running => "running",
        StepStatus::Delayed(_) => "delayed",
        StepStatus::Open => "open",
        StepStatus::Parked(_) => "parked",
        StepStatus::Succeeded(_) => "succeeded",
        StepStatus::Failed(_) => "failed",
        StepStatus::Skipped(_) => "skipped",
        StepStatus::Cancelled => "cancelled",
    }
}
