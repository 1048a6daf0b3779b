//! `downbeat import`: takes a run in from a file. The file is read twice: once to judge all of it, and again, once nothing is
//! wrong with it, to keep its blobs and components, which are there before the journal says so. What a process leaves that
//! dies in between is nothing that anything mentions.

use downbeat_archive::{Kind, RecordedRun};
use downbeat_journal::{AppendError, Create, Journal, LogLine, ReadError};
use downbeat_workflow::event::RunId;
use serde_json::json;

use crate::arguments::Import;
use crate::elsewhere;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::policy::Guard;
use crate::recorded::{nothing, read_file};
use crate::talk;

pub(crate) fn import(place: &Place, arguments: &Import) -> Result<Exit, Fault> {
    let refused = |why: String| Fault::refused(format!("{}: {why}", arguments.file.display()));
    let run = read_file(&arguments.file, &mut nothing).map_err(refused)?;
    let id = run.manifest.run.clone();
    // Before a state folder is made, or another process's lock is asked for.
    if let Some(journal) = place.observe_if_any()?
        && is_there(&journal, &run)?
    {
        noted(place, &id)?;
        return told(arguments, &id, false);
    }
    if run.manifest.outcome.is_none() && !arguments.unfinished {
        let why = "two engines that go on with it would both act under its idempotency keys";
        let fault = Fault::new(Exit::Usage, format!("run {id} is not over: {why}"));
        return Err(fault.hint("if nobody goes on with it where it comes from, say --unfinished"));
    }
    if run.manifest.outcome.is_none() && !Guard::of(place)?.is_open() {
        let message = format!(
            "run {id} is not over, and the policies that hold here can't be asked about it; nothing was imported"
        );
        let hint = "where its components came from and what was approved is only said by the file: begin the run anew";
        return Err(Fault::new(Exit::Forbidden, message).hint(hint));
    }
    let journal = place.drive()?;
    // Somebody else may have been here in between.
    if is_there(&journal, &run)? {
        noted(place, &id)?;
        return told(arguments, &id, false);
    }
    let kept = place.kept();
    let mut keep = |kind, digest: &_, from: &mut dyn std::io::Read| match kind {
        Kind::Component => kept.keep_component(digest, from),
        _ => kept.keep_blob(digest, from),
    };
    let again = read_file(&arguments.file, &mut keep).map_err(refused)?;
    if again.manifest != run.manifest {
        return Err(refused("it was changed while it was read".to_owned()));
    }
    let line = |line: downbeat_archive::Line| LogLine {
        step: line.step,
        attempt: line.attempt,
        at: line.at,
        level: line.level,
        message: line.message,
    };
    let lines = again.lines.into_iter().map(line).collect();
    let RecordedRun { manifest, plan_json, records, .. } = again;
    elsewhere::note(place, &id)?;
    let create = Create { run: id.clone(), plan: manifest.plan, plan_json, records };
    journal.import(create, lines).wait().map_err(|error: AppendError| Fault::engine(error))?;
    told(arguments, &id, true)
}

/// Whether the very run is there. Another one of the same name is never overwritten.
fn is_there(journal: &Journal, run: &RecordedRun) -> Result<bool, Fault> {
    let id = &run.manifest.run;
    let loaded = match journal.load(id) {
        Ok(loaded) => loaded,
        Err(ReadError::NoSuchRun(_)) => return Ok(false),
        Err(error) => return Err(Fault::engine(error)),
    };
    if loaded.plan == run.manifest.plan && loaded.records == run.records {
        return Ok(true);
    }
    let (here, there) = (loaded.records.len(), run.records.len());
    let message = match loaded.records.iter().zip(&run.records).all(|(here, there)| here == there) {
        true if here < there => format!("run {id} is here already, with the first {here} of its {there} records"),
        true => format!("run {id} is here already, and has gone on since: {here} records, not {there}"),
        false => format!("another run {id} is here already: its records are other ones"),
    };
    let hint = "an import never changes a run; `downbeat --state DIR import` takes it into another place";
    Err(Fault::refused(message).hint(hint))
}

/// Of a run that is there already nobody knows whether it was begun here; whoever imports it says that the file is to be trusted no
/// more than others.
fn noted(place: &Place, id: &RunId) -> Result<(), Fault> {
    if elsewhere::is_noted(place, id) { Ok(()) } else { elsewhere::note(place, id) }
}

fn told(arguments: &Import, id: &RunId, is_new: bool) -> Result<Exit, Fault> {
    match (arguments.json, is_new) {
        (true, _) => talk::put_json(&json!({ "run": id.to_string(), "imported": is_new }).to_string())?,
        (false, true) => talk::say(format_args!("run {id} is imported; `downbeat show {id}` shows it")),
        (false, false) => talk::say(format_args!("run {id} is here already, as it is in the file")),
    }
    Ok(Exit::Success)
}
