//! What differs between two plans, and between the inputs of two runs: what was added, removed and changed, key by key, and
//! who may reach more than before.
//!
//! Plans are compared as they are serialised, with names in place of numbers, so that a key which is added to the language is
//! compared without a word here. Steps within steps are parts of their own, under the step that opens them; those of a
//! sub-workflow under the first that does, and what an item or a round of a step does belongs to the step. The order of the file and the folder that it lies in make no difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::capability::Grant;
use crate::json::Json;
use crate::permission::cover::covers;
use crate::plan::{BodyId, Opens, Plan, ScopeCount, Step, StepNo, Wait, Work};
use crate::preview::need_text;
use crate::units::bytes_text;

/// How many characters of a value are told; with `--json` there is all of it.
const VALUE_SHOWN: usize = 120;

/// How many of them come before the first that differs, where that is far behind.
const VALUE_BEFORE: usize = 40;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// In the order of the newer file, what was removed at the end.
    pub changes: Vec<Change>,
}

/// A part that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Where: `steps.build`, `always.release`, `steps.deploy.steps.push`, `steps.build.undo`, `signals.go`, `plugins.http`, `inputs.commit`, `pools.runner`, `concurrency`, `outputs.version`, `workflow`, or
    /// `given inputs`.
    pub part: String,
    /// How.
    pub how: How,
    /// The keys that differ, if it was there before and still is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyChange>,
    /// What a step may reach that it could not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<String>,
    /// What a step could reach and may not any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub narrower: Vec<String>,
}

/// How a part differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Some of its keys differ.
    Changed,
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyChange {
    /// Its path within the part, such as `with.args`.
    pub key: String,
    /// Its value before; `None` if there was none.
    pub was: Option<Json>,
    /// Its value now; `None` if there is none.
    pub is: Option<Json>,
}

impl Difference {
    /// From one plan to another.
    pub fn of_plans(was: &Plan, is: &Plan) -> Difference {
        let (before, now) = (outline(was), outline(is));
        let known: BTreeMap<&str, &Keys> = before.iter().map(|(part, keys)| (part.as_str(), keys)).collect();
        let mut changes: Vec<Change> =
            now.iter().filter_map(|(part, keys)| change(part, known.get(part.as_str()).copied(), Some(keys))).collect();
        let left: BTreeSet<&str> = now.iter().map(|(part, _)| part.as_str()).collect();
        let gone = before.iter().filter(|(part, _)| !left.contains(part.as_str()));
        changes.extend(gone.filter_map(|(part, keys)| change(part, Some(keys), None)));
        Difference { changes }
    }

