//! Conversations with a conductor: runs driven to their ends, killed, and under clocks that
//! were set. Attempts are scripted; the sandbox is not asked.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

mod clocks;
mod crashing;
mod driving;
mod house;
