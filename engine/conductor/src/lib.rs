//! Drives runs: asks each what should happen, writes that to the journal, and makes it happen.
//!
//! One task owns a run; everybody else sends it a closed enum of messages. The task drains all that is ready, decides,
//! waits until the decisions are durable, and only then carries them out. What an attempt is, it doesn't know: that is
//! behind [`Perform`], with the sandbox as one way to do it ([`Sandboxed`]) and scripts in tests as another.
//!
//! In reading order: [`conductor`] (start, resume, stop), `drive` (the life of one run), [`perform`] (attempts),
//! `pool` (places in pools), `group` (runs that exclude
//! each other), `holders` (who has a place from before), `ask` and [`answers`] (answers that are kept across runs),
//! `parked` (ending what nobody drives), `kept` (files that no run needs), [`clock`], `name` (run ids).

pub mod answers;
mod ask;
pub mod clock;
pub mod conductor;
mod drive;
mod group;
mod holders;
mod kept;
mod name;
mod parked;
pub mod perform;
mod pool;
mod sandboxed;

pub use answers::Answers;
pub use ask::{Key, key};
pub use conductor::{Conductor, Handle, StartError};
pub use drive::{DriveError, Ending};
pub use kept::{Kept, KeptError, Leftover, Leftovers};
pub use parked::end_parked;
pub use perform::{Order, Perform, PrepareError, Watch};
pub use sandboxed::Sandboxed;
