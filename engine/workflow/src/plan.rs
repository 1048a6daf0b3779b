//! What is true about a workflow: names are indices, durations milliseconds, rules compiled, grants narrowed, components
//! pinned by digest. After a [`Plan`] exists, nobody asks whether something is valid.
//!
//! A run keeps the plan it started with, by digest: [`Plan::to_json`] is its canonical text, and a plan read back from it
//! is equal. Made by `resolve`; this file judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::capability::{Grants, Limits};
use crate::description::{Component, Digest};
use crate::event::NeedState;
use crate::json::Json;
use crate::region::Regions;
use crate::rule::{Rule, Template};

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
    /// A step, by its place in the file.
    StepId
}
index! {
    /// A pool, by its place in the plan.
    PoolId
}
index! {
    /// A plugin, by its place in the plan.
    PluginId
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
    /// The pools that its steps name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// The plugins that its steps use.
    pub plugins: Vec<Plugin>,
    /// In the file's order, ordinary ones first; no step needs itself, over any number of others, and no ordinary one an
    /// always-step.
    pub steps: Vec<Step>,
    /// The run's outputs, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// Derived from the rest by [`Plan::link`].
    #[serde(skip)]
    links: Links,
}

/// What is asked of a plan at every event, derived once.
#[derive(Clone, Debug, Default)]
struct Links {
    by_name: HashMap<String, StepId>,
    /// For each step those that need it, each with the state it asks for.
    dependents: Vec<Vec<(StepId, NeedState)>>,
    regions: Regions,
    canonical: Canonical,
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
    /// How many attempts may run in it at once; at least 1.
    pub size: u32,
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
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What runs.
    pub plugin: PluginId,
    /// The input, with holes.
    pub with: Template,
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
    /// Of one attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Where its attempts queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    /// The bounds of its attempts.
    pub limits: Limits,
    /// What its attempts may do.
    pub grants: Grants,
}

impl Step {
    /// The table of the file that it is in, as a diagnostic or a hint calls it: `steps.NAME` or `always.NAME`.
    pub fn table(&self) -> String {
        format!("{}.{}", if self.always { "always" } else { "steps" }, self.name)
    }
}

/// A step that must have come to a certain end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Which.
    pub step: StepId,
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
            pools: Vec::new(),
            plugins,
            steps,
            outputs: Vec::new(),
            links: Links::default(),
        };
        plan.link()
    }

    /// Derives what a run looks up at every event. To be called after the steps have changed.
    pub fn link(mut self) -> Plan {
        let mut dependents = vec![Vec::new(); self.steps.len()];
        let mut by_name = HashMap::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let id = StepId(index as u32);
            by_name.insert(step.name.clone(), id);
            for need in &step.needs {
                dependents[need.step.index()].push((id, need.state));
            }
        }
        self.links = Links { by_name, dependents, regions: Regions::default(), canonical: Canonical::default() };
        self.links.regions = Regions::of(&self);
        self
    }

    /// The step of this name.
    pub fn step_named(&self, name: &str) -> Option<StepId> {
        self.links.by_name.get(name).copied()
    }

    /// The step of this id.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.index()]
    }

    /// The steps that need this one, and the state that each asks for.
    pub fn dependents(&self, id: StepId) -> &[(StepId, NeedState)] {
        &self.links.dependents[id.index()]
    }

    /// The steps that serve this join and no other that cancels its rest: every way from them leads to it. None unless
    /// its `rest` is [`Rest::Cancel`]. The regions of the joins among them belong to its own as well.
    pub fn region(&self, join: StepId) -> &[StepId] {
        self.links.regions.served_by(join)
    }

    /// Whether some step serves only a join that cancels its rest.
    pub fn has_regions(&self) -> bool {
        !self.links.regions.is_empty()
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

    /// Reads the canonical text back, compiling its rules again.
    pub fn from_json(text: &str) -> Result<Plan, serde_json::Error> {
        serde_json::from_str(text).map(Plan::link)
    }
}
