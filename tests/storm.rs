//! A run of two hundred steps for the crash tests: parallel branches, pools, retries and skips; a guest that leaves a trace
//! of everything that was executed; and what must be true of such a run however often its engine died.
//!
//! When and how the engine dies is the tests' business.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::{Bench, repository};

/// The run: so many times a step that opens, so many lanes of so many steps side by side, and a step that is skipped.
const ROUNDS: usize = 4;
const LANES: usize = 6;
const LANE_STEPS: usize = 8;

/// How many steps the run has.
pub const STEPS: usize = ROUNDS * (LANES * LANE_STEPS + 2);

/// The workflow, `storm.toml`, in a bench of its own, with the traces that its attempts leave.
pub struct Storm {
    /// Where it runs.
    pub bench: Bench,
}

impl Storm {
    /// Writes the workflow into `bench`.
    pub fn on(bench: Bench) -> Storm {
        bench.write("storm.toml", &workflow());
        std::fs::create_dir(bench.path().join("witness")).expect("a folder can be made");
        Storm { bench }
    }

    /// The lines of the only run's record, none if it does not exist.
    pub fn journal(&self) -> Vec<String> {
        let shown = self.bench.run(&["show", "--json"]);
        // Before the first record there is no run (2), and before that no journal (4).
        assert!(shown.code == 0 || shown.stdout.is_empty() && [2, 4].contains(&shown.code), "{}", shown.stderr);
        shown.stdout.lines().map(str::to_owned).collect()
    }

    /// Judges a finished run: the record by itself, and what was executed by the record. Gives the end of every step and
    /// the run's outputs.
    pub fn check_all(&self, journal: &[String]) -> BTreeMap<String, Value> {
        let mut ends = BTreeMap::new();
        let mut started = BTreeSet::new();
        let mut ended = BTreeSet::new();
        let mut interrupted = BTreeSet::new();
        let mut run = String::new();
        for line in journal {
            let event = event(line);
            let step = event["step"].as_str().unwrap_or_default().to_owned();
            let attempt = (step.clone(), event["attempt"].as_u64().unwrap_or_default());
            match event["event"].as_str().unwrap() {
                "run-created" => run = event["run"].as_str().unwrap().to_owned(),
                "attempt-queued" => (),
                "attempt-started" => assert!(started.insert(attempt), "started twice: {line}"),
                "attempt-failed" => assert!(ended.insert(attempt), "ended twice: {line}"),
                "attempt-interrupted" => {
                    assert!(ended.insert(attempt.clone()), "ended twice: {line}");
                    interrupted.insert(attempt);
                }
                "attempt-succeeded" => {
                    assert!(ended.insert(attempt), "ended twice: {line}");
                    assert!(ends.insert(step, event["output"].clone()).is_none(), "succeeded twice: {line}");
                }
                "step-skipped" => assert!(ends.insert(step, event["reason"].clone()).is_none(), "{line}"),
                "run-finished" => drop(ends.insert("run".to_owned(), event["outputs"].clone())),
                other => panic!("{other} does not happen in this run: {line}"),
            }
        }
        assert_eq!(ended, started, "every attempt has an end");
        assert_eq!(ends.len(), STEPS + 1, "every step has an end, and the run has");

        // Keys are the run's id and the step's name: a trace anywhere else would be of a key that changed.
        let mut executed = BTreeSet::new();
        for of_run in names(&self.bench.path().join("witness")) {
            assert_eq!(of_run, run);
            for step in names(&self.bench.path().join("witness").join(&run)) {
                for attempt in names(&self.bench.path().join("witness").join(&run).join(&step)) {
                    executed.insert((step.clone(), attempt.parse::<u64>().unwrap()));
                }
            }
        }
        let unrecorded: Vec<_> = executed.difference(&started).collect();
        assert!(unrecorded.is_empty(), "executed without a record: {unrecorded:?}");
        // Only what was in flight may have been lost before it left its trace, and nothing but that is repeated.
        let untraced: BTreeSet<_> = started.difference(&executed).cloned().collect();
        assert!(untraced.is_subset(&interrupted), "recorded as ended without having been executed: {untraced:?}");
        ends
    }
}

