//! `downbeat explain`: why a run or one of its steps went as it did, from its records alone. What is told is found out in
//! the pure core; this file only finds the run.

use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_journal::StateFilter;
use downbeat_workflow::diagnostic::did_you_mean;
use downbeat_workflow::event::Timestamp;
use downbeat_workflow::explain::Account;
use downbeat_workflow::plan::Plan;

use crate::arguments::Explain;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::state;
use crate::talk;

pub(crate) fn explain(place: &Place, arguments: &Explain) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let plan = Arc::new(load_plan(&journal, &found.id)?);
    let step = match &arguments.step {
        Some(name) => Some(plan.step_named(name).ok_or_else(|| no_such_step(&plan, name))?),
        None => None,
    };
    // Time passes only for a run that somebody drives.
    let driver = place.driver()?;
    let state = state::word(found.outcome, &found.id, driver.as_ref());
    let now = match state {
        "running" => Clock::system().now(),
        _ => Timestamp(0),
    };
    let records = journal.load(&found.id).map_err(Fault::engine)?.records;
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
    talk::put(&page)?;
    Ok(Exit::Success)
}

fn no_such_step(plan: &Plan, name: &str) -> Fault {
    let fault = Fault::new(Exit::Usage, format!("the workflow has no step `{name}`"));
    match did_you_mean(name, plan.steps.iter().map(|step| step.name.as_str())) {
        Some(similar) => fault.hint(format!("did you mean `{similar}`?")),
        None => fault.hint("`downbeat show` lists the steps of a run"),
    }
}
