//! What is asked of a run through the journal: it reaches whoever drives the run; one that nobody drives keeps it until it is
//! resumed.

use std::sync::Arc;

use downbeat_journal::{Journal, Request, RequestError, RunSummary, StateFilter};
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
        for path in paths {
            match self.run.step_at(path) {
                None => faults.push(format!("the run has no step `{path}`")),
                Some(step) => {
                    faults.extend(fault(path, step));
                    steps.push(step);
                }
            }
        }
        match faults.is_empty() {
            true => Ok(steps),
            false => {
                let fault = Fault::new(Exit::Usage, faults.join("\n  "));
                Err(fault.hint(format!("`downbeat show {}` lists the steps of the run", self.found.id)))
            }
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

/// Names in a sentence: `a`, `b` and `c`.
pub(crate) fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
