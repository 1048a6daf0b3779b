//! Pictures of workflows and of runs played in virtual time, compared with the files in `pictures/`; and what every SVG must
//! be, whatever it shows.
//!
//! `UPDATE_PICTURES=1 cargo test -p downbeat-drawing` writes the files anew; look at them before you keep them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use downbeat_drawing::{Direction, Picture, STEPS_DRAWN_MAX, dot, mermaid, svg};
use downbeat_workflow::description::{Component, Description, Digest, Want};
use downbeat_workflow::diagnostic;
use downbeat_workflow::event::{Event, Failure, FailureKind, Record, RunId, Timestamp, Usage};
use downbeat_workflow::explain::Account;
use downbeat_workflow::history::History;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::resolve::{File, Loaded, Surroundings, resolve};
use downbeat_workflow::run::{Action, Claim, Run};
use downbeat_workflow::spec::{Source, Spec};

#[path = "../../workflow/tests/plans/mod.rs"]
mod plans;
use plans::{plan, plan_with};

/// A release in small: every state, a rule, a pool, retries, time-outs.
const RELEASE: &str = r#"
description = "Build, test, stage, promote or roll back"

[pools]
compiler = 2

[steps.checkout]
use = "any"
timeout = "1m"

[steps.build]
use = "any"
needs = ["checkout"]
pool = "compiler"
timeout = "5m"

[steps.test]
use = "any"
needs = ["build"]
pool = "compiler"
retry = { attempts = 3, jitter = false }

[steps.scan]
use = "any"
needs = ["checkout"]

[steps.stage]
use = "any"
needs = ["test", "scan", "build"]

[steps.promote]
use = "any"
needs = ["stage"]
when = "steps.stage.attempts < 2 && run.id != '<&>'"

[steps.rollback]
use = "any"
needs = ["stage", "promote.failed"]

[steps.told]
use = "any"
needs = ["promote.skipped"]

[steps.cleanup]
use = "any"
needs = ["stage.finished", "promote.finished", "rollback.finished"]
timeout = "2m"
"#;

/// Every kind of join, one in another, and steps that run whatever happens.
const RACE: &str = r#"
description = "Whoever answers first; and the lease is given back"

[steps.lease]
use = "any"

[steps.near]
use = "any"
needs = ["lease"]

[steps.ask]
use = "any"
needs = ["lease"]

[steps.far]
use = "any"
needs = ["ask"]

[steps.first]
use = "any"
needs = ["near", "far"]
join = "any"
rest = "cancel"

[steps.repair]
use = "any"
needs = ["first.failed", "first.skipped", "lease.failed"]
join = { at-least = 2 }

[steps.tell]
use = "any"
needs = ["lease", "first", "repair"]
join = "merge"
when = "steps.lease.status == 'succeeded'"

[always.release]
use = "any"
needs = ["lease"]

[always.count]
use = "any"

[always.alarm]
use = "any"
needs = ["release.failed", "count.failed"]
join = "any"
"#;

#[test]
fn a_workflow_is_drawn_with_its_joins_and_what_runs_whatever_happens() {
    let picture = Picture::of_plan(&plan(RACE));
    check("joins.svg", &svg(&picture, None).unwrap());
    check("joins.dot", &dot(&picture));
    check("joins.mmd", &mermaid(&picture));
}

#[test]
fn a_run_is_drawn_with_what_its_joins_ended_and_the_way_of_the_need_that_decided_them() {
    let text = svg(&run(RACE, &[("near", "4000"), ("ask", "60000")], usize::MAX), None).unwrap();
    assert!(text.contains("<title>ask\ncancelled after 4 s\n`first` does not need it any more\n"), "{text}");
    assert!(text.contains("<title>far\nskipped\n`first` does not need it any more\n"), "{text}");
    for step in ["lease", "near", "first", "tell", "count"] {
        let is_critical = format!("<title>{step}\nsucceeded after ");
        let at = text.find(&is_critical).unwrap_or_else(|| panic!("{step}: {text}"));
        let end = text[at..].find("</title>").unwrap();
        assert!(text[at..at + end].contains("on the critical path"), "{step}: {text}");
    }
    check("race.svg", &text);
}

/// Everything that is more than an attempt, one in another.
const GROWN: &str = r#"
description = "Test suites side by side, deploy, ask, promote"

