//! From a path to a plan: reads the file, builds and loads its plugins, and resolves it.
//!
//! A plugin that can't be had is a diagnostic at the line that names it, beside all the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use downbeat_builder::{BuildError, Built};
use downbeat_sandbox::{LoadError, Sandbox};
use downbeat_workflow::diagnostic::{self, DIAGNOSTICS_MAX, Diagnostic, Finding};
use downbeat_workflow::difference::Difference;
use downbeat_workflow::lock::Pinned;
use downbeat_workflow::plan::{Plan, Plugin, Step};
use downbeat_workflow::resolve::{File, Loaded, Surroundings, beside, resolve};
use downbeat_workflow::spec::{Source, Spec};
use owo_colors::OwoColorize as _;

use crate::exit::{Exit, Fault};
use crate::files::read_named_text;
use crate::place::absolute;
use crate::policy::Guard;
use crate::screen::steps;
use crate::test::{PASSED_OVER, is_test_file};
use crate::units::counted;
use crate::{lock, signature, talk};

/// How long somebody at a terminal waits before being told for what: a second is when one begins to wonder.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A file that was read and judged.
pub(crate) struct Checked {
    source: Source,
    /// What is laid over it, as it was named.
    with: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
    /// The files of sub-workflows about which there is something to say.
    others: Vec<(Source, Vec<Diagnostic>)>,
    /// The directories that its steps are granted and that are not there.
    missing_folders: Vec<String>,
    /// What it says; `None` if it has errors.
    pub(crate) plan: Option<Plan>,
    /// Whether there is nothing wrong with it but that a policy forbids it.
    pub(crate) is_forbidden: bool,
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
        let steps = self.plan.as_ref().map_or_else(String::new, |plan| format!("{}, ", steps(plan)));
        let (errors, warnings) = (number_of(errors, "error"), number_of(warnings, "warning"));
        talk::say(format_args!("{}: {steps}{errors}, {warnings}", self.source.path));
        let bare: Vec<String> = self.plan.as_ref().map_or_else(Vec::new, bare);
        if !bare.is_empty() {
            talk::say(format_args!("  granted nothing of what their components want: {}", bare.join(", ")));
        }
        if self.plan.is_some() && !self.missing_folders.is_empty() {
            talk::say(format_args!("  granted, and not there now: {}", self.missing_folders.join(", ")));
        }
    }

    /// The diagnostics in one line, if there are any: for somebody who wants to run the file and is not kept from it.
    fn summarise(&self) {
        if self.all().next().is_none() {
            return;
        }
        let mut codes: Vec<&str> = self.all().map(|diagnostic| diagnostic.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let (path, number) = (&self.source.path, self.all().count());
        let (found, shows) = (counted(number as u64, "warning"), if number == 1 { "shows it" } else { "shows them" });
        let (warning, codes) = ("warning:".yellow().bold().to_string(), codes.join(", "));
        let with: String = self.with.iter().map(|over| format!(" --with {}", over.display())).collect();
        // What a policy says is only said where it holds, and this one may have been named for this command alone.
        let is_policys = |(_, found): &&(Source, Vec<Diagnostic>)| found.iter().any(|found| found.code == "policy");
        let policies = self.others.iter().filter(is_policys);
        let policies: String = policies.map(|(source, _)| format!(" --policy {}", source.path)).collect();
        talk::say(format_args!(
            "{warning} {found} in {path} ({codes}); `downbeat check {path}{with}{policies}` {shows}"
        ));
    }

    /// Whether there is nothing to say about it.
    pub(crate) fn is_clean(&self) -> bool {
        self.all().next().is_none()
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

/// The steps that are granted nothing of what their components want, with what that is. Many a component wants more than
/// one use of it needs, so this is no warning; but a clock that stands still is nowhere else seen before the run.
fn bare(plan: &Plan) -> Vec<String> {
    let bare = |step: &Step| {
        let uses = step.uses()?;
        let wants = &plan.plugins[uses.plugin.index()].component.description.wants;
        let withheld = uses.grants.withheld(wants);
        let is_bare = !wants.is_empty() && withheld.len() == wants.len();
        is_bare.then(|| format!("{} ({})", step.name, withheld.join(", ")))
    };
    plan.steps.iter().filter_map(bare).collect()
}

/// How many there are, also if there are none.
fn number_of(n: usize, word: &str) -> String {
    if n == 0 { format!("no {word}s") } else { counted(n as u64, word) }
}

/// The plan of a file, or of a folder's workflow, with others laid over it, for running it. Errors are printed as they are,
/// warnings in one line.
pub(crate) fn load(path: &Path, with: &[PathBuf], sandbox: &Sandbox, guard: &Guard) -> Result<Plan, Fault> {
    let checked = check(&only(path)?, with, sandbox, guard)?;
    match checked.plan {
        Some(_) => checked.summarise(),
        None => checked.print(),
    }
    checked.plan.ok_or_else(|| match checked.is_forbidden {
        true => Fault::new(Exit::Forbidden, "a policy forbids it; nothing was run"),
        false => Fault::new(Exit::Refused, "the workflow file has errors; nothing was run"),
    })
}

/// The file, or a folder's workflow: the only one, or of several (those that it opens lie beside it) the one that is called
/// like the folder.
pub(crate) fn only(path: &Path) -> Result<PathBuf, Fault> {
    let mut files = files(path)?;
    let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Some(own) = files.iter().position(|file| file.file_stem() == whole.file_name()) {
        files.swap(0, own);
        files.truncate(1);
    }
    if files.len() > 1 {
        let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
        let fault = Fault::refused(format!("{}: the folder has several workflows", path.display()));
        return Err(fault.hint(format!("name one: {}", names.join(", "))));
    }
    Ok(files.remove(0))
}

/// Whether a text names a file or a folder rather than a run: it is there, or could be nothing else, since ids of runs have
/// no dot and no separator.
pub(crate) fn is_path(text: &str) -> bool {
    Path::new(text).exists() || text.contains(['.', '/', '\\'])
}

/// The files that a path stands for: itself, or, if it is a folder, the workflows right in it, by name. A workflow is a
/// `.toml` with steps; others, those of tests among them, have other readers. One that can't be read counts as one, so
/// that somebody is told. At least one.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    gather(path, false, &mut files)?;
    match files.is_empty() {
        true => {
            Err(Fault::refused(format!("{}: there is no workflow in this folder", path.display())).hint(NO_WORKFLOW))
        }
        false => Ok(files),
    }
}

/// As [`files`], but of a folder also those below it: the files of a folder before those of its folders.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    gather(path, true, &mut files)?;
    match files.is_empty() {
        true => {
            let message = format!("{}: there is no workflow in this folder or below it", path.display());
            Err(Fault::refused(message).hint(NO_WORKFLOW))
        }
        false => Ok(files),
    }
}

