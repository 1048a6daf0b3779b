//! An account in words, for people: the page of a whole run, and that of one step. Nothing here finds anything out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{
    Account, AttemptAccount, CachedAccount, Cause, Delay, End, Link, Near, NeedAccount, Never, Next, Part, RuleAccount,
    StepAccount, Times, TryAccount, Undoing, What,
};
use crate::event::{Failure, Interruption, NeedState, Origin, Outcome, StepEnd};
use crate::plan::Join;
use crate::units::{duration, size};

/// How many names are told one by one; of more it is told how many.
const NAMES_SHOWN: usize = 8;

/// How many moments of a run are told one by one, from its beginning and from its end; those between are counted.
const MOMENTS_SHOWN: usize = 100;

/// Of how many causes, refusals and bounds it is told, each.
const NOTES_SHOWN: usize = 100;

/// How many steps of the chain that the end waited for are told, those within others among them.
const LINKS_SHOWN: usize = 32;

/// How many characters of a message are told in a line; the page of a step has all of it. 400: a sentence that ends with
/// the line that would allow what was refused.
const MESSAGE_SHOWN: usize = 400;

/// How many characters of a step's input are told; with `--json` there is all of it.
const INPUT_SHOWN: usize = 2_000;

impl Account {
    /// The page of the whole run.
    pub fn page(&self) -> String {
        let mut page = format!("run {} of {}: {}", self.run, self.workflow, self.state());
        page.push('\n');
        if !self.story.is_empty() || self.under_way().next().is_some() {
            page.push_str("\nWhat happened\n");
            self.story(&mut page);
        }
        for fault in &self.faults {
            let _ = writeln!(page, "  fault: {fault}");
        }
        if !self.skips.is_empty() {
            page.push_str("\nSkipped\n");
            for skips in self.skips.iter().take(NOTES_SHOWN) {
                let _ =
                    writeln!(page, "  because {}\n    {}", skips.because.in_words(&skips.steps), names(&skips.steps));
            }
            more(&mut page, self.skips.len());
        }
        self.notes(&mut page);
        if !self.path.is_empty() {
            self.times(&mut page);
        }
        page
    }

