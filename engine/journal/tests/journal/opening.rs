//! Who may open a state directory, and what is said to whoever may not.

use std::fs;
use std::path::Path;
use std::process::Command;

use downbeat_journal::{AppendError, Journal, Mode, OpenError, Position, Request};

use crate::{append, at, create, run_id, started};

fn refusal(dir: &Path, mode: Mode) -> String {
    match Journal::open(dir, mode) {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_second_driver_is_refused_with_the_first_ones_pid_and_observers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    driver.create(create(&run, 1)).await.unwrap();

    match Journal::open(dir.path(), Mode::Drive) {
        Err(OpenError::Driven { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{:?}", other.map(|_| "opened")),
    }

    let observer = Journal::open(dir.path(), Mode::Observe).unwrap();
    assert_eq!(observer.load(&run).unwrap().records.len(), 1);
    let error = observer.append(append(&run, 1, vec![])).await.unwrap_err();
    assert!(matches!(error, AppendError::Observing), "{error}");

    drop(driver);
    Journal::open(dir.path(), Mode::Drive).expect("the lock ends with its journal");
}

#[tokio::test]
async fn an_observer_sees_what_is_driven_and_the_driver_what_an_observer_asks() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    driver.create(create(&run, 1)).await.unwrap();

    let observer = Journal::open(dir.path(), Mode::Observe).unwrap();
    let mut horizon = observer.horizon().unwrap();
    assert_eq!(horizon.borrow_and_update().event, Position(1));
    driver.append(append(&run, 1, vec![at(2, started(0))])).await.unwrap();
    horizon.wait_for(|horizon| horizon.event == Position(2)).await.unwrap();
    assert_eq!(observer.tail(Position(1), 10).unwrap()[0].record, at(2, started(0)));

    let mut inbox = driver.inbox().unwrap();
    let id = observer.request(&run, Request::Cancel { reason: "enough".to_owned() }).unwrap();
    let taken = inbox.next().await.unwrap();
    assert_eq!((taken[0].id, &taken[0].run), (id, &run));
}

#[tokio::test]
async fn a_request_to_nobody_waits_for_the_next_driver() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_id("r1");
    Journal::open(dir.path(), Mode::Drive).unwrap().create(create(&run, 1)).await.unwrap();
    let id = {
        let observer = Journal::open(dir.path(), Mode::Observe).unwrap();
        observer.request(&run, Request::Cancel { reason: "enough".to_owned() }).unwrap()
    };
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    assert_eq!(driver.requests(&run).unwrap()[0].id, id);
    assert_eq!(driver.inbox().unwrap().next().await.unwrap()[0].id, id);
}

#[tokio::test]
async fn everything_is_there_after_closing_and_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_id("r1");
    let answer = {
        let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
        drop(journal.create(create(&run, 1)));
        journal.append(append(&run, 1, vec![at(2, started(0))]))
    };
    assert_eq!(answer.await.unwrap(), 2, "closing commits what was handed in");
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    assert_eq!(journal.load(&run).unwrap().records.len(), 2);
    assert_eq!(journal.append(append(&run, 2, vec![at(3, started(1))])).await.unwrap(), 3);
}

#[test]
fn a_directory_without_a_journal_is_nothing_to_observe_and_is_made_to_drive() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a").join("state");
    assert!(refusal(&dir, Mode::Observe).starts_with("there is no journal in "));
    assert!(!dir.exists(), "observing makes nothing");
    drop(Journal::open(&dir, Mode::Drive).unwrap());
    Journal::open(&dir, Mode::Observe).unwrap();
}

