//! How a test names steps: by their path in the run, `deploy/push`, `suites[3]`, `poll[0]/ask`, `a.undo`. Without an index,
//! a path stands for all items and rounds. Here paths are read, held against a plan, and found in a run; what is said of
//! the steps is for others.

use std::collections::HashMap;
use std::fmt;

use downbeat_workflow::plan::{BodyId, Plan, ScopeCount, Step, StepId, StepNo};
use downbeat_workflow::run::Run;

/// A path, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPath {
    segments: Vec<Segment>,
    undo: bool,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    name: String,
    index: Option<u32>,
}

/// A step of a plan, or some of its lives in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which of them, and where.
    pub path: StepPath,
    /// What they are in the plan.
    pub no: StepNo,
}

/// What people take for one step of a run: when its scope is tried again, it lives again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its path.
    pub path: String,
    /// One for each time that its scope was opened; at least one.
    pub tries: Vec<StepId>,
}

/// Which step a path without an index means where one opens others of its name: items and rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The one that opens them.
    Whole,
    /// Each of them.
    Each,
}

/// Why a path names no step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misnamed {
    /// What is wrong.
    pub message: String,
    /// What may be meant.
    pub hint: Option<String>,
}

impl StepPath {
    /// Reads a path; `None` if this is none.
    pub fn parse(text: &str) -> Option<StepPath> {
        let (text, undo) = text.strip_suffix(".undo").map_or((text, false), |text| (text, true));
        let segment = |text: &str| {
            let (name, index) = match text.strip_suffix(']') {
                None => (text, None),
                Some(text) => {
                    let (name, index) = text.rsplit_once('[')?;
                    (name, Some(index.parse().ok()?))
                }
            };
            let is_name = !name.is_empty() && !name.contains(['[', ']', '.']);
            is_name.then(|| Segment { name: name.to_owned(), index })
        };
        let segments = text.split('/').map(segment).collect::<Option<Vec<Segment>>>()?;
        Some(StepPath { segments, undo })
    }

    /// Without any index.
    pub fn bare(&self) -> StepPath {
        let bare = |segment: &Segment| Segment { name: segment.name.clone(), index: None };
        StepPath { segments: self.segments.iter().map(bare).collect(), undo: self.undo }
    }

    /// How many indices it has.
    pub fn indices(&self) -> usize {
        self.segments.iter().filter(|segment| segment.index.is_some()).count()
    }

    /// Whether it stands for all that the other one stands for.
    pub fn covers(&self, other: &StepPath) -> bool {
        let covers = |(mine, other): (&Segment, &Segment)| {
            mine.name == other.name && (mine.index.is_none() || mine.index == other.index)
        };
        self.undo == other.undo
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(covers)
    }

    /// The step of the plan that it names.
    pub fn find(&self, plan: &Plan, meaning: Meaning) -> Result<StepNo, Misnamed> {
        let mut body = BodyId(0);
        let mut segments = self.segments.iter().peekable();
        let mut so_far = String::new();
        while let Some(segment) = segments.next() {
            let Some(no) = plan.named_in(body, &segment.name) else {
                let place = if so_far.is_empty() { "the workflow".to_owned() } else { format!("`{so_far}`") };
                return misnamed(format!("{place} has no step `{}`", segment.name));
            };
            let separator = if so_far.is_empty() { "" } else { "/" };
            so_far = format!("{so_far}{separator}{segment}");
            let step = plan.step(no);
            if segment.index.is_some() && !has_items(step) {
                return misnamed(format!("`{}` has neither `foreach` nor `repeat`, and so no index", segment.name));
            }
            let alone = only_step(plan, step);
            if segments.peek().is_none() {
                return self.last(plan, no, alone, segment, meaning);
            }
            match step.opens().filter(|_| alone.is_none()) {
                Some(opens) => body = opens.body,
                None => return misnamed(format!("`{so_far}` has no steps in it")),
            }
        }
        misnamed("this is no path of a step".to_owned())
    }

    fn last(
        &self,
        plan: &Plan,
        no: StepNo,
        alone: Option<StepNo>,
        segment: &Segment,
        meaning: Meaning,
    ) -> Result<StepNo, Misnamed> {
        let is_one = segment.index.is_some() || self.undo || meaning == Meaning::Each;
        let step = alone.filter(|_| is_one).unwrap_or(no);
        if segment.index.is_some() && alone.is_none() {
            let message = format!("`{self}` is all of an item or a round, and no step");
            let first = plan.step(no).opens().and_then(|opens| plan.steps_of(opens.body).next());
            let hint = first.map(|first| format!("its steps are `{self}/{}` …", plan.step(StepNo(first)).name));
            return Err(Misnamed { message, hint });
        }
        match (self.undo, plan.step(step).undo) {
            (false, _) => Ok(step),
            (true, Some(undo)) => Ok(undo),
            (true, None) => misnamed(format!("`{}` has no `undo`", plan.step(step).name)),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

impl fmt::Display for StepPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            write!(f, "{}{segment}", if index > 0 { "/" } else { "" })?;
        }
        f.write_str(if self.undo { ".undo" } else { "" })
    }
}

