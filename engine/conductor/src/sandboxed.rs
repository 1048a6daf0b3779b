//! Attempts as the sandbox carries them out: a plan's components are kept beside the journal, so that a run goes on with
//! exactly the components it started with, whatever happens to the files they came from.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use downbeat_sandbox::{Call, Ended, Observer, Plugin, Sandbox};
use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::description::Digest;
use downbeat_workflow::plan::{self, Plan};
use tempfile::NamedTempFile;

use crate::perform::{Order, Perform};

/// Carries attempts out in a [`Sandbox`].
pub struct Sandboxed {
    sandbox: Arc<Sandbox>,
    components: PathBuf,
    workspaces: PathBuf,
    ready: Mutex<Ready>,
}

/// What attempts need and plans share.
#[derive(Default)]
struct Ready {
    plugins: HashMap<Digest, Arc<Plugin>>,
    /// By the address of the plan, which is held here so that no other plan can get it.
    plans: HashMap<usize, Arc<Prepared>>,
}

/// What the attempts of one plan have in common, made once: an attempt only clones pointers.
struct Prepared {
    plan: Arc<Plan>,
    name: Arc<str>,
    directory: Arc<Path>,
    steps: Vec<PreparedStep>,
}

struct PreparedStep {
    name: Arc<str>,
    plugin: Arc<Plugin>,
    grants: Arc<Grants>,
    limits: Arc<Limits>,
    timeout: Option<Duration>,
}

impl Sandboxed {
    /// Keeps copies of components in `components`; runs get their own directories below `workspaces`.
    pub fn new(sandbox: Sandbox, components: PathBuf, workspaces: PathBuf) -> io::Result<Sandboxed> {
        std::fs::create_dir_all(&components)?;
        let workspaces = std::path::absolute(workspaces)?;
        Ok(Sandboxed { sandbox: Arc::new(sandbox), components, workspaces, ready: Mutex::default() })
    }

    /// The component of a plugin: from memory, from the copy kept beside the journal, or from where the workflow found it.
    fn load(&self, plugin: &plan::Plugin) -> Result<Arc<Plugin>, String> {
        let digest = &plugin.component.digest;
        if let Some(loaded) = self.lock().plugins.get(digest) {
            return Ok(loaded.clone());
        }
        let kept = self.components.join(format!("{}.wasm", digest.hex()));
        let describe = |error: String| format!("plugin `{}`: {error}", plugin.name);
        // What is copied is what is judged: the file may be written to at this very moment.
        let copy = if kept.exists() { None } else { Some(copy_of(&plugin.path, &kept).map_err(&describe)?) };
        let from = copy.as_ref().map_or(kept.as_path(), |copy| copy.path());
        let loaded = self.sandbox.load(from).map_err(|error| describe(error.to_string()))?;
        let found = &loaded.component().digest;
        if found != digest {
            let path = if copy.is_some() { plugin.path.clone() } else { kept.display().to_string() };
            let message = format!("the component {digest} is not at hand any more: {path} holds {found} now");
            return Err(describe(message));
        }
        if let Some(copy) = copy {
            copy.as_file().sync_all().map_err(|error| describe(format!("{}: {error}", kept.display())))?;
            copy.persist(&kept).map_err(|error| describe(format!("{}: {error}", kept.display())))?;
        }
        self.lock().plugins.insert(digest.clone(), loaded.clone());
        Ok(loaded)
    }

    fn prepared(&self, plan: &Arc<Plan>) -> Result<Arc<Prepared>, String> {
        let address = Arc::as_ptr(plan) as usize;
        if let Some(prepared) = self.lock().plans.get(&address) {
            return Ok(prepared.clone());
        }
        let plugins = plan.plugins.iter().map(|plugin| self.load(plugin)).collect::<Result<Vec<_>, String>>()?;
        let step = |step: &plan::Step| PreparedStep {
            name: step.name.as_str().into(),
            plugin: plugins[step.plugin.index()].clone(),
            grants: Arc::new(step.grants.clone()),
            limits: Arc::new(step.limits.clone()),
            timeout: step.timeout_ms.map(Duration::from_millis),
        };
        let prepared = Arc::new(Prepared {
            plan: plan.clone(),
            name: plan.name.as_str().into(),
            directory: Path::new(&plan.directory).into(),
            steps: plan.steps.iter().map(step).collect(),
        });
        let mut ready = self.lock();
        // Plans that no run holds any more.
        ready.plans.retain(|_, prepared| Arc::strong_count(&prepared.plan) > 1);
        ready.plans.insert(address, prepared.clone());
        Ok(prepared)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().expect("nothing panics while the components are locked")
    }
}

impl Perform for Sandboxed {
    async fn prepare(&self, plan: &Arc<Plan>) -> Result<(), String> {
        self.prepared(plan).map(drop)
    }

    async fn perform(
        &self,
        order: Order,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let prepared = self.prepared(&order.plan).expect("a plan is prepared before its run begins");
        let step = &prepared.steps[order.step.index()];
        let call = Call {
            run: order.run.0.clone(),
            workflow: prepared.name.clone(),
            step: step.name.clone(),
            attempt: order.attempt,
            idempotency_key: order.idempotency_key.into(),
            input: order.input,
            timeout: step.timeout,
            grants: step.grants.clone(),
            limits: step.limits.clone(),
            directory: prepared.directory.clone(),
            workspace: self.workspaces.join(&*order.run.0),
        };
        self.sandbox.attempt(&step.plugin, call, observer, cancelled).await
    }
}

/// A copy beside `kept`, gone again unless it is persisted.
fn copy_of(path: &str, kept: &Path) -> Result<NamedTempFile, String> {
    let directory = kept.parent().expect("a kept component lies in the folder of components");
    let mut copy = NamedTempFile::new_in(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut original = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    io::copy(&mut original, &mut copy).map_err(|error| format!("{path}: {error}"))?;
    Ok(copy)
}
