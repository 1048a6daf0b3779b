//! Evaluates expressions over a [`Scope`], borrowing from it what they look at, within a budget of work.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value;

use super::expression::{Expr, Expression, Kind, Loop, LoopKind, Operator};
use super::{RuleError, Scope, StepView};
use crate::event::{Failure, FailureKind};
use crate::schema::Kinds;

/// How much work one evaluation may be: a part of an expression, a copied value and 64 bytes of text count as one each.
/// 1,000,000 is some tens of milliseconds, and as many MiB at most; a comparison of each of 500 items with each fits.
pub const EVALUATION_WORK_MAX: u64 = 1_000_000;

/// How many bytes of text count as one unit of work.
const BYTES_PER_UNIT: usize = 64;

impl Expression {
    /// The value.
    pub(super) fn evaluate<'s>(&'s self, scope: &'s dyn Scope) -> Result<Cow<'s, Value>, RuleError> {
        let evaluation = Evaluation { text: self.text(), scope, left: Cell::new(EVALUATION_WORK_MAX) };
        evaluation.value(self.root(), &Variables::None)
    }

    /// The text and the value of each path in it, each once; no value where there is none.
    pub(super) fn saw(&self, scope: &dyn Scope) -> Vec<(&str, Option<Value>)> {
        let evaluation = Evaluation { text: self.text(), scope, left: Cell::new(EVALUATION_WORK_MAX) };
        let mut saw: Vec<(&str, Option<Value>)> = Vec::new();
        for path in self.paths() {
            let text = &self.text()[path.span.clone()];
            if !saw.iter().any(|(seen, _)| *seen == text) {
                saw.push((text, evaluation.value(path, &Variables::None).ok().map(Cow::into_owned)));
            }
        }
        saw
    }
}

struct Evaluation<'s> {
    text: &'s str,
    scope: &'s dyn Scope,
    left: Cell<u64>,
}

/// The variables of the loops around, the innermost first.
enum Variables<'s> {
    None,
    Bound(&'s Value, &'s Variables<'s>),
}

type Evaluated<'s> = Result<Cow<'s, Value>, RuleError>;

impl<'s> Evaluation<'s> {
    fn fault(&self, part: &Expr, message: impl Into<String>) -> RuleError {
        let expression = self.text.get(part.span.clone()).unwrap_or(self.text);
        RuleError { expression: expression.to_owned(), message: message.into() }
    }

