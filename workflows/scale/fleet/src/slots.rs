//! Places at workers, and the queue of customers for them: first come, first served. A place that becomes free goes
//! straight to the customer who has waited longest, so that nobody is woken for nothing.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::place::PATIENCE;

/// Customers who wait at most; further ones are sent away. 150 are served in four seconds by one worker, and nobody
/// waits for longer.
pub const QUEUE_MAX: usize = 150;

/// A place at a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// The worker's process id.
    pub pid: u32,
    pub port: u16,
}

/// Why there is no place.
#[derive(Debug, PartialEq)]
pub enum NoSlot {
    /// Too many wait already.
    Full,
    /// None became free in time.
    TimedOut,
}

/// The places of all workers that serve.
#[derive(Debug, Default)]
pub struct Slots {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: VecDeque<Slot>,
    queue: VecDeque<(u64, Sender<Slot>)>,
    tickets: u64,
    queue_peak: usize,
    workers: HashMap<u32, Worker>,
}

#[derive(Debug, Default)]
struct Worker {
    /// How many of its places are taken.
    taken: usize,
    retiring: bool,
}

impl Slots {
    /// Adds a worker's places.
    pub fn add(&self, pid: u32, port: u16, count: usize) {
        let mut state = self.lock();
        state.workers.insert(pid, Worker::default());
        (0..count).for_each(|_| state.hand_on(Slot { pid, port }));
    }

    /// Gives nobody a place at this worker any more, and waits until those that are taken are given back, for a bounded
    /// time.
    pub fn retire(&self, pid: u32) {
        let mut state = self.lock();
        state.free.retain(|slot| slot.pid != pid);
        if let Some(worker) = state.workers.get_mut(&pid) {
            worker.retiring = true;
        }
        let busy = |state: &mut State| state.workers.get(&pid).is_some_and(|worker| worker.taken > 0);
        let waited = self.given_back.wait_timeout_while(state, PATIENCE, busy);
        waited.expect("no holder of the lock panics").0.workers.remove(&pid);
    }

    /// Forgets a worker that has ended. Its places that are taken are no more when they are given back.
    pub fn forget(&self, pid: u32) {
        let mut state = self.lock();
        state.free.retain(|slot| slot.pid != pid);
        state.workers.remove(&pid);
    }

    /// A place, at once or when it is one's turn.
    pub fn take(&self, patience: Duration) -> Result<Slot, NoSlot> {
        let (ticket, turn) = {
            let mut state = self.lock();
            // Whoever waits is first: places are free only while nobody does.
            if let Some(slot) = state.free.pop_front() {
                state.worker_of(slot).taken += 1;
                return Ok(slot);
            }
            if state.queue.len() == QUEUE_MAX {
                return Err(NoSlot::Full);
            }
            let (sender, turn) = channel();
            state.tickets += 1;
            let ticket = state.tickets;
            state.queue.push_back((ticket, sender));
            state.queue_peak = state.queue_peak.max(state.queue.len());
            (ticket, turn)
        };
        if let Ok(slot) = turn.recv_timeout(patience) {
            return Ok(slot);
        }
        // It may have become one's turn just now: then one is not in the queue any more.
        self.lock().queue.retain(|(other, _)| *other != ticket);
        turn.try_recv().map_err(|_| NoSlot::TimedOut)
    }

    /// Gives a place back.
    pub fn give_back(&self, slot: Slot) {
        let mut state = self.lock();
        let Some(worker) = state.workers.get_mut(&slot.pid) else { return };
        worker.taken -= 1;
        if worker.retiring {
            self.given_back.notify_all();
        } else {
            state.hand_on(slot);
        }
    }

    /// The longest that the queue has been since it was last asked for.
    pub fn take_queue_peak(&self) -> usize {
        let mut state = self.lock();
        let waiting = state.queue.len();
        mem::replace(&mut state.queue_peak, waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl State {
    /// Gives a place that is free to whoever has waited longest.
    fn hand_on(&mut self, slot: Slot) {
        while let Some((_, turn)) = self.queue.pop_front() {
            if turn.send(slot).is_ok() {
                self.worker_of(slot).taken += 1;
                return;
            }
        }
        self.free.push_back(slot);
    }

    fn worker_of(&mut self, slot: Slot) -> &mut Worker {
        self.workers.get_mut(&slot.pid).expect("a place that is free is a worker's that serves")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const AT_ONCE: Duration = Duration::ZERO;

    fn with_one_worker() -> Slots {
        let slots = Slots::default();
        slots.add(7, 80, 2);
        slots
    }

    #[test]
    fn there_are_as_many_places_as_were_added() {
        let slots = with_one_worker();
        let first = slots.take(AT_ONCE).unwrap();
        slots.take(AT_ONCE).unwrap();
        assert_eq!(slots.take(AT_ONCE), Err(NoSlot::TimedOut));
        slots.give_back(first);
        assert_eq!(slots.take(AT_ONCE), Ok(first));
    }

    #[test]
    fn workers_take_turns() {
        let slots = with_one_worker();
        slots.add(8, 81, 2);
        let pids: Vec<u32> = (0..4).map(|_| slots.take(AT_ONCE).unwrap().pid).collect();
        assert_eq!(pids, [7, 7, 8, 8]);
    }

    #[test]
    fn who_waits_gets_the_place_that_becomes_free() {
        let slots = with_one_worker();
        let first = slots.take(AT_ONCE).unwrap();
        slots.take(AT_ONCE).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| slots.take(PATIENCE));
            while slots.lock().queue.is_empty() {
                thread::yield_now();
            }
            slots.give_back(first);
            assert_eq!(waiting.join().unwrap(), Ok(first));
        });
        assert_eq!((slots.take_queue_peak(), slots.take_queue_peak()), (1, 0));
    }

    #[test]
    fn a_queue_that_is_full_sends_away() {
        let slots = Slots::default();
        let (sender, _turn) = channel();
        slots.lock().queue.extend((0..QUEUE_MAX as u64).map(|ticket| (ticket, sender.clone())));
        assert_eq!(slots.take(PATIENCE), Err(NoSlot::Full));
    }

    #[test]
    fn a_worker_retires_when_its_last_place_is_given_back() {
        let slots = with_one_worker();
        let taken = slots.take(AT_ONCE).unwrap();
        thread::scope(|scope| {
            let retiring = scope.spawn(|| slots.retire(7));
            while !slots.lock().workers[&7].retiring {
                thread::yield_now();
            }
            assert_eq!(slots.take(AT_ONCE), Err(NoSlot::TimedOut));
            slots.give_back(taken);
            retiring.join().unwrap();
        });
        assert!(slots.lock().workers.is_empty());
    }

    #[test]
    fn a_place_of_a_worker_that_has_ended_is_no_more() {
        let slots = with_one_worker();
        let taken = slots.take(AT_ONCE).unwrap();
        slots.forget(7);
        slots.give_back(taken);
        assert_eq!(slots.take(AT_ONCE), Err(NoSlot::TimedOut));
    }
}
