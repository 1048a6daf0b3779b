//! One criterion: a comparison with a bound that is fixed, or relative to a baseline.
//!
//! Text such as `<= 250`, `<= +20%`, `>= -5`. Whether a value meets it is true, false, or unknown; unknown is what
//! missing data makes of it, and nothing here ever turns unknown into true.

use std::fmt::{Display, Formatter};

/// A comparison and its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Criterion {
    comparison: Comparison,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A number.
    Absolute(f64),
    /// The baseline plus this.
    Change(f64),
    /// The baseline plus so many percent of its magnitude: `+20%` is above a negative baseline, too.
    Percent(f64),
}

/// Whether a criterion is met, and the comparison in words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    /// `None`: the data does not say.
    pub(crate) met: Option<bool>,
    /// `312 is not <= 240 (+20% of 200)`.
    pub(crate) reason: String,
}

/// Longest first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl Criterion {
    /// Reads a criterion. The error is for the author of the workflow.
    pub(crate) fn parse(text: &str) -> Result<Criterion, String> {
        let fault = |what: &str| {
            format!("`{text}` is not a criterion: {what}; write one such as `<= 250`, `<= +20%` or `>= -5`")
        };
        let trimmed = text.trim();
        let (symbol, comparison) = *COMPARISONS
            .iter()
            .find(|(symbol, _)| trimmed.starts_with(symbol))
            .ok_or_else(|| fault("it begins with none of <, <=, ==, !=, >=, >"))?;
        let bound = trimmed[symbol.len()..].trim();

        let (bound, absolute) = match bound.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) => (inner.trim(), true),
            None => (bound, false),
        };
        let (digits, percent) = match bound.strip_suffix('%') {
            Some(digits) => (digits.trim_end(), true),
            None => (bound, false),
        };
        let number = number(digits).ok_or_else(|| fault(&format!("`{digits}` is not a number")))?;
        let signed = digits.starts_with(['+', '-']);
        let bound = match (percent, signed && !absolute) {
            (true, true) => Bound::Percent(number),
            (true, false) => return Err(fault("a percentage is a change from the baseline and has a sign")),
            (false, true) => Bound::Change(number),
            (false, false) => Bound::Absolute(number),
        };
        Ok(Criterion { comparison, bound })
    }

    /// Compares. Without a finite value there is no answer, and without a finite baseline none for a relative bound.
    pub(crate) fn judge(&self, value: Option<f64>, baseline: Option<f64>) -> Finding {
        let unknown = |reason: &str| Finding { met: None, reason: format!("{reason} for `{self}`") };
        let Some(value) = value.filter(|value| value.is_finite()) else { return unknown("there is no value") };
        let baseline = baseline.filter(|baseline| baseline.is_finite());
        let (bound, relative) = match (self.bound, baseline) {
            (Bound::Absolute(number), _) => (number, String::new()),
            (_, None) => return unknown("there is no baseline"),
            (Bound::Change(change), Some(baseline)) => (baseline + change, format!(" ({change:+} from {baseline})")),
            (Bound::Percent(percent), Some(baseline)) => {
                (baseline + baseline.abs() * percent / 100.0, format!(" ({percent:+}% from {baseline})"))
            }
        };
        if !bound.is_finite() {
            return unknown("the bound is too large");
        }
        let met = match self.comparison {
            Comparison::Less => value < bound,
            Comparison::LessOrEqual => value <= bound,
            Comparison::Equal => value == bound,
            Comparison::NotEqual => value != bound,
            Comparison::GreaterOrEqual => value >= bound,
            Comparison::Greater => value > bound,
        };
        let is = if met { "is" } else { "is not" };
        let bound = readable(bound);
        Finding { met: Some(met), reason: format!("{value} {is} {} {bound}{relative}", self.comparison) }
    }
}

