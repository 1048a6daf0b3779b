//! A native program from its start to when nothing of it is left: forked by one thread, fed and read, watched, and killed with
//! all that it started when it ends, takes too long, goes beyond a limit, or nobody waits for it any more. Whether and how
//! confined it may run is decided before.
//!
//! If the engine itself dies, the kernel kills the program (`PR_SET_PDEATHSIG`, Linux). The kernel ties that to the death
//! of the *thread* that forked, and an executor's threads come and go; so one thread that lives as long as the sandbox
//! forks all programs. It reaches the program itself and not its children, which find their pipes closed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use downbeat_workflow::capability::Protection;
use downbeat_workflow::event::{Programs, Usage};
use downbeat_workflow::log::Level;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{oneshot, watch};

use super::held::Held;
use crate::host::log::{Lines, Log};
use crate::native::pids::Group;
use crate::native::session::{self, Census, FIRST_LOOK, LOOK};
use crate::native::{Confinement, System};
use crate::remove::remove_tree;
use crate::replace::{Pieces, Replacer};

/// How long a program's output is read after it has ended, if a background child of it keeps the pipes open. What the
/// program itself wrote is in the pipe by then and takes microseconds to read.
const DRAIN: Duration = Duration::from_millis(200);

/// How long an attempt that is being ended waits for its killed programs, so that their CPU time is on its record. A
/// killed process is gone within milliseconds unless the kernel is waiting for a device on its behalf.
const REAP: Duration = Duration::from_secs(2);

/// How long the killed group of a program may take to be gone before its directory is removed. Milliseconds, unless
/// nobody reaps orphans on this machine.
const LEAVE: Duration = Duration::from_millis(200);

/// How often the removal of a program's directory is tried, and the pause between two tries: what still dies there may
/// still write.
const REMOVALS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Descriptors that are looked at one by one where the system can't mark them all at once: as many as Linux lets a
/// process have open by default at most.
const DESCRIPTORS_MAX: libc::c_int = 1 << 20;

/// Read at a time from a program's output: what a pipe holds.
const PIPE: usize = 64 << 10;

/// What it takes to start a program.
pub(super) struct Start {
    pub(super) command: Command,
    /// Where it runs.
    pub(super) directory: File,
    /// Its own directory, for as long as there is anything of it.
    pub(super) scratch: TempDir,
    /// Its file, if that was looked at.
    pub(super) held: Option<Arc<Held>>,
}

/// The thread that forks all programs, and what they are watched by.
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
    pub(super) census: Arc<Census>,
    /// What there is to confine programs with.
    pub(super) system: System,
}

struct Job {
    start: Start,
    confinement: Confinement,
    children: Arc<Children>,
    reply: oneshot::Sender<io::Result<Running>>,
}

impl Spawner {
    /// It ends with the sandbox, and then kills what was started by it.
    pub(crate) fn start() -> io::Result<Spawner> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("downbeat-spawn".into()).spawn(move || {
            for Job { start, confinement, children, reply } in queue {
                if reply.is_closed() {
                    // Its attempt has ended while the command waited here.
                    children.forget();
                    continue;
                }
                let Start { command, directory, scratch, held } = start;
                let (leaves_daemons, group) = (confinement.leaves_daemons, confinement.group());
                let started = spawn(command, directory, confinement, held).inspect_err(|_| children.forget());
                // If nobody waits any more, the program is dropped and thereby killed.
                let running = |child| Running::new(child, children.clone(), scratch, group, leaves_daemons);
                reply.send(started.map(running)).ok();
            }
        })?;
        Ok(Spawner { jobs, census: Arc::default(), system: System::here() })
    }

    pub(super) async fn spawn(
        &self,
        start: Start,
        confinement: Confinement,
        children: Arc<Children>,
    ) -> io::Result<Running> {
        let gone = || io::Error::other("the thread that starts programs is gone");
        let (reply, started) = oneshot::channel();
        // Counted from here, so that an attempt which ends now waits for what may still begin.
        children.expect();
        if self.jobs.send(Job { start, confinement, children: children.clone(), reply }).is_err() {
            children.forget();
            return Err(gone());
        }
        started.await.map_err(|_| gone())?
    }
}