[pools]
runner = 4

[signals.go]

[steps.build]
use = "any"

[steps.suites]
needs = ["build"]
foreach = ["unit", "api", "ui", "load", "fuzz"]
parallel = 2
use = "any"
pool = "runner"
with = { suite = "${item}" }

[steps.deploy]
needs = ["build"]
undo = { use = "any" }
workflow = "deploy.toml"

[steps.regions]
needs = ["suites", "deploy"]
foreach = ["eu", "us", "as"]

[steps.regions.steps.push]
use = "any"
undo = { use = "any" }

[steps.regions.steps.settle]
needs = ["push"]
repeat = { until = "steps.settle.output == {}", max = 5, delay = "1s" }
use = "any"

[steps.regions.steps.check]
needs = ["push"]
use = "any"

[steps.regions.always.tell]
use = "any"

[steps.ask]
needs = ["regions"]
wait = { approval = ["ann", "bob"], signal = "go", for = "1h" }

[steps.promote]
needs = ["ask"]
workflow = "deploy.toml"
detached = true

[steps.stop]
needs = ["ask.failed"]
fail = "nobody wanted it"

[steps.enough]
needs = ["suites"]
when = "inputs == {}  && false"
finish = true

[always.clean]
use = "any"
"#;

const DEPLOY: &str = r#"
[steps.copy]
use = "any"
[steps.switch]
needs = ["copy"]
use = "any"
[steps.further]
needs = ["switch"]
when = "false"
workflow = "deploy.toml"
"#;

fn grown() -> Plan {
    plan_with(GROWN, &[("deploy.toml", DEPLOY)])
}

#[test]
fn steps_that_open_others_are_drawn_around_them() {
    let picture = Picture::of_plan(&grown());
    check("scopes.svg", &svg(&picture, None).unwrap());
    check("scopes.dot", &dot(&picture));
    check("scopes.mmd", &mermaid(&picture));
    for direction in [Direction::Down, Direction::Right] {
        let text = svg(&picture, Some(direction)).unwrap();
        let boxes = boxes(&text);
        assert_eq!(boxes.len(), text.matches("<g class=\"step").count() - legend_steps(&text));
        for (index, a) in boxes.iter().enumerate() {
            for b in &boxes[index + 1..] {
                let apart = a.0 + a.2 <= b.0 || b.0 + b.2 <= a.0 || a.1 + a.3 <= b.1 || b.1 + b.3 <= a.1;
                let within = a.0 < b.0 && a.1 < b.1 && b.0 + b.2 < a.0 + a.2 && b.1 + b.3 < a.1 + a.3;
                assert!(apart || within, "{a:?} and {b:?} overlap");
            }
        }
    }
}

#[test]
fn a_run_is_drawn_with_how_many_items_and_rounds_came_to_which_end() {
    let script = [
        ("suites[0]", "4000"),
        ("suites[1]", "9000"),
        ("suites[4]", "12000"),
        ("regions[1]/check", "!700"),
        ("regions[2]/push", "6000"),
        ("deploy/copy", "2000"),
    ];
    let picture = run_of(grown(), &script, usize::MAX);
    let text = svg(&picture, None).unwrap();
    check("scopes-run.svg", &text);
    check("scopes-run.dot", &dot(&picture));
    check("scopes-run.mmd", &mermaid(&picture));
    assert!(text.contains(">5 items: 5 succeeded</text>"), "{text}");
    assert!(text.contains(">3 items: 2 succeeded, 1 failed</text>"), "{text}");
    assert!(text.contains(">2 succeeded, 1 failed</text>"), "{text}");
}

#[test]
fn a_workflow_that_opens_itself_is_drawn_once_and_its_runs_within_are_counted_there() {
    let again = r#"
        [inputs]
        left = { type = "integer" }
        [steps.work]
        use = "any"
        [steps.down]
        needs = ["work"]
        when = "inputs.left > 0"
        workflow = "again.toml"
        with = { left = "${inputs.left - 1}" }
    "#;
    let plan = plan_with("[steps.start]\nworkflow = \"again.toml\"\nwith = { left = 3 }\n", &[("again.toml", again)]);
    let text = svg(&run_of(plan, &[], usize::MAX), None).unwrap();
    assert_eq!(text.matches("<title>start/").count(), 2, "{text}");
    assert!(text.contains(">steps as in start</text>"), "{text}");
    assert!(text.contains(">4 succeeded</text>") && text.contains(">3 succeeded, 1 skipped</text>"), "{text}");
}

