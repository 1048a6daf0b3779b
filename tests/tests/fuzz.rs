//! What reads bytes from elsewhere, with bytes that nobody would write: the functions of `fuzz/` over their corpus, and over
//! what a generator makes of it. As often as fits into every run of the tests; `DOWNBEAT_FUZZ_SECONDS` is for longer.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use downbeat_tests::repository;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a crate elsewhere")]
mod fuzz;

/// How long one input may take, compiled for debugging on a busy machine. The engine's own bounds are far below it.
const INPUT_MAX: Duration = Duration::from_secs(20);

/// The longest input that is made: the bounds beyond that are tested where they are.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// The seed of every run of the tests.
const SEED: u64 = 0x5eed;

/// xorshift64*: the same everywhere, for ever.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }

    fn piece<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let from = self.throw(of.len());
        let length = 1 + self.throw(32);
        &of[from..of.len().min(from + length)]
    }
}

/// What begins and ends things in the texts that are read here, and numbers at the edges.
const WORDS: &[&str] = &[
    "${",
    "}",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "'''",
    "\"\"\"",
    "\n",
    "=",
    ".",
    ",",
    "#",
    "\\",
    "\\u0000",
    "\u{1b}[31m",
    "\u{202e}",
    "é",
    "0",
    "-1",
    "1e999",
    "9223372036854775808",
    "18446744073709551616",
    "true",
    "null",
    "steps.",
    "inputs.",
    ".map(x, ",
    ".all(x, ",
    " + ",
    " && ",
    " ? ",
    " : ",
    " in ",
    "[[",
    "]]",
    "foreach",
    "repeat",
    "needs",
    "with",
    "use",
    "grant",
    "like",
];

/// An input like one of these, but for some changes.
fn changed(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.throw(seeds.len())].clone();
    for _ in 0..=dice.throw(6) {
        let at = dice.throw(bytes.len() + 1);
        let end = bytes.len().min(at + 1 + dice.throw(16));
        match dice.throw(7) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << dice.throw(8);
            }
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, WORDS[dice.throw(WORDS.len())].bytes()).for_each(drop),
            3 if !bytes.is_empty() => {
                let piece = dice.piece(&bytes).to_vec();
                let times = 1 << dice.throw(8);
                bytes.splice(at..at, piece.repeat(times)).for_each(drop);
            }
            4 => {
                let other = &seeds[dice.throw(seeds.len())];
                if !other.is_empty() {
                    let piece = dice.piece(other).to_vec();
                    bytes.splice(at..end, piece).for_each(drop);
                }
            }
            5 => bytes.truncate(at),
            _ => bytes.splice(at..end, (0..end - at).map(|_| dice.throw(256) as u8)).for_each(drop),
        }
        bytes.truncate(INPUT_BYTES_MAX.max(seeds[0].len()));
    }
    bytes
}

/// The files of a folder and those below it that are not too long.
fn files(folder: &Path, extension: Option<&str>, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, extension, into);
        } else if extension.is_none_or(|extension| path.extension().is_some_and(|of| of == extension)) {
            into.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut seeds = Vec::new();
    files(&repository().join("fuzz/corpus").join(name), None, &mut seeds);
    if name == "workflow" {
        // Every workflow of the repository is one to begin with.
        files(&repository().join("workflows"), Some("toml"), &mut seeds);
        files(&repository().join("engine/workflow/tests/diagnostics"), Some("toml"), &mut seeds);
        files(&repository().join("tests/patterns"), Some("toml"), &mut seeds);
    }
    assert!(!seeds.is_empty(), "there is a corpus of {name}");
    seeds
}

/// Runs one input; if it breaks something or takes too long, keeps it and says where.
fn run((name, target): fuzz::Target, bytes: &[u8], what: &dyn std::fmt::Display) {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    let took = started.elapsed();
    if outcome.is_err() || took > INPUT_MAX {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::write(&kept, bytes).unwrap();
        let how = if outcome.is_err() { "breaks".to_owned() } else { format!("takes {took:?}") };
        panic!("{name}: {what} {how}; the input is in {}", kept.display());
    }
}

/// Runs the corpus of a target, and so many inputs made from it: as many as take a slow core some seconds.
fn check(name: &str, inputs: usize) {
    let target = *fuzz::TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let seeds = seeds(name);
    for (path, bytes) in &seeds {
        run(target, bytes, &path.display());
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("DOWNBEAT_FUZZ_SECONDS");
    let seed = number("DOWNBEAT_FUZZ_SEED").unwrap_or_else(|| match seconds {
        Some(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64,
        None => SEED,
    });
    let mut dice = Dice(seed | 1);
    let started = Instant::now();
    let mut count = 0;
    while seconds.map_or(count < inputs, |seconds| started.elapsed().as_secs() < seconds) {
        let bytes = changed(&mut dice, &seeds);
        run(target, &bytes, &format_args!("input {count} of seed {seed}"));
        count += 1;
    }
    tell(&format!("{name}: {count} inputs of seed {seed} in {:?}", started.elapsed()));
}

#[allow(clippy::print_stdout, reason = "how far it came is what a long run is asked for")]
fn tell(text: &str) {
    println!("{text}");
}

#[test]
fn no_text_breaks_what_reads_workflows() {
    check("workflow", 3_000);
}

#[test]
fn no_text_breaks_what_evaluates_rules() {
    check("expression", 10_000);
}

#[test]
fn no_bytes_break_what_loads_components() {
    check("component", 500);
}

#[test]
fn no_bytes_break_what_reads_journals() {
    check("journal", 100);
}

#[test]
fn no_bytes_break_what_reads_exported_runs() {
    check("archive", 10_000);
}

#[test]
fn no_text_breaks_what_reads_locks() {
    check("lock", 5_000);
}

#[test]
fn no_text_breaks_what_reads_policies() {
    check("policy", 5_000);
}

#[test]
fn no_bytes_break_what_reads_lists_of_crates() {
    check("crates", 100_000);
}

#[test]
fn no_text_breaks_what_reads_advisories() {
    check("advisory", 50_000);
}

#[test]
fn every_target_has_a_test_and_a_program_of_its_own() {
    let source = std::fs::read_to_string(repository().join("tests/tests/fuzz.rs")).unwrap();
    for (name, _) in fuzz::TARGETS {
        assert!(source.contains(&format!("check(\"{name}\", ")), "{name} has no test");
        let program = std::fs::read_to_string(repository().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("downbeat_fuzz::{name}(")), "{program}");
    }
}
