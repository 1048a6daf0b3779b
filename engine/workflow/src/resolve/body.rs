//! A body of steps: the workflow's own, or that of a block. What is known of a step depends on where it is looked at from,
//! within its own body or from a block further in.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::declared::{self, Declared};
use super::graph::{Graph, Owner};
use super::{Resolver, StepKnown};
use crate::event::NeedState;
use crate::plan::{Answer, BodyId, Join, Output, StepNo};
use crate::rule::{Certainty, Template};
use crate::schema::{Kinds, Type};
use crate::spec::{Entries, StepSpec};

/// A body, while one of its steps is looked at.
pub(super) struct Frame<'a> {
    pub(super) graph: Graph<'a>,
    pub(super) steps: &'a Entries<StepSpec>,
    /// The step at hand; `None` at the body's end.
    pub(super) at: Option<usize>,
    /// Whether the step at hand is known to have succeeded: by its `undo`, or between two of its rounds.
    pub(super) is_done: bool,
}

impl<'a> Frame<'a> {
    /// A step of this body, seen from the step at hand or what is in it.
    pub(super) fn known(&self, name: &str, declared: &'a Declared<'a>) -> StepKnown<'a> {
        let Some(asked) = self.graph.index(name) else { return StepKnown::Missing };
        let Some(step) = self.at else {
            return StepKnown::Finished {
                output: Some(self.output(asked, declared)),
                failure: true,
                certainty: Certainty::Ended,
            };
        };
        if asked == step && self.is_done {
            let output = match &self.steps[asked].1.repeat {
                Some(_) => declared.output_of_one(&self.steps[asked].1),
                None => self.output(asked, declared),
            };
            return StepKnown::Finished { output: Some(output), failure: false, certainty: Certainty::Ended };
        }
        if asked == step {
            return StepKnown::Unfinished { itself: true };
        }
        // That it has begun says nothing of its end.
        let needs = self.graph.needs(step).iter().filter(|need| need.state != NeedState::Started);
        let mut states = needs.filter(|need| need.step == asked).map(|need| need.state);
        let is_known = !self.steps[step].1.incomplete && !self.graph.is_faulty(step);
        let state = states.next();
        let certainty = match self.graph.joined(step) {
            _ if !is_known => Certainty::Ended,
            // An `undo` and the rules between rounds are looked at without what the step's `when` makes sure of.
            _ if state == Some(NeedState::Finished) && self.graph.takes_all(step) && !self.is_done => Certainty::Either,
            _ if state.is_some() && self.graph.takes_all(step) => Certainty::Ended,
            Join::Merge if state.is_some() => Certainty::Judged,
            _ if state.is_none() && self.graph.is_before(asked, step) => Certainty::Ended,
            // When an always-step starts, all ordinary ones have come to their end.
            _ if self.steps[step].1.always && !self.steps[asked].1.always => Certainty::Judged,
            _ if state.is_some() || self.graph.leads_to(asked, step) => Certainty::Open,
            // What is undone is undone when all is over.
            _ if self.is_done && self.steps[step].1.repeat.is_none() => Certainty::Judged,
            _ => return StepKnown::Unfinished { itself: false },
        };
        let (output, failure) = match state.filter(|_| matches!(certainty, Certainty::Ended | Certainty::Either)) {
            Some(NeedState::Succeeded) => (true, false),
            Some(NeedState::Failed) => (false, true),
            Some(NeedState::Skipped) => (false, false),
            Some(NeedState::Finished | NeedState::Started) => (true, true),
            None => (true, true),
        };
        StepKnown::Finished { output: output.then(|| self.output(asked, declared)), failure, certainty }
    }

    fn output(&self, step: usize, declared: &'a Declared<'a>) -> Type<'a> {
        let spec = &self.steps[step].1;
        match &spec.foreach {
            Some(_) => Type::list_of(declared.output_of_one(spec)),
            None => declared.output_of_one(spec),
        }
    }
}

/// What a step that waits answers.
static WAITED: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {
            "by": { "enum": ["time", "signal", "approval"] },
            "data": true,
            "who": { "type": "string" },
            "note": { "type": "string" },
        },
        "required": ["by"],
        "additionalProperties": false,
    })
});

impl<'a> Declared<'a> {
    /// What a step answers, or each of its items or rounds.
    fn output_of_one(&'a self, spec: &StepSpec) -> Type<'a> {
        if let Some(plugin) = spec.plugin.as_ref().and_then(|name| self.plugin(name.get_ref())) {
            return Type::of_schema(&plugin.output);
        }
        if spec.detached.as_ref().is_some_and(|detached| *detached.get_ref()) {
            // It is over before there is anything to answer.
            return Type::of_kinds(Kinds::NULL);
        }
        let block = spec.block.as_ref().and_then(|block| self.block(block));
        let workflow = spec.workflow.as_ref().and_then(|path| self.workflow(path.get_ref()));
        match block.or(workflow.map(|workflow| &workflow.output)) {
            Some(schema) => Type::of_schema(schema),
            None if spec.wait.is_some() => Type::of_schema(&WAITED),
            None => Type::ANY,
        }
    }
}

impl<'a> Resolver<'a, '_, '_> {
    /// Resolves steps as a body of the draft. Answers its outputs, which it has as well.
    pub(super) fn body(
        &mut self,
        body: BodyId,
        steps: &'a Entries<StepSpec>,
        outputs: &'a Entries<crate::spec::Value>,
        owner: Owner,
    ) -> Vec<Output> {
        let graph = Graph::of(steps, owner, &mut self.out);
        self.frames.push(Frame { graph, steps, at: None, is_done: false });
        let mut resolved = Vec::with_capacity(steps.len());
        let mut undos = Vec::new();
        for (at, (name, spec)) in steps.iter().enumerate() {
            self.frame().at = Some(at);
            let (mut step, undo) = self.step(at, name, spec);
            if let Some(mut undo) = undo {
                undo.undoes = Some(StepNo(at as u32));
                step.undo = Some(StepNo((steps.len() + undos.len()) as u32));
                undos.push(undo);
            }
            resolved.push(step);
        }
        resolved.append(&mut undos);
        self.frame().at = None;
        self.guards.clear();
        declared::names("output", outputs.iter().map(|(name, _)| name), &mut self.out);
        let outputs: Vec<Output> = outputs
            .iter()
            .map(|(name, value)| {
                let tree = self.tree(value);
                Output { name: name.get_ref().clone(), value: Template::of(&tree, value.to_json().into()) }
            })
            .collect();
        self.frames.pop();
        self.draft.put(body, resolved, Answer::Outputs(outputs.clone()));
        outputs
    }

    /// The body that is looked at.
    pub(super) fn frame(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("a step is looked at within a body")
    }
}
