//! From a [`Spec`] to a [`Plan`]: everything that can be wrong with a workflow is found here, all of it at once, and
//! before anything runs.
//!
//! What is declared comes first (`declared`), then how steps hang together (`graph`), then each step by itself
//! (`step`, `grant`). A check that depends on something that already is wrong stays silent, so that one fault is told once. The
//! work is near linear in the file's size.

mod declared;
mod grant;
mod graph;
mod step;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::description::Component;
use crate::diagnostic::{Collector, Diagnostic, did_you_mean};
use crate::event::NeedState;
use crate::plan::{Join, Output, Plan, Rest, StepId};
use crate::rule::{Certainty, Expression, Fault, Guard, Known, Mention, StepKnown, Template, Tree, infer};
use crate::schema::{Kinds, Type};
use crate::spec::{Place, Source, Spanned, Spec};

use declared::Declared;
pub(crate) use declared::POOL_SIZE_MAX;
use graph::Graph;
pub(crate) use graph::{JOIN_WORDS, REST_WORDS};
pub(crate) use step::{ATTEMPTS_MAX, FACTOR_MAX};

/// The most steps of a workflow. 100,000: what the engine is built and measured for.
pub const STEPS_MAX: usize = 100_000;

/// The longest name, in bytes. 128: names are file names and columns of a terminal.
pub const NAME_BYTES_MAX: usize = 128;

/// What a workflow needs to know of the world around its file.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The absolute folder of the file.
    pub directory: String,
    /// For each of [`Spec::plugin_paths`], what was loaded, or why it could not be (for a person).
    pub plugins: BTreeMap<String, Result<Loaded, String>>,
}

/// A plugin that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its digest and description.
    pub component: Component,
    /// The absolute path of the `.wasm`.
    pub path: String,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// There is one if no diagnostic is an error.
    pub plan: Option<Plan>,
    /// Errors and warnings in the order of their places. Those of [`Spec::parse`] are not among them.
    pub diagnostics: Vec<Diagnostic>,
}

/// Resolves a workflow. There is no plan either if [`Spec::parse`] found an error.
pub fn resolve(source: &Source, spec: &Spec, surroundings: &Surroundings) -> Resolution {
    let mut out = Collector::default();
    let declared = Declared::of(spec, surroundings, &mut out);
    let graph = Graph::of(spec, &mut out);
    let mut resolver = Resolver {
        source,
        spec,
        declared: &declared,
        graph: &graph,
        out,
        used: Used::default(),
        guards: Vec::new(),
        suggestions: Cell::new(0),
    };
    let steps = resolver.steps();
    let outputs = resolver.outputs();
    resolver.unused();
    let mut out = resolver.out;
    if out.error_count() > 0 || spec.incomplete {
        return Resolution { plan: None, diagnostics: out.finish() };
    }
    let mut plan = Plan::new(spec.name.as_ref().map(|name| name.get_ref().clone()).unwrap_or_default(), vec![], steps);
    plan.description = spec.description.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default();
    plan.directory = surroundings.directory.clone();
    plan.timeout_ms = declared.timeout_ms;
    (plan.inputs, plan.pools, plan.plugins) = declared.into_plan();
    plan.outputs = outputs;
    let plan = plan.link();
    nothing_to_cancel(spec, &plan, &mut out);
    Resolution { plan: Some(plan), diagnostics: out.finish() }
}

/// Tells the joins that are to cancel their rest, and have none.
fn nothing_to_cancel(spec: &Spec, plan: &Plan, out: &mut Collector) {
    for (at, step) in plan.steps.iter().enumerate() {
        let is_told = step.needs.is_empty() || step.join == Join::Merge;
        let Some(rest) = spec.steps[at].1.rest.as_ref().filter(|_| step.rest == Rest::Cancel && !is_told) else {
            continue;
        };
        if plan.region(StepId(at as u32)).is_empty() {
            let message = format!("nothing is cancelled: no step serves `{}` alone", step.name);
            let found = Diagnostic::warning("useless-key", rest.span(), message).label("has no effect");
            out.push(found.hint("what is needed elsewhere too, or by `[outputs]`, is never cancelled"));
        }
    }
}

