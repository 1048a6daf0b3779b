use std::time::Duration;

use downbeat_sdk::testing::{self, Host};
use downbeat_sdk::{Kind, Refused};

use super::*;

/// A host on which every program ends like this.
fn ending(completed: Completed) -> Host {
    let host = Host::new();
    host.on_process(move |_| Ok(completed.clone()));
    host
}

fn wrote(exit: Exit, stdout: &str, stderr: &str) -> Completed {
    Completed { exit, stdout: stdout.into(), stderr: stderr.into(), ..Completed::default() }
}

#[test]
fn every_field_of_the_input_reaches_the_program() {
    let host = Host::new();
    host.on_process(|command| {
        assert_eq!(command.program, "cargo");
        assert_eq!(command.arguments, ["test", "--quiet"]);
        assert_eq!(command.environment, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
        assert_eq!(command.working_directory.as_deref(), Some("app"));
        assert_eq!(command.stdin, b"yes\n");
        assert_eq!(command.timeout, Some(Duration::from_secs(90)));
        assert!(!command.log_output);
        Ok(Completed::default())
    });
    let output = testing::run::<run_program>(json!({
        "program": "cargo", "args": ["test", "--quiet"], "env": { "RUST_BACKTRACE": "1" }, "working-directory": "app",
        "stdin": "yes\n", "timeout": "1m30s", "log-output": false,
    }));
    assert_eq!(output.expect("the program succeeds")["exit-code"], 0);
}

#[test]
fn what_is_left_out_is_empty_and_output_is_logged() {
    let host = Host::new();
    host.on_process(|command| {
        let mut plain = process::Command::new("true");
        plain.log_output = true;
        assert_eq!(*command, plain);
        Ok(Completed { elapsed: Duration::from_millis(12), ..wrote(Exit::Code(0), "out", "err") })
    });
    assert_eq!(
        testing::run::<run_program>(json!({ "program": "true" })).expect("the program succeeds"),
        json!({
            "exit-code": 0, "stdout": "out", "stderr": "err", "stdout-dropped": 0, "stderr-dropped": 0, "elapsed-ms": 12
        })
    );
}

#[test]
fn standard_output_is_parsed_as_asked() {
    let _host = ending(wrote(Exit::Code(0), "[1]\n\n[2] \n", ""));
    let parsed = |how: &str| testing::run::<run_program>(json!({ "program": "p", "parse": how })).expect("it succeeds");
    assert_eq!(parsed("text")["text"], "[1]\n\n[2]");
    assert_eq!(parsed("lines")["lines"], json!(["[1]", "[2]"]));

    let _host = ending(wrote(Exit::Code(0), "{\"version\": 3}\n", ""));
    assert_eq!(parsed("json")["json"], json!({ "version": 3 }));
}

#[test]
fn standard_output_that_is_not_json_is_a_permanent_failure() {
    let _host = ending(wrote(Exit::Code(0), "no", ""));
    let input = json!({ "program": "p", "parse": "json" });
    let failure = testing::run::<run_program>(input.clone()).expect_err("`no` is not JSON");
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(failure.message.starts_with("what `p` wrote to standard output is not JSON:"), "{}", failure.message);

    let _host = ending(Completed { stdout_dropped: 7, ..wrote(Exit::Code(0), "1}", "") });
    let failure = testing::run::<run_program>(input).expect_err("the beginning is missing");
    assert!(failure.message.ends_with("raise the step's limit `process-output`"), "{}", failure.message);
}

#[test]
fn a_failing_program_is_a_permanent_failure_that_shows_what_it_said_last() {
    let _host = ending(wrote(Exit::Code(101), "compiling\n", "one\ntwo\n\nthree\nfour\n"));
    let failure = testing::run::<run_program>(json!({ "program": "cargo", "args": ["build"] })).expect_err("it fails");
    assert_eq!(failure.kind, Kind::Permanent);
    assert_eq!(failure.message, "`cargo build` ended with exit code 101: two\nthree\nfour");
    assert_eq!(
        failure.details.map(Value::Object),
        Some(json!({
            "program": "cargo", "args": ["build"], "exit-code": 101, "stdout": "compiling\n",
            "stderr": "one\ntwo\n\nthree\nfour\n"
        }))
    );
}

#[test]
fn a_program_that_says_nothing_on_standard_error_is_quoted_from_standard_output() {
    let _host = ending(wrote(Exit::Signal(9), "half way\n", " \n"));
    let failure = testing::run::<run_program>(json!({ "program": "p" })).expect_err("it was killed");
    assert_eq!(failure.message, "`p` ended with signal 9: half way");
    assert_eq!(failure.details.expect("it has details")["signal"], 9);
}

#[test]
fn a_long_command_is_cut_in_the_message_and_whole_in_the_details() {
    let _host = ending(wrote(Exit::Code(1), "", ""));
    let script = "x".repeat(1000);
    let failure = testing::run::<run_program>(json!({ "program": "sh", "args": [script] })).expect_err("it fails");
    let cut = "x".repeat(MESSAGE_COMMAND - "sh ".len());
    assert_eq!(failure.message, format!("`sh {cut}…` ended with exit code 1"));
    assert_eq!(failure.details.expect("it has details")["args"], json!([script]));
}

#[test]
fn exit_codes_mean_what_the_input_says() {
    let input = json!({ "program": "p", "success-codes": [0, 1], "transient-codes": [75] });
    let kind = |code| {
        let _host = ending(wrote(Exit::Code(code), "", ""));
        testing::run::<run_program>(input.clone())
            .map(|output| output["exit-code"].clone())
            .map_err(|failure| failure.kind)
    };
    assert_eq!(kind(1), Ok(json!(1)));
    assert_eq!(kind(75), Err(Kind::Transient));
    assert_eq!(kind(2), Err(Kind::Permanent));
}

#[test]
fn a_time_out_is_transient_and_keeps_what_was_written() {
    let host = Host::new();
    host.on_process(|_| Err(process::Error::TimedOut(Box::new(wrote(Exit::Signal(9), "so far", "")))));
    let failure = testing::run::<run_program>(json!({ "program": "sleep", "args": ["9"], "timeout": "2s" }))
        .expect_err("it takes too long");
    assert_eq!(failure.kind, Kind::Transient);
    assert_eq!(failure.message, "`sleep 9` ran longer than its timeout of 2s and was killed");
    assert_eq!(failure.details.expect("it has details")["stdout"], "so far");
}

#[test]
fn an_ungranted_program_is_a_permanent_failure_with_the_line_to_add() {
    let host = Host::new();
    host.on_process(|_| {
        Err(process::Error::Refused(Refused {
            capability: "process".into(),
            wanted: "rm".into(),
            hint: "grant = { process = [\"rm\"] }".into(),
        }))
    });
    let failure = testing::run::<run_program>(json!({ "program": "rm" })).expect_err("it is not granted");
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(failure.message.ends_with("grant = { process = [\"rm\"] }"), "{}", failure.message);
}

#[test]
fn details_keep_the_end_of_a_long_output_and_whole_characters() {
    let long = "ä".repeat(DETAILS_TAIL);
    let _host = ending(wrote(Exit::Code(1), &format!("{long}x"), ""));
    let details = testing::run::<run_program>(json!({ "program": "p" })).expect_err("it fails").details;
    let stdout = details.expect("it has details")["stdout"].as_str().expect("a text").to_owned();
    assert_eq!(stdout, format!("{}x", "ä".repeat(DETAILS_TAIL / 2 - 1)));
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<run_program>();
    assert_eq!(input["required"], json!(["program"]));
    assert_eq!(input["additionalProperties"], false);
    assert_eq!(input["properties"]["success-codes"]["default"], json!([0]));
    assert_eq!(output["properties"]["exit-code"]["type"], "integer");
    assert_eq!(output["properties"]["json"].get("type"), None, "any JSON may come out of a program");
    assert_eq!(testing::describe::<run_program>().summary, "Runs a native program and fails when it does.");
}
