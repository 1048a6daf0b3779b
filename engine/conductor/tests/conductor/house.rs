//! What every conversation needs: a performer that does as a step's name says, a conductor over a journal, and plans.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Order, Perform, PrepareError};
use downbeat_journal::Journal;
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::description::{Component, Description, Digest};
use downbeat_workflow::event::{Event, Failure, FailureKind, NeedState, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{Join, Need, Plan, Plugin, PluginId, Rest, Retry, Step, StepNo, Use, Work};
use downbeat_workflow::rule::Template;

/// Each step does as its name says: `sleep…` takes a second, `panic…` panics, `fail…` fails for good, `flaky…` fails
/// until its third attempt; everything else succeeds at once. `log…` writes a line.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) started: Arc<Mutex<Vec<String>>>,
    pub(crate) at_once: Arc<AtomicUsize>,
    pub(crate) at_once_max: Arc<AtomicUsize>,
}

impl Perform for Script {
    type Prepared = ();

    async fn prepare(&self, plan: &Arc<Plan>) -> Result<(), PrepareError> {
        if plan.name == "unprepared" { Err(PrepareError::Component("no such component".to_owned())) } else { Ok(()) }
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let name = order.plan.step(order.no).name.clone();
        self.started.lock().unwrap().push(format!("{name}#{} {}", order.attempt, order.idempotency_key));
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(now, Ordering::SeqCst);
        let end = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "sleep" => tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => succeeded(),
                () = cancelled => End::Cancelled,
            },
            "panic" => panic!("scripted"),
            "fail" => failed(FailureKind::Permanent),
            "flaky" if order.attempt < 3 => failed(FailureKind::Transient),
            "log" => {
                observer.log(Level::Info, "a line");
                succeeded()
            }
            _ => succeeded(),
        };
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Ended { end, usage: Usage::default() }
    }
}

pub(crate) fn succeeded() -> End {
    End::Succeeded(Json::null())
}

pub(crate) fn failed(kind: FailureKind) -> End {
    End::Failed(Failure { kind, message: "scripted".into(), details: None, backtrace: None, retry_after_ms: None })
}

pub(crate) struct House {
    pub(crate) journal: Journal,
    pub(crate) script: Script,
    pub(crate) conductor: Conductor<Script>,
}

impl House {
    pub(crate) fn new() -> House {
        House::over(Journal::in_memory())
    }

    /// A conductor like that of a process that opens the journal anew.
    pub(crate) fn over(journal: Journal) -> House {
        House::at(journal, Timestamp(0))
    }

    /// One whose clock says `now`.
    pub(crate) fn at(journal: Journal, now: Timestamp) -> House {
        let script = Script::default();
        let start = tokio::time::Instant::now();
        let clock = Clock::new(move || now.plus_ms(start.elapsed().as_millis() as u64));
        let conductor = Conductor::new(journal.clone(), script.clone(), Arc::new(()), clock);
        House { journal, script, conductor }
    }

    pub(crate) async fn run(&self, plan: Plan) -> (RunId, Ending) {
        let handle = self.conductor.start(Arc::new(plan), no_inputs()).await.unwrap();
        let run = handle.id().clone();
        (run, handle.ending().await.unwrap())
    }

    pub(crate) fn events(&self, run: &RunId) -> Vec<Event> {
        self.journal.load(run).unwrap().records.into_iter().map(|record| record.event).collect()
    }

    pub(crate) fn started(&self) -> Vec<String> {
        self.script.started.lock().unwrap().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

pub(crate) fn no_inputs() -> Json {
    Json::from(serde_json::json!({}))
}

/// A plan of steps, each with what it needs.
pub(crate) fn plan(steps: &[(&str, &[&str])]) -> Plan {
    let null = Json::null();
    let description = Description {
        name: "any".into(),
        version: "1.0.0".into(),
        summary: String::new(),
        input_schema: null.clone(),
        output_schema: null,
        wants: Vec::new(),
    };
    let component = Component { digest: Digest::of(b"any"), description, items: true };
    let plugin = Plugin { name: "any".into(), component, path: "/any.wasm".into(), signers: Vec::new() };
    let need = |name: &&str| Need {
        step: StepNo(steps.iter().position(|(step, _)| step == name).unwrap() as u32),
        state: NeedState::Succeeded,
    };
    let step = |(name, needs): &(&str, &[&str])| Step {
        name: (*name).into(),
        work: Work::Use(Box::new(Use {
            plugin: PluginId(0),
            with: Template::constant(no_inputs()),
            pool: None,
            limits: Limits::default(),
            grants: Grants::default(),
            places: Default::default(),
            cache: false,
        })),
        needs: needs.iter().map(need).collect(),
        always: false,
        join: Join::All,
        rest: Rest::Wait,
        when: None,
        retry: Retry { attempts: 3, delay_ms: 100, jitter: false, ..Retry::default() },
        timeout_ms: None,
        undo: None,
        undoes: None,
        priority: None,
        cancels: Vec::new(),
    };
    Plan::new("scripted", vec![plugin], steps.iter().map(step).collect())
}
