//! The host as native tests see it: what was logged and reported is kept, what is asked for is answered by closures.
//!
//! One host a thread, as there is one host an attempt: tests run side by side and see nothing of each other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Once;

use sha2::{Digest as _, Sha256};

use crate::http::Target;
use crate::{Refused, artifacts, files, http, items, process};

/// What a step reported by [`progress::report`](crate::progress::report).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In the step's own unit.
    pub done: u64,
    /// `None` when the step does not know.
    pub total: Option<u64>,
    /// What is being done; may be empty.
    pub message: String,
}

type OnProcess = dyn FnMut(&process::Command) -> Result<process::Completed, process::Error>;
type OnHttp = dyn FnMut(&http::Request) -> Result<http::Response, http::Error>;

#[derive(Default)]
struct State {
    log: Vec<String>,
    progress: Vec<Progress>,
    items: Vec<serde_json::Value>,
    on_process: Option<Rc<RefCell<OnProcess>>>,
    on_http: Option<Rc<RefCell<OnHttp>>>,
    artifacts: Option<HashMap<String, Vec<u8>>>,
    directories: Vec<files::Directory>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// A host in memory, for as long as this value lives, for the thread that made it. It grants nothing: programs,
/// requests and artifacts are refused as the real host does, until the test says what happens instead.
///
/// ```
/// use downbeat_sdk::prelude::*;
/// use downbeat_sdk::testing::Host;
///
/// let host = Host::new();
/// host.on_process(|command| {
///     assert_eq!(command.program, "git");
///     Ok(process::Completed { stdout: b"v1.2.0\n".to_vec(), ..Default::default() })
/// });
/// host.on_http(|_| Ok(http::Response::new(503).with_header("retry-after", "7")));
///
/// assert_eq!(process::Command::new("git").arg("describe").run()?.stdout_text(), "v1.2.0\n");
/// assert_eq!(http::Request::get("https://example.org/").send()?.status, 503);
/// # Ok::<(), Failure>(())
/// ```
#[must_use = "the host is gone when this value is dropped"]
pub struct Host {
    state: Rc<RefCell<State>>,
    before: Option<Rc<RefCell<State>>>,
}

impl Host {
    /// A host that grants nothing.
    #[allow(clippy::new_without_default)] // It changes the thread that it is made on: no value to be had by the way.
    pub fn new() -> Host {
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| {
            if log::set_logger(&Logger).is_ok() {
                log::set_max_level(log::LevelFilter::Trace);
            }
        });
        let state = Rc::new(RefCell::new(State::default()));
        let before = CURRENT.replace(Some(state.clone()));
        Host { state, before }
    }

    /// Grants programs and says how they end.
    pub fn on_process(
        &self,
        answer: impl FnMut(&process::Command) -> Result<process::Completed, process::Error> + 'static,
    ) {
        self.state.borrow_mut().on_process = Some(Rc::new(RefCell::new(answer)));
    }

    /// Grants requests and says what comes back.
    pub fn on_http(&self, answer: impl FnMut(&http::Request) -> Result<http::Response, http::Error> + 'static) {
        self.state.borrow_mut().on_http = Some(Rc::new(RefCell::new(answer)));
    }

    /// Grants artifacts, kept in memory.
    pub fn grant_artifacts(&self) {
        self.state.borrow_mut().artifacts.get_or_insert_default();
    }

    /// Grants a directory, which natively is the real one at this path: have the test make a temporary one.
    pub fn grant_files(&self, path: impl Into<String>, write: bool) {
        self.state.borrow_mut().directories.push(files::Directory { path: path.into(), write });
    }

    /// What was logged so far, as `info: text`.
    pub fn log(&self) -> Vec<String> {
        self.state.borrow().log.clone()
    }

    /// What was appended so far.
    pub fn items(&self) -> Vec<serde_json::Value> {
        self.state.borrow().items.clone()
    }

