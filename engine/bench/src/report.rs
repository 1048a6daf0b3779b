//! What is reported: figures with their limits and goals, as a table for people, as JSON for programs, and as the tables of
//! `engine/BENCHMARKS.md`. Nothing is measured here.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// All that one run of the harness found out. The JSON form is `target/bench.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    pub(crate) rivals: Vec<Rival>,
    pub(crate) instructions: Instructions,
}

/// One figure beside its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Of the value and the limit.
    pub(crate) unit: String,
    pub(crate) limit: f64,
    /// What the limit is.
    pub(crate) limit_name: String,
    /// The median of the rounds' ratios of value to limit; not exactly the ratio of the two medians.
    pub(crate) ratio: f64,
    /// What must be reached; several goals are joined by commas.
    pub(crate) goal: String,
    pub(crate) reached: bool,
    /// How it was measured, as far as the name doesn't say.
    pub(crate) note: String,
}

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    ValueAtMost(f64),
    ValueAtLeast(f64),
}

/// What a user could take instead, on the same ten-step workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rival {
    pub(crate) name: String,
    /// What it keeps of a step that is done.
    pub(crate) keeps: String,
    /// `None` where it can't be had on this machine; the note says why.
    pub(crate) cost: Option<Cost>,
    pub(crate) note: String,
}

/// What a tool takes for the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// The process with ten steps, from its start to its end, in milliseconds.
    pub(crate) ten_steps_ms: f64,
    /// Each step more, in microseconds.
    pub(crate) step_us: f64,
}

/// Instructions of a step, or why they could not be counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Instructions {
    Counted(Vec<Count>),
    NotCounted(String),
}

/// Instructions of one kind of step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) count: u64,
    /// `None` where there is nothing to compare with: another compiler, a kind of step that is new.
    pub(crate) committed: Option<u64>,
}

impl Goal {
    fn is_reached(self, value: f64, ratio: f64) -> bool {
        match self {
            Goal::RatioAtMost(most) => ratio <= most,
            Goal::RatioAtLeast(least) => ratio >= least,
            Goal::ValueAtMost(most) => value <= most,
            Goal::ValueAtLeast(least) => value >= least,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Goal::RatioAtMost(most) => format!("≤ {}", ratio(most)),
            Goal::RatioAtLeast(least) => format!("≥ {}", ratio(least)),
            Goal::ValueAtMost(most) => format!("≤ {} {unit}", number(most)),
            Goal::ValueAtLeast(least) => format!("≥ {} {unit}", number(least)),
        }
    }
}

impl Figure {
    /// A figure, judged by its goals.
    #[allow(clippy::too_many_arguments, reason = "one for each column of the table, in their order")]
    pub(crate) fn new(
        name: &str,
        value: f64,
        unit: &str,
        limit: f64,
        limit_name: &str,
        ratio: f64,
        goals: &[Goal],
        note: impl Into<String>,
    ) -> Figure {
        let goal: Vec<String> = goals.iter().map(|goal| goal.text(unit)).collect();
        Figure {
            name: name.into(),
            value,
            unit: unit.into(),
            limit,
            limit_name: limit_name.into(),
            ratio,
            goal: goal.join(", "),
            reached: goals.iter().all(|goal| goal.is_reached(value, ratio)),
            note: note.into(),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.name.clone(),
            format!("{} {}", number(self.value), self.unit),
            format!("{} {} ({})", number(self.limit), self.unit, self.limit_name),
            ratio(self.ratio),
            self.goal.clone(),
            if self.reached { "yes" } else { "NO" }.into(),
        ]
    }
}

impl Rival {
    fn cells(&self, ours: Option<Cost>) -> [String; 6] {
        let times = |theirs: f64, ours: f64| match theirs / ours {
            cheaper if cheaper >= 1.0 => format!("{} × cheaper", ratio(cheaper)),
            dearer => format!("{} × dearer", ratio(1.0 / dearer)),
        };
        let (whole, step) = match self.cost {
            None => ("not measured".to_owned(), self.note.clone()),
            Some(cost) => (format!("{} ms", number(cost.ten_steps_ms)), format!("{} µs", number(cost.step_us))),
        };
        let (whole_times, step_times) = match (self.cost, ours) {
            (Some(cost), Some(ours)) if cost != ours => {
                (times(cost.ten_steps_ms, ours.ten_steps_ms), times(cost.step_us, ours.step_us))
            }
            _ => (String::new(), String::new()),
        };
        [self.name.clone(), self.keeps.clone(), whole, whole_times, step, step_times]
    }
}

impl Count {
    /// By how much it is above the committed one: 0.05 is 5 % more.
    pub(crate) fn growth(&self) -> Option<f64> {
        self.committed.map(|committed| self.count as f64 / committed as f64 - 1.0)
    }

    fn cells(&self) -> [String; 4] {
        let committed = self.committed.map_or("none".to_owned(), |committed| number(committed as f64));
        let growth = self.growth().map_or(String::new(), |growth| format!("{:+.1} %", growth * 100.0));
        [self.name.clone(), number(self.count as f64), committed, growth]
    }
}

