//! Writes out what a file says for short: steps that are `like` a template, `[defaults]`, and `[vars]` (`vars.rs`).
//!
//! What comes out is a table as somebody without these words would have written it, which the reader then mirrors: nothing
//! behind it knows templates. Tables are merged, deep; everything else of the step replaces what it would take over. The
//! places of what is taken over are kept in [`Origins`]. Time and memory are near linear in what comes out, which is bounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Origins;
use super::keys::Table;
use super::read::{BLOCKS_NESTED_MAX, Item, Key, in_order, owned, wrong_type};
use super::vars::Frame;
use crate::diagnostic::{Diagnostic, did_you_mean};

/// How much steps may take over from templates, defaults and vars, all together, in bytes of memory. 512 MiB: five tables for
/// each of 100,000 steps. A few lines of templates in templates could otherwise fill any memory.
pub const TAKEN_OVER_BYTES_MAX: usize = 512 << 20;

/// How many templates may be like the next one. 16, as steps within steps: nobody finds his way through more.
pub const TEMPLATES_CHAINED_MAX: usize = 16;

/// What a value takes beside its text.
const VALUE_BYTES: usize = 64;

/// What a table takes, whatever is in it: the first node of a tree with room for eleven entries.
const TABLE_BYTES: usize = 1_200;

/// What each byte of a rewritten string takes: itself, and where it stands.
pub(super) const REWRITTEN_BYTE_BYTES: usize = 1 + size_of::<usize>();

/// After so many hints at similar names there are no more: comparing with all names costs time.
const SUGGESTIONS_MAX: usize = 100;

/// A name that is declared for the text alone, so that nothing of it is left in the mirror's tables.
#[derive(Clone, Debug)]
pub(crate) struct ForShort {
    /// `"var"` or `"template"`.
    pub(crate) kind: &'static str,
    pub(crate) name: Spanned<String>,
    pub(crate) is_used: bool,
}

/// A file, written out.
pub(super) struct Expanded<'i> {
    pub(super) document: DeTable<'i>,
    pub(super) origins: Origins,
    pub(super) faults: Vec<Diagnostic>,
    pub(super) for_short: BTreeMap<usize, ForShort>,
    /// What may be wrong with templates, used or not: each as a step, as far as it is known.
    pub(super) templates: Vec<(Key<'i>, Item<'i>)>,
    /// `[defaults]`.
    pub(super) defaults: Option<DeTable<'i>>,
}

/// What has come of a template so far.
enum Template<'i> {
    Written(Item<'i>),
    /// It is being looked at.
    Open,
    /// With what it takes over from others; nothing if there is something wrong with that.
    Ready(Option<Rc<DeTable<'i>>>),
}

pub(super) struct Expander<'i, 't> {
    pub(super) text: &'t str,
    pub(super) origins: Origins,
    pub(super) faults: Vec<Diagnostic>,
    templates: BTreeMap<String, Template<'i>>,
    used_templates: BTreeSet<String>,
    defaults: DeTable<'i>,
    /// The vars that are seen, the innermost last.
    pub(super) frames: Vec<Frame<'i>>,
    /// By where they stand.
    pub(super) for_short: BTreeMap<usize, ForShort>,
    /// Whether names that are not known may become so: in a template by itself.
    pub(super) is_lenient: bool,
    pub(super) taken_over: usize,
    pub(super) suggestions: usize,
}

/// Writes a document out.
pub(super) fn expand<'i>(text: &str, mut document: DeTable<'i>) -> Expanded<'i> {
    let mut expander = Expander {
        text,
        origins: Origins::of(text),
        faults: Vec::new(),
        templates: BTreeMap::new(),
        used_templates: BTreeSet::new(),
        defaults: DeTable::new(),
        frames: Vec::new(),
        for_short: BTreeMap::new(),
        is_lenient: false,
        taken_over: 0,
        suggestions: 0,
    };
    let vars = expander.take_table(&mut document, "vars", "write a table `[vars]` with a line for each");
    let templates = expander.take_table(&mut document, "templates", "write a table `[templates.NAME]` for each");
    let defaults = expander.take_table(&mut document, "defaults", "write a table `[defaults]` with a line for each");
    let names: Vec<Key<'i>> = templates.iter().flat_map(|table| in_order(table)).map(|(key, _)| key.clone()).collect();
    for (key, item) in templates.unwrap_or_default() {
        expander.templates.insert(key.get_ref().to_string(), Template::Written(item));
    }
    expander.frames.push(Frame::of(vars.unwrap_or_default()));
    let defaults = defaults.map(|mut defaults| {
        expander.values_of(Table::Defaults, &mut defaults);
        // What is no default is told there, and not of every step that would have it.
        let is_known = |key: &Key<'i>| Table::Defaults.key(key.get_ref()).is_some();
        let known = defaults.iter().filter(|(key, _)| is_known(key));
        expander.defaults = known.map(|(key, item)| (key.clone(), item.clone())).collect();
        defaults
    });
    expander.values_of(Table::Workflow, &mut document);
    expander.steps(&mut document, 0);
    let probes = names.iter().filter_map(|name| expander.alone(name)).collect();
    expander.close_frame();
    for name in &names {
        let is_used = expander.used_templates.contains(name.get_ref().as_ref());
        expander.for_short.insert(name.span().start, ForShort { kind: "template", name: owned(name), is_used });
    }
    let Expander { origins, faults, for_short, .. } = expander;
    Expanded { document, origins, faults, for_short, templates: probes, defaults }
}

