//! What is to be seen of a workflow or a run: steps with their marks, frames around those that a step opens, arrows with what
//! they ask for, the critical path. Of a run, a step that several items or rounds have is seen once, with how many of them
//! came to which end.
//! Every text that came from elsewhere is made visible here, once. Nothing here knows a place, a colour or a format.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use downbeat_workflow::event::{NeedState, Outcome};
use downbeat_workflow::explain::{Account, Link};
use downbeat_workflow::history::{History, StepHistory};
use downbeat_workflow::plan::{BodyId, Join, Opens, Plan, Rest, ScopeCount, Step, StepId, StepNo, Wait, Work};
use downbeat_workflow::run::{Run, StepStatus};
use downbeat_workflow::scope::ScopeId;
use downbeat_workflow::text::visible;
use downbeat_workflow::units::counted;

use crate::svg::STEPS_DRAWN_MAX;
use crate::text::{duration, in_one_line};

/// What is to be seen.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The workflow's name.
    pub(crate) name: String,
    /// What the workflow is for, or how the run went; may be empty.
    pub(crate) caption: String,
    /// In the plan's order, those of a frame one after another.
    pub(crate) steps: Vec<Node>,
    /// The first is that of the workflow's own steps.
    pub(crate) frames: Vec<Frame>,
    /// From what is needed to who needs it.
    pub(crate) arrows: Vec<Arrow>,
    /// The pools' names, and what they let through.
    pub(crate) pools: Vec<(String, String)>,
    /// Whether it shows a run.
    pub(crate) is_run: bool,
}

/// Steps that are drawn together: the workflow's own, or those that a step opens.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    body: BodyId,
    /// The step that opens it; `None` of the workflow's own.
    opener: Option<usize>,
    /// In the picture's list.
    pub(crate) steps: Range<usize>,
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// With the names of the steps that it is within: no other step of the picture has the same.
    pub(crate) path: String,
    no: StepNo,
    /// The frame that it is in.
    pub(crate) home: usize,
    /// The frame with the steps that it opens: its own, unless `is_elsewhere`.
    within: Option<usize>,
    /// The steps that it opens are drawn within another one that opens the same.
    is_elsewhere: bool,
    /// Whether it needs nothing.
    pub(crate) is_first: bool,
    /// Whether it is done for items, or in rounds.
    pub(crate) is_many: bool,
    /// What it runs, or does instead, in a word or two.
    pub(crate) plugin: String,
    /// What else it does, a line each.
    pub(crate) does: Vec<String>,
    /// An index into the picture's pools.
    pub(crate) pool: Option<usize>,
    /// Attempts at most, if more than one.
    pub(crate) retries: Option<u32>,
    pub(crate) timeout_ms: Option<u64>,
    /// Whether it runs once all ordinary steps are over, whatever became of them.
    pub(crate) is_always: bool,
    /// How many of its needs it takes, unless it is all of them.
    pub(crate) join: Option<JoinWords>,
    /// The rule, in one line.
    pub(crate) when: Option<String>,
    /// How it went, in a run.
    pub(crate) life: Option<Life>,
    /// Everything that is known of it, a line each; the first is its name.
    pub(crate) notes: Vec<String>,
    pub(crate) is_critical: bool,
}

/// A join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JoinWords {
    /// In a few words: `any, cancels the rest`.
    pub(crate) short: String,
    /// What it means for its needs.
    pub(crate) meaning: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) mark: Mark,
    pub(crate) attempts: u32,
    pub(crate) took_ms: Option<u64>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Succeeded,
    /// Its answer is another run's.
    Reused,
    Failed,
    Skipped,
    Cancelled,
    Running,
    Interrupted,
    Delayed,
    Queued,
    Parked,
    Waiting,
    /// It is within a step that was never begun, or had no items.
    Unreached,
}

impl Mark {
    pub(crate) const ALL: [Mark; 12] = [
        Mark::Succeeded,
        Mark::Reused,
        Mark::Failed,
        Mark::Skipped,
        Mark::Cancelled,
        Mark::Running,
        Mark::Interrupted,
        Mark::Delayed,
        Mark::Queued,
        Mark::Parked,
        Mark::Waiting,
        Mark::Unreached,
    ];

