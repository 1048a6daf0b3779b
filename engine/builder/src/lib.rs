//! Builds components from source.
//!
//! ```text
//! folder ──fresh?── stamp ──yes──────────────────────────────────────► Built { rebuilt: false }
//!              ├─no, Cargo.toml───► cargo metadata ─► toolchain ─► cargo build ─► stamp, Built
//!              └─no, package.json─► node ─► npm install ─► componentize-qjs ────► stamp, Built
//! ```
//!
//! A room of its own because nothing else in the engine starts a compiler: it knows no workflow, no plan and no
//! sandbox, and what it hands back is a path. It deliberately neither looks into the component it built nor prints:
//! what the compilers say goes, line by line, to the caller.

mod build;
mod cargo;
mod environment;
mod javascript;
mod node;
mod stamp;
mod toolchain;

pub use build::{BuildError, Built, build};
pub use javascript::JavaScriptError;
pub use node::{NodeError, NodeRoute, install_node};
pub use toolchain::{Route, TARGET, Toolchain, ToolchainError, install_toolchain, toolchain};
