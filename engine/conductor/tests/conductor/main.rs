//! Conversations with a conductor. Attempts are scripted; the sandbox is not asked.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

mod driving;
mod house;
