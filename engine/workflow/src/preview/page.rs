//! A preview in words, for people. Nothing here finds anything out.

use std::fmt::Write as _;

use super::{
    Cached, EachPreview, Ending, OpensPreview, Preview, RoundsPreview, RulePreview, StepPreview, Verdict, WaitPreview,
};
use crate::capability::Grants;
use crate::plan::{Join, POOL_SIZE_MAX, Rest, Signer, WhenBusy};
use crate::units::{duration, limit};

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
        if self.priority != 0 {
            line("priority", &format!("{}, in line for pools, of steps without one of their own", self.priority));
        }
        if let Some((group, when_busy)) = &self.group {
            let what = match when_busy {
                WhenBusy::Queue => "waits while another run of it is not over",
                WhenBusy::CancelRunning => "other runs of it are cancelled, and waited for",
                WhenBusy::Reject => "rejected while another run of it is not over",
            };
            line("group", &format!("{}; {what}", shortened(group)));
        }
        for (index, component) in self.components.iter().enumerate() {
            let key = if index == 0 { "plugins" } else { "" };
            let signers: Vec<String> = component.signers.iter().map(Signer::short).collect();
            let signed = if signers.is_empty() { String::new() } else { format!(", signed by {}", signers.join(", ")) };
            let (plugin, digest) = (&component.plugin, component.digest.short());
            line(key, &format!("{plugin}: {}, {digest}{signed}", component.component));
        }
        for (index, signal) in self.signals.iter().enumerate() {
            let lost = if signal.keep { "" } else { ", lost if no step waits for it when it comes" };
            line(if index == 0 { "signals" } else { "" }, &format!("{}{lost}", signal.name));
        }
        for (index, policy) in self.policies.iter().enumerate() {
            let rules = match &policy.rules[..] {
                [] => "no rule speaks of a step".to_owned(),
                [rule] => format!("rule {rule}"),
                rules => format!("rules {}", rules.join(", ")),
            };
            let key = if index == 0 { "policies" } else { "" };
            line(key, &format!("{}, {}: {rules}", policy.path, policy.digest.short()));
        }
        let mut wave = 0;
        for step in &self.steps {
            if step.wave > wave {
                wave = step.wave;
                let _ = writeln!(page, "\nwave {wave} of {waves}");
            }
            step.lines(&mut page, "  ");
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
    /// `margin` stands before its name.
    fn lines(&self, page: &mut String, margin: &str) {
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
        let name = self.step.rsplit('/').next().unwrap_or_default();
        let _ = writeln!(page, "{margin}{name}{always}{needs}: {verdict}");
        if matches!(self.verdict, Verdict::Skipped(_) | Verdict::Fails(_)) {
            return;
        }
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(page, "{margin}  {key:9}{value}");
        };
        if let Some(each) = &self.foreach {
            line("foreach", &each.in_words());
        }
        if let Some(rounds) = &self.repeat {
            line("repeat", &rounds.in_words());
        }
        if let Some(opens) = &self.opens {
            opens.lines(&mut line);
        }
        if let Some(wait) = &self.wait {
            line("wait", &wait.in_words());
        }
        match &self.ending {
            Some(Ending::Finish) => line("finish", "ends what it belongs to, successfully"),
            Some(Ending::Fail(message)) => line("fail", &shortened(message.as_str())),
            None => (),
        }
        if let (Some(plugin), Some(digest)) = (&self.plugin, &self.digest) {
            line("use", &format!("{plugin}, {}", digest.short()));
        }
        // What neither runs a component nor opens a workflow is given nothing.
        if self.plugin.is_some() || self.opens.as_ref().is_some_and(|opens| opens.workflow.is_some()) {
            line("with", &shortened(self.input.as_str()));
        }
        if !self.input_waits_for.is_empty() {
            line("", &format!("waits for the end of {}", self.input_waits_for.join(", ")));
        }
        match &self.rule {
            Some(RulePreview { rule, holds: Some(true), sees, .. }) => {
                let rule = rule.split_whitespace().collect::<Vec<_>>().join(" ");
                let sees: Vec<String> =
                    sees.iter().map(|(path, value)| format!("{path} is {}", shortened(value.as_str()))).collect();
                let place = if sees.is_empty() { "" } else { ", where " };
                line("when", &format!("true: {rule}{place}{}", sees.join(", ")));
            }
            Some(rule) if rule.holds.is_none() && !rule.waits_for.is_empty() => {
                line("when", &format!("waits for the end of {}", rule.waits_for.join(", ")));
            }
            _ => (),
        }
        if !self.ends.is_empty() {
            line("rest", &format!("cancels {} once it is decided", shortened(&self.ends.join(", "))));
        }
        if !self.cancels.is_empty() {
            line("cancels", &format!("{}, when it succeeds", self.cancels.join(", ")));
        }
        let mut given =
            Grants { withheld: Vec::new(), forbidden: Vec::new(), allowed_by: Vec::new(), ..self.grants.clone() };
        given.led.clear();
        let grants = serde_json::to_string(&given).unwrap_or_default();
        if grants != "{}" {
            line("grant", &grants);
        }
        if !self.withheld.is_empty() {
            line("withheld", &format!("{}: wanted, but not granted", self.withheld.join(", ")));
        }
        for taken in &self.grants.withheld {
            line("withheld", &format!("{}: granted, and taken away by {}", taken.grant, taken.by));
        }
        if let Some(cache) = &self.cache {
            line("cache", &cache.in_words());
        }
        if let Some((pool, places)) = &self.pool {
            let places = match &self.pool_rate {
                Some(rate) if *places == POOL_SIZE_MAX => rate.clone(),
                Some(rate) => format!("{places} at once, {rate}"),
                None => format!("{places} at once"),
            };
            let priority = self.priority.map_or_else(String::new, |priority| format!(", priority {priority}"));
            line("pool", &format!("{pool} ({places}){priority}"));
        }
        if let Some(retry) = &self.retry {
            line("retry", &format!("{} attempts, the first delay {}", retry.attempts, duration(retry.delay_ms)));
        }
        let lowered = |limit: &str| {
            let lowered = self.lowered.iter().find(|lowered| lowered.limit == limit);
            lowered.map_or_else(String::new, |lowered| format!(" (lowered by {})", lowered.by))
        };
        if let Some(timeout) = self.timeout_ms {
            line("timeout", &format!("{}{}", duration(timeout), lowered("timeout")));
        }
        if !self.limits.is_empty() {
            let told = |(name, value): (&&str, &u64)| format!("{name} {}{}", limit(name, *value), lowered(name));
            line("limit", &self.limits.iter().map(told).collect::<Vec<_>>().join(", "));
        }
        let within = self.opens.iter().flat_map(|opens| &opens.steps);
        for step in self.undo.as_deref().into_iter().chain(within) {
            step.lines(page, &format!("{margin}    "));
        }
    }
}

