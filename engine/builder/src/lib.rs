//! Builds components from source.
//!
//! ```text
//! folder ──fresh?── stamp ──yes──────────────────────────────► Built { rebuilt: false }
//!              └─no─► cargo metadata ─► toolchain ─► cargo build ─► stamp, Built
//! ```
//!
//! A room of its own because nothing else in the engine starts a compiler: it knows no workflow, no plan and no
//! sandbox, and what it hands back is a path. It deliberately neither looks into the component it built nor prints:
//! what cargo says goes, line by line, to the caller.

mod build;
mod environment;
mod stamp;
mod toolchain;

pub use build::{BuildError, Built, build};
pub use toolchain::{Route, TARGET, Toolchain, ToolchainError, install_toolchain, toolchain};
