//! Which step of the plan each step of a run is, and in which scope it lives.
//!
//! A run is a tree of scopes: the workflow's own, and below it one for each block, item, round and sub-workflow that a step
//! has opened. Each is an instance of a body, and has a life of its own for each of the body's steps. Apart from
//! [`Run`](crate::run::Run), because whoever reads records has to name their steps too; nothing here knows how a step
//! stands.

use std::collections::HashMap;

use crate::event::Event;
use crate::plan::{Answer, BodyId, Plan, ScopeCount, Step, StepId, StepNo};

/// A scope of a run, counted in the order in which they opened; 0 is the workflow's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(pub u32);

impl ScopeId {
    /// The workflow's own.
    pub const ROOT: ScopeId = ScopeId(0);

    /// As an index into what is kept for each scope.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopePlace {
    /// What it is an instance of.
    pub body: BodyId,
    /// The first of its steps; the others of its body follow.
    pub first: StepId,
    /// The step that opened it; `None` of the workflow's own.
    pub opener: Option<StepId>,
    /// Which of the opener's items or rounds it is, from 0.
    pub index: u32,
}

/// The scopes that a run has opened, and its steps.
#[derive(Clone, Debug)]
pub struct Scopes {
    places: Vec<ScopePlace>,
    /// Of each step that is not the workflow's own.
    further: Vec<(ScopeId, StepNo)>,
    /// How many steps are the workflow's own.
    own: u32,
}

impl Scopes {
    /// Those of a run that has opened none but its own.
    pub fn new(plan: &Plan) -> Scopes {
        let root = ScopePlace { body: BodyId(0), first: StepId(0), opener: None, index: 0 };
        Scopes { places: vec![root], further: Vec::new(), own: plan.steps_of(BodyId(0)).end }
    }

    /// Adds what an event opens; answers which scope that is.
    pub fn take_in(&mut self, plan: &Plan, event: &Event) -> Option<ScopeId> {
        let Event::ScopeOpened { step, index } = event else { return None };
        let body = self.step(plan, *step)?.opens()?.body;
        Some(self.open(plan, *step, body, *index))
    }

    /// Adds a scope.
    pub(crate) fn open(&mut self, plan: &Plan, opener: StepId, body: BodyId, index: u32) -> ScopeId {
        let id = ScopeId(self.places.len() as u32);
        let first = StepId(self.len() as u32);
        self.places.push(ScopePlace { body, first, opener: Some(opener), index });
        self.further.extend(plan.steps_of(body).map(|at| (id, StepNo(at))));
        id
    }