#[test]
fn a_hundred_thousand_items_are_one_box() {
    let items: Vec<u32> = (0..100_000).collect();
    let plan = plan(&format!("[steps.each]\nforeach = {items:?}\nuse = \"any\"\n"));
    let mut run = Run::new(Arc::new(plan), RunId("r".into()));
    let mut records = Vec::new();
    let mut apply = |run: &mut Run, event: Event| {
        let record = Record { at: Timestamp(0), event };
        run.apply(&record).unwrap();
        records.push(record);
    };
    let creation = Run::creation(run.plan(), run.plan().to_json().1, Json::parse("{}").unwrap(), 1);
    apply(&mut run, creation);
    while run.outcome().is_none() {
        for action in run.next(Timestamp(0), 1_024) {
            apply(&mut run, action.event().unwrap());
            if let Action::Start(attempt) = action {
                let (step, attempt) = (attempt.step, attempt.attempt);
                let (output, usage) = (Json::parse("{}").unwrap(), Usage::default());
                apply(&mut run, Event::AttemptSucceeded { step, attempt, output, usage });
            }
        }
    }
    let account = Account::of(run.plan(), run.id(), &records, Timestamp(0), None).unwrap();
    let picture = Picture::of_run(&run, &History::of(run.plan(), &records), &account);
    assert!(svg(&picture, None).unwrap().contains("100000 items: 100000 succeeded"));
}

#[test]
fn always_steps_stand_behind_all_others_in_either_direction() {
    let toml = "[always.z]\nuse = \"any\"\n[steps.a]\nuse = \"any\"\n[steps.b]\nuse = \"any\"\nneeds = [\"a\"]\n";
    let picture = Picture::of_plan(&plan(toml));
    for (direction, along) in [(Direction::Down, 1), (Direction::Right, 0)] {
        let text = svg(&picture, Some(direction)).unwrap();
        let places: Vec<[f64; 2]> = boxes(&text).iter().map(|place| [place.0, place.1]).collect();
        assert!(places[2][along] > places[1][along] && places[1][along] > places[0][along], "{places:?}");
    }
}

#[test]
fn a_workflow_is_drawn_with_its_needs_rules_pools_and_bounds() {
    let picture = Picture::of_plan(&plan(RELEASE));
    check("workflow.svg", &svg(&picture, None).unwrap());
    check("workflow.dot", &dot(&picture));
    check("workflow.mmd", &mermaid(&picture));
}

#[test]
fn a_run_is_drawn_with_ends_times_attempts_and_its_critical_path() {
    let script =
        [("checkout", "900"), ("build", "42000"), ("test", "!8000 12500"), ("scan", "2500"), ("promote", "!700 !700")];
    let picture = run(RELEASE, &script, usize::MAX);
    check("run.svg", &svg(&picture, None).unwrap());
    check("run.dot", &dot(&picture));
    check("run.mmd", &mermaid(&picture));
}

#[test]
fn of_a_run_that_nobody_drives_nothing_is_in_flight() {
    let picture = run(RELEASE, &[], 2);
    let (open, stopped) = (svg(&picture, None).unwrap(), svg(&picture.clone().stopped(), None).unwrap());
    assert!(open.contains("run 1k8qz4h: not over") && open.contains("<title>checkout\nin flight\n"), "{open}");
    assert!(stopped.contains("run 1k8qz4h: stopped") && !stopped.contains("in flight"), "{stopped}");
    assert!(stopped.contains("<title>checkout\ninterrupted\n"), "{stopped}");
    for text in [dot(&picture.clone().stopped()), mermaid(&picture.stopped())] {
        assert!(text.contains("interrupted") && !text.contains("in flight"), "{text}");
    }
}

#[test]
fn a_run_that_is_not_over_has_no_critical_path() {
    let picture = run(RELEASE, &[], 6);
    let text = svg(&picture, None).unwrap();
    assert!(text.contains("not over") && text.contains("waiting"), "{text}");
    assert!(!text.contains(">critical path<"), "{text}");
}

