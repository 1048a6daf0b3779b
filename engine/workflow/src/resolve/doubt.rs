//! Doubts: what a run could do, and what is hardly meant so. Each of them is a warning, and has to be right: what can't be told
//! for certain is not told. Whatever makes a plan impossible is found elsewhere.
//!
//! `input` looks at what one step is given, once its holes have types; [`file`] at the file as a whole.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Resolver;
use super::body::Frame;
use super::draft::beside;
use crate::description::Component;
use crate::diagnostic::{Collector, Diagnostic};
use crate::plan::BodyId;
use crate::rule::{Expression, Hole, Mention, Part, Text, Tree, TreeKind};
use crate::schema::Kinds;
use crate::spec::{Entries, GrantSpec, JoinSpec, Place, Spanned, Spec, StepSpec, Value, ValueKind, duration_ms};

/// Programs that run a text that they are given, and the last letter of the options before it.
const INTERPRETERS: &[(&str, &[&str])] = &[
    ("sh", &["c"]),
    ("bash", &["c"]),
    ("dash", &["c"]),
    ("ash", &["c"]),
    ("ksh", &["c"]),
    ("zsh", &["c"]),
    ("fish", &["c"]),
    ("python", &["c"]),
    ("python3", &["c"]),
    ("perl", &["e", "E"]),
    ("ruby", &["e"]),
    ("node", &["e", "p"]),
];

/// What only a shell understands, as an argument by itself.
const SHELL_WORDS: &[&str] = &["|", "||", "&&", ">", ">>", "<", "2>&1", "2>", "&"];

/// Programs to which a word such as `|` means something of their own.
const OWN_WORDS: &[&str] = &["expr", "test", "[", "awk", "gawk", "jq", "printf", "echo", "grep", "find", "bc"];

/// Programs that run others as somebody else.
const RAISERS: &[&str] = &["sudo", "su", "doas", "pkexec", "runuser"];

