//! How steps hang together: `needs` as a graph, its cycles, needs that can't happen, and whether one step comes before
//! another.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::{STEPS_MAX, declared, unknown};
use crate::diagnostic::{Collector, Diagnostic, did_you_mean};
use crate::event::NeedState;
use crate::plan::Join;
use crate::spec::{Entries, JoinSpec, Spanned, StepSpec};

/// The words for `join`.
pub(crate) const JOIN_WORDS: &[&str] = &["all", "any", "merge"];

/// The words for `rest`.
pub(crate) const REST_WORDS: &[&str] = &["wait", "cancel"];

/// How many edges are followed at most to find needs that can't happen together. Workflows with a few handlers of
/// failures need a few thousand; one in which all of 100,000 steps have handlers is not worth the seconds, as a need
/// that is never met only skips its step.
const CONTRADICTION_EDGES_MAX: usize = 1_000_000;

/// How many edges are followed at most to find out which step comes before which, beyond what the order's intervals tell
/// at once. When they are used up, the answer is yes: evaluation looks again.
const ORDER_EDGES_MAX: usize = 50_000_000;

/// Whose steps they are.
pub(super) struct Owner {
    /// The table of the step that has them; `None` of the workflow.
    pub(super) path: Option<String>,
    /// Where it is.
    pub(super) span: Range<usize>,
    /// Whether some of them had to be left out.
    pub(super) incomplete: bool,
}

/// One of a step's `needs`.
#[derive(Clone, Debug)]
pub(super) struct NeedAt {
    pub(super) step: usize,
    pub(super) state: NeedState,
    pub(super) span: Range<usize>,
}

pub(super) struct Graph<'a> {
    index: HashMap<&'a str, usize>,
    needs: Vec<Vec<NeedAt>>,
    joins: Vec<Join>,
    /// Whether some of the step's needs are wrong.
    faulty: Vec<bool>,
    order: Option<Order>,
    edges_left: Cell<usize>,
}

/// Of a graph without cycles.
struct Order {
    /// One more than the highest of its needs.
    level: Vec<u32>,
    /// The step's interval in the forest in which every step hangs below the highest of its needs: what contains it is
    /// before it. Long chains, the usual shape of what is asked, are answered by these alone.
    interval: Vec<(u32, u32)>,
    /// Whether a step starts before all its needs have come to their end.
    has_open_needs: bool,
}

