//! What an attempt is to the conductor: something that takes an order and comes back with an end.
//!
//! Two things perform: the sandbox, and scripts in virtual time.

use std::future::Future;
use std::sync::Arc;

use downbeat_sandbox::{Ended, Observer};
use downbeat_workflow::event::{Record, RunId};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{Plan, StepId, StepNo};

use crate::ask::Key;

/// One attempt to be carried out.
#[derive(Clone, Debug)]
pub struct Order {
    /// Of which run.
    pub run: RunId,
    /// The run's plan.
    pub plan: Arc<Plan>,
    /// Which step of the run.
    pub step: StepId,
    /// Which step of the plan that is.
    pub no: StepNo,
    /// How people call the step; `None` if that is its name in the plan.
    pub path: Option<String>,
    /// Counts from 1.
    pub attempt: u32,
    /// The same for every attempt of this step in this run.
    pub idempotency_key: String,
    /// The step's input.
    pub input: Json,
    /// The run's seed.
    pub seed: u64,
}

/// Why a plan can't be performed; for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// A component is not at hand, or no good.
    #[error("{0}")]
    Component(String),
    /// The engine's own folders can't be used.
    #[error("{0}")]
    Storage(String),
}

/// Carries attempts out.
pub trait Perform: Send + Sync + 'static {
    /// What attempts of one plan have in common. Cheap to clone.
    type Prepared: Clone + Send + Sync + 'static;

    /// Makes sure that everything the plan needs is at hand (components compiled, say), so that an attempt starts at once.
    fn prepare(&self, plan: &Arc<Plan>) -> impl Future<Output = Result<Self::Prepared, PrepareError>> + Send;

    /// The key of the answer of an attempt of a step with `cache`: what it depends on, as things are now. Without one (the
    /// error says why, for a person) the cache is not asked.
    fn key(&self, _prepared: &Self::Prepared, _order: &Order) -> impl Future<Output = Result<Key, String>> + Send {
        std::future::ready(Err("nobody can tell what its answer depends on".to_owned()))
    }

    /// Carries one attempt out. Must come back soon after `cancelled` resolves, with everything that the attempt started
    /// ended. Dropping the future must do the same.
    fn perform(
        &self,
        prepared: &Self::Prepared,
        order: Order,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Ended> + Send;
}

/// Sees what happens as it happens: for screens and streams. Called from the tasks that drive runs, so it must be quick.
pub trait Watch: Send + Sync + 'static {
    /// These records are durable.
    fn recorded(&self, _run: &RunId, _records: &[Record]) {}
    /// An attempt wrote a line to its log.
    fn logged(&self, _run: &RunId, _step: StepId, _attempt: u32, _level: Level, _line: &str) {}
    /// An attempt says how far it is; not kept.
    fn progressed(&self, _run: &RunId, _step: StepId, _done: u64, _total: Option<u64>, _message: &str) {}
}

/// Sees nothing.
impl Watch for () {}

/// Performs nothing: for runs that are only to be ended.
pub(crate) struct Nothing;

impl Perform for Nothing {
    type Prepared = ();

    async fn prepare(&self, _plan: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn perform(
        &self,
        (): &(),
        _order: Order,
        _observer: Arc<dyn Observer>,
        _cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        unreachable!("a run that is only ended starts no attempt")
    }
}
