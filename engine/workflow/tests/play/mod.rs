//! Runs in virtual time: a workflow, a script of how its attempts end, and the log that must come out. Every scenario is
//! also played with a crash after each of its records: recovery must lead to the same ends, with no attempt recorded twice
//! and only those in flight repeated; and replay must give the run that was live.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{
    Event, Failure, FailureKind, Interruption, Origin, Outcome, Record, RunId, Timestamp, Usage,
};
use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::line::{self, Line};
use downbeat_workflow::plan::{Plan, PoolId, StepId};
use downbeat_workflow::run::{Action, Claim, Run, StepStatus};

use crate::plans::plan;

/// Plays `toml`, each attempt ending as its step's script says, and compares the log.
///
/// A script is a list of ends: `ok`, `ok={"json":1}`, `transient`, `transient:500` (with a retry-after of 500 ms), `permanent`,
/// `timeout`, each with `@ms` for how long the attempt takes (default 0). A step without a script succeeds at once.
/// The script `cache STEP` says what the cache has for a step, by the same rules: `hit={"json":1}` or `miss`, each with `@ms`
/// for how long it takes to find out; without one it has nothing.
/// The script `cancel @ms` cancels the run; `cancel PATH @ms` a step, `signal NAME @ms` sends a signal, `approve PATH @ms`
/// and `reject PATH @ms` give somebody's word, `pause @ms`, `unpause @ms` and `pause PATH @ms` hold back and let go; `admit @ms`
/// is when no other run of its group is left, which is at once without it. The script `items STEP` is what each attempt appends,
/// as `[1,2]@ms` after its start. A step in a scope has the script of its path, or else of its name.
pub(crate) fn check(toml: &str, script: &[(&str, &str)], expected: &str) {
    check_plan(&Arc::new(plan(toml)), script, expected);
}

/// The same of a plan.
pub(crate) fn check_plan(plan: &Arc<Plan>, script: &[(&str, &str)], expected: &str) {
    let live = Play::of(plan, script, None);
    assert_eq!(live.log.join("\n"), expected.trim_matches('\n'), "\nthe log differs");
    crash_everywhere(plan, script, &live);
}

/// Plays it again with a crash after each record, and compares with what was live.
pub(crate) fn crash_everywhere(plan: &Arc<Plan>, script: &[(&str, &str)], live: &Play) {
    crash_everywhere_after(plan, script, &live.records[..1], live);
}

/// The same of a run that begins with these records.
pub(crate) fn crash_everywhere_after(plan: &Arc<Plan>, script: &[(&str, &str)], beginning: &[Record], live: &Play) {
    for crash_after in beginning.len()..live.records.len() {
        let crashed = Play::from(plan, script, beginning, Some(crash_after));
        let story = || format!("crash after record {crash_after}: {:#?}", crashed.log);
        assert_eq!(crashed.outcome(), live.outcome(), "{}", story());
        assert_eq!(crashed.ends_by_path(), live.ends_by_path(), "{}", story());
        let mut seen = BTreeSet::new();
        for record in &crashed.records {
            if let Event::AttemptStarted { step, attempt } = record.event {
                assert!(seen.insert((step, attempt)), "attempt recorded twice: {}", story());
            }
        }
        assert!(crashed.performed <= live.performed + crashed.lost, "repeated more than was in flight: {}", story());
    }
}

/// Up to this many steps, replay is compared with the live run at every turn; beyond that, which costs the square of the
/// run's length, at the crash alone.
const STEPS_REPLAYED: usize = 50;

/// Of which attempt, from where on, what.
type Appended = (u32, usize, Vec<Json>);

pub(crate) struct Play {
    plan: Arc<Plan>,
    scripts: HashMap<String, Vec<String>>,
    pub(crate) run: Run,
    pub(crate) records: Vec<Record>,
    pub(crate) log: Vec<String>,
    now: u64,
    /// What comes from outside, by when.
    outside: VecDeque<(u64, String)>,
    /// Attempts in flight by when they end.
    flying: BTreeMap<(u64, u32), u32>,
    /// Steps that the cache is asked about by when it answers.
    asking: BTreeSet<(u64, u32)>,
    /// What attempts append: when, and the how many-th time of which step.
    appends: BTreeMap<(u64, u32, usize), Appended>,
    pools: BTreeMap<PoolId, Line<Claim>>,
    places: BTreeMap<Claim, PoolId>,
    /// Places that scopes and waits do not need any more.
    freed: Vec<Claim>,
    failures: HashMap<StepId, usize>,
    performed: usize,
    lost: usize,
}

