//! The four keys, as a person meets them: what a component wants, what its workflow grants, what a policy allows, and what
//! the lock has. The components are made here, so that there are two versions of one without a compiler.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::path::Path;

use downbeat_tests::{Answer, Bench, repository};
use downbeat_workflow::description::Digest;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

fn component(version: &str, wants: &[(&str, &str)]) -> Vec<u8> {
    component_called("fetch", version, wants)
}

/// A step that wants these capabilities, and answers with its input.
fn component_called(name: &str, version: &str, wants: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut place = |text: &str| {
        let at = 4096 + data.len() as u32;
        data.extend_from_slice(text.as_bytes());
        [at.to_le_bytes(), (text.len() as u32).to_le_bytes()].concat()
    };
    // The record `description` from 64, the list of its wants from 1024, all texts from 4096.
    let mut description: Vec<u8> =
        [name, version, "Made for a test.", "{}", "{}"].iter().flat_map(|text| place(text)).collect();
    description.extend([1024_u32.to_le_bytes(), (wants.len() as u32).to_le_bytes()].concat());
    let wants: Vec<u8> =
        wants.iter().flat_map(|(capability, reason)| [place(capability), place(reason)].concat()).collect();
    let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let text = format!(
        r#"(module
            (memory (export "memory") 2)
            (global $heap (mut i32) (i32.const 65536))
            (data (i32.const 64) "{}") (data (i32.const 1024) "{}") (data (i32.const 4096) "{}")
            (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func (export "downbeat:step/step@0.1.0#describe") (result i32) (i32.const 64))
            (func (export "downbeat:step/step@0.1.0#run")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $input i32) (param $input_len i32) (result i32)
                (i32.store8 (i32.const 512) (i32.const 0))
                (i32.store (i32.const 520) (local.get $input))
                (i32.store (i32.const 524) (local.get $input_len))
                (i32.const 512)))"#,
        escape(&description),
        escape(&wants),
        escape(&data),
    );
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(repository().join("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

const OLD: &[(&str, &str)] = &[("http:api.example.org", "to fetch what is asked for")];
const NEW: &[(&str, &str)] =
    &[("http:api.example.org", "to fetch what is asked for"), ("http:cdn.example.org", "to fetch faster")];

/// A workflow with a step that fetches, in a folder of its own.
fn fetching() -> Bench {
    let bench = bench();
    bench.write(
        "flow/fetch.toml",
        "name = \"fetch\"\nplugins.fetch = \"fetch.wasm\"\n\n[steps.get]\nuse   = \"fetch\"\nwith  = { x = 1 }\ngrant = { http = [\"api.example.org\"] }\n",
    );
    std::fs::write(bench.path().join("flow/fetch.wasm"), component("1.0.0", OLD)).unwrap();
    bench
}

#[track_caller]
fn check(answer: &Answer, code: i32, says: &[&str]) {
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert_eq!(answer.code, code, "{said}");
    for words in says {
        assert!(said.contains(words), "it does not say {words:?}:\n{said}");
    }
}

#[test]
fn a_new_version_that_wants_one_more_host_is_refused_until_the_lock_has_it() {
    let bench = fetching();
    let wasm = bench.path().join("flow/fetch.wasm");
    check(&bench.run(&["lock", "flow/fetch.toml"]), 0, &["+ fetch.wasm: fetch 1.0.0, wants http:api.example.org"]);
    check(&bench.run(&["lock", "flow", "--check"]), 0, &["1 plugin, up to date"]);
    check(&bench.run(&["run", "flow/fetch.toml"]), 0, &["succeeded"]);

    std::fs::copy(&wasm, bench.path().join("old.wasm")).unwrap();
    std::fs::copy(bench.path().join("flow/downbeat.lock"), bench.path().join("old.lock")).unwrap();
    std::fs::write(&wasm, component("1.1.0", NEW)).unwrap();
    let refused = [
        "it is not what",
        "downbeat.lock has: it wants `http:cdn.example.org` and did not",
        "downbeat lock --update fetch.wasm",
    ];
    check(&bench.run(&["check", "flow/fetch.toml"]), 3, &refused);
    check(&bench.run(&["run", "flow/fetch.toml"]), 3, &refused);
    check(&bench.run(&["lock", "flow", "--check"]), 6, &["! fetch.wasm: it wants `http:cdn.example.org` and did not"]);
    check(&bench.run(&["lock", "flow"]), 6, &["what is marked with ! is as it was"]);
    check(&bench.run(&["run", "flow/fetch.toml"]), 3, &refused);

    let more =
        "may do more\n  + wants http:cdn.example.org (to fetch faster)\nmay do the same\n  ~ version 1.0.0 → 1.1.0\n";
    let answer = bench.run(&["diff", "old.wasm", "flow/fetch.wasm"]);
    check(&answer, 9, &[]);
    assert!(answer.stdout.starts_with(more), "{}", answer.stdout);
    check(&bench.run(&["diff", "flow/fetch.wasm", "old.wasm"]), 6, &["may do less\n  - wants http:cdn.example.org"]);

    let answer = bench.run(&["lock", "flow", "--update", "fecth"]);
    check(&answer, 2, &["there is no plugin of these workflows `fecth`", "there are `fetch`, `fetch.wasm`"]);
    check(
        &bench.run(&["lock", "flow", "--update", "fetch"]),
        0,
        &["~ fetch.wasm: it wants `http:cdn.example.org` and did not"],
    );
    check(&bench.run(&["run", "flow/fetch.toml"]), 0, &["succeeded"]);
    let answer = bench.run(&["diff", "old.lock", "flow/downbeat.lock", "--format", "markdown"]);
    check(&answer, 9, &["| **wider** | `fetch.wasm` | + wants | `http:cdn.example.org` | `to fetch faster` |"]);
    let head = "### Capabilities: `old.lock` → `flow/downbeat.lock`\n\nIt **may do more** than before. 1 change wider, 0 narrower.\n\n| |";
    assert!(answer.stdout.starts_with(head), "{}", answer.stdout);
    check(&bench.run(&["diff", "old.lock", "old.lock"]), 0, &["nothing has changed"]);
    let json = bench.run(&["diff", "old.lock", "flow/downbeat.lock", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["changes"][0]["severity"].as_str(), json["changes"][0]["item"].as_str()),
        (Some("wider"), Some("http:cdn.example.org"))
    );
}

#[test]
fn a_plugin_that_the_lock_has_not_is_refused_and_a_lock_that_cannot_be_read_refuses_all() {
    let bench = fetching();
    bench.write("flow/downbeat.lock", "version = 1\n");
    check(&bench.run(&["run", "flow/fetch.toml"]), 3, &["downbeat.lock does not have it", "`downbeat lock` adds it"]);
    bench.write("flow/downbeat.lock", "version = 1\nplugin = 1\n");
    check(&bench.run(&["run", "flow/fetch.toml"]), 3, &["downbeat.lock:2 has a fault: `plugin` must be"]);
    // It is one fault, however many plugins there are.
    let text = std::fs::read_to_string(bench.path().join("flow/fetch.toml")).unwrap();
    let two =
        text.replace("plugins.fetch = \"fetch.wasm\"", "plugins = { fetch = \"fetch.wasm\", other = \"fetch.wasm\" }");
    bench.write("flow/two.toml", &format!("{two}\n[steps.more]\nuse = \"other\"\n"));
    let answer = bench.run(&["check", "flow/two.toml"]);
    check(
        &answer,
        3,
        &["the plugins `fetch`, `other` can't be used: ", "hint: take it as it was committed; or", "1 error"],
    );
    std::fs::remove_file(bench.path().join("flow/two.toml")).unwrap();
    bench.write("flow/downbeat.lock", "version = 1\n[[plugin]]\nsource = \"gone.wasm\"\n");
    check(&bench.run(&["lock", "flow"]), 3, &["downbeat.lock:2 has a fault", "hint: take it as it was committed; or"]);
}

#[test]
fn an_update_takes_over_nothing_that_only_now_calls_itself_what_is_meant() {
    let bench = fetching();
    let write = |name: &str, calls_itself: &str, version: &str| {
        let bytes = component_called(calls_itself, version, OLD);
        std::fs::write(bench.path().join("flow").join(name), bytes).unwrap();
    };
    write("other.wasm", "other", "1.0.0");
    bench.write("flow/more.toml", "name = \"more\"\nplugins.more = \"other.wasm\"\n[steps.get]\nuse = \"more\"\n");
    check(&bench.run(&["lock", "flow"]), 0, &["+ fetch.wasm: fetch 1.0.0", "+ other.wasm: other 1.0.0"]);
    write("fetch.wasm", "fetch", "1.1.0");
    write("other.wasm", "fetch", "6.6.6");
    check(&bench.run(&["lock", "flow", "--update", "fetch"]), 6, &["~ fetch.wasm: ", "! other.wasm: "]);
    // By the name that the lock has, it is meant.
    check(&bench.run(&["lock", "flow", "--update", "other"]), 0, &["~ other.wasm: "]);
}

#[test]
fn nothing_goes_from_a_lock_while_a_workflow_beside_it_cannot_be_read() {
    let bench = fetching();
    let more = "name = \"more\"\nplugins.more = \"other.wasm\"\n[steps.get]\nuse = \"more\"\n";
    bench.write("flow/more.toml", more);
    std::fs::write(bench.path().join("flow/other.wasm"), component_called("other", "1.0.0", OLD)).unwrap();
    check(&bench.run(&["lock", "flow"]), 0, &["+ other.wasm: other 1.0.0"]);
    let kept = bench.path().join("flow/downbeat.lock");
    let before = std::fs::read_to_string(&kept).unwrap();
    for broken in [format!("{more}]"), more.replace("plugins.more = \"other.wasm\"", "plugins.more = 1")] {
        bench.write("flow/more.toml", &broken);
        let answer = bench.run(&["lock", "flow/fetch.toml"]);
        check(&answer, 0, &["? other.wasm: kept, as ", "flow/more.toml can't be read, and may use it"]);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), before);
    }
    std::fs::remove_file(bench.path().join("flow/more.toml")).unwrap();
    check(&bench.run(&["lock", "flow/fetch.toml"]), 0, &["- other.wasm: no workflow here uses it"]);
}

