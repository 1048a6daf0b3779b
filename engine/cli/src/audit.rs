//! `downbeat audit`: whether the journal is as it was written, and what steps did with what they were granted.

mod checkpoint;
mod export;
mod key;
mod report;
mod show;
mod uses;
mod verify;

use crate::arguments::AuditCommand;
use crate::exit::{Exit, Fault};
use crate::place::Place;

pub(crate) fn audit(place: &Place, command: &AuditCommand) -> Result<Exit, Fault> {
    match command {
        AuditCommand::Verify(arguments) => verify::verify(place, arguments),
        AuditCommand::Checkpoint(arguments) => checkpoint::checkpoint(place, arguments),
        AuditCommand::Show(arguments) => show::show(place, arguments),
        AuditCommand::Report(arguments) => report::report(place, arguments),
        AuditCommand::Export(arguments) => export::export(place, arguments),
    }
}
