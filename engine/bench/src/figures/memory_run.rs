//! A run of a thousand steps in a row, each taking the output of the one before, without a disk: what conductor, core and
//! sandbox can do on one thread, beside the same calls in a bare loop.

use std::time::Instant;

use anyhow::Result;

use super::ROUNDS;
use crate::bare::Wasm;
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

const STEPS: usize = 1_000;

/// Of one round and side.
const RUNS: usize = 10;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (runtime, bare) = (one_thread()?, Wasm::new()?);
    let plan = workshop.plan(guest::chain(STEPS))?;
    let rounds = Rounds::of(
        ROUNDS,
        || {
            let started = Instant::now();
            for _ in 0..RUNS {
                let mut passed_on = guest::input();
                for _ in 0..STEPS {
                    passed_on = bare.step(&passed_on)?;
                }
            }
            Ok((RUNS * STEPS) as f64 / started.elapsed().as_secs_f64())
        },
        || {
            runtime.block_on(async {
                // A journal in memory keeps everything, so each round has its own.
                let engine = workshop.in_memory()?;
                let started = Instant::now();
                for _ in 0..RUNS {
                    engine.run(&plan).await?;
                }
                Ok((RUNS * STEPS) as f64 / started.elapsed().as_secs_f64())
            })
        },
    )?;
    Ok(Figure::new(
        "in-memory run, 1,000 chained steps",
        rounds.ours(),
        "steps/s",
        rounds.limit(),
        "bare wasmtime, sync",
        rounds.ratio(),
        &[Goal::RatioAtLeast(0.5)],
        "one thread; every step's input is made of the output before it by the engine's rules",
    ))
}
