//! The release workflow on its real application: each commit comes to its true end, and nothing is left running. On the way
//! it is asked all that `docs/tour.md` shows; `DOWNBEAT_BLESS=1` writes there what is said today.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead as _, BufReader, Read as _};

use downbeat_tests::{Bench, page};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The state of each step of the latest run.
fn states(bench: &Bench) -> Vec<(String, String)> {
    let shown = bench.run(&["show"]).stdout;
    let table = shown.lines().skip_while(|line| !line.starts_with("STEP")).skip(1).take_while(|line| !line.is_empty());
    let row = |line: &str| {
        let mut cells = line.split("  ").filter(|cell| !cell.is_empty());
        (cells.next().unwrap().trim().to_owned(), cells.next().unwrap().trim().to_owned())
    };
    table.map(row).collect()
}

/// How a release must end.
struct End<'a> {
    outcome: &'a str,
    serving: &'a str,
    /// The steps that failed.
    failed: &'a [&'a str],
    /// What is in the message.
    message: &'a [&'a str],
}

impl End<'_> {
    /// Releases a commit, and sees that it ends so.
    fn of(&self, commit: &str) {
        let bench = bench();
        let input = format!("commit={commit}");
        let answer = bench.run(&["run", "{repo}/workflows/release/release.toml", "--input", &input]);
        self.holds(&bench, answer.code, &answer.stdout, &answer.stderr);
    }

    /// Sees that the latest run ended so.
    fn holds(&self, bench: &Bench, code: i32, outputs: &str, said: &str) {
        let outputs: Value = serde_json::from_str(outputs).unwrap_or_else(|_| panic!("{said}"));
        let states = states(bench);
        let story = format!("{outputs:#}\n{states:#?}");
        assert_eq!(code, i32::from(!self.failed.is_empty()), "{story}");
        assert_eq!(outputs["outcome"], self.outcome, "{story}");
        assert_eq!(outputs["serving"], self.serving, "{story}");
        let broken: Vec<&str> =
            states.iter().filter(|(_, state)| state == "failed").map(|(step, _)| step.as_str()).collect();
        assert_eq!(broken, self.failed, "{story}");
        let messages: Vec<&str> = outputs["messages"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(messages.len(), 1, "exactly one message arrives: {story}");
        assert!(self.message.iter().all(|text| messages[0].contains(text)), "{story}");
        assert!(states.contains(&("cleanup".into(), "succeeded".into())), "{story}");
        assert_nothing_runs(bench);
    }
}

/// No process has the bench's folder in its command line.
fn assert_nothing_runs(bench: &Bench) {
    let place = bench.path().display().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let left: Vec<String> =
        lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(&place)).collect();
    assert!(left.is_empty(), "still running: {left:?}");
}

const PROMOTED: End<'_> =
    End { outcome: "promoted", serving: "1.1.0", failed: &[], message: &["shop 1.1.0 is released"] };

#[test]
fn a_good_commit_is_promoted() {
    PROMOTED.of("good");
}

/// What fails in it, and what the message says.
fn rejected<'a>(failed: &'a [&'a str], message: &'a [&'a str]) -> End<'a> {
    End { outcome: "rejected", serving: "1.0.0", failed, message }
}

#[test]
fn a_commit_that_does_not_compile_is_rejected_with_the_compilers_words() {
    rejected(&["fit", "fit/build"], &["error[E0063]"]).of("broken-build");
}

#[test]
fn a_commit_whose_test_fails_is_rejected_with_the_suites_and_the_tests_names() {
    let says = ["item 0 (lib): ", "ten_pieces_are_a_tenth_cheaper"];
    rejected(&["fit", "fit/test", "fit/test[0]"], &says).of("failing-test");
}

#[test]
fn a_commit_with_unsafe_code_is_rejected_by_the_scan() {
    rejected(&["fit", "fit/scan"], &["may not be released", "unsafe: src/"]).of("unsafe-code");
}

/// A slow commit is rolled back; a good one is approved by a person, in the middle of which the engine is stopped.
#[test]
fn the_tour_in_the_documents_is_what_happens() {
    const RELEASE: &str = "workflows/release";
    let bench = bench();
    bench.copy_release();
    let mut talks = vec![
        bench.show(&["check", RELEASE]),
        bench.show(&["plan", RELEASE, "--input", "commit=slow"]).shortened(40, 14).but_for(SIGNED),
        bench.show(&["test", RELEASE, "--coverage"]),
        bench.show(&["graph", RELEASE, "--output", "release.svg"]),
    ];

    let slow = ["run", RELEASE, "--input", "commit=slow"];
    let answer = bench.run(&slow);
    let rolled_back = End {
        outcome: "rolled back",
        serving: "1.0.0",
        failed: &["trial", "trial/gate"],
        message: &["shop slow is rolled back"],
    };
    rolled_back.holds(&bench, answer.code, &answer.stdout, &answer.stderr);
    talks.push(bench.told(&slow, &answer.stderr).in_any_order().but_for(MEASURED));
    talks.extend([
        bench.show(&["explain"]).but_for(BY_THE_CLOCK),
        bench.show(&["explain", "last", "trial/gate"]).but_for(MEASURED),
        bench.show(&["explain", "last", "trial/promote"]).but_for(MEASURED),
    ]);
    let file = format!("{RELEASE}/release.toml");
    let text = std::fs::read_to_string(bench.path().join(&file)).unwrap();
    bench.write(
        &file,
        &text.replace("timeout = \"1h\"", "timeout = \"30m\"").replace("\"grace\"]", "\"grace\", \"edith\"]"),
    );
    talks.push(bench.show(&["plan", RELEASE, "--diff", "last"]));
    bench.write(&file, &text);

    talks.push(bench.show(&["rerun", "--from", "receiver", "--from", "baseline", "--dry-run"]));

    let asks = ["run", RELEASE, "--input", "approval=always"];
    let mut engine = bench.spawn(&asks);
    let mut said = String::new();
    let mut lines = BufReader::new(engine.stderr.take().unwrap());
    while !said.contains("trial/approve") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "it ended before somebody was asked: {said}");
    }
    kill_process(Pid::from_child(&engine), Signal::INT).unwrap();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    talks.push(bench.told(&asks, &said).in_any_order().but_for(MEASURED));
    talks.extend([bench.show(&["show"]), bench.show(&["approve", "--by", "ada", "--note", "looks fine"])]);
    let answer = bench.run(&["resume"]);
    PROMOTED.holds(&bench, answer.code, &answer.stdout, &answer.stderr);
    talks
        .push(bench.told(&["resume"], &format!("{}{}", answer.stderr, answer.stdout)).in_any_order().but_for(MEASURED));
    talks.push(bench.show(&["explain", "last", "trial/approve"]).but_for(MEASURED));
    talks.push(bench.show(&["replay"]));
    page::hold("docs/tour.md", &talks);
}

/// Plugins, which somebody may have signed where they are built.
const SIGNED: &str = "^(plugins  |        ) +[a-z-]+: ";

/// What was measured, which parts a step's time has (a busy engine makes itself felt), and as whom this machine knows the
/// user who approved.
const MEASURED: &str = "median|^time |approved by";

/// The same, which of the steps side by side ended first, and how long all took.
const BY_THE_CLOCK: &str = "median|^ *<duration> |most of it";
