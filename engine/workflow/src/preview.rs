//! What a run of a plan would do, before there is one: in which order, on which inputs as far as they are known, with which
//! components, grants and bounds; which rules the inputs alone decide, and which stay open and for what.
//!
//! Nothing is executed and nothing guessed: a step is told to be skipped only if no course of the run can make it run, and
//! what depends on a step's end is open. The words are in `page`; the values serialise as they are, for programs.

mod page;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::capability::{Grants, Limits};
use crate::description::Digest;
use crate::event::{NeedState, StepEnd};
use crate::json::Json;
use crate::plan::{Plan, Retry, StepId};
use crate::rule::{Foretold, RuleError, Scope, StepView};

/// A plan with inputs, before it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preview {
    /// The workflow's name.
    pub workflow: String,
    /// The plan's digest: what a run of it would keep.
    pub plan: Digest,
    /// The inputs that a run would start with.
    pub inputs: Json,
    /// Of the run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The components, in the plan's order.
    pub components: Vec<ComponentPreview>,
    /// By wave, in the file's order within one: a step is in the wave after the last one with a step that it needs.
    pub steps: Vec<StepPreview>,
    /// The longest chain of steps that need each other, without those that will not run.
    pub longest_chain: Vec<String>,
    /// The run's outputs, open holes as written.
    pub outputs: BTreeMap<String, Json>,
}

/// A component, pinned.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentPreview {
    /// The plugin's name in the workflow.
    pub plugin: String,
    /// The component's name and version for itself.
    pub component: String,
    /// Its digest.
    pub digest: Digest,
}

/// A step, before it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepPreview {
    /// Its name.
    pub step: String,
    /// Counts from 1.
    pub wave: usize,
    /// Whether it will run.
    pub verdict: Verdict,
    /// What it needs, as in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Its `when`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RulePreview>,
    /// The plugin.
    pub plugin: String,
    /// The plugin's component.
    pub digest: Digest,
    /// Its input; holes that are open stand as they are written.
    pub input: Json,
    /// The steps that its open holes wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_waits_for: Vec<String>,
    /// What its attempts may reach.
    pub grants: Grants,
    /// The bounds that are not the default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<&'static str, u64>,
    /// Where its attempts queue, and how many places there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<(String, u32)>,
    /// What happens after a failure, if it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Of an attempt, in milliseconds, if the step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Whether a step will run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// If nothing fails before it.
    Runs,
    /// If all of this turns out so.
    Depends(Vec<String>),
    /// It can't run, for this reason.
    Skipped(String),
    /// It fails without an attempt, for this reason.
    Fails(String),
}

/// A rule, before it is asked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RulePreview {
    /// Its text.
    pub rule: String,
    /// What it comes to whatever happens; `None` if it is open.
    pub holds: Option<bool>,
    /// What is known of what it sees.
    pub sees: Vec<(String, Json)>,
    /// The steps whose ends it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// Foresees a run of `plan` with these inputs, which [`accept`](crate::inputs::accept) returned.
pub fn preview(plan: &Plan, inputs: Json) -> Preview {
    let waves = waves(plan);
    let mut order: Vec<StepId> = (0..plan.steps.len()).map(|index| StepId(index as u32)).collect();
    order.sort_by_key(|step| (waves[step.index()], *step));
    let mut known = Known { plan, inputs: inputs.value(), verdicts: vec![None; plan.steps.len()] };
    let mut steps = Vec::with_capacity(order.len());
    for step in &order {
        let preview = step_preview(&known, *step, waves[step.index()]);
        known.verdicts[step.index()] = Some(preview.verdict.clone());
        steps.push(preview);
    }
    let component = |plugin: &crate::plan::Plugin| {
        let description = &plugin.component.description;
        ComponentPreview {
            plugin: plugin.name.clone(),
            component: format!("{} {}", description.name, description.version),
            digest: plugin.component.digest.clone(),
        }
    };
    let outputs = plan.outputs.iter().map(|output| (output.name.clone(), output.value.foretell(&known).value));
    Preview {
        workflow: plan.name.clone(),
        plan: plan.to_json().1,
        inputs,
        timeout_ms: plan.timeout_ms,
        components: plan.plugins.iter().map(component).collect(),
        longest_chain: longest_chain(plan, &order, &known),
        outputs: outputs.collect(),
        steps,
    }
}

