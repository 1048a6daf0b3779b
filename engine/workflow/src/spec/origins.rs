//! Where the words stand that a file says for short: a value that a step has from a template, from `[defaults]` or from
//! `[vars]` is a copy, and a fault in it is shown where it was written, and where it was taken over.
//!
//! Each copy has an address space of its own behind the text: byte `n` of copy `k` is `k` times the text's length and `n`.
//! So every place in the mirror is still one span, no two values have the same one, and those who judge need not know.

use std::collections::HashMap;
use std::ops::Range;

use super::Place;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// Of the text and its end. 0: nothing is copied.
    len: usize,
    /// Each copy, from number 1.
    copies: Vec<Copy>,
    /// The strings whose content is not what their literal means, by their first byte: where their bytes stand, or nothing
    /// if something in them is wrong, and told.
    rewritten: HashMap<usize, Option<Place>>,
}

/// Words that stand in one place and count in another as well.
#[derive(Clone, Debug)]
struct Copy {
    /// What asks for them. It may itself be part of a copy.
    at: Range<usize>,
    /// What is to be said there.
    label: &'static str,
    /// The template that they come from, if any.
    template: Option<String>,
}

impl Origins {
    /// Of a text so long.
    pub(super) fn of(text: &str) -> Origins {
        Origins { len: text.len() + 1, ..Origins::default() }
    }

    /// A new copy: its number.
    pub(super) fn copy(&mut self, at: Range<usize>, label: &'static str, template: Option<&str>) -> usize {
        self.copies.push(Copy { at, label, template: template.map(str::to_owned) });
        self.copies.len()
    }

    /// A place in a copy.
    pub(super) fn within(&self, copy: usize, span: &Range<usize>) -> Range<usize> {
        let start = copy * self.len + span.start % self.len;
        start..start + span.len()
    }

    /// Where it is written.
    pub(crate) fn written(&self, span: &Range<usize>) -> Range<usize> {
        match self.len {
            0 => span.clone(),
            len => span.start % len..span.start % len + span.len(),
        }
    }

    /// Where it was taken over, the nearest first: places as they are written, and what to say there.
    pub(crate) fn taken_over(&self, span: &Range<usize>) -> impl Iterator<Item = (Range<usize>, &'static str)> {
        self.around(span).map(|copy| (self.written(&copy.at), copy.label))
    }

    /// Whether a place is in something that comes from this template.
    pub(super) fn is_from(&self, span: &Range<usize>, template: &str) -> bool {
        self.around(span).any(|copy| copy.template.as_deref() == Some(template))
    }

    fn around(&self, span: &Range<usize>) -> impl Iterator<Item = &Copy> {
        let copy = |at: usize| at.checked_div(self.len)?.checked_sub(1).and_then(|index| self.copies.get(index));
        std::iter::successors(copy(span.start), move |inner| copy(inner.at.start))
    }

    /// Whether nothing is copied, and nothing rewritten.
    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.rewritten.is_empty()
    }

    /// Says where the bytes of a rewritten string stand; nothing if it is wrong.
    pub(super) fn rewrite(&mut self, span: &Range<usize>, place: Option<Place>) {
        self.rewritten.insert(span.start, place);
    }

    /// Whether this string is.
    pub(crate) fn is_rewritten(&self, span: &Range<usize>) -> bool {
        !self.rewritten.is_empty() && self.rewritten.contains_key(&span.start)
    }

    /// A string that is copied is rewritten as its original is.
    pub(super) fn rewrite_as(&mut self, original: &Range<usize>, copied: &Range<usize>) {
        let Some(place) = self.rewritten.get(&original.start) else { return };
        let (len, base) = (self.len, copied.start / self.len * self.len);
        let place = place.as_ref().map(|place| place.moved(|at| base + at % len));
        self.rewritten.insert(copied.start, place);
    }

    /// Whether something in this string is wrong, and told.
    pub(crate) fn is_faulty(&self, span: &Range<usize>) -> bool {
        !self.rewritten.is_empty() && matches!(self.rewritten.get(&span.start), Some(None))
    }

    /// The place of a string's content; `None` if something in it is wrong, and told.
    pub(crate) fn place(&self, source: &str, span: &Range<usize>, content: &str) -> Option<Place> {
        if let Some(place) = self.rewritten.get(&span.start).filter(|_| !self.rewritten.is_empty()) {
            return place.clone();
        }
        let written = self.written(span);
        let base = span.start - written.start;
        let place = Place::of(source, &written, content);
        Some(if base == 0 { place } else { place.moved(|at| base + at) })
    }
}
