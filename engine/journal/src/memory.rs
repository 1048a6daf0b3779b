//! The journal in memory: the same answers without a disk, for tests and for measuring the engine by itself.
//!
//! An append is acknowledged when it returns and gone when the process is. Log lines are never dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp};
use tokio::sync::watch;

use crate::inbox::{Pending, Request, RequestError, RequestId};
use crate::log::{LogFilter, LogLine};
use crate::reader::{ReadError, RunFilter, RunSummary, StateFilter, choose};
use crate::record::{beginning_of, end_of};
use crate::upkeep::{DeleteError, Deleted, Deletion, Tidied};
use crate::{Append, AppendError, Create, Entry, Horizon, Position};

pub(crate) struct Memory {
    state: Mutex<State>,
    pub(crate) horizon: watch::Sender<Horizon>,
}

#[derive(Default)]
struct State {
    runs: Vec<Run>,
    by_id: HashMap<RunId, usize>,
    plans: HashMap<Digest, Arc<str>>,
    /// The appends of all runs, in order.
    log: Vec<Logged>,
    /// How many records they have.
    records: u64,
    /// Which run, and what.
    lines: Vec<(usize, LogLine)>,
    requests: BTreeMap<RequestId, Pending>,
    requests_ever: u64,
    deleted: Vec<Deleted>,
}

struct Run {
    id: RunId,
    plan: Digest,
    workflow: String,
    created: Timestamp,
    end: Option<(Outcome, Timestamp)>,
    /// As they were appended: one list of all records would be copied each time it has outgrown its place.
    appends: Vec<Vec<Record>>,
    version: u64,
    /// Its place stays, as others are counted on from it.
    is_deleted: bool,
}

