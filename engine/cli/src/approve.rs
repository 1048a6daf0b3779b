//! `downbeat approve` and `downbeat reject`: somebody's word on a step that waits for it.

use downbeat_journal::Request;
use downbeat_workflow::plan::{Approval, StepId, Wait, Work};
use downbeat_workflow::run::{Run, StepStatus};

use crate::arguments::Word;
use crate::ask::Asked;
use crate::exit::{Exit, Fault};
use crate::place::Place;

pub(crate) fn answer(place: &Place, arguments: &Word, approved: bool) -> Result<Exit, Fault> {
    let asked = Asked::find(place, arguments.run.as_deref())?;
    let step = waiting(&asked.run, arguments.step.as_deref())?;
    let approval = approval(&asked.run, step).expect("a step that waits for a word has somebody who gives it");
    let by = match &arguments.by {
        Some(by) => by.clone(),
        None => std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).map_err(|_| {
            Fault::new(Exit::Usage, "nobody knows who you are: `USER` is not set").hint("say it with `--by NAME`")
        })?,
    };
    let path = asked.run.path(step);
    if !approval.by.contains(&by) {
        let fault = Fault::new(Exit::Usage, format!("`{by}` is not one of those whose word `{path}` waits for"));
        return Err(fault.hint(format!("these are {}; `--by NAME` says who you are", approval.by.join(", "))));
    }
    let what = format!("the {} of `{path}`", if approved { "approval" } else { "rejection" });
    let uid = Some(rustix::process::getuid().as_raw());
    let request = Request::Answer { step: path, approved, by, note: arguments.note.clone(), uid };
    asked.send(place, request, &what)
}

/// The step of this path that waits for somebody's word, or the only one that does.
fn waiting(run: &Run, path: Option<&str>) -> Result<StepId, Fault> {
    let steps = (0..run.scopes().len() as u32).map(StepId);
    let waits = |step: &StepId| matches!(run.status(*step).0, StepStatus::Parked(_)) && approval(run, *step).is_some();
    let waiting: Vec<StepId> = steps.filter(waits).collect();
    let names = || waiting.iter().map(|step| format!("`{}`", run.path(*step))).collect::<Vec<_>>().join(", ");
    let found = match path {
        Some(path) => waiting.iter().find(|step| run.path(**step) == path),
        None if waiting.len() == 1 => waiting.first(),
        None => None,
    };
    found.copied().ok_or_else(|| match (path, waiting.is_empty()) {
        (_, true) => Fault::new(Exit::Usage, format!("no step of run {} waits for an approval", run.id())),
        (Some(path), _) => {
            Fault::new(Exit::Usage, format!("run {} has no step `{path}` that waits for an approval", run.id()))
                .hint(format!("these do: {}", names()))
        }
        (None, _) => Fault::new(Exit::Usage, format!("several steps of run {} wait for an approval", run.id()))
            .hint(format!("name one with `--step`: {}", names())),
    })
}

fn approval(run: &Run, step: StepId) -> Option<&Approval> {
    match &run.step(step).work {
        Work::Wait(Wait { approval, .. }) => approval.as_ref(),
        _ => None,
    }
}
