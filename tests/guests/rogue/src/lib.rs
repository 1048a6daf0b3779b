//! A guest that misbehaves on request. `{"do": "…"}` picks how; what the guest gets to see of the world comes back as
//! its output, so that a test can assert it.
//!
//! It is written against the plain bindings of `wit/` and not with the SDK: it returns text that is no JSON, panics
//! without anybody's hook, and does whatever else an SDK is there to prevent. Nothing of it runs natively.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bindings::downbeat::step::{artifacts, items, log, process, progress, types};
use crate::bindings::exports::downbeat::step::step::{Context, Description, Failure, Guest, Want};

#[allow(missing_docs, unsafe_code, unreachable_pub, unused_qualifications, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });
}

struct Rogue;

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
const _: () = {
    bindings::export!(Rogue with_types_in bindings);
};

impl Guest for Rogue {
    fn describe() -> Description {
        let wants = ["artifacts", "clock", "env", "files", "http", "process", "random", "workspace"];
        Description {
            name: "rogue".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Misbehaves on request.".to_owned(),
            input_schema: include_str!("input.schema.json").to_owned(),
            output_schema: include_str!("output.schema.json").to_owned(),
            wants: wants.map(|name| Want { capability: name.to_owned(), reason: "tries it".to_owned() }).to_vec(),
        }
    }

    fn run(context: Context, input: String) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&input).map_err(|error| invalid(error.to_string()))?;
        act(&context, &Input(&input))
    }
}

/// The input's fields, each with the default that `input.schema.json` documents.
struct Input<'a>(&'a Value);

impl Input<'_> {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.0[key].as_u64().unwrap_or(default)
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let texts = self.0[key].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

