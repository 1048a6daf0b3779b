//! Reads TOML into a [`Spec`], one function a table. Derived deserialisers stop at the first fault; these go on, so that
//! a file's unknown keys and wrong types are reported all at once.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::expand::{Expanded, expand};
use super::keys::Table;
use super::layers::{lay, moved};
use super::print::Printer;
use super::*;
use crate::diagnostic::{Collector, Diagnostic};
use crate::json::JSON_DEPTH_MAX;

/// How deeply steps nest in steps. 16: the scopes that a run opens nest twice as deep, and people lose count at four.
pub(super) const BLOCKS_NESTED_MAX: usize = 16;

/// Words of the language that this version does not speak yet.
const LATER: &[(Table, &str)] = &[
    (Table::Workflow, "on"),
    (Table::Workflow, "emit"),
    (Table::Plugin, "shape"),
    (Table::Plugin, "digest"),
    (Table::Step, "emit"),
    (Table::Step, "cache"),
    (Table::Grant, "events"),
];

/// Words that other engines use for ours.
const ELSEWHERE: &[(Table, &str, &str)] = &[
    (Table::Step, "depends-on", "needs"),
    (Table::Step, "depends_on", "needs"),
    (Table::Step, "dependsOn", "needs"),
    (Table::Step, "after", "needs"),
    (Table::Step, "if", "when"),
    (Table::Step, "trigger_rule", "join"),
    (Table::Join, "at_least", "at-least"),
    (Table::Step, "plugin", "use"),
    (Table::Step, "input", "with"),
    (Table::Step, "inputs", "with"),
    (Table::Step, "limits", "limit"),
    (Table::Step, "permissions", "grant"),
    (Table::Step, "retries", "retry"),
    (Table::Undo, "retries", "retry"),
    (Table::Defaults, "retries", "retry"),
    (Table::Retry, "max-attempts", "attempts"),
    (Table::Retry, "backoff", "factor"),
    (Table::Workflow, "jobs", "steps"),
    (Table::Workflow, "tasks", "steps"),
    (Table::Workflow, "finally", "always"),
    (Table::Workflow, "events", "signals"),
    (Table::Step, "for_each", "foreach"),
    (Table::Step, "for-each", "foreach"),
    (Table::Step, "matrix", "foreach"),
    (Table::Step, "loop", "repeat"),
    (Table::Step, "max-parallel", "parallel"),
    (Table::Step, "compensate", "undo"),
    (Table::Step, "compensation", "undo"),
    (Table::Step, "rollback", "undo"),
    (Table::Step, "call", "workflow"),
    (Table::Step, "sleep", "wait"),
    (Table::Foreach, "over", "in"),
    (Table::Foreach, "items", "in"),
    (Table::Repeat, "times", "max"),
    (Table::Repeat, "interval", "delay"),
];

pub(super) type Key<'i> = Spanned<DeString<'i>>;
pub(super) type Item<'i> = Spanned<DeValue<'i>>;

pub(super) fn spec(source: &Source) -> (Option<Spec>, Vec<Diagnostic>) {
    read(source, |reader, document, mut found| {
        let Expanded { document, origins, faults, for_short, templates, defaults } = expand(&source.text, document);
        reader.origins = Arc::new(origins);
        reader.out = Collector::over(reader.origins.clone());
        found.extend(faults);
        found.into_iter().for_each(|fault| reader.out.push(fault));
        reader.probe(&templates, defaults.as_ref());
        let mut spec = reader.workflow(&document);
        spec.incomplete = reader.out.error_count() > 0;
        spec.left_out = std::mem::take(&mut reader.left_out);
        spec.origins = reader.origins.clone();
        spec.for_short = for_short.into_values().collect();
        Some(spec)
    })
}

pub(super) fn document(source: &Source) -> (Option<Value>, Vec<Diagnostic>) {
    let whole = 0..source.text.len();
    read(source, |reader, document, _| reader.value(&Spanned::new(whole, DeValue::Table(document)), 0))
}

