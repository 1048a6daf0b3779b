//! `downbeat test`: finds test files, plays their tests in virtual time, and says which came true. Nothing is executed but
//! the plugins' descriptions of themselves, which answers are held against.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use downbeat_journal::StateFilter;
use downbeat_rehearsal::coverage::Coverage;
use downbeat_rehearsal::file::{SUFFIX, TestFile};
use downbeat_rehearsal::junit::{self, CaseResult, TestCase, TestSuite};
use downbeat_rehearsal::recorded::Recorded;
use downbeat_rehearsal::rehearse::{Rehearsal, rehearse};
use downbeat_rehearsal::suite::{self, Runs, Suite, Test};
use downbeat_rehearsal::timeline::{duration, timeline};
use downbeat_rehearsal::verdict;
use downbeat_sandbox::Sandbox;
use downbeat_workflow::diagnostic::{self, Diagnostic, findings, render};
use downbeat_workflow::event::Record;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::spec::Source;
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use crate::arguments;
use crate::exit::{Exit, Fault};
use crate::files::read_text;
use crate::place::{Place, find_run};
use crate::policy::Guard;
use crate::recorded::{nothing, read_file};
use crate::resume::load_plan;
use crate::talk;
use crate::units::{self, counted};
use crate::workflow_file;

/// How many of the last lines of a timeline are shown; a report for CI systems has all of them.
const TIMELINE_LINES: usize = 60;

/// Folders that hold what was built or fetched, and no tests of this project.
pub(crate) const PASSED_OVER: [&str; 2] = ["target", "node_modules"];

pub(crate) fn test(place: &Place, arguments: &arguments::Test) -> Result<Exit, Fault> {
    let files = test_files(&arguments.paths)?;
    let mut session = Session {
        arguments,
        place,
        sandbox: place.sandbox()?,
        guard: Guard::of_looking(place)?,
        runs: BTreeMap::new(),
        workflows: BTreeMap::new(),
        suites: Vec::new(),
        counts: Counts::default(),
        began: Instant::now(),
    };
    for file in &files {
        session.file(file)?;
    }
    session.finish()
}

/// What the tests of all files have in common.
struct Session<'a> {
    arguments: &'a arguments::Test,
    place: &'a Place,
    sandbox: Sandbox,
    guard: Guard,
    /// By path, or by id, each read once.
    runs: BTreeMap<PathBuf, Result<Arc<Recorded>, String>>,
    /// By paths, its own and those of what is laid over it, each loaded once; `None` if it has errors, which were told.
    workflows: BTreeMap<Vec<PathBuf>, Option<(Arc<Plan>, Coverage)>>,
    suites: Vec<TestSuite>,
    counts: Counts,
    began: Instant,
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    filtered_out: usize,
    /// Files that could not be tested at all.
    refused: usize,
}

/// A test that was played.
struct Played {
    elapsed_us: u64,
    rehearsal: Rehearsal,
    found: Vec<Diagnostic>,
}

