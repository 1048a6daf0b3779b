//! The policies of this machine: found where those put them who answer for it, and held against what is to be run; and
//! `downbeat policy`, which shows, checks and tests them. What a policy says and means is known in the pure core.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use downbeat_sandbox::{led_to, on_the_way, program_paths};
use downbeat_workflow::capability::{Grant, Grants, Limits};
use downbeat_workflow::diagnostic::{self, Diagnostic};
use downbeat_workflow::permission::cover::at_home;
use downbeat_workflow::plan::{Plan, Signer, Use};
use downbeat_workflow::policy::{
    Candidate, Cases, Facts, Policy, Rule, TESTS_SUFFIX, apply, paths, programs, unbuildable, unsigned,
};
use downbeat_workflow::spec::Source;

use crate::arguments::{PolicyCheck, PolicyShow, PolicyTest};
use crate::exit::{Exit, Fault};
use crate::files::{read_bytes, read_named_text, read_text};
use crate::place::Place;
use crate::units::counted;
use crate::{signature, talk};

/// Where the policy of a machine is.
const SYSTEM: &str = "/etc/downbeat/policy.toml";

/// Where another policy may be named.
const VARIABLE: &str = "DOWNBEAT_POLICY";

/// Signers of a component that no policy knows, and that the plan has nevertheless. Anybody may sign anything; a few are news.
const STRANGERS_MAX: usize = 8;

/// What every command that judges or runs a workflow asks.
#[derive(Default)]
pub(crate) struct Guard {
    policies: Vec<Policy>,
    /// Whether `downbeat.lock` binds.
    locks: bool,
    /// Whether nothing is judged but what is compiled: nothing is run.
    only_looks: bool,
    /// Whether a component was refused before it was loaded, since somebody asked.
    has_refused: Cell<bool>,
}

impl Guard {
    /// All policies that there are for this command. One that is named or found and can't be read, or has a fault, refuses
    /// everything: what it would have forbidden is not known.
    pub(crate) fn of(place: &Place) -> Result<Guard, Fault> {
        let mut policies = Vec::new();
        for path in found(place)? {
            policies.push(read(&path)?);
        }
        Ok(Guard { policies, locks: true, only_looks: false, has_refused: Cell::new(false) })
    }

    /// For commands that only look, and run nothing: but compiling a source does run what its author wants.
    pub(crate) fn of_looking(place: &Place) -> Result<Guard, Fault> {
        Ok(Guard { only_looks: true, ..Guard::of(place)? })
    }

    /// For what compiles whatever it is given, and runs nothing.
    pub(crate) fn none() -> Guard {
        Guard::default()
    }

    /// Whether there is no policy.
    pub(crate) fn is_open(&self) -> bool {
        self.policies.is_empty()
    }

    /// Whether `downbeat.lock` is asked before a source is compiled.
    pub(crate) fn asks_locks(&self) -> bool {
        self.locks
    }

    /// Whether nothing is asked but what may be compiled.
    pub(crate) fn only_looks(&self) -> bool {
        self.only_looks
    }

    /// Those whose signatures the policies know: name and key.
    pub(crate) fn signers(&self) -> Vec<(String, String)> {
        let signers = self.policies.iter().flat_map(|policy| &policy.signers);
        signers.map(|signer| (signer.name.clone(), signer.key.clone())).collect()
    }

