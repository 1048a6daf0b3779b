//! From a path to a plan: reads the file, builds and loads its plugins, and resolves it.
//!
//! A plugin that can't be had is a diagnostic at the line that names it, beside all the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use downbeat_sandbox::Sandbox;
use downbeat_workflow::diagnostic::{self, Diagnostic, Finding};
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{Loaded, Surroundings, resolve};
use downbeat_workflow::spec::{Source, Spec};

use crate::exit::{Exit, Fault};
use crate::files::read_text;
use crate::place::absolute;
use crate::talk;

/// A file that was read and judged.
pub(crate) struct Checked {
    source: Source,
    diagnostics: Vec<Diagnostic>,
    /// What it says; `None` if it has errors.
    pub(crate) plan: Option<Plan>,
}

impl Checked {
    /// The diagnostics on standard error, and a line that counts them.
    pub(crate) fn print(&self) {
        if !self.diagnostics.is_empty() {
            talk::say(diagnostic::render(&self.diagnostics, &self.source, true));
        }
        let count = |n: usize, word: &str| match n {
            0 => format!("no {word}s"),
            1 => format!("1 {word}"),
            n => format!("{n} {word}s"),
        };
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let warnings = self.diagnostics.len() - errors;
        let steps =
            self.plan.as_ref().map_or_else(String::new, |plan| format!("{}, ", count(plan.steps.len(), "step")));
        let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
        talk::say(format_args!("{}: {steps}{errors}, {warnings}", self.source.path));
    }

    /// The diagnostics for programs.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        diagnostic::findings(&self.diagnostics, &self.source)
    }
}

/// The plan of a file, for running it; its diagnostics are printed.
pub(crate) fn load(path: &Path, sandbox: &Sandbox) -> Result<Plan, Fault> {
    let checked = check(path, sandbox)?;
    if !checked.diagnostics.is_empty() {
        checked.print();
    }
    checked.plan.ok_or_else(|| Fault::new(Exit::Refused, "the workflow file has errors; nothing was run"))
}

/// Reads and judges a file.
pub(crate) fn check(path: &Path, sandbox: &Sandbox) -> Result<Checked, Fault> {
    let text = read(path)?;
    let source = Source { path: path.display().to_string(), text };
    let (spec, mut diagnostics) = Spec::parse(&source);
    let mut plan = None;
    if let Some(spec) = spec {
        let directory = absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let plugins: BTreeMap<String, Result<Loaded, String>> =
            spec.plugin_paths().map(|(name, path)| (name.to_owned(), find(&directory.join(path), sandbox))).collect();
        let surroundings = Surroundings { directory: directory.display().to_string(), plugins };
        let resolution = resolve(&source, &spec, &surroundings);
        diagnostics.extend(resolution.diagnostics);
        plan = resolution.plan.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    }
    diagnostic::sort(&mut diagnostics);
    Ok(Checked { source, diagnostics, plan })
}

fn read(path: &Path) -> Result<String, Fault> {
    read_text(path).map_err(|error| {
        let fault = Fault::refused(format!("{}: {error}", path.display()));
        if path.is_dir() { fault.hint("name the workflow's TOML file in it") } else { fault }
    })
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
    let wasm = component_path(path)?;
    let plugin = sandbox.load(&wasm).map_err(|error| error.to_string())?;
    let wasm = std::path::absolute(&wasm).map_err(|error| error.to_string())?;
    Ok(Loaded { component: plugin.component().clone(), path: wasm.display().to_string() })
}

/// The `.wasm` that a path stands for; a source folder is built if it changed.
pub(crate) fn component_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut talk = |line: &str| talk::say(line);
    downbeat_builder::build(path, &mut talk).map(|built| built.component).map_err(|error| error.to_string())
}