impl Cached {
    fn in_words(&self) -> String {
        match self {
            Cached::Asked => "asked, once its input is known".to_owned(),
            Cached::Hit(origin) => format!("a hit: answered as by {} of run {}", origin.step, origin.run),
            Cached::Miss => "a miss: it will be executed, and its answer kept".to_owned(),
            Cached::Unusable(reason) => format!("not asked: {reason}"),
        }
    }
}

impl OpensPreview {
    fn lines(&self, line: &mut impl FnMut(&str, &str)) {
        if let (Some(workflow), Some(directory)) = (&self.workflow, &self.directory) {
            line("workflow", &format!("{workflow}, in {directory}"));
        }
        if self.detached {
            line("detached", "over once it has begun; the run waits for the rest");
        }
        if let Some(timeout) = self.timeout_ms {
            line("", &format!("{} at most", duration(timeout)));
        }
        match &self.as_in {
            Some(path) => line("steps", &format!("those of {path}")),
            None => line("steps", &self.steps.len().to_string()),
        }
    }
}

impl EachPreview {
    fn in_words(&self) -> String {
        let mut words = match self.items {
            Some(1) => "1 item".to_owned(),
            Some(items) => format!("{items} items"),
            None => "item".to_owned(),
        };
        let _ = write!(words, " of {}", shortened(self.list.as_str()));
        if let Some(parallel) = self.parallel {
            let _ = write!(words, ", {parallel} at once");
        }
        match self.join {
            Join::All => (),
            Join::Any => words.push_str(", one has to succeed"),
            Join::Merge => words.push_str(", one has to succeed, once all are over"),
            Join::AtLeast(least) => {
                let have = if least == 1 { "has" } else { "have" };
                let _ = write!(words, ", {least} {have} to succeed");
            }
        }
        if let Some(until) = &self.until {
            let _ = write!(words, ", until {}", until.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if self.rest == Rest::Cancel {
            words.push_str("; the others are cancelled once that is decided");
        }
        words
    }
}

impl RoundsPreview {
    fn in_words(&self) -> String {
        let rule = |rule: &String| rule.split_whitespace().collect::<Vec<_>>().join(" ");
        let rounds = if self.max == 1 { "1 round".to_owned() } else { format!("{} rounds", self.max) };
        let mut words = match (&self.while_holds, &self.until) {
            (None, None) => rounds,
            (Some(holds), None) => format!("while {}, {rounds} at most", rule(holds)),
            (None, Some(until)) => format!("until {}, {rounds} at most", rule(until)),
            (Some(holds), Some(until)) => format!("while {} and until {}, {rounds} at most", rule(holds), rule(until)),
        };
        if self.delay_ms > 0 {
            let _ = write!(words, ", {} apart", duration(self.delay_ms));
        }
        words
    }
}

impl WaitPreview {
    fn in_words(&self) -> String {
        let question = self.question.as_ref().map(|question| format!(" on {}", shortened(question.as_str())));
        let approval = (!self.approval.is_empty())
            .then(|| format!("for the word of {}{}", self.approval.join(" or "), question.unwrap_or_default()));
        let parts = [
            self.for_ms.map(duration),
            self.until.as_ref().map(|until| format!("until {until}")),
            self.signal.as_ref().map(|signal| format!("for the signal {signal}")),
            approval,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", or ")
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(INPUT_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
