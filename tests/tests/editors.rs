//! What editors, shells and manual readers are given: the schema describes the language as it is, completions and pages
//! know every command.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::path::{Path, PathBuf};

use downbeat_tests::{Bench, repository};
use downbeat_workflow::diagnostic::Diagnostic;
use downbeat_workflow::spec::{Source, Spec};
use jsonschema::Validator;
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

fn schema() -> Validator {
    let answer = bench().run(&["schema"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    jsonschema::draft7::new(&schema).unwrap()
}

/// What the schema has against a workflow.
fn faults(schema: &Validator, text: &str) -> Vec<String> {
    let workflow: Value = toml::from_str(text).unwrap();
    schema.iter_errors(&workflow).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The workflows in a folder; files of tests have a language of their own.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_workflow = |name: &str| name.ends_with(".toml") && !name.ends_with(".test.toml");
    entries.filter(|path| is_workflow(&path.file_name().unwrap().to_string_lossy())).collect()
}

#[test]
fn every_workflow_of_the_repository_and_of_its_pages_fits_the_schema() {
    let schema = schema();
    let mut texts = Vec::new();
    for folder in fs::read_dir(repository().join("workflows")).unwrap().flatten().filter(|entry| entry.path().is_dir())
    {
        texts.extend(toml_files(&folder.path()).iter().map(|file| fs::read_to_string(file).unwrap()));
    }
    let right = repository().join("engine/workflow/tests/diagnostics/right.toml");
    texts.push(fs::read_to_string(right).unwrap());
    for page in ["README.md", "docs/workflows.md"] {
        let page = fs::read_to_string(repository().join(page)).unwrap();
        for block in page.split("```toml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            // A block that is no whole workflow is completed by what it leaves out.
            let name = if block.trim_start().starts_with("name") { "" } else { "name = \"example\"\n" };
            texts.push(format!("{name}{block}\n"));
        }
    }
    assert!(texts.len() >= 9, "{} workflows", texts.len());
    for text in texts {
        assert_eq!(faults(&schema, &text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn faults_of_shape_do_not_fit_the_schema() {
    let schema = schema();
    let mut found = Vec::new();
    for file in toml_files(&repository().join("engine/workflow/tests/diagnostics")) {
        let source = Source::new(file.display().to_string(), fs::read_to_string(&file).unwrap());
        // What the reader refuses by itself is a fault of shape. A text that is no TOML is refused before by an editor.
        let (Some(_), diagnostics) = Spec::parse(&source) else { continue };
        if diagnostics.iter().any(Diagnostic::is_error) {
            // Nor does JSON have these numbers.
            let numbers = [("99999999999999999999", "1"), ("= inf", "= 1.0"), ("= nan", "= 1.0")];
            let text = numbers.iter().fold(source.text.clone(), |text, (wrong, right)| text.replace(wrong, right));
            assert_ne!(faults(&schema, &text), Vec::<String>::new(), "{}", file.display());
            found.push(file.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    for name in ["ten-faults", "unknown-keys", "wrong-types"] {
        assert!(found.iter().any(|found| found == name), "{name} has no fault of shape: {found:?}");
    }
}

#[test]
fn every_line_of_a_real_stream_fits_the_schema_of_events() {
    let bench = bench();
    bench.build("plugins/hello");
    let answer = bench.run(&["schema", "events"]);
    let schema = jsonschema::draft7::new(&serde_json::from_str(&answer.stdout).unwrap()).unwrap();
    let stream = bench.run(&["run", "{repo}/workflows/hello", "--json"]).stdout;
    assert!(stream.contains("attempt-logged") && stream.contains("run-finished"), "{stream}");
    for line in stream.lines() {
        assert!(schema.is_valid(&serde_json::from_str(line).unwrap()), "{line}");
    }
}

#[test]
fn a_schema_line_is_a_comment_to_the_engine() {
    let bench = bench();
    let hello = fs::read_to_string(repository().join("workflows/hello/hello.toml")).unwrap();
    let plugins = format!("\"{}/plugins/", repository().display());
    let text = format!("#:schema ./workflow.schema.json\n{}", hello.replace("\"../../plugins/", &plugins));
    bench.write("hello.toml", &text);
    let answer = bench.run(&["check", "hello.toml"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
}

#[test]
fn completions_for_every_shell_know_every_command() {
    let bench = bench();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = bench.run(&["completions", shell]);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{shell}");
        for word in ["check", "resume", "follow", "toolchain", "reason"] {
            assert!(answer.stdout.contains(word), "{shell}: {word}");
        }
        assert!(!answer.stdout.contains("\\u{"), "{shell}: something was made visible that has to stay as it is");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let bench = bench();
    let answer = bench.run(&["man", "--dir", "pages/man1"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{}", answer.stderr);
    let mut pages: Vec<String> = fs::read_dir(bench.path().join("pages/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected = [
        "",
        "-approve",
        "-audit",
        "-audit-checkpoint",
        "-audit-export",
        "-audit-report",
        "-audit-show",
        "-audit-verify",
        "-cache",
        "-cache-clear",
        "-cache-list",
        "-cache-show",
        "-cache-verify",
        "-cancel",
        "-check",
        "-completions",
        "-diff",
        "-expand",
        "-explain",
        "-export",
        "-graph",
        "-import",
        "-key",
        "-key-new",
        "-list",
        "-lock",
        "-logs",
        "-man",
        "-pause",
        "-plan",
        "-plugin",
        "-plugin-build",
        "-plugin-check",
        "-plugin-inspect",
        "-plugin-toolchain",
        "-policy",
        "-policy-check",
        "-policy-show",
        "-policy-test",
        "-prune",
        "-reject",
        "-replay",
        "-rerun",
        "-resume",
        "-run",
        "-schema",
        "-show",
        "-sign",
        "-signal",
        "-test",
        "-unpause",
        "-verify",
    ]
    .map(|command| format!("downbeat{command}.1"));
    expected.sort();
    assert_eq!(pages, expected);
    let page = fs::read_to_string(bench.path().join("pages/man1/downbeat-run.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("name=@file"), "{page}");
    assert!(page.contains("[OPTIONS] <FILE>"), "the synopsis says what to give: {page}");
    assert!(!page.contains("EXTRA") && page.contains(".SH \"EXAMPLES\"\n.nf\ndownbeat run "), "{page}");
    let whole = bench.run(&["man"]);
    assert!(whole.stdout.contains(".TH downbeat 1"), "{}", whole.stdout);
}