struct Resolver<'a> {
    source: &'a Source,
    spec: &'a Spec,
    declared: &'a Declared<'a>,
    graph: &'a Graph<'a>,
    out: Collector,
    used: Used<'a>,
    /// What is known to be there because the `when` of the step at hand asks for it.
    guards: Vec<Guard>,
    /// How often a similar name was looked for: see [`Here::similar`].
    suggestions: Cell<usize>,
}

/// What is mentioned somewhere.
#[derive(Default)]
struct Used<'a> {
    inputs: HashSet<&'a str>,
    plugins: HashSet<&'a str>,
    pools: HashSet<&'a str>,
    /// All inputs as a whole are.
    all_inputs: bool,
    /// Something unknown or unreadable is: whatever seems to be unused may be meant by it.
    any: bool,
}

impl<'a> Resolver<'a> {
    fn outputs(&mut self) -> Vec<Output> {
        let spec = self.spec;
        self.guards.clear();
        declared::names("output", spec.outputs.iter().map(|(name, _)| name), &mut self.out);
        let mut outputs = Vec::new();
        for (name, value) in &spec.outputs {
            let tree = self.tree(value, None);
            outputs.push(Output { name: name.get_ref().clone(), value: Template::of(&tree, value.to_json().into()) });
        }
        outputs
    }

    /// Compiles a value's holes and finds their types, seen from a step or from the workflow's end.
    fn tree(&mut self, value: &crate::spec::Value, step: Option<usize>) -> Tree {
        let mut faults = Vec::new();
        let tree = Tree::of_spec(value, &self.source.text, &mut |place, fault| faults.push(diagnostic(place, fault)));
        self.used.any |= !faults.is_empty();
        faults.into_iter().for_each(|fault| self.out.push(fault));
        tree.holes(&mut |hole| {
            let found = self.expression(&hole.expression, &hole.place, step);
            hole.kinds.set(found.kinds);
        });
        tree
    }

    /// Finds the type of an expression, and tells what is wrong with it.
    fn expression(&mut self, expression: &Expression, place: &Place, step: Option<usize>) -> Type<'a> {
        for mention in expression.mentions() {
            match mention {
                Mention::Input(name) => match self.declared.inputs.get_key_value(name) {
                    Some((name, _)) => drop(self.used.inputs.insert(*name)),
                    None => self.used.any = true,
                },
                Mention::AllInputs => self.used.all_inputs = true,
                Mention::Step(_) => (),
            }
        }
        let here =
            Here { declared: self.declared, graph: self.graph, spec: self.spec, step, suggestions: &self.suggestions };
        let (found, faults) = infer(expression, &here, &self.guards);
        let wrong = !faults.is_empty();
        faults.into_iter().for_each(|fault| self.out.push(diagnostic(place, fault)));
        if wrong { Type::ANY } else { found }
    }

    fn unused(&mut self) {
        let spec = self.spec;
        if self.used.any || spec.incomplete {
            return;
        }
        let unused = |kind: &str, name: &Spanned<String>| {
            let message = format!("the {kind} `{}` is not used", name.get_ref());
            Diagnostic::warning("unused", name.span(), message).label("never mentioned")
        };
        if !self.used.all_inputs {
            for (name, _) in spec.inputs.iter().filter(|(name, _)| !self.used.inputs.contains(name.get_ref().as_str()))
            {
                self.out.push(unused("input", name));
            }
        }
        for (name, _) in spec.plugins.iter().filter(|(name, _)| !self.used.plugins.contains(name.get_ref().as_str())) {
            self.out.push(unused("plugin", name));
        }
        for (name, _) in spec.pools.iter().filter(|(name, _)| !self.used.pools.contains(name.get_ref().as_str())) {
            self.out.push(unused("pool", name));
        }
    }
}

