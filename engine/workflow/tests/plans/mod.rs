//! Plans from TOML for tests: the only plugin is `any`, which takes and answers anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use downbeat_workflow::description::{Component, Description, Digest};
use downbeat_workflow::diagnostic;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{File, Loaded, Surroundings, resolve};
use downbeat_workflow::spec::{Source, Spec};

/// The plan of a workflow, whose name and plugin are added.
pub(crate) fn plan(toml: &str) -> Plan {
    plan_with(toml, &[])
}

/// The same of a workflow that opens others: their files and texts, names and plugins added.
pub(crate) fn plan_with(toml: &str, files: &[(&str, &str)]) -> Plan {
    let whole = |name: &str, toml: &str| format!("name = \"{name}\"\nplugins.any = \"any.wasm\"\n{toml}");
    let files: Vec<(&str, String)> =
        files.iter().map(|(path, toml)| (*path, whole(path.trim_end_matches(".toml"), toml))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    plan_of(&whole("w", toml), &files)
}

/// The plan of a whole file that may open others.
pub(crate) fn plan_of(text: &str, files: &[(&str, &str)]) -> Plan {
    let anything = || Json::parse("{}").unwrap();
    let description = Description {
        name: "any".into(),
        version: "1.0.0".into(),
        summary: String::new(),
        input_schema: anything(),
        output_schema: anything(),
        wants: Vec::new(),
    };
    let component = Component { digest: Digest::of(b"any"), description, items: true };
    let any = Loaded { component, path: "/any.wasm".into() };
    let plugins = BTreeMap::from([("any".to_owned(), Ok(any))]);
    let source = |path: &str, text: &str| Source::new(path, text);
    let file = |(path, text): &(&str, &str)| {
        let source = source(path, text);
        let (spec, faults) = Spec::parse(&source);
        let file = File { source, spec, faults, directory: "/flows".to_owned(), plugins: plugins.clone() };
        (format!("/flows/{path}"), Ok(Arc::new(file)))
    };
    let workflows = files.iter().map(file).collect();
    let source = source("w.toml", text);
    let (spec, mut diagnostics) = Spec::parse(&source);
    let surroundings = Surroundings { directory: "/flows".into(), plugins, workflows };
    let resolution = spec.map(|spec| resolve(&source, &spec, &surroundings));
    let mut plan = None;
    let mut wrong = String::new();
    if let Some(resolution) = resolution {
        diagnostics.extend(resolution.diagnostics);
        for (source, diagnostics) in &resolution.others {
            wrong += &diagnostic::render(diagnostics, source, false);
        }
        plan = resolution.plan;
    }
    plan.unwrap_or_else(|| panic!("{}{wrong}", diagnostic::render(&diagnostics, &source, false)))
}

/// A plan of so many steps, each of which needs the one before it.
pub(crate) fn chain(length: usize) -> Plan {
    let mut toml = String::from("[steps.s0]\nuse = \"any\"\n");
    for index in 1..length {
        write!(toml, "[steps.s{index}]\nuse = \"any\"\nneeds = [\"s{}\"]\n", index - 1).unwrap();
    }
    plan(&toml)
}
