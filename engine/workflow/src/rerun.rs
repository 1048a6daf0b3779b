//! A run that does a part of another one again: which answers of the old run it takes over, and with which records it begins.
//!
//! The decision is about the steps of the old run. One is done again if it was asked for, did not succeed, was undone, differs
//! in today's plan or in the inputs that it sees, is an approval that was given on other inputs or another plan, or is behind one that is done again: needs it, or mentions it in a rule. What
//! is left is reused, a step with scopes as a whole, or, if something within it is done again, opened and looked into. Then the
//! old run's records are followed: the new run takes over what it would have begun at that moment itself, so that
//! needs, joins and rules are asked as ever, and what can't be taken over is simply done. Nothing is executed here, and no clock
//! is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::difference::own_keys;
use crate::event::{Event, Origin, Record, RunId, SkipReason, StepEnd, Timestamp};
use crate::json::Json;
use crate::plan::{BodyId, Plan, ScopeCount, Step, StepId, StepKind, StepNo, Work};
use crate::rule::Mention;
use crate::run::{Misplaced, Run, StepStatus};
use crate::scope::ScopeId;

/// What is to be done again, and of what.
#[derive(Clone, Copy)]
pub struct Again<'a> {
    /// The old run. It is over.
    pub old: &'a Run,
    /// All its records.
    pub records: &'a [Record],
    /// The plan of the new run: the old one's, or today's.
    pub plan: &'a Arc<Plan>,
    /// The inputs of the new run, accepted by its plan.
    pub inputs: &'a Json,
    /// Steps of the old run that are done again whatever became of them.
    pub from: &'a [StepId],
    /// Whether nobody here can tell that what the old run says is true: then nothing of it is taken over.
    pub is_hearsay: bool,
}

/// Why a step is done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody asked.
    Asked,
    /// It came to another end than success.
    Ended(StepEnd),
    /// What it did was taken back.
    Undone,
    /// These keys of it differ from those of the old run's plan.
    Changed(Vec<String>),
    /// Today's plan has no such step.
    Gone,
    /// It sees an input that differs.
    Input(String),
    /// Somebody's word, which was given on other inputs or on another plan.
    Word,
    /// Only what comes from elsewhere tells of it.
    Hearsay,
    /// It is behind this one, which is done again.
    Behind(StepId),
}

/// The decision.
#[derive(Clone, Debug, Default)]
pub struct Rerun {
    /// Steps of the old run that are done again, and why; of what is within one of them, nothing.
    pub again: BTreeMap<StepId, Why>,
    /// Steps whose scopes are opened anew though they themselves are not at fault: something within them is done again.
    opened: BTreeSet<StepId>,
}

/// The first records of the new run.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// From the creation on; never empty.
    pub records: Vec<Record>,
    /// The old run's steps whose answers are taken over, in the order in which they had ended.
    pub reused: Vec<StepId>,
    /// The new run, as it is after these records.
    pub run: Run,
}

impl Beginning {
    /// Whether a step that is left to the new run may look into its workspace.
    pub fn uses_workspace(&self) -> bool {
        let plan = self.run.plan();
        let own = (0..plan.own_steps().len() as u32).map(StepId).filter(|step| !self.run.has_ended(*step));
        let mut bodies = vec![false; plan.bodies.len() + 1];
        let mut left: Vec<StepNo> = own.map(|step| StepNo(step.0)).collect();
        while let Some(no) = left.pop() {
            match &plan.step(no).work {
                Work::Use(uses) if uses.grants.workspace => return true,
                Work::Open(opens) if !std::mem::replace(&mut bodies[opens.body.index()], true) => {
                    left.extend(plan.steps_of(opens.body).map(StepNo));
                }
                _ => (),
            }
        }
        false
    }
}

