//! How a policy is written. What its words mean for a plan is not known here.

use std::ops::Range;

use super::{Allowed, At, Bound, Mode, Policy, Rule, SIGNERS_MAX, Scope, Signer};
use crate::capability::{Capability, FileGrant, Grant, HttpGrant, ProgramGrant, Protection};
use crate::description::Digest;
use crate::diagnostic::Diagnostic;
use crate::permission::cover::{absolute, fits};
use crate::secret::{SecretGrant, SecretSource};
use crate::spec::fields::{Fields, wrong_type};
use crate::spec::{Entries, Source, Value, ValueKind, document};

const FILE: &[&str] = &["mode", "signers", "rules"];
const SIGNER: &[&str] = &["key"];
const RULE: &[&str] =
    &["description", "mode", "for", "except", "allow", "forbid", "limit", "sources", "signers", "approvals", "require"];
const SCOPE: &[&str] = &["workflow", "plugin", "signer", "environment"];
const LIMITS: &[&str] = &[
    "memory",
    "table-elements",
    "output",
    "log",
    "process-output",
    "artifact",
    "process-memory",
    "process-cpu",
    "process-file",
    "processes",
    "timeout",
];
const CAPABILITIES: &[&str] =
    &["process", "files", "http", "env", "clock", "random", "artifacts", "workspace", "secrets"];
const PROGRAM: &[&str] = &["program", "args", "env", "directory", "digest", "network", "daemons", "read"];
const DIRECTORY: &[&str] = &["path", "write"];
const SECRET: &[&str] = &["name", "source", "host", "header", "body", "query", "path", "insecure", "reveal", "env"];
const HOST: &[&str] = &["host", "methods", "path", "private"];

pub(super) fn policy(source: Source) -> Result<Policy, (Source, Vec<Diagnostic>)> {
    let (read, mut diagnostics) = document(&source);
    let mut reader = Reader::default();
    let (mut rules, mut signers) = (Vec::new(), Vec::new());
    if let Some(Value { kind: ValueKind::Table(entries), .. }) = &read {
        (rules, signers) = reader.file(entries);
    }
    diagnostics.extend(reader.fields.out.finish());
    if read.is_none() || diagnostics.iter().any(Diagnostic::is_error) {
        return Err((source, diagnostics));
    }
    let digest = Digest::of(source.text.as_bytes());
    Ok(Policy { source, digest, rules, signers, warnings: diagnostics })
}

#[derive(Default)]
pub(super) struct Reader {
    pub(super) fields: Fields,
    /// The signers that rules speak of in `for` and `except`, and where.
    scoped: Vec<At<Vec<String>>>,
}

impl Reader {
    fn file(&mut self, entries: &Entries<Value>) -> (Vec<Rule>, Vec<Signer>) {
        let (mut mode, mut rules, mut signers) = (Mode::default(), Vec::new(), Vec::new());
        let known = self.fields.known("a policy", FILE, entries);
        // The mode of the file holds for rules before it as well.
        for (_, _, value) in known.iter().filter(|(key, ..)| *key == "mode") {
            mode = self.fields.one_of("mode", value, &Mode::WORDS).unwrap_or_default();
        }
        for (key, _, value) in known {
            match key {
                "signers" => {
                    for (name, value) in self.fields.table(key, value) {
                        signers.extend(self.signer(name.get_ref(), name.span(), value));
                    }
                }
                "rules" => {
                    for (name, value) in self.fields.table(key, value) {
                        rules.extend(self.rule(name.get_ref(), name.span(), value, mode));
                    }
                }
                _ => {}
            }
        }
        if signers.len() > SIGNERS_MAX {
            let message = format!("the policy has {} signers, and {SIGNERS_MAX} is the most", signers.len());
            let hint = "every signature of a component is held against every key: name teams, and let their members share a key";
            self.fields.out.push(Diagnostic::error("too-large", 0..0, message).hint(hint));
        }
        if rules.is_empty() && self.fields.out.error_count() == 0 {
            let message = "the policy has no rules, so that workflows may do whatever they grant";
            let hint = "write a table `[rules.NAME]` for what is to hold; with `allow = {}` nothing is granted at all";
            self.fields
                .out
                .push(Diagnostic::warning("empty-policy", 0..0, message).label("nothing is forbidden").hint(hint));
        }
        self.unknown_signers(&rules, &signers);
        (rules, signers)
    }

