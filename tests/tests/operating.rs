//! Operating runs, with real processes: a part of a run is done again, a record is driven through today's file, a run is paused,
//! killed and unpaused, and several steps are cancelled at once.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};

use downbeat_tests::{Bench, repository};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Fails in `test` until there is a file `fixed` beside the workflow. What `checkout` and `build` do is in the workspace, and is
/// counted beside the workflow.
const PIPELINE: &str = r#"
name = "pipeline"
[inputs]
word = { type = "string", default = "one" }
[plugins]
process = "{repo}/plugins/process"
[steps.checkout]
use   = "process"
with  = { program = "sh", args = ["-c", "echo source > source; echo checkout >> ${workflow.directory}/out/done"] }
grant = { process = ["sh"], workspace = true, files = [{ path = "out", write = true }] }
[steps.build]
needs = ["checkout"]
use   = "process"
with  = { program = "sh", args = ["-c", "cat source > target; echo build >> ${workflow.directory}/out/done"] }
grant = { process = ["sh"], workspace = true, files = [{ path = "out", write = true }] }
[steps.test]
needs = ["build"]
use   = "process"
with  = { program = "sh", args = ["-c", "grep -q source target && test -e ${workflow.directory}/fixed"] }
grant = { process = ["sh"], workspace = true }
[steps.say]
needs = ["checkout"]
use   = "process"
with  = { program = "echo", args = ["${inputs.word}"] }
grant = { process = ["echo"] }
[outputs]
said = "${steps.say.output.stdout}"
"#;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.build("plugins/process");
    bench
}

/// Programs write to the folder `out` beside it.
fn write(bench: &Bench, name: &str, toml: &str) {
    fs::create_dir_all(bench.path().join("out")).unwrap();
    bench.write(name, &toml.replace("{repo}", &repository().display().to_string()));
}

