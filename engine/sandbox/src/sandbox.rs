//! The longest of the three lifetimes: one `Sandbox` for the process. It owns what all plugins and attempts share: the
//! engine, its pool and ticker, the linker, the cache of compiled code, and what the host interfaces keep.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use downbeat_workflow::description::Digest;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::cache::Cache;
use crate::directory::{Barred, Directory};
use crate::engine::{self, Allocation, Ticker};
use crate::host::{self, Host};
use crate::plugin::Plugin;
use crate::remove::remove_tree;
use crate::store::State;

/// What a sandbox is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory for compiled code and descriptions, made if it is not there. Code in it is run: it has to belong to
    /// the user that the engine runs as, and nobody else may be able to write to it. Deleting it costs only time.
    pub cache: PathBuf,
    /// The directory of the store of blobs, made when the first blob is kept.
    pub artifacts: PathBuf,
    /// The directory in which each program gets one of its own while it runs, made when the first one does.
    pub scratch: PathBuf,
    /// What no grant may reach beside the three above: what else the engine keeps for itself.
    pub reserved: Vec<PathBuf>,
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

    /// The defaults, with all directories below `directory`.
    pub fn below(directory: impl Into<PathBuf>) -> Options {
        let directory = directory.into();
        Options {
            cache: directory.join("cache"),
            artifacts: directory.join("artifacts"),
            scratch: directory.join("scratch"),
            reserved: Vec::new(),
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
    /// The process has no current directory.
    #[error("the current directory can't be found: {0}")]
    Directory(io::Error),
    /// The system gave no thread.
    #[error("a thread can't be started: {0}")]
    Thread(io::Error),
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
        let mut reserved = options.reserved;
        reserved.extend([options.cache.clone(), options.artifacts.clone(), options.scratch.clone()]);
        let reserved = reserved.iter().map(std::path::absolute).collect::<io::Result<Vec<PathBuf>>>();
        let cache = Cache::open(options.cache, &engine)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(report)?;
        let ticker = Ticker::start(engine.clone()).map_err(SandboxError::Thread)?;
        let scratch = std::path::absolute(options.scratch).map_err(SandboxError::Directory)?;
        let reserved = reserved.map_err(SandboxError::Directory)?;
        let host = Host::new(options.artifacts, scratch, reserved).map_err(SandboxError::Thread)?;
        let host = Arc::new(host);
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

    /// Removes what attempts left behind whose process was killed: blobs half written, directories of programs. For the
    /// one process that drives, before its first attempt. The removing itself goes on beside it: there may be much.
    pub fn sweep(&self) -> io::Result<()> {
        let mut left = Vec::new();
        for directory in [self.host.artifacts.unfinished(), self.host.scratch.clone()] {
            match std::fs::read_dir(directory) {
                Ok(entries) => left.extend(entries.collect::<io::Result<Vec<_>>>()?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let remove = move || {
            for entry in left {
                // What can't be removed is tried again by the next process.
                let _ = match entry.file_type() {
                    Ok(kind) if kind.is_dir() => remove_tree(&entry.path()),
                    _ => std::fs::remove_file(entry.path()),
                };
            }
        };
        std::thread::Builder::new().name("downbeat-sweep".into()).spawn(remove).map(drop)
    }

    /// Why a directory can't be granted, whatever is in it: it is reached through a link, or the engine keeps its own
    /// there. `directory` is the workflow's. One that is not there yet may be by the time of the attempt.
    pub fn bars(&self, directory: &Path, granted: &str) -> Option<String> {
        let opened = Directory::open(&directory.join(granted));
        match opened.and_then(|opened| opened.apart_from(&self.host.reserved)) {
            Err(barred @ (Barred::Link { .. } | Barred::Reserved { .. })) => Some(barred.to_string()),
            Ok(_) | Err(Barred::System(_)) => None,
        }
    }

    /// Where instances get their memory from: whether this machine gave a pool.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }
}
