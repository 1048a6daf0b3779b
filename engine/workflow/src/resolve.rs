//! From a [`Spec`] to a [`Plan`]: everything that can be wrong with a workflow is found here, all of it at once, and
//! before anything runs.
//!
//! What is declared comes first (`declared`), then, for the workflow and each body of steps within it (`body`), how steps
//! hang together (`graph`), and each step by itself (`step`, `list`, `grant`); then whether pools can be waited for in vain
//! (`exclusion`), and last, what is right and yet hardly meant (`doubt`). Sub-workflows are files of their own, with
//! diagnostics of their own, and end up in the same plan (`draft`). A check that depends on something that already is wrong stays silent, so that one fault is told once. The
//! work is near linear in the file's size.

mod body;
mod cache;
mod declared;
mod doubt;
mod draft;
mod exclusion;
mod grant;
mod graph;
mod lines;
mod list;
mod secret;
mod step;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::description::Component;
use crate::diagnostic::{Collector, Diagnostic, allow, near_or_all};
use crate::plan::{BodyId, Concurrency, Join, Output, Plan, PluginId, PoolId, Rest, StepNo, WhenBusy};
use crate::rule::{
    Certainty, Expression, Fault, Guard, Known, Local, Mention, SecretKnown, StepKnown, Template, Tree, infer,
};
use crate::schema::{Kinds, Type};
use crate::secret::SecretSource;
use crate::spec::{ConcurrencySpec, GrantSpec, Place, Source, Spanned, Spec, ValueKind};

use body::Frame;
use declared::Declared;
pub(crate) use declared::{POOL_SIZE_MAX, PRIORITY_MAX};
use draft::Draft;
pub use draft::{File, beside};
use graph::Owner;
pub(crate) use graph::{JOIN_WORDS, REST_WORDS};
use lines::Finder;
use list::AMONG;
pub(crate) use step::{ATTEMPTS_MAX, FACTOR_MAX, PROCESSES_MAX, ROUNDS_MAX};

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
    /// The files of sub-workflows by [`beside`], those that they open in turn among them; or why one could not be read.
    pub workflows: BTreeMap<String, Result<Arc<File>, String>>,
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
    /// The same of the files of sub-workflows that have any, those of [`Spec::parse`] included.
    pub others: Vec<(Source, Vec<Diagnostic>)>,
}

/// Resolves a workflow. There is no plan either if [`Spec::parse`] found an error.
pub fn resolve(source: &Source, spec: &Spec, surroundings: &Surroundings) -> Resolution {
    let mut draft = Draft::of(&surroundings.workflows);
    let own = draft.reserve();
    let unit = Unit { source, spec, directory: &surroundings.directory, plugins: &surroundings.plugins };
    let (workflow, mut out) = file(unit, &mut draft, own);
    exclusion::check(spec, &surroundings.directory, &surroundings.workflows, &mut out);
    let Draft { others, .. } = &mut draft;
    let others = std::mem::take(others);
    let is_right = out.error_count() == 0 && !spec.incomplete;
    if !is_right || others.iter().any(|(_, found)| found.iter().any(Diagnostic::is_error)) {
        return Resolution { plan: None, diagnostics: allow(source, out.finish(), false), others };
    }
    let mut plan = draft.into_plan(workflow);
    plan.description = spec.description.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default();
    let plan = plan.link();
    nothing_to_cancel(spec, &plan, &mut out);
    Resolution { plan: Some(plan), diagnostics: allow(source, out.finish(), true), others }
}

/// A file to be resolved.
struct Unit<'u> {
    source: &'u Source,
    spec: &'u Spec,
    directory: &'u str,
    plugins: &'u BTreeMap<String, Result<Loaded, String>>,
}

/// What is true of a file beside its steps.
struct Workflow {
    name: String,
    directory: String,
    inputs: BTreeMap<String, crate::plan::Input>,
    timeout_ms: Option<u64>,
    priority: i32,
    outputs: Vec<Output>,
    concurrency: Option<Concurrency>,
}

/// The words of `when-busy`.
pub(crate) const WHEN_BUSY_WORDS: &[&str] = &["queue", "cancel-running", "reject"];

