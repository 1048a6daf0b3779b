//! Plans whose text comes from somewhere else than this machine's journal: a file that somebody sent. What resolving makes
//! true, and nobody asks after it, is asked here, before the plan is linked: that every number leads somewhere, that needs
//! and blocks don't go round in circles, that no number is beyond what a workflow file may say.
//!
//! It does not make the plan one that resolving could have made: that needs the components. What is left unasked (names in
//! rules, types) ends in a rule's fault, as everywhere.

use std::ops::Range;

use crate::group::GROUP_BYTES_MAX;
use crate::inputs::INPUTS_BYTES_MAX;
use crate::plan::{BodyId, POOL_SIZE_MAX, Plan, Rate, ScopeCount, Step, StepNo, Work};
use crate::resolve::{PRIORITY_MAX, STEPS_MAX};
use crate::spec::RATE_COUNT_MAX;

/// The longest duration, in milliseconds: a hundred years, as in a workflow's text.
const DURATION_MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;

/// Reads a plan's canonical text, or says in a sentence why it can't be one.
pub fn plan(text: &str) -> Result<Plan, String> {
    let plan: Plan = serde_json::from_str(text).map_err(|error| error.to_string())?;
    judge(&plan)?;
    Ok(plan.link())
}

/// Whether a run of the plan may say at its creation that it has this priority, and excludes the others of this group.
pub fn may_begin(plan: &Plan, priority: i32, group: Option<&str>) -> bool {
    let is_group = |group: &str| plan.concurrency.is_some() && (1..=GROUP_BYTES_MAX).contains(&group.len());
    is_priority(priority) && group.is_none_or(is_group)
}

fn is_priority(priority: i32) -> bool {
    i64::from(priority).abs() <= PRIORITY_MAX
}

fn judge(plan: &Plan) -> Result<(), String> {
    let all = plan.steps.len();
    if all > STEPS_MAX {
        return Err(format!("it has more than {STEPS_MAX} steps"));
    }
    if plan
        .inputs
        .values()
        .filter_map(|input| input.default.as_ref())
        .any(|json| json.as_str().len() > INPUTS_BYTES_MAX)
    {
        return Err("the default of an input is too large".to_owned());
    }
    let is_rate = |rate: &Rate| {
        let window = Rate::WINDOWS.iter().any(|(_, ms)| *ms == rate.window_ms);
        window && (1..=RATE_COUNT_MAX).contains(&u64::from(rate.count))
    };
    if !plan.pools.iter().all(|pool| (1..=POOL_SIZE_MAX).contains(&pool.size) && pool.rate.as_ref().is_none_or(is_rate))
    {
        return Err("a pool has a size, or a rate, that none can have".to_owned());
    }
    if !std::iter::once(plan.priority).chain(plan.steps.iter().filter_map(|step| step.priority)).all(is_priority) {
        return Err(format!("a priority is not -{PRIORITY_MAX} to {PRIORITY_MAX}"));
    }
    // The workflow's own steps, then those of each body, one after the other.
    let own = 0..plan.bodies.first().map_or(all as u32, |body| body.steps.start);
    let ranges: Vec<Range<u32>> =
        std::iter::once(own).chain(plan.bodies.iter().map(|body| body.steps.clone())).collect();
    let meets = ranges.windows(2).all(|pair| pair[0].end == pair[1].start);
    if !meets
        || ranges.iter().any(|range| range.start > range.end)
        || ranges.last().is_none_or(|last| last.end as usize != all)
    {
        return Err("its bodies do not hold its steps one after the other".to_owned());
    }
    for range in &ranges {
        for (at, step) in range.clone().zip(&plan.steps[range.start as usize..range.end as usize]) {
            judge_step(plan, step, range).map_err(|what| format!("step {at}: {what}"))?;
        }
        refuse_circles(plan, range)?;
    }
    refuse_endless_blocks(plan, &ranges)
}

