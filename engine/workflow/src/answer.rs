//! What a component may answer: values that people write down as a step's output, held against the output schema of its
//! component, as `resolve` holds `with` against the input schema.

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::rule::Tree;
use crate::schema::{Type, fit, is_bounded};
use crate::spec;

/// The schema of a component's output, ready to judge many values.
#[derive(Debug)]
pub struct OutputSchema {
    schema: Value,
    /// The whole of it. `None` if it is no schema: then only what is understood of it is checked.
    validator: Option<jsonschema::Validator>,
}

impl OutputSchema {
    /// Of this text.
    pub fn new(schema: &Json) -> OutputSchema {
        let schema = schema.value();
        let bounded = Some(&schema).filter(|schema| is_bounded(schema));
        OutputSchema { validator: bounded.and_then(|schema| jsonschema::validator_for(schema).ok()), schema }
    }

    /// Tells everything for which a component could not have answered this value, each with the place of the very key or
    /// value. The value is called `name` in messages; `${` in its strings means nothing.
    pub fn judge(&self, name: &str, value: &spec::Value, tell: &mut dyn FnMut(Diagnostic)) {
        let tree = Tree::of_plain(value);
        let mut fits = true;
        fit::fit("the component's output", name, &tree, &Type::of_schema(&self.schema), &mut |misfit| {
            fits = false;
            tell(misfit);
        });
        if let (true, Some(validator)) = (fits, &self.validator) {
            fit::validate(name, &tree, &value.to_json(), validator, tell);
        }
    }
}
