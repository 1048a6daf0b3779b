//! `downbeat graph`: a workflow, or a run of one, as a picture.

use std::path::Path;
use std::sync::Arc;

use downbeat_drawing::{Picture, STEPS_DRAWN_MAX, dot, mermaid, svg};
use downbeat_journal::StateFilter;
use downbeat_workflow::history::History;
use downbeat_workflow::run::Run;

use crate::arguments::{Graph, GraphDirection, GraphFormat};
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::talk;
use crate::workflow_file;

pub(crate) fn graph(place: &Place, arguments: &Graph) -> Result<Exit, Fault> {
    let picture = match arguments.what.as_deref() {
        Some(what) if is_workflow(what) => Picture::of_plan(&workflow_file::load(Path::new(what), &place.sandbox()?)?),
        run => of_run(place, run)?,
    };
    let text = match format(arguments) {
        GraphFormat::Dot => dot(&picture),
        GraphFormat::Mermaid => mermaid(&picture),
        GraphFormat::Svg => {
            let direction = arguments.direction.map(|direction| match direction {
                GraphDirection::Down => downbeat_drawing::Direction::Down,
                GraphDirection::Right => downbeat_drawing::Direction::Right,
            });
            svg(&picture, direction).map_err(|large| {
                let steps = large.steps;
                Fault::refused(format!("{steps} steps are too many to be drawn, the most are {STEPS_DRAWN_MAX}"))
                    .hint("`--format dot` has no such bound; Graphviz has layouts for large graphs, as `sfdp`")
            })?
        }
    };
    match &arguments.output {
        None => talk::put(&text)?,
        Some(file) => std::fs::write(file, text)
            .map_err(|error| Fault::engine(format!("{} can't be written: {error}", file.display())))?,
    }
    Ok(Exit::Success)
}

/// A file or a folder, or what could only be one: ids of runs have no dot and no separator.
fn is_workflow(what: &str) -> bool {
    Path::new(what).exists() || what.contains(['.', '/', '\\'])
}

fn of_run(place: &Place, run: Option<&str>) -> Result<Picture, Fault> {
    let journal = place.observe()?;
    let id = find_run(&journal, run, StateFilter::Any)?.id;
    let plan = Arc::new(load_plan(&journal, &id)?);
    let records = journal.load(&id).map_err(Fault::engine)?.records;
    let history = History::of(&plan, &records);
    let run = Run::replay(plan, id, &records).map_err(Fault::engine)?;
    Ok(Picture::of_run(&run, &history))
}

/// What was asked for, or what the file's name says.
fn format(arguments: &Graph) -> GraphFormat {
    let named = arguments.output.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
    arguments.format.unwrap_or(match named {
        Some("dot" | "gv") => GraphFormat::Dot,
        Some("mmd" | "mermaid") => GraphFormat::Mermaid,
        _ => GraphFormat::Svg,
    })
}
