//! The text of a test file (`NAME.test.toml`): a mirror of it with the place of everything. What shape it must have is
//! judged here; whether it fits the workflow is for `suite`, as is what the values mean.

use std::ops::Range;

use downbeat_workflow::diagnostic::{Collector, Diagnostic};
use downbeat_workflow::event::{Failure, FailureKind, Outcome, StepEnd};
use downbeat_workflow::json::Json;
use downbeat_workflow::spec::{self, Entries, Source, Spanned, Value, ValueKind, duration_ms, wrong_type};

use crate::rehearse::failure;

/// What the name of a test file ends with.
pub const SUFFIX: &str = ".test.toml";

/// A test file's text.
#[derive(Clone, Debug, Default)]
pub struct TestFile {
    /// `workflow`: its path from the test file's folder.
    pub workflow: Option<Spanned<String>>,
    /// `with`: the paths of what is laid over it.
    pub overlays: Vec<Spanned<String>>,
    /// `from-run`: a run whose steps answer as they did, unless something else is said.
    pub from_run: Option<Spanned<String>>,
    /// `default`.
    pub default: Option<Spanned<Otherwise>>,
    /// `[inputs]`: those of all tests.
    pub inputs: Entries<Value>,
    /// `[plugins.NAME]`: what the answers of a plugin's steps have unless they say otherwise.
    pub plugins: Entries<Value>,
    /// `[steps.NAME]`: how steps answer in all tests.
    pub steps: Entries<AnswersSpec>,
    /// `[tests.NAME]`.
    pub tests: Entries<TestSpec>,
    /// Whether something had to be left out of this mirror: there was an error, and nothing is tested.
    pub incomplete: bool,
}

/// What happens to a step that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It succeeds at once, with what `[plugins.NAME]` says.
    Succeed,
    /// The test fails.
    Fault,
}

/// One of `[tests.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct TestSpec {
    /// `description`.
    pub description: Option<Spanned<String>>,
    /// `from-run`: in place of the file's.
    pub from_run: Option<Spanned<String>>,
    /// `inputs`.
    pub inputs: Entries<Value>,
    /// `steps`: each in place of, or over, what the file says of the step.
    pub steps: Entries<AnswersSpec>,
    /// `default`.
    pub default: Option<Spanned<Otherwise>>,
    /// `signals`, `approvals` and `cancel`: what comes from outside.
    pub outside: Vec<HappeningSpec>,
    /// `begins`: when the run is created, in milliseconds since the Unix epoch.
    pub begins_ms: Option<u64>,
    /// `seed`.
    pub seed: Option<u64>,
    /// `expect`.
    pub expect: Option<ExpectSpec>,
}

/// Something that comes from outside.
#[derive(Clone, Debug)]
pub struct HappeningSpec {
    /// The table, or the duration.
    pub span: Range<usize>,
    /// `at`: when, in milliseconds since the run's creation.
    pub at_ms: u64,
    /// What.
    pub what: WhatSpec,
}

/// What comes from outside.
#[derive(Clone, Debug)]
pub enum WhatSpec {
    /// One of `cancel`: of a step, or of the run.
    Cancel(Option<Spanned<String>>),
    /// One of `signals`.
    Signal {
        /// `name`.
        name: Spanned<String>,
        /// `data`; null without it.
        data: Option<Value>,
    },
    /// One of `approvals`.
    Approval {
        /// `step`.
        step: Spanned<String>,
        /// `approved`; true without it.
        approved: bool,
        /// `by`; without it the first who may.
        by: Option<Spanned<String>>,
        /// `note`.
        note: String,
    },
}

/// How a step's attempts end.
#[derive(Clone, Debug)]
pub enum AnswersSpec {
    /// All alike.
    Every(AnswerSpec),
    /// `attempts`: one after the other.
    Each(Vec<AnswerSpec>),
}

/// How an attempt ends.
#[derive(Clone, Debug)]
pub struct AnswerSpec {
    /// The table.
    pub span: Range<usize>,
    /// `output` or `failure`; neither if only `took` is told, and the output is what is said elsewhere.
    pub end: EndSpec,
    /// `took`, in milliseconds.
    pub took_ms: Option<u64>,
    /// `appends`: items that the attempt gives others to work on, and after how many milliseconds.
    pub appends: Option<Vec<(u64, Vec<Value>)>>,
}

