//! A policy held against a plan: what each rule is not content with, and what that leads to.
//!
//! It looks at plans and not at files, so that a run that is taken up again is held against today's policy by the same
//! lines. A finding stands in the policy's own text, where its rule says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::{Allowed, At, Bound, Mode, Policy, Rule, Scope};
use crate::capability::{
    Capability, FileGrant, Forbidden, Grant, Grants, Key, Limits, Lowered, ProgramGrant, Protection, Withheld,
};
use crate::description::Digest;
use crate::diagnostic::{Collector, Diagnostic};
use crate::event::NeedState;
use crate::permission::cover::{at_home, covers, fits, forbids};
use crate::plan::{Held, Join, Plan, Step, StepNo, Use, Work};
use crate::secret::SecretSource;
use crate::spec::Source;
use crate::units;
use crate::written::Written;

/// What is known of the components beside what the plan says of them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The public keys whose signatures of a component were found right, `ed25519:…`, by the component's digest.
    pub signed: BTreeMap<Digest, Vec<String>>,
    /// The signatures beside a component that are of other bytes, by the component's digest.
    pub outdated: BTreeMap<Digest, Vec<Outdated>>,
    /// The other paths that programs are known by, by the name or path that plans and policies have for them: a link leads to the
    /// same file as what it is a link to.
    pub programs: BTreeMap<String, Vec<String>>,
    /// Where paths lead that are followed through links, by what [`paths`] has for them; empty of one that leads nowhere.
    pub files: BTreeMap<String, String>,
}

/// A signature that is right, and of other bytes than those that it lies beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// Whose, `ed25519:…`.
    pub key: String,
    /// What was signed.
    pub digest: Digest,
}

/// The programs that a plan grants, those that secrets are read by among them, and the paths of those that policies forbid: what
/// [`Facts::programs`] is asked about.
pub fn programs<'p>(plan: &'p Plan, policies: &'p [Policy]) -> (BTreeSet<String>, BTreeSet<&'p str>) {
    let uses = plan.steps.iter().filter_map(Step::uses);
    let grants = uses.flat_map(|uses| uses.grants.items()).flat_map(|grant| {
        let implied = implied(&grant, "/");
        implied.into_iter().chain([grant])
    });
    let granted = grants.filter_map(|grant| match grant {
        Grant::Process(granted) => Some(granted.program),
        _ => None,
    });
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let forbidden = rules.flat_map(|rule| &rule.forbid).flat_map(|forbid| &forbid.value).filter_map(|one| match one {
        Allowed::One(Grant::Process(one)) => Some(one.program.as_str()),
        _ => None,
    });
    (granted.collect(), forbidden.filter(|program| program.starts_with('/') && !program.contains('*')).collect())
}

/// The paths of a plan that are followed through links (what programs read, and the files of secrets), and those that policies speak
/// of: what [`Facts::files`] is asked about. They are absolute, or start with the user's home or a variable.
pub fn paths(plan: &Plan, policies: &[Policy]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let rules = || policies.iter().flat_map(|policy| &policy.rules);
    for (_, directory, steps) in plan.workflows() {
        for uses in plan.steps[steps].iter().filter_map(Step::uses) {
            paths.extend(uses.grants.items().flat_map(|grant| followed(&grant, directory)));
        }
        let said = rules().flat_map(|rule| rule.forbid.iter().chain(&rule.allow)).flat_map(|said| &said.value);
        for one in said {
            if let Allowed::One(pattern) = one {
                paths.extend(followed(pattern, directory));
            }
        }
    }
    paths
}