impl Again<'_> {
    /// Decides. Proportional to the old run's steps.
    pub fn decide(&self) -> Rerun {
        let inputs = changed_inputs(self.old.inputs(), self.inputs);
        let is_same_plan = self.old.plan().does_the_same(self.plan);
        let mut judge = Judge {
            again: *self,
            is_same_plan,
            counts_words: is_same_plan && inputs.is_empty(),
            edges: HashMap::new(),
            changes: HashMap::new(),
            found: Rerun::default(),
        };
        judge.scope(ScopeId::ROOT, BodyId(0), &inputs, false);
        let Rerun { again, mut opened } = judge.found;
        // Of what is within a step that is done again, nothing is told.
        let is_within = |step: StepId| {
            let mut here = self.old.scopes().place(self.old.scopes().scope(step)).opener;
            while let Some(opener) = here.filter(|opener| !again.contains_key(opener)) {
                here = self.old.scopes().place(self.old.scopes().scope(opener)).opener;
            }
            here.is_some()
        };
        opened.retain(|step| !is_within(*step));
        let within: BTreeSet<StepId> = again.keys().copied().filter(|step| is_within(*step)).collect();
        let again = again.into_iter().filter(|(step, _)| !within.contains(step)).collect();
        Rerun { again, opened }
    }

    /// Of these steps of the old run and those within them, the ones that worked in its workspace.
    pub fn workspace_users(&self, reused: &[StepId]) -> Vec<StepId> {
        let old = self.old;
        let mut users = Vec::new();
        let mut left = reused.to_vec();
        while let Some(step) = left.pop() {
            let uses = old.step(step).uses().is_some_and(|uses| uses.grants.workspace);
            users.extend((uses && matches!(old.status(step).0, StepStatus::Succeeded(_))).then_some(step));
            left.extend(old.scopes_of(step).iter().flat_map(|scope| old.scopes().steps_of(old.plan(), *scope)));
        }
        users.sort_unstable();
        users
    }

    /// What the new run begins with, at this time: its creation, and all that it takes over.
    pub fn begin(&self, rerun: &Rerun, id: RunId, seed: u64, at: Timestamp) -> Result<Beginning, Misplaced> {
        let mut created = Run::creation(self.plan, self.plan.to_json().1, self.inputs.clone(), seed);
        if let Event::RunCreated { rerun_of, .. } = &mut created {
            *rerun_of = Some(self.old.id().clone());
        }
        let created = Record { at, event: created };
        let mut run = Run::new(self.plan.clone(), id);
        run.apply(&created)?;
        let mut follower = Follower {
            again: *self,
            rerun,
            at,
            run,
            stories: Follower::stories(self.old, self.records),
            places: HashMap::from([(ScopeId::ROOT, ScopeId::ROOT)]),
            records: vec![created],
            reused: Vec::new(),
        };
        follower.follow(ScopeId::ROOT);
        let Follower { run, records, reused, .. } = follower;
        Ok(Beginning { records, reused, run })
    }
}

impl Rerun {
    /// The steps at which it begins, each with its reason: without those that are only behind others.
    pub fn roots(&self) -> impl Iterator<Item = (StepId, &Why)> {
        self.again.iter().filter(|(_, why)| !matches!(why, Why::Behind(_))).map(|(step, why)| (*step, why))
    }
}

impl Why {
    /// In a few words, of a run of this plan: "failed".
    pub fn in_words(&self, old: &Run) -> String {
        match self {
            Why::Asked => "asked for".to_owned(),
            Why::Ended(StepEnd::Failed) => "failed".to_owned(),
            Why::Ended(StepEnd::Cancelled) => "was cancelled".to_owned(),
            Why::Ended(StepEnd::Skipped) => "was skipped as its run or scope was ended".to_owned(),
            Why::Ended(StepEnd::Succeeded) => "succeeded".to_owned(),
            Why::Undone => "was undone".to_owned(),
            Why::Changed(keys) => format!("changed: {}", keys.join(", ")),
            Why::Gone => "is not in the file any more".to_owned(),
            Why::Input(name) => format!("sees the input `{name}`, which differs"),
            Why::Word => "was approved with other inputs or by another plan".to_owned(),
            Why::Hearsay => "was done elsewhere".to_owned(),
            Why::Behind(step) => format!("is behind {}", old.path(*step)),
        }
    }
}

