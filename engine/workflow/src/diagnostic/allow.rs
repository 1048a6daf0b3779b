//! Warnings that an author has looked at and lets stand: `# downbeat: allow CODE, CODE` at the end of the line that the warning
//! points at, or on a line of its own before it. It is a comment, as it says something about the text and nothing about what is
//! run. Errors can't be let stand. One that lets nothing stand is told, so that none outlives its reason.

use std::collections::HashMap;

use super::{Code, Diagnostic, Lines, sort};
use crate::spec::Source;

/// What such a comment begins with, after its `#`; between that and what follows, blanks don't matter.
const MARK: &str = "downbeat:";

/// A code in such a comment.
struct Allowed<'s> {
    code: &'s str,
    /// The bytes of the source.
    at: usize,
    /// The line that it speaks of, from 0.
    line: usize,
    is_used: bool,
}

/// Leaves out what is let stand. What lets nothing stand is told only if all checks were made (`is_whole`).
pub(crate) fn allow(source: &Source, mut found: Vec<Diagnostic>, is_whole: bool) -> Vec<Diagnostic> {
    if !source.text.contains(MARK) {
        return found;
    }
    let lines = Lines::of(&source.text);
    let mut allowed = allowances(&source.text);
    let by_line: HashMap<(usize, &str), usize> =
        allowed.iter().enumerate().map(|(at, allowed)| ((allowed.line, allowed.code), at)).collect();
    found.retain(|found| {
        let line = lines.line(found.span.start.min(source.text.len()));
        match by_line.get(&(line, found.code)).filter(|_| !found.is_error()) {
            Some(at) => {
                allowed[*at].is_used = true;
                false
            }
            None => true,
        }
    });
    let is_whole = is_whole && !found.iter().any(Diagnostic::is_error);
    for allowed in allowed.iter().filter(|allowed| is_whole && !allowed.is_used) {
        let span = allowed.at..allowed.at + allowed.code.len();
        let message = match Code::find(allowed.code) {
            Some(_) => format!("there is no warning `{}` to be allowed here", allowed.code),
            None => format!("there is no diagnostic `{}`", allowed.code),
        };
        let hint = "the comment stands on the line that the warning points at, or on its own before it";
        found.push(Diagnostic::warning("useless-allow", span, message).label("has no effect").hint(hint));
    }
    sort(&mut found);
    found
}

/// Where the codes begin in a line with such a comment.
fn mark(line: &str) -> Option<usize> {
    line.match_indices(MARK).find_map(|(at, _)| {
        let is_first = line[..at].trim_end().ends_with('#');
        let codes = line[at + MARK.len()..].trim_start().strip_prefix("allow")?;
        (is_first && codes.starts_with([' ', '\t'])).then_some(line.len() - codes.len())
    })
}

fn allowances(text: &str) -> Vec<Allowed<'_>> {
    let mut all: Vec<Allowed<'_>> = Vec::new();
    // Those on lines of their own speak of the next line that is no comment.
    let mut open = 0;
    let mut start = 0;
    for (line, whole) in text.split_inclusive('\n').enumerate() {
        let is_comment = whole.trim_start().starts_with('#');
        if !is_comment {
            all[open..].iter_mut().for_each(|allowed| allowed.line = line);
        }
        if let Some(mut at) = mark(whole) {
            // What follows in brackets is the reason.
            for part in whole[at..].split('(').next().unwrap_or_default().split(',') {
                let code = part.split_whitespace().next().unwrap_or_default();
                let place = start + at + (part.len() - part.trim_start().len());
                all.push(Allowed { code, at: place, line, is_used: false });
                at += part.len() + 1;
            }
        }
        if !is_comment {
            open = all.len();
        }
        start += whole.len();
    }
    all
}
