//! Whatever is in a file: reading, resolving and showing it ends, without a panic, soon; and a plan survives its journal.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod components;

use std::path::Path;
use std::time::{Duration, Instant};

use downbeat_workflow::diagnostic::{findings, render};
use downbeat_workflow::plan::Plan;
use downbeat_workflow::rule::{Rule, Template};
use downbeat_workflow::spec::{Source, Spec};
use proptest::prelude::*;

fn cases() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.into_iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn digest(text: String, colour: bool) -> (Option<Plan>, String) {
    look(Source::new("x.toml", text), colour)
}

fn look(source: Source, colour: bool) -> (Option<Plan>, String) {
    let (plan, diagnostics) = components::check(&source);
    assert!(diagnostics.iter().all(|found| found.span.end <= source.text.len().max(1)), "{diagnostics:?}");
    findings(&diagnostics, &source);
    let (out, _) = Spec::written_out(&source, colour);
    if let Some((plan, out)) = plan.as_ref().zip(out) {
        let (again, found) = components::check(&Source::new("out.toml", out.clone()));
        let again = again.unwrap_or_else(|| panic!("{out}\n{found:?}"));
        assert!(again.does_the_same(plan), "{out}");
    }
    (plan, render(&diagnostics, &source, colour))
}

/// What is likely to be in the wrong place.
const SCRAPS: &[&str] = &[
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\\",
    "\\u00e9",
    "${",
    "$${",
    "}",
    "é",
    "\u{0}",
    "needs = [\"a\"]\n",
    "[steps.a]\n",
    "use = \"any\"\n",
    "when = \"",
    "with.x = ",
    "steps.a.output",
    "inputs",
    " && ",
    "-",
    "1e999",
    "99999999999999999999",
    "true",
    "#",
    "[[on]]\n",
    "\u{feff}",
    "name = 1\n",
    "(",
    ")",
    ".map(x, x)",
    "0x",
    "inf",
    "[templates.a]\n",
    "[defaults]\n",
    "[vars]\n",
    "like = \"base\"\n",
    "vars.what = \"${vars.",
    "${vars.host}",
    "remove = [\"steps.a\"]\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_something_cut_out_or_put_in_is_told_about(
        case in 0..32_usize,
        over in prop::option::of(0..32_usize),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, prop::sample::select(SCRAPS)), 1..6),
        colour: bool,
    ) {
        let cases = cases();
        let mut text = cases[case % cases.len()].clone();
        for (at, cut, scrap) in edits {
            let floor = |text: &str, mut at: usize| {
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let start = floor(&text, at.index(text.len() + 1));
            let end = floor(&text, (start + cut).min(text.len())).max(start);
            text.replace_range(start..end, scrap);
        }
        let mut source = Source::new("x.toml", text);
        if let Some(over) = over {
            source = source.with("over.toml", &cases[over % cases.len()]);
        }
        let (plan, _) = look(source, colour);
        if let Some(plan) = plan {
            let (json, digest) = plan.to_json();
            prop_assert_eq!(Plan::from_json(&json).unwrap().to_json(), (json, digest));
        }
    }

    #[test]
    fn any_text_is_an_expression_or_a_fault(text in "[a-z0-9_.,:?!<>=&|+*/%(){}\\[\\]\"'\\\\$é \n-]{0,60}") {
        drop(Rule::compile(&text));
        drop(Template::compile(&serde_json::json!(["${", text, format!("${{{text}}}"), format!("x ${{{text}}} y")])));
    }

    #[test]
    fn a_template_is_written_as_it_was_read(texts in prop::collection::vec("[$]{0,3}[{]?[a-z${} ]{0,8}[}]?", 0..4)) {
        let value = serde_json::json!({ "a": texts });
        if let Ok(template) = Template::compile(&value) {
            let text = serde_json::to_string(&template).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value.clone());
        }
        let constant = Template::constant(value.into());
        let again: Template = serde_json::from_str(&serde_json::to_string(&constant).unwrap()).unwrap();
        prop_assert_eq!(again.source(), constant.source());
    }
}

