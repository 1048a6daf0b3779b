//! Diagnostics: what is wrong with a workflow file, where, and what to do about it.
//!
//! Every stage that reads the file ([`spec`](crate::spec), [`resolve`](crate::resolve)) collects all that it finds; here
//! is what a finding is, how it is shown to a person and how to a machine. The findings themselves, with their codes
//! and words, are made beside the checks that make them.

mod allow;
mod code;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::spec::{Origins, Source};
use crate::text::visible;

pub(crate) use allow::allow;
pub use code::{CODES, CODES_OF_POLICIES, CODES_OF_TESTS, Code};

/// How many diagnostics of one file are kept. A thousand is more than anybody reads; a generated file with a fault in
/// each of its 100,000 steps shall not fill the memory and the screen. What is over it is counted.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// How many names a hint lists. 8 fit into a line.
const NAMES_LISTED: usize = 8;

/// How far apart, in lines, two places of one diagnostic may be to be shown in one picture.
const NEAR_LINES: usize = 12;

/// How much of a file, in bytes, one picture is made of. The renderer looks at all that it is given, and a line may be as
/// long as the file: of what is longer, [`CUT_BYTES`] before and after the place are shown.
const PICTURE_BYTES_MAX: usize = 16 << 10;

/// See [`PICTURE_BYTES_MAX`]. A terminal's line is some hundred bytes, and it is cut to that anyway.
const CUT_BYTES: usize = 512;

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// There is no plan.
    Error,
    /// There is one, but it may not mean what its author thinks.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How serious.
    pub severity: Severity,
    /// Its kind, one of [`Code::all`]; stable, for machines and searches.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Where: bytes of the source.
    pub span: Range<usize>,
    /// What to say at that place; may be empty.
    pub label: String,
    /// What to do, if there is something better to say than the message's opposite.
    pub hint: Option<String>,
    /// Other places that belong to it, and what to say there.
    pub secondary: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    /// An error at this place.
    pub fn error(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        debug_assert!(Code::find(code).is_some(), "`{code}` has no page: see `diagnostic/code.rs`");
        let message = message.into();
        Diagnostic {
            severity: Severity::Error,
            code,
            message,
            span,
            label: String::new(),
            hint: None,
            secondary: vec![],
        }
    }

    /// A warning at this place.
    pub fn warning(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// With these words at its place.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// With a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// With a hint, if there is one.
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Diagnostic {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// With another place.
    pub fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Diagnostic {
        self.secondary.push((span, label.into()));
        self
    }

    /// Whether it prevents a plan.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// In how many places a fault in words that are taken over is shown beside its own. Three: one knows then whom it concerns,
/// the others are counted.
const TAKEN_OVER_SHOWN_MAX: usize = 3;

/// Collects diagnostics, up to [`DIAGNOSTICS_MAX`].
#[derive(Debug, Default)]
pub struct Collector {
    kept: Vec<Diagnostic>,
    /// Where words that are taken over stand.
    origins: Arc<Origins>,
    /// Those that speak of such words, by place, kind and message: which it is of `kept`, and how often it was told.
    taken_over: HashMap<(usize, &'static str, String), (usize, usize)>,
    errors: usize,
    over: usize,
    names: usize,
}

impl Collector {
    /// One for a text whose words stand there.
    pub(crate) fn over(origins: Arc<Origins>) -> Collector {
        Collector { origins, ..Collector::default() }
    }

    /// Counts an error that has been told.
    pub(crate) fn has_been_told(&mut self) {
        self.errors += 1;
    }

    /// Adds one.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.is_error());
        if !self.origins.is_empty() && self.is_another(&mut diagnostic) {
            return;
        }
        if self.kept.len() < DIAGNOSTICS_MAX {
            self.kept.push(diagnostic);
        } else {
            self.over += 1;
        }
    }

    /// Brings its places to where the words stand. Whether it is one that has been told, of words that several take over.
    fn is_another(&mut self, diagnostic: &mut Diagnostic) -> bool {
        let mut takers = self.origins.taken_over(&diagnostic.span).map(|(span, label)| (span, label.to_owned()));
        let nearest = takers.next();
        let is_taken_over = nearest.is_some();
        let farther: Vec<_> = takers.collect();
        diagnostic.span = self.origins.written(&diagnostic.span);
        for (span, _) in &mut diagnostic.secondary {
            *span = self.origins.written(span);
        }
        let key = (diagnostic.span.start, diagnostic.code, diagnostic.message.clone());
        let Some((index, count)) = self.taken_over.get_mut(&key) else {
            diagnostic.secondary.extend(nearest.into_iter().chain(farther));
            self.taken_over.insert(key, (self.kept.len(), usize::from(is_taken_over)));
            return false;
        };
        let Some((known, (span, label))) = self.kept.get_mut(*index).zip(nearest) else { return is_taken_over };
        *count += 1;
        if *count <= TAKEN_OVER_SHOWN_MAX {
            known.secondary.push((span, label));
        } else if let Some((_, last)) = known.secondary.last_mut() {
            let one = last.split(", and in ").next().unwrap_or_default();
            let more = *count - TAKEN_OVER_SHOWN_MAX;
            *last = format!("{one}, and in {more} more place{}", if more == 1 { "" } else { "s" });
        }
        true
    }

    /// How many errors there were, also if they were not kept.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// The name among `known` that `name` may have been meant to be, as a hint. Comparing with all names costs time, so
    /// that after a hundred hints in one file there are no more.
    pub fn suggest<'a>(&mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
        self.names += 1;
        if self.names > 100 {
            return None;
        }
        near(name, known)
    }

    /// As [`Collector::suggest`]; if none is near, those that there are, as far as they are few enough to be read.
    pub fn suggest_or_list<'a>(
        &mut self,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Option<String> {
        self.names += 1;
        if self.names > 100 { None } else { near_or_all(name, known) }
    }

    /// Sorted by place. The last says how many were left out, if any.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        sort(&mut self.kept);
        if self.over > 0 {
            let words = format!("there are {} more diagnostics", self.over);
            let end = self.kept.last().map_or(0..0, |last| last.span.clone());
            self.kept.push(match self.errors {
                0 => Diagnostic::warning("too-many-diagnostics", end, words),
                _ => Diagnostic::error("too-many-diagnostics", end, words),
            });
        }
        self.kept
    }
}