    /// The word, as `downbeat show` has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mark::Succeeded => "succeeded",
            Mark::Reused => "reused",
            Mark::Failed => "failed",
            Mark::Skipped => "skipped",
            Mark::Cancelled => "cancelled",
            Mark::Running => "in flight",
            Mark::Interrupted => "interrupted",
            Mark::Delayed => "delayed",
            Mark::Queued => "queued",
            Mark::Parked => "parked",
            Mark::Waiting => "waiting",
            Mark::Unreached => "not reached",
        }
    }

    /// That of several lives together: what goes on, then the worst end.
    fn of_all(marks: impl Iterator<Item = Mark>) -> Option<Mark> {
        marks.max_by_key(|mark| match mark {
            Mark::Running | Mark::Interrupted => 9,
            Mark::Queued => 8,
            Mark::Delayed => 7,
            Mark::Parked => 6,
            Mark::Failed => 5,
            Mark::Cancelled => 4,
            Mark::Succeeded | Mark::Reused => 3,
            Mark::Waiting => 2,
            Mark::Skipped => 1,
            Mark::Unreached => 0,
        })
    }

    fn of(status: &StepStatus<'_>) -> Mark {
        match status {
            StepStatus::Waiting | StepStatus::Ready => Mark::Waiting,
            StepStatus::Queued | StepStatus::Asking => Mark::Queued,
            StepStatus::Running | StepStatus::Open => Mark::Running,
            StepStatus::Parked(_) => Mark::Parked,
            StepStatus::Delayed(_) => Mark::Delayed,
            StepStatus::Succeeded(_) => Mark::Succeeded,
            StepStatus::Failed(_) => Mark::Failed,
            StepStatus::Skipped(_) => Mark::Skipped,
            StepStatus::Cancelled => Mark::Cancelled,
        }
    }
}

/// A need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) state: NeedState,
    /// Other needs say the same already: drawn more faintly.
    pub(crate) is_implied: bool,
    /// In a run: the step that is needed came to another end.
    pub(crate) is_unmet: bool,
    pub(crate) is_critical: bool,
}

/// The state's word, as it is written in `needs`.
pub(crate) fn word(state: NeedState) -> &'static str {
    match state {
        NeedState::Succeeded => "succeeded",
        NeedState::Failed => "failed",
        NeedState::Skipped => "skipped",
        NeedState::Finished => "finished",
        NeedState::Started => "started",
    }
}

impl Picture {
    /// Of a workflow.
    pub fn of_plan(plan: &Plan) -> Picture {
        let pools = plan.pools.iter().map(|pool| (in_one_line(&pool.name), pool.to_string())).collect();
        let (name, caption) = (in_one_line(&plan.name), in_one_line(&plan.description));
        let (steps, frames, arrows) = (Vec::new(), Vec::new(), Vec::new());
        let mut picture = Picture { name, caption, steps, frames, arrows, pools, is_run: false };
        picture.enter(plan, &implied(plan), BodyId(0), None);
        picture
    }

    /// Adds the steps of a body, and of those that they open: every time that one is opened, unless it is around itself or
    /// the picture is too large already.
    fn enter(&mut self, plan: &Plan, implied: &BTreeSet<(StepNo, StepNo)>, body: BodyId, opener: Option<usize>) {
        let (home, first) = (self.frames.len(), self.steps.len());
        let range = plan.steps_of(body);
        let start = range.start;
        // What undoes a step is told with the step; it comes behind all others.
        for no in range.map(StepNo).filter(|no| plan.step(*no).undoes.is_none()) {
            let mut node = node(plan, no);
            node.home = home;
            if let Some(opener) = opener {
                node.path = format!("{}/{}", self.steps[opener].path, node.name);
                node.notes[0].clone_from(&node.path);
            }
            self.steps.push(node);
        }
        let steps = first..self.steps.len();
        self.frames.push(Frame { body, opener, steps: steps.clone() });
        for to in steps.clone() {
            for need in &plan.step(self.steps[to].no).needs {
                let from = first + (need.step.0 - start) as usize;
                let is_implied =
                    need.state == NeedState::Succeeded && implied.contains(&(need.step, self.steps[to].no));
                let (is_unmet, is_critical) = (false, false);
                self.arrows.push(Arrow { from, to, state: need.state, is_implied, is_unmet, is_critical });
            }
        }
        for index in steps {
            let opens = plan.step(self.steps[index].no).opens().filter(|opens| !is_itself(plan, opens));
            let Some(opens) = opens else { continue };
            let mut around =
                std::iter::successors(Some(home), |frame| self.frames[*frame].opener.map(|at| self.steps[at].home));
            let drawn = around.find(|frame| self.frames[*frame].body == opens.body);
            let is_full = self.steps.len() > STEPS_DRAWN_MAX;
            let first = || self.frames.iter().position(|frame| frame.body == opens.body);
            match drawn.or_else(|| first().filter(|_| is_full)) {
                Some(frame) => {
                    self.steps[index].within = Some(frame);
                    self.steps[index].is_elsewhere = true;
                    let other = self.frames[frame].opener.map_or("this workflow", |opener| &self.steps[opener].path);
                    let line = format!("steps as in {other}");
                    self.steps[index].does.push(line);
                }
                None => {
                    self.steps[index].within = Some(self.frames.len());
                    self.enter(plan, implied, opens.body, Some(index));
                }
            }
        }
    }

