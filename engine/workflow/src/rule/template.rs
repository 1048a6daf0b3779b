//! Templates: JSON values whose strings have holes, `${…}`.
//!
//! A hole alone in its string keeps its value's type; among other text, strings stand as they are and other values as
//! JSON. `$${` is a `${` that opens nothing. A template is compiled to pieces of JSON text with expressions between them,
//! so that rendering is joining.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::expression::{Expr, Expression, Fault, Kind, Mention};
use super::scan::{TokenKind, Tokens};
use super::{Foretold, Outline, RuleError, Scope};
use crate::json::{Json, member, write_inside, write_string, write_value};
use crate::schema::Kinds;
use crate::spec::{self, Place, ValueKind, Words};

/// How long a value may get when its holes are filled, in bytes of JSON. 16 MiB, like the limit `output` by default: a few
/// holes must not multiply a large output into gigabytes.
const RENDERED_BYTES_MAX: usize = 16 << 20;

/// The longest text that is looked through for each hole that takes something out of it, in bytes: some 5 µs.
const LOOKED_THROUGH_BYTES_MAX: usize = 16 << 10;

/// Room for a value apart from what is handed on in it.
const PIECES_BYTES: usize = 256;

/// A JSON value with holes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Template {
    /// As written.
    source: Json,
    filling: Filling,
}

#[derive(Clone, Debug)]
enum Filling {
    /// There are no holes: the value.
    Constant(Json),
    /// The pieces of the value's JSON text.
    Pieces(Arc<[Piece]>),
}

#[derive(Clone, Debug)]
enum Piece {
    /// JSON text.
    Raw(Box<str>),
    /// A value's JSON.
    Value(Expression),
    /// A value as text, within the quotes of a string.
    Text(Expression),
}

impl Template {
    /// A value without holes, whatever its strings look like.
    pub fn constant(value: Json) -> Template {
        let source = match value.as_str().contains("${") {
            true => Json::from(escaped(value.value())),
            false => value.clone(),
        };
        Template { source, filling: Filling::Constant(value) }
    }

    /// Compiles a value, strings with their holes. The error is the first fault.
    pub fn compile(value: &Value) -> Result<Template, RuleError> {
        let mut first = None;
        let tree = Tree::of_json(value, &mut |text, fault| {
            first.get_or_insert(RuleError { expression: text.to_owned(), message: fault.message });
        });
        match first {
            Some(error) => Err(error),
            None => Ok(Template::of(&tree, Json::from(value.clone()))),
        }
    }

    /// The value as written.
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// The value with its holes filled. Without holes, this is a clone of a pointer.
    pub fn render(&self, scope: &dyn Scope) -> Result<Json, RuleError> {
        let pieces = match &self.filling {
            Filling::Constant(value) => return Ok(value.clone()),
            Filling::Pieces(pieces) => pieces,
        };
        // A whole output handed on is the commonest hole of all.
        if let [Piece::Value(hole)] = &pieces[..]
            && let Some(output) = hole.whole_output().and_then(|step| scope.output(step))
            && output.as_str().len() <= RENDERED_BYTES_MAX
        {
            return Ok(output.clone());
        }
        let mut text = String::with_capacity(PIECES_BYTES);
        let mut nests = false;
        for piece in pieces.iter() {
            let from = text.len();
            match piece {
                Piece::Raw(raw) => text.push_str(raw),
                Piece::Value(hole) => {
                    match handed_on(hole.root(), scope) {
                        Some(value) => {
                            // At once for what stands behind it as well.
                            text.reserve(value.len() + PIECES_BYTES);
                            text.push_str(value);
                        }
                        None => write_value(&mut text, &*hole.evaluate(scope)?),
                    }
                    nests |= text[from..].starts_with(['[', '{']);
                }
                Piece::Text(hole) => match &*hole.evaluate(scope)? {
                    Value::String(inside) => write_inside(&mut text, inside),
                    Value::Null => {
                        let message = "there is null here, which is no text; give it a value, or leave the hole alone in its string";
                        return Err(RuleError { expression: hole.text().to_owned(), message: message.to_owned() });
                    }
                    other => write_inside(&mut text, &other.to_string()),
                },
            }
            if text.len() > RENDERED_BYTES_MAX {
                return Err(RuleError {
                    expression: self.source.as_str().chars().take(80).collect(),
                    message: format!(
                        "filled in, it is longer than {} MiB; larger things are artifacts",
                        RENDERED_BYTES_MAX >> 20
                    ),
                });
            }
        }
        if !nests {
            // Valid piece by piece, and no deeper than it was written.
            return Ok(Json::of_valid(text));
        }
        Json::parse(text).map_err(|error| RuleError {
            expression: self.source.as_str().chars().take(80).collect(),
            message: format!("filled in, it is {error}"),
        })
    }

