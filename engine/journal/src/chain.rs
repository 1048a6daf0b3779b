//! The chain of hashes over the journal: what is hashed, and in which form. Written by `writer` and `upkeep`, held against
//! the rows by `verify`; nothing here reads or writes a row by itself but for the notes of deleted runs.
//!
//! Each row of `append` carries a hash over itself and the row before it of its run: the run's own chain. Over all rows of
//! the journal, and the notes of deleted runs, goes a second chain, which links those hashes in the order in which they
//! were committed. Where it has come is kept with the last row of each commit, which is on the disk with it, and not in a
//! place of its own, which would be another page to write at each commit. A run that is deleted leaves the hashes of its
//! rows, so that the second chain can still be computed from its beginning.
//!
//! All hashes are SHA-256. Numbers are eight bytes, the greatest first; in front of everything stands a byte that tells
//! the four kinds apart.

use std::collections::HashMap;

use downbeat_workflow::event::RunId;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// What a hash is taken over.
#[repr(u8)]
enum Kind {
    /// The beginning of a journal, or of a run.
    Beginning = 0,
    Row = 1,
    Link = 2,
    Deletion = 3,
}

/// Rows after which the second chain is kept, when those of an earlier version are taken into it: a difference is found to
/// within so many.
const ROWS_PER_LINK: u64 = 1024;

/// Where a row stands: its columns but for the run and the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) position: i64,
    pub(crate) seq: i64,
    pub(crate) records: i64,
    pub(crate) at: i64,
}

/// Of these parts as one text. By itself in the program, without a closure that has its name as well, so that instructions
/// can be counted without it (`bench`).
#[inline(never)]
fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// What the second chain begins with: the journal's id, and how far the rows go that were there before it.
pub(crate) fn of_journal(id: &[u8], since: i64) -> Hash {
    sha256(&[&[Kind::Beginning as u8], b"journal", &since.to_be_bytes(), id])
}

/// What a run's chain begins with.
pub(crate) fn of_run(run: &[u8]) -> Hash {
    sha256(&[&[Kind::Beginning as u8], b"run", run])
}

/// Of a row. `before` is the hash of the row before it of its run, or what the run begins with.
pub(crate) fn of_row(before: &Hash, place: Place, body: &[u8]) -> Hash {
    let Place { position, seq, records, at } = place;
    let mut head = [0; 65];
    head[0] = Kind::Row as u8;
    head[1..33].copy_from_slice(before);
    for (slot, number) in head[33..].chunks_exact_mut(8).zip([position, seq, records, at]) {
        slot.copy_from_slice(&number.to_be_bytes());
    }
    sha256(&[&head, body])
}

/// The second chain after a row, or after a note of a deleted run, with this hash.
pub(crate) fn link(chain: &Hash, position: i64, hash: &Hash) -> Hash {
    let mut text = [0; 73];
    text[0] = Kind::Link as u8;
    text[1..33].copy_from_slice(chain);
    text[33..41].copy_from_slice(&position.to_be_bytes());
    text[41..].copy_from_slice(hash);
    sha256(&[&text])
}

/// Of the note of a deleted run and of what is left of its rows.
pub(crate) fn of_deletion(connection: &Connection, key: i64) -> rusqlite::Result<Hash> {
    let mut hash = Sha256::new().chain_update([Kind::Deletion as u8]);
    let mut notes = connection.prepare_cached(
        "SELECT key, run, plan, workflow, created, outcome, finished, records, lines, at, by, after FROM deleted
         WHERE key = ?1",
    )?;
    notes.query_row([key], |row| (0..12).try_for_each(|column| value(&mut hash, row, column)))?;
    let mut removed = connection
        .prepare_cached("SELECT position, records, hash FROM removed WHERE deleted = ?1 ORDER BY position")?;
    let mut rows = removed.query([key])?;
    while let Some(row) = rows.next()? {
        (0..3).try_for_each(|column| value(&mut hash, row, column))?;
    }
    Ok(hash.finalize().into())
}

