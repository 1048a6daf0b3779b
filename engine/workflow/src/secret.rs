//! Secrets by name: where the engine reads one from, what a step is granted of it, and the text that stands for it.
//!
//! A value is never here. The core, the journal and, as a rule, the guest know a secret by its [`placeholder`] alone;
//! the sandbox reads the value and puts it in its place on the way out.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::capability::quoted;

/// Bytes of the longest value: keys and certificates take some 10 KiB.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Bytes of the shortest value, white space not counted. 8: a value is blotted out wherever it turns up, and a shorter one turns up everywhere.
pub const SECRET_BYTES_MIN: usize = 8;

/// What is hashed before anything else, so that no other hash of the engine is a placeholder.
const DOMAIN: &[u8] = b"downbeat secret 1\0";

/// What a placeholder begins with.
pub const PLACEHOLDER_PREFIX: &str = "dbsecret-";

/// Where the engine reads a value from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// A variable of the engine's own environment.
    Env(String),
    /// A file; a relative path starts at the workflow's folder.
    File(String),
    /// What a program writes to its standard output: its name or absolute path, and its arguments.
    Command(Vec<String>),
    /// A file of `$CREDENTIALS_DIRECTORY`, where systemd puts what a unit is given.
    Credential(String),
}

impl SecretSource {
    /// How it is written: the key.
    pub fn word(&self) -> &'static str {
        match self {
            SecretSource::Env(_) => "env",
            SecretSource::File(_) => "file",
            SecretSource::Command(_) => "command",
            SecretSource::Credential(_) => "credential",
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Env(name) => write!(f, "the variable `{name}`"),
            SecretSource::File(path) => write!(f, "the file `{path}`"),
            SecretSource::Command(words) => write!(f, "the command `{}`", words.join(" ")),
            SecretSource::Credential(name) => write!(f, "the credential `{name}`"),
        }
    }
}

/// What a step may have of a secret. One that is granted in several places has several of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct SecretGrant {
    /// Its name in the workflow.
    pub name: String,
    /// Where the value comes from. There always is one; none is for those who make a grant piece by piece.
    pub source: Option<SecretSource>,
    /// The destination to which requests may carry it, in the words of a grant of `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// In this header, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// In the body.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub body: bool,
    /// In the query of the address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub query: bool,
    /// In the path of the address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub path: bool,
    /// Also over a connection that others can read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The component itself sees the value, in its input.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reveal: bool,
    /// Native programs have it in this variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl SecretGrant {
    /// Whether a placeholder in the step's input is ever replaced.
    pub fn is_for_input(&self) -> bool {
        self.reveal || self.host.is_some()
    }
}

impl fmt::Display for SecretGrant {
    /// As it is written in TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ name = {}", quoted(&self.name))?;
        let texts = [("host", &self.host), ("header", &self.header), ("env", &self.env)];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            write!(f, ", {key} = {}", quoted(text))?;
        }
        let flags = [
            ("body", self.body),
            ("query", self.query),
            ("path", self.path),
            ("insecure", self.insecure),
            ("reveal", self.reveal),
        ];
        flags.into_iter().filter(|(_, is_set)| *is_set).try_for_each(|(key, _)| write!(f, ", {key} = true"))?;
        f.write_str(" }")
    }
}

/// The text that stands for a secret in a run: the same whenever the run is replayed, another one in every run, and not to be
/// guessed by who does not see the run's record. It has only lower-case letters, digits and a `-`, so that no encoding of texts
/// changes it.
pub fn placeholder(run: &str, seed: u64, name: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for part in [run.as_bytes(), &seed.to_le_bytes(), name.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{PLACEHOLDER_PREFIX}{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_the_runs_own_and_stays_the_same() {
        let one = placeholder("r1", 7, "token");
        assert_eq!(one, placeholder("r1", 7, "token"));
        assert_eq!(one.len(), PLACEHOLDER_PREFIX.len() + 32);
        for other in [("r2", 7, "token"), ("r1", 8, "token"), ("r1", 7, "tokens"), ("r1t", 7, "oken")] {
            assert_ne!(one, placeholder(other.0, other.1, other.2));
        }
        assert!(one.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
    }

    #[test]
    fn a_grant_is_told_as_it_is_written() {
        let grant = SecretGrant {
            name: "hook".into(),
            host: Some("example.org".into()),
            header: Some("authorization".into()),
            body: true,
            ..SecretGrant::default()
        };
        let text = r#"{ name = "hook", host = "example.org", header = "authorization", body = true }"#;
        assert_eq!(grant.to_string(), text);
    }
}
