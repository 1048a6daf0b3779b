//! The queue in front of the writer: many threads push, one takes everything that waits and commits it as one group.
//!
//! Two kinds of entries share one order: urgent ones, which somebody waits for, and lazy ones, which ride along with the
//! next group or go by themselves after a while. There is no artificial wait: a writer that sleeps is woken by the first
//! urgent entry, and what arrives during a commit is the next group.
//!
//! Small and apart so that it can be model-checked (`model/`): a mutex, a condition variable, no other state.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// How long lazy entries wait for an urgent one to ride with. A person who follows a log does not notice a tenth of a
/// second, and a chatty guest costs ten commits a second instead of one a line.
const LAZY_DELAY: Duration = Duration::from_millis(100);

/// The weight of lazy entries at which they no longer wait for company.
pub(crate) const LAZY_WEIGHT_DUE: usize = LAZY_WEIGHT_MAX / 4;

/// The weight of lazy entries that may wait, in bytes. Reached only when the disk can't keep up with what attempts say:
/// 8 MiB are 40 ms of its work.
pub(crate) const LAZY_WEIGHT_MAX: usize = 8 * 1024 * 1024;

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    entries: VecDeque<Entry<T>>,
    /// How many of the entries are urgent.
    urgent: usize,
    /// The weight of those that are not.
    lazy_weight: usize,
    /// When the oldest lazy entry has waited long enough; `None` without one.
    due: Option<Instant>,
    /// Whether the taker waits to be woken. Waking costs a system call, even where nobody sleeps.
    asleep: bool,
    closed: bool,
}

struct Entry<T> {
    value: T,
    /// `None` if urgent.
    lazy_weight: Option<usize>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        let state =
            State { entries: VecDeque::new(), urgent: 0, lazy_weight: 0, due: None, asleep: false, closed: false };
        Queue { state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Hands in an entry that somebody waits for. Not bounded here: a run has one append in flight, so the number of
    /// running runs is the bound. The entry comes back when the taker is gone.
    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(value);
        }
        state.urgent += 1;
        self.admit(state, Entry { value, lazy_weight: None }, true);
        Ok(())
    }

    /// Hands in an entry that nobody waits for. It is taken no later than an urgent one that is pushed after it. The
    /// entry comes back when there is no room for its weight, or the taker is gone.
    pub(crate) fn push_lazily(&self, value: T, weight: usize) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.lazy_weight + weight > LAZY_WEIGHT_MAX {
            return Err(value);
        }
        state.lazy_weight += weight;
        // A taker that already waits for the oldest lazy entry's time need not hear of the next one.
        let news = state.due.is_none() || state.lazy_weight >= LAZY_WEIGHT_DUE;
        state.due.get_or_insert_with(|| Instant::now() + LAZY_DELAY);
        self.admit(state, Entry { value, lazy_weight: Some(weight) }, news);
        Ok(())
    }

    /// Waits until something is due, then moves at most `max` entries to the end of `group`, oldest first. `false` when
    /// the queue was closed and everything has been taken.
    pub(crate) fn take(&self, max: usize, group: &mut Vec<T>) -> bool {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let lazy_due = state.due.is_some_and(|due| due <= now) || state.lazy_weight >= LAZY_WEIGHT_DUE;
            if state.urgent > 0 || lazy_due || (state.closed && !state.entries.is_empty()) {
                break;
            }
            if state.closed {
                return false;
            }
            let due = state.due;
            state.asleep = true;
            state = match due {
                None => self.ready.wait(state).unwrap_or_else(|e| e.into_inner()),
                Some(due) => self.ready.wait_timeout(state, due - now).unwrap_or_else(|e| e.into_inner()).0,
            };
            state.asleep = false;
        }
        for _ in 0..max {
            let Some(entry) = state.entries.pop_front() else { break };
            match entry.lazy_weight {
                None => state.urgent -= 1,
                Some(weight) => state.lazy_weight -= weight,
            }
            group.push(entry.value);
        }
        if state.entries.len() == state.urgent {
            state.due = None;
        }
        true
    }

    /// Takes nothing more in; what waits is still taken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        drop(state);
        self.ready.notify_one();
    }

    /// Takes nothing more in and drops what waits: the taker is gone.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        (state.urgent, state.lazy_weight, state.due) = (0, 0, None);
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        drop(entries);
    }

    /// `news`: whether the taker has to look again.
    fn admit(&self, mut state: MutexGuard<'_, State<T>>, entry: Entry<T>, news: bool) {
        state.entries.push_back(entry);
        let wake = news && state.asleep;
        if wake {
            // One wake-up is enough, until the taker sleeps again.
            state.asleep = false;
        }
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// A panic while the lock is held can't leave the state half changed: nothing between its changes can panic.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &Queue<u32>, max: usize) -> Option<Vec<u32>> {
        let mut group = Vec::new();
        queue.take(max, &mut group).then_some(group)
    }

    #[test]
    fn everything_that_waits_is_one_group_in_the_order_of_its_arrival() {
        let queue = Queue::new();
        queue.push_lazily(1, 10).unwrap();
        queue.push(2).unwrap();
        queue.push_lazily(3, 10).unwrap();
        assert_eq!(take(&queue, 8), Some(vec![1, 2, 3]));
    }

    #[test]
    fn a_group_has_at_most_so_many_entries() {
        let queue = Queue::new();
        for n in 0..5 {
            queue.push(n).unwrap();
        }
        assert_eq!(take(&queue, 3), Some(vec![0, 1, 2]));
        assert_eq!(take(&queue, 3), Some(vec![3, 4]));
    }

    #[test]
    fn lazy_entries_go_alone_after_their_delay() {
        let queue = Queue::new();
        let before = Instant::now();
        queue.push_lazily(1, 10).unwrap();
        assert_eq!(take(&queue, 8), Some(vec![1]));
        assert!(before.elapsed() >= LAZY_DELAY);
    }

    #[test]
    fn lazy_entries_are_bounded_and_urgent_ones_pass() {
        let queue = Queue::new();
        queue.push_lazily(1, LAZY_WEIGHT_MAX).unwrap();
        assert_eq!(queue.push_lazily(2, 1), Err(2));
        queue.push(3).unwrap();
        assert_eq!(take(&queue, 8), Some(vec![1, 3]));
        queue.push_lazily(4, 1).expect("taking makes room");
    }

    #[test]
    fn a_closed_queue_is_emptied_and_takes_nothing_in() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        queue.push_lazily(2, 1).unwrap();
        queue.close();
        assert_eq!(queue.push(3), Err(3));
        assert_eq!(queue.push_lazily(3, 1), Err(3));
        assert_eq!(take(&queue, 8), Some(vec![1, 2]));
        assert_eq!(take(&queue, 8), None);
    }

    #[test]
    fn every_push_of_many_threads_is_taken_once_and_in_its_threads_order() {
        const THREADS: u32 = 4;
        const EACH: u32 = 5_000;
        let queue = Queue::new();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 0..EACH {
                        queue.push(thread * EACH + n).unwrap();
                    }
                });
            }
            while taken.len() < (THREADS * EACH) as usize {
                assert!(queue.take(64, &mut taken));
            }
        });
        for thread in 0..THREADS {
            let of_thread: Vec<u32> = taken.iter().copied().filter(|n| n / EACH == thread).collect();
            assert_eq!(of_thread, (thread * EACH..(thread + 1) * EACH).collect::<Vec<_>>());
        }
    }
}
