//! What tests never tried: steps that never ran, rules that were never true or never false, lists that were never empty,
//! steps for a failure of others whose failure never came. A fold over the records of a workflow's rehearsals; what is in a
//! scope counts however often it was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use downbeat_workflow::event::{Event, FailureKind, NeedState, Record, SkipReason, StepEnd};
use downbeat_workflow::history::History;
use downbeat_workflow::plan::{Each, Plan, Rounds, ScopeCount, Step, StepId, StepNo, Work};
use downbeat_workflow::scope::Scopes;
use serde::Serialize;

use crate::path::{only_step, paths};

/// What was tried of a workflow.
#[derive(Clone, Debug)]
pub struct Coverage {
    runs: usize,
    steps: Vec<Tried>,
}

/// What was tried of a step of the plan.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    ran: bool,
    failed: bool,
    /// Whether it was started in a run in which a step failed whose failure it needs.
    handled: bool,
    /// Whether its `when` was true in some run, and false in some.
    when: Seen,
    /// The same of the rules of its `repeat`.
    while_holds: Seen,
    until: Seen,
    /// Whether its list had no item, and more than one.
    was_empty: bool,
    had_several: bool,
    /// Whether somebody approved, and somebody rejected.
    word: Seen,
}

/// Which of its values a rule had.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    yes: bool,
    no: bool,
}

/// What was never tried, by paths of steps, without indices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gaps {
    /// How many steps there are, but for those that undo others.
    pub steps: usize,
    /// How many rules `when`, `while` and `until` there are.
    pub rules: usize,
    /// How many steps need the failure of another one.
    pub failure_handlers: usize,
    /// Steps that were never started.
    pub never_ran: Vec<String>,
    /// Steps whose `when` was never true.
    pub never_true: Vec<String>,
    /// Steps whose `when` was never false.
    pub never_false: Vec<String>,
    /// Steps that need the failure of another one, be it among others, and were never started after one.
    pub failure_handlers_never_ran: Vec<String>,
    /// Steps that may be tried again, and never failed.
    pub retries_never_needed: Vec<String>,
    /// Steps whose `while` was never true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub while_never_true: Vec<String>,
    /// Steps whose `while` was never false.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub while_never_false: Vec<String>,
    /// Steps whose `until` was never true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub until_never_true: Vec<String>,
    /// Steps whose `until` was never false.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub until_never_false: Vec<String>,
    /// Steps with `foreach` whose list was never empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists_never_empty: Vec<String>,
    /// Steps with `foreach` whose list never had more than one item.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists_never_long: Vec<String>,
    /// Steps whose `undo` was never started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undos_never_ran: Vec<String>,
    /// Steps that were never approved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_approved: Vec<String>,
    /// Steps that were never rejected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_rejected: Vec<String>,
}

impl Coverage {
    /// Of a workflow of which nothing was tried.
    pub fn new(plan: &Plan) -> Coverage {
        Coverage { runs: 0, steps: vec![Tried::default(); plan.steps.len()] }
    }

    /// Takes in a run.
    pub fn take_in(&mut self, plan: &Plan, records: &[Record]) {
        self.runs += 1;
        let mut scopes = Scopes::new(plan);
        // How many blocks, items or rounds each step has opened, each counted once.
        let mut opened: BTreeMap<StepId, u32> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        for record in records {
            scopes.take_in(plan, &record.event);
            let tried = |step: StepId| scopes.no(step).index();
            match &record.event {
                Event::AttemptQueued { step, .. } | Event::WaitQueued { step, .. } | Event::CacheAsked { step } => {
                    self.steps[tried(*step)].when.yes = true
                }
                Event::AttemptStarted { step, .. } => {
                    let tried = &mut self.steps[tried(*step)];
                    (tried.when.yes, tried.ran) = (true, true);
                }
                Event::StepOpened { step } => {
                    let tried = &mut self.steps[tried(*step)];
                    (tried.when.yes, tried.ran) = (true, true);
                    opened.insert(*step, 0);
                }
                Event::ScopeOpened { step, index } => {
                    let count = opened.entry(*step).or_default();
                    // One that was there before has failed.
                    self.steps[tried(*step)].failed |= *index < *count;
                    *count = (*count).max(index + 1);
                }
                Event::AttemptFailed { step, .. } => self.steps[tried(*step)].failed = true,
                Event::StepFailed { step, failure } => {
                    let is_end = matches!(plan.step(scopes.no(*step)).work, Work::Fail(_));
                    let tried = &mut self.steps[tried(*step)];
                    tried.failed = true;
                    tried.ran |= is_end;
                    tried.when.yes |= is_end;
                    // It still asked for another round.
                    tried.until.no |= failure.kind == FailureKind::Limit { limit: "rounds".to_owned() };
                }
                Event::StepSucceeded { step, .. } => {
                    let tried = &mut self.steps[tried(*step)];
                    (tried.when.yes, tried.ran) = (true, true);
                    ended.insert(*step);
                }
                Event::StepSkipped { step, reason: SkipReason::RuleFalse { .. } } => {
                    self.steps[tried(*step)].when.no = true;
                }
                Event::ApprovalGiven { step, approved, .. } => self.steps[tried(*step)].word.take_in(*approved),
                _ => (),
            }
        }
        for (step, count) in opened {
            let no = scopes.no(step);
            let has_ended = ended.contains(&step);
            let tried = &mut self.steps[no.index()];
            match plan.step(no).opens().map(|opens| &opens.scopes) {
                Some(ScopeCount::Each(_)) => {
                    tried.was_empty |= count == 0 && has_ended;
                    tried.had_several |= count > 1;
                }
                Some(ScopeCount::Rounds(rounds)) => tried.rounds(rounds, count, has_ended),
                Some(ScopeCount::One) | None => (),
            }
        }
        self.failures_handled(plan, &scopes, records);
    }

