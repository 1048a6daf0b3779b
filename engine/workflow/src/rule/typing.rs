//! Finds an expression's type without evaluating it, and what can't work in it: names and members that do not exist,
//! steps that are not finished by then, operators on values that they can't take.
//!
//! Whatever a schema leaves open is let through: evaluation looks again.

use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::expression::{Expr, Expression, Fault, Kind, Local, Loop, LoopKind, Operator};
use crate::diagnostic::did_you_mean;
use crate::schema::{Kinds, Member, Type};

/// What the checker knows of a workflow at the place of an expression.
pub(crate) trait Known<'s> {
    /// The type of an input, if there is one of this name.
    fn input(&self, name: &str) -> Option<Type<'s>>;
    /// What to write instead of the name of an input that there is not.
    fn hint_at_input(&self, name: &str) -> Option<String>;
    /// A step, seen from here.
    fn step(&self, name: &str) -> StepKnown<'s>;
    /// The type of what only items and rounds have, those so many of them further out, if this is within one.
    fn local(&self, local: Local, outer: u8) -> Option<Type<'s>>;
    /// Whether the expression as a whole is a list that is worked on item by item, which may still grow.
    fn is_list(&self) -> bool;
    /// What to write instead of the name of a step that there is not.
    fn hint_at_step(&self, name: &str) -> Option<String>;
    /// What may end the waiting of a step, of [`WAYS`]; `None` if it does not wait, or if more is known of it than is seen here.
    fn ways(&self, step: &str) -> Option<Vec<&'static str>>;
    /// A secret, seen from here.
    fn secret(&self, name: &str) -> SecretKnown;
}

/// What may end a step's waiting, as its answer says `by` what; then what a condition makes sure of by asking for that.
const WAYS: [(&str, &str, &str); 3] = [
    ("time", "by time", "not by time"),
    ("signal", "by signal", "not by signal"),
    ("approval", "by approval", "not by approval"),
];

/// What ends a waiting whose answer has this member.
fn way_of(member: &str) -> Option<&'static str> {
    match member {
        "who" | "note" => Some("approval"),
        "data" => Some("signal"),
        _ => None,
    }
}

/// The step of `steps.NAME.output`.
fn step_of_output(part: &Expr) -> Option<&str> {
    match &part.kind {
        Kind::Member(of, name) if &**name == "output" => match &of.kind {
            Kind::Step(step) => Some(step),
            _ => None,
        },
        _ => None,
    }
}

/// What is known of a secret, seen from the place of an expression.
pub(crate) enum SecretKnown {
    /// There is no such secret.
    Missing {
        /// What may have been meant.
        hint: Option<String>,
    },
    /// This is no place for secrets.
    Elsewhere,
    /// The step is not granted it, or for something else than its input.
    Withheld,
    /// The same, of a step that does nothing but start programs.
    OfPrograms {
        /// The variable in which they have it, if they do.
        variable: Option<String>,
    },
    /// It is known by its placeholder.
    Granted,
}

/// What is known of a step, seen from the place of an expression.
pub(crate) enum StepKnown<'s> {
    /// There is no such step.
    Missing,
    /// It may still be running, or not have started.
    Unfinished {
        /// Whether it is the very step that asks.
        itself: bool,
    },
    /// It has come to its end.
    Finished {
        /// The type of its output; `None` if it has none, because it did not succeed.
        output: Option<Type<'s>>,
        /// Whether it may have failed.
        failure: bool,
        /// How sure that is.
        certainty: Certainty,
    },
}

/// How sure it is, at the place of an expression, that a step has come to its end as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It has ended, and as it is needed if it is.
    Ended,
    /// It has ended, and any end will do: it is needed as finished.
    Either,
    /// It has ended, somehow: a join starts its step if others are met.
    Judged,
    /// It may not even have ended.
    Open,
}

