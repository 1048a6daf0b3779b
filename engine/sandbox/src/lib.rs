//! Runs steps: WebAssembly components in wasmtime, each attempt in a fresh instance that reaches nothing that was not
//! granted and uses no more than its limits. The only crate that knows wasmtime. It does not decide what to run, retry
//! nothing, and keeps no record: it takes a [`Call`] and gives back how that [`Ended`].
//!
//! Three lifetimes, three names:
//!
//! | | lives | made by | costs |
//! |---|---|---|---|
//! | [`Sandbox`]: engine, pool, linker, cache | once a process | [`Sandbox::new`] | 1 ms |
//! | [`Plugin`]: compiled, checked, pre-linked, described | once a component digest | [`Sandbox::load`] | cached: below 1 ms for small components |
//! | a Store: memory, clocks, handles | once an attempt | `store::build`, nothing else | some µs |
//!
//! ```text
//!  component.wasm ── load ──► Plugin ──┐
//!                                      ├── attempt ──► Store, instance, `run` ──► Ended { end, usage }
//!  Call { input, grants, limits } ─────┘                 │   ▲
//!                                                        ▼   │ results, refusals
//!                                       host/{log, progress, process, artifacts, http, wasi}
//! ```

// The three lifetimes.
mod sandbox;

mod plugin;

mod attempt;

mod store;

// What they stand on.
mod engine;

mod cache;

mod bulk;

mod meter;

mod native;

mod remove;

mod cpu;

mod programs;

mod reach;

mod directory;

mod secrets;

mod redact;

mod replace;

mod surroundings;

mod host;

mod blobs;

mod failure;

mod text;

mod used;

mod bindings;

pub use attempt::{Call, End, Ended, Observer};
pub use blobs::{Blobs, StagedBlob, StoredBlob};
pub use engine::Allocation;
pub use plugin::{COMPONENT_MAX, LoadError, LoadFault, Plugin};
pub use programs::{led_to, on_the_way, program_paths};
pub use remove::remove_tree;
pub use sandbox::{Options, Sandbox, SandboxError};
pub use surroundings::{SURROUNDINGS_BYTES_MAX, SURROUNDINGS_FILES_MAX, Surroundings, Unseen};
