//! What is left of the journal's files after a power cut: a write-ahead log that ends anywhere, with a spoilt end, or
//! before its first record; a database with a page that is not what was written. What opens is a beginning of what was
//! acknowledged, never a mix, and what can't be read says so.
//!
//! The journal syncs before it acknowledges, so on a disk that keeps its word nothing of this happens to what was
//! acknowledged. These tests are about disks that don't.

use std::fs;
use std::path::Path;

use downbeat_journal::{Journal, Mode, ReadError};
use downbeat_workflow::event::{Event, Record};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::StepId;

use crate::{append, at, create, run_id, started};

/// SQLite's file format: the log's header, and a frame, which is a header of its own and a page of the journal.
const HEADER: usize = 32;
const PAGE: usize = 16 * 1024;
const FRAME: usize = 24 + PAGE;

/// A copy of a journal's files, taken while it was open, and what had been acknowledged by which frame of the log.
struct Copied {
    database: Vec<u8>,
    log: Vec<u8>,
    /// All that was acknowledged.
    records: Vec<Record>,
    /// How many frames the log had when so many records were acknowledged, and how many were before its first.
    acknowledged: Vec<(usize, usize)>,
    before: Option<usize>,
}

/// Appends groups of one to three records with outputs of `bytes` each, `count` times, and then thirty small ones.
fn written(count: u64, bytes: usize) -> Copied {
    let dir = tempfile::tempdir().unwrap();
    let log_path = dir.path().join("journal.db-wal");
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    let mut version = 0;
    let mut salts = Vec::new();
    let (mut acknowledged, mut before) = (Vec::new(), None);
    for group in 0..=count + 30 {
        let now = if group == 0 {
            journal.create(create(&run, 0)).wait().unwrap()
        } else {
            let size = if group <= count { bytes } else { 100 };
            let records = (0..1 + group % 3).map(|n| at(version + n, output(size))).collect();
            journal.append(append(&run, version, records)).wait().unwrap()
        };
        let log = fs::read(&log_path).unwrap();
        if log[16..24] != salts {
            // The log began anew: all that came before is in the database.
            salts = log[16..24].to_vec();
            before = (version > 0).then_some(version as usize);
            acknowledged.clear();
        }
        acknowledged.push((frames(&log), now as usize));
        version = now;
    }
    let records = journal.load(&run).unwrap().records;
    let (database, log) = (fs::read(dir.path().join("journal.db")).unwrap(), fs::read(log_path).unwrap());
    Copied { database, log, records, acknowledged, before }
}

fn output(bytes: usize) -> Event {
    let output = Json::from(serde_json::Value::String("x".repeat(bytes)));
    Event::AttemptSucceeded { step: StepId(0), attempt: 1, output, usage: Default::default() }
}

/// How many frames from the first on belong to this generation of the log: they repeat its header's salt.
fn frames(log: &[u8]) -> usize {
    log[HEADER..].chunks_exact(FRAME).take_while(|frame| frame[8..16] == log[16..24]).count()
}

impl Copied {
    /// Opens the copy with this log: exactly what had been acknowledged when the log had so many `good` frames is there,
    /// and the journal goes on from it.
    fn check(&self, log: &[u8], good: usize, story: &str) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal.db"), &self.database).unwrap();
        fs::write(dir.path().join("journal.db-wal"), log).unwrap();
        // The index of the log is never synced: anything may be in it.
        fs::write(dir.path().join("journal.db-shm"), vec![0xA5; 32 * 1024]).unwrap();
        let whole = self.acknowledged.iter().rev().find(|(frames, _)| *frames <= good);
        let expected = whole.map(|(_, records)| *records).or(self.before);
        let run = run_id("r1");
        let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
        let version = match (journal.load(&run), expected) {
            (Err(ReadError::NoSuchRun(_)), None) => journal.create(create(&run, 0)).wait().unwrap(),
            (Ok(loaded), Some(expected)) => {
                assert_eq!(loaded.records.len(), expected, "{story}");
                assert!(loaded.records == self.records[..expected], "other records than were appended: {story}");
                expected as u64
            }
            (loaded, expected) => {
                panic!("{expected:?} records expected, found {:?}: {story}", loaded.map(|found| found.records.len()))
            }
        };
        let mark = at(1_000_000, started(7));
        assert_eq!(journal.append(append(&run, version, vec![mark.clone()])).wait().unwrap(), version + 1, "{story}");
        drop(journal);
        let records = Journal::open(dir.path(), Mode::Observe).unwrap().load(&run).unwrap().records;
        assert_eq!((records.len() as u64, records.last()), (version + 1, Some(&mark)), "{story}");
    }

    fn cut(&self, bytes: usize) {
        let good = bytes.saturating_sub(HEADER) / FRAME;
        self.check(&self.log[..bytes], good, &format!("the log cut at {bytes}"));
    }

    fn spoil(&self, byte: usize) {
        let mut log = self.log.clone();
        log[byte] ^= 0x10;
        // A spoilt header is the end of all frames.
        let good = byte.checked_sub(HEADER).map_or(0, |byte| byte / FRAME);
        self.check(&log, good, &format!("the log spoilt at {byte}"));
    }
}