/// Brings diagnostics into the order of the places that they speak of.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|found| (found.span.start, found.span.end, found.severity));
}

fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    did_you_mean(name, known).map(|known| format!("did you mean `{known}`?"))
}

/// As a hint, the name that may have been meant; if none is near, those that there are, as far as a line has room for them.
pub fn near_or_all<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    near(name, known.clone()).or_else(|| {
        let names: Vec<String> = known.into_iter().take(NAMES_LISTED + 1).map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => None,
            count if count > NAMES_LISTED => Some(format!("there are {} and others", names[..NAMES_LISTED].join(", "))),
            1 => Some(format!("there is {}", names[0])),
            _ => Some(format!("there are {}", names.join(", "))),
        }
    })
}

/// The name among `known` that is nearest to `name`, if it is near: at most a third of its letters differ.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let far = (length / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        if candidate.len().abs_diff(name.len()) > far * 4 || candidate == name {
            continue;
        }
        let distance = match candidate.eq_ignore_ascii_case(name) {
            true => 0,
            false => strsim::damerau_levenshtein(name, candidate),
        };
        if distance <= far && distance < length && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// All names that there are, those first that are nearest to a name that there is not.
pub fn nearest_first<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut names: Vec<(usize, &str)> =
        known.into_iter().map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|(_, known)| known).collect()
}

/// For a terminal or a log: each diagnostic with the line that it speaks of, and its hint on a line of its own.
pub fn render(diagnostics: &[Diagnostic], source: &Source, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let lines = Lines::of(&source.text);
    let mut sorted = diagnostics.to_vec();
    sort(&mut sorted);
    let mut text = String::new();
    for (at, diagnostic) in sorted.iter().enumerate() {
        // What there is to do about several in a row is said once, behind the last of them.
        let is_said_behind =
            sorted.get(at + 1).is_some_and(|next| next.hint == diagnostic.hint && next.code == diagnostic.code);
        let hint = diagnostic.hint.as_deref().filter(|_| !is_said_behind).map(printable);
        let mut groups = vec![picture(diagnostic, source, &lines)];
        if let Some(hint) = &hint {
            groups.push(Group::with_title(Level::HELP.with_name("hint").secondary_title(hint.as_str())));
        }
        text.push_str(&renderer.render(&groups));
        text.push_str("\n\n");
    }
    text
}

/// Something to point at, and what to say there.
type Place<'a> = (AnnotationKind, Range<usize>, &'a str);