fn act(context: &Context, input: &Input<'_>) -> Result<String, Failure> {
    let message = || match input.text("text") {
        "" => "as requested".to_owned(),
        text => text.to_owned(),
    };
    match input.text("do") {
        // Well-behaved.
        "echo" => Ok(json!({ "do": "echo", "input": input.0 }).to_string()),
        "context" => saw(json!({
            "run": context.run,
            "workflow": context.workflow,
            "step": context.step,
            "attempt": context.attempt,
            "idempotency-key": context.idempotency_key,
            "timeout-ms": context.timeout_ms,
        })),
        "progress" => {
            for done in 0..=input.number("count", 3) {
                progress::report(done, Some(input.number("count", 3)), &message());
            }
            saw(Value::Null)
        }

        "append" => {
            let text = input.text("text").to_owned();
            let all = vec![text; length(input.number("count", 1))];
            let pieces = all.chunks(length(input.number("at-once", u64::MAX)).clamp(1, 1 << 20));
            let appended = pieces.map(items::append).collect::<Result<Vec<()>, _>>();
            seen(appended.map(|_| all.len()).map_err(|error| format!("{error:?}")))
        }

        // Failures.
        "fail-invalid" => Err(invalid(message())),
        "fail-permanent" => Err(permanent(message() + &padding(input.number("bytes", 0)))),
        "fail-transient" => Err(transient(message(), input.0["retry-after-ms"].as_u64())),
        "fail-until" if u64::from(context.attempt) < input.number("attempt", 2) => {
            Err(transient(format!("attempt {} is too early", context.attempt), None))
        }
        "fail-until" => saw(json!(context.attempt)),

        // Endings that are none of them.
        "panic" => panic!("{}{}", message(), padding(input.number("bytes", 0))),
        "trap" => trap(),
        "exit" => std::process::exit(i32::try_from(input.number("code", 1)).unwrap_or(1)),

        // Without end.
        "loop" => loop {
            black_box(());
        },
        "call-forever" => call_forever(input),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(input.number("ms", 1_000)));
            saw(Value::Null)
        }
        "hoard" => hoard(input.number("bytes", u64::MAX)),
        "handles" => handles(),
        "open-files" => loop {
            match std::fs::File::create(input.text("path")) {
                Ok(file) => std::mem::forget(file),
                Err(error) => return seen::<Value>(Err(error)),
            }
        },
        "stack" => saw(json!(deeper(input.number("depth", u64::MAX)))),
        "frames" => saw(json!(wider(input.number("depth", u64::MAX)))),

        // Too much said.
        "log" | "log-flood" => {
            let lines = if input.text("do") == "log" { 1 } else { 100_000 };
            for line in 0..input.number("count", lines) {
                log::write(log::Level::Info, &format!("line {line}: {}", message()));
            }
            saw(Value::Null)
        }
        "log-big" => {
            log::write(log::Level::Info, &message().repeat(length(input.number("count", 1))));
            saw(Value::Null)
        }
        "print" => {
            for line in 0..input.number("count", 1) {
                println!("out {line}: {}", message());
                eprintln!("err {line}: {}", message());
            }
            saw(Value::Null)
        }
        "big-output" => Ok(big_output(length(input.number("bytes", 20 << 20)))),

        // Not what was promised.
        "answer" => {
            let middle = input.text("text").repeat(length(input.number("count", 1)));
            Ok([input.text("before"), &middle, input.text("after")].concat())
        }
        "bad-json" => Ok("{ this is no JSON".to_owned()),
        "wrong-output" => Ok(json!({ "saw": 1, "unpromised": true }).to_string()),
        "bad-details" => Err(Failure::Permanent(types::Problem {
            message: "with details that are no JSON".to_owned(),
            details: Some("{ this is no JSON".to_owned()),
        })),
        "big-details" => Err(Failure::Permanent(types::Problem {
            message: "with more details than anybody reads".to_owned(),
            details: Some(format!(r#"{{"padding":"{}"}}"#, padding(input.number("bytes", 1 << 20)))),
        })),

        // What it sees.
        "clock" => clock(input.number("ms", 0)),
        "random" => saw(json!([random(), random(), random()])),
        "random-big" => saw(json!(random_bytes(input.number("bytes", 1 << 30)))),
        "env" => {
            let variables: Vec<(String, String)> = std::env::vars().collect();
            saw(json!({ "variables": variables, "arguments": std::env::args().collect::<Vec<_>>() }))
        }

        // What it reaches.
        "read-file" => seen(std::fs::read_to_string(input.text("path"))),
        "write-file" => seen(std::fs::write(input.text("path"), message()).map(|()| "written")),
        "list" => seen(std::fs::read_dir(input.text("path")).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<std::io::Result<Vec<String>>>()?;
            names.sort_unstable();
            Ok(names)
        })),
        "plant" => seen(plant(input.text("path"), &message()).map(|()| "planted")),
        "connect" => seen(std::net::TcpStream::connect(input.text("address")).map(|_| "connected")),
        "listen" => seen(std::net::TcpListener::bind(input.text("address")).map(|_| "listening")),
        "udp" => seen(std::net::UdpSocket::bind(input.text("address")).map(|_| "bound")),
        "lookup" => {
            use std::net::ToSocketAddrs as _;
            seen(input.text("address").to_socket_addrs().map(|found| found.count()))
        }
        "http" => seen(http_status(input.text("scheme"), input.text("address"))),
        "request" => seen(request(input)),
        "tell" => tell(input),
        "process" => run_process(input),
        "put" => seen(artifacts::put(message().as_bytes()).map_err(|error| format!("{error:?}"))),
        "put-big" => seen(put_big(input.number("bytes", 1 << 30)).map_err(|error| format!("{error:?}"))),
        "get" => seen(
            artifacts::get(input.text("digest"))
                .map(|blob| String::from_utf8_lossy(&blob).into_owned())
                .map_err(|error| format!("{error:?}")),
        ),

        other => Err(invalid(format!("there is nothing to `do` called `{other}`"))),
    }
}

/// What was seen, as the output `{"saw": …}`.
fn saw(what: Value) -> Result<String, Failure> {
    Ok(json!({ "saw": what }).to_string())
}

/// What came of reaching for something, as the output `{"saw": …}` or `{"error": …}`: that it was denied is what the
/// test wants to know, and no failure.
fn seen<T: Into<Value>>(result: Result<T, impl ToString>) -> Result<String, Failure> {
    match result {
        Ok(what) => saw(what.into()),
        Err(error) => Ok(json!({ "error": error.to_string() }).to_string()),
    }
}

fn invalid(message: String) -> Failure {
    Failure::InvalidInput(types::Problem { message, details: None })
}

fn permanent(message: String) -> Failure {
    Failure::Permanent(types::Problem { message, details: Some(json!({ "requested": true }).to_string()) })
}

