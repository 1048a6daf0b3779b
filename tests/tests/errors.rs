//! What every command says when it can't do what it was asked for: one conversation after the other, as a person sees
//! them, by command. Faults that come with the user's rights are made in ways that hold for every user.
//!
//! `INSTA_UPDATE=always cargo test -p downbeat-tests` writes the snapshots anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use downbeat_tests::{Bench, repository};
use insta::assert_snapshot;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// Some conversations, one after the other.
fn talks(bench: &Bench, conversations: &[&[&str]]) -> String {
    conversations.iter().map(|arguments| bench.talk(arguments)).collect::<Vec<_>>().join("\n\n")
}

/// A bench with a file where folders are expected, a text that is no component, a file that is no text, and workflows
/// that are wrong in different ways.
fn littered() -> Bench {
    let bench = bench();
    bench.write("file", "");
    std::fs::write(bench.path().join("bytes.toml"), [0xff, 0xfe, b'a']).unwrap();
    bench.write("broken.toml", "name = \"x\"\n[steps.a\nuse = 1\n");
    bench.write("empty/readme", "");
    bench.write("two/a.toml", "[steps.a]\n");
    bench.write("two/b.toml", "[steps.b]\n");
    bench.write("two/other.toml", "[package]\n");
    bench.write("text.wasm", "this is text");
    bench
}

#[test]
fn errors_of_check() {
    let bench = littered();
    assert_snapshot!(talks(
        &bench,
        &[
            &["check"],
            &["check", "nowhere.toml"],
            &["check", "file/below.toml"],
            &["check", "bytes.toml"],
            &["check", "broken.toml"],
            &["check", "broken.toml", "--json"],
            &["check", "empty"],
            &["check", "nowhere.toml", "broken.toml"],
            &["check", "two"],
            &["check", "two/a.toml", "--cache", "file/cache"],
            &["check", "two/a.toml", "--jsn"],
        ]
    ));
}

#[test]
fn a_file_that_is_no_text_is_reported_with_its_folder_and_the_others_are_checked() {
    let bench = bench();
    bench.write("mixed/a.toml", "[steps.a]\n");
    std::fs::create_dir_all(bench.path().join("alone")).unwrap();
    for folder in ["mixed", "alone"] {
        std::fs::write(bench.path().join(folder).join("0.toml"), [0xff, 0xfe, b'a']).unwrap();
        let answer = bench.run(&["check", folder]);
        assert_eq!(answer.code, 3, "{}", answer.stderr);
        assert!(answer.stderr.contains(&format!("error: {folder}/0.toml: it is no UTF-8 text")), "{}", answer.stderr);
        assert_eq!(answer.stderr.contains("mixed/a.toml: 2 errors"), folder == "mixed", "{}", answer.stderr);
    }
}

#[test]
fn a_reader_of_check_who_has_had_enough_ends_it() {
    let bench = littered();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench.command(&["check", "--json", "broken.toml", "nowhere.toml"]).stdout(writer).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(3), ""), "what follows is not looked at");
}

