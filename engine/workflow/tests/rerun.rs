//! Runs that do a part of another one again, in virtual time: what they take over, what they do, and that a crash changes
//! nothing of it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use downbeat_workflow::event::{RunId, Timestamp};
use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, StepId};
use downbeat_workflow::rerun::Again;

use plans::plan;
use play::{Play, crash_everywhere_after};

/// A run that is over, to be done again.
struct Old {
    plan: Arc<Plan>,
    play: Play,
}

/// Plays a run to its end.
fn old(toml: &str, script: &[(&str, &str)]) -> Old {
    let plan = Arc::new(plan(toml));
    Old { play: Play::of(&plan, script, None), plan }
}

impl Old {
    fn failed(&self, script: &[(&str, &str)], expected: &str) {
        self.again(&self.plan, "{}", &[], script, expected);
    }

    fn from(&self, paths: &[&str], script: &[(&str, &str)], expected: &str) {
        self.again(&self.plan, "{}", paths, script, expected);
    }

    /// Does it again with this plan and these inputs, also with a crash after each record.
    fn again(&self, plan: &Arc<Plan>, inputs: &str, from: &[&str], script: &[(&str, &str)], expected: &str) {
        let given = serde_json::from_str(inputs).unwrap();
        let inputs = inputs::accept(plan, given).unwrap();
        let from: Vec<StepId> = from.iter().map(|path| self.play.run.step_at(path).unwrap()).collect();
        let (old, records) = (&self.play.run, &self.play.records);
        let again = Again { old, records, plan, inputs: &inputs, from: &from, is_hearsay: false };
        let decided = again.decide();
        let beginning = again.begin(&decided, RunId("new".into()), 1, Timestamp(0)).unwrap();
        let live = Play::from(plan, script, &beginning.records, None);
        let mut log: Vec<String> =
            decided.again.iter().map(|(step, why)| format!("{} {}", old.path(*step), why.in_words(old))).collect();
        log.extend(live.log.iter().cloned());
        assert_eq!(log.join("\n"), expected.trim_matches('\n'), "\nthe log differs");
        crash_everywhere_after(plan, script, &beginning.records, &live);
    }
}

const RELEASE: &str = r#"
    [inputs]
    commit = { type = "string", default = "c1" }
    region = { type = "string", default = "eu" }
    [steps.build]
    use = "any"
    with = { commit = "${inputs.commit}" }
    [steps.lint]
    use = "any"
    [steps.deploy]
    needs = ["build"]
    [steps.deploy.steps.push]
    use = "any"
    with = { image = "${steps.build.output}" }
    [steps.deploy.steps.switch]
    needs = ["push"]
    use = "any"
    with = { region = "${inputs.region}" }
    [steps.tell]
    needs = ["deploy.failed"]
    use = "any"
    [always.clean]
    use = "any"
    [outputs]
    image = "${steps.build.output}"
"#;

#[test]
fn what_succeeded_is_reused_and_what_failed_is_done_again() {
    let old = old(RELEASE, &[("build", "ok=7"), ("switch", "permanent")]);
    old.failed(
        &[],
        r#"
tell is behind deploy
clean is behind deploy
deploy/switch failed
0 build reused from r: 7
0 deploy opened
0 deploy[0]
0 deploy/push reused from r: null
0 lint reused from r: null
0 deploy/switch#1
0 deploy/switch succeeded
0 deploy succeeded
0 tell skipped: it needs `deploy` to fail, but `deploy` succeeded
0 clean#1
0 clean succeeded
0 Succeeded {"image":7}"#,
    );
}

#[test]
fn a_step_that_is_asked_for_is_done_again_with_all_that_is_behind_it() {
    let old = old(RELEASE, &[]);
    old.from(
        &["build"],
        &[("build", "ok=8")],
        r#"
build asked for
deploy is behind build
tell is behind deploy
clean is behind build
0 lint reused from r: null
0 build#1
0 build succeeded
0 deploy opened
0 deploy[0]
0 deploy/push#1
0 deploy/push succeeded
0 deploy/switch#1
0 deploy/switch succeeded
0 deploy succeeded
0 tell skipped: it needs `deploy` to fail, but `deploy` succeeded
0 clean#1
0 clean succeeded
0 Succeeded {"image":8}"#,
    );
}

#[test]
fn steps_that_see_an_input_that_differs_are_done_again() {
    let old = old(RELEASE, &[]);
    old.again(
        &old.plan,
        r#"{"region": "us"}"#,
        &[],
        &[],
        r#"
tell is behind deploy
clean is behind deploy
deploy/switch sees the input `region`, which differs
0 build reused from r: null
0 deploy opened
0 deploy[0]
0 deploy/push reused from r: null
0 lint reused from r: null
0 deploy/switch#1
0 deploy/switch succeeded
0 deploy succeeded
0 tell skipped: it needs `deploy` to fail, but `deploy` succeeded
0 clean#1
0 clean succeeded
0 Succeeded {"image":null}"#,
    );
}

