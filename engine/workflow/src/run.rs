//! The life of one workflow run, as a pure state machine.
//!
//! A run is the fold of its records: [`Run::apply`] is the only place where it changes, and [`Run::next`] says what
//! should happen now. Neither reads a clock, spawns, or touches a file, so that the live driver, crash recovery and every
//! test share this code unchanged. Recovery is replay, plus a record for each attempt that was in flight.
//!
//! The driver's part, which makes execution durable: journal and apply the event of every action that [`Run::next`]
//! returns before asking it again, and carry an action out only once its event is durable.
//!
//! Work per event is proportional to what the event unblocks (times the logarithm of what is due): steps that nothing
//! happened to are never looked at.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::description::Digest;
use crate::event::{Event, Failure, FailureKind, NeedState, Outcome, Record, RunId, SkipReason, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{Plan, PoolId, Rest, Retry, StepId, Verdict};
use crate::rule::{RuleError, Scope, StepView};

/// A guest's `retry-after` counts up to this: one day. A step that must wait longer is better started by another run, and
/// a hostile number must not park a run for centuries.
pub const RETRY_AFTER_MAX_MS: u64 = 24 * 3_600_000;

/// What should happen now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A decision without a consequence in the world: a skip, a failed rule, the end.
    Record(Event),
    /// Execute this attempt.
    Start(Attempt),
    /// Wait for a place in the pool, then ask [`Run::start`].
    Queue {
        /// Whose attempt.
        step: StepId,
        /// Which.
        attempt: u32,
        /// Where.
        pool: PoolId,
    },
    /// Ask again at this time, if nothing happened before.
    WakeAt(Timestamp),
}

/// An attempt to be executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Whose.
    pub step: StepId,
    /// Counts from 1.
    pub attempt: u32,
    /// The step's `with`, its holes filled.
    pub input: Json,
}

impl Action {
    /// The fact that must be durable before the action is carried out.
    pub fn event(&self) -> Option<Event> {
        match self {
            Action::Record(event) => Some(event.clone()),
            Action::Start(Attempt { step, attempt, .. }) => {
                Some(Event::AttemptStarted { step: *step, attempt: *attempt })
            }
            Action::Queue { step, attempt, pool } => {
                Some(Event::AttemptQueued { step: *step, attempt: *attempt, pool: *pool })
            }
            Action::WakeAt(_) => None,
        }
    }
}

/// A record that can't follow those before it: the journal was written by something else, or damaged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("record {position} of run {run} can't follow the ones before it: {event:?}")]
pub struct Misplaced {
    /// Whose journal.
    pub run: RunId,
    /// Counts from 0.
    pub position: u64,
    /// What it says.
    pub event: Box<Event>,
}

/// One run of one plan.
#[derive(Clone, Debug)]
pub struct Run {
    plan: Arc<Plan>,
    id: RunId,
    inputs: Given,
    seed: u64,
    created: Timestamp,
    /// Of its records, the latest time.
    latest: Timestamp,
    phase: Phase,
    /// Records applied.
    version: u64,
    steps: Vec<StepLife>,
    /// Steps that something is to be decided about right now.
    due: BTreeSet<StepId>,
    /// Steps between two attempts, by when the next one is due.
    delayed: BTreeSet<(Timestamp, StepId)>,
    /// Steps that have not come to an end, and those of them that have no attempt in flight: ordinary ones, always-steps.
    open: [u32; 2],
    idle: [u32; 2],
    any_failed: [bool; 2],
    /// Whether always-steps are ended as well.
    giving_up: bool,
    /// Steps that have come to an end.
    ended: u32,
    /// Steps with an attempt in flight that a join does not need any more.
    unneeded: BTreeSet<StepId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before its first record.
    Blank,
    Running,
    /// No ordinary step is started any more, and its attempts in flight come home. The outcome is the one given, unless an
    /// always-step fails.
    Ending(Outcome),
    Finished(Outcome),
}

#[derive(Clone, Debug)]
struct StepLife {
    state: State,
    /// Attempts started.
    attempts: u32,
    /// Attempts failed; interrupted ones don't count.
    failures: u32,
    /// How many steps had come to an end with this one: 0 while it has not, and the order of ends for those that have.
    end: u32,
    /// How many steps had come to an end when it was decided that this one may start.
    seen: u32,
    /// The join that does not need it any more.
    unneeded_by: Option<StepId>,
}

