//! The keys of the language: one table for each table of a workflow file, which the reader, its hints and the JSON Schema
//! for editors are all made from.
//!
//! The reader takes no key that is not here, and a test holds the reverse, so the schema can't promise what the reader
//! refuses. What the schema says is about shape; what names exist and whether a rule is right is for `downbeat check`.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{DURATION_PATTERN, RATE_PATTERN, SIZE_PATTERN};
use crate::capability::Limits;
use crate::plan::{InputType, Retry};
use crate::resolve::{
    ATTEMPTS_MAX, FACTOR_MAX, JOIN_WORDS, NAME_BYTES_MAX, POOL_SIZE_MAX, PRIORITY_MAX, PROCESSES_MAX, REST_WORDS,
    ROUNDS_MAX, STEPS_MAX, WHEN_BUSY_WORDS,
};
use crate::run::ITEMS_MAX;

/// The tables of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Workflow,
    Input,
    Plugin,
    Pool,
    Concurrency,
    Signal,
    Secret,
    Step,
    Undo,
    Wait,
    Foreach,
    Repeat,
    Join,
    Retry,
    Limit,
    Grant,
    File,
    Program,
    Host,
    SecretGrant,
    Defaults,
}

/// A key of a table.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// What it means, for an editor's tooltip.
    about: &'static str,
    shape: Shape,
    /// What holds without it.
    default: Option<fn() -> Value>,
    /// A value as one would write it, in JSON; none where the table that the key opens has examples of its own.
    example: &'static str,
}

/// What a key's value looks like.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Pattern(&'static str),
    /// CEL in a string.
    Rule,
    Duration,
    Size,
    Boolean,
    Integer(i64, i64),
    Number(f64, Option<f64>),
    /// One of `InputType`.
    InputType,
    /// One of these words.
    OneOf(&'static [&'static str]),
    Any,
    /// A table of anything.
    Object,
    Table(Table),
    /// Several of it.
    List(&'static Shape),
    /// A table of it, by names that the author chooses.
    Named(&'static Shape),
    /// The one for short, the other in full.
    Either(&'static Shape, &'static Shape),
}

impl Table {
    /// All of them.
    pub(super) const ALL: [Table; 21] = [
        Table::Workflow,
        Table::Input,
        Table::Plugin,
        Table::Pool,
        Table::Concurrency,
        Table::Signal,
        Table::Secret,
        Table::Step,
        Table::Undo,
        Table::Wait,
        Table::Foreach,
        Table::Repeat,
        Table::Join,
        Table::Retry,
        Table::Limit,
        Table::Grant,
        Table::File,
        Table::Program,
        Table::Host,
        Table::SecretGrant,
        Table::Defaults,
    ];

    /// As a sentence calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Workflow => "a workflow",
            Table::Input => "an input",
            Table::Plugin => "a plugin",
            Table::Pool => "a pool",
            Table::Concurrency => "`concurrency`",
            Table::Signal => "a signal",
            Table::Secret => "a secret",
            Table::Step => "a step",
            Table::Undo => "`undo`",
            Table::Wait => "`wait`",
            Table::Foreach => "`foreach`",
            Table::Repeat => "`repeat`",
            Table::Join => "`join`",
            Table::Retry => "`retry`",
            Table::Limit => "`limit`",
            Table::Grant => "`grant`",
            Table::File => "a grant of `files`",
            Table::Program => "a grant of `process`",
            Table::Host => "a grant of `http`",
            Table::SecretGrant => "a grant of `secrets`",
            Table::Defaults => "`[defaults]`",
        }
    }

    /// Its keys, in the order in which they are told.
    pub(super) fn keys(self) -> &'static [Key] {
        match self {
            Table::Workflow => WORKFLOW,
            Table::Input => INPUT,
            Table::Plugin => PLUGIN,
            Table::Pool => POOL,
            Table::Concurrency => CONCURRENCY,
            Table::Signal => SIGNAL,
            Table::Secret => SECRET,
            Table::Step => STEP.get_or_init(|| [&WORK[..2], STEP_ALONE, &WORK[2..]].concat()),
            Table::Undo => UNDO.get_or_init(|| [&WORK[..2], &STEP_ALONE[..1], &WORK[2..]].concat()),
            Table::Wait => WAIT,
            Table::Foreach => FOREACH,
            Table::Repeat => REPEAT,
            Table::Join => JOIN,
            Table::Retry => RETRY,
            Table::Limit => LIMIT,
            Table::Grant => GRANT,
            Table::File => FILE,
            Table::Program => PROGRAM,
            Table::Host => HOST,
            Table::SecretGrant => SECRET_GRANT,
            Table::Defaults => DEFAULTS.get_or_init(|| {
                let keys = WORK.iter().filter(|key| DEFAULT_NAMES.contains(&key.name));
                // What holds without them is said with the step.
                keys.map(|key| Key { default: None, ..*key }).collect()
            }),
        }
    }

    /// The key of this name.
    pub(super) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name)
    }

    /// What a table can't be without.
    fn required(self) -> &'static [&'static str] {
        match self {
            Table::Workflow => &["name", "steps"],
            Table::Input => &["type"],
            Table::Plugin | Table::File => &["path"],
            Table::Program => &["program"],
            Table::Host => &["host"],
            Table::Pool => &[],
            Table::Concurrency => &["group"],
            // Of an `undo`, a template may say it.
            Table::Undo => &[],
            Table::Foreach => &[],
            Table::Repeat => &["max"],
            Table::Step | Table::Signal | Table::Secret | Table::Wait => &[],
            Table::SecretGrant => &["name"],
            Table::Join => &["at-least"],
            Table::Retry => &["attempts"],
            Table::Limit | Table::Grant | Table::Defaults => &[],
        }
    }

    /// What it is called in the schema's definitions.
    fn definition(self) -> &'static str {
        match self {
            Table::Workflow => "workflow",
            Table::Input => "input",
            Table::Plugin => "plugin",
            Table::Pool => "pool",
            Table::Concurrency => "concurrency",
            Table::Signal => "signal",
            Table::Secret => "secret",
            Table::Step => "step",
            Table::Undo => "undo",
            Table::Wait => "wait",
            Table::Foreach => "foreach",
            Table::Repeat => "repeat",
            Table::Join => "join",
            Table::Retry => "retry",
            Table::Limit => "limit",
            Table::Grant => "grant",
            Table::File => "file",
            Table::Program => "program",
            Table::Host => "host",
            Table::SecretGrant => "secret-grant",
            Table::Defaults => "defaults",
        }
    }

    /// The members of its schema.
    fn schema(self) -> Map<String, Value> {
        let properties: Map<String, Value> =
            self.keys().iter().map(|key| (key.name.to_owned(), key.schema())).collect();
        let mut members = Map::new();
        members.insert("type".to_owned(), "object".into());
        members.insert("additionalProperties".to_owned(), false.into());
        if !self.required().is_empty() {
            members.insert("required".to_owned(), self.required().into());
        }
        members.insert("properties".to_owned(), properties.into());
        if self == Table::Pool {
            members.insert("anyOf".to_owned(), json!([{ "required": ["size"] }, { "required": ["rate"] }]));
        }
        members
    }
}

