//! `kill -9` at random moments of a run of two hundred steps, with parallel branches, pools, retries and skips, until the
//! run has come to its end in spite of them. Real processes, a real journal, and a guest that leaves a trace of everything
//! that was executed.
//!
//! The moments come from a seed. `DOWNBEAT_KILLS` says how many kills (200), `DOWNBEAT_SEED` where they start (1):
//!
//! ```sh
//! DOWNBEAT_KILLS=1000 DOWNBEAT_SEED=7 cargo test --workspace --test kills -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use downbeat_tests::storm::{self, Storm};
use downbeat_tests::{Bench, Dice};
use serde_json::Value;

/// In `make test`: about 20 s on two cores.
const KILLS: u64 = 200;

fn new_storm() -> Storm {
    Storm::on(Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR")))
}

#[test]
fn a_run_of_two_hundred_steps_survives_a_kill_at_any_moment() {
    assert_eq!(storm::STEPS, 200);
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (kills, seed) = (number("DOWNBEAT_KILLS", KILLS), number("DOWNBEAT_SEED", 1));
    let calm = new_storm();
    let undisturbed = live(&calm, false, Moment::Never);
    assert_eq!(undisturbed.code, Some(0), "{}", undisturbed.stderr);
    let expected = calm.check_all(&calm.journal());
    // Two at a time, as most of it is waiting for the disk.
    std::thread::scope(|scope| {
        let expected = &expected;
        scope.spawn(move || survive(kills / 2, 2 * seed, expected));
        survive(kills - kills / 2, 2 * seed + 1, expected);
    });
}

/// Kills and resumes until there have been so many kills, and then until the run is over.
#[allow(clippy::print_stdout, reason = "whoever asks for a thousand kills wants to see them counted")]
fn survive(kills: u64, seed: u64, expected: &BTreeMap<String, Value>) {
    let mut dice = Dice::new(seed);
    let (mut killed, mut runs) = (0, 0);
    while killed < kills {
        let storm = new_storm();
        runs += 1;
        let mut journal = Vec::new();
        loop {
            let moment = if killed < kills { Moment::draw(&mut dice) } else { Moment::Never };
            let life = live(&storm, !journal.is_empty(), moment);
            let story = format!("dice {seed}, kill {killed}, run {runs}, {moment:?}\n{}", life.stderr);
            let longer = storm.journal();
            storm::check_life(&journal, &life.printed, &longer, &story);
            journal = longer;
            match life.code {
                None => killed += 1,
                Some(0) => break,
                Some(code) => panic!("the engine ended with {code}: {story}"),
            }
            // Killed between its last record and its end, it has nothing to resume.
            if storm::is_over(&journal) {
                break;
            }
        }
        let ends = storm.check_all(&journal);
        assert_eq!(&ends, expected, "dice {seed}, run {runs}: the ends differ from the undisturbed run's");
    }
    println!("{killed} kills in {runs} runs, dice {seed}");
}

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Never,
    /// This long after the process was started: it may not have opened the journal yet.
    AfterStart(Duration),
    /// This long after it has printed so many events.
    AfterEvents(u64, Duration),
}

impl Moment {
    /// One in eight moments lies in the first 60 ms, which is what a start takes; the others after up to a dozen events,
    /// so that a run takes about as many kills as it has steps, and up to 3 ms later, which is several commits.
    fn draw(dice: &mut Dice) -> Moment {
        match dice.below(8) {
            0 => Moment::AfterStart(Duration::from_micros(dice.below(60_000))),
            _ => Moment::AfterEvents(1 + dice.below(12), Duration::from_micros(dice.below(3_000))),
        }
    }
}

/// What is left of a process.
struct Life {
    /// Its event stream; the last line may be torn.
    printed: String,
    stderr: String,
    /// `None` if it was killed.
    code: Option<i32>,
}

/// Starts the run, or takes it up if it has `begun`, and lets the process live until `moment`.
fn live(storm: &Storm, begun: bool, moment: Moment) -> Life {
    let arguments: &[&str] = if begun { &["resume", "--json"] } else { &["run", "storm.toml", "--json"] };
    let born = Instant::now();
    let mut engine = storm.bench.spawn(arguments);
    let mut stdout = BufReader::new(engine.stdout.take().unwrap());
    let mut printed = String::new();
    match moment {
        Moment::Never => (),
        Moment::AfterStart(after) => std::thread::sleep(after.saturating_sub(born.elapsed())),
        Moment::AfterEvents(count, after) => {
            let mut events = 0;
            while events < count && stdout.read_line(&mut printed).unwrap() > 0 {
                events += 1;
            }
            std::thread::sleep(after);
        }
    }
    if !matches!(moment, Moment::Never) {
        engine.kill().unwrap();
    }
    // What still stands in the pipe was printed before the kill, and counts.
    stdout.read_to_string(&mut printed).unwrap();
    let mut stderr = String::new();
    engine.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = engine.wait().unwrap();
    let code = status.code();
    assert!(code.is_some() || status.signal() == Some(9), "{status}: {stderr}");
    Life { printed, stderr, code }
}
