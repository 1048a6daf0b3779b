//! The only place where the engine asks what time it is.
//!
//! Records are stamped with wall-clock time, which may jump; a run must not see it go back. So a clock is read through a
//! value that a test can replace by virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use downbeat_workflow::event::Timestamp;

/// Tells the time; never an earlier one than before.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    latest: Arc<AtomicU64>,
}

impl Clock {
    /// The system's wall clock. When it is set back, time stands still until it has caught up.
    pub fn system() -> Clock {
        Clock::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(since_epoch.as_millis() as u64)
        })
    }

    /// A clock that reads `source`.
    pub fn new(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock { source: Arc::new(source), latest: Arc::new(AtomicU64::new(0)) }
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now(&self) -> Timestamp {
        let read = (self.source)().0;
        Timestamp(self.latest.fetch_max(read, Ordering::Relaxed).max(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let times = std::sync::Mutex::new(vec![7, 9, 3, 5].into_iter());
        let clock = Clock::new(move || Timestamp(times.lock().unwrap().next().unwrap()));
        let seen: Vec<u64> = (0..4).map(|_| clock.now().0).collect();
        assert_eq!(seen, [7, 9, 9, 9]);
    }
}
