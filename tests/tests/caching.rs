//! Answers that are kept across runs, with real components over real files: what is a hit, what is none, and what people are
//! told of it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::path::PathBuf;

use downbeat_tests::Bench;
use serde_json::Value;

const DIGESTS: &str = r#"
name = "digests"

[plugins]
hello = "{hello}"
files = "{repo}/plugins/files"

[steps.greet]
use   = "hello"
with  = { name = "Ada" }
cache = true

[steps.digest]
use   = "files"
with  = { hash = { path = "data" } }
grant = { files = ["data"] }
cache = true

[steps.tell]
needs = ["digest"]
use   = "hello"
with  = { name = "${steps.digest.output.digest}" }

[outputs]
digest = "${steps.digest.output.digest}"
said   = "${steps.greet.output.greeting}"
"#;

/// A bench with the workflow and a folder `data`. The component that greets is a copy, to be changed.
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.build("plugins/files");
    let built = bench.run(&["plugin", "build", "{repo}/plugins/hello"]);
    let component = built.stdout.lines().chain(built.stderr.lines()).flat_map(str::split_whitespace);
    let component = component.map(|word| word.trim_matches(['`', ',', ':'])).find(|word| word.ends_with(".wasm"));
    let component = component.unwrap_or_else(|| panic!("{built:?}"));
    fs::copy(bench.path().join(component), bench.path().join("hello.wasm")).unwrap();
    let toml = DIGESTS.replace("{repo}", &downbeat_tests::repository().display().to_string());
    bench.write("digests.toml", &toml.replace("{hello}", "hello.wasm"));
    bench.write("data/a", "a");
    bench.write("data/b/c", "c");
    bench
}