    fn signer(&mut self, name: &str, span: Range<usize>, value: &Value) -> Option<Signer> {
        let entries = self.fields.entries(name, value)?;
        let before = self.fields.out.error_count();
        let mut key = None;
        for (_, _, value) in self.fields.known("a signer", SIGNER, entries) {
            key = self.fields.string("key", value);
            if key.as_ref().is_some_and(|key| !is_key(key)) {
                let found = Diagnostic::error("pattern", value.span.clone(), "that is no public key");
                let hint = "write what `downbeat key new` printed: `ed25519:` and 44 characters";
                self.fields.out.push(found.hint(hint));
            }
        }
        let key = self.fields.needed("a signer", "key", span, key, before)?;
        Some(Signer { name: name.to_owned(), key })
    }

    fn rule(&mut self, name: &str, span: Range<usize>, value: &Value, mode: Mode) -> Option<Rule> {
        let entries = self.fields.entries(name, value)?;
        let before = self.fields.out.error_count();
        let mut rule = Rule {
            name: name.to_owned(),
            span: span.clone(),
            mode,
            description: String::new(),
            speaks_of: Scope::default(),
            except: None,
            allow: None,
            forbid: None,
            limits: Vec::new(),
            sources: None,
            signers: None,
            approvals: None,
            require: Vec::new(),
        };
        for (key, span, value) in self.fields.known("a rule", RULE, entries) {
            let strings = |reader: &mut Reader| {
                let list = reader.fields.strings(key, value);
                if list.is_empty() {
                    let message = format!("`{key}` is empty, so that nothing fits");
                    let found = Diagnostic::error("missing-key", value.span.clone(), message);
                    reader.fields.out.push(found.hint("leave it out, or name at least one"));
                }
                Some(At { span: span.clone(), value: list })
            };
            match key {
                "description" => rule.description = self.fields.string(key, value).unwrap_or_default(),
                "mode" => rule.mode = self.fields.one_of(key, value, &Mode::WORDS).unwrap_or(mode),
                "for" => rule.speaks_of = self.scope(key, value),
                "except" => rule.except = Some(self.scope(key, value)),
                "allow" => rule.allow = Some(At { span, value: self.allowed(key, value) }),
                "forbid" => rule.forbid = Some(At { span, value: self.allowed(key, value) }),
                "limit" => rule.limits = self.limits(value),
                "sources" => {
                    rule.sources = strings(self);
                    self.places(value, |pattern| is_place(pattern).map_err(|reason| (reason, SOURCE_HINT)));
                }
                "signers" => rule.signers = strings(self),
                "approvals" => rule.approvals = strings(self),
                "require" => rule.require = self.protections(value),
                _ => {}
            }
        }
        let says = rule.allow.is_some()
            || rule.forbid.is_some()
            || !rule.limits.is_empty()
            || rule.sources.is_some()
            || rule.signers.is_some()
            || rule.approvals.is_some()
            || !rule.require.is_empty();
        if !says && self.fields.out.error_count() == before {
            let found = Diagnostic::error("missing-key", span, format!("the rule `{name}` asks for nothing"));
            let hint = "it needs one of `allow`, `forbid`, `limit`, `sources`, `signers`, `approvals` and `require`";
            self.fields.out.push(found.label("has no effect").hint(hint));
        }
        Some(rule)
    }