/// Resolves a file as a body of the draft.
fn file(unit: Unit<'_>, draft: &mut Draft<'_>, body: BodyId) -> (Workflow, Collector) {
    let Unit { source, spec, directory, plugins } = unit;
    let mut out = Collector::over(spec.origins.clone());
    let declared = Declared::of(spec, directory, plugins, draft, &mut out);
    let (plugin_ids, pool_ids) = draft.adopt(&declared);
    let mut resolver = Resolver {
        source,
        spec,
        directory,
        declared: &declared,
        draft,
        plugin_ids,
        pool_ids,
        frames: Vec::new(),
        locals: Vec::new(),
        used: Used::default(),
        guards: Vec::new(),
        suggestions: Cell::new(0),
        is_list: false,
        is_among: false,
        secrets: secret::declared(spec, &mut out),
        granted: None,
        finder: Finder::of(source, spec),
        out,
    };
    let owner = Owner { path: None, span: 0..0, incomplete: spec.incomplete };
    let outputs = resolver.body(body, &spec.steps, &spec.outputs, owner);
    let concurrency = spec.concurrency.as_ref().and_then(|concurrency| resolver.concurrency(concurrency));
    resolver.unused();
    let mut out = resolver.out;
    doubt::file(spec, &source.path, directory, body, &mut out);
    let workflow = Workflow {
        name: spec.name.as_ref().map(|name| name.get_ref().clone()).unwrap_or_default(),
        directory: directory.to_owned(),
        timeout_ms: declared.timeout_ms,
        priority: declared.priority,
        inputs: declared.into_inputs(),
        outputs,
        concurrency,
    };
    (workflow, out)
}

/// Tells the joins that are to cancel their rest, and have none.
fn nothing_to_cancel(spec: &Spec, plan: &Plan, out: &mut Collector) {
    for (at, (step, (_, written))) in plan.own_steps().iter().zip(&spec.steps).enumerate() {
        let is_told = step.needs.is_empty() || step.join == Join::Merge;
        let Some(rest) = written.rest.as_ref().filter(|_| step.rest == Rest::Cancel && !is_told) else {
            continue;
        };
        if plan.region(StepNo(at as u32)).is_empty() {
            let message = format!("nothing is cancelled: no step serves `{}` alone", step.name);
            let found = Diagnostic::warning("useless-key", rest.span(), message).label("has no effect");
            out.push(found.hint("what is needed elsewhere too, or by `[outputs]`, is never cancelled"));
        }
    }
}

struct Resolver<'a, 'd, 'f> {
    source: &'a Source,
    spec: &'a Spec,
    directory: &'a str,
    declared: &'a Declared<'a>,
    draft: &'d mut Draft<'f>,
    /// The ids in the plan of what this file declares.
    plugin_ids: Vec<PluginId>,
    pool_ids: Vec<PoolId>,
    /// The bodies around the place at hand, the innermost last.
    frames: Vec<Frame<'a>>,
    /// What items and rounds around it have.
    locals: Vec<Locals<'a>>,
    out: Collector,
    used: Used<'a>,
    /// What is known to be there because the `when` of the step at hand asks for it.
    guards: Vec<Guard>,
    /// How often a similar name was looked for: see [`Here::similar`].
    suggestions: Cell<usize>,
    /// Whether the list of a `foreach` is looked at.
    is_list: bool,
    /// Whether the `until` of a `foreach` is.
    is_among: bool,
    /// The sources of `[secrets]`; `None` of what is declared wrongly.
    secrets: HashMap<&'a str, Option<SecretSource>>,
    /// The grants of the step whose `with` is looked at, which alone may mention secrets.
    granted: Option<&'a GrantSpec>,
    /// Where the parts of its steps are written.
    finder: Finder<'a>,
}

/// The types of what only items or rounds have.
#[derive(Clone)]
struct Locals<'a> {
    item: Option<Type<'a>>,
    previous: Option<Type<'a>>,
}

/// What is mentioned somewhere.
#[derive(Default)]
struct Used<'a> {
    inputs: HashSet<&'a str>,
    plugins: HashSet<&'a str>,
    pools: HashSet<&'a str>,
    signals: HashSet<&'a str>,
    secrets: HashSet<&'a str>,
    /// Names that mean a step here and another one further out, and have been told.
    hidden: HashSet<String>,
    /// All inputs as a whole are.
    all_inputs: bool,
    /// Something unknown or unreadable is: whatever seems to be unused may be meant by it.
    any: bool,
}

impl<'a> Resolver<'a, '_, '_> {
    /// Compiles a value's holes and finds their types, seen from the step at hand or from the end of the body.
    fn tree(&mut self, value: &'a crate::spec::Value) -> Tree {
        let mut faults = Vec::new();
        let tree = Tree::of_spec(value, &self.spec.words(self.source), &mut |place, fault| {
            faults.push(diagnostic(place, fault))
        });
        self.used.any |= !faults.is_empty();
        faults.into_iter().for_each(|fault| self.out.push(fault));
        tree.holes(&mut |hole| {
            let found = self.expression(&hole.expression, &hole.place);
            hole.kinds.set(found.kinds);
        });
        tree
    }

