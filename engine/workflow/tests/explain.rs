//! Runs explained: a workflow, what the world did to its run, and the page that must come out. In every scenario, at every
//! record, the parts of each step's time add up to all of it, and so does the chain that the end waited for.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;

use downbeat_workflow::event::{Event, Failure, FailureKind, Interruption, Record, RunId, Timestamp, Usage};
use downbeat_workflow::explain::{Account, Times};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::run::{Action, Run};
use serde_json::{Value, json};

mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;
use plans::{chain, plan};
use play::Play;

/// The records of a run of `toml` to which the world does what `script` says, a line each, with the milliseconds since
/// its creation: `create [JSON]`, `ok STEP [JSON]`, `fail STEP KIND [MESSAGE]`, `retry STEP MS` (fails, and asks for a
/// wait), `cancelled STEP`, `place STEP` (in its pool), `crash`, `wake`, `cancel`; ` usage=JSON` at the end of a line is what the attempt
/// used. What the run decides in answer is recorded at the same time, but nothing is started by a `crash`.
fn records(plan: &Arc<Plan>, script: &str) -> Vec<Record> {
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let mut records = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, usage) = line.split_once(" usage=").unwrap_or((line, "{}"));
        let usage: Usage = serde_json::from_str(usage).unwrap();
        let mut words = line.splitn(4, ' ');
        let at = Timestamp(1_000_000 + words.next().unwrap().parse::<u64>().unwrap());
        let (verb, name, rest) = (words.next().unwrap(), words.next().unwrap_or(""), words.next());
        let step = || plan.step_named(name).unwrap();
        let attempt = |run: &Run| run.status(step()).1;
        let failed = |kind, message: &str, retry_after_ms| Event::AttemptFailed {
            step: step(),
            attempt: attempt(&run),
            failure: Failure { kind, message: message.to_owned(), details: None, backtrace: None, retry_after_ms },
            usage: usage.clone(),
        };
        let events = match verb {
            "create" => {
                let inputs = if name.is_empty() { "{}" } else { name };
                vec![Run::creation(plan, plan.to_json().1, Json::parse(inputs).unwrap(), 1)]
            }
            "ok" => vec![Event::AttemptSucceeded {
                step: step(),
                attempt: attempt(&run),
                output: Json::parse(rest.unwrap_or("null")).unwrap(),
                usage,
            }],
            "fail" => {
                let (kind, message) = rest.unwrap().split_once(' ').unwrap_or((rest.unwrap(), "scripted"));
                let kind: FailureKind = serde_json::from_value(kind.into()).unwrap();
                vec![failed(kind, message, None)]
            }
            "retry" => vec![failed(FailureKind::Transient, "busy", Some(rest.unwrap().parse().unwrap()))],
            "place" => {
                let (claim, _) = run.queued().into_iter().find(|(claim, _)| claim.step() == Some(step())).unwrap();
                vec![run.start(claim).unwrap().event().unwrap()]
            }
            "crash" => {
                let lost = run.in_flight().into_iter();
                lost.map(|(step, attempt)| Event::AttemptInterrupted { step, attempt, cause: Interruption::Crash })
                    .collect()
            }
            "cancelled" => vec![Event::AttemptCancelled { step: step(), attempt: attempt(&run), usage }],
            "cancel" => vec![Event::CancelRequested { reason: "wrong branch".into() }],
            "wake" => vec![],
            other => panic!("no such verb: {other}"),
        };
        let mut record = |run: &mut Run, event| {
            let record = Record { at, event };
            run.apply(&record).unwrap();
            records.push(record);
        };
        events.into_iter().for_each(|event| record(&mut run, event));
        loop {
            let events: Vec<Event> = run.next(at, usize::MAX).iter().filter_map(Action::event).collect();
            if verb == "crash" || events.is_empty() {
                break;
            }
            events.into_iter().for_each(|event| record(&mut run, event));
        }
    }
    records
}

