//! Why a run went as it did: for each step why it ran or not, what its rule saw, what it waited for and for how long, why it
//! was tried again; for the run its story in order, the root causes of what was skipped, and the chain of steps that its
//! end waited for.
//!
//! A fold over records beside a [`Run`] that takes in the same ones: what a record does not repeat (the delay that was
//! chosen, what a rule saw that held) is asked of the run as it stood then. Nothing is guessed and no clock is read. The
//! words are in `page`; the values serialise as they are, for programs.

mod page;
mod path;
mod tries;
mod waits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use self::path::longest;
pub use self::path::{Bottleneck, Link};
use crate::description::Digest;
use crate::event::{
    Event, Failure, FailureKind, Interruption, NeedState, Origin, Outcome, Record, Refusal, RunId, SkipReason, StepEnd,
    Timestamp, Usage,
};
use crate::group::WAIT_TOLD_MS;
use crate::json::Json;
use crate::plan::{Join, Need, Plan, ScopeCount, Step, StepId, StepKind, StepNo, is_default};
use crate::preview::withheld;
use crate::run::told::Ended;
use crate::run::{Misplaced, RETRY_AFTER_MAX_MS, Run, StepStatus};
use crate::scope::ScopeId;

/// From how many percent of a bound on it is told that an attempt came near it. 80: what grows by a quarter is over it.
pub const NEAR_PERCENT: u64 = 80;

