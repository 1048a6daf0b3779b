//! What the rules of a run's steps see: their own scope as it was when it was decided that the step may start, and what is
//! around it as it was when each scope's opener started. A branch that comes to its end between two attempts does not change
//! the input of the second.

use serde_json::Value;

use super::Run;
use super::life::{Given, State};
use crate::json::Json;
use crate::plan::StepId;
use crate::rule::{Local, Scope, StepView};
use crate::scope::ScopeId;

/// A run, seen from one place of it.
pub(super) struct Seen<'r> {
    run: &'r Run,
    /// The scope that is looked from.
    scope: ScopeId,
    /// So many steps had come to an end.
    until: u32,
    /// Whether a step that undoes another one looks.
    undoes: bool,
    /// The item or round whose locals are seen, of one that is being opened.
    opening: Option<ScopeId>,
    /// What a step that opens rounds sees between two of them.
    round: Option<Round<'r>>,
    /// What a step with items sees when one has ended.
    tally: Option<&'r Value>,
}

/// A step between two of its rounds.
struct Round<'r> {
    step: StepId,
    /// What its last round answered.
    previous: &'r Value,
    /// The next one, from 0: so many are done.
    index: Value,
}

impl<'r> Seen<'r> {
    /// By a step.
    pub(super) fn by(run: &'r Run, step: StepId) -> Seen<'r> {
        let undoes = run.step(step).undoes.is_some();
        Seen {
            run,
            scope: run.places.scope(step),
            until: run.steps[step.index()].seen,
            undoes,
            opening: None,
            round: None,
            tally: None,
        }
    }

    /// By a step with items of which so many have ended.
    pub(super) fn among_items(run: &'r Run, step: StepId, tally: &'r Value) -> Seen<'r> {
        Seen { tally: Some(tally), ..Seen::by(run, step) }
    }

