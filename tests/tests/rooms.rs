//! The plan of the house, checked: which room may know which, who alone knows a format or an engine, and what the pure
//! core can never reach. The rules are functions from a list of arrows to a list of broken rules, so that the tests
//! below also prove that they find what they forbid. What a rule is for is written in `engine/ARCHITECTURE.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Who depends on whom, by package name.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The rooms a room may know. Whoever adds a room decides here what it may know.
const ROOMS: &[(&str, &[&str])] = &[
    ("cli", &["conductor", "sandbox", "journal", "workflow", "builder", "rehearsal", "drawing", "archive"]),
    ("conductor", &["sandbox", "journal", "workflow"]),
    ("sandbox", &["workflow"]),
    ("journal", &["workflow"]),
    ("builder", &[]),
    ("drawing", &["workflow"]),
    ("rehearsal", &["workflow"]),
    ("archive", &["workflow"]),
    ("bench", &["conductor", "sandbox", "journal", "workflow"]),
    ("workflow", &[]),
];

/// The room that is no part of the program: it measures it beside the bare engines, which it may therefore use.
const BESIDE: &str = "bench";

/// Packages that one room alone may use: the ending `*` stands for the rest of the name.
const OWNERS: &[(&str, &str)] = &[
    ("toml", "workflow"),
    ("cel", "workflow"),
    ("wasmtime*", "sandbox"),
    ("cranelift*", "sandbox"),
    ("rusqlite", "journal"),
    ("libsqlite3-sys", "journal"),
];

/// What the pure core may not reach, not even through others: runtimes, sockets, databases, other rooms' engines.
const OUT_OF_REACH: &[&str] = &[
    "tokio*",
    "async-std",
    "smol",
    "wasmtime*",
    "cranelift*",
    "rusqlite",
    "libsqlite3-sys",
    "mio",
    "socket2",
    "hyper*",
    "reqwest",
    "rustls",
    "rustix",
    "tempfile",
];

/// What the core's own sources may not name: its clock, randomness and files are arguments.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "SystemTime",
    "Instant",
    "thread_rng",
    "jiff::Zoned::now",
    "Timestamp::now",
];

