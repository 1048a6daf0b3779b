//! What the figures are measured in: a folder of its own with the guest, plans made of it, and engines put together as the
//! command line puts them together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Handle, Perform, Sandboxed, Watch};
use downbeat_journal::{Journal, Mode};
use downbeat_sandbox::{Options, Sandbox};
use downbeat_workflow::event::{Outcome, RunId};
use downbeat_workflow::inputs;
use downbeat_workflow::plan::Plan;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::guest;

/// A folder with the guest.
pub(crate) struct Workshop {
    folder: TempDir,
    pub(crate) component: PathBuf,
    /// For plans; every engine has one of its own.
    pub(crate) sandbox: Sandbox,
}

impl Workshop {
    /// Sets up below `directory`, which should be on the disk that the figures are about. Gone when dropped.
    pub(crate) fn below(directory: &Path) -> Result<Workshop> {
        let made = std::fs::create_dir_all(directory).and_then(|()| tempfile::tempdir_in(directory));
        let folder = made.with_context(|| format!("no folder can be made in {}", directory.display()))?;
        let component = guest::write_component(folder.path())?;
        let sandbox = Sandbox::new(Options::below(folder.path()))?;
        Ok(Workshop { folder, component, sandbox })
    }

    /// A folder in it, made when it is not there yet.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("{} can't be made", path.display()))?;
        Ok(path)
    }

    pub(crate) fn plan(&self, toml: String) -> Result<Arc<Plan>> {
        guest::plan(toml, guest::load(&self.sandbox, &self.component)?).map(Arc::new)
    }

    /// An engine whose journal is gone with it.
    pub(crate) fn in_memory(&self) -> Result<Engine<Sandboxed>> {
        self.engine(Journal::in_memory(), Arc::new(()))
    }

    /// An engine over a journal file in the folder `name`.
    pub(crate) fn durable(&self, name: &str) -> Result<Engine<Sandboxed>> {
        self.durable_watched(name, Arc::new(()))
    }

    /// The same, with somebody who watches.
    pub(crate) fn durable_watched(&self, name: &str, watch: Arc<dyn Watch>) -> Result<Engine<Sandboxed>> {
        self.engine(Journal::open(&self.folder(name)?, Mode::Drive)?, watch)
    }

    fn engine(&self, journal: Journal, watch: Arc<dyn Watch>) -> Result<Engine<Sandboxed>> {
        let folder = self.folder.path();
        let sandboxed = Sandboxed::new(
            Sandbox::new(Options::below(folder))?,
            folder.join("components"),
            folder.join("workspaces"),
        )?;
        Ok(Engine::new(journal, sandboxed, watch))
    }
}

/// Conductor, sandbox and journal, as they drive runs.
pub(crate) struct Engine<P> {
    pub(crate) journal: Journal,
    conductor: Conductor<P>,
}

impl<P: Perform> Engine<P> {
    pub(crate) fn new(journal: Journal, performer: P, watch: Arc<dyn Watch>) -> Engine<P> {
        let conductor = Conductor::new(journal.clone(), performer, watch, Clock::system());
        Engine { journal, conductor }
    }

    /// Starts a run whose input is the payload.
    pub(crate) async fn start(&self, plan: &Arc<Plan>) -> Result<Handle> {
        self.start_given(plan, text(guest::text())).await
    }

    /// Drives one run to its end, which has to be a success: a figure of failing runs would mean nothing.
    pub(crate) async fn run(&self, plan: &Arc<Plan>) -> Result<RunId> {
        self.run_with(plan, guest::text()).await
    }

    /// The same with another text in its input.
    pub(crate) async fn run_with(&self, plan: &Arc<Plan>, text: String) -> Result<RunId> {
        self.run_given(plan, self::text(text)).await
    }

    /// The same with other inputs.
    pub(crate) async fn run_given(&self, plan: &Arc<Plan>, given: Map<String, Value>) -> Result<RunId> {
        let handle = self.start_given(plan, given).await?;
        let id = handle.id().clone();
        match handle.ending().await? {
            Ending::Finished(Outcome::Succeeded) => Ok(id),
            other => bail!("run {id} ended otherwise than it should: {other:?}"),
        }
    }

    /// Listens to what other processes ask of the runs, from now on, in the runtime that this is called in.
    pub(crate) fn serve(&self) {
        tokio::spawn(self.conductor.clone().serve_requests());
    }

    async fn start_given(&self, plan: &Arc<Plan>, given: Map<String, Value>) -> Result<Handle> {
        let Ok(inputs) = inputs::accept(plan, given) else { bail!("the workflow does not take these inputs") };
        Ok(self.conductor.start(plan.clone(), inputs).await?)
    }
}

/// The inputs of most workflows.
fn text(text: String) -> Map<String, Value> {
    Map::from_iter([("text".to_owned(), Value::String(text))])
}

/// A runtime on the caller's own thread.
pub(crate) fn one_thread() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime can be made")
}

/// A runtime on two threads: what the goals are about, whatever the machine has.
pub(crate) fn two_threads() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().context("no runtime can be made")
}