#[derive(Clone, Debug)]
enum State {
    /// For its needs: so many are met, so many can't be any more.
    Waiting {
        met: u32,
        unmet: u32,
    },
    /// Enough needs are met, or the next attempt is due.
    Ready,
    /// Its needs can't be met any more, or a join does not need it any more.
    Doomed(SkipReason),
    Queued(PoolId),
    Running,
    Delayed(Timestamp),
    Succeeded(Given),
    Failed(Box<Failure>),
    Skipped(SkipReason),
    Cancelled,
}

/// JSON that a run was given. Most of it is only handed on; what a rule looks into is parsed when the first one does.
#[derive(Clone, Debug)]
struct Given {
    text: Json,
    parsed: OnceLock<Value>,
}

impl Given {
    fn new(text: Json) -> Given {
        Given { text, parsed: OnceLock::new() }
    }

    fn value(&self) -> &Value {
        self.parsed.get_or_init(|| self.text.value())
    }
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepStatus<'a> {
    /// Its needs are not met yet.
    Waiting,
    /// It is about to be started.
    Ready,
    /// It waits for a place in its pool.
    Queued,
    /// An attempt is in flight.
    Running,
    /// The next attempt is due at this time.
    Delayed(Timestamp),
    /// It succeeded with this output.
    Succeeded(&'a Json),
    /// It failed.
    Failed(&'a Failure),
    /// It will not run.
    Skipped(&'a SkipReason),
    /// It was ended with its run, or by a join that does not need it any more.
    Cancelled,
}

impl Run {
    /// A run before its first record.
    pub fn new(plan: Arc<Plan>, id: RunId) -> Run {
        let waiting = StepLife {
            state: State::Waiting { met: 0, unmet: 0 },
            attempts: 0,
            failures: 0,
            end: 0,
            seen: 0,
            unneeded_by: None,
        };
        let steps = vec![waiting; plan.steps.len()];
        let always = plan.steps.iter().filter(|step| step.always).count() as u32;
        let open = [steps.len() as u32 - always, always];
        Run {
            plan,
            id,
            inputs: Given::new(Json::null()),
            seed: 0,
            created: Timestamp(0),
            latest: Timestamp(0),
            phase: Phase::Blank,
            version: 0,
            steps,
            due: BTreeSet::new(),
            delayed: BTreeSet::new(),
            open,
            idle: open,
            any_failed: [false; 2],
            giving_up: false,
            ended: 0,
            unneeded: BTreeSet::new(),
        }
    }

    /// The first record of a run: `inputs` as [`inputs::accept`](crate::inputs::accept) returned them, `seed` from
    /// anywhere.
    pub fn creation(plan: &Plan, digest: Digest, inputs: Json, seed: u64) -> Event {
        Event::RunCreated { workflow: plan.name.clone(), plan: digest, inputs, seed }
    }

    /// Rebuilds a run from its journal.
    pub fn replay<'r>(
        plan: Arc<Plan>,
        id: RunId,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Result<Run, Misplaced> {
        let mut run = Run::new(plan, id);
        for record in records {
            run.apply(record)?;
        }
        Ok(run)
    }

    /// Takes in one fact. A fact that can't follow the earlier ones is refused, and the run stays as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), Misplaced> {
        match self.take_in(record) {
            Some(()) => {
                self.version += 1;
                self.latest = self.latest.max(record.at);
                Ok(())
            }
            None => {
                Err(Misplaced { run: self.id.clone(), position: self.version, event: Box::new(record.event.clone()) })
            }
        }
    }

    fn take_in(&mut self, record: &Record) -> Option<()> {
        let at = record.at;
        match &record.event {
            Event::RunCreated { inputs, seed, .. } => {
                (self.phase == Phase::Blank).then_some(())?;
                self.phase = Phase::Running;
                self.inputs = Given::new(inputs.clone());
                self.seed = *seed;
                self.created = at;
                for index in 0..self.steps.len() {
                    let step = &self.plan.steps[index];
                    if step.needs.is_empty() && !step.always {
                        self.make_due(StepId(index as u32), State::Ready);
                    }
                }
                if self.open[0] == 0 {
                    self.judge_always_steps();
                }
            }
            Event::AttemptQueued { step, attempt, pool } => {
                self.startable(*step, *attempt)?;
                self.settle(*step);
                self.life(*step).state = State::Queued(*pool);
            }
            Event::AttemptStarted { step, attempt } => {
                self.startable(*step, *attempt)?;
                self.settle(*step);
                let life = self.life(*step);
                life.state = State::Running;
                life.attempts = *attempt;
                *self.idle_like(*step) -= 1;
            }
            Event::AttemptSucceeded { step, attempt, output, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.end(*step, State::Succeeded(Given::new(output.clone())));
            }
            Event::AttemptFailed { step, attempt, failure, .. } => {
                self.in_flight_attempt(*step, *attempt)?.failures += 1;
                // Counted from when the failure happened, not from when somebody noticed: a restart neither shortens
                // nor restarts the wait.
                self.unneeded.remove(step);
                match (self.retry_delay_ms(*step, failure), self.steps[step.index()].unneeded_by) {
                    (Some(_), Some(by)) => {
                        self.make_due(*step, State::Doomed(SkipReason::NotNeeded { by }));
                        *self.idle_like(*step) += 1;
                    }
                    (Some(delay), None) => {
                        let until = at.plus_ms(delay);
                        self.life(*step).state = State::Delayed(until);
                        self.delayed.insert((until, *step));
                        *self.idle_like(*step) += 1;
                    }
                    (None, _) => self.end(*step, State::Failed(Box::new(failure.clone()))),
                }
            }
            Event::AttemptInterrupted { step, attempt, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.unneeded.remove(step);
                // What nobody needs any more does not start again.
                let unneeded_by = self.steps[step.index()].unneeded_by;
                let state = unneeded_by.map_or(State::Ready, |by| State::Doomed(SkipReason::NotNeeded { by }));
                self.make_due(*step, state);
                *self.idle_like(*step) += 1;
            }
            Event::AttemptCancelled { step, attempt, .. } => {
                self.in_flight_attempt(*step, *attempt)?;
                self.end(*step, State::Cancelled);
            }
            Event::StepFailed { step, failure } => {
                self.idle_step(*step)?;
                self.end(*step, State::Failed(Box::new(failure.clone())));
            }
            Event::StepSkipped { step, reason } => {
                (self.idle_step(*step)?.attempts == 0).then_some(())?;
                self.end(*step, State::Skipped(reason.clone()));
            }
            Event::StepCancelled { step } => {
                self.idle_step(*step)?;
                self.end(*step, State::Cancelled);
            }
            Event::CancelRequested { .. } => match self.phase {
                Phase::Running if self.open != [0, 0] => {
                    self.phase = Phase::Ending(Outcome::Cancelled);
                    // There is nothing else left to be cancelled.
                    self.giving_up = self.open[0] == 0;
                }
                // Too late to change anything.
                Phase::Running => (),
                Phase::Ending(_) => self.giving_up = true,
                Phase::Blank | Phase::Finished(_) => return None,
            },
            Event::RunTimedOut => {
                (self.phase == Phase::Running).then_some(())?;
                self.phase = Phase::Ending(Outcome::TimedOut);
            }
            Event::RunFinished { outcome, .. } => {
                (self.open == [0, 0] && !matches!(self.phase, Phase::Blank | Phase::Finished(_))).then_some(())?;
                self.phase = Phase::Finished(*outcome);
            }
        }
        Some(())
    }

    /// What should happen at `now`, with at most `room` attempts started by it; nothing is decided about the steps after
    /// the last one for which there was room, nor after one whose end may make others needless. The event of every action must be
    /// applied before this is asked again; then nothing is answered twice, and an answer without events means: wait.
    pub fn next(&self, now: Timestamp, room: usize) -> Vec<Action> {
        match self.phase {
            Phase::Blank | Phase::Finished(_) => return Vec::new(),
            Phase::Running if self.deadline().is_some_and(|deadline| deadline <= now) && self.open[0] > 0 => {
                return vec![Action::Record(Event::RunTimedOut)];
            }
            Phase::Ending(outcome) if self.idle[0] > 0 || (self.giving_up && self.idle[1] > 0) => {
                return self.wind_down(outcome);
            }
            Phase::Running | Phase::Ending(_) => (),
        }
        if self.open == [0, 0] {
            return vec![Action::Record(self.finish())];
        }
        let mut wake_at = self.deadline().filter(|_| self.phase == Phase::Running && self.open[0] > 0);
        let delays_over = self.delayed.iter().take_while(|(until, _)| *until <= now).map(|(_, step)| step);
        let mut actions = Vec::new();
        let mut started = 0;
        for step in delays_over.chain(&self.due) {
            if started == room {
                break;
            }
            let action = self.decide(*step);
            started += usize::from(matches!(action, Action::Start(_)));
            let is_end = matches!(action, Action::Record(_));
            actions.push(action);
            // The end may decide a join that then does not need the steps after this one.
            if is_end && self.plan.has_regions() {
                break;
            }
        }
        if let Some((until, _)) = self.delayed.range((now.plus_ms(1), StepId(0))..).next() {
            wake_at = Some(wake_at.map_or(*until, |at| at.min(*until)));
        }
        actions.extend(wake_at.map(Action::WakeAt));
        actions
    }

    /// What follows once a queued attempt has its place: [`Action::Start`], or a record that its input can't be made.
    /// `None` if the step is not queued any more, or nothing is started any more.
    pub fn start(&self, step: StepId) -> Option<Action> {
        let waits = self.may_start(step) && matches!(self.steps[step.index()].state, State::Queued(_));
        waits.then(|| self.attempt(step))
    }

    /// The attempts that were in flight when the journal ended: a driver that recovers the run records each of them as
    /// interrupted. Nothing else about recovery is special.
    pub fn in_flight(&self) -> Vec<(StepId, u32)> {
        self.select(|life| matches!(life.state, State::Running).then_some(life.attempts))
    }

    /// The attempts that wait for a place in a pool, each with its pool.
    pub fn queued(&self) -> Vec<(StepId, PoolId)> {
        self.select(|life| match life.state {
            State::Queued(pool) => Some(pool),
            _ => None,
        })
    }

    /// Of the steps with an attempt in flight those whose attempt should be ended, because a join does not need them any
    /// more. While the run is ending, that is all of them, and none is listed here for it.
    pub fn unneeded(&self) -> impl Iterator<Item = StepId> {
        self.unneeded.iter().copied()
    }

    /// The join that does not need this step any more, which is why it is ended.
    pub fn unneeded_by(&self, step: StepId) -> Option<StepId> {
        self.steps[step.index()].unneeded_by
    }

    /// Whether the run was cancelled or has timed out and is not over: attempts of ordinary steps in flight should be
    /// ended.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// Whether the run was cancelled so that attempts of always-steps should be ended, too.
    pub fn is_giving_up(&self) -> bool {
        self.giving_up && self.is_ending()
    }

    /// Whether an attempt of this step that is in flight should be ended.
    pub fn is_cut(&self, step: StepId) -> bool {
        let is_ended = self.is_ending() && (self.giving_up || !self.plan.step(step).always);
        is_ended || self.unneeded_by(step).is_some()
    }

    /// Whether there are always-steps that have not come to an end, and may start.
    pub fn has_always_steps_left(&self) -> bool {
        self.open[1] > 0 && !self.giving_up && !matches!(self.phase, Phase::Finished(_))
    }

    /// How the run ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// How many records were applied: the version that the next append expects.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The latest time that a record of it bears: where the time of whoever drives it on begins, at the least.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// The plan that it keeps.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Its id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Where a step stands, and how many attempts it has started.
    pub fn status(&self, step: StepId) -> (StepStatus<'_>, u32) {
        let life = &self.steps[step.index()];
        let status = match &life.state {
            State::Waiting { .. } | State::Doomed(_) => StepStatus::Waiting,
            State::Ready => StepStatus::Ready,
            State::Queued(_) => StepStatus::Queued,
            State::Running => StepStatus::Running,
            State::Delayed(until) => StepStatus::Delayed(*until),
            State::Succeeded(output) => StepStatus::Succeeded(&output.text),
            State::Failed(failure) => StepStatus::Failed(failure),
            State::Skipped(reason) => StepStatus::Skipped(reason),
            State::Cancelled => StepStatus::Cancelled,
        };
        (status, life.attempts)
    }

    /// What the step's rules and holes see, once it was decided that it may start: the run as it was then.
    pub fn seen_by(&self, step: StepId) -> impl Scope + '_ {
        Seen { run: self, until: self.steps[step.index()].seen }
    }

    /// The same for every attempt of the step in this run, across restarts.
    pub fn idempotency_key(&self, step: StepId) -> String {
        [&*self.id.0, "/", &self.plan.step(step).name].concat()
    }

    // Deciding.

    fn may_start(&self, step: StepId) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Ending(_) => self.plan.step(step).always && !self.giving_up,
            Phase::Blank | Phase::Finished(_) => false,
        }
    }

    /// How a step ended; `None` if it has not.
    fn end_of(&self, step: StepId) -> Option<StepEnd> {
        match self.steps[step.index()].state {
            State::Succeeded(_) => Some(StepEnd::Succeeded),
            State::Failed(_) => Some(StepEnd::Failed),
            State::Skipped(_) => Some(StepEnd::Skipped),
            State::Cancelled => Some(StepEnd::Cancelled),
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.plan.timeout_ms.map(|ms| self.created.plus_ms(ms))
    }

    fn decide(&self, step: StepId) -> Action {
        let life = &self.steps[step.index()];
        if let State::Doomed(reason) = &life.state {
            return Action::Record(match life.attempts {
                0 => Event::StepSkipped { step, reason: reason.clone() },
                _ => Event::StepCancelled { step },
            });
        }
        let seen = self.seen_by(step);
        let plan = self.plan.step(step);
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
        match plan.pool {
            Some(pool) => Action::Queue { step, attempt: life.attempts + 1, pool },
            None => self.attempt(step),
        }
    }

    fn attempt(&self, step: StepId) -> Action {
        let attempt = self.steps[step.index()].attempts + 1;
        match self.plan.step(step).with.render(&self.seen_by(step)) {
            Ok(input) => Action::Start(Attempt { step, attempt, input }),
            Err(error) => rule_failed(step, "with", &error),
        }
    }

    /// Ends every step that has no attempt in flight, but for always-steps unless these are given up. Asked only while
    /// there is one.
    fn wind_down(&self, outcome: Outcome) -> Vec<Action> {
        let ended = |(index, life): (usize, &StepLife)| {
            let step = StepId(index as u32);
            if self.plan.step(step).always && !self.giving_up {
                return None;
            }
            let event = match life.state {
                State::Waiting { .. } | State::Ready | State::Doomed(_) | State::Queued(_) | State::Delayed(_) => {
                    if life.attempts > 0 {
                        Event::StepCancelled { step }
                    } else {
                        let reason = match outcome {
                            Outcome::TimedOut => SkipReason::RunTimedOut,
                            _ => SkipReason::RunCancelled,
                        };
                        Event::StepSkipped { step, reason }
                    }
                }
                _ => return None,
            };
            Some(Action::Record(event))
        };
        self.steps.iter().enumerate().filter_map(ended).collect()
    }

    fn finish(&self) -> Event {
        let mut outputs = serde_json::Map::new();
        let mut faults = Vec::new();
        let has_output = |name: &str| self.step(name).is_some_and(|view| view.output.is_some());
        for output in &self.plan.outputs {
            match output.value.render(self) {
                Ok(value) => drop(outputs.insert(output.name.clone(), value.value())),
                // What a step that did not succeed would have said is left out: the step itself says why.
                Err(_) if !output.value.steps().all(has_output) => (),
                Err(error) => faults.push(format!("output `{}`: {error}", output.name)),
            }
        }
        let outcome = match self.phase {
            Phase::Ending(outcome) if !self.any_failed[1] => outcome,
            _ if self.any_failed != [false; 2] || !faults.is_empty() => Outcome::Failed,
            _ => Outcome::Succeeded,
        };
        Event::RunFinished { outcome, outputs: Json::from(Value::Object(outputs)), faults }
    }

    // Changing. Only `take_in` calls these.

    fn life(&mut self, step: StepId) -> &mut StepLife {
        &mut self.steps[step.index()]
    }

    /// How many steps are open and have no attempt in flight, of this one's kind.
    fn idle_like(&mut self, step: StepId) -> &mut u32 {
        &mut self.idle[usize::from(self.plan.step(step).always)]
    }

    /// Refuses unless this attempt of the step may be queued or started now.
    fn startable(&self, step: StepId, attempt: u32) -> Option<()> {
        let life = self.steps.get(step.index())?;
        let startable = matches!(life.state, State::Ready | State::Queued(_) | State::Delayed(_));
        (startable && attempt == life.attempts + 1 && self.may_start(step)).then_some(())
    }

    /// The step, if this attempt of it is in flight.
    fn in_flight_attempt(&mut self, step: StepId, attempt: u32) -> Option<&mut StepLife> {
        let life = self.steps.get_mut(step.index())?;
        (matches!(life.state, State::Running) && attempt == life.attempts).then_some(life)
    }

    /// The step, if it is open and has no attempt in flight.
    fn idle_step(&mut self, step: StepId) -> Option<&mut StepLife> {
        let life = self.steps.get_mut(step.index())?;
        match life.state {
            State::Waiting { .. } | State::Ready | State::Doomed(_) | State::Queued(_) | State::Delayed(_) => {
                Some(life)
            }
            _ => None,
        }
    }

    fn make_due(&mut self, step: StepId, state: State) {
        self.life(step).state = state;
        self.due.insert(step);
    }

    /// Nothing is to be decided about the step for now. To be called before its state changes.
    fn settle(&mut self, step: StepId) {
        self.due.remove(&step);
        if let State::Delayed(until) = self.steps[step.index()].state {
            self.delayed.remove(&(until, step));
        }
    }

    fn end(&mut self, step: StepId, state: State) {
        if !matches!(self.life(step).state, State::Running) {
            *self.idle_like(step) -= 1;
        }
        self.settle(step);
        self.ended += 1;
        let ended = self.ended;
        let life = self.life(step);
        (life.state, life.end) = (state, ended);
        let end = self.end_of(step).expect("a step that ends is in the state of an end");
        let plan = self.plan.clone();
        let kind = usize::from(plan.step(step).always);
        self.any_failed[kind] |= end == StepEnd::Failed;
        self.open[kind] -= 1;
        self.unneeded.remove(&step);
        for (dependent, wanted) in plan.dependents(step) {
            let State::Waiting { met, unmet } = &mut self.steps[dependent.index()].state else { continue };
            match wanted.is_met_by(end) {
                true => *met += 1,
                false => *unmet += 1,
            }
            // An always-step is judged when the last ordinary step has ended, below.
            if !plan.step(*dependent).always || kind == 1 {
                self.judge(*dependent);
            }
        }
        if kind == 0 && self.open[0] == 0 {
            self.judge_always_steps();
        }
    }

    /// Lets always-steps start whose joins are decided: no ordinary step is left.
    fn judge_always_steps(&mut self) {
        let plan = self.plan.clone();
        let always = plan.steps.iter().enumerate().rev().take_while(|(_, step)| step.always);
        always.for_each(|(index, _)| self.judge(StepId(index as u32)));
    }

    /// Lets a step that waits start, or not any more, as soon as its join is decided.
    fn judge(&mut self, step: StepId) {
        let State::Waiting { met, unmet } = self.steps[step.index()].state else { return };
        let plan = self.plan.clone();
        let joined = plan.step(step);
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
                    let was = self.end_of(need.step).filter(|end| !need.state.is_met_by(*end) && least == of)?;
                    Some(SkipReason::NeedNotMet { need: need.step, wanted: need.state, was })
                });
                let too_few = SkipReason::TooFewNeedsMet { possible: of - unmet, least, of };
                self.make_due(step, State::Doomed(reason.unwrap_or(too_few)));
            }
        }
        // What the run ends is ended by the run, whatever becomes of its joins meanwhile.
        if joined.rest == Rest::Cancel && self.may_start(step) {
            self.release(step);
        }
    }

    /// Has what serves only this join ended. A step belongs to the region of one join, and a join is decided once, so
    /// that all regions together are looked at once.
    fn release(&mut self, join: StepId) {
        let plan = self.plan.clone();
        let mut joins = vec![join];
        while let Some(join) = joins.pop() {
            for step in plan.region(join) {
                match self.life(*step).state {
                    State::Running => drop(self.unneeded.insert(*step)),
                    State::Waiting { .. } => {
                        // A join that was decided has let go of its own region then.
                        joins.extend((plan.step(*step).rest == Rest::Cancel).then_some(*step));
                        self.make_due(*step, State::Doomed(SkipReason::NotNeeded { by: join }));
                    }
                    State::Ready | State::Queued(_) | State::Delayed(_) => {
                        self.settle(*step);
                        self.make_due(*step, State::Doomed(SkipReason::NotNeeded { by: join }));
                    }
                    // Over, or about to be skipped for a reason of its own.
                    _ => continue,
                }
                self.life(*step).unneeded_by = Some(join);
            }
        }
    }

    /// How long to wait before the next attempt; `None` to give up.
    fn retry_delay_ms(&self, step: StepId, failure: &Failure) -> Option<u64> {
        let retry = &self.plan.step(step).retry;
        let failures = self.steps[step.index()].failures;
        let again = failure.kind.is_retryable() && failures < retry.attempts && self.may_start(step);
        let asked = failure.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS);
        again.then(|| delay_ms(retry, failures, self.seed, step).max(asked))
    }

    fn select<T>(&self, pick: impl Fn(&StepLife) -> Option<T>) -> Vec<(StepId, T)> {
        let indexed = self.steps.iter().enumerate();
        indexed.filter_map(|(index, life)| pick(life).map(|found| (StepId(index as u32), found))).collect()
    }
}