    /// A step of the plan in a frame of its body.
    fn node_of(&self, plan: &Plan, frame: usize, no: StepNo) -> usize {
        let Frame { body, steps, .. } = &self.frames[frame];
        steps.start + (no.0 - plan.steps_of(*body).start) as usize
    }

    /// The frame that a step is drawn around.
    pub(crate) fn frame_of(&self, step: usize) -> Option<usize> {
        self.steps[step].within.filter(|_| !self.steps[step].is_elsewhere)
    }

    /// Of a run; `history` and `account` tell of the same records. The critical path of a run that is over is the chain that
    /// [`Account::path`] tells: a picture and `downbeat explain` do not differ about it.
    pub fn of_run(run: &Run, history: &History, account: &Account) -> Picture {
        let plan = run.plan();
        let mut picture = Picture::of_plan(plan);
        picture.is_run = true;
        let lives = Lives::of(&picture, run);
        let critical = Critical::of(run, account);
        picture.caption = run_caption(run, history, !critical.steps.is_empty());
        for index in 0..picture.steps.len() {
            let ids = &lives.of_steps[index];
            let node = &mut picture.steps[index];
            node.is_critical = ids.iter().chain(&lives.items[index]).any(|id| critical.steps.contains(id));
            let (life, notes) = match ids[..] {
                [] => (Life { mark: Mark::Unreached, attempts: 0, took_ms: None }, vec!["not reached".to_owned()]),
                [id] => life_of_one(run, history, node, id),
                _ => {
                    let (life, words) = life_of_many(run, history, ids);
                    node.does.insert(0, words.clone());
                    (life, vec![words])
                }
            };
            node.notes.splice(1..1, notes);
            let scopes = lives.scopes[index].iter().map(|scope| scope_mark(run, *scope));
            let items = lives.items[index].iter().map(|id| Mark::of(&run.status(*id).0));
            let counts = counts(scopes.chain(items));
            if node.is_many && !counts.is_empty() {
                let word = if is_rounds(plan.step(node.no)) { "round" } else { "item" };
                let count = lives.scopes[index].len() + lives.items[index].len();
                node.does.insert(0, format!("{count} {word}{}: {counts}", if count == 1 { "" } else { "s" }));
            }
            let undone = counts_of_undoing(run, &lives.undoing[index]);
            if let Some(place) =
                node.does.iter().position(|line| line.starts_with("undo ")).filter(|_| !undone.is_empty())
            {
                node.does[place] = format!("undo: {undone}");
                node.notes.insert(1, format!("undo: {undone}"));
            }
            node.life = Some(life);
        }
        for arrow in &mut picture.arrows {
            let (from, to) = (&lives.of_steps[arrow.from], &lives.of_steps[arrow.to]);
            let is_unmet = |id: &StepId| {
                let end = history.steps.get(id.index()).and_then(|story| story.ended).map(|(_, end)| end);
                end.is_some_and(|end| !arrow.state.is_met_by(end))
            };
            arrow.is_unmet = !from.is_empty() && from.iter().all(is_unmet);
            arrow.is_critical = from.iter().zip(to).any(|(from, to)| critical.pairs.contains(&(*from, *to)));
        }
        // Of two needs of the same step, the end waited for the one that was met.
        let met: BTreeSet<(usize, usize)> =
            picture.arrows.iter().filter(|arrow| !arrow.is_unmet).map(|arrow| (arrow.from, arrow.to)).collect();
        for arrow in picture.arrows.iter_mut().filter(|arrow| arrow.is_unmet) {
            arrow.is_critical &= !met.contains(&(arrow.from, arrow.to));
        }
        picture
    }

