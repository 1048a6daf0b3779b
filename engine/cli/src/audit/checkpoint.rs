//! `downbeat audit checkpoint`: how far the journal has come, signed, in a file of a few lines that is kept elsewhere.
//!
//! The form is that of transparency logs, a signed note (<https://c2sp.org/signed-note>) with a checkpoint's lines
//! (<https://c2sp.org/tlog-checkpoint>): origin, size, hash, and lines of our own. The hash is that of a chain and not of a
//! tree, so that it proves nothing to whoever has not the journal.

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use downbeat_conductor::clock::Clock;
use downbeat_journal::{Mark, Position};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::key::{self, Signer};
use crate::arguments::AuditCheckpoint;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;
use crate::units;

/// What the first line begins with; the journal's id follows.
const ORIGIN: &str = "downbeat/journal/";

/// Under which name checkpoints are signed.
const SIGNER: &str = "downbeat";

/// Of Ed25519 in a signed note.
const ALGORITHM: u8 = 0x01;

/// Bytes of a checkpoint at most: ours have some 350, and others may have signed it as well.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn checkpoint(place: &Place, arguments: &AuditCheckpoint) -> Result<Exit, Fault> {
    let signer = Signer::read(&arguments.key)?;
    let journal = place.observe()?;
    let mark = journal.mark().map_err(Fault::engine)?.expect("a journal in a folder has a chain");
    let note = write(&mark, &units::time(Clock::system().now()), &signer);
    match &arguments.output {
        None => talk::put(&note)?,
        Some(path) => {
            keep(path, &note)?;
            match arguments.json {
                true => {
                    let object = json!({
                        "file": path.display().to_string(),
                        "position": mark.position.0,
                        "deleted": mark.deleted,
                        "chain": hex(&mark.chain),
                    });
                    talk::put_json(&object.to_string())?;
                }
                false => talk::say(format_args!(
                    "{} stands for all records up to position {}: keep it where whoever can write to the journal can't",
                    path.display(),
                    mark.position.0
                )),
            }
        }
    }
    Ok(Exit::Success)
}

/// Writes the whole file or none.
fn keep(path: &Path, note: &str) -> Result<(), Fault> {
    let unwritten = |error| Fault::engine(format!("{} can't be written: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).map_err(unwritten)?;
    file.write_all(note.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(unwritten)?;
    file.persist(path).map_err(|error| unwritten(error.error))?;
    Ok(())
}

/// Reads a checkpoint whose signature is the key's.
pub(super) fn read(path: &Path, key: &Path) -> Result<Mark, Fault> {
    let public = key::public(key)?;
    let refused = |why: &str| Fault::refused(format!("the checkpoint {} {why}", path.display()));
    let unread = |error: std::io::Error| refused(&format!("can't be read: {error}"));
    if std::fs::metadata(path).map_err(unread)?.len() > FILE_BYTES_MAX {
        return Err(refused("is too large for one"));
    }
    let note = std::fs::read_to_string(path).map_err(unread)?;
    let (text, signatures) = note.split_once("\n\n").ok_or_else(|| refused("is none: it has no signature"))?;
    let text = format!("{text}\n");
    if !signatures.lines().any(|line| is_ours(line, &text, &public)) {
        return Err(refused(&format!("is not signed with the key {}", key.display())));
    }
    mark(&text).ok_or_else(|| refused("is none of a journal, or one of a later version"))
}

fn write(mark: &Mark, at: &str, signer: &Signer) -> String {
    let Mark { journal, position: Position(position), deleted, chain } = mark;
    let chain = STANDARD.encode(chain);
    let text = format!("{ORIGIN}{journal}\n{position}\n{chain}\ndeleted {deleted}\nat {at}\n");
    let mut signature = key_id(&signer.public()).to_vec();
    signature.extend(signer.sign(text.as_bytes()));
    format!("{text}\n\u{2014} {SIGNER} {}\n", STANDARD.encode(signature))
}

/// Tells keys apart, in a signed note.
fn key_id(public: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(SIGNER).chain_update([b'\n', ALGORITHM]).chain_update(public).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn is_ours(line: &str, text: &str, public: &[u8; 32]) -> bool {
    let signature = line.strip_prefix("\u{2014} ").and_then(|line| line.strip_prefix(SIGNER)?.strip_prefix(' '));
    let Some(Ok(bytes)) = signature.map(|signature| STANDARD.decode(signature)) else { return false };
    bytes.strip_prefix(&key_id(public)).is_some_and(|bytes| key::is_signed(public, text.as_bytes(), bytes))
}

fn mark(text: &str) -> Option<Mark> {
    let mut lines = text.lines();
    let journal = lines.next()?.strip_prefix(ORIGIN)?.to_owned();
    let position = Position(lines.next()?.parse().ok()?);
    let chain = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
    let deleted = lines.next()?.strip_prefix("deleted ")?.parse().ok()?;
    Some(Mark { journal, position, deleted, chain })
}

/// A hash as people compare it.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_no_byte_of_it_can_be_another() {
        let dir = tempfile::tempdir().unwrap();
        let [key, file] = ["key.pem", "checkpoint"].map(|name| dir.path().join(name));
        std::fs::write(&key, KEY).unwrap();
        let signer = Signer::read(&key).unwrap();
        let mark = Mark { journal: "ab".repeat(32), position: Position(17), deleted: 2, chain: [7; 32] };
        let note = write(&mark, "2026-11-22T09:30:00.123Z", &signer);
        keep(&file, &note).unwrap();
        assert_eq!(read(&file, &key).unwrap(), mark);
        for index in 0..note.len() - 1 {
            let mut bytes = note.clone().into_bytes();
            bytes[index] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
            assert!(read(&file, &key).is_err(), "byte {index} of\n{note}");
        }
    }
}
