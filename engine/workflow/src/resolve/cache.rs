//! Whether a step's answers may be kept: its grants decide, and what else of it says that it is more than a computation.

use std::ops::Range;

use crate::capability::Grants;
use crate::diagnostic::{Collector, Diagnostic};
use crate::spec::{GrantSpec, Spanned, StepSpec};

/// Whether the cache is asked for the answers of a step with `use`. `grants` are those that remain: what its component does
/// not want is not given, and stands in nobody's way.
pub(super) fn judge(spec: &StepSpec, grants: &Grants, out: &mut Collector) -> bool {
    let Some(cache) = spec.cache.as_ref().filter(|cache| *cache.get_ref()) else { return false };
    if let Some((grant, reason)) = grants.impurity() {
        let message = format!("the answers of a step with the grant `{grant}` can't be kept: {reason}");
        let found = Diagnostic::error("impure-cache", cache.span(), message).label("needs a step that only computes");
        let hint = match grant {
            "files" => "grant the directory without `write`, or leave out `cache`".to_owned(),
            grant => format!("take `{grant}` from its `grant`, or leave out `cache`"),
        };
        let found = found.hint(hint);
        out.push(match place(&spec.grant, grant) {
            Some(span) => found.also(span, "this grant"),
            None => found,
        });
    }
    if let Some(undo) = &spec.undo {
        let message = "what only computes leaves nothing behind that `undo` could take back";
        let found = Diagnostic::error("impure-cache", cache.span(), message).label("`cache` and `undo`");
        out.push(found.also(undo.0.clone(), "the other").hint("leave out one of them"));
    }
    true
}

/// Where a grant stands.
fn place(spec: &GrantSpec, grant: &str) -> Option<Range<usize>> {
    match grant {
        "process" => spec.process.as_ref().map(Spanned::span),
        "http" => spec.http.as_ref().map(Spanned::span),
        "files" => {
            let files = spec.files.as_ref()?;
            files.get_ref().iter().find(|file| file.write).map(|file| file.path.span())
        }
        "workspace" => spec.workspace.as_ref().map(Spanned::span),
        "clock" => spec.clock.as_ref().map(Spanned::span),
        "random" => spec.random.as_ref().map(Spanned::span),
        "artifacts" => spec.artifacts.as_ref().map(Spanned::span),
        "secrets" => spec.secrets.as_ref().map(Spanned::span),
        _ => None,
    }
}
