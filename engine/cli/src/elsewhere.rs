//! Runs that were begun elsewhere. Of a run from an archive only the archive says where its components came from, in which
//! folder its workflow lay and who approved what; so where a policy holds it is not enough to hold its plan against the rules. That a
//! run was imported is noted beside the journal, whose records are those of the archive; and so is that one does again, by its plan or
//! with its answers, what was imported.

use std::fs::{self, File};

use downbeat_workflow::event::RunId;

use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::policy::Guard;

/// Notes that what is known of a run comes from elsewhere, before it is in the journal: the note is durable when this comes back.
pub(crate) fn note(place: &Place, run: &RunId) -> Result<(), Fault> {
    let folder = place.imported();
    let write = || {
        fs::create_dir_all(&folder)?;
        File::create(folder.join(&*run.0))?.sync_all()?;
        // The names as well: that of the note, and that of its folder.
        File::open(&folder)?.sync_all()?;
        folder.parent().map_or(Ok(()), |state| File::open(state)?.sync_all())
    };
    write().map_err(|error| Fault::engine(format!("{} can't be written: {error}", folder.display())))
}

/// Whether what is known of a run comes from elsewhere.
pub(crate) fn is_noted(place: &Place, run: &RunId) -> bool {
    place.imported().join(&*run.0).symlink_metadata().is_ok()
}

/// Whether policies hold that have never been asked about a run as they are about one that begins here.
pub(crate) fn is_unjudged(place: &Place, guard: &Guard, run: &RunId) -> bool {
    !guard.is_open() && is_noted(place, run)
}

/// What is said where nobody can go on with such a run.
pub(crate) fn unjudged(run: &RunId, hint: String) -> Fault {
    let message = format!(
        "run {run} comes from elsewhere, and only its file says what it is made of: the policies that hold here can't judge it; \
         nothing was run"
    );
    Fault::new(Exit::Forbidden, message).hint(hint)
}
