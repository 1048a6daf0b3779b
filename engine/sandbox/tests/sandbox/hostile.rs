//! Components that no compiler emits: they lie to the canonical ABI, break the compiler's habits, or are damaged. Each ends
//! as a typed failure or is refused, within its bound, while a well-behaved step beside it completes. The table of attacks
//! and outcomes is in the README of the guest `rogue`, and a test there holds the two together.

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use downbeat_sandbox::{Call, End, Ended, LoadFault};
use downbeat_workflow::event::{Failure, FailureKind};

use crate::bench::{Bench, CallExt, failure, output};
use crate::guests::{Guest, LOG, RESULT, echo};

fn limit(name: &str) -> FailureKind {
    FailureKind::Limit { limit: name.into() }
}

const LOOP: &str = "(loop $again (br $again)) unreachable";

/// Runs an attack beside three attempts of a well-behaved step, one after the other, all on this one thread. Tells how the
/// attack ended, and whether the three were through by then.
async fn beside(guest: &Guest, call: impl FnOnce(Call) -> Call) -> (Ended, bool) {
    let bench = Bench::new();
    let (attack, good) = (bench.load(guest), bench.load(&echo()));
    let over = Cell::new(false);
    let attack = async {
        let ended = bench.sandbox.attempt(&attack, call(bench.call()), bench.observer.clone(), pending()).await;
        over.set(true);
        ended
    };
    let good = async {
        for _ in 0..3 {
            let ended = bench.sandbox.attempt(&good, bench.call(), bench.observer.clone(), pending()).await;
            assert_eq!(output(&ended), "{}");
        }
        !over.get()
    };
    let (ended, first) = tokio::join!(attack, good);
    // Whatever it was, its use is on record.
    assert!(ended.usage.wall_us > 0 && ended.usage.memory_peak > 0, "{:?}", ended.usage);
    (ended, first)
}

/// The kind of failure that an attack ends with; these words are in its message, and the well-behaved complete.
async fn fails(guest: Guest, words: &str) -> FailureKind {
    let (ended, _) = beside(&guest, |call| call).await;
    let failure = failure(&ended);
    assert!(failure.message.contains(words), "{}", failure.message);
    failure.kind.clone()
}

#[tokio::test]
async fn an_allocator_that_never_returns_is_timed_out() {
    let (ended, first) = beside(&echo().realloc(LOOP), |call| call.timeout_ms(400)).await;
    assert_eq!((&failure(&ended).kind, first), (&FailureKind::TimedOut, true));
}

