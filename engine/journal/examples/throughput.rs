//! What the journal costs beside bare SQLite, measured in one run on one disk, so that the ratios hold on a noisy machine.
//!
//! `cargo run --release -p downbeat-journal --example throughput [DIRECTORY]`, by default a temporary one. A step here is
//! what the engine writes for one: a kibibyte of output and the start of the next attempt, in one append. Medians of
//! five rounds. No engine and no sandbox: this is the journal's share of a step.

#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_journal::{Append, Create, Journal, Mode};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::StepId;

const ROUNDS: usize = 5;
const STEPS_PER_RUN: u32 = 10;
const ROWS_PER_RUN: i64 = 2 + 2 * STEPS_PER_RUN as i64;
const CONCURRENT_RUNS: usize = 128;
const RUNS: usize = 2_000;
const CHAINED_STEPS: u32 = 1_000;
const BARE_ROWS: usize = 20_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| temporary.path().to_path_buf(), Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;

    let bare = Bare::open(&dir.join("bare"))?;
    let journal = Journal::open(&dir.join("journal"), Mode::Drive)?;
    let memory = Journal::in_memory();
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push([
            bare.rows_per_second(CONCURRENT_RUNS)?,
            runtime.block_on(steps_per_second(&journal, round))?,
            runtime.block_on(steps_per_second(&memory, round))?,
            micros(bare.commit_p50()?),
            micros(runtime.block_on(chained_p50(&journal, round))?),
            replayed_per_second(&journal, round)?,
        ]);
    }
    let median = |value: &dyn Fn(&[f64; 6]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let column = |column: usize| median(&|round| round[column]);
    // Ratios within a round: a disk that is slow for a second is slow for both sides.
    let (of_bare, commits) = (median(&|round| round[1] / round[0]), median(&|round| round[4] / round[3]));
    println!("bare SQLite, 1 KiB rows, {CONCURRENT_RUNS} a transaction   {:>10.0} rows/s", column(0));
    println!("journal, {CONCURRENT_RUNS} runs at a time   {:>23.0} steps/s   {of_bare:.2} of bare", column(1));
    println!("the same in memory   {:>34.0} steps/s", column(2));
    println!("bare SQLite, a commit of one row, p50   {:>15.1} µs", column(3));
    println!("journal, a chained step, p50   {:>24.1} µs        {commits:.2} commits", column(4));
    println!("replay   {:>46.0} events/s", column(5));
    Ok(())
}

/// The same tables and settings with nothing around them.
struct Bare(rusqlite::Connection);

impl Bare {
    fn open(dir: &Path) -> Result<Bare, Failure> {
        std::fs::create_dir_all(dir)?;
        let connection = rusqlite::Connection::open(dir.join("bare.db"))?;
        connection.execute_batch(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = wal; PRAGMA synchronous = full;
             CREATE TABLE event (position INTEGER PRIMARY KEY, run INTEGER NOT NULL, seq INTEGER NOT NULL,
                                 at INTEGER NOT NULL, body TEXT NOT NULL);
             CREATE UNIQUE INDEX event_of_run ON event (run, seq);",
        )?;
        Ok(Bare(connection))
    }

    fn insert(&self, rows: usize, per_transaction: usize) -> Result<Vec<Duration>, Failure> {
        let body = "x".repeat(1024);
        let next: i64 = self.0.query_row("SELECT count(*) FROM event", (), |row| row.get(0))?;
        let mut insert = self.0.prepare("INSERT INTO event (run, seq, at, body) VALUES (?1, ?2, ?3, ?4)")?;
        let mut durations = Vec::new();
        for first in (0..rows).step_by(per_transaction) {
            let started = Instant::now();
            self.0.execute_batch("BEGIN IMMEDIATE")?;
            for row in first..first + per_transaction {
                // As many runs at a time and rows a run as the journal gets, so that the index grows in the same places.
                let (row, runs) = (next + row as i64, CONCURRENT_RUNS as i64);
                let run = row / (runs * ROWS_PER_RUN) * runs + row % runs;
                insert.execute((run, row, row, &body))?;
            }
            self.0.execute_batch("COMMIT")?;
            durations.push(started.elapsed());
        }
        Ok(durations)
    }

    fn rows_per_second(&self, per_transaction: usize) -> Result<f64, Failure> {
        let total: Duration = self.insert(BARE_ROWS, per_transaction)?.iter().sum();
        Ok(BARE_ROWS as f64 / total.as_secs_f64())
    }

    fn commit_p50(&self) -> Result<Duration, Failure> {
        Ok(p50(self.insert(CHAINED_STEPS as usize, 1)?))
    }
}

async fn steps_per_second(journal: &Journal, round: usize) -> Result<f64, Failure> {
    let started = Instant::now();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..CONCURRENT_RUNS {
        let (journal, next) = (journal.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= RUNS {
                    return Ok(());
                }
                drive(&journal, RunId(format!("{round}-{number}").into()), STEPS_PER_RUN, |_| ()).await?;
            }
        }));
    }
    for task in tasks {
        task.await?.map_err(|error: downbeat_journal::AppendError| error)?;
    }
    Ok((RUNS * STEPS_PER_RUN as usize) as f64 / started.elapsed().as_secs_f64())
}

async fn chained_p50(journal: &Journal, round: usize) -> Result<Duration, Failure> {
    let mut durations = Vec::new();
    drive(journal, RunId(format!("chain-{round}").into()), CHAINED_STEPS, |step| durations.push(step)).await?;
    Ok(p50(durations))
}

fn replayed_per_second(journal: &Journal, round: usize) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut events = 0;
    for number in 0..RUNS {
        events += journal.load(&RunId(format!("{round}-{number}").into()))?.records.len();
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

/// One run from its creation to its end; `each` is told how long every step's append took.
async fn drive(
    journal: &Journal,
    run: RunId,
    steps: u32,
    mut each: impl FnMut(Duration),
) -> Result<(), downbeat_journal::AppendError> {
    let output = Json::from(serde_json::Value::String("x".repeat(1022)));
    let plan = Digest::of(b"plan");
    let record = |event| Record { at: Timestamp(1_700_000_000_000), event };
    let start = |step| record(Event::AttemptStarted { step: StepId(step), attempt: 1 });
    let created =
        Event::RunCreated { workflow: "throughput".into(), plan: plan.clone(), inputs: Json::null(), seed: 1 };
    let create = Create { run: run.clone(), plan, plan_json: "plan".into(), records: vec![record(created), start(0)] };
    let mut version = journal.create(create).await?;
    for step in 0..steps {
        let usage =
            Usage { wall_us: 4, cpu_us: 4, memory_peak: 65_536, bytes_in: 1024, bytes_out: 1024, ..Usage::default() };
        let end = Event::AttemptSucceeded { step: StepId(step), attempt: 1, output: output.clone(), usage };
        let next = match step + 1 == steps {
            true => record(Event::RunFinished { outcome: Outcome::Succeeded, outputs: Json::null(), faults: vec![] }),
            false => start(step + 1),
        };
        let started = Instant::now();
        let records = vec![record(end), next];
        version = journal.append(Append { run: run.clone(), expected: version, records, answers: vec![] }).await?;
        each(started.elapsed());
    }
    Ok(())
}

fn p50(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
