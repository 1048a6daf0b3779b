//! A policy's tests of itself, `policy.test.toml`: what steps there might be, and what the policy has to say of each. They
//! go the way that workflows go, through a plan that [`apply`](super::apply) is asked about.

use std::collections::BTreeMap;
use std::ops::Range;

use super::read::Reader;
use super::{Allowed, Facts, Policy, apply};
use crate::capability::{Grant, Grants, Limits};
use crate::description::{Component, Description, Digest};
use crate::diagnostic::Diagnostic;
use crate::event::NeedState;
use crate::json::Json;
use crate::plan::{Approval, Join, Need, Plan, Plugin, PluginId, Rest, Retry, Step, StepNo, Use, Wait, Work};
use crate::rule::Template;
use crate::spec::{Source, Spanned, Value, ValueKind, document};
use crate::written::Places;

/// The text of a file of tests.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    /// `policy`: the path of the policy from this file's folder.
    pub policy: Option<String>,
    /// `[cases.NAME]`, in the order of the file.
    pub cases: Vec<Case>,
}

/// One of `[cases.NAME]`: a step, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Range<usize>,
    /// `expect`.
    pub expect: Outcome,
    /// `by`: the rules that have something to say, no others; any if it is not given.
    pub by: Option<Vec<String>>,
    workflow: String,
    directory: String,
    environment: Option<String>,
    plugin: String,
    path: String,
    digest: Option<String>,
    signers: Vec<String>,
    grants: Grants,
    limits: Limits,
    timeout_ms: Option<u64>,
    approval: Option<String>,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is said.
    Allow,
    /// Something is told, and it runs as it is.
    Report,
    /// Something is taken away.
    Withhold,
    /// It is refused.
    Refuse,
}

impl Outcome {
    const WORDS: [(&'static str, Outcome); 4] = [
        ("allow", Outcome::Allow),
        ("report", Outcome::Report),
        ("withhold", Outcome::Withhold),
        ("refuse", Outcome::Refuse),
    ];

    /// How it is written.
    pub fn word(self) -> &'static str {
        Outcome::WORDS[self as usize].0
    }
}

const FILE: &[&str] = &["policy", "cases"];
const CASE: &[&str] = &[
    "expect",
    "by",
    "workflow",
    "directory",
    "environment",
    "plugin",
    "path",
    "digest",
    "signers",
    "grant",
    "limit",
    "timeout",
    "approval",
];

impl Cases {
    /// Reads a file, collecting everything that is wrong with it.
    pub fn parse(source: &Source) -> Result<Cases, Vec<Diagnostic>> {
        let (read, mut diagnostics) = document(source);
        let mut reader = Reader::default();
        let mut cases = Cases::default();
        if let Some(Value { kind: ValueKind::Table(entries), .. }) = &read {
            for (key, _, value) in reader.fields.known("a file of tests", FILE, entries) {
                match key {
                    "policy" => cases.policy = reader.fields.string(key, value),
                    _ => {
                        let entries: &[(Spanned<String>, Value)] = reader.fields.table(key, value);
                        cases.cases =
                            entries.iter().filter_map(|(name, value)| case(&mut reader, name, value)).collect();
                    }
                }
            }
            if cases.cases.is_empty() && reader.fields.out.error_count() == 0 {
                let found = Diagnostic::error("missing-key", 0..0, "there are no cases in this file");
                reader.fields.out.push(found.hint("write a table `[cases.NAME]` for each"));
            }
        }
        diagnostics.extend(reader.fields.out.finish());
        if read.is_none() || diagnostics.iter().any(Diagnostic::is_error) { Err(diagnostics) } else { Ok(cases) }
    }
}

fn case(reader: &mut Reader, name: &Spanned<String>, value: &Value) -> Option<Case> {
    let entries = reader.fields.entries(name.get_ref(), value)?;
    let before = reader.fields.out.error_count();
    let mut expect = None;
    let mut case = Case {
        name: name.get_ref().clone(),
        span: name.span(),
        expect: Outcome::Allow,
        by: None,
        workflow: "any".into(),
        directory: "/workflow".into(),
        environment: None,
        plugin: "any".into(),
        path: "/plugins/any.wasm".into(),
        digest: None,
        signers: Vec::new(),
        grants: Grants::default(),
        limits: Limits::default(),
        timeout_ms: None,
        approval: None,
    };
    for (key, _, value) in reader.fields.known("a case", CASE, entries) {
        let mut text = |into: &mut String| *into = reader.fields.string(key, value).unwrap_or_default();
        match key {
            "expect" => expect = reader.fields.one_of(key, value, &Outcome::WORDS),
            "by" => case.by = Some(reader.fields.strings(key, value)),
            "workflow" => text(&mut case.workflow),
            "directory" => text(&mut case.directory),
            "environment" => case.environment = reader.fields.string(key, value),
            "plugin" => text(&mut case.plugin),
            "path" => text(&mut case.path),
            "digest" => case.digest = reader.fields.string(key, value),
            "signers" => case.signers = reader.fields.strings(key, value),
            "grant" => reader.allowed(key, value).into_iter().for_each(|allowed| add(&mut case.grants, allowed)),
            "limit" => {
                for bound in reader.limits(value) {
                    let bound = bound.value;
                    super::judge::set(&mut case.limits, bound);
                }
            }
            "timeout" => case.timeout_ms = reader.fields.duration(key, value),
            _ => case.approval = reader.fields.string(key, value),
        }
    }
    case.expect = reader.fields.needed("a case", "expect", name.span(), expect, before)?;
    Some(case)
}