/// Folders that hold far more than one workflow's files.
const BROAD: &[&str] =
    &["/", "/bin", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/sys", "/usr", "/var", "/Users"];

impl<'a> Resolver<'a, '_, '_> {
    /// Looks at what a component is given, against what its step grants it.
    pub(super) fn doubt_input(&mut self, spec: &'a StepSpec, tree: &Tree, component: Option<&Component>) {
        let TreeKind::Table(entries) = &tree.kind else { return };
        let part = |name: &str| entries.iter().find(|(key, ..)| key == name).map(|(.., value)| value);
        let wants = |name: &str| {
            component.is_some_and(|component| component.description.wants.iter().any(|want| want.kind() == name))
        };
        if let Some((program, text)) = part("program").and_then(|program| Some((program, plain(program)?)))
            && wants("process")
        {
            self.program(spec, program, text);
            if let Some(Tree { kind: TreeKind::List(args), .. }) = part("args") {
                self.scripts(spec, text, args);
                self.no_shell(text, args);
            }
        }
        if let Some(url) = part("url").filter(|_| wants("http")) {
            self.destination(&spec.grant, url);
        }
    }

    /// That a program is not among those granted.
    fn program(&mut self, spec: &StepSpec, place: &Tree, program: &str) {
        if program.trim().contains(' ') && !program.contains('/') && !program.trim().is_empty() {
            let mut words = program.split_whitespace();
            let (name, rest) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
            let message = format!("`{program}` is no program: it would be looked up with its spaces");
            let found = Diagnostic::warning("no-shell", place.span.clone(), message).label("there is no shell");
            self.out.push(found.hint(format!("write `program = {name:?}, args = {rest:?}`")));
            return;
        }
        let Some(granted) = spec.grant.process.as_ref().filter(|granted| !granted.get_ref().is_empty()) else { return };
        if granted.get_ref().iter().all(|known| known.program.get_ref() != program) {
            let message = format!("the step runs `{program}` and is not granted it");
            let found = Diagnostic::warning("not-granted", place.span.clone(), message).label("will be refused");
            self.out
                .push(found.also(granted.span(), "what it is granted").hint(format!("add {program:?} to `process`")));
        }
    }

    /// That a host is not among those granted.
    fn destination(&mut self, grant: &GrantSpec, url: &Tree) {
        let Some(granted) = grant.http.as_ref().filter(|granted| !granted.get_ref().is_empty()) else { return };
        let text = match &url.kind {
            TreeKind::Text(Text::Plain(text)) => text.as_str(),
            // What comes before the first hole has to have the whole of the host.
            TreeKind::Text(Text::Mixed(parts)) => match parts.first() {
                Some(Part::Text(text)) if text.splitn(4, '/').count() == 4 => text.as_str(),
                _ => return,
            },
            _ => return,
        };
        let Some((scheme, rest)) = text.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()))
        {
            Some((host, port)) => (host, port),
            None => (authority, if scheme == "https" { "443" } else { "80" }),
        };
        if host.is_empty() {
            return;
        }
        let allows = |granted: &str| {
            let port_of = granted.strip_prefix(host)?;
            Some(match port_of {
                "" => port == "80" || port == "443",
                port_of => port_of == ":*" || port_of.strip_prefix(':') == Some(port),
            })
        };
        if granted.get_ref().iter().all(|known| allows(known.host.get_ref()) != Some(true)) {
            let needed = if matches!(port, "80" | "443") { host.to_owned() } else { format!("{host}:{port}") };
            let message = format!("the step asks `{needed}` and is not granted it");
            let found = Diagnostic::warning("not-granted", url.span.clone(), message).label("will be refused");
            self.out.push(found.also(granted.span(), "what it is granted").hint(format!("add {needed:?} to `http`")));
        }
    }

    /// That a value ends up as a part of a script: what it says is run.
    fn scripts(&mut self, spec: &'a StepSpec, program: &str, args: &[Tree]) {
        let words: Vec<Option<&str>> = std::iter::once(Some(program)).chain(args.iter().map(plain)).collect();
        for (at, word) in words.iter().enumerate() {
            let name = word.and_then(|word| word.rsplit('/').next()).unwrap_or_default();
            let Some((_, letters)) = INTERPRETERS.iter().find(|(known, _)| *known == name) else { continue };
            let options = words[at + 1..].iter().take_while(|word| word.is_some_and(|word| word.starts_with('-')));
            let options: Vec<&str> = options.copied().flatten().collect();
            let is_last =
                |option: &&str| !option.starts_with("--") && letters.iter().any(|letter| option.ends_with(letter));
            let Some(before) = options.iter().position(is_last) else { continue };
            // `words` begins with the program, `args` with what follows it.
            let Some(script) = args.get(at + before + 1) else { continue };
            let mut risky = Vec::new();
            script.holes(&mut |hole| risky.push(hole));
            risky.retain(|hole| self.is_risky(spec, hole));
            let Some(hole) = risky.first() else { continue };
            let text = hole.expression.text();
            let span = hole.place.span(0..text.len());
            let message = format!("`{text}` becomes a part of the script, and what it says is run");
            let found = Diagnostic::warning("script-injection", span, message).label("run by the interpreter");
            let (how, then) = match name {
                "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh" => ("\"$1\"", format!(", {name:?}")),
                "fish" => ("$argv[1]", String::new()),
                "python" | "python3" => ("sys.argv[1]", String::new()),
                "perl" | "ruby" => ("ARGV[0]", String::new()),
                _ => ("process.argv[1]", String::new()),
            };
            let hint = format!(
                "hand it on as an argument, which the script calls `{how}`: `args = [{:?}, \"…\"{then}, \"${{{text}}}\"]`",
                options[before]
            );
            self.out.push(found.hint(hint));
        }
    }

    /// Whether somebody else may have chosen the text that a hole becomes.
    fn is_risky(&self, spec: &StepSpec, hole: &Hole) -> bool {
        let text = hole.expression.text();
        let own = ["run.", "workflow."].iter().any(|start| text.starts_with(start)) || text.ends_with(".status");
        if own || hole.kinds.get().within(Kinds::NUMBER.or(Kinds::BOOL).or(Kinds::NULL)) {
            return false;
        }
        let mut mentions = hole.expression.mentions().peekable();
        if mentions.peek().is_none() {
            // `item` or `previous`, or nothing of a run at all.
            let foreach = spec.foreach.as_ref();
            let is_written = foreach.is_none_or(|foreach| foreach.zip.is_none())
                && foreach.and_then(|foreach| foreach.list.as_ref()).is_none_or(is_written);
            return text.contains("previous") || text.contains("item") && !is_written;
        }
        mentions.any(|mention| match mention {
            Mention::Input(name) => !self.is_bound(name),
            Mention::AllInputs | Mention::Step(_) => true,
            Mention::Secret(_) => false,
        })
    }

    /// Whether the author said which texts an input may be.
    fn is_bound(&self, name: &str) -> bool {
        let input = self.spec.inputs.iter().find(|(known, _)| known.get_ref() == name);
        input.is_some_and(|(_, input)| {
            let pattern = input.pattern.as_ref().map(|pattern| pattern.get_ref().as_str());
            input.options.is_some() || pattern.is_some_and(|text| text.starts_with('^') && text.ends_with('$'))
        })
    }

    /// That something is meant for a shell, and there is none.
    fn no_shell(&mut self, program: &str, args: &[Tree]) {
        let name = program.rsplit('/').next().unwrap_or_default();
        if OWN_WORDS.contains(&name) || INTERPRETERS.iter().any(|(known, _)| *known == name) {
            return;
        }
        let found =
            args.iter().find_map(|arg| plain(arg).filter(|word| SHELL_WORDS.contains(word)).map(|word| (arg, word)));
        if let Some((arg, word)) = found {
            let message = format!("`{word}` means something to a shell only, and no shell runs `{name}`");
            let found = Diagnostic::warning("no-shell", arg.span.clone(), message).label("handed on as it is");
            let hint = "make two steps of it, or let a shell run it: `program = \"sh\", args = [\"-c\", \"…\"]`";
            self.out.push(found.hint(hint));
        }
    }

    /// That a name means a step of this block, and could have meant one around it.
    pub(super) fn doubt_name(&mut self, name: &str, expression: &Expression, place: &Place) {
        let has = |frame: &Frame<'_>| frame.graph.index(name).filter(|at| frame.at != Some(*at));
        let mut seen = self.frames.iter().rev().filter(|frame| frame.graph.index(name).is_some());
        let (Some(inner), Some(outer)) = (seen.next(), seen.find_map(|frame| has(frame).map(|at| &frame.steps[at].0)))
        else {
            return;
        };
        let (inner, outer) = (inner.graph.index(name).map(|at| inner.steps[at].0.span()), outer.span());
        if !self.used.hidden.insert(name.to_owned()) {
            return;
        }
        let message = format!("`{name}` means the step of this block, and there is another `{name}` around it");
        let span = place.span(0..expression.text().len());
        let found = Diagnostic::warning("hidden-name", span, message).label("the inner one");
        let found = found.also(outer, "hidden by it").hint("give one of them another name");
        self.out.push(match inner {
            Some(inner) => found.also(inner, "this is meant"),
            None => found,
        });
    }

    /// That a rule comes to the same whatever happens.
    pub(super) fn constant_rule(&mut self, key: &str, expression: &Expression, span: Range<usize>) {
        let Some(serde_json::Value::Bool(holds)) = expression.constant() else { return };
        let follows = match (key, holds) {
            ("when", false) => "the step never runs",
            ("when", true) => "the step runs without it as well",
            ("while", false) => "there is never a round",
            ("until", true) => "there is never a second round",
            _ => "it never ends before `max`",
        };
        let message = format!("`{key}` is always {holds}: {follows}");
        let found = Diagnostic::warning("constant-rule", span, message).label("looks at nothing of the run");
        self.out.push(found);
    }
}