/// What is known before a run: its inputs, the workflow, and that some steps will be skipped.
struct Known<'p> {
    plan: &'p Plan,
    inputs: Value,
    /// Of the steps that were looked at.
    verdicts: Vec<Option<Verdict>>,
}

impl Known<'_> {
    fn is_skipped(&self, step: StepId) -> bool {
        matches!(self.verdicts[step.index()], Some(Verdict::Skipped(_)))
    }
}

impl Scope for Known<'_> {
    fn inputs(&self) -> &Value {
        &self.inputs
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let skipped = StepView { status: "skipped", output: None, failure: None, attempts: 0 };
        self.is_skipped(self.plan.step_named(name)?).then_some(skipped)
    }

    /// A run that does not exist has no id: the hole that asks for it.
    fn run_id(&self) -> &str {
        "${run.id}"
    }

    fn workflow_name(&self) -> &str {
        &self.plan.name
    }

    fn workflow_directory(&self) -> &str {
        &self.plan.directory
    }
}

fn step_preview(known: &Known<'_>, id: StepId, wave: usize) -> StepPreview {
    let plan = known.plan;
    let step = plan.step(id);
    let plugin = &plan.plugins[step.plugin.index()];
    let filled = step.with.foretell(known);
    let rule = step.when.as_ref().map(|when| {
        let waits_for = unknown(known, when.steps());
        let holds = match when.foretell(known) {
            Foretold::Value(value) => value.as_bool(),
            Foretold::Open | Foretold::Fault(_) => None,
        };
        // There is no run yet that could have an id.
        let sees =
            when.sees(known).into_iter().filter(|(path, _)| path != "run" && !path.starts_with("run.")).collect();
        RulePreview { rule: when.source().to_owned(), holds, sees, waits_for }
    });
    StepPreview {
        step: step.name.clone(),
        wave,
        verdict: verdict(known, id, rule.as_ref(), filled.fault.as_ref()),
        needs: step.needs.iter().map(|need| need_text(plan, need)).collect(),
        rule,
        plugin: plugin.name.clone(),
        digest: plugin.component.digest.clone(),
        input: filled.value,
        input_waits_for: unknown(known, step.with.steps()),
        grants: step.grants.clone(),
        limits: unusual(&step.limits),
        pool: step.pool.map(|pool| &plan.pools[pool.index()]).map(|pool| (pool.name.clone(), pool.size)),
        retry: Some(step.retry).filter(|retry| retry.attempts > 1),
        timeout_ms: step.timeout_ms,
    }
}

fn verdict(known: &Known<'_>, id: StepId, rule: Option<&RulePreview>, fault: Option<&RuleError>) -> Verdict {
    let plan = known.plan;
    let mut depends = Vec::new();
    for need in &plan.step(id).needs {
        let name = &plan.step(need.step).name;
        // A step that will not run, or fails for sure, has one end; any other may come to each of them.
        let end = match &known.verdicts[need.step.index()] {
            Some(Verdict::Skipped(_)) => Some((StepEnd::Skipped, "will be skipped")),
            Some(Verdict::Fails(_)) => Some((StepEnd::Failed, "will fail")),
            _ => None,
        };
        match (end, need.state) {
            (Some((end, _)), state) if state.is_met_by(end) => (),
            (Some((_, word)), state) => {
                return Verdict::Skipped(format!("it needs `{name}` to {}, but `{name}` {word}", wanted(state)));
            }
            (None, NeedState::Finished) => (),
            (None, NeedState::Failed) => depends.push(format!("`{name}` fails")),
            (None, NeedState::Skipped) => depends.push(format!("`{name}` is skipped")),
            (None, NeedState::Succeeded) => {
                if let Some(Verdict::Depends(_)) = &known.verdicts[need.step.index()] {
                    depends.push(format!("`{name}` runs"));
                }
            }
        }
    }
    if let Some(rule) = rule {
        let seen: Vec<String> = rule.sees.iter().map(|(path, value)| format!("{path} is {value}")).collect();
        let place = if seen.is_empty() { String::new() } else { format!(", where {}", seen.join(", ")) };
        let text = rule.rule.split_whitespace().collect::<Vec<_>>().join(" ");
        match (rule.holds, plan.step(id).when.as_ref().map(|when| when.foretell(known))) {
            (Some(true), _) => (),
            (Some(false), _) => return Verdict::Skipped(format!("`when` is false: {text}{place}")),
            (None, Some(Foretold::Fault(error))) => {
                return Verdict::Fails(format!("`when` can't be evaluated: {error}"));
            }
            (None, _) => depends.push(format!("its rule holds: {text}{place}")),
        }
    }
    match fault {
        Some(fault) if depends.is_empty() => Verdict::Fails(format!("`with` can't be evaluated: {fault}")),
        _ if depends.is_empty() => Verdict::Runs,
        _ => Verdict::Depends(depends),
    }
}

