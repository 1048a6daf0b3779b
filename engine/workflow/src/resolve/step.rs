//! One step by itself: what it runs with which input, when, how often, for how long and with which bounds.

use super::declared::duration;
use super::grant::grants;
use super::{RULE, Resolver, diagnostic, unknown};
use crate::capability::Limits;
use crate::diagnostic::{Collector, Diagnostic};
use crate::json::Json;
use crate::plan::{Need, PluginId, Rest, Retry, Step, StepId};
use crate::rule::{Expression, Rule, Template, guards};
use crate::schema::{Type, fit};
use crate::spec::{LimitSpec, Place, RetrySpec, Size, Spanned, StepSpec, Value, ValueKind, size_bytes};

/// The most attempts. 1,000: with the longest sensible delay of an hour, six weeks.
pub(crate) const ATTEMPTS_MAX: i64 = 1_000;

/// The largest factor. 100: more than that is a typing error for a longer delay.
pub(crate) const FACTOR_MAX: f64 = 100.0;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl<'a> Resolver<'a> {
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let spec = self.spec;
        spec.steps.iter().enumerate().map(|(at, (name, step))| self.step(at, name, step)).collect()
    }

    fn step(&mut self, at: usize, name: &'a Spanned<String>, spec: &'a StepSpec) -> Step {
        let plugin = self.plugin(name, spec);
        self.guards.clear();
        let when = spec.when.as_ref().and_then(|text| self.when(at, text));
        let with = self.with(at, name, spec);
        let pool = spec.pool.as_ref().and_then(|pool| {
            self.used.pools.insert(pool.get_ref());
            let found = self.declared.pool(pool.get_ref());
            if found.is_none() && !self.spec.left_out.contains(&("pools", pool.get_ref().clone())) {
                self.used.any = true;
                let hint =
                    self.out.suggest(pool.get_ref(), self.spec.pools.iter().map(|(name, _)| name.get_ref().as_str()));
                self.out.push(unknown("pool", "unknown-pool", pool.get_ref(), pool.span(), hint));
            }
            found
        });
        let component = spec.plugin.as_ref().and_then(|plugin| self.declared.plugin(plugin.get_ref()));
        let component = component.map(|plugin| &plugin.component);
        let needs = self.graph.needs(at).iter();
        Step {
            name: name.get_ref().clone(),
            plugin: plugin.unwrap_or(PluginId(0)),
            with,
            needs: needs.map(|need| Need { step: StepId(need.step as u32), state: need.state }).collect(),
            always: spec.always,
            join: self.graph.joined(at),
            rest: match &spec.rest {
                Some(rest) if rest.get_ref() == "cancel" => Rest::Cancel,
                _ => Rest::Wait,
            },
            when,
            retry: retry(spec.retry.as_ref(), &mut self.out),
            timeout_ms: spec.timeout.as_ref().and_then(|text| duration(text, "timeout", 1, &mut self.out)),
            pool,
            limits: limits(&spec.limit, &mut self.out),
            grants: grants(&spec.grant, component, name.span(), &mut self.out),
        }
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

    /// The input, held against what the component takes. Without `with`, it is an empty object.
    fn with(&mut self, at: usize, name: &Spanned<String>, spec: &'a StepSpec) -> Template {
        let empty;
        let value = match &spec.with {
            Some(with) => with,
            None => {
                empty = Value { span: name.span(), kind: ValueKind::Table(Vec::new()) };
                &empty
            }
        };
        let tree = self.tree(value, Some(at));
        let plugin = spec.plugin.as_ref().and_then(|plugin| self.declared.plugin(plugin.get_ref()));
        if let Some(plugin) = plugin.filter(|_| spec.with.is_some() || !spec.incomplete) {
            let mut misfits = Vec::new();
            fit::fit("input", "with", &tree, &Type::of_schema(&plugin.input), &mut |misfit| misfits.push(misfit));
            if let (true, Some(value), Some(validator)) = (misfits.is_empty(), tree.constant(), &plugin.validator) {
                fit::validate("with", &tree, &value, validator, &mut |misfit| misfits.push(misfit));
            }
            misfits.into_iter().for_each(|misfit| self.out.push(misfit));
        }
        Template::of(&tree, Json::from(value.to_json()))
    }

    fn when(&mut self, at: usize, text: &'a Spanned<String>) -> Option<Rule> {
        let content = text.get_ref();
        let place = Place::of(&self.source.text, &text.span(), content);
        if let Some(inner) = content.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            let found = Diagnostic::error("rule-syntax", text.span(), "a rule is written without `${…}`");
            self.out.push(found.hint(format!("write `when = {:?}`", inner.trim())));
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
        let found = self.expression(&expression, &place, Some(at));
        if !found.kinds.is_none() && !found.kinds.meets(RULE) {
            let message = format!("a rule is true or false, but this is {}", found.kinds);
            let diagnostic = Diagnostic::error("not-boolean", place.span(0..content.len()), message);
            self.out.push(diagnostic.label(found.kinds.to_string()).hint("compare it with something, such as `… > 0`"));
        }
        self.guards = guards(&expression);
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
    if let Some(elements) = &spec.table_elements {
        match *elements.get_ref() {
            right @ 0..=10_000_000 => limits.table_elements = right as u64,
            wrong => {
                let message = format!("`table-elements` is 0 to 10000000, not {wrong}");
                out.push(Diagnostic::error("number-range", elements.span(), message));
            }
        }
    }
    limits
}

fn bytes_text(bytes: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}
