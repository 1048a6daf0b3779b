//! `downbeat.lock`: what the components of a folder's workflows were when somebody looked at them. It is committed beside
//! the workflows and reviewed like them; a component that has become another one is not run until the lock says so.
//!
//! Here is what it pins, how it is written and read, and what it means that something differs. No file is opened, and no
//! component loaded: whoever asks has done that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::capability::quoted;
use crate::description::{Component, Digest, Want};
use crate::diagnostic::Diagnostic;
use crate::spec::fields::Fields;
use crate::spec::{Entries, Source, Value, ValueKind, document};

/// How it is called, in the folder of the workflows that it is for.
pub const LOCK_NAME: &str = "downbeat.lock";

/// The form of what is written. One that is higher was written by a later engine, and is not read.
const VERSION: u64 = 1;

/// The lock of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// By source: the path from the folder, as workflows have it.
    pub plugins: BTreeMap<String, Pinned>,
}

/// A component as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pinned {
    /// What it calls itself.
    pub name: String,
    /// And its version.
    pub version: String,
    /// Of the component.
    pub digest: Digest,
    /// Of the folder that it was built from, if it was. Compilers of different machines make different components of it,
    /// so that it is this which has to be the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    /// The public keys that had signed it, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// The interfaces that it imports, sorted.
    pub imports: Vec<String>,
    /// The capabilities that it wants, and why, sorted.
    pub wants: Vec<Want>,
}

impl Pinned {
    /// A component as it is.
    pub fn of(component: &Component, imports: &[String]) -> Pinned {
        let mut pinned = Pinned {
            name: component.description.name.clone(),
            version: component.description.version.clone(),
            digest: component.digest.clone(),
            source_digest: None,
            signers: Vec::new(),
            imports: imports.to_vec(),
            wants: component.description.wants.clone(),
        };
        pinned.imports.sort();
        pinned.wants.sort_by(|a, b| a.capability.cmp(&b.capability));
        pinned
    }

    /// In what a component differs from what was pinned, in words, if it may not be run in its place: the capabilities
    /// first.
    pub fn differs(&self, now: &Pinned) -> Vec<String> {
        let mut found = Vec::new();
        let capability = |want: &Want| want.capability.clone();
        let (was, is): (Vec<String>, Vec<String>) =
            (self.wants.iter().map(capability).collect(), now.wants.iter().map(capability).collect());
        list(&mut found, "wants", &was, &is);
        // Of one source, compilers of different age make components that import different versions of WASI.
        let is_of_one_source = self.source_digest.is_some() && self.source_digest == now.source_digest;
        let name = |import: &String| match import.split_once('@') {
            Some((name, _)) if is_of_one_source => name.to_owned(),
            _ => import.clone(),
        };
        let names = |imports: &[String]| imports.iter().map(name).collect::<Vec<String>>();
        list(&mut found, "imports", &names(&self.imports), &names(&now.imports));
        // What is built here is signed here, if at all, by whoever builds it.
        if self.source_digest.is_none() || now.source_digest.is_none() {
            list(&mut found, "is signed by", &self.signers, &now.signers);
        }
        match (&self.source_digest, &now.source_digest) {
            (Some(was), Some(is)) if was == is => {}
            (Some(_), Some(_)) => found.push("its source has changed".to_owned()),
            _ if self.digest == now.digest => {}
            _ => found.push(format!("its digest is {} and was {}", now.digest.short(), self.digest.short())),
        }
        found
    }
}

/// Tells what is in one list and not in the other.
fn list(found: &mut Vec<String>, verb: &str, was: &[String], is: &[String]) {
    let missing = |from: &[String], other: &[String]| -> Vec<String> {
        from.iter().filter(|item| !other.contains(item)).map(|item| format!("`{item}`")).collect()
    };
    let (new, gone) = (missing(is, was), missing(was, is));
    if !new.is_empty() {
        found.push(format!("it {verb} {} and did not", new.join(", ")));
    }
    if !gone.is_empty() {
        found.push(format!("it no longer {verb} {}", gone.join(", ")));
    }
}

impl Lock {
    /// Reads it, collecting everything that is wrong with it.
    pub fn parse(source: &Source) -> Result<Lock, Vec<Diagnostic>> {
        let (read, mut diagnostics) = document(source);
        let mut fields = Fields::default();
        let mut lock = Lock::default();
        if let Some(Value { kind: ValueKind::Table(entries), .. }) = &read {
            lock = Lock { plugins: file(&mut fields, entries) };
        }
        diagnostics.extend(fields.out.finish());
        if read.is_none() || diagnostics.iter().any(Diagnostic::is_error) { Err(diagnostics) } else { Ok(lock) }
    }