#[test]
fn what_a_skipped_step_waited_for_is_its_tooltip() {
    let text = svg(&run(RELEASE, &[("test", "1000")], usize::MAX), None).unwrap();
    let tooltip = "<title>rollback\nskipped\nit needs `promote` to fail, but `promote` succeeded\n";
    assert!(text.contains(tooltip), "{text}");
}

#[test]
fn steps_with_the_same_neighbours_are_one_block_with_one_arrow() {
    let text = svg(&Picture::of_plan(&plan(&fan(60))), None).unwrap();
    assert!(text.contains(">60 steps</text>"));
    assert_eq!(text.matches("<g class=\"arrow ").count() - legend_arrows(&text), 2);
    assert_eq!(text.matches("<g class=\"step").count(), 62);
    check("fan.svg", &text);
}

#[test]
fn two_hundred_steps_are_drawn_without_overlap_in_either_direction() {
    for toml in [mixed(200, 20), mixed(200, 5), fan(200)] {
        let picture = Picture::of_plan(&plan(&toml));
        for direction in [Direction::Down, Direction::Right] {
            let text = svg(&picture, Some(direction)).unwrap();
            let boxes = boxes(&text);
            for (index, a) in boxes.iter().enumerate() {
                for b in &boxes[index + 1..] {
                    let apart = a.0 + a.2 <= b.0 || b.0 + b.2 <= a.0 || a.1 + a.3 <= b.1 || b.1 + b.3 <= a.1;
                    assert!(apart, "{a:?} and {b:?} overlap");
                }
            }
        }
    }
    check("mixed.svg", &svg(&Picture::of_plan(&plan(&mixed(50, 8))), None).unwrap());
}

#[test]
fn more_steps_than_anybody_could_read_are_refused() {
    let steps = STEPS_DRAWN_MAX + 1;
    let picture = Picture::of_plan(&plans::chain(steps));
    assert_eq!(svg(&picture, None).unwrap_err().steps, steps);
    assert!(dot(&picture).lines().count() > steps);
}

#[test]
fn the_same_plan_gives_the_same_picture() {
    let draw = || svg(&Picture::of_plan(&plan(&mixed(120, 12))), None).unwrap();
    assert_eq!(draw(), draw());
}

#[test]
fn nothing_in_a_rule_is_markup() {
    let toml = "[steps.a]\nuse = \"any\"\nwhen = \"run.id != '</title><script>`#;\\\"'\"\n";
    let picture = Picture::of_plan(&plan(toml));
    let text = svg(&picture, None).unwrap();
    assert!(text.contains("&lt;/title&gt;&lt;script&gt;") && !text.contains("<script"), "{text}");
    assert!(mermaid(&picture).contains("#lt;/title#gt;#lt;script#gt;#96;#35;"), "{}", mermaid(&picture));
    assert!(dot(&picture).contains("#;\\\""), "{}", dot(&picture));
}

#[test]
fn arrows_that_have_no_room_side_by_side_enter_a_box_together() {
    let heads = |count: usize| {
        let chain =
            |at: usize| format!("[steps.a{at}]\nuse = \"any\"\n[steps.b{at}]\nuse = \"any\"\nneeds = [\"a{at}\"]\n");
        let needs: Vec<String> = (0..count).map(|at| format!("b{at}")).collect();
        let chains: String = (0..count).map(chain).collect();
        let plan = plan(&format!("{chains}[steps.all]\nuse = \"any\"\nneeds = {needs:?}\n"));
        let text = svg(&Picture::of_plan(&plan), Some(Direction::Right)).unwrap();
        let heads = text.split("class=\"head\" d=\"M").skip(1).map(|rest| rest.split('L').next().unwrap().to_owned());
        heads.collect::<std::collections::BTreeSet<String>>().len()
    };
    assert_eq!((heads(3), heads(16)), (3 + 3 + 1, 16 + 1 + 1), "each chain has a head of its own, and the legend");
}

#[test]
fn the_picture_in_the_documents_is_the_release_workflow_as_it_is() {
    for name in ["hello", "scale"] {
        assert!(svg(&Picture::of_plan(&example(name)), None).is_ok(), "{name}");
    }
    check("../../../../docs/graph.svg", &svg(&Picture::of_plan(&example("release")), None).unwrap());
}