    /// Whether a component may be compiled and asked what it is: not if its signature is missing. What a rule says of
    /// components by the name that they give themselves is looked at once they are known.
    pub(crate) fn before_loading(
        &self,
        workflow: &str,
        directory: &Path,
        environments: &[String],
        path: &Path,
    ) -> Result<(), String> {
        if self.only_looks || !self.policies.iter().any(|policy| policy.rules.iter().any(|rule| rule.signers.is_some()))
        {
            return Ok(());
        }
        let path = crate::workflow_file::real_component_path(path)?;
        // What can't be read, or is too large to be a component, is told by whoever loads it.
        let Some(bytes) = path.is_file().then(|| read_bytes(&path).ok()).flatten() else { return Ok(()) };
        let digest = downbeat_workflow::description::Digest::of(&bytes);
        let known = self.signers();
        let known: Vec<&str> = known.iter().map(|(_, key)| key.as_str()).collect();
        let candidate = Candidate {
            workflow: &[workflow, &directory.display().to_string()],
            environments,
            path: &path.display().to_string(),
            signed: &signature::signed_by(&path, &digest, &known),
            outdated: &signature::outdated(&path, &digest, &known),
            digest: &digest,
        };
        match self.policies.iter().find_map(|policy| unsigned(policy, &candidate)) {
            Some(reason) => {
                self.has_refused.set(true);
                Err(reason)
            }
            None => Ok(()),
        }
    }

    /// Whether a source folder may be compiled for a workflow, if it has to be. Compiling runs what its author wants, outside of
    /// any sandbox.
    pub(crate) fn before_building(
        &self,
        workflow: &str,
        directory: &Path,
        environments: &[String],
        folder: &Path,
    ) -> Result<(), String> {
        if self.policies.is_empty() || !folder.is_dir() || downbeat_builder::built(folder).is_some() {
            return Ok(());
        }
        self.building(&[workflow, &directory.display().to_string()], environments, folder)
    }

    /// The same of a folder that no workflow names: every rule counts that may be about it.
    pub(crate) fn before_building_alone(&self, folder: &Path) -> Result<(), String> {
        if self.policies.is_empty() || !folder.is_dir() || downbeat_builder::built(folder).is_some() {
            return Ok(());
        }
        self.building(&[], &[], folder)
    }

    fn building(&self, workflow: &[&str], environments: &[String], folder: &Path) -> Result<(), String> {
        let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        let folder = folder.display().to_string();
        let reason = self.policies.iter().find_map(|policy| unbuildable(policy, workflow, environments, &folder));
        self.has_refused.set(self.has_refused.get() || reason.is_some());
        reason.map_or(Ok(()), Err)
    }

    /// Whether a component was refused before it was loaded since this was asked last.
    pub(crate) fn take_refused(&self) -> bool {
        self.has_refused.take()
    }

    /// A policy is not taken from the folder of the workflow that it is to hold: whoever writes the one could write the
    /// other.
    pub(crate) fn apart_from(&self, directory: &Path) -> Result<(), Fault> {
        if self.only_looks {
            return Ok(());
        }
        let lies_in = |policy: &&Policy| {
            on_the_way(Path::new(&policy.source.path)).iter().any(|path| path.parent() == Some(directory))
        };
        match self.policies.iter().find(lies_in) {
            None => Ok(()),
            Some(policy) => {
                let message =
                    format!("the policy {} lies in a workflow's own folder; nothing was run", policy.source.path);
                let hint = "a policy binds those who write the workflows, so it is kept where they can't change it";
                Err(Fault::new(Exit::Forbidden, message).hint(hint))
            }
        }
    }

    /// A workflow's file lies where it seems to, so that rules about its folder are about what is run: it is no link to one in another
    /// folder.
    pub(crate) fn lies_within(&self, directory: &Path, file: &Path) -> Result<(), Fault> {
        // What can't be found is told by whoever reads it.
        let Ok(real) = file.canonicalize() else { return Ok(()) };
        if self.only_looks || self.policies.is_empty() || real.starts_with(directory) {
            return Ok(());
        }
        let message = format!("{} is a link to {}; nothing was run", file.display(), real.display());
        let hint = "policies know a workflow by its folder, so under one its file is named where it is";
        Err(Fault::new(Exit::Forbidden, message).hint(hint))
    }