fn plain(tree: &Tree) -> Option<&str> {
    match &tree.kind {
        TreeKind::Text(Text::Plain(text)) => Some(text),
        _ => None,
    }
}

/// Whether a value is all in the file: nothing in it comes from a run.
fn is_written(value: &Value) -> bool {
    match &value.kind {
        ValueKind::String(text) => !text.contains("${"),
        ValueKind::List(items) => items.iter().all(is_written),
        ValueKind::Table(entries) => entries.iter().all(|(_, value)| is_written(value)),
        _ => true,
    }
}

/// A bound in time around a step, and where it is written.
#[derive(Clone)]
struct Around {
    ms: u64,
    span: Range<usize>,
    whose: String,
}

/// Looks at the file as a whole. Of a sub-workflow (`body` is not the first) it is not known how long it may take.
pub(super) fn file(spec: &Spec, path: &str, directory: &str, body: BodyId, out: &mut Collector) {
    let around = spec.timeout.as_ref().and_then(|text| {
        let ms = duration_ms(text.get_ref()).ok()?;
        Some(Around { ms, span: text.span(), whose: "the workflow".to_owned() })
    });
    steps(&spec.steps, around.as_ref(), body.index() == 0, out);
    for (name, input) in &spec.inputs {
        if let Some(default) = &input.default {
            secrets(Some(name.get_ref()), default, out);
        }
    }
    endless(spec, path, directory, out);
}

