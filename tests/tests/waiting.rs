//! Runs that wait, with real processes: signals, approvals and the cancel of a step reach the one that drives, from any other,
//! and a run that nobody drives keeps what it is sent.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use downbeat_tests::Bench;
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::Value;

const RELEASE: &str = r#"
name = "waiting"

[plugins]
hello = "{repo}/plugins/hello"

[signals.go]

[steps.greet]
foreach  = ["ada", "grace"]
parallel = 1
use      = "hello"
with     = { name = "${item}" }

[steps.ready]
needs = ["greet"]
wait  = { signal = "go" }

[steps.ask]
needs = ["ready"]
wait  = { approval = ["ann", "bob"], question = "Lane ${steps.ready.output.data.lane}?" }

[steps.promote.steps.say]
use  = "hello"
with = { name = "${steps.ask.output.who}" }

[steps.promote]
needs   = ["ask"]
outputs = { said = "${steps.say.output.greeting}" }

[outputs]
said = "${steps.promote.output.said}"
all  = "${steps.greet.output.map(one, one.greeting)}"
"#;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.build("plugins/hello");
    bench.write("waiting.toml", &RELEASE.replace("{repo}", &downbeat_tests::repository().display().to_string()));
    bench
}

/// An engine that does not outlive a test which gives up on it: it would wait for ever.
struct Engine(Child);

impl Engine {
    fn spawn(bench: &Bench, arguments: &[&str]) -> Engine {
        Engine(bench.spawn(arguments))
    }

    fn ends(mut self) -> Option<i32> {
        // What is left of the stream: an engine that nobody reads from waits for its reader.
        std::io::copy(self.0.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the stream until a step has begun to wait.
fn until_opened(engine: &mut Engine, step: &str) {
    for line in BufReader::new(engine.0.stdout.as_mut().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["event"] == "step-opened" && line["step"] == step {
            return;
        }
    }
    panic!("the stream ended before `{step}` began");
}

#[test]
fn a_signal_and_an_approval_reach_the_process_that_drives() {
    let bench = bench();
    let mut engine = Engine::spawn(&bench, &["run", "waiting.toml", "--json"]);
    until_opened(&mut engine, "ready");
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains("greet[1]") && shown.contains("parked"), "{shown}");
    let unknown = bench.run(&["signal", "gone"]);
    assert_eq!((unknown.code, unknown.stderr.contains("its signals are go")), (2, true), "{}", unknown.stderr);
    let sent = bench.run(&["signal", "go", "--data", "{\"lane\": 3}"]);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert!(sent.stderr.contains("the signal `go` is sent to run"), "{}", sent.stderr);
    until_opened(&mut engine, "ask");
    let eve = bench.run(&["approve", "--by", "eve"]);
    assert_eq!(eve.code, 2);
    assert!(eve.stderr.contains("these are ann, bob"), "{}", eve.stderr);
    assert_eq!(bench.run(&["approve", "--by", "ann", "--note", "fine"]).code, 0);
    assert_eq!(engine.ends(), Some(0));
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains("promote/say") && shown.contains("Hello, ann"), "{shown}");
    assert!(shown.contains("Hello, ada") && shown.contains("Hello, grace"), "{shown}");
    let told = bench.run(&["explain"]).stdout;
    assert!(told.contains(&format!("ann (uid {}) approved ask: fine", getuid().as_raw())), "{told}");
    assert_eq!(bench.run(&["signal", "go", "last"]).code, 2, "the run is over");
}

#[test]
fn a_run_that_nobody_drives_keeps_what_it_is_sent_until_it_is_resumed() {
    let bench = bench();
    let mut engine = Engine::spawn(&bench, &["run", "waiting.toml", "--json"]);
    until_opened(&mut engine, "ready");
    kill_process(Pid::from_child(&engine.0), Signal::KILL).unwrap();
    engine.ends();
    let sent = bench.run(&["signal", "go", "--data", "{\"lane\": 1}"]);
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert!(sent.stderr.contains("is kept for run") && sent.stderr.contains("downbeat resume"), "{}", sent.stderr);
    let mut engine = Engine::spawn(&bench, &["resume", "--json"]);
    until_opened(&mut engine, "ask");
    assert_eq!(bench.run(&["reject", "--by", "bob"]).code, 0);
    assert_eq!(engine.ends(), Some(1), "what nobody approves has failed");
    let told = bench.run(&["explain"]).stdout;
    assert!(told.contains(&format!("bob (uid {}) rejected ask", getuid().as_raw())), "{told}");
}

#[test]
fn one_step_is_cancelled_and_the_others_go_on() {
    let bench = bench();
    let mut engine = Engine::spawn(&bench, &["run", "waiting.toml", "--json"]);
    until_opened(&mut engine, "ready");
    assert_eq!(bench.run(&["cancel", "--step", "nobody"]).code, 2);
    assert_eq!(bench.run(&["cancel", "--step", "greet[0]"]).code, 2, "it is over");
    assert_eq!(bench.run(&["cancel", "--step", "ready", "--reason", "not today"]).code, 0);
    assert_eq!(engine.ends(), Some(0), "a step that somebody cancelled has not failed");
    let told = bench.run(&["explain"]).stdout;
    assert!(told.contains("not today"), "{told}");
}