/// A run, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Account {
    /// The run.
    pub run: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// How the run ended; `None` while it has not.
    pub outcome: Option<Outcome>,
    /// That nobody drives it now, though it is not over: no fact of the records, but of who asks ([`Account::stop`]).
    #[serde(skip_serializing_if = "is_default")]
    pub stopped: bool,
    /// When it was created.
    pub created: Timestamp,
    /// From its creation to its end, or to where it stands now, in milliseconds.
    pub elapsed_ms: u64,
    /// What happened, in order.
    pub story: Vec<Moment>,
    /// Root causes of skipped steps, in the order in which they took effect, each with all that it kept from running.
    pub skips: Vec<Skips>,
    /// The chain of steps that the end waited for, in order; together with the waits between them it takes as long as
    /// the run.
    pub path: Vec<Link>,
    /// What took longest on that chain.
    pub bottleneck: Option<Bottleneck>,
    /// Outputs that could not be computed, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Every step, in the file's order.
    pub steps: Vec<StepAccount>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moment {
    /// Milliseconds since the run's creation.
    pub after_ms: u64,
    /// The same of the last of what is told together, if that was later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Neighbours of a kind are told together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// Steps succeeded, each at its first attempt.
    Succeeded {
        /// Which.
        steps: Vec<String>,
    },
    /// A step succeeded at a later attempt.
    Recovered {
        /// Which.
        step: String,
        /// At which attempt.
        attempt: u32,
    },
    /// A step was answered from the cache, without an attempt.
    Cached {
        /// Which.
        step: String,
        /// Whose answer it is.
        origin: Origin,
    },
    /// An attempt failed.
    Failed {
        /// Whose.
        step: String,
        /// Which; `None` if the step failed without one.
        attempt: Option<u32>,
        /// Why.
        failure: Failure,
        /// What followed; `None` if the step failed without an attempt.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<Next>,
    },
    /// The engine stopped or died under attempts.
    Interrupted {
        /// Whose.
        steps: Vec<String>,
        /// How.
        cause: Interruption,
    },
    /// Steps were skipped.
    Skipped {
        /// Why.
        because: Cause,
        /// Which.
        steps: Vec<String>,
    },
    /// Somebody sent a signal.
    Signalled {
        /// Which.
        signal: String,
    },
    /// The run is the only one of its group.
    Admitted {
        /// Which.
        group: String,
    },
    /// Somebody gave their word.
    Answered {
        /// On which step.
        step: String,
        /// Whether it goes on.
        approved: bool,
        /// Who.
        by: String,
        /// What else they said.
        note: String,
        /// The operating system's number of the user whose process said it.
        uid: Option<u32>,
    },
    /// A scope took too long.
    ScopeTimedOut {
        /// Which.
        scope: String,
    },
    /// Answers of another run were taken over.
    Reused {
        /// That run.
        run: RunId,
        /// Whose.
        steps: Vec<String>,
    },
    /// Somebody asked that nothing new be started.
    Paused {
        /// Of which step; `None` of the run.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// In their words.
        reason: String,
    },
    /// A pause was over.
    Unpaused {
        /// Of which step; `None` of the run.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// Somebody asked for the end of a step.
    StepCancelRequested {
        /// Which.
        step: String,
        /// In their words.
        reason: String,
    },
    /// Somebody asked for the run's end.
    CancelRequested {
        /// In their words.
        reason: String,
    },
    /// The workflow's `timeout` passed.
    TimedOut,
    /// Steps were ended by themselves or with what they belong to: as was told before, or by another step's success.
    Cut {
        /// The step whose `cancels` they are in, or what they belong to is.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Which.
        steps: Vec<String>,
    },
    /// A scope failed and is tried again.
    TriedAgain {
        /// Which.
        scope: String,
        /// How.
        next: Next,
    },
    /// Steps were ended with the run, or by a join.
    Cancelled {
        /// The join that does not need them any more, if it was one: of joins in joins, the outermost.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Which.
        steps: Vec<String>,
    },
}

/// What kept steps from running, at the root: consequences of consequences are counted here as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Cause {
    /// A step came to this end.
    Step {
        /// Which.
        step: String,
        /// To which.
        end: StepEnd,
        /// Why, if it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// A step's `when` was false.
    Rule {
        /// Whose.
        step: String,
        /// The rule and what it saw.
        rule: RuleAccount,
    },
    /// A join takes more of its needs than can be met, for more than one root cause.
    TooFewNeeds {
        /// Whose.
        step: String,
        /// How many of them are met, or could have been.
        possible: u32,
        /// How many of them it takes.
        least: u32,
        /// How many there are.
        of: u32,
    },
    /// A join with `rest = "cancel"` was decided without them: of joins in joins, the outermost.
    NotNeeded {
        /// Which.
        by: String,
    },
    /// One of the steps of their scope ended it.
    Ended {
        /// Which.
        by: String,
    },
    /// Their scope was cancelled or timed out before their turn.
    ScopeEnded {
        /// Whose it is.
        of: String,
        /// Whether it timed out.
        timed_out: bool,
    },
    /// Somebody cancelled them.
    Asked {
        /// In their words.
        reason: String,
    },
    /// The run was cancelled before their turn.
    RunCancelled,
    /// The run timed out before their turn.
    RunTimedOut,
}

/// Steps that were skipped for one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Skips {
    /// The root.
    pub because: Cause,
    /// All that it kept from running, in the order of the record.
    pub steps: Vec<String>,
}

