//! A directory of faults: each `diagnostics/NAME.toml` is resolved, and what is said about it is in `NAME.expected`.
//! `DOWNBEAT_BLESS=1` writes the expectations anew; the diff is the review.

#![allow(clippy::unwrap_used)]

mod components;

use std::fmt::Write as _;
use std::path::Path;

use downbeat_workflow::diagnostic::{Severity, render};
use downbeat_workflow::spec::Source;

#[test]
fn every_fault_is_told_with_its_line_and_a_hint() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let bless = std::env::var_os("DOWNBEAT_BLESS").is_some();
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 10, "the cases are gone");
    let mut wrong = String::new();
    for name in names {
        let text = std::fs::read_to_string(directory.join(format!("{name}.toml"))).unwrap();
        let source = Source::new(format!("{name}.toml"), text);
        let (plan, diagnostics) = components::check(&source);
        let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
        assert_eq!(plan.is_none(), errors > 0, "{name}: a plan if and only if there is no error");
        let found = match diagnostics.len() {
            0 => "nothing to say\n".to_owned(),
            count => {
                format!("{}{} errors, {} warnings\n", render(&diagnostics, &source, false), errors, count - errors)
            }
        };
        let expected = directory.join(format!("{name}.expected"));
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            writeln!(wrong, "--- {name}\n{found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "not as expected (DOWNBEAT_BLESS=1 accepts it):\n{wrong}");
}
