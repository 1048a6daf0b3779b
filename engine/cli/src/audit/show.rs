//! `downbeat audit show`: what steps did with what they were granted, and what they were refused. For people it is told run by
//! run and step by step, so that what is the same for all uses of a step is said once, and like uses with how often; for
//! programs each by itself, as it is on record.

use std::collections::HashMap;

use downbeat_journal::RunSummary;
use downbeat_workflow::text::visible;

use super::uses::{self, Entry, What, add_line};
use crate::arguments::AuditShow;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::screen::shortened;
use crate::talk;
use crate::units;

/// Characters of a line in which a use and what allowed it are told together, unless a terminal has others. More are hard to
/// read where lines are broken.
const WIDTH: usize = 100;

/// Where what was done begins in its line: behind four blanks, a time of day, the longest word of a capability, and two
/// blanks after each.
const INDENT: usize = 4 + 12 + 2 + 9 + 2;

/// Characters of a time's date, with the letter behind it.
const DATE: usize = "2026-11-22T".len();

pub(crate) fn show(place: &Place, arguments: &AuditShow) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let width = talk::terminal_width();
    let mut is_first = true;
    uses::each(&journal, &arguments.filter, |run, entries| {
        if arguments.json {
            return entries.iter().try_for_each(|entry| talk::put_json(&entry.json().to_string()));
        }
        let page = page(run, &entries, arguments.all, width.unwrap_or(WIDTH));
        let between = if std::mem::take(&mut is_first) { "" } else { "\n" };
        let page = match width {
            Some(width) => elided(&page, width),
            None => page,
        };
        talk::put(&format!("{between}{page}"))
    })?;
    Ok(Exit::Success)
}

/// Lines as a terminal has room for them.
fn elided(page: &str, width: usize) -> String {
    let line = |line: &str| format!("{}\n", shortened(line, width.saturating_sub(1)));
    page.lines().map(line).collect()
}

/// Uses that are alike, of one step.
struct Line<'e> {
    first: &'e Entry,
    count: u64,
}

/// A run's uses, by attempts in the order in which these began with them.
fn page(run: &RunSummary, entries: &[Entry], is_each: bool, width: usize) -> String {
    let (mut attempts, mut attempt_at) = (Vec::<Vec<Line<'_>>>::new(), HashMap::new());
    let mut line_at = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let attempt = *attempt_at.entry((&entry.step, entry.attempt)).or_insert(attempts.len());
        if attempt == attempts.len() {
            attempts.push(Vec::new());
        }
        let (lines, what) = (&mut attempts[attempt], entry.what());
        let alike = (attempt, entry.capability(), what, by(entry), if is_each { index } else { 0 });
        let at = *line_at.entry(alike).or_insert(lines.len());
        match lines.get_mut(at) {
            Some(line) => line.count += entry.count(),
            None => lines.push(Line { first: entry, count: entry.count() }),
        }
    }
    let begun = units::time(run.created);
    let mut page = String::new();
    add_line(&mut page, format_args!("run {} of {}, begun {begun}", run.id, run.workflow));
    for lines in &attempts {
        heading(&mut page, lines);
        for Line { first, count } in lines {
            let at = units::time(first.at);
            let at = if at.get(..DATE) == begun.get(..DATE) { at[DATE..].trim_end_matches('Z') } else { &at };
            let times = if *count > 1 { format!(" ×{count}") } else { String::new() };
            let what = format!("{}{times}", first.what());
            let line = format!("    {at:12}  {:9}  {}", first.capability(), what.trim_start());
            let by = by(first);
            match visible(&line, false).chars().count() + 2 + visible(&by, false).chars().count() <= width {
                true => add_line(&mut page, format_args!("{line}  {by}")),
                false => {
                    add_line(&mut page, format_args!("{line}"));
                    add_line(&mut page, format_args!("{:INDENT$}{by}", ""));
                }
            }
        }
    }
    page
}