    /// The page of one step, which was in the focus when the account was made.
    pub fn step_page(&self, step: usize) -> String {
        let account = &self.steps[step];
        let mut page = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(page, "{key:10}{value}");
        };
        let time = account.time_of.map_or_else(String::new, |time| format!(" (time {} of {})", time.time, time.of));
        line("step", &format!("{}{time} of run {} ({})", account.step, self.run, self.workflow));
        line("state", account.state);
        line("why", &account.why(self.steps.iter().any(|step| !step.always && step.end.is_none())));
        for (index, need) in account.needs.iter().enumerate() {
            // One that was not met can't have done it, though it was the same step's end.
            let is_met = need.was.is_none_or(|was| need.wanted.is_met_by(was));
            let last = account.turn_after.as_ref() == Some(&need.step) && is_met;
            let note = if last { "; this gave it its turn" } else { "" };
            line(if index == 0 { "needs" } else { "" }, &format!("{}{note}", need.in_words()));
        }
        if let Some(last) = account.turn_after.as_ref().filter(|last| account.needs.iter().all(|n| n.step != **last)) {
            line("after", &format!("{last}, the last step to end; this gave it its turn"));
        }
        if let Some(rule) = &account.rule {
            line("rule", &rule.text());
            for (path, value) in &rule.saw {
                line("", &format!("{path} was {value}"));
            }
        }
        if let Some(CachedAccount { key, origin }) = &account.cached {
            line("cache", &format!("the answer of {} in run {}, key {}", origin.step, origin.run, key.short()));
        }
        if let Some(waits) = &account.waits {
            line("waits", waits.strip_prefix("waits ").unwrap_or(waits));
        }
        if let Some(waited) = &account.waited {
            line("waited", waited);
        }
        if let Some(input) = &account.input {
            line("input", &shortened(input.as_str(), INPUT_SHOWN));
        }
        if !account.withheld.is_empty() {
            line("withheld", &format!("{}: wanted, but not granted", account.withheld.join(", ")));
        }
        let times = account.times.in_words(account.pool.as_deref());
        line("time", &format!("{}{times}", duration(account.times.total_ms())));
        if !account.attempts.is_empty() {
            page.push_str("\nattempts\n");
        }
        for attempt in &account.attempts {
            attempt.lines("", &mut page);
        }
        if !account.tries.is_empty() {
            page.push_str("\ntries\n");
        }
        for TryAccount { scope, attempt } in account.tries.iter().take(NOTES_SHOWN) {
            let name = if *scope == account.step { String::new() } else { format!("{scope} ") };
            attempt.lines(&name, &mut page);
        }
        more(&mut page, account.tries.len());
        for near in &account.near {
            let _ = writeln!(page, "\nattempt {} {}", near.attempt, near.in_words());
        }
        for refusal in &account.refusals {
            let _ = writeln!(page, "\nrefused {}: {}", refusal.capability, refusal.wanted);
            let _ = writeln!(page, "  hint: {}", refusal.advice(&account.table()));
        }
        let of_it = self.skips.iter().filter(|skips| skips.because.is_of(&account.step));
        let kept = of_it.flat_map(|skips| &skips.steps).filter(|step| **step != account.step);
        let kept: Vec<String> = kept.cloned().collect();
        if !kept.is_empty() {
            let _ = writeln!(page, "\nbecause of it, these were skipped: {}", names(&kept));
        }
        page
    }

    fn state(&self) -> String {
        let elapsed = duration(self.elapsed_ms);
        match self.outcome {
            Some(Outcome::Succeeded) => format!("succeeded after {elapsed}"),
            Some(Outcome::Failed) => format!("failed after {elapsed}"),
            Some(Outcome::Cancelled) => format!("cancelled after {elapsed}"),
            Some(Outcome::TimedOut) => format!("timed out after {elapsed}"),
            None if self.stopped => format!("stopped after {elapsed}; `downbeat resume {}` goes on", self.run),
            None => format!("not over, {elapsed} so far"),
        }
    }

    fn story(&self, page: &mut String) {
        let width = self.story.iter().map(|moment| duration(moment.after_ms).chars().count()).max().unwrap_or(0);
        let count = self.story.len();
        let hidden = MOMENTS_SHOWN..count.saturating_sub(MOMENTS_SHOWN).max(MOMENTS_SHOWN);
        for (index, moment) in self.story.iter().enumerate() {
            if index == hidden.start && !hidden.is_empty() {
                let _ = writeln!(page, "  … {} moments more; --json has them all …", hidden.len());
            }
            if !hidden.contains(&index) {
                let after = duration(moment.after_ms);
                let until = moment.until_ms.map(duration).filter(|until| *until != after);
                let until = until.map_or_else(String::new, |until| format!(" (until {until})"));
                let _ = writeln!(page, "  {after:>width$}  {}{until}", moment.what.in_words());
            }
        }
        let mut going_on: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let waits = self.under_way().filter(|step| step.waits.is_some()).count();
        let now = duration(self.elapsed_ms);
        for step in self.under_way() {
            match &step.waits {
                Some(waits_for) if waits <= NAMES_SHOWN => {
                    let _ = writeln!(page, "  {now:>width$}  {} {}", step.step, in_one_line(waits_for));
                }
                _ => going_on.entry(step.state).or_default().push(step.step.clone()),
            }
        }
        for (state, steps) in going_on {
            let is = if steps.len() == 1 { "is" } else { "are" };
            let _ = writeln!(page, "  {now:>width$}  {} {is} {state}", names(&steps));
        }
    }

    /// The steps that are neither over nor still wait for others.
    fn under_way(&self) -> impl Iterator<Item = &StepAccount> {
        self.steps.iter().filter(|step| step.end.is_none() && !matches!(step.state, "waiting" | "not needed"))
    }

    fn notes(&self, page: &mut String) {
        let refused: Vec<&StepAccount> = self.steps.iter().filter(|step| !step.refusals.is_empty()).collect();
        if !refused.is_empty() {
            page.push_str("\nRefused\n");
        }
        for step in refused.iter().take(NOTES_SHOWN) {
            for refusal in &step.refusals {
                let _ = writeln!(page, "  {}: {} {}", step.step, refusal.capability, refusal.wanted);
                let _ = writeln!(page, "    hint: {}", refusal.advice(&step.table()));
            }
        }
        more(page, refused.len());
        let near: Vec<&StepAccount> = self.steps.iter().filter(|step| !step.near.is_empty()).collect();
        if !near.is_empty() {
            page.push_str("\nNear a limit\n");
        }
        for step in near.iter().take(NOTES_SHOWN) {
            for near in &step.near {
                let _ = writeln!(page, "  {} #{} {}", step.step, near.attempt, near.in_words());
            }
        }
        more(page, near.len());
    }

    fn is_skipped(&self, step: &str) -> bool {
        self.steps.iter().any(|account| account.step == step && account.end == Some(StepEnd::Skipped))
    }

    fn times(&self, page: &mut String) {
        page.push_str("\nWhere the time went: the steps that the end waited for\n");
        let mut links: Vec<(usize, &Link)> = Vec::new();
        let mut open: Vec<(usize, &Link)> = self.path.iter().rev().map(|link| (0, link)).collect();
        while let Some((depth, link)) = open.pop() {
            // What was skipped at once lies on the way from a failure to what it led to, but nobody waited for it.
            if link.times.total_ms() > 0 || !self.is_skipped(&link.step) {
                links.push((depth, link));
            }
            open.extend(link.within.iter().rev().map(|link| (depth + 1, link)));
        }
        let width = links.iter().map(|(depth, link)| 2 * depth + link.step.chars().count()).max().unwrap_or(0);
        let after_width = links.iter().map(|(_, link)| duration(link.after_ms).chars().count()).max().unwrap_or(0);
        for (depth, link) in links.iter().take(LINKS_SHOWN) {
            let pool = self.steps.iter().find(|step| step.step == link.step).and_then(|step| step.pool.as_deref());
            let parts: Vec<String> = link.times.told(pool).collect();
            let parts = if parts.is_empty() { "no time".to_owned() } else { parts.join(", ") };
            let after = duration(link.after_ms);
            let name = format!("{}{}", "  ".repeat(*depth), link.step);
            let _ = writeln!(page, "  {after:>after_width$}  {name:width$}  {parts}");
        }
        if links.len() > LINKS_SHOWN {
            let _ = writeln!(page, "  … and {} more", links.len() - LINKS_SHOWN);
        }
        if let Some(most) = &self.bottleneck {
            let pool = self.steps.iter().find(|step| step.step == most.step).and_then(|step| step.pool.as_deref());
            let what = most.part.in_words(most.ms, pool);
            let _ = writeln!(page, "  most of it: {}, {what} ({} %)", most.step, most.percent);
        }
    }
}