impl Play {
    pub(crate) fn of(plan: &Arc<Plan>, script: &[(&str, &str)], crash_after: Option<usize>) -> Play {
        let inputs = inputs::accept(plan, serde_json::Map::new()).unwrap();
        let created = Run::creation(plan, plan.to_json().1, inputs, 1);
        Play::from(plan, script, &[Record { at: Timestamp(0), event: created }], crash_after)
    }

    /// The same from these records on, which are durable together.
    pub(crate) fn from(
        plan: &Arc<Plan>,
        script: &[(&str, &str)],
        beginning: &[Record],
        crash_after: Option<usize>,
    ) -> Play {
        let ends = |ends: &str| ends.split_whitespace().map(str::to_owned).collect();
        let scripts: HashMap<String, Vec<String>> =
            script.iter().map(|(step, list)| ((*step).to_owned(), ends(list))).collect();
        let is_outside = |key: &str| {
            ["cancel", "signal", "approve", "reject", "admit", "pause", "unpause"]
                .contains(&key.split(' ').next().unwrap())
        };
        let outside = scripts.iter().filter(|(key, _)| is_outside(key));
        let mut outside: Vec<(u64, String)> = outside
            .flat_map(|(key, times)| times.iter().map(|at| (at.trim_start_matches('@').parse().unwrap(), key.clone())))
            .collect();
        outside.sort();
        let mut play = Play {
            plan: plan.clone(),
            scripts,
            run: Run::new(plan.clone(), RunId("r".into())),
            records: Vec::new(),
            log: Vec::new(),
            now: 0,
            outside: outside.into(),
            flying: BTreeMap::new(),
            asking: BTreeSet::new(),
            appends: BTreeMap::new(),
            pools: lines(plan),
            places: BTreeMap::new(),
            freed: Vec::new(),
            failures: HashMap::new(),
            performed: 0,
            lost: 0,
        };
        let mut crash_after = crash_after;
        beginning.iter().for_each(|record| play.record(record.event.clone()));
        // Without a word on when, no other run has the group.
        let is_admitted = play.outside.iter().all(|(_, what)| what != "admit");
        for _ in 0..10_000 {
            if is_admitted && let Some(action) = play.run.start(Claim::Run) {
                play.record(action.event().unwrap());
            }
            let mut wake_at = None;
            loop {
                let actions = play.run.next(Timestamp(play.now), usize::MAX);
                let mut decided = false;
                for action in actions {
                    if crash_after.is_some_and(|after| play.records.len() >= after) {
                        break;
                    }
                    if let Action::WakeAt(at) = action {
                        wake_at = Some(at.0);
                        continue;
                    }
                    decided = true;
                    play.record(action.event().unwrap());
                    play.carry_out(action);
                }
                if crash_after.is_some_and(|after| play.records.len() >= after) {
                    crash_after = None;
                    play.crash();
                    continue;
                }
                if !decided {
                    break;
                }
            }
            if plan.steps.len() <= STEPS_REPLAYED {
                play.check_replay();
            }
            if play.run.outcome().is_some() {
                return play;
            }
            if play.cut() || play.release() || play.serve_all() {
                continue;
            }
            play.check_places();
            let next_end = play.flying.keys().next().map(|(at, _)| *at);
            let lines_open = play.pools.values().filter_map(Line::opens_at).map(|at| at.0).min();
            let next_answer = play.asking.first().map(|(at, _)| *at);
            let next_append = play.appends.keys().next().map(|(at, ..)| *at);
            let next_outside = play.outside.front().map(|(at, _)| *at);
            let at = [next_end, next_answer, wake_at, lines_open, next_append, next_outside]
                .into_iter()
                .flatten()
                .min()
                .expect("something is bound to happen");
            play.now = play.now.max(at);
            if let Some((_, what)) = play.outside.pop_front_if(|(at, _)| *at <= play.now) {
                play.hear(&what);
                play.cut();
            } else if next_answer.is_some_and(|answer| answer <= play.now) {
                play.answer();
            } else if next_append.is_some_and(|at| at <= play.now) {
                play.append();
            } else if next_end.is_some_and(|end| end <= play.now) {
                play.land();
            }
        }
        panic!("runaway: {:#?}", play.log);
    }

