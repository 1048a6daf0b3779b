//! The life of one workflow run, as a pure state machine.
//!
//! A run is the fold of its records: [`Run::apply`] is the only place where it changes, and [`Run::next`] says what
//! should happen now. Neither reads a clock, spawns, or touches a file, so that the live driver, crash recovery and every
//! test share this code unchanged. Recovery is replay, plus a record for each attempt that was in flight.
//!
//! The driver's part, which makes execution durable: journal and apply the event of every action that [`Run::next`]
//! returns before asking it again, and carry an action out only once its event is durable.
//!
//! A run is a tree of scopes (see [`Scopes`]), each of which lives by the same rules as the workflow's own: its steps, then
//! the undoing of what they did if that was in vain, then its always-steps. `life` says what is kept, `change` how a fact
//! changes it, `family` how scopes open and close, `items` what becomes of lists that grow, `decide` what follows, `pause` what
//! does not follow for now, `seen` what rules see, `told` what only readers ask.
//!
//! Work per event is proportional to what the event unblocks (times the logarithm of what is due): steps that nothing
//! happened to are never looked at.

mod change;
mod decide;
mod family;
mod items;
mod life;
mod pause;
mod seen;
pub mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::description::Digest;
use crate::event::{Event, Failure, NeedState, Outcome, Record, RunId, SkipReason, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{BodyId, Plan, PoolId, SignalId, Step, StepId, StepKind, Wait, Work};
use crate::rule::Scope;
use crate::scope::{ScopeId, Scopes};
use life::{Given, ScopeLife, Stage, State, StepLife};

/// A guest's `retry-after` counts up to this: one day. A step that must wait longer is better started by another run, and
/// a hostile number must not park a run for centuries.
pub const RETRY_AFTER_MAX_MS: u64 = 24 * 3_600_000;

/// The most items of a list that a step opens scopes for. 100,000: as many as a workflow has steps at most.
pub const ITEMS_MAX: usize = 100_000;

/// How deeply scopes nest. 32: a sub-workflow may open itself, and people lose count long before.
pub const SCOPE_DEPTH_MAX: u32 = 32;

/// The most steps of a run, over all scopes that it opens. A million: every step is some 200 bytes of memory.
pub const RUN_STEPS_MAX: usize = 1_000_000;

/// How many signals that nobody waits for a run keeps. 1,000: more is a sender that nobody listens to.
pub const SIGNALS_KEPT_MAX: usize = 1_000;

/// What should happen now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A decision without a consequence in the world: a skip, a failed rule, the end.
    Record(Event),
    /// Execute this attempt.
    Start(Attempt),
    /// Ask the cache for the answer of this attempt. If it has one, record [`Event::CacheHit`] while [`Run::is_asking`];
    /// otherwise ask [`Run::missed`]. Who has no cache asks that at once, instead of applying the action's event.
    Ask(Attempt),
    /// Wait for a place in the pool, then ask [`Run::start`].
    Queue {
        /// Who.
        claim: Claim,
        /// Where.
        pool: PoolId,
    },
    /// Ask again at this time, if nothing happened before.
    WakeAt(Timestamp),
}

/// Who is in line for a place in a pool, or has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// An attempt of a step: until it comes home.
    Attempt(StepId, u32),
    /// A step that waits: until its waiting is over.
    Wait(StepId),
    /// The scope of a step for an item or round: until all of it is over, what it undoes and its always-steps included.
    Scope(StepId, u32),
    /// The run itself, of its group: until it is over.
    Run,
}

impl Claim {
    /// Whose it is; `None` of the run itself.
    pub fn step(self) -> Option<StepId> {
        match self {
            Claim::Attempt(step, _) | Claim::Wait(step) | Claim::Scope(step, _) => Some(step),
            Claim::Run => None,
        }
    }

