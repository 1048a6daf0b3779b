//! The first thing that anybody tries, from the shell's point of view: `downbeat run workflows/hello/hello.toml`, the whole
//! process, its component built and compiled before.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::process::spawn_true_ms;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::Workshop;

const ROUNDS: usize = 21;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (program, folder) = (downbeat()?, workshop.folder("hello")?);
    let workflow = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/hello/hello.toml");
    let rounds = Rounds::of(ROUNDS, spawn_true_ms, || {
        let mut command = Command::new(&program);
        command.arg("run").arg(&workflow).arg("--state").arg(folder.join("state"));
        whole_process_ms(command.arg("--cache").arg(folder.join("cache")))
    })?;
    Ok(Figure::new(
        "downbeat run hello, whole process",
        rounds.ours(),
        "ms",
        rounds.limit(),
        "/bin/true",
        rounds.ratio(),
        &[Goal::ValueAtMost(50.0)],
        "warm cache, a journal on disk, both outputs into pipes",
    ))
}

/// How long a process takes from its start to its end, which has to be a good one, in milliseconds.
pub(super) fn whole_process_ms(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().context("downbeat can't be started")?;
    let took = started.elapsed().as_secs_f64() * 1e3;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// The program, which is built beside this one.
pub(crate) fn downbeat() -> Result<PathBuf> {
    let program = std::env::current_exe().context("this program's own path is unknown")?.with_file_name("downbeat");
    ensure!(program.is_file(), "{} is missing: `make bench` builds it beside this program", program.display());
    Ok(program)
}
