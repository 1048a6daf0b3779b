//! The table of the workflow control-flow patterns (N. Russell, A. ter Hofstede, W. van der Aalst, N. Mulyar, Workflow
//! Control-Flow Patterns: A Revised View, 2006; <http://workflowpatterns.com>), each as a workflow that is played in virtual
//! time, with a crash after each of its records. `docs/patterns.md` is made from it. `DOWNBEAT_BLESS=1` writes the page and
//! the expectations anew; the diff is the review.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod table;

use std::fmt::Write as _;
use std::path::Path;

use downbeat_workflow::replay::replay;
use play::{Play, crash_everywhere};
use table::{Pattern, patterns};

/// How many patterns there are.
const PATTERNS: usize = 43;

fn is_blessing() -> bool {
    std::env::var_os("DOWNBEAT_BLESS").is_some()
}

#[test]
fn every_pattern_does_as_its_criterion_says_also_over_crashes() {
    let mut wrong = String::new();
    for pattern in patterns() {
        let script = pattern.script();
        let live = Play::of(&pattern.plan, &script, None);
        let log = live.log.join("\n") + "\n";
        if is_blessing() {
            pattern.expect(&log);
        } else if pattern.expected() != log {
            writeln!(wrong, "--- {}\n{log}", pattern.folder).unwrap();
        }
        crash_everywhere(&pattern.plan, &script, &live);
        let replayed = replay(&pattern.plan, &pattern.plan, live.run.id(), &live.records).unwrap();
        assert!(replayed.divergence.is_none(), "{}: {}", pattern.folder, replayed.page());
    }
    assert!(wrong.is_empty(), "not as expected (DOWNBEAT_BLESS=1 accepts it):\n{wrong}");
}

#[test]
fn every_pattern_is_judged_and_what_is_not_full_says_why() {
    let patterns = patterns();
    let numbers: Vec<u64> = patterns.iter().map(|pattern| pattern.number).collect();
    assert_eq!(numbers, (1..=PATTERNS as u64).collect::<Vec<_>>());
    for Pattern { folder, number, name, criterion, construct, verdict, reason, .. } in &patterns {
        assert!(folder.starts_with(&format!("{number:02}-")), "{folder} is pattern {number}");
        assert!(!name.is_empty() && !criterion.is_empty() && !construct.is_empty(), "{folder} says too little");
        assert!(["+", "+/-", "-"].contains(&verdict.as_str()), "{folder}: there is no verdict `{verdict}`");
        assert_eq!(
            verdict == "+",
            reason.is_empty(),
            "{folder}: what is not in full has a reason, and nothing else does"
        );
    }
}

#[test]
fn the_page_says_what_the_table_does() {
    let page = page(&patterns());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/patterns.md");
    if is_blessing() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/patterns.md is behind tests/patterns (DOWNBEAT_BLESS=1 brings it up to date)");
}

fn page(patterns: &[Pattern]) -> String {
    let of = |verdict: &str| patterns.iter().filter(|pattern| pattern.verdict == verdict).count();
    let mut page = format!(
        "# The workflow patterns

What a workflow language can express is measured by the control-flow patterns of N. Russell, A. ter Hofstede, W. van der
Aalst and N. Mulyar (*Workflow Control-Flow Patterns: A Revised View*, 2006, [workflowpatterns.com](http://workflowpatterns.com)).
Of the {PATTERNS}, Downbeat supports **{} in full** (+), {} in part (+/-) and {} not (-), as judged here by the descriptions
of that report.

The number of each leads to a workflow that shows it, with a script of what happens to a run of it and the events that come out.
The tests play them all in virtual time, with a crash after each record, and a conductor drives them over a journal on the disk
to the same records at the same times. This page is made from them.

| | pattern | what it takes | how a workflow says it | |
|---|---|---|---|---|
",
        of("+"),
        of("+/-"),
        of("-"),
    );
    for Pattern { folder, number, name, criterion, construct, verdict, .. } in patterns {
        let (criterion, construct) = (criterion.replace('|', "\\|"), construct.replace('|', "\\|"));
        writeln!(page, "| [{number}](../tests/patterns/{folder}) | {name} | {criterion} | {construct} | {verdict} |")
            .unwrap();
    }
    page.push_str("\n## What is missing\n\n");
    for Pattern { number, name, reason, .. } in patterns.iter().filter(|pattern| !pattern.reason.is_empty()) {
        writeln!(page, "- **{number}, {name}**: {reason}").unwrap();
    }
    page.push_str(OTHERS);
    page
}

/// By the tables that the authors of the patterns published, and what was published after them.
const OTHERS: &str = "
## Other systems

By the published evaluations, BPMN 2.0 has 21 of the first 36 in full. Of the first 39, OpenWFE has 19, jBPM 13 and Enhydra
Shark 11, as [the authors of the patterns](http://workflowpatterns.com/evaluations/opensource) found.
";
