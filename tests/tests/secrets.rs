//! Secrets: their values reach what they are granted to, and nothing that is kept of a run, shown of it or said by it has them,
//! in no usual encoding, whatever a guest, a program or a server does with them. The table of the rogue guest's README is played here,
//! row by row.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use downbeat_tests::page::{attacks, unquoted};
use downbeat_tests::{Answer, Bench, repository};
use regex::bytes::Regex;
use serde_json::Value;

/// With all that encodings change.
const SECRET: &str = "t0p/s3cret+\"value\"";

/// The same in the forms that are looked for, found with `base64`, `xxd -p` and a browser.
const FORMS: [&str; 15] = [
    SECRET,
    r#"t0p/s3cret+\"value\""#,
    "dDBwL3MzY3JldCsidmFsdWUi",
    "QwcC9zM2NyZXQrInZhbHVlI",
    "0MHAvczNjcmV0KyJ2YWx1ZS",
    "7430702f7333637265742b2276616c756522",
    "t0p%2Fs3cret%2B%22value%22",
    WORD,
    LONG,
    "lv1_pXq8/RkZ2+mT7wBn4\\\"Yc9Hs3Jd6Ff0Ga5Kv8Lq1Mz2Nx3Ob4Pc5Qd6Re7Sf8Tg9Uh0Vi1Wj2Xk3Yl4Zm5An6Bo7Cp8Dq9Er0Fs1Gt2Hu3Iv4Jw5Kx6",
    "bHYxX3BYcTgvUmtaMittVDd3Qm40IlljOUhzM0pkNkZmMEdhNUt2OExxMU16Mk54M09iNFBjNVFkNlJlN1NmOFRnOVVoMFZpMVdqMlhrM1lsNFptNUFuNkJvN0NwOERxOUVyMEZzMUd0Mkh1M0l2NEp3NUt4N",
    "x2MV9wWHE4L1JrWjIrbVQ3d0JuNCJZYzlIczNKZDZGZjBHYTVLdjhMcTFNejJOeDNPYjRQYzVRZDZSZTdTZjhUZzlVaDBWaTFXajJYazNZbDRabTVBbjZCbzdDcDhEcTlFcjBGczFHdDJIdTNJdjRKdzVLeD",
    "sdjFfcFhxOC9Sa1oyK21UN3dCbjQiWWM5SHMzSmQ2RmYwR2E1S3Y4THExTXoyTngzT2I0UGM1UWQ2UmU3U2Y4VGc5VWgwVmkxV2oyWGszWWw0Wm01QW42Qm83Q3A4RHE5RXIwRnMxR3QySHUzSXY0Snc1S3g2",
    "6c76315f705871382f526b5a322b6d543777426e34225963394873334a64364666304761354b76384c71314d7a324e78334f6234506335516436526537536638546739556830566931576a32586b33596c345a6d35416e36426f374370384471394572304673314774324875334976344a77354b7836",
    "lv1_pXq8%2FRkZ2%2BmT7wBn4%22Yc9Hs3Jd6Ff0Ga5Kv8Lq1Mz2Nx3Ob4Pc5Qd6Re7Sf8Tg9Uh0Vi1Wj2Xk3Yl4Zm5An6Bo7Cp8Dq9Er0Fs1Gt2Hu3Iv4Jw5Kx6",
];

/// One that a string of JSON has as it is.
const WORD: &str = "open-sesame-9";

/// One that is longer than a line of base64.
const LONG: &str = "lv1_pXq8/RkZ2+mT7wBn4\"Yc9Hs3Jd6Ff0Ga5Kv8Lq1Mz2Nx3Ob4Pc5Qd6Re7Sf8Tg9Uh0Vi1Wj2Xk3Yl4Zm5An6Bo7Cp8Dq9Er0Fs1Gt2Hu3Iv4Jw5Kx6";

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("vault/key", &format!("{SECRET}\n"));
    bench.write("vault/word", WORD);
    bench.write("vault/long", LONG);
    bench.write("vault/split", "first-line\r\nx-key: second-line");
    bench
}

