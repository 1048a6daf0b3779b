//! What is true about a workflow: names are indices, durations milliseconds, rules compiled, grants narrowed, components
//! pinned by digest. After a [`Plan`] exists, nobody asks whether something is valid.
//!
//! A run keeps the plan it started with, by digest: [`Plan::to_json`] is its canonical text, and a plan read back from it
//! is equal. Made by `resolve`; this file judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::capability::{Grant, Grants, Limits};
use crate::description::{Component, Digest};
use crate::event::NeedState;
use crate::json::Json;
use crate::region::Regions;
use crate::rule::{Rule, Template};
use crate::written::{Places, Written};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into the plan's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

index! {
    /// A step of the plan, by its place in it.
    StepNo
}
index! {
    /// A step of a run. The workflow's own come first, so that their ids are their places in the plan; each scope that
    /// opens adds the steps of its body (see [`Scopes`](crate::scope::Scopes)).
    StepId
}
index! {
    /// A body of steps: 0 is the workflow itself, and after it come the plan's bodies.
    BodyId
}
index! {
    /// A pool, by its place in the plan.
    PoolId
}
index! {
    /// A plugin, by its place in the plan.
    PluginId
}
index! {
    /// A signal, by its place in the plan.
    SignalId
}

/// A resolved workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The workflow's name.
    pub name: String,
    /// What it is for; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The absolute folder of the workflow's file: `${workflow.directory}`, and where relative grants start.
    pub directory: String,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    /// The whole run may take this long, in milliseconds since it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Of its runs, and of what is in line in them and says nothing of its own: higher ones come first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Which runs exclude each other as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// The pools that its steps name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// The plugins that its steps use.
    pub plugins: Vec<Plugin>,
    /// The workflow's own, then each body's, one body after another. Within a body: ordinary ones in the file's order,
    /// always-steps, those that undo others. No step needs itself, over any number of others, none one of another body, and no
    /// ordinary one an always-step.
    pub steps: Vec<Step>,
    /// The run's outputs, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// The signals that its steps wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// What its steps open: blocks, items, rounds and sub-workflows. [`BodyId`] 1 is the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bodies: Vec<Body>,
    /// What is laid over the workflow's file: `prod` of `prod.with.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// The policies that it was held against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Held>,
    /// Derived from the rest by [`Plan::link`].
    #[serde(skip)]
    links: Links,
}

/// What is asked of a plan at every event, derived once.
#[derive(Clone, Debug, Default)]
struct Links {
    /// The steps of each body, the workflow's first.
    bodies: Vec<Members>,
    /// For each step those that need it, each with the state it asks for.
    dependents: Vec<Vec<(StepNo, NeedState)>>,
    regions: Regions,
    /// Whether the end of a step may end others.
    has_cuts: bool,
    /// Whether a step is needed as one that has begun.
    has_starts: bool,
    canonical: Canonical,
}

/// The steps of a body.
#[derive(Clone, Debug, Default)]
struct Members {
    range: Range<u32>,
    by_name: HashMap<String, StepNo>,
    /// How many of them are ordinary ones, always-steps, and steps that undo others.
    kinds: [u32; 3],
}

/// A plan's canonical text and digest, once somebody has asked: a plan is kept by every run of it. A copy has to be asked
/// again, since it may be changed.
#[derive(Debug, Default)]
struct Canonical(OnceLock<(Arc<str>, Digest)>);

impl Clone for Canonical {
    fn clone(&self) -> Canonical {
        Canonical::default()
    }
}

/// An input of the workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Input {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// Whether a run must be given it. An input with a default is not required; one that is neither is `null` unless given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Taken when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// The only values allowed.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Json>,
    /// A regular expression that a string must match somewhere (anchor it with `^…$`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// For a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The types of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputType {
    /// Text.
    String,
    /// A whole number, -2^63 to 2^63 - 1.
    Integer,
    /// Any finite number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list of anything.
    List,
    /// A table of anything.
    Object,
}

