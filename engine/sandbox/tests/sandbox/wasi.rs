//! WASI without grants: empty, deterministic, and never in the way; and with them.

use downbeat_workflow::capability::{FileGrant, Grants};
use downbeat_workflow::event::FailureKind;

use crate::bench::{Bench, CallExt, failure, output};
use crate::guests::{Guest, RESULT, echo};

const MONOTONIC: &str = r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic (result i64)))"#;
const WALL: &str = r#"(import "wasi:clocks/wall-clock@0.2.6" "now" (func $wall (param i32)))"#;
const RANDOM: &str = r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#;
const SLEEP: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $sleep (param i64) (result i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#;

/// Answers with the number that `body` leaves on the stack, in decimal.
fn number(body: &str) -> Guest {
    Guest::new(&format!(
        "(local $n i64) (local $at i32)
        (local.set $n {body})
        (local.set $at (i32.const 900))
        (loop $digit
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i32.store8 (local.get $at)
                (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
            (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
            (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
        (call $ok (local.get $at) (i32.sub (i32.const 900) (local.get $at)))"
    ))
}

/// What two attempts answer.
async fn twice(guest: Guest, grants: Grants) -> (u64, u64) {
    let bench = Bench::new();
    let call = bench.call().grants(grants);
    let first = bench.run(&guest, call.clone()).await;
    let second = bench.run(&guest, call).await;
    (output(&first).parse().unwrap(), output(&second).parse().unwrap())
}

#[tokio::test]
async fn without_grants_every_attempt_sees_the_same_clocks_and_numbers() {
    let monotonic = number("(i64.sub (call $monotonic) (call $monotonic))").import(MONOTONIC);
    let monotonic = twice(monotonic, Grants::default()).await;
    assert_eq!(monotonic, (1_000u64.wrapping_neg(), 1_000u64.wrapping_neg()));
    let wall = || number(&format!("(call $wall (i32.const {RESULT})) (i64.load (i32.const {RESULT}))")).import(WALL);
    assert_eq!(twice(wall(), Grants::default()).await, (946_684_800, 946_684_800));
    let random = || number("(call $random)").import(RANDOM);
    let (first, second) = twice(random(), Grants::default()).await;
    assert_eq!(first, second);
    let next = number("(i64.xor (call $random) (call $random))").import(RANDOM);
    assert_ne!(twice(next, Grants::default()).await.0, 0, "the numbers of one attempt differ");
    // With the grants they are real.
    let (first, second) = twice(random(), Grants { random: true, ..Grants::default() }).await;
    assert_ne!(first, second);
    assert!(twice(wall(), Grants { clock: true, ..Grants::default() }).await.0 > 1_700_000_000);
}

const HOUR: &str = "3600000000000";

#[tokio::test]
async fn a_sleep_of_a_step_that_reaches_nothing_is_skipped_and_moves_its_clock() {
    let guest = number(&format!("(call $block (call $sleep (i64.const {HOUR}))) (call $monotonic)"));
    let (slept, _) = twice(guest.import(SLEEP).import(MONOTONIC), Grants::default()).await;
    assert_eq!(slept, 3_600_000_001_000);
}

#[tokio::test]
async fn a_sleep_of_a_step_that_reaches_the_world_is_real_and_ended_by_the_timeout() {
    let bench = Bench::new();
    let guest = Guest::new(&format!("(call $block (call $sleep (i64.const {HOUR}))) unreachable")).import(SLEEP);
    for grants in [
        Grants { clock: true, ..Grants::default() },
        Grants { process: vec!["true".into()], ..Grants::default() },
        Grants { workspace: true, ..Grants::default() },
    ] {
        let ended = bench.run(&guest, bench.call().grants(grants).timeout_ms(50)).await;
        assert_eq!(failure(&ended).kind, FailureKind::TimedOut);
    }
}

#[tokio::test]
async fn standard_output_becomes_log_lines() {
    let bench = Bench::new();
    let guest = Guest::new(&format!(
        "(local $out i32)
        (local.set $out (call $stdout))
        (call $write (local.get $out) (global.get $text) (global.get $text_len) (i32.const {RESULT}))
        (call $ok (local.get $input) (local.get $input_len))"
    ))
    .import(r#"(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))"#)
    .import(
        r#"(import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))"#,
    )
    .text("text", "one\ntwo");
    let ended = bench.run(&guest, bench.call()).await;
    assert_eq!(output(&ended), "{}");
    assert_eq!(bench.observer.lines(), ["Info: one", "Info: two"]);
    assert_eq!(ended.usage.log_bytes, 8);
}

#[tokio::test]
async fn a_guest_that_exits_instead_of_answering_is_told_apart() {
    let bench = Bench::new();
    let guest = Guest::new("(call $exit (i32.const 1)) unreachable")
        .import(r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#);
    let ended = bench.run(&guest, bench.call()).await;
    assert_eq!(failure(&ended).kind, FailureKind::Trap);
    assert_eq!(failure(&ended).message, "the component called `exit` with status 1 instead of returning");
}

/// Answers with the number of its environment variables.
fn variables() -> Guest {
    number(&format!("(call $environment (i32.const {RESULT})) (i64.load32_u (i32.const {}))", RESULT + 4))
        .import(r#"(import "wasi:cli/environment@0.2.6" "get-environment" (func $environment (param i32)))"#)
}

#[tokio::test]
async fn only_granted_variables_are_seen() {
    assert_eq!(twice(variables(), Grants::default()).await, (0, 0));
    let env = vec!["PATH".into(), "DOWNBEAT_TEST_NOT_SET".into()];
    assert_eq!(twice(variables(), Grants { env, ..Grants::default() }).await, (1, 1));
}

#[tokio::test]
async fn a_granted_directory_that_is_not_there_is_the_hosts_failure_and_named() {
    let bench = Bench::new();
    let files = vec![FileGrant { path: "not-there".into(), write: false }];
    let ended = bench.run(&echo(), bench.call().grants(Grants { files, ..Grants::default() })).await;
    assert_eq!(failure(&ended).kind, FailureKind::Host);
    assert!(failure(&ended).message.contains("the granted directory `not-there` can't be opened"));
}

#[tokio::test]
async fn the_workspace_is_made_for_the_first_attempt_that_it_is_granted_to() {
    let bench = Bench::new();
    bench.run(&echo(), bench.call()).await;
    assert!(!bench.path().join("workspace").exists());
    let ended = bench.run(&echo(), bench.call().grants(Grants { workspace: true, ..Grants::default() })).await;
    assert_eq!(output(&ended), "{}");
    assert!(bench.path().join("workspace").is_dir());
}

/// What an attempt fails with that is granted this directory.
async fn refused(bench: &Bench, path: &str) -> String {
    let files = vec![FileGrant { path: path.into(), write: true }];
    let ended = bench.run(&echo(), bench.call().grants(Grants { files, ..Grants::default() })).await;
    assert_eq!(failure(&ended).kind, FailureKind::Host);
    failure(&ended).message.clone()
}

#[tokio::test]
async fn a_granted_directory_that_became_a_link_is_refused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", bench.path().join("data")).unwrap();
    let message = refused(&bench, "data").await;
    assert!(message.contains("data` is a symbolic link to `real`"), "{message}");
}

#[tokio::test]
async fn what_the_engine_keeps_for_itself_is_refused() {
    let bench = Bench::new();
    for path in [".", "cache", "/"] {
        let message = refused(&bench, path).await;
        assert!(message.contains("which the engine keeps for itself"), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_workspace_that_became_a_link_is_refused() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("cache", bench.path().join("workspace")).unwrap();
    let ended = bench.run(&echo(), bench.call().grants(Grants { workspace: true, ..Grants::default() })).await;
    assert!(failure(&ended).message.contains("is a symbolic link"), "{}", failure(&ended).message);
}