/// What one process has added to the record: all that it printed, in the order in which it printed it, to all that was
/// there before; and first of all that the attempts which were in flight are interrupted.
pub fn check_life(before: &[String], printed: &str, after: &[String], story: &str) {
    assert!(after.len() >= before.len(), "{} of {} records are left: {story}", after.len(), before.len());
    let (kept, added) = after.split_at(before.len());
    assert_eq!(kept, before, "what was there before has changed: {story}");
    let mut recorded = added.iter();
    for printed in printed.split_inclusive('\n') {
        let record = recorded.next().unwrap_or_else(|| panic!("`{printed}` was printed and is lost: {story}"));
        match printed.strip_suffix('\n') {
            Some(whole) => assert_eq!(whole, record, "{story}"),
            None => assert!(record.starts_with(printed), "`{printed}` torn off `{record}`: {story}"),
        }
    }
    if !added.is_empty() {
        let lost = in_flight(before);
        let interrupted: Vec<_> =
            added.iter().map(|line| event(line)).take_while(|event| event["event"] == "attempt-interrupted").collect();
        assert!(interrupted.iter().all(|event| event["cause"] == "crash"), "{story}");
        let interrupted: BTreeSet<_> = interrupted.iter().map(attempt_of).collect();
        assert_eq!(interrupted, lost, "interrupted is exactly what was in flight: {story}");
    }
}

/// The outputs of a run that is over.
pub fn outputs(journal: &[String]) -> Value {
    event(journal.last().unwrap())["outputs"].clone()
}

/// Whether the record ends with the run's end.
pub fn is_over(journal: &[String]) -> bool {
    journal.last().is_some_and(|line| event(line)["event"] == "run-finished")
}

/// The attempts that the record says are in flight.
fn in_flight(journal: &[String]) -> BTreeSet<(String, u64)> {
    let mut flying = BTreeSet::new();
    for line in journal {
        let event = event(line);
        match event["event"].as_str().unwrap() {
            "attempt-started" => drop(flying.insert(attempt_of(&event))),
            "attempt-succeeded" | "attempt-failed" | "attempt-interrupted" => drop(flying.remove(&attempt_of(&event))),
            _ => (),
        }
    }
    flying
}

fn attempt_of(event: &Value) -> (String, u64) {
    (event["step"].as_str().unwrap().to_owned(), event["attempt"].as_u64().unwrap())
}

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Sums flow from each step to those that need it, so that an output that is lost, changed or taken twice changes the end.
fn workflow() -> String {
    let guest = repository().join("tests/guests/witness");
    let mut toml =
        format!("name = \"storm\"\nplugins.witness = {:?}\npools.narrow = {{ size = 2 }}\n", guest.display());
    let mut step = |name: &str, needs: &[String], more: &str| {
        let terms = needs.iter().map(|need| format!("\"${{steps.{need}.output.sum}}\"")).collect::<Vec<_>>().join(", ");
        let first_success = if more.contains("retry") { ", first-success = 3" } else { "" };
        write!(
            toml,
            "[steps.{name}]\nuse = \"witness\"\nneeds = {needs:?}\ngrant = {{ files = [{{ path = \"witness\", write = true }}] }}\n\
             with = {{ directory = \"witness\", terms = [{terms}]{first_success} }}\n{more}\n"
        )
        .unwrap();
        name.to_owned()
    };
    let retry = "retry = { attempts = 3, delay = \"1ms\", factor = 1, jitter = false }";
    let mut ends: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let open = step(&format!("r{round}"), &ends, "");
        step(
            &format!("r{round}_never"),
            std::slice::from_ref(&open),
            &format!("when = \"steps.{open}.output.sum < 0\""),
        );
        ends.clear();
        for lane in 0..LANES {
            let mut before = open.clone();
            for place in 0..LANE_STEPS {
                let more = match (lane % 2, place % 4) {
                    (_, 3) => retry,
                    (0, _) => "pool = \"narrow\"",
                    _ => "",
                };
                before = step(&format!("r{round}_{lane}_{place}"), &[before], more);
            }
            ends.push(before);
        }
    }
    let total = ends.iter().map(|end| format!("steps.{end}.output.sum")).collect::<Vec<_>>().join(" + ");
    format!("{toml}[outputs]\ntotal = \"${{{total}}}\"\n")
}