    fn record(&mut self, event: Event) {
        let record = Record { at: Timestamp(self.now), event };
        self.log.extend(self.line(&record.event));
        self.run.apply(&record).unwrap();
        self.freed.extend(self.run.freed());
        if let Event::AttemptFailed { step, .. } = record.event {
            *self.failures.entry(step).or_default() += 1;
        }
        self.records.push(record);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(attempt) => self.fly(attempt.step, attempt.attempt),
            Action::Ask(attempt) => self.ask(attempt.step),
            Action::Queue { claim, pool } => {
                // A scope that is tried again at once has given its place back before.
                self.release();
                self.get_in_line(claim, pool);
                self.serve(pool);
            }
            Action::Record(_) | Action::WakeAt(_) => (),
        }
    }

    fn get_in_line(&mut self, claim: Claim, pool: PoolId) {
        let priority = self.run.priority_of(claim);
        self.pools.get_mut(&pool).unwrap().join(priority, claim);
    }

    fn serve(&mut self, pool: PoolId) -> bool {
        let mut any = false;
        while let Some(claim) = self.pools.get_mut(&pool).unwrap().serve(Timestamp(self.now)) {
            any = true;
            let Some(action) = self.run.start(claim) else {
                self.pools.get_mut(&pool).unwrap().decline(Timestamp(self.now));
                continue;
            };
            let event = action.event().unwrap();
            let needs_place = event.ended_step().is_none();
            if needs_place {
                self.places.insert(claim, pool);
            } else {
                self.pools.get_mut(&pool).unwrap().decline(Timestamp(self.now));
            }
            self.record(event);
            self.carry_out(action);
        }
        any
    }

    fn serve_all(&mut self) -> bool {
        let mut any = false;
        for pool in (0..self.plan.pools.len() as u32).map(PoolId) {
            any |= self.serve(pool);
        }
        any
    }

    /// Gives back what scopes and waits do not need any more; whether there was anything.
    fn release(&mut self) -> bool {
        let freed = std::mem::take(&mut self.freed);
        freed.iter().for_each(|claim| self.give_back(*claim));
        !freed.is_empty()
    }

    /// No pool has more in it than its size, and who needs a place has one.
    fn check_places(&self) {
        let mut holding = self.run.holding();
        holding.sort();
        let are_attempts = |claim: &Claim| matches!(claim, Claim::Attempt(..));
        let have: Vec<(Claim, PoolId)> =
            self.places.iter().filter(|(claim, _)| !are_attempts(claim)).map(|(claim, pool)| (*claim, *pool)).collect();
        assert_eq!(have, holding, "{:#?}", self.log);
        for (pool, line) in &self.pools {
            let taken = self.places.values().filter(|taken| *taken == pool).count();
            assert_eq!(taken, line.taken() as usize, "{:#?}", self.log);
            assert!(taken <= self.plan.pools[pool.index()].size as usize, "{:#?}", self.log);
        }
    }

    fn fly(&mut self, step: StepId, attempt: u32) {
        self.performed += 1;
        let (_, took) = self.end_of(step);
        self.flying.insert((self.now + took, step.0), attempt);
        let path = self.run.path(step);
        let Some(appends) = self.scripts.get(&format!("items {path}")) else { return };
        let mut from = 0;
        for (nth, append) in appends.iter().enumerate() {
            let (items, after) = append.rsplit_once('@').unwrap();
            let items = Json::parse(items).unwrap().value();
            let items: Vec<Json> = items.as_array().unwrap().iter().cloned().map(Json::from).collect();
            let count = items.len();
            let at = self.now + after.parse::<u64>().unwrap();
            self.appends.insert((at, step.0, nth), (attempt, from, items));
            from += count;
        }
    }

    /// What is appended again by a repeated attempt is not appended.
    fn append(&mut self) {
        let ((_, step, _), (attempt, from, mut items)) = self.appends.pop_first().unwrap();
        let step = StepId(step);
        let known = self.run.items_of(step);
        items.drain(..items.len().min(known.saturating_sub(from)));
        if self.run.status(step) == (StepStatus::Running, attempt) && !items.is_empty() {
            self.record(Event::ItemsAppended { step, from: known as u32, items });
        }
    }

    fn ask(&mut self, step: StepId) {
        let (_, took) = self.scripted(step, "cache ", "miss");
        self.asking.insert((self.now + took, step.0));
    }

    fn answer(&mut self) {
        let (_, step) = self.asking.pop_first().unwrap();
        let step = StepId(step);
        let (answer, _) = self.scripted(step, "cache ", "miss");
        match answer.strip_prefix("hit=") {
            // Nobody waits for it any more.
            _ if !self.run.is_asking(step) => (),
            Some(output) => {
                let origin = Origin { run: RunId("earlier".into()), step: "it".into(), at: Timestamp(0) };
                let (output, key) = (Json::parse(output).unwrap(), Digest::of(b"key"));
                self.record(Event::CacheHit { step, output, key, origin: Box::new(origin) });
            }
            None => {
                let action = self.run.missed(step).unwrap();
                self.record(action.event().unwrap());
                self.carry_out(action);
            }
        }
    }

    /// How the current attempt of a step ends: by how many have failed, so that a repeated attempt ends the same way.
    fn end_of(&self, step: StepId) -> (String, u64) {
        self.scripted(step, "", "ok")
    }

    /// What the script of this prefix says of a step now.
    fn scripted(&self, step: StepId, prefix: &str, otherwise: &'static str) -> (String, u64) {
        let failures = self.failures.get(&step).copied().unwrap_or(0);
        let script = |name: &str| self.scripts.get(&[prefix, name].concat());
        let script = script(&self.run.path(step)).or_else(|| script(&self.run.step(step).name));
        let end = script.map_or(otherwise, |ends| &ends[failures.min(ends.len() - 1)]);
        end.split_once('@').map_or((end.into(), 0), |(end, took)| (end.into(), took.parse().unwrap()))
    }

    fn land(&mut self) {
        let ((_, step), attempt) = self.flying.pop_first().unwrap();
        let step = StepId(step);
        let (end, _) = self.end_of(step);
        let usage = Usage::default();
        let fail = |kind, retry_after_ms| Failure {
            kind,
            message: "scripted".into(),
            details: None,
            backtrace: None,
            retry_after_ms,
        };
        let (word, rest) = end.split_once([':', '=']).unwrap_or((&end, ""));
        let output = || if rest.is_empty() { Json::null() } else { Json::parse(rest).unwrap() };
        self.record(match word {
            "ok" => Event::AttemptSucceeded { step, attempt, output: output(), usage },
            "transient" => {
                Event::AttemptFailed { step, attempt, failure: fail(FailureKind::Transient, rest.parse().ok()), usage }
            }
            "timeout" => Event::AttemptFailed { step, attempt, failure: fail(FailureKind::TimedOut, None), usage },
            "permanent" => Event::AttemptFailed { step, attempt, failure: fail(FailureKind::Permanent, None), usage },
            other => panic!("no such end: {other}"),
        });
        self.give_back(Claim::Attempt(step, attempt));
    }

    fn hear(&mut self, what: &str) {
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        // What asks for a step that is not there, or is over, is refused before it is a record.
        let step = || self.run.step_at(rest);
        let (by, note) = ("ann".to_owned(), String::new());
        let event = match word {
            "cancel" if rest.is_empty() => Some(Event::CancelRequested { reason: "enough".into() }),
            "cancel" => step().map(|step| Event::StepCancelRequested { step, reason: "enough".into() }),
            // It may have been cancelled before its turn.
            "admit" => match self.run.start(Claim::Run) {
                Some(action) => action.event(),
                None => return,
            },
            "signal" => Some(Event::SignalReceived { signal: rest.to_owned(), data: Json::parse("1").unwrap() }),
            "approve" => step().map(|step| Event::ApprovalGiven { step, approved: true, by, note, uid: None }),
            "reject" => step().map(|step| Event::ApprovalGiven { step, approved: false, by, note, uid: None }),
            "pause" => Some(Event::Paused { step: (!rest.is_empty()).then(|| step().unwrap()), reason: "wait".into() }),
            "unpause" => Some(Event::Unpaused { step: (!rest.is_empty()).then(|| step().unwrap()) }),
            other => panic!("no such word: {other}"),
        };
        self.record(event.unwrap_or_else(|| panic!("there is no step `{rest}`")));
    }

    fn give_back(&mut self, claim: Claim) {
        if let Some(pool) = self.places.remove(&claim) {
            self.pools.get_mut(&pool).unwrap().give_back();
            self.serve(pool);
        }
    }

    /// Ends the attempts that should be; whether there were any.
    fn cut(&mut self) -> bool {
        let cut: Vec<(u64, u32)> =
            self.flying.keys().copied().filter(|(_, step)| self.run.is_cut(StepId(*step))).collect();
        for key in &cut {
            let (step, attempt) = (StepId(key.1), self.flying[key]);
            self.flying.remove(key);
            self.record(Event::AttemptCancelled { step, attempt, usage: Usage::default() });
            self.give_back(Claim::Attempt(step, attempt));
        }
        !cut.is_empty()
    }

    fn crash(&mut self) {
        self.check_replay();
        self.log.push("crash".into());
        self.lost += self.run.in_flight().len();
        self.run = Run::replay(self.plan.clone(), RunId("r".into()), &self.records).unwrap();
        self.flying.clear();
        self.asking.clear();
        self.appends.clear();
        self.places.clear();
        self.freed.clear();
        self.pools = lines(&self.plan);
        for (pool, at) in line::starts(&self.records) {
            self.pools.get_mut(&pool).unwrap().started(at);
        }
        for (claim, pool) in self.run.holding() {
            self.pools.get_mut(&pool).unwrap().hold();
            self.places.insert(claim, pool);
        }
        for (step, attempt) in self.run.in_flight() {
            self.record(Event::AttemptInterrupted { step, attempt, cause: Interruption::Crash });
        }
        for step in self.run.asking() {
            self.ask(step);
        }
        for (claim, pool) in self.run.queued() {
            self.get_in_line(claim, pool);
        }
        self.serve_all();
    }

    /// The journal alone gives the run that is live.
    fn check_replay(&self) {
        let replayed = Run::replay(self.plan.clone(), RunId("r".into()), &self.records).unwrap();
        let look = |run: &Run| {
            let steps: Vec<String> =
                (0..run.scopes().len()).map(|step| format!("{:?}", run.status(StepId(step as u32)))).collect();
            let next = run.next(Timestamp(self.now), usize::MAX);
            (steps, run.version(), run.outcome(), run.in_flight(), run.asking(), run.queued(), run.holding(), next)
        };
        assert_eq!(look(&replayed), look(&self.run));
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.run.outcome()
    }

    pub(crate) fn ends(&self) -> Vec<String> {
        let end = |index: usize| match self.run.status(StepId(index as u32)).0 {
            StepStatus::Succeeded(output) => format!("succeeded {output}"),
            StepStatus::Failed(failure) => format!("failed {:?}", failure.kind),
            other => format!("{other:?}"),
        };
        (0..self.run.scopes().len()).map(end).collect()
    }

    /// The same, whatever the order in which scopes opened.
    fn ends_by_path(&self) -> Vec<String> {
        let steps = (0..self.run.scopes().len()).map(|index| StepId(index as u32));
        let mut ends: Vec<String> = steps
            .map(|step| match self.run.status(step).0 {
                StepStatus::Succeeded(output) => format!("{} succeeded {output}", self.run.path(step)),
                StepStatus::Failed(failure) => format!("{} failed {:?}", self.run.path(step), failure.kind),
                StepStatus::Skipped(reason) => {
                    format!("{} skipped: {}", self.run.path(step), reason.explain(&self.plan, self.run.scopes()))
                }
                other => format!("{} {other:?}", self.run.path(step)),
            })
            .collect();
        ends.sort();
        ends
    }

    fn line(&self, event: &Event) -> Option<String> {
        told(&self.run, event).map(|text| format!("{} {text}", self.now))
    }
}