    fn spend(&self, part: &Expr, work: usize) -> Result<(), RuleError> {
        match self.left.get().checked_sub(work as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(self.fault(part, format!("more than {EVALUATION_WORK_MAX} units of work; compute it in a step")))
            }
        }
    }

    fn owned(&self, part: &Expr, value: Cow<'_, Value>) -> Result<Value, RuleError> {
        if let Cow::Borrowed(value) = value {
            self.spend(part, weight(value))?;
        }
        Ok(value.into_owned())
    }

    fn value<'e>(&self, part: &'s Expr, variables: &'e Variables<'e>) -> Evaluated<'e>
    where
        's: 'e,
    {
        self.spend(part, 1)?;
        match &part.kind {
            Kind::Literal(value) => Ok(Cow::Borrowed(value)),
            Kind::Inputs => Ok(Cow::Borrowed(self.scope.inputs())),
            Kind::Run | Kind::Workflow | Kind::Step(_) => self.whole(part),
            Kind::Secret(name) => match self.scope.secret(name) {
                Some(placeholder) => Ok(Cow::Owned(placeholder.into())),
                None => Err(self.fault(part, format!("the secret `{name}` means nothing here"))),
            },
            Kind::Local(local, outer) => match self.scope.local(*local, *outer) {
                Some(value) => Ok(Cow::Borrowed(value)),
                None => Err(self.fault(part, format!("there is no `{}` here", local.path(*outer)))),
            },
            Kind::Variable(depth) => {
                let mut here = variables;
                for _ in 0..*depth {
                    if let Variables::Bound(_, outer) = here {
                        here = outer;
                    }
                }
                match here {
                    Variables::Bound(value, _) => Ok(Cow::Borrowed(*value)),
                    Variables::None => Err(self.fault(part, "the variable is not bound")),
                }
            }
            Kind::List(items) => {
                let items = items.iter().map(|item| self.owned(item, self.value(item, variables)?));
                Ok(Cow::Owned(Value::Array(items.collect::<Result<_, _>>()?)))
            }
            Kind::Object(entries) => {
                let mut members = serde_json::Map::new();
                for (key, value) in entries {
                    let name = self.value(key, variables)?;
                    let name = name.as_str().ok_or_else(|| self.fault(key, "the keys of an object are strings"))?;
                    members.insert(name.to_owned(), self.owned(value, self.value(value, variables)?)?);
                }
                Ok(Cow::Owned(Value::Object(members)))
            }
            Kind::Member(of, name) => match &of.kind {
                Kind::Step(_) | Kind::Run | Kind::Workflow => self.named(part, of, name),
                _ => match self.value(of, variables)? {
                    Cow::Borrowed(Value::Object(members)) => {
                        members.get(&**name).map(Cow::Borrowed).ok_or_else(|| self.missing(part, of, name))
                    }
                    Cow::Owned(Value::Object(mut members)) => {
                        members.swap_remove(&**name).map(Cow::Owned).ok_or_else(|| self.missing(part, of, name))
                    }
                    other => Err(self
                        .fault(part, format!("`{}` is {}, which has no `{name}`", self.name(of), Kinds::of(&other)))),
                },
            },
            Kind::Index(of, index) => self.index(part, of, index, variables),
            Kind::Has(member) => self.has(member, variables).map(|has| Cow::Owned(has.into())),
            Kind::Not(of) => Ok(Cow::Owned((!self.boolean(of, variables)?).into())),
            Kind::Negate(of) => match number(&*self.value(of, variables)?) {
                Some(Number::Int(number)) => {
                    let negated =
                        number.checked_neg().ok_or_else(|| self.fault(part, "the integer is out of range"))?;
                    Ok(Cow::Owned(negated.into()))
                }
                Some(Number::Double(number)) => self.double(part, -number),
                None => Err(self.fault(of, "only numbers can be negated")),
            },
            // As in CEL, one side that decides makes up for the other's error.
            Kind::And(a, b) => self.decided(a, b, false, variables),
            Kind::Or(a, b) => self.decided(a, b, true, variables),
            Kind::If(parts) => match self.boolean(&parts[0], variables)? {
                true => self.value(&parts[1], variables),
                false => self.value(&parts[2], variables),
            },
            Kind::Binary(operator, a, b) => {
                let (left, right) = (self.value(a, variables)?, self.value(b, variables)?);
                self.binary(part, *operator, &left, &right).map(Cow::Owned)
            }
            Kind::Call(function, args) => {
                let values = args.iter().map(|arg| self.value(arg, variables)).collect::<Result<Vec<_>, _>>()?;
                for ((arg, value), takes) in args.iter().zip(&values).zip(function.takes) {
                    if !Kinds::of(value).within(*takes) {
                        let message = format!("`{}` takes {takes}, not {}", function.name, Kinds::of(value));
                        return Err(self.fault(arg, message));
                    }
                    self.spend(arg, weight(value))?;
                }
                let values: Vec<&Value> = values.iter().map(|value| &**value).collect();
                (function.apply)(&values).map(Cow::Owned).map_err(|message| self.fault(part, message))
            }
            Kind::Loop(looped) => self.looped(part, looped, variables).map(Cow::Owned),
        }
    }

    /// `run`, `workflow` or a step as an object.
    fn whole(&self, part: &Expr) -> Evaluated<'s> {
        let object = match &part.kind {
            Kind::Run => serde_json::json!({ "id": self.scope.run_id() }),
            Kind::Workflow => serde_json::json!({
                "name": self.scope.workflow_name(),
                "directory": self.scope.workflow_directory(),
            }),
            Kind::Step(name) => {
                let step = self.step(part, name)?;
                let mut object = serde_json::json!({ "status": step.status, "attempts": step.attempts });
                if let Some(output) = step.output {
                    self.spend(part, weight(output))?;
                    object["output"] = output.clone();
                }
                if let Some(failure) = step.failure {
                    object["failure"] = failure_value(failure);
                }
                object
            }
            _ => Value::Null,
        };
        Ok(Cow::Owned(object))
    }

    fn step(&self, part: &Expr, name: &str) -> Result<StepView<'s>, RuleError> {
        self.scope.step(name).ok_or_else(|| self.fault(part, format!("the step `{name}` has not come to its end")))
    }

    /// `of.name`, where `of` is `run`, `workflow` or a step.
    fn named(&self, part: &Expr, of: &Expr, name: &str) -> Evaluated<'s> {
        let text = |text: &str| Ok(Cow::Owned(Value::from(text)));
        match (&of.kind, name) {
            (Kind::Run, "id") => text(self.scope.run_id()),
            (Kind::Workflow, "name") => text(self.scope.workflow_name()),
            (Kind::Workflow, "directory") => text(self.scope.workflow_directory()),
            (Kind::Step(step), _) => {
                let view = self.step(of, step)?;
                let without = |what: &str| {
                    let was = match view.status {
                        "skipped" | "cancelled" => format!("was {}", view.status),
                        "unfinished" => "has not come to its end".to_owned(),
                        status => format!("has {status}"),
                    };
                    self.fault(part, format!("the step `{step}` {was}, so it has no {what}"))
                };
                match name {
                    "status" => text(view.status),
                    "attempts" => Ok(Cow::Owned(view.attempts.into())),
                    "output" => view.output.map(Cow::Borrowed).ok_or_else(|| without("output")),
                    "failure" => {
                        view.failure.map(|failure| Cow::Owned(failure_value(failure))).ok_or_else(|| without("failure"))
                    }
                    _ => {
                        Err(self
                            .fault(part, format!("a step has no `{name}`, only status, output, failure and attempts")))
                    }
                }
            }
            _ => Err(self.fault(part, format!("`{}` has no `{name}`", self.name(of)))),
        }
    }

    fn name(&self, part: &Expr) -> &str {
        self.text.get(part.span.clone()).unwrap_or(self.text)
    }

    fn missing(&self, part: &Expr, of: &Expr, name: &str) -> RuleError {
        let place = match &of.kind {
            Kind::Member(step, output) if matches!(step.kind, Kind::Step(_)) => (**output).to_owned(),
            _ => format!("`{}`", self.name(of)),
        };
        match place.starts_with('`') {
            true => self.fault(part, format!("there is no `{name}` in {place}")),
            false => self.fault(part, format!("there is no `{name}` in the {place}")),
        }
    }

    fn index<'e>(&self, part: &'s Expr, of: &'s Expr, index: &'s Expr, variables: &'e Variables<'e>) -> Evaluated<'e>
    where
        's: 'e,
    {
        let (container, at) = (self.value(of, variables)?, self.value(index, variables)?);
        match (&*container, &*at) {
            (Value::Array(items), Value::Number(at)) => {
                let found = at.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
                let Some(at) = found else {
                    let message = format!("there is no item {at} in `{}`, which has {}", self.name(of), items.len());
                    return Err(self.fault(part, message));
                };
                Ok(match container {
                    Cow::Borrowed(value) => Cow::Borrowed(&value[at]),
                    Cow::Owned(mut value) => Cow::Owned(value[at].take()),
                })
            }
            (Value::Object(members), Value::String(name)) => {
                if !members.contains_key(name) {
                    return Err(self.missing(part, of, name));
                }
                Ok(match container {
                    Cow::Borrowed(value) => Cow::Borrowed(&value[name.as_str()]),
                    Cow::Owned(mut value) => Cow::Owned(value[name.as_str()].take()),
                })
            }
            (container, at) => {
                let message = format!("{} can't be indexed by {}", Kinds::of(container), Kinds::of(at));
                Err(self.fault(part, message))
            }
        }
    }

    /// Whether the member is there. What it is asked of has to be there.
    fn has<'e>(&self, member: &'s Expr, variables: &'e Variables<'e>) -> Result<bool, RuleError>
    where
        's: 'e,
    {
        match &member.kind {
            Kind::Step(name) => Ok(self.scope.step(name).is_some()),
            Kind::Member(of, name) => match &of.kind {
                Kind::Step(step) => {
                    let view = self.step(of, step)?;
                    Ok(match &**name {
                        "output" => view.output.is_some(),
                        "failure" => view.failure.is_some(),
                        name => matches!(name, "status" | "attempts"),
                    })
                }
                _ => Ok(self.value(of, variables)?.get(&**name).is_some()),
            },
            _ => Ok(true),
        }
    }

    fn boolean<'e>(&self, part: &'s Expr, variables: &'e Variables<'e>) -> Result<bool, RuleError>
    where
        's: 'e,
    {
        let value = self.value(part, variables)?;
        value
            .as_bool()
            .ok_or_else(|| self.fault(part, format!("this has to be true or false, but is {}", Kinds::of(&value))))
    }

    fn decided<'e>(&self, a: &'s Expr, b: &'s Expr, decides: bool, variables: &'e Variables<'e>) -> Evaluated<'e>
    where
        's: 'e,
    {
        let first = self.boolean(a, variables);
        if first == Ok(decides) {
            return Ok(Cow::Owned(decides.into()));
        }
        let second = self.boolean(b, variables);
        if second == Ok(decides) {
            return Ok(Cow::Owned(decides.into()));
        }
        first.and(second).map(|_| Cow::Owned((!decides).into()))
    }

    fn double(&self, part: &Expr, number: f64) -> Evaluated<'static> {
        let number =
            serde_json::Number::from_f64(number).ok_or_else(|| self.fault(part, "the result is no finite number"))?;
        Ok(Cow::Owned(Value::Number(number)))
    }

    fn binary(&self, part: &Expr, operator: Operator, a: &Value, b: &Value) -> Result<Value, RuleError> {
        let unfit = || {
            let message = format!("`{}` can't take {} and {}", operator.sign(), Kinds::of(a), Kinds::of(b));
            self.fault(part, message)
        };
        match operator {
            Operator::Equal => Ok(self.equal(part, a, b)?.into()),
            Operator::NotEqual => Ok((!self.equal(part, a, b)?).into()),
            Operator::Less => Ok(order(a, b).ok_or_else(unfit)?.is_lt().into()),
            Operator::LessOrEqual => Ok(order(a, b).ok_or_else(unfit)?.is_le().into()),
            Operator::Greater => Ok(order(a, b).ok_or_else(unfit)?.is_gt().into()),
            Operator::GreaterOrEqual => Ok(order(a, b).ok_or_else(unfit)?.is_ge().into()),
            Operator::In => match (a, b) {
                (a, Value::Array(items)) => {
                    for item in items {
                        if self.equal(part, a, item)? {
                            return Ok(true.into());
                        }
                    }
                    Ok(false.into())
                }
                (Value::String(name), Value::Object(members)) => Ok(members.contains_key(name).into()),
                _ => Err(unfit()),
            },
            Operator::Add => match (a, b) {
                (Value::String(a), Value::String(b)) => {
                    self.spend(part, (a.len() + b.len()) / BYTES_PER_UNIT)?;
                    Ok(format!("{a}{b}").into())
                }
                (Value::Array(left), Value::Array(right)) => {
                    self.spend(part, weight(a) + weight(b))?;
                    Ok(left.iter().chain(right).cloned().collect())
                }
                _ => self.arithmetic(part, operator, number(a).ok_or_else(unfit)?, number(b).ok_or_else(unfit)?),
            },
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                self.arithmetic(part, operator, number(a).ok_or_else(unfit)?, number(b).ok_or_else(unfit)?)
            }
        }
    }

    fn arithmetic(&self, part: &Expr, operator: Operator, a: Number, b: Number) -> Result<Value, RuleError> {
        if let (Number::Int(a), Number::Int(b)) = (a, b) {
            let by_zero = b == 0 && matches!(operator, Operator::Divide | Operator::Remainder);
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            let message = if by_zero { "division by zero" } else { "the integer is out of range" };
            return result.map(Value::from).ok_or_else(|| self.fault(part, message));
        }
        let (a, b) = (a.double(), b.double());
        let result = match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
            _ => return Err(self.fault(part, "`%` takes integers")),
        };
        self.double(part, result).map(Cow::into_owned)
    }

    /// As CEL does: numbers by value, whatever kinds of numbers they are; different kinds of values are never equal.
    fn equal(&self, part: &Expr, a: &Value, b: &Value) -> Result<bool, RuleError> {
        self.spend(part, 1)?;
        match (a, b) {
            (Value::Number(_), Value::Number(_)) => Ok(order(a, b) == Some(Ordering::Equal)),
            (Value::String(a), Value::String(b)) => {
                self.spend(part, a.len().min(b.len()) / BYTES_PER_UNIT)?;
                Ok(a == b)
            }
            (Value::Array(a), Value::Array(b)) => {
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(part, a, b)? {
                        return Ok(false);
                    }
                }
                Ok(a.len() == b.len())
            }
            (Value::Object(a), Value::Object(b)) => {
                for (name, a) in a {
                    let Some(b) = b.get(name) else { return Ok(false) };
                    if !self.equal(part, a, b)? {
                        return Ok(false);
                    }
                }
                Ok(a.len() == b.len())
            }
            (a, b) => Ok(a == b),
        }
    }

    fn looped(&self, part: &Expr, looped: &'s Loop, variables: &Variables<'_>) -> Result<Value, RuleError> {
        let over = self.value(&looped.over, variables)?;
        // A loop over an object goes over its names, as CEL's do.
        let names: Vec<Value>;
        let items = match &*over {
            Value::Array(items) => items.as_slice(),
            Value::Object(members) => {
                self.spend(part, members.len())?;
                names = members.keys().map(|name| Value::from(name.as_str())).collect();
                names.as_slice()
            }
            other => {
                return Err(
                    self.fault(&looped.over, format!("a loop goes over a list or an object, not {}", Kinds::of(other)))
                );
            }
        };
        let mut kept = Vec::new();
        let mut holding = 0;
        let mut failed: Option<RuleError> = None;
        for item in items {
            let variables = Variables::Bound(item, variables);
            if let Some(keep) = &looped.keep
                && !self.boolean(keep, &variables)?
            {
                continue;
            }
            if looped.kind == LoopKind::Map {
                kept.push(self.owned(&looped.body, self.value(&looped.body, &variables)?)?);
                continue;
            }
            match (looped.kind, self.boolean(&looped.body, &variables)) {
                (LoopKind::All, Ok(false)) => return Ok(false.into()),
                (LoopKind::Exists, Ok(true)) => return Ok(true.into()),
                (LoopKind::Filter, Ok(true)) => kept.push(self.owned(part, Cow::Borrowed(item))?),
                (_, Ok(holds)) => holding += usize::from(holds),
                (LoopKind::All | LoopKind::Exists, Err(error)) if self.left.get() > 0 => {
                    failed = failed.or(Some(error))
                }
                (_, Err(error)) => return Err(error),
            }
        }
        match (looped.kind, failed) {
            (_, Some(error)) => Err(error),
            (LoopKind::All, None) => Ok(true.into()),
            (LoopKind::Exists, None) => Ok(false.into()),
            (LoopKind::ExistsOne, None) => Ok((holding == 1).into()),
            (LoopKind::Filter | LoopKind::Map, None) => Ok(Value::Array(kept)),
        }
    }
}

/// A number in one of CEL's two kinds.
#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    fn double(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Double(number) => number,
        }
    }
}

/// An integer above 2^63 - 1 is a double.
fn number(value: &Value) -> Option<Number> {
    let number = value.as_number()?;
    number.as_i64().map(Number::Int).or_else(|| number.as_f64().map(Number::Double))
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => match (number(a)?, number(b)?) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.double().partial_cmp(&b.double()),
        },
    }
}

/// The work of copying a value.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / BYTES_PER_UNIT,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, value)| 1 + name.len() / BYTES_PER_UNIT + weight(value)).sum::<usize>()
        }
        _ => 1,
    }
}

/// A failure, as rules see it: its kind is one word.
fn failure_value(failure: &Failure) -> Value {
    let kind = match &failure.kind {
        FailureKind::Limit { .. } => Value::from("limit"),
        kind => serde_json::to_value(kind).unwrap_or_default(),
    };
    let mut value = serde_json::json!({ "kind": kind, "message": failure.message });
    if let Some(details) = &failure.details {
        value["details"] = details.value();
    }
    value
}
