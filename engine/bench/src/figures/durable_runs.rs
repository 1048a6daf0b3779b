//! Ten-step runs, 128 at a time, on a disk: how well many runs share a commit, beside bare SQLite that commits rows of the
//! same size, 128 at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use downbeat_conductor::Sandboxed;
use downbeat_journal::Journal;
use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::Plan;

use super::ROUNDS;
use crate::bare::{Spread, Sqlite};
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Engine, Workshop, two_threads};

pub(super) const STEPS: usize = 10;
pub(super) const CONCURRENT: usize = 128;

/// Of one round: half a second, and the disk's hiccups are spread over both sides.
const RUNS: usize = 2_048;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let runtime = two_threads()?;
    let engine = Arc::new(workshop.durable("durable-runs")?);
    let plan = workshop.plan(guest::chain(STEPS))?;
    let bytes = runtime.block_on(async { bytes_per_step(&engine.journal, &engine.run(&plan).await?) })?;
    let mut bare = Sqlite::create(&workshop.folder("durable-runs")?)?;
    let spread = Spread { runs: CONCURRENT as i64, rows_per_run: STEPS as i64 };
    let transactions = RUNS * STEPS / CONCURRENT;
    let rounds = Rounds::of(
        ROUNDS,
        || {
            let took: Duration = bare.insert(transactions, CONCURRENT, bytes, spread)?.iter().sum();
            Ok((transactions * CONCURRENT) as f64 / took.as_secs_f64())
        },
        || {
            let started = Instant::now();
            runtime.block_on(drive(&engine, &plan, RUNS))?;
            Ok((RUNS * STEPS) as f64 / started.elapsed().as_secs_f64())
        },
    )?;
    Ok(Figure::new(
        "durable steps, 128 ten-step runs at a time",
        rounds.ours(),
        "steps/s",
        rounds.limit(),
        "bare SQLite, FULL, 128 rows a commit",
        rounds.ratio(),
        &[Goal::RatioAtLeast(0.4), Goal::ValueAtLeast(40_000.0)],
        format!("two threads; a bare row has {bytes} bytes, as many as all records of one step"),
    ))
}

/// Drives so many runs, [`CONCURRENT`] at a time.
pub(super) async fn drive(engine: &Arc<Engine<Sandboxed>>, plan: &Arc<Plan>, runs: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..CONCURRENT {
        let (engine, plan, next) = (engine.clone(), plan.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < runs {
                engine.run(&plan).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// What the journal holds of a run of [`STEPS`] steps, for each of them.
pub(super) fn bytes_per_step(journal: &Journal, run: &RunId) -> Result<usize> {
    let mut bytes = 0;
    for record in journal.load(run)?.records {
        // With what stands between two in a row.
        bytes += serde_json::to_string(&(record.at, &record.event))?.len() + 1;
    }
    Ok(bytes / STEPS)
}
