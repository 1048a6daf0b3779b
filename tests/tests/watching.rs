//! Watching runs: on other terminals while they go on, through pipes whose readers stall or go away. Whoever watches
//! holds up neither the run nor its signals, and what is shown late is shown all the same.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use downbeat_tests::{Answer, Bench};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// A workflow whose first step writes more than a pipe holds, and whose second runs until a file `go` is there.
fn write_chatty(bench: &Bench) {
    bench.build("plugins/process");
    let toml = r#"
        name = "chatty"
        [plugins]
        process = "{repo}/plugins/process"
        [steps.talk]
        use = "process"
        with = { program = "sh", args = ["-c", "i=0; while [ $i -lt 4000 ]; do echo line $i of a text that fills pipes; i=$((i+1)); done"] }
        grant = { process = ["sh"] }
        [steps.middle]
        needs = ["talk"]
        use = "process"
        with = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
        grant = { process = ["sh"] }
        [outputs]
        code = "${steps.middle.output['exit-code']}"
    "#;
    bench.write("chatty.toml", &toml.replace("{repo}", &downbeat_tests::repository().display().to_string()));
}

/// Looks until the journal has what is wanted.
fn wait_until(bench: &Bench, arguments: &[&str], wanted: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = bench.run(arguments);
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it did not happen:\n{}{}", answer.stdout, answer.stderr);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn in_flight(bench: &Bench, step: &str) {
    let started = format!("{step} in flight");
    wait_until(bench, &["show"], |answer| {
        answer.stdout.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&started))
    });
}

fn is(state: &str) -> impl Fn(&Answer) -> bool {
    let state = format!("\"state\":\"{state}\"");
    move |answer| answer.stdout.contains(&state)
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn signal(engine: &Child, signal: Signal) {
    kill_process(Pid::from_child(engine), signal).unwrap();
}

#[test]
fn a_stream_that_nobody_reads_does_not_hold_the_run_and_loses_nothing() {
    let bench = bench();
    write_chatty(&bench);
    bench.write("go", "");
    let mut engine = bench.spawn(&["run", "chatty.toml", "--json"]);
    // The pipe is full long before the run's end, which comes nevertheless.
    wait_until(&bench, &["list", "--json"], is("succeeded"));
    // Nor does the reader keep others from driving, once the run is over.
    assert_eq!(wait_until(&bench, &["run", "chatty.toml"], |answer| answer.code != 4).code, 0);
    let mut stream = String::new();
    engine.stdout.take().unwrap().read_to_string(&mut stream).unwrap();
    assert_eq!(engine.wait().unwrap().code(), Some(0));
    let events = events(&stream);
    assert_eq!(events.last().unwrap()["event"], "run-finished");
    let run = events[0]["run"].as_str().unwrap();
    let (lines, records): (Vec<&str>, Vec<&str>) = stream.lines().partition(|line| line.contains("\"attempt-logged\""));
    assert_eq!(records, bench.run(&["show", run, "--json"]).stdout.lines().collect::<Vec<_>>());
    let said = bench.run(&["logs", run, "--json"]).stdout;
    assert!(lines.len() >= 4_000, "{} lines", lines.len());
    assert_eq!(lines.len(), said.lines().count());
    // In their order, between their attempt's start and its end.
    let at = |name: &str| events.iter().position(|event| event["event"] == name).unwrap();
    let first = at("attempt-logged");
    assert!(at("attempt-started") < first && first + 4_000 <= events.iter().position(is_end).unwrap());
    let told: Vec<&Value> = events.iter().filter(|event| event["event"] == "attempt-logged").collect();
    for (told, kept) in told.iter().zip(said.lines()) {
        let kept: Value = serde_json::from_str(kept).unwrap();
        assert_eq!(told["message"], kept["message"]);
    }
}

fn is_end(event: &Value) -> bool {
    event["event"] == "attempt-succeeded"
}

#[test]
fn ctrl_c_is_heard_while_nobody_reads() {
    for arguments in [&["run", "chatty.toml", "--json"][..], &["run", "chatty.toml"]] {
        let bench = bench();
        write_chatty(&bench);
        // Both outputs go into a pipe that is full, and stays so.
        let (reader, mut writer) = std::io::pipe().unwrap();
        let ends = [writer.try_clone().unwrap(), writer.try_clone().unwrap()];
        let filling = std::thread::spawn(move || while writer.write_all(&[b'.'; 4096]).is_ok() {});
        let [out, err] = ends;
        let mut engine = bench.command(arguments).stdout(out).stderr(err).spawn().unwrap();
        in_flight(&bench, "middle");
        signal(&engine, Signal::INT);
        assert_eq!(engine.wait().unwrap().code(), Some(130));
        assert!(is("stopped")(&bench.run(&["list", "--json"])));
        drop(reader);
        filling.join().unwrap();
    }
}

#[test]
fn whoever_stops_waiting_for_a_reader_gets_the_runs_own_exit_code() {
    let bench = bench();
    write_chatty(&bench);
    bench.write("go", "");
    let mut engine = bench.spawn(&["run", "chatty.toml", "--json"]);
    // The run is over and its process no longer drives: it only waits for its reader.
    wait_until(&bench, &["list", "--json"], is("succeeded"));
    wait_until(&bench, &["resume"], |answer| answer.code == 2);
    signal(&engine, Signal::INT);
    assert_eq!(engine.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    engine.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("is over, but not all of it was read here"), "{said}");
}

#[test]
fn a_reader_who_has_had_enough_ends_the_output_and_not_the_run() {
    let bench = bench();
    write_chatty(&bench);
    let mut engine = bench.spawn(&["run", "chatty.toml", "--json"]);
    drop(engine.stdout.take());
    drop(engine.stderr.take());
    in_flight(&bench, "middle");
    bench.write("go", "");
    assert_eq!(engine.wait().unwrap().code(), Some(0));
    assert!(is("succeeded")(&bench.run(&["list", "--json"])));
    for looking in [&["logs"][..], &["logs", "--json"], &["show", "--json"], &["show", "--follow", "--json"]] {
        let mut command = bench.spawn(looking);
        drop(command.stdout.take());
        let output = command.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{looking:?}");
    }
}

#[test]
fn a_run_is_running_while_somebody_drives_it_and_stopped_otherwise() {
    let bench = bench();
    write_chatty(&bench);
    let mut engine = bench.spawn(&["run", "chatty.toml"]);
    in_flight(&bench, "middle");
    assert!(is("running")(&bench.run(&["list", "--json"])));
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains(&format!("running (driven by process {})", engine.id())), "{shown}");
    signal(&engine, Signal::KILL);
    engine.wait().unwrap();
    assert!(is("stopped")(&bench.run(&["list", "--json"])));
    assert!(bench.run(&["show"]).stdout.contains("goes on"));
    // While another run is driven, this one is not.
    let first = bench.run(&["list", "--json"]).stdout;
    let first = serde_json::from_str::<Value>(first.trim()).unwrap()["run"].as_str().unwrap().to_owned();
    let mut engine = bench.spawn(&["run", "chatty.toml"]);
    wait_until(&bench, &["list", "--json"], is("running"));
    let states = bench.run(&["list", "--json"]).stdout;
    let stopped = states.lines().find(|line| line.contains(&first)).unwrap();
    assert!(stopped.contains("\"state\":\"stopped\""), "{states}");
    signal(&engine, Signal::KILL);
    engine.wait().unwrap();
}

