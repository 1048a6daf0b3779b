//! `downbeat check`: all faults of workflow files, without running them.

use std::path::{Path, PathBuf};

use downbeat_sandbox::Sandbox;

use crate::arguments::Check;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;
use crate::workflow_file;

/// The exit code is the gravest of all that was found: the engine's faults weigh more than those of files.
pub(crate) fn check(place: &Place, arguments: &Check) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let mut gravest = Exit::Success;
    for path in &arguments.workflows {
        let files: Vec<Result<PathBuf, Fault>> = match workflow_file::files_below(path) {
            Ok(files) => files.into_iter().map(Ok).collect(),
            Err(fault) => vec![Err(fault)],
        };
        for file in files {
            // One that can't be read does not keep the others from being checked.
            if let Err(fault) = file.and_then(|file| check_file(&file, &sandbox, arguments.json, &mut gravest)) {
                if fault.is_enough() {
                    return Ok(gravest);
                }
                fault.print();
                gravest = gravest.max(fault.exit);
            }
        }
    }
    Ok(gravest)
}

/// Checks a file and tells what is wrong with it; `gravest` has that, too, before anything is told.
fn check_file(path: &Path, sandbox: &Sandbox, json: bool, gravest: &mut Exit) -> Result<(), Fault> {
    let checked = workflow_file::check(path, sandbox)?;
    if checked.plan.is_none() {
        *gravest = (*gravest).max(Exit::Refused);
    }
    if !json {
        checked.print();
        return Ok(());
    }
    for finding in checked.findings() {
        let object = serde_json::to_string(&finding).expect("a finding holds nothing that JSON can't");
        talk::put_json(&object)?;
    }
    Ok(())
}
