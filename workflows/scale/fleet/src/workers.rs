//! The workers: as many processes as are asked for. One thread compares what is with what should be, and starts, ends and
//! replaces until both are the same; everybody else only says how many and waits. So a worker that was killed from
//! outside and a new order are the same case.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use std::{env, thread};

use crate::Result;
use crate::http;
use crate::place::{PATIENCE, TICK, wait};
use crate::slots::Slots;
use crate::worker::SLOTS;

/// Workers at most: a process each, on one machine.
pub const WORKERS_MAX: u32 = 64;

/// How long to wait before a worker that could not be started is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The workers of a fleet.
#[derive(Debug)]
pub struct Workers {
    slots: Arc<Slots>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct State {
    wanted: u32,
    /// Process ids of those that serve; one that is retiring is among them until it has ended.
    serving: Vec<u32>,
    tally: Tally,
}

/// What happened to the workers of a fleet so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// The most that served at the same time.
    pub peak: usize,
    /// How many were started.
    pub started: u64,
    /// How many had ended without having been asked to.
    pub lost: u64,
}

struct Worker {
    child: Child,
    /// Closed, it tells the worker to end.
    lease: ChildStdin,
}

impl Workers {
    /// Starts so many workers, each a process of this program, and keeps them.
    pub fn start(slots: Arc<Slots>, wanted: u32) -> Arc<Workers> {
        let state = Mutex::new(State { wanted, ..State::default() });
        let workers = Arc::new(Workers { slots, state, changed: Condvar::new() });
        let keeper = workers.clone();
        thread::spawn(move || keeper.keep());
        workers
    }

    /// From now on there are to be so many.
    pub fn want(&self, wanted: u32) {
        self.lock().wanted = wanted;
        self.changed.notify_all();
    }

    /// Waits until as many serve as are wanted; their process ids.
    pub fn settled(&self) -> Result<Vec<u32>> {
        let unsettled = |state: &mut State| state.serving.len() != state.wanted as usize;
        let waited = self.changed.wait_timeout_while(self.lock(), PATIENCE, unsettled);
        let (state, timeout) = waited.expect("no holder of the lock panics");
        if timeout.timed_out() {
            return Err(format!("{} workers serve and {} should", state.serving.len(), state.wanted));
        }
        Ok(state.serving.clone())
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    fn keep(&self) {
        let mut workers: Vec<Worker> = Vec::new();
        loop {
            workers.retain_mut(|worker| self.lives(worker));
            let wanted = self.lock().wanted as usize;
            if workers.len() < wanted {
                match Worker::start() {
                    Ok((worker, port)) => {
                        self.begin(&worker, port);
                        workers.push(worker);
                    }
                    Err(error) => {
                        eprintln!("a worker could not be started: {error}");
                        thread::sleep(PAUSE);
                    }
                }
                continue;
            }
            if workers.len() > wanted {
                // The youngest: those who know the work stay.
                workers.drain(wanted..).for_each(|worker| self.dismiss(worker));
                continue;
            }
            let is_same = |state: &mut State| state.wanted as usize == wanted;
            let waited = self.changed.wait_timeout_while(self.lock(), TICK, is_same);
            drop(waited.expect("no holder of the lock panics"));
        }
    }

    /// A worker that is ready begins to serve.
    fn begin(&self, worker: &Worker, port: u16) {
        let pid = worker.child.id();
        let mut state = self.lock();
        state.serving.push(pid);
        state.tally.started += 1;
        state.tally.peak = state.tally.peak.max(state.serving.len());
        self.slots.add(pid, port, SLOTS);
        self.changed.notify_all();
    }

    /// Whether the worker still is. One that is not is told about and forgotten, and so replaced.
    fn lives(&self, worker: &mut Worker) -> bool {
        let pid = worker.child.id();
        match worker.child.try_wait() {
            Ok(None) => return true,
            Ok(Some(status)) => eprintln!("worker {pid} ended by itself ({status}) and is replaced"),
            Err(error) => eprintln!("worker {pid} is lost ({error}) and is replaced"),
        }
        self.slots.forget(pid);
        self.lock().tally.lost += 1;
        self.end(pid);
        false
    }

    /// Lets a worker finish what it is doing, and ends it.
    fn dismiss(&self, worker: Worker) {
        let Worker { mut child, lease } = worker;
        let pid = child.id();
        self.slots.retire(pid);
        drop(lease);
        let ended = wait("it to end", || child.try_wait().map_err(|error| error.to_string()));
        if let Err(error) = ended {
            eprintln!("worker {pid} is killed: {error}");
            // It can't be waited for any longer, and what remains of it goes with the fleet.
            let _ = child.kill();
        }
        self.end(pid);
    }

    fn end(&self, pid: u32) {
        self.lock().serving.retain(|other| *other != pid);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl Worker {
    /// Starts a worker and waits until it answers; it, and its port.
    fn start() -> Result<(Worker, u16)> {
        let failed = |error: std::io::Error| error.to_string();
        let mut child = Command::new(env::current_exe().map_err(failed)?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let lease = child.stdin.take().ok_or("it has no lease")?;
        let said = child.stdout.take().ok_or("it says nothing")?;
        let mut port = String::new();
        BufReader::new(said).read_line(&mut port).map_err(failed)?;
        let worker = Worker { child, lease };
        let port = port.trim().parse().map_err(|_| format!("it said {port:?} instead of a port"));
        match port.and_then(|port| http::ask(port, "GET", "/health").map(|_| port).map_err(failed)) {
            Ok(port) => Ok((worker, port)),
            Err(error) => {
                let Worker { mut child, lease } = worker;
                drop(lease);
                // It has just been started and holds nothing.
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }
}
