//! How the scopes of a step begin and end, and what becomes of the step.

use std::sync::Arc;

use serde_json::Value;

use super::change::delay_ms;
use super::decide::{failure, rule_failure};
use super::life::{Cut, Family, Given, Locals, ScopeLife, Stage, State, StepLife};
use super::seen::Seen;
use super::{Claim, Run};
use crate::event::{Failure, FailureKind, Outcome, Timestamp};
use crate::json::Json;
use crate::plan::{Opens, PoolId, Rounds, ScopeCount, StepId, StepKind};
use crate::scope::ScopeId;

impl Family {
    /// When something begins by the clock: an item that is tried again, the next round.
    pub(super) fn looks_at(&self) -> Option<Timestamp> {
        self.again.first().map(|(at, _)| *at).into_iter().chain(self.next_round).min()
    }

    /// An item or round does not wait for its time any more.
    fn begins(&mut self, index: u32) {
        self.next_round = None;
        let again = self.again.iter().find(|(_, failed)| *failed == index).copied();
        if let Some(again) = again {
            self.again.remove(&again);
        }
    }
}

impl Run {
    /// A step that opens scopes has begun.
    pub(super) fn family_begins(&mut self, step: StepId, opens: &Opens, at: Timestamp) -> Option<()> {
        let items = self.items(step, opens).ok()?;
        let mut family = Family { items: items.into_iter().map(Arc::new).collect(), ..Family::default() };
        match &opens.scopes {
            ScopeCount::One => (),
            ScopeCount::Each(each) => {
                if !each.from.is_empty() {
                    self.list_begins(step, &each.from, &mut family);
                }
            }
            ScopeCount::Rounds(rounds) => self.next_round(step, rounds, &mut family, at),
        }
        self.settle(step);
        self.goes_out(step);
        let life = self.life(step);
        life.attempts = 1;
        life.state = State::Open;
        life.family = Some(Box::new(family));
        self.judge_items(step);
        self.look_again(step);
        Some(())
    }

    /// An item or round gets in line for its pool, the next one, or one that failed and is tried again.
    pub(super) fn scope_queued(&mut self, step: StepId, index: u32, pool: PoolId, at: Timestamp) -> Option<()> {
        let plan = self.plan.clone();
        let opens = self.places.step(&plan, step)?.opens().filter(|opens| opens.pool == Some(pool))?;
        let life = self.steps.get(step.index())?;
        let family = life.family.as_deref().filter(|_| matches!(life.state, State::Open))?;
        let may_queue = self.may_start(step) && self.openings(opens, family, at).any(|may| may == index);
        may_queue.then_some(())?;
        self.settle(step);
        let family = self.family(step);
        family.line.insert(index);
        family.begins(index);
        self.look_again(step);
        Some(())
    }

    /// An item or round that is in line for its pool is not any more, and may get there again.
    pub(super) fn out_of_line(&mut self, step: StepId, index: u32, at: Timestamp) {
        self.settle(step);
        let is_round = matches!(self.step(step).opens(), Some(Opens { scopes: ScopeCount::Rounds(_), .. }));
        let family = self.family(step);
        family.line.remove(&index);
        match (index as usize) < family.scopes.len() {
            true => drop(family.again.insert((at, index))),
            false if is_round => family.next_round = Some(at),
            false => (),
        }
        self.look_again(step);
    }

