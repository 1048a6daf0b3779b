//! What happened to a run: facts in the past tense, journaled before anyone acts on them.
//!
//! An event is small and self-contained; what can be derived from the plan and earlier events is not repeated in it (an
//! attempt's input, for one). The JSON form is the journal's and `--json`'s: externally tagged, additive.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capability::Protection;
use crate::description::Digest;
use crate::json::Json;
use crate::plan::{Plan, PoolId, StepId, is_default};
use crate::scope::Scopes;

/// Milliseconds since the Unix epoch (UTC), always handed in by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This many milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }
}

/// A run's id: unique in its journal, short enough to type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub std::sync::Arc<str>);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event and when it happened: what the journal keeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// As the driver's clock said.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A fact of a run's life. Attempts count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// Always the first.
    RunCreated {
        /// The workflow's name.
        workflow: String,
        /// Of the plan that this run keeps.
        plan: Digest,
        /// An object with every declared input, defaults filled in.
        inputs: Json,
        /// Where the run's jitter comes from.
        seed: u64,
        /// Of what is in line for a pool and has none of its own.
        #[serde(default, skip_serializing_if = "is_default")]
        priority: i32,
        /// Whose other runs it excludes. It waits until it is admitted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// The run whose answers it takes over, if it does again a part of another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rerun_of: Option<RunId>,
    },
    /// The run is the only one of its group from here to its end.
    RunAdmitted,
    /// The attempt waits for a place in its pool.
    AttemptQueued {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// Where.
        pool: PoolId,
    },
    /// A step that waits is in line for a place in its pool, which it has while it waits.
    WaitQueued {
        /// Which.
        step: StepId,
        /// Where.
        pool: PoolId,
    },
    /// A scope that is to be opened is in line for a place in the pool of its step, which it has until it is over.
    ScopeQueued {
        /// The step.
        step: StepId,
        /// Which of its items or rounds it is, from 0.
        index: u32,
        /// Where.
        pool: PoolId,
    },
    /// Before an attempt of a step with `cache`, the cache is asked whether it has the answer. If it has none, the attempt
    /// is queued or started.
    CacheAsked {
        /// Which.
        step: StepId,
    },
    /// The cache had the answer: the step succeeded without an attempt.
    CacheHit {
        /// Which.
        step: StepId,
        /// What the attempt of the origin answered.
        output: Json,
        /// Of the answer: what it depends on, see [`cache`](crate::cache).
        key: Digest,
        /// Whose answer it is.
        origin: Box<Origin>,
    },
    /// From here on the attempt may have had effects.
    AttemptStarted {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
    },
    /// A running step appended to its list of items: what a `foreach` over it works on, also while the step still runs.
    ItemsAppended {
        /// Whose list.
        step: StepId,
        /// How many items it had before. What a repeated attempt appends again is not appended.
        from: u32,
        /// In their order.
        items: Vec<Json>,
    },
    /// An attempt is about to do something that leaves the engine, and that it was granted. What it does within (files,
    /// variables, clocks) is told by how it ended.
    CapabilityUsed {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// What.
        used: Box<Used>,
    },
    /// The attempt, and with it the step, succeeded.
    AttemptSucceeded {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// What it answered.
        output: Json,
        /// What it used.
        usage: Usage,
    },
    /// The attempt failed. Whether it is tried again follows from the plan.
    AttemptFailed {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// What it used.
        usage: Usage,
    },
    /// The engine stopped or died under the attempt. The step starts again when the run is resumed; this attempt does
    /// not count as one of `retry.attempts`.
    AttemptInterrupted {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// How.
        cause: Interruption,
    },
    /// The attempt was ended because its run was cancelled or timed out, or a join does not need its step any more.
    AttemptCancelled {
        /// Whose.
        step: StepId,
        /// Which.
        attempt: u32,
        /// What it used.
        usage: Usage,
    },
    /// The run was cancelled or timed out while the step waited for its next attempt, or a join does not need it any
    /// more.
    StepCancelled {
        /// Which.
        step: StepId,
    },
    /// A step that opens scopes, or waits, has begun.
    StepOpened {
        /// Which.
        step: StepId,
    },
    /// A step opened a scope: it begins. When it ends follows from its steps.
    ScopeOpened {
        /// The step.
        step: StepId,
        /// Which of the step's items or rounds it is, from 0. One that was there before is tried again.
        index: u32,
    },
    /// A scope took longer than the `timeout` of its step. Attempts in flight in it are cancelled, nothing new is started in
    /// it.
    ScopeTimedOut {
        /// The step that opened it.
        step: StepId,
        /// Which of its scopes.
        index: u32,
    },
    /// A step that runs no component itself succeeded: its scopes did, its waiting is over, or it is an end.
    StepSucceeded {
        /// Which.
        step: StepId,
        /// What ended its waiting; the answers of scopes follow from their steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
    },
    /// The step succeeded without an attempt, nor anything else of it: its answer is taken over from another run.
    StepReused {
        /// Which.
        step: StepId,
        /// What it answered there.
        output: Json,
        /// What it appended there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<Json>,
        /// Where.
        origin: Box<Origin>,
    },
    /// The step failed without an attempt: a rule of its own did, its scopes did, or it is there to fail.
    StepFailed {
        /// Which.
        step: StepId,
        /// Why.
        failure: Failure,
    },
    /// The step will not run.
    StepSkipped {
        /// Which.
        step: StepId,
        /// Why.
        reason: SkipReason,
    },
    /// Somebody sent a signal.
    SignalReceived {
        /// Its name.
        signal: String,
        /// What came with it; null without anything.
        data: Json,
    },
    /// Somebody gave their word on a step that waits for it.
    ApprovalGiven {
        /// The step.
        step: StepId,
        /// Whether it goes on.
        approved: bool,
        /// Who, in their own words.
        by: String,
        /// What else they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// The operating system's number of the user whose process said it, on the machine where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// Somebody asked that nothing new be started: of a step and what is within it, or of the whole run. What is in flight comes
    /// to its end.
    Paused {
        /// Which; `None` of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// In the words of whoever asked.
        reason: String,
    },
    /// A pause is over: somebody said so, or the end of what was paused was asked for.
    Unpaused {
        /// Of which step; `None` of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
    },
    /// Somebody asked for the end of a step: of its attempts in flight, its waiting, its scopes.
    StepCancelRequested {
        /// Which.
        step: StepId,
        /// In the words of whoever asked.
        reason: String,
    },
    /// Somebody asked for the run's end. Attempts in flight are cancelled, nothing new is started.
    CancelRequested {
        /// In the words of whoever asked.
        reason: String,
    },
    /// The workflow's `timeout` passed. Attempts in flight are cancelled, nothing new is started.
    RunTimedOut,
    /// Always the last.
    RunFinished {
        /// How.
        outcome: Outcome,
        /// The workflow's outputs: an object; those whose rule failed are left out and listed in `faults`.
        outputs: Json,
        /// Outputs that could not be computed, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        faults: Vec<String>,
    },
}

