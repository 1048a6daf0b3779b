//! `downbeat expand`: a workflow written out, as one file without overlays, templates, defaults and vars.

use crate::arguments::Expand;
use crate::exit::{Exit, Fault};
use crate::talk;
use crate::workflow_file;

use downbeat_workflow::diagnostic;
use downbeat_workflow::spec::Spec;

pub(crate) fn expand(arguments: &Expand) -> Result<Exit, Fault> {
    let source = workflow_file::source(&workflow_file::only(&arguments.workflow)?, &arguments.with)?;
    let (text, found) = Spec::written_out(&source, arguments.origins);
    if !found.is_empty() {
        talk::say(diagnostic::render(&found, &source, talk::has_colours()).trim_end());
    }
    let text =
        text.ok_or_else(|| Fault::new(Exit::Refused, "the workflow file has errors; nothing was written out"))?;
    talk::put(&text)?;
    Ok(Exit::Success)
}
