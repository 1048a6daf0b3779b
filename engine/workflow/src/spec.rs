//! The text of a workflow, as its author wrote it: a mirror of the TOML with the place of everything in it.
//!
//! A [`Spec`] judges nothing beyond its shape: which keys there are and what types their values have. Whether names
//! exist, durations make sense or rules are rules is `resolve`'s to say. Nothing outside of this module knows TOML.

mod expand;
pub(crate) mod fields;
mod keys;
mod layers;
mod origins;
mod place;
mod print;
mod quantity;
mod read;
mod vars;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

pub use fields::wrong_type;
pub use keys::json_schema;
pub use layers::Overlay;
pub use toml::Spanned;

pub(crate) use expand::ForShort;
pub use expand::{TAKEN_OVER_BYTES_MAX, TEMPLATES_CHAINED_MAX};
pub(crate) use origins::Origins;
pub(crate) use place::Place;
pub use quantity::duration_ms;
use quantity::{DURATION_PATTERN, RATE_PATTERN, SIZE_PATTERN};
pub(crate) use quantity::{RATE_COUNT_MAX, rate, size_bytes};
pub use vars::VARS_CHAINED_MAX;

use crate::diagnostic::{Collector, Diagnostic};

/// The largest file that is read. 16 MiB: a hundred thousand generated steps of 160 bytes each.
pub const SOURCE_BYTES_MAX: usize = 16 << 20;

/// A file's text and how to call it in diagnostics.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it.
    pub path: String,
    /// All of it, with what is laid over it behind.
    pub text: String,
    /// What is laid over it, in this order.
    pub overlays: Vec<Overlay>,
}

/// Named things, in the order of the file.
pub type Entries<T> = Vec<(Spanned<String>, T)>;

/// A workflow's text.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `description`.
    pub description: Option<Spanned<String>>,
    /// `timeout`, such as `"1h30m"`.
    pub timeout: Option<Spanned<String>>,
    /// `priority`.
    pub priority: Option<Spanned<i64>>,
    /// `[concurrency]`.
    pub concurrency: Option<ConcurrencySpec>,
    /// `[inputs]`.
    pub inputs: Entries<InputSpec>,
    /// `[plugins]`: the path of each, as written.
    pub plugins: Entries<Spanned<String>>,
    /// `[pools]`.
    pub pools: Entries<PoolSpec>,
    /// `[signals]`.
    pub signals: Entries<SignalSpec>,
    /// `[secrets]`.
    pub secrets: Entries<SecretSpec>,
    /// `[steps.NAME]`, then `[always.NAME]`.
    pub steps: Entries<StepSpec>,
    /// `[outputs]`.
    pub outputs: Entries<Value>,
    /// Whether something in the file had to be left out of this mirror: there was an error, and there will be no plan.
    pub(crate) incomplete: bool,
    /// What is declared and had to be left out, as table and name: it is not unknown.
    pub(crate) left_out: HashSet<(&'static str, String)>,
    /// Where the words stand that it has from templates and the like.
    pub(crate) origins: Arc<Origins>,
    /// `[vars]` and `[templates]`, of which nothing but the names is left.
    pub(crate) for_short: Vec<ForShort>,
}

/// A file's text, and where the words stand that its mirror has.
pub(crate) struct Words<'w> {
    text: &'w str,
    origins: &'w Origins,
}

impl Words<'_> {
    /// The place of a string's content; `None` if something in it is wrong, and told.
    pub(crate) fn place(&self, span: &Range<usize>, content: &str) -> Option<Place> {
        self.origins.place(self.text, span, content)
    }
}

/// One of `[inputs]`.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// The table.
    pub span: Range<usize>,
    /// `type`.
    pub kind: Option<Spanned<String>>,
    /// `required`: whether a run must be given it. If nothing is said, it must, unless there is a default.
    pub required: Option<Spanned<bool>>,
    /// `default`.
    pub default: Option<Value>,
    /// `enum`.
    pub options: Option<Spanned<Vec<Value>>>,
    /// `pattern`.
    pub pattern: Option<Spanned<String>>,
    /// `description`.
    pub description: Option<Spanned<String>>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