/// Runs a workflow with these steps and the secrets of the vault.
fn start(bench: &Bench, steps: &str) -> Answer {
    let plugins = repository().join("plugins");
    let head = format!(
        "name = \"w\"\n[plugins]\nrogue = {:?}\nhttp = {:?}\n[secrets]\n\
         key.file = \"vault/key\"\nword.file = \"vault/word\"\nlong.file = \"vault/long\"\nsplit.file = \"vault/split\"\n",
        repository().join("tests/guests/rogue").display().to_string(),
        plugins.join("http").display().to_string(),
    );
    // What is not used is a warning, which is none of the tests' business.
    let used = |plugin: &str| steps.contains(&format!("use = \"{plugin}\""));
    let head: Vec<&str> = head
        .lines()
        .filter(|line| !["rogue", "http"].iter().any(|name| line.starts_with(name) && !used(name)))
        .collect();
    bench.write("w.toml", &format!("{}\n{steps}", head.join("\n")));
    bench.run(&["run", "w.toml", "--json"])
}

fn events(answer: &Answer) -> Vec<Value> {
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    events
}

/// The same, and holds everything that it left behind, and all that it and the commands which look at it print, against the forms
/// of the values.
fn play(bench: &Bench, steps: &str) -> Vec<Value> {
    let answer = start(bench, steps);
    tells_nothing(answer.stdout.as_bytes(), "the run");
    tells_nothing(answer.stderr.as_bytes(), "the run");
    for words in LOOKS {
        let Answer { stdout, stderr, .. } = bench.run(words);
        tells_nothing(stdout.as_bytes(), &words.join(" "));
        tells_nothing(stderr.as_bytes(), &words.join(" "));
    }
    // What the engine keeps, and what was exported.
    files(bench.path(), &mut |path, bytes| {
        if !path.starts_with(bench.path().join("vault")) {
            tells_nothing(bytes, &path.display().to_string());
        }
    });
    events(&answer)
}

/// What shows something of a run, or of a workflow.
const LOOKS: [&[&str]; 15] = [
    &["show", "last"],
    &["show", "last", "--json"],
    &["explain", "last"],
    &["explain", "last", "--json"],
    &["logs", "last"],
    &["logs", "last", "--json"],
    &["list", "--json"],
    &["plan", "w.toml"],
    &["plan", "w.toml", "--json"],
    &["graph", "last", "--format", "dot"],
    &["audit", "show", "--json"],
    &["audit", "report", "--json"],
    &["audit", "export", "--format", "otel"],
    &["export", "last", "--output", "run.downbeat"],
    &["replay", "last"],
];

/// White space, also as it stands in a string of JSON, does not hide a value.
fn tells_nothing(bytes: &[u8], whose: &str) {
    static WANTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(&FORMS.map(regex::escape).join("|")).unwrap());
    static SPACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\[nrt]|\s").unwrap());
    for bytes in [bytes, &SPACE.replace_all(bytes, &b""[..])] {
        if let Some(found) = WANTED.find(bytes) {
            let around = &bytes[found.start().saturating_sub(200)..bytes.len().min(found.end() + 200)];
            panic!("{whose} has a secret: {}", String::from_utf8_lossy(around));
        }
    }
}

/// All files below, the journal and its log among them.
fn files(folder: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, look),
            false => look(&path, &std::fs::read(&path).unwrap()),
        }
    }
}

/// How the latest attempt of a step ended.
fn end<'e>(events: &'e [Value], step: &str) -> &'e Value {
    let is_end = |event: &&Value| {
        event["step"] == step && ["attempt-succeeded", "attempt-failed"].iter().any(|end| event["event"] == *end)
    };
    events.iter().rfind(is_end).unwrap_or_else(|| panic!("{step} has no end: {events:?}"))
}

