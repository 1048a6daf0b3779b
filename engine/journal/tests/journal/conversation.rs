//! What every backend promises.

use downbeat_journal::{
    Append, AppendError, Horizon, Journal, LogFilter, LogLine, Mode, Position, ReadError, Request, RequestError,
    RunFilter, StateFilter,
};
use downbeat_workflow::capability::Protection;
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{
    Event, Failure, FailureKind, Interruption, NeedState, Origin, Outcome, Programs, Record, Refusal, RunId,
    SkipReason, StepEnd, Timestamp, Usage, Used,
};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{PoolId, StepId};

use crate::{append, at, create, created, finished, plan, run_id, started};

/// Holds the same conversation with a journal of each kind.
async fn with_each_backend(conversation: impl AsyncFn(Journal)) {
    conversation(Journal::in_memory()).await;
    let dir = tempfile::tempdir().unwrap();
    conversation(Journal::open(dir.path(), Mode::Drive).unwrap()).await;
}

fn used(what: &str, count: u64) -> Used {
    Used { capability: "process".to_owned(), what: what.to_owned(), grant: "git".to_owned(), count, unset: false }
}

/// One event of every variant, and of every variant inside it; adding one without a sample here does not compile.
fn one_of_each() -> Vec<Event> {
    let step = StepId(7);
    let json = |text: &str| Json::parse(text).unwrap();
    let usage = Usage {
        wall_us: 1,
        cpu_us: 2,
        process_cpu_us: 3,
        memory_peak: 4,
        bytes_in: 5,
        bytes_out: 6,
        log_bytes: 7,
        log_dropped: 8,
        table_elements_peak: u64::MAX,
        programs: Some(Box::new(Programs {
            memory_peak: 1,
            processes_peak: 2,
            unprotected: vec![Protection::Files, Protection::Network],
        })),
        refusals: [Refusal {
            capability: "files".to_owned(),
            wanted: "/etc/\"passwd\"\n".to_owned(),
            hint: "grant = { files = [\"/etc\"] }".to_owned(),
        }]
        .into(),
        used: [used("", 3), used("PATH", 1)].into(),
    };
    let failure = |kind| Failure {
        kind,
        message: "süß \u{0} 🎼".to_owned(),
        details: Some(json(r#"{"a": [1.50, null]}"#)),
        backtrace: Some("0: main\n1: start".to_owned()),
        retry_after_ms: Some(250),
    };
    let bare = Failure {
        kind: FailureKind::Trap,
        message: String::new(),
        details: None,
        backtrace: None,
        retry_after_ms: None,
    };
    let kinds = [
        FailureKind::InvalidInput,
        FailureKind::Transient,
        FailureKind::Permanent,
        FailureKind::Trap,
        FailureKind::TimedOut,
        FailureKind::Limit { limit: "memory".to_owned() },
        FailureKind::InvalidOutput,
        FailureKind::Host,
        FailureKind::Rule,
        FailureKind::Scope,
        FailureKind::Rejected,
    ];
    let mut reasons = vec![
        SkipReason::RuleFalse { rule: "a < b".to_owned(), saw: vec![("a".to_owned(), json("[]"))] },
        SkipReason::TooFewNeedsMet { possible: 1, least: 2, of: 3 },
        SkipReason::NotNeeded { by: StepId(2) },
        SkipReason::ScopeEnded { by: StepId(2) },
        SkipReason::ScopeCancelled,
        SkipReason::ScopeTimedOut,
        SkipReason::Asked { reason: "enough".to_owned() },
        SkipReason::RunCancelled,
        SkipReason::RunTimedOut,
    ];
    for (wanted, was) in [
        (NeedState::Succeeded, StepEnd::Failed),
        (NeedState::Failed, StepEnd::Succeeded),
        (NeedState::Skipped, StepEnd::Cancelled),
        (NeedState::Finished, StepEnd::Skipped),
    ] {
        reasons.push(SkipReason::NeedNotMet { need: StepId(1), wanted, was });
    }
    let origin = Box::new(Origin { run: RunId("old".into()), step: "a/b".to_owned(), at: Timestamp(7) });
    let mut events = vec![
        created("hello"),
        Event::AttemptQueued { step, attempt: 1, pool: PoolId(2) },
        Event::CacheAsked { step },
        Event::CacheHit {
            step,
            output: json(r#"{"a": "\u00e9"}"#),
            key: Digest::of(b"key"),
            origin: Box::new(Origin { run: RunId("r0".into()), step: "a[1]".to_owned(), at: Timestamp(3) }),
        },
        Event::AttemptStarted { step, attempt: u32::MAX },
        Event::AttemptSucceeded {
            step,
            attempt: 1,
            output: json(r#" {"a" : "\u00e9"} "#.trim()),
            usage: usage.clone(),
        },
        Event::AttemptSucceeded { step, attempt: 1, output: json("null"), usage: Usage::default() },
        Event::AttemptInterrupted { step, attempt: 1, cause: Interruption::Crash },
        Event::AttemptInterrupted { step, attempt: 1, cause: Interruption::Stop },
        Event::AttemptCancelled { step, attempt: 1, usage: usage.clone() },
        Event::StepCancelled { step },
        Event::StepFailed { step, failure: bare },
        Event::StepOpened { step },
        Event::ItemsAppended { step, from: 0, items: vec![json("1"), json("{}")] },
        Event::CapabilityUsed { step, attempt: 1, used: Box::new(used("git push", 1)) },
        Event::RunAdmitted,
        Event::WaitQueued { step, pool: PoolId(1) },
        Event::ScopeQueued { step, index: 7, pool: PoolId(1) },
        Event::StepReused { step, output: json("[1]"), items: vec![json("2")], origin },
        Event::Paused { step: None, reason: "lunch".to_owned() },
        Event::Paused { step: Some(step), reason: String::new() },
        Event::Unpaused { step: None },
        Event::Unpaused { step: Some(step) },
        Event::ScopeOpened { step, index: 99_999 },
        Event::ScopeTimedOut { step, index: 0 },
        Event::StepSucceeded { step, output: None },
        Event::StepSucceeded { step, output: Some(json(r#"{"by": "time"}"#)) },
        Event::SignalReceived { signal: "go".to_owned(), data: json("[1, 2]") },
        Event::ApprovalGiven { step, approved: true, by: "ann".to_owned(), note: String::new(), uid: None },
        Event::ApprovalGiven { step, approved: false, by: "bob".to_owned(), note: "no".to_owned(), uid: Some(1001) },
        Event::StepCancelRequested { step, reason: "enough".to_owned() },
        Event::CancelRequested { reason: "wrong commit".to_owned() },
        Event::RunTimedOut,
    ];
    events.extend(kinds.map(|kind| Event::AttemptFailed {
        step,
        attempt: 2,
        failure: failure(kind),
        usage: usage.clone(),
    }));
    events.extend(reasons.into_iter().map(|reason| Event::StepSkipped { step, reason }));
    events.push(Event::RunFinished {
        outcome: Outcome::TimedOut,
        outputs: json(r#"{"x": 1}"#),
        faults: vec!["y: no such step".to_owned()],
    });
    for event in &events {
        match event {
            Event::RunCreated { .. }
            | Event::AttemptQueued { .. }
            | Event::CacheAsked { .. }
            | Event::CacheHit { .. }
            | Event::AttemptStarted { .. }
            | Event::AttemptSucceeded { .. }
            | Event::AttemptFailed { .. }
            | Event::AttemptInterrupted { .. }
            | Event::AttemptCancelled { .. }
            | Event::StepCancelled { .. }
            | Event::StepFailed { .. }
            | Event::StepSkipped { .. }
            | Event::StepOpened { .. }
            | Event::RunAdmitted
            | Event::WaitQueued { .. }
            | Event::ScopeQueued { .. }
            | Event::ScopeOpened { .. }
            | Event::ScopeTimedOut { .. }
            | Event::StepSucceeded { .. }
            | Event::StepReused { .. }
            | Event::ItemsAppended { .. }
            | Event::CapabilityUsed { .. }
            | Event::Paused { .. }
            | Event::Unpaused { .. }
            | Event::SignalReceived { .. }
            | Event::ApprovalGiven { .. }
            | Event::StepCancelRequested { .. }
            | Event::CancelRequested { .. }
            | Event::RunTimedOut
            | Event::RunFinished { .. } => {}
        }
    }
    events
}

#[tokio::test]
async fn every_event_comes_back_as_it_went_in() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        let records: Vec<Record> = (1_000..).zip(one_of_each()).map(|(ms, event)| at(ms, event)).collect();
        let (digest, text) = plan();
        let first = downbeat_journal::Create { records: records[..3].to_vec(), ..create(&run, 0) };
        assert_eq!(journal.create(first).await.unwrap(), 3);
        let version = journal.append(append(&run, 3, records[3..].to_vec())).await.unwrap();
        assert_eq!(version, records.len() as u64);

        let loaded = journal.load(&run).unwrap();
        assert_eq!(loaded.plan, digest);
        assert_eq!(loaded.records, records);
        assert_eq!(journal.plan(&digest).unwrap(), &*text);

        let mut later = Vec::new();
        journal.replay(&run, 5, |record| later.push(record)).unwrap();
        assert_eq!(later, records[5..]);

        let tail = journal.tail(Position(0), usize::MAX).unwrap();
        assert_eq!(tail.iter().map(|entry| &entry.record).collect::<Vec<_>>(), records.iter().collect::<Vec<_>>());
        let rest = journal.tail(tail[9].position, 2).unwrap();
        assert_eq!(rest, tail[10..12]);
    })
    .await;
}

#[tokio::test]
async fn an_append_at_the_wrong_version_is_refused_and_leaves_nothing() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        journal.create(create(&run, 1)).await.unwrap();
        for wrong in [0, 2] {
            let error = journal.append(append(&run, wrong, vec![at(2, started(0))])).await.unwrap_err();
            assert!(matches!(error, AppendError::Conflict { actual: 1, expected, .. } if expected == wrong), "{error}");
        }
        let error = journal.create(create(&run, 1)).await.unwrap_err();
        assert!(matches!(error, AppendError::Conflict { expected: 0, actual: 1, .. }), "{error}");
        let error = journal.append(append(&run_id("r2"), 0, vec![])).await.unwrap_err();
        assert_eq!(error.to_string(), "the journal has no run r2");
        assert_eq!(journal.load(&run).unwrap().records.len(), 1);
        assert_eq!(journal.append(append(&run, 1, vec![at(2, started(0))])).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn appends_handed_in_without_waiting_keep_their_order_and_a_refused_one_fails_alone() {
    with_each_backend(async |journal| {
        let runs: Vec<RunId> = (0..20).map(|n| run_id(&format!("run-{n}"))).collect();
        let mut answers = Vec::new();
        for run in &runs {
            answers.push((journal.create(create(run, 0)), Some(1)));
        }
        for version in 1..50 {
            for run in &runs {
                let records = vec![at(version, started(version as u32))];
                answers.push((journal.append(append(run, version, records.clone())), Some(version + 1)));
                if version % 10 == 0 {
                    answers.push((journal.append(append(run, version, records)), None));
                }
            }
        }
        for (answer, expected) in answers {
            match (answer.await, expected) {
                (Ok(version), Some(expected)) => assert_eq!(version, expected),
                (Err(AppendError::Conflict { expected, actual, .. }), None) => assert_eq!(actual, expected + 1),
                (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
            }
        }
        for run in &runs {
            let times: Vec<u64> = journal.load(run).unwrap().records.iter().map(|record| record.at.0).collect();
            assert_eq!(times, (0..50).collect::<Vec<_>>());
        }
        let positions: Vec<u64> =
            journal.tail(Position(0), usize::MAX).unwrap().iter().map(|entry| entry.position.0).collect();
        assert_eq!(positions, (1..=1000).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn a_list_of_runs_tells_how_each_one_stands() {
    with_each_backend(async |journal| {
        let (ended, open, failed) = (run_id("a1-ended"), run_id("b2-open"), run_id("c3-failed"));
        journal.create(create(&ended, 10)).await.unwrap();
        journal
            .append(append(&ended, 1, vec![at(20, started(0)), at(30, finished(Outcome::Succeeded))]))
            .await
            .unwrap();
        journal.create(create(&open, 40)).await.unwrap();
        let mut other = create(&failed, 50);
        other.records = vec![at(50, created("other")), at(60, finished(Outcome::Failed))];
        journal.create(other).await.unwrap();

        let ids = |filter: RunFilter| -> Vec<String> {
            journal.runs(&filter).unwrap().iter().map(|run| run.id.to_string()).collect()
        };
        let state = |state| ids(RunFilter { state, ..RunFilter::default() });
        assert_eq!(state(StateFilter::Any), ["c3-failed", "b2-open", "a1-ended"]);
        assert_eq!(state(StateFilter::Open), ["b2-open"]);
        assert_eq!(state(StateFilter::Ended), ["c3-failed", "a1-ended"]);
        assert_eq!(state(StateFilter::EndedAs(Outcome::Failed)), ["c3-failed"]);
        assert_eq!(ids(RunFilter { workflow: Some("hello".into()), ..RunFilter::default() }), ["b2-open", "a1-ended"]);
        assert_eq!(ids(RunFilter { limit: Some(1), ..RunFilter::default() }), ["c3-failed"]);
        assert_eq!(journal.latest().unwrap().unwrap().id, failed);

        let summary = journal.summary(&ended).unwrap();
        assert_eq!((summary.workflow.as_str(), summary.plan), ("hello", plan().0));
        assert_eq!((summary.created, summary.last_event, summary.version), (Timestamp(10), Timestamp(30), 3));
        assert_eq!((summary.outcome, summary.finished), (Some(Outcome::Succeeded), Some(Timestamp(30))));
        assert!(matches!(journal.summary(&run_id("x")), Err(ReadError::NoSuchRun(_))));
    })
    .await;
}

#[tokio::test]
async fn a_run_is_found_by_any_unique_beginning_or_end_of_its_id() {
    with_each_backend(async |journal| {
        assert!(journal.latest().unwrap().is_none());
        for id in ["2026-fox", "2026-owl", "fox", "2027-a%l"] {
            journal.create(create(&run_id(id), 1)).await.unwrap();
        }
        let found = |text: &str| journal.find(text).map(|run| run.to_string()).map_err(|error| error.to_string());
        assert_eq!(found("2026-f").unwrap(), "2026-fox");
        assert_eq!(found("owl").unwrap(), "2026-owl");
        assert_eq!(found("fox").unwrap(), "fox", "an exact id wins");
        assert_eq!(found("a%l").unwrap(), "2027-a%l", "nothing is a wildcard");
        assert_eq!(found("2026").unwrap_err(), "several runs' ids begin or end with `2026`: 2026-owl, 2026-fox");
        assert_eq!(found("cat").unwrap_err(), "no run's id begins or ends with `cat`");
        assert_eq!(found("").unwrap_err(), "no run's id begins or ends with ``");
    })
    .await;
}

#[tokio::test]
async fn log_lines_are_durable_with_the_append_that_follows_them() {
    with_each_backend(async |journal| {
        let line = |step, message: &str| LogLine {
            step: StepId(step),
            attempt: 1,
            at: Timestamp(5),
            level: Level::Info,
            message: message.to_owned(),
        };
        let run = run_id("r1");
        journal.create(create(&run, 1)).await.unwrap();
        journal.append_log(&run, vec![line(0, "a"), line(1, "b")]);
        journal.append_log(&run, vec![line(0, "c")]);
        journal.append(append(&run, 1, vec![at(2, started(0))])).await.unwrap();
        let messages = |filter| -> Vec<String> {
            journal.load_log(&run, filter).unwrap().into_iter().map(|(_, line)| line.message).collect()
        };
        let all = journal.load_log(&run, LogFilter::default()).unwrap();
        assert_eq!(all[1].1, line(1, "b"));
        assert_eq!(messages(LogFilter::default()), ["a", "b", "c"]);
        assert_eq!(messages(LogFilter { step: Some(StepId(0)), after: 0 }), ["a", "c"]);
        assert_eq!(messages(LogFilter { step: None, after: all[0].0 }), ["b", "c"]);
    })
    .await;
}

#[tokio::test]
async fn log_lines_without_an_append_are_kept_all_the_same() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        journal.create(create(&run, 1)).await.unwrap();
        let mut horizon = journal.horizon().unwrap();
        let (step, level) = (StepId(0), Level::Error);
        journal.append_log(&run, vec![LogLine { step, attempt: 1, at: Timestamp(5), level, message: "a".into() }]);
        let reached: Horizon = *horizon.wait_for(|horizon| horizon.line > 0).await.unwrap();
        assert_eq!(reached.line, 1);
        assert_eq!(journal.load_log(&run, LogFilter::default()).unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_until_it_is_answered_and_comes_once() {
    with_each_backend(async |journal| {
        let (one, two) = (run_id("one"), run_id("two"));
        journal.create(create(&one, 1)).await.unwrap();
        journal.create(create(&two, 1)).await.unwrap();
        let cancel = |reason: &str| Request::Cancel { reason: reason.to_owned() };
        let first = journal.request(&one, cancel("a")).unwrap();
        let second = journal.request(&two, cancel("b")).unwrap();

        let mut inbox = journal.inbox().unwrap();
        let taken = inbox.next().await.unwrap();
        assert_eq!(
            taken.iter().map(|pending| (pending.id, &pending.run)).collect::<Vec<_>>(),
            [(first, &one), (second, &two)]
        );
        assert_eq!(taken[0].request, cancel("a"));
        assert_eq!(journal.requests(&one).unwrap().len(), 1, "taking is not answering");

        let answer = |run: &RunId, answers| {
            let records = vec![at(2, Event::CancelRequested { reason: "a".to_owned() })];
            Append { run: run.clone(), expected: 1, records, answers }
        };
        journal.append(answer(&one, vec![first, second])).await.unwrap();
        assert!(journal.requests(&one).unwrap().is_empty());
        assert_eq!(journal.requests(&two).unwrap().len(), 1, "an answer is to requests of its own run");

        let third = journal.request(&one, cancel("c")).unwrap();
        assert_eq!(inbox.next().await.unwrap().iter().map(|pending| pending.id).collect::<Vec<_>>(), [third]);

        journal.append(append(&one, 2, vec![at(3, finished(Outcome::Cancelled))])).await.unwrap();
        assert!(journal.requests(&one).unwrap().is_empty(), "nothing can be asked of a run that has ended");
        let error = journal.request(&one, cancel("d")).unwrap_err();
        assert!(matches!(error, RequestError::Ended { outcome: Outcome::Cancelled, .. }), "{error}");
        let error = journal.request(&run_id("none"), cancel("e")).unwrap_err();
        assert_eq!(error.to_string(), "the journal has no run none");
    })
    .await;
}

#[tokio::test]
async fn a_refused_append_answers_no_request() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        journal.create(create(&run, 1)).await.unwrap();
        let id = journal.request(&run, Request::Cancel { reason: "a".to_owned() }).unwrap();
        let answer = Append { answers: vec![id], ..append(&run, 7, vec![]) };
        journal.append(answer).await.unwrap_err();
        assert_eq!(journal.requests(&run).unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_horizon_moves_with_every_commit() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        let mut horizon = journal.horizon().unwrap();
        let version = journal.create(create(&run, 1)).await.unwrap();
        horizon.wait_for(|horizon| horizon.event == Position(1)).await.unwrap();
        journal.append(append(&run, version, vec![at(2, started(0)), at(3, started(1))])).await.unwrap();
        horizon.wait_for(|horizon| horizon.event == Position(3)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_run_and_its_log_are_read_by_pages() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    journal.create(create(&run, 1)).await.unwrap();
    let line = |n: u64| LogLine {
        step: StepId(0),
        attempt: 1,
        at: Timestamp(n),
        level: Level::Info,
        message: format!("line {n}"),
    };
    journal.append_log(&run, (0..10).map(line).collect());
    journal.append(append(&run, 1, (0..10).map(|step| at(2, started(step))).collect())).await.unwrap();
    for bytes in [0, 1, 100, 10_000] {
        let mut records = Vec::new();
        let mut pages = 0;
        loop {
            let page = journal.records_page(&run, records.len() as u64, bytes).unwrap();
            if page.is_empty() {
                break;
            }
            pages += 1;
            records.extend(page);
        }
        assert_eq!(records, journal.load(&run).unwrap().records, "{bytes}");
        assert_eq!(pages == 1, bytes == 10_000, "{bytes} bytes: {pages} pages");
        let (mut lines, mut after) = (Vec::new(), 0);
        loop {
            let page = journal.log_page(&run, LogFilter { step: None, after }, bytes).unwrap();
            let Some((position, _)) = page.last() else { break };
            after = *position;
            lines.extend(page);
        }
        assert_eq!(lines, journal.load_log(&run, LogFilter::default()).unwrap(), "{bytes}");
    }
}

#[tokio::test]
async fn records_keep_the_order_of_their_appends_whatever_their_times() {
    with_each_backend(async |journal| {
        let run = run_id("r1");
        journal.create(create(&run, 900)).await.unwrap();
        journal.append(append(&run, 1, vec![at(5, started(0)), at(7, started(1))])).await.unwrap();
        journal.append(append(&run, 3, vec![at(6, started(2)), at(0, started(3))])).await.unwrap();
        let loaded: Vec<u64> = journal.load(&run).unwrap().records.iter().map(|record| record.at.0).collect();
        let tailed: Vec<u64> = journal.tail(Position(0), 10).unwrap().iter().map(|entry| entry.record.at.0).collect();
        assert_eq!(loaded, [900, 5, 7, 6, 0]);
        assert_eq!(tailed, loaded);
    })
    .await;
}
