//! A preview in words, for people. Nothing here finds anything out.

use std::fmt::Write as _;

use super::{Preview, StepPreview, Verdict};
use crate::plan::Join;
use crate::units::{duration, size};

/// How many characters of a step's input are told; with `--json` there is all of it.
const INPUT_SHOWN: usize = 400;

/// How many steps of the longest chain are told.
const CHAIN_SHOWN: usize = 30;

impl Preview {
    /// The page.
    pub fn page(&self) -> String {
        let waves = self.steps.last().map_or(0, |step| step.wave);
        let mut page = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(page, "{key:10}{value}");
        };
        line("workflow", &self.workflow);
        line("plan", self.plan.short());
        line("inputs", &shortened(self.inputs.as_str()));
        if let Some(timeout) = self.timeout_ms {
            line("timeout", &duration(timeout));
        }
        for (index, component) in self.components.iter().enumerate() {
            let key = if index == 0 { "plugins" } else { "" };
            line(key, &format!("{}: {}, {}", component.plugin, component.component, component.digest.short()));
        }
        let mut wave = 0;
        for step in &self.steps {
            if step.wave > wave {
                wave = step.wave;
                let _ = writeln!(page, "\nwave {wave} of {waves}");
            }
            step.lines(&mut page);
        }
        if !self.outputs.is_empty() {
            page.push_str("\noutputs\n");
        }
        for (name, value) in &self.outputs {
            let _ = writeln!(page, "  {name} = {}", shortened(value.as_str()));
        }
        let count = |is: fn(&Verdict) -> bool| self.steps.iter().filter(|step| is(&step.verdict)).count();
        let _ = writeln!(
            page,
            "\n{} run if nothing fails, {} depend on what happens, {} will be skipped, {} will fail",
            count(|verdict| matches!(verdict, Verdict::Runs)),
            count(|verdict| matches!(verdict, Verdict::Depends(_))),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
            count(|verdict| matches!(verdict, Verdict::Fails(_))),
        );
        if self.longest_chain.len() > 1 {
            let shown = self.longest_chain.iter().take(CHAIN_SHOWN).map(String::as_str).collect::<Vec<_>>();
            let more = if self.longest_chain.len() > CHAIN_SHOWN { " → …" } else { "" };
            let chain = format!("{}{more}", shown.join(" → "));
            let _ = writeln!(page, "longest chain, {} steps: {}", self.longest_chain.len(), chain);
        }
        page
    }
}

impl StepPreview {
    fn lines(&self, page: &mut String) {
        let always = if self.always { " always" } else { "" };
        let needs = match (self.needs.len() as u32, self.join) {
            (0, _) => String::new(),
            (1, _) | (_, Join::All) => format!(" after {}", self.needs.join(", ")),
            (_, Join::Any) => format!(" after {}", self.needs.join(" or ")),
            (_, Join::Merge) => format!(" after {}, one of them at least", self.needs.join(", ")),
            (_, Join::AtLeast(least)) => format!(" after {least} of {}", self.needs.join(", ")),
        };
        let verdict = match &self.verdict {
            Verdict::Runs if self.always && self.needs.is_empty() => "runs, whatever becomes of the steps".to_owned(),
            Verdict::Runs => "runs".to_owned(),
            Verdict::Depends(on) => format!("runs if {}", on.join(", and if ")),
            Verdict::Skipped(why) => format!("will be skipped: {why}"),
            Verdict::Fails(why) => format!("will fail: {why}"),
        };
        let _ = writeln!(page, "  {}{always}{needs}: {verdict}", self.step);
        if matches!(self.verdict, Verdict::Skipped(_) | Verdict::Fails(_)) {
            return;
        }
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(page, "    {key:9}{value}");
        };
        if let (Some(plugin), Some(digest)) = (&self.plugin, &self.digest) {
            line("use", &format!("{plugin}, {}", digest.short()));
        }
        line("with", &shortened(self.input.as_str()));
        if !self.input_waits_for.is_empty() {
            line("", &format!("waits for the end of {}", self.input_waits_for.join(", ")));
        }
        if let Some(rule) = self.rule.as_ref().filter(|rule| !rule.waits_for.is_empty() && rule.holds.is_none()) {
            line("when", &format!("waits for the end of {}", rule.waits_for.join(", ")));
        }
        if !self.ends.is_empty() {
            line("rest", &format!("cancels {} once it is decided", shortened(&self.ends.join(", "))));
        }
        let grants = serde_json::to_string(&self.grants).unwrap_or_default();
        if grants != "{}" {
            line("grant", &grants);
        }
        if let Some((pool, places)) = &self.pool {
            line("pool", &format!("{pool} ({places} at once)"));
        }
        if let Some(retry) = &self.retry {
            line("retry", &format!("{} attempts, the first delay {}", retry.attempts, duration(retry.delay_ms)));
        }
        if let Some(timeout) = self.timeout_ms {
            line("timeout", &duration(timeout));
        }
        if !self.limits.is_empty() {
            let limit = |(name, value): (&&str, &u64)| match *name {
                "table-elements" => format!("{name} {value}"),
                _ => format!("{name} {}", size(*value)),
            };
            line("limit", &self.limits.iter().map(limit).collect::<Vec<_>>().join(", "));
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(INPUT_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