/// A guest that is refused a blob, so that the host hands over the refusal's texts. From then on its allocator is this one.
fn refused_a_blob(allocator: &str) -> Guest {
    let body = format!(
        "(global.set $busy (i32.const 1))
        (call $put (i32.const 0) (i32.const 0) (i32.const {RESULT}))
        unreachable"
    );
    Guest::new(&body)
        .import(r#"(import "downbeat:step/artifacts@0.1.0" "put" (func $put (param i32 i32 i32)))"#)
        .functions("(global $busy (mut i32) (i32.const 0))")
        .realloc(&format!("(if (global.get $busy) (then {allocator})) (i32.const 2048)"))
}

#[tokio::test]
async fn an_allocator_that_never_returns_in_a_host_call_is_timed_out() {
    let (ended, first) = beside(&refused_a_blob(LOOP), |call| call.timeout_ms(400)).await;
    assert_eq!((&failure(&ended).kind, first), (&FailureKind::TimedOut, true));
    assert_eq!(ended.usage.refusals[0].capability, "artifacts");
}

#[tokio::test]
async fn an_allocator_that_traps_or_lies_is_a_trap() {
    assert_eq!(fails(echo().realloc("unreachable"), "unreachable").await, FailureKind::Trap);
    assert_eq!(fails(refused_a_blob("unreachable"), "unreachable").await, FailureKind::Trap);
    let outside = "realloc return: beyond end of memory";
    assert_eq!(fails(echo().realloc("(i32.const -8)"), outside).await, FailureKind::Trap);
    assert_eq!(fails(echo().realloc("(i32.const 65535)"), outside).await, FailureKind::Trap);
    assert_eq!(fails(refused_a_blob("(return (i32.const -8))"), outside).await, FailureKind::Trap);
}

#[tokio::test]
async fn an_allocator_that_calls_the_host_is_a_trap() {
    let calls = "(call $log (i32.const 2) (i32.const 0) (i32.const 0)) (i32.const 2048)";
    let kind = fails(echo().import(LOG).realloc(calls), "cannot leave component instance").await;
    assert_eq!(kind, FailureKind::Trap);
}

#[tokio::test]
async fn an_answer_that_is_not_in_memory_is_a_trap() {
    let claimed = Guest::new("(call $ok (i32.const 0) (i32.const 0x40000000))");
    assert_eq!(fails(claimed, "out of bounds").await, FailureKind::Trap);
    for place in [-16, 65532, 513] {
        assert_eq!(fails(Guest::new(&format!("(i32.const {place})")), "pointer").await, FailureKind::Trap);
    }
}

#[tokio::test]
async fn an_answer_of_no_known_case_is_a_trap() {
    let result = Guest::new("(i32.store8 (i32.const 512) (i32.const 7)) (i32.const 512)");
    assert_eq!(fails(result, "discriminant").await, FailureKind::Trap);
    let case = Guest::new("(call $fail (i32.const 9) (i32.const 0) (i32.const 0))");
    assert_eq!(fails(case, "discriminant").await, FailureKind::Trap);
}

#[tokio::test]
async fn an_answer_that_is_no_utf8_is_a_trap() {
    // No beginning, no end, longer than need be, a surrogate.
    for bytes in [*b"\xff   ", *b"   \xc3", *b"\xc0\xaf  ", *b"\xed\xa0\x80 "] {
        let store = format!("(i32.store (i32.const 600) (i32.const {}))", i32::from_le_bytes(bytes));
        let guest = Guest::new(&format!("{store} (call $ok (i32.const 600) (i32.const 4))"));
        assert_eq!(fails(guest, "utf-8").await, FailureKind::Trap);
    }
}

#[tokio::test]
async fn a_forged_handle_is_a_trap() {
    let guest = Guest::new("(call $block (i32.const 12345)) unreachable")
        .import(r#"(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#);
    assert_eq!(fails(guest, "unknown handle index").await, FailureKind::Trap);
}

/// How a component that can't be loaded fails to describe itself, and how long that took. The sandbox is as good as before.
fn undescribed(guest: &Guest) -> (Failure, Duration) {
    let bench = Bench::with(|options| options.describe_max = Duration::from_millis(300));
    let bytes = guest.build();
    let started = Instant::now();
    let fault = bench.try_load(&bytes).expect_err("the component is refused").fault;
    let took = started.elapsed();
    bench.load(&echo());
    let LoadFault::Describe(failure) = fault else { panic!("{fault}") };
    (*failure, took)
}

#[test]
fn a_describe_without_end_is_timed_out() {
    let logs = "(loop $again (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br $again)) unreachable";
    for guest in [echo().describe(LOOP), echo().import(LOG).describe(logs)] {
        let (failure, took) = undescribed(&guest);
        assert_eq!(failure.kind, FailureKind::TimedOut);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_component_that_loops_when_it_starts_is_timed_out() {
    let guest = echo().functions("(func $begin (loop $again (br $again))) (start $begin)");
    assert_eq!(undescribed(&guest).0.kind, FailureKind::TimedOut);
}

#[test]
fn a_panic_in_describe_is_told_with_its_text() {
    let guest = echo()
        .import(LOG)
        .text("why", "panicked at src/lib.rs:1:2:\nno")
        .describe("(call $log (i32.const 4) (global.get $why) (global.get $why_len)) unreachable");
    let (failure, _) = undescribed(&guest);
    assert_eq!(failure.kind, FailureKind::Trap);
    assert_eq!(
        failure.message,
        "wasm `unreachable` instruction executed; its last words: panicked at src/lib.rs:1:2: no"
    );
}

#[test]
fn a_describe_that_hoards_ends_at_the_limit() {
    let hoard = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    assert_eq!(undescribed(&echo().describe(hoard)).0.kind, limit("memory"));
}

/// The record that `describe` gives lies at 64; from 0 its three texts, then the two schemas and the list of wants, eight
/// bytes each: an address and a length.
const NAME_LEN: u32 = 64 + 4;
const INPUT_SCHEMA_LEN: u32 = 64 + 3 * 8 + 4;
const WANTS: u32 = 64 + 5 * 8;

/// `describe` with one number in the record replaced, in a memory of so many pages more.
fn describes(pages: u32, at: u32, number: u32) -> String {
    format!("(drop (memory.grow (i32.const {pages}))) (i32.store (i32.const {at}) (i32.const {number})) i32.const 64")
}

#[test]
fn a_description_of_100_mb_is_not_even_copied() {
    let (failure, _) = undescribed(&echo().describe(&describes(1600, INPUT_SCHEMA_LEN, 100_000_000)));
    assert_eq!(failure.kind, limit("output"), "{}", failure.message);
}

/// What a component is refused for. The sandbox is as good as before.
fn refused(bytes: &[u8]) -> String {
    let bench = Bench::new();
    let message = bench.try_load(bytes).expect_err("the component is refused").fault.to_string();
    bench.load(&echo());
    message
}

#[track_caller]
fn check(bytes: &[u8], words: &str) {
    let message = refused(bytes);
    assert!(message.contains(words), "{message}");
}

#[test]
fn a_description_is_bounded_in_every_part() {
    let schema = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20));
    check(&echo().schema(&schema).build(), "its input schema has 2097161 bytes, and the bound is 1048576");
    // A thousand wants without a text, in memory that nobody wrote to.
    let wants = format!("(i32.store (i32.const {WANTS}) (i32.const 65536)) {}", describes(1, WANTS + 4, 1000));
    check(&echo().describe(&wants).build(), "it wants 1000 capabilities, and the bound is 64");
    let message = refused(&echo().describe(&describes(17, NAME_LEN, 1 << 20)).build());
    assert!(message.contains("is not made of lower case words") && message.len() < 1024, "{message}");
}

#[test]
fn a_component_of_too_many_tables_is_refused() {
    check(&echo().functions(&"(table 1 funcref)".repeat(40)).build(), "places of the instance pool");
    check(&echo().functions("(table 10000000 funcref)").build(), "table");
}

#[test]
fn a_component_of_too_many_instances_ends_at_the_limit() {
    // Eleven components of eleven components of eleven instances with nothing in them.
    let eleven = |inside: &str, instance: &str| format!("(component $c {inside} {})", instance.repeat(11));
    let instances = eleven("(core module $m)", "(core instance (instantiate $m))");
    let components = eleven(&eleven(&instances, "(instance (instantiate $c))"), "(instance (instantiate $c))");
    let bomb = wat::parse_str(components).unwrap();
    // Hidden in a step: sections follow each other in any order, and this one is its last component.
    let step = echo().build();
    let last = sections(&step).into_iter().filter(|(kind, _)| *kind == COMPONENT).count() as u8;
    let section = |id: u8, body: &[u8]| [&[id][..], &number(body.len() as u64), body].concat();
    let instance = section(INSTANCE, &[1, 0, last, 0]);
    let bench = Bench::new();
    let fault = bench.try_load(&[step, section(COMPONENT, &bomb), instance].concat()).unwrap_err().fault;
    let LoadFault::Describe(failure) = fault else { panic!("{fault}") };
    assert_eq!(failure.kind, limit("instances"), "{}", failure.message);
    bench.load(&echo());
}

/// The kinds of sections that hold names and the like, a component, and an instance of one.
const CUSTOM: u8 = 0;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;

/// The kinds of a component's own sections, in their order, and where each ends.
fn sections(component: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    let mut at = 8;
    while at < component.len() {
        let after = &component[at + 1..];
        let digits = 1 + after.iter().take_while(|byte| **byte >= 0x80).count();
        let length = after[..digits].iter().rev().fold(0, |length, byte| (length << 7) + usize::from(byte & 0x7f));
        let end = at + 1 + digits + length;
        found.push((component[at], end));
        at = end;
    }
    found
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let bench = Bench::new();
    let pipe = bench.path().join("pipe.wasm");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), bench.path(), Path::new("/dev/zero")] {
        let fault = bench.sandbox.load(path).unwrap_err().fault;
        assert!(matches!(fault, LoadFault::NotAComponent("it is not a file")), "{fault}");
    }
}

