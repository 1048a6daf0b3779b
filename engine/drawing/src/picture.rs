//! What is to be seen of a workflow or a run: steps with their marks, arrows with what they ask for, the critical path.
//! Every text that came from elsewhere is made visible here, once. Nothing here knows a place, a colour or a format.

use std::collections::BTreeSet;

use downbeat_workflow::event::{NeedState, Outcome, SkipReason};
use downbeat_workflow::history::{History, StepHistory};
use downbeat_workflow::plan::{Join, Need, Plan, Rest, Step, StepId, StepNo, Work};
use downbeat_workflow::run::{Run, StepStatus};
use downbeat_workflow::text::visible;

use crate::text::{duration, in_one_line};

/// What is to be seen.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The workflow's name.
    pub(crate) name: String,
    /// What the workflow is for, or how the run went; may be empty.
    pub(crate) caption: String,
    /// In the plan's order.
    pub(crate) steps: Vec<Node>,
    /// From what is needed to who needs it.
    pub(crate) arrows: Vec<Arrow>,
    /// The pools' names and sizes.
    pub(crate) pools: Vec<(String, u32)>,
    /// Whether it shows a run.
    pub(crate) is_run: bool,
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) plugin: String,
    /// An index into the picture's pools.
    pub(crate) pool: Option<usize>,
    /// Attempts at most, if more than one.
    pub(crate) retries: Option<u32>,
    pub(crate) timeout_ms: Option<u64>,
    /// Whether it runs once all ordinary steps are over, whatever became of them.
    pub(crate) is_always: bool,
    /// How many of its needs it takes, unless it is all of them.
    pub(crate) join: Option<JoinWords>,
    /// The rule, in one line.
    pub(crate) when: Option<String>,
    /// How it went, in a run.
    pub(crate) life: Option<Life>,
    /// Everything that is known of it, a line each; the first is its name.
    pub(crate) notes: Vec<String>,
    pub(crate) is_critical: bool,
}

/// A join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JoinWords {
    /// In a few words: `any, cancels the rest`.
    pub(crate) short: String,
    /// What it means for its needs.
    pub(crate) meaning: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) mark: Mark,
    pub(crate) attempts: u32,
    pub(crate) took_ms: Option<u64>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
    Running,
    Delayed,
    Queued,
    Waiting,
}

impl Mark {
    pub(crate) const ALL: [Mark; 8] = [
        Mark::Succeeded,
        Mark::Failed,
        Mark::Skipped,
        Mark::Cancelled,
        Mark::Running,
        Mark::Delayed,
        Mark::Queued,
        Mark::Waiting,
    ];

    /// The word, as `downbeat show` has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mark::Succeeded => "succeeded",
            Mark::Failed => "failed",
            Mark::Skipped => "skipped",
            Mark::Cancelled => "cancelled",
            Mark::Running => "in flight",
            Mark::Delayed => "delayed",
            Mark::Queued => "queued",
            Mark::Waiting => "waiting",
        }
    }

    fn of(status: &StepStatus<'_>) -> Mark {
        match status {
            StepStatus::Waiting | StepStatus::Ready => Mark::Waiting,
            StepStatus::Queued => Mark::Queued,
            StepStatus::Running | StepStatus::Open => Mark::Running,
            StepStatus::Parked(_) => Mark::Delayed,
            StepStatus::Delayed(_) => Mark::Delayed,
            StepStatus::Succeeded(_) => Mark::Succeeded,
            StepStatus::Failed(_) => Mark::Failed,
            StepStatus::Skipped(_) => Mark::Skipped,
            StepStatus::Cancelled => Mark::Cancelled,
        }
    }
}

/// A need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) state: NeedState,
    /// Other needs say the same already: drawn more faintly.
    pub(crate) is_implied: bool,
    /// In a run: the step that is needed came to another end.
    pub(crate) is_unmet: bool,
    pub(crate) is_critical: bool,
}

/// The state's word, as it is written in `needs`.
pub(crate) fn word(state: NeedState) -> &'static str {
    match state {
        NeedState::Succeeded => "succeeded",
        NeedState::Failed => "failed",
        NeedState::Skipped => "skipped",
        NeedState::Finished => "finished",
    }
}

