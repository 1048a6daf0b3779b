//! Attempts as the sandbox carries them out: a plan's components are kept beside the journal, so that a run goes on with
//! exactly the components it started with, whatever happens to the files they came from.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use downbeat_sandbox::{Call, Ended, Observer, Plugin, Sandbox};
use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::description::Digest;
use downbeat_workflow::plan::{self, Plan};
use tempfile::NamedTempFile;

use crate::ask::{self, Key, Stop};
use crate::perform::{Order, Perform, PrepareError};

/// Carries attempts out in a [`Sandbox`].
pub struct Sandboxed {
    stock: Arc<Stock>,
}

/// Shared with the threads that compile.
struct Stock {
    sandbox: Sandbox,
    components: PathBuf,
    workspaces: PathBuf,
    ready: Mutex<Ready>,
}

/// What attempts need and plans share.
#[derive(Default)]
struct Ready {
    plugins: HashMap<Digest, Weak<Plugin>>,
    /// By the address of the plan, which is held here so that no other plan can get it.
    plans: HashMap<usize, Arc<Prepared>>,
}

/// What the attempts of one plan have in common, made once: an attempt only clones pointers.
pub struct Prepared {
    plan: Arc<Plan>,
    /// By [`StepNo`](plan::StepNo); `None` for those that run no component.
    steps: Vec<Option<PreparedStep>>,
}

struct PreparedStep {
    /// Of the workflow that it is a step of, be it a sub-workflow.
    workflow: Arc<str>,
    directory: Arc<Path>,
    name: Arc<str>,
    plugin: Arc<Plugin>,
    grants: Arc<Grants>,
    limits: Arc<Limits>,
    timeout: Option<Duration>,
    /// Whether its answers may be kept: then it is told nothing of where it runs.
    cache: bool,
}

impl Sandboxed {
    /// Keeps copies of components in `components`; runs get their own directories below `workspaces`.
    pub fn new(sandbox: Sandbox, components: PathBuf, workspaces: PathBuf) -> io::Result<Sandboxed> {
        std::fs::create_dir_all(&components)?;
        // Attempts go to their workspaces through no link. That the folder around them is one is the operator's affair.
        let mut workspaces = std::path::absolute(workspaces)?;
        if let (Some(state), Some(name)) = (workspaces.parent(), workspaces.file_name()) {
            std::fs::create_dir_all(state)?;
            workspaces = state.canonicalize()?.join(name);
        }
        let stock = Stock { sandbox, components, workspaces, ready: Mutex::default() };
        Ok(Sandboxed { stock: Arc::new(stock) })
    }
}

impl Stock {
    /// The component of a plugin: from memory, from the copy kept beside the journal, or, where that is missing or damaged,
    /// from where the workflow found it.
    fn load(&self, plugin: &plan::Plugin) -> Result<Arc<Plugin>, PrepareError> {
        let digest = &plugin.component.digest;
        if let Some(loaded) = self.lock().plugins.get(digest).and_then(Weak::upgrade) {
            return Ok(loaded);
        }
        let kept = self.components.join(format!("{}.wasm", digest.hex()));
        let loaded = match self.load_file(&kept, digest) {
            Ok(loaded) => loaded,
            Err(_) => self.load_original(plugin, &kept)?,
        };
        self.lock().plugins.insert(digest.clone(), Arc::downgrade(&loaded));
        Ok(loaded)
    }

    fn load_file(&self, path: &Path, digest: &Digest) -> Result<Arc<Plugin>, String> {
        let loaded = self.sandbox.load(path).map_err(|error| error.fault.to_string())?;
        match &loaded.component().digest {
            found if found == digest => Ok(loaded),
            found => Err(format!("the component {digest} is not at hand any more: it holds {found} now")),
        }
    }

    /// Loads a component from where the workflow found it, and keeps a copy.
    fn load_original(&self, plugin: &plan::Plugin, kept: &Path) -> Result<Arc<Plugin>, PrepareError> {
        let component = |error: &dyn Display| {
            PrepareError::Component(format!("plugin `{}`: {}: {error}", plugin.name, plugin.path))
        };
        let storage = |error: io::Error| {
            let folder = self.components.display();
            PrepareError::Storage(format!("components can't be kept in {folder}: {}", error.kind()))
        };
        let mut original = File::open(&plugin.path).map_err(|error| component(&error))?;
        // What is copied is what is judged: the file may be written to at this very moment.
        let mut copy = NamedTempFile::new_in(&self.components).map_err(storage)?;
        io::copy(&mut original, &mut copy).map_err(storage)?;
        let loaded = self.load_file(copy.path(), &plugin.component.digest).map_err(|error| component(&error))?;
        // Durable before the run that relies on it: the file, then its name.
        copy.as_file().sync_all().map_err(storage)?;
        copy.persist(kept).map_err(|error| storage(error.error))?;
        File::open(&self.components).and_then(|folder| folder.sync_all()).map_err(storage)?;
        Ok(loaded)
    }