/// One of `[pools]`.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// `size`, or the number that stands for the table.
    pub size: Option<Spanned<i64>>,
    /// `rate`, such as `"10/min"`.
    pub rate: Option<Spanned<String>>,
    /// `cost-per-hour` of one place, in any currency. No run depends on it; what is read of runs may be priced with it.
    pub cost_per_hour: Option<Spanned<f64>>,
}

/// `[concurrency]`.
#[derive(Clone, Debug)]
pub struct ConcurrencySpec {
    /// The table.
    pub span: Range<usize>,
    /// `group`: a text with holes.
    pub group: Option<Value>,
    /// `when-busy`.
    pub when_busy: Option<Spanned<String>>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

/// One of `[signals]`.
#[derive(Clone, Debug)]
pub struct SignalSpec {
    /// `keep`.
    pub keep: Option<Spanned<bool>>,
}

/// One of `[secrets]`: where its value is read from.
#[derive(Clone, Debug, Default)]
pub struct SecretSpec {
    /// `env`.
    pub env: Option<Spanned<String>>,
    /// `file`.
    pub file: Option<Spanned<String>>,
    /// `command`: a program and its arguments.
    pub command: Option<Spanned<Vec<Spanned<String>>>>,
    /// `credential`.
    pub credential: Option<Spanned<String>>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

/// One of `[steps.NAME]` or `[always.NAME]`, or a step's `undo`.
#[derive(Clone, Debug, Default)]
pub struct StepSpec {
    /// Whether it is one of `[always.NAME]`.
    pub always: bool,
    /// `use`.
    pub plugin: Option<Spanned<String>>,
    /// `steps`, `always` and `outputs` of its own.
    pub block: Option<Box<BlockSpec>>,
    /// `workflow`: the path of another file.
    pub workflow: Option<Spanned<String>>,
    /// `wait`.
    pub wait: Option<WaitSpec>,
    /// `finish`.
    pub finish: Option<Spanned<bool>>,
    /// `fail`: a message.
    pub fail: Option<Value>,
    /// `foreach`.
    pub foreach: Option<ForeachSpec>,
    /// `parallel`.
    pub parallel: Option<Spanned<i64>>,
    /// `repeat`.
    pub repeat: Option<RepeatSpec>,
    /// `detached`.
    pub detached: Option<Spanned<bool>>,
    /// `undo`, and where it stands.
    pub undo: Option<Box<(Range<usize>, StepSpec)>>,
    /// `with`: a table.
    pub with: Option<Value>,
    /// `needs`, such as `build` or `build.failed`.
    pub needs: Vec<Spanned<String>>,
    /// `join`.
    pub join: Option<Spanned<JoinSpec>>,
    /// `rest`.
    pub rest: Option<Spanned<String>>,
    /// `when`.
    pub when: Option<Spanned<String>>,
    /// `cancels`.
    pub cancels: Vec<Spanned<String>>,
    /// `retry`.
    pub retry: Option<RetrySpec>,
    /// `timeout`.
    pub timeout: Option<Spanned<String>>,
    /// `pool`.
    pub pool: Option<Spanned<String>>,
    /// `priority`.
    pub priority: Option<Spanned<i64>>,
    /// `cache`.
    pub cache: Option<Spanned<bool>>,
    /// `limit`.
    pub limit: LimitSpec,
    /// `grant`.
    pub grant: GrantSpec,
    /// `description`.
    pub description: Option<Spanned<String>>,
    /// Whether some of it had to be left out of this mirror, so that what seems to be missing may not be.
    pub(crate) incomplete: bool,
}

/// Steps within a step.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// The first of its keys.
    pub span: Range<usize>,
    /// `steps`, then `always`.
    pub steps: Entries<StepSpec>,
    /// `outputs`.
    pub outputs: Entries<Value>,
}

/// What a step waits for.
#[derive(Clone, Debug)]
pub struct WaitSpec {
    /// The table, or the duration that stands for it.
    pub span: Range<usize>,
    /// `for`.
    pub duration: Option<Spanned<String>>,
    /// `until`.
    pub until: Option<Value>,
    /// `signal`.
    pub signal: Option<Spanned<String>>,
    /// `approval`: who may give it.
    pub approval: Option<Spanned<Vec<Spanned<String>>>>,
    /// `question`.
    pub question: Option<Value>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

/// The list that a step opens scopes for.
#[derive(Clone, Debug)]
pub struct ForeachSpec {
    /// The table, or the list that stands for it.
    pub span: Range<usize>,
    /// `in`.
    pub list: Option<Value>,
    /// `zip`, in place of `in`.
    pub zip: Option<Value>,
    /// `parallel`.
    pub parallel: Option<Spanned<i64>>,
    /// `join`.
    pub join: Option<Spanned<JoinSpec>>,
    /// `until`.
    pub until: Option<Spanned<String>>,
    /// `rest`.
    pub rest: Option<Spanned<String>>,
}

/// A step's `repeat`.
#[derive(Clone, Debug)]
pub struct RepeatSpec {
    /// The table, or the number that stands for it.
    pub span: Range<usize>,
    /// `while`.
    pub while_holds: Option<Spanned<String>>,
    /// `until`.
    pub until: Option<Spanned<String>>,
    /// `max`.
    pub max: Option<Spanned<i64>>,
    /// `delay`.
    pub delay: Option<Spanned<String>>,
}

/// A step's `join`: a word, or a number of needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinSpec {
    /// `"any"`.
    Word(String),
    /// `{ at-least = 2 }`.
    AtLeast(i64),
}

/// A step's `retry`.
#[derive(Clone, Debug)]
pub struct RetrySpec {
    /// The table.
    pub span: Range<usize>,
    /// `attempts`.
    pub attempts: Option<Spanned<i64>>,
    /// `delay`.
    pub delay: Option<Spanned<String>>,
    /// `factor`.
    pub factor: Option<Spanned<f64>>,
    /// `max-delay`.
    pub max_delay: Option<Spanned<String>>,
    /// `jitter`.
    pub jitter: Option<Spanned<bool>>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

/// A step's `limit`.
#[derive(Clone, Debug, Default)]
pub struct LimitSpec {
    /// `memory`.
    pub memory: Option<Spanned<Size>>,
    /// `table-elements`.
    pub table_elements: Option<Spanned<i64>>,
    /// `output`.
    pub output: Option<Spanned<Size>>,
    /// `log`.
    pub log: Option<Spanned<Size>>,
    /// `process-output`.
    pub process_output: Option<Spanned<Size>>,
    /// `artifact`.
    pub artifact: Option<Spanned<Size>>,
    /// `process-memory`.
    pub process_memory: Option<Spanned<Size>>,
    /// `process-cpu`.
    pub process_cpu: Option<Spanned<String>>,
    /// `process-file`.
    pub process_file: Option<Spanned<Size>>,
    /// `processes`.
    pub processes: Option<Spanned<i64>>,
}

/// A number of bytes, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// `1048576`.
    Bytes(i64),
    /// `"1MiB"`.
    Text(String),
}

/// A step's `grant`. A capability that is not mentioned is `None`.
#[derive(Clone, Debug, Default)]
pub struct GrantSpec {
    /// `process`: programs.
    pub process: Option<Spanned<Vec<ProgramSpec>>>,
    /// `files`: directories.
    pub files: Option<Spanned<Vec<FileSpec>>>,
    /// `http`: hosts.
    pub http: Option<Spanned<Vec<HostSpec>>>,
    /// `env`: names.
    pub env: Option<Spanned<Vec<Spanned<String>>>>,
    /// `clock`.
    pub clock: Option<Spanned<bool>>,
    /// `random`.
    pub random: Option<Spanned<bool>>,
    /// `artifacts`.
    pub artifacts: Option<Spanned<bool>>,
    /// `workspace`.
    pub workspace: Option<Spanned<bool>>,
    /// `secrets`.
    pub secrets: Option<Spanned<Vec<SecretGrantSpec>>>,
}

/// One of `grant.secrets`.
#[derive(Clone, Debug)]
pub struct SecretGrantSpec {
    /// `name`.
    pub name: Spanned<String>,
    /// `host`.
    pub host: Option<Spanned<String>>,
    /// `header`.
    pub header: Option<Spanned<String>>,
    /// `body`.
    pub body: Option<Spanned<bool>>,
    /// `query`.
    pub query: Option<Spanned<bool>>,
    /// `path`.
    pub path: Option<Spanned<bool>>,
    /// `insecure`.
    pub insecure: Option<Spanned<bool>>,
    /// `reveal`.
    pub reveal: Option<Spanned<bool>>,
    /// `env`.
    pub env: Option<Spanned<String>>,
    /// Whether some of it had to be left out of this mirror.
    pub(crate) incomplete: bool,
}

impl SecretGrantSpec {
    /// A grant that says nothing but of which secret.
    pub(crate) fn of(name: Spanned<String>) -> SecretGrantSpec {
        SecretGrantSpec {
            name,
            host: None,
            header: None,
            body: None,
            query: None,
            path: None,
            insecure: None,
            reveal: None,
            env: None,
            incomplete: false,
        }
    }

