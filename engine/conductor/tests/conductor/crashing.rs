//! Engines that die in the middle of a run of two hundred steps: after every record of it, and with the end of the
//! journal's file torn off or spoilt, as a power cut leaves it where a disk lies about its syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::Ending;
use downbeat_journal::{Append, Create, Journal, Loaded, Mode, ReadError};
use downbeat_workflow::event::{Event, Outcome, Record, RunId};
use downbeat_workflow::plan::{Plan, Pool, PoolId, Work};

use crate::house::{House, no_inputs, plan};

const ROUNDS: usize = 4;
const LANES: usize = 6;
const LANE_STEPS: usize = 8;

/// Four times: a step that opens, and six lanes of eight steps side by side, every other lane through a pool of two,
/// every fourth step with two retries. At the end a step that fails and three that are skipped for it: 200 steps.
fn storm() -> Plan {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut ends: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let open = format!("open{round}");
        steps.push((open.clone(), std::mem::take(&mut ends)));
        for lane in 0..LANES {
            let mut before = open.clone();
            for place in 0..LANE_STEPS {
                let does = if place % 4 == 3 { "flaky" } else { "step" };
                let name = format!("{does}{round}{lane}{place}");
                steps.push((name.clone(), vec![before]));
                before = name;
            }
            ends.push(before);
        }
    }
    steps.push(("fail".to_owned(), ends));
    for skipped in ["never1", "never2", "never3"] {
        steps.push((skipped.to_owned(), vec!["fail".to_owned()]));
    }
    let needs: Vec<Vec<&str>> = steps.iter().map(|(_, needs)| needs.iter().map(String::as_str).collect()).collect();
    let steps: Vec<(&str, &[&str])> = steps.iter().zip(&needs).map(|((name, _), needs)| (&**name, &**needs)).collect();
    let mut plan = plan(&steps);
    plan.pools = vec![Pool { name: "narrow".into(), size: 2, rate: None }];
    for step in &mut plan.steps {
        step.retry.delay_ms = 1;
        let lane = step.name.trim_start_matches(char::is_alphabetic).chars().nth(1);
        let pool = lane.filter(|lane| "024".contains(*lane)).map(|_| PoolId(0));
        if let Work::Use(uses) = &mut step.work {
            uses.pool = pool;
        }
    }
    plan.link()
}

/// How every step ended, and the run.
fn ends(records: &[Record]) -> BTreeMap<String, String> {
    let mut ends = BTreeMap::new();
    for record in records {
        let (who, end) = match &record.event {
            Event::AttemptSucceeded { step, output, .. } => (format!("{step:?}"), format!("succeeded: {output}")),
            Event::AttemptFailed { step, failure, .. } => (format!("{step:?}"), format!("failed: {:?}", failure.kind)),
            Event::StepSkipped { step, reason } => (format!("{step:?}"), format!("skipped: {reason:?}")),
            Event::RunFinished { outcome, .. } => ("run".to_owned(), format!("{outcome:?}")),
            _ => continue,
        };
        ends.insert(who, end);
    }
    ends
}

/// Every attempt was started once and ended once.
fn check_attempts(records: &[Record], story: &str) {
    let (mut started, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match record.event {
            Event::AttemptStarted { step, attempt } => assert!(started.insert((step, attempt)), "{story}"),
            Event::AttemptSucceeded { step, attempt, .. }
            | Event::AttemptFailed { step, attempt, .. }
            | Event::AttemptInterrupted { step, attempt, .. } => assert!(ended.insert((step, attempt)), "{story}"),
            _ => (),
        }
    }
    assert_eq!(started, ended, "{story}");
}

