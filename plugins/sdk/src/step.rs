//! From a typed function to what a component exports: descriptions out of types, JSON in, JSON out.
//!
//! Nothing here knows the bindings, so all of it runs in native tests just as it does in the sandbox.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Failure, finite};

/// What `#[step]` makes out of a function: a type of the same name that describes the step and runs it on JSON text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step",
    note = "put `#[step]` on a function, and hand the type of that name here: `testing::run::<hello>(…)`"
)]
pub trait Step {
    /// What the step is.
    fn describe() -> Description;

    /// Carries out one attempt: JSON text in, JSON text out.
    ///
    /// # Errors
    ///
    /// Fails as invalid input when the text is not the function's input type, as the function itself fails, and
    /// permanently when the output holds a number that JSON can't write (NaN, infinities).
    fn run(context: &Context, input: &str) -> Result<String, Failure>;
}

/// What a step is. Read by the checker, the documentation and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Lower case words joined by `-`.
    pub name: String,
    /// The step's own version (semver).
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// JSON Schema (2020-12) of the input, as JSON text.
    pub input_schema: String,
    /// JSON Schema (2020-12) of the output, as JSON text.
    pub output_schema: String,
    /// The capabilities that the step means to use.
    pub wants: Vec<Want>,
}

/// A capability that a step means to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The grant's name.
    pub capability: String,
    /// Why, for those who grant it.
    pub reason: String,
}

/// The functions that can be a step: `fn(Input) -> Result<Output, Failure>` and
/// `fn(&Context, Input) -> Result<Output, Failure>`. `Arguments` only tells the two apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the signature of a step",
    label = "not a step's signature",
    note = "a step is `fn(Input) -> Result<Output, Failure>` or `fn(&Context, Input) -> Result<Output, Failure>`",
    note = "`Input` derives `serde::Deserialize` and `schemars::JsonSchema`, `Output` derives `serde::Serialize` and \
            `schemars::JsonSchema`, `Failure` is `downbeat_sdk::Failure`"
)]
pub trait StepFn<Arguments> {
    /// What the function takes.
    type Input;
    /// What it gives.
    type Output;

    /// Calls it.
    ///
    /// # Errors
    ///
    /// The function's own.
    fn call(&self, context: &Context, input: Self::Input) -> Result<Self::Output, Failure>;
}

impl<F, I, O> StepFn<(I,)> for F
where
    F: Fn(I) -> Result<O, Failure>,
{
    type Input = I;
    type Output = O;

    fn call(&self, _: &Context, input: I) -> Result<O, Failure> {
        self(input)
    }
}

impl<F, I, O> StepFn<(Context, I)> for F
where
    F: Fn(&Context, I) -> Result<O, Failure>,
{
    type Input = I;
    type Output = O;

    fn call(&self, context: &Context, input: I) -> Result<O, Failure> {
        self(context, input)
    }
}

/// What the attribute read from the source.
#[derive(Debug)]
pub struct About {
    /// The package's name unless the attribute names another.
    pub name: &'static str,
    /// The package's version unless the attribute names another.
    pub version: &'static str,
    /// The lines of the doc comment, or the one text that the attribute gives.
    pub summary: &'static [&'static str],
    /// The package's description, for a function without a doc comment.
    pub fallback_summary: &'static str,
    /// Capabilities and reasons.
    pub wants: &'static [(&'static str, &'static str)],
}

/// Describes the step that `function` is.
pub fn describe<F, A>(function: F, about: About) -> Description
where
    F: StepFn<A>,
    F::Input: DeserializeOwned + JsonSchema,
    F::Output: Serialize + JsonSchema,
{
    // Only the function's type matters here.
    let _ = function;
    let summary = match first_paragraph(about.summary) {
        paragraph if paragraph.is_empty() => about.fallback_summary.to_owned(),
        paragraph => paragraph,
    };
    Description {
        name: about.name.to_owned(),
        version: about.version.to_owned(),
        summary,
        input_schema: schema::<F::Input>(SchemaSettings::draft2020_12().for_deserialize()),
        output_schema: schema::<F::Output>(SchemaSettings::draft2020_12().for_serialize()),
        wants: (about.wants.iter())
            .map(|&(capability, reason)| Want { capability: capability.to_owned(), reason: reason.to_owned() })
            .collect(),
    }
}

/// Runs `function` on JSON text.
pub fn run<F, A>(function: F, context: &Context, input: &str) -> Result<String, Failure>
where
    F: StepFn<A>,
    F::Input: DeserializeOwned + JsonSchema,
    F::Output: Serialize + JsonSchema,
{
    let input = parse_input(input)?;
    let output = function.call(context, input)?;
    finite::check(&output)
        .and_then(|()| serde_json::to_string(&output).map_err(|error| error.to_string()))
        .map_err(|reason| Failure::permanent(format!("the step's output can't be written as JSON: {reason}")))
}

