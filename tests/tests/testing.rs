//! `downbeat test` on the workflows of the repository and on the page that describes it: tests of workflows pass, or say
//! what came out instead; and a report for CI systems says the same.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use downbeat_tests::{Bench, repository};
use insta::assert_snapshot;
use serde_json::Value;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// A bench with a workflow, for tests of it.
fn greeting() -> Bench {
    let bench = bench();
    bench.build("plugins/hello");
    let plugin = repository().join("plugins/hello");
    let workflow = format!(
        "name = \"greeting\"\n[inputs]\nname = {{ type = \"string\" }}\n[plugins]\nhello = \"{}\"\n\n[steps.greet]\nuse = \
         \"hello\"\nwith = {{ name = \"${{inputs.name}}\" }}\nretry = {{ attempts = 2, delay = \"1s\", jitter = false \
         }}\n\n[steps.again]\nneeds = [\"greet\"]\nwhen = \"size(inputs.name) < 5\"\nuse = \"hello\"\nwith = {{ name = \
         \"${{steps.greet.output.greeting}}\" }}\n",
        plugin.display()
    );
    bench.write("greeting.toml", &workflow);
    bench
}

const TESTS: &str = r#"workflow = "greeting.toml"
inputs.name = "Ada"

[steps.greet]
output = { greeting = "Hello, Ada!" }
took   = "2s"

[steps.again]
output = { greeting = "Hello again!" }

[tests.she_is_greeted_twice]
expect.outcome = "succeeded"
expect.steps.again.input.name = "Hello, Ada!"

[tests.a_failure_is_tried_again]
steps.greet.attempts = [{ failure = "transient" }, { output = { greeting = "Hi!" } }]
expect.steps.greet.attempts = 2
expect.took = "5s"
"#;

const WRONG: &str = r#"
[tests.a_long_name_is_greeted_twice]
inputs.name = "Adelaide"
expect.steps.again = "succeeded"
"#;

#[test]
fn a_workflow_is_tested_as_it_is_in_an_environment() {
    let bench = greeting();
    bench.write("quiet.with.toml", "remove = [\"steps.again\"]\nsteps.greet.retry = { delay = \"3s\" }\n");
    let test = "workflow = \"greeting.toml\"\nwith = [\"quiet.with.toml\"]\ninputs.name = \"Ada\"\n\
        [tests.it_takes_longer]\nsteps.greet.attempts = [{ failure = \"transient\" }, { output = { greeting = \"Hi!\" } }]\n\
        expect.outcome = \"succeeded\"\nexpect.took = \"3s\"\n";
    bench.write("quiet.test.toml", test);
    let answer = bench.run(&["test"]);
    assert!(answer.code == 0 && answer.stderr.contains("1 passed"), "{}", answer.stderr);
    bench.write("quiet.test.toml", &test.replace("quiet.with", "nowhere"));
    let answer = bench.run(&["test"]);
    assert!(answer.code == 3 && answer.stderr.contains("no overlay at nowhere.toml"), "{}", answer.stderr);
}

#[test]
fn tests_that_pass_are_a_line_each() {
    let bench = greeting();
    bench.write("greeting.test.toml", TESTS);
    assert_snapshot!("testing_passes", bench.talk(&["test"]));
    assert_snapshot!("testing_filters", bench.talk(&["test", "--filter", "twice", "--coverage"]));
    // Nothing was run, nothing was written.
    assert!(!bench.path().join(".downbeat/journal.db").exists());
}

#[test]
fn a_test_that_fails_shows_the_expectation_and_what_happened() {
    let bench = greeting();
    bench.write("below/greeting.test.toml", &format!("{}{WRONG}", TESTS.replace("greeting.toml", "../greeting.toml")));
    assert_snapshot!("testing_fails", bench.talk(&["test", "below"]));
    let answer = bench.run(&["test", "below", "--json"]);
    let lines: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((answer.code, lines.len(), answer.stderr.as_str()), (1, 3, ""));
    assert_eq!((&lines[0]["result"], &lines[2]["result"]), (&"passed".into(), &"failed".into()));
    assert_eq!(lines[2]["findings"][0]["code"], "end");
    let answer = bench.run(&["test", "--junit", "report.xml"]);
    let report = std::fs::read_to_string(bench.path().join("report.xml")).unwrap();
    assert_eq!(answer.code, 1);
    assert!(report.contains("<testsuites name=\"downbeat test\" tests=\"3\" failures=\"1\" errors=\"0\""), "{report}");
}

#[test]
fn what_can_not_be_tested_is_told_apart_from_what_fails() {
    let bench = greeting();
    bench.write("wrong.test.toml", &TESTS.replace("steps.greet]", "steps.great]"));
    bench.write("lost.test.toml", &TESTS.replace("greeting.toml", "gone.toml"));
    bench.write("good/greeting.test.toml", &TESTS.replace("greeting.toml", "../greeting.toml"));
    assert_snapshot!("testing_refuses", bench.talk(&["test"]));
    assert_snapshot!("testing_nothing", bench.talk(&["test", "good", "--filter", "nobody"]));
    assert_snapshot!("testing_no_test_file", bench.talk(&["test", "greeting.toml"]));
    bench.write("empty/readme", "");
    assert_snapshot!("testing_no_tests", bench.talk(&["test", "empty"]));
}

#[test]
fn every_test_of_the_repositorys_workflows_passes() {
    let answer = bench().run(&["test", "{repo}/workflows", "--coverage"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for told in ["coverage of release by 19 runs", "coverage of scale by 6 runs"] {
        assert!(answer.stdout.contains(told), "{}", answer.stdout);
    }
}

#[test]
fn the_page_about_tests_tells_the_truth() {
    let bench = bench();
    let page = std::fs::read_to_string(repository().join("docs/testing.md")).unwrap();
    let plugins = format!("\"{}/plugins/", repository().display());
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    let (workflows, tests): (Vec<&str>, Vec<&str>) = blocks.iter().partition(|block| !block.starts_with("workflow"));
    assert_eq!(workflows.len(), 2, "the page has two workflows, which its tests are of");
    for workflow in workflows {
        let name = workflow.split('"').nth(1).unwrap();
        bench.write(&format!("{name}.toml"), &workflow.replace("\"../plugins/", &plugins));
    }
    assert!(tests.len() >= 6);
    assert_eq!(bench.run(&["run", "greet.toml", "--input", "name=Ada"]).code, 0);
    std::fs::create_dir(bench.path().join("fixtures")).unwrap();
    assert_eq!(bench.run(&["export", "last", "--output", "fixtures/greeted.downbeat"]).code, 0);
    for (index, block) in tests.iter().enumerate() {
        bench.write("page.test.toml", block);
        let answer = bench.run(&["test", "page.test.toml"]);
        assert_eq!(answer.code, 0, "test file {index} of docs/testing.md:\n{block}\n{}", answer.stderr);
    }
}

#[test]
fn a_pipe_with_the_name_of_a_test_is_passed_over() {
    let bench = bench();
    let made = std::process::Command::new("mkfifo").arg(bench.path().join("x.test.toml")).status().unwrap();
    assert!(made.success());
    // Nobody ever writes to it: reading it would not end.
    let answer = bench.run(&["test"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("there are no tests in this folder"), "{}", answer.stderr);
}