impl NeedState {
    /// Whether a step that came to this end is in this state.
    pub fn is_met_by(self, end: StepEnd) -> bool {
        match self {
            NeedState::Succeeded => end == StepEnd::Succeeded,
            NeedState::Failed => end == StepEnd::Failed,
            NeedState::Skipped => end == StepEnd::Skipped,
            NeedState::Finished => true,
        }
    }
}

fn rule_failed(step: StepId, key: &str, error: &RuleError) -> Action {
    let failure = Failure {
        kind: FailureKind::Rule,
        message: format!("`{key}` can't be evaluated: {error}"),
        details: None,
        backtrace: None,
        retry_after_ms: None,
    };
    Action::Record(Event::StepFailed { step, failure })
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
fn delay_ms(retry: &Retry, failures: u32, seed: u64, step: StepId) -> u64 {
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

/// A run as one of its steps sees it: as it was when enough of the step's needs were met. A branch that comes to its end
/// between two attempts does not change the input of the second.
struct Seen<'r> {
    run: &'r Run,
    /// So many steps had come to an end.
    until: u32,
}

impl Seen<'_> {
    fn is_open(&self, name: &str) -> Option<bool> {
        let life = &self.run.steps[self.run.plan.step_named(name)?.index()];
        Some(life.end == 0 || life.end > self.until)
    }
}

