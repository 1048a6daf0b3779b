//! What an account of a run consists of. The values serialise as they are, for programs.

use serde::Serialize;

use super::{Bottleneck, Link};
use crate::description::Digest;
use crate::event::{Failure, Interruption, NeedState, Origin, Outcome, Refusal, RunId, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{Join, is_default};

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

    pub(super) fn add(&mut self, part: Part, ms: u64) {
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
    /// Takes in that nobody drives the run: what was in flight is interrupted, though no engine lived to record it.
    pub fn stop(&mut self) {
        self.stopped = self.outcome.is_none();
        for step in self.steps.iter_mut().filter(|step| step.state == "running") {
            step.state = "interrupted";
        }
    }
}

impl What {
    /// Takes in what is of a kind with it, and gives back what is not.
    pub(super) fn join(&mut self, other: What) -> Option<What> {
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
    pub(super) fn about(&self) -> &str {
        match self {
            Cause::Step { step, .. } | Cause::Rule { step, .. } | Cause::TooFewNeeds { step, .. } => step,
            Cause::NotNeeded { by } | Cause::Ended { by } => by,
            Cause::ScopeEnded { of, .. } => of,
            Cause::Asked { .. } | Cause::RunCancelled | Cause::RunTimedOut => "",
        }
    }

    /// Whether it is the same root. In one run, a step has only one end, and a join is decided once.
    pub(super) fn is_same(&self, other: &Cause) -> bool {
        self.about() == other.about() && std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