fn judge_step(plan: &Plan, step: &Step, body: &Range<u32>) -> Result<(), &'static str> {
    let is_here = |no: &StepNo| body.contains(&no.0);
    if !step.needs.iter().all(|need| is_here(&need.step)) {
        return Err("it needs a step that is not beside it");
    }
    if !step.undo.iter().chain(&step.undoes).all(is_here) {
        return Err("it undoes, or is undone by, a step that is not beside it");
    }
    if !step.cancels.iter().all(is_here) {
        return Err("it cancels a step that is not beside it");
    }
    if step.pool().is_some_and(|pool| pool.index() >= plan.pools.len()) {
        return Err("its pool is none of the plan's");
    }
    let retry = &step.retry;
    if retry.attempts == 0 || !retry.factor.is_finite() || retry.factor < 1.0 {
        return Err("its `retry` has no attempts, or a factor below 1");
    }
    let mut spans = vec![step.timeout_ms.unwrap_or(0), retry.delay_ms, retry.max_delay_ms];
    match &step.work {
        Work::Use(uses) => {
            if uses.plugin.index() >= plan.plugins.len() {
                return Err("its plugin is none of the plan's");
            }
            // Other runs would be answered with what was not computed from what the key tells of.
            if uses.cache && uses.grants.impurity().is_some() {
                return Err("its answer is to be kept, and its grants let it be another one each time");
            }
            if uses.cache && step.undo.is_some() {
                return Err("its answer is to be kept, and it is to be undone");
            }
            spans.push(uses.limits.time_ms);
        }
        Work::Open(opens) => {
            let Some(opened) = plan.bodies.get(opens.body.index().wrapping_sub(1)) else {
                return Err("it opens a body that is none of the plan's");
            };
            if opens.with.is_some() && opened.workflow.is_none() {
                return Err("it has inputs for a block");
            }
            match &opens.scopes {
                ScopeCount::Each(each) if !each.from.iter().all(is_here) => {
                    return Err("it works on the items of a step that is not beside it");
                }
                // An answer that is taken over has no items.
                ScopeCount::Each(each) if each.from.iter().any(|no| is_kept(plan, *no)) => {
                    return Err("it works on the items of a step whose answer is to be kept");
                }
                ScopeCount::Rounds(rounds) => spans.push(rounds.delay_ms),
                ScopeCount::One | ScopeCount::Each(_) => (),
            }
        }
        Work::Wait(wait) => {
            if wait.signal.is_some_and(|signal| signal.index() >= plan.signals.len()) {
                return Err("it waits for a signal that is none of the plan's");
            }
            spans.extend(wait.for_ms);
        }
        Work::Finish | Work::Fail(_) => {}
    }
    match spans.iter().all(|span| *span <= DURATION_MS_MAX) {
        true => Ok(()),
        false => Err("one of its durations is longer than a hundred years"),
    }
}

fn is_kept(plan: &Plan, no: StepNo) -> bool {
    matches!(&plan.step(no).work, Work::Use(uses) if uses.cache)
}

/// Refuses steps that need each other.
fn refuse_circles(plan: &Plan, body: &Range<u32>) -> Result<(), String> {
    let steps = &plan.steps[body.start as usize..body.end as usize];
    let place = |no: StepNo| (no.0 - body.start) as usize;
    let mut dependents = vec![Vec::new(); steps.len()];
    let mut left: Vec<usize> = steps.iter().map(|step| step.needs.len()).collect();
    for (at, step) in steps.iter().enumerate() {
        step.needs.iter().for_each(|need| dependents[place(need.step)].push(at));
    }
    let mut free: Vec<usize> = (0..steps.len()).filter(|at| left[*at] == 0).collect();
    let mut seen = 0;
    while let Some(at) = free.pop() {
        seen += 1;
        for dependent in &dependents[at] {
            left[*dependent] -= 1;
            if left[*dependent] == 0 {
                free.push(*dependent);
            }
        }
    }
    match seen == steps.len() {
        true => Ok(()),
        false => Err("steps need each other in a circle".to_owned()),
    }
}

