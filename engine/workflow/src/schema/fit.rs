//! Whether a value of a workflow, holes included, can fit a schema: every misfit with the place of the very key or value.
//!
//! Words that describe shapes are checked here, also around holes; a value without holes is afterwards held against the
//! whole schema by the `jsonschema` crate.

use serde_json::Value;

use super::{Kinds, Member, Type};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::rule::{Text, Tree, TreeKind, regex};

/// Tells every misfit of `tree`, which is called `name` in messages and is the component's `part`: its input or its output.
pub(crate) fn fit(part: &str, name: &str, tree: &Tree, wanted: &Type<'_>, tell: &mut dyn FnMut(Diagnostic)) {
    let kinds = match &tree.kind {
        TreeKind::Text(Text::Hole(hole)) => hole.kinds.get(),
        _ => tree.kinds(),
    };
    if kinds.is_none() || !kinds.meets(wanted.kinds) {
        return if !kinds.is_none() {
            let message = format!("`{name}` has to be {}, not {kinds}", wanted.kinds);
            let found = Diagnostic::error("wrong-type", tree.span.clone(), message);
            tell(found.label(kinds.to_string()).maybe_hint(unquoted(tree, wanted.kinds)));
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
                tell(found.label("does not fit the component's schema"));
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
                        let message = format!("the component's {part} has no `{path}`");
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
                    .map(|least| format!("needs at least {least} characters"))
            })
            .or_else(|| {
                bound("maxLength").filter(|most| length > *most).map(|most| format!("takes at most {most} characters"))
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
        bound("minItems").filter(|least| count < *least).map(|least| format!("needs at least {least} items"))
    })
    .or_else(|| bound("maxItems").filter(|most| count > *most).map(|most| format!("takes at most {most} items")))
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
        let mut here = tree;
        for step in error.instance_path().as_str().split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let inside = match &here.kind {
                TreeKind::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                TreeKind::Table(entries) => entries.iter().find(|(key, ..)| *key == step).map(|(_, _, value)| value),
                _ => None,
            };
            here = inside.unwrap_or(here);
        }
        let found = Diagnostic::error(
            "schema",
            here.span.clone(),
            format!("`{name}` does not fit the component's schema: {error}"),
        );
        tell(found.label("does not fit"));
    }
}
