//! The cache from a run's side: what a step's answer depends on, looked up before an attempt and looked at again after it.
//!
//! Nothing is decided here. What the cache says comes to the run as a message, like the end of an attempt, and a hit is an
//! event; so a run never waits for the disk, and replaying it asks nobody.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use downbeat_sandbox::{Sandbox, Surroundings};
use downbeat_workflow::cache::{self, Entry, Premises};
use downbeat_workflow::description::Digest;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId, StepNo};
use tokio::sync::mpsc;

use crate::answers::{Answers, Found};
use crate::drive::Message;

/// What an answer depends on, as it was at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Under which the answer is kept.
    pub digest: Digest,
    /// Which files it was, and when each was changed last: two looks between which somebody put another file in its place, and this
    /// one back, have the same digest.
    pub trace: Option<Digest>,
}

impl From<Digest> for Key {
    fn from(digest: Digest) -> Key {
        Key { digest, trace: None }
    }
}

/// What the cache says about a step.
pub(crate) struct Answer {
    /// The kept answer, if there is one.
    pub(crate) hit: Option<Box<Entry<'static>>>,
    /// Under which the answer of the attempt is to be kept.
    pub(crate) key: Option<Key>,
    /// What is amiss, for the step's log.
    pub(crate) warning: Option<String>,
}

impl Answer {
    /// Nothing, and the attempt's answer is not kept either.
    pub(crate) const NONE: Answer = Answer { hit: None, key: None, warning: None };

    /// What is found under a key, if there is one.
    pub(crate) async fn of(answers: Arc<Answers>, key: Result<Key, String>) -> Answer {
        let key = match key {
            Ok(key) => key,
            Err(reason) => {
                let warning = Some(format!("the cache is not asked: {reason}"));
                return Answer { warning, ..Answer::NONE };
            }
        };
        let looked = tokio::task::spawn_blocking(move || {
            let found = answers.find(&key.digest);
            (found, key)
        });
        match looked.await {
            Ok((Found::Hit(entry), key)) => Answer { hit: Some(entry), key: Some(key), warning: None },
            Ok((Found::Miss, key)) => Answer { hit: None, key: Some(key), warning: None },
            Ok((Found::Damaged(reason), key)) => Answer { hit: None, key: Some(key), warning: Some(reason) },
            Err(_) => Answer::NONE,
        }
    }
}

/// Sends what the cache says, whatever happens: if its task is dropped with the runtime or breaks down, the run hears of a
/// miss instead of waiting for ever.
pub(crate) struct Reply {
    outbox: mpsc::UnboundedSender<Message>,
    step: StepId,
    ask: u64,
    sent: bool,
}

impl Reply {
    pub(crate) fn new(outbox: mpsc::UnboundedSender<Message>, step: StepId, ask: u64) -> Reply {
        Reply { outbox, step, ask, sent: false }
    }

    pub(crate) fn send(&mut self, answer: Answer) {
        self.sent = true;
        let (step, ask) = (self.step, self.ask);
        let _ = self.outbox.send(Message::Answered { step, ask, answer: Box::new(answer) });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.send(Answer::NONE);
        }
    }
}

/// The key of the answer of a step that uses a component, with this input; `directory` is its workflow's folder. Reads all
/// granted files, until `stop`. The error is why there is none, for a person.
pub fn key(
    sandbox: &Sandbox,
    plan: &Plan,
    no: StepNo,
    directory: &Path,
    input: &Json,
    stop: &AtomicBool,
) -> Result<Key, String> {
    let step = plan.step(no);
    let uses = step.uses().ok_or_else(|| "it runs no component".to_owned())?;
    let Surroundings { env, files, trace } =
        sandbox.surroundings(&uses.grants, directory, stop).map_err(|unseen| unseen.to_string())?;
    let component = &plan.plugins[uses.plugin.index()].component.digest;
    let (limits, timeout_ms) = (&uses.limits, step.timeout_ms);
    let digest = cache::key(&Premises { component, input, limits, timeout_ms, env: &env, files: &files });
    Ok(Key { digest, trace: Some(trace) })
}

/// Gives a look at files up when it is dropped.
pub(crate) struct Stop(pub(crate) Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
