//! A thousand runs at once over one journal file: to their ends in one life of the process, and to the same ends in many
//! that are ended by SIGTERM and by SIGKILL.
//!
//! The process is this test's own binary, started again with a state directory. It says on standard output what it
//! executes before it does so: what it has said outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Order, Perform, PrepareError};
use downbeat_journal::{Journal, Mode, RunFilter, StateFilter};
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::event::{Event, FailureKind, Outcome, RunId, Usage};
use downbeat_workflow::plan::Plan;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::house::{failed, no_inputs, plan, succeeded};

const DIRECTORY: &str = "DOWNBEAT_TEST_CROWD";
const RUNS: usize = 1_000;

/// Two branches, one with a retry and one that takes its time, that meet again.
fn branches() -> Plan {
    let mut plan = plan(&[
        ("open", &[]),
        ("flaky", &["open"]),
        ("then", &["flaky"]),
        ("wait", &["open"]),
        ("meet", &["then", "wait"]),
    ]);
    for step in &mut plan.steps {
        step.retry.delay_ms = 5;
    }
    plan.link()
}

/// Steps of a run, and attempts that it takes undisturbed.
const STEPS: usize = 5;
const ATTEMPTS: usize = STEPS + 1;

/// Tells `listener` what is about to be executed. `flaky` fails the first time, `wait` takes 20 ms.
struct Announced {
    listener: fn(&str),
}

/// One write a line: whoever reads may see a torn last one, and nothing else.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("executed {line}\n").as_bytes()).unwrap();
}

impl Perform for Announced {
    type Prepared = ();

    async fn prepare(&self, _plan: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        _observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        (self.listener)(&format!("{} {}", order.idempotency_key, order.attempt));
        let end = match order.plan.step(order.no).name.as_str() {
            "flaky" if order.attempt == 1 => failed(FailureKind::Transient),
            "wait" => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20)) => succeeded(),
                () = cancelled => End::Cancelled,
            },
            _ => succeeded(),
        };
        Ended { end, usage: Usage::default() }
    }
}

/// Takes up all runs that are open, starts those that are missing, and drives them until they are over or SIGTERM comes.
async fn drive_all(dir: &Path, listener: fn(&str)) -> BTreeMap<RunId, Ending> {
    let journal = Journal::open(dir, Mode::Drive).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let conductor = Conductor::new(journal.clone(), Announced { listener }, Arc::new(()), Clock::system());
    let plan = Arc::new(branches());
    let mut runs = JoinSet::new();
    let open = RunFilter { state: StateFilter::Open, ..RunFilter::default() };
    for summary in journal.runs(&open).unwrap() {
        let conductor = conductor.clone();
        runs.spawn(async move {
            let handle = conductor.resume(&summary.id).await.unwrap();
            (summary.id, handle.ending().await.unwrap())
        });
    }
    for _ in journal.runs(&RunFilter::default()).unwrap().len()..RUNS {
        let (conductor, plan) = (conductor.clone(), plan.clone());
        runs.spawn(async move {
            let handle = conductor.start(plan, no_inputs()).await.unwrap();
            (handle.id().clone(), handle.ending().await.unwrap())
        });
    }
    let mut endings = BTreeMap::new();
    loop {
        tokio::select! {
            ended = runs.join_next() => match ended {
                Some(ended) => endings.extend([ended.unwrap()]),
                None => return endings,
            },
            _ = terminate.recv() => conductor.stop(),
        }
    }
}

