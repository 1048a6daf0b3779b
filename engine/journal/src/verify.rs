//! Holding the journal against its chain of hashes: whether any record was changed, removed, moved or put in from outside,
//! and where.
//!
//! One pass over the rows in the order in which they were committed, in one state of the file, so that an engine may drive
//! meanwhile. After a difference it goes on with what the file says, so that the next one is found as well. What rows can't
//! tell are rows that are missing at the very end, and a chain that was computed anew from some place on: both are found by
//! a [`Mark`] that was kept elsewhere.
//!
//! Covered are records with their places, runs as lists show them, plans, and the notes of deleted runs. Not covered are lines
//! of logs and requests: a request leaves a record when it is taken up.
//!
//! Others read through indexes. So what the file consists of is held against a new journal, and SQLite against itself.

use std::collections::{HashMap, HashSet};
use std::fmt;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, RunId, Timestamp};
use downbeat_workflow::text::visible;
use rusqlite::{OptionalExtension, Row};

use crate::Position;
use crate::chain::{self, Hash, Place};
use crate::reader::{Query, ReadError};
use crate::record::{decode, end_of, outcome_word};
use crate::schema::{self, Thing};
use crate::storage::{signed, unsigned};

/// Differences that are told at most; the others are counted. A file that was written anew by somebody has one in each row.
const DIFFERENCES_MAX: usize = 256;

/// Findings that SQLite itself is asked for at most: the first ones say that the file was not left as it was written.
const INCONSISTENCIES_MAX: usize = 16;

/// The tables that `ANALYZE` makes.
const STATISTICS: [&str; 3] = ["sqlite_stat1", "sqlite_stat3", "sqlite_stat4"];

/// How far a journal had come, in so few bytes that they can be kept elsewhere: it has all records before it in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which journal: 64 hexadecimal digits that it got when its chain began.
    pub journal: String,
    /// The last record's.
    pub position: Position,
    /// How many runs had been deleted from it.
    pub deleted: u64,
    /// The chain up to here.
    pub chain: [u8; 32],
}

/// What holding a journal against its chain has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records that were looked at.
    pub records: u64,
    /// Their runs.
    pub runs: u64,
    /// Runs that were deleted, whose notes were looked at.
    pub deleted: u64,
    /// Up to this position the records were there before the chain began: they are as they were then.
    pub since: Position,
    /// How far the journal goes; `None` of a single run.
    pub mark: Option<Mark>,
    /// What is not as it was written, in the order of the journal.
    pub differences: Vec<Difference>,
    /// Further ones that are only counted.
    pub more: u64,
}

impl Verified {
    /// Whether everything is as it was written.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub kind: DifferenceKind,
    /// Whose, if that is known.
    pub run: Option<RunId>,
    /// Which records of the run, counted from 1: the first and the last that may be meant.
    pub records: Option<(u64, u64)>,
    /// At which positions of the journal: the first and the last.
    pub positions: Option<(u64, u64)>,
}

/// The kinds of differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Records do not follow from those before them: they were changed, moved or put in.
    Changed,
    /// Records are missing.
    Missing,
    /// Records belong to no run that the journal has.
    Orphaned,
    /// The chain over all runs does not lead here, though each row fits its run: a row was replaced with its hash, or the
    /// chain itself was changed.
    Unlinked,
    /// The journal's last row has nothing of the chain: what comes last was removed or put in.
    NoEnd,
    /// A run is listed otherwise than its records say: what.
    Listed(&'static str),
    /// The plan of a run is missing, or not the one that its digest stands for.
    Plan(String),
    /// The note of a deleted run, or what is left of its records, was changed.
    Note,
    /// The file has other tables, indexes, triggers or views than a journal of this version: which, and how.
    Schema(String),
    /// What SQLite finds that does not fit within the file, such as an index that lacks a row of its table: others would not
    /// be shown what is there.
    Inconsistent(String),
    /// The mark is another journal's.
    OtherJournal,
    /// The journal ends before the mark: what came last was removed.
    CutOff,
    /// The journal's chain at the mark is another one: it was written anew.
    Rewritten,
}