    /// The type of an expression, whatever is wrong with it.
    fn type_of(&self, expression: &Expression) -> Type<'a> {
        infer(expression, &self.here(), &self.guards).0
    }

    fn here(&self) -> Here<'_, 'a> {
        Here {
            declared: self.declared,
            spec: self.spec,
            frames: &self.frames,
            locals: &self.locals,
            suggestions: &self.suggestions,
            is_list: self.is_list,
            is_among: self.is_among,
            granted: self.granted,
        }
    }

    /// Finds the type of an expression, and tells what is wrong with it.
    fn expression(&mut self, expression: &Expression, place: &Place) -> Type<'a> {
        for mention in expression.mentions() {
            match mention {
                Mention::Input(name) => match self.declared.inputs.get_key_value(name) {
                    Some((name, _)) => drop(self.used.inputs.insert(*name)),
                    None => self.used.any = true,
                },
                Mention::AllInputs => self.used.all_inputs = true,
                Mention::Step(name) => self.doubt_name(name, expression, place),
                Mention::Secret(name) => self.used.any |= !self.secrets.contains_key(name),
            }
        }
        let (found, faults) = infer(expression, &self.here(), &self.guards);
        let wrong = faults.iter().any(|fault| !fault.is_doubt);
        faults.into_iter().for_each(|fault| self.out.push(diagnostic(place, fault)));
        if wrong { Type::ANY } else { found }
    }

    /// The group is known before anything runs, so that it may mention nothing but inputs.
    fn concurrency(&mut self, spec: &'a ConcurrencySpec) -> Option<Concurrency> {
        let when_busy = match &spec.when_busy {
            None => WhenBusy::Queue,
            Some(word) => {
                let known = WhenBusy::WORDS.iter().find(|(known, _)| *known == word.get_ref().as_str());
                if known.is_none() {
                    let message = format!("a run can't `{}` when its group is busy", word.get_ref());
                    let hint = match word.get_ref().as_str() {
                        "cancel-in-progress" | "cancel" | "replace" => "did you mean `cancel-running`?",
                        "skip" | "forbid" | "fail" => "did you mean `reject`?",
                        _ => "it can `queue`, `cancel-running` or `reject`",
                    };
                    let found = Diagnostic::error("unknown-when-busy", word.span(), message).label("unknown word");
                    self.out.push(found.hint(hint));
                }
                known.map_or(WhenBusy::Queue, |(_, known)| *known)
            }
        };
        let group = spec.group.as_ref()?;
        if matches!(&group.kind, ValueKind::String(text) if text.trim().is_empty()) {
            let found = Diagnostic::error("concurrency-group", group.span.clone(), "the group has no name");
            self.out.push(found.hint("write for example `group = \"deploy-${inputs.region}\"`"));
        }
        let before = self.out.error_count();
        let tree = self.tree(group);
        let mut mentions_steps = false;
        tree.holes(&mut |hole| {
            mentions_steps |= hole.expression.mentions().any(|mention| matches!(mention, Mention::Step(_)));
        });
        if mentions_steps && self.out.error_count() == before {
            let message = "the group is asked for before any step has run";
            let found = Diagnostic::error("concurrency-group", group.span.clone(), message).label("mentions a step");
            self.out.push(found.hint("it may mention inputs: `${inputs.region}`"));
        }
        Some(Concurrency { group: Template::of(&tree, group.to_json().into()), when_busy })
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
        for (name, _) in spec.signals.iter().filter(|(name, _)| !self.used.signals.contains(name.get_ref().as_str())) {
            self.out.push(unused("signal", name));
        }
        for (name, _) in spec.secrets.iter().filter(|(name, _)| !self.used.secrets.contains(name.get_ref().as_str())) {
            self.out.push(unused("secret", name).label("granted to no step"));
        }
        for short in spec.for_short.iter().filter(|short| !short.is_used) {
            self.out.push(unused(short.kind, &short.name));
        }
        for (name, _) in spec.pools.iter().filter(|(name, _)| !self.used.pools.contains(name.get_ref().as_str())) {
            self.out.push(unused("pool", name));
        }
    }
}

fn diagnostic(place: &Place, fault: Fault) -> Diagnostic {
    let Fault { span, code, message, label, hint, is_doubt } = fault;
    let found = match is_doubt {
        true => Diagnostic::warning(code, place.span(span), message),
        false => Diagnostic::error(code, place.span(span), message),
    };
    found.label(label).maybe_hint(hint)
}

/// A name that nothing declares.
fn unknown(kind: &str, code: &'static str, name: &str, span: Range<usize>, hint: Option<String>) -> Diagnostic {
    Diagnostic::error(code, span, format!("there is no {kind} `{name}`"))
        .label(format!("unknown {kind}"))
        .maybe_hint(hint)
}

