//! `downbeat check`: all faults of workflow files, without running them.

use std::path::{Path, PathBuf};

use downbeat_sandbox::Sandbox;
use downbeat_workflow::diagnostic::{CODES, Code, did_you_mean};

use crate::arguments::Check;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::policy::Guard;
use crate::talk;
use crate::workflow_file;

/// The exit code is the gravest of all that was found: the engine's faults weigh more than those of files.
pub(crate) fn check(place: &Place, arguments: &Check) -> Result<Exit, Fault> {
    if let Some(code) = &arguments.explain {
        return explain(code.as_deref());
    }
    let (guard, sandbox) = (Guard::of(place)?, place.sandbox()?);
    let mut gravest = Exit::Success;
    let is_one = |path: &PathBuf| path.is_file();
    if !arguments.with.is_empty() && (arguments.workflows.len() > 1 || !arguments.workflows.iter().all(is_one)) {
        let fault = Fault::new(Exit::Usage, "`--with` goes with one workflow: what is laid over it is meant for that");
        return Err(fault.hint("name the file itself"));
    }
    for path in &arguments.workflows {
        let files: Vec<Result<PathBuf, Fault>> = match workflow_file::files_below(path) {
            Ok(files) => files.into_iter().map(Ok).collect(),
            Err(fault) => vec![Err(fault)],
        };
        for file in files {
            // One that can't be read does not keep the others from being checked.
            if let Err(fault) = file.and_then(|file| check_file(&file, &sandbox, &guard, arguments, &mut gravest)) {
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
fn check_file(
    path: &Path,
    sandbox: &Sandbox,
    guard: &Guard,
    arguments: &Check,
    gravest: &mut Exit,
) -> Result<(), Fault> {
    let checked = workflow_file::check(path, &arguments.with, sandbox, guard)?;
    if checked.is_forbidden {
        *gravest = (*gravest).max(Exit::Forbidden);
    } else if checked.plan.is_none() || arguments.deny_warnings && !checked.is_clean() {
        *gravest = (*gravest).max(Exit::Refused);
    }
    if !arguments.json {
        checked.print();
        if arguments.deny_warnings && checked.plan.is_some() && !checked.is_clean() {
            talk::say("  refused for its warnings, as `--deny-warnings` wants it");
        }
        return Ok(());
    }
    for finding in checked.findings() {
        let object = serde_json::to_string(&finding).expect("a finding holds nothing that JSON can't");
        talk::put_json(&object)?;
    }
    Ok(())
}

/// Tells what a code means; without one, which there are.
fn explain(code: Option<&str>) -> Result<Exit, Fault> {
    let Some(name) = code else {
        for code in CODES {
            let title =
                code.page().lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, title)| title);
            talk::put(&format!("{:24} {title}\n", code.name))?;
        }
        return Ok(Exit::Success);
    };
    // As it is shown: `error[unknown-step]`.
    let bare = name.trim_start_matches("error").trim_start_matches("warning").trim_matches(['[', ']']);
    let Some(code) = Code::find(bare) else {
        let fault = Fault::new(Exit::Usage, format!("there is no diagnostic `{name}`"));
        let similar = did_you_mean(bare, Code::all().map(|code| code.name));
        return Err(fault.hint(match similar {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => "`downbeat check --explain` lists them all".to_owned(),
        }));
    };
    talk::put(code.page())?;
    Ok(Exit::Success)
}
