//! The rogue guest: every misbehaviour is stopped within its bound, told apart and recorded, while a well-behaved step in
//! the same process goes its way.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::HashMap;

use downbeat_tests::Bench;
use serde_json::Value;

/// One workflow with one step for each row: its name, more keys of its table, its input.
fn play(steps: &[(&str, &str, &str)]) -> Played {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    let rogue = downbeat_tests::repository().join("tests/guests/rogue");
    let mut toml = format!("name = \"rogue\"\n[plugins]\nrogue = {:?}\n", rogue.display().to_string());
    for (name, more, with) in steps {
        toml.push_str(&format!("[steps.{name}]\nuse = \"rogue\"\nwith = {with}\n{more}\n"));
    }
    bench.write("rogue.toml", &toml);
    let answer = bench.run(&["run", "rogue.toml", "--json"]);
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    let mut ends = HashMap::new();
    for event in &events {
        if ["attempt-succeeded", "attempt-failed"].iter().any(|end| event["event"] == *end) {
            ends.insert(event["step"].as_str().unwrap().to_owned(), event.clone());
        }
    }
    Played { bench, ends, code: answer.code }
}

struct Played {
    bench: Bench,
    ends: HashMap<String, Value>,
    code: i32,
}

impl Played {
    fn kind(&self, step: &str) -> String {
        let end = &self.ends[step];
        match &end["failure"]["kind"] {
            Value::Null => "succeeded".to_owned(),
            Value::String(kind) => kind.clone(),
            tagged => format!("limit {}", tagged["limit"]["limit"].as_str().unwrap_or_default()),
        }
    }

    fn message(&self, step: &str) -> &str {
        self.ends[step]["failure"]["message"].as_str().unwrap_or_default()
    }

    fn output(&self, step: &str) -> &Value {
        &self.ends[step]["output"]
    }

    fn refused(&self, step: &str) -> Vec<&str> {
        let refusals = self.ends[step]["usage"]["refusals"].as_array();
        refusals.into_iter().flatten().map(|refusal| refusal["hint"].as_str().unwrap()).collect()
    }
}

