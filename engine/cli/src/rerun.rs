//! `downbeat rerun`: a new run that does a part of an old one again, and takes over the rest. Which part is decided in the pure
//! core; here the old run is read, told, and driven anew, with a copy of its workspace where that is needed.

use std::collections::HashSet;
use std::sync::Arc;

use downbeat_journal::{Journal, StateFilter};
use downbeat_workflow::event::{Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::rerun::Again;
use downbeat_workflow::run::{Run, StepStatus};
use downbeat_workflow::scope::ScopeId;
use serde_json::{Map, Value};

use crate::arguments::Rerun;
use crate::ask::{hint_at_steps, listed, similar_step};
use crate::drive::{self, Driven};
use crate::elsewhere;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::resume::load_plan;
use crate::run::gather_inputs_over;
use crate::screen::Style;
use crate::table::table;
use crate::talk;
use crate::workflow_file;
use crate::workspace;

/// How many names are told in a line, which is then read at a glance; `--dry-run` tells them all.
const NAMES_SHOWN: usize = 8;

pub(crate) fn rerun(place: &Place, arguments: &Rerun) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let (old, records) = load(&journal, arguments)?;
    let (guard, sandbox) = (Guard::of(place)?, place.sandbox()?);
    let is_unjudged = elsewhere::is_unjudged(place, &guard, old.id());
    // Judged as a new run, it takes nothing over.
    let is_from_elsewhere = elsewhere::is_noted(place, old.id()) && !is_unjudged;
    let plan = match &arguments.file {
        Some(file) => Arc::new(workflow_file::load(file, &arguments.with, &sandbox, &guard)?),
        None if is_unjudged => {
            let hint = "`--file FILE` does it again by a workflow of this machine, judged as for a new run, and takes nothing over";
            return Err(elsewhere::unjudged(old.id(), hint.to_owned()));
        }
        None => {
            guard.hold_kept(old.plan())?;
            old.plan().clone()
        }
    };
    if plan.concurrency.is_some() {
        let fault = Fault::refused(
            "a workflow with `[concurrency]` can't be rerun yet: its runs begin once their group is free",
        );
        return Err(fault.hint("`downbeat run` begins it as a whole"));
    }
    let inputs = inputs(&old, &plan, arguments)?;
    let from = steps(&old, &arguments.from)?;
    let again =
        Again { old: &old, records: &records, plan: &plan, inputs: &inputs, from: &from, is_hearsay: is_unjudged };
    let decided = again.decide();
    let named = |step: &StepId| old.path(*step);
    if decided.again.is_empty() && plan.does_the_same(old.plan()) {
        let fault = Fault::new(
            Exit::Usage,
            format!("nothing of run {} is to be done again: no step of it failed or was left undone", old.id()),
        );
        return Err(
            fault.hint("`--from STEP` names a step that is done again all the same, `--input` changes what steps see")
        );
    }
    let id = old.id().clone();
    if arguments.dry_run {
        let beginning = again.begin(&decided, RunId("new".into()), 0, Timestamp(0)).map_err(Fault::engine)?;
        talk::put(&table(&["STEP", "WHAT", "WHY"], &rows(&old, &decided, &beginning.reused)))?;
        return Ok(Exit::Success);
    }
    let (from_workspace, workspaces) = (place.workspaces().join(&*id.0), place.workspaces());
    let foreseen = again.begin(&decided, RunId("new".into()), 0, Timestamp(0)).map_err(Fault::engine)?;
    let users = again.workspace_users(&foreseen.reused);
    if !users.is_empty() && foreseen.uses_workspace() && !from_workspace.is_dir() {
        let users: Vec<String> = users.iter().map(named).collect();
        return Err(begin_fault(&no_workspace(&id, &users, "it is not there any more")));
    }
    tell(&old, &decided);
    let begin = |run: &RunId, seed: u64, at: Timestamp| -> Result<Vec<Record>, String> {
        let beginning = again.begin(&decided, run.clone(), seed, at).map_err(|error| error.to_string())?;
        let users = again.workspace_users(&beginning.reused);
        if !users.is_empty() && beginning.uses_workspace() {
            let users: Vec<String> = users.iter().map(named).collect();
            workspace::copy(&from_workspace, &workspaces.join(&*run.0))
                .map_err(|error| no_workspace(&id, &users, &error))?;
        }
        if is_from_elsewhere {
            elsewhere::note(place, run).map_err(|fault| fault.message)?;
        }
        Ok(beginning.records)
    };
    let (style, driving) = (Style::fitting(arguments.json), place.drive()?);
    let (before, cache) = (Vec::new(), !arguments.no_cache);
    let driven = Driven { place, journal: driving, sandbox, plan: plan.clone(), style, before, cache };
    drive::drive(driven, async |conductor| conductor.start_with(plan.clone(), begin).await)
}