/// The account, which is also made at every record before the last.
fn account(plan: &Arc<Plan>, records: &[Record], focus: Option<StepId>) -> Account {
    let mut account = None;
    for end in 1..=records.len() {
        let so_far = Account::of(plan, &RunId("r".into()), &records[..end], Timestamp(0), focus).unwrap();
        for step in &so_far.steps {
            let ended = records[..end].iter().rev().find(|record| {
                let value = serde_json::to_value(&record.event).unwrap();
                let about = value.as_object().and_then(|tagged| tagged.values().next()?.get("step")?.as_u64());
                about.is_some_and(|id| plan.steps[id as usize].name == step.step)
            });
            let total = match step.end {
                Some(_) => ended.unwrap().at.0 - 1_000_000,
                None => so_far.elapsed_ms,
            };
            assert_eq!(step.times.total_ms(), total, "{step:?}");
        }
        if let Some(last) = so_far.path.last() {
            let path: u64 = so_far.path.iter().map(|link| link.times.total_ms()).sum();
            assert_eq!(path, last.after_ms + last.times.total_ms(), "{:?}", so_far.path);
        }
        account = Some(so_far);
    }
    account.unwrap()
}

/// Compares the page of the whole run.
fn check(toml: &str, script: &str, expected: &str) {
    let plan = Arc::new(plan(toml));
    let records = records(&plan, script);
    assert_eq!(account(&plan, &records, None).page().trim_end(), expected.trim_matches('\n'));
}

/// Compares the page of a step.
fn check_step(toml: &str, script: &str, step: &str, expected: &str) {
    let plan = Arc::new(plan(toml));
    let step = plan.step_named(step).unwrap();
    let records = records(&plan, script);
    let page = account(&plan, &records, Some(step)).step_page(step.index());
    assert_eq!(page.trim_end(), expected.trim_matches('\n'));
}

const RELEASE: &str = r#"
    [inputs]
    score = { type = "number" }
    [pools]
    compiler = 1
    [steps.build]
    use = "any"
    pool = "compiler"
    retry = { attempts = 3, delay = "1s", jitter = false, max-delay = "1500ms" }
    [steps.lint]
    use = "any"
    [steps.test]
    use = "any"
    needs = ["build"]
    with = { of = "${steps.build.output.digest}" }
    [steps.approve]
    use = "any"
    needs = ["test", "lint.finished"]
    when = "inputs.score < 0.95"
    [steps.promote]
    use = "any"
    needs = ["approve"]
    [steps.tell]
    use = "any"
    needs = ["promote"]
    [steps.tell_broken]
    use = "any"
    needs = ["build.failed"]
"#;

/// The build waits for its pool, fails twice and then succeeds; nobody has to approve.
const GOOD: &str = r#"
    0 create {"score":0.99}
    200 place build
    1200 fail build timed-out
    2200 wake
    2200 place build
    2200 ok lint
    2300 retry build 4000
    6300 wake
    6400 place build
    7000 ok build {"digest":"d1"}
    12000 ok test
"#;

#[test]
fn the_story_of_a_run_is_told_in_order_with_root_causes_and_the_bottleneck() {
    check(
        RELEASE,
        GOOD,
        "
run r of w: succeeded after 12.0 s

What happened
   1.2 s  build failed: timed out: scripted; tried again after 1.0 s (its `delay`): failure 1 of 3 at most
   2.2 s  lint succeeded
   2.3 s  build failed: transient: busy; tried again after 4.0 s (as the step asked for): failure 2 of 3 at most
   7.0 s  build succeeded at attempt 3
   7.0 s  tell_broken skipped, because build succeeded
  12.0 s  test succeeded
  12.0 s  approve, promote, tell skipped, because the rule of approve was false

Skipped
  because build succeeded
    tell_broken
  because the rule of approve was false: inputs.score < 0.95, where inputs.score was 0.99
    approve, promote, tell

Where the time went: the steps that the end waited for
   0 ms  build  300 ms in line for the pool `compiler`, 1.7 s running, 5.0 s between attempts
  7.0 s  test   5.0 s running
  most of it: build, 5.0 s between attempts (41 %)",
    );
}

#[test]
fn a_step_says_what_it_waited_for_and_why_each_attempt_was_followed_by_another() {
    check_step(
        RELEASE,
        GOOD,
        "build",
        "
step      build of run r (w)
state     succeeded
why       it ran as it needs nothing
input     {}
time      7.0 s: 300 ms in line for the pool `compiler`, 1.7 s running, 5.0 s between attempts

attempts
  #1 after 200 ms, 200 ms in line: failed, timed out after 1.0 s
     scripted
     tried again after 1.0 s (its `delay`): failure 1 of 3 at most
  #2 after 2.2 s, 0 ms in line: failed, transient after 100 ms
     busy
     tried again after 4.0 s (as the step asked for): failure 2 of 3 at most
  #3 after 6.4 s, 100 ms in line: succeeded after 600 ms

because of it, these were skipped: tell_broken",
    );
}

