//! Names that somebody gives and that there are not: what is said then is what was given, and what there is.

use downbeat_workflow::diagnostic::nearest_first;
use downbeat_workflow::text::visible;

use crate::exit::{Exit, Fault};

/// How many names are told: the nearest. A screen has some twenty lines.
const NAMES_TOLD_MAX: usize = 12;

/// There is nothing of this kind that is called so.
pub(crate) fn unknown<'n>(kind: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> Fault {
    let fault = Fault::new(Exit::Usage, format!("there is no {kind} `{name}`"));
    match there_are(name, known) {
        Some(there_are) => fault.hint(there_are),
        None => fault.hint(format!("there is no {kind} at all")),
    }
}

/// The names that there are in a sentence, the nearest first; `None` if there are none.
fn there_are<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let names = nearest_first(name, known);
    let told: Vec<String> =
        names.iter().take(NAMES_TOLD_MAX).map(|name| format!("`{}`", visible(name, false))).collect();
    match (told.as_slice(), names.len().saturating_sub(NAMES_TOLD_MAX)) {
        ([], _) => None,
        ([only], _) => Some(format!("there is {only}")),
        (_, 0) => Some(format!("there are {}", told.join(", "))),
        (_, more) => Some(format!("there are {} and {more} more", told.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_told_first_and_of_many_a_few() {
        let fault = unknown("step", "bild", ["deploy", "build", "test", "Build"]);
        assert_eq!(fault.message, "there is no step `bild`");
        assert_eq!(fault.hint.unwrap(), "there are `Build`, `build`, `test`, `deploy`");
        assert_eq!(unknown("step", "a", ["b"]).hint.unwrap(), "there is `b`");
        assert_eq!(unknown("step", "a", []).hint.unwrap(), "there is no step at all");
        let many: Vec<String> = (10..40).map(|n| n.to_string()).collect();
        let hint = unknown("step", "39", many.iter().map(String::as_str)).hint.unwrap();
        assert!(hint.starts_with("there are `39`, ") && hint.ends_with(" and 18 more"), "{hint}");
    }
}
