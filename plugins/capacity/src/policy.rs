//! The rules: figures in, a decision and its reason out. Apart from the step, so that they can be read and tested without
//! JSON.
//!
//! Up at once, down with patience: too few workers hurt customers now, too many cost a little longer. Every change is
//! made for the utilisation `target`, which lies between the two bounds, so that the same load never calls for another.

/// A checked policy: `1 <= min <= max`, `0 <= down_below < target <= up_above`, `target <= 1`, `down_after >= 1`.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Requests in a second.
    pub(crate) per_worker: f64,
    pub(crate) target: f64,
    pub(crate) up_above: f64,
    pub(crate) down_below: f64,
    pub(crate) down_after: usize,
}

/// What one window says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Requests in a second.
    pub(crate) per_second: f64,
    pub(crate) workers: u32,
    pub(crate) objective_met: bool,
}

/// How many workers there should be, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) utilisation: Option<f64>,
    pub(crate) threshold: Option<f64>,
    pub(crate) reason: String,
    pub(crate) short: u32,
    pub(crate) newly_short: bool,
    pub(crate) objective_met: bool,
}

impl Rules {
    /// The share of so many workers that a load keeps busy; `None` without a worker.
    fn utilisation(&self, per_second: f64, workers: u32) -> Option<f64> {
        (workers > 0).then(|| per_second / (f64::from(workers) * self.per_worker))
    }

    /// The fewest workers whose utilisation is not above the target.
    fn needed(&self, per_second: f64) -> u32 {
        // What is a whole number but for the rounding of the division is that number.
        let workers = (per_second / (self.per_worker * self.target) - 1e-9).ceil();
        workers.clamp(0.0, f64::from(u32::MAX)) as u32
    }

    fn within(&self, workers: u32) -> u32 {
        workers.clamp(self.min, self.max)
    }

    /// How many workers the load needs beyond the maximum; 0 as long as the fleet bears it.
    fn short(&self, figures: &Figures) -> u32 {
        match self.utilisation(figures.per_second, figures.workers.max(self.min)) {
            Some(utilisation) if utilisation > self.up_above => {
                self.needed(figures.per_second).saturating_sub(self.max)
            }
            _ => 0,
        }
    }
}

/// Decides by the windows, oldest first; without one, the minimum.
pub(crate) fn decide(rules: &Rules, windows: &[Figures]) -> Decision {
    let Some((now, before)) = windows.split_last() else {
        return Decision {
            from: rules.min,
            to: rules.min,
            utilisation: None,
            threshold: None,
            reason: format!("nothing is measured yet: the minimum, {}", count(rules.min)),
            short: 0,
            newly_short: false,
            objective_met: true,
        };
    };
    let short = rules.short(now);
    let (to, threshold, reason) = judge(rules, windows, now, short);
    Decision {
        from: now.workers,
        to,
        utilisation: rules.utilisation(now.per_second, now.workers),
        threshold,
        reason,
        short,
        newly_short: short > 0 && before.last().is_none_or(|before| rules.short(before) == 0),
        objective_met: now.objective_met,
    }
}

/// How many workers, the bound that decided, and the reason.
fn judge(rules: &Rules, windows: &[Figures], now: &Figures, short: u32) -> (u32, Option<f64>, String) {
    let workers = now.workers;
    let load = format!("{:.1} requests/s", now.per_second);
    let needed = rules.needed(now.per_second);
    let needs =
        format!("{load} need {} at {:.2} of {} requests/s each", count(needed.max(1)), rules.target, rules.per_worker);
    if workers < rules.min {
        let to = rules.within(needed);
        return (to, None, format!("{} serving, fewer than the minimum of {}: to {to}", count(workers), rules.min));
    }
    if workers > rules.max {
        return (rules.max, None, format!("{} serving, more than the maximum of {}", count(workers), rules.max));
    }
    let utilisation = rules.utilisation(now.per_second, workers).unwrap_or_default();
    if utilisation > rules.up_above {
        let above = format!("utilisation {utilisation:.2} is above {:.2}: {needs}", rules.up_above);
        let to = rules.within(needed).max(workers);
        let limit = if short > 0 { format!(", {short} more than the maximum") } else { String::new() };
        let change = if to > workers { format!("from {workers} to {to}") } else { format!("stays at {workers}") };
        return (to, Some(rules.up_above), format!("{above}{limit}; {change}"));
    }
    if utilisation < rules.down_below {
        let below = format!("utilisation {utilisation:.2} is below {:.2}", rules.down_below);
        let threshold = Some(rules.down_below);
        if workers == rules.min {
            return (workers, threshold, format!("{below}, and {} the minimum", is(workers)));
        }
        // Earlier windows count by what they would ask of the fleet as it is now.
        let is_low = |window: &&Figures| {
            rules.utilisation(window.per_second, workers).is_some_and(|utilisation| utilisation < rules.down_below)
        };
        let low = windows.iter().rev().take(rules.down_after).take_while(is_low);
        let (windows_low, peak) = low.fold((0, 0.0_f64), |(n, peak), window| (n + 1, peak.max(window.per_second)));
        if windows_low < rules.down_after {
            let wait = format!("in {windows_low} of the {} windows that it takes", rules.down_after);
            return (workers, threshold, format!("{below} {wait}; stays at {workers}"));
        }
        let to = rules.within(rules.needed(peak)).min(workers);
        let change = if to < workers { format!("from {workers} to {to}") } else { format!("stays at {workers}") };
        return (to, threshold, format!("{below}: {needs}; {change}"));
    }
    let (low, high) = (rules.down_below, rules.up_above);
    (workers, None, format!("utilisation {utilisation:.2} is between {low:.2} and {high:.2}; stays at {workers}"))
}