/// How an attempt ends.
#[derive(Clone, Debug)]
pub enum EndSpec {
    /// `output`.
    Output(Value),
    /// `failure`.
    Failure(Failure),
    /// As is said elsewhere.
    Unsaid,
}

/// A test's `expect`.
#[derive(Clone, Debug, Default)]
pub struct ExpectSpec {
    /// The table, or its name.
    pub span: Range<usize>,
    /// `outcome`.
    pub outcome: Option<Spanned<Outcome>>,
    /// `outputs`.
    pub outputs: Entries<Value>,
    /// `took`.
    pub took: Option<Spanned<Bound>>,
    /// `ran`.
    pub ran: Vec<Spanned<String>>,
    /// `never-ran`.
    pub never_ran: Vec<Spanned<String>>,
    /// `pools`: the most attempts that were in each at once.
    pub pools: Entries<Spanned<u32>>,
    /// `steps`.
    pub steps: Entries<ExpectedStepSpec>,
}

/// How a duration is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `2m`.
    Exactly(u64),
    /// `<= 2m`.
    AtMost(u64),
    /// `>= 2m`.
    AtLeast(u64),
}

/// One of `expect.steps`.
#[derive(Clone, Debug, Default)]
pub struct ExpectedStepSpec {
    /// `end`.
    pub end: Option<Spanned<StepEnd>>,
    /// `output`: what it succeeded with.
    pub output: Option<Value>,
    /// `opened`: how many scopes it opened: items, rounds, tries of a block.
    pub opened: Option<Spanned<u32>>,
    /// `attempts`: how many were started.
    pub attempts: Option<Spanned<u32>>,
    /// `reason`: why it was skipped.
    pub reason: Option<Spanned<Reason>>,
    /// `need`: which of its needs was not met.
    pub need: Option<Spanned<String>>,
    /// `failure`: the kind of its last failure.
    pub failure: Option<Spanned<FailureKind>>,
    /// `says`: a part of the sentence that tells why it failed or was skipped.
    pub says: Option<Spanned<String>>,
    /// `input`: what its last attempt was given.
    pub input: Option<Value>,
    /// `before`: steps that start only once it is over.
    pub before: Vec<Spanned<String>>,
}

/// Why a step was skipped, as the event stream names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `need-not-met`
    NeedNotMet,
    /// `too-few-needs-met`
    TooFewNeedsMet,
    /// `not-needed`
    NotNeeded,
    /// `rule-false`
    RuleFalse,
    /// `scope-ended`
    ScopeEnded,
    /// `scope-cancelled`
    ScopeCancelled,
    /// `scope-timed-out`
    ScopeTimedOut,
    /// `asked`
    Asked,
    /// `run-cancelled`
    RunCancelled,
    /// `run-timed-out`
    RunTimedOut,
}

pub(crate) const OUTCOMES: &[(&str, Outcome)] = &[
    ("succeeded", Outcome::Succeeded),
    ("failed", Outcome::Failed),
    ("cancelled", Outcome::Cancelled),
    ("timed-out", Outcome::TimedOut),
];

pub(crate) const ENDS: &[(&str, StepEnd)] = &[
    ("succeeded", StepEnd::Succeeded),
    ("failed", StepEnd::Failed),
    ("skipped", StepEnd::Skipped),
    ("cancelled", StepEnd::Cancelled),
];

pub(crate) const REASONS: &[(&str, Reason)] = &[
    ("need-not-met", Reason::NeedNotMet),
    ("too-few-needs-met", Reason::TooFewNeedsMet),
    ("not-needed", Reason::NotNeeded),
    ("rule-false", Reason::RuleFalse),
    ("scope-ended", Reason::ScopeEnded),
    ("scope-cancelled", Reason::ScopeCancelled),
    ("scope-timed-out", Reason::ScopeTimedOut),
    ("asked", Reason::Asked),
    ("run-cancelled", Reason::RunCancelled),
    ("run-timed-out", Reason::RunTimedOut),
];

const OTHERWISE: &[(&str, Otherwise)] = &[("succeed", Otherwise::Succeed), ("fault", Otherwise::Fault)];

/// The kinds with which an attempt may come home: not those of steps that fail by themselves.
fn answerable() -> Vec<(&'static str, FailureKind)> {
    let own = [FailureKind::Rule, FailureKind::Scope, FailureKind::Rejected];
    kinds().into_iter().filter(|(_, kind)| !own.contains(kind)).collect()
}