/// The names of the inputs whose values differ.
fn changed_inputs(was: &Json, is: &Json) -> BTreeSet<String> {
    let (was, is) = (was.value(), is.value());
    let names = [&was, &is].into_iter().filter_map(|inputs| inputs.as_object()).flat_map(|object| object.keys());
    names.filter(|name| was.get(name.as_str()) != is.get(name.as_str())).cloned().collect()
}

struct Judge<'a> {
    again: Again<'a>,
    is_same_plan: bool,
    /// Whether approvals of the old run hold for the new one: nothing that was approved is another one now. A question need not
    /// mention what it is about, so that which inputs it sees says nothing.
    counts_words: bool,
    /// Of each body of the old plan, for each of its steps those that are right behind it.
    edges: HashMap<BodyId, Arc<Vec<Vec<StepNo>>>>,
    /// The keys that differ, by the steps of both plans.
    changes: HashMap<(StepNo, StepNo), Vec<String>>,
    found: Rerun,
}

impl Judge<'_> {
    /// Judges the steps of a scope against those of a body of the new plan. Answers whether all of it can be reused.
    /// `spared`: that a step of it did not succeed did not keep the scope's opener from succeeding.
    fn scope(&mut self, scope: ScopeId, body: BodyId, inputs: &BTreeSet<String>, spared: bool) -> bool {
        let old = self.again.old;
        let places = old.scopes();
        let steps: Vec<StepId> = places.steps_of(old.plan(), scope).collect();
        let steps: Vec<StepId> = steps.into_iter().filter(|step| kind(old, *step) != StepKind::Undo).collect();
        let mut behind = Vec::new();
        for step in &steps {
            match self.direct(*step, body, inputs, spared) {
                Some(why) => {
                    self.found.again.insert(*step, why);
                    behind.push(*step);
                }
                None if self.within(*step, body, inputs, spared) => (),
                None => {
                    // One that failed though nothing within it is at fault is begun anew.
                    if !self.found.again.contains_key(step) {
                        self.found.opened.insert(*step);
                    }
                    behind.push(*step);
                }
            }
        }
        let edges = self.edges_of(places.place(scope).body);
        let first = old.plan().steps_of(places.place(scope).body).start;
        let mut done: BTreeSet<StepId> = behind.iter().copied().collect();
        self.spread(scope, &edges, first, &mut behind, &mut done);
        // Always-steps come after all others.
        let ordinary = done.iter().copied().find(|step| kind(old, *step) == StepKind::Ordinary);
        if let Some(cause) = ordinary {
            let always = steps.iter().filter(|step| kind(old, **step) == StepKind::Always);
            for step in always.filter(|step| done.insert(**step)) {
                self.found.opened.remove(step);
                self.found.again.insert(*step, Why::Behind(cause));
            }
        }
        // A new step, or one that is gone.
        let planned = self.again.plan.steps_of(body).len();
        done.is_empty() && planned == old.plan().steps_of(places.place(scope).body).len()
    }

    fn spread(
        &mut self,
        scope: ScopeId,
        edges: &[Vec<StepNo>],
        first: u32,
        behind: &mut Vec<StepId>,
        done: &mut BTreeSet<StepId>,
    ) {
        let old = self.again.old;
        while let Some(step) = behind.pop() {
            let no = old.scopes().no(step);
            for later in &edges[(no.0 - first) as usize] {
                let later = old.scopes().life(old.plan(), scope, *later);
                let is_decided_by_it = old.unneeded_by(step) == Some(later) || old.withdrawn_by(step) == Some(later);
                if is_decided_by_it || self.found.again.contains_key(&later) {
                    continue;
                }
                self.found.opened.remove(&later);
                self.found.again.insert(later, Why::Behind(step));
                done.insert(later);
                behind.push(later);
            }
        }
    }

    /// Why a step is done again, for itself.
    fn direct(&mut self, step: StepId, body: BodyId, inputs: &BTreeSet<String>, spared: bool) -> Option<Why> {
        let old = self.again.old;
        if self.again.from.contains(&step) {
            return Some(Why::Asked);
        }
        let planned = old.step(step);
        let Some(now) = self.again.plan.named_in(body, &planned.name) else { return Some(Why::Gone) };
        if self.again.is_hearsay {
            return Some(Why::Hearsay);
        }
        if !self.is_same_plan {
            let keys = self.changed(old.scopes().no(step), now);
            if !keys.is_empty() {
                return Some(Why::Changed(keys));
            }
        }
        if !inputs.is_empty() {
            let seen = mentions(old.plan(), planned, false).into_iter().find_map(|mention| match mention {
                Mention::Input(name) => inputs.get(name).cloned(),
                Mention::AllInputs => inputs.first().cloned(),
                Mention::Step(_) | Mention::Secret(_) => None,
            });
            if let Some(name) = seen {
                return Some(Why::Input(name));
            }
        }
        let is_word = matches!(&planned.work, Work::Wait(wait) if wait.approval.is_some());
        if is_word && !self.counts_words && matches!(old.status(step).0, StepStatus::Succeeded(_)) {
            return Some(Why::Word);
        }
        if let Some(undo) = planned.undo {
            let undo = old.scopes().life(old.plan(), old.scopes().scope(step), undo);
            if old.status(undo).1 > 0 {
                return Some(Why::Undone);
            }
        }
        let has_scopes = !old.scopes_of(step).is_empty();
        let end = match old.status(step).0 {
            StepStatus::Succeeded(_) => return None,
            StepStatus::Skipped(
                SkipReason::NeedNotMet { .. }
                | SkipReason::TooFewNeedsMet { .. }
                | SkipReason::RuleFalse { .. }
                | SkipReason::NotNeeded { .. }
                | SkipReason::ScopeEnded { .. },
            ) => return None,
            StepStatus::Cancelled if old.unneeded_by(step).is_some() => return None,
            StepStatus::Cancelled | StepStatus::Skipped(_) if old.withdrawn_by(step).is_some() => return None,
            _ if spared || has_scopes => return None,
            StepStatus::Failed(_) => StepEnd::Failed,
            StepStatus::Skipped(_) => StepEnd::Skipped,
            _ => StepEnd::Cancelled,
        };
        Some(Why::Ended(end))
    }

    /// Whether all within a step can be reused, which is not to be done again for itself.
    fn within(&mut self, step: StepId, body: BodyId, inputs: &BTreeSet<String>, spared: bool) -> bool {
        let old = self.again.old;
        let scopes = old.scopes_of(step);
        if scopes.is_empty() {
            return true;
        }
        let planned = old.step(step);
        let now = self.again.plan.named_in(body, &planned.name).expect("a step that is not gone");
        let (Some(opens), Some(opened)) = (planned.opens(), self.again.plan.step(now).opens()) else { return true };
        let is_workflow = old.plan().body(opens.body).is_some_and(|body| body.workflow.is_some());
        let none = BTreeSet::new();
        let inputs = if is_workflow { &none } else { inputs };
        let has_succeeded = matches!(old.status(step).0, StepStatus::Succeeded(_));
        let spared = spared || old.unneeded_by(step).is_some() || old.withdrawn_by(step).is_some();
        let is_spared = spared || (has_succeeded && !opens.detached);
        let mut is_whole = true;
        for scope in scopes {
            let is_clean = self.scope(*scope, opened.body, inputs, is_spared);
            is_whole &= is_clean;
            if !is_clean && matches!(opens.scopes, ScopeCount::Rounds(_)) {
                // Each round sees the one before.
                break;
            }
        }
        match is_whole {
            true if !has_succeeded && !spared => {
                let is_failed = matches!(old.status(step).0, StepStatus::Failed(_));
                let end = if is_failed { StepEnd::Failed } else { StepEnd::Cancelled };
                self.found.again.insert(step, Why::Ended(end));
                false
            }
            whole => whole,
        }
    }

    fn changed(&mut self, was: StepNo, is: StepNo) -> Vec<String> {
        let (old, new) = (self.again.old.plan(), self.again.plan);
        let keys = self.changes.entry((was, is));
        keys.or_insert_with(|| own_keys(old, old.step(was), new, new.step(is))).clone()
    }

    fn edges_of(&mut self, body: BodyId) -> Arc<Vec<Vec<StepNo>>> {
        let plan = self.again.old.plan();
        let edges = self.edges.entry(body).or_insert_with(|| {
            let range = plan.steps_of(body);
            let mut edges = vec![Vec::new(); range.len()];
            let mut edge = |from: StepNo, to: StepNo| {
                if from != to {
                    edges[(from.0 - range.start) as usize].push(to);
                }
            };
            for no in range.clone().map(StepNo) {
                let step = plan.step(no);
                if step.undoes.is_some() {
                    continue;
                }
                step.needs.iter().for_each(|need| edge(need.step, no));
                if let Some(ScopeCount::Each(each)) = step.opens().map(|opens| &opens.scopes) {
                    each.from.iter().for_each(|from| edge(*from, no));
                }
                // Reused, it would end them before they had begun.
                step.cancels.iter().for_each(|target| edge(*target, no));
                for mention in mentions(plan, step, true) {
                    if let Mention::Step(name) = mention {
                        plan.named_in(body, name).into_iter().for_each(|seen| edge(seen, no));
                    }
                }
            }
            Arc::new(edges)
        });
        edges.clone()
    }
}

