//! What a reviewer has to look at when a component, a workflow or a lock becomes another one: which capabilities come, go
//! or change. Bytes, versions and wording are told as well, and weigh nothing.
//!
//! How the two came to be known is for whoever asks; how it is told is here, so that the text, the Markdown and the JSON say
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::capability::{Grant, Limits};
use crate::difference::{self, Difference, How};
use crate::lock::{Lock, Pinned};
use crate::permission::cover::{at_home, covers};
use crate::plan::Plan;
use crate::secret::SecretSource;
use crate::text::visible;
use crate::units::counted;

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It is another one, and may do the same.
    Same,
    /// It may do less.
    Narrower,
    /// It may do what it could not.
    Wider,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Where: a plugin's source, a step's path; empty if there is only one thing.
    pub place: String,
    /// How much it matters.
    pub severity: Severity,
    /// What has changed: `wants`, `imports`, `grants`, `secrets`, `signers`, `limits`, `plugin`, `step`,
    /// `workflow`, `source`, `version`, `digest`.
    pub what: &'static str,
    /// Whether it came (`+`), went (`-`), or became another one (`~`).
    pub sign: char,
    /// What came, went or changed.
    pub item: String,
    /// Why, in the words of the component's author; may be empty.
    pub reason: String,
}

/// All that has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Review {
    /// What is wider first, then what is narrower.
    pub changes: Vec<Change>,
}

/// What a component may import that is nothing but computing: everything else is a way out of it.
const INERT: [&str; 6] =
    ["downbeat:step/log@", "downbeat:step/types@", "downbeat:step/progress@", "wasi:io/", "wasi:cli/", "wasi:clocks/"];

impl Review {
    /// Of a component.
    pub fn of_components(old: &Pinned, new: &Pinned) -> Review {
        Review::of(|out| components("", old, new, out))
    }

    /// Of a lock.
    pub fn of_locks(old: &Lock, new: &Lock) -> Review {
        Review::of(|out| {
            let sources: BTreeSet<&String> = old.plugins.keys().chain(new.plugins.keys()).collect();
            for source in sources {
                match (old.plugins.get(source), new.plugins.get(source)) {
                    (Some(old), Some(new)) => components(source, old, new, out),
                    (None, Some(new)) => one(source, new, '+', out),
                    (Some(old), None) => one(source, old, '-', out),
                    (None, None) => {}
                }
            }
        })
    }

    /// Of a workflow, with its sub-workflows: what its steps are granted, and what they run.
    pub fn of_plans(old: &Plan, new: &Plan) -> Review {
        let differs = Difference::of_plans(old, new);
        Review::of(|out| {
            let (old, new) = (steps(old), steps(new));
            let places: BTreeSet<&String> = old.iter().chain(&new).map(|step| &step.place).collect();
            for place in places {
                let find = |steps: &'_ [Step]| steps.iter().position(|step| step.place == *place);
                match (find(&old).map(|at| &old[at]), find(&new).map(|at| &new[at])) {
                    (Some(old), Some(new)) => of_steps(old, new, out),
                    (None, Some(new)) => whole(new, '+', Severity::Wider, out),
                    (Some(old), None) => whole(old, '-', Severity::Narrower, out),
                    (None, None) => {}
                }
            }
            // What is no capability may decide what is done with one: an approval that nobody waits for, another argument.
            let is_told = |key: &str| key.starts_with("grant.") || key.starts_with("limit.");
            let is_other = |change: &&difference::Change| {
                out.is_empty() || change.how != How::Changed || !change.keys.iter().all(|key| is_told(&key.key))
            };
            let parts: Vec<&str> = differs.changes.iter().filter(is_other).map(|change| change.part.as_str()).collect();
            if !parts.is_empty() {
                let item = told(&parts);
                let (place, reason) = (String::new(), String::new());
                out.push(Change { place, severity: Severity::Same, what: "workflow", sign: '~', item, reason });
            }
        })
    }

