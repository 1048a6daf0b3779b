//! What a workflow declares beside its steps: inputs, plugins, pools, and the names of everything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};

use super::draft::{Draft, beside};
use super::{Loaded, NAME_BYTES_MAX};
use crate::description::Component;
use crate::diagnostic::{Collector, Diagnostic};
use crate::inputs::{check, fits};
use crate::json::Json;
use crate::plan::{Input, InputType, Plugin, PluginId, Pool, PoolId};
use crate::rule::regex;
use crate::schema::is_bounded;
use crate::spec::{BlockSpec, Entries, InputSpec, Spanned, Spec, StepSpec, duration_ms, rate, scheme};

/// A plugin's name, and where its path stands.
type Named<'a> = (&'a str, Range<usize>);

/// The largest pool.
pub(crate) const POOL_SIZE_MAX: i64 = crate::plan::POOL_SIZE_MAX as i64;

/// The highest priority, and the lowest without its sign. 1,000: people order things by a dozen grades, and leave gaps.
pub(crate) const PRIORITY_MAX: i64 = 1_000;

/// What is declared, as far as it is right.
pub(super) struct Declared<'a> {
    pub(super) timeout_ms: Option<u64>,
    pub(super) priority: i32,
    pub(super) inputs: BTreeMap<&'a str, DeclaredInput>,
    plugins: HashMap<&'a str, DeclaredPlugin>,
    plugin_names: HashSet<&'a str>,
    pools: HashMap<&'a str, PoolId>,
    pub(super) plan_pools: Vec<Pool>,
    pub(super) plan_plugins: Vec<Plugin>,
    /// What each block answers, by where it begins, as a schema.
    blocks: HashMap<usize, Value>,
    /// The sub-workflows, by path as written.
    workflows: HashMap<&'a str, DeclaredWorkflow>,
}

/// A sub-workflow, as it is seen from outside.
pub(super) struct DeclaredWorkflow {
    /// Its inputs, as a schema.
    pub(super) input: Value,
    /// Its outputs, as a schema.
    pub(super) output: Value,
}

pub(super) struct DeclaredInput {
    input: Option<Input>,
    /// What is known of its values, as a schema. `None` if its declaration is wrong.
    pub(super) schema: Option<Value>,
}

pub(super) struct DeclaredPlugin {
    pub(super) id: PluginId,
    pub(super) component: Component,
    pub(super) input: Value,
    pub(super) output: Value,
    /// The whole of the input's schema. `None` if it is no schema: then only what is understood of it is checked.
    pub(super) validator: Option<jsonschema::Validator>,
}

