//! The driver in virtual time: what `conductor` is to a live run, without its journal, tasks and clock. It asks the run
//! what should happen, lets whoever knows say how each attempt ends and after how long, and moves the time to the next
//! moment at which something does. Pools, time-outs and cancellation are as they are live; crashes are not rehearsed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::line::Line;
use downbeat_workflow::plan::{Plan, PoolId, StepId, StepNo, Work};
use downbeat_workflow::run::{Action, Attempt, Claim, Run, StepStatus};

use crate::path::Named;
use crate::timeline::duration;

/// How many records a rehearsal has at most. A million: what the largest workflow (100,000 steps) needs with two attempts
/// each, and a loop that never ends is noticed within seconds.
pub const RECORDS_MAX: usize = 1_000_000;

/// What those say who ask for an end in a rehearsal.
const REASON: &str = "as the test says";

/// What a rehearsed run is called in its records and rules.
pub const RUN_ID: &str = "rehearsal";

/// How a run begins, and what reaches it from outside.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As [`inputs::accept`](downbeat_workflow::inputs::accept) returned them.
    pub inputs: Json,
    /// When, in milliseconds since the Unix epoch: what steps that wait until a time are held against.
    pub begins_ms: u64,
    /// Where the jitter of retries comes from.
    pub seed: u64,
    /// What else comes from outside, in any order. What ends at that very moment has ended.
    pub outside: Vec<Happening>,
}

/// Something that comes from outside.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When, in milliseconds since the run's creation.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What comes from outside.
#[derive(Clone, Debug)]
pub enum What {
    /// Somebody asks for the run's end. Before anything is decided at that moment; the others come after that.
    Cancel,
    /// Somebody asks for the end of steps: those that are not over.
    CancelSteps(Named),
    /// A signal.
    Signal {
        /// Its name, which the plan has.
        name: String,
        /// What comes with it.
        data: Json,
    },
    /// Somebody's word on steps: those that wait for it.
    Approval {
        /// Which.
        steps: Named,
        /// Whether they go on.
        approved: bool,
        /// Who says so.
        by: String,
        /// What else they say; may be empty.
        note: String,
    },
}

/// An attempt that is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What the run wants.
    pub attempt: &'a Attempt,
    /// What the step is in the plan.
    pub no: StepNo,
    /// Where the step is in the run.
    pub path: &'a str,
    /// Which attempt it is at this path, from 1: when a scope is tried again, those of its earlier tries count.
    pub nth: u32,
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// With an output or a failure.
    pub end: Result<Json, Failure>,
    /// After so many milliseconds. If the step's `timeout` is shorter, that is how the attempt ends.
    pub took_ms: u64,
    /// The items that it appends until then, each after so many milliseconds, in the order of time. Those that an earlier
    /// attempt has appended are not appended again.
    pub appends: Vec<(u64, Vec<Json>)>,
}

/// A run that was rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Where it stands; it is over unless an attempt had no answer, a step waits for what
    /// never comes, or it was given up on.
    pub run: Run,
    /// All of them.
    pub records: Vec<Record>,
    /// What each attempt was given: `with`, its holes filled.
    pub inputs: BTreeMap<(StepId, u32), Json>,
    /// By [`PoolId`]: the most attempts, scopes and waits that had a place in it at once.
    pub peaks: Vec<u32>,
    /// Attempts that nobody had an answer for, each with which one it was at its path: they were in flight until nothing else
    /// could happen.
    pub unanswered: Vec<(StepId, u32)>,
    /// What came from outside and met nobody, by its place in the setting, and why.
    pub unheard: Vec<(usize, String)>,
    /// Whether it was given up on, with [`RECORDS_MAX`] records.
    pub endless: bool,
}

impl Rehearsal {
    /// How long the run took, in virtual milliseconds.
    pub fn took_ms(&self) -> u64 {
        self.records.first().map_or(0, |first| self.run.latest().0 - first.at.0)
    }
}

