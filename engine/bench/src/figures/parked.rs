//! What a run costs while it waits: ten thousand runs of ten steps whose first attempt got a setback and is tried again in
//! an hour. The peak of the resident set counts everything (the runs, their tasks, the journal's and SQLite's memory, what
//! was freed and not given back), so it is measured in a process of its own, which asks the kernel.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use downbeat_conductor::Watch;
use downbeat_workflow::event::{Event, Record, RunId};
use tokio::sync::Notify;

use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, two_threads};

const RUNS: usize = 10_000;

/// Each is a process that drives ten thousand runs.
const ROUNDS: usize = 3;

/// What is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Parked {
    /// Runs.
    Runs,
    /// Tasks of tokio with nothing in them but a timer.
    Tasks,
}

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let rounds = Rounds::of(ROUNDS, || weigh_apart(workshop, Parked::Tasks), || weigh_apart(workshop, Parked::Runs))?;
    Ok(Figure::new(
        "10,000 parked runs, peak memory of each",
        rounds.ours(),
        "B",
        rounds.limit(),
        "a tokio task with a timer",
        rounds.ratio(),
        &[Goal::ValueAtMost(10.0 * 1024.0)],
        "growth of the peak resident set of a process of its own; runs of ten steps, a journal on disk",
    ))
}

/// Weighs in a process of its own; gives bytes of each.
fn weigh_apart(workshop: &Workshop, what: Parked) -> Result<f64> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let what = if what == Parked::Runs { "runs" } else { "tasks" };
    let output = Command::new(program).arg("weigh").arg(what).arg(workshop.folder("parked")?).output()?;
    ensure!(output.status.success(), "weighing parked {what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Parks ten thousand and says by how much the peak of this process's resident set grew for each, in bytes.
pub(crate) fn weigh(workshop: &Workshop, what: Parked) -> Result<f64> {
    let runtime = two_threads()?;
    let parking = Arc::new(Parking::default());
    let engine = workshop.durable_watched("journal", parking.clone())?;
    let plan = workshop.plan(guest::parked(10))?;
    runtime.block_on(async {
        // One before, so that what is made once (the writer's caches, compiled code, the first slot) is not counted.
        drop(engine.start(&plan).await?);
        parking.holds(1).await;
        let before = fresh_peak()?;
        match what {
            Parked::Tasks => {
                for _ in 0..RUNS {
                    let parking = parking.clone();
                    tokio::spawn(async move {
                        parking.one_more();
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    });
                }
                parking.holds(RUNS + 1).await;
            }
            Parked::Runs => {
                for _ in 0..RUNS {
                    drop(engine.start(&plan).await?);
                }
                parking.holds(RUNS + 1).await;
            }
        }
        Ok((peak()? - before) / RUNS as f64)
    })
}

/// Counts the runs that have come to wait.
#[derive(Default)]
pub(super) struct Parking {
    parked: AtomicUsize,
    news: Notify,
}

impl Parking {
    fn one_more(&self) {
        self.parked.fetch_add(1, Ordering::SeqCst);
        self.news.notify_one();
    }

    pub(super) async fn holds(&self, runs: usize) {
        loop {
            let news = self.news.notified();
            if self.parked.load(Ordering::SeqCst) >= runs {
                return;
            }
            news.await;
        }
    }
}

impl Watch for Parking {
    fn recorded(&self, _run: &RunId, records: &[Record]) {
        if records.iter().any(|record| matches!(record.event, Event::AttemptFailed { .. } | Event::StepOpened { .. })) {
            self.one_more();
        }
    }
}

/// Begins the peak anew (`proc(5)`, `clear_refs`), so that what was used before and given back does not hide a growth.
fn fresh_peak() -> Result<f64> {
    std::fs::write("/proc/self/clear_refs", "5").context("only Linux begins the peak of a process anew")?;
    peak()
}

/// The peak of this process's resident set so far, in bytes.
fn peak() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells the peak of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).context("/proc/self/status has no VmHWM")?;
    Ok(kib.trim().parse::<f64>()? * 1024.0)
}
