//! Where and for whom an attempt runs.

use std::time::Duration;

/// Where and for whom this attempt runs. Nothing in it changes what the step should compute; it is for names, log
/// lines, and for making effects happen once.
///
/// An answer that is kept across runs (the step has `cache`) can't depend on which of them it was given in: its attempt
/// finds `run`, `workflow`, `step` and `idempotency_key` empty, and `attempt` 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// The run's id, unique in its journal.
    pub run: String,
    /// The workflow's name.
    pub workflow: String,
    /// The step's name in the workflow.
    pub step: String,
    /// Counts from 1. A second attempt follows a failure that may be retried, or an interruption of the engine.
    pub attempt: u32,
    /// The same for every attempt of this step in this run, across restarts of the engine. Hand it to whatever you
    /// change out there (an API's idempotency key, a file name), so that doing it again changes nothing.
    pub idempotency_key: String,
    /// How long this attempt may take from its start; `None` means that only the engine's own bound applies.
    pub timeout: Option<Duration>,
}

/// The context of a first attempt without a time-out, for tests.
impl Default for Context {
    fn default() -> Context {
        Context {
            run: "run-1".into(),
            workflow: "workflow".into(),
            step: "step".into(),
            attempt: 1,
            idempotency_key: "run-1/step".into(),
            timeout: None,
        }
    }
}
