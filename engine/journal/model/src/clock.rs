//! A clock for the queue whose pace is chosen, as loom's condition variable never wakes by itself: either no time passes,
//! so that only other threads wake the taker, or whatever waits for a time finds it over.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How time passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Not at all.
    Still,
    /// An hour between any two looks.
    Rushing,
}

// Not loom's: the pace is part of the property and no state that threads share.
static RUSHING: AtomicBool = AtomicBool::new(false);
static HOURS: AtomicU64 = AtomicU64::new(0);

/// Chooses the pace for the next property.
pub(crate) fn set(pace: Pace) {
    RUSHING.store(pace == Pace::Rushing, Ordering::Relaxed);
}

/// A point in time, since some beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        let hours = if RUSHING.load(Ordering::Relaxed) { HOURS.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Instant(Duration::from_secs(hours * 3_600))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, later: Duration) -> Instant {
        Instant(self.0 + later)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