pub(super) fn written_out(source: &Source, with_origins: bool) -> (Option<String>, Vec<Diagnostic>) {
    read(source, |reader, document, mut found| {
        let Expanded { document, origins, faults, .. } = expand(&source.text, document);
        found.extend(faults);
        reader.out = Collector::over(Arc::new(origins.clone()));
        found.into_iter().for_each(|fault| reader.out.push(fault));
        let starts = || std::iter::once(0).chain(source.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let printer = Printer { source, origins: &origins, lines: with_origins.then(starts) };
        (reader.out.error_count() == 0).then(|| printer.document(&document))
    })
}

/// What `take` makes of the file, unless it is too large or no TOML.
fn read<T>(
    source: &Source,
    take: impl FnOnce(&mut Reader, DeTable<'_>, Vec<Diagnostic>) -> Option<T>,
) -> (Option<T>, Vec<Diagnostic>) {
    if source.text.len() > SOURCE_BYTES_MAX {
        let (bytes, mib) = (source.text.len(), SOURCE_BYTES_MAX >> 20);
        let message = format!("the file has {bytes} bytes; at most {SOURCE_BYTES_MAX} ({mib} MiB) are read");
        return (None, vec![Diagnostic::error("too-large", 0..0, message)]);
    }
    let mut reader = Reader::default();
    let mut whole: Option<DeTable<'_>> = None;
    let (mut faults, mut is_toml) = (Vec::new(), true);
    for file in source.files() {
        let (document, errors) = DeTable::parse_recoverable(&source.text[file.clone()]);
        is_toml &= errors.is_empty();
        errors.iter().for_each(|error| reader.out.push(no_toml(error, &file, &source.text)));
        let document = document.into_inner();
        match &mut whole {
            None => whole = Some(document),
            Some(whole) => lay(whole, moved(document, file.start), &mut faults),
        }
    }
    let Some(document) = whole.filter(|_| is_toml) else { return (None, reader.out.finish()) };
    let taken = take(&mut reader, document, faults);
    (taken, reader.out.finish())
}

/// `file`: where its text is in the source's.
fn no_toml(error: &toml::de::Error, file: &Range<usize>, text: &str) -> Diagnostic {
    let span = error.span().map_or(file.end..file.end, |span| file.start + span.start..file.start + span.end);
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(format!("expected {expected}"))),
        None => (error.message(), None),
    };
    let key = text.get(span.clone()).filter(|key| message == "duplicate key" && !key.is_empty());
    if let Some(key) = key {
        let message = format!("the key `{key}` is there twice in one table");
        return Diagnostic::error("not-toml", span.clone(), message).label("the second one");
    }
    Diagnostic::error("not-toml", span, message).label(expected.unwrap_or_default())
}

pub(super) fn wrong_type(key: &str, expected: &str, value: &Item<'_>) -> Diagnostic {
    let found = type_name(value.get_ref());
    Diagnostic::error("wrong-type", value.span(), format!("`{key}` must be {expected}, not {found}")).label(found)
}

fn not_yet(word: &str, span: Range<usize>) -> Diagnostic {
    Diagnostic::error("not-supported-yet", span, format!("`{word}` is not supported yet"))
        .label("a word of the language that this version can't run")
}

