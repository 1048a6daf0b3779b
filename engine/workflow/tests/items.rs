//! Lists that grow while they are worked on, what decides about them, and steps that are needed as begun; in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use play::check;

const EACH: &str = r#"
    [steps.scan]
    use = "any"
    retry = { attempts = 2, delay = "10ms", jitter = false }
    [steps.each]
    needs = ["scan.started"]
    foreach = "${steps.scan.items}"
    use = "any"
    with = { item = "${item}" }
    [steps.tell]
    needs = ["each"]
    use = "any"
    with = { all = "${steps.each.output}" }
"#;

#[test]
fn items_are_worked_on_while_more_of_them_come() {
    check(
        EACH,
        &[
            ("items scan", r#"["a"]@10 ["b","c"]@20"#),
            ("scan", "ok@100"),
            ("each[0]", "ok=1@5"),
            ("each[1]", "ok=2@50"),
            ("each[2]", "ok=3@100"),
        ],
        r#"
0 scan#1
0 each opened
10 scan appends 0: "a"
10 each[0]
10 each[0]#1
15 each[0] succeeded
20 scan appends 1: "b" "c"
20 each[1]
20 each[2]
20 each[1]#1
20 each[2]#1
70 each[1] succeeded
100 scan succeeded
120 each[2] succeeded
120 each succeeded
120 tell#1
120 tell succeeded
120 Succeeded {}"#,
    );
}

#[test]
fn a_list_that_stays_empty_is_done_when_it_is_whole() {
    check(
        EACH,
        &[("scan", "ok@100")],
        r#"
0 scan#1
0 each opened
100 scan succeeded
100 each succeeded
100 tell#1
100 tell succeeded
100 Succeeded {}"#,
    );
}

#[test]
fn what_a_repeated_attempt_appends_again_is_not_appended() {
    check(
        EACH,
        &[("items scan", r#"["a"]@10 ["b","c"]@20"#), ("scan", "transient@15 ok@30"), ("each", "ok@1")],
        r#"
0 scan#1
0 each opened
10 scan appends 0: "a"
10 each[0]
10 each[0]#1
11 each[0] succeeded
15 scan failed: Transient
25 scan#2
45 scan appends 1: "b" "c"
45 each[1]
45 each[2]
45 each[1]#1
45 each[2]#1
46 each[1] succeeded
46 each[2] succeeded
55 scan succeeded
55 each succeeded
55 tell#1
55 tell succeeded
55 Succeeded {}"#,
    );
}

#[test]
fn a_list_that_is_not_whole_fails_the_step_once_its_items_are_done() {
    check(
        EACH,
        &[("items scan", r#"["a"]@10"#), ("scan", "permanent@15"), ("each", "ok@30")],
        r#"
0 scan#1
0 each opened
10 scan appends 0: "a"
10 each[0]
10 each[0]#1
15 scan failed: Permanent
40 each[0] succeeded
40 each failed: the list is not whole: `scan` failed: scripted
40 tell skipped: it needs `each` to succeed, but `each` failed
40 Failed {}"#,
    );
}

#[test]
fn a_step_that_takes_what_there_is_does_not_mind_that_more_can_t_come() {
    check(
        r#"
        [steps.scan]
        use = "any"
        [steps.each]
        needs = ["scan.started"]
        foreach = { in = "${steps.scan.items}", join = "merge" }
        use = "any"
        "#,
        &[("items scan", "[1,2]@10"), ("scan", "permanent@15"), ("each[0]", "ok=7@30"), ("each[1]", "permanent@1")],
        r#"
0 scan#1
0 each opened
10 scan appends 0: 1 2
10 each[0]
10 each[1]
10 each[0]#1
10 each[1]#1
11 each[1] failed: Permanent
15 scan failed: Permanent
40 each[0] succeeded
40 each succeeded
40 Failed {}"#,
    );
}

#[test]
fn a_list_is_worked_on_when_it_is_whole_if_that_is_what_is_needed() {
    check(
        r#"
        [steps.scan]
        use = "any"
        [steps.each]
        needs = ["scan"]
        foreach = { in = "${steps.scan.items}", parallel = 1 }
        use = "any"
        "#,
        &[("items scan", "[1,2]@10"), ("scan", "ok@15"), ("each", "ok@10")],
        r#"
0 scan#1
10 scan appends 0: 1 2
15 scan succeeded
15 each opened
15 each[0]
15 each[0]#1
25 each[0] succeeded
25 each[1]
25 each[1]#1
35 each[1] succeeded
35 each succeeded
35 Succeeded {}"#,
    );
}

#[test]
fn enough_items_end_the_others_while_the_list_still_grows() {
    check(
        r#"
        [steps.scan]
        use = "any"
        [steps.each]
        needs = ["scan.started"]
        foreach = { in = "${steps.scan.items}", join = { at-least = 2 }, rest = "cancel" }
        use = "any"
        [steps.tell]
        needs = ["each"]
        use = "any"
        "#,
        &[
            ("items scan", "[1,2,3]@10 [4]@50"),
            ("scan", "ok@100"),
            ("each[0]", "ok@10"),
            ("each[1]", "ok@90"),
            ("each[2]", "ok@20"),
        ],
        r#"
0 scan#1
0 each opened
10 scan appends 0: 1 2 3
10 each[0]
10 each[1]
10 each[2]
10 each[0]#1
10 each[1]#1
10 each[2]#1
20 each[0] succeeded
30 each[2] succeeded
30 each[1] cancelled
30 each succeeded
30 tell#1
30 tell succeeded
50 scan appends 3: 4
100 scan succeeded
100 Succeeded {}"#,
    );
}

#[test]
fn a_rule_decides_whenever_an_item_has_ended() {
    check(
        r#"
        [steps.scan]
        use = "any"
        [steps.bid]
        needs = ["scan.started"]
        rest = "wait"
        [steps.bid.foreach]
        in = "${steps.scan.items}"
        until = "items.outputs.exists(bid, bid.price < 100) || items.failed > 2"
        rest = "cancel"
        [steps.bid.steps.ask]
        use = "any"
        [steps.bid.outputs]
        price = "${steps.ask.output}"
        [steps.buy]
        needs = ["bid"]
        use = "any"
        "#,
        &[
            ("items scan", "[1,2]@0 [3,4]@10"),
            ("scan", "ok@200"),
            ("bid[0]/ask", "ok=150@5"),
            ("bid[1]/ask", "permanent@10"),
            ("bid[2]/ask", "ok=90@20"),
            ("bid[3]/ask", "ok=80@100"),
        ],
        r#"
0 scan#1
0 bid opened
0 scan appends 0: 1 2
0 bid[0]
0 bid[1]
0 bid[0]/ask#1
0 bid[1]/ask#1
5 bid[0]/ask succeeded
10 scan appends 2: 3 4
10 bid[2]
10 bid[3]
10 bid[2]/ask#1
10 bid[3]/ask#1
10 bid[1]/ask failed: Permanent
30 bid[2]/ask succeeded
30 bid[3]/ask cancelled
30 bid succeeded
30 buy#1
30 buy succeeded
200 scan succeeded
200 Succeeded {}"#,
    );
}

#[test]
fn a_rule_that_never_holds_leaves_it_to_the_join() {
    let toml = |join: &str| {
        format!(
            r#"
            [steps.each]
            foreach = {{ in = [1, 2], until = "items.succeeded > 5"{join} }}
            use = "any"
            "#
        )
    };
    check(
        &toml(""),
        &[("each[0]", "permanent@1"), ("each[1]", "ok@9")],
        r#"
0 each opened
0 each[0]
0 each[1]
0 each[0]#1
0 each[1]#1
1 each[0] failed: Permanent
9 each[1] succeeded
9 each failed: 1 of 2 items failed: item 0 (1): scripted
9 Failed {}"#,
    );
    check(
        &toml(", join = \"merge\", rest = \"cancel\""),
        &[("each[0]", "permanent@1"), ("each[1]", "ok@9")],
        r#"
0 each opened
0 each[0]
0 each[1]
0 each[0]#1
0 each[1]#1
1 each[0] failed: Permanent
9 each[1] succeeded
9 each succeeded
9 Succeeded {}"#,
    );
}

#[test]
fn a_rule_that_can_t_be_evaluated_fails_the_step() {
    check(
        r#"
        [steps.each]
        foreach = { in = [1, 2], until = "items.outputs[0].price < 3", rest = "cancel" }
        use = "any"
        "#,
        &[("each[0]", "ok=7@1"), ("each[1]", "ok@9")],
        r#"
0 each opened
0 each[0]
0 each[1]
0 each[0]#1
0 each[1]#1
1 each[0] succeeded
1 each[1] cancelled
1 each failed: `until` can't be evaluated: `items.outputs[0].price`: `items.outputs[0]` is an integer, which has no `price`
1 Failed {}"#,
    );
}

#[test]
fn a_step_may_need_that_another_has_begun() {
    check(
        r#"
        signals.go = {}
        [steps.open]
        wait = { signal = "go", for = "1s" }
        [steps.serve]
        use = "any"
        when = "false"
        [steps.watch]
        needs = ["open.started"]
        when = "steps.open.status == 'unfinished'"
        use = "any"
        [steps.none]
        needs = ["serve.started"]
        use = "any"
        [steps.late]
        needs = ["open.started", "open.finished"]
        use = "any"
        "#,
        &[("signal go", "@50"), ("watch", "ok@10")],
        r#"
0 open opened
0 serve skipped: `when` was false: false
0 watch#1
0 none skipped: it needs `serve` to start, but `serve` was skipped
10 watch succeeded
50 signal go
50 open succeeded: {"by":"signal","data":1}
50 late#1
50 late succeeded
50 Succeeded {}"#,
    );
}

#[test]
fn a_begin_may_end_what_serves_a_join() {
    check(
        r#"
        [steps.a]
        use = "any"
        [steps.b]
        use = "any"
        [steps.first]
        needs = ["a.started", "b.started"]
        join = "any"
        rest = "cancel"
        use = "any"
        "#,
        &[("a", "ok@50"), ("b", "ok@50"), ("first", "ok@10")],
        r#"
0 a#1
0 b skipped: `first` does not need it any more
0 first#1
0 a cancelled
10 first succeeded
10 Succeeded {}"#,
    );
}

#[test]
fn rules_see_what_is_around_the_innermost_item_or_round() {
    check(
        r#"
        [steps.city]
        foreach = ["x", "y"]
        [steps.city.steps.try]
        repeat = { max = 3, while = "index <= outer.index" }
        use = "any"
        [steps.city.steps.street]
        needs = ["try"]
        foreach = [7]
        when = "item == 'x'"
        [steps.city.steps.street.steps.tell]
        fail = "${outer.item}${outer.index} ${item}${index}"
        "#,
        &[],
        r#"
0 city opened
0 city[0]
0 city[1]
0 city[0]/try opened
0 city[1]/try opened
0 city[0]/try[0]
0 city[1]/try[0]
0 city[0]/try[0]#1
0 city[1]/try[0]#1
0 city[0]/try[0] succeeded
0 city[0]/try succeeded
0 city[0]/street opened
0 city[0]/street[0]
0 city[0]/street[0]/tell failed: x0 70
0 city[0]/street failed: 1 of 1 items failed: item 0 (7): `city[0]/street[0]/tell` failed: x0 70
0 city[1]/try[0] succeeded
0 city[1]/try[1]
0 city[1]/try[1]#1
0 city[1]/try[1] succeeded
0 city[1]/try succeeded
0 city[1]/street skipped: `when` was false: item == 'x', where item is "y"
0 city failed: 1 of 2 items failed: item 0 (x): `city[0]/street` failed: 1 of 1 items failed: item 0 (7): `city[0]/street[0]/tell` failed: x0 70
0 Failed {}"#,
    );
}

#[test]
fn a_round_is_about_the_item_around_it() {
    check(
        r#"
        [steps.city]
        foreach = ["x"]
        [steps.city.steps.poll]
        repeat = 1
        [steps.city.steps.poll.steps.tell]
        fail = "${item}"
        "#,
        &[],
        r#"
0 city opened
0 city[0]
0 city[0]/poll opened
0 city[0]/poll[0]
0 city[0]/poll[0]/tell failed: x
0 city[0]/poll failed: `city[0]/poll[0]/tell` failed: x
0 city failed: 1 of 1 items failed: item 0 (x): `city[0]/poll` failed: `city[0]/poll[0]/tell` failed: x
0 Failed {}"#,
    );
}

#[test]
fn a_cancelled_step_leaves_a_list_that_is_not_whole() {
    check(
        EACH,
        &[("items scan", "[1]@10"), ("scan", "ok@100"), ("each", "ok@5"), ("cancel scan", "@50")],
        r#"
0 scan#1
0 each opened
10 scan appends 0: 1
10 each[0]
10 each[0]#1
15 each[0] succeeded
50 cancel scan: enough
50 scan cancelled
50 each failed: the list is not whole: `scan` was cancelled
50 tell skipped: it needs `each` to succeed, but `each` failed
50 Failed {}"#,
    );
}
