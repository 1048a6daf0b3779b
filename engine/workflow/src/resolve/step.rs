//! One step by itself: what it runs with which input, when, how often, for how long and with which bounds.

use std::collections::HashSet;
use std::ops::Range;

use super::declared::{duration, priority};
use super::draft::beside;
use super::grant::grants;
use super::graph::Owner;
use super::{Locals, RULE, Resolver, diagnostic, unknown};
use crate::capability::{Grants, Limits};
use crate::diagnostic::{Collector, Diagnostic};
use crate::json::Json;
use crate::plan::{
    Answer, Approval, BodyId, Join, Need, Opens, PluginId, PoolId, Rest, Retry, Rounds, ScopeCount, Step, StepNo, Use,
    Wait, Work,
};
use crate::rule::{Expression, Rule, Template, Tree, TreeKind, guards};
use crate::schema::{Type, fit};
use crate::spec::{LimitSpec, RepeatSpec, RetrySpec, Size, Spanned, StepSpec, Value, ValueKind, WaitSpec, size_bytes};
use crate::units::bytes_text;

/// The most attempts. 1,000: with the longest sensible delay of an hour, six weeks.
pub(crate) const ATTEMPTS_MAX: i64 = 1_000;

/// The most that `limit.processes` may be: more than a machine of today runs.
pub(crate) const PROCESSES_MAX: i64 = 100_000;

/// The largest factor. 100: more than that is a typing error for a longer delay.
pub(crate) const FACTOR_MAX: f64 = 100.0;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The most rounds of a `repeat`. 100,000, like the items of a `foreach`.
pub(crate) const ROUNDS_MAX: i64 = 100_000;

/// What a step does, before it is known how often.
enum Does {
    /// Something by itself.
    Alone(Box<Work>),
    /// It opens scopes of a body.
    Opens { body: BodyId, with: Option<Template>, detached: bool },
}

impl<'a> Resolver<'a, '_, '_> {
    /// A step, and what undoes it.
    pub(super) fn step(&mut self, at: usize, name: &'a Spanned<String>, spec: &'a StepSpec) -> (Step, Option<Step>) {
        self.guards.clear();
        let when = spec.when.as_ref().and_then(|text| self.rule("when", text));
        self.judge_keys(name, spec);
        let each = spec.foreach.as_ref().map(|foreach| self.each(foreach, spec));
        let locals = self.locals.len();
        if let Some((_, items)) = &each {
            self.locals.push(Locals { item: Some(items.clone()), previous: None });
        }
        if spec.repeat.is_some() {
            self.locals.push(Locals { item: None, previous: Some(Type::ANY) });
        }
        let does = self.does(name, spec);
        let retry = retry(spec.retry.as_ref(), &mut self.out);
        let timeout_ms = spec.timeout.as_ref().and_then(|text| duration(text, "timeout", 1, &mut self.out));
        let priority = spec.priority.as_ref().map(|number| priority(number, &mut self.out));
        let undo = spec.undo.as_ref().map(|undo| self.undo(name, &undo.1));
        let scopes = match (each, &spec.repeat) {
            (Some((each, _)), _) => Some(ScopeCount::Each(each)),
            (None, Some(repeat)) => Some(ScopeCount::Rounds(self.rounds(repeat))),
            (None, None) => None,
        };
        self.locals.truncate(locals);
        let alone = |work: Work, retry: Retry, timeout_ms: Option<u64>| Step {
            name: name.get_ref().clone(),
            work,
            needs: Vec::new(),
            always: false,
            join: Join::All,
            rest: Rest::Wait,
            when: None,
            retry,
            timeout_ms,
            cancels: Vec::new(),
            undo: None,
            undoes: None,
            priority,
        };
        let (mut step, undo) = match (does, scopes) {
            (Does::Alone(work), None) => (alone(*work, retry, timeout_ms), undo),
            (Does::Alone(work), Some(scopes)) => {
                let mut inner = vec![alone(*work, retry, timeout_ms)];
                if let Some(mut undo) = undo {
                    inner[0].undo = Some(StepNo(1));
                    undo.undoes = Some(StepNo(0));
                    inner.push(undo);
                }
                let body = self.draft.reserve();
                self.draft.put(body, inner, Answer::Step);
                let opens = Opens { body, scopes, with: None, detached: false, pool: None };
                (alone(Work::Open(opens), Retry::default(), None), None)
            }
            (Does::Opens { body, with, detached }, scopes) => {
                let pool = self.pool(spec);
                let opens = Opens { body, scopes: scopes.unwrap_or(ScopeCount::One), with, detached, pool };
                (alone(Work::Open(opens), retry, timeout_ms), undo)
            }
        };
        let graph = &self.frames.last().expect("a step is looked at within a body").graph;
        let needs = graph.needs(at).iter();
        step.needs = needs.map(|need| Need { step: StepNo(need.step as u32), state: need.state }).collect();
        step.always = spec.always;
        step.join = graph.joined(at);
        step.rest = match &spec.rest {
            Some(rest) if rest.get_ref() == "cancel" => Rest::Cancel,
            _ => Rest::Wait,
        };
        step.when = when;
        step.cancels = self.cancels(at, name, spec);
        (step, undo)
    }

