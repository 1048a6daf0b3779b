//! How a run's task asks the cache and has answers kept. What is asked goes on beside the run, counted like attempts in
//! flight, and comes back as a message; what the cache had nothing for is begun in the next turn.

use downbeat_sandbox::Observer as _;
use downbeat_workflow::cache::Entry;
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Origin};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::StepId;
use downbeat_workflow::run::{Action, Attempt};

use super::{DriveError, Driver};
use crate::ask::{Answer, Reply};
use crate::perform::Perform;

impl<P: Perform> Driver<P> {
    /// Asks the cache about an attempt, beside everything else: it may read a thousand files. It counts as in flight.
    pub(super) fn ask(&mut self, attempt: Attempt) {
        let Some(answers) = self.shared.answers.clone() else { return };
        let step = attempt.step;
        self.asks += 1;
        self.latest_asks.insert(step, self.asks);
        let order = self.order(attempt);
        let mut cut = self.cut.subscribe();
        let (shared, prepared) = (self.shared.clone(), self.prepared.clone());
        let mut reply = Reply::new(self.outbox.clone(), step, self.asks);
        tokio::spawn(async move {
            let answer = async { Answer::of(answers, shared.performer.key(&prepared, &order).await).await };
            reply.send(tokio::select! {
                answer = answer => answer,
                _ = cut.wait_for(|cut| cut.ends(step)) => Answer::NONE,
            });
        });
    }

    /// Asks again about what was asked when the run was driven before.
    pub(super) fn ask_again(&mut self) {
        for step in self.run.asking() {
            match self.run.asked(step) {
                Some(Action::Ask(attempt)) if self.shared.answers.is_some() => {
                    self.in_flight += 1;
                    self.ask(attempt);
                }
                _ => self.missed.push(step),
            }
        }
    }

    /// Takes an answer, unless nobody waits for it any more: a step that was paused meanwhile asks again.
    pub(super) fn answered(&mut self, step: StepId, ask: u64, answer: Answer) -> Result<(), DriveError> {
        self.in_flight -= 1;
        if !self.run.is_asking(step) || self.latest_asks.get(&step) != Some(&ask) {
            return Ok(());
        }
        if let Some(warning) = answer.warning {
            let attempt = self.run.status(step).1 + 1;
            self.reporter(step, attempt).log(Level::Warn, &warning);
        }
        match (answer.hit, answer.key) {
            (Some(entry), Some(key)) => {
                let Entry { origin, output, .. } = *entry;
                self.record(Event::CacheHit { step, output, key: key.digest, origin: Box::new(origin) })
            }
            (_, key) => {
                self.missed.push(step);
                // What an earlier ask found out does not count any more.
                match key {
                    Some(key) => drop(self.keys.insert(step, key)),
                    None => drop(self.keys.remove(&step)),
                }
                Ok(())
            }
        }
    }

    pub(super) fn entry(&self, step: StepId, key: Digest, output: Json) -> Entry<'static> {
        let plan = self.run.plan();
        let uses = self.run.step(step).uses().expect("an attempt is one of a component");
        let plugin = &plan.plugins[uses.plugin.index()];
        Entry {
            key,
            plugin: plugin.name.clone().into(),
            component: plugin.component.digest.clone(),
            workflow: plan.name.clone().into(),
            origin: Origin { run: self.run.id().clone(), step: self.run.path(step), at: self.clock.now() },
            output,
        }
    }

    /// Keeps the answers whose records are durable. The run does not wait for it before its end.
    pub(super) fn keep(&mut self) {
        let Some(answers) = self.shared.answers.clone() else { return };
        let entries = std::mem::take(&mut self.to_keep);
        self.keeping.retain(|keeping| !keeping.is_finished());
        self.keeping.push(tokio::task::spawn_blocking(move || {
            for entry in entries {
                // A disk that has no room for it has none for the journal either, which says so.
                let _ = answers.keep(&entry);
            }
        }));
    }
}