impl DifferenceKind {
    /// The kind in a word.
    pub fn word(&self) -> &'static str {
        match self {
            DifferenceKind::Changed => "changed",
            DifferenceKind::Missing => "missing",
            DifferenceKind::Orphaned => "orphaned",
            DifferenceKind::Unlinked => "unlinked",
            DifferenceKind::NoEnd => "no-end",
            DifferenceKind::Listed(_) => "listed",
            DifferenceKind::Plan(_) => "plan",
            DifferenceKind::Note => "note",
            DifferenceKind::Schema(_) => "schema",
            DifferenceKind::Inconsistent(_) => "inconsistent",
            DifferenceKind::OtherJournal => "other-journal",
            DifferenceKind::CutOff => "cut-off",
            DifferenceKind::Rewritten => "rewritten",
        }
    }
}

impl fmt::Display for Difference {
    /// In a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |word: &str, span: &Option<(u64, u64)>| match span {
            Some((first, last)) if first == last => Some(format!("{word} {first}")),
            Some((first, last)) => Some(format!("{word}s {first} to {last}")),
            None => None,
        };
        let run = self.run.as_ref().map(|run| format!("run {run}"));
        let place = match (run, span("record", &self.records), span("position", &self.positions)) {
            (Some(run), Some(records), Some(positions)) => format!("{run}, {records} ({positions})"),
            (Some(run), Some(records), None) => format!("{run}, {records}"),
            (Some(run), None, Some(positions)) => format!("{run} ({positions})"),
            (Some(run), None, None) => run,
            (None, _, Some(positions)) => positions,
            (None, ..) => "the journal".to_owned(),
        };
        let what = match &self.kind {
            DifferenceKind::Changed => "does not follow from what is before it: changed, moved, or put in".to_owned(),
            DifferenceKind::Missing => "is missing: removed".to_owned(),
            DifferenceKind::Orphaned => "belongs to no run: the run was removed, or the record put in".to_owned(),
            DifferenceKind::Unlinked => {
                "does not follow from the journal before it: something within was changed with its hash, moved, or removed"
                    .to_owned()
            }
            DifferenceKind::NoEnd => "does not end where it was written last: its end was removed, or put in".to_owned(),
            DifferenceKind::Listed(what) => format!("is listed with another {what} than its records say"),
            DifferenceKind::Plan(why) => format!("has not the plan that it was created with: {why}"),
            DifferenceKind::Note => "was deleted, and the note of it, or what is left of its records, was changed".to_owned(),
            DifferenceKind::Schema(what) => format!("is not made as this version makes one: {}", visible(what, false)),
            DifferenceKind::Inconsistent(what) => {
                format!("does not fit together, so that not all that is there is shown: {}", visible(what, false))
            }
            DifferenceKind::OtherJournal => "is another one than the checkpoint's".to_owned(),
            DifferenceKind::CutOff => "ends before the checkpoint: what came last was removed".to_owned(),
            DifferenceKind::Rewritten => "is not the one of the checkpoint: it was written anew before here".to_owned(),
        };
        write!(f, "{place}: {what}")
    }
}

/// A run as it is listed, and how far its rows have been looked at.
struct Listed {
    id: RunId,
    workflow: String,
    plan: Option<String>,
    created: i64,
    outcome: Option<String>,
    finished: Option<i64>,
    /// The next row's hash follows from one of these: the last one as it was computed, or as it stands there.
    last: [Hash; 2],
    /// The next record's number.
    next: u64,
}

/// A row of `append`.
struct Found {
    place: Place,
    run: i64,
    hash: Hash,
    chain: Option<Hash>,
}

impl Found {
    /// Columns 0 to 6 of [`ROWS`].
    fn read(row: &Row<'_>) -> rusqlite::Result<Found> {
        let place = Place { position: row.get(0)?, seq: row.get(2)?, records: row.get(3)?, at: row.get(4)? };
        Ok(Found {
            place,
            run: row.get(1)?,
            hash: chain::stored(row, 5)?.unwrap_or([0; 32]),
            chain: chain::stored(row, 6)?,
        })
    }

    fn records(&self) -> (u64, u64) {
        let first = unsigned(self.place.seq);
        (first, first.saturating_add(unsigned(self.place.records)).saturating_sub(1))
    }

    fn positions(&self) -> (u64, u64) {
        let last = unsigned(self.place.position);
        (last.saturating_sub(unsigned(self.place.records)).saturating_add(1), last)
    }
}

/// With the text in column 7.
const ROWS: &str = "SELECT position, run, seq, records, at, hash, chain, body FROM append";

/// What is found, and how far the chain has come.
struct Walk {
    verified: Verified,
    chain: Hash,
    /// The last position.
    position: u64,
    /// Whether something is known to be wrong since the chain was last the one that stands in the file.
    is_off: bool,
    /// The first position since then.
    since_kept: u64,
    /// Whether the chain stands in the file for the last row.
    is_kept: bool,
    /// A mark that was not come to yet.
    mark: Option<Mark>,
}