const FIGURES: [&str; 6] = ["figure", "value", "limit", "ratio", "goal", "reached"];
const RIVALS: [&str; 6] =
    ["the same ten steps by", "keeps", "whole process", "Downbeat is", "a step more", "Downbeat is"];
const INSTRUCTIONS: [&str; 4] = ["instructions of", "counted", "committed", "change"];

impl Report {
    /// For `engine/BENCHMARKS.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n{}", self.machine, markdown(&FIGURES, &self.figure_cells()));
        for figure in self.figures.iter().filter(|figure| !figure.note.is_empty()) {
            writeln!(text, "\n- *{}*: {}", figure.name, figure.note).expect("a String takes any text");
        }
        write!(text, "\n{}", markdown(&RIVALS, &self.rival_cells())).expect("a String takes any text");
        let instructions = match &self.instructions {
            Instructions::Counted(counts) => markdown(&INSTRUCTIONS, &cells(counts)),
            Instructions::NotCounted(why) => format!("Instructions were not counted: {why}.\n"),
        };
        write!(text, "\n{instructions}").expect("a String takes any text");
        text
    }

    fn figure_cells(&self) -> Vec<[String; 6]> {
        self.figures.iter().map(Figure::cells).collect()
    }

    fn rival_cells(&self) -> Vec<[String; 6]> {
        let ours = self.rivals.first().and_then(|downbeat| downbeat.cost);
        self.rivals.iter().map(|rival| rival.cells(ours)).collect()
    }
}

/// For a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        f.write_str(&aligned(&FIGURES, &self.figure_cells()))?;
        for figure in self.figures.iter().filter(|figure| !figure.note.is_empty()) {
            writeln!(f, "  {}: {}", figure.name, figure.note)?;
        }
        if !self.rivals.is_empty() {
            write!(f, "\n{}", aligned(&RIVALS, &self.rival_cells()))?;
        }
        write!(f, "\n{}", self.instructions)
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instructions::Counted(counts) => f.write_str(&aligned(&INSTRUCTIONS, &cells(counts))),
            Instructions::NotCounted(why) => writeln!(f, "instructions: NOT COUNTED: {why}"),
        }
    }
}

fn cells(counts: &[Count]) -> Vec<[String; 4]> {
    counts.iter().map(Count::cells).collect()
}

fn aligned<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn markdown<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: &[String; N]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned));
    text.push_str(&format!("|{}\n", "---|".repeat(N)));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// Three digits that mean something, the thousands apart: `0.0043`, `1.23`, `12.3`, `43,210`.
fn number(value: f64) -> String {
    let whole = match value.abs() {
        _ if !value.is_finite() => return "?".to_owned(),
        0.0 => return "0".to_owned(),
        size if size < 100.0 => {
            let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        _ => format!("{value:.0}"),
    };
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio below a twentieth is easier to read as a fraction.
fn ratio(value: f64) -> String {
    if value > 0.0 && value < 0.05 { format!("1/{}", number(1.0 / value)) } else { number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_three_digits_that_mean_something() {
        let shown: Vec<String> = [0.00432, 1.234, 12.34, 100.4, 43_210.0, 1_234_567.0, 0.0].map(number).into();
        assert_eq!(shown, ["0.00432", "1.23", "12.3", "100", "43,210", "1,234,567", "0"]);
    }

    #[test]
    fn a_small_ratio_is_a_fraction() {
        assert_eq!([0.5, 1.0 / 50.0, 1.0 / 230.0].map(ratio), ["0.5", "1/50", "1/230"]);
    }

    #[test]
    fn a_figure_is_reached_when_all_its_goals_are() {
        let goals = [Goal::RatioAtLeast(0.4), Goal::ValueAtLeast(40_000.0)];
        let figure = |value, ratio| Figure::new("f", value, "steps/s", 100_000.0, "bare", ratio, &goals, "");
        assert!(figure(50_000.0, 0.5).reached);
        assert!(!figure(30_000.0, 0.5).reached);
        assert!(!figure(50_000.0, 0.3).reached);
        assert_eq!(figure(1.0, 1.0).goal, "≥ 0.4, ≥ 40,000 steps/s");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "µs".to_owned()], ["long".to_owned(), "x".to_owned()]];
        assert_eq!(aligned(&["n", "u"], &rows), "n      u\na      µs\nlong   x\n");
    }

    #[test]
    fn a_rival_is_compared_with_the_first_row() {
        let cost = |ten_steps_ms, step_us| Some(Cost { ten_steps_ms, step_us });
        let rival = |name: &str, cost| Rival { name: name.into(), keeps: String::new(), cost, note: "no jq".into() };
        let ours = cost(10.0, 100.0);
        assert_eq!(rival("us", ours).cells(ours)[3], "");
        assert_eq!(rival("sh", cost(20.0, 50.0)).cells(ours)[2..], ["20 ms", "2 × cheaper", "50 µs", "2 × dearer"]);
        assert_eq!(rival("make", None).cells(ours)[2..], ["not measured", "", "no jq", ""]);
    }
}