impl StepAccount {
    /// The table of the file that it is in.
    fn table(&self) -> String {
        let parts: Vec<&str> = self.step.split('/').map(|part| part.split('[').next().unwrap_or(part)).collect();
        let (last, around) = parts.split_last().expect("a path has a part");
        let around: String = around.iter().map(|part| format!("steps.{part}.")).collect();
        let undo = if self.step.ends_with(".undo") && !last.ends_with(".undo") { ".undo" } else { "" };
        format!("{around}{}.{last}{undo}", if self.always { "always" } else { "steps" })
    }

    /// Why it ran or did not, root causes first. `steps_open`: some ordinary step has not come to its end.
    fn why(&self, steps_open: bool) -> String {
        if let Some(skipped) = &self.skipped {
            let itself = self.root.as_ref() == Some(&self.step);
            return match &self.because {
                // The sentence says so already.
                Some(Cause::NotNeeded { .. }) if self.chain.is_empty() => format!("skipped: {skipped}"),
                Some(cause) if !itself => {
                    let chain = match self.chain.is_empty() {
                        true => String::new(),
                        false => format!("; by way of {}", names(&self.chain)),
                    };
                    let because = cause.in_words(std::slice::from_ref(&self.step));
                    format!("skipped because {because}{chain}: {skipped}")
                }
                _ => format!("skipped: {skipped}"),
            };
        }
        let rule = match &self.rule {
            Some(RuleAccount { held: Some(true), .. }) => ", and its rule was true",
            Some(RuleAccount { held: None, .. }) => ", but its rule could not be evaluated",
            _ => "",
        };
        let met = match (self.join, self.needs.is_empty()) {
            (_, true) => "it needs nothing".to_owned(),
            (Join::All, _) => "its needs were met".to_owned(),
            (Join::Any, _) => "one of its needs was met".to_owned(),
            (Join::Merge, _) => "its needs were over, and at least one was met".to_owned(),
            (Join::AtLeast(least), _) => format!("{least} of its needs were met"),
        };
        let needs = match (self.always, self.needs.is_empty()) {
            (true, true) => "all steps were over".to_owned(),
            (true, false) => format!("all steps were over, and {met}"),
            (false, _) => met,
        };
        if let Some(Undoing { step, because }) = &self.undoing {
            let because = match because {
                Cause::ScopeEnded { of, timed_out: true } => format!("the timeout of {of} passed"),
                Cause::ScopeEnded { of, timed_out: false } => format!("{of} was ended"),
                Cause::RunCancelled => "the run was cancelled".to_owned(),
                Cause::RunTimedOut => "the run timed out".to_owned(),
                because => because.in_words(&[]),
            };
            return match &self.failure {
                Some(failure) => {
                    format!("it takes back what {step} did, as {because}, and failed: {}", failure.message)
                }
                None => format!("it takes back what {step} did, as {because}"),
            };
        }
        if let Some(Origin { run, step, .. }) = &self.reused {
            let there = if *step == self.step { String::new() } else { format!(", where it is `{step}`") };
            let reused = match self.needs.is_empty() && !self.always && rule.is_empty() {
                true => "reused".to_owned(),
                false => format!("reused, as {needs}{rule}"),
            };
            return format!("{reused}: it answered in run {run}{there}, and did nothing in this one");
        }
        if self.cached.is_some() {
            return format!("{needs}{rule}, and the cache had its answer, so that nothing was executed");
        }
        let ran = !self.attempts.is_empty() || self.opened;
        let in_line = match &self.pool {
            _ if self.rate.is_some() => self.rate.clone().unwrap_or_default(),
            Some(pool) => format!("it is in line for a place in the pool `{pool}`"),
            None => "it waits for a place in its pool".to_owned(),
        };
        match (&self.failure, !ran, self.state) {
            (Some(failure), _, _) if self.opened => {
                format!("it ran as {needs}{rule}, and failed: {}", failure.message)
            }
            (Some(failure), true, _) => format!("failed without an attempt: {}", failure.message),
            (_, true, "not needed") => "it is not needed: what it would take back was not in vain".to_owned(),
            (_, true, "cancelled") if self.cancelled.is_some() => {
                format!("{needs}{rule}; then it was cancelled: {}", self.cancelled.as_deref().unwrap_or_default())
            }
            (_, true, "cancelled") if self.step.contains(['/', '[']) => {
                "it was ended with what it belongs to".to_owned()
            }
            (_, true, "cancelled") => "it was ended with its run".to_owned(),
            (_, true, "waiting") if self.times.group_ms == self.times.total_ms() && self.times.group_ms > 0 => {
                "its run waits for its group: another one of it is not over".to_owned()
            }
            (_, true, "waiting") if self.always && steps_open => "it waits for the end of all steps".to_owned(),
            (_, true, "waiting") => format!("it waits for {}", self.missing()),
            (_, _, "queued") if self.attempts.is_empty() => format!("{needs}{rule}; {in_line}"),
            (_, true, _) => format!("{needs}{rule}; no attempt was started yet"),
            (_, false, "queued")
                if !self.attempts.is_empty() && self.attempts.iter().all(|attempt| attempt.after_ms.is_none()) =>
            {
                format!("{needs}{rule}; {in_line}")
            }
            _ => match &self.not_needed_by {
                Some(join) => format!("it ran as {needs}{rule}; then {join} did not need it any more"),
                None if self.cancelled.is_some() => {
                    let because = self.cancelled.as_deref().unwrap_or_default();
                    format!("it ran as {needs}{rule}; then it was cancelled: {because}")
                }
                None => format!("it ran as {needs}{rule}"),
            },
        }
    }

