//! What tests never tried: steps that never ran, rules that were never true or never false, steps for a failure of others
//! whose failure never came. A fold over the records of a workflow's rehearsals.

use std::fmt::Write as _;

use downbeat_workflow::event::{Event, NeedState, Record, SkipReason, StepEnd};
use downbeat_workflow::history::History;
use downbeat_workflow::plan::{Plan, StepId, StepNo};
use downbeat_workflow::scope::Scopes;
use serde::Serialize;

/// What was tried of a workflow.
#[derive(Clone, Debug)]
pub struct Coverage {
    runs: usize,
    steps: Vec<Tried>,
}

/// What was tried of a step.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    ran: bool,
    failed: bool,
    /// Whether it was started in a run in which a step failed whose failure it needs.
    handled: bool,
    /// Whether its `when` was true in some run, and false in some.
    rule_true: bool,
    rule_false: bool,
}

/// What was never tried, by names of steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gaps {
    /// How many steps there are.
    pub steps: usize,
    /// How many rules `when` there are.
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
        for record in records {
            scopes.take_in(plan, &record.event);
            match &record.event {
                Event::AttemptQueued { step, .. } => self.reached(plan, scopes.no(*step)),
                Event::AttemptStarted { step, .. } => {
                    self.reached(plan, scopes.no(*step));
                    self.steps[scopes.no(*step).index()].ran = true;
                }
                Event::AttemptFailed { step, .. } => self.steps[scopes.no(*step).index()].failed = true,
                Event::StepSkipped { step, reason: SkipReason::RuleFalse { .. } } => {
                    self.steps[scopes.no(*step).index()].rule_false = true;
                }
                _ => (),
            }
        }
        let history = History::of(plan, records);
        let has_failed = |id: StepId| {
            history.steps.get(id.index()).is_some_and(|step| matches!(step.ended, Some((_, StepEnd::Failed))))
        };
        for (index, life) in history.steps.iter().enumerate() {
            let (scope, no) = scopes.find(StepId(index as u32)).expect("a step that something happened to");
            let ran = life.attempts.iter().any(|attempt| attempt.started.is_some());
            let mut needs = plan.step(no).needs.iter().filter(|need| need.state == NeedState::Failed);
            self.steps[no.index()].handled |= ran && needs.any(|need| has_failed(scopes.life(plan, scope, need.step)));
        }
    }

    /// An attempt is made only if the rule was true.
    fn reached(&mut self, plan: &Plan, step: StepNo) {
        self.steps[step.index()].rule_true |= plan.step(step).when.is_some();
    }

    /// What was never tried.
    pub fn gaps(&self, plan: &Plan) -> Gaps {
        let handles =
            |step: &downbeat_workflow::plan::Step| step.needs.iter().any(|need| need.state == NeedState::Failed);
        let names = |wanted: &dyn Fn(&downbeat_workflow::plan::Step, &Tried) -> bool| {
            let steps = plan.steps.iter().zip(&self.steps).filter(|(step, tried)| wanted(step, tried));
            steps.map(|(step, _)| step.name.clone()).collect::<Vec<String>>()
        };
        Gaps {
            steps: plan.steps.len(),
            rules: plan.steps.iter().filter(|step| step.when.is_some()).count(),
            failure_handlers: plan.steps.iter().filter(|step| handles(step)).count(),
            never_ran: names(&|_, tried| !tried.ran),
            never_true: names(&|step, tried| step.when.is_some() && !tried.rule_true),
            never_false: names(&|step, tried| step.when.is_some() && !tried.rule_false),
            failure_handlers_never_ran: names(&|step, tried| handles(step) && !tried.handled),
            retries_never_needed: names(&|step, tried| step.retry.attempts > 1 && !tried.failed),
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
        let (yes, no) = (gaps.rules - gaps.never_true.len(), gaps.rules - gaps.never_false.len());
        let _ = writeln!(text, "  rules seen true    {yes} of {}", gaps.rules);
        let _ = writeln!(text, "  rules seen false   {no} of {}", gaps.rules);
        let handled = gaps.failure_handlers - gaps.failure_handlers_never_ran.len();
        let _ = writeln!(text, "  failures handled   {handled} of {}", gaps.failure_handlers);
        let ran_otherwise = |name: &&String| !gaps.never_ran.contains(*name);
        let never_handled: Vec<String> =
            gaps.failure_handlers_never_ran.iter().filter(ran_otherwise).cloned().collect();
        let lists = [
            ("never ran", &gaps.never_ran),
            ("never ran after a failure", &never_handled),
            ("`when` never true", &gaps.never_true),
            ("`when` never false", &gaps.never_false),
            ("`retry` never needed", &gaps.retries_never_needed),
        ];
        for (words, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let _ = writeln!(text, "  {words}: {}", names.join(", "));
        }
        text
    }
}
