//! The JSON Schema of one line of the event stream, for programs that read it. Events and fields may be added to it, so
//! that it allows more than it lists; a test holds that it lists all that there is.

use downbeat_workflow::capability::Protection;
use downbeat_workflow::log::Level;
use serde_json::{Map, Value, json};

/// Each event: its name, what it says, its fields beside those that all have.
const EVENTS: &[(&str, &str, &[&str])] = &[
    ("run-created", "Always the first.", &["workflow", "plan", "inputs", "seed"]),
    ("run-admitted", "The run is the only one of its group from here to its end.", &[]),
    ("step-reused", "It succeeded without an attempt: its answer is another run's.", &["step", "output", "origin"]),
    ("paused", "Somebody asked that nothing new be started: of a step, or without one of the run.", &["reason"]),
    ("unpaused", "A pause of a step, or without one of the run, is over.", &[]),
    ("attempt-queued", "The attempt waits for a place in its pool.", &["step", "attempt", "pool"]),
    (
        "wait-queued",
        "A step that waits is in line for a place in its pool, which it has while it waits.",
        &["step", "pool"],
    ),
    (
        "scope-queued",
        "A block, an item, a round or a sub-workflow is in line for a place in its pool, which it has until it is over.",
        &["step", "index", "pool"],
    ),
    ("cache-asked", "The cache is asked for the step's answer; if it has none, an attempt follows.", &["step"]),
    (
        "cache-hit",
        "The cache had the answer: the step succeeded without an attempt.",
        &["step", "output", "key", "origin"],
    ),
    ("attempt-started", "From here on the attempt may have had effects.", &["step", "attempt"]),
    (
        "attempt-logged",
        "A line of its log; not among the records of `show --json`.",
        &["step", "attempt", "level", "message"],
    ),
    ("attempt-succeeded", "And with it the step.", &["step", "attempt", "output", "usage"]),
    ("attempt-failed", "Whether it is tried again follows from the plan.", &["step", "attempt", "failure", "usage"]),
    (
        "attempt-interrupted",
        "The engine stopped or died; the step starts again when the run is resumed.",
        &["step", "attempt", "cause"],
    ),
    (
        "attempt-cancelled",
        "It was ended with its run, or by a join that does not need its step any more.",
        &["step", "attempt", "usage"],
    ),
    (
        "step-cancelled",
        "It waited for its next attempt when its run was ended, or a join did not need it any more.",
        &["step"],
    ),
    ("step-opened", "A step that opens scopes, or waits, has begun.", &["step"]),
    (
        "items-appended",
        "A running step appended to its list of items, on which a `foreach` works.",
        &["step", "from", "items"],
    ),
    (
        "capability-used",
        "An attempt is about to do something that leaves the engine, and that it was granted.",
        &["step", "attempt", "used"],
    ),
    ("scope-opened", "A block, an item, a round or a sub-workflow of a step has begun.", &["step", "index"]),
    ("scope-timed-out", "It took longer than the `timeout` of its step.", &["step", "index"]),
    ("step-succeeded", "A step that runs no component itself has succeeded.", &["step"]),
    (
        "step-failed",
        "It failed without an attempt: a rule or a scope of its own did, or it is there to fail.",
        &["step", "failure"],
    ),
    ("signal-received", "Somebody sent a signal.", &["signal", "data"]),
    ("approval-given", "Somebody gave their word on a step that waits for it.", &["step", "approved", "by"]),
    ("step-cancel-requested", "Somebody asked for the end of a step.", &["step", "reason"]),
    ("step-skipped", "It will not run.", &["step", "reason"]),
    ("cancel-requested", "Somebody asked for the run's end.", &["reason"]),
    ("run-timed-out", "The workflow's `timeout` passed.", &[]),
    ("run-finished", "Always the last.", &["outcome", "outputs"]),
];