/// Runs the workflow and answers what its events say: steps that were answered from the cache, steps that were executed.
fn run(bench: &Bench, arguments: &[&str]) -> (Vec<String>, Vec<String>, Vec<Value>) {
    let answer = bench.run(&[&["run", "digests.toml", "--json"], arguments].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = |name: &str| {
        let named = events.iter().filter(|event| event["event"] == name);
        let mut steps: Vec<String> = named.map(|event| event["step"].as_str().unwrap().to_owned()).collect();
        steps.sort();
        steps
    };
    (steps("cache-hit"), steps("attempt-started"), events)
}

fn outputs(events: &[Value]) -> Value {
    events.last().unwrap()["outputs"].clone()
}

/// The files of kept answers.
fn entries(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.path().join(".downbeat/answers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_answered_once_is_a_hit_in_the_next_run_and_told_as_one() {
    let bench = bench();
    let foreseen = bench.run(&["plan", "digests.toml"]).stdout;
    assert_eq!(foreseen.matches("a miss: it will be executed, and its answer kept").count(), 2, "{foreseen}");
    let (hits, started, first) = run(&bench, &[]);
    assert_eq!((hits.len(), started), (0, vec!["digest".to_owned(), "greet".into(), "tell".into()]));
    let foreseen = bench.run(&["plan", "digests.toml"]).stdout;
    assert_eq!(foreseen.matches("a hit: answered as by").count(), 2, "{foreseen}");
    let (hits, started, second) = run(&bench, &[]);
    assert_eq!((hits, started), (vec!["digest".to_owned(), "greet".into()], vec!["tell".to_owned()]));
    assert_eq!(outputs(&second), outputs(&first));
    let hit = second.iter().find(|event| event["event"] == "cache-hit").unwrap();
    assert_eq!(hit["origin"]["run"], first[0]["run"], "{hit}");
    // As people see it.
    let seen = bench.run(&["run", "digests.toml"]);
    assert!(seen.stderr.contains("3 succeeded (2 from the cache)"), "{}", seen.stderr);
    let show = bench.run(&["show"]).stdout;
    let origin = first[0]["run"].as_str().unwrap();
    assert!(show.contains(&format!("from the cache: greet of run {origin}")), "{show}");
    let why = bench.run(&["explain", "last", "greet"]).stdout;
    assert!(why.contains("the cache had its answer, so that nothing was executed"), "{why}");
    assert!(why.contains(&format!("the answer of greet in run {origin}")), "{why}");
    let story = bench.run(&["explain"]).stdout;
    assert!(story.contains("greet was answered from the cache"), "{story}");
    assert_eq!(bench.run(&["graph", "last", "--format", "dot"]).code, 0);
}

#[test]
fn whatever_an_answer_depends_on_makes_another_of_it() {
    let bench = bench();
    let (_, _, first) = run(&bench, &[]);
    // A file.
    bench.write("data/b/c", "changed");
    let (hits, _, changed) = run(&bench, &[]);
    assert_eq!(hits, ["greet"]);
    assert_ne!(outputs(&changed)["digest"], outputs(&first)["digest"]);
    bench.write("data/b/c", "c");
    let (hits, _, back) = run(&bench, &[]);
    assert_eq!((hits, outputs(&back)), (vec!["digest".to_owned(), "greet".into()], outputs(&first)));
    // The component: a section that changes nothing but its digest.
    let component = bench.path().join("hello.wasm");
    let mut bytes = fs::read(&component).unwrap();
    bytes.extend([0, 3, 1, b'x', 0]);
    fs::write(&component, bytes).unwrap();
    let (hits, ..) = run(&bench, &[]);
    assert_eq!(hits, ["digest"]);
}

#[test]
fn a_tampered_answer_is_not_taken() {
    let bench = bench();
    let (_, _, first) = run(&bench, &[]);
    for path in entries(&bench) {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("Hello, Ada!", "Hello, Eve!")).unwrap();
    }
    let verified = bench.run(&["cache", "verify"]);
    assert_eq!(verified.code, 4, "{verified:?}");
    assert!(verified.stdout.contains("does not have the digest"), "{verified:?}");
    let (hits, started, again) = run(&bench, &[]);
    assert_eq!((hits, started), (vec!["digest".to_owned()], vec!["greet".to_owned(), "tell".into()]));
    assert_eq!(outputs(&again), outputs(&first));
    let logs = bench.run(&["logs", "--step", "greet"]).stdout;
    assert!(logs.contains("is not used: its content does not have the digest"), "{logs}");
    assert_eq!(bench.run(&["cache", "verify"]).code, 0, "the right one is in its place");
}

#[test]
fn without_the_cache_nothing_is_taken_and_nothing_kept() {
    let bench = bench();
    let (hits, started, events) = run(&bench, &["--no-cache"]);
    assert_eq!((hits.len(), started.len()), (0, 3));
    assert!(events.iter().all(|event| event["event"] != "cache-asked"));
    assert!(!bench.path().join(".downbeat/answers").exists());
    run(&bench, &[]);
    let (hits, started, _) = run(&bench, &["--no-cache"]);
    assert_eq!((hits.len(), started.len()), (0, 3));
}

#[test]
fn kept_answers_are_listed_shown_and_given_up() {
    let bench = bench();
    let none = bench.run(&["cache", "list"]);
    assert!(none.code == 0 && none.stderr.contains("no answers are kept"), "{none:?}");
    run(&bench, &[]);
    let listed = bench.run(&["cache", "list", "--json"]).stdout;
    let mut steps: Vec<String> = Vec::new();
    for line in listed.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        steps.push(entry["origin"]["step"].as_str().unwrap().to_owned());
        let key = entry["key"].as_str().unwrap().trim_start_matches("sha256:");
        let shown = bench.run(&["cache", "show", &key[..12]]);
        assert!(shown.code == 0 && shown.stdout.contains(key), "{shown:?}");
    }
    steps.sort();
    assert_eq!(steps, ["digest", "greet"]);
    let table = bench.run(&["cache", "list"]);
    assert!(table.stdout.contains("digests/greet") && table.stderr.contains("2 answers"), "{table:?}");
    let unknown = bench.run(&["cache", "show", "zz"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("no answer is kept whose key begins with `zz`"),
        "{unknown:?}"
    );
    let wrong = bench.run(&["cache", "clear", "--older-than", "soon"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("'soon' for '--older-than"), "{wrong:?}");
    let young = bench.run(&["cache", "clear", "--older-than", "1d"]);
    assert!(young.stderr.contains("gave up 0 answers"), "{young:?}");
    let all = bench.run(&["cache", "clear"]);
    assert!(all.stderr.contains("gave up 2 answers"), "{all:?}");
    assert_eq!(entries(&bench).len(), 0);
}

#[test]
fn what_writes_can_not_be_cached() {
    let bench = bench();
    let toml = fs::read_to_string(bench.path().join("digests.toml")).unwrap();
    let toml = toml.replace(r#"files = ["data"]"#, r#"files = [{ path = "data", write = true }]"#);
    bench.write("digests.toml", &toml);
    let checked = bench.run(&["check", "digests.toml"]);
    assert!(checked.code == 3 && checked.stderr.contains("error[impure-cache]"), "{checked:?}");
    assert!(checked.stderr.contains("grant the directory without `write`"), "{checked:?}");
}