    /// Judges which keys of a step go together.
    fn judge_keys(&mut self, name: &Spanned<String>, spec: &StepSpec) {
        let works: Vec<(&str, Range<usize>)> = [
            spec.plugin.as_ref().map(|plugin| ("use", plugin.span())),
            spec.block.as_ref().map(|block| ("steps", block.span.clone())),
            spec.workflow.as_ref().map(|path| ("workflow", path.span())),
            spec.wait.as_ref().map(|wait| ("wait", wait.span.clone())),
            spec.finish.as_ref().map(|finish| ("finish", finish.span())),
            spec.fail.as_ref().map(|fail| ("fail", fail.span.clone())),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let [(first, first_span), (second, second_span), ..] = &works[..] {
            let message = format!("the step `{}` has `{first}` and `{second}`; it can do only one", name.get_ref());
            let found = Diagnostic::error("two-works", second_span.clone(), message);
            self.out.push(found.also(first_span.clone(), "the other").hint("make two steps of it"));
        }
        let work = works.first().map_or("use", |(work, _)| work);
        let useless = |span: Range<usize>, message: String| {
            Diagnostic::warning("useless-key", span, message).label("has no effect")
        };
        let mut without = |key: &str, span: Option<Range<usize>>, works: &[&str]| {
            if let Some(span) = span.filter(|_| !works.contains(&work)) {
                self.out.push(useless(span, format!("a step with `{work}` has no use for `{key}`")));
            }
        };
        without("with", spec.with.as_ref().map(|with| with.span.clone()), &["use", "workflow"]);
        without("pool", spec.pool.as_ref().map(Spanned::span), &["use", "steps", "workflow", "wait"]);
        without("cache", spec.cache.as_ref().map(Spanned::span), &["use"]);
        without("retry", spec.retry.as_ref().map(|retry| retry.span.clone()), &["use", "steps", "workflow"]);
        without("timeout", spec.timeout.as_ref().map(Spanned::span), &["use", "steps", "workflow", "wait"]);
        without("undo", spec.undo.as_ref().map(|undo| undo.0.clone()), &["use", "steps", "workflow"]);
        without("detached", spec.detached.as_ref().map(Spanned::span), &["workflow"]);
        if let Some(priority) = spec.priority.as_ref().filter(|_| spec.pool.is_none() && !spec.incomplete) {
            let message = "`priority` is a place in the line of a pool, and the step has none".to_owned();
            self.out.push(useless(priority.span(), message));
        }
        let again = spec.foreach.as_ref().map(|foreach| ("foreach", foreach.span.clone()));
        let again = again.or(spec.repeat.as_ref().map(|repeat| ("repeat", repeat.span.clone())));
        if let Some((key, span)) = again.filter(|_| work == "finish" || work == "fail") {
            let message = format!("a step with `{work}` is an end, so that `{key}` makes no sense");
            self.out.push(Diagnostic::error("two-works", span, message).label("can't be done more than once"));
        }
        if let (Some(foreach), Some(repeat)) = (&spec.foreach, &spec.repeat) {
            let found =
                Diagnostic::error("two-works", repeat.span.clone(), "a step has `foreach` or `repeat`, not both");
            let hint = "put the one into `steps` of the other: `[steps.NAME.steps.NAME]`";
            self.out.push(found.also(foreach.span.clone(), "the other").hint(hint));
        }
        if let Some(detached) = spec.detached.as_ref().filter(|detached| *detached.get_ref())
            && (spec.foreach.is_some() || spec.repeat.is_some())
        {
            let message = "a step with `foreach` or `repeat` waits for what it begins";
            self.out.push(Diagnostic::error("two-works", detached.span(), message).label("can't be detached"));
        }
        if let Some(parallel) = spec.parallel.as_ref().filter(|_| spec.foreach.is_none() && !spec.incomplete) {
            let message = "`parallel` bounds the items of `foreach`, and there is none";
            let found = Diagnostic::error("missing-key", parallel.span(), message).label("without `foreach`");
            self.out.push(found.hint("how many attempts run at once is bounded by a pool"));
        }
        if let Some(undo) = spec.undo.as_ref().filter(|_| spec.always) {
            self.out.push(useless(undo.0.clone(), "what an always-step did is not undone".to_owned()));
        }
        if let Some(finish) = spec.finish.as_ref().filter(|finish| !*finish.get_ref()) {
            let found = Diagnostic::error("wrong-type", finish.span(), "`finish` is `true` or not there");
            self.out.push(found.label("not an end"));
        }
    }

    fn does(&mut self, name: &'a Spanned<String>, spec: &'a StepSpec) -> Does {
        if let Some(block) = &spec.block {
            let body = self.draft.reserve();
            let path = match &self.frame().at {
                _ if spec.always => format!("always.{}", name.get_ref()),
                _ => format!("steps.{}", name.get_ref()),
            };
            let owner = Owner { path: Some(path), span: name.span(), incomplete: spec.incomplete };
            let guards = std::mem::take(&mut self.guards);
            self.body(body, &block.steps, &block.outputs, owner);
            self.guards = guards;
            return Does::Opens { body, with: None, detached: false };
        }
        if let Some(path) = &spec.workflow {
            return self.sub_workflow(name, spec, path);
        }
        Does::Alone(Box::new(match spec {
            StepSpec { wait: Some(wait), .. } => Work::Wait(Wait { pool: self.pool(spec), ..self.wait(wait) }),
            StepSpec { finish: Some(_), .. } => Work::Finish,
            StepSpec { fail: Some(message), .. } => Work::Fail(self.text(message)),
            _ => {
                let mut uses = self.uses(name, spec);
                uses.cache = super::cache::judge(spec, &uses.grants, &mut self.out);
                Work::Use(Box::new(uses))
            }
        }))
    }

    fn uses(&mut self, name: &'a Spanned<String>, spec: &'a StepSpec) -> Use {
        let plugin = self.plugin(name, spec);
        self.granted = Some(&spec.grant);
        let with = self.with(name, spec);
        self.granted = None;
        let component = spec.plugin.as_ref().and_then(|plugin| self.declared.plugin(plugin.get_ref()));
        let component = component.map(|plugin| &plugin.component);
        let mut grants = grants(&spec.grant, component, name.span(), &mut self.out);
        self.secret_grants(spec, &mut grants);
        let places = self.finder.of_step(name, spec, &grants);
        Use {
            plugin: plugin.and_then(|id| self.plugin_ids.get(id.index()).copied()).unwrap_or(PluginId(0)),
            with,
            pool: self.pool(spec),
            limits: limits(&spec.limit, &mut self.out),
            grants,
            places,
            cache: false,
        }
    }

    /// What it is granted of secrets, beside its hosts.
    fn secret_grants(&mut self, spec: &'a StepSpec, grants: &mut Grants) {
        let named = spec.grant.secrets.iter().flat_map(|list| list.get_ref());
        self.used.secrets.extend(named.map(|grant| grant.name.get_ref().as_str()));
        let left_out = |name: &str| self.spec.left_out.contains(&("secrets", name.to_owned()));
        grants.secrets = super::secret::grants(&spec.grant, &self.secrets, left_out, &grants.http, &mut self.out);
    }

    /// Its place in the plan.
    fn pool(&mut self, spec: &'a StepSpec) -> Option<PoolId> {
        let pool = spec.pool.as_ref()?;
        self.used.pools.insert(pool.get_ref());
        let found = self.declared.pool(pool.get_ref());
        if found.is_none() && !self.spec.left_out.contains(&("pools", pool.get_ref().clone())) {
            self.used.any = true;
            let known = self.spec.pools.iter().map(|(name, _)| name.get_ref().as_str());
            let hint = self.out.suggest_or_list(pool.get_ref(), known);
            self.out.push(unknown("pool", "unknown-pool", pool.get_ref(), pool.span(), hint));
        }
        self.pool_ids.get(found?.index()).copied()
    }

    /// What undoes a step: it sees the step, which has succeeded.
    fn undo(&mut self, name: &'a Spanned<String>, spec: &'a StepSpec) -> Step {
        self.frame().is_done = true;
        let guards = std::mem::take(&mut self.guards);
        let work = Work::Use(Box::new(self.uses(name, spec)));
        self.guards = guards;
        self.frame().is_done = false;
        Step {
            name: format!("{}.undo", name.get_ref()),
            work,
            needs: Vec::new(),
            always: false,
            join: Join::All,
            rest: Rest::Wait,
            when: None,
            retry: retry(spec.retry.as_ref(), &mut self.out),
            timeout_ms: spec.timeout.as_ref().and_then(|text| duration(text, "timeout", 1, &mut self.out)),
            cancels: Vec::new(),
            undo: None,
            undoes: None,
            priority: spec.priority.as_ref().map(|number| priority(number, &mut self.out)),
        }
    }

    fn sub_workflow(&mut self, name: &'a Spanned<String>, spec: &'a StepSpec, path: &'a Spanned<String>) -> Does {
        let detached = spec.detached.as_ref().is_some_and(|detached| *detached.get_ref());
        let whole = beside(self.directory, path.get_ref());
        let fault = match self.draft.file(&whole) {
            Some(Ok(file)) => {
                let body = self.draft.workflow(&whole, file);
                let schema = self.declared.workflow(path.get_ref()).map(|workflow| &workflow.input);
                let with = self.held_against(name, spec, schema, None);
                return Does::Opens { body, with: Some(with), detached };
            }
            Some(Err(reason)) => reason.clone(),
            None => "it was not read".to_owned(),
        };
        let message = format!("the workflow `{}` can't be used: {fault}", path.get_ref());
        let found = Diagnostic::error("workflow", path.span(), message);
        self.out.push(found.hint("paths of workflows start at the folder of the file that names them"));
        Does::Opens { body: self.draft.reserve(), with: None, detached }
    }

    /// The rules of a `repeat` see the step itself, as its last round was.
    fn rounds(&mut self, spec: &'a RepeatSpec) -> Rounds {
        self.frame().is_done = true;
        let guards = std::mem::take(&mut self.guards);
        let while_holds = spec.while_holds.as_ref().and_then(|text| self.rule("while", text));
        let until = spec.until.as_ref().and_then(|text| self.rule("until", text));
        self.guards = guards;
        self.frame().is_done = false;
        let delay_ms = spec.delay.as_ref().and_then(|text| duration(text, "delay", 0, &mut self.out));
        let max = spec.max.as_ref().map_or(1, |max| *max.get_ref());
        if let Some(number) = spec.max.as_ref().filter(|_| !(1..=ROUNDS_MAX).contains(&max)) {
            let message = format!("`max` is 1 to {ROUNDS_MAX}, not {max}");
            self.out.push(Diagnostic::error("number-range", number.span(), message));
        }
        Rounds { while_holds, until, max: max.clamp(1, ROUNDS_MAX) as u32, delay_ms: delay_ms.unwrap_or(0) }
    }

    fn wait(&mut self, spec: &'a WaitSpec) -> Wait {
        let for_ms = spec.duration.as_ref().and_then(|text| duration(text, "for", 1, &mut self.out));
        let until = spec.until.as_ref().map(|until| {
            let template = self.text(until);
            let is_time = |text: &str| text.parse::<jiff::Timestamp>().is_ok();
            if let ValueKind::String(text) = &until.kind
                && !text.contains("${")
                && !is_time(text.trim())
            {
                let message = format!("`{text}` is no time with a zone");
                let found = Diagnostic::error("time", until.span.clone(), message);
                self.out.push(found.hint("write for example `2026-12-24T18:00:00Z` or `2026-12-24T18:00:00+01:00`"));
            }
            template
        });
        let signal = spec.signal.as_ref().and_then(|name| {
            self.used.signals.insert(name.get_ref());
            let declared = self.spec.signals.iter().find(|(known, _)| known.get_ref() == name.get_ref());
            let Some((_, declared)) = declared else {
                if !self.spec.left_out.contains(&("signals", name.get_ref().clone())) {
                    self.used.any = true;
                    let known = self.spec.signals.iter().map(|(name, _)| name.get_ref().as_str());
                    let hint = self.out.suggest(name.get_ref(), known);
                    let hint = hint.unwrap_or_else(|| format!("declare it: `[signals]` `{} = {{}}`", name.get_ref()));
                    self.out.push(unknown("signal", "unknown-signal", name.get_ref(), name.span(), Some(hint)));
                }
                return None;
            };
            let keep = declared.keep.as_ref().is_none_or(|keep| *keep.get_ref());
            Some(self.draft.signal(name.get_ref(), keep))
        });
        let approval = spec.approval.as_ref().map(|who| {
            if who.get_ref().is_empty() {
                let found = Diagnostic::error("approval", who.span(), "nobody may give the approval");
                self.out.push(found.hint("name somebody: `approval = [\"ann\"]`"));
            }
            let mut known = HashSet::new();
            for name in who.get_ref().iter().filter(|name| !known.insert(name.get_ref().as_str())) {
                let message = format!("`{}` is asked twice", name.get_ref());
                self.out.push(Diagnostic::warning("duplicate", name.span(), message).label("says nothing new"));
            }
            Approval {
                by: who.get_ref().iter().map(|name| name.get_ref().clone()).collect(),
                question: spec.question.as_ref().map(|question| self.text(question)),
            }
        });
        if let Some(question) = spec.question.as_ref().filter(|_| approval.is_none() && !spec.incomplete) {
            let message = "there is nobody who is asked: `question` goes with `approval`";
            self.out.push(Diagnostic::warning("useless-key", question.span.clone(), message).label("has no effect"));
        }
        let is_nothing = spec.duration.is_none() && spec.until.is_none() && spec.signal.is_none();
        if is_nothing && spec.approval.is_none() && !spec.incomplete {
            let found = Diagnostic::error("missing-key", spec.span.clone(), "it waits for nothing");
            self.out.push(found.hint("wait `for` a duration, `until` a time, for a `signal` or an `approval`"));
        }
        Wait { for_ms, until, signal, approval, pool: None }
    }

    /// A string with holes.
    fn text(&mut self, value: &'a Value) -> Template {
        let tree = self.tree(value);
        Template::of(&tree, Json::from(value.to_json()))
    }

    fn plugin(&mut self, name: &Spanned<String>, spec: &'a StepSpec) -> Option<PluginId> {
        let Some(plugin) = &spec.plugin else {
            if !spec.incomplete {
                let message = format!("the step `{}` does nothing: it has no `use`", name.get_ref());
                let found = Diagnostic::error("missing-key", name.span(), message).label("without `use`");
                out_hint(&mut self.out, found, self.spec.plugins.iter().map(|(name, _)| name.get_ref().as_str()));
            }
            return None;
        };
        self.used.plugins.insert(plugin.get_ref());
        let found = self.declared.plugin(plugin.get_ref());
        // One that is declared but could not be loaded has been told.
        let declared = self.declared.is_plugin(plugin.get_ref());
        let left_out = self.spec.left_out.contains(&("plugins", plugin.get_ref().clone()));
        if found.is_none() && !declared && !left_out {
            self.used.any = true;
            let hint =
                self.out.suggest(plugin.get_ref(), self.spec.plugins.iter().map(|(name, _)| name.get_ref().as_str()));
            let hint = hint.unwrap_or_else(|| format!("declare it: `[plugins]` `{} = \"PATH\"`", plugin.get_ref()));
            self.out.push(unknown("plugin", "unknown-plugin", plugin.get_ref(), plugin.span(), Some(hint)));
        }
        found.map(|plugin| plugin.id)
    }

    /// The input, held against what the component takes.
    fn with(&mut self, name: &'a Spanned<String>, spec: &'a StepSpec) -> Template {
        let plugin = spec.plugin.as_ref().and_then(|plugin| self.declared.plugin(plugin.get_ref()));
        let validator = plugin.and_then(|plugin| plugin.validator.as_ref());
        self.held_against(name, spec, plugin.map(|plugin| &plugin.input), validator)
    }

    /// `with`, held against a schema. Without `with`, it is an empty object.
    fn held_against(
        &mut self,
        name: &Spanned<String>,
        spec: &'a StepSpec,
        schema: Option<&'a serde_json::Value>,
        validator: Option<&jsonschema::Validator>,
    ) -> Template {
        let (tree, source) = match &spec.with {
            Some(with) => (self.tree(with), Json::from(with.to_json())),
            None => {
                let empty = Tree { span: name.span(), kind: TreeKind::Table(Vec::new()) };
                (empty, Json::from(serde_json::json!({})))
            }
        };
        if let Some(schema) = schema.filter(|_| spec.with.is_some() || !spec.incomplete) {
            let mut misfits = Vec::new();
            let part = if spec.workflow.is_some() { "the workflow's input" } else { "the component's input" };
            fit::fit(part, "with", &tree, &Type::of_schema(schema), &mut |misfit| misfits.push(misfit));
            if let (true, Some(value), Some(validator)) = (misfits.is_empty(), tree.constant(), validator) {
                fit::validate("with", &tree, &value, validator, &mut |misfit| misfits.push(misfit));
            }
            misfits.into_iter().for_each(|misfit| self.out.push(misfit));
        }
        let declared = self.declared;
        let component = spec.plugin.as_ref().and_then(|plugin| declared.plugin(plugin.get_ref()));
        self.doubt_input(spec, &tree, component.map(|plugin| &plugin.component));
        Template::of(&tree, source)
    }

    /// A rule: `when`, `while` or `until`. What it makes sure of is kept in `guards`.
    pub(super) fn rule(&mut self, key: &str, text: &'a Spanned<String>) -> Option<Rule> {
        let content = text.get_ref();
        let Some(place) = self.spec.words(self.source).place(&text.span(), content) else {
            self.used.any = true;
            return None;
        };
        if let Some(inner) = content.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            let found = Diagnostic::error("rule-syntax", text.span(), "a rule is written without `${…}`");
            self.out.push(found.hint(format!("write `{key} = {:?}`", inner.trim())));
            self.used.any = true;
            return None;
        }
        let expression = match Expression::compile(content) {
            Ok(expression) => expression,
            Err(faults) => {
                self.used.any = true;
                faults.into_iter().for_each(|fault| self.out.push(diagnostic(&place, fault)));
                return None;
            }
        };
        let found = self.expression(&expression, &place);
        if !found.kinds.is_none() && !found.kinds.meets(RULE) {
            let message = format!("a rule is true or false, but this is {}", found.kinds);
            let diagnostic = Diagnostic::error("not-boolean", place.span(0..content.len()), message);
            self.out.push(diagnostic.label(found.kinds.to_string()).hint("compare it with something, such as `… > 0`"));
        }
        self.guards = guards(&expression);
        // One that vars decide is meant: they may be others in another environment.
        if !self.spec.origins.is_rewritten(&text.span()) {
            self.constant_rule(key, &expression, place.span(0..content.len()));
        }
        Some(Rule::from(expression))
    }
}

