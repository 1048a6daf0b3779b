//! Servers: programs that go on when the command that started them has ended, and that can be found again.
//!
//! A server's standard output is its log, and the log is its lock: the file is locked when the program is started, the
//! program inherits it, and the system takes the lock away when the program ends, however it ends. So "is it running?"
//! has one true answer, which no stale file and no reused process id can spoil, and of two commands that start the same
//! server at the same moment one does it and the other finds it running.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::Result;
use crate::state::{State, TICK, publish};

/// How long a server may take to be ready and to end, in ticks: 15 s, of which a server may use 10 to answer what it is
/// answering. On an idle machine, either takes one or two.
const TICKS_MAX: u32 = 750;

/// The end of a log that is shown when a server does not start, in bytes. Ten lines or so.
const LOG_TAIL_BYTES: usize = 1000;

/// A server's folder.
#[derive(Debug)]
pub struct Server {
    name: String,
    folder: PathBuf,
}

impl Server {
    /// The server of this name, started or not.
    pub fn named(dir: &str, name: &str) -> Result<Server> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(format!("`{name}` is no name for a server: lower-case letters, digits and hyphens are"));
        }
        Ok(Server { name: name.to_owned(), folder: Path::new(dir).join(name) })
    }

    /// Every server that was ever started in the directory, by name. None if there is no directory.
    pub fn all(dir: &str) -> Result<Vec<Server>> {
        let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok().filter(|entry| entry.path().join("log").exists()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.iter().map(|name| Server::named(dir, name)).collect()
    }

    /// Starts the program unless it is running, waits until it is ready, and returns its state as JSON.
    pub fn start(&self, program: &str, arguments: &[&str]) -> Result<String> {
        fs::create_dir_all(&self.folder).map_err(|error| self.failed("make the folder of", &error))?;
        let state_path = self.state_path();
        let command: Vec<String> = [program]
            .iter()
            .chain(arguments)
            .map(|argument| argument.replace("{state}", &state_path.to_string_lossy()))
            .collect();
        let mut is_ours = false;
        for _ in 0..TICKS_MAX {
            match self.lock()? {
                Some(_) if is_ours => return Err(self.ended_early()),
                Some(lock) => {
                    // Whatever the folder says is about a server that is no more.
                    remove(&state_path)?;
                    publish(&self.command_path(), &command.join("\n"))?;
                    self.spawn(&command, lock)?;
                    is_ours = true;
                }
                None => {
                    if let Some(state) = State::read(&state_path)? {
                        return self.is_running_as(&command).map(|()| state.to_json(&self.name));
                    }
                }
            }
            thread::sleep(TICK);
        }
        Err(format!("{} is not ready; its log ends with:\n{}", self.name, self.log_tail()))
    }

    /// Stops the server if it is running, and says so in JSON. Returns when it has ended.
    pub fn stop(&self) -> Result<String> {
        // A server that is just being started has no state file yet: look again until the lock is free.
        for _ in 0..TICKS_MAX {
            if !self.folder.exists() || self.lock()?.is_some() {
                remove(&self.state_path())?;
                return Ok(format!("{{\"name\":\"{}\",\"running\":false}}", self.name));
            }
            remove(&self.state_path())?;
            thread::sleep(TICK);
        }
        Err(format!("{} does not end; its log ends with:\n{}", self.name, self.log_tail()))
    }

    /// Whether the server is running, and its state if it is ready: as JSON.
    pub fn status(&self) -> Result<String> {
        match self.ready()? {
            Some(state) => Ok(state.to_json(&self.name).replacen('}', ",\"running\":true}", 1)),
            None => Ok(format!("{{\"name\":\"{}\",\"running\":false}}", self.name)),
        }
    }

    /// The state of a server that is running and ready.
    pub fn ready(&self) -> Result<Option<State>> {
        if !self.folder.exists() || self.lock()?.is_some() { Ok(None) } else { State::read(&self.state_path()) }
    }

    /// The lock, if nobody has it: the server is not running.
    fn lock(&self) -> Result<Option<File>> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(|error| self.failed("open the log of", &error))?;
        match log.try_lock() {
            Ok(()) => Ok(Some(log)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failed("lock the log of", &error)),
        }
    }

    /// Starts the program in a process group of its own, so that what ends this command does not end the server. It
    /// holds on to nothing of ours: whoever waits for the end of our output does not wait for the server.
    fn spawn(&self, command: &[String], lock: File) -> Result<()> {
        let log = lock.try_clone().map_err(|error| self.failed("hand over the log of", &error))?;
        Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::from(lock))
            .stderr(Stdio::from(log))
            .process_group(0)
            .spawn()
            .map(drop)
            .map_err(|error| format!("cannot start {}: {}: {error}", self.name, command[0]))
    }

    fn is_running_as(&self, command: &[String]) -> Result<()> {
        let running =
            fs::read_to_string(self.command_path()).map_err(|error| self.failed("read the command of", &error))?;
        if running == command.join("\n") {
            return Ok(());
        }
        let running = running.replace('\n', " ");
        Err(format!("{} is already running as `{running}`: stop it first", self.name))
    }

    fn ended_early(&self) -> String {
        format!("{} ended before it was ready; its log ends with:\n{}", self.name, self.log_tail())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).trim_end().to_owned()
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> String {
        format!("cannot {what} {} in {}: {error}", self.name, self.folder.display())
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn command_path(&self) -> PathBuf {
        self.folder.join("command")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