fn spawn(
    mut command: Command,
    directory: File,
    confinement: Confinement,
    held: Option<Arc<Held>>,
) -> io::Result<Child> {
    let engine = rustix::process::getpid();
    let program = held.clone();
    let at_home = move || {
        // Of a session, and thereby of a process group.
        rustix::process::setsid()?;
        rustix::process::fchdir(&directory)?;
        close_at_exec()?;
        program.as_ref().map_or(Ok(()), |program| program.leave_open())?;
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The engine may have died before the line above.
        if rustix::process::getppid() != Some(engine) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        confinement.enter()
    };
    // SAFETY: runs in the child between fork and exec; it makes system calls only and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(at_home)
    };
    let mut child = command.spawn()?;
    // A program that was looked at, and written to before it was started.
    if held.is_some_and(|held| !held.is_as_found().unwrap_or_default()) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait()?;
        return Err(io::Error::other("it was changed while it was started"));
    }
    Ok(child)
}

/// Keeps the program from inheriting what this process has open beyond the three standard streams. What the engine opens
/// itself is closed anyway; this is for what the engine's own parent left open, a terminal multiplexer or a CI runner.
fn close_at_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: both mark descriptors of this process and touch no memory.
    #[allow(unsafe_code)]
    unsafe {
        // By its number: the C library has no function for it before glibc 2.34.
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return Ok(());
        }
        // Linux before 5.11, and others: one by one, those that there may be.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        for fd in FIRST as libc::c_int..limit.map_or(DESCRIPTORS_MAX, |limit| limit.min(DESCRIPTORS_MAX as u64) as _) {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

/// An attempt's programs: how many are about to start or not reaped yet, and what the reaped ones took.
#[derive(Default)]
pub(crate) struct Children {
    alive: watch::Sender<usize>,
    cpu_us: AtomicU64,
    /// The most that any of them had at once, with what it started.
    processes_peak: AtomicU64,
    memory_peak: AtomicU64,
    /// Protections that any of them ran without, each in its place of `Protection::ALL`.
    unprotected: AtomicU64,
}

impl Children {
    /// Waits until all are reaped, for a bounded time.
    pub(crate) async fn gone(&self) {
        let mut alive = self.alive.subscribe();
        tokio::time::timeout(REAP, alive.wait_for(|alive| *alive == 0)).await.ok();
    }

    /// Fills in what is theirs of what the attempt used.
    pub(crate) fn account(&self, usage: &mut Usage) {
        usage.process_cpu_us = self.cpu_us.load(Ordering::Relaxed);
        let unprotected = self.unprotected.load(Ordering::Relaxed);
        let all = Protection::ALL.into_iter().enumerate();
        let programs = Programs {
            memory_peak: self.memory_peak.load(Ordering::Relaxed),
            processes_peak: self.processes_peak.load(Ordering::Relaxed),
            unprotected: all.filter(|(at, _)| unprotected & 1 << at != 0).map(|(_, protection)| protection).collect(),
        };
        usage.programs = Some(programs).filter(|programs| *programs != Programs::default()).map(Box::new);
    }

    pub(super) fn unprotected(&self, missing: &[Protection]) {
        for (at, protection) in Protection::ALL.iter().enumerate() {
            self.unprotected.fetch_or(u64::from(missing.contains(protection)) << at, Ordering::Relaxed);
        }
    }

    fn seen(&self, weight: session::Weight) {
        self.processes_peak.fetch_max(weight.processes, Ordering::Relaxed);
        self.memory_peak.fetch_max(weight.memory, Ordering::Relaxed);
    }

    /// One is about to be started.
    fn expect(&self) {
        self.alive.send_modify(|alive| *alive += 1);
    }

    /// One that was expected was not started, or is gone.
    fn forget(&self) {
        self.alive.send_modify(|alive| *alive -= 1);
    }

    /// One was reaped that took this much.
    fn count(&self, cpu: Duration) {
        self.cpu_us.fetch_add(cpu.as_micros() as u64, Ordering::Relaxed);
    }
}

/// A program that is not reaped yet. Dropped, it is killed with its group, and reaped by a thread made for that, which
/// removes its directory as well: that may take long, and nobody waits for it who has other things to do.
pub(super) struct Running {
    child: Child,
    pub(super) pid: Pid,
    children: Arc<Children>,
    /// Its own directory, until it is reaped.
    scratch: Option<TempDir>,
    /// What counts its processes.
    group: Option<Arc<Group>>,
    /// Whether what left its process group may live on.
    leaves_daemons: bool,
    reaped: bool,
}

