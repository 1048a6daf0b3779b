//! The release under everything that guards it: a policy that is enforced, a lock, components that somebody has signed, a
//! secret that no step sees, programs that the kernel keeps to their grants. And what is told if any one grant is missing.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;

use downbeat_tests::{Answer, Bench, repository};
use regex::Regex;
use toml::Value;

const RELEASE: &str = "workflows/release";
const FILE: &str = "workflows/release/release.toml";

/// The plugins of the release, by the folder of each and the file that comes of it.
const PLUGINS: [(&str, &str); 4] =
    [("process", "process"), ("http", "http"), ("kpi-gate", "kpi_gate"), ("notify", "notify")];

/// A release of the committed kind that takes no longer than it must.
const SHORT: [&str; 4] = ["--input", "suites=[\"test=service\"]", "--input", "requests=10"];

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.copy_release();
    bench
}

/// The same, with components of its own, so that they can be signed.
fn bench_with_components() -> Bench {
    let bench = bench();
    for (folder, name) in PLUGINS {
        let built = bench.run(&["plugin", "build", &format!("{{repo}}/plugins/{folder}")]);
        let from = Path::new(built.stdout.trim());
        let to = bench.write(&format!("plugins/{name}.wasm"), "");
        std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}: {}", from.display(), built.stderr));
    }
    for file in ["release.toml", "deploy.toml"] {
        edit(&bench, file, |workflow| {
            for (_, plugin) in workflow["plugins"].as_table_mut().unwrap() {
                let (_, folder) = plugin.as_str().unwrap().rsplit_once('/').unwrap();
                let (_, name) = PLUGINS.iter().find(|(known, _)| *known == folder).unwrap();
                *plugin = Value::String(format!("../../plugins/{name}.wasm"));
            }
        });
    }
    bench
}

/// A file of the release, as it is.
fn read(bench: &Bench, file: &str) -> Value {
    let text = std::fs::read_to_string(bench.path().join(RELEASE).join(file)).unwrap();
    Value::Table(text.parse().unwrap())
}

/// Changes a file of the release.
fn edit(bench: &Bench, file: &str, change: impl FnOnce(&mut Value)) {
    let mut workflow = read(bench, file);
    change(&mut workflow);
    bench.write(&format!("{RELEASE}/{file}"), &toml::to_string(&workflow).unwrap());
}

/// Something that is granted.
#[derive(Debug)]
struct Granted {
    file: &'static str,
    /// Where it stands there.
    place: Vec<Key>,
    item: String,
    /// A pattern of the line that grants it.
    line: String,
}

impl Granted {
    /// Where it stands, with dots.
    fn told(&self) -> String {
        let keys = self.place.iter().map(|key| match key {
            Key::Name(name) => name.clone(),
            Key::Item(number) => number.to_string(),
        });
        format!("{} {}", self.file, keys.collect::<Vec<_>>().join("."))
    }
}

#[derive(Clone, Debug)]
enum Key {
    Name(String),
    Item(usize),
}

/// All that a part of a file grants.
fn granted(file: &'static str, part: &Value, place: &mut Vec<Key>, all: &mut Vec<Granted>) {
    let Value::Table(table) = part else { return };
    for (key, value) in table {
        place.push(Key::Name(key.clone()));
        match value {
            Value::Table(grant) if key == "grant" => {
                for (kind, value) in grant {
                    place.push(Key::Name(kind.clone()));
                    items(file, kind, value, place, all);
                    place.pop();
                }
            }
            _ => granted(file, value, place, all),
        }
        place.pop();
    }
}