    /// The value as far as it is known: holes that are open, or can't be filled, stay as they are written.
    pub fn foretell(&self, scope: &dyn Scope) -> Outline {
        let pieces = match &self.filling {
            Filling::Constant(value) => return Outline { value: value.clone(), fault: None, open: false },
            Filling::Pieces(pieces) => pieces,
        };
        let (mut text, mut fault, mut open) = (String::new(), None, false);
        for piece in pieces.iter() {
            let (hole, inside) = match piece {
                Piece::Raw(raw) => {
                    text.push_str(raw);
                    continue;
                }
                Piece::Value(hole) => (hole, false),
                Piece::Text(hole) => (hole, true),
            };
            let as_written = || Value::String(format!("${{{}}}", hole.text()));
            let value = match hole.foretell(scope) {
                Foretold::Value(value) => value,
                Foretold::Open => {
                    open = true;
                    as_written()
                }
                Foretold::Fault(error) => {
                    fault.get_or_insert(error);
                    as_written()
                }
            };
            match (inside, &value) {
                (false, value) => write_value(&mut text, value),
                (true, Value::String(value)) => write_inside(&mut text, value),
                (true, other) => write_inside(&mut text, &other.to_string()),
            }
        }
        // Only where rendering would fail as well: what is filled in is nested too deeply.
        let value = Json::parse(text).unwrap_or_else(|_| self.source.clone());
        Outline { value, fault, open }
    }

    /// The inputs and steps that its holes mention.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = Mention<'_>> {
        let pieces = match &self.filling {
            Filling::Constant(_) => &[],
            Filling::Pieces(pieces) => &pieces[..],
        };
        let holes = pieces.iter().filter_map(|piece| match piece {
            Piece::Raw(_) => None,
            Piece::Value(hole) | Piece::Text(hole) => Some(hole),
        });
        holes.flat_map(Expression::mentions)
    }

    /// The steps that its holes mention.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.mentions().filter_map(|mention| match mention {
            Mention::Step(name) => Some(name),
            _ => None,
        })
    }

    /// Of a compiled value and its source.
    pub(crate) fn of(tree: &Tree, source: Json) -> Template {
        let mut writer = Writer::default();
        writer.tree(tree);
        let filling = match writer.pieces.is_empty() {
            true if writer.raw == source.as_str() => Filling::Constant(source.clone()),
            true => Filling::Constant(Json::of_valid(writer.raw)),
            false => {
                writer.flush();
                Filling::Pieces(writer.pieces.into())
            }
        };
        Template { source, filling }
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        let source = Json::deserialize(deserializer)?;
        if !source.as_str().contains('$') {
            return Ok(Template { filling: Filling::Constant(source.clone()), source });
        }
        let compiled = Template::compile(&source.value()).map_err(serde::de::Error::custom)?;
        Ok(Template { source, ..compiled })
    }
}

/// Collects pieces, joining what is raw.
#[derive(Default)]
struct Writer {
    raw: String,
    pieces: Vec<Piece>,
}

impl Writer {
    fn flush(&mut self) {
        if !self.raw.is_empty() {
            self.pieces.push(Piece::Raw(std::mem::take(&mut self.raw).into()));
        }
    }

    fn hole(&mut self, piece: Piece) {
        self.flush();
        self.pieces.push(piece);
    }

    fn tree(&mut self, tree: &Tree) {
        match &tree.kind {
            TreeKind::Scalar(value) => write_value(&mut self.raw, value),
            TreeKind::Text(Text::Plain(text)) => write_string(&mut self.raw, text),
            TreeKind::Text(Text::Faulty) => write_string(&mut self.raw, ""),
            TreeKind::Text(Text::Hole(hole)) => self.hole(Piece::Value(hole.expression.clone())),
            TreeKind::Text(Text::Mixed(parts)) => {
                self.raw.push('"');
                for part in parts {
                    match part {
                        Part::Text(text) => write_inside(&mut self.raw, text),
                        Part::Hole(hole) => self.hole(Piece::Text(hole.expression.clone())),
                    }
                }
                self.raw.push('"');
            }
            TreeKind::List(items) => {
                self.raw.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.raw.push(',');
                    }
                    self.tree(item);
                }
                self.raw.push(']');
            }
            TreeKind::Table(entries) => {
                self.raw.push('{');
                for (index, (name, _, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        self.raw.push(',');
                    }
                    write_string(&mut self.raw, name);
                    self.raw.push(':');
                    self.tree(value);
                }
                self.raw.push('}');
            }
        }
    }
}

