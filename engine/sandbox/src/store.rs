//! Builds the Store of an attempt: the only function that does. What is in force for every attempt (fresh state, memory
//! and table bounds, interruption, bounds on what crosses the boundary) is set here and nowhere else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::event::Failure;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::bindings::downbeat::step::types;
use crate::host::items::Appended;
use crate::host::log::Log;
use crate::host::process::Children;
use crate::host::wasi::Within;
use crate::host::{Host, wasi};
use crate::meter::Meter;
use crate::reach::Reach;
use crate::secrets::Secrets;

/// Bytes that one call may carry from the guest to the host: a log line, a blob, a program's input. The host copies a
/// message before it can look at it, so this bounds what a guest makes the host allocate. Larger blobs are written piece
/// by piece.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;

/// Handles that a guest may hold at once: streams, files, requests, blobs being written. Programs stay in the tens; each
/// may hold a file descriptor of the engine's.
pub(crate) const HANDLES_MAX: usize = 1_000;

/// What the host keeps for one attempt.
pub(crate) struct State {
    pub(crate) meter: Meter,
    pub(crate) reach: Reach,
    pub(crate) limits: Arc<Limits>,
    pub(crate) log: Arc<Log>,
    /// What all attempts share.
    pub(crate) host: Arc<Host>,
    pub(crate) started: Instant,
    deadline: Instant,
    /// The monotonic clock of an attempt without the grant `clock`.
    pub(crate) virtual_ns: u64,
    /// Its native programs; none have been started if there is none.
    pub(crate) children: Option<Arc<Children>>,
    /// The limit by which one of its programs was stopped.
    pub(crate) exceeded: Option<&'static str>,
    /// What it gave others to work on.
    pub(crate) appended: Appended,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: Option<Box<WasiCtx>>,
    /// The granted directories, by the guest's paths.
    pub(crate) directories: Vec<(Dir, String)>,
    /// Where the directories are that the guest has handles of.
    pub(crate) within: HashMap<u32, Within>,
    pub(crate) http: WasiHttpCtx,
}

/// What an attempt brings along.
pub(crate) struct Setup {
    pub(crate) host: Arc<Host>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) log: Arc<Log>,
    pub(crate) secrets: Secrets,
    pub(crate) directory: Arc<Path>,
    pub(crate) workspace: PathBuf,
    pub(crate) started: Instant,
    pub(crate) timeout: Duration,
}

/// The Store of one attempt.
pub(crate) fn build(engine: &Engine, setup: Setup) -> Result<Store<State>, Failure> {
    let message_max = MESSAGE_MAX.max(usize::try_from(setup.limits.output).unwrap_or(usize::MAX));
    let mut state = State {
        meter: Meter::new(&setup.limits),
        reach: Reach::new(setup.grants, setup.directory, setup.workspace, setup.host.reserved.clone()),
        limits: setup.limits,
        log: setup.log,
        host: setup.host,
        started: setup.started,
        deadline: deadline(setup.started, setup.timeout),
        virtual_ns: 0,
        children: None,
        exceeded: None,
        appended: Appended::default(),
        table: ResourceTable::new(),
        wasi: None,
        directories: Vec::new(),
        within: HashMap::new(),
        http: WasiHttpCtx::new(),
    };
    state.reach.uses.observer = Some(state.log.observer()).filter(|observer| observer.audits());
    state.reach.uses.redactor = state.log.redactor().cloned();
    state.reach.secrets = setup.secrets;
    state.table.set_max_capacity(HANDLES_MAX);
    wasi::prepare(&mut state)?;
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(message_max);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        if Instant::now() >= store.data().deadline {
            return Err(wasmtime::Error::from(DeadlinePassed));
        }
        Ok(UpdateDeadline::Yield(1))
    });
    Ok(store)
}

/// `timeout` after `started`, or a century if that is more than a clock can tell.
pub(crate) fn deadline(started: Instant, timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    started + timeout.min(CENTURY)
}

/// Ends a guest that is busy beyond its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the attempt's time is over")]
pub(crate) struct DeadlinePassed;

impl types::Host for State {}
