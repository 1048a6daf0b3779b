//! Components as the checker sees them, without any WebAssembly: the plugin `X.wasm` is the component `X` below.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use downbeat_workflow::description::{Component, Description, Digest, Want};
use downbeat_workflow::diagnostic::Diagnostic;
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{Loaded, Surroundings, resolve};
use downbeat_workflow::spec::{Source, Spec};
use serde_json::{Value, json};

/// Parses and resolves a file, as a command line would.
pub fn check(source: &Source) -> (Option<Plan>, Vec<Diagnostic>) {
    let (spec, mut diagnostics) = Spec::parse(source);
    let Some(spec) = spec else { return (None, diagnostics) };
    let resolution = resolve(source, &spec, &surroundings(&spec));
    diagnostics.extend(resolution.diagnostics);
    (resolution.plan, diagnostics)
}

/// What lies around a file of these tests.
pub fn surroundings(spec: &Spec) -> Surroundings {
    let load = |path: &str| match path.strip_suffix(".wasm").and_then(component) {
        Some(component) => Ok(Loaded { component, path: format!("/plugins/{path}") }),
        None => Err(format!("there is no file `{path}`\nbuild it first")),
    };
    let plugins = spec.plugin_paths().map(|(name, path)| (name.to_owned(), load(path))).collect();
    Surroundings { directory: "/flows".to_owned(), plugins, ..Surroundings::default() }
}

fn component(name: &str) -> Option<Component> {
    let (input, output, wants): (Value, Value, &[(&str, &str)]) = match name {
        // Runs a program.
        "process" => (
            json!({
                "type": "object",
                "properties": {
                    "program": { "type": "string", "minLength": 1 },
                    "args": { "type": "array", "items": { "type": "string" }, "default": [] },
                    "env": { "type": "object", "additionalProperties": { "type": "string" } },
                    "timeout-ms": { "type": ["integer", "null"], "minimum": 1 },
                },
                "required": ["program"],
                "additionalProperties": false,
            }),
            json!({
                "type": "object",
                "properties": {
                    "exit-code": { "type": "integer" },
                    "stdout": { "type": "string" },
                    "lines": { "type": "array", "items": { "type": "string" } },
                },
                "required": ["exit-code", "stdout", "lines"],
            }),
            &[("process", "to run the program"), ("workspace", "as its working directory"), ("env", "for the program")],
        ),
        // Wants everything.
        "all" => (
            json!({}),
            json!({}),
            &[
                ("process", ""),
                ("http", ""),
                ("files", ""),
                ("env", ""),
                ("clock", ""),
                ("random", ""),
                ("artifacts", ""),
                ("workspace", ""),
            ],
        ),
        // Judges numbers.
        "gate" => (
            json!({
                "type": "object",
                "properties": {
                    "objectives": { "type": "array", "items": { "$ref": "#/$defs/Objective" }, "minItems": 1 },
                    "mode": { "oneOf": [{ "const": "strict" }, { "const": "lenient" }] },
                },
                "required": ["objectives"],
                "$defs": {
                    "Objective": {
                        "type": "object",
                        "properties": {
                            "name": { "type": "string", "pattern": "^[a-z]+$" },
                            "value": { "type": "number" },
                            "weight": { "type": "number", "exclusiveMinimum": 0 },
                        },
                        "required": ["name", "value"],
                        "additionalProperties": false,
                    },
                },
            }),
            json!({
                "type": "object",
                "properties": {
                    "verdict": { "type": "string", "enum": ["pass", "warning", "fail", "inconclusive"] },
                    "score": { "type": "number" },
                    "count": { "type": "integer" },
                    "passed": { "type": "boolean" },
                    "note": { "type": ["string", "null"] },
                    "results": { "type": "array", "items": { "$ref": "#/$defs/Result" } },
                },
                "$defs": {
                    "Result": {
                        "type": "object",
                        "properties": { "name": { "type": "string" }, "ok": { "type": "boolean" } },
                        "additionalProperties": false,
                    },
                },
            }),
            &[],
        ),
        // Does one thing or another.
        "files" => (
            json!({
                "oneOf": [
                    {
                        "type": "object",
                        "properties": { "read": { "type": "object", "properties": { "path": { "type": "string" } }, "required": ["path"], "additionalProperties": false } },
                        "required": ["read"],
                        "additionalProperties": false,
                    },
                    {
                        "type": "object",
                        "properties": { "write": { "type": "object", "properties": {
                            "path": { "type": "string", "pattern": "^[a-z]+$", "description": "Where to, in small\nletters." },
                            "text": { "type": "string" },
                            "after": { "type": "string", "pattern": "^[0-9]+s$", "examples": ["2s", "30s"] },
                        }, "required": ["path"], "additionalProperties": false } },
                        "required": ["write"],
                        "additionalProperties": false,
                    },
                ],
            }),
            json!({}),
            &[("files", "to read and write"), ("workspace", "to read and write there"), ("clock", "to wait")],
        ),
        // Greets.
        "hello" => (
            json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"], "additionalProperties": false }),
            json!({ "type": "object", "properties": { "greeting": { "type": "string" } }, "required": ["greeting"] }),
            &[],
        ),
        // Asks a server.
        "http" => (
            json!({ "type": "object", "properties": { "url": { "type": "string" } }, "required": ["url"] }),
            json!({ "type": "object", "properties": { "status": { "type": "integer" } }, "required": ["status"] }),
            &[("http", "to ask the server")],
        ),
        // Takes and gives anything.
        "any" => (json!({}), json!({}), &[]),
        _ => return None,
    };
    let want =
        |(capability, reason): &(&str, &str)| Want { capability: (*capability).into(), reason: (*reason).into() };
    Some(Component {
        digest: Digest::of(name.as_bytes()),
        description: Description {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            summary: "For tests".to_owned(),
            input_schema: Json::from(input),
            output_schema: Json::from(output),
            wants: wants.iter().map(want).collect(),
        },
        items: name == "any",
    })
}
