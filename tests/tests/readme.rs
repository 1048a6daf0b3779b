//! What the documents say is true: their workflows check without an error, and their commands do what they promise.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;

use downbeat_tests::{Bench, repository};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The fenced blocks of one language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(document)).unwrap();
    let fence = format!("```{language}\n");
    let after = text.split(&fence).skip(1);
    after.map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

#[test]
fn the_readmes_workflow_runs_and_every_command_in_it_works() {
    let bench = bench();
    let workflow = blocks("README.md", "toml").remove(0);
    let plugins = format!("\"{}/plugins/", repository().display());
    bench.write("workflows/greet.toml", &workflow.replace("\"../plugins/", &plugins));
    let commands = blocks("README.md", "sh").into_iter().find(|block| block.contains("downbeat check")).unwrap();
    let mut outcomes = Vec::new();
    for line in commands.lines() {
        let words: Vec<&str> = line.split('#').next().unwrap().split_whitespace().skip(1).collect();
        let answer = bench.run(&words);
        outcomes.push((words.first().copied().unwrap_or_default().to_owned(), answer.code));
        if words[0] == "run" {
            assert!(answer.stdout.contains("Hello, Hello, Ada!!"), "{}{}", answer.stdout, answer.stderr);
        }
    }
    // The run is over when `resume` and `cancel` are tried: bad usage, and said so.
    let expected = [
        ("check", 0),
        ("plan", 0),
        ("run", 0),
        ("list", 0),
        ("show", 0),
        ("explain", 0),
        ("explain", 0),
        ("logs", 0),
        ("resume", 2),
        ("graph", 0),
        ("cancel", 2),
        ("rerun", 0),
    ];
    assert_eq!(outcomes, expected.map(|(name, code)| (name.to_owned(), code)));
}

#[test]
fn a_workflow_and_its_run_are_drawn_as_the_documents_say() {
    let bench = bench();
    let hello = repository().join("workflows/hello").display().to_string();
    let read = |file: &str| std::fs::read_to_string(bench.path().join(file)).unwrap();
    let drawn = bench.run(&["graph", &hello]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    assert!(drawn.stdout.starts_with("<svg ") && drawn.stdout.contains(">reply</text>"), "{}", drawn.stdout);
    assert!(!drawn.stdout.contains("succeeded after"), "nothing has run: {}", drawn.stdout);
    assert_eq!(bench.run(&["run", &hello]).code, 0);
    for (file, start) in [("run.svg", "<svg "), ("run.dot", "digraph "), ("run.mmd", "flowchart ")] {
        let answer = bench.run(&["graph", "--output", file]);
        assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{file}: {}", answer.stderr);
        assert!(read(file).starts_with(start) && read(file).contains("succeeded"), "{}", read(file));
    }
    for (what, code, says) in [("nowhere.toml", 3, "nowhere.toml"), ("nobody", 2, "`downbeat list` shows the runs")] {
        let answer = bench.run(&["graph", what]);
        assert!(answer.code == code && answer.stderr.contains(says), "{what}: {} {}", answer.code, answer.stderr);
    }
}

#[test]
fn every_workflow_of_the_reference_checks() {
    let bench = bench();
    let repository = repository().display().to_string();
    let whole = |page: &'static str| {
        let found = blocks(page, "toml");
        assert!(!found.is_empty(), "{page}");
        found.into_iter().enumerate().map(move |(index, block)| (page, index, block))
    };
    let pages = ["docs/workflows.md", "docs/coming-from.md", "docs/linters.md"];
    for (page, index, block) in pages.into_iter().flat_map(whole) {
        // A block that is no whole workflow is completed by what it leaves out.
        let mut text = block.clone();
        for folder in ["plugins", "workflows", "tests"] {
            text = text.replace(&format!("\"../{folder}/"), &format!("\"{repository}/{folder}/"));
        }
        if !block.trim_start().starts_with("name") {
            text.insert_str(0, "name = \"example\"\n");
        }
        bench.write("example.toml", &text);
        let answer = bench.run(&["check", "example.toml"]);
        assert_eq!(answer.code, 0, "block {index} of {page}:\n{text}\n{}", answer.stderr);
        // The only guest that appends to a list is the rogue, which wants everything and is granted nothing here.
        let clean = if block.contains("guests/rogue") { "no errors, " } else { "no errors, no warnings" };
        assert!(answer.stderr.contains(clean), "block {index} of {page}:\n{text}\n{}", answer.stderr);
    }
}

