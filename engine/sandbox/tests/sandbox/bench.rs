//! What the tests stand on: a sandbox in a directory of its own, an observer that remembers, and a call with nothing
//! granted.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use downbeat_sandbox::{Call, End, Ended, LoadError, Observer, Options, Plugin, Sandbox};
use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::event::{Failure, Used};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;

use crate::guests::Guest;

/// A sandbox and its directory.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) observer: Arc<Kept>,
    directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with_instances(8)
    }

    pub(crate) fn with_instances(instances_max: u32) -> Bench {
        Bench::with(|options| options.instances_max = instances_max)
    }

    /// With eight places, and what `change` makes of the options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options { instances_max: 8, ..Options::below(directory.path()) };
        change(&mut options);
        Bench { sandbox: Sandbox::new(options).unwrap(), observer: Arc::default(), directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A second sandbox on the same directory, as after a restart.
    pub(crate) fn restarted(&self) -> Sandbox {
        Sandbox::new(Options { instances_max: 8, ..Options::below(self.path()) }).unwrap()
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path().join("guest.wasm");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn try_load(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        self.sandbox.load(&self.write(bytes))
    }

    pub(crate) fn load(&self, guest: &Guest) -> Arc<Plugin> {
        self.try_load(&guest.build()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn call(&self) -> Call {
        Call {
            run: "run-1".into(),
            workflow: "flow".into(),
            step: "step".into(),
            attempt: 1,
            idempotency_key: "\"key-1\"".into(),
            input: Json::parse("{}").unwrap(),
            seed: 1,
            timeout: None,
            grants: Arc::default(),
            limits: Arc::default(),
            directory: Arc::from(self.path()),
            workspace: self.path().join("workspace"),
        }
    }

    pub(crate) async fn run(&self, guest: &Guest, call: Call) -> Ended {
        self.run_until(guest, call, pending()).await
    }

    pub(crate) async fn run_until(&self, guest: &Guest, call: Call, cancelled: impl Future<Output = ()>) -> Ended {
        let plugin = self.load(guest);
        self.sandbox.attempt(&plugin, call, self.observer.clone(), cancelled).await
    }
}

/// The output of an attempt that succeeded, without the line end that a shell leaves.
#[track_caller]
pub(crate) fn output(ended: &Ended) -> &str {
    match &ended.end {
        End::Succeeded(output) => output.as_str().trim_end(),
        end => panic!("{end:?}"),
    }
}

/// The failure of an attempt that failed.
#[track_caller]
pub(crate) fn failure(ended: &Ended) -> &Failure {
    match &ended.end {
        End::Failed(failure) => failure,
        end => panic!("{end:?}"),
    }
}

pub(crate) trait CallExt {
    fn input(self, input: &str) -> Call;
    fn timeout_ms(self, ms: u64) -> Call;
    fn grants(self, grants: Grants) -> Call;
    fn limits(self, limits: Limits) -> Call;
}

impl CallExt for Call {
    fn input(self, input: &str) -> Call {
        Call { input: Json::parse(input).unwrap(), ..self }
    }

    fn timeout_ms(self, ms: u64) -> Call {
        Call { timeout: Some(Duration::from_millis(ms)), ..self }
    }

    fn grants(self, grants: Grants) -> Call {
        Call { grants: Arc::new(grants), ..self }
    }

    fn limits(self, limits: Limits) -> Call {
        Call { limits: Arc::new(limits), ..self }
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Kept {
    lines: Mutex<Vec<String>>,
    pub(crate) progress: Mutex<Vec<String>>,
    pub(crate) used: Mutex<Vec<Used>>,
    told: tokio::sync::Notify,
}

impl Kept {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line, when it is there.
    pub(crate) async fn first_line(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(line) = self.lines().into_iter().next() {
                return line;
            }
            told.await;
        }
    }
}

impl Observer for Kept {
    fn log(&self, level: Level, line: &str) {
        self.lines.lock().unwrap().push(format!("{level:?}: {line}"));
        self.told.notify_one();
    }

    fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.progress.lock().unwrap().push(format!("{done}/{total:?} {message}"));
    }

    fn used(&self, used: Used) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.used.lock().unwrap().push(used);
        Box::pin(std::future::ready(()))
    }
}