/// Offsets that look random and are the same every time.
fn offsets(bound: usize) -> impl Iterator<Item = usize> {
    (1_u64..).map(move |n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as usize % bound)
}

#[test]
fn a_log_that_ends_anywhere_holds_what_was_acknowledged_by_then() {
    let copied = written(12, 9_000);
    let frames = frames(&copied.log);
    assert!(frames > 60 && copied.log.len() == HEADER + frames * FRAME, "{frames} frames");
    for frame in 0..=frames {
        copied.cut(HEADER + frame * FRAME);
    }
    for bytes in offsets(copied.log.len()).take(60) {
        copied.cut(bytes);
    }
    // A file whose end was never written, though its length was.
    for frame in [1, frames / 2, frames - 1] {
        let mut log = copied.log.clone();
        log[HEADER + frame * FRAME..].fill(0);
        copied.check(&log, frame, &format!("zeros from frame {frame} on"));
    }
}

#[test]
fn a_spoilt_byte_of_the_log_ends_it_there() {
    let copied = written(12, 9_000);
    for byte in offsets(copied.log.len()).take(60) {
        copied.spoil(byte);
    }
    for byte in [0, 3, 7, 8, 20, 31, HEADER, HEADER + 4, copied.log.len() - 1] {
        copied.spoil(byte);
    }
}

#[test]
fn a_log_that_began_anew_over_an_older_one_is_no_mix_of_the_two() {
    // Enough for SQLite to move the log into the database (1,000 pages) and begin it anew over the old frames.
    let copied = written(40, 300_000);
    let frames = frames(&copied.log);
    assert!(copied.before.is_some() && copied.log.len() > HEADER + (frames + 100) * FRAME, "{frames} frames");
    for frame in (0..=frames).step_by(frames / 4) {
        copied.cut(HEADER + frame * FRAME);
        copied.cut(HEADER + frame * FRAME + FRAME / 2);
        copied.spoil(HEADER + frame * FRAME + 99);
    }
}

#[test]
fn pages_spoilt_while_the_log_was_moved_into_the_database_are_taken_from_the_log() {
    let mut copied = written(12, 9_000);
    // A frame begins with the number of its page, from 1.
    let log = copied.log[HEADER..].chunks_exact(FRAME);
    let pages: Vec<usize> = log.map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize).collect();
    let last = *pages.iter().max().unwrap();
    copied.database.resize(last * PAGE, 0);
    for page in pages {
        copied.database[(page - 1) * PAGE..][..PAGE].fill(0xA5);
    }
    copied.check(&copied.log, frames(&copied.log), &format!("{last} spoilt pages"));
}

#[test]
fn a_damaged_page_of_the_database_is_an_error_or_out_of_the_way_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_id("r1");
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let mut version = journal.create(create(&run, 0)).wait().unwrap();
    for group in 0..20 {
        let records = vec![at(group, output(9_000)), at(group, started(3))];
        version = journal.append(append(&run, version, records)).wait().unwrap();
    }
    let records = journal.load(&run).unwrap().records;
    drop(journal);
    let path = dir.path().join("journal.db");
    let good = fs::read(&path).unwrap();
    let mut told = 0;
    for page in 0..good.len() / PAGE {
        for fill in [0x00, 0xA5] {
            let mut bytes = good.clone();
            bytes[page * PAGE..][..PAGE].fill(fill);
            fs::write(&path, &bytes).unwrap();
            let story = format!("page {page} of {} filled with {fill:#x}", good.len() / PAGE);
            for mode in [Mode::Observe, Mode::Drive] {
                match open_and_load(dir.path(), mode) {
                    Ok(loaded) => assert!(loaded == records, "another story: {story}"),
                    Err(said) => {
                        told += 1;
                        let plain = ["is damaged (", "is not a journal: ", "is another program's database"];
                        assert!(plain.iter().any(|words| said.contains(words)), "{said}: {story}");
                        assert!(fs::read(&path).unwrap() == bytes, "written to: {story}");
                    }
                }
            }
        }
    }
    assert!(told > good.len() / PAGE, "only {told} of the damages were noticed");
}

/// All records, or what is said instead.
fn open_and_load(dir: &Path, mode: Mode) -> Result<Vec<Record>, String> {
    let journal = Journal::open(dir, mode).map_err(|error| error.to_string())?;
    Ok(journal.load(&run_id("r1")).map_err(|error| error.to_string())?.records)
}
