//! What a JSON Schema says about values: the types that the checker reasons with.
//!
//! Understood is what describes shapes (`type`, `properties`, `items`, `anyOf`, `allOf`, local `$ref`, `enum` …, as schemars
//! emits it). Whatever is not understood allows anything: a schema may be cleverer than the checker, and a workflow is
//! not refused for that. Checking a value against a schema is in `fit`.

pub(crate) mod fit;

use std::fmt;

use serde_json::Value;

/// How many alternatives of `anyOf`, `oneOf` and `allOf` are told apart, and how many references are followed to find
/// them. A schema with more is taken to allow anything; it may be recursive.
const ALTERNATIVES_MAX: usize = 32;
const REFERENCES_MAX: usize = 32;

/// How many schemas are looked at to find the alternatives of one value. 1,024: a schema that people wrote needs some
/// dozens; one that fans out at every reference would need more than there is time for.
const LOOKS_MAX: usize = 1_024;

/// A set of kinds of JSON values. Integers are told apart from other numbers, as rules do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const NONE: Kinds = Kinds(0);
    pub(crate) const NULL: Kinds = Kinds(1);
    pub(crate) const BOOL: Kinds = Kinds(2);
    pub(crate) const INT: Kinds = Kinds(4);
    pub(crate) const DOUBLE: Kinds = Kinds(8);
    pub(crate) const NUMBER: Kinds = Kinds(12);
    pub(crate) const TEXT: Kinds = Kinds(16);
    pub(crate) const LIST: Kinds = Kinds(32);
    pub(crate) const OBJECT: Kinds = Kinds(64);
    pub(crate) const ANY: Kinds = Kinds(127);

    pub(crate) const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    pub(crate) const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }

    pub(crate) const fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it is nothing but these.
    pub(crate) const fn within(self, other: Kinds) -> bool {
        self.0 & !other.0 == 0
    }

    pub(crate) fn of(value: &Value) -> Kinds {
        match value {
            Value::Null => Kinds::NULL,
            Value::Bool(_) => Kinds::BOOL,
            Value::Number(number) if number.is_f64() => Kinds::DOUBLE,
            Value::Number(_) => Kinds::INT,
            Value::String(_) => Kinds::TEXT,
            Value::Array(_) => Kinds::LIST,
            Value::Object(_) => Kinds::OBJECT,
        }
    }
}

impl fmt::Display for Kinds {
    /// `a string`, `a string or null`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Kinds::ANY {
            return f.write_str("anything");
        }
        let names = [
            (Kinds::TEXT, "a string"),
            (Kinds::NUMBER, "a number"),
            (Kinds::INT, "an integer"),
            (Kinds::DOUBLE, "a fractional number"),
            (Kinds::BOOL, "a boolean"),
            (Kinds::LIST, "a list"),
            (Kinds::OBJECT, "an object"),
            (Kinds::NULL, "null"),
        ];
        let mut left = *self;
        let mut words = Vec::new();
        for (kinds, name) in names {
            if !kinds.is_none() && kinds.within(left) {
                words.push(name);
                left = Kinds(left.0 & !kinds.0);
            }
        }
        match words.as_slice() {
            [] => f.write_str("nothing"),
            [one] => f.write_str(one),
            [first @ .., last] => write!(f, "{} or {last}", first.join(", ")),
        }
    }
}

/// What is known of a value: its kinds, and what is inside.
#[derive(Clone, Debug)]
pub(crate) struct Type<'s> {
    pub(crate) kinds: Kinds,
    inside: Inside<'s>,
}

#[derive(Clone, Debug)]
enum Inside<'s> {
    /// Nothing is known.
    Anything,
    /// The items of a list are of this type.
    Items(Box<Type<'s>>),
    /// One of these holds. The root is where references start.
    Schema { root: &'s Value, alternatives: Vec<Alternative<'s>> },
}

/// Schemas without combinators, all of which hold.
#[derive(Clone, Debug, Default)]
struct Alternative<'s>(Vec<&'s serde_json::Map<String, Value>>);

/// What a type says of one member.
#[derive(Clone, Debug)]
pub(crate) enum Member<'s> {
    /// It may be there, and then is of this type.
    Known(Type<'s>),
    /// Anything may be there.
    Anything,
    /// It is not among the members.
    Absent {
        /// Whether the schema forbids others than those that it lists, or only does not mention them.
        forbidden: bool,
    },
}

impl<'s> Type<'s> {
    pub(crate) const ANY: Type<'static> = Type { kinds: Kinds::ANY, inside: Inside::Anything };