/// The plan of a workflow in `workflows/`, its plugins replaced by ones of the same names that may do everything.
fn example(name: &str) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../workflows/{name}/{name}.toml"));
    let source = Source::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    let (spec, mut diagnostics) = Spec::parse(&source);
    let spec = spec.unwrap();
    let every = ["process", "files", "http", "env", "clock", "random", "artifacts", "workspace"];
    let want = |capability: &str| Want { capability: capability.to_owned(), reason: String::new() };
    let anything = || Json::parse("{}").unwrap();
    let stand_in = |path: &str| {
        let name = path.rsplit('/').next().unwrap();
        let description = Description {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            summary: String::new(),
            input_schema: anything(),
            output_schema: anything(),
            wants: every.map(want).to_vec(),
        };
        let component = Component { digest: Digest::of(name.as_bytes()), description, items: false };
        Ok(Loaded { component, path: format!("/{name}.wasm") })
    };
    let plugins_of = |spec: &Spec| -> BTreeMap<String, Result<Loaded, String>> {
        spec.plugin_paths().map(|(plugin, path)| (plugin.to_owned(), stand_in(path))).collect()
    };
    let workflows = spec.workflow_paths().into_iter().map(|name| {
        let path = path.with_file_name(name);
        let source = Source::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let (spec, faults) = Spec::parse(&source);
        let (plugins, directory) = (plugins_of(spec.as_ref().unwrap()), "/flows".to_owned());
        (format!("/flows/{name}"), Ok(Arc::new(File { source, spec, faults, directory, plugins })))
    });
    let (directory, workflows) = ("/flows".to_owned(), workflows.collect());
    let resolution = resolve(&source, &spec, &Surroundings { directory, plugins: plugins_of(&spec), workflows });
    diagnostics.extend(resolution.diagnostics);
    resolution.plan.unwrap_or_else(|| panic!("{}", diagnostic::render(&diagnostics, &source, false)))
}

/// Compares with a file of `pictures/`, or writes it.
fn check(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures").join(name);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is another picture now; write it anew with UPDATE_PICTURES=1 and look at it:\n{text}"
    );
}

/// Arrows that only explain.
fn legend_arrows(text: &str) -> usize {
    text.split("<g class=\"legend\">").nth(1).unwrap().matches("<g class=\"arrow ").count()
}

/// Signs of steps that only explain.
fn legend_steps(text: &str) -> usize {
    text.split("<g class=\"legend\">").nth(1).unwrap().matches("<g class=\"step").count()
}

/// x, y, width and height of every step's box.
fn boxes(text: &str) -> Vec<(f64, f64, f64, f64)> {
    let numbers = |part: &str, until: char| -> Vec<f64> {
        let inside = part.split(until).next().unwrap();
        inside.split([' ', '"']).filter_map(|word| word.parse().ok()).collect()
    };
    let steps = text.split("img\" transform=\"translate(").skip(1);
    steps
        .map(|part| {
            let at = numbers(part, ')');
            let size = numbers(part.split("class=\"box\" width=\"").nth(1).unwrap(), '/');
            (at[0], at[1], size[0], size[1])
        })
        .collect()
}

/// One step, then so many, then one.
fn fan(width: usize) -> String {
    let mut toml = String::from("[steps.start]\nuse = \"any\"\n");
    let suites: Vec<String> = (0..width).map(|index| format!("suite_{index}")).collect();
    for suite in &suites {
        write!(toml, "[steps.{suite}]\nuse = \"any\"\nneeds = [\"start\"]\n").unwrap();
    }
    write!(toml, "[steps.report]\nuse = \"any\"\nneeds = {suites:?}\n").unwrap();
    toml
}

/// So many steps, each of which needs one or two of the `near` before it; every ninth is for a failure, and needed by none.
fn mixed(count: usize, near: usize) -> String {
    let mut toml = String::new();
    let mut seed = 7_u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for index in 0..count {
        write!(toml, "[steps.step_{index}]\nuse = \"any\"\n").unwrap();
        if index == 0 {
            continue;
        }
        let mut other = || match index - 1 - draw(near.min(index)) {
            other if other % 9 == 8 => other - 1,
            other => other,
        };
        let (one, two) = (other(), other());
        let needs = match index % 9 {
            8 => vec![format!("step_{one}.failed")],
            3 | 6 if one != two => vec![format!("step_{one}"), format!("step_{two}.finished")],
            _ => vec![format!("step_{one}")],
        };
        writeln!(toml, "needs = {needs:?}").unwrap();
    }
    toml
}

