//! What an item of a `foreach` costs beside a step of a plain chain: a list of a hundred thousand, each item an attempt in a
//! scope of its own, against a thousand steps in a row. Neither the number of the items nor the list itself, which is an
//! input, may show in what one of them costs.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use downbeat_workflow::plan::Plan;
use serde_json::{Map, Value};

use crate::guest;
use crate::measure::{Rounds, micros};
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, one_thread};

const ITEMS: usize = 100_000;
const STEPS: usize = 1_000;

/// A tenth as many steps as items, so that what the journal in memory keeps stays small beside the items' records.
const RUNS: usize = ITEMS / STEPS / 10;

/// A run of all items takes a second or more.
const ROUNDS: usize = 3;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (chain, items) = (workshop.plan(guest::chain(STEPS))?, workshop.plan(guest::items())?);
    let rounds = Rounds::of(
        ROUNDS,
        || Ok(runs_micros(workshop, &chain, RUNS, || given(None))? / (RUNS * STEPS) as f64),
        || Ok(runs_micros(workshop, &items, 1, || given(Some(ITEMS)))? / ITEMS as f64),
    )?;
    Ok(Figure::new(
        "foreach over 100,000 items, an item",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "1,000-step chain, a step",
        rounds.ratio(),
        &[Goal::RatioAtMost(1.5)],
        "in memory, one thread; the items are numbers of a list that is an input",
    ))
}

/// The payload, and a list of so many numbers.
fn given(items: Option<usize>) -> Map<String, Value> {
    let mut given = Map::from_iter([("text".to_owned(), Value::String(guest::text()))]);
    if let Some(items) = items {
        given.insert("items".to_owned(), (0..items).map(Value::from).collect());
    }
    given
}

/// How long so many runs take, from the first one's start to the last one's end, in microseconds.
fn runs_micros(
    workshop: &Workshop,
    plan: &Arc<Plan>,
    runs: usize,
    given: impl Fn() -> Map<String, Value>,
) -> Result<f64> {
    one_thread()?.block_on(async {
        let engine = workshop.in_memory()?;
        let started = Instant::now();
        for _ in 0..runs {
            engine.run_given(plan, given()).await?;
        }
        Ok(micros(started.elapsed()))
    })
}
