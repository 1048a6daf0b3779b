//! A recorded run, driven through another plan: whether that would have done the same, and if not, where it would first have
//! done something else.
//!
//! What came from outside (the ends of attempts, signals, words, cancels) is handed to both; what the run decided (starts,
//! skips, scopes, ends) is compared with what the other plan asks for at that moment. Steps are the same if they have the same
//! path, whatever the order of the file. Not compared: when something happened, for as long as it is allowed then, how
//! attempts queue, and whether the cache is asked before an attempt. Nothing is executed, and no cache is asked: a recorded
//! hit is one if the other plan asks for the answer to the same.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::description::Digest;
use crate::difference::own_keys;
use crate::event::{Event, NeedState, Outcome, Record, RunId, Timestamp};
use crate::inputs;
use crate::json::Json;
use crate::plan::{Plan, StepId};
use crate::preview::need_text;
use crate::run::{Action, Attempt, Claim, Misplaced, Run, StepStatus};
use crate::scope::{ScopeId, Scopes};

/// How many characters of a value are told. 200: two or three lines of a terminal.
const VALUE_SHOWN: usize = 200;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Replayed {
    /// The run.
    pub run: RunId,
    /// So many of its records were followed.
    pub followed: u64,
    /// So many there are.
    pub records: u64,
    /// Where the plan would have done something else; `None` if it does the same to the last record.
    pub divergence: Option<Divergence>,
}

/// Where it parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Divergence {
    /// The record, from 0, before or at which it parts.
    pub record: u64,
    /// When that was, in milliseconds since the run's creation.
    pub after_ms: u64,
    /// The step that it is about, by its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What the run did.
    pub recorded: String,
    /// What the plan would do instead.
    pub today: String,
    /// The keys of the step that differ between the plans.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

impl Replayed {
    /// In words, for people.
    pub fn page(&self) -> String {
        let Some(found) = &self.divergence else {
            return format!("the plan does the same as run {}: all of its {} records\n", self.run, self.records);
        };
        let mut page = format!("the plan parts from run {} at record {} of {}, ", self.run, found.record, self.records);
        page += &format!("{} after its creation\n", crate::units::duration(found.after_ms));
        let mut line = |key: &str, value: &str| page.push_str(&format!("  {key:10}{value}\n"));
        if let Some(step) = &found.step {
            line("step", step);
        }
        line("the run", &found.recorded);
        line("the plan", &format!("would {}", found.today));
        if !found.differs.is_empty() {
            line("differs", &found.differs.join(", "));
        }
        page
    }
}

/// Drives the records of a run of one plan through another.
pub fn replay(was: &Arc<Plan>, plan: &Arc<Plan>, id: &RunId, records: &[Record]) -> Result<Replayed, Misplaced> {
    let mut pair = Pair {
        old: Run::new(was.clone(), id.clone()),
        new: Run::new(plan.clone(), id.clone()),
        scopes: Scopes::new(was),
        to_new: HashMap::from([(ScopeId::ROOT, ScopeId::ROOT)]),
        to_old: HashMap::from([(ScopeId::ROOT, ScopeId::ROOT)]),
        now: Timestamp(0),
    };
    let created = records.first().map_or(0, |first| first.at.0);
    let all = records.len() as u64;
    for (index, record) in records.iter().enumerate() {
        pair.now = record.at;
        let parted = pair.follow(&record.event);
        // What a replay of the old plan refuses is no divergence but damage.
        pair.old.apply(record)?;
        if let Some(parted) = parted {
            let divergence = Divergence {
                record: index as u64,
                after_ms: record.at.0.saturating_sub(created),
                step: parted.step,
                recorded: parted.recorded,
                today: parted.today,
                differs: parted.differs,
            };
            return Ok(Replayed {
                run: id.clone(),
                followed: index as u64,
                records: all,
                divergence: Some(divergence),
            });
        }
    }
    let parted = if pair.old.outcome().is_none() { pair.something_else() } else { None };
    let divergence = parted.map(|parted| Divergence {
        record: all,
        after_ms: pair.now.0.saturating_sub(created),
        step: parted.step,
        recorded: "has no further record".to_owned(),
        today: parted.today,
        differs: parted.differs,
    });
    Ok(Replayed { run: id.clone(), followed: all, records: all, divergence })
}

