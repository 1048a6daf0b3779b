//! Runs that are deleted: what goes, what stays, and that positions and readers go on.

use std::collections::HashSet;
use std::path::Path;

use downbeat_journal::{
    AppendError, Create, DeleteError, Deletion, Journal, LogFilter, LogLine, Mode, Position, ReadError, Request,
    RunFilter,
};
use downbeat_workflow::event::{Outcome, RunId, Timestamp};
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::StepId;

use crate::{append, at, create, finished, plan, run_id, started};

/// A run that succeeded: three records and a line.
fn over(journal: &Journal, id: &str) -> RunId {
    let run = run_id(id);
    journal.create(create(&run, 10)).wait().unwrap();
    journal.append_log(&run, vec![line(id)]);
    let records = vec![at(11, started(0)), at(12, finished(Outcome::Succeeded))];
    assert_eq!(journal.append(append(&run, 1, records)).wait(), Ok(3));
    run
}

fn line(message: &str) -> LogLine {
    LogLine { step: StepId(0), attempt: 1, at: Timestamp(11), level: Level::Info, message: message.to_owned() }
}

fn deletion(runs: &[&RunId]) -> Deletion {
    Deletion { runs: runs.iter().map(|run| (*run).clone()).collect(), at: Timestamp(99), by: "ann".to_owned() }
}

fn ids(journal: &Journal) -> Vec<String> {
    journal.runs(&RunFilter::default()).unwrap().iter().map(|run| run.id.to_string()).collect()
}

fn with_each_backend(conversation: impl Fn(&Journal)) {
    conversation(&Journal::in_memory());
    let dir = tempfile::tempdir().unwrap();
    conversation(&Journal::open(dir.path(), Mode::Drive).unwrap());
}

#[test]
fn a_deleted_run_is_gone_and_all_others_are_as_they_were() {
    with_each_backend(|journal| {
        let [a, b, c] = ["a", "b", "c"].map(|id| over(journal, id));
        let deleted = journal.delete(deletion(&[&a, &c])).unwrap();
        let told: Vec<_> = deleted.iter().map(|run| (&*run.run.0, run.records, run.lines, &*run.by)).collect();
        assert_eq!(told, [("a", 3, 1, "ann"), ("c", 3, 1, "ann")]);
        assert_eq!(
            (deleted[0].created, deleted[0].finished, deleted[0].at),
            (Timestamp(10), Timestamp(12), Timestamp(99))
        );
        let last_first: Vec<_> = deleted.iter().rev().cloned().collect();
        assert_eq!(journal.deleted(9).unwrap(), last_first);
        assert_eq!(journal.deleted(1).unwrap(), last_first[..1]);

        assert_eq!(ids(journal), ["b"]);
        assert!(matches!(journal.load(&a), Err(ReadError::NoSuchRun(_))));
        assert!(matches!(journal.load_log(&c, LogFilter::default()), Err(ReadError::NoSuchRun(_))));
        assert!(matches!(journal.find("a"), Err(ReadError::NoMatch(_))));
        assert_eq!(journal.append(append(&a, 3, Vec::new())).wait(), Err(AppendError::NoSuchRun(a.clone())));
        assert_eq!(
            (journal.load(&b).unwrap().records.len(), journal.load_log(&b, LogFilter::default()).unwrap().len()),
            (3, 1)
        );
        assert_eq!(journal.plan(&plan().0).unwrap(), &*plan().1, "b keeps it");

        let entries = journal.tail(Position(0), 99).unwrap();
        let places: Vec<_> = entries.iter().map(|entry| (entry.position.0, &*entry.run.0)).collect();
        assert_eq!(places, [(4, "b"), (5, "b"), (6, "b")]);
        // An id that is free again is a new run's.
        over(journal, "a");
        assert_eq!(ids(journal), ["a", "b"]);
        assert_eq!(journal.tail(Position(9), 1).unwrap()[0].position, Position(10), "places are not given out again");
    });
}

#[test]
fn nothing_is_deleted_if_one_of_the_runs_is_not_over_or_not_there() {
    with_each_backend(|journal| {
        let a = over(journal, "a");
        let open = run_id("open");
        journal.create(create(&open, 20)).wait().unwrap();
        assert_eq!(journal.delete(deletion(&[&a, &open])), Err(DeleteError::NotOver(open.clone())));
        let gone = run_id("gone");
        assert_eq!(journal.delete(deletion(&[&a, &gone])), Err(DeleteError::NoSuchRun(gone)));
        assert_eq!((ids(journal), journal.deleted(9).unwrap()), (vec!["open".to_owned(), "a".to_owned()], vec![]));
    });
}

#[test]
fn a_plan_goes_with_the_last_run_that_keeps_it() {
    with_each_backend(|journal| {
        let [a, b] = ["a", "b"].map(|id| over(journal, id));
        journal.delete(deletion(&[&a])).unwrap();
        assert_eq!(journal.tidy().unwrap().plans, 0);
        journal.delete(deletion(&[&b])).unwrap();
        assert!(journal.plan(&plan().0).is_ok(), "what a process leaves that dies here");
        assert_eq!(journal.tidy().unwrap().plans, 1);
        assert!(matches!(journal.plan(&plan().0), Err(ReadError::NoSuchPlan(_))));
        // Nothing is remembered of it.
        over(journal, "c");
        assert_eq!(journal.plan(&plan().0).unwrap(), &*plan().1);
    });
}