    /// Of a run that nobody drives, though it is not over: nothing of it is in flight any more.
    #[must_use]
    pub fn stopped(mut self) -> Picture {
        self.caption = self.caption.replacen(NOT_OVER, "stopped", 1);
        for node in &mut self.steps {
            if let Some(life) = node.life.as_mut().filter(|life| life.mark == Mark::Running) {
                life.mark = Mark::Interrupted;
                node.notes[1] = node.notes[1].replacen(Mark::Running.word(), Mark::Interrupted.word(), 1);
            }
        }
        self
    }

    /// The picture in a sentence, for who can't see it.
    pub(crate) fn description(&self) -> String {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let (steps, needs) = (plural(self.steps.len(), "step"), plural(self.arrows.len(), "need"));
        let mut text = format!("{steps}, {needs}. An arrow leads from a step to one that needs it.");
        if self.is_run {
            let count =
                |mark: Mark| self.steps.iter().filter(|step| step.life.is_some_and(|life| life.mark == mark)).count();
            let ends: Vec<String> = Mark::ALL
                .iter()
                .filter(|&&mark| count(mark) > 0)
                .map(|&mark| format!("{} {}", count(mark), mark.word()))
                .collect();
            text = format!("{text} Of the steps: {}.", ends.join(", "));
        }
        let always: Vec<&str> =
            self.steps.iter().filter(|step| step.is_always).map(|step| step.path.as_str()).collect();
        if !always.is_empty() {
            text = format!("{text} Once all others are over, whatever became of them: {}.", always.join(", "));
        }
        text
    }
}

fn node(plan: &Plan, no: StepNo) -> Node {
    let step = plan.step(no);
    let opens = step.opens();
    // An item or a round of a step that opens no block is the step itself.
    let itself = opens.filter(|opens| is_itself(plan, opens));
    let acts = itself.map_or(step, |opens| plan.step(StepNo(plan.steps_of(opens.body).start)));
    let uses = acts.uses().map(|uses| &plan.plugins[uses.plugin.index()]);
    let plugin = match &acts.work {
        Work::Use(_) => uses.map_or_else(String::new, |plugin| in_one_line(&plugin.name)),
        Work::Open(opens) => opens_words(plan, opens),
        Work::Wait(_) => "waits".to_owned(),
        Work::Finish => "ends it all".to_owned(),
        Work::Fail(_) => "fails".to_owned(),
    };
    let mut does: Vec<String> = opens.and_then(scopes_words).into_iter().collect();
    match &acts.work {
        Work::Wait(wait) => does.extend(wait_words(plan, wait)),
        Work::Fail(message) => does.push(in_one_line(message.source().as_str())),
        Work::Open(opens) if opens.detached => does.push("detached: goes on by itself".to_owned()),
        Work::Use(_) | Work::Open(_) | Work::Finish => (),
    }
    let when = step.when.as_ref().map(|rule| in_one_line(rule.source()));
    let pool = acts.pool();
    let mut notes = vec![step.name.clone()];
    notes.extend(uses.map(|uses| {
        let component = visible(&uses.component.description.name, false);
        match plugin == component {
            true => format!("uses {plugin}"),
            false => format!("uses {plugin}, a {component}"),
        }
    }));
    if uses.is_none() {
        notes.push(plugin.clone());
    }
    notes.extend(does.iter().cloned());
    if !step.needs.is_empty() {
        let needs: Vec<String> = step.needs.iter().map(|need| wanted(plan, need.step, need.state)).collect();
        notes.push(format!("needs {}", needs.join(", ")));
    }
    let join = join_words(step);
    notes.extend(join.as_ref().map(|join| format!("join {}: {}", join.short, join.meaning)));
    if step.always {
        notes.push("always: once all steps are over, whatever became of them".to_owned());
    }
    notes.extend(when.as_ref().map(|when| format!("when {when}")));
    if let Some(pool) = pool {
        let pool = &plan.pools[pool.index()];
        notes.push(format!("in pool {}, {pool}", in_one_line(&pool.name)));
    }
    let is_attempt = acts.uses().is_some();
    let bound = if is_attempt { "an attempt may take" } else { "it may take" };
    notes.extend(acts.timeout_ms.map(|ms| format!("{bound} {}", duration(ms))));
    let retry = &acts.retry;
    if retry.attempts > 1 {
        let (first, most) = (duration(retry.delay_ms), duration(retry.max_delay_ms));
        let factor = retry.factor;
        notes.push(format!(
            "up to {} attempts, {first} apart, then {factor} times that, {most} at most",
            retry.attempts
        ));
    }
    if !step.cancels.is_empty() {
        let cancels: Vec<String> = step.cancels.iter().map(|no| in_one_line(&plan.step(*no).name)).collect();
        let cancels = format!("cancels {}", cancels.join(", "));
        does.push(cancels.clone());
        notes.push(format!("{cancels} when it succeeds"));
    }
    let undo = acts.undo.and_then(|undo| plan.step(undo).uses());
    let undo = undo.map(|uses| in_one_line(&plan.plugins[uses.plugin.index()].name));
    does.extend(undo.as_ref().map(|plugin| format!("undo {plugin}")));
    notes.extend(undo.as_ref().map(|plugin| format!("undo: {plugin} takes back what it did, if it was in vain")));
    Node {
        name: step.name.clone(),
        path: step.name.clone(),
        no,
        home: 0,
        within: None,
        is_elsewhere: false,
        is_first: step.needs.is_empty(),
        is_many: opens.is_some_and(|opens| !matches!(opens.scopes, ScopeCount::One)),
        plugin,
        does,
        pool: pool.map(|pool| pool.index()),
        retries: (retry.attempts > 1).then_some(retry.attempts),
        timeout_ms: acts.timeout_ms,
        is_always: step.always,
        join,
        when,
        life: None,
        notes,
        is_critical: false,
    }
}