    /// Tells the patterns of a list that fit the path of no component, whatever it is.
    fn places(&mut self, value: &Value, check: impl Fn(&str) -> Result<(), (&'static str, &'static str)>) {
        let items = match &value.kind {
            ValueKind::List(items) => &items[..],
            _ => std::slice::from_ref(value),
        };
        for item in items {
            let ValueKind::String(pattern) = &item.kind else { continue };
            if let Err((reason, hint)) = check(pattern) {
                let message = format!("no component is at `{pattern}`: {reason}");
                self.fields
                    .out
                    .push(Diagnostic::error("pattern", item.span.clone(), message).label("fits nothing").hint(hint));
            }
        }
    }

    fn protections(&mut self, value: &Value) -> Vec<Protection> {
        let words = Protection::ALL.map(|protection| (protection.word(), protection));
        match &value.kind {
            ValueKind::List(items) => {
                items.iter().filter_map(|item| self.fields.one_of("require", item, &words)).collect()
            }
            _ => self.fields.one_of("require", value, &words).into_iter().collect(),
        }
    }

    fn scope(&mut self, key: &str, value: &Value) -> Scope {
        let mut scope = Scope::default();
        let Some(entries) = self.fields.entries(key, value) else { return scope };
        if entries.is_empty() {
            let found = Diagnostic::error("missing-key", value.span.clone(), format!("`{key}` names nothing"));
            self.fields
                .out
                .push(found.hint("leave it out, or say which `workflow`, `plugin`, `signer` or `environment`"));
        }
        for (part, _, value) in self.fields.known(&format!("`{key}`"), SCOPE, entries) {
            let before = self.fields.out.error_count();
            let list = self.fields.strings(part, value);
            if list.is_empty() && self.fields.out.error_count() == before {
                let message = format!("`{part}` is empty, so that nothing fits");
                let found = Diagnostic::error("missing-key", value.span.clone(), message);
                self.fields.out.push(found.hint("leave it out, or name at least one"));
            }
            match part {
                "workflow" => scope.workflow = Some(list.iter().map(|pattern| folder(pattern)).collect()),
                "plugin" => {
                    self.places(value, |pattern| match pattern.contains('/') {
                        true => is_place(pattern).map_err(|reason| (reason, PLUGIN_HINT)),
                        false => Ok(()),
                    });
                    scope.plugin = Some(list);
                }
                "signer" => {
                    self.scoped.push(At { span: value.span.clone(), value: list.clone() });
                    scope.signer = Some(list);
                }
                _ => scope.environment = Some(list),
            }
        }
        scope
    }

    pub(super) fn limits(&mut self, value: &Value) -> Vec<At<Bound>> {
        let Some(entries) = self.fields.entries("limit", value) else { return Vec::new() };
        let known = self.fields.known("`limit`", LIMITS, entries);
        let bounds = known.into_iter().filter_map(|(name, span, value)| {
            let most = match name {
                "timeout" | "process-cpu" => self.fields.duration(name, value),
                "table-elements" | "processes" => self.fields.count(name, value),
                _ => self.fields.size(name, value),
            };
            Some(At { span, value: Bound { name, most: most? } })
        });
        bounds.collect()
    }

    pub(super) fn allowed(&mut self, key: &str, value: &Value) -> Vec<Allowed> {
        let mut allowed = Vec::new();
        let Some(entries) = self.fields.entries(key, value) else { return allowed };
        for (word, _, value) in self.fields.known(&format!("`{key}`"), CAPABILITIES, entries) {
            let Some(capability) = Capability::of_word(word) else { continue };
            match &value.kind {
                ValueKind::Boolean(true) => allowed.push(Allowed::All(capability)),
                ValueKind::Boolean(false) => {}
                ValueKind::List(items) if !Capability::WHOLE.contains(&capability) => {
                    allowed.extend(items.iter().filter_map(|item| self.item(capability, item)).map(Allowed::One));
                }
                _ => {
                    let expected = match Capability::WHOLE.contains(&capability) {
                        true => "`true` or `false`",
                        false => "a list as `grant` has it, or `true` for all of it",
                    };
                    self.fields.out.push(wrong_type(word, expected, value));
                }
            }
        }
        allowed
    }

