//! The scale workflow under a load that rises and falls, one that does not change, and one that is too much: what is
//! decided, what the operating system sees of it, what customers notice, and that nothing is left running.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use downbeat_tests::{Answer, Bench, repository};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SCALE: &str = "{repo}/workflows/scale/scale.toml";

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The command that runs the workflow with these inputs.
fn run<'a>(inputs: &[&'a str]) -> Vec<&'a str> {
    ["run", SCALE].into_iter().chain(inputs.iter().flat_map(|input| ["--input", *input])).collect()
}

fn outputs(answer: &Answer) -> Value {
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}", answer.stderr))
}

/// The process ids of the workers whose program lies in the bench's folder.
fn workers(bench: &Bench) -> Vec<u32> {
    let folder = bench.path().canonicalize().unwrap();
    let is_worker = |process: &Path| {
        std::fs::read_link(process.join("exe")).is_ok_and(|program| program.starts_with(&folder))
            && std::fs::read(process.join("cmdline")).is_ok_and(|line| line.ends_with(b"\0worker\0"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let workers = processes.filter(|process| is_worker(process));
    workers.filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
}

/// No process has its program in the bench's folder, or will not have one soon: what was killed is given time to end.
fn assert_nothing_runs(bench: &Bench) {
    let folder = bench.path().canonicalize().unwrap();
    let left = || -> Vec<String> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let programs = processes.filter_map(|process| std::fs::read_link(process.path().join("exe")).ok());
        programs.filter(|program| program.starts_with(&folder)).map(|program| program.display().to_string()).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", left());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Reads the event stream until an attempt of the step has started.
fn wait_for(engine: &mut Child, step: &str) {
    for line in BufReader::new(engine.stdout.as_mut().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "attempt-started" && event["step"] == step {
            return;
        }
    }
    panic!("the engine ended before {step} was started");
}

#[test]
fn as_traffic_rises_there_are_more_workers_and_as_it_falls_fewer() {
    let bench = bench();
    let mut engine = bench.spawn(&run(&["window_ms=600", "p95_ms=800"]));
    // How many workers the operating system sees, each time that it is another number than before.
    let mut seen = vec![0];
    while engine.try_wait().unwrap().is_none() {
        let count = workers(&bench).len();
        if seen.last() != Some(&count) {
            seen.push(count);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = engine.wait_with_output().unwrap();
    let story = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{story}");
    let outputs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outputs["workers"], json!([1, 1, 5, 5, 5, 1, 1]), "{outputs:#}");
    assert_eq!(outputs["fleet"], json!({ "peak": 5, "started": 5, "lost": 0 }), "{outputs:#}");
    // On the way up and down there is every number in between, or it is gone before it is looked at.
    let peak = seen.iter().position(|count| *count == 5).unwrap_or_else(|| panic!("{seen:?}"));
    assert!(seen[..=peak].is_sorted() && seen[peak..].is_sorted_by(|a, b| a >= b), "{seen:?}");
    assert!(seen[1] == 1 && seen.iter().rev().find(|count| **count > 0) == Some(&1), "{seen:?}");

    // 60 pieces of work of 50 ms, two at a time, take 1.5 s, and the last was due after 0.6 s: whatever the machine does,
    // the 95th percentile is above 0.8 s. With five workers nobody waits.
    let p95: Vec<f64> = outputs["p95_ms"].as_array().unwrap().iter().map(|p95| p95.as_f64().unwrap()).collect();
    assert!(p95[1] > 800.0 && p95[2] <= 800.0, "{p95:?}");
    assert_eq!((&outputs["objective"], &outputs["messages"]), (&json!("kept"), &json!([])), "{outputs:#}");
    let decisions = json!([
        "utilisation 0.50 is between 0.30 and 0.80; stays at 1",
        "utilisation 2.50 is above 0.80: 100.0 requests/s need 5 workers at 0.60 of 40 requests/s each; from 1 to 5",
        "utilisation 0.50 is between 0.30 and 0.80; stays at 5",
        "utilisation 0.10 is below 0.30 in 1 of the 2 windows that it takes; stays at 5",
        "utilisation 0.10 is below 0.30: 20.0 requests/s need 1 worker at 0.60 of 40 requests/s each; from 5 to 1",
        "utilisation 0.50 is between 0.30 and 0.80; stays at 1",
    ]);
    assert_eq!(outputs["decisions"], decisions);
    let shown = bench.run(&["show"]).stdout;
    for branch in [
        "steps.decide_2.output.to < steps.decide_2.output.from",
        "steps.decide_5.output.to > steps.decide_5.output.from",
    ] {
        assert!(shown.contains(branch), "the branch that was not taken is shown with its rule: {shown}");
    }
    assert_nothing_runs(&bench);
}

#[test]
fn a_load_that_does_not_change_changes_nothing() {
    let bench = bench();
    let answer = bench.run(&run(&["rush=20", "window_ms=200", "p95_ms=5000"]));
    let outputs = outputs(&answer);
    assert_eq!(answer.code, 0, "{outputs:#}\n{}", answer.stderr);
    assert_eq!(outputs["workers"], json!([1, 1, 1, 1, 1, 1, 1]), "{outputs:#}");
    assert_eq!(outputs["fleet"], json!({ "peak": 1, "started": 1, "lost": 0 }), "{outputs:#}");
    assert_nothing_runs(&bench);
}

#[test]
fn a_load_beyond_the_largest_fleet_is_told_once_and_misses_the_objective() {
    let bench = bench();
    // Three workers do 120 pieces of work a second: the 95th of 100 that come at 200 a second is 316 ms late.
    let answer = bench.run(&run(&["rush=200", "ebb=60", "max_workers=3", "window_ms=500", "p95_ms=200"]));
    let outputs = outputs(&answer);
    assert_eq!(answer.code, 1, "{outputs:#}\n{}", answer.stderr);
    assert_eq!(outputs["workers"], json!([1, 1, 3, 3, 3, 3, 3]), "{outputs:#}");
    assert_eq!(outputs["objective"], "missed", "{outputs:#}");
    let messages = outputs["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 1, "{outputs:#}");
    assert_eq!(messages[0]["title"], "6 workers more than the maximum of 3 are needed", "{outputs:#}");
    let text = messages[0]["text"].as_str().unwrap();
    assert!(text.starts_with("Window 2: utilisation 5.00 is above 0.80: 200.0 requests/s need 9 workers"), "{text}");
    assert_nothing_runs(&bench);
}

#[test]
fn killed_in_the_rush_the_fleet_ends_and_a_resumed_run_decides_as_it_would_have() {
    let bench = bench();
    let mut engine = bench.spawn(&[&run(&["window_ms=400", "p95_ms=5000"])[..], &["--json"]].concat());
    wait_for(&mut engine, "traffic_3");
    kill_process(Pid::from_child(&engine), Signal::KILL).unwrap();
    engine.wait().unwrap();
    assert_nothing_runs(&bench);
    let answer = bench.run(&["resume"]);
    let outputs = outputs(&answer);
    assert_eq!(answer.code, 0, "{outputs:#}\n{}", answer.stderr);
    assert_eq!(outputs["workers"], json!([1, 1, 5, 5, 5, 1, 1]), "{outputs:#}");
    assert_nothing_runs(&bench);
}

#[test]
fn a_run_that_is_cancelled_takes_its_fleet_with_it() {
    let bench = bench();
    let mut engine = bench.spawn(&["run", SCALE, "--json"]);
    wait_for(&mut engine, "traffic_1");
    assert_eq!(workers(&bench).len(), 1);
    assert_eq!(bench.run(&["cancel"]).code, 0);
    assert_eq!(engine.wait().unwrap().code(), Some(5));
    assert_nothing_runs(&bench);
}

#[test]
fn a_policy_that_would_not_come_to_rest_is_refused_before_anything_is_started() {
    let bench = bench();
    let answer = bench.run(&run(&["target=0.9"]));
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("it must be 0 <= down-below < target <= up-above"), "{}", answer.stderr);
    assert!(bench.run(&["show"]).stdout.contains("decide_0"));
}

#[test]
fn the_fleets_own_tests_pass() {
    let manifest = repository().join("workflows/scale/fleet/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fleet");
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}\n{}", String::from_utf8_lossy(&tested.stderr));
}