/// What a workflow is, for somebody who has none.
const NO_WORKFLOW: &str = "name a TOML file with `[steps.NAME]` tables, or the folder that it lies in";

/// Adds the workflows of a folder, and of those below it if `deep`. What was built or fetched, and what is hidden, is
/// passed over; so is a link to a folder, as it may lead back.
fn gather(folder: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let unreadable = |error: std::io::Error| Fault::refused(format!("{}: {error}", folder.display()));
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut folders = Vec::new();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if deep && !name.starts_with('.') && !PASSED_OVER.contains(&name.as_str()) {
                folders.push(path);
            }
            continue;
        }
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        let is_workflow = || read(&path).map_or(true, |text| has_steps(&text));
        if is_toml && !is_test_file(&path) && !is_overlay(&path) && path.is_file() && is_workflow() {
            files.push(path);
        }
    }
    folders.iter().try_for_each(|folder| gather(folder, deep, files))
}

/// Whether the name is one of a file that is laid over others, so that it is no workflow by itself.
fn is_overlay(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".with.toml"))
}

/// Whether the text has steps, also if it is no TOML any more.
fn has_steps(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        ["[steps.", "[steps]", "steps.", "steps "].iter().any(|start| line.starts_with(start))
    })
}

/// Reads a file, and those that are laid over it.
pub(crate) fn source(path: &Path, with: &[PathBuf]) -> Result<Source, Fault> {
    let lowest = Source::new(path.display().to_string(), read(path)?);
    with.iter().try_fold(lowest, |source, over| Ok(source.with(over.display().to_string(), &read(over)?)))
}