    fn item(&mut self, capability: Capability, value: &Value) -> Option<Grant> {
        let is_text = matches!(value.kind, ValueKind::String(_));
        match capability {
            Capability::Process if is_text => {
                Some(Grant::Process(self.fields.string("process", value)?.as_str().into()))
            }
            Capability::Process => self.program(value).map(Grant::Process),
            Capability::Files if is_text => {
                Some(Grant::Files(FileGrant { path: self.fields.string("files", value)?, write: false }))
            }
            Capability::Files => self.directory(value).map(Grant::Files),
            Capability::Http if is_text => Some(Grant::Http(self.fields.string("http", value)?.as_str().into())),
            Capability::Http => self.host(value).map(Grant::Http),
            Capability::Secrets if is_text => {
                let name = self.fields.string("secrets", value)?;
                Some(Grant::Secrets(SecretGrant { name, ..SecretGrant::default() }))
            }
            Capability::Secrets => self.secret(value).map(Grant::Secrets),
            _ => Some(Grant::Env(self.fields.string("env", value)?)),
        }
    }

    fn program(&mut self, value: &Value) -> Option<ProgramGrant> {
        let before = self.fields.out.error_count();
        let mut grant = ProgramGrant::default();
        let mut program = None;
        let entries = table("process", value, &mut self.fields)?;
        for (key, _, value) in self.fields.known("an item of `process`", PROGRAM, entries) {
            match key {
                "program" => program = self.fields.string(key, value),
                "args" => grant.args = Some(self.fields.strings(key, value)),
                "env" => grant.env = Some(self.fields.strings(key, value)),
                "directory" => grant.directory = self.fields.string(key, value),
                "digest" => grant.digest = self.fields.string(key, value),
                "network" => grant.network = self.fields.boolean(key, value).unwrap_or_default(),
                "daemons" => grant.daemons = self.fields.boolean(key, value).unwrap_or_default(),
                _ => grant.read = self.fields.strings(key, value),
            }
        }
        grant.program = self.fields.needed("an item of `process`", "program", value.span.clone(), program, before)?;
        Some(grant)
    }

    fn directory(&mut self, value: &Value) -> Option<FileGrant> {
        let before = self.fields.out.error_count();
        let (mut path, mut write) = (None, false);
        let entries = table("files", value, &mut self.fields)?;
        for (key, _, value) in self.fields.known("an item of `files`", DIRECTORY, entries) {
            match key {
                "path" => path = self.fields.string(key, value),
                _ => write = self.fields.boolean(key, value).unwrap_or_default(),
            }
        }
        let path = self.fields.needed("an item of `files`", "path", value.span.clone(), path, before)?;
        Some(FileGrant { path, write })
    }

    fn secret(&mut self, value: &Value) -> Option<SecretGrant> {
        let before = self.fields.out.error_count();
        let mut grant = SecretGrant::default();
        let mut name = None;
        let entries = table("secrets", value, &mut self.fields)?;
        for (key, _, value) in self.fields.known("an item of `secrets`", SECRET, entries) {
            match key {
                "name" => name = self.fields.string(key, value),
                "source" => grant.source = self.source(value),
                "host" => grant.host = self.fields.string(key, value),
                "header" => grant.header = self.fields.string(key, value),
                "env" => grant.env = self.fields.string(key, value),
                flag => {
                    let is_set = self.fields.boolean(key, value).unwrap_or_default();
                    match flag {
                        "body" => grant.body = is_set,
                        "query" => grant.query = is_set,
                        "path" => grant.path = is_set,
                        "insecure" => grant.insecure = is_set,
                        _ => grant.reveal = is_set,
                    }
                }
            }
        }
        grant.name = self.fields.needed("an item of `secrets`", "name", value.span.clone(), name, before)?;
        Some(grant)
    }

