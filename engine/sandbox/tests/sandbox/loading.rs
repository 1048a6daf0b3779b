//! What is loaded, what is refused and with which words, and what the cache is good for.

use std::fs;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use downbeat_sandbox::LoadFault;
use downbeat_workflow::event::FailureKind;

use crate::bench::{Bench, CallExt, failure, output};
use crate::guests::{Guest, LOG, component, echo};

/// The message with which a component is refused.
fn refused(bytes: &[u8]) -> String {
    let bench = Bench::new();
    bench.try_load(bytes).expect_err("the component is refused").fault.to_string()
}

#[track_caller]
fn check(bytes: &[u8], parts: &[&str]) {
    let message = refused(bytes);
    parts.iter().for_each(|part| assert!(message.contains(part), "{message}"));
}

#[test]
fn a_plugin_says_what_it_is() {
    let bench = Bench::new();
    let bytes = echo().import(LOG).build();
    let plugin = bench.try_load(&bytes).unwrap();
    assert_eq!(plugin.component().description.name, "guest");
    assert_eq!(plugin.component().digest, downbeat_workflow::description::Digest::of(&bytes));
    assert_eq!(plugin.imports(), ["downbeat:step/log@0.1.0", "downbeat:step/types@0.1.0"]);
    assert_eq!(plugin.exports(), ["downbeat:step/step@0.1.0"]);
    assert_eq!((plugin.size(), plugin.cache_fault()), (bytes.len() as u64, None));
}

#[test]
fn the_same_component_is_loaded_once() {
    let bench = Bench::new();
    assert!(Arc::ptr_eq(&bench.load(&echo()), &bench.load(&echo())));
}

#[test]
fn what_is_no_component_is_refused_with_advice() {
    check(b"", &["too short"]);
    check(b"hello world", &["is not WebAssembly"]);
    check(b"(module)", &["text format", "wasm-tools parse"]);
    check(&wat::parse_str("(module)").unwrap(), &["core module", "wasm32-wasip2"]);
    check(b"\0asm\x0d\0\x01\0garbage", &["is not valid"]);
    check(b"\0asm\x0d\0\x07\0", &["preamble"]);
    let bench = Bench::new();
    assert!(matches!(bench.sandbox.load(bench.path()).unwrap_err().fault, LoadFault::NotAComponent(_)));
    let missing = bench.sandbox.load(&bench.path().join("missing.wasm")).unwrap_err();
    assert!(missing.to_string().contains("missing.wasm: can't be read"), "{missing}");
}

#[test]
fn a_component_of_more_than_64_mib_is_refused() {
    check(&vec![0; (64 << 20) + 1], &["larger than the 67108864 bytes"]);
}

#[test]
fn every_import_that_the_host_does_not_have_is_named() {
    let guest = Guest::new("(call $one) (call $two) unreachable")
        .import(r#"(import "test:strange/one@1.0.0" "f" (func $one))"#)
        .import(r#"(import "test:strange/two@1.0.0" "f" (func $two))"#);
    check(&guest.build(), &["test:strange/one@1.0.0, test:strange/two@1.0.0"]);
}

#[test]
fn an_import_that_differs_from_what_the_host_has_is_refused_with_the_reason() {
    let text = r#"(component
        (import "wasi:random/random@0.2.0" (instance (export "roll-dice" (func (result u8)))))
        (instance $i) (export "downbeat:step/step@0.1.0" (instance $i)))"#;
    check(&wat::parse_str(text).unwrap(), &["does not fit the host", "wasi:random/random@0.2.0"]);
}

#[test]
fn a_component_that_is_no_step_is_refused_with_what_it_is_instead() {
    let module = r#"(module (func (export "test:strange/one@1.0.0#f")))"#;
    check(
        &component(module, "no-step"),
        &["does not export downbeat:step/step@0.1.0", "exports test:strange/one@1.0.0"],
    );
    check(&wat::parse_str("(component)").unwrap(), &["it exports nothing"]);
}

#[test]
fn a_step_of_another_shape_is_refused_with_the_reason() {
    let text = r#"(component (instance $i) (export "downbeat:step/step@0.1.0" (instance $i)))"#;
    check(&wat::parse_str(text).unwrap(), &["does not fit the host", "describe"]);
}

#[test]
fn a_component_that_can_not_describe_itself_is_refused() {
    let bench = Bench::new();
    let error = bench.try_load(&echo().describe("unreachable").build()).unwrap_err();
    let LoadFault::Describe(failure) = error.fault else { panic!("{error}") };
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.backtrace.unwrap().contains("describe"));
}

#[test]
fn a_schema_is_a_json_object() {
    check(&echo().schema("[]").build(), &["input schema is not a JSON object"]);
    check(&echo().schema("{").build(), &["input schema is not valid JSON"]);
}

#[test]
fn a_component_that_would_take_the_whole_pool_is_refused() {
    let guest = echo().functions(&"(memory 0)".repeat(8));
    check(&guest.build(), &["needs 9 places of the instance pool", "it may take 8"]);
}

/// On the thread that the attempt itself needs to go on.
#[tokio::test]
async fn a_component_can_be_loaded_while_every_place_is_taken() {
    let bench = Bench::with_instances(1);
    let busy = bench.load(&Guest::new("(loop $again (br $again)) unreachable"));
    let call = bench.call().timeout_ms(100);
    let mut attempt = pin!(bench.sandbox.attempt(&busy, call, bench.observer.clone(), std::future::pending()));
    let first = poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx).is_pending())).await;
    assert!(first, "the attempt holds its place");
    bench.load(&echo());
    assert_eq!(failure(&attempt.await).kind, FailureKind::TimedOut);
}

/// Where the cache keeps an entry of this kind.
fn entry(bench: &Bench, extension: &str) -> PathBuf {
    let entries = fs::read_dir(bench.path().join("cache")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn after_a_restart_code_comes_from_the_cache() {
    let bench = Bench::new();
    let path = bench.write(&echo().build());
    bench.sandbox.load(&path).unwrap();
    let modified = |extension| fs::metadata(entry(&bench, extension)).unwrap().modified().unwrap();
    let before = (modified("code"), modified("description"));
    let sandbox = bench.restarted();
    let plugin = sandbox.load(&path).unwrap();
    assert_eq!(before, (modified("code"), modified("description")));
    let ended = sandbox.attempt(&plugin, bench.call(), bench.observer.clone(), std::future::pending()).await;
    assert_eq!(output(&ended), "{}");
}

#[test]
fn a_damaged_entry_is_made_again() {
    let bench = Bench::new();
    let path = bench.write(&echo().build());
    bench.sandbox.load(&path).unwrap();
    for extension in ["code", "description"] {
        let entry = entry(&bench, extension);
        let whole = fs::read(&entry).unwrap();
        let mut altered = whole.clone();
        altered[whole.len() / 2] ^= 1;
        for damage in [&whole[..whole.len() / 2], &altered, b""] {
            fs::write(&entry, damage).unwrap();
            let plugin = bench.restarted().load(&path).unwrap();
            assert_eq!(plugin.component().description.name, "guest");
            assert_ne!(fs::read(&entry).unwrap(), damage);
        }
    }
}

#[test]
fn a_description_is_asked_for_once() {
    let bench = Bench::new();
    let path = bench.write(&echo().build());
    bench.sandbox.load(&path).unwrap();
    let before = fs::metadata(entry(&bench, "description")).unwrap().modified().unwrap();
    fs::remove_file(entry(&bench, "code")).unwrap();
    bench.restarted().load(&path).unwrap();
    assert_eq!(fs::metadata(entry(&bench, "description")).unwrap().modified().unwrap(), before);
}
