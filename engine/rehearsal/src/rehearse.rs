//! The driver in virtual time: what `conductor` is to a live run, without its journal, tasks and clock. It asks the run
//! what should happen, lets whoever knows say how each attempt ends and after how long, and moves the time to the next
//! moment at which something does. Pools, time-outs and cancellation are as they are live; crashes are not rehearsed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, PoolId, StepId};
use downbeat_workflow::run::{Action, Attempt, Run};

use crate::timeline::duration;

/// How many records a rehearsal has at most. A million: what the largest workflow (100,000 steps) needs with two attempts
/// each, and a loop that never ends is noticed within seconds.
pub const RECORDS_MAX: usize = 1_000_000;

/// What a rehearsed run is called in its records and rules.
pub const RUN_ID: &str = "rehearsal";

/// How a run begins, and what reaches it from outside.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As [`inputs::accept`](downbeat_workflow::inputs::accept) returned them.
    pub inputs: Json,
    /// Where the jitter of retries comes from.
    pub seed: u64,
    /// When somebody asks for the run's end, in milliseconds since its creation. What ends at that very moment has ended.
    pub cancel_at_ms: Option<u64>,
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// With an output or a failure.
    pub end: Result<Json, Failure>,
    /// After so many milliseconds. If the step's `timeout` is shorter, that is how the attempt ends.
    pub took_ms: u64,
}

/// A run that was rehearsed. Its records begin at time 0.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Where it stands; it is over unless an attempt had no answer, or it was given up on.
    pub run: Run,
    /// All of them.
    pub records: Vec<Record>,
    /// What each attempt was given: `with`, its holes filled.
    pub inputs: BTreeMap<(StepId, u32), Json>,
    /// By [`PoolId`]: the most attempts that were in it at once.
    pub peaks: Vec<u32>,
    /// Attempts that nobody had an answer for: they were in flight until nothing else could happen.
    pub unanswered: Vec<(StepId, u32)>,
    /// Whether it was given up on, with [`RECORDS_MAX`] records.
    pub endless: bool,
}

impl Rehearsal {
    /// How long the run took, in virtual milliseconds.
    pub fn took_ms(&self) -> u64 {
        self.run.latest().0
    }
}

/// Drives a run of the plan to its end. `answer` says how an attempt ends; `None` if it does not know.
pub fn rehearse(plan: &Arc<Plan>, setting: &Setting, answer: &mut dyn FnMut(&Attempt) -> Option<Answer>) -> Rehearsal {
    let pool = |pool: &downbeat_workflow::plan::Pool| Pool { free: pool.size, size: pool.size, line: VecDeque::new() };
    let mut stage = Stage {
        plan,
        answer,
        now: 0,
        flights: BTreeMap::new(),
        started: 0,
        pools: plan.pools.iter().map(pool).collect(),
        has_ended: false,
        ending: (false, false),
        rehearsal: Rehearsal {
            run: Run::new(plan.clone(), RunId(RUN_ID.into())),
            records: Vec::new(),
            inputs: BTreeMap::new(),
            peaks: vec![0; plan.pools.len()],
            unanswered: Vec::new(),
            endless: false,
        },
    };
    stage.record(Run::creation(plan, plan.to_json().1, setting.inputs.clone(), setting.seed));
    stage.play(setting.cancel_at_ms);
    stage.rehearsal
}

struct Stage<'a> {
    plan: &'a Plan,
    answer: &'a mut dyn FnMut(&Attempt) -> Option<Answer>,
    now: u64,
    /// Attempts in flight, by when they end (`u64::MAX`: nobody knows) and in the order of their starts.
    flights: BTreeMap<(u64, u64), Flight>,
    started: u64,
    pools: Vec<Pool>,
    /// Whether a step came to its end when it was given its place.
    has_ended: bool,
    /// Whether the run was ending, and giving up, when it was last looked what is to be ended with it.
    ending: (bool, bool),
    rehearsal: Rehearsal,
}

struct Flight {
    step: StepId,
    attempt: u32,
    end: Option<Result<Json, Failure>>,
    place: Option<PoolId>,
}

struct Pool {
    free: u32,
    size: u32,
    line: VecDeque<StepId>,
}