    /// Adds what differs between the inputs that were given and those that are.
    pub fn and_inputs(mut self, was: &Json, is: &Json) -> Difference {
        let flat = |inputs: &Json| {
            let mut keys = Keys::new();
            flatten("", &inputs.value(), &mut keys);
            keys
        };
        self.changes.extend(change("given inputs", Some(&flat(was)), Some(&flat(is))));
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// In words, for people.
    pub fn page(&self) -> String {
        let mut page = String::new();
        for change in &self.changes {
            let sign = match change.how {
                How::Added => '+',
                How::Removed => '-',
                How::Changed => '~',
            };
            let _ = writeln!(page, "{sign} {}", change.part);
            for wider in &change.wider {
                let _ = writeln!(page, "    ! may now reach {wider}");
            }
            for narrower in &change.narrower {
                let _ = writeln!(page, "    may no longer reach {narrower}");
            }
            // Grants have been told, in terms of what they allow.
            for key in change.keys.iter().filter(|key| !key.key.starts_with(GRANT)) {
                let (was, is) = shown(key);
                let _ = writeln!(page, "    {}: {was} → {is}", key.key);
            }
        }
        let wider: Vec<&str> =
            self.changes.iter().filter(|change| !change.wider.is_empty()).map(|change| change.part.as_str()).collect();
        let _ = match self.changes.len() {
            0 => writeln!(page, "nothing has changed"),
            1 => writeln!(page, "\n1 part has changed"),
            count => writeln!(page, "\n{count} parts have changed"),
        };
        if !wider.is_empty() {
            let _ = writeln!(page, "! more may be reached than before, by {}", wider.join(", "));
        }
        page
    }
}

/// What the keys of grants begin with.
const GRANT: &str = "grant.";

/// A part's values by their paths.
type Keys = BTreeMap<String, Value>;

/// The parts of a plan, in the order of the file.
fn outline(plan: &Plan) -> Vec<(String, Keys)> {
    let mut parts = Vec::new();
    let mut part = |name: String, value: Value| parts.push((name, keys_of(&value)));
    let timeout = plan.timeout_ms;
    let priority = Some(plan.priority).filter(|priority| *priority != 0);
    part(
        "workflow".to_owned(),
        serde_json::json!({
            "name": plan.name, "description": plan.description, "timeout-ms": timeout, "priority": priority,
        }),
    );
    if let Some(concurrency) = &plan.concurrency {
        part("concurrency".to_owned(), to_value(concurrency));
    }
    for (name, input) in &plan.inputs {
        part(format!("inputs.{name}"), to_value(input));
    }
    for pool in &plan.pools {
        part(
            format!("pools.{}", pool.name),
            serde_json::json!({ "size": pool.size, "rate": pool.rate.map(|rate| rate.to_string()) }),
        );
    }
    for plugin in &plan.plugins {
        part(format!("plugins.{}", plugin.name), to_value(&plugin.component));
    }
    for signal in &plan.signals {
        part(format!("signals.{}", signal.name), serde_json::json!({ "keep": signal.keep }));
    }
    for (path, step) in every_step(plan) {
        part(path, step_value(plan, step));
    }
    for output in &plan.outputs {
        part(format!("outputs.{}", output.name), serde_json::json!({ "value": to_value(&output.value) }));
    }
    parts
}

/// All steps in the order of the file, what is within a step after it, each with its path; those of a sub-workflow once.
fn every_step(plan: &Plan) -> Vec<(String, &Step)> {
    let mut told = vec![false; plan.bodies.len() + 1];
    let mut steps = Vec::with_capacity(plan.steps.len());
    let mut open: Vec<(String, StepNo)> = Vec::new();
    let mut enter = |open: &mut Vec<(String, StepNo)>, body: BodyId, around: &str| {
        if !std::mem::replace(&mut told[body.index()], true) {
            // What undoes a step is told with the step.
            let listed = plan.steps_of(body).rev().map(StepNo).filter(|no| plan.step(*no).undoes.is_none());
            open.extend(listed.map(|no| (format!("{around}{}", plan.step(no).table()), no)));
        }
    };
    enter(&mut open, BodyId(0), "");
    while let Some((path, no)) = open.pop() {
        let step = plan.step(no);
        steps.push((path.clone(), step));
        if let Some(undo) = itself(plan, step).undo {
            steps.push((format!("{path}.undo"), plan.step(undo)));
        }
        if let Some(opens) = step.opens().filter(|opens| !is_itself(plan, opens)) {
            enter(&mut open, opens.body, &format!("{path}."));
        }
    }
    steps
}

/// Whether an item or a round of a step is the step itself, since it opens no block.
fn is_itself(plan: &Plan, opens: &Opens) -> bool {
    plan.body(opens.body).is_some_and(|body| body.answer.is_step())
}

/// What a step does for each item, or in each round, if that is the step itself; else the step.
fn itself<'p>(plan: &'p Plan, step: &'p Step) -> &'p Step {
    match step.opens().filter(|opens| is_itself(plan, opens)) {
        Some(opens) => plan.step(StepNo(plan.steps_of(opens.body).start)),
        None => step,
    }
}

/// A step with names in place of numbers, and its keys as they are written in the file.
fn step_value(plan: &Plan, step: &Step) -> Value {
    let does = itself(plan, step);
    let mut value = to_value(step);
    let Value::Object(members) = &mut value else { return value };
    // These are part of where it is, or parts of their own.
    for key in ["name", "always", "work", "undo", "undoes"] {
        members.remove(key);
    }
    members.insert("retry".to_owned(), to_value(&does.retry));
    members.insert("timeout-ms".to_owned(), to_value(&does.timeout_ms));
    if let Some(opens) = step.opens() {
        members.extend(opens_value(plan, opens));
    }
    match &does.work {
        Work::Use(uses) => {
            if let Value::Object(own) = to_value(uses) {
                members.extend(own);
            }
            members.remove("plugin");
            members.remove("places");
            members.insert("use".to_owned(), plan.plugins[uses.plugin.index()].name.clone().into());
        }
        Work::Open(_) => (),
        Work::Wait(wait) => drop(members.insert("wait".to_owned(), wait_value(plan, wait))),
        Work::Finish => drop(members.insert("finish".to_owned(), true.into())),
        Work::Fail(message) => drop(members.insert("fail".to_owned(), to_value(message))),
    }
    members.remove("pool");
    if let Some(pool) = does.pool() {
        members.insert("pool".to_owned(), plan.pools[pool.index()].name.clone().into());
    }
    let mut needs: Vec<String> = step.needs.iter().map(|need| need_text(plan, need)).collect();
    needs.sort();
    members.insert("needs".to_owned(), needs.into());
    if !step.cancels.is_empty() {
        let cancels: Vec<&str> = step.cancels.iter().map(|no| plan.step(*no).name.as_str()).collect();
        members.insert("cancels".to_owned(), cancels.into());
    }
    for (long, short) in [("grants", "grant"), ("limits", "limit")] {
        if let Some(value) = members.remove(long).filter(|value| *value != serde_json::json!({})) {
            members.insert(short.to_owned(), value);
        }
    }
    // What another key has taken away is not granted, which is told; what it asks for is no grant, and who allows it neither.
    if let Some(Value::Object(grant)) = members.get_mut("grant") {
        grant.remove("withheld");
        grant.remove("require");
        grant.remove("forbidden");
        grant.remove("allowed-by");
    }
    // A limit that was lowered is another limit; by whom is none.
    if let Some(Value::Object(limit)) = members.get_mut("limit") {
        limit.remove("lowered");
    }
    value
}

/// The keys in which a step of one plan differs from a step of another, for whoever would take over what the first answered:
/// with the component that it runs, and the folder where that matters; without what it is needed for.
pub(crate) fn own_keys(was: &Plan, step: &Step, is: &Plan, now: &Step) -> Vec<String> {
    let flat = |plan: &Plan, step: &Step| {
        let mut keys = keys_of(&step_value(plan, step));
        keys.insert("kind".to_owned(), format!("{:?}", step.kind()).into());
        if let Some(uses) = itself(plan, step).uses() {
            let digest = &plan.plugins[uses.plugin.index()].component.digest;
            keys.insert("component".to_owned(), digest.to_string().into());
            let looks_around = uses.with.source().as_str().contains("workflow.directory");
            if !uses.grants.files.is_empty() || looks_around {
                keys.insert("directory".to_owned(), plan.directory.clone().into());
            }
        }
        let opened = step.opens().and_then(|opens| plan.body(opens.body));
        if let Some(workflow) = opened.and_then(|body| body.workflow.as_deref()) {
            keys.insert("directory".to_owned(), workflow.directory.clone().into());
        }
        keys
    };
    let (before, after) = (flat(was, step), flat(is, now));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// What a step says of the scopes that it opens, its steps apart.
fn opens_value(plan: &Plan, opens: &Opens) -> serde_json::Map<String, Value> {
    let mut members = serde_json::Map::new();
    let mut put = |key: &str, value: Value| drop(members.insert(key.to_owned(), value));
    match &opens.scopes {
        ScopeCount::One => (),
        ScopeCount::Each(each) => {
            let mut value = to_value(each);
            // The list says whose items they are.
            if let Value::Object(members) = &mut value {
                members.remove("from");
            }
            put("foreach", value);
        }
        ScopeCount::Rounds(rounds) => put("repeat", to_value(rounds)),
    }
    if let Some(with) = &opens.with {
        put("with", to_value(with));
    }
    if opens.detached {
        put("detached", true.into());
    }
    let body = plan.body(opens.body);
    if let Some(workflow) = body.and_then(|body| body.workflow.as_deref()) {
        let (name, inputs, timeout) = (&workflow.name, to_value(&workflow.inputs), workflow.timeout_ms);
        put("workflow", serde_json::json!({ "name": name, "inputs": inputs, "timeout-ms": timeout }));
    }
    let outputs = plan.outputs_of(opens.body).iter();
    let outputs: serde_json::Map<String, Value> =
        outputs.map(|output| (output.name.clone(), to_value(&output.value))).collect();
    if !outputs.is_empty() {
        put("outputs", outputs.into());
    }
    members
}

fn wait_value(plan: &Plan, wait: &Wait) -> Value {
    let mut value = to_value(&Wait { pool: None, ..wait.clone() });
    if let (Value::Object(members), Some(signal)) = (&mut value, wait.signal) {
        members.insert("signal".to_owned(), plan.signals[signal.index()].name.clone().into());
    }
    value
}

fn change(part: &str, was: Option<&Keys>, is: Option<&Keys>) -> Option<Change> {
    let how = match (was, is) {
        (None, _) => How::Added,
        (_, None) => How::Removed,
        (Some(was), Some(is)) if was == is => return None,
        _ => How::Changed,
    };
    let none = Keys::new();
    let (before, now) = (was.unwrap_or(&none), is.unwrap_or(&none));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differing: Vec<&String> = names.into_iter().filter(|key| before.get(*key) != now.get(*key)).collect();
    let (mut wider, mut narrower) = (Vec::new(), Vec::new());
    for (key, name) in differing.iter().filter_map(|key| Some((*key, key.strip_prefix(GRANT)?))) {
        wider.extend(beyond(name, now.get(key), before.get(key)));
        narrower.extend(beyond(name, before.get(key), now.get(key)));
    }
    let json = |value: Option<&Value>| value.cloned().map(Json::from);
    let keys = differing.into_iter().map(|key| KeyChange {
        key: key.clone(),
        was: json(before.get(key)),
        is: json(now.get(key)),
    });
    let keys = if how == How::Changed { keys.collect() } else { Vec::new() };
    Some(Change { part: part.to_owned(), how, keys, wider, narrower })
}

/// What a grant allows that another one of its kind does not, each thing in words.
fn beyond(grant: &str, value: Option<&Value>, other: Option<&Value>) -> Vec<String> {
    let (Some(items), Some(others)) = (calls(grant, value), calls(grant, other)) else {
        return reach(grant, value).difference(&reach(grant, other)).cloned().collect();
    };
    let new = items.into_iter().filter(|item| !others.iter().any(|other| covers(other, item)));
    new.map(|item| match item {
        Grant::Process(program) if program.is_plain() => format!("{grant} {}", program.program),
        Grant::Process(program) => format!("{grant} {program}"),
        Grant::Http(host) if host.is_plain() => format!("{grant} {}", host.host),
        Grant::Http(host) => format!("{grant} {host}"),
        other => other.to_string(),
    })
    .collect()
}

/// The items of those kinds of which one item may be a part of another.
fn calls(grant: &str, value: Option<&Value>) -> Option<Vec<Grant>> {
    let value = value.cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    match grant {
        "process" => Some(serde_json::from_value::<Vec<_>>(value).ok()?.into_iter().map(Grant::Process).collect()),
        "http" => Some(serde_json::from_value::<Vec<_>>(value).ok()?.into_iter().map(Grant::Http).collect()),
        _ => None,
    }
}

/// What a grant allows, each thing in words: a directory to be written is also one to be read.
fn reach(grant: &str, value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::Bool(true)) => BTreeSet::from([grant.to_owned()]),
        Some(Value::Array(items)) => {
            let mut reached = BTreeSet::new();
            for item in items {
                match (item.as_str(), item["path"].as_str()) {
                    (Some(item), _) => drop(reached.insert(format!("{grant} {item}"))),
                    (None, Some(path)) => {
                        reached.insert(format!("{grant} {path}"));
                        if item["write"] == Value::Bool(true) {
                            reached.insert(format!("{grant} {path}, to write"));
                        }
                    }
                    (None, None) => drop(reached.insert(format!("{grant} {item}"))),
                }
            }
            reached
        }
        _ => BTreeSet::new(),
    }
}