#[test]
fn a_host_that_the_component_does_not_want_is_not_given() {
    let bench = fetching();
    let text = std::fs::read_to_string(bench.path().join("flow/fetch.toml")).unwrap();
    bench.write(
        "flow/fetch.toml",
        &text.replace("[\"api.example.org\"]", "[\"api.example.org\", \"evil.example.org\"]"),
    );
    let answer = bench.run(&["plan", "flow/fetch.toml"]);
    check(
        &answer,
        0,
        &["http = [\"evil.example.org\"]: granted, and taken away by the component, which does not want it"],
    );
    assert!(answer.stdout.contains("{\"http\":[\"api.example.org\"]}"), "{}", answer.stdout);
}

#[test]
fn a_refusal_of_a_policy_names_rule_file_and_line() {
    let bench = fetching();
    let policy = bench
        .write("policy.toml", "[rules.no_web]\ndescription = \"nobody leaves the house\"\nforbid = { http = true }\n");
    let policy = policy.to_str().unwrap();
    let says = [
        "error[policy]: fetch.toml:7: the step `get` of `fetch` is granted `http = [\"api.example.org\"]`: rule `no_web` of ",
        "policy.toml:3",
        "nobody leaves the house",
    ];
    check(&bench.run(&["check", "flow/fetch.toml", "--policy", policy]), 8, &says);
    check(&bench.run(&["plan", "flow/fetch.toml", "--policy", policy]), 8, &says);
    check(
        &bench.run(&["run", "flow/fetch.toml", "--policy", policy]),
        8,
        &[&says[..], &["a policy forbids it; nothing was run"]].concat(),
    );
    check(&bench.run(&["run", "flow/fetch.toml"]), 0, &["succeeded"]);
    // It holds without a word where its owner put it.
    bench.write(".config/downbeat/policy.toml", "[rules.no_web]\nforbid = { http = true }\n");
    check(&bench.run(&["run", "flow/fetch.toml"]), 8, &["rule `no_web` of ", ".config/downbeat/policy.toml:2"]);
    check(&bench.run(&["policy", "show"]), 0, &["no_web: forbids"]);
}

#[test]
fn a_policy_that_cannot_be_read_or_is_wrong_or_lies_beside_the_workflow_refuses_everything() {
    let bench = fetching();
    let run = |policy: &str| bench.run(&["run", "flow/fetch.toml", "--policy", policy]);
    check(&run("nowhere.toml"), 8, &["the policy nowhere.toml can't be read", "nothing is run without it"]);
    check(&run("flow"), 8, &["the policy flow can't be read: it is a folder"]);
    bench.write("wrong.toml", "[rules.a]\nforbids = { http = true }\n");
    check(&run("wrong.toml"), 8, &["a rule has no key `forbids`", "the policy wrong.toml has errors"]);
    bench.write("text.toml", "this is no TOML");
    check(&run("text.toml"), 8, &["the policy text.toml has errors"]);
    bench.write("flow/policy.toml", "");
    check(&run("flow/policy.toml"), 8, &["lies in a workflow's own folder"]);
    bench.write(".config/downbeat/policy.toml", "mode = 1\n");
    for command in
        [&["check", "flow"][..], &["plan", "flow/fetch.toml"], &["run", "flow/fetch.toml"], &["policy", "show"]]
    {
        check(&bench.run(command), 8, &[".config/downbeat/policy.toml has errors"]);
    }
    assert!(!bench.path().join(".downbeat").exists(), "nothing has run");
}

#[test]
fn what_lies_elsewhere_is_not_laid_over_a_workflow_that_a_policy_trusts() {
    let bench = fetching();
    let policy = "[rules.no_web]\nexcept = { workflow = [\"*/flow\"] }\nforbid = { http = true }\n";
    let over = "[steps.get]\ntimeout = \"9s\"\n";
    bench.write("policy.toml", policy);
    bench.write("other/evil.with.toml", over);
    bench.write("flow/deep/fine.with.toml", over);
    std::os::unix::fs::symlink("../other/evil.with.toml", bench.path().join("flow/link.with.toml")).unwrap();
    let with =
        |command: &str, over: &str| bench.run(&[command, "flow/fetch.toml", "--with", over, "--policy", "policy.toml"]);
    for over in ["other/evil.with.toml", "flow/../other/evil.with.toml", "flow/link.with.toml"] {
        for command in ["check", "plan", "run"] {
            check(&with(command, over), 8, &["does not lie in the workflow's folder; nothing was run", "or below it"]);
        }
    }
    check(&with("check", "flow/deep/fine.with.toml"), 0, &["no errors"]);
    check(&bench.run(&["check", "flow/fetch.toml", "--with", "other/evil.with.toml"]), 0, &["no errors"]);
}

