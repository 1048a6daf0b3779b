//! Steps that wait, in virtual time: for a time, for a signal, for somebody's word, for the first of several.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use play::check;

#[test]
fn a_step_waits_so_long() {
    check(
        r#"
        [steps.pause]
        wait = "10m"
        [steps.next]
        needs = ["pause"]
        use = "any"
        "#,
        &[],
        r#"
0 pause opened
600000 pause succeeded: {"by":"time"}
600000 next#1
600000 next succeeded
600000 Succeeded {}"#,
    );
}

#[test]
fn a_step_waits_until_a_time_that_may_be_gone() {
    check(
        r#"
        [steps.look]
        use = "any"
        [steps.soon]
        needs = ["look"]
        wait = { until = "${steps.look.output}" }
        [steps.gone]
        wait = { until = 1969-07-20T20:17:40Z }
        "#,
        &[("look", r#"ok="1970-01-01T00:00:02+00:00""#)],
        r#"
0 look#1
0 gone opened
0 gone succeeded: {"by":"time"}
0 look succeeded
0 soon opened
2000 soon succeeded: {"by":"time"}
2000 Succeeded {}"#,
    );
}

#[test]
fn what_is_no_time_fails_the_step() {
    check(
        r#"
        [steps.look]
        use = "any"
        [steps.soon]
        needs = ["look"]
        wait = { until = "${steps.look.output}" }
        "#,
        &[("look", r#"ok="tomorrow""#)],
        "
0 look#1
0 look succeeded
0 soon failed: `tomorrow` is no time such as `2026-12-24T18:00:00Z`
0 Failed {}",
    );
}

#[test]
fn a_signal_reaches_all_who_wait_and_is_kept_for_the_next_if_nobody_does() {
    check(
        r#"
        [signals.go]
        [steps.a]
        wait = { signal = "go" }
        [steps.b]
        wait = { signal = "go" }
        [steps.work]
        needs = ["a", "b"]
        use = "any"
        [steps.c]
        needs = ["work"]
        wait = { signal = "go" }
        [steps.d]
        needs = ["c"]
        wait = { signal = "go" }
        "#,
        &[("signal go", "@10 @20 @90"), ("work", "ok@50")],
        r#"
0 a opened
0 b opened
10 signal go
10 a succeeded: {"by":"signal","data":1}
10 b succeeded: {"by":"signal","data":1}
10 work#1
20 signal go
60 work succeeded
60 c opened
60 c succeeded: {"by":"signal","data":1}
60 d opened
90 signal go
90 d succeeded: {"by":"signal","data":1}
90 Succeeded {}"#,
    );
}

#[test]
fn a_signal_that_is_not_kept_is_lost_when_nobody_waits() {
    check(
        r#"
        [signals]
        go = { keep = false }
        [steps.work]
        use = "any"
        [steps.wait]
        needs = ["work"]
        wait = { signal = "go", for = "1s" }
        "#,
        &[("signal go", "@10"), ("work", "ok@50")],
        r#"
0 work#1
10 signal go
50 work succeeded
50 wait opened
1050 wait succeeded: {"by":"time"}
1050 Succeeded {}"#,
    );
}

#[test]
fn what_comes_first_of_several_decides() {
    check(
        r#"
        [signals.go]
        [steps.wait]
        wait = { signal = "go", approval = "ann", for = "1s" }
        [steps.signalled]
        needs = ["wait"]
        when = "steps.wait.output.by == 'signal'"
        use = "any"
        [steps.approved]
        needs = ["wait"]
        when = "steps.wait.output.by == 'approval' && steps.wait.output.who == 'ann'"
        use = "any"
        "#,
        &[("approve wait", "@20"), ("signal go", "@30")],
        r#"
0 wait opened
20 ann approved wait
20 wait succeeded: {"by":"approval","who":"ann","note":""}
20 signalled skipped: `when` was false: steps.wait.output.by == 'signal', where steps.wait.output.by is "approval"
20 approved#1
20 approved succeeded
20 Succeeded {}"#,
    );
}

#[test]
fn a_rejection_and_a_silence_are_failures_of_two_kinds() {
    check(
        r#"
        [steps.ask]
        wait = { approval = ["ann", "bob"], question = "Promote?" }
        [steps.ask_again]
        needs = ["ask.failed"]
        wait = { approval = ["ann"] }
        timeout = "4h"
        [steps.late]
        needs = ["ask_again.failed"]
        when = "steps.ask.failure.kind == 'rejected' && steps.ask_again.failure.kind == 'timed-out'"
        use = "any"
        "#,
        &[("reject ask", "@10")],
        "
0 ask opened
10 ann rejected ask
10 ask failed: ann rejected it
10 ask_again opened
14400010 ask_again failed: nobody and nothing ended the waiting within its timeout
14400010 late#1
14400010 late succeeded
14400010 Failed {}",
    );
}

#[test]
fn a_run_that_is_cancelled_or_timed_out_waits_no_longer() {
    let toml = r#"
        timeout = "1h"
        [signals.go]
        [steps.wait]
        wait = { signal = "go" }
        [steps.each]
        foreach = [1, 2]
        wait = { signal = "go" }
        "#;
    check(
        toml,
        &[("cancel", "@10")],
        "
0 wait opened
0 each opened
0 each[0]
0 each[1]
0 each[0] opened
0 each[1] opened
10 cancel: enough
10 wait cancelled
10 each[0] cancelled
10 each[1] cancelled
10 each cancelled
10 Cancelled {}",
    );
    check(
        toml,
        &[],
        "
0 wait opened
0 each opened
0 each[0]
0 each[1]
0 each[0] opened
0 each[1] opened
3600000 timed out
3600000 wait cancelled
3600000 each[0] cancelled
3600000 each[1] cancelled
3600000 each cancelled
3600000 TimedOut {}",
    );
}
