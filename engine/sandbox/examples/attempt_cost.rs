//! What an attempt costs beside the bare engine: the same component, a fresh Store and instance, one call with a string in
//! and out. The sandbox adds its limits, its account, its time-out and its log to that.
//!
//! ```text
//! cargo run --release -p downbeat-sandbox --example attempt_cost
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a part of the engine")]

#[path = "../tests/sandbox/guests.rs"]
#[allow(dead_code, reason = "the measurement needs one guest of many")]
mod guests;

use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_sandbox::{Call, End, Observer, Options, Sandbox};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder,
};

mod bare {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "downbeat:step/plugin",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

struct Nobody;

impl Observer for Nobody {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
}

const ROUNDS: usize = 9;
const ATTEMPTS: u32 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.wasm");
    let bytes = guests::echo().build();
    std::fs::write(&path, &bytes).unwrap();
    let input = format!("\"{}\"", "x".repeat(1022));

    let started = Instant::now();
    let sandbox = Sandbox::new(Options::below(directory.path())).unwrap();
    println!("sandbox          {:>9.1?}  {:?}", started.elapsed(), sandbox.allocation());
    let started = Instant::now();
    let plugin = sandbox.load(&path).unwrap();
    println!("load, compiling  {:>9.1?}", started.elapsed());
    let again = Sandbox::new(Options::below(directory.path())).unwrap();
    let started = Instant::now();
    again.load(&path).unwrap();
    println!("load, cached     {:>9.1?}", started.elapsed());
    drop(again);

    let observer: Arc<dyn Observer> = Arc::new(Nobody);
    let call = Call {
        run: "run-1".into(),
        workflow: "flow".into(),
        step: "step".into(),
        attempt: 1,
        idempotency_key: "key".into(),
        input: Json::parse(input.clone()).unwrap(),
        timeout: Some(Duration::from_secs(60)),
        grants: Arc::default(),
        limits: Arc::default(),
        directory: Arc::from(Path::new("/")),
        workspace: "/".into(),
    };
    let engine = engine();
    let pre = link(&engine, &bytes);

    let (mut bare, mut attempts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(
            measure(|| async {
                let mut store = Store::new(&engine, StoreLimitsBuilder::new().memory_size(256 << 20).build());
                store.limiter(|limits| limits);
                store.set_epoch_deadline(u64::MAX / 2);
                let instance = pre.instantiate_async(&mut store).await.unwrap();
                let context = bare::exports::downbeat::step::step::Context {
                    run: "run-1",
                    workflow: "flow",
                    step: "step",
                    attempt: 1,
                    idempotency_key: "key",
                    timeout_ms: Some(60_000),
                };
                let output = instance.downbeat_step_step().call_run(&mut store, context, &input).await.unwrap();
                assert!(output.is_ok());
            })
            .await,
        );
        attempts.push(
            measure(|| async {
                let ended = sandbox.attempt(&plugin, call.clone(), observer.clone(), pending()).await;
                assert!(matches!(ended.end, End::Succeeded(_)));
            })
            .await,
        );
    }
    let (bare, attempt) = (median(bare), median(attempts));
    println!("bare             {bare:>9.1?}");
    println!("attempt          {attempt:>9.1?}  {:.2} times", attempt.as_secs_f64() / bare.as_secs_f64());
}

async fn measure<F: Future<Output = ()>>(attempt: impl Fn() -> F) -> Duration {
    let started = Instant::now();
    for _ in 0..ATTEMPTS {
        attempt().await;
    }
    started.elapsed() / ATTEMPTS
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// As fast as wasmtime goes: a pool, resident pages, no component-level concurrency.
fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(256 << 10).table_keep_resident(64 << 10).pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config.epoch_interruption(true).concurrency_support(false);
    Engine::new(&config).unwrap()
}

fn link(engine: &Engine, bytes: &[u8]) -> bare::PluginPre<StoreLimits> {
    let component = Component::from_binary(engine, bytes).unwrap();
    let mut linker = Linker::new(engine);
    linker.instance("downbeat:step/types@0.1.0").unwrap();
    bare::PluginPre::new(linker.instantiate_pre(&component).unwrap()).unwrap()
}
