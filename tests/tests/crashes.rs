//! Engines that die or are stopped in the middle of a run: what was acknowledged stays, and `resume` comes to the right end.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use downbeat_tests::Bench;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// Reads the event stream of a running engine until an event is there.
fn wait_for(engine: &mut Child, wanted: impl Fn(&Value) -> bool) -> Value {
    let lines = BufReader::new(engine.stdout.as_mut().expect("standard output is piped")).lines();
    for line in lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if wanted(&event) {
            return event;
        }
    }
    panic!("the engine ended before it happened");
}

fn started(step: &str) -> impl Fn(&Value) -> bool {
    let step = step.to_owned();
    move |event| event["event"] == "attempt-started" && event["step"] == step.as_str()
}

fn signal(engine: &Child, signal: Signal) {
    kill_process(Pid::from_child(engine), signal).unwrap();
}

/// Starts an engine and kills it once a step is in flight.
fn kill_in(bench: &Bench, step: &str, arguments: &[&str]) {
    let mut engine = bench.spawn(arguments);
    wait_for(&mut engine, started(step));
    signal(&engine, Signal::KILL);
    engine.wait().unwrap();
}

fn events(bench: &Bench) -> Vec<Value> {
    let shown = bench.run(&["show", "--json"]);
    shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A workflow whose middle step runs a program for as long as a file called `go` is missing from the bench.
fn write_waiting(bench: &Bench) {
    let toml = r#"
        name = "waiting"
        [plugins]
        process = "{repo}/plugins/process"
        [steps.before]
        use = "process"
        with = { program = "sh", args = ["-c", "echo once >> ${workflow.directory}/out/before"] }
        grant = { process = ["sh"], files = [{ path = "out", write = true }] }
        [steps.middle]
        needs = ["before"]
        use = "process"
        with = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
        grant = { process = ["sh"] }
        [steps.after]
        needs = ["middle"]
        use = "process"
        with = { program = "echo", args = ["done"], parse = "lines" }
        grant = { process = ["echo"] }
        [outputs]
        said = "${steps.after.output.lines[0]}"
    "#;
    std::fs::create_dir_all(bench.path().join("out")).unwrap();
    bench.write("waiting.toml", &toml.replace("{repo}", &downbeat_tests::repository().display().to_string()));
}

#[test]
fn killed_in_the_middle_a_run_resumes_where_it_was() {
    let bench = bench();
    write_waiting(&bench);
    kill_in(&bench, "middle", &["run", "waiting.toml", "--json"]);
    for command in ["list", "show", "explain", "graph"] {
        let told = bench.run(&[command]).stdout;
        assert!(told.contains("stopped") && !told.contains("in flight"), "{command}: {told}");
        assert!(command == "list" || told.contains("interrupted"), "{command}: {told}");
    }
    bench.write("go", "");
    let text = std::fs::read_to_string(bench.path().join("waiting.toml")).unwrap();
    bench.write("waiting.toml", &text.replace("\"done\"", "\"changed\""));
    let resumed = bench.run(&["resume"]);
    assert_eq!((resumed.code, resumed.stdout.trim()), (0, "{\n  \"said\": \"done\"\n}"), "{}", resumed.stderr);
    let changed = resumed
        .stderr
        .lines()
        .find(|line| line.ends_with("says something else than this run began with; the run keeps its plan"));
    assert!(changed.is_some_and(|line| line.contains("waiting.toml")), "{}", resumed.stderr);
    // What had succeeded was not done again; what was in flight was, and says so.
    assert_eq!(std::fs::read_to_string(bench.path().join("out/before")).unwrap(), "once\n");
    let story = events(&bench);
    let interrupted = story.iter().find(|event| event["event"] == "attempt-interrupted").unwrap();
    assert_eq!((&interrupted["step"], &interrupted["cause"]), (&"middle".into(), &"crash".into()));
    let attempts: Vec<u64> =
        story.iter().filter(|event| started("middle")(event)).map(|event| event["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2]);
}

#[test]
fn asked_to_stop_it_ends_its_programs_and_can_be_resumed() {
    for polite in [Signal::INT, Signal::TERM, Signal::HUP] {
        let bench = bench();
        write_waiting(&bench);
        let mut engine = bench.spawn(&["run", "waiting.toml", "--json"]);
        wait_for(&mut engine, started("middle"));
        signal(&engine, polite);
        let ended = engine.wait().unwrap();
        assert_eq!(ended.code(), Some(130));
        let last = events(&bench).pop().unwrap();
        assert_eq!((&last["event"], &last["cause"]), (&"attempt-interrupted".into(), &"stop".into()));
        bench.write("go", "");
        let resumed = bench.run(&["resume"]);
        assert!(resumed.code == 0 && !resumed.stderr.contains("changed"), "{}", resumed.stderr);
    }
}

#[test]
fn one_process_drives_the_other_is_told_so_and_may_look_and_cancel() {
    let bench = bench();
    write_waiting(&bench);
    let mut engine = bench.spawn(&["run", "waiting.toml", "--json"]);
    wait_for(&mut engine, started("middle"));
    let second = bench.run(&["run", "waiting.toml"]);
    assert_eq!(second.code, 4);
    assert!(second.stderr.contains(&format!("another process ({})", engine.id())), "{}", second.stderr);
    assert!(bench.run(&["list"]).stdout.contains("running"));
    assert!(bench.run(&["show"]).stdout.contains("in flight"));
    let cancelled = bench.run(&["cancel", "--reason", "wrong branch"]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    assert_eq!(engine.wait().unwrap().code(), Some(5));
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains("wrong branch") && shown.contains("the run was cancelled before its turn"), "{shown}");
}

#[test]
fn a_run_that_nobody_drives_can_be_cancelled() {
    let bench = bench();
    write_waiting(&bench);
    kill_in(&bench, "middle", &["run", "waiting.toml", "--json"]);
    assert_eq!(bench.run(&["cancel"]).code, 0);
    assert!(bench.run(&["list"]).stdout.contains("cancelled"));
    assert_eq!(bench.run(&["resume"]).code, 2, "nothing is left to resume");
}

#[test]
fn a_release_that_was_killed_while_it_measured_is_rolled_back_all_the_same() {
    let bench = bench();
    let release = "{repo}/workflows/release/release.toml";
    kill_in(&bench, "trial/measure_new", &["run", release, "--input", "commit=slow", "--json"]);
    let resumed = bench.run(&["resume"]);
    assert_eq!(resumed.code, 1, "{}", resumed.stderr);
    let outputs: Value = serde_json::from_str(&resumed.stdout).unwrap();
    assert_eq!((&outputs["outcome"], &outputs["serving"]), (&"rolled back".into(), &"1.0.0".into()), "{outputs}");
    assert_eq!(outputs["messages"].as_array().unwrap().len(), 1, "{outputs}");
}

#[test]
fn a_component_that_changed_meanwhile_does_not_change_a_run() {
    let bench = bench();
    write_waiting(&bench);
    // A component by path, which is overwritten while the run is parked.
    let built = bench.run(&["plugin", "build", "{repo}/plugins/process"]);
    std::fs::copy(built.stdout.trim(), bench.path().join("process.wasm")).unwrap();
    let toml = std::fs::read_to_string(bench.path().join("waiting.toml")).unwrap();
    let line = toml.lines().find(|line| line.contains("plugins/process")).unwrap();
    bench.write("waiting.toml", &toml.replace(line, "process = \"process.wasm\""));
    kill_in(&bench, "middle", &["run", "waiting.toml", "--json"]);
    bench.write("process.wasm", "no component any more");
    bench.write("go", "");
    let resumed = bench.run(&["resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
}