/// A server of this machine that keeps what it is sent, and sends it back.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Server { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let asked = server.asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Who goes away in the middle is no reason to end.
                let _ = answer(stream.unwrap(), &asked);
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What a step did with secrets, as its attempt's end tells.
fn used(events: &[Value], step: &str) -> Vec<String> {
    let used = end(events, step)["usage"]["used"].as_array().unwrap();
    let secrets = used.iter().filter(|used| used["capability"] == "secrets");
    secrets.map(|used| used["what"].as_str().unwrap().to_owned()).collect()
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut text, mut length, mut chunked, mut echo) = (String::new(), 0, false, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        text.push_str(&line);
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() { break } else { continue }
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "transfer-encoding" => chunked = true,
            "authorization" => echo = value.trim().to_owned(),
            _ => (),
        }
    }
    let mut body = Vec::new();
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
        reader.by_ref().take(size).read_to_end(&mut body)?;
        reader.read_line(&mut String::new())?;
        chunked = size > 0;
    }
    reader.by_ref().take(length).read_to_end(&mut body)?;
    text.push_str(&String::from_utf8_lossy(&body));
    asked.lock().unwrap().push(text.clone());
    let (mut head, mut text) = (format!("HTTP/1.1 200 OK\r\nx-echo: {echo}\r\n"), text);
    match text.split(' ').nth(1).unwrap_or_default() {
        "/base64" => text = base64(&echo),
        "/lines" => {
            let base64 = base64(&format!("{} {echo} and so on", "x".repeat(50)));
            text = base64.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\n").collect();
        }
        "/gzip" => head.push_str("content-encoding: gzip\r\n"),
        "/redirect" => {
            // The one value that is sent there.
            let escaped = "t0p%2Fs3cret%2B%22value%22";
            head = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/?k={escaped}\r\n");
        }
        _ => (),
    }
    // In two pieces, between which the value is cut.
    let cut = text.find("s3cret").map_or(0, |at| at + 3);
    write!(stream, "{head}content-length: {}\r\nconnection: close\r\n\r\n", text.len())?;
    stream.write_all(&text.as_bytes()[..cut])?;
    stream.flush()?;
    stream.write_all(&text.as_bytes()[cut..])
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(|at| if at <= three.len() { digit(at) } else { '=' }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(digits).collect()
}

/// What a row of the table is granted, by its word for it.
fn granted(word: &str, port: u16) -> String {
    let sends = |place: &str| {
        format!(
            r#"grant = {{ http = ["127.0.0.1:*"], process = ["sh"], workspace = true, artifacts = true, secrets = [
                {{ name = "key", host = "127.0.0.1:{port}", {place} }},
                {{ name = "split", host = "127.0.0.1:{port}", header = "x-split" }},
            ] }}"#
        )
    };
    match word {
        "sends" => sends(r#"header = "authorization""#),
        "posts" => sends("body = true"),
        "other" => r#"needs = ["lends"]
            grant = { http = ["127.0.0.1:*"] }"#
            .to_owned(),
        "files" => "needs = [\"lends\"]\ngrant = { files = [\"vault\"] }".to_owned(),
        "has" => r#"grant = { workspace = true, artifacts = true, secrets = [
                { name = "key", reveal = true }, { name = "long", reveal = true },
            ] }"#
            .to_owned(),
        "runs" => r#"grant = { process = ["sh"], secrets = [
                { name = "key", env = "TOKEN" }, { name = "long", env = "LONG" },
            ] }"#
            .to_owned(),
        other => panic!("there is no grant called {other}"),
    }
}

/// The placeholder of `key` in a run of its own.
fn placeholder(bench: &Bench) -> String {
    let events = play(
        bench,
        "[steps.lends]\nuse = \"rogue\"\nwith = { do = \"echo\", text = \"${secrets.key}\" }\n\
         grant = { http = [\"127.0.0.1:1\"], secrets = [{ name = \"key\", host = \"127.0.0.1:1\", body = true }] }\n",
    );
    let text = end(&events, "lends")["output"]["input"]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("dbsecret-"), "{text}");
    text
}