#[test]
fn what_else_differs_between_two_workflows_is_not_called_the_same() {
    let bench = fetching();
    let was = r#"
name = "release"
plugins.fetch = "fetch.wasm"

[secrets]
token = { command = ["vault", "read", "token"] }

[steps.lint]
wait = "1ms"

[steps.ask]
needs = ["lint"]
wait  = { approval = "ann" }

[steps.get]
use    = "fetch"
needs  = ["ask"]
grant  = { http = ["api.example.org"], secrets = [{ name = "token", host = "api.example.org", header = "authorization" }] }
with   = { args = ["push"], token = "${secrets.token}" }
"#;
    bench.write("flow/was.toml", was);
    let to = |old: &str, new: &str| {
        assert!(was.contains(old), "{old}");
        bench.write("flow/is.toml", &was.replace(old, new));
        bench.run(&["diff", "flow/was.toml", "flow/is.toml"])
    };
    check(&to("name", "name"), 0, &["nothing has changed"]);
    check(&to("name = \"release\"", "# For all.\nname = \"release\""), 0, &["nothing has changed"]);
    check(&to("\"vault\", \"read\"", "\"curl\", \"evil.example.org\""), 9, &["may do more", "~ get: secrets"]);
    let other = ["may do the same", "~ workflow", "`downbeat expand`"];
    check(&to("needs = [\"lint\"]\n", ""), 6, &other);
    check(&to("\"push\"", "\"push\", \"--force\""), 6, &other);
}

#[test]
fn a_step_that_could_write_to_the_policy_is_refused() {
    let bench = fetching();
    std::fs::write(bench.path().join("flow/fetch.wasm"), component("1.0.0", &[("files", "to keep what it fetched")]))
        .unwrap();
    bench.write("policies/policy.toml", "[rules.small]\nlimit = { memory = \"1GiB\" }\n");
    let run = |grant: &str| {
        let text = "name = \"fetch\"\nplugins.fetch = \"fetch.wasm\"\n\n[steps.get]\nuse   = \"fetch\"\ngrant = { files = [GRANT] }\n";
        bench.write("flow/fetch.toml", &text.replace("GRANT", grant));
        bench.run(&["check", "flow/fetch.toml", "--policy", "policies/policy.toml"])
    };
    check(&run("\"../policies\""), 0, &["no errors"]);
    check(
        &run("{ path = \"../policies\", write = true }"),
        8,
        &[
            "could write to this policy: it is granted `{ path = \"../policies\", write = true }`",
            "policies/policy.toml:1",
        ],
    );
}

#[test]
fn a_step_that_could_put_another_link_in_the_way_to_the_policy_is_refused() {
    use std::os::unix::fs::symlink;
    let bench = fetching();
    std::fs::write(bench.path().join("flow/fetch.wasm"), component("1.0.0", &[("files", "to keep what it fetched")]))
        .unwrap();
    bench.write("real/policy.toml", "[rules.small]\nlimit = { memory = \"1GiB\" }\n");
    for folder in ["given", "between", "other"] {
        std::fs::create_dir(bench.path().join(folder)).unwrap();
    }
    symlink("../between/link", bench.path().join("given/link")).unwrap();
    symlink(bench.path().join("real"), bench.path().join("between/link")).unwrap();
    symlink("../real/policy.toml", bench.path().join("flow/policy.toml")).unwrap();
    let check_with = |folder: &str, policy: &str| {
        let text = "name = \"fetch\"\nplugins.fetch = \"fetch.wasm\"\n\n[steps.get]\nuse   = \"fetch\"\ngrant = { files = [{ path = \"../FOLDER\", write = true }] }\n";
        bench.write("flow/fetch.toml", &text.replace("FOLDER", folder));
        bench.run(&["check", "flow/fetch.toml", "--policy", policy])
    };
    for folder in ["given", "between", "real"] {
        check(&check_with(folder, "given/link/policy.toml"), 8, &["could write to this policy: it is granted"]);
    }
    check(&check_with("other", "given/link/policy.toml"), 0, &["no errors"]);
    check(&check_with("other", "flow/policy.toml"), 8, &["lies in a workflow's own folder"]);
}

#[test]
fn what_is_withheld_is_told_with_its_rule_before_the_run() {
    let bench = fetching();
    bench.write("policy.toml", "mode = \"withhold\"\n[rules.no_web]\nforbid = { http = true }\n");
    let answer = bench.run(&["plan", "flow/fetch.toml", "--policy", "policy.toml"]);
    check(
        &answer,
        0,
        &[
            "http = [\"api.example.org\"]: granted, and taken away by rule `no_web` of policy.toml:3",
            "policies  policy.toml, ",
            ": rule no_web\n",
        ],
    );
    check(&bench.run(&["run", "flow/fetch.toml", "--policy", "policy.toml"]), 0, &["succeeded"]);
    let answer = bench.run(&["run", "flow/fetch.toml", "--policy", "policy.toml"]);
    check(&answer, 0, &["(policy); `downbeat check flow/fetch.toml --policy policy.toml` shows it"]);
    bench.write("report.toml", "mode = \"report\"\n[rules.no_web]\nforbid = { http = true }\n");
    let answer = bench.run(&["check", "flow/fetch.toml", "--policy", "report.toml"]);
    check(&answer, 0, &["warning[policy]", "reported by this, and not refused"]);
}

#[test]
fn a_limit_that_a_policy_lowered_is_told_with_its_rule_before_the_run_and_when_it_is_reached() {
    let bench = fetching();
    let limits = "memory = \"64MiB\", output = \"4B\", timeout = \"10s\"";
    bench.write("policy.toml", &format!("[rules.small]\nlimit = {{ {limits} }}\n"));
    let by = "rule `small` of policy.toml:2";
    let told = [
        format!("limit    memory 64.0 MiB (lowered by {by}), output 4 B (lowered by {by})\n"),
        format!("timeout  10.0 s (lowered by {by})\n"),
    ];
    let answer = bench.run(&["plan", "flow/fetch.toml", "--policy", "policy.toml"]);
    check(&answer, 0, &told.each_ref().map(String::as_str));
    let answer = bench.run(&["run", "flow/fetch.toml", "--policy", "policy.toml"]);
    check(&answer, 1, &[&format!("and the limit `output` is 4; {by} lowered it to that")]);
    // By whom is no other limit.
    bench.write("policy.toml", &format!("# More.\n[rules.little]\nlimit = {{ {limits} }}\n"));
    let again = ["plan", "flow/fetch.toml", "--policy", "policy.toml", "--diff", "last"];
    check(&bench.run(&again), 0, &[]);
    let text = std::fs::read_to_string(bench.path().join("flow/fetch.toml")).unwrap();
    bench.write("flow/fetch.toml", &format!("{text}limit = {{ memory = \"1GiB\" }}\n"));
    let says = "has memory 1.0 GiB, and 64.0 MiB is the most: rule `little` of policy.toml:3";
    check(&bench.run(&["check", "flow/fetch.toml", "--policy", "policy.toml"]), 8, &[says]);
}

