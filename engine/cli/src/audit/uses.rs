//! What attempts did with what they were granted, and what they were refused: a fold over the records of runs.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_journal::{Journal, RunFilter, RunSummary, StateFilter};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Refusal, RunId, Timestamp, Usage, Used};
use downbeat_workflow::plan::{BodyId, Plan, Plugin, Signer, StepId, StepNo, Use};
use downbeat_workflow::policy;
use downbeat_workflow::scope::Scopes;
use downbeat_workflow::text::visible;
use serde_json::{Value, json};

use crate::arguments::AuditFilter;
use crate::exit::Fault;
use crate::names;
use crate::place::find_run;
use crate::{talk, units};

/// A use, or a refusal.
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) run: RunId,
    pub(super) workflow: String,
    /// How people call the step.
    pub(super) step: String,
    pub(super) no: StepNo,
    /// The table in the workflow that says what it may do.
    pub(super) table: String,
    pub(super) attempt: u32,
    /// The plugin's name in the workflow.
    pub(super) plugin: String,
    pub(super) component: Digest,
    /// Who had signed the component when the run began.
    pub(super) signers: Vec<Signer>,
    /// The policies' rules that allowed the step what it is granted.
    pub(super) rules: Vec<String>,
    pub(super) what: What,
}

pub(super) enum What {
    Used(Used),
    Refused(Refusal),
}

impl Entry {
    pub(super) fn capability(&self) -> &str {
        match &self.what {
            What::Used(used) => &used.capability,
            What::Refused(refusal) => &refusal.capability,
        }
    }

    /// What was done, or asked for; empty if it was only counted.
    pub(super) fn what(&self) -> &str {
        match &self.what {
            What::Used(used) => &used.what,
            What::Refused(refusal) => &refusal.wanted,
        }
    }

    /// How often.
    pub(super) fn count(&self) -> u64 {
        match &self.what {
            What::Used(used) => used.count,
            What::Refused(_) => 1,
        }
    }

    /// What was done, or asked for, with how often, in a line.
    pub(super) fn told(&self) -> String {
        match &self.what {
            What::Used(Used { what, count: 1, unset: true, .. }) => format!("{what}, which is not set"),
            What::Used(Used { what, count, unset: true, .. }) => format!("{what}, which is not set ({count} times)"),
            What::Used(Used { what, count: 1, .. }) => what.clone(),
            What::Used(Used { what, count, .. }) if what.is_empty() => format!("{count} times"),
            What::Used(Used { what, count, .. }) => format!("{what} ({count} times)"),
            What::Refused(refusal) => refusal.wanted.clone(),
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut object = json!({
            "at": units::time(self.at),
            "run": self.run.to_string(),
            "workflow": self.workflow,
            "step": self.step,
            "attempt": self.attempt,
            "plugin": self.plugin,
            "component": self.component.as_str(),
            "capability": self.capability(),
        });
        if !self.signers.is_empty() {
            object["signers"] = json!(self.signers);
        }
        match &self.what {
            What::Used(Used { what, grant, count, unset, .. }) => {
                object["refused"] = false.into();
                if *unset {
                    object["unset"] = true.into();
                }
                object["what"] = what.as_str().into();
                object["grant"] = grant.as_str().into();
                if !self.rules.is_empty() {
                    object["rules"] = json!(self.rules);
                }
                object["count"] = (*count).into();
            }
            What::Refused(refusal) => {
                object["refused"] = true.into();
                object["what"] = refusal.wanted.as_str().into();
                object["hint"] = refusal.hint.as_str().into();
            }
        }
        object
    }
}

/// Gives `each` what fits, run by run, the earliest first. If nothing does, that is said; or it is a fault, if nothing can.
pub(super) fn each(
    journal: &Journal,
    filter: &AuditFilter,
    mut each: impl FnMut(&RunSummary, Vec<Entry>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let since = filter.since.map(|ms| Timestamp(Clock::system().now().0.saturating_sub(ms)));
    let runs = match &filter.run {
        Some(run) => vec![find_run(journal, Some(run), StateFilter::Any)?],
        None => {
            let mut runs = journal.runs(&RunFilter::default()).map_err(Fault::engine)?;
            runs.retain(|run| since.is_none_or(|since| run.last_event >= since));
            runs.reverse();
            runs
        }
    };
    let fits = |entry: &Entry| {
        filter.step.as_ref().is_none_or(|step| is_within(&entry.step, step))
            && filter.capability.as_ref().is_none_or(|capability| entry.capability() == capability)
            && filter
                .plugin
                .as_ref()
                .is_none_or(|plugin| entry.plugin == *plugin || is_digest(&entry.component, plugin))
            && (!filter.refused || matches!(entry.what, What::Refused(_)))
            && since.is_none_or(|since| entry.at >= since)
    };
    let (mut plans, mut is_empty) = (Plans { journal, known: HashMap::new() }, true);
    for run in &runs {
        let (plan, mut entries) = (plans.of(run)?, Vec::new());
        of_run(journal, run, &plan, |entry| entries.extend(fits(&entry).then_some(entry)))?;
        if !entries.is_empty() {
            is_empty = false;
            each(run, entries)?;
        }
    }
    if is_empty {
        let runs =
            if filter.run.is_some() { runs } else { journal.runs(&RunFilter::default()).map_err(Fault::engine)? };
        possible(filter, &runs, &mut plans)?;
        talk::say(format_args!("no records {}", told(filter)));
    }
    Ok(())
}

/// Whether a step, or what is within it, is called so. Each place among items and rounds may be given or left out.
fn is_within(mut path: &str, mut step: &str) -> bool {
    loop {
        match (path.chars().next(), step.chars().next()) {
            (None | Some('[' | '/' | '.'), None) => return true,
            (Some('['), Some(other)) if other != '[' => path = path.split_once(']').map_or("", |(_, rest)| rest),
            (Some('['), Some(_)) => {
                let (Some((place, rest)), Some((wanted, more))) = (path.split_once(']'), step.split_once(']')) else {
                    return false;
                };
                if place != wanted {
                    return false;
                }
                (path, step) = (rest, more);
            }
            (Some(one), Some(other)) if one == other => {
                (path, step) = (&path[one.len_utf8()..], &step[other.len_utf8()..]);
            }
            _ => return false,
        }
    }
}

/// `suites[3]/run` as `suites/run`.
fn without_places(path: &str) -> String {
    path.split('[')
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) })
        .collect()
}