/// A named pool, shared by all runs of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many attempts, scopes and waits may be in it at once; at least 1.
    pub size: u32,
    /// How many may be started in it within a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// So many starts within any window of this length, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// In milliseconds.
    pub window_ms: u64,
}

impl Rate {
    /// What a window may be, as it is written.
    pub const WINDOWS: [(&'static str, u64); 4] = [("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// Whether it lets fewer through in the long run.
    pub(crate) fn is_below(self, other: Rate) -> bool {
        u128::from(self.count) * u128::from(other.window_ms) < u128::from(other.count) * u128::from(self.window_ms)
    }
}

impl fmt::Display for Rate {
    /// As it is written: `10/min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = Rate::WINDOWS.iter().find(|(_, ms)| *ms == self.window_ms);
        match window {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            None => write!(f, "{}/{}ms", self.count, self.window_ms),
        }
    }
}

/// The most places of a pool, and those of one that has only a rate. 100,000: as many as a workflow has steps at most.
pub const POOL_SIZE_MAX: u32 = 100_000;

impl fmt::Display for Pool {
    /// What it lets through: `2 at once, 10/min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) if self.size == POOL_SIZE_MAX => write!(f, "{rate}"),
            Some(rate) => write!(f, "{} at once, {rate}", self.size),
            None => write!(f, "{} at once", self.size),
        }
    }
}

/// Which runs exclude each other as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Concurrency {
    /// A text with holes that mention inputs: runs for which it is the same do.
    pub group: Template,
    /// What becomes of a run while another one of its group is not over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_busy: WhenBusy,
}

/// What becomes of a run while another one of its group is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenBusy {
    /// It waits in line.
    #[default]
    Queue,
    /// Those before it are cancelled; it waits for their end.
    CancelRunning,
    /// It does not begin.
    Reject,
}

impl WhenBusy {
    /// How they are written.
    pub const WORDS: [(&'static str, WhenBusy); 3] =
        [("queue", WhenBusy::Queue), ("cancel-running", WhenBusy::CancelRunning), ("reject", WhenBusy::Reject)];
}

/// A policy that a plan was held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where it was.
    pub path: String,
    /// Of its text.
    pub digest: Digest,
    /// Its rules that speak of a step of the plan, by name, in the order of its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// A plugin as the workflow names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name in the workflow.
    pub name: String,
    /// What was loaded.
    pub component: Component,
    /// Absolute path of the `.wasm`, from which the component is loaded again; its digest must still be the same.
    pub path: String,
    /// Who had signed it when the plan was made, as far as that was looked at. It says what was found and decides nothing:
    /// whose signature counts is asked of policies, each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<Signer>,
}

/// Somebody who has signed a component: a signature was found right for this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The public key, `ed25519:…`.
    pub key: String,
    /// How a policy calls whoever has it; `None` if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Characters of a key that are shown: what says that it is one, and twelve of its own.
const KEY_SHOWN: usize = 20;

impl Signer {
    /// In a line, for people: the name, or else the beginning of the key.
    pub fn short(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("{}…", self.key.chars().take(KEY_SHOWN).collect::<String>()),
        }
    }
}

/// The name, or else the key.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or(&self.key))
    }
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// What must have happened before: as much of it as `join` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// Whether it runs once all ordinary steps have come to an end, whatever became of them and of the run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub always: bool,
    /// How many of its needs it takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub join: Join,
    /// What becomes of the steps that nothing else waits for, once it is decided whether this one starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rest: Rest,
    /// Whether it runs at all, asked once its needs are met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Rule>,
    /// What happens after a failure that may be gone next time.
    pub retry: Retry,
    /// Of one attempt, or of each scope that it opens, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The steps of its body that are ended, if they are not over, when this one succeeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancels: Vec<StepNo>,
    /// The step of its body that takes back what this one did, if it succeeded and its scope does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<StepNo>,
    /// The step of its body that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<StepNo>,
    /// Its place in the line of its pool: higher ones come first. The run's own, if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// What a step does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Attempts to run a component.
    Use(Box<Use>),
    /// Opens scopes: steps within the step.
    Open(Opens),
    /// Waits for a time, or for somebody.
    Wait(Wait),
    /// Ends its scope at once, successfully.
    Finish,
    /// Fails with this message (a string with holes), and ends its scope at once.
    Fail(Template),
}