/// The diagnostic's title and the lines that it speaks of. Only those are handed to the renderer, which looks at each
/// line that it is given: a file may have a million.
fn picture<'a>(diagnostic: &'a Diagnostic, source: &'a Source, lines: &Lines) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // By its first line, each with its last line.
    let mut windows: BTreeMap<usize, (usize, Vec<Place<'_>>)> = BTreeMap::new();
    let primary = (AnnotationKind::Primary, diagnostic.span.clone(), diagnostic.label.as_str());
    let secondary =
        diagnostic.secondary.iter().map(|(span, label)| (AnnotationKind::Context, span.clone(), label.as_str()));
    let primary_line = lines.line(lines.within(&source.text, &diagnostic.span).start);
    for (kind, span, label) in std::iter::once(primary).chain(secondary) {
        let span = lines.within(&source.text, &span);
        let (first, last) = (lines.line(span.start), lines.line(span.end));
        let file = lines.line(source.file(span.start).1.start);
        let near = windows.iter().find(|(from, (to, inside))| {
            let is_same = lines.line(source.file(inside[0].1.start).1.start) == file;
            is_same && first <= to + NEAR_LINES && last + NEAR_LINES >= **from
        });
        match near.map(|(from, _)| *from) {
            Some(from) => {
                let (to, mut inside) = windows.remove(&from).expect("it was just found");
                inside.push((kind, span, label));
                windows.insert(from.min(first), (to.max(last), inside));
            }
            None => drop(windows.insert(first, (last, vec![(kind, span, label)]))),
        }
    }
    // The place itself comes first, wherever the others are.
    let mut windows: Vec<_> = windows.into_iter().collect();
    windows.sort_by_key(|(from, (to, _))| (!(*from..=*to).contains(&primary_line), *from));
    let mut group = Group::with_title(level.primary_title(printable(&diagnostic.message)).id(diagnostic.code));
    for (from, (to, mut inside)) in windows {
        let mut range = lines.range(&source.text, from, to);
        let (file, text) = source.file(inside[0].1.start);
        let above = lines.line(text.start);
        let mut snippet_from = from;
        let mut path = Some(file);
        if range.len() > PICTURE_BYTES_MAX {
            let place = &inside[0].1;
            let (start, (line, column)) = (place.start, lines.position(&source.text, place.start));
            let cut = start.saturating_sub(CUT_BYTES)..place.end.min(start + CUT_BYTES) + CUT_BYTES;
            range = lines.within(&source.text, &(cut.start.max(range.start)..cut.end.min(range.end)));
            inside.retain(|(_, span, _)| range.start <= span.start && span.start <= range.end);
            inside.iter_mut().for_each(|(_, span, _)| span.end = span.end.min(range.end));
            snippet_from = lines.line(range.start);
            // Columns are counted from the line's start, which is not shown.
            path = None;
            group = group.element(Origin::path(file).line(line - above).char_column(column));
        }
        let snippet = Snippet::source(&source.text[range.clone()]).path(path).line_start(snippet_from + 1 - above);
        group = group.element(snippet.annotations(inside.into_iter().map(|(kind, span, label)| {
            let span = span.start - range.start..span.end - range.start;
            let label = printable(label);
            kind.span(span).label((!label.is_empty()).then_some(label))
        })));
    }
    group
}

/// Names and values of the file are quoted in messages, and shall not move the cursor.
fn printable(text: &str) -> String {
    visible(text, false).into_owned()
}

/// A diagnostic with its place in lines and columns, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line of the first character after it.
    pub end_line: usize,
    /// The column of the first character after it.
    pub end_column: usize,
    /// How serious.
    pub severity: Severity,
    /// Its kind.
    pub code: &'static str,
    /// Where that kind is described: a file of the project, also shown by `downbeat check --explain CODE`.
    pub docs: String,
    /// What is wrong.
    pub message: String,
    /// What to say at the place.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// For a machine: in the order of their places.
pub fn findings(diagnostics: &[Diagnostic], source: &Source) -> Vec<Finding> {
    let lines = Lines::of(&source.text);
    let mut sorted = diagnostics.to_vec();
    sort(&mut sorted);
    let finding = |diagnostic: Diagnostic| {
        let span = lines.within(&source.text, &diagnostic.span);
        let (line, column) = lines.position(&source.text, span.start);
        let (end_line, end_column) = lines.position(&source.text, span.end);
        let (file, text) = source.file(span.start);
        let above = lines.line(text.start);
        Finding {
            file: file.to_owned(),
            line: line - above,
            column,
            end_line: end_line - above,
            end_column,
            severity: diagnostic.severity,
            code: diagnostic.code,
            docs: Code::find(diagnostic.code).map(Code::docs).unwrap_or_default(),
            message: diagnostic.message,
            label: diagnostic.label,
            hint: diagnostic.hint,
        }
    };
    sorted.into_iter().map(finding).collect()
}

