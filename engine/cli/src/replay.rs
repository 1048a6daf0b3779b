//! `downbeat replay`: drives what a run recorded through today's plan, in the pure core, and tells where that parts from it.

use std::sync::Arc;

use downbeat_journal::StateFilter;
use downbeat_workflow::replay;

use crate::arguments::Replay;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::resume::load_plan;
use crate::talk;
use crate::workflow_file;

pub(crate) fn replay(place: &Place, arguments: &Replay) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let id = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?.id;
    let was = Arc::new(load_plan(&journal, &id)?);
    let file = arguments.file.clone().map_or_else(|| workflow_file::of_plan(&was), Ok)?;
    let guard = Guard::of_looking(place)?;
    let plan = Arc::new(workflow_file::load(&file, &arguments.with, &place.sandbox()?, &guard)?);
    let records = journal.load(&id).map_err(Fault::engine)?.records;
    let replayed = replay::replay(&was, &plan, &id, &records).map_err(Fault::engine)?;
    match arguments.json {
        true => talk::put_json(&serde_json::to_string(&replayed).expect("it holds nothing that JSON can't"))?,
        false => talk::put(&replayed.page())?,
    }
    Ok(if replayed.divergence.is_none() { Exit::Success } else { Exit::Changed })
}