/// What an attempt runs, and within which bounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Use {
    /// What runs.
    pub plugin: PluginId,
    /// The input, with holes.
    pub with: Template,
    /// Where its attempts queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    /// The bounds of its attempts.
    pub limits: Limits,
    /// What its attempts may do.
    pub grants: Grants,
    /// Where they are written.
    #[serde(default, skip_serializing_if = "Places::is_untold")]
    pub places: Places,
    /// Whether the cache is asked before an attempt, and keeps its answer. Its grants let it: see [`Grants::impurity`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub cache: bool,
}

impl Use {
    /// Takes a grant away.
    pub(crate) fn take(&mut self, grant: &Grant) {
        let at = self.grants.items().position(|item| item == *grant);
        self.grants.take(grant);
        at.into_iter().for_each(|at| self.places.take(at));
    }

    /// Where a grant of it is written, if the plan knows.
    pub fn place_of(&self, grant: &Grant) -> Option<&Written> {
        self.places.of(&self.grants, grant)
    }
}

/// The scopes that a step opens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Opens {
    /// The steps of each.
    pub body: BodyId,
    /// How many, and when.
    pub scopes: ScopeCount,
    /// The inputs of a sub-workflow: an object with holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Template>,
    /// Whether the step is over as soon as its scope is open, which then goes on by itself. The run waits for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub detached: bool,
    /// In which each of its scopes has a place, from before it opens until all of it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
}

/// How many scopes a step opens, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeCount {
    /// One.
    One,
    /// One for each item of a list.
    Each(Each),
    /// One after another.
    Rounds(Rounds),
}

/// One scope for each item of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Each {
    /// The list.
    pub list: Template,
    /// The steps beside it whose items are the list: it grows while they run. Of several, the nth item is made of the nth of
    /// each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<StepNo>,
    /// Asked whenever an item has ended: once it is true, the step has succeeded, whatever `join` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Rule>,
    /// How many scopes may be open at once; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// How many items have to succeed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub join: Join,
    /// What becomes of the others once that is decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rest: Rest,
}

/// Scopes one after another. A round that fails is the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rounds {
    /// Asked before each round; another is begun while it is true.
    #[serde(default, rename = "while", skip_serializing_if = "Option::is_none")]
    pub while_holds: Option<Rule>,
    /// Asked after each round; it was the last once it is true.
    #[serde(default, rename = "until", skip_serializing_if = "Option::is_none")]
    pub until: Option<Rule>,
    /// So many rounds at most, at least 1. With neither rule this is how many there are; with one, it is a failure if it
    /// still asks for another.
    pub max: u32,
    /// Between the end of one and the begin of the next, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delay_ms: u64,
}

/// What ends the waiting of a step: whatever comes first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wait {
    /// So many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// A time: a string with holes, `2026-12-24T18:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Template>,
    /// A signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalId>,
    /// Somebody's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// In which it has a place while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
}

/// Somebody's word on whether it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// Who may give it, in the words of the workflow's author; nobody is held to it yet.
    pub by: Vec<String>,
    /// What they are asked: a string with holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Template>,
}

/// A signal that steps wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Whether it is kept for the next step that waits for it when nobody does. Otherwise it is lost then.
    pub keep: bool,
}

/// The steps of a scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Body {
    /// Its steps in the plan's list.
    pub steps: Range<u32>,
    /// What a scope of it answers.
    pub answer: Answer,
    /// What else it has if it is a workflow of its own. The rules of its steps see nothing of what is around it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Box<SubWorkflow>>,
}

