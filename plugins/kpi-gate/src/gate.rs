//! From values and objectives to a verdict. Pure: no input format, no host.
//!
//! Each objective is judged by its criteria, the objectives are weighed into a score, and the score and the key
//! objectives make the verdict. Missing data is carried along as what it is: a verdict that it could change is not
//! given, and a pass never is.

use crate::criterion::{Criterion, Finding};

/// What is measured and what it should be.
#[derive(Clone, Debug)]
pub(crate) struct Objective {
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    pub(crate) baseline: Option<f64>,
    /// All of them together mean pass. Never empty.
    pub(crate) pass: Vec<Criterion>,
    /// Failing that, all of these together mean warning. Empty: there is no warning.
    pub(crate) warning: Vec<Criterion>,
    /// Greater than zero and finite.
    pub(crate) weight: f64,
    /// Whether its failure is the failure of all.
    pub(crate) key: bool,
}

/// Scores from which on the whole is a pass or a warning: 0 ≤ `warning` ≤ `pass` ≤ 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    pub(crate) pass: f64,
    pub(crate) warning: f64,
}

/// How good it is. Ordered from the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Fail,
    Inconclusive,
    Warning,
    Pass,
}

/// What one objective came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// The comparison that decided.
    pub(crate) reason: String,
}

/// What all of them came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluation {
    pub(crate) verdict: Verdict,
    /// The weighted mean of the objectives' points, 0 to 1: a pass 1, a warning 0.5, everything else 0.
    pub(crate) score: f64,
    /// Why the verdict is what it is.
    pub(crate) reason: String,
    /// In the order of the objectives.
    pub(crate) judgements: Vec<Judgement>,
}

/// Judges at least one objective.
pub(crate) fn evaluate(objectives: &[Objective], thresholds: Thresholds) -> Evaluation {
    let judgements: Vec<Judgement> = objectives.iter().map(judge).collect();

    let total: f64 = objectives.iter().map(|objective| objective.weight).sum();
    let points = |missing: f64| -> f64 {
        let weighted = objectives.iter().zip(&judgements).map(|(objective, judgement)| {
            objective.weight
                * match judgement.verdict {
                    Verdict::Pass => 1.0,
                    Verdict::Warning => 0.5,
                    Verdict::Inconclusive => missing,
                    Verdict::Fail => 0.0,
                }
        });
        // Sums of fractions miss by a hair: without rounding, nine tenths of the weight could be less than 0.9.
        (weighted.sum::<f64>() / total * 1e9).round() / 1e9
    };
    let score = points(0.0);
    let best_score = points(1.0);

    let named = |verdict: Verdict, only_key: bool| -> Vec<&str> {
        (objectives.iter().zip(&judgements))
            .filter(|(objective, judgement)| judgement.verdict == verdict && (objective.key || !only_key))
            .map(|(objective, _)| objective.name.as_str())
            .collect()
    };
    let failed_keys = named(Verdict::Fail, true);
    let missing = named(Verdict::Inconclusive, false);
    let (verdict, reason) = if !failed_keys.is_empty() {
        (Verdict::Fail, format!("the key objective {} failed", failed_keys.join(", ")))
    } else if best_score < thresholds.warning {
        (Verdict::Fail, format!("the score {} is below {}", percent(score), percent(thresholds.warning)))
    } else if !missing.is_empty() {
        (Verdict::Inconclusive, format!("data is missing for {}", missing.join(", ")))
    } else if score < thresholds.pass {
        (Verdict::Warning, format!("the score {} is below {}", percent(score), percent(thresholds.pass)))
    } else {
        (Verdict::Pass, format!("the score is {}", percent(score)))
    };
    Evaluation { verdict, score, reason, judgements }
}

fn judge(objective: &Objective) -> Judgement {
    let (pass, pass_reason) = all(&objective.pass, objective);
    let (verdict, reason) = match pass {
        Some(true) => (Verdict::Pass, pass_reason),
        None => (Verdict::Inconclusive, pass_reason),
        Some(false) if objective.warning.is_empty() => (Verdict::Fail, pass_reason),
        Some(false) => match all(&objective.warning, objective) {
            (Some(true), _) => (Verdict::Warning, pass_reason),
            (None, reason) => (Verdict::Inconclusive, reason),
            (Some(false), reason) => (Verdict::Fail, reason),
        },
    };
    Judgement { verdict, reason }
}

/// Whether all criteria are met: false as soon as one is false, unknown if else one is unknown. With the comparisons
/// that made it so.
fn all(criteria: &[Criterion], objective: &Objective) -> (Option<bool>, String) {
    let findings: Vec<Finding> =
        criteria.iter().map(|criterion| criterion.judge(objective.value, objective.baseline)).collect();
    let met = if findings.iter().any(|finding| finding.met == Some(false)) {
        Some(false)
    } else if findings.iter().any(|finding| finding.met.is_none()) {
        None
    } else {
        Some(true)
    };
    let reasons: Vec<String> =
        findings.into_iter().filter(|finding| finding.met == met).map(|finding| finding.reason).collect();
    (met, reasons.join("; "))
}