    fn failures_handled(&mut self, plan: &Plan, scopes: &Scopes, records: &[Record]) {
        let history = History::of(plan, records);
        let has_failed = |id: StepId| {
            history.steps.get(id.index()).is_some_and(|step| matches!(step.ended, Some((_, StepEnd::Failed))))
        };
        for (index, life) in history.steps.iter().enumerate() {
            let Some((scope, no)) = scopes.find(StepId(index as u32)) else { continue };
            let step = plan.step(no);
            let started = life.attempts.iter().any(|attempt| attempt.started.is_some());
            let is_end = matches!(step.work, Work::Finish | Work::Fail(_));
            let ran = started || life.opened.is_some() || (is_end && life.ended.is_some() && life.skipped.is_none());
            let mut needs = step.needs.iter().filter(|need| need.state == NeedState::Failed);
            self.steps[no.index()].handled |= ran && needs.any(|need| has_failed(scopes.life(plan, scope, need.step)));
        }
    }

    /// How many runs were taken in.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// What was never tried.
    pub fn gaps(&self, plan: &Plan) -> Gaps {
        let paths = paths(plan);
        let names = |wanted: &dyn Fn(&Step, &Tried) -> bool| {
            let steps = plan.steps.iter().zip(&self.steps).zip(&paths);
            let wanted = steps.filter(|((step, tried), _)| wanted(step, tried));
            wanted.map(|(_, path)| path.clone()).collect::<Vec<String>>()
        };
        // What opens items or rounds that are no blocks is one step with them.
        let is_counted = |step: &Step| step.undoes.is_none() && only_step(plan, step).is_none();
        let asks = |step: &Step| matches!(&step.work, Work::Wait(wait) if wait.approval.is_some());
        let handles = |step: &Step| step.needs.iter().any(|need| need.state == NeedState::Failed);
        let rules = |step: &Step| {
            let of_rounds = rounds(step)
                .map_or(0, |rounds| usize::from(rounds.while_holds.is_some()) + usize::from(rounds.until.is_some()));
            usize::from(step.when.is_some()) + of_rounds
        };
        let has_while = |step: &Step| rounds(step).is_some_and(|rounds| rounds.while_holds.is_some());
        let has_until = |step: &Step| rounds(step).is_some_and(|rounds| rounds.until.is_some());
        let undone: Vec<StepNo> = plan.steps.iter().filter_map(|step| step.undo).collect();
        let undos = undone.iter().filter(|undo| !self.steps[undo.index()].ran);
        Gaps {
            steps: plan.steps.iter().filter(|step| is_counted(step)).count(),
            rules: plan.steps.iter().map(rules).sum(),
            failure_handlers: plan.steps.iter().filter(|step| handles(step)).count(),
            never_ran: names(&|step, tried| is_counted(step) && !tried.ran),
            never_true: names(&|step, tried| step.when.is_some() && !tried.when.yes),
            never_false: names(&|step, tried| step.when.is_some() && !tried.when.no),
            failure_handlers_never_ran: names(&|step, tried| handles(step) && !tried.handled),
            retries_never_needed: names(&|step, tried| step.retry.attempts > 1 && !tried.failed),
            while_never_true: names(&|step, tried| has_while(step) && !tried.while_holds.yes),
            while_never_false: names(&|step, tried| has_while(step) && !tried.while_holds.no),
            until_never_true: names(&|step, tried| has_until(step) && !tried.until.yes),
            until_never_false: names(&|step, tried| has_until(step) && !tried.until.no),
            lists_never_empty: names(&|step, tried| varies(step) && !tried.was_empty),
            lists_never_long: names(&|step, tried| varies(step) && !tried.had_several),
            undos_never_ran: undos.map(|undo| paths[undo.index()].clone()).collect(),
            never_approved: names(&|step, tried| asks(step) && !tried.word.yes),
            never_rejected: names(&|step, tried| asks(step) && !tried.word.no),
        }
    }