impl Walk {
    fn tell(&mut self, difference: Difference) {
        self.is_off = true;
        match self.verified.differences.len() < DIFFERENCES_MAX {
            true => self.verified.differences.push(difference),
            false => self.verified.more += 1,
        }
    }

    /// The chain goes on over a row, or a note; `kept` is what stands in the file of it.
    fn link(&mut self, position: u64, hash: &Hash, kept: Option<Hash>, run: Option<&RunId>) {
        self.chain = chain::link(&self.chain, signed(position), hash);
        self.position = self.position.max(position);
        self.is_kept = kept.is_some();
        let Some(kept) = kept else { return };
        if kept != self.chain && !self.is_off {
            let first = self.since_kept.min(position);
            // Within one row the run is known.
            let run = run.filter(|_| first == position).cloned();
            let positions = Some((first, position));
            self.tell(Difference { kind: DifferenceKind::Unlinked, run, records: None, positions });
        }
        (self.chain, self.is_off, self.since_kept) = (kept, false, position + 1);
    }

    /// Holds the mark against the chain, if this is where it was made.
    fn at_mark(&mut self) {
        let here = (self.position, self.verified.deleted);
        let Some(mark) = self.mark.take_if(|mark| (mark.position.0, mark.deleted) == here) else { return };
        if mark.chain != self.chain {
            let positions = Some((0, self.position));
            self.tell(Difference { kind: DifferenceKind::Rewritten, run: None, records: None, positions });
        }
    }
}

