//! The customers: so many requests a second, evenly spaced, whatever becomes of those before. Latency counts from the
//! moment at which a request was due, not from when it could be sent, so that a fleet which keeps its customers waiting
//! can't make its figures look better by keeping back the next ones.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http;
use crate::place::{Address, Place, wait};

/// Customers of one window at most: each has a thread while it waits.
const REQUESTS_MAX: u64 = 5_000;

/// Sends requests for so many milliseconds, waits for the last answer, and tells what came of it: a JSON object with the
/// front's counts (`requests`, `refused`, `broken`, `queue-peak`, `workers`, `pids`) and the customers' own (`failed`,
/// `p50-ms`, `p95-ms`, `max-ms`, null without an answer).
pub fn come(place: &Place, per_second: u64, window_ms: u64) -> Result<String> {
    let count = per_second.saturating_mul(window_ms) / 1_000;
    if window_ms == 0 || count > REQUESTS_MAX {
        return Err(format!(
            "{per_second} requests/s for {window_ms} ms: between 1 ms and {REQUESTS_MAX} requests it is"
        ));
    }
    let address = place.wait_for_address()?;
    // A fleet that starts again after it was killed takes a moment to be back.
    wait("the fleet to answer", || Ok(order(address, "PUT", "/window").ok()))?;
    let latencies = send(address.front, count, Duration::from_millis(window_ms));
    let counted = order(address, "GET", "/window")?;
    let counted = counted.strip_prefix('{').ok_or_else(|| format!("the fleet's counts are no object: {counted}"))?;
    let figures = Figures::of(count, latencies);
    Ok(format!(r#"{{"per-second":{per_second},"window-ms":{window_ms},{},{counted}"#, figures.to_json()))
}

fn order(address: Address, method: &str, path: &str) -> Result<String> {
    let answer = http::ask(address.admin, method, path).map_err(|error| format!("{method} {path}: {error}"))?;
    if answer.status == 200 { Ok(answer.body) } else { Err(format!("{method} {path}: {}", answer.body)) }
}

/// The latencies of the requests that were answered well.
fn send(front: u16, count: u64, window: Duration) -> Vec<Duration> {
    let (sender, latencies) = mpsc::channel();
    let begin = Instant::now();
    for number in 0..count {
        let due = begin + window.mul_f64(number as f64 / count as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sender = sender.clone();
        // Without a thread to be had, the request fails, as it does when it is not answered well.
        let _ = thread::Builder::new().spawn(move || {
            if http::ask(front, "GET", "/").is_ok_and(|answer| answer.status == 200) {
                let _ = sender.send(due.elapsed());
            }
        });
    }
    thread::sleep((begin + window).saturating_duration_since(Instant::now()));
    drop(sender);
    latencies.iter().collect()
}

/// What the customers noticed.
#[derive(Debug, PartialEq)]
struct Figures {
    failed: u64,
    /// 50th and 95th percentile by nearest rank, and the maximum.
    latency: Option<[Duration; 3]>,
}

impl Figures {
    fn of(count: u64, mut latencies: Vec<Duration>) -> Figures {
        latencies.sort();
        let failed = count - latencies.len() as u64;
        let rank = |percent: usize| latencies.get((latencies.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let latency = rank(50).zip(rank(95)).zip(rank(100)).map(|((p50, p95), max)| [p50, p95, max]);
        Figures { failed, latency }
    }

    /// The fields of a JSON object.
    fn to_json(&self) -> String {
        let [p50, p95, max] = match self.latency {
            Some(latency) => latency.map(|latency| format!("{:.1}", latency.as_secs_f64() * 1_000.0)),
            None => ["null"; 3].map(str::to_owned),
        };
        format!(r#""failed":{},"p50-ms":{p50},"p95-ms":{p95},"max-ms":{max}"#, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let latencies = (1..=20).rev().map(Duration::from_millis).collect();
        let figures = Figures::of(22, latencies);
        assert_eq!(figures.to_json(), r#""failed":2,"p50-ms":10.0,"p95-ms":19.0,"max-ms":20.0"#);
    }

    #[test]
    fn without_an_answer_there_is_no_latency() {
        let figures = Figures::of(3, Vec::new());
        assert_eq!(figures.to_json(), r#""failed":3,"p50-ms":null,"p95-ms":null,"max-ms":null"#);
    }
}