    /// What policies say of a workflow they say of its folder, and it is what is laid over it as well: so that has to lie
    /// there, wherever a link to it may be.
    pub(crate) fn overlays_within(&self, directory: &Path, overlays: &[PathBuf]) -> Result<(), Fault> {
        let lies_within = |overlay: &Path| overlay.canonicalize().is_ok_and(|path| path.starts_with(directory));
        let asks = !self.only_looks && !self.policies.is_empty();
        match overlays.iter().find(|overlay| asks && !lies_within(overlay)) {
            None => Ok(()),
            Some(overlay) => {
                let message = format!("{} does not lie in the workflow's folder; nothing was run", overlay.display());
                let hint = format!(
                    "policies know a workflow by its folder, so under one only what lies in {} or below it is laid over it",
                    directory.display()
                );
                Err(Fault::new(Exit::Forbidden, message).hint(hint))
            }
        }
    }

    /// Holds a plan that is not run yet: what is withheld is taken out of it.
    pub(crate) fn hold(&self, plan: &mut Plan) -> Vec<(Source, Vec<Diagnostic>)> {
        match self.only_looks || self.policies.is_empty() {
            true => Vec::new(),
            false => {
                let facts = self.facts(plan);
                let mut found = apply(plan, &self.policies, &facts);
                found.extend(
                    self.policies.iter().filter_map(|policy| Some((policy.source.clone(), written(policy, plan)?))),
                );
                found
            }
        }
    }

    /// Holds the plan of a run that has begun. It keeps its plan, so that nothing can be taken out of it any more.
    pub(crate) fn hold_kept(&self, plan: &Plan) -> Result<(), Fault> {
        for (_, directory, _) in plan.workflows() {
            self.apart_from(Path::new(directory))?;
        }
        let mut now = plan.clone();
        let found = self.hold(&mut now);
        let granted = |plan: &Plan| -> Vec<Grants> {
            plan.steps.iter().filter_map(|step| step.uses().map(|uses| uses.grants.clone())).collect()
        };
        let (asked, left) = (granted(plan), granted(&now));
        let bounded = |plan: &Plan| -> Vec<(Option<u64>, Limits)> {
            let limits = |uses: &Use| Limits { lowered: Vec::new(), ..uses.limits.clone() };
            plan.steps.iter().map(|step| (step.timeout_ms, step.uses().map(limits).unwrap_or_default())).collect()
        };
        let is_same = asked.len() == left.len()
            && asked.iter().zip(&left).all(|(asked, left)| asked.are_those_of(left))
            && bounded(plan) == bounded(&now);
        let is_refused = found.iter().flat_map(|(_, found)| found).any(Diagnostic::is_error);
        if !is_refused && is_same {
            return Ok(());
        }
        for (source, found) in &found {
            talk::say(diagnostic::render(found, source, true));
        }
        let message = format!("today's policy refuses the run of `{}`; nothing was run", plan.name);
        Err(Fault::new(Exit::Forbidden, message).hint("a run keeps the plan that it began with: begin another one"))
    }

    /// Writes into a plan who has signed its components: by the name that a policy has for the key, those first.
    pub(crate) fn note_signers(&self, plan: &mut Plan) {
        let known = self.signers();
        for plugin in &mut plan.plugins {
            let (path, digest) = (Path::new(&plugin.path), &plugin.component.digest);
            let own: Vec<&str> = known.iter().map(|(_, key)| key.as_str()).collect();
            let mut keys = signature::signed_by(path, digest, &own);
            let others = signature::of(path, digest).into_iter().filter(|key| !own.contains(&key.as_str()));
            keys.extend(others.take(STRANGERS_MAX));
            let name = |key: &String| known.iter().find(|(_, of)| of == key).map(|(name, _)| name.clone());
            plugin.signers = keys.into_iter().map(|key| Signer { name: name(&key), key }).collect();
        }
    }