/// With the plugins that there are as a hint.
fn out_hint<'n>(out: &mut Collector, found: Diagnostic, names: impl Iterator<Item = &'n str>) {
    let names: Vec<String> = names.take(8).map(|name| format!("`use = \"{name}\"`")).collect();
    out.push(match names.is_empty() {
        true => found.hint("declare a plugin in `[plugins]`, and name it with `use`"),
        false => found.hint(format!("write {}", names.join(" or "))),
    });
}

fn retry(spec: Option<&RetrySpec>, out: &mut Collector) -> Retry {
    let mut retry = Retry::default();
    let Some(spec) = spec else { return retry };
    match &spec.attempts {
        Some(attempts) if (1..=ATTEMPTS_MAX).contains(attempts.get_ref()) => {
            retry.attempts = *attempts.get_ref() as u32
        }
        Some(attempts) => {
            let message = format!("`attempts` is 1 to {ATTEMPTS_MAX}, not {}", attempts.get_ref());
            let found = Diagnostic::error("number-range", attempts.span(), message);
            out.push(found.hint("the first attempt counts"));
        }
        None if spec.incomplete => (),
        None => {
            let found = Diagnostic::error("missing-key", spec.span.clone(), "`retry` needs `attempts`");
            out.push(found.label("without `attempts`").hint("write for example `retry = { attempts = 3 }`"));
        }
    }
    let delay_ms = spec.delay.as_ref().and_then(|text| duration(text, "delay", 0, out));
    let max_delay_ms = spec.max_delay.as_ref().and_then(|text| duration(text, "max-delay", 0, out));
    retry.delay_ms = delay_ms.unwrap_or(retry.delay_ms.min(max_delay_ms.unwrap_or(u64::MAX)));
    retry.max_delay_ms = max_delay_ms.unwrap_or(retry.max_delay_ms.max(retry.delay_ms));
    if let (Some(delay), Some(max_delay)) = (&spec.delay, &spec.max_delay)
        && delay_ms.zip(max_delay_ms).is_some_and(|(delay, max)| delay > max)
    {
        let message =
            format!("`delay` is longer than `max-delay`: `{}` and `{}`", delay.get_ref(), max_delay.get_ref());
        out.push(Diagnostic::error("number-range", delay.span(), message).also(max_delay.span(), "the bound"));
    }
    if let Some(factor) = &spec.factor {
        match *factor.get_ref() {
            right if (1.0..=FACTOR_MAX).contains(&right) => retry.factor = right,
            wrong => {
                let message = format!("`factor` is 1 to {FACTOR_MAX}, not {wrong}");
                let found = Diagnostic::error("number-range", factor.span(), message);
                out.push(found.hint("1 keeps the delay the same, 2 doubles it each time"));
            }
        }
    }
    if let Some(jitter) = &spec.jitter {
        retry.jitter = *jitter.get_ref();
    }
    if retry.attempts == 1 && spec.attempts.as_ref().is_some_and(|attempts| *attempts.get_ref() == 1) {
        let span = spec.attempts.as_ref().map_or(spec.span.clone(), Spanned::span);
        out.push(
            Diagnostic::warning("useless-key", span, "with one attempt, nothing is tried again").label("has no effect"),
        );
    }
    retry
}

