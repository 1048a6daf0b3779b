//! The release workflow on its real application: each commit comes to its true end, and nothing is left running.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use downbeat_tests::Bench;
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// Releases a commit; the exit code, the run's outputs, and the state of each step.
fn release(bench: &Bench, commit: &str) -> (i32, Value, Vec<(String, String)>) {
    let input = format!("commit={commit}");
    let answer = bench.run(&["run", "{repo}/workflows/release/release.toml", "--input", &input]);
    let outputs: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}", answer.stderr));
    (answer.code, outputs, states(bench))
}

fn states(bench: &Bench) -> Vec<(String, String)> {
    let shown = bench.run(&["show"]).stdout;
    let table = shown.lines().skip_while(|line| !line.starts_with("STEP")).skip(1).take_while(|line| !line.is_empty());
    let row = |line: &str| {
        let mut cells = line.split("  ").filter(|cell| !cell.is_empty());
        (cells.next().unwrap().trim().to_owned(), cells.next().unwrap().trim().to_owned())
    };
    table.map(row).collect()
}

/// How one commit must end.
fn check(commit: &str, outcome: &str, serving: &str, failed: &[&str], message: &str) {
    let bench = bench();
    let (code, outputs, states) = release(&bench, commit);
    let story = format!("{outputs:#}\n{states:#?}");
    assert_eq!(code, i32::from(!failed.is_empty()), "{story}");
    assert_eq!(outputs["outcome"], outcome, "{story}");
    assert_eq!(outputs["serving"], serving, "{story}");
    let broken: Vec<&str> =
        states.iter().filter(|(_, state)| state == "failed").map(|(step, _)| step.as_str()).collect();
    assert_eq!(broken, failed, "{story}");
    let messages: Vec<&str> = outputs["messages"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(messages.len(), 1, "exactly one message arrives: {story}");
    assert!(messages[0].contains(message), "{story}");
    assert!(states.contains(&("cleanup".into(), "succeeded".into())), "{story}");
    assert_nothing_runs(&bench);
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

#[test]
fn a_good_commit_is_promoted() {
    check("good", "promoted", "1.1.0", &[], "shop 1.1.0 is released");
}

#[test]
fn a_commit_that_does_not_compile_is_rejected_with_the_compilers_words() {
    check("broken-build", "rejected", "1.0.0", &["fit", "fit/build"], "error[E0063]");
}

#[test]
fn a_commit_whose_test_fails_is_rejected_with_the_tests_name() {
    check("failing-test", "rejected", "1.0.0", &["fit", "fit/test", "fit/test[0]"], "ten_pieces_are_a_tenth_cheaper");
}

#[test]
fn a_commit_with_unsafe_code_is_rejected_by_the_scan() {
    check("unsafe-code", "rejected", "1.0.0", &["fit", "fit/scan"], "may not be released");
}

#[test]
fn a_slow_commit_is_rolled_back() {
    check("slow", "rolled back", "1.0.0", &["trial", "trial/gate"], "is rolled back");
}
