//! Lists that grow while they are worked on, and what becomes of a step with items whenever one of them has ended.
//!
//! What a running step appends is kept by the run, not by the step: it outlives the attempt that appended it, so that an
//! attempt that is repeated finds there what it appends again. Nothing here opens scopes or closes them: that is `family`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::decide::{failure, rule_failure};
use super::life::{Cut, Family, State, Supply};
use super::seen::Seen;
use super::{ITEMS_MAX, Run};
use crate::event::{Failure, FailureKind, StepEnd};
use crate::json::Json;
use crate::plan::{Each, Rest, ScopeCount, StepId, StepNo, Verdict};

/// Up to how many characters an item that is a text is told when it fails. 60: a name or a path, and no document.
const ITEM_NAMED_MAX: usize = 60;

/// What a step has appended, and who works on it.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    items: Vec<Arc<Value>>,
    /// The steps that began to work on it while it grew.
    fed: Vec<StepId>,
}

impl Run {
    /// How many items a step has appended, over all its attempts: those that it appends again are known.
    pub fn items_of(&self, step: StepId) -> usize {
        self.lists.get(&step).map_or(0, |list| list.items.len())
    }

    /// A running step appended to its list.
    pub(super) fn items_appended(&mut self, step: StepId, from: u32, items: &[Json]) -> Option<()> {
        let is_running = matches!(self.steps.get(step.index())?.state, State::Running);
        let known = self.items_of(step);
        let fits = from as usize == known && known + items.len() <= ITEMS_MAX;
        (is_running && fits && !items.is_empty()).then_some(())?;
        let list = self.lists.entry(step).or_default();
        list.items.extend(items.iter().map(|item| Arc::new(item.value())));
        for fed in list.fed.clone() {
            self.supply(fed);
        }
        Some(())
    }

    /// What a step has appended, in its order.
    pub(crate) fn appended(&self, step: StepId) -> Vec<Json> {
        let list = self.lists.get(&step);
        list.into_iter().flat_map(|list| &list.items).map(|item| Json::from((**item).clone())).collect()
    }

    /// A step is not executed: its list is taken over with its answer.
    pub(super) fn items_reused(&mut self, step: StepId, items: &[Json]) -> Option<()> {
        (items.len() <= ITEMS_MAX).then_some(())?;
        if !items.is_empty() {
            let items = items.iter().map(|item| Arc::new(item.value())).collect();
            self.lists.entry(step).or_default().items = items;
        }
        Some(())
    }

    /// A step begins to work on what others append, or have appended.
    pub(super) fn list_begins(&mut self, step: StepId, from: &[StepNo], family: &mut Family) {
        let scope = self.places.scope(step);
        family.sources = from.iter().map(|from| self.places.life(&self.plan, scope, *from)).collect();
        for source in &family.sources {
            if self.end_of(*source).is_none() {
                self.lists.entry(*source).or_default().fed.push(step);
            }
        }
        self.take_up(family);
    }

    /// A step has come to its end: what it has not appended by now never comes.
    pub(super) fn list_ends(&mut self, source: StepId) {
        let Some(list) = self.lists.get_mut(&source) else { return };
        for fed in std::mem::take(&mut list.fed) {
            self.supply(fed);
        }
    }

    /// Takes up what the sources of a list have given by now, and whether more may come.
    fn take_up(&self, family: &mut Family) {
        let given = |source: &StepId| self.lists.get(source).map_or(&[] as &[Arc<Value>], |list| list.items.as_slice());
        let count = family.sources.iter().map(|source| given(source).len()).min().unwrap_or(0);
        let old = family.items.len();
        match &family.sources[..] {
            [only] => family.items.extend_from_slice(&given(only)[old..count]),
            several => family.items.extend((old..count).map(|nth| {
                let parts = several.iter().map(|source| (*given(source)[nth]).clone());
                Arc::new(Value::Array(parts.collect()))
            })),
        }
        // What is behind the end of the shortest never becomes an item.
        let shortest = family.sources.iter().filter(|source| given(source).len() == count);
        family.supply = shortest.fold(Supply::Open, |found, source| match (found, self.supply_of(*source)) {
            (broken @ Supply::Broken(_), _) | (_, broken @ Supply::Broken(_)) => broken,
            (Supply::Whole, _) | (_, Supply::Whole) => Supply::Whole,
            (Supply::Open, Supply::Open) => Supply::Open,
        });
    }