fn steps(all: &Entries<StepSpec>, around: Option<&Around>, is_own: bool, out: &mut Collector) {
    // Another branch may win, and end these.
    let cancels = |step: &StepSpec| {
        let is_all = step.join.as_ref().is_none_or(|join| *join.get_ref() == JoinSpec::Word("all".to_owned()));
        !is_all && step.rest.as_ref().is_some_and(|rest| rest.get_ref() == "cancel")
    };
    let needs = all.iter().filter(|(_, step)| cancels(step)).flat_map(|(_, step)| &step.needs);
    let cancelled = all.iter().flat_map(|(_, step)| &step.cancels);
    let raced: HashSet<&str> = needs.chain(cancelled).filter_map(|need| need.get_ref().split('.').next()).collect();
    for (name, step) in all {
        let around = around.filter(|_| !step.always);
        let own = step.timeout.as_ref().and_then(|text| {
            let ms = duration_ms(text.get_ref()).ok()?;
            Some(Around { ms, span: text.span(), whose: format!("`{}`", name.get_ref()) })
        });
        let may_stay = !is_own || raced.contains(name.get_ref().as_str());
        waiting(name, step, around, own.as_ref(), may_stay, out);
        if let (Some(own), Some(around)) = (&own, around)
            && own.ms > around.ms
            && !step.detached.as_ref().is_some_and(|detached| *detached.get_ref())
        {
            let message = format!("{} is over before this `timeout` is", around.whose);
            let found = Diagnostic::warning("timeout-order", own.span.clone(), message).label("never reached");
            out.push(found.also(around.span.clone(), "ends it before"));
        }
        for spec in std::iter::once(step).chain(step.undo.as_ref().map(|undo| &undo.1)) {
            broad(&spec.grant, out);
            untold(&spec.grant, out);
            if let Some(with) = &spec.with {
                secrets(None, with, out);
            }
        }
        if let Some(block) = &step.block {
            let tighter = match (own, around) {
                (Some(own), Some(around)) if own.ms > around.ms => Some(around.clone()),
                (own, around) => own.or(around.cloned()),
            };
            steps(&block.steps, tighter.as_ref(), is_own, out);
        }
    }
}