impl Key {
    /// Whether it is CEL in a string.
    pub(super) fn is_rule(&self) -> bool {
        matches!(self.shape, Shape::Rule)
    }

    /// The table of the language that may stand there.
    pub(super) fn table(&self) -> Option<Table> {
        match self.shape {
            Shape::Table(table) => Some(table),
            Shape::Either(_, Shape::Table(table)) => Some(*table),
            _ => None,
        }
    }

    fn schema(&self) -> Value {
        let mut schema = self.shape.schema();
        // A whole table or list may be a var as well.
        if matches!(self.shape, Shape::Table(_) | Shape::List(_) | Shape::Object) {
            schema = json!({ "anyOf": [schema, { "type": "string", "pattern": VAR_PATTERN }] });
        }
        // Beside a reference, draft 7 reads nothing.
        if schema.get("$ref").is_some() {
            schema = json!({ "allOf": [schema] });
        }
        schema["description"] = self.about.into();
        if let Some(default) = self.default {
            schema["default"] = default();
        }
        if let Some(example) = self.example() {
            schema["examples"] = json!([example]);
        }
        schema
    }

    /// The value of its example.
    fn example(&self) -> Option<Value> {
        match self.example {
            "" => None,
            text => Some(serde_json::from_str(text).expect("an example is JSON, as a test holds")),
        }
    }
}

impl Shape {
    fn schema(&self) -> Value {
        match self {
            Shape::Text | Shape::Rule => json!({ "type": "string" }),
            Shape::Pattern(pattern) => json!({ "type": "string", "pattern": or_var(pattern) }),
            Shape::Duration => json!({ "type": "string", "minLength": 2, "pattern": or_var(DURATION_PATTERN) }),
            Shape::Size => json!({ "anyOf": [
                { "type": "string", "pattern": or_var(SIZE_PATTERN) },
                { "type": "integer", "minimum": 0 },
            ] }),
            // A pattern is for strings alone, as bounds are for numbers.
            Shape::Boolean => json!({ "type": ["boolean", "string"], "pattern": VAR_PATTERN }),
            Shape::Integer(least, most) => {
                json!({ "type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": VAR_PATTERN })
            }
            Shape::Number(least, most) => {
                let mut schema = json!({ "type": ["number", "string"], "minimum": least, "pattern": VAR_PATTERN });
                if let Some(most) = most {
                    schema["maximum"] = (*most).into();
                }
                schema
            }
            Shape::OneOf(words) => json!({ "anyOf": [
                { "enum": words },
                { "type": "string", "pattern": VAR_PATTERN },
            ] }),
            Shape::InputType => json!({ "enum": InputType::ALL.map(InputType::name) }),
            Shape::Any => json!({}),
            Shape::Object => json!({ "type": "object" }),
            Shape::Table(table) => json!({ "$ref": format!("#/definitions/{}", table.definition()) }),
            Shape::List(item) => json!({ "type": "array", "items": item.schema() }),
            Shape::Named(value) => json!({
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$", "maxLength": NAME_BYTES_MAX },
                "additionalProperties": value.schema(),
            }),
            Shape::Either(short, full) => json!({ "anyOf": [short.schema(), full.schema()] }),
        }
    }
}

