//! What waiting costs in time: ten thousand runs that each wait for a signal, or an hour, in a process that listens to what
//! others ask of them. Its threads' time on a processor is what the kernel's scheduler has counted, in a process of its own.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::parked::Parking;
use crate::guest;
use crate::measure::median;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, two_threads};

const RUNS: usize = 10_000;

/// Long enough that a look every 25 ms is seen a hundred times.
const WATCHED: Duration = Duration::from_secs(5);

/// Each is a process that drives ten thousand runs.
const ROUNDS: usize = 3;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let shares = (0..ROUNDS).map(|_| watch_apart(workshop)).collect::<Result<Vec<f64>>>()?;
    let percent = median(shares) * 100.0;
    Ok(Figure::new(
        "10,000 parked waits, time on a processor",
        percent,
        "%",
        100.0,
        "one processor",
        percent / 100.0,
        &[Goal::ValueAtMost(1.0)],
        "all threads of a process of its own over five seconds; a journal on disk, requests of other processes are served",
    ))
}

/// Watches a process of its own; gives the part of a processor that it took.
fn watch_apart(workshop: &Workshop) -> Result<f64> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let output = Command::new(program).arg("idle").arg(workshop.folder("idle")?).output()?;
    ensure!(output.status.success(), "watching parked waits: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Parks ten thousand and says which part of a processor this process takes from then on.
pub(crate) fn idle(workshop: &Workshop) -> Result<f64> {
    let runtime = two_threads()?;
    let parking = Arc::new(Parking::default());
    let engine = workshop.durable_watched("journal", parking.clone())?;
    let plan = workshop.plan(guest::waiting())?;
    runtime.block_on(async {
        engine.serve();
        for _ in 0..RUNS {
            drop(engine.start(&plan).await?);
        }
        parking.holds(RUNS).await;
        let (began, before) = (Instant::now(), on_processor()?);
        tokio::time::sleep(WATCHED).await;
        let took = on_processor()?.saturating_sub(before);
        Ok(took.as_secs_f64() / began.elapsed().as_secs_f64())
    })
}

/// How long this process's threads were on a processor so far (`/proc/PID/task/TID/schedstat`, whose first number is that in
/// nanoseconds). Those that have ended in between are not counted: none does while the process waits.
fn on_processor() -> Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").context("only Linux tells the time of threads")? {
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        nanos += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}