/// What waits for somebody without an end, and what is to last longer than it may.
fn waiting(
    name: &Spanned<String>,
    step: &StepSpec,
    around: Option<&Around>,
    own: Option<&Around>,
    may_stay: bool,
    out: &mut Collector,
) {
    let Some(wait) = step.wait.as_ref().filter(|_| !step.incomplete) else { return };
    if let Some(text) = &wait.duration
        && let Ok(ms) = duration_ms(text.get_ref())
        && let Some(bound) = own.into_iter().chain(around).find(|bound| bound.ms <= ms)
    {
        let message = format!("the wait lasts as long as {} may, or longer", bound.whose);
        let found = Diagnostic::warning("timeout-order", text.span(), message).label("never over by itself");
        out.push(found.also(bound.span.clone(), "ends it before"));
    }
    let Some(approval) = &wait.approval else { return };
    let has_end = wait.duration.is_some() || wait.until.is_some() || step.timeout.is_some() || around.is_some();
    if !has_end && !may_stay && !step.always {
        let message = format!("`{}` waits for ever if nobody answers", name.get_ref());
        let found = Diagnostic::warning("no-deadline", approval.span(), message).label("without a deadline");
        out.push(found.hint("give the step a `timeout`, after which it fails, or the wait a `for` or `until`"));
    }
}

fn broad(grant: &GrantSpec, out: &mut Collector) {
    for file in grant.files.iter().flat_map(|files| files.get_ref()) {
        let written = file.path.get_ref().as_str();
        let path = if written.len() > 1 { written.trim_end_matches('/') } else { written };
        let home = path.strip_prefix("/home/").or(path.strip_prefix("/Users/"));
        if BROAD.contains(&path) || home.is_some_and(|rest| !rest.is_empty() && !rest.contains('/')) {
            let message = format!("`{written}` holds far more than a step has to see");
            let found = Diagnostic::warning("broad-grant", file.path.span(), message).label("all of it is granted");
            out.push(found.hint("grant the folders in it that are meant"));
        }
    }
    for granted in grant.process.iter().flat_map(|programs| programs.get_ref()) {
        let program = &granted.program;
        let name = program.get_ref().rsplit('/').next().unwrap_or_default();
        if RAISERS.contains(&name) && granted.args.is_none() {
            let message =
                format!("`{name}` runs any program, as somebody else: no other name in `process` means anything");
            let found = Diagnostic::warning("broad-grant", program.span(), message).label("grants everything");
            out.push(found.hint("run the engine as the user who may do it, and grant the program itself"));
        }
    }
}

/// A program may read what a variable names, and is not told it: it looks elsewhere, where it may not.
fn untold(grant: &GrantSpec, out: &mut Collector) {
    let of_step = grant.env.iter().flat_map(|list| list.get_ref());
    for granted in grant.process.iter().flat_map(|programs| programs.get_ref()) {
        let own = granted.env.as_ref().map(|list| list.get_ref());
        let told = |variable: &str| match own {
            Some(own) => own.iter().any(|name| name.get_ref() == variable),
            None => of_step.clone().any(|name| name.get_ref() == variable),
        };
        for path in granted.read.iter().flat_map(|list| list.get_ref()) {
            let first = path.get_ref().split('/').next().unwrap_or_default();
            let Some(variable) = first.strip_prefix('$').filter(|variable| !told(variable)) else { continue };
            let program = granted.program.get_ref();
            let message = format!("`{program}` may read `{}`, and is not told `{variable}`", path.get_ref());
            let found = Diagnostic::warning("untold-variable", path.span(), message).label("where, for the program?");
            out.push(found.hint(format!("grant the variable as well: `env = [\"{variable}\"]`")));
        }
    }
}