/// The fields that only some lines of their event have, beside the others.
const OPTIONAL: &[(&str, &str)] = &[
    ("run-created", "priority"),
    ("run-created", "group"),
    ("run-created", "rerun-of"),
    ("paused", "step"),
    ("unpaused", "step"),
    ("step-reused", "items"),
    ("run-finished", "faults"),
    ("step-succeeded", "output"),
    ("approval-given", "note"),
    ("approval-given", "uid"),
];

/// The schema, draft 7.
pub(crate) fn json_schema() -> Value {
    let events: Vec<Value> = EVENTS.iter().map(|(name, about, fields)| event(name, about, fields)).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A line of Downbeat's event stream",
        "description": "Of `--json` of `run`, `resume` and `show`. Events and fields may be added; none is renamed.",
        "type": "object",
        "required": ["event", "run", "at"],
        "anyOf": events,
        "definitions": {
            "usage": usage(),
            "failure": failure(),
            "origin": origin(),
            "used": used(),
        },
    })
}

fn event(name: &str, about: &str, fields: &[&str]) -> Value {
    let mut properties = Map::new();
    properties.insert("event".to_owned(), json!({ "const": name }));
    properties.insert("run".to_owned(), json!({ "type": "string", "description": "The run's id." }));
    let time = "RFC 3339, UTC, milliseconds; as the driver's clock said.";
    properties.insert("at".to_owned(), json!({ "type": "string", "format": "date-time", "description": time }));
    let optional = OPTIONAL.iter().filter(|(event, _)| *event == name).map(|(_, field)| field);
    for field in fields.iter().chain(optional) {
        properties.insert((*field).to_owned(), shape(name, field));
    }
    let required: Vec<&str> = ["event", "run", "at"].into_iter().chain(fields.iter().copied()).collect();
    json!({ "title": name, "description": about, "type": "object", "required": required, "properties": properties })
}

/// What a field of an event looks like.
fn shape(event: &str, field: &str) -> Value {
    match (event, field) {
        (_, "usage" | "failure" | "origin" | "used") => json!({ "$ref": format!("#/definitions/{field}") }),
        (_, "attempt") => json!({ "type": "integer", "minimum": 1, "description": "Counts from 1." }),
        (_, "priority") => json!({ "type": "integer", "description": "In lines for pools; 0 without it." }),
        (_, "seed") => json!({ "type": "integer", "minimum": 0, "description": "Where the run's jitter comes from." }),
        (_, "rerun-of") => json!({ "type": "string", "description": "The run whose answers it takes over." }),
        (_, "inputs" | "outputs") => json!({ "type": "object" }),
        (_, "output") => json!({ "description": "What the step answered: any JSON." }),
        (_, "faults") => json!({ "type": "array", "items": { "type": "string" } }),
        (_, "index") => json!({ "type": "integer", "minimum": 0, "description": "Which item or round, from 0." }),
        (_, "from") => json!({ "type": "integer", "minimum": 0, "description": "How many items the list had before." }),
        (_, "items") => json!({ "type": "array", "description": "Each any JSON." }),
        (_, "uid") => {
            json!({ "type": "integer", "minimum": 0, "description": "The operating system's number of the user whose process said it." })
        }
        (_, "approved") => json!({ "type": "boolean", "description": "Whether it goes on." }),
        (_, "data") => json!({ "description": "What came with it: any JSON." }),
        (_, "level") => json!({ "enum": Level::ALL.map(Level::as_str) }),
        (_, "cause") => json!({ "enum": ["crash", "stop"] }),
        (_, "outcome") => json!({ "enum": ["succeeded", "failed", "cancelled", "timed-out"] }),
        ("step-skipped", "reason") => skip_reason(),
        _ => json!({ "type": "string" }),
    }
}

fn origin() -> Value {
    json!({
        "type": "object",
        "required": ["run", "step", "at"],
        "description": "Whose answer it is.",
        "properties": {
            "run": { "type": "string", "description": "The run that executed the step." },
            "step": { "type": "string", "description": "What it called the step." },
            "at": { "type": "integer", "minimum": 0, "description": "When it succeeded, milliseconds since 1970." },
        },
    })
}

