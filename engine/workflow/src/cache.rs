//! What a kept answer depends on, and how it is written: the key of an attempt whose step has `cache`, and the entry that
//! keeps its answer. Texts and digests only; who reads files and keeps entries is not known here.
//!
//! A key is the SHA-256 of everything that an attempt without effects can see: the component, its input as it is given
//! it, the bounds that it can run into, the granted variables, the granted directories. What it can not see is not in it:
//! names of runs and steps (an attempt whose answer may be kept is given none) and times of files.
//!
//! An entry carries its own digest, made over its key as well, so that what was damaged, cut short or put in the place of
//! another is no answer. That is a check against accidents: who may write to the state directory can make entries, as they
//! can make records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::capability::Limits;
use crate::description::Digest;
use crate::event::Origin;
use crate::json::Json;

/// What a key begins with. To be counted up when an attempt without grants sees another world than before: a different
/// fixed time, other fixed random numbers, another encoding below.
const KEY_DOMAIN: &str = "downbeat cache key 1";

/// What an entry begins with.
const ENTRY_DOMAIN: &str = "downbeat cache entry 1";

/// A granted directory that is only read, as an attempt would find it.
pub const DIRECTORY_DOMAIN: &str = "downbeat cache directory 1";

/// A digest over fields: each is written with its length before it, so that no two lists of fields look alike.
pub struct Fields(Sha256);

impl Fields {
    /// Begins with the name of what is listed.
    pub fn of(domain: &str) -> Fields {
        let mut fields = Fields(Sha256::new());
        fields.add(domain.as_bytes());
        fields
    }

    /// Adds a field.
    pub fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    /// The digest of all of them.
    pub fn digest(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

/// Everything that the answer of an attempt depends on.
#[derive(Clone, Debug)]
pub struct Premises<'p> {
    /// Of the component's bytes.
    pub component: &'p Digest,
    /// As the component is given it. Another order of keys is another input: the component may tell.
    pub input: &'p Json,
    /// Of the attempt.
    pub limits: &'p Limits,
    /// Of the attempt, which is told of it; in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Granted variables, in the order of the grant; `None` if one is not set.
    pub env: &'p [(String, Option<String>)],
    /// Granted directories by the path that the guest sees, in the order of the grant, and the digest of what is in each.
    pub files: &'p [(String, Digest)],
}

/// The key of an answer.
pub fn key(premises: &Premises<'_>) -> Digest {
    let Premises { component, input, limits, timeout_ms, env, files } = premises;
    let mut fields = Fields::of(KEY_DOMAIN);
    fields.add(component.as_str().as_bytes());
    fields.add(input.as_str().as_bytes());
    // What a guest can run into and go another way.
    // Those of programs are none of them: what may run programs is not kept.
    let Limits { memory, table_elements, output, .. } = limits;
    for bound in [memory, table_elements, output] {
        fields.add(&bound.to_be_bytes());
    }
    fields.add(&timeout_ms.map_or(Vec::new(), |ms| ms.to_be_bytes().to_vec()));
    fields.add(&(env.len() as u64).to_be_bytes());
    for (name, value) in *env {
        fields.add(name.as_bytes());
        fields.add(if value.is_some() { b"set" } else { b"unset" });
        fields.add(value.as_deref().unwrap_or_default().as_bytes());
    }
    fields.add(&(files.len() as u64).to_be_bytes());
    for (path, digest) in *files {
        fields.add(path.as_bytes());
        fields.add(digest.as_str().as_bytes());
    }
    fields.digest()
}

/// A kept answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry<'e> {
    /// What it depends on: see [`key`].
    pub key: Digest,
    /// The plugin's name in the workflow that executed the step, for people.
    pub plugin: Cow<'e, str>,
    /// Of the component that answered.
    pub component: Digest,
    /// The workflow's name, for people.
    pub workflow: Cow<'e, str>,
    /// Who executed it.
    pub origin: Origin,
    /// The answer.
    pub output: Json,
}

/// Why a text is not the entry that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Another version wrote it, or something else.
    #[error("it is no entry that this version reads")]
    Unknown,
    /// Its digest is not that of what it holds.
    #[error("its content does not have the digest that it was written with")]
    Changed,
    /// It is in the place of another one.
    #[error("it is the entry of another key")]
    Misplaced,
}

