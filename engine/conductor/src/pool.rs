//! Places in named pools, shared by all runs of the process, given out first come, first served.
//!
//! A place is a value: dropping it gives it back, so that an attempt that is cancelled, lost or panics can't keep one.
//! Nothing here is journaled; after a restart runs queue again, in the order in which they are resumed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use downbeat_workflow::plan::StepId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;

use crate::drive::Message;

/// All pools of the process, by name.
#[derive(Clone, Default)]
pub(crate) struct Pools {
    by_name: Arc<Mutex<HashMap<String, Pool>>>,
}

/// One pool.
#[derive(Clone)]
pub(crate) struct Pool {
    line: Arc<Mutex<Line>>,
}

struct Line {
    size: u32,
    taken: u32,
    waiting: VecDeque<(UnboundedSender<Message>, StepId)>,
}

/// A place in a pool; free again when dropped.
pub(crate) struct Place {
    /// None once it has been given back.
    pool: Option<Pool>,
}

impl Pools {
    /// The pool of this name. When workflows disagree about its size, the smallest counts: a pool protects something, and
    /// the most careful author knows best how much it bears.
    pub(crate) fn named(&self, name: &str, size: u32) -> Pool {
        let mut pools = lock(&self.by_name);
        let fresh = || Pool { line: Arc::new(Mutex::new(Line { size, taken: 0, waiting: VecDeque::new() })) };
        let pool = pools.entry(name.to_owned()).or_insert_with(fresh).clone();
        let mut line = lock(&pool.line);
        line.size = line.size.min(size);
        drop(line);
        pool
    }
}

impl Pool {
    /// Gets in line. The place arrives as [`Message::Granted`].
    pub(crate) fn enqueue(&self, run: UnboundedSender<Message>, step: StepId) {
        lock(&self.line).waiting.push_back((run, step));
        self.serve();
    }

    fn serve(&self) {
        loop {
            let mut line = lock(&self.line);
            if line.taken >= line.size {
                return;
            }
            let Some((run, step)) = line.waiting.pop_front() else { return };
            line.taken += 1;
            drop(line);
            let place = Place { pool: Some(self.clone()) };
            if let Err(SendError(Message::Granted { mut place, .. })) = run.send(Message::Granted { step, place }) {
                // The run is gone. Dropping the place would serve the next one from in here, as deep as the line is long.
                place.pool = None;
                lock(&self.line).taken -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            lock(&pool.line).taken -= 1;
            pool.serve();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while a pool is locked")
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn granted(inbox: &mut UnboundedReceiver<Message>) -> Option<(u32, Place)> {
        match inbox.try_recv() {
            Ok(Message::Granted { step, place }) => Some((step.0, place)),
            _ => None,
        }
    }

    #[test]
    fn places_are_given_in_order_and_only_so_many() {
        let pool = Pools::default().named("runner", 2);
        let (run, mut inbox) = unbounded_channel();
        for step in 0..3 {
            pool.enqueue(run.clone(), StepId(step));
        }
        let (first, first_place) = granted(&mut inbox).unwrap();
        let (second, _second_place) = granted(&mut inbox).unwrap();
        assert_eq!((first, second), (0, 1));
        assert!(granted(&mut inbox).is_none());
        drop(first_place);
        assert_eq!(granted(&mut inbox).unwrap().0, 2);
    }

    #[test]
    fn a_run_that_is_gone_does_not_keep_its_place() {
        let pool = Pools::default().named("runner", 1);
        let (run, mut inbox) = unbounded_channel();
        let (gone, gone_inbox) = unbounded_channel();
        pool.enqueue(run.clone(), StepId(0));
        for _ in 0..10_000 {
            pool.enqueue(gone.clone(), StepId(1));
        }
        pool.enqueue(run, StepId(2));
        drop(gone_inbox);
        let (_, place) = granted(&mut inbox).unwrap();
        drop(place);
        assert_eq!(granted(&mut inbox).unwrap().0, 2);
    }

    #[test]
    fn the_smallest_size_counts() {
        let pools = Pools::default();
        pools.named("runner", 3);
        let pool = pools.named("runner", 1);
        let (run, mut inbox) = unbounded_channel();
        pool.enqueue(run.clone(), StepId(0));
        pool.enqueue(run, StepId(1));
        let _place = granted(&mut inbox).unwrap();
        assert!(granted(&mut inbox).is_none());
    }
}