fn diagnostic(place: &Place, fault: Fault) -> Diagnostic {
    let Fault { span, code, message, label, hint } = fault;
    Diagnostic::error(code, place.span(span), message).label(label).maybe_hint(hint)
}

/// A name that nothing declares.
fn unknown(kind: &str, code: &'static str, name: &str, span: Range<usize>, hint: Option<String>) -> Diagnostic {
    Diagnostic::error(code, span, format!("there is no {kind} `{name}`"))
        .label(format!("unknown {kind}"))
        .maybe_hint(hint)
}

/// What is known at one place: within a step, or at the workflow's end.
struct Here<'h, 'a> {
    declared: &'a Declared<'a>,
    graph: &'a Graph<'a>,
    spec: &'a Spec,
    step: Option<usize>,
    suggestions: &'h Cell<usize>,
}

impl<'a> Here<'_, 'a> {
    /// Comparing with every name of a large file costs time, so that after a hundred searches there are no more.
    fn similar(&self, name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        self.suggestions.set(self.suggestions.get() + 1);
        if self.suggestions.get() > 100 { None } else { did_you_mean(name, known) }
    }

    fn output(&self, step: usize) -> Type<'a> {
        let plugin = self.spec.steps[step].1.plugin.as_ref().and_then(|name| self.declared.plugin(name.get_ref()));
        plugin.map_or(Type::ANY, |plugin| Type::of_schema(&plugin.output))
    }
}

impl<'a> Known<'a> for Here<'_, 'a> {
    fn input(&self, name: &str) -> Option<Type<'a>> {
        match self.declared.inputs.get(name) {
            Some(input) => Some(input.schema.as_ref().map_or(Type::ANY, Type::of_schema)),
            None => self.spec.left_out.contains(&("inputs", name.to_owned())).then_some(Type::ANY),
        }
    }

    fn similar_input(&self, name: &str) -> Option<&'a str> {
        self.similar(name, self.declared.inputs.keys().copied())
    }

    fn step(&self, name: &str) -> StepKnown<'a> {
        let Some(asked) = self.graph.index(name) else { return StepKnown::Missing };
        let Some(step) = self.step else {
            return StepKnown::Finished {
                output: Some(self.output(asked)),
                failure: true,
                certainty: Certainty::Ended,
            };
        };
        if asked == step {
            return StepKnown::Unfinished { itself: true };
        }
        let mut states = self.graph.needs(step).iter().filter(|need| need.step == asked).map(|need| need.state);
        let is_known = !self.spec.steps[step].1.incomplete && !self.graph.is_faulty(step);
        let state = states.next();
        let certainty = match self.graph.joined(step) {
            _ if !is_known => Certainty::Ended,
            _ if state.is_some() && self.graph.takes_all(step) => Certainty::Ended,
            Join::Merge if state.is_some() => Certainty::Judged,
            _ if state.is_none() && self.graph.is_before(asked, step) => Certainty::Ended,
            // When an always-step starts, all ordinary ones have come to their end.
            _ if self.spec.steps[step].1.always && !self.spec.steps[asked].1.always => Certainty::Judged,
            _ if state.is_some() || self.graph.leads_to(asked, step) => Certainty::Open,
            _ => return StepKnown::Unfinished { itself: false },
        };
        let (output, failure) = match state.filter(|_| certainty == Certainty::Ended) {
            Some(NeedState::Succeeded) => (true, false),
            Some(NeedState::Failed) => (false, true),
            Some(NeedState::Skipped) => (false, false),
            Some(NeedState::Finished) => (true, true),
            None => (true, true),
        };
        StepKnown::Finished { output: output.then(|| self.output(asked)), failure, certainty }
    }

    fn similar_step(&self, name: &str) -> Option<&'a str> {
        self.similar(name, self.spec.steps.iter().map(|(name, _)| name.get_ref().as_str()))
    }
}

/// The kinds that an expression which says whether something holds may have.
const RULE: Kinds = Kinds::BOOL;