fn parse_input<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_str(text);
    let input = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().to_string();
        // The text is one that the engine wrote: a line and a column in it help nobody.
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        match path.as_str() {
            "." => Failure::invalid_input(format!("the input can't be used: {reason}")),
            path => Failure::invalid_input(format!("the input's `{path}` can't be used: {reason}"))
                .details(serde_json::json!({ "path": path })),
        }
    })?;
    json.end().map_err(|_| Failure::invalid_input("the input can't be used: there is more than one JSON value"))?;
    Ok(input)
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> String {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    serde_json::to_string(&schema).expect("a schema is a JSON value")
}

/// The lines up to the first empty one, joined; a doc comment's lines begin with the space after `///`.
fn first_paragraph(lines: &[&str]) -> String {
    let lines = lines.iter().flat_map(|text| text.split('\n')).map(str::trim);
    let paragraph: Vec<&str> = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::Kind;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Input {
        /// How often.
        #[serde(default)]
        count: u32,
        #[serde(default)]
        repeat: Option<Repeat>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Repeat {
        delays: Vec<u64>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Output {
        ratio: f64,
    }

    fn divide(input: Input) -> Result<Output, Failure> {
        let parts = input.repeat.map_or(1, |repeat| repeat.delays.len());
        Ok(Output { ratio: f64::from(input.count) / parts as f64 })
    }

    fn check(input: Value, expected: Result<Value, (Kind, &str)>) {
        let actual = run(divide, &Context::default(), &input.to_string());
        let actual = actual.map(|text| serde_json::from_str(&text).expect("the output is JSON"));
        let actual = actual.map_err(|failure| (failure.kind, failure.message));
        assert_eq!(actual, expected.map_err(|(kind, message)| (kind, message.to_owned())));
    }

    #[test]
    fn json_goes_in_and_comes_out() {
        check(json!({ "count": 3, "repeat": { "delays": [1, 2] } }), Ok(json!({ "ratio": 1.5 })));
    }

    #[test]
    fn a_wrong_input_is_named_by_its_path() {
        check(
            json!({ "repeat": { "delays": [1, "x"] } }),
            Err((
                Kind::InvalidInput,
                "the input's `repeat.delays[1]` can't be used: invalid type: string \"x\", expected u64",
            )),
        );
        check(
            json!({ "cuont": 1 }),
            Err((
                Kind::InvalidInput,
                "the input's `cuont` can't be used: unknown field `cuont`, expected `count` or `repeat`",
            )),
        );
        check(
            json!("three"),
            Err((Kind::InvalidInput, "the input can't be used: invalid type: string \"three\", expected struct Input")),
        );
    }

    #[test]
    fn a_number_that_json_cannot_write_is_a_permanent_failure_and_no_silent_null() {
        check(
            json!({ "count": 0, "repeat": { "delays": [] } }),
            Err((
                Kind::Permanent,
                "the step's output can't be written as JSON: `ratio` is NaN, and JSON has no such number",
            )),
        );
    }

    #[test]
    fn a_second_json_value_is_no_input() {
        let failure = run(divide, &Context::default(), "{} {}").expect_err("there are two values");
        assert_eq!(failure.kind, Kind::InvalidInput);
    }

    #[test]
    fn schemas_are_closed_objects_with_local_references_only() {
        let description = describe(
            divide,
            About {
                name: "divide",
                version: "1.0.0",
                summary: &[" Divides.", "", " At length."],
                fallback_summary: "",
                wants: &[("clock", "tells the time")],
            },
        );
        assert_eq!(description.summary, "Divides.");
        assert_eq!(description.wants, [Want { capability: "clock".into(), reason: "tells the time".into() }]);
        let input: Value = serde_json::from_str(&description.input_schema).expect("a schema is JSON");
        assert_eq!(input["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(input["type"], "object");
        assert_eq!(input["additionalProperties"], false);
        assert_eq!(input["properties"]["count"]["description"], "How often.");
        assert!(input["$defs"]["Repeat"].is_object());
        let output: Value = serde_json::from_str(&description.output_schema).expect("a schema is JSON");
        assert_eq!(output["required"], json!(["ratio"]));
    }

    #[test]
    fn the_summary_is_the_first_paragraph_or_the_packages_description() {
        assert_eq!(first_paragraph(&["", " Two", " lines.", "", " More."]), "Two lines.");
        assert_eq!(first_paragraph(&["One text.\nStill one.\n\nAnother."]), "One text. Still one.");
        assert_eq!(first_paragraph(&[]), "");
    }
}
