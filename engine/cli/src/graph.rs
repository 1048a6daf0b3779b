//! `downbeat graph`: a workflow, or a run of one, as a picture.

use std::path::Path;
use std::sync::Arc;

use downbeat_drawing::{Picture, STEPS_DRAWN_MAX, dot, mermaid, svg};
use downbeat_journal::StateFilter;
use downbeat_workflow::event::Timestamp;
use downbeat_workflow::explain::Account;
use downbeat_workflow::history::History;
use downbeat_workflow::run::Run;

use crate::arguments::{Graph, GraphDirection, GraphFormat};
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::resume::load_plan;
use crate::state;
use crate::talk;
use crate::workflow_file;

pub(crate) fn graph(place: &Place, arguments: &Graph) -> Result<Exit, Fault> {
    let format = format(arguments)?;
    let picture = match arguments.what.as_deref() {
        Some(what) if workflow_file::is_path(what) => {
            let (guard, sandbox) = (Guard::of_looking(place)?, place.sandbox()?);
            Picture::of_plan(&workflow_file::load(Path::new(what), &arguments.with, &sandbox, &guard)?)
        }
        run => of_run(place, run)?,
    };
    let text = match format {
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

fn of_run(place: &Place, run: Option<&str>) -> Result<Picture, Fault> {
    let journal = place.observe()?;
    // Before the run is read: one that ends in between has ended.
    let driver = place.driver()?;
    let found = find_run(&journal, run, StateFilter::Any)?;
    let (id, state) = (found.id.clone(), state::word(found.outcome, &found.id, driver.as_ref()));
    let plan = Arc::new(load_plan(&journal, &id)?);
    let records = journal.load(&id).map_err(Fault::engine)?.records;
    let history = History::of(&plan, &records);
    // Nothing that is drawn of a run that is not over depends on the time.
    let account = Account::of(&plan, &id, &records, Timestamp(0), None).map_err(Fault::engine)?;
    let run = Run::replay(plan, id, &records).map_err(Fault::engine)?;
    let picture = Picture::of_run(&run, &history, &account);
    Ok(if state == "stopped" { picture.stopped() } else { picture })
}

/// What was asked for, or what the file's name says. A name that says something else is not given an SVG.
fn format(arguments: &Graph) -> Result<GraphFormat, Fault> {
    if let Some(format) = arguments.format {
        return Ok(format);
    }
    let Some(file) = &arguments.output else { return Ok(GraphFormat::Svg) };
    match file.extension().map(|ending| ending.to_string_lossy().to_lowercase()).as_deref() {
        None | Some("svg") => Ok(GraphFormat::Svg),
        Some("dot" | "gv") => Ok(GraphFormat::Dot),
        Some("mmd" | "mermaid") => Ok(GraphFormat::Mermaid),
        Some(other) => Err(Fault::refused(format!("{}: there is no format for `.{other}`", file.display()))
            .hint("names end in .svg, .dot (or .gv), .mmd (or .mermaid); --format names one for any other")),
    }
}