    fn facts(&self, plan: &Plan) -> Facts {
        let known: Vec<&str> =
            self.policies.iter().flat_map(|policy| &policy.signers).map(|signer| signer.key.as_str()).collect();
        let mut facts = Facts::default();
        for plugin in &plan.plugins {
            let (path, digest) = (Path::new(&plugin.path), &plugin.component.digest);
            facts.signed.insert(digest.clone(), signature::signed_by(path, digest, &known));
            facts.outdated.insert(digest.clone(), signature::outdated(path, digest, &known));
        }
        let (granted, forbidden) = programs(plan, &self.policies);
        for program in granted.iter().map(String::as_str).chain(forbidden.iter().copied()) {
            let paths = program_paths(program, forbidden.iter().copied());
            if !paths.is_empty() {
                facts.programs.insert(program.to_owned(), paths);
            }
        }
        for path in paths(plan, &self.policies) {
            let led = led_to(&path).map(|led| led.display().to_string()).unwrap_or_default();
            facts.files.insert(path, led);
        }
        facts
    }
}

/// What is wrong with a plan whose steps could write to the policy itself: the next run would be held by what they wrote.
fn written(policy: &Policy, plan: &Plan) -> Option<Vec<Diagnostic>> {
    let places = on_the_way(Path::new(&policy.source.path));
    let mut found = Vec::new();
    for (workflow, directory, steps) in plan.workflows() {
        for step in &plan.steps[steps] {
            let Some(uses) = step.uses() else { continue };
            for file in uses.grants.files.iter().filter(|file| file.write) {
                let grant = Grant::Files(file.clone());
                let line = uses.place_of(&grant).map(|written| format!("{written}: "));
                let Grant::Files(home) = at_home(grant, directory) else { continue };
                if places.iter().any(|place| place.starts_with(&home.path)) {
                    let message = format!(
                        "{}the step `{}` of `{workflow}` could write to this policy: it is granted `{file}`",
                        line.unwrap_or_default(),
                        step.name
                    );
                    found.push(Diagnostic::error("policy", 0..0, message).label("lies in what is granted"));
                }
            }
        }
    }
    Some(found).filter(|found| !found.is_empty())
}

/// The policies that hold here: those that are named, and those that are there.
fn found(place: &Place) -> Result<Vec<PathBuf>, Fault> {
    let mut paths = place.policy.clone();
    paths.extend(std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
    let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = from("XDG_CONFIG_HOME").or_else(|| from("HOME").map(|home| home.join(".config")));
    let usual = [Some(PathBuf::from(SYSTEM)), user.map(|folder| folder.join("downbeat/policy.toml"))];
    for path in usual.into_iter().flatten() {
        match path.symlink_metadata() {
            Ok(_) => paths.push(path),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            // Whether there is one is not known, and so not what it says.
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        }
    }
    // One that is named twice is one.
    let mut known = Vec::new();
    paths.retain(|path| {
        let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_new = !known.contains(&whole);
        known.push(whole);
        is_new
    });
    Ok(paths)
}

fn unreadable(path: &Path, reason: &str) -> Fault {
    let message = format!("the policy {} can't be read: {reason}; nothing is run without it", path.display());
    Fault::new(Exit::Forbidden, message)
        .hint("what it forbids is not known, so everything is refused until it can be read")
}

fn read(path: &Path) -> Result<Policy, Fault> {
    let text = read_named_text(path).map_err(|error| unreadable(path, &error))?;
    Policy::parse(Source::new(path.display().to_string(), text)).map_err(|(source, found)| {
        talk::say(diagnostic::render(&found, &source, true));
        let message = format!("the policy {} has errors; nothing is run without it", path.display());
        Fault::new(Exit::Forbidden, message)
            .hint("`downbeat policy check FILE` checks a policy before it is put in place")
    })
}

/// `downbeat policy show`
pub(crate) fn show(place: &Place, _: &PolicyShow) -> Result<Exit, Fault> {
    let guard = Guard::of(place)?;
    if guard.policies.is_empty() {
        talk::say("there is no policy: workflows may do whatever they grant");
        return Ok(Exit::Success);
    }
    for policy in &guard.policies {
        let mut text = format!("{}  {}\n", policy.source.path, policy.digest.short());
        for rule in &policy.rules {
            let (line, mode, does) = (policy.line(&rule.span), rule.mode.word(), asks(rule).join(", "));
            text.push_str(&format!("  {line:>4}  {mode:8}  {}: {does}\n", rule.name));
            if !rule.description.is_empty() {
                text.push_str(&format!("                  {}\n", rule.description));
            }
        }
        talk::put(&text)?;
    }
    Ok(Exit::Success)
}

/// What a rule asks for, in words.
fn asks(rule: &Rule) -> Vec<&'static str> {
    let parts = [
        (rule.allow.is_some(), "allows only"),
        (rule.forbid.is_some(), "forbids"),
        (!rule.limits.is_empty(), "bounds limits"),
        (rule.sources.is_some(), "names sources"),
        (rule.signers.is_some(), "asks for a signature"),
        (rule.approvals.is_some(), "asks for an approval"),
        (!rule.require.is_empty(), "asks for protections of programs"),
    ];
    parts.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, words)| words).collect()
}

