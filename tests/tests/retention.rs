//! Runs that are deleted, as a person does it: what goes, what stays, what is told, and what a killed process leaves.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use downbeat_journal::{Deletion, Journal, Mode};
use downbeat_tests::Bench;
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{RunId, Timestamp};
use insta::assert_snapshot;
use serde_json::Value;

/// Ends at once, well or not; no component is needed.
const SHORT: &str = r#"
name = "short"

[inputs]
note = { type = "string", default = "" }
fail = { type = "boolean", default = false }

[steps.look]
wait = "1ms"

[steps.stop]
needs = ["look"]
when  = "inputs.fail"
fail  = "as asked"
"#;

/// Waits for what never comes.
const PARKED: &str = r#"
name = "parked"

[signals.go]

[steps.park]
wait = { signal = "go" }
"#;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("short.toml", SHORT);
    bench.write("parked.toml", PARKED);
    bench
}

/// Runs the short workflow; answers the run's id.
fn short(bench: &Bench, inputs: &[&str]) -> String {
    let mut arguments = vec!["run", "short.toml", "--json"];
    inputs.iter().for_each(|input| arguments.extend(["--input", input]));
    let answer = bench.run(&arguments);
    let first: Value = serde_json::from_str(answer.stdout.lines().next().expect(&answer.stderr)).unwrap();
    first["run"].as_str().unwrap().to_owned()
}

fn runs(bench: &Bench) -> Vec<String> {
    let lines = bench.run(&["list", "--json"]).stdout;
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned()).collect()
}

/// Stores a blob as a step would, an hour ago.
fn blob(bench: &Bench, text: &str) -> (String, PathBuf) {
    let digest = Digest::of(text.as_bytes());
    let path = format!(".downbeat/artifacts/sha256/{}/{}", &digest.hex()[..2], digest.hex());
    let path = bench.write(&path, text);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
    (digest.as_str().to_owned(), path)
}

fn are_there<const N: usize>(paths: [&Path; N]) -> [bool; N] {
    paths.map(Path::exists)
}

#[test]
fn runs_are_deleted_with_all_that_only_they_needed() {
    let bench = bench();
    let kept = blob(&bench, "kept");
    let gone = blob(&bench, "gone");
    let stray = blob(&bench, "never mentioned");
    let a = short(&bench, &["fail=true", &format!("note=see {}", gone.0)]);
    let b = short(&bench, &[&format!("note=see {}", kept.0)]);
    let [of_a, of_b] = [&a, &b].map(|run| bench.write(&format!(".downbeat/workspaces/{run}/tree/file"), "12345"));
    let component = bench.write(&format!(".downbeat/components/{}.wasm", "0".repeat(64)), "no plan names it");
    let half = bench.write(".downbeat/components/.tmpAbCdEf", "half of a copy");
    let foreign = bench.write(".downbeat/components/README", "somebody's");

    assert_snapshot!("dry_run", bench.talk(&["prune", "--outcome", "failed", "--dry-run"]));
    assert_eq!(are_there([&gone.1, &stray.1, &of_a, &component]), [true; 4]);
    assert_eq!(runs(&bench), [&*b, &*a]);
    assert_snapshot!("prune", bench.talk(&["prune", "--outcome", "failed"]));
    assert_eq!(runs(&bench), [&*b]);
    assert_eq!(are_there([&gone.1, &stray.1, of_a.parent().unwrap(), &component, &half]), [false; 5]);
    assert_eq!(are_there([&kept.1, &of_b, &foreign]), [true; 3]);
    assert_snapshot!("again", bench.talk(&["prune", "--outcome", "failed"]));

    let list = bench.command(&["list", "--deleted", "--json"]).output().unwrap();
    let line: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((line["run"].as_str(), line["state"].as_str()), (Some(&*a), Some("failed")));
    assert!(bench.run(&["list", "--deleted"]).stdout.contains(&a));

    let answer = bench.run(&["prune", &b, "--json"]);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((answer.code, report["runs"][0]["run"].as_str()), (0, Some(&*b)));
    assert_eq!((&report["plans"], &report["blobs"]["bytes"]), (&1.into(), &4.into()));
    assert!(runs(&bench).is_empty() && !kept.1.exists());
}

