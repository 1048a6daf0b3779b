//! What a test file means for a plan: names are indices, inputs are complete, answers are whole and fit the schemas of the
//! components that would give them. Everything that is wrong is told at once; after a [`Suite`] exists, nobody asks
//! whether a test makes sense.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use downbeat_workflow::answer::OutputSchema;
use downbeat_workflow::diagnostic::{Collector, Diagnostic};
use downbeat_workflow::event::{FailureKind, Outcome, StepEnd};
use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, PoolId, StepNo, Work};
use downbeat_workflow::spec::{Entries, Spanned, Value, ValueKind};

use crate::file::{
    AnswerSpec, AnswersSpec, Bound, EndSpec, ExpectSpec, ExpectedStepSpec, HappeningSpec, Otherwise, Reason, TestFile,
    TestSpec, WhatSpec,
};
use crate::path::{Meaning, Misnamed, Named, StepPath, only_step, paths, shared};
use crate::recorded::Recorded;
use crate::rehearse::{Answer, Asked, Happening, Setting, What};

/// The seed of a run whose test names none.
const SEED: u64 = 1;

/// The tests of a file.
#[derive(Clone, Debug)]
pub struct Suite {
    /// In the order of the file.
    pub tests: Vec<Test>,
}

/// A test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Where its name stands in the file.
    pub span: Range<usize>,
    /// How its run begins, and what comes from outside.
    pub setting: Setting,
    /// Where the file says what comes from outside.
    pub outside: Vec<Range<usize>>,
    /// How steps answer: by their path without indices, the most particular path first.
    said: HashMap<String, Vec<(StepPath, Answers)>>,
    /// The run that those answer as of which nothing is said.
    recorded: Option<Arc<Recorded>>,
    /// How those answer of which it has nothing.
    otherwise: BTreeMap<StepNo, Answer>,
    /// What must be true of the run, and where the file says so.
    pub expected: Vec<(Range<usize>, Expectation)>,
}

/// How a step's attempts end.
#[derive(Clone, Debug)]
pub enum Answers {
    /// All alike.
    Every(Answer),
    /// One after the other, and no more.
    Each(Vec<Answer>),
    /// As in the recorded run, but each takes so many milliseconds.
    AsRecorded(u64),
}

/// Something that must be true of a run; what is said of a step, of every life that its path stands for.
#[derive(Clone, Debug)]
pub enum Expectation {
    /// It ends so.
    Outcome(Outcome),
    /// It has this output.
    Output(String, serde_json::Value),
    /// It takes so long.
    Took(Bound),
    /// The step, at least one of those that are meant, is started.
    Ran(Named),
    /// The step, every one of those that are meant, is never started.
    NeverRan(Named),
    /// At most so many attempts are in the pool at once, and once they are.
    Peak(PoolId, u32),
    /// The first step is over before the second one is started: all that are meant before any that is.
    Before(Named, Named),
    /// Something about a step.
    Step(Named, StepExpectation),
}

/// Something that must be true of a step.
#[derive(Clone, Debug)]
pub enum StepExpectation {
    /// It ends so.
    End(StepEnd),
    /// It succeeds with this.
    Output(serde_json::Value),
    /// So many attempts of it are started.
    Attempts(u32),
    /// It opens so many scopes.
    Opened(u32),
    /// It is skipped for this reason.
    Reason(Reason),
    /// It is skipped because its need of this one was not met.
    Need(Named),
    /// Its last failure is of this kind.
    Failure(FailureKind),
    /// The sentence that tells why it failed or was skipped has this in it.
    Says(String),
    /// Its last attempt is given this.
    Input(serde_json::Value),
}

impl Test {
    /// How an attempt ends; `None` if nobody said.
    pub fn answer(&self, asked: &Asked<'_>) -> Option<Answer> {
        match self.said(asked.path) {
            Some(Answers::Every(answer)) => Some(answer.clone()),
            Some(Answers::Each(answers)) => answers.get(asked.nth.checked_sub(1)? as usize).cloned(),
            Some(Answers::AsRecorded(took_ms)) => {
                let answer = self.as_recorded(asked).or_else(|| self.otherwise.get(&asked.no))?;
                Some(Answer { took_ms: *took_ms, ..answer.clone() })
            }
            None => self.as_recorded(asked).or_else(|| self.otherwise.get(&asked.no)).cloned(),
        }
    }

