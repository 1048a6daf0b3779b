//! Runs a filter: text is loaded, compiled against the standard library and the variables, and asked for results one by
//! one. What is wrong with the text is said with its place and the words that stand there; what goes wrong while it runs
//! with the value that it went wrong on.

use std::collections::BTreeMap;

use downbeat_sdk::Failure;
use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile};
use jaq_json::Val;
use serde_json::Value;

use crate::json;

/// How much of the filter's text a message quotes, in characters: enough to find it by.
const QUOTED_CHARS: usize = 40;

/// How much of jq's own words a message shows, in characters. They repeat the value that the filter stumbled over, which
/// may be all of its input.
const REASON_CHARS: usize = 500;

/// How large an error value may be to be kept in a failure's details, in bytes of JSON: facts, not payload.
const DETAILS_BYTES: usize = 16 << 10;

/// The first `most` results of a filter.
///
/// # Errors
///
/// Invalid input where the text is no filter, or a variable's name is none; permanent where the filter raises an error, or
/// gives a value that is no JSON.
pub(crate) fn run(text: &str, value: Value, vars: BTreeMap<String, Value>, most: usize) -> Result<Vec<Value>, Failure> {
    let (names, values): (Vec<String>, Vec<Val>) =
        vars.into_iter().map(|(name, value)| (format!("${name}"), json::to_val(value))).unzip();
    if let Some(name) = names.iter().find(|name| !is_variable(name)) {
        return Err(Failure::invalid_input(format!(
            "`{}` can't be a variable of a filter: a name has letters, digits and `_`, not a digit first",
            &name[1..]
        )));
    }

    let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let funs = jaq_core::funs::<JustLut<Val>>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules =
        Loader::new(defs).load(&arena, File { code: text, path: () }).map_err(|errors| fault(text, errors))?;
    let filter = Compiler::default()
        .with_funs(funs)
        .with_global_vars(names.iter().map(String::as_str))
        .compile(modules)
        .map_err(|errors| undefined(text, &names, errors))?;

    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new(values));
    let mut results = Vec::new();
    for result in filter.id.run((context, json::to_val(value))).take(most) {
        match result {
            Ok(value) => results.push(json::of_val(&value).map_err(Failure::permanent)?),
            Err(exception) => match exception.get_err() {
                Ok(error) => return Err(raised(error)),
                // `halt` ends a program without an error; `halt_error` gives another code.
                Err(exception) => match exception.get_halt() {
                    Ok(0) => break,
                    Ok(code) => {
                        return Err(Failure::permanent(format!(
                            "the filter halted with the exit code {code}; its log says why"
                        )));
                    }
                    Err(_) => return Err(Failure::permanent("the filter ended with a `break` that nothing catches")),
                },
            },
        }
    }
    Ok(results)
}

/// Whether a `$` is followed by a name.
fn is_variable(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The text is no filter.
fn fault(text: &str, errors: load::Errors<&str, ()>) -> Failure {
    let found = errors.into_iter().next().and_then(|(_, error)| match error {
        load::Error::Io(errors) => errors
            .into_iter()
            .next()
            .map(|(at, _)| (at, "a step's filter can't load modules; define what it needs with `def`".to_owned())),
        load::Error::Lex(errors) => errors.into_iter().next().map(|(expected, at)| (at, wanted(expected.as_str()))),
        load::Error::Parse(errors) => errors.into_iter().next().map(|(expected, at)| (at, wanted(expected.as_str()))),
    });
    let (at, reason) = found.unwrap_or((text, "it is none".to_owned()));
    Failure::invalid_input(format!("`filter` is no jq filter: {}: {reason}", place(text, at)))
}

fn wanted(what: &str) -> String {
    match what {
        "nothing" => "nothing more is expected here".to_owned(),
        "token" => "no word or sign of jq begins like this".to_owned(),
        what => format!("{what} is expected here"),
    }
}

/// The text names what is not there.
fn undefined(text: &str, names: &[String], errors: compile::Errors<&str, ()>) -> Failure {
    let found = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((at, what)) = found else { return Failure::invalid_input("`filter` can't be compiled") };
    let reason = match what {
        compile::Undefined::Var if names.is_empty() => "there is no such variable: `vars` has none".to_owned(),
        compile::Undefined::Var => format!("there is no such variable; `vars` has `{}`", names.join("`, `")),
        compile::Undefined::Filter(arity) => match arity {
            0 => "there is no such function".to_owned(),
            1 => "there is no such function with one argument".to_owned(),
            arity => format!("there is no such function with {arity} arguments"),
        },
        other => format!("there is no such {}", other.as_str()),
    };
    Failure::invalid_input(format!("`filter` is no jq filter: {}: {reason}", place(text, at)))
}

/// Where a piece of the text is, and how it begins: ``line 1, column 8, at `foo` ``.
fn place(text: &str, at: &str) -> String {
    let offset = (at.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let Some(before) = text.get(..offset) else { return format!("at `{at}`") };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    // A token stands for itself; the rest of the text, where that is what was found, for its first line.
    let quoted = cut(at.lines().next().unwrap_or_default(), QUOTED_CHARS);
    match quoted.is_empty() {
        true => format!("line {line}, column {column}, at its end"),
        false => format!("line {line}, column {column}, at `{quoted}`"),
    }
}

/// The filter raised an error, by itself or with `error`.
fn raised(error: jaq_json::Error) -> Failure {
    let reason = cut(&error.to_string(), REASON_CHARS);
    let failure = Failure::permanent(format!("the filter failed: {reason}"));
    match json::of_val(&error.into_val()) {
        Ok(value) if value.to_string().len() <= DETAILS_BYTES => failure.details(serde_json::json!({ "error": value })),
        _ => failure.details(serde_json::json!({ "error": reason })),
    }
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
