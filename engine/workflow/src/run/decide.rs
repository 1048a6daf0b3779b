//! What should happen now: the run is looked at, and nothing of it changes.

use serde_json::json;

use super::life::{Cut, Family, Parked, Stage, State};
use super::seen::Seen;
use super::{Action, Attempt, Claim, ITEMS_MAX, RUN_STEPS_MAX, Run, SCOPE_DEPTH_MAX};
use crate::event::{Event, Failure, FailureKind, SkipReason, Timestamp};
use crate::inputs;
use crate::json::Json;
use crate::plan::{Opens, ScopeCount, StepId, StepKind, Wait, Work};
use crate::rule::{RuleError, Scope, Template};
use crate::scope::ScopeId;

/// The answers of a list's items together, in bytes of JSON. 256 MiB, what the limit `output` may be at most.
const ANSWERS_BYTES_MAX: usize = 256 << 20;

impl Run {
    /// What should happen at `now`, with at most `room` attempts or scopes started by it; nothing is decided about the steps
    /// after the last one for which there was room, nor after one whose end may concern others. The event of every action
    /// must be applied before this is asked again; then nothing is answered twice, and an answer without events means: wait.
    pub fn next(&self, now: Timestamp, mut room: usize) -> Vec<Action> {
        match self.root().stage {
            Stage::Blank | Stage::InLine | Stage::Finished(_) => return Vec::new(),
            Stage::Over(_) => return vec![Action::Record(self.finish())],
            Stage::Steps | Stage::Undo | Stage::Always => (),
        }
        let deadline = self.deadlines.first();
        if let Some((_, scope)) = deadline.filter(|(at, _)| *at <= now) {
            return vec![Action::Record(self.time_out(*scope))];
        }
        if !self.winding.is_empty() {
            return self.winding.iter().flat_map(|scope| self.wind_down(*scope)).collect();
        }
        let mut actions = Vec::new();
        let delays_over = self.delayed.iter().take_while(|(until, _)| *until <= now).map(|(_, step)| step);
        let due = self.due.iter().filter(|step| !self.is_over_at(**step, now));
        for step in delays_over.chain(due).copied() {
            if room == 0 {
                break;
            }
            self.decide(step, now, &mut room, &mut actions);
            // The end of a step may end others: a join's losers, the rest of its scope; where begun steps are needed, so
            // may its begin.
            let concerns_others = self.plan.has_cuts()
                && match actions.last() {
                    Some(Action::Record(event)) if event.ended_step().is_some() => true,
                    Some(Action::Record(_) | Action::Start(_) | Action::Ask(_) | Action::Queue { .. }) => {
                        self.plan.has_starts()
                    }
                    Some(Action::WakeAt(_)) | None => false,
                };
            if concerns_others {
                break;
            }
        }
        let next_delay = self.delayed.range((now.plus_ms(1), StepId(0))..).next().map(|(until, _)| *until);
        let wake_at = [deadline.map(|(at, _)| *at), next_delay].into_iter().flatten().min();
        actions.extend(wake_at.map(Action::WakeAt));
        actions
    }

    /// What follows once somebody in line has their place: [`Action::Start`], the record of what begins, or one that says why
    /// it can't. `None` if they are not in line any more, or nothing is started any more.
    pub fn start(&self, claim: Claim) -> Option<Action> {
        let Some(step) = claim.step() else {
            return self.is_in_line().then_some(Action::Record(Event::RunAdmitted));
        };
        let life = self.steps.get(step.index()).filter(|_| self.may_start(step))?;
        match (claim, &life.state) {
            (Claim::Scope(_, index), State::Open) => {
                let family = life.family.as_deref()?;
                self.waits_in_line(family, index).then_some(Action::Record(Event::ScopeOpened { step, index }))
            }
            (Claim::Wait(_), State::Queued(_)) => match &self.step(step).work {
                Work::Wait(wait) => Some(self.begin_wait(step, wait)),
                _ => None,
            },
            (Claim::Attempt(_, attempt), State::Queued(_)) if attempt == life.attempts + 1 => {
                self.step(step).uses().map(|_| self.attempt(step))
            }
            _ => None,
        }
    }

