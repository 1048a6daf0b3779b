//! Whether tests of workflows can be many: a thousand cases of a workflow of twenty steps, played by one `downbeat test`, the
//! whole process as a shell sees it.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::hello::{downbeat, whole_process_ms};
use super::process::spawn_true_ms;
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::Workshop;

const STEPS: usize = 20;
const CASES: usize = 1_000;

const ROUNDS: usize = 5;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let (program, folder) = (downbeat()?, workshop.folder("tests")?);
    guest::write_component(&folder)?;
    std::fs::write(folder.join("chain.toml"), guest::chain(STEPS))?;
    let tests = folder.join("chain.test.toml");
    std::fs::write(&tests, cases(CASES))?;
    let rounds = Rounds::of(ROUNDS, spawn_true_ms, || {
        let mut command = Command::new(&program);
        command.arg("test").arg(&tests).arg("--state").arg(folder.join("state"));
        whole_process_ms(command.arg("--cache").arg(folder.join("cache")))
    })?;
    Ok(Figure::new(
        "downbeat test, 1,000 cases of 20 steps, whole process",
        rounds.ours(),
        "ms",
        rounds.limit(),
        "/bin/true",
        rounds.ratio(),
        &[Goal::ValueAtMost(2000.0)],
        "every case with an answer of its own, and five expectations; each is told on a line",
    ))
}

/// So many cases, in each of which another step takes another while.
fn cases(cases: usize) -> String {
    let mut toml =
        "workflow = \"chain.toml\"\ndefault = \"succeed\"\ninputs.text = \"a\"\nplugins.echo.text = \"b\"\n".to_owned();
    let last = STEPS - 1;
    for case in 0..cases {
        let (slow, took) = (case % STEPS, case + 1);
        write!(
            toml,
            "[tests.case_{case}]\nsteps.s{slow}.took = \"{took}s\"\n[tests.case_{case}.expect]\noutcome = \"succeeded\"\n\
             took = \"{took}s\"\nran = [\"s{last}\"]\nsteps.s0 = {{ attempts = 1, before = [\"s{last}\"] }}\n"
        )
        .expect("a String takes any text");
    }
    toml
}
