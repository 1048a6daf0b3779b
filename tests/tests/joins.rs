//! Joins and always-steps with real components: who loses is ended, and what has to run whatever happens does.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Child;

use downbeat_tests::{Bench, repository};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// Programs write to the folder `out` beside it.
fn write(bench: &Bench, toml: &str) {
    std::fs::create_dir_all(bench.path().join("out")).unwrap();
    let header = r#"
        name = "joins"
        [plugins]
        process = "{repo}/plugins/process"
        rogue = "{repo}/tests/guests/rogue"
    "#;
    bench.write("joins.toml", &format!("{header}{toml}").replace("{repo}", &repository().display().to_string()));
}

/// Reads the event stream of a running engine until all of these steps are in flight.
fn wait_for_starts(engine: &mut Child, steps: &[&str]) {
    let mut missing: BTreeSet<&str> = steps.iter().copied().collect();
    let mut lines = BufReader::new(engine.stdout.as_mut().unwrap()).lines();
    while !missing.is_empty() {
        let event: Value = serde_json::from_str(&lines.next().expect("the engine ended before").unwrap()).unwrap();
        if event["event"] == "attempt-started" {
            missing.remove(event["step"].as_str().unwrap());
        }
    }
}

/// Waits until another program has written a file.
fn wait_for_file(engine: &mut Child, path: &std::path::Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert_eq!(engine.try_wait().unwrap(), None, "the engine ended before {} was there", path.display()),
        }
        std::thread::yield_now();
    }
}

fn end(engine: Child) -> (Option<i32>, String) {
    let output = engine.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The events of the last run, in short: the step and what became of it.
fn ends(bench: &Bench) -> Vec<(String, String)> {
    let shown = bench.run(&["show", "--json"]).stdout;
    let events = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |event: Value| (text(&event["step"]), text(&event["event"]));
    let is_end =
        |(_, event): &(String, String)| !matches!(&event[..], "attempt-started" | "capability-used" | "run-created");
    events.map(told).filter(is_end).collect()
}

/// What `downbeat explain` says of a step of the last run.
fn explained(bench: &Bench, step: &str, more: &[&str]) -> String {
    let shown = bench.run(&["show", "--json"]).stdout;
    let created: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    bench.run(&[&["explain", created["run"].as_str().unwrap(), step], more].concat()).stdout
}

fn told<'e>(ends: &'e [(String, String)], step: &str) -> Vec<&'e str> {
    ends.iter().filter(|(of, _)| of == step).map(|(_, event)| event.as_str()).collect()
}