/// What a scope answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What its only step does: the scope is an item or a round of a step that opens no block.
    Step,
    /// An object of outputs, computed at the scope's end like those of a run.
    Outputs(Vec<Output>),
}

/// A workflow that is a step of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubWorkflow {
    /// Its name.
    pub name: String,
    /// The absolute folder of its file.
    pub directory: String,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    /// Of the whole scope, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Step {
    /// The table of the file that it is in, as a diagnostic or a hint calls it: `steps.NAME` or `always.NAME`.
    pub fn table(&self) -> String {
        format!("{}.{}", if self.always { "always" } else { "steps" }, self.name)
    }

    /// What it runs, if it runs a component itself.
    pub fn uses(&self) -> Option<&Use> {
        match &self.work {
            Work::Use(uses) => Some(uses),
            _ => None,
        }
    }

    /// Where its attempts, its waiting or its scopes queue.
    pub fn pool(&self) -> Option<PoolId> {
        match &self.work {
            Work::Use(uses) => uses.pool,
            Work::Open(Opens { pool, .. }) | Work::Wait(Wait { pool, .. }) => *pool,
            Work::Finish | Work::Fail(_) => None,
        }
    }

    /// What it opens, if it opens scopes.
    pub fn opens(&self) -> Option<&Opens> {
        match &self.work {
            Work::Open(opens) => Some(opens),
            _ => None,
        }
    }

    /// Which of [`StepKind`]'s it is.
    pub fn kind(&self) -> StepKind {
        match (self.undoes, self.always) {
            (Some(_), _) => StepKind::Undo,
            (None, true) => StepKind::Always,
            (None, false) => StepKind::Ordinary,
        }
    }
}

/// When a step's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// Once its needs are met.
    Ordinary,
    /// Once all ordinary ones of its scope have come to an end, and what is to be undone is.
    Always,
    /// When its scope takes back what the step did that it undoes.
    Undo,
}

/// A step that must have come to a certain end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Which.
    pub step: StepNo,
    /// To which.
    pub state: NeedState,
}

/// How many of a step's needs it takes to start it. A step without needs starts at once, whatever its join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// All. It is decided by the last need that is met, or the first that can't be any more.
    #[default]
    All,
    /// One. It is decided by the first need that is met, or the last that can't be any more.
    Any,
    /// One, once all have come to an end.
    Merge,
    /// So many, at least 1 and at most as many as there are.
    AtLeast(u32),
}

/// What a join makes of its needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It depends on those that are open.
    Open,
    /// The step may start.
    Start,
    /// It can't any more.
    Never,
}

impl Join {
    /// How many of so many needs have to be met, at least.
    pub fn least(self, needs: u32) -> u32 {
        match self {
            Join::All => needs,
            Join::Any | Join::Merge => needs.min(1),
            Join::AtLeast(least) => least.min(needs),
        }
    }

    /// What follows when, of so many needs, these are met and these can't be met any more.
    pub fn judge(self, needs: u32, met: u32, unmet: u32) -> Verdict {
        let least = self.least(needs);
        match met + unmet < needs {
            true if self == Join::Merge => Verdict::Open,
            _ if met >= least => Verdict::Start,
            _ if needs - unmet < least => Verdict::Never,
            _ => Verdict::Open,
        }
    }
}

/// What becomes of the steps that serve only a join, once the join is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// They go on.
    #[default]
    Wait,
    /// They are ended: what has not started is skipped, what is in flight is cancelled.
    Cancel,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// When a failed attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retry {
    /// Failed attempts at most, the first included; at least 1.
    pub attempts: u32,
    /// Before the second attempt, in milliseconds.
    pub delay_ms: u64,
    /// By which the delay grows from one retry to the next; at least 1.
    pub factor: f64,
    /// The delay's bound, in milliseconds. The guest's own `retry-after` may be longer.
    pub max_delay_ms: u64,
    /// Whether each delay is drawn evenly from half of it to all of it, by the run's seed ("equal jitter", M. Brooker,
    /// Exponential Backoff And Jitter, AWS 2015).
    pub jitter: bool,
}