#[test]
fn a_value_goes_where_it_is_granted_and_nowhere_else() {
    let (bench, server, other) = (bench(), Server::start(), Server::start());
    let old = placeholder(&bench);
    let fill = |text: &str| {
        let ports = text.replace("{port}", &server.port.to_string()).replace("{other}", &other.port.to_string());
        ports.replace("{old}", &old)
    };
    let mut steps = format!(
        "[steps.lends]\nuse = \"rogue\"\nwith = {{ do = \"echo\", text = \"${{secrets.key}}\" }}\n{}\n",
        granted("sends", server.port)
    );
    let rows = attacks("Secrets");
    for (index, row) in rows.iter().enumerate() {
        let [_, with, grant, ..] = &row[..] else { panic!("{row:?}") };
        let (with, grant) = (fill(unquoted(with)), granted(grant, server.port));
        steps.push_str(&format!("[steps.row_{index}]\nuse = \"rogue\"\nwith = {with}\n{grant}\n"));
    }
    let events = play(&bench, &steps);
    let logs = bench.run(&["logs", "last", "--json"]).stdout;
    let logs: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let [attack, _, _, says, record, _] = &row[..] else { panic!("{row:?}") };
        let step = format!("row_{index}");
        let end = end(&events, &step);
        let logged = logs.iter().filter(|line| line["step"] == *step).filter_map(|line| line["message"].as_str());
        let (output, message) = (end["output"].to_string(), end["failure"]["message"].as_str().unwrap_or_default());
        let said = [output.as_str(), message].into_iter().chain(logged).collect::<Vec<_>>().join("\n");
        let refusals = end["usage"]["refusals"].as_array().cloned().unwrap_or_default();
        let is_on_record = match unquoted(record) {
            "" => refusals.iter().all(|refusal| refusal["capability"] != "secrets"),
            record => refusals.iter().any(|refusal| refusal["wanted"].as_str().unwrap().contains(&fill(record))),
        };
        if !said.contains(&fill(unquoted(says))) || !is_on_record {
            wrong.push(format!("{attack}: {said}: {refusals:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(!other.asked().is_empty());
    for request in other.asked() {
        tells_nothing(request.as_bytes(), "what the other server was sent");
    }
    let sent = server.asked().iter().filter(|request| request.contains(SECRET)).count();
    // Twice the answer has nothing of it to be blotted out.
    let meant = 2 + rows
        .iter()
        .filter(|row| row[2] != "has" && row[1].contains("request") && row[3].contains("[secret"))
        .count();
    assert_eq!(sent, meant, "the granted server was sent the value, and only where it was to be");
    assert!(server.asked().iter().all(|request| !request.contains("second-line")));
    let mut kept = Vec::new();
    files(&bench.path().join(".downbeat"), &mut |path, bytes| {
        if path.ends_with("kept") {
            kept.push(String::from_utf8_lossy(bytes).into_owned());
        }
    });
    assert!(matches!(&kept[..], [text] if text.starts_with("dbsecret-")), "{kept:?}");
}

#[test]
fn what_a_program_writes_to_the_workspace_is_not_looked_through_and_lies_nowhere_else() {
    let bench = bench();
    let step = "[steps.a]\nuse = \"rogue\"\n\
        with = { do = \"process\", program = \"sh\", args = [\"-c\", \"printf %s \\\"$TOKEN\\\" > kept; wc -c < kept\"], path = \"/workspace\" }\n\
        grant = { process = [\"sh\"], workspace = true, secrets = [{ name = \"key\", env = \"TOKEN\" }] }\n\
        [steps.b]\nuse = \"rogue\"\nneeds = [\"a\"]\nwith = { do = \"read-file\", path = \"/workspace/kept\" }\n\
        grant = { workspace = true }\n";
    let (mut lies, mut others) = (0, Vec::new());
    let events = events(&start(&bench, step));
    files(bench.path(), &mut |path, bytes| {
        let is_there = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        match path.starts_with(bench.path().join("vault")) {
            true => (),
            false if path.ends_with("kept") => lies += usize::from(is_there),
            false if is_there => others.push(path.display().to_string()),
            false => (),
        }
    });
    assert_eq!((lies, others), (1, Vec::new()));
    assert_eq!(end(&events, "b")["output"]["saw"], "[secret key]", "another step reads it, and can't tell it");
}

/// What a program of CI did to others in the incident of CVE-2025-30066.
#[test]
fn a_program_of_another_step_does_not_find_it_in_the_memory_or_the_variables_of_others() {
    let bench = bench();
    let steps = r#"
[steps.has]
use = "rogue"
grant = { process = ["sh"], workspace = true, secrets = [{ name = "key", env = "TOKEN" }] }
timeout = "60s"
[steps.has.with]
do = "process"
program = "sh"
path = "/workspace"
args = ["-c", 'echo $$ > pid; mv pid up; until [ -e done ]; do sleep 0.01; done; printf %s "$TOKEN" | wc -c']

[steps.looks]
use = "rogue"
grant = { process = ["sh"], workspace = true }
timeout = "60s"
[steps.looks.with]
do = "process"
program = "sh"
path = "/workspace"
args = ["-c", '''
until [ -e up ]; do sleep 0.01; done
other=$(cat up)
cat /proc/$other/cmdline > /dev/null && echo is there
for file in environ mem maps; do
  cat /proc/$other/$file > /dev/null 2> why && echo "has $file"
  grep -o 'ermission denied' why
done
readlink /proc/$other/fd/0 > /dev/null 2>&1 && echo has files
echo found $(cat /proc/[0-9]*/environ 2> /dev/null | tr '\0' '\n' | grep -c ^TOKEN=)
touch done
''']
"#;
    let events = play(&bench, steps);
    let stdout = |step: &str| end(&events, step)["output"]["saw"]["stdout"].as_str().unwrap_or_default().to_owned();
    assert_eq!(stdout("has").trim(), SECRET.len().to_string(), "{}", end(&events, "has"));
    let denied = "ermission denied\n".repeat(3);
    assert_eq!(stdout("looks"), format!("is there\n{denied}found 0\n"), "{}", end(&events, "looks"));
}

#[test]
fn what_is_kept_printed_exported_and_imported_of_a_run_has_no_value() {
    let bench = bench();
    let mut steps = String::new();
    for (index, (way, form)) in
        [("output", "plain"), ("error", "base64-76"), ("log", "halves"), ("blob", "hex"), ("item", "percent")]
            .iter()
            .enumerate()
    {
        steps.push_str(&format!(
            "[steps.s{index}]\nuse = \"rogue\"\n\
             with = {{ do = \"tell\", by = \"{way}\", as = \"{form}\", text = \"<${{secrets.long}}>\" }}\n\
             grant = {{ artifacts = true, secrets = [{{ name = \"long\", reveal = true }}] }}\n"
        ));
    }
    play(&bench, &steps);
    let exported = std::fs::read(bench.path().join("run.downbeat")).unwrap();
    let blotted = b"[secret long]";
    assert!(exported.windows(blotted.len()).filter(|window| window == blotted).count() >= 5, "all of it is in there");
    let imported = bench.run(&["--state", "elsewhere", "import", "run.downbeat"]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    for words in LOOKS.iter().filter(|words| words[0] != "export" && words[0] != "replay") {
        let Answer { stdout, stderr, code } = bench.run(&[&["--state", "elsewhere"], *words].concat());
        assert_eq!(code, 0, "{words:?}: {stderr}");
        tells_nothing(format!("{stdout}{stderr}").as_bytes(), &words.join(" "));
    }
    files(&bench.path().join("elsewhere"), &mut |path, bytes| tells_nothing(bytes, &path.display().to_string()));
}

#[test]
fn a_server_is_sent_the_value_and_the_guest_never_has_it_even_if_it_is_sent_back() {
    let (bench, server) = (bench(), Server::start());
    let port = server.port;
    let events = play(
        &bench,
        &format!(
            r#"
            [steps.send]
            use = "http"
            grant.http = ["127.0.0.1:{port}"]
            grant.secrets = [
                {{ name = "key", host = "127.0.0.1:{port}", header = "authorization" }},
                {{ name = "key", host = "127.0.0.1:{port}", body = true, query = true }},
            ]
            [steps.send.with]
            method = "POST"
            url = "http://127.0.0.1:{port}/hook?key=${{secrets.key}}"
            headers = {{ authorization = "Bearer ${{secrets.key}}" }}
            json = {{ key = "${{secrets.key}}" }}
            "#
        ),
    );
    let asked = server.asked();
    let [request] = &asked[..] else { panic!("{asked:?}") };
    assert!(request.starts_with("POST /hook?key=t0p%2Fs3cret%2B%22value%22 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{request}");
    assert!(request.ends_with(r#"{"key":"t0p/s3cret+\"value\""}"#), "{request}");
    let length = r#"{"key":"t0p/s3cret+\"value\""}"#.len();
    assert!(request.contains(&format!("content-length: {length}\r\n")), "{request}");
    let output = &end(&events, "send")["output"];
    assert_eq!(output["headers"]["x-echo"], "Bearer [secret key]");
    assert_eq!(output["body"].as_str().unwrap().matches("[secret key]").count(), 3, "{output}");
    assert_eq!(end(&events, "send")["usage"]["refusals"], Value::Null);
}

#[test]
fn another_server_or_header_is_sent_a_placeholder_and_the_record_says_so() {
    let (bench, server, other) = (bench(), Server::start(), Server::start());
    let (port, elsewhere) = (server.port, other.port);
    let step = |name: &str, to: u16, header: &str| {
        format!(
            r#"
            [steps.{name}]
            use = "http"
            with = {{ url = "http://127.0.0.1:{to}/", headers = {{ {header} = "${{secrets.key}}" }} }}
            grant.http = ["127.0.0.1:*"]
            grant.secrets = [{{ name = "key", host = "127.0.0.1:{port}", header = "authorization" }}]
            "#
        )
    };
    let steps = step("host", elsewhere, "authorization") + &step("header", port, "x-key");
    let events = play(&bench, &steps);
    for (name, asked) in [("host", other.asked()), ("header", server.asked())] {
        assert!(asked[0].contains("dbsecret-") && !asked[0].contains("s3cret"), "{asked:?}");
        let refusals = &end(&events, name)["usage"]["refusals"];
        assert_eq!(refusals[0]["capability"], "secrets", "{refusals}");
        assert!(refusals[0]["wanted"].as_str().unwrap().starts_with("key in the header "), "{refusals}");
    }
}

#[test]
fn what_a_component_is_revealed_is_blotted_out_of_all_that_it_says() {
    let bench = bench();
    let mut steps = String::new();
    let mut step = |name: &str, with: &str| {
        steps.push_str(&format!(
            "[steps.{name}]\nuse = \"rogue\"\nwith = {{ {with} }}\ngrant.artifacts = true\n\
             grant.secrets = [{{ name = \"key\", reveal = true }}, {{ name = \"word\", reveal = true }}]\n"
        ));
    };
    let text = "text = \"is ${secrets.key}!\"";
    step("output", &format!("do = \"echo\", {text}"));
    step("escape", r#"do = "answer", before = "{\"saw\":\"", text = "\\u0074${secrets.word}", after = "\"}""#);
    step("error", &format!("do = \"fail-permanent\", {text}"));
    step("log", &format!("do = \"log\", {text}"));
    step("print", &format!("do = \"print\", {text}"));
    step("panic", &format!("do = \"panic\", {text}"));
    step("progress", &format!("do = \"progress\", {text}"));
    step("item", r#"do = "append", text = "\"${secrets.word}\"""#);
    step("artifact", &format!("do = \"put\", {text}"));
    step("refused", "do = \"process\", program = \"${secrets.key}\"");
    let events = play(&bench, &steps);
    assert_eq!(end(&events, "output")["output"]["input"]["text"], "is [secret key]!", "the component had the value");
    assert_eq!(end(&events, "escape")["output"]["saw"], "t[secret word]");
    assert_eq!(end(&events, "item")["output"]["saw"], 1, "{}", end(&events, "item"));
    assert_eq!(end(&events, "error")["failure"]["message"], "is [secret key]!");
    assert!(end(&events, "panic")["failure"]["message"].as_str().unwrap().contains("is [secret key]!"));
    assert_eq!(end(&events, "refused")["usage"]["refusals"][0]["wanted"], "[secret key]");
    assert!(used(&events, "output").contains(&"key to the component".to_owned()), "{}", end(&events, "output"));
    let logs = bench.run(&["logs", "last"]).stdout;
    for line in ["line 0: is [secret key]!", "out 0: is [secret key]!", "err 0: is [secret key]!"] {
        assert!(logs.contains(line), "{logs}");
    }
}

#[test]
fn a_program_has_the_value_in_its_variable_and_can_tell_it_to_nobody_by_its_output() {
    let bench = bench();
    // The program itself has it, or none of this would be told as it is. `$${` is a `${` that is none of the workflow's.
    let steps = r#"
[steps.ask]
use = "rogue"
grant = { process = ["sh"], secrets = [{ name = "key", env = "TOKEN" }] }
[steps.ask.with]
do = "process"
program = "sh"
args = ["-c", '''
printf %s "$TOKEN" | wc -c
echo "$TOKEN"
printf %s "$TOKEN" | base64; printf 1%s "$TOKEN" | base64; printf 12%s "$TOKEN" | base64
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n'; echo
printf %s "$${TOKEN%??????}"; printf %s "$${TOKEN#????????????}"; echo
echo "$TOKEN" >&2
{ tr '\0\n' '  ' < /proc/$$/cmdline; } 2>/dev/null
''']
"#;
    let events = play(&bench, steps);
    let saw = &end(&events, "ask")["output"]["saw"];
    let stdout = saw["stdout"].as_str().unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0].trim(), SECRET.len().to_string(), "{saw}");
    assert_eq!(lines[1], "[secret key]", "{saw}");
    assert!(lines[2..7].iter().all(|line| line.contains("[secret key]")), "{saw}");
    assert!(lines[7..].iter().all(|line| !line.contains("[secret key]")), "a command line has the value: {saw}");
    assert_eq!(saw["stderr"], "[secret key]\n");
    assert_eq!(used(&events, "ask"), ["key as the variable TOKEN of sh"]);
}

#[test]
fn a_source_that_is_not_there_fails_the_step_and_is_named() {
    let bench = bench();
    std::fs::remove_file(bench.path().join("vault/key")).unwrap();
    let events = play(
        &bench,
        "[steps.ask]\nuse = \"rogue\"\nwith = { do = \"echo\", text = \"${secrets.key}\" }\n\
         grant = { secrets = [{ name = \"key\", reveal = true }] }\n",
    );
    let failure = &end(&events, "ask")["failure"];
    assert_eq!(failure["kind"], "host");
    assert_eq!(failure["message"], "the secret `key` can't be read from the file `vault/key`: there is no such file");
    assert_eq!(failure["details"]["secret"], "key");
}

#[test]
fn a_run_that_is_replayed_knows_a_secret_by_the_same_placeholder() {
    let bench = bench();
    // Granted for a host that it never asks: what it answers is the placeholder.
    let events = play(
        &bench,
        "[steps.ask]\nuse = \"rogue\"\nwith = { do = \"echo\", text = \"${secrets.key}\" }\n\
         grant = { http = [\"127.0.0.1:1\"], secrets = [{ name = \"key\", host = \"127.0.0.1:1\", body = true }] }\n",
    );
    let text = end(&events, "ask")["output"]["input"]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("dbsecret-"), "{text}");
    let explained = bench.run(&["explain", "last", "ask"]);
    assert!(explained.stdout.contains(&text), "{}", explained.stdout);
}