impl<'a> Graph<'a> {
    pub(super) fn of(steps: &'a Entries<StepSpec>, owner: Owner, out: &mut Collector) -> Graph<'a> {
        declared::names("step", steps.iter().map(|(name, _)| name), out);
        if steps.len() > STEPS_MAX {
            let message = format!("a workflow has at most {STEPS_MAX} steps, not {}", steps.len());
            out.push(Diagnostic::error("too-large", steps[STEPS_MAX].0.span(), message));
        }
        if steps.iter().all(|(_, step)| step.always) && !owner.incomplete {
            let (whose, table) = match &owner.path {
                None => ("a workflow".to_owned(), "steps.NAME".to_owned()),
                Some(path) => (format!("`{path}`"), format!("{path}.steps.NAME")),
            };
            let found = Diagnostic::error("no-steps", owner.span, format!("{whose} needs at least one step"));
            out.push(found.hint(format!("write a table `[{table}]` for each")));
        }
        let count = steps.len();
        let mut index = HashMap::with_capacity(count);
        for (at, (name, _)) in steps.iter().enumerate() {
            let before = *index.entry(name.get_ref().as_str()).or_insert(at);
            if before != at {
                let message = format!("there is a step `{0}` and an always-step `{0}`", name.get_ref());
                let found = Diagnostic::error("duplicate", name.span(), message).label("the same name");
                out.push(found.also(steps[before].0.span(), "declared here already"));
            }
        }
        let mut graph = Graph {
            index,
            needs: Vec::with_capacity(count),
            joins: vec![Join::All; count],
            faulty: vec![false; count],
            order: None,
            edges_left: Cell::new(ORDER_EDGES_MAX),
        };
        for (at, (_, step)) in steps.iter().enumerate() {
            let needs = step.needs.iter().filter_map(|need| graph.need(steps, at, need, out)).collect();
            graph.needs.push(needs);
        }
        graph.repeated(steps, out);
        for (at, (_, step)) in steps.iter().enumerate() {
            graph.joins[at] = graph.join(at, step, out);
            graph.rest(at, step, out);
        }
        graph.never_skipped(steps, out);
        graph.ended(steps, out);
        graph.order = graph.ordered();
        match graph.order {
            None => graph.cycles(steps, out),
            Some(_) => graph.contradictions(steps, out),
        }
        graph
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn needs(&self, step: usize) -> &[NeedAt] {
        &self.needs[step]
    }

    pub(super) fn joined(&self, step: usize) -> Join {
        self.joins[step]
    }

    pub(super) fn is_faulty(&self, step: usize) -> bool {
        self.faulty[step]
    }

    /// Whether all needs of a step are met when it starts.
    pub(super) fn takes_all(&self, step: usize) -> bool {
        let needs = self.needs[step].len() as u32;
        self.joins[step].least(needs) == needs
    }

    /// How many of a step's needs may come to their end after what is before all of them: a step that comes before one
    /// more than that comes before this one.
    fn open_needs(&self, step: usize) -> usize {
        let needs = self.needs[step].len();
        match self.joins[step] {
            Join::All | Join::Merge => 0,
            join => needs - join.least(needs as u32) as usize,
        }
    }

    /// Whether `first` has come to its end whenever `then` starts.
    pub(super) fn is_before(&self, first: usize, then: usize) -> bool {
        let Some(order) = &self.order else { return self.leads_to(first, then) };
        let ((start, end), (at, _)) = (order.interval[first], order.interval[then]);
        if (start..end).contains(&at) {
            return first != then;
        }
        if !order.has_open_needs {
            return self.leads_to(first, then);
        }
        // From the lowest up: what `first` is before, of all that lies between.
        let mut between = HashSet::from([then]);
        let mut open = vec![then];
        while let Some(step) = open.pop() {
            let Some(left) = self.edges_left.get().checked_sub(self.needs[step].len()) else { return true };
            self.edges_left.set(left);
            let higher = self.needs[step].iter().filter(|need| order.level[need.step] > order.level[first]);
            open.extend(higher.map(|need| need.step).filter(|step| between.insert(*step)));
        }
        let mut between: Vec<usize> = between.into_iter().collect();
        between.sort_unstable_by_key(|step| order.level[*step]);
        let mut after = HashSet::from([first]);
        for step in between {
            // What needs that it has begun does not wait for its end, but comes after all that comes before it.
            let begins = |need: &&NeedAt| need.step == first && need.state == NeedState::Started;
            let needs = self.needs[step].iter().filter(|need| !begins(need));
            let over = needs.filter(|need| after.contains(&need.step)).count();
            if over > self.open_needs(step) {
                after.insert(step);
            }
        }
        first != then && after.contains(&then)
    }

    /// Whether `then` needs `first`, over any number of others and whatever their joins.
    pub(super) fn leads_to(&self, first: usize, then: usize) -> bool {
        let high_enough = |step: usize| self.order.as_ref().is_none_or(|order| order.level[step] > order.level[first]);
        let mut seen = HashSet::from([then]);
        let mut open = vec![then];
        while let Some(step) = open.pop() {
            let edges = self.needs[step].len();
            let Some(left) = self.edges_left.get().checked_sub(edges) else { return true };
            self.edges_left.set(left);
            for need in &self.needs[step] {
                if need.step == first {
                    return true;
                }
                if high_enough(need.step) && seen.insert(need.step) {
                    open.push(need.step);
                }
            }
        }
        false
    }

    /// Reads `build` or `build.failed`.
    fn need(
        &mut self,
        steps: &'a Entries<StepSpec>,
        at: usize,
        need: &'a Spanned<String>,
        out: &mut Collector,
    ) -> Option<NeedAt> {
        let (text, span) = (need.get_ref().as_str(), need.span());
        let (name, state) = match text.split_once('.') {
            None => (text, Some(NeedState::Succeeded)),
            Some((name, state)) => (
                name,
                match state {
                    "succeeded" => Some(NeedState::Succeeded),
                    "failed" => Some(NeedState::Failed),
                    "skipped" => Some(NeedState::Skipped),
                    "finished" => Some(NeedState::Finished),
                    "started" => Some(NeedState::Started),
                    _ => None,
                },
            ),
        };
        let step = self.index(name);
        if let (Some(_), None, Some((_, written))) = (step, state, text.split_once('.')) {
            let alias = match written {
                "success" | "ok" | "done" => Some("succeeded"),
                "failure" | "error" => Some("failed"),
                "always" | "completed" | "ended" => Some("finished"),
                "running" | "begun" | "open" => Some("started"),
                _ => did_you_mean(written, ["succeeded", "failed", "skipped", "finished", "started"]),
            };
            let hint = match alias {
                Some(alias) => format!("did you mean `{name}.{alias}`?"),
                None => "a step is needed as succeeded (the default), failed, skipped, finished or started".to_owned(),
            };
            let message = format!("a step never is `{written}`");
            out.push(Diagnostic::error("unknown-state", span.clone(), message).label("unknown state").hint(hint));
        }
        if step.is_none() {
            let others = steps.iter().enumerate().filter(|(other, _)| *other != at);
            let hint = out.suggest_or_list(name, others.map(|(_, (name, _))| name.get_ref().as_str()));
            let hint = hint.or_else(|| (steps.len() == 1).then(|| "there is no other step here".to_owned()));
            out.push(unknown("step", "unknown-step", name, span.clone(), hint));
        }
        if step == Some(at) {
            let found = Diagnostic::error("self-need", span.clone(), format!("the step `{name}` needs itself"));
            out.push(found.label("never starts"));
        }
        if let Some(needed) = step.filter(|needed| steps[*needed].1.always && !steps[at].1.always) {
            let message = format!("`{}` can't wait for an always-step", steps[at].0.get_ref());
            let found = Diagnostic::error("needs-always", span.clone(), message).label("runs after all steps");
            let hint = "make both steps, or both always-steps: only these may need each other";
            out.push(found.also(steps[needed].0.span(), "an always-step").hint(hint));
            self.faulty[at] = true;
            return None;
        }
        let found = step.zip(state).filter(|(step, _)| *step != at).map(|(step, state)| NeedAt { step, state, span });
        self.faulty[at] |= found.is_none();
        found
    }

    /// Reads `join`.
    fn join(&self, at: usize, step: &StepSpec, out: &mut Collector) -> Join {
        let Some(written) = &step.join else { return Join::All };
        let needs = self.needs[at].len();
        // What is missing among the needs has been told.
        let is_sure = !self.faulty[at] && !step.incomplete;
        let join = match written.get_ref() {
            JoinSpec::Word(word) => match word.as_str() {
                "all" => Join::All,
                "any" => Join::Any,
                "merge" => Join::Merge,
                word => {
                    let alias = match word {
                        "and" | "every" | "all_success" => Some("all"),
                        "or" | "one" | "first" | "one_success" => Some("any"),
                        _ => did_you_mean(word, JOIN_WORDS.iter().copied()),
                    };
                    let hint = match alias {
                        Some(alias) => format!("did you mean `{alias}`?"),
                        None => "a join is `all`, `any`, `merge` or `{ at-least = n }`".to_owned(),
                    };
                    let found = Diagnostic::error("unknown-join", written.span(), format!("there is no join `{word}`"));
                    out.push(found.label("unknown join").hint(hint));
                    return Join::All;
                }
            },
            JoinSpec::AtLeast(least) => {
                if is_sure && needs > 0 && !(1..=needs as i64).contains(least) {
                    let message = format!("`at-least` is 1 to {needs}, as there are so many needs, not {least}");
                    out.push(Diagnostic::error("number-range", written.span(), message).label("can't be counted to"));
                    return Join::All;
                }
                Join::AtLeast((*least).clamp(1, needs.max(1) as i64) as u32)
            }
        };
        if let (Join::AtLeast(least), true) = (join, is_sure) {
            let different: HashSet<usize> = self.needs[at].iter().map(|need| need.step).collect();
            // If all have to be met, that is found as a contradiction.
            if least as usize > different.len() && (least as usize) < self.needs[at].len() {
                let message = format!(
                    "never are {least} of these needs met: a step has one end, and there are {} steps",
                    different.len()
                );
                out.push(Diagnostic::error("dead-join", written.span(), message).label("never met"));
            }
        }
        if is_sure {
            let useless =
                |label: &str| Diagnostic::warning("useless-key", written.span(), label).label("has no effect");
            match join {
                _ if needs == 0 => out.push(useless("without `needs`, there is nothing to join")),
                _ if needs == 1 => out.push(useless("with one need, there is nothing to join")),
                Join::AtLeast(least) if least as usize == needs => {
                    out.push(useless("so many needs there are: this is what holds without `join`"));
                }
                _ => (),
            }
        }
        join
    }

    /// Judges `rest` by itself; whether there is anything to be cancelled is seen once there is a plan.
    fn rest(&self, at: usize, step: &StepSpec, out: &mut Collector) {
        let Some(rest) = &step.rest else { return };
        let useless = |message: &str| Diagnostic::warning("useless-key", rest.span(), message).label("has no effect");
        match rest.get_ref().as_str() {
            "wait" => (),
            "cancel" if step.incomplete || self.faulty[at] => (),
            "cancel" if self.needs[at].is_empty() => out.push(useless("without `needs`, there is no rest")),
            "cancel" if self.joins[at] == Join::Merge => {
                out.push(useless("a `merge` waits until all its needs have come to an end: there is no rest"));
            }
            "cancel" => (),
            word => {
                let hint = match did_you_mean(word, REST_WORDS.iter().copied()) {
                    Some(similar) => format!("did you mean `{similar}`?"),
                    None => "the rest can `wait` (it goes on) or `cancel`".to_owned(),
                };
                let found = Diagnostic::error("unknown-rest", rest.span(), format!("the rest can't `{word}`"));
                out.push(found.label("unknown word").hint(hint));
            }
        }
    }

    /// The same step needed twice: in one state it is superfluous, in two it is impossible.
    fn repeated(&mut self, steps: &Entries<StepSpec>, out: &mut Collector) {
        for at in 0..self.needs.len() {
            let mut first: HashMap<usize, NeedAt> = HashMap::new();
            let mut kept = Vec::with_capacity(self.needs[at].len());
            // Where not all needs have to be met, two states of a step are alternatives.
            let alternatives = steps[at].1.join.as_ref();
            let alternatives = alternatives.is_some_and(|join| *join.get_ref() != JoinSpec::Word("all".to_owned()));
            for need in std::mem::take(&mut self.needs[at]) {
                let Some(before) = first.get(&need.step) else {
                    first.insert(need.step, need.clone());
                    kept.push(need);
                    continue;
                };
                let name = steps[need.step].0.get_ref();
                let either = [before.state, need.state];
                let others = either.into_iter().find(|state| *state != NeedState::Started);
                if alternatives && need.state != before.state {
                    kept.push(need);
                } else if either.contains(&NeedState::Started) && others == Some(NeedState::Finished) {
                    // It ran, and is over: no other state says so.
                    kept.push(need);
                } else if either.contains(&NeedState::Started) && others != Some(NeedState::Skipped) && others.is_some()
                {
                    let (weak, strong) = match need.state {
                        NeedState::Started => (&need, before),
                        _ => (before, &need),
                    };
                    let message = format!("`{name}` is needed twice");
                    let found = Diagnostic::warning("duplicate", weak.span.clone(), message);
                    out.push(found.label("says nothing new").also(strong.span.clone(), "has begun as well by then"));
                    kept.push(need);
                } else if need.state == before.state || either.contains(&NeedState::Finished) {
                    let found =
                        Diagnostic::warning("duplicate", need.span.clone(), format!("`{name}` is needed twice"));
                    out.push(found.label("says nothing new").also(before.span.clone(), "needed here already"));
                    if before.state == NeedState::Finished && need.state != NeedState::Finished {
                        kept.push(need);
                    }
                } else {
                    let message = format!(
                        "`{}` can never start: `{name}` can't be both {} and {}",
                        steps[at].0.get_ref(),
                        state_name(before.state),
                        state_name(need.state),
                    );
                    let found = Diagnostic::error("impossible-need", need.span.clone(), message).label("and this");
                    let hint = format!("need `{name}.finished`, and ask for its status in `when`");
                    out.push(found.also(before.span.clone(), "this").hint(hint));
                    self.faulty[at] = true;
                }
            }
            self.needs[at] = kept;
        }
    }

    /// A step is skipped if its rule is false or if one of its needs is not met. Without a rule, and with nothing needed
    /// but ends of any kind, it never is.
    fn never_skipped(&self, steps: &Entries<StepSpec>, out: &mut Collector) {
        for needs in &self.needs {
            for need in needs.iter().filter(|need| need.state == NeedState::Skipped) {
                let (name, step) = &steps[need.step];
                let certain = self.needs[need.step].iter().all(|need| need.state == NeedState::Finished);
                if step.when.is_none() && certain && !step.incomplete && !self.faulty[need.step] {
                    let message = format!("`{}` is never skipped", name.get_ref());
                    let found = Diagnostic::error("impossible-need", need.span.clone(), message).label("can't happen");
                    out.push(found.also(name.span(), "has no `when`, and no need that could fail to be met"));
                }
            }
        }
    }

    /// An end that is reached ends its workflow or block: what still needs it never starts. Only always-steps see it.
    fn ended(&self, steps: &Entries<StepSpec>, out: &mut Collector) {
        for (at, needs) in self.needs.iter().enumerate().filter(|(at, _)| !steps[*at].1.always && self.takes_all(*at)) {
            for need in needs {
                let (name, ending) = &steps[need.step];
                let is_end = match need.state {
                    NeedState::Succeeded | NeedState::Started => ending.finish.is_some() || ending.fail.is_some(),
                    NeedState::Failed => ending.fail.is_some(),
                    NeedState::Skipped | NeedState::Finished => false,
                };
                if is_end && !ending.incomplete && !ending.always {
                    let (at, end) = (steps[at].0.get_ref(), name.get_ref());
                    let message = format!("`{at}` can never start: all ends with `{end}`");
                    let found = Diagnostic::error("impossible-need", need.span.clone(), message)
                        .label("nothing comes after it");
                    let hint = "what is to be done nevertheless is an always-step, `[always.NAME]`";
                    out.push(found.also(name.span(), "an end").hint(hint));
                }
            }
        }
    }

    fn ordered(&self) -> Option<Order> {
        let count = self.needs.len();
        let mut dependents = vec![Vec::new(); count];
        let mut missing: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        for (at, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|need| dependents[need.step].push(at));
        }
        let mut level = vec![0; count];
        let mut parent = vec![None; count];
        let has_starts = |at: usize| self.needs[at].iter().any(|need| need.state == NeedState::Started);
        let open_needs: Vec<usize> = (0..count).map(|at| self.open_needs(at) + usize::from(has_starts(at))).collect();
        let mut ready: VecDeque<usize> = (0..count).filter(|at| missing[*at] == 0).collect();
        let mut sorted = Vec::with_capacity(count);
        while let Some(at) = ready.pop_front() {
            sorted.push(at);
            for &dependent in &dependents[at] {
                if level[dependent] <= level[at] {
                    level[dependent] = level[at] + 1;
                    parent[dependent] = Some(at).filter(|_| open_needs[dependent] == 0);
                }
                missing[dependent] -= 1;
                if missing[dependent] == 0 {
                    ready.push_back(dependent);
                }
            }
        }
        if sorted.len() < count {
            return None;
        }
        // Sizes of subtrees from the leaves up, then places from the roots down.
        let mut size = vec![1_u32; count];
        for &at in sorted.iter().rev() {
            if let Some(parent) = parent[at] {
                size[parent] += size[at];
            }
        }
        let mut next_root = 0;
        let mut next_child = vec![0; count];
        let mut interval = vec![(0, 0); count];
        for &at in &sorted {
            let next: &mut u32 = match parent[at] {
                Some(parent) => &mut next_child[parent],
                None => &mut next_root,
            };
            let start = *next;
            *next += size[at];
            interval[at] = (start, start + size[at]);
            next_child[at] = start + 1;
        }
        Some(Order { level, interval, has_open_needs: open_needs.iter().any(|open| *open > 0) })
    }

    /// Tells one cycle for each knot of steps that need each other: the shortest through the knot's first step.
    fn cycles(&mut self, steps: &Entries<StepSpec>, out: &mut Collector) {
        for knot in self.knots() {
            let inside: HashSet<usize> = knot.iter().copied().collect();
            knot.iter().for_each(|at| self.faulty[*at] = true);
            let start = knot.iter().copied().min().expect("a knot has steps");
            let mut from: HashMap<usize, usize> = HashMap::new();
            let mut open = VecDeque::from([start]);
            while let Some(at) = open.pop_front() {
                for need in self.needs[at].iter().filter(|need| inside.contains(&need.step)) {
                    if let Entry::Vacant(vacant) = from.entry(need.step) {
                        vacant.insert(at);
                        open.push_back(need.step);
                    }
                }
                if from.contains_key(&start) {
                    break;
                }
            }
            let mut cycle = vec![start];
            let mut at = start;
            while let Some(&before) = from.get(&at) {
                cycle.push(before);
                at = before;
                if at == start {
                    break;
                }
            }
            cycle.reverse();
            let name = |at: usize| steps[at].0.get_ref().as_str();
            let shown: Vec<&str> = match cycle.len() {
                0..=12 => cycle.iter().map(|at| name(*at)).collect(),
                long => {
                    let ends = cycle[..6].iter().chain(&cycle[long - 5..]);
                    let mut names: Vec<&str> = ends.map(|at| name(*at)).collect();
                    names.insert(6, "…");
                    names
                }
            };
            let edge = |pair: &[usize]| {
                let need = self.needs[pair[0]].iter().find(|need| need.step == pair[1]);
                need.map(|need| (need.span.clone(), format!("`{}` needs `{}`", name(pair[0]), name(pair[1]))))
            };
            let mut edges = cycle.windows(2).filter_map(edge).take(12);
            let (span, label) = edges.next().unwrap_or((0..0, String::new()));
            let message = format!("steps need each other in a cycle: {}", shown.join(" → "));
            let found = Diagnostic::error("cycle", span, message).label(label);
            out.push(edges.fold(found, |found, (span, label)| found.also(span, label)));
        }
    }

    /// The strongly connected components of more than one step (R. Tarjan, 1972), without recursion.
    fn knots(&self) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.needs.len();
        let (mut index, mut low) = (vec![UNSEEN; count], vec![0; count]);
        let mut on_stack = vec![false; count];
        let mut stack = Vec::new();
        let mut knots = Vec::new();
        let mut next = 0;
        for root in 0..count {
            if index[root] != UNSEEN {
                continue;
            }
            let mut calls = vec![(root, 0)];
            while let Some((at, edge)) = calls.pop() {
                if edge == 0 {
                    (index[at], low[at]) = (next, next);
                    next += 1;
                    stack.push(at);
                    on_stack[at] = true;
                }
                match self.needs[at].get(edge) {
                    Some(need) => {
                        calls.push((at, edge + 1));
                        if index[need.step] == UNSEEN {
                            calls.push((need.step, 0));
                        } else if on_stack[need.step] {
                            low[at] = low[at].min(index[need.step]);
                        }
                    }
                    None => {
                        if let Some((caller, _)) = calls.last() {
                            low[*caller] = low[*caller].min(low[at]);
                        }
                        if low[at] == index[at] {
                            let start = stack.iter().rposition(|member| *member == at).expect("it was pushed");
                            let knot = stack.split_off(start);
                            knot.iter().for_each(|member| on_stack[*member] = false);
                            if knot.len() > 1 {
                                knots.push(knot);
                            }
                        }
                    }
                }
            }
        }
        knots
    }