    /// The needs that are still open, and how many of them it waits for.
    fn missing(&self) -> String {
        let is_open = |need: &&NeedAccount| need.was.is_none();
        let count_open = self.needs.iter().filter(is_open).count() as u32;
        // Two of its needs may be states of the same step.
        let mut open: Vec<String> = Vec::new();
        for need in self.needs.iter().filter(is_open) {
            if open.last() != Some(&need.step) {
                open.push(need.step.clone());
            }
        }
        let met = self.needs.iter().filter(|need| need.was.is_some_and(|was| need.wanted.is_met_by(was))).count();
        let count = self.needs.len() as u32;
        match self.join {
            Join::All | Join::Merge => names(&open),
            join => match join.least(count).saturating_sub(met as u32) {
                1 if open.len() > 1 => format!("one of {}", names(&open)),
                left if left < count_open => format!("{left} of {}", names(&open)),
                _ => names(&open),
            },
        }
    }
}

impl NeedAccount {
    fn in_words(&self) -> String {
        let wanted = match self.wanted {
            NeedState::Succeeded => "to succeed",
            NeedState::Failed => "to fail",
            NeedState::Skipped => "to be skipped",
            NeedState::Finished => "to finish",
            NeedState::Started => "to start",
        };
        let was = match (self.was, self.after_ms) {
            (Some(end), Some(after)) => format!("{} after {}", end_word(end), duration(after)),
            _ => "it has not come to its end".to_owned(),
        };
        format!("{} {wanted}: {was}", self.step)
    }
}

