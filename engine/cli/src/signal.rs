//! `downbeat signal`: sends a signal to a run.

use downbeat_journal::Request;
use downbeat_workflow::diagnostic::did_you_mean;
use downbeat_workflow::json::Json;

use crate::arguments::Signal;
use crate::ask::Asked;
use crate::exit::{Exit, Fault};
use crate::place::Place;

pub(crate) fn signal(place: &Place, arguments: &Signal) -> Result<Exit, Fault> {
    let data = match &arguments.data {
        None => Json::null(),
        Some(text) => {
            Json::parse(text.as_str()).map_err(|error| Fault::new(Exit::Usage, format!("`--data` is {error}")))?
        }
    };
    let asked = Asked::find(place, arguments.run.as_deref())?;
    if !asked.run.has_signal(&arguments.name) {
        let known: Vec<&str> = asked.run.plan().signals.iter().map(|signal| signal.name.as_str()).collect();
        let fault =
            Fault::new(Exit::Usage, format!("no step of run {} waits for a signal `{}`", asked.id(), arguments.name));
        return Err(match did_you_mean(&arguments.name, known.iter().copied()) {
            Some(similar) => fault.hint(format!("did you mean `{similar}`?")),
            None if known.is_empty() => fault.hint("its workflow has no signals"),
            None => fault.hint(format!("its signals are {}", known.join(", "))),
        });
    }
    let request = Request::Signal { signal: arguments.name.clone(), data };
    asked.send(place, request, &format!("the signal `{}`", arguments.name))
}
