//! What a test file means for a plan: names are indices, inputs are complete, answers are whole and fit the schemas of the
//! components that would give them. Everything that is wrong is told at once; after a [`Suite`] exists, nobody asks
//! whether a test makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use downbeat_workflow::answer::OutputSchema;
use downbeat_workflow::diagnostic::{Collector, Diagnostic};
use downbeat_workflow::event::{FailureKind, Outcome, StepEnd};
use downbeat_workflow::inputs;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, PoolId, StepId};
use downbeat_workflow::run::Attempt;
use downbeat_workflow::spec::{Entries, Spanned, Value, ValueKind};

use crate::file::{AnswerSpec, AnswersSpec, Bound, EndSpec, ExpectSpec, Otherwise, Reason, TestFile, TestSpec};
use crate::rehearse::{Answer, Setting};

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
    /// How its run begins.
    pub setting: Setting,
    /// How steps answer.
    pub answers: BTreeMap<StepId, Answers>,
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
}

/// Something that must be true of a run.
#[derive(Clone, Debug)]
pub enum Expectation {
    /// It ends so.
    Outcome(Outcome),
    /// It has this output.
    Output(String, serde_json::Value),
    /// It takes so long.
    Took(Bound),
    /// The step is started at least once.
    Ran(StepId),
    /// The step is never started.
    NeverRan(StepId),
    /// At most so many attempts are in the pool at once, and once they are.
    Peak(PoolId, u32),
    /// The step ends so.
    End(StepId, StepEnd),
    /// So many attempts of the step are started.
    Attempts(StepId, u32),
    /// The step is skipped for this reason.
    Reason(StepId, Reason),
    /// The first step is skipped because its need of the second one was not met.
    Need(StepId, StepId),
    /// The step's last failure is of this kind.
    Failure(StepId, FailureKind),
    /// The sentence that tells why the step failed or was skipped has this in it.
    Says(StepId, String),
    /// The step's last attempt is given this.
    Input(StepId, serde_json::Value),
    /// The first step is over before the second one is started.
    Before(StepId, StepId),
}

impl Test {
    /// How an attempt ends; `None` if nobody said.
    pub fn answer(&self, attempt: &Attempt) -> Option<Answer> {
        match self.answers.get(&attempt.step)? {
            Answers::Every(answer) => Some(answer.clone()),
            Answers::Each(answers) => answers.get(attempt.attempt.checked_sub(1)? as usize).cloned(),
        }
    }
}

