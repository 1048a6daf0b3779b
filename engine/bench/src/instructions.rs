//! Counts the instructions that the engine itself spends on a step, with callgrind: a figure that does not depend on what
//! else the machine does, so that a regression of a few per cent is seen, in CI as well.
//!
//! What is counted is a chain of scripted steps, through conductor, core and journal on one thread and the journal's
//! writer; no WebAssembly, whose cost is wasmtime's. Two lengths are counted, and the difference is divided by the steps
//! between them, so that what a process does once cancels out. Counts belong to a compiler and a profile: they are
//! compared only with committed ones of the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
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

/// The shorter run has warmed everything up; the longer one adds a thousand steps, over which the journal's checkpoints
/// are spread.
const STEPS: [usize; 2] = [200, 1_200];

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

/// Where a chain's records are kept.
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
    for count in &counts {
        match (count.growth(), count.committed) {
            (Some(growth), Some(committed)) if check && growth > GROWTH_MAX => bail!(
                "{} takes {} instructions, {:.1} % more than the committed {committed}: find the cause, or accept the \
                 new figure with `downbeat-bench instructions --accept` and say why in the commit",
                count.name,
                count.count,
                growth * 100.0,
            ),
            (Some(growth), _) if growth < -GROWTH_MAX => println!(
                "{} has become cheaper: commit what `downbeat-bench instructions --accept` writes, so that it stays so",
                count.name
            ),
            (Some(_), _) => (),
            (None, _) => println!(
                "NOT COMPARED: nothing is committed for {} in the {} profile by {}; `downbeat-bench instructions \
                 --accept` writes it",
                count.name,
                profile(),
                machine::rustc(),
            ),
        }
    }
    Ok(())
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
        let [short, long] = STEPS.map(|steps| instructions_of(kind, steps));
        let count = (long? - short?) / (STEPS[1] - STEPS[0]) as u64;
        let committed = figures.and_then(|figures| figures.get(kind.name).copied());
        anyhow::Ok(Count { name: kind.name.into(), count, committed })
    };
    Ok(Instructions::Counted(KINDS.iter().map(count).collect::<Result<_>>()?))
}

/// Runs this program under callgrind.
fn instructions_of(kind: &Kind, steps: usize) -> Result<u64> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let kept = match kind.kept {
        Kept::Memory => "memory",
        Kept::File => "file",
    };
    command.args(["chain", kept, &steps.to_string(), &kind.text.to_string()]);
    let output = command.output().context("valgrind can't be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "under callgrind, {}: {}\n{said}", kind.name, output.status);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.with_context(|| format!("callgrind did not say what it collected:\n{said}"))?;
    Ok(count.trim().parse()?)
}

/// The command `chain`: what callgrind looks at.
pub(crate) fn chain(kept: Kept, steps: usize, text: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = match kept {
        Kept::Memory => Journal::in_memory(),
        Kept::File => Journal::open(folder.path(), Mode::Drive)?,
    };
    let plan = Arc::new(guest::plan(guest::chain(steps), guest::described())?);
    let engine = Engine::new(journal, Scripted, Arc::new(()));
    one_thread()?.block_on(engine.run_with(&plan, "x".repeat(text)))?;
    Ok(())
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
