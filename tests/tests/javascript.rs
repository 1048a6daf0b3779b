//! A step that is not Rust, from an author's side: the page that teaches it is true, mistakes are told with what to do, and
//! an exception arrives readably. What holds for steps of every language is in `boundary.rs`.
//!
//! They need Node.js, which `make test` sees to; without it they fail with the message that says how to get it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;
use std::process::Command;

use downbeat_tests::{Answer, Bench, repository};
use serde_json::{Value, json};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The fenced blocks of one language on the page for authors.
fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs/plugins-javascript.md")).unwrap();
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// The page's step in a folder `hello-js`, with the SDK where the page has it. Its lock file is as npm would write it, without
/// asking a registry: that of the step `report`, which has the same dependencies.
fn hello(bench: &Bench) {
    bench.write("hello-js/package.json", &blocks("json")[0]);
    let entry = blocks("js").into_iter().find(|block| block.contains("defineStep")).unwrap();
    bench.write("hello-js/hello.js", &entry);
    let lock = std::fs::read_to_string(repository().join("plugins/report/package-lock.json")).unwrap();
    let lock = lock.replace("../sdk-js", "../plugins/sdk-js").replace("\"name\": \"report\"", "\"name\": \"hello-js\"");
    bench.write("hello-js/package-lock.json", &lock);
    copy(&repository().join("plugins/sdk-js"), &bench.path().join("plugins/sdk-js"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn build(bench: &Bench) -> Answer {
    bench.run(&["plugin", "build", "hello-js"])
}

/// The JSON of a file in the bench, changed.
fn change(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_str(&std::fs::read_to_string(bench.path().join(name)).unwrap()).unwrap();
    change(&mut value);
    bench.write(name, &value.to_string());
}

/// Runs `node --test` in a folder.
fn node_test(folder: &Path) {
    let output = Command::new("node").arg("--test").current_dir(folder).output();
    let output = output.expect("Node.js is in PATH; `make test` sees to it");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}:\n{stdout}", folder.display());
    assert!(!stdout.contains("\n# pass 0\n"), "{} has no tests:\n{stdout}", folder.display());
}

#[test]
fn the_page_for_authors_leads_from_nothing_to_a_tested_step() {
    let bench = bench();
    hello(&bench);
    let built = build(&bench);
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains("Compiling hello-js"), "{}", built.stderr);

    bench.write("greeting.toml", &blocks("toml")[0]);
    let ran = bench.run(&["run", "greeting.toml"]);
    assert!(ran.code == 0 && ran.stdout.contains("Hello, Ada!"), "{}{}", ran.stdout, ran.stderr);
    assert!(bench.run(&["logs"]).stdout.contains("greeting Ada"));

    let test = blocks("js").into_iter().find(|block| block.contains("node:test")).unwrap();
    bench.write("hello-js/hello.test.js", &test);
    node_test(&bench.path().join("hello-js"));
}

#[test]
fn a_step_is_built_again_only_when_its_sources_say_something_else() {
    let bench = bench();
    hello(&bench);
    let digest = |answer: &Answer| {
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        let word = answer.stderr.lines().last().unwrap_or_default();
        word.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let first = build(&bench);
    let again = build(&bench);
    assert!(again.stderr.starts_with("fresh"), "{}", again.stderr);
    assert_eq!(digest(&again), digest(&first));

    // Touched is not changed.
    let source = std::fs::read_to_string(bench.path().join("hello-js/hello.js")).unwrap();
    bench.write("hello-js/hello.js", &source);
    let touched = build(&bench);
    assert!(touched.stderr.starts_with("fresh"), "{}", touched.stderr);
    assert_eq!(digest(&touched), digest(&first));

    // A module of its own, in a folder of its own; and what is built needs no network and no new installation.
    bench.write("hello-js/words/greeting.js", "export const greeting = (name) => `Good day, ${name}!`;\n");
    let source = source.replace("`Hello, ${name}!`", "greeting(name)");
    bench.write("hello-js/hello.js", &format!("import {{ greeting }} from \"./words/greeting.js\";\n{source}"));
    let mut command = bench.command(&["plugin", "build", "hello-js"]);
    let output = command.env("npm_config_registry", "http://127.0.0.1:1/").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("Compiling") && !stderr.contains("Installing"), "{stderr}");

    // A mistake in that module is told with its place.
    bench.write("hello-js/words/greeting.js", "export const greeting = (name => `Good day!`;\n");
    let broken = build(&bench);
    assert_eq!(broken.code, 3, "{}", broken.stderr);
    let place = bench.path().join("hello-js/words/greeting.js:1:").display().to_string();
    for part in ["\nError: Unexpected token", &place, "can't be made into a component"] {
        assert!(broken.stderr.contains(part), "{part}: {}", broken.stderr);
    }
}

#[test]
fn an_import_that_the_manifest_does_not_name_is_told_with_the_line_to_add() {
    let bench = bench();
    hello(&bench);
    let source = std::fs::read_to_string(bench.path().join("hello-js/hello.js")).unwrap();
    bench.write("hello-js/hello.js", &format!("import \"downbeat:step/process@0.1.0\";\n{source}"));
    let refused = build(&bench);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(
            r#"hint: name what it imports of the host in package.json: "downbeat": { "imports": ["process", …] }"#
        ),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_folder_that_can_not_be_built_is_told_what_is_missing() {
    type Spoil = fn(&Bench);
    let cases: [(&str, Spoil); 8] = [
        ("hint: add to it: \"downbeat\"", |bench| {
            change(bench, "hello-js/package.json", |manifest| {
                drop(manifest.as_object_mut().unwrap().remove("downbeat"))
            });
        }),
        ("wants to import `filesystem`, which is no interface of the host", |bench| {
            change(bench, "hello-js/package.json", |manifest| manifest["downbeat"]["imports"] = json!(["filesystem"]));
        }),
        ("unknown field `import`", |bench| {
            change(bench, "hello-js/package.json", |manifest| manifest["downbeat"]["import"] = json!([]));
        }),
        ("the entry module", |bench| std::fs::remove_file(bench.path().join("hello-js/hello.js")).unwrap()),
        ("hint: run `npm install --package-lock-only`", |bench| {
            std::fs::remove_file(bench.path().join("hello-js/package-lock.json")).unwrap();
        }),
        ("hint: run `npm install --package-lock-only --save-dev componentize-qjs@", |bench| {
            change(bench, "hello-js/package-lock.json", |lock| {
                lock["packages"].as_object_mut().unwrap().remove("node_modules/componentize-qjs");
            });
        }),
        ("their `dependencies` differ", |bench| {
            change(bench, "hello-js/package.json", |manifest| manifest["dependencies"]["more"] = json!("1.0.0"));
        }),
        ("package-lock.json can't be read", |bench| drop(bench.write("hello-js/package-lock.json", "{"))),
    ];
    for (message, spoil) in cases {
        let bench = bench();
        hello(&bench);
        spoil(&bench);
        let refused = build(&bench);
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains(message), "{message}\n{}", refused.stderr);
    }
}

#[test]
fn without_node_it_says_what_to_install() {
    let bench = bench();
    hello(&bench);
    bench.write("greeting.toml", &blocks("toml")[0]);
    let nowhere = bench.path().join("nowhere");
    let without_node = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        let output = command.env("PATH", &nowhere).env("DOWNBEAT_NODE", &nowhere).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let stderr = without_node(&["check", "greeting.toml"]);
    let hint = "\nhint: run `downbeat plugin toolchain javascript`, which installs it without root, or see https://nodejs.org\n";
    assert!(stderr.contains(hint), "{stderr}");
    let stderr = without_node(&["plugin", "build", "hello-js"]);
    for part in ["Node.js 18 or later", "hint: run `downbeat plugin toolchain javascript`", "its path ends in .wasm"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn the_tests_of_the_plugins_in_javascript_pass() {
    let bench = bench();
    // Building installs what the tests import.
    bench.build("plugins/report");
    for folder in ["plugins/sdk-js", "plugins/report"] {
        node_test(&repository().join(folder));
    }
}

#[test]
fn a_component_imports_what_its_manifest_names_and_nothing_of_wasi() {
    let bench = bench();
    let imports = |folder: &str| {
        let answer = bench.run(&["plugin", "inspect", "--json", &format!("{{repo}}/{folder}")]);
        let object: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}", answer.stderr));
        let imports = object["imports"].as_array().unwrap().iter();
        let mut names: Vec<String> = imports.map(|name| name.as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let of_step = |names: &[&str]| names.iter().map(|name| format!("downbeat:step/{name}@0.1.0")).collect::<Vec<_>>();
    assert_eq!(imports("plugins/report"), of_step(&["log", "progress", "types"]));
    assert_eq!(imports("tests/guests/rogue-js"), of_step(&["artifacts", "log", "process", "progress", "types"]));
}

/// Runs steps of the rogue in JavaScript, each named by what it does, and gives their ends.
fn rogue(acts: &[(&str, &str)]) -> Vec<Value> {
    let bench = bench();
    let folder = repository().join("tests/guests/rogue-js").display().to_string();
    let mut toml = format!("name = \"rogue\"\n[plugins]\nrogue = {folder:?}\n");
    for (act, more) in acts {
        toml.push_str(&format!("[steps.{act}]\nuse = \"rogue\"\nwith = {{ do = \"{act}\"{more} }}\n"));
    }
    bench.write("rogue.toml", &toml);
    let answer = bench.run(&["run", "rogue.toml", "--json"]);
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    let of = |act: &str| {
        let ended = |event: &&Value| {
            event["step"] == act && (event["output"] != Value::Null || event["failure"] != Value::Null)
        };
        events.iter().find(ended).unwrap_or_else(|| panic!("{act} did not end")).clone()
    };
    acts.iter().map(|(act, _)| of(act)).collect()
}

fn failure(end: &Value) -> (&str, &str) {
    (end["failure"]["kind"].as_str().unwrap_or_default(), end["failure"]["message"].as_str().unwrap_or_default())
}

#[test]
fn an_exception_arrives_with_its_message_its_stack_and_its_causes() {
    let ends = rogue(&[("throw", ", text = \"that was too much\""), ("throw-caused", ""), ("throw-text", "")]);
    let (kind, message) = failure(&ends[0]);
    assert_eq!(kind, "permanent");
    let mut lines = message.lines();
    assert_eq!(lines.next(), Some("TypeError: that was too much"));
    assert!(lines.next().unwrap().starts_with("    at innermost (/tests/guests/rogue-js/src/rogue.js:"), "{message}");
    assert!(!message.contains("sdk-js"), "the SDK's own frames are left out: {message}");
    let (_, message) = failure(&ends[1]);
    assert!(message.contains("\ncaused by TypeError: cannot read property 'field' of null\n    at "), "{message}");
    let (_, message) = failure(&ends[2]);
    assert_eq!(message, "the step threw \"as requested\", which is no Error and has no stack");
}

#[test]
fn an_answer_that_is_none_is_a_failure_that_names_the_place() {
    let expected = [
        ("promise", "`run` returned a promise, and a step is synchronous"),
        ("reject", "`run` returned a promise, and a step is synchronous"),
        ("undefined", "the whole is undefined, which JSON can't say"),
        ("nan", "saw.deep[1] is NaN, which JSON can't say"),
        ("surrogate", "saw has half a surrogate pair in it"),
        ("wrong-output", "there is no `unpromised`"),
    ];
    let ends = rogue(&expected.map(|(act, _)| (act, "")));
    for (end, (act, part)) in ends.iter().zip(expected) {
        let (kind, message) = failure(end);
        assert!(kind == "permanent" && message.contains(part), "{act}: {kind}: {message}");
    }
}

#[test]
fn a_refused_call_is_a_failure_with_the_line_that_would_allow_it() {
    let ends = rogue(&[("process", ", program = \"id\""), ("put", "")]);
    assert_eq!(
        failure(&ends[0]),
        (
            "permanent",
            "`id` is not granted to this step (process); to allow it, set in the step: grant = { process = [\"id\"] }"
        )
    );
    assert!(failure(&ends[1]).1.ends_with("to allow it, set in the step: grant = { artifacts = true }"), "{}", ends[1]);
    assert_eq!(ends[0]["usage"]["refusals"][0]["hint"], "grant = { process = [\"id\"] }");
}

#[test]
fn time_and_randomness_are_fixed_and_nothing_of_the_machine_is_there() {
    let acts = [("clock", ""), ("random", ""), ("env", "")];
    let (first, second) = (rogue(&acts), rogue(&acts));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first["output"], second["output"]);
    }
    // The same moment at which the engine's own clock stands for every guest that has no grant.
    assert_eq!(first[0]["output"]["saw"][0], "2000-01-01T00:00:00.000Z");
    assert_eq!(first[0]["output"]["saw"][4], 5, "a date that is given is that date");
    assert_eq!(first[2]["output"]["saw"], json!([]));
}