/// A step, and what is to be said of it and its component once.
fn heading(page: &mut String, lines: &[Line<'_>]) {
    let entry = lines[0].first;
    let attempt = if entry.attempt > 1 { format!(", attempt {}", entry.attempt) } else { String::new() };
    let signed = match entry.signers.as_slice() {
        [] => String::new(),
        signers => format!(", signed by {}", uses::in_a_line(signers)),
    };
    let component = entry.component.short();
    add_line(page, format_args!("  {}{attempt}: {} {component}{signed}", entry.step, entry.plugin));
    // Of what was refused they allowed nothing.
    let is_allowed = lines.iter().any(|line| matches!(line.first.what, What::Used(_)));
    if is_allowed && !entry.rules.is_empty() {
        add_line(page, format_args!("    allowed by {}", entry.rules.join(", ")));
    }
}

/// What let it happen, or kept it from happening.
fn by(entry: &Entry) -> String {
    match &entry.what {
        What::Used(used) if used.unset => format!("looked for, not set; granted by {}", used.grant),
        What::Used(used) => format!("by {}", used.grant),
        What::Refused(refusal) => format!("refused: {}", refusal.advice(&entry.table)),
    }
}

#[cfg(test)]
mod tests {
    use downbeat_journal::RunSummary;
    use downbeat_workflow::description::Digest;
    use downbeat_workflow::event::{Refusal, RunId, Timestamp, Used};
    use downbeat_workflow::plan::{Signer, StepNo};

    use super::*;

    const BEGUN: u64 = 1_795_339_800_000;

    fn run() -> RunSummary {
        RunSummary {
            id: RunId("1k8qz4h-9f3a2c".into()),
            plan: Digest::of(b"plan"),
            workflow: "release".into(),
            created: Timestamp(BEGUN),
            outcome: None,
            finished: None,
            version: 1,
            last_event: Timestamp(BEGUN),
        }
    }

    fn entry(after_ms: u64, step: &str, what: What) -> Entry {
        Entry {
            at: Timestamp(BEGUN + after_ms),
            run: run().id,
            workflow: "release".into(),
            step: step.into(),
            no: StepNo(0),
            table: format!("steps.{step}"),
            attempt: 1,
            plugin: "process".into(),
            component: Digest::of(b"component"),
            signers: Vec::new(),
            rules: vec!["rule `web` of policy.toml:8".into()],
            what,
        }
    }

    fn used(capability: &str, what: &str, grant: &str, count: u64) -> What {
        What::Used(Used { capability: capability.into(), what: what.into(), grant: grant.into(), count, unset: false })
    }

    fn entries() -> Vec<Entry> {
        let grant = r#"http = ["hooks.example"]"#;
        let hint = r#"grant = { http = ["hooks.example", "a.org"] }"#;
        let refused = Refusal { capability: "http".into(), wanted: "a.org".into(), hint: hint.into() };
        vec![
            entry(1, "notify", used("http", "POST https://hooks.example/", grant, 1)),
            entry(
                2,
                "build",
                used("process", &format!("cargo build{}", " --flag".repeat(12)), "process = [\"cargo\"]", 1),
            ),
            entry(3, "notify", used("http", "POST https://hooks.example/", grant, 1)),
            entry(4, "notify", used("clock", "", "clock = true", 40)),
            entry(5, "notify", What::Refused(refused)),
            entry(86_400_000, "build", used("env", "HOME", "env = [\"HOME\"]", 1)),
        ]
    }

    #[test]
    fn like_uses_of_a_step_are_told_once_with_how_often_and_what_does_not_fit_has_a_line_of_its_own() {
        let page = page(&run(), &entries(), false, WIDTH);
        let short = Digest::of(b"component");
        let expected = r#"run 1k8qz4h-9f3a2c of release, begun 2026-11-22T09:30:00.000Z
  notify: process SHORT
    allowed by rule `web` of policy.toml:8
    09:30:00.001  http       POST https://hooks.example/ ×2  by http = ["hooks.example"]
    09:30:00.004  clock      ×40  by clock = true
    09:30:00.005  http       a.org
                             refused: to allow it, set in [steps.notify]: grant = { http = ["hooks.example", "a.org"] }
  build: process SHORT
    allowed by rule `web` of policy.toml:8
    09:30:00.002  process    cargo build --flag --flag --flag --flag --flag --flag --flag --flag --flag --flag --flag --flag
                             by process = ["cargo"]
    2026-11-23T09:30:00.000Z  env        HOME  by env = ["HOME"]
"#;
        assert_eq!(page, expected.replace("SHORT", short.short()));
    }

    #[test]
    fn no_rule_is_said_to_have_allowed_what_was_refused() {
        let mut entries = entries();
        entries.retain(|entry| matches!(entry.what, What::Refused(_)));
        let page = page(&run(), &entries, false, WIDTH);
        assert!(page.contains("refused: ") && !page.contains("allowed by"), "{page}");
    }

    #[test]
    fn a_record_that_was_forged_elsewhere_adds_no_line() {
        let forged = "x\n    allowed by rule `all` of policy.toml:1\r\u{1b}[2K";
        let mut of_all = entry(1, forged, used(forged, forged, forged, 1));
        (of_all.plugin, of_all.rules) = (forged.into(), vec![forged.into()]);
        of_all.signers = vec![Signer { key: "ed25519:x".into(), name: Some(forged.into()) }];
        let refusal = Refusal { capability: "http".into(), wanted: forged.into(), hint: forged.into() };
        let run = RunSummary { workflow: forged.into(), ..run() };
        let page = page(&run, &[of_all, entry(2, "fine", What::Refused(refusal))], false, WIDTH);
        assert!(!page.contains("\n    allowed by rule") && !page.contains(['\r', '\u{1b}']), "{page}");
        assert_eq!(page.lines().count(), 8, "{page}");
    }

    #[test]
    fn each_use_has_its_line_where_all_are_asked_for_and_a_terminal_cuts_what_it_has_no_room_for() {
        let page = page(&run(), &entries(), true, WIDTH);
        assert_eq!(page.matches("POST https://hooks.example/  by").count(), 2, "{page}");
        let narrow = elided(&page, 80);
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains(" --f…\n"), "{narrow}");
    }
}
