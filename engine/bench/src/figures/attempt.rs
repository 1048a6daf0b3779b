//! What an attempt costs with all its limits on, beside a bare call: the sandbox's own share of a step. No conductor and no
//! journal.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use downbeat_sandbox::{Call, End, Observer, Plugin, Sandbox};
use downbeat_workflow::capability::Grants;
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;

use super::ROUNDS;
use crate::bare::Wasm;
use crate::guest;
use crate::measure::{Rounds, micros};
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

/// Of one round and side: 50 ms, long enough for the epoch's thread to tick a few times.
const ATTEMPTS: u32 = 10_000;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (runtime, bare, attempts) = (one_thread()?, Wasm::new()?, Attempts::new(workshop)?);
    let input = guest::input();
    let rounds = Rounds::of(
        ROUNDS,
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..ATTEMPTS {
                    bare.step_async(&input).await?;
                }
                Ok(micros(started.elapsed()) / f64::from(ATTEMPTS))
            })
        },
        || runtime.block_on(attempts.micros_each(ATTEMPTS)),
    )?;
    Ok(Figure::new(
        "sandboxed attempt, 1 KiB in and out",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "bare wasmtime, async",
        rounds.ratio(),
        &[Goal::RatioAtMost(1.3)],
        "",
    ))
}

/// One attempt after the other.
pub(super) struct Attempts<'a> {
    sandbox: &'a Sandbox,
    plugin: Arc<Plugin>,
    call: Call,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(workshop: &'a Workshop) -> Result<Attempts<'a>> {
        Attempts::of(workshop, &workshop.component, Grants::default())
    }

    pub(super) fn of(workshop: &'a Workshop, component: &Path, grants: Grants) -> Result<Attempts<'a>> {
        let call = Call {
            run: "1jn7w80-zzzzzz".into(),
            workflow: "chain".into(),
            step: "s1".into(),
            attempt: 1,
            idempotency_key: "1jn7w80-zzzzzz/s1".into(),
            input: Json::parse(guest::input())?,
            seed: 1,
            timeout: Some(Duration::from_secs(60)),
            grants: Arc::new(grants),
            limits: Arc::default(),
            directory: Arc::from(Path::new("/")),
            workspace: "/".into(),
        };
        Ok(Attempts { sandbox: &workshop.sandbox, plugin: workshop.sandbox.load(component)?, call })
    }

    /// How long one of so many took, in microseconds.
    pub(super) async fn micros_each(&self, attempts: u32) -> Result<f64> {
        self.micros_seen(attempts, Arc::new(Nobody)).await
    }

    /// The same with somebody who watches.
    pub(super) async fn micros_seen(&self, attempts: u32, observer: Arc<dyn Observer>) -> Result<f64> {
        let started = Instant::now();
        for _ in 0..attempts {
            let ended = self.sandbox.attempt(&self.plugin, self.call.clone(), observer.clone(), pending()).await;
            ensure!(matches!(ended.end, End::Succeeded(_)), "the guest failed: {:?}", ended.end);
        }
        Ok(micros(started.elapsed()) / f64::from(attempts))
    }
}

struct Nobody;

impl Observer for Nobody {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
}
