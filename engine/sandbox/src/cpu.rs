//! What an attempt's turns cost in CPU time.
//!
//! Of all clocks, a thread's CPU time is the one for which the kernel has no shortcut: 0.25 µs a reading where measured,
//! and two readings a turn were a tenth of a small attempt. So a turn that is over within [`GRAIN`] counts with its wall
//! time, and only a longer one is judged by the CPU clock, beginning from a reading that the thread keeps and that is no
//! older than that. Per turn this is at most [`GRAIN`] too much, and never more than the turn's wall time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How exact the account of one turn is. A tenth of the interval at which busy guests are interrupted.
const GRAIN: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: Duration,
}

thread_local! {
    static LATEST: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// Adds up the CPU time that threads spend in `future`.
pub(crate) async fn metered<T>(future: impl Future<Output = T>, spent: &mut Duration) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let begun = Instant::now();
        let before = match LATEST.get() {
            Some(reading) if begun.duration_since(reading.at) < GRAIN => reading,
            _ => read(begun),
        };
        let polled = future.as_mut().poll(cx);
        let wall = begun.elapsed();
        *spent += match wall < GRAIN {
            true => wall,
            false => read(begun + wall).cpu.saturating_sub(before.cpu).min(wall),
        };
        polled
    })
    .await
}

fn read(at: Instant) -> Reading {
    let reading = Reading { at, cpu: thread_cpu() };
    LATEST.set(Some(reading));
    reading
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spent(turn: impl Fn()) -> Duration {
        let mut spent = Duration::ZERO;
        metered(async { turn() }, &mut spent).await;
        spent
    }

    #[tokio::test]
    async fn a_thread_that_sleeps_uses_no_cpu() {
        let spent = spent(|| std::thread::sleep(20 * GRAIN)).await;
        assert!(spent < 10 * GRAIN, "{spent:?}");
    }

    #[tokio::test]
    async fn a_thread_that_is_busy_uses_all_that_it_gets() {
        let until = thread_cpu() + 20 * GRAIN;
        let spent = spent(|| while thread_cpu() < until {}).await;
        assert!(spent >= 19 * GRAIN, "{spent:?}");
    }
}
