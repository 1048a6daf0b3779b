//! `downbeat plugin check`: holds the crates that components were compiled from against a database of advisories (RustSec's), which
//! is a folder on this machine. What an advisory says is known in the core, what a component says in the builder; here they
//! meet. Whatever can't be read is a fault, never a finding less: there is no answer then.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use downbeat_builder::{Crate, Kind as When, crates_of};
use downbeat_workflow::advisory::{Advisory, Kind};
use downbeat_workflow::description::Digest;
use downbeat_workflow::text::visible;
use owo_colors::OwoColorize as _;
use semver::Version;
use serde_json::{Value, json};

use crate::arguments::PluginCheck;
use crate::exit::{Exit, Fault};
use crate::files::{read_bytes, read_named_text};
use crate::names;
use crate::table::table;
use crate::talk;
use crate::units::counted;
use crate::workflow_file::{NO_COMPONENT, component_path};

/// Faults of a database that are told one by one: more have a cause in common.
const FAULTS_TOLD_MAX: usize = 20;

/// Advisories by the name of their crate.
struct Database {
    by_crate: HashMap<String, Vec<Advisory>>,
    number: usize,
    /// The date of the newest.
    latest: String,
}

impl Database {
    /// Reads a database: `crates/NAME/ID.md`. What else it has (`rust/`, about the compiler) is about no crate.
    fn read(folder: &Path) -> Result<Database, Fault> {
        let crates = folder.join("crates");
        if !crates.is_dir() {
            let fault = Fault::refused(format!("{}: it is no database of advisories", folder.display()));
            return Err(
                fault.hint("name a clone of https://github.com/rustsec/advisory-db: the folder in which `crates` lies")
            );
        }
        let (mut files, mut faults) = (Vec::new(), Vec::new());
        for name in listed(&crates, &mut faults).into_iter().filter(|path| path.is_dir()) {
            // What the system or an editor leaves there begins with a dot. An advisory by another name would be passed over.
            let is_hidden =
                |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            for path in listed(&name, &mut faults).into_iter().filter(|path| !is_hidden(path)) {
                match path.extension().is_some_and(|end| end == "md") {
                    true => files.push(path),
                    false => faults.push(format!("{}: an advisory's file ends in `.md`", path.display())),
                }
            }
        }
        let mut database = Database { by_crate: HashMap::new(), number: 0, latest: String::new() };
        for path in files {
            match advisory(&path) {
                Ok(advisory) => {
                    database.number += 1;
                    database.latest = database.latest.max(advisory.date.clone());
                    database.by_crate.entry(advisory.package.clone()).or_default().push(advisory);
                }
                Err(error) => faults.push(format!("{}: {error}", path.display())),
            }
        }
        if faults.is_empty() && database.number == 0 {
            faults.push(format!("{}: there is no advisory in it", crates.display()));
        }
        if faults.is_empty() {
            return Ok(database);
        }
        let number = faults.len();
        faults.truncate(FAULTS_TOLD_MAX);
        if number > FAULTS_TOLD_MAX {
            faults.push(format!("and {} more", number - FAULTS_TOLD_MAX));
        }
        let message =
            format!("the database of advisories can't be read; nothing was judged\n  {}", faults.join("\n  "));
        Err(Fault::refused(message))
    }

    /// Of all of them.
    fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_crate.values().flatten().map(|advisory| advisory.id.as_str())
    }

    /// What stands against these crates, in their order.
    fn against<'d>(&'d self, crates: &[Judged]) -> Vec<(usize, &'d Advisory)> {
        let mut found = Vec::new();
        for (index, judged) in crates.iter().enumerate() {
            let Some(advisories) = self.by_crate.get(&judged.name) else { continue };
            let mut about: Vec<&Advisory> =
                advisories.iter().filter(|advisory| advisory.is_about(&judged.version)).collect();
            about.sort_by(|a, b| a.id.cmp(&b.id));
            found.extend(about.into_iter().map(|advisory| (index, advisory)));
        }
        found
    }
}