    fn as_recorded(&self, asked: &Asked<'_>) -> Option<&Answer> {
        self.recorded.as_ref()?.answer_at(asked.path, asked.nth)
    }

    /// What the test says of the step at this path of the run.
    pub(crate) fn said(&self, path: &str) -> Option<&Answers> {
        let path = StepPath::parse(path)?;
        let said = self.said.get(&path.bare().to_string())?;
        said.iter().find(|(known, _)| known.covers(&path)).map(|(_, answers)| answers)
    }
}

/// What a file says of steps, before it is laid over what lies below.
struct Said<'a> {
    of_test: bool,
    named: Named,
    spec: &'a AnswersSpec,
}

impl Said<'_> {
    /// Later lies above: what a test says above what the file says, with more indices above with fewer.
    fn height(&self) -> (bool, usize) {
        (self.of_test, self.named.path.indices())
    }
}

/// Recorded runs by what `from-run` says, or why they can't be had.
pub type Runs = BTreeMap<String, Result<Arc<Recorded>, String>>;

/// Holds a file against the plan of its workflow. There is no suite if anything is an error, here or in the file's shape.
/// `runs` has those that [`TestFile::runs`] names.
pub fn resolve(file: &TestFile, plan: &Plan, runs: &Runs) -> (Option<Suite>, Vec<Diagnostic>) {
    let schema =
        |plugin: &downbeat_workflow::plan::Plugin| OutputSchema::new(&plugin.component.description.output_schema);
    let mut resolver = Resolver {
        file,
        plan,
        runs,
        recorded: None,
        schemas: plan.plugins.iter().map(schema).collect(),
        lacking: Vec::new(),
        told: BTreeSet::new(),
        out: Collector::default(),
    };
    let named = |plan: &Plan, name: &str| plan.plugins.iter().any(|plugin| plugin.name == name);
    resolver.names("plugin", &file.plugins, named, |plan| plan.plugins.iter().map(|plugin| &plugin.name).collect());
    let tests: Vec<Test> = file.tests.iter().map(|(name, spec)| resolver.test(name, spec)).collect();
    let failed = resolver.out.error_count() > 0 || file.incomplete;
    ((!failed).then_some(Suite { tests }), resolver.out.finish())
}

struct Resolver<'a> {
    file: &'a TestFile,
    plan: &'a Plan,
    runs: &'a Runs,
    /// The run that the test at hand answers from.
    recorded: Option<Arc<Recorded>>,
    /// Of each plugin's output.
    schemas: Vec<OutputSchema>,
    /// What the answers of the test at hand lack, by plugin: told unless its `default` lacks the same.
    lacking: Vec<(usize, Diagnostic)>,
    /// What was told already, by place and message: what all tests share is judged with each of them.
    told: BTreeSet<(usize, String)>,
    out: Collector,
}