    /// Its text: sorted, and the same for the same lock.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# Written by `downbeat lock`; reviewed and committed like the workflows beside it.\nversion = {VERSION}\n"
        );
        for (source, pinned) in &self.plugins {
            let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
            line("\n[[plugin]]\nsource", quoted(source));
            line("name", quoted(&pinned.name));
            line("version", quoted(&pinned.version));
            line("digest", quoted(pinned.digest.as_str()));
            if let Some(digest) = &pinned.source_digest {
                line("source-digest", quoted(digest.as_str()));
            }
            if !pinned.signers.is_empty() {
                line("signers", lines(&pinned.signers));
            }
            line("imports", lines(&pinned.imports));
            for want in &pinned.wants {
                line("\n[[plugin.wants]]\ncapability", quoted(&want.capability));
                line("reason", quoted(&want.reason));
            }
        }
        text
    }
}

/// A list, an item a line: a change of it is then a line in what a reviewer sees.
fn lines(items: &[String]) -> String {
    match items.is_empty() {
        true => "[]".to_owned(),
        false => format!("[\n{}]", items.iter().map(|item| format!("    {},\n", quoted(item))).collect::<String>()),
    }
}

const FILE: &[&str] = &["version", "plugin"];
const PLUGIN: &[&str] = &["source", "name", "version", "digest", "source-digest", "signers", "imports", "wants"];
const WANT: &[&str] = &["capability", "reason"];

fn file(fields: &mut Fields, entries: &Entries<Value>) -> BTreeMap<String, Pinned> {
    let mut plugins = BTreeMap::new();
    let mut version = None;
    for (key, _, value) in fields.known("a lock", FILE, entries) {
        match (key, &value.kind) {
            ("version", _) => {
                version = fields.count(key, value);
                if version.is_some_and(|version| version > VERSION) {
                    let found = Diagnostic::error(
                        "not-an-option",
                        value.span.clone(),
                        "the lock was written by a later engine",
                    );
                    fields.out.push(found.hint("use that one; this one does not know what it says"));
                }
            }
            (_, ValueKind::List(items)) => {
                for item in items {
                    let Some((source, pinned)) = plugin(fields, item) else { continue };
                    if plugins.insert(source.clone(), pinned).is_some() {
                        let message = format!("`{source}` is in the lock twice");
                        fields.out.push(Diagnostic::error("duplicate", item.span.clone(), message));
                    }
                }
            }
            _ => fields.out.push(crate::spec::fields::wrong_type(key, "tables `[[plugin]]`", value)),
        }
    }
    let before = fields.out.error_count();
    fields.needed("a lock", "version", 0..0, version, before);
    plugins
}

fn plugin(fields: &mut Fields, value: &Value) -> Option<(String, Pinned)> {
    let entries = fields.entries("plugin", value)?;
    let before = fields.out.error_count();
    let (mut source, mut name, mut version, mut digest, mut source_digest) = (None, None, None, None, None);
    let (mut signers, mut imports, mut wants) = (Vec::new(), Vec::new(), Vec::new());
    for (key, _, value) in fields.known("a plugin", PLUGIN, entries) {
        match key {
            "source" => source = fields.string(key, value),
            "name" => name = fields.string(key, value),
            "version" => version = fields.string(key, value),
            "digest" => digest = read_digest(fields, key, value),
            "source-digest" => source_digest = read_digest(fields, key, value),
            "signers" => signers = fields.strings(key, value),
            "imports" => imports = fields.strings(key, value),
            _ => match &value.kind {
                ValueKind::List(items) => wants = items.iter().filter_map(|item| want(fields, item)).collect(),
                _ => fields.out.push(crate::spec::fields::wrong_type(key, "tables `[[plugin.wants]]`", value)),
            },
        }
    }
    let span = value.span.clone();
    let mut text = |key: &str, text: Option<String>| fields.needed("a plugin", key, span.clone(), text, before);
    let (source, name, version) = (text("source", source), text("name", name), text("version", version));
    let digest = fields.needed("a plugin", "digest", span, digest, before);
    let pinned = Pinned { name: name?, version: version?, digest: digest?, source_digest, signers, imports, wants };
    Some((source?, pinned))
}

fn read_digest(fields: &mut Fields, key: &str, value: &Value) -> Option<Digest> {
    let digest = Digest::parse(&fields.string(key, value)?);
    if digest.is_none() {
        let found = Diagnostic::error("pattern", value.span.clone(), format!("`{key}` is no digest"));
        fields.out.push(found.hint("a digest is `sha256:` and 64 small hexadecimal digits"));
    }
    digest
}