    /// What follows once the cache has no answer for a step, or when it is not asked: [`Action::Start`], [`Action::Queue`], or a
    /// record that its input can't be made. `None` if the step does not wait for this any more, or nothing is started any
    /// more, or it is paused: then `next` asks for it again once it goes on.
    pub fn missed(&self, step: StepId) -> Option<Action> {
        if !self.may_start(step) || self.is_held(step) {
            return None;
        }
        match self.steps[step.index()].state {
            State::Asking => Some(self.execute(step)),
            State::Ready | State::Delayed(_) if self.step(step).uses().is_some_and(|uses| uses.cache) => {
                Some(self.execute(step))
            }
            _ => None,
        }
    }

    /// The attempt that the cache was asked about.
    pub fn asked(&self, step: StepId) -> Option<Action> {
        self.is_asking(step).then(|| self.ask(step))
    }

    /// Whether an item or round waits for its place, and is still wanted.
    pub(super) fn waits_in_line(&self, family: &Family, index: u32) -> bool {
        let is_again = (index as usize) < family.scopes.len();
        family.line.contains(&index) && (is_again || family.verdict.is_none())
    }

    fn begin_wait(&self, step: StepId, wait: &Wait) -> Action {
        match self.wait_until(step, wait) {
            Ok(_) => Action::Record(Event::StepOpened { step }),
            Err(failure) => Action::Record(Event::StepFailed { step, failure: *failure }),
        }
    }

    /// Whether something that the step waits for by the clock is over: then it is among the delayed ones.
    pub(super) fn is_over_at(&self, step: StepId, now: Timestamp) -> bool {
        let life = &self.steps[step.index()];
        let at = match &life.state {
            State::Delayed(until) => Some(*until),
            State::Parked(parked) => parked.looks_at(),
            State::Open => life.family.as_deref().and_then(Family::looks_at),
            _ => None,
        };
        at.is_some_and(|at| at <= now && self.delayed.contains(&(at, step)))
    }

    pub(super) fn decide(&self, step: StepId, now: Timestamp, room: &mut usize, actions: &mut Vec<Action>) {
        let life = &self.steps[step.index()];
        let action = match &life.state {
            State::Doomed(reason) => Some(Action::Record(match life.attempts {
                0 => Event::StepSkipped { step, reason: reason.clone() },
                _ => Event::StepCancelled { step },
            })),
            State::Open => {
                let family = life.family.as_deref().expect("a step that opens scopes has a family");
                return self.decide_family(step, family, now, room, actions);
            }
            State::Parked(parked) => self.decide_parked(step, parked, now),
            _ if self.is_held(step) => None,
            _ => Some(self.decide_start(step)),
        };
        *room -= usize::from(matches!(action, Some(Action::Start(_) | Action::Ask(_))));
        actions.extend(action);
    }

    /// About a step whose turn it is.
    fn decide_start(&self, step: StepId) -> Action {
        let life = &self.steps[step.index()];
        let seen = Seen::by(self, step);
        let plan = self.step(step);
        // A step that has started once was wanted then; its rule is not asked again.
        if let Some(when) = plan.when.as_ref().filter(|_| life.attempts == 0) {
            match when.holds(&seen) {
                Ok(true) => (),
                Ok(false) => {
                    let reason = SkipReason::RuleFalse { rule: when.source().to_owned(), saw: when.saw(&seen) };
                    return Action::Record(Event::StepSkipped { step, reason });
                }
                Err(error) => return rule_failed(step, "when", &error),
            }
        }
        match &plan.work {
            Work::Use(uses) if uses.cache => self.ask(step),
            Work::Use(_) => self.execute(step),
            Work::Open(opens) => match self.items(step, opens).and_then(|_| self.inputs_for(step, opens)) {
                Ok(_) if self.scope_of(step).depth >= SCOPE_DEPTH_MAX => {
                    let message = format!("scopes nest at most {SCOPE_DEPTH_MAX} levels deep");
                    failed(step, FailureKind::Limit { limit: "scope-depth".to_owned() }, message)
                }
                Ok(_) => Action::Record(Event::StepOpened { step }),
                Err(failure) => Action::Record(Event::StepFailed { step, failure: *failure }),
            },
            Work::Wait(wait) => match wait.pool {
                Some(pool) => Action::Queue { claim: Claim::Wait(step), pool },
                None => self.begin_wait(step, wait),
            },
            Work::Finish => Action::Record(Event::StepSucceeded { step, output: None }),
            Work::Fail(message) => match text(message, &seen) {
                Ok(message) => failed(step, FailureKind::Permanent, message),
                Err(error) => rule_failed(step, "fail", &error),
            },
        }
    }

