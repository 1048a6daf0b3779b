//! The standard steps `jq`, `template` and `files` as components, in workflows: what they make, what they refuse, what the
//! checker knows of them. What each of them computes is in its own tests; here is what only the sandbox can show.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::HashMap;
use std::fs;

use downbeat_tests::{Bench, repository};
use serde_json::{Value, json};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"))
}

/// The head of a workflow with all three plugins.
fn head() -> String {
    let plugin = |name: &str| format!("{name} = {:?}\n", repository().join("plugins").join(name).display().to_string());
    format!("name = \"x\"\n[plugins]\n{}{}{}", plugin("jq"), plugin("template"), plugin("files"))
}

/// How each step's last attempt ended.
struct Played(HashMap<String, Value>);

/// Runs a workflow with these steps.
fn play(bench: &Bench, steps: &str) -> Played {
    bench.write("x.toml", &(head() + steps));
    let answer = bench.run(&["run", "x.toml", "--json"]);
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    let ended = |event: &&Value| ["attempt-succeeded", "attempt-failed"].iter().any(|end| event["event"] == *end);
    Played(events.iter().filter(ended).map(|end| (end["step"].as_str().unwrap().to_owned(), end.clone())).collect())
}

impl Played {
    fn output(&self, step: &str) -> &Value {
        let end = &self.0[step];
        assert_eq!(end["event"], "attempt-succeeded", "{step}: {}", end["failure"]["message"]);
        &end["output"]
    }

    /// The failure's kind (for a limit, which one) and its message.
    fn failure(&self, step: &str) -> (String, &str) {
        let end = &self.0[step];
        let kind = match &end["failure"]["kind"] {
            Value::String(kind) => kind.clone(),
            Value::Null => format!("succeeded with {}", end["output"]),
            tagged => format!("limit {}", tagged["limit"]["limit"].as_str().unwrap_or_default()),
        };
        (kind, end["failure"]["message"].as_str().unwrap_or_default())
    }

    fn hint(&self, step: &str) -> &str {
        let details = &self.0[step]["failure"]["details"];
        details["hint"].as_str().unwrap_or_else(|| panic!("{step} has no hint: {}", self.0[step]))
    }
}