    /// A kind of source: what it is called stands for all of them.
    fn source(&mut self, value: &Value) -> Option<SecretSource> {
        let word = self.fields.string("source", value)?;
        let found = match word.as_str() {
            "env" => SecretSource::Env("*".into()),
            "file" => SecretSource::File("*".into()),
            "command" => SecretSource::Command(vec!["*".into()]),
            "credential" => SecretSource::Credential("*".into()),
            _ => {
                let message = format!("no secret comes from `{word}`");
                let found = Diagnostic::error("secret-source", value.span.clone(), message).label("unknown source");
                self.fields.out.push(found.hint("it is `env`, `file`, `command` or `credential`"));
                return None;
            }
        };
        Some(found)
    }

    fn host(&mut self, value: &Value) -> Option<HttpGrant> {
        let before = self.fields.out.error_count();
        let mut grant = HttpGrant::default();
        let mut host = None;
        let entries = table("http", value, &mut self.fields)?;
        for (key, _, value) in self.fields.known("an item of `http`", HOST, entries) {
            match key {
                "host" => host = self.fields.string(key, value),
                "methods" => grant.methods = Some(self.fields.strings(key, value)),
                "path" => grant.path = self.fields.string(key, value),
                _ => grant.private = self.fields.boolean(key, value).unwrap_or_default(),
            }
        }
        grant.host = self.fields.needed("an item of `http`", "host", value.span.clone(), host, before)?;
        Some(grant)
    }

    /// A rule that asks for the signature of somebody whom nobody knows would refuse everything, one that speaks of what he
    /// signed would speak of nothing; neither is meant.
    fn unknown_signers(&mut self, rules: &[Rule], signers: &[Signer]) {
        let scoped = std::mem::take(&mut self.scoped);
        let asked = rules.iter().filter_map(|rule| rule.signers.as_ref()).map(|asked| (asked, false));
        for (asked, is_pattern) in asked.chain(scoped.iter().map(|scoped| (scoped, true))) {
            let is_it = |name: &str, signer: &Signer| signer.name == name || (is_pattern && fits(name, &signer.name));
            for name in asked.value.iter().filter(|name| !signers.iter().any(|signer| is_it(name, signer))) {
                let message = format!("there is no signer `{name}`");
                let names = signers.iter().map(|signer| signer.name.as_str());
                let hint = self.fields.out.suggest_or_list(name, names);
                let found = Diagnostic::error("unknown-signer", asked.span.clone(), message).label("unknown signer");
                self.fields.out.push(found.maybe_hint(hint));
            }
        }
    }
}

fn table<'v>(key: &str, value: &'v Value, fields: &mut Fields) -> Option<&'v Entries<Value>> {
    match &value.kind {
        ValueKind::Table(entries) => Some(entries),
        _ => {
            fields.out.push(wrong_type(key, "a list of strings and tables", value));
            None
        }
    }
}

const SOURCE_HINT: &str = "write an absolute path, in which `*` stands for any text: `/srv/plugins/*`";
const PLUGIN_HINT: &str = "write a component's name, its digest, or an absolute path, in which `*` stands for any text";

/// Whether a component may be at a place that is as a pattern says: where one is, is told by an absolute path of a file, through no
/// link and without `.` and `..`.
fn is_place(pattern: &str) -> Result<(), &'static str> {
    match pattern {
        pattern if !pattern.starts_with(['/', '*']) => {
            Err("the path is relative, and a policy holds for workflows in any folder")
        }
        pattern if pattern.ends_with('/') => Err("with a `/` at its end it is a folder"),
        pattern if pattern.split('/').any(|part| part == "." || part == "..") || pattern.contains("//") => {
            Err("paths of components have no `.`, no `..` and no empty parts")
        }
        _ => Ok(()),
    }
}

/// A folder as workflows have theirs: without a `/` at its end, and without `.` and `..`. Anything else stays as it is.
fn folder(pattern: &str) -> String {
    if pattern.starts_with('/') { absolute(pattern, "") } else { pattern.trim_end_matches('/').to_owned() }
}

/// Whether it has the form of a key: 32 bytes in base64 are 43 characters and a `=`.
fn is_key(text: &str) -> bool {
    let right = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    text.strip_prefix("ed25519:")
        .and_then(|key| key.strip_suffix('='))
        .is_some_and(|key| key.len() == 43 && key.bytes().all(right))
}