#[test]
fn what_a_code_means_is_told_without_a_file() {
    let bench = bench();
    for written in ["unknown-step", "error[unknown-step]"] {
        let page = bench.run(&["check", "--explain", written]);
        assert_eq!(page.code, 0, "{}", page.stderr);
        assert!(page.stdout.starts_with("# `unknown-step`: ") && page.stdout.contains("## Right"), "{}", page.stdout);
    }
    let all = bench.run(&["check", "--explain"]);
    assert!(all.code == 0 && all.stdout.contains("\nunknown-step  "), "{} {}", all.stdout, all.stderr);
    let wrong = bench.run(&["check", "--explain", "unknown-stpe"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("did you mean `unknown-step`?"), "{}", wrong.stderr);
    let both = bench.run(&["check", "--explain", "unknown-step", "some.toml"]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn warnings_count_in_the_exit_code_where_that_is_asked_for() {
    let bench = bench();
    let warned = "name = \"w\"\n[pools]\nrunner = 1\n[steps.pause]\nwait = \"1s\"\n";
    bench.write("warned.toml", warned);
    bench.write("allowed.toml", &warned.replace("runner = 1", "runner = 1 # downbeat: allow unused (for later)"));
    for (file, lenient, strict) in [("warned.toml", 0, 3), ("allowed.toml", 0, 0)] {
        assert_eq!(bench.run(&["check", file]).code, lenient, "{file}");
        let answer = bench.run(&["check", "--deny-warnings", file]);
        assert_eq!(answer.code, strict, "{file}: {}", answer.stderr);
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_with_its_size() {
    let bench = bench();
    bench.write("large.toml", &"#".repeat((16 << 20) + 1));
    let answer = bench.run(&["check", "large.toml"]);
    assert_eq!(answer.code, 3);
    let said = "the file has 16777217 bytes; at most 16777216 (16 MiB) are read";
    assert!(answer.stderr.contains(said), "{}", &answer.stderr[..answer.stderr.len().min(500)]);
}

#[test]
fn errors_of_run() {
    let bench = littered();
    bench.build("plugins/hello");
    let hello = "{repo}/workflows/hello/hello.toml";
    assert_snapshot!(talks(
        &bench,
        &[
            &["run"],
            &["run", "nowhere.toml"],
            &["run", "broken.toml"],
            &["run", "empty"],
            &["run", "two"],
            &["run", hello, "hello.toml"],
            &["run", hello, "--state", "file"],
            &["run", hello, "--state", "file/below"],
            &["run", hello, "--cache", "file/cache"],
            &["run", hello, "--input"],
            &["run", hello, "--input", "name=@nowhere.txt"],
            &["run", hello, "--color", "sometimes"],
        ]
    ));
}

#[test]
fn errors_of_plan() {
    let bench = littered();
    bench.build("plugins/hello");
    let hello = "{repo}/workflows/hello/hello.toml";
    assert_snapshot!(talks(
        &bench,
        &[
            &["plan"],
            &["plan", "nowhere.toml"],
            &["plan", "broken.toml"],
            &["plan", "two"],
            &["plan", hello, "--input", "nmae=Ada"],
            &["plan", hello, "--inputs", "broken.toml"],
            &["plan", hello, "--diff", "last"],
            &["plan", hello, "--diff", "broken.toml"],
        ]
    ));
    assert!(!bench.path().join(".downbeat/journal.db").exists(), "planning made a journal");
}

#[test]
fn errors_of_commands_that_look() {
    let bench = littered();
    // None, one that is a folder, one that is something else, and one whose place can't be.
    bench.write("folder/journal.db/file", "");
    bench.write("text/journal.db", "this is no database, but it is long enough to be taken for a page of one");
    let runs: [&[&str]; 11] = [
        &["list"],
        &["show"],
        &["explain"],
        &["logs"],
        &["resume"],
        &["cancel"],
        &["signal", "go"],
        &["approve"],
        &["reject"],
        &["prune"],
        &["export"],
    ];
    let mut said = String::new();
    for command in runs {
        for state in ["nowhere", "folder", "text", "file/below"] {
            said.push_str(&bench.talk(&[command, &["--state", state]].concat()));
            said.push_str("\n\n");
        }
    }
    assert_snapshot!(said);
    assert!(!bench.path().join("nowhere").exists(), "looking made a folder");
}

#[test]
fn errors_about_runs() {
    let bench = bench();
    let hello = "{repo}/workflows/hello/hello.toml";
    bench.build("plugins/hello");
    assert_eq!(bench.run(&["run", hello]).code, 0);
    let mut said = String::new();
    for command in ["show", "explain", "logs", "resume", "cancel"] {
        for run in ["zzz", "", "not an id"] {
            said.push_str(&bench.talk(&[command, run]));
            said.push_str("\n\n");
        }
    }
    said.push_str(&talks(
        &bench,
        &[
            &["resume"],
            &["cancel"],
            &["cancel", "--step", "nobody"],
            &["signal", "go"],
            &["signal", "go", "zzz", "--data", "{"],
            &["approve"],
            &["reject", "zzz"],
            &["logs", "--step", "nobody"],
            &["list", "--limit", "-1"],
            &["list", "--limit", "many"],
            &["show", "a", "b"],
        ],
    ));
    assert_snapshot!(said);
}

#[test]
fn errors_of_plugin_commands() {
    let bench = littered();
    bench.write("source/Cargo.toml", "[package]\n");
    assert_snapshot!(talks(
        &bench,
        &[
            &["plugin"],
            &["plugin", "build"],
            &["plugin", "build", "nowhere"],
            &["plugin", "build", "file"],
            &["plugin", "build", "empty"],
            &["plugin", "inspect", "nowhere.wasm"],
            &["plugin", "inspect", "text.wasm"],
            &["plugin", "inspect", "empty"],
            &["plugin", "mend", "file"],
        ]
    ));
}

#[test]
fn errors_of_commands_for_editors_and_shells() {
    let bench = littered();
    assert_snapshot!(talks(
        &bench,
        &[
            &["schema", "plans"],
            &["completions"],
            &["completions", "tcsh"],
            &["man", "--dir"],
            &["man", "--dir", "file"],
            &["man", "--dir", "file/below"],
        ]
    ));
}

#[test]
fn errors_while_another_process_drives() {
    let bench = bench();
    bench.build("plugins/process");
    let toml = r#"
        name = "waiting"
        [plugins]
        process = "{repo}/plugins/process"
        [steps.wait]
        use = "process"
        with = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
        grant = { process = ["sh"] }
    "#;
    bench.write("waiting.toml", &toml.replace("{repo}", &repository().display().to_string()));
    let mut engine = bench.spawn(&["run", "waiting.toml", "--json"]);
    let pid = engine.id();
    wait_for_start(&mut engine);
    let said = talks(&bench, &[&["run", "waiting.toml"], &["resume"], &["list"], &["show"], &["cancel"]]);
    assert_eq!(engine.wait().unwrap().code(), Some(5));
    assert_snapshot!(said.replace(&pid.to_string(), "<pid>"));
}

fn wait_for_start(engine: &mut Child) {
    let mut lines = BufReader::new(engine.stdout.as_mut().expect("standard output is piped")).lines();
    assert!(lines.any(|line| line.unwrap().contains("attempt-started")));
}

#[test]
fn a_workflow_that_opens_itself_is_told_once() {
    let bench = bench();
    let steps = "[steps.u]\nwhen = \"false\"\nworkflow = \"rec.toml\"\n[steps.v]\nneeds = [\"w\"]\nwait = \"1s\"\n";
    bench.write("rec.toml", &format!("name = \"rec\"\n{steps}"));
    let told = bench.run(&["check", "rec.toml"]);
    assert_eq!(told.code, 3);
    assert_eq!(told.stderr.matches("there is no step `w`").count(), 1, "{}", told.stderr);
    assert!(told.stderr.contains("rec.toml: 1 error, "), "{}", told.stderr);
}

#[test]
fn what_check_says_of_overlays_plugins_and_folders_can_be_acted_on() {
    let bench = bench();
    let plugin = repository().join("plugins/files").display().to_string();
    let unused = "[plugins]\nnothing = \"nowhere\"\n";
    bench.write("m.toml", &format!("name = \"m\"\n{unused}[steps.a]\nwait = \"1s\"\n"));
    bench.write("b.with.toml", "[steps.a]\nwait = \"2s\"\n");
    // A plugin that no step uses is not looked for.
    let checked = bench.run(&["check", "m.toml"]);
    assert!(checked.code == 0 && checked.stderr.contains("no errors, 1 warning"), "{}", checked.stderr);
    let denied = bench.run(&["check", "m.toml", "--deny-warnings"]);
    assert!(denied.code == 3 && denied.stderr.contains("`--deny-warnings`"), "{}", denied.stderr);
    let planned = bench.run(&["plan", "m.toml", "--with", "b.with.toml"]);
    assert!(planned.stderr.contains("`downbeat check m.toml --with b.with.toml` shows it"), "{}", planned.stderr);
    let overlay = bench.run(&["check", "b.with.toml"]);
    assert_eq!(overlay.code, 3);
    assert!(overlay.stderr.contains("`downbeat check m.toml --with b.with.toml`"), "{}", overlay.stderr);
    bench.build("plugins/files");
    let step = "[steps.a]\nuse = \"files\"\nwith = { hash = { path = \"data\" } }\ngrant = { files = [\"data\"] }\n";
    bench.write("f.toml", &format!("name = \"f\"\n[plugins]\nfiles = {plugin:?}\n{step}"));
    let missing = bench.run(&["check", "f.toml"]);
    assert!(missing.code == 0 && missing.stderr.contains("granted, and not there now: data"), "{}", missing.stderr);
    bench.write("data/one", "");
    assert!(!bench.run(&["check", "f.toml"]).stderr.contains("not there now"));
}
