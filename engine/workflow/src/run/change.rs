//! How a fact changes a run. Only [`Run::apply`] gets here.

use super::life::{Cut, Given, Parked, Stage, State, StepLife};
use super::{Claim, RETRY_AFTER_MAX_MS, Run, SIGNALS_KEPT_MAX};
use crate::event::{Event, Failure, FailureKind, NeedState, Outcome, Record, SkipReason, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{Rest, Retry, StepId, StepKind, StepNo, Verdict, Wait, Work};
use crate::scope::ScopeId;

impl Run {
    pub(super) fn take_in(&mut self, record: &Record) -> Option<()> {
        let at = record.at;
        match &record.event {
            Event::RunCreated { inputs, seed, priority, group, .. } => {
                (self.root().stage == Stage::Blank).then_some(())?;
                self.inputs = Given::new(inputs.clone());
                (self.seed, self.priority) = (*seed, *priority);
                match group {
                    Some(group) => {
                        self.group = Some(group.as_str().into());
                        self.scopes[0].stage = Stage::InLine;
                    }
                    None => self.opens(at),
                }
            }
            Event::RunAdmitted => {
                self.is_in_line().then_some(())?;
                self.opens(at);
            }
            Event::AttemptQueued { step, attempt, pool } => {
                self.startable(*step, *attempt)?;
                (self.step(*step).pool() == Some(*pool)).then_some(())?;
                self.settle(*step);
                self.life(*step).state = State::Queued(*pool);
            }
            Event::WaitQueued { step, pool } => {
                let life = self.steps.get(step.index())?;
                (matches!(life.state, State::Ready) && self.may_start(*step)).then_some(())?;
                matches!(&self.step_in(*step)?.work, Work::Wait(wait) if wait.pool == Some(*pool)).then_some(())?;
                self.settle(*step);
                self.life(*step).state = State::Queued(*pool);
            }
            Event::ScopeQueued { step, index, pool } => self.scope_queued(*step, *index, *pool, at)?,
            Event::CacheAsked { step } => {
                let life = self.steps.get(step.index())?;
                self.startable(*step, life.attempts + 1)?;
                let is_due = matches!(life.state, State::Ready | State::Delayed(_));
                (is_due && self.step(*step).uses()?.cache).then_some(())?;
                self.settle(*step);
                self.life(*step).state = State::Asking;
            }
            Event::CacheHit { step, output, .. } => {
                (step.index() < self.steps.len() && self.is_asking(*step)).then_some(())?;
                self.end(*step, State::Succeeded(Given::new(output.clone())), at);
            }
            Event::AttemptStarted { step, attempt } => {
                self.startable(*step, *attempt)?;
                self.settle(*step);
                let life = self.life(*step);
                life.state = State::Running;
                life.attempts = *attempt;
                self.goes_out(*step);
                if *attempt == 1 && self.plan.has_starts() {
                    self.has_begun(*step);
                }
            }
            Event::CapabilityUsed { step, attempt, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
            }
            Event::ItemsAppended { step, from, items } => self.items_appended(*step, *from, items)?,
            Event::AttemptSucceeded { step, attempt, output, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.end(*step, State::Succeeded(Given::new(output.clone())), at);
            }
            Event::AttemptFailed { step, attempt, failure, .. } => {
                self.in_flight_attempt(*step, *attempt)?.failures += 1;
                // Counted from when the failure happened, not from when somebody noticed: a restart neither shortens
                // nor restarts the wait.
                self.unwanted.remove(step);
                match (self.retry_delay_ms(*step, failure), self.steps[step.index()].unwanted.as_deref().cloned()) {
                    (Some(_), Some(reason)) => {
                        self.comes_back(*step);
                        self.make_due(*step, State::Doomed(reason));
                    }
                    (Some(delay), None) => {
                        self.comes_back(*step);
                        self.delay(*step, at.plus_ms(delay));
                    }
                    (None, _) => self.end(*step, State::Failed(Box::new(failure.clone())), at),
                }
            }
            Event::AttemptInterrupted { step, attempt, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.unwanted.remove(step);
                // What nobody wants any more does not start again.
                let unwanted = self.steps[step.index()].unwanted.as_deref().cloned();
                self.comes_back(*step);
                self.make_due(*step, unwanted.map_or(State::Ready, State::Doomed));
            }
            Event::AttemptCancelled { step, attempt, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.end(*step, State::Cancelled, at);
            }
            Event::StepOpened { step } => {
                self.step_opened(*step, at)?;
                if self.plan.has_starts() {
                    self.has_begun(*step);
                }
            }
            Event::ScopeOpened { step, index } => self.scope_opened(*step, *index, at)?,
            Event::ScopeTimedOut { step, index } => {
                let family = self.steps.get(step.index())?.family.as_deref()?;
                let scope = *family.scopes.get(*index as usize)?;
                self.is_cuttable(scope).then_some(())?;
                self.cut(scope, &Cut::TimedOut);
            }
            Event::StepSucceeded { step, output } => self.step_succeeded(*step, output.as_ref(), at)?,
            Event::StepReused { step, output, items, .. } => {
                let life = self.steps.get(step.index())?;
                (matches!(life.state, State::Ready) && life.attempts == 0 && self.may_start(*step)).then_some(())?;
                self.items_reused(*step, items)?;
                self.end(*step, State::Succeeded(Given::new(output.clone())), at);
            }
            Event::StepFailed { step, failure } => {
                self.endable(*step)?;
                self.end(*step, State::Failed(Box::new(failure.clone())), at);
            }
            Event::StepSkipped { step, reason } => {
                (self.endable(*step)?.attempts == 0).then_some(())?;
                self.end(*step, State::Skipped(reason.clone()), at);
            }
            Event::StepCancelled { step } => {
                self.endable(*step)?;
                self.end(*step, State::Cancelled, at);
            }
            Event::SignalReceived { signal, data } => {
                self.is_open().then_some(())?;
                let id = self.plan.signals.iter().position(|known| known.name == *signal)?;
                self.signal(crate::plan::SignalId(id as u32), data);
            }
            Event::ApprovalGiven { step, approved, by, note, .. } => {
                let waits = matches!(&self.step_in(*step)?.work, Work::Wait(wait) if wait.approval.is_some());
                waits.then_some(())?;
                let answer = approval(*approved, by, note);
                self.answer(*step, answer)?;
            }
            Event::Paused { step, .. } => self.pause(*step, at)?,
            Event::Unpaused { step } => self.unpause(*step)?,
            Event::StepCancelRequested { step, reason } => {
                let life = self.steps.get(step.index())?;
                (self.is_open() && life.ended().is_none()).then_some(())?;
                self.unwant(*step, &SkipReason::Asked { reason: reason.clone() });
                self.somebody_ends(*step);
            }
            Event::CancelRequested { .. } => {
                self.is_open().then_some(())?;
                // When all is over but the last record, it is too late to change anything.
                if !matches!(self.root().stage, Stage::Over(_)) {
                    let is_cut = self.root().cut.is_some();
                    self.scopes[0].asked = true;
                    if self.is_in_line() {
                        // Nothing has begun, and nothing may: another run has the group.
                        self.give_up(ScopeId::ROOT);
                        self.opens(at);
                    }
                    // The second time, or when there is nothing else left to be cancelled.
                    if is_cut || self.root().stage == Stage::Always {
                        self.give_up(ScopeId::ROOT);
                    }
                    self.cut(ScopeId::ROOT, &Cut::Cancelled);
                }
            }
            Event::RunTimedOut => {
                self.is_cuttable(ScopeId::ROOT).then_some(())?;
                self.cut(ScopeId::ROOT, &Cut::TimedOut);
            }
            Event::RunFinished { outcome, .. } => {
                matches!(self.root().stage, Stage::Over(_)).then_some(())?;
                self.scopes[0].stage = Stage::Finished(*outcome);
                self.holds.clear();
                self.freed.extend(self.group.is_some().then_some(Claim::Run));
            }
        }
        Some(())
    }

    /// The workflow's own steps may begin.
    fn opens(&mut self, at: Timestamp) {
        let root = &mut self.scopes[0];
        (root.stage, root.opened) = (Stage::Steps, at);
        self.has_deadline(ScopeId::ROOT, at);
        self.begin(ScopeId::ROOT, at);
    }

    /// Whether the run has begun and is not over.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.root().stage, Stage::Blank | Stage::Finished(_))
    }

    /// Whether the scope is there to be ended early, and is not yet.
    fn is_cuttable(&self, scope: ScopeId) -> bool {
        let life = &self.scopes[scope.index()];
        life.stage == Stage::Steps && life.cut.is_none()
    }

    pub(super) fn life(&mut self, step: StepId) -> &mut StepLife {
        &mut self.steps[step.index()]
    }

    fn step_in(&self, step: StepId) -> Option<&crate::plan::Step> {
        self.places.step(&self.plan, step)
    }

    /// Refuses unless this attempt of the step may be queued or started now.
    fn startable(&self, step: StepId, attempt: u32) -> Option<()> {
        let life = self.steps.get(step.index())?;
        let startable = matches!(life.state, State::Ready | State::Asking | State::Queued(_) | State::Delayed(_))
            && !self.is_held(step);
        let uses = self.step(step).uses().is_some();
        (startable && uses && attempt == life.attempts + 1 && self.may_start(step)).then_some(())
    }

    /// The step, if this attempt of it is in flight.
    fn in_flight_attempt(&mut self, step: StepId, attempt: u32) -> Option<&mut StepLife> {
        let life = self.steps.get_mut(step.index())?;
        (matches!(life.state, State::Running) && attempt == life.attempts).then_some(life)
    }

    /// The step, if it is not over, and nothing has to come home for it.
    fn endable(&mut self, step: StepId) -> Option<&mut StepLife> {
        let life = self.steps.get_mut(step.index())?;
        let is_out = match life.state {
            State::Open => life.family.as_ref().is_some_and(|family| family.open > 0),
            State::Running => true,
            _ => false,
        };
        (life.ended().is_none() && !is_out).then_some(life)
    }

    /// Something is to be decided about the step, once it may be.
    pub(super) fn make_due(&mut self, step: StepId, state: State) {
        let waits = matches!(state, State::Ready) && self.is_held(step);
        self.life(step).state = state;
        match waits {
            true => self.held.insert(step),
            false => self.due.insert(step),
        };
    }

    /// The same, not before this time.
    pub(super) fn delay(&mut self, step: StepId, until: Timestamp) {
        self.life(step).state = State::Delayed(until);
        match self.is_held(step) {
            true => self.held.insert(step),
            false => self.delayed.insert((until, step)),
        };
    }

    /// Nothing is to be decided about the step for now. To be called before its state changes.
    pub(super) fn settle(&mut self, step: StepId) {
        self.due.remove(&step);
        if !self.held.is_empty() {
            self.held.remove(&step);
        }
        let life = &self.steps[step.index()];
        match &life.state {
            State::Delayed(until) => drop(self.delayed.remove(&(*until, step))),
            State::Parked(parked) => {
                if let Some(at) = parked.looks_at() {
                    self.delayed.remove(&(at, step));
                }
                let Work::Wait(wait) = &self.plan.step(self.places.no(step)).work else { return };
                if wait.pool.is_some() {
                    self.freed.push(Claim::Wait(step));
                }
                if let Some(signal) = wait.signal {
                    self.listening.remove(&(signal, step));
                }
            }
            State::Open => {
                let Some(family) = &life.family else { return };
                for at in family.again.iter().map(|(at, _)| *at).chain(family.next_round) {
                    self.delayed.remove(&(at, step));
                }
            }
            _ => (),
        }
    }

    /// Something is on its way that has to come home: an attempt, or scopes.
    pub(super) fn goes_out(&mut self, step: StepId) {
        self.count_idle(step, |idle| *idle -= 1);
    }

    fn comes_back(&mut self, step: StepId) {
        self.count_idle(step, |idle| *idle += 1);
    }

    fn count_idle(&mut self, step: StepId, count: impl FnOnce(&mut u32)) {
        let kind = self.kind(step);
        let scope = self.places.scope(step);
        if kind != StepKind::Undo {
            count(&mut self.scopes[scope.index()].idle[kind as usize]);
            self.stir(scope);
        }
    }

    /// Keeps it known whether a scope that is ended early still has steps to be wound down.
    pub(super) fn stir(&mut self, scope: ScopeId) {
        let life = &self.scopes[scope.index()];
        if life.cut.is_none() {
            return;
        }
        let winds = life.idle[0] > 0 || (life.giving_up && life.idle[1] > 0);
        match winds {
            true => drop(self.winding.insert(scope)),
            false => drop(self.winding.remove(&scope)),
        }
    }

    pub(super) fn end(&mut self, step: StepId, state: State, at: Timestamp) {
        let plan = self.plan.clone();
        let (scope, no) = self.places.find(step).expect("a step of the run");
        let was_out = self.steps[step.index()].is_out();
        self.settle(step);
        self.unwanted.remove(&step);
        self.ended += 1;
        let ended = self.ended;
        let life = self.life(step);
        (life.state, life.end) = (state, ended);
        let end = life.ended().expect("a step that ends is in the state of an end");
        if !self.holds.is_empty() {
            self.forget_hold(step);
        }
        let kind = plan.step(no).kind();
        if kind == StepKind::Undo {
            return self.undone(step, at);
        }
        let whole = &mut self.scopes[scope.index()];
        whole.open[kind as usize] -= 1;
        whole.idle[kind as usize] -= u32::from(!was_out);
        whole.any_failed[kind as usize] |= end == StepEnd::Failed;
        if end == StepEnd::Failed && kind == StepKind::Ordinary {
            whole.first_failed.get_or_insert(step);
        }
        if !self.lists.is_empty() {
            self.list_ends(step);
        }
        let has_begun = self.steps[step.index()].attempts > 0;
        for (dependent, wanted) in plan.dependents(no) {
            if has_begun && *wanted == NeedState::Started {
                continue;
            }
            let id = self.places.life(&plan, scope, *dependent);
            let State::Waiting { met, unmet } = &mut self.steps[id.index()].state else { continue };
            match wanted.is_met_by(end) {
                true => *met += 1,
                false => *unmet += 1,
            }
            // An always-step is judged when the last ordinary step has ended.
            if !plan.step(*dependent).always || kind == StepKind::Always {
                self.judge(scope, *dependent);
            }
        }
        let is_end = match plan.step(no).work {
            Work::Finish => end == StepEnd::Succeeded,
            Work::Fail(_) => end == StepEnd::Failed,
            _ => false,
        };
        if end == StepEnd::Succeeded {
            for target in &plan.step(no).cancels {
                self.withdraw(self.places.life(&plan, scope, *target), step);
            }
        }
        if is_end && self.is_cuttable(scope) {
            self.cut(scope, &Cut::Ended { by: step });
        }
        self.stir(scope);
        if self.scopes[scope.index()].open[kind as usize] == 0 {
            self.advance(scope, at);
        }
    }

    /// A step has begun, for the first time in its scope.
    fn has_begun(&mut self, step: StepId) {
        let plan = self.plan.clone();
        let (scope, no) = self.places.find(step).expect("a step of the run");
        let kind = plan.step(no).kind();
        for (dependent, _) in plan.dependents(no).iter().filter(|(_, wanted)| *wanted == NeedState::Started) {
            let id = self.places.life(&plan, scope, *dependent);
            let State::Waiting { met, .. } = &mut self.steps[id.index()].state else { continue };
            *met += 1;
            if !plan.step(*dependent).always || kind == StepKind::Always {
                self.judge(scope, *dependent);
            }
        }
    }

    /// Lets always-steps start whose joins are decided: no ordinary step is left.
    pub(super) fn judge_always_steps(&mut self, scope: ScopeId) {
        let plan = self.plan.clone();
        for at in plan.steps_of(self.places.place(scope).body).map(StepNo) {
            if plan.step(at).kind() == StepKind::Always {
                self.judge(scope, at);
            }
        }
    }

    /// Lets a step that waits start, or not any more, as soon as its join is decided.
    pub(super) fn judge(&mut self, scope: ScopeId, no: StepNo) {
        let step = self.places.life(&self.plan, scope, no);
        let State::Waiting { met, unmet } = self.steps[step.index()].state else { return };
        let plan = self.plan.clone();
        let joined = plan.step(no);
        let of = joined.needs.len() as u32;
        match joined.join.judge(of, met, unmet) {
            Verdict::Open => return,
            Verdict::Start => {
                self.life(step).seen = self.ended;
                self.make_due(step, State::Ready);
            }
            Verdict::Never => {
                let least = joined.join.least(of);
                // Where all are needed, one is the reason.
                let reason = joined.needs.iter().find_map(|need| {
                    let needed = self.places.life(&plan, scope, need.step);
                    let was = self.end_of(needed).filter(|end| !need.state.is_met_by(*end) && least == of)?;
                    Some(SkipReason::NeedNotMet { need: needed, wanted: need.state, was })
                });
                let too_few = SkipReason::TooFewNeedsMet { possible: of - unmet, least, of };
                self.make_due(step, State::Doomed(reason.unwrap_or(too_few)));
            }
        }
        // What its scope ends is ended by that, whatever becomes of its joins meanwhile.
        if joined.rest == Rest::Cancel && self.is_let(step) {
            self.release(scope, no);
        }
    }

    /// Has what serves only this join ended. A step belongs to the region of one join, and a join is decided once, so
    /// that all regions together are looked at once.
    fn release(&mut self, scope: ScopeId, join: StepNo) {
        let plan = self.plan.clone();
        let mut joins = vec![join];
        while let Some(join) = joins.pop() {
            let by = self.places.life(&plan, scope, join);
            for no in plan.region(join) {
                let step = self.places.life(&plan, scope, *no);
                let life = &self.steps[step.index()];
                // Over, or about to be skipped for a reason of its own.
                if life.ended().is_some() || matches!(life.state, State::Doomed(_)) {
                    continue;
                }
                // A join that was decided has let go of its own region then.
                let is_undecided = matches!(life.state, State::Waiting { .. });
                joins.extend((is_undecided && plan.step(*no).rest == Rest::Cancel).then_some(*no));
                self.unwant(step, &SkipReason::NotNeeded { by });
            }
        }
    }

    /// Has a step ended that another one cancels, unless it is over or about to be.
    fn withdraw(&mut self, step: StepId, by: StepId) {
        let life = &self.steps[step.index()];
        if life.ended().is_none() && !matches!(life.state, State::Doomed(_)) {
            let reason = self.withdraws(by);
            self.unwant(step, &SkipReason::Asked { reason });
        }
    }

    /// Has a step ended that is not over.
    pub(super) fn unwant(&mut self, step: StepId, reason: &SkipReason) {
        self.lift(step);
        self.life(step).unwanted = Some(Box::new(reason.clone()));
        match self.steps[step.index()].state {
            State::Running => drop(self.unwanted.insert(step)),
            State::Open => self.cut_family(step, &Cut::Unwanted(reason.clone())),
            _ => {
                self.settle(step);
                self.make_due(step, State::Doomed(reason.clone()));
            }
        }
    }

    /// Ends a scope before its steps are: nothing is started in it any more but what undoes, and always-steps.
    pub(super) fn cut(&mut self, scope: ScopeId, cut: &Cut) {
        let life = &mut self.scopes[scope.index()];
        if matches!(life.stage, Stage::Blank | Stage::Over(_) | Stage::Finished(_)) {
            return;
        }
        life.cut.get_or_insert_with(|| cut.clone());
        let giving_up = life.giving_up;
        self.lift_within(scope);
        self.no_deadline(scope);
        let inner = match cut {
            Cut::Unwanted(reason) => Cut::Unwanted(reason.clone()),
            _ => Cut::Cancelled,
        };
        let plan = self.plan.clone();
        for step in self.places.steps_of(&plan, scope) {
            let is_meant = match self.kind(step) {
                StepKind::Ordinary => true,
                StepKind::Always => giving_up,
                StepKind::Undo => false,
            };
            match self.steps[step.index()].state {
                State::Running if is_meant => drop(self.unwanted.insert(step)),
                State::Open if is_meant => self.cut_family(step, &inner),
                _ => (),
            }
        }
        // Those that their openers do not wait for.
        for child in self.scopes[scope.index()].children.clone() {
            let opener = self.places.place(child).opener.expect("a child has an opener");
            if self.end_of(opener).is_some() {
                self.cut(child, &inner);
            }
        }
        self.stir(scope);
    }

    /// Ends everything in a scope, always-steps and what undoes included.
    fn give_up(&mut self, scope: ScopeId) {
        self.scopes[scope.index()].giving_up = true;
        self.scopes[scope.index()].to_undo.clear();
        if let Some(step) = self.scopes[scope.index()].undoing {
            let reason = SkipReason::RunCancelled;
            self.unwant(step, &reason);
        }
        for child in self.scopes[scope.index()].children.clone() {
            self.give_up(child);
            self.cut(child, &Cut::Cancelled);
        }
    }

    /// A scope that opens has so much time.
    pub(super) fn has_deadline(&mut self, scope: ScopeId, at: Timestamp) {
        match self.timeout_ms(scope) {
            Some(_) if self.scope_is_held(scope) => drop(self.standing.insert(scope, at)),
            Some(ms) => drop(self.deadlines.insert((at.plus_ms(ms), scope))),
            None => (),
        }
    }

    pub(super) fn no_deadline(&mut self, scope: ScopeId) {
        if let Some(ms) = self.timeout_ms(scope) {
            let opened = self.scopes[scope.index()].opened;
            self.deadlines.remove(&(opened.plus_ms(ms), scope));
            self.standing.remove(&scope);
        }
    }

    /// How long a scope may take.
    pub(super) fn timeout_ms(&self, scope: ScopeId) -> Option<u64> {
        let place = self.places.place(scope);
        let Some(opener) = place.opener else { return self.plan.timeout_ms };
        let own = self.plan.body(place.body).and_then(|body| body.workflow.as_ref()?.timeout_ms);
        let is_attempt = self.plan.body(place.body).is_some_and(|body| body.answer.is_step());
        let given = self.step(opener).timeout_ms.filter(|_| !is_attempt);
        [own, given].into_iter().flatten().min()
    }

    fn step_opened(&mut self, step: StepId, at: Timestamp) -> Option<()> {
        let life = self.steps.get(step.index())?;
        // What has a pool gets there by its line.
        let is_next = match self.step_in(step)?.work {
            Work::Wait(Wait { pool: Some(_), .. }) => matches!(life.state, State::Queued(_)),
            _ => matches!(life.state, State::Ready),
        };
        (is_next && life.attempts == 0 && self.may_start(step) && !self.is_held(step)).then_some(())?;
        let plan = self.plan.clone();
        let planned = self.step_in(step)?.clone();
        match &planned.work {
            Work::Open(opens) => self.family_begins(step, opens, at)?,
            Work::Wait(wait) => self.park(step, wait, planned.timeout_ms, at)?,
            Work::Use(_) | Work::Finish | Work::Fail(_) => return None,
        }
        drop(plan);
        Some(())
    }

    fn park(&mut self, step: StepId, wait: &Wait, timeout_ms: Option<u64>, at: Timestamp) -> Option<()> {
        let until = self.wait_until(step, wait).ok()?;
        let over_at = [wait.for_ms.map(|ms| at.plus_ms(ms)), until].into_iter().flatten().min();
        let parked = Parked { over_at, late_at: timeout_ms.map(|ms| at.plus_ms(ms)), stands: None, answer: None };
        self.settle(step);
        let looks_at = parked.looks_at();
        let life = self.life(step);
        life.attempts = 1;
        life.state = State::Parked(Box::new(parked));
        self.delayed.extend(looks_at.map(|at| (at, step)));
        if let Some(signal) = wait.signal {
            match self.kept.iter().position(|(kept, _)| *kept == signal) {
                Some(first) => {
                    let (_, data) = self.kept.remove(first);
                    self.answer(step, Ok(signalled(&data)))?;
                }
                None => drop(self.listening.insert((signal, step))),
            }
        }
        Some(())
    }

    fn signal(&mut self, signal: crate::plan::SignalId, data: &Json) {
        let waiting = (signal, StepId(0))..=(signal, StepId(u32::MAX));
        let heard: Vec<StepId> = self.listening.range(waiting).map(|(_, step)| *step).collect();
        if heard.is_empty() && self.plan.signals[signal.index()].keep && self.kept.len() < SIGNALS_KEPT_MAX {
            self.kept.push((signal, data.clone()));
        }
        for step in heard {
            self.listening.remove(&(signal, step));
            let _ = self.answer(step, Ok(signalled(data)));
        }
    }

    /// Ends a step's waiting. The first word counts.
    fn answer(&mut self, step: StepId, answer: Result<Json, Failure>) -> Option<()> {
        let State::Parked(parked) = &mut self.steps.get_mut(step.index())?.state else { return None };
        parked.answer.is_none().then_some(())?;
        parked.answer = Some(answer);
        self.due.insert(step);
        Some(())
    }

    fn step_succeeded(&mut self, step: StepId, output: Option<&Json>, at: Timestamp) -> Option<()> {
        let life = self.steps.get(step.index())?;
        let planned = self.step_in(step)?;
        let output = match (&life.state, &planned.work) {
            (State::Open, Work::Open(opens)) => {
                let family = life.family.as_deref()?;
                (family.verdict == Some(Ok(())) && self.may_end(step, family)).then_some(())?;
                self.family_answer(family, opens)
            }
            (State::Parked(_), Work::Wait(_)) => output?.clone(),
            (State::Ready, Work::Finish) => Json::null(),
            _ => return None,
        };
        self.end(step, State::Succeeded(Given::new(output)), at);
        Some(())
    }

    /// How long to wait before the next attempt; `None` to give up.
    fn retry_delay_ms(&self, step: StepId, failure: &Failure) -> Option<u64> {
        let retry = &self.step(step).retry;
        let failures = self.steps[step.index()].failures;
        let again = failure.kind.is_retryable() && failures < retry.attempts && self.is_let(step);
        let asked = failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS);
        again.then(|| delay_ms(retry, failures, self.seed, step).max(asked))
    }

    /// A scope goes on to what comes next, once nothing is left of what it is at.
    pub(super) fn advance(&mut self, scope: ScopeId, at: Timestamp) {
        self.leave_behind(scope);
        loop {
            let life = &mut self.scopes[scope.index()];
            match life.stage {
                Stage::Steps if life.open[0] == 0 && life.children.is_empty() => {
                    life.stage = Stage::Undo;
                    let in_vain = life.outcome() != Outcome::Succeeded;
                    if in_vain && !life.giving_up {
                        life.undone = true;
                        let to_undo = self.to_undo(scope);
                        self.scopes[scope.index()].to_undo = to_undo;
                    }
                    self.no_deadline(scope);
                }
                Stage::Undo if life.undoing.is_none() => match life.to_undo.pop() {
                    Some(step) => {
                        life.undoing = Some(step);
                        self.life(step).seen = u32::MAX;
                        return self.make_due(step, State::Ready);
                    }
                    None => {
                        life.stage = Stage::Always;
                        self.judge_always_steps(scope);
                    }
                },
                Stage::Always if life.open[1] == 0 && life.children.is_empty() => {
                    return self.close(scope, at);
                }
                _ => return,
            }
        }
    }

    /// The steps that undo what the steps of a scope did, and of those within it: what was done last is the last.
    fn to_undo(&self, scope: ScopeId) -> Vec<StepId> {
        let mut found = Vec::new();
        let mut scopes = vec![scope];
        while let Some(scope) = scopes.pop() {
            for step in self.places.steps_of(&self.plan, scope) {
                let life = &self.steps[step.index()];
                let planned = self.step(step);
                match (planned.undo, &life.family) {
                    _ if planned.kind() != StepKind::Ordinary => (),
                    // What it has taken over from another run it has not done.
                    (Some(undo), _) if life.ended() == Some(StepEnd::Succeeded) && life.attempts > 0 => {
                        let undo = self.places.life(&self.plan, scope, undo);
                        let is_open = matches!(self.steps[undo.index()].state, State::Waiting { .. });
                        found.extend(is_open.then_some((life.end, undo)));
                    }
                    (_, Some(family)) => {
                        let is_left = |scope: &&ScopeId| !self.scopes[scope.index()].undone;
                        scopes.extend(family.scopes.iter().filter(is_left));
                    }
                    _ => (),
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, step)| step).collect()
    }

    /// A step that undoes another has come to its end.
    fn undone(&mut self, step: StepId, at: Timestamp) {
        let mut scope = Some(self.places.scope(step));
        while let Some(here) = scope {
            let life = &mut self.scopes[here.index()];
            if life.undoing == Some(step) {
                life.undoing = None;
                return self.advance(here, at);
            }
            scope = self.places.place(here).opener.map(|opener| self.places.scope(opener));
        }
    }
}

