//! Counts the instructions that the engine itself spends on a step, with callgrind: a figure that does not depend on what
//! else the machine does, so that a regression of a few per cent is seen, in CI as well.
//!
//! What is counted are runs of scripted steps in a row, through conductor, core and journal on one thread and the journal's
//! writer; no WebAssembly, whose cost is wasmtime's. A few runs and some more are counted, and the difference is divided
//! by the steps between them, so that what a process does once (resolving the workflow above all) cancels out. Counts
//! belong to a compiler and a profile: they are compared only with committed ones of the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use downbeat_conductor::{Order, Perform, PrepareError};
use downbeat_journal::{Journal, Mode};
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::event::Usage;
use downbeat_workflow::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::guest;
use crate::machine::{self, find};
use crate::report::{Count, Instructions};
use crate::workshop::{Engine, one_thread};

/// By how much a count may grow unnoticed. Counts of one program differ by less than 0.1 % from one time to the next (hash
/// seeds, the writer's waking), so that 5 % are a change of the code.
const GROWTH_MAX: f64 = 0.05;

/// Of a run: so many that its own beginning and end are a small part of it.
const STEPS: usize = 100;

/// The first ones have warmed everything up; the others add a thousand steps, over which the journal's checkpoints are
/// spread.
const RUNS: [usize; 2] = [2, 12];

/// A kind of step: where its records are kept, and the bytes of the text in its input and output.
struct Kind {
    name: &'static str,
    kept: Kept,
    text: usize,
}

/// With a few bytes what the engine does for any step is seen, with a kibibyte how often it goes through a step's JSON.
const KINDS: &[Kind] = &[
    Kind { name: "an in-memory step, 16 bytes", kept: Kept::Memory, text: 16 },
    Kind { name: "an in-memory step, 1 KiB", kept: Kept::Memory, text: 1024 },
    Kind { name: "a durable step, 16 bytes", kept: Kept::File, text: 16 },
    Kind { name: "a durable step, 1 KiB", kept: Kept::File, text: 1024 },
];

/// The function that hashes, for the chain of a journal's records. Callgrind's processor has no instructions for SHA-256, which
/// processors have had since 2017 (Zen, Ice Lake): it executes 28,000 instructions for a record of 300 bytes, where this one
/// takes some hundred (0.7 µs); in the dev profile as many again go by in the hasher's generic parts. So it is left out.
const HASHING: &str = "*downbeat_journal::chain::sha256*";

/// Where the records are kept.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kept {
    /// In memory.
    Memory,
    /// In a journal file.
    File,
}

