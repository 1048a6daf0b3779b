//! The sandbox as its callers see it: components go in, ends come out. One file for each subject; the guests are written
//! in WebAssembly text (`guests.rs`).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod attempts;
mod bench;
mod guests;
mod hostile;
mod loading;
mod processes;
mod wasi;