    pub(crate) fn of_kinds(kinds: Kinds) -> Type<'s> {
        Type { kinds, inside: Inside::Anything }
    }

    pub(crate) fn list_of(items: Type<'s>) -> Type<'s> {
        Type { kinds: Kinds::LIST, inside: Inside::Items(Box::new(items)) }
    }

    /// What a schema document says.
    pub(crate) fn of_schema(root: &'s Value) -> Type<'s> {
        Type::at(root, root)
    }

    fn at(root: &'s Value, schema: &'s Value) -> Type<'s> {
        match alternatives(root, schema, 0, &mut { LOOKS_MAX }) {
            None => Type::ANY,
            Some(alternatives) => {
                let kinds = alternatives.iter().fold(Kinds::NONE, |kinds, one| kinds.or(one.kinds()));
                Type { kinds, inside: Inside::Schema { root, alternatives } }
            }
        }
    }

    /// One or the other.
    pub(crate) fn or(self, other: Type<'s>) -> Type<'s> {
        let kinds = self.kinds.or(other.kinds);
        let scalar = |kinds: Kinds| !kinds.meets(Kinds::LIST.or(Kinds::OBJECT));
        let inside = match (self.inside, other.inside) {
            (Inside::Schema { root, alternatives: mut all }, Inside::Schema { root: other_root, alternatives })
                if std::ptr::eq(root, other_root) =>
            {
                all.extend(alternatives);
                Inside::Schema { root, alternatives: all }
            }
            // What one side knows of its members stays true when the other has none. Not so what it knows of strings.
            (inside @ Inside::Items(_), _) if scalar(other.kinds) => inside,
            (_, inside @ Inside::Items(_)) if scalar(self.kinds) => inside,
            _ => Inside::Anything,
        };
        Type { kinds, inside }
    }

    /// What is under this name, if it is an object.
    pub(crate) fn member(&self, name: &str) -> Member<'s> {
        let Inside::Schema { root, alternatives } = &self.inside else { return Member::Anything };
        let mut found: Option<Type<'s>> = None;
        let mut forbidden = true;
        for one in alternatives.iter().filter(|one| one.kinds().meets(Kinds::OBJECT)) {
            match one.member(name) {
                Shallow::Schema(schema) => {
                    let schema = Type::at(root, schema);
                    found = Some(match found {
                        Some(before) => before.or(schema),
                        None => schema,
                    });
                }
                Shallow::Anything => return Member::Anything,
                Shallow::Absent { forbidden: this } => forbidden &= this,
            }
        }
        match found {
            Some(found) => Member::Known(found),
            None => Member::Absent { forbidden },
        }
    }

    /// The names that it says something about, for hints.
    pub(crate) fn names(&self) -> Vec<&'s str> {
        let Inside::Schema { alternatives, .. } = &self.inside else { return Vec::new() };
        let parts = alternatives.iter().flat_map(|one| &one.0);
        let mut names: Vec<&str> = parts
            .filter_map(|part| part.get("properties")?.as_object())
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        names
    }

    /// The names that an object must have, whichever alternative holds.
    pub(crate) fn required(&self) -> Vec<&'s str> {
        let Inside::Schema { alternatives, .. } = &self.inside else { return Vec::new() };
        let of = |one: &Alternative<'s>| -> Vec<&'s str> {
            let lists = one.0.iter().filter_map(|part| part.get("required")?.as_array());
            lists.flatten().filter_map(Value::as_str).collect()
        };
        let mut objects = alternatives.iter().filter(|one| one.kinds().meets(Kinds::OBJECT));
        let mut required = objects.next().map(of).unwrap_or_default();
        for one in objects {
            let also = of(one);
            required.retain(|name| also.contains(name));
        }
        required
    }

    /// The type of a list's items.
    pub(crate) fn items(&self) -> Type<'s> {
        match &self.inside {
            Inside::Anything => Type::ANY,
            Inside::Items(items) => (**items).clone(),
            Inside::Schema { root, alternatives } => {
                let lists = alternatives.iter().filter(|one| one.kinds().meets(Kinds::LIST));
                let items = lists.map(|one| one.keyword("items").map_or(Type::ANY, |items| Type::at(root, items)));
                items.reduce(Type::or).unwrap_or(Type::ANY)
            }
        }
    }

    /// The only values that it allows, if they are listed.
    pub(crate) fn options(&self) -> Option<Vec<&'s Value>> {
        let Inside::Schema { alternatives, .. } = &self.inside else { return None };
        let mut options = Vec::new();
        for one in alternatives {
            match (one.keyword("enum").and_then(Value::as_array), one.keyword("const")) {
                (_, Some(value)) => options.push(value),
                (Some(values), None) => options.extend(values),
                (None, None) if one.kinds() == Kinds::NULL => options.push(&Value::Null),
                (None, None) => return None,
            }
        }
        (!options.is_empty()).then_some(options)
    }

    /// The schemas that hold if there is only one alternative for this kind of value; for its bounds and patterns.
    fn parts(&self, kinds: Kinds) -> &[&'s serde_json::Map<String, Value>] {
        let Inside::Schema { alternatives, .. } = &self.inside else { return &[] };
        let mut fitting = alternatives.iter().filter(|one| one.kinds().meets(kinds));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => &one.0,
            _ => &[],
        }
    }
}

