//! Pauses, live: what is asked reaches what is left of a step that is over, and the cache is asked anew after a pause.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Answers, Conductor, Ending, Order, Perform, PrepareError};
use downbeat_journal::{Journal, LogFilter, Request};
use downbeat_sandbox::{Ended, Observer};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, RunId, Timestamp, Usage};
use downbeat_workflow::plan::{Plan, StepId};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::house::{House, no_inputs, succeeded};
use super::scopes::plan;

fn pause(steps: &[&str]) -> Request {
    Request::Pause { steps: steps.iter().map(|step| (*step).to_owned()).collect(), reason: String::new() }
}

fn unpause(steps: &[&str]) -> Request {
    Request::Unpause { steps: steps.iter().map(|step| (*step).to_owned()).collect() }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_paused_step_that_is_over_can_be_let_go_on() {
    // The first item is enough; the second one has still a step to do when the pause comes.
    let toml = r#"
[steps.each]
foreach = { in = [1, 2], join = "any", rest = "wait" }
[steps.each.steps.sleep1]
when = "item == 1"
use = "any"
[steps.each.steps.sleep2]
when = "item == 2"
use = "any"
[steps.each.steps.more]
needs = ["sleep2"]
use = "any"
"#;
    let house = House::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let started = house.conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.journal.request(&run, pause(&["each"])).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = house.events(&run);
    let has_ended = |event: &Event| matches!(event, Event::StepSucceeded { step: StepId(0), .. });
    assert!(events.iter().any(has_ended), "the step is over: {events:?}");
    assert!(!house.started().contains(&"more#1".to_owned()), "and what is left of it is paused");
    house.journal.request(&run, unpause(&["each"])).unwrap();
    let ending = tokio::time::timeout(Duration::from_secs(60), started.ending()).await;
    assert_eq!(ending.expect("it comes to its end").unwrap(), Ending::Finished(Outcome::Succeeded));
    assert!(house.started().contains(&"more#1".to_owned()));
    serving.abort();
}

/// The key of a step, once it is told.
type Key = oneshot::Receiver<Result<Digest, String>>;

/// Says what the keys of its steps are, and lets `blocker` end, when it is told to.
#[derive(Clone, Default)]
struct Told {
    keys: Arc<Mutex<VecDeque<Key>>>,
    blocker: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Perform for Told {
    type Prepared = ();

    async fn prepare(&self, _: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn key(&self, (): &(), _: &Order) -> Result<downbeat_conductor::Key, String> {
        let next = self.keys.lock().unwrap().pop_front().expect("the test says so often what the key is");
        next.await.expect("the test says what the key is").map(downbeat_conductor::Key::from)
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        _: Arc<dyn Observer>,
        _: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let blocker = (order.plan.step(order.no).name == "blocker").then(|| self.blocker.lock().unwrap().take());
        if let Some(may_end) = blocker.flatten() {
            may_end.await.unwrap();
        }
        Ended { end: succeeded(), usage: Usage::default() }
    }
}

struct Cached {
    folder: TempDir,
    told: Told,
    journal: Journal,
    conductor: Conductor<Told>,
}

impl Cached {
    fn new() -> Cached {
        let (folder, told, journal) = (tempfile::tempdir().unwrap(), Told::default(), Journal::in_memory());
        let answers = Answers::at(folder.path().join("answers"));
        let clock = Clock::new(|| Timestamp(5));
        let conductor = Conductor::new(journal.clone(), told.clone(), Arc::new(()), clock).with_answers(answers);
        Cached { folder, told, journal, conductor }
    }

    /// What the next question for a key is answered with, once that is said.
    fn asked(&self) -> oneshot::Sender<Result<Digest, String>> {
        let (says, said) = oneshot::channel();
        self.told.keys.lock().unwrap().push_back(said);
        says
    }

    fn count(&self, run: &RunId, is_it: impl Fn(&Event) -> bool) -> usize {
        self.journal.load(run).unwrap().records.iter().filter(|record| is_it(&record.event)).count()
    }

    async fn until(&self, run: &RunId, count: usize, is_it: impl Fn(&Event) -> bool + Copy) {
        while self.count(run, is_it) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn paused_for_a_while(&self, run: &RunId) {
        self.journal.request(run, pause(&["a"])).unwrap();
        self.until(run, 1, |event| matches!(event, Event::Paused { .. })).await;
        self.journal.request(run, unpause(&["a"])).unwrap();
        self.until(run, 2, |event| matches!(event, Event::CacheAsked { .. })).await;
    }
}

#[tokio::test]
async fn what_the_cache_was_asked_before_a_pause_is_not_answered_after_it() {
    let house = Cached::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let (first, second) = (house.asked(), house.asked());
    let toml = "[steps.a]\nuse = \"any\"\ncache = true";
    let started = house.conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    house.until(&run, 1, |event| matches!(event, Event::CacheAsked { .. })).await;
    house.paused_for_a_while(&run).await;
    first.send(Err("it was looked at before the pause".to_owned())).unwrap();
    // All of it is on this thread: whoever takes that answer has done so by now.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        house.count(&run, |event| matches!(event, Event::AttemptStarted { .. })),
        0,
        "the second ask is not over"
    );
    let third = house.asked();
    second.send(Ok(Digest::of(b"key"))).unwrap();
    third.send(Ok(Digest::of(b"key"))).unwrap();
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert!(house.journal.load_log(&run, LogFilter::default()).unwrap().is_empty());
    assert_eq!(Answers::at(house.folder.path().join("answers")).list().unwrap().len(), 1);
    serving.abort();
}

#[tokio::test]
async fn an_answer_is_not_kept_under_a_key_that_was_found_before_a_pause() {
    let house = Cached::new();
    let serving = tokio::spawn(house.conductor.clone().serve_requests());
    let (may_end, blocker) = oneshot::channel();
    *house.told.blocker.lock().unwrap() = Some(blocker);
    let (first, second) = (house.asked(), house.asked());
    // Asked after the attempt, if it is to be kept.
    let third = house.asked();
    first.send(Ok(Digest::of(b"key"))).unwrap();
    second.send(Err("there is too much by now".to_owned())).unwrap();
    third.send(Ok(Digest::of(b"key"))).unwrap();
    let toml = r#"
pools.one = 1
[steps.blocker]
use = "any"
pool = "one"
[steps.a]
needs = ["blocker.started"]
use = "any"
cache = true
pool = "one"
"#;
    let started = house.conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = started.id().clone();
    let queued = |event: &Event| matches!(event, Event::AttemptQueued { step: StepId(1), .. });
    house.until(&run, 1, queued).await;
    house.paused_for_a_while(&run).await;
    house.until(&run, 2, queued).await;
    may_end.send(()).unwrap();
    assert_eq!(started.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(Answers::at(house.folder.path().join("answers")).list().unwrap().len(), 0, "nobody knows its key");
    serving.abort();
}