#[test]
fn a_step_that_ran_shows_its_input_and_which_need_gave_it_its_turn() {
    check_step(
        RELEASE,
        GOOD,
        "test",
        r#"
step      test of run r (w)
state     succeeded
why       it ran as its needs were met
needs     build to succeed: succeeded after 7.0 s; this gave it its turn
input     {"of":"d1"}
time      12.0 s: 7.0 s waiting for its needs, 5.0 s running

attempts
  #1 after 7.0 s: succeeded after 5.0 s"#,
    );
}

#[test]
fn a_rule_that_was_true_is_shown_with_what_it_saw() {
    check_step(
        RELEASE,
        &GOOD.replace("0.99", "0.5"),
        "approve",
        "
step      approve of run r (w)
state     running
why       it ran as its needs were met, and its rule was true
needs     test to succeed: succeeded after 12.0 s; this gave it its turn
          lint to finish: succeeded after 2.2 s
rule      inputs.score < 0.95 was true
          inputs.score was 0.5
input     {}
time      12.0 s: 12.0 s waiting for its needs

attempts
  #1 after 12.0 s: in flight",
    );
}

#[test]
fn a_skipped_step_says_the_root_cause_first() {
    check_step(
        RELEASE,
        GOOD,
        "tell",
        "
step      tell of run r (w)
state     skipped
why       skipped because the rule of approve was false: inputs.score < 0.95, where inputs.score was 0.99; by way of promote: \
it needs `promote` to succeed, but `promote` was skipped
needs     promote to succeed: was skipped after 12.0 s
time      12.0 s: 12.0 s waiting for its needs",
    );
    check_step(
        RELEASE,
        "
        0 create {\"score\":1}
        0 place build
        10 fail build permanent it does not compile",
        "test",
        "
step      test of run r (w)
state     skipped
why       skipped because build failed (permanent: it does not compile): it needs `build` to succeed, but `build` failed
needs     build to succeed: failed after 10 ms
time      10 ms: 10 ms waiting for its needs",
    );
}

#[test]
fn a_failure_is_the_root_of_all_that_did_not_run() {
    check(
        RELEASE,
        r#"
        0 create {"score":1}
        0 place build
        10 fail build permanent it does not compile
        20 ok lint
        30 ok tell_broken"#,
        "
run r of w: failed after 30 ms

What happened
  10 ms  build failed: permanent: it does not compile; not tried again: a failure of this kind does not go away
  10 ms  test, approve, promote, tell skipped, because build failed
  20 ms  lint, tell_broken succeeded (until 30 ms)

Skipped
  because build failed (permanent: it does not compile)
    test, approve, promote, tell

Where the time went: the steps that the end waited for
   0 ms  build        10 ms running
  10 ms  tell_broken  20 ms running
  most of it: tell_broken, 20 ms running (66 %)",
    );
}

#[test]
fn what_an_outage_took_is_told_apart() {
    let toml = r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        needs = ["a"]
    "#;
    let script = "
        0 create
        100 ok a
        5000 crash
        5200 wake
        5300 ok b";
    check(
        toml,
        script,
        "
run r of w: succeeded after 5.3 s

What happened
  100 ms  a succeeded
   5.0 s  the engine had died under b
   5.3 s  b succeeded at attempt 2

Where the time went: the steps that the end waited for
    0 ms  a  100 ms running
  100 ms  b  200 ms until an engine took it up, 100 ms running, 4.9 s in attempts that were interrupted
  most of it: b, 4.9 s in attempts that were interrupted (92 %)",
    );
}

#[test]
fn of_a_run_that_nobody_drives_it_is_told_that_it_is_stopped() {
    let plan = Arc::new(plan(RELEASE));
    let records = records(&plan, "0 create {\"score\":1}\n0 place build\n400 wake");
    let mut account = account(&plan, &records, None);
    assert!(account.page().starts_with("run r of w: not over, 0 ms so far\n"), "{}", account.page());
    account.stop();
    let page = account.page();
    assert!(page.starts_with("run r of w: stopped after 0 ms; `downbeat resume r` goes on\n"), "{page}");
    assert!(page.contains("build, lint are interrupted") && !page.contains("is running"), "{page}");
    assert_eq!(serde_json::to_value(&account).unwrap()["stopped"], true);
}

#[test]
fn what_a_cancelled_run_was_doing_is_told() {
    check(
        RELEASE,
        r#"
        0 create {"score":1}
        0 place build
        10 fail build transient
        400 cancel"#,
        "
run r of w: not over, 400 ms so far

What happened
   10 ms  build failed: transient: scripted; tried again after 1.0 s (its `delay`): failure 1 of 3 at most
  400 ms  the run's end was asked for: wrong branch
  400 ms  build ended with the run
  400 ms  test, approve, promote, tell, tell_broken skipped, because the run was cancelled before their turn
  400 ms  lint is running

Skipped
  because the run was cancelled before their turn
    test, approve, promote, tell, tell_broken

Where the time went: the steps that the end waited for
  0 ms  lint  400 ms running
  most of it: lint, 400 ms running (100 %)",
    );
}

#[test]
fn refusals_come_with_the_line_and_bounds_with_their_percentage() {
    let toml = r#"
        [steps.a]
        use = "any"
        limit = { memory = "1MiB", log = "4KiB" }
        timeout = "10s"
    "#;
    let usage = json!({
        "wall-us": 9_500_000, "memory-peak": 1_000_000, "bytes-out": 100, "log-bytes": 4096, "log-dropped": 5000,
        "refusals": [{ "capability": "process", "wanted": "curl", "hint": "grant = { process = [\"curl\"] }" }],
    });
    check(
        toml,
        &format!("0 create\n9500 fail a permanent no usage={usage}"),
        r#"
run r of w: failed after 9.5 s

What happened
  9.5 s  a failed: permanent: no; not tried again: a failure of this kind does not go away

Refused
  a: process curl
    hint: to allow it, set in [steps.a]: grant = { process = ["curl"] }

Near a limit
  a #1 used 976.6 KiB of the 1.0 MiB of its limit `memory` (95 %)
  a #1 used 4.0 KiB of the 4.0 KiB of its limit `log` (100 %); 4.9 KiB more were dropped
  a #1 used 9.5 s of the 10.0 s of its `timeout` (95 %)

Where the time went: the steps that the end waited for
  0 ms  a  9.5 s running
  most of it: a, 9.5 s running (100 %)"#,
    );
}

#[test]
fn a_rule_that_failed_says_what_it_saw() {
    check_step(
        r#"
        [inputs]
        list = { type = "list" }
        [steps.a]
        use = "any"
        when = "inputs.list[3] == 1"
        "#,
        r#"0 create {"list":[1]}"#,
        "a",
        "
step      a of run r (w)
state     failed
why       failed without an attempt: `when` can't be evaluated: `inputs.list[3]`: there is no item 3 in `inputs.list`, which has 1
rule      inputs.list[3] == 1 could not be evaluated
          inputs.list[3] was null
time      0 ms",
    );
}

#[test]
fn a_long_run_is_told_in_short() {
    let mut toml = String::new();
    let mut script = "0 create\n".to_owned();
    for index in 0..30 {
        toml.push_str(&format!("[steps.s{index}]\nuse = \"any\"\n"));
        script.push_str(&format!("{index} ok s{index}\n"));
    }
    check(
        &toml,
        &script,
        "
run r of w: succeeded after 29 ms

What happened
  0 ms  s0, s1, s2, s3, s4, s5, s6, s7 and 22 more succeeded (until 29 ms)

Where the time went: the steps that the end waited for
  0 ms  s29  29 ms running
  most of it: s29, 29 ms running (100 %)",
    );
}

#[test]
fn a_chain_of_thousands_took_as_long_as_its_links() {
    const LENGTH: usize = 3_000;
    let plan = Arc::new(chain(LENGTH));
    let mut script = "0 create\n".to_owned();
    (0..LENGTH).for_each(|index| script.push_str(&format!("{} ok s{index}\n", (index + 1) * 10)));
    let records = records(&plan, &script);
    let account = Account::of(&plan, &RunId("r".into()), &records, Timestamp(0), None).unwrap();
    assert_eq!((account.path.len(), account.elapsed_ms), (LENGTH, 30_000));
    assert!(account.path.iter().all(|link| link.times == Times { running_ms: 10, ..Times::default() }));
    assert!(account.page().ends_with("… and 2968 more\n  most of it: s0, 10 ms running (0 %)\n"), "{}", account.page());
}

#[test]
fn programs_read_the_same_account() {
    let plan = Arc::new(plan(RELEASE));
    let account = account(&plan, &records(&plan, GOOD), plan.step_named("tell"));
    let value = serde_json::to_value(&account).unwrap();
    assert_eq!(value["outcome"], "succeeded");
    assert_eq!(value["bottleneck"], json!({ "step": "build", "part": "between", "ms": 5000, "percent": 41 }));
    assert_eq!(value["steps"][0]["attempts"][1]["next"]["again"]["why"], "asked");
    assert_eq!(value["steps"][5]["chain"], json!(["promote"]));
    assert_eq!(value["steps"][5]["because"]["cause"], "rule");
    assert_eq!(value["skips"][1]["steps"], json!(["approve", "promote", "tell"]));
    assert_eq!(value["steps"][3]["rule"]["saw"], json!([["inputs.score", 0.99]]));
    let none: Value = serde_json::to_value(Times::default()).unwrap();
    assert_eq!(none, json!({}));
}

/// Two ways to an answer, of which one is enough; one that is needed by nobody else; and something for the end.
const RACE: &str = r#"
    [steps.near]
    use = "any"
    [steps.ask]
    use = "any"
    retry = { attempts = 3, delay = "1s", jitter = false }
    [steps.far]
    use = "any"
    needs = ["ask"]
    [steps.inner]
    use = "any"
    needs = ["ask.failed", "far"]
    join = "any"
    rest = "cancel"
    [steps.first]
    use = "any"
    needs = ["near", "inner"]
    join = "any"
    rest = "cancel"
    with = { near = "${steps.near.status}", inner = "${steps.inner.status}" }
    [steps.repair]
    use = "any"
    needs = ["near.failed", "first.failed", "first.skipped"]
    join = { at-least = 2 }
    [steps.after]
    use = "any"
    needs = ["repair"]
    [always.release]
    use = "any"
    [always.tell]
    use = "any"
    needs = ["release.failed"]
"#;

const NEAR_WINS: &str = "
    0 create
    100 ok near
    200 ok first
    250 cancelled ask
    400 ok release
";

#[test]
fn what_a_join_did_not_need_is_told_with_the_join() {
    check(
        RACE,
        NEAR_WINS,
        r#"
run r of w: succeeded after 400 ms

What happened
  100 ms  near succeeded
  100 ms  far, inner skipped, because first was decided without them
  200 ms  first succeeded
  200 ms  repair, after skipped, because repair takes 2 of its 3 needs, but only 1 could be met
  250 ms  ask cancelled, because first was decided without it
  400 ms  release succeeded
  400 ms  tell skipped, because release succeeded

Skipped
  because first was decided without them
    far, inner
  because repair takes 2 of its 3 needs, but only 1 could be met
    repair, after
  because release succeeded
    tell

Where the time went: the steps that the end waited for
    0 ms  ask      250 ms running
  250 ms  release  150 ms running
  most of it: ask, 250 ms running (62 %)
"#,
    );
}

#[test]
fn a_step_that_lost_says_to_which_join() {
    check_step(
        RACE,
        NEAR_WINS,
        "far",
        r#"
step      far of run r (w)
state     skipped
why       skipped because first was decided without it; by way of inner: `inner` does not need it any more
needs     ask to succeed: was cancelled after 250 ms
time      100 ms: 100 ms waiting for its needs
"#,
    );
    check_step(
        RACE,
        NEAR_WINS,
        "ask",
        r#"
step      ask of run r (w)
state     cancelled
why       it ran as it needs nothing; then inner did not need it any more
input     {}
time      250 ms: 250 ms running

attempts
  #1 after 0 ms: cancelled after 250 ms
"#,
    );
}

#[test]
fn a_join_says_which_need_decided_it_and_what_it_saw_then() {
    check_step(
        RACE,
        NEAR_WINS,
        "first",
        r#"
step      first of run r (w)
state     succeeded
why       it ran as one of its needs was met
needs     near to succeed: succeeded after 100 ms; this gave it its turn
          inner to succeed: was skipped after 100 ms
input     {"near":"succeeded","inner":"unfinished"}
time      200 ms: 100 ms waiting for its needs, 100 ms running

attempts
  #1 after 100 ms: succeeded after 100 ms

because of it, these were skipped: far, inner
"#,
    );
}

#[test]
fn a_failure_that_no_join_waits_for_any_more_is_not_tried_again() {
    check_step(
        RACE,
        "0 create\n100 ok near\n150 fail ask transient",
        "ask",
        r#"
step      ask of run r (w)
state     cancelled
why       it ran as it needs nothing; then inner did not need it any more
input     {}
time      150 ms: 150 ms running

attempts
  #1 after 0 ms: failed, transient after 150 ms
     scripted
     not tried again: no join needed it any more
"#,
    );
}

#[test]
fn a_step_that_waits_says_for_how_many_of_its_needs() {
    let plan = Arc::new(plan(RACE));
    let account = account(&plan, &records(&plan, "0 create"), None);
    for (step, why) in [
        ("repair", "why       it waits for 2 of near, first\n"),
        ("after", "why       it waits for repair\n"),
        ("release", "why       it waits for the end of all steps\n"),
    ] {
        let page = account.step_page(plan.step_named(step).unwrap().index());
        assert!(page.contains(why), "{page}");
    }
    check_step(
        RACE,
        "0 create",
        "first",
        r#"
step      first of run r (w)
state     waiting
why       it waits for one of near, inner
needs     near to succeed: it has not come to its end
          inner to succeed: it has not come to its end
time      0 ms
"#,
    );
}

#[test]
fn an_always_step_has_its_turn_with_the_last_step_that_ends() {
    check_step(
        RACE,
        NEAR_WINS,
        "release",
        r#"
step      release of run r (w)
state     succeeded
why       it ran as all steps were over
after     ask, the last step to end; this gave it its turn
input     {}
time      400 ms: 250 ms waiting for its needs, 150 ms running

attempts
  #1 after 250 ms: succeeded after 150 ms

because of it, these were skipped: tell
"#,
    );
}

#[test]
fn needs_that_one_failure_kept_from_running_are_traced_to_it_through_a_join() {
    let toml = r#"
        [steps.build]
        use = "any"
        [steps.a]
        use = "any"
        needs = ["build"]
        [steps.b]
        use = "any"
        needs = ["build"]
        [steps.either]
        use = "any"
        needs = ["a", "b"]
        join = "any"
    "#;
    check_step(
        toml,
        "0 create\n10 fail build permanent",
        "either",
        r#"
step      either of run r (w)
state     skipped
why       skipped because build failed (permanent: scripted); by way of a: it takes 1 of its 2 needs, but none can be met
needs     a to succeed: was skipped after 10 ms
          b to succeed: was skipped after 10 ms
time      10 ms: 10 ms waiting for its needs
"#,
    );
}

/// Plays a run with steps within steps; compares the page of the run, and of one of its steps.
fn check_played(toml: &str, script: &[(&str, &str)], expected: &str, step: &str, step_expected: &str) {
    let plan = Arc::new(plan(toml));
    let played = Play::of(&plan, script, None);
    for end in 1..=played.records.len() {
        let so_far = Account::of(&plan, &RunId("r".into()), &played.records[..end], Timestamp(0), None).unwrap();
        // A link takes as long as it says: from its turn to where the next one has its own, or where the next round begins.
        let mut open = vec![&so_far.path];
        while let Some(path) = open.pop() {
            let is_own = std::ptr::eq(path, &so_far.path);
            for pair in path.windows(2) {
                let end = pair[0].after_ms + pair[0].times.total_ms();
                assert!(end == pair[1].after_ms || end < pair[1].after_ms && !is_own, "{path:?}");
            }
            open.extend(path.iter().map(|link| &link.within));
        }
    }
    let focus = played.run.step_at(step).unwrap();
    let account = Account::of(&plan, &RunId("r".into()), &played.records, Timestamp(0), Some(focus)).unwrap();
    assert_eq!(account.page().trim_end(), expected.trim_matches('\n'));
    assert_eq!(account.step_page(focus.index()).trim_end(), step_expected.trim_matches('\n'));
}

#[test]
fn many_items_are_told_together_and_the_end_waited_for_the_last_of_them() {
    check_played(
        r#"
        [steps.build]
        use = "any"
        [steps.suites]
        needs = ["build"]
        foreach = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
        use = "any"
        [steps.tell]
        needs = ["suites"]
        use = "any"
        "#,
        &[("build", "ok@10"), ("suites", "ok@20"), ("suites[3]", "ok@90"), ("tell", "ok@5")],
        "
run r of w: succeeded after 105 ms

What happened
  10 ms  build, suites[0] … suites[11], suites, tell succeeded (until 105 ms)

Where the time went: the steps that the end waited for
    0 ms  build        10 ms running
   10 ms  suites       90 ms in its steps
   10 ms    suites[3]  90 ms running
  100 ms  tell         5 ms running
  most of it: suites[3], 90 ms running (85 %)
",
        "suites[3]",
        "
step      suites[3] of run r (w)
state     succeeded
why       it ran as it needs nothing
input     {}
time      90 ms: 90 ms running

attempts
  #1 after 10 ms: succeeded after 90 ms
",
    );
}

#[test]
fn what_was_undone_and_what_a_scope_kept_from_running_is_told() {
    check_played(
        r#"
        [steps.deploy]
        timeout = "50ms"
        [steps.deploy.steps.push]
        use = "any"
        undo = { use = "any" }
        [steps.deploy.steps.wait]
        needs = ["push"]
        wait = "1h"
        [steps.deploy.steps.switch]
        needs = ["wait"]
        use = "any"
        [steps.deploy.steps.after]
        needs = ["switch"]
        use = "any"
        [steps.later]
        needs = ["deploy"]
        use = "any"
        "#,
        &[("push", "ok@10"), ("push.undo", "ok@7")],
        "
run r of w: failed after 57 ms

What happened
  10 ms  deploy/push succeeded
  50 ms  the timeout of deploy passed
  50 ms  deploy/wait cancelled
  50 ms  deploy/switch, deploy/after skipped, because deploy timed out before their turn
  57 ms  deploy/push.undo succeeded
  57 ms  deploy failed: timed out: its steps took longer than its timeout
  57 ms  later skipped, because deploy failed

Skipped
  because deploy timed out before their turn
    deploy/switch, deploy/after
  because deploy failed (timed out: its steps took longer than its timeout)
    later

Where the time went: the steps that the end waited for
   0 ms  deploy              57 ms in its steps
   0 ms    deploy/push       10 ms running
  10 ms    deploy/wait       40 ms waiting for somebody or something
  50 ms    deploy/push.undo  7 ms running
  most of it: deploy/wait, 40 ms waiting for somebody or something (70 %)
",
        "deploy/switch",
        "
step      deploy/switch of run r (w)
state     skipped
why       skipped: what it belongs to timed out before its turn
needs     deploy/wait to succeed: was cancelled after 50 ms
time      50 ms: 50 ms waiting for its needs
",
    );
}

#[test]
fn what_is_undone_from_further_out_has_its_turn_when_that_failed() {
    check_played(
        r#"
        [steps.deploy.steps.push]
        use = "any"
        undo = { use = "any" }
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        undo = { use = "any" }
        [steps.probe]
        needs = ["deploy"]
        use = "any"
        [always.tell]
        use = "any"
        "#,
        &[
            ("push", "ok@10"),
            ("switch", "ok@20"),
            ("probe", "permanent@400"),
            ("push.undo", "ok@7"),
            ("switch.undo", "ok@3"),
            ("tell", "ok@5"),
        ],
        "
run r of w: failed after 445 ms

What happened
   10 ms  deploy/push, deploy/switch, deploy succeeded (until 30 ms)
  430 ms  probe failed: permanent: scripted; not tried again: a failure of this kind does not go away
  433 ms  deploy/switch.undo, deploy/push.undo, tell succeeded (until 445 ms)

Where the time went: the steps that the end waited for
    0 ms  deploy              30 ms in its steps
    0 ms    deploy/push       10 ms running
   10 ms    deploy/switch     20 ms running
   30 ms  probe               400 ms running
  430 ms  deploy/switch.undo  3 ms running
  433 ms  deploy/push.undo    7 ms running
  440 ms  tell                5 ms running
  most of it: probe, 400 ms running (89 %)
",
        "deploy/switch.undo",
        "
step      deploy/switch.undo of run r (w)
state     succeeded
why       it takes back what deploy/switch did, as probe failed (permanent: scripted)
after     probe, the last step to end; this gave it its turn
input     {}
time      433 ms: 430 ms waiting for its needs, 3 ms running

attempts
  #1 after 430 ms: succeeded after 3 ms
",
    );
}

#[test]
fn every_round_is_on_the_way_to_the_end_and_every_time_that_a_block_was_tried() {
    check_played(
        r#"
        [steps.poll]
        repeat = { max = 3, delay = "100ms" }
        use = "any"
        [steps.deploy]
        needs = ["poll"]
        retry = { attempts = 2, delay = "50ms", jitter = false }
        [steps.deploy.steps.push]
        use = "any"
        [steps.two]
        needs = ["deploy.finished"]
        foreach = [1, 2, 3, 4]
        parallel = 2
        use = "any"
        "#,
        &[
            ("poll", "ok@10"),
            ("poll[1]", "ok@20"),
            ("push", "permanent@5"),
            ("two", "ok@40"),
            ("two[1]", "ok@1"),
            ("two[3]", "ok@90"),
        ],
        "
run r of w: failed after 430 ms

What happened
   10 ms  poll[0] … poll[2], poll succeeded (until 240 ms)
  245 ms  deploy/push failed: permanent: scripted; not tried again by itself, but with what it belongs to
  245 ms  deploy failed; tried again after 50 ms (its `delay`): failure 1 of 2 at most
  300 ms  deploy/push failed: permanent: scripted; not tried again: a failure of this kind does not go away
  300 ms  deploy failed: a step within it failed: `deploy/push` failed: scripted
  301 ms  two[0] … two[3], two succeeded (until 430 ms)

Where the time went: the steps that the end waited for
    0 ms  poll           240 ms in its steps
    0 ms    poll[0]      10 ms running
  110 ms    poll[1]      20 ms running
  230 ms    poll[2]      10 ms running
  240 ms  deploy         50 ms between attempts, 10 ms in its steps
  240 ms    deploy/push  5 ms running
  295 ms    deploy/push  5 ms running
  300 ms  two            130 ms in its steps
  300 ms    two[0]       40 ms running
  340 ms    two[3]       90 ms running
  most of it: poll, 240 ms in its steps (55 %)
",
        "poll",
        "
step      poll of run r (w)
state     succeeded
why       it ran as it needs nothing
time      240 ms: 240 ms in its steps
",
    );
}

#[test]
fn an_end_and_a_cancelled_step_are_causes() {
    check_played(
        r#"
        [steps.each]
        foreach = [1, 2, 3, 4]
        parallel = 2
        use = "any"
        [steps.look]
        use = "any"
        [steps.done]
        needs = ["look"]
        finish = true
        [steps.long]
        use = "any"
        [steps.later]
        needs = ["long"]
        use = "any"
        [steps.last]
        needs = ["later"]
        use = "any"
        "#,
        &[("each", "ok@50"), ("look", "ok@20"), ("long", "ok@90"), ("cancel each", "@10")],
        "
run r of w: succeeded after 20 ms

What happened
  10 ms  the end of each was asked for: enough
  10 ms  each[0], each[1], each cancelled
  20 ms  look, done succeeded
  20 ms  later, last skipped, because done ended it all before
  20 ms  long ended with the run

Skipped
  because done ended it all before
    later, last

Where the time went: the steps that the end waited for
  0 ms  long  20 ms running
  most of it: long, 20 ms running (100 %)
",
        "each",
        "
step      each of run r (w)
state     cancelled
why       it ran as it needs nothing; then it was cancelled: asked for: enough
time      10 ms: 10 ms in its steps
",
    );
}

#[test]
fn a_hundred_thousand_items_are_explained_in_a_few_lines() {
    let items: Vec<u32> = (0..100_000).collect();
    let plan = Arc::new(plan(&format!("[steps.each]\nforeach = {items:?}\nuse = \"any\"\n")));
    let mut run = Run::new(plan.clone(), RunId("r".into()));
    let mut records = Vec::new();
    let mut apply = |run: &mut Run, event: Event| {
        let record = Record { at: Timestamp(0), event };
        run.apply(&record).unwrap();
        records.push(record);
    };
    apply(&mut run, Run::creation(&plan, plan.to_json().1, Json::parse("{}").unwrap(), 1));
    while run.outcome().is_none() {
        for action in run.next(Timestamp(0), 1_024) {
            apply(&mut run, action.event().unwrap());
            if let Action::Start(attempt) = action {
                let (step, attempt, usage) = (attempt.step, attempt.attempt, Usage::default());
                apply(&mut run, Event::AttemptSucceeded { step, attempt, output: Json::null(), usage });
            }
        }
    }
    let account = Account::of(&plan, &RunId("r".into()), &records, Timestamp(0), None).unwrap();
    let page = account.page();
    assert!(page.contains("  each[0] … each[99999], each succeeded\n"), "{page}");
    assert!(page.lines().count() < 12, "{page}");
}