/// Takes a value in, with its length, so that no two rows of values are the same bytes.
fn value(hash: &mut Sha256, row: &Row<'_>, column: usize) -> rusqlite::Result<()> {
    match row.get_ref(column)? {
        ValueRef::Integer(number) => hash.update(number.to_be_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        ValueRef::Null | ValueRef::Real(_) => hash.update([0]),
    }
    Ok(())
}

/// A hash out of a column. What is none, as in a file that was changed from outside, is none that fits anything.
pub(crate) fn stored(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Hash>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(bytes) => Some(bytes.try_into().unwrap_or([0; 32])),
        _ => None,
    })
}

/// What the journal's chain begins with.
pub(crate) fn beginning(connection: &Connection) -> rusqlite::Result<Hash> {
    connection.query_row("SELECT id, since FROM ledger", (), |row| {
        Ok(of_journal(row.get_ref(0)?.as_bytes().unwrap_or(&[]), row.get(1)?))
    })
}

/// How far the journal's chain has come: what is kept with the last row, or with the last note of a deleted run if that is
/// later.
pub(crate) fn head(connection: &Connection) -> rusqlite::Result<Hash> {
    let mut last = connection.prepare_cached(
        "SELECT chain FROM (SELECT * FROM (SELECT position AS place, 0 AS later, chain FROM append ORDER BY position DESC LIMIT 1)
                  UNION ALL SELECT * FROM (SELECT after, key, chain FROM deleted ORDER BY key DESC LIMIT 1))
         ORDER BY place DESC, later DESC LIMIT 1",
    )?;
    let mut rows = last.query(())?;
    match rows.next()? {
        // Whoever took it away is found by `verify`; the engine goes on.
        Some(row) => Ok(stored(row, 0)?.unwrap_or([0; 32])),
        None => beginning(connection),
    }
}

/// Takes what an earlier version wrote into the chain: the part of migration 4 that is not SQL. From here on it can't be
/// changed unseen; what was done to it before is not known.
pub(crate) fn take_in(connection: &Connection) -> rusqlite::Result<()> {
    let mut chain = beginning(connection)?;
    let keys: Vec<i64> = connection
        .prepare("SELECT key FROM deleted ORDER BY key")?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for key in keys {
        chain = link(&chain, 0, &of_deletion(connection, key)?);
        connection.prepare_cached("UPDATE deleted SET chain = ?2 WHERE key = ?1")?.execute((key, chain))?;
    }
    let rows: u64 =
        connection.query_row("SELECT count(*) FROM unchained", (), |row| row.get::<_, i64>(0))?.unsigned_abs();
    let mut runs: HashMap<i64, Hash> = HashMap::new();
    let mut before = connection.prepare(
        "SELECT position, seq, records, at, body, run, id FROM unchained LEFT JOIN run ON run.key = run ORDER BY position",
    )?;
    let mut insert = connection.prepare(
        "INSERT INTO append (position, run, seq, records, at, hash, chain, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut found = before.query(())?;
    let mut number = 0;
    while let Some(row) = found.next()? {
        number += 1;
        let place = Place { position: row.get(0)?, seq: row.get(1)?, records: row.get(2)?, at: row.get(3)? };
        let key: i64 = row.get(5)?;
        let last = match runs.get(&key) {
            Some(last) => *last,
            None => of_run(row.get_ref(6)?.as_bytes().unwrap_or(&[])),
        };
        let body = row.get_ref(4)?;
        let hash = of_row(&last, place, body.as_bytes().unwrap_or(&[]));
        chain = link(&chain, place.position, &hash);
        runs.insert(key, hash);
        let kept = (number % ROWS_PER_LINK == 0 || number == rows).then_some(chain);
        let body = std::str::from_utf8(body.as_bytes().unwrap_or(&[]))
            .map_err(|error| rusqlite::Error::Utf8Error(4, error))?;
        insert.execute((place.position, key, place.seq, place.records, place.at, hash, kept, body))?;
    }
    Ok(())
}

/// Digits for people and for files.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a run's chain begins with.
pub(crate) fn of_run_id(run: &RunId) -> Hash {
    of_run(run.0.as_bytes())
}