impl Display for Criterion {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let comparison = self.comparison;
        match self.bound {
            Bound::Absolute(number) if number < 0.0 => write!(f, "{comparison} ({number})"),
            Bound::Absolute(number) => write!(f, "{comparison} {number}"),
            Bound::Change(change) => write!(f, "{comparison} {change:+}"),
            Bound::Percent(percent) => write!(f, "{comparison} {percent:+}%"),
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let known = COMPARISONS.iter().find(|(_, comparison)| comparison == self);
        f.write_str(known.map_or("", |(symbol, _)| symbol))
    }
}

/// Plain decimal notation only: Rust's own parser would also take `inf` and `NaN`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

/// Six significant decimals, so that 0.1 + 0.2 reads as 0.3.
fn readable(number: f64) -> f64 {
    let rounded = (number * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(criterion: &str, value: Option<f64>, baseline: Option<f64>, met: Option<bool>, reason: &str) {
        let finding = Criterion::parse(criterion).expect(criterion).judge(value, baseline);
        assert_eq!(finding, Finding { met, reason: reason.to_owned() }, "{criterion}");
    }

    #[test]
    fn absolute_bounds_need_no_baseline() {
        check("<= 250", Some(250.0), None, Some(true), "250 is <= 250");
        check("<250", Some(250.0), None, Some(false), "250 is not < 250");
        check(" >= 0.99 ", Some(0.995), None, Some(true), "0.995 is >= 0.99");
        check("== 0", Some(0.0), None, Some(true), "0 is == 0");
        check("!= 0", Some(0.0), None, Some(false), "0 is not != 0");
        check("> 1e3", Some(1001.0), None, Some(true), "1001 is > 1000");
        check(">= (-5)", Some(-4.0), None, Some(true), "-4 is >= -5");
    }

    #[test]
    fn relative_bounds_start_at_the_baseline() {
        check("<= +20%", Some(240.0), Some(200.0), Some(true), "240 is <= 240 (+20% from 200)");
        check("<= +20%", Some(240.1), Some(200.0), Some(false), "240.1 is not <= 240 (+20% from 200)");
        check(">= -10 %", Some(90.0), Some(100.0), Some(true), "90 is >= 90 (-10% from 100)");
        check("<= +50", Some(251.0), Some(200.0), Some(false), "251 is not <= 250 (+50 from 200)");
        check(">= -5", Some(-9.0), Some(-4.0), Some(true), "-9 is >= -9 (-5 from -4)");
        check("<= +10%", Some(-95.0), Some(-100.0), Some(true), "-95 is <= -90 (+10% from -100)");
        check("<= +20%", Some(0.0), Some(0.0), Some(true), "0 is <= 0 (+20% from 0)");
        check("<= +0.2", Some(0.2), Some(0.1), Some(true), "0.2 is <= 0.3 (+0.2 from 0.1)");
    }

    #[test]
    fn what_is_missing_or_no_number_is_unknown() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            check("<= 250", value, None, None, "there is no value for `<= 250`");
        }
        for baseline in [None, Some(f64::NAN), Some(f64::NEG_INFINITY)] {
            check("<= +20%", Some(1.0), baseline, None, "there is no baseline for `<= +20%`");
        }
        check("<= +20%", Some(1.0), Some(f64::MAX), None, "the bound is too large for `<= +20%`");
    }

    #[test]
    fn what_is_no_criterion_says_why() {
        for (text, part) in [
            ("250", "begins with none of"),
            ("=> 1", "begins with none of"),
            ("", "begins with none of"),
            ("<=", "`` is not a number"),
            ("<= fast", "`fast` is not a number"),
            ("<= inf", "`inf` is not a number"),
            ("<= NaN", "`NaN` is not a number"),
            ("<= 1e999", "`1e999` is not a number"),
            ("<= 20%", "has a sign"),
            ("<= (+20%)", "has a sign"),
            ("<= 250 ms", "`250 ms` is not a number"),
        ] {
            let error = Criterion::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_criterion_is_written_as_it_is_read() {
        for text in ["<= 250", "< +20%", ">= -5", "> -0.5%", "== (-1)", "!= 0"] {
            assert_eq!(Criterion::parse(text).expect(text).to_string(), text);
        }
    }
}