impl<'i> Expander<'i, '_> {
    /// Takes a table out of another.
    fn take_table(&mut self, from: &mut DeTable<'i>, key: &str, hint: &str) -> Option<DeTable<'i>> {
        let item = from.remove(key)?;
        if !item.get_ref().is_table() {
            self.faults.push(wrong_type(key, "a table", &item).hint(hint));
        }
        match item.into_inner() {
            DeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The steps and always-steps of a workflow or block.
    fn steps(&mut self, of: &mut DeTable<'i>, depth: usize) {
        for key in ["steps", "always"] {
            let Some(DeValue::Table(steps)) = of.get_mut(key).map(Spanned::get_mut) else { continue };
            for (name, step) in steps.iter_mut() {
                if let DeValue::Table(table) = step.get_mut() {
                    self.step(&name.span(), table, depth);
                }
            }
        }
    }

    /// `depth`: in how many steps it is. The reader tells if it is too deep.
    fn step(&mut self, name: &Range<usize>, step: &mut DeTable<'i>, depth: usize) {
        if depth > BLOCKS_NESTED_MAX {
            return;
        }
        self.take_over(name, step);
        let vars = self.take_table(step, "vars", "write a table `vars = { NAME = … }`");
        let has_vars = vars.is_some();
        self.frames.extend(vars.map(Frame::of));
        self.values_of(Table::Step, step);
        self.steps(step, depth + 1);
        if has_vars {
            self.close_frame();
        }
    }

    /// What a step and its `undo` have from their templates and by default.
    fn take_over(&mut self, name: &Range<usize>, step: &mut DeTable<'i>) {
        self.take_over_one(name, step);
        if let Some((key, undo)) = step.remove_entry("undo") {
            let (span, mut undo) = (undo.span(), undo.into_inner());
            if let DeValue::Table(undo) = &mut undo {
                self.take_over_one(&key.span(), undo);
            }
            step.insert(key, Spanned::new(span, undo));
        }
    }

    /// The same of one of them.
    fn take_over_one(&mut self, name: &Range<usize>, work: &mut DeTable<'i>) {
        let once = is_tried_once(work);
        let mut has_retry = false;
        if let Some((key, like)) = work.remove_entry("like") {
            match self.template(&like, 0) {
                Some(template) => {
                    let from = like.get_ref().as_str().unwrap_or_default();
                    has_retry |= template.contains_key("retry");
                    let copy = self.origins.copy(like.span(), "taken over here", Some(from));
                    self.merge(work, &template, Some(copy), &like.span());
                }
                // The reader then knows that it is not all there.
                None => drop(work.insert(key, like)),
            }
        }
        let defaults = std::mem::take(&mut self.defaults);
        if !defaults.is_empty() && work.contains_key("use") {
            has_retry |= defaults.contains_key("retry");
            self.take_defaults(name, work, &defaults);
        }
        self.defaults = defaults;
        // Saying that it is tried once takes the retry away that it would have had.
        if once && has_retry {
            work.remove("retry");
        }
    }

    fn take_defaults(&mut self, at: &Range<usize>, step: &mut DeTable<'i>, defaults: &DeTable<'i>) {
        if defaults.keys().all(|key| step.get(key.get_ref().as_ref()).is_some_and(|own| !own.get_ref().is_table())) {
            return;
        }
        let copy = self.origins.copy(at.clone(), "which has it by default", None);
        self.merge(step, defaults, Some(copy), at);
    }

    /// The template that something is like, with what that takes over in turn.
    fn template(&mut self, like: &Item<'i>, chained: usize) -> Option<Rc<DeTable<'i>>> {
        let Some(name) = like.get_ref().as_str() else {
            self.faults.push(wrong_type("like", "the name of a template", like));
            return None;
        };
        self.used_templates.insert(name.to_owned());
        if self.origins.is_from(&like.span(), name) || chained > TEMPLATES_CHAINED_MAX {
            self.in_circles(name, like.span(), chained);
            return None;
        }
        match self.templates.get_mut(name) {
            None => {
                let similar = match self.suggestions < SUGGESTIONS_MAX {
                    true => did_you_mean(name, self.templates.keys().map(String::as_str)),
                    false => None,
                };
                self.suggestions += 1;
                let hint = match similar {
                    Some(similar) => format!("did you mean `{similar}`?"),
                    None if self.templates.is_empty() => format!("write one: `[templates.{name}]`"),
                    None => "a step is like one of `[templates]`, not like another step".to_owned(),
                };
                let found =
                    Diagnostic::error("unknown-template", like.span(), format!("there is no template `{name}`"));
                self.faults.push(found.label("unknown template").hint(hint));
                None
            }
            Some(Template::Ready(template)) => template.clone(),
            Some(Template::Open) => {
                self.in_circles(name, like.span(), chained);
                None
            }
            Some(state) => {
                let Template::Written(item) = std::mem::replace(state, Template::Open) else {
                    unreachable!("the other states were handled");
                };
                let ready = self.flat(name, item, chained).map(Rc::new);
                self.templates.insert(name.to_owned(), Template::Ready(ready.clone()));
                ready
            }
        }
    }

    fn in_circles(&mut self, name: &str, at: Range<usize>, chained: usize) {
        let message = match chained > TEMPLATES_CHAINED_MAX {
            true => format!("more than {TEMPLATES_CHAINED_MAX} templates are each like the next"),
            false => format!("the template `{name}` is like itself"),
        };
        let found = Diagnostic::error("template-cycle", at, message);
        self.faults.push(found.label("leads back").hint("take this `like` away, or the one that leads here"));
    }

    /// A template with what it takes over.
    fn flat(&mut self, name: &str, item: Item<'i>, chained: usize) -> Option<DeTable<'i>> {
        if !item.get_ref().is_table() {
            self.faults.push(wrong_type(name, "a table", &item));
        }
        let DeValue::Table(mut table) = item.into_inner() else { return None };
        if let Some(like) = table.remove("like") {
            let other = self.template(&like, chained + 1)?;
            let once = is_tried_once(&table);
            self.merge(&mut table, &other, None, &like.span());
            if once && other.contains_key("retry") {
                table.remove("retry");
            }
        }
        Some(table)
    }

    /// A template by itself, as a step.
    fn alone(&mut self, name: &Key<'i>) -> Option<(Key<'i>, Item<'i>)> {
        let like = Spanned::new(name.span(), DeValue::String(name.get_ref().clone()));
        let was_used = self.used_templates.contains(name.get_ref().as_ref());
        let template = self.template(&like, 0);
        if !was_used {
            self.used_templates.remove(name.get_ref().as_ref());
        }
        let mut table = DeTable::clone(&*template?);
        let vars = self.take_table(&mut table, "vars", "write a table `vars = { NAME = … }`");
        self.frames.extend(vars.clone().map(Frame::of));
        self.is_lenient = true;
        self.values_of(Table::Step, &mut table);
        self.is_lenient = false;
        if vars.is_some() {
            self.frames.pop();
        }
        // Steps within it are looked at where they are taken over.
        for key in ["steps", "always"] {
            table.remove(key);
        }
        Some((name.clone(), Spanned::new(name.span(), DeValue::Table(table))))
    }

    /// Lays a table under another: what that does not say, it has from here.
    fn merge(&mut self, over: &mut DeTable<'i>, from: &DeTable<'i>, copy: Option<usize>, at: &Range<usize>) {
        for (key, value) in from.iter() {
            match over.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut) {
                Some(DeValue::Table(own)) => {
                    if let DeValue::Table(theirs) = value.get_ref() {
                        self.merge(own, theirs, copy, at);
                    }
                }
                Some(_) => (),
                None => {
                    let Some(value) = self.copied(value, copy, at) else { return };
                    over.insert(self.key(key, copy), value);
                }
            }
        }
    }

    fn key(&self, key: &Key<'i>, copy: Option<usize>) -> Key<'i> {
        match copy {
            Some(copy) => Spanned::new(self.origins.within(copy, &key.span()), key.get_ref().clone()),
            None => key.clone(),
        }
    }

    /// A value with the places of a copy, unless that gets too much.
    pub(super) fn copied(&mut self, item: &Item<'i>, copy: Option<usize>, at: &Range<usize>) -> Option<Item<'i>> {
        let is_rewritten = self.origins.is_rewritten(&item.span());
        self.charge(
            match item.get_ref() {
                DeValue::Table(_) => TABLE_BYTES,
                DeValue::String(text) if is_rewritten => VALUE_BYTES + text.len() * REWRITTEN_BYTE_BYTES,
                DeValue::String(text) => VALUE_BYTES + text.len(),
                _ => VALUE_BYTES,
            },
            at,
        )?;
        let span = copy.map_or(item.span(), |copy| self.origins.within(copy, &item.span()));
        let value = match item.get_ref() {
            DeValue::Table(table) => {
                let mut copied = DeTable::new();
                for (key, value) in table.iter() {
                    copied.insert(self.key(key, copy), self.copied(value, copy, at)?);
                }
                DeValue::Table(copied)
            }
            DeValue::Array(items) => {
                let mut copied = items.clone();
                for item in copied.iter_mut() {
                    *item = self.copied(item, copy, at)?;
                }
                DeValue::Array(copied)
            }
            value => {
                self.origins.rewrite_as(&item.span(), &span);
                value.clone()
            }
        };
        Some(Spanned::new(span, value))
    }

    /// Counts what is taken over. `None` once it is too much.
    pub(super) fn charge(&mut self, bytes: usize, at: &Range<usize>) -> Option<()> {
        let before = self.taken_over;
        self.taken_over = before.saturating_add(bytes);
        if self.taken_over <= TAKEN_OVER_BYTES_MAX {
            return Some(());
        }
        if before <= TAKEN_OVER_BYTES_MAX {
            let mib = TAKEN_OVER_BYTES_MAX >> 20;
            let message = format!("what is taken over from templates, defaults and vars is more than {mib} MiB");
            self.faults.push(Diagnostic::error("too-large", at.clone(), message).label("here it gets too much"));
        }
        None
    }
}

/// Whether it says that it is tried but once.
fn is_tried_once(step: &DeTable<'_>) -> bool {
    let retry = step.get("retry").and_then(|retry| retry.get_ref().as_table());
    let attempts = retry.and_then(|retry| retry.get("attempts")).map(Spanned::get_ref);
    matches!(attempts, Some(DeValue::Integer(number)) if number.radix() == 10 && number.as_str() == "1")
}

/// Text of its own.
pub(super) fn text(content: String) -> DeValue<'static> {
    DeValue::String(Cow::Owned(content))
}
