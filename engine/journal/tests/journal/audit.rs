//! The chain of hashes: whatever is done to the records of a journal from outside is found.

use std::path::{Path, PathBuf};

use downbeat_journal::{Create, Deletion, DifferenceKind, Journal, Mark, Mode, Verified};
use downbeat_workflow::event::{Outcome, Timestamp};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::{append, at, create, finished, run_id, started};

/// What is covered, by table. What is not: `reached`, from which no record is read; lines and requests.
const COVERED: [(&str, &[&str]); 6] = [
    ("append", &["position", "run", "seq", "records", "at", "hash", "chain", "body"]),
    ("run", &["key", "id", "plan", "workflow", "created", "outcome", "finished"]),
    ("plan", &["key", "digest", "text"]),
    ("removed", &["position", "deleted", "records", "hash"]),
    (
        "deleted",
        &[
            "key", "run", "plan", "workflow", "created", "outcome", "finished", "records", "lines", "at", "by",
            "after", "chain",
        ],
    ),
    ("ledger", &["id", "since"]),
];

/// A journal with a run that is over, one that was deleted, one that is open, and a group of two appends.
struct Small {
    dir: TempDir,
}

impl Small {
    fn new() -> Small {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
        let [over, gone, open] = ["over", "gone", "open"].map(run_id);
        for (index, run) in [&over, &gone, &open].into_iter().enumerate() {
            journal.create(create(run, 10 + index as u64)).wait().unwrap();
        }
        for run in [&gone, &over, &open] {
            journal.append(append(run, 1, vec![at(20, started(0)), at(21, started(1))])).wait().unwrap();
        }
        for run in [&over, &gone] {
            journal.append(append(run, 3, vec![at(30, finished(Outcome::Succeeded))])).wait().unwrap();
        }
        let deletion = Deletion { runs: vec![gone], at: Timestamp(40), by: "ann".to_owned() };
        journal.delete(deletion).unwrap();
        // While the file is locked, what is handed in waits: at least the last two are one commit.
        let beside = Connection::open(dir.path().join("journal.db")).unwrap();
        beside.execute_batch("BEGIN IMMEDIATE").unwrap();
        let next = |expected: u64| journal.append(append(&open, expected, vec![at(50, started(expected as u32))]));
        let group = [3, 4, 5].map(next);
        beside.execute_batch("COMMIT").unwrap();
        for appended in group {
            appended.wait().unwrap();
        }
        next(6).wait().unwrap();
        Small { dir }
    }