/// Holds policies against a plan. What is to be withheld is taken out of the plan, which from then on says under which
/// policies it was made. The findings are those of each policy's text, in the order of the policies; if one is an error, the
/// plan must not be run.
pub fn apply(plan: &mut Plan, policies: &[Policy], facts: &Facts) -> Vec<(Source, Vec<Diagnostic>)> {
    let mut found = Vec::new();
    let mut held = Vec::new();
    each_grants(plan, |_, grants| {
        grants.allowed_by.clear();
        grants.forbidden.clear();
        grants.led.clear();
    });
    let limits = |step: &Step| step.uses().map(|uses| uses.limits.clone()).unwrap_or_default();
    let authors: Vec<Limits> = plan.steps.iter().map(limits).collect();
    for policy in policies {
        let mut judge = Judge {
            plan: &*plan,
            authors: &authors,
            policy,
            facts,
            out: Collector::default(),
            taken: Vec::new(),
            lowered: Vec::new(),
            required: Vec::new(),
            allowed: Vec::new(),
            forbidden: Vec::new(),
            led: Vec::new(),
            speaking: vec![false; policy.rules.len()],
        };
        judge.judge();
        let Judge { out, taken, lowered, required, allowed, forbidden, led, speaking, .. } = judge;
        let rules = policy.rules.iter().zip(speaking).filter(|(_, speaks)| *speaks);
        held.push(Held {
            path: policy.source.path.clone(),
            digest: policy.digest.clone(),
            rules: rules.map(|(rule, _)| rule.name.clone()).collect(),
        });
        let findings = out.finish();
        for (at, grant, by) in taken {
            if let Work::Use(uses) = &mut plan.steps[at].work {
                uses.take(&grant);
                uses.grants.withheld.push(Withheld { grant, key: Key::Policy, by });
            }
        }
        for (at, bound, by) in lowered {
            lower(&mut plan.steps[at], bound, by);
        }
        for (at, protection) in required {
            if let Work::Use(uses) = &mut plan.steps[at].work
                && !uses.grants.require.contains(&protection)
            {
                uses.grants.require.push(protection);
            }
        }
        for (at, one) in forbidden {
            if let Work::Use(uses) = &mut plan.steps[at].work {
                uses.grants.forbidden.push(one);
            }
        }
        for (at, path, led) in led {
            if let Work::Use(uses) = &mut plan.steps[at].work {
                uses.grants.led.insert(path, led);
            }
        }
        for (at, by) in allowed {
            if let Work::Use(uses) = &mut plan.steps[at].work {
                uses.grants.allowed_by.push(by);
            }
        }
        if !findings.is_empty() {
            found.push((policy.source.clone(), findings));
        }
    }
    // Where nothing is left, there is nothing to be allowed.
    each_grants(plan, |is_empty, grants| {
        if is_empty {
            grants.allowed_by.clear()
        }
    });
    plan.policies = held;
    // What is derived from it, the digest among it, is derived again.
    *plan = plan.clone();
    found
}

/// Gives `each` the grants of every step that runs a component, and whether there are none.
fn each_grants(plan: &mut Plan, mut each: impl FnMut(bool, &mut Grants)) {
    for step in &mut plan.steps {
        if let Work::Use(uses) = &mut step.work {
            let is_empty = uses.grants.items().next().is_none();
            each(is_empty, &mut uses.grants);
        }
    }
}

/// A component that nobody has looked into yet.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'c> {
    /// The name and the folder of the workflow that names it.
    pub workflow: &'c [&'c str],
    /// What is laid over the workflow.
    pub environments: &'c [String],
    /// Its file.
    pub path: &'c str,
    /// Of its bytes.
    pub digest: &'c Digest,
    /// The public keys that have signed it.
    pub signed: &'c [String],
    /// The signatures beside it that are of other bytes.
    pub outdated: &'c [Outdated],
}

/// What to do about a component that was changed since it was signed. By whom and for what, nobody knows here: so the first
/// thing is not to sign it.
pub const CHANGED: &str = "take the component that was signed; if the change is meant, whoever owns the key reviews it and signs \
                           it (`downbeat sign COMPONENT --key FILE`)";

