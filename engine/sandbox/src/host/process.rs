//! The interface `process`: native programs by the grant `process`. A program is a child of the engine in a session and
//! process group of its own, with a clean environment, confined by the system's means (`native.rs`), and nothing of it
//! outlives the attempt: whatever way the attempt ends, the group is killed and its leader reaped. Only what left the
//! group on purpose (a daemon) lives on; that is how a step starts a server.
//!
//! If the engine itself dies, the kernel kills the program (`PR_SET_PDEATHSIG`, Linux). The kernel ties that to the death
//! of the *thread* that forked, and an executor's threads come and go; so one thread that lives as long as the sandbox
//! forks all programs. It reaches the program itself and not its children, which find their pipes closed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use downbeat_workflow::capability::{Capability, FileGrant, Grants, Limits, ProgramGrant, Protection};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Programs, Usage};
use downbeat_workflow::log::Level;
use downbeat_workflow::permission::{self, Granted, Use};
use downbeat_workflow::units::size;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::bindings::downbeat::step::process as wit;
use crate::directory::{Barred, Directory};
use crate::host::log::{Lines, Log};
use crate::native::complaint::{Complaint, complaints, words};
use crate::native::pids::Group;
use crate::native::session::{self, Census, FIRST_LOOK, LOOK};
use crate::native::{self, Confinement, System, landlock};
use crate::reach::{Reach, WORKSPACE};
use crate::replace::{Pieces, Replacer};
use crate::store::State;
use crate::text;

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

/// `PATH` of programs if the engine has none itself.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

type Fault = wit::Error;

impl wit::Host for State {
    async fn run(&mut self, command: wit::Command) -> Result<wit::Completed, Fault> {
        let ready = prepare(&mut self.reach, &self.host.scratch, command)?;
        let limits = Bounds {
            output: self.limits.process_output,
            memory: self.limits.process_memory,
            processes: self.limits.processes,
            timeout: ready.timeout,
            redactor: self.log.redactor().cloned(),
        };
        let children = self.children.get_or_insert_with(|| Arc::new(Children::default())).clone();
        let host = self.host.clone();
        let not_started = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Fault::NotFound(ready.program.clone()),
            _ => Fault::Failed(format!("`{}` could not be started: {error}", text::visible(&ready.program, false))),
        };
        let confinement = confine(&self.reach, &host.spawner.system, &ready, &self.limits).map_err(not_started)?;
        has_required(&ready.program, &self.reach.grants.require, &confinement.missing)?;
        children.unprotected(&confinement.missing);
        self.reach.leaves(ready.granted, &ready.told).await;
        let started = Instant::now();
        // Before the child exists, so that its end can't be missed.
        let mut ends = signal(SignalKind::child()).map_err(failed)?;
        let child = host.spawner.spawn(ready.start, confinement, children).await.map_err(not_started)?;
        let pid = child.pid;
        let log = ready.log_output.then_some(&*self.log);
        let ended = child.supervise(ready.stdin, limits, log, &host.spawner.census, &mut ends).await;
        let mut ended = ended.map_err(failed)?;
        // Directories of programs can be large: removed where blocking is allowed.
        if let Some(scratch) = ended.scratch.take() {
            let group = ended.group.take();
            tokio::task::spawn_blocking(move || {
                remove(scratch, pid);
                drop(group);
            })
            .await
            .ok();
        }
        self.reach.uses.clock += u64::from(self.reach.grants.clock);
        let elapsed = if self.reach.grants.clock { started.elapsed().as_micros().div_ceil(1_000) as u64 } else { 0 };
        let (stdout, stdout_dropped) = ended.stdout.take();
        let (stderr, stderr_dropped) = ended.stderr.take();
        if !ended.status.success() {
            suspect(&mut self.reach, ready.grant, &String::from_utf8_lossy(&stderr));
        }
        let exit = match (ended.status.code(), ended.status.signal()) {
            (Some(code), _) => wit::Exit::Code(code),
            (None, signal) => wit::Exit::Signal(signal.unwrap_or_default()),
        };
        let completed = wit::Completed { exit, stdout, stderr, stdout_dropped, stderr_dropped, elapsed_ms: elapsed };
        if ended.cut.is_none() && ended.left > 0 {
            let mut enough = Grants::clone(&self.reach.grants);
            enough.process[ready.grant].daemons = true;
            let wanted = format!("{}: to live on, for {} of the processes that it started", ready.program, ended.left);
            self.reach.refused_later.refuse("process", &wanted, &enough);
        }
        match ended.cut {
            Some(Cut::TimedOut) => Err(Fault::TimedOut(completed)),
            Some(Cut::Limit(limit)) => {
                self.exceeded = Some(limit);
                Err(Fault::Failed(format!(
                    "`{}` and what it started went beyond the limit `{limit}` of {}, and all of it was killed; raise \
                     `limit = {{ {limit} = … }}` if it needs more",
                    text::visible(&ready.program, false),
                    bound(limit, &self.limits),
                )))
            }
            None => {
                self.exceeded = ended.status.signal().and_then(limit_of_signal).or(self.exceeded);
                Ok(completed)
            }
        }
    }
}

