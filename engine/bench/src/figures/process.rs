//! An attempt beside a process: what others call a sandbox costs at least that much, before any namespace or image.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::ROUNDS;
use super::attempt::Attempts;
use crate::measure::{Rounds, micros};
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

const PROCESSES: u32 = 100;
const ATTEMPTS: u32 = 10_000;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (runtime, attempts) = (one_thread()?, Attempts::new(workshop)?);
    let rounds = Rounds::of(
        ROUNDS,
        || {
            let started = Instant::now();
            for _ in 0..PROCESSES {
                spawn_true()?;
            }
            Ok(micros(started.elapsed()) / f64::from(PROCESSES))
        },
        || runtime.block_on(attempts.micros_each(ATTEMPTS)),
    )?;
    Ok(Figure::new(
        "sandboxed attempt beside a process",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "/bin/true by posix_spawn, waited for",
        rounds.ratio(),
        &[Goal::RatioAtMost(1.0 / 50.0)],
        "",
    ))
}

/// [`spawn_true`], in milliseconds.
pub(super) fn spawn_true_ms() -> Result<f64> {
    let started = Instant::now();
    spawn_true()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// Starts the smallest process there is and waits for it. The standard library takes `posix_spawn` where, as here, nothing
/// is to be done between fork and exec.
pub(super) fn spawn_true() -> Result<()> {
    let status = Command::new("/bin/true").status().context("/bin/true can't be started")?;
    ensure!(status.success(), "/bin/true: {status}");
    Ok(())
}
