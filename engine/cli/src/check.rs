//! `downbeat check`: all faults of workflow files, without running them.

use crate::arguments::Check;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;
use crate::workflow_file;

pub(crate) fn check(place: &Place, arguments: &Check) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let mut exit = Exit::Success;
    for path in &arguments.workflows {
        // One that can't be read does not keep the others from being checked.
        if let Err(fault) = check_all(path, &sandbox, arguments.json, &mut exit) {
            fault.unless_enough().or_else(|fault| {
                fault.print();
                exit = fault.exit;
                Ok::<(), Fault>(())
            })?;
        }
    }
    Ok(exit)
}

/// Checks what a path stands for. Sets `exit` if something is wrong with it.
fn check_all(
    path: &std::path::Path,
    sandbox: &downbeat_sandbox::Sandbox,
    json: bool,
    exit: &mut Exit,
) -> Result<(), Fault> {
    for file in workflow_file::files(path)? {
        let checked = workflow_file::check(&file, sandbox)?;
        if checked.plan.is_none() {
            *exit = Exit::Refused;
        }
        if !json {
            checked.print();
            continue;
        }
        for finding in checked.findings() {
            let object = serde_json::to_string(&finding).expect("a finding holds nothing that JSON can't");
            talk::put_json(&object)?;
        }
    }
    Ok(())
}