impl Event {
    /// The step that comes to its end with it, if it is not tried again.
    pub fn ends_step(&self) -> Option<StepId> {
        match self {
            Event::AttemptSucceeded { step, .. }
            | Event::AttemptFailed { step, .. }
            | Event::AttemptCancelled { step, .. } => Some(*step),
            event => event.ended_step(),
        }
    }

    /// The step that has come to its end with it, without an attempt.
    pub fn ended_step(&self) -> Option<StepId> {
        match self {
            Event::StepSucceeded { step, .. }
            | Event::StepReused { step, .. }
            | Event::CacheHit { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepSkipped { step, .. }
            | Event::StepCancelled { step } => Some(*step),
            _ => None,
        }
    }
}

/// Where an answer comes from that was not worked for in this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run that executed the step. It may be gone by now.
    pub run: RunId,
    /// What it called the step.
    pub step: String,
    /// When that succeeded.
    pub at: Timestamp,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No step failed.
    Succeeded,
    /// At least one step failed, also if another one took care of it; or an output could not be computed.
    Failed,
    /// Somebody asked.
    Cancelled,
    /// The workflow's `timeout` passed.
    TimedOut,
}

/// Why an attempt was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interruption {
    /// It was in flight when the engine died; found on recovery.
    Crash,
    /// The engine was stopped in an orderly way and ended it.
    Stop,
}