fn lines(plan: &Plan) -> BTreeMap<PoolId, Line<Claim>> {
    plan.pools.iter().enumerate().map(|(index, pool)| (PoolId(index as u32), Line::new(pool))).collect()
}

/// What an event says, in words. Nothing of a run's creation, and of how its attempts queue.
pub(crate) fn told(run: &Run, event: &Event) -> Option<String> {
    let name = |step: &StepId| run.path(*step);
    Some(match event {
        Event::RunAdmitted => format!("admitted to {}", run.group().unwrap_or("?")),
        Event::RunCreated { .. }
        | Event::AttemptQueued { .. }
        | Event::WaitQueued { .. }
        | Event::CapabilityUsed { .. }
        | Event::ScopeQueued { .. } => return None,
        Event::CacheAsked { step } => format!("{} asks", name(step)),
        Event::CacheHit { step, output, .. } => format!("{} hit: {output}", name(step)),
        Event::AttemptStarted { step, attempt } => format!("{}#{attempt}", name(step)),
        Event::AttemptSucceeded { step, .. } => format!("{} succeeded", name(step)),
        Event::AttemptFailed { step, failure, .. } => format!("{} failed: {:?}", name(step), failure.kind),
        Event::AttemptInterrupted { step, .. } => format!("{} interrupted", name(step)),
        Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => format!("{} cancelled", name(step)),
        Event::StepFailed { step, failure } => format!("{} failed: {}", name(step), failure.message),
        Event::StepSkipped { step, reason } => {
            format!("{} skipped: {}", name(step), reason.explain(run.plan(), run.scopes()))
        }
        Event::CancelRequested { reason } => format!("cancel: {reason}"),
        Event::ItemsAppended { step, from, items } => {
            let items: Vec<&str> = items.iter().map(Json::as_str).collect();
            format!("{} appends {from}: {}", name(step), items.join(" "))
        }
        Event::StepOpened { step } => format!("{} opened", name(step)),
        Event::ScopeOpened { step, index } => format!("{}[{index}]", name(step)),
        Event::ScopeTimedOut { step, index } => format!("{}[{index}] timed out", name(step)),
        Event::StepSucceeded { step, output: None } => format!("{} succeeded", name(step)),
        Event::StepSucceeded { step, output: Some(output) } => format!("{} succeeded: {output}", name(step)),
        Event::SignalReceived { signal, .. } => format!("signal {signal}"),
        Event::ApprovalGiven { step, approved, by, .. } => {
            format!("{by} {} {}", if *approved { "approved" } else { "rejected" }, name(step))
        }
        Event::StepReused { step, output, items, origin } => {
            let items = if items.is_empty() { String::new() } else { format!(" and {} items", items.len()) };
            format!("{} reused from {}: {output}{items}", name(step), origin.run)
        }
        Event::Paused { step, .. } => format!("paused {}", step.as_ref().map_or_else(|| "all".to_owned(), name)),
        Event::Unpaused { step } => format!("unpaused {}", step.as_ref().map_or_else(|| "all".to_owned(), name)),
        Event::StepCancelRequested { step, reason } => format!("cancel {}: {reason}", name(step)),
        Event::RunTimedOut => "timed out".into(),
        Event::RunFinished { outcome, outputs, faults } => {
            format!("{outcome:?} {outputs} {}", faults.join(", ")).trim_end().to_owned()
        }
    })
}

