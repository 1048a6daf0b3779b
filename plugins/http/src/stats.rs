//! What a series of requests comes to: counts, an error rate, and latencies.
//!
//! Pure arithmetic over what was observed. What makes a request an error is decided by the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// What one request came to.
pub(crate) enum Observation {
    /// The expected status came, after this time; `None` if time is not measured.
    Success { status: u16, elapsed: Option<Duration> },
    /// Another status came.
    Unexpected { status: u16 },
    /// Nothing came.
    Lost,
}

/// What a series of requests comes to.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Stats {
    /// How many requests were sent.
    requests: u64,
    /// How many of them got no response or one with an unexpected status.
    errors: u64,
    /// `errors` / `requests`: 0 to 1.
    error_rate: f64,
    /// Of the responses with an expected status: how fast a server says no is no measure of it.
    latency_ms: Latency,
    /// How often each status came.
    statuses: BTreeMap<String, u64>,
}

/// Milliseconds with three decimals, from sending a request to the end of the response's body. All are null when there
/// is nothing to measure: no expected response, or no grant `clock`.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Latency {
    min: Option<f64>,
    mean: Option<f64>,
    /// Half of the responses were at most this slow. Percentiles are by nearest rank: each is a time that was measured.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl Stats {
    /// Sums up at least one observation.
    pub(crate) fn of(observations: &[Observation]) -> Stats {
        let mut statuses = BTreeMap::<String, u64>::new();
        let mut errors = 0;
        let mut times = Vec::new();
        let mut measured = true;
        for observation in observations {
            match *observation {
                Observation::Success { status, elapsed } => {
                    *statuses.entry(status.to_string()).or_default() += 1;
                    measured &= elapsed.is_some();
                    times.extend(elapsed);
                }
                Observation::Unexpected { status } => {
                    *statuses.entry(status.to_string()).or_default() += 1;
                    errors += 1;
                }
                Observation::Lost => errors += 1,
            }
        }
        Stats {
            requests: observations.len() as u64,
            errors,
            error_rate: errors as f64 / observations.len() as f64,
            latency_ms: if measured { Latency::of(times) } else { Latency::default() },
            statuses,
        }
    }
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Latency {
        times.sort_unstable();
        let (Some(&min), Some(&max)) = (times.first(), times.last()) else { return Latency::default() };
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(u32::MAX);
        Latency {
            min: Some(ms(min)),
            mean: Some(ms(mean)),
            p50: Some(ms(percentile(&times, 50))),
            p95: Some(ms(percentile(&times, 95))),
            p99: Some(ms(percentile(&times, 99))),
            max: Some(ms(max)),
        }
    }
}

/// The nearest rank: the smallest of the sorted times that at least `percent` % of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(ms: u64) -> Observation {
        Observation::Success { status: 200, elapsed: Some(Duration::from_millis(ms)) }
    }

    #[test]
    fn a_hundred_responses_have_the_percentiles_of_their_ranks() {
        let observations: Vec<Observation> = (1..=100).rev().map(success).collect();
        let stats = Stats::of(&observations);
        assert_eq!((stats.requests, stats.errors, stats.error_rate), (100, 0, 0.0));
        assert_eq!(
            stats.latency_ms,
            Latency {
                min: Some(1.0),
                mean: Some(50.5),
                p50: Some(50.0),
                p95: Some(95.0),
                p99: Some(99.0),
                max: Some(100.0)
            }
        );
    }

    #[test]
    fn of_one_response_every_percentile_is_that_one() {
        let Latency { min, p50, p99, .. } = Stats::of(&[success(7)]).latency_ms;
        assert_eq!((min, p50, p99), (Some(7.0), Some(7.0), Some(7.0)));
    }

    #[test]
    fn errors_are_counted_and_their_times_are_not() {
        let stats = Stats::of(&[success(10), Observation::Unexpected { status: 500 }, Observation::Lost, success(20)]);
        assert_eq!((stats.errors, stats.error_rate), (2, 0.5));
        assert_eq!(stats.statuses, BTreeMap::from([("200".to_owned(), 2), ("500".to_owned(), 1)]));
        assert_eq!(stats.latency_ms.mean, Some(15.0));
    }

    #[test]
    fn without_a_clock_or_a_success_there_is_no_latency() {
        let timeless = Observation::Success { status: 200, elapsed: None };
        assert_eq!(Stats::of(&[timeless, success(5)]).latency_ms, Latency::default());
        assert_eq!(Stats::of(&[Observation::Lost]).latency_ms, Latency::default());
    }
}