    /// A step opens a scope: the next one, or one that failed and is tried again.
    pub(super) fn scope_opened(&mut self, step: StepId, index: u32, at: Timestamp) -> Option<()> {
        let plan = self.plan.clone();
        let opens = self.places.step(&plan, step)?.opens()?;
        let life = self.steps.get(step.index())?;
        let family = life.family.as_deref().filter(|_| matches!(life.state, State::Open))?;
        let is_next = match opens.pool {
            Some(_) => self.waits_in_line(family, index),
            None => self.openings(opens, family, at).any(|may| may == index),
        };
        (is_next && self.may_start(step) && !self.is_held(step)).then_some(())?;
        let locals = match &opens.scopes {
            ScopeCount::One => None,
            ScopeCount::Each(_) => Some(Locals {
                item: Some(family.items[index as usize].clone()),
                index: index.into(),
                previous: Arc::default(),
            }),
            ScopeCount::Rounds(_) => {
                let previous = Arc::new(self.last_answer(family, index).map_or(Value::Null, |answer| answer.value()));
                Some(Locals { item: None, index: index.into(), previous })
            }
        };
        let body = plan.body(opens.body)?;
        let parent = self.places.scope(step);
        let depth = self.scopes[parent.index()].depth + 1;
        self.settle(step);
        let scope = self.places.open(&plan, step, opens.body, index);
        self.steps.extend(std::iter::repeat_n(StepLife::WAITING, plan.steps_of(opens.body).len()));
        let mut opened = ScopeLife::new(plan.kinds_of(opens.body), Stage::Steps, at, depth);
        opened.locals = locals.map(Box::new);
        opened.holder = parent;
        self.scopes.push(opened);
        if body.workflow.is_some() {
            match self.inputs_of(step, scope, opens) {
                Ok(inputs) => self.scopes[scope.index()].inputs = Some(inputs),
                Err(failure) => self.scopes[scope.index()].refused = Some(failure),
            }
        }
        self.scopes[parent.index()].children.insert(scope);
        let family = self.family(step);
        family.open += 1;
        family.line.remove(&index);
        family.begins(index);
        match family.scopes.get_mut(index as usize) {
            Some(failed) => *failed = scope,
            None => family.scopes.push(scope),
        }
        if opens.detached {
            family.verdict = Some(Ok(()));
        }
        self.has_deadline(scope, at);
        if self.scopes[scope.index()].refused.is_some() {
            self.scopes[scope.index()].any_failed[0] = true;
            self.cut(scope, &Cut::Ended { by: step });
        }
        self.begin(scope, at);
        self.look_again(step);
        Some(())
    }

    /// The inputs of a sub-workflow: an object.
    fn inputs_of(&self, step: StepId, scope: ScopeId, opens: &Opens) -> Result<Given, Box<Failure>> {
        let body = self.plan.body(opens.body).and_then(|body| body.workflow.as_deref());
        let workflow = body.expect("a scope with inputs is one of a sub-workflow");
        let seen = Seen::opening(self, step, scope);
        self.inputs_seen(&seen, opens, workflow).map(Given::new)
    }

    /// The steps of a scope that need nothing may start.
    pub(super) fn begin(&mut self, scope: ScopeId, at: Timestamp) {
        let plan = self.plan.clone();
        for step in self.places.steps_of(&plan, scope) {
            let planned = plan.step(self.places.no(step));
            // Somebody may have asked for its end while the run waited for its group.
            let is_wanted = self.steps[step.index()].unwanted.is_none();
            if planned.needs.is_empty() && planned.kind() == StepKind::Ordinary && is_wanted {
                self.make_due(step, State::Ready);
            }
        }
        self.advance(scope, at);
    }

    /// A scope is over.
    pub(super) fn close(&mut self, scope: ScopeId, at: Timestamp) {
        let place = *self.places.place(scope);
        let outcome = self.scopes[scope.index()].outcome();
        let Some(opener) = place.opener else {
            self.scopes[scope.index()].stage = Stage::Over(outcome);
            return;
        };
        let body = self.plan.body(place.body).expect("the body of a scope with an opener");
        let (answer, faults) = match body.answer.is_step() {
            true => match &self.steps[place.first.index()].state {
                State::Succeeded(output) => (output.text.clone(), Vec::new()),
                _ => (Json::null(), Vec::new()),
            },
            false => self.outputs_of(scope),
        };
        let outcome = match faults.is_empty() {
            false if outcome == Outcome::Succeeded => Outcome::Failed,
            _ => outcome,
        };
        let life = &mut self.scopes[scope.index()];
        (life.stage, life.output) = (Stage::Over(outcome), Some(answer));
        let ended = match outcome {
            Outcome::Succeeded => Ok(()),
            Outcome::Cancelled => Err(None),
            Outcome::Failed | Outcome::TimedOut => Err(Some(self.failure_of(scope, outcome, &faults))),
        };
        let holder = self.scopes[scope.index()].holder;
        self.scopes[holder.index()].children.remove(&scope);
        if !self.holds.is_empty() {
            self.forget_holds_around(scope);
        }
        if self.is_detached(scope) && matches!(ended, Err(Some(_))) {
            // Its step is over, but it is a part of what is around it.
            let kind = self.kind(self.step_of(holder, scope));
            let failed = self.scopes[scope.index()].first_failed;
            let around = &mut self.scopes[holder.index()];
            around.any_failed[kind as usize] = true;
            around.first_failed = around.first_failed.or(failed.filter(|_| kind == StepKind::Ordinary));
        }
        if self.step(opener).pool().is_some() {
            self.freed.push(Claim::Scope(opener, place.index));
        }
        self.scope_closed(opener, place.index, ended, at);
        self.advance(holder, at);
    }

