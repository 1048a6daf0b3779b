//! `downbeat cancel`: asks for a run's end, from whichever process drives it; a run that nobody drives is ended right here.

use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Ending, end_parked};
use downbeat_journal::{Journal, Mode, OpenError, Request, RequestError, StateFilter};

use crate::arguments::Cancel;
use crate::ask::{Asked, listed};
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::talk;

pub(crate) fn cancel(place: &Place, arguments: &Cancel) -> Result<Exit, Fault> {
    if !arguments.step.is_empty() {
        return cancel_steps(place, arguments);
    }
    let journal = place.observe()?;
    let run = find_run(&journal, arguments.run.as_deref(), StateFilter::Open)?;
    if run.outcome.is_some() {
        return Err(Fault::new(Exit::Usage, format!("run {} is already over", run.id)));
    }
    match Journal::open(&place.state, Mode::Drive) {
        Err(OpenError::Driven { .. }) => {
            let request = Request::Cancel { reason: arguments.reason.clone() };
            journal.request(&run.id, request).map_err(|error| match error {
                RequestError::Ended { .. } => Fault::new(Exit::Usage, error),
                other => Fault::engine(other),
            })?;
            talk::say(format_args!("run {} is asked to end; `downbeat show {}` tells when it has", run.id, run.id));
        }
        Err(error) => return Err(Fault::engine(error)),
        Ok(driving) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::engine)?;
            let watch = Arc::new(());
            let ending = runtime
                .block_on(end_parked(&driving, &run.id, &arguments.reason, watch, &Clock::system()))
                .map_err(Fault::engine)?;
            match ending {
                Ending::Finished(_) => talk::say(format_args!("run {} is cancelled", run.id)),
                Ending::Stopped => talk::say(format_args!(
                    "run {id} is cancelled but for its always-steps: `downbeat resume {id}` runs them, \
                     another `downbeat cancel {id}` ends it without",
                    id = run.id
                )),
            }
        }
    }
    Ok(Exit::Success)
}

fn cancel_steps(place: &Place, arguments: &Cancel) -> Result<Exit, Fault> {
    let asked = Asked::find(place, arguments.run.as_deref())?;
    asked.open_steps(&arguments.step)?;
    let request = Request::CancelSteps { steps: arguments.step.clone(), reason: arguments.reason.clone() };
    asked.send(place, request, &format!("the end of {}", listed(&arguments.step)))
}