    fn of(find: impl FnOnce(&mut Vec<Change>)) -> Review {
        let mut changes = Vec::new();
        find(&mut changes);
        changes.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.place.cmp(&b.place)));
        Review { changes }
    }

    /// The gravest of its changes; `None` if there are none.
    pub fn severity(&self) -> Option<Severity> {
        self.changes.iter().map(|change| change.severity).max()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (severity, title) in TITLES {
            let changes: Vec<&Change> = self.changes.iter().filter(|change| change.severity == severity).collect();
            if changes.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{title}");
            for change in changes {
                let place = if change.place.is_empty() {
                    String::new()
                } else {
                    format!("{}: ", visible(&change.place, false))
                };
                let _ = writeln!(
                    text,
                    "  {} {place}{} {}{}",
                    change.sign,
                    change.what,
                    visible(&change.item, false),
                    reason(change)
                );
            }
        }
        if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
    }

    /// For a pull request: how the two are called, what it comes to, and each change.
    pub fn markdown(&self, old: &str, new: &str) -> String {
        let name = |name: &str| visible(name, false).replace('`', "'");
        let mut text = format!("### Capabilities: `{}` → `{}`\n\n", name(old), name(new));
        let of = |severity| self.changes.iter().filter(|change| change.severity == severity).count() as u64;
        let (wider, narrower) = (of(Severity::Wider), of(Severity::Narrower));
        let verdict = match self.severity() {
            None => "Nothing has changed.",
            Some(Severity::Same) => "It **may do the same** as before.",
            Some(Severity::Narrower) => "It **may do less** than before.",
            Some(Severity::Wider) => "It **may do more** than before.",
        };
        text.push_str(verdict);
        if wider + narrower > 0 {
            let _ = write!(text, " {} wider, {narrower} narrower.", counted(wider, "change"));
        }
        text.push('\n');
        if self.changes.is_empty() {
            return text;
        }
        text.push_str("\n| | where | what | item | why |\n|---|---|---|---|---|\n");
        for change in &self.changes {
            let mark = match (change.severity, change.sign) {
                (Severity::Wider, _) => "**wider**",
                (Severity::Narrower, _) => "narrower",
                (Severity::Same, _) => "",
            };
            // All of it is code, in which nothing is marked up and nobody is mentioned; a cell ends at a `|` without a `\`.
            let cell =
                |text: &str| visible(text, false).replace('`', "'").replace("\\|", "\\u{5c}|").replace('|', "\\|");
            let reason = if change.reason.is_empty() { String::new() } else { format!("`{}`", cell(&change.reason)) };
            let place = if change.place.is_empty() { String::new() } else { format!("`{}`", cell(&change.place)) };
            let _ = writeln!(
                text,
                "| {mark} | {place} | {} {} | `{}` | {reason} |",
                change.sign,
                change.what,
                cell(&change.item),
            );
        }
        text
    }
}

/// How many parts of a workflow that differ are told by their names.
const PARTS_SHOWN: usize = 8;

/// The parts that differ, and what shows in what.
fn told(parts: &[&str]) -> String {
    let more = parts.len().saturating_sub(PARTS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = &parts[..parts.len().min(PARTS_SHOWN)];
    format!("{}{more}: `downbeat expand` shows each", shown.join(", "))
}

const TITLES: [(Severity, &str); 3] =
    [(Severity::Wider, "may do more"), (Severity::Narrower, "may do less"), (Severity::Same, "may do the same")];

fn reason(change: &Change) -> String {
    match change.reason.is_empty() {
        true => String::new(),
        false => format!(" ({})", visible(&change.reason, false)),
    }
}

fn components(place: &str, old: &Pinned, new: &Pinned, out: &mut Vec<Change>) {
    let mut push = |severity, what, sign, item: &str, reason: &str| {
        out.push(Change { place: place.into(), severity, what, sign, item: item.into(), reason: reason.into() });
    };
    for want in new.wants.iter().filter(|want| old.wants.iter().all(|old| old.capability != want.capability)) {
        push(Severity::Wider, "wants", '+', &want.capability, &want.reason);
    }
    for want in old.wants.iter().filter(|want| new.wants.iter().all(|new| new.capability != want.capability)) {
        push(Severity::Narrower, "wants", '-', &want.capability, &want.reason);
    }
    for import in new.imports.iter().filter(|import| !old.imports.contains(import)) {
        push(Severity::Wider, "imports", '+', import, "");
    }
    for import in old.imports.iter().filter(|import| !new.imports.contains(import)) {
        push(Severity::Narrower, "imports", '-', import, "");
    }
    // Who vouches for it is no capability, and matters as much.
    for signer in old.signers.iter().filter(|signer| !new.signers.contains(signer)) {
        push(Severity::Wider, "signers", '-', signer, "");
    }
    for signer in new.signers.iter().filter(|signer| !old.signers.contains(signer)) {
        push(Severity::Same, "signers", '+', signer, "");
    }
    for want in &new.wants {
        let was = old.wants.iter().find(|old| old.capability == want.capability && old.reason != want.reason);
        if was.is_some() {
            push(Severity::Same, "wants", '~', &want.capability, &want.reason);
        }
    }
    let mut became = |what, old: &str, new: &str| {
        if old != new {
            push(Severity::Same, what, '~', &format!("{old} → {new}"), "");
        }
    };
    became("version", &old.version, &new.version);
    became("digest", old.digest.short(), new.digest.short());
    if let (Some(old), Some(new)) = (&old.source_digest, &new.source_digest) {
        became("source", old.short(), new.short());
    }
}

/// A component that came or went as a whole.
fn one(place: &str, pinned: &Pinned, sign: char, out: &mut Vec<Change>) {
    let severity = if sign == '+' { Severity::Wider } else { Severity::Narrower };
    let mut push = |severity, what, item: &str, reason: &str| {
        out.push(Change { place: place.into(), severity, what, sign, item: item.into(), reason: reason.into() });
    };
    push(severity, "plugin", &format!("{} {}", pinned.name, pinned.version), "");
    pinned.wants.iter().for_each(|want| push(severity, "wants", &want.capability, &want.reason));
    let telling = pinned.imports.iter().filter(|import| !INERT.iter().any(|inert| import.starts_with(inert)));
    telling.for_each(|import| push(severity, "imports", import, ""));
}

/// A step that runs a component.
struct Step<'p> {
    place: String,
    grants: Vec<Grant>,
    limits: &'p Limits,
    plugin: &'p crate::plan::Plugin,
}