impl<'a> Declared<'a> {
    pub(super) fn of(
        spec: &'a Spec,
        directory: &str,
        plugins: &BTreeMap<String, Result<Loaded, String>>,
        draft: &Draft<'_>,
        out: &mut Collector,
    ) -> Declared<'a> {
        match &spec.name {
            Some(name) => names("workflow", std::iter::once(name), out),
            None if spec.incomplete => (),
            None => out.push(
                Diagnostic::error("missing-key", 0..0, "a workflow needs `name`")
                    .hint("begin the file with a line such as `name = \"release\"`"),
            ),
        }
        let timeout_ms = spec.timeout.as_ref().and_then(|text| duration(text, "timeout", 1, out));
        let priority = spec.priority.as_ref().map_or(0, |number| priority(number, out));
        names("input", spec.inputs.iter().map(|(name, _)| name), out);
        names("plugin", spec.plugins.iter().map(|(name, _)| name), out);
        names("pool", spec.pools.iter().map(|(name, _)| name), out);
        for kind in ["template", "var"] {
            names(kind, spec.for_short.iter().filter(|short| short.kind == kind).map(|short| &short.name), out);
        }
        names("signal", spec.signals.iter().map(|(name, _)| name), out);
        names("secret", spec.secrets.iter().map(|(name, _)| name), out);
        let inputs = spec.inputs.iter().map(|(name, input)| (name.get_ref().as_str(), declared_input(input, out)));
        let mut declared = Declared {
            timeout_ms,
            priority,
            inputs: inputs.collect(),
            plugins: HashMap::new(),
            plugin_names: spec.plugins.iter().map(|(name, _)| name.get_ref().as_str()).collect(),
            pools: HashMap::new(),
            plan_pools: Vec::new(),
            plan_plugins: Vec::new(),
            blocks: HashMap::new(),
            workflows: HashMap::new(),
        };
        declared.pools(spec, out);
        declared.plugins(spec, plugins, out);
        declared.bodies(&spec.steps, directory, draft);
        declared
    }

    /// What blocks and sub-workflows answer.
    fn bodies(&mut self, steps: &'a Entries<StepSpec>, directory: &str, draft: &Draft<'_>) {
        for (_, step) in steps {
            if let Some(block) = &step.block {
                self.blocks.insert(block.span.start, object(block.outputs.iter().map(|(name, _)| name.get_ref())));
                self.bodies(&block.steps, directory, draft);
            }
            let Some(path) = &step.workflow else { continue };
            let Some(Ok(file)) = draft.file(&beside(directory, path.get_ref())) else { continue };
            let Some(spec) = &file.spec else { continue };
            self.workflows.entry(path.get_ref()).or_insert_with(|| DeclaredWorkflow {
                input: inputs_schema(spec),
                output: object(spec.outputs.iter().map(|(name, _)| name.get_ref())),
            });
        }
    }

    /// What a block answers, as a schema.
    pub(super) fn block(&self, block: &BlockSpec) -> Option<&Value> {
        self.blocks.get(&block.span.start)
    }

    /// A sub-workflow whose file could be read.
    pub(super) fn workflow(&self, path: &str) -> Option<&DeclaredWorkflow> {
        self.workflows.get(path)
    }

    /// A plugin that was loaded.
    pub(super) fn plugin(&self, name: &str) -> Option<&DeclaredPlugin> {
        self.plugins.get(name)
    }

    /// Whether there is a plugin of this name, loaded or not.
    pub(super) fn is_plugin(&self, name: &str) -> bool {
        self.plugin_names.contains(name)
    }

    pub(super) fn pool(&self, name: &str) -> Option<PoolId> {
        self.pools.get(name).copied()
    }

    pub(super) fn into_inputs(self) -> BTreeMap<String, Input> {
        let inputs = self.inputs.into_iter().filter_map(|(name, declared)| Some((name.to_owned(), declared.input?)));
        inputs.collect()
    }

    fn pools(&mut self, spec: &'a Spec, out: &mut Collector) {
        for (name, pool) in &spec.pools {
            let size = pool.size.as_ref().map_or(POOL_SIZE_MAX, |size| *size.get_ref());
            if let Some(written) = pool.size.as_ref().filter(|_| !(1..=POOL_SIZE_MAX).contains(&size)) {
                let message = format!("a pool's size is 1 to {POOL_SIZE_MAX}, not {size}");
                out.push(Diagnostic::error("number-range", written.span(), message));
            }
            let rate = pool.rate.as_ref().and_then(|text| match rate(text.get_ref()) {
                Ok(rate) => Some(rate),
                Err(reason) => {
                    let message = format!("`{}` is no rate", text.get_ref());
                    out.push(Diagnostic::error("rate", text.span(), message).hint(reason));
                    None
                }
            });
            if let Some(cost) = pool.cost_per_hour.as_ref().filter(|cost| *cost.get_ref() < 0.0) {
                out.push(Diagnostic::error("number-range", cost.span(), "a cost is not negative"));
            }
            self.pools.insert(name.get_ref(), PoolId(self.plan_pools.len() as u32));
            let size = size.clamp(1, POOL_SIZE_MAX) as u32;
            self.plan_pools.push(Pool { name: name.get_ref().clone(), size, rate });
        }
    }

    fn plugins(&mut self, spec: &'a Spec, plugins: &BTreeMap<String, Result<Loaded, String>>, out: &mut Collector) {
        let used = spec.plugins_used();
        // What is wrong with all of them, such as their lock, is told once.
        let mut unusable: Vec<(&str, Vec<Named<'_>>)> = Vec::new();
        for (name, path) in &spec.plugins {
            let (text, span) = (path.get_ref().as_str(), path.span());
            if let Some(scheme) = scheme(text) {
                let message = format!("plugins can't be fetched by `{scheme}://` yet");
                let found = Diagnostic::error("not-supported-yet", span, message).label("a registry");
                out.push(found.hint("give the path of a `.wasm` file or of a source folder"));
                continue;
            }
            if text.is_empty() {
                out.push(Diagnostic::error("plugin", span, "the path of a plugin is not empty"));
                continue;
            }
            let loaded = match plugins.get(name.get_ref()) {
                Some(Ok(loaded)) => loaded,
                Some(Err(reason)) => {
                    let (reason, plugin) = (reason.as_str(), (name.get_ref().as_str(), span));
                    match unusable.iter_mut().find(|(known, _)| *known == reason) {
                        Some((_, plugins)) => plugins.push(plugin),
                        None => unusable.push((reason, vec![plugin])),
                    }
                    continue;
                }
                // It is told as one that is not used.
                None if !used.contains(name.get_ref().as_str()) => continue,
                None => {
                    let message = format!("the plugin `{}` was not loaded", name.get_ref());
                    out.push(Diagnostic::error("plugin", span, message));
                    continue;
                }
            };
            let description = &loaded.component.description;
            let input = description.input_schema.value();
            let plugin = DeclaredPlugin {
                id: PluginId(self.plan_plugins.len() as u32),
                component: loaded.component.clone(),
                validator: Some(&input)
                    .filter(|input| is_bounded(input))
                    .and_then(|input| jsonschema::validator_for(input).ok()),
                input,
                output: description.output_schema.value(),
            };
            self.plugins.insert(name.get_ref(), plugin);
            let (name, path) = (name.get_ref().clone(), loaded.path.clone());
            self.plan_plugins.push(Plugin { name, component: loaded.component.clone(), path, signers: Vec::new() });
        }
        for (reason, plugins) in unusable {
            let names: Vec<String> = plugins.iter().map(|(name, _)| format!("`{name}`")).collect();
            let which = if names.len() == 1 { "plugin" } else { "plugins" };
            let (reason, hint) = reason.split_once('\n').map_or((reason, None), |(reason, hint)| (reason, Some(hint)));
            let message = format!("the {which} {} can't be used: {reason}", names.join(", "));
            let mut spans = plugins.into_iter().map(|(_, span)| span);
            let first = spans.next().expect("a reason is that of a plugin");
            let found = Diagnostic::error("plugin", first, message).maybe_hint(hint.map(str::trim));
            out.push(spans.fold(found, |found, span| found.also(span, "and this")));
        }
    }
}