/// Reads and judges a file, with others laid over it.
pub(crate) fn check(path: &Path, with: &[PathBuf], sandbox: &Sandbox, guard: &Guard) -> Result<Checked, Fault> {
    let source = source(path, with)?;
    let (spec, mut diagnostics) = Spec::parse(&source);
    let (mut plan, mut others, mut is_forbidden) = (None, Vec::new(), false);
    let mut missing = Vec::new();
    let environments: Vec<String> = with.iter().map(|path| environment(path)).collect();
    if let Some(spec) = spec {
        let directory = absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
        // Its real name: grants are followed through no link, and where the project lies is not their affair.
        let directory = directory.canonicalize().unwrap_or(directory);
        diagnostics.extend(barred_grants(&spec, &directory, sandbox));
        missing = missing_folders(&spec, &directory);
        guard.apart_from(&directory)?;
        guard.lies_within(&directory, path)?;
        guard.overlays_within(&directory, with)?;
        let ground = Ground { sandbox, guard, environments: &environments };
        let plugins = plugins(&spec, &directory, &ground);
        let itself = directory.join(path.file_name().unwrap_or_default()).display().to_string();
        let directory = directory.display().to_string();
        let mut workflows = BTreeMap::new();
        sub_workflows(&spec, &directory, &ground, &mut workflows)?;
        let surroundings = Surroundings { directory, plugins, workflows };
        let resolution = resolve(&source, &spec, &surroundings);
        diagnostics.extend(resolution.diagnostics);
        others = resolution.others;
        once(&mut others, &itself, &source.path, &diagnostics);
        plan = resolution.plan.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    }
    if let Some(made) = &mut plan {
        made.environments = environments;
        guard.note_signers(made);
        let found = guard.hold(made);
        is_forbidden = found.iter().flat_map(|(_, found)| found).any(Diagnostic::is_error);
        others.extend(found);
    }
    plan = plan.filter(|_| !is_forbidden);
    is_forbidden |= guard.take_refused();
    diagnostic::sort(&mut diagnostics);
    others.iter_mut().for_each(|(_, found)| diagnostic::sort(found));
    if plan.is_none() && !is_forbidden && with.is_empty() && is_overlay(path) {
        let fault = Fault::refused(format!("{}: this is an overlay, and no workflow by itself", path.display()));
        let below =
            path.parent().and_then(|folder| only(if folder == Path::new("") { Path::new(".") } else { folder }).ok());
        let below =
            below.as_deref().and_then(Path::file_name).map_or("FILE.toml".into(), |name| name.to_string_lossy());
        let below = path.with_file_name(&*below);
        return Err(fault.hint(format!("`downbeat check {} --with {}`", below.display(), path.display())));
    }
    Ok(Checked { source, with: with.to_vec(), diagnostics, others, missing_folders: missing, plan, is_forbidden })
}

/// Takes what was told of a file out of what is told of the same file as one that is opened, where it has its full path.
fn once(others: &mut Vec<(Source, Vec<Diagnostic>)>, itself: &str, path: &str, told: &[Diagnostic]) {
    for (source, found) in others.iter_mut().filter(|(source, _)| source.path == itself) {
        path.clone_into(&mut source.path);
        found.retain(|found| !told.contains(found));
    }
    others.retain(|(_, found)| !found.is_empty());
}

/// What is laid over a workflow, as policies call it.
fn environment(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.strip_suffix(".with.toml").or(name.strip_suffix(".toml")).unwrap_or(&name).to_owned()
}

/// What plugins are loaded on.
struct Ground<'g> {
    sandbox: &'g Sandbox,
    guard: &'g Guard,
    environments: &'g [String],
}

fn plugins(spec: &Spec, directory: &Path, ground: &Ground<'_>) -> BTreeMap<String, Result<Loaded, String>> {
    let lock = if ground.guard.asks_locks() { lock::read(directory) } else { Ok(None) };
    let workflow = spec.name.as_ref().map(|name| name.get_ref().as_str()).unwrap_or_default();
    let load = |path: &str| {
        let whole = directory.join(path);
        let is_built = || !whole.is_dir() || downbeat_builder::built(&whole).is_some();
        let lock = match lock.as_ref() {
            _ if ground.guard.only_looks() && is_built() => None,
            Ok(lock) => lock.as_ref(),
            Err(error) => return Err(error.clone()),
        };
        if let Some(lock) = lock {
            lock::before_building(lock, path, directory)?;
        }
        ground.guard.before_building(workflow, directory, ground.environments, &whole)?;
        ground.guard.before_loading(workflow, directory, ground.environments, &whole)?;
        let (loaded, now) = pin(&whole, ground.sandbox)?;
        match lock.filter(|_| !ground.guard.only_looks()) {
            Some(lock) => lock::hold(lock, path, directory, &now).map(|()| loaded),
            None => Ok(loaded),
        }
    };
    spec.plugin_paths().map(|(name, path)| (name.to_owned(), load(path))).collect()
}

