//! A run as one file: its plan, its records, its log, the blobs that they mention, and the components if they are wanted.
//!
//! ```text
//! run.downbeat, a tar archive: manifest.json, plan.json, records.jsonl, log.jsonl, blobs/HEX…, components/HEX.wasm…
//! ```
//!
//! The file is a plain tar archive, so that any `tar` lists it and takes it apart; it is not compressed, so that nothing in
//! it is larger than the file. The manifest comes first and names each member with its size and digest. Whoever reads a
//! file trusts nothing of it: what is not exactly what [`write()`] makes is refused ([`Refusal`]), plan and records among it.
//!
//! In reading order: `tar` (the container), `manifest`, [`mod@write`], [`read()`]. Files, journals and the store of blobs are
//! whoever's asks for it; nothing here opens one.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "in a test it is an assertion"))]

mod manifest;
mod read;
mod tar;
mod write;

pub use manifest::{FORMAT, Kind, Line, Manifest, Member, VERSION};
pub use read::{
    LINES_MAX, MANIFEST_BYTES_MAX, MEMBERS_MAX, PLAN_BYTES_MAX, RECORD_BYTES_MAX, RecordedRun, Refusal, read,
};
pub use write::{Part, Run, write};