    /// A round whose steps have succeeded does not wait for what it detached: what is around its `repeat` does, and the next
    /// round may begin.
    pub(super) fn leave_behind(&mut self, scope: ScopeId) {
        let Some(opener) = self.places.place(scope).opener else { return };
        let is_round = matches!(self.step(opener).opens(), Some(Opens { scopes: ScopeCount::Rounds(_), .. }));
        let life = &self.scopes[scope.index()];
        let is_well = life.stage == Stage::Steps && life.open[0] == 0 && life.outcome() == Outcome::Succeeded;
        if !is_round || !is_well || !life.children.iter().all(|child| self.is_detached(*child)) {
            return;
        }
        let left = std::mem::take(&mut self.scopes[scope.index()].children);
        let holder = self.places.scope(opener);
        for child in &left {
            self.scopes[child.index()].holder = holder;
        }
        self.scopes[holder.index()].children.extend(left);
    }

    /// Whether the step that opened a scope is over without it.
    fn is_detached(&self, scope: ScopeId) -> bool {
        let opener = self.places.place(scope).opener;
        opener.and_then(|step| self.step(step).opens()).is_some_and(|opens| opens.detached)
    }

    /// The step of a scope within which another one is.
    fn step_of(&self, around: ScopeId, mut scope: ScopeId) -> StepId {
        loop {
            let opener = self.places.place(scope).opener.expect("a scope within another has an opener");
            scope = self.places.scope(opener);
            if scope == around {
                return opener;
            }
        }
    }

    /// Why a scope failed.
    fn failure_of(&self, scope: ScopeId, outcome: Outcome, faults: &[String]) -> Failure {
        let place = self.places.place(scope);
        let is_step = self.plan.body(place.body).is_some_and(|body| body.answer.is_step());
        if let Some(failure) = &self.scopes[scope.index()].refused {
            return (**failure).clone();
        }
        let first = self.scopes[scope.index()].first_failed;
        let first = first.and_then(|step| match &self.steps[step.index()].state {
            State::Failed(failure) => Some((step, failure)),
            _ => None,
        });
        match first {
            Some((_, failure)) if is_step => (**failure).clone(),
            Some((step, failed)) => {
                failure(FailureKind::Scope, format!("`{}` failed: {}", self.path(step), failed.message))
            }
            None if outcome == Outcome::TimedOut => {
                failure(FailureKind::TimedOut, "its steps took longer than its timeout".to_owned())
            }
            None if !faults.is_empty() => failure(FailureKind::Rule, faults.join("; ")),
            None => failure(FailureKind::Scope, "one of its always-steps failed".to_owned()),
        }
    }

    /// A scope that a step opened is over: with success, with a failure, or ended by somebody.
    fn scope_closed(&mut self, step: StepId, index: u32, ended: Result<(), Option<Failure>>, at: Timestamp) {
        let plan = self.plan.clone();
        let planned = plan.step(self.places.no(step));
        let opens = planned.opens().expect("a step with scopes opens them");
        self.family(step).open -= 1;
        if self.end_of(step).is_some() {
            return;
        }
        self.settle(step);
        let is_let = self.may_start(step);
        let seed = self.seed;
        let family = self.family(step);
        if let (Err(Some(_)), None, true) = (&ended, &family.verdict, is_let) {
            let failures = family.failures.entry(index).or_default();
            *failures += 1;
            let failures = *failures;
            if failures < planned.retry.attempts {
                family.again.insert((at.plus_ms(delay_ms(&planned.retry, failures, seed, step)), index));
                return self.look_again(step);
            }
        }
        let failed = match &ended {
            Ok(()) => None,
            Err(found) => {
                Some(found.clone().unwrap_or_else(|| failure(FailureKind::Scope, "it was cancelled".to_owned())))
            }
        };
        match &opens.scopes {
            _ if family.verdict.is_some() => (),
            ScopeCount::One => family.verdict = Some(failed.map_or(Ok(()), Err)),
            ScopeCount::Rounds(rounds) => match failed {
                Some(failure) => family.verdict = Some(Err(failure)),
                None => {
                    let mut family = self.life(step).family.take().expect("it has one");
                    self.next_round(step, rounds, &mut family, at);
                    self.life(step).family = Some(family);
                }
            },
            ScopeCount::Each(_) => {
                let scope = family.scopes[index as usize];
                let answer = self.answer_of(scope).cloned();
                self.item_ended(step, index, failed.map_or(Ok(answer), Err));
            }
        }
        self.look_again(step);
    }