/// What lies in a folder, by name.
fn listed(folder: &Path, faults: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(error) => {
            faults.push(format!("{}: {error}", folder.display()));
            Vec::new()
        }
    };
    paths.sort();
    paths
}

/// The advisory in a file, which is called like it, in a folder that is called like its crate.
fn advisory(path: &Path) -> Result<Advisory, String> {
    let advisory = Advisory::parse(&read_named_text(path)?)?;
    let is_called = |path: Option<&Path>, name: &str| path.and_then(Path::file_stem).is_some_and(|stem| stem == name);
    if !is_called(Some(path), &advisory.id) {
        return Err(format!("its id is `{}`, and its file is called otherwise", advisory.id));
    }
    let folder = path.parent().and_then(Path::file_name);
    if folder.is_none_or(|folder| folder != advisory.package.as_str()) {
        return Err(format!("it is about the crate `{}`, and its folder is called otherwise", advisory.package));
    }
    Ok(advisory)
}

/// What to do for whom the list of crates is missing, or damaged.
const NO_LIST: &str = "a list is put in by `downbeat plugin build`, and by `cargo auditable build`";

/// Why nothing can be told of a component, and what to do.
struct Unread {
    reason: String,
    hint: &'static str,
}

/// A component that was read.
struct Component {
    path: PathBuf,
    digest: Digest,
    crates: Vec<Judged>,
    /// Crates of other sources than crates.io: advisories say nothing of them.
    others: usize,
}

/// A crate of crates.io.
struct Judged {
    name: String,
    version: Version,
    /// Only to build the component.
    is_to_build: bool,
}

impl Component {
    fn read(given: &Path) -> Result<Component, Unread> {
        let told = |error: String| Unread { reason: format!("{}: {error}", given.display()), hint: NO_COMPONENT };
        if !given.exists() {
            return Err(told("there is no such file or folder".to_owned()));
        }
        let path = component_path(given).map_err(told)?;
        let bytes = read_bytes(&path).map_err(told)?;
        let told = |error: String| Unread { reason: format!("{}: {error}", path.display()), hint: NO_LIST };
        let crates = crates_of(&bytes).map_err(|fault| told(fault.to_string()))?;
        let crates = crates.ok_or_else(|| told("it has no list of the crates that it was compiled from".to_owned()))?;
        // Whatever was compiled has its own crate at least.
        if crates.is_empty() {
            return Err(told("the list of crates in it is empty, and so says nothing".to_owned()));
        }
        // What is compiled for both is one crate.
        let mut versions: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for one in crates.iter().filter(|one| one.is_of_crates_io()) {
            *versions.entry((&one.name, &one.version)).or_insert(true) &= one.kind == When::Build;
        }
        let judged = |((name, version), is_to_build): (&(&str, &str), &bool)| {
            let version = version.parse().map_err(|_| told(format!("`{version}` of {name} is no version")))?;
            Ok(Judged { name: (*name).to_owned(), version, is_to_build: *is_to_build })
        };
        Ok(Component {
            digest: Digest::of(&bytes),
            crates: versions.iter().map(judged).collect::<Result<_, Unread>>()?,
            others: crates.iter().filter(|one: &&Crate| !one.is_of_crates_io()).count(),
            path,
        })
    }
}

