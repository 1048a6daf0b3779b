//! The list of a `foreach`: where it comes from, which may be a step that still runs, and how much of it has to succeed.

use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Resolver;
use crate::diagnostic::Diagnostic;
use crate::event::NeedState;
use crate::json::Json;
use crate::plan::{Each, Join, Rest, StepNo};
use crate::rule::{Template, Text, Tree, TreeKind};
use crate::run::ITEMS_MAX;
use crate::schema::{Kinds, Type};
use crate::spec::{ForeachSpec, JoinSpec, Spanned, StepSpec, Value as SpecValue, ValueKind};

/// What the `until` of a `foreach` sees as `items`.
pub(super) static AMONG: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {
            "succeeded": { "type": "integer" },
            "failed": { "type": "integer" },
            "outputs": { "type": "array" },
        },
        "required": ["succeeded", "failed", "outputs"],
        "additionalProperties": false,
    })
});

impl<'a> Resolver<'a, '_, '_> {
    /// The steps that are ended when one succeeds.
    pub(super) fn cancels(&mut self, at: usize, name: &Spanned<String>, spec: &'a StepSpec) -> Vec<StepNo> {
        let mut found = Vec::new();
        for target in &spec.cancels {
            let (asked, span) = (target.get_ref().as_str(), target.span());
            let frame = self.frames.last().expect("a step is looked at within a body");
            let (steps, no) = (frame.steps, frame.graph.index(asked));
            let fault = |message: String| Diagnostic::error("cancels", span.clone(), message);
            let fault = match no {
                None => {
                    let hint = self.out.suggest(asked, steps.iter().map(|(name, _)| name.get_ref().as_str()));
                    Some(super::unknown("step", "unknown-step", asked, span.clone(), hint))
                }
                Some(no) if no == at => Some(fault(format!("`{asked}` can't end itself")).label("the very step")),
                Some(no) if steps[no].1.always && !spec.always => {
                    Some(fault(format!("`{asked}` is an always-step, which runs whatever happens")).label("not ended"))
                }
                Some(no) if frame.graph.is_before(no, at) => {
                    let message = format!("`{asked}` is over whenever `{}` starts", name.get_ref());
                    let found = Diagnostic::warning("useless-key", span.clone(), message);
                    Some(found.label("has no effect"))
                }
                Some(no) if found.contains(&StepNo(no as u32)) => {
                    let found = Diagnostic::warning("duplicate", span.clone(), format!("`{asked}` is ended twice"));
                    Some(found.label("says nothing new"))
                }
                Some(_) => None,
            };
            let is_right = fault.is_none();
            if let Some(fault) = fault {
                self.out.push(fault);
            }
            found.extend(no.filter(|_| is_right).map(|no| StepNo(no as u32)));
        }
        found
    }

    /// The list of a `foreach`, and the type of its items.
    fn list(&mut self, spec: &'a ForeachSpec) -> (Template, Type<'a>, Vec<StepNo>) {
        if let Some(lists) = &spec.zip {
            if let Some(list) = &spec.list {
                let message = "a `foreach` has `in` or `zip`, not both";
                let found = Diagnostic::error("two-works", lists.span.clone(), message);
                self.out.push(found.also(list.span.clone(), "the other").hint("leave one of them out"));
            }
            return self.zip(lists);
        }
        let Some(list) = &spec.list else { return (Template::constant(Json::null()), Type::ANY, Vec::new()) };
        self.is_list = matches!(list.kind, ValueKind::String(_));
        let tree = self.tree(list);
        self.is_list = false;
        if let TreeKind::Text(Text::Hole(hole)) = &tree.kind
            && let Some(name) = hole.expression.whole_items()
        {
            let from = self.source(name, list.span.clone());
            return (Template::of(&tree, Json::from(list.to_json())), Type::ANY, Vec::from_iter(from));
        }
        let (kinds, items) = match &tree.kind {
            TreeKind::Text(Text::Hole(hole)) => {
                // What is wrong with it was told with the tree.
                let found = self.type_of(&hole.expression);
                (found.kinds, found.items())
            }
            kind => {
                let items: Option<Vec<Kinds>> = match kind {
                    TreeKind::List(items) => Some(items.iter().map(Tree::kinds).collect()),
                    _ => None,
                };
                let all = items.into_iter().flatten().reduce(Kinds::or).unwrap_or(Kinds::ANY);
                (tree.kinds(), Type::of_kinds(all))
            }
        };
        if !kinds.is_none() && !kinds.meets(Kinds::LIST) {
            let message = format!("`foreach` takes a list, and this is {kinds}");
            let found = Diagnostic::error("not-a-list", list.span.clone(), message).label(kinds.to_string());
            self.out.push(found.hint("write a list, or a hole that is one: `foreach = \"${inputs.suites}\"`"));
        }
        (Template::of(&tree, Json::from(list.to_json())), items, Vec::new())
    }