fn steps(plan: &Plan) -> Vec<Step<'_>> {
    let names = crate::policy::names(plan);
    let mut steps = Vec::new();
    for (_, _, range) in plan.workflows() {
        for at in range {
            let Some(uses) = plan.steps[at].uses() else { continue };
            steps.push(Step {
                place: names[at].clone(),
                grants: uses.grants.items().collect(),
                limits: &uses.limits,
                plugin: &plan.plugins[uses.plugin.index()],
            });
        }
    }
    steps
}

fn of_steps(old: &Step<'_>, new: &Step<'_>, out: &mut Vec<Change>) {
    let mut push = |severity, what, sign, item: String| {
        out.push(Change { place: new.place.clone(), severity, what, sign, item, reason: String::new() });
    };
    // A workflow may have moved with its folder; what its relative paths mean has moved with it.
    let home = |grant: &Grant| at_home(grant.clone(), "/");
    let within = |grant: &Grant, others: &[Grant]| others.iter().any(|other| covers(&home(other), &home(grant)));
    for grant in new.grants.iter().filter(|grant| !within(grant, &old.grants)) {
        push(Severity::Wider, "grants", '+', grant.to_string());
    }
    for grant in old.grants.iter().filter(|grant| !within(grant, &new.grants)) {
        push(Severity::Narrower, "grants", '-', grant.to_string());
    }
    // Where a secret comes from is said by no grant: of another place it is another one, and a command is run for it.
    let (was, is) = (sources(&old.grants), sources(&new.grants));
    for (name, was) in was {
        if let Some(is) = is.get(name).filter(|is| **is != was) {
            let shown = |source: Option<&SecretSource>| serde_json::to_string(&source).unwrap_or_default();
            push(Severity::Wider, "secrets", '~', format!("{name} from {} → {}", shown(was), shown(*is)));
        }
    }
    let bounds = |limits: &Limits| {
        [
            ("memory", limits.memory),
            ("table-elements", limits.table_elements),
            ("output", limits.output),
            ("log", limits.log),
            ("process-output", limits.process_output),
            ("artifact", limits.artifact),
            ("process-memory", limits.process_memory),
            ("process-cpu", limits.process_cpu_ms),
            ("process-file", limits.process_file),
            ("processes", limits.processes),
            ("timeout", limits.time_ms),
        ]
    };
    for ((name, was), (_, is)) in bounds(old.limits).into_iter().zip(bounds(new.limits)) {
        if was != is {
            let severity = if is > was { Severity::Wider } else { Severity::Narrower };
            push(severity, "limits", '~', format!("{name} {was} → {is}"));
        }
    }
    let (was, is) = (&old.plugin.component, &new.plugin.component);
    if was.digest != is.digest {
        let told = |plugin: &crate::plan::Plugin| {
            let component = &plugin.component;
            format!("{} {}", component.description.name, component.digest.short())
        };
        let severity = if was.description.name == is.description.name { Severity::Same } else { Severity::Wider };
        push(severity, "plugin", '~', format!("{} → {}", told(old.plugin), told(new.plugin)));
    }
}

