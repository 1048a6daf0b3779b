//! Write a Downbeat step in Rust.
//!
//! A step is a function from a typed input to a typed output. The attribute [`macro@step`] turns it into a component:
//! JSON becomes the input type, the output type becomes JSON, and the two JSON Schemas that the workflow checker reads
//! come from the same types. What a step does besides computing, it does through the modules here, each of them one
//! grant in the workflow: [`process`], [`http`], [`artifacts`], [`files`]. [`log`], [`progress`] and
//! [`items`] need none.
//!
//! ```
//! use downbeat_sdk::prelude::*;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Input {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Output {
//!     greeting: String,
//! }
//!
//! /// Greets somebody.
//! #[step]
//! fn hello(input: Input) -> Result<Output, Failure> {
//!     if input.name.is_empty() {
//!         return Err(Failure::invalid_input("`name` is empty: whom shall I greet?"));
//!     }
//!     log::info!("greeting {}", input.name);
//!     Ok(Output { greeting: format!("Hello, {}!", input.name) })
//! }
//!
//! // Natively, in-memory doubles stand in for the host, so a step is tested like any other function.
//! let host = downbeat_sdk::testing::Host::new();
//! assert_eq!(hello(Input { name: "Ada".into() })?.greeting, "Hello, Ada!");
//! assert_eq!(host.log(), ["info: greeting Ada"]);
//! # Ok::<(), Failure>(())
//! ```
//!
//! # At least once
//!
//! An attempt is executed at least once: when the engine is killed in the middle of it, it is made again. Hand
//! [`Context::idempotency_key`] to whatever the step changes outside of its sandbox, so that doing it again changes
//! nothing.
//!
//! # What a panic does
//!
//! It ends the attempt with a trap; its message becomes the last line of the attempt's log. For whatever can be
//! foreseen, return a [`Failure`]: the engine retries by its kind.

mod context;
mod duration;
mod failure;
mod finite;
mod host;
mod step;

pub mod artifacts;
pub mod files;
pub mod http;
pub mod items;
pub mod process;
pub mod progress;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use context::Context;
pub use downbeat_sdk_macros::step;
pub use duration::TextDuration;
pub use failure::{Failure, Kind, Refused};
pub use log;
pub use step::{Description, Step, StepFn, Want};

/// What a step's source begins with: `use downbeat_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{Context, Failure, artifacts, http, items, log, process, progress, step};
}

/// The README's examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the compiler refuses, after one that it takes: each of the others has one thing wrong with it.
///
/// ```
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
/// #[step(wants(clock = "tells the time"))]
/// fn right(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// ```
///
/// ```compile_fail
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
/// #[step(wants(clock = "tells the time"))]
/// fn without_a_result(_: &Context, _: Input) -> Output { Output {} }
/// ```
///
/// ```compile_fail
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
/// #[step(wants(clocks = "tells the time"))]
/// fn with_an_unknown_capability(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// ```
///
/// ```compile_fail
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize)] struct Output {}
/// #[step(wants(clock = "tells the time"))]
/// fn without_a_schema(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// ```
///
/// ```compile_fail
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
/// #[step(wants(clock = "tells the time"))]
/// async fn asynchronous(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// ```
///
/// ```compile_fail
/// # use downbeat_sdk::prelude::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
/// # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
/// #[step(wants(clock = "tells the time"))]
/// fn one(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// #[step]
/// fn another(_: &Context, _: Input) -> Result<Output, Failure> { Ok(Output {}) }
/// ```
#[cfg(doctest)]
struct CompilerRefuses;

/// What the attribute's expansion calls. Not for authors: it changes without notice.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::host::{Exported, bindings};
    pub use crate::step::{About, describe, run};
}