fn want(fields: &mut Fields, value: &Value) -> Option<Want> {
    let entries = fields.entries("wants", value)?;
    let before = fields.out.error_count();
    let (mut capability, mut reason) = (None, None);
    for (key, _, value) in fields.known("a want", WANT, entries) {
        match key {
            "capability" => capability = fields.string(key, value),
            _ => reason = fields.string(key, value),
        }
    }
    let capability = fields.needed("a want", "capability", value.span.clone(), capability, before)?;
    Some(Want { capability, reason: reason.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned() -> Pinned {
        let want = |capability: &str| Want { capability: capability.into(), reason: "to ask \"it\"".into() };
        Pinned {
            name: "http".into(),
            version: "1.2.0".into(),
            digest: Digest::of(b"a"),
            source_digest: None,
            signers: vec!["ed25519:x".into()],
            imports: vec!["downbeat:step/log@0.1.0".into(), "wasi:http/outgoing-handler@0.2.0".into()],
            wants: vec![want("http:api.example.org")],
        }
    }

    fn read(text: &str) -> Result<Lock, Vec<String>> {
        let found = Lock::parse(&Source::new("downbeat.lock", text));
        found.map_err(|found| found.into_iter().map(|found| found.message).collect())
    }

    #[test]
    fn a_lock_that_was_written_is_read_as_it_was() {
        let built = Pinned {
            source_digest: Some(Digest::of(b"b")),
            signers: vec![],
            imports: vec![],
            wants: vec![],
            ..pinned()
        };
        let plugins = BTreeMap::from([("http.wasm".to_owned(), pinned()), ("../b".to_owned(), built)]);
        let lock = Lock { plugins };
        assert_eq!(read(&lock.text()), Ok(lock.clone()));
        assert!(lock.text().find("../b") < lock.text().find("http.wasm"), "it is sorted");
        assert_eq!(read(&Lock::default().text()), Ok(Lock::default()));
    }

    #[test]
    fn what_is_no_lock_is_told() {
        assert_eq!(read("x = 1"), Err(vec!["a lock needs `version`".into(), "a lock has no key `x`".into()]));
        assert_eq!(read("version = 2").unwrap_err(), ["the lock was written by a later engine"]);
        assert_eq!(
            read("version = 1\nplugin = 3").unwrap_err(),
            ["`plugin` must be tables `[[plugin]]`, not an integer"]
        );
        assert_eq!(read("version = 1\n[[plugin]]\nsource = \"a\"\n").unwrap_err().len(), 1);
        let twice = Lock { plugins: BTreeMap::from([("a".to_owned(), pinned())]) }.text();
        let entry = twice.split_once("version = 1\n").expect("a head").1;
        assert_eq!(read(&format!("{twice}{entry}")).unwrap_err(), ["`a` is in the lock twice"]);
    }

    #[test]
    fn a_component_that_wants_one_more_host_differs_in_that_first() {
        let mut now = Pinned { digest: Digest::of(b"b"), ..pinned() };
        now.wants.push(Want { capability: "http:evil.example.org".into(), reason: "telemetry".into() });
        assert_eq!(
            pinned().differs(&now),
            [
                "it wants `http:evil.example.org` and did not".to_owned(),
                format!("its digest is {} and was {}", now.digest.short(), pinned().digest.short()),
            ]
        );
        assert_eq!(pinned().differs(&pinned()), [""; 0]);
    }

    #[test]
    fn what_another_machine_built_of_the_same_source_is_the_same() {
        let built = Pinned { source_digest: Some(Digest::of(b"s")), ..pinned() };
        let imports = vec!["downbeat:step/log@0.1.0".into(), "wasi:http/outgoing-handler@0.2.9".into()];
        let elsewhere = Pinned { digest: Digest::of(b"b"), imports, signers: vec![], ..built.clone() };
        assert_eq!(built.differs(&elsewhere), [""; 0]);
        let changed = Pinned { source_digest: Some(Digest::of(b"t")), ..elsewhere };
        assert_eq!(built.differs(&changed).last().map(String::as_str), Some("its source has changed"));
        assert!(built.differs(&changed)[0].contains("it imports `wasi:http/outgoing-handler@0.2.9` and did not"));
        assert_eq!(built.differs(&pinned()), [""; 0], "the very same component, wherever it comes from");
        let more = Pinned { imports: vec!["wasi:sockets/tcp@0.2.0".into()], ..built.clone() };
        assert!(built.differs(&more)[0].contains("it imports `wasi:sockets/tcp` and did not"));
    }
}
