//! Answers that are kept, live: a second run takes what the first one kept, a crash while the cache is asked loses nothing,
//! and what changed under an attempt is not kept.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use downbeat_conductor::answers::Found;
use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Answers, Conductor, Ending, Key, Order, Perform, PrepareError};
use downbeat_journal::{Append, Journal, LogFilter, Mode};
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, Pool, PoolId, StepId, Work};
use tempfile::TempDir;

use super::house::{no_inputs, plan};

/// Answers how many attempts there were; the keys of its steps are their names and what `world` holds.
#[derive(Clone, Default)]
struct Counting {
    attempts: Arc<AtomicUsize>,
    world: Arc<Mutex<String>>,
    /// Steps whose attempts change the world.
    changing: bool,
    /// Steps whose attempts change the world and change it back.
    tracing: bool,
}

impl Perform for Counting {
    type Prepared = ();

    async fn prepare(&self, _: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn key(&self, (): &(), order: &Order) -> Result<Key, String> {
        let name = order.plan.step(order.no).name.clone();
        match name.as_str() {
            "blind" => Err("there is too much".to_owned()),
            _ => {
                let digest = Digest::of(format!("{name} {}", self.world.lock().unwrap()).as_bytes());
                let changes = if self.tracing { self.attempts.load(Ordering::SeqCst) } else { 0 };
                Ok(Key { digest, trace: Some(Digest::of(&changes.to_be_bytes())) })
            }
        }
    }

    async fn perform(
        &self,
        (): &(),
        _: Order,
        _: Arc<dyn Observer>,
        _: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let count = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.changing {
            self.world.lock().unwrap().push('.');
        }
        Ended { end: End::Succeeded(Json::from(serde_json::json!(count))), usage: Usage::default() }
    }
}

struct House {
    folder: TempDir,
    counting: Counting,
    journal: Journal,
}

impl House {
    fn new() -> House {
        House::with(Counting::default())
    }

    fn with(counting: Counting) -> House {
        House { folder: tempfile::tempdir().unwrap(), counting, journal: Journal::in_memory() }
    }

    fn answers(&self) -> Answers {
        Answers::at(self.folder.path().join("answers"))
    }

    fn conductor(&self) -> Conductor<Counting> {
        let clock = Clock::new(|| Timestamp(5));
        Conductor::new(self.journal.clone(), self.counting.clone(), Arc::new(()), clock).with_answers(self.answers())
    }

    async fn run(&self, plan: &Plan) -> RunId {
        let handle = self.conductor().start(Arc::new(plan.clone()), no_inputs()).await.unwrap();
        let run = handle.id().clone();
        assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
        run
    }

    fn events(&self, run: &RunId) -> Vec<Event> {
        self.journal.load(run).unwrap().records.into_iter().map(|record| record.event).collect()
    }

    fn hits(&self, run: &RunId) -> Vec<(StepId, Json, RunId)> {
        let hit = |event: Event| match event {
            Event::CacheHit { step, output, origin, .. } => Some((step, output, origin.run.clone())),
            _ => None,
        };
        self.events(run).into_iter().filter_map(hit).collect()
    }