fn transient(message: String, retry_after_ms: Option<u64>) -> Failure {
    Failure::Transient(types::Setback { message, details: None, retry_after_ms })
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Tells a text that it should keep to itself, in the form `as`, by the way `by`.
fn tell(input: &Input<'_>) -> Result<String, Failure> {
    let pieces = told(input.text("as"), input.text("text"));
    let whole = pieces.concat();
    match input.text("by") {
        "output" => return saw(whole.into()),
        "key" => return Ok(format!(r#"{{"saw":{{{}:1}}}}"#, Value::from(whole))),
        "error" => return Err(permanent(padding(input.number("bytes", 0)) + &whole)),
        "panic" => panic!("{whole}"),
        "log" => pieces.iter().for_each(|piece| log::write(log::Level::Warn, piece)),
        "log-error" => {
            pieces.iter().for_each(|piece| log::write(log::Level::Error, piece));
            trap();
        }
        "print" => {
            use std::io::Write as _;
            let mut out = std::io::stdout();
            let print = |piece: &String| out.write_all(piece.as_bytes()).and_then(|()| out.flush());
            return seen(pieces.iter().try_for_each(print).map(|()| "printed"));
        }
        "progress" => progress::report(0, None, &whole),
        "item" => {
            return seen(items::append(&[Value::from(whole).to_string()]).map(|()| 1).map_err(|e| format!("{e:?}")));
        }
        "blob" => return seen(blob(&pieces).map_err(|error| format!("{error:?}"))),
        "file" => return seen(std::fs::write(input.text("path"), whole).map(|()| "written")),
        "program" => {
            let command = process::Command {
                program: padding(input.number("bytes", 0)) + &whole,
                arguments: Vec::new(),
                environment: Vec::new(),
                working_directory: None,
                stdin: Vec::new(),
                timeout_ms: None,
                log_output: false,
            };
            return seen(process::run(&command).map(|_| "ran").map_err(|error| format!("{error:?}")));
        }
        other => return Err(invalid(format!("nothing is told by `{other}`"))),
    }
    saw(Value::Null)
}

/// The forms in which something is told, in the pieces in which it is.
fn told(form: &str, text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let wrapped = |text: String, width: usize, end: &str| {
        let lines = text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned() + end);
        lines.collect::<String>()
    };
    let each = |escape: fn(u8) -> String| bytes.iter().map(|byte| escape(*byte)).collect::<String>();
    let whole = match form {
        "base64" => base64(bytes),
        "base64-76" => wrapped(base64(bytes), 76, "\n"),
        "base64-64-crlf" => wrapped(base64(bytes), 64, "\r\n"),
        "base64-8-indented" => wrapped(base64(bytes), 8, "\n    "),
        "hex" => each(|byte| format!("{byte:02x}")),
        "hex-spaced" => each(|byte| format!("{byte:02X} ")),
        "percent" => each(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        }),
        "reversed" => text.chars().rev().collect(),
        "halves" => {
            let (start, end) = text.split_at(text.floor_char_boundary(text.len() / 2));
            return vec![start.to_owned(), end.to_owned()];
        }
        "letters" => return text.chars().map(String::from).collect(),
        _ => text.to_owned(),
    };
    vec![whole]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            match digit <= three.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

/// A blob of these pieces, each written by itself.
fn blob(pieces: &[String]) -> Result<String, artifacts::Error> {
    let writer = artifacts::Writer::open()?;
    pieces.iter().try_for_each(|piece| writer.write(piece.as_bytes()))?;
    artifacts::Writer::finish(writer)
}

/// Takes memory, page by page, and touches it, until it has enough or gets no more (which aborts it).
fn hoard(bytes: u64) -> Result<String, Failure> {
    const PIECE: usize = 1 << 20;
    let mut hoard = Vec::new();
    while (hoard.len() as u64) * (PIECE as u64) < bytes {
        hoard.push(black_box(vec![1_u8; PIECE]));
    }
    saw(json!(hoard.len() * PIECE))
}

/// Recurses until the engine's stack is used up: nothing here lives in memory. What is done to the result can't be
/// reordered, so that no compiler makes a loop of it.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    match depth {
        0 => 0,
        _ => deeper(depth - 1).wrapping_mul(depth | 1).rotate_left(7) ^ depth,
    }
}

/// Recurses until the part of the linear memory that the guest itself uses as a stack is used up.
#[inline(never)]
fn wider(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    match depth {
        0 => 0,
        _ => wider(depth - 1) + black_box(frame[0]).min(1),
    }
}

