//! Whether a value of a workflow, holes included, can fit a schema: every misfit with the place of the very key or value.
//!
//! Words that describe shapes are checked here, also around holes; a value without holes is afterwards held against the
//! whole schema by the `jsonschema` crate.

use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::Value;

use super::{Kinds, Member, Type};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::rule::{Text, Tree, TreeKind, regex};

/// How many characters of a schema's description are shown: three lines.
const DESCRIPTION_SHOWN: usize = 240;

/// Tells every misfit of `tree`, which is called `name` in messages; it is `part`, such as `the component's input`.
pub(crate) fn fit(part: &str, name: &str, tree: &Tree, wanted: &Type<'_>, tell: &mut dyn FnMut(Diagnostic)) {
    let kinds = match &tree.kind {
        TreeKind::Text(Text::Hole(hole)) => hole.kinds.get(),
        _ => tree.kinds(),
    };
    if kinds.is_none() || !kinds.meets(wanted.kinds) {
        return if !kinds.is_none() {
            let message = format!("`{name}` has to be {}, not {kinds}", wanted.kinds);
            let found = Diagnostic::error("wrong-type", tree.span.clone(), message);
            let hint = unquoted(tree, wanted.kinds)
                .or_else(|| in_brackets(tree, wanted))
                .or_else(|| as_text(tree, wanted.kinds));
            tell(found.label(kinds.to_string()).maybe_hint(hint));
        };
    }
    if let (Some(options), Some(value)) = (wanted.options(), tree.constant())
        && !options.contains(&&value)
    {
        let names: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let found = Diagnostic::error("not-an-option", tree.span.clone(), format!("`{name}` can't be {value}"));
        let texts = options.iter().filter_map(|option| option.as_str());
        let similar = value.as_str().and_then(|text| did_you_mean(text, texts));
        let hint = match similar {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        return tell(found.label("not one of its values").hint(hint));
    }
    match &tree.kind {
        TreeKind::Scalar(_) | TreeKind::Text(_) => {
            if let Some(reason) = tree.constant().and_then(|value| out_of_bounds(&value, wanted)) {
                let found = Diagnostic::error("out-of-bounds", tree.span.clone(), format!("`{name}` {reason}"));
                let hint = (tree.kinds() == Kinds::TEXT).then(|| in_its_own_words(wanted)).flatten();
                tell(found.label("does not fit the component's schema").maybe_hint(hint));
            }
        }
        TreeKind::List(items) => {
            if let Some(reason) = wrong_count(items.len(), wanted) {
                let found = Diagnostic::error("out-of-bounds", tree.span.clone(), format!("`{name}` {reason}"));
                tell(found.label("does not fit the component's schema"));
            }
            let wanted = wanted.items();
            for (index, item) in items.iter().enumerate() {
                fit(part, &format!("{name}[{index}]"), item, &wanted, tell);
            }
        }
        TreeKind::Table(entries) => {
            for (key, span, value) in entries {
                let path = format!("{name}.{key}");
                match wanted.member(key) {
                    Member::Known(wanted) => fit(part, &path, value, &wanted, tell),
                    Member::Anything => (),
                    Member::Absent { forbidden } => {
                        let names = wanted.names();
                        let hint = match did_you_mean(key, names.iter().copied()) {
                            Some(similar) => Some(format!("did you mean `{similar}`?")),
                            None if names.is_empty() => None,
                            None => Some(format!("it has {}", quoted(&names))),
                        };
                        let message = format!("{part} has no `{path}`");
                        let found = match forbidden {
                            true => Diagnostic::error("unknown-property", span.clone(), message),
                            false => Diagnostic::warning("unknown-property", span.clone(), message),
                        };
                        tell(found.label("not in its schema").maybe_hint(hint));
                    }
                }
            }
            let missing = wanted.required().into_iter().filter(|name| !entries.iter().any(|(key, ..)| key == name));
            for key in missing {
                let message = format!("`{name}` needs `{key}`");
                let found = Diagnostic::error("missing-property", tree.span.clone(), message);
                tell(found.label(format!("without `{key}`")));
            }
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A number or a boolean in quotes is the most frequent misfit.
fn unquoted(tree: &Tree, wanted: Kinds) -> Option<String> {
    let TreeKind::Text(Text::Plain(text)) = &tree.kind else { return None };
    let value: Value = serde_json::from_str(text).ok()?;
    let kinds = Kinds::of(&value);
    (kinds.within(Kinds::NUMBER.or(Kinds::BOOL)) && kinds.meets(wanted)).then(|| format!("write {text} without quotes"))
}

/// A text where a list of texts is wanted, as people write a command line.
fn in_brackets(tree: &Tree, wanted: &Type<'_>) -> Option<String> {
    let TreeKind::Text(Text::Plain(text)) = &tree.kind else { return None };
    if !wanted.kinds.meets(Kinds::LIST) || !wanted.items().kinds.meets(Kinds::TEXT) {
        return None;
    }
    let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
    Some(match words.len() {
        0 | 1 => format!("write `[{text:?}]`"),
        _ => format!("write `[{}]`, or `[{text:?}]` if that is one", words.join(", ")),
    })
}

/// A number or a boolean where text is wanted.
fn as_text(tree: &Tree, wanted: Kinds) -> Option<String> {
    let TreeKind::Text(Text::Hole(hole)) = &tree.kind else { return None };
    let is_plain = hole.kinds.get().within(Kinds::NUMBER.or(Kinds::BOOL));
    (is_plain && wanted.meets(Kinds::TEXT)).then(|| format!("write `${{string({})}}`", hole.expression.text().trim()))
}

/// What the schema says for people about a text: examples, or else what it is for. A pattern is for machines.
fn in_its_own_words(wanted: &Type<'_>) -> Option<String> {
    let parts = wanted.parts(Kinds::TEXT);
    let examples = parts.iter().find_map(|part| part.get("examples")?.as_array());
    let examples: Vec<&str> = examples.into_iter().flatten().filter_map(Value::as_str).take(4).collect();
    if !examples.is_empty() {
        return Some(format!("write it as in {}", quoted(&examples)));
    }
    let description = parts.iter().find_map(|part| part.get("description")?.as_str())?;
    let first = description.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(line.chars().take(DESCRIPTION_SHOWN).collect()).filter(|line: &String| !line.is_empty())
}

fn bound(wanted: &Type<'_>, kinds: Kinds, word: &str) -> Option<f64> {
    wanted.parts(kinds).iter().find_map(|part| part.get(word)?.as_f64())
}

fn out_of_bounds(value: &Value, wanted: &Type<'_>) -> Option<String> {
    match value {
        Value::Number(number) => {
            let number = number.as_f64()?;
            let bound = |word| bound(wanted, Kinds::NUMBER, word);
            None.or_else(|| {
                bound("minimum").filter(|least| number < *least).map(|least| format!("has to be at least {least}"))
            })
            .or_else(|| bound("maximum").filter(|most| number > *most).map(|most| format!("has to be at most {most}")))
            .or_else(|| {
                bound("exclusiveMinimum")
                    .filter(|less| number <= *less)
                    .map(|less| format!("has to be more than {less}"))
            })
            .or_else(|| {
                bound("exclusiveMaximum")
                    .filter(|more| number >= *more)
                    .map(|more| format!("has to be less than {more}"))
            })
        }
        Value::String(text) => {
            let length = text.chars().count() as f64;
            let bound = |word| bound(wanted, Kinds::TEXT, word);
            let pattern = wanted.parts(Kinds::TEXT).iter().find_map(|part| part.get("pattern")?.as_str());
            None.or_else(|| {
                bound("minLength")
                    .filter(|least| length < *least)
                    .map(|least| format!("needs at least {}", many(least, "character")))
            })
            .or_else(|| {
                let too_long = bound("maxLength").filter(|most| length > *most);
                too_long.map(|most| format!("takes at most {}", many(most, "character")))
            })
            .or_else(|| {
                let mismatch = |pattern: &&str| regex(pattern).is_ok_and(|regex| !regex.is_match(text));
                pattern.filter(mismatch).map(|pattern| format!("has to match the pattern `{pattern}`"))
            })
        }
        _ => None,
    }
}

fn wrong_count(count: usize, wanted: &Type<'_>) -> Option<String> {
    let bound = |word| bound(wanted, Kinds::LIST, word);
    let count = count as f64;
    None.or_else(|| {
        let too_few = bound("minItems").filter(|least| count < *least);
        too_few.map(|least| format!("needs at least {}", many(least, "item")))
    })
    .or_else(|| {
        let too_many = bound("maxItems").filter(|most| count > *most);
        too_many.map(|most| format!("takes at most {}", many(most, "item")))
    })
}

/// How many, where JSON has no other numbers.
fn many(number: f64, noun: &str) -> String {
    if number == 1.0 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Holds a value without holes against everything that a schema says.
pub(crate) fn validate(
    name: &str,
    tree: &Tree,
    value: &Value,
    validator: &jsonschema::Validator,
    tell: &mut dyn FnMut(Diagnostic),
) {
    for error in validator.iter_errors(value) {
        tell_misfit(name, tree, &error, tell);
    }
}

fn tell_misfit(name: &str, tree: &Tree, error: &ValidationError<'_>, tell: &mut dyn FnMut(Diagnostic)) {
    let (mut here, mut path) = (tree, name.to_owned());
    for step in error.instance_path().as_str().split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let inside = match &here.kind {
            TreeKind::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            TreeKind::Table(entries) => entries.iter().find(|(key, ..)| *key == step).map(|(_, _, value)| value),
            _ => None,
        };
        let Some(inside) = inside else { break };
        path.push_str(&if matches!(here.kind, TreeKind::List(_)) { format!("[{step}]") } else { format!(".{step}") });
        here = inside;
    }
    let message = match error.kind() {
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            match chosen(context) {
                Chosen::One(misfits) => return misfits.iter().for_each(|misfit| tell_misfit(name, tree, misfit, tell)),
                Chosen::NoneOf(names) => format!("`{path}` needs one of {}", quoted(&names)),
                Chosen::Several(names) => format!("`{path}` takes only one of {}", quoted(&names)),
                Chosen::Unknown => format!("`{path}` fits none of the alternatives in the component's schema"),
            }
        }
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            format!(
                "`{path}` fits more than one of the alternatives in the component's schema, which exclude each other"
            )
        }
        _ => format!("`{path}` does not fit the component's schema: {error}"),
    };
    tell(Diagnostic::error("schema", here.span.clone(), message).label("does not fit"));
}

/// Which of a schema's alternatives was meant, judged by the keys that are required in them: a table with one key that says
/// which is how most languages write a choice.
enum Chosen<'e> {
    /// This one, with its misfits.
    One(&'e [ValidationError<'static>]),
    /// None: of each, the first key that is missing.
    NoneOf(Vec<&'e str>),
    /// More than one: the keys that exclude each other.
    Several(Vec<&'e str>),
    /// Nothing tells.
    Unknown,
}

fn chosen<'e>(alternatives: &'e [Vec<ValidationError<'static>>]) -> Chosen<'e> {
    let missing: Vec<Option<&str>> = alternatives.iter().map(|misfits| missing_key(misfits)).collect();
    let present: Vec<&[ValidationError<'static>]> =
        alternatives.iter().zip(&missing).filter(|(_, missing)| missing.is_none()).map(|(one, _)| &one[..]).collect();
    match present[..] {
        [] => Chosen::NoneOf(missing.into_iter().flatten().collect()),
        [one] if alternatives.len() > 1 => Chosen::One(one),
        _ => match present.iter().flat_map(|misfits| unexpected_keys(misfits)).collect::<Vec<&str>>() {
            keys if keys.is_empty() => Chosen::Unknown,
            mut keys => {
                keys.sort_unstable();
                keys.dedup();
                Chosen::Several(keys)
            }
        },
    }
}

/// The first key that a table would need for an alternative. What is missing further inside does not tell alternatives apart.
fn missing_key<'e>(misfits: &'e [ValidationError<'static>]) -> Option<&'e str> {
    outermost(misfits).find_map(|misfit| match misfit.kind() {
        ValidationErrorKind::Required { property } => property.as_str(),
        _ => None,
    })
}

/// The keys that a table has and an alternative does not.
fn unexpected_keys<'e>(misfits: &'e [ValidationError<'static>]) -> impl Iterator<Item = &'e str> {
    outermost(misfits)
        .flat_map(|misfit| match misfit.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => &unexpected[..],
            _ => &[],
        })
        .map(String::as_str)
}

/// Those of the value itself, or else those next to it.
fn outermost<'e>(misfits: &'e [ValidationError<'static>]) -> impl Iterator<Item = &'e ValidationError<'static>> {
    let depth = |misfit: &ValidationError<'_>| misfit.instance_path().as_str().matches('/').count();
    let least = misfits.iter().map(depth).min();
    misfits.iter().filter(move |misfit| Some(depth(misfit)) == least)
}
