//! The functions that expressions may call: one table says their names, types and what they do, so that the checker and
//! the evaluator can't disagree.

use serde_json::Value;

use crate::schema::Kinds;

/// How large a compiled regular expression may be. 256 KiB: a few hundred alternatives; more is no rule.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it is called as `x.name(…)`.
    pub(super) method: bool,
    /// Whether it is called as `name(x, …)`.
    pub(super) global: bool,
    /// What it takes; the first is what it is called on.
    pub(super) takes: &'static [Kinds],
    /// What it gives.
    pub(super) gives: Kinds,
    /// What it does, with arguments of the right kinds. The error is for a person.
    pub(super) apply: fn(&[&Value]) -> Result<Value, String>,
}

const SIZED: Kinds = Kinds::TEXT.or(Kinds::LIST).or(Kinds::OBJECT);
const NUMERIC: Kinds = Kinds::NUMBER.or(Kinds::TEXT);

pub(super) static FUNCTIONS: &[Function] = &[
    Function { name: "size", method: true, global: true, takes: &[SIZED], gives: Kinds::INT, apply: size },
    Function {
        name: "contains",
        method: true,
        global: false,
        takes: &[Kinds::TEXT, Kinds::TEXT],
        gives: Kinds::BOOL,
        apply: |args| Ok(text(args, 0).contains(text(args, 1)).into()),
    },
    Function {
        name: "startsWith",
        method: true,
        global: false,
        takes: &[Kinds::TEXT, Kinds::TEXT],
        gives: Kinds::BOOL,
        apply: |args| Ok(text(args, 0).starts_with(text(args, 1)).into()),
    },
    Function {
        name: "endsWith",
        method: true,
        global: false,
        takes: &[Kinds::TEXT, Kinds::TEXT],
        gives: Kinds::BOOL,
        apply: |args| Ok(text(args, 0).ends_with(text(args, 1)).into()),
    },
    Function {
        name: "matches",
        method: true,
        global: true,
        takes: &[Kinds::TEXT, Kinds::TEXT],
        gives: Kinds::BOOL,
        apply: |args| Ok(regex(text(args, 1))?.is_match(text(args, 0)).into()),
    },
    Function {
        name: "lowerAscii",
        method: true,
        global: false,
        takes: &[Kinds::TEXT],
        gives: Kinds::TEXT,
        apply: |args| Ok(text(args, 0).to_ascii_lowercase().into()),
    },
    Function {
        name: "upperAscii",
        method: true,
        global: false,
        takes: &[Kinds::TEXT],
        gives: Kinds::TEXT,
        apply: |args| Ok(text(args, 0).to_ascii_uppercase().into()),
    },
    Function {
        name: "trim",
        method: true,
        global: false,
        takes: &[Kinds::TEXT],
        gives: Kinds::TEXT,
        apply: |args| Ok(text(args, 0).trim().into()),
    },
    Function {
        name: "split",
        method: true,
        global: false,
        takes: &[Kinds::TEXT, Kinds::TEXT],
        gives: Kinds::LIST,
        apply: split,
    },
    Function {
        name: "join",
        method: true,
        global: false,
        takes: &[Kinds::LIST, Kinds::TEXT],
        gives: Kinds::TEXT,
        apply: join,
    },
    Function { name: "int", method: false, global: true, takes: &[NUMERIC], gives: Kinds::INT, apply: int },
    Function { name: "double", method: false, global: true, takes: &[NUMERIC], gives: Kinds::DOUBLE, apply: double },
    Function {
        name: "string",
        method: false,
        global: true,
        takes: &[NUMERIC.or(Kinds::BOOL)],
        gives: Kinds::TEXT,
        apply: |args| Ok(args[0].as_str().map_or_else(|| args[0].to_string(), str::to_owned).into()),
    },
];

/// A regular expression, with a bound on what it compiles to. The error is for a person.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("no regular expression: {reason}")
        }
    })
}

fn text<'a>(args: &[&'a Value], index: usize) -> &'a str {
    args.get(index).and_then(|arg| arg.as_str()).unwrap_or_default()
}

fn size(args: &[&Value]) -> Result<Value, String> {
    Ok(match args[0] {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
    .into())
}

fn split(args: &[&Value]) -> Result<Value, String> {
    match text(args, 1) {
        "" => Ok(text(args, 0).chars().map(String::from).collect()),
        separator => Ok(text(args, 0).split(separator).collect()),
    }
}

fn join(args: &[&Value]) -> Result<Value, String> {
    let items = args[0].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    let texts = texts.ok_or("only strings can be joined; convert the others with `.map(x, string(x))`")?;
    Ok(texts.join(text(args, 1)).into())
}

fn int(args: &[&Value]) -> Result<Value, String> {
    let number = match args[0] {
        Value::String(text) => text.parse().ok(),
        number => number.as_i64().or_else(|| {
            let double = number.as_f64()?.trunc();
            (-9.2e18..9.2e18).contains(&double).then_some(double as i64)
        }),
    };
    number.map(Value::from).ok_or_else(|| format!("{} is no integer", args[0]))
}

fn double(args: &[&Value]) -> Result<Value, String> {
    let number = match args[0] {
        Value::String(text) => text.parse().ok(),
        number => number.as_f64(),
    };
    let finite = number.and_then(serde_json::Number::from_f64);
    finite.map(Value::from).ok_or_else(|| format!("{} is no finite number", args[0]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::expression::LOOPS;
    use super::FUNCTIONS;

    #[test]
    fn the_page_of_the_language_has_every_function_and_no_other() {
        let page = include_str!("../../../../docs/workflows.md");
        let (_, after) = page.split_once("\n### Functions\n").expect("the page has a table of them");
        let rows =
            after.lines().skip_while(|line| !line.starts_with('|')).skip(2).take_while(|line| line.starts_with('|'));
        let calls = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
        let calls = calls.map(|call| call.split('(').next().unwrap_or_default());
        // Each with whether it is called on a value.
        let told: BTreeSet<(&str, bool)> =
            calls.map(|call| call.rsplit_once('.').map_or((call, false), |(_, method)| (method, true))).collect();
        let methods = FUNCTIONS.iter().filter(|function| function.method).map(|function| (function.name, true));
        let globals = FUNCTIONS.iter().filter(|function| function.global).map(|function| (function.name, false));
        let loops = LOOPS.iter().map(|name| (*name, true));
        let known: BTreeSet<(&str, bool)> = methods.chain(globals).chain(loops).chain([("has", false)]).collect();
        assert_eq!(told, known);
    }
}