impl Session<'_> {
    fn file(&mut self, path: &Path) -> Result<(), Fault> {
        let text = read_text(path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))?;
        let source = Source::new(path.display().to_string(), text);
        let (file, mut found) = TestFile::parse(&source);
        let Some((plan, suite)) = file.and_then(|file| self.suite(path, &file, &mut found)) else {
            return self.refuse(&source, &found);
        };
        self.say_found(&source, &found);
        let chosen: Vec<&Test> = suite.tests.iter().filter(|test| self.is_chosen(test)).collect();
        self.counts.filtered_out += suite.tests.len() - chosen.len();
        if chosen.is_empty() {
            return Ok(());
        }
        if !self.arguments.json {
            talk::say(source.path.bold());
        }
        let mut cases = Vec::with_capacity(chosen.len());
        for test in chosen {
            let played = play(&plan, test);
            self.take_in(&source, test, &played)?;
            for (_, coverage) in self.workflows.values_mut().flatten().filter(|(known, _)| Arc::ptr_eq(known, &plan)) {
                coverage.take_in(&plan, &played.rehearsal.records);
            }
            cases.push(case(&source, test, &played));
        }
        self.suites.push(TestSuite { name: source.path, cases });
        Ok(())
    }

    /// What the file means for its workflow, unless one of them is wrong.
    fn suite(&mut self, path: &Path, file: &TestFile, found: &mut Vec<Diagnostic>) -> Option<(Arc<Plan>, Suite)> {
        let workflow = file.workflow.as_ref()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for (what, named) in
            std::iter::once(("workflow", workflow)).chain(file.overlays.iter().map(|overlay| ("overlay", overlay)))
        {
            let beside = folder.join(named.get_ref());
            if !beside.is_file() {
                let message = format!("there is no {what} at {}", beside.display());
                let missing = Diagnostic::error("no-workflow", named.span(), message);
                found.push(missing.hint("the path starts at the test file's own folder"));
                return None;
            }
            files.push(beside);
        }
        if !self.workflows.contains_key(&files) {
            let loaded = self.load(&files);
            self.workflows.insert(files.clone(), loaded);
        }
        let Some((plan, _)) = self.workflows.get(&files).and_then(Option::as_ref) else {
            let message = format!("the workflow {} has errors", files[0].display());
            let wrong = Diagnostic::error("workflow-errors", workflow.span(), message);
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            found.push(wrong.hint(format!("`downbeat check {}` shows them", files.join(" --with "))));
            return None;
        };
        let plan = plan.clone();
        let runs = self.recorded(path, file);
        let (suite, diagnostics) = suite::resolve(file, &plan, &runs);
        found.extend(diagnostics);
        diagnostic::sort(found);
        suite.map(|suite| (plan, suite))
    }

    /// The runs that the file's tests answer from, each read once.
    fn recorded(&mut self, path: &Path, file: &TestFile) -> Runs {
        let mut runs = Runs::new();
        for name in file.runs().map(|name| name.get_ref()) {
            let beside = path.parent().unwrap_or(Path::new("")).join(name);
            let is_file = name.contains('/') || name.ends_with(".downbeat") || beside.is_file();
            let key = if is_file { beside } else { PathBuf::from(name) };
            if !self.runs.contains_key(&key) {
                let read = match is_file {
                    true => read_file(&key, &mut nothing).map(|run| (run.plan, run.records)),
                    false => self.kept_run(name).map_err(|fault| fault.message),
                };
                let recorded = read.and_then(|(plan, records)| {
                    Recorded::of(plan, &records).map(Arc::new).map_err(|misplaced| misplaced.to_string())
                });
                self.runs.insert(key.clone(), recorded);
            }
            runs.insert(name.clone(), self.runs[&key].clone());
        }
        runs
    }

    /// A run of the state directory.
    fn kept_run(&self, name: &str) -> Result<(Arc<Plan>, Vec<Record>), Fault> {
        let journal = self.place.observe()?;
        let run = find_run(&journal, Some(name), StateFilter::Any)?.id;
        let records = journal.load(&run).map_err(Fault::engine)?.records;
        Ok((Arc::new(load_plan(&journal, &run)?), records))
    }

    fn load(&self, files: &[PathBuf]) -> Option<(Arc<Plan>, Coverage)> {
        let plan = Arc::new(workflow_file::check(&files[0], &files[1..], &self.sandbox, &self.guard).ok()?.plan?);
        let coverage = Coverage::new(&plan);
        Some((plan, coverage))
    }

    fn is_chosen(&self, test: &Test) -> bool {
        let filters = &self.arguments.filter;
        filters.is_empty() || filters.iter().any(|text| test.name.contains(text.as_str()))
    }

    /// Says what keeps a file from being tested.
    fn refuse(&mut self, source: &Source, found: &[Diagnostic]) -> Result<(), Fault> {
        self.counts.refused += 1;
        self.say_found(source, found);
        let errors = found.iter().filter(|found| found.is_error()).count();
        let message = format!("{}: {}; its tests were not run", source.path, counted(errors as u64, "error"));
        match self.arguments.json {
            true => {
                let line = json!({ "file": source.path, "result": "refused", "findings": findings(found, source) });
                talk::put_json(&line.to_string())?;
            }
            false if found.is_empty() => talk::say(&message),
            false => talk::say(format_args!("\n{message}")),
        }
        let result = CaseResult::Faulty(message, render(found, source, false));
        let case = TestCase { name: "(the file)".to_owned(), elapsed_us: 0, result, timeline: String::new() };
        self.suites.push(TestSuite { name: source.path.clone(), cases: vec![case] });
        Ok(())
    }

    fn say_found(&self, source: &Source, found: &[Diagnostic]) {
        if !found.is_empty() && !self.arguments.json {
            talk::say(render(found, source, talk::has_colours()).trim_end());
        }
    }

    /// Counts and tells a test.
    fn take_in(&mut self, source: &Source, test: &Test, played: &Played) -> Result<(), Fault> {
        let passed = played.found.is_empty();
        match passed {
            true => self.counts.passed += 1,
            false => self.counts.failed += 1,
        }
        if self.arguments.json {
            return talk::put_json(&line(source, test, played).to_string());
        }
        let word = if passed { "PASS".green().bold().to_string() } else { "FAIL".red().bold().to_string() };
        let took = format!("({})", duration(played.rehearsal.took_ms()));
        talk::say(format_args!("  {word}  {}  {}", test.name, took.dimmed()));
        if !passed {
            let picture = render(&played.found, source, talk::has_colours());
            let mut text = format!("\n{picture}what happened:\n");
            let lines = timeline(&played.rehearsal.run, &played.rehearsal.records);
            let earlier = lines.len().saturating_sub(TIMELINE_LINES);
            if earlier > 0 {
                let _ = writeln!(text, "  … {earlier} lines before these");
            }
            for line in &lines[earlier..] {
                let _ = writeln!(text, "  {line}");
            }
            talk::say(text);
        }
        Ok(())
    }

    fn finish(self) -> Result<Exit, Fault> {
        let Counts { passed, failed, filtered_out, refused } = self.counts;
        if let Some(path) = &self.arguments.junit {
            std::fs::write(path, junit::document(&self.suites))
                .map_err(|error| Fault::engine(format!("{}: {error}", path.display())))?;
        }
        if self.arguments.coverage {
            // Where no test was played, for one since its file was refused, nothing can be said of it.
            let is_tried = |(_, (_, coverage)): &(&Vec<PathBuf>, &(Arc<Plan>, Coverage))| coverage.runs() > 0;
            for (files, (plan, coverage)) in
                self.workflows.iter().filter_map(|(files, found)| Some((files, found.as_ref()?))).filter(is_tried)
            {
                match self.arguments.json {
                    true => {
                        let line =
                            json!({ "workflow": files[0].display().to_string(), "coverage": coverage.gaps(plan) });
                        talk::put_json(&line.to_string())?;
                    }
                    false => talk::put(&format!("\n{}", coverage.report(plan)))?,
                }
            }
        }
        if passed + failed + refused == 0 {
            return Err(Fault::new(Exit::Usage, "no test has a name that the filter lets through"));
        }
        if !self.arguments.json {
            let mut parts = vec![format!("{passed} passed")];
            parts.extend((failed > 0).then(|| format!("{failed} failed")));
            parts.extend((filtered_out > 0).then(|| format!("{filtered_out} filtered out")));
            parts.extend((refused > 0).then(|| format!("{} not run", counted(refused as u64, "file"))));
            let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let ran = counted((passed + failed) as u64, "test");
            talk::say(format_args!("\n{ran} in {}: {}", units::micros(micros), parts.join(", ")));
        }
        Ok(match (refused, failed) {
            (0, 0) => Exit::Success,
            (0, _) => Exit::WorkflowFailed,
            _ => Exit::Refused,
        })
    }
}