    /// Whether the component sees the value.
    pub(crate) fn is_revealed(&self) -> bool {
        self.reveal.as_ref().is_some_and(|reveal| *reveal.get_ref())
    }
}

/// One of `grant.process`: a table, or a program that stands for it.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// `program`.
    pub program: Spanned<String>,
    /// `args`.
    pub args: Option<Spanned<Vec<Spanned<String>>>>,
    /// `env`.
    pub env: Option<Spanned<Vec<Spanned<String>>>>,
    /// `directory`.
    pub directory: Option<Spanned<String>>,
    /// `digest`.
    pub digest: Option<Spanned<String>>,
    /// `network`.
    pub network: bool,
    /// `daemons`.
    pub daemons: bool,
    /// `read`.
    pub read: Option<Spanned<Vec<Spanned<String>>>>,
}

/// One of `grant.http`: a table, or a host that stands for it.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// `host`.
    pub host: Spanned<String>,
    /// `methods`.
    pub methods: Option<Spanned<Vec<Spanned<String>>>>,
    /// `path`.
    pub path: Option<Spanned<String>>,
    /// `private`.
    pub private: bool,
}

/// One of `grant.files`: a table, or a path that stands for it.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// `path`.
    pub path: Spanned<String>,
    /// `write`.
    pub write: bool,
}