/// Why a step was skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum SkipReason {
    /// A need can't be met any more.
    NeedNotMet {
        /// The step that is needed.
        need: StepId,
        /// The state that it is needed in.
        wanted: NeedState,
        /// The state that it ended in.
        was: StepEnd,
    },
    /// So many of its needs can't be met any more that its join can't start it.
    TooFewNeedsMet {
        /// How many are met, or still may be.
        possible: u32,
        /// How many it takes.
        least: u32,
        /// How many needs it has.
        of: u32,
    },
    /// It serves only a join with `rest = "cancel"`, and that is decided.
    NotNeeded {
        /// The join.
        by: StepId,
    },
    /// `when` was false.
    RuleFalse {
        /// The rule's text.
        rule: String,
        /// What the paths in it stood for, in the order in which they appear.
        saw: Vec<(String, Json)>,
    },
    /// Another step of its scope ended the scope.
    ScopeEnded {
        /// Which.
        by: StepId,
    },
    /// Its scope was cancelled before the step's turn.
    ScopeCancelled,
    /// Its scope timed out before the step's turn.
    ScopeTimedOut,
    /// Somebody cancelled the step before its turn.
    Asked {
        /// In their words.
        reason: String,
    },
    /// The run was cancelled before the step's turn.
    RunCancelled,
    /// The run timed out before the step's turn.
    RunTimedOut,
}

/// How many of the values that a rule saw are told in a sentence; the record has all of them.
const SAW_SHOWN: usize = 4;

impl SkipReason {
    /// The reason in a sentence.
    pub fn explain(&self, plan: &Plan, scopes: &Scopes) -> String {
        let name = |step: StepId| scopes.step(plan, step).map_or("?", |step| step.name.as_str());
        match self {
            SkipReason::NeedNotMet { need, wanted, was } => {
                let name = name(*need);
                let wanted = match wanted {
                    NeedState::Succeeded => "succeed",
                    NeedState::Failed => "fail",
                    NeedState::Skipped => "be skipped",
                    NeedState::Finished => "finish",
                    NeedState::Started => "start",
                };
                let was = match was {
                    StepEnd::Succeeded => "succeeded",
                    StepEnd::Failed => "failed",
                    StepEnd::Skipped => "was skipped",
                    StepEnd::Cancelled => "was cancelled",
                };
                format!("it needs `{name}` to {wanted}, but `{name}` {was}")
            }
            SkipReason::TooFewNeedsMet { possible, least, of } => {
                let possible = match possible {
                    0 => "none".to_owned(),
                    possible => format!("only {possible}"),
                };
                format!("it takes {least} of its {of} needs, but {possible} can be met")
            }
            SkipReason::NotNeeded { by } => format!("`{}` does not need it any more", name(*by)),
            SkipReason::RuleFalse { rule, saw } => {
                let mut seen: Vec<String> =
                    saw.iter().take(SAW_SHOWN).map(|(path, value)| format!("{path} is {value}")).collect();
                if saw.len() > SAW_SHOWN {
                    seen.push(format!("and {} more", saw.len() - SAW_SHOWN));
                }
                let place = if seen.is_empty() { "" } else { ", where " };
                let rule: Vec<&str> = rule.split_whitespace().collect();
                format!("`when` was false: {}{place}{}", rule.join(" "), seen.join(", "))
            }
            SkipReason::ScopeEnded { by } => format!("`{}` ended it all before its turn", name(*by)),
            SkipReason::ScopeCancelled => "what it belongs to was cancelled before its turn".to_owned(),
            SkipReason::ScopeTimedOut => "what it belongs to timed out before its turn".to_owned(),
            SkipReason::Asked { reason } => format!("it was cancelled before its turn: {reason}"),
            SkipReason::RunCancelled => "the run was cancelled before its turn".to_owned(),
            SkipReason::RunTimedOut => "the run timed out before its turn".to_owned(),
        }
    }
}

/// The state that a need asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeedState {
    /// The default.
    Succeeded,
    /// It failed, all its attempts included.
    Failed,
    /// It was skipped.
    Skipped,
    /// It came to any end.
    Finished,
    /// It has begun: its first attempt has, or its waiting, or it is about to open scopes. One that failed before counts as well.
    Started,
}

/// The end that a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepEnd {
    /// An attempt succeeded.
    Succeeded,
    /// The last attempt failed, or a rule did.
    Failed,
    /// It did not run.
    Skipped,
    /// It was ended with its run.
    Cancelled,
}