fn kind(run: &Run, step: StepId) -> StepKind {
    run.step(step).kind()
}

/// What a step looks at: in its own rules, and, if `deep`, in those of the steps that it opens, as far as they see what is
/// around it.
fn mentions<'p>(plan: &'p Plan, step: &'p Step, deep: bool) -> Vec<Mention<'p>> {
    let mut found = Vec::new();
    let mut steps = vec![step];
    while let Some(step) = steps.pop() {
        found.extend(step.when.iter().flat_map(|when| when.mentions()));
        match &step.work {
            Work::Use(uses) => found.extend(uses.with.mentions()),
            Work::Wait(wait) => {
                found.extend(wait.until.iter().flat_map(|until| until.mentions()));
                let question = wait.approval.as_ref().and_then(|approval| approval.question.as_ref());
                found.extend(question.into_iter().flat_map(|question| question.mentions()));
            }
            Work::Fail(message) => found.extend(message.mentions()),
            Work::Finish => (),
            Work::Open(opens) => {
                found.extend(opens.with.iter().flat_map(|with| with.mentions()));
                match &opens.scopes {
                    ScopeCount::One => (),
                    ScopeCount::Each(each) => {
                        found.extend(each.list.mentions());
                        found.extend(each.until.iter().flat_map(|until| until.mentions()));
                    }
                    ScopeCount::Rounds(rounds) => {
                        let rules = rounds.while_holds.iter().chain(&rounds.until);
                        found.extend(rules.flat_map(|rule| rule.mentions()));
                    }
                }
                if plan.body(opens.body).is_some_and(|body| body.workflow.is_none()) {
                    found.extend(plan.outputs_of(opens.body).iter().flat_map(|output| output.value.mentions()));
                    let within = plan.steps_of(opens.body).filter(|_| deep);
                    steps.extend(within.map(|no| plan.step(StepNo(no))));
                }
            }
        }
    }
    found
}