#[test]
fn the_latest_of_each_workflow_can_be_kept() {
    let bench = bench();
    let all: Vec<String> = (0..4).map(|_| short(&bench, &[])).collect();
    bench.write("other.toml", &SHORT.replace("name = \"short\"", "name = \"other\""));
    assert_eq!(bench.run(&["run", "other.toml"]).code, 0);
    assert_eq!(bench.run(&["prune", "--older-than", "1h"]).code, 0);
    assert_eq!(runs(&bench).len(), 5, "none is so old");
    assert_eq!(bench.run(&["prune", "--older-than", "0s", "--keep", "1"]).code, 0);
    let left = runs(&bench);
    assert_eq!((left.len(), left.contains(&all[3])), (2, true), "{left:?}");
    assert_eq!(bench.run(&["prune", "--keep", "0", "--workflow", "other"]).code, 0);
    assert_eq!(runs(&bench), [&*all[3]]);
}

#[test]
fn a_run_that_is_not_over_stays_with_what_it_may_be_about_to_mention() {
    let bench = bench();
    let old = blob(&bench, "older than the run");
    let mut engine = bench.spawn(&["run", "parked.toml", "--json"]);
    let mut lines = BufReader::new(engine.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    let run = first["run"].as_str().unwrap().to_owned();
    assert!(lines.any(|line| line.contains("step-opened")), "it waits");
    let driven = bench.talk(&["prune", "--older-than", "30d"]).replace(&engine.id().to_string(), "<pid>");
    assert_snapshot!("driven", driven);
    assert_eq!(bench.run(&["prune", "--older-than", "30d", "--dry-run"]).code, 0);
    engine.kill().unwrap();
    engine.wait().unwrap();

    let young = bench.write(&format!(".downbeat/artifacts/sha256/ab/ab{}", "0".repeat(62)), "younger");
    let workspace = bench.write(&format!(".downbeat/workspaces/{run}/file"), "");
    assert_snapshot!("not_over", bench.talk(&["prune", "last"]));
    assert_eq!(bench.run(&["prune", "--keep", "0"]).code, 0);
    assert_eq!(runs(&bench), [run]);
    assert_eq!(are_there([&young, &workspace, &old.1]), [true, true, false]);
}

#[test]
fn what_a_process_leaves_that_was_killed_between_journal_and_files_is_found_by_the_next() {
    let bench = bench();
    let gone = blob(&bench, "gone");
    let run = short(&bench, &[&format!("note={}", gone.0)]);
    let workspace = bench.write(&format!(".downbeat/workspaces/{run}/file"), "");
    // As far as it came.
    let journal = Journal::open(&bench.path().join(".downbeat"), Mode::Drive).unwrap();
    let runs = vec![RunId(run.into())];
    journal.delete(Deletion { runs, at: Timestamp(1), by: "ann".to_owned() }).unwrap();
    drop(journal);
    assert_eq!(are_there([&gone.1, &workspace]), [true, true]);
    assert_snapshot!("leftovers", bench.talk(&["prune"]));
    assert_eq!(are_there([&gone.1, &workspace]), [false, false]);
}

#[test]
fn errors_of_prune() {
    let bench = bench();
    let talks = [
        &["prune", "--older-than", "30d"][..],
        &["prune", "--older-than", "30"],
        &["prune", "--older-than", "a month", "--keep", "-1"],
        &["prune", "--outcome", "bad"],
        &["prune", "1k8qz4h", "--keep", "3"],
    ];
    let mut said: Vec<String> = talks.iter().map(|arguments| bench.talk(arguments)).collect();
    short(&bench, &[]);
    said.push(bench.talk(&["prune", "nosuchrun"]));
    assert_snapshot!("errors", said.join("\n\n"));
}
