//! One attempt: a place in the pool, a fresh Store and instance, one typed call, and an honest account of how it ended and
//! what it used. Three things race: the guest, its time-out, and the caller's wish to stop; whichever wins, the Store and
//! everything that the attempt started are gone when this returns, and also when the future is dropped.

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use downbeat_workflow::capability::{Capability, Grants, Limits};
use downbeat_workflow::event::{Failure, FailureKind, Usage, Used};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::permission::Granted;
use wasmtime::Store;

use crate::bindings::exports::downbeat::step::step;
use crate::cpu::metered;
use crate::engine::TICK;
use crate::failure;
use crate::host::log::Log;
use crate::plugin::Plugin;
use crate::replace::Replacer;
use crate::sandbox::Sandbox;
use crate::secrets::Secrets;
use crate::store::{self, Setup, State};

/// What to run, for whom, and within which bounds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run's id.
    pub run: Arc<str>,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The step's name.
    pub step: Arc<str>,
    /// Counts from 1.
    pub attempt: u32,
    /// The same for every attempt of the step in the run.
    pub idempotency_key: Arc<str>,
    /// The step's input.
    pub input: Json,
    /// Of the run: what the texts that stand for secrets are made of, beside its id.
    pub seed: u64,
    /// Of this attempt. Without one, the limit `time-ms` applies.
    pub timeout: Option<Duration>,
    /// What the attempt may reach.
    pub grants: Arc<Grants>,
    /// What the attempt may use.
    pub limits: Arc<Limits>,
    /// Where relative file grants start: the workflow's folder.
    pub directory: Arc<Path>,
    /// The run's own directory; made when an attempt with the grant `workspace` first uses it.
    pub workspace: PathBuf,
}

/// How an attempt ended, and what it used until then.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Filled in for every end.
    pub usage: Usage,
}

/// The ends of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The guest answered.
    Succeeded(Json),
    /// The guest failed, broke down, or went over a bound.
    Failed(Failure),
    /// The caller asked for it.
    Cancelled,
}

