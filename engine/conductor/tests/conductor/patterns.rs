//! The workflow patterns, live: what the table plays in virtual time is driven here by a conductor over a journal on the disk,
//! and the same must come out, each record at its time. Time stands still until all records of a moment are durable and
//! what they started is under way; then it goes on to the next moment that the play knows.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Order, Perform, PrepareError};
use downbeat_journal::{Journal, Mode, Request};
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::event::{Event, FailureKind, Record, RunId, Timestamp, Usage};
use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::run::Run;
use tokio::sync::watch;

use crate::house::{failed, succeeded};
use crate::play::{Play, told};
use crate::table::{Pattern, patterns};

/// How long nothing may become durable before it is a failure: far longer than a disk takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends attempts as a pattern's script says, and counts those that have begun.
#[derive(Clone)]
struct Cast {
    ends: Arc<HashMap<String, Vec<String>>>,
    begun: Arc<watch::Sender<usize>>,
}

impl Perform for Cast {
    type Prepared = ();

    async fn prepare(&self, _plan: &Arc<Plan>) -> Result<(), PrepareError> {
        Ok(())
    }

    async fn perform(
        &self,
        (): &(),
        order: Order,
        observer: Arc<dyn Observer>,
        cancelled: impl Future<Output = ()> + Send + 'static,
    ) -> Ended {
        let name = &order.plan.step(order.no).name;
        let ends = self.ends.get(order.path.as_ref().unwrap_or(name)).or_else(|| self.ends.get(name));
        let end = ends.map_or("ok", |ends| &ends[(order.attempt as usize - 1).min(ends.len() - 1)]);
        let (end, took) = end.split_once('@').unwrap_or((end, "0"));
        let begin = tokio::time::Instant::now();
        let after = move |ms: &str| tokio::time::sleep_until(begin + Duration::from_millis(ms.parse().unwrap()));
        let appends = self.ends.get(&format!("items {}", order.path.as_ref().unwrap_or(name)));
        let over = async {
            let mut from = 0;
            for append in appends.into_iter().flatten() {
                let (items, ms) = append.rsplit_once('@').unwrap();
                let items = Json::parse(items).unwrap().value();
                let items: Vec<Json> = items.as_array().unwrap().iter().cloned().map(Json::from).collect();
                let count = items.len() as u32;
                after(ms).await;
                observer.items(from, items).await;
                from += count;
            }
            after(took).await;
        };
        self.begun.send_modify(|begun| *begun += 1);
        let end = tokio::select! {
            biased;
            () = over => match end.split_once('=') {
                Some(("ok", output)) => End::Succeeded(Json::parse(output).unwrap()),
                _ if end == "ok" => succeeded(),
                _ => failed(FailureKind::Permanent),
            },
            () = cancelled => End::Cancelled,
        };
        Ended { end, usage: Usage::default() }
    }
}

/// What a line of a script asks of a run; `None` if it is about attempts.
fn request(line: &str) -> Option<Request> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (step, reason) = (rest.to_owned(), "enough".to_owned());
    let answer = |step, approved| Request::Answer { step, approved, by: "ann".into(), note: String::new(), uid: None };
    Some(match word {
        "cancel" if rest.is_empty() => Request::Cancel { reason },
        "cancel" => Request::CancelStep { step, reason },
        "signal" => Request::Signal { signal: step, data: Json::parse("1").unwrap() },
        "approve" => answer(step, true),
        "reject" => answer(step, false),
        _ => return None,
    })
}

/// The lines of a run, those of a moment in the order of the alphabet: what happens at once may be recorded in any.
fn lines(plan: &Arc<Plan>, run: &RunId, records: &[Record]) -> Vec<String> {
    let mut replayed = Run::new(plan.clone(), run.clone());
    let mut lines = Vec::new();
    for record in records {
        replayed.apply(record).unwrap();
        lines.extend(told(&replayed, &record.event).map(|text| (record.at, text)));
    }
    lines.sort();
    lines.into_iter().map(|(at, text)| format!("{} {text}", at.0)).collect()
}