impl RuleAccount {
    fn text(&self) -> String {
        let rule = in_one_line(&self.rule);
        match self.held {
            Some(true) => format!("{rule} was true"),
            Some(false) => format!("{rule} was false"),
            None => format!("{rule} could not be evaluated"),
        }
    }
}

impl AttemptAccount {
    /// `name`: whose it is, where that is not clear.
    fn lines(&self, name: &str, page: &mut String) {
        let mut line = format!("  {name}#{}", self.attempt);
        if let Some(after) = self.after_ms {
            let _ = write!(line, " after {}", duration(after));
        }
        if let Some(queued) = self.queued_ms {
            let _ = write!(line, ", {} in line", duration(queued));
        }
        line.push_str(": ");
        line.push_str(&match (&self.end, self.after_ms) {
            (None, Some(_)) => "in flight".to_owned(),
            (None, None) => "in line".to_owned(),
            (Some(end), _) => end.in_words(),
        });
        if let Some(took) = self.took_ms {
            let _ = write!(line, " after {}", duration(took));
        }
        let _ = writeln!(page, "{line}");
        if let Some(End::Failed(failure)) = &self.end {
            for line in failure.message.lines().chain(failure.backtrace.iter().flat_map(|trace| trace.lines())) {
                let _ = writeln!(page, "     {line}");
            }
        }
        if let Some(next) = &self.next {
            let _ = writeln!(page, "     {}", next.in_words());
        }
    }
}