/// The kinds of failure by name. A limit's own name is not part of its kind here.
fn kinds() -> Vec<(&'static str, FailureKind)> {
    vec![
        ("invalid-input", FailureKind::InvalidInput),
        ("transient", FailureKind::Transient),
        ("permanent", FailureKind::Permanent),
        ("trap", FailureKind::Trap),
        ("timed-out", FailureKind::TimedOut),
        ("limit", FailureKind::Limit { limit: String::new() }),
        ("invalid-output", FailureKind::InvalidOutput),
        ("host", FailureKind::Host),
        ("rule", FailureKind::Rule),
        ("scope", FailureKind::Scope),
        ("rejected", FailureKind::Rejected),
    ]
}

const FILE: &[&str] = &["workflow", "with", "from-run", "default", "inputs", "plugins", "steps", "tests"];
const TEST: &[&str] = &[
    "description",
    "from-run",
    "inputs",
    "steps",
    "default",
    "signals",
    "approvals",
    "cancel",
    "begins",
    "seed",
    "expect",
];
const SIGNAL: &[&str] = &["at", "name", "data"];
const APPROVAL: &[&str] = &["at", "step", "approved", "by", "note"];
const CANCEL: &[&str] = &["at", "step"];
const ANSWER: &[&str] = &["output", "failure", "took", "appends"];
const ANSWERS: &[&str] = &["output", "failure", "took", "appends", "attempts"];
const APPENDS: &[&str] = &["after", "items"];
const FAILURE: &[&str] = &["kind", "message", "details", "retry-after", "limit"];
const EXPECT: &[&str] = &["outcome", "outputs", "took", "ran", "never-ran", "pools", "steps"];
const EXPECTED_STEP: &[&str] =
    &["end", "output", "attempts", "opened", "reason", "need", "failure", "says", "input", "before"];

impl TestFile {
    /// Reads a file, collecting everything that is wrong with its shape. There is a mirror unless the text is not TOML.
    pub fn parse(source: &Source) -> (Option<TestFile>, Vec<Diagnostic>) {
        let (document, mut diagnostics) = spec::document(source);
        let Some(Value { kind: ValueKind::Table(document), .. }) = document else { return (None, diagnostics) };
        let mut reader = Reader { out: Collector::default() };
        let mut file = reader.file(&document);
        diagnostics.extend(reader.out.finish());
        file.incomplete = diagnostics.iter().any(Diagnostic::is_error);
        (Some(file), diagnostics)
    }
}

impl TestFile {
    /// The runs that its tests answer from.
    pub fn runs(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.from_run.iter().chain(self.tests.iter().filter_map(|(_, test)| test.from_run.as_ref()))
    }
}

struct Reader {
    out: Collector,
}

impl Reader {
    fn file(&mut self, document: &Entries<Value>) -> TestFile {
        let mut file = TestFile::default();
        for (key, value) in self.known("a test file", FILE, document) {
            match key {
                "workflow" => file.workflow = self.string(key, value),
                "with" => file.overlays = self.strings(key, value),
                "from-run" => file.from_run = self.string(key, value),
                "default" => file.default = self.one_of(key, value, OTHERWISE),
                "inputs" => file.inputs = self.table(key, value),
                "plugins" => file.plugins = self.table(key, value),
                "steps" => file.steps = self.entries(key, value, Reader::answers),
                "tests" => file.tests = self.entries(key, value, Reader::test),
                _ => (),
            }
        }
        if !document.iter().any(|(key, _)| key.get_ref() == "workflow") {
            let found = Diagnostic::error("missing-key", 0..0, "a test file needs `workflow`");
            self.out.push(found.hint("begin the file with a line such as `workflow = \"release.toml\"`"));
        }
        if !document.iter().any(|(key, _)| key.get_ref() == "tests") {
            let found = Diagnostic::error("missing-key", 0..0, "there are no tests in this file");
            self.out.push(found.hint("write a table `[tests.NAME]` for each"));
        }
        file
    }