/// A step, explained.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepAccount {
    /// Its path: `build`, `deploy/push`, `suites[3]`.
    pub step: String,
    /// How it ended; `None` while it has not.
    pub end: Option<StepEnd>,
    /// Where it stands, in a word.
    pub state: &'static str,
    /// Whether it runs once all ordinary steps have come to their end, whatever became of them.
    #[serde(skip_serializing_if = "is_default")]
    pub always: bool,
    /// How many of its needs it takes.
    #[serde(skip_serializing_if = "is_default")]
    pub join: Join,
    /// Where its answer comes from, if it did nothing itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<Origin>,
    /// Whether it has opened scopes or begun to wait.
    #[serde(skip_serializing_if = "is_default")]
    pub opened: bool,
    /// Each of its needs, and what became of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<NeedAccount>,
    /// The step whose end gave it its turn: the last one that it waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_after: Option<String>,
    /// Its `when`, once it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleAccount>,
    /// Why it was skipped, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it was cancelled, in a few words, if not with its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<String>,
    /// What it waits for now, in words, with the command that ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// What ended its waiting, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<String>,
    /// Of what is in a scope that was tried again: which time this is, of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_of: Option<TimeOf>,
    /// Each time that a scope of it was tried, of those that were tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<TryAccount>,
    /// Of a step that undoes another, once it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoing: Option<Undoing>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The step at the root of its being skipped: itself if its own rule was false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The join that it was ended for, since that does not need it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_needed_by: Option<String>,
    /// What was answered from the cache, and whose answer that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedAccount>,
    /// That the rate of its pool is used up and until when, while it is in line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// The pool that its attempts, its scopes or its waiting queue in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What its component wants and is not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
    /// Where its time went.
    pub times: Times,
    /// Its attempts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptAccount>,
    /// Capabilities that it was refused, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// The bounds that an attempt came near to or went over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Near>,
    /// Only of a step that is asked about alone: its input, holes filled, as its attempts were given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// Only of a step that is asked about alone: what kept it from running, at the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Cause>,
    /// Only of a step that is asked about alone: the skipped steps between the root and this one, the root's neighbour first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

/// Which of several times something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TimeOf {
    /// Counts from 1.
    pub time: u32,
    /// How often it was tried.
    pub of: u32,
}

/// A scope that was tried again, one of the times.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TryAccount {
    /// Which scope.
    pub scope: String,
    /// Which time, when, and how it ended.
    #[serde(flatten)]
    pub attempt: AttemptAccount,
}

/// Why something is taken back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Undoing {
    /// The step whose work it is.
    pub step: String,
    /// What it was in vain for.
    pub because: Cause,
}

/// What a step waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NeedAccount {
    /// The step.
    pub step: String,
    /// The state that it is needed in.
    pub wanted: NeedState,
    /// How it ended; `None` while it has not.
    pub was: Option<StepEnd>,
    /// When, in milliseconds since the run's creation.
    pub after_ms: Option<u64>,
}

/// An answer of the cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CachedAccount {
    /// What it depends on.
    pub key: Digest,
    /// Whose it is.
    pub origin: Origin,
}

/// A rule, and the values that it saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleAccount {
    /// Its text.
    pub rule: String,
    /// Whether it held; `None` if it could not be evaluated.
    pub held: Option<bool>,
    /// What the paths in it stood for, in the order in which they appear.
    pub saw: Vec<(String, Json)>,
}

/// Where a step's time went, in milliseconds: the parts add up to the time from the run's creation, or from when its scope
/// opened, to the step's end, or to where it stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Times {
    /// Until its needs were met, or could not be met any more.
    #[serde(skip_serializing_if = "is_zero")]
    pub needs_ms: u64,
    /// Its turn had come, but no engine had taken it up: it was stopped, or busy with others.
    #[serde(skip_serializing_if = "is_zero")]
    pub engine_ms: u64,
    /// While its run was in line for its group.
    #[serde(skip_serializing_if = "is_zero")]
    pub group_ms: u64,
    /// Its turn had come, but it was paused, or its run was.
    #[serde(skip_serializing_if = "is_zero")]
    pub paused_ms: u64,
    /// While the cache was asked for its answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_ms: u64,
    /// In line for its pool.
    #[serde(skip_serializing_if = "is_zero")]
    pub pool_ms: u64,
    /// In attempts that came to an end of their own.
    #[serde(skip_serializing_if = "is_zero")]
    pub running_ms: u64,
    /// In attempts that were interrupted, until that was found.
    #[serde(skip_serializing_if = "is_zero")]
    pub interrupted_ms: u64,
    /// Between a failed attempt and the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub between_ms: u64,
    /// While the scopes that it opened went on.
    #[serde(skip_serializing_if = "is_zero")]
    pub scopes_ms: u64,
    /// Waiting for a time, a signal or somebody's word.
    #[serde(skip_serializing_if = "is_zero")]
    pub parked_ms: u64,
}