#[test]
fn what_cannot_be_taken_away_is_refused_where_it_would_be() {
    let bench = fetching();
    let key = bench.run(&["key", "new", "release.key"]).stdout;
    for (asks, says) in [
        ("sources = [\"/srv/plugins/*\"]", "is no source that is allowed: rule `a` of policy.toml:5"),
        ("signers = [\"team\"]", "it is not signed by `team`, which rule `a` of policy.toml:5"),
        ("except = { plugin = [\"x\"] }\nsigners = [\"team\"]", "which is not signed by `team`: rule `a` of"),
        ("approvals = [\"lead\"]", "runs without the approval of `lead`: rule `a` of policy.toml:5"),
    ] {
        let policy = |mode| format!("mode = \"{mode}\"\n[signers.team]\nkey = \"{}\"\n[rules.a]\n{asks}\n", key.trim());
        bench.write("policy.toml", &policy("withhold"));
        let answer = bench.run(&["run", "flow/fetch.toml", "--policy", "policy.toml"]);
        check(&answer, 8, &[says]);
        assert!(!answer.stderr.contains("taken away"), "{}", answer.stderr);
        bench.write("policy.toml", &policy("report"));
        check(&bench.run(&["check", "flow/fetch.toml", "--policy", "policy.toml"]), 0, &["and not refused"]);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_policy_or_of_signatures_is_waited_for_by_nobody() {
    let bench = fetching();
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(bench.path().join(name)).status().unwrap().success());
    };
    pipe("pipe.toml");
    let refused = ["the policy pipe.toml can't be read: it is not a file", "nothing is run without it"];
    check(&bench.run(&["check", "flow/fetch.toml", "--policy", "pipe.toml"]), 8, &refused);
    check(&bench.run(&["policy", "check", "pipe.toml"]), 8, &refused[..1]);

    let key = bench.run(&["key", "new", "release.key"]).stdout;
    let policy = format!("[signers.team]\nkey = \"{}\"\n[rules.signed]\nsigners = [\"team\"]\n", key.trim());
    bench.write("policy.toml", &policy);
    let beside = bench.path().join("flow/fetch.wasm.sigstore.jsonl");
    let unsigned = || {
        check(&bench.run(&["check", "flow/fetch.toml", "--policy", "policy.toml"]), 8, &["it is not signed by `team`"]);
        check(&bench.run(&["plugin", "inspect", "flow/fetch.wasm"]), 0, &["fetch"]);
        check(&bench.run(&["verify", "flow/fetch.wasm", "--key", "release.key.pub"]), 3, &["there is no signature"]);
        let answer = bench.run(&["sign", "flow/fetch.wasm", "--key", "release.key"]);
        check(&answer, 4, &["fetch.wasm.sigstore.jsonl: it is not a file"]);
    };
    pipe("flow/fetch.wasm.sigstore.jsonl");
    unsigned();
    std::fs::remove_file(&beside).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &beside).unwrap();
    unsigned();
    std::fs::remove_file(&beside).unwrap();
    check(&bench.run(&["sign", "flow/fetch.wasm", "--key", "release.key"]), 0, &[]);
    check(&bench.run(&["check", "flow/fetch.toml", "--policy", "policy.toml"]), 0, &["no errors"]);
}

#[test]
fn a_component_that_is_not_signed_by_those_whom_the_policy_names_is_not_even_loaded() {
    let bench = fetching();
    let public = bench.run(&["key", "new", "release.key"]).stdout;
    let policy = format!("[signers.team]\nkey = \"{}\"\n[rules.signed]\nsigners = [\"team\"]\n", public.trim());
    bench.write("policy.toml", &policy);
    let run = || bench.run(&["run", "flow/fetch.toml", "--policy", "policy.toml"]);
    // It is no component at all, and nobody has looked.
    let right = std::fs::read(bench.path().join("flow/fetch.wasm")).unwrap();
    bench.write("flow/fetch.wasm", "no component");
    check(&run(), 8, &["it is not signed by `team`, which rule `signed` of policy.toml:4 asks for"]);
    std::fs::write(bench.path().join("flow/fetch.wasm"), right).unwrap();
    check(&run(), 8, &["it is not signed by `team`"]);
    check(&bench.run(&["key", "new", "other.key"]), 0, &["ed25519:"]);
    check(
        &bench.run(&["key", "new", "other.key"]),
        2,
        &["error: other.key is there already", "hint: no key is written over another"],
    );
    let answer = bench.run(&["sign", "flow/fetch.wasm", "--key", "other.key.pub"]);
    check(
        &answer,
        3,
        &["it is the public half of a key, which only verifies; its private half signs: `--key other.key`"],
    );
    check(&bench.run(&["sign", "flow/fetch.wasm", "--key", "other.key"]), 0, &["fetch.wasm.sigstore.jsonl"]);
    for command in
        [&["sign", "nope.wasm", "--key", "other.key"][..], &["verify", "nope.wasm", "--key", "other.key.pub"]]
    {
        check(&bench.run(command), 3, &["nope.wasm: there is no such file or folder", "hint: name a `.wasm` file"]);
    }
    check(&run(), 8, &["it is not signed by `team`"]);
    check(
        &bench.run(&["verify", "flow/fetch.wasm", "--key", "release.key.pub"]),
        3,
        &["is not signed by any of these keys"],
    );
    check(&bench.run(&["sign", "flow/fetch.wasm", "--key", "release.key"]), 0, &[]);
    check(&run(), 0, &["succeeded"]);
    check(
        &bench.run(&["verify", "flow/fetch.wasm", "--policy", "policy.toml"]),
        0,
        &["signed by team (signature, https://"],
    );
    let planned = bench.run(&["plan", "flow/fetch.toml", "--policy", "policy.toml"]);
    check(&planned, 0, &[", signed by team, ed25519:", ": rule signed\n"]);
    // The signature is of these bytes, and of no others.
    let was = Digest::of(&std::fs::read(bench.path().join("flow/fetch.wasm")).unwrap());
    let changed = component("1.1.0", NEW);
    std::fs::write(bench.path().join("flow/fetch.wasm"), &changed).unwrap();
    let now = Digest::of(&changed);
    let asks = "and rule `signed` of policy.toml:4 asks for a signature";
    let says = format!("it has changed since `team` signed it: the signature is of {was}, it is {now}, {asks}");
    let hint = "hint: take the component that was signed; if the change is meant, whoever owns the key reviews it and signs it";
    check(&run(), 8, &[&says, hint]);
    let says =
        format!("fetch.wasm has changed since release.key.pub signed it: the signature is of {was}, and it is {now}");
    check(&bench.run(&["verify", "flow/fetch.wasm", "--key", "release.key.pub"]), 3, &[&says, hint]);
    let says = format!("signed    as {} by {}, and changed since\n", was.short(), public.trim());
    check(&bench.run(&["plugin", "inspect", "flow/fetch.wasm"]), 0, &[&says]);
    // A rule about components by their own names looks into it first.
    bench.write("policy.toml", &policy.replace("[rules.signed]", "[rules.signed]\nexcept = { plugin = [\"x\"] }"));
    check(&run(), 8, &[&format!("({now}), which has changed since `team` signed it as {was}: rule `signed`"), hint]);
    // Signed again, it is what it has to be.
    check(&bench.run(&["sign", "flow/fetch.wasm", "--key", "release.key"]), 0, &[]);
    check(&run(), 0, &["succeeded"]);
}

