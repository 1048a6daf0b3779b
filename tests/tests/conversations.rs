//! Conversations with the command line, whole: what is typed, what is printed, how it ends.
//!
//! `INSTA_UPDATE=always cargo test -p downbeat-tests` writes the snapshots anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use downbeat_tests::{Bench, repository};
use insta::assert_snapshot;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn a_newcomer_runs_hello() {
    let bench = bench();
    bench.build("plugins/hello");
    let hello = "{repo}/workflows/hello/hello.toml";
    assert_snapshot!("check_hello", bench.talk(&["check", hello]));
    assert_snapshot!("plan_hello", bench.talk(&["plan", hello, "--input", "name=Ada"]));
    assert_snapshot!("run_hello", bench.talk(&["run", hello, "--input", "name=Ada"]));
    assert_snapshot!("list", bench.talk(&["list"]));
    assert_snapshot!("show", bench.talk(&["show"]));
    assert_snapshot!("logs", bench.talk(&["logs"]));
    assert_eq!(bench.run(&["explain"]).code, 0);
}

#[test]
fn the_event_stream_is_json_lines() {
    let bench = bench();
    bench.build("plugins/hello");
    let answer = bench.run(&["run", "{repo}/workflows/hello/hello.toml", "--json"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    let events: Vec<serde_json::Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert_eq!(events.first().unwrap()["event"], "run-created");
    assert_eq!(events.last().unwrap()["event"], "run-finished");
    assert_eq!(events.last().unwrap()["outcome"], "succeeded");
    let started = events.iter().find(|event| event["event"] == "attempt-started").unwrap();
    assert!(started["step"].is_string(), "steps are named, not numbered: {started}");
    // What was streamed is what was kept, but for the log lines between the records.
    let kept = bench.run(&["show", "--json"]);
    let records: Vec<&str> = answer.stdout.lines().filter(|line| !line.contains("attempt-logged")).collect();
    assert_eq!(records, kept.stdout.lines().collect::<Vec<_>>());
}

#[test]
fn ten_faults_are_ten_diagnostics() {
    let bench = bench();
    bench.write("faults.toml", include_str!("../faults.toml"));
    let answer = bench.run(&["check", "faults.toml"]);
    assert_eq!(answer.code, 3);
    assert_eq!(answer.stderr.matches("error[").count(), 10, "{}", answer.stderr);
    assert_snapshot!("ten_faults", bench.talk(&["check", "faults.toml"]));
    let json = bench.run(&["check", "faults.toml", "--json"]);
    assert_eq!((json.code, json.stdout.lines().count()), (3, 10));
    // Nothing was run, nothing was written.
    assert!(!bench.path().join(".downbeat/journal.db").exists());
}

#[test]
fn bad_usage_is_told_apart_from_bad_files() {
    let bench = bench();
    assert_snapshot!("no_command", bench.talk(&[]));
    assert_snapshot!("unknown_option", bench.talk(&["run", "--fast"]));
    assert_snapshot!("missing_file", bench.talk(&["run", "nowhere.toml"]));
    assert_snapshot!("a_folder", bench.talk(&["check", "."]));
    assert_snapshot!("no_journal", bench.talk(&["list"]));
    bench.write("broken.toml", "name = \"x\"\n[steps.a\nuse = 1\n");
    assert_snapshot!("broken_toml", bench.talk(&["check", "broken.toml"]));
    assert_snapshot!("no_such_plugin", {
        bench.write("plugin.toml", "name = \"x\"\n[plugins]\np = \"gone.wasm\"\n[steps.a]\nuse = \"p\"\n");
        bench.talk(&["check", "plugin.toml"])
    });
    assert_snapshot!("not_a_component", {
        bench.write("p.wasm", "this is text");
        bench.write("text.toml", "name = \"x\"\n[plugins]\np = \"p.wasm\"\n[steps.a]\nuse = \"p\"\n");
        bench.talk(&["check", "text.toml"])
    });
}

#[test]
fn wrong_inputs_are_all_reported_and_nothing_runs() {
    let bench = bench();
    bench.build("plugins/hello");
    let hello = "{repo}/workflows/hello/hello.toml";
    assert_snapshot!(
        "wrong_inputs",
        bench.talk(&["run", hello, "-i", "nmae=Ada", "-i", "name", "--inputs", "gone.json"])
    );
    bench.write("inputs.json", "[1]");
    assert_snapshot!("inputs_no_object", bench.talk(&["run", hello, "--inputs", "inputs.json"]));
    let list = bench.run(&["list"]);
    assert!(list.code == 0 && list.stderr.starts_with("no runs in "), "no run was created: {}", list.stderr);
}

#[test]
fn inputs_come_from_files_too() {
    let bench = bench();
    let hello = "{repo}/workflows/hello/hello.toml";
    bench.write("inputs.json", r#"{"name": "Grace"}"#);
    bench.write("name.txt", "Edsger");
    let answer = bench.run(&["run", hello, "--inputs", "inputs.json"]);
    assert!(answer.stdout.contains("Grace"), "{}", answer.stdout);
    let answer = bench.run(&["run", hello, "--inputs", "inputs.json", "--input", "name=@name.txt"]);
    assert!(answer.stdout.contains("Edsger"), "{}", answer.stdout);
}

#[test]
fn runs_are_named_by_part_of_their_id() {
    let bench = bench();
    let hello = "{repo}/workflows/hello/hello.toml";
    bench.run(&["run", hello]);
    bench.run(&["run", hello]);
    let list = bench.run(&["list", "--json"]).stdout;
    let ids: Vec<String> = list
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["run"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    let shown = bench.run(&["show", &ids[1][8..]]);
    assert!(shown.stdout.contains(&ids[1]), "{}{}", shown.stdout, shown.stderr);
    assert_snapshot!("ambiguous", bench.talk(&["show", &ids[0][..3]]).replace(&ids[0][..3], "<part>"));
    assert_snapshot!("no_such_run", bench.talk(&["show", "zzz"]));
    assert_snapshot!("resume_nothing", bench.talk(&["resume"]));
    assert_snapshot!("resume_over", bench.talk(&["resume", &ids[0]]));
    assert_snapshot!("cancel_over", bench.talk(&["cancel", &ids[0]]));
    assert_snapshot!("logs_of_no_step", bench.talk(&["logs", "--step", "nobody"]));
}

#[test]
fn the_latest_run_is_called_last_everywhere() {
    let bench = bench();
    let hello = "{repo}/workflows/hello/hello.toml";
    assert_eq!(bench.run(&["show", "last"]).stderr.lines().count(), 2, "what is wrong, and a hint");
    bench.run(&["run", hello, "--input", "name=first"]);
    bench.run(&["run", hello, "--input", "name=second"]);
    for command in ["show", "explain", "logs", "graph"] {
        let (latest, last) = (bench.run(&[command]), bench.run(&[command, "last"]));
        assert_eq!((last.code, &last.stdout), (0, &latest.stdout), "{command}: {}", last.stderr);
    }
    assert!(bench.run(&["show", "last"]).stdout.contains("second"));
    assert!(bench.run(&["explain", "last", "reply"]).stdout.contains("step      reply"));
    assert_eq!(bench.run(&["resume", "last"]).code, 2, "all runs are over");
}

#[test]
fn a_new_state_directory_can_be_backed_up_and_stays_out_of_version_control() {
    let bench = bench();
    let none = bench.run(&["list"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.starts_with("no runs in ") && !bench.path().join(".downbeat").exists(), "{}", none.stderr);
    bench.run(&["run", "{repo}/workflows/hello/hello.toml"]);
    let state = bench.path().join(".downbeat");
    assert_eq!(std::fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
    assert!(state.join("components").is_dir() && state.join("artifacts").is_dir());
    std::fs::remove_file(state.join(".gitignore")).unwrap();
    bench.run(&["run", "{repo}/workflows/hello/hello.toml"]);
    assert!(!state.join(".gitignore").exists(), "who removed it meant it");
}

#[test]
fn an_input_is_given_once() {
    let bench = bench();
    let answer = bench.run(&["run", "{repo}/workflows/hello/hello.toml", "-i", "name=a", "-i", "name=b"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("--input name=b: `name` is given twice"), "{}", answer.stderr);
}

#[test]
fn a_folder_is_checked_with_those_below_it() {
    let bench = bench();
    for file in ["flows/b.toml", "flows/a/deep/a.toml", "flows/.hidden/c.toml", "flows/target/d.toml"] {
        bench.write(file, "[steps.a]\n");
    }
    bench.write("flows/a/Cargo.toml", "[package]\n");
    let said = bench.run(&["check", "flows"]).stderr;
    let told: Vec<&str> = said.lines().filter(|line| line.contains(" errors, ")).collect();
    assert_eq!(told, ["flows/b.toml: 2 errors, no warnings", "flows/a/deep/a.toml: 2 errors, no warnings"], "{said}");
}

#[test]
fn a_picture_is_not_written_under_the_name_of_another_format() {
    let bench = bench();
    let answer = bench.run(&["graph", "{repo}/workflows/hello", "--output", "hello.png"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("hello.png: there is no format for `.png`"), "{}", answer.stderr);
    assert!(answer.stderr.contains(".svg, .dot") && !bench.path().join("hello.png").exists(), "{}", answer.stderr);
    let named = bench.run(&["graph", "{repo}/workflows/hello", "--output", "hello.txt", "--format", "dot"]);
    assert_eq!(named.code, 0, "{}", named.stderr);
}

#[test]
fn states_have_colours_where_they_are_asked_for() {
    let bench = bench();
    bench.run(&["run", "{repo}/workflows/hello/hello.toml"]);
    for command in ["list", "show"] {
        let plain = bench.run(&[command]).stdout;
        let loud = bench.run(&[command, "--color", "always"]).stdout;
        assert!(!plain.contains('\u{1b}') && loud.contains("\u{1b}[32msucceeded\u{1b}[39m"), "{command}: {loud:?}");
        let colours = ["\u{1b}[32m", "\u{1b}[39m", "\u{1b}[2m", "\u{1b}[0m"];
        let bare = colours.iter().fold(loud, |text, colour| text.replace(colour, ""));
        assert_eq!(bare, plain, "{command}");
    }
}

#[test]
fn a_command_of_another_command_is_found() {
    let bench = bench();
    let answer = bench.run(&["inspect", "x.wasm"]);
    assert!(answer.code == 2 && answer.stderr.contains("'plugin inspect'"), "{}", answer.stderr);
    let answer = bench.run(&["plan", "{repo}/workflows/hello", "--diff", "nowhere.toml"]);
    assert!(answer.code == 3 && answer.stderr.contains("nowhere.toml: No such file"), "{}", answer.stderr);
}

#[test]
fn a_step_without_what_its_component_wants_is_told_before_it_runs() {
    let bench = bench();
    bench.build("plugins/jq");
    let toml = r#"
        name = "bare"
        [plugins]
        jq = "{repo}/plugins/jq"
        [steps.now]
        use = "jq"
        with = { filter = "now" }
        [steps.then]
        use = "jq"
        with = { filter = "now" }
        grant = { clock = true }
    "#;
    bench.write("bare.toml", &toml.replace("{repo}", &repository().display().to_string()));
    let said = bench.run(&["check", "bare.toml"]).stderr;
    assert_eq!(
        said,
        "bare.toml: 2 steps, no errors, no warnings\n  granted nothing of what their components want: now (clock)\n"
    );
    let planned = bench.run(&["plan", "bare.toml"]).stdout;
    assert_eq!(planned.matches("withheld").count(), 1, "{planned}");
    assert_eq!(bench.run(&["run", "bare.toml"]).code, 0);
    assert!(bench.run(&["explain", "last", "now"]).stdout.contains("withheld  clock"));
}

#[test]
fn plugins_are_inspected() {
    let bench = bench();
    bench.build("plugins/hello");
    bench.build("plugins/process");
    assert_snapshot!("inspect_hello", bench.talk(&["plugin", "inspect", "{repo}/plugins/hello"]));
    assert_snapshot!("build_nothing", bench.talk(&["plugin", "build", "."]));
    let json = bench.run(&["plugin", "inspect", "{repo}/plugins/process", "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(inspected["description"]["name"], "process");
    assert!(inspected["size"].as_u64().unwrap() > 0);
}

#[test]
fn help_is_the_same_for_everybody() {
    let bench = bench();
    assert_snapshot!("help", bench.talk(&["--help"]));
    for command in [
        "check",
        "expand",
        "plan",
        "run",
        "resume",
        "rerun",
        "replay",
        "list",
        "show",
        "explain",
        "logs",
        "graph",
        "cancel",
        "pause",
        "unpause",
        "signal",
        "approve",
        "reject",
        "prune",
        "export",
        "import",
        "schema",
        "completions",
        "man",
    ] {
        let asked = bench.run(&[command, "--help"]);
        assert_eq!((asked.code, asked.stderr.as_str()), (0, ""), "{command}");
        assert_eq!(asked.stdout, bench.run(&["help", command]).stdout);
    }
    assert_snapshot!("help_run", bench.talk(&["run", "--help"]));
}

#[test]
fn a_plan_is_compared_with_the_last_run_and_with_other_files() {
    let bench = bench();
    bench.build("plugins/process");
    let plugin = repository().join("plugins/process").display().to_string();
    let toml = r#"
        name = "compared"
        [inputs]
        word = { type = "string", default = "a" }
        [plugins]
        process = "{plugin}"
        [steps.say]
        use = "process"
        with = { program = "echo", args = ["${inputs.word}"] }
        grant = { process = ["echo"] }
    "#;
    let toml = toml.replace("{plugin}", &plugin);
    bench.write("compared.toml", &toml);
    assert_snapshot!("diff_without_a_run", bench.talk(&["plan", "compared.toml", "--diff", "last"]));
    assert_eq!(bench.run(&["run", "compared.toml"]).code, 0);
    assert_snapshot!("diff_of_nothing", bench.talk(&["plan", "compared.toml", "--diff", "last"]));
    assert_snapshot!("diff_of_inputs", bench.talk(&["plan", "compared.toml", "--diff", "last", "--input", "word=b"]));
    let wider = toml.replace(r#"process = ["echo"]"#, r#"process = ["echo", "curl"]"#);
    bench.write("wider.toml", &wider);
    assert_snapshot!("diff_of_files", bench.talk(&["plan", "wider.toml", "--diff", "compared.toml"]));
    let json = bench.run(&["plan", "wider.toml", "--diff", "last", "--json"]);
    let difference: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &difference["changes"][0]["wider"][0]), (6, &serde_json::json!("process curl")));
}

#[test]
fn a_run_and_its_steps_are_explained() {
    let bench = bench();
    bench.build("plugins/process");
    let plugin = repository().join("plugins/process").display().to_string();
    let toml = r#"
        name = "flaky"
        [inputs]
        stage = { type = "boolean", default = false }
        [plugins]
        process = "{plugin}"
        [pools]
        narrow = 1
        [steps.try]
        use = "process"
        with = { program = "sh", args = ["-c", "exit 3"], transient-codes = [3] }
        grant = { process = ["sh"] }
        pool = "narrow"
        retry = { attempts = 2, delay = "20ms", jitter = false }
        [steps.refused]
        needs = ["try.finished"]
        use = "process"
        with = { program = "sh", args = ["${steps.try.failure.kind}"] }
        grant = { process = ["true"] }
        [steps.stage]
        needs = ["refused.finished"]
        when = "inputs.stage && steps.try.status == 'succeeded'"
        use = "process"
        with = { program = "true" }
        grant = { process = ["true"] }
        [steps.watch]
        needs = ["stage"]
        use = "process"
        with = { program = "true" }
        grant = { process = ["true"] }
        [steps.promote]
        needs = ["watch"]
        use = "process"
        with = { program = "true" }
        grant = { process = ["true"] }
    "#;
    bench.write("flaky.toml", &toml.replace("{plugin}", &plugin));
    assert_eq!(bench.run(&["run", "flaky.toml"]).code, 1);
    // Which parts of some milliseconds took any differs from run to run.
    let steady = |page: String| -> String {
        page.lines().map(|line| format!("{}\n", line.split(": <duration> ").next().unwrap())).collect()
    };
    // As wide as the longest duration, which is redacted.
    let story = |page: &str| -> String {
        let told = page.split("\nWhere the time went").next().unwrap();
        told.lines().map(|line| format!("{}\n", line.trim_start())).collect()
    };
    assert_snapshot!("explain_a_run", story(&bench.talk(&["explain"])));
    let json = bench.run(&["explain", "--json"]);
    let account: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let run = account["run"].as_str().unwrap();
    assert_snapshot!("explain_retries", steady(bench.talk(&["explain", run, "try"])));
    assert_snapshot!("explain_a_chain", steady(bench.talk(&["explain", run, "promote"])));
    assert_snapshot!("explain_no_such_step", bench.talk(&["explain", run, "promot"]));
    let one = bench.run(&["explain", run, "try", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&one).unwrap()["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(account["skips"][0]["steps"], serde_json::json!(["stage", "watch", "promote"]));
}

#[test]
fn several_files_and_folders_are_checked_in_one_go() {
    let bench = bench();
    bench.build("plugins/hello");
    let plugin = repository().join("plugins/hello").display().to_string();
    let right = format!(
        "name = \"x\"\n[plugins]\nhello = \"{plugin}\"\n[steps.a]\nuse = \"hello\"\nwith = {{ name = \"b\" }}\n"
    );
    bench.write("flows/one.toml", &right);
    bench.write("flows/two.toml", &right.replace("[steps.a]", "[pools]\nidle = 1\n[steps.a]"));
    bench.write("flows/other.toml", "[package]\nname = \"no workflow\"\n");
    bench.write("wrong.toml", &right.replace("use =", "uses ="));
    assert_snapshot!("check_folder", bench.talk(&["check", "flows"]));
    assert_snapshot!("check_several", bench.talk(&["check", "flows/one.toml", "wrong.toml"]));
    // To run it, the warnings of a file are one line.
    assert_snapshot!("run_with_warnings", bench.talk(&["run", "flows/two.toml"]));
    bench.write("single/one.toml", &right);
    assert_eq!(bench.run(&["run", "single"]).code, 0);
}

#[test]
fn a_retry_says_when() {
    let bench = bench();
    bench.build("plugins/process");
    let plugin = repository().join("plugins/process").display().to_string();
    let toml = r#"
        name = "flaky"
        [plugins]
        process = "{plugin}"
        [steps.try]
        use = "process"
        with = { program = "sh", args = ["-c", "exit 3"], transient-codes = [3] }
        grant = { process = ["sh"] }
        retry = { attempts = 2, delay = "20ms" }
    "#;
    bench.write("flaky.toml", &toml.replace("{plugin}", &plugin));
    assert_snapshot!("a_retry", bench.talk(&["run", "flaky.toml"]));
}

#[test]
fn colours_are_for_terminals_unless_somebody_says_otherwise() {
    let bench = bench();
    let colours = |arguments: &[&str], variable: Option<&str>| {
        let mut command = bench.command(arguments);
        command.env_remove("NO_COLOR");
        if let Some(name) = variable {
            command.env(name, "1");
        }
        let stderr = command.output().unwrap().stderr;
        String::from_utf8(stderr).unwrap().contains('\u{1b}')
    };
    assert!(!colours(&["check", "nowhere"], None));
    assert!(colours(&["check", "nowhere"], Some("CLICOLOR_FORCE")));
    assert!(colours(&["--color", "always", "check", "nowhere"], Some("NO_COLOR")));
    assert!(!colours(&["check", "nowhere", "--color", "never"], Some("CLICOLOR_FORCE")));
    assert!(!colours(&["check", "nowhere"], Some("NO_COLOR")));
}
