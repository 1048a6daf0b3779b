//! The functions that are fuzzed, each the whole way from bytes to what the engine makes of them. They return if all is
//! well, whatever the bytes: refusing them is well, and so is taking them. They panic where the engine would, and where
//! what it took does not survive being written and read again.

use std::fs;
use std::sync::{LazyLock, OnceLock};

use downbeat_journal::{Journal, LogFilter, Mode, RunFilter};
use downbeat_sandbox::{Options, Sandbox};
use downbeat_workflow::advisory::Advisory;
use downbeat_workflow::diagnostic;
use downbeat_workflow::json::Json;
use downbeat_workflow::lock::Lock;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::policy::Policy;
use downbeat_workflow::resolve::{Surroundings, resolve};
use downbeat_workflow::rule::{Rule, Scope, StepView, Template};
use downbeat_workflow::spec::{Source, Spec};

/// A function to fuzz, by the name of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("workflow", workflow),
    ("expression", expression),
    ("component", component),
    ("journal", journal),
    ("archive", archive),
    ("lock", lock),
    ("policy", policy),
    ("crates", crates),
    ("advisory", advisory),
];

/// A workflow's text, to a plan or to diagnostics as a person reads them.
pub fn workflow(bytes: &[u8]) {
    let Some(source) = source("fuzz.toml", bytes) else { return };
    let (spec, found) = Spec::parse(&source);
    diagnostic::render(&found, &source, false);
    Spec::written_out(&source, true);
    let Some(spec) = spec else { return };
    let surroundings = Surroundings { directory: "/fuzz".into(), ..Surroundings::default() };
    let resolution = resolve(&source, &spec, &surroundings);
    diagnostic::render(&resolution.diagnostics, &source, true);
    for (other, found) in &resolution.others {
        diagnostic::render(found, other, false);
    }
    if let Some(plan) = resolution.plan {
        let written = serde_json::to_string(&plan).expect("a plan can be written");
        let read: Plan = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_string(&read).expect("it can be written again"), written);
    }
}

/// A rule or a text with holes, to what it comes to.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rule) = Rule::compile(text) {
        // What it comes to is one matter, that it is the same twice another.
        assert_eq!(rule.holds(&*WORLD), rule.holds(&*WORLD));
        rule.saw(&*WORLD);
        rule.foretell(&*WORLD);
    }
    if let Ok(template) = Template::compile(&serde_json::Value::from(text))
        && let Ok(rendered) = template.render(&*WORLD)
    {
        Json::parse(rendered.as_str().to_owned()).expect("what is rendered is JSON");
    }
}

/// A component's file, to a loaded plugin.
pub fn component(bytes: &[u8]) {
    static SANDBOX: OnceLock<(tempfile::TempDir, Sandbox)> = OnceLock::new();
    let (folder, sandbox) = SANDBOX.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let options = Options { instances_max: 1, ..Options::below(folder.path()) };
        let sandbox = Sandbox::new(options).expect("a sandbox can be made");
        (folder, sandbox)
    });
    let path = folder.path().join(format!("{:?}.wasm", std::thread::current().id()));
    fs::write(&path, bytes).expect("it can be written");
    // What can't be loaded is told why.
    if let Err(error) = sandbox.load(&path) {
        assert!(!error.to_string().is_empty());
    }
}

/// A journal's file, to all that is kept of its runs.
pub fn journal(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join("journal.db"), bytes).expect("it can be written");
    for mode in [Mode::Observe, Mode::Drive] {
        let Ok(journal) = Journal::open(folder.path(), mode) else { continue };
        let Ok(runs) = journal.runs(&RunFilter::default()) else { continue };
        for run in runs {
            if let Ok(loaded) = journal.load(&run.id)
                && let Ok(text) = journal.plan(&loaded.plan)
            {
                serde_json::from_str::<Plan>(&text).ok();
            }
            journal.load_log(&run.id, LogFilter::default()).ok();
            journal.requests(&run.id).ok();
        }
    }
}

/// An exported run's file, to the run.
pub fn archive(bytes: &[u8]) {
    let mut keep = |_, _: &_, from: &mut dyn std::io::Read| std::io::copy(from, &mut std::io::sink()).map(drop);
    if let Err(refusal) = downbeat_archive::read(&mut &*bytes, &mut keep) {
        assert!(!refusal.to_string().is_empty());
    }
}

/// A lock's text, to what it pins.
pub fn lock(bytes: &[u8]) {
    let Some(source) = source("downbeat.lock", bytes) else { return };
    match Lock::parse(&source) {
        Ok(lock) => {
            let written = lock.text();
            let again = Lock::parse(&Source { text: written.clone(), ..source }).expect("what was written can be read");
            assert_eq!(again.text(), written);
        }
        Err(found) => drop(diagnostic::render(&found, &source, false)),
    }
}

/// A policy's text, to its rules.
pub fn policy(bytes: &[u8]) {
    let Some(source) = source("policy.toml", bytes) else { return };
    if let Err((source, found)) = Policy::parse(source) {
        assert!(found.iter().any(|found| found.is_error()), "what is refused is refused for a reason");
        diagnostic::render(&found, &source, false);
    }
}

/// A component's bytes, to the crates that it says it was compiled from.
pub fn crates(bytes: &[u8]) {
    match downbeat_builder::crates_of(bytes) {
        Ok(crates) => assert!(crates.unwrap_or_default().is_sorted(), "one list, whatever it was put together from"),
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// An advisory's text, to what it says of versions.
pub fn advisory(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Advisory::parse(text) {
        Ok(advisory) => {
            for version in ["0.0.0", "1.2.3-rc.1", "18446744073709551615.0.0"] {
                advisory.is_about(&version.parse::<semver::Version>().expect("it is a version"));
            }
        }
        Err(fault) => assert!(!fault.is_empty()),
    }
}

fn source(path: &str, bytes: &[u8]) -> Option<Source> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(Source { path: path.into(), text: text.into(), overlays: Vec::new() })
}

/// What rules are evaluated in.
struct World {
    inputs: serde_json::Value,
    output: serde_json::Value,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let text = r#"{"text":"a text","number":7,"fraction":-0.5,"yes":true,"none":null,"list":[3,1,2,"x",[4]],
        "table":{"a":1,"b":{"c":"d"}},"long":"0123456789012345678901234567890123456789"}"#;
    let value: serde_json::Value = serde_json::from_str(text).expect("this is JSON");
    World { inputs: value.clone(), output: value }
});

impl Scope for World {
    fn inputs(&self) -> &serde_json::Value {
        &self.inputs
    }

    fn step(&self, name: &str) -> Option<StepView<'_>> {
        let view = StepView { status: "succeeded", output: Some(&self.output), failure: None, attempts: 1 };
        (name == "a").then_some(view)
    }

    fn run_id(&self) -> &str {
        "run"
    }

    fn workflow_name(&self) -> &str {
        "fuzz"
    }

    fn workflow_directory(&self) -> &str {
        "/fuzz"
    }
}