/// `downbeat plugin check`
pub(crate) fn check(arguments: &PluginCheck) -> Result<Exit, Fault> {
    let database = Database::read(&arguments.advisories)?;
    let (mut components, mut faults) = (Vec::new(), Vec::new());
    for plugin in &arguments.plugins {
        match Component::read(plugin) {
            Ok(component) => components.push(component),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        let reasons: Vec<&str> = faults.iter().map(|fault| fault.reason.as_str()).collect();
        let mut hints = Vec::new();
        for fault in &faults {
            if !hints.contains(&fault.hint) {
                hints.push(fault.hint);
            }
        }
        return Err(Fault::refused(format!("nothing was judged\n  {}", reasons.join("\n  "))).hint(hints.join("; ")));
    }
    if let Some(id) = arguments.accept.iter().find(|id| !database.ids().any(|known| known == **id)) {
        return Err(names::unknown("advisory", id, database.ids()));
    }
    let is_accepted = |advisory: &Advisory| arguments.accept.contains(&advisory.id);
    let (mut rows, mut objects, mut exit) = (Vec::new(), Vec::new(), Exit::Success);
    let mut idle: Vec<&String> = arguments.accept.iter().collect();
    for component in &components {
        let found = database.against(&component.crates);
        let (mut grave, mut accepted) = (0, 0);
        let mut findings: Vec<Value> = Vec::new();
        for (index, advisory) in &found {
            let (judged, is_accepted) = (&component.crates[*index], is_accepted(advisory));
            accepted += usize::from(is_accepted);
            idle.retain(|id| **id != advisory.id);
            grave += usize::from(advisory.kind == Kind::Vulnerability && !is_accepted);
            findings.push(json!({
                "crate": judged.name,
                "version": judged.version.to_string(),
                "crate-kind": if judged.is_to_build { "build" } else { "runtime" },
                "advisory": advisory.id,
                "kind": advisory.kind,
                "title": advisory.title,
                "patched": advisory.patched,
                "accepted": is_accepted,
            }));
            rows.push(row(component, judged, advisory, is_accepted));
        }
        if grave > 0 {
            exit = Exit::WorkflowFailed;
        }
        objects.push(json!({
            "component": component.path,
            "digest": component.digest.as_str(),
            "crates": component.crates.len(),
            "crates-of-other-sources": component.others,
            "findings": findings,
        }));
        if !arguments.json {
            talk::say(summary(component, found.len(), grave, accepted));
        }
    }
    for id in &idle {
        talk::say(format_args!("{} nothing here is about {id}: `--accept {id}` can go", "warning:".yellow().bold()));
    }
    if arguments.json {
        let database = json!({ "number": database.number, "latest": database.latest });
        talk::put_json(&json!({ "advisories": database, "components": objects, "idle": idle }).to_string())?;
        return Ok(exit);
    }
    let advisories = if database.number == 1 { "advisory" } else { "advisories" };
    talk::say(format_args!("held against {} {advisories}, the latest of {}", database.number, database.latest));
    if !rows.is_empty() {
        let mut headings = vec!["COMPONENT", "CRATE", "VERSION", "ADVISORY", "KIND", "PATCHED IN", "TITLE"];
        if components.len() == 1 {
            headings.remove(0);
            rows.iter_mut().for_each(|row| drop(row.remove(0)));
        }
        talk::put(&table(&headings, &rows))?;
    }
    Ok(exit)
}

/// A finding for people.
fn row(component: &Component, judged: &Judged, advisory: &Advisory, is_accepted: bool) -> Vec<String> {
    let name = component.path.file_name().unwrap_or(component.path.as_os_str()).to_string_lossy();
    let version = match judged.is_to_build {
        true => format!("{} (build)", judged.version),
        false => judged.version.to_string(),
    };
    let kind = match is_accepted {
        true => format!("{} (accepted)", advisory.kind.word()),
        false => advisory.kind.word().to_owned(),
    };
    let patched = if advisory.patched.is_empty() { "none".to_owned() } else { advisory.patched.join(" or ") };
    let cells = [&*name, &judged.name, &version, &advisory.id, &kind, &patched, &advisory.title];
    cells.map(|cell| visible(cell, false).into_owned()).to_vec()
}

/// A component in a line.
fn summary(component: &Component, found: usize, grave: usize, accepted: usize) -> String {
    let crates = counted(component.crates.len() as u64, "crate");
    let mut text = format!("{}: {crates} of crates.io", component.path.display());
    if component.others > 0 {
        text.push_str(&format!(" ({} of other sources are not judged)", component.others));
    }
    match grave {
        0 => text.push_str(", no vulnerability"),
        1 => text.push_str(", 1 vulnerability"),
        more => text.push_str(&format!(", {more} vulnerabilities")),
    }
    let others = found - grave - accepted;
    if others > 0 {
        text.push_str(&format!(", {others} that only inform"));
    }
    if accepted > 0 {
        text.push_str(&format!(", {accepted} accepted"));
    }
    text
}
