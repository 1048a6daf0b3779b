//! Why a run went as it did: for each step why it ran or not, what its rule saw, what it waited for and for how long, why it
//! was tried again; for the run its story in order, the root causes of what was skipped, and the chain of steps that its
//! end waited for.
//!
//! A fold over records beside a [`Run`] that takes in the same ones: what a record does not repeat (the delay that was
//! chosen, what a rule saw that held) is asked of the run as it stood then. Nothing is guessed and no clock is read. The
//! words are in `page`; the values serialise as they are, for programs.

mod account;
mod page;
mod teller;

use std::sync::Arc;

pub use self::account::*;
use self::teller::Teller;
pub use self::teller::{Bottleneck, Link};
use crate::event::{Record, RunId, Timestamp};
use crate::plan::{Plan, StepId};
use crate::run::Misplaced;

impl Account {
    /// The account that these records give of a run of this plan. `now` is where a run stands that is not over: parts that
    /// have begun are counted until then, or until the latest record, whichever is later. A step in `focus` gets its input
    /// and the chain of what it was skipped for as well.
    pub fn of(
        plan: &Arc<Plan>,
        id: &RunId,
        records: &[Record],
        now: Timestamp,
        focus: Option<StepId>,
    ) -> Result<Account, Misplaced> {
        let mut teller = Teller::new(plan, id, focus);
        for record in records {
            teller.take_in(record)?;
            teller.look_at_tries(record);
        }
        teller.look_at_rates(records, now);
        Ok(teller.account(now))
    }
}
