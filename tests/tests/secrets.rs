//! Secrets: their values reach what they are granted to, and nothing that is kept of a run, shown of it or said by it has them,
//! in no usual encoding, whatever a guest, a program or a server does with them. Each test is a sentence of the table of attacks.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use downbeat_tests::{Answer, Bench, repository};
use serde_json::Value;

/// With all that encodings change.
const SECRET: &str = "t0p/s3cret+\"value\"";

/// The same in the forms that are looked for, found with `base64`, `xxd -p` and a browser.
const FORMS: [&str; 8] = [
    SECRET,
    r#"t0p/s3cret+\"value\""#,
    "dDBwL3MzY3JldCsidmFsdWUi",
    "QwcC9zM2NyZXQrInZhbHVlI",
    "0MHAvczNjcmV0KyJ2YWx1ZS",
    "7430702f7333637265742b2276616c756522",
    "t0p%2Fs3cret%2B%22value%22",
    WORD,
];

/// One that a string of JSON has as it is.
const WORD: &str = "open-sesame-9";

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR"));
    bench.write("token", &format!("{SECRET}\n"));
    bench.write("word", WORD);
    bench
}

/// Runs a workflow with the secret `key`, and holds everything that it left behind, and all that it and the commands which look
/// at it print, against the forms of the value.
fn play(bench: &Bench, steps: &str) -> Vec<Value> {
    let plugins = repository().join("plugins");
    let head = format!(
        "name = \"w\"\n[plugins]\nrogue = {:?}\nhttp = {:?}\n[secrets]\nkey.file = \"token\"\nword.file = \"word\"\n",
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
    let answer = bench.run(&["run", "w.toml", "--json"]);
    let mut said = vec![answer.stdout.clone(), answer.stderr.clone()];
    for words in [
        &["show", "last"][..],
        &["explain", "last"],
        &["logs", "last"],
        &["plan", "w.toml"],
        &["plan", "w.toml", "--json"],
    ] {
        let Answer { stdout, stderr, .. } = bench.run(words);
        said.extend([stdout, stderr]);
    }
    for text in &said {
        tells_nothing(text.as_bytes(), "what was printed");
    }
    files(&bench.path().join(".downbeat"), &mut |path, bytes| tells_nothing(bytes, &path.display().to_string()));
    let events: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().is_some_and(|event| event["event"] == "run-finished"), "{}", answer.stderr);
    events
}

fn tells_nothing(bytes: &[u8], whose: &str) {
    for form in FORMS {
        let found = bytes.windows(form.len()).position(|window| window == form.as_bytes());
        let around =
            |at: usize| String::from_utf8_lossy(&bytes[at.saturating_sub(200)..bytes.len().min(at + 200)]).into_owned();
        assert!(found.is_none(), "{whose} has the secret as {form}: {}", around(found.unwrap_or_default()));
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
    // In two pieces, between which the value is cut.
    let cut = text.find("s3cret").map_or(0, |at| at + 3);
    write!(stream, "HTTP/1.1 200 OK\r\nx-echo: {echo}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len())?;
    stream.write_all(&text.as_bytes()[..cut])?;
    stream.flush()?;
    stream.write_all(&text.as_bytes()[cut..])
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
}

#[test]
fn a_source_that_is_not_there_fails_the_step_and_is_named() {
    let bench = bench();
    std::fs::remove_file(bench.path().join("token")).unwrap();
    let events = play(
        &bench,
        "[steps.ask]\nuse = \"rogue\"\nwith = { do = \"echo\", text = \"${secrets.key}\" }\n\
         grant = { secrets = [{ name = \"key\", reveal = true }] }\n",
    );
    let failure = &end(&events, "ask")["failure"];
    assert_eq!(failure["kind"], "host");
    assert_eq!(failure["message"], "the secret `key` can't be read from the file `token`: there is no such file");
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