    fn observe(&self) -> Journal {
        Journal::open(self.dir.path(), Mode::Observe).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    fn edit(&self) -> Connection {
        edit(self.dir.path())
    }

    /// Does something to the file, looks whether it is found, and undoes it.
    fn after(&self, sql: &str, mark: Option<&Mark>) -> Option<Verified> {
        let mut connection = self.edit();
        // In a transaction that the observer can't see, nothing would be found.
        let before = std::fs::read(self.file()).unwrap();
        let done = connection.transaction().and_then(|change| {
            change.execute_batch(sql)?;
            change.commit()
        });
        drop(connection);
        let verified = done.is_ok().then(|| self.observe().verify(mark).unwrap());
        std::fs::write(self.file(), before).unwrap();
        verified
    }
}

/// Writes to the file itself at once, so that a copy of it is all there is.
fn edit(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("journal.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "delete").unwrap();
    connection.pragma_update(None, "synchronous", "off").unwrap();
    // Somebody who tampers does not keep to the references.
    connection.pragma_update(None, "foreign_keys", "off").unwrap();
    connection
}

fn kinds(verified: &Verified) -> Vec<&'static str> {
    verified.differences.iter().map(|difference| difference.kind.word()).collect()
}

#[test]
fn what_was_written_and_deleted_in_order_is_whole() {
    let small = Small::new();
    let verified = small.observe().verify(None).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!((verified.records, verified.runs, verified.deleted, verified.since.0), (11, 2, 1, 0));
    let mark = small.observe().mark().unwrap();
    assert_eq!(verified.mark, mark);
    assert!(small.observe().verify(mark.as_ref()).unwrap().is_whole());
    assert!(small.observe().verify_run(&run_id("over")).unwrap().is_whole());
    // And it goes on from there.
    let journal = Journal::open(small.dir.path(), Mode::Drive).unwrap();
    journal.append(append(&run_id("open"), 7, vec![at(60, started(3))])).wait().unwrap();
    journal.create(create(&run_id("new"), 70)).wait().unwrap();
    let verified = journal.verify(mark.as_ref()).unwrap();
    assert!(verified.is_whole() && verified.mark != mark, "{verified:?}");
}

#[test]
fn any_byte_of_any_value_that_is_changed_is_found() {
    let small = Small::new();
    let connection = small.edit();
    let mut tried = 0;
    for (table, columns) in COVERED {
        let mut rows: Vec<i64> = Vec::new();
        let mut statement = connection.prepare(&format!("SELECT rowid FROM {table}")).unwrap();
        rows.extend(statement.query_map((), |row| row.get::<_, i64>(0)).unwrap().map(Result::unwrap));
        assert!(!rows.is_empty(), "{table} has something to change");
        for (rowid, column) in rows.iter().flat_map(|rowid| columns.iter().map(move |column| (*rowid, *column))) {
            let at = format!("FROM {table} WHERE rowid = {rowid}");
            let value: Value = connection.query_row(&format!("SELECT {column} {at}"), (), |row| row.get(0)).unwrap();
            for other in others(&value) {
                let keep = format!("SELECT * {at}");
                let change = connection.unchecked_transaction().unwrap();
                // Some can't be there: a place that is taken, a key that another row has.
                if change.execute(&format!("UPDATE {table} SET {column} = {other} WHERE rowid = {rowid}"), ()).is_err()
                {
                    continue;
                }
                change.commit().unwrap();
                let found = small.observe().verify(None);
                assert!(
                    found.as_ref().is_ok_and(|verified| !verified.is_whole()),
                    "{column} as {other} of what {keep}: {found:?}"
                );
                tried += 1;
                // A row whose key was changed is found by the new one.
                let place = if ["position", "key"].contains(&column) { other.clone() } else { rowid.to_string() };
                let back = format!("UPDATE {table} SET {column} = {} WHERE rowid = {place}", literal(&value));
                assert_eq!(connection.execute(&back, ()).unwrap(), 1);
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
    drop(connection);
    assert!(small.observe().verify(None).unwrap().is_whole(), "everything was undone");
}

/// The value with one byte changed, for each of its bytes, as SQL.
fn others(value: &Value) -> Vec<String> {
    let flips = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let flip = |index: usize, bit: u8| {
            let mut bytes = bytes.to_vec();
            bytes[index] ^= bit;
            bytes
        };
        (0..bytes.len()).map(|index| flip(index, if index % 7 == 0 { 0x80 } else { 1 })).collect()
    };
    match value {
        Value::Integer(number) => (0..8).map(|byte| (number ^ (1 << (8 * byte))).to_string()).collect(),
        Value::Text(text) => flips(text.as_bytes()).into_iter().map(|bytes| text_literal(&bytes)).collect(),
        Value::Blob(bytes) => flips(bytes).into_iter().map(|bytes| literal(&Value::Blob(bytes))).collect(),
        Value::Null | Value::Real(_) => Vec::new(),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text_literal(text.as_bytes()),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
        Value::Null | Value::Real(_) => "NULL".to_owned(),
    }
}

fn text_literal(bytes: &[u8]) -> String {
    format!("CAST(x'{}' AS TEXT)", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_changed_record_is_named_with_its_run_its_number_and_its_position() {
    let small = Small::new();
    let change = "UPDATE append SET body = replace(body, '\"step\":1', '\"step\":7') WHERE run = 3 AND seq = 2";
    let found = small.after(change, None).unwrap();
    let [difference] = &found.differences[..] else { panic!("{found:?}") };
    assert_eq!(
        difference.to_string(),
        "run open, records 2 to 3 (positions 8 to 9): does not follow from what is before it: changed, moved, or put in"
    );
}

#[test]
fn each_record_that_is_removed_is_missed() {
    let small = Small::new();
    let mark = small.observe().mark().unwrap().unwrap();
    let last = mark.position.0;
    let rows: Vec<(i64, i64)> = {
        let connection = small.edit();
        let mut rows = connection.prepare("SELECT position, run FROM append").unwrap();
        rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(rows.len(), 9);
    for (position, _) in rows {
        let remove = format!("DELETE FROM append WHERE position = {position}");
        let found = small.after(&remove, Some(&mark)).unwrap();
        assert!(!found.is_whole(), "{position}");
        let alone = small.after(&remove, None).unwrap();
        // The very last one, and only that, needs the mark.
        assert_eq!(alone.is_whole(), position == last as i64, "{position}: {alone:?}");
    }
    let middle = small.after("DELETE FROM append WHERE run = 3 AND seq = 2", None).unwrap();
    assert!(middle.differences.iter().any(|difference| {
        difference.kind == DifferenceKind::Missing && difference.positions == Some((8, 9)) && difference.run.is_none()
    }));
    assert!(middle.differences.iter().any(|difference| {
        difference.kind == DifferenceKind::Missing && difference.records == Some((2, 3)) && difference.run.is_some()
    }));
}

#[test]
fn a_tail_that_is_cut_off_is_found_with_a_mark() {
    let small = Small::new();
    let mark = small.observe().mark().unwrap();
    // Clean cuts: what is left ends with the end of a commit.
    for (cut, wants) in [
        ("DELETE FROM append WHERE position >= 15", "cut-off"),
        ("DELETE FROM append WHERE position >= 12", "cut-off"),
        ("DELETE FROM append WHERE position >= 12; DELETE FROM removed; DELETE FROM deleted", "cut-off"),
    ] {
        let found = small.after(cut, mark.as_ref()).unwrap();
        assert!(kinds(&found).contains(&wants), "{cut}: {found:?}");
    }
}

#[test]
fn records_that_change_places_are_found() {
    let small = Small::new();
    for (one, other) in [(1, 3), (1, 9), (7, 10), (9, 12), (9, 14), (14, 15)] {
        let swap = format!(
            "UPDATE append SET position = -1 WHERE position = {one}; UPDATE append SET position = {one} WHERE position = {other};
             UPDATE append SET position = {other} WHERE position = -1"
        );
        if let Some(found) = small.after(&swap, None)
            && small.edit().query_row("SELECT count(*) FROM append WHERE position IN (?1, ?2)", [one, other], |row| {
                row.get::<_, i64>(0)
            }) == Ok(2)
        {
            assert!(!found.is_whole(), "positions {one} and {other}");
        }
        for what in ["body", "hash", "body = b.body, at"] {
            let swap = format!(
                "UPDATE append SET {what} = b.{} FROM append AS b WHERE append.position = {one} AND b.position = {other}
                 AND append.{1} <> b.{1}",
                what.rsplit(' ').next().unwrap(),
                what.split(' ').next().unwrap()
            );
            let found = small.after(&swap, None).unwrap();
            let is_same = small
                .edit()
                .query_row(
                    "SELECT a.body = b.body FROM append AS a, append AS b WHERE a.position = ?1 AND b.position = ?2",
                    [one, other],
                    |row| row.get::<_, bool>(0),
                )
                .unwrap_or(true);
            assert!(is_same || !found.is_whole(), "{what} of {one} as of {other}");
        }
    }
}

#[test]
fn records_and_runs_that_are_put_in_are_found() {
    let small = Small::new();
    let copy = |position: &str, run: u32, seq: u32, hash: &str| {
        format!(
            "INSERT INTO append (position, run, seq, records, at, hash, chain, body)
             SELECT {position}, {run}, {seq}, records, at, {hash}, chain, body FROM append WHERE position = 15"
        )
    };
    for put in [
        copy("16", 3, 8, "hash"),
        copy("16", 1, 5, "x'00'"),
        copy("2", 3, 8, "hash"),
        copy("8", 3, 99, "hash"),
        copy("16", 77, 1, "hash"),
        "INSERT INTO run (id, plan, workflow, created) VALUES ('x', 1, 'hello', 1)".to_owned(),
        "INSERT INTO removed VALUES (16, 1, 1, x'00')".to_owned(),
        "INSERT INTO removed VALUES (16, 9, 1, x'00')".to_owned(),
        "INSERT INTO deleted SELECT 9, 'x', plan, workflow, created, outcome, finished, records, lines, at, by, after, chain
         FROM deleted"
            .to_owned(),
    ] {
        let found = small.after(&put, None).unwrap_or_else(|| panic!("{put} can be done"));
        assert!(!found.is_whole(), "{put}");
    }
}

#[test]
fn a_run_that_is_removed_without_a_note_is_missed_and_so_is_the_note_of_one() {
    let small = Small::new();
    for removal in [
        "DELETE FROM append WHERE run = 1; DELETE FROM run WHERE key = 1",
        "DELETE FROM run WHERE key = 1",
        "DELETE FROM append WHERE run = 1",
        "DELETE FROM deleted",
        "DELETE FROM removed",
        "DELETE FROM deleted; DELETE FROM removed",
        // As if it had been deleted: the hashes are left.
        "INSERT INTO removed SELECT position, 1, records, hash FROM append WHERE run = 1;
         DELETE FROM append WHERE run = 1; DELETE FROM run WHERE key = 1",
        "DELETE FROM plan",
    ] {
        let found = small.after(removal, None).unwrap();
        assert!(!found.is_whole(), "{removal}");
    }
}

#[test]
fn a_journal_that_was_written_anew_is_whole_but_not_the_one_of_the_mark() {
    let small = Small::new();
    let mark = small.observe().mark().unwrap();
    let ledger: Vec<u8> = small.edit().query_row("SELECT id FROM ledger", (), |row| row.get(0)).unwrap();
    let forged = tempfile::tempdir().unwrap();
    drop(Journal::open(forged.path(), Mode::Drive).unwrap());
    edit(forged.path()).execute("UPDATE ledger SET id = ?1", [ledger]).unwrap();
    let journal = Journal::open(forged.path(), Mode::Drive).unwrap();
    let begin = |id: &str| Create { run: run_id(id), ..create(&run_id(id), 10) };
    for n in 0..20 {
        journal.create(begin(&format!("run{n}"))).wait().unwrap();
    }
    assert!(journal.verify(None).unwrap().is_whole(), "whoever has the program can write a journal");
    let found = journal.verify(mark.as_ref()).unwrap();
    assert!(!found.is_whole(), "{found:?}");
    let other = Mark { journal: "00".repeat(32), ..mark.unwrap() };
    assert_eq!(kinds(&journal.verify(Some(&other)).unwrap()), ["other-journal"]);
}

#[test]
fn a_journal_is_whole_while_it_is_driven() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Mode::Drive).unwrap();
    let observer = Journal::open(dir.path(), Mode::Observe).unwrap();
    let run = run_id("r");
    journal.create(create(&run, 1)).wait().unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for version in 1..400 {
                let next = journal.append(append(&run, version, vec![at(version, started(0))]));
                // Groups of several, too.
                if version % 3 == 0 {
                    next.wait().unwrap();
                }
                if version % 100 == 0 {
                    let other = run_id(&format!("other{version}"));
                    journal.create(create(&other, 1)).wait().unwrap();
                    journal.append(append(&other, 1, vec![at(2, finished(Outcome::Failed))])).wait().unwrap();
                    let deletion = Deletion { runs: vec![other], at: Timestamp(3), by: "ann".to_owned() };
                    journal.delete(deletion).unwrap();
                }
            }
        });
        let mut mark = observer.mark().unwrap();
        while !writing.is_finished() {
            let verified = observer.verify(mark.as_ref()).unwrap();
            assert!(verified.is_whole(), "{verified:?}");
            mark = verified.mark;
        }
    });
    let verified = observer.verify(None).unwrap();
    assert!(verified.is_whole() && verified.records == 400, "{verified:?}");
}

