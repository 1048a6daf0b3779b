//! Whether a very large workflow can be checked while its author waits: ten thousand steps in a row, each of which takes the
//! output of the one before through a rule that is typed, the whole process as a shell sees it.

use std::process::Command;

use anyhow::Result;

use super::hello::{downbeat, whole_process_ms};
use super::process::spawn_true_ms;
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::Workshop;

const STEPS: usize = 10_000;

const ROUNDS: usize = 5;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (program, folder) = (downbeat()?, workshop.folder("check")?);
    guest::write_component(&folder)?;
    let workflow = folder.join("chain.toml");
    std::fs::write(&workflow, guest::chain(STEPS))?;
    let rounds = Rounds::of(ROUNDS, spawn_true_ms, || {
        let mut command = Command::new(&program);
        command.arg("check").arg(&workflow).arg("--state").arg(folder.join("state"));
        whole_process_ms(command.arg("--cache").arg(folder.join("cache")))
    })?;
    Ok(Figure::new(
        "downbeat check of 10,000 steps, whole process",
        rounds.ours(),
        "ms",
        rounds.limit(),
        "/bin/true",
        rounds.ratio(),
        &[Goal::ValueAtMost(1000.0)],
        "chained, each input a rule over the output before; the component is compiled already",
    ))
}
