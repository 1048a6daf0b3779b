//! Decides how many workers a measured load needs: up, down or as it is, and says by which rule.
//!
//! Here is the step's input and output; the rules are in `policy`, which knows neither. The step provisions nothing: a
//! workflow branches on `to` and `from`, so that who decides needs no grant and who provisions decides nothing.

mod policy;

use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Decision, Figures, Rules};

/// How many windows the history keeps. A window lasts seconds to minutes; nobody waits for longer than an hour of them
/// to make a fleet smaller.
const HISTORY_MAX: usize = 60;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    policy: Policy,
    /// What was measured last. Left out: nothing yet, and the decision is the minimum.
    window: Option<Window>,
    /// What was measured before, oldest first: the `history` of the decision before.
    #[serde(default)]
    history: Vec<Window>,
}

/// When there are to be how many workers.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Policy {
    /// The fleet is never smaller.
    #[schemars(range(min = 1, max = 10_000))]
    min_workers: u32,
    /// The fleet is never larger.
    #[schemars(range(min = 1, max = 10_000))]
    max_workers: u32,
    /// How many requests one worker can serve in a second, known from measuring one.
    #[schemars(extend("exclusiveMinimum" = 0))]
    per_worker: f64,
    /// The utilisation that a changed fleet is made for, 0 to 1.
    #[serde(default = "sixty_percent")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    target: f64,
    /// More workers when the utilisation is above this: no smaller than `target`, so that no change calls for the next.
    #[serde(default = "eighty_percent")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    up_above: f64,
    /// Fewer workers when the utilisation is below this: smaller than `target`.
    #[serde(default = "thirty_percent")]
    #[schemars(range(min = 0.0))]
    down_below: f64,
    /// In so many windows, one after the other, before there are fewer. More workers come after the first.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    down_after: u32,
    /// What customers are promised. It is judged, and decides nothing: latency has more causes than too few workers.
    objective: Objective,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Objective {
    /// The 95th percentile of the latency, in milliseconds, at most.
    #[schemars(extend("exclusiveMinimum" = 0))]
    p95_ms: f64,
    /// The share of requests that fail, at most, 0 to 1.
    #[serde(default = "one_percent")]
    #[schemars(range(min = 0.0, max = 1.0))]
    error_rate: f64,
}

/// What was measured in one stretch of time. Fields that are not named here are ignored.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Window {
    /// How long it was, in milliseconds.
    #[schemars(range(min = 1))]
    window_ms: u64,
    /// Requests that came in.
    requests: u64,
    /// Those of them that were not answered, or not well.
    failed: u64,
    /// Workers that were serving.
    workers: u32,
    /// The 95th percentile of the latency, in milliseconds; null when nothing was answered.
    p95_ms: Option<f64>,
}

fn sixty_percent() -> f64 {
    0.6
}

fn eighty_percent() -> f64 {
    0.8
}

fn thirty_percent() -> f64 {
    0.3
}

fn one_percent() -> f64 {
    0.01
}

fn two() -> u32 {
    2
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Output {
    action: Action,
    /// Workers that are serving.
    from: u32,
    /// Workers that should be.
    to: u32,
    /// What share of the fleet the load of the last window keeps busy; null without a window or a worker.
    utilisation: Option<f64>,
    /// The bound that decided; null when the utilisation is within both.
    threshold: Option<f64>,
    /// The decision as a sentence, with its figures.
    reason: String,
    /// Workers that the load needs beyond `max-workers`.
    short: u32,
    /// Whether `short` has just become more than 0: the moment to tell somebody.
    newly_short: bool,
    /// Whether the last window kept the objective.
    objective_met: bool,
    /// The policy with its defaults, for the next decision.
    policy: Policy,
    /// What was measured so far, for the next decision: oldest first, at most 60 windows.
    #[schemars(length(max = 60))]
    history: Vec<Window>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Up,
    Down,
    Hold,
}

/// Decides how many workers a measured load needs: up, down or hold, and why.
#[step]
fn capacity(input: Input) -> Result<Output, Failure> {
    let Input { policy, window, mut history } = input;
    let rules = rules(&policy)?;
    history.extend(window);
    let surplus = history.len().saturating_sub(HISTORY_MAX);
    history.drain(..surplus);
    let figures = history.iter().map(|window| figures(window, policy.objective)).collect::<Result<Vec<_>, _>>()?;
    let decision = policy::decide(&rules, &figures);
    log::info!("{}", decision.reason);
    Ok(output(decision, policy, history))
}

fn rules(policy: &Policy) -> Result<Rules, Failure> {
    let invalid = |what: String| Err(Failure::invalid_input(format!("the policy: {what}")));
    let Policy { min_workers, max_workers, per_worker, target, up_above, down_below, down_after, .. } = *policy;
    if !(1 <= min_workers && min_workers <= max_workers) {
        return invalid(format!(
            "`min-workers` is {min_workers} and `max-workers` {max_workers}; it must be 1 <= min-workers <= max-workers"
        ));
    }
    if !(per_worker.is_finite() && per_worker > 0.0) {
        return invalid(format!("`per-worker` is {per_worker} and must be greater than 0"));
    }
    if !(0.0 <= down_below && down_below < target && target <= 1.0 && target <= up_above && up_above.is_finite()) {
        return invalid(format!(
            "`down-below` is {down_below}, `target` {target} and `up-above` {up_above}; it must be 0 <= down-below < \
             target <= up-above and target <= 1, or one change would call for the next"
        ));
    }
    let down_after = down_after as usize;
    if !(1..=HISTORY_MAX).contains(&down_after) {
        return invalid(format!("`down-after` is {down_after} and must be between 1 and {HISTORY_MAX}"));
    }
    Ok(Rules { min: min_workers, max: max_workers, per_worker, target, up_above, down_below, down_after })
}

fn figures(window: &Window, objective: Objective) -> Result<Figures, Failure> {
    if window.window_ms == 0 {
        return Err(Failure::invalid_input("a window of 0 ms has no load: `window-ms` must be greater than 0"));
    }
    let in_time = window.p95_ms.is_some_and(|p95| p95 <= objective.p95_ms);
    let few_failed = window.failed as f64 <= objective.error_rate * window.requests as f64;
    Ok(Figures {
        per_second: window.requests as f64 * 1_000.0 / window.window_ms as f64,
        workers: window.workers,
        // Who asked for nothing was not kept waiting.
        objective_met: window.requests == 0 || (in_time && few_failed),
    })
}

fn output(decision: Decision, policy: Policy, history: Vec<Window>) -> Output {
    let Decision { from, to, utilisation, threshold, reason, short, newly_short, objective_met } = decision;
    let action = match to.cmp(&from) {
        std::cmp::Ordering::Greater => Action::Up,
        std::cmp::Ordering::Less => Action::Down,
        std::cmp::Ordering::Equal => Action::Hold,
    };
    Output { action, from, to, utilisation, threshold, reason, short, newly_short, objective_met, policy, history }
}

#[cfg(test)]
mod tests;
