//! A folder of cases: each `cases/NAME/` holds a workflow, those that it opens, tests of it, and in `expected` what is said about them: what is
//! wrong with the file, or each test's verdict with its timeline, and what was never tried. `DOWNBEAT_BLESS=1` writes the
//! expectations anew; the diff is the review.

#![allow(clippy::unwrap_used)]

#[path = "../../workflow/tests/components/mod.rs"]
mod components;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use downbeat_rehearsal::coverage::Coverage;
use downbeat_rehearsal::file::TestFile;
use downbeat_rehearsal::recorded::Recorded;
use downbeat_rehearsal::rehearse::{Answer, Happening, Rehearsal, Setting, What, rehearse};
use downbeat_rehearsal::suite::{self, Runs};
use downbeat_rehearsal::timeline::timeline;
use downbeat_rehearsal::verdict;
use downbeat_workflow::description::Digest;
use downbeat_workflow::diagnostic::{self, render};
use downbeat_workflow::event::{Event, Origin, Outcome, Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{File, beside, resolve};
use downbeat_workflow::run::Run;
use downbeat_workflow::spec::{Source, Spec};

fn plan(toml: String) -> Arc<Plan> {
    let source = Source::new("workflow.toml", toml);
    let (plan, diagnostics) = components::check(&source);
    Arc::new(plan.unwrap_or_else(|| panic!("{}", render(&diagnostics, &source, false))))
}

/// The plan of a folder's workflow, which may open others beside it.
fn plan_in(folder: &Path) -> Arc<Plan> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let source = Source::new(path.file_name().unwrap().to_string_lossy().into_owned(), text);
        let (spec, faults) = Spec::parse(&source);
        (source, spec, faults)
    };
    let (source, spec, mut diagnostics) = read(&folder.join("workflow.toml"));
    let spec = spec.unwrap();
    let mut surroundings = components::surroundings(&spec);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with("workflow.") {
            let (source, spec, faults) = read(&path);
            let plugins = spec.as_ref().map(components::surroundings).unwrap_or_default().plugins;
            let file = File { source, spec, faults, directory: surroundings.directory.clone(), plugins };
            surroundings.workflows.insert(beside(&surroundings.directory, &name), Ok(Arc::new(file)));
        }
    }
    let resolution = resolve(&source, &spec, &surroundings);
    diagnostics.extend(resolution.diagnostics);
    let others: String = resolution.others.iter().map(|(source, found)| render(found, source, false)).collect();
    Arc::new(resolution.plan.unwrap_or_else(|| panic!("{}{others}", render(&diagnostics, &source, false))))
}