/// Resumes the run and compares it with one that nobody killed: what was there stays, the ends are the same, and only
/// what was in flight is executed again, under its key.
async fn resume_and_check(journal: Journal, run: &RunId, whole: &[Record], story: &str) {
    let before = journal.load(run).unwrap().records;
    let house = House::over(journal);
    let ending = house.conductor.resume(run).await.unwrap().ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(Outcome::Failed), "{story}");
    let after = house.journal.load(run).unwrap().records;
    assert_eq!(&after[..before.len()], before, "{story}");
    assert_eq!(ends(&after), ends(whole), "{story}");
    check_attempts(&after, story);

    let done = before.iter().filter_map(|record| match &record.event {
        Event::AttemptSucceeded { step, .. } => Some(*step),
        _ => None,
    });
    let done: BTreeSet<_> = done.collect();
    let plan = storm();
    let performed = house.script.started.lock().unwrap();
    for line in &*performed {
        let (attempt, key) = line.split_once(' ').unwrap();
        let name = attempt.split_once('#').unwrap().0;
        assert_eq!(key, format!("{run}/{name}"), "{story}");
        assert!(!done.contains(&plan.step_named(name).unwrap()), "{line} had succeeded before: {story}");
    }
    let newly_started = after[before.len()..].iter().filter(|r| matches!(r.event, Event::AttemptStarted { .. }));
    assert_eq!(performed.len(), newly_started.count(), "{story}");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_at_any_record_a_run_of_two_hundred_steps_comes_to_the_same_end() {
    let plan = storm();
    assert_eq!(plan.steps.len(), 200);
    let live = House::new();
    let (run, ending) = live.run(plan.clone()).await;
    assert_eq!(ending, Ending::Finished(Outcome::Failed));
    let whole = live.journal.load(&run).unwrap().records;
    check_attempts(&whole, "undisturbed");
    let (plan_json, digest) = plan.to_json();
    for length in 1..whole.len() {
        let journal = Journal::in_memory();
        let create = Create {
            run: run.clone(),
            plan: digest.clone(),
            plan_json: plan_json.clone(),
            records: whole[..1].to_vec(),
        };
        journal.create(create).await.unwrap();
        let records = whole[1..length].to_vec();
        journal.append(Append { run: run.clone(), expected: 1, records, answers: Vec::new() }).await.unwrap();
        resume_and_check(journal, &run, &whole, &format!("after record {length}")).await;
    }
}

/// Bytes of the write-ahead log's header, and of a frame: its own header and a page of the journal (SQLite's file format).
const WAL_HEADER: u64 = 32;
const WAL_FRAME: u64 = 24 + 16 * 1024;

#[tokio::test]
async fn a_run_whose_journal_lost_its_end_comes_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let live = House::over(Journal::open(dir.path(), Mode::Drive).unwrap());
    // Stopped half way, so that everything is still in the write-ahead log.
    let handle = live.conductor.start(Arc::new(storm()), no_inputs()).await.unwrap();
    let run = handle.id().clone();
    let mut horizon = live.journal.horizon().unwrap();
    horizon.wait_for(|horizon| horizon.event.0 >= 350).await.unwrap();
    live.conductor.stop();
    assert_eq!(handle.ending().await.unwrap(), Ending::Stopped);
    let parked = live.journal.load(&run).unwrap().records;

    let undisturbed = House::new();
    let (calm, _) = undisturbed.run(storm()).await;
    let whole = undisturbed.journal.load(&calm).unwrap().records;

    let bytes = fs::metadata(dir.path().join("journal.db-wal")).unwrap().len();
    let frames = (bytes - WAL_HEADER) / WAL_FRAME;
    assert!(frames > 50, "{frames} frames");
    let mut resumed = 0;
    for part in 1..=8 {
        // At the end of a frame, in the middle of one, and whole but spoilt in the last quarter.
        let (cut, spoilt) = match part % 3 {
            0 => (WAL_HEADER + frames * part / 8 * WAL_FRAME, None),
            1 => (WAL_HEADER + frames * part / 8 * WAL_FRAME - WAL_FRAME / 3, None),
            _ => (bytes, Some(WAL_HEADER + (frames * 3 / 4 + part) * WAL_FRAME + 1_000)),
        };
        let story = format!("{frames} frames, cut at {cut}, spoilt at {spoilt:?}");
        let torn = tear(dir.path(), cut, spoilt);
        let journal = Journal::open(torn.path(), Mode::Drive).unwrap();
        let Loaded { records, .. } = match journal.load(&run) {
            Err(ReadError::NoSuchRun(_)) => continue,
            loaded => loaded.unwrap(),
        };
        assert_eq!(records, parked[..records.len()], "{story}");
        assert!(records.len() < parked.len() || cut == bytes && spoilt.is_none(), "{story}");
        tokio::time::timeout(Duration::from_secs(60), resume_and_check(journal, &run, &whole, &story)).await.unwrap();
        resumed += 1;
    }
    assert!(resumed >= 6, "only {resumed} of the torn journals had the run");
}

/// The state as it is after a power cut which left `cut` bytes of the write-ahead log, one of them `spoilt`.
fn tear(dir: &Path, cut: u64, spoilt: Option<u64>) -> tempfile::TempDir {
    let torn = tempfile::tempdir().unwrap();
    fs::copy(dir.join("journal.db"), torn.path().join("journal.db")).unwrap();
    let mut log = fs::read(dir.join("journal.db-wal")).unwrap();
    log.truncate(cut as usize);
    if let Some(at) = spoilt {
        log[at as usize] ^= 0x40;
    }
    fs::write(torn.path().join("journal.db-wal"), log).unwrap();
    torn
}
