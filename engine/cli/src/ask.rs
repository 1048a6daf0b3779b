//! What is asked of a run through the journal: it reaches whoever drives the run; one that nobody drives keeps it until it is
//! resumed.

use std::sync::Arc;

use downbeat_journal::{Journal, Request, RequestError, RunSummary, StateFilter};
use downbeat_workflow::diagnostic::did_you_mean;
use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::StepId;
use downbeat_workflow::run::Run;

use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::state;
use crate::talk;

/// A run of which something is asked, as it stands.
pub(crate) struct Asked {
    journal: Journal,
    found: RunSummary,
    pub(crate) run: Run,
}

impl Asked {
    /// The run that is meant; it is not over.
    pub(crate) fn find(place: &Place, run: Option<&str>) -> Result<Asked, Fault> {
        let journal = place.observe()?;
        let found = find_run(&journal, run, StateFilter::Open)?;
        if found.outcome.is_some() {
            return Err(Fault::new(Exit::Usage, format!("run {} is already over", found.id)));
        }
        let plan = Arc::new(load_plan(&journal, &found.id)?);
        let records = journal.load(&found.id).map_err(Fault::engine)?.records;
        let run = Run::replay(plan, found.id.clone(), &records).map_err(Fault::engine)?;
        Ok(Asked { journal, found, run })
    }

    /// The steps that are called so, none of which is over; or all that is wrong with them.
    pub(crate) fn open_steps(&self, paths: &[String]) -> Result<Vec<StepId>, Fault> {
        let is_over = |path: &str, step| self.run.has_ended(step).then(|| format!("the step `{path}` is already over"));
        self.steps(paths, is_over)
    }

    /// The steps that are called so; or all that is wrong with them, which `fault` says of one that is there.
    pub(crate) fn steps(
        &self,
        paths: &[String],
        fault: impl Fn(&str, StepId) -> Option<String>,
    ) -> Result<Vec<StepId>, Fault> {
        let mut faults = Vec::new();
        let mut steps = Vec::new();
        let mut similar = Vec::new();
        for path in paths {
            match self.run.step_at(path) {
                None => {
                    faults.push(format!("run {} has no step `{path}`", self.found.id));
                    similar.extend(similar_step(&self.run, path));
                }
                Some(step) => {
                    faults.extend(fault(path, step));
                    steps.push(step);
                }
            }
        }
        match faults.is_empty() {
            true => Ok(steps),
            false => Err(Fault::new(Exit::Usage, faults.join("\n  ")).hint(hint_at_steps(&self.run, &similar))),
        }
    }

    /// Whether it was asked something that nobody has taken in yet.
    pub(crate) fn has_pending(&self) -> bool {
        self.journal.requests(&self.found.id).is_ok_and(|pending| !pending.is_empty())
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &RunId {
        &self.found.id
    }

    /// Asks it. `what` begins a sentence: "the signal `go`".
    pub(crate) fn send(self, place: &Place, request: Request, what: &str) -> Result<Exit, Fault> {
        let id = &self.found.id;
        self.journal.request(id, request).map_err(|error| match error {
            RequestError::Ended { .. } => Fault::new(Exit::Usage, error),
            other => Fault::engine(other),
        })?;
        let driver = place.driver()?;
        match state::word(None, id, driver.as_ref()) {
            "running" => talk::say(format_args!("{what} is sent to run {id}")),
            _ => talk::say(format_args!("{what} is kept for run {id}, which nobody drives: `downbeat resume {id}`")),
        }
        Ok(Exit::Success)
    }
}

/// A run that has no step of this name.
pub(crate) fn no_such_step(run: &Run, path: &str) -> Fault {
    let similar: Vec<String> = similar_step(run, path).into_iter().collect();
    let fault = Fault::new(Exit::Usage, format!("run {} has no step `{path}`", run.id()));
    fault.hint(hint_at_steps(run, &similar))
}

/// The path of the run's step that may have been meant.
pub(crate) fn similar_step(run: &Run, path: &str) -> Option<String> {
    let paths: Vec<String> = (0..run.scopes().len() as u32).map(|step| run.path(StepId(step))).collect();
    did_you_mean(path, paths.iter().map(String::as_str)).map(str::to_owned)
}

/// What to write instead of steps that there are not: those that may have been meant.
pub(crate) fn hint_at_steps(run: &Run, similar: &[String]) -> String {
    match similar.is_empty() {
        true => format!("`downbeat show {}` lists its steps", run.id()),
        false => format!("did you mean {}?", listed(similar)),
    }
}

/// Names in a sentence: `a`, `b` and `c`.
pub(crate) fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
