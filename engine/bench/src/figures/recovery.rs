//! Recovery is replay: reading runs back and applying their records, beside reading the same rows from bare SQLite without
//! looking at what they say.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use downbeat_journal::{Journal, RunFilter};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::run::Run;
use rusqlite::{Connection, OpenFlags};

use super::ROUNDS;
use super::durable_runs::{STEPS, drive};
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, two_threads};

/// 45,000 events.
const RUNS: usize = 2_048;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let runtime = two_threads()?;
    let engine = Arc::new(workshop.durable("recovery")?);
    let plan = workshop.plan(guest::chain(STEPS))?;
    runtime.block_on(drive(&engine, &plan, RUNS))?;
    // In the order in which the journal lists them, as whoever takes them up has them.
    let runs: Vec<RunId> = engine.journal.runs(&RunFilter::default())?.into_iter().map(|run| run.id).collect();
    let file = workshop.folder("recovery")?.join("journal.db");
    let bare = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("bare SQLite can't open {}", file.display()))?;
    bare.pragma_update(None, "cache_size", -16_384)?;
    let rounds = Rounds::of(
        ROUNDS,
        || {
            let started = Instant::now();
            let events = read(&bare, &runs)?;
            Ok(events as f64 / started.elapsed().as_secs_f64())
        },
        || replayed_per_second(&engine.journal, &runs, |_| Ok(plan.clone())),
    )?;
    let with_plans = replayed_per_second(&engine.journal, &runs, |digest| {
        Ok(Arc::new(Plan::from_json(&engine.journal.plan(digest)?)?))
    })?;
    Ok(Figure::new(
        "recovery",
        rounds.ours(),
        "events/s",
        rounds.limit(),
        "bare SQLite, the same rows read",
        rounds.ratio(),
        &[Goal::ValueAtLeast(500_000.0)],
        format!(
            "{RUNS} recorded runs of ten steps, one after the other on one thread, their plan at hand; {with_plans:.0} \
             events/s when each run's plan is read and compiled anew, as by `Conductor::resume`"
        ),
    ))
}

/// Loads and replays these runs.
fn replayed_per_second(
    journal: &Journal,
    runs: &[RunId],
    plan_of: impl Fn(&Digest) -> Result<Arc<Plan>>,
) -> Result<f64> {
    let started = Instant::now();
    let mut events = 0;
    for id in runs {
        let loaded = journal.load(id)?;
        events += Run::replay(plan_of(&loaded.plan)?, id.clone(), &loaded.records)?.version();
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

/// Reads all rows of these runs; gives how many events are in them.
fn read(bare: &Connection, runs: &[RunId]) -> Result<usize> {
    let sql = "SELECT seq, records, body FROM append WHERE run = (SELECT key FROM run WHERE id = ?1) ORDER BY seq";
    let mut select = bare.prepare(sql)?;
    let (mut events, mut bytes) = (0, 0);
    for RunId(id) in runs {
        let mut found = select.query([&**id])?;
        while let Some(row) = found.next()? {
            events += row.get::<_, u32>(1)? as usize;
            bytes += row.get_ref(2)?.as_bytes()?.len();
        }
    }
    std::hint::black_box(bytes);
    Ok(events)
}