impl<'a> Resolver<'a> {
    fn test(&mut self, name: &Spanned<String>, spec: &'a TestSpec) -> Test {
        let from_run = spec.from_run.as_ref().or(self.file.from_run.as_ref());
        self.recorded = from_run.and_then(|name| self.recorded(name));
        let said = self.all_said(spec);
        let mut otherwise = BTreeMap::new();
        let mut lacks = BTreeSet::new();
        let default = spec.default.as_ref().or(self.file.default.as_ref());
        if let Some(default) = default.filter(|default| *default.get_ref() == Otherwise::Succeed) {
            let is_said = |no: &StepNo| said.iter().any(|(named, _)| named.no == *no && named.path.indices() == 0);
            // Of a step that several ways lead to, something may be said for some of them only.
            let shared = shared(self.plan);
            let all = (0..self.plan.steps.len() as u32).map(StepNo);
            // What a recorded run answers needs nothing from here.
            let is_needed = |no: &StepNo| !is_said(no) && self.recorded.is_none();
            let unsaid = all.filter(|no| !is_said(no) || shared[no.index()]).map(|no| (no, is_needed(&no))).collect();
            lacks = self.succeed(default.span(), unsaid, &mut otherwise);
        }
        for (plugin, lacking) in std::mem::take(&mut self.lacking) {
            if !lacks.contains(&(plugin, lacking.message.clone())) {
                self.tell(lacking);
            }
        }
        let (mut happenings, mut outside) = (Vec::new(), Vec::new());
        for happening in &spec.outside {
            if let Some(what) = self.happening(happening) {
                happenings.push(Happening { at_ms: happening.at_ms, what });
                outside.push(happening.span.clone());
            }
        }
        let recorded = self.recorded.take();
        if let Some(recorded) = recorded.as_ref().filter(|_| spec.outside.is_empty()) {
            happenings = recorded.happenings(self.plan);
        }
        let inputs = self.inputs(name, spec, recorded.as_deref());
        let of_run = recorded.as_ref().map(|run| (run.began_ms, run.seed));
        let (begins_ms, seed) = of_run.unwrap_or((0, SEED));
        let (begins_ms, seed) = (spec.begins_ms.unwrap_or(begins_ms), spec.seed.unwrap_or(seed));
        let setting = Setting { inputs, begins_ms, seed, outside: happenings };
        let mut expected = Vec::new();
        if let Some(expect) = &spec.expect {
            self.expected(expect, &mut expected);
        }
        let description = spec.description.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default();
        let mut by_path: HashMap<String, Vec<(StepPath, Answers)>> = HashMap::new();
        for (Named { path, .. }, answers) in said {
            by_path.entry(path.bare().to_string()).or_default().push((path, answers));
        }
        for said in by_path.values_mut() {
            said.sort_by_key(|(path, _)| std::cmp::Reverse(path.indices()));
        }
        let (name, span) = (name.get_ref().clone(), name.span());
        Test { name, description, span, setting, outside, said: by_path, recorded, otherwise, expected }
    }

    fn recorded(&mut self, name: &Spanned<String>) -> Option<Arc<Recorded>> {
        match self.runs.get(name.get_ref()) {
            Some(Ok(run)) if run.workflow == self.plan.name => Some(run.clone()),
            Some(Ok(run)) => {
                let (named, of, plan) = (name.get_ref(), &run.workflow, &self.plan.name);
                let message = format!("the run `{named}` is of the workflow `{of}`, not of `{plan}`");
                let hint = format!("`downbeat list` shows the runs with their workflows: name one of `{plan}`");
                self.tell(Diagnostic::error("no-run", name.span(), message).label("of another workflow").hint(hint));
                None
            }
            found => {
                let why = found.and_then(|found| found.as_ref().err()).map_or("it was not looked for", String::as_str);
                let message = format!("there is no recorded run `{}`: {why}", name.get_ref());
                let hint = "`downbeat export` writes a run into a file, which is named from the test file's own folder";
                self.tell(Diagnostic::error("no-run", name.span(), message).hint(hint));
                None
            }
        }
    }

    /// What is said of steps in a test, whole: each path once, with all that lies below it.
    fn all_said(&mut self, spec: &'a TestSpec) -> Vec<(Named, Answers)> {
        let mut said: Vec<Said<'a>> = Vec::new();
        for (of_test, entries) in [(true, &spec.steps), (false, &self.file.steps)] {
            for (name, spec) in entries {
                said.extend(self.answering(name).map(|named| Said { of_test, named, spec }));
            }
        }
        let mut whole: Vec<(Named, Answers)> = Vec::new();
        for this in &said {
            if whole.iter().any(|(named, _)| *named == this.named) {
                continue;
            }
            let mut layers: Vec<&Said<'_>> =
                said.iter().filter(|other| other.named.path.covers(&this.named.path)).collect();
            layers.sort_by_key(|layer| std::cmp::Reverse(layer.height()));
            let below: Vec<&AnswerSpec> = layers[1..]
                .iter()
                .filter_map(|layer| match layer.spec {
                    AnswersSpec::Every(answer) => Some(answer),
                    AnswersSpec::Each(_) => None,
                })
                .collect();
            let resolved = self.answers(this.named.no, layers[0].spec, &below);
            whole.extend(resolved.map(|resolved| (this.named.clone(), resolved)));
        }
        whole
    }