/// A string in which a var is put in, as a regular expression for editors: what becomes of it is for `downbeat check`.
const VAR_PATTERN: &str = r"\$\{\s*vars\b";

/// What has this pattern, or a var in it.
fn or_var(pattern: &str) -> String {
    format!("{pattern}|{VAR_PATTERN}")
}

/// The JSON Schema of workflow files, draft 7, which is what editors of TOML read.
pub fn json_schema() -> Value {
    let about = [
        ("$schema", "http://json-schema.org/draft-07/schema#"),
        ("title", "A Downbeat workflow"),
        ("description", "Steps, each a sandboxed WebAssembly component, and how they hang together."),
    ];
    let mut schema: Map<String, Value> = about.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
    schema.extend(Table::Workflow.schema());
    let tables = Table::ALL.into_iter().filter(|table| *table != Table::Workflow);
    let definitions: Map<String, Value> =
        tables.map(|table| (table.definition().to_owned(), table.schema().into())).collect();
    schema.insert("definitions".to_owned(), definitions.into());
    schema.into()
}

/// A size as one would write it.
fn size(bytes: u64) -> Value {
    match bytes.is_multiple_of(1 << 20) {
        true => format!("{}MiB", bytes >> 20).into(),
        false => bytes.into(),
    }
}

/// A duration as one would write it.
fn duration(ms: u64) -> Value {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    let (unit, factor) = unit.unwrap_or(("ms", 1));
    format!("{}{unit}", ms / factor).into()
}

const fn key(name: &'static str, shape: Shape, example: &'static str, about: &'static str) -> Key {
    Key { name, about, shape, default: None, example }
}

impl Key {
    const fn by_default(mut self, default: fn() -> Value) -> Key {
        self.default = Some(default);
        self
    }
}