/// All of a kind is granted by a name that stands for all: nobody could write such a grant, and a policy that allows all of
/// the kind covers it.
fn add(grants: &mut Grants, allowed: Allowed) {
    match allowed {
        Allowed::One(Grant::Process(program)) => grants.process.push(program),
        Allowed::One(Grant::Files(file)) => grants.files.push(file),
        Allowed::One(Grant::Http(host)) => grants.http.push(host),
        Allowed::One(Grant::Env(name)) => grants.env.push(name),
        Allowed::One(Grant::Secrets(secret)) => grants.secrets.push(secret),
        Allowed::One(Grant::Whole(whole)) | Allowed::All(whole) => match whole.word() {
            "process" => grants.process.push("*".into()),
            "files" => grants.files.push(crate::capability::FileGrant { path: "/".into(), write: true }),
            "http" => grants.http.push("*:*".into()),
            "env" => grants.env.push("*".into()),
            "secrets" => grants.secrets.push(crate::secret::SecretGrant {
                name: "*".into(),
                host: Some("*:*".into()),
                insecure: true,
                reveal: true,
                env: Some("*".into()),
                ..crate::secret::SecretGrant::default()
            }),
            "clock" => grants.clock = true,
            "random" => grants.random = true,
            "artifacts" => grants.artifacts = true,
            _ => grants.workspace = true,
        },
    }
}

impl Case {
    /// What the policy makes of it: the outcome, and what it says, in its own text.
    pub fn play(&self, policy: &Policy) -> (Outcome, Vec<Diagnostic>) {
        let digest =
            self.digest.as_deref().and_then(Digest::parse).unwrap_or_else(|| Digest::of(self.plugin.as_bytes()));
        let keys = policy.signers.iter().filter(|signer| self.signers.contains(&signer.name));
        let signed = BTreeMap::from([(digest.clone(), keys.map(|signer| signer.key.clone()).collect())]);
        let mut plan = self.plan(digest);
        let asked = plan.clone();
        let mut found = apply(&mut plan, std::slice::from_ref(policy), &Facts { signed, ..Facts::default() });
        let said = found.pop().map(|(_, said)| said).unwrap_or_default();
        let grants =
            |plan: &Plan| plan.steps.last().and_then(Step::uses).map(|uses| uses.grants.clone()).unwrap_or_default();
        let outcome = match said.iter().any(Diagnostic::is_error) {
            true => Outcome::Refuse,
            false if !grants(&plan).are_those_of(&grants(&asked)) => Outcome::Withhold,
            false if said.is_empty() => Outcome::Allow,
            false => Outcome::Report,
        };
        (outcome, said)
    }

    /// The rules that said something, by what was said.
    pub fn rules<'p>(&self, policy: &'p Policy, said: &[Diagnostic]) -> Vec<&'p str> {
        let spoke =
            |rule: &&super::Rule| said.iter().any(|found| found.message.contains(&format!("rule `{}` of ", rule.name)));
        policy.rules.iter().filter(spoke).map(|rule| rule.name.as_str()).collect()
    }

    fn plan(&self, digest: Digest) -> Plan {
        let empty = || Json::from(serde_json::json!({}));
        let description = Description {
            name: self.plugin.clone(),
            version: "1.0.0".into(),
            summary: String::new(),
            input_schema: empty(),
            output_schema: empty(),
            wants: Vec::new(),
        };
        let component = Component { digest, description, items: false };
        let plugin = Plugin { name: self.plugin.clone(), component, path: self.path.clone(), signers: Vec::new() };
        let step = |name: &str, work: Work, needs: Vec<Need>| Step {
            name: name.into(),
            work,
            needs,
            always: false,
            join: Join::All,
            rest: Rest::Wait,
            when: None,
            retry: Retry::default(),
            timeout_ms: None,
            cancels: Vec::new(),
            undo: None,
            undoes: None,
            priority: None,
        };
        let mut steps = Vec::new();
        let mut needs = Vec::new();
        if let Some(by) = &self.approval {
            let approval = Some(Approval { by: vec![by.clone()], question: None });
            steps.push(step("approve", Work::Wait(Wait { approval, ..Wait::default() }), Vec::new()));
            needs.push(Need { step: StepNo(0), state: NeedState::Succeeded });
        }
        let uses = Use {
            plugin: PluginId(0),
            with: Template::constant(empty()),
            pool: None,
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            places: Places::default(),
            cache: false,
        };
        let mut last = step("step", Work::Use(Box::new(uses)), needs);
        last.timeout_ms = self.timeout_ms;
        steps.push(last);
        let mut plan = Plan::new(self.workflow.clone(), vec![plugin], steps);
        plan.directory = self.directory.clone();
        plan.environments = self.environment.clone().into_iter().collect();
        plan
    }
}