/// A part of a step's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// [`Times::needs_ms`].
    Needs,
    /// [`Times::group_ms`].
    Group,
    /// [`Times::engine_ms`].
    Engine,
    /// [`Times::paused_ms`].
    Paused,
    /// [`Times::cache_ms`].
    Cache,
    /// [`Times::pool_ms`].
    Pool,
    /// [`Times::running_ms`].
    Running,
    /// [`Times::interrupted_ms`].
    Interrupted,
    /// [`Times::between_ms`].
    Between,
    /// [`Times::scopes_ms`].
    Scopes,
    /// [`Times::parked_ms`].
    Parked,
}

impl Times {
    /// Each part with its milliseconds, in the order in which a step usually goes through them.
    pub fn parts(&self) -> [(Part, u64); 11] {
        [
            (Part::Group, self.group_ms),
            (Part::Needs, self.needs_ms),
            (Part::Engine, self.engine_ms),
            (Part::Paused, self.paused_ms),
            (Part::Cache, self.cache_ms),
            (Part::Pool, self.pool_ms),
            (Part::Running, self.running_ms),
            (Part::Interrupted, self.interrupted_ms),
            (Part::Between, self.between_ms),
            (Part::Scopes, self.scopes_ms),
            (Part::Parked, self.parked_ms),
        ]
    }

    /// All of it.
    pub fn total_ms(&self) -> u64 {
        self.parts().iter().map(|(_, ms)| ms).sum()
    }

    fn add(&mut self, part: Part, ms: u64) {
        *match part {
            Part::Needs => &mut self.needs_ms,
            Part::Group => &mut self.group_ms,
            Part::Engine => &mut self.engine_ms,
            Part::Paused => &mut self.paused_ms,
            Part::Cache => &mut self.cache_ms,
            Part::Pool => &mut self.pool_ms,
            Part::Running => &mut self.running_ms,
            Part::Interrupted => &mut self.interrupted_ms,
            Part::Between => &mut self.between_ms,
            Part::Scopes => &mut self.scopes_ms,
            Part::Parked => &mut self.parked_ms,
        } += ms;
    }
}

/// An attempt, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptAccount {
    /// Counts from 1.
    pub attempt: u32,
    /// When it was started, in milliseconds since the run's creation; `None` while it waits in line.
    pub after_ms: Option<u64>,
    /// How long it waited in line for its pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
    /// How long it took, once it has ended.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub end: Option<End>,
    /// What followed, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed(Failure),
    /// The engine stopped or died under it.
    Interrupted(Interruption),
    /// It was ended with its run, or because a join does not need its step any more.
    Cancelled,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Next {
    /// Another one.
    Again {
        /// After so many milliseconds.
        delay_ms: u64,
        /// Why so many.
        why: Delay,
        /// Which failure this was, counted from 1.
        failures: u32,
        /// How many there may be: `retry.attempts`.
        of: u32,
    },
    /// None.
    Never(Never),
    /// None by itself, but the scope that the step is in is tried again.
    WithScope,
}

/// Why a delay is as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Delay {
    /// The step asked for so long a wait.
    Asked,
    /// `retry` says so: `delay`, grown by `factor` with each failure.
    Grown {
        /// Before jitter.
        full_ms: u64,
        /// Whether it would be longer without `max-delay`.
        at_most: bool,
        /// Whether it was drawn between half of it and all of it.
        jitter: bool,
    },
}

/// Why there is no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Never {
    /// A failure of this kind does not go away.
    NotRetried,
    /// It was the last one of `retry.attempts`, of which there is more than one.
    AttemptsUsedUp,
    /// The step says nothing of `retry`, or that there is one attempt.
    OnlyOne,
    /// The run was cancelled or timed out.
    RunEnding,
    /// A join does not need the step any more.
    NotNeeded,
}