impl Picture {
    /// Of a workflow.
    pub fn of_plan(plan: &Plan) -> Picture {
        let steps = plan.own_steps().iter().map(|step| node(plan, step)).collect();
        let implied = implied(plan);
        let mut arrows = Vec::new();
        for (to, step) in plan.own_steps().iter().enumerate() {
            for need in &step.needs {
                let from = need.step.index();
                let is_implied = need.state == NeedState::Succeeded && implied.contains(&(from, to));
                let (is_unmet, is_critical) = (false, false);
                arrows.push(Arrow { from, to, state: need.state, is_implied, is_unmet, is_critical });
            }
        }
        let pools = plan.pools.iter().map(|pool| (in_one_line(&pool.name), pool.size)).collect();
        let (name, caption) = (in_one_line(&plan.name), in_one_line(&plan.description));
        Picture { name, caption, steps, arrows, pools, is_run: false }
    }

    /// Of a run; `history` tells of the same records.
    pub fn of_run(run: &Run, history: &History) -> Picture {
        let plan = run.plan();
        let mut picture = Picture::of_plan(plan);
        picture.is_run = true;
        let path = critical_path(plan, history);
        picture.caption = run_caption(run, history, !path.is_empty());
        for (index, node) in picture.steps.iter_mut().enumerate() {
            let (status, attempts) = run.status(StepId(index as u32));
            let story = &history.steps[index];
            let life = Life { mark: Mark::of(&status), attempts, took_ms: story.elapsed_ms() };
            node.is_critical = path.contains(&index);
            let unneeded_by = run.unneeded_by(StepId(index as u32)).filter(|_| life.mark == Mark::Cancelled);
            let unneeded_by = unneeded_by.map(|join| format!("`{}` does not need it any more", run.path(join)));
            node.notes.splice(1..1, life_notes(run, node, story, &status, life).into_iter().chain(unneeded_by));
            node.life = Some(life);
        }
        for arrow in &mut picture.arrows {
            let end = history.steps[arrow.from].ended.map(|(_, end)| end);
            arrow.is_unmet = end.is_some_and(|end| !arrow.state.is_met_by(end));
            arrow.is_critical =
                path.iter().zip(path.iter().skip(1)).any(|(&to, &from)| (from, to) == (arrow.from, arrow.to));
        }
        picture
    }

    /// The picture in a sentence, for who can't see it.
    pub(crate) fn description(&self) -> String {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let (steps, needs) = (plural(self.steps.len(), "step"), plural(self.arrows.len(), "need"));
        let mut text = format!("{steps}, {needs}. An arrow leads from a step to one that needs it.");
        if self.is_run {
            let count =
                |mark: Mark| self.steps.iter().filter(|step| step.life.is_some_and(|life| life.mark == mark)).count();
            let ends: Vec<String> = Mark::ALL
                .iter()
                .filter(|&&mark| count(mark) > 0)
                .map(|&mark| format!("{} {}", count(mark), mark.word()))
                .collect();
            text = format!("{text} Of the steps: {}.", ends.join(", "));
        }
        let always: Vec<&str> =
            self.steps.iter().filter(|step| step.is_always).map(|step| step.name.as_str()).collect();
        if !always.is_empty() {
            text = format!("{text} Once all others are over, whatever became of them: {}.", always.join(", "));
        }
        text
    }
}

