//! Conversations with a conductor: runs driven to their ends, killed, stopped by the thousand, and under clocks that jump.
//! Attempts are scripted; the sandbox is not asked.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

mod caching;
mod clocks;
mod crashing;
mod crowd;
mod driving;
mod exclusion;
mod groups;
mod growing;
mod house;
mod patterns;
mod pausing;
#[allow(dead_code, reason = "another room's tests need the rest of it")]
#[path = "../../../workflow/tests/plans/mod.rs"]
mod plans;
#[allow(dead_code, reason = "another room's tests need the rest of it")]
#[path = "../../../workflow/tests/play/mod.rs"]
mod play;
mod scopes;
#[allow(dead_code, reason = "another room's tests need the rest of it")]
#[path = "../../../workflow/tests/table/mod.rs"]
mod table;