fn skip_reason() -> Value {
    json!({ "anyOf": [
        { "enum": ["run-cancelled", "run-timed-out", "scope-cancelled", "scope-timed-out"] },
        {
            "type": "object",
            "required": ["scope-ended"],
            "properties": { "scope-ended": {
                "type": "object",
                "required": ["by"],
                "properties": { "by": { "type": "string", "description": "The step that ended it." } },
            } },
        },
        {
            "type": "object",
            "required": ["asked"],
            "properties": { "asked": {
                "type": "object",
                "required": ["reason"],
                "properties": { "reason": { "type": "string", "description": "Of whoever asked." } },
            } },
        },
        {
            "type": "object",
            "required": ["need-not-met"],
            "properties": { "need-not-met": {
                "type": "object",
                "required": ["need", "wanted", "was"],
                "properties": {
                    "need": { "type": "string", "description": "The step that is needed." },
                    "wanted": { "enum": ["succeeded", "failed", "skipped", "finished", "started"] },
                    "was": { "enum": ["succeeded", "failed", "skipped", "cancelled"] },
                },
            } },
        },
        {
            "type": "object",
            "required": ["too-few-needs-met"],
            "properties": { "too-few-needs-met": {
                "type": "object",
                "required": ["possible", "least", "of"],
                "properties": {
                    "possible": { "type": "integer", "description": "How many needs are met, or still may be." },
                    "least": { "type": "integer", "description": "How many its join takes." },
                    "of": { "type": "integer", "description": "How many needs it has." },
                },
            } },
        },
        {
            "type": "object",
            "required": ["not-needed"],
            "properties": { "not-needed": {
                "type": "object",
                "required": ["by"],
                "properties": { "by": { "type": "string", "description": "The join that it alone served." } },
            } },
        },
        {
            "type": "object",
            "required": ["rule-false"],
            "properties": { "rule-false": {
                "type": "object",
                "required": ["rule", "saw"],
                "properties": {
                    "rule": { "type": "string" },
                    "saw": {
                        "type": "array",
                        "items": { "type": "array", "minItems": 2, "maxItems": 2 },
                        "description": "The paths in the rule, each with what it stood for.",
                    },
                },
            } },
        },
    ] })
}

fn usage() -> Value {
    let number = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    json!({
        "description": "What an attempt used of its bounds. What is missing is 0, or none.",
        "type": "object",
        "properties": {
            "wall-us": number("Wall time, microseconds."),
            "cpu-us": number("CPU time of the guest, microseconds."),
            "process-cpu-us": number("CPU time of native programs, microseconds."),
            "memory-peak": number("Peak of the memories, bytes."),
            "bytes-in": number("Bytes of input."),
            "bytes-out": number("Bytes of output."),
            "log-bytes": number("Bytes of log kept."),
            "log-dropped": number("Bytes of log dropped by the limit `log`."),
            "table-elements-peak": number("Peak of table elements."),
            "programs": {
                "type": "object",
                "description": "What native programs were seen to use, and had to do without.",
                "properties": {
                    "memory-peak": number("Most memory that one of them and what it started held together, bytes."),
                    "processes-peak": number("Most processes that one of them had at once."),
                    "unprotected": {
                        "type": "array",
                        "description": "Protections that they ran without, as this system does not have them.",
                        "items": { "enum": Protection::ALL.map(Protection::word) },
                    },
                },
            },
            "refusals": {
                "type": "array",
                "description": "Capabilities that the guest asked for and was refused, each once.",
                "items": {
                    "type": "object",
                    "required": ["capability", "wanted", "hint"],
                    "properties": {
                        "capability": { "type": "string" },
                        "wanted": { "type": "string" },
                        "hint": { "type": "string", "description": "The TOML line that would allow it." },
                    },
                },
            },
            "used": {
                "type": "array",
                "description": "Capabilities that it used and that have no records of their own.",
                "items": { "$ref": "#/definitions/used" },
            },
        },
    })
}

