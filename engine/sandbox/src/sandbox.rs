//! The longest of the three lifetimes: one `Sandbox` for the process. It owns what all plugins and attempts share: the
//! engine, its pool and ticker, the linker, the cache of compiled code, and what the host interfaces keep.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use downbeat_workflow::description::Digest;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::cache::Cache;
use crate::engine::{self, Allocation, Ticker};
use crate::host::{self, Host};
use crate::plugin::Plugin;
use crate::store::State;

/// What a sandbox is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory for compiled code and descriptions, made if it is not there. Code in it is run: it has to belong to
    /// the user that the engine runs as, and nobody else may be able to write to it. Deleting it costs only time.
    pub cache: PathBuf,
    /// The directory of the store of blobs, made when the first blob is kept.
    pub artifacts: PathBuf,
    /// Attempts that may live at once; more wait. Each slot takes 4 GiB of address space (not of memory) and some 10 KiB
    /// of memory while in use. At least 1.
    pub instances_max: u32,
    /// How long the compiler may take for one component. It can't be interrupted: what takes longer is refused, and goes on
    /// in the background until it is done.
    pub compile_max: Duration,
    /// How long a component may take to say what it is.
    pub describe_max: Duration,
}

impl Options {
    /// [`Options::instances_max`]: as many as one machine plausibly has native programs and requests in flight; a guest
    /// that computes needs no more places than there are processors.
    pub const INSTANCES_MAX: u32 = 1_000;

    /// [`Options::compile_max`]: 35 MiB, the largest that people run, take about a minute on one slow core.
    pub const COMPILE_MAX: Duration = Duration::from_secs(300);

    /// [`Options::describe_max`]: `describe` returns constants; starting an interpreter may take a second.
    pub const DESCRIBE_MAX: Duration = Duration::from_secs(10);

    /// The defaults, with both directories below `directory`.
    pub fn below(directory: impl Into<PathBuf>) -> Options {
        let directory = directory.into();
        Options {
            cache: directory.join("cache"),
            artifacts: directory.join("artifacts"),
            instances_max: Options::INSTANCES_MAX,
            compile_max: Options::COMPILE_MAX,
            describe_max: Options::DESCRIBE_MAX,
        }
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine can't run WebAssembly.
    #[error("the WebAssembly engine can't be started: {0}")]
    Engine(String),
    /// The cache is no place to keep code.
    #[error("the cache of compiled code at {} can't be used: {reason}", path.display())]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// The system gave no thread.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// The engine that runs steps.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Cache,
    pub(crate) ticker: Ticker,
    pub(crate) host: Arc<Host>,
    /// One permit for each slot of the pool: wasmtime refuses to instantiate when the pool is exhausted, here one waits.
    pub(crate) places: Semaphore,
    pub(crate) slots: u32,
    pub(crate) compile_max: Duration,
    pub(crate) describe_max: Duration,
    /// Held while a component is asked what it is: that has its own places in the pool, enough for one component.
    pub(crate) describing: Mutex<()>,
    /// What is loaded and still in use.
    pub(crate) plugins: Mutex<HashMap<Digest, Arc<Mutex<Weak<Plugin>>>>>,
    allocation: Allocation,
}

impl Sandbox {
    /// Starts the engine: about a millisecond.
    pub fn new(options: Options) -> Result<Sandbox, SandboxError> {
        let slots = options.instances_max.max(1);
        let report = |error: wasmtime::Error| SandboxError::Engine(format!("{error:#}"));
        let (engine, allocation) = engine::new(slots).map_err(report)?;
        let cache = Cache::open(options.cache, &engine)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(report)?;
        let ticker = Ticker::start(engine.clone()).map_err(SandboxError::Thread)?;
        let host = Arc::new(Host::new(options.artifacts).map_err(SandboxError::Thread)?);
        Ok(Sandbox {
            engine,
            linker,
            cache,
            ticker,
            host,
            places: Semaphore::new(slots as usize),
            slots,
            compile_max: options.compile_max,
            describe_max: options.describe_max,
            describing: Mutex::default(),
            plugins: Mutex::default(),
            allocation,
        })
    }

    /// Where instances get their memory from: whether this machine gave a pool.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }
}
