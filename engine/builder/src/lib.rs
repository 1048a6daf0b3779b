//! Builds components from source.
//!
//! ```text
//! folder ──fresh?── stamp ──yes──────────────────────────────────────► Built { rebuilt: false }
//!              ├─no, Cargo.toml───► cargo metadata ─► toolchain ─► cargo build ─► crates ─► stamp, Built
//!              └─no, package.json─► node ─► npm install ─► componentize-qjs ────► stamp, Built
//! ```
//!
//! A room of its own because nothing else in the engine starts a compiler: it knows no workflow, no plan and no
//! sandbox, and what it hands back is a path. It deliberately does not print: what the compilers say goes, line by line, to
//! the caller. Nor does it look into a component, but for the list of crates that it puts into one.

mod build;
mod cargo;
mod crates;
mod environment;
mod javascript;
mod node;
mod stamp;
mod toolchain;

pub use build::{BuildError, Built, build, built};
pub use crates::{Crate, Kind, ListFault, crates_of};
pub use javascript::JavaScriptError;
pub use node::{NodeError, NodeRoute, install_node};
pub use toolchain::{Route, TARGET, Toolchain, ToolchainError, install_toolchain, toolchain};
