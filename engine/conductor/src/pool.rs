//! Places in named pools, shared by all runs of the process. Who gets the next one, and when, is [`Line`]'s to say; here is
//! how they are told.
//!
//! A place is a value: dropping it gives it back, so that an attempt that is cancelled, lost or panics can't keep one. Places
//! of scopes and of waits outlive whoever drives their run, as it goes on when it is taken up again: they are kept here until
//! the record of their end is durable. Nothing here is journaled: after a restart `holders` finds out from the journal who has
//! a place still, and runs queue again in the order in which they are resumed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use downbeat_workflow::event::{RunId, Timestamp};
use downbeat_workflow::line::Line;
use downbeat_workflow::plan;
use downbeat_workflow::run::{Claim, Run};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;

use crate::clock::Clock;
use crate::drive::{CLOCK_LOOK_MAX, Message};
use crate::group;

/// All pools of the process, by name.
#[derive(Clone)]
pub(crate) struct Pools {
    clock: Clock,
    by_name: Arc<Mutex<HashMap<String, Pool>>>,
    kept: Arc<Mutex<HashMap<RunId, HashMap<Claim, Place>>>>,
}

/// One pool.
#[derive(Clone)]
pub(crate) struct Pool {
    clock: Clock,
    front: Arc<Mutex<Front>>,
}

struct Front {
    line: Line<Waiter>,
    /// Whether somebody looks again when the rate lets the next one in.
    is_watched: bool,
}

struct Waiter {
    run: UnboundedSender<Message>,
    claim: Claim,
}

/// A place in a pool; free again when dropped.
pub(crate) struct Place {
    /// None once it has been given back.
    pool: Option<Pool>,
    given: Timestamp,
    is_used: bool,
}

impl Pools {
    pub(crate) fn new(clock: Clock) -> Pools {
        Pools { clock, by_name: Arc::default(), kept: Arc::default() }
    }

    /// The pool of this name. When workflows disagree about it, the smallest size and the lowest rate count.
    pub(crate) fn named(&self, declared: &plan::Pool) -> Pool {
        let mut pools = lock(&self.by_name);
        let fresh = || {
            let front = Front { line: Line::new(declared), is_watched: false };
            Pool { clock: self.clock.clone(), front: Arc::new(Mutex::new(front)) }
        };
        let pool = pools.entry(declared.name.clone()).or_insert_with(fresh).clone();
        lock(&pool.front).line.narrow(declared);
        pool
    }

    /// Keeps the place of a scope or a wait until it is [released](Pools::release).
    pub(crate) fn keep(&self, run: &RunId, claim: Claim, mut place: Place) {
        place.is_used = true;
        lock(&self.kept).entry(run.clone()).or_default().insert(claim, place);
    }

    /// Gives places back that are not needed any more. To be called once that is durable: whoever gets them next may be
    /// another run.
    pub(crate) fn release(&self, run: &RunId, freed: &[Claim]) {
        let mut kept = lock(&self.kept);
        let Some(places) = kept.get_mut(run) else { return };
        let freed: Vec<Place> = freed.iter().filter_map(|claim| places.remove(claim)).collect();
        if places.is_empty() {
            kept.remove(run);
        }
        // Whom it wakes may want to keep a place.
        drop(kept);
        drop(freed);
    }

    /// Sees to it that a run has the places that it holds by its records, and no others: more than there are, if need be.
    pub(crate) fn take_up(&self, run: &Run) {
        let pools = &run.plan().pools;
        let holding = run.holding().into_iter().map(|(claim, pool)| (claim, pools[pool.index()].clone()));
        let group = run.group().filter(|_| !run.is_in_line()).map(|group| (Claim::Run, group::pool(group)));
        self.hold(run.id(), holding.chain(group));
    }

    fn hold(&self, run: &RunId, holding: impl IntoIterator<Item = (Claim, plan::Pool)>) {
        let mut before = lock(&self.kept).remove(run).unwrap_or_default();
        let mut places = HashMap::new();
        for (claim, pool) in holding {
            let place = before.remove(&claim).unwrap_or_else(|| self.named(&pool).hold());
            places.insert(claim, place);
        }
        if !places.is_empty() {
            lock(&self.kept).insert(run.clone(), places);
        }
    }
}

impl Pool {
    /// Gets in line. The place arrives as [`Message::Granted`].
    pub(crate) fn enqueue(&self, run: UnboundedSender<Message>, claim: Claim, priority: i32) {
        lock(&self.front).line.join(priority, Waiter { run, claim });
        self.serve();
    }

    /// A place that somebody has already.
    fn hold(&self) -> Place {
        lock(&self.front).line.hold();
        Place { pool: Some(self.clone()), given: Timestamp(0), is_used: true }
    }

    /// Something was started in it before this process was.
    pub(crate) fn started(&self, at: Timestamp) {
        lock(&self.front).line.started(at);
    }

    fn serve(&self) {
        loop {
            let now = self.clock.now();
            let mut front = lock(&self.front);
            let Some(Waiter { run, claim }) = front.line.serve(now) else {
                if let Some(at) = front.line.opens_at().filter(|_| !front.is_watched) {
                    front.is_watched = self.look_at(at);
                }
                return;
            };
            drop(front);
            let place = Place { pool: Some(self.clone()), given: now, is_used: false };
            if let Err(SendError(Message::Granted { mut place, .. })) = run.send(Message::Granted { claim, place }) {
                // The run is gone. Dropping the place would serve the next one from in here, as deep as the line is long.
                place.pool = None;
                lock(&self.front).line.decline(now);
            }
        }
    }

