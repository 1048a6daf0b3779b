//! The only place where the engine asks what time it is for its records.
//!
//! Records are stamped with wall-clock time, which may be set to anything at any moment; delays and time-outs are counted
//! in the same stamps. So the wall clock is read once, when the clock is made, and from then on time passes as the
//! machine's uptime does: setting the wall clock neither stalls a retry nor lets a run time out. What passes while no
//! engine runs only the wall clock can tell; a run that is taken up under a clock that was set back meanwhile goes on
//! from its latest record ([`Clock::not_before`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use downbeat_workflow::event::Timestamp;

/// Tells the time; never an earlier one than before.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What is added to what the source says, in milliseconds.
    ahead_ms: u64,
}

impl Clock {
    /// Wall-clock time as of now, from here on at the pace of [`uptime`]. Where that is the system's uptime, the time for
    /// which a machine sleeps counts: a run's `timeout` and the waits between attempts pass meanwhile.
    pub fn system() -> Clock {
        Clock::anchored(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), uptime)
    }

    /// A clock that reads `source`, which must never go back.
    pub fn new(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock { source: Arc::new(source), ahead_ms: 0 }
    }

    /// `wall` (since the Unix epoch) as of now, and from here on as much later as `uptime` has grown.
    fn anchored(wall: Duration, uptime: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        let began = uptime();
        Clock::new(move || Timestamp((wall + uptime().saturating_sub(began)).as_millis() as u64))
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now(&self) -> Timestamp {
        (self.source)().plus_ms(self.ahead_ms)
    }

    /// This clock, set forward if need be, so that it tells no time before `latest`.
    pub(crate) fn not_before(&self, latest: Timestamp) -> Clock {
        let ahead_ms = self.ahead_ms.saturating_add(latest.0.saturating_sub(self.now().0));
        Clock { source: self.source.clone(), ahead_ms }
    }
}

/// How long the system has been up, the time for which it slept included. Through libc, which asks the kernel without a
/// system call and, unlike a lookup of our own, also where a debugger stands in for the kernel.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "a safe face for this clock looks for the kernel's shortcut itself, and crashes in valgrind"
)]
fn uptime() -> Duration {
    let mut up = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux that Rust runs on, and `up` may be written to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut up) };
    assert_eq!(failed, 0, "Linux has had this clock since 2.6.39");
    Duration::new(up.tv_sec.unsigned_abs(), up.tv_nsec as u32)
}

/// How long since this was asked first; what the system sleeps may be left out.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn time_passes_as_the_uptime_does_from_the_wall_clocks_time_at_the_start() {
        let uptimes = Mutex::new(vec![50, 50, 51, 7_000_050].into_iter());
        let clock = Clock::anchored(Duration::from_secs(1_000), move || {
            Duration::from_millis(uptimes.lock().unwrap().next().unwrap())
        });
        assert_eq!([0; 3].map(|_| clock.now().0), [1_000_000, 1_000_001, 8_000_000]);
    }

    #[test]
    fn the_systems_clock_tells_the_wall_clocks_time_and_does_not_go_back() {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let before = wall();
        let clock = Clock::system();
        let told = [0; 1_000].map(|_| clock.now());
        assert!(told.is_sorted());
        // An hour: the test is not about a clock that is set while it runs, and must not fail then.
        assert!(told[0].0.abs_diff(before) < 3_600_000, "{} is not about {before}", told[0].0);
    }

    #[test]
    fn a_clock_set_forward_goes_on_from_there_and_one_that_is_ahead_stays_as_it_is() {
        let clock = Clock::new(|| Timestamp(100));
        assert_eq!(clock.not_before(Timestamp(250)).now(), Timestamp(250));
        assert_eq!(clock.not_before(Timestamp(250)).not_before(Timestamp(300)).now(), Timestamp(300));
        assert_eq!(clock.not_before(Timestamp(99)).now(), Timestamp(100));
    }
}
