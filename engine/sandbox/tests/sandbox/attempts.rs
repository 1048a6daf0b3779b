//! How attempts end, what they may use, and what their account says.

use std::future::{pending, ready};
use std::sync::Arc;

use downbeat_sandbox::{Allocation, End};
use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::event::{FailureKind, Usage};

use crate::bench::{Bench, CallExt, failure, output};
use crate::guests::{Guest, LOG, RESULT, echo};

fn limit(name: &str) -> FailureKind {
    FailureKind::Limit { limit: name.into() }
}

const LOOP: &str = "(loop $again (br $again)) unreachable";

#[tokio::test]
async fn an_echo_answers_with_its_input_and_its_use_is_accounted() {
    let bench = Bench::new();
    let ended = bench.run(&echo(), bench.call().input(r#"{"a": [1, "ü"]}"#)).await;
    assert_eq!(output(&ended), r#"{"a": [1, "ü"]}"#);
    let usage = &ended.usage;
    assert_eq!((usage.bytes_in, usage.bytes_out, usage.memory_peak), (16, 16, 65536));
    assert!(usage.cpu_us <= usage.wall_us, "{usage:?}");
    assert_eq!((usage.log_bytes, usage.refusals.len()), (0, 0));
}

#[tokio::test]
async fn a_step_is_told_for_whom_it_runs() {
    let bench = Bench::new();
    let guest = Guest::new("(call $ok (local.get $key) (local.get $key_len))");
    assert_eq!(output(&bench.run(&guest, bench.call()).await), r#""key-1""#);
}

#[tokio::test]
async fn a_failure_of_the_guest_keeps_its_case_and_message() {
    let bench = Bench::new();
    for (case, kind) in [(0, FailureKind::InvalidInput), (1, FailureKind::Transient), (2, FailureKind::Permanent)] {
        let body = format!("(call $fail (i32.const {case}) (global.get $why) (global.get $why_len))");
        let ended = bench.run(&Guest::new(&body).text("why", "no \u{1b}[1mway"), bench.call()).await;
        let failure = failure(&ended);
        assert_eq!((&failure.kind, failure.message.as_str()), (&kind, "no \\u{1b}[1mway"));
    }
}

#[tokio::test]
async fn a_trap_tells_where_innermost_first() {
    let bench = Bench::new();
    let guest = Guest::new("(call $outer) unreachable")
        .functions("(func $inner unreachable) (func $outer (call $inner) (call $inner))");
    let ended = bench.run(&guest, bench.call()).await;
    let failure = failure(&ended);
    assert_eq!(failure.kind, FailureKind::Trap);
    assert_eq!(failure.message, "wasm `unreachable` instruction executed");
    let backtrace = failure.backtrace.as_deref().unwrap();
    let frames: Vec<&str> = backtrace.lines().map(|line| line.rsplit('!').next().unwrap()).collect();
    assert_eq!(frames[..2], ["inner", "outer"], "{backtrace}");
    assert!(ended.usage.memory_peak > 0);
}

#[tokio::test]
async fn endless_recursion_is_a_trap_with_a_bounded_backtrace() {
    let bench = Bench::new();
    let guest = Guest::new("(call $again) unreachable").functions("(func $again (call $again) (call $again))");
    let ended = bench.run(&guest, bench.call()).await;
    let failure = failure(&ended);
    assert_eq!((&failure.kind, failure.message.as_str()), (&FailureKind::Trap, "call stack exhausted"));
    assert!(failure.backtrace.as_deref().unwrap().len() < 20_000);
}

/// On one thread: it completes only because the busy guest lets go of the thread at every tick.
#[tokio::test(flavor = "current_thread")]
async fn an_endless_loop_is_timed_out_with_its_backtrace_while_others_complete() {
    let bench = Bench::new();
    let busy = Guest::new("(call $spin) unreachable").functions(&format!("(func $spin {LOOP})"));
    let (busy, good) = (bench.load(&busy), bench.load(&echo()));
    let busy = bench.sandbox.attempt(&busy, bench.call().timeout_ms(300), bench.observer.clone(), pending());
    let good = async {
        for _ in 0..3 {
            let ended = bench.sandbox.attempt(&good, bench.call(), bench.observer.clone(), pending()).await;
            assert_eq!(output(&ended), "{}");
        }
    };
    let (ended, ()) = tokio::join!(busy, good);
    let failure = failure(&ended);
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("300ms"), "{}", failure.message);
    assert!(failure.backtrace.as_deref().unwrap().contains("spin"));
    assert!(ended.usage.wall_us >= 300_000);
}

#[tokio::test]
async fn without_a_timeout_the_limit_on_time_applies() {
    let bench = Bench::new();
    let call = bench.call().limits(Limits { time_ms: 50, ..Limits::default() });
    assert_eq!(failure(&bench.run(&Guest::new(LOOP), call).await).kind, FailureKind::TimedOut);
}

#[tokio::test]
async fn cancelling_ends_a_busy_guest_and_its_use_is_accounted() {
    let bench = Bench::new();
    let guest = Guest::new(&format!("(call $log (i32.const 2) (global.get $hi) (global.get $hi_len)) {LOOP}"));
    let guest = guest.import(LOG).text("hi", "here");
    let observer = bench.observer.clone();
    let cancelled = async move { drop(observer.first_line().await) };
    let ended = bench.run_until(&guest, bench.call(), cancelled).await;
    assert_eq!(ended.end, End::Cancelled);
    assert_eq!((ended.usage.log_bytes, ended.usage.memory_peak), (5, 65536));
}

#[tokio::test]
async fn an_attempt_that_waits_for_a_place_can_be_cancelled() {
    let bench = Bench::with_instances(1);
    let busy = bench.load(&Guest::new(LOOP));
    let waiting = bench.load(&echo());
    let busy = bench.sandbox.attempt(&busy, bench.call().timeout_ms(200), bench.observer.clone(), pending());
    let waiting = bench.sandbox.attempt(&waiting, bench.call(), bench.observer.clone(), ready(()));
    let (busy, waiting) = tokio::join!(busy, waiting);
    assert_eq!(failure(&busy).kind, FailureKind::TimedOut);
    assert_eq!((waiting.end, waiting.usage), (End::Cancelled, Usage::default()));
}

#[tokio::test]
async fn more_attempts_than_places_all_complete() {
    let bench = Bench::with_instances(2);
    let plugin = bench.load(&echo());
    let attempt = || bench.sandbox.attempt(&plugin, bench.call(), bench.observer.clone(), pending());
    let ends = tokio::join!(attempt(), attempt(), attempt(), attempt(), attempt());
    for ended in [ends.0, ends.1, ends.2, ends.3, ends.4] {
        assert_eq!(output(&ended), "{}");
    }
}

#[tokio::test]
async fn a_dropped_attempt_gives_its_place_back() {
    let bench = Bench::with_instances(1);
    let busy = bench.load(&Guest::new(LOOP));
    let attempt = bench.sandbox.attempt(&busy, bench.call(), bench.observer.clone(), pending());
    tokio::time::timeout(std::time::Duration::from_millis(50), attempt).await.unwrap_err();
    assert_eq!(output(&bench.run(&echo(), bench.call()).await), "{}");
}

const HOARD: &str = "(loop $more
    (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";

#[tokio::test]
async fn a_hoard_of_memory_ends_at_the_limit_and_says_so() {
    let bench = Bench::new();
    let call = bench.call().limits(Limits { memory: 8 << 20, ..Limits::default() });
    let ended = bench.run(&Guest::new(HOARD), call).await;
    let failure = failure(&ended);
    assert_eq!(failure.kind, limit("memory"));
    assert!(failure.message.contains("limit `memory` of 8.0 MiB"), "{}", failure.message);
    assert!(failure.backtrace.is_some());
    assert!((7 << 20..=8 << 20).contains(&ended.usage.memory_peak), "{:?}", ended.usage);
}

#[tokio::test]
async fn a_component_that_starts_beyond_the_limit_is_told_so() {
    let bench = Bench::new();
    let call = bench.call().limits(Limits { memory: 1, ..Limits::default() });
    assert_eq!(failure(&bench.run(&echo(), call).await).kind, limit("memory"));
}

#[tokio::test]
async fn a_hoard_of_table_elements_ends_at_the_limit_and_says_so() {
    let bench = Bench::new();
    let guest = Guest::new(
        "(loop $more (br_if $more
            (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
    )
    .functions("(table $t 0 funcref)");
    let ended = bench.run(&guest, bench.call()).await;
    assert_eq!(failure(&ended).kind, limit("table-elements"));
    assert!((99_000..=100_000).contains(&ended.usage.table_elements_peak), "{:?}", ended.usage);
}

#[tokio::test]
async fn a_guest_that_lives_with_a_refused_allocation_succeeds() {
    let bench = Bench::new();
    let guest =
        Guest::new("(drop (memory.grow (i32.const 60000))) (call $ok (local.get $input) (local.get $input_len))");
    assert_eq!(output(&bench.run(&guest, bench.call()).await), "{}");
}

#[tokio::test]
async fn an_output_beyond_the_limit_is_not_taken() {
    let bench = Bench::new();
    let guest = Guest::new("(drop (memory.grow (i32.const 16))) (call $ok (i32.const 0) (i32.const 1000000))");
    let call = bench.call().limits(Limits { output: 1000, ..Limits::default() });
    let ended = bench.run(&guest, call).await;
    assert_eq!(failure(&ended).kind, limit("output"));
    assert_eq!(ended.usage.bytes_out, 1_000_000);
}

#[tokio::test]
async fn a_giant_output_is_not_even_copied() {
    let bench = Bench::new();
    let guest = Guest::new("(drop (memory.grow (i32.const 1200))) (call $ok (i32.const 0) (i32.const 70000000))");
    let ended = bench.run(&guest, bench.call()).await;
    assert_eq!(failure(&ended).kind, limit("output"), "{:?}", failure(&ended));
    assert_eq!(ended.usage.bytes_out, 0);
}

#[tokio::test]
async fn a_giant_message_to_the_host_is_not_even_copied() {
    let bench = Bench::new();
    let guest = Guest::new(
        "(drop (memory.grow (i32.const 1200))) (call $log (i32.const 2) (i32.const 0) (i32.const 70000000)) unreachable",
    );
    let ended = bench.run(&guest.import(LOG), bench.call()).await;
    assert_eq!(failure(&ended).kind, limit("message"), "{:?}", failure(&ended));
    assert!(bench.observer.lines().is_empty());
}

#[tokio::test]
async fn an_output_that_is_no_json_is_told_so() {
    let bench = Bench::new();
    let guest = Guest::new("(call $ok (global.get $text) (global.get $text_len))").text("text", "{oops");
    let ended = bench.run(&guest, bench.call()).await;
    assert_eq!(failure(&ended).kind, FailureKind::InvalidOutput);
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted_and_harms_nobody() {
    let bench = Bench::new();
    let guest = Guest::new(
        "(local $n i32)
        (loop $more
            (call $log (i32.const 3) (global.get $line) (global.get $line_len))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $n) (i32.const 1000))))
        (call $ok (local.get $input) (local.get $input_len))",
    );
    let call = bench.call().limits(Limits { log: 100, ..Limits::default() });
    let ended = bench.run(&guest.import(LOG).text("line", "123456789"), call).await;
    assert_eq!(output(&ended), "{}");
    assert_eq!((ended.usage.log_bytes, ended.usage.log_dropped), (100, 9_900));
    assert_eq!(bench.observer.lines(), vec!["Warn: 123456789"; 10]);
}

#[tokio::test]
async fn progress_reaches_the_observer() {
    let bench = Bench::new();
    let guest = Guest::new(
        "(call $report (i64.const 3) (i32.const 1) (i64.const 7) (global.get $what) (global.get $what_len))
        (call $ok (local.get $input) (local.get $input_len))",
    )
    .import(r#"(import "downbeat:step/progress@0.1.0" "report" (func $report (param i64 i32 i64 i32 i32)))"#)
    .text("what", "sums");
    bench.run(&guest, bench.call()).await;
    assert_eq!(*bench.observer.progress.lock().unwrap(), ["3/Some(7) sums"]);
}

/// Puts its input as a blob, gets it again by the digest that came back, and answers with it; fails with the hint of a
/// refusal.
fn keeper() -> Guest {
    let body = format!(
        "(call $put (local.get $input) (local.get $input_len) (i32.const {RESULT}))
        (if (result i32) (i32.load8_u (i32.const {RESULT}))
            (then (call $fail (i32.const 2) (i32.load (i32.const {hint})) (i32.load (i32.const {hint_len}))))
            (else
                (call $get (i32.load (i32.const {at})) (i32.load (i32.const {len})) (i32.const {RESULT}))
                (call $ok (i32.load (i32.const {at})) (i32.load (i32.const {len})))))",
        at = RESULT + 8,
        len = RESULT + 12,
        hint = RESULT + 32,
        hint_len = RESULT + 36,
    );
    Guest::new(&body)
        .import(r#"(import "downbeat:step/artifacts@0.1.0" "put" (func $put (param i32 i32 i32)))"#)
        .import(r#"(import "downbeat:step/artifacts@0.1.0" "get" (func $get (param i32 i32 i32)))"#)
}

#[tokio::test]
async fn a_blob_that_was_put_can_be_got() {
    let bench = Bench::new();
    let call = bench.call().input(r#"{"blob": true}"#);
    let ended = bench.run(&keeper(), call.grants(Grants { artifacts: true, ..Grants::default() })).await;
    assert_eq!(output(&ended), r#"{"blob": true}"#);
    // What leaves the engine has a record of its own; what is read is told with the end.
    let put = bench.observer.used.lock().unwrap().clone();
    assert_eq!(put.len(), 1, "{put:?}");
    assert!(put[0].what.starts_with("put sha256:") && put[0].grant == "artifacts = true", "{put:?}");
    assert!(ended.usage.used.iter().all(|used| used.what.starts_with("get sha256:")), "{:?}", ended.usage.used);
}

#[tokio::test]
async fn without_its_grant_nothing_is_kept_and_the_refusal_is_on_record() {
    let bench = Bench::new();
    let ended = bench.run(&keeper(), bench.call()).await;
    assert_eq!(failure(&ended).message, "grant = { artifacts = true }");
    assert_eq!(ended.usage.refusals[0].capability, "artifacts");
    assert!(!bench.path().join("artifacts").exists());
}

#[tokio::test]
async fn attempts_do_not_see_each_other() {
    let bench = Bench::new();
    // Answers with what it finds at 600, and leaves its input there.
    let guest = Guest::new(
        "(local $before i32)
        (local.set $before (i32.load8_u (i32.const 600)))
        (i32.store8 (i32.const 600) (i32.const 1))
        (if (result i32) (local.get $before)
            (then unreachable)
            (else (call $ok (local.get $input) (local.get $input_len))))",
    );
    for _ in 0..20 {
        assert_eq!(output(&bench.run(&guest, bench.call()).await), "{}");
    }
}

#[test]
fn a_sandbox_says_where_instances_live() {
    let bench = Bench::new();
    match bench.sandbox.allocation() {
        Allocation::Pooled { slots, .. } => assert_eq!(*slots, 8),
        Allocation::OnDemand { reason } => assert!(!reason.is_empty()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_can_be_a_task_of_its_own() {
    let bench = Arc::new(Bench::new());
    let plugin = bench.load(&echo());
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (bench, plugin) = (bench.clone(), plugin.clone());
            tokio::spawn(async move {
                let call = bench.call();
                bench.sandbox.attempt(&plugin, call, bench.observer.clone(), pending()).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(output(&task.await.unwrap()), "{}");
    }
}