/// A bound that an attempt came near to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Near {
    /// Of which attempt.
    pub attempt: u32,
    /// Its name in `limit`, or `timeout`.
    pub limit: &'static str,
    /// How much was used, in the bound's unit: bytes, elements, for `timeout` milliseconds.
    pub used: u64,
    /// How much there may be.
    pub most: u64,
    /// The one of the other, rounded down.
    pub percent: u64,
    /// How much was dropped in order not to go over it: only of the log.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

impl Account {
    /// The account that these records give of a run of this plan. `now` is where a run stands that is not over: parts that
    /// have begun are counted until then, or until the latest record, whichever is later. A step in `focus` gets its input
    /// and the chain of what it was skipped for as well.
    pub fn of(
        plan: &Arc<Plan>,
        id: &RunId,
        records: &[Record],
        now: Timestamp,
        focus: Option<StepId>,
    ) -> Result<Account, Misplaced> {
        let mut teller = Teller::new(plan, id, focus);
        for record in records {
            teller.take_in(record)?;
            teller.look_at_tries(record);
        }
        teller.look_at_rates(records, now);
        Ok(teller.account(now))
    }

    /// Takes in that nobody drives the run: what was in flight is interrupted, though no engine lived to record it.
    pub fn stop(&mut self) {
        self.stopped = self.outcome.is_none();
        for step in self.steps.iter_mut().filter(|step| step.state == "running") {
            step.state = "interrupted";
        }
    }
}

/// Folds records into an account.
struct Teller<'p> {
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

/// What a skipped step was skipped for, at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Root {
    /// What became of a step; of the step itself, if it was its own rule, or the run's end.
    Step(StepId),
    /// That a join was decided.
    Join(StepId),
}

impl Root {
    fn step(self) -> StepId {
        match self {
            Root::Step(step) | Root::Join(step) => step,
        }
    }
}