/// Any value, with its place.
#[derive(Clone, Debug)]
pub struct Value {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// What it is.
    pub kind: ValueKind,
}

/// What a [`Value`] is. TOML's dates and times are their text: JSON has no others.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// Text, which may have holes.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<Value>),
    /// A table, in the order of the file.
    Table(Entries<Value>),
}

impl Spec {
    /// Reads a file, collecting everything that is wrong with its shape. There is a mirror unless the text is not even
    /// TOML; what could not be read is left out of it, and [`resolve`](crate::resolve::resolve) makes no plan of it then.
    pub fn parse(source: &Source) -> (Option<Spec>, Vec<Diagnostic>) {
        read::spec(source)
    }

    /// The workflow written out, as one file that says the same without overlays, templates, defaults and vars; and what is
    /// wrong with these. With origins, each line says where its values were written, if not in its place of the lowest file.
    pub fn written_out(source: &Source, origins: bool) -> (Option<String>, Vec<Diagnostic>) {
        read::written_out(source, origins)
    }

    /// The words of the file that this mirrors.
    pub(crate) fn words<'w>(&'w self, source: &'w Source) -> Words<'w> {
        Words { text: &source.text, origins: &self.origins }
    }

    /// Brings diagnostics about places in this mirror to where the words stand that it has from templates and the like.
    pub fn written(&self, diagnostics: impl IntoIterator<Item = Diagnostic>) -> Vec<Diagnostic> {
        let mut out = Collector::over(self.origins.clone());
        diagnostics.into_iter().for_each(|found| out.push(found));
        out.finish()
    }