/// A fault if a condition names what is in none of these runs, so that nothing could ever fit.
fn possible(filter: &AuditFilter, runs: &[RunSummary], plans: &mut Plans<'_>) -> Result<(), Fault> {
    let (mut steps, mut plugins) = (BTreeSet::new(), BTreeSet::new());
    let mut is_digest_known = false;
    for run in runs {
        let plan = plans.of(run)?;
        steps.extend(step_names(&plan));
        for plugin in &plan.plugins {
            let is_it = |digest: &String| is_digest(&plugin.component.digest, digest);
            is_digest_known |= filter.plugin.as_ref().is_some_and(is_it);
            plugins.insert(plugin.name.clone());
        }
    }
    if let Some(step) = filter.step.as_ref().filter(|step| !steps.contains(&without_places(step))) {
        return Err(names::unknown("step", step, steps.iter().map(String::as_str)));
    }
    if let Some(plugin) = filter.plugin.as_ref().filter(|plugin| !plugins.contains(*plugin) && !is_digest_known) {
        return Err(names::unknown("plugin", plugin, plugins.iter().map(String::as_str)));
    }
    Ok(())
}

/// How the steps of a plan are called, whatever their items and rounds.
fn step_names(plan: &Plan) -> Vec<String> {
    let mut names = policy::names(plan);
    for (at, step) in plan.steps.iter().enumerate() {
        if let Some(undone) = step.undoes {
            names[at] = format!("{}.undo", names[undone.index()]);
        }
    }
    // An item that is no block is called as the step that has it.
    for body in (1..=plan.bodies.len() as u32).map(BodyId) {
        if plan.body(body).is_some_and(|body| body.answer.is_step()) {
            plan.steps_of(body).for_each(|at| names[at as usize].clear());
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What is asked for, in words that follow `no records`.
fn told(filter: &AuditFilter) -> String {
    let kind = if filter.refused { "of refusals" } else { "of uses or refusals" };
    let mut told = match &filter.capability {
        Some(capability) if filter.refused => format!("{kind} of `{capability}`"),
        Some(capability) => format!("of `{capability}`"),
        None => kind.to_owned(),
    };
    for (word, name) in [("by the step", &filter.step), ("by the plugin", &filter.plugin), ("in the run", &filter.run)]
    {
        told.extend(name.iter().map(|name| format!(" {word} `{name}`")));
    }
    told.extend(filter.since.map(|ms| format!(" within the last {}", units::duration(ms))));
    told
}

/// A component by the beginning of its digest.
fn is_digest(component: &Digest, text: &str) -> bool {
    !text.is_empty() && (component.hex().starts_with(text) || component.as_str() == text)
}

/// Plans by digest: many runs keep the same one.
pub(super) struct Plans<'j> {
    pub(super) journal: &'j Journal,
    pub(super) known: HashMap<Digest, Arc<Plan>>,
}

impl Plans<'_> {
    pub(super) fn of(&mut self, run: &RunSummary) -> Result<Arc<Plan>, Fault> {
        if let Some(plan) = self.known.get(&run.plan) {
            return Ok(plan.clone());
        }
        let text = self.journal.plan(&run.plan).map_err(Fault::engine)?;
        let unreadable = |error| Fault::engine(format!("the plan of run {} can't be read: {error}", run.id));
        let plan = Arc::new(Plan::from_json(&text).map_err(unreadable)?);
        self.known.insert(run.plan.clone(), plan.clone());
        Ok(plan)
    }
}

/// Gives `each` what a run's attempts used and were refused, in the order of its records.
pub(super) fn of_run(
    journal: &Journal,
    run: &RunSummary,
    plan: &Plan,
    mut each: impl FnMut(Entry),
) -> Result<(), Fault> {
    let mut scopes = Scopes::new(plan);
    journal
        .replay(&run.id, 0, |record| {
            scopes.take_in(plan, &record.event);
            let (step, attempt, whats) = match record.event {
                Event::CapabilityUsed { step, attempt, used } => (step, attempt, vec![What::Used(*used)]),
                Event::AttemptSucceeded { step, attempt, usage, .. }
                | Event::AttemptFailed { step, attempt, usage, .. }
                | Event::AttemptCancelled { step, attempt, usage } => (step, attempt, of_usage(usage)),
                _ => return,
            };
            let Some((no, uses, plugin)) = plugin_of(plan, &scopes, step) else { return };
            for what in whats {
                each(Entry {
                    at: record.at,
                    run: run.id.clone(),
                    workflow: run.workflow.clone(),
                    step: scopes.path(plan, step),
                    no,
                    table: plan.step(no).table(),
                    attempt,
                    plugin: plugin.name.clone(),
                    component: plugin.component.digest.clone(),
                    signers: plugin.signers.clone(),
                    rules: uses.grants.allowed_by.clone(),
                    what,
                });
            }
        })
        .map_err(Fault::engine)?;
    Ok(())
}

fn of_usage(usage: Usage) -> Vec<What> {
    let used = usage.used.into_iter().map(What::Used);
    used.chain(usage.refusals.into_iter().map(What::Refused)).collect()
}

/// The plugin that a step runs, and how. A journal that was changed from outside may speak of any step.
fn plugin_of<'p>(plan: &'p Plan, scopes: &Scopes, step: StepId) -> Option<(StepNo, &'p Use, &'p Plugin)> {
    let (_, no) = scopes.find(step)?;
    let uses = plan.step(no).uses()?;
    Some((no, uses, &plan.plugins[uses.plugin.index()]))
}