/// What was done beside the workflow, sorted.
fn done(bench: &Bench) -> Vec<String> {
    let mut lines: Vec<String> =
        fs::read_to_string(bench.path().join("out/done")).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The latest run's records.
fn records(bench: &Bench, run: &str) -> Vec<Value> {
    let shown = bench.run(&["show", run, "--json"]).stdout;
    shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_failed_is_done_again_and_the_rest_is_reused() {
    let bench = bench();
    write(&bench, "pipeline.toml", PIPELINE);
    assert_eq!(bench.run(&["run", "pipeline.toml"]).code, 1);
    let old = records(&bench, "last");
    let id = old[0]["run"].as_str().unwrap().to_owned();
    let told = bench.run(&["rerun", "--dry-run"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let rows: Vec<Vec<&str>> = told.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[1..],
        [vec!["checkout", "reused"], vec!["build", "reused"], vec!["test", "again", "failed"], vec!["say", "reused"]]
    );
    assert_eq!(records(&bench, "last"), old, "a dry run does nothing");

    bench.write("fixed", "");
    let again = bench.run(&["rerun", &id, "--failed"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(
        again.stderr.contains(&format!("again of run {id}, with what is behind: test (failed)")),
        "{}",
        again.stderr
    );
    assert!(again.stderr.contains("1 succeeded, 3 reused"), "{}", again.stderr);
    assert!(again.stdout.contains("one"), "outputs are computed from reused answers: {}", again.stdout);
    assert_eq!(done(&bench), ["build", "checkout"], "each was executed once");
    assert_eq!(records(&bench, &id), old, "the old run is as it was");
    let new = records(&bench, "last");
    assert_eq!(new[0]["rerun-of"], id.as_str());
    let reused: Vec<&Value> = new.iter().filter(|record| record["event"] == "step-reused").collect();
    assert_eq!(reused.len(), 3);
    assert_eq!((&reused[0]["step"], &reused[0]["origin"]["run"]), (&"checkout".into(), &id.as_str().into()));
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains(&format!("rerun of  {id}")) && shown.contains("reused"), "{shown}");
    let told = bench.run(&["explain"]).stdout;
    assert!(told.contains(&format!("reused from run {id}")), "{told}");
    assert!(bench.run(&["explain", "last", "build"]).stdout.contains("did nothing in this one"));
    assert!(bench.run(&["graph", "--format", "mermaid"]).stdout.contains("reused"));

    let nothing = bench.run(&["rerun"]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("no step of it failed or was left undone"), "{}", nothing.stderr);
    let unknown = bench.run(&["rerun", "--from", "nobody", "--from", "build"]);
    assert_eq!((unknown.code, unknown.stderr.contains("has no step `nobody`")), (2, true), "{}", unknown.stderr);
}

#[test]
fn another_input_is_seen_by_those_that_look_at_it_and_a_workspace_that_is_gone_is_told() {
    let bench = bench();
    write(&bench, "pipeline.toml", PIPELINE);
    bench.write("fixed", "");
    assert_eq!(bench.run(&["run", "pipeline.toml"]).code, 0);
    let other = bench.run(&["rerun", "--input", "word=two"]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    assert!(other.stdout.contains("two"), "{}", other.stdout);
    assert!(other.stderr.contains("say (sees the input `word`, which differs)"), "{}", other.stderr);
    assert_eq!(done(&bench), ["build", "checkout"]);
    // Nothing that is left looked into the workspace, so that none was copied: the run has none.
    let gone = bench.run(&["rerun", "--from", "test"]);
    assert_eq!(gone.code, 3, "{}", gone.stderr);
    assert!(
        gone.stderr.contains("`checkout`, `build` worked in the workspace")
            || gone.stderr.contains("`checkout` and `build` worked in the workspace"),
        "{}",
        gone.stderr
    );
    assert!(gone.stderr.contains("--from checkout"), "{}", gone.stderr);
    assert_eq!(bench.run(&["rerun", "--from", "checkout"]).code, 0);
    assert_eq!(done(&bench), ["build", "build", "checkout", "checkout"]);
}

#[test]
fn todays_file_is_taken_where_it_is_asked_for_and_replayed_against() {
    let bench = bench();
    write(&bench, "pipeline.toml", PIPELINE);
    bench.write("fixed", "");
    assert_eq!(bench.run(&["run", "pipeline.toml"]).code, 0);
    let same = bench.run(&["replay"]);
    assert_eq!(same.code, 0, "{}{}", same.stdout, same.stderr);
    assert!(same.stdout.contains("the plan does the same"), "{}", same.stdout);
    write(&bench, "pipeline.toml", &PIPELINE.replace("cat source > target", "cp source target"));
    let parted = bench.run(&["replay", "last"]);
    assert_eq!(parted.code, 6, "{}{}", parted.stdout, parted.stderr);
    assert!(parted.stdout.contains("started attempt 1 of `build`"), "{}", parted.stdout);
    assert!(parted.stdout.contains("start it with the input"), "{}", parted.stdout);
    let json: Value = serde_json::from_str(&bench.run(&["replay", "--json"]).stdout).unwrap();
    assert_eq!(json["divergence"]["step"], "build");
    let again = bench.run(&["rerun", "--file", "pipeline.toml"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("build (changed: with.args)"), "{}", again.stderr);
    assert_eq!(done(&bench), ["build", "build", "checkout"]);
    let elsewhere = bench.run(&["replay", "--file", "nowhere.toml"]);
    assert_eq!(elsewhere.code, 3, "{}", elsewhere.stderr);
}

/// An engine that does not outlive a test which gives up on it.
struct Engine(Child, BufReader<ChildStdout>);

impl Engine {
    fn spawn(bench: &Bench, arguments: &[&str]) -> Engine {
        let mut child = bench.spawn(arguments);
        let stream = BufReader::new(child.stdout.take().unwrap());
        Engine(child, stream)
    }

    /// Reads the stream until something has happened to a step, or to the run.
    fn until(&mut self, event: &str, step: &str) {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            let record: Value = serde_json::from_str(&line).unwrap();
            if record["event"] == event && (step.is_empty() || record["step"] == step) {
                return;
            }
            line.clear();
        }
        panic!("the stream ended before {event} {step}");
    }

    fn ends(&mut self) -> Option<i32> {
        std::io::copy(&mut self.1, &mut std::io::sink()).unwrap();
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

const HOLDING: &str = r#"
name = "holding"
[plugins]
process = "{repo}/plugins/process"
[steps.first]
use   = "process"
with  = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/go ]; do sleep 0.02; done"] }
grant = { process = ["sh"] }
[steps.second]
needs = ["first"]
use   = "process"
with  = { program = "touch", args = ["${workflow.directory}/out/second"] }
grant = { process = ["touch"], files = [{ path = "out", write = true }] }
[steps.other]
use   = "process"
with  = { program = "sh", args = ["-c", "while true; do sleep 0.02; done"] }
grant = { process = ["sh"] }
[steps.more]
use   = "process"
with  = { program = "sh", args = ["-c", "while true; do sleep 0.02; done"] }
grant = { process = ["sh"] }
"#;

#[test]
fn a_paused_run_stays_paused_over_a_kill_until_it_is_unpaused() {
    let bench = bench();
    write(&bench, "holding.toml", HOLDING);
    let mut engine = Engine::spawn(&bench, &["run", "holding.toml", "--json"]);
    engine.until("attempt-started", "more");
    let id = records(&bench, "last")[0]["run"].as_str().unwrap().to_owned();
    let paused = bench.run(&["pause", "--reason", "lunch"]);
    assert_eq!(paused.code, 0, "{}", paused.stderr);
    assert!(paused.stderr.contains("the pause is sent to run"), "{}", paused.stderr);
    engine.until("paused", "");
    let again = bench.run(&["pause"]);
    assert_eq!((again.code, again.stderr.contains("is paused already")), (2, true), "{}", again.stderr);
    assert!(bench.run(&["list"]).stdout.contains("running (paused)"));
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains(&format!(": lunch (`downbeat unpause {id}`")), "{shown}");
    bench.write("go", "");
    engine.until("attempt-succeeded", "first");
    // Several steps are one request, which a pause does not keep from what it asks for.
    let wrong = bench.run(&["cancel", "--step", "other", "--step", "nobody", "--step", "first"]);
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("no step `nobody`") && wrong.stderr.contains("`first` is already over"),
        "{}",
        wrong.stderr
    );
    let region = bench.run(&["cancel", "--step", "other", "--step", "more"]);
    assert_eq!(region.code, 0, "{}", region.stderr);
    assert!(region.stderr.contains("the end of `other` and `more` is sent to run"), "{}", region.stderr);
    engine.until("attempt-cancelled", "");
    engine.until("attempt-cancelled", "");
    kill_process(Pid::from_child(&engine.0), Signal::KILL).unwrap();
    engine.ends();
    assert!(!bench.path().join("out/second").exists(), "nothing new was started");

    let mut resumed = Engine::spawn(&bench, &["resume", "--json"]);
    // Once it is driven again, whoever asks reaches it.
    while !bench.run(&["list"]).stdout.contains("running (paused)") {
        assert!(resumed.0.try_wait().unwrap().is_none(), "it waits");
    }
    assert!(!bench.path().join("out/second").exists(), "it stays paused");
    let unpaused = bench.run(&["unpause", &id]);
    assert_eq!(unpaused.code, 0, "{}", unpaused.stderr);
    resumed.until("attempt-succeeded", "second");
    assert_eq!(resumed.ends(), Some(0));
    let told = bench.run(&["explain", &id]).stdout;
    assert!(told.contains("the run was paused: lunch") && told.contains("the run was unpaused"), "{told}");
    let step = bench.run(&["explain", &id, "second"]).stdout;
    assert!(step.contains(" paused"), "{step}");
    assert_eq!(bench.run(&["unpause", &id]).code, 2, "it is over");
}

#[test]
fn a_run_that_nobody_drives_keeps_its_pause_for_whoever_resumes_it() {
    let bench = bench();
    write(&bench, "holding.toml", HOLDING);
    let mut engine = Engine::spawn(&bench, &["run", "holding.toml", "--json"]);
    engine.until("attempt-started", "more");
    kill_process(Pid::from_child(&engine.0), Signal::KILL).unwrap();
    engine.ends();
    let kept = bench.run(&["pause"]);
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    assert!(kept.stderr.contains("is kept for run"), "{}", kept.stderr);
    let end = bench.run(&["cancel", "--step", "other", "--reason", "too late"]);
    assert_eq!(end.code, 0, "{}", end.stderr);
    let shown = bench.run(&["show"]).stdout;
    assert!(shown.contains("\nasked for a pause"), "{shown}");
    assert!(shown.contains("the end of `other`: too late; taken in when it is resumed"), "{shown}");
    let never = bench.run(&["unpause", "--step", "nobody"]);
    assert_eq!(never.code, 2, "{}", never.stderr);
    let mut resumed = Engine::spawn(&bench, &["resume", "--json"]);
    resumed.until("paused", "");
    let cancelled = bench.run(&["cancel"]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    assert_eq!(resumed.ends(), Some(5));
    let starts = records(&bench, "last");
    let starts = starts.iter().filter(|record| record["event"] == "attempt-started").count();
    assert_eq!(starts, 3, "nothing was started anew");
}

/// The first item is enough; the second one goes on.
const ENOUGH: &str = r#"
name = "enough"
[plugins]
process = "{repo}/plugins/process"
[steps.each]
foreach = { in = [1, 2], join = "any", rest = "wait" }
[steps.each.steps.wait]
use   = "process"
with  = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/go${item} ]; do sleep 0.02; done"] }
grant = { process = ["sh"] }
[steps.each.steps.second]
when  = "item == 2"
use   = "process"
with  = { program = "sh", args = ["-c", "while [ ! -e ${workflow.directory}/more ]; do sleep 0.02; done"] }
grant = { process = ["sh"] }
[steps.each.steps.last]
needs = ["second"]
use   = "process"
with  = { program = "touch", args = ["${workflow.directory}/out/last"] }
grant = { process = ["touch"], files = [{ path = "out", write = true }] }
"#;

#[test]
fn what_a_paused_step_leaves_behind_is_let_go_on_by_the_command_that_is_recommended() {
    let bench = bench();
    write(&bench, "enough.toml", ENOUGH);
    bench.write("go2", "");
    let mut engine = Engine::spawn(&bench, &["run", "enough.toml", "--json"]);
    engine.until("attempt-started", "each[1]/second");
    let id = records(&bench, "last")[0]["run"].as_str().unwrap().to_owned();
    let paused = bench.run(&["pause", "--step", "each"]);
    assert_eq!(paused.code, 0, "{}", paused.stderr);
    engine.until("paused", "each");
    let recommended = format!("`downbeat unpause {id} --step each` lets it go on");
    let again = bench.run(&["pause", "--step", "each"]);
    assert_eq!((again.code, again.stderr.contains(&recommended)), (2, true), "{}", again.stderr);
    bench.write("go1", "");
    engine.until("step-succeeded", "each");
    bench.write("more", "");
    engine.until("attempt-succeeded", "each[1]/second");
    let shown = bench.run(&["show", &id]).stdout;
    assert!(shown.contains(&recommended), "{shown}");
    assert!(!bench.path().join("out/last").exists(), "it is paused");
    let unpaused = bench.run(&["unpause", &id, "--step", "each"]);
    assert_eq!(unpaused.code, 0, "{}", unpaused.stderr);
    engine.until("attempt-succeeded", "each[1]/last");
    assert_eq!(engine.ends(), Some(0));
}

const ENDED: &str = r#"
name = "ended"
[steps.a]
wait = "20ms"
cancels = ["long"]
[steps.long]
wait = "1h"
[steps.never]
when = "1 > 2"
wait = "1h"
[steps.blk.steps.inner_step]
wait = "10ms"
[always.last]
wait = "10ms"
"#;

#[test]
fn what_was_cancelled_or_skipped_is_counted_and_told_with_its_reason() {
    let bench = bench();
    write(&bench, "ended.toml", ENDED);
    let ran = bench.run(&["run", "ended.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.split_whitespace().any(|word| word == name));
        found.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(ran.stderr.contains("4 succeeded, 1 skipped, 1 cancelled · "), "{}", ran.stderr);
    assert!(ran.stderr.contains(" long            cancelled: `a` succeeded (`cancels`)"), "{}", ran.stderr);
    assert!(ran.stderr.contains(" blk/inner_step  waits until "), "{}", ran.stderr);
    let shown = bench.run(&["show"]).stdout;
    assert!(line(&shown, "long").ends_with("`a` succeeded (`cancels`)"), "{shown}");
    let again = bench.run(&["rerun", "--dry-run", "--from", "a"]).stdout;
    let words: Vec<String> = again.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        words,
        [
            "STEP WHAT WHY",
            "a again asked for",
            "long cancelled `a` succeeded (`cancels`)",
            "never skipped `when` was false: 1 > 2",
            "blk reused",
            "last again is behind a",
        ],
        "{again}"
    );
}