    /// What comes from outside, if it can come to something.
    fn happening(&mut self, spec: &HappeningSpec) -> Option<What> {
        match &spec.what {
            WhatSpec::Cancel(None) => Some(What::Cancel),
            WhatSpec::Cancel(Some(step)) => self.step(step).map(What::CancelSteps),
            WhatSpec::Signal { name, data } => {
                let known = &self.plan.signals;
                if !known.iter().any(|signal| signal.name == *name.get_ref()) {
                    self.unknown("signal", name, known.iter().map(|signal| signal.name.as_str()));
                    return None;
                }
                let data = data.as_ref().map_or_else(Json::null, |data| Json::from(data.to_json()));
                Some(What::Signal { name: name.get_ref().clone(), data })
            }
            WhatSpec::Approval { step, approved, by, note } => {
                let steps = self.one_of(step, Meaning::Each)?;
                let Work::Wait(downbeat_workflow::plan::Wait { approval: Some(approval), .. }) =
                    &self.plan.step(steps.no).work
                else {
                    let message = format!("`{}` waits for nobody's word", step.get_ref());
                    let asks = |step: &&downbeat_workflow::plan::Step| matches!(&step.work, Work::Wait(wait) if wait.approval.is_some());
                    let paths = paths(self.plan);
                    let asking = self.plan.steps.iter().zip(&paths).filter(|(step, _)| asks(step));
                    let asking: Vec<String> = asking.map(|(_, path)| format!("`{path}`")).collect();
                    let hint = match asking.as_slice() {
                        [] => "no step of the workflow has `wait = { approval = … }`".to_owned(),
                        asking => format!("steps with `approval`: {}", asking.join(", ")),
                    };
                    self.tell(Diagnostic::error("no-approval", step.span(), message).label("no `approval`").hint(hint));
                    return None;
                };
                let by = match by {
                    None => approval.by.first().cloned().unwrap_or_default(),
                    Some(by) if approval.by.is_empty() || approval.by.contains(by.get_ref()) => by.get_ref().clone(),
                    Some(by) => {
                        let message = format!("`{}` does not ask `{}`", step.get_ref(), by.get_ref());
                        let hint = self.out.suggest(by.get_ref(), approval.by.iter().map(String::as_str));
                        let asked: Vec<String> = approval.by.iter().map(|name| format!("`{name}`")).collect();
                        let hint = hint.unwrap_or_else(|| format!("it asks {}", asked.join(", ")));
                        let found = Diagnostic::error("unknown-approver", by.span(), message);
                        self.tell(found.label("not one of its `approval`").hint(hint));
                        return None;
                    }
                };
                Some(What::Approval { steps, approved: *approved, by, note: note.clone() })
            }
        }
    }

    /// Lets steps of which nothing is said succeed; of some, it has to be possible. What the answers of plugins then lack is
    /// told, and given by plugin.
    fn succeed(
        &mut self,
        span: Range<usize>,
        steps: BTreeMap<StepNo, bool>,
        answers: &mut BTreeMap<StepNo, Answer>,
    ) -> BTreeSet<(usize, String)> {
        let mut lacks = BTreeSet::new();
        let nothing = Value { span: span.clone(), kind: ValueKind::Table(Vec::new()) };
        for (no, is_needed) in steps {
            let Some(index) = self.plan.step(no).uses().map(|uses| uses.plugin.index()) else { continue };
            let plugin = &self.plan.plugins[index];
            let base = self.base(&plugin.name);
            let mut misfits = Vec::new();
            self.schemas[index].judge("output", base.unwrap_or(&nothing), &mut |misfit| misfits.push(misfit));
            misfits.retain(Diagnostic::is_error);
            let Some(first) = misfits.first() else {
                let output = Json::from(base.unwrap_or(&nothing).to_json());
                answers.insert(no, Answer { end: Ok(output), took_ms: 0, appends: Vec::new() });
                continue;
            };
            if is_needed {
                let misfit = in_one(&misfits);
                let message = format!("steps of `{}` can't succeed with this alone: {misfit}", plugin.name);
                let place = base.map_or(span.clone(), |_| first.span.clone());
                let found = Diagnostic::error("default-answer", place, message).label("does not fit the output schema");
                let hint = format!("say in `[plugins.{}]` what they answer unless a test says otherwise", plugin.name);
                self.tell(found.hint(hint));
                lacks.extend(misfits.into_iter().map(|misfit| (index, misfit.message)));
            }
        }
        lacks
    }