/// Why a component is not even to be looked into: a rule asks for a signature that it does not have. In a second line what
/// to do. Rules that are about components by their own names are asked once these are known.
pub fn unsigned(policy: &Policy, candidate: &Candidate<'_>) -> Option<String> {
    let known = policy.signers.iter().filter(|signer| candidate.signed.contains(&signer.key));
    let names: Vec<&str> = known.map(|signer| signer.name.as_str()).collect();
    let any = |patterns: &Option<Vec<String>>, texts: &[&str]| {
        patterns
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| texts.iter().any(|text| fits(pattern, text))))
    };
    let environments: Vec<&str> = candidate.environments.iter().map(String::as_str).collect();
    let is_of_it = |scope: &Scope| {
        any(&scope.workflow, candidate.workflow)
            && any(&scope.plugin, &[candidate.digest.as_str(), candidate.path])
            && any(&scope.signer, &names)
            && any(&scope.environment, &environments)
    };
    let names_itself =
        |scope: &Scope| scope.plugin.iter().flatten().any(|name| !name.contains('/') && !name.starts_with("sha256:"));
    policy.rules.iter().filter(|rule| rule.mode != Mode::Report).find_map(|rule| {
        let wanted = rule.signers.as_ref()?;
        let scopes = [Some(&rule.speaks_of), rule.except.as_ref()];
        let is_open = scopes.into_iter().flatten().any(names_itself);
        let is_spoken_of = is_of_it(&rule.speaks_of) && !rule.except.as_ref().is_some_and(is_of_it);
        let is_signed = wanted.value.iter().any(|name| names.contains(&name.as_str()));
        if is_open || !is_spoken_of || is_signed {
            return None;
        }
        let rule_told = policy.told(rule, &wanted.span);
        if let Some((signer, was)) = outdated(policy, &wanted.value, candidate.outdated) {
            let now = candidate.digest;
            return Some(format!(
                "it has changed since `{signer}` signed it: the signature is of {was}, it is {now}, and {rule_told} asks for a \
                 signature\n{CHANGED}"
            ));
        }
        let who = wanted.value.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        Some(format!(
            "it is not signed by {who}, which {rule_told} asks for\n`downbeat sign COMPONENT --key FILE` signs it"
        ))
    })
}

/// Of these signers, the first who has signed other bytes, and which.
fn outdated<'p, 'o>(policy: &'p Policy, names: &[String], outdated: &'o [Outdated]) -> Option<(&'p str, &'o Digest)> {
    let signers = policy.signers.iter().filter(|signer| names.contains(&signer.name));
    let mut both = signers.flat_map(|signer| outdated.iter().map(move |signature| (signer, signature)));
    let (signer, signature) = both.find(|(signer, signature)| signer.key == signature.key)?;
    Some((&signer.name, &signature.digest))
}

/// Why a source folder is not to be compiled for a workflow, which runs what its author wants with the rights of the engine: a
/// rule trusts other places, or asks for signatures, which what is only made now does not have. In a second line what to do.
/// `workflow` is its name and folder, and nothing where no workflow names it: then rules are about it whatever they say of workflows.
/// Rules are taken to be about the folder whatever they say of components.
pub fn unbuildable(policy: &Policy, workflow: &[&str], environments: &[String], folder: &str) -> Option<String> {
    let any = |patterns: &Option<Vec<String>>, texts: &[&str]| {
        patterns
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| texts.iter().any(|text| fits(pattern, text))))
    };
    let environments: Vec<&str> = environments.iter().map(String::as_str).collect();
    let may_be = |rule: &&Rule| {
        workflow.is_empty()
            || any(&rule.speaks_of.workflow, workflow) && any(&rule.speaks_of.environment, &environments)
    };
    policy.rules.iter().filter(|rule| rule.mode != Mode::Report).filter(may_be).find_map(|rule| {
        if let Some(signers) = &rule.signers {
            return Some(format!(
                "it would have to be compiled, and {} asks for a signature, which it would not have\n`downbeat plugin build \
                 FOLDER --key FILE` compiles and signs it",
                policy.told(rule, &signers.span)
            ));
        }
        let sources = rule.sources.as_ref()?;
        let is_trusted = sources.value.iter().any(|pattern| fits(pattern, folder));
        (!is_trusted).then(|| {
            format!(
                "it would have to be compiled, and {folder} is no source that is allowed: {}\n`downbeat plugin build` \
                 compiles it, if you trust it",
                policy.told(rule, &sources.span)
            )
        })
    })
}

/// Sets a limit to what a bound says.
pub(super) fn set(limits: &mut Limits, bound: Bound) {
    if let Some(limit) = limit(limits, bound.name) {
        *limit = bound.most;
    }
}

/// Lowers a limit of a step to what a bound says, if it is above it, and notes by whom.
fn lower(step: &mut Step, bound: Bound, by: String) {
    // A step's own time-out comes before the limit.
    let own = step.timeout_ms.as_mut().filter(|_| bound.name == "timeout");
    let Work::Use(uses) = &mut step.work else { return };
    let mut is_above = false;
    for value in own.into_iter().chain(limit(&mut uses.limits, bound.name)).filter(|value| **value > bound.most) {
        (*value, is_above) = (bound.most, true);
    }
    if is_above {
        uses.limits.lowered.retain(|lowered| lowered.limit != bound.name);
        uses.limits.lowered.push(Lowered { limit: bound.name.to_owned(), by });
    }
}