fn used() -> Value {
    json!({
        "description": "A capability that was used.",
        "type": "object",
        "required": ["capability", "grant"],
        "properties": {
            "capability": { "type": "string", "description": "The grant's name." },
            "what": { "type": "string", "description": "What was done, or with what; missing if it was only counted." },
            "grant": { "type": "string", "description": "The item of the grant that allowed it." },
            "count": { "type": "integer", "minimum": 1, "description": "How often; once if it is missing." },
            "unset": { "type": "boolean", "description": "Whether it is a variable that was looked for and is not set." },
        },
    })
}

fn failure() -> Value {
    let kinds = [
        "invalid-input",
        "transient",
        "permanent",
        "trap",
        "timed-out",
        "invalid-output",
        "host",
        "rule",
        "scope",
        "rejected",
    ];
    json!({
        "type": "object",
        "required": ["kind", "message"],
        "properties": {
            "kind": { "anyOf": [
                { "enum": kinds },
                {
                    "type": "object",
                    "required": ["limit"],
                    "properties": { "limit": {
                        "type": "object",
                        "required": ["limit"],
                        "properties": { "limit": { "type": "string", "description": "The bound's name." } },
                    } },
                },
            ] },
            "message": { "type": "string", "description": "For a person; nothing branches on it." },
            "details": { "description": "Facts, as the guest gave them: any JSON." },
            "backtrace": { "type": "string" },
            "retry-after-ms": { "type": "integer", "minimum": 0 },
        },
    })
}

#[cfg(test)]
mod tests {
    use downbeat_workflow::description::Digest;
    use downbeat_workflow::event::{
        Event, Failure, FailureKind, Interruption, NeedState, Origin, Outcome, Programs, Refusal, RunId, SkipReason,
        StepEnd, Timestamp, Usage, Used,
    };
    use downbeat_workflow::json::Json;
    use downbeat_workflow::plan::{PoolId, StepId};

    use super::*;

