//! Where things are kept: the state (journal, artifacts, components, workspaces) and the cache (compiled code).
//!
//! The state belongs to the project that one stands in, like a build folder; the cache belongs to the user, and can be
//! deleted at any time.

use std::path::{Path, PathBuf};

use clap::Args;
use downbeat_conductor::{Answers, Kept};
use downbeat_journal::{Driver, Journal, Mode, OpenError, ReadError, RunFilter, RunSummary, StateFilter};
use downbeat_sandbox::{Options, Sandbox};

use crate::arguments::GLOBAL;
use crate::exit::{Exit, Fault};

/// What to do where there is no journal.
const ELSEWHERE: &str = "run this in the folder that the runs were started in, or name their state with --state DIR";

/// Where things are kept.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The folder with the journal of runs, their artifacts and workspaces
    #[arg(
        long,
        global = true,
        env = "DOWNBEAT_STATE",
        hide_env_values = true,
        default_value = ".downbeat",
        value_name = "DIR",
        help_heading = GLOBAL
    )]
    pub state: PathBuf,
    /// The folder with compiled components [default: the user's cache folder]
    #[arg(long, global = true, env = "DOWNBEAT_CACHE", hide_env_values = true, value_name = "DIR", help_heading = GLOBAL)]
    pub cache: Option<PathBuf>,
    /// A policy that holds beside those of the machine and the user; may be repeated [env: DOWNBEAT_POLICY]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub policy: Vec<PathBuf>,
}

/// What to do where another process drives.
const MEANWHILE: &str = "wait for it, stop it, or name another state with --state DIR; meanwhile its run can be looked at, and \
                         is reached by `downbeat approve`, `reject`, `signal`, `pause` and `cancel`";

impl Place {
    /// The journal, to be driven by this process. A state folder that was not there is kept out of version control, and
    /// has all the folders that a backup copies, so that its commands work before the first artifact is stored.
    pub(crate) fn drive(&self) -> Result<Journal, Fault> {
        let is_new = !self.state.exists();
        let journal = Journal::open(&self.state, Mode::Drive).map_err(|error| match error {
            OpenError::Driven { dir, pid } => {
                let who = pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
                let message = format!("another process{who} drives the runs in {}", dir.display());
                Fault::engine(message).hint(MEANWHILE)
            }
            other => Fault::engine(other),
        })?;
        let furnish = || {
            std::fs::create_dir_all(self.artifacts())?;
            if is_new { std::fs::write(self.state.join(".gitignore"), "*\n") } else { Ok(()) }
        };
        furnish().map_err(|error| Fault::engine(format!("{} can't be written: {error}", self.state.display())))?;
        Ok(journal)
    }

    /// The journal, to be looked at.
    pub(crate) fn observe(&self) -> Result<Journal, Fault> {
        Journal::open(&self.state, Mode::Observe).map_err(|error| match error {
            OpenError::Missing { .. } => Fault::engine(error).hint(ELSEWHERE),
            other => Fault::engine(other),
        })
    }

    /// The journal, to be looked at; `None` where nothing has been run yet.
    pub(crate) fn observe_if_any(&self) -> Result<Option<Journal>, Fault> {
        match Journal::open(&self.state, Mode::Observe) {
            Ok(journal) => Ok(Some(journal)),
            Err(OpenError::Missing { .. }) => Ok(None),
            Err(error) => Err(Fault::engine(error)),
        }
    }

    /// The process that drives right now.
    pub(crate) fn driver(&self) -> Result<Option<Driver>, Fault> {
        Journal::driver(&self.state).map_err(Fault::engine)
    }

    /// The blobs that steps store.
    fn artifacts(&self) -> PathBuf {
        self.state.join("artifacts")
    }

    /// Copies of the components that runs use.
    pub(crate) fn components(&self) -> PathBuf {
        self.state.join("components")
    }

    /// Answers of steps that are kept across runs.
    pub(crate) fn answers(&self) -> Answers {
        Answers::at(self.state.join("answers"))
    }

    /// Notes of the runs that come from elsewhere.
    pub(crate) fn imported(&self) -> PathBuf {
        self.state.join("imported")
    }

    /// The runs' own directories.
    pub(crate) fn workspaces(&self) -> PathBuf {
        self.state.join("workspaces")
    }

    /// What runs keep as files.
    pub(crate) fn kept(&self) -> Kept {
        Kept::new(self.components(), self.workspaces(), self.artifacts())
    }

    /// The sandbox.
    pub(crate) fn sandbox(&self) -> Result<Sandbox, Fault> {
        let cache = match &self.cache {
            Some(cache) => cache.clone(),
            None => user_cache().ok_or_else(|| {
                Fault::engine("there is no cache folder: neither XDG_CACHE_HOME nor HOME is set")
                    .hint("name one with --cache DIR or DOWNBEAT_CACHE")
            })?,
        };
        let reserved = vec![self.state.clone()];
        Sandbox::new(Options { cache, reserved, artifacts: self.artifacts(), ..Options::below(&self.state) })
            .map_err(Fault::engine)
    }
}

fn user_cache() -> Option<PathBuf> {
    let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("downbeat"))
}

/// The word for the latest run. No run has such an id: `l` is not among their letters.
const LAST: &str = "last";

/// The run that a person means: by its id or the beginning or end of it, or else, and by `last`, the latest in the given
/// state.
pub(crate) fn find_run(journal: &Journal, text: Option<&str>, state: StateFilter) -> Result<RunSummary, Fault> {
    if let Some(text) = text.filter(|text| *text != LAST) {
        let found = journal.find(text).and_then(|id| journal.summary(&id));
        return found.map_err(|error| match error {
            ReadError::NoMatch(_) | ReadError::Ambiguous { .. } => {
                Fault::new(Exit::Usage, error).hint("`downbeat list` shows the runs")
            }
            other => Fault::engine(other),
        });
    }
    let latest = RunFilter { state, limit: Some(1), ..RunFilter::default() };
    journal.runs(&latest).map_err(Fault::engine)?.pop().ok_or_else(|| match state {
        StateFilter::Open => Fault::new(Exit::Usage, "all runs are over").hint("`downbeat list` shows how they ended"),
        _ => Fault::new(Exit::Usage, "there is no run yet").hint("`downbeat run FILE` starts one"),
    })
}

/// A path as an absolute one, without asking the file system.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path).map_err(|error| Fault::engine(format!("{}: {error}", path.display())))
}
