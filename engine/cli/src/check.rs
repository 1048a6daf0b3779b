//! `downbeat check`: all faults of a workflow file, without running it.

use crate::arguments::Check;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;
use crate::workflow_file;

pub(crate) fn check(place: &Place, arguments: &Check) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let checked = workflow_file::check(&arguments.workflow, &sandbox)?;
    if arguments.json {
        for finding in checked.findings() {
            let object = serde_json::to_string(&finding).expect("a finding holds nothing that JSON can't");
            talk::put_json(&object)?;
        }
    } else {
        checked.print();
    }
    Ok(if checked.plan.is_some() { Exit::Success } else { Exit::Refused })
}