/// Drives a run of the plan to its end. `answer` says how an attempt ends; `None` if it does not know.
pub fn rehearse(
    plan: &Arc<Plan>,
    setting: &Setting,
    answer: &mut dyn FnMut(&Asked<'_>) -> Option<Answer>,
) -> Rehearsal {
    let mut stage = Stage {
        answer,
        now: setting.begins_ms,
        flights: BTreeMap::new(),
        appends: BTreeMap::new(),
        started: 0,
        nth: HashMap::new(),
        pools: plan.pools.iter().map(Line::new).collect(),
        places: HashMap::new(),
        freed: Vec::new(),
        has_ended: false,
        rehearsal: Rehearsal {
            run: Run::new(plan.clone(), RunId(RUN_ID.into())),
            records: Vec::new(),
            inputs: BTreeMap::new(),
            peaks: vec![0; plan.pools.len()],
            unanswered: Vec::new(),
            unheard: Vec::new(),
            endless: false,
        },
    };
    stage.record(Run::creation(plan, plan.to_json().1, setting.inputs.clone(), setting.seed));
    stage.play(setting);
    stage.rehearsal
}

struct Stage<'a> {
    answer: &'a mut dyn FnMut(&Asked<'_>) -> Option<Answer>,
    now: u64,
    /// Attempts in flight, by when they end (`u64::MAX`: nobody knows) and in the order of their starts.
    flights: BTreeMap<(u64, u64), Flight>,
    /// What is to be appended, by when and in the order of the attempts' starts.
    appends: BTreeMap<(u64, u64, usize), Appended>,
    started: u64,
    /// How many attempts were started at each path.
    nth: HashMap<String, u32>,
    /// By [`PoolId`].
    pools: Vec<Line<Claim>>,
    /// Those of scopes and of waits.
    places: HashMap<Claim, PoolId>,
    /// Who does not need theirs any more.
    freed: Vec<Claim>,
    /// Whether a step came to its end when it was given its place.
    has_ended: bool,
    rehearsal: Rehearsal,
}

struct Appended {
    step: StepId,
    attempt: u32,
    /// How many items the attempt has appended before.
    from: usize,
    items: Vec<Json>,
}

struct Flight {
    step: StepId,
    attempt: u32,
    end: Option<Result<Json, Failure>>,
    place: Option<PoolId>,
}

