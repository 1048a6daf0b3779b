//! `downbeat plan`: what a run would do, before there is one, or what has changed since another. What is told is found out in
//! the pure core; nothing is executed but the plugins' descriptions of themselves, and nothing is written to the journal.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use downbeat_conductor::answers::Found;
use downbeat_journal::{RunFilter, StateFilter};
use downbeat_sandbox::Sandbox;
use downbeat_workflow::difference::Difference;
use downbeat_workflow::event::Event;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::BodyId;
use downbeat_workflow::preview::{Cached, Verdict, preview};

use crate::arguments::Plan;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::resume::load_plan;
use crate::run::gather_inputs;
use crate::talk;
use crate::workflow_file;

pub(crate) fn plan(place: &Place, arguments: &Plan) -> Result<Exit, Fault> {
    let (guard, sandbox) = (Guard::of(place)?, place.sandbox()?);
    let plan = workflow_file::load(&arguments.workflow, &arguments.with, &sandbox, &guard)?;
    let inputs = || gather_inputs(&plan, &arguments.input, arguments.inputs.as_deref());
    let Some(before) = &arguments.diff else {
        let mut preview = preview(&plan, inputs()?);
        foresee(place, &sandbox, &plan, &mut preview.steps);
        match arguments.json {
            true => talk::put_json(&serde_json::to_string(&preview).expect("a preview holds nothing that JSON can't"))?,
            false => talk::put(&preview.page())?,
        }
        return Ok(Exit::Success);
    };
    let (was, given) = find(place, &sandbox, before, &plan.name)?;
    let mut difference = Difference::of_plans(&was, &plan);
    let are_given = !arguments.input.is_empty() || arguments.inputs.is_some();
    if let Some(given) = given.filter(|_| are_given) {
        difference = difference.and_inputs(&given, &inputs()?);
    }
    match arguments.json {
        true => {
            talk::put_json(&serde_json::to_string(&difference).expect("a difference holds nothing that JSON can't"))?
        }
        false => talk::put(&difference.page())?,
    }
    Ok(if difference.is_empty() { Exit::Success } else { Exit::Changed })
}

/// Looks up what the cache has for the steps whose input is known.
fn foresee(
    place: &Place,
    sandbox: &Sandbox,
    plan: &downbeat_workflow::plan::Plan,
    steps: &mut [downbeat_workflow::preview::StepPreview],
) {
    let answers = place.answers();
    for step in steps {
        let runs = matches!(step.verdict, Verdict::Runs | Verdict::Depends(_));
        // What is in steps within others is not known before these begin.
        let no = plan.named_in(BodyId(0), &step.step).filter(|_| runs && step.input_is_known);
        if let (Some(Cached::Asked), Some(no)) = (&step.cache, no) {
            let key = downbeat_conductor::key(
                sandbox,
                plan,
                no,
                Path::new(&plan.directory),
                &step.input,
                &AtomicBool::new(false),
            );
            step.cache = Some(match key.map(|key| answers.peek(&key.digest)) {
                Ok(Found::Hit(entry)) => Cached::Hit(entry.origin),
                Ok(Found::Miss) => Cached::Miss,
                Ok(Found::Damaged(_)) => Cached::Miss,
                Err(reason) => Cached::Unusable(reason),
            });
        }
    }
}

/// The plan to compare with: of the latest run of the workflow, of a file, or of another run. Runs have inputs as well.
fn find(
    place: &Place,
    sandbox: &Sandbox,
    text: &str,
    workflow: &str,
) -> Result<(downbeat_workflow::plan::Plan, Option<Json>), Fault> {
    if text != "last" && workflow_file::is_path(text) {
        return Ok((workflow_file::load(Path::new(text), &[], sandbox, &Guard::of_looking(place)?)?, None));
    }
    let journal = place.observe()?;
    let run = match text {
        "last" => {
            let latest = RunFilter { workflow: Some(workflow.to_owned()), limit: Some(1), ..RunFilter::default() };
            journal.runs(&latest).map_err(Fault::engine)?.pop().ok_or_else(|| {
                Fault::new(Exit::Usage, format!("there is no run of `{workflow}` yet"))
                    .hint("`downbeat list` shows the runs")
            })?
        }
        id => find_run(&journal, Some(id), StateFilter::Any)?,
    };
    let records = journal.load(&run.id).map_err(Fault::engine)?.records;
    let given = records.into_iter().find_map(|record| match record.event {
        Event::RunCreated { inputs, .. } => Some(inputs),
        _ => None,
    });
    Ok((load_plan(&journal, &run.id)?, given))
}
