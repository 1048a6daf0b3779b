//! `downbeat diff`: what a component, a workflow or a lock may do that another one may not, for a reviewer. Nothing is run;
//! source folders are built.

use std::path::Path;

use downbeat_sandbox::Sandbox;
use downbeat_workflow::lock::{Lock, Pinned};
use downbeat_workflow::plan::Plan;
use downbeat_workflow::review::{Review, Severity};
use downbeat_workflow::spec::Source;

use crate::arguments::{Diff, Format};
use crate::exit::{Exit, Fault};
use crate::files::read_text;
use crate::place::Place;
use crate::policy::Guard;
use crate::{lock, talk, workflow_file};

/// What can be compared.
enum Side {
    Component(Box<Pinned>),
    Workflow(Box<Plan>),
    Lock(Lock),
}

pub(crate) fn diff(place: &Place, arguments: &Diff) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let review = match (side(&arguments.old, &sandbox)?, side(&arguments.new, &sandbox)?) {
        (Side::Component(old), Side::Component(new)) => Review::of_components(&old, &new),
        (Side::Workflow(old), Side::Workflow(new)) => Review::of_plans(&old, &new),
        (Side::Lock(old), Side::Lock(new)) => Review::of_locks(&old, &new),
        _ => {
            let fault = Fault::new(Exit::Usage, "these are not of one kind");
            return Err(fault.hint("compare two components, two workflows, or two locks"));
        }
    };
    match arguments.format {
        Format::Text => talk::put(&review.text())?,
        Format::Markdown => {
            let [old, new] = [&arguments.old, &arguments.new].map(|path| path.display().to_string());
            talk::put(&review.markdown(&old, &new))?;
        }
        Format::Json => {
            talk::put_json(&serde_json::to_string(&review).expect("a review holds nothing that JSON can't"))?;
        }
    }
    Ok(match review.severity() {
        None => Exit::Success,
        Some(Severity::Same | Severity::Narrower) => Exit::Changed,
        Some(Severity::Wider) => Exit::Wider,
    })
}

fn side(path: &Path, sandbox: &Sandbox) -> Result<Side, Fault> {
    let is_called = |end: &str| path.extension().is_some_and(|extension| extension == end);
    if is_called("lock") {
        let text = read_text(path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))?;
        let source = Source::new(path.display().to_string(), text);
        let lock = Lock::parse(&source).map_err(|found| {
            talk::say(downbeat_workflow::diagnostic::render(&found, &source, true));
            Fault::refused(format!("{} has errors", path.display()))
        })?;
        return Ok(Side::Lock(lock));
    }
    let is_source = path.join("Cargo.toml").is_file() || path.join("package.json").is_file();
    if is_called("toml") || path.is_dir() && !is_source {
        let checked = workflow_file::check(&workflow_file::only(path)?, &[], sandbox, &Guard::none())?;
        return match checked.plan {
            Some(plan) => Ok(Side::Workflow(Box::new(plan))),
            None => {
                checked.print();
                Err(Fault::refused(format!("{} has errors", path.display())))
            }
        };
    }
    let (_, mut pinned) = workflow_file::pin(path, sandbox).map_err(Fault::refused)?;
    pinned.source_digest = lock::source_digest(path);
    Ok(Side::Component(Box::new(pinned)))
}
