//! The figures, one file each: what is measured, what its limit is, and what must be reached.

mod attempt;
mod audited;
mod check;
mod durable_runs;
mod durable_step;
mod hello;
mod idle;
mod items;
mod long_run;
mod memory_run;
mod parked;
mod permission;
mod process;
mod recovery;
mod tests;
mod verify;

use anyhow::Result;

use crate::report::Figure;
use crate::workshop::Workshop;

pub(crate) use hello::downbeat;
pub(crate) use idle::idle;
pub(crate) use parked::{Parked, weigh};

/// How often each side is measured.
const ROUNDS: usize = 7;

/// A figure: the word that chooses it on the command line, and how it is measured.
pub(crate) type Measure = (&'static str, fn(&Workshop) -> Result<Figure>);

/// All of them, in the order of the table.
pub(crate) const ALL: &[Measure] = &[
    ("attempt", attempt::measure),
    ("audited", audited::measure),
    ("permission", permission::measure),
    ("memory-run", memory_run::measure),
    ("durable-runs", durable_runs::measure),
    ("durable-step", durable_step::measure),
    ("process", process::measure),
    ("long-run", long_run::measure),
    ("recovery", recovery::measure),
    ("verify", verify::measure),
    ("hello", hello::measure),
    ("parked", parked::measure),
    ("check", check::measure),
    ("items", items::measure),
    ("tests", tests::measure),
    ("idle", idle::measure),
];
