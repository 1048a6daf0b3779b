//! A plan in the making: bodies of steps from one or several files, before their steps have their places in one list.
//!
//! Sub-workflows may open each other, and themselves: a file's body has its id before its steps are looked at, and a file
//! that is opened twice is resolved once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::declared::Declared;
use super::{Loaded, Unit, Workflow, file};
use crate::diagnostic::{Diagnostic, allow};
use crate::plan::{
    Answer, Body, BodyId, Opens, Plan, Plugin, PluginId, Pool, PoolId, ScopeCount, Signal, SignalId, Step, StepNo,
    SubWorkflow, Work,
};
use crate::spec::{Source, Spec};

/// The file of a sub-workflow.
#[derive(Debug)]
pub struct File {
    /// Its text.
    pub source: Source,
    /// What it says, unless it is no TOML.
    pub spec: Option<Spec>,
    /// What [`Spec::parse`] found.
    pub faults: Vec<Diagnostic>,
    /// The absolute folder that it is in.
    pub directory: String,
    /// Its plugins, by name, as in [`Surroundings`](super::Surroundings).
    pub plugins: BTreeMap<String, Result<Loaded, String>>,
}

/// The absolute path of a file that is named in one of this absolute folder, without `.` and `..`. Nothing is looked up.
pub fn beside(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(super) struct DraftBody {
    /// Their needs name steps of the same body, counted from 0.
    pub(super) steps: Vec<Step>,
    pub(super) answer: Answer,
    workflow: Option<Box<SubWorkflow>>,
}

pub(super) struct Draft<'f> {
    files: &'f BTreeMap<String, Result<Arc<File>, String>>,
    bodies: Vec<Option<DraftBody>>,
    pools: Vec<Pool>,
    plugins: Vec<Plugin>,
    signals: Vec<Signal>,
    known: HashMap<String, BodyId>,
    pub(super) others: Vec<(Source, Vec<Diagnostic>)>,
}

impl<'f> Draft<'f> {
    pub(super) fn of(files: &'f BTreeMap<String, Result<Arc<File>, String>>) -> Draft<'f> {
        Draft {
            files,
            bodies: Vec::new(),
            pools: Vec::new(),
            plugins: Vec::new(),
            signals: Vec::new(),
            known: HashMap::new(),
            others: Vec::new(),
        }
    }

    /// The id of a body that is put in later.
    pub(super) fn reserve(&mut self) -> BodyId {
        self.bodies.push(None);
        BodyId(self.bodies.len() as u32 - 1)
    }

    pub(super) fn put(&mut self, body: BodyId, steps: Vec<Step>, answer: Answer) {
        self.bodies[body.index()] = Some(DraftBody { steps, answer, workflow: None });
    }

    /// Adds what a file declares; answers the ids in the plan of its plugins and pools.
    pub(super) fn adopt(&mut self, declared: &Declared<'_>) -> (Vec<PluginId>, Vec<PoolId>) {
        let plugins = declared.plan_plugins.iter().map(|plugin| {
            let known = self.plugins.iter().position(|known| known == plugin);
            PluginId(known.unwrap_or_else(|| {
                self.plugins.push(plugin.clone());
                self.plugins.len() - 1
            }) as u32)
        });
        let plugins = plugins.collect();
        let pools = declared.plan_pools.iter().map(|pool| {
            // Pools are shared by their names, over all runs of the process.
            let known = self.pools.iter().position(|known| known.name == pool.name);
            PoolId(known.unwrap_or_else(|| {
                self.pools.push(pool.clone());
                self.pools.len() - 1
            }) as u32)
        });
        (plugins, pools.collect())
    }

    /// The signal of this name.
    pub(super) fn signal(&mut self, name: &str, keep: bool) -> SignalId {
        let known = self.signals.iter().position(|known| known.name == name);
        SignalId(known.unwrap_or_else(|| {
            self.signals.push(Signal { name: name.to_owned(), keep });
            self.signals.len() - 1
        }) as u32)
    }

    /// The file of a sub-workflow, or why it could not be read.
    pub(super) fn file(&self, path: &str) -> Option<&'f Result<Arc<File>, String>> {
        self.files.get(path)
    }

    /// The body of a sub-workflow's file. What is wrong in it is told of that file.
    pub(super) fn workflow(&mut self, path: &str, found: &'f File) -> BodyId {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let body = self.reserve();
        self.known.insert(path.to_owned(), body);
        let mut diagnostics = found.faults.clone();
        if let Some(spec) = &found.spec {
            let unit = Unit { source: &found.source, spec, directory: &found.directory, plugins: &found.plugins };
            let (workflow, mut out) = file(unit, self, body);
            if let Some(concurrency) = &spec.concurrency {
                let message = "it holds for runs of this workflow, not for where another one opens it";
                let warning = Diagnostic::warning("useless-key", concurrency.span.clone(), message);
                out.push(warning.label("has no effect there").hint("give the step that opens it a `pool`"));
            }
            diagnostics.extend(allow(&found.source, out.finish(), !spec.incomplete));
            let Workflow { name, directory, inputs, timeout_ms, .. } = workflow;
            if let Some(body) = &mut self.bodies[body.index()] {
                body.workflow = Some(Box::new(SubWorkflow { name, directory, inputs, timeout_ms }));
            }
        }
        if !diagnostics.is_empty() {
            self.others.push((found.source.clone(), diagnostics));
        }
        body
    }

    /// The plan of all its bodies, the first of which is the workflow's own.
    pub(super) fn into_plan(self, own: Workflow) -> Plan {
        let mut steps = Vec::new();
        let mut bodies = Vec::new();
        for body in self.bodies {
            let body = body.expect("without errors, every body was resolved");
            let first = steps.len() as u32;
            let move_on = |no: &mut StepNo| no.0 += first;
            steps.extend(body.steps.into_iter().map(|mut step| {
                step.needs.iter_mut().for_each(|need| move_on(&mut need.step));
                step.undo.iter_mut().chain(&mut step.undoes).chain(&mut step.cancels).for_each(move_on);
                if let Work::Open(Opens { scopes: ScopeCount::Each(each), .. }) = &mut step.work {
                    each.from.iter_mut().for_each(move_on);
                }
                step
            }));
            bodies.push(Body { steps: first..steps.len() as u32, answer: body.answer, workflow: body.workflow });
        }
        bodies.remove(0);
        let mut plan = Plan::new(own.name, self.plugins, steps);
        plan.directory = own.directory;
        plan.inputs = own.inputs;
        plan.timeout_ms = own.timeout_ms;
        plan.priority = own.priority;
        plan.concurrency = own.concurrency;
        plan.outputs = own.outputs;
        plan.pools = self.pools;
        plan.signals = self.signals;
        plan.bodies = bodies;
        plan
    }
}