fn node(plan: &Plan, step: &Step) -> Node {
    let uses = step.uses().map(|uses| &plan.plugins[uses.plugin.index()]);
    let plugin = match &step.work {
        Work::Use(_) => uses.map_or_else(String::new, |plugin| in_one_line(&plugin.name)),
        Work::Open(_) => "steps".to_owned(),
        Work::Wait(_) => "waits".to_owned(),
        Work::Finish => "finishes".to_owned(),
        Work::Fail(_) => "fails".to_owned(),
    };
    let when = step.when.as_ref().map(|rule| in_one_line(rule.source()));
    let pool = step.uses().and_then(|uses| uses.pool);
    let mut notes = vec![step.name.clone()];
    notes.extend(uses.map(|uses| {
        let component = visible(&uses.component.description.name, false);
        match plugin == component {
            true => format!("uses {plugin}"),
            false => format!("uses {plugin}, a {component}"),
        }
    }));
    if !step.needs.is_empty() {
        let needs: Vec<String> = step.needs.iter().map(|need| wanted(plan, need.step, need.state)).collect();
        notes.push(format!("needs {}", needs.join(", ")));
    }
    let join = join_words(step);
    notes.extend(join.as_ref().map(|join| format!("join {}: {}", join.short, join.meaning)));
    if step.always {
        notes.push("always: once all steps are over, whatever became of them".to_owned());
    }
    notes.extend(when.as_ref().map(|when| format!("when {when}")));
    if let Some(pool) = pool {
        let pool = &plan.pools[pool.index()];
        notes.push(format!("in pool {}, {} at once", in_one_line(&pool.name), pool.size));
    }
    notes.extend(step.timeout_ms.map(|ms| format!("an attempt may take {}", duration(ms))));
    let retry = &step.retry;
    if retry.attempts > 1 {
        let (first, most) = (duration(retry.delay_ms), duration(retry.max_delay_ms));
        let factor = retry.factor;
        notes.push(format!(
            "up to {} attempts, {first} apart, then {factor} times that, {most} at most",
            retry.attempts
        ));
    }
    let retries = (retry.attempts > 1).then_some(retry.attempts);
    let (timeout_ms, name) = (step.timeout_ms, step.name.clone());
    let (is_always, pool) = (step.always, pool.map(|pool| pool.index()));
    Node { name, plugin, pool, retries, timeout_ms, is_always, join, when, life: None, notes, is_critical: false }
}

fn join_words(step: &Step) -> Option<JoinWords> {
    let of = step.needs.len();
    let (word, meaning) = match step.join {
        Join::All => ("all".to_owned(), "every need has to be met".to_owned()),
        Join::Any => ("any".to_owned(), "one need is enough".to_owned()),
        Join::Merge => ("merge".to_owned(), "one need is enough, once all are over".to_owned()),
        Join::AtLeast(least) => (format!("{least} of {of}"), format!("{least} of {of} needs are enough")),
    };
    match step.rest {
        Rest::Wait if step.join == Join::All => None,
        Rest::Wait => Some(JoinWords { short: word, meaning }),
        Rest::Cancel => Some(JoinWords {
            short: format!("{word}, cancels the rest"),
            meaning: format!("{meaning}; what serves it alone and is not over then is ended"),
        }),
    }
}

/// A need as it is written.
fn wanted(plan: &Plan, step: StepNo, state: NeedState) -> String {
    let name = &plan.step(step).name;
    match state {
        NeedState::Succeeded => name.clone(),
        state => format!("{name}.{}", word(state)),
    }
}

/// What a run knows of a step.
fn life_notes(run: &Run, node: &Node, story: &StepHistory, status: &StepStatus<'_>, life: Life) -> Vec<String> {
    let mut first = life.mark.word().to_owned();
    if let Some(took) = life.took_ms {
        first.push_str(&format!(" after {}", duration(took)));
    }
    if life.attempts > 1 {
        first.push_str(&format!(", {} attempts", life.attempts));
    }
    let mut notes = vec![first];
    match status {
        StepStatus::Skipped(reason) => notes.push(in_one_line(&reason.explain(run.plan(), run.scopes()))),
        StepStatus::Failed(failure) => notes.push(in_one_line(&failure.message)),
        _ => (),
    }
    let in_line: u64 =
        story.attempts.iter().filter_map(|attempt| Some(attempt.started?.0.saturating_sub(attempt.queued?.0))).sum();
    if in_line > 0 {
        notes.push(format!("waited {} for its pool", duration(in_line)));
    }
    if node.is_critical {
        notes.push("on the critical path".to_owned());
    }
    notes
}

fn run_caption(run: &Run, history: &History, has_path: bool) -> String {
    let took = history.created.zip(history.finished);
    let took = took.map(|(created, (finished, _))| duration(finished.0.saturating_sub(created.0)));
    let how = match history.finished.map(|(_, outcome)| outcome) {
        Some(Outcome::Succeeded) => "succeeded",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::TimedOut) => "timed out",
        None => "not over",
    };
    let mut caption = format!("run {}: {how}", in_one_line(&run.id().to_string()));
    if let Some(took) = took {
        caption.push_str(&format!(" after {took}"));
    }
    if has_path {
        caption.push_str("; the thick line is its critical path");
    }
    caption
}