/// What a program may use beyond what is in its command.
pub(super) struct Bounds {
    pub(super) output: u64,
    pub(super) memory: u64,
    pub(super) processes: u64,
    pub(super) timeout: Option<Duration>,
    /// Blots secrets out of what it writes.
    pub(super) redactor: Option<Arc<Replacer>>,
}

/// Why a program was killed that would have gone on.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    TimedOut,
    /// The limit's name.
    Limit(&'static str),
}

/// A program that was reaped.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Tail,
    pub(super) stderr: Tail,
    pub(super) cut: Option<Cut>,
    /// How many processes it left behind, which were killed.
    pub(super) left: usize,
    /// To be removed.
    pub(super) scratch: Option<TempDir>,
    pub(super) group: Option<Arc<Group>>,
}

impl Running {
    fn new(
        child: Child,
        children: Arc<Children>,
        scratch: TempDir,
        group: Option<Arc<Group>>,
        leaves_daemons: bool,
    ) -> Running {
        let pid = Pid::from_child(&child);
        Running { child, pid, children, scratch: Some(scratch), group, leaves_daemons, reaped: false }
    }

    /// Feeds it, reads it, and waits for its end or its time-out.
    pub(super) async fn supervise(
        mut self,
        stdin: Vec<u8>,
        bounds: Bounds,
        log: Option<&Log>,
        census: &Arc<Census>,
        ends: &mut tokio::signal::unix::Signal,
    ) -> io::Result<Ended> {
        let mut stdout = Tail::new(bounds.output);
        let mut stderr = Tail::new(bounds.output);
        let cut = {
            let into = self.child.stdin.take().map(ChildStdin::from_std).transpose()?;
            let out = self.child.stdout.take().map(ChildStdout::from_std).transpose()?;
            let err = self.child.stderr.take().map(ChildStderr::from_std).transpose()?;
            let pumps = async {
                tokio::join!(
                    feed(into, &stdin),
                    pump(out, &mut stdout, Level::Info, log, Pieces::new(bounds.redactor.clone())),
                    pump(err, &mut stderr, Level::Warn, log, Pieces::new(bounds.redactor.clone()))
                );
            };
            tokio::pin!(pumps);
            let mut pumped = false;
            let timeout = async {
                match bounds.timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            let watch = watch(self.pid, &bounds, self.group.as_ref(), census, &self.children);
            tokio::pin!(timeout, watch);
            let cut = loop {
                tokio::select! {
                    exited = exited(self.pid, ends) => { exited?; break None }
                    () = &mut pumps, if !pumped => pumped = true,
                    () = &mut timeout => break Some(Cut::TimedOut),
                    limit = &mut watch => break Some(Cut::Limit(limit)),
                }
            };
            if cut.is_some() {
                self.kill();
                exited(self.pid, ends).await?;
            }
            if !pumped {
                tokio::time::timeout(DRAIN, &mut pumps).await.ok();
            }
            cut
        };
        // What stayed in its group goes with it, and what stayed in its session. The leader is not reaped yet, so that its
        // number is still its own.
        let mut left = 0;
        if !self.leaves_daemons {
            let (session, group) = (self.pid, self.group.clone());
            let kill = move || session::kill(session, group.as_deref());
            left = tokio::task::spawn_blocking(kill).await.unwrap_or(0);
        }
        self.kill();
        let (status, cpu) = reap(self.pid)?;
        self.reaped = true;
        self.children.count(cpu);
        self.children.forget();
        let (scratch, group) = (self.scratch.take(), self.group.take());
        Ok(Ended { status, stdout, stderr, cut, left, scratch, group })
    }

    fn kill(&self) {
        // Errors mean that there is nobody left.
        kill_process_group(self.pid, Signal::KILL).ok();
        kill_process(self.pid, Signal::KILL).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kill();
        let (pid, children, scratch) = (self.pid, self.children.clone(), self.scratch.take());
        let group = self.group.take();
        let leaves_daemons = self.leaves_daemons;
        let reaper = move || {
            if !leaves_daemons {
                session::kill(pid, group.as_deref());
            }
            children.count(reap(pid).map_or(Duration::ZERO, |(_, cpu)| cpu));
            if let Some(scratch) = scratch {
                remove(scratch, pid);
            }
            drop(group);
            children.forget();
        };
        // Without a thread to be had, the child stays a zombie until the engine ends.
        std::thread::Builder::new().name("downbeat-reap".into()).spawn(reaper).ok();
    }
}

/// Looks at a program and all that it started again and again; gives the limit that it went beyond.
async fn watch(
    session: Pid,
    bounds: &Bounds,
    group: Option<&Arc<Group>>,
    census: &Arc<Census>,
    children: &Children,
) -> &'static str {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = LOOK.min(2 * pause);
        let (census, group) = (census.clone(), group.cloned());
        let look = move || (census.weigh(session), group.is_some_and(|group| group.was_full()));
        let Ok((weight, was_full)) = tokio::task::spawn_blocking(look).await else { continue };
        children.seen(weight);
        if was_full || weight.processes > bounds.processes {
            return "processes";
        }
        if weight.memory > bounds.memory {
            return "process-memory";
        }
    }
}