impl Stage<'_> {
    fn play(&mut self, mut cancel_at: Option<u64>) {
        loop {
            let wake_at = self.decide();
            if self.rehearsal.run.outcome().is_some() || self.rehearsal.endless {
                return;
            }
            if self.cut() {
                continue;
            }
            let next_end = self.flights.keys().next().map(|(at, _)| *at).filter(|at| *at < u64::MAX);
            // What is in flight without an answer holds up all the rest.
            let Some(at) = [next_end, wake_at, cancel_at].into_iter().flatten().min() else { return };
            self.now = self.now.max(at);
            self.land();
            if cancel_at.is_some_and(|cancel| cancel <= self.now) {
                cancel_at = None;
                self.record(Event::CancelRequested { reason: "as the test says".to_owned() });
            }
        }
    }

    /// Lets the run decide until it has nothing more to say at this time; answers when it wants to be asked again.
    fn decide(&mut self) -> Option<u64> {
        loop {
            let mut wake_at = None;
            let mut decided = false;
            for action in self.rehearsal.run.next(Timestamp(self.now), usize::MAX) {
                match action {
                    Action::WakeAt(at) => wake_at = Some(at.0),
                    action => {
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
            Action::Queue { step, pool, .. } => {
                self.pools[pool.index()].line.push_back(step);
                self.serve(pool);
            }
            Action::Record(_) | Action::WakeAt(_) => (),
        }
        false
    }

    fn start(&mut self, attempt: Attempt, place: Option<PoolId>) {
        let answer = (self.answer)(&attempt).map(|answer| self.within_timeout(attempt.step, answer));
        let (step, number) = (attempt.step, attempt.attempt);
        self.rehearsal.inputs.insert((step, number), attempt.input);
        let at = answer.as_ref().map_or(u64::MAX, |answer| self.now.saturating_add(answer.took_ms));
        if answer.is_none() {
            self.rehearsal.unanswered.push((step, number));
        }
        let end = answer.map(|answer| answer.end);
        self.flights.insert((at, self.started), Flight { step, attempt: number, end, place });
        self.started += 1;
    }

    fn within_timeout(&self, step: StepId, answer: Answer) -> Answer {
        let step = self.plan.step(step);
        let timeout_ms = step.timeout_ms.unwrap_or(step.limits.time_ms);
        if answer.took_ms <= timeout_ms {
            return answer;
        }
        let message = format!("the attempt took longer than its timeout of {}", duration(timeout_ms));
        Answer { end: Err(failure(FailureKind::TimedOut, message)), took_ms: timeout_ms }
    }

    /// Ends what ends by now.
    fn land(&mut self) {
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flight = entry.remove();
            let (step, attempt, usage) = (flight.step, flight.attempt, Usage::default());
            match flight.end {
                Some(Ok(output)) => self.record(Event::AttemptSucceeded { step, attempt, output, usage }),
                Some(Err(failure)) => self.record(Event::AttemptFailed { step, attempt, failure, usage }),
                None => (),
            }
            self.give_back(flight.place);
        }
    }

    /// Ends what is in flight and not wanted any more, since the run is ending or a join is decided. Answers whether there
    /// was something.
    fn cut(&mut self) -> bool {
        let run = &self.rehearsal.run;
        let ending = (run.is_ending(), run.is_giving_up());
        // Most of the time there is nothing new to be ended, and much in flight.
        if std::mem::replace(&mut self.ending, ending) == ending && run.unneeded().next().is_none() {
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
            self.pools[pool.index()].free += 1;
            self.serve(pool);
        }
    }

    fn serve(&mut self, id: PoolId) {
        loop {
            let pool = &mut self.pools[id.index()];
            if pool.free == 0 {
                return;
            }
            let Some(step) = pool.line.pop_front() else { return };
            let Some(action) = self.rehearsal.run.start(step) else { continue };
            if self.carry_out(action, Some(id)) {
                let pool = &mut self.pools[id.index()];
                pool.free -= 1;
                let peak = &mut self.rehearsal.peaks[id.index()];
                *peak = (*peak).max(pool.size - pool.free);
            } else {
                self.has_ended = true;
            }
        }
    }

    fn record(&mut self, event: Event) {
        let record = Record { at: Timestamp(self.now), event };
        self.rehearsal.run.apply(&record).expect("what a run decides, and what ends that was started, can follow");
        self.rehearsal.records.push(record);
        self.rehearsal.endless |= self.rehearsal.records.len() >= RECORDS_MAX;
    }
}

/// A failure with nothing but its kind and its message.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), details: None, backtrace: None, retry_after_ms: None }
}