#[test]
fn a_run_is_followed_from_another_terminal_to_its_end() {
    let bench = bench();
    write_chatty(&bench);
    let mut engine =
        bench.command(&["run", "chatty.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    in_flight(&bench, "middle");
    let followers: [&[&str]; 4] = [
        &["show", "--follow"],
        &["show", "--follow", "--json"],
        &["logs", "--follow", "--step", "talk"],
        &["logs", "-f", "--json"],
    ];
    let followers: Vec<_> = followers
        .map(|arguments| {
            let mut command = bench.command(arguments);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::spawn(move || child.wait_with_output().unwrap())
        })
        .into_iter()
        .collect();
    bench.write("go", "");
    assert_eq!(engine.wait().unwrap().code(), Some(0));
    let texts: Vec<(String, String)> = followers
        .into_iter()
        .map(|follower| {
            let output = follower.join().unwrap();
            assert_eq!(output.status.code(), Some(0));
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
        })
        .collect();
    assert_eq!(texts[0].0.trim(), "{\n  \"code\": 0\n}");
    assert!(texts[0].1.contains("talk") && texts[0].1.contains("chatty succeeded after"), "{}", texts[0].1);
    let records: Vec<&str> = texts[1].0.lines().filter(|line| !line.contains("\"attempt-logged\"")).collect();
    assert_eq!(records, bench.run(&["show", "--json"]).stdout.lines().collect::<Vec<_>>());
    assert_eq!(texts[2].0, bench.run(&["logs", "--step", "talk"]).stdout);
    assert_eq!(texts[3].0, bench.run(&["logs", "--json"]).stdout);
    // A run that is over is told and left.
    assert_eq!(bench.run(&["show", "--follow", "--json"]).stdout, texts[1].0);
    assert_eq!(bench.run(&["logs", "--follow", "--json"]).stdout, texts[3].0);
}

#[test]
fn whoever_follows_a_stopped_run_is_told_and_sees_it_go_on() {
    let bench = bench();
    write_chatty(&bench);
    let mut engine = bench.spawn(&["run", "chatty.toml"]);
    in_flight(&bench, "middle");
    signal(&engine, Signal::KILL);
    engine.wait().unwrap();
    let follower = bench.spawn(&["show", "--follow", "--json"]);
    let follower = std::thread::spawn(move || follower.wait_with_output().unwrap());
    bench.write("go", "");
    assert_eq!(bench.run(&["resume"]).code, 0);
    let seen = follower.join().unwrap();
    let events = events(std::str::from_utf8(&seen.stdout).unwrap());
    assert_eq!(events.last().unwrap()["event"], "run-finished");
    assert!(events.iter().any(|event| event["event"] == "attempt-interrupted"));
}