    fn test(&mut self, name: &Spanned<String>, value: &Value) -> Option<TestSpec> {
        let mut test = TestSpec::default();
        let entries = self.table_of(name.get_ref(), value)?;
        for (key, value) in self.known("a test", TEST, entries) {
            match key {
                "description" => test.description = self.string(key, value),
                "from-run" => test.from_run = self.string(key, value),
                "inputs" => test.inputs = self.table(key, value),
                "steps" => test.steps = self.entries(key, value, Reader::answers),
                "default" => test.default = self.one_of(key, value, OTHERWISE),
                "signals" => self.happenings(key, "a signal", SIGNAL, value, &mut test.outside),
                "approvals" => self.happenings(key, "an approval", APPROVAL, value, &mut test.outside),
                "cancel" => match &value.kind {
                    ValueKind::String(_) => {
                        let happening = self.duration(key, value).map(|at_ms| HappeningSpec {
                            span: value.span.clone(),
                            at_ms,
                            what: WhatSpec::Cancel(None),
                        });
                        test.outside.extend(happening);
                    }
                    ValueKind::List(_) => {
                        self.happenings(key, "a cancellation", CANCEL, value, &mut test.outside);
                    }
                    _ => self.out.push(wrong_type(key, "a duration, or a list of tables with `at` and `step`", value)),
                },
                "begins" => test.begins_ms = self.time(key, value),
                "seed" => test.seed = self.integer(key, value).map(|seed| *seed.get_ref()),
                "expect" => test.expect = self.expect(value),
                _ => (),
            }
        }
        if !entries.iter().any(|(key, _)| key.get_ref() == "expect") {
            let message = format!("the test `{}` expects nothing, so that it can't fail", name.get_ref());
            let found = Diagnostic::error("missing-key", name.span(), message).label("without `expect`");
            self.out.push(found.hint("say at least how the run ends: `expect.outcome = \"succeeded\"`"));
        }
        Some(test)
    }