#[test]
fn with_another_plan_steps_are_reused_only_unchanged() {
    let old = old(RELEASE, &[]);
    let text =
        RELEASE.replace(r#"image = "${steps.build.output}" }"#, r#"image = "${steps.build.output}", fast = true }"#);
    let new = Arc::new(plan(&text));
    old.again(
        &new,
        "{}",
        &[],
        &[],
        r#"
tell is behind deploy
clean is behind deploy
deploy/push changed: with.fast
deploy/switch is behind deploy/push
0 build reused from r: null
0 deploy opened
0 deploy[0]
0 lint reused from r: null
0 deploy/push#1
0 deploy/push succeeded
0 deploy/switch#1
0 deploy/switch succeeded
0 deploy succeeded
0 tell skipped: it needs `deploy` to fail, but `deploy` succeeded
0 clean#1
0 clean succeeded
0 Succeeded {"image":null}"#,
    );
}

#[test]
fn items_that_succeeded_are_reused_each() {
    let toml = r#"
        [steps.suites]
        use = "any"
        [steps.test]
        needs = ["suites"]
        foreach = "${steps.suites.output}"
        parallel = 2
        use = "any"
        with = { it = "${item}" }
        [outputs]
        results = "${steps.test.output}"
    "#;
    let old = old(
        toml,
        &[("suites", r#"ok=["a","b","c","d"]"#), ("test[1]", "permanent"), ("test[2]", "ok=2@5"), ("test[3]", "ok=3")],
    );
    old.failed(
        &[("test[1]", "ok=1")],
        r#"
test[1] failed
0 suites reused from r: ["a","b","c","d"]
0 test opened
0 test[0]
0 test[0] reused from r: null
0 test[1]
0 test[2]
0 test[2] reused from r: 2
0 test[3]
0 test[3] reused from r: 3
0 test[1]#1
0 test[1] succeeded
0 test succeeded
0 Succeeded {"results":[null,1,2,3]}"#,
    );
}

#[test]
fn what_was_undone_is_not_reused() {
    let toml = r#"
        [steps.fetch]
        use = "any"
        [steps.provision]
        use = "any"
        undo = { use = "any" }
        [steps.deploy]
        needs = ["provision"]
        use = "any"
    "#;
    let old = old(toml, &[("deploy", "permanent@5")]);
    old.failed(
        &[("deploy", "permanent@5")],
        "
provision was undone
deploy failed
0 fetch reused from r: null
0 provision#1
0 provision succeeded
0 deploy#1
5 deploy failed: Permanent
5 provision.undo#1
5 provision.undo succeeded
5 Failed {}",
    );
}

#[test]
fn what_is_reused_is_not_undone_by_the_run_that_reuses_it() {
    let toml = r#"
        [steps.provision]
        use = "any"
        undo = { use = "any" }
        [steps.check]
        needs = ["provision"]
        use = "any"
    "#;
    let old = old(toml, &[]);
    old.from(
        &["check"],
        &[("check", "permanent")],
        "
check asked for
0 provision reused from r: null
0 check#1
0 check failed: Permanent
0 Failed {}",
    );
}

#[test]
fn rounds_go_on_where_they_failed() {
    let toml = r#"
        [steps.poll]
        use = "any"
        with = { last = "${previous}" }
        repeat = { max = 3 }
    "#;
    let old = old(toml, &[("poll[0]", "ok=1"), ("poll[1]", "permanent")]);
    old.failed(
        &[("poll[1]", "ok=2"), ("poll[2]", "ok=3")],
        "
poll[1] failed
0 poll opened
0 poll[0]
0 poll[0] reused from r: 1
0 poll[1]
0 poll[1]#1
0 poll[1] succeeded
0 poll[2]
0 poll[2]#1
0 poll[2] succeeded
0 poll succeeded
0 Succeeded {}",
    );
}

#[test]
fn a_join_that_let_go_of_its_rest_does_so_again() {
    let toml = r#"
        [steps.fast]
        use = "any"
        [steps.slow]
        use = "any"
        [steps.first]
        needs = ["fast", "slow"]
        join = "any"
        rest = "cancel"
        use = "any"
        [steps.check]
        needs = ["first"]
        use = "any"
    "#;
    let old = old(toml, &[("slow", "ok@50"), ("check", "permanent")]);
    old.failed(
        &[],
        "
check failed
0 fast reused from r: null
0 first reused from r: null
0 slow skipped: `first` does not need it any more
0 check#1
0 check succeeded
0 Succeeded {}",
    );
}

#[test]
fn an_approval_that_was_given_counts_unless_something_before_it_is_done_again() {
    let toml = r#"
        [steps.build]
        use = "any"
        [steps.ask]
        needs = ["build"]
        wait = { approval = "ann" }
        [steps.go]
        needs = ["ask"]
        use = "any"
    "#;
    let old = old(toml, &[("approve ask", "@5"), ("go", "permanent")]);
    let answer = r#"{"by":"approval","who":"ann","note":""}"#;
    old.failed(
        &[],
        &format!(
            "
go failed
0 build reused from r: null
0 ask reused from r: {answer}
0 go#1
0 go succeeded
0 Succeeded {{}}"
        ),
    );
    old.from(
        &["build"],
        &[("approve ask", "@9")],
        &format!(
            "
build asked for
ask is behind build
go failed
0 build#1
0 build succeeded
0 ask opened
9 ann approved ask
9 ask succeeded: {answer}
9 go#1
9 go succeeded
9 Succeeded {{}}"
        ),
    );
}

#[test]
fn an_approval_holds_for_no_other_inputs_and_no_other_plan() {
    let toml = r#"
        [inputs]
        version = { type = "string", default = "good" }
        [steps.lint]
        use = "any"
        [steps.ask]
        wait = { approval = "ann" }
        [steps.go]
        needs = ["ask"]
        use = "any"
        with = { v = "${inputs.version}" }
    "#;
    let old = old(toml, &[("approve ask", "@5")]);
    let asked = |first: &str| {
        format!(
            r#"
ask was approved with other inputs or by another plan
{first}
0 lint reused from r: null
0 ask opened
9 ann approved ask
9 ask succeeded: {{"by":"approval","who":"ann","note":""}}
9 go#1
9 go succeeded
9 Succeeded {{}}"#
        )
    };
    // The question mentions no input.
    let seen = asked("go sees the input `version`, which differs");
    old.again(&old.plan, r#"{"version":"evil"}"#, &[], &[("approve ask", "@9")], &seen);
    let other = Arc::new(plan(&toml.replace("${inputs.version}", "evil")));
    old.again(&other, "{}", &[], &[("approve ask", "@9")], &asked("go changed: with.v"));
}

#[test]
fn what_only_an_archive_tells_of_is_done_and_asked_for_anew() {
    let toml = "steps.lint = { use = \"any\" }\n[steps.ask]\nneeds = [\"lint\"]\nwait = { approval = \"ann\" }\n\
        [steps.go]\nneeds = [\"ask\"]\nuse = \"any\"\n";
    let old = old(toml, &[("approve ask", "@5")]);
    let decided = |is_hearsay: bool| -> Vec<String> {
        let (old_run, inputs) = (&old.play.run, Json::parse("{}").unwrap());
        let records = &old.play.records;
        let again = Again { old: old_run, records, plan: &old.plan, inputs: &inputs, from: &[], is_hearsay };
        let decided = again.decide();
        decided.again.iter().map(|(step, why)| format!("{} {}", old_run.path(*step), why.in_words(old_run))).collect()
    };
    assert_eq!(decided(true), ["lint was done elsewhere", "ask was done elsewhere", "go was done elsewhere"]);
    assert_eq!(decided(false), Vec::<String>::new());
}

#[test]
fn what_a_rerun_reused_can_be_reused_once_more_and_says_where_it_comes_from() {
    let first = old(RELEASE, &[("build", "ok=7"), ("switch", "permanent")]);
    let inputs = Json::parse(r#"{"commit":"c1","region":"eu"}"#).unwrap();
    let again = Again {
        old: &first.play.run,
        records: &first.play.records,
        plan: &first.plan,
        inputs: &inputs,
        from: &[],
        is_hearsay: false,
    };
    let beginning = again.begin(&again.decide(), RunId("new".into()), 1, Timestamp(0)).unwrap();
    let second = Play::from(&first.plan, &[("switch", "permanent")], &beginning.records, None);
    let old = Old { plan: first.plan.clone(), play: second };
    old.failed(
        &[],
        r#"
tell is behind deploy
clean is behind deploy
deploy/switch failed
0 build reused from r: 7
0 deploy opened
0 deploy[0]
0 deploy/push reused from r: null
0 lint reused from r: null
0 deploy/switch#1
0 deploy/switch succeeded
0 deploy succeeded
0 tell skipped: it needs `deploy` to fail, but `deploy` succeeded
0 clean#1
0 clean succeeded
0 Succeeded {"image":7}"#,
    );
}

#[test]
fn an_answer_of_the_cache_is_reused_like_one_of_the_run_and_says_where_it_comes_from() {
    let toml = r#"
        [steps.a]
        use = "any"
        cache = true
        [steps.b]
        needs = ["a"]
        use = "any"
        cache = true
        with = { n = "${steps.a.output}" }
        [outputs]
        b = "${steps.b.output}"
    "#;
    let old = old(toml, &[("cache a", "hit=7"), ("b", "permanent")]);
    old.failed(
        &[("cache b", "hit=8@5")],
        r#"
b failed
0 a reused from earlier: 7
0 b asks
5 b hit: 8
5 Succeeded {"b":8}"#,
    );
    old.from(
        &["a"],
        &[("cache a", "miss@5"), ("a", "ok=6")],
        r#"
a asked for
b failed
0 a asks
5 a#1
5 a succeeded
5 b asks
5 b#1
5 b succeeded
5 Succeeded {"b":null}"#,
    );
}

const GROWS: &str = r#"
    [steps.scan]
    use = "any"
    [steps.each]
    needs = ["scan.started"]
    foreach = "${steps.scan.items}"
    use = "any"
    [steps.beside]
    needs = ["scan.started"]
    use = "any"
    [steps.tell]
    needs = ["each"]
    use = "any"
    with = { all = "${steps.each.output}" }
"#;

#[test]
fn what_a_reused_step_had_appended_is_worked_on_where_it_was_not() {
    let script = [("items scan", "[1]@10 [2]@20"), ("scan", "ok@30"), ("each[0]", "ok=7"), ("each[1]", "permanent")];
    old(GROWS, &script).failed(
        &[("each[1]", "ok=8")],
        r#"
tell is behind each
each[1] failed
0 scan reused from r: null and 2 items
0 each opened
0 each[0]
0 each[0] reused from r: 7
0 each[1]
0 beside reused from r: null
0 each[1]#1
0 each[1] succeeded
0 each succeeded
0 tell#1
0 tell succeeded
0 Succeeded {}"#,
    );
}

#[test]
fn a_list_is_worked_on_anew_if_it_comes_anew() {
    let script = [("items scan", "[1]@10 [2]@20"), ("scan", "ok@30")];
    old(GROWS, &script).from(
        &["scan"],
        &[("items scan", "[3]@10"), ("scan", "ok@20")],
        r#"
scan asked for
each is behind scan
beside is behind scan
tell is behind each
0 scan#1
0 each opened
0 beside#1
0 beside succeeded
10 scan appends 0: 3
10 each[0]
10 each[0]#1
10 each[0] succeeded
20 scan succeeded
20 each succeeded
20 tell#1
20 tell succeeded
20 Succeeded {}"#,
    );
    // So it is if it never was whole.
    let script = [("items scan", "[1]@10"), ("scan", "permanent@20")];
    old(GROWS, &script).failed(
        &[("items scan", "[1]@10 [2]@15"), ("scan", "ok@20")],
        r#"
scan failed
each failed
beside is behind scan
tell is behind each
0 scan#1
0 each opened
0 beside#1
0 beside succeeded
10 scan appends 0: 1
10 each[0]
10 each[0]#1
10 each[0] succeeded
15 scan appends 1: 2
15 each[1]
15 each[1]#1
15 each[1] succeeded
20 scan succeeded
20 each succeeded
20 tell#1
20 tell succeeded
20 Succeeded {}"#,
    );
}

#[test]
fn what_a_step_has_ended_is_not_done_again_and_what_it_would_end_gets_its_time() {
    let toml = r#"
        [steps.stop]
        use = "any"
        cancels = ["one", "two"]
        [steps.one]
        use = "any"
        [steps.two]
        use = "any"
        [steps.last]
        needs = ["stop"]
        use = "any"
    "#;
    let script = [("stop", "ok@10"), ("one", "ok@20"), ("two", "ok@5"), ("last", "permanent")];
    old(toml, &script).failed(
        &[],
        r#"
last failed
0 two reused from r: null
0 stop reused from r: null
0 one skipped: it was cancelled before its turn: `stop` has succeeded
0 last#1
0 last succeeded
0 Succeeded {}"#,
    );
    let script = [("stop", "ok@10"), ("one", "permanent@5"), ("two", "ok@20")];
    old(toml, &script).failed(
        &[("stop", "ok@10"), ("one", "ok@5")],
        r#"
stop is behind one
one failed
last is behind stop
0 stop#1
0 one#1
0 two#1
0 two succeeded
5 one succeeded
10 stop succeeded
10 last#1
10 last succeeded
10 Succeeded {}"#,
    );
}