impl End {
    fn in_words(&self) -> String {
        match self {
            End::Succeeded => "succeeded".to_owned(),
            End::Failed(failure) => format!("failed, {}", failure.kind),
            End::Interrupted(Interruption::Crash) => "interrupted, as the engine died; found".to_owned(),
            End::Interrupted(Interruption::Stop) => "interrupted, as the engine was stopped,".to_owned(),
            End::Cancelled => "cancelled".to_owned(),
        }
    }
}

impl Next {
    fn in_words(&self) -> String {
        match self {
            Next::Again { delay_ms, why, failures, of } => {
                let why = match why {
                    Delay::Asked => "as the step asked for".to_owned(),
                    Delay::Grown { full_ms, at_most, jitter } => {
                        let full = duration(*full_ms);
                        let of = if *at_most { format!("`max-delay`, {full}") } else { full };
                        match (*jitter, *at_most) {
                            (true, _) => format!("drawn between half and all of {of}"),
                            (false, true) => "its `max-delay`".to_owned(),
                            (false, false) if *failures == 1 => "its `delay`".to_owned(),
                            (false, false) => "its `delay`, grown by `factor`".to_owned(),
                        }
                    }
                };
                format!("tried again after {} ({why}): failure {failures} of {of} at most", duration(*delay_ms))
            }
            Next::WithScope => "not tried again by itself, but with what it belongs to".to_owned(),
            Next::Never(Never::NotRetried) => "not tried again: a failure of this kind does not go away".to_owned(),
            Next::Never(Never::AttemptsUsedUp) => "not tried again: `retry.attempts` are used up".to_owned(),
            Next::Never(Never::OnlyOne) => "not tried again: the step has no `retry`".to_owned(),
            Next::Never(Never::RunEnding) => "not tried again: the run was ending".to_owned(),
            Next::Never(Never::NotNeeded) => "not tried again: no join needed it any more".to_owned(),
        }
    }
}

impl What {
    fn in_words(&self) -> String {
        match self {
            What::Succeeded { steps } => format!("{} succeeded", names(steps)),
            What::Cached { step, origin } => {
                format!("{step} was answered from the cache, by {} of run {}", origin.step, origin.run)
            }
            What::Recovered { step, attempt } => format!("{step} succeeded at attempt {attempt}"),
            What::Failed { step, failure, next, .. } => {
                let next = next.map_or_else(String::new, |next| format!("; {}", next.in_words()));
                format!("{step} failed: {}{next}", told(failure))
            }
            What::Interrupted { steps, cause: Interruption::Crash } => {
                format!("the engine had died under {}", names(steps))
            }
            What::Interrupted { steps, cause: Interruption::Stop } => {
                format!("the engine was stopped under {}", names(steps))
            }
            What::Skipped { because, steps } => {
                format!("{} skipped, because {}", names(steps), because.in_brief(steps))
            }
            What::Admitted { group } => format!("it was its turn in the group `{}`", in_one_line(group)),
            What::Signalled { signal } => format!("the signal `{signal}` came"),
            What::Answered { step, approved, by, note, uid } => {
                let word = if *approved { "approved" } else { "rejected" };
                let note = if note.is_empty() { String::new() } else { format!(": {}", in_one_line(note)) };
                let uid = uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
                format!("{}{uid} {word} {step}{note}", in_one_line(by))
            }
            What::ScopeTimedOut { scope } => format!("the timeout of {scope} passed"),
            What::Reused { run, steps } => format!("{} reused from run {run}", names(steps)),
            What::Paused { step: None, reason } => format!("the run was paused: {}", in_one_line(reason)),
            What::Paused { step: Some(step), reason } => format!("{step} was paused: {}", in_one_line(reason)),
            What::Unpaused { step: None } => "the run was unpaused".to_owned(),
            What::Unpaused { step: Some(step) } => format!("{step} was unpaused"),
            What::StepCancelRequested { step, reason } => {
                format!("the end of {step} was asked for: {}", in_one_line(reason))
            }
            What::CancelRequested { reason } => format!("the run's end was asked for: {}", in_one_line(reason)),
            What::TimedOut => "the workflow's `timeout` passed".to_owned(),
            What::Cut { by: None, steps } => format!("{} cancelled", names(steps)),
            What::Cut { by: Some(by), steps } => {
                format!("{} cancelled, because {by} succeeded (`cancels`)", names(steps))
            }
            What::TriedAgain { scope, next } => format!("{scope} failed; {}", next.in_words()),
            What::Cancelled { by: None, steps } => format!("{} ended with the run", names(steps)),
            What::Cancelled { by: Some(by), steps } => {
                format!("{} cancelled, because {by} was decided without {}", names(steps), them(steps))
            }
        }
    }
}