#[cfg(unix)]
#[test]
fn the_state_directory_and_its_files_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let journal = Journal::open(&dir, Mode::Drive).unwrap();
    journal.create(create(&run_id("r1"), 1)).wait().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_file_that_is_no_journal_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let text = "dear diary, ".repeat(1000);
    fs::write(&path, &text).unwrap();
    for mode in [Mode::Drive, Mode::Observe] {
        let error = refusal(dir.path(), mode);
        assert!(
            error.ends_with("is not a journal: it is no SQLite database. Choose another state directory"),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_file_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_id("r1");
    Journal::open(dir.path(), Mode::Drive).unwrap().create(create(&run, 1)).wait().unwrap();
    let path = dir.path().join("journal.db");
    let mut bytes = fs::read(&path).unwrap();
    // All but the first page, which holds the header and the schema.
    bytes[16 * 1024..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let error = Journal::open(dir.path(), Mode::Observe).unwrap().load(&run).unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains(".recover"), "{error}");
}

/// Root may write everywhere, so the question is asked by a process that is not root.
#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_says_so() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;

    if let Some(dir) = std::env::var_os("DOWNBEAT_TEST_OPEN") {
        panic!("refused: {}", refusal(Path::new(&dir), Mode::Drive));
    }
    let parent = tempfile::tempdir().unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(parent.path(), 0o755);
    let binary = parent.path().join("asker");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let is_root = fs::metadata(parent.path()).unwrap().uid() == 0;
    const NOBODY: u32 = 65_534;

    let ask = |dir: &Path| {
        let mut asker = Command::new(&binary);
        asker.args(["--exact", "opening::a_directory_that_cannot_be_written_says_so", "--nocapture"]);
        asker.env("DOWNBEAT_TEST_OPEN", dir).current_dir(parent.path());
        if is_root {
            asker.uid(NOBODY).gid(NOBODY);
        }
        let output = asker.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };

    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    allow(&empty, 0o555);
    let said = ask(&empty);
    assert!(said.contains("driver.lock can't be written: check the permissions"), "{said}");

    let missing = parent.path().join("empty").join("state");
    let said = ask(&missing);
    assert!(said.contains("can't be made") && said.contains("choose another one"), "{said}");

    let full = parent.path().join("full");
    drop(Journal::open(&full, Mode::Drive).unwrap());
    if is_root {
        for path in [&full, &full.join("driver.lock"), &full.join("journal.db")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    allow(&full.join("journal.db"), 0o400);
    let said = ask(&full);
    assert!(said.contains("journal.db can't be written: check the permissions"), "{said}");
}

#[tokio::test]
async fn whoever_looks_learns_which_runs_are_driven() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Journal::driver(&dir.path().join("nowhere")).unwrap(), None);
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    driver.announce(&run_id("r1"));
    let found = Journal::driver(dir.path()).unwrap().expect("somebody drives");
    assert_eq!((found.pid, found.runs), (Some(std::process::id()), vec![run_id("r1")]));
    // An observer has nothing to announce.
    driver.create(create(&run_id("r1"), 1)).await.unwrap();
    Journal::open(dir.path(), Mode::Observe).unwrap().announce(&run_id("r2"));
    assert_eq!(Journal::driver(dir.path()).unwrap().expect("still").runs, [run_id("r1")]);
    drop(driver);
    assert_eq!(Journal::driver(dir.path()).unwrap(), None);
    drop(Journal::open(dir.path(), Mode::Drive).expect("looking keeps nobody out"));
}

#[tokio::test]
async fn a_copy_made_while_somebody_drives_has_all_that_was_acknowledged() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    driver.create(create(&run, 1)).await.unwrap();
    driver.append(append(&run, 1, vec![at(2, started(0))])).await.unwrap();
    let copy = backup.path().join("journal.db");
    let database = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    database.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    driver.append(append(&run, 2, vec![at(3, started(1))])).await.unwrap();

    let restored = Journal::open(backup.path(), Mode::Drive).unwrap();
    let records = restored.load(&run).unwrap().records;
    assert_eq!(records[1..], [at(2, started(0))]);
    restored.append(append(&run, 2, vec![at(4, started(2))])).await.expect("a copy is a journal like any other");
}

#[tokio::test]
async fn a_plan_that_was_changed_from_outside_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Journal::open(dir.path(), Mode::Drive).unwrap();
    let run = run_id("r1");
    driver.create(create(&run, 1)).await.unwrap();
    let plan = driver.load(&run).unwrap().plan;
    assert!(driver.plan(&plan).is_ok());
    drop(driver);
    let database = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    database.execute("UPDATE plan SET text = replace(text, 'hello', 'hullo')", ()).unwrap();
    drop(database);
    let error = Journal::open(dir.path(), Mode::Observe).unwrap().plan(&plan).unwrap_err().to_string();
    assert!(error.contains("can't be read") && error.contains("changed from outside"), "{error}");
}