    /// How many steps there are: the ids are 0 to this.
    pub fn len(&self) -> usize {
        self.own as usize + self.further.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many scopes there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Where a scope is.
    pub fn place(&self, scope: ScopeId) -> &ScopePlace {
        &self.places[scope.index()]
    }

    /// The scope of a step, and what it is in the plan; `None` if the run has no such step.
    pub fn find(&self, step: StepId) -> Option<(ScopeId, StepNo)> {
        match step.0.checked_sub(self.own) {
            None => Some((ScopeId::ROOT, StepNo(step.0))),
            Some(further) => self.further.get(further as usize).copied(),
        }
    }

    /// The scope that a step of the run lives in.
    pub fn scope(&self, step: StepId) -> ScopeId {
        self.find(step).expect("a step of the run").0
    }

    /// What a step of the run is in the plan.
    pub fn no(&self, step: StepId) -> StepNo {
        self.find(step).expect("a step of the run").1
    }

    /// What a step of the run is in the plan; `None` if the run has no such step.
    pub fn step<'p>(&self, plan: &'p Plan, step: StepId) -> Option<&'p Step> {
        plan.steps.get(self.find(step)?.1.index())
    }

    /// The life of a step of the plan in this scope, which is an instance of its body.
    pub fn life(&self, plan: &Plan, scope: ScopeId, no: StepNo) -> StepId {
        let place = self.place(scope);
        StepId(place.first.0 + (no.0 - plan.steps_of(place.body).start))
    }

    /// The steps of a scope.
    pub fn steps_of(&self, plan: &Plan, scope: ScopeId) -> impl DoubleEndedIterator<Item = StepId> + use<> {
        let place = self.place(scope);
        let first = place.first.0;
        (first..first + plan.steps_of(place.body).len() as u32).map(StepId)
    }

    /// All steps as people read them: the workflow's own in the plan's order, behind each what it opened, in the order of items,
    /// rounds and tries.
    pub fn in_reading_order(&self, plan: &Plan) -> Vec<StepId> {
        let mut opened: HashMap<StepId, Vec<ScopeId>> = HashMap::new();
        for scope in (1..self.count() as u32).map(ScopeId) {
            opened.entry(self.place(scope).opener.expect("it is not the first")).or_default().push(scope);
        }
        for scopes in opened.values_mut() {
            scopes.sort_by_key(|scope| (self.place(*scope).index, *scope));
        }
        let mut order = Vec::with_capacity(self.len());
        let mut open: Vec<StepId> = self.steps_of(plan, ScopeId::ROOT).rev().collect();
        while let Some(step) = open.pop() {
            order.push(step);
            let scopes = opened.get(&step).into_iter().flatten().rev();
            open.extend(scopes.flat_map(|scope| self.steps_of(plan, *scope).rev()));
        }
        order
    }

    /// Of the scopes that were opened more than once, as they failed and were tried again, which time each is, from 1, and of
    /// how many. Their steps have the same paths.
    pub fn tries(&self) -> HashMap<ScopeId, (u32, u32)> {
        let mut times: HashMap<(Option<StepId>, u32), Vec<ScopeId>> = HashMap::new();
        for scope in (1..self.count() as u32).map(ScopeId) {
            times.entry((self.place(scope).opener, self.place(scope).index)).or_default().push(scope);
        }
        let several = times.into_values().filter(|scopes| scopes.len() > 1);
        several
            .flat_map(|scopes| (1..).zip(scopes.clone()).map(move |(time, scope)| (scope, (time, scopes.len() as u32))))
            .collect()
    }

    /// Which time a step is, of those that are within something that was tried again: of `tries`, the innermost.
    pub fn time(&self, tries: &HashMap<ScopeId, (u32, u32)>, step: StepId) -> Option<(u32, u32)> {
        let mut scope = self.scope(step);
        loop {
            match tries.get(&scope) {
                Some(time) => return Some(*time),
                None => scope = self.scope(self.place(scope).opener?),
            }
        }
    }

    /// How people call a step of the run: `build`, `deploy/push`, `suites[3]`, `poll[0]/ask`.
    pub fn path(&self, plan: &Plan, step: StepId) -> String {
        let (scope, no) = self.find(step).expect("a step of the run");
        let step = plan.step(no);
        if let Some(undone) = step.undoes {
            return format!("{}.undo", self.path(plan, self.life(plan, scope, undone)));
        }
        let name = &step.name;
        match self.place(scope).opener {
            None => name.clone(),
            Some(_) if plan.body(self.place(scope).body).is_some_and(|body| body.answer.is_step()) => {
                self.scope_path(plan, scope)
            }
            Some(_) => format!("{}/{name}", self.scope_path(plan, scope)),
        }
    }

    /// The step that people call so; of what is within something that was tried again, that of the latest time.
    pub fn named(&self, plan: &Plan, path: &str) -> Option<StepId> {
        (0..self.len() as u32).rev().map(StepId).find(|step| self.path(plan, *step) == path)
    }

    /// How people call a scope: `deploy`, `suites[3]`; nothing for the workflow's own.
    pub fn scope_path(&self, plan: &Plan, scope: ScopeId) -> String {
        let place = self.place(scope);
        let Some(opener) = place.opener else { return String::new() };
        let path = self.path(plan, opener);
        match self.step(plan, opener).and_then(Step::opens).map(|opens| &opens.scopes) {
            Some(ScopeCount::Each(_) | ScopeCount::Rounds(_)) => format!("{path}[{}]", place.index),
            _ => path,
        }
    }
}

impl Answer {
    /// Whether it is what the only step answers.
    pub fn is_step(&self) -> bool {
        matches!(self, Answer::Step)
    }
}
