//! A run as it was recorded, as a test may answer from it: how the attempts of each path ended and how long they took, with
//! which inputs and seed it began, and what came from outside. Where the records come from is whoever's plays the test.
//!
//! What a rehearsal has not is left out of its time: the wait for other runs of its group, and how long the run was paused.
//!
//! Taken as it is: a component that answered so may answer otherwise today, which is what the test is not about.

use std::collections::HashMap;
use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, Record, RunId};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId, Work};
use downbeat_workflow::run::{Misplaced, Run};

use crate::path::{Meaning, Named, StepPath};
use crate::rehearse::{Answer, Happening, What};

/// A recorded run.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The name of the workflow that it is of.
    pub(crate) workflow: String,
    /// By path: how its attempts ended, in their order. Those that an engine's end interrupted are none: they were carried
    /// out again.
    answers: HashMap<String, Vec<Answer>>,
    /// An object.
    pub(crate) inputs: Json,
    pub(crate) seed: u64,
    pub(crate) began_ms: u64,
    /// With the paths of steps, since today's plan may have other ones.
    outside: Vec<(u64, Heard)>,
}

/// What came from outside.
#[derive(Clone, Debug)]
enum Heard {
    Cancel,
    CancelStep(String),
    Signal { name: String, data: Json },
    Approval { step: String, approved: bool, by: String, note: String },
}

impl Recorded {
    /// Of a run's plan and records.
    pub fn of(plan: Arc<Plan>, records: &[Record]) -> Result<Recorded, Misplaced> {
        let run = Run::replay(plan, RunId("recorded".into()), records)?;
        let mut recorded = Recorded {
            workflow: run.plan().name.clone(),
            answers: HashMap::new(),
            inputs: Json::from(serde_json::Value::Object(serde_json::Map::new())),
            seed: 0,
            began_ms: records.first().map_or(0, |first| first.at.0),
            outside: Vec::new(),
        };
        let mut started: HashMap<(StepId, u32), u64> = HashMap::new();
        let mut lists: HashMap<StepId, Growing> = HashMap::new();
        // Since when the run is paused, and how long it was.
        let (mut paused, mut stood_ms) = (None, 0);
        for Record { at, event } in records {
            if matches!(event, Event::CancelRequested { .. }) {
                stood_ms += paused.take().map_or(0, |since| at.0.saturating_sub(since));
            }
            let at_ms = paused.map_or(at.0, |since: u64| since.min(at.0));
            let since = at_ms.saturating_sub(recorded.began_ms).saturating_sub(stood_ms);
            let heard = match event {
                Event::RunCreated { inputs, seed, .. } => {
                    (recorded.inputs, recorded.seed) = (inputs.clone(), *seed);
                    continue;
                }
                // Its other runs were waited for; a rehearsal has the group for itself.
                Event::RunAdmitted => {
                    (recorded.began_ms, paused, stood_ms) = (at.0, paused.map(|_| at.0), 0);
                    // What came while it was in line is there from the beginning.
                    recorded.outside.iter_mut().for_each(|(heard_ms, _)| *heard_ms = 0);
                    continue;
                }
                Event::Paused { step: None, .. } => {
                    paused = Some(at.0);
                    continue;
                }
                Event::Unpaused { step: None } => {
                    stood_ms += paused.take().map_or(0, |since| at.0.saturating_sub(since));
                    continue;
                }
                // As the attempt did whose answer was kept.
                Event::CacheHit { step, output, .. } => {
                    recorded.answer(run.path(*step), Ok(output.clone()), 0, Vec::new());
                    continue;
                }
                // As it answered, or what it heard, in the run that it was taken over from.
                Event::StepReused { step, output, items, .. } => match heard_there(&run, *step, output) {
                    Some(heard) => heard,
                    None => {
                        let appends = if items.is_empty() { Vec::new() } else { vec![(0, items.clone())] };
                        recorded.answer(run.path(*step), Ok(output.clone()), 0, appends);
                        continue;
                    }
                },
                Event::AttemptStarted { step, attempt } => {
                    started.insert((*step, *attempt), at.0);
                    if let Some(list) = lists.get_mut(step) {
                        list.since = at.0;
                        list.appends.clear();
                    }
                    continue;
                }
                Event::ItemsAppended { step, items, .. } => {
                    let since = started.iter().filter(|((of, _), _)| of == step).map(|(_, since)| *since).max();
                    let list = lists
                        .entry(*step)
                        .or_insert_with(|| Growing { since: since.unwrap_or(at.0), ..Growing::default() });
                    list.append(items, at.0);
                    continue;
                }
                Event::AttemptSucceeded { step, attempt, output, .. } => {
                    let took_ms = took(&mut started, *step, *attempt, at.0);
                    let appends = lists.remove(step).map_or_else(Vec::new, |list| list.appends);
                    recorded.answer(run.path(*step), Ok(output.clone()), took_ms, appends);
                    continue;
                }
                Event::AttemptFailed { step, attempt, failure, .. } => {
                    let took_ms = took(&mut started, *step, *attempt, at.0);
                    let appends = lists.get_mut(step).map_or_else(Vec::new, |list| std::mem::take(&mut list.appends));
                    recorded.answer(run.path(*step), Err(failure.clone()), took_ms, appends);
                    continue;
                }
                // It would have gone on: how it ends here is up to who cuts it, or its time-out.
                Event::AttemptCancelled { step, .. } => {
                    let appends = lists.remove(step).map_or_else(Vec::new, |list| list.appends);
                    recorded.answer(run.path(*step), Ok(Json::null()), u64::MAX, appends);
                    continue;
                }
                Event::SignalReceived { signal, data } => Heard::Signal { name: signal.clone(), data: data.clone() },
                Event::ApprovalGiven { step, approved, by, note, .. } => {
                    let (approved, by, note) = (*approved, by.clone(), note.clone());
                    Heard::Approval { step: run.path(*step), approved, by, note }
                }
                Event::StepCancelRequested { step, .. } => Heard::CancelStep(run.path(*step)),
                Event::CancelRequested { .. } => Heard::Cancel,
                _ => continue,
            };
            recorded.outside.push((since, heard));
        }
        Ok(recorded)
    }