/// Drives a run as fast as can be, each attempt succeeding at once with its step's output (`null` without one).
pub(crate) fn quickly(plan: &Arc<Plan>, outputs: &[(&str, &str)]) -> Run {
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let apply = |run: &mut Run, event: Event| run.apply(&Record { at: Timestamp(0), event }).unwrap();
    apply(&mut run, Run::creation(plan, plan.to_json().1, Json::parse("{}").unwrap(), 1));
    let mut flying = Vec::new();
    while run.outcome().is_none() {
        let actions = run.next(Timestamp(0), 1_024);
        assert!(!actions.is_empty() || !flying.is_empty(), "nothing is bound to happen");
        for action in actions {
            let action = match action {
                Action::Ask(attempt) => run.missed(attempt.step).unwrap(),
                action => action,
            };
            apply(&mut run, action.event().unwrap());
            if let Action::Start(attempt) = action {
                flying.push((attempt.step, attempt.attempt));
            }
        }
        for (step, attempt) in flying.drain(..) {
            let output = outputs.iter().find(|(name, _)| *name == run.step(step).name);
            let output = output.map_or_else(Json::null, |(_, output)| Json::parse(*output).unwrap());
            apply(&mut run, Event::AttemptSucceeded { step, attempt, output, usage: Usage::default() });
        }
    }
    run
}