    /// A step that is needed as succeeded or failed has started, so that its own needs were met as well. Tells the steps
    /// that need, over others, one step in two states.
    fn contradictions(&mut self, steps: &Entries<StepSpec>, out: &mut Collector) {
        let mut dependents: Vec<Vec<(usize, NeedState)>> = vec![Vec::new(); self.needs.len()];
        for (at, needs) in self.needs.iter().enumerate().filter(|(at, _)| self.takes_all(*at)) {
            needs.iter().for_each(|need| dependents[need.step].push((at, need.state)));
        }
        let special = |state: NeedState| matches!(state, NeedState::Failed | NeedState::Skipped);
        let mut edges = 0;
        let mut told = HashSet::new();
        for (asked, direct) in dependents.iter().enumerate() {
            if !direct.iter().any(|(_, state)| special(*state)) {
                continue;
            }
            // For each step after `asked`: the state in which it was needed, and by which step directly.
            let mut implied: HashMap<usize, (NeedState, usize)> = HashMap::new();
            let certain = direct.iter().filter(|(_, state)| !matches!(state, NeedState::Finished | NeedState::Started));
            let mut open: Vec<(usize, NeedState, usize)> = certain.map(|(at, state)| (*at, *state, *at)).collect();
            while let Some((at, state, through)) = open.pop() {
                edges += 1;
                if edges > CONTRADICTION_EDGES_MAX {
                    return;
                }
                match implied.get(&at) {
                    Some((before, _)) if *before == state => continue,
                    Some((before, other)) => {
                        if told.insert(at) {
                            let name = |step: usize| steps[step].0.get_ref();
                            let over = |step: usize| match step == at {
                                true => "by itself".to_owned(),
                                false => format!("for `{}`", name(step)),
                            };
                            let message = format!(
                                "`{}` can never start: `{}` would have to be {} {}, and {} {}",
                                name(at),
                                name(asked),
                                state_name(*before),
                                over(*other),
                                state_name(state),
                                over(through),
                            );
                            let found = Diagnostic::error("impossible-need", steps[at].0.span(), message);
                            let hint = "if either is enough, write `join = \"any\"`; or need them as `.finished`, and ask for \
                                 their status in `when`";
                            out.push(found.label("never starts").hint(hint));
                        }
                        continue;
                    }
                    None => drop(implied.insert(at, (state, through))),
                }
                let ran = |(_, state): &&(usize, NeedState)| {
                    matches!(state, NeedState::Succeeded | NeedState::Failed | NeedState::Started)
                };
                open.extend(dependents[at].iter().filter(ran).map(|(dependent, _)| (*dependent, state, at)));
            }
        }
        told.into_iter().for_each(|at| self.faulty[at] = true);
    }
}