/// Calls one host function again and again.
fn call_forever(input: &Input<'_>) -> ! {
    let text = input.text("text");
    loop {
        match input.text("what") {
            "log" => log::write(log::Level::Info, text),
            "progress" => progress::report(0, None, text),
            "print" => println!("{text}"),
            "clock" => drop(black_box(Instant::now())),
            "random" => drop(black_box(random())),
            "sleep" => std::thread::sleep(Duration::from_nanos(1)),

            "append" => drop(black_box(items::append(&[text.to_owned()]))),
            "get" => drop(black_box(artifacts::get(text))),
            "put" => drop(black_box(artifacts::put(text.as_bytes()))),
            "process" => drop(black_box(run_process(input))),
            "http" => drop(black_box(http_status("http", "127.0.0.1:1"))),
            "read" => drop(black_box(std::fs::read(input.text("path")))),
            other => panic!("there is nothing to call that is called `{other}`"),
        }
    }
}

/// So many bytes of text.
fn padding(bytes: u64) -> String {
    "x".repeat(length(bytes))
}

/// An output of so many bytes and a few more. Allocated once: what counts is what crosses the boundary.
fn big_output(bytes: usize) -> String {
    let (before, after) = (r#"{"saw":""#, r#""}"#);
    let mut output = String::with_capacity(before.len() + bytes + after.len());
    output.push_str(before);
    let piece = padding(1 << 16);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len());
        output.push_str(&piece[..now]);
        left -= now;
    }
    output + after
}

/// Both clocks, before and after a sleep.
fn clock(ms: u64) -> Result<String, Failure> {
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let (before, started) = (wall(), Instant::now());
    if ms > 0 {
        std::thread::sleep(Duration::from_millis(ms));
    }
    let elapsed_ns = started.elapsed().as_nanos() as u64;
    saw(json!({ "wall-ms": before, "wall-ms-later": wall(), "elapsed-ns": elapsed_ns }))
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn put_big(bytes: u64) -> Result<String, artifacts::Error> {
    let piece = vec![0_u8; 1 << 20];
    let writer = artifacts::Writer::open()?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len() as u64);
        writer.write(&piece[..length(now)])?;
        left -= now;
    }
    artifacts::Writer::finish(writer)
}

