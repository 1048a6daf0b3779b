//! `downbeat logs`: what a run's attempts wrote.

use downbeat_journal::{LogFilter, LogLine, StateFilter};
use downbeat_workflow::plan::Plan;

use crate::arguments::Logs;
use crate::exit::{Exit, Fault};
use crate::follow;
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::state;
use crate::talk;
use crate::units;

/// How much of a log is read at once, in bytes of text: a run's whole log may be larger than the memory.
const PAGE_BYTES: usize = 1 << 20;

pub(crate) fn logs(place: &Place, arguments: &Logs) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    // Before the run is read: one that ends in between has ended.
    let driver = place.driver()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let id = found.id.clone();
    let plan = load_plan(&journal, &id)?;
    let step = match &arguments.step {
        None => None,
        Some(name) => Some(plan.step_named(name).ok_or_else(|| {
            let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
            Fault::new(Exit::Usage, format!("the run has no step `{name}`"))
                .hint(format!("its steps are {}", names.join(", ")))
        })?),
    };
    let width = plan.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    if arguments.follow {
        state::tell_if_stopped(&found, driver.as_ref());
    }
    let mut horizon = journal.horizon().map_err(Fault::engine)?;
    let mut after = 0;
    loop {
        // Before the look, so that what comes in between is looked at again.
        horizon.mark_unchanged();
        let last = !arguments.follow || journal.summary(&id).map_err(Fault::engine)?.outcome.is_some();
        loop {
            let page = journal.log_page(&id, LogFilter { step, after }, PAGE_BYTES).map_err(Fault::engine)?;
            let Some((position, _)) = page.last() else { break };
            after = *position;
            for (_, line) in &page {
                match arguments.json {
                    true => talk::put_json(&object(&plan, line))?,
                    false => talk::put(&text(&plan, line, width))?,
                }
            }
        }
        if last || !follow::wait(&mut horizon)? {
            return Ok(Exit::Success);
        }
    }
}

fn object(plan: &Plan, line: &LogLine) -> String {
    let object = serde_json::json!({
        "at": units::time(line.at),
        "step": plan.step(line.step).name,
        "attempt": line.attempt,
        "level": line.level.as_str(),
        "message": line.message,
    });
    object.to_string()
}

fn text(plan: &Plan, line: &LogLine, width: usize) -> String {
    let (at, level, name) = (units::time(line.at), line.level.as_str(), &plan.step(line.step).name);
    format!("{at} {name:width$} #{} {level:5} {}\n", line.attempt, line.message)
}
