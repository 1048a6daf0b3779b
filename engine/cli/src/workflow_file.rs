//! From a path to a plan: reads the file, builds and loads its plugins, and resolves it.
//!
//! A plugin that can't be had is a diagnostic at the line that names it, beside all the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_sandbox::Sandbox;
use downbeat_workflow::diagnostic::{self, Diagnostic, Finding};
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{File, Loaded, Surroundings, beside, resolve};
use downbeat_workflow::spec::{Source, Spec};
use owo_colors::OwoColorize as _;

use crate::exit::{Exit, Fault};
use crate::files::read_text;
use crate::place::absolute;
use crate::talk;
use crate::test::is_test_file;

/// A file that was read and judged.
pub(crate) struct Checked {
    source: Source,
    diagnostics: Vec<Diagnostic>,
    /// The files of sub-workflows about which there is something to say.
    others: Vec<(Source, Vec<Diagnostic>)>,
    /// What it says; `None` if it has errors.
    pub(crate) plan: Option<Plan>,
}

impl Checked {
    /// The diagnostics on standard error, and a line that counts them.
    pub(crate) fn print(&self) {
        if !self.diagnostics.is_empty() {
            talk::say(diagnostic::render(&self.diagnostics, &self.source, true));
        }
        for (source, diagnostics) in &self.others {
            talk::say(diagnostic::render(diagnostics, source, true));
        }
        let errors = self.all().filter(|diagnostic| diagnostic.is_error()).count();
        let warnings = self.all().count() - errors;
        let steps =
            self.plan.as_ref().map_or_else(String::new, |plan| format!("{}, ", count(plan.own_steps().len(), "step")));
        let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
        talk::say(format_args!("{}: {steps}{errors}, {warnings}", self.source.path));
    }

    /// The diagnostics in one line, if there are any: for somebody who wants to run the file and is not kept from it.
    fn summarise(&self) {
        if self.all().next().is_none() {
            return;
        }
        let mut codes: Vec<&str> = self.all().map(|diagnostic| diagnostic.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let (path, found) = (&self.source.path, count(self.all().count(), "warning"));
        let (warning, codes) = ("warning:".yellow().bold().to_string(), codes.join(", "));
        talk::say(format_args!("{warning} {found} in {path} ({codes}); `downbeat check {path}` shows them"));
    }

    /// The diagnostics for programs.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let others = self.others.iter().flat_map(|(source, found)| diagnostic::findings(found, source));
        diagnostic::findings(&self.diagnostics, &self.source).into_iter().chain(others).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().chain(self.others.iter().flat_map(|(_, found)| found))
    }
}

fn count(n: usize, word: &str) -> String {
    match n {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

/// The plan of a file, or of the only workflow in a folder, for running it. Errors are printed as they are, warnings in
/// one line.
pub(crate) fn load(path: &Path, sandbox: &Sandbox) -> Result<Plan, Fault> {
    let mut files = files(path)?;
    if files.len() > 1 {
        let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
        let fault = Fault::refused(format!("{}: the folder has several workflows", path.display()));
        return Err(fault.hint(format!("name one: {}", names.join(", "))));
    }
    let checked = check(&files.remove(0), sandbox)?;
    match checked.plan {
        Some(_) => checked.summarise(),
        None => checked.print(),
    }
    checked.plan.ok_or_else(|| Fault::new(Exit::Refused, "the workflow file has errors; nothing was run"))
}

/// The files that a path stands for: itself, or, if it is a folder, the workflows right in it, by name. A workflow is a
/// `.toml` with steps; others, those of tests among them, have other readers. One that can't be read counts as one, so
/// that somebody is told. At least one.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let unreadable = |error: std::io::Error| Fault::refused(format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_toml = file.extension().is_some_and(|extension| extension == "toml");
        let is_workflow = || read(&file).map_or(true, |text| has_steps(&text));
        if is_toml && !is_test_file(&file) && file.is_file() && is_workflow() {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(Fault::refused(format!("{}: there is no workflow in this folder", path.display()))
            .hint("name a TOML file with `[steps.NAME]` tables, or the folder that it lies in")),
        false => Ok(files),
    }
}

/// Whether the text has steps, also if it is no TOML any more.
fn has_steps(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        ["[steps.", "[steps]", "steps.", "steps "].iter().any(|start| line.starts_with(start))
    })
}

