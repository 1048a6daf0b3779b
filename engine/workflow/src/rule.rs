//! Rules and templates: CEL expressions over what a run knows, bounded before and while they are evaluated.
//!
//! A [`Rule`] is one expression (`when`); a [`Template`] is a JSON value with `${…}` holes (`with`, `outputs`). Both are
//! compiled once, when a plan is made or read back, and serialise as the text they came from. This file knows nothing
//! of TOML and nothing of a run's states: it sees a run through [`Scope`].
//!
//! The language is CEL (<https://cel.dev>) over JSON: its grammar is the `cel` crate's parser. Evaluation is our own,
//! because theirs has no budget (four nested `map`s over 60 items run for half a minute), copies every value that a rule
//! mentions, and can't say which part of an expression failed. Two things differ from CEL, both because JSON does not
//! keep integers and doubles apart: they may be mixed in sums, and there are no unsigned integers, bytes or timestamps.

mod evaluate;
mod expression;
mod foretell;
mod function;
mod scan;
mod template;
mod typing;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use evaluate::EVALUATION_WORK_MAX;
pub use expression::Local;
pub use expression::{
    EXPRESSION_BYTES_MAX, EXPRESSION_CHAIN_MAX, EXPRESSION_NESTING_MAX, EXPRESSION_TOKENS_MAX, LOOP_NESTING_MAX,
};
pub(crate) use expression::{Expression, Fault, Mention};
pub use foretell::{Foretold, Outline};
pub(crate) use function::regex;
pub(crate) use scan::{TokenKind, Tokens};
pub use template::Template;
pub(crate) use template::{Hole, Part, Text, Tree, TreeKind, hole_end};
pub(crate) use typing::{Certainty, Guard, Known, SecretKnown, StepKnown, guards, infer};

use crate::event::Failure;
use crate::json::Json;

/// The longest value, in bytes of JSON, that a run remembers of what a rule saw. 1 KiB: a person reads it to understand
/// why a step was skipped; a step's whole output is found with the step.
const SAW_BYTES_MAX: usize = 1 << 10;

/// What rules and templates may look at.
///
/// | path | value |
/// |---|---|
/// | `inputs.NAME` | the run's input |
/// | `steps.NAME.status` | `"succeeded"`, `"failed"`, `"skipped"` or `"cancelled"` |
/// | `steps.NAME.output` | what the step answered; only when it succeeded |
/// | `steps.NAME.failure` | `{kind, message, details}`; only when it failed |
/// | `steps.NAME.attempts` | how many attempts were started |
/// | `item` | within `foreach`: the item of the list that this is about |
/// | `index` | within `foreach` and `repeat`: which item or round it is, from 0 |
/// | `outer.item`, `outer.index`, `outer.previous` | the same of what is around the innermost `foreach` or `repeat`; `outer.outer` further out |
/// | `items.succeeded`, `items.failed`, `items.outputs` | in the `until` of a `foreach`: how many items have, and what they answered |
/// | `previous` | within `repeat`: what the round before answered, null in the first |
/// | `run.id` | the run's id |
/// | `workflow.name`, `workflow.directory` | the workflow's name and its absolute folder |
/// | `secrets.NAME` | the text that stands for a secret in this run |
pub trait Scope {
    /// The run's inputs: an object.
    fn inputs(&self) -> &serde_json::Value;
    /// The run's inputs, as they stand, where that is at hand without a parse.
    fn inputs_text(&self) -> Option<&Json> {
        None
    }
    /// A step that has come to its end; `None` for one that has not, or that does not exist.
    fn step(&self, name: &str) -> Option<StepView<'_>>;
    /// What a step answered, as it stands, where that is at hand without a parse.
    fn output(&self, _step: &str) -> Option<&Json> {
        None
    }
    /// What only items and rounds have, those so many of them further out; `None` outside of them.
    fn local(&self, _local: Local, _outer: u8) -> Option<&serde_json::Value> {
        None
    }
    /// The run's id.
    fn run_id(&self) -> &str;
    /// The workflow's name.
    fn workflow_name(&self) -> &str;
    /// The workflow's absolute folder.
    fn workflow_directory(&self) -> &str;
    /// The text that stands for a secret; `None` outside of runs.
    fn secret(&self, _name: &str) -> Option<String> {
        None
    }
}

/// A finished step, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a> {
    /// `succeeded`, `failed`, `skipped` or `cancelled`.
    pub status: &'static str,
    /// Its output, parsed.
    pub output: Option<&'a serde_json::Value>,
    /// Why it failed.
    pub failure: Option<&'a Failure>,
    /// Attempts started.
    pub attempts: u32,
}

/// Why a rule or a hole could not be evaluated: which part of it, what was wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{expression}`: {message}")]
pub struct RuleError {
    /// The text of the smallest part that failed.
    pub expression: String,
    /// What went wrong, in our words.
    pub message: String,
}

/// A boolean expression.
#[derive(Clone, Debug)]
pub struct Rule {
    expression: Expression,
}

impl Rule {
    /// Compiles a text. The error is the first fault; whoever wants them all, and types, goes through `resolve`.
    pub fn compile(text: &str) -> Result<Rule, RuleError> {
        Expression::compile(text).map(Rule::from).map_err(|faults| RuleError {
            expression: text.chars().take(200).collect(),
            message: faults.into_iter().next().map(|fault| fault.message).unwrap_or_default(),
        })
    }

    /// The text.
    pub fn source(&self) -> &str {
        self.expression.text()
    }

    /// Whether it holds.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, RuleError> {
        let value = self.expression.evaluate(scope)?;
        value.as_bool().ok_or_else(|| RuleError {
            expression: self.source().to_owned(),
            message: format!("a rule is true or false, but this is {}", crate::schema::Kinds::of(&value)),
        })
    }

    /// What can be told of it before all is known that it mentions.
    pub fn foretell(&self, scope: &dyn Scope) -> Foretold {
        self.expression.foretell(scope)
    }

    /// The inputs and steps that it mentions.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = Mention<'_>> {
        self.expression.mentions()
    }

    /// The steps that it mentions.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.expression.mentions().filter_map(|mention| match mention {
            Mention::Step(name) => Some(name),
            _ => None,
        })
    }

    /// What each path in it stands for, in the order in which they appear, each once; `null` where there is nothing. A
    /// value of more than a KiB is replaced by a string that tells its size.
    pub fn saw(&self, scope: &dyn Scope) -> Vec<(String, Json)> {
        let saw = self.expression.saw(scope).into_iter();
        saw.map(|(path, value)| (path.to_owned(), remembered(&value.unwrap_or_default()))).collect()
    }

    /// The same before all is known: without the paths that stand for nothing yet.
    pub fn sees(&self, scope: &dyn Scope) -> Vec<(String, Json)> {
        let saw = self.expression.saw(scope).into_iter();
        saw.filter_map(|(path, value)| Some((path.to_owned(), remembered(&value?)))).collect()
    }
}

/// A value as a run remembers that a rule saw it.
fn remembered(value: &serde_json::Value) -> Json {
    let text = value.to_string();
    match text.len() > SAW_BYTES_MAX {
        true => Json::from(serde_json::Value::from(format!("({} bytes)", text.len()))),
        false => Json::parse(text).unwrap_or_else(|_| Json::null()),
    }
}

impl From<Expression> for Rule {
    fn from(expression: Expression) -> Rule {
        Rule { expression }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        Rule::compile(&text).map_err(serde::de::Error::custom)
    }
}