/// What `${inputs}`, `${steps.NAME.output}` or a path into one of them stands for: text that is handed on as it was written,
/// without a parse. Not a longer one than a value may get; and a path only into a text that is quickly looked through,
/// since a long one is better parsed once for all who ask.
fn handed_on<'s>(part: &Expr, scope: &'s dyn Scope) -> Option<&'s str> {
    let whole = match &part.kind {
        Kind::Inputs => scope.inputs_text(),
        Kind::Member(of, name) => match &of.kind {
            Kind::Step(step) if &**name == "output" => scope.output(step),
            _ => {
                let text = handed_on(of, scope).filter(|text| text.len() <= LOOKED_THROUGH_BYTES_MAX)?;
                return member(text, name);
            }
        },
        _ => None,
    };
    whole.map(Json::as_str).filter(|text| text.len() <= RENDERED_BYTES_MAX)
}

fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace("${", "$${").into(),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, escaped(value))).collect(),
        other => other,
    }
}

/// A value with its holes compiled and its places kept: what the checker looks at.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) span: Range<usize>,
    pub(crate) kind: TreeKind,
}

#[derive(Debug)]
pub(crate) enum TreeKind {
    /// Anything but text, a list or a table.
    Scalar(Value),
    Text(Text),
    List(Vec<Tree>),
    /// With the place of each name.
    Table(Vec<(String, Range<usize>, Tree)>),
}

/// A string, taken apart.
#[derive(Debug)]
pub(crate) enum Text {
    Plain(String),
    /// One hole and nothing else.
    Hole(Hole),
    Mixed(Vec<Part>),
    /// Something in it is wrong, and told; there will be no template of it.
    Faulty,
}

#[derive(Debug)]
pub(crate) enum Part {
    Text(String),
    Hole(Hole),
}

/// An expression in a string, and where it stands in the file.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) expression: Expression,
    pub(crate) place: Place,
    /// The kinds of its values; anything until the checker has found out.
    pub(crate) kinds: Cell<Kinds>,
}

impl Tree {
    /// Of a value of the file. Faults are given with the text that they are in and its place.
    pub(crate) fn of_spec(value: &spec::Value, source: &Words<'_>, fault: &mut dyn FnMut(&Place, Fault)) -> Tree {
        let kind = match &value.kind {
            ValueKind::String(content) if content.contains('$') => {
                let place = source.place(&value.span, content);
                TreeKind::Text(place.map_or(Text::Faulty, |place| Text::of(content, &place, fault)))
            }
            ValueKind::String(content) => TreeKind::Text(Text::Plain(content.clone())),
            ValueKind::List(items) => {
                TreeKind::List(items.iter().map(|item| Tree::of_spec(item, source, fault)).collect())
            }
            ValueKind::Table(entries) => {
                let entry = |(name, value): &(spec::Spanned<String>, spec::Value)| {
                    (name.get_ref().clone(), name.span(), Tree::of_spec(value, source, fault))
                };
                TreeKind::Table(entries.iter().map(entry).collect())
            }
            _ => TreeKind::Scalar(value.to_json()),
        };
        Tree { span: value.span.clone(), kind }
    }

    /// Of a value of a file in which strings have no holes.
    pub(crate) fn of_plain(value: &spec::Value) -> Tree {
        let kind = match &value.kind {
            ValueKind::String(content) => TreeKind::Text(Text::Plain(content.clone())),
            ValueKind::List(items) => TreeKind::List(items.iter().map(Tree::of_plain).collect()),
            ValueKind::Table(entries) => {
                let entry = |(name, value): &(spec::Spanned<String>, spec::Value)| {
                    (name.get_ref().clone(), name.span(), Tree::of_plain(value))
                };
                TreeKind::Table(entries.iter().map(entry).collect())
            }
            _ => TreeKind::Scalar(value.to_json()),
        };
        Tree { span: value.span.clone(), kind }
    }

    fn of_json(value: &Value, fault: &mut dyn FnMut(&str, Fault)) -> Tree {
        let kind = match value {
            Value::String(content) => {
                TreeKind::Text(Text::of(content, &Place::Nowhere, &mut |_, found| fault(content, found)))
            }
            Value::Array(items) => TreeKind::List(items.iter().map(|item| Tree::of_json(item, fault)).collect()),
            Value::Object(members) => {
                let entry = |(name, value): (&String, &Value)| (name.clone(), 0..0, Tree::of_json(value, fault));
                TreeKind::Table(members.iter().map(entry).collect())
            }
            other => TreeKind::Scalar(other.clone()),
        };
        Tree { span: 0..0, kind }
    }