    /// What comes from outside: a list of tables, each with `at`.
    fn happenings(
        &mut self,
        list: &str,
        what: &str,
        keys: &'static [&'static str],
        value: &Value,
        outside: &mut Vec<HappeningSpec>,
    ) {
        let ValueKind::List(items) = &value.kind else {
            self.out.push(wrong_type(list, "a list of tables", value));
            return;
        };
        for item in items {
            outside.extend(self.happening(list, what, keys, item));
        }
    }

    fn happening(
        &mut self,
        list: &str,
        what: &str,
        keys: &'static [&'static str],
        item: &Value,
    ) -> Option<HappeningSpec> {
        let entries = self.table_of(list, item)?;
        let (mut at_ms, mut named, mut by) = (None, None, None);
        let (mut data, mut approved, mut note) = (None, true, String::new());
        for (key, value) in self.known(what, keys, entries) {
            match key {
                "at" => at_ms = Some(self.duration(key, value)?),
                "step" | "name" => named = Some(self.string(key, value)?),
                "data" => data = Some(value.clone()),
                "approved" => match value.kind {
                    ValueKind::Boolean(word) => approved = word,
                    _ => self.out.push(wrong_type(key, "`true` or `false`", value)),
                },
                "by" => by = Some(self.string(key, value)?),
                "note" => note = self.string(key, value)?.into_inner(),
                _ => (),
            }
        }
        let name = if list == "signals" { "name" } else { "step" };
        let missing = match (at_ms, &named) {
            (None, _) => "at",
            (_, None) if list != "cancel" => name,
            _ => "",
        };
        let what = match (list, named) {
            _ if !missing.is_empty() => {
                let found = Diagnostic::error("missing-key", item.span.clone(), format!("{what} needs `{missing}`"));
                self.out.push(
                    found
                        .label(format!("without `{missing}`"))
                        .maybe_hint((missing == "at").then_some("say when, since the run's creation: `at = \"5s\"`")),
                );
                return None;
            }
            ("signals", Some(name)) => WhatSpec::Signal { name, data },
            ("approvals", Some(step)) => WhatSpec::Approval { step, approved, by, note },
            (_, step) => WhatSpec::Cancel(step),
        };
        Some(HappeningSpec { span: item.span.clone(), at_ms: at_ms?, what })
    }

    fn answers(&mut self, name: &Spanned<String>, value: &Value) -> Option<AnswersSpec> {
        let entries = self.table_of(name.get_ref(), value)?;
        let Some((key, attempts)) = entries.iter().find(|(key, _)| key.get_ref() == "attempts") else {
            return self.answer("the answer of a step", ANSWERS, name.span(), entries).map(AnswersSpec::Every);
        };
        for (other, _) in entries.iter().filter(|(other, _)| other.get_ref() != "attempts") {
            let message = format!("`{}` beside `attempts`, which says how each attempt ends", other.get_ref());
            let found = Diagnostic::error("contradiction", other.span(), message).label("one of the two");
            self.out.push(found.also(key.span(), "this is the other"));
        }
        let ValueKind::List(items) = &attempts.kind else {
            self.out.push(wrong_type("attempts", "a list of answers", attempts));
            return None;
        };
        if items.is_empty() {
            let found = Diagnostic::error("out-of-bounds", attempts.span.clone(), "`attempts` has no answer");
            self.out.push(found.hint("leave the step away, if it is never to be started"));
            return None;
        }
        let mut answers = Vec::new();
        for item in items {
            let entries = self.table_of("attempts", item)?;
            answers.push(self.answer("the answer of an attempt", ANSWER, item.span.clone(), entries)?);
        }
        Some(AnswersSpec::Each(answers))
    }

    fn answer(
        &mut self,
        what: &str,
        keys: &'static [&'static str],
        span: Range<usize>,
        entries: &Entries<Value>,
    ) -> Option<AnswerSpec> {
        let before = self.out.error_count();
        let mut answer = AnswerSpec { span, end: EndSpec::Unsaid, took_ms: None, appends: None };
        let mut said: Option<Range<usize>> = None;
        for (key, value) in self.known(what, keys, entries) {
            if let ("output" | "failure", Some(other)) = (key, &said) {
                let found = Diagnostic::error("contradiction", value.span.clone(), "an attempt ends in one way only");
                self.out.push(found.label("one of the two").also(other.clone(), "this is the other"));
                continue;
            }
            match key {
                "output" => {
                    answer.end = EndSpec::Output(value.clone());
                    said = Some(value.span.clone());
                }
                "failure" => {
                    answer.end = EndSpec::Failure(self.failure(value)?);
                    said = Some(value.span.clone());
                }
                "took" => answer.took_ms = self.duration(key, value),
                "appends" => answer.appends = self.appends(value),
                _ => (),
            }
        }
        (self.out.error_count() == before).then_some(answer)
    }

    fn appends(&mut self, value: &Value) -> Option<Vec<(u64, Vec<Value>)>> {
        let ValueKind::List(tables) = &value.kind else {
            self.out.push(wrong_type("appends", "a list of tables with `items` and, if not at once, `after`", value));
            return None;
        };
        let mut appends = Vec::new();
        for table in tables {
            let (mut after_ms, mut appended) = (0, None);
            let entries = self.table_of("appends", table)?;
            for (key, value) in self.known("what a step appends", APPENDS, entries) {
                match (key, &value.kind) {
                    ("after", _) => after_ms = self.duration(key, value)?,
                    ("items", ValueKind::List(items)) => appended = Some(items.clone()),
                    ("items", _) => self.out.push(wrong_type(key, "a list", value)),
                    _ => (),
                }
            }
            let Some(items) = appended else {
                let found = Diagnostic::error("missing-key", table.span.clone(), "what a step appends has `items`");
                self.out.push(found.hint("write for example `appends = [{ after = \"1s\", items = [1, 2] }]`"));
                return None;
            };
            appends.push((after_ms, items));
        }
        Some(appends)
    }

    fn failure(&mut self, value: &Value) -> Option<Failure> {
        let entries = match &value.kind {
            ValueKind::String(_) => return self.kind(value, "").map(|kind| failure(kind, "as the test says")),
            ValueKind::Table(entries) => entries,
            _ => {
                self.out.push(wrong_type("failure", "a kind of failure, or a table with `kind`", value));
                return None;
            }
        };
        let mut limit = String::new();
        let (mut kind, mut found) = (None, failure(FailureKind::Permanent, "as the test says"));
        for (key, value) in self.known("a failure", FAILURE, entries) {
            match key {
                "kind" => kind = Some(value),
                "message" => found.message = self.string(key, value)?.into_inner(),
                "details" => found.details = Some(Json::from(value.to_json())),
                "retry-after" => found.retry_after_ms = self.duration(key, value),
                "limit" => limit = self.string(key, value)?.into_inner(),
                _ => (),
            }
        }
        let Some(kind) = kind else {
            let missing = Diagnostic::error("missing-key", value.span.clone(), "a failure needs `kind`");
            self.out.push(missing.label("without `kind`").hint(format!("it is one of {}", listed(&answerable()))));
            return None;
        };
        found.kind = self.kind(kind, &limit)?;
        Some(found)
    }

    /// The kind of a failure that an attempt may come home with.
    fn kind(&mut self, value: &Value, of_limit: &str) -> Option<FailureKind> {
        match self.one_of("failure", value, &answerable())?.into_inner() {
            FailureKind::Limit { .. } => Some(FailureKind::Limit { limit: of_limit.to_owned() }),
            kind => Some(kind),
        }
    }

    fn expect(&mut self, value: &Value) -> Option<ExpectSpec> {
        let entries = self.table_of("expect", value)?;
        let mut expect = ExpectSpec { span: value.span.clone(), ..ExpectSpec::default() };
        for (key, value) in self.known("`expect`", EXPECT, entries) {
            match key {
                "outcome" => expect.outcome = self.one_of(key, value, OUTCOMES),
                "outputs" => expect.outputs = self.table(key, value),
                "took" => expect.took = self.bound(key, value),
                "ran" => expect.ran = self.strings(key, value),
                "never-ran" => expect.never_ran = self.strings(key, value),
                "pools" => {
                    expect.pools = self.entries(key, value, |reader, name, value| reader.count(name.get_ref(), value));
                }
                "steps" => expect.steps = self.entries(key, value, Reader::expected_step),
                _ => (),
            }
        }
        if entries.is_empty() {
            let found = Diagnostic::error("missing-key", value.span.clone(), "nothing is expected here");
            self.out.push(found.hint("say at least how the run ends: `outcome = \"succeeded\"`"));
        }
        Some(expect)
    }

    fn expected_step(&mut self, name: &Spanned<String>, value: &Value) -> Option<ExpectedStepSpec> {
        let mut step = ExpectedStepSpec::default();
        if let ValueKind::String(_) = value.kind {
            step.end = self.one_of(name.get_ref(), value, ENDS);
            return Some(step);
        }
        let entries = self.table_of(name.get_ref(), value)?;
        for (key, value) in self.known("what is expected of a step", EXPECTED_STEP, entries) {
            match key {
                "end" => step.end = self.one_of(key, value, ENDS),
                "output" => step.output = Some(value.clone()),
                "opened" => step.opened = self.count(key, value),
                "attempts" => step.attempts = self.count(key, value),
                "reason" => step.reason = self.one_of(key, value, REASONS),
                "need" => step.need = self.string(key, value),
                "failure" => step.failure = self.one_of(key, value, &kinds()),
                "says" => step.says = self.string(key, value),
                "input" => step.input = Some(value.clone()),
                "before" => step.before = self.strings(key, value),
                _ => (),
            }
        }
        Some(step)
    }

    // Shapes.

    /// The entries whose keys are known; the others are told.
    fn known<'v>(
        &mut self,
        what: &str,
        keys: &'static [&'static str],
        entries: &'v Entries<Value>,
    ) -> Vec<(&'static str, &'v Value)> {
        let mut known = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match keys.iter().find(|known| **known == key.get_ref()) {
                Some(key) => known.push((*key, value)),
                None => {
                    let message = format!("{what} has no key `{}`", key.get_ref());
                    let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                    let hint = self.out.suggest(key.get_ref(), keys.iter().copied());
                    let hint = hint.unwrap_or_else(|| format!("{what} has {}", names.join(", ")));
                    let found = Diagnostic::error("unknown-key", key.span(), message);
                    self.out.push(found.label("unknown key").hint(hint));
                }
            }
        }
        known
    }

    fn table_of<'v>(&mut self, key: &str, value: &'v Value) -> Option<&'v Entries<Value>> {
        match &value.kind {
            ValueKind::Table(entries) => Some(entries),
            _ => {
                self.out.push(wrong_type(key, "a table", value));
                None
            }
        }
    }

    fn table(&mut self, key: &str, value: &Value) -> Entries<Value> {
        self.table_of(key, value).cloned().unwrap_or_default()
    }

    fn entries<T>(
        &mut self,
        key: &str,
        value: &Value,
        mut read: impl FnMut(&mut Reader, &Spanned<String>, &Value) -> Option<T>,
    ) -> Entries<T> {
        let Some(entries) = self.table_of(key, value) else { return Vec::new() };
        entries.iter().filter_map(|(name, value)| Some((name.clone(), read(self, name, value)?))).collect()
    }

    fn string(&mut self, key: &str, value: &Value) -> Option<Spanned<String>> {
        match &value.kind {
            ValueKind::String(text) => Some(Spanned::new(value.span.clone(), text.clone())),
            _ => {
                self.out.push(wrong_type(key, "a string", value));
                None
            }
        }
    }

    fn strings(&mut self, key: &str, value: &Value) -> Vec<Spanned<String>> {
        match &value.kind {
            ValueKind::List(items) => items.iter().filter_map(|item| self.string(key, item)).collect(),
            _ => {
                self.out.push(wrong_type(key, "a list of strings", value));
                Vec::new()
            }
        }
    }

    fn integer(&mut self, key: &str, value: &Value) -> Option<Spanned<u64>> {
        let number = match value.kind {
            ValueKind::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        };
        if number.is_none() {
            self.out.push(wrong_type(key, "a whole number, 0 or more", value));
        }
        number.map(|number| Spanned::new(value.span.clone(), number))
    }

    fn count(&mut self, key: &str, value: &Value) -> Option<Spanned<u32>> {
        let number = self.integer(key, value)?;
        let count = u32::try_from(*number.get_ref()).unwrap_or(u32::MAX);
        Some(Spanned::new(number.span(), count))
    }

    /// A time, in milliseconds since the Unix epoch.
    fn time(&mut self, key: &str, value: &Value) -> Option<u64> {
        let text = self.string(key, value)?;
        let time = text.get_ref().parse::<jiff::Timestamp>().ok();
        let ms = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        if ms.is_none() {
            let found = Diagnostic::error("time", value.span.clone(), format!("`{key}` is no time of this age"));
            self.out.push(found.hint("write a time with a zone, in 1970 or later: `2026-12-24T18:00:00Z`"));
        }
        ms
    }

    fn duration(&mut self, key: &str, value: &Value) -> Option<u64> {
        let text = self.string(key, value)?;
        self.duration_of(key, text.get_ref(), value)
    }

    fn duration_of(&mut self, key: &str, text: &str, value: &Value) -> Option<u64> {
        let read = duration_ms(text);
        if let Err(reason) = &read {
            let found = Diagnostic::error("duration", value.span.clone(), format!("`{key}` is no duration"));
            self.out.push(found.hint(reason.as_str()));
        }
        read.ok()
    }

    fn bound(&mut self, key: &str, value: &Value) -> Option<Spanned<Bound>> {
        let text = self.string(key, value)?.into_inner();
        let text = text.trim();
        let (make, rest): (fn(u64) -> Bound, &str) = if let Some(rest) = text.strip_prefix("<=") {
            (Bound::AtMost, rest)
        } else if let Some(rest) = text.strip_prefix(">=") {
            (Bound::AtLeast, rest)
        } else {
            (Bound::Exactly, text)
        };
        if let Some(rest) = text.strip_prefix('<').or_else(|| text.strip_prefix('>')).filter(|_| rest == text) {
            let message = format!("`{key}` can't be `{text}`");
            let found = Diagnostic::error("not-an-option", value.span.clone(), message);
            let hint = format!("write `{}= {}`; there are `<=`, `>=` and the exact duration", &text[..1], rest.trim());
            self.out.push(found.label("no bound").hint(hint));
            return None;
        }
        let ms = self.duration_of(key, rest.trim_start(), value)?;
        Some(Spanned::new(value.span.clone(), make(ms)))
    }

    fn one_of<T: Clone>(&mut self, key: &str, value: &Value, options: &[(&'static str, T)]) -> Option<Spanned<T>> {
        let text = self.string(key, value)?;
        if let Some((_, meant)) = options.iter().find(|(name, _)| name == text.get_ref()) {
            return Some(Spanned::new(value.span.clone(), meant.clone()));
        }
        let message = format!("`{key}` can't be `{}`", text.get_ref());
        let hint = self.out.suggest(text.get_ref(), options.iter().map(|(name, _)| *name));
        let hint = hint.unwrap_or_else(|| format!("it is one of {}", listed(options)));
        let found = Diagnostic::error("not-an-option", value.span.clone(), message);
        self.out.push(found.label("not one of its values").hint(hint));
        None
    }
}

fn listed<T>(options: &[(&'static str, T)]) -> String {
    options.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
