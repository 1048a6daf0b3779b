//! `downbeat list`: the runs, latest first.

use std::collections::HashSet;

use downbeat_journal::{Deleted, Journal, RunFilter, RunSummary};
use downbeat_workflow::history::{is_in_line, is_paused};

use crate::arguments::List;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::state;
use crate::table::table_with;
use crate::talk;
use crate::units;

pub(crate) fn list(place: &Place, arguments: &List) -> Result<Exit, Fault> {
    let newest = RunFilter { limit: Some(arguments.limit.saturating_add(1)), ..RunFilter::default() };
    let nothing = || talk::say(format_args!("no runs in {}", place.state.display()));
    let Some(journal) = place.observe_if_any()? else {
        nothing();
        return Ok(Exit::Success);
    };
    if arguments.deleted {
        return deleted(&journal, arguments);
    }
    // Before the runs are read: one that ends in between has ended, and one that nobody drives any more is not there yet.
    let driver = place.driver()?;
    let runs = journal.runs(&newest).map_err(Fault::engine)?;
    // Only runs that are not over are read, each once: how far they are is a fold over their records.
    let shown = &runs[..runs.len().min(arguments.limit)];
    let (mut paused, mut in_line) = (HashSet::new(), HashSet::new());
    for run in shown.iter().filter(|run| run.outcome.is_none()) {
        let records = journal.load(&run.id).map_err(Fault::engine)?.records;
        paused.extend(is_paused(&records).then(|| run.id.clone()));
        in_line.extend(is_in_line(&records).then(|| run.id.clone()));
    }
    let state = |run: &RunSummary| match state::word(run.outcome, &run.id, driver.as_ref()) {
        "running" if in_line.contains(&run.id) => "waiting",
        word => word,
    };
    if arguments.json {
        for run in shown {
            let mut object = serde_json::json!({
                "run": run.id.to_string(),
                "workflow": run.workflow,
                "state": state(run),
                "created": units::time(run.created),
                "finished": run.finished.map(units::time),
                "records": run.version,
            });
            if paused.contains(&run.id) {
                object["paused"] = true.into();
            }
            talk::put_json(&object.to_string())?;
        }
        return Ok(Exit::Success);
    }
    if runs.is_empty() {
        nothing();
        return Ok(Exit::Success);
    }
    let row = |run: &RunSummary| {
        let took = run.finished.map_or_else(String::new, |at| units::duration(at.0.saturating_sub(run.created.0)));
        let paused = if paused.contains(&run.id) { " (paused)" } else { "" };
        let state = format!("{}{paused}", state(run));
        vec![run.id.to_string(), run.workflow.clone(), state, units::time(run.created), took]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    let headings = ["RUN", "WORKFLOW", "STATE", "CREATED", "TOOK"];
    talk::put_painted(&table_with(&headings, &rows, 2, state::painted))?;
    if shown.len() < runs.len() {
        talk::say(format_args!("… and earlier ones; --limit shows them"));
    }
    Ok(Exit::Success)
}

/// The runs that were deleted, the last of them first.
fn deleted(journal: &Journal, arguments: &List) -> Result<Exit, Fault> {
    let deleted = journal.deleted(arguments.limit.saturating_add(1)).map_err(Fault::engine)?;
    let shown = &deleted[..deleted.len().min(arguments.limit)];
    if arguments.json {
        for run in shown {
            let object = serde_json::json!({
                "run": run.run.to_string(),
                "workflow": run.workflow,
                "plan": run.plan.as_str(),
                "state": state::word(Some(run.outcome), &run.run, None),
                "created": units::time(run.created),
                "finished": units::time(run.finished),
                "records": run.records,
                "lines": run.lines,
                "deleted": units::time(run.at),
                "by": run.by,
            });
            talk::put_json(&object.to_string())?;
        }
        return Ok(Exit::Success);
    }
    if shown.is_empty() {
        talk::say("no run was deleted");
        return Ok(Exit::Success);
    }
    let row = |run: &Deleted| {
        let state = state::word(Some(run.outcome), &run.run, None).to_owned();
        let times = [units::time(run.finished), units::time(run.at)];
        [vec![run.run.to_string(), run.workflow.clone(), state], times.to_vec(), vec![run.by.clone()]].concat()
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    let headings = ["RUN", "WORKFLOW", "STATE", "FINISHED", "DELETED", "BY"];
    talk::put_painted(&table_with(&headings, &rows, 2, state::painted))?;
    if shown.len() < deleted.len() {
        talk::say("… and earlier ones; --limit shows them");
    }
    Ok(Exit::Success)
}