/// Adds a line to a page. It is one, whatever is in it: names, and what was done, are from records that may come from elsewhere.
pub(super) fn add_line(page: &mut String, line: fmt::Arguments<'_>) {
    page.push_str(&visible(&line.to_string(), false));
    page.push('\n');
}

/// Signers in a line, for people: those that a policy names, and of other keys the beginning.
pub(super) fn in_a_line(signers: &[Signer]) -> String {
    signers.iter().map(Signer::short).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_meant_with_all_that_is_within_it_and_its_places_may_be_left_out() {
        let check = |path: &str, means: &[&str], others: &[&str]| {
            means.iter().for_each(|step| assert!(is_within(path, step), "{path}: {step}"));
            others.iter().for_each(|step| assert!(!is_within(path, step), "{path}: {step}"));
        };
        check("build", &["build"], &["buil", "build[0]", "uild"]);
        check(
            "suites[3]/run",
            &["suites", "suites[3]", "suites/run", "suites[3]/run"],
            &["suites[2]", "run", "suites/r", "suites[", "suites[3", "suites]"],
        );
        check(
            "a[1]/b[2]",
            &["a/b", "a[1]/b", "a/b[2]", "a[1]/b[2]", "a[1]"],
            &["a[2]/b", "a/b[1]", "a[1]/b[1]", "a[2]/b[2]", "b[2]"],
        );
        check("a[1][2]/b", &["a", "a[1]", "a[1][2]", "a[1]/b", "a/b"], &["a[2]", "a[1][1]"]);
        check("trial/stage.undo", &["trial", "trial/stage", "trial/stage.undo"], &["trial/stag", "stage"]);
    }
}
