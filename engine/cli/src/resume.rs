//! `downbeat resume`: takes up a run where its records end.

use std::sync::Arc;

use downbeat_journal::{Journal, StateFilter};
use downbeat_workflow::event::RunId;
use downbeat_workflow::history::is_paused;
use downbeat_workflow::plan::Plan;

use crate::arguments::Resume;
use crate::drive::{self, Driven};
use crate::elsewhere;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::screen::Style;
use crate::talk;
use crate::workflow_file;

pub(crate) fn resume(place: &Place, arguments: &Resume) -> Result<Exit, Fault> {
    // Only looking does not make a state folder where there is none.
    drop(place.observe()?);
    let journal = place.drive()?;
    let run = find_run(&journal, arguments.run.as_deref(), StateFilter::Open)?.id;
    let plan = Arc::new(load_plan(&journal, &run)?);
    let guard = Guard::of(place)?;
    if elsewhere::is_unjudged(place, &guard, &run) {
        return Err(elsewhere::unjudged(&run, "begin it anew: `downbeat run FILE`".to_owned()));
    }
    guard.hold_kept(&plan)?;
    if let Some(file) = workflow_file::changed_since(&plan) {
        talk::say(format_args!(
            "{} says something else than this run began with; the run keeps its plan",
            file.display()
        ));
    }
    let before = journal.load(&run).map_err(Fault::engine)?.records;
    if is_paused(&before) {
        talk::say(format_args!("run {run} is paused: nothing new is started until `downbeat unpause {run}`"));
    }
    let (sandbox, style) = (place.sandbox()?, Style::fitting(arguments.json));
    let driven = Driven { place, journal, sandbox, plan, style, before, cache: !arguments.no_cache };
    drive::drive(driven, async |conductor| conductor.resume(&run).await)
}

/// The plan that a run keeps.
pub(crate) fn load_plan(journal: &Journal, run: &RunId) -> Result<Plan, Fault> {
    let digest = journal.summary(run).map_err(Fault::engine)?.plan;
    let text = journal.plan(&digest).map_err(Fault::engine)?;
    Plan::from_json(&text).map_err(|error| Fault::engine(format!("the plan of run {run} can't be read: {error}")))
}