/// The steps that kept a run that is over from being over sooner, last first: from the last one that was carried out back
/// to what decided that it starts, and so on. Of what ended at the same time, one that was carried out is preferred, then
/// the first in the file.
fn critical_path(plan: &Plan, history: &History) -> Vec<usize> {
    if history.finished.is_none() {
        return Vec::new();
    }
    let ended = |index: usize| {
        let story = &history.steps[index];
        story.ended.map(|(at, _)| (at, !story.attempts.is_empty(), std::cmp::Reverse(index)))
    };
    let last = |steps: &mut dyn Iterator<Item = usize>| {
        steps.filter(|&index| ended(index).is_some()).max_by_key(|&index| ended(index))
    };
    let last_of_steps = last(&mut (0..plan.own_steps().len()).filter(|&index| !plan.steps[index].always));
    let carried_out = |index: &usize| !history.steps[*index].attempts.is_empty();
    let mut path = Vec::new();
    let mut at = last(&mut (0..plan.own_steps().len()).filter(carried_out));
    while let Some(index) = at {
        path.push(index);
        let decided = match history.steps[index].skipped {
            // One need alone decided it.
            Some(SkipReason::NeedNotMet { need, .. }) => Some(need.index()),
            Some(SkipReason::NotNeeded { by }) => decider(&plan.steps[by.index()], &ended, history),
            _ => decider(&plan.steps[index], &ended, history),
        };
        at = match plan.steps[index].always {
            true => last(&mut decided.into_iter().chain(last_of_steps)),
            false => decided,
        };
    }
    path
}

/// The need of a step whose end decided its join.
fn decider<E: Ord>(step: &Step, ended: &dyn Fn(usize) -> Option<E>, history: &History) -> Option<usize> {
    let mut over: Vec<&Need> = step.needs.iter().filter(|need| ended(need.step.index()).is_some()).collect();
    over.sort_by_key(|need| ended(need.step.index()));
    let of = step.needs.len();
    let least = step.join.least(of as u32) as usize;
    let is_met =
        |need: &&Need| history.steps[need.step.index()].ended.is_some_and(|(_, end)| need.state.is_met_by(end));
    let met = over.iter().copied().filter(is_met).nth(least.max(1) - 1);
    let decided = match (step.join, met) {
        (Join::Merge, _) => over.last().copied(),
        (_, Some(met)) => Some(met),
        (_, None) => over.iter().copied().filter(|need| !is_met(need)).nth(of - least),
    };
    decided.map(|need| need.step.index())
}

/// Needs that follow from others: `a` of a step that needs `b` to succeed, which needs `a` to.
fn implied(plan: &Plan) -> BTreeSet<(usize, usize)> {
    let succeeding = |step: &Step| {
        // Of alternatives, none follows from another.
        let takes_all = step.join.least(step.needs.len() as u32) as usize == step.needs.len();
        let needs = step.needs.iter().filter(|need| takes_all && need.state == NeedState::Succeeded);
        needs.map(|need| need.step.index()).collect::<Vec<usize>>()
    };
    let needs: Vec<Vec<usize>> = plan.own_steps().iter().map(succeeding).collect();
    let mut implied = BTreeSet::new();
    for (to, direct) in needs.iter().enumerate() {
        if direct.len() < 2 {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut todo: Vec<usize> = direct.iter().flat_map(|&step| needs[step].iter().copied()).collect();
        while let Some(step) = todo.pop() {
            if seen.insert(step) {
                todo.extend(&needs[step]);
            }
        }
        implied.extend(direct.iter().filter(|step| seen.contains(step)).map(|&from| (from, to)));
    }
    implied
}

/// Whether nothing of the step was carried out.
pub(crate) fn is_faint(life: Option<Life>) -> bool {
    life.is_some_and(|life| matches!(life.mark, Mark::Skipped | Mark::Waiting))
}