#[test]
fn what_one_step_computes_another_renders_and_a_third_writes_packs_and_unpacks() {
    let bench = bench();
    bench.write("templates/report.md", "# {{ title }}\n{% for r in rows %}{% include \"row\" %}{% endfor %}");
    fs::create_dir(bench.path().join("out")).unwrap();
    let played = play(
        &bench,
        r##"
        [steps.worst]
        use  = "jq"
        with = { filter = "sort_by(-.ms) | .[:$n]", vars = { n = 2 }, value = [{ name = "a", ms = 4 }, { name = "b", ms = 9000000000 }, { name = "c", ms = 7.5 }] }

        [steps.report]
        needs = ["worst"]
        use   = "template"
        grant = { files = [{ path = "templates" }] }
        with  = { template = { file = "templates/report.md" }, templates = { row = "{{ loop.index }}. {{ r.name }}: {{ r.ms }} ms\n" }, data = { title = "Slowest", rows = "${steps.worst.output.result}" } }

        [steps.write]
        needs = ["report"]
        use   = "files"
        grant = { files = [{ path = "out", write = true }] }
        with  = { write = { path = "out/site/report.md", text = "${steps.report.output.text}" } }

        [steps.pack]
        needs = ["write"]
        use   = "files"
        grant = { files = [{ path = "out", write = true }] }
        with  = { pack = { folder = "out/site", to = "out/site.tar.gz", executable = ["**/*.sh"] } }

        [steps.unpack]
        needs = ["pack"]
        use   = "files"
        grant = { files = [{ path = "out" }], workspace = true }
        with  = { unpack = { archive = "out/site.tar.gz", to = "/workspace/site" } }

        [steps.hash]
        needs = ["unpack"]
        use   = "files"
        grant = { workspace = true }
        with  = { hash = { path = "/workspace/site" } }

        [steps.read]
        needs = ["unpack"]
        use   = "files"
        grant = { workspace = true }
        with  = { read = { path = "/workspace/site/report.md", parse = "lines" } }
        "##,
    );
    assert_eq!(
        played.output("worst")["result"],
        json!([{ "name": "b", "ms": 9_000_000_000_u64 }, { "name": "c", "ms": 7.5 }])
    );
    let text = "# Slowest\n1. b: 9000000000 ms\n2. c: 7.5 ms\n";
    assert_eq!(played.output("report")["text"], text);
    assert_eq!(fs::read_to_string(bench.path().join("out/site/report.md")).unwrap(), text);
    assert_eq!(played.output("read")["lines"], json!(["# Slowest", "1. b: 9000000000 ms", "2. c: 7.5 ms"]));
    assert_eq!(played.output("hash")["digests"]["report.md"], played.output("write")["digest"]);
    assert_eq!(played.output("unpack"), &json!({ "files": 1, "bytes": text.len() }));
    // Only what was asked for is there: no half-written file.
    let names = |folder: &str| {
        let entries = fs::read_dir(bench.path().join(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(
        (names("out"), names("out/site")),
        (vec!["site".into(), "site.tar.gz".into()], vec!["report.md".into()])
    );
}

#[test]
fn a_filter_that_never_ends_hoards_or_recurses_is_stopped_and_told_apart() {
    let deep = "(".repeat(20_000) + "1" + &")".repeat(20_000);
    let played = play(
        &bench(),
        &format!(
            r#"
            [steps.loops]
            use     = "jq"
            with    = {{ filter = "def f: f; f" }}
            timeout = "300ms"
            [steps.hoards]
            use   = "jq"
            with  = {{ filter = "[range(infinite)]" }}
            limit = {{ memory = "32MiB" }}
            [steps.gives]
            use  = "jq"
            with = {{ filter = "range(infinite)", results = "all" }}
            [steps.recurses]
            use  = "jq"
            with = {{ filter = "def f: 1 + f; f" }}
            [steps.nests]
            use  = "jq"
            with = {{ filter = "{deep}" }}
            [steps.fails]
            use  = "jq"
            with = {{ filter = "error({{code: 7}})" }}
            [steps.errs]
            use  = "jq"
            with = {{ filter = ". | mpa(.)" }}
            [steps.now]
            use  = "jq"
            with = {{ filter = "now | todate" }}
            [steps.wide]
            use  = "jq"
            with = {{ filter = "[.[] | . * 1000]", value = [4000000000, -4000000000, 9007199254740993] }}
            "#
        ),
    );
    let steps = ["loops", "hoards", "gives", "recurses", "nests", "fails", "errs"];
    let kinds = ["timed-out", "limit memory", "permanent", "trap", "trap", "permanent", "invalid-input"];
    assert_eq!(steps.map(|step| played.failure(step).0), kinds);
    assert_eq!(played.0["fails"]["failure"]["details"], json!({ "error": { "code": 7 } }));
    assert_eq!(
        played.failure("errs").1,
        "`filter` is no jq filter: line 1, column 5, at `mpa`: there is no such function with one argument"
    );
    // Without the grant `clock`, time stands still, and the same filter gives the same result.
    assert_eq!(played.output("now")["result"], "2000-01-01T00:00:00Z");
    // A component's own word has 32 bits; its numbers don't show it.
    assert_eq!(
        played.output("wide")["result"],
        json!([4_000_000_000_000_u64, -4_000_000_000_000_i64, 9_007_199_254_740_993_000_u64])
    );
}

#[test]
fn a_template_that_is_wrong_or_too_much_is_told_apart() {
    let bench = bench();
    bench.write("secret", "secret");
    bench.write("templates/a", "a");
    let played = play(
        &bench,
        r#"
        [steps.misses]
        use  = "template"
        with = { template = "{{ nmae }}", data = { name = "x" } }
        [steps.garbled]
        use  = "template"
        with = { template = "{% if %}" }
        [steps.works]
        use  = "template"
        with = { template = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}" }
        [steps.recurses]
        use  = "template"
        with = { template = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" }
        [steps.includes]
        use  = "template"
        with = { template = "{% include 'a' %}", templates = { a = "{% include 'a' %}" } }
        [steps.escapes]
        use  = "template"
        with = { template = "{{ x }}", data = { x = "<b>" }, escape = "html" }
        [steps.reads]
        use  = "template"
        with = { template = { file = "templates/a" } }
        [steps.climbs]
        use   = "template"
        with  = { template = { file = "templates/../secret" } }
        grant = { files = [{ path = "templates" }] }
        "#,
    );
    let kinds = ["misses", "garbled", "works", "recurses", "includes", "reads", "climbs"];
    let found = kinds.map(|step| played.failure(step).0);
    let permanent = "permanent";
    assert_eq!(found, [permanent, "invalid-input", permanent, permanent, permanent, permanent, permanent]);
    assert!(played.failure("misses").1.contains("1 | {{ nmae }}\n  |    ^^^^\nhint: `data` has `name`"));
    assert!(played.failure("works").1.contains("`fuel` is 2000000"));
    assert!(played.failure("recurses").1.contains("recursion"));
    assert!(played.failure("includes").1.contains("recursion"));
    assert_eq!(played.hint("reads"), r#"grant = { files = [{ path = "templates" }] }"#);
    assert_eq!(played.output("escapes")["text"], "&lt;b&gt;");
    assert!(played.failure("climbs").1.starts_with("`templates/../secret` is not granted to this step (files)"));
}

#[test]
fn files_that_are_not_granted_are_not_there_and_the_refusal_says_how_to_grant_them() {
    let bench = bench();
    bench.write("in/a", "a");
    bench.write("secret/key", "key");
    std::os::unix::fs::symlink("../secret/key", bench.path().join("in/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bench.path().join("in/absolute")).unwrap();
    let read_only = "grant = { files = [{ path = \"in\" }] }";
    let step =
        |name: &str, with: &str, grant: &str| format!("[steps.{name}]\nuse = \"files\"\nwith = {with}\n{grant}\n");
    let steps = [
        step("nothing", r#"{ read = { path = "in/a" } }"#, ""),
        step("granted", r#"{ read = { path = "in/a" } }"#, read_only),
        step("writes", r#"{ write = { path = "in/b", text = "b" } }"#, read_only),
        step("elsewhere", r#"{ read = { path = "secret/key" } }"#, read_only),
        step("climbs", r#"{ read = { path = "in/../secret/key" } }"#, read_only),
        step("absolute", r#"{ hash = { path = "/etc/passwd" } }"#, read_only),
        step("workspace", r#"{ make-folder = { path = "/workspace/x" } }"#, read_only),
        step("link", r#"{ read = { path = "in/link" } }"#, read_only),
        step("link_away", r#"{ read = { path = "in/absolute" } }"#, read_only),
        step("missing", r#"{ read = { path = "in/none" } }"#, read_only),
    ];
    let played = play(&bench, &steps.concat());
    assert_eq!(played.output("granted")["text"], "a");
    assert_eq!(played.hint("nothing"), r#"grant = { files = [{ path = "in" }] }"#);
    assert_eq!(played.hint("writes"), r#"grant = { files = [{ path = "in", write = true }] }"#);
    assert_eq!(played.hint("elsewhere"), r#"grant = { files = [{ path = "secret" }] }"#);
    assert_eq!(played.hint("climbs"), r#"grant = { files = [{ path = "in/../secret" }] }"#);
    assert_eq!(played.hint("absolute"), r#"grant = { files = [{ path = "/etc" }] }"#);
    assert_eq!(played.hint("workspace"), "grant = { workspace = true }");
    for step in ["link", "link_away"] {
        let (kind, message) = played.failure(step);
        assert_eq!(kind, "permanent");
        assert!(message.ends_with("a link is not followed out of the granted directory"), "{step}: {message}");
    }
    assert!(played.failure("missing").1.ends_with("there is no such file or folder"));
    assert_eq!(fs::read_dir(bench.path().join("in")).unwrap().count(), 3);
}

/// One entry of a tar archive: its header, by POSIX.1-1988, and its content.
fn entry(kind: u8, path: &str, target: &str, content: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, "0000755\x000000000\x000000000\0");
    put(124, &format!("{:011o}\x0000000000000\0        ", content.len()));
    put(157, target);
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = content.len().next_multiple_of(512) - content.len();
    [&header[..], content.as_bytes(), &vec![0; padding]].concat()
}

#[test]
fn a_hostile_archive_is_refused_and_a_good_one_keeps_its_links() {
    let bench = bench();
    fs::create_dir(bench.path().join("data")).unwrap();
    let archives = [
        ("good", [entry(b'0', "lib/so.1", "", "code"), entry(b'2', "lib/so", "so.1", "")].concat()),
        ("climbs", [entry(b'0', "fine", "", "x"), entry(b'0', "../evil", "", "x")].concat()),
        ("absolute", entry(b'0', "/tmp/evil", "", "x")),
        ("leads_out", entry(b'2', "l", "../..", "")),
        ("through", [entry(b'2', "l", ".", ""), entry(b'0', "l/evil", "", "x")].concat()),
        ("device", entry(b'3', "null", "", "")),
        ("swells", entry(b'0', "big", "", &"0".repeat(100_000))),
    ];
    let mut steps = String::new();
    for (name, bytes) in &archives {
        fs::write(bench.path().join(format!("data/{name}.tar")), bytes).unwrap();
        steps.push_str(&format!(
            "[steps.{name}]\nuse = \"files\"\ngrant = {{ files = [{{ path = \"data\", write = true }}] }}\n\
             with = {{ unpack = {{ archive = \"data/{name}.tar\", to = \"data/{name}\", max-bytes = 50000 }} }}\n"
        ));
    }
    steps.push_str(
        r#"
        [steps.copies]
        needs = ["good"]
        use   = "files"
        grant = { files = [{ path = "data", write = true }] }
        with  = { copy = { from = "data/good", to = "data/copy" } }
        [steps.removes]
        needs = ["copies"]
        use   = "files"
        grant = { files = [{ path = "data", write = true }] }
        with  = { remove = { path = "data/good" } }
        "#,
    );
    let played = play(&bench, &steps);
    assert_eq!(played.output("good")["files"], 2);
    assert_eq!(played.output("copies"), &json!({ "files": 2, "bytes": 4 }));
    assert_eq!(played.output("removes")["files"], 2);
    assert_eq!(fs::read_link(bench.path().join("data/copy/lib/so")).unwrap().to_str(), Some("so.1"));
    assert_eq!(fs::read_to_string(bench.path().join("data/copy/lib/so")).unwrap(), "code");
    assert!(!bench.path().join("data/good").exists());
    for (step, reason) in [
        ("climbs", "`../evil`: its path leads upwards with `..`"),
        ("absolute", "`/tmp/evil`: its path is absolute"),
        ("leads_out", "`l`: it is a link to `../..`, which may lead out of the folder"),
        ("through", "`l/evil`: it lies below `l`, which is a file or a link in the archive"),
        ("device", "`null`: it is a device"),
        ("swells", "uncompressed, it has more than 50000 bytes, which `max-bytes` allows"),
    ] {
        let (kind, message) = played.failure(step);
        assert_eq!(kind, "permanent", "{step}");
        assert!(message.ends_with(reason), "{step}: {message}");
        assert!(!bench.path().join("data").join(step).exists(), "{step} was refused, but something was written");
    }
}

#[test]
fn the_checker_knows_each_operation() {
    let bench = bench();
    // What building says is not what checking says.
    ["jq", "template", "files"].iter().for_each(|name| bench.build(&format!("plugins/{name}")));
    let steps = r#"
[steps.unknown]
use  = "files"
with = { raed = { path = "a" } }
[steps.incomplete]
use  = "files"
with = { copy = { from = "${inputs.a}" } }
[steps.mistyped]
use  = "files"
with = { unpack = { archive = "a.tar", to = "b", max-bytse = 5, strip = "1" } }
[steps.template]
use  = "template"
with = { template = { path = "a" }, escape = "xml" }
[steps.jq]
use  = "jq"
with = { filter = 5, results = "last" }
[outputs]
a = "${steps.jq.output.resutl}"
"#;
    bench.write("x.toml", &(head() + "[inputs]\na = { type = \"string\" }\n" + steps));
    insta::assert_snapshot!("operations_checked", bench.talk(&["check", "x.toml"]));
}

#[test]
fn the_examples_of_the_plugins_documents_are_true() {
    let bench = bench();
    let run = |plugin: &str| {
        let text = fs::read_to_string(repository().join("plugins").join(plugin).join("README.md")).unwrap();
        let block = text.split("```toml\n").nth(1).unwrap().split("\n```").next().unwrap();
        let plugins = format!("\"{}/plugins/", repository().display());
        bench.write("x.toml", &(block.replace("\"../plugins/", &plugins) + "\n"));
        let answer = bench.run(&["run", "x.toml"]);
        assert_eq!(answer.code, 0, "{plugin}: {}", answer.stderr);
        serde_json::from_str::<Value>(&answer.stdout).unwrap()
    };
    assert_eq!(run("jq"), json!({ "sum": 32.5 }));
    assert_eq!(run("template"), json!({ "notes": "# 1.4.0\n\n- Starts faster\n- Uses less memory\n" }));
    let bundle = run("files");
    assert_eq!(bundle["paths"], json!(["bundle.tar.gz", "dist/version.json"]));
    // Packed again, elsewhere and later, it is the same archive.
    assert_eq!(run("files"), bundle);
}