    fn answers(&mut self, step: StepNo, spec: &AnswersSpec, below: &[&AnswerSpec]) -> Option<Answers> {
        match spec {
            AnswersSpec::Every(answer) => {
                let layers = || std::iter::once(answer).chain(below.iter().copied());
                let is_recorded = self.recorded.is_some() && layers().all(|layer| matches!(layer.end, EndSpec::Unsaid));
                match layers().find_map(|layer| layer.took_ms).filter(|_| is_recorded) {
                    Some(took_ms) => Some(Answers::AsRecorded(took_ms)),
                    None => self.answer(step, answer, below).map(Answers::Every),
                }
            }
            AnswersSpec::Each(all) => {
                let all: Vec<Option<Answer>> = all.iter().map(|answer| self.answer(step, answer, below)).collect();
                all.into_iter().collect::<Option<Vec<Answer>>>().map(Answers::Each)
            }
        }
    }

    /// An answer, with what is said below it, the uppermost first.
    fn answer(&mut self, step: StepNo, spec: &AnswerSpec, below: &[&AnswerSpec]) -> Option<Answer> {
        let mut layers = std::iter::once(spec).chain(below.iter().copied());
        let took_ms = layers.clone().find_map(|layer| layer.took_ms).unwrap_or(0);
        let appends = layers.find_map(|layer| layer.appends.clone()).unwrap_or_default();
        let json = |(after_ms, items): (u64, Vec<Value>)| {
            (after_ms, items.iter().map(|item| Json::from(item.to_json())).collect::<Vec<Json>>())
        };
        let mut appends: Vec<(u64, Vec<Json>)> = appends.into_iter().map(json).collect();
        appends.sort_by_key(|(after_ms, _)| *after_ms);
        let mut output: Option<Value> = None;
        for layer in std::iter::once(spec).chain(below.iter().copied()) {
            match (&layer.end, &output) {
                (EndSpec::Failure(failure), None) => {
                    return Some(Answer { end: Err(failure.clone()), took_ms, appends });
                }
                (EndSpec::Failure(_), Some(_)) => break,
                (EndSpec::Output(value), None) => output = Some(value.clone()),
                (EndSpec::Output(value), Some(over)) => output = Some(laid_over(value, over)),
                (EndSpec::Unsaid, _) => (),
            }
        }
        let nothing = || Value { span: spec.span.clone(), kind: ValueKind::Table(Vec::new()) };
        let output = output.unwrap_or_else(nothing);
        let plugin = self.plan.step(step).uses()?.plugin;
        let name = &self.plan.plugins[plugin.index()].name;
        let output = self.base(name).map_or_else(|| output.clone(), |base| laid_over(base, &output));
        let mut misfits = Vec::new();
        self.schemas[plugin.index()].judge("output", &output, &mut |misfit| misfits.push(misfit));
        let fits = !misfits.iter().any(Diagnostic::is_error);
        for misfit in misfits {
            let hint = format!(
                "the component of `{name}` answers so; what all its steps have can stand in `[plugins.{name}]`"
            );
            match (misfit.code, &misfit.hint) {
                ("missing-property", None) => self.lacking.push((plugin.index(), misfit.hint(hint))),
                _ => self.tell(misfit),
            }
        }
        fits.then(|| Answer { end: Ok(Json::from(output.to_json())), took_ms, appends })
    }