/// Reads the files of the sub-workflows that a file names, and of those that they name in turn.
fn sub_workflows(
    spec: &Spec,
    directory: &str,
    ground: &Ground<'_>,
    found: &mut BTreeMap<String, Result<Arc<File>, String>>,
) -> Result<(), Fault> {
    for named in spec.workflow_paths() {
        let whole = beside(directory, named);
        if found.contains_key(&whole) {
            continue;
        }
        let text = match read_named_text(Path::new(&whole)) {
            Ok(text) => text,
            Err(error) => {
                found.insert(whole, Err(error.to_string()));
                continue;
            }
        };
        let source = Source::new(whole.clone(), text);
        let (spec, mut faults) = Spec::parse(&source);
        let around = Path::new(&whole).parent().map(Path::to_path_buf).unwrap_or_default();
        let around = around.canonicalize().unwrap_or(around);
        ground.guard.apart_from(&around)?;
        ground.guard.lies_within(&around, Path::new(&whole))?;
        faults.extend(spec.iter().flat_map(|spec| barred_grants(spec, &around, ground.sandbox)));
        let plugins = spec.as_ref().map(|spec| plugins(spec, &around, ground)).unwrap_or_default();
        let file = Arc::new(File { source, spec, faults, directory: around.display().to_string(), plugins });
        found.insert(whole, Ok(file.clone()));
        if let Some(spec) = &file.spec {
            sub_workflows(spec, &file.directory, ground, found)?;
        }
    }
    Ok(())
}

/// An error at each granted directory that no attempt would get.
fn barred_grants(spec: &Spec, directory: &Path, sandbox: &Sandbox) -> Vec<Diagnostic> {
    let files = spec.grants().into_iter().flat_map(|grant| &grant.files).flat_map(|files| files.get_ref());
    let mut known: HashMap<&str, Option<String>> = HashMap::new();
    let barred = files.filter_map(|file| {
        let path = Some(file.path.get_ref().as_str()).filter(|path| !path.is_empty())?;
        let reason = known.entry(path).or_insert_with(|| sandbox.bars(directory, path)).as_ref()?;
        let (reason, hint) = reason.split_once("; ").unwrap_or((reason, ""));
        let found = Diagnostic::error("grant", file.path.span(), format!("`{path}` can't be granted: {reason}"));
        Some(found.maybe_hint(Some(hint).filter(|hint| !hint.is_empty())))
    });
    spec.written(barred.take(DIAGNOSTICS_MAX))
}

/// The granted directories that are not there. They may be made before their steps begin, so this is no warning.
fn missing_folders(spec: &Spec, directory: &Path) -> Vec<String> {
    let files = spec.grants().into_iter().flat_map(|grant| &grant.files).flat_map(|files| files.get_ref());
    let paths: BTreeSet<&str> =
        files.map(|file| file.path.get_ref().as_str()).filter(|path| !path.is_empty()).collect();
    let is_missing = |path: &&str| {
        let found = std::fs::symlink_metadata(directory.join(path));
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    paths.into_iter().filter(is_missing).map(str::to_owned).collect()
}

/// The file that a plan came from: of the workflows in the plan's folder, that of the same name. There may be several, or
/// none any more.
pub(crate) fn of_plan(plan: &Plan) -> Result<PathBuf, Fault> {
    let is_it = |path: &PathBuf| {
        let Ok(text) = read(path) else { return false };
        let (spec, _) = Spec::parse(&Source::new(path.display().to_string(), text));
        spec.and_then(|spec| spec.name).is_some_and(|name| *name.get_ref() == plan.name)
    };
    let mut found = files(Path::new(&plan.directory)).unwrap_or_default();
    found.retain(is_it);
    let message = match &found[..] {
        [file] => return Ok(file.clone()),
        [] => format!("there is no workflow `{}` in {} any more", plan.name, plan.directory),
        several => {
            let names: Vec<String> = several.iter().map(|file| file.display().to_string()).collect();
            format!("several files have a workflow `{}`: {}", plan.name, names.join(", "))
        }
    };
    Err(Fault::refused(message).hint("name its file with --file"))
}

/// The file that a plan came from, if it now says something else: of the workflows in the plan's folder, that of the same
/// name. It is held against the components that the plan has, so that nothing is built for it.
pub(crate) fn changed_since(plan: &Plan) -> Option<PathBuf> {
    let mut changed = None;
    for path in files(Path::new(&plan.directory)).ok()? {
        let Ok(text) = read(&path) else { continue };
        let source = Source::new(path.display().to_string(), text);
        let (Some(spec), _) = Spec::parse(&source) else { continue };
        if spec.name.as_ref().is_none_or(|name| *name.get_ref() != plan.name) {
            continue;
        }
        let loaded = |plugin: &Plugin| Ok(Loaded { component: plugin.component.clone(), path: plugin.path.clone() });
        let plugins = plan.plugins.iter().map(|plugin| (plugin.name.clone(), loaded(plugin))).collect();
        // A sub-workflow's file is not looked at: one that names it is told as it was.
        if !spec.workflow_paths().is_empty() {
            return None;
        }
        let surroundings = Surroundings { directory: plan.directory.clone(), plugins, ..Surroundings::default() };
        match resolve(&source, &spec, &surroundings).plan {
            Some(now) if Difference::of_plans(plan, &now).is_empty() => return None,
            _ => changed = Some(path),
        }
    }
    changed
}

fn read(path: &Path) -> Result<String, Fault> {
    read_named_text(path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))
}

