//! `downbeat audit verify`: holding a journal against its chain of hashes, beside reading the same rows from bare SQLite without
//! looking at what they say.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use super::ROUNDS;
use super::durable_runs::{STEPS, drive};
use crate::guest;
use crate::measure::Rounds;
use crate::report::{Figure, Goal};
use crate::workshop::{Workshop, two_threads};

/// 45,000 records.
const RUNS: usize = 2_048;

pub(super) fn measure(workshop: &Workshop) -> Result<Figure> {
    let runtime = two_threads()?;
    let engine = Arc::new(workshop.durable("verify")?);
    let plan = workshop.plan(guest::chain(STEPS))?;
    runtime.block_on(drive(&engine, &plan, RUNS))?;
    let file = workshop.folder("verify")?.join("journal.db");
    let bare = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("bare SQLite can't open {}", file.display()))?;
    bare.pragma_update(None, "cache_size", -16_384)?;
    let rounds = Rounds::of(
        ROUNDS,
        || {
            let started = Instant::now();
            let records = read(&bare)?;
            Ok(records as f64 / started.elapsed().as_secs_f64())
        },
        || {
            let started = Instant::now();
            let verified = engine.journal.verify(None)?;
            ensure!(verified.is_whole(), "the journal is not as it was written: {:?}", verified.differences);
            Ok(verified.records as f64 / started.elapsed().as_secs_f64())
        },
    )?;
    Ok(Figure::new(
        "audit verify",
        rounds.ours(),
        "records/s",
        rounds.limit(),
        "bare SQLite, the same rows read",
        rounds.ratio(),
        &[Goal::ValueAtLeast(200_000.0)],
        format!("{RUNS} recorded runs of ten steps, on one thread"),
    ))
}

/// Reads all rows; gives how many records are in them.
fn read(bare: &Connection) -> Result<u64> {
    let mut statement = bare.prepare_cached("SELECT records, body FROM append ORDER BY position")?;
    let mut rows = statement.query(())?;
    let mut records = 0;
    while let Some(row) = rows.next()? {
        let length = row.get_ref(1)?.as_bytes()?.len();
        ensure!(length > 0, "a row without a text");
        records += row.get::<_, i64>(0)?.unsigned_abs();
    }
    Ok(records)
}