    /// Decides whether there is another round.
    fn next_round(&self, step: StepId, rounds: &Rounds, family: &mut Family, at: Timestamp) {
        let done = family.scopes.len() as u32;
        let previous = self.last_answer(family, done).map_or(Value::Null, |answer| answer.value());
        let seen = Seen::between_rounds(self, step, done, &previous);
        let until = rounds.until.as_ref().filter(|_| done > 0).map(|rule| rule.holds(&seen));
        let while_holds = rounds.while_holds.as_ref().map(|rule| rule.holds(&seen));
        let has_rule = rounds.until.is_some() || rounds.while_holds.is_some();
        family.verdict = match (until, while_holds) {
            (Some(Err(error)), _) => Some(Err(rule_failure("until", &error))),
            (_, Some(Err(error))) => Some(Err(rule_failure("while", &error))),
            (Some(Ok(true)), _) | (_, Some(Ok(false))) => Some(Ok(())),
            _ if done < rounds.max => None,
            _ if has_rule => {
                let message = format!("after {done} rounds, its rule still asks for another");
                Some(Err(failure(FailureKind::Limit { limit: "rounds".to_owned() }, message)))
            }
            _ => Some(Ok(())),
        };
        let delay = if done == 0 { 0 } else { rounds.delay_ms };
        family.next_round = family.verdict.is_none().then(|| at.plus_ms(delay));
    }

    /// What the round before this one answered.
    fn last_answer(&self, family: &Family, index: u32) -> Option<Json> {
        let last = family.scopes.get(index.checked_sub(1)? as usize)?;
        self.answer_of(*last).cloned()
    }

    /// What a scope answered, if it is over and succeeded.
    pub(super) fn answer_of(&self, scope: ScopeId) -> Option<&Json> {
        let life = &self.scopes[scope.index()];
        life.output.as_ref().filter(|_| life.stage == Stage::Over(Outcome::Succeeded))
    }

    /// What a step answers whose scopes have a verdict: the scope's answer, the items' in their order (`null` for one that
    /// has none), the last round's.
    pub(super) fn family_answer(&self, family: &Family, opens: &Opens) -> Json {
        match &opens.scopes {
            ScopeCount::One | ScopeCount::Rounds(_) => {
                family.scopes.last().and_then(|scope| self.answer_of(*scope)).cloned().unwrap_or_else(Json::null)
            }
            ScopeCount::Each(_) => {
                let mut text = String::from("[");
                for index in 0..family.items.len() {
                    text.push_str(if index > 0 { "," } else { "" });
                    let scope = family.scopes.get(index);
                    text.push_str(scope.and_then(|scope| self.answer_of(*scope)).map_or("null", Json::as_str));
                }
                text.push(']');
                Json::parse(text).unwrap_or_else(|_| Json::null())
            }
        }
    }

    /// Ends what a step has opened.
    pub(super) fn cut_family(&mut self, step: StepId, cut: &Cut) {
        self.cut_open_scopes(step, cut);
        self.look_again(step);
    }

    pub(super) fn cut_open_scopes(&mut self, step: StepId, cut: &Cut) {
        for scope in self.family(step).scopes.clone() {
            self.cut(scope, cut);
        }
    }

    /// Keeps it known whether something is to be decided about a step with scopes, now or later.
    pub(super) fn look_again(&mut self, step: StepId) {
        let plan = self.plan.clone();
        let life = &self.steps[step.index()];
        if !matches!(life.state, State::Open) {
            return;
        }
        let opens = plan.step(self.places.no(step)).opens().expect("a step with scopes opens them");
        let family = life.family.as_deref().expect("it has one");
        let is_cut = !self.may_start(step);
        let ends = family.verdict.is_some() && self.may_end(step, family);
        if !is_cut && !ends && self.is_held(step) {
            self.due.remove(&step);
            self.held.insert(step);
            return;
        }
        // Whatever is due is due at once; what is due later is found by its time.
        let is_due = match is_cut {
            true => family.open == 0,
            false => ends || self.openings(opens, family, Timestamp(0)).next().is_some(),
        };
        let later = match is_cut || ends {
            true => None,
            false => family.looks_at(),
        };
        match is_due {
            true => drop(self.due.insert(step)),
            false => drop(self.due.remove(&step)),
        }
        self.delayed.extend(later.into_iter().map(|at| (at, step)));
    }

    pub(super) fn family(&mut self, step: StepId) -> &mut Family {
        self.life(step).family.as_deref_mut().expect("a step that opens scopes has a family")
    }
}
