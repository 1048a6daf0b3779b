//! Whether a step costs the same in a run a hundred times as long, for both shapes that make an engine's work grow with the
//! square: a long chain, and many steps that are all ready at once. The worse of the two counts.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use downbeat_workflow::plan::Plan;

use crate::guest;
use crate::measure::{Rounds, micros};
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

const SHORT: usize = 1_000;
const LONG: usize = 100_000;

/// A long run takes a second or more.
const ROUNDS: usize = 3;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let chained = compare(workshop, guest::chain)?;
    let wide = compare(workshop, guest::wide)?;
    let told = format!(
        "in memory, one thread; chained {:.2}, wide {:.2} times as much for each step of the longer run",
        chained.ratio(),
        wide.ratio()
    );
    let (shape, worse) = if chained.ratio() > wide.ratio() { ("chained", chained) } else { ("wide", wide) };
    Ok(Figure::new(
        &format!("100,000-step run, a step ({shape})"),
        worse.ours(),
        "µs",
        worse.limit(),
        "1,000-step run, a step",
        worse.ratio(),
        &[Goal::RatioAtMost(1.3)],
        told,
    ))
}

fn compare(workshop: &Workshop, shape: fn(usize) -> String) -> Result<Rounds> {
    let (short, long) = (workshop.plan(shape(SHORT))?, workshop.plan(shape(LONG))?);
    // A tenth as many steps in all, so that what the journal in memory keeps stays small beside the long run's.
    Rounds::of(ROUNDS, || step_micros(workshop, &short, LONG / SHORT / 10), || step_micros(workshop, &long, 1))
}

/// How long a step takes in so many runs, from their start to their end, in microseconds.
fn step_micros(workshop: &Workshop, plan: &Arc<Plan>, runs: usize) -> Result<f64> {
    one_thread()?.block_on(async {
        let engine = workshop.in_memory()?;
        let started = Instant::now();
        for _ in 0..runs {
            engine.run(plan).await?;
        }
        Ok(micros(started.elapsed()) / (runs * plan.steps.len()) as f64)
    })
}