/// Looks for what seems to be a credential, written out.
fn secrets(key: Option<&str>, value: &Value, out: &mut Collector) {
    match &value.kind {
        ValueKind::String(text) => {
            if let Some(what) = credential(key, text) {
                let message = format!("{what} is written out: whoever reads the file or the journal has it");
                let found = Diagnostic::warning("plain-secret", value.span.clone(), message).label("in plain text");
                let hint = "declare where the machine keeps it, `[secrets.token]` `env = \"TOKEN\"`, and grant it: the value is put \
                     in place of `${secrets.token}` on the way out, or given to programs";
                out.push(found.hint(hint));
            }
        }
        ValueKind::List(items) => items.iter().for_each(|item| secrets(key, item, out)),
        ValueKind::Table(entries) => {
            entries.iter().for_each(|(name, value)| secrets(Some(name.get_ref()), value, out));
        }
        _ => (),
    }
}

/// What kind of credential a text is, if it is one. The forms are those that their issuers document.
fn credential(key: Option<&str>, text: &str) -> Option<&'static str> {
    let begins = |starts: &[&str], least: usize| {
        let rest = starts.iter().find_map(|start| text.trim().strip_prefix(start));
        let is_word = |rest: &str| rest.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
        rest.is_some_and(|rest| rest.len() >= least && is_word(rest))
    };
    if begins(&["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"], 20) {
        return Some("a GitHub token");
    }
    if begins(&["glpat-"], 20) {
        return Some("a GitLab token");
    }
    if begins(&["AKIA", "ASIA"], 16) && text.trim().len() == 20 {
        return Some("an AWS access key");
    }
    if begins(&["xoxb-", "xoxp-", "xoxa-", "xoxs-"], 20) {
        return Some("a Slack token");
    }
    if begins(&["sk_live_", "rk_live_"], 16) {
        return Some("a Stripe key");
    }
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    // `https://user:password@host`.
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+')
        && let Some((user, _)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@'))
        && user.split_once(':').is_some_and(|(_, password)| !password.is_empty() && !password.contains("${"))
    {
        return Some("a password");
    }
    if let Some(word) = text.trim().strip_prefix("Bearer ").or(text.trim().strip_prefix("Basic "))
        && word.len() >= 16
        && !word.contains(['$', ' '])
    {
        return Some("a credential");
    }
    let name = key?.to_ascii_lowercase().replace(['-', '_'], "");
    let is_named = ["password", "passwd", "secret", "token", "apikey", "privatekey", "accesskey"];
    let is_word = text.len() >= 8 && !text.contains([' ', '$', '/', '<', '{']);
    let is_mixed = text.bytes().any(|c| c.is_ascii_digit()) && text.bytes().any(|c| c.is_ascii_alphabetic());
    (is_named.iter().any(|end| name.ends_with(end)) && is_word && is_mixed).then_some("a credential")
}

/// That a workflow opens itself, whatever happens.
fn endless(spec: &Spec, path: &str, directory: &str, out: &mut Collector) {
    let file = path.rsplit('/').next().unwrap_or_default();
    let own = beside(directory, file);
    let is_certain = |step: &StepSpec| {
        step.when.is_none() && step.foreach.is_none() && step.repeat.is_none() && !step.always && step.join.is_none()
    };
    let certain: HashMap<&str, &StepSpec> = match spec.steps.iter().any(|(_, step)| step.workflow.is_some()) {
        true => spec
            .steps
            .iter()
            .filter(|(_, step)| is_certain(step))
            .map(|(name, step)| (name.get_ref().as_str(), step))
            .collect(),
        false => return,
    };
    for (name, step) in spec.steps.iter().filter(|(_, step)| is_certain(step)) {
        let Some(named) = step.workflow.as_ref().filter(|named| beside(directory, named.get_ref()) == own) else {
            continue;
        };
        // Whatever comes before it may fail, but not each time.
        let is_first = step
            .needs
            .iter()
            .all(|need| certain.get(need.get_ref().as_str()).is_some_and(|other| other.needs.is_empty()));
        if is_first {
            let message = format!("`{}` opens this workflow again, and nothing ever ends that", name.get_ref());
            let found = Diagnostic::warning("endless-recursion", named.span(), message).label("this very file");
            out.push(found.hint("give it a `when` that asks an input whether there is anything left to do"));
            return;
        }
    }
}