/// Holds a file against the plan of its workflow. There is no suite if anything is an error, here or in the file's shape.
pub fn resolve(file: &TestFile, plan: &Plan) -> (Option<Suite>, Vec<Diagnostic>) {
    let schema =
        |plugin: &downbeat_workflow::plan::Plugin| OutputSchema::new(&plugin.component.description.output_schema);
    let mut resolver = Resolver {
        file,
        plan,
        schemas: plan.plugins.iter().map(schema).collect(),
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
    /// Of each plugin's output.
    schemas: Vec<OutputSchema>,
    /// What was told already, by place and message: what all tests share is judged with each of them.
    told: BTreeSet<(usize, String)>,
    out: Collector,
}

impl<'a> Resolver<'a> {
    fn test(&mut self, name: &Spanned<String>, spec: &'a TestSpec) -> Test {
        let mut answers: BTreeMap<StepId, Answers> = BTreeMap::new();
        for (step, of_file) in &self.file.steps {
            if let Some(id) = self.step(step)
                && !spec.steps.iter().any(|(other, _)| other.get_ref() == step.get_ref())
            {
                let resolved = self.answers(id, of_file, None);
                answers.extend(resolved.map(|resolved| (id, resolved)));
            }
        }
        for (step, of_test) in &spec.steps {
            if let Some(id) = self.step(step) {
                let of_file = self.file.steps.iter().find(|(other, _)| other.get_ref() == step.get_ref());
                let resolved = self.answers(id, of_test, of_file.map(|(_, answers)| answers));
                answers.extend(resolved.map(|resolved| (id, resolved)));
            }
        }
        let default = spec.default.as_ref().or(self.file.default.as_ref());
        if let Some(default) = default.filter(|default| *default.get_ref() == Otherwise::Succeed) {
            self.succeed(default.span(), &mut answers);
        }
        let setting =
            Setting { inputs: self.inputs(name, spec), seed: spec.seed.unwrap_or(SEED), cancel_at_ms: spec.cancel_ms };
        let mut expected = Vec::new();
        if let Some(expect) = &spec.expect {
            self.expected(expect, &mut expected);
        }
        let description = spec.description.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default();
        Test { name: name.get_ref().clone(), description, span: name.span(), setting, answers, expected }
    }

    /// Lets every step that has no answer succeed.
    fn succeed(&mut self, span: Range<usize>, answers: &mut BTreeMap<StepId, Answers>) {
        let nothing = Value { span: span.clone(), kind: ValueKind::Table(Vec::new()) };
        let mut by_plugin: Vec<Option<Json>> = Vec::new();
        for (index, plugin) in self.plan.plugins.iter().enumerate() {
            let unanswered = |(at, step): (usize, &downbeat_workflow::plan::Step)| {
                step.plugin.index() == index && !answers.contains_key(&StepId(at as u32))
            };
            if !self.plan.steps.iter().enumerate().any(unanswered) {
                by_plugin.push(None);
                continue;
            }
            let base = self.base(&plugin.name);
            let mut misfits = Vec::new();
            self.schemas[index].judge("output", base.unwrap_or(&nothing), &mut |misfit| misfits.push(misfit));
            if let Some(misfit) = misfits.iter().find(|misfit| misfit.is_error()) {
                let message = format!("steps of `{}` can't succeed with this alone: {}", plugin.name, misfit.message);
                let place = base.map_or(span.clone(), |_| misfit.span.clone());
                let found = Diagnostic::error("default-answer", place, message).label("does not fit the output schema");
                let hint = format!("say in `[plugins.{}]` what they answer unless a test says otherwise", plugin.name);
                self.tell(found.hint(hint));
            }
            by_plugin.push(Some(Json::from(base.unwrap_or(&nothing).to_json())));
        }
        for (index, step) in self.plan.steps.iter().enumerate() {
            if let Some(output) = &by_plugin[step.plugin.index()] {
                let answer = Answer { end: Ok(output.clone()), took_ms: 0 };
                answers.entry(StepId(index as u32)).or_insert(Answers::Every(answer));
            }
        }
    }

    fn answers(&mut self, step: StepId, spec: &AnswersSpec, below: Option<&AnswersSpec>) -> Option<Answers> {
        // What the file says of the step lies below what the test says of it.
        let below = match below {
            Some(AnswersSpec::Every(answer)) => Some(answer),
            _ => None,
        };
        match spec {
            AnswersSpec::Every(answer) => self.answer(step, answer, below).map(Answers::Every),
            AnswersSpec::Each(all) => {
                let all: Vec<Option<Answer>> = all.iter().map(|answer| self.answer(step, answer, below)).collect();
                all.into_iter().collect::<Option<Vec<Answer>>>().map(Answers::Each)
            }
        }
    }

    fn answer(&mut self, step: StepId, spec: &AnswerSpec, below: Option<&AnswerSpec>) -> Option<Answer> {
        let took_ms = spec.took_ms.or(below.and_then(|below| below.took_ms)).unwrap_or(0);
        let output = match (&spec.end, below.map(|below| &below.end)) {
            (EndSpec::Failure(failure), _) => return Some(Answer { end: Err(failure.clone()), took_ms }),
            (EndSpec::Unsaid, Some(EndSpec::Failure(failure))) => {
                return Some(Answer { end: Err(failure.clone()), took_ms });
            }
            (EndSpec::Output(over), Some(EndSpec::Output(below))) => laid_over(below, over),
            (EndSpec::Output(output), _) | (EndSpec::Unsaid, Some(EndSpec::Output(output))) => output.clone(),
            (EndSpec::Unsaid, _) => Value { span: spec.span.clone(), kind: ValueKind::Table(Vec::new()) },
        };
        let plugin = self.plan.step(step).plugin;
        let name = &self.plan.plugins[plugin.index()].name;
        let output = self.base(name).map_or_else(|| output.clone(), |base| laid_over(base, &output));
        let mut misfits = Vec::new();
        self.schemas[plugin.index()].judge("output", &output, &mut |misfit| misfits.push(misfit));
        let fits = !misfits.iter().any(Diagnostic::is_error);
        for misfit in misfits {
            let hint = format!(
                "the component of `{name}` answers so; what all its steps have can stand in `[plugins.{name}]`"
            );
            self.tell(match (misfit.code, &misfit.hint) {
                ("missing-property", None) => misfit.hint(hint),
                _ => misfit,
            });
        }
        fits.then(|| Answer { end: Ok(Json::from(output.to_json())), took_ms })
    }

    /// What the answers of a plugin's steps have in common.
    fn base(&self, plugin: &str) -> Option<&'a Value> {
        self.file.plugins.iter().find(|(name, _)| name.get_ref() == plugin).map(|(_, value)| value)
    }

    fn inputs(&mut self, test: &Spanned<String>, spec: &TestSpec) -> Json {
        let mut given = serde_json::Map::new();
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
            [(&expect.ran, Expectation::Ran as fn(StepId) -> _), (&expect.never_ran, Expectation::NeverRan)]
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
            let mut add = |span: Range<usize>, expectation| expected.push((span, expectation));
            if let Some(end) = &of.end {
                add(end.span(), Expectation::End(step, *end.get_ref()));
            }
            if let Some(attempts) = &of.attempts {
                add(attempts.span(), Expectation::Attempts(step, *attempts.get_ref()));
            }
            if let Some(reason) = &of.reason {
                add(reason.span(), Expectation::Reason(step, *reason.get_ref()));
            }
            if let Some(failure) = &of.failure {
                add(failure.span(), Expectation::Failure(step, failure.get_ref().clone()));
            }
            if let Some(text) = &of.says {
                add(text.span(), Expectation::Says(step, text.get_ref().clone()));
            }
            if let Some(input) = &of.input {
                add(input.span.clone(), Expectation::Input(step, input.to_json()));
            }
            if let Some(name) = &of.need {
                expected.extend(self.need(step, name).map(|need| (name.span(), Expectation::Need(step, need))));
            }
            for name in &of.before {
                expected.extend(self.step(name).map(|later| (name.span(), Expectation::Before(step, later))));
            }
        }
    }

    /// A step that the first one needs.
    fn need(&mut self, step: StepId, name: &Spanned<String>) -> Option<StepId> {
        let need = self.step(name)?;
        let step = self.plan.step(step);
        if step.needs.iter().any(|known| known.step == need) {
            return Some(need);
        }
        let names: Vec<String> =
            step.needs.iter().map(|need| format!("`{}`", self.plan.step(need.step).name)).collect();
        let message = format!("`{}` does not need `{}`", step.name, name.get_ref());
        let found = Diagnostic::error("unknown-need", name.span(), message).label("not one of its `needs`");
        let hint = (!names.is_empty()).then(|| format!("it needs {}", names.join(", ")));
        self.tell(found.maybe_hint(hint));
        None
    }

    fn step(&mut self, name: &Spanned<String>) -> Option<StepId> {
        let found = self.plan.step_named(name.get_ref());
        if found.is_none() {
            let known = self.plan.steps.iter().map(|step| step.name.as_str());
            self.unknown("step", name, known);
        }
        found
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

fn unknown_code(kind: &str) -> &'static str {
    match kind {
        "plugin" => "unknown-plugin",
        "pool" => "unknown-pool",
        "output" => "unknown-output",
        _ => "unknown-step",
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
