//! `downbeat pause` and `downbeat unpause`: holds a run back, or steps of it, and lets them go on.

use downbeat_journal::Request;
use downbeat_workflow::plan::StepId;

use crate::arguments::{Pause, Unpause};
use crate::ask::{Asked, listed};
use crate::exit::{Exit, Fault};
use crate::place::Place;

pub(crate) fn pause(place: &Place, arguments: &Pause) -> Result<Exit, Fault> {
    let asked = Asked::find(place, arguments.run.as_deref())?;
    let steps = asked.open_steps(&arguments.step)?;
    let parts: Vec<Option<StepId>> = match steps.is_empty() {
        true => vec![None],
        false => steps.into_iter().map(Some).collect(),
    };
    if parts.iter().all(|part| asked.run.is_paused(*part)) {
        let fault = Fault::new(Exit::Usage, format!("{} is paused already", of(&asked, &arguments.step)));
        let flags: String = arguments.step.iter().map(|step| format!(" --step {step}")).collect();
        return Err(fault.hint(format!("`downbeat unpause {}{flags}` lets it go on", asked.id())));
    }
    if !parts.iter().any(|part| asked.run.may_pause(*part) || asked.run.is_paused(*part)) {
        let fault = Fault::new(Exit::Usage, format!("{} is being ended", of(&asked, &arguments.step)));
        return Err(fault.hint("what is always done, and what undoes, can be paused by its name, with --step"));
    }
    let request = Request::Pause { steps: arguments.step.clone(), reason: arguments.reason.clone() };
    let what = format!("the pause{}", of_steps(&arguments.step));
    asked.send(place, request, &what)
}

pub(crate) fn unpause(place: &Place, arguments: &Unpause) -> Result<Exit, Fault> {
    let asked = Asked::find(place, arguments.run.as_deref())?;
    // One that is over may have left something behind that is still paused.
    let steps = asked.steps(&arguments.step, |_, _| None)?;
    let paused = match steps.is_empty() {
        true => asked.run.is_paused(None),
        false => steps.iter().any(|step| asked.run.is_paused(Some(*step))),
    };
    // What it was asked and nobody has taken in yet is not known here: a pause that is kept for it is ended as well.
    if !paused && !asked.has_pending() {
        let fault = Fault::new(Exit::Usage, format!("{} is not paused", of(&asked, &arguments.step)));
        let others: Vec<String> =
            asked.run.paused().filter_map(|(step, _)| step).map(|step| asked.run.path(step)).collect();
        return Err(match (asked.run.is_paused(None), others.is_empty()) {
            (true, _) => fault.hint(format!("the run is, as a whole: `downbeat unpause {}`", asked.id())),
            (false, true) => fault.hint("nothing of it is: `downbeat pause` holds a run back, or a step of it"),
            (false, false) if arguments.step.is_empty() => {
                fault.hint(format!("but {}: name it with --step", listed(&others)))
            }
            (false, false) => fault.hint(format!("what is: {}", listed(&others))),
        });
    }
    let what = format!("the end of the pause{}", of_steps(&arguments.step));
    asked.send(place, Request::Unpause { steps: arguments.step.clone() }, &what)
}

fn of(asked: &Asked, steps: &[String]) -> String {
    match steps.is_empty() {
        true => format!("run {}", asked.id()),
        false => format!("{} of run {}", listed(steps), asked.id()),
    }
}

fn of_steps(steps: &[String]) -> String {
    if steps.is_empty() { String::new() } else { format!(" of {}", listed(steps)) }
}