/// An object that has members of these names, each of which may be missing, and no others.
fn object<'n>(names: impl Iterator<Item = &'n String>) -> Value {
    let members: serde_json::Map<String, Value> = names.map(|name| (name.clone(), true.into())).collect();
    json!({ "type": "object", "properties": members, "additionalProperties": false })
}

/// What a workflow is given, as far as its declarations are right: what is wrong with them is told of its own file.
fn inputs_schema(spec: &Spec) -> Value {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for (name, input) in &spec.inputs {
        let declared = declared_input(input, &mut Collector::default());
        if declared.input.as_ref().is_some_and(|input| input.required) {
            required.push(name.get_ref().as_str());
        }
        properties.insert(name.get_ref().clone(), declared.schema.unwrap_or(Value::Bool(true)));
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn declared_input(spec: &InputSpec, out: &mut Collector) -> DeclaredInput {
    let before = out.error_count();
    let kind = match &spec.kind {
        Some(name) => {
            let known = InputType::ALL.into_iter().find(|kind| kind.name() == name.get_ref());
            if known.is_none() {
                let names = InputType::ALL.map(InputType::name);
                let alias = match name.get_ref().as_str() {
                    "int" => Some("integer"),
                    "float" | "double" => Some("number"),
                    "bool" => Some("boolean"),
                    "array" => Some("list"),
                    "map" | "table" | "dict" => Some("object"),
                    "text" | "str" => Some("string"),
                    _ => None,
                };
                let hint = match alias {
                    Some(alias) => Some(format!("did you mean `{alias}`?")),
                    None => out.suggest(name.get_ref(), names),
                };
                let hint = hint.unwrap_or_else(|| format!("an input is one of {}", names.join(", ")));
                let message = format!("there is no type `{}`", name.get_ref());
                out.push(Diagnostic::error("unknown-type", name.span(), message).label("unknown type").hint(hint));
            }
            known
        }
        None if spec.incomplete => None,
        None => {
            let found =
                Diagnostic::error("missing-key", spec.span.clone(), "an input needs `type`").label("without `type`");
            out.push(found.hint("write for example `{ type = \"string\" }`"));
            None
        }
    };
    let Some(kind) = kind else { return DeclaredInput { input: None, schema: None } };
    let required = spec.required.as_ref().map(|required| *required.get_ref());
    if let (Some(written), Some(true), Some(_)) = (&spec.required, required, &spec.default) {
        let message = "an input with a default is never missing";
        out.push(Diagnostic::warning("useless-key", written.span(), message).label("has no effect"));
    }
    let mut input = Input {
        kind,
        required: required.unwrap_or(true) && spec.default.is_none(),
        default: None,
        options: Vec::new(),
        pattern: None,
        description: spec.description.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default(),
    };
    // By their texts, keys in order: equal values have the same one. There may be many.
    let mut known: HashSet<String> = HashSet::new();
    for option in spec.options.iter().flat_map(|options| options.get_ref()) {
        let value = option.to_json();
        if !fits(kind, &value) {
            let message = format!("`{value}` is no value of type {}", kind.name());
            out.push(Diagnostic::error("wrong-type", option.span.clone(), message));
        } else if !known.insert(canonical(&value)) {
            out.push(Diagnostic::warning("duplicate", option.span.clone(), format!("{value} is listed twice")));
        } else {
            input.options.push(value.into());
        }
    }
    if let Some(options) = spec.options.as_ref().filter(|options| options.get_ref().is_empty()) {
        out.push(Diagnostic::error("empty-enum", options.span(), "an input that allows no value can't be given"));
    }
    if let Some(pattern) = &spec.pattern {
        if kind != InputType::String {
            let message = format!("a pattern is for strings, not for type {}", kind.name());
            out.push(Diagnostic::error("useless-key", pattern.span(), message));
        } else if let Err(reason) = regex(pattern.get_ref()) {
            out.push(Diagnostic::error("pattern", pattern.span(), reason));
        } else {
            input.pattern = Some(pattern.get_ref().clone());
        }
    }
    if let Some(default) = &spec.default {
        let value = default.to_json();
        match check(&input, &value) {
            Ok(()) => input.default = Some(Json::from(value)),
            Err(reason) => {
                out.push(Diagnostic::error("wrong-default", default.span.clone(), format!("the default {reason}")));
            }
        }
    }
    let mut schema = json!({ "type": schema_name(kind) });
    if !input.required && input.default.is_none() {
        schema["type"] = json!([schema_name(kind), "null"]);
    } else if !input.options.is_empty() {
        schema["enum"] = input.options.iter().map(Json::value).collect();
    }
    let right = out.error_count() == before;
    DeclaredInput { input: right.then_some(input), schema: right.then_some(schema) }
}

/// The same text for equal values.
fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

fn schema_name(kind: InputType) -> &'static str {
    match kind {
        InputType::List => "array",
        kind => kind.name(),
    }
}

/// A place in the line of a pool.
pub(super) fn priority(number: &Spanned<i64>, out: &mut Collector) -> i32 {
    let value = *number.get_ref();
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&value) {
        let message = format!("`priority` is -{PRIORITY_MAX} to {PRIORITY_MAX}, not {value}");
        out.push(Diagnostic::error("number-range", number.span(), message));
    }
    value.clamp(-PRIORITY_MAX, PRIORITY_MAX) as i32
}