/// Whether an item or a round of a step is the step itself, since it opens no block.
fn is_itself(plan: &Plan, opens: &Opens) -> bool {
    plan.body(opens.body).is_some_and(|body| body.answer.is_step())
}

fn is_rounds(step: &Step) -> bool {
    step.opens().is_some_and(|opens| matches!(opens.scopes, ScopeCount::Rounds(_)))
}

fn opens_words(plan: &Plan, opens: &Opens) -> String {
    let workflow = plan.body(opens.body).and_then(|body| body.workflow.as_deref());
    match workflow {
        Some(workflow) => format!("workflow {}", in_one_line(&workflow.name)),
        None => "block".to_owned(),
    }
}

/// For which items, or in which rounds, a step is done.
fn scopes_words(opens: &Opens) -> Option<String> {
    let mut words = match &opens.scopes {
        ScopeCount::One => return None,
        ScopeCount::Each(each) if each.from.len() > 1 => {
            let lists = each.list.source().value();
            let lists = lists.as_array().into_iter().flatten().filter_map(|list| list.as_str());
            let path = |list: &str| in_one_line(list.trim_start_matches("${").trim_end_matches('}'));
            format!("for each of {} together", lists.map(path).collect::<Vec<String>>().join(" and "))
        }
        ScopeCount::Each(each) => match each.list.source().value().as_array() {
            Some(items) => format!("for each of {}", counted(items.len() as u64, "item")),
            None => {
                let list = in_one_line(each.list.source().as_str().trim_matches('"'));
                let path = list.strip_prefix("${").and_then(|path| path.strip_suffix('}'));
                format!("for each of {}", path.unwrap_or(&list))
            }
        },
        ScopeCount::Rounds(rounds) => {
            let rule = |word: &str, rule: &Option<downbeat_workflow::rule::Rule>| {
                rule.as_ref().map(|rule| format!("{word} {}", in_one_line(rule.source())))
            };
            let rules = [rule("while", &rounds.while_holds), rule("until", &rounds.until)];
            let rules: Vec<String> = rules.into_iter().flatten().collect();
            match rules.is_empty() {
                true => format!("{} rounds", rounds.max),
                false => format!("{}, {} rounds at most", rules.join(" and "), rounds.max),
            }
        }
    };
    if let ScopeCount::Each(each) = &opens.scopes {
        words.extend(each.parallel.map(|parallel| format!(", {parallel} at once")));
        words.push_str(&match each.join {
            Join::All => String::new(),
            Join::Any => ", any is enough".to_owned(),
            Join::Merge => ", any is enough, once all are over".to_owned(),
            Join::AtLeast(1) => ", 1 is enough".to_owned(),
            Join::AtLeast(least) => format!(", {least} are enough"),
        });
        words.extend(each.until.as_ref().map(|until| format!(", until {}", in_one_line(until.source()))));
        if each.rest == Rest::Cancel {
            words.push_str(", cancels the rest");
        }
    }
    Some(words)
}

