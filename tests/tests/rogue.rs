//! The rogue guest: every misbehaviour is stopped within its bound, told apart and recorded, while a well-behaved step in
//! the same process goes its way. What the guest does and what comes of it is written down in its README, as tables; they
//! are read and played here, so that they say what is true.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::{BTreeSet, HashMap};

use downbeat_tests::page::{attacks, unquoted};
use downbeat_tests::{Bench, repository};
use serde_json::Value;

/// One workflow with one step for each row: its name, more keys of its table, its input.
fn play(steps: &[(&str, &str, &str)]) -> Played {
    play_on(Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR")), steps)
}

/// The same, on a bench with something on it.
fn play_on(bench: Bench, steps: &[(&str, &str, &str)]) -> Played {
    let rogue = repository().join("tests/guests/rogue");
    let mut toml = format!("name = \"rogue\"\n[plugins]\nrogue = {:?}\n", rogue.display().to_string());
    for (name, more, with) in steps {
        toml.push_str(&format!("[steps.{name}]\nuse = \"rogue\"\nwith = {with}\n{more}\n"));
    }
    bench.write("rogue.toml", &toml);
    let answer = bench.run(&["run", "rogue.toml", "--json"]);
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    let mut ends = HashMap::new();
    let mut order = Vec::new();
    for event in &events {
        if ["attempt-succeeded", "attempt-failed"].iter().any(|end| event["event"] == *end) {
            let step = event["step"].as_str().unwrap().to_owned();
            order.push(step.clone());
            ends.insert(step, event.clone());
        }
    }
    Played { bench, ends, order, code: answer.code }
}

struct Played {
    bench: Bench,
    ends: HashMap<String, Value>,
    /// The steps as their attempts ended.
    order: Vec<String>,
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

    /// What a person gets to read of its end: the message of a failure, the output of a success.
    fn said(&self, step: &str) -> String {
        let end = &self.ends[step];
        end["failure"]["message"].as_str().map_or_else(|| end["output"].to_string(), str::to_owned)
    }

    fn output(&self, step: &str) -> &Value {
        &self.ends[step]["output"]
    }

    fn usage(&self, step: &str, key: &str) -> u64 {
        self.ends[step]["usage"][key].as_u64().unwrap_or(0)
    }

    fn refused(&self, step: &str) -> Vec<&str> {
        let refusals = self.ends[step]["usage"]["refusals"].as_array();
        refusals.into_iter().flatten().map(|refusal| refusal["hint"].as_str().unwrap()).collect()
    }
}

/// The rows of the table below a heading of the guest's README, cells without their backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let rows = attacks(heading).into_iter();
    rows.map(|row| row.iter().map(|cell| unquoted(cell).to_owned()).collect()).collect()
}

/// Plays the rows of a table, each a step, beside three well-behaved steps in a row. `with` and `more` are columns; what
/// stands in `more`, separated by semicolons, are further keys of the step.
fn play_table(rows: &[Vec<String>], with: usize, more: Option<usize>) -> Played {
    let steps: Vec<(String, String, String)> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let more = more.map_or(String::new(), |more| row[more].replace("; ", "\n"));
            (format!("row_{index}"), more, row[with].clone())
        })
        .collect();
    let echo = r#"{ do = "echo", text = "well" }"#;
    let mut all =
        vec![("good", "", echo), ("better", "needs = [\"good\"]", echo), ("best", "needs = [\"better\"]", echo)];
    all.extend(steps.iter().map(|(name, more, with)| (name.as_str(), more.as_str(), with.as_str())));
    let played = play(&all);
    for step in ["good", "better", "best"] {
        assert_eq!((played.kind(step).as_str(), &played.output(step)["input"]["text"]), ("succeeded", &"well".into()));
    }
    played
}