fn count(workers: u32) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

fn is(workers: u32) -> String {
    if workers == 1 { "1 worker is".to_owned() } else { format!("{workers} workers are") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Rules {
        Rules { min: 1, max: 6, per_worker: 40.0, target: 0.6, up_above: 0.8, down_below: 0.3, down_after: 2 }
    }

    /// Decides by windows written as requests in a second and workers.
    fn decide_by(windows: &[(f64, u32)]) -> Decision {
        let figures = |&(per_second, workers)| Figures { per_second, workers, objective_met: true };
        decide(&rules(), &windows.iter().map(figures).collect::<Vec<_>>())
    }

    fn check(windows: &[(f64, u32)], to: u32, threshold: Option<f64>, reason: &str) {
        let decision = decide_by(windows);
        assert_eq!((decision.to, decision.threshold, decision.reason.as_str()), (to, threshold, reason));
    }

    #[test]
    fn without_a_window_the_fleet_is_as_small_as_it_may_be() {
        check(&[], 1, None, "nothing is measured yet: the minimum, 1 worker");
    }

    #[test]
    fn a_load_within_the_bounds_changes_nothing() {
        check(&[(20.0, 1)], 1, None, "utilisation 0.50 is between 0.30 and 0.80; stays at 1");
    }

    #[test]
    fn the_bounds_themselves_are_within() {
        assert_eq!(decide_by(&[(32.0, 1)]).to, 1);
        assert_eq!(decide_by(&[(60.0, 5), (60.0, 5)]).to, 5);
    }

    #[test]
    fn a_rise_is_met_at_once() {
        check(
            &[(20.0, 1), (100.0, 1)],
            5,
            Some(0.8),
            "utilisation 2.50 is above 0.80: 100.0 requests/s need 5 workers at 0.60 of 40 requests/s each; from 1 to 5",
        );
    }

    #[test]
    fn a_fall_is_followed_when_it_lasts() {
        let needs = "20.0 requests/s need 1 worker at 0.60 of 40 requests/s each";
        check(
            &[(100.0, 5), (20.0, 5)],
            5,
            Some(0.3),
            "utilisation 0.10 is below 0.30 in 1 of the 2 windows that it takes; stays at 5",
        );
        let below = format!("utilisation 0.10 is below 0.30: {needs}; from 5 to 1");
        check(&[(100.0, 5), (20.0, 5), (20.0, 5)], 1, Some(0.3), &below);
    }

    #[test]
    fn a_fall_is_followed_to_the_highest_of_its_windows() {
        assert_eq!(decide_by(&[(50.0, 5), (10.0, 5)]).to, 3);
    }

    #[test]
    fn one_high_window_starts_the_count_anew() {
        assert_eq!(decide_by(&[(20.0, 5), (100.0, 5), (20.0, 5)]).to, 5);
    }

    #[test]
    fn at_the_minimum_a_low_load_changes_nothing() {
        check(&[(1.0, 1), (1.0, 1)], 1, Some(0.3), "utilisation 0.03 is below 0.30, and 1 worker is the minimum");
    }

    #[test]
    fn what_is_beyond_the_maximum_is_said_and_told_once() {
        let at_first = decide_by(&[(20.0, 1), (300.0, 1)]);
        assert_eq!((at_first.to, at_first.short, at_first.newly_short), (6, 7, true));
        assert!(
            at_first
                .reason
                .ends_with("need 13 workers at 0.60 of 40 requests/s each, 7 more than the maximum; from 1 to 6")
        );
        let then = decide_by(&[(20.0, 1), (300.0, 1), (300.0, 6)]);
        assert_eq!((then.to, then.short, then.newly_short), (6, 7, false));
        assert!(then.reason.ends_with("7 more than the maximum; stays at 6"), "{}", then.reason);
        let again = decide_by(&[(300.0, 6), (20.0, 6), (300.0, 6)]);
        assert!(again.newly_short);
    }

    #[test]
    fn a_fleet_outside_of_what_is_allowed_is_brought_back() {
        check(&[(0.0, 0)], 1, None, "0 workers serving, fewer than the minimum of 1: to 1");
        assert_eq!(decide_by(&[(100.0, 0)]).to, 5);
        check(&[(20.0, 9)], 6, None, "9 workers serving, more than the maximum of 6");
    }

    proptest! {
        #[test]
        fn the_same_load_never_calls_for_a_second_change(
            (min, more) in (1_u32..20, 0_u32..20),
            workers in 1_u32..40,
            (down_below, above, room) in (0.0..0.5, 0.001..0.5, 0.0..0.5),
            per_worker in 0.1..1_000.0,
            load in 0.0..50_000.0,
        ) {
            let (max, target) = (min + more, down_below + above);
            let rules = Rules { min, max, per_worker, target, up_above: target + room, down_below, down_after: 2 };
            let steadily = |workers| {
                let figures = Figures { per_second: load, workers, objective_met: true };
                decide(&rules, &[figures, figures])
            };
            let changed = steadily(workers.clamp(min, max)).to;
            prop_assert!((min..=max).contains(&changed));
            prop_assert_eq!(steadily(changed).to, changed);
        }
    }
}