    /// Has somebody look again at this time. Answers whether somebody will: nobody does when the engine is shut down.
    fn look_at(&self, at: Timestamp) -> bool {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
        let pool = self.clone();
        runtime.spawn(async move {
            loop {
                let left = at.0.saturating_sub(pool.clock.now().0);
                if left == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(left).min(CLOCK_LOOK_MAX)).await;
            }
            lock(&pool.front).is_watched = false;
            pool.serve();
        });
        true
    }
}

impl Place {
    /// From now on it counts as a start in its pool.
    pub(crate) fn used(mut self) -> Place {
        self.is_used = true;
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            match self.is_used {
                true => lock(&pool.front).line.give_back(),
                false => lock(&pool.front).line.decline(self.given),
            }
            pool.serve();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while a pool is locked")
}

#[cfg(test)]
mod tests {
    use downbeat_workflow::plan::{Rate, StepId};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn runner(size: u32, rate: Option<Rate>) -> plan::Pool {
        plan::Pool { name: "runner".to_owned(), size, rate }
    }

    fn pools() -> Pools {
        let start = tokio::time::Instant::now();
        Pools::new(Clock::new(move || Timestamp(start.elapsed().as_millis() as u64)))
    }

    fn claim(step: u32) -> Claim {
        Claim::Attempt(StepId(step), 1)
    }

    fn granted(inbox: &mut UnboundedReceiver<Message>) -> Option<(u32, Place)> {
        match inbox.try_recv() {
            Ok(Message::Granted { claim, place }) => Some((claim.step().unwrap().0, place)),
            _ => None,
        }
    }

    #[test]
    fn places_are_given_by_priority_then_in_order_and_only_so_many() {
        let pool = pools().named(&runner(2, None));
        let (run, mut inbox) = unbounded_channel();
        for step in 0..4 {
            pool.enqueue(run.clone(), claim(step), if step == 3 { 5 } else { 0 });
        }
        let (first, first_place) = granted(&mut inbox).unwrap();
        let (second, second_place) = granted(&mut inbox).unwrap();
        assert_eq!((first, second), (0, 1), "the third and fourth were not there yet");
        assert!(granted(&mut inbox).is_none());
        drop(first_place);
        assert_eq!(granted(&mut inbox).unwrap().0, 3);
        drop(second_place);
        assert_eq!(granted(&mut inbox).unwrap().0, 2);
    }

    #[test]
    fn a_run_that_is_gone_does_not_keep_its_place() {
        let pool = pools().named(&runner(1, None));
        let (run, mut inbox) = unbounded_channel();
        let (gone, gone_inbox) = unbounded_channel();
        pool.enqueue(run.clone(), claim(0), 0);
        for _ in 0..10_000 {
            pool.enqueue(gone.clone(), claim(1), 0);
        }
        pool.enqueue(run, claim(2), 0);
        drop(gone_inbox);
        let (_, place) = granted(&mut inbox).unwrap();
        drop(place);
        assert_eq!(granted(&mut inbox).unwrap().0, 2);
    }

    #[test]
    fn the_smallest_size_counts() {
        let pools = pools();
        pools.named(&runner(3, None));
        let pool = pools.named(&runner(1, None));
        let (run, mut inbox) = unbounded_channel();
        pool.enqueue(run.clone(), claim(0), 0);
        pool.enqueue(run, claim(1), 0);
        let _place = granted(&mut inbox).unwrap();
        assert!(granted(&mut inbox).is_none());
    }

    #[test]
    fn what_a_run_holds_by_its_records_is_kept_from_others_until_it_is_released() {
        let pools = pools();
        let declared = runner(1, None);
        let (held, gone) = (Claim::Scope(StepId(0), 0), Claim::Wait(StepId(1)));
        let stopped = RunId("stopped".into());
        pools.hold(&stopped, [(held, declared.clone()), (gone, declared.clone())]);
        // Taken up once more, it has what it had, and not what it does not need any more.
        pools.hold(&stopped, [(held, declared.clone())]);
        let (run, mut inbox) = unbounded_channel();
        pools.named(&declared).enqueue(run, claim(7), 0);
        pools.release(&stopped, &[gone]);
        assert!(granted(&mut inbox).is_none());
        pools.release(&stopped, &[held]);
        assert_eq!(granted(&mut inbox).unwrap().0, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_lets_the_next_one_in_when_its_window_is_over() {
        let pool = pools().named(&runner(9, Some(Rate { count: 2, window_ms: 90_000 })));
        let (run, mut inbox) = unbounded_channel();
        let start = tokio::time::Instant::now();
        let mut starts = Vec::new();
        (0..5).for_each(|step| pool.enqueue(run.clone(), claim(step), 0));
        while starts.len() < 5 {
            let Some(Message::Granted { place, .. }) = inbox.recv().await else { panic!("it is a place") };
            // The second one starts nothing, and does not count.
            let is_declined = starts.len() == 1 && start.elapsed().is_zero() && !starts.contains(&u64::MAX);
            starts.push(if is_declined { u64::MAX } else { start.elapsed().as_millis() as u64 });
            drop(if is_declined { place } else { place.used() });
        }
        assert_eq!(starts, [0, u64::MAX, 0, 90_000, 90_000]);
    }
}