fn missing_key(table: Table, key: &str, span: Range<usize>) -> Diagnostic {
    Diagnostic::error("missing-key", span, format!("{} needs `{key}`", table.name())).label(format!("without `{key}`"))
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The table's entries in the order of the file; the parser keeps them sorted by name.
pub(super) fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Item<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

pub(super) fn owned(key: &Key<'_>) -> Spanned<String> {
    Spanned::new(key.span(), key.get_ref().to_string())
}

#[derive(Default)]
struct Reader {
    out: Collector,
    origins: Arc<Origins>,
    left_out: HashSet<(&'static str, String)>,
    /// In how many steps the one at hand is.
    depth: usize,
}

impl Reader {
    /// Looks for faults in templates, whether or not something is like them, and in `[defaults]`.
    fn probe(&mut self, templates: &[(Key<'_>, Item<'_>)], defaults: Option<&DeTable<'_>>) {
        let mut probe =
            Reader { out: Collector::over(self.origins.clone()), origins: self.origins.clone(), ..Reader::default() };
        for (name, template) in templates {
            probe.step(name, template);
        }
        let mut step = StepSpec::default();
        for (key, value) in defaults.map(|table| probe.known(Table::Defaults, table)).unwrap_or_default() {
            probe.work(&mut step, key, value);
        }
        // What one template has from another was told with that.
        let mut told = HashSet::new();
        for fault in probe.out.finish() {
            if told.insert((fault.span.clone(), fault.code, fault.message.clone())) {
                self.out.push(fault);
            }
        }
    }

    /// What has the wrong type, unless it was to be made of something that is wrong in turn, and told.
    fn wrong(&mut self, fault: Diagnostic, value: &Item<'_>) {
        match self.origins.is_faulty(&value.span()) {
            true => self.out.has_been_told(),
            false => self.out.push(fault),
        }
    }

    fn workflow(&mut self, document: &DeTable<'_>) -> Spec {
        let mut spec = Spec::default();
        let mut always = Vec::new();
        for (key, value) in self.known(Table::Workflow, document) {
            match key.get_ref().as_ref() {
                "name" => spec.name = self.string("name", value),
                "description" => spec.description = self.string("description", value),
                "timeout" => spec.timeout = self.duration("timeout", value),
                "priority" => spec.priority = self.integer("priority", value),
                "concurrency" => spec.concurrency = self.concurrency(value),
                "inputs" => spec.inputs = self.entries("inputs", value, Reader::input),
                "plugins" => spec.plugins = self.entries("plugins", value, Reader::plugin),
                "pools" => spec.pools = self.entries("pools", value, Reader::pool),
                "signals" => spec.signals = self.entries("signals", value, Reader::signal),
                "secrets" => spec.secrets = self.entries("secrets", value, Reader::secret),
                "steps" => spec.steps = self.entries("steps", value, Reader::step),
                "always" => always = self.entries("always", value, Reader::step),
                "outputs" => spec.outputs = self.entries("outputs", value, |reader, _, value| reader.value(value, 1)),
                word => unread(word),
            }
        }
        always.iter_mut().for_each(|(_, step)| step.always = true);
        spec.steps.append(&mut always);
        spec
    }

    fn input(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<InputSpec> {
        let table = self.table(name.get_ref(), "a table such as `{ type = \"string\" }`", value)?;
        let mut input = InputSpec {
            span: name.span(),
            kind: None,
            required: None,
            default: None,
            options: None,
            pattern: None,
            description: None,
            incomplete: false,
        };
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Input, table) {
            match key.get_ref().as_ref() {
                "type" => input.kind = self.string("type", value),
                "required" => input.required = self.boolean("required", value),
                "default" => input.default = self.value(value, 1),
                "enum" => input.options = self.list("enum", value, |reader, item| reader.value(item, 1)),
                "pattern" => input.pattern = self.string("pattern", value),
                "description" => input.description = self.string("description", value),
                word => unread(word),
            }
        }
        input.incomplete = self.out.error_count() > before;
        Some(input)
    }

    fn plugin(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<Spanned<String>> {
        if value.get_ref().is_str() {
            return self.string(name.get_ref(), value);
        }
        let table = self.table(name.get_ref(), "a path, or a table such as `{ path = \"…\" }`", value)?;
        let mut path = None;
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Plugin, table) {
            match key.get_ref().as_ref() {
                "path" => path = self.string("path", value),
                word => unread(word),
            }
        }
        if path.is_none() && self.out.error_count() == before {
            self.out.push(missing_key(Table::Plugin, "path", name.span()));
        }
        path
    }

    fn pool(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<PoolSpec> {
        if value.get_ref().is_integer() {
            let size = self.integer(name.get_ref(), value)?;
            return Some(PoolSpec { size: Some(size), rate: None, cost_per_hour: None });
        }
        let table = self.table(name.get_ref(), "a size, or a table such as `{ size = 4 }`", value)?;
        let (mut size, mut rate, mut cost_per_hour) = (None, None, None);
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Pool, table) {
            match key.get_ref().as_ref() {
                "size" => size = self.integer("size", value),
                "rate" => rate = self.string("rate", value),
                "cost-per-hour" => cost_per_hour = self.number("cost-per-hour", value),
                word => unread(word),
            }
        }
        let is_whole = self.out.error_count() == before;
        if size.is_none() && rate.is_none() && is_whole {
            self.out.push(missing_key(Table::Pool, "size", name.span()));
        }
        (size.is_some() || rate.is_some()).then_some(PoolSpec { size, rate, cost_per_hour })
    }

    fn concurrency(&mut self, value: &Item<'_>) -> Option<ConcurrencySpec> {
        let before = self.out.error_count();
        let table = self.table("concurrency", "a table with `group`", value)?;
        let mut concurrency = ConcurrencySpec { span: value.span(), group: None, when_busy: None, incomplete: false };
        for (key, value) in self.known(Table::Concurrency, table) {
            match key.get_ref().as_ref() {
                "group" => concurrency.group = self.string("group", value).and_then(|_| self.value(value, 1)),
                "when-busy" => concurrency.when_busy = self.string("when-busy", value),
                word => unread(word),
            }
        }
        concurrency.incomplete = self.out.error_count() > before;
        if concurrency.group.is_none() && !concurrency.incomplete {
            self.out.push(missing_key(Table::Concurrency, "group", value.span()));
        }
        Some(concurrency)
    }

    fn signal(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<SignalSpec> {
        let table = self.table(name.get_ref(), "a table such as `{ keep = true }`", value)?;
        let mut signal = SignalSpec { keep: None };
        for (key, value) in self.known(Table::Signal, table) {
            match key.get_ref().as_ref() {
                "keep" => signal.keep = self.boolean("keep", value),
                word => unread(word),
            }
        }
        Some(signal)
    }

    fn secret(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<SecretSpec> {
        let table = self.table(name.get_ref(), "a table such as `{ env = \"TOKEN\" }`", value)?;
        let mut secret = SecretSpec::default();
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Secret, table) {
            match key.get_ref().as_ref() {
                "env" => secret.env = self.string("env", value),
                "file" => secret.file = self.string("file", value),
                "command" => secret.command = self.strings("command", value),
                "credential" => secret.credential = self.string("credential", value),
                word => unread(word),
            }
        }
        secret.incomplete = self.out.error_count() > before;
        Some(secret)
    }

    fn step(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<StepSpec> {
        if self.depth == BLOCKS_NESTED_MAX {
            let message = format!("steps nest at most {BLOCKS_NESTED_MAX} levels deep");
            self.out.push(Diagnostic::error("too-deep", name.span(), message));
            return None;
        }
        let mut step = StepSpec::default();
        let mut block = BlockSpec { span: name.span(), steps: Vec::new(), outputs: Vec::new() };
        let (mut always, mut has_block) = (Vec::new(), false);
        let before = self.out.error_count();
        self.depth += 1;
        // A step that is no table is kept nevertheless: others may need it.
        let table = self.table(name.get_ref(), "a table", value);
        for (key, value) in table.map(|table| self.known(Table::Step, table)).unwrap_or_default() {
            match key.get_ref().as_ref() {
                "steps" => (has_block, block.steps) = (true, self.entries("steps", value, Reader::step)),
                "always" => (has_block, always) = (true, self.entries("always", value, Reader::step)),
                "outputs" => {
                    block.outputs = self.entries("outputs", value, |reader, _, value| reader.value(value, 1));
                    has_block = true;
                }
                "workflow" => step.workflow = self.string("workflow", value),
                "wait" => step.wait = self.wait(value),
                "finish" => step.finish = self.boolean("finish", value),
                "fail" => step.fail = self.text("fail", value),
                "foreach" => step.foreach = self.foreach(value),
                "parallel" => step.parallel = self.integer("parallel", value),
                "repeat" => step.repeat = self.repeat(value),
                "cache" => step.cache = self.boolean("cache", value),
                "detached" => step.detached = self.boolean("detached", value),
                "undo" => {
                    let undo = self.table("undo", "a table such as `{ use = \"process\" }`", value);
                    let undo = undo.map(|table| self.undo(table));
                    step.undo = undo.map(|undo| Box::new((key.span(), undo)));
                }
                "needs" => step.needs = self.needs(value),
                "join" => step.join = self.join(value),
                "rest" => step.rest = self.string("rest", value),
                "when" => step.when = self.rule("when", value),
                // Only if there is something wrong with it, which was told.
                "like" => self.out.has_been_told(),
                "cancels" => {
                    step.cancels = self.strings("cancels", value).map(Spanned::into_inner).unwrap_or_default();
                }
                _ => self.work(&mut step, key, value),
            }
        }
        self.depth -= 1;
        always.iter_mut().for_each(|(_, step)| step.always = true);
        block.steps.append(&mut always);
        step.block = has_block.then(|| Box::new(block));
        step.incomplete = self.out.error_count() > before;
        Some(step)
    }

    fn undo(&mut self, table: &DeTable<'_>) -> StepSpec {
        let mut undo = StepSpec::default();
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Undo, table) {
            match key.get_ref().as_ref() {
                // Only if there is something wrong with it, which was told.
                "like" => self.out.has_been_told(),
                _ => self.work(&mut undo, key, value),
            }
        }
        undo.incomplete = self.out.error_count() > before;
        undo
    }

    /// What a step and its `undo` have in common: what runs, and within which bounds.
    fn work(&mut self, step: &mut StepSpec, key: &Key<'_>, value: &Item<'_>) {
        match key.get_ref().as_ref() {
            "use" => step.plugin = self.string("use", value),
            "with" => step.with = self.table("with", "a table", value).and_then(|_| self.value(value, 1)),
            "retry" => step.retry = self.retry(key, value),
            "timeout" => step.timeout = self.duration("timeout", value),
            "pool" => step.pool = self.string("pool", value),
            "priority" => step.priority = self.integer("priority", value),
            "limit" => step.limit = self.limit(value),
            "grant" => step.grant = self.grant(value),
            "description" => step.description = self.string("description", value),
            word => unread(word),
        }
    }

    fn wait(&mut self, value: &Item<'_>) -> Option<WaitSpec> {
        let mut wait = WaitSpec {
            span: value.span(),
            duration: None,
            until: None,
            signal: None,
            approval: None,
            question: None,
            incomplete: false,
        };
        if value.get_ref().is_str() || value.get_ref().is_integer() {
            wait.duration = Some(self.duration("wait", value)?);
            return Some(wait);
        }
        let before = self.out.error_count();
        let table = self.table("wait", "a duration, or a table such as `{ signal = \"go\" }`", value)?;
        for (key, value) in self.known(Table::Wait, table) {
            match key.get_ref().as_ref() {
                "for" => wait.duration = self.duration("for", value),
                "until" => wait.until = self.moment(value),
                "signal" => wait.signal = self.string("signal", value),
                "approval" => {
                    wait.approval = match value.get_ref().as_str() {
                        Some(who) => Some(Spanned::new(value.span(), vec![Spanned::new(value.span(), who.to_owned())])),
                        None => self.strings("approval", value),
                    }
                }
                "question" => wait.question = self.text("question", value),
                word => unread(word),
            }
        }
        wait.incomplete = self.out.error_count() > before;
        Some(wait)
    }

    /// A time: text with holes, or TOML's own.
    fn moment(&mut self, value: &Item<'_>) -> Option<Value> {
        match value.get_ref() {
            DeValue::Datetime(_) => self.value(value, 1),
            _ => self.text("until", value),
        }
    }

    /// Text, which may have holes.
    fn text(&mut self, key: &str, value: &Item<'_>) -> Option<Value> {
        self.string(key, value)?;
        self.value(value, 1)
    }

    fn foreach(&mut self, value: &Item<'_>) -> Option<ForeachSpec> {
        let mut foreach = ForeachSpec {
            span: value.span(),
            list: None,
            zip: None,
            parallel: None,
            join: None,
            until: None,
            rest: None,
        };
        let table = match value.get_ref() {
            DeValue::String(_) | DeValue::Array(_) => {
                foreach.list = Some(self.value(value, 1)?);
                return Some(foreach);
            }
            _ => self.table("foreach", "a list, `\"${…}\"`, or a table such as `{ in = \"${…}\" }`", value)?,
        };
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Foreach, table) {
            match key.get_ref().as_ref() {
                "in" => foreach.list = self.value(value, 1),
                "zip" => foreach.zip = self.value(value, 1),
                "parallel" => foreach.parallel = self.integer("parallel", value),
                "join" => foreach.join = self.join(value),
                "until" => foreach.until = self.rule("until", value),
                "rest" => foreach.rest = self.string("rest", value),
                word => unread(word),
            }
        }
        if foreach.list.is_none() && foreach.zip.is_none() && self.out.error_count() == before {
            self.out.push(missing_key(Table::Foreach, "in", value.span()));
        }
        Some(foreach)
    }

    fn repeat(&mut self, value: &Item<'_>) -> Option<RepeatSpec> {
        let mut repeat = RepeatSpec { span: value.span(), while_holds: None, until: None, max: None, delay: None };
        if value.get_ref().is_integer() {
            repeat.max = Some(self.integer("repeat", value)?);
            return Some(repeat);
        }
        let table = self.table("repeat", "a number, or a table such as `{ until = \"…\", max = 10 }`", value)?;
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Repeat, table) {
            match key.get_ref().as_ref() {
                "while" => repeat.while_holds = self.rule("while", value),
                "until" => repeat.until = self.rule("until", value),
                "max" => repeat.max = self.integer("max", value),
                "delay" => repeat.delay = self.duration("delay", value),
                word => unread(word),
            }
        }
        if repeat.max.is_none() && self.out.error_count() == before {
            let found = missing_key(Table::Repeat, "max", value.span());
            self.out.push(found.hint("a loop without a bound may never end: write for example `max = 100`"));
        }
        Some(repeat)
    }

    fn needs(&mut self, value: &Item<'_>) -> Vec<Spanned<String>> {
        match value.get_ref() {
            DeValue::String(name) => {
                let fault = wrong_type("needs", "an array of steps", value);
                self.wrong(fault.hint(format!("write `needs = [\"{name}\"]`")), value);
                Vec::new()
            }
            _ => self.strings("needs", value).map(Spanned::into_inner).unwrap_or_default(),
        }
    }

    fn join(&mut self, value: &Item<'_>) -> Option<Spanned<JoinSpec>> {
        if let Some(word) = value.get_ref().as_str() {
            return Some(Spanned::new(value.span(), JoinSpec::Word(word.to_owned())));
        }
        let table = self.table("join", "a word such as `\"any\"`, or a table such as `{ at-least = 2 }`", value)?;
        let mut at_least = None;
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Join, table) {
            match key.get_ref().as_ref() {
                "at-least" => at_least = self.integer("at-least", value),
                word => unread(word),
            }
        }
        if at_least.is_none() && self.out.error_count() == before {
            self.out.push(missing_key(Table::Join, "at-least", value.span()));
        }
        at_least.map(|number| Spanned::new(number.span(), JoinSpec::AtLeast(number.into_inner())))
    }

    fn rule(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<String>> {
        match value.get_ref() {
            DeValue::Boolean(constant) => {
                let fault = wrong_type(key, "a rule in a string", value);
                self.out.push(fault.hint(format!("write `{key} = \"{constant}\"`")));
                None
            }
            _ => self.string(key, value),
        }
    }

    fn retry(&mut self, name: &Key<'_>, value: &Item<'_>) -> Option<RetrySpec> {
        let table = self.table("retry", "a table such as `{ attempts = 3 }`", value)?;
        let mut retry = RetrySpec {
            span: name.span(),
            attempts: None,
            delay: None,
            factor: None,
            max_delay: None,
            jitter: None,
            incomplete: false,
        };
        let before = self.out.error_count();
        for (key, value) in self.known(Table::Retry, table) {
            match key.get_ref().as_ref() {
                "attempts" => retry.attempts = self.integer("attempts", value),
                "delay" => retry.delay = self.duration("delay", value),
                "factor" => retry.factor = self.number("factor", value),
                "max-delay" => retry.max_delay = self.duration("max-delay", value),
                "jitter" => retry.jitter = self.boolean("jitter", value),
                word => unread(word),
            }
        }
        retry.incomplete = self.out.error_count() > before;
        Some(retry)
    }

    fn limit(&mut self, value: &Item<'_>) -> LimitSpec {
        let mut limit = LimitSpec::default();
        let table = self.table("limit", "a table", value);
        for (key, value) in table.map(|table| self.known(Table::Limit, table)).unwrap_or_default() {
            match key.get_ref().as_ref() {
                "memory" => limit.memory = self.size("memory", value),
                "table-elements" => limit.table_elements = self.integer("table-elements", value),
                "output" => limit.output = self.size("output", value),
                "log" => limit.log = self.size("log", value),
                "process-output" => limit.process_output = self.size("process-output", value),
                "artifact" => limit.artifact = self.size("artifact", value),
                "process-memory" => limit.process_memory = self.size("process-memory", value),
                "process-cpu" => limit.process_cpu = self.duration("process-cpu", value),
                "process-file" => limit.process_file = self.size("process-file", value),
                "processes" => limit.processes = self.integer("processes", value),
                word => unread(word),
            }
        }
        limit
    }

    fn grant(&mut self, value: &Item<'_>) -> GrantSpec {
        let mut grant = GrantSpec::default();
        let table = self.table("grant", "a table", value);
        for (key, value) in table.map(|table| self.known(Table::Grant, table)).unwrap_or_default() {
            match key.get_ref().as_ref() {
                "process" => grant.process = self.list("process", value, Reader::program),
                "files" => grant.files = self.list("files", value, Reader::file),
                "http" => grant.http = self.list("http", value, Reader::host),
                "env" => grant.env = self.strings("env", value),
                "clock" => grant.clock = self.boolean("clock", value),
                "random" => grant.random = self.boolean("random", value),
                "artifacts" => grant.artifacts = self.boolean("artifacts", value),
                "workspace" => grant.workspace = self.boolean("workspace", value),
                "secrets" => grant.secrets = self.list("secrets", value, Reader::secret_grant),
                word => unread(word),
            }
        }
        grant
    }

    fn program(&mut self, value: &Item<'_>) -> Option<ProgramSpec> {
        let (mut program, mut args, mut env, mut directory, mut digest) = (None, None, None, None, None);
        let (mut network, mut daemons, mut read) = (false, false, None);
        if value.get_ref().is_str() {
            program = self.string("process", value);
        } else {
            let expected =
                "an array of programs, or of tables such as `{ program = \"git\", args = [\"fetch\", \"*\"] }`";
            let table = self.table("process", expected, value)?;
            let before = self.out.error_count();
            for (key, value) in self.known(Table::Program, table) {
                match key.get_ref().as_ref() {
                    "program" => program = self.string("program", value),
                    "args" => args = self.strings("args", value),
                    "env" => env = self.strings("env", value),
                    "directory" => directory = self.string("directory", value),
                    "digest" => digest = self.string("digest", value),
                    "network" => network = self.boolean("network", value).is_some_and(Spanned::into_inner),
                    "daemons" => daemons = self.boolean("daemons", value).is_some_and(Spanned::into_inner),
                    "read" => read = self.strings("read", value),
                    word => unread(word),
                }
            }
            if program.is_none() && self.out.error_count() == before {
                self.out.push(missing_key(Table::Program, "program", value.span()));
            }
        }
        Some(ProgramSpec { program: program?, args, env, directory, digest, network, daemons, read })
    }

    fn host(&mut self, value: &Item<'_>) -> Option<HostSpec> {
        let (mut host, mut methods, mut path, mut private) = (None, None, None, false);
        if value.get_ref().is_str() {
            host = self.string("http", value);
        } else {
            let expected =
                "an array of hosts, or of tables such as `{ host = \"api.example.org\", methods = [\"GET\"] }`";
            let table = self.table("http", expected, value)?;
            let before = self.out.error_count();
            for (key, value) in self.known(Table::Host, table) {
                match key.get_ref().as_ref() {
                    "host" => host = self.string("host", value),
                    "methods" => methods = self.strings("methods", value),
                    "path" => path = self.string("path", value),
                    "private" => private = self.boolean("private", value).is_some_and(Spanned::into_inner),
                    word => unread(word),
                }
            }
            if host.is_none() && self.out.error_count() == before {
                self.out.push(missing_key(Table::Host, "host", value.span()));
            }
        }
        Some(HostSpec { host: host?, methods, path, private })
    }

    fn file(&mut self, value: &Item<'_>) -> Option<FileSpec> {
        if value.get_ref().is_str() {
            return Some(FileSpec { path: self.string("files", value)?, write: false });
        }
        let table =
            self.table("files", "an array of paths, or of tables such as `{ path = \".\", write = true }`", value)?;
        let (mut path, mut write) = (None, false);
        let before = self.out.error_count();
        for (key, value) in self.known(Table::File, table) {
            match key.get_ref().as_ref() {
                "path" => path = self.string("path", value),
                "write" => write = self.boolean("write", value).is_some_and(Spanned::into_inner),
                word => unread(word),
            }
        }
        if path.is_none() && self.out.error_count() == before {
            self.out.push(missing_key(Table::File, "path", value.span()));
        }
        Some(FileSpec { path: path?, write })
    }

    fn secret_grant(&mut self, value: &Item<'_>) -> Option<SecretGrantSpec> {
        let expected =
            "an array of tables such as `{ name = \"token\", host = \"api.example.org\", header = \"authorization\" }`";
        let table = self.table("secrets", expected, value)?;
        let empty = Spanned::new(value.span(), String::new());
        let (mut name, mut grant) = (None, SecretGrantSpec::of(empty));
        let before = self.out.error_count();
        for (key, value) in self.known(Table::SecretGrant, table) {
            match key.get_ref().as_ref() {
                "name" => name = self.string("name", value),
                "host" => grant.host = self.string("host", value),
                "header" => grant.header = self.string("header", value),
                "body" => grant.body = self.boolean("body", value),
                "query" => grant.query = self.boolean("query", value),
                "path" => grant.path = self.boolean("path", value),
                "insecure" => grant.insecure = self.boolean("insecure", value),
                "reveal" => grant.reveal = self.boolean("reveal", value),
                "env" => grant.env = self.string("env", value),
                word => unread(word),
            }
        }
        if name.is_none() && self.out.error_count() == before {
            self.out.push(missing_key(Table::SecretGrant, "name", value.span()));
        }
        Some(SecretGrantSpec { name: name?, incomplete: self.out.error_count() > before, ..grant })
    }

    // What follows knows TOML's types, and nothing of the language.

    /// The entries whose keys the language has, in the order of the file; the others are told.
    fn known<'t, 'i>(&mut self, table: Table, entries: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Item<'i>)> {
        let mut known = in_order(entries);
        known.retain(|(key, _)| {
            let is_known = table.key(key.get_ref()).is_some();
            if !is_known {
                self.unknown(table, key);
            }
            is_known
        });
        known
    }

    fn unknown(&mut self, table: Table, key: &Key<'_>) {
        let word = key.get_ref().as_ref();
        if LATER.contains(&(table, word)) {
            return self.out.push(not_yet(word, key.span()));
        }
        let elsewhere = ELSEWHERE.iter().find(|(place, theirs, _)| *place == table && *theirs == word);
        let hint = match elsewhere {
            Some((_, _, ours)) => Some(format!("did you mean `{ours}`?")),
            None => self.out.suggest(word, names(table)),
        };
        let hint = hint.unwrap_or_else(|| match table {
            Table::Grant => format!("the capabilities are {}", listed(&names(table))),
            _ => format!("{} has {}", table.name(), listed(&names(table))),
        });
        let found = match table {
            Table::Defaults if word == "grant" => {
                let message = "what a step may reach is said with the step, and never by default";
                let hint = "a grant here would widen every step, and show in none; steps that reach the same are `like` one template";
                return self
                    .out
                    .push(Diagnostic::error("unknown-key", key.span(), message).label("no default").hint(hint));
            }
            Table::Grant => {
                Diagnostic::error("unknown-capability", key.span(), format!("there is no capability `{word}`"))
                    .label("can't be granted")
            }
            _ => {
                let message = format!("{} has no key `{word}`", table.name());
                Diagnostic::error("unknown-key", key.span(), message).label("unknown key")
            }
        };
        self.out.push(found.hint(hint));
    }

    fn table<'t, 'i>(&mut self, key: &str, expected: &str, value: &'t Item<'i>) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(wrong_type(key, expected, value), value);
        }
        table
    }

    fn entries<T>(
        &mut self,
        key: &'static str,
        value: &Item<'_>,
        mut read: impl FnMut(&mut Reader, &Key<'_>, &Item<'_>) -> Option<T>,
    ) -> Entries<T> {
        let Some(table) = value.get_ref().as_table() else {
            let example = match key {
                "steps" | "always" | "inputs" => format!("write a table `[{key}.NAME]` for each"),
                _ => format!("write a table `[{key}]` with a line for each"),
            };
            self.wrong(wrong_type(key, "a table", value).hint(example), value);
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(table.len());
        for (name, value) in in_order(table) {
            match read(self, name, value) {
                Some(entry) => entries.push((owned(name), entry)),
                None => drop(self.left_out.insert((key, name.get_ref().to_string()))),
            }
        }
        entries
    }

    fn list<T>(
        &mut self,
        key: &str,
        value: &Item<'_>,
        mut read: impl FnMut(&mut Reader, &Item<'_>) -> Option<T>,
    ) -> Option<Spanned<Vec<T>>> {
        let Some(items) = value.get_ref().as_array() else {
            let fault = wrong_type(key, "an array", value);
            let text = value.get_ref().as_str().map(|text| format!("write `{key} = [{text:?}]`"));
            self.wrong(fault.maybe_hint(text), value);
            return None;
        };
        let items = items.iter().filter_map(|item| read(self, item)).collect();
        Some(Spanned::new(value.span(), items))
    }

    fn strings(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<Vec<Spanned<String>>>> {
        self.list(key, value, |reader, item| match item.get_ref().as_str() {
            Some(text) if !reader.origins.is_faulty(&item.span()) => Some(Spanned::new(item.span(), text.to_owned())),
            _ if item.get_ref().is_array() => {
                let message = format!("`{key}` is an array of strings, and in it is another array");
                let fault = Diagnostic::error("wrong-type", item.span(), message).label("an array within the array");
                let hint = format!(
                    "leave out one pair of brackets: `{key} = [\"…\"]`, or `{key} = \"${{vars.…}}\"` if a var has them"
                );
                reader.wrong(fault.hint(hint), item);
                None
            }
            _ => {
                reader.wrong(wrong_type(key, "an array of strings", item), item);
                None
            }
        })
    }

    fn string(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<String>> {
        let text = value.get_ref().as_str().filter(|_| !self.origins.is_faulty(&value.span()));
        if text.is_none() {
            self.wrong(wrong_type(key, "a string", value), value);
        }
        text.map(|text| Spanned::new(value.span(), text.to_owned()))
    }

    fn duration(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<String>> {
        match value.get_ref() {
            DeValue::Integer(number) => {
                let fault = wrong_type(key, "a duration in a string", value);
                self.out.push(fault.hint(format!("a duration has a unit, such as `\"{number}s\"` or `\"{number}m\"`")));
                None
            }
            _ => self.string(key, value),
        }
    }

    fn size(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<Size>> {
        match value.get_ref() {
            DeValue::String(_) => {
                self.string(key, value).map(|text| Spanned::new(text.span(), Size::Text(text.into_inner())))
            }
            DeValue::Integer(_) => {
                self.integer(key, value).map(|bytes| Spanned::new(bytes.span(), Size::Bytes(bytes.into_inner())))
            }
            _ => {
                self.wrong(wrong_type(key, "a size such as `\"64MiB\"`, or a number of bytes", value), value);
                None
            }
        }
    }

    fn boolean(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<bool>> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(wrong_type(key, "`true` or `false`", value), value);
        }
        found.map(|found| Spanned::new(value.span(), found))
    }

    fn integer(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<i64>> {
        match value.get_ref() {
            DeValue::Integer(number) => self.int(number, value.span()).map(|number| Spanned::new(value.span(), number)),
            _ => {
                self.wrong(wrong_type(key, "an integer", value), value);
                None
            }
        }
    }

    fn number(&mut self, key: &str, value: &Item<'_>) -> Option<Spanned<f64>> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => self.int(number, value.span()).map(|number| number as f64),
            DeValue::Float(number) => self.float(number.as_str(), value.span()),
            _ => {
                self.wrong(wrong_type(key, "a number", value), value);
                None
            }
        };
        number.map(|number| Spanned::new(value.span(), number))
    }

    fn int(&mut self, number: &DeInteger<'_>, span: Range<usize>) -> Option<i64> {
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if value.is_none() {
            let message = format!("`{number}` is outside of the integers, -2^63 to 2^63 - 1");
            self.out.push(Diagnostic::error("number-range", span, message));
        }
        value
    }

    fn float(&mut self, number: &str, span: Range<usize>) -> Option<f64> {
        let value = number.parse().ok().filter(|value: &f64| value.is_finite());
        if value.is_none() {
            let message = format!("`{number}` is no finite number; JSON has no others");
            self.out.push(Diagnostic::error("number-range", span, message));
        }
        value
    }

    /// Any value. `depth` counts from 1.
    fn value(&mut self, value: &Item<'_>, depth: u32) -> Option<Value> {
        if depth > JSON_DEPTH_MAX {
            let message = format!("values nest at most {JSON_DEPTH_MAX} levels deep");
            self.out.push(Diagnostic::error("too-deep", value.span(), message));
            return None;
        }
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => ValueKind::Integer(self.int(number, value.span())?),
            DeValue::Float(number) => ValueKind::Float(self.float(number.as_str(), value.span())?),
            DeValue::Boolean(value) => ValueKind::Boolean(*value),
            DeValue::Datetime(moment) => ValueKind::String(moment.to_string()),
            DeValue::Array(items) => {
                ValueKind::List(items.iter().filter_map(|item| self.value(item, depth + 1)).collect())
            }
            DeValue::Table(table) => {
                let entries = in_order(table).into_iter();
                ValueKind::Table(
                    entries.filter_map(|(key, item)| Some((owned(key), self.value(item, depth + 1)?))).collect(),
                )
            }
        };
        Some(Value { span: value.span(), kind })
    }
}

fn names(table: Table) -> Vec<&'static str> {
    table.keys().iter().map(|key| key.name).collect()
}

/// A key of the language's tables that no arm of the reader takes: a test reads each of them.
fn unread(word: &str) {
    unreachable!("`{word}` is a key of the language, and nothing reads it")
}

/// `a`, `b` and `c`.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
