//! The call boundary, kept by every step in the same way, whatever language it is written in: it says what it is, takes
//! what it promises to take, gives the same for the same, carries any text of any length, and is stopped and told apart
//! when it misbehaves. A new standard step is a row in [`STEPS`], a new language a rogue guest beside those there are.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::HashMap;

use downbeat_tests::{Bench, repository};
use serde_json::{Value, json};

/// A standard step, and how to talk to it.
struct Step {
    /// Below the repository's `plugins`; the step's name as well.
    folder: &'static str,
    /// A field of its README's example output, and the text there; the README says it, too. `None` where the example
    /// needs a world around it.
    documented: Option<(&'static str, Documented)>,
    /// An input with `${inputs.text}` in it, in TOML, and where in the output the text comes back.
    carries: Option<(&'static str, &'static str)>,
    /// More keys of the step's table: grants and limits.
    more: &'static str,
    /// A field of the input, and a value in TOML that its schema does not allow.
    wrong: (&'static str, &'static str),
}

enum Documented {
    Text(&'static str),
    /// The README's only block in this language.
    Block(&'static str),
}

const STEPS: [Step; 10] = [
    Step {
        folder: "process",
        documented: None,
        carries: Some((r#"{ program = "cat", stdin = "${inputs.text}", log-output = false }"#, "/stdout")),
        more: "grant = { process = [\"cat\"] }\nlimit = { process-output = \"4MiB\" }",
        wrong: ("program", "7"),
    },
    Step { folder: "http", documented: None, carries: None, more: "", wrong: ("url", "7") },
    Step { folder: "files", documented: None, carries: None, more: "", wrong: ("read", "7") },
    Step {
        folder: "jq",
        documented: None,
        carries: Some((r#"{ filter = ".", value = "${inputs.text}" }"#, "/result")),
        more: "",
        wrong: ("filter", "7"),
    },
    Step {
        folder: "template",
        documented: None,
        carries: Some((r#"{ template = "{{ text }}", data = { text = "${inputs.text}" } }"#, "/text")),
        more: "",
        wrong: ("template", "7"),
    },
    Step {
        folder: "kpi-gate",
        documented: Some(("/verdict", Documented::Text("pass"))),
        carries: Some((
            r#"{ objectives = [{ name = "${inputs.text}", value = 1, pass = ["> 0"] }] }"#,
            "/results/0/name",
        )),
        more: "",
        wrong: ("objectives", "\"all\""),
    },
    Step { folder: "capacity", documented: None, carries: None, more: "", wrong: ("policy", "7") },
    Step { folder: "notify", documented: None, carries: None, more: "", wrong: ("title", "7") },
    Step {
        folder: "report",
        documented: Some(("/markdown", Documented::Block("markdown"))),
        carries: Some((r#"{ title = "carried", summary = "${inputs.text}" }"#, "/markdown")),
        more: "",
        wrong: ("title", "7"),
    },
    Step {
        folder: "hello",
        documented: Some(("/greeting", Documented::Text("Hello, Ada!"))),
        carries: Some((r#"{ name = "${inputs.text}" }"#, "/greeting")),
        more: "",
        wrong: ("name", "7"),
    },
];

/// Text that languages get wrong: outside of the basic plane, combined, joined, from right to left, a byte order mark.
const UNICODE: &str = "é 😀 e\u{301} שלום 中文 \u{FEFF}\u{1F468}\u{200D}\u{1F469} \"q\" ";

const MIB: usize = 1 << 20;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The beginning of a workflow with these folders of the repository as plugins, each by the folder's own name.
fn header(folders: &[&str]) -> String {
    let mut toml = "name = \"boundary\"\n[plugins]\n".to_owned();
    for folder in folders {
        let name = folder.rsplit('/').next().unwrap();
        toml.push_str(&format!("{name} = {:?}\n", repository().join(folder).display().to_string()));
    }
    toml
}

/// Runs a workflow and gives how each step's last attempt ended, and the program's exit code.
fn ends(bench: &Bench, toml: &str, arguments: &[&str]) -> (HashMap<String, Value>, i32) {
    bench.write("boundary.toml", toml);
    let answer = bench.run(&[&["run", "boundary.toml", "--json"][..], arguments].concat());
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    let ended = |event: &&Value| event["event"] == "attempt-succeeded" || event["event"] == "attempt-failed";
    let ends = events.iter().filter(ended).map(|end| (end["step"].as_str().unwrap().to_owned(), end.clone()));
    (ends.collect(), answer.code)
}

/// How an attempt ended, in the words of the record.
fn kind(end: &Value) -> String {
    match &end["failure"]["kind"] {
        Value::Null => "succeeded".to_owned(),
        Value::String(kind) => kind.clone(),
        tagged => format!("limit {}", tagged["limit"]["limit"].as_str().unwrap_or_default()),
    }
}

#[test]
fn every_step_says_what_it_is_and_always_the_same() {
    let bench = bench();
    for Step { folder, .. } in &STEPS {
        let inspect = || bench.run(&["plugin", "inspect", "--json", &format!("{{repo}}/plugins/{folder}")]);
        let (first, second) = (inspect(), inspect());
        assert_eq!((first.code, &first.stdout), (0, &second.stdout), "{}", first.stderr);
        let description = serde_json::from_str::<Value>(&first.stdout).unwrap()["description"].take();
        assert_eq!(description["name"], *folder);
        let version = description["version"].as_str().unwrap();
        assert!(version.split('.').filter(|number| number.parse::<u32>().is_ok()).count() == 3, "{folder}: {version}");
        let summary = description["summary"].as_str().unwrap();
        assert!(summary.ends_with('.') && !summary.contains('\n'), "{folder}: {summary:?} is one sentence");
        for schema in ["input-schema", "output-schema"] {
            let schema = &description[schema];
            assert!(jsonschema::meta::is_valid(schema), "{folder}: {schema}");
            // An object, or one of several.
            let kinds = schema["oneOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice);
            assert!(kinds.iter().all(|kind| kind["type"] == "object"), "{folder}: {schema}");
        }
        for want in description["wants"].as_array().unwrap() {
            assert_ne!(want["reason"], "", "{folder} says why it wants {}", want["capability"]);
        }
    }
}

#[test]
fn the_documented_example_gives_the_documented_output() {
    let bench = bench();
    for Step { folder, documented, .. } in &STEPS {
        let Some((pointer, documented)) = documented else { continue };
        let readme = std::fs::read_to_string(repository().join("plugins").join(folder).join("README.md")).unwrap();
        let block = |language: &str| {
            let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
            rest.split("```").next().unwrap().to_owned()
        };
        let expected = match documented {
            Documented::Text(text) => (*text).to_owned(),
            Documented::Block(language) => block(language),
        };
        assert!(readme.contains(&expected));
        let plugins = format!("\"{}/plugins/", repository().display());
        let (ends, code) = ends(&bench, &block("toml").replace("\"../plugins/", &plugins), &[]);
        assert_eq!((code, ends.len()), (0, 1), "{folder}: {ends:?}");
        let output = &ends.values().next().unwrap()["output"];
        assert_eq!(output.pointer(pointer).and_then(Value::as_str), Some(expected.as_str()), "{folder}: {output}");
    }
}

#[test]
fn any_text_of_any_length_is_carried_and_the_same_input_gives_the_same_output() {
    let bench = bench();
    let folders: Vec<String> = STEPS.iter().map(|step| format!("plugins/{}", step.folder)).collect();
    let mut toml = header(&folders.iter().map(String::as_str).collect::<Vec<_>>());
    toml.push_str("[inputs]\ntext = { type = \"string\" }\n");
    for Step { folder, carries, more, .. } in &STEPS {
        let Some((with, _)) = carries else { continue };
        for twin in ["one", "two"] {
            toml.push_str(&format!("[steps.{folder}-{twin}]\nuse = \"{folder}\"\nwith = {with}\n{more}\n"));
        }
    }
    for text in [UNICODE.to_owned(), UNICODE.repeat(MIB / UNICODE.len() + 1)] {
        bench.write("inputs.json", &json!({ "text": text }).to_string());
        let (ends, code) = ends(&bench, &toml, &["--inputs", "inputs.json"]);
        assert_eq!(code, 0, "{:?}", ends.values().map(|end| &end["failure"]).collect::<Vec<_>>());
        for Step { folder, carries, .. } in &STEPS {
            let Some((_, pointer)) = carries else { continue };
            let [one, two] = ["one", "two"].map(|twin| &ends[&format!("{folder}-{twin}")]["output"]);
            let carried = one.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            assert!(carried.contains(text.trim()), "{folder} lost some of {} bytes", text.len());
            // The time that a program took is not the step's doing; without the grant `clock` it is zero.
            assert_eq!(one.to_string(), two.to_string(), "{folder}");
        }
    }
}

#[test]
fn an_input_that_breaks_the_schema_is_refused_before_anything_runs() {
    let bench = bench();
    for Step { folder, wrong: (field, value), .. } in &STEPS {
        let mut toml = header(&[&format!("plugins/{folder}")]);
        toml.push_str(&format!("[steps.wrong]\nuse = \"{folder}\"\nwith = {{ {field} = {value} }}\n"));
        bench.write("wrong.toml", &toml);
        let answer = bench.run(&["check", "wrong.toml"]);
        assert_eq!(answer.code, 3, "{folder}: {}", answer.stderr);
        assert!(answer.stderr.contains(field), "{folder}: {}", answer.stderr);
    }
}

/// What another step gives is only known when it has run.
#[test]
fn an_input_that_turns_out_to_break_the_schema_is_refused_by_the_step_itself() {
    let bench = bench();
    let folders: Vec<String> = STEPS.iter().map(|step| format!("plugins/{}", step.folder)).collect();
    let mut folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    folders.push("tests/guests/rogue");
    let mut toml = header(&folders);
    for (index, Step { folder, wrong: (field, value), .. }) in STEPS.iter().enumerate() {
        toml.push_str(&format!(
            "[steps.source{index}]\nuse = \"rogue\"\nwith = {{ do = \"echo\", value = {value} }}\n\
             [steps.{folder}]\nneeds = [\"source{index}\"]\nuse = \"{folder}\"\n\
             with = {{ {field} = \"${{steps.source{index}.output.input.value}}\"{} }}\n",
            // What else the schema requires is there, so that this field is what is wrong.
            if *folder == "notify" { ", url = \"http://127.0.0.1:1/\"" } else { "" }
        ));
    }
    let (ends, code) = ends(&bench, &toml, &[]);
    assert_eq!(code, 1);
    for Step { folder, wrong: (field, _), .. } in &STEPS {
        assert_eq!(kind(&ends[*folder]), "invalid-input", "{folder}: {}", ends[*folder]);
        let message = ends[*folder]["failure"]["message"].as_str().unwrap();
        assert!(message.contains(field), "{folder} names the field: {message}");
    }
}

/// The same misbehaviour in each language: its name in the table, what the guest is asked for, more keys of the step, and
/// what the record must say.
#[test]
fn misbehaviour_is_stopped_and_told_apart_in_every_language_while_a_good_step_completes() {
    const COMMON: [(&str, &str, &str, &str); 10] = [
        ("good", "echo", "", "succeeded"),
        ("loops", "loop", "timeout = \"300ms\"", "timed-out"),
        ("hoards", "hoard", "limit = { memory = \"32MiB\" }", "limit memory"),
        ("recurses", "stack", "", "trap"),
        ("blurts", "big-output", "limit = { output = \"1MiB\" }", "limit output"),
        ("floods", "log-flood", "limit = { log = \"64KiB\" }", "succeeded"),
        ("refuses", "fail-invalid", "", "invalid-input"),
        ("gives-up", "fail-permanent", "", "permanent"),
        ("wavers", "fail-transient", "", "transient"),
        ("recovers", "fail-until", "retry = { attempts = 2, delay = \"1ms\" }", "succeeded"),
    ];
    // What the languages call differently: a breakdown of the guest's own, and an answer that is no JSON.
    const OWN: [(&str, &str, &str, &str); 6] = [
        ("rogue", "breaks", "panic", "trap"),
        ("rogue", "garbles", "bad-json", "invalid-output"),
        ("rogue-js", "breaks", "raw-throw", "trap"),
        ("rogue-js", "breaks-later", "raw-reject", "trap"),
        ("rogue-js", "says-nothing", "raw-undefined", "trap"),
        ("rogue-js", "garbles", "raw-bad-json", "invalid-output"),
    ];
    let guests = ["rogue", "rogue-js"];
    let mut toml = header(&["tests/guests/rogue", "tests/guests/rogue-js"]);
    let mut expected = Vec::new();
    for guest in guests {
        let common = COMMON.map(|(name, act, more, end)| (guest, name, act, more, end));
        let own = OWN.map(|(guest, name, act, end)| (guest, name, act, "", end));
        for (_, name, act, more, end) in common.into_iter().chain(own.into_iter().filter(|own| own.0 == guest)) {
            let step = format!("{guest}-{name}");
            toml.push_str(&format!("[steps.{step}]\nuse = \"{guest}\"\nwith = {{ do = \"{act}\" }}\n{more}\n"));
            expected.push((step, end.to_owned()));
        }
    }
    let (ends, code) = ends(&bench(), &toml, &[]);
    assert_eq!(code, 1);
    let found: Vec<(String, String)> = expected.iter().map(|(step, _)| (step.clone(), kind(&ends[step]))).collect();
    assert_eq!(found, expected);
    for guest in guests {
        let usage = |step: &str, key: &str| ends[&format!("{guest}-{step}")]["usage"][key].as_u64().unwrap();
        assert!((16 << 20..=32 << 20).contains(&usage("hoards", "memory-peak")), "{guest}");
        assert!(usage("loops", "cpu-us") > 0, "{guest}: a busy guest uses CPU time");
        assert!(usage("floods", "log-bytes") <= 64 << 10, "{guest}");
        assert!(usage("floods", "log-dropped") > 128 << 10, "{guest}");
        let failure = &ends[&format!("{guest}-gives-up")]["failure"];
        assert_eq!((&failure["message"], &failure["details"]["requested"]), (&json!("as requested"), &json!(true)));
        assert_eq!(ends[&format!("{guest}-recovers")]["attempt"], 2);
    }
}