/// The keys of a plan whose values are milliseconds, and what a workflow file calls them.
const DURATIONS: &[(&str, &str)] = &[
    ("timeout-ms", "timeout"),
    ("workflow.timeout-ms", "workflow.timeout"),
    ("wait.for-ms", "wait.for"),
    ("retry.delay-ms", "retry.delay"),
    ("retry.max-delay-ms", "retry.max-delay"),
    ("repeat.delay-ms", "repeat.delay"),
];

/// Other keys that a workflow file calls otherwise than a plan.
const WRITTEN: &[(&str, &str)] = &[
    ("wait.approval.by", "wait.approval"),
    ("wait.approval.question", "wait.question"),
    ("foreach.list", "foreach"),
    ("foreach.parallel", "parallel"),
];

/// The keys whose values are bytes.
const SIZES: &[&str] = &["limit.memory", "limit.output", "limit.log", "limit.process-output", "limit.artifact"];

/// A part's values, as they would be written in a workflow file.
fn keys_of(value: &Value) -> Keys {
    let mut keys = Keys::new();
    flatten("", value, &mut keys);
    for (key, written) in DURATIONS {
        if let Some(value) = keys.remove(*key) {
            let value = value.as_u64().map_or(value, |ms| duration_text(ms).into());
            keys.insert((*written).to_owned(), value);
        }
    }
    for key in SIZES {
        if let Some(value) = keys.get_mut(*key) {
            *value = value.as_u64().map_or_else(|| value.clone(), |bytes| bytes_text(bytes).into());
        }
    }
    for (key, written) in WRITTEN {
        if let Some(value) = keys.remove(*key) {
            keys.insert((*written).to_owned(), value);
        }
    }
    keys
}

