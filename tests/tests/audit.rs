//! The audit, as a person does it: whether the journal is as it was written, against a checkpoint that was kept, and what
//! steps did with what they were granted.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::path::PathBuf;

use downbeat_journal::{Journal, Mode};
use downbeat_tests::{Bench, repository};
use serde_json::{Value, json};

/// Ends at once; no component is needed.
const SHORT: &str = r#"
name = "short"

[steps.look]
wait = "1ms"
"#;

/// Of RFC 8410, section 10; nobody's secret.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("short.toml", SHORT);
    bench.write("audit.pem", KEY);
    bench.write("audit.pub", PUBLIC);
    bench
}

fn short(bench: &Bench) -> String {
    let answer = bench.run(&["run", "short.toml", "--json"]);
    let first: Value = serde_json::from_str(answer.stdout.lines().next().expect(&answer.stderr)).unwrap();
    first["run"].as_str().unwrap().to_owned()
}

/// The journal's file, with all of it in it: what was written last is in another one until somebody closes it.
fn settled(bench: &Bench) -> PathBuf {
    let state = bench.path().join(".downbeat");
    drop(Journal::open(&state, Mode::Drive).unwrap());
    state.join("journal.db")
}

/// Changes text in the journal's file to other text of the same length, as somebody with an editor would.
fn tamper(bench: &Bench, old: &str, new: &str) {
    let path = settled(bench);
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
    assert!(!places.is_empty(), "{old} is in the file");
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_journal_that_nobody_touched_is_whole_and_one_that_was_edited_is_not() {
    let bench = bench();
    let run = short(&bench);
    let whole = bench.run(&["audit", "verify"]);
    assert_eq!((whole.code, whole.stdout.as_str()), (0, ""), "{}", whole.stderr);
    assert!(whole.stderr.contains("records of 1 run are as they were written"), "{}", whole.stderr);
    assert!(whole.stderr.contains("is only told by a checkpoint"), "{}", whole.stderr);
    let whole: Value = serde_json::from_str(&bench.run(&["audit", "verify", "--json"]).stdout).unwrap();
    assert_eq!((&whole["whole"], &whole["runs"]), (&Value::Bool(true), &1.into()));
    assert_eq!(bench.run(&["audit", "verify", "--run", &run]).code, 0);

    tamper(&bench, "step-opened", "step-failed");
    let found = bench.run(&["audit", "verify"]);
    assert_eq!(found.code, 6, "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.starts_with(&format!("run {run}, record")), "{}", found.stdout);
    assert!(found.stderr.contains("the journal is not as it was written, in"), "{}", found.stderr);
    let found = bench.run(&["audit", "verify", "--run", &run, "--json"]);
    let object: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((found.code, &object["differences"][0]["kind"]), (6, &"changed".into()));
    assert_eq!(object["differences"][0]["run"], run.as_str());
}

#[test]
fn a_checkpoint_tells_that_the_end_was_cut_off() {
    let bench = bench();
    short(&bench);
    let before = fs::read(settled(&bench)).unwrap();
    let run = short(&bench);
    let made = bench.run(&["audit", "checkpoint", "--key", "audit.pem", "--output", "kept"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let kept = fs::read_to_string(bench.path().join("kept")).unwrap();
    assert!(kept.starts_with("downbeat/journal/") && kept.contains("\n\n\u{2014} downbeat "), "{kept}");
    let against = ["audit", "verify", "--checkpoint", "kept", "--key", "audit.pub"];
    let whole = bench.run(&against);
    assert!(whole.code == 0 && whole.stderr.contains("nothing that the checkpoint stands for"), "{}", whole.stderr);

    // Deleting is no cutting off: it leaves what the chain needs.
    assert_eq!(bench.run(&["prune", &run]).code, 0);
    let pruned = bench.run(&against);
    assert!(pruned.code == 0 && pruned.stderr.contains("the notes of 1 deleted run"), "{}", pruned.stderr);

    // Yesterday's file in the place of today's is whole, and older than the checkpoint.
    fs::write(settled(&bench), before).unwrap();
    assert_eq!(bench.run(&["audit", "verify"]).code, 0);
    let found = bench.run(&against);
    assert_eq!(found.code, 6, "{}", found.stderr);
    assert!(found.stdout.contains("ends before the checkpoint"), "{}", found.stdout);

    let edited = kept.replace("deleted 0", "deleted 1");
    bench.write("edited", &edited);
    let refused = bench.run(&["audit", "verify", "--checkpoint", "edited", "--key", "audit.pub"]);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("is not signed with the key audit.pub"), "{}", refused.stderr);
    let refused = bench.run(&["audit", "checkpoint", "--key", "audit.pub"]);
    assert!(refused.code == 3 && refused.stderr.contains("signing needs the private one"), "{}", refused.stderr);
}

/// One step that uses a part of what it is granted, and one that asks for more.
const USES: &str = r#"
name = "uses"

[plugins]
process = "{repo}/plugins/process"

[steps.say]
use   = "process"
with  = { program = "echo", args = ["two words"] }
grant = { process = ["echo",
                     "git"], env = ["SET_NOWHERE"] }

[steps.more]
use   = "process"
with  = { program = "curl" }
grant = { process = ["echo"] }
"#;

#[test]
fn who_signed_the_component_and_which_rule_allowed_it_stand_beside_each_use() {
    let bench = bench();
    bench.build("plugins/process");
    let built = bench.run(&["plugin", "build", "{repo}/plugins/process"]).stdout;
    fs::create_dir_all(bench.path().join("flow")).unwrap();
    fs::copy(built.trim(), bench.path().join("flow/process.wasm")).unwrap();
    bench.write(
        "flow/say.toml",
        "name = \"say\"\nplugins.process = \"process.wasm\"\n[steps.say]\nuse = \"process\"\nwith = { program = \"echo\" }\ngrant = { process = [\"echo\"] }\n",
    );
    let run = |more: &[&str]| {
        let answer = bench.run(&[&["run", "flow/say.toml"], more].concat());
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    };
    let show = || {
        let said = bench.run(&["audit", "show", "--run", "last", "--json", "--capability", "process"]);
        serde_json::from_str::<Value>(said.stdout.trim()).unwrap()
    };
    // Nobody has signed it, and no policy holds: the record says nothing of either.
    run(&[]);
    let unsigned = show();
    assert_eq!((&unsigned["signers"], &unsigned["rules"]), (&Value::Null, &Value::Null), "{unsigned}");
    assert!(!bench.run(&["audit", "show"]).stdout.contains("signed by"));

    let keys =
        ["team", "other"].map(|name| bench.run(&["key", "new", &format!("{name}.key")]).stdout.trim().to_owned());
    for name in ["team", "other"] {
        assert_eq!(bench.run(&["sign", "flow/process.wasm", "--key", &format!("{name}.key")]).code, 0);
    }
    let policy = |before: &str| {
        let rules = "[rules.tools]\nallow = { process = [\"echo\", \"git\"] }\nsigners = [\"team\"]\n[rules.told]\nmode = \"report\"\nallow = { clock = true }\n[rules.elsewhere]\nfor = { environment = [\"prod\"] }\nallow = {}\n";
        bench.write("policy.toml", &format!("{before}[signers.team]\nkey = \"{}\"\n{rules}", keys[0]));
    };
    policy("");
    run(&["--policy", "policy.toml"]);
    let signed = show();
    assert_eq!(signed["component"], unsigned["component"]);
    assert_eq!(signed["signers"], json!([{ "key": keys[0], "name": "team" }, { "key": keys[1] }]));
    assert_eq!(signed["rules"], json!(["rule `tools` of policy.toml:4"]));
    let text = bench.run(&["audit", "show", "--run", "last"]).stdout;
    let component = &signed["component"].as_str().unwrap()["sha256:".len()..][..12];
    let who = format!("  say: process {component}, signed by team, {}…\n", &keys[1][..20]);
    assert!(text.contains(&format!("{who}    allowed by rule `tools` of policy.toml:4\n")), "{text}");
    assert!(text.ends_with("  process    echo  by process = [\"echo\"]\n"), "{text}");
    // Runs of before are told beside it, as they were recorded.
    let all = bench.run(&["audit", "show"]).stdout;
    assert_eq!((all.matches("signed by").count(), all.lines().count()), (1, 8), "{all}");

    let report = bench.run(&["audit", "report"]).stdout;
    assert!(report.contains("    signed   by team, ed25519:"), "{report}");
    assert!(report.contains("    allowed  by rule `tools` of policy.toml:4\n"), "{report}");
    let exported = bench.run(&["audit", "export", "--format", "otel", "--run", "last"]).stdout;
    let exported: Value = serde_json::from_str(exported.trim()).unwrap();
    let attributes = exported.pointer("/resourceLogs/0/scopeLogs/0/logRecords/0/attributes").unwrap();
    let values = |key: &str| {
        let attribute = attributes.as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
        attribute.unwrap_or_else(|| panic!("{key}: {attributes}"))["value"]["arrayValue"]["values"].clone()
    };
    assert_eq!(values("downbeat.signers"), json!([{ "stringValue": "team" }, { "stringValue": keys[1] }]));
    assert_eq!(values("downbeat.rules"), json!([{ "stringValue": "rule `tools` of policy.toml:4" }]));

    // Where in its file a rule stands is no difference: neither to what has changed, nor to who may do it again.
    policy("# A word more.\n");
    let answer = bench.run(&["rerun", "last", "--policy", "policy.toml"]);
    assert!(answer.code == 2 && answer.stderr.contains("is to be done again"), "{}", answer.stderr);
    let answer = bench.run(&["rerun", "last", "--from", "say", "--policy", "policy.toml"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let changed = bench.run(&["plan", "flow/say.toml", "--diff", "last", "--policy", "policy.toml"]);
    assert_eq!(changed.code, 0, "{}{}", changed.stdout, changed.stderr);
    assert_eq!(bench.run(&["audit", "verify"]).code, 0);
}

#[test]
fn what_steps_used_and_were_refused_is_shown_reported_and_exported() {
    let bench = bench();
    bench.build("plugins/process");
    bench.write("uses.toml", &USES.replace("{repo}", &repository().display().to_string()));
    let ran = bench.run(&["run", "uses.toml", "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |name: &str, step: &str| events.iter().position(|event| event["event"] == name && event["step"] == step);
    let (used, ended) = (at("capability-used", "say").unwrap(), at("attempt-succeeded", "say").unwrap());
    assert!(at("attempt-started", "say").unwrap() < used && used < ended, "{}", ran.stdout);
    assert_eq!(at("capability-used", "more"), None);

    let lines = |arguments: &[&str]| -> Vec<Value> {
        let said = bench.run(arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let shown = lines(&["audit", "show", "--json", "--capability", "process"]);
    let told = |entry: &Value| json!([entry["step"], entry["what"], entry["grant"], entry["refused"]]);
    let mut told: Vec<Value> = shown.iter().map(told).collect();
    told.sort_by_key(|entry| entry[0].to_string());
    let said = json!(["say", "echo 'two words'", r#"process = ["echo"]"#, false]);
    assert_eq!(told, [json!(["more", "curl", null, true]), said], "{shown:?}");
    assert!(shown.iter().all(|entry| entry["component"].as_str().unwrap().starts_with("sha256:")));
    assert_eq!(lines(&["audit", "show", "--json", "--refused"]).len(), 1);
    let text = bench.run(&["audit", "show", "--run", "last", "--plugin", "process"]).stdout;
    assert!(text.starts_with("run ") && text.contains("  echo 'two words'  by process = "), "{text}");
    let refused = "refused: to allow it, set in [steps.more]: grant = { process = [\"echo\", \"curl\"] }\n";
    assert!(text.contains(refused), "{text}");

    let report = lines(&["audit", "report", "uses", "--json"]);
    let say = report[0]["steps"].as_array().unwrap().iter().find(|step| step["step"] == "say").unwrap();
    assert_eq!(say["unused"], json!([r#"process = ["git"]"#]), "{say}");
    let text = bench.run(&["audit", "report"]).stdout;
    let line = "    you can take away from step `say`:\n      uses.toml:11  process = [\"git\"]\n";
    assert!(text.contains(line), "{text}");
    let file = bench.path().canonicalize().unwrap().join("uses.toml").display().to_string();
    let git = json!({ "grant": r#"process = ["git"]"#, "used": 0, "unset": 0, "file": file, "line": 11 });
    assert_eq!(say["grants"][1], git, "{say}");
    // What was set on no machine where it ran may be needed on another one.
    assert_eq!(say["unset"], json!([r#"env = ["SET_NOWHERE"]"#]), "{say}");
    assert!(text.contains("    `env = [\"SET_NOWHERE\"]`: the variable was not set in any of these runs\n"), "{text}");
    let looked = bench.run(&["audit", "show", "--capability", "env"]).stdout;
    assert!(looked.contains("SET_NOWHERE  looked for, not set; granted by env = [\"SET_NOWHERE\"]\n"), "{looked}");
    let unset = lines(&["audit", "show", "--json", "--capability", "env"]);
    assert_eq!((&unset[0]["what"], &unset[0]["unset"]), (&json!("SET_NOWHERE"), &json!(true)));
    assert!(text.contains("refused  process: curl, 1 time; to allow it, set in [steps.more]: grant = "), "{text}");
    let env = say["grants"].as_array().unwrap().iter().find(|one| one["grant"] == r#"env = ["SET_NOWHERE"]"#).unwrap();
    assert_eq!((&env["used"], &env["unset"]), (&json!(0), &json!(1)), "{say}");
    assert_eq!(bench.run(&["audit", "report", "nothing"]).code, 2);

    let exported = lines(&["audit", "export", "--format", "otel"]);
    let records = exported[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert!(records.iter().any(|record| record["severityText"] == "WARN"), "{records:?}");
    let body = |record: &&Value| record["body"]["stringValue"].as_str().unwrap().starts_with("say looked for env: ");
    let looked = records.iter().find(body).unwrap();
    assert_eq!(looked["body"]["stringValue"], "say looked for env: SET_NOWHERE, which is not set");
    for attribute in [
        json!({ "key": "downbeat.what", "value": { "stringValue": "SET_NOWHERE" } }),
        json!({ "key": "downbeat.count", "value": { "intValue": "1" } }),
        json!({ "key": "downbeat.unset", "value": { "boolValue": true } }),
    ] {
        assert!(looked["attributes"].as_array().unwrap().contains(&attribute), "{looked}");
    }
    assert!(records.iter().all(|record| record["timeUnixNano"].as_str().unwrap().ends_with("000000")));
    assert_eq!(lines(&["audit", "export"]).len(), records.len());

    // A name that cannot be is a fault that tells which there are.
    for (arguments, says) in [
        (["show", "--capability", "proces"], "a similar value exists: 'process'"),
        (["show", "--step", "sya"], "error: there is no step `sya`\nhint: there are `say`, `more`\n"),
        (["export", "--step", "say/more"], "there is no step `say/more`"),
        (["export", "--plugin", "proces"], "error: there is no plugin `proces`\nhint: there is `process`\n"),
        (["show", "--run", "nowhere"], "nowhere"),
        (["report", "use", "--json"], "error: there is no run of a workflow `use`\nhint: there is `uses`\n"),
    ] {
        let answer = bench.run(&[&["audit"], &arguments[..]].concat());
        assert!(answer.code == 2 && answer.stderr.contains(says), "{arguments:?}: {}", answer.stderr);
    }
    // One that can be is none, whatever there is on record.
    for (arguments, says) in [
        (&["show", "--capability", "artifacts"][..], "no records of `artifacts`\n"),
        (&["show", "--json", "--step", "say", "--refused"], "no records of refusals by the step `say`\n"),
        (&["export", "--capability", "http", "--plugin", "process"], "no records of `http` by the plugin `process`\n"),
    ] {
        let answer = bench.run(&[&["audit"], arguments].concat());
        assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (0, "", says), "{arguments:?}");
    }
    assert_eq!(bench.run(&["audit", "verify"]).code, 0);
}