/// What is known at one place: within a step, or at a body's end.
struct Here<'h, 'a> {
    declared: &'a Declared<'a>,
    spec: &'a Spec,
    frames: &'h [Frame<'a>],
    locals: &'h [Locals<'a>],
    suggestions: &'h Cell<usize>,
    is_list: bool,
    is_among: bool,
    granted: Option<&'a GrantSpec>,
}

impl<'a> Here<'_, 'a> {
    /// Comparing with every name of a large file costs time, so that after a hundred searches there are no more.
    fn similar_or_all(&self, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
        self.suggestions.set(self.suggestions.get() + 1);
        if self.suggestions.get() > 100 { None } else { near_or_all(name, known) }
    }
}

impl<'a> Known<'a> for Here<'_, 'a> {
    fn input(&self, name: &str) -> Option<Type<'a>> {
        match self.declared.inputs.get(name) {
            Some(input) => Some(input.schema.as_ref().map_or(Type::ANY, Type::of_schema)),
            None => self.spec.left_out.contains(&("inputs", name.to_owned())).then_some(Type::ANY),
        }
    }

    fn hint_at_input(&self, name: &str) -> Option<String> {
        self.similar_or_all(name, self.declared.inputs.keys().copied())
    }

    fn step(&self, name: &str) -> StepKnown<'a> {
        let around = self.frames.iter().rev().enumerate().find(|(_, frame)| frame.graph.index(name).is_some());
        match around.map(|(outward, frame)| (outward, frame.known(name, self.declared))) {
            None => StepKnown::Missing,
            // What the `when` of the block around makes sure of is not looked at in it.
            Some((1.., StepKnown::Finished { output, failure, certainty: Certainty::Either })) => {
                StepKnown::Finished { output, failure, certainty: Certainty::Ended }
            }
            Some((_, known)) => known,
        }
    }

    fn local(&self, local: Local, outer: u8) -> Option<Type<'a>> {
        if local == Local::Items {
            return self.is_among.then(|| Type::of_schema(&AMONG));
        }
        let mut locals = self.locals.iter().rev().skip(outer.into());
        match local {
            Local::Item => locals.find_map(|locals| locals.item.clone()),
            Local::Previous => locals.next()?.previous.clone(),
            Local::Index | Local::Items => locals.next().map(|_| Type::of_kinds(Kinds::INT)),
        }
    }

    fn is_list(&self) -> bool {
        self.is_list
    }

    fn secret(&self, name: &str) -> SecretKnown {
        let declared = self.spec.secrets.iter().any(|(known, _)| known.get_ref() == name);
        if !declared && !self.spec.left_out.contains(&("secrets", name.to_owned())) {
            let known = self.spec.secrets.iter().map(|(known, _)| known.get_ref().as_str());
            return SecretKnown::Missing { hint: self.similar_or_all(name, known) };
        }
        let Some(granted) = self.granted else { return SecretKnown::Elsewhere };
        let grants = granted.secrets.iter().flat_map(|list| list.get_ref());
        let grants = grants.filter(|grant| grant.name.get_ref() == name);
        if grants.clone().any(|grant| grant.host.is_some() || grant.is_revealed()) {
            return SecretKnown::Granted;
        }
        let variable = grants.clone().find_map(|grant| Some(grant.env.as_ref()?.get_ref().clone()));
        let has_programs = granted.process.as_ref().is_some_and(|list| !list.get_ref().is_empty());
        match has_programs && granted.http.is_none() {
            true => SecretKnown::OfPrograms { variable },
            false => SecretKnown::Withheld,
        }
    }

    fn hint_at_step(&self, name: &str) -> Option<String> {
        let others = self.frames.iter().rev().flat_map(|frame| {
            frame.steps.iter().enumerate().filter(|(at, _)| frame.at != Some(*at)).map(|(_, (name, _))| name)
        });
        self.similar_or_all(name, others.map(|name| name.get_ref().as_str()))
    }

    fn ways(&self, name: &str) -> Option<Vec<&'static str>> {
        let frame = self.frames.last()?;
        let asked = frame.graph.index(name)?;
        // Its `undo` and the rules between its rounds are looked at without what a step's `when` makes sure of.
        if frame.is_done && frame.at != Some(asked) {
            return None;
        }
        let spec = &frame.steps[asked].1;
        let wait = spec.wait.as_ref().filter(|wait| !wait.incomplete && spec.foreach.is_none())?;
        let ways = [
            ("time", wait.duration.is_some() || wait.until.is_some()),
            ("signal", wait.signal.is_some()),
            ("approval", wait.approval.is_some()),
        ];
        Some(ways.into_iter().filter(|(_, is_meant)| *is_meant).map(|(way, _)| way).collect())
    }
}

/// The kinds that an expression which says whether something holds may have.
const RULE: Kinds = Kinds::BOOL;
