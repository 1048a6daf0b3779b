//! `downbeat logs`: what a run's attempts wrote.

use downbeat_journal::{Journal, LogFilter, LogLine, StateFilter};
use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::scope::Scopes;

use crate::arguments::Logs;
use crate::exit::{Exit, Fault};
use crate::follow;
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::state;
use crate::stream::Names;
use crate::talk;
use crate::units::{self, counted};

/// How much of a log is read at once, in bytes of text: a run's whole log may be larger than the memory.
const PAGE_BYTES: usize = 1 << 20;

pub(crate) fn logs(place: &Place, arguments: &Logs) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    // Before the run is read: one that ends in between has ended.
    let driver = place.driver()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let id = found.id.clone();
    let plan = load_plan(&journal, &id)?;
    let mut scopes = opened(&journal, &id, &plan)?;
    let step = match &arguments.step {
        None => None,
        Some(name) => Some(scopes.named(&plan, name).ok_or_else(|| {
            let names: Vec<&str> = plan.own_steps().iter().map(|step| step.name.as_str()).collect();
            Fault::new(Exit::Usage, format!("run {id} has no step `{name}`"))
                .hint(format!("its steps are {}", names.join(", ")))
        })?),
    };
    let width = plan.own_steps().iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
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
            if page.iter().any(|(_, line)| scopes.find(line.step).is_none()) {
                scopes = opened(&journal, &id, &plan)?;
            }
            let names = Names { plan: &plan, scopes: &scopes };
            for (_, line) in &page {
                match arguments.json {
                    true => talk::put_json(&object(&name(names, line)?, line))?,
                    false => talk::put(&text(&name(names, line)?, line, width))?,
                }
            }
        }
        if last || !follow::wait(&mut horizon)? {
            return Ok(Exit::Success);
        }
    }
}

/// The scopes that a run has opened by now.
fn opened(journal: &Journal, run: &RunId, plan: &Plan) -> Result<Scopes, Fault> {
    let mut scopes = Scopes::new(plan);
    if !plan.bodies.is_empty() {
        for record in &journal.load(run).map_err(Fault::engine)?.records {
            scopes.take_in(plan, &record.event);
        }
    }
    Ok(scopes)
}

/// How people call the step that said it. A journal that was changed from outside may speak of any.
fn name(names: Names<'_>, line: &LogLine) -> Result<String, Fault> {
    let steps = names.scopes.len();
    if names.scopes.find(line.step).is_none() {
        let number = line.step.index() + 1;
        return Err(Fault::engine(format!(
            "the log has a line of step number {number}, and the run has {}",
            counted(steps as u64, "step")
        ))
        .hint("the journal was changed from outside, or is damaged; restore a copy of it"));
    }
    Ok(names.step(line.step))
}

fn object(name: &str, line: &LogLine) -> String {
    let object = serde_json::json!({
        "at": units::time(line.at),
        "step": name,
        "attempt": line.attempt,
        "level": line.level.as_str(),
        "message": line.message,
    });
    object.to_string()
}

fn text(name: &str, line: &LogLine, width: usize) -> String {
    let (at, level) = (units::time(line.at), line.level.as_str());
    format!("{at} {name:width$} #{} {level:5} {}\n", line.attempt, line.message)
}