    /// What was reported so far.
    pub fn progress(&self) -> Vec<Progress> {
        self.state.borrow().progress.clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Host").field("log", &state.log).field("progress", &state.progress).finish_non_exhaustive()
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(state) = current() {
            let level = record.level().as_str().to_ascii_lowercase();
            state.borrow_mut().log.push(format!("{level}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// The thread's host; without one, everything that needs a grant is refused and the rest goes nowhere.
fn current() -> Option<Rc<RefCell<State>>> {
    CURRENT.with_borrow(Clone::clone)
}

pub(crate) fn report_progress(done: u64, total: Option<u64>, message: &str) {
    if let Some(state) = current() {
        state.borrow_mut().progress.push(Progress { done, total, message: message.to_owned() });
    }
}

pub(crate) fn append_items(items: Vec<String>) -> Result<(), items::Error> {
    let Some(state) = current() else { return Ok(()) };
    let mut parsed = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let item = serde_json::from_str(item);
        parsed.push(item.map_err(|error| items::Error::NotJson(index as u32, error.to_string()))?);
    }
    state.borrow_mut().items.extend(parsed);
    Ok(())
}

pub(crate) fn run_process(command: &process::Command) -> Result<process::Completed, process::Error> {
    // The state is free again before the closure runs: it may log.
    let answer = current().and_then(|state| state.borrow().on_process.clone());
    match answer {
        Some(answer) => (answer.borrow_mut())(command),
        None => Err(process::Error::Refused(Refused {
            capability: "process".into(),
            wanted: command.program.clone(),
            hint: format!("grant = {{ process = [\"{}\"] }}", command.program),
        })),
    }
}

pub(crate) fn send_http(request: &http::Request, target: &Target<'_>) -> Result<http::Response, http::Error> {
    let answer = current().and_then(|state| state.borrow().on_http.clone());
    let response = match answer {
        Some(answer) => (answer.borrow_mut())(request)?,
        None => return Err(http::Error::Refused(target.refused(&request.method))),
    };
    match response.body.len() > request.max_body {
        true => Err(http::Error::BodyTooLarge(request.max_body)),
        false => Ok(response),
    }
}

pub(crate) fn put_artifact(data: &[u8]) -> Result<String, artifacts::Error> {
    with_artifacts("put", |blobs| {
        let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{hex}");
        blobs.insert(digest.clone(), data.to_vec());
        Ok(digest)
    })
}

pub(crate) fn get_artifact(digest: &str) -> Result<Vec<u8>, artifacts::Error> {
    with_artifacts("get", |blobs| {
        blobs.get(digest).cloned().ok_or_else(|| artifacts::Error::NotFound(digest.to_owned()))
    })
}

pub(crate) fn directories() -> Vec<files::Directory> {
    current().map(|state| state.borrow().directories.clone()).unwrap_or_default()
}

#[cfg(unix)]
pub(crate) fn symlink(_: &files::Directory, target: &str, _: &str, link: &str) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links to files and to directories are two things there, and which one it is may not be known yet.
#[cfg(not(unix))]
pub(crate) fn symlink(_: &files::Directory, _: &str, _: &str, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn with_artifacts<T>(
    wanted: &str,
    action: impl FnOnce(&mut HashMap<String, Vec<u8>>) -> Result<T, artifacts::Error>,
) -> Result<T, artifacts::Error> {
    let state = current();
    match state.as_ref().map(|state| state.borrow_mut()).as_mut().and_then(|state| state.artifacts.as_mut()) {
        Some(blobs) => action(blobs),
        None => Err(artifacts::Error::Refused(Refused {
            capability: "artifacts".into(),
            wanted: wanted.into(),
            hint: "grant = { artifacts = true }".into(),
        })),
    }
}

#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn open() -> Result<Writer, artifacts::Error> {
        with_artifacts("put", |_| Ok(Writer(Vec::new())))
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), artifacts::Error> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<String, artifacts::Error> {
        put_artifact(&self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Reader(io::Cursor<Vec<u8>>);

impl Reader {
    pub(crate) fn open(digest: &str) -> Result<Reader, artifacts::Error> {
        get_artifact(digest).map(|blob| Reader(io::Cursor::new(blob)))
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.get_ref().len() as u64
    }

    pub(crate) fn read(&mut self, max: u32) -> Result<Vec<u8>, artifacts::Error> {
        let start = usize::try_from(self.0.position()).unwrap_or(usize::MAX).min(self.0.get_ref().len());
        let end = start.saturating_add(max as usize).min(self.0.get_ref().len());
        self.0.set_position(end as u64);
        Ok(self.0.get_ref()[start..end].to_vec())
    }
}