/// What a condition makes sure of: a step's name, and that it has an `output` or a `failure`, or what ended its waiting.
pub(crate) type Guard = (Box<str>, &'static str);

/// What is there if a rule holds.
pub(crate) fn guards(rule: &Expression) -> Vec<Guard> {
    let mut guards = Vec::new();
    collect_guards(rule.root(), true, &mut guards);
    guards
}

/// What is there if the condition comes out as `holds`.
fn collect_guards(condition: &Expr, holds: bool, guards: &mut Vec<Guard>) {
    match (&condition.kind, holds) {
        (Kind::Not(of), _) => collect_guards(of, !holds, guards),
        (Kind::And(a, b), true) | (Kind::Or(a, b), false) => {
            collect_guards(a, holds, guards);
            collect_guards(b, holds, guards);
        }
        (Kind::Has(member), true) => {
            if let Kind::Member(of, name) = &member.kind
                && let Kind::Step(step) = &of.kind
                && let Some(what) = ["output", "failure"].into_iter().find(|what| **name == **what)
            {
                guards.push((step.clone(), what));
            }
            if let Kind::Member(of, name) = &member.kind
                && let (Some(step), Some(way)) = (step_of_output(of), way_of(name))
            {
                guards.extend(WAYS.iter().filter(|(known, ..)| *known == way).map(|(_, by, _)| (step.into(), *by)));
            }
        }
        (Kind::Binary(operator @ (Operator::Equal | Operator::NotEqual), a, b), _) => {
            let is_equal = (*operator == Operator::Equal) == holds;
            for (path, literal) in [(a, b), (b, a)] {
                let (Kind::Member(of, name), Kind::Literal(Value::String(text))) = (&path.kind, &literal.kind) else {
                    continue;
                };
                match (&of.kind, &**name) {
                    (Kind::Step(step), "status") if is_equal => {
                        guards.extend((text == "succeeded").then(|| (step.clone(), "output")));
                        guards.extend((text == "failed").then(|| (step.clone(), "failure")));
                    }
                    (_, "by") => {
                        let way = WAYS.iter().find(|(known, ..)| known == text);
                        let Some((step, (_, by, not_by))) = step_of_output(of).zip(way) else { continue };
                        guards.push((step.into(), if is_equal { by } else { not_by }));
                    }
                    _ => (),
                }
            }
        }
        _ => (),
    }
}

static RUN: LazyLock<Value> = LazyLock::new(
    || json!({ "type": "object", "properties": { "id": { "type": "string" } }, "additionalProperties": false }),
);

static WORKFLOW: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "directory": { "type": "string" } },
        "additionalProperties": false,
    })
});

/// What every step has besides its output.
static STEP: LazyLock<Value> = LazyLock::new(|| step_schema(&["succeeded", "failed", "skipped", "cancelled"]));

/// The same of a step that may not have come to its end.
static OPEN_STEP: LazyLock<Value> =
    LazyLock::new(|| step_schema(&["unfinished", "succeeded", "failed", "skipped", "cancelled"]));

fn step_schema(statuses: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "status": { "enum": statuses },
            "attempts": { "type": "integer" },
            "output": true,
            "failure": {
                "type": "object",
                "properties": {
                    "kind": { "enum": [
                        "invalid-input", "transient", "permanent", "trap", "timed-out", "limit", "invalid-output", "host",
                        "rule", "scope", "rejected",
                    ] },
                    "message": { "type": "string" },
                    "details": true,
                },
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
}

/// The expression's type, and what is wrong with it, where the guards hold.
pub(crate) fn infer<'s>(expression: &Expression, known: &dyn Known<'s>, guards: &[Guard]) -> (Type<'s>, Vec<Fault>) {
    let (variables, faults) = (Vec::new(), Vec::new());
    let mut typing = Typing { text: expression.text(), known, variables, guards: guards.to_vec(), faults };
    if known.is_list() && expression.whole_items().is_some() {
        // Whose items they are is judged with the `foreach`.
        return (Type::list_of(Type::ANY), Vec::new());
    }
    let found = typing.of(expression.root());
    (found, typing.faults)
}

struct Typing<'t, 's> {
    text: &'t str,
    known: &'t dyn Known<'s>,
    variables: Vec<Type<'s>>,
    guards: Vec<Guard>,
    faults: Vec<Fault>,
}