/// The limit whose signal ended a program.
fn limit_of_signal(signal: i32) -> Option<&'static str> {
    match signal {
        libc::SIGXCPU => Some("process-cpu"),
        libc::SIGXFSZ => Some("process-file"),
        _ => None,
    }
}

/// A limit of programs, for people.
fn bound(limit: &str, limits: &Limits) -> String {
    match limit {
        "process-memory" => size(limits.process_memory),
        _ => limits.processes.to_string(),
    }
}

fn failed(error: io::Error) -> Fault {
    Fault::Failed(error.to_string())
}

/// A command that was granted and only has to be started.
struct Ready {
    granted: Granted,
    /// The command, for the record.
    told: String,
    program: String,
    /// The place of its grant among those of programs.
    grant: usize,
    start: Start,
    stdin: Vec<u8>,
    timeout: Option<Duration>,
    log_output: bool,
}

/// What it takes to start a program.
struct Start {
    command: Command,
    /// Where it runs.
    directory: File,
    /// Its own directory, for as long as there is anything of it.
    scratch: TempDir,
}

/// The file of a granted program: an absolute path, or a name in one of the engine's own absolute `PATH` folders. Nothing
/// is looked up in the working directory or in a `PATH` that the guest sets: a guest may write there, and what it put
/// there would run in place of what was granted.
fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_absolute());
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let runs = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    std::env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(runs)
}