impl Stage<'_> {
    fn play(&mut self, setting: &Setting) {
        let mut to_come: Vec<(usize, &Happening)> = setting.outside.iter().enumerate().collect();
        to_come.sort_by_key(|(_, happening)| happening.at_ms);
        let mut to_come = VecDeque::from(to_come);
        let time = |happening: &Happening| setting.begins_ms.saturating_add(happening.at_ms);
        loop {
            let wake_at = self.decide();
            if self.rehearsal.run.outcome().is_some() || self.rehearsal.endless {
                break;
            }
            if self.cut() || self.release() || self.serve_all() {
                continue;
            }
            let lines_open = self.pools.iter().filter_map(Line::opens_at).map(|at| at.0).min();
            let next_end = self.flights.keys().next().map(|(at, _)| *at).filter(|at| *at < u64::MAX);
            let next_append = self.appends.keys().next().map(|(at, ..)| *at);
            let next_heard = to_come.front().map(|(_, happening)| time(happening));
            // What is in flight without an answer, and what waits for nobody, holds up all the rest.
            let moments = [next_end, wake_at, next_append, next_heard, lines_open];
            let Some(at) = moments.into_iter().flatten().min() else { return };
            let has_passed = at > self.now;
            self.now = self.now.max(at);
            // Before its end, which may be at the same moment.
            if self.append() {
                continue;
            }
            let has_landed = self.land();
            let now = self.now;
            let is_due = |happening: &Happening| time(happening) <= now;
            let cancel =
                |(_, happening): &(usize, &Happening)| is_due(happening) && matches!(happening.what, What::Cancel);
            if let Some(place) = to_come.iter().position(cancel) {
                to_come.remove(place);
                self.record(Event::CancelRequested { reason: REASON.to_owned() });
            } else if !has_passed && !has_landed {
                // By now it is decided what begins and ends at this moment.
                if let Some((place, happening)) = to_come.pop_front_if(|(_, happening)| is_due(happening)) {
                    self.hear(place, happening);
                }
            }
        }
        for (place, happening) in to_come {
            if matches!(happening.what, What::CancelSteps(_) | What::Approval { .. }) {
                self.rehearsal.unheard.push((place, "the run was over by then".to_owned()));
            }
        }
    }

    /// Something comes from outside.
    fn hear(&mut self, place: usize, happening: &Happening) {
        let lives = |named: &Named| named.lives(&self.rehearsal.run);
        let run = &self.rehearsal.run;
        let waits = |step: StepId| {
            let asks = matches!(&run.step(step).work, Work::Wait(wait) if wait.approval.is_some());
            asks && matches!(run.status(step).0, StepStatus::Parked(_))
        };
        let is_over = |step: StepId| {
            use StepStatus::{Cancelled, Failed, Skipped, Succeeded};
            matches!(run.status(step).0, Succeeded(_) | Failed(_) | Skipped(_) | Cancelled)
        };
        let (named, events): (Option<&Named>, Vec<Event>) = match &happening.what {
            What::Cancel => (None, vec![Event::CancelRequested { reason: REASON.to_owned() }]),
            What::Signal { name, data } => {
                (None, vec![Event::SignalReceived { signal: name.clone(), data: data.clone() }])
            }
            What::CancelSteps(named) => {
                let steps = lives(named).into_iter().map(|life| life.latest()).filter(|step| !is_over(*step));
                let event = |step| Event::StepCancelRequested { step, reason: REASON.to_owned() };
                (Some(named), steps.map(event).collect())
            }
            What::Approval { steps: named, approved, by, note } => {
                let steps = lives(named).into_iter().map(|life| life.latest()).filter(|step| waits(*step));
                let event = |step| Event::ApprovalGiven {
                    step,
                    approved: *approved,
                    by: by.clone(),
                    note: note.clone(),
                    uid: None,
                };
                (Some(named), steps.map(event).collect())
            }
        };
        let stands = named.map(|named| stands(run, named)).unwrap_or_default();
        let mut is_heard = false;
        for event in events {
            is_heard |= self.offer(event);
        }
        if !is_heard {
            self.rehearsal.unheard.push((place, stands));
        }
    }

    /// Lets the run decide until it has nothing more to say at this time; answers when it wants to be asked again.
    fn decide(&mut self) -> Option<u64> {
        // No other run has the group: there is none.
        if let Some(action) = self.rehearsal.run.start(Claim::Run) {
            self.carry_out(action, None);
        }
        loop {
            let mut wake_at = None;
            let mut decided = false;
            for action in self.rehearsal.run.next(Timestamp(self.now), usize::MAX) {
                match action {
                    Action::WakeAt(at) => wake_at = Some(at.0),
                    action => {
                        // What steps answer is said by the test: nothing is kept, and nothing asked for.
                        let action = match action {
                            Action::Ask(attempt) => match self.rehearsal.run.missed(attempt.step) {
                                Some(action) => action,
                                None => continue,
                            },
                            action => action,
                        };
                        decided = true;
                        self.carry_out(action, None);
                        // What came of a place may have decided otherwise about the rest; it is asked again.
                        if std::mem::take(&mut self.has_ended) {
                            break;
                        }
                    }
                }
            }
            if !decided || self.rehearsal.endless {
                return wake_at;
            }
        }
    }

    /// Records the action and does it. Answers whether an attempt was started.
    fn carry_out(&mut self, action: Action, place: Option<PoolId>) -> bool {
        if let Some(event) = action.event() {
            self.record(event);
        }
        match action {
            Action::Start(attempt) => {
                self.start(attempt, place);
                return true;
            }
            Action::Queue { claim, pool } => {
                // A scope that is tried again at once has given its place back before.
                self.release();
                self.pools[pool.index()].join(self.rehearsal.run.priority_of(claim), claim);
                self.serve(pool);
            }
            Action::Ask(_) | Action::Record(_) | Action::WakeAt(_) => (),
        }
        false
    }

    fn start(&mut self, attempt: Attempt, place: Option<PoolId>) {
        let (step, number) = (attempt.step, attempt.attempt);
        let (path, no) = (self.rehearsal.run.path(step), self.rehearsal.run.scopes().no(step));
        let nth = self.nth.get(&path).map_or(1, |before| before + 1);
        let answer = (self.answer)(&Asked { attempt: &attempt, no, path: &path, nth });
        let mut answer = answer.map(|answer| self.within_timeout(step, answer));
        self.nth.insert(path, nth);
        self.rehearsal.inputs.insert((step, number), attempt.input);
        let at = answer.as_ref().map_or(u64::MAX, |answer| self.now.saturating_add(answer.took_ms));
        let mut from = 0;
        for (nth, (after_ms, items)) in answer.iter_mut().flat_map(|answer| answer.appends.drain(..)).enumerate() {
            let count = items.len();
            let key = (self.now.saturating_add(after_ms), self.started, nth);
            self.appends.insert(key, Appended { step, attempt: number, from, items });
            from += count;
        }
        if answer.is_none() {
            self.rehearsal.unanswered.push((step, nth));
        }
        let end = answer.map(|answer| answer.end);
        self.flights.insert((at, self.started), Flight { step, attempt: number, end, place });
        self.started += 1;
    }

    fn within_timeout(&self, step: StepId, answer: Answer) -> Answer {
        let step = self.rehearsal.run.step(step);
        let uses = step.uses().expect("only a step that uses a component has attempts");
        let timeout_ms = step.timeout_ms.unwrap_or(uses.limits.time_ms);
        if answer.took_ms <= timeout_ms {
            return answer;
        }
        let message = format!("the attempt took longer than its timeout of {}", duration(timeout_ms));
        Answer { end: Err(failure(FailureKind::TimedOut, message)), took_ms: timeout_ms, ..answer }
    }

    /// Appends what is to be appended first, if it is time. Answers whether there was something.
    fn append(&mut self) -> bool {
        let Some(entry) = self.appends.first_entry().filter(|entry| entry.key().0 <= self.now) else { return false };
        let Appended { step, attempt, from, mut items } = entry.remove();
        let run = &self.rehearsal.run;
        let known = run.items_of(step);
        items.drain(..items.len().min(known.saturating_sub(from)));
        // An attempt that is over appends nothing any more.
        if run.status(step) == (StepStatus::Running, attempt) && !items.is_empty() {
            self.record(Event::ItemsAppended { step, from: known as u32, items });
        }
        true
    }

    /// Ends what ends by now. Answers whether there was something.
    fn land(&mut self) -> bool {
        let mut any = false;
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flight = entry.remove();
            any = true;
            let (step, attempt, usage) = (flight.step, flight.attempt, Usage::default());
            match flight.end {
                Some(Ok(output)) => self.record(Event::AttemptSucceeded { step, attempt, output, usage }),
                Some(Err(failure)) => self.record(Event::AttemptFailed { step, attempt, failure, usage }),
                None => (),
            }
            self.give_back(flight.place);
        }
        any
    }

    /// Ends what is in flight and not wanted any more, since its scope is ending or a join is decided. Answers whether there
    /// was something.
    fn cut(&mut self) -> bool {
        let run = &self.rehearsal.run;
        // Most of the time there is nothing to be ended, and much in flight.
        if run.unwanted().next().is_none() {
            return false;
        }
        let unwanted = self.flights.iter().filter(|(_, flight)| run.is_cut(flight.step));
        let unwanted: Vec<(u64, u64)> = unwanted.map(|(key, _)| *key).collect();
        for key in &unwanted {
            let Some(Flight { step, attempt, place, .. }) = self.flights.remove(key) else { continue };
            self.record(Event::AttemptCancelled { step, attempt, usage: Usage::default() });
            self.give_back(place);
        }
        !unwanted.is_empty()
    }

    fn give_back(&mut self, place: Option<PoolId>) {
        if let Some(pool) = place {
            self.pools[pool.index()].give_back();
            self.serve(pool);
        }
    }

    /// Gives back what scopes and waits do not need any more. Answers whether there was something.
    fn release(&mut self) -> bool {
        let freed = std::mem::take(&mut self.freed);
        for claim in &freed {
            let pool = self.places.remove(claim);
            self.give_back(pool);
        }
        !freed.is_empty()
    }

    /// Lets in whom rates do not keep out any more. Answers whether there was somebody.
    fn serve_all(&mut self) -> bool {
        let mut any = false;
        for pool in (0..self.pools.len() as u32).map(PoolId) {
            any |= self.serve(pool);
        }
        any
    }

    fn serve(&mut self, id: PoolId) -> bool {
        let now = Timestamp(self.now);
        let mut any = false;
        while let Some(claim) = self.pools[id.index()].serve(now) {
            any = true;
            let action = self.rehearsal.run.start(claim);
            let begins = |action: &Action| action.event().is_some_and(|event| event.ended_step().is_none());
            let Some(action) = action else {
                self.pools[id.index()].decline(now);
                continue;
            };
            if begins(&action) {
                let peak = &mut self.rehearsal.peaks[id.index()];
                *peak = (*peak).max(self.pools[id.index()].taken());
                if !matches!(claim, Claim::Attempt(..)) {
                    self.places.insert(claim, id);
                }
                // What a scope lets start may come before what was decided when it was not open.
                self.has_ended |= !self.carry_out(action, Some(id));
            } else {
                self.pools[id.index()].decline(now);
                self.carry_out(action, None);
                self.has_ended = true;
            }
        }
        any
    }

    fn record(&mut self, event: Event) {
        let is_taken = self.offer(event);
        assert!(is_taken, "what a run decides, and what ends that was started, can follow");
    }

    /// Records the event if it can follow; answers whether it does.
    fn offer(&mut self, event: Event) -> bool {
        let record = Record { at: Timestamp(self.now), event };
        if self.rehearsal.run.apply(&record).is_err() {
            return false;
        }
        self.freed.extend(self.rehearsal.run.freed());
        self.rehearsal.records.push(record);
        self.rehearsal.endless |= self.rehearsal.records.len() >= RECORDS_MAX;
        true
    }
}

/// How a step that was meant stands, in words.
fn stands(run: &Run, named: &Named) -> String {
    let path = &named.path;
    let Some(life) = named.lives(run).pop() else { return format!("there was no `{path}` at that time") };
    let words = match run.status(life.latest()).0 {
        StepStatus::Waiting | StepStatus::Ready => "had not begun",
        StepStatus::Asking => "asked the cache",
        StepStatus::Queued => "waited for its pool",
        StepStatus::Running => "ran",
        StepStatus::Delayed(_) => "was about to be tried again",
        StepStatus::Open => "had begun",
        StepStatus::Parked(_) => "waited, and had been answered",
        StepStatus::Succeeded(_) => "had succeeded",
        StepStatus::Failed(_) => "had failed",
        StepStatus::Skipped(_) => "had been skipped",
        StepStatus::Cancelled => "had been cancelled",
    };
    format!("`{}` {words} at that time", life.path)
}

/// A failure with nothing but its kind and its message.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), details: None, backtrace: None, retry_after_ms: None }
}
