//! `[vars]`: named values of a file, put in where `vars.NAME` stands in a hole or a rule.
//!
//! A var is any value; its strings may have holes in turn, over inputs, steps and other vars. A hole that is nothing but a
//! var becomes its value, whatever the type, wherever in the file it stands; in an expression, and among other text, it
//! becomes an expression and text. A step's own `vars` are seen by it and what is within it, before those around.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Place;
use super::expand::{Expander, ForShort, REWRITTEN_BYTE_BYTES, text};
use super::keys::Table;
use super::read::{Item, Key, in_order, owned, type_name};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::rule::{TokenKind, Tokens, hole_end};

/// How many vars may each mention the next. 16, as templates: nobody finds his way through more.
pub const VARS_CHAINED_MAX: usize = 16;

/// The vars that are seen in one place.
pub(super) struct Frame<'i> {
    vars: BTreeMap<String, Var<'i>>,
}

struct Var<'i> {
    key: Key<'i>,
    state: State<'i>,
    is_used: bool,
}

enum State<'i> {
    Written(Item<'i>),
    /// It is being looked at.
    Open,
    /// With what it mentions put in; nothing if there is something wrong with that.
    Ready(Option<Rc<Item<'i>>>),
}

impl<'i> Frame<'i> {
    pub(super) fn of(table: DeTable<'i>) -> Frame<'i> {
        let var = |(key, item): (Key<'i>, Item<'i>)| {
            let name = key.get_ref().to_string();
            (name, Var { key, state: State::Written(item), is_used: false })
        };
        Frame { vars: table.into_iter().map(var).collect() }
    }
}

/// `vars.NAME…` in a string.
struct Mention {
    /// The `${…}` around it, if there is nothing else in that.
    hole: Option<Range<usize>>,
    span: Range<usize>,
    /// Its names, and where the path ends that they lead along.
    names: Vec<(String, Range<usize>)>,
    /// The brackets around it, if it is in those of `steps[…]`.
    of_steps: Option<Range<usize>>,
}

/// Something that can't be put in: where, why, what to do.
struct Fault(Range<usize>, &'static str, String, Option<String>);

impl<'i> Expander<'i, '_> {
    /// Puts vars into the values of a table of the language; the steps within have their turn later.
    pub(super) fn values_of(&mut self, table: Table, entries: &mut DeTable<'i>) {
        for (key, value) in entries.iter_mut() {
            let key = key.get_ref().as_ref();
            if matches!(key, "steps" | "always") && matches!(table, Table::Workflow | Table::Step) {
                continue;
            }
            let is_rule = table.key(key).is_some_and(super::keys::Key::is_rule);
            let inner = table.key(key).and_then(super::keys::Key::table);
            match (value.get_mut(), inner) {
                (DeValue::Table(entries), Some(inner)) => self.values_of(inner, entries),
                _ => self.value(value, is_rule, self.frames.len(), 0),
            }
        }
    }

    /// Of the outermost `seen` frames.
    fn value(&mut self, item: &mut Item<'i>, is_rule: bool, seen: usize, chained: usize) {
        let span = item.span();
        match item.get_mut() {
            DeValue::String(content) if content.contains("vars") => {
                let content = content.to_string();
                if let Some(value) = self.string(&content, &span, is_rule, seen, chained) {
                    *item = value;
                }
            }
            DeValue::Array(items) => {
                items.iter_mut().for_each(|item| self.value(item, false, seen, chained));
            }
            DeValue::Table(entries) => {
                entries.iter_mut().for_each(|(_, item)| self.value(item, false, seen, chained));
            }
            _ => (),
        }
    }

    /// What becomes of a string; `None` if it stays as it is.
    fn string(
        &mut self,
        content: &str,
        span: &Range<usize>,
        is_rule: bool,
        seen: usize,
        chained: usize,
    ) -> Option<Item<'i>> {
        let mentions = mentions(content, is_rule);
        if mentions.is_empty() {
            return None;
        }
        let place = self.origins.place(self.text, span, content)?;
        let mut rewriting = Rewriting { text: String::new(), places: Vec::new() };
        let mut at = 0;
        let mut is_faulty = false;
        for mention in mentions {
            let here = place.span(mention.span.clone());
            let value = self.find(&mention, &here, &place, seen, chained);
            let put_in = value.and_then(|value| {
                if mention.hole.as_ref().is_some_and(|hole| *hole == (0..content.len())) {
                    let copy = self.origins.copy(here.clone(), "put in here", None);
                    return Ok(Err(self.copied(&value, Some(copy), &here)));
                }
                let (range, text) = match &mention.hole {
                    Some(hole) => (hole.clone(), as_text(&value)),
                    None => match mention.of_steps.clone().zip(plain_name(&value)) {
                        Some((brackets, name)) => (brackets, Ok(format!(".{name}"))),
                        None => (mention.span.clone(), as_expression(&value)),
                    },
                };
                text.map(|text| Ok((range, text))).map_err(|why| {
                    let name = &mention.names[0].0;
                    Some(Fault(here.clone(), "unfit-var", format!("`vars.{name}` can't be put in here: {why}"), None))
                })
            });
            match put_in {
                Ok(Err(None)) => {
                    is_faulty = true;
                    break;
                }
                Ok(Err(whole)) => return whole,
                Ok(Ok((range, text))) => {
                    if self.charge(text.len() * REWRITTEN_BYTE_BYTES, &here).is_none() {
                        is_faulty = true;
                        break;
                    }
                    rewriting.keep(content, &place, at..range.start);
                    rewriting.put_in(&text, here.start);
                    at = range.end;
                }
                Err(fault) => {
                    is_faulty = true;
                    if let Some(Fault(span, code, message, hint)) = fault {
                        self.faults.push(Diagnostic::error(code, span, message).maybe_hint(hint));
                    }
                }
            }
        }
        is_faulty |= self.charge((content.len() - at) * REWRITTEN_BYTE_BYTES, span).is_none();
        if is_faulty {
            self.origins.rewrite(span, None);
            return None;
        }
        rewriting.keep(content, &place, at..content.len());
        rewriting.places.push(place.span(content.len()..content.len()).start);
        self.origins.rewrite(span, Some(Place::Each(rewriting.places)));
        Some(Spanned::new(span.clone(), text(rewriting.text)))
    }

    /// The value that a mention leads to. Without a fault, one was told, or is not to be.
    fn find(
        &mut self,
        mention: &Mention,
        here: &Range<usize>,
        place: &Place,
        seen: usize,
        chained: usize,
    ) -> Result<Rc<Item<'i>>, Option<Fault>> {
        let Some((name, at)) = mention.names.first() else {
            let hint = Some("write for example `vars.region`".to_owned());
            return Err(Some(Fault(here.clone(), "unknown-var", "`vars` is no value by itself".to_owned(), hint)));
        };
        let Some(index) = (0..seen).rev().find(|index| self.frames[*index].vars.contains_key(name)) else {
            if self.is_lenient {
                return Err(None);
            }
            let known = self.frames[..seen].iter().flat_map(|frame| frame.vars.keys().map(String::as_str));
            self.suggestions += 1;
            let similar = if self.suggestions > 100 { None } else { did_you_mean(name, known) };
            let hint = match similar {
                Some(similar) => format!("did you mean `vars.{similar}`?"),
                None => format!("declare it: `[vars]` `{name} = …`, or give it to the step: `vars = {{ {name} = … }}`"),
            };
            let message = format!("there is no var `{name}`");
            return Err(Some(Fault(place.span(at.clone()), "unknown-var", message, Some(hint))));
        };
        let var = self.frames[index].vars.get_mut(name).expect("it was just found");
        var.is_used = true;
        let value = match std::mem::replace(&mut var.state, State::Open) {
            State::Ready(value) => {
                var.state = State::Ready(value.clone());
                value.ok_or(None)?
            }
            State::Open => {
                let message = format!("`vars.{name}` is made of itself");
                return Err(Some(Fault(here.clone(), "var-cycle", message, None)));
            }
            State::Written(_) if chained >= VARS_CHAINED_MAX => {
                var.state = State::Ready(None);
                let message = format!("more than {VARS_CHAINED_MAX} vars each mention the next");
                return Err(Some(Fault(here.clone(), "var-cycle", message, None)));
            }
            State::Written(mut item) => {
                let before = self.faults.len();
                self.value(&mut item, false, index + 1, chained + 1);
                let ready = (self.faults.len() == before).then(|| Rc::new(item));
                let var = self.frames[index].vars.get_mut(name).expect("no frame is closed meanwhile");
                var.state = State::Ready(ready.clone());
                ready.ok_or(None)?
            }
        };
        let mut member = &*value;
        let mut path = format!("vars.{name}");
        for (name, at) in &mention.names[1..] {
            let (found, known): (_, Vec<&str>) = match member.get_ref() {
                DeValue::Table(table) => {
                    (table.get(name.as_str()), table.keys().map(|key| key.get_ref().as_ref()).collect())
                }
                DeValue::Array(items) => (name.parse().ok().and_then(|index: usize| items.get(index)), Vec::new()),
                _ => (None, Vec::new()),
            };
            let Some(found) = found else {
                let message = format!("`{path}` is {}, which has no `{name}`", type_name(member.get_ref()));
                let hint = did_you_mean(name, known).map(|similar| format!("did you mean `{path}.{similar}`?"));
                return Err(Some(Fault(place.span(at.clone()), "unknown-var", message, hint)));
            };
            member = found;
            path = format!("{path}.{name}");
        }
        match self.origins.is_faulty(&member.span()) {
            true => Err(None),
            // The whole value is shared; of a part of it, only that is copied.
            false if mention.names.len() == 1 => Ok(value),
            false => Ok(Rc::new(member.clone())),
        }
    }

    /// The innermost vars are seen no longer.
    pub(super) fn close_frame(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        for Var { key, is_used, .. } in frame.vars.into_values() {
            let name = Spanned::new(self.origins.written(&key.span()), owned(&key).into_inner());
            let known = self.for_short.entry(name.span().start);
            known.or_insert(ForShort { kind: "var", name, is_used: false }).is_used |= is_used;
        }
    }
}