#[test]
fn the_overlay_of_the_reference_fits_the_workflow_before_it_and_comes_to_the_plan_that_is_printed() {
    let bench = bench();
    let whole = |block: &str| {
        let plugins = format!("\"{}/plugins/", repository().display());
        format!("name = \"example\"\n{}", block.replace("\"../plugins/", &plugins))
    };
    let overlay = blocks("docs/workflows.md", "toml overlay").remove(0);
    let below = blocks("docs/workflows.md", "toml").into_iter().find(|block| block.contains("[defaults]")).unwrap();
    bench.write("release.toml", &whole(&below));
    bench.write("prod.with.toml", &overlay);
    bench.build("plugins/process");
    let answer = bench.run(&["check", "release.toml", "--with", "prod.with.toml"]);
    assert_eq!((answer.code, answer.stderr.contains("no errors, no warnings")), (0, true), "{}", answer.stderr);
    // By itself, it is no workflow.
    let answer = bench.run(&["check", "."]);
    assert!(answer.code == 0 && !answer.stderr.contains("prod"), "{}", answer.stderr);
    let answer = bench.run(&["plan", "release.toml", "--with", "prod.with.toml", "--diff", "release.toml"]);
    assert!(answer.code == 6 && answer.stdout.contains("workspace"), "{}{}", answer.stdout, answer.stderr);
    assert!(answer.stdout.contains('!'), "what it grants more stands out: {}", answer.stdout);
    let printed = bench.run(&["expand", "release.toml", "--with", "prod.with.toml"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    bench.write("printed.toml", &printed.stdout);
    let answer = bench.run(&["plan", "release.toml", "--with", "prod.with.toml", "--diff", "printed.toml"]);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    let origins = bench.run(&["expand", "release.toml", "--with", "prod.with.toml", "--origins"]).stdout;
    assert!(origins.contains("  # prod.with.toml:7"), "{origins}");
    let answer = bench.run(&["check", ".", "--with", "prod.with.toml"]);
    assert!(answer.code == 2 && answer.stderr.contains("one workflow"), "{}", answer.stderr);
}

#[test]
fn every_workflow_of_the_repository_checks_without_a_warning() {
    let bench = bench();
    let mut checked = 0;
    for folder in std::fs::read_dir(repository().join("workflows")).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(folder.path()) else { continue };
        let is_workflow = |name: &str| name.ends_with(".toml") && !name.ends_with(".test.toml");
        for file in files.flatten().filter(|file| is_workflow(&file.file_name().to_string_lossy())) {
            let answer = bench.run(&["check", &file.path().display().to_string()]);
            assert_eq!((answer.code, answer.stderr.contains("no errors, no warnings")), (0, true), "{}", answer.stderr);
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
    // Beside the workflow of its name, a folder may have those that it opens.
    let planned = bench.run(&["plan", "{repo}/workflows/release"]);
    assert!(
        planned.code == 0 && planned.stdout.starts_with("workflow  release\n"),
        "{}{}",
        planned.stdout,
        planned.stderr
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = [
        "README.md",
        "engine/ARCHITECTURE.md",
        "docs/workflows.md",
        "docs/coming-from.md",
        "docs/linters.md",
        "docs/diagnostics/README.md",
        "docs/diagnostics/tests.md",
        "docs/diagnostics/policies.md",
        "docs/security.md",
        "docs/testing.md",
        "docs/tour.md",
        "docs/graph.md",
        "docs/operators.md",
        "docs/operating.md",
        "docs/patterns.md",
        "docs/plugins-javascript.md",
        "workflows/README.md",
        "workflows/release/README.md",
        "workflows/scale/README.md",
        "plugins/README.md",
        "plugins/sdk/README.md",
        "plugins/sdk-js/README.md",
        "plugins/process/README.md",
        "plugins/http/README.md",
        "plugins/files/README.md",
        "plugins/jq/README.md",
        "plugins/template/README.md",
        "plugins/kpi-gate/README.md",
        "plugins/capacity/README.md",
        "plugins/notify/README.md",
        "plugins/report/README.md",
        "plugins/hello/README.md",
        "tests/guests/rogue/README.md",
        "tests/guests/rogue-js/README.md",
    ];
    let mut broken = Vec::new();
    for document in documents {
        let path = repository().join(document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || file.is_empty();
            if !outside && !path.parent().unwrap_or(Path::new("")).join(file).exists() {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}