    /// The gaps for a person, under a line that names the workflow.
    pub fn report(&self, plan: &Plan) -> String {
        let gaps = self.gaps(plan);
        let mut text = String::new();
        let runs = if self.runs == 1 { "1 run".to_owned() } else { format!("{} runs", self.runs) };
        let ran = gaps.steps - gaps.never_ran.len();
        let _ = writeln!(text, "coverage of {} by {runs}", plan.name);
        let _ = writeln!(text, "  steps run          {ran} of {}", gaps.steps);
        let all = [&gaps.never_true, &gaps.while_never_true, &gaps.until_never_true];
        let yes = gaps.rules - all.iter().map(|names| names.len()).sum::<usize>();
        let all = [&gaps.never_false, &gaps.while_never_false, &gaps.until_never_false];
        let no = gaps.rules - all.iter().map(|names| names.len()).sum::<usize>();
        let _ = writeln!(text, "  rules seen true    {yes} of {}", gaps.rules);
        let _ = writeln!(text, "  rules seen false   {no} of {}", gaps.rules);
        let handled = gaps.failure_handlers - gaps.failure_handlers_never_ran.len();
        let _ = writeln!(text, "  failures handled   {handled} of {}", gaps.failure_handlers);
        let undos = plan.steps.iter().filter(|step| step.undoes.is_some()).count();
        if undos > 0 {
            let _ = writeln!(text, "  steps undone       {} of {undos}", undos - gaps.undos_never_ran.len());
        }
        let ran_otherwise = |name: &&String| !gaps.never_ran.contains(*name);
        let never_handled: Vec<String> =
            gaps.failure_handlers_never_ran.iter().filter(ran_otherwise).cloned().collect();
        let lists = [
            ("never ran", &gaps.never_ran),
            ("never ran after a failure", &never_handled),
            ("`when` never true", &gaps.never_true),
            ("`when` never false", &gaps.never_false),
            ("`while` never true", &gaps.while_never_true),
            ("`while` never false", &gaps.while_never_false),
            ("`until` never true", &gaps.until_never_true),
            ("`until` never false", &gaps.until_never_false),
            ("`retry` never needed", &gaps.retries_never_needed),
            ("`foreach` never without items", &gaps.lists_never_empty),
            ("`foreach` never with several items", &gaps.lists_never_long),
            ("`undo` never needed", &gaps.undos_never_ran),
            ("never approved", &gaps.never_approved),
            ("never rejected", &gaps.never_rejected),
        ];
        for (words, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let _ = writeln!(text, "  {words}: {}", names.join(", "));
        }
        text
    }
}

impl Tried {
    /// What so many rounds say about the rules of a `repeat` that has succeeded, or has not.
    fn rounds(&mut self, rounds: &Rounds, count: u32, has_succeeded: bool) {
        // A round is begun only if `while` held, and a further one only if `until` did not.
        self.while_holds.yes |= count > 0;
        self.until.no |= count > 1;
        // A success is the work of a rule if there is one; of two, of either.
        let either = rounds.while_holds.is_some() && rounds.until.is_some();
        self.while_holds.no |= has_succeeded && (!either || count == 0);
        self.until.yes |= has_succeeded && count > 0;
    }
}

impl Seen {
    fn take_in(&mut self, value: bool) {
        match value {
            true => self.yes = true,
            false => self.no = true,
        }
    }
}

fn rounds(step: &Step) -> Option<&Rounds> {
    match &step.opens()?.scopes {
        ScopeCount::Rounds(rounds) => Some(rounds),
        ScopeCount::One | ScopeCount::Each(_) => None,
    }
}

/// Whether the step has a list that is not as long in every run: one that is not written down.
fn varies(step: &Step) -> bool {
    let scopes = step.opens().map(|opens| &opens.scopes);
    let grows = |each: &Each| !each.from.is_empty() || !each.list.source().as_str().starts_with('[');
    matches!(scopes, Some(ScopeCount::Each(each)) if grows(each))
}