/// Why an attempt or a step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// What the engine branches on.
    pub kind: FailureKind,
    /// For a person.
    pub message: String,
    /// Facts, as the guest gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
    /// Where in the guest, innermost frame first; for traps, time-outs and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// The guest asked not to be tried again sooner than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum FailureKind {
    /// The guest: its input is wrong. Not retried.
    InvalidInput,
    /// The guest: try again. Retried.
    Transient,
    /// The guest: trying again is no use. Not retried.
    Permanent,
    /// The guest broke down: a panic, an unreachable instruction, a memory fault, a stack overflow. Not retried: an
    /// ungranted guest does the same again.
    Trap,
    /// The attempt took longer than its `timeout`. Retried.
    TimedOut,
    /// The attempt went over a bound. Not retried.
    Limit {
        /// The bound's name in `limit`.
        limit: String,
    },
    /// The guest's answer is no JSON. Not retried.
    InvalidOutput,
    /// The component could not be loaded or the host failed around it (disk, memory). Retried.
    Host,
    /// A rule or an interpolation of the step failed. Not retried.
    Rule,
    /// Something in a scope that the step opened failed. The step's `retry` opens it again.
    Scope,
    /// Somebody who was asked said no.
    Rejected,
}

impl FailureKind {
    /// Whether `retry` applies.
    pub fn is_retryable(&self) -> bool {
        matches!(self, FailureKind::Transient | FailureKind::TimedOut | FailureKind::Host)
    }
}

impl fmt::Display for FailureKind {
    /// In a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::InvalidInput => "invalid input",
            FailureKind::Transient => "transient",
            FailureKind::Permanent => "permanent",
            FailureKind::Trap => "trap",
            FailureKind::TimedOut => "timed out",
            FailureKind::Limit { limit } => return write!(f, "over the limit `{limit}`"),
            FailureKind::InvalidOutput => "invalid output",
            FailureKind::Host => "the engine could not carry it out",
            FailureKind::Rule => "a rule failed",
            FailureKind::Scope => "a step within it failed",
            FailureKind::Rejected => "rejected",
        })
    }
}

/// What an attempt used of its bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Usage {
    /// Wall time, microseconds.
    pub wall_us: u64,
    /// CPU time of the guest's thread while it ran guest or host code for it, microseconds: for each of its turns at most a
    /// millisecond too much. Native programs are counted apart.
    pub cpu_us: u64,
    /// CPU time of native programs, microseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub process_cpu_us: u64,
    /// Peak of the linear memories, bytes.
    pub memory_peak: u64,
    /// Bytes of input.
    pub bytes_in: u64,
    /// Bytes of output.
    pub bytes_out: u64,
    /// Bytes of log kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_bytes: u64,
    /// Bytes of log dropped by the limit `log`.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_dropped: u64,
    /// Peak of table elements.
    #[serde(skip_serializing_if = "is_zero")]
    pub table_elements_peak: u64,
    /// What is to be told of native programs, if there is anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Box<Programs>>,
    /// Capabilities that the guest asked for and was refused, each once. Slices, so that an event takes no more room than need
    /// be: every turn moves some.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub refusals: Box<[Refusal]>,
    /// Capabilities that it used and that have no records of their own: what stays within the engine, and what came after
    /// as many as an attempt may have.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub used: Box<[Used]>,
}

/// A capability that was used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Used {
    /// The grant's name.
    pub capability: String,
    /// What was done, or with what: a program with its arguments, a request's method and address, a path. Empty if it was
    /// only counted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// What allowed it: the item of the grant, as it is written.
    pub grant: String,
    /// How often; 1 if nothing is said.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u64,
    /// Whether it is a variable that was looked for and is not set: then there was nothing to use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unset: bool,
}

fn once() -> u64 {
    1
}

fn is_once(count: &u64) -> bool {
    *count == 1
}

/// What native programs of an attempt were seen to use, and had to do without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Programs {
    /// Most memory that one of them and what it started held together, bytes. Looked at now and then: a program that takes
    /// less than a tenth of a second may not have been seen.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_peak: u64,
    /// Most processes that one of them was seen to have at once, itself included.
    #[serde(skip_serializing_if = "is_zero")]
    pub processes_peak: u64,
    /// Protections that they ran without, as this system does not have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unprotected: Vec<Protection>,
}

/// A capability that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The grant's name.
    pub capability: String,
    /// What was asked for.
    pub wanted: String,
    /// The TOML line that would allow it, `grant = { … }`; or, if another key took it away, which one.
    pub hint: String,
}

impl Refusal {
    /// The line of TOML that would allow it; `None` if another key took it away, so that none would. That it begins so is the
    /// contract of `wit/types.wit`: plugins tell the two apart as well.
    pub fn line(&self) -> Option<&str> {
        self.hint.starts_with("grant = ").then_some(&*self.hint)
    }

    /// What there is to do about it, `table` being the step's table in the workflow.
    pub fn advice(&self, table: &str) -> String {
        match self.line() {
            Some(line) => format!("to allow it, set in [{table}]: {line}"),
            None => self.hint.clone(),
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