#[test]
fn a_run_that_is_taken_up_again_is_held_against_todays_policy() {
    let bench = fetching();
    bench.write(
        "flow/wait.toml",
        "name = \"wait\"\nplugins.fetch = \"fetch.wasm\"\nsignals.go = {}\n[steps.hold]\nwait = { signal = \"go\" }\n\n[steps.get]\nneeds = [\"hold\"]\nuse = \"fetch\"\ngrant = { http = [\"api.example.org\"] }\n",
    );
    let mut child = bench.spawn(&["run", "flow/wait.toml", "--json"]);
    let mut line = String::new();
    let mut events = std::io::BufReader::new(child.stdout.take().unwrap());
    while !line.contains("hold") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut events, &mut line).unwrap(), 0);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.write("policy.toml", "[rules.no_web]\nforbid = { http = true }\n");
    check(
        &bench.run(&["resume", "--policy", "policy.toml"]),
        8,
        &["rule `no_web` of policy.toml:2", "today's policy refuses the run of `wait`"],
    );
    bench.write("policy.toml", "[rules.no_web]\nmode = \"withhold\"\nforbid = { http = true }\n");
    check(&bench.run(&["resume", "--policy", "policy.toml"]), 8, &["a run keeps the plan that it began with"]);
    // What the step left at its default would be lowered for a new run.
    bench.write("policy.toml", "[rules.small]\nlimit = { memory = \"1MiB\" }\n");
    check(&bench.run(&["resume", "--policy", "policy.toml"]), 8, &["a run keeps the plan that it began with"]);
}

#[test]
fn a_policy_is_apart_from_every_workflow_that_a_run_opens_and_a_link_changes_no_rule() {
    use std::os::unix::fs::symlink;
    let bench = fetching();
    let rules = "[rules.own]\nfor = { workflow = [\"*/flow\"] }\nforbid = { http = true }\n\
        [rules.others]\nexcept = { workflow = [\"*/trusted\"] }\nforbid = { http = true }\n";
    bench.write("policy.toml", rules);
    bench.write("flow/policy.toml", "[rules.none]\nforbid = { clock = true }\n");
    bench.write("outer/outer.toml", "name = \"outer\"\n[steps.inner]\nworkflow = \"../flow/fetch.toml\"\n");
    let with = |file: &str, policy: &str| bench.run(&["run", file, "--policy", policy]);
    check(&with("outer/outer.toml", "flow/policy.toml"), 8, &["lies in a workflow's own folder"]);
    check(
        &with("outer/outer.toml", "policy.toml"),
        8,
        &["fetch.toml:7: the step `inner/get` of `fetch`", "rule `own`"],
    );

    // A link in a folder that is trusted to a file that is not, and the other way round.
    for folder in ["trusted", "elsewhere"] {
        std::fs::create_dir(bench.path().join(folder)).unwrap();
        symlink("../flow/fetch.toml", bench.path().join(folder).join("link.toml")).unwrap();
        std::fs::copy(bench.path().join("flow/fetch.wasm"), bench.path().join(folder).join("fetch.wasm")).unwrap();
        let says = ["link.toml is a link to ", "flow/fetch.toml; nothing was run", "named where it is"];
        for command in ["check", "plan", "run"] {
            let link = format!("{folder}/link.toml");
            check(&bench.run(&[command, &link, "--policy", "policy.toml"]), 8, &says);
        }
        bench.write(
            "outer/outer.toml",
            &format!("name = \"outer\"\n[steps.inner]\nworkflow = \"../{folder}/link.toml\"\n"),
        );
        check(&with("outer/outer.toml", "policy.toml"), 8, &says);
        check(&bench.run(&["check", &format!("{folder}/link.toml")]), 0, &["no errors"]);
    }
    // Links of folders are followed, and files below the folder are its own.
    symlink("flow", bench.path().join("way")).unwrap();
    check(&with("way/fetch.toml", "policy.toml"), 8, &["rule `own`"]);
    std::fs::create_dir(bench.path().join("trusted/data")).unwrap();
    std::fs::copy(bench.path().join("flow/fetch.toml"), bench.path().join("trusted/data/fetch.toml")).unwrap();
    symlink("data/fetch.toml", bench.path().join("trusted/own.toml")).unwrap();
    check(&with("trusted/own.toml", "policy.toml"), 0, &["succeeded"]);
}

#[test]
fn a_run_that_comes_from_elsewhere_is_judged_as_a_new_one_or_not_done_again() {
    let bench = fetching();
    check(&bench.run(&["run", "flow/fetch.toml"]), 0, &["succeeded"]);
    check(&bench.run(&["export", "--output", "run.downbeat", "--components"]), 0, &[]);
    let here = |arguments: &[&str]| bench.run(&[arguments, &["--state", "here"]].concat());
    check(&here(&["import", "run.downbeat"]), 0, &["is imported"]);
    // All that the policy asks for is said by the file, which may be anybody's.
    bench.write("fine.toml", "[rules.ours]\nsources = [\"*/fetch.wasm\"]\nallow = { http = [\"api.example.org\"] }\n");
    bench.write("strict.toml", "[rules.no_web]\nforbid = { http = true }\n");
    let again = |more: &[&str]| here(&[&["rerun", "last", "--from", "get"], more].concat());
    let says = ["comes from elsewhere, and only its file says what it is made of", "`--file FILE`"];
    check(&again(&["--policy", "fine.toml"]), 8, &says);
    let judged = ["rule `no_web` of strict.toml:2", "a policy forbids it; nothing was run"];
    check(&again(&["--policy", "strict.toml", "--file", "flow/fetch.toml"]), 8, &judged);
    check(&again(&["--policy", "fine.toml", "--file", "flow/fetch.toml"]), 0, &["succeeded"]);
    // Nor what does it again by its plan, where no policy held.
    let imported = here(&["list"]).stdout.lines().last().unwrap().split_whitespace().next().unwrap().to_owned();
    let notes = || std::fs::read_dir(bench.path().join("here/imported")).map_or(0, Iterator::count);
    assert_eq!(notes(), 1, "what was judged here is a run of this machine");
    check(&again(&["--policy", "fine.toml"]), 0, &["succeeded"]);
    check(&here(&["rerun", &imported, "--from", "get"]), 0, &["succeeded"]);
    check(&again(&["--policy", "fine.toml"]), 8, &says);
    // Nor what does that again, be there only the last of them.
    check(&again(&[]), 0, &["succeeded"]);
    assert_eq!(notes(), 3);
    check(&again(&["--policy", "fine.toml"]), 8, &says);
    // Nothing that it answered is taken over either.
    let dry = here(&["rerun", &imported, "--policy", "fine.toml", "--file", "flow/fetch.toml", "--dry-run"]);
    check(&dry, 0, &["was done elsewhere"]);
    // A note that got lost is written when the file is imported once more.
    std::fs::remove_dir_all(bench.path().join("here/imported")).unwrap();
    check(&here(&["import", "run.downbeat"]), 0, &["is here already"]);
    check(&here(&["rerun", &imported, "--from", "get", "--policy", "fine.toml"]), 8, &says);
    // What was begun here is held against the rules as before.
    check(&bench.run(&["rerun", "last", "--from", "get", "--policy", "fine.toml"]), 0, &["succeeded"]);
}

/// A step that runs this program, in a folder of its own.
fn running(bench: &Bench, program: &str, grant: &str) {
    let text = format!(
        "name = \"start\"\nplugins.process = \"{}/plugins/process\"\n[steps.start]\nuse = \"process\"\nwith = {{ program = \"{program}\" }}\ngrant = {{ process = [\"{program}\"]{grant} }}\n",
        repository().display()
    );
    bench.write("flow/start.toml", &text);
}

