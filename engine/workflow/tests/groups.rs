//! Runs that exclude each other as a whole, in virtual time: one run, before whose turn another one has its group.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;

#[allow(dead_code, reason = "another test needs the rest of it")]
mod plans;
#[allow(dead_code, reason = "another test needs the rest of it")]
mod play;

use downbeat_workflow::event::{Event, Record, RunId, Timestamp};
use downbeat_workflow::explain::Account;
use downbeat_workflow::json::Json;
use downbeat_workflow::run::{Claim, Run};
use plans::plan;
use play::{Play, check};

const DEPLOY: &str = r#"
    timeout = "1m"
    inputs.region = { type = "string", default = "eu" }
    concurrency.group = "deploy-${inputs.region}"
    [steps.push]
    use = "any"
    [always.tell]
    use = "any"
    "#;

#[test]
fn nothing_of_a_run_happens_before_its_turn_and_its_timeout_counts_from_there() {
    check(
        DEPLOY,
        &[("push", "ok@50000"), ("admit", "@90000")],
        "
90000 admitted to deploy-eu
90000 push#1
140000 push succeeded
140000 tell#1
140000 tell succeeded
140000 Succeeded {}",
    );
}

#[test]
fn a_run_that_finds_its_group_free_is_admitted_at_once() {
    check(
        DEPLOY,
        &[],
        "0 admitted to deploy-eu\n0 push#1\n0 push succeeded\n0 tell#1\n0 tell succeeded\n0 Succeeded {}",
    );
}

#[test]
fn a_run_that_is_cancelled_while_it_waits_does_nothing_not_even_what_it_always_does() {
    check(
        DEPLOY,
        &[("cancel", "@10"), ("admit", "@20")],
        "
10 cancel: enough
10 push skipped: the run was cancelled before its turn
10 tell skipped: the run was cancelled before its turn
10 Cancelled {}",
    );
}

#[test]
fn the_group_is_free_with_the_last_record_and_not_before() {
    let play = Play::of(&Arc::new(plan(DEPLOY)), &[], None);
    let mut run = Run::new(play.run.plan().clone(), play.run.id().clone());
    for record in &play.records {
        assert_eq!(run.freed(), []);
        run.apply(record).unwrap();
    }
    assert_eq!(run.freed(), [Claim::Run]);
}

#[test]
fn a_group_is_named_by_the_runs_inputs_or_there_is_a_reason() {
    let plan = plan(
        r#"
        inputs.site = { type = "string" }
        concurrency = { group = "${inputs.site}" }
        [steps.push]
        use = "any"
        "#,
    );
    let group = |site: &str| plan.group_of(&Json::from(serde_json::json!({ "site": site })));
    assert_eq!(group(" eu "), Ok(Some("eu".to_owned())));
    assert!(group("").unwrap_err().contains("no name"));
    assert!(group(&"x".repeat(300)).unwrap_err().contains("300 bytes"));
    assert!(plan.group_of(&Json::parse("{}").unwrap()).unwrap_err().contains("can't be made"));
}

#[test]
fn how_long_a_run_waited_for_its_group_is_explained() {
    let play = Play::of(&Arc::new(plan(DEPLOY)), &[("push", "ok@1000"), ("admit", "@3000")], None);
    let of = |records: &[Record], now: u64| {
        Account::of(play.run.plan(), &RunId("r".into()), records, Timestamp(now), None).unwrap()
    };
    let account = of(&play.records, 0);
    assert_eq!((account.steps[0].times.group_ms, account.steps[0].times.running_ms), (3_000, 1_000));
    let page = account.page();
    assert!(page.contains("it was its turn in the group `deploy-eu`"), "{page}");
    assert!(page.contains("3.0 s in line for the group of its run"), "{page}");
    // And while it waits.
    let waiting: Vec<Record> = play.records.iter().take(1).cloned().collect();
    assert!(matches!(waiting[0].event, Event::RunCreated { .. }));
    let page = of(&waiting, 2_000).step_page(0);
    assert!(page.contains("another one of it is not over"), "{page}");
}
