//! The pages of diagnostics, `docs/diagnostics/CODE.md`, are true: what stands under "Wrong" is told so and, of errors, only so;
//! what stands under "Right" is told nothing. Every code has a page, every page a code, and the code is said nowhere else.
//! `DOWNBEAT_BLESS=1` writes the index anew.

#![allow(clippy::unwrap_used)]

mod components;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_workflow::diagnostic::{CODES, Code, Diagnostic, Severity, render};
use downbeat_workflow::resolve::{File, beside, resolve};
use downbeat_workflow::spec::{Source, Spec};

/// Pages without an example: what they speak of is too large for one. `robustness.rs` has it.
const WITHOUT_EXAMPLE: &[&str] = &["too-deep", "too-large", "too-many-diagnostics"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The workflows under a heading of a page: the first, and others beside it by name.
fn example(page: &str, heading: &str) -> Option<(String, Vec<(String, String)>)> {
    let section = page.split_once(&format!("\n## {heading}\n"))?.1;
    let section = section.split("\n## ").next().unwrap();
    let mut blocks: Vec<(String, String)> = Vec::new();
    for block in section.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap().to_owned();
        let first = text.lines().next().unwrap_or_default();
        let name = first.strip_prefix("# ").filter(|name| name.ends_with(".toml") && !name.contains(' '));
        blocks.push((name.unwrap_or("example.toml").to_owned(), completed(&text)));
    }
    let whole = blocks.iter().position(|(name, _)| name == "example.toml")?;
    let (_, text) = blocks.remove(whole);
    Some((text, blocks))
}

/// Pages leave out what all examples have: the name, and the plugins `any`, `hello`, `process` and so on.
fn completed(text: &str) -> String {
    let mut head = String::new();
    if !text.starts_with("name") {
        head.push_str("name = \"example\"\n");
    }
    if !text.contains("[plugins]") {
        let known = ["any", "hello", "process", "http", "gate", "files"];
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for name in known.iter().filter(|name| words.contains(&format!("use = \"{name}\""))) {
            writeln!(head, "plugins.{name} = \"{name}.wasm\"").unwrap();
        }
    }
    head + text
}

fn check((text, others): (String, Vec<(String, String)>)) -> (Source, Vec<Diagnostic>, String) {
    let source = Source::new("example.toml", text);
    let (spec, mut found) = Spec::parse(&source);
    let mut told = String::new();
    if let Some(spec) = spec {
        let mut surroundings = components::surroundings(&spec);
        let itself = (source.path.clone(), source.text.clone());
        let others = others.into_iter().chain(spec.workflow_paths().contains(&"example.toml").then_some(itself));
        for (name, text) in others {
            let source = Source::new(name.clone(), text);
            let (spec, faults) = Spec::parse(&source);
            let plugins = spec.as_ref().map(components::surroundings).unwrap_or_default().plugins;
            let file = File { source, spec, faults, directory: surroundings.directory.clone(), plugins };
            surroundings.workflows.insert(beside(&surroundings.directory, &name), Ok(Arc::new(file)));
        }
        let resolution = resolve(&source, &spec, &surroundings);
        found.extend(resolution.diagnostics);
        for (source, others) in resolution.others {
            told.push_str(&render(&others, &source, false));
            found.extend(others);
        }
    }
    told.insert_str(0, &render(&found, &source, false));
    (source, found, told)
}

#[test]
fn every_page_shows_its_own_fault_and_how_it_is_mended() {
    let mut wrong = String::new();
    for code in CODES {
        let examples = (example(code.page(), "Wrong"), example(code.page(), "Right"));
        let (Some(fault), Some(mended)) = examples else {
            assert!(WITHOUT_EXAMPLE.contains(&code.name), "`{}` has no example", code.name);
            continue;
        };
        let (source, found, told) = check(fault);
        let is_it = |found: &&Diagnostic| found.code == code.name;
        let severity = match found.iter().find(is_it).map(|found| found.severity) {
            None => {
                writeln!(wrong, "--- {}: its example is told otherwise\n{}\n{told}", code.name, source.text).unwrap();
                continue;
            }
            Some(Severity::Error) => "Error",
            Some(Severity::Warning) => "arning",
        };
        let marks = code.page().lines().nth(2).unwrap_or_default();
        if !marks.starts_with("**") || !marks.split("**").nth(1).unwrap().contains(severity) {
            writeln!(wrong, "--- {}: it says {marks:?}, and is: {told}", code.name).unwrap();
        }
        if found.iter().any(|found| found.code != code.name && (found.is_error() || severity == "arning")) {
            writeln!(wrong, "--- {}: its example has other faults\n{told}", code.name).unwrap();
        }
        let (source, found, told) = check(mended);
        if !found.is_empty() {
            writeln!(wrong, "--- {}: not mended\n{}\n{told}", code.name, source.text).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_page_belongs_to_a_code_and_is_in_the_index() {
    let folder = root().join("docs/diagnostics");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let pages: BTreeSet<String> =
        files.filter(|file| !["README.md", "tests.md", "policies.md"].contains(&file.as_str())).collect();
    let expected: BTreeSet<String> = CODES.iter().map(|code| format!("{}.md", code.name)).collect();
    assert_eq!(pages, expected, "a page without a code, or the other way round");
    for shared in ["tests.md", "policies.md"] {
        let page = std::fs::read_to_string(folder.join(shared)).unwrap();
        let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let expected: BTreeSet<&str> =
            Code::all().map(|code| code.name).filter(|name| page.contains(&format!("### {name}\n"))).collect();
        assert_eq!(sections, expected, "a section without a code");
    }

    let (start, end) = ("<!-- made by engine/workflow/tests/codes.rs -->\n", "<!-- to here -->\n");
    let path = folder.join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(start).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let mut table = "\n| code | | what it says |\n|---|---|---|\n".to_owned();
    for code in CODES {
        let mut lines = code.page().lines();
        let title = lines.next().unwrap().split_once(": ").unwrap().1;
        let severity = lines.nth(1).unwrap().split("**").nth(1).unwrap().trim_end_matches('.').to_lowercase();
        writeln!(table, "| [`{0}`]({0}.md) | {severity} | {title} |", code.name).unwrap();
    }
    let made = format!("{head}{start}{table}\n{end}{tail}");
    match std::env::var_os("DOWNBEAT_BLESS") {
        Some(_) => std::fs::write(&path, &made).unwrap(),
        None => assert!(text == made, "the index is not up to date (DOWNBEAT_BLESS=1 writes it):\n{made}"),
    }
}

#[test]
fn no_code_is_said_that_is_not_in_the_register() {
    fn sources(folder: &Path, texts: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut texts = Vec::new();
    ["workflow", "rehearsal", "cli"]
        .iter()
        .for_each(|room| sources(&root().join("engine").join(room).join("src"), &mut texts));
    let mut said = BTreeSet::new();
    for (path, text) in &texts {
        for start in ["Diagnostic::error(", "Diagnostic::warning(", "Fault::new("] {
            for after in text.split(start).skip(1) {
                let Some(code) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                    continue;
                };
                assert!(Code::find(code).is_some(), "{}: `{code}` has no page", path.display());
                said.insert(code);
            }
        }
        // Others hand their codes on.
        said.extend(
            Code::all()
                .map(|code| code.name)
                .filter(|name| text.contains(&format!("\"{name}\"")) && !path.ends_with("code.rs")),
        );
    }
    let unsaid: Vec<&str> = Code::all().map(|code| code.name).filter(|name| !said.contains(name)).collect();
    assert!(unsaid.is_empty(), "nobody says {unsaid:?} any more");
}