#[test]
fn values_nest_as_deeply_as_json_may() {
    let nested = |depth: usize| format!("{HEAD}with.x = {}{}\n", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(digest(nested(63), false).1, "");
    assert!(digest(nested(64), false).1.contains("values nest at most 64 levels deep"));
    assert!(digest(nested(10_000), false).1.contains("error"));
}

#[test]
fn a_plan_read_back_from_its_text_is_the_same() {
    let text = cases().into_iter().find(|text| text.contains("Nothing is wrong here")).unwrap();
    let (plan, said) = digest(text, false);
    assert_eq!(said, "");
    let (json, digest) = plan.unwrap().to_json();
    let again = Plan::from_json(&json).unwrap();
    assert_eq!(again.to_json(), (json, digest));
    assert_eq!(again.step_named("kpi-gate").map(|id| again.own_steps()[id.index()].needs.len()), Some(1));
}

/// Tells what is linear, which takes half a minute here (not optimised), from what is quadratic, which takes hours, on however
/// busy a machine.
const SOON: Duration = Duration::from_secs(900);

fn soon(name: &str, text: String) -> (Option<Plan>, String) {
    let start = Instant::now();
    let bytes = text.len();
    let result = digest(text, false);
    let took = start.elapsed();
    eprintln!("{name}: {bytes} bytes in {took:?}");
    assert!(took < SOON, "{name}: {took:?}");
    result
}

const HEAD: &str = "name = \"large\"\n[plugins]\nany = \"any.wasm\"\n[steps.s0]\nuse = \"any\"\n";

#[test]
fn a_hundred_thousand_steps_are_resolved_in_seconds() {
    // A chain in which every step looks at its predecessor and at the first step.
    let mut chain = HEAD.to_owned();
    for at in 1..100_000 {
        let before = at - 1;
        chain += &format!(
            "[steps.s{at}]\nuse = \"any\"\nneeds = [\"s{before}\"]\nwith.x = \"${{steps.s{before}.output}}${{steps.s0.status}}\"\n"
        );
    }
    let (plan, said) = soon("chain", chain);
    assert_eq!(said, "");
    assert_eq!(plan.unwrap().steps.len(), 100_000);

    // Fan-out, fan-in, and every step has a handler of its failure.
    let mut wide = HEAD.to_owned();
    let mut all = Vec::new();
    for at in 1..15_000 {
        wide +=
            &format!("[steps.s{at}]\nuse = \"any\"\nneeds = [\"s0\"]\nwith = {{ x = \"${{steps.s0.output.y}}\" }}\n");
        wide += &format!("[steps.h{at}]\nuse = \"any\"\nneeds = [\"s{at}.failed\"]\n");
        all.push(format!("\"s{at}\""));
    }
    wide += &format!("[steps.end]\nuse = \"any\"\nneeds = [{}]\nwith.x = \"${{steps.s0.output}}\"\n", all.join(","));
    assert_eq!(soon("wide", wide).1, "");

    // A chain in which every step has a handler of its failure.
    let mut handled = HEAD.to_owned();
    for at in 1..15_000 {
        let before = at - 1;
        handled += &format!("[steps.s{at}]\nuse = \"any\"\nneeds = [\"s{before}\"]\n");
        handled += &format!(
            "[steps.h{at}]\nuse = \"any\"\nneeds = [\"s{at}.failed\", \"s{before}\"]\nwith.x = \"${{steps.s0.status}}\"\n"
        );
    }
    assert_eq!(soon("handled", handled).1, "");
}

#[test]
fn tens_of_thousands_of_faults_are_told_in_seconds() {
    let mut wrong = HEAD.to_owned();
    for at in 1..15_000 {
        wrong += &format!("[steps.s{at}]\nuse = \"an\"\nneeds = [\"t{at}\"]\nwen = \"x\"\n");
    }
    let (plan, said) = soon("wrong", wrong);
    assert!(plan.is_none() && said.contains("more diagnostics"));

    let mut ring = String::from("name = \"ring\"\n[plugins]\nany = \"any.wasm\"\n");
    for at in 0..15_000 {
        ring += &format!(
            "[steps.s{at}]\nuse = \"any\"\nneeds = [\"s{}\"]\nwith.x = \"${{steps.s7.output}}\"\n",
            (at + 1) % 15_000
        );
    }
    let (_, said) = soon("ring", ring);
    assert!(said.contains("cycle") && said.contains("…"), "{said}");
}