    /// Begins the next attempt, by way of its pool if it has one.
    fn execute(&self, step: StepId) -> Action {
        match self.step(step).uses().and_then(|uses| uses.pool) {
            Some(pool) => Action::Queue { claim: Claim::Attempt(step, self.steps[step.index()].attempts + 1), pool },
            None => self.attempt(step),
        }
    }

    fn ask(&self, step: StepId) -> Action {
        match self.attempt(step) {
            Action::Start(attempt) => Action::Ask(attempt),
            failed => failed,
        }
    }

    fn attempt(&self, step: StepId) -> Action {
        let attempt = self.steps[step.index()].attempts + 1;
        let uses = self.step(step).uses().expect("only a step that uses a component has attempts");
        match uses.with.render(&Seen::by(self, step)) {
            Ok(input) => Action::Start(Attempt { step, attempt, input }),
            Err(error) => rule_failed(step, "with", &error),
        }
    }

    /// The list that a step opens scopes for; empty for one that does not, and where another step appends to it.
    pub(super) fn items(&self, step: StepId, opens: &Opens) -> Result<Vec<serde_json::Value>, Box<Failure>> {
        let ScopeCount::Each(each) = &opens.scopes else { return Ok(Vec::new()) };
        // What a step appends is bounded where it does.
        if !each.from.is_empty() {
            return Ok(Vec::new());
        }
        let list =
            each.list.render(&Seen::by(self, step)).map_err(|error| Box::new(rule_failure("foreach", &error)))?;
        match list.value() {
            serde_json::Value::Array(items) if items.len() <= ITEMS_MAX => Ok(items),
            serde_json::Value::Array(items) => Err(Box::new(failure(
                FailureKind::Limit { limit: "items".to_owned() },
                format!("the list has {} items; at most {ITEMS_MAX} are taken", items.len()),
            ))),
            _ => Err(Box::new(failure(FailureKind::Rule, "`foreach` takes a list, and this is none".to_owned()))),
        }
    }

    /// The inputs of the sub-workflow that a step opens.
    pub(super) fn inputs_for(&self, step: StepId, opens: &Opens) -> Result<Option<Json>, Box<Failure>> {
        let body = self.plan.body(opens.body).expect("a step opens a body of the plan");
        let Some(workflow) = &body.workflow else { return Ok(None) };
        // What its items and rounds are given is not known before they are.
        if !matches!(opens.scopes, ScopeCount::One) {
            return Ok(None);
        }
        self.inputs_seen(&Seen::by(self, step), opens, workflow).map(Some)
    }

    /// The inputs of a sub-workflow, seen from where it is opened.
    pub(super) fn inputs_seen(
        &self,
        seen: &dyn Scope,
        opens: &Opens,
        workflow: &crate::plan::SubWorkflow,
    ) -> Result<Json, Box<Failure>> {
        let given = match &opens.with {
            Some(with) => with.render(seen).map_err(|error| Box::new(rule_failure("with", &error)))?.value(),
            None => json!({}),
        };
        let given = match given {
            serde_json::Value::Object(given) => given,
            _ => return Err(Box::new(failure(FailureKind::Rule, "`with` has to be a table".to_owned()))),
        };
        inputs::accept_declared(&workflow.inputs, given)
            .map_err(|faults| Box::new(failure(FailureKind::InvalidInput, faults.join("; "))))
    }

    /// The time that a step waits for at most, if it names one.
    pub(super) fn wait_until(&self, step: StepId, wait: &Wait) -> Result<Option<Timestamp>, Box<Failure>> {
        let Some(until) = &wait.until else { return Ok(None) };
        let text = text(until, &Seen::by(self, step)).map_err(|error| Box::new(rule_failure("until", &error)))?;
        let moment: jiff::Timestamp = text.trim().parse().map_err(|_| {
            let message = format!("`{text}` is no time such as `2026-12-24T18:00:00Z`");
            Box::new(failure(FailureKind::Rule, message))
        })?;
        // What is long gone is over at once.
        Ok(Some(Timestamp(u64::try_from(moment.as_millisecond()).unwrap_or(0))))
    }

