//! Conversations with a conductor: runs driven to their ends, killed, stopped by the thousand, and under clocks that jump.
//! Attempts are scripted; the sandbox is not asked.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

mod clocks;
mod crashing;
mod crowd;
mod driving;
mod house;
mod scopes;
