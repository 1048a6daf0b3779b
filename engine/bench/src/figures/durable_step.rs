//! Steps in a row on a disk, each of which waits for the commit of the one before: how long a step takes beside the commit
//! that it can't do without.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Result;
use downbeat_conductor::Watch;
use downbeat_workflow::event::{Event, Record, RunId};

use super::ROUNDS;
use super::durable_runs::{self, bytes_per_step};
use crate::bare::{Spread, Sqlite};
use crate::guest;
use crate::measure::{Rounds, median_micros};
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, two_threads};

const STEPS: usize = 1_000;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let runtime = two_threads()?;
    let stopwatch = Arc::new(Stopwatch::default());
    let engine = workshop.durable_watched("durable-step", stopwatch.clone())?;
    let (plan, short) = (workshop.plan(guest::chain(STEPS))?, workshop.plan(guest::chain(durable_runs::STEPS))?);
    let bytes = runtime.block_on(async { bytes_per_step(&engine.journal, &engine.run(&short).await?) })?;
    let mut bare = Sqlite::create(&workshop.folder("durable-step")?)?;
    let spread = Spread { runs: 1, rows_per_run: STEPS as i64 };
    let rounds = Rounds::of(
        ROUNDS,
        || Ok(median_micros(&bare.insert(STEPS, 1, bytes, spread)?)),
        || {
            stopwatch.start_over();
            runtime.block_on(engine.run(&plan))?;
            Ok(stopwatch.median_micros())
        },
    )?;
    Ok(Figure::new(
        "durable chained step, p50",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "a commit of bare SQLite, FULL, p50",
        rounds.ratio(),
        &[Goal::RatioAtMost(2.0)],
        "from one step's end being durable to the next one's",
    ))
}

/// Notes when steps have come to their end.
#[derive(Default)]
struct Stopwatch(Mutex<Vec<Instant>>);

impl Stopwatch {
    fn start_over(&self) {
        self.laps().clear();
    }

    fn median_micros(&self) -> f64 {
        let laps: Vec<_> = self.laps().windows(2).map(|pair| pair[1] - pair[0]).collect();
        median_micros(&laps)
    }

    fn laps(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.0.lock().expect("nothing panics while it is locked")
    }
}

impl Watch for Stopwatch {
    fn recorded(&self, _run: &RunId, records: &[Record]) {
        if records.iter().any(|record| matches!(record.event, Event::AttemptSucceeded { .. })) {
            self.laps().push(Instant::now());
        }
    }
}