impl Cause {
    /// What continues "because", of these steps.
    fn in_words(&self, steps: &[String]) -> String {
        match self {
            Cause::Step { step, end, failure } => match failure {
                Some(failure) => format!("{step} failed ({})", told(failure)),
                None => format!("{step} {}", end_word(*end)),
            },
            Cause::Rule { step, rule } => {
                let seen: Vec<String> =
                    rule.saw.iter().take(4).map(|(path, value)| format!("{path} was {value}")).collect();
                let place = if seen.is_empty() { String::new() } else { format!(", where {}", seen.join(", ")) };
                let more = if rule.saw.len() > 4 { ", …" } else { "" };
                format!("the rule of {step} was false: {}{place}{more}", in_one_line(&rule.rule))
            }
            Cause::TooFewNeeds { step, possible, least, of } => {
                let possible = if *possible == 0 { "none".to_owned() } else { format!("only {possible}") };
                format!("{step} takes {least} of its {of} needs, but {possible} could be met")
            }
            Cause::NotNeeded { by } => format!("{by} was decided without {}", them(steps)),
            Cause::Ended { by } => format!("{by} ended it all before"),
            Cause::ScopeEnded { of, timed_out: false } => format!("{of} was cancelled before {} turn", their(steps)),
            Cause::ScopeEnded { of, timed_out: true } => format!("{of} timed out before {} turn", their(steps)),
            Cause::Asked { reason } => format!("somebody cancelled {}: {}", them(steps), in_one_line(reason)),
            Cause::RunCancelled => format!("the run was cancelled before {} turn", their(steps)),
            Cause::RunTimedOut => format!("the run timed out before {} turn", their(steps)),
        }
    }

    /// The same without the values and messages that are told elsewhere on the page.
    fn in_brief(&self, steps: &[String]) -> String {
        match self {
            Cause::Step { step, end, .. } => format!("{step} {}", end_word(*end)),
            Cause::Rule { step, .. } if steps == std::slice::from_ref(step) => "its rule was false".to_owned(),
            Cause::Rule { step, .. } => format!("the rule of {step} was false"),
            _ => self.in_words(steps),
        }
    }

    fn is_of(&self, name: &str) -> bool {
        self.about() == name
    }
}

impl Near {
    fn in_words(&self) -> String {
        let amount = |n: u64| match self.limit {
            "timeout" => duration(n),
            "table-elements" | "processes" => n.to_string(),
            _ => size(n),
        };
        let dropped = match self.dropped {
            0 => String::new(),
            dropped => format!("; {} more were dropped", size(dropped)),
        };
        let name = match self.limit {
            "timeout" => "`timeout`".to_owned(),
            limit => format!("limit `{limit}`"),
        };
        format!("used {} of the {} of its {name} ({} %){dropped}", amount(self.used), amount(self.most), self.percent)
    }
}

