//! The limits: loops over the engines that Downbeat stands on, with nothing of Downbeat in them. What it can't do without
//! (a fresh instance for every step, a full sync for every commit, an index by run) they do as well, with the same
//! settings, so that what remains between a figure and its limit is Downbeat's own doing.

mod sqlite;
mod wasm;

pub(crate) use sqlite::{Spread, Sqlite};
pub(crate) use wasm::Wasm;