/// A string that is written anew.
struct Rewriting {
    text: String,
    /// Where each byte stands.
    places: Vec<usize>,
}

impl Rewriting {
    fn keep(&mut self, content: &str, place: &Place, range: Range<usize>) {
        self.text.push_str(&content[range.clone()]);
        self.places.extend(range.map(|at| place.span(at..at).start));
    }

    fn put_in(&mut self, text: &str, at: usize) {
        self.text.push_str(text);
        self.places.extend(std::iter::repeat_n(at, text.len()));
    }
}

/// The vars that a string mentions, in the order in which they appear.
fn mentions(content: &str, is_rule: bool) -> Vec<Mention> {
    let mut found = Vec::new();
    if is_rule {
        mentions_in(content, 0..content.len(), None, &mut found);
        return found;
    }
    let mut at = 0;
    while let Some(dollar) = content[at..].find("${").map(|found| at + found) {
        let start = dollar + 2;
        if content[..dollar].ends_with('$') && dollar > at {
            at = start;
            continue;
        }
        let Some(end) = hole_end(content, start) else { break };
        mentions_in(content, start..end, Some(dollar..end + 1), &mut found);
        at = end + 1;
    }
    found
}

/// Those of one expression. `hole`: what is around it.
fn mentions_in(content: &str, range: Range<usize>, hole: Option<Range<usize>>, found: &mut Vec<Mention>) {
    let tokens: Vec<_> = Tokens::from(&content[..range.end], range.start).collect();
    let word = |at: usize| tokens.get(at).map_or("", |token| &content[token.span.clone()]);
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        at += 1;
        if word(start) != "vars" || start > 0 && word(start - 1) == "." {
            continue;
        }
        let mut names = Vec::new();
        loop {
            let name = tokens.get(at + 1).map(|token| (token.kind, &content[token.span.clone()], token.span.clone()));
            match (word(at), name) {
                // A call of something on it is no name.
                (".", Some((TokenKind::Word, name, span))) if word(at + 2) != "(" => {
                    names.push((name.to_owned(), span));
                    at += 2;
                }
                ("[", Some((TokenKind::Text, name, span)))
                    if word(at + 2) == "]" && name.starts_with(['"', '\'']) && !name.contains('\\') =>
                {
                    names.push((name.trim_matches(['"', '\'']).to_owned(), span));
                    at += 3;
                }
                ("[", Some((TokenKind::Number, name, span))) if word(at + 2) == "]" && !names.is_empty() => {
                    names.push((name.to_owned(), span));
                    at += 3;
                }
                _ => break,
            }
        }
        let span = tokens[start].span.start..tokens[at - 1].span.end;
        let is_alone = start == 0 && at == tokens.len();
        let brackets = start >= 2 && word(start - 1) == "[" && word(start - 2) == "steps" && word(at) == "]";
        let of_steps = brackets.then(|| tokens[start - 1].span.start..tokens[at].span.end);
        found.push(Mention { hole: hole.clone().filter(|_| is_alone), span, names, of_steps });
    }
}