/// What becomes of each step of the old run, in the order in which `show` tells them; of what is within one that is done again or
/// reused as a whole, nothing is told.
fn rows(old: &Run, decided: &downbeat_workflow::rerun::Rerun, reused: &[StepId]) -> Vec<Vec<String>> {
    let scopes = old.scopes();
    let reused: HashSet<StepId> = reused.iter().copied().collect();
    let is_whole = |step: &StepId| reused.contains(step) || decided.again.contains_key(step);
    let tries = scopes.tries();
    let mut hidden: HashSet<ScopeId> = HashSet::new();
    // A scope is behind the one that it is within.
    for scope in (1..scopes.count() as u32).map(ScopeId) {
        let opener = scopes.place(scope).opener.expect("it is not the first");
        let is_earlier = tries.get(&scope).is_some_and(|(time, of)| time < of);
        if is_earlier || is_whole(&opener) || hidden.contains(&scopes.scope(opener)) {
            hidden.insert(scope);
        }
    }
    let row = |step: StepId| {
        let (what, why) = match (decided.again.get(&step), old.status(step).0) {
            (Some(why), _) => ("again", why.in_words(old)),
            _ if reused.contains(&step) => ("reused", String::new()),
            // It is decided anew, and comes to the same.
            (None, StepStatus::Skipped(reason)) => ("skipped", reason.explain(old.plan(), scopes)),
            (None, StepStatus::Cancelled) => {
                ("cancelled", old.ended_for(step).and_then(|ended| ended.in_words(old, step)).unwrap_or_default())
            }
            (None, StepStatus::Failed(failure)) => {
                ("failed", failure.message.lines().next().unwrap_or_default().to_owned())
            }
            (None, _) if old.step(step).opens().is_some() => ("in part", String::new()),
            // Nothing is lost with it: an end, or what could not be taken over.
            (None, _) => ("again", String::new()),
        };
        vec![old.path(step), what.to_owned(), why]
    };
    let order = scopes.in_reading_order(old.plan()).into_iter();
    order.filter(|step| old.step(*step).undoes.is_none() && !hidden.contains(&scopes.scope(*step))).map(row).collect()
}

/// The run that is meant, which is over, and its records.
fn load(journal: &Journal, arguments: &Rerun) -> Result<(Run, Vec<Record>), Fault> {
    let found = find_run(journal, arguments.run.as_deref(), StateFilter::Any)?;
    if found.outcome.is_none() {
        let fault = Fault::new(Exit::Usage, format!("run {} is not over", found.id));
        return Err(fault
            .hint(format!("`downbeat resume {id}` goes on with it, `downbeat cancel {id}` ends it", id = found.id)));
    }
    let plan = Arc::new(load_plan(journal, &found.id)?);
    let records = journal.load(&found.id).map_err(Fault::engine)?.records;
    let run = Run::replay(plan, found.id, &records).map_err(Fault::engine)?;
    Ok((run, records))
}

/// The old run's inputs, those that were given now in their place.
fn inputs(old: &Run, plan: &Plan, arguments: &Rerun) -> Result<Json, Fault> {
    let mut given = match old.inputs().value() {
        Value::Object(given) => given,
        _ => Map::new(),
    };
    // One that has no value is as good as not given.
    given.retain(|_, value| !value.is_null());
    let gone: Vec<String> = given.keys().filter(|name| !plan.inputs.contains_key(*name)).cloned().collect();
    if !gone.is_empty() {
        talk::say(format_args!("today's file has no input {}: left out", listed(&gone)));
        given.retain(|name, _| plan.inputs.contains_key(name));
    }
    gather_inputs_over(given, plan, &arguments.input, arguments.inputs.as_deref())
}

fn steps(old: &Run, paths: &[String]) -> Result<Vec<StepId>, Fault> {
    let unknown: Vec<String> = paths.iter().filter(|path| old.step_at(path).is_none()).cloned().collect();
    match unknown.is_empty() {
        true => Ok(paths.iter().filter_map(|path| old.step_at(path)).collect()),
        false => {
            let similar: Vec<String> = unknown.iter().filter_map(|path| similar_step(old, path)).collect();
            let fault = Fault::new(Exit::Usage, format!("run {} has no step {}", old.id(), listed(&unknown)));
            Err(fault.hint(hint_at_steps(old, &similar)))
        }
    }
}

/// Says at which steps it begins, and why.
fn tell(old: &Run, decided: &downbeat_workflow::rerun::Rerun) {
    let mut roots: Vec<String> =
        decided.roots().map(|(step, why)| format!("{} ({})", old.path(step), why.in_words(old))).collect();
    let count = roots.len();
    roots.truncate(NAMES_SHOWN);
    if count > NAMES_SHOWN {
        roots.push(format!("{} more", count - NAMES_SHOWN));
    }
    match roots.is_empty() {
        true => talk::say(format_args!("all of run {} is reused", old.id())),
        false => talk::say(format_args!("again of run {}, with what is behind: {}", old.id(), roots.join(", "))),
    }
}

/// A fault that has its hint in its text, as what begins a run can't tell it otherwise.
pub(crate) fn begin_fault(text: &str) -> Fault {
    match text.split_once(HINT) {
        Some((message, hint)) => Fault::refused(message).hint(hint),
        None => Fault::refused(text),
    }
}

/// What stands between such a text and its hint.
const HINT: &str = "\n  hint: ";

fn no_workspace(run: &RunId, users: &[String], error: &str) -> String {
    let (shown, more) = (&users[..users.len().min(NAMES_SHOWN)], users.len().saturating_sub(NAMES_SHOWN));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let from: Vec<String> = shown.iter().take(1).map(|step| format!("`--from {step}`")).collect();
    format!(
        "{} worked in the workspace of run {run}, which can't be copied: {error}{HINT}{} does it again",
        listed(shown) + &more,
        from.concat()
    )
}