    /// The name of an event in the stream. A new kind of event does not compile here until it has one.
    fn name(event: &Event) -> &'static str {
        match event {
            Event::RunCreated { .. } => "run-created",
            Event::RunAdmitted => "run-admitted",
            Event::AttemptQueued { .. } => "attempt-queued",
            Event::WaitQueued { .. } => "wait-queued",
            Event::ScopeQueued { .. } => "scope-queued",
            Event::CacheAsked { .. } => "cache-asked",
            Event::CacheHit { .. } => "cache-hit",
            Event::AttemptStarted { .. } => "attempt-started",
            Event::AttemptSucceeded { .. } => "attempt-succeeded",
            Event::AttemptFailed { .. } => "attempt-failed",
            Event::AttemptInterrupted { .. } => "attempt-interrupted",
            Event::AttemptCancelled { .. } => "attempt-cancelled",
            Event::StepCancelled { .. } => "step-cancelled",
            Event::StepOpened { .. } => "step-opened",
            Event::ItemsAppended { .. } => "items-appended",
            Event::CapabilityUsed { .. } => "capability-used",
            Event::ScopeOpened { .. } => "scope-opened",
            Event::ScopeTimedOut { .. } => "scope-timed-out",
            Event::StepSucceeded { .. } => "step-succeeded",
            Event::SignalReceived { .. } => "signal-received",
            Event::ApprovalGiven { .. } => "approval-given",
            Event::StepReused { .. } => "step-reused",
            Event::Paused { .. } => "paused",
            Event::Unpaused { .. } => "unpaused",
            Event::StepCancelRequested { .. } => "step-cancel-requested",
            Event::StepFailed { .. } => "step-failed",
            Event::StepSkipped { .. } => "step-skipped",
            Event::CancelRequested { .. } => "cancel-requested",
            Event::RunTimedOut => "run-timed-out",
            Event::RunFinished { .. } => "run-finished",
        }
    }

    /// Events of every kind, with every field that they can have.
    fn samples() -> Vec<Event> {
        let (step, attempt) = (StepId(0), 1);
        let json = |text: &str| Json::parse(text).unwrap();
        let refusal = Refusal { capability: "http".into(), wanted: "a:1".into(), hint: "grant = {}".into() };
        let used =
            Used { capability: "process".into(), what: "git push".into(), grant: "git".into(), count: 2, unset: true };
        let usage = Usage {
            wall_us: 1,
            cpu_us: 1,
            process_cpu_us: 1,
            memory_peak: 1,
            bytes_in: 1,
            bytes_out: 1,
            log_bytes: 1,
            log_dropped: 1,
            table_elements_peak: 1,
            programs: Some(Box::new(Programs {
                memory_peak: 1,
                processes_peak: 1,
                unprotected: vec![Protection::Files],
            })),
            refusals: [refusal].into(),
            used: [used.clone()].into(),
        };
        let failure = |kind| Failure {
            kind,
            message: "m".into(),
            details: Some(json("[1]")),
            backtrace: Some("0: main".into()),
            retry_after_ms: Some(5),
        };
        let mut events = vec![
            Event::RunCreated {
                workflow: "w".into(),
                plan: Digest::of(b""),
                inputs: json("{}"),
                seed: u64::MAX,
                priority: 5,
                group: Some("g".into()),
                rerun_of: Some(RunId("o".into())),
            },
            Event::RunAdmitted,
            Event::WaitQueued { step, pool: PoolId(0) },
            Event::ScopeQueued { step, index: 3, pool: PoolId(0) },
            Event::AttemptQueued { step, attempt, pool: PoolId(0) },
            Event::CacheAsked { step },
            Event::CacheHit {
                step,
                output: json("1"),
                key: Digest::of(b""),
                origin: Box::new(Origin { run: RunId("r".into()), step: "s".into(), at: Timestamp(1) }),
            },
            Event::AttemptStarted { step, attempt },
            Event::AttemptSucceeded { step, attempt, output: json("null"), usage: usage.clone() },
            Event::AttemptSucceeded { step, attempt, output: json("1"), usage: Usage::default() },
            Event::AttemptCancelled { step, attempt, usage: usage.clone() },
            Event::StepCancelled { step },
            Event::StepFailed { step, failure: failure(FailureKind::Rule) },
            Event::StepOpened { step },
            Event::ItemsAppended { step, from: 0, items: vec![json("1"), json("{}")] },
            Event::CapabilityUsed { step, attempt, used: Box::new(used.clone()) },
            Event::ScopeOpened { step, index: 3 },
            Event::ScopeTimedOut { step, index: 3 },
            Event::StepSucceeded { step, output: None },
            Event::StepSucceeded { step, output: Some(json("1")) },
            Event::SignalReceived { signal: "s".into(), data: json("null") },
            Event::ApprovalGiven { step, approved: false, by: "a".into(), note: "n".into(), uid: Some(1) },
            Event::StepCancelRequested { step, reason: "r".into() },
            Event::StepReused {
                step,
                output: json("1"),
                items: vec![json("1")],
                origin: Box::new(Origin { run: RunId("o".into()), step: "s".into(), at: Timestamp(1) }),
            },
            Event::Paused { step: None, reason: "r".into() },
            Event::Paused { step: Some(step), reason: "r".into() },
            Event::Unpaused { step: None },
            Event::Unpaused { step: Some(step) },
            Event::CancelRequested { reason: "r".into() },
            Event::RunTimedOut,
        ];
        let kinds = [
            FailureKind::InvalidInput,
            FailureKind::Transient,
            FailureKind::Permanent,
            FailureKind::Trap,
            FailureKind::TimedOut,
            FailureKind::Limit { limit: "memory".into() },
            FailureKind::InvalidOutput,
            FailureKind::Host,
            FailureKind::Scope,
            FailureKind::Rejected,
        ];
        events.extend(kinds.map(|kind| {
            let (failure, usage) = (failure(kind), usage.clone());
            Event::AttemptFailed { step, attempt, failure, usage }
        }));
        let causes = [Interruption::Crash, Interruption::Stop];
        events.extend(causes.map(|cause| Event::AttemptInterrupted { step, attempt, cause }));
        let mut reasons = vec![
            SkipReason::RuleFalse { rule: "a".into(), saw: vec![("a".into(), json("false"))] },
            SkipReason::TooFewNeedsMet { possible: 1, least: 2, of: 3 },
            SkipReason::NotNeeded { by: step },
            SkipReason::ScopeEnded { by: step },
            SkipReason::ScopeCancelled,
            SkipReason::ScopeTimedOut,
            SkipReason::Asked { reason: "r".into() },
            SkipReason::RunCancelled,
            SkipReason::RunTimedOut,
        ];
        let states =
            [NeedState::Succeeded, NeedState::Failed, NeedState::Skipped, NeedState::Finished, NeedState::Started];
        let ends = [StepEnd::Failed, StepEnd::Succeeded, StepEnd::Cancelled, StepEnd::Skipped, StepEnd::Skipped];
        let needs = states.into_iter().zip(ends);
        reasons.extend(needs.map(|(wanted, was)| SkipReason::NeedNotMet { need: step, wanted, was }));
        events.extend(reasons.into_iter().map(|reason| Event::StepSkipped { step, reason }));
        let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled, Outcome::TimedOut];
        events.extend(outcomes.map(|outcome| {
            let faults = vec!["f".to_owned()];
            Event::RunFinished { outcome, outputs: json("{}"), faults }
        }));
        events
    }

    /// As the stream has it, with a name for every index.
    fn line(event: &Event) -> Value {
        let (name, fields) = super::super::flattened(event);
        let mut line = Map::from_iter([("event".to_owned(), name.into())]);
        line.extend([("run".to_owned(), "r".into()), ("at".to_owned(), "2026-01-01T00:00:00.000Z".into())]);
        line.extend(fields);
        for field in ["step", "pool"] {
            if line.contains_key(field) {
                line.insert(field.to_owned(), "x".into());
            }
        }
        let mut line = Value::Object(line);
        for step in ["/reason/need-not-met/need", "/reason/not-needed/by", "/reason/scope-ended/by"] {
            if let Some(step) = line.pointer_mut(step) {
                *step = "x".into();
            }
        }
        line
    }

    #[test]
    fn every_event_fits_and_has_no_field_that_is_not_listed() {
        let schema = json_schema();
        assert!(jsonschema::draft7::meta::is_valid(&schema));
        let validator = jsonschema::draft7::new(&schema).unwrap();
        let samples = samples();
        for event in &samples {
            let line = line(event);
            assert!(validator.is_valid(&line), "{line}");
            let listed = schema["anyOf"].as_array().unwrap().iter().find(|listed| listed["title"] == name(event));
            let properties = &listed.unwrap_or_else(|| panic!("{line} is not listed"))["properties"];
            for (field, value) in line.as_object().unwrap() {
                assert!(properties.get(field).is_some(), "{line}: `{field}` is not listed");
                let definition = schema["definitions"].get(field);
                for part in definition.and(value.as_object()).into_iter().flat_map(Map::keys) {
                    assert!(definition.unwrap()["properties"].get(part).is_some(), "{line}: `{part}` is not listed");
                }
            }
        }
        for (listed, ..) in EVENTS.iter().filter(|(listed, ..)| *listed != "attempt-logged") {
            assert!(samples.iter().any(|event| name(event) == *listed), "there is no event {listed}");
        }
    }

    #[test]
    fn a_line_that_is_none_does_not_fit() {
        let validator = jsonschema::draft7::new(&json_schema()).unwrap();
        for wrong in [json!({}), json!({ "event": "run-born", "run": "r", "at": "t" })] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
        let mut line = line(&Event::AttemptStarted { step: StepId(0), attempt: 1 });
        line["attempt"] = "first".into();
        assert!(!validator.is_valid(&line));
    }
}