/// `downbeat policy check`
pub(crate) fn check(arguments: &PolicyCheck) -> Result<Exit, Fault> {
    let mut exit = Exit::Success;
    for path in &arguments.policies {
        match read(path) {
            Ok(policy) => {
                if !policy.warnings.is_empty() {
                    talk::say(diagnostic::render(&policy.warnings, &policy.source, true));
                }
                let rules = counted(policy.rules.len() as u64, "rule");
                talk::say(format_args!("{}: {rules}, no errors", path.display()));
            }
            Err(fault) => {
                exit = Exit::Forbidden;
                fault.print();
            }
        }
    }
    Ok(exit)
}

/// `downbeat policy test`
pub(crate) fn test(arguments: &PolicyTest) -> Result<Exit, Fault> {
    let (mut passed, mut failed) = (0, 0);
    for path in &arguments.tests {
        let text = read_text(path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))?;
        let source = Source::new(path.display().to_string(), text);
        let cases = Cases::parse(&source).map_err(|found| {
            talk::say(diagnostic::render(&found, &source, true));
            Fault::refused(format!("{}: the tests have errors", path.display()))
        })?;
        let policy = read(&policy_of(path, &cases)?)?;
        for case in &cases.cases {
            let (outcome, said) = case.play(&policy);
            let rules = case.rules(&policy, &said);
            let is_by = case.by.as_ref().is_none_or(|by| {
                let (mut by, mut rules): (Vec<&str>, Vec<&str>) =
                    (by.iter().map(String::as_str).collect(), rules.clone());
                by.sort_unstable();
                rules.sort_unstable();
                by == rules
            });
            if outcome == case.expect && is_by {
                passed += 1;
                talk::put(&format!("ok    {}: {}\n", case.name, outcome.word()))?;
                continue;
            }
            failed += 1;
            let by = if rules.is_empty() { String::new() } else { format!(" by {}", rules.join(", ")) };
            let wanted = case.by.as_ref().map_or_else(String::new, |by| format!(" by {}", by.join(", ")));
            let expected = case.expect.word();
            talk::put(&format!("FAIL  {}: {}{by}, and {expected}{wanted} was expected\n", case.name, outcome.word()))?;
            if !said.is_empty() {
                talk::say(diagnostic::render(&said, &policy.source, true));
            }
        }
    }
    talk::say(format_args!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { Exit::Success } else { Exit::WorkflowFailed })
}

/// The policy that a file of tests is about: the one that it names, or the one beside it of its name.
fn policy_of(tests: &Path, cases: &Cases) -> Result<PathBuf, Fault> {
    let folder = tests.parent().unwrap_or(Path::new(""));
    if let Some(named) = &cases.policy {
        return Ok(folder.join(named));
    }
    let name = tests.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.strip_suffix(TESTS_SUFFIX) {
        Some(name) => Ok(folder.join(format!("{name}.toml"))),
        None => {
            let fault =
                Fault::refused(format!("{}: no policy is named, and none follows from the name", tests.display()));
            Err(fault.hint("write `policy = \"policy.toml\"`, or call the tests `policy.test.toml`"))
        }
    }
}