/// A duration's milliseconds, at least so many.
pub(super) fn duration(text: &Spanned<String>, key: &str, least_ms: u64, out: &mut Collector) -> Option<u64> {
    match duration_ms(text.get_ref()) {
        Ok(ms) if ms >= least_ms => Some(ms),
        Ok(_) => {
            out.push(Diagnostic::error("number-range", text.span(), format!("`{key}` has to be longer than nothing")));
            None
        }
        Err(reason) => {
            let message = format!("`{key}` is no duration: `{}`", text.get_ref());
            out.push(Diagnostic::error("duration", text.span(), message).hint(reason));
            None
        }
    }
}

/// Checks the names of one kind of things: their letters, their length, and that no two differ only in case.
pub(super) fn names<'n>(kind: &str, names: impl Iterator<Item = &'n Spanned<String>>, out: &mut Collector) {
    let mut folded: HashMap<String, &Spanned<String>> = HashMap::new();
    for name in names {
        let text = name.get_ref();
        let right =
            |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || at > 0 && (c.is_ascii_digit() || c == '-');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.char_indices().all(right) {
            let message =
                format!("`{text}` is no name for {} {kind}", if "aeiou".contains(&kind[..1]) { "an" } else { "a" });
            let hint = format!("letters, digits, `_` and `-`, a letter or `_` first, at most {NAME_BYTES_MAX}");
            out.push(Diagnostic::error("name", name.span(), message).hint(hint));
        }
        match folded.get(&text.to_ascii_lowercase()) {
            // The same name twice is a fault of another kind.
            Some(other) if other.get_ref() == text => (),
            Some(other) => {
                let message = format!("the {kind}s `{}` and `{text}` differ only in case", other.get_ref());
                out.push(Diagnostic::warning("similar-names", name.span(), message).also(other.span(), "the other"));
            }
            None => drop(folded.insert(text.to_ascii_lowercase(), name)),
        }
    }
}
