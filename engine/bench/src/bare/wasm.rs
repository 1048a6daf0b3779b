//! Bare wasmtime: the same guest, a fresh Store and instance for every call, one typed call with a kibibyte in and out.
//! The allocator and the compiler have the sandbox's settings; there are no grants, no account, no log and no time-out,
//! but the bounds that wasmtime itself enforces.

use anyhow::{Context, Result, anyhow};
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder,
};

use crate::guest;

mod blocking {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "downbeat:step/plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

mod suspending {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "downbeat:step/plugin",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// A component, compiled and linked.
pub(crate) struct Wasm {
    engine: Engine,
    blocking: blocking::PluginPre<StoreLimits>,
    suspending: suspending::PluginPre<StoreLimits>,
}

impl Wasm {
    /// Starts the engine and compiles the guest.
    pub(crate) fn new() -> Result<Wasm> {
        let engine = Engine::new(&settings()).map_err(reported).context("bare wasmtime can't be started")?;
        let component = Component::from_binary(&engine, &guest::component()?).map_err(reported)?;
        let pre = Linker::new(&engine).instantiate_pre(&component).map_err(reported)?;
        Ok(Wasm {
            blocking: blocking::PluginPre::new(pre.clone()).map_err(reported)?,
            suspending: suspending::PluginPre::new(pre).map_err(reported)?,
            engine,
        })
    }

    /// One step on the caller's stack; gives the output.
    pub(crate) fn step(&self, input: &str) -> Result<String> {
        use blocking::exports::downbeat::step::step::Context;
        let mut store = self.store();
        let instance = self.blocking.instantiate(&mut store).map_err(reported)?;
        let context = Context {
            run: RUN,
            workflow: "chain",
            step: "s1",
            attempt: 1,
            idempotency_key: "key",
            timeout_ms: Some(60_000),
        };
        let output = instance.downbeat_step_step().call_run(&mut store, context, input).map_err(reported)?;
        output.map_err(|failure| anyhow!("the guest failed: {failure:?}"))
    }

    /// The same on a stack of its own, which the guest could leave to wait: what an engine needs that drives many.
    pub(crate) async fn step_async(&self, input: &str) -> Result<String> {
        use suspending::exports::downbeat::step::step::Context;
        let mut store = self.store();
        let instance = self.suspending.instantiate_async(&mut store).await.map_err(reported)?;
        let context = Context {
            run: RUN,
            workflow: "chain",
            step: "s1",
            attempt: 1,
            idempotency_key: "key",
            timeout_ms: Some(60_000),
        };
        let output = instance.downbeat_step_step().call_run(&mut store, context, input).await.map_err(reported)?;
        output.map_err(|failure| anyhow!("the guest failed: {failure:?}"))
    }

    fn store(&self) -> Store<StoreLimits> {
        let mut store = Store::new(&self.engine, StoreLimitsBuilder::new().memory_size(256 << 20).build());
        store.limiter(|limits| limits);
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }
}

/// As long as a run's id is.
const RUN: &str = "1jn7w80-zzzzzz";

/// The sandbox's own: a pool whose slots keep what was touched, epochs, no component-level concurrency, and the code
/// generation that makes results the same everywhere.
fn settings() -> Config {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(if scan { 256 << 10 } else { 128 << 10 })
        .table_keep_resident(64 << 10)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config.epoch_interruption(true).concurrency_support(false);
    config.max_wasm_stack(1 << 20).async_stack_size(2 << 20);
    config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    config
}

fn reported(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("bare wasmtime: {error:#}")
}