/// Whether a key's value is a duration or a size, which are read without their quotes.
fn is_quantity(key: &str) -> bool {
    SIZES.contains(&key) || DURATIONS.iter().any(|(_, written)| *written == key)
}

/// As a workflow file has it: `250ms`, `1m30s`.
fn duration_text(ms: u64) -> String {
    let (mut rest, mut text) = (ms, String::new());
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Objects by the paths of their members; everything else as it is.
fn flatten(path: &str, value: &Value, keys: &mut Keys) {
    match value {
        Value::Null => (),
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                let name = if bare { name.clone() } else { Value::from(name.as_str()).to_string() };
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(&path, value, keys);
            }
        }
        other => drop(keys.insert(path.to_owned(), other.clone())),
    }
}

fn to_value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("a plan holds nothing that JSON can't")
}

/// Both values. Of long ones what is around the first character that differs: cut at the end, both may look alike.
fn shown(key: &KeyChange) -> (String, String) {
    let text = |value: &Option<Json>| -> Vec<char> {
        let text = value.as_ref().map_or("nothing", Json::as_str);
        let bare = if is_quantity(&key.key) { text.trim_matches('"') } else { text };
        bare.chars().collect()
    };
    let (was, is) = (text(&key.was), text(&key.is));
    let alike = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
    let is_late = alike + VALUE_BEFORE > VALUE_SHOWN && was.len().max(is.len()) > VALUE_SHOWN;
    let from = if is_late { alike.saturating_sub(VALUE_BEFORE) } else { 0 };
    let cut = |text: &[char]| {
        let before = if from > 0 { "…" } else { "" };
        let after = if text.len() > from + VALUE_SHOWN { "…" } else { "" };
        let shown: String = text.iter().skip(from).take(VALUE_SHOWN).collect();
        format!("{before}{shown}{after}")
    };
    (cut(&was), cut(&is))
}
