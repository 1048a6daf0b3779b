//! What a run of a plan would do, before there is one: in which order, on which inputs as far as they are known, with which
//! components, grants and bounds; which rules the inputs alone decide, and which stay open and for what.
//!
//! Nothing is executed and nothing guessed: a step is told to be skipped only if no course of the run can make it run, and
//! what depends on a step's end is open. Of steps within steps, which see what nobody can know before, rules and holes stand as
//! they are written; but what they are granted is told of every one of them. The words are in `page`; the values serialise as
//! they are, for programs.

mod page;

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use crate::capability::{Grants, Limits, Lowered};
use crate::description::Digest;
use crate::event::{NeedState, Origin, SkipReason, StepEnd};
use crate::json::Json;
use crate::plan::{
    BodyId, Held, Join, Opens, Plan, Rest, Retry, ScopeCount, Signal, Signer, Step, StepKind, StepNo, Use, Wait,
    WhenBusy, Work, is_default,
};
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
    /// Where what has none of its own is in the line of its pool.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Its group, and what becomes of it while another run of that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<(String, WhenBusy)>,
    /// The components, in the plan's order.
    pub components: Vec<ComponentPreview>,
    /// The policies that it was held against.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Held>,
    /// By wave, in the file's order within one: a step is in the first wave in which its turn may come. That is the one
    /// after the last with a step that it needs, or, if it takes fewer than all of them, after the first ones with as many
    /// as it takes; for an always-step, after all ordinary ones.
    pub steps: Vec<StepPreview>,
    /// The signals that its steps wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
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
    /// Who has signed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<Signer>,
}

/// A step, before it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepPreview {
    /// Its name, or its path within the plan if it is a step of another's: `deploy/push`.
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
    /// The steps that it ends when it succeeds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cancels: Vec<String>,
    /// Its `when`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RulePreview>,
    /// The plugin; `None` for a step that runs no component itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The steps that it opens, if it opens any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<OpensPreview>,
    /// What it does for each item of a list. What else is told of it is then told of each item, unless it opens steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreach: Option<EachPreview>,
    /// What it does in rounds; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RoundsPreview>,
    /// What it waits for: whatever comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitPreview>,
    /// Whether it ends its scope, and with which message if that is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// What takes back what it did, if it succeeds and what it belongs to does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<Box<StepPreview>>,
    /// The plugin's component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its input; holes that are open stand as they are written.
    pub input: Json,
    /// The steps that its open holes wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_waits_for: Vec<String>,
    /// Whether no hole of its input is open, so that its attempts are given just that.
    #[serde(skip)]
    pub input_is_known: bool,
    /// What its attempts may reach.
    pub grants: Grants,
    /// What its component wants and is not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
    /// The bounds that are not the default, or that a policy has lowered to it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<&'static str, u64>,
    /// Which of its bounds, its time-out among them, a policy has lowered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lowered: Vec<Lowered>,
    /// What is known of its answer in the cache, if the cache is asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cached>,
    /// Where its attempts, its scopes or its waiting queue, and how many places there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<(String, u32)>,
    /// How many may be started in that pool, as it is written: `10/min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_rate: Option<String>,
    /// Where it is in the line of its pool, if it says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// What happens after a failure, if it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Of an attempt, in milliseconds, if the step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What is known of a step's answer in the cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cached {
    /// It will be asked for, with an input that is not known yet.
    Asked,
    /// It is there, if nothing that it depends on changes until then.
    Hit(Origin),
    /// It is not there: the step will be executed, and its answer kept.
    Miss,
    /// It can't be asked for, and the step will be executed; why.
    Unusable(String),
}

/// The steps that a step opens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpensPreview {
    /// The name of the sub-workflow, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The absolute folder of the sub-workflow's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Whether the step is over once they have begun.
    #[serde(skip_serializing_if = "is_default")]
    pub detached: bool,
    /// Of all of them together, in milliseconds, if the sub-workflow says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The step where they are told, if that is another one: a sub-workflow is told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_in: Option<String>,
    /// By wave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepPreview>,
}

