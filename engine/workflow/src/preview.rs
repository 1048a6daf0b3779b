//! What a run of a plan would do, before there is one: in which order, on which inputs as far as they are known, with which
//! components, grants and bounds; which rules the inputs alone decide, and which stay open and for what.
//!
//! Nothing is executed and nothing guessed: a step is told to be skipped only if no course of the run can make it run, and
//! what depends on a step's end is open. The words are in `page`; the values serialise as they are, for programs.

mod page;

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use crate::capability::{Grants, Limits};
use crate::description::Digest;
use crate::event::{NeedState, SkipReason, StepEnd};
use crate::json::Json;
use crate::plan::{BodyId, Join, Plan, Rest, Retry, Step, StepNo, is_default};
use crate::rule::{Foretold, RuleError, Scope, StepView, Template};
use crate::scope::Scopes;

/// How many needs are followed at most to find out which steps are over when others start, where joins are between them.
/// When they are used up, what a step sees of others stays open.
const NEEDS_FOLLOWED_MAX: usize = 10_000_000;

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
    /// By wave, in the file's order within one: a step is in the first wave in which its turn may come. That is the one
    /// after the last with a step that it needs, or, if it takes fewer than all of them, after the first ones with as many
    /// as it takes; for an always-step, after all ordinary ones.
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
    /// Whether it runs once all ordinary steps have come to an end, whatever became of them.
    #[serde(skip_serializing_if = "is_default")]
    pub always: bool,
    /// What it needs, as in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// How many of its needs it takes.
    #[serde(skip_serializing_if = "is_default")]
    pub join: Join,
    /// The steps that are ended once it is decided whether this one starts, if they are not over by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<String>,
    /// Its `when`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RulePreview>,
    /// The plugin; `None` for a step that runs no component itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
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
    let (order, waves) = waves(plan);
    let mut known = Known {
        plan,
        inputs: inputs.value(),
        verdicts: vec![None; plan.steps.len()],
        joins: plan.steps.iter().any(|step| !waits_for_all(step)),
        left: Cell::new(NEEDS_FOLLOWED_MAX),
    };
    let mut steps = Vec::with_capacity(order.len());
    for step in &order {
        let preview = step_preview(&known, *step, waves[step.index()]);
        known.verdicts[step.index()] = Some(preview.verdict.clone());
        steps.push((*step, preview));
    }
    let by = cut_by(&known, &order);
    for (step, preview) in &mut steps {
        let Some(join) = by[step.index()] else { continue };
        let still = format!("`{}` is not decided before", plan.step(join).name);
        match &mut preview.verdict {
            verdict @ Verdict::Runs => *verdict = Verdict::Depends(vec![still]),
            Verdict::Depends(on) => on.push(still),
            Verdict::Skipped(_) | Verdict::Fails(_) => (),
        }
    }
    let chain = longest_chain(&known, &order, &waves);
    steps.sort_by_key(|(step, preview)| (preview.wave, *step));
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
        longest_chain: chain,
        outputs: outputs.collect(),
        steps: steps.into_iter().map(|(_, preview)| preview).collect(),
    }
}

/// What is known before a run: its inputs, the workflow, and that some steps will be skipped.
struct Known<'p> {
    plan: &'p Plan,
    inputs: Value,
    /// Of the steps that were looked at.
    verdicts: Vec<Option<Verdict>>,
    /// Whether some step takes fewer than all of its needs, so that others may be unfinished when it starts.
    joins: bool,
    /// How many needs may still be followed.
    left: Cell<usize>,
}

impl Known<'_> {
    fn is_skipped(&self, step: StepNo) -> bool {
        matches!(self.verdicts[step.index()], Some(Verdict::Skipped(_)))
    }

    /// Whether `first` is over for sure whenever `then` starts: followed from there over needs that are all waited for.
    fn is_over(&self, first: StepNo, then: StepNo) -> bool {
        if !self.joins || (self.plan.step(then).always && !self.plan.step(first).always) {
            return true;
        }
        let (mut seen, mut open) = (HashSet::from([then]), vec![then]);
        while let Some(step) = open.pop() {
            let step = self.plan.step(step);
            let Some(left) = self.left.get().checked_sub(step.needs.len()) else { return false };
            self.left.set(left);
            if waits_for_all(step) {
                let needed = step.needs.iter().map(|need| need.step);
                open.extend(needed.filter(|need| seen.insert(*need)));
            }
        }
        seen.contains(&first)
    }
}

/// Whether all needs of a step have come to an end when it starts.
fn waits_for_all(step: &Step) -> bool {
    let needs = step.needs.len() as u32;
    step.join == Join::Merge || step.join.least(needs) == needs
}

/// What is known when a step starts.
struct Seen<'k, 'p> {
    known: &'k Known<'p>,
    by: StepNo,
}