/// Reads and judges a file.
pub(crate) fn check(path: &Path, sandbox: &Sandbox) -> Result<Checked, Fault> {
    let text = read(path)?;
    let source = Source { path: path.display().to_string(), text };
    let (spec, mut diagnostics) = Spec::parse(&source);
    let (mut plan, mut others) = (None, Vec::new());
    if let Some(spec) = spec {
        let directory = absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let plugins = plugins(&spec, &directory, sandbox);
        let directory = directory.display().to_string();
        let mut workflows = BTreeMap::new();
        sub_workflows(&spec, &directory, sandbox, &mut workflows);
        let surroundings = Surroundings { directory, plugins, workflows };
        let resolution = resolve(&source, &spec, &surroundings);
        diagnostics.extend(resolution.diagnostics);
        others = resolution.others;
        plan = resolution.plan.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    }
    diagnostic::sort(&mut diagnostics);
    others.iter_mut().for_each(|(_, found)| diagnostic::sort(found));
    Ok(Checked { source, diagnostics, others, plan })
}

fn plugins(spec: &Spec, directory: &Path, sandbox: &Sandbox) -> BTreeMap<String, Result<Loaded, String>> {
    spec.plugin_paths().map(|(name, path)| (name.to_owned(), find(&directory.join(path), sandbox))).collect()
}

/// Reads the files of the sub-workflows that a file names, and of those that they name in turn.
fn sub_workflows(
    spec: &Spec,
    directory: &str,
    sandbox: &Sandbox,
    found: &mut BTreeMap<String, Result<Arc<File>, String>>,
) {
    for named in spec.workflow_paths() {
        let whole = beside(directory, named);
        if found.contains_key(&whole) {
            continue;
        }
        let text = match read_text(Path::new(&whole)) {
            Ok(text) => text,
            Err(error) => {
                found.insert(whole, Err(error.to_string()));
                continue;
            }
        };
        let source = Source { path: whole.clone(), text };
        let (spec, faults) = Spec::parse(&source);
        let around = Path::new(&whole).parent().map(Path::to_path_buf).unwrap_or_default();
        let plugins = spec.as_ref().map(|spec| plugins(spec, &around, sandbox)).unwrap_or_default();
        let file = Arc::new(File { source, spec, faults, directory: around.display().to_string(), plugins });
        found.insert(whole, Ok(file.clone()));
        if let Some(spec) = &file.spec {
            sub_workflows(spec, &file.directory, sandbox, found);
        }
    }
}

fn read(path: &Path) -> Result<String, Fault> {
    read_text(path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))
}

/// Loads the component at a path; a source folder is built first.
pub(crate) fn find(path: &Path, sandbox: &Sandbox) -> Result<Loaded, String> {
    if !path.exists() {
        // The second line becomes the diagnostic's hint.
        return Err(format!(
            "there is nothing at {}\npaths in `[plugins]` start at the workflow's own folder",
            path.display()
        ));
    }
    let wasm = component_path(path).map_err(|error| with_one_hint(&error))?;
    let plugin = sandbox.load(&wasm).map_err(|error| error.to_string())?;
    let wasm = std::path::absolute(&wasm).map_err(|error| error.to_string())?;
    Ok(Loaded { component: plugin.component().clone(), path: wasm.display().to_string() })
}

/// A builder's error as a diagnostic has it: one line, and the first of its hints in a second one.
fn with_one_hint(error: &str) -> String {
    let in_one_line = |part: &str| part.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    error.split("\n  hint: ").take(2).map(in_one_line).collect::<Vec<_>>().join("\n")
}

/// The `.wasm` that a path stands for; a source folder is built if it changed.
pub(crate) fn component_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut talk = |line: &str| talk::say(line);
    downbeat_builder::build(path, &mut talk).map(|built| built.component).map_err(|error| error.to_string())
}
