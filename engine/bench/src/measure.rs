//! How the figures are measured: in rounds, both sides in turn, so that a machine that is slow for a second is slow for both.
//! The first round is not counted: it compiles, fills caches and grows files. What is reported is the median; of a ratio,
//! the median of the rounds' own ratios.

use std::time::Duration;

use anyhow::Result;

/// What several rounds gave.
pub(crate) struct Rounds(Vec<Round>);

struct Round {
    limit: f64,
    ours: f64,
}

impl Rounds {
    /// Measures both sides so many times.
    pub(crate) fn of(
        rounds: usize,
        mut limit: impl FnMut() -> Result<f64>,
        mut ours: impl FnMut() -> Result<f64>,
    ) -> Result<Rounds> {
        limit()?;
        ours()?;
        let round = |_| Ok(Round { limit: limit()?, ours: ours()? });
        (0..rounds).map(round).collect::<Result<_>>().map(Rounds)
    }

    pub(crate) fn ours(&self) -> f64 {
        median(self.0.iter().map(|round| round.ours))
    }

    pub(crate) fn limit(&self) -> f64 {
        median(self.0.iter().map(|round| round.limit))
    }

    /// Ours in parts of the limit.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.0.iter().map(|round| round.ours / round.limit))
    }
}

/// The value in the middle, the upper one of two. Of nothing there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The duration in the middle, in microseconds.
pub(crate) fn median_micros(durations: &[Duration]) -> f64 {
    median(durations.iter().map(|duration| micros(*duration)))
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_not_counted() {
        let mut ours = [9.0, 1.0, 2.0, 3.0].into_iter();
        let rounds = Rounds::of(3, || Ok(2.0), || Ok(ours.next().unwrap())).unwrap();
        assert_eq!((rounds.ours(), rounds.limit(), rounds.ratio()), (2.0, 2.0, 1.0));
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_not_between_medians() {
        let mut limits = [1.0, 1.0, 10.0, 100.0].into_iter();
        let mut ours = [2.0, 2.0, 20.0, 200.0].into_iter();
        let rounds = Rounds::of(3, || Ok(limits.next().unwrap()), || Ok(ours.next().unwrap())).unwrap();
        assert_eq!(rounds.ratio(), 2.0);
    }

    #[test]
    fn of_nothing_there_is_no_median() {
        assert!(median([]).is_nan());
    }
}
