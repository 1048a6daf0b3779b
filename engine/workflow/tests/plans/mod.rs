//! Plans from TOML for tests: the only plugin is `any`, which takes and answers anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use downbeat_workflow::description::{Component, Description, Digest};
use downbeat_workflow::diagnostic;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{Loaded, Surroundings, resolve};
use downbeat_workflow::spec::{Source, Spec};

/// The plan of a workflow, whose name and plugin are added.
pub(crate) fn plan(toml: &str) -> Plan {
    let anything = || Json::parse("{}").unwrap();
    let description = Description {
        name: "any".into(),
        version: "1.0.0".into(),
        summary: String::new(),
        input_schema: anything(),
        output_schema: anything(),
        wants: Vec::new(),
    };
    let component = Component { digest: Digest::of(b"any"), description };
    let any = Loaded { component, path: "/any.wasm".into() };
    let text = format!("name = \"w\"\nplugins.any = \"any.wasm\"\n{toml}");
    let source = Source { path: "w.toml".into(), text };
    let (spec, mut diagnostics) = Spec::parse(&source);
    let surroundings = Surroundings { directory: "/flows".into(), plugins: BTreeMap::from([("any".into(), Ok(any))]) };
    let resolution = spec.map(|spec| resolve(&source, &spec, &surroundings));
    let mut plan = None;
    if let Some(resolution) = resolution {
        diagnostics.extend(resolution.diagnostics);
        plan = resolution.plan;
    }
    plan.unwrap_or_else(|| panic!("{}", diagnostic::render(&diagnostics, &source, false)))
}

/// A plan of so many steps, each of which needs the one before it.
pub(crate) fn chain(length: usize) -> Plan {
    let mut toml = String::from("[steps.s0]\nuse = \"any\"\n");
    for index in 1..length {
        write!(toml, "[steps.s{index}]\nuse = \"any\"\nneeds = [\"s{}\"]\n", index - 1).unwrap();
    }
    plan(&toml)
}
