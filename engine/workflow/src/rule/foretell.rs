//! What can be told of an expression before a run: what inputs and constants alone decide, and what stays open.
//!
//! An expression is evaluated as ever. If it fails, and a step that it mentions has no end yet, it is open; `&&` and `||`
//! already make up for one side that fails when the other decides.

use serde_json::Value;

use super::expression::Kind;
use super::{Expression, Mention, RuleError, Scope, StepView};
use crate::json::Json;

/// What can be told of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Foretold {
    /// It comes to this, whatever happens.
    Value(Value),
    /// That depends on what is not known yet.
    Open,
    /// It can't be evaluated, whatever happens.
    Fault(RuleError),
}

/// What can be told of a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The value, with those holes as written that are open.
    pub value: Json,
    /// The first of its holes that can't be filled, whatever happens.
    pub fault: Option<RuleError>,
    /// Whether a hole is open.
    pub open: bool,
}

impl Expression {
    pub(super) fn foretell(&self, scope: &dyn Scope) -> Foretold {
        let open = self.mentions().any(|mention| matches!(mention, Mention::Step(name) if scope.step(name).is_none()));
        let (run, has) = self.asks();
        // Nothing is known of a run that does not exist; and `has` would take what is not known for what is not there.
        if run || (open && has) {
            return Foretold::Open;
        }
        match self.evaluate(scope) {
            Ok(value) => Foretold::Value(value.into_owned()),
            Err(_) if open => Foretold::Open,
            Err(error) => Foretold::Fault(error),
        }
    }
}

impl Expression {
    /// What it comes to if it looks at nothing of a run at all. `None` also if it can't be evaluated, which is told elsewhere.
    pub(crate) fn constant(&self) -> Option<Value> {
        let looks = |kind: &Kind| {
            matches!(
                kind,
                Kind::Inputs | Kind::Run | Kind::Workflow | Kind::Local(..) | Kind::Step(_) | Kind::Secret(_)
            )
        };
        match self.root().any(&looks) {
            true => None,
            false => self.evaluate(&Nothing).ok().map(|value| value.into_owned()),
        }
    }
}

/// A scope for those who look at nothing.
struct Nothing;

impl Scope for Nothing {
    fn inputs(&self) -> &Value {
        &Value::Null
    }

    fn step(&self, _name: &str) -> Option<StepView<'_>> {
        None
    }

    fn run_id(&self) -> &str {
        ""
    }

    fn workflow_name(&self) -> &str {
        ""
    }

    fn workflow_directory(&self) -> &str {
        ""
    }
}