#[test]
fn a_component_cut_off_anywhere_is_refused() {
    let bench = Bench::new();
    let whole = echo().build();
    // What comes last says who made it; without that it is complete.
    let (_, complete) = sections(&whole).into_iter().rfind(|(kind, _)| *kind != CUSTOM).unwrap();
    for end in 0..complete {
        let fault = bench.try_load(&whole[..end]).map(|_| ()).unwrap_err().fault;
        let expected = matches!(
            fault,
            LoadFault::NotAComponent(_) | LoadFault::Invalid(_) | LoadFault::NoStep(_) | LoadFault::Mismatch(_)
        );
        assert!(expected, "cut at {end}: {fault}");
    }
    bench.load(&echo());
}

/// A sequence that is the same in every run: the linear congruential generator of D. Knuth's MMIX, its upper half.
fn dice(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[tokio::test]
async fn flipped_bits_never_break_the_engine() {
    let bench = Bench::with(|options| options.describe_max = Duration::from_millis(100));
    let whole = echo().build();
    let mut state = 1;
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=dice(&mut state) % 3 {
            let at = 8 + dice(&mut state) % (bytes.len() - 8);
            bytes[at] ^= 1 << (dice(&mut state) % 8);
        }
        let Ok(plugin) = bench.try_load(&bytes) else {
            refused += 1;
            continue;
        };
        let call = bench.call().timeout_ms(50);
        let ended = bench.sandbox.attempt(&plugin, call, bench.observer.clone(), pending()).await;
        assert!(ended.end != End::Cancelled);
        ran += 1;
    }
    assert!(refused > 0 && ran > 0, "{refused} were refused and {ran} ran");
    assert_eq!(output(&bench.run(&echo(), bench.call()).await), "{}");
}