#[test]
fn misbehaviour_is_told_apart_while_a_good_step_completes() {
    let played = play(&[
        ("good", "", r#"{ do = "echo", text = "well" }"#),
        ("loops", r#"timeout = "300ms""#, r#"{ do = "loop" }"#),
        ("hoards", r#"limit = { memory = "32MiB" }"#, r#"{ do = "hoard" }"#),
        ("traps", "", r#"{ do = "trap" }"#),
        ("panics", "", r#"{ do = "panic", text = "that was too much" }"#),
        ("recurses", "", r#"{ do = "stack" }"#),
        ("exits", "", r#"{ do = "exit" }"#),
        ("garbles", "", r#"{ do = "bad-json" }"#),
        ("blurts", r#"limit = { output = "1MiB" }"#, r#"{ do = "big-output" }"#),
        ("refuses", "", r#"{ do = "fail-invalid" }"#),
        ("gives_up", "", r#"{ do = "fail-permanent" }"#),
        ("wavers", "", r#"{ do = "fail-transient" }"#),
        ("recovers", r#"retry = { attempts = 2, delay = "1ms" }"#, r#"{ do = "fail-until", attempt = 2 }"#),
    ]);
    assert_eq!(played.code, 1);
    let kinds = [
        ("good", "succeeded"),
        ("loops", "timed-out"),
        ("hoards", "limit memory"),
        ("traps", "trap"),
        ("panics", "trap"),
        ("recurses", "trap"),
        ("exits", "trap"),
        ("garbles", "invalid-output"),
        ("blurts", "limit output"),
        ("refuses", "invalid-input"),
        ("gives_up", "permanent"),
        ("wavers", "transient"),
        ("recovers", "succeeded"),
    ];
    let found: Vec<(&str, String)> = kinds.iter().map(|(step, _)| (*step, played.kind(step))).collect();
    let expected: Vec<(&str, String)> = kinds.iter().map(|(step, kind)| (*step, (*kind).to_owned())).collect();
    assert_eq!(found, expected);
    assert_eq!(played.output("good")["input"]["text"], "well");
    assert_eq!(played.ends["gives_up"]["failure"]["details"]["requested"], true);
    assert_eq!(played.ends["recovers"]["attempt"], 2);
    // The bounds are reported, not only enforced.
    let peak = played.ends["hoards"]["usage"]["memory-peak"].as_u64().unwrap();
    assert!((16 << 20..=32 << 20).contains(&peak), "{peak}");
    let cpu = played.ends["loops"]["usage"]["cpu-us"].as_u64().unwrap();
    assert!(cpu > 0, "a busy guest uses CPU time");
    // Where it broke down is kept.
    for step in ["loops", "traps", "panics"] {
        let trace = played.ends[step]["failure"]["backtrace"].as_str().unwrap_or_default();
        assert!(trace.contains("rogue"), "{step}: {trace}");
    }
    let logs = played.bench.run(&["logs", "--step", "panics"]).stdout;
    assert!(logs.contains("that was too much"), "a panic's message is in the log: {logs}");
    assert!(played.bench.run(&["show"]).stdout.contains("limit `memory`"));
}

#[test]
fn what_was_not_granted_is_not_there_and_the_refusal_says_how_to_grant_it() {
    let played = play(&[
        ("reads", "", r#"{ do = "read-file", path = "/etc/passwd" }"#),
        ("writes", "", r#"{ do = "write-file", path = "./rogue-was-here", text = "x" }"#),
        ("lists", "", r#"{ do = "list", path = "/" }"#),
        ("connects", "", r#"{ do = "connect", address = "127.0.0.1:1" }"#),
        ("asks", "", r#"{ do = "http", address = "127.0.0.1:1" }"#),
        ("runs", "", r#"{ do = "process", program = "id" }"#),
        ("puts", "", r#"{ do = "put", text = "x" }"#),
        ("peeks", "", r#"{ do = "env" }"#),
    ]);
    assert_eq!(played.code, 0, "being refused is no failure by itself");
    for step in ["reads", "writes", "lists", "connects", "asks", "puts"] {
        assert!(played.output(step)["error"].is_string(), "{step}: {}", played.output(step));
    }
    assert_eq!(played.output("peeks")["saw"]["variables"], Value::Array(Vec::new()));
    assert_eq!(played.output("runs")["saw"]["refused"]["capability"], "process");
    assert_eq!(played.refused("runs"), [r#"grant = { process = ["id"] }"#]);
    assert_eq!(played.refused("puts"), ["grant = { artifacts = true }"]);
    assert_eq!(played.refused("asks"), [r#"grant = { http = ["127.0.0.1:1"] }"#]);
    assert!(!played.bench.path().join("rogue-was-here").exists());
    let shown = played.bench.run(&["show"]).stdout;
    assert!(shown.contains(r#"hint: to allow it, add to [steps.runs]: grant = { process = ["id"] }"#), "{shown}");
}

#[test]
fn without_grants_time_and_randomness_are_fixed() {
    let steps = [("clock", "", r#"{ do = "clock", ms = 5 }"#), ("random", "", r#"{ do = "random" }"#)];
    let (first, second) = (play(&steps), play(&steps));
    for step in ["clock", "random"] {
        assert_eq!(first.output(step), second.output(step), "{step}");
    }
    let granted = [("random", "grant = { random = true }", r#"{ do = "random" }"#)];
    assert_ne!(play(&granted).output("random"), first.output("random"));
}

#[test]
fn what_was_granted_is_there_and_nothing_else() {
    let played = play(&[
        ("writes", "grant = { workspace = true }", r#"{ do = "write-file", path = "/workspace/note", text = "hi" }"#),
        (
            "reads",
            "needs = [\"writes\"]\ngrant = { workspace = true }",
            r#"{ do = "read-file", path = "/workspace/note" }"#,
        ),
        ("climbs", "grant = { workspace = true }", r#"{ do = "read-file", path = "/workspace/../../rogue.toml" }"#),
        ("runs", "grant = { process = [\"echo\"] }", r#"{ do = "process", program = "echo", args = ["a b"] }"#),
        ("sneaks", "grant = { process = [\"echo\"] }", r#"{ do = "process", program = "sh", args = ["-c", "id"] }"#),
        ("sets", "grant = { process = [\"env\"] }", r#"{ do = "process", program = "env", env = ["LD_PRELOAD"] }"#),
    ]);
    assert_eq!(played.output("reads")["saw"], "hi");
    assert!(played.output("climbs")["error"].is_string());
    assert_eq!(played.output("runs")["saw"]["stdout"], "a b\n");
    assert_eq!(played.output("sneaks")["saw"]["refused"]["wanted"], "sh");
    assert_eq!(played.output("sets")["saw"]["refused"]["capability"], "env");
}

/// A guest that may write where programs run must not be able to put its own program there.
#[test]
fn a_program_is_never_looked_up_where_the_guest_may_write() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    let process = downbeat_tests::repository().join("plugins/process");
    let toml = format!(
        "name = \"x\"\n[plugins]\np = {:?}\n[steps.a]\nuse = \"p\"\nwith = {{ program = \"./tool\" }}\n\
         grant = {{ process = [\"./tool\"], workspace = true }}\n",
        process.display().to_string()
    );
    bench.write("relative.toml", &toml);
    let answer = bench.run(&["check", "relative.toml"]);
    assert_eq!(answer.code, 3);
    assert!(
        answer.stderr.contains("write a name, which is looked up in `PATH`, or an absolute path"),
        "{}",
        answer.stderr
    );
}

#[test]
fn a_program_has_a_clean_environment() {
    let played = play(&[("env", "grant = { process = [\"env\"] }", r#"{ do = "process", program = "env" }"#)]);
    let stdout = played.output("env")["saw"]["stdout"].as_str().unwrap();
    let mut names: Vec<&str> = stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH", "TMPDIR"]);
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let played =
        play(&[("floods", r#"limit = { log = "64KiB" }"#, r#"{ do = "log-flood", text = "again and again" }"#)]);
    assert_eq!(played.kind("floods"), "succeeded");
    let usage = &played.ends["floods"]["usage"];
    assert!(usage["log-bytes"].as_u64().unwrap() <= 64 << 10, "{usage}");
    assert!(usage["log-dropped"].as_u64().unwrap() > 1 << 20, "{usage}");
}

#[test]
fn a_message_of_a_guest_cannot_write_on_the_terminal() {
    let played = play(&[("forges", "", r#"{ do = "fail-permanent", text = "red \u001b[31m alert" }"#)]);
    assert_eq!(played.kind("forges"), "permanent");
    assert!(!played.message("forges").contains('\u{1b}'), "{:?}", played.message("forges"));
}
