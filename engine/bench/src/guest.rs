//! The guest that the figures are measured with, its input, and the workflows made of it. Everything is text here: which
//! engine runs it is decided by whoever measures.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use downbeat_sandbox::Sandbox;
use downbeat_workflow::description::{Component, Description, Digest};
use downbeat_workflow::diagnostic;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{Loaded, Surroundings, resolve};
use downbeat_workflow::spec::{Source, Spec};
use serde_json::{Map, Value};

/// Bytes of the JSON that goes into a step and comes out of it.
pub(crate) const PAYLOAD: usize = 1024;

/// The component's bytes.
pub(crate) fn component() -> Result<Vec<u8>> {
    wat::parse_str(include_str!("../guest/echo.wat")).context("guest/echo.wat is no component")
}

/// The same guest, looking at the clock and drawing a number first.
pub(crate) fn using() -> Result<Vec<u8>> {
    let imports = r#"
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (alias export $clock "now" (func $now))
  (alias export $random "get-random-u64" (func $draw))
  (core func $now_lowered (canon lower (func $now)))
  (core func $draw_lowered (canon lower (func $draw)))
  (core module $guest
    (import "host" "now" (func $now (result i64)))
    (import "host" "draw" (func $draw (result i64)))"#;
    let given = r#"(core instance $host (export "now" (func $now_lowered)) (export "draw" (func $draw_lowered)))
  (core instance $guest (instantiate $guest (with "host" (instance $host))))"#;
    let uses = "(drop (call $now)) (drop (call $draw)) ";
    let first = "(if (i32.eq (local.get $input_len) (i32.const 2))";
    let text = include_str!("../guest/echo.wat")
        .replace("\n  (core module $guest", imports)
        .replace("(core instance $guest (instantiate $guest))", given)
        .replace(first, &format!("{uses}{first}"));
    wat::parse_str(text).context("the guest that uses something is no component")
}

/// Writes the component into a folder, and gives its path.
pub(crate) fn write_component(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("echo.wasm");
    std::fs::write(&path, component()?).with_context(|| format!("{} can't be written", path.display()))?;
    Ok(path)
}

/// The text that makes [`input`] a payload.
pub(crate) fn text() -> String {
    "x".repeat(PAYLOAD - r#"{"text":""}"#.len())
}

/// A step's input: a JSON object of [`PAYLOAD`] bytes.
pub(crate) fn input() -> String {
    format!(r#"{{"text":"{}"}}"#, text())
}

/// A workflow of so many steps, each of which takes the one before's output for its input.
pub(crate) fn chain(steps: usize) -> String {
    let mut toml = head("chain");
    for step in 0..steps {
        match step.checked_sub(1) {
            None => toml.push_str("[steps.s0]\nuse = \"echo\"\nwith = { text = \"${inputs.text}\" }\n"),
            Some(before) => write!(
                toml,
                "[steps.s{step}]\nneeds = [\"s{before}\"]\nuse = \"echo\"\n\
                 with = {{ text = \"${{steps.s{before}.output.text}}\" }}\n"
            )
            .expect("a String takes any text"),
        }
    }
    toml
}

/// A workflow of so many steps, none of which needs another.
pub(crate) fn wide(steps: usize) -> String {
    let mut toml = head("wide");
    for step in 0..steps {
        write!(toml, "[steps.s{step}]\nuse = \"echo\"\nwith = {{ text = \"${{inputs.text}}\" }}\n")
            .expect("a String takes any text");
    }
    toml
}

/// A workflow of so many steps in a row whose first one gets a setback and is tried again an hour later.
pub(crate) fn parked(steps: usize) -> String {
    let first = "[steps.s0]\nuse = \"echo\"\nwith = { text = \"${inputs.text}\" }\n";
    chain(steps).replace(first, "[steps.s0]\nuse = \"echo\"\nwith = {}\nretry = { attempts = 2, delay = \"1h\" }\n")
}

/// A workflow of so many steps in a row, each of which counts one up in a document of a kibibyte: what a shell script, a
/// Makefile or a Python script would do as well. The guest lies beside the workflow's file.
pub(crate) fn count(steps: usize) -> String {
    let mut toml = head("count");
    for step in 0..steps {
        let (needs, from) = match step.checked_sub(1) {
            None => (String::new(), "inputs".to_owned()),
            Some(before) => (format!("needs = [\"s{before}\"]\n"), format!("steps.s{before}.output")),
        };
        write!(
            toml,
            "[steps.s{step}]\n{needs}use = \"echo\"\nwith = {{ n = \"${{{from}.n + 1}}\", text = \"${{{from}.text}}\" }}\n"
        )
        .expect("a String takes any text");
    }
    write!(toml, "[outputs]\nn = \"${{steps.s{}.output.n}}\"\n", steps.saturating_sub(1))
        .expect("a String takes any text");
    toml.replace("[plugins]", "n = { type = \"integer\" }\n[plugins]")
}

/// A workflow of one step for each item of the input `items`.
pub(crate) fn items() -> String {
    let toml = head("items").replace("[plugins]", "items = { type = \"list\" }\n[plugins]");
    toml + "[steps.each]\nforeach = \"${inputs.items}\"\nuse = \"echo\"\n\
            with = { text = \"${inputs.text}\", n = \"${item}\" }\n"
}

/// A workflow that waits for a signal, or an hour.
pub(crate) fn waiting() -> String {
    head("waiting")
        + "[signals.go]\n[steps.park]\nwait = { signal = \"go\", for = \"1h\" }\n\
           [steps.after]\nneeds = [\"park\"]\nuse = \"echo\"\nwith = { text = \"${inputs.text}\" }\n"
}

fn head(name: &str) -> String {
    format!("name = \"{name}\"\n[inputs]\ntext = {{ type = \"string\" }}\n[plugins]\necho = \"echo.wasm\"\n")
}

/// The guest as a sandbox has loaded it.
pub(crate) fn load(sandbox: &Sandbox, component: &Path) -> Result<Loaded> {
    let plugin = sandbox.load(component)?;
    Ok(Loaded { component: plugin.component().clone(), path: component.display().to_string() })
}

/// The guest as it says of itself, for runs without any WebAssembly.
pub(crate) fn described() -> Loaded {
    let anything = || Json::from(Value::Object(Map::new()));
    let description = Description {
        name: "echo".into(),
        version: "0.1.0".into(),
        summary: "Answers with its input.".into(),
        input_schema: anything(),
        output_schema: anything(),
        wants: Vec::new(),
    };
    let component = Component { digest: Digest::of(b"echo"), description, items: false };
    Loaded { component, path: "/echo.wasm".into() }
}

/// The plan of one of these workflows.
pub(crate) fn plan(toml: String, echo: Loaded) -> Result<Plan> {
    let source = Source::new("bench.toml", toml);
    let (spec, mut diagnostics) = Spec::parse(&source);
    let plugins = [("echo".to_owned(), Ok(echo))].into();
    let resolution = spec.map(|spec| {
        resolve(&source, &spec, &Surroundings { directory: "/".into(), plugins, ..Surroundings::default() })
    });
    let plan = resolution.and_then(|resolution| {
        diagnostics.extend(resolution.diagnostics);
        resolution.plan
    });
    plan.ok_or_else(|| anyhow!(diagnostic::render(&diagnostics, &source, false)))
}

#[cfg(test)]
mod tests {
    use downbeat_sandbox::Options;

    use super::*;

    #[test]
    fn every_workflow_of_the_figures_resolves_without_a_complaint() {
        let folder = tempfile::tempdir().unwrap();
        let component = write_component(folder.path()).unwrap();
        let sandbox = Sandbox::new(Options::below(folder.path())).unwrap();
        for (toml, steps) in [(chain(3), 3), (wide(4), 4), (parked(5), 5), (count(6), 6), (items(), 2), (waiting(), 2)]
        {
            let plan = plan(toml, load(&sandbox, &component).unwrap()).unwrap();
            assert_eq!(plan.steps.len(), steps);
        }
    }

    #[test]
    fn the_guest_is_what_it_is_described_as_without_webassembly() {
        let folder = tempfile::tempdir().unwrap();
        let component = write_component(folder.path()).unwrap();
        let sandbox = Sandbox::new(Options::below(folder.path())).unwrap();
        let loaded = load(&sandbox, &component).unwrap();
        assert_eq!(loaded.component.description, described().component.description);
    }

    #[test]
    fn the_input_is_a_payload_of_a_kibibyte() {
        let value: Value = serde_json::from_str(&input()).unwrap();
        assert_eq!((value["text"].as_str(), input().len()), (Some(text().as_str()), PAYLOAD));
    }
}