    /// What the answers of a plugin's steps have in common.
    fn base(&self, plugin: &str) -> Option<&'a Value> {
        self.file.plugins.iter().find(|(name, _)| name.get_ref() == plugin).map(|(_, value)| value)
    }

    fn inputs(&mut self, test: &Spanned<String>, spec: &TestSpec, recorded: Option<&Recorded>) -> Json {
        let of_run = recorded.map(|run| run.inputs.value());
        let of_run = of_run.and_then(|value| value.as_object().cloned()).unwrap_or_default();
        // Those that the workflow still has.
        let mut given: serde_json::Map<String, serde_json::Value> =
            of_run.into_iter().filter(|(name, _)| self.plan.inputs.contains_key(name)).collect();
        let mut right = true;
        for (name, value) in self.file.inputs.iter().chain(&spec.inputs) {
            let known = self.plan.inputs.contains_key(name.get_ref());
            given.insert(name.get_ref().clone(), value.to_json());
            let one = serde_json::Map::from_iter([(name.get_ref().clone(), value.to_json())]);
            for fault in inputs::judge(self.plan, &one) {
                right = false;
                let (code, place) = match known {
                    true => ("wrong-input", value.span.clone()),
                    false => ("unknown-input", name.span()),
                };
                self.tell(Diagnostic::error(code, place, fault));
            }
        }
        match inputs::accept(self.plan, given) {
            Ok(inputs) => inputs,
            Err(faults) => {
                // What seems to be missing may only have been unreadable.
                for fault in faults.into_iter().filter(|_| right && !self.file.incomplete) {
                    let found = Diagnostic::error("missing-input", test.span(), fault).label("this test's run");
                    let hint =
                        format!("give it in `[tests.{}.inputs]`, or in `[inputs]` for all tests", test.get_ref());
                    self.tell(found.hint(hint));
                }
                Json::null()
            }
        }
    }

    fn expected(&mut self, expect: &ExpectSpec, expected: &mut Vec<(Range<usize>, Expectation)>) {
        if let Some(outcome) = &expect.outcome {
            expected.push((outcome.span(), Expectation::Outcome(*outcome.get_ref())));
        }
        let declared = |plan: &Plan, name: &str| plan.outputs.iter().any(|output| output.name == name);
        self.names("output", &expect.outputs, declared, |plan| {
            plan.outputs.iter().map(|output| &output.name).collect()
        });
        for (name, value) in &expect.outputs {
            expected.push((value.span.clone(), Expectation::Output(name.get_ref().clone(), value.to_json())));
        }
        if let Some(took) = &expect.took {
            expected.push((took.span(), Expectation::Took(*took.get_ref())));
        }
        for (names, make) in
            [(&expect.ran, Expectation::Ran as fn(Named) -> _), (&expect.never_ran, Expectation::NeverRan)]
        {
            for name in names {
                expected.extend(self.step(name).map(|step| (name.span(), make(step))));
            }
        }
        let declared = |plan: &Plan, name: &str| plan.pools.iter().any(|pool| pool.name == name);
        self.names("pool", &expect.pools, declared, |plan| plan.pools.iter().map(|pool| &pool.name).collect());
        for (name, peak) in &expect.pools {
            if let Some(pool) = self.plan.pools.iter().position(|pool| pool.name == *name.get_ref()) {
                expected.push((peak.span(), Expectation::Peak(PoolId(pool as u32), *peak.get_ref())));
            }
        }
        for (name, of) in &expect.steps {
            let Some(step) = self.step(name) else { continue };
            self.expected_of(name, &step, of, expected);
        }
    }

    fn expected_of(
        &mut self,
        name: &Spanned<String>,
        step: &Named,
        of: &ExpectedStepSpec,
        expected: &mut Vec<(Range<usize>, Expectation)>,
    ) {
        let mut add = |span: Range<usize>, what| expected.push((span, Expectation::Step(step.clone(), what)));
        if let Some(end) = &of.end {
            add(end.span(), StepExpectation::End(*end.get_ref()));
        }
        if let Some(output) = &of.output {
            add(output.span.clone(), StepExpectation::Output(output.to_json()));
        }
        if let Some(attempts) = of.attempts.as_ref().filter(|attempts| self.has_attempts(name, step, attempts.span())) {
            add(attempts.span(), StepExpectation::Attempts(*attempts.get_ref()));
        }
        if let Some(opened) = &of.opened {
            match self.plan.step(step.no).opens() {
                Some(_) => add(opened.span(), StepExpectation::Opened(*opened.get_ref())),
                None => {
                    let message = format!("`{}` opens nothing: no block, items, rounds or workflow", name.get_ref());
                    self.tell(Diagnostic::error("no-scopes", opened.span(), message).label("never true"));
                }
            }
        }
        if let Some(reason) = &of.reason {
            add(reason.span(), StepExpectation::Reason(*reason.get_ref()));
        }
        if let Some(failure) = &of.failure {
            add(failure.span(), StepExpectation::Failure(failure.get_ref().clone()));
        }
        if let Some(text) = &of.says {
            add(text.span(), StepExpectation::Says(text.get_ref().clone()));
        }
        if let Some(input) = of.input.as_ref().filter(|input| self.has_attempts(name, step, input.span.clone())) {
            add(input.span.clone(), StepExpectation::Input(input.to_json()));
        }
        if let Some(need) = &of.need
            && let Some(found) = self.need(step, need)
        {
            add(need.span(), StepExpectation::Need(found));
        }
        for later in &of.before {
            if let Some(found) = self.step(later) {
                expected.push((later.span(), Expectation::Before(step.clone(), found)));
            }
        }
    }

    /// Whether the step makes attempts itself. If not, what is said of them can't be.
    fn has_attempts(&mut self, name: &Spanned<String>, step: &Named, span: Range<usize>) -> bool {
        let planned = self.plan.step(step.no);
        if planned.uses().is_some() {
            return true;
        }
        let name = name.get_ref();
        let message = format!("`{name}` makes no attempts: {}", what_it_does(planned));
        let hint = match (planned.opens(), only_step(self.plan, planned)) {
            (Some(_), Some(_)) => Some(format!("say which of its items or rounds: `{name}[0]`")),
            (Some(opens), None) => {
                let first = self.plan.steps_of(opens.body).next();
                first.map(|first| format!("its steps do: `{name}/{}`", self.plan.step(StepNo(first)).name))
            }
            (None, _) => None,
        };
        self.tell(Diagnostic::error("no-attempts", span, message).label("there are none").maybe_hint(hint));
        false
    }

    /// A step that the first one needs. Both are of one body, so that its name is enough.
    fn need(&mut self, step: &Named, name: &Spanned<String>) -> Option<Named> {
        let planned = self.plan.step(step.no);
        let needed = |need: &&downbeat_workflow::plan::Need| self.plan.step(need.step).name == *name.get_ref();
        if let Some(need) = planned.needs.iter().find(needed) {
            return StepPath::parse(name.get_ref()).map(|path| Named { path, no: need.step });
        }
        let names = planned.needs.iter().map(|need| format!("`{}`", self.plan.step(need.step).name));
        let names = names.collect::<Vec<String>>();
        let message = format!("`{}` does not need `{}`", planned.name, name.get_ref());
        let found = Diagnostic::error("unknown-need", name.span(), message).label("not one of its `needs`");
        let hint = (!names.is_empty()).then(|| format!("it needs {}", names.join(", ")));
        self.tell(found.maybe_hint(hint));
        None
    }

    /// The step that a path names: the one that opens items or rounds, if no index says which of them.
    fn step(&mut self, name: &Spanned<String>) -> Option<Named> {
        self.one_of(name, Meaning::Whole)
    }

    /// The step that a path names whose attempts are to be answered.
    fn answering(&mut self, name: &Spanned<String>) -> Option<Named> {
        let named = self.one_of(name, Meaning::Each)?;
        let step = self.plan.step(named.no);
        if step.uses().is_some() {
            return Some(named);
        }
        let message = format!("`{}` has no answer: {}", name.get_ref(), what_it_does(step));
        let hint = match &step.work {
            Work::Open(opens) => {
                let first = self.plan.steps_of(opens.body).next();
                first.map(|first| {
                    let first = &self.plan.step(StepNo(first)).name;
                    format!("its steps answer, such as `{}/{first}`", name.get_ref())
                })
            }
            Work::Wait(_) => {
                Some("what it waits for comes by `signals` and `approvals` of a test, or by time".to_owned())
            }
            _ => None,
        };
        self.tell(Diagnostic::error("no-attempts", name.span(), message).label("runs no component").maybe_hint(hint));
        None
    }

    fn one_of(&mut self, name: &Spanned<String>, meaning: Meaning) -> Option<Named> {
        let path = StepPath::parse(name.get_ref());
        let found = match &path {
            Some(path) => path.find(self.plan, meaning),
            None => Err(Misnamed { message: format!("`{}` is no path of a step", name.get_ref()), hint: None }),
        };
        match (path, found) {
            (Some(path), Ok(no)) => return Some(Named { path, no }),
            (_, Err(misnamed)) => {
                let known = paths(self.plan);
                let hint = misnamed.hint.or_else(|| self.out.suggest(name.get_ref(), known.iter().map(String::as_str)));
                let found = Diagnostic::error("unknown-step", name.span(), misnamed.message);
                self.tell(found.label("unknown step").maybe_hint(hint));
            }
            (None, Ok(_)) => (),
        }
        None
    }

    /// Tells the names that the workflow does not have.
    fn names<T>(
        &mut self,
        kind: &str,
        entries: &Entries<T>,
        is_known: impl Fn(&Plan, &str) -> bool,
        known: impl Fn(&'a Plan) -> Vec<&'a String>,
    ) {
        for (name, _) in entries {
            if !is_known(self.plan, name.get_ref()) {
                self.unknown(kind, name, known(self.plan).into_iter().map(String::as_str));
            }
        }
    }

    fn unknown<'n>(&mut self, kind: &str, name: &Spanned<String>, known: impl Iterator<Item = &'n str>) {
        let hint = self.out.suggest(name.get_ref(), known);
        let message = format!("the workflow has no {kind} `{}`", name.get_ref());
        let found = Diagnostic::error(unknown_code(kind), name.span(), message);
        self.tell(found.label(format!("unknown {kind}")).maybe_hint(hint));
    }

    fn tell(&mut self, found: Diagnostic) {
        if self.told.insert((found.span.start, found.message.clone())) {
            self.out.push(found);
        }
    }
}

