//! Runs of a group exclude each other, with real processes: one that was left behind is in the way of others, who say so,
//! until it is cancelled.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use downbeat_tests::Bench;
use downbeat_workflow::group::WAIT_TOLD_MS;
use serde_json::Value;

const DEPLOY: &str = r#"
name = "deploy"

[inputs]
region = { type = "string", default = "eu" }

[concurrency]
group     = "deploy-${inputs.region}"
when-busy = "BUSY"

[signals.go]

[steps.push]
wait = { signal = "go" }
"#;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    for busy in ["queue", "reject"] {
        bench.write(&format!("{busy}.toml"), &DEPLOY.replace("BUSY", busy));
    }
    bench
}

/// An engine that does not outlive a test which gives up on it: it would wait for ever.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the stream to an event; answers the run's id.
fn until(engine: &mut Engine, event: &str) -> String {
    for line in BufReader::new(engine.0.stdout.as_mut().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["event"] == event {
            return line["run"].as_str().unwrap().to_owned();
        }
    }
    panic!("the stream ended before {event}");
}

#[test]
fn a_run_that_was_left_behind_is_in_the_way_until_it_is_cancelled() {
    let bench = bench();
    let mut engine = Engine(bench.spawn(&["run", "queue.toml", "--json"]));
    let left = until(&mut engine, "step-opened");
    drop(engine);
    let rejected = bench.run(&["run", "reject.toml"]);
    assert_eq!(rejected.code, 7, "{}", rejected.stderr);
    assert!(rejected.stderr.contains(&format!("the group `deploy-eu` is busy: run {left} is not over")));
    let mut engine = Engine(bench.spawn(&["run", "queue.toml", "--json", "--priority", "5"]));
    let waits = until(&mut engine, "run-created");
    let since = Instant::now();
    let shown = bench.run(&["show", &waits]).stdout;
    assert!(shown.contains(&format!("waits for run {left}, which has the group `deploy-eu`")), "{shown}");
    let told = bench.run(&["explain", &waits]).stdout;
    assert!(told.contains(&format!("waits for run {left}")), "{told}");
    let listed = bench.run(&["list"]).stdout;
    let row = listed.lines().find(|row| row.contains(&waits)).unwrap();
    assert!(row.contains("waiting"), "{listed}");
    // Shorter waits for a group are not told from what an engine takes to begin.
    std::thread::sleep(Duration::from_millis(WAIT_TOLD_MS).saturating_sub(since.elapsed()));
    assert_eq!(bench.run(&["cancel", &left]).code, 0);
    until(&mut engine, "step-opened");
    assert_eq!(bench.run(&["signal", "go", &waits]).code, 0);
    until(&mut engine, "run-finished");
    assert_eq!(engine.0.wait().unwrap().code(), Some(0));
    let told = bench.run(&["explain", &waits]).stdout;
    assert!(told.contains("in line for the group of its run"), "{told}");
}