    /// By a step that opens rounds, so many of which are done, after one that answered so; `null` before the first.
    pub(super) fn between_rounds(run: &'r Run, step: StepId, done: u32, previous: &'r Value) -> Seen<'r> {
        Seen { round: Some(Round { step, previous, index: done.into() }), ..Seen::by(run, step) }
    }

    /// By a step that opens a scope, with what only that has.
    pub(super) fn opening(run: &'r Run, step: StepId, scope: ScopeId) -> Seen<'r> {
        Seen { opening: Some(scope), ..Seen::by(run, step) }
    }

    /// From a scope's end.
    pub(super) fn at_end(run: &'r Run, scope: ScopeId) -> Seen<'r> {
        Seen { run, scope, until: u32::MAX, undoes: false, opening: None, round: None, tally: None }
    }

    /// The step of this name that is nearest, and how many had come to an end when what is around it was looked at.
    fn find(&self, name: &str) -> Option<(StepId, u32)> {
        let Run { plan, places, steps, .. } = self.run;
        let (mut scope, mut until) = (self.scope, self.until);
        loop {
            let place = places.place(scope);
            let body = plan.body(place.body);
            // The only step of an item or a round is called as the one that opens it: that is what is around it. But who
            // takes back what it did means itself.
            let is_alone = body.is_some_and(|body| body.answer.is_step()) && !(self.undoes && scope == self.scope);
            if let Some(no) = plan.named_in(place.body, name).filter(|_| !is_alone) {
                return Some((places.life(plan, scope, no), until));
            }
            if body.is_some_and(|body| body.workflow.is_some()) {
                return None;
            }
            let opener = place.opener?;
            (scope, until) = (places.scope(opener), steps[opener.index()].seen);
        }
    }

    /// The step of this name, if it has come to its end as seen from here.
    fn ended(&self, name: &str) -> Option<StepId> {
        let (step, until) = self.find(name)?;
        let end = self.run.steps[step.index()].end;
        (end != 0 && end <= until).then_some(step)
    }

    /// Of this scope and those around it, the first that has what is asked for, up to a workflow's border.
    fn around<T>(&self, mut pick: impl FnMut(ScopeId) -> Option<T>) -> Option<T> {
        let mut scope = self.scope;
        loop {
            if let Some(found) = pick(scope) {
                return Some(found);
            }
            let place = self.run.places.place(scope);
            if self.run.plan.body(place.body).is_some_and(|body| body.workflow.is_some()) {
                return None;
            }
            scope = self.run.places.scope(place.opener?);
        }
    }

    fn given(&self) -> &Given {
        let run = self.run;
        self.around(|scope| run.scopes[scope.index()].inputs.as_ref()).unwrap_or(&run.inputs)
    }

    fn workflow(&self) -> (&str, &str) {
        let Run { plan, places, .. } = self.run;
        let mut scope = Some(self.scope);
        while let Some(here) = scope {
            let place = places.place(here);
            if let Some(workflow) = plan.body(place.body).and_then(|body| body.workflow.as_deref()) {
                return (&workflow.name, &workflow.directory);
            }
            scope = place.opener.map(|opener| places.scope(opener));
        }
        (&plan.name, &plan.directory)
    }
}

impl Scope for Seen<'_> {
    fn inputs(&self) -> &Value {
        self.given().value()
    }

    fn inputs_text(&self) -> Option<&Json> {
        Some(&self.given().text)
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        if let Some(round) = self.round.as_ref().filter(|round| self.run.step(round.step).name == name) {
            return Some(StepView { status: "succeeded", output: Some(round.previous), failure: None, attempts: 1 });
        }
        let (step, _) = self.find(name)?;
        match self.ended(name) {
            None => Some(StepView { status: "unfinished", output: None, failure: None, attempts: 0 }),
            Some(_) => self.run.view(step),
        }
    }

    fn output(&self, name: &str) -> Option<&Json> {
        if self.round.as_ref().is_some_and(|round| self.run.step(round.step).name == name) {
            return None;
        }
        match &self.run.steps[self.ended(name)?.index()].state {
            State::Succeeded(output) => Some(&output.text),
            _ => None,
        }
    }

    fn local(&self, local: Local, outer: u8) -> Option<&Value> {
        let mut skip = outer;
        match (local, &self.round) {
            (Local::Items, _) => return self.tally,
            (Local::Previous, Some(round)) if skip == 0 => return Some(round.previous),
            (Local::Index, Some(round)) if skip == 0 => return Some(&round.index),
            (_, Some(_)) => skip = skip.saturating_sub(1),
            (_, None) => (),
        }
        let mut pick = |scope: ScopeId| {
            let locals = self.run.scopes[scope.index()].locals.as_deref()?;
            if skip > 0 {
                skip -= 1;
                return None;
            }
            match local {
                // A round is about the item around it.
                Local::Item => locals.item.as_deref(),
                Local::Index => Some(&locals.index),
                Local::Previous => Some(&*locals.previous),
                Local::Items => None,
            }
        };
        self.opening.and_then(&mut pick).or_else(|| self.around(pick))
    }

    fn run_id(&self) -> &str {
        &self.run.id.0
    }

    fn workflow_name(&self) -> &str {
        self.workflow().0
    }

    fn workflow_directory(&self) -> &str {
        self.workflow().1
    }

    fn secret(&self, name: &str) -> Option<String> {
        Some(self.run.placeholder(name))
    }
}

impl Run {
    /// The text that stands for a secret in this run.
    pub fn placeholder(&self, name: &str) -> String {
        crate::secret::placeholder(&self.id.0, self.seed, name)
    }

    /// A step that has come to its end.
    pub(super) fn view(&self, step: StepId) -> Option<StepView<'_>> {
        let life = &self.steps[step.index()];
        let view = |status| StepView { status, output: None, failure: None, attempts: life.attempts };
        match &life.state {
            State::Succeeded(output) => Some(StepView { output: Some(output.value()), ..view("succeeded") }),
            State::Failed(failure) => Some(StepView { failure: Some(failure), ..view("failed") }),
            State::Skipped(_) => Some(view("skipped")),
            State::Cancelled => Some(view("cancelled")),
            _ => None,
        }
    }
}

/// The workflow's own scope, as it stands.
impl Scope for Run {
    fn inputs(&self) -> &Value {
        self.inputs.value()
    }

    fn inputs_text(&self) -> Option<&Json> {
        Some(&self.inputs.text)
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        self.view(self.plan.step_named(name)?)
    }

    fn output(&self, step: &str) -> Option<&Json> {
        match &self.steps[self.plan.step_named(step)?.index()].state {
            State::Succeeded(output) => Some(&output.text),
            _ => None,
        }
    }

    fn run_id(&self) -> &str {
        &self.id.0
    }

    fn workflow_name(&self) -> &str {
        &self.plan.name
    }

    fn workflow_directory(&self) -> &str {
        &self.plan.directory
    }
}