    /// The fact that it is in line.
    fn queued(self, pool: PoolId) -> Event {
        match self {
            Claim::Run => unreachable!("a run is in line for its group from its creation, and for no pool"),
            Claim::Attempt(step, attempt) => Event::AttemptQueued { step, attempt, pool },
            Claim::Wait(step) => Event::WaitQueued { step, pool },
            Claim::Scope(step, index) => Event::ScopeQueued { step, index, pool },
        }
    }
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
            Action::Ask(Attempt { step, .. }) => Some(Event::CacheAsked { step: *step }),
            Action::Queue { claim, pool } => Some(claim.queued(*pool)),
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
    /// Of its records, the latest time.
    latest: Timestamp,
    /// Records applied.
    version: u64,
    places: Scopes,
    scopes: Vec<ScopeLife>,
    steps: Vec<StepLife>,
    /// Steps that something is to be decided about right now.
    due: BTreeSet<StepId>,
    /// Steps that something will have to be decided about, and when.
    delayed: BTreeSet<(Timestamp, StepId)>,
    /// When open scopes time out.
    deadlines: BTreeSet<(Timestamp, ScopeId)>,
    /// Scopes that are ended early and have steps that nothing has to come home for.
    winding: BTreeSet<ScopeId>,
    /// Steps that have come to an end.
    ended: u32,
    /// Steps with an attempt in flight that is to be ended.
    unwanted: BTreeSet<StepId>,
    /// Steps that wait for a signal.
    listening: BTreeSet<(SignalId, StepId)>,
    /// Signals that nobody has waited for yet.
    kept: Vec<(SignalId, Json)>,
    /// Of what is in line and has none of its own.
    priority: i32,
    /// The places that the last record made free.
    freed: Vec<Claim>,
    group: Option<Box<str>>,
    /// What is paused, the whole run by `None`, and since when.
    holds: BTreeMap<Option<StepId>, Timestamp>,
    /// Steps that something would have to be decided about, now or later, were they not paused. They are in neither of the
    /// sets of those.
    held: BTreeSet<StepId>,
    /// Scopes whose timeouts stand still, and since when.
    standing: BTreeMap<ScopeId, Timestamp>,
    /// Whether the record that is taken in ends a pause of something.
    lets_go: bool,
    /// What steps have appended, and who works on it.
    lists: BTreeMap<StepId, items::List>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepStatus<'a> {
    /// Its needs are not met yet; of one that undoes another, nothing is to be undone yet.
    Waiting,
    /// It is about to be started.
    Ready,
    /// The cache is asked for its answer.
    Asking,
    /// It waits for a place in its pool; all of its scopes that there are do.
    Queued,
    /// An attempt is in flight.
    Running,
    /// The next attempt is due at this time.
    Delayed(Timestamp),
    /// Scopes that it opened are not over.
    Open,
    /// It waits for somebody, or until this time.
    Parked(Option<Timestamp>),
    /// It succeeded with this output.
    Succeeded(&'a Json),
    /// It failed.
    Failed(&'a Failure),
    /// It will not run.
    Skipped(&'a SkipReason),
    /// It was ended with its scope, or because nobody wanted it any more.
    Cancelled,
}

impl Run {
    /// A run before its first record.
    pub fn new(plan: Arc<Plan>, id: RunId) -> Run {
        let places = Scopes::new(&plan);
        let steps = vec![StepLife::WAITING; places.len()];
        let root = ScopeLife::new(plan.kinds_of(BodyId(0)), Stage::Blank, Timestamp(0), 0);
        Run {
            plan,
            id,
            inputs: Given::new(Json::null()),
            seed: 0,
            latest: Timestamp(0),
            version: 0,
            places,
            scopes: vec![root],
            steps,
            due: BTreeSet::new(),
            delayed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            winding: BTreeSet::new(),
            ended: 0,
            unwanted: BTreeSet::new(),
            listening: BTreeSet::new(),
            kept: Vec::new(),
            priority: 0,
            freed: Vec::new(),
            group: None,
            holds: BTreeMap::new(),
            held: BTreeSet::new(),
            standing: BTreeMap::new(),
            lets_go: false,
            lists: BTreeMap::new(),
        }
    }

    /// The first record of a run: `inputs` as [`inputs::accept`](crate::inputs::accept) returned them, `seed` from
    /// anywhere. A plan with a `[concurrency]` whose group can't be made of them has none; see [`Plan::group_of`].
    pub fn creation(plan: &Plan, digest: Digest, inputs: Json, seed: u64) -> Event {
        let group = plan.group_of(&inputs).ok().flatten();
        let workflow = plan.name.clone();
        Event::RunCreated { workflow, plan: digest, inputs, seed, priority: plan.priority, group, rerun_of: None }
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
        self.freed.clear();
        match self.take_in(record) {
            Some(()) => {
                if std::mem::take(&mut self.lets_go) {
                    self.let_go(record.at);
                }
                self.version += 1;
                self.latest = self.latest.max(record.at);
                Ok(())
            }
            None => {
                Err(Misplaced { run: self.id.clone(), position: self.version, event: Box::new(record.event.clone()) })
            }
        }
    }

    /// The attempts that were in flight when the journal ended: a driver that recovers the run records each of them as
    /// interrupted. Nothing else about recovery is special.
    pub fn in_flight(&self) -> Vec<(StepId, u32)> {
        self.select(|life| matches!(life.state, State::Running).then_some(life.attempts))
    }

    /// Who waits for a place in a pool, each with its pool.
    pub fn queued(&self) -> Vec<(Claim, PoolId)> {
        let mut queued = Vec::new();
        for (index, life) in self.steps.iter().enumerate() {
            let step = StepId(index as u32);
            match (&life.state, &life.family) {
                (State::Queued(pool), _) => queued.push((self.claim(step), *pool)),
                (State::Open, Some(family)) if !family.line.is_empty() => {
                    let pool = self.step(step).pool().expect("what is in line is so for a pool");
                    queued.extend(family.line.iter().map(|index| (Claim::Scope(step, *index), pool)));
                }
                _ => (),
            }
        }
        queued
    }

    /// Who has a place in a pool, but for attempts in flight: the places that it keeps when the engine stops or dies. Whoever
    /// takes the run up again has to see to it that nobody else has got them meanwhile.
    pub fn holding(&self) -> Vec<(Claim, PoolId)> {
        let scopes = (1..self.scopes.len() as u32).map(ScopeId);
        let scopes = scopes.filter_map(|scope| {
            let place = self.places.place(scope);
            let opener = place.opener.filter(|_| !matches!(self.scopes[scope.index()].stage, Stage::Over(_)))?;
            Some((Claim::Scope(opener, place.index), self.step(opener).pool()?))
        });
        let waits = self.select(|life| matches!(life.state, State::Parked(_)).then_some(())).into_iter();
        let waits = waits.filter_map(|(step, ())| Some((Claim::Wait(step), self.step(step).pool()?)));
        scopes.chain(waits).collect()
    }

    /// Those of [`Run::holding`] who needed their places until the last record. They are given back once it is durable.
    pub fn freed(&self) -> &[Claim] {
        &self.freed
    }

    /// Where somebody is in the line of a pool: higher ones come first.
    pub fn priority_of(&self, claim: Claim) -> i32 {
        claim.step().and_then(|step| self.step(step).priority).unwrap_or(self.priority)
    }

    /// The group whose other runs this one excludes.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Whether it waits for its group: nothing of it happens until [`Run::start`] was asked about [`Claim::Run`].
    pub fn is_in_line(&self) -> bool {
        self.root().stage == Stage::InLine
    }

    /// Whether a later run of its group may have it cancelled: nobody has asked for its end yet, and there is something left to
    /// be ended.
    pub fn may_be_superseded(&self) -> bool {
        let root = self.root();
        root.cut.is_none() && matches!(root.stage, Stage::InLine | Stage::Steps)
    }

    /// Whose turn it is when the turn of a step is that queues by itself.
    pub(crate) fn claim(&self, step: StepId) -> Claim {
        match self.step(step).work {
            Work::Wait(_) => Claim::Wait(step),
            _ => Claim::Attempt(step, self.steps[step.index()].attempts + 1),
        }
    }

    /// The steps that the cache was asked about when the journal ended: a driver that recovers the run asks again.
    pub fn asking(&self) -> Vec<StepId> {
        self.select(|life| matches!(life.state, State::Asking).then_some(()))
            .into_iter()
            .map(|(step, ())| step)
            .collect()
    }

    /// Whether an answer of the cache would still be taken for this step.
    pub fn is_asking(&self, step: StepId) -> bool {
        matches!(self.steps[step.index()].state, State::Asking) && self.may_start(step)
    }

    /// The steps with an attempt in flight that should be ended: their scope is, or nobody wants them any more.
    pub fn unwanted(&self) -> impl Iterator<Item = StepId> {
        self.unwanted.iter().copied()
    }

    /// The join that does not need this step any more, which is why it is ended.
    pub fn unneeded_by(&self, step: StepId) -> Option<StepId> {
        match self.steps[step.index()].unwanted.as_deref() {
            Some(SkipReason::NotNeeded { by }) => Some(*by),
            _ => None,
        }
    }

    /// Whether the run was cancelled or has timed out and is not over: attempts of ordinary steps in flight should be
    /// ended.
    pub fn is_ending(&self) -> bool {
        self.root().cut.is_some() && !matches!(self.root().stage, Stage::Finished(_))
    }

    /// Whether an attempt of this step that is in flight should be ended.
    pub fn is_cut(&self, step: StepId) -> bool {
        self.unwanted.contains(&step)
    }

    /// Whether there are always-steps that have not come to an end, and may start, or something is still to be undone.
    pub fn has_always_steps_left(&self) -> bool {
        let root = self.root();
        let undoes = self.scopes.iter().any(|scope| scope.undoing.is_some() || !scope.to_undo.is_empty());
        (root.open[1] > 0 || undoes) && !root.giving_up && !matches!(root.stage, Stage::Finished(_))
    }

    /// How the run ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.root().stage {
            Stage::Finished(outcome) => Some(outcome),
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

    /// What everything random about it is drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The scopes that it has opened, and its steps.
    pub fn scopes(&self) -> &Scopes {
        &self.places
    }

    /// What a step of it is in its plan.
    pub fn step(&self, step: StepId) -> &Step {
        self.plan.step(self.places.no(step))
    }

    /// How people call a step of it.
    pub fn path(&self, step: StepId) -> String {
        self.places.path(&self.plan, step)
    }

    /// The step that people call so.
    pub fn step_at(&self, path: &str) -> Option<StepId> {
        self.places.named(&self.plan, path)
    }

    /// Where a step stands, and how many attempts it has started.
    pub fn status(&self, step: StepId) -> (StepStatus<'_>, u32) {
        let life = &self.steps[step.index()];
        let status = match &life.state {
            State::Waiting { .. } | State::Doomed(_) => StepStatus::Waiting,
            State::Ready => StepStatus::Ready,
            State::Asking => StepStatus::Asking,
            State::Queued(_) => StepStatus::Queued,
            State::Running => StepStatus::Running,
            State::Delayed(until) => StepStatus::Delayed(*until),
            State::Open if self.is_only_in_line(step) => StepStatus::Queued,
            State::Open => StepStatus::Open,
            State::Parked(parked) => StepStatus::Parked(parked.looks_at()),
            State::Succeeded(output) => StepStatus::Succeeded(&output.text),
            State::Failed(failure) => StepStatus::Failed(failure),
            State::Skipped(reason) => StepStatus::Skipped(reason),
            State::Cancelled => StepStatus::Cancelled,
        };
        (status, life.attempts)
    }

    /// Whether all that it does is to wait for places in its pool, of a step that opens scopes.
    pub fn is_only_in_line(&self, step: StepId) -> bool {
        let life = &self.steps[step.index()];
        let family = life.family.as_deref().filter(|_| matches!(life.state, State::Open));
        family.is_some_and(|family| family.open == 0 && !family.line.is_empty())
    }

    /// The steps that wait for a signal of this name.
    pub fn waiting_for(&self, signal: &str) -> Vec<StepId> {
        let named = |id: SignalId| self.plan.signals[id.index()].name == signal;
        self.listening.iter().filter(|(id, _)| named(*id)).map(|(_, step)| *step).collect()
    }

    /// What it was given.
    pub fn inputs(&self) -> &Json {
        &self.inputs.text
    }

    /// Whether a step has succeeded without doing anything itself: its answer is another run's, taken over from there or
    /// from the cache.
    pub fn is_reused(&self, step: StepId) -> bool {
        let life = &self.steps[step.index()];
        matches!(life.state, State::Succeeded(_)) && life.attempts == 0 && !matches!(self.step(step).work, Work::Finish)
    }

    /// The scopes that a step has opened, by item or round; of one that was tried again the latest.
    pub(crate) fn scopes_of(&self, step: StepId) -> &[ScopeId] {
        self.steps[step.index()].family.as_deref().map_or(&[], |family| &family.scopes)
    }

    /// What [`Run::next`] asks for about this step alone; of several scopes the first.
    pub(crate) fn asks(&self, step: StepId, now: Timestamp) -> Option<Event> {
        let mut actions = Vec::new();
        if self.due.contains(&step) {
            self.decide(step, now, &mut 1, &mut actions);
        }
        actions.first().and_then(Action::event)
    }

    /// The same, also of a step whose scope is ended early, or that the clock has something to say to.
    pub(crate) fn would(&self, step: StepId, now: Timestamp) -> Option<Action> {
        let scope = self.places.scope(step);
        if self.winding.contains(&scope) {
            let is_its = |action: &Action| action.event().and_then(|event| event.ended_step()) == Some(step);
            return self.wind_down(scope).into_iter().find(is_its);
        }
        let mut actions = Vec::new();
        if self.due.contains(&step) || self.is_over_at(step, now) {
            self.decide(step, now, &mut 1, &mut actions);
        }
        actions.into_iter().next()
    }

    /// The steps that something is to be decided about right now.
    pub(crate) fn due(&self) -> impl Iterator<Item = StepId> {
        self.due.iter().copied()
    }

    /// How many there are.
    pub(crate) fn due_count(&self) -> usize {
        self.due.len()
    }

    /// Whether a step is one of them.
    pub(crate) fn is_due(&self, step: StepId) -> bool {
        self.due.contains(&step)
    }

    /// Whether a step has come to its end.
    pub fn has_ended(&self, step: StepId) -> bool {
        self.end_of(step).is_some()
    }

    /// Whether its plan knows a signal of this name.
    pub fn has_signal(&self, name: &str) -> bool {
        self.plan.signals.iter().any(|signal| signal.name == name)
    }

    /// Whether a step waits for the word of this person.
    pub fn may_answer(&self, step: StepId, by: &str) -> bool {
        // Until the records of one turn are acted on, a step that was answered is parked still.
        let State::Parked(parked) = &self.steps[step.index()].state else { return false };
        let Work::Wait(Wait { approval: Some(approval), .. }) = &self.step(step).work else { return false };
        parked.answer.is_none() && approval.by.iter().any(|who| who == by)
    }

    /// What the step's rules and holes see, once it was decided that it may start: the run as it was then.
    pub fn seen_by(&self, step: StepId) -> impl Scope + '_ {
        seen::Seen::by(self, step)
    }

    /// The same for every attempt of the step in this run, across restarts, and when its scope is tried again.
    pub fn idempotency_key(&self, step: StepId) -> String {
        match self.plan.own_steps().get(step.index()) {
            Some(own) => [&*self.id.0, "/", &own.name].concat(),
            None => [&*self.id.0, "/", &self.path(step)].concat(),
        }
    }

    fn root(&self) -> &ScopeLife {
        &self.scopes[0]
    }

    fn kind(&self, step: StepId) -> StepKind {
        self.step(step).kind()
    }

    fn scope_of(&self, step: StepId) -> &ScopeLife {
        &self.scopes[self.places.scope(step).index()]
    }

    /// How a step ended; `None` if it has not.
    fn end_of(&self, step: StepId) -> Option<StepEnd> {
        self.steps[step.index()].ended()
    }

    /// Whether an attempt of the step may be queued or started now.
    fn may_start(&self, step: StepId) -> bool {
        self.steps[step.index()].unwanted.is_none() && self.is_let(step)
    }

    /// Whether the step's scope lets it start, now or later.
    fn is_let(&self, step: StepId) -> bool {
        let scope = self.scope_of(step);
        match self.kind(step) {
            StepKind::Ordinary => scope.stage == Stage::Steps && scope.cut.is_none(),
            StepKind::Always => matches!(scope.stage, Stage::Steps | Stage::Undo | Stage::Always) && !scope.giving_up,
            StepKind::Undo => true,
        }
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
            NeedState::Started => end != StepEnd::Skipped,
        }
    }
}