/// The items that a step does something for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EachPreview {
    /// The list; holes that are open stand as they are written.
    pub list: Json,
    /// How many there are, if that is known.
    pub items: Option<usize>,
    /// How many may be worked on at once, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// How many have to succeed.
    #[serde(skip_serializing_if = "is_default")]
    pub join: Join,
    /// The rule that decides it whenever an item has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What becomes of the others once that is decided.
    #[serde(skip_serializing_if = "is_default")]
    pub rest: Rest,
}

/// The rounds of a step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RoundsPreview {
    /// The rule that is asked before each round.
    #[serde(rename = "while", skip_serializing_if = "Option::is_none")]
    pub while_holds: Option<String>,
    /// The rule that is asked after each round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// So many at most; with neither rule, so many.
    pub max: u32,
    /// Between two rounds, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
}

/// What a step waits for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaitPreview {
    /// So many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// A time; as it is written if it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Json>,
    /// A signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Who may give their word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approval: Vec<String>,
    /// What they are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<Json>,
}

/// How a step ends its scope.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Successfully.
    Finish,
    /// With this message.
    Fail(Json),
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
    let mut known = Known {
        plan,
        inputs: inputs.value(),
        verdicts: vec![None; plan.steps.len()],
        joins: plan.has_starts() || plan.steps.iter().any(|step| !waits_for_all(step)),
        left: Cell::new(NEEDS_FOLLOWED_MAX),
    };
    let (order, waves) = waves(plan, BodyId(0));
    let mut steps = body_preview(&mut known, BodyId(0), &order, &waves, "");
    // A sub-workflow is told where it runs, if there is a choice.
    let mut told = HashMap::new();
    for is_over in [false, true] {
        for (step, preview) in &mut steps {
            if matches!(preview.verdict, Verdict::Skipped(_) | Verdict::Fails(_)) == is_over {
                look_within(&mut known, *step, preview, &mut told);
            }
        }
    }
    let chain = longest_chain(&known, &order, &waves);
    let component = |plugin: &crate::plan::Plugin| {
        let description = &plugin.component.description;
        ComponentPreview {
            plugin: plugin.name.clone(),
            component: format!("{} {}", description.name, description.version),
            digest: plugin.component.digest.clone(),
            signers: plugin.signers.clone(),
        }
    };
    let outputs = plan.outputs.iter().map(|output| (output.name.clone(), output.value.foretell(&known).value));
    let when_busy = plan.concurrency.as_ref().map(|concurrency| concurrency.when_busy);
    let group = plan.group_of(&inputs).ok().flatten().zip(when_busy);
    Preview {
        workflow: plan.name.clone(),
        plan: plan.to_json().1,
        inputs,
        priority: plan.priority,
        group,
        timeout_ms: plan.timeout_ms,
        components: plan.plugins.iter().map(component).collect(),
        policies: plan.policies.clone(),
        signals: plan.signals.clone(),
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
        self.before(then).is_some_and(|before| before.contains(&first))
    }

    /// A step and all that are over for sure when it starts; `None` if too much was followed already.
    fn before(&self, then: StepNo) -> Option<HashSet<StepNo>> {
        let (mut seen, mut open) = (HashSet::from([then]), vec![then]);
        // Those that have begun: what they need is over, while they may not be.
        let mut begun = HashSet::new();
        while let Some(step) = open.pop() {
            let step = self.plan.step(step);
            self.left.set(self.left.get().checked_sub(step.needs.len())?);
            if waits_for_all(step) {
                let needed = step.needs.iter().filter(|need| match need.state {
                    NeedState::Started => !seen.contains(&need.step) && begun.insert(need.step),
                    _ => seen.insert(need.step),
                });
                // What ended in any way may have been skipped before all that it needs was over.
                let ran = needed.filter(|need| !matches!(need.state, NeedState::Skipped | NeedState::Finished));
                open.extend(ran.map(|need| need.step));
            }
        }
        Some(seen)
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

/// The steps of a body without what is in them, in the file's order within a wave. `path` stands before their names.
fn body_preview(
    known: &mut Known<'_>,
    body: BodyId,
    order: &[StepNo],
    waves: &[usize],
    path: &str,
) -> Vec<(StepNo, StepPreview)> {
    let plan = known.plan;
    let first = plan.steps_of(body).start as usize;
    let mut steps = Vec::with_capacity(order.len());
    for step in order {
        let preview = step_preview(known, *step, waves[step.index() - first], path);
        known.verdicts[step.index()] = Some(preview.verdict.clone());
        steps.push((*step, preview));
    }
    let by = cut_by(known, order);
    let ended = ended_by(known, order);
    for (step, preview) in &mut steps {
        let join = by.get(step).map(|join| format!("`{}` is not decided before", plan.step(*join).name));
        let end = ended.get(step).map(|end| format!("`{}` does not end it all before", plan.step(*end).name));
        for still in join.into_iter().chain(end) {
            match &mut preview.verdict {
                verdict @ Verdict::Runs => *verdict = Verdict::Depends(vec![still]),
                Verdict::Depends(on) => on.push(still),
                Verdict::Skipped(_) | Verdict::Fails(_) => (),
            }
        }
    }
    steps.sort_by_key(|(step, preview)| (preview.wave, *step));
    steps
}

/// Adds the steps that a step opens, and theirs in turn. `told`: where the steps of a body are told.
fn look_within(known: &mut Known<'_>, id: StepNo, preview: &mut StepPreview, told: &mut HashMap<BodyId, String>) {
    let plan = known.plan;
    let Some((opens, within)) = plan.step(id).opens().zip(preview.opens.as_mut()) else { return };
    if let Some(path) = told.get(&opens.body) {
        within.as_in = Some(path.clone());
        return;
    }
    told.insert(opens.body, preview.step.clone());
    let (order, waves) = waves(plan, opens.body);
    let mut steps = body_preview(known, opens.body, &order, &waves, &preview.step);
    for (step, preview) in &mut steps {
        look_within(known, *step, preview, told);
    }
    within.steps = steps.into_iter().map(|(_, preview)| preview).collect();
}

/// A value as far as it is known to a step; within other steps, as it is written.
fn outline(seen: &Seen<'_, '_>, value: &Template, is_own: bool) -> (Json, Option<RuleError>) {
    match is_own {
        true => {
            let outline = value.foretell(seen);
            (outline.value, outline.fault)
        }
        false => (value.source().clone(), None),
    }
}

fn step_preview(known: &Known<'_>, id: StepNo, wave: usize, path: &str) -> StepPreview {
    let plan = known.plan;
    let step = plan.step(id);
    let is_own = path.is_empty();
    let seen = Seen { known, by: id };
    let rule = step.when.as_ref().map(|when| {
        let rule = when.source().to_owned();
        if !is_own {
            let waits_for = distinct(when.steps());
            return RulePreview { rule, holds: None, sees: Vec::new(), waits_for };
        }
        let waits_for = unknown(&seen, when.steps());
        let holds = match when.foretell(&seen) {
            Foretold::Value(value) => value.as_bool(),
            Foretold::Open | Foretold::Fault(_) => None,
        };
        // There is no run yet that could have an id.
        let sees =
            when.sees(&seen).into_iter().filter(|(path, _)| path != "run" && !path.starts_with("run.")).collect();
        RulePreview { rule, holds, sees, waits_for }
    });
    let opens = step.opens();
    // An item or a round of a step that opens no block is the step itself.
    let itself = opens.filter(|opens| plan.body(opens.body).is_some_and(|body| body.answer.is_step()));
    let itself = itself.map(|opens| StepNo(plan.steps_of(opens.body).start));
    let does = itself.map_or(step, |itself| plan.step(itself));
    let (is_known, uses) = (is_own && itself.is_none(), does.uses());
    let plugin = uses.map(|uses| &plan.plugins[uses.plugin.index()]);
    let is_single = opens.is_none_or(|opens| matches!(opens.scopes, ScopeCount::One));
    let nothing = Template::constant(Json::null());
    let with = uses.map(|uses| &uses.with).or(opens.and_then(|opens| opens.with.as_ref())).unwrap_or(&nothing);
    let is_seen = is_known && is_single;
    let (input, fault) = outline(&seen, with, is_seen);
    let input_is_known = is_seen && fault.is_none() && !with.foretell(&seen).open;
    let input_waits_for = if is_known && is_single { unknown(&seen, with.steps()) } else { distinct(with.steps()) };
    let ending = match &does.work {
        Work::Finish => Some(Ending::Finish),
        Work::Fail(message) => Some(Ending::Fail(outline(&seen, message, is_known).0)),
        Work::Use(_) | Work::Open(_) | Work::Wait(_) => None,
    };
    let wait = match &does.work {
        Work::Wait(wait) => Some(wait_preview(&seen, wait, is_known)),
        _ => None,
    };
    let (foreach, repeat) = opens.map_or((None, None), |opens| scopes_preview(&seen, opens, is_own));
    let mut verdict = verdict(known, id, rule.as_ref(), fault.as_ref(), is_own);
    if let (Verdict::Runs, Some(Ending::Fail(message))) = (&verdict, &ending) {
        verdict = Verdict::Fails(format!("it is there to: {message}"));
    }
    StepPreview {
        step: if is_own { step.name.clone() } else { format!("{path}/{}", step.name) },
        wave,
        verdict,
        always: step.always,
        needs: step.needs.iter().map(|need| need_text(plan, need)).collect(),
        join: step.join,
        ends: plan.region(id).iter().map(|step| plan.step(*step).name.clone()).collect(),
        cancels: step.cancels.iter().map(|step| plan.step(*step).name.clone()).collect(),
        rule,
        plugin: plugin.map(|plugin| plugin.name.clone()),
        opens: opens.filter(|_| itself.is_none()).map(|opens| opens_preview(plan, opens)),
        foreach,
        repeat,
        wait,
        ending,
        undo: does.undo.map(|undo| Box::new(undo_preview(known, undo, wave, path, &step.name))),
        digest: plugin.map(|plugin| plugin.component.digest.clone()),
        input,
        input_waits_for,
        input_is_known,
        grants: uses.map(|uses| uses.grants.clone()).unwrap_or_default(),
        withheld: uses.map(|uses| withheld(plan, uses)).unwrap_or_default(),
        limits: uses.map(|uses| unusual(&uses.limits)).unwrap_or_default(),
        lowered: uses.map(|uses| uses.limits.lowered.clone()).unwrap_or_default(),
        cache: uses.filter(|uses| uses.cache).map(|_| Cached::Asked),
        pool: does.pool().map(|pool| &plan.pools[pool.index()]).map(|pool| (pool.name.clone(), pool.size)),
        pool_rate: does.pool().and_then(|pool| plan.pools[pool.index()].rate).map(|rate| rate.to_string()),
        priority: does.priority,
        retry: Some(does.retry).filter(|retry| retry.attempts > 1),
        timeout_ms: does.timeout_ms.or_else(|| lowered_timeout(&uses?.limits)),
    }
}

/// What takes back what a step of this name did.
fn undo_preview(known: &Known<'_>, undo: StepNo, wave: usize, path: &str, name: &str) -> StepPreview {
    // It sees what the step did, which nobody can know before.
    let within = if path.is_empty() { name } else { path };
    let mut preview = step_preview(known, undo, wave, within);
    preview.step = if path.is_empty() { format!("{name}.undo") } else { format!("{path}/{name}.undo") };
    preview.verdict = Verdict::Depends(vec![format!("`{name}` succeeded and what it belongs to does not")]);
    preview
}

/// What the component wants and is not granted.
pub(crate) fn withheld(plan: &Plan, uses: &Use) -> Vec<String> {
    uses.grants.withheld(&plan.plugins[uses.plugin.index()].component.description.wants)
}

fn opens_preview(plan: &Plan, opens: &Opens) -> OpensPreview {
    let workflow = plan.body(opens.body).and_then(|body| body.workflow.as_deref());
    OpensPreview {
        workflow: workflow.map(|workflow| workflow.name.clone()),
        directory: workflow.map(|workflow| workflow.directory.clone()),
        detached: opens.detached,
        timeout_ms: workflow.and_then(|workflow| workflow.timeout_ms),
        as_in: None,
        steps: Vec::new(),
    }
}

fn scopes_preview(seen: &Seen<'_, '_>, opens: &Opens, is_own: bool) -> (Option<EachPreview>, Option<RoundsPreview>) {
    match &opens.scopes {
        ScopeCount::One => (None, None),
        ScopeCount::Each(each) => {
            let (list, _) = outline(seen, &each.list, is_own);
            let items = list.value().as_array().filter(|_| each.from.is_empty()).map(Vec::len);
            let (parallel, join, rest) = (each.parallel, each.join, each.rest);
            let until = each.until.as_ref().map(|until| until.source().to_owned());
            (Some(EachPreview { list, items, parallel, join, until, rest }), None)
        }
        ScopeCount::Rounds(rounds) => {
            let text = |rule: &crate::rule::Rule| rule.source().to_owned();
            let (while_holds, until) = (rounds.while_holds.as_ref().map(text), rounds.until.as_ref().map(text));
            (None, Some(RoundsPreview { while_holds, until, max: rounds.max, delay_ms: rounds.delay_ms }))
        }
    }
}

fn wait_preview(seen: &Seen<'_, '_>, wait: &Wait, is_known: bool) -> WaitPreview {
    let value = |value: &Template| outline(seen, value, is_known).0;
    let approval = wait.approval.as_ref();
    WaitPreview {
        for_ms: wait.for_ms,
        until: wait.until.as_ref().map(value),
        signal: wait.signal.map(|signal| seen.known.plan.signals[signal.index()].name.clone()),
        approval: approval.map(|approval| approval.by.clone()).unwrap_or_default(),
        question: approval.and_then(|approval| approval.question.as_ref()).map(value),
    }
}

fn verdict(
    known: &Known<'_>,
    id: StepNo,
    rule: Option<&RulePreview>,
    fault: Option<&RuleError>,
    is_own: bool,
) -> Verdict {
    let plan = known.plan;
    let mut depends = match needs(known, id) {
        Ok(depends) => depends,
        Err(why) => return Verdict::Skipped(why),
    };
    if let Some(rule) = rule {
        let seen: Vec<String> = rule.sees.iter().map(|(path, value)| format!("{path} is {value}")).collect();
        let place = if seen.is_empty() { String::new() } else { format!(", where {}", seen.join(", ")) };
        let text = rule.rule.split_whitespace().collect::<Vec<_>>().join(" ");
        let when = plan.step(id).when.as_ref().filter(|_| is_own);
        match (rule.holds, when.map(|when| when.foretell(&Seen { known, by: id }))) {
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
            (None, NeedState::Succeeded | NeedState::Started) => match verdict {
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
fn cut_by(known: &Known<'_>, order: &[StepNo]) -> HashMap<StepNo, StepNo> {
    let plan = known.plan;
    let mut by: HashMap<StepNo, StepNo> = HashMap::new();
    // From the outermost in: what becomes of a join becomes of what serves it.
    for join in order.iter().rev().filter(|join| plan.step(**join).rest == Rest::Cancel) {
        let is_sure = needs(known, *join).is_ok_and(|depends| depends.is_empty());
        let mut open = if is_sure { vec![*join] } else { Vec::new() };
        let mut waited_for = HashSet::new();
        let region: HashSet<StepNo> = plan.region(*join).iter().copied().collect();
        while let Some(step) = open.pop() {
            let needs = &plan.step(step).needs;
            let needed = needs.iter().filter(|need| need.state != NeedState::Started && waits_for_all(plan.step(step)));
            let needed = needed.map(|need| need.step);
            let needed = needed.filter(|need| region.contains(need) && waited_for.insert(*need));
            // What may be skipped may be over before all that it needs is.
            open.extend(needed.filter(|need| self::needs(known, *need).is_ok_and(|depends| depends.is_empty())));
        }
        for step in region {
            match by.get(join).copied() {
                _ if !waited_for.contains(&step) => drop(by.insert(step, *join)),
                Some(outer) => drop(by.insert(step, outer)),
                None => drop(by.remove(&step)),
            }
        }
    }
    by
}

/// For each ordinary step that is not over for sure when one that ends their scope has its turn, that one.
fn ended_by(known: &Known<'_>, order: &[StepNo]) -> HashMap<StepNo, StepNo> {
    let plan = known.plan;
    let is_end = |step: &&StepNo| {
        let planned = plan.step(**step);
        matches!(planned.work, Work::Finish | Work::Fail(_)) && !planned.always && !known.is_skipped(**step)
    };
    let mut ended = HashMap::new();
    for end in order.iter().filter(is_end) {
        let before = known.before(*end).unwrap_or_default();
        let Some(left) = known.left.get().checked_sub(order.len()) else { break };
        known.left.set(left);
        let others = order.iter().filter(|step| plan.step(**step).kind() == StepKind::Ordinary);
        for step in others.filter(|step| !before.contains(step)) {
            ended.entry(*step).or_insert(*end);
        }
    }
    ended
}

/// The steps in an order in which each comes after all that it needs, always-steps last; and for each the wave in which its
/// turn may come first, from 1, by its place in its body.
fn waves(plan: &Plan, body: BodyId) -> (Vec<StepNo>, Vec<usize>) {
    let range = plan.steps_of(body);
    // What undoes others is no part of the order.
    let is_ordered = |step: &&Step| step.kind() != StepKind::Undo;
    let (first, count) = (range.start as usize, range.len());
    let steps = &plan.steps[first..first + count];
    let count = steps.iter().filter(is_ordered).count();
    let mut waves = vec![1; count];
    let mut missing: Vec<usize> = steps[..count].iter().map(|step| step.needs.len()).collect();
    let mut order: Vec<StepNo> = Vec::with_capacity(count);
    // Always-steps whose needs were all looked at, while ordinary ones are left.
    let mut always = Vec::new();
    let mut ready: Vec<usize> = (0..count).rev().filter(|index| missing[*index] == 0).collect();
    let mut least = 1;
    loop {
        while let Some(index) = ready.pop() {
            let step = &steps[index];
            if step.always && least == 1 {
                always.push(index);
                continue;
            }
            let mut before: Vec<usize> = step.needs.iter().map(|need| waves[need.step.index() - first]).collect();
            before.sort_unstable();
            let taken =
                if step.join == Join::Merge { before.len() } else { step.join.least(before.len() as u32) as usize };
            waves[index] = least.max(taken.checked_sub(1).map_or(1, |last| before[last] + 1));
            let no = StepNo((first + index) as u32);
            order.push(no);
            for (dependent, _) in plan.dependents(no) {
                let dependent = dependent.index() - first;
                missing[dependent] -= 1;
                if missing[dependent] == 0 {
                    ready.push(dependent);
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

/// These names, each once.
fn distinct<'s>(names: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.iter().any(|known| known == name) {
            distinct.push(name.to_owned());
        }
    }
    distinct
}

/// The usual time-out, if a policy has lowered it: then it is news.
fn lowered_timeout(limits: &Limits) -> Option<u64> {
    limits.lowered_by("timeout").map(|_| limits.time_ms)
}

/// The bounds that are not the default, or that a policy has lowered to it.
fn unusual(limits: &Limits) -> BTreeMap<&'static str, u64> {
    let usual = Limits::default();
    let all = [
        ("memory", limits.memory, usual.memory),
        ("table-elements", limits.table_elements, usual.table_elements),
        ("output", limits.output, usual.output),
        ("log", limits.log, usual.log),
        ("process-output", limits.process_output, usual.process_output),
        ("artifact", limits.artifact, usual.artifact),
        ("process-memory", limits.process_memory, usual.process_memory),
        ("process-cpu", limits.process_cpu_ms, usual.process_cpu_ms),
        ("process-file", limits.process_file, usual.process_file),
        ("processes", limits.processes, usual.processes),
    ];
    let is_news = |name: &str| limits.lowered_by(name).is_some();
    all.into_iter().filter(|(name, is, usual)| is != usual || is_news(name)).map(|(name, is, _)| (name, is)).collect()
}

/// A need as it is written in the file.
pub(crate) fn need_text(plan: &Plan, need: &crate::plan::Need) -> String {
    let name = &plan.step(need.step).name;
    match need.state {
        NeedState::Succeeded => name.clone(),
        NeedState::Failed => format!("{name}.failed"),
        NeedState::Skipped => format!("{name}.skipped"),
        NeedState::Finished => format!("{name}.finished"),
        NeedState::Started => format!("{name}.started"),
    }
}

fn wanted(state: NeedState) -> &'static str {
    match state {
        NeedState::Succeeded => "succeed",
        NeedState::Failed => "fail",
        NeedState::Skipped => "be skipped",
        NeedState::Finished => "finish",
        NeedState::Started => "start",
    }
}