/// Whether judging a value by this schema is bounded: no part of it expands to more than so many schemas for one and the
/// same value, counting references and alternatives. Any other may keep a validator busy for ever.
pub(crate) fn is_bounded(root: &Value) -> bool {
    let mut parts = vec![root];
    let mut looks = 64 * LOOKS_MAX;
    while let Some(part) = parts.pop() {
        match part {
            Value::Object(members) => {
                let mut here = LOOKS_MAX;
                if !expands_within(root, part, 0, &mut here) {
                    return false;
                }
                looks = looks.saturating_sub(LOOKS_MAX - here);
                parts.extend(members.values());
            }
            Value::Array(items) => parts.extend(items),
            _ => (),
        }
        if looks == 0 {
            return false;
        }
    }
    true
}

fn expands_within(root: &Value, schema: &Value, depth: usize, looks: &mut usize) -> bool {
    if *looks == 0 || depth > REFERENCES_MAX {
        return false;
    }
    *looks -= 1;
    let Value::Object(schema) = schema else { return true };
    let referred = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    let referred = referred.and_then(|pointer| root.pointer(pointer));
    let listed = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let single = ["not", "if", "then", "else"].into_iter().filter_map(|word| schema.get(word));
    let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(|of| of.values());
    let mut same_value = referred.into_iter().chain(listed).chain(single).chain(dependent);
    same_value.all(|part| expands_within(root, part, depth + 1, looks))
}

/// `None`: it could be anything.
fn alternatives<'s>(
    root: &'s Value,
    schema: &'s Value,
    depth: usize,
    looks: &mut usize,
) -> Option<Vec<Alternative<'s>>> {
    *looks = looks.checked_sub(1)?;
    if depth > REFERENCES_MAX {
        return None;
    }
    let schema = match schema {
        Value::Bool(false) => return Some(Vec::new()),
        Value::Object(schema) => schema,
        _ => return None,
    };
    let mut all = vec![Alternative(vec![schema])];
    let referred = match schema.get("$ref") {
        Some(reference) => Some(root.pointer(reference.as_str()?.strip_prefix('#')?)?),
        None => None,
    };
    let together = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    for part in referred.into_iter().chain(together) {
        all = product(all, alternatives(root, part, depth + 1, looks).unwrap_or_else(|| vec![Alternative::default()]))?;
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(parts) = schema.get(word).and_then(Value::as_array) {
            let mut either = Vec::new();
            for part in parts {
                either
                    .extend(alternatives(root, part, depth + 1, looks).unwrap_or_else(|| vec![Alternative::default()]));
                if either.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            all = product(all, either)?;
        }
    }
    Some(all)
}

fn product<'s>(left: Vec<Alternative<'s>>, right: Vec<Alternative<'s>>) -> Option<Vec<Alternative<'s>>> {
    if left.len() * right.len() > ALTERNATIVES_MAX {
        return None;
    }
    let mut all = Vec::with_capacity(left.len() * right.len());
    for one in &left {
        all.extend(right.iter().map(|other| Alternative([one.0.as_slice(), other.0.as_slice()].concat())));
    }
    Some(all)
}

enum Shallow<'s> {
    Schema(&'s Value),
    Anything,
    Absent { forbidden: bool },
}

impl<'s> Alternative<'s> {
    fn keyword(&self, word: &str) -> Option<&'s Value> {
        self.0.iter().find_map(|part| part.get(word))
    }

    fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::ANY;
        for part in &self.0 {
            match part.get("type") {
                Some(Value::String(name)) => kinds = kinds.and(named(name)),
                Some(Value::Array(names)) => {
                    let names = names.iter().filter_map(Value::as_str);
                    kinds = kinds.and(names.fold(Kinds::NONE, |kinds, name| kinds.or(named(name))));
                }
                _ => (),
            }
            let listed = part.get("enum").and_then(Value::as_array).map(Vec::as_slice);
            if let Some(values) = part.get("const").map(std::slice::from_ref).or(listed) {
                kinds = kinds.and(values.iter().fold(Kinds::NONE, |kinds, value| kinds.or(Kinds::of(value))));
            }
        }
        kinds
    }

    fn member(&self, name: &str) -> Shallow<'s> {
        let properties = |part: &&'s serde_json::Map<String, Value>| part.get("properties").and_then(Value::as_object);
        if let Some(schema) = self.0.iter().filter_map(properties).find_map(|properties| properties.get(name)) {
            return Shallow::Schema(schema);
        }
        if self.keyword("patternProperties").is_some() {
            return Shallow::Anything;
        }
        match self.keyword("additionalProperties").or(self.keyword("unevaluatedProperties")) {
            Some(Value::Bool(false)) => Shallow::Absent { forbidden: true },
            Some(schema @ Value::Object(_)) => Shallow::Schema(schema),
            Some(_) => Shallow::Anything,
            None if self.0.iter().any(|part| properties(part).is_some()) => Shallow::Absent { forbidden: false },
            None => Shallow::Anything,
        }
    }
}