fn state_name(state: NeedState) -> &'static str {
    match state {
        NeedState::Succeeded => "succeeded",
        NeedState::Failed => "failed",
        NeedState::Skipped => "skipped",
        NeedState::Finished => "finished",
        NeedState::Started => "started",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Source, Spec};

    fn graph_of(needs: &[(&str, &[&str])], check: impl FnOnce(&Graph<'_>)) {
        let mut text = String::from("name = \"x\"\n");
        for (name, needs) in needs {
            text += &format!("[steps.{name}]\nuse = \"p\"\nneeds = {needs:?}\n");
        }
        let (spec, faults) = Spec::parse(&Source::new("x.toml", text));
        assert_eq!(faults, []);
        let owner = Owner { path: None, span: 0..0, incomplete: false };
        check(&Graph::of(&spec.expect("it is TOML").steps, owner, &mut Collector::default()));
    }

    #[test]
    fn what_is_needed_over_others_comes_before() {
        let needs: &[(&str, &[&str])] =
            &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"]), ("e", &[]), ("f", &["e", "d.finished"])];
        let before = ["ab", "ac", "ad", "bd", "cd", "ef", "df", "af", "bf", "cf"];
        graph_of(needs, |graph| {
            for first in ["a", "b", "c", "d", "e", "f"] {
                for then in ["a", "b", "c", "d", "e", "f"] {
                    let index = |name| graph.index(name).expect("a step");
                    let expected = before.contains(&format!("{first}{then}").as_str());
                    assert_eq!(graph.is_before(index(first), index(then)), expected, "{first} before {then}");
                }
            }
        });
    }
}