fn limit<'l>(limits: &'l mut Limits, name: &str) -> Option<&'l mut u64> {
    match name {
        "memory" => Some(&mut limits.memory),
        "table-elements" => Some(&mut limits.table_elements),
        "output" => Some(&mut limits.output),
        "log" => Some(&mut limits.log),
        "process-output" => Some(&mut limits.process_output),
        "artifact" => Some(&mut limits.artifact),
        "process-memory" => Some(&mut limits.process_memory),
        "process-cpu" => Some(&mut limits.process_cpu_ms),
        "process-file" => Some(&mut limits.process_file),
        "processes" => Some(&mut limits.processes),
        "timeout" => Some(&mut limits.time_ms),
        _ => None,
    }
}

struct Judge<'j> {
    plan: &'j Plan,
    /// The limits of each step before any of the policies lowered one.
    authors: &'j [Limits],
    policy: &'j Policy,
    facts: &'j Facts,
    out: Collector,
    /// What is withheld: the step's place, what, and why.
    taken: Vec<(usize, Grant, String)>,
    /// Limits that are above a bound and can be lowered: the step's place, the bound, and whose it is.
    lowered: Vec<(usize, Bound, String)>,
    /// Protections of programs that steps must not be without.
    required: Vec<(usize, Protection)>,
    /// Rules that allow what a step is left with: the step's place, and the rule. What they don't allow is taken away, or keeps
    /// the plan from being run.
    allowed: Vec<(usize, String)>,
    /// Programs that steps must not start, by whatever name.
    forbidden: Vec<(usize, Forbidden)>,
    /// Paths of steps that rules about grants were asked about, and where they lead.
    led: Vec<(usize, String, String)>,
    /// For each rule whether it speaks of a step.
    speaking: Vec<bool>,
}

/// A step that runs a component, and what it is in.
#[derive(Clone, Copy)]
struct Here<'h> {
    at: usize,
    name: &'h str,
    /// Of the file that it is written in.
    workflow: &'h str,
    directory: &'h str,
    uses: &'h Use,
}

impl<'j> Judge<'j> {
    fn judge(&mut self) {
        let (plan, policy) = (self.plan, self.policy);
        let names = names(plan);
        let approved: Vec<Option<Vec<bool>>> =
            policy.rules.iter().map(|rule| rule.approvals.as_ref().map(|who| approved(plan, &who.value))).collect();
        for (workflow, directory, steps) in plan.workflows() {
            for at in steps {
                let Some(uses) = plan.steps[at].uses() else { continue };
                let here = Here { at, name: &names[at], workflow, directory, uses };
                for (number, (rule, approved)) in policy.rules.iter().zip(&approved).enumerate() {
                    let is_spoken_of = self.fits(&rule.speaks_of, here)
                        && !rule.except.as_ref().is_some_and(|except| self.fits(except, here));
                    if is_spoken_of {
                        self.speaking[number] = true;
                        self.rule(rule, here);
                        if let (Some(who), Some(false)) = (&rule.approvals, approved.as_ref().map(|steps| steps[at])) {
                            let message = format!(
                                "{} runs without the approval of {}",
                                told(here, None),
                                who.value.iter().map(|who| format!("`{who}`")).collect::<Vec<_>>().join(" or ")
                            );
                            let one = who.value.iter().find(|who| !who.contains('*')).map_or("WHO", String::as_str);
                            let hint = format!(
                                "let it need a step with `wait = {{ approval = [\"{one}\"] }}` and `timeout = \"1d\"`: one that names \
                                 nobody else, and waits for nothing else"
                            );
                            self.refuse(rule, &who.span, message, &hint);
                        }
                    }
                }
            }
        }
    }