#[test]
fn a_program_that_is_forbidden_is_not_started_by_any_link_to_it() {
    use std::os::unix::fs::symlink;
    let bench = bench();
    bench.build("plugins/process");
    let root = bench.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name).display().to_string();
    std::fs::create_dir_all(at("real")).unwrap();
    std::fs::copy("/bin/true", at("real/tool")).unwrap();
    std::fs::copy("/bin/true", at("real/other")).unwrap();
    std::fs::hard_link(at("real/tool"), at("real/twin")).unwrap();
    symlink("real", at("folder")).unwrap();
    symlink("folder/tool", at("link")).unwrap();
    bench.write("policy.toml", &format!("[rules.no]\nforbid = {{ process = [\"{}\"] }}\n", at("folder/tool")));
    bench.write("named.toml", "[rules.no]\nforbid = { process = [\"tool\"] }\n");
    for program in ["real/tool", "folder/tool", "real/twin", "link"] {
        running(&bench, &at(program), "");
        check(&bench.run(&["check", "flow/start.toml", "--policy", "policy.toml"]), 8, &["rule `no` of policy.toml:2"]);
    }
    running(&bench, &at("link"), "");
    check(&bench.run(&["check", "flow/start.toml", "--policy", "named.toml"]), 8, &["rule `no` of named.toml:2"]);

    // It leads elsewhere when it is looked at than when it is started.
    std::fs::remove_file(at("link")).unwrap();
    symlink("real/other", at("link")).unwrap();
    running(&bench, &at("link"), "");
    check(&bench.run(&["run", "flow/start.toml", "--policy", "policy.toml"]), 0, &["succeeded"]);
    let text = std::fs::read_to_string(at("flow/start.toml")).unwrap();
    let plant = format!(
        "[steps.plant]\nuse = \"process\"\nwith = {{ program = \"ln\", args = [\"-sfn\", \"../real/tool\", \"{0}\"] }}\ngrant = {{ process = [\"ln\"], files = [{{ path = \"{1}\", write = true }}] }}\n",
        at("given/link"),
        at("given")
    );
    std::fs::create_dir(at("given")).unwrap();
    symlink("../real/other", at("given/link")).unwrap();
    bench.write(
        "flow/start.toml",
        &(text.replace(&at("link"), &at("given/link")).replace("use = ", "needs = [\"plant\"]\nuse = ") + &plant),
    );
    for policy in ["policy.toml", "named.toml"] {
        std::fs::remove_file(at("given/link")).unwrap();
        symlink("../real/other", at("given/link")).unwrap();
        check(&bench.run(&["run", "flow/start.toml", "--policy", policy]), 1, &[]);
        let refused = bench.run(&["audit", "show", "--run", "last", "--refused", "--json"]).stdout;
        let hint = format!("granted, and forbidden by rule `no` of {policy}:2");
        assert!(refused.contains(&hint) && refused.contains("real/tool"), "{refused}");
    }
    check(&bench.run(&["run", "flow/start.toml"]), 0, &["succeeded"]);
}

#[test]
fn what_a_program_reads_and_the_file_of_a_secret_are_judged_by_where_they_lead() {
    use std::os::unix::fs::symlink;
    let bench = bench();
    bench.build("plugins/process");
    let root = bench.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name).display().to_string();
    for (name, text) in [("secret/key", "a forbidden key"), ("open/key", "an allowed key")] {
        bench.write(name, text);
    }
    std::fs::create_dir(at("given")).unwrap();
    let link = |to: &str| {
        std::fs::remove_file(at("given/link")).ok();
        symlink(to, at("given/link")).unwrap();
    };
    let reads = format!("process = [{{ program = \"cat\", read = [\"{}\"] }}]", at("given/link"));
    let program = format!("with = {{ program = \"cat\", args = [\"{}\"] }}\ngrant = {{ {reads} }}\n", at("given/link"));
    let secret =
        "with = { program = \"true\" }\ngrant = { process = [\"true\"], secrets = [{ name = \"s\", env = \"S\" }] }\n";
    let workflow = |step: &str, more: &str| {
        let text = format!(
            "name = \"w\"\nplugins.process = \"{}/plugins/process\"\nsecrets.s.file = \"{}\"\n[steps.look]\nuse = \"process\"\n{step}{more}",
            repository().display(),
            at("given/link"),
        );
        bench.write("flow/w.toml", &text);
    };
    bench.write("forbid.toml", &format!("[rules.no]\nforbid = {{ files = [\"{}\"] }}\n", at("secret")));
    bench.write("allow.toml", &format!("[rules.no]\nallow = {{ process = [{{ program = \"*\", read = [\"{}\", \"{}\"] }}], secrets = true, files = true }}\n", at("given"), at("open")));
    for (step, policy) in [(&*program, "forbid.toml"), (&*program, "allow.toml"), (secret, "forbid.toml")] {
        workflow(step, "");
        link("../secret/key");
        let rule = format!("rule `no` of {policy}:2");
        check(&bench.run(&["check", "flow/w.toml", "--policy", policy]), 8, &[&rule]);
        link("../open/key");
        check(&bench.run(&["run", "flow/w.toml", "--policy", policy]), 0, &["succeeded"]);
        // It leads elsewhere when it is looked at than when it is opened.
        let plant = format!(
            "needs = [\"plant\"]\n[steps.plant]\nuse = \"process\"\nwith = {{ program = \"ln\", args = [\"-sfn\", \"../secret/key\", \"{}\"] }}\ngrant = {{ process = [\"ln\"], files = [{{ path = \"{}\", write = true }}] }}\n",
            at("given/link"),
            at("given")
        );
        workflow(step, &plant);
        check(&bench.run(&["run", "flow/w.toml", "--policy", policy]), 1, &[]);
        let shown = bench.run(&["explain", "last", "look"]).stdout;
        let why =
            if step == secret { "it leads elsewhere than when the policies were asked" } else { "Permission denied" };
        assert!(shown.contains(why), "{shown}");
        link("../open/key");
        check(&bench.run(&["run", "flow/w.toml"]), 0, &["succeeded"]);
    }
}

#[test]
fn what_is_too_large_to_be_a_component_is_not_read_to_see_who_has_signed_it() {
    let bench = fetching();
    let key = bench.run(&["key", "new", "team.key"]).stdout;
    bench.write("policy.toml", &format!("[signers.team]\nkey = \"{}\"\n[rules.x]\nsigners = [\"team\"]\n", key.trim()));
    // A file of zeros that are on no disk.
    let large = std::fs::File::create(bench.path().join("flow/fetch.wasm")).unwrap();
    large.set_len(64 << 30).unwrap();
    check(&bench.run(&["check", "flow/fetch.toml", "--policy", "policy.toml"]), 3, &["larger than the 67108864 bytes"]);
    check(&bench.run(&["verify", "flow/fetch.wasm", "--key", "team.key.pub"]), 3, &["it is larger than 64 MiB"]);
    check(&bench.run(&["sign", "flow/fetch.wasm", "--key", "team.key"]), 3, &["it is larger than 64 MiB"]);
}

#[test]
fn the_release_is_held_to_the_policy_beside_its_folder() {
    let bench = bench();
    check(&bench.run(&["policy", "test", "{repo}/workflows/policy.test.toml"]), 0, &["0 failed"]);
    let policy = "{repo}/workflows/policy.toml";
    check(&bench.run(&["check", "{repo}/workflows/release", "--policy", policy]), 0, &["no errors"]);
    let answer = bench.run(&["plan", "{repo}/workflows/release", "--policy", policy]);
    check(&answer, 0, &["policies  "]);
    // Tests of policies are none of workflows.
    check(&bench.run(&["test", "{repo}/workflows/policy.test.toml"]), 3, &["`downbeat policy test`"]);
    bench.write("policy.test.toml", "[cases.a]\nexpect = \"allow\"\n");
    let answer = bench.run(&["test"]);
    assert!(!answer.stderr.contains("policy.test.toml"), "{}", answer.stderr);
}