    fn attempts(&self) -> usize {
        self.counting.attempts.load(Ordering::SeqCst)
    }
}

/// The steps are cached, all of them.
fn cached(steps: &[(&str, &[&str])]) -> Plan {
    let mut plan = plan(steps);
    for step in &mut plan.steps {
        if let Work::Use(uses) = &mut step.work {
            uses.cache = true;
        }
    }
    plan.link()
}

#[tokio::test]
async fn the_second_run_takes_what_the_first_one_kept() {
    let house = House::new();
    let plan = cached(&[("a", &[]), ("b", &["a"])]);
    let first = house.run(&plan).await;
    assert_eq!((house.attempts(), house.hits(&first).len()), (2, 0));
    let second = house.run(&plan).await;
    let one = |count: i32| Json::from(serde_json::json!(count));
    let hits = vec![(StepId(0), one(1), first.clone()), (StepId(1), one(2), first)];
    assert_eq!((house.attempts(), house.hits(&second)), (2, hits));
    assert!(!house.events(&second).iter().any(|event| matches!(event, Event::AttemptStarted { .. })));
}

#[tokio::test]
async fn a_hit_takes_no_place_in_the_pool_that_a_miss_waits_for() {
    let house = House::new();
    let mut plan = cached(&[("a", &[])]);
    plan.pools = vec![Pool { name: "one".into(), size: 1, rate: None }];
    if let Work::Use(uses) = &mut plan.steps[0].work {
        uses.pool = Some(PoolId(0));
    }
    let plan = plan.link();
    let queued = |run: &RunId| house.events(run).iter().any(|event| matches!(event, Event::AttemptQueued { .. }));
    let first = house.run(&plan).await;
    assert!(queued(&first));
    let second = house.run(&plan).await;
    assert!(!queued(&second) && house.hits(&second).len() == 1);
}

#[tokio::test]
async fn what_an_answer_depends_on_may_not_change_under_its_attempt() {
    let house = House::with(Counting { changing: true, ..Counting::default() });
    let plan = cached(&[("a", &[])]);
    house.run(&plan).await;
    assert_eq!(house.answers().list().unwrap().len(), 0, "nobody knows what it saw");
    // Nor if it is the same again by its end.
    let house = House::with(Counting { tracing: true, ..Counting::default() });
    house.run(&plan).await;
    assert_eq!(house.answers().list().unwrap().len(), 0, "nobody knows what it saw in between");
}

#[tokio::test]
async fn what_can_not_be_looked_through_is_executed_and_its_log_says_so() {
    let house = House::new();
    let plan = cached(&[("blind", &[])]);
    for _ in 0..2 {
        let run = house.run(&plan).await;
        let log = house.journal.load_log(&run, LogFilter::default()).unwrap();
        assert_eq!(log[0].1.message, "the cache is not asked: there is too much");
    }
    assert_eq!(house.attempts(), 2);
}

#[tokio::test]
async fn without_a_cache_such_steps_are_executed_like_all_others() {
    let house = House::new();
    let plan = cached(&[("a", &[])]);
    house.run(&plan).await;
    let clock = Clock::new(|| Timestamp(5));
    let conductor = Conductor::new(house.journal.clone(), house.counting.clone(), Arc::new(()), clock);
    let handle = conductor.start(Arc::new(plan), no_inputs()).await.unwrap();
    let run = handle.id().clone();
    handle.ending().await.unwrap();
    assert_eq!((house.attempts(), house.hits(&run).len()), (2, 0));
    assert!(!house.events(&run).iter().any(|event| matches!(event, Event::CacheAsked { .. })));
}

/// A run that stopped after so many of these records, taken up again.
async fn resumed(house: &House, plan: &Plan, whole: &[Record], records: usize, id: &str) -> RunId {
    let run = RunId(id.into());
    let (text, digest) = plan.to_json();
    let (first, rest) = whole[..records].split_at(1);
    let create = downbeat_journal::Create { run: run.clone(), plan: digest, plan_json: text, records: first.to_vec() };
    house.journal.create(create).await.unwrap();
    let append = Append { run: run.clone(), expected: 1, records: rest.to_vec(), answers: Vec::new() };
    house.journal.append(append).await.unwrap();
    let handle = house.conductor().resume(&run).await.unwrap();
    assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    run
}

#[tokio::test]
async fn an_engine_that_died_after_any_record_comes_to_the_same_answers() {
    let house = House::new();
    let plan = cached(&[("a", &[]), ("b", &["a"])]);
    let first = house.run(&plan).await;
    for (which, run) in [("miss", first.clone()), ("hit", house.run(&plan).await)] {
        let whole = house.journal.load(&run).unwrap().records;
        for records in 1..whole.len() {
            let again = resumed(&house, &plan, &whole, records, &format!("{which}-{records}")).await;
            let ends: Vec<Json> = house
                .events(&again)
                .into_iter()
                .filter_map(|event| match event {
                    Event::AttemptSucceeded { output, .. } | Event::CacheHit { output, .. } => Some(output),
                    _ => None,
                })
                .collect();
            assert_eq!(ends.iter().map(Json::as_str).collect::<Vec<_>>(), ["1", "2"], "{which} {records}");
        }
    }
    assert_eq!(house.attempts(), 2, "what was lost with an engine is answered by the cache");
}

#[tokio::test]
async fn an_answer_is_kept_as_soon_as_its_record_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), Mode::Drive).unwrap();
    let house = House { journal, ..House::new() };
    let plan = cached(&[("a", &[])]);
    let run = house.run(&plan).await;
    let kept = house.answers().list().unwrap();
    assert_eq!(kept.len(), 1, "written before the run was over");
    let Found::Hit(entry) = house.answers().peek(&kept[0].key) else { panic!("it is whole") };
    assert_eq!((entry.origin.run, entry.origin.step.as_str()), (run, "a"));
}