    fn fits(&self, scope: &Scope, here: Here<'_>) -> bool {
        let plugin = &self.plan.plugins[here.uses.plugin.index()];
        let any = |patterns: &Option<Vec<String>>, texts: &[&str]| {
            patterns
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| texts.iter().any(|text| fits(pattern, text))))
        };
        let signers: Vec<&str> = self.signers(&plugin.component.digest).collect();
        let environments: Vec<&str> = self.plan.environments.iter().map(String::as_str).collect();
        let component = &plugin.component;
        any(&scope.workflow, &[&self.plan.name, here.workflow, &self.plan.directory, here.directory])
            && any(&scope.plugin, &[&component.description.name, component.digest.as_str(), &plugin.path])
            && any(&scope.signer, &signers)
            && any(&scope.environment, &environments)
    }

    /// Those of the policy's signers who have signed it.
    fn signers(&self, digest: &Digest) -> impl Iterator<Item = &'j str> {
        let keys: &[String] = self.facts.signed.get(digest).map_or(&[], Vec::as_slice);
        let known = self.policy.signers.iter().filter(move |signer| keys.contains(&signer.key));
        known.map(|signer| signer.name.as_str())
    }

    fn rule(&mut self, rule: &Rule, here: Here<'_>) {
        let plugin = &self.plan.plugins[here.uses.plugin.index()];
        let (name, component) = (&plugin.name, &plugin.component);
        if let Some(sources) = &rule.sources
            && !sources.value.iter().any(|pattern| fits(pattern, &plugin.path))
        {
            let message =
                format!("{} runs `{name}` from {}, which is no source that is allowed", told(here, None), plugin.path);
            self.refuse(rule, &sources.span, message, "");
        }
        if let Some(signers) = &rule.signers {
            let signed: Vec<&str> = self.signers(&component.digest).collect();
            let others = self.facts.outdated.get(&component.digest).map_or(&[][..], Vec::as_slice);
            let is_signed = signers.value.iter().any(|name| signed.contains(&name.as_str()));
            if let (false, Some((signer, was))) = (is_signed, outdated(self.policy, &signers.value, others)) {
                let message = format!(
                    "{} runs `{name}` ({}), which has changed since `{signer}` signed it as {was}",
                    told(here, None),
                    component.digest
                );
                self.refuse(rule, &signers.span, message, CHANGED);
            } else if !is_signed {
                let who = signers.value.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
                let message = format!(
                    "{} runs `{name}` ({}), which is not signed by {who}",
                    told(here, None),
                    component.digest.short()
                );
                self.refuse(rule, &signers.span, message, "`downbeat sign COMPONENT --key FILE` signs it");
            }
        }
        for grant in items(&here.uses.grants) {
            self.grant(rule, here, &grant);
        }
        // What a link leads to is seen once more when a program is to be started.
        let forbid = rule.forbid.as_ref().filter(|_| rule.mode != Mode::Report && !here.uses.grants.process.is_empty());
        for (forbid, one) in forbid.into_iter().flat_map(|forbid| forbid.value.iter().map(move |one| (forbid, one))) {
            if let Allowed::One(Grant::Process(program)) = one {
                let by = self.policy.told(rule, &forbid.span);
                self.forbidden.push((here.at, Forbidden { program: program.clone(), by }));
            }
        }
        if let Some(allow) = rule.allow.as_ref().filter(|_| rule.mode != Mode::Report) {
            self.allowed.push((here.at, self.policy.told(rule, &allow.span)));
        }
        if rule.mode != Mode::Report && (rule.allow.is_some() || rule.forbid.is_some()) {
            let is_folder = |grant: &Grant| matches!(grant, Grant::Files(_));
            let grants = here.uses.grants.items().filter(|grant| !is_folder(grant));
            for path in grants.flat_map(|grant| followed(&grant, here.directory)) {
                if let Some(led) = self.facts.files.get(&path) {
                    self.led.push((here.at, path, led.clone()));
                }
            }
        }
        for bound in &rule.limits {
            self.limit(rule, here, bound);
        }
        // Whether the system has them is seen when a program is to be started.
        if rule.mode != Mode::Report && !here.uses.grants.process.is_empty() {
            self.required.extend(rule.require.iter().map(|protection| (here.at, *protection)));
        }
    }

    fn grant(&mut self, rule: &Rule, here: Here<'_>, grant: &Grant) {
        let home = at_home(grant.clone(), here.directory);
        let implied = implied(&home, here.directory);
        let names: Vec<Grant> = match &rule.forbid {
            Some(_) => {
                let led =
                    self.led_to(grant, here.directory).map(|path| FileGrant { path: path.to_owned(), write: false });
                let known = std::iter::once(&home).chain(&implied).flat_map(|grant| self.known_as(grant));
                known.chain(led.map(Grant::Files)).collect()
            }
            None => Vec::new(),
        };
        let is_forbidden = |pattern: &Allowed| match pattern {
            Allowed::All(capability) => {
                *capability == home.capability()
                    || implied.iter().any(|grant| grant.capability() == *capability)
                    || (*capability == Capability::Files && reads_elsewhere(&home))
            }
            Allowed::One(written) => {
                let pattern = at_home(written.clone(), here.directory);
                // A name is no file: what else leads to one that is called so depends on the machine, and on other steps.
                let is_path = matches!(&pattern, Grant::Process(program) if program.program.starts_with('/'));
                let mut patterns = if is_path { self.known_as(&pattern) } else { vec![pattern.clone()] };
                if let Grant::Files(file) = &pattern {
                    let led = self.led_to(written, here.directory);
                    patterns.extend(led.map(|path| Grant::Files(FileGrant { path: path.to_owned(), ..file.clone() })));
                }
                let is_it = |grant: &Grant| patterns.iter().any(|pattern| forbids(pattern, grant));
                let is_read = matches!(&pattern, Grant::Files(pattern) if !pattern.write) && reads_elsewhere(&home);
                names.iter().any(is_it) || is_read
            }
        };
        let is_allowed = |pattern: &Allowed| match pattern {
            Allowed::All(capability) => *capability == home.capability(),
            Allowed::One(pattern) => {
                covers(&at_home(pattern.clone(), here.directory), &home) && self.leads_within(pattern, &home)
            }
        };
        let place = match (&rule.forbid, &rule.allow) {
            (Some(forbid), _) if forbid.value.iter().any(is_forbidden) => &forbid.span,
            (_, Some(allow)) if !allow.value.iter().any(is_allowed) && !self.comes_with(allow, here, grant) => {
                &allow.span
            }
            _ => return,
        };
        if rule.mode == Mode::Withhold {
            self.taken.push((here.at, grant.clone(), self.policy.told(rule, place)));
        }
        let message = format!("{} is granted `{grant}`", told(here, here.uses.place_of(grant)));
        self.find(rule, place, message, "");
    }

    /// Where the paths of a grant lead that are followed through links.
    fn led_to(&self, grant: &Grant, directory: &str) -> impl Iterator<Item = &'j str> {
        let facts = self.facts;
        let paths = followed(grant, directory).into_iter();
        paths.filter_map(move |path| facts.files.get(&path)).map(String::as_str).filter(|led| !led.is_empty())
    }

    /// Whether what a program reads also lies within what is allowed where links lead to.
    fn leads_within(&self, pattern: &Grant, grant: &Grant) -> bool {
        let (Grant::Process(wide), Grant::Process(narrow)) = (pattern, grant) else { return true };
        let led = |grant: &Grant| self.led_to(grant, "").map(str::to_owned).collect::<Vec<String>>();
        let read = [wide.read.clone(), led(pattern)].concat();
        let wide = Grant::Process(ProgramGrant { read, ..wide.clone() });
        covers(&wide, &Grant::Process(ProgramGrant { read: led(grant), ..narrow.clone() }))
    }

    /// A grant, and, if it is a program, the same by all other paths that lead to it.
    fn known_as(&self, grant: &Grant) -> Vec<Grant> {
        let mut known = vec![grant.clone()];
        if let Grant::Process(granted) = grant {
            let others = self.facts.programs.get(&granted.program).into_iter().flatten();
            known.extend(
                others.map(|program| Grant::Process(ProgramGrant { program: program.clone(), ..granted.clone() })),
            );
        }
        known
    }

    /// Whether a variable is that of a program whose grant, with these variables, is allowed.
    fn comes_with(&self, allow: &At<Vec<Allowed>>, here: Here<'_>, grant: &Grant) -> bool {
        let Grant::Env(name) = grant else { return false };
        if here.uses.grants.env.contains(name) {
            return false;
        }
        let has_it = |program: &&ProgramGrant| program.env.as_ref().is_some_and(|env| env.contains(name));
        here.uses.grants.process.iter().filter(has_it).all(|program| {
            let program = Grant::Process(program.clone());
            allow.value.iter().any(|allowed| match allowed {
                Allowed::One(Grant::Process(wide)) => {
                    wide.env.is_some() && covers(&Grant::Process(wide.clone()), &program)
                }
                _ => false,
            })
        })
    }

    fn limit(&mut self, rule: &Rule, here: Here<'_>, bound: &At<Bound>) {
        let name = bound.value.name;
        let (mut own, mut usual) = (here.uses.limits.clone(), Limits::default());
        let (Some(own), Some(usual)) = (limit(&mut own, name), limit(&mut usual, name)) else { return };
        let asked = if name == "timeout" { self.plan.steps[here.at].timeout_ms } else { None };
        let value = asked.unwrap_or(*own);
        // What another policy has lowered is not what the author asked for.
        let mut authors = self.authors[here.at].clone();
        let is_unusual = limit(&mut authors, name).is_some_and(|own| *own != *usual);
        let is_asked = (asked.is_some() || is_unusual) && authors.lowered_by(name).is_none();
        if value <= bound.value.most {
            return;
        }
        if rule.mode == Mode::Withhold || !is_asked && rule.mode != Mode::Report {
            self.lowered.push((here.at, bound.value, self.policy.told(rule, &bound.span)));
        }
        if is_asked || rule.mode == Mode::Report {
            let place = if is_asked { here.uses.places.limit(name) } else { None };
            let (mut is, mut most) = (units::limit(name, value), units::limit(name, bound.value.most));
            if is == most {
                (is, most) = (value.to_string(), bound.value.most.to_string());
            }
            let message = format!("{} has {name} {is}, and {most} is the most", told(here, place));
            self.find(rule, &bound.span, message, "");
        }
    }

    /// Of what can't be taken away: where it would be, the plan is refused.
    fn refuse(&mut self, rule: &Rule, span: &Range<usize>, message: String, hint: &str) {
        let mode = if rule.mode == Mode::Withhold { Mode::Enforce } else { rule.mode };
        self.say(rule, mode, span, message, hint);
    }

    fn find(&mut self, rule: &Rule, span: &Range<usize>, message: String, hint: &str) {
        self.say(rule, rule.mode, span, message, hint);
    }

    fn say(&mut self, rule: &Rule, mode: Mode, span: &Range<usize>, message: String, hint: &str) {
        let message = format!("{message}: {}", self.policy.told(rule, span));
        let hint = match (rule.description.as_str(), hint) {
            ("", "") => None,
            (why, "") => Some(why.to_owned()),
            ("", hint) => Some(hint.to_owned()),
            (why, hint) => Some(format!("{why}; {hint}")),
        };
        let (found, label) = match mode {
            Mode::Enforce => (Diagnostic::error("policy", span.clone(), message), "refused by this"),
            Mode::Withhold => (Diagnostic::warning("policy", span.clone(), message), "taken away by this"),
            Mode::Report => (Diagnostic::warning("policy", span.clone(), message), "reported by this, and not refused"),
        };
        let found = found.label(label).maybe_hint(hint);
        self.out.push(if rule.span == *span { found } else { found.also(rule.span.clone(), "the rule") });
    }
}