struct Parted {
    step: Option<String>,
    recorded: String,
    today: String,
    differs: Vec<String>,
}

/// A run by both plans. The new one is where the old one was before the record that is followed.
struct Pair {
    old: Run,
    new: Run,
    /// The old run's, with what the record opens.
    scopes: Scopes,
    to_new: HashMap<ScopeId, ScopeId>,
    to_old: HashMap<ScopeId, ScopeId>,
    now: Timestamp,
}

impl Pair {
    fn follow(&mut self, event: &Event) -> Option<Parted> {
        let opened = self.scopes.take_in(self.old.plan(), event);
        let is_fact = matches!(
            event,
            Event::AttemptSucceeded { .. }
                | Event::AttemptFailed { .. }
                | Event::AttemptInterrupted { .. }
                | Event::AttemptCancelled { .. }
                | Event::ItemsAppended { .. }
                | Event::SignalReceived { .. }
                | Event::ApprovalGiven { .. }
                | Event::StepCancelRequested { .. }
                | Event::CancelRequested { .. }
                | Event::Paused { .. }
                | Event::Unpaused { .. }
                | Event::RunFinished { .. }
        );
        if is_fact && let Some(mut parted) = self.something_else() {
            parted.recorded = format!("did not: its next record is that {}", self.words(event));
            return Some(parted);
        }
        match event {
            Event::RunCreated { inputs, seed, group, .. } => self.created(inputs, *seed, group.is_some()),
            Event::RunAdmitted => self.admitted(),
            Event::RunFinished { outcome, outputs, .. } => self.finished(*outcome, outputs),
            Event::RunTimedOut => self.timed_out(event, None),
            Event::ScopeTimedOut { step, .. } => self.timed_out(event, Some(*step)),
            Event::AttemptStarted { step, .. } => self.started(*step, event),
            Event::AttemptQueued { step, .. } | Event::WaitQueued { step, .. } => self.queued(*step, event),
            // Opened at once without a pool, and in line when it opens with one.
            Event::ScopeQueued { step, index, .. } => {
                self.get_in_line(*step, *index);
                None
            }
            Event::AttemptCancelled { step, .. } => match self.now_of(*step) {
                Some(now) if !self.new.is_cut(now) => {
                    Some(self.parted(Some(*step), event, "let it go on: nothing ends it".to_owned()))
                }
                _ => self.hand_over(event),
            },
            Event::CacheAsked { step } => self.cache_asked(*step, event),
            Event::CacheHit { step, .. } => self.hit(*step, event),
            Event::StepReused { step, .. } => {
                let Some(now) = self.now_of(*step) else { return Some(self.gone(*step, event)) };
                let begins = self.new.would(now, self.now).and_then(|action| action.event());
                match begins {
                    Some(begins) if begins.ended_step() != Some(now) => self.hand_over(event),
                    _ => Some(self.other(*step, event, now)),
                }
            }
            Event::StepOpened { step }
            | Event::StepSucceeded { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepSkipped { step, .. }
            | Event::StepCancelled { step } => self.decided(*step, event),
            Event::ScopeOpened { step, index } => {
                let Some(now) = self.now_of(*step) else { return Some(self.gone(*step, event)) };
                self.get_in_line(*step, *index);
                let before = ScopeId(self.new.scopes().count() as u32);
                let same = Record { at: self.now, event: Event::ScopeOpened { step: now, index: *index } };
                if self.new.apply(&same).is_err() {
                    return Some(self.other(*step, event, now));
                }
                if let Some(scope) = opened {
                    self.to_new.insert(scope, before);
                    self.to_old.insert(before, scope);
                }
                None
            }
            Event::AttemptSucceeded { .. }
            | Event::AttemptFailed { .. }
            | Event::AttemptInterrupted { .. }
            | Event::ItemsAppended { .. }
            | Event::SignalReceived { .. }
            | Event::ApprovalGiven { .. }
            | Event::StepCancelRequested { .. }
            | Event::CancelRequested { .. }
            | Event::Paused { .. }
            | Event::Unpaused { .. } => self.hand_over(event),
            // What an attempt did on its way changes nothing for the run.
            Event::CapabilityUsed { .. } => None,
        }
    }

    fn created(&mut self, given: &Json, seed: u64, has_group: bool) -> Option<Parted> {
        let mut values = given.value().as_object().cloned().unwrap_or_default();
        values.retain(|_, value| !value.is_null());
        let inputs = match inputs::accept(self.new.plan(), values) {
            Ok(inputs) => inputs,
            Err(faults) => {
                return Some(Parted {
                    step: None,
                    recorded: format!("was given {}", shown(given)),
                    today: format!("not take these inputs: {}", faults.join("; ")),
                    differs: Vec::new(),
                });
            }
        };
        let digest: Digest = self.new.plan().to_json().1;
        let event = Run::creation(self.new.plan(), digest, inputs, seed);
        let applied = self.new.apply(&Record { at: self.now, event });
        debug_assert!(applied.is_ok(), "a new run can be created");
        // Groups are not compared: they are about other runs.
        if has_group { None } else { self.admitted() }
    }

    fn admitted(&mut self) -> Option<Parted> {
        if self.new.is_in_line() {
            let applied = self.new.apply(&Record { at: self.now, event: Event::RunAdmitted });
            debug_assert!(applied.is_ok(), "a run in line can be admitted");
        }
        None
    }

    /// An item or round gets in line, if the new plan has a pool for it and it is not there yet.
    fn get_in_line(&mut self, step: StepId, index: u32) {
        let Some(now) = self.now_of(step) else { return };
        if let Some(pool) = self.new.step(now).pool() {
            // In line already, it is not once more.
            let _ = self.new.apply(&Record { at: self.now, event: Event::ScopeQueued { step: now, index, pool } });
        }
    }

    fn finished(&mut self, outcome: Outcome, outputs: &Json) -> Option<Parted> {
        let event = Event::RunFinished { outcome, outputs: outputs.clone(), faults: Vec::new() };
        let asked = self.new.next(self.now, usize::MAX).into_iter().find_map(|action| action.event());
        match asked {
            Some(Event::RunFinished { outcome: today, outputs: answers, .. }) => {
                let same = today == outcome && answers.value() == outputs.value();
                let today = format!("end as {} with {}", outcome_word(today), shown(&answers));
                (!same).then(|| self.parted(None, &event, today))
            }
            Some(other) => {
                let today = self.would_words(&other);
                Some(self.parted(None, &event, today))
            }
            None => Some(self.parted(None, &event, "not be over".to_owned())),
        }
    }

    fn timed_out(&mut self, event: &Event, step: Option<StepId>) -> Option<Parted> {
        if let Some(step) = step.filter(|step| self.now_of(*step).is_none()) {
            return Some(self.gone(step, event));
        }
        let deadline = self.new.next_deadline().is_some_and(|(at, _)| *at <= self.now);
        match deadline {
            true => self.hand_over(event),
            false => Some(self.parted(step, event, "go on: no timeout has passed".to_owned())),
        }
    }

    fn queued(&mut self, step: StepId, event: &Event) -> Option<Parted> {
        let Some(now) = self.now_of(step) else { return Some(self.gone(step, event)) };
        match begins(&self.new, now, self.now) {
            Some(action @ Action::Queue { .. }) => self.take(&action),
            // Without a pool it begins when its place came.
            Some(Action::Start(_) | Action::Record(Event::StepOpened { .. })) => None,
            _ => Some(self.other(step, event, now)),
        }
    }

    fn started(&mut self, step: StepId, event: &Event) -> Option<Parted> {
        let Some(now) = self.now_of(step) else { return Some(self.gone(step, event)) };
        if let Some(queue @ Action::Queue { .. }) = begins(&self.new, now, self.now) {
            self.take(&queue);
        }
        let (before, after) = (asked(&self.old, step, self.now), asked(&self.new, now, self.now));
        let Some(action @ Action::Start(attempt)) = &after else { return Some(self.other(step, event, now)) };
        match self.other_attempt((step, before.as_ref()), (now, attempt)) {
            Some(today) => Some(self.parted(Some(step), event, format!("start it {today}"))),
            None => self.take(action),
        }
    }

    /// A plan that does not ask the cache comes to its attempt when the record does.
    fn cache_asked(&mut self, step: StepId, event: &Event) -> Option<Parted> {
        let Some(now) = self.now_of(step) else { return Some(self.gone(step, event)) };
        match self.new.would(now, self.now) {
            Some(action @ Action::Ask(_)) => self.take(&action),
            Some(Action::Queue { claim: Claim::Attempt(..), .. } | Action::Start(_)) => None,
            _ => Some(self.other(step, event, now)),
        }
    }

    fn hit(&mut self, step: StepId, event: &Event) -> Option<Parted> {
        let Some(now) = self.now_of(step) else { return Some(self.gone(step, event)) };
        let Some(Action::Ask(attempt)) = self.new.asked(now) else { return Some(self.other(step, event, now)) };
        match self.other_attempt((step, self.old.asked(step).as_ref()), (now, &attempt)) {
            Some(today) => Some(self.parted(Some(step), event, format!("ask the cache for its answer {today}"))),
            None => self.hand_over(event),
        }
    }

    /// In what the new plan's attempt is another one than the old plan's.
    fn other_attempt(&self, old: (StepId, Option<&Action>), new: (StepId, &Attempt)) -> Option<String> {
        let ((step, before), (now, attempt)) = (old, new);
        let (was, is) = (self.old.step(step).uses()?, self.new.step(now).uses()?);
        let component = |run: &Run, plugin: crate::plan::PluginId| {
            let component = &run.plan().plugins[plugin.index()].component;
            (component.digest.clone(), component.description.version.clone())
        };
        let (ran, runs) = (component(&self.old, was.plugin), component(&self.new, is.plugin));
        if ran.0 != runs.0 {
            return Some(format!("with another component: {} (version {}) and not {}", runs.0, runs.1, ran.0));
        }
        if let Some(Action::Start(before) | Action::Ask(before)) = before
            && before.input.value() != attempt.input.value()
        {
            return Some(format!("with the input {} and not {}", shown(&attempt.input), shown(&before.input)));
        }
        (!was.grants.are_those_of(&is.grants)).then(|| "with other grants".to_owned())
    }

    /// A decision without an attempt.
    fn decided(&mut self, step: StepId, event: &Event) -> Option<Parted> {
        let Some(now) = self.now_of(step) else { return Some(self.gone(step, event)) };
        if let Some(queue @ Action::Queue { .. }) = begins(&self.new, now, self.now) {
            self.take(&queue);
        }
        let asked = asked(&self.new, now, self.now);
        let same = asked
            .as_ref()
            .and_then(Action::event)
            .filter(|asked| std::mem::discriminant(asked) == std::mem::discriminant(event));
        match (same, asked) {
            (Some(_), Some(action)) => self.take(&action),
            _ => Some(self.other(step, event, now)),
        }
    }

    /// Takes in what the new plan asks for.
    fn take(&mut self, action: &Action) -> Option<Parted> {
        let event = action.event()?;
        let applied = self.new.apply(&Record { at: self.now, event });
        debug_assert!(applied.is_ok(), "a run takes in what it asks for");
        None
    }

    /// Hands a fact to the new run as well.
    fn hand_over(&mut self, event: &Event) -> Option<Parted> {
        let mut same = event.clone();
        if let Some(step) = step_of(&mut same) {
            match self.now_of(*step) {
                Some(now) => *step = now,
                None => return Some(self.gone(step_of(&mut event.clone()).copied()?, event)),
            }
        }
        match self.new.apply(&Record { at: self.now, event: same }) {
            Ok(()) => None,
            Err(_) => {
                let step = step_of(&mut event.clone()).copied();
                Some(match step.and_then(|step| Some((step, self.now_of(step)?))) {
                    Some((step, now)) => self.other(step, event, now),
                    None => self.parted(None, event, "have no use for it".to_owned()),
                })
            }
        }
    }

    /// What the new plan would decide now and the old did not.
    fn something_else(&self) -> Option<Parted> {
        let late = |run: &Run| run.next_deadline().is_some_and(|(at, _)| *at < self.now);
        if late(&self.new) && !late(&self.old) {
            let today = "be over by a timeout that has passed".to_owned();
            return Some(Parted { step: None, recorded: String::new(), today, differs: Vec::new() });
        }
        if self.new.due_count() == self.old.due_count() {
            return None;
        }
        let found = self.new.due().find(|step| {
            let was = self.was_of(*step);
            // Pools and caches are not compared: what is in line for one, or asks the other, may begin without.
            let is_pooled = |was: StepId| self.old.step(was).pool().is_some() || self.new.step(*step).pool().is_some();
            let stands = |was: StepId| self.old.is_due(was) || self.old.is_asking(was) || is_pooled(was);
            !was.is_some_and(stands) && self.new.would(*step, self.now).is_some()
        })?;
        let event = self.new.would(found, self.now)?.event()?;
        let differs = match self.was_of(found) {
            Some(was) => own_keys(self.old.plan(), self.old.step(was), self.new.plan(), self.new.step(found)),
            None => vec!["the step is new".to_owned()],
        };
        let step = Some(self.new.path(found));
        Some(Parted { step, recorded: String::new(), today: self.would_words(&event), differs })
    }

    fn now_of(&self, step: StepId) -> Option<StepId> {
        counterpart(self.old.plan(), &self.scopes, &self.to_new, &self.new, step)
    }

    fn was_of(&self, step: StepId) -> Option<StepId> {
        counterpart(self.new.plan(), self.new.scopes(), &self.to_old, &self.old, step)
    }

    fn gone(&self, step: StepId, event: &Event) -> Parted {
        Parted { differs: Vec::new(), ..self.parted(Some(step), event, "have no such step".to_owned()) }
    }

    /// It asks for something else of the step, or for nothing.
    fn other(&self, step: StepId, event: &Event, now: StepId) -> Parted {
        let today = match self.new.would(now, self.now).and_then(|action| action.event()) {
            Some(asked) => self.would_words(&asked),
            None => match self.new.status(now).0 {
                StepStatus::Waiting => format!("not be there yet: it waits for {}", self.missing(now)),
                StepStatus::Ready => "hold it back".to_owned(),
                StepStatus::Asking => "have asked the cache about it already".to_owned(),
                StepStatus::Queued | StepStatus::Running => "have it started already".to_owned(),
                StepStatus::Delayed(until) => {
                    let ms = until.0.saturating_sub(self.now.0);
                    format!("wait {} longer before the next attempt", crate::units::duration(ms))
                }
                StepStatus::Open => "still have steps within it open".to_owned(),
                StepStatus::Parked(_) => "still wait for somebody or something".to_owned(),
                StepStatus::Succeeded(_) => "have it over by now, with success".to_owned(),
                StepStatus::Failed(failure) => format!("have it over by now: failed: {}", failure.message),
                StepStatus::Skipped(reason) => {
                    format!("have skipped it: {}", reason.explain(self.new.plan(), self.new.scopes()))
                }
                StepStatus::Cancelled => "have it cancelled by now".to_owned(),
            },
        };
        self.parted(Some(step), event, today)
    }

    /// The needs of a step that are open, in the words of the file.
    fn missing(&self, step: StepId) -> String {
        let (plan, scopes) = (self.new.plan(), self.new.scopes());
        let scope = scopes.scope(step);
        let open = self.new.step(step).needs.iter();
        let open = open.filter(|need| {
            let needed = scopes.life(plan, scope, need.step);
            let has_begun = need.state == NeedState::Started && self.new.status(needed).1 > 0;
            !has_begun && !self.new.has_ended(needed)
        });
        let texts: Vec<String> = open.map(|need| format!("`{}`", need_text(plan, need))).collect();
        if texts.is_empty() { "its turn".to_owned() } else { texts.join(", ") }
    }

    fn parted(&self, step: Option<StepId>, event: &Event, today: String) -> Parted {
        let differs = step.and_then(|step| {
            let now = self.now_of(step)?;
            Some(own_keys(self.old.plan(), self.old.step(step), self.new.plan(), self.new.step(now)))
        });
        Parted {
            step: step.map(|step| self.scopes.path(self.old.plan(), step)),
            recorded: self.words(event),
            today,
            differs: differs.unwrap_or_default(),
        }
    }

    /// What a record says, without the step's name.
    fn words(&self, event: &Event) -> String {
        let name = |step: StepId| format!("`{}`", self.scopes.path(self.old.plan(), step));
        match event {
            Event::AttemptStarted { step, attempt } => format!("started attempt {attempt} of {}", name(*step)),
            Event::AttemptQueued { step, .. } | Event::WaitQueued { step, .. } | Event::ScopeQueued { step, .. } => {
                format!("put {} in line for its pool", name(*step))
            }
            Event::RunAdmitted => "its turn in its group came".to_owned(),
            Event::AttemptSucceeded { step, .. } | Event::StepSucceeded { step, .. } => {
                format!("{} succeeded", name(*step))
            }
            Event::AttemptFailed { step, failure, .. } | Event::StepFailed { step, failure } => {
                format!("{} failed: {}", name(*step), failure.message.lines().next().unwrap_or_default())
            }
            Event::AttemptInterrupted { step, .. } => format!("{} was interrupted", name(*step)),
            Event::AttemptCancelled { step, .. } | Event::StepCancelled { step } => {
                format!("{} was cancelled", name(*step))
            }
            Event::CapabilityUsed { step, used, .. } => {
                format!("{} used {}: {}", name(*step), used.capability, used.what)
            }
            Event::ItemsAppended { step, items, .. } => match items.len() {
                1 => format!("{} appended an item", name(*step)),
                count => format!("{} appended {count} items", name(*step)),
            },
            Event::StepSkipped { step, reason } => {
                format!("skipped {}: {}", name(*step), reason.explain(self.old.plan(), &self.scopes))
            }
            Event::CacheAsked { step } => format!("asked the cache about {}", name(*step)),
            Event::CacheHit { step, origin, .. } => {
                format!("answered {} from the cache, by run {}", name(*step), origin.run)
            }
            Event::StepReused { step, origin, .. } => format!("reused {} from run {}", name(*step), origin.run),
            Event::StepOpened { step } => format!("began {}", name(*step)),
            Event::ScopeOpened { step, index } => format!("opened scope {index} of {}", name(*step)),
            Event::ScopeTimedOut { step, .. } => format!("{} timed out", name(*step)),
            Event::ApprovalGiven { step, approved, by, .. } => {
                format!("{by} {} {}", if *approved { "approved" } else { "rejected" }, name(*step))
            }
            Event::SignalReceived { signal, .. } => format!("the signal `{signal}` came"),
            Event::StepCancelRequested { step, .. } => format!("the end of {} was asked for", name(*step)),
            Event::CancelRequested { .. } => "its end was asked for".to_owned(),
            Event::Paused { .. } => "it was paused".to_owned(),
            Event::Unpaused { .. } => "it was unpaused".to_owned(),
            Event::RunTimedOut => "it timed out".to_owned(),
            Event::RunCreated { .. } => "it was created".to_owned(),
            Event::RunFinished { outcome, outputs, .. } => {
                format!("ended as {} with {}", outcome_word(*outcome), shown(outputs))
            }
        }
    }

    /// What the new plan asks for, after "would".
    fn would_words(&self, event: &Event) -> String {
        match event {
            Event::AttemptStarted { attempt, .. } | Event::AttemptQueued { attempt, .. } => {
                format!("start its attempt {attempt}")
            }
            Event::CacheAsked { .. } => "ask the cache about it".to_owned(),
            Event::StepSkipped { reason, .. } => {
                format!("skip it: {}", reason.explain(self.new.plan(), self.new.scopes()))
            }
            Event::StepFailed { failure, .. } => format!("have it fail: {}", failure.message),
            Event::StepOpened { .. } => "begin it".to_owned(),
            Event::ScopeOpened { index, .. } => format!("open its scope {index}"),
            Event::StepSucceeded { .. } => "have it succeed".to_owned(),
            Event::StepCancelled { .. } => "cancel it".to_owned(),
            Event::RunFinished { outcome, .. } => format!("be over: {}", outcome_word(*outcome)),
            _ => "do something else".to_owned(),
        }
    }
}

/// What a run asks for about a step, in line or not.
fn asked(run: &Run, step: StepId, now: Timestamp) -> Option<Action> {
    run.start(run.claim(step)).or_else(|| begins(run, step, now))
}

/// How a run would begin a step if the cache had nothing for it.
fn begins(run: &Run, step: StepId, now: Timestamp) -> Option<Action> {
    match run.would(step, now) {
        Some(Action::Ask(_)) => run.missed(step),
        None if run.is_asking(step) => run.missed(step),
        would => would,
    }
}

/// The step of a run that has the path of one in another.
fn counterpart(
    plan: &Plan,
    scopes: &Scopes,
    places: &HashMap<ScopeId, ScopeId>,
    run: &Run,
    step: StepId,
) -> Option<StepId> {
    let (scope, no) = scopes.find(step)?;
    let there = *places.get(&scope)?;
    let (planned, body) = (plan.step(no), run.scopes().place(there).body);
    // What undoes a step has its name.
    let of = |name: &str| run.plan().named_in(body, name);
    let found = match planned.undoes {
        Some(undone) => run.plan().step(of(&plan.step(undone).name)?).undo?,
        None => of(&planned.name)?,
    };
    Some(run.scopes().life(run.plan(), there, found))
}

/// The step that a fact is about.
fn step_of(event: &mut Event) -> Option<&mut StepId> {
    match event {
        Event::AttemptSucceeded { step, .. }
        | Event::CacheHit { step, .. }
        | Event::AttemptFailed { step, .. }
        | Event::AttemptInterrupted { step, .. }
        | Event::AttemptCancelled { step, .. }
        | Event::ItemsAppended { step, .. }
        | Event::ScopeTimedOut { step, .. }
        | Event::StepReused { step, .. }
        | Event::ApprovalGiven { step, .. }
        | Event::StepCancelRequested { step, .. } => Some(step),
        Event::Paused { step, .. } | Event::Unpaused { step } => step.as_mut(),
        _ => None,
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::TimedOut => "timed out",
    }
}

fn shown(value: &Json) -> String {
    match value.as_str().char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &value.as_str()[..end]),
        None => value.as_str().to_owned(),
    }
}