/// An append as it stands in the log.
struct Logged {
    /// The position of its last record.
    last: u64,
    run: usize,
    append: usize,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory { state: Mutex::new(State::default()), horizon: watch::Sender::new(Horizon::default()) }
    }

    pub(crate) fn create(&self, create: Create) -> Result<u64, AppendError> {
        let mut state = self.state();
        if let Some(&run) = state.by_id.get(&create.run) {
            return Err(AppendError::conflict(&create.run, 0, state.runs[run].version));
        }
        let (workflow, created) = beginning_of(&create.records);
        let run = Run {
            id: create.run.clone(),
            plan: create.plan.clone(),
            workflow: workflow.to_owned(),
            created,
            end: None,
            appends: Vec::new(),
            version: 0,
            is_deleted: false,
        };
        let index = state.runs.len();
        state.runs.push(run);
        state.by_id.insert(create.run, index);
        state.plans.entry(create.plan).or_insert(create.plan_json);
        Ok(self.extend(state, index, create.records))
    }

    pub(crate) fn append(&self, append: Append) -> Result<u64, AppendError> {
        let mut state = self.state();
        let Some(&run) = state.by_id.get(&append.run) else { return Err(AppendError::NoSuchRun(append.run)) };
        let actual = state.runs[run].version;
        if actual != append.expected {
            return Err(AppendError::conflict(&append.run, append.expected, actual));
        }
        state.requests.retain(|id, pending| pending.run != append.run || !append.answers.contains(id));
        Ok(self.extend(state, run, append.records))
    }

    fn extend(&self, mut guard: MutexGuard<'_, State>, run: usize, records: Vec<Record>) -> u64 {
        let state = &mut *guard;
        let end = end_of(&records);
        let of_run = &mut state.runs[run];
        state.records += records.len() as u64;
        state.log.push(Logged { last: state.records, run, append: of_run.appends.len() });
        of_run.version += records.len() as u64;
        of_run.appends.push(records);
        let version = of_run.version;
        if end.is_some() {
            of_run.end = end;
            state.requests.retain(|_, pending| pending.run != of_run.id);
        }
        self.advance(guard);
        version
    }

    pub(crate) fn replay(&self, run: &RunId, after: u64, each: impl FnMut(Record)) -> Result<Digest, ReadError> {
        let (plan, records) = {
            let state = self.state();
            let run = &state.runs[state.run(run)?];
            (run.plan.clone(), run.appends.iter().flatten().skip(after as usize).cloned().collect::<Vec<_>>())
        };
        // Outside the lock: `each` may ask the journal something.
        records.into_iter().for_each(each);
        Ok(plan)
    }

    pub(crate) fn plan(&self, digest: &Digest) -> Result<String, ReadError> {
        let plan = self.state().plans.get(digest).map(|text| text.to_string());
        plan.ok_or_else(|| ReadError::NoSuchPlan(digest.clone()))
    }

    pub(crate) fn tail(&self, after: Position, limit: usize) -> Vec<Entry> {
        let state = self.state();
        let from = state.log.partition_point(|logged| logged.last <= after.0);
        let entries = state.log[from..].iter().flat_map(|logged| {
            let run = &state.runs[logged.run];
            let records = &run.appends[logged.append];
            let before = logged.last - records.len() as u64;
            (before + 1..).zip(records).map(|(position, record)| Entry {
                position: Position(position),
                run: run.id.clone(),
                record: record.clone(),
            })
        });
        entries.filter(|entry| entry.position > after).take(limit).collect()
    }

    pub(crate) fn runs(&self, filter: &RunFilter) -> Vec<RunSummary> {
        let wanted = |run: &&Run| {
            let outcome = run.end.map(|(outcome, _)| outcome);
            !run.is_deleted
                && filter.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
                && match filter.state {
                    StateFilter::Any => true,
                    StateFilter::Open => outcome.is_none(),
                    StateFilter::Ended => outcome.is_some(),
                    StateFilter::EndedAs(wanted) => outcome == Some(wanted),
                }
        };
        let state = self.state();
        let newest_first = state.runs.iter().rev().filter(wanted);
        newest_first.take(filter.limit.unwrap_or(usize::MAX)).map(Run::summary).collect()
    }

    pub(crate) fn summary(&self, run: &RunId) -> Result<RunSummary, ReadError> {
        let state = self.state();
        Ok(state.runs[state.run(run)?].summary())
    }

    pub(crate) fn find(&self, text: &str) -> Result<RunId, ReadError> {
        let state = self.state();
        let fits = |id: &&RunId| !text.is_empty() && (id.0.starts_with(text) || id.0.ends_with(text));
        let there = state.runs.iter().rev().filter(|run| !run.is_deleted).map(|run| &run.id);
        let mut ids: Vec<RunId> = there.filter(fits).cloned().collect();
        ids.sort_by_key(|id| &*id.0 != text);
        choose(text, ids)
    }

    pub(crate) fn append_log(&self, run: &RunId, lines: Vec<LogLine>) {
        let mut state = self.state();
        let Ok(run) = state.run(run) else { return };
        state.lines.extend(lines.into_iter().map(|line| (run, line)));
        self.advance(state);
    }

    pub(crate) fn load_log(&self, run: &RunId, filter: LogFilter) -> Result<Vec<(u64, LogLine)>, ReadError> {
        let state = self.state();
        let run = state.run(run)?;
        let numbered = (1..).zip(&state.lines).skip(filter.after as usize);
        let wanted = numbered.filter(|(_, (of, line))| *of == run && filter.step.is_none_or(|step| step == line.step));
        Ok(wanted.map(|(position, (_, line))| (position, line.clone())).collect())
    }

    pub(crate) fn request(&self, run: &RunId, request: Request) -> Result<RequestId, RequestError> {
        let mut state = self.state();
        let index = *state.by_id.get(run).ok_or_else(|| RequestError::NoSuchRun(run.clone()))?;
        if let Some((outcome, _)) = state.runs[index].end {
            return Err(RequestError::Ended { run: run.clone(), outcome });
        }
        state.requests_ever += 1;
        let id = RequestId(state.requests_ever);
        state.requests.insert(id, Pending { id, run: run.clone(), request });
        self.advance(state);
        Ok(id)
    }

    pub(crate) fn pending(&self, run: Option<&RunId>, after: RequestId) -> Vec<Pending> {
        let state = self.state();
        let wanted = state.requests.values().filter(|pending| pending.id > after);
        wanted.filter(|pending| run.is_none_or(|run| *run == pending.run)).cloned().collect()
    }

    pub(crate) fn delete(&self, deletion: &Deletion) -> Result<Vec<Deleted>, DeleteError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut places = Vec::with_capacity(deletion.runs.len());
        for run in &deletion.runs {
            let place = *state.by_id.get(run).ok_or_else(|| DeleteError::NoSuchRun(run.clone()))?;
            let end = state.runs[place].end.ok_or_else(|| DeleteError::NotOver(run.clone()))?;
            places.push((place, end));
        }
        let mut deleted = Vec::with_capacity(places.len());
        for (place, (outcome, finished)) in places {
            let run = &mut state.runs[place];
            (run.is_deleted, run.appends) = (true, run.appends.iter().map(|_| Vec::new()).collect());
            let mut lines = 0;
            for (_, line) in state.lines.iter_mut().filter(|(of, _)| *of == place) {
                (line.message, lines) = (String::new(), lines + 1);
            }
            state.by_id.remove(&run.id);
            deleted.push(Deleted {
                run: run.id.clone(),
                plan: run.plan.clone(),
                workflow: run.workflow.clone(),
                created: run.created,
                outcome,
                finished,
                records: run.version,
                lines,
                at: deletion.at,
                by: deletion.by.clone(),
            });
        }
        state.deleted.extend(deleted.iter().cloned());
        Ok(deleted)
    }

    pub(crate) fn tidy(&self) -> Tidied {
        let mut state = self.state();
        let kept: HashSet<Digest> =
            state.runs.iter().filter(|run| !run.is_deleted).map(|run| run.plan.clone()).collect();
        let before = state.plans.len();
        state.plans.retain(|plan, _| kept.contains(plan));
        Tidied { plans: (before - state.plans.len()) as u64, ..Tidied::default() }
    }

    pub(crate) fn deleted(&self, limit: usize) -> Vec<Deleted> {
        self.state().deleted.iter().rev().take(limit).cloned().collect()
    }

    pub(crate) fn texts(&self, but: &HashSet<RunId>, each: &mut dyn FnMut(&str)) {
        let state = self.state();
        let is_told = |run: &Run| !run.is_deleted && !but.contains(&run.id);
        let json = |event: &Event| serde_json::to_string(event).expect("an event holds nothing that JSON can't");
        for run in state.runs.iter().filter(|run| is_told(run)) {
            state.plans.get(&run.plan).into_iter().for_each(|plan| each(plan));
            run.appends.iter().flatten().for_each(|record| each(&json(&record.event)));
        }
        let lines = state.lines.iter().filter(|(run, _)| is_told(&state.runs[*run]));
        lines.for_each(|(_, line)| each(&line.message));
        for pending in state.requests.values().filter(|pending| !but.contains(&pending.run)) {
            each(&serde_json::to_string(&pending.request).expect("a request holds nothing that JSON can't"));
        }
    }

    /// Tells everybody who waits, after the lock is free.
    fn advance(&self, state: MutexGuard<'_, State>) {
        let reached =
            Horizon { event: Position(state.records), line: state.lines.len() as u64, request: state.requests_ever };
        drop(state);
        self.horizon.send_if_modified(|horizon| horizon.advance(reached));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn run(&self, run: &RunId) -> Result<usize, ReadError> {
        self.by_id.get(run).copied().ok_or_else(|| ReadError::NoSuchRun(run.clone()))
    }
}

impl Run {
    fn summary(&self) -> RunSummary {
        RunSummary {
            id: self.id.clone(),
            plan: self.plan.clone(),
            workflow: self.workflow.clone(),
            created: self.created,
            outcome: self.end.map(|(outcome, _)| outcome),
            finished: self.end.map(|(_, at)| at),
            version: self.version,
            last_event: self.appends.iter().flatten().next_back().map_or(self.created, |record| record.at),
        }
    }
}