/// Drives a pattern over a journal, and returns its records.
async fn drive(pattern: &Pattern, journal: &Journal, patience: &mut watch::Receiver<bool>) -> (RunId, Vec<Record>) {
    let script = pattern.script();
    let play = Play::of(&pattern.plan, &script, None);
    let ends = script.iter().map(|(who, ends)| ((*who).to_owned(), ends.split(' ').map(str::to_owned).collect()));
    let cast = Cast { ends: Arc::new(ends.collect()), begun: Arc::new(watch::Sender::new(0)) };
    let mut begun = cast.begun.subscribe();
    let start = tokio::time::Instant::now();
    let clock = Clock::new(move || Timestamp(start.elapsed().as_millis() as u64));
    let conductor = Conductor::new(journal.clone(), cast, Arc::new(()), clock);
    let serving = tokio::spawn(conductor.clone().serve_requests());
    let mut horizon = journal.horizon().unwrap();
    let before = horizon.borrow().event.0;

    let given = inputs::accept(&pattern.plan, serde_json::Map::new()).unwrap();
    let handle = conductor.start(pattern.plan.clone(), given).await.unwrap();
    let run = handle.id().clone();
    let moments: BTreeSet<Timestamp> = play.records.iter().map(|record| record.at).collect();
    for at in moments {
        tokio::time::advance(Duration::from_millis(at.0) - start.elapsed()).await;
        for (line, times) in &script {
            let times = times.split(' ').filter(|time| time.trim_start_matches('@') == at.0.to_string());
            for request in times.filter_map(|_| request(line)) {
                journal.request(&run, request).unwrap();
            }
        }
        let known = play.records.iter().take_while(|record| record.at <= at);
        let starts = known.clone().filter(|record| matches!(record.event, Event::AttemptStarted { .. })).count();
        let records = before + known.count() as u64;
        let settled = async {
            horizon.wait_for(|horizon| horizon.event.0 >= records).await.unwrap();
            begun.wait_for(|begun| *begun >= starts).await.unwrap();
        };
        tokio::select! {
            () = settled => (),
            _ = patience.wait_for(|is_over| *is_over) => {
                let found = lines(&pattern.plan, &run, &journal.load(&run).unwrap().records);
                panic!("{}: nothing more happens at {}: {found:#?}", pattern.folder, at.0);
            }
        }
    }
    let ending = handle.ending().await.unwrap();
    assert_eq!(ending, Ending::Finished(play.outcome().unwrap()), "{}", pattern.folder);
    serving.abort();
    (run.clone(), journal.load(&run).unwrap().records)
}

#[tokio::test(start_paused = true)]
async fn a_conductor_over_a_journal_on_the_disk_does_what_every_pattern_plays() {
    // While a blocking task runs, time goes on only when it is told to. This one also ends a wait for what never comes.
    let (over, mut patience) = watch::channel(false);
    let (alive, watched) = mpsc::channel::<()>();
    let watchdog = tokio::task::spawn_blocking(move || {
        loop {
            match watched.recv_timeout(PATIENCE) {
                Ok(()) => (),
                Err(RecvTimeoutError::Timeout) => {
                    over.send_replace(true);
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    for pattern in patterns() {
        let (run, records) = drive(&pattern, &journal, &mut patience).await;
        let mut expected: Vec<(u64, String)> = pattern
            .expected()
            .lines()
            .map(|line| line.split_once(' ').map(|(at, text)| (at.parse().unwrap(), text.to_owned())).unwrap())
            .collect();
        expected.sort();
        let expected: Vec<String> = expected.into_iter().map(|(at, text)| format!("{at} {text}")).collect();
        assert_eq!(lines(&pattern.plan, &run, &records), expected, "{}", pattern.folder);
        alive.send(()).unwrap();
    }
    drop(alive);
    watchdog.await.unwrap();
}
