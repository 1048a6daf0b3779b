//! `downbeat explain`: why a run or one of its steps went as it did, from its records alone. What is told is found out in
//! the pure core; this file only finds the run.

use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_journal::StateFilter;
use downbeat_workflow::event::Timestamp;
use downbeat_workflow::explain::Account;
use downbeat_workflow::run::Run;

use crate::arguments::Explain;
use crate::ask::no_such_step;
use crate::exit::{Exit, Fault};
use crate::group;
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::state;
use crate::talk;

pub(crate) fn explain(place: &Place, arguments: &Explain) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let plan = Arc::new(load_plan(&journal, &found.id)?);
    // Time passes only for a run that somebody drives.
    let driver = place.driver()?;
    let state = state::word(found.outcome, &found.id, driver.as_ref());
    let now = match state {
        "running" => Clock::system().now(),
        _ => Timestamp(0),
    };
    let records = journal.load(&found.id).map_err(Fault::engine)?.records;
    let step = match &arguments.step {
        Some(name) => {
            let run = Run::replay(plan.clone(), found.id.clone(), &records).map_err(Fault::engine)?;
            Some(run.step_at(name).ok_or_else(|| no_such_step(&run, name))?)
        }
        None => None,
    };
    let mut account = Account::of(&plan, &found.id, &records, now, step).map_err(Fault::engine)?;
    if state == "stopped" {
        account.stop();
    }
    if arguments.json {
        let json = match step {
            Some(step) => serde_json::to_string(&account.steps[step.index()]),
            None => serde_json::to_string(&account),
        };
        talk::put_json(&json.expect("an account holds nothing that JSON can't"))?;
        return Ok(Exit::Success);
    }
    let page = match step {
        Some(step) => account.step_page(step.index()),
        None => account.page(),
    };
    let run = Run::replay(plan.clone(), found.id.clone(), &records).map_err(Fault::engine)?;
    let waits_for = group::waits_for(&journal, &run)?;
    let waits_for = waits_for.map_or_else(String::new, |waits_for| format!("\nrun {} {waits_for}\n", found.id));
    talk::put(&(page + &waits_for))?;
    Ok(Exit::Success)
}
