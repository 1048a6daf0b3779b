//! `kill -9` of a process that appends: everything that it was told is durable is there.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use downbeat_journal::{Journal, Mode, Position};

use crate::{append, at, create, run_id, started};

const DIRECTORY: &str = "DOWNBEAT_TEST_APPEND";
const RUNS: usize = 4;

/// Acknowledgements that the parent waits for before it kills.
const ACKNOWLEDGED: usize = 2_000;

/// What the child does until it is killed: appends to several runs at once and says each acknowledged version.
fn append_for_ever(dir: &std::path::Path) {
    let journal = Journal::open(dir, Mode::Drive).unwrap();
    std::thread::scope(|scope| {
        for n in 0..RUNS {
            let journal = &journal;
            scope.spawn(move || {
                let run = run_id(&format!("run-{n}"));
                let mut version = journal.create(create(&run, 0)).wait().unwrap();
                loop {
                    let records = vec![at(version, started(0)), at(version + 1, started(1))];
                    version = journal.append(append(&run, version, records)).wait().unwrap();
                    // One write a line: the parent may see a torn last one, and nothing else.
                    let line = format!("acknowledged {n} {version}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return append_for_ever(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::what_was_acknowledged_before_a_kill_is_there_after_it", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged: HashMap<usize, u64> = HashMap::new();
    let mut count = 0;
    let mut killed = false;
    let mut line = String::new();
    // After the kill, what still stands in the pipe counts as well.
    while output.read_line(&mut line).unwrap() > 0 {
        let mut words = line.split_whitespace();
        // The test harness writes lines of its own, and may put the first one before ours.
        if line.ends_with('\n') && words.any(|word| word == "acknowledged") {
            let run = words.next().unwrap().parse().unwrap();
            acknowledged.insert(run, words.next().unwrap().parse().unwrap());
            count += 1;
        }
        line.clear();
        if count == ACKNOWLEDGED && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {count} acknowledgements");
    assert_eq!(acknowledged.len(), RUNS);

    let journal = Journal::open(dir.path(), Mode::Drive).expect("the lock died with its holder");
    for (n, version) in acknowledged {
        let records = journal.load(&run_id(&format!("run-{n}"))).unwrap().records;
        let kept = records.len() as u64;
        assert!(kept >= version, "run {n}: {kept} records of {version} acknowledged");
        assert_eq!(kept % 2, 1, "run {n}: an append is kept whole or not at all");
        let times: Vec<u64> = records.iter().map(|record| record.at.0).collect();
        assert_eq!(times, (0..kept).collect::<Vec<_>>(), "run {n}");
        assert_eq!(journal.append(append(&run_id(&format!("run-{n}")), kept, vec![])).wait().unwrap(), kept);
    }
    let positions = journal.tail(Position(0), usize::MAX).unwrap();
    assert!(positions.windows(2).all(|pair| pair[0].position < pair[1].position));
}