/// One branch computes for ever, one runs a program that takes an hour, one waits for a file.
const RACE: &str = r#"
    [steps.computes]
    use = "rogue"
    with = { do = "loop" }
    timeout = "1h"
    [steps.sleeps]
    use = "process"
    with = { program = "sh", args = ["-c", "echo $$ > ${workflow.directory}/out/pid; exec sleep 3600"] }
    grant = { process = ["sh"], files = [{ path = "out", write = true }] }
    [steps.after]
    needs = ["sleeps"]
    use = "rogue"
    with = { do = "echo" }
    [steps.quick]
    use = "process"
    with = { program = "sh", args = ["-c", "until [ -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
    grant = { process = ["sh"] }
    [steps.first]
    needs = ["computes", "after", "quick"]
    join = "any"
    rest = "cancel"
    use = "rogue"
    with = { do = "echo", computes = "${steps.computes.status}", quick = "${steps.quick.status}" }
    [outputs]
    saw = "${steps.first.output.input}"
"#;

#[test]
fn the_branches_that_lose_are_ended_with_their_programs_and_the_run_succeeds() {
    let bench = bench();
    write(&bench, RACE);
    let mut engine = bench.spawn(&["run", "joins.toml", "--json"]);
    wait_for_starts(&mut engine, &["computes", "sleeps", "quick"]);
    let pid: i32 = wait_for_file(&mut engine, &bench.path().join("out/pid")).parse().unwrap();
    bench.write("go", "");
    let (code, stderr) = end(engine);
    assert_eq!(code, Some(0), "{stderr}");
    let ends = ends(&bench);
    assert_eq!(told(&ends, "computes"), ["attempt-cancelled"]);
    assert_eq!(told(&ends, "sleeps"), ["attempt-cancelled"]);
    assert_eq!(told(&ends, "after"), ["step-skipped"]);
    assert_eq!(told(&ends, "first"), ["attempt-succeeded"]);
    assert_eq!(test_kill_process(Pid::from_raw(pid).unwrap()), Err(Errno::SRCH), "the program is gone");
    let shown = bench.run(&["show"]).stdout;
    assert_eq!(shown.matches("`first` does not need it any more").count(), 3, "{shown}");
    let told = bench.run(&["explain"]).stdout;
    assert!(told.contains("cancelled, because first was decided without"), "{told}");
    let saw: Value = serde_json::from_str(&explained(&bench, "first", &["--json"])).unwrap();
    assert_eq!((&saw["input"]["computes"], &saw["input"]["quick"]), (&"unfinished".into(), &"succeeded".into()));
}

/// A step that holds something, which is to be given back, and somebody who is to hear of failures.
fn write_lease(bench: &Bench, work: &str) {
    let toml = r#"
        [steps.lease]
        use = "process"
        with = { program = "sh", args = ["-c", "echo held > ${workflow.directory}/out/lease"] }
        grant = { process = ["sh"], files = [{ path = "out", write = true }] }
        [steps.work]
        needs = ["lease"]
        {work}
        [steps.after]
        needs = ["work"]
        use = "rogue"
        with = { do = "echo" }
        [always.release]
        needs = ["lease"]
        use = "process"
        with = { program = "sh", args = ["-c", "echo ${steps.work.status} > ${workflow.directory}/out/lease"] }
        grant = { process = ["sh"], files = [{ path = "out", write = true }] }
        [always.tell]
        needs = ["work.failed"]
        use = "rogue"
        with = { do = "echo", why = "${steps.work.failure.message}" }
    "#;
    write(bench, &toml.replace("{work}", work));
}

/// Work that takes until somebody says so.
const WAITS: &str = r#"
        use = "process"
        with = { program = "sh", args = ["-c", "until [ -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
        grant = { process = ["sh"] }
"#;

fn lease(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path().join("out/lease")).unwrap().trim().to_owned()
}

#[test]
fn always_steps_run_after_a_failure() {
    let bench = bench();
    write_lease(&bench, "use = \"rogue\"\nwith = { do = \"fail-permanent\", message = \"no luck\" }\n");
    let run = bench.run(&["run", "joins.toml"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(lease(&bench), "failed");
    let ends = ends(&bench);
    assert_eq!(told(&ends, "after"), ["step-skipped"]);
    assert_eq!(told(&ends, "release"), ["attempt-succeeded"]);
    assert_eq!(told(&ends, "tell"), ["attempt-succeeded"]);
    let told = explained(&bench, "release", &[]);
    assert!(told.contains("it ran as all steps were over, and its needs were met"), "{told}");
}

#[test]
fn always_steps_run_after_a_cancel_which_ends_only_what_is_not_one() {
    let bench = bench();
    write_lease(&bench, WAITS);
    let mut engine = bench.spawn(&["run", "joins.toml", "--json"]);
    wait_for_starts(&mut engine, &["work"]);
    let cancelled = bench.run(&["cancel", "--reason", "wrong branch"]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    assert_eq!(end(engine).0, Some(5));
    assert_eq!(lease(&bench), "cancelled");
    let ends = ends(&bench);
    assert_eq!(told(&ends, "work"), ["attempt-cancelled"]);
    assert_eq!(told(&ends, "after"), ["step-skipped"]);
    assert_eq!(told(&ends, "release"), ["attempt-succeeded"]);
    assert_eq!(told(&ends, "tell"), ["step-skipped"]);
}

#[test]
fn a_parked_run_that_is_cancelled_gives_its_lease_back_when_it_is_resumed() {
    for twice in [false, true] {
        let bench = bench();
        write_lease(&bench, WAITS);
        let mut engine = bench.spawn(&["run", "joins.toml", "--json"]);
        wait_for_starts(&mut engine, &["work"]);
        kill_process(Pid::from_child(&engine), Signal::KILL).unwrap();
        engine.wait().unwrap();
        let cancelled = bench.run(&["cancel"]);
        assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
        assert!(cancelled.stderr.contains("is cancelled but for its always-steps"), "{}", cancelled.stderr);
        if twice {
            let again = bench.run(&["cancel"]);
            assert_eq!(again.code, 0, "{}", again.stderr);
            assert_eq!(bench.run(&["resume"]).code, 2, "nothing is left to resume");
            assert_eq!(lease(&bench), "held");
        } else {
            let resumed = bench.run(&["resume"]);
            assert_eq!(resumed.code, 5, "{}", resumed.stderr);
            assert_eq!(lease(&bench), "cancelled");
        }
    }
}
