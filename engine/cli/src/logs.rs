//! `downbeat logs`: what a run's attempts wrote.

use downbeat_journal::{LogFilter, StateFilter};

use crate::arguments::Logs;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::talk;
use crate::units;

pub(crate) fn logs(place: &Place, arguments: &Logs) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let id = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?.id;
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
    for (_, line) in journal.load_log(&id, LogFilter { step, after: 0 }).map_err(Fault::engine)? {
        let name = &plan.step(line.step).name;
        if arguments.json {
            let object = serde_json::json!({
                "at": units::time(line.at),
                "step": name,
                "attempt": line.attempt,
                "level": line.level.as_str(),
                "message": line.message,
            });
            talk::put_json(&object.to_string())?;
        } else {
            let (at, level) = (units::time(line.at), line.level.as_str());
            talk::put(&format!("{at} {name:width$} #{} {level:5} {}\n", line.attempt, line.message))?;
        }
    }
    Ok(Exit::Success)
}
