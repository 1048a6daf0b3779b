//! Steps within steps, in virtual time: blocks, items, rounds, sub-workflows, ends and undoing.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use std::sync::Arc;

use plans::{plan, plan_with};
use play::{check, check_plan};

#[test]
fn a_block_is_a_scope_of_its_own() {
    check(
        r#"
        [steps.fetch]
        use = "any"
        [steps.deploy]
        needs = ["fetch"]
        [steps.deploy.steps.push]
        use = "any"
        with = { image = "${steps.fetch.output}" }
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.deploy.outputs]
        digest = "${steps.push.output}"
        [steps.tell]
        needs = ["deploy"]
        use = "any"
        with = { it = "${steps.deploy.output}" }
        [outputs]
        deployed = "${steps.deploy.output.digest}"
        "#,
        &[("fetch", "ok=7@5"), ("push", "ok=\"d1\"@10"), ("switch", "ok@10")],
        r#"
0 fetch#1
5 fetch succeeded
5 deploy opened
5 deploy[0]
5 deploy/push#1
15 deploy/push succeeded
15 deploy/switch#1
25 deploy/switch succeeded
25 deploy succeeded
25 tell#1
25 tell succeeded
25 Succeeded {"deployed":"d1"}"#,
    );
}

#[test]
fn a_block_that_fails_is_tried_again_as_a_whole() {
    check(
        r#"
        [steps.deploy]
        retry = { attempts = 2, delay = "1s", jitter = false }
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.after]
        needs = ["deploy.failed"]
        use = "any"
        "#,
        &[("switch", "permanent@10")],
        "
0 deploy opened
0 deploy[0]
0 deploy/push#1
0 deploy/push succeeded
0 deploy/switch#1
10 deploy/switch failed: Permanent
1010 deploy[0]
1010 deploy/push#1
1010 deploy/push succeeded
1010 deploy/switch#1
1020 deploy/switch failed: Permanent
1020 deploy failed: `deploy/switch` failed: scripted
1020 after#1
1020 after succeeded
1020 Failed {}",
    );
}

#[test]
fn a_block_that_takes_too_long_is_ended_as_a_whole() {
    check(
        r#"
        [steps.deploy]
        timeout = "20ms"
        [steps.deploy.steps.push]
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.deploy.always.clean]
        use = "any"
        [steps.other]
        use = "any"
        "#,
        &[("push", "ok@100"), ("other", "ok@50"), ("clean", "ok@5")],
        "
0 deploy opened
0 other#1
0 deploy[0]
0 deploy/push#1
20 deploy[0] timed out
20 deploy/switch skipped: what it belongs to timed out before its turn
20 deploy/push cancelled
20 deploy/clean#1
25 deploy/clean succeeded
25 deploy failed: its steps took longer than its timeout
50 other succeeded
50 Failed {}",
    );
}

