//! Judges measured values against objectives, absolute and relative to a baseline, and lets a workflow pass or not.
//!
//! Here is the step's input and output; what is judged and how is in `gate` and `criterion`, which know neither.

mod criterion;
mod gate;

use std::collections::BTreeSet;

use downbeat_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::criterion::Criterion;
use crate::gate::{Evaluation, Objective, Thresholds};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Input {
    /// What was measured and what it should be.
    #[schemars(length(min = 1))]
    objectives: Vec<InputObjective>,
    /// The score from which on the gate passes.
    #[serde(default = "ninety_percent")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pass_score: f64,
    /// The score below which the gate fails; from here to `pass-score` it warns.
    #[serde(default = "seventy_five_percent")]
    #[schemars(range(min = 0.0, max = 1.0))]
    warning_score: f64,
    /// When the step itself fails.
    #[serde(default)]
    fail_on: FailOn,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct InputObjective {
    /// What it is called in the results.
    #[schemars(length(min = 1))]
    name: String,
    /// What was measured. Null or left out: nothing was, and the objective is inconclusive.
    value: Option<f64>,
    /// What relative criteria compare with: the value before, or of the version in use.
    baseline: Option<f64>,
    /// Criteria that together mean pass, such as `<= 250` or, relative to the baseline, `<= +20%`.
    #[schemars(length(min = 1))]
    pass: Vec<String>,
    /// Criteria that together mean warning where `pass` is not met.
    #[serde(default)]
    warning: Vec<String>,
    /// How much it counts in the score, compared with the others.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    weight: f64,
    /// Whether the gate fails whenever this objective does.
    #[serde(default)]
    key: bool,
}

/// When the step itself fails, permanently, with the results in its details.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum FailOn {
    /// When the verdict is `fail` or `inconclusive`.
    #[default]
    Fail,
    /// When it is `warning`, too.
    Warning,
    /// Never: the workflow decides by `verdict`.
    Never,
}

fn ninety_percent() -> f64 {
    0.9
}

fn seventy_five_percent() -> f64 {
    0.75
}

fn one() -> f64 {
    1.0
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Output {
    verdict: Verdict,
    /// The weighted mean of the objectives' points, 0 to 1: a pass 1, a warning 0.5, everything else 0.
    score: f64,
    /// The verdict, its reason and every objective that did not pass, for people: several lines.
    summary: String,
    /// In the order of the objectives.
    results: Vec<OutputResult>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct OutputResult {
    name: String,
    verdict: Verdict,
    /// The comparison that decided.
    reason: String,
    value: Option<f64>,
    baseline: Option<f64>,
    pass: Vec<String>,
    warning: Vec<String>,
    weight: f64,
    key: bool,
}

/// How good it is. `inconclusive` is what missing data makes of it: neither good nor bad, and never a pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Pass,
    Warning,
    Inconclusive,
    Fail,
}

impl From<gate::Verdict> for Verdict {
    fn from(verdict: gate::Verdict) -> Verdict {
        match verdict {
            gate::Verdict::Pass => Verdict::Pass,
            gate::Verdict::Warning => Verdict::Warning,
            gate::Verdict::Inconclusive => Verdict::Inconclusive,
            gate::Verdict::Fail => Verdict::Fail,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Warning => "warning",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Fail => "fail",
        })
    }
}

/// Judges measured values against objectives: pass, warning, inconclusive or fail.
#[step]
fn kpi_gate(input: Input) -> Result<Output, Failure> {
    let thresholds = thresholds(&input)?;
    let objectives = objectives(&input)?;
    let output = output(&input, gate::evaluate(&objectives, thresholds));

    let stops = match input.fail_on {
        FailOn::Never => false,
        FailOn::Warning => output.verdict != Verdict::Pass,
        FailOn::Fail => matches!(output.verdict, Verdict::Fail | Verdict::Inconclusive),
    };
    if stops {
        return Err(Failure::permanent(&output.summary).details(&output));
    }
    log::info!("{}", output.summary);
    Ok(output)
}

fn thresholds(input: &Input) -> Result<Thresholds, Failure> {
    let Input { pass_score: pass, warning_score: warning, .. } = *input;
    if !(0.0 <= warning && warning <= pass && pass <= 1.0) {
        return Err(Failure::invalid_input(format!(
            "`warning-score` is {warning} and `pass-score` is {pass}; it must be 0 <= warning-score <= pass-score <= 1"
        )));
    }
    Ok(Thresholds { pass, warning })
}

fn objectives(input: &Input) -> Result<Vec<Objective>, Failure> {
    if input.objectives.is_empty() {
        return Err(Failure::invalid_input("`objectives` is empty: a gate without objectives would let anything pass"));
    }
    let mut names = BTreeSet::new();
    let mut objectives = Vec::new();
    for objective in &input.objectives {
        let InputObjective { name, value, baseline, weight, key, .. } = objective;
        let invalid = |what: String| Failure::invalid_input(format!("the objective `{name}`: {what}"));
        if !names.insert(name) {
            return Err(invalid("there are two of this name".to_owned()));
        }
        if !(weight.is_finite() && *weight > 0.0) {
            return Err(invalid(format!("its `weight` is {weight} and must be greater than 0")));
        }
        let criteria = |texts: &[String]| -> Result<Vec<Criterion>, Failure> {
            texts.iter().map(|text| Criterion::parse(text).map_err(invalid)).collect()
        };
        if objective.pass.is_empty() {
            return Err(invalid("`pass` is empty: an objective without criteria would always pass".to_owned()));
        }
        objectives.push(Objective {
            name: name.clone(),
            value: *value,
            baseline: *baseline,
            pass: criteria(&objective.pass)?,
            warning: criteria(&objective.warning)?,
            weight: *weight,
            key: *key,
        });
    }
    Ok(objectives)
}

fn output(input: &Input, evaluation: Evaluation) -> Output {
    let verdict = Verdict::from(evaluation.verdict);
    let results: Vec<OutputResult> = (input.objectives.iter().zip(evaluation.judgements))
        .map(|(objective, judgement)| OutputResult {
            name: objective.name.clone(),
            verdict: judgement.verdict.into(),
            reason: judgement.reason,
            value: objective.value,
            baseline: objective.baseline,
            pass: objective.pass.clone(),
            warning: objective.warning.clone(),
            weight: objective.weight,
            key: objective.key,
        })
        .collect();
    let mut summary = format!("{verdict}: {}", evaluation.reason);
    for result in results.iter().filter(|result| result.verdict != Verdict::Pass) {
        summary.push_str(&format!("\n{}: {}, {}", result.name, result.verdict, result.reason));
    }
    Output { verdict, score: evaluation.score, summary, results }
}

#[cfg(test)]
mod tests;
