//! Works on files: reads, writes, finds, hashes, copies, packs, unpacks and removes them.
//!
//! Here are the step's input and output and which operation is which; each operation has a file of its own. What they
//! share: the walk through a folder (`tree`), which links are harmless (`link`), writing as a whole or not at all
//! (`whole`), and the words for what went wrong (`trouble`). Every operation can be repeated after an interruption and
//! comes to the same end; that is why there is no `move` and no `append`.

mod copy;
mod glob;
mod hash;
mod link;
mod member;
mod pack;
mod read;
mod remove;
mod tree;
mod trouble;
mod unpack;
mod whole;
mod write;

use std::collections::BTreeMap;

use downbeat_sdk::artifacts::Digest;
use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One operation: the key says which, its table has what the operation needs. So the checker knows which keys belong
/// together.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Input {
    /// Reads a text file.
    Read(read::Reading),
    /// Writes a text file, as a whole or not at all.
    Write(write::Writing),
    /// Finds files by patterns.
    Glob(glob::Finding),
    /// Computes the SHA-256 digest of a file, or of every file in a folder and of them all.
    Hash(hash::Hashing),
    /// Copies a file, or a folder with what is in it.
    Copy(copy::Copying),
    /// Packs a folder into an archive. The same files give the same bytes.
    Pack(pack::Packing),
    /// Unpacks an archive that may be hostile: judged as a whole first, then written.
    Unpack(unpack::Unpacking),
    /// Removes a file, or a folder with what is in it. What is not there counts as removed.
    Remove(remove::Removal),
    /// Makes a folder and those above it. One that is there already is fine.
    MakeFolder(write::Folder),
}

/// What an operation has to tell. What is left out is not of this operation.
#[derive(Default, Serialize, JsonSchema)]
struct Output {
    /// Of `read`: the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Of `read` with `parse = "json"`: the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    /// Of `read` with `parse = "lines"`: the lines that are not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<String>>,
    /// Of `glob`: the paths below the folder, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    /// Of `write`, `hash` and `pack`: the SHA-256 digest of the file, or of all files of the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// Of `hash` for a folder: each file's digest by its path below the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<BTreeMap<String, Digest>>,
    /// How many files were read, written, found, packed, unpacked or removed. Links count, folders don't.
    files: u64,
    /// How many bytes these files have, for `pack` the archive. 0 for `glob`, `remove` and `make-folder`.
    bytes: u64,
}

/// Reads, writes, finds, hashes, copies, packs, unpacks and removes files.
#[step(wants(
    files = "works on files in the directories that the workflow names",
    workspace = "works on files in the run's workspace"
))]
fn work_on_files(context: &Context, input: Input) -> Result<Output, Failure> {
    match input {
        Input::Read(reading) => reading.run(),
        Input::Write(writing) => writing.run(context),
        Input::Glob(finding) => finding.run(),
        Input::Hash(hashing) => hashing.run(),
        Input::Copy(copying) => copying.run(context),
        Input::Pack(packing) => packing.run(context),
        Input::Unpack(unpacking) => unpacking.run(),
        Input::Remove(removal) => removal.run(),
        Input::MakeFolder(folder) => folder.run(),
    }
}

#[cfg(test)]
mod tests;
