//! Runs that were begun elsewhere. Of a run from an archive only the archive says where its components came from, in which
//! folder its workflow lay and who approved what; so where a policy holds it is not enough to hold its plan against the rules. That a
//! run was imported is noted beside the journal, whose records are those of the archive.

use downbeat_journal::{Journal, ReadError};
use downbeat_workflow::event::{Event, RunId};

use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::policy::Guard;

/// How many runs are looked at, each of which does the one before it again. A thousand are nobody's who works with them; what is
/// behind more counts as from elsewhere.
const REDONE_MAX: usize = 1_000;

/// Notes that a run comes from elsewhere, before it is in the journal. The note stays when the run is deleted: others may have taken
/// over its plan.
pub(crate) fn note(place: &Place, run: &RunId) -> Result<(), Fault> {
    let folder = place.imported();
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::File::create(folder.join(&*run.0))?.sync_all());
    written.map_err(|error| Fault::engine(format!("{} can't be written: {error}", folder.display())))
}

/// Whether a run, or one that it does again, was imported.
fn is_from_elsewhere(place: &Place, journal: &Journal, run: &RunId) -> Result<bool, Fault> {
    let mut here = run.clone();
    for _ in 0..REDONE_MAX {
        if place.imported().join(&*here.0).symlink_metadata().is_ok() {
            return Ok(true);
        }
        let first = match journal.records_page(&here, 0, 1) {
            Ok(records) => records.into_iter().next(),
            // It was deleted, and would have left its note.
            Err(ReadError::NoSuchRun(_)) => None,
            Err(error) => return Err(Fault::engine(error)),
        };
        match first.map(|record| record.event) {
            Some(Event::RunCreated { rerun_of: Some(of), .. }) => here = of,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether policies hold that have never been asked about a run as they are about one that begins here.
pub(crate) fn is_unjudged(place: &Place, journal: &Journal, guard: &Guard, run: &RunId) -> Result<bool, Fault> {
    Ok(!guard.is_open() && is_from_elsewhere(place, journal, run)?)
}

/// What is said where nobody can go on with such a run.
pub(crate) fn unjudged(run: &RunId, hint: String) -> Fault {
    let message = format!(
        "run {run} comes from elsewhere, and only its file says what it is made of: the policies that hold here can't judge it; \
         nothing was run"
    );
    Fault::new(Exit::Forbidden, message).hint(hint)
}