impl Default for Retry {
    /// One attempt. When only `attempts` is given: after 1 s, then doubled, up to 5 minutes, with jitter.
    fn default() -> Retry {
        Retry { attempts: 1, delay_ms: 1_000, factor: 2.0, max_delay_ms: 300_000, jitter: true }
    }
}

/// One of the run's outputs. It may mention any step: it is computed at the run's end, and left out if it mentions a step
/// that did not succeed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its value, with holes.
    pub value: Template,
}

impl Plan {
    /// A plan of these steps and nothing else; fill in the rest, then [`Plan::link`] it.
    pub fn new(name: impl Into<String>, plugins: Vec<Plugin>, steps: Vec<Step>) -> Plan {
        let plan = Plan {
            name: name.into(),
            description: String::new(),
            directory: String::new(),
            inputs: BTreeMap::new(),
            timeout_ms: None,
            priority: 0,
            concurrency: None,
            pools: Vec::new(),
            plugins,
            steps,
            outputs: Vec::new(),
            signals: Vec::new(),
            bodies: Vec::new(),
            environments: Vec::new(),
            policies: Vec::new(),
            links: Links::default(),
        };
        plan.link()
    }

    /// Derives what a run looks up at every event. To be called after the steps have changed.
    pub fn link(mut self) -> Plan {
        let mut dependents = vec![Vec::new(); self.steps.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for need in &step.needs {
                dependents[need.step.index()].push((StepNo(index as u32), need.state));
            }
        }
        let own = 0..self.bodies.first().map_or(self.steps.len() as u32, |body| body.steps.start);
        let ranges = std::iter::once(own).chain(self.bodies.iter().map(|body| body.steps.clone()));
        let members = ranges.map(|range| {
            let mut members =
                Members { range: range.clone(), by_name: HashMap::with_capacity(range.len()), kinds: [0; 3] };
            for at in range {
                let step = &self.steps[at as usize];
                members.by_name.insert(step.name.clone(), StepNo(at));
                members.kinds[step.kind() as usize] += 1;
            }
            members
        });
        let bodies = members.collect();
        let is_plain = |step: &Step| matches!(step.work, Work::Use(_) | Work::Wait(_));
        let has_cuts = !self.steps.iter().all(|step| is_plain(step) && step.cancels.is_empty());
        let has_starts = dependents.iter().flatten().any(|(_, state)| *state == NeedState::Started);
        self.links = Links {
            bodies,
            dependents,
            regions: Regions::default(),
            has_cuts,
            has_starts,
            canonical: Canonical::default(),
        };
        self.links.regions = Regions::of(&self);
        self.links.has_cuts |= !self.links.regions.is_empty();
        self
    }

    /// The workflow's own step of this name, as it is in every run.
    pub fn step_named(&self, name: &str) -> Option<StepId> {
        self.named_in(BodyId(0), name).map(|no| StepId(no.0))
    }

    /// The step of this name in a body.
    pub fn named_in(&self, body: BodyId, name: &str) -> Option<StepNo> {
        self.links.bodies[body.index()].by_name.get(name).copied()
    }

    /// The places in the plan of a body's steps.
    pub fn steps_of(&self, body: BodyId) -> Range<u32> {
        self.links.bodies[body.index()].range.clone()
    }