/// Plays a workflow in virtual time, up to so many records, and draws it. A script is a step's attempts, each with how many
/// milliseconds it takes; `!` in front: it fails, and may be tried again. A step without a script takes 300 ms.
fn run(toml: &str, scripts: &[(&str, &str)], records_max: usize) -> Picture {
    run_of(plan(toml), scripts, records_max)
}

/// The same of a plan; the script of a step in a scope is found by its path.
fn run_of(plan: Plan, scripts: &[(&str, &str)], records_max: usize) -> Picture {
    let plan = Arc::new(plan);
    let id = RunId("1k8qz4h".into());
    let mut run = Run::new(plan.clone(), id);
    let mut records = Vec::new();
    let mut now = 1_700_000_000_000;
    let mut flying: Vec<(u64, StepId, u32)> = Vec::new();
    let take = |run: &mut Run, records: &mut Vec<Record>, at: u64, event: Event| {
        if records.len() < records_max {
            let record = Record { at: Timestamp(at), event };
            run.apply(&record).unwrap();
            records.push(record);
        }
    };
    let creation = Run::creation(&plan, plan.to_json().1, Json::parse("{}").unwrap(), 1);
    take(&mut run, &mut records, now, creation);
    while run.outcome().is_none() && records.len() < records_max {
        let actions = run.next(Timestamp(now), usize::MAX);
        let mut wake = None;
        for action in &actions {
            if let Some(event) = action.event() {
                take(&mut run, &mut records, now, event);
            }
            let mut start = |run: &Run, attempt: u32, step: StepId, after: u64| {
                let took = script(scripts, &run.path(step), attempt).1;
                flying.push((now + after + took, step, attempt));
            };
            match action {
                Action::Start(attempt) => start(&run, attempt.attempt, attempt.step, 0),
                Action::Queue { claim: Claim::Attempt(step, attempt), .. } => {
                    // The pool has room after a moment.
                    let started = Event::AttemptStarted { step: *step, attempt: *attempt };
                    take(&mut run, &mut records, now + 1_200, started);
                    start(&run, *attempt, *step, 1_200);
                }
                Action::Queue { claim, .. } => panic!("no picture of this yet: {claim:?}"),
                Action::WakeAt(at) => wake = Some(at.0),
                Action::Record(_) | Action::Ask(_) => (),
            }
        }
        if actions.iter().any(|action| action.event().is_some()) {
            continue;
        }
        let (unwanted, wanted) = flying.into_iter().partition(|(_, step, _)| run.is_cut(*step));
        flying = wanted;
        for &(_, step, attempt) in &unwanted as &Vec<(u64, StepId, u32)> {
            take(&mut run, &mut records, now, Event::AttemptCancelled { step, attempt, usage: Usage::default() });
        }
        if !unwanted.is_empty() {
            continue;
        }
        flying.sort_unstable();
        match flying.first().copied() {
            Some((at, step, attempt)) if wake.is_none_or(|wake| at <= wake) => {
                flying.remove(0);
                now = now.max(at);
                let usage = Usage::default();
                let event = match script(scripts, &run.path(step), attempt).0 {
                    true => Event::AttemptSucceeded { step, attempt, output: Json::parse("{}").unwrap(), usage },
                    false => Event::AttemptFailed { step, attempt, failure: refused(), usage },
                };
                take(&mut run, &mut records, now, event);
            }
            _ => now = wake.expect("a run that is not over waits for something"),
        }
    }
    let account = Account::of(&plan, run.id(), &records, Timestamp(0), None).unwrap();
    Picture::of_run(&run, &History::of(&plan, &records), &account)
}

/// Whether this attempt succeeds, and how many milliseconds it takes.
fn script(scripts: &[(&str, &str)], step: &str, attempt: u32) -> (bool, u64) {
    let ends = scripts.iter().find(|(name, _)| *name == step).map_or("300", |(_, ends)| ends);
    let end = ends.split(' ').nth(attempt as usize - 1).unwrap();
    (!end.starts_with('!'), end.trim_start_matches('!').parse().unwrap())
}

fn refused() -> Failure {
    let message = "502 from <upstream> & no \"retry\"".to_owned();
    Failure { kind: FailureKind::Transient, message, details: None, backtrace: None, retry_after_ms: None }
}