/// The runs that tests of the folder may answer from: those of the tests in its `recorded.test.toml`, by their names.
fn recorded_in(folder: &Path, plan: &Arc<Plan>) -> Runs {
    let path = folder.join("recorded.test.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Runs::new() };
    let source = Source::new("recorded.test.toml", text);
    let (file, found) = TestFile::parse(&source);
    let (suite, more) = suite::resolve(&file.unwrap(), plan, &Runs::new());
    assert!(found.is_empty() && more.is_empty(), "{}{}", render(&found, &source, false), render(&more, &source, false));
    let record = |test: &suite::Test| {
        let rehearsal = rehearse(plan, &test.setting, &mut |asked| test.answer(asked));
        let recorded = Recorded::of(plan.clone(), &rehearsal.records).unwrap();
        (test.name.clone(), Ok(Arc::new(recorded)))
    };
    suite.unwrap().tests.iter().map(record).collect()
}

/// All there is to say about the tests of a folder.
fn story(folder: &Path) -> String {
    let plan = plan_in(folder);
    let text = std::fs::read_to_string(folder.join("workflow.test.toml")).unwrap();
    let source = Source::new("workflow.test.toml", text);
    let (file, mut diagnostics) = TestFile::parse(&source);
    let mut suite = None;
    if let Some(file) = file {
        let (resolved, found) = suite::resolve(&file, &plan, &recorded_in(folder, &plan));
        diagnostics.extend(found);
        suite = resolved;
    }
    diagnostic::sort(&mut diagnostics);
    let mut story = render(&diagnostics, &source, false);
    let Some(suite) = suite else { return story };
    let mut coverage = Coverage::new(&plan);
    for test in &suite.tests {
        let rehearsal = rehearse(&plan, &test.setting, &mut |asked| test.answer(asked));
        let found = verdict::judge(test, &rehearsal);
        writeln!(story, "{} {}", if found.is_empty() { "PASS" } else { "FAIL" }, test.name).unwrap();
        story.push_str(&render(&found, &source, false));
        timeline(&rehearsal.run, &rehearsal.records).iter().for_each(|line| writeln!(story, "  {line}").unwrap());
        coverage.take_in(&plan, &rehearsal.records);
        // The same test has the same story, and its records are those of a run that recovery would accept.
        let again = rehearse(&plan, &test.setting, &mut |asked| test.answer(asked));
        assert_eq!(again.records, rehearsal.records);
        let replayed = Run::replay(plan.clone(), rehearsal.run.id().clone(), &rehearsal.records).unwrap();
        assert_eq!(replayed.outcome(), rehearsal.run.outcome());
    }
    write!(story, "\n{}", coverage.report(&plan)).unwrap();
    story
}

#[test]
fn every_case_is_told_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let bless = std::env::var_os("DOWNBEAT_BLESS").is_some();
    let names: BTreeSet<_> = std::fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() >= 16, "the cases are gone");
    let mut wrong = String::new();
    for folder in names {
        let (found, expected) = (story(&folder), folder.join("expected"));
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            writeln!(wrong, "--- {}\n{found}", folder.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "not as expected (DOWNBEAT_BLESS=1 accepts it):\n{wrong}");
}

#[test]
fn a_run_of_another_workflow_is_no_run_to_answer_from() {
    let plan = |name: &str| plan(format!("name = \"{name}\"\nplugins.any = \"any.wasm\"\nsteps.a.use = \"any\"\n"));
    let (many, z) = (plan("many"), plan("z"));
    let answer = Answer { end: Ok(Json::parse("{}").unwrap()), took_ms: 0, appends: Vec::new() };
    let rehearsal = rehearse(&many, &nothing(), &mut |_| Some(answer.clone()));
    let run = Arc::new(Recorded::of(many.clone(), &rehearsal.records).unwrap());
    let runs = Runs::from([("r1.downbeat".to_owned(), Ok(run))]);
    let text = "workflow = \"w.toml\"\nfrom-run = \"r1.downbeat\"\n[tests.a]\nexpect.outcome = \"succeeded\"\n";
    let (file, _) = TestFile::parse(&Source::new("w.test.toml", text));
    let file = file.unwrap();
    let (suite, found) = suite::resolve(&file, &z, &runs);
    assert!(suite.is_none());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "the run `r1.downbeat` is of the workflow `many`, not of `z`");
    assert!(suite::resolve(&file, &many, &runs).0.is_some());
}

const HEADER: &str = "name = \"w\"\nplugins.any = \"any.wasm\"\n";

/// Somebody asks for the run's end.
fn cancel(at_ms: u64) -> Happening {
    Happening { at_ms, what: What::Cancel }
}

fn nothing() -> Setting {
    Setting { inputs: Json::parse("{}").unwrap(), begins_ms: 0, seed: 1, outside: Vec::new() }
}

/// Plays a workflow whose steps all succeed with `null`, each after the milliseconds given (0 if not).
fn play(toml: &str, setting: &Setting, took: &[(&str, u64)]) -> Rehearsal {
    let plan = plan(format!("{HEADER}{toml}"));
    let took: BTreeMap<&str, u64> = took.iter().copied().collect();
    rehearse(&plan.clone(), setting, &mut |asked| {
        let took_ms = took.get(asked.path).copied().unwrap_or(0);
        Some(Answer { end: Ok(Json::null()), took_ms, appends: Vec::new() })
    })
}