    /// The workflow and its sub-workflows, each body apart, in the order of the steps: the name and the absolute folder of
    /// the file that the body is in, and its steps' places.
    pub fn workflows(&self) -> Vec<(&str, &str, Range<usize>)> {
        let mut around: Vec<Option<BodyId>> = vec![None; self.bodies.len() + 1];
        for at in (0..=self.bodies.len() as u32).map(BodyId) {
            for step in &self.steps[self.range(at)] {
                let Some(opens) = step.opens() else { continue };
                around[opens.body.index()] = Some(at);
            }
        }
        let whole = |body: BodyId| {
            // A file's blocks are bodies further in; a sub-workflow that opens itself is one of its own.
            let mut here = body;
            loop {
                match (self.body(here).and_then(|body| body.workflow.as_deref()), around[here.index()]) {
                    (Some(workflow), _) => return (workflow.name.as_str(), workflow.directory.as_str()),
                    (None, Some(outer)) => here = outer,
                    (None, None) => return (self.name.as_str(), self.directory.as_str()),
                }
            }
        };
        let bodies = (0..=self.bodies.len() as u32).map(BodyId);
        bodies
            .map(|body| {
                let (name, directory) = whole(body);
                (name, directory, self.range(body))
            })
            .collect()
    }

    fn range(&self, body: BodyId) -> Range<usize> {
        let Range { start, end } = self.steps_of(body);
        start as usize..end as usize
    }

    /// The workflow's own steps: without those of its bodies.
    pub fn own_steps(&self) -> &[Step] {
        &self.steps[..self.steps_of(BodyId(0)).end as usize]
    }

    /// How many of a body's steps are of each [`StepKind`].
    pub(crate) fn kinds_of(&self, body: BodyId) -> [u32; 3] {
        self.links.bodies[body.index()].kinds
    }

    /// What a body is; `None` of the workflow itself.
    pub fn body(&self, body: BodyId) -> Option<&Body> {
        self.bodies.get(body.index().checked_sub(1)?)
    }

    /// The outputs of a body; none if it answers what its only step does.
    pub fn outputs_of(&self, body: BodyId) -> &[Output] {
        match self.body(body).map(|body| &body.answer) {
            None => &self.outputs,
            Some(Answer::Outputs(outputs)) => outputs,
            Some(Answer::Step) => &[],
        }
    }

    /// The step at this place.
    pub fn step(&self, no: StepNo) -> &Step {
        &self.steps[no.index()]
    }

    /// The steps that need this one, and the state that each asks for.
    pub fn dependents(&self, no: StepNo) -> &[(StepNo, NeedState)] {
        &self.links.dependents[no.index()]
    }

    /// The steps that serve this join and no other that cancels its rest: every way from them leads to it. None unless
    /// its `rest` is [`Rest::Cancel`]. The regions of the joins among them belong to its own as well.
    pub fn region(&self, join: StepNo) -> &[StepNo] {
        self.links.regions.served_by(join)
    }

    /// Whether the end of a step may end others: the losers of a join, the rest of a scope.
    pub(crate) fn has_cuts(&self) -> bool {
        self.links.has_cuts
    }

    /// Whether a step is needed as one that has begun.
    pub(crate) fn has_starts(&self) -> bool {
        self.links.has_starts
    }

    /// The canonical text, and its digest. Made at the first call; a plan is not changed after that.
    pub fn to_json(&self) -> (Arc<str>, Digest) {
        let make = || {
            let text = serde_json::to_string(self).expect("a plan holds nothing that JSON can't");
            let digest = Digest::of(text.as_bytes());
            (text.into(), digest)
        };
        self.links.canonical.0.get_or_init(make).clone()
    }

    /// The plan without the lines that its grants are written in.
    pub fn without_places(&self) -> Plan {
        let mut plan = self.clone();
        for step in &mut plan.steps {
            if let Work::Use(uses) = &mut step.work {
                uses.places = Places::default();
            }
        }
        plan
    }

    /// Whether another plan is the same but for where its grants are written: its canonical text is, without that.
    pub fn does_the_same(&self, other: &Plan) -> bool {
        self.to_json().1 == other.to_json().1 || self.without_places().to_json().1 == other.without_places().to_json().1
    }

    /// Reads the canonical text back, compiling its rules again.
    pub fn from_json(text: &str) -> Result<Plan, serde_json::Error> {
        serde_json::from_str(text).map(Plan::link)
    }
}
