//! Who has a place in a pool still, and what was started in which, before this process was: the journal says it. Looked for
//! when the first run that has to do with pools is begun or taken up, so that those without them cost nothing.
//!
//! A run that was stopped, or whose engine died, in the middle of a block with a pool keeps its place until somebody takes it
//! up or cancels it: what it has begun may be half done.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use downbeat_journal::{Journal, RunFilter, StateFilter};
use downbeat_workflow::event::Timestamp;
use downbeat_workflow::line;
use downbeat_workflow::plan::{Plan, Step, Work};

use crate::conductor::{Plans, StartError, replay};
use crate::group::Groups;
use crate::pool::Pools;

/// What was found out already.
#[derive(Default)]
pub(crate) struct Holders(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Whether it is known who has places.
    places: bool,
    /// The pools whose latest starts are known.
    rates: HashSet<String>,
}

impl Holders {
    /// Finds out what the pools of this plan have to know of other runs.
    pub(crate) fn find(
        &self,
        plan: &Plan,
        journal: &Journal,
        plans: &Plans,
        pools: &Pools,
        groups: &Groups,
        now: Timestamp,
    ) -> Result<(), StartError> {
        if plan.pools.is_empty() && plan.concurrency.is_none() {
            return Ok(());
        }
        let mut known = self.0.lock().expect("nothing panics while holders are looked for");
        // Runs of one workflow share their plan; it is read once.
        let mut read = HashMap::new();
        let mut plan_of = |run: &downbeat_journal::RunSummary| match read.get(&run.plan) {
            Some(plan) => Ok::<Option<Arc<Plan>>, StartError>(Option::clone(plan)),
            None => {
                // What this version can't read, it can't drive either.
                let plan = match plans.of(journal, &run.id, &run.plan) {
                    Err(StartError::Plan { .. }) => None,
                    found => Some(found?),
                };
                read.insert(run.plan.clone(), plan.clone());
                Ok(plan)
            }
        };
        if !known.places {
            for run in journal.runs(&RunFilter { state: StateFilter::Open, ..RunFilter::default() })? {
                if !plan_of(&run)?.is_some_and(|plan| holds_places(&plan)) {
                    continue;
                }
                let run = match replay(journal, plans, &run.id) {
                    // It has come to its end meanwhile.
                    Err(StartError::Over(_)) => continue,
                    found => found.map_err(|cause| StartError::Holder { run: run.id, cause: Box::new(cause) })?,
                };
                pools.take_up(&run);
                // One that waits for its group is in line only once somebody drives it.
                if let Some(group) = run.group().filter(|_| !run.is_in_line()) {
                    groups.join(group, run.id());
                }
            }
            known.places = true;
        }
        let rated = plan.pools.iter().filter_map(|pool| Some((pool, pool.rate?)));
        let rated: Vec<_> = rated.filter(|(pool, _)| !known.rates.contains(&pool.name)).collect();
        let Some(longest) = rated.iter().map(|(_, rate)| rate.window_ms).max() else { return Ok(()) };
        let since = Timestamp(now.0.saturating_sub(longest));
        for run in journal.runs(&RunFilter::default())?.iter().filter(|run| run.last_event > since) {
            let of_both =
                |plan: &Arc<Plan>| plan.pools.iter().any(|pool| rated.iter().any(|(r, _)| r.name == pool.name));
            let Some(plan) = plan_of(run)?.filter(of_both) else { continue };
            for (pool, at) in line::starts(&journal.load(&run.id)?.records) {
                let name = &plan.pools[pool.index()].name;
                if let Some((pool, _)) = rated.iter().find(|(pool, _)| pool.name == *name).filter(|_| at > since) {
                    // A clock may have been ahead; what it started counts from now on at the latest.
                    pools.named(pool).started(at.min(now));
                }
            }
        }
        known.rates.extend(rated.iter().map(|(pool, _)| pool.name.clone()));
        Ok(())
    }
}

/// Whether runs of a plan may have places while nobody drives them.
fn holds_places(plan: &Plan) -> bool {
    let holds = |step: &Step| step.pool().is_some() && matches!(step.work, Work::Open(_) | Work::Wait(_));
    plan.concurrency.is_some() || plan.steps.iter().any(holds)
}