/// What is committed: by profile, then by what is counted.
#[derive(Default, Serialize, Deserialize)]
struct Committed {
    rustc: String,
    profiles: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The command `instructions`.
pub(crate) fn command(check: bool, accept: bool) -> Result<()> {
    let counted = count()?;
    print!("{counted}");
    let Instructions::Counted(counts) = counted else { return Ok(()) };
    if accept {
        return commit(&counts);
    }
    let remarks: Vec<String> = counts.iter().filter_map(remark).collect();
    remarks.iter().for_each(|remark| println!("{remark}"));
    let grown: Vec<String> = counts.iter().filter_map(complaint).collect();
    ensure!(!check || grown.is_empty(), "{}", grown.join("\n"));
    Ok(())
}

/// What is wrong with a count that has grown.
fn complaint(count: &Count) -> Option<String> {
    let (growth, committed) = (count.growth()?, count.committed?);
    (growth > GROWTH_MAX).then(|| {
        format!(
            "{} takes {} instructions, {:.1} % more than the committed {committed}: find the cause, or accept the new \
             figure with `downbeat-bench instructions --accept` and say why in the commit",
            count.name,
            count.count,
            growth * 100.0
        )
    })
}

/// What is to be said of a count that is not wrong.
fn remark(count: &Count) -> Option<String> {
    match count.growth() {
        None => Some(format!(
            "NOT COMPARED: nothing is committed for {} in the {} profile by {}; `downbeat-bench instructions --accept` \
             writes it",
            count.name,
            profile(),
            machine::rustc()
        )),
        Some(growth) if growth < -GROWTH_MAX => Some(format!(
            "{} has become cheaper: commit what `downbeat-bench instructions --accept` writes, so that it stays so",
            count.name
        )),
        Some(_) => None,
    }
}

/// Counts all kinds of steps.
pub(crate) fn count() -> Result<Instructions> {
    if find("valgrind").is_none() {
        return Ok(Instructions::NotCounted("there is no valgrind on this machine".into()));
    }
    let committed = committed()?;
    let comparable = committed.rustc == machine::rustc();
    let figures = committed.profiles.get(profile()).filter(|_| comparable);
    let count = |kind: &Kind| {
        let [few, many] = RUNS.map(|runs| instructions_of(kind, runs));
        let count = (many? - few?) / ((RUNS[1] - RUNS[0]) * STEPS) as u64;
        let committed = figures.and_then(|figures| figures.get(kind.name).copied());
        anyhow::Ok(Count { name: kind.name.into(), count, committed })
    };
    Ok(Instructions::Counted(KINDS.iter().map(count).collect::<Result<_>>()?))
}

/// The instructions of these runs, but for what the machine does otherwise.
fn instructions_of(kind: &Kind, runs: usize) -> Result<u64> {
    let all = collected(kind, runs, None)?;
    Ok(match kind.kept {
        Kept::Memory => all,
        Kept::File => all - collected(kind, runs, Some(HASHING))?,
    })
}

/// Runs this program under callgrind: counts everything, or what is done within a function.
fn collected(kind: &Kind, runs: usize, within: Option<&str>) -> Result<u64> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(within.map(|function| format!("--toggle-collect={function}"))).arg(program);
    let kept = match kind.kept {
        Kept::Memory => "memory",
        Kept::File => "file",
    };
    command.args(["chain", kept, &runs.to_string(), &kind.text.to_string()]);
    let output = command.output().context("valgrind can't be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "under callgrind, {}: {}\n{said}", kind.name, output.status);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.with_context(|| format!("callgrind did not say what it collected:\n{said}"))?;
    Ok(count.trim().parse()?)
}

/// The command `chain`: what callgrind looks at.
pub(crate) fn chain(kept: Kept, runs: usize, text: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = match kept {
        Kept::Memory => Journal::in_memory(),
        Kept::File => Journal::open(folder.path(), Mode::Drive)?,
    };
    let plan = Arc::new(guest::plan(guest::chain(STEPS), guest::described())?);
    let engine = Engine::new(journal, Scripted, Arc::new(()));
    one_thread()?.block_on(async {
        for _ in 0..runs {
            engine.run_with(&plan, "x".repeat(text)).await?;
        }
        Ok(())
    })
}

/// Does what the guest does, without WebAssembly.
struct Scripted;

impl Perform for Scripted {
    type Prepared = ();

    async fn prepare(&self, _: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        _: Arc<dyn Observer>,
        _: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        Ended { end: End::Succeeded(order.input), usage: Usage::default() }
    }
}

fn commit(counts: &[Count]) -> Result<()> {
    let mut committed = committed()?;
    if committed.rustc != machine::rustc() {
        // Another compiler's counts mean nothing any more.
        committed = Committed { rustc: machine::rustc(), ..Committed::default() };
    }
    let figures = counts.iter().map(|count| (count.name.clone(), count.count)).collect();
    committed.profiles.insert(profile().into(), figures);
    std::fs::write(path(), serde_json::to_string_pretty(&committed)? + "\n")?;
    println!("written to {}", path().display());
    Ok(())
}

fn committed() -> Result<Committed> {
    let text = std::fs::read_to_string(path()).with_context(|| format!("{} can't be read", path().display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what this program writes", path().display()))
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// Cargo's name of the profile that this was built in.
fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u64, committed: Option<u64>) -> Count {
        Count { name: "a step".into(), count, committed }
    }

    #[test]
    fn a_count_may_grow_by_five_per_cent_and_not_more() {
        assert_eq!(complaint(&count(1_049, Some(1_000))), None);
        let complaint = complaint(&count(1_051, Some(1_000))).unwrap();
        assert!(
            complaint.starts_with("a step takes 1051 instructions, 5.1 % more than the committed 1000"),
            "{complaint}"
        );
    }

    #[test]
    fn a_count_that_fell_is_to_be_committed_and_one_without_a_figure_is_said_to_be() {
        assert!(remark(&count(900, Some(1_000))).unwrap().starts_with("a step has become cheaper"));
        assert_eq!(remark(&count(1_000, Some(1_000))), None);
        assert!(remark(&count(1_000, None)).unwrap().starts_with("NOT COMPARED"));
        assert_eq!(complaint(&count(1_000, None)), None);
    }

    #[test]
    fn the_committed_counts_can_be_read() {
        let committed = committed().unwrap();
        for (profile, counts) in committed.profiles {
            for kind in KINDS {
                assert!(counts.contains_key(kind.name), "{profile} lacks {}", kind.name);
            }
        }
    }

    #[test]
    fn the_chain_that_is_counted_comes_to_its_end_on_both_journals() {
        chain(Kept::Memory, 2, 16).unwrap();
        chain(Kept::File, 2, 16).unwrap();
    }
}
