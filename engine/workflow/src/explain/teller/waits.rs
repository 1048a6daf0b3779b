//! What a step waits for that waits, and what ended its waiting.

use super::Teller;
use crate::event::{Record, Timestamp};
use crate::json::Json;
use crate::line::used_up_until;
use crate::plan::{PoolId, StepId, Wait, Work};
use crate::units::time;

impl Teller<'_> {
    /// Of those in line for a pool whose rate is used up by these records of the run, says so.
    pub(in crate::explain) fn look_at_rates(&mut self, records: &[Record], now: Timestamp) {
        let now = now.max(self.run.latest());
        for (index, pool) in self.plan.pools.iter().enumerate() {
            let next = used_up_until(self.plan, PoolId(index as u32), records, now);
            let Some((rate, next)) = pool.rate.zip(next) else { continue };
            for (claim, of) in self.run.queued() {
                if let Some(step) = claim.step().filter(|_| of.index() == index) {
                    let name = &pool.name;
                    let next = time(next);
                    let words =
                        format!("the rate {rate} of the pool `{name}` is used up; the next may begin at {next}");
                    self.steps[step.index()].rate = Some(words);
                }
            }
        }
    }

    /// What a step waits for now, and how that is ended.
    pub(super) fn waits(&self, step: StepId) -> Option<String> {
        let waiting = self.run.waits_for(step)?;
        let command = waiting.command(&self.run, step).map_or_else(String::new, |command| format!(" – `{command}`"));
        let words: Vec<String> = waiting.in_words().split_whitespace().map(str::to_owned).collect();
        Some(format!("{}{command}", words.join(" ")))
    }

    /// What ended the waiting of a step that succeeded with this output.
    pub(super) fn waited(&self, step: StepId, output: &Json) -> Option<String> {
        let Work::Wait(Wait { signal, .. }) = &self.planned(step).work else { return None };
        let output = output.value();
        let said = |key: &str| output.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        Some(match (said("by"), signal) {
            ("approval", _) if said("note").is_empty() => format!("until {} approved it", said("who")),
            ("approval", _) => format!("until {} approved it: {}", said("who"), said("note")),
            ("signal", Some(signal)) => {
                format!("until the signal `{}` came", self.plan.signals[signal.index()].name)
            }
            _ => "until its time came".to_owned(),
        })
    }
}