impl Parked {
    /// When something is to be decided about it, whatever anybody says.
    pub(super) fn looks_at(&self) -> Option<Timestamp> {
        [self.over_at, self.times_out_at()].into_iter().flatten().min()
    }

    /// When it has taken too long, unless that stands still.
    pub(super) fn times_out_at(&self) -> Option<Timestamp> {
        self.late_at.filter(|_| self.stands.is_none())
    }
}

fn signalled(data: &Json) -> Json {
    Json::from(serde_json::json!({ "by": "signal", "data": data.value() }))
}

fn approval(approved: bool, by: &str, note: &str) -> Result<Json, Failure> {
    let details = serde_json::json!({ "by": "approval", "who": by, "note": note });
    match approved {
        true => Ok(Json::from(details)),
        false => {
            let message = match note {
                "" => format!("{by} rejected it"),
                note => format!("{by} rejected it: {note}"),
            };
            let failure = Failure {
                kind: FailureKind::Rejected,
                message,
                details: Some(Json::from(details)),
                backtrace: None,
                retry_after_ms: None,
            };
            Err(failure)
        }
    }
}

impl Retry {
    /// `delay × factor^(failures-1)`, at most `max-delay`, and whether it would be longer without that bound.
    pub(crate) fn grown_ms(&self, failures: u32) -> (u64, bool) {
        if self.delay_ms == 0 {
            return (0, false);
        }
        let grown = self.delay_ms as f64 * self.factor.powi(failures.saturating_sub(1).min(1 << 16) as i32);
        let most = self.max_delay_ms as f64;
        (grown.min(most) as u64, grown > most)
    }
}

/// The wait after so many failures: `delay × factor^(failures-1)`, at most `max-delay`, and with jitter something between
/// half of that and all of it.
pub(super) fn delay_ms(retry: &Retry, failures: u32, seed: u64, step: StepId) -> u64 {
    if retry.delay_ms == 0 {
        return 0;
    }
    let (delay, _) = retry.grown_ms(failures);
    if !retry.jitter {
        return delay;
    }
    let draw = mix(seed ^ (u64::from(step.0) << 32 | u64::from(failures)));
    delay - delay / 2 + draw % (delay / 2 + 1)
}

/// SplitMix64's output function (G. Steele, D. Lea, C. Flood, OOPSLA 2014): a well mixed number for each number.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