/// A grant of one kind: it as a whole, or each item, each word of an item, and each item of such a word.
fn items(file: &'static str, kind: &str, value: &Value, place: &mut Vec<Key>, all: &mut Vec<Granted>) {
    let mut push = |place: &[Key], item: &str, line: String| {
        all.push(Granted { file, place: place.to_vec(), item: item.to_owned(), line });
    };
    let Value::Array(list) = value else { return push(place, kind, format!("{kind} = true")) };
    for (number, item) in list.iter().enumerate() {
        place.push(Key::Item(number));
        let name = ["name", "program", "host"].iter().find_map(|word| item.get(word)).unwrap_or(item).as_str().unwrap();
        push(place, name, format!(r#"{kind} = \[.*"{}"#, name.trim_end_matches('*')));
        for (word, value) in item.as_table().into_iter().flatten().filter(|_| kind == "process") {
            place.push(Key::Name(word.clone()));
            match value {
                Value::Boolean(_) => push(place, word, format!("{word} = true")),
                Value::Array(list) => {
                    for (number, item) in list.iter().enumerate() {
                        let item = item.as_str().unwrap();
                        push(
                            &[&place[..], &[Key::Item(number)]].concat(),
                            item,
                            format!(r#"{word} = \[.*"{}"#, real(item)),
                        );
                    }
                }
                _ => {}
            }
            place.pop();
        }
        place.pop();
    }
}

/// Takes what stands there away.
fn take(part: &mut Value, place: &[Key]) {
    match place {
        [Key::Name(name)] => _ = part.as_table_mut().unwrap().remove(name),
        [Key::Item(number)] => _ = part.as_array_mut().unwrap().remove(*number),
        [Key::Name(name), rest @ ..] => take(&mut part[name.as_str()], rest),
        [Key::Item(number), rest @ ..] => take(&mut part[*number], rest),
        [] => panic!("nothing is named"),
    }
}

/// Where the toolchain is. What is granted in case that a machine names no place for it is not missed by one that does.
fn toolchain() -> [(&'static str, String); 3] {
    let place = |variable: &str, folder: &str| {
        std::env::var(variable).unwrap_or_else(|_| format!("{}/{folder}", std::env::var("HOME").unwrap()))
    };
    [
        ("CARGO_HOME", place("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", place("RUSTUP_HOME", ".rustup")),
        ("HOME", "/nonexistent".to_owned()),
    ]
}

/// A path that a program may read, as a refusal tells it.
fn real(path: &str) -> String {
    let named = toolchain().into_iter().find(|(variable, _)| path.strip_prefix('$') == Some(variable));
    named.map_or_else(|| path.to_owned(), |(_, place)| place)
}

/// What a release on this machine does without: what is granted in case that no variable says where the toolchain is, and
/// what cargo keeps in its home, which is read if there is anything.
fn is_spare(place: &str, item: &str) -> bool {
    ["~/.cargo", "~/.rustup", "HOME", "CARGO_HOME"].contains(&item)
        || item == "$CARGO_HOME" && !place.contains(".test.")
}

/// A command about a release in this folder, on a machine whose variables say where the toolchain is.
fn release(bench: &Bench, arguments: &[&str]) -> Answer {
    let output = bench.command(arguments).envs(toolchain()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The id of the latest run.
fn latest(bench: &Bench) -> String {
    let list = bench.run(&["list"]).stdout;
    list.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn whatever_is_not_granted_is_told_with_the_line_that_grants_it() {
    let bench = bench();
    let base = release(&bench, &[&["run", FILE][..], &SHORT].concat());
    assert_eq!(base.code, 0, "{}", base.stderr);
    let id = latest(&bench);
    let workspace = bench.path().join(".downbeat/workspaces").join(&id);
    let mut all = Vec::new();
    for file in ["release.toml", "deploy.toml"] {
        granted(file, &read(&bench, file), &mut Vec::new(), &mut all);
    }
    let needed: Vec<&Granted> = all.iter().filter(|granted| !is_spare(&granted.told(), &granted.item)).collect();
    assert!(needed.len() > 40, "{all:#?}");
    for granted in needed {
        let (told, before) = (granted.told(), read(&bench, granted.file));
        edit(&bench, granted.file, |workflow| {
            take(workflow, &granted.place);
            if told.contains(".undo.") {
                // Something has to be undone.
                workflow["steps"]["trial"]["steps"]["arrived"]["repeat"]["until"] = "false".into();
            }
        });
        // What was made before is not made again, and so it is not missed.
        let is_made = told.contains("repository").then(|| workspace.join("repository"));
        let away = workspace.join("away");
        is_made.iter().for_each(|made| std::fs::rename(made, &away).unwrap());
        let answer = release(&bench, &["rerun", &id, "--file", FILE, "--from", "receiver", "--from", "baseline"]);
        is_made.iter().for_each(|made| std::fs::rename(&away, made).unwrap());
        let said =
            [answer.stderr, bench.run(&["logs", "last"]).stdout, bench.run(&["check", RELEASE]).stderr].join("\n");
        let line = Regex::new(&granted.line).unwrap();
        assert!(answer.code != 0 && line.is_match(&said), "{told}: {} is not told:\n{said}", granted.line);
        edit(&bench, granted.file, |workflow| *workflow = before);
    }
}

/// A policy that holds beside the committed one: components are those that this key has signed.
fn signers(bench: &Bench, key: &str) -> String {
    let policy = format!(
        "[signers.release-team]\nkey = \"{key}\"\n\n[rules.signed]\nsigners = [\"release-team\"]\n\n\
         [rules.confined]\nrequire = [\"no-new-privileges\", \"session\", \"limits\", \"system-calls\", \"files\", \
         \"network\"]\n\n[rules.own_plugins]\nsources = [\"{}/plugins/*\"]\n",
        bench.path().canonicalize().unwrap().display()
    );
    bench.write("policies/signed.toml", &policy).display().to_string()
}

#[test]
fn a_release_is_made_under_policy_lock_and_signatures_and_its_record_proves_it() {
    let bench = bench_with_components();
    let key = bench.run(&["key", "new", "team.key"]).stdout;
    let signed = signers(&bench, key.trim());
    let committed = repository().join("workflows/policy.toml").display().to_string();
    let run = [&["run", FILE, "--policy", &committed, "--policy", &signed][..], &SHORT].concat();

    let unsigned = bench.run(&run);
    assert_eq!(unsigned.code, 8, "{}", unsigned.stderr);
    assert!(
        unsigned.stderr.contains("rule `signed`") && unsigned.stderr.contains("signed.toml"),
        "{}",
        unsigned.stderr
    );

    for (_, name) in PLUGINS {
        let component = format!("plugins/{name}.wasm");
        assert_eq!(bench.run(&["sign", &component, "--key", "team.key"]).code, 0);
        let verified = bench.run(&["verify", &component, "--policy", &signed]);
        assert!(verified.stdout.contains("release-team"), "{}{}", verified.stdout, verified.stderr);
    }
    assert_eq!(bench.run(&["lock", FILE]).code, 0);
    let released = bench.run(&run);
    assert_eq!(released.code, 0, "{}", released.stderr);

    let id = latest(&bench);
    assert_eq!(bench.run(&["audit", "verify"]).code, 0);
    let told = bench.run(&["show", &id, "--json"]).stdout;
    assert!(told.contains("attempt-succeeded") && !told.contains("unprotected"), "{told}");
    let used = bench.run(&["audit", "show", "--run", &id, "--capability", "secrets"]).stdout;
    assert!(used.contains("tell_promoted") && used.contains("receiver"), "{used}");
    // The receiver has the token, and so has what was made of its source; nothing else of the run has.
    let token = std::fs::read_to_string(bench.path().join(RELEASE).join("platform/token")).unwrap();
    let state = bench.path().join(".downbeat");
    let kept = ["journal.db", "journal.db-wal"].iter().filter_map(|name| std::fs::read(state.join(name)).ok());
    for bytes in kept.chain([told, bench.run(&["logs", &id]).stdout].map(String::into_bytes)) {
        assert!(!bytes.windows(token.trim().len()).any(|part| part == token.trim().as_bytes()), "the token is kept");
    }

    let notify = bench.path().join("plugins/notify.wasm");
    std::fs::copy(bench.path().join("plugins/http.wasm"), &notify).unwrap();
    let swapped = bench.run(&run);
    assert_eq!(swapped.code, 8, "{}", swapped.stderr);
}

#[test]
fn the_committed_lock_is_that_of_the_committed_plugins() {
    let bench = bench();
    let checked = bench.run(&["lock", "--check", "{repo}/workflows/release"]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
}