/// The step of which a record is followed.
fn told_of(event: &Event) -> Option<StepId> {
    match event {
        Event::AttemptSucceeded { step, .. }
        | Event::StepSucceeded { step, .. }
        | Event::StepReused { step, .. }
        | Event::CacheHit { step, .. }
        | Event::StepSkipped { step, .. }
        | Event::StepOpened { step } => Some(*step),
        _ => None,
    }
}

/// Records of a scope whose turn has not come, each with its number, by the step of the new run that they are about.
type Early<'a> = BTreeMap<StepId, Vec<(usize, &'a Record)>>;

/// Follows the old run's records in the new run: those of a scope in their order, what is within a step at once.
struct Follower<'a> {
    again: Again<'a>,
    rerun: &'a Rerun,
    at: Timestamp,
    run: Run,
    /// The old run's records of what became of the steps of each of its scopes.
    stories: Vec<Vec<&'a Record>>,
    /// The new run's scopes by the old one's.
    places: HashMap<ScopeId, ScopeId>,
    records: Vec<Record>,
    reused: Vec<StepId>,
}

impl<'a> Follower<'a> {
    /// What the records say of steps, by their scopes.
    fn stories(old: &Run, records: &'a [Record]) -> Vec<Vec<&'a Record>> {
        let mut stories = vec![Vec::new(); old.scopes().count()];
        for record in records {
            if let Some(step) = told_of(&record.event) {
                stories[old.scopes().scope(step).index()].push(record);
            }
        }
        stories
    }

    fn follow(&mut self, scope: ScopeId) {
        let mut early = Early::new();
        for (at, record) in std::mem::take(&mut self.stories[scope.index()]).into_iter().enumerate() {
            match self.takes_over(record) {
                true if early.is_empty() => (),
                true => {
                    let behind = self.behind(record, &mut early);
                    self.catch_up(behind, &mut early);
                }
                false => self.keep(at, record, &mut early),
            }
        }
        // What an end lets go on that is not needed there: always-steps, and what is ended with others.
        while !early.is_empty() {
            let left = std::mem::take(&mut early).into_values().flatten().collect();
            if !self.catch_up(left, &mut early) {
                break;
            }
        }
    }

    /// Takes over what waited, in the order in which it had happened, and what that lets go on. Answers whether there was any.
    fn catch_up(&mut self, mut ready: BTreeMap<usize, &'a Record>, early: &mut Early<'a>) -> bool {
        let mut any = false;
        while let Some((at, record)) = ready.pop_first() {
            match self.takes_over(record) {
                true => {
                    any = true;
                    ready.append(&mut self.behind(record, early));
                }
                false => self.keep(at, record, early),
            }
        }
        any
    }

    /// Keeps a record whose turn has not come. That happens only where something began as something else had begun, and not
    /// ended, which is taken over as a whole.
    fn keep(&self, at: usize, record: &'a Record, early: &mut Early<'a>) {
        if self.again.old.plan().has_starts()
            && let Some(now) = told_of(&record.event).and_then(|step| self.now(step))
        {
            early.entry(now).or_default().push((at, record));
        }
    }

    /// What waited for the step of this record.
    fn behind(&self, record: &Record, early: &mut Early<'a>) -> BTreeMap<usize, &'a Record> {
        let Some(step) = told_of(&record.event).and_then(|step| self.now(step)) else { return BTreeMap::new() };
        let (plan, scopes) = (self.run.plan(), self.run.scopes());
        let Some((scope, no)) = scopes.find(step) else { return BTreeMap::new() };
        let later = plan.dependents(no).iter().map(|(later, _)| scopes.life(plan, scope, *later));
        later.filter_map(|later| early.remove(&later)).flatten().collect()
    }

    /// Has the new run do what one of these records says, if it would. Answers whether it did.
    fn takes_over(&mut self, record: &Record) -> bool {
        let before = self.records.len();
        self.take_over(record);
        self.records.len() > before
    }

    fn take_over(&mut self, record: &Record) {
        match &record.event {
            Event::AttemptSucceeded { step, .. } | Event::StepSucceeded { step, .. } => self.succeeded(*step, record),
            Event::StepReused { step, origin, .. } | Event::CacheHit { step, origin, .. } => {
                self.reuse(*step, origin.clone());
            }
            Event::StepSkipped { step, .. } => self.same_end(*step),
            Event::StepOpened { step } if self.rerun.opened.contains(step) => self.open(*step),
            _ => (),
        }
    }

    /// Opens a step and looks into its scopes, of those that were tried again into the last try. An item that is done again
    /// keeps its place: where they are bounded and all are taken, the items after it are left to the new run.
    fn open(&mut self, step: StepId) {
        // A place in a pool is had by its line alone.
        let Some(now) = self.now(step).filter(|now| self.run.step(*now).pool().is_none()) else { return };
        let asked = self.run.asks(now, self.at).filter(|event| matches!(event, Event::StepOpened { .. }));
        if !asked.is_some_and(|event| self.apply(event)) {
            return;
        }
        let old = self.again.old;
        for (index, scope) in old.scopes_of(step).iter().enumerate() {
            let opened = ScopeId(self.run.scopes().count() as u32);
            if !self.apply(Event::ScopeOpened { step: now, index: index as u32 }) {
                return;
            }
            self.places.insert(*scope, opened);
            self.follow(*scope);
        }
    }

    /// The step of the new run that stands for one of the old.
    fn now(&self, step: StepId) -> Option<StepId> {
        let (scope, no) = self.again.old.scopes().find(step)?;
        let now = *self.places.get(&scope)?;
        let plan = self.run.plan();
        let no = plan.named_in(self.run.scopes().place(now).body, &self.again.old.plan().step(no).name)?;
        Some(self.run.scopes().life(plan, now, no))
    }

    fn succeeded(&mut self, step: StepId, record: &Record) {
        let old = self.again.old;
        match old.step(step).work {
            Work::Finish => self.same_end(step),
            // A block that was opened comes to its end by itself.
            Work::Open(_) if self.rerun.opened.contains(&step) => (),
            Work::Use(_) | Work::Open(_) | Work::Wait(_) => {
                let origin = Origin { run: old.id().clone(), step: old.path(step), at: record.at };
                self.reuse(step, Box::new(origin));
            }
            Work::Fail(_) => (),
        }
    }

    fn reuse(&mut self, step: StepId, origin: Box<Origin>) {
        if self.rerun.again.contains_key(&step) || self.again.old.step(step).undoes.is_some() {
            return;
        }
        let StepStatus::Succeeded(output) = self.again.old.status(step).0 else { return };
        let Some(now) = self.now(step) else { return };
        // Its rule is asked once more: it has to begin now, by itself.
        let begins = self.run.asks(now, self.at);
        let begins = begins.filter(|event| !matches!(event.ended_step(), Some(ended) if ended == now));
        let items = self.again.old.appended(step);
        if begins.is_some() && self.apply(Event::StepReused { step: now, output: output.clone(), items, origin }) {
            self.reused.push(step);
        }
    }

    /// What came to its end by a decision alone does so again.
    fn same_end(&mut self, step: StepId) {
        if self.rerun.again.contains_key(&step) {
            return;
        }
        let Some(now) = self.now(step) else { return };
        let ended = self.run.asks(now, self.at).filter(|event| event.ended_step() == Some(now));
        ended.map(|event| self.apply(event));
    }

    /// Whether the new run takes it in.
    fn apply(&mut self, event: Event) -> bool {
        let record = Record { at: self.at, event };
        let taken = self.run.apply(&record).is_ok();
        if taken {
            self.records.push(record);
        }
        taken
    }
}