impl Scope for Seen<'_, '_> {
    fn inputs(&self) -> &Value {
        self.known.inputs()
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let step = self.known.plan.named_in(BodyId(0), name)?;
        self.known.step(name).filter(|_| self.known.is_over(step, self.by))
    }

    fn run_id(&self) -> &str {
        self.known.run_id()
    }

    fn workflow_name(&self) -> &str {
        self.known.workflow_name()
    }

    fn workflow_directory(&self) -> &str {
        self.known.workflow_directory()
    }
}

impl Scope for Known<'_> {
    fn inputs(&self) -> &Value {
        &self.inputs
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let skipped = StepView { status: "skipped", output: None, failure: None, attempts: 0 };
        self.is_skipped(self.plan.named_in(BodyId(0), name)?).then_some(skipped)
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

fn step_preview(known: &Known<'_>, id: StepNo, wave: usize) -> StepPreview {
    let plan = known.plan;
    let step = plan.step(id);
    let uses = step.uses();
    let plugin = uses.map(|uses| &plan.plugins[uses.plugin.index()]);
    let seen = Seen { known, by: id };
    let nothing = Template::constant(Json::null());
    let with = uses.map_or(&nothing, |uses| &uses.with);
    let filled = with.foretell(&seen);
    let rule = step.when.as_ref().map(|when| {
        let waits_for = unknown(&seen, when.steps());
        let holds = match when.foretell(&seen) {
            Foretold::Value(value) => value.as_bool(),
            Foretold::Open | Foretold::Fault(_) => None,
        };
        // There is no run yet that could have an id.
        let sees =
            when.sees(&seen).into_iter().filter(|(path, _)| path != "run" && !path.starts_with("run.")).collect();
        RulePreview { rule: when.source().to_owned(), holds, sees, waits_for }
    });
    StepPreview {
        step: step.name.clone(),
        wave,
        verdict: verdict(known, id, rule.as_ref(), filled.fault.as_ref()),
        always: step.always,
        needs: step.needs.iter().map(|need| need_text(plan, need)).collect(),
        join: step.join,
        ends: plan.region(id).iter().map(|step| plan.step(*step).name.clone()).collect(),
        rule,
        plugin: plugin.map(|plugin| plugin.name.clone()),
        digest: plugin.map(|plugin| plugin.component.digest.clone()),
        input: filled.value,
        input_waits_for: unknown(&seen, with.steps()),
        grants: uses.map(|uses| uses.grants.clone()).unwrap_or_default(),
        limits: uses.map(|uses| unusual(&uses.limits)).unwrap_or_default(),
        pool: uses
            .and_then(|uses| uses.pool)
            .map(|pool| &plan.pools[pool.index()])
            .map(|pool| (pool.name.clone(), pool.size)),
        retry: Some(step.retry).filter(|retry| retry.attempts > 1),
        timeout_ms: step.timeout_ms,
    }
}

fn verdict(known: &Known<'_>, id: StepNo, rule: Option<&RulePreview>, fault: Option<&RuleError>) -> Verdict {
    let plan = known.plan;
    let mut depends = match needs(known, id) {
        Ok(depends) => depends,
        Err(why) => return Verdict::Skipped(why),
    };
    if let Some(rule) = rule {
        let seen: Vec<String> = rule.sees.iter().map(|(path, value)| format!("{path} is {value}")).collect();
        let place = if seen.is_empty() { String::new() } else { format!(", where {}", seen.join(", ")) };
        let text = rule.rule.split_whitespace().collect::<Vec<_>>().join(" ");
        match (rule.holds, plan.step(id).when.as_ref().map(|when| when.foretell(&Seen { known, by: id }))) {
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

/// What has to turn out so that a step's join lets it start, if nothing fails before it; or why it never does.
fn needs(known: &Known<'_>, id: StepNo) -> Result<Vec<String>, String> {
    let plan = known.plan;
    let step = plan.step(id);
    let (mut met, mut unmet) = (0, Vec::new());
    let mut open = Vec::new();
    for need in &step.needs {
        let name = &plan.step(need.step).name;
        let verdict = &known.verdicts[need.step.index()];
        // A step that will not run, or fails for sure, has one end; any other may come to each of them.
        let end = match verdict {
            Some(Verdict::Skipped(_)) => Some((StepEnd::Skipped, "will be skipped")),
            Some(Verdict::Fails(_)) => Some((StepEnd::Failed, "will fail")),
            _ => None,
        };
        match (end, need.state) {
            (Some((end, _)), state) if state.is_met_by(end) => met += 1,
            (Some((_, word)), state) => {
                unmet.push(format!("it needs `{name}` to {}, but `{name}` {word}", wanted(state)));
            }
            (None, NeedState::Finished) => met += 1,
            (None, NeedState::Failed) => open.push(format!("`{name}` fails")),
            (None, NeedState::Skipped) => open.push(format!("`{name}` is skipped")),
            (None, NeedState::Succeeded) => match verdict {
                Some(Verdict::Depends(_)) => open.push(format!("`{name}` runs")),
                _ => met += 1,
            },
        }
    }
    let of = step.needs.len() as u32;
    let least = step.join.least(of);
    let possible = of - unmet.len() as u32;
    if possible < least {
        let too_few = SkipReason::TooFewNeedsMet { possible, least, of }.explain(plan, &Scopes::new(plan));
        return Err(unmet.into_iter().next().filter(|_| least == of).unwrap_or(too_few));
    }
    Ok(match (least as usize).saturating_sub(met) {
        0 => Vec::new(),
        wanted if wanted == open.len() => open,
        1 => vec![open.join(" or ")],
        wanted => vec![format!("{wanted} of these come true: {}", open.join(", "))],
    })
}

/// For each step the join that may be decided before the step is over, and ends it then, though nothing fails.
fn cut_by(known: &Known<'_>, order: &[StepNo]) -> Vec<Option<StepNo>> {
    let plan = known.plan;
    let mut by = vec![None; plan.steps.len()];
    // From the outermost in: what becomes of a join becomes of what serves it.
    for join in order.iter().rev().filter(|join| plan.step(**join).rest == Rest::Cancel) {
        let is_sure = needs(known, *join).is_ok_and(|depends| depends.is_empty());
        let mut open = if is_sure { vec![*join] } else { Vec::new() };
        let mut waited_for = HashSet::new();
        let region: HashSet<StepNo> = plan.region(*join).iter().copied().collect();
        while let Some(step) = open.pop() {
            let needs = &plan.step(step).needs;
            let needed = needs.iter().filter(|_| waits_for_all(plan.step(step))).map(|need| need.step);
            open.extend(needed.filter(|need| region.contains(need) && waited_for.insert(*need)));
        }
        for step in region {
            by[step.index()] = if waited_for.contains(&step) { by[join.index()] } else { Some(*join) };
        }
    }
    by
}

/// The steps in an order in which each comes after all that it needs, always-steps last; and for each the wave in which its
/// turn may come first, from 1.
fn waves(plan: &Plan) -> (Vec<StepNo>, Vec<usize>) {
    let count = plan.own_steps().len();
    let mut waves = vec![1; count];
    let mut missing: Vec<usize> = plan.own_steps().iter().map(|step| step.needs.len()).collect();
    let mut order: Vec<StepNo> = Vec::with_capacity(count);
    // Always-steps whose needs were all looked at, while ordinary ones are left.
    let mut always = Vec::new();
    let mut ready: Vec<usize> = (0..count).rev().filter(|index| missing[*index] == 0).collect();
    let mut least = 1;
    loop {
        while let Some(index) = ready.pop() {
            let step = &plan.steps[index];
            if step.always && least == 1 {
                always.push(index);
                continue;
            }
            let mut before: Vec<usize> = step.needs.iter().map(|need| waves[need.step.index()]).collect();
            before.sort_unstable();
            let taken =
                if step.join == Join::Merge { before.len() } else { step.join.least(before.len() as u32) as usize };
            waves[index] = least.max(taken.checked_sub(1).map_or(1, |last| before[last] + 1));
            order.push(StepNo(index as u32));
            for (dependent, _) in plan.dependents(StepNo(index as u32)) {
                missing[dependent.index()] -= 1;
                if missing[dependent.index()] == 0 {
                    ready.push(dependent.index());
                }
            }
        }
        if always.is_empty() {
            return (order, waves);
        }
        least = 1 + waves.iter().max().copied().unwrap_or(0);
        ready = std::mem::take(&mut always);
    }
}

fn longest_chain(known: &Known<'_>, order: &[StepNo], waves: &[usize]) -> Vec<String> {
    let plan = known.plan;
    let mut best: Vec<(usize, Option<StepNo>)> = vec![(0, None); plan.steps.len()];
    for step in order.iter().filter(|step| !known.is_skipped(**step)) {
        let before = plan.step(*step).needs.iter().map(|need| need.step).filter(|need| !known.is_skipped(*need));
        // Of equal chains that of the need which is written first.
        let before = before.rev().max_by_key(|need| best[need.index()].0);
        best[step.index()] = (1 + before.map_or(0, |need| best[need.index()].0), before);
    }
    let rank = |step: &&StepNo| (best[step.index()].0, Reverse((waves[step.index()], **step)));
    let mut last = order.iter().max_by_key(rank).copied().filter(|step| best[step.index()].0 > 0);
    let mut chain = Vec::new();
    while let Some(step) = last {
        chain.push(plan.step(step).name.clone());
        last = best[step.index()].1;
    }
    chain.reverse();
    chain
}

/// Of these steps those that nothing is known of yet, each once.
fn unknown<'s>(seen: &Seen<'_, '_>, steps: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut unknown: Vec<String> = Vec::new();
    for step in steps {
        if seen.step(step).is_none() && !unknown.iter().any(|known| known == step) {
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