/// The bounds of the bounds: below the least nothing runs, above the most a limit does not limit.
fn limits(spec: &LimitSpec, out: &mut Collector) -> Limits {
    let mut limits = Limits::default();
    let mut size = |key: &str, size: &Option<Spanned<Size>>, least: u64, most: u64, limit: &mut u64| {
        let Some(size) = size else { return };
        let bytes = match size.get_ref() {
            Size::Bytes(bytes) => u64::try_from(*bytes).map_err(|_| "a size is not negative".to_owned()),
            Size::Text(text) => size_bytes(text),
        };
        match bytes {
            Ok(bytes) if (least..=most).contains(&bytes) => *limit = bytes,
            Ok(bytes) => {
                let message =
                    format!("`{key}` is {} to {}, not {}", bytes_text(least), bytes_text(most), bytes_text(bytes));
                out.push(Diagnostic::error("number-range", size.span(), message));
            }
            Err(reason) => {
                out.push(Diagnostic::error("size", size.span(), format!("`{key}` is no size")).hint(reason));
            }
        }
    };
    // 4 GiB is what a 32-bit memory can have; a page is the least that it can.
    size("memory", &spec.memory, 64 * KIB, 4 * GIB, &mut limits.memory);
    // The journal keeps outputs; SQLite's own bound for a value is near 1 GB.
    size("output", &spec.output, 2, 256 * MIB, &mut limits.output);
    size("log", &spec.log, 0, 256 * MIB, &mut limits.log);
    size("process-output", &spec.process_output, 0, 256 * MIB, &mut limits.process_output);
    size("artifact", &spec.artifact, 0, 1024 * GIB, &mut limits.artifact);
    // A program that does nothing has some hundred KiB of its own.
    size("process-memory", &spec.process_memory, MIB, 1024 * GIB, &mut limits.process_memory);
    size("process-file", &spec.process_file, 0, 1024 * GIB, &mut limits.process_file);
    if let Some(elements) = &spec.table_elements {
        match *elements.get_ref() {
            right @ 0..=10_000_000 => limits.table_elements = right as u64,
            wrong => {
                let message = format!("`table-elements` is 0 to 10000000, not {wrong}");
                out.push(Diagnostic::error("number-range", elements.span(), message));
            }
        }
    }
    if let Some(processes) = &spec.processes {
        match *processes.get_ref() {
            right @ 1..=PROCESSES_MAX => limits.processes = right as u64,
            wrong => {
                let message = format!("`processes` is 1 to {PROCESSES_MAX}, not {wrong}");
                out.push(Diagnostic::error("number-range", processes.span(), message));
            }
        }
    }
    if let Some(ms) = spec.process_cpu.as_ref().and_then(|text| duration(text, "process-cpu", 1, out)) {
        limits.process_cpu_ms = ms;
    }
    limits
}
