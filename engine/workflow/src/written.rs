//! Where in the workflow's text the parts of a plan are written: for people, so that whoever is told of a grant is told which
//! line to edit. Nothing that a run does depends on it.
//!
//! The lines of grants are kept with the plan, as audits ask for them long after the run. The journal holds a plan's text against
//! its digest, so that a line that moves makes another digest; whoever asks whether two plans do the same asks
//! [`Plan::does_the_same`](crate::plan::Plan::does_the_same), which leaves them out. Other lines are known for as long as the text is at hand.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capability::{Grant, Grants};

/// A line of a file: `release.toml:41`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Written {
    /// The file, from the folder of the workflow that it is of.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl From<String> for Written {
    /// Whatever it says: a plan from elsewhere may say anything.
    fn from(text: String) -> Written {
        match text.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
            Some((file, line)) => Written { file: file.into(), line },
            None => Written { file: text.into(), line: 0 },
        }
    }
}

impl From<Written> for String {
    fn from(written: Written) -> String {
        written.to_string()
    }
}

/// Where a step that runs a component is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Written>", into = "Vec<Written>")]
pub struct Places(Option<Box<Known>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Of each of its grants, in the order of [`Grants::items`].
    grants: Vec<Written>,
    /// Its name.
    step: Option<Written>,
    /// Its limits and its time-out, as far as they are written.
    limits: Vec<(&'static str, Written)>,
}

impl Places {
    /// Those of a step: of its grants in the order of [`Grants::items`], of its name, and of its limits by their names.
    pub(crate) fn new(grants: Vec<Written>, step: Written, limits: Vec<(&'static str, Written)>) -> Places {
        Places(Some(Box::new(Known { grants, step: Some(step), limits })))
    }

    /// Whether nothing of it is kept with a plan.
    pub(crate) fn is_untold(&self) -> bool {
        self.0.as_ref().is_none_or(|known| known.grants.is_empty())
    }

    /// Of one of these grants, to which they belong; of a variable that only a program has, of the program's.
    pub fn of(&self, grants: &Grants, grant: &Grant) -> Option<&Written> {
        let known = self.0.as_ref()?;
        let at = grants.items().position(|item| item == *grant).or_else(|| match grant {
            Grant::Env(name) => {
                grants.process.iter().position(|program| program.env.as_ref().is_some_and(|env| env.contains(name)))
            }
            _ => None,
        });
        known.grants.get(at?)
    }

    /// Of the step itself.
    pub fn step(&self) -> Option<&Written> {
        self.0.as_ref()?.step.as_ref()
    }

    /// Of a limit, or of the step's `timeout`.
    pub fn limit(&self, name: &str) -> Option<&Written> {
        self.0.as_ref()?.limits.iter().find(|(known, _)| *known == name).map(|(_, written)| written)
    }

    /// Says that the grant at this place among [`Grants::items`] is taken away.
    pub(crate) fn take(&mut self, at: usize) {
        if let Some(known) = self.0.as_mut().filter(|known| at < known.grants.len()) {
            known.grants.remove(at);
        }
    }
}

impl From<Vec<Written>> for Places {
    fn from(grants: Vec<Written>) -> Places {
        Places((!grants.is_empty()).then(|| Box::new(Known { grants, ..Known::default() })))
    }
}

impl From<Places> for Vec<Written> {
    fn from(places: Places) -> Vec<Written> {
        places.0.map_or_else(Vec::new, |known| known.grants)
    }
}
