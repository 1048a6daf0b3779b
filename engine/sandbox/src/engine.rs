//! The engine that all plugins share: its settings, where instances get their memory from, and the thread that counts
//! the epochs by which a busy guest is interrupted. Nothing here knows a component.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// A guest's own call stack. Twice wasmtime's default: CPython and Go recurse deeply, and a page that is never touched
/// costs nothing.
const GUEST_STACK: usize = 1 << 20;

/// The native stack that a guest and the host functions below it share: a mebibyte is left for the latter, whose deepest
/// use (opening files) stays below 100 KiB.
const STACK: usize = 2 << 20;

/// How often a running guest is looked at. Time-outs of busy guests are this exact; a tick costs a running guest one
/// switch to the executor, some 100 ns.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Elements of one table in the pool (8 bytes of address space each). Ten times the default limit of all tables.
const POOL_TABLE_ELEMENTS: usize = 1 << 20;

/// Tables for each slot of the pool; a component with more takes several slots.
pub(crate) const TABLES_PER_SLOT: u32 = 4;

/// Places that one component may take. Toolchains emit one memory and a handful of tables.
pub(crate) const SLOTS_MAX: u32 = 16;

/// Where instances live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Slots prepared once, reset between uses: about 4 µs for a fresh instance.
    Pooled {
        /// How many instances can live at once.
        slots: u32,
        /// Whether the kernel tells which pages are to be reset (Linux 6.7 and later).
        pagemap_scan: bool,
    },
    /// Mapped for each instance: about 25 µs, and it does not scale with threads.
    OnDemand {
        /// Why there is no pool.
        reason: String,
    },
}

/// The engine with a pool of `slots` for attempts and [`SLOTS_MAX`] more for describing a component, or without a pool when
/// there is no address space for it.
pub(crate) fn new(slots: u32) -> wasmtime::Result<(Engine, Allocation)> {
    let mut config = settings();
    let pagemap_scan = PoolingAllocationConfig::is_pagemap_scan_available();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots.saturating_add(SLOTS_MAX), pagemap_scan)));
    match Engine::new(&config) {
        Ok(engine) => Ok((engine, Allocation::Pooled { slots, pagemap_scan })),
        Err(error) => {
            let reason = format!("{error:#}");
            let engine = Engine::new(&settings())?;
            Ok((engine, Allocation::OnDemand { reason }))
        }
    }
}

fn settings() -> Config {
    let mut config = Config::new();
    // Time-outs. Measured upstream at 0 to 38 % of a guest's call-heavy loops; fuel costs more.
    config.epoch_interruption(true);
    config.max_wasm_stack(GUEST_STACK).async_stack_size(STACK);
    // WASI 0.2 needs no component-level concurrency, and its bookkeeping costs 1 to 2 µs an attempt.
    config.concurrency_support(false);
    // The same input gives the same output on every processor: the bits of a NaN are the only thing in WebAssembly that
    // may differ. It costs a compare after each float operation; steps that are bound by float arithmetic are rare.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // File and line in backtraces, where the component carries them.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // Off: nothing that our toolchains emit needs it, and each is more to attack. Threads, garbage collection, exceptions
    // and stack switching are not compiled in at all.
    config.wasm_memory64(false);
    config
}

fn pool(slots: u32, pagemap_scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .max_memories_per_module(SLOTS_MAX)
        .max_tables_per_module(SLOTS_MAX * TABLES_PER_SLOT)
        // A counter only. A component's own number is bounded by the meter.
        .total_core_instances(u32::MAX)
        .table_elements(POOL_TABLE_ELEMENTS)
        // What a slot keeps between uses. Measured: with PAGEMAP_SCAN only touched pages are reset, 256 KiB being the
        // best; without it all of it is written each time, 128 KiB being the best.
        .linear_memory_keep_resident(if pagemap_scan { 256 << 10 } else { 128 << 10 })
        .table_keep_resident(64 << 10)
        .pagemap_scan(if pagemap_scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// The thread that advances the epoch every [`TICK`] while attempts run. It sleeps for good after a second without any,
/// and ends when the ticker is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Attempts in flight.
    running: AtomicUsize,
    /// The thread sleeps until it is woken.
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Ticks without an attempt before the thread sleeps: waking it costs some microseconds, so that it stays awake between
/// the steps of a run.
const IDLE_TICKS: u32 = 100;

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("downbeat-epoch".into()).spawn({
            let shared = shared.clone();
            move || tick(&engine, &shared)
        })?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// An attempt in flight.
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    while !shared.stopped.load(Ordering::SeqCst) {
        std::thread::park_timeout(TICK);
        engine.increment_epoch();
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle < IDLE_TICKS {
            continue;
        }
        // Announce the sleep first and look again after: an attempt that starts in between sees the announcement.
        shared.asleep.store(true, Ordering::SeqCst);
        while shared.asleep.load(Ordering::SeqCst)
            && shared.running.load(Ordering::SeqCst) == 0
            && !shared.stopped.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_room_for_a_pool_allocates_on_demand_and_says_why() {
        // Four billion slots of four gibibytes are more than any address space.
        let (_, allocation) = new(u32::MAX).unwrap();
        let Allocation::OnDemand { reason } = allocation else { panic!("{allocation:?}") };
        assert!(!reason.is_empty());
    }

    #[test]
    fn both_kinds_of_engine_share_their_compiled_code() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |slots| {
            let mut hasher = DefaultHasher::new();
            new(slots).unwrap().0.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(4), hash(u32::MAX));
    }
}