    /// What is at hand for a plan, if it was prepared.
    fn prepared(&self, plan: &Arc<Plan>) -> Option<Arc<Prepared>> {
        self.lock().plans.get(&(Arc::as_ptr(plan) as usize)).cloned()
    }

    fn prepare(&self, plan: &Arc<Plan>) -> Result<Arc<Prepared>, PrepareError> {
        let plugins = plan.plugins.iter().map(|plugin| self.load(plugin)).collect::<Result<Vec<_>, _>>()?;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (name, directory, range) in plan.workflows() {
            let (workflow, directory): (Arc<str>, Arc<Path>) = (name.into(), Path::new(directory).into());
            steps.extend(plan.steps[range].iter().map(|step| {
                let uses = step.uses()?;
                Some(PreparedStep {
                    workflow: workflow.clone(),
                    directory: directory.clone(),
                    name: step.name.as_str().into(),
                    plugin: plugins[uses.plugin.index()].clone(),
                    grants: Arc::new(uses.grants.clone()),
                    limits: Arc::new(uses.limits.clone()),
                    timeout: step.timeout_ms.map(Duration::from_millis),
                    cache: uses.cache,
                })
            }));
        }
        let prepared = Arc::new(Prepared { plan: plan.clone(), steps });
        let mut ready = self.lock();
        // Plans that no run holds any more.
        ready.plans.retain(|_, prepared| Arc::strong_count(&prepared.plan) > 1);
        ready.plugins.retain(|_, plugin| plugin.strong_count() > 0);
        ready.plans.insert(Arc::as_ptr(plan) as usize, prepared.clone());
        Ok(prepared)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().expect("nothing panics while the components are locked")
    }
}

impl Perform for Sandboxed {
    type Prepared = Arc<Prepared>;

    async fn prepare(&self, plan: &Arc<Plan>) -> Result<Arc<Prepared>, PrepareError> {
        if let Some(prepared) = self.stock.prepared(plan) {
            return Ok(prepared);
        }
        let (stock, plan) = (self.stock.clone(), plan.clone());
        // Compiling takes up to seconds.
        let prepared = tokio::task::spawn_blocking(move || stock.prepare(&plan)).await;
        prepared
            .unwrap_or_else(|panic| Err(PrepareError::Component(format!("loading the components broke down: {panic}"))))
    }

    async fn key(&self, prepared: &Arc<Prepared>, order: &Order) -> Result<Key, String> {
        let step = prepared.steps[order.no.index()].as_ref().expect("an attempt is one of a component");
        let (stock, directory, stop) = (self.stock.clone(), step.directory.clone(), Stop(Arc::default()));
        let (plan, no, input, stopped) = (order.plan.clone(), order.no, order.input.clone(), stop.0.clone());
        let look = move || ask::key(&stock.sandbox, &plan, no, &directory, &input, &stopped);
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|panic| Err(format!("looking at its files broke down: {panic}")))
    }

    async fn perform(
        &self,
        prepared: &Arc<Prepared>,
        order: Order,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let step = prepared.steps[order.no.index()].as_ref().expect("an attempt is one of a component");
        // A path is made only for those who may use it: half a microsecond of a step that takes twenty.
        let workspace = match step.grants.workspace {
            true => self.stock.workspaces.join(&*order.run.0),
            false => PathBuf::new(),
        };
        // An answer that may be kept is one for all runs: it can't depend on which this is.
        let (run, workflow, name, attempt, idempotency_key) = match step.cache {
            true => (Arc::default(), Arc::default(), Arc::default(), 1, Arc::default()),
            false => {
                let name = order.path.map_or_else(|| step.name.clone(), Arc::from);
                (order.run.0.clone(), step.workflow.clone(), name, order.attempt, order.idempotency_key.into())
            }
        };
        let call = Call {
            run,
            workflow,
            step: name,
            attempt,
            idempotency_key,
            input: order.input,
            seed: order.seed,
            timeout: step.timeout,
            grants: step.grants.clone(),
            limits: step.limits.clone(),
            directory: step.directory.clone(),
            workspace,
        };
        self.stock.sandbox.attempt(&step.plugin, call, observer, cancelled).await
    }
}