    /// Whether more items of a step may come.
    fn supply_of(&self, source: StepId) -> Supply {
        let why = match (&self.steps[source.index()].state, self.end_of(source)) {
            (_, None) => return Supply::Open,
            (_, Some(StepEnd::Succeeded)) => return Supply::Whole,
            (State::Failed(failure), _) => format!("failed: {}", failure.message),
            (_, Some(StepEnd::Skipped)) => "was skipped".to_owned(),
            _ => "was cancelled".to_owned(),
        };
        Supply::Broken(format!("the list is not whole: `{}` {why}", self.path(source)))
    }

    /// More has come of the list of a step, or never will.
    fn supply(&mut self, step: StepId) {
        let life = &mut self.steps[step.index()];
        let is_open = matches!(life.state, State::Open);
        let Some(mut family) = life.family.take_if(|family| is_open && family.verdict.is_none()) else { return };
        self.take_up(&mut family);
        self.steps[step.index()].family = Some(family);
        self.settle(step);
        self.judge_items(step);
        self.look_again(step);
    }

    /// An item has ended, with its answer or a failure.
    pub(super) fn item_ended(&mut self, step: StepId, index: u32, ended: Result<Option<Json>, Failure>) {
        let plan = self.plan.clone();
        let Some(each) = each(&plan, self.places.no(step)) else { return };
        let family = self.family(step);
        match &ended {
            Ok(_) => family.met += 1,
            Err(failure) => {
                family.unmet += 1;
                family.first_failure.get_or_insert((index, failure.clone()));
            }
        }
        if let Some(until) = &each.until {
            let mut tally = family.tally.take().unwrap_or_else(|| Box::new(json!({ "outputs": [] })));
            tally["succeeded"] = family.met.into();
            tally["failed"] = family.unmet.into();
            if let (Ok(Some(answer)), Some(outputs)) = (&ended, tally["outputs"].as_array_mut()) {
                outputs.push(answer.value());
            }
            let holds = until.holds(&Seen::among_items(self, step, &tally));
            let family = self.family(step);
            family.tally = Some(tally);
            family.verdict = match holds {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(error) => Some(Err(rule_failure("until", &error))),
            };
        }
        self.judge_items(step);
    }

    /// Finds out what becomes of a step with items, as far as it is known.
    pub(super) fn judge_items(&mut self, step: StepId) {
        let plan = self.plan.clone();
        let Some(each) = each(&plan, self.places.no(step)) else { return };
        let family = self.family(step);
        // That more may come is as good as no end of items; a list that is not whole as good as an item that failed.
        let (of, unmet) = match &family.supply {
            Supply::Open => (u32::MAX, family.unmet),
            Supply::Whole => (family.items.len() as u32, family.unmet),
            Supply::Broken(_) => (family.items.len() as u32 + 1, family.unmet + 1),
        };
        if family.verdict.is_none() {
            let all_over = family.met + unmet == of;
            let is_early = each.rest == Rest::Cancel && each.until.is_none();
            match each.join.judge(of, family.met, unmet) {
                Verdict::Start => family.verdict = Some(Ok(())),
                Verdict::Never if all_over || is_early => family.verdict = Some(Err(items_failed(family))),
                Verdict::Never | Verdict::Open => (),
            }
        }
        if each.rest == Rest::Cancel && self.family(step).verdict.is_some() {
            self.cut_open_scopes(step, &Cut::Cancelled);
        }
    }
}

fn each(plan: &crate::plan::Plan, no: StepNo) -> Option<&Each> {
    match &plan.step(no).opens()?.scopes {
        ScopeCount::Each(each) => Some(each),
        ScopeCount::One | ScopeCount::Rounds(_) => None,
    }
}

fn items_failed(family: &Family) -> Failure {
    match (&family.first_failure, &family.supply) {
        (Some((index, first)), _) => {
            let (failed, of) = (family.unmet, family.items.len());
            let named = match &*family.items[*index as usize] {
                Value::String(name) if is_name(name) => format!(" ({name})"),
                Value::Number(number) => format!(" ({number})"),
                _ => String::new(),
            };
            let which = if failed == 1 { ":" } else { ", the first of them" };
            let message = format!("{failed} of {of} items failed{which} item {index}{named}: {}", first.message);
            Failure { details: first.details.clone(), ..failure(FailureKind::Scope, message) }
        }
        (None, Supply::Broken(why)) => failure(FailureKind::Scope, why.clone()),
        (None, _) => failure(FailureKind::Scope, "too few of its items succeeded".to_owned()),
    }
}

/// Whether an item is short enough to be told by itself, and on a line.
fn is_name(item: &str) -> bool {
    item.chars().count() <= ITEM_NAMED_MAX && !item.contains(char::is_control)
}