impl Scope for Seen<'_> {
    fn inputs(&self) -> &Value {
        self.run.inputs()
    }

    fn inputs_text(&self) -> Option<&Json> {
        self.run.inputs_text()
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        match self.is_open(name)? {
            true => Some(StepView { status: "unfinished", output: None, failure: None, attempts: 0 }),
            false => self.run.step(name),
        }
    }

    fn output(&self, step: &str) -> Option<&Json> {
        match self.is_open(step)? {
            true => None,
            false => self.run.output(step),
        }
    }

    fn run_id(&self) -> &str {
        &self.run.id.0
    }

    fn workflow_name(&self) -> &str {
        &self.run.plan.name
    }

    fn workflow_directory(&self) -> &str {
        &self.run.plan.directory
    }
}

impl Scope for Run {
    fn inputs(&self) -> &Value {
        self.inputs.value()
    }

    fn inputs_text(&self) -> Option<&Json> {
        Some(&self.inputs.text)
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let life = &self.steps[self.plan.step_named(name)?.index()];
        let view = |status| StepView { status, output: None, failure: None, attempts: life.attempts };
        match &life.state {
            State::Succeeded(output) => Some(StepView { output: Some(output.value()), ..view("succeeded") }),
            State::Failed(failure) => Some(StepView { failure: Some(failure), ..view("failed") }),
            State::Skipped(_) => Some(view("skipped")),
            State::Cancelled => Some(view("cancelled")),
            _ => None,
        }
    }

    fn output(&self, step: &str) -> Option<&Json> {
        match &self.steps[self.plan.step_named(step)?.index()].state {
            State::Succeeded(output) => Some(&output.text),
            _ => None,
        }
    }

    fn run_id(&self) -> &str {
        &self.id.0
    }

    fn workflow_name(&self) -> &str {
        &self.plan.name
    }

    fn workflow_directory(&self) -> &str {
        &self.plan.directory
    }
}