fn named(name: &str) -> Kinds {
    match name {
        "null" => Kinds::NULL,
        "boolean" => Kinds::BOOL,
        "integer" => Kinds::INT,
        "number" => Kinds::NUMBER,
        "string" => Kinds::TEXT,
        "array" => Kinds::LIST,
        "object" => Kinds::OBJECT,
        _ => Kinds::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Follows a path such as `a.b.[]` and says what is there.
    fn check(schema: &Value, path: &str, expected: &str) {
        let mut here = Type::of_schema(schema);
        for name in path.split('.').filter(|name| !name.is_empty()) {
            here = match name {
                "[]" => here.items(),
                name => match here.member(name) {
                    Member::Known(there) => there,
                    Member::Anything => Type::ANY,
                    Member::Absent { forbidden: true } => Type::of_kinds(Kinds::NONE),
                    Member::Absent { forbidden: false } => return assert_eq!(expected, "absent", "{path}"),
                },
            };
        }
        assert_eq!(here.kinds.to_string(), expected, "{path}");
    }

    #[test]
    fn a_schema_that_fans_out_at_every_reference_is_given_up_on() {
        let level = |next: usize| {
            let part = serde_json::json!({ "$ref": format!("#/$defs/l{next}") });
            serde_json::json!({ "anyOf": vec![part.clone(); 8], "allOf": vec![part; 8] })
        };
        let mut levels = serde_json::Map::new();
        for index in 0..12 {
            levels.insert(format!("l{index}"), level(index + 1));
        }
        levels.insert("l12".into(), true.into());
        let schema = serde_json::json!({ "$ref": "#/$defs/l0", "$defs": levels });
        assert!(!is_bounded(&schema));
        assert!(alternatives(&schema, &schema, 0, &mut { LOOKS_MAX }).is_none_or(|all| all.len() <= ALTERNATIVES_MAX));
        let circle = serde_json::json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] });
        assert!(!is_bounded(&circle));
        let tree = serde_json::json!({ "type": "object", "properties": { "children": { "items": { "$ref": "#" } } } });
        assert!(is_bounded(&tree), "recursion along the value is bounded by the value");
    }

    #[test]
    fn paths_are_followed_as_schemars_emits_them() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "count": { "type": "integer", "format": "uint32", "minimum": 0 },
                "score": { "type": ["number", "null"] },
                "items": { "type": "array", "items": { "$ref": "#/$defs/Item" } },
                "maybe": { "anyOf": [{ "$ref": "#/$defs/Item" }, { "type": "null" }] },
                "kind": { "oneOf": [{ "type": "string", "const": "a" }, { "type": "string", "enum": ["b", "c"] }] },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "free": true,
            },
            "required": ["count"],
            "$defs": {
                "Item": {
                    "type": "object",
                    "properties": { "name": { "type": "string" }, "next": { "$ref": "#/$defs/Item" } },
                    "additionalProperties": false,
                },
            },
        });
        check(&schema, "count", "an integer");
        check(&schema, "score", "a number or null");
        check(&schema, "items.[].name", "a string");
        check(&schema, "items.[].next.next.name", "a string");
        check(&schema, "items.[].nam", "nothing");
        check(&schema, "maybe", "an object or null");
        check(&schema, "maybe.name", "a string");
        check(&schema, "kind", "a string");
        check(&schema, "labels.anything", "a string");
        check(&schema, "free.x.y", "anything");
        check(&schema, "cuont", "absent");
        let Member::Known(kind) = Type::of_schema(&schema).member("kind") else { panic!("kind is there") };
        assert_eq!(kind.options(), Some(vec![&json!("a"), &json!("b"), &json!("c")]));
        assert_eq!(Type::of_schema(&schema).required(), ["count"]);
    }

    #[test]
    fn all_of_joins_and_what_is_not_understood_allows_anything() {
        let schema = json!({ "allOf": [
            { "type": "object", "properties": { "a": { "type": "string" } } },
            { "properties": { "b": { "type": "boolean" } } },
        ] });
        check(&schema, "a", "a string");
        check(&schema, "b", "a boolean");
        check(&json!({ "$ref": "https://example.org/other" }), "x", "anything");
        check(&json!({ "$ref": "#" }), "x", "anything");
        check(&json!("nonsense"), "x", "anything");
        check(&json!({ "properties": 1, "type": {} }), "x", "anything");
    }
}
