//! Native programs, by the grant `process`.
//!
//! The program runs as a child of the engine with a clean environment, in the run's workspace if `workspace` is granted
//! and else in an empty directory of its own. It is killed with everything it started when the attempt ends before it.
//!
//! ```
//! use downbeat_sdk::prelude::*;
//!
//! # let host = downbeat_sdk::testing::Host::new();
//! # host.on_process(|_| Ok(process::Completed { stdout: b"git version 2.47\n".to_vec(), ..Default::default() }));
//! let git = process::Command::new("git").arg("--version").run()?;
//! if !git.success() {
//!     return Err(Failure::permanent(format!("git ended with {}", git.exit)));
//! }
//! log::info!("{}", git.stdout_text());
//! # Ok::<(), Failure>(())
//! ```

use std::borrow::Cow;
use std::time::Duration;

use crate::Refused;

/// A program to run: a builder in the manner of `std::process::Command`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// A program's name, looked up in `PATH`, or an absolute path. Exactly what the workflow grants, letter by letter.
    pub program: String,
    /// Handed over as they are: no shell is in between.
    pub arguments: Vec<String>,
    /// Additional variables; each name must be granted by `env`.
    pub environment: Vec<(String, String)>,
    /// Where to run. Relative paths start at the default directory.
    pub working_directory: Option<String>,
    /// What the program reads from its standard input.
    pub stdin: Vec<u8>,
    /// When to kill the program. The attempt's own time-out applies as well.
    pub timeout: Option<Duration>,
    /// Whether the program's output is copied to the attempt's log as it comes, line by line.
    pub log_output: bool,
}

impl Command {
    /// The program without arguments, its output logged.
    pub fn new(program: impl Into<String>) -> Command {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            stdin: Vec::new(),
            timeout: None,
            log_output: true,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Command {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable, whose name the workflow must grant by `env`.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Command {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs the program in this directory.
    pub fn current_dir(mut self, directory: impl Into<String>) -> Command {
        self.working_directory = Some(directory.into());
        self
    }

    /// Gives the program something to read.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = bytes.into();
        self
    }

    /// Kills the program when it runs longer.
    pub fn timeout(mut self, timeout: Duration) -> Command {
        self.timeout = Some(timeout);
        self
    }

    /// Whether the program's output is copied to the attempt's log; it is unless told otherwise.
    pub fn log_output(mut self, log_output: bool) -> Command {
        self.log_output = log_output;
        self
    }

    /// Runs the program to its end. That it ends with an error of its own is no [`Error`] here: see
    /// [`Completed::success`].
    ///
    /// # Errors
    ///
    /// The program is not granted, not there, took too long, or could not be started.
    pub fn run(&self) -> Result<Completed, Error> {
        crate::host::run_process(self)
    }
}

/// How a program ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended with this exit code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// How it ended.
    pub exit: Exit,
    /// The end of what it wrote to standard output, at most the limit `process-output`.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to standard error, at most the limit `process-output`.
    pub stderr: Vec<u8>,
    /// How many bytes were dropped from the beginning of `stdout`.
    pub stdout_dropped: u64,
    /// How many bytes were dropped from the beginning of `stderr`.
    pub stderr_dropped: u64,
    /// Wall time, in whole milliseconds, rounded up. Zero when the step lacks the grant `clock`.
    pub elapsed: Duration,
}

/// A program that did nothing, well: for doubles in tests, which fill in what matters to them.
impl Default for Completed {
    fn default() -> Completed {
        Completed {
            exit: Exit::Code(0),
            stdout: Vec::new(),
            stderr: Vec::new(),
            stdout_dropped: 0,
            stderr_dropped: 0,
            elapsed: Duration::ZERO,
        }
    }
}

impl Completed {
    /// Whether it ended with the exit code 0.
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Standard output as text; bytes that are no UTF-8 are replaced.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Standard error as text; bytes that are no UTF-8 are replaced.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

/// Why a program did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not granted. Nothing was started.
    Refused(Refused),
    /// Granted, but there is no such program.
    NotFound(String),
    /// It ran longer than its time-out and was killed; what it had written by then is here.
    TimedOut(Box<Completed>),
    /// The system could not start it or lost it.
    Failed(String),
}

impl Error {
    /// What was refused, if that is what it was.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Refused(refused) => refused.fmt(f),
            Error::NotFound(program) => write!(f, "there is no program `{program}` on this machine"),
            Error::TimedOut(_) => f.write_str("the program ran longer than its time-out and was killed"),
            Error::Failed(reason) => write!(f, "the program could not be run: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
