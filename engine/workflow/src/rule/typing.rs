//! Finds an expression's type without evaluating it, and what can't work in it: names and members that do not exist,
//! steps that are not finished by then, operators on values that they can't take.
//!
//! Whatever a schema leaves open is let through: evaluation looks again.

use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::expression::{Expr, Expression, Fault, Kind, Loop, LoopKind, Operator};
use crate::diagnostic::did_you_mean;
use crate::schema::{Kinds, Member, Type};

/// What the checker knows of a workflow at the place of an expression.
pub(crate) trait Known<'s> {
    /// The type of an input, if there is one of this name.
    fn input(&self, name: &str) -> Option<Type<'s>>;
    /// The input that may have been meant.
    fn similar_input(&self, name: &str) -> Option<&'s str>;
    /// A step, seen from here.
    fn step(&self, name: &str) -> StepKnown<'s>;
    /// The step that may have been meant.
    fn similar_step(&self, name: &str) -> Option<&'s str>;
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
    },
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
static STEP: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {
            "status": { "enum": ["succeeded", "failed", "skipped", "cancelled"] },
            "attempts": { "type": "integer" },
            "output": true,
            "failure": {
                "type": "object",
                "properties": {
                    "kind": { "enum": [
                        "invalid-input", "transient", "permanent", "trap", "timed-out", "limit", "invalid-output", "host",
                        "rule",
                    ] },
                    "message": { "type": "string" },
                    "details": true,
                },
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
});

/// The expression's type, and what is wrong with it.
pub(crate) fn infer<'s>(expression: &Expression, known: &dyn Known<'s>) -> (Type<'s>, Vec<Fault>) {
    let mut typing = Typing { text: expression.text(), known, variables: Vec::new(), faults: Vec::new() };
    let found = typing.of(expression.root());
    (found, typing.faults)
}

struct Typing<'t, 's> {
    text: &'t str,
    known: &'t dyn Known<'s>,
    variables: Vec<Type<'s>>,
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
            Kind::Step(name) => self.step(part, name).map_or(Type::ANY, |_| Type::of_schema(&STEP)),
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
            Kind::And(a, b) => self.both(a, b, "`&&` takes booleans"),
            Kind::Or(a, b) => self.both(a, b, "`||` takes booleans"),
            Kind::If(parts) => {
                self.expect(&parts[0], Kinds::BOOL, "`? :` asks for a boolean");
                self.of(&parts[1]).or(self.of(&parts[2]))
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

    fn both(&mut self, a: &Expr, b: &Expr, message: &str) -> Type<'s> {
        self.expect(a, Kinds::BOOL, message);
        self.expect(b, Kinds::BOOL, message);
        Type::of_kinds(Kinds::BOOL)
    }

    fn step(&mut self, part: &Expr, name: &str) -> Option<(Option<Type<'s>>, bool)> {
        match self.known.step(name) {
            StepKnown::Finished { output, failure } => return Some((output, failure)),
            StepKnown::Missing => {
                let similar = self.known.similar_step(name).map(str::to_owned).or_else(|| self.dashed(part, name));
                let fault = Fault::new("unknown-step", part.span.clone(), format!("there is no step `{name}`"));
                self.fault(suggest(fault.label("unknown step"), similar));
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
                    let similar = self.known.similar_input(name).map(str::to_owned);
                    let fault = Fault::new("unknown-input", tail(of, part), format!("there is no input `{name}`"));
                    self.fault(suggest(fault.label("unknown input"), similar))
                });
            }
            Kind::Step(step) if name == "output" || name == "failure" => {
                return match (name, self.step(of, step)) {
                    (_, None) => Type::ANY,
                    ("output", Some((Some(output), _))) => output,
                    ("failure", Some((_, true))) => match Type::of_schema(&STEP).member("failure") {
                        Member::Known(failure) => failure,
                        _ => Type::ANY,
                    },
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
        if self.faults.len() > before {
            return Type::ANY;
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
            typing.fault(Fault::new("rule-type", part.span.clone(), message).label("can't work"))
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

fn suggest(fault: Fault, similar: Option<String>) -> Fault {
    match similar {
        Some(similar) => fault.hint(format!("did you mean `{similar}`?")),
        None => fault,
    }
}