/// Where the secrets come from that are granted.
fn sources(grants: &[Grant]) -> BTreeMap<&str, Option<&SecretSource>> {
    let secrets = grants.iter().filter_map(|grant| match grant {
        Grant::Secrets(secret) => Some((secret.name.as_str(), secret.source.as_ref())),
        _ => None,
    });
    secrets.collect()
}

/// A step that came or went as a whole.
fn whole(step: &Step<'_>, sign: char, severity: Severity, out: &mut Vec<Change>) {
    let mut push = |severity, what, item: String| {
        out.push(Change { place: step.place.clone(), severity, what, sign, item, reason: String::new() });
    };
    // One that is granted nothing can only compute.
    let own = if step.grants.is_empty() { Severity::Same } else { severity };
    push(own, "step", format!("runs {}", step.plugin.component.description.name));
    step.grants.iter().for_each(|grant| push(severity, "grants", grant.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Digest, Want};

    fn pinned(wants: &[&str], digest: &[u8]) -> Pinned {
        let want = |capability: &&str| Want { capability: (*capability).into(), reason: "to fetch | send".into() };
        Pinned {
            name: "fetch".into(),
            version: "1.0.0".into(),
            digest: Digest::of(digest),
            source_digest: None,
            signers: Vec::new(),
            imports: vec!["wasi:http/outgoing-handler@0.2.0".into()],
            wants: wants.iter().map(want).collect(),
        }
    }

    #[test]
    fn one_more_host_is_all_that_is_wider() {
        let old = pinned(&["http:api.example.org"], b"a");
        let new = pinned(&["http:api.example.org", "http:cdn.example.org"], b"b");
        let review = Review::of_components(&old, &new);
        assert_eq!(review.severity(), Some(Severity::Wider));
        let digests = format!("{} → {}", old.digest.short(), new.digest.short());
        assert_eq!(
            review.text(),
            format!(
                "may do more\n  + wants http:cdn.example.org (to fetch | send)\nmay do the same\n  ~ digest {digests}\n"
            )
        );
        assert!(
            review
                .markdown("old", "new")
                .contains("| **wider** |  | + wants | `http:cdn.example.org` | `to fetch \\| send` |\n")
        );
        let mut rogue = new.clone();
        rogue.wants[1].reason = "see <img> `x` @team \\| done".into();
        let told = Review::of_components(&old, &rogue).markdown("old", "new");
        assert!(told.contains("| `see <img> 'x' @team \\u{5c}\\| done` |\n"), "{told}");
        let back = Review::of_components(&new, &old);
        assert_eq!(back.severity(), Some(Severity::Narrower));
        assert_eq!(Review::of_components(&old, &old), Review::default());
        assert_eq!(Review::default().text(), "nothing has changed\n");
    }

    #[test]
    fn a_plugin_that_is_new_in_a_lock_is_told_with_all_that_it_wants() {
        let one = |source: &str, pinned: Pinned| Lock { plugins: [(source.to_owned(), pinned)].into() };
        let old = one("a.wasm", pinned(&["clock"], b"a"));
        let new = one("b.wasm", pinned(&["http"], b"a"));
        assert_eq!(
            Review::of_locks(&old, &new).text(),
            "may do more\n  + b.wasm: plugin fetch 1.0.0\n  + b.wasm: wants http (to fetch | send)\n  + b.wasm: imports \
             wasi:http/outgoing-handler@0.2.0\nmay do less\n  - a.wasm: plugin fetch 1.0.0\n  - a.wasm: wants clock (to \
             fetch | send)\n  - a.wasm: imports wasi:http/outgoing-handler@0.2.0\n"
        );
    }

    #[test]
    fn a_signature_that_is_gone_weighs_as_much_as_a_capability() {
        let signed = Pinned { signers: vec!["ed25519:a".into()], ..pinned(&[], b"a") };
        let review = Review::of_components(&signed, &pinned(&[], b"a"));
        assert_eq!(review.severity(), Some(Severity::Wider));
        assert_eq!(review.text(), "may do more\n  - signers ed25519:a\n");
    }
}