/// For each step the wave in which its turn may come first, from 1.
fn waves(plan: &Plan) -> Vec<usize> {
    let mut waves = vec![1; plan.steps.len()];
    let mut missing: Vec<usize> = plan.steps.iter().map(|step| step.needs.len()).collect();
    let mut ready: Vec<usize> = (0..missing.len()).filter(|index| missing[*index] == 0).collect();
    while let Some(index) = ready.pop() {
        for (dependent, _) in plan.dependents(StepId(index as u32)) {
            let dependent = dependent.index();
            waves[dependent] = waves[dependent].max(waves[index] + 1);
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    waves
}

fn longest_chain(plan: &Plan, order: &[StepId], known: &Known<'_>) -> Vec<String> {
    let mut best: Vec<(usize, Option<StepId>)> = vec![(0, None); plan.steps.len()];
    let mut last: Option<StepId> = None;
    for step in order.iter().filter(|step| !known.is_skipped(**step)) {
        let before = plan.step(*step).needs.iter().map(|need| need.step).filter(|need| !known.is_skipped(*need));
        // Of equal chains that of the need which is written first.
        let before = before.rev().max_by_key(|need| best[need.index()].0);
        best[step.index()] = (1 + before.map_or(0, |need| best[need.index()].0), before);
        if last.is_none_or(|last| best[step.index()].0 > best[last.index()].0) {
            last = Some(*step);
        }
    }
    let mut chain = Vec::new();
    while let Some(step) = last {
        chain.push(plan.step(step).name.clone());
        last = best[step.index()].1;
    }
    chain.reverse();
    chain
}

/// Of these steps those that nothing is known of yet, each once.
fn unknown<'s>(known: &Known<'_>, steps: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut unknown: Vec<String> = Vec::new();
    for step in steps {
        if known.step(step).is_none() && !unknown.iter().any(|seen| seen == step) {
            unknown.push(step.to_owned());
        }
    }
    unknown
}

/// The bounds that are not the default.
fn unusual(limits: &Limits) -> BTreeMap<&'static str, u64> {
    let usual = Limits::default();
    let all = [
        ("memory", limits.memory, usual.memory),
        ("table-elements", limits.table_elements, usual.table_elements),
        ("output", limits.output, usual.output),
        ("log", limits.log, usual.log),
        ("process-output", limits.process_output, usual.process_output),
        ("artifact", limits.artifact, usual.artifact),
    ];
    all.into_iter().filter(|(_, is, usual)| is != usual).map(|(name, is, _)| (name, is)).collect()
}

/// A need as it is written in the file.
pub(crate) fn need_text(plan: &Plan, need: &crate::plan::Need) -> String {
    let name = &plan.step(need.step).name;
    match need.state {
        NeedState::Succeeded => name.clone(),
        NeedState::Failed => format!("{name}.failed"),
        NeedState::Skipped => format!("{name}.skipped"),
        NeedState::Finished => format!("{name}.finished"),
    }
}

fn wanted(state: NeedState) -> &'static str {
    match state {
        NeedState::Succeeded => "succeed",
        NeedState::Failed => "fail",
        NeedState::Skipped => "be skipped",
        NeedState::Finished => "finish",
    }
}