fn run_process(input: &Input<'_>) -> Result<String, Failure> {
    let command = process::Command {
        program: input.text("program").to_owned(),
        arguments: input.texts("args"),
        environment: input.texts("env").into_iter().map(|name| (name, "set by the guest".to_owned())).collect(),
        working_directory: input.0["path"].as_str().map(str::to_owned),
        stdin: input.text("stdin").into(),
        timeout_ms: input.0["ms"].as_u64(),
        log_output: true,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match process::run(&command) {
        Ok(completed) => saw(json!({
            "exit": match completed.exit {
                process::Exit::Code(code) => json!({ "code": code }),
                process::Exit::Signal(signal) => json!({ "signal": signal }),
            },
            "stdout": text(&completed.stdout),
            "stderr": text(&completed.stderr),
            "stdout-dropped": completed.stdout_dropped,
            "stderr-dropped": completed.stderr_dropped,
            "elapsed-ms": completed.elapsed_ms,
        })),
        Err(process::Error::Refused(types::Refusal { capability, wanted, hint })) => {
            saw(json!({ "refused": { "capability": capability, "wanted": wanted, "hint": hint } }))
        }
        Err(process::Error::NotFound(program)) => saw(json!({ "not-found": program })),
        Err(process::Error::TimedOut(completed)) => saw(json!({ "timed-out": text(&completed.stdout) })),
        Err(process::Error::Failed(reason)) => saw(json!({ "failed": reason })),
    }
}

/// Opens handles and never lets go of one.
#[cfg(target_arch = "wasm32")]
fn handles() -> ! {
    loop {
        std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn handles() -> ! {
    trap()
}

/// How many random bytes came back of so many that were asked for at once.
#[cfg(target_arch = "wasm32")]
fn random_bytes(bytes: u64) -> usize {
    wasip2::random::random::get_random_bytes(bytes).len()
}

#[cfg(not(target_arch = "wasm32"))]
fn random_bytes(_: u64) -> usize {
    0
}

#[cfg(target_arch = "wasm32")]
fn random() -> u64 {
    wasip2::random::random::get_random_u64()
}

#[cfg(not(target_arch = "wasm32"))]
fn random() -> u64 {
    0
}

/// Puts a symbolic link in the place of an empty directory.
#[cfg(target_arch = "wasm32")]
fn plant(path: &str, target: &str) -> Result<(), String> {
    std::fs::remove_dir(path).map_err(|error| error.to_string())?;
    let directories = wasip2::filesystem::preopens::get_directories();
    let below = |granted: &str| path.strip_prefix(granted)?.strip_prefix('/').map(str::to_owned);
    let (directory, rest) = directories
        .iter()
        .find_map(|(directory, granted)| Some((directory, below(granted)?)))
        .ok_or("it is in no granted directory")?;
    directory.symlink_at(target, &rest).map_err(|code| format!("{code:?}"))
}

#[cfg(not(target_arch = "wasm32"))]
fn plant(_: &str, _: &str) -> Result<(), String> {
    Err("natively there is no host".to_owned())
}

/// Sends a GET request for `/` and gives the status, or the name of what the host says instead.
#[cfg(target_arch = "wasm32")]
fn http_status(scheme: &str, authority: &str) -> Result<u16, String> {
    use wasip2::http::{outgoing_handler, types};

    let request = types::OutgoingRequest::new(types::Fields::new());
    let scheme = if scheme == "https" { types::Scheme::Https } else { types::Scheme::Http };
    let accepted = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/")));
    accepted.map_err(|()| "not a request".to_owned())?;
    let name = |code: types::ErrorCode| format!("{code:?}");
    let response = outgoing_handler::handle(request, None).map_err(name)?;
    response.subscribe().block();
    let response = response.get().ok_or("no response")?.map_err(|()| "taken twice".to_owned())?;
    response.map(|response| response.status()).map_err(name)
}

#[cfg(not(target_arch = "wasm32"))]
fn http_status(_: &str, _: &str) -> Result<u16, String> {
    Err("natively there is no host".to_owned())
}

/// Sends a request as the input has it, and gives what came back.
#[cfg(target_arch = "wasm32")]
fn request(input: &Input<'_>) -> Result<Value, String> {
    use wasip2::http::{outgoing_handler, types};
    use wasip2::io::streams::StreamError;

    let fields = types::Fields::new();
    for (name, value) in input.0["headers"].as_object().into_iter().flatten() {
        let value = told(input.text("as"), value.as_str().unwrap_or_default()).concat();
        fields.append(name, value.as_bytes()).map_err(|error| format!("the header {name}: {error:?}"))?;
    }
    let request = types::OutgoingRequest::new(fields);
    let method = types::Method::Other(match input.text("method") {
        "" => "GET".to_owned(),
        method => method.to_owned(),
    });
    let path = if input.text("path").is_empty() { "/" } else { input.text("path") };
    let scheme = if input.text("scheme") == "https" { types::Scheme::Https } else { types::Scheme::Http };
    let accepted = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(input.text("address"))))
        .and_then(|()| request.set_path_with_query(Some(path)));
    accepted.map_err(|()| "not a request".to_owned())?;
    let body = request.body().map_err(|()| "no body".to_owned())?;
    let name = |code: types::ErrorCode| format!("{code:?}");
    let response = outgoing_handler::handle(request, None).map_err(name)?;
    if !input.text("text").is_empty() {
        let stream = body.write().map_err(|()| "no stream".to_owned())?;
        // In two pieces, whatever is cut by that.
        let (start, end) = input.text("text").split_at(input.text("text").floor_char_boundary(20));
        for piece in [start, end] {
            stream.blocking_write_and_flush(piece.as_bytes()).map_err(|error| format!("{error:?}"))?;
        }
    }
    types::OutgoingBody::finish(body, None).map_err(name)?;
    response.subscribe().block();
    let response = response.get().ok_or("no response")?.map_err(|()| "taken twice".to_owned())?.map_err(name)?;
    let headers: Vec<String> = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
        .collect();
    let incoming = response.consume().map_err(|()| "taken twice".to_owned())?;
    let stream = incoming.stream().map_err(|()| "taken twice".to_owned())?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(piece) => body.extend(piece),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    Ok(json!({ "status": response.status(), "headers": headers, "body": String::from_utf8_lossy(&body) }))
}

#[cfg(not(target_arch = "wasm32"))]
fn request(_: &Input<'_>) -> Result<Value, String> {
    Err("natively there is no host".to_owned())
}