/// Watches an attempt. Called from the attempt's own task and from its programs' output: must not block.
pub trait Observer: Send + Sync {
    /// A line of the log, without its line end, at most the limit `log` in total. Safe to print.
    fn log(&self, level: Level, line: &str);
    /// The latest state of the work.
    fn progress(&self, done: u64, total: Option<u64>, message: &str);
    /// The attempt appends these to its list, of which it has appended so many before. Ready once they are kept; the guest
    /// waits for that. By default they go nowhere.
    fn items(&self, _from: u32, _items: Vec<Json>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
    /// Whether what attempts use is kept. If not, nothing of it is noted.
    fn audits(&self) -> bool {
        true
    }
    /// The attempt is about to do something that leaves the engine. Ready once that is on record; it does not happen before.
    /// By default it goes nowhere.
    fn used(&self, _used: Used) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

impl Sandbox {
    /// Carries out one attempt. Waits for a place in the pool first; that wait counts neither as time of the attempt nor
    /// towards its time-out. `cancelled` ends the attempt when it completes. Dropping the future is safe at any moment:
    /// the guest and its programs are gone with it.
    ///
    /// Needs a tokio runtime with time and I/O enabled.
    pub async fn attempt(
        &self,
        plugin: &Plugin,
        mut call: Call,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Ended {
        let mut cancelled = pin!(cancelled);
        let Some(_place) = self.place(plugin, cancelled.as_mut()).await else {
            return Ended { end: End::Cancelled, usage: Usage::default() };
        };
        let _running = self.ticker.run();
        let started = Instant::now();
        let timeout = call.timeout.unwrap_or(Duration::from_millis(call.limits.time_ms));
        let mut usage = Usage { bytes_in: call.input.as_str().len() as u64, ..Usage::default() };
        let secrets = match self.secrets(&call, cancelled.as_mut()).await {
            Ok(secrets) => secrets,
            Err(end) => {
                usage.wall_us = started.elapsed().as_micros() as u64;
                return Ended { end, usage };
            }
        };
        if !secrets.list.is_empty() {
            call.input = secrets.reveal(&call.grants, call.input);
        }
        let log = Arc::new(Log::new(observer, call.limits.log).blotting(secrets.redactor.clone()));
        let setup = Setup {
            host: self.host.clone(),
            grants: call.grants.clone(),
            limits: call.limits.clone(),
            log: log.clone(),
            secrets,
            directory: call.directory.clone(),
            workspace: std::mem::take(&mut call.workspace),
            started,
            timeout,
        };
        let mut store = match store::build(&self.engine, setup) {
            Ok(store) => store,
            Err(failure) => {
                usage.wall_us = started.elapsed().as_micros() as u64;
                return Ended { end: End::Failed(failure), usage };
            }
        };

        for (item, grant) in call.grants.secrets.iter().enumerate().filter(|(_, grant)| grant.reveal) {
            let secret = Granted { capability: Capability::Secrets, item };
            store.data_mut().reach.stays(secret, &format!("{} to the component", grant.name));
        }
        let mut cpu = Duration::ZERO;
        let raced = {
            let guest = pin!(metered(run(plugin, &mut store, &call), &mut cpu));
            race(guest, cancelled, started, timeout).await
        };
        // What was cut off in a program was killed just now.
        if let Some(children) = store.data().children.clone() {
            children.gone().await;
            children.account(&mut usage);
        }
        log.flush();
        // As it is now: another attempt may have read a secret meanwhile.
        let redactor = self.host.vault.redactor();
        let end = match raced {
            Raced::Guest(Ok(Ok(output))) => {
                usage.bytes_out = output.len() as u64;
                failure::of_output(output, &call.limits).map_or_else(End::Failed, End::Succeeded)
            }
            Raced::Guest(Ok(Err(failure))) => {
                let failure = failure::of_guest(failure, redactor.as_deref());
                End::Failed(match store.data().exceeded {
                    Some(limit) => failure::of_program(failure, limit, &call.limits),
                    None => failure,
                })
            }
            Raced::Guest(Err(error)) => {
                End::Failed(failure::of_error(&error, store.data().meter.denied(), &call.limits, timeout, &log))
            }
            Raced::TimedOut => End::Failed(failure::timed_out(timeout, &call.limits, None)),
            Raced::Cancelled => End::Cancelled,
        };
        account(&mut usage, &mut store, &log);
        let end = match &redactor {
            Some(redactor) => blotted(end, &mut usage, redactor),
            None => end,
        };
        // The Store goes first: what it still holds (a program, a connection) is part of the attempt.
        drop(store);
        usage.cpu_us = cpu.as_micros() as u64;
        usage.wall_us = started.elapsed().as_micros() as u64;
        Ended { end, usage }
    }

    /// What the attempt is granted of secrets, or how it ends without them.
    async fn secrets(&self, call: &Call, cancelled: Pin<&mut impl Future<Output = ()>>) -> Result<Secrets, End> {
        let vault = &self.host.vault;
        if call.grants.secrets.is_empty() {
            return Ok(Secrets { redactor: vault.redactor(), ..Secrets::default() });
        }
        tokio::select! {
            biased;
            opened = vault.open(&call.grants, &call.directory, &call.run, call.seed) => opened.map_err(End::Failed),
            () = cancelled => Err(End::Cancelled),
        }
    }

    /// A place in the pool, or `None` if the caller lost patience.
    async fn place(
        &self,
        plugin: &Plugin,
        mut cancelled: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire_many(plugin.slots()) {
            return Some(place);
        }
        let mut place = pin!(self.places.acquire_many(plugin.slots()));
        poll_fn(|cx| {
            if let Poll::Ready(place) = place.as_mut().poll(cx) {
                return Poll::Ready(Some(place.expect("the semaphore is never closed")));
            }
            cancelled.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// The call itself: the outer error is the host's view (trap, interruption, link), the inner one the guest's own.
pub(crate) async fn run(
    plugin: &Plugin,
    store: &mut Store<State>,
    call: &Call,
) -> wasmtime::Result<Result<String, step::Failure>> {
    let instance = plugin.instantiate(store).await?;
    let context = step::Context {
        run: &call.run,
        workflow: &call.workflow,
        step: &call.step,
        attempt: call.attempt,
        idempotency_key: &call.idempotency_key,
        timeout_ms: call.timeout.map(|timeout| timeout.as_millis().try_into().unwrap_or(u64::MAX)),
    };
    instance.downbeat_step_step().call_run(store, context, call.input.as_str()).await
}

enum Raced<T> {
    Guest(T),
    TimedOut,
    Cancelled,
}

/// The guest is always asked first: a guest that is done is done, however late, and a busy one that is past its deadline
/// gets the turn in which the epoch interrupts it, which keeps its backtrace. The timer is for guests that wait in a host
/// call, which no epoch interrupts; one tick later, so that it never beats the epoch.
async fn race<T>(
    mut guest: Pin<&mut impl Future<Output = T>>,
    mut cancelled: Pin<&mut impl Future<Output = ()>>,
    started: Instant,
    timeout: Duration,
) -> Raced<T> {
    let deadline = store::deadline(started, timeout.saturating_add(TICK));
    let mut timer = pin!(tokio::time::sleep_until(deadline.into()));
    poll_fn(|cx| {
        if let Poll::Ready(result) = guest.as_mut().poll(cx) {
            return Poll::Ready(Raced::Guest(result));
        }
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Raced::Cancelled);
        }
        timer.as_mut().poll(cx).map(|()| Raced::TimedOut)
    })
    .await
}

/// The end without secrets, also those that the guest came by in another way than by a grant.
fn blotted(end: End, usage: &mut Usage, redactor: &Replacer) -> End {
    let clean = |text: String| redactor.text(&text).into_owned();
    for refusal in &mut usage.refusals {
        refusal.wanted = clean(std::mem::take(&mut refusal.wanted));
        refusal.hint = clean(std::mem::take(&mut refusal.hint));
    }
    for used in &mut usage.used {
        used.what = clean(std::mem::take(&mut used.what));
    }
    match end {
        End::Succeeded(output) => End::Succeeded(redactor.json(output)),
        End::Failed(failure) => End::Failed(Failure {
            message: clean(failure.message),
            details: failure.details.map(|details| redactor.json(details)),
            backtrace: failure.backtrace.map(clean),
            ..failure
        }),
        End::Cancelled => End::Cancelled,
    }
}

fn account(usage: &mut Usage, store: &mut Store<State>, log: &Log) {
    let state = store.data_mut();
    usage.memory_peak = state.meter.memory.peak;
    usage.table_elements_peak = state.meter.tables.peak;
    usage.refusals = state.reach.take_refusals().into();
    usage.used = state.reach.uses.take().into();
    (usage.log_bytes, usage.log_dropped) = log.totals();
}

/// A failure that the host makes up itself.
pub(crate) fn failed(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, details: None, backtrace: None, retry_after_ms: None }
}