/// What a step waits for, a line for each.
fn wait_words(plan: &Plan, wait: &Wait) -> impl Iterator<Item = String> {
    let parts = [
        wait.for_ms.map(duration),
        wait.until.as_ref().map(|until| format!("until {}", in_one_line(until.source().as_str().trim_matches('"')))),
        wait.signal.map(|signal| format!("for signal {}", in_one_line(&plan.signals[signal.index()].name))),
        wait.approval.as_ref().map(|approval| format!("for the word of {}", in_one_line(&approval.by.join(" or ")))),
    ];
    let parts = parts.into_iter().flatten().enumerate();
    parts.map(|(index, part)| if index == 0 { part } else { format!("or {part}") })
}

fn join_words(step: &Step) -> Option<JoinWords> {
    let of = step.needs.len();
    let (word, meaning) = match step.join {
        Join::All => ("all".to_owned(), "every need has to be met".to_owned()),
        Join::Any => ("any".to_owned(), "one need is enough".to_owned()),
        Join::Merge => ("merge".to_owned(), "one need is enough, once all are over".to_owned()),
        Join::AtLeast(1) => (format!("1 of {of}"), format!("1 of {of} needs is enough")),
        Join::AtLeast(least) => (format!("{least} of {of}"), format!("{least} of {of} needs are enough")),
    };
    match step.rest {
        Rest::Wait if step.join == Join::All => None,
        Rest::Wait => Some(JoinWords { short: word, meaning }),
        Rest::Cancel => Some(JoinWords {
            short: format!("{word}, cancels the rest"),
            meaning: format!("{meaning}; what serves it alone and is not over then is ended"),
        }),
    }
}

/// A need as it is written.
fn wanted(plan: &Plan, step: StepNo, state: NeedState) -> String {
    let name = &plan.step(step).name;
    match state {
        NeedState::Succeeded => name.clone(),
        state => format!("{name}.{}", word(state)),
    }
}

/// Which steps of a run each step of a picture stands for.
struct Lives {
    of_steps: Vec<Vec<StepId>>,
    /// Of a step that opens no block, what it does for each item or in each round.
    items: Vec<Vec<StepId>>,
    /// What takes back what it did.
    undoing: Vec<Vec<StepId>>,
    /// The blocks and sub-workflows that it opened.
    scopes: Vec<Vec<ScopeId>>,
}

/// Where the steps of a scope are drawn.
#[derive(Clone, Copy)]
enum Place {
    Frame(usize),
    /// As items or rounds of this step.
    Step(usize),
}