impl<'s> Typing<'_, 's> {
    fn fault(&mut self, fault: Fault) -> Type<'s> {
        self.faults.push(fault);
        Type::ANY
    }

    fn text(&self, part: &Expr) -> &str {
        self.text.get(part.span.clone()).unwrap_or(self.text)
    }

    fn of(&mut self, part: &Expr) -> Type<'s> {
        match &part.kind {
            Kind::Literal(value) => Type::of_kinds(Kinds::of(value)),
            Kind::Inputs => Type::of_kinds(Kinds::OBJECT),
            Kind::Run => Type::of_schema(&RUN),
            Kind::Workflow => Type::of_schema(&WORKFLOW),
            Kind::Local(local, outer) => self.known.local(*local, *outer).unwrap_or_else(|| {
                let message = format!("there is no `{}` here", local.path(*outer));
                let fault = Fault::new("rule-name", part.span.clone(), message);
                self.fault(fault.label(match (local, outer) {
                    (Local::Items, _) => "only in the `until` of a `foreach`",
                    (_, 0) => "only within `foreach` and `repeat`",
                    _ => "only within so many `foreach` and `repeat`",
                }))
            }),
            Kind::Step(name) => match self.step(part, name) {
                None => Type::ANY,
                Some((.., Certainty::Open)) => Type::of_schema(&OPEN_STEP),
                Some(_) => Type::of_schema(&STEP),
            },
            Kind::Secret(name) => self.secret(part, name),
            Kind::Variable(depth) => {
                let at = self.variables.len().checked_sub(depth + 1);
                at.and_then(|at| self.variables.get(at)).cloned().unwrap_or(Type::ANY)
            }
            Kind::List(items) => {
                let items: Vec<Type<'s>> = items.iter().map(|item| self.of(item)).collect();
                Type::list_of(items.into_iter().reduce(Type::or).unwrap_or(Type::ANY))
            }
            Kind::Object(entries) => {
                for (key, value) in entries {
                    self.expect(key, Kinds::TEXT, "the keys of an object are strings");
                    self.of(value);
                }
                Type::of_kinds(Kinds::OBJECT)
            }
            Kind::Member(of, name) => self.member(part, of, name),
            Kind::Index(of, index) => self.index(of, index),
            Kind::Has(member) => {
                // Of the member itself it is only asked whether it can ever be there.
                match &member.kind {
                    Kind::Member(of, name)
                        if matches!(of.kind, Kind::Step(_)) && matches!(&**name, "output" | "failure") =>
                    {
                        self.of(of);
                    }
                    Kind::Member(of, name) if step_of_output(of).is_some() && way_of(name).is_some() => {
                        self.of(of);
                    }
                    _ => drop(self.of(member)),
                }
                Type::of_kinds(Kinds::BOOL)
            }
            Kind::Not(of) => {
                self.expect(of, Kinds::BOOL, "`!` takes a boolean");
                Type::of_kinds(Kinds::BOOL)
            }
            Kind::Negate(of) => {
                let kinds = self.expect(of, Kinds::NUMBER, "`-` takes a number").kinds;
                Type::of_kinds(kinds.and(Kinds::NUMBER))
            }
            Kind::And(a, b) => self.both(a, b, true, "`&&` takes booleans"),
            Kind::Or(a, b) => self.both(a, b, false, "`||` takes booleans"),
            Kind::If(parts) => {
                self.expect(&parts[0], Kinds::BOOL, "`? :` asks for a boolean");
                let then = self.guarded(&parts[0], true, |typing| typing.of(&parts[1]));
                then.or(self.guarded(&parts[0], false, |typing| typing.of(&parts[2])))
            }
            Kind::Binary(operator, a, b) => self.binary(part, *operator, a, b),
            Kind::Call(function, args) => {
                for (arg, takes) in args.iter().zip(function.takes) {
                    self.expect(arg, *takes, &format!("`{}` takes {takes}", function.name));
                }
                match function.name {
                    "split" => Type::list_of(Type::of_kinds(Kinds::TEXT)),
                    _ => Type::of_kinds(function.gives),
                }
            }
            Kind::Loop(looped) => self.looped(looped),
        }
    }

    /// The part's type, which has to be able to be one of these.
    fn expect(&mut self, part: &Expr, kinds: Kinds, message: &str) -> Type<'s> {
        let found = self.of(part);
        if !found.kinds.is_none() && !found.kinds.meets(kinds) {
            let label = format!("this is {}", found.kinds);
            self.fault(
                Fault::new("rule-type", part.span.clone(), format!("{message}, not {}", found.kinds)).label(label),
            );
        }
        found
    }

    /// The second is looked at only if the first comes out as `goes_on`.
    fn both(&mut self, a: &Expr, b: &Expr, goes_on: bool, message: &str) -> Type<'s> {
        self.expect(a, Kinds::BOOL, message);
        self.guarded(a, goes_on, |typing| typing.expect(b, Kinds::BOOL, message));
        Type::of_kinds(Kinds::BOOL)
    }

    /// Looks at something that is evaluated only if a condition comes out as `holds`.
    fn guarded<T>(&mut self, condition: &Expr, holds: bool, look: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.guards.len();
        collect_guards(condition, holds, &mut self.guards);
        let found = look(self);
        self.guards.truncate(before);
        found
    }

    fn step(&mut self, part: &Expr, name: &str) -> Option<(Option<Type<'s>>, bool, Certainty)> {
        match self.known.step(name) {
            StepKnown::Finished { output, failure, certainty } => return Some((output, failure, certainty)),
            StepKnown::Missing => {
                let dashed = self.dashed(part, name).map(|whole| format!("did you mean `{whole}`?"));
                let hint = dashed.or_else(|| self.known.hint_at_step(name));
                let fault = Fault::new("unknown-step", part.span.clone(), format!("there is no step `{name}`"));
                self.fault(fault.label("unknown step").maybe_hint(hint));
            }
            StepKnown::Unfinished { itself: true } => {
                let fault =
                    Fault::new("unfinished-step", part.span.clone(), format!("the step `{name}` looks at itself"));
                self.fault(fault.label("not finished by then"));
            }
            StepKnown::Unfinished { itself: false } => {
                let message = format!("the step `{name}` may not be finished by then");
                let fault = Fault::new("unfinished-step", part.span.clone(), message);
                self.fault(fault.label("not among what is needed here").hint(format!("add `\"{name}\"` to `needs`")));
            }
        }
        None
    }

    fn secret(&mut self, part: &Expr, name: &str) -> Type<'s> {
        let fault = |code: &'static str, message: String| Fault::new(code, part.span.clone(), message);
        let fault = match self.known.secret(name) {
            SecretKnown::Granted => return Type::of_kinds(Kinds::TEXT),
            SecretKnown::Missing { hint } => {
                let hint = hint.unwrap_or_else(|| format!("declare it: `[secrets.{name}]` `env = \"NAME\"`"));
                fault("unknown-secret", format!("there is no secret `{name}`")).label("unknown secret").hint(hint)
            }
            SecretKnown::Elsewhere => fault("secret-place", format!("the secret `{name}` means nothing here"))
                .label("no place for a secret")
                .hint("it is known to `with` of a step with `use` that is granted it, and to nothing else"),
            SecretKnown::OfPrograms { variable } => {
                let grant = match &variable {
                    None => format!("grant `secrets = [{{ name = \"{name}\", env = \"NAME\" }}]`, and"),
                    Some(_) => "take it out here, and".to_owned(),
                };
                let variable = variable.as_deref().unwrap_or("NAME");
                fault("secret-place", format!("the secret `{name}` is in no argument and no input of a program"))
                    .label("would stay a placeholder")
                    .hint(format!(
                        "programs have secrets in variables: {grant} let the program read its variable `{variable}`; one that reads \
                         its input is given it by a shell that is granted, as `sh -c 'printf %s \"${variable}\" | PROGRAM'` (its arguments \
                         are seen by other processes)"
                    ))
            }
            SecretKnown::Withheld => {
                let grant = format!("secrets = [{{ name = \"{name}\", host = \"HOST\", header = \"authorization\" }}]");
                fault("secret-place", format!("the step is not granted the secret `{name}` for what it sends"))
                    .label("would stay a placeholder")
                    .hint(format!("add `{grant}` to its `grant`"))
            }
        };
        self.fault(fault)
    }

    /// The type of a failure, if there may be one.
    fn failure(&self, may_be: bool) -> Type<'s> {
        match Type::of_schema(&STEP).member("failure") {
            Member::Known(failure) if may_be => failure,
            _ => Type::ANY,
        }
    }

    /// The step `kpi-gate`, if its `kpi` was found in `steps.kpi-gate`.
    fn dashed(&self, part: &Expr, name: &str) -> Option<String> {
        let rest = self.text.get(part.span.end..)?.strip_prefix('-')?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
        let whole = format!("{name}-{}", &rest[..end]);
        let exists = !matches!(self.known.step(&whole), StepKnown::Missing);
        exists.then(|| format!("steps[\"{whole}\"]"))
    }

    fn member(&mut self, part: &Expr, of: &Expr, name: &str) -> Type<'s> {
        match &of.kind {
            Kind::Inputs => {
                return self.known.input(name).unwrap_or_else(|| {
                    let hint = self.known.hint_at_input(name);
                    let fault = Fault::new("unknown-input", tail(of, part), format!("there is no input `{name}`"));
                    self.fault(fault.label("unknown input").maybe_hint(hint))
                });
            }
            Kind::Step(_) if name == "items" => {
                let message = format!("`{}` can't be looked at: the list may still grow", self.text(part));
                let fault =
                    Fault::new("items", part.span.clone(), message).label("only as the whole list of a `foreach`");
                return self.fault(fault.hint(format!("write `foreach = \"${{{}}}\"`", self.text(part))));
            }
            Kind::Step(step) if name == "output" || name == "failure" => {
                return match (name, self.step(of, step)) {
                    (_, None) => Type::ANY,
                    (_, Some((.., Certainty::Judged | Certainty::Open))) if !self.is_guarded(step, name) => {
                        let status = if name == "output" { "succeeded" } else { "failed" };
                        let message = format!("the step `{step}` may not have {status} by then");
                        let (path, of) = (self.text(part), self.text(of));
                        let hint = format!(
                            "ask first: `has({path}) ? {path}… : …` here, or `{of}.status == '{status}'` in `when`"
                        );
                        let fault = Fault::new("optional-path", part.span.clone(), message);
                        self.fault(fault.label(format!("its {name} may not be there")).hint(hint))
                    }
                    (_, Some((output, failure, Certainty::Either))) if !self.is_guarded(step, name) => {
                        let status = if name == "output" { "succeeded" } else { "failed" };
                        let message = format!("the step `{step}` is needed as `finished`, and may not have {status}");
                        let (path, of) = (self.text(part), self.text(of));
                        let hint = format!(
                            "need it as `{status}`, or ask first: `has({path}) ? {path}… : …`, or \
                             `{of}.status == '{status}'` in `when`"
                        );
                        let fault = Fault::new("optional-path", part.span.clone(), message);
                        self.faults.push(fault.label(format!("its {name} may not be there")).hint(hint).doubt());
                        match name {
                            "output" => output.unwrap_or(Type::ANY),
                            _ => self.failure(failure),
                        }
                    }
                    ("output", Some((Some(output), ..))) => output,
                    ("failure", Some((_, true, _))) => self.failure(true),
                    (name, Some(_)) => {
                        let message = format!(
                            "the step `{step}` never has {} here",
                            if name == "output" { "an output" } else { "a failure" }
                        );
                        let why = if name == "output" {
                            "it is needed in a state without one"
                        } else {
                            "it is needed as succeeded"
                        };
                        let hint = format!("ask `steps[\"{step}\"].status`, or need `{step}.finished`");
                        self.fault(Fault::new("impossible-path", part.span.clone(), message).label(why).hint(hint))
                    }
                };
            }
            _ => (),
        }
        let before = self.faults.len();
        let container = self.of(of);
        if self.faults[before..].iter().any(|fault| !fault.is_doubt) {
            return Type::ANY;
        }
        if let Some(fault) = self.ended_otherwise(part, of, name) {
            return self.fault(fault);
        }
        if !container.kinds.is_none() && !container.kinds.meets(Kinds::OBJECT) {
            let message = format!("`{}` is {}, which has no `{name}`", self.text(of), container.kinds);
            return self.fault(Fault::new("unknown-path", tail(of, part), message).label("not there"));
        }
        match container.member(name) {
            Member::Known(found) => found,
            Member::Anything => Type::ANY,
            Member::Absent { .. } => {
                let names = container.names();
                let hint = match did_you_mean(name, names.iter().copied()) {
                    Some(similar) => Some(format!("did you mean `{similar}`?")),
                    None if names.is_empty() => None,
                    None => {
                        let names: Vec<String> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
                        Some(format!("it has {}", names.join(", ")))
                    }
                };
                let fault =
                    Fault::new("unknown-path", tail(of, part), format!("there is no `{name}` in `{}`", self.text(of)));
                let fault = fault.label("not in the schema");
                self.fault(match hint {
                    Some(hint) => fault.hint(hint),
                    None => fault,
                })
            }
        }
    }

    /// What is wrong with asking a step that has waited for what only a signal or an approval brings.
    fn ended_otherwise(&self, part: &Expr, of: &Expr, name: &str) -> Option<Fault> {
        let (step, way) = step_of_output(of).zip(way_of(name))?;
        let ways = self.known.ways(step)?;
        let may_be = |(known, by, not_by): &&(&str, &'static str, &'static str)| {
            let is_another = WAYS.iter().any(|(_, other, _)| other != by && self.is_guarded(step, other));
            ways.contains(known) && !self.is_guarded(step, not_by) && !is_another
        };
        let left: Vec<&str> = WAYS.iter().filter(may_be).map(|(known, ..)| *known).collect();
        if left.is_empty() || left == [way] {
            return None;
        }
        let (path, output) = (self.text(part), self.text(of));
        if !left.contains(&way) {
            let message = format!("there is no `{name}` in `{output}` here: that comes with {}", a_way(way));
            let found = left.iter().map(|left| a_way(left)).collect::<Vec<_>>().join(" or ");
            let fault = Fault::new("unknown-path", tail(of, part), message);
            return Some(fault.label(format!("the waiting was ended by {found}")));
        }
        let others: Vec<&str> = left.iter().filter(|other| **other != way).map(|other| a_way(other)).collect();
        let message =
            format!("the waiting of `{step}` may have been ended by {}, which leaves no `{name}`", others.join(" or "));
        let hint =
            format!("ask first: `{output}.by == '{way}' ? {path} : …` here, or `{output}.by == '{way}'` in `when`");
        let fault = Fault::new("optional-path", part.span.clone(), message);
        Some(fault.label(format!("only with {}", a_way(way))).hint(hint))
    }

    fn is_guarded(&self, step: &str, what: &str) -> bool {
        self.guards.iter().any(|(guarded, there)| **guarded == *step && *there == what)
    }

    fn index(&mut self, of: &Expr, index: &Expr) -> Type<'s> {
        let container = self.expect(of, Kinds::LIST.or(Kinds::OBJECT), "only lists and objects can be indexed");
        let takes = match (container.kinds.meets(Kinds::LIST), container.kinds.meets(Kinds::OBJECT)) {
            (true, false) => Kinds::INT,
            (false, true) => Kinds::TEXT,
            _ => Kinds::INT.or(Kinds::TEXT),
        };
        self.expect(index, takes, &format!("the index has to be {takes}"));
        match container.kinds.and(Kinds::LIST.or(Kinds::OBJECT)) {
            Kinds::LIST => container.items(),
            _ => Type::ANY,
        }
    }

    fn binary(&mut self, part: &Expr, operator: Operator, a: &Expr, b: &Expr) -> Type<'s> {
        let (left, right) = (self.of(a), self.of(b));
        let unfit = |typing: &mut Self| {
            let message = format!("`{}` can't take {} and {}", operator.sign(), left.kinds, right.kinds);
            let is_text = |kinds: Kinds| !kinds.is_none() && kinds.within(Kinds::TEXT);
            let is_number = |kinds: Kinds| !kinds.is_none() && kinds.within(Kinds::NUMBER);
            let (first, second) = (typing.text(a), typing.text(b));
            let hint = match operator {
                Operator::Add if is_text(left.kinds) && is_number(right.kinds) => {
                    Some(format!("`{first} + string({second})` is a string, `double({first}) + {second}` a number"))
                }
                Operator::Add if is_number(left.kinds) && is_text(right.kinds) => {
                    Some(format!("`string({first}) + {second}` is a string, `{first} + double({second})` a number"))
                }
                _ => None,
            };
            typing.fault(Fault::new("rule-type", part.span.clone(), message).label("can't work").maybe_hint(hint))
        };
        // What already is wrong is not said twice.
        if left.kinds.is_none() || right.kinds.is_none() {
            return Type::ANY;
        }
        let meet = |kinds: Kinds| left.kinds.meets(kinds) && right.kinds.meets(kinds);
        let sums = || match left.kinds.or(right.kinds).within(Kinds::INT) {
            true => Kinds::INT,
            false if left.kinds == Kinds::DOUBLE || right.kinds == Kinds::DOUBLE => Kinds::DOUBLE,
            false => Kinds::NUMBER,
        };
        match operator {
            Operator::Equal | Operator::NotEqual => {
                self.comparable(part, operator, (a, &left), (b, &right));
                Type::of_kinds(Kinds::BOOL)
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                if !meet(Kinds::NUMBER) && !meet(Kinds::TEXT) && !meet(Kinds::BOOL) {
                    unfit(self);
                }
                Type::of_kinds(Kinds::BOOL)
            }
            Operator::In => {
                let named = right.kinds.meets(Kinds::OBJECT) && left.kinds.meets(Kinds::TEXT);
                if !named && !right.kinds.meets(Kinds::LIST) {
                    unfit(self);
                } else if right.kinds.within(Kinds::LIST) {
                    self.comparable(part, operator, (a, &left), (b, &right.items()));
                }
                Type::of_kinds(Kinds::BOOL)
            }
            Operator::Add => {
                let mut kinds = Kinds::NONE;
                for (takes, gives) in [(Kinds::NUMBER, sums()), (Kinds::TEXT, Kinds::TEXT), (Kinds::LIST, Kinds::LIST)]
                {
                    if meet(takes) {
                        kinds = kinds.or(gives);
                    }
                }
                match kinds {
                    Kinds::NONE => unfit(self),
                    Kinds::LIST => Type::list_of(left.items().or(right.items())),
                    kinds => Type::of_kinds(kinds),
                }
            }
            Operator::Remainder if meet(Kinds::INT) => Type::of_kinds(Kinds::INT),
            Operator::Subtract | Operator::Multiply | Operator::Divide if meet(Kinds::NUMBER) => Type::of_kinds(sums()),
            _ => unfit(self),
        }
    }

    /// Whether two values can ever be equal.
    fn comparable(
        &mut self,
        part: &Expr,
        operator: Operator,
        (a, left): (&Expr, &Type<'s>),
        (b, right): (&Expr, &Type<'s>),
    ) {
        let numbers = left.kinds.meets(Kinds::NUMBER) && right.kinds.meets(Kinds::NUMBER);
        let null = left.kinds.or(right.kinds).meets(Kinds::NULL);
        if !numbers && !null && !left.kinds.meets(right.kinds) {
            let verdict = match operator {
                Operator::NotEqual => "always different",
                Operator::In => "never in the list",
                _ => "never equal",
            };
            let message = format!("{} and {} are {verdict}", left.kinds, right.kinds);
            self.fault(Fault::new("rule-type", part.span.clone(), message).label(verdict));
            return;
        }
        for (typed, literal) in [(left, b), (right, a)] {
            if let (Some(options), Kind::Literal(value @ Value::String(text))) = (typed.options(), &literal.kind)
                && !options.contains(&value)
            {
                let names: Vec<&str> = options.iter().filter_map(|option| option.as_str()).collect();
                let fault = Fault::new("rule-type", literal.span.clone(), format!("it is never `{text}`"))
                    .label("not one of its values");
                let hint = match did_you_mean(text, names.iter().copied()) {
                    Some(similar) => format!("did you mean `{similar}`?"),
                    None => format!("it is one of {}", names.join(", ")),
                };
                self.fault(fault.hint(hint));
            }
        }
    }

    fn looped(&mut self, looped: &Loop) -> Type<'s> {
        let over = self.expect(&looped.over, Kinds::LIST.or(Kinds::OBJECT), "a loop goes over a list or an object");
        let item = match (over.kinds.meets(Kinds::LIST), over.kinds.meets(Kinds::OBJECT)) {
            (true, false) => over.items(),
            (false, true) => Type::of_kinds(Kinds::TEXT),
            _ => Type::ANY,
        };
        self.variables.push(item.clone());
        if let Some(keep) = &looped.keep {
            self.expect(keep, Kinds::BOOL, "the condition has to be a boolean");
        }
        let found = match looped.kind {
            LoopKind::Map => Type::list_of(self.of(&looped.body)),
            kind => {
                self.expect(&looped.body, Kinds::BOOL, "the condition has to be a boolean");
                if kind == LoopKind::Filter { Type::list_of(item) } else { Type::of_kinds(Kinds::BOOL) }
            }
        };
        self.variables.pop();
        found
    }
}

/// What a member adds to what it is asked of.
fn tail(of: &Expr, part: &Expr) -> Range<usize> {
    of.span.end.min(part.span.end)..part.span.end
}

/// One of [`WAYS`] in a sentence.
fn a_way(way: &str) -> &'static str {
    match way {
        "signal" => "a signal",
        "approval" => "an approval",
        _ => "time",
    }
}