#[test]
fn items_are_worked_on_side_by_side_and_answer_in_order() {
    check(
        r#"
        [steps.suites]
        use = "any"
        [steps.test]
        needs = ["suites"]
        foreach = "${steps.suites.output}"
        parallel = 2
        use = "any"
        with = { suite = "${item}", at = "${index}" }
        [outputs]
        results = "${steps.test.output}"
        "#,
        &[("suites", r#"ok=["a","b","c"]"#), ("test[0]", "ok=0@30"), ("test[1]", "ok=1@10"), ("test[2]", "ok=2@10")],
        "
0 suites#1
0 suites succeeded
0 test opened
0 test[0]
0 test[1]
0 test[0]#1
0 test[1]#1
10 test[1] succeeded
10 test[2]
10 test[2]#1
20 test[2] succeeded
30 test[0] succeeded
30 test succeeded
30 Succeeded {\"results\":[0,1,2]}",
    );
}

#[test]
fn an_empty_list_is_done_at_once() {
    check(
        r#"
        [steps.test]
        foreach = []
        use = "any"
        [outputs]
        results = "${steps.test.output}"
        "#,
        &[],
        r#"
0 test opened
0 test succeeded
0 Succeeded {"results":[]}"#,
    );
}

#[test]
fn items_are_tried_again_each_by_itself() {
    check(
        r#"
        [steps.test]
        foreach = ["a", "b"]
        use = "any"
        retry = { attempts = 2, delay = "100ms", jitter = false }
        "#,
        &[("test[0]", "ok@10"), ("test[1]", "transient@10 ok@10")],
        "
0 test opened
0 test[0]
0 test[1]
0 test[0]#1
0 test[1]#1
10 test[0] succeeded
10 test[1] failed: Transient
110 test[1]#2
120 test[1] succeeded
120 test succeeded
120 Succeeded {}",
    );
}

#[test]
fn the_other_items_are_ended_once_one_has_failed_if_the_rest_is_to_be() {
    check(
        r#"
        [steps.test]
        foreach = { in = ["a", "b", "c"], parallel = 2, rest = "cancel" }
        use = "any"
        "#,
        &[("test[0]", "permanent@10"), ("test[1]", "ok@90")],
        "
0 test opened
0 test[0]
0 test[1]
0 test[0]#1
0 test[1]#1
10 test[0] failed: Permanent
10 test[1] cancelled
10 test failed: 1 of 3 items failed: item 0 (a): scripted
10 Failed {}",
    );
}

#[test]
fn enough_items_are_enough_and_the_others_go_on() {
    check(
        r#"
        [steps.ask]
        foreach = { in = [1, 2, 3], join = { at-least = 2 } }
        use = "any"
        with = { n = "${item}" }
        [steps.next]
        needs = ["ask"]
        use = "any"
        with = { got = "${steps.ask.output}" }
        "#,
        &[("ask[0]", "ok=1@10"), ("ask[1]", "ok=2@20"), ("ask[2]", "permanent@50"), ("next", "ok@5")],
        "
0 ask opened
0 ask[0]
0 ask[1]
0 ask[2]
0 ask[0]#1
0 ask[1]#1
0 ask[2]#1
10 ask[0] succeeded
20 ask[1] succeeded
20 ask succeeded
20 next#1
25 next succeeded
50 ask[2] failed: Permanent
50 Succeeded {}",
    );
}

#[test]
fn rounds_follow_each_other_until_a_rule_holds() {
    check(
        r#"
        [steps.poll]
        repeat = { until = "steps.poll.output.ready", max = 5, delay = "1s" }
        use = "any"
        with = { before = "${previous}", round = "${index}" }
        [outputs]
        last = "${steps.poll.output}"
        "#,
        &[("poll[0]", r#"ok={"ready":false}"#), ("poll[1]", r#"ok={"ready":true}"#)],
        r#"
0 poll opened
0 poll[0]
0 poll[0]#1
0 poll[0] succeeded
1000 poll[1]
1000 poll[1]#1
1000 poll[1] succeeded
1000 poll succeeded
1000 Succeeded {"last":{"ready":true}}"#,
    );
}

#[test]
fn a_loop_that_goes_on_too_long_fails() {
    check(
        r#"
        [steps.poll]
        repeat = { while = "previous == null || previous < 3", max = 2 }
        use = "any"
        "#,
        &[("poll", "ok=1")],
        "
0 poll opened
0 poll[0]
0 poll[0]#1
0 poll[0] succeeded
0 poll[1]
0 poll[1]#1
0 poll[1] succeeded
0 poll failed: after 2 rounds, its rule still asks for another
0 Failed {}",
    );
}

#[test]
fn the_rules_of_rounds_see_how_many_are_done() {
    check(
        r#"
        [steps.around]
        foreach = [7]
        [steps.around.steps.beat]
        repeat = { while = "index < 2", max = 5 }
        use = "any"
        "#,
        &[],
        "
0 around opened
0 around[0]
0 around[0]/beat opened
0 around[0]/beat[0]
0 around[0]/beat[0]#1
0 around[0]/beat[0] succeeded
0 around[0]/beat[1]
0 around[0]/beat[1]#1
0 around[0]/beat[1] succeeded
0 around[0]/beat succeeded
0 around succeeded
0 Succeeded {}",
    );
}

#[test]
fn a_while_that_never_holds_has_no_round() {
    check(
        r#"
        [steps.poll]
        repeat = { while = "previous != null", max = 2 }
        use = "any"
        [steps.next]
        needs = ["poll"]
        use = "any"
        "#,
        &[],
        "
0 poll opened
0 poll succeeded
0 next#1
0 next succeeded
0 Succeeded {}",
    );
}

#[test]
fn a_number_of_rounds_is_just_that() {
    check(
        r#"
        [steps.beat]
        repeat = 2
        [steps.beat.steps.one]
        use = "any"
        [steps.beat.steps.two]
        needs = ["one"]
        use = "any"
        "#,
        &[],
        "
0 beat opened
0 beat[0]
0 beat[0]/one#1
0 beat[0]/one succeeded
0 beat[0]/two#1
0 beat[0]/two succeeded
0 beat[1]
0 beat[1]/one#1
0 beat[1]/one succeeded
0 beat[1]/two#1
0 beat[1]/two succeeded
0 beat succeeded
0 Succeeded {}",
    );
}

const DEPLOY: &str = r#"
[inputs]
target = { type = "string" }
loud = { type = "boolean", default = false }
[steps.push]
use = "any"
with = { to = "${inputs.target}", loud = "${inputs.loud}", by = "${workflow.name}" }
[outputs]
where = "${steps.push.output}"
"#;

#[test]
fn a_workflow_is_a_step_of_another() {
    let plan = plan_with(
        r#"
        [steps.stage]
        workflow = "deploy.toml"
        with = { target = "staging" }
        [outputs]
        staged = "${steps.stage.output.where}"
        "#,
        &[("deploy.toml", DEPLOY)],
    );
    check_plan(
        &Arc::new(plan),
        &[("push", "ok=\"here\"")],
        r#"
0 stage opened
0 stage[0]
0 stage/push#1
0 stage/push succeeded
0 stage succeeded
0 Succeeded {"staged":"here"}"#,
    );
}

#[test]
fn each_item_opens_a_workflow_with_inputs_of_its_own() {
    let plan = plan_with(
        r#"
        [steps.list]
        use = "any"
        [steps.stage]
        needs = ["list"]
        foreach = "${steps.list.output}"
        workflow = "deploy.toml"
        with = { target = "${item}" }
        "#,
        &[("deploy.toml", DEPLOY)],
    );
    check_plan(
        &Arc::new(plan),
        &[("list", r#"ok=["eu",3]"#)],
        "
0 list#1
0 list succeeded
0 stage opened
0 stage[0]
0 stage[1]
0 stage[1]/push skipped: `stage` ended it all before its turn
0 stage[0]/push#1
0 stage[0]/push succeeded
0 stage failed: 1 of 2 items failed: item 1 (3): input `target` has to be a string, not an integer
0 Failed {}",
    );
}

#[test]
fn a_workflow_may_open_itself_and_goes_no_deeper_than_the_bound() {
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
    let toml = |left: u32| format!("[steps.start]\nworkflow = \"again.toml\"\nwith = {{ left = {left} }}");
    let files = &[("again.toml", again)];
    check_plan(
        &Arc::new(plan_with(&toml(1), files)),
        &[],
        "
0 start opened
0 start[0]
0 start/work#1
0 start/work succeeded
0 start/down opened
0 start/down[0]
0 start/down/work#1
0 start/down/work succeeded
0 start/down/down skipped: `when` was false: inputs.left > 0, where inputs.left is 0
0 start/down succeeded
0 start succeeded
0 Succeeded {}",
    );
    let deep = play::Play::of(&Arc::new(plan_with(&toml(100), files)), &[], None);
    assert_eq!(deep.outcome(), Some(downbeat_workflow::event::Outcome::Failed));
    assert!(deep.log.iter().any(|line| line.ends_with("scopes nest at most 32 levels deep")), "{:#?}", deep.log);
}

#[test]
fn a_detached_workflow_goes_on_by_itself_and_the_run_waits_for_it() {
    let plan = plan_with(
        r#"
        [steps.stage]
        workflow = "deploy.toml"
        with = { target = "staging" }
        detached = true
        [steps.next]
        needs = ["stage"]
        use = "any"
        "#,
        &[("deploy.toml", DEPLOY)],
    );
    check_plan(
        &Arc::new(plan),
        &[("push", "ok@20"), ("next", "ok@5")],
        "
0 stage opened
0 stage[0]
0 stage succeeded
0 next#1
0 stage/push#1
5 next succeeded
20 stage/push succeeded
20 Succeeded {}",
    );
}

/// A block whose rounds detach what they begin.
fn rounds_that_detach() -> Arc<downbeat_workflow::plan::Plan> {
    let toml = r#"
        [steps.block]
        [steps.block.steps.intake]
        repeat = 2
        [steps.block.steps.intake.steps.go]
        workflow = "deploy.toml"
        with = { target = "staging" }
        detached = true
        [steps.next]
        needs = ["block.finished"]
        use = "any"
        "#;
    Arc::new(plan_with(toml, &[("deploy.toml", DEPLOY)]))
}

#[test]
fn a_round_leaves_behind_what_it_detached_and_what_is_around_waits_for_it() {
    check_plan(
        &rounds_that_detach(),
        &[("block/intake[0]/go/push", "ok@30"), ("block/intake[1]/go/push", "permanent@20")],
        "
0 block opened
0 block[0]
0 block/intake opened
0 block/intake[0]
0 block/intake[0]/go opened
0 block/intake[0]/go[0]
0 block/intake[0]/go succeeded
0 block/intake[1]
0 block/intake[0]/go/push#1
0 block/intake[1]/go opened
0 block/intake[1]/go[0]
0 block/intake[1]/go succeeded
0 block/intake succeeded
0 block/intake[1]/go/push#1
20 block/intake[1]/go/push failed: Permanent
30 block/intake[0]/go/push succeeded
30 block failed: `block/intake[1]/go/push` failed: scripted
30 next#1
30 next succeeded
30 Failed {}",
    );
}

#[test]
fn what_rounds_left_behind_is_ended_with_what_is_around_it() {
    check_plan(
        &rounds_that_detach(),
        &[("push", "ok@30"), ("cancel block", "@10")],
        "
0 block opened
0 block[0]
0 block/intake opened
0 block/intake[0]
0 block/intake[0]/go opened
0 block/intake[0]/go[0]
0 block/intake[0]/go succeeded
0 block/intake[1]
0 block/intake[0]/go/push#1
0 block/intake[1]/go opened
0 block/intake[1]/go[0]
0 block/intake[1]/go succeeded
0 block/intake succeeded
0 block/intake[1]/go/push#1
10 cancel block: enough
10 block/intake[0]/go/push cancelled
10 block/intake[1]/go/push cancelled
10 block cancelled
10 next#1
10 next succeeded
10 Succeeded {}",
    );
}

#[test]
fn an_end_ends_all_that_goes_on_beside_it() {
    check(
        r#"
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
        [always.clean]
        use = "any"
        "#,
        &[("look", "ok@10"), ("long", "ok@90")],
        "
0 look#1
0 long#1
10 look succeeded
10 done succeeded
10 later skipped: `done` ended it all before its turn
10 long cancelled
10 clean#1
10 clean succeeded
10 Succeeded {}",
    );
}

#[test]
fn a_failing_end_says_why() {
    check(
        r#"
        [inputs]
        [steps.look]
        use = "any"
        [steps.stop]
        needs = ["look"]
        when = "steps.look.output < 3"
        fail = "only ${steps.look.output} are left"
        [steps.long]
        use = "any"
        "#,
        &[("look", "ok=2@10"), ("long", "ok@90")],
        "
0 look#1
0 long#1
10 look succeeded
10 stop failed: only 2 are left
10 long cancelled
10 Failed {}",
    );
}

#[test]
fn what_was_done_is_undone_in_reverse_order_if_it_was_in_vain() {
    check(
        r#"
        [steps.a]
        use = "any"
        undo = { use = "any", with = { took = "${steps.a.output}" } }
        [steps.b]
        needs = ["a"]
        use = "any"
        undo = { use = "any", retry = { attempts = 2, delay = "1s", jitter = false } }
        [steps.c]
        needs = ["b"]
        use = "any"
        undo = { use = "any" }
        [always.tell]
        use = "any"
        "#,
        &[("a", "ok=1"), ("c", "permanent@10"), ("b.undo", "transient ok@5"), ("a.undo", "ok@5")],
        "
0 a#1
0 a succeeded
0 b#1
0 b succeeded
0 c#1
10 c failed: Permanent
10 b.undo#1
10 b.undo failed: Transient
1010 b.undo#2
1015 b.undo succeeded
1015 a.undo#1
1020 a.undo succeeded
1020 tell#1
1020 tell succeeded
1020 Failed {}",
    );
}

#[test]
fn nothing_is_undone_if_all_went_well() {
    check(
        r#"
        [steps.a]
        use = "any"
        undo = { use = "any" }
        "#,
        &[],
        "
0 a#1
0 a succeeded
0 Succeeded {}",
    );
}

#[test]
fn a_cancelled_run_is_undone_and_what_could_not_be_is_a_failed_step() {
    check(
        r#"
        [steps.a]
        use = "any"
        undo = { use = "any" }
        [steps.b]
        needs = ["a"]
        use = "any"
        undo = { use = "any" }
        "#,
        &[("b", "ok@90"), ("cancel", "@10"), ("a.undo", "permanent@5")],
        "
0 a#1
0 a succeeded
0 b#1
10 cancel: enough
10 b cancelled
10 a.undo#1
15 a.undo failed: Permanent
15 Cancelled {}",
    );
}

#[test]
fn blocks_and_items_are_undone_with_what_is_around_them() {
    check(
        r#"
        [steps.each]
        foreach = ["x", "y"]
        use = "any"
        undo = { use = "any", with = { it = "${item}", did = "${steps.each.output}" } }
        [steps.block]
        needs = ["each"]
        [steps.block.steps.in]
        use = "any"
        undo = { use = "any" }
        [steps.last]
        needs = ["block"]
        use = "any"
        "#,
        &[("each[0]", "ok=0@20"), ("each[1]", "ok=1@10"), ("last", "permanent")],
        "
0 each opened
0 each[0]
0 each[1]
0 each[0]#1
0 each[1]#1
10 each[1] succeeded
20 each[0] succeeded
20 each succeeded
20 block opened
20 block[0]
20 block/in#1
20 block/in succeeded
20 block succeeded
20 last#1
20 last failed: Permanent
20 block/in.undo#1
20 block/in.undo succeeded
20 each[0].undo#1
20 each[0].undo succeeded
20 each[1].undo#1
20 each[1].undo succeeded
20 Failed {}",
    );
}

#[test]
fn a_block_that_fails_undoes_its_own_before_it_is_tried_again() {
    check(
        r#"
        [steps.block]
        retry = { attempts = 2, delay = "1s", jitter = false }
        [steps.block.steps.a]
        use = "any"
        undo = { use = "any" }
        [steps.block.steps.b]
        needs = ["a"]
        use = "any"
        "#,
        &[("b", "permanent"), ("a.undo", "ok@5")],
        "
0 block opened
0 block[0]
0 block/a#1
0 block/a succeeded
0 block/b#1
0 block/b failed: Permanent
0 block/a.undo#1
5 block/a.undo succeeded
1005 block[0]
1005 block/a#1
1005 block/a succeeded
1005 block/b#1
1005 block/b failed: Permanent
1005 block/a.undo#1
1010 block/a.undo succeeded
1010 block failed: `block/b` failed: scripted
1010 Failed {}",
    );
}

#[test]
fn a_step_is_cancelled_with_all_that_it_opened_and_the_others_go_on() {
    check(
        r#"
        [steps.each]
        foreach = [1, 2, 3]
        parallel = 2
        use = "any"
        [steps.other]
        use = "any"
        [steps.after]
        needs = ["each.finished"]
        use = "any"
        "#,
        &[("each[0]", "ok@5"), ("each[1]", "ok@50"), ("each[2]", "ok@50"), ("other", "ok@20"), ("cancel each", "@10")],
        "
0 each opened
0 other#1
0 each[0]
0 each[1]
0 each[0]#1
0 each[1]#1
5 each[0] succeeded
5 each[2]
5 each[2]#1
10 cancel each: enough
10 each[1] cancelled
10 each[2] cancelled
10 each cancelled
10 after#1
10 after succeeded
20 other succeeded
20 Succeeded {}",
    );
}

#[test]
fn a_hundred_thousand_items_cost_their_number() {
    let plan = plan(
        "[steps.list]\nuse = \"any\"\n[steps.each]\nneeds = [\"list\"]\nforeach = \"${steps.list.output}\"\nparallel = 50\nuse = \"any\"",
    );
    let list: Vec<u32> = (0..100_000).collect();
    let list = serde_json::to_string(&list).unwrap();
    let played = play::quickly(&Arc::new(plan), &[("list", list.as_str())]);
    assert_eq!(played.outcome(), Some(downbeat_workflow::event::Outcome::Succeeded));
    assert_eq!(played.version(), 300_006);
    let each = played.plan().step_named("each").unwrap();
    assert_eq!(played.status(each).1, 1);
}

#[test]
fn steps_are_read_below_what_opened_them_and_tries_are_counted() {
    let plan = Arc::new(plan(
        r#"
        [steps.deploy]
        retry = { attempts = 2, delay = "1s", jitter = false }
        [steps.deploy.steps.push]
        foreach = ["eu", "us"]
        parallel = 1
        use = "any"
        [steps.deploy.steps.switch]
        needs = ["push"]
        use = "any"
        [steps.tell]
        needs = ["deploy.finished"]
        use = "any"
        "#,
    ));
    let played = play::Play::of(&plan, &[("switch", "permanent@10")], None);
    let scopes = played.run.scopes();
    let order: Vec<String> = scopes.in_reading_order(&plan).into_iter().map(|step| played.run.path(step)).collect();
    let once = ["deploy/push", "deploy/push[0]", "deploy/push[1]", "deploy/switch"];
    assert_eq!(order, [&["deploy"], &once[..], &once[..], &["tell"]].concat());
    let mut tries: Vec<(u32, u32)> = scopes.tries().into_values().collect();
    tries.sort_unstable();
    assert_eq!(tries, [(1, 2), (2, 2)], "items that were not tried again themselves are not counted");
}
