//! What it costs an attempt that what it uses is noted: the same attempts with somebody who keeps records, and with nobody.

use std::sync::Arc;

use anyhow::{Context, Result};
use downbeat_sandbox::Observer;
use downbeat_workflow::capability::Grants;
use downbeat_workflow::log::Level;

use super::ROUNDS;
use super::attempt::Attempts;
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

/// Of one round and side.
const ATTEMPTS: u32 = 10_000;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let runtime = one_thread()?;
    let component = workshop.folder("audited")?.join("using.wasm");
    std::fs::write(&component, guest::using()?).with_context(|| format!("{} can't be written", component.display()))?;
    let grants = Grants { clock: true, random: true, ..Grants::default() };
    let attempts = Attempts::of(workshop, &component, grants)?;
    let rounds = Rounds::of(
        ROUNDS,
        || runtime.block_on(attempts.micros_seen(ATTEMPTS, Arc::new(Seen { audits: false }))),
        || runtime.block_on(attempts.micros_seen(ATTEMPTS, Arc::new(Seen { audits: true }))),
    )?;
    Ok(Figure::new(
        "attempt with clock and random numbers, audited",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "the same, not audited",
        rounds.ratio(),
        &[Goal::RatioAtMost(1.15)],
        "what leaves the engine (a program, a request, a blob) costs a commit of the journal beside it",
    ))
}

struct Seen {
    audits: bool,
}

impl Observer for Seen {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
    fn audits(&self) -> bool {
        self.audits
    }
}