impl Named {
    /// What there is of it in a run so far, in the order in which it appeared.
    pub fn lives(&self, run: &Run) -> Vec<Life> {
        let mut lives: Vec<Life> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for step in (0..run.scopes().len() as u32).map(StepId).filter(|step| run.scopes().no(*step) == self.no) {
            let path = run.path(step);
            if let Some(place) = places.get(&path) {
                lives[*place].tries.push(step);
            } else if StepPath::parse(&path).is_some_and(|path| self.path.covers(&path)) {
                places.insert(path.clone(), lives.len());
                lives.push(Life { path, tries: vec![step] });
            }
        }
        lives
    }
}

impl Life {
    /// The latest of its tries, which speaks for it.
    pub fn latest(&self) -> StepId {
        *self.tries.last().expect("a life has been there")
    }
}

/// Whether the step has items or rounds.
fn has_items(step: &Step) -> bool {
    step.opens().is_some_and(|opens| !matches!(opens.scopes, ScopeCount::One))
}

/// The step that each item or round is, if they are no blocks.
pub(crate) fn only_step(plan: &Plan, step: &Step) -> Option<StepNo> {
    let opens = step.opens()?;
    let is_step = plan.body(opens.body).is_some_and(|body| body.answer.is_step());
    is_step.then(|| StepNo(plan.steps_of(opens.body).start))
}

/// A path without an index for each step of the plan: the first that leads to it, since a workflow may be opened at many
/// places.
pub fn paths(plan: &Plan) -> Vec<String> {
    let mut paths = vec![String::new(); plan.steps.len()];
    let mut bodies = vec![(BodyId(0), String::new())];
    let mut seen = vec![false; plan.bodies.len() + 1];
    while let Some((body, before)) = bodies.pop() {
        if std::mem::replace(&mut seen[body.index()], true) {
            continue;
        }
        let is_step = plan.body(body).is_some_and(|body| body.answer.is_step());
        for no in plan.steps_of(body).map(StepNo) {
            let step = plan.step(no);
            let path = match (is_step, before.as_str(), step.undoes) {
                (true, before, None) => before.to_owned(),
                (true, before, Some(_)) => format!("{before}.undo"),
                (false, "", _) => step.name.clone(),
                (false, before, _) => format!("{before}/{}", step.name),
            };
            bodies.extend(step.opens().map(|opens| (opens.body, path.clone())));
            paths[no.index()] = path;
        }
    }
    paths
}

/// For each step of the plan whether more than one way leads to it: its workflow is opened at several places, or by itself.
pub(crate) fn shared(plan: &Plan) -> Vec<bool> {
    let mut openers = vec![0; plan.bodies.len() + 1];
    for opens in plan.steps.iter().filter_map(Step::opens) {
        openers[opens.body.index()] += 1;
    }
    let mut shared = vec![false; plan.steps.len()];
    let mut bodies: Vec<BodyId> =
        (0..openers.len()).filter(|body| openers[*body] > 1).map(|body| BodyId(body as u32)).collect();
    while let Some(body) = bodies.pop() {
        for no in plan.steps_of(body).map(StepNo) {
            if !std::mem::replace(&mut shared[no.index()], true) {
                bodies.extend(plan.step(no).opens().map(|opens| opens.body));
            }
        }
    }
    shared
}

fn misnamed<T>(message: String) -> Result<T, Misnamed> {
    Err(Misnamed { message, hint: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_was_written() {
        for text in ["build", "deploy/push", "suites[3]", "poll[0]/ask", "a.undo", "each[1].undo", "a/b[2]/c.undo"] {
            assert_eq!(StepPath::parse(text).map(|path| path.to_string()).as_deref(), Some(text));
        }
        for text in ["", "/", "a/", "a[", "a[]", "a[x]", "a[-1]", "a[1", "a]", "a.b", ".undo", "[1]"] {
            assert_eq!(StepPath::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_without_an_index_covers_those_with_one() {
        let covers = |general: &str, path: &str| {
            StepPath::parse(general).zip(StepPath::parse(path)).is_some_and(|(general, path)| general.covers(&path))
        };
        assert!(covers("a/b", "a[1]/b[2]") && covers("a[1]/b", "a[1]/b[2]") && covers("a.undo", "a[0].undo"));
        assert!(!covers("a[1]", "a") && !covers("a[1]", "a[2]") && !covers("a", "a/b") && !covers("a", "a.undo"));
    }
}