/// Misfits in one sentence, all that is missing from the answer as a whole together.
fn in_one(misfits: &[Diagnostic]) -> String {
    const MISSING: &str = "`output` needs ";
    let missing: Vec<&str> = misfits.iter().filter_map(|misfit| misfit.message.strip_prefix(MISSING)).collect();
    let mut parts: Vec<String> = Vec::new();
    match missing.split_last() {
        Some((last, rest)) if !rest.is_empty() => parts.push(format!("{MISSING}{} and {last}", rest.join(", "))),
        Some((last, _)) => parts.push(format!("{MISSING}{last}")),
        None => (),
    }
    let others = misfits.iter().filter(|misfit| !misfit.message.starts_with(MISSING));
    parts.extend(others.map(|misfit| misfit.message.clone()));
    parts.join("; ")
}

fn unknown_code(kind: &str) -> &'static str {
    match kind {
        "plugin" => "unknown-plugin",
        "pool" => "unknown-pool",
        "output" => "unknown-output",
        "signal" => "unknown-signal",
        _ => "unknown-step",
    }
}

/// What a step without attempts does instead, in words.
fn what_it_does(step: &downbeat_workflow::plan::Step) -> &'static str {
    match step.work {
        Work::Use(_) => "it runs a component",
        Work::Open(_) => "it opens other steps",
        Work::Wait(_) => "it waits",
        Work::Finish | Work::Fail(_) => "it is an end",
    }
}

/// What is said above, and below it what is only said there: tables are merged, anything else is replaced. The place is the
/// upper one's.
fn laid_over(below: &Value, over: &Value) -> Value {
    let (ValueKind::Table(lower), ValueKind::Table(upper)) = (&below.kind, &over.kind) else { return over.clone() };
    let mut entries: Entries<Value> = Vec::with_capacity(lower.len() + upper.len());
    for (key, value) in lower {
        match upper.iter().find(|(name, _)| name.get_ref() == key.get_ref()) {
            Some((name, over)) => entries.push((name.clone(), laid_over(value, over))),
            None => entries.push((key.clone(), value.clone())),
        }
    }
    let is_new = |(name, _): &&(Spanned<String>, Value)| !lower.iter().any(|(key, _)| key.get_ref() == name.get_ref());
    entries.extend(upper.iter().filter(is_new).cloned());
    Value { span: over.span.clone(), kind: ValueKind::Table(entries) }
}