impl Entry<'_> {
    /// The text to be kept: a line with the digest, then what it is the digest of.
    pub fn to_text(&self) -> String {
        let body = serde_json::to_string(self).expect("an entry holds nothing that JSON can't");
        format!("{ENTRY_DOMAIN} {}\n{body}\n", seal(&self.key, &body))
    }

    /// The entry of this key that a text holds.
    pub fn read(key: &Digest, text: &str) -> Result<Entry<'static>, Damaged> {
        let (head, body) = text.split_once('\n').ok_or(Damaged::Unknown)?;
        let found = head.strip_prefix(ENTRY_DOMAIN).and_then(|rest| rest.strip_prefix(' ')).ok_or(Damaged::Unknown)?;
        let body = body.strip_suffix('\n').ok_or(Damaged::Changed)?;
        match seal(key, body).as_str() == found {
            true => serde_json::from_str(body).map_err(|_| Damaged::Unknown),
            // Whole, but made for another key?
            false => match serde_json::from_str::<Entry<'_>>(body) {
                Ok(entry) if entry.key != *key && seal(&entry.key, body).as_str() == found => Err(Damaged::Misplaced),
                _ => Err(Damaged::Changed),
            },
        }
    }
}

fn seal(key: &Digest, body: &str) -> Digest {
    let mut fields = Fields::of(ENTRY_DOMAIN);
    fields.add(key.as_str().as_bytes());
    fields.add(body.as_bytes());
    fields.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunId, Timestamp};

    type Owned = (Digest, Json, Limits, Vec<(String, Option<String>)>, Vec<(String, Digest)>, Option<u64>);

    fn plain() -> Owned {
        let env = vec![("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)];
        let files = vec![("data".to_owned(), Digest::of(b"data"))];
        (Digest::of(b"wasm"), Json::parse(r#"{"a":1}"#).unwrap(), Limits::default(), env, files, None)
    }

    fn key_of((component, input, limits, env, files, timeout_ms): &Owned) -> Digest {
        key(&Premises { component, input, limits, timeout_ms: *timeout_ms, env, files })
    }

    #[test]
    fn a_key_changes_with_everything_that_an_attempt_can_see_and_with_nothing_else() {
        let first = key_of(&plain());
        assert_eq!(key_of(&plain()), first);
        let changes: [fn(&mut Owned); 13] = [
            |all| all.0 = Digest::of(b"other"),
            |all| all.1 = Json::parse(r#"{"a":2}"#).unwrap(),
            |all| all.1 = Json::parse(r#"{ "a":1}"#).unwrap(),
            |all| all.2.memory += 1,
            |all| all.2.table_elements += 1,
            |all| all.2.output += 1,
            |all| all.3[0].1 = None,
            |all| all.3[1].1 = Some(String::new()),
            |all| all.3[0].0.push('1'),
            |all| drop(all.3.pop()),
            |all| all.4[0].0.push('/'),
            |all| all.5 = Some(0),
            |all| all.4[0].1 = Digest::of(b"other"),
        ];
        let mut keys = vec![first.clone()];
        for change in changes {
            let mut all = plain();
            change(&mut all);
            keys.push(key_of(&all));
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        let mut unseen = plain();
        (unseen.2.time_ms, unseen.2.log, unseen.2.artifact, unseen.2.process_output) = (1, 1, 1, 1);
        assert_eq!(key_of(&unseen), first);
    }

    #[test]
    fn keys_stay_what_they_are_from_version_to_version() {
        // Whoever changes this number throws away what everybody has kept: count KEY_DOMAIN up and mean it.
        assert_eq!(key_of(&plain()).short(), "78bb4816c56a");
    }

    fn entry() -> Entry<'static> {
        Entry {
            key: Digest::of(b"key"),
            plugin: "lint".into(),
            component: Digest::of(b"wasm"),
            workflow: "check".into(),
            origin: Origin { run: RunId("r1".into()), step: "lint[2]".into(), at: Timestamp(7) },
            output: Json::parse(r#"{"ok": [1, "ä\n"]}"#).unwrap(),
        }
    }

    #[test]
    fn an_entry_is_read_back_as_it_was() {
        let text = entry().to_text();
        assert_eq!(Entry::read(&entry().key, &text), Ok(entry()));
    }

    #[test]
    fn an_entry_that_was_changed_anywhere_is_no_answer() {
        let (key, text) = (entry().key, entry().to_text());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            assert!(Entry::read(&key, &changed).is_err(), "byte {at}: {changed}");
        }
        for length in 0..text.len() {
            if let Some(cut) = text.get(..length) {
                assert!(Entry::read(&key, cut).is_err(), "cut to {length}");
            }
        }
        assert!(Entry::read(&key, &format!("{text}\n")).is_err());
    }

    #[test]
    fn an_entry_in_the_place_of_another_is_no_answer() {
        assert_eq!(Entry::read(&Digest::of(b"other"), &entry().to_text()), Err(Damaged::Misplaced));
        assert_eq!(Entry::read(&Digest::of(b"other"), "nonsense"), Err(Damaged::Unknown));
    }
}