/// What every run's record says in the end, whatever happened on the way; gives the attempts that were started.
fn check_all(dir: &Path) -> BTreeSet<(String, u32)> {
    let journal = Journal::open(dir, Mode::Observe).unwrap();
    let runs = journal.runs(&RunFilter::default()).unwrap();
    assert_eq!(runs.len(), RUNS);
    let plan = branches();
    let mut all = BTreeSet::new();
    for run in runs {
        assert_eq!(run.outcome, Some(Outcome::Succeeded), "run {}", run.id);
        let (mut started, mut ended, mut succeeded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for record in journal.load(&run.id).unwrap().records {
            match record.event {
                Event::AttemptStarted { step, attempt } => {
                    assert!(started.insert((step, attempt)), "run {}", run.id);
                    all.insert((format!("{}/{}", run.id, plan.own_steps()[step.index()].name), attempt));
                }
                Event::AttemptSucceeded { step, attempt, .. } => {
                    assert!(ended.insert((step, attempt)), "run {}", run.id);
                    assert!(succeeded.insert(step), "run {}", run.id);
                }
                Event::AttemptFailed { step, attempt, .. } | Event::AttemptInterrupted { step, attempt, .. } => {
                    assert!(ended.insert((step, attempt)), "run {}", run.id);
                }
                _ => (),
            }
        }
        assert_eq!(started, ended, "run {}", run.id);
        assert_eq!(succeeded.len(), STEPS, "run {}", run.id);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_over_one_file_come_to_their_ends() {
    let dir = tempfile::tempdir().unwrap();
    let endings = drive_all(dir.path(), |_| ()).await;
    assert_eq!(endings.len(), RUNS);
    assert!(endings.values().all(|ending| *ending == Ending::Finished(Outcome::Succeeded)));
    assert_eq!(check_all(dir.path()).len(), RUNS * ATTEMPTS);
}

/// One life of the process: everything that it executed, and how it ended. After `count` attempts it gets the signal.
fn live(dir: &Path, ended_by: Option<(usize, Signal)>) -> (Vec<(String, u32)>, ExitStatus) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::a_thousand_runs_survive_sigterm_and_sigkill_in_the_middle_of_it_all", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut executed = Vec::new();
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        // The test harness writes lines of its own, and may put the first one before ours.
        if let Some((_, said)) = line.strip_suffix('\n').and_then(|line| line.split_once("executed ")) {
            let (key, attempt) = said.split_once(' ').unwrap();
            executed.push((key.to_owned(), attempt.parse().unwrap()));
            if let Some((count, signal)) = ended_by
                && executed.len() == count
            {
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
        }
        line.clear();
    }
    (executed, child.wait().unwrap())
}

#[test]
fn a_thousand_runs_survive_sigterm_and_sigkill_in_the_middle_of_it_all() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        drop(runtime.block_on(drive_all(dir.as_ref(), say)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut executed = Vec::new();
    // Of 6,000 attempts; the first signal comes while runs are still being created.
    let ends = [(100, Signal::TERM), (1_000, Signal::KILL), (1_500, Signal::TERM), (500, Signal::KILL)];
    for (count, signal) in ends {
        let (said, status) = live(dir.path(), Some((count, signal)));
        assert!(said.len() >= count, "the process ended by itself");
        executed.extend(said);
        if signal == Signal::TERM {
            assert!(status.success(), "SIGTERM is an orderly end: {status}");
            check_rest(dir.path());
        }
    }
    let (said, status) = live(dir.path(), None);
    assert!(status.success(), "{status}");
    executed.extend(said);

    let started = check_all(dir.path());
    let count = executed.len();
    let executed: BTreeSet<_> = executed.into_iter().collect();
    assert_eq!(executed.len(), count, "an attempt was executed twice");
    assert!(executed.is_subset(&started), "executed without a record");
}

/// After an orderly end nothing is in flight: what was, has come home or is recorded as interrupted.
fn check_rest(dir: &Path) {
    let journal = Journal::open(dir, Mode::Observe).unwrap();
    for run in journal.runs(&RunFilter::default()).unwrap() {
        let mut flying = BTreeSet::new();
        for record in journal.load(&run.id).unwrap().records {
            match record.event {
                Event::AttemptStarted { step, .. } => drop(flying.insert(step)),
                Event::AttemptSucceeded { step, .. }
                | Event::AttemptFailed { step, .. }
                | Event::AttemptInterrupted { step, .. } => drop(flying.remove(&step)),
                _ => (),
            }
        }
        assert!(flying.is_empty(), "run {}: {flying:?} in flight after an orderly end", run.id);
    }
}
