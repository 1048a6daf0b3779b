//! For whom a run waits that is in line for its group. No record of its own says that: it is another run that has the group.

use std::sync::Arc;

use downbeat_journal::{Journal, RunFilter, RunSummary, StateFilter};
use downbeat_workflow::event::RunId;
use downbeat_workflow::run::Run;

use crate::exit::Fault;
use crate::resume::load_plan;

/// The run that has a group.
pub(crate) fn holder(journal: &Journal, group: &str, but: &RunId) -> Result<Option<RunId>, Fault> {
    let open = RunFilter { state: StateFilter::Open, ..RunFilter::default() };
    for found in journal.runs(&open).map_err(Fault::engine)?.iter().filter(|found| found.id != *but) {
        if let Some(run) = in_a_group(journal, found)?.filter(|run| run.group() == Some(group) && !run.is_in_line()) {
            return Ok(Some(run.id().clone()));
        }
    }
    Ok(None)
}

/// In words, what a run waits for that waits for its group.
pub(crate) fn waits_for(journal: &Journal, run: &Run) -> Result<Option<String>, Fault> {
    let Some(group) = run.group().filter(|_| run.is_in_line()) else { return Ok(None) };
    Ok(Some(match holder(journal, group, run.id())? {
        Some(holder) => format!("waits for run {holder}, which has the group `{group}` and is not over"),
        None => format!("is next in the group `{group}`"),
    }))
}

fn in_a_group(journal: &Journal, found: &RunSummary) -> Result<Option<Run>, Fault> {
    let plan = Arc::new(load_plan(journal, &found.id)?);
    if plan.concurrency.is_none() {
        return Ok(None);
    }
    let records = journal.load(&found.id).map_err(Fault::engine)?.records;
    Ok(Some(Run::replay(plan, found.id.clone(), &records).map_err(Fault::engine)?))
}