#[test]
fn a_policy_tests_itself() {
    let bench = bench();
    bench.write("policy.toml", "[rules.no_web]\nforbid = { http = true }\n");
    let right = "[cases.web]\nexpect = \"refuse\"\nby = [\"no_web\"]\ngrant = { http = [\"a.org\"] }\n";
    bench.write("policy.test.toml", &format!("{right}[cases.none]\nexpect = \"allow\"\n"));
    check(&bench.run(&["policy", "test", "policy.test.toml"]), 0, &["ok    web: refuse", "2 passed, 0 failed"]);
    bench.write("policy.test.toml", &right.replace("refuse", "allow"));
    check(
        &bench.run(&["policy", "test", "policy.test.toml"]),
        1,
        &["FAIL  web: refuse by no_web, and allow by no_web was expected", "0 passed, 1 failed"],
    );
    check(&bench.run(&["policy", "check", "policy.toml"]), 0, &["1 rule, no errors"]);
    bench.write("empty.toml", "");
    let says = ["warning[empty-policy]: the policy has no rules", "workflows may do whatever they grant"];
    check(&bench.run(&["policy", "check", "empty.toml"]), 0, &says);
    bench.write("relative.toml", "[rules.a]\nsources = [\"plugins/*\"]\n");
    let says = ["no component is at `plugins/*`: the path is relative", "write an absolute path"];
    check(&bench.run(&["policy", "check", "relative.toml"]), 8, &says);
    assert!(Path::new(&bench.path().join("policy.toml")).exists());
}

/// A database of advisories: about what `plugins/hello` is compiled from, and about what it is not.
fn advisories(bench: &Bench) {
    let write = |id: &str, package: &str, more: &str, patched: &str| {
        let head = format!("id = \"{id}\"\npackage = \"{package}\"\ndate = \"2026-0{}-01\"\n{more}", &id[16..]);
        let text =
            format!("```toml\n[advisory]\n{head}\n[versions]\npatched = [{patched}]\n```\n\n# About {package}\n");
        bench.write(&format!("db/crates/{package}/{id}.md"), &text);
    };
    write("RUSTSEC-2026-0001", "serde_json", "", "\">= 99.0.0\"");
    write("RUSTSEC-2026-0002", "serde", "", "\">= 1.0.0\"");
    write("RUSTSEC-2026-0003", "log", "withdrawn = \"2026-04-01\"", "");
    write("RUSTSEC-2026-0004", "quote", "informational = \"unmaintained\"", "");
    write("RUSTSEC-2026-0005", "no-such-crate", "", "");
    // About the compiler, not about crates.
    bench.write("db/rust/std/CVE-2026-1.md", "not read");
}

#[test]
fn a_component_that_was_built_here_says_of_what_and_is_held_against_advisories() {
    let bench = bench();
    bench.build("plugins/hello");
    let hello = "{repo}/plugins/hello";
    let inspected = bench.run(&["plugin", "inspect", hello, "--json"]).stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let crates = inspected["crates"].as_array().unwrap();
    let version = |name: &str| {
        let mut found = crates.iter().filter(|one| one["name"] == name);
        let one = found.next().unwrap_or_else(|| panic!("{name} is not listed: {crates:?}"));
        (one["version"].as_str().unwrap().to_owned(), one["source"].clone(), one["kind"].clone())
    };
    let (serde_json, source, kind) = version("serde_json");
    assert_eq!((source, kind), ("crates.io".into(), "runtime".into()));
    assert_eq!(version("downbeat-sdk").1, "local");
    assert_eq!(version("syn").2, "build", "it is in a macro, and not in the component");
    let listed = bench.run(&["plugin", "inspect", hello, "--crates"]);
    check(&listed, 0, &[" of them of crates.io\n", "\nCRATE ", "\nserde_json ", "crates.io  build\n"]);

    advisories(&bench);
    let judge = |more: &[&str]| bench.run(&[&["plugin", "check", hello, "--advisories", "db"], more].concat());
    let answer = judge(&[]);
    check(
        &answer,
        1,
        &[", 1 vulnerability, 1 that only inform", "held against 5 advisories, the latest of 2026-05-01"],
    );
    let rows: Vec<Vec<&str>> = answer
        .stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["CRATE", "VERSION", "ADVISORY", "KIND", "PATCHED IN", "TITLE"]);
    let quote = format!("{} (build)", version("quote").0);
    assert_eq!(rows[1], ["quote", &quote, "RUSTSEC-2026-0004", "unmaintained", "none", "About quote"]);
    let patched = ">= 99.0.0";
    assert_eq!(rows[2], ["serde_json", &serde_json, "RUSTSEC-2026-0001", "vulnerability", patched, "About serde_json"]);
    assert_eq!(rows.len(), 3, "{}", answer.stdout);

    check(&judge(&["--accept", "RUSTSEC-2026-0001"]), 0, &["no vulnerability", "vulnerability (accepted)"]);
    // What is about nothing here is no longer needed; what there is not was misspelt.
    let idle = "warning: nothing here is about RUSTSEC-2026-0005: `--accept RUSTSEC-2026-0005` can go";
    check(&judge(&["--accept", "RUSTSEC-2026-0005"]), 1, &[idle]);
    let none = "there is no advisory `RUSTSEC-2026-0010`";
    check(&judge(&["--accept", "RUSTSEC-2026-0010"]), 2, &[none, "hint: there are `RUSTSEC-2026-000"]);
    let answer = judge(&["--json", "--accept", "RUSTSEC-2026-0005"]);
    let judged: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((answer.code, &judged["advisories"]["number"]), (1, &5.into()));
    assert_eq!(judged["idle"], serde_json::json!(["RUSTSEC-2026-0005"]));
    assert_eq!(judged["components"][0]["digest"], inspected["digest"]);
    let finding = &judged["components"][0]["findings"][1];
    assert_eq!((&finding["advisory"], &finding["version"]), (&"RUSTSEC-2026-0001".into(), &serde_json.into()));

    std::fs::remove_file(bench.path().join("db/crates/serde_json/RUSTSEC-2026-0001.md")).unwrap();
    check(&judge(&[]), 0, &["no vulnerability, 1 that only inform"]);
}

