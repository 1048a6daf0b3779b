//! `hash`: the SHA-256 digest of a file, or of every file in a folder and of them all.
//!
//! A folder's own digest is that of the list which `sha256sum` would print of its files, sorted by path: `DIGEST`, two
//! spaces, `PATH`, a line end. A link stands in it with the digest of its target's text.

use std::collections::BTreeMap;
use std::fs::{self, File};

use downbeat_sdk::Failure;
use downbeat_sdk::artifacts::Digest;
use downbeat_sdk::files::{self, Access};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::tree::{Choice, Kind, walk};
use crate::whole::{below, digest, pour};
use crate::{Output, trouble};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Hashing {
    /// The file or folder.
    #[schemars(length(min = 1))]
    path: String,
    /// For a folder: patterns of the files that are meant. Without any, all are.
    #[serde(default, rename = "match")]
    #[schemars(length(max = 100))]
    wanted: Vec<String>,
    /// For a folder: patterns of files that are not meant all the same.
    #[serde(default)]
    #[schemars(length(max = 100))]
    except: Vec<String>,
}

impl Hashing {
    pub(crate) fn run(mut self) -> Result<Output, Failure> {
        let choice = Choice::new(&self.wanted, &self.except)?;
        self.path = files::check_file(&self.path, Access::Read)?;
        let metadata = fs::metadata(&self.path).map_err(|error| trouble::io(&self.path, "read", &error))?;
        if !metadata.is_dir() {
            choice.only_for_folders(&self.path)?;
            let (digest, bytes) = hash_file(&self.path)?;
            return Ok(Output { digest: Some(digest), files: 1, bytes, ..Output::default() });
        }
        let mut list = Sha256::new();
        let mut digests = BTreeMap::new();
        let mut total = 0;
        for entry in walk(&self.path, &choice)? {
            let (digest, bytes) = match &entry.kind {
                Kind::Folder | Kind::Special => continue,
                Kind::File { .. } => hash_file(&below(&self.path, &entry.path))?,
                Kind::Link { target } => (digest(Sha256::new_with_prefix(target)), 0),
            };
            let hex = digest.0.trim_start_matches("sha256:");
            list.update(format!("{hex}  {}\n", entry.path));
            digests.insert(entry.path, digest);
            total += bytes;
        }
        let files = digests.len() as u64;
        Ok(Output { digest: Some(digest(list)), digests: Some(digests), files, bytes: total, ..Output::default() })
    }
}

fn hash_file(path: &str) -> Result<(Digest, u64), Failure> {
    let fault = |error: std::io::Error| trouble::io(path, "read", &error);
    let mut file = File::open(path).map_err(fault)?;
    let mut hasher = Sha256::new();
    let bytes = pour(&mut file, &mut hasher).map_err(fault)?;
    Ok((digest(hasher), bytes))
}