    /// A `foreach`, and the type of its items.
    pub(super) fn each(&mut self, foreach: &'a ForeachSpec, spec: &'a StepSpec) -> (Each, Type<'a>) {
        let (list, items, from) = self.list(foreach);
        let guards = std::mem::take(&mut self.guards);
        self.is_among = true;
        let until = foreach.until.as_ref().and_then(|until| self.rule("until", until));
        self.is_among = false;
        self.guards = guards;
        let mut bound = |number: &Option<Spanned<i64>>| {
            let number = number.as_ref()?;
            if !(1..=ITEMS_MAX as i64).contains(number.get_ref()) {
                let message = format!("`parallel` is 1 to {ITEMS_MAX}, not {}", number.get_ref());
                self.out.push(Diagnostic::error("number-range", number.span(), message));
            }
            u32::try_from(*number.get_ref()).ok().filter(|number| *number > 0)
        };
        let (outer, inner) = (bound(&spec.parallel), bound(&foreach.parallel));
        if let (Some(parallel), Some(_)) = (&spec.parallel, &foreach.parallel) {
            let found = Diagnostic::error("duplicate", parallel.span(), "`parallel` is said twice");
            self.out.push(found.hint("leave one of them out"));
        }
        let join = match foreach.join.as_ref().map(|join| (join.get_ref(), join.span())) {
            None => Join::All,
            Some((JoinSpec::AtLeast(least), _)) if *least >= 1 => Join::AtLeast((*least).min(ITEMS_MAX as i64) as u32),
            Some((JoinSpec::AtLeast(least), span)) => {
                let message = format!("`at-least` is at least 1, not {least}");
                self.out.push(Diagnostic::error("number-range", span, message));
                Join::All
            }
            Some((JoinSpec::Word(word), span)) => match word.as_str() {
                "all" => Join::All,
                "any" => Join::Any,
                "merge" => Join::Merge,
                word => {
                    let found = Diagnostic::error("unknown-join", span, format!("there is no join `{word}`"));
                    let hint = "a join is `all`, `any`, `merge` or `{ at-least = n }`";
                    self.out.push(found.label("unknown join").hint(hint));
                    Join::All
                }
            },
        };
        if let (Join::AtLeast(least), Some(SpecValue { kind: ValueKind::List(items), .. })) = (join, &foreach.list)
            && least as usize > items.len()
        {
            let span = foreach.join.as_ref().map_or(foreach.span.clone(), Spanned::span);
            let message = format!("{least} of {} items can't succeed", items.len());
            self.out.push(Diagnostic::error("dead-join", span, message).label("never met"));
        }
        let rest = match foreach.rest.as_ref().map(|rest| (rest.get_ref().as_str(), rest.span())) {
            None | Some(("wait", _)) => Rest::Wait,
            Some(("cancel", _)) => Rest::Cancel,
            Some((word, span)) => {
                let found = Diagnostic::error("unknown-rest", span, format!("the rest can't `{word}`"));
                self.out.push(found.label("unknown word").hint("the rest can `wait` (it goes on) or `cancel`"));
                Rest::Wait
            }
        };
        (Each { list, from, until, parallel: inner.or(outer), join, rest }, items)
    }