/// Where each line starts.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        Lines(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line of this byte, from 0.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Line and column of this byte, both from 1.
    fn position(&self, text: &str, at: usize) -> (usize, usize) {
        let line = self.line(at);
        (line + 1, text[self.0[line]..at].chars().count() + 1)
    }

    /// The bytes of these lines.
    fn range(&self, text: &str, from: usize, to: usize) -> Range<usize> {
        self.0[from]..self.0.get(to + 1).copied().unwrap_or(text.len())
    }

    /// The span, if need be moved to lie within the text and between characters.
    fn within(&self, text: &str, span: &Range<usize>) -> Range<usize> {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let text =
            "name = \"x\"\n\n[steps.ä]\nuse = \"b\"\n".to_owned() + &"# far\n".repeat(40) + "[steps.z]\nuse = 1\n";
        Source::new("w.toml", text)
    }

    #[test]
    fn a_diagnostic_quotes_its_line_and_hints_below() {
        let source = source();
        let at = source.text.find("\"b\"").expect("it is there");
        let found = Diagnostic::error("unknown-plugin", at..at + 3, "there is no plugin `b`")
            .label("not in `[plugins]`")
            .hint("did you mean `a`?\u{1b}[31m");
        let expected = "\
error[unknown-plugin]: there is no plugin `b`
 --> w.toml:4:7
  |
4 | use = \"b\"
  |       ^^^ not in `[plugins]`
  |
hint: did you mean `a`?\\u{1b}[31m

";
        assert_eq!(render(&[found], &source, false), expected);
    }

    #[test]
    fn a_line_as_long_as_the_file_is_cut_around_the_place() {
        let (before, after) = ("\"x\", ".repeat(1_000_000), ", \"ä\"".repeat(1_000_000));
        let text = format!("name = \"x\"\nneeds = [{before}\"nope\"{after}]\n");
        let at = text.find("\"nope\"").expect("it is there");
        let found =
            Diagnostic::error("unknown-step", at..at + 6, "no such step").label("here").also(20..23, "far away");
        let picture = render(&[found], &Source::new("w.toml", text), false);
        assert!(picture.contains("w.toml:2:5000010"), "{picture}");
        assert!(picture.contains("\"nope\"") && picture.contains("here"), "{picture}");
        assert!(picture.len() < 4 * CUT_BYTES, "{} bytes", picture.len());
    }

    #[test]
    fn far_places_are_shown_apart_and_the_first_place_first() {
        let source = source();
        let (a, z) = (source.text.find("steps.ä").expect("a"), source.text.find("steps.z").expect("z"));
        let found = Diagnostic::warning("unused", z..z + 7, "two of them").label("this").also(a..a + 8, "and that");
        let text = render(&[found], &source, false);
        assert!(text.find("this") < text.find("and that"), "{text}");
        assert!(text.contains(":45:2") && text.contains(":3:2"), "{text}");
        assert!(!text.contains("far"), "{text}");
    }

    #[test]
    fn findings_count_lines_and_characters_from_one() {
        let source = source();
        let at = source.text.find("]\nuse = \"b\"").expect("it is there");
        let finding = &findings(&[Diagnostic::error("unknown-step", at..at + 1, "m")], &source)[0];
        assert_eq!((finding.line, finding.column, finding.end_line, finding.end_column), (3, 9, 3, 10));
        let json = serde_json::to_value(finding).expect("it is plain data");
        assert_eq!(json["severity"], "error");
        assert_eq!(json["end-column"], 10);
    }

    #[test]
    fn spans_outside_the_text_are_moved_into_it() {
        let source = source();
        let found = Diagnostic::error("unknown-step", 1_000_000..2_000_000, "m");
        render(std::slice::from_ref(&found), &source, true);
        findings(&[found], &source);
        let empty = Source::new("w.toml", String::new());
        render(&[Diagnostic::error("unknown-step", 5..9, "m")], &empty, false);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["build", "test", "kpi-gate", "a"];
        assert_eq!(did_you_mean("biuld", known), Some("build"));
        assert_eq!(did_you_mean("Test", known), Some("test"));
        assert_eq!(did_you_mean("kpi_gate", known), Some("kpi-gate"));
        assert_eq!(did_you_mean("b", known), None);
        assert_eq!(did_you_mean("deploy", known), None);
    }

    #[test]
    fn a_hint_to_several_in_a_row_is_given_once_behind_them() {
        let found = |at: usize, hint: &str| Diagnostic::error("unknown-step", at..at + 1, "m").hint(hint);
        let text = render(&[found(0, "a"), found(1, "a"), found(2, "b"), found(3, "a")], &source(), false);
        let hints: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("hint: ")).collect();
        assert_eq!(hints, ["a", "b", "a"]);
        assert!(text.find("hint: a") > text.find("w.toml:1:2"), "{text}");
    }

    #[test]
    fn a_flood_of_diagnostics_is_cut_and_counted() {
        let mut collector = Collector::default();
        for at in 0..DIAGNOSTICS_MAX + 7 {
            collector.push(Diagnostic::error("unknown-step", at..at, "m"));
        }
        let all = collector.finish();
        assert_eq!(all.len(), DIAGNOSTICS_MAX + 1);
        assert_eq!(all[DIAGNOSTICS_MAX].message, "there are 7 more diagnostics");
    }
}