/// Waits until the process has ended, and leaves it to be reaped. Every end of any child wakes every waiter; one look
/// costs a microsecond.
async fn exited(pid: Pid, ends: &mut tokio::signal::unix::Signal) -> io::Result<()> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        ends.recv().await.ok_or_else(|| io::Error::other("the executor is shutting down"))?;
    }
    Ok(())
}

/// Reaps a process that has ended or been killed; gives its CPU time and that of the descendants it reaped itself.
fn reap(pid: Pid) -> io::Result<(ExitStatus, Duration)> {
    let mut status = 0;
    loop {
        // SAFETY: `rusage` is plain integers, for which zero is a value; wait4 writes to the two places that it is given.
        #[allow(unsafe_code)]
        let (reaped, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid.as_raw_nonzero().get(), &mut status, 0, &mut usage), usage)
        };
        if reaped == -1 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
        return Ok((ExitStatus::from_raw(status), time(usage.ru_utime) + time(usage.ru_stime)));
    }
}

/// Removes the directory of a program that was reaped: when the rest of its group is gone, which would make it anew.
pub(super) fn remove(scratch: TempDir, group: Pid) {
    let deadline = Instant::now() + LEAVE;
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    // What can't be removed now is swept away later: not by `TempDir`, which recurses.
    let scratch = scratch.keep();
    for _ in 0..REMOVALS {
        match remove_tree(&scratch) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

async fn feed(into: Option<ChildStdin>, data: &[u8]) {
    if let Some(mut into) = into {
        // A program need not read what it is given.
        into.write_all(data).await.ok();
    }
}

async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    tail: &mut Tail,
    level: Level,
    log: Option<&Log>,
    mut pieces: Pieces,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIPE];
    let mut lines = Lines::new(level);
    let mut take = |bytes: &[u8]| {
        tail.push(bytes);
        if let Some(log) = log {
            lines.push(bytes, |level, line| log.line(level, line));
        }
    };
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        pieces.push(&buffer[..read], &mut take);
    }
    pieces.finish(&mut take);
    if let Some(log) = log {
        lines.flush(|level, line| log.line(level, line));
    }
}

/// The end of a stream, and how much came before it.
pub(super) struct Tail {
    max: usize,
    kept: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    fn new(max: u64) -> Tail {
        Tail { max: usize::try_from(max).unwrap_or(usize::MAX), kept: VecDeque::new(), dropped: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (skipped, bytes) = bytes.split_at(bytes.len().saturating_sub(self.max));
        let over = (self.kept.len() + bytes.len()).saturating_sub(self.max);
        self.kept.drain(..over);
        self.kept.extend(bytes);
        self.dropped += (skipped.len() + over) as u64;
    }

    pub(super) fn take(self) -> (Vec<u8>, u64) {
        (self.kept.into(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_tail(max: u64, pieces: &[&str], kept: &str, dropped: u64) {
        let mut tail = Tail::new(max);
        pieces.iter().for_each(|piece| tail.push(piece.as_bytes()));
        assert_eq!(tail.take(), (kept.as_bytes().to_vec(), dropped));
    }

    #[test]
    fn the_end_of_a_stream_is_kept_and_the_rest_counted() {
        check_tail(4, &["ab", "cd"], "abcd", 0);
        check_tail(4, &["ab", "cd", "e"], "bcde", 1);
        check_tail(4, &["a", "bcdefg"], "defg", 3);
        check_tail(0, &["abc"], "", 3);
    }
}