impl Query<'_> {
    /// How far the journal has come.
    pub(crate) fn mark(&self) -> Result<Mark, ReadError> {
        let look = || -> rusqlite::Result<Mark> {
            let view = self.connection.unchecked_transaction()?;
            let journal = view.query_row("SELECT id FROM ledger", (), |row| Ok(hex_of(row)))?;
            let last = "SELECT max(coalesce((SELECT max(position) FROM append), 0), coalesce((SELECT max(after) FROM deleted), 0)),
                               (SELECT count(*) FROM deleted)";
            let (position, deleted) =
                view.query_row(last, (), |row| Ok((Position(unsigned(row.get(0)?)), unsigned(row.get(1)?))))?;
            Ok(Mark { journal, position, deleted, chain: chain::head(&view)? })
        };
        look().map_err(|e| self.fault(e))
    }

    /// Holds everything against the chain, and the chain against a mark.
    pub(crate) fn verify(&self, mark: Option<&Mark>) -> Result<Verified, ReadError> {
        self.in_one_state(|| {
            let mut verified = self.verify_all(mark)?;
            // Rows are read here in the order of their table, and by everybody else through its indexes.
            let look =
                || -> rusqlite::Result<Vec<Difference>> { Ok([self.schema()?, self.inconsistencies()?].concat()) };
            verified.differences.splice(0..0, look().map_err(|e| self.fault(e))?);
            Ok(verified)
        })
    }

    /// Holds a run's own records against each other. That it stands where it stood among the others is not looked at.
    pub(crate) fn verify_run(&self, run: &RunId) -> Result<Verified, ReadError> {
        self.in_one_state(|| {
            let listed = self.listed(Some(run)).map_err(|e| self.fault(e))?;
            let Some((key, mut listed)) = listed.into_iter().next() else {
                return Err(ReadError::NoSuchRun(run.clone()));
            };
            let mut walk = self.walk(None).map_err(|e| self.fault(e))?;
            let mut look = || -> rusqlite::Result<()> {
                let mut statement = self.connection.prepare_cached(&format!("{ROWS} WHERE run = ?1 ORDER BY seq"))?;
                let mut rows = statement.query([key])?;
                while let Some(row) = rows.next()? {
                    let found = Found::read(row)?;
                    walk.verified.records = walk.verified.records.saturating_add(unsigned(found.place.records));
                    let body = row.get_ref(7)?.as_bytes().unwrap_or(&[]);
                    hold_row(&mut walk, &mut listed, &found, body);
                }
                self.hold_listed(&mut walk, key, &listed)
            };
            look().map_err(|e| self.fault(e))?;
            walk.verified.differences.splice(0..0, self.schema().map_err(|e| self.fault(e))?);
            walk.verified.runs = 1;
            Ok(walk.verified)
        })
    }

    /// Holds what the file consists of against a new journal.
    fn schema(&self) -> rusqlite::Result<Vec<Difference>> {
        let (wanted, mut found) = (schema::of_new()?, schema::of(self.connection)?);
        // What `ANALYZE` keeps, which somebody may have asked for. Nothing is read from it.
        let is_kept = |thing: &Thing| thing.kind == "table" && STATISTICS.contains(&&*thing.name);
        found.retain(|thing, _| !is_kept(thing));
        let lacking =
            wanted.keys().filter(|thing| !found.contains_key(thing)).map(|thing| format!("it lacks the {thing}"));
        let other = found.iter().filter_map(|(thing, sql)| match wanted.get(thing) {
            None => Some(format!("it has the {thing}")),
            Some(wanted) => (wanted != sql).then(|| format!("the {thing} is another one")),
        });
        Ok(lacking.chain(other).take(INCONSISTENCIES_MAX).map(|what| of_file(DifferenceKind::Schema(what))).collect())
    }

    /// What SQLite finds: indexes against their tables, among others. It reads the whole file.
    fn inconsistencies(&self) -> rusqlite::Result<Vec<Difference>> {
        let mut check = self.connection.prepare(&format!("PRAGMA integrity_check({INCONSISTENCIES_MAX})"))?;
        let mut rows = check.query(())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let says = text(row, 0);
            if says != "ok" {
                found.push(of_file(DifferenceKind::Inconsistent(says)));
            }
        }
        Ok(found)
    }

    /// All queries of `look` see the same state of the file.
    fn in_one_state<T>(&self, look: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let view = self.connection.unchecked_transaction().map_err(|e| self.fault(e))?;
        let looked = look();
        view.finish().map_err(|e| self.fault(e))?;
        looked
    }

    fn walk(&self, mark: Option<&Mark>) -> rusqlite::Result<Walk> {
        let (journal, since) = self
            .connection
            .query_row("SELECT id, since FROM ledger", (), |row| Ok((hex_of(row), unsigned(row.get(1)?))))?;
        let chain = chain::beginning(self.connection)?;
        let verified = Verified { since: Position(since), ..Verified::default() };
        let mut walk =
            Walk { verified, chain, position: 0, is_off: false, since_kept: 0, is_kept: true, mark: mark.cloned() };
        if mark.is_some_and(|mark| mark.journal != journal) {
            walk.tell(Difference { kind: DifferenceKind::OtherJournal, run: None, records: None, positions: None });
            (walk.mark, walk.is_off) = (None, false);
        }
        Ok(walk)
    }

    fn verify_all(&self, mark: Option<&Mark>) -> Result<Verified, ReadError> {
        self.verify_rows(mark).map_err(|e| self.fault(e))
    }

    fn verify_rows(&self, mark: Option<&Mark>) -> rusqlite::Result<Verified> {
        let mut walk = self.walk(mark)?;
        let mut runs = self.listed(None)?;
        let mut rows = self.connection.prepare_cached(&format!("{ROWS} ORDER BY position"))?;
        let mut rows = rows.query(())?;
        let mut removed =
            self.connection.prepare_cached("SELECT position, records, hash, deleted FROM removed ORDER BY position")?;
        let mut removed = removed.query(())?;
        let mut notes =
            self.connection.prepare_cached("SELECT key, after, chain, run FROM deleted ORDER BY after, key")?;
        let mut notes = notes.query(())?;
        // Behind all positions if there is none.
        let place_of = |row: Option<&Row<'_>>, column: usize| match row {
            Some(row) => row.get::<_, i64>(column).map(i128::from),
            None => Ok(i128::MAX),
        };
        let (mut notes_known, mut removed_of) = (HashSet::new(), HashSet::new());
        let (mut row, mut left, mut note) = (rows.next()?, removed.next()?, notes.next()?);
        walk.at_mark();
        loop {
            let places = [place_of(note, 1)?, place_of(row, 0)?, place_of(left, 0)?];
            // A note stands behind the rows that were there when it was written.
            if let Some(found) = note
                && places[0] < places[1].min(places[2])
            {
                let (key, run) = (found.get::<_, i64>(0)?, text(found, 3));
                let kept = chain::stored(found, 2)?;
                let hash = chain::of_deletion(self.connection, key)?;
                notes_known.insert(key);
                walk.verified.deleted += 1;
                let after = found.get(1)?;
                if kept != Some(chain::link(&walk.chain, after, &hash)) && !walk.is_off {
                    let (kind, run) = (DifferenceKind::Note, Some(RunId(run.into())));
                    walk.tell(Difference { kind, run, records: None, positions: None });
                }
                walk.link(unsigned(after), &hash, kept, None);
                note = notes.next()?;
            } else if let Some(found) = row
                && places[1] <= places[2]
            {
                let read = Found::read(found)?;
                let positions = read.positions();
                self.hold_gap(&mut walk, positions);
                walk.verified.records = walk.verified.records.saturating_add(unsigned(read.place.records));
                let body = found.get_ref(7)?.as_bytes().unwrap_or(&[]);
                match runs.get_mut(&read.run) {
                    Some(listed) => {
                        let hash = hold_row(&mut walk, listed, &read, body);
                        let id = listed.id.clone();
                        walk.link(positions.1, &hash, read.chain, Some(&id));
                    }
                    None => {
                        let (kind, records) = (DifferenceKind::Orphaned, Some(read.records()));
                        walk.tell(Difference { kind, run: None, records, positions: Some(positions) });
                        walk.link(positions.1, &read.hash, read.chain, None);
                    }
                }
                row = rows.next()?;
            } else if let Some(found) = left {
                let last = unsigned(found.get(0)?);
                let first = last.saturating_sub(unsigned(found.get(1)?)) + 1;
                self.hold_gap(&mut walk, (first, last));
                removed_of.insert(found.get::<_, i64>(3)?);
                let hash = chain::stored(found, 2)?.unwrap_or([0; 32]);
                walk.link(last, &hash, None, None);
                left = removed.next()?;
            } else {
                break;
            }
            walk.at_mark();
        }
        if !walk.is_kept && !walk.is_off {
            let positions = Some((walk.since_kept, walk.position));
            walk.tell(Difference { kind: DifferenceKind::NoEnd, run: None, records: None, positions });
        }
        if removed_of.difference(&notes_known).next().is_some() {
            walk.tell(Difference { kind: DifferenceKind::Note, run: None, records: None, positions: None });
        }
        for (key, listed) in &runs {
            self.hold_listed(&mut walk, *key, listed)?;
        }
        if let Some(mark) = walk.mark.take() {
            let is_beyond = mark.position.0 > walk.position || mark.deleted > walk.verified.deleted;
            let kind = if is_beyond { DifferenceKind::CutOff } else { DifferenceKind::Rewritten };
            let positions = Some((walk.position, mark.position.0.max(walk.position)));
            walk.tell(Difference { kind, run: None, records: None, positions });
        }
        let journal = self.connection.query_row("SELECT id FROM ledger", (), |row| Ok(hex_of(row)))?;
        let Walk { mut verified, chain, position, .. } = walk;
        verified.runs = runs.len() as u64;
        verified.mark = Some(Mark { journal, position: Position(position), deleted: verified.deleted, chain });
        Ok(verified)
    }

    /// Positions are given out without gaps; before the chain began, runs were deleted without a trace of theirs.
    fn hold_gap(&self, walk: &mut Walk, (first, last): (u64, u64)) {
        let next = walk.position + 1;
        if first > next && last > walk.verified.since.0 {
            let positions = Some((next, first - 1));
            walk.tell(Difference { kind: DifferenceKind::Missing, run: None, records: None, positions });
        }
    }

    /// The runs as they are listed, by key.
    fn listed(&self, run: Option<&RunId>) -> rusqlite::Result<HashMap<i64, Listed>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT run.key, id, workflow, digest, created, outcome, finished FROM run LEFT JOIN plan ON plan.key = run.plan
             WHERE ?1 IS NULL OR id = ?1",
        )?;
        let mut rows = statement.query([run.map(|run| &*run.0)])?;
        let mut listed = HashMap::new();
        while let Some(row) = rows.next()? {
            let begin = chain::of_run(row.get_ref(1)?.as_bytes().unwrap_or(&[]));
            let of_run = Listed {
                id: RunId(text(row, 1).into()),
                workflow: text(row, 2),
                plan: (row.get_ref(3)? != rusqlite::types::ValueRef::Null).then(|| text(row, 3)),
                created: row.get(4)?,
                outcome: (row.get_ref(5)? != rusqlite::types::ValueRef::Null).then(|| text(row, 5)),
                finished: row.get(6)?,
                last: [begin; 2],
                next: 1,
            };
            listed.insert(row.get(0)?, of_run);
        }
        Ok(listed)
    }

    /// Holds what the list of runs says against the run's first and last records.
    fn hold_listed(&self, walk: &mut Walk, key: i64, listed: &Listed) -> rusqlite::Result<()> {
        let row = |order: &str| -> rusqlite::Result<Option<Vec<_>>> {
            let sql = format!("SELECT body FROM append WHERE run = ?1 ORDER BY seq {order} LIMIT 1");
            let read = |row: &Row<'_>| Ok(decode(&text(row, 0)).unwrap_or_default());
            self.connection.prepare_cached(&sql)?.query_row([key], read).optional()
        };
        let mut differs = |kind| {
            walk.tell(Difference { kind, run: Some(listed.id.clone()), records: None, positions: None });
        };
        let Some(first) = row("ASC")? else {
            differs(DifferenceKind::Listed("number of records"));
            return Ok(());
        };
        if let Some(record) = first.first()
            && let Event::RunCreated { workflow, plan, .. } = &record.event
        {
            if *workflow != listed.workflow {
                differs(DifferenceKind::Listed("workflow"));
            }
            if record.at.0 != unsigned(listed.created) {
                differs(DifferenceKind::Listed("time of creation"));
            }
            match &listed.plan {
                Some(kept) if kept == plan.as_str() => {
                    if let Err(why) = self.hold_plan(plan)? {
                        differs(DifferenceKind::Plan(why));
                    }
                }
                Some(kept) => differs(DifferenceKind::Plan(format!("{kept} instead of {plan}"))),
                None => differs(DifferenceKind::Plan(format!("{plan} is missing"))),
            }
        } else {
            differs(DifferenceKind::Listed("beginning"));
        }
        let end: Option<(Outcome, Timestamp)> = row("DESC")?.and_then(|records| end_of(&records));
        if end.map(|(outcome, _)| outcome_word(outcome)) != listed.outcome.as_deref() {
            differs(DifferenceKind::Listed("outcome"));
        }
        if end.map(|(_, at)| signed(at.0)) != listed.finished {
            differs(DifferenceKind::Listed("time of its end"));
        }
        Ok(())
    }

    /// Whether the text of a plan is the one of its digest; if not, why.
    fn hold_plan(&self, plan: &Digest) -> rusqlite::Result<Result<(), String>> {
        let found: Option<Digest> = self
            .connection
            .prepare_cached("SELECT text FROM plan WHERE digest = ?1")?
            .query_row([plan.as_str()], |row| Ok(Digest::of(row.get_ref(0)?.as_bytes().unwrap_or(&[]))))
            .optional()?;
        Ok(match found {
            Some(found) if found == *plan => Ok(()),
            Some(found) => Err(format!("its text has the digest {found}, not {plan}")),
            None => Err(format!("{plan} is missing")),
        })
    }
}