#[test]
fn a_record_that_an_index_hides_is_found_and_so_is_all_that_a_new_journal_has_not() {
    let small = Small::new();
    // The very last one of a run that is open: nothing else tells of it.
    let hide =
        "DROP INDEX append_of_run; CREATE UNIQUE INDEX append_of_run ON append (run, seq) WHERE position NOT IN (15)";
    let found = small.after(hide, None).unwrap();
    assert_eq!(kinds(&found)[0], "schema", "{found:?}");
    let sql = "SELECT sql FROM sqlite_schema WHERE name = 'append_of_run'";
    let sql: String = small.edit().query_row(sql, (), |row| row.get(0)).unwrap();
    // With the old text put back, only the rows of the index tell.
    let hide = format!(
        "{hide}; PRAGMA writable_schema = on; UPDATE sqlite_schema SET sql = '{sql}' WHERE name = 'append_of_run'"
    );
    let found = small.after(&hide, None).unwrap();
    assert_eq!(kinds(&found), ["inconsistent", "inconsistent"], "{found:?}");
    let says = found.differences.iter().map(|difference| difference.to_string()).collect::<Vec<_>>().join("\n");
    assert!(says.contains("missing from index append_of_run"), "{says}");
    for (other, wants) in [
        ("CREATE TRIGGER quiet AFTER INSERT ON append BEGIN DELETE FROM line; END", "it has the trigger `quiet`"),
        (
            // As what `ANALYZE` makes is called; SQLite makes it by no other way.
            "PRAGMA writable_schema = on; INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_stat1', 'append', 0, \
             'CREATE TRIGGER sqlite_stat1 AFTER INSERT ON append BEGIN DELETE FROM line; END')",
            "it has the trigger `sqlite_stat1`",
        ),
        ("CREATE VIEW other AS SELECT * FROM append", "it has the view `other`"),
        ("DROP INDEX run_open", "it lacks the index `run_open`"),
        ("DROP INDEX run_open; CREATE INDEX run_open ON run (key)", "the index `run_open` is another one"),
    ] {
        let found = small.after(other, None).unwrap();
        assert_eq!(kinds(&found), ["schema"], "{other}: {found:?}");
        assert!(found.differences[0].to_string().contains(wants), "{}", found.differences[0]);
    }
    let mut connection = small.edit();
    connection.execute_batch("CREATE TRIGGER quiet AFTER INSERT ON append BEGIN DELETE FROM line; END").unwrap();
    let found = small.observe().verify_run(&run_id("over")).unwrap();
    assert_eq!(kinds(&found), ["schema"]);
    let change = connection.transaction().unwrap();
    change.execute_batch("DROP TRIGGER quiet; ANALYZE").unwrap();
    change.commit().unwrap();
    assert!(small.observe().verify(None).unwrap().is_whole());
}