/// A component of one core module whose functions are all the same, byte by byte: text of this size would take longer to
/// read than to refuse.
fn module(functions: usize, locals: u64, code: &[u8]) -> Vec<u8> {
    let section = |id: u8, body: &[u8]| [&[id][..], &number(body.len() as u64), body].concat();
    let locals = if locals == 0 { vec![0] } else { [&[1][..], &number(locals), &[0x7f]].concat() };
    let body = [&locals[..], code, &[0x0b]].concat();
    let body = [&number(body.len() as u64), &body[..]].concat();
    let count = number(functions as u64);
    let module = [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, &[1, 0x60, 0, 0]),
        &section(3, &[&count, &vec![0; functions][..]].concat()),
        &section(10, &[&count, &body.repeat(functions)[..]].concat()),
    ];
    [&b"\0asm\x0d\0\x01\0"[..], &section(1, &module.concat())].concat()
}

/// An unsigned number in LEB128.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn what_is_too_much_for_the_compiler_is_refused_at_once() {
    const NOP: u8 = 0x01;
    let loops = [0x03, 0x40, 0x0b].repeat(5_000);
    let started = Instant::now();
    check(&module(1_000_000, 0, &[]), "functions are 1000000, and at most");
    check(&module(1, 0, &vec![NOP; 7_000_000]), "bytes of code in one function are 7000002");
    check(&module(1, 50_000, &loops), "locals times blocks in one function are 250000000");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // The same within the bounds is compiled.
    check(&module(1_000, 50, &loops[..300]), "is no step");
}

#[test]
fn a_compilation_that_takes_too_long_is_given_up() {
    let bench = Bench::with(|options| options.compile_max = Duration::ZERO);
    let fault = bench.try_load(&echo().build()).expect_err("there was no time").fault;
    assert!(matches!(fault, LoadFault::CompileTimeout(_)), "{fault}");
    assert!(fs::read_dir(bench.path().join("cache")).unwrap().next().is_none(), "nothing was kept");
}

#[test]
fn an_interface_of_another_version_is_refused() {
    let guest = Guest::new("(drop (call $random)) unreachable")
        .import(r#"(import "wasi:random/random@0.3.0" "get-random-u64" (func $random (result i64)))"#);
    check(&guest.build(), "imports what a step may not import: wasi:random/random@0.3.0");
}