fn play(plan: &Arc<Plan>, test: &Test) -> Played {
    let began = Instant::now();
    let rehearsal = rehearse(plan, &test.setting, &mut |attempt| test.answer(attempt));
    let found = verdict::judge(test, &rehearsal);
    let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Played { elapsed_us, rehearsal, found }
}

/// A test for programs.
fn line(source: &Source, test: &Test, played: &Played) -> Value {
    let mut line = json!({
        "file": source.path,
        "test": test.name,
        "result": if played.found.is_empty() { "passed" } else { "failed" },
        "virtual-ms": played.rehearsal.took_ms(),
        "elapsed-us": played.elapsed_us,
    });
    if !played.found.is_empty() {
        line["findings"] = json!(findings(&played.found, source));
        line["timeline"] = json!(timeline(&played.rehearsal.run, &played.rehearsal.records));
    }
    line
}

fn case(source: &Source, test: &Test, played: &Played) -> TestCase {
    let result = match played.found.first() {
        None => CaseResult::Passed,
        Some(first) => {
            let (message, text) = (first.message.clone(), render(&played.found, source, false));
            match verdict::is_fault(first) {
                true => CaseResult::Faulty(message, text),
                false => CaseResult::Failed(message, text),
            }
        }
    };
    let timeline = timeline(&played.rehearsal.run, &played.rehearsal.records).join("\n");
    TestCase { name: test.name.clone(), elapsed_us: played.elapsed_us, result, timeline }
}

/// The test files that paths stand for, each once: themselves, or those in a folder and below it. At least one.
fn test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Fault> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            walk(path, &mut files)?;
            if files.len() == before {
                let fault = Fault::refused(format!("{}: there are no tests in this folder", path.display()));
                return Err(fault.hint(format!("tests are in files whose names end with `{SUFFIX}`")));
            }
        } else if is_test_file(path) {
            files.push(path.clone());
        } else {
            let fault = Fault::refused(format!("{}: this is no test file", path.display()));
            return Err(fault.hint(match is_of_policy(&path.file_name().unwrap_or_default().to_string_lossy()) {
                true => "`downbeat policy test` runs the tests of policies".to_owned(),
                false => format!("the name of a test file ends with `{SUFFIX}`"),
            }));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let unreadable = |error: std::io::Error| Fault::refused(format!("{}: {error}", folder.display()));
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        // A link to a folder is not followed: it may lead back.
        let kind = entry.file_type().map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is found from `.` is called as one would type it.
        let path = if folder == Path::new(".") { PathBuf::from(&name) } else { entry.path() };
        if kind.is_dir() && !name.starts_with('.') && !PASSED_OVER.contains(&name.as_str()) {
            walk(&path, files)?;
        } else if is_test_file(&path) && path.is_file() {
            // Also through a link, but no pipe: reading one that nobody writes to never ends.
            files.push(path);
        }
    }
    Ok(())
}

/// Whether the name is one of a test file. Those of policies are other ones: `downbeat policy test` runs them.
pub(crate) fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.ends_with(SUFFIX) && !is_of_policy(&name)
}

fn is_of_policy(name: &str) -> bool {
    name == "policy.test.toml" || name.ends_with(".policy.test.toml")
}