#[test]
fn items_are_worked_on_while_the_step_that_appends_them_runs() {
    let append = r#"{ do = "append", text = '"a"', count = 5, at-once = 2 }"#;
    let more = "needs = [\"scan.started\"]\nforeach = \"${steps.scan.items}\"\nretry = { attempts = 2 }";
    let echo = r#"{ do = "echo", text = "${item}${index}" }"#;
    let played = play(&[
        ("scan", "", append),
        ("each", more, echo),
        ("tell", "needs = [\"each\"]", r#"{ do = "echo", value = "${steps.each.output.map(e, e.input.text)}" }"#),
    ]);
    assert_eq!(played.code, 0);
    assert_eq!(played.output("scan")["saw"], 5);
    assert_eq!(played.output("tell")["input"]["value"], serde_json::json!(["a0", "a1", "a2", "a3", "a4"]));
}

#[test]
fn misbehaviour_is_stopped_told_apart_and_recorded_while_good_steps_complete() {
    let rows = table("Misbehaviour");
    let played = play_table(&rows, 1, Some(2));
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let step = format!("row_{index}");
        let [attack, _, _, outcome, says] = &row[..] else { panic!("{row:?}") };
        let (kind, said) = (played.kind(&step), played.said(&step));
        if kind != *outcome || !said.replace('`', "").contains(&says[..]) {
            let said: String = said.chars().take(300).collect();
            wrong.push(format!("{attack}: {kind}: {said}"));
        }
        // Stopped within its bound, and on record with what it used.
        assert!(said.len() < 128 << 10 || kind == "succeeded", "{attack}: a message of {} bytes", said.len());
        for key in ["wall-us", "cpu-us", "memory-peak", "bytes-in"] {
            assert!(played.usage(&step, key) > 0, "{attack}: {key} is on record");
        }
        if kind == "timed-out" {
            let wall = played.usage(&step, "wall-us");
            assert!((4_000_000..14_000_000).contains(&wall), "{attack}: stopped after {wall} µs");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // The well-behaved went their way while the endless were at it.
    let place = |step: &str| played.order.iter().position(|other| other == step).unwrap();
    let endless = (0..rows.len()).filter(|index| rows[*index][3] == "timed-out").map(|index| format!("row_{index}"));
    let first = endless.min_by_key(|step| place(step)).unwrap();
    assert!(place("best") < place(&first), "{:?}", played.order);
    assert_eq!(played.code, 1);
}

#[test]
fn a_breakdown_is_on_record_with_its_place_and_its_use() {
    let played = play(&[
        ("loops", r#"timeout = "300ms""#, r#"{ do = "loop" }"#),
        ("hoards", r#"limit = { memory = "32MiB" }"#, r#"{ do = "hoard" }"#),
        ("traps", "", r#"{ do = "trap" }"#),
        ("panics", "", r#"{ do = "panic", text = "that was too much" }"#),
        ("gives_up", "", r#"{ do = "fail-permanent" }"#),
        ("recovers", r#"retry = { attempts = 2, delay = "1ms" }"#, r#"{ do = "fail-until", attempt = 2 }"#),
    ]);
    assert_eq!(played.ends["gives_up"]["failure"]["details"]["requested"], true);
    assert_eq!((played.kind("recovers").as_str(), &played.ends["recovers"]["attempt"]), ("succeeded", &2.into()));
    let peak = played.usage("hoards", "memory-peak");
    assert!((16 << 20..=32 << 20).contains(&peak), "{peak}");
    for step in ["loops", "traps", "panics"] {
        let trace = played.ends[step]["failure"]["backtrace"].as_str().unwrap_or_default();
        assert!(trace.contains("rogue"), "{step}: {trace}");
    }
    let logs = played.bench.run(&["logs", "--step", "panics"]).stdout;
    assert!(logs.contains("that was too much"), "a panic's message is in the log: {logs}");
    let shown = played.bench.run(&["show"]).stdout;
    assert!(shown.contains("limit `memory`") && shown.contains("that was too much"), "{shown}");
}

#[test]
fn what_was_not_granted_is_not_there_and_the_refusal_says_how_to_grant_it() {
    let rows = table("Reaching for what was not granted");
    let played = play_table(&rows, 1, None);
    assert_eq!(played.code, 0, "being refused is no failure by itself");
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let step = format!("row_{index}");
        let [attack, _, gets, record] = &row[..] else { panic!("{row:?}") };
        let recorded: Vec<&str> = Some(record.as_str()).filter(|record| !record.is_empty()).into_iter().collect();
        if !played.said(&step).contains(&gets[..]) || played.refused(&step) != recorded {
            wrong.push(format!("{attack}: {}: {:?}", played.said(&step), played.refused(&step)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(!played.bench.path().join("rogue-was-here").exists());
    let shown = played.bench.run(&["show"]).stdout;
    assert!(shown.contains(r#"to allow it, set in [steps.row_5]: grant = { process = ["id"] }"#), "{shown}");
}

#[test]
fn programs_are_kept_to_their_grants_and_limits() {
    let rows = table("Native programs");
    let played = play_table(&rows, 1, Some(2));
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let step = format!("row_{index}");
        let [attack, _, _, outcome, says] = &row[..] else { panic!("{row:?}") };
        let (kind, said) = (played.kind(&step), played.said(&step));
        if kind != *outcome || !said.replace('`', "").contains(&says[..]) {
            wrong.push(format!("{attack}: {kind}: {said}"));
        }
        assert!(played.usage(&step, "wall-us") < 30_000_000, "{attack}: it took too long");
        let unprotected = &played.ends[&step]["usage"]["programs"]["unprotected"];
        assert!(unprotected.is_null(), "{attack}: this system has no {unprotected}");
    }
    assert_eq!(wrong, Vec::<String>::new());
    for place in ["/tmp", "/usr/bin"] {
        assert!(!std::path::Path::new(place).join("rogue-was-here").exists());
    }
    let shown = played.bench.run(&["logs"]).stdout;
    assert!(!shown.contains('\u{1b}') && shown.contains("[2J"), "{shown}");
}

/// The source of each test of a file, by its name.
fn tests(file: &str) -> HashMap<String, String> {
    let source = std::fs::read_to_string(repository().join("engine/sandbox/tests/sandbox").join(file)).unwrap();
    let test = |item: &str| {
        let (attributes, rest) = item.split_once("fn ")?;
        let name = rest.split_once('(')?.0;
        let marked = attributes.lines().any(|line| line.starts_with("#[") && line.contains("test"));
        marked.then(|| (name.to_owned(), rest.to_owned()))
    };
    source.split("\n}\n").filter_map(test).collect()
}

#[test]
fn every_hostile_component_names_a_test_that_speaks_of_its_outcome() {
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for row in table("Hostile components") {
        let [attack, outcome, test] = &row[..] else { panic!("{row:?}") };
        let (file, test) = test.split_once("` `").unwrap();
        named.insert((file.to_owned(), test.to_owned()));
        let source = tests(file).remove(test).unwrap_or_default();
        let speaks = match outcome.split_once(' ') {
            Some(("limit", limit)) => source.contains(&format!("limit(\"{limit}\")")),
            _ => match &outcome[..] {
                "trap" => source.contains("FailureKind::Trap"),
                "timed-out" => source.contains("FailureKind::TimedOut"),
                "cancelled" => source.contains("End::Cancelled"),
                "refused" => ["check(", "refused(", "try_load", "load("].iter().any(|word| source.contains(word)),
                "harmless" => !source.is_empty(),
                _ => false,
            },
        };
        if !speaks {
            wrong.push(format!("{attack}: {file} has no test `{test}` that speaks of `{outcome}`"));
        }
    }
    for test in tests("hostile.rs").into_keys() {
        if !named.contains(&("hostile.rs".to_owned(), test.clone())) {
            wrong.push(format!("hostile.rs: `{test}` is in no row"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
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

#[test]
fn files_that_are_opened_listed_and_changed_are_on_record() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("data/sub/file", "text");
    let grant = r#"grant = { files = [{ path = "data", write = true }] }"#;
    let played = play_on(
        bench,
        &[
            ("lists", grant, r#"{ do = "list", path = "data" }"#),
            ("lists_below", grant, r#"{ do = "list", path = "data/sub" }"#),
            ("reads", grant, r#"{ do = "read-file", path = "data/sub/file" }"#),
            ("writes", grant, r#"{ do = "write-file", path = "data/new" }"#),
            ("plants", grant, r#"{ do = "plant", path = "data/nowhere", text = "x" }"#),
        ],
    );
    let used = |step: &str| {
        let used = played.ends[step]["usage"]["used"].as_array().cloned().unwrap_or_default();
        used.iter().map(|used| used["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(used("lists").contains(&"list data".to_owned()), "{:?}", used("lists"));
    assert!(used("lists_below").contains(&"list data/sub".to_owned()), "{:?}", used("lists_below"));
    assert_eq!(used("reads"), ["read data/sub/file"]);
    assert_eq!(used("writes"), ["write data/new"]);
    assert_eq!(used("plants"), Vec::<String>::new(), "what failed is no use");
}

/// A grant is the directory that its author named: what one step puts in its place is not handed to another one, in this
/// run or in a later one.
#[test]
fn a_link_that_a_guest_planted_moves_no_grant() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("secret/key", "hidden");
    std::fs::create_dir_all(bench.path().join("data/in")).unwrap();
    let after = |grant: &str| format!("needs = [\"plants\"]\n{grant}");
    let played = play_on(
        bench,
        &[
            (
                "plants",
                r#"grant = { files = [{ path = "data", write = true }] }"#,
                r#"{ do = "plant", path = "data/in", text = "../secret" }"#,
            ),
            ("reads", &after(r#"grant = { files = ["data/in"] }"#), r#"{ do = "read-file", path = "data/in/key" }"#),
            (
                "runs",
                &after(r#"grant = { files = ["data"], process = ["ls"] }"#),
                r#"{ do = "process", program = "ls", path = "data/in" }"#,
            ),
        ],
    );
    assert_eq!(played.output("plants")["saw"], "planted");
    assert_eq!(played.kind("reads"), "host");
    assert!(played.said("reads").contains("data/in` is a symbolic link to `../secret`"), "{}", played.said("reads"));
    assert_eq!(played.output("runs")["saw"]["refused"]["capability"], "files");
    let checked = played.bench.run(&["check", "rogue.toml"]);
    assert_eq!(checked.code, 3);
    assert!(checked.stderr.contains("no grant follows one"), "{}", checked.stderr);
}

#[test]
fn the_state_and_the_cache_are_never_granted() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    let rogue = repository().join("tests/guests/rogue");
    let toml = |path: &str| {
        format!(
            "name = \"x\"\n[plugins]\nrogue = {:?}\n[steps.a]\nuse = \"rogue\"\nwith = {{ do = \"list\", path = \"x\" }}\n\
             grant = {{ files = [{path:?}] }}\n",
            rogue.display().to_string()
        )
    };
    for path in [".", "..", "./below/..", "/", ".downbeat", env!("CARGO_TARGET_TMPDIR")] {
        std::fs::create_dir_all(bench.path().join("below")).unwrap();
        std::fs::create_dir_all(bench.path().join(".downbeat")).unwrap();
        bench.write("grants.toml", &toml(path));
        for command in ["check", "run"] {
            let answer = bench.run(&[command, "grants.toml"]);
            assert_eq!(answer.code, 3, "{path}: {}", answer.stderr);
            assert!(answer.stderr.contains("which the engine keeps for itself"), "{path}: {}", answer.stderr);
        }
    }
    bench.write("grants.toml", &toml("below"));
    assert_eq!(bench.run(&["check", "grants.toml"]).code, 0);
}

/// Opening a pipe waits for somebody at its other end, for ever, in a thread that nothing interrupts.
#[test]
fn a_pipe_among_granted_files_is_not_opened() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("data/file", "text");
    let made = std::process::Command::new("mkfifo").arg(bench.path().join("data/pipe")).status().unwrap();
    assert!(made.success());
    let grant = r#"grant = { files = [{ path = "data", write = true }] }"#;
    let played = play_on(
        bench,
        &[
            ("reads", grant, r#"{ do = "read-file", path = "data/pipe" }"#),
            ("writes", grant, r#"{ do = "write-file", path = "data/pipe" }"#),
            ("lists", grant, r#"{ do = "list", path = "data" }"#),
            ("other", grant, r#"{ do = "read-file", path = "data/file" }"#),
            ("new", grant, r#"{ do = "write-file", path = "data/new" }"#),
        ],
    );
    assert_eq!(played.code, 0);
    for step in ["reads", "writes"] {
        assert!(played.output(step)["error"].is_string(), "{step}: {}", played.said(step));
    }
    assert_eq!(played.output("other")["saw"], "text");
    assert_eq!(played.output("new")["saw"], "written");
    assert!(played.said("lists").contains("pipe"));
}

/// A guest that may write where programs run must not be able to put its own program there.
#[test]
fn a_program_is_never_looked_up_where_the_guest_may_write() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    let process = repository().join("plugins/process");
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
    assert!(played.usage("floods", "log-bytes") <= 64 << 10);
    assert!(played.usage("floods", "log-dropped") > 1 << 20);
}