    /// The files of the sub-workflows that its steps open, as written.
    pub fn workflow_paths(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        let mut blocks = vec![&self.steps];
        while let Some(steps) = blocks.pop() {
            for (_, step) in steps {
                paths.extend(step.workflow.as_ref().map(|path| path.get_ref().as_str()));
                blocks.extend(step.block.as_ref().map(|block| &block.steps));
            }
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// What its steps are granted, those within others and those that undo among them.
    pub fn grants(&self) -> Vec<&GrantSpec> {
        let mut grants = Vec::new();
        let mut blocks = vec![&self.steps];
        while let Some(steps) = blocks.pop() {
            for (_, step) in steps {
                grants.push(&step.grant);
                grants.extend(step.undo.as_ref().map(|undo| &undo.1.grant));
                blocks.extend(step.block.as_ref().map(|block| &block.steps));
            }
        }
        grants
    }

    /// The plugins that are to be loaded from the file system: name, and path as written. One in a registry is not among
    /// them, as `resolve` says that there are none yet, nor one that no step uses: building it would be for nothing.
    pub fn plugin_paths(&self) -> impl Iterator<Item = (&str, &str)> {
        let used = self.plugins_used();
        let local = self.plugins.iter().filter(|(_, path)| scheme(path.get_ref()).is_none());
        let local = local.map(|(name, path)| (name.get_ref().as_str(), path.get_ref().as_str()));
        // One that is misspelt may be any of them.
        let is_known = |name: &&str| self.plugins.iter().any(|(known, _)| known.get_ref() == name);
        let is_sure = !self.incomplete && used.iter().all(is_known);
        local.filter(move |(name, _)| !is_sure || used.contains(name))
    }

    /// The plugins that its steps use, those within others and those that undo among them.
    pub(crate) fn plugins_used(&self) -> HashSet<&str> {
        let mut used = HashSet::new();
        let mut blocks = vec![&self.steps];
        while let Some(steps) = blocks.pop() {
            for (_, step) in steps {
                let undo = step.undo.as_ref().and_then(|undo| undo.1.plugin.as_ref());
                used.extend(step.plugin.iter().chain(undo).map(|plugin| plugin.get_ref().as_str()));
                blocks.extend(step.block.as_ref().map(|block| &block.steps));
            }
        }
        used
    }
}

/// Reads any TOML file, for those that have words of their own: its whole as one value, everything with its place. What can't
/// be read is told and left out; there is no value if the text is not even TOML.
pub fn document(source: &Source) -> (Option<Value>, Vec<Diagnostic>) {
    read::document(source)
}

/// The `oci` of `oci://…`; `None` for a path.
pub(crate) fn scheme(path: &str) -> Option<&str> {
    path.split_once("://").map(|(scheme, _)| scheme)
}

impl Value {
    /// The value as JSON, strings as they are written.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            ValueKind::String(text) => text.as_str().into(),
            ValueKind::Integer(number) => (*number).into(),
            ValueKind::Float(number) => (*number).into(),
            ValueKind::Boolean(value) => (*value).into(),
            ValueKind::List(items) => items.iter().map(Value::to_json).collect(),
            ValueKind::Table(entries) => {
                entries.iter().map(|(key, value)| (key.get_ref().clone(), value.to_json())).collect()
            }
        }
    }
}
