//! What attempts did with what they were granted, and what they were refused: a fold over the records of runs.

use std::collections::HashMap;
use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_journal::{Journal, RunFilter, RunSummary, StateFilter};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Refusal, RunId, Timestamp, Usage, Used};
use downbeat_workflow::plan::{Plan, Plugin, Signer, StepId, StepNo, Use};
use downbeat_workflow::scope::Scopes;
use serde_json::{Value, json};

use crate::arguments::AuditFilter;
use crate::exit::Fault;
use crate::place::find_run;
use crate::units;

/// Characters of a key that are shown: what says that it is one, and twelve of its own.
const KEY_SHOWN: usize = 20;

/// A use, or a refusal.
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) run: RunId,
    pub(super) workflow: String,
    /// How people call the step.
    pub(super) step: String,
    pub(super) no: StepNo,
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

    /// What was done, or asked for.
    pub(super) fn told(&self) -> String {
        match &self.what {
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
            What::Used(Used { what, grant, count, .. }) => {
                object["refused"] = false.into();
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

/// Gives `each` what fits, run by run, the earliest first.
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
        filter.step.as_ref().is_none_or(|step| entry.step == *step || entry.step.starts_with(&format!("{step}[")))
            && filter.capability.as_ref().is_none_or(|capability| entry.capability() == capability)
            && filter
                .plugin
                .as_ref()
                .is_none_or(|plugin| entry.plugin == *plugin || is_digest(&entry.component, plugin))
            && (!filter.refused || matches!(entry.what, What::Refused(_)))
            && since.is_none_or(|since| entry.at >= since)
    };
    let mut plans = Plans { journal, known: HashMap::new() };
    for run in runs {
        let (plan, mut entries) = (plans.of(&run)?, Vec::new());
        of_run(journal, &run, &plan, |entry| entries.extend(fits(&entry).then_some(entry)))?;
        if !entries.is_empty() {
            each(&run, entries)?;
        }
    }
    Ok(())
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

/// Signers in a line, for people: those that a policy names, and of other keys the beginning.
pub(super) fn in_a_line(signers: &[Signer]) -> String {
    let shown = |signer: &Signer| match &signer.name {
        Some(name) => name.clone(),
        None => format!("{}…", signer.key.chars().take(KEY_SHOWN).collect::<String>()),
    };
    signers.iter().map(shown).collect::<Vec<_>>().join(", ")
}