#[test]
fn the_rooms_keep_to_the_plan() {
    let (direct, resolved) = (direct(), resolved());
    let pure = ["workflow", "rehearsal"].map(|room| reach(&resolved, room, OUT_OF_REACH)).concat();
    let broken = [rooms(&direct), owners(&direct), pure].concat();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_room_of_the_engine_is_in_the_plan() {
    let engine = root().join("engine");
    let folders: BTreeSet<_> = fs::read_dir(&engine)
        .expect("the engine's folder")
        .map(|entry| entry.expect("an entry of the engine's folder").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| path.file_name().expect("a folder has a name").to_string_lossy().into_owned())
        .collect();
    let planned: BTreeSet<_> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(folders, planned, "the folders of engine/ and the plan ROOMS in this file must name the same rooms");
}

#[test]
fn the_pure_rooms_name_no_clock_file_thread_or_socket() {
    let sources: Vec<_> = ["workflow", "rehearsal"]
        .iter()
        .flat_map(|room| rust_files(&root().join("engine").join(room).join("src")))
        .collect();
    assert!(!sources.is_empty(), "the pure rooms have sources");
    let broken: Vec<_> = sources
        .iter()
        .flat_map(|path| impurities(&path.display().to_string(), &fs::read_to_string(path).expect("a source file")))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn an_arrow_against_the_plan_is_found_and_named() {
    let broken = rooms(&arrows(&[("journal", &["sandbox", "workflow"])]));
    assert_eq!(broken, ["journal → sandbox: journal may only know workflow"]);
}

#[test]
fn a_room_that_may_know_nobody_is_told_so() {
    let broken = rooms(&arrows(&[("workflow", &["journal"])]));
    assert_eq!(broken, ["workflow → journal: workflow may know no other room"]);
}

#[test]
fn arrows_within_the_plan_pass() {
    let plan = arrows(&[("cli", &["conductor", "builder"]), ("conductor", &["sandbox"]), ("sandbox", &["workflow"])]);
    assert_eq!(rooms(&plan), Vec::<String>::new());
}

#[test]
fn a_second_user_of_a_package_with_one_owner_is_found() {
    let broken = owners(&arrows(&[("conductor", &["wasmtime-wasi"]), ("sandbox", &["wasmtime"])]));
    assert_eq!(broken, ["conductor → wasmtime-wasi: only sandbox may use wasmtime*"]);
}

#[test]
fn only_the_harness_may_use_the_bare_engines_as_well() {
    assert_eq!(owners(&arrows(&[("bench", &["wasmtime", "rusqlite"])])), Vec::<String>::new());
    assert_eq!(owners(&arrows(&[("cli", &["rusqlite"])])), ["cli → rusqlite: only journal may use rusqlite"]);
}

#[test]
fn nobody_may_know_the_harness() {
    assert_eq!(rooms(&arrows(&[("journal", &["bench"])])), ["journal → bench: journal may only know workflow"]);
}

#[test]
fn a_package_is_found_through_others_and_the_way_to_it_is_shown() {
    let graph = arrows(&[("workflow", &["serde", "rules"]), ("rules", &["http"]), ("http", &["tokio-util"])]);
    let broken = reach(&graph, "workflow", &["tokio*"]);
    assert_eq!(
        broken,
        ["workflow → rules → http → tokio-util: workflow may not reach tokio*, not even through others"]
    );
}

#[test]
fn a_graph_with_a_circle_ends() {
    let graph = arrows(&[("workflow", &["a"]), ("a", &["b"]), ("b", &["a"])]);
    assert_eq!(reach(&graph, "workflow", &["tokio*"]), Vec::<String>::new());
}

#[test]
fn an_impure_line_is_found_with_its_number() {
    let source = "use std::{collections::BTreeMap, fs};\n// Instant is only mentioned\nlet now = Instant::now();\n";
    assert_eq!(
        impurities("run.rs", source),
        [
            "run.rs:1: `std::fs`: the core has no clock, file, thread or socket; hand the value in",
            "run.rs:3: `Instant`: the core has no clock, file, thread or socket; hand the value in",
        ]
    );
}

#[test]
fn an_impure_import_is_found_in_a_group_of_many_lines() {
    let source = "use std::{\n    // why\n    env,\n};\nfn env() {}\n";
    assert_eq!(
        impurities("run.rs", source),
        ["run.rs:3: `std::env`: the core has no clock, file, thread or socket; hand the value in"]
    );
}

#[test]
fn a_name_that_only_contains_an_impure_one_passes() {
    assert_eq!(impurities("run.rs", "struct Instantiation; let std_fs = 1; use std::fmt;\n"), Vec::<String>::new());
}

/// The arrows between rooms that the plan doesn't have.
fn rooms(direct: &Arrows) -> Vec<String> {
    let mut broken = Vec::new();
    for (room, allowed) in ROOMS {
        for other in direct.get(*room).into_iter().flatten() {
            if !ROOMS.iter().any(|(name, _)| name == other) || allowed.contains(&other.as_str()) {
                continue;
            }
            let rule = match allowed {
                [] => "may know no other room".to_owned(),
                rooms => format!("may only know {}", rooms.join(", ")),
            };
            broken.push(format!("{room} → {other}: {room} {rule}"));
        }
    }
    broken
}

/// The rooms that use what belongs to another room.
fn owners(direct: &Arrows) -> Vec<String> {
    let mut broken = Vec::new();
    for (package, owner) in OWNERS {
        for (room, _) in ROOMS.iter().filter(|(room, _)| room != owner && *room != BESIDE) {
            for other in direct.get(*room).into_iter().flatten().filter(|other| matches(package, other)) {
                broken.push(format!("{room} → {other}: only {owner} may use {package}"));
            }
        }
    }
    broken
}

/// The ways from `start` to a forbidden package, one (a shortest) for each package that is reached.
fn reach(graph: &Arrows, start: &str, forbidden: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut seen = BTreeSet::from([start]);
    let mut ways = vec![vec![start]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in graph.get(way[way.len() - 1]).into_iter().flatten().filter(|next| seen.insert(next.as_str())) {
                let way = [way.as_slice(), &[next.as_str()]].concat();
                match forbidden.iter().find(|pattern| matches(pattern, next)) {
                    Some(pattern) => broken
                        .push(format!("{}: {start} may not reach {pattern}, not even through others", way.join(" → "))),
                    None => longer.push(way),
                }
            }
        }
        ways = longer;
    }
    broken
}

/// The lines of a source that name something impure; comments may. A group counts as well: `use std::{fs, …}`, over
/// however many lines.
fn impurities(name: &str, source: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let mut in_group = false;
    for (index, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let group = match code.split_once("std::{") {
            Some((_, group)) => {
                in_group = true;
                group
            }
            None if in_group => code,
            None => "",
        };
        for impure in IMPURE {
            let imported = impure.strip_prefix("std::").is_some_and(|module| contains_word(group, module));
            if contains_word(code, impure) || imported {
                broken.push(format!(
                    "{name}:{}: `{impure}`: the core has no clock, file, thread or socket; hand the value in",
                    index + 1
                ));
            }
        }
        in_group &= !group.contains(';');
    }
    broken
}

fn contains_word(text: &str, word: &str) -> bool {
    let part_of_a_name = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].ends_with(part_of_a_name) && !text[start + word.len()..].starts_with(part_of_a_name)
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

fn arrows(list: &[(&str, &[&str])]) -> Arrows {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    list.iter().map(|(from, to)| ((*from).to_owned(), owned(to))).collect()
}

/// What the rooms' manifests say: every direct dependency that ends up in the program (tests and build scripts may use
/// what they like).
fn direct() -> Arrows {
    let metadata = metadata(&["--no-deps"]);
    let packages = array(&metadata["packages"]).iter();
    packages
        .map(|package| {
            let dependencies = array(&package["dependencies"]).iter().filter(|dependency| dependency["kind"].is_null());
            (room(text(&package["name"])), dependencies.map(|dependency| room(text(&dependency["name"]))).collect())
        })
        .collect()
}

/// What the lock file makes of it on this platform. Two versions of one package count as one.
fn resolved() -> Arrows {
    let host =
        Command::new("rustc").args(["--print", "host-tuple"]).output().expect("rustc, which has just built this");
    let host = String::from_utf8(host.stdout).expect("a host's name in UTF-8");
    let metadata = metadata(&["--filter-platform", host.trim()]);
    let names: BTreeMap<_, _> = array(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), room(text(&package["name"]))))
        .collect();
    let mut graph = Arrows::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let others = graph.entry(names[text(&node["id"])].clone()).or_default();
        for dependency in array(&node["deps"]) {
            if array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                others.insert(names[text(&dependency["pkg"])].clone());
            }
        }
    }
    graph
}

/// `cargo metadata` of the engine's workspace. The tests were built from this lock file, so nothing is left to
/// download.
fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(arguments)
        .output()
        .expect("cargo, which has just built this");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo's metadata is JSON")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace's root").to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of a folder of sources").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A room is called by its folder's name.
fn room(package: &str) -> String {
    package.strip_prefix("downbeat-").unwrap_or(package).to_owned()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("cargo's metadata has an array here")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo's metadata has a text here")
}