fn prepare(reach: &mut Reach, scratch: &Path, command: wit::Command) -> Result<Ready, Fault> {
    let wanted = permission::Command {
        program: &command.program,
        arguments: &command.arguments,
        environment: &command.environment,
        directory: command.working_directory.as_deref(),
    };
    let granted = reach.ask(&Use::Program(wanted)).map_err(|refusal| Fault::Refused(refusal.into()))?;
    // Without secrets before it is quoted, which changes their letters.
    let told = std::iter::once(&command.program).chain(&command.arguments);
    let told = told.map(|word| shown(&reach.uses.clean(word)).into_owned()).collect::<Vec<_>>().join(" ");
    let grant = granted.item;
    let grants = reach.grants.clone();
    let allowed = &grants.process[grant];
    std::fs::create_dir_all(scratch).map_err(failed)?;
    let scratch = tempfile::Builder::new().prefix("downbeat-").tempdir_in(scratch).map_err(failed)?;
    let wanted = command.working_directory.as_deref().or(allowed.directory.as_deref());
    let directory = working_directory(reach, wanted, scratch.path())?;
    let program = find_program(&command.program).ok_or_else(|| Fault::NotFound(command.program.clone()))?;
    if let Some(digest) = &allowed.digest {
        let bytes = std::fs::read(&program).map_err(failed)?;
        let found = Digest::of(&bytes);
        if found.as_str() != digest {
            let table = ProgramGrant { digest: Some(found.to_string()), ..allowed.clone() };
            let wanted = format!("{} with the digest {found}", command.program);
            return Err(Fault::Refused(reach.refuse("process", &wanted, &format!("process = [{table}]")).into()));
        }
    }
    let variables = allowed.env.as_ref().unwrap_or(&grants.env);
    surroundings(reach, &command, allowed);
    let mut native = Command::new(program);
    native
        .arg0(&command.program)
        .args(&command.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
        .env("LANG", "C.UTF-8")
        .env("TMPDIR", scratch.path())
        .envs(variables.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(command.environment)
        .envs(reach.secrets.environment(&reach.grants))
        .stdin(if command.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(Ready {
        granted,
        told,
        program: command.program,
        grant,
        start: Start { command: native, directory, scratch },
        stdin: command.stdin,
        timeout: command.timeout_ms.map(Duration::from_millis),
        log_output: command.log_output,
    })
}

/// What keeps a program to its grants.
fn confine(reach: &Reach, system: &System, ready: &Ready, limits: &Limits) -> io::Result<Confinement> {
    let mut write = vec![File::open(ready.start.scratch.path())?];
    let mut read = Vec::new();
    if reach.grants.workspace {
        write.push(reach.workspace()?.file);
    }
    for grant in &reach.grants.files {
        // One that can't be opened is not there for the guest either.
        if let Ok(directory) = reach.open(grant) {
            if grant.write { &mut write } else { &mut read }.push(directory.file);
        }
    }
    let granted = &reach.grants.process[ready.grant];
    for path in granted.read.iter().filter_map(|text| named_path(reach, text)) {
        // A toolchain that is not there is not needed, or is missed by the program.
        match reach.open_path(&path) {
            Ok(found) => read.push(found.file),
            Err(barred @ Barred::Reserved { .. }) => return Err(barred.into()),
            Err(_) => {}
        }
    }
    let program = hold(Path::new(ready.start.command.get_program()))?;
    let (network, daemons) = (granted.network, granted.daemons);
    let bounds = native::Bounds { read: &read, write: &write, program: &program, network, daemons, limits };
    Confinement::new(system, &bounds)
}

/// A program's file. It may be one that can be run and not read.
fn hold(program: &Path) -> io::Result<File> {
    let mut open = File::options();
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut open, libc::O_PATH);
    open.read(true).open(program)
}

/// Whether a program has all the protections that it is required to have.
fn has_required(program: &str, required: &[Protection], missing: &[Protection]) -> Result<(), Fault> {
    match required.iter().find(|protection| missing.contains(protection)) {
        None => Ok(()),
        Some(protection) => Err(Fault::Failed(format!(
            "`{}` was not started: this system has no protection `{}` of native programs, and a policy requires it",
            text::visible(program, false),
            protection.word()
        ))),
    }
}

/// Records what a program that failed was most likely refused: what it says that it could not reach, if the engine could
/// and the grants do not cover it.
fn suspect(reach: &mut Reach, grant: usize, said: &str) {
    let read: Vec<PathBuf> =
        reach.grants.process[grant].read.iter().filter_map(|text| named_path(reach, text)).collect();
    let covers = |path: &Path| reach.covers(path) || read.iter().any(|granted| path.starts_with(granted));
    for complaint in complaints(said) {
        let mut enough = Grants::clone(&reach.grants);
        let granted = &mut enough.process[grant];
        let program = granted.program.clone();
        let path = match complaint {
            Complaint::Path(path) => Some(path.to_owned()),
            // Another program that it started is told by its name.
            Complaint::Unnamed(line) => words(line).filter_map(find_program).find(|path| !landlock::is_of_system(path)),
            Complaint::Network => None,
        };
        let wanted = match path {
            // Of files most programs tell the paths, so that it is most likely this.
            None if granted.network => continue,
            None => {
                granted.network = true;
                format!("{program}: the network")
            }
            Some(path) if path.exists() => {
                let reads = rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_ok();
                if !reads || covers(&path) {
                    continue;
                }
                granted.read.push(reach.guest_path(&path).display().to_string());
                format!("{program}: {}", path.display())
            }
            // What could not be made there.
            Some(path) => {
                let Some(parent) = path.parent().filter(|parent| parent.is_dir() && !covers(parent)) else { continue };
                enough.files.push(FileGrant { path: reach.guest_path(parent).display().to_string(), write: true });
                format!("{program}: {}", path.display())
            }
        };
        reach.refused_later.refuse("process", &wanted, &enough);
    }
}

/// What a program may read beyond the system's: an absolute path, one below the user's home (`~/.cargo`), one below what a
/// variable of the engine's environment names (`$CARGO_HOME/bin`), or one from the workflow's folder. `None` if there is
/// no such home or variable, or nothing there.
fn named_path(reach: &Reach, text: &str) -> Option<PathBuf> {
    let (start, rest) = text.split_once('/').unwrap_or((text, ""));
    let start = match start.strip_prefix('$') {
        _ if start.is_empty() => PathBuf::from("/"),
        None if start == "~" => PathBuf::from(std::env::var_os("HOME")?),
        Some(variable) => PathBuf::from(std::env::var_os(variable)?),
        // A step may have made a link there: none is followed.
        None => return Some(reach.host_path(text)),
    };
    // Links are followed: these are the user's own, where no step is.
    Some(start.join(rest)).filter(|path| path.is_absolute())?.canonicalize().ok()
}

/// A word of a command line as one would type it.
fn shown(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

/// Notes what a program is given beside its arguments: the step's variables, unless its own grant has others, and the run's
/// directory.
fn surroundings(reach: &mut Reach, command: &wit::Command, allowed: &ProgramGrant) {
    let grants = reach.grants.clone();
    let names = grants.env.iter().enumerate().filter(|(_, name)| std::env::var_os(name).is_some());
    for (item, name) in names.take_while(|_| allowed.env.is_none()) {
        reach.stays(Granted { capability: Capability::Env, item }, name);
    }
    for (item, grant) in grants.secrets.iter().enumerate() {
        if let Some(variable) = &grant.env {
            let secret = Granted { capability: Capability::Secrets, item };
            reach.stays(secret, &format!("{} as the variable {variable} of {}", grant.name, command.program));
        }
    }
    let directory = command.working_directory.as_deref().map(Path::new);
    if grants.workspace && directory.is_none_or(|path| path.is_relative() || path.starts_with(WORKSPACE)) {
        let whole = Granted { capability: Capability::Workspace, item: 0 };
        reach.stays(whole, &format!("working directory of {}", command.program));
    }
}

/// Where the program runs: in the workspace or below it, or below a granted directory. It is held open, so that it stays
/// what it is now until the program is there.
fn working_directory(reach: &mut Reach, wanted: Option<&str>, scratch: &Path) -> Result<File, Fault> {
    let workspace = match reach.grants.workspace {
        true => Some(reach.workspace().map_err(|barred| failed(barred.into()))?),
        false => None,
    };
    let Some(wanted) = wanted else {
        return workspace.map_or_else(|| File::open(scratch).map_err(failed), |workspace| Ok(workspace.file));
    };
    let granted: Vec<Directory> = reach.grants.files.iter().filter_map(|grant| reach.open(grant).ok()).collect();
    let path = host_path(reach, Path::new(wanted), workspace.as_ref().map(|workspace| &*workspace.path));
    // A guest may have links of its own below what it was granted; they may not lead out of it. What was found is then
    // opened through none, as it may have become one meanwhile.
    let real = path.as_deref().map(Path::canonicalize);
    let mut roots = granted.iter().chain(&workspace);
    match real {
        Some(Ok(real)) if roots.any(|root| real.starts_with(&root.path)) => {
            return Directory::open(&real).map(|opened| opened.file).map_err(|barred| failed(barred.into()));
        }
        // Only what is granted by its text may be told to be missing; else asking would be a way of looking around.
        Some(Err(error)) if !has_parent(Path::new(wanted)) => {
            return Err(Fault::Failed(format!("the directory `{}`: {error}", text::visible(wanted, false))));
        }
        _ => {}
    }
    // Of a step that has no folders, a relative one is most likely meant of the workspace.
    let is_relative = Path::new(wanted).is_relative() && !has_parent(Path::new(wanted));
    let is_of_workspace = is_relative && !reach.grants.workspace && reach.grants.files.is_empty();
    if is_of_workspace || Path::new(wanted).starts_with(WORKSPACE) {
        return Err(Fault::Refused(reach.refuse_switch("workspace", wanted).into()));
    }
    let grant = format!("files = [{{ path = {}, write = true }}]", text::toml_string(wanted));
    Err(Fault::Refused(reach.refuse("files", wanted, &grant).into()))
}

/// A guest's path on the host: `/workspace/…` in the workspace, a granted directory's text in that directory, and
/// everything relative in the workspace, if there is one. `None` if the guest has no such directory.
fn host_path(reach: &Reach, wanted: &Path, workspace: Option<&Path>) -> Option<PathBuf> {
    if let Some(workspace) = workspace {
        if let Ok(rest) = wanted.strip_prefix(WORKSPACE) {
            return Some(workspace.join(rest));
        }
        if wanted.is_relative() {
            return Some(workspace.join(wanted));
        }
    }
    permission::directories_of(&reach.grants.files, wanted)
        .find_map(|(grant, rest)| Some(reach.open(grant).ok()?.path.join(rest)))
}

fn has_parent(path: &Path) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}

/// The thread that forks all programs, and what they are watched by.
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
    census: Arc<Census>,
    /// What there is to confine programs with.
    system: System,
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
                let Start { command, directory, scratch } = start;
                let (leaves_daemons, group) = (confinement.leaves_daemons, confinement.group());
                let started = spawn(command, directory, confinement).inspect_err(|_| children.forget());
                // If nobody waits any more, the program is dropped and thereby killed.
                let running = |child| Running::new(child, children.clone(), scratch, group, leaves_daemons);
                reply.send(started.map(running)).ok();
            }
        })?;
        Ok(Spawner { jobs, census: Arc::default(), system: System::here() })
    }

    async fn spawn(&self, start: Start, confinement: Confinement, children: Arc<Children>) -> io::Result<Running> {
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

fn spawn(mut command: Command, directory: File, confinement: Confinement) -> io::Result<Child> {
    let engine = rustix::process::getpid();
    let at_home = move || {
        // Of a session, and thereby of a process group.
        rustix::process::setsid()?;
        rustix::process::fchdir(&directory)?;
        close_at_exec()?;
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
    command.spawn()
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

    fn unprotected(&self, missing: &[Protection]) {
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
struct Running {
    child: Child,
    pid: Pid,
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
struct Bounds {
    output: u64,
    memory: u64,
    processes: u64,
    timeout: Option<Duration>,
    /// Blots secrets out of what it writes.
    redactor: Option<Arc<Replacer>>,
}

/// Why a program was killed that would have gone on.
#[derive(Clone, Copy)]
enum Cut {
    TimedOut,
    /// The limit's name.
    Limit(&'static str),
}

/// A program that was reaped.
struct Ended {
    status: ExitStatus,
    stdout: Tail,
    stderr: Tail,
    cut: Option<Cut>,
    /// How many processes it left behind, which were killed.
    left: usize,
    /// To be removed.
    scratch: Option<TempDir>,
    group: Option<Arc<Group>>,
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
    async fn supervise(
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
fn remove(scratch: TempDir, group: Pid) {
    let deadline = Instant::now() + LEAVE;
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..REMOVALS {
        match std::fs::remove_dir_all(scratch.path()) {
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
struct Tail {
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

    fn take(self) -> (Vec<u8>, u64) {
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

    #[test]
    fn a_protection_that_is_required_and_missing_keeps_the_program_from_starting() {
        let missing = [Protection::Files, Protection::Signals];
        assert!(has_required("sh", &[], &missing).is_ok());
        assert!(has_required("sh", &[Protection::Network], &missing).is_ok());
        let Err(Fault::Failed(text)) = has_required("sh", &[Protection::Network, Protection::Files], &missing) else {
            panic!("it would be started");
        };
        assert!(text.starts_with("`sh` was not started: this system has no protection `files`"), "{text}");
    }

    #[test]
    fn programs_are_found_by_name_or_absolute_path_and_never_where_a_guest_may_write() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute() && path.ends_with("sh")));
        assert_eq!(find_program("/bin/tool"), Some(PathBuf::from("/bin/tool")));
        for relative in ["./sh", "bin/sh", "../bin/sh", "no-such-program-anywhere"] {
            assert_eq!(find_program(relative), None, "{relative}");
        }
    }

    #[test]
    fn a_directory_of_the_run_is_missed_with_the_grant_of_the_workspace() {
        let root = tempfile::tempdir().unwrap();
        let place = Arc::from(root.path());
        let mut reach = Reach::new(Arc::new(Grants::default()), place, root.path().join("space"), Arc::default());
        for (wanted, hint) in
            [("sub", "{ workspace = true }"), ("/workspace", "{ workspace = true }"), ("../x", "files")]
        {
            let Err(Fault::Refused(refusal)) = working_directory(&mut reach, Some(wanted), root.path()) else {
                panic!("it would run in {wanted}");
            };
            assert!(refusal.hint.contains(hint), "{refusal:?}");
        }
    }

    /// Where programs may run that are granted the workspace and `data` below the workflow's folder.
    fn check_directory(wanted: &str, expected: Result<&str, &str>) {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["flow/data/in", "flow/secret", "space/sub", "scratch"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("flow/secret"), root.join("space/link")).unwrap();
        let data = root.join("flow/data").to_str().unwrap().to_owned();
        let files = vec![FileGrant { path: data.clone(), write: true }];
        let grants = Grants { workspace: true, files, ..Grants::default() };
        let mut reach = Reach::new(Arc::new(grants), Arc::from(root.join("flow")), root.join("space"), Arc::default());
        let wanted = wanted.replace("DATA", &data);
        let found = working_directory(&mut reach, Some(&wanted), &root.join("scratch"));
        let inode = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(inode(&found), inode(&File::open(root.join(expected)).unwrap()), "{expected}");
            }
            (Err(Fault::Refused(refusal)), Err(expected)) => assert!(refusal.hint.contains(expected), "{refusal:?}"),
            (Err(Fault::Failed(text)), Err(expected)) => assert!(text.contains(expected), "{text}"),
            (found, _) => panic!("{wanted}: {found:?}"),
        }
    }

    #[test]
    fn a_program_runs_in_the_workspace_or_in_a_granted_directory() {
        check_directory("/workspace/sub", Ok("space/sub"));
        check_directory("sub", Ok("space/sub"));
        check_directory(".", Ok("space"));
        check_directory("DATA/in", Ok("flow/data/in"));
        check_directory("DATA/../data/in", Ok("flow/data/in"));
    }

    #[test]
    fn a_program_runs_nowhere_else() {
        check_directory("..", Err("{ path = \"..\", write = true }]"));
        check_directory("/etc", Err("{ path = \"/etc\", write = true }]"));
        check_directory("DATA/../secret", Err("files"));
        check_directory("link", Err("files"));
        check_directory("missing", Err("No such file"));
        check_directory("../missing", Err("files"));
    }
}
