//! The one door to the host: in a component the bindings of `wit/`, natively the doubles of [`crate::testing`].
//!
//! Both sides offer the same functions and the same two resources, so nothing else in this crate asks which one it is.

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(not(target_arch = "wasm32"))]
mod double;

#[cfg(target_arch = "wasm32")]
pub use component::{Exported, bindings};
#[cfg(target_arch = "wasm32")]
pub(crate) use component::{
    Reader, Writer, append_items, directories, get_artifact, put_artifact, report_progress, run_process, send_http,
    symlink,
};
#[cfg(not(target_arch = "wasm32"))]
pub use double::{Host, Progress};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use double::{
    Reader, Writer, append_items, directories, get_artifact, put_artifact, report_progress, run_process, send_http,
    symlink,
};