impl Times {
    /// Each part that took time, in words.
    fn told(self, pool: Option<&str>) -> impl Iterator<Item = String> {
        self.parts().into_iter().filter(|(_, ms)| *ms > 0).map(move |(part, ms)| part.in_words(ms, pool))
    }

    fn in_words(self, pool: Option<&str>) -> String {
        let parts: Vec<String> = self.told(pool).collect();
        if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
    }
}

impl Part {
    fn in_words(self, ms: u64, pool: Option<&str>) -> String {
        let ms = duration(ms);
        match (self, pool) {
            (Part::Needs, _) => format!("{ms} waiting for its needs"),
            (Part::Group, _) => format!("{ms} in line for the group of its run"),
            (Part::Engine, _) => format!("{ms} until an engine took it up"),
            (Part::Paused, _) => format!("{ms} paused"),
            (Part::Cache, _) => format!("{ms} asking the cache"),
            (Part::Pool, Some(pool)) => format!("{ms} in line for the pool `{pool}`"),
            (Part::Pool, None) => format!("{ms} in line"),
            (Part::Running, _) => format!("{ms} running"),
            (Part::Interrupted, _) => format!("{ms} in attempts that were interrupted"),
            (Part::Between, _) => format!("{ms} between attempts"),
            (Part::Scopes, _) => format!("{ms} in its steps"),
            (Part::Parked, _) => format!("{ms} waiting for somebody or something"),
        }
    }
}

fn end_word(end: StepEnd) -> &'static str {
    match end {
        StepEnd::Succeeded => "succeeded",
        StepEnd::Failed => "failed",
        StepEnd::Skipped => "was skipped",
        StepEnd::Cancelled => "was cancelled",
    }
}

/// A failure in a line.
fn told(failure: &Failure) -> String {
    let first = failure.message.lines().next().unwrap_or("");
    format!("{}: {}", failure.kind, shortened(first, MESSAGE_SHOWN))
}

/// Names one by one, neighbours that are items of the same step together: `a, suites[0] … suites[99]`.
fn names(names: &[String]) -> String {
    let item = |name: &str| {
        let (before, rest) = name.rsplit_once('[')?;
        let (index, after) = rest.split_once(']')?;
        Some((before.to_owned(), index.parse::<u32>().ok()?, after.to_owned()))
    };
    let mut told: Vec<String> = Vec::new();
    let (mut at, mut shown) = (0, 0);
    while at < names.len() && told.len() < NAMES_SHOWN {
        let first = item(&names[at]);
        let of_it = |name: &String| match (&first, item(name)) {
            (Some((before, _, after)), Some((again, index, end))) => {
                (*before == again && *after == end).then_some(index)
            }
            _ => None,
        };
        let indices: Vec<u32> = names[at..].iter().map_while(of_it).collect();
        let (low, high) = (indices.iter().min().copied(), indices.iter().max().copied());
        match (&first, low, high) {
            (Some((before, _, after)), Some(low), Some(high)) if indices.len() > 2 => {
                let count = match (high - low) as usize + 1 == indices.len() {
                    true => String::new(),
                    false => format!("{} of ", indices.len()),
                };
                told.push(format!("{count}{before}[{low}]{after} … {before}[{high}]{after}"));
                shown += indices.len();
                at += indices.len();
            }
            _ => {
                told.push(names[at].clone());
                shown += 1;
                at += 1;
            }
        }
    }
    match names.len() - shown {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// How many there are beyond those that are told.
fn more(page: &mut String, count: usize) {
    if count > NOTES_SHOWN {
        let _ = writeln!(page, "  … and {} more; --json has them all", count - NOTES_SHOWN);
    }
}

fn them(steps: &[String]) -> &'static str {
    if steps.len() == 1 { "it" } else { "them" }
}

fn their(steps: &[String]) -> &'static str {
    if steps.len() == 1 { "its" } else { "their" }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