/// The value, if it is a name as it may stand behind a dot.
fn plain_name<'v>(value: &'v Item<'_>) -> Option<&'v str> {
    let is_plain = |name: &&str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    value.get_ref().as_str().filter(is_plain)
}

/// As it stands among other text: with its holes, which are those of the string then.
fn as_text(value: &Item<'_>) -> Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!("it is {}, which may stand only alone in its string", type_name(value.get_ref())))
        }
        // An expression has brackets around what is negative.
        DeValue::Integer(_) | DeValue::Float(_) => {
            as_expression(value).map(|number| number.trim_matches(['(', ')']).to_owned())
        }
        DeValue::Datetime(moment) => Ok(moment.to_string()),
        DeValue::Boolean(_) => as_expression(value),
    }
}

/// As it stands in an expression.
fn as_expression(value: &Item<'_>) -> Result<String, String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    Ok(match value.get_ref() {
        DeValue::String(text) => match hole_alone(text) {
            Some(inside) => format!("({})", inside.trim()),
            None if text.replace("$${", "").contains("${") => {
                return Err("it is text with holes, which may stand only alone in a hole".to_owned());
            }
            None => quoted(&text.replace("$${", "${")),
        },
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).map_err(|error| error.to_string())?;
            if number < 0 { format!("({number})") } else { number.to_string() }
        }
        DeValue::Float(number) => {
            let number: f64 = number.as_str().parse().unwrap_or(f64::NAN);
            match number.is_finite() {
                true if number < 0.0 => format!("({number:?})"),
                true => format!("{number:?}"),
                false => return Err("it is no finite number".to_owned()),
            }
        }
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(moment) => quoted(&moment.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(as_expression).collect();
            format!("[{}]", items?.join(", "))
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&Key<'_>, &Item<'_>)| {
                Ok(format!("{}: {}", quoted(key.get_ref()), as_expression(value)?))
            };
            let entries: Result<Vec<_>, String> = in_order(table).into_iter().map(entry).collect();
            format!("{{{}}}", entries?.join(", "))
        }
    })
}

/// What is in the hole that is all of this string.
fn hole_alone(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?;
    (hole_end(text, 2)? + 1 == text.len()).then(|| &inside[..inside.len() - 1])
}
