//! `downbeat audit report`: of each step what its component wants, what it is granted, what of that its attempts used and
//! what they were refused in the latest runs; and so which grants can be taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use downbeat_journal::{Journal, RunFilter, RunSummary, StateFilter};
use downbeat_workflow::capability::Grant;
use downbeat_workflow::event::{Event, Refusal};
use downbeat_workflow::plan::{Plan, Signer, StepNo};
use downbeat_workflow::resolve::beside;
use downbeat_workflow::scope::Scopes;
use serde_json::{Value, json};

use super::uses::{self, Plans, What, add_line};
use crate::arguments::AuditReport;
use crate::exit::{Exit, Fault};
use crate::names;
use crate::place::Place;
use crate::talk;
use crate::units::counted;

/// A step of the plan, and what became of its grants.
#[derive(Default)]
struct Step {
    name: String,
    /// Its table in the workflow.
    table: String,
    plugin: String,
    /// The component's digest, and who had signed it when the latest run began.
    component: String,
    signers: Vec<Signer>,
    /// The policies' rules that allow its grants.
    rules: Vec<String>,
    /// Capabilities, each with the component's reason.
    wants: Vec<(String, String)>,
    grants: Vec<Granted>,
    /// What was refused, and how often.
    refused: BTreeMap<Refusal, u64>,
    /// In how many runs it was executed.
    runs: usize,
}

/// Something that a step is granted.
struct Granted {
    /// As it is written.
    grant: String,
    /// The file and the line that it is written in, if the run's plan knows.
    place: Option<(PathBuf, usize)>,
    /// How often it was used.
    used: u64,
    /// How often it was looked for, as a variable that is not set.
    unset: u64,
}

impl Granted {
    /// Where it is written, as somebody here would name the file.
    fn shown(&self) -> Option<String> {
        let (file, line) = self.place.as_ref()?;
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        let file = here.ok().and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file.as_path());
        Some(format!("{}:{line}", file.display()))
    }
}

impl Step {
    /// Grants that nothing used, in runs that executed the step. What a program does with directories is not seen, nor what
    /// anybody does with a secret that is shown to them.
    fn unused(&self) -> impl Iterator<Item = &Granted> {
        let is_known = self.runs > 0;
        let starts_programs =
            self.grants.iter().any(|granted| granted.grant.starts_with("process") && granted.used > 0);
        let seen = move |grant: &str| match grant.split_once(" = ") {
            Some(("files" | "workspace", _)) => !starts_programs,
            Some(("secrets", secret)) => !secret.contains("reveal = ") && !secret.contains("env = "),
            _ => true,
        };
        let is_unused = move |granted: &&Granted| granted.used == 0 && granted.unset == 0 && seen(&granted.grant);
        self.grants.iter().filter(move |granted| is_known && is_unused(granted))
    }

    /// Variables that the step looked for, and that were set in none of these runs: on another machine they may be.
    fn unset(&self) -> impl Iterator<Item = &Granted> {
        self.grants.iter().filter(|granted| granted.used == 0 && granted.unset > 0)
    }
}

pub(crate) fn report(place: &Place, arguments: &AuditReport) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let filter = RunFilter { state: StateFilter::Any, workflow: arguments.workflow.clone(), limit: None };
    let all = journal.runs(&filter).map_err(Fault::engine)?;
    let workflows: BTreeSet<String> = all.iter().map(|run| run.workflow.clone()).collect();
    if let (Some(name), true) = (&arguments.workflow, workflows.is_empty()) {
        let all = journal.runs(&RunFilter::default()).map_err(Fault::engine)?;
        return Err(names::unknown("run of a workflow", name, all.iter().map(|run| run.workflow.as_str())));
    }
    let mut plans = Plans { journal: &journal, known: Default::default() };
    for workflow in workflows {
        let runs: Vec<&RunSummary> =
            all.iter().filter(|run| run.workflow == workflow).take(arguments.runs.max(1)).collect();
        let steps = steps(&journal, &mut plans, &runs)?;
        match arguments.json {
            true => talk::put_json(&json(&workflow, runs.len(), &steps).to_string())?,
            false => talk::put(&text(&workflow, runs.len(), &steps))?,
        }
    }
    Ok(Exit::Success)
}