    fn answer(&mut self, path: String, end: Result<Json, Failure>, took_ms: u64, appends: Vec<(u64, Vec<Json>)>) {
        self.answers.entry(path).or_default().push(Answer { end, took_ms, appends });
    }

    /// How the attempt at this path ended that was its `nth`, from 1.
    pub(crate) fn answer_at(&self, path: &str, nth: u32) -> Option<&Answer> {
        self.answers.get(path)?.get(nth.checked_sub(1)? as usize)
    }

    /// What came from outside and can come to something in this plan.
    pub(crate) fn happenings(&self, plan: &Plan) -> Vec<Happening> {
        let named = |text: &str| {
            let path = StepPath::parse(text)?;
            let no = path.find(plan, Meaning::Each).ok()?;
            Some(Named { path, no })
        };
        let what = |heard: &Heard| match heard {
            Heard::Cancel => Some(What::Cancel),
            Heard::CancelStep(step) => named(step).map(What::CancelSteps),
            Heard::Signal { name, data } => plan
                .signals
                .iter()
                .any(|signal| signal.name == *name)
                .then(|| What::Signal { name: name.clone(), data: data.clone() }),
            Heard::Approval { step, approved, by, note } => named(step).map(|steps| What::Approval {
                steps,
                approved: *approved,
                by: by.clone(),
                note: note.clone(),
            }),
        };
        self.outside.iter().filter_map(|(at_ms, heard)| Some(Happening { at_ms: *at_ms, what: what(heard)? })).collect()
    }
}

/// What a step appends.
#[derive(Default)]
struct Growing {
    /// When its latest attempt began.
    since: u64,
    /// Over all its attempts.
    items: Vec<Json>,
    /// Of its latest attempt, each after so many milliseconds.
    appends: Vec<(u64, Vec<Json>)>,
}

impl Growing {
    fn append(&mut self, items: &[Json], now: u64) {
        // What a repeated attempt appends again is not among the records.
        if self.appends.is_empty() && !self.items.is_empty() {
            self.appends.push((0, self.items.clone()));
        }
        self.items.extend_from_slice(items);
        self.appends.push((now.saturating_sub(self.since), items.to_vec()));
    }
}

/// What ended the waiting of a step whose answer was taken over from another run.
fn heard_there(run: &Run, step: StepId, output: &Json) -> Option<Heard> {
    let Work::Wait(wait) = &run.step(step).work else { return None };
    let told = output.value();
    let text = |key: &str| told[key].as_str().map(str::to_owned);
    match told["by"].as_str()? {
        "approval" => {
            Some(Heard::Approval { step: run.path(step), approved: true, by: text("who")?, note: text("note")? })
        }
        "signal" => {
            let name = run.plan().signals[wait.signal?.index()].name.clone();
            Some(Heard::Signal { name, data: Json::from(told["data"].clone()) })
        }
        _ => None,
    }
}

fn took(started: &mut HashMap<(StepId, u32), u64>, step: StepId, attempt: u32, now: u64) -> u64 {
    started.remove(&(step, attempt)).map_or(0, |at| now.saturating_sub(at))
}
