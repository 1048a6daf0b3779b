//! The interface `process`: native programs by the grant `process`. A program is a child of the engine in a session and
//! process group of its own, with a clean environment, confined by the system's means (`native.rs`), and nothing of it
//! outlives the attempt: whatever way the attempt ends, the group is killed and its leader reaped. Only what left the
//! group on purpose (a daemon) lives on; that is how a step starts a server.
//!
//! Here is whether a command is granted and what it takes to start it; how it is run is in `program`.

mod held;
mod program;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_workflow::capability::{Capability, FileGrant, Grant, Grants, Limits, ProgramGrant, Protection};
use downbeat_workflow::permission::cover::forbids;
use downbeat_workflow::permission::{self, Granted, Use};
use downbeat_workflow::units;
use tokio::signal::unix::{SignalKind, signal};

use self::held::Held;
use self::program::{Bounds, Cut, Start, remove};
pub(crate) use self::program::{Children, Spawner};
use crate::bindings::downbeat::step::process as wit;
use crate::directory::{Barred, Directory};
use crate::native::complaint::{Complaint, complaints, words};
use crate::native::{self, Confinement, System, landlock};
use crate::programs::{PATH, expanded, find_program, program_paths};
use crate::reach::{Reach, WORKSPACE};
use crate::store::State;
use crate::text;

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
                    "`{}` and what it started went beyond the limit `{limit}` of {}, and all of it was killed; {}",
                    text::visible(&ready.program, false),
                    bound(limit, &self.limits),
                    self.limits.way_to_more(limit),
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

/// The limit of programs by which all of them are killed, for people.
fn bound(name: &str, limits: &Limits) -> String {
    let value = if name == "process-memory" { limits.process_memory } else { limits.processes };
    units::limit(name, value)
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
    let program = if grants.forbidden.is_empty() { program } else { apart(reach, &command, allowed, &program)? };
    let mut held = None;
    if let Some(digest) = &allowed.digest {
        let (opened, found) = Held::open(&program).map_err(failed)?;
        held = Some(Arc::new(opened));
        if found.as_str() != digest {
            let table = ProgramGrant { digest: Some(found.to_string()), ..allowed.clone() };
            let wanted = format!("{} with the digest {found}", command.program);
            return Err(Fault::Refused(reach.refuse("process", &wanted, &format!("process = [{table}]")).into()));
        }
    }
    let variables = allowed.env.as_ref().unwrap_or(&grants.env);
    surroundings(reach, &command, allowed);
    let mut native = Command::new(held.as_ref().map_or(program, |held| held.path()));
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
        start: Start { command: native, directory, scratch, held },
        stdin: command.stdin,
        timeout: command.timeout_ms.map(Duration::from_millis),
        log_output: command.log_output,
    })
}

/// The file of a program, through no link, if it is none that a policy forbids: what a link leads to may have changed since the plan
/// was made. What is looked at is what is started.
fn apart(reach: &mut Reach, command: &wit::Command, allowed: &ProgramGrant, found: &Path) -> Result<PathBuf, Fault> {
    let not_found = |_: io::Error| Fault::NotFound(command.program.clone());
    let real = found.canonicalize().map_err(not_found)?;
    let grants = reach.grants.clone();
    let is_path = |pattern: &&str| pattern.starts_with('/') && !pattern.contains('*');
    let paths = || grants.forbidden.iter().map(|forbidden| forbidden.program.program.as_str()).filter(is_path);
    let mut names = vec![command.program.clone()];
    for path in [found, real.as_path()] {
        names.extend(program_paths(&path.display().to_string(), paths()));
        names.push(path.display().to_string());
    }
    let asked = |name: &str| {
        let (program, args) = (name.to_owned(), Some(command.arguments.clone()));
        Grant::Process(ProgramGrant { program, args, ..allowed.clone() })
    };
    for forbidden in &grants.forbidden {
        let mut patterns = vec![forbidden.program.program.clone()];
        if is_path(&forbidden.program.program.as_str()) {
            patterns.extend(program_paths(&forbidden.program.program, []));
        }
        let meant = |name: &&String| {
            patterns.iter().any(|program| {
                let pattern = ProgramGrant { program: program.clone(), ..forbidden.program.clone() };
                forbids(&Grant::Process(pattern), &asked(name))
            })
        };
        if let Some(name) = names.iter().find(meant) {
            let wanted = match *name == command.program {
                true => name.clone(),
                false => format!("{}, which is {name}", command.program),
            };
            return Err(Fault::Refused(reach.forbidden("process", &wanted, &forbidden.by).into()));
        }
    }
    Ok(real)
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
    if !text.starts_with(['/', '$']) && text != "~" && !text.starts_with("~/") {
        // A step may have made a link there: none is followed.
        return Some(reach.host_path(text));
    }
    match reach.grants.led.get(text) {
        // What policies were asked about. It is opened through no link, so that it is that or nothing.
        Some(led) => Some(PathBuf::from(led)).filter(|path| path.is_absolute()),
        // Links are followed: these are the user's own, where no step is.
        None => expanded(text)?.canonicalize().ok(),
    }
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
    if allowed.env.is_none() {
        reach.lacks(|name| std::env::var_os(name).is_some());
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

#[cfg(test)]
mod tests {
    use super::*;

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