    /// The holes, in the order of the file.
    pub(crate) fn holes<'t>(&'t self, each: &mut dyn FnMut(&'t Hole)) {
        match &self.kind {
            TreeKind::Scalar(_) | TreeKind::Text(Text::Plain(_) | Text::Faulty) => (),
            TreeKind::Text(Text::Hole(hole)) => each(hole),
            TreeKind::Text(Text::Mixed(parts)) => parts.iter().for_each(|part| {
                if let Part::Hole(hole) = part {
                    each(hole);
                }
            }),
            TreeKind::List(items) => items.iter().for_each(|item| item.holes(each)),
            TreeKind::Table(entries) => entries.iter().for_each(|(_, _, value)| value.holes(each)),
        }
    }

    /// The value, if it has no holes.
    pub(crate) fn constant(&self) -> Option<Value> {
        Some(match &self.kind {
            TreeKind::Scalar(value) => value.clone(),
            TreeKind::Text(Text::Plain(text)) => text.as_str().into(),
            TreeKind::Text(_) => return None,
            TreeKind::List(items) => Value::Array(items.iter().map(Tree::constant).collect::<Option<_>>()?),
            TreeKind::Table(entries) => {
                let entry = |(name, _, value): &(String, Range<usize>, Tree)| Some((name.clone(), value.constant()?));
                Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
        })
    }

    /// The kinds of values that this is, without looking into holes.
    pub(crate) fn kinds(&self) -> Kinds {
        match &self.kind {
            TreeKind::Scalar(value) => Kinds::of(value),
            TreeKind::Text(Text::Hole(_) | Text::Faulty) => Kinds::ANY,
            TreeKind::Text(_) => Kinds::TEXT,
            TreeKind::List(_) => Kinds::LIST,
            TreeKind::Table(_) => Kinds::OBJECT,
        }
    }
}

impl Text {
    /// Takes a string apart. What is wrong is left out and told.
    fn of(content: &str, place: &Place, fault: &mut dyn FnMut(&Place, Fault)) -> Text {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        let mut faulty = false;
        while let Some(dollar) = content[at..].find('$').map(|found| at + found) {
            plain.push_str(&content[at..dollar]);
            let rest = &content[dollar..];
            if rest.starts_with("$${") {
                plain.push_str("${");
                at = dollar + 3;
            } else if rest.starts_with("${") {
                let start = dollar + 2;
                let Some(end) = hole_end(content, start) else {
                    let found = Fault::new("hole-syntax", dollar..dollar + 2, "this `${` is never closed")
                        .label("a hole opens here")
                        .hint("close it with `}`, or write `$${` for a literal `${`");
                    fault(place, found);
                    return Text::Faulty;
                };
                let inside = &content[start..end];
                let trimmed = inside.trim_start();
                let place = place.after(start + inside.len() - trimmed.len());
                match Expression::compile(trimmed.trim_end()) {
                    Ok(expression) => {
                        if !plain.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut plain)));
                        }
                        parts.push(Part::Hole(Hole { expression, place, kinds: Cell::new(Kinds::ANY) }));
                    }
                    Err(faults) => {
                        faulty = true;
                        faults.into_iter().for_each(|found| fault(&place, found));
                    }
                }
                at = end + 1;
            } else {
                plain.push('$');
                at = dollar + 1;
            }
        }
        plain.push_str(&content[at..]);
        if faulty {
            return Text::Faulty;
        }
        if parts.is_empty() {
            return Text::Plain(plain);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        match parts.pop() {
            Some(Part::Hole(hole)) if parts.is_empty() => Text::Hole(hole),
            last => {
                parts.extend(last);
                Text::Mixed(parts)
            }
        }
    }
}

/// Where the `}` of the hole is whose expression starts at this byte. Braces within the expression and its strings do
/// not count.
pub(crate) fn hole_end(content: &str, start: usize) -> Option<usize> {
    let mut depth = 0;
    for token in Tokens::from(content, start) {
        match (token.kind, &content[token.span.clone()]) {
            (TokenKind::OpenText, _) => return None,
            (_, "{") => depth += 1,
            (_, "}") if depth == 0 => return Some(token.span.start),
            (_, "}") => depth -= 1,
            _ => (),
        }
    }
    None
}