fn percent(score: f64) -> String {
    format!("{}%", (score * 1000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { pass: 0.9, warning: 0.75 };

    fn criteria(texts: &[&str]) -> Vec<Criterion> {
        texts.iter().map(|text| Criterion::parse(text).expect(text)).collect()
    }

    fn objective(name: &str, value: f64, pass: &[&str], warning: &[&str]) -> Objective {
        Objective {
            name: name.to_owned(),
            value: Some(value),
            baseline: None,
            pass: criteria(pass),
            warning: criteria(warning),
            weight: 1.0,
            key: false,
        }
    }

    fn check(objective: &Objective, verdict: Verdict, reason: &str) {
        assert_eq!(judge(objective), Judgement { verdict, reason: reason.to_owned() });
    }

    #[test]
    fn an_objective_passes_warns_or_fails_by_its_criteria() {
        let p95 = |value| objective("p95", value, &["<= 250"], &["<= 300"]);
        check(&p95(250.0), Verdict::Pass, "250 is <= 250");
        check(&p95(251.0), Verdict::Warning, "251 is not <= 250");
        check(&p95(301.0), Verdict::Fail, "301 is not <= 300");
        check(&objective("p95", 251.0, &["<= 250"], &[]), Verdict::Fail, "251 is not <= 250");
    }

    #[test]
    fn all_criteria_have_to_be_met() {
        let objective =
            |value| Objective { baseline: Some(200.0), ..objective("p95", value, &["<= 250", "<= +20%"], &[]) };
        check(&objective(230.0), Verdict::Pass, "230 is <= 250; 230 is <= 240 (+20% from 200)");
        check(&objective(245.0), Verdict::Fail, "245 is not <= 240 (+20% from 200)");
    }

    #[test]
    fn missing_data_is_inconclusive_unless_what_is_there_already_decides() {
        let no_baseline = |value| objective("p95", value, &["<= 250", "<= +20%"], &[]);
        check(&no_baseline(230.0), Verdict::Inconclusive, "there is no baseline for `<= +20%`");
        check(&no_baseline(251.0), Verdict::Fail, "251 is not <= 250");
        let unknown_warning = objective("p95", 251.0, &["<= 250"], &["<= +20%"]);
        check(&unknown_warning, Verdict::Inconclusive, "there is no baseline for `<= +20%`");
        check(&objective("p95", f64::NAN, &["!= 1"], &["!= 1"]), Verdict::Inconclusive, "there is no value for `!= 1`");
    }

    #[test]
    fn the_score_is_the_weighted_mean_and_thresholds_make_the_verdict() {
        let heavy = Objective { weight: 8.0, ..objective("a", 1.0, &["<= 1"], &[]) };
        let warning = objective("b", 2.0, &["<= 1"], &["<= 2"]);
        let failing = objective("c", 3.0, &["<= 1"], &["<= 2"]);

        let evaluation = evaluate(&[heavy.clone(), warning.clone(), warning.clone()], THRESHOLDS);
        assert_eq!((evaluation.score, evaluation.verdict), (0.9, Verdict::Pass));
        let evaluation = evaluate(&[heavy.clone(), warning.clone(), failing.clone()], THRESHOLDS);
        assert_eq!((evaluation.score, evaluation.verdict), (0.85, Verdict::Warning));
        assert_eq!(evaluation.reason, "the score 85% is below 90%");
        let evaluation = evaluate(&[heavy, failing.clone(), failing.clone(), failing.clone(), failing], THRESHOLDS);
        assert_eq!((evaluation.score, evaluation.verdict), (0.666_666_667, Verdict::Fail));
        assert_eq!(evaluation.reason, "the score 66.7% is below 75%");
    }

    #[test]
    fn a_score_that_is_the_threshold_but_for_rounding_reaches_it() {
        let objective = |value, weight| Objective { weight, ..objective("a", value, &["<= 1"], &[]) };
        // 0.1 + 0.2 + 0.6 is 0.8999999999999999.
        let objectives = [objective(1.0, 0.1), objective(1.0, 0.2), objective(1.0, 0.6), objective(2.0, 0.1)];
        assert_eq!(evaluate(&objectives, THRESHOLDS).verdict, Verdict::Pass);
    }

    #[test]
    fn a_key_objective_that_fails_fails_all_and_one_that_warns_does_not() {
        let good = Objective { weight: 99.0, ..objective("a", 1.0, &["<= 1"], &[]) };
        let key = |value| Objective { key: true, ..objective("errors", value, &["<= 1"], &["<= 2"]) };
        let evaluation = evaluate(&[good.clone(), key(3.0)], THRESHOLDS);
        assert_eq!((evaluation.score, evaluation.verdict), (0.99, Verdict::Fail));
        assert_eq!(evaluation.reason, "the key objective errors failed");
        assert_eq!(evaluate(&[good, key(2.0)], THRESHOLDS).verdict, Verdict::Pass);
    }

    #[test]
    fn with_missing_data_the_verdict_is_inconclusive_or_a_failure_that_is_certain() {
        let good = |weight| Objective { weight, ..objective("a", 1.0, &["<= 1"], &[]) };
        let bad = |weight| Objective { weight, ..objective("b", 2.0, &["<= 1"], &[]) };
        let missing = Objective { value: None, ..objective("c", 0.0, &["<= 1"], &[]) };

        let evaluation = evaluate(&[good(99.0), missing.clone()], THRESHOLDS);
        assert_eq!((evaluation.score, evaluation.verdict), (0.99, Verdict::Inconclusive));
        assert_eq!(evaluation.reason, "data is missing for c");
        assert_eq!(evaluate(&[good(1.0), bad(5.0), missing.clone()], THRESHOLDS).verdict, Verdict::Fail);
        assert_eq!(
            evaluate(&[bad(1.0), missing], Thresholds { pass: 0.5, warning: 0.5 }).verdict,
            Verdict::Inconclusive
        );
    }

    /// Numbers of every kind, the awkward ones often.
    fn number() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![
            2 => Just(None),
            2 => Just(Some(f64::NAN)),
            1 => Just(Some(f64::INFINITY)),
            1 => Just(Some(f64::NEG_INFINITY)),
            1 => any::<f64>().prop_map(Some),
            8 => (-1000.0..1000.0).prop_map(Some),
        ]
    }

    fn any_criterion() -> impl Strategy<Value = Criterion> {
        let comparison = prop_oneof![Just("<"), Just("<="), Just("=="), Just("!="), Just(">="), Just(">")];
        let bound = (-1000.0..1000.0, 0..3).prop_map(|(number, kind)| match kind {
            0 => format!("({number})"),
            1 => format!("{number:+}"),
            _ => format!("{number:+}%"),
        });
        (comparison, bound)
            .prop_map(|(comparison, bound)| Criterion::parse(&format!("{comparison} {bound}")).expect("it is one"))
    }

    fn any_objective() -> impl Strategy<Value = Objective> {
        let criteria = |least| prop::collection::vec(any_criterion(), least..3);
        (number(), number(), criteria(1), criteria(0), 0.001..1000.0, any::<bool>()).prop_map(
            |(value, baseline, pass, warning, weight, key)| Objective {
                name: "kpi".to_owned(),
                value,
                baseline,
                pass,
                warning,
                weight,
                key,
            },
        )
    }

    fn any_objectives() -> impl Strategy<Value = Vec<Objective>> {
        prop::collection::vec(any_objective(), 1..8)
    }

    fn thresholds() -> impl Strategy<Value = Thresholds> {
        (0.0..=1.0, 0.0..=1.0).prop_map(|(a, b): (f64, f64)| Thresholds { pass: a.max(b), warning: a.min(b) })
    }

    proptest! {
        // The same cases in every run: a failure is found by whoever caused it.
        #![proptest_config(ProptestConfig {
            cases: 1_000,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_score_is_between_zero_and_one(objectives in any_objectives(), thresholds in thresholds()) {
            let Evaluation { score, .. } = evaluate(&objectives, thresholds);
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }

        #[test]
        fn whatever_is_not_a_finite_number_never_passes(objectives in any_objectives(), thresholds in thresholds()) {
            let evaluation = evaluate(&objectives, thresholds);
            for (objective, judgement) in objectives.iter().zip(&evaluation.judgements) {
                if !objective.value.is_some_and(f64::is_finite) {
                    prop_assert_eq!(judgement.verdict, Verdict::Inconclusive);
                    prop_assert!(evaluation.verdict <= Verdict::Inconclusive);
                }
            }
        }

        #[test]
        fn the_whole_passes_only_when_it_reaches_the_threshold_and_no_key_objective_fails(
            objectives in any_objectives(), thresholds in thresholds(),
        ) {
            let evaluation = evaluate(&objectives, thresholds);
            if evaluation.verdict == Verdict::Pass {
                prop_assert!(evaluation.score >= thresholds.pass);
                for (objective, judgement) in objectives.iter().zip(&evaluation.judgements) {
                    prop_assert!(!(objective.key && judgement.verdict == Verdict::Fail));
                }
            }
        }

        #[test]
        fn data_that_arrives_later_confirms_a_failure(
            objectives in any_objectives(), arrived in -1000.0..1000.0, thresholds in thresholds(),
        ) {
            let before = evaluate(&objectives, thresholds);
            let complete: Vec<Objective> = objectives.into_iter().map(|mut objective| {
                objective.value = objective.value.filter(|value| value.is_finite()).or(Some(arrived));
                objective.baseline = objective.baseline.filter(|value| value.is_finite()).or(Some(arrived));
                objective
            }).collect();
            let after = evaluate(&complete, thresholds);
            if before.verdict == Verdict::Fail {
                prop_assert_eq!(after.verdict, Verdict::Fail);
            }
        }
    }
}