    /// Several lists of items, of which one is made.
    fn zip(&mut self, lists: &'a SpecValue) -> (Template, Type<'a>, Vec<StepNo>) {
        let source = Json::from(lists.to_json());
        let ValueKind::List(all) = &lists.kind else {
            let found = Diagnostic::error("wrong-type", lists.span.clone(), "`zip` takes a list of lists");
            self.out.push(found.hint("write `zip = [\"${steps.a.items}\", \"${steps.b.items}\"]`"));
            return (Template::constant(source), Type::ANY, Vec::new());
        };
        if all.len() < 2 {
            let message = format!("`zip` makes one list of several, not of {}", all.len());
            let found = Diagnostic::error("number-range", lists.span.clone(), message);
            self.out.push(found.hint("of one list, write `in`"));
        }
        let mut from = Vec::new();
        for list in all {
            self.is_list = true;
            let tree = self.tree(list);
            self.is_list = false;
            match &tree.kind {
                TreeKind::Text(Text::Hole(hole)) if hole.expression.whole_items().is_some() => {
                    let name = hole.expression.whole_items().unwrap_or_default();
                    from.extend(self.source(name, list.span.clone()));
                }
                _ => {
                    let found = Diagnostic::error("items", list.span.clone(), "`zip` takes what steps append");
                    let hint = "write `\"${steps.NAME.items}\"`; of other lists, go over one, and take `${inputs.OTHER[index]}`";
                    self.out.push(found.label("none of that").hint(hint));
                }
            }
        }
        (Template::constant(source), Type::of_kinds(Kinds::LIST), from)
    }

    /// The step whose items are a list, if it can be.
    fn source(&mut self, name: &str, span: Range<usize>) -> Option<StepNo> {
        let fault = |message: String, label: &str, hint: String| {
            Diagnostic::error("items", span.clone(), message).label(label).hint(hint)
        };
        let frame = self.frames.last().expect("a step is looked at within a body");
        let (steps, at) = (frame.steps, frame.at.expect("it is one of the steps"));
        let Some(asked) = frame.graph.index(name) else {
            let found = match self.frames.iter().any(|frame| frame.graph.index(name).is_some()) {
                true => fault(
                    format!("the items of `{name}` can't be worked on here"),
                    "not one of the steps beside this one",
                    format!("write the `foreach` beside `{name}`, and what is to be done in its `steps`"),
                ),
                false => {
                    let hint = self.out.suggest(name, steps.iter().map(|(name, _)| name.get_ref().as_str()));
                    super::unknown("step", "unknown-step", name, span.clone(), hint)
                }
            };
            self.out.push(found);
            return None;
        };
        let (spec, own) = (&steps[asked].1, &steps[at].1);
        let is_one = spec.plugin.is_some() && spec.foreach.is_none() && spec.repeat.is_none();
        let component = spec.plugin.as_ref().and_then(|plugin| self.declared.plugin(plugin.get_ref()));
        let frame = self.frames.last().expect("a step is looked at within a body");
        let mut needs = frame.graph.needs(at).iter().filter(|need| need.step == asked);
        let found = match component {
            _ if asked == at => Some(fault(
                format!("`{name}` can't work on its own items"),
                "the very step",
                "append them in one step, and work on them in another".to_owned(),
            )),
            _ if !is_one && !spec.incomplete => Some(fault(
                format!("`{name}` appends no items"),
                "does not run a component by itself",
                "only a step with `use`, and without `foreach` and `repeat`, appends items".to_owned(),
            )),
            _ if spec.cache.as_ref().is_some_and(|cache| *cache.get_ref()) => Some(fault(
                format!("the items of `{name}` are not kept: it has `cache`, and what is kept is its answer"),
                "nothing, once the cache has its answer",
                format!("leave out `cache` of `{name}`, or have it answer with the list and need `{name}`"),
            )),
            Some(plugin) if !plugin.component.items => Some(fault(
                format!("`{name}` appends no items: its component does not import `downbeat:step/items`"),
                "always empty",
                format!("if its output is a list, write `foreach = \"${{steps.{name}.output}}\"`, and need `{name}`"),
            )),
            _ if own.incomplete || frame.graph.is_faulty(at) => None,
            _ => match needs.next().map(|need| need.state) {
                Some(NeedState::Started | NeedState::Succeeded | NeedState::Finished) => None,
                None if frame.graph.is_before(asked, at) => None,
                Some(NeedState::Failed | NeedState::Skipped) => Some(fault(
                    format!("the list of `{name}` is never whole here"),
                    "needed in a state without all its items",
                    format!("need `{name}.started`, or `{name}`"),
                )),
                None => Some(fault(
                    format!("`{name}` may not have begun by then"),
                    "not among what is needed here",
                    format!("add `\"{name}.started\"` to `needs`, or `\"{name}\"` to begin once the list is whole"),
                )),
            },
        };
        let is_right = found.is_none();
        if let Some(found) = found {
            self.out.push(found);
        }
        is_right.then_some(StepNo(asked as u32))
    }
}