const WORKFLOW: &[Key] = &[
    key(
        "name",
        Shape::Pattern("^[A-Za-z_][A-Za-z0-9_-]*$"),
        r#""release""#,
        "What the workflow is called: letters, digits, `_` and `-`.",
    ),
    key("description", Shape::Text, r#""Build, check, stage, promote""#, "For people."),
    key(
        "timeout",
        Shape::Duration,
        r#""1h30m""#,
        "Of the whole run, from its creation: attempts in flight are ended, the rest is skipped.",
    ),
    key("inputs", Shape::Named(&Shape::Table(Table::Input)), "", "What a run is given."),
    key(
        "plugins",
        Shape::Named(&Shape::Either(&Shape::Text, &Shape::Table(Table::Plugin))),
        r#"{"process": "../plugins/process"}"#,
        "The components that steps use, by the names that `use` says.",
    ),
    key(
        "pools",
        Shape::Named(&Shape::Either(&Shape::Integer(1, POOL_SIZE_MAX), &Shape::Table(Table::Pool))),
        r#"{"runner": 4}"#,
        "How much may go on at once, over all runs of the process.",
    ),
    key(
        "concurrency",
        Shape::Table(Table::Concurrency),
        r#"{"group": "deploy"}"#,
        "Which runs exclude each other as a whole.",
    ),
    key(
        "priority",
        Shape::Integer(-PRIORITY_MAX, PRIORITY_MAX),
        "10",
        "Of what its runs have in line for pools, unless a step says otherwise: higher ones are served first.",
    )
    .by_default(|| 0.into()),
    key(
        "signals",
        Shape::Named(&Shape::Table(Table::Signal)),
        r#"{"go": {"keep": false}}"#,
        "What may be sent to a run from outside, and is waited for by steps.",
    ),
    key(
        "secrets",
        Shape::Named(&Shape::Table(Table::Secret)),
        r#"{"webhook": {"env": "WEBHOOK_TOKEN"}}"#,
        "Credentials by name, each with the one source that the engine reads it from. A step has what its `grant` says.",
    ),
    key(
        "vars",
        Shape::Named(&Shape::Any),
        r#"{"region": "eu"}"#,
        "Values with a name: any, put in where `${vars.NAME}` stands in a string, or `vars.NAME` in a rule.",
    ),
    key(
        "defaults",
        Shape::Table(Table::Defaults),
        "",
        "What holds for each step with `use`, and each `undo`, that does not say otherwise.",
    ),
    key(
        "templates",
        Shape::Named(&Shape::Table(Table::Step)),
        "",
        "Parts of steps, which steps take over with `like`. None runs by itself.",
    ),
    key(
        "steps",
        Shape::Named(&Shape::Table(Table::Step)),
        "",
        "What is done. Steps without an order between them run at the same time.",
    ),
    key(
        "always",
        Shape::Named(&Shape::Table(Table::Step)),
        "",
        "What is done once all steps have come to an end, whatever became of them: also when the run is cancelled or has timed out.",
    ),
    key(
        "outputs",
        Shape::Named(&Shape::Any),
        r#"{"verdict": "${steps.judge.output.verdict}"}"#,
        "The run's results: any values, strings may have holes `${…}`.",
    ),
];

const INPUT: &[Key] = &[
    key("type", Shape::InputType, r#""string""#, "The type of the value."),
    key(
        "required",
        Shape::Boolean,
        "false",
        "Whether a run must be given it. Without this key, it must unless there is a `default`.",
    ),
    key("default", Shape::Any, r#""world""#, "Taken when the run is not given the input."),
    key("enum", Shape::List(&Shape::Any), r#"["eu", "us"]"#, "The only values allowed."),
    key(
        "pattern",
        Shape::Text,
        r#""^[0-9a-f]{7,40}$""#,
        "A regular expression for strings. It may match anywhere: anchor it with `^…$`.",
    ),
    key("description", Shape::Text, r#""Whom to greet""#, "For people."),
];

const PLUGIN: &[Key] = &[key(
    "path",
    Shape::Text,
    r#""../plugins/process""#,
    "From the workflow's folder: a source folder, built when it changed, or a `.wasm`, taken as it is.",
)];

const POOL: &[Key] = &[
    key(
        "size",
        Shape::Integer(1, POOL_SIZE_MAX),
        "4",
        "How many attempts, blocks, sub-workflows and waits may be in it at once. Without it: as many as the rate lets in.",
    ),
    key(
        "rate",
        Shape::Pattern(RATE_PATTERN),
        r#""10/min""#,
        "How many may be started in it, at most, within any second, minute, hour or day: `5/s`, `10/min`, `100/h`, `1000/d`.",
    ),
    key("cost-per-hour", Shape::Number(0.0, None), "0.48", "Of one place, in any currency. No run depends on it."),
];

const CONCURRENCY: &[Key] = &[
    key("group", Shape::Text, r#""deploy-${inputs.region}""#, "Runs with the same text, of whatever workflow, exclude each other. It may have holes that mention inputs."),
    key("when-busy", Shape::OneOf(WHEN_BUSY_WORDS), r#""cancel-running""#, "What a run does when another one of its group is not over: it waits in line (`queue`), has those before it cancelled (`cancel-running`), or does not begin at all (`reject`).").by_default(|| "queue".into()),
];

const SIGNAL: &[Key] = &[key(
    "keep",
    Shape::Boolean,
    "false",
    "Whether a signal that nobody waits for is kept for the next step that does. Without, it is lost.",
)
.by_default(|| true.into())];

static STEP: OnceLock<Vec<Key>> = OnceLock::new();

static UNDO: OnceLock<Vec<Key>> = OnceLock::new();

static DEFAULTS: OnceLock<Vec<Key>> = OnceLock::new();

/// The keys of a step that may be said for all of them. Not `grant`: a step's own lines say what it may reach.
const DEFAULT_NAMES: &[&str] = &["retry", "timeout", "pool", "limit"];

/// The keys of a step beside those that it shares with `undo`.
const STEP_ALONE: &[Key] = &[
    key("like", Shape::Text, r#""base""#, "One of `[templates]`: what the step does not say itself, it has from there. Tables are merged, everything else is replaced."),
    key("vars", Shape::Named(&Shape::Any), r#"{"region": "eu"}"#, "Vars of the step and what is within it, before those of the workflow: what a template leaves open."),
    key("steps", Shape::Named(&Shape::Table(Table::Step)), "", "Steps within the step: a scope of their own, which is retried, timed, undone and cancelled as a whole."),
    key("always", Shape::Named(&Shape::Table(Table::Step)), "", "What is done at the end of its steps, whatever became of them."),
    key("outputs", Shape::Named(&Shape::Any), r#"{"digest": "${steps.build.output.digest}"}"#, "The output of a step with `steps`: any values, strings may have holes `${…}`."),
    key("workflow", Shape::Text, r#""deploy.toml""#, "Another workflow, as a step of this one: `with` are its inputs, its outputs the step's output."),
    key("wait", Shape::Either(&Shape::Duration, &Shape::Table(Table::Wait)), r#""10m""#, "Waits: so long, until a time, for a signal, for somebody's approval, or for the first of several of these."),
    key("finish", Shape::Boolean, "true", "The end: what else goes on in the workflow or block is ended, and it has succeeded."),
    key("fail", Shape::Text, r#""no region is left""#, "The end: the step fails with this message, and what else goes on in the workflow or block is ended."),
    key("foreach", Shape::Either(&Shape::Either(&Shape::Text, &Shape::List(&Shape::Any)), &Shape::Table(Table::Foreach)), r#""${inputs.suites}""#, "Once for each item of a list, side by side. `${item}` and `${index}` are the item's; the output is the list of outputs."),
    key("parallel", Shape::Integer(1, ITEMS_MAX as i64), "4", "How many items of `foreach` are worked on at once; without it, all."),
    key("repeat", Shape::Either(&Shape::Integer(1, ROUNDS_MAX), &Shape::Table(Table::Repeat)), r#"{"until": "steps.ask.output.ready", "max": 20}"#, "Again and again, until or while a rule holds. `${previous}` is the output of the round before; the output is that of the last."),
    key("detached", Shape::Boolean, "true", "The step is over as soon as its workflow has begun, which goes on by itself; what is around it waits for it, but no round of a `repeat` does.").by_default(|| false.into()),
    key("undo", Shape::Table(Table::Undo), "", "What takes back what the step did, if it succeeded and its workflow or block does not. Steps are undone in the reverse order of their ends."),
    key("cache", Shape::Boolean, "true", "Whether an answer is kept across runs, and taken instead of another attempt while the component, the input, granted variables and files are the same. For steps whose grants let them do nothing but compute.").by_default(|| false.into()),
    key("needs", Shape::List(&Shape::Pattern(r"^[A-Za-z_][A-Za-z0-9_-]*(\.(succeeded|failed|skipped|finished|started))?$")), r#"["build", "lint.finished"]"#, "What must have happened before, all of it unless there is a `join`: `build` (succeeded), `build.failed`, `build.skipped`, `build.finished` (any end), `build.started` (it has begun).").by_default(|| json!([])),
    key("join", Shape::Either(&Shape::OneOf(JOIN_WORDS), &Shape::Table(Table::Join)), r#""any""#, "How many of its needs the step takes: `all`, the first that is met (`any`), at least one once all have come to an end (`merge`), or so many (`{ at-least = 2 }`).").by_default(|| "all".into()),
    key("rest", Shape::OneOf(REST_WORDS), r#""cancel""#, "What becomes of the steps that serve only this one, once it is decided whether it starts: they go on (`wait`) or are ended (`cancel`).").by_default(|| "wait".into()),
    key("cancels", Shape::List(&Shape::Pattern(r"^[A-Za-z_][A-Za-z0-9_-]*$")), r#"["search", "compare"]"#, "The steps beside it that are ended when it succeeds, if they are not over.").by_default(|| json!([])),
    key("when", Shape::Rule, r#""steps.build.output.size < 100""#, "A rule in CEL. If it is false once the needs are met, the step is skipped."),
];

/// What runs, and within which bounds.
const WORK: &[Key] = &[
    key("use", Shape::Text, r#""process""#, "The plugin: one of `[plugins]`."),
    key(
        "with",
        Shape::Object,
        r#"{"name": "${inputs.name}"}"#,
        "The step's input. Any values; strings may have holes `${…}`.",
    )
    .by_default(|| json!({})),
    key("retry", Shape::Table(Table::Retry), "", "What happens after a failure that may be gone next time."),
    key(
        "timeout",
        Shape::Duration,
        r#""15m""#,
        "Of one attempt; of a step with `steps`, `workflow` or `wait`, of each time that it is tried.",
    )
    .by_default(|| duration(Limits::default().time_ms)),
    key(
        "pool",
        Shape::Text,
        r#""runner""#,
        "Where the step waits for a place, one of `[pools]`: each of its attempts has one; so does a block, a sub-workflow (each item and round of them), or a `wait`, from its beginning until all of it is over.",
    ),
    key(
        "priority",
        Shape::Integer(-PRIORITY_MAX, PRIORITY_MAX),
        "10",
        "Of the step in the line of its pool: higher ones are served first, and first come, first served among equals. Without it, the run's.",
    ),
    key("limit", Shape::Table(Table::Limit), "", "The bounds of one attempt."),
    key("grant", Shape::Table(Table::Grant), "", "What the step's attempts may reach. Without it: nothing."),
    key("description", Shape::Text, r#""Builds the image""#, "For people."),
];

const WAIT: &[Key] = &[
    key("for", Shape::Duration, r#""10m""#, "So long."),
    key("until", Shape::Text, r#""2026-12-24T18:00:00Z""#, "Until this time, with a zone; it may have holes `${…}`."),
    key("signal", Shape::Text, r#""go""#, "For a signal: one of `[signals]`."),
    key(
        "approval",
        Shape::Either(&Shape::Text, &Shape::List(&Shape::Text)),
        r#"["ann", "bob"]"#,
        "For the approval of one of these. If one rejects it, the step fails.",
    ),
    key("question", Shape::Text, r#""Promote ${inputs.commit}?""#, "What they are asked; it may have holes `${…}`."),
];

const FOREACH: &[Key] = &[
    key(
        "in",
        Shape::Either(&Shape::Text, &Shape::List(&Shape::Any)),
        r#""${inputs.suites}""#,
        "The list. `${steps.scan.items}` is what a step appends, also while it still runs.",
    ),
    key(
        "zip",
        Shape::List(&Shape::Text),
        r#"["${steps.frame.items}", "${steps.wheel.items}"]"#,
        "In place of `in`: what several steps append. The nth item is the list of the nth of each.",
    ),
    key("parallel", Shape::Integer(1, ITEMS_MAX as i64), "4", "How many items are worked on at once; without it, all."),
    key(
        "join",
        Shape::Either(&Shape::OneOf(JOIN_WORDS), &Shape::Table(Table::Join)),
        r#""any""#,
        "How many of the items have to succeed.",
    )
    .by_default(|| "all".into()),
    key(
        "until",
        Shape::Rule,
        r#""items.succeeded >= 2 || items.failed > 3""#,
        "Asked whenever an item has ended: once it holds, the step has succeeded, whatever `join` takes.",
    ),
    key("rest", Shape::OneOf(REST_WORDS), r#""cancel""#, "What becomes of the other items once that is decided.")
        .by_default(|| "wait".into()),
];

const REPEAT: &[Key] = &[
    key(
        "while",
        Shape::Rule,
        r#""previous == null || previous.more""#,
        "Asked before each round: it is begun while this holds.",
    ),
    key("until", Shape::Rule, r#""steps.ask.output.ready""#, "Asked after each round: it was the last if this holds."),
    key(
        "max",
        Shape::Integer(1, ROUNDS_MAX),
        "20",
        "So many rounds at most. With a rule that still asks for another, the step fails then.",
    ),
    key("delay", Shape::Duration, r#""5s""#, "Between two rounds.").by_default(|| duration(0)),
];

const JOIN: &[Key] =
    &[key("at-least", Shape::Integer(1, STEPS_MAX as i64), "2", "The step starts when so many of its needs are met.")];

const RETRY: &[Key] = &[
    key("attempts", Shape::Integer(1, ATTEMPTS_MAX), "3", "How often the step is tried, the first time included."),
    key("delay", Shape::Duration, r#""2s""#, "Before the second attempt.")
        .by_default(|| duration(Retry::default().delay_ms)),
    key("factor", Shape::Number(1.0, Some(FACTOR_MAX)), "2", "By how much the delay grows each time.")
        .by_default(|| Retry::default().factor.into()),
    key("max-delay", Shape::Duration, r#""1m""#, "The delay grows no further.")
        .by_default(|| duration(Retry::default().max_delay_ms)),
    key("jitter", Shape::Boolean, "true", "Whether each delay is drawn from half of it to all of it.")
        .by_default(|| Retry::default().jitter.into()),
];

const LIMIT: &[Key] = &[
    key("memory", Shape::Size, r#""64MiB""#, "The component's memory.").by_default(|| size(Limits::default().memory)),
    key("table-elements", Shape::Integer(0, 10_000_000), "100000", "Elements of all the component's tables together.")
        .by_default(|| Limits::default().table_elements.into()),
    key("output", Shape::Size, r#""1MiB""#, "The step's output, as JSON.")
        .by_default(|| size(Limits::default().output)),
    key("log", Shape::Size, r#""64KiB""#, "The log that is kept; the rest is counted and dropped.")
        .by_default(|| size(Limits::default().log)),
    key(
        "process-output",
        Shape::Size,
        r#""64KiB""#,
        "What is kept of the end of each of a native program's two outputs.",
    )
    .by_default(|| size(Limits::default().process_output)),
    key("artifact", Shape::Size, r#""2GiB""#, "One artifact.").by_default(|| size(Limits::default().artifact)),
    key("process-memory", Shape::Size, r#""2GiB""#, "Memory of a native program and of all that it started.")
        .by_default(|| size(Limits::default().process_memory)),
    key("process-cpu", Shape::Duration, r#""10m""#, "CPU time of each native process.")
        .by_default(|| duration(Limits::default().process_cpu_ms)),
    key("process-file", Shape::Size, r#""1GiB""#, "One file that a native program writes.")
        .by_default(|| size(Limits::default().process_file)),
    key(
        "processes",
        Shape::Integer(1, PROCESSES_MAX),
        "64",
        "Processes and threads of a native program at once, itself included.",
    )
    .by_default(|| Limits::default().processes.into()),
];

const GRANT: &[Key] = &[
    key(
        "process",
        Shape::List(&Shape::Either(&Shape::Text, &Shape::Table(Table::Program))),
        r#"["make", {"program": "git", "args": ["fetch", "*"]}]"#,
        "Native programs, by exactly this name or absolute path; a table says how it may be called.",
    ),
    key(
        "files",
        Shape::List(&Shape::Either(&Shape::Text, &Shape::Table(Table::File))),
        r#"[{"path": "data", "write": true}]"#,
        "Directories, from the workflow's folder; the guest sees each under this very path.",
    ),
    key(
        "http",
        Shape::List(&Shape::Either(&Shape::Text, &Shape::Table(Table::Host))),
        r#"["localhost:*", {"host": "api.example.org", "methods": ["GET"], "path": "/v1/"}]"#,
        "Hosts that requests may go to, with a port or `*`; without one, 80 and 443. A table says what may be asked there.",
    ),
    key("env", Shape::List(&Shape::Text), r#"["HOME"]"#, "Variables of the engine's environment."),
    key("clock", Shape::Boolean, "true", "The real clocks.").by_default(|| false.into()),
    key("random", Shape::Boolean, "true", "Real random numbers.").by_default(|| false.into()),
    key("artifacts", Shape::Boolean, "true", "The store of blobs, by digest.").by_default(|| false.into()),
    key("workspace", Shape::Boolean, "true", "The run's own directory, shared by its steps.")
        .by_default(|| false.into()),
    key(
        "secrets",
        Shape::List(&Shape::Table(Table::SecretGrant)),
        r#"[{"name": "webhook", "host": "hooks.example.org", "header": "authorization"}]"#,
        "What the step may have of `[secrets]`, and where: the component has a placeholder, the value is put in on the way out.",
    ),
];

const SECRET: &[Key] = &[
    key("env", Shape::Text, r#""TOKEN""#, "A variable of the engine's environment."),
    key("file", Shape::Text, r#""/etc/downbeat/token""#, "A file; a relative path starts at the workflow's folder."),
    key(
        "command",
        Shape::List(&Shape::Text),
        r#"["vault", "read", "-field=token", "secret/release"]"#,
        "A program that the engine runs, and its arguments: what it writes to its standard output.",
    ),
    key("credential", Shape::Text, r#""token""#, "A credential that systemd gives the engine's unit."),
];

const SECRET_GRANT: &[Key] = &[
    key("name", Shape::Text, r#""webhook""#, "One of `[secrets]`."),
    key(
        "host",
        Shape::Text,
        r#""hooks.example.org""#,
        "Where requests may carry it: as in `http`, which has to grant the host as well.",
    ),
    key("header", Shape::Text, r#""authorization""#, "In this header of requests to `host`."),
    key("body", Shape::Boolean, "true", "In the body of requests to `host`.").by_default(|| false.into()),
    key("query", Shape::Boolean, "true", "In the query of the address of requests to `host`.")
        .by_default(|| false.into()),
    key("path", Shape::Boolean, "true", "In the path of the address of requests to `host`.")
        .by_default(|| false.into()),
    key("insecure", Shape::Boolean, "true", "Also without `https`; to this machine itself that is always so.")
        .by_default(|| false.into()),
    key("reveal", Shape::Boolean, "true", "The component sees the value itself, in its input.")
        .by_default(|| false.into()),
    key("env", Shape::Text, r#""TOKEN""#, "Native programs have it in this variable."),
];

const FILE: &[Key] = &[
    key("path", Shape::Text, r#""data""#, "From the workflow's folder."),
    key("write", Shape::Boolean, "true", "Whether the guest may change what is there.").by_default(|| false.into()),
];

const PROGRAM: &[Key] = &[
    key("program", Shape::Text, r#""git""#, "A name in the engine's `PATH`, or an absolute path."),
    key(
        "args",
        Shape::List(&Shape::Text),
        r#"["fetch", "*"]"#,
        "The arguments that it may be given, one pattern each. `*` stands for any text (at the beginning, for none that \
         begins with `-`), a last `**` for any further arguments. Without it: any arguments.",
    ),
    key(
        "env",
        Shape::List(&Shape::Text),
        r#"["GIT_SSH"]"#,
        "Variables of the engine's environment that the program sees, in place of those of the grant `env`.",
    ),
    key("directory", Shape::Text, r#""src""#, "The granted directory in which, or below which, alone it may run."),
    key(
        "digest",
        Shape::Pattern("^sha256:[0-9a-f]{64}$"),
        r#""sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#,
        "What its file must be.",
    ),
    key("network", Shape::Boolean, "true", "Whether it may speak with others, over the network or on this machine.")
        .by_default(|| false.into()),
    key("daemons", Shape::Boolean, "true", "Whether what it leaves behind on purpose lives on after the step.")
        .by_default(|| false.into()),
    key(
        "read",
        Shape::List(&Shape::Text),
        r#"["~/.cargo", "$RUSTUP_HOME"]"#,
        "Directories and files beyond the system's own that the program, and not the guest, may read and run programs from.",
    ),
];

const HOST: &[Key] = &[
    key("host", Shape::Text, r#""api.example.org""#, "The host, with a port or `*`; without one, 80 and 443."),
    key("methods", Shape::List(&Shape::Text), r#"["GET", "HEAD"]"#, "The methods; without it, any."),
    key("path", Shape::Text, r#""/v1/""#, "The path that a request's path must be or be below of; without it, any."),
    key("private", Shape::Boolean, "true", "Whether the name may lead to an address of this machine or its network.")
        .by_default(|| false.into()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Source, Spec};

    fn codes(text: String) -> Vec<&'static str> {
        let source = Source::new("w.toml", text);
        Spec::parse(&source).1.iter().map(|found| found.code).collect()
    }

    /// A workflow in which `key = value` stands in a table of the kind.
    fn workflow_with(table: Table, key: &str, value: &str) -> String {
        let opening = match table {
            Table::Workflow => "",
            Table::Input => "[inputs.a]\n",
            Table::Plugin => "[plugins.a]\npath = \"p\"\n",
            Table::Pool => "[pools.a]\nsize = 1\n",
            Table::Concurrency => "[concurrency]\ngroup = \"g\"\n",
            Table::Signal => "[signals.a]\n",
            Table::Secret => "[secrets.a]\n",
            Table::Step => "[steps.a]\n",
            Table::Undo => "[steps.a.undo]\n",
            Table::Wait => "[steps.a.wait]\n",
            Table::Foreach => "[steps.a.foreach]\nin = []\n",
            Table::Repeat => "[steps.a.repeat]\nmax = 1\n",
            Table::Join => "[steps.a.join]\nat-least = 1\n",
            Table::Retry => "[steps.a.retry]\n",
            Table::Limit => "[steps.a.limit]\n",
            Table::Grant => "[steps.a.grant]\n",
            Table::File => "[[steps.a.grant.files]]\npath = \"p\"\n",
            Table::Program => "[[steps.a.grant.process]]\nprogram = \"p\"\n",
            Table::Host => "[[steps.a.grant.http]]\nhost = \"h\"\n",
            Table::SecretGrant => "[[steps.a.grant.secrets]]\nname = \"n\"\n",
            Table::Defaults => "[defaults]\n",
        };
        // A key that the opening has already is replaced by the one to be tried.
        let opening: Vec<&str> = opening.lines().filter(|line| !line.starts_with(&format!("{key} ="))).collect();
        // What a step may be like.
        let base = if key == "like" { "[templates.base]\n" } else { "" };
        format!("{}\n{key} = {value}\n{base}", opening.join("\n"))
    }

    fn toml(value: &Value) -> String {
        match value {
            Value::Object(table) => {
                let entries: Vec<String> =
                    table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
                format!("{{ {} }}", entries.join(", "))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
            value => value.to_string(),
        }
    }

    #[test]
    fn the_reader_takes_every_key_with_its_example_and_its_default() {
        for table in Table::ALL {
            for key in table.keys() {
                let empty = (key.example.is_empty()).then(|| json!({}));
                let values = [key.example().or(empty), key.default.map(|default| default())];
                for value in values.into_iter().flatten() {
                    let text = workflow_with(table, key.name, &toml(&value));
                    assert_eq!(codes(text.clone()), Vec::<&str>::new(), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_not_in_the_table_is_unknown() {
        for table in Table::ALL {
            assert_eq!(codes(workflow_with(table, "zzz", "1")).len(), 1, "{table:?}");
        }
    }

    #[test]
    fn the_schema_is_one_and_its_examples_and_defaults_fit() {
        let schema = json_schema();
        assert!(jsonschema::draft7::meta::is_valid(&schema));
        for table in Table::ALL {
            for key in table.keys() {
                assert!(key.about.ends_with('.'), "{}", key.name);
                let reference = json!({ "definitions": schema["definitions"], "allOf": [key.schema()] });
                let validator = jsonschema::draft7::new(&reference).unwrap();
                let values = [key.example(), key.default.map(|default| default())];
                for value in values.into_iter().flatten() {
                    assert!(validator.is_valid(&value), "{}: {value}", key.name);
                }
            }
            for name in table.required() {
                assert!(table.key(name).is_some(), "{table:?} requires `{name}`, which it has not");
            }
        }
    }

    #[test]
    fn durations_and_sizes_have_the_schemas_patterns() {
        let duration = regex::Regex::new(DURATION_PATTERN).unwrap();
        for text in ["250ms", "2s", "1m30s", "4h", "1d", "1d2h3m4s5ms"] {
            assert!(duration.is_match(text) && super::super::duration_ms(text).is_ok(), "{text}");
        }
        for text in ["10", "ten", "1.5h", "-1s", "5 s", "1s1m", "1s1s", "3w"] {
            assert!(!duration.is_match(text) && super::super::duration_ms(text).is_err(), "{text}");
        }
        let size = regex::Regex::new(SIZE_PATTERN).unwrap();
        for text in ["512B", "64KiB", "16 MiB", "2GiB"] {
            assert!(size.is_match(text) && super::super::size_bytes(text).is_ok(), "{text}");
        }
        for text in ["64", "64MB", "64m", "", "MiB", "-1B"] {
            assert!(!size.is_match(text) && super::super::size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_written_as_people_do() {
        assert_eq!(duration(3_600_000), "1h");
        assert_eq!([duration(300_000), duration(1_000), duration(1_500)], ["5m", "1s", "1500ms"]);
        assert_eq!((size(256 << 20), size(1_000)), (json!("256MiB"), json!(1_000)));
    }
}