    fn decide_parked(&self, step: StepId, parked: &Parked, now: Timestamp) -> Option<Action> {
        let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        match &parked.answer {
            Some(Ok(output)) => Some(Event::StepSucceeded { step, output: Some(output.clone()) }),
            Some(Err(failure)) => Some(Event::StepFailed { step, failure: failure.clone() }),
            None if is_over(parked.over_at) => {
                Some(Event::StepSucceeded { step, output: Some(Json::from(json!({ "by": "time" }))) })
            }
            None if is_over(parked.times_out_at()) => {
                let message = "nobody and nothing ended the waiting within its timeout".to_owned();
                Some(Event::StepFailed { step, failure: failure(FailureKind::TimedOut, message) })
            }
            None => None,
        }
        .map(Action::Record)
    }

    fn decide_family(
        &self,
        step: StepId,
        family: &Family,
        now: Timestamp,
        room: &mut usize,
        actions: &mut Vec<Action>,
    ) {
        let opens = self.step(step).opens().expect("a step with scopes opens them");
        if !self.may_start(step) {
            actions.extend((family.open == 0).then_some(Action::Record(Event::StepCancelled { step })));
            return;
        }
        if let Some(verdict) = family.verdict.as_ref().filter(|_| self.may_end(step, family)) {
            let answers: usize = match verdict {
                Ok(()) => {
                    family.scopes.iter().map(|scope| self.answer_of(*scope).map_or(4, |json| json.as_str().len())).sum()
                }
                Err(_) => 0,
            };
            actions.push(match verdict {
                Ok(()) if answers > ANSWERS_BYTES_MAX => {
                    let message = format!("the answers have more than {} MiB together", ANSWERS_BYTES_MAX >> 20);
                    failed(step, FailureKind::Limit { limit: "output".to_owned() }, message)
                }
                Ok(()) => Action::Record(Event::StepSucceeded { step, output: None }),
                Err(failure) => Action::Record(Event::StepFailed { step, failure: failure.clone() }),
            });
            return;
        }
        if self.is_held(step) {
            return;
        }
        let opened = actions.len();
        let more = self.openings(opens, family, now);
        let size = self.plan.steps_of(opens.body).len();
        for (count, index) in more.enumerate() {
            if *room == 0 {
                break;
            }
            if self.steps.len() + (family.line.len() + count + 1) * size > RUN_STEPS_MAX {
                if family.open == 0 && actions.len() == opened {
                    let message = format!("a run has at most {RUN_STEPS_MAX} steps, over all scopes that it opens");
                    actions.push(failed(step, FailureKind::Limit { limit: "steps".to_owned() }, message));
                }
                break;
            }
            actions.push(match opens.pool {
                // Those in line take no room: how many get in is the pool's to say.
                Some(pool) => Action::Queue { claim: Claim::Scope(step, index), pool },
                None => {
                    *room -= 1;
                    Action::Record(Event::ScopeOpened { step, index })
                }
            });
        }
    }