/// The steps of the latest run's plan that run a component, with what became of their grants in all of these runs. A step of an
/// earlier plan is the same one if it has the same name and plugin.
fn steps(journal: &Journal, plans: &mut Plans<'_>, runs: &[&RunSummary]) -> Result<Vec<Step>, Fault> {
    let Some(latest) = runs.first() else { return Ok(Vec::new()) };
    let plan = plans.of(latest)?;
    let mut folders = vec![""; plan.steps.len()];
    for (_, directory, steps) in plan.workflows() {
        folders[steps].fill(directory);
    }
    let mut steps: Vec<Step> = plan
        .steps
        .iter()
        .zip(folders)
        .filter_map(|(step, folder)| {
            let uses = step.uses()?;
            let granted = |grant: Grant| {
                let place = uses.place_of(&grant);
                let place = place.map(|written| (PathBuf::from(beside(folder, &written.file)), written.line));
                Granted { grant: grant.to_string(), place, used: 0, unset: 0 }
            };
            let plugin = &plan.plugins[uses.plugin.index()];
            let wants = plugin.component.description.wants.iter();
            Some(Step {
                name: step.name.clone(),
                table: step.table(),
                plugin: plugin.name.clone(),
                component: plugin.component.digest.to_string(),
                signers: plugin.signers.clone(),
                rules: uses.grants.allowed_by.clone(),
                wants: wants.map(|want| (want.capability.clone(), want.reason.clone())).collect(),
                grants: uses.grants.items().map(granted).collect(),
                ..Step::default()
            })
        })
        .collect();
    for run in runs {
        let plan = plans.of(run)?;
        let find = |plan: &Plan, no: StepNo| {
            let (name, plugin) = (&plan.step(no).name, plan.step(no).uses()?.plugin);
            let plugin = &plan.plugins[plugin.index()].name;
            steps.iter().position(|step| step.name == *name && step.plugin == *plugin)
        };
        let mut found = Vec::new();
        uses::of_run(journal, run, &plan, |entry| found.extend(find(&plan, entry.no).map(|step| (step, entry.what))))?;
        let mut executed = BTreeSet::new();
        let mut scopes = Scopes::new(&plan);
        let counted = journal.replay(&run.id, 0, |record| {
            scopes.take_in(&plan, &record.event);
            if let Event::AttemptStarted { step, .. } = record.event
                && let Some((_, no)) = scopes.find(step)
            {
                executed.extend(find(&plan, no));
            }
        });
        counted.map_err(Fault::engine)?;
        for step in executed {
            steps[step].runs += 1;
        }
        for (step, what) in found {
            let step = &mut steps[step];
            match what {
                What::Used(used) => {
                    let known = step.grants.iter_mut().find(|known| known.grant == used.grant);
                    // One that is not granted any more is no news.
                    let count = known.map(|known| if used.unset { &mut known.unset } else { &mut known.used });
                    count.into_iter().for_each(|count| *count += used.count);
                }
                What::Refused(refusal) => {
                    *step.refused.entry(refusal).or_default() += 1;
                }
            }
        }
    }
    Ok(steps)
}

