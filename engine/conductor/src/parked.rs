//! Ends a run that nobody drives, without executing anything of it: its records say that it was cancelled.

use std::sync::Arc;

use downbeat_journal::Journal;
use downbeat_workflow::event::RunId;
use downbeat_workflow::run::Run;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::conductor::{Plans, StartError, replay};
use crate::drive::{Driver, Ending, Shared};
use crate::group::Groups;
use crate::holders::Holders;
use crate::perform::{Nothing, Watch};
use crate::pool::Pools;

/// Cancels a run over a journal that this process drives, in which nobody else can drive it. What was in flight when its
/// driver ended is recorded as interrupted. [`Ending::Stopped`] if it has always-steps, which run when it is resumed.
pub async fn end_parked(
    journal: &Journal,
    id: &RunId,
    reason: &str,
    watch: Arc<dyn Watch>,
    clock: &Clock,
) -> Result<Ending, StartError> {
    let driver = driver(journal, replay(journal, &Plans::default(), id)?, watch, clock, Pools::new(clock.clone()));
    Ok(driver.end_parked(reason.to_owned(), None).await?)
}

/// A driver that can start nothing.
pub(crate) fn driver(
    journal: &Journal,
    run: Run,
    watch: Arc<dyn Watch>,
    clock: &Clock,
    pools: Pools,
) -> Driver<Nothing> {
    let shared = Shared {
        journal: journal.clone(),
        performer: Nothing,
        watch,
        clock: clock.clone(),
        pools,
        plans: Plans::default(),
        holders: Holders::default(),
        groups: Groups::default(),
        answers: None,
    };
    // Nobody can stop it: it only records, and is soon over.
    let (_stop, stopped) = watch::channel(false);
    Driver::new(Arc::new(shared), run, (), stopped)
}