impl Lives {
    /// Of scopes that were tried again, the last count.
    fn of(picture: &Picture, run: &Run) -> Lives {
        let (plan, scopes) = (run.plan(), run.scopes());
        let none = || vec![Vec::new(); picture.steps.len()];
        let mut lives =
            Lives { of_steps: none(), items: none(), undoing: none(), scopes: vec![Vec::new(); picture.steps.len()] };
        let all = || (0..scopes.count() as u32).map(ScopeId);
        let mut latest: HashMap<(StepId, u32), ScopeId> = HashMap::new();
        for scope in all() {
            let place = scopes.place(scope);
            latest.extend(place.opener.map(|opener| ((opener, place.index), scope)));
        }
        let mut places: Vec<Option<Place>> = Vec::with_capacity(scopes.count());
        for scope in all() {
            let place = scopes.place(scope);
            let opener = place.opener.filter(|opener| latest.get(&(*opener, place.index)) == Some(&scope));
            let drawn = match (place.opener, opener) {
                (None, _) => Some(Place::Frame(0)),
                (_, None) => None,
                (_, Some(opener)) => match places[scopes.scope(opener).index()] {
                    Some(Place::Frame(frame)) => {
                        let step = picture.node_of(plan, frame, scopes.no(opener));
                        lives.scopes[step].extend(picture.steps[step].within.map(|_| scope));
                        Some(picture.steps[step].within.map_or(Place::Step(step), Place::Frame))
                    }
                    Some(Place::Step(_)) | None => None,
                },
            };
            places.push(drawn);
            let Some(drawn) = drawn else { continue };
            for id in scopes.steps_of(plan, scope) {
                let no = scopes.no(id);
                let undoes = plan.step(no).undoes;
                let step = match drawn {
                    Place::Frame(frame) => picture.node_of(plan, frame, undoes.unwrap_or(no)),
                    Place::Step(step) => step,
                };
                match (undoes, drawn) {
                    (Some(_), _) => lives.undoing[step].push(id),
                    (None, Place::Frame(_)) => lives.of_steps[step].push(id),
                    (None, Place::Step(_)) => lives.items[step].push(id),
                }
            }
        }
        lives
    }
}

/// How a step went that is there once, and what is known of it.
fn life_of_one(run: &Run, history: &History, node: &Node, id: StepId) -> (Life, Vec<String>) {
    let (status, attempts) = run.status(id);
    let unknown = StepHistory::default();
    let story = history.steps.get(id.index()).unwrap_or(&unknown);
    let mark = if run.is_reused(id) { Mark::Reused } else { Mark::of(&status) };
    let life = Life { mark, attempts, took_ms: story.elapsed_ms() };
    let ended_for = run.ended_for(id).filter(|_| life.mark == Mark::Cancelled);
    let mut notes = life_notes(run, node, story, &status, life);
    notes.extend(ended_for.and_then(|ended| ended.in_words(run, id)));
    (life, notes)
}

/// How a step went of which there are several, and how many came to which end.
fn life_of_many(run: &Run, history: &History, ids: &[StepId]) -> (Life, String) {
    let marks = || ids.iter().map(|id| Mark::of(&run.status(*id).0));
    let took = ids.iter().filter_map(|id| history.steps.get(id.index())?.elapsed_ms());
    let mark = Mark::of_all(marks()).unwrap_or(Mark::Unreached);
    (Life { mark, attempts: 1, took_ms: took.max() }, counts(marks()))
}

/// How a scope stands.
fn scope_mark(run: &Run, scope: ScopeId) -> Mark {
    let steps = run.scopes().steps_of(run.plan(), scope).filter(|id| run.step(*id).undoes.is_none());
    let (mut mark, mut is_finished) = (Mark::Succeeded, false);
    for id in steps {
        match Mark::of(&run.status(id).0) {
            Mark::Failed => mark = Mark::Failed,
            Mark::Cancelled if mark == Mark::Succeeded => mark = Mark::Cancelled,
            Mark::Succeeded => is_finished |= matches!(run.step(id).work, Work::Finish),
            Mark::Cancelled | Mark::Skipped => (),
            _ => return Mark::Running,
        }
    }
    if is_finished && mark == Mark::Cancelled { Mark::Succeeded } else { mark }
}

/// `2 succeeded, 1 failed`.
fn counts(marks: impl Iterator<Item = Mark>) -> String {
    let mut counts = [0_usize; Mark::ALL.len()];
    marks.for_each(|mark| counts[mark as usize] += 1);
    let told = Mark::ALL.iter().filter(|mark| counts[**mark as usize] > 0);
    told.map(|mark| format!("{} {}", counts[*mark as usize], mark.word())).collect::<Vec<_>>().join(", ")
}

/// The same of what takes back what a step did, without what was never asked for.
fn counts_of_undoing(run: &Run, ids: &[StepId]) -> String {
    counts(
        ids.iter()
            .map(|id| Mark::of(&run.status(*id).0))
            .filter(|mark| *mark != Mark::Waiting && *mark != Mark::Skipped),
    )
}