/// A step as a sentence begins with it: where it is written, or the part of it that is meant, if that is known.
fn told(here: Here<'_>, part: Option<&Written>) -> String {
    let place = part.or(here.uses.places.step()).map_or_else(String::new, |written| format!("{written}: "));
    format!("{place}the step `{}` of `{}`", here.name, here.workflow)
}

/// What comes with a grant, in the words of grants of its own: the files that a program may read beside, and what a secret is
/// made of. A variable that nobody but the engine sees the value of is none that is granted.
fn implied(grant: &Grant, directory: &str) -> Vec<Grant> {
    let file = |path: &str| at_home(Grant::Files(FileGrant { path: path.to_owned(), write: false }), directory);
    match grant {
        Grant::Process(program) => {
            program.read.iter().filter(|path| !is_told_later(path)).map(|path| file(path)).collect()
        }
        Grant::Secrets(secret) => match &secret.source {
            Some(SecretSource::File(path)) if path != "*" => vec![file(path)],
            Some(SecretSource::Env(name)) if name != "*" && (secret.reveal || secret.env.is_some()) => {
                vec![Grant::Env(name.clone())]
            }
            Some(SecretSource::Command(words)) => match words.split_first() {
                Some((program, args)) if program != "*" => {
                    let args = Some(args.to_vec());
                    vec![Grant::Process(ProgramGrant { args, ..program.as_str().into() })]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Whether a program may read from a folder that only the machine that runs it knows: it may be what is forbidden.
fn reads_elsewhere(grant: &Grant) -> bool {
    matches!(grant, Grant::Process(program) if program.read.iter().any(|path| is_told_later(path)))
}

/// The home of whoever runs it and what is below, or below what a variable says.
fn is_told_later(path: &str) -> bool {
    path == "~" || path.starts_with("~/") || path.starts_with('$')
}

/// The paths of a grant, or of what a rule says of grants, that are followed through links. What a program may read by a relative
/// path is opened through none, and so is a granted folder; but a rule may name it by one.
fn followed(grant: &Grant, directory: &str) -> Vec<String> {
    let from = |path: &str| match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", directory.trim_end_matches('/')),
    };
    match grant {
        Grant::Process(program) => {
            program.read.iter().filter(|path| path.starts_with('/') || is_told_later(path)).cloned().collect()
        }
        Grant::Files(file) => vec![from(&file.path)],
        Grant::Secrets(secret) => match &secret.source {
            Some(SecretSource::File(path)) if path != "*" => vec![from(path)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What is granted, the variables of single programs among it.
fn items(grants: &Grants) -> Vec<Grant> {
    let mut items: Vec<Grant> = grants.items().collect();
    for name in grants.process.iter().filter_map(|program| program.env.as_ref()).flatten() {
        let variable = Grant::Env(name.clone());
        if !items.contains(&variable) {
            items.push(variable);
        }
    }
    items
}

/// The steps' names, with the steps that they are within: `deploy/push`.
pub fn names(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = plan.steps.iter().map(|step| step.name.clone()).collect();
    let mut is_named = vec![false; plan.bodies.len() + 1];
    let mut open = VecDeque::from([crate::plan::BodyId(0)]);
    while let Some(body) = open.pop_front() {
        for at in plan.steps_of(body) {
            let Some(opens) = plan.steps[at as usize].opens() else { continue };
            if std::mem::replace(&mut is_named[opens.body.index()], true) {
                continue;
            }
            for inner in plan.steps_of(opens.body) {
                names[inner as usize] = format!("{}/{}", names[at as usize], plan.steps[inner as usize].name);
            }
            open.push_back(opens.body);
        }
    }
    names
}

/// The steps of which none begins before one of these has approved it. What can't be told for certain counts as not
/// approved: an approval that others may give as well or that waits for something else beside, and what is known only of
/// steps within a step that is needed.
fn approved(plan: &Plan, by: &[String]) -> Vec<bool> {
    let mut is_approved = vec![false; plan.steps.len()];
    let mut met = vec![0_usize; plan.steps.len()];
    let mut queue: VecDeque<StepNo> = VecDeque::new();
    let mut openers = vec![0_usize; plan.bodies.len() + 1];
    plan.steps.iter().filter_map(Step::opens).for_each(|opens| openers[opens.body.index()] += 1);
    for at in 0..plan.steps.len() {
        let Work::Wait(wait) = &plan.steps[at].work else { continue };
        let is_alone = wait.for_ms.is_none() && wait.until.is_none() && wait.signal.is_none();
        let is_theirs =
            |word: &crate::plan::Approval| word.by.iter().all(|who| by.iter().any(|pattern| fits(pattern, who)));
        if is_alone && wait.approval.as_ref().is_some_and(is_theirs) {
            queue.push_back(StepNo(at as u32));
        }
    }
    let mut is_seen: Vec<bool> = vec![false; plan.steps.len()];
    while let Some(no) = queue.pop_front() {
        if std::mem::replace(&mut is_seen[no.index()], true) {
            continue;
        }
        let step = plan.step(no);
        let is_word = matches!(step.work, Work::Wait(_)) && !is_approved[no.index()];
        let mut reach = |no: StepNo, is_approved: &mut Vec<bool>| {
            is_approved[no.index()] = true;
            queue.push_back(no);
        };
        for (dependent, state) in plan.dependents(no) {
            // The word itself has to be a yes; of what it lets begin, that it began.
            let tells = match state {
                NeedState::Succeeded => true,
                NeedState::Failed | NeedState::Started => !is_word,
                NeedState::Skipped | NeedState::Finished => false,
            };
            let needs = plan.step(*dependent).needs.len();
            met[dependent.index()] += usize::from(tells);
            let enough = if plan.step(*dependent).join == Join::All { 1 } else { needs };
            if met[dependent.index()] >= enough && !plan.step(*dependent).always {
                reach(*dependent, &mut is_approved);
            }
        }
        if is_word {
            continue;
        }
        if let Some(opens) = step.opens() {
            // Whatever else opens it has to be approved as well.
            openers[opens.body.index()] -= 1;
            if openers[opens.body.index()] == 0 {
                plan.steps_of(opens.body).for_each(|at| reach(StepNo(at), &mut is_approved));
            }
        }
        if let Some(undo) = step.undo {
            reach(undo, &mut is_approved);
        }
    }
    is_approved
}