/// What skipped steps are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    /// The run's end.
    Run,
    /// The end of a scope, which a step of it brought about.
    Ended(StepId),
    /// The end of a scope that was cancelled or timed out.
    Scope(ScopeId),
    Root(Root),
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
    fn new(plan: &'p Arc<Plan>, id: &RunId, focus: Option<StepId>) -> Teller<'p> {
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

    fn take_in(&mut self, record: &Record) -> Result<(), Misplaced> {
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

    fn account(mut self, now: Timestamp) -> Account {
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

    /// The scope whose end is the reason that a step is undone: the innermost around it that has not come to its own.
    fn undone_scope(&self, undo: StepId) -> ScopeId {
        let scopes = self.run.scopes();
        let mut scope = scopes.scope(undo);
        while let Some(opener) = scopes.place(scope).opener.filter(|opener| self.lives[opener.index()].ended.is_some())
        {
            scope = scopes.scope(opener);
        }
        scope
    }

    /// Why what was done in a scope is taken back: the first of its steps that failed, or else that its end was asked for.
    fn in_vain(&mut self, scope: ScopeId) -> Cause {
        if let Some(known) = self.in_vain.get(&scope) {
            return known.clone();
        }
        let cause = self.find_in_vain(scope);
        self.in_vain.insert(scope, cause.clone());
        cause
    }

    fn find_in_vain(&self, scope: ScopeId) -> Cause {
        let failed = self.run.scopes().steps_of(self.plan, scope);
        let failed = failed.filter(|step| self.steps[step.index()].end == Some(StepEnd::Failed));
        if let Some(first) = failed.min_by_key(|step| self.lives[step.index()].place) {
            return self.cause(Root::Step(first));
        }
        let of = self.run.scopes().scope_path(self.plan, scope);
        match (scope, self.timed_out.contains(&scope)) {
            (ScopeId::ROOT, true) => Cause::RunTimedOut,
            (ScopeId::ROOT, false) => Cause::RunCancelled,
            (_, timed_out) => Cause::ScopeEnded { of, timed_out },
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

    fn skipped(&mut self, step: StepId, reason: &SkipReason, at: Timestamp) {
        let decider = match reason {
            SkipReason::NeedNotMet { .. } | SkipReason::TooFewNeedsMet { .. } => self.decider(step),
            SkipReason::NotNeeded { by } => {
                let outermost = self.outermost(*by);
                let decided = self.lives[outermost.index()].decided.or_else(|| self.decider(outermost));
                self.lives[outermost.index()].decided = decided;
                decided
            }
            _ => None,
        };
        let waits = matches!(self.lives[step.index()].doing, Some((Part::Needs, _)));
        if let Some((decider, decided)) = decider.filter(|_| waits) {
            self.turn_to(step, Part::Engine, decided);
            self.lives[step.index()].skipped_after = Some(decider);
        }
        self.end(step, StepEnd::Skipped, at);
        let account = &mut self.steps[step.index()];
        account.skipped = Some(reason.explain(self.plan, self.run.scopes()));
        match reason {
            SkipReason::NeedNotMet { need, .. } => self.skipped_for(step, *need),
            SkipReason::TooFewNeedsMet { .. } => {
                let root = |need: StepId| self.lives[need.index()].root.unwrap_or(Root::Step(need));
                let mut unmet = self.unmet(step);
                let common = unmet.next().filter(|first| unmet.all(|need| root(need) == root(*first)));
                drop(unmet);
                match common {
                    Some(first) => self.skipped_for(step, first),
                    None => self.lives[step.index()].root = Some(Root::Step(step)),
                }
            }
            SkipReason::NotNeeded { by } => {
                let outermost = self.outermost(*by);
                let life = &mut self.lives[step.index()];
                life.root = Some(Root::Join(outermost));
                life.skipped_for = (outermost != *by).then_some(*by);
            }
            SkipReason::RuleFalse { rule, saw } => {
                account.rule = Some(RuleAccount { rule: rule.clone(), held: Some(false), saw: saw.clone() });
                self.lives[step.index()].root = Some(Root::Step(step));
            }
            SkipReason::ScopeEnded { .. }
            | SkipReason::ScopeCancelled
            | SkipReason::ScopeTimedOut
            | SkipReason::Asked { .. }
            | SkipReason::RunCancelled
            | SkipReason::RunTimedOut => {
                self.lives[step.index()].root = Some(Root::Step(step));
            }
        }
        let because = self.cause(self.lives[step.index()].root.unwrap_or(Root::Step(step)));
        let steps = vec![self.name(step)];
        self.tell(at, What::Skipped { because, steps });
    }

    /// Takes over the root of a need that was not met.
    fn skipped_for(&mut self, step: StepId, need: StepId) {
        let root = self.lives[need.index()].root;
        let life = &mut self.lives[step.index()];
        life.root = Some(root.unwrap_or(Root::Step(need)));
        life.skipped_for = root.map(|_| need);
    }

    /// Of the joins around this one that do not need what they are around any more, the outermost. What was found is kept
    /// on the way, so that joins in joins are looked through about once.
    fn outermost(&mut self, join: StepId) -> StepId {
        let outer = |teller: &Teller<'_>, join: StepId| {
            teller.lives[join.index()].outer.or_else(|| teller.run.unneeded_by(join))
        };
        let mut outermost = join;
        while let Some(found) = outer(self, outermost) {
            outermost = found;
        }
        let mut here = join;
        while let Some(found) = outer(self, here) {
            self.lives[here.index()].outer = Some(outermost);
            here = found;
        }
        outermost
    }

    /// The step whose end decided a join, be it for its start or against it, and when that was.
    fn decider(&self, join: StepId) -> Option<(StepId, Timestamp)> {
        let step = self.planned(join);
        let place = |step: StepId| self.lives[step.index()].place;
        let mut over: Vec<(u32, bool, StepId)> = Vec::with_capacity(step.needs.len());
        for need in &step.needs {
            let needed = self.beside(join, need.step);
            let end = self.steps[needed.index()].end;
            over.extend(end.map(|end| (place(needed), need.state.is_met_by(end), needed)));
        }
        over.sort_unstable();
        let (of, least) = (step.needs.len(), step.join.least(step.needs.len() as u32) as usize);
        let nth = |met: bool, index: usize| over.iter().filter(|(_, is_met, _)| *is_met == met).nth(index);
        let decided = match step.join {
            Join::Merge => over.last(),
            _ => least.checked_sub(1).and_then(|last| nth(true, last)).or_else(|| nth(false, of - least)),
        };
        // An always-step waits for all ordinary ones as well.
        let last = self.last_of_steps[self.run.scopes().scope(join).index()].filter(|_| step.always);
        let decider = decided.map(|(.., need)| *need).into_iter().chain(last).max_by_key(|step| place(*step))?;
        Some((decider, self.lives[decider.index()].ended?))
    }

    /// The steps that it needs in a state other than the one that they came to.
    fn unmet(&self, step: StepId) -> impl Iterator<Item = StepId> {
        let needs = self.planned(step).needs.iter().map(move |need| (self.beside(step, need.step), need.state));
        let is_unmet =
            |needed: StepId, state: NeedState| self.steps[needed.index()].end.is_some_and(|end| !state.is_met_by(end));
        needs.filter(move |(needed, state)| is_unmet(*needed, *state)).map(|(needed, _)| needed)
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

    /// Charges the time since it was charged last, and says what the step does from now on.
    fn turn_to(&mut self, step: StepId, part: Part, at: Timestamp) {
        if let Some((was, since)) = self.lives[step.index()].doing.replace((part, at)) {
            self.charge(step, was, since, at);
        }
    }

    /// Charges a time to what the step did then; where it only waited for its turn to be taken up, a pause is told apart.
    fn charge(&mut self, step: StepId, part: Part, since: Timestamp, until: Timestamp) {
        let stood = match part {
            Part::Engine | Part::Pool | Part::Cache if !self.pauses.is_empty() => self.paused_ms(step, since, until),
            _ => 0,
        };
        let times = &mut self.steps[step.index()].times;
        times.add(part, until.0.saturating_sub(since.0).saturating_sub(stood));
        times.add(Part::Paused, stood);
    }

    /// How long, within this time, the step was held back by one pause or another. They are in the order of their begin.
    fn paused_ms(&self, step: StepId, since: Timestamp, until: Timestamp) -> u64 {
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
    fn end_pauses(&mut self, at: Timestamp) {
        for (step, _, end) in self.pauses.iter_mut().filter(|(.., end)| end.is_none()) {
            if !self.run.is_paused(*step) {
                *end = Some(at);
            }
        }
    }

    /// Notes whether a step is in its scopes, or all of them are in line or wait to be tried again.
    fn look_at_line(&mut self, step: StepId, at: Timestamp) {
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

    /// The root of what was skipped, as it is told.
    fn cause(&self, root: Root) -> Cause {
        let step = match root {
            Root::Step(step) => step,
            Root::Join(join) => return Cause::NotNeeded { by: self.name(join) },
        };
        let account = &self.steps[step.index()];
        match (self.run.status(step).0, &account.rule) {
            (StepStatus::Skipped(SkipReason::ScopeEnded { by }), _) => Cause::Ended { by: self.name(*by) },
            (StepStatus::Skipped(SkipReason::ScopeCancelled), _) => {
                Cause::ScopeEnded { of: self.scope_name(step), timed_out: false }
            }
            (StepStatus::Skipped(SkipReason::ScopeTimedOut), _) => {
                Cause::ScopeEnded { of: self.scope_name(step), timed_out: true }
            }
            (StepStatus::Skipped(SkipReason::Asked { reason }), _) => Cause::Asked { reason: reason.clone() },
            (StepStatus::Skipped(SkipReason::RunCancelled), _) => Cause::RunCancelled,
            (StepStatus::Skipped(SkipReason::RunTimedOut), _) => Cause::RunTimedOut,
            (StepStatus::Skipped(SkipReason::RuleFalse { .. }), Some(rule)) => {
                Cause::Rule { step: account.step.clone(), rule: rule.clone() }
            }
            (StepStatus::Skipped(SkipReason::TooFewNeedsMet { possible, least, of }), _) => {
                let (possible, least, of) = (*possible, *least, *of);
                Cause::TooFewNeeds { step: account.step.clone(), possible, least, of }
            }
            _ => Cause::Step {
                step: account.step.clone(),
                end: account.end.unwrap_or(StepEnd::Skipped),
                failure: account.failure.clone(),
            },
        }
    }

    /// All skipped steps by their roots.
    fn skips(&self) -> Vec<Skips> {
        let mut skipped: Vec<usize> = (0..self.lives.len()).filter(|index| self.lives[*index].root.is_some()).collect();
        skipped.sort_by_key(|index| self.lives[*index].place);
        let mut groups: Vec<Skips> = Vec::new();
        // What one end kept from running is one group, whichever step it is told of.
        let mut places: HashMap<Group, usize> = HashMap::new();
        for index in skipped {
            let Some(root) = self.lives[index].root else { continue };
            let group = match (root, self.run.status(root.step()).0) {
                (Root::Step(_), StepStatus::Skipped(SkipReason::RunCancelled | SkipReason::RunTimedOut)) => Group::Run,
                (Root::Step(_), StepStatus::Skipped(SkipReason::ScopeEnded { by })) => Group::Ended(*by),
                (Root::Step(step), StepStatus::Skipped(SkipReason::ScopeCancelled | SkipReason::ScopeTimedOut)) => {
                    Group::Scope(self.run.scopes().scope(step))
                }
                _ => Group::Root(root),
            };
            let place = *places.entry(group).or_insert_with(|| {
                groups.push(Skips { because: self.cause(root), steps: Vec::new() });
                groups.len() - 1
            });
            groups[place].steps.push(self.steps[index].step.clone());
        }
        groups
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

impl What {
    /// Takes in what is of a kind with it, and gives back what is not.
    fn join(&mut self, other: What) -> Option<What> {
        match (self, other) {
            (What::Succeeded { steps }, What::Succeeded { steps: more }) => steps.extend(more),
            (What::Reused { run, steps }, What::Reused { run: again, steps: more }) if *run == again => {
                steps.extend(more);
            }
            (What::Cancelled { by, steps }, What::Cancelled { by: again, steps: more }) if *by == again => {
                steps.extend(more);
            }
            (What::Cut { by, steps }, What::Cut { by: again, steps: more }) if *by == again => steps.extend(more),
            (What::Interrupted { steps, cause }, What::Interrupted { steps: more, cause: again })
                if *cause == again =>
            {
                steps.extend(more);
            }
            (What::Skipped { because, steps }, What::Skipped { because: again, steps: more })
                if because.is_same(&again) =>
            {
                steps.extend(more);
            }
            (_, other) => return Some(other),
        }
        None
    }
}

impl Cause {
    /// The step that it is about; no step has an empty name.
    fn about(&self) -> &str {
        match self {
            Cause::Step { step, .. } | Cause::Rule { step, .. } | Cause::TooFewNeeds { step, .. } => step,
            Cause::NotNeeded { by } | Cause::Ended { by } => by,
            Cause::ScopeEnded { of, .. } => of,
            Cause::Asked { .. } | Cause::RunCancelled | Cause::RunTimedOut => "",
        }
    }

    /// Whether it is the same root. In one run, a step has only one end, and a join is decided once.
    fn is_same(&self, other: &Cause) -> bool {
        self.about() == other.about() && std::mem::discriminant(self) == std::mem::discriminant(other)
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

fn is_zero(n: &u64) -> bool {
    *n == 0
}