/// What a run knows of a step.
fn life_notes(run: &Run, node: &Node, story: &StepHistory, status: &StepStatus<'_>, life: Life) -> Vec<String> {
    let mut first = life.mark.word().to_owned();
    if let Some(took) = life.took_ms {
        first.push_str(&format!(" after {}", duration(took)));
    }
    if life.attempts > 1 {
        first.push_str(&format!(", {} attempts", life.attempts));
    }
    let mut notes = vec![first];
    match status {
        StepStatus::Skipped(reason) => notes.push(in_one_line(&reason.explain(run.plan(), run.scopes()))),
        StepStatus::Failed(failure) => notes.push(in_one_line(&failure.message)),
        _ => (),
    }
    let in_line: u64 =
        story.attempts.iter().filter_map(|attempt| Some(attempt.started?.0.saturating_sub(attempt.queued?.0))).sum();
    if in_line > 0 {
        notes.push(format!("waited {} for its pool", duration(in_line)));
    }
    if node.is_critical {
        notes.push("on the critical path".to_owned());
    }
    notes
}

/// What the caption says of a run that has no end.
const NOT_OVER: &str = "not over";

fn run_caption(run: &Run, history: &History, has_path: bool) -> String {
    let took = history.created.zip(history.finished);
    let took = took.map(|(created, (finished, _))| duration(finished.0.saturating_sub(created.0)));
    let how = match history.finished.map(|(_, outcome)| outcome) {
        Some(Outcome::Succeeded) => "succeeded",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::TimedOut) => "timed out",
        None => NOT_OVER,
    };
    let mut caption = format!("run {}: {how}", in_one_line(&run.id().to_string()));
    if let Some(took) = took {
        caption.push_str(&format!(" after {took}"));
    }
    if has_path {
        caption.push_str("; the thick line is its critical path");
    }
    caption
}

/// The chain that the end of a run waited for, as [`Account::path`] tells it: a picture and `downbeat explain` do not differ
/// about it. Empty while the run is not over.
#[derive(Default)]
struct Critical {
    steps: BTreeSet<StepId>,
    /// From what was needed to who needed it.
    pairs: BTreeSet<(StepId, StepId)>,
}

impl Critical {
    fn of(run: &Run, account: &Account) -> Critical {
        let mut critical = Critical::default();
        if account.outcome.is_none() {
            return critical;
        }
        let steps = (0..run.scopes().len() as u32).map(StepId);
        let by_path: HashMap<String, StepId> = steps.map(|step| (run.path(step), step)).collect();
        critical.follow(&account.path, &by_path);
        critical
    }

    fn follow(&mut self, links: &[Link], by_path: &HashMap<String, StepId>) {
        let steps: Vec<StepId> = links.iter().filter_map(|link| by_path.get(&link.step).copied()).collect();
        self.pairs.extend(steps.windows(2).map(|pair| (pair[0], pair[1])));
        self.steps.extend(steps);
        links.iter().for_each(|link| self.follow(&link.within, by_path));
    }
}

/// Needs that follow from others: `a` of a step that needs `b` to succeed, which needs `a` to.
fn implied(plan: &Plan) -> BTreeSet<(StepNo, StepNo)> {
    let succeeding = |step: &Step| {
        // Of alternatives, none follows from another.
        let takes_all = step.join.least(step.needs.len() as u32) as usize == step.needs.len();
        let needs = step.needs.iter().filter(|need| takes_all && need.state == NeedState::Succeeded);
        needs.map(|need| need.step.index()).collect::<Vec<usize>>()
    };
    let needs: Vec<Vec<usize>> = plan.steps.iter().map(succeeding).collect();
    let mut implied = BTreeSet::new();
    for (to, direct) in needs.iter().enumerate() {
        if direct.len() < 2 {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut todo: Vec<usize> = direct.iter().flat_map(|&step| needs[step].iter().copied()).collect();
        while let Some(step) = todo.pop() {
            if seen.insert(step) {
                todo.extend(&needs[step]);
            }
        }
        let no = |step: usize| StepNo(step as u32);
        implied.extend(direct.iter().filter(|step| seen.contains(step)).map(|&from| (no(from), no(to))));
    }
    implied
}

/// Whether nothing of the step was carried out.
pub(crate) fn is_faint(life: Option<Life>) -> bool {
    life.is_some_and(|life| matches!(life.mark, Mark::Skipped | Mark::Waiting | Mark::Unreached))
}
