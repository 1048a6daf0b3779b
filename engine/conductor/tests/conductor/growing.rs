//! Lists that grow, live: what an attempt appends is durable before it goes on, and before anything is done for it.

use std::future::Future;
use std::sync::{Arc, Mutex};

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Order, Perform, PrepareError};
use downbeat_journal::Journal;
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::event::{Event, FailureKind, Outcome, RunId, Timestamp, Usage};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;

use super::house::{failed, no_inputs, succeeded};
use super::scopes::plan;

/// `scan` appends three items, one after the other, and looks after each what is in the journal; its first attempt fails after
/// two.
#[derive(Clone)]
struct Appends {
    journal: Journal,
    /// How many items the journal had after each call.
    kept: Arc<Mutex<Vec<usize>>>,
}

fn items(journal: &Journal, run: &RunId) -> usize {
    let records = journal.load(run).unwrap().records;
    let count = |event: &Event| if let Event::ItemsAppended { items, .. } = event { items.len() } else { 0 };
    records.iter().map(|record| count(&record.event)).sum()
}

impl Perform for Appends {
    type Prepared = ();

    async fn prepare(&self, _plan: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        observer: Arc<dyn Observer>,
        _cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let usage = Usage::default();
        if order.plan.step(order.no).name != "scan" {
            return Ended { end: End::Succeeded(order.input), usage };
        }
        for item in 0..3 {
            if item == 2 && order.attempt == 1 {
                return Ended { end: failed(FailureKind::Transient), usage };
            }
            observer.items(item, vec![Json::from(serde_json::json!(item * 10))]).await;
            self.kept.lock().unwrap().push(items(&self.journal, &order.run));
        }
        Ended { end: succeeded(), usage }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_durable_before_the_step_goes_on_and_never_twice() {
    let toml = r#"
        [steps.scan]
        use = "any"
        retry = { attempts = 2 }
        [steps.each]
        needs = ["scan.started"]
        foreach = "${steps.scan.items}"
        use = "any"
        with = { item = "${item}" }
        [outputs]
        all = "${steps.each.output}"
    "#;
    let journal = Journal::in_memory();
    let appends = Appends { journal: journal.clone(), kept: Arc::default() };
    let start = tokio::time::Instant::now();
    let clock = Clock::new(move || Timestamp(start.elapsed().as_millis() as u64));
    let conductor = Conductor::new(journal.clone(), appends.clone(), Arc::new(()), clock);
    let handle = conductor.start(Arc::new(plan(toml)), no_inputs()).await.unwrap();
    let run = handle.id().clone();
    assert_eq!(handle.ending().await.unwrap(), Ending::Finished(Outcome::Succeeded));
    assert_eq!(*appends.kept.lock().unwrap(), [1, 2, 2, 2, 3]);
    let last = journal.load(&run).unwrap().records.pop().unwrap();
    let Event::RunFinished { outputs, .. } = last.event else { panic!("{last:?}") };
    assert_eq!(outputs.as_str(), r#"{"all":[{"item":0},{"item":10},{"item":20}]}"#);
}