/// Holds a row against the one before it of its run. Gives the hash that stands there, which the next ones are held against.
fn hold_row(walk: &mut Walk, listed: &mut Listed, found: &Found, body: &[u8]) -> Hash {
    let (first, last) = found.records();
    let [computed, stood] = listed.last;
    let mut hash = chain::of_row(&computed, found.place, body);
    if hash != found.hash && stood != computed {
        hash = chain::of_row(&stood, found.place, body);
    }
    let mut tell = |kind, records, positions| {
        walk.tell(Difference { kind, run: Some(listed.id.clone()), records: Some(records), positions });
    };
    if first > listed.next {
        // What the row follows from is gone with the missing ones: only its neighbours tell of it.
        tell(DifferenceKind::Missing, (listed.next, first - 1), None);
        hash = found.hash;
    } else if hash != found.hash || first != listed.next {
        tell(DifferenceKind::Changed, (first, last.max(first)), Some(found.positions()));
    }
    (listed.last, listed.next) = ([hash, found.hash], last + 1);
    found.hash
}

/// What is true of the file as a whole.
fn of_file(kind: DifferenceKind) -> Difference {
    Difference { kind, run: None, records: None, positions: None }
}

/// A text as it can be shown, whatever it is.
fn text(row: &Row<'_>, column: usize) -> String {
    row.get_ref(column)
        .ok()
        .and_then(|value| value.as_bytes().ok())
        .map(String::from_utf8_lossy)
        .unwrap_or_default()
        .into()
}

fn hex_of(row: &Row<'_>) -> String {
    row.get_ref(0).ok().and_then(|id| id.as_bytes().ok()).map(chain::hex).unwrap_or_default()
}
