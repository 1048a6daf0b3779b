//! Runs that travel as files, as a person sends them: out of one place, into another, and files that are not what they were.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::process::Command;

use downbeat_tests::{Bench, repository};
use downbeat_workflow::description::Digest;
use insta::assert_snapshot;
use serde_json::Value;

const WORKFLOW: &str = r#"
name = "travel"

[inputs]
note = { type = "string", default = "" }

[plugins]
hello = "{repo}/plugins/hello"

[steps.greet]
use  = "hello"
with = { name = "Ada" }

[outputs]
said = "${steps.greet.output.greeting}"
"#;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.build("plugins/hello");
    bench.write("travel.toml", &WORKFLOW.replace("{repo}", &repository().display().to_string()));
    bench.write("parked.toml", "name = \"parked\"\n[signals.go]\n[steps.park]\nwait = { signal = \"go\" }\n");
    bench
}

/// Another place beside the bench's own.
const ELSEWHERE: [&str; 2] = ["--state", "elsewhere"];

fn elsewhere<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &ELSEWHERE].concat()
}

#[test]
fn a_run_goes_to_another_place_and_is_the_same_there() {
    let bench = bench();
    let blob = Digest::of(b"a blob");
    bench.write(&format!(".downbeat/artifacts/sha256/{}/{}", &blob.hex()[..2], blob.hex()), "a blob");
    assert_eq!(bench.run(&["run", "travel.toml", "--input", &format!("note=see {blob}")]).code, 0);
    assert_snapshot!("export", bench.talk(&["export", "--output", "run.downbeat", "--components"]));
    assert_snapshot!("export_again", bench.talk(&["export", "--output", "run.downbeat"]));
    let listed = Command::new("tar").arg("-tf").arg(bench.path().join("run.downbeat")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("manifest.json\nplan.json\nrecords.jsonl\nlog.jsonl\nblobs/"), "{listed}");
    assert_eq!(listed.lines().count(), 6, "{listed}");

    assert_snapshot!("import", bench.talk(&elsewhere(&["import", "run.downbeat"])));
    assert_snapshot!("import_again", bench.talk(&elsewhere(&["import", "run.downbeat"])));
    for command in [
        &["show"][..],
        &["show", "--json"],
        &["explain"],
        &["logs"],
        &["list", "--json"],
        &["graph", "last", "--format", "dot"],
    ] {
        let (here, there) = (bench.run(command), bench.run(&elsewhere(command)));
        assert_eq!((there.code, &there.stdout), (0, &here.stdout), "{command:?} {}", there.stderr);
    }
    let kept = bench.path().join(format!("elsewhere/artifacts/sha256/{}/{}", &blob.hex()[..2], blob.hex()));
    assert_eq!(fs::read_to_string(kept).unwrap(), "a blob");
    assert_eq!(fs::read_dir(bench.path().join("elsewhere/components")).unwrap().count(), 1);
    assert_eq!(bench.run(&elsewhere(&["plan", "travel.toml", "--diff", "last"])).code, 0);
    // The same run is the same file.
    assert_eq!(bench.run(&elsewhere(&["export", "--output", "back.downbeat", "--components"])).code, 0);
    let [there, back] = ["run", "back"].map(|name| fs::read(bench.path().join(format!("{name}.downbeat"))).unwrap());
    assert!(there == back);
    // Nothing that it needs is a leftover.
    let pruned = bench.run(&elsewhere(&["prune", "--json"]));
    let report: Value = serde_json::from_str(&pruned.stdout).unwrap();
    assert_eq!((&report["blobs"]["count"], &report["components"]["count"]), (&0.into(), &0.into()));
}

#[test]
fn a_run_that_is_not_over_is_taken_only_by_those_who_say_so() {
    let bench = bench();
    bench.write("ends.toml", "name = \"ends\"\n[signals.go]\n[steps.park]\nwait = { signal = \"go\" }\n[steps.after]\nneeds = [\"park\"]\nwait = \"1ms\"\n");
    // Begun, and nobody drives it any more.
    let mut engine = bench.spawn(&["run", "ends.toml", "--json"]);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(engine.stdout.take().unwrap()));
    assert!(lines.map(Result::unwrap).any(|line| line.contains("step-opened")));
    engine.kill().unwrap();
    engine.wait().unwrap();
    assert_snapshot!("export_unfinished", bench.talk(&["export", "--output", "open.downbeat"]));
    assert_snapshot!("import_unfinished", bench.talk(&elsewhere(&["import", "open.downbeat"])));
    assert!(!bench.path().join("elsewhere").exists(), "nothing is written");
    // Where its components came from and what was approved is only said by the file.
    bench.write("policy.toml", "[rules.x]\nforbid = { clock = true }\n");
    let held = bench.run(&elsewhere(&["import", "open.downbeat", "--unfinished", "--policy", "policy.toml"]));
    assert!(held.code == 8 && held.stderr.contains("nothing was imported"), "{}", held.stderr);
    assert_eq!(bench.run(&elsewhere(&["import", "open.downbeat", "--unfinished"])).code, 0);
    assert_eq!(bench.run(&elsewhere(&["signal", "go"])).code, 0);
    assert_eq!(bench.run(&elsewhere(&["resume"])).code, 0);
    // What has gone on is not taken back.
    assert_snapshot!("import_older", bench.talk(&elsewhere(&["import", "open.downbeat", "--unfinished"])));
    assert_eq!(bench.run(&elsewhere(&["export", "--output", "over.downbeat"])).code, 0);
    assert_snapshot!("import_newer", bench.talk(&["import", "over.downbeat"]));
}

#[test]
fn a_file_that_is_wrong_is_refused_and_nothing_is_written() {
    let bench = bench();
    assert_eq!(bench.run(&["run", "travel.toml"]).code, 0);
    assert_eq!(bench.run(&["export", "--output", "run.downbeat"]).code, 0);
    let whole = fs::read(bench.path().join("run.downbeat")).unwrap();
    fs::write(bench.path().join("cut.downbeat"), &whole[..whole.len() - 100]).unwrap();
    let mut changed = whole;
    let last = changed.iter().rposition(|byte| *byte != 0).unwrap();
    changed[last - 3] ^= 1;
    fs::write(bench.path().join("changed.downbeat"), &changed).unwrap();
    bench.write("text.downbeat", "this is text");
    bench.write("folder/file", "");
    let talks = ["gone.downbeat", "folder", "text.downbeat", "cut.downbeat", "changed.downbeat"];
    let said: Vec<String> = talks.iter().map(|file| bench.talk(&elsewhere(&["import", file]))).collect();
    assert!(!bench.path().join("elsewhere").exists());
    assert_snapshot!("refused", said.join("\n\n"));
}

#[test]
fn errors_of_export_and_import() {
    let bench = bench();
    let mut said = vec![bench.talk(&["export"]), bench.talk(&["import"])];
    assert_eq!(bench.run(&["run", "travel.toml"]).code, 0);
    said.push(bench.talk(&["export", "nosuchrun"]));
    said.push(bench.talk(&["export", "--output", "nowhere/run.downbeat"]));
    fs::remove_dir_all(bench.path().join(".downbeat/components")).unwrap();
    said.push(bench.talk(&["export", "--components"]));
    assert_snapshot!("errors", said.join("\n\n"));
}
