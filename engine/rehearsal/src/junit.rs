//! The report that CI systems read: JUnit's XML, in the form that Jenkins, GitLab and GitHub's actions take alike. Text in,
//! text out; what can't stand in XML 1.0, or would be hidden in a name, is written as on a terminal.

use std::fmt::Write as _;

use downbeat_workflow::text::visible;

/// The tests of one file.
#[derive(Clone, Debug)]
pub struct TestSuite {
    /// The file's path.
    pub name: String,
    /// In its order.
    pub cases: Vec<TestCase>,
}

/// A test.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// Its name.
    pub name: String,
    /// How long it took, in microseconds of real time.
    pub elapsed_us: u64,
    /// How it ended.
    pub result: CaseResult,
    /// What happened in its run.
    pub timeline: String,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// As expected.
    Passed,
    /// Not as expected: a line, and all there is to say.
    Failed(String, String),
    /// It could not be played.
    Faulty(String, String),
}

/// The whole document.
pub fn document(suites: &[TestSuite]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = || suites.iter().flat_map(|suite| &suite.cases);
    let _ = writeln!(xml, "<testsuites name=\"downbeat test\" {}>", figures(&all().collect::<Vec<_>>()));
    for suite in suites {
        let cases: Vec<&TestCase> = suite.cases.iter().collect();
        let _ = writeln!(xml, "  <testsuite name=\"{}\" skipped=\"0\" {}>", escaped(&suite.name), figures(&cases));
        for case in cases {
            let _ = write!(
                xml,
                "    <testcase name=\"{}\" classname=\"{}\" time=\"{}\"",
                escaped(&case.name),
                escaped(&suite.name),
                seconds(case.elapsed_us)
            );
            let (tag, message, text) = match &case.result {
                CaseResult::Passed => {
                    xml.push_str("/>\n");
                    continue;
                }
                CaseResult::Failed(message, text) => ("failure", message, text),
                CaseResult::Faulty(message, text) => ("error", message, text),
            };
            let _ = writeln!(xml, ">\n      <{tag} message=\"{}\">{}</{tag}>", escaped(message), escaped(text));
            let _ = writeln!(xml, "      <system-out>{}</system-out>\n    </testcase>", escaped(&case.timeline));
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn figures(cases: &[&TestCase]) -> String {
    let failed = cases.iter().filter(|case| matches!(case.result, CaseResult::Failed(..))).count();
    let faulty = cases.iter().filter(|case| matches!(case.result, CaseResult::Faulty(..))).count();
    let time = seconds(cases.iter().map(|case| case.elapsed_us).sum());
    format!("tests=\"{}\" failures=\"{failed}\" errors=\"{faulty}\" time=\"{time}\"", cases.len())
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Text for an attribute or an element, nothing in it hidden: pages show these texts to people. Line feeds are kept as
/// references, which attributes would lose otherwise.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in visible(text, true).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            // XML 1.0, production 2 (Char). Control characters can't be in it either, and are visible text by now.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_every_test_and_counts_them() {
        let case = |name: &str, result| TestCase {
            name: name.to_owned(),
            elapsed_us: 1_500,
            result,
            timeline: "0s  a started\n".to_owned(),
        };
        let cases = vec![
            case("good", CaseResult::Passed),
            case("bad", CaseResult::Failed("a < b".to_owned(), "\"a\"\n\u{1b}[31m & b".to_owned())),
            case("ug\u{202e}ly", CaseResult::Faulty("no answer".to_owned(), String::new())),
        ];
        let xml = document(&[TestSuite { name: "x.test.toml".to_owned(), cases }]);
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="downbeat test" tests="3" failures="1" errors="1" time="0.004500">
  <testsuite name="x.test.toml" skipped="0" tests="3" failures="1" errors="1" time="0.004500">
    <testcase name="good" classname="x.test.toml" time="0.001500"/>
    <testcase name="bad" classname="x.test.toml" time="0.001500">
      <failure message="a &lt; b">&quot;a&quot;&#10;\u{1b}[31m &amp; b</failure>
      <system-out>0s  a started&#10;</system-out>
    </testcase>
    <testcase name="ug\u{202e}ly" classname="x.test.toml" time="0.001500">
      <error message="no answer"></error>
      <system-out>0s  a started&#10;</system-out>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(xml, expected);
    }
}