#[test]
fn a_day_long_run_is_over_at_once() {
    let toml = "[steps.a]\nuse = \"any\"\ntimeout = \"2d\"\n[steps.b]\nneeds = [\"a\"]\nuse = \"any\"\n";
    let played = play(toml, &nothing(), &[("a", 86_400_000)]);
    assert_eq!((played.run.outcome(), played.took_ms()), (Some(Outcome::Succeeded), 86_400_000));
}

#[test]
fn a_pool_is_never_fuller_than_its_size_and_serves_in_order() {
    let mut toml = "pools.few = 3\n".to_owned();
    for index in 0..10 {
        writeln!(toml, "[steps.s{index}]\nuse = \"any\"\npool = \"few\"").unwrap();
    }
    let took: Vec<(String, u64)> = (0..10).map(|index| (format!("s{index}"), 100)).collect();
    let took: Vec<(&str, u64)> = took.iter().map(|(name, ms)| (name.as_str(), *ms)).collect();
    let played = play(&toml, &nothing(), &took);
    assert_eq!((played.peaks.as_slice(), played.took_ms()), (&[3][..], 400));
    let started = played.records.iter().filter_map(|record| match record.event {
        Event::AttemptStarted { step, .. } => Some(step.0),
        _ => None,
    });
    assert_eq!(started.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn what_ends_at_the_moment_of_the_cancellation_has_ended() {
    let toml = "[steps.a]\nuse = \"any\"\n[steps.b]\nuse = \"any\"\n[steps.c]\nneeds = [\"a\"]\nuse = \"any\"\n";
    let setting = Setting { outside: vec![cancel(50)], ..nothing() };
    let played = play(toml, &setting, &[("a", 50), ("b", 51)]);
    let story = timeline(&played.run, &played.records).join("\n");
    assert!(story.contains("a succeeded") && story.contains("b was cancelled"), "{story}");
    assert!(story.contains("c was skipped"), "{story}");
    assert_eq!((played.run.outcome(), played.took_ms()), (Some(Outcome::Cancelled), 50));
}

#[test]
fn a_cancellation_after_the_end_changes_nothing() {
    let setting = Setting { outside: vec![cancel(1_000)], ..nothing() };
    let played = play("[steps.a]\nuse = \"any\"\n", &setting, &[]);
    assert_eq!((played.run.outcome(), played.took_ms()), (Some(Outcome::Succeeded), 0));
}

#[test]
fn an_attempt_without_an_answer_holds_up_what_needs_it_and_nothing_else() {
    let toml = "[steps.a]\nuse = \"any\"\n[steps.b]\nuse = \"any\"\n[steps.c]\nneeds = [\"b\"]\nuse = \"any\"\n";
    let plan = plan(format!("{HEADER}{toml}"));
    let played = rehearse(&plan.clone(), &nothing(), &mut |asked| {
        let known = asked.path != "a";
        known.then(|| Answer { end: Ok(Json::null()), took_ms: 5, appends: Vec::new() })
    });
    assert_eq!(played.unanswered, [(plan.step_named("a").unwrap(), 1)]);
    assert_eq!((played.run.outcome(), played.took_ms()), (None, 10));
}

#[test]
fn a_thousand_steps_in_a_row_are_played_in_order() {
    let mut toml = "[steps.s0]\nuse = \"any\"\n".to_owned();
    for index in 1..1_000 {
        writeln!(toml, "[steps.s{index}]\nuse = \"any\"\nneeds = [\"s{}\"]", index - 1).unwrap();
    }
    let played = play(&toml, &nothing(), &[]);
    // The creation, two records a step, the end.
    assert_eq!((played.run.outcome(), played.records.len()), (Some(Outcome::Succeeded), 2_002));
}

#[test]
fn what_fails_when_it_is_given_its_place_may_decide_that_others_do_not_start() {
    let toml = "pools.one = 1\n\
                [steps.bad]\nuse = \"any\"\npool = \"one\"\nwith.n = \"${1 / (size(run.id) - 9)}\"\n\
                [steps.slow]\nuse = \"any\"\n\
                [steps.first]\nneeds = [\"bad.failed\", \"slow\"]\njoin = \"any\"\nrest = \"cancel\"\nuse = \"any\"\n";
    let played = play(toml, &nothing(), &[]);
    let story = timeline(&played.run, &played.records).join("\n");
    assert!(story.contains("slow was skipped: `first` does not need it any more"), "{story}");
    assert!(story.contains("first succeeded"), "{story}");
}

#[test]
fn expectations_of_many_items_cost_their_number() {
    let toml = "[steps.list]\nuse = \"any\"\n[steps.each]\nneeds = [\"list\"]\nforeach = \"${steps.list.output}\"\n\
                [steps.each.steps.a]\nuse = \"any\"\n[steps.each.steps.b]\nneeds = [\"a\"]\nuse = \"any\"\n\
                [steps.last]\nneeds = [\"each\"]\nuse = \"any\"\n";
    let plan = plan(format!("{HEADER}{toml}"));
    let items: Vec<String> = (0..10_000).map(|index| index.to_string()).collect();
    let text = format!(
        "workflow = \"w.toml\"\ndefault = \"succeed\"\n[tests.t]\nsteps.list.output = [{}]\n[tests.t.expect]\n\
         outcome = \"succeeded\"\nran = [\"each[9999]/b\"]\nnever-ran = [\"each[10000]/a\"]\n[tests.t.expect.steps]\n\
         each = {{ opened = 10000 }}\n\"each/a\" = {{ end = \"succeeded\", attempts = 1, before = [\"last\"] }}\n",
        items.join(", ")
    );
    let (file, found) = TestFile::parse(&Source::new("w.test.toml", text));
    assert!(found.is_empty());
    let suite = suite::resolve(&file.unwrap(), &plan, &Runs::new()).0.unwrap();
    let played = rehearse(&plan, &suite.tests[0].setting, &mut |asked| suite.tests[0].answer(asked));
    assert_eq!(verdict::judge(&suite.tests[0], &played), []);
}

#[test]
fn what_comes_from_outside_comes_in_the_order_of_its_times() {
    let toml = "[signals.go]\n[steps.a]\nwait = { signal = \"go\" }\n[steps.b]\nneeds = [\"a\"]\nuse = \"any\"\n";
    let signal = |at_ms, data: &str| {
        let what = What::Signal { name: "go".to_owned(), data: Json::parse(data).unwrap() };
        Happening { at_ms, what }
    };
    let outside = vec![cancel(30), signal(20, "2"), signal(10, "1")];
    let played = play(toml, &Setting { begins_ms: 1_000, outside, ..nothing() }, &[("b", 60)]);
    let story = timeline(&played.run, &played.records).join("\n");
    assert!(story.contains("10ms  a succeeded: {\"by\":\"signal\",\"data\":1}"), "{story}");
    assert!(story.contains("30ms  b was cancelled"), "{story}");
    assert_eq!((played.run.outcome(), played.took_ms()), (Some(Outcome::Cancelled), 30));
}

#[test]
fn what_a_rehearsal_has_not_is_left_out_of_a_recorded_run() {
    let toml = "[concurrency]\ngroup = \"site\"\n[signals.go]\n[steps.a]\nuse = \"any\"\n\
                [steps.ask]\nneeds = [\"a\"]\nwait = { signal = \"go\" }\ntimeout = \"5m\"\n\
                [steps.b]\nneeds = [\"ask\"]\nuse = \"any\"\n";
    let what = What::Signal { name: "go".to_owned(), data: Json::null() };
    let setting = Setting { begins_ms: 1_000, outside: vec![Happening { at_ms: 200, what }], ..nothing() };
    let played = play(toml, &setting, &[("a", 100), ("b", 10)]);
    assert_eq!((played.run.outcome(), played.took_ms()), (Some(Outcome::Succeeded), 210));

    // The same with an hour in line for the group, an hour's pause, and `a` taken over from another run.
    const HOUR: u64 = 3_600_000;
    let plan = played.run.plan().clone();
    let origin = Box::new(Origin { run: RunId("other".into()), step: "a".to_owned(), at: Timestamp(7) });
    let reused =
        Event::StepReused { step: plan.step_named("a").unwrap(), output: Json::null(), items: Vec::new(), origin };
    let mut late_ms = 0;
    let mut records = Vec::new();
    for Record { at, event } in played.records {
        let before = match &event {
            Event::RunAdmitted => {
                late_ms += HOUR;
                None
            }
            Event::SignalReceived { .. } => Some([
                Record { at: at.plus_ms(late_ms), event: Event::Paused { step: None, reason: String::new() } },
                Record { at: at.plus_ms(late_ms + HOUR), event: Event::Unpaused { step: None } },
            ]),
            _ => None,
        };
        if let Some(pause) = before {
            records.extend(pause);
            late_ms += HOUR;
        }
        let event = match event {
            Event::AttemptStarted { step, .. } if Some(step) == plan.step_named("a") => continue,
            Event::AttemptSucceeded { step, .. } if Some(step) == plan.step_named("a") => reused.clone(),
            event => event,
        };
        records.push(Record { at: at.plus_ms(late_ms), event });
    }
    let played = as_recorded(&plan, &records);
    assert_eq!((played.records[0].at.0, played.took_ms()), (1_000 + HOUR, 210));
}

/// What comes of a run whose steps answer as they did in this one, which succeeded.
fn as_recorded(plan: &Arc<Plan>, records: &[Record]) -> Rehearsal {
    let recorded = Recorded::of(plan.clone(), records).unwrap();
    let runs = Runs::from([("r".to_owned(), Ok(Arc::new(recorded)))]);
    let text = "workflow = \"w.toml\"\nfrom-run = \"r\"\n[tests.t]\nexpect.outcome = \"succeeded\"\n";
    let file = TestFile::parse(&Source::new("w.test.toml", text)).0.unwrap();
    let suite = suite::resolve(&file, plan, &runs).0.unwrap();
    let played = rehearse(plan, &suite.tests[0].setting, &mut |asked| suite.tests[0].answer(asked));
    assert_eq!(verdict::judge(&suite.tests[0], &played), []);
    played
}

#[test]
fn steps_that_a_recorded_run_took_over_answer_and_hear_as_they_did_there() {
    let toml = "[signals.go]\n[steps.sign]\nwait = { signal = \"go\" }\n[steps.ask]\nwait = { approval = [\"ann\"] }\n\
                [steps.b]\nneeds = [\"sign\", \"ask\"]\nuse = \"any\"\ncache = true\n";
    let plan = plan(format!("{HEADER}{toml}"));
    let origin = |step: &str| Box::new(Origin { run: RunId("other".into()), step: step.to_owned(), at: Timestamp(7) });
    let reused = |step: &str, output: &str| Event::StepReused {
        step: plan.step_named(step).unwrap(),
        output: Json::parse(output).unwrap(),
        items: Vec::new(),
        origin: origin(step),
    };
    let b = plan.step_named("b").unwrap();
    let events = [
        Run::creation(&plan, plan.to_json().1, Json::parse("{}").unwrap(), 1),
        reused("sign", r#"{"by":"signal","data":5}"#),
        reused("ask", r#"{"by":"approval","who":"ann","note":"fine"}"#),
        Event::CacheAsked { step: b },
        Event::CacheHit {
            step: b,
            output: Json::parse("\"kept\"").unwrap(),
            key: Digest::of(b"b"),
            origin: origin("b"),
        },
    ];
    let records: Vec<Record> = events.into_iter().map(|event| Record { at: Timestamp(9), event }).collect();
    let played = as_recorded(&plan, &records);
    let story = timeline(&played.run, &played.records).join("\n");
    assert!(story.contains("sign succeeded: {\"by\":\"signal\",\"data\":5}"), "{story}");
    assert!(story.contains("\"who\":\"ann\"") && story.contains("b succeeded: \"kept\""), "{story}");
}