/// Loads the component at a path; a source folder is built first.
pub(crate) fn pin(path: &Path, sandbox: &Sandbox) -> Result<(Loaded, Pinned), String> {
    if !path.exists() {
        // The second line becomes the diagnostic's hint.
        return Err(format!(
            "there is nothing at {}\npaths in `[plugins]` start at the workflow's own folder",
            path.display()
        ));
    }
    let wasm = real_component_path(path).map_err(|error| with_one_hint(&error))?;
    let plugin = load_component(&wasm, sandbox).map_err(|error| error.to_string())?;
    let mut pinned = Pinned::of(plugin.component(), plugin.imports());
    pinned.signers = signature::of(&wasm, &pinned.digest);
    Ok((Loaded { component: plugin.component().clone(), path: wasm.display().to_string() }, pinned))
}

/// A builder's error as a diagnostic has it: one line, and the first of its hints in a second one.
fn with_one_hint(error: &str) -> String {
    let in_one_line = |part: &str| part.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    error.split("\n  hint: ").take(2).map(in_one_line).collect::<Vec<_>>().join("\n")
}

/// What to do for whom there is no component at a path.
pub(crate) const NO_COMPONENT: &str = "name a `.wasm` file, or the source folder of a plugin";

/// The `.wasm` that a path of a command line stands for; a source folder is built if it changed.
pub(crate) fn named_component(path: &Path) -> Result<PathBuf, Fault> {
    is_there(path)?;
    component_path(path).map_err(Fault::refused)
}

/// The `.wasm` that a path stands for; a source folder is built if it changed.
pub(crate) fn component_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    build(path).map(|built| built.component).map_err(|error| error.to_string())
}

fn is_there(path: &Path) -> Result<(), Fault> {
    if path.exists() {
        return Ok(());
    }
    Err(Fault::refused(format!("{}: there is no such file or folder", path.display())).hint(NO_COMPONENT))
}

/// The `.wasm` that a path of a command line stands for, and of a source folder what was built of it: nothing is compiled.
pub(crate) fn built_component(path: &Path) -> Result<PathBuf, Fault> {
    is_there(path)?;
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    downbeat_builder::built(path).ok_or_else(|| {
        let fault = Fault::refused(format!("{}: nothing is built of this folder as it is now", path.display()));
        fault.hint(format!("`downbeat plugin build {}` compiles it", path.display()))
    })
}

/// The same where it really is, through no link and without `..`: policies say which places are trusted.
pub(crate) fn real_component_path(path: &Path) -> Result<PathBuf, String> {
    let component = component_path(path)?;
    component.canonicalize().map_err(|error| format!("{}: {error}", component.display()))
}

/// Builds a source folder and tells what its tools say, under the plugin's name.
pub(crate) fn build(folder: &Path) -> Result<Built, BuildError> {
    let mut is_named = false;
    let mut talk = |line: &str| {
        if !is_named {
            is_named = true;
            let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
            let name = whole.file_name().unwrap_or(folder.as_os_str()).display();
            talk::say(format_args!("building the plugin {name}"));
        }
        talk::say(line);
    };
    downbeat_builder::build(folder, &mut talk)
}

/// Loads a component. Compiling a large one for the first time takes a while, which somebody at a terminal is told.
pub(crate) fn load_component(path: &Path, sandbox: &Sandbox) -> Result<Arc<downbeat_sandbox::Plugin>, LoadError> {
    let (done, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        if std::io::stderr().is_terminal() {
            scope.spawn(move || {
                if wait.recv_timeout(SILENCE_MAX) == Err(RecvTimeoutError::Timeout) {
                    let name = path.file_name().unwrap_or(path.as_os_str()).display();
                    talk::say(format_args!("compiling {name} for this machine, once"));
                }
            });
        }
        let loaded = sandbox.load(path);
        drop(done);
        loaded
    })
}