fn text(workflow: &str, runs: usize, steps: &[Step]) -> String {
    let times = |number: u64| counted(number, "time");
    let mut page = String::new();
    let mut say = |line: fmt::Arguments<'_>| add_line(&mut page, line);
    say(format_args!("{workflow}: the latest {}", counted(runs as u64, "run")));
    for step in steps {
        let executed = counted(step.runs as u64, "run");
        say(format_args!(""));
        say(format_args!("  {} (plugin {}, executed in {executed})", step.name, step.plugin));
        if !step.signers.is_empty() {
            say(format_args!("    signed   by {}", uses::in_a_line(&step.signers)));
        }
        for (capability, reason) in &step.wants {
            say(format_args!("    wants    {capability}: {reason}"));
        }
        for Granted { grant, used, unset, .. } in &step.grants {
            let used = match (*used, *unset) {
                (0, 0) => "never used".to_owned(),
                (0, unset) => format!("looked for {}, not set", times(unset)),
                (used, 0) => format!("used {}", times(used)),
                (used, unset) => format!("used {}, looked for {} where it was not set", times(used), times(unset)),
            };
            say(format_args!("    granted  {grant}: {used}"));
        }
        for rule in &step.rules {
            say(format_args!("    allowed  by {rule}"));
        }
        for (refusal, number) in &step.refused {
            let (Refusal { capability, wanted, .. }, advice) = (refusal, refusal.advice(&step.table));
            say(format_args!("    refused  {capability}: {wanted}, {}; {advice}", times(*number)));
        }
        for Granted { grant, .. } in step.unset() {
            say(format_args!("    `{grant}`: the variable was not set in any of these runs"));
        }
        if step.unused().next().is_some() {
            say(format_args!("    you can take away from step `{}`:", step.name));
        }
        for granted in step.unused() {
            let place = granted.shown().map_or_else(String::new, |place| format!("{place}  "));
            say(format_args!("      {place}{}", granted.grant));
        }
    }
    say(format_args!(""));
    page
}

fn json(workflow: &str, runs: usize, steps: &[Step]) -> Value {
    let granted = |granted: &Granted| {
        let mut object = json!({ "grant": granted.grant, "used": granted.used, "unset": granted.unset });
        if let Some((file, line)) = &granted.place {
            object["file"] = file.display().to_string().into();
            object["line"] = (*line).into();
        }
        object
    };
    let step = |step: &Step| {
        let refused = step.refused.iter().map(|(Refusal { capability, wanted, hint }, count)| {
            json!({ "capability": capability, "wanted": wanted, "hint": hint, "count": count })
        });
        json!({
            "step": step.name,
            "plugin": step.plugin,
            "component": step.component,
            "signers": step.signers,
            "rules": step.rules,
            "runs": step.runs,
            "wants": step.wants.iter().map(|(capability, reason)| json!({ "capability": capability, "reason": reason })).collect::<Vec<_>>(),
            "grants": step.grants.iter().map(granted).collect::<Vec<_>>(),
            "refused": refused.collect::<Vec<_>>(),
            "unused": step.unused().map(|granted| &*granted.grant).collect::<Vec<_>>(),
            "unset": step.unset().map(|granted| &*granted.grant).collect::<Vec<_>>(),
        })
    };
    json!({ "workflow": workflow, "runs": runs, "steps": steps.iter().map(step).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_adds_no_line_to_a_report_and_a_variable_that_was_not_set_is_looked_for() {
        let forged = "x\n    you can take away from step `x`:".to_owned();
        let granted = |used, unset| Granted { grant: forged.clone(), place: None, used, unset };
        let refusal = Refusal { capability: forged.clone(), wanted: forged.clone(), hint: forged.clone() };
        let step = Step {
            name: forged.clone(),
            plugin: forged.clone(),
            rules: vec![forged.clone()],
            wants: vec![(forged.clone(), forged.clone())],
            grants: vec![granted(1, 0), granted(0, 3), granted(2, 1)],
            refused: BTreeMap::from([(refusal, 2)]),
            runs: 1,
            ..Step::default()
        };
        let page = text(&forged, 1, &[step]);
        assert!(!page.contains("\n    you can take away"), "{page}");
        assert_eq!(page.lines().count(), 11, "{page}");
        for used in
            [": used 1 time\n", ": looked for 3 times, not set\n", "2 times, looked for 1 time where it was not"]
        {
            assert!(page.contains(used), "{page}");
        }
    }
}
