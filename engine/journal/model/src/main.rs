//! The queue in front of the journal's writer, model-checked: loom plays each property below once for every order in which
//! its threads can take turns, and fails on a broken assertion as well as on a deadlock, which is what a lost wake-up is.
//!
//! What is checked is the queue's own source, compiled with loom's locks and a clock that a property chooses. A program and
//! not a test of the journal, because the queue's unit tests can't run with loom's locks.

mod clock;

#[path = "../../src/queue.rs"]
mod queue;

/// What the queue is made of: loom's, and the chosen clock.
mod sync {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) use crate::clock::Instant;
}

use std::ops::Range;

use loom::sync::{Arc, Notify};
use loom::thread;

use clock::Pace;
use queue::{LAZY_WEIGHT_DUE, LAZY_WEIGHT_MAX, Queue};

/// Unplanned switches between threads in one play, at most. Every known kind of bug in a lock and a condition variable
/// shows with two (M. Musuvathi, S. Qadeer, PLDI 2007); without a bound the largest property takes minutes.
const PREEMPTIONS_MAX: usize = 3;

fn main() {
    let properties: [(&str, Pace, fn()); 9] = [
        ("every entry is taken once, in the order of its thread", Pace::Still, taken_once_in_order),
        ("what is pushed beside a close is taken or comes back", Pace::Still, taken_or_refused),
        ("a close wakes a taker that sleeps", Pace::Still, close_wakes),
        ("a close lets lazy entries go at once", Pace::Still, close_lets_go),
        ("whoever waits for an answer gets one, or learns that the taker is gone", Pace::Still, nobody_waits_for_ever),
        ("a lazy entry is not overtaken by a later urgent one of its thread", Pace::Still, not_overtaken),
        ("lazy entries go without company once they are heavy", Pace::Still, heavy_go),
        ("lazy entries go without company once their time is over", Pace::Rushing, late_go),
        ("lazy entries beyond the bound come back, and taking makes room", Pace::Still, bounded),
    ];
    for (sentence, pace, property) in properties {
        clock::set(pace);
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(PREEMPTIONS_MAX);
        model.check(property);
        println!("holds: {sentence}");
    }
}

/// Takes until there are `count` entries.
fn take(queue: &Queue<u32>, count: usize, max: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let before = taken.len();
        assert!(queue.take(max, &mut taken), "nobody closed it");
        assert!((1..=max).contains(&(taken.len() - before)), "a group has at least one entry and at most {max}");
    }
    taken
}

/// Takes until the queue is closed and empty.
fn take_all(queue: &Queue<u32>) -> Vec<u32> {
    let mut taken = Vec::new();
    while queue.take(8, &mut taken) {}
    taken
}

/// Pushes these numbers in a thread of its own; gives those that were accepted.
fn pusher(queue: &Arc<Queue<u32>>, numbers: Range<u32>) -> thread::JoinHandle<Vec<u32>> {
    let queue = queue.clone();
    thread::spawn(move || numbers.filter(|number| queue.push(*number).is_ok()).collect())
}

fn taken_once_in_order() {
    let queue = Arc::new(Queue::new());
    let pushers = [pusher(&queue, 10..12), pusher(&queue, 20..22)];
    let taken = take(&queue, 4, 3);
    for (pusher, sent) in pushers.into_iter().zip([10..12, 20..22]) {
        assert_eq!(pusher.join().expect("it does not panic"), Vec::from_iter(sent.clone()));
        assert!(taken.iter().copied().filter(|number| sent.contains(number)).eq(sent.clone()));
    }
    assert_eq!(taken.len(), 4);
}

fn taken_or_refused() {
    let queue = Arc::new(Queue::new());
    let pushers = [pusher(&queue, 10..12), pusher(&queue, 20..21)];
    let closer = {
        let queue = queue.clone();
        thread::spawn(move || queue.close())
    };
    let mut taken = take_all(&queue);
    closer.join().expect("it does not panic");
    let mut accepted: Vec<u32> = pushers.into_iter().flat_map(|p| p.join().expect("it does not panic")).collect();
    taken.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(taken, accepted);
}

fn close_wakes() {
    let queue = Arc::new(Queue::<u32>::new());
    let closer = {
        let queue = queue.clone();
        thread::spawn(move || queue.close())
    };
    assert_eq!(take_all(&queue), []);
    closer.join().expect("it does not panic");
}

fn close_lets_go() {
    let queue = Arc::new(Queue::new());
    let lazy = {
        let queue = queue.clone();
        thread::spawn(move || {
            assert_eq!(queue.push_lazily(1, 10), Ok(()));
            queue.close();
        })
    };
    assert_eq!(take_all(&queue), [1]);
    lazy.join().expect("it does not panic");
}

/// Tells whoever waits when it is dropped, answered or not, as the writer's acknowledgements do.
struct Acknowledgement(Arc<Notify>);

impl Drop for Acknowledgement {
    fn drop(&mut self) {
        self.0.notify();
    }
}

fn nobody_waits_for_ever() {
    let queue = Arc::new(Queue::new());
    let waiters = [(); 2].map(|()| {
        let queue = queue.clone();
        thread::spawn(move || {
            let answered = Arc::new(Notify::new());
            // Refused, it comes back and is dropped right here.
            drop(queue.push(Acknowledgement(answered.clone())));
            answered.wait();
        })
    });
    // A writer that answers one group of one and then dies.
    let mut group = Vec::new();
    queue.take(1, &mut group);
    drop(group);
    queue.abandon();
    for waiter in waiters {
        waiter.join().expect("it does not panic");
    }
}

fn not_overtaken() {
    let queue = Arc::new(Queue::new());
    let chatty = {
        let queue = queue.clone();
        thread::spawn(move || {
            assert_eq!(queue.push_lazily(1, 10), Ok(()));
            assert_eq!(queue.push(2), Ok(()));
        })
    };
    let other = pusher(&queue, 3..4);
    let taken = take(&queue, 3, 1);
    let place = |number| taken.iter().position(|taken| *taken == number);
    assert!(place(1) < place(2), "{taken:?}");
    chatty.join().expect("it does not panic");
    other.join().expect("it does not panic");
}

fn heavy_go() {
    let queue = Arc::new(Queue::new());
    let chatty = [1, 2].map(|number| {
        let queue = queue.clone();
        thread::spawn(move || assert_eq!(queue.push_lazily(number, LAZY_WEIGHT_DUE / 2), Ok(())))
    });
    let mut taken = take(&queue, 2, 8);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2]);
    for thread in chatty {
        thread.join().expect("it does not panic");
    }
}

fn late_go() {
    let queue = Arc::new(Queue::new());
    let chatty = [1, 2].map(|number| {
        let queue = queue.clone();
        thread::spawn(move || assert_eq!(queue.push_lazily(number, 1), Ok(())))
    });
    let mut taken = take(&queue, 2, 8);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2]);
    for thread in chatty {
        thread.join().expect("it does not panic");
    }
}

fn bounded() {
    let queue = Arc::new(Queue::new());
    let chatty = [1, 2].map(|number| {
        let queue = queue.clone();
        thread::spawn(move || queue.push_lazily(number, LAZY_WEIGHT_MAX / 2 + 1).is_ok())
    });
    let first = take(&queue, 1, 8);
    assert_eq!(first.len(), 1, "two never wait at once");
    let accepted = chatty.map(|thread| thread.join().expect("it does not panic"));
    let accepted = accepted.into_iter().filter(|accepted| *accepted).count();
    // The second one either came back or found the room that taking made.
    queue.close();
    assert_eq!(1 + take_all(&queue).len(), accepted);
    assert!(accepted >= 1);
}