    /// The items or rounds that may begin now, or get in line, in their order.
    pub(super) fn openings<'f>(
        &self,
        opens: &'f Opens,
        family: &'f Family,
        now: Timestamp,
    ) -> impl Iterator<Item = u32> + use<'f> {
        let again = family.again.iter().take_while(move |(at, _)| *at <= now).map(|(_, index)| *index);
        let next = (family.scopes.len() as u32).max(family.line.last().map_or(0, |last| last + 1));
        let fresh = match &opens.scopes {
            _ if family.verdict.is_some() => 0..0,
            ScopeCount::One => next..1,
            ScopeCount::Each(_) => next..family.items.len() as u32,
            ScopeCount::Rounds(_) if family.next_round.is_some_and(|at| at <= now) => next..next + 1,
            ScopeCount::Rounds(_) => 0..0,
        };
        let parallel = match &opens.scopes {
            ScopeCount::Each(each) => each.parallel.unwrap_or(u32::MAX),
            ScopeCount::One | ScopeCount::Rounds(_) => 1,
        };
        let begun = family.open.saturating_add(family.line.len() as u32);
        again.chain(fresh).take(parallel.saturating_sub(begun) as usize)
    }

    /// Whether a step whose scopes have a verdict may end: none of those that it waits for is open.
    pub(super) fn may_end(&self, step: StepId, family: &Family) -> bool {
        let leaves = match self.step(step).opens() {
            Some(Opens { detached: true, .. }) => true,
            Some(Opens { scopes: ScopeCount::Each(each), .. }) => each.rest == crate::plan::Rest::Wait,
            _ => false,
        };
        family.open == 0 || (leaves && family.verdict == Some(Ok(())))
    }

    fn time_out(&self, scope: ScopeId) -> Event {
        let place = self.places.place(scope);
        match place.opener {
            None => Event::RunTimedOut,
            Some(step) => Event::ScopeTimedOut { step, index: place.index },
        }
    }

    /// Ends every step of a scope that nothing has to come home for, but for always-steps unless these are given up. Asked
    /// only while there is one.
    pub(super) fn wind_down(&self, scope: ScopeId) -> Vec<Action> {
        let life = &self.scopes[scope.index()];
        let reason = life.cut.as_ref().map_or(SkipReason::RunCancelled, |cut| cut.reason(scope == ScopeId::ROOT));
        let ended = |step: StepId| {
            let is_meant = match self.kind(step) {
                StepKind::Ordinary => true,
                StepKind::Always => life.giving_up,
                StepKind::Undo => false,
            };
            let StepState { is_idle, has_begun } = self.stands(step);
            (is_meant && is_idle).then(|| {
                Action::Record(match has_begun {
                    true => Event::StepCancelled { step },
                    false => Event::StepSkipped { step, reason: reason.clone() },
                })
            })
        };
        self.places.steps_of(&self.plan, scope).filter_map(ended).collect()
    }

    fn stands(&self, step: StepId) -> StepState {
        let life = &self.steps[step.index()];
        StepState { is_idle: life.ended().is_none() && !life.is_out(), has_begun: life.attempts > 0 }
    }

    fn finish(&self) -> Event {
        let (outputs, faults) = self.outputs_of(ScopeId::ROOT);
        let outcome = match self.root().outcome() {
            crate::event::Outcome::Succeeded if !faults.is_empty() => crate::event::Outcome::Failed,
            outcome => outcome,
        };
        Event::RunFinished { outcome, outputs, faults }
    }

    /// The outputs of a scope whose steps are over, and those that could not be computed.
    pub(super) fn outputs_of(&self, scope: ScopeId) -> (Json, Vec<String>) {
        let seen = Seen::at_end(self, scope);
        let mut outputs = serde_json::Map::new();
        let mut faults = Vec::new();
        let has_output = |name: &str| seen.step(name).is_some_and(|view| view.output.is_some());
        for output in self.plan.outputs_of(self.places.place(scope).body) {
            match output.value.render(&seen) {
                Ok(value) => drop(outputs.insert(output.name.clone(), value.value())),
                // What a step that did not succeed would have said is left out: the step itself says why.
                Err(_) if !output.value.steps().all(has_output) => (),
                Err(error) => faults.push(format!("output `{}`: {error}", output.name)),
            }
        }
        (Json::from(serde_json::Value::Object(outputs)), faults)
    }
}

struct StepState {
    is_idle: bool,
    has_begun: bool,
}

/// A template of text, filled in.
fn text(template: &Template, scope: &dyn Scope) -> Result<String, RuleError> {
    Ok(match template.render(scope)?.value() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

pub(super) fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, details: None, backtrace: None, retry_after_ms: None }
}

pub(super) fn rule_failure(key: &str, error: &RuleError) -> Failure {
    failure(FailureKind::Rule, format!("`{key}` can't be evaluated: {error}"))
}

fn failed(step: StepId, kind: FailureKind, message: String) -> Action {
    Action::Record(Event::StepFailed { step, failure: failure(kind, message) })
}

fn rule_failed(step: StepId, key: &str, error: &RuleError) -> Action {
    Action::Record(Event::StepFailed { step, failure: rule_failure(key, error) })
}

impl Cut {
    /// Why a step of the scope that has not started will not run.
    fn reason(&self, is_root: bool) -> SkipReason {
        match self {
            Cut::Cancelled if is_root => SkipReason::RunCancelled,
            Cut::TimedOut if is_root => SkipReason::RunTimedOut,
            Cut::Cancelled => SkipReason::ScopeCancelled,
            Cut::TimedOut => SkipReason::ScopeTimedOut,
            Cut::Ended { by } => SkipReason::ScopeEnded { by: *by },
            Cut::Unwanted(reason) => reason.clone(),
        }
    }
}