#[test]
fn all_texts_are_told_but_those_of_some_runs() {
    with_each_backend(|journal| {
        let [a, _b] = ["log of a", "log of b"].map(|id| over(journal, id));
        let open = run_id("open");
        journal.create(create(&open, 20)).wait().unwrap();
        journal.request(&open, Request::Cancel { reason: "enough".to_owned() }).unwrap();
        let all = |but: &[&RunId]| {
            let mut all = String::new();
            let but: HashSet<RunId> = but.iter().map(|run| (*run).clone()).collect();
            journal.texts(&but, &mut |text| all.push_str(text)).unwrap();
            ["log of a", "log of b", "enough", "attempt-started", &plan().1].map(|text| all.contains(text))
        };
        assert_eq!(all(&[]), [true; 5]);
        assert_eq!(all(&[&a, &open]), [false, true, false, true, true]);
    });
}

#[test]
fn positions_go_on_after_the_newest_runs_were_deleted_also_for_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let follower = Journal::open(dir.path(), Mode::Observe).unwrap();
    let [a, b] = ["a", "b"].map(|id| over(&journal, id));
    let reached = *follower.horizon().unwrap().borrow();
    assert_eq!((reached.event, reached.line), (Position(6), 2));
    journal.delete(deletion(&[&a, &b])).unwrap();
    drop(journal);

    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let fresh = Journal::open(dir.path(), Mode::Observe).unwrap();
    assert_eq!(*fresh.horizon().unwrap().borrow(), reached, "no part of it goes back");
    let c = over(&journal, "c");
    let after: Vec<_> = follower.tail(reached.event, 9).unwrap().iter().map(|entry| entry.position.0).collect();
    assert_eq!(after, [7, 8, 9], "who followed goes on");
    assert_eq!(follower.load_log(&c, LogFilter::default()).unwrap()[0].0, 3);
    assert!(matches!(follower.records_page(&a, 1, 9), Err(ReadError::NoSuchRun(_))));
}

#[test]
fn a_run_that_was_recorded_elsewhere_comes_with_its_log_and_may_have_been_here_before() {
    with_each_backend(|journal| {
        let a = over(journal, "a");
        let (records, lines) = (journal.load(&a).unwrap().records, vec![line("one"), line("two")]);
        let import = || journal.import(Create { records: records.clone(), ..create(&a, 10) }, lines.clone()).wait();
        assert_eq!(import(), Err(AppendError::Conflict { run: a.clone(), expected: 0, actual: 3 }));
        assert_eq!(journal.load_log(&a, LogFilter::default()).unwrap().len(), 1, "nothing of it is kept");
        journal.delete(deletion(&[&a])).unwrap();
        assert_eq!(import(), Ok(3));
        assert_eq!(journal.load(&a).unwrap().records, records);
        let log = journal.load_log(&a, LogFilter::default()).unwrap();
        assert_eq!(log, [(2, lines[0].clone()), (3, lines[1].clone())]);
        assert_eq!(journal.summary(&a).unwrap().outcome, Some(Outcome::Succeeded));
    });
}

#[test]
fn only_who_drives_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let a = over(&journal, "a");
    let observer = Journal::open(dir.path(), Mode::Observe).unwrap();
    assert_eq!(observer.delete(deletion(&[&a])), Err(DeleteError::Refused(AppendError::Observing)));
    assert_eq!(observer.tidy(), Err(DeleteError::Refused(AppendError::Observing)));
}

#[test]
fn room_goes_back_to_the_disk_and_what_is_left_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let small = over(&journal, "small");
    let large = run_id("large");
    journal.create(create(&large, 10)).wait().unwrap();
    // 4 MiB of log, in pieces that the queue takes.
    for _ in 0..8 {
        journal.append_log(&large, vec![line(&"x".repeat(512 << 10))]);
        let version = journal.summary(&large).unwrap().version;
        journal.append(append(&large, version, vec![at(11, started(0))])).wait().unwrap();
    }
    let records = vec![at(12, finished(Outcome::Failed))];
    journal.append(append(&large, 9, records)).wait().unwrap();
    // Somebody who reads all the while.
    let reader = Journal::open(dir.path(), Mode::Observe).unwrap();
    assert_eq!(reader.load(&small).unwrap().records.len(), 3);

    journal.delete(deletion(&[&large])).unwrap();
    let tidied = journal.tidy().unwrap();
    assert!(tidied.bytes_before > 4 << 20 && tidied.bytes_after < 1 << 20, "{tidied:?}");
    assert_eq!((tidied.bytes_empty, tidied.not_compacted), (0, None));
    let size = |name: &str| std::fs::metadata(Path::new(dir.path()).join(name)).unwrap().len();
    assert_eq!((size("journal.db"), size("journal.db-wal")), (tidied.bytes_after, 0));
    assert_eq!(reader.load(&small).unwrap().records.len(), 3);
    over(&journal, "next");
    assert_eq!(reader.load(&run_id("next")).unwrap().records.len(), 3);
}