#[test]
fn a_database_or_a_component_of_which_nothing_can_be_told_is_refused() {
    let bench = fetching();
    advisories(&bench);
    let judge = |database: &str| bench.run(&["plugin", "check", "flow/fetch.wasm", "--advisories", database]);
    check(
        &judge("db"),
        3,
        &["fetch.wasm: it has no list of the crates", "hint: a list is put in by `downbeat plugin build`"],
    );
    let nothing = bench.run(&["plugin", "check", "nope.wasm", "--advisories", "db"]);
    check(
        &nothing,
        3,
        &["nope.wasm: there is no such file or folder", "hint: name a `.wasm` file, or the source folder"],
    );
    // Each thing to do is told once, also where others stand between.
    let several = ["nope.wasm", "flow/fetch.wasm", "nor.wasm"];
    let answer = bench.run(&[&["plugin", "check", "--advisories", "db"], &several[..]].concat());
    check(&answer, 3, &["nope.wasm: there", "nor.wasm: there"]);
    assert_eq!(answer.stderr.matches("name a `.wasm` file").count(), 1, "{}", answer.stderr);
    check(&judge("no-db"), 3, &["no-db: it is no database of advisories", "name a clone of"]);
    check(&judge("flow"), 3, &["flow: it is no database of advisories"]);
    std::fs::create_dir_all(bench.path().join("empty/crates")).unwrap();
    check(&judge("empty"), 3, &["there is no advisory in it"]);
    // All faults at once, also of advisories about other crates.
    bench.write("db/crates/other/RUSTSEC-2026-0006.md", "# no TOML\n");
    let text = std::fs::read_to_string(bench.path().join("db/crates/serde/RUSTSEC-2026-0002.md")).unwrap();
    bench.write("db/crates/serde/RUSTSEC-2026-0007.md", &text);
    bench.write("db/crates/other/RUSTSEC-2026-0002.md", &text);
    bench.write("db/crates/other/RUSTSEC-2026-0008.md", &text.replace(">= 1.0.0", "soon"));
    bench.write("db/crates/other/RUSTSEC-2026-0009.MD", &text);
    bench.write("db/crates/other/.hidden", "not read");
    let faults = [
        "db/crates/other/RUSTSEC-2026-0009.MD: an advisory's file ends in `.md`",
        "db/crates/other/RUSTSEC-2026-0006.md: it does not begin with a block of TOML",
        "db/crates/serde/RUSTSEC-2026-0007.md: its id is `RUSTSEC-2026-0002`, and its file is called otherwise",
        "db/crates/other/RUSTSEC-2026-0002.md: it is about the crate `serde`, and its folder is called otherwise",
        "db/crates/other/RUSTSEC-2026-0008.md: `soon` is no range of versions",
    ];
    check(&judge("db"), 3, &faults);
    let shown = bench.run(&["plugin", "inspect", "flow/fetch.wasm"]);
    check(&shown, 0, &["crates    unknown, as it has no list of them"]);
    // A list that is none: what the component does is as before, but nothing is told of its crates.
    let whole = std::fs::read(bench.path().join("flow/fetch.wasm")).unwrap();
    let mut damaged = whole.clone();
    damaged.extend(b"\0\x0b\x07.dep-v0zip");
    std::fs::write(bench.path().join("flow/fetch.wasm"), damaged).unwrap();
    check(&bench.run(&["plugin", "inspect", "flow/fetch.wasm"]), 0, &["unknown, as its list of crates is damaged"]);
    std::fs::remove_dir_all(bench.path().join("db/crates/other")).unwrap();
    std::fs::remove_file(bench.path().join("db/crates/serde/RUSTSEC-2026-0007.md")).unwrap();
    check(&judge("db"), 3, &["fetch.wasm: its list of crates is damaged: it is not what zlib writes"]);
    // A list of no crates at all: {"packages":[]}.
    let empty = b"\x00\x1f\x07.dep-v0\x78\x9c\xab\x56\x2a\x48\x4c\xce\x4e\x4c\x4f\x2d\x56\xb2\x8a\x8e\xad\x05\x00\x2b\xbb\x05\x6e";
    std::fs::write(bench.path().join("flow/fetch.wasm"), [whole, empty.to_vec()].concat()).unwrap();
    check(&judge("db"), 3, &["fetch.wasm: the list of crates in it is empty, and so says nothing"]);
}

#[test]
fn a_component_counts_as_being_where_it_is_and_not_where_its_path_leads_through() {
    let bench = fetching();
    let trusted = bench.path().canonicalize().unwrap().join("trusted");
    std::fs::create_dir(&trusted).unwrap();
    let policy = bench.write("policy.toml", &format!("[rules.ours]\nsources = [\"{}/*\"]\n", trusted.display()));
    let policy = policy.to_str().unwrap();
    std::os::unix::fs::symlink(bench.path().join("flow/fetch.wasm"), trusted.join("link.wasm")).unwrap();
    std::fs::copy(bench.path().join("flow/fetch.wasm"), trusted.join("fetch.wasm")).unwrap();
    let text = std::fs::read_to_string(bench.path().join("flow/fetch.toml")).unwrap();
    for (path, code) in [
        ("fetch.wasm", 8),
        ("../trusted/../flow/fetch.wasm", 8),
        ("../trusted/link.wasm", 8),
        ("../trusted/fetch.wasm", 0),
        ("../flow/../trusted/fetch.wasm", 0),
    ] {
        bench.write("flow/fetch.toml", &text.replace("fetch = \"fetch.wasm\"", &format!("fetch = \"{path}\"")));
        let says: &[&str] = if code == 0 { &[] } else { &["is no source that is allowed: rule `ours`"] };
        check(&bench.run(&["check", "flow/fetch.toml", "--policy", policy]), code, says);
    }
}

#[test]
fn nothing_of_a_source_is_compiled_before_policy_and_lock_have_been_asked() {
    let bench = fetching();
    let mark = bench.path().join("was-here");
    bench.write(
        "flow/step/Cargo.toml",
        "[package]\nname = \"step\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    bench.write("flow/step/src/lib.rs", "");
    let build = format!("fn main() {{ std::fs::write({:?}, \"\").unwrap(); }}", mark.display().to_string());
    bench.write("flow/step/build.rs", &build);
    let text = std::fs::read_to_string(bench.path().join("flow/fetch.toml")).unwrap();
    bench.write("flow/fetch.toml", &text.replace("\"fetch.wasm\"", "\"step\""));
    let key = bench.run(&["key", "new", "team.key"]).stdout;
    bench.write("ok/ok.toml", "name = \"ok\"\n[steps.a]\nwait = \"1ms\"\n");
    bench.write(
        "flow/fetch.test.toml",
        "workflow = \"fetch.toml\"\n[steps.get]\noutput = {}\n[tests.x.expect]\noutcome = \"succeeded\"\n",
    );
    check(&bench.run(&["run", "ok/ok.toml"]), 0, &["succeeded"]);
    for (name, rule, says) in [
        (
            "signed",
            format!("[signers.team]\nkey = \"{}\"\n[rules.x]\nsigners = [\"team\"]\n", key.trim()),
            "asks for a signature",
        ),
        ("placed", "[rules.x]\nsources = [\"/srv/plugins/*\"]\n".to_owned(), "is no source that is allowed"),
    ] {
        let policy = bench.write(&format!("{name}.toml"), &rule).display().to_string();
        for command in ["check", "run", "plan"] {
            check(&bench.run(&[command, "flow/fetch.toml", "--policy", &policy]), 8, &[says, "rule `x`"]);
        }
        for command in [
            &["graph", "flow/fetch.toml"][..],
            &["plan", "ok/ok.toml", "--diff", "flow/fetch.toml"],
            &["replay", "last", "--file", "flow/fetch.toml"],
            &["plugin", "inspect", "flow/step"],
        ] {
            check(&bench.run(&[command, &["--policy", &policy]].concat()), 8, &[says, "rule `x`"]);
        }
        assert_ne!(bench.run(&["test", "flow", "--policy", &policy]).code, 0);
    }
    check(&bench.run(&["verify", "flow/step", "--key", "team.key.pub"]), 3, &["`downbeat plugin build flow/step`"]);
    check(&bench.run(&["sign", "flow/step", "--key", "team.key"]), 3, &["`downbeat plugin build flow/step`"]);
    bench.write("flow/downbeat.lock", "version = 1\n");
    for command in [&["check", "flow/fetch.toml"][..], &["graph", "flow/fetch.toml"]] {
        check(&bench.run(command), 3, &["downbeat.lock does not have it"]);
    }
    assert_ne!(bench.run(&["test", "flow"]).code, 0);
    assert!(!mark.exists(), "it was compiled");
}