/// Refuses blocks that open each other: only a sub-workflow may open itself.
fn refuse_endless_blocks(plan: &Plan, ranges: &[Range<u32>]) -> Result<(), String> {
    let mut around: Vec<Option<BodyId>> = vec![None; ranges.len()];
    for (at, range) in ranges.iter().enumerate() {
        for step in &plan.steps[range.start as usize..range.end as usize] {
            let Some(opens) = step.opens() else { continue };
            around[opens.body.index()] = Some(BodyId(at as u32));
        }
    }
    // Each body is walked out of once: 0 has not been seen, `start + 1` is on the way from `start`.
    let mut walk = vec![0; ranges.len()];
    for start in 0..ranges.len() {
        let mut here = start;
        while walk[here] == 0 {
            walk[here] = start + 1;
            let is_block = plan.body(BodyId(here as u32)).is_some_and(|body| body.workflow.is_none());
            let Some(outer) = around[here].filter(|_| is_block) else { break };
            here = outer.index();
            if walk[here] == start + 1 {
                return Err("blocks open each other in a circle".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Limits;
    use crate::description::Digest;
    use serde_json::{Value, json};

    /// A plan of two steps in a row, a block with one, a signal, a pool.
    fn text() -> Value {
        let step = |name: &str, work: Value, needs: Value| json!({ "name": name, "work": work, "needs": needs, "retry": { "attempts": 1, "delay-ms": 1000, "factor": 2.0, "max-delay-ms": 300_000, "jitter": true } });
        let mut text = json!({
            "name": "w", "directory": "/", "priority": 1, "plugins": [],
            "pools": [{ "name": "p", "size": 2, "rate": { "count": 1, "window-ms": 1_000 } }],
            "steps": [
                step("a", json!({ "wait": { "signal": 0 } }), json!([])),
                step("b", json!({ "open": { "body": 1, "scopes": "one" } }), json!([{ "step": 0, "state": "succeeded" }])),
                step("c", json!({ "wait": { "for-ms": 5 } }), json!([])),
            ],
            "signals": [{ "name": "go", "keep": true }],
            "bodies": [{ "steps": { "start": 2, "end": 3 }, "answer": { "outputs": [] } }],
        });
        text["steps"][2]["work"]["wait"]["pool"] = 0.into();
        text["steps"][2]["priority"] = (-1).into();
        text["steps"][0]["cancels"] = json!([1]);
        text
    }

    /// What is said of the plan with one of its values changed.
    fn said(pointer: &str, value: Value) -> String {
        let mut text = text();
        *text.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there")) = value;
        let parsed: Plan = serde_json::from_str(&text.to_string()).unwrap();
        judge(&parsed).expect_err("it is refused")
    }

    #[test]
    fn a_plan_that_holds_together_is_read() {
        assert_eq!(plan(&text().to_string()).unwrap().steps.len(), 3);
        assert!(plan("{").is_err());
    }

    #[test]
    fn numbers_that_lead_nowhere_are_refused() {
        assert!(said("/steps/1/needs/0/step", json!(9)).contains("step 1: it needs a step that is not beside it"));
        assert!(said("/steps/1/needs/0/step", json!(2)).contains("not beside it"), "of another body");
        assert!(said("/steps/1/needs/0/step", json!(1)).contains("in a circle"));
        assert!(said("/steps/0/cancels/0", json!(2)).contains("it cancels a step that is not beside it"));
        let each = json!({ "each": { "list": [], "from": [2], "join": "all", "rest": "wait" } });
        assert!(said("/steps/1/work/open/scopes", each).contains("the items of a step that is not beside it"));
        assert!(said("/steps/0/work/wait/signal", json!(1)).contains("a signal that is none"));
        for body in [0, 2] {
            assert!(said("/steps/1/work/open/body", json!(body)).contains("a body that is none"));
        }
        for (start, end) in [(1, 3), (2, 2), (2, 9), (3, 2)] {
            said("/bodies/0/steps", json!({ "start": start, "end": end }));
        }
        assert!(
            said("/steps/2/work", json!({ "open": { "body": 1, "scopes": "one" } })).contains("blocks open each other")
        );
        assert!(said("/steps/2/work/wait/for-ms", json!(u64::MAX)).contains("a hundred years"));
        assert!(said("/steps/0/retry/attempts", json!(0)).contains("`retry`"));
    }

    #[test]
    fn pools_rates_and_priorities_that_no_workflow_may_say_are_refused() {
        assert!(said("/pools/0/size", json!(0)).contains("a pool has a size"));
        assert!(said("/pools/0/size", json!(u32::MAX)).contains("a pool has a size"));
        for (key, number) in [("count", 0), ("count", u32::MAX), ("window-ms", 0), ("window-ms", 7)] {
            assert!(said(&format!("/pools/0/rate/{key}"), json!(number)).contains("or a rate"), "{key} {number}");
        }
        assert!(said("/steps/2/work/wait/pool", json!(1)).contains("its pool is none"));
        for place in ["/priority", "/steps/2/priority"] {
            assert!(said(place, json!(i32::MIN)).contains("a priority is not -1000 to 1000"), "{place}");
        }
    }

    #[test]
    fn an_answer_is_kept_only_of_a_step_that_computes() {
        let uses = |grants: Value| {
            let limits = serde_json::to_value(Limits::default()).unwrap();
            json!({ "use": { "plugin": 0, "with": {}, "limits": limits, "grants": grants, "cache": true } })
        };
        let description = json!({
            "name": "any", "version": "1.0.0", "summary": "", "input-schema": {}, "output-schema": {}, "wants": [],
        });
        let component = json!({ "digest": Digest::of(b"wasm"), "description": description });
        let with = |grants: Value| {
            let mut text = text();
            text["steps"][2]["work"] = uses(grants);
            text["plugins"] = json!([{ "name": "any", "component": component, "path": "/any.wasm" }]);
            plan(&text.to_string())
        };
        with(json!({})).unwrap();
        assert!(with(json!({ "clock": true })).unwrap_err().contains("step 2: its answer is to be kept"));
    }

    #[test]
    fn a_run_has_a_group_only_by_its_plan_and_a_priority_within_bounds() {
        let mut plan = plan(&text().to_string()).unwrap();
        assert!(may_begin(&plan, 1_000, None) && !may_begin(&plan, 1_001, None));
        assert!(!may_begin(&plan, 0, Some("site")));
        plan.concurrency = serde_json::from_str(r#"{ "group": "site" }"#).unwrap();
        assert!(may_begin(&plan, 0, Some("site")) && may_begin(&plan, 0, None));
        assert!(!may_begin(&plan, 0, Some("")) && !may_begin(&plan, 0, Some(&"x".repeat(GROUP_BYTES_MAX + 1))));
    }
}
