//! The page for operators holds what the sources say: its tables of limits and exit codes are made from them, and its
//! table of variables lists those that they read.
//!
//! `DOWNBEAT_BLESS=1 cargo test -p downbeat-tests --test operators` writes the tables anew; the difference is the review.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use downbeat_tests::repository;
use downbeat_workflow::capability::Limits;
use regex::Regex;

const PAGE: &str = "docs/operators.md";

/// Held by whoever reads the page or writes it anew.
static TURN: Mutex<()> = Mutex::new(());

/// The bounds that an operator may meet: what it is called there, its source below `engine/`, and its name in it. For a
/// field, the name of the struct's default and of the field.
const LIMITS: &[(&str, &[Row])] = &[
    (
        "of one attempt, `limit` and `timeout` of its step",
        &[
            Row::Field("`limit.memory`", "memory", Unit::Bytes),
            Row::Field("`limit.table-elements`", "table_elements", Unit::Count),
            Row::Field("`limit.output`", "output", Unit::Bytes),
            Row::Field("`limit.log`", "log", Unit::Bytes),
            Row::Field("`limit.process-output`", "process_output", Unit::Bytes),
            Row::Field("`limit.artifact`", "artifact", Unit::Bytes),
            Row::Field("`limit.process-memory`", "process_memory", Unit::Bytes),
            Row::Field("`limit.process-cpu`", "process_cpu_ms", Unit::Ms),
            Row::Field("`limit.process-file`", "process_file", Unit::Bytes),
            Row::Field("`limit.processes`", "processes", Unit::Count),
            Row::Field("`timeout`", "time_ms", Unit::Ms),
        ],
    ),
    (
        "of every attempt",
        &[
            Row::Const("call stack of the guest", "sandbox/src/engine.rs", "GUEST_STACK", Unit::Bytes),
            Row::Const("one message from the guest to the host", "sandbox/src/store.rs", "MESSAGE_MAX", Unit::Bytes),
            Row::Const("handles at once", "sandbox/src/store.rs", "HANDLES_MAX", Unit::Count),
            Row::Const("refusals in the record", "sandbox/src/reach.rs", "REFUSALS_MAX", Unit::Count),
            Row::Const("uses with a record of their own", "sandbox/src/used.rs", "USES_RECORDED_MAX", Unit::Count),
            Row::Const("other uses that are told apart", "sandbox/src/used.rs", "USES_TOLD_MAX", Unit::Count),
            Row::Const("one line of the log", "sandbox/src/host/log.rs", "LINE_MAX", Unit::Bytes),
            Row::Const("lines of the log", "sandbox/src/host/log.rs", "LINES_MAX", Unit::Count),
            Row::Const("message of a failure", "sandbox/src/failure.rs", "MESSAGE_TEXT_MAX", Unit::Bytes),
            Row::Const("details of a failure", "sandbox/src/failure.rs", "DETAILS_MAX", Unit::Bytes),
            Row::Const("backtrace", "sandbox/src/failure.rs", "BACKTRACE_MAX", Unit::Bytes),
            Row::Const("connecting, unless the guest says", "sandbox/src/host/http.rs", "CONNECT_TIMEOUT", Unit::Span),
            Row::Const("an HTTP answer, unless the guest says", "sandbox/src/host/http.rs", "READ_TIMEOUT", Unit::Span),
            Row::Const("a secret", "workflow/src/secret.rs", "SECRET_BYTES_MAX", Unit::Bytes),
            Row::Const("telling a secret", "sandbox/src/secrets.rs", "COMMAND_MAX", Unit::Span),
            Row::Const("a time-out's exactness", "sandbox/src/engine.rs", "TICK", Unit::Span),
        ],
    ),
    (
        "of components",
        &[
            Row::Const("size", "sandbox/src/plugin.rs", "COMPONENT_MAX", Unit::Bytes),
            Row::Const("compilation", "sandbox/src/sandbox.rs", "COMPILE_MAX", Unit::Span),
            Row::Const("`describe`", "sandbox/src/sandbox.rs", "DESCRIBE_MAX", Unit::Span),
            Row::Const("functions", "sandbox/src/bulk.rs", "FUNCTIONS_MAX", Unit::Count),
            Row::Const("code of one function", "sandbox/src/bulk.rs", "FUNCTION_MAX", Unit::Bytes),
            Row::Const("locals times blocks of one function", "sandbox/src/bulk.rs", "JOINS_MAX", Unit::Count),
            Row::Const("values handed over in one function", "sandbox/src/bulk.rs", "TRANSFERS_MAX", Unit::Count),
            Row::Const("one schema", "sandbox/src/plugin.rs", "SCHEMA_MAX", Unit::Bytes),
        ],
    ),
    (
        "of workflows and runs",
        &[
            Row::Const("a workflow file", "workflow/src/spec.rs", "SOURCE_BYTES_MAX", Unit::Bytes),
            Row::Const("steps", "workflow/src/resolve.rs", "STEPS_MAX", Unit::Count),
            Row::Const("a name", "workflow/src/resolve.rs", "NAME_BYTES_MAX", Unit::Bytes),
            Row::Const("`retry.attempts`", "workflow/src/resolve/step.rs", "ATTEMPTS_MAX", Unit::Count),
            Row::Const("a guest's `retry-after`", "workflow/src/run.rs", "RETRY_AFTER_MAX_MS", Unit::Ms),
            Row::Const("items of a `foreach`", "workflow/src/run.rs", "ITEMS_MAX", Unit::Count),
            Row::Const("places of a pool", "workflow/src/plan.rs", "POOL_SIZE_MAX", Unit::Count),
            Row::Const("the number of a `rate`", "workflow/src/spec/quantity.rs", "RATE_COUNT_MAX", Unit::Count),
            Row::Const("`priority`, either way", "workflow/src/resolve/declared.rs", "PRIORITY_MAX", Unit::Count),
            Row::Const("the name of a group", "workflow/src/group.rs", "GROUP_BYTES_MAX", Unit::Bytes),
            Row::Const("rounds of a `repeat`", "workflow/src/resolve/step.rs", "ROUNDS_MAX", Unit::Count),
            Row::Const(
                "answers of a list's items together",
                "workflow/src/run/decide.rs",
                "ANSWERS_BYTES_MAX",
                Unit::Bytes,
            ),
            Row::Const("steps within steps, in a file", "workflow/src/spec/read.rs", "BLOCKS_NESTED_MAX", Unit::Count),
            Row::Const("templates like templates", "workflow/src/spec/expand.rs", "TEMPLATES_CHAINED_MAX", Unit::Count),
            Row::Const("vars made of vars", "workflow/src/spec/vars.rs", "VARS_CHAINED_MAX", Unit::Count),
            Row::Const(
                "what steps take over from templates, defaults and vars",
                "workflow/src/spec/expand.rs",
                "TAKEN_OVER_BYTES_MAX",
                Unit::Bytes,
            ),
            Row::Const("scopes within scopes", "workflow/src/run.rs", "SCOPE_DEPTH_MAX", Unit::Count),
            Row::Const("steps of a run, over all scopes", "workflow/src/run.rs", "RUN_STEPS_MAX", Unit::Count),
            Row::Const("signals that a run keeps", "workflow/src/run.rs", "SIGNALS_KEPT_MAX", Unit::Count),
            Row::Const("a run's inputs", "workflow/src/inputs.rs", "INPUTS_BYTES_MAX", Unit::Bytes),
            Row::Const(
                "a `with` with its holes filled",
                "workflow/src/rule/template.rs",
                "RENDERED_BYTES_MAX",
                Unit::Bytes,
            ),
            Row::Const("depth of JSON", "workflow/src/json.rs", "JSON_DEPTH_MAX", Unit::Count),
            Row::Const("length of a rule", "workflow/src/rule/expression.rs", "EXPRESSION_BYTES_MAX", Unit::Bytes),
            Row::Const("work of a rule", "workflow/src/rule/evaluate.rs", "EVALUATION_WORK_MAX", Unit::Count),
            Row::Const(
                "attempts of a run in flight without a pool",
                "conductor/src/drive.rs",
                "ATTEMPTS_IN_FLIGHT_MAX",
                Unit::Count,
            ),
            Row::Const(
                "entries of granted directories, with `cache`",
                "sandbox/src/surroundings.rs",
                "SURROUNDINGS_FILES_MAX",
                Unit::Count,
            ),
            Row::Const(
                "what their files hold, with `cache`",
                "sandbox/src/surroundings.rs",
                "SURROUNDINGS_BYTES_MAX",
                Unit::Bytes,
            ),
            Row::Const("an orderly stop", "conductor/src/drive.rs", "STOP_GRACE", Unit::Span),
        ],
    ),
    (
        "of the process and the journal",
        &[
            Row::Const("instances at once", "sandbox/src/sandbox.rs", "INSTANCES_MAX", Unit::Count),
            Row::Const("kept answers", "conductor/src/answers.rs", "ANSWERS_MAX", Unit::Count),
            Row::Const("kept answers together", "conductor/src/answers.rs", "ANSWERS_BYTES_MAX", Unit::Bytes),
            Row::Const("one kept answer", "conductor/src/answers.rs", "ANSWER_BYTES_MAX", Unit::Bytes),
            Row::Const("waiting for a lock on the database", "journal/src/storage.rs", "BUSY_TIMEOUT", Unit::Span),
            Row::Const("appends in one commit", "journal/src/writer.rs", "GROUP_MAX", Unit::Count),
            Row::Const("log lines that wait for the disk", "journal/src/queue.rs", "LAZY_WEIGHT_MAX", Unit::Bytes),
            Row::Const("what the write-ahead log keeps", "journal/src/storage.rs", "WAL_BYTES_KEPT", Unit::Bytes),
            Row::Const("seeing what another process asks", "journal/src/watcher.rs", "WATCH_INTERVAL", Unit::Span),
            Row::Const("a file named on the command line", "cli/src/files.rs", "FILE_BYTES_MAX", Unit::Bytes),
            Row::Const(
                "bytes of a workspace that `rerun` copies",
                "cli/src/workspace.rs",
                "WORKSPACE_COPY_BYTES_MAX",
                Unit::Bytes,
            ),
            Row::Const(
                "entries of a workspace that `rerun` copies",
                "cli/src/workspace.rs",
                "WORKSPACE_COPY_ENTRIES_MAX",
                Unit::Count,
            ),
            Row::Const("signers of a policy", "workflow/src/policy.rs", "SIGNERS_MAX", Unit::Count),
            Row::Const("a component's lists of crates", "builder/src/crates.rs", "LISTS_BYTES_MAX", Unit::Bytes),
            Row::Const("crates of a component", "builder/src/crates.rs", "CRATES_MAX", Unit::Count),
            Row::Const("waiting for a stalled reader", "cli/src/drive.rs", "READER_GRACE", Unit::Span),
            Row::Const("runs deleted in one transaction", "journal/src/upkeep.rs", "RUNS_DELETED_MAX", Unit::Count),
            Row::Const("room that is worth a new file", "journal/src/upkeep.rs", "EMPTY_BYTES_MIN", Unit::Bytes),
        ],
    ),
    (
        "of an exported run",
        &[
            Row::Const("its manifest", "archive/src/read.rs", "MANIFEST_BYTES_MAX", Unit::Bytes),
            Row::Const("members", "archive/src/read.rs", "MEMBERS_MAX", Unit::Count),
            Row::Const("its plan", "archive/src/read.rs", "PLAN_BYTES_MAX", Unit::Bytes),
            Row::Const("one record", "archive/src/read.rs", "RECORD_BYTES_MAX", Unit::Bytes),
            Row::Const("records, and lines of the log", "archive/src/read.rs", "LINES_MAX", Unit::Count),
        ],
    ),
];

enum Row {
    /// Of `Limits`.
    Field(&'static str, &'static str, Unit),
    Const(&'static str, &'static str, &'static str, Unit),
}

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Count,
    Ms,
    /// A `Duration`.
    Span,
}

#[test]
fn the_table_of_limits_is_what_the_sources_say() {
    let mut table = String::from("| bound | value | why |\n|---|---|---|\n");
    for (group, rows) in LIMITS {
        table.push_str(&format!("| **{group}** | | |\n"));
        for row in *rows {
            let (name, (value, why), unit) = match row {
                Row::Field(name, field, unit) => (name, limit(field), unit),
                Row::Const(name, file, constant, unit) => (name, constant_of(file, constant), unit),
            };
            table.push_str(&format!("| {name} | {} | {why} |\n", shown(value, *unit)));
        }
    }
    compare("limits", &table);
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let mut table = String::from("| code | meaning |\n|---|---|\n");
    for line in downbeat_cli::exit::EXIT_CODES.lines().skip(1) {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        table.push_str(&format!("| {code} | {} |\n", meaning.trim()));
    }
    compare("exit codes", &table);
}

#[test]
fn the_variables_are_those_that_the_sources_read() {
    let mut sources = Vec::new();
    for room in fs::read_dir(repository().join("engine")).unwrap() {
        files_below(&room.unwrap().path().join("src"), &mut sources);
    }
    let scripts = fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    sources.extend(scripts.filter(|path| path.extension().is_some_and(|extension| extension == "sh")));
    let variable = Regex::new("DOWNBEAT_[A-Z_]+").unwrap();
    let variables = |text: &str| variable.find_iter(text).map(|found| found.as_str().to_owned()).collect::<Vec<_>>();
    let read: BTreeSet<String> =
        sources.iter().flat_map(|path| variables(&fs::read_to_string(path).unwrap())).collect();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let page = fs::read_to_string(repository().join(PAGE)).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Variables\n")).unwrap();
    let first_cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let listed: BTreeSet<String> = first_cells.flat_map(variables).collect();
    assert!(read.len() >= 4, "{read:?}");
    assert_eq!(listed, read, "{PAGE} lists other variables than the sources read");
}

/// The files of a folder and those below it; none if there is no such folder.
fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => files_below(&path, files),
            false => files.push(path),
        }
    }
}

#[test]
fn the_pages_taplo_configuration_is_toml() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(repository().join(PAGE)).unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        toml::from_str::<toml::Table>(block).unwrap_or_else(|error| panic!("{block}\n{error}"));
    }
}

/// Holds what stands between the marks of a name against what should, or puts it there.
fn compare(name: &str, expected: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = repository().join(PAGE);
    let text = fs::read_to_string(&path).unwrap();
    let mark = text.find(&format!("<!-- {name}:")).expect("the table's mark is there");
    let begin = mark + text[mark..].find('\n').unwrap() + 1;
    let end = begin + text[begin..].find("<!-- end -->").expect("the table's end is marked");
    if std::env::var_os("DOWNBEAT_BLESS").is_some() {
        fs::write(&path, format!("{}{expected}{}", &text[..begin], &text[end..])).unwrap();
    } else {
        assert_eq!(&text[begin..end], expected, "{PAGE} is behind the sources (DOWNBEAT_BLESS=1 brings it up to date)");
    }
}

/// A field's default and what its documentation says.
fn limit(field: &str) -> (u64, String) {
    let usual = Limits::default();
    let limits = serde_json::to_value(&usual).unwrap();
    // Those that are not written when they are as usual.
    let unwritten = match field {
        "process_memory" => Some(usual.process_memory),
        "process_cpu_ms" => Some(usual.process_cpu_ms),
        "process_file" => Some(usual.process_file),
        "processes" => Some(usual.processes),
        _ => None,
    };
    let value = limits[field.replace('_', "-")]
        .as_u64()
        .or(unwritten)
        .unwrap_or_else(|| panic!("`Limits` has a number `{field}`"));
    let source = fs::read_to_string(repository().join("engine/workflow/src/capability.rs")).unwrap();
    (value, documentation(&source, &format!("pub {field}: u64,")))
}

/// A constant's value and what its documentation says.
fn constant_of(file: &str, name: &str) -> (u64, String) {
    let source = fs::read_to_string(repository().join("engine").join(file)).unwrap();
    let start = format!("const {name}: ");
    let line = source.lines().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{file} has no `{name}`"));
    let text = line.split_once(" = ").unwrap().1.split(';').next().unwrap();
    (value(text).unwrap_or_else(|| panic!("{file}: `{text}` is no simple number")), documentation(&source, &start))
}

/// The documentation of the line with this text, as one sentence or several, without its links.
fn documentation(source: &str, text: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let at = lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("nothing has `{text}`"));
    let above = lines[..at].iter().rev().skip_while(|line| line.trim().starts_with("#["));
    let above = above.map_while(|line| line.trim().strip_prefix("///"));
    let mut words: Vec<&str> = above.map(str::trim).collect();
    words.reverse();
    words.join(" ").replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// What a constant's right side comes to: products, shifts and durations of whole numbers. Durations in microseconds.
fn value(text: &str) -> Option<u64> {
    let text = text.trim();
    for (unit, factor) in [("from_secs", 1_000_000), ("from_millis", 1_000), ("from_micros", 1)] {
        if let Some(inner) = text.strip_prefix(&format!("Duration::{unit}(")) {
            return Some(value(inner.strip_suffix(')')?)? * factor);
        }
    }
    if let Some((left, right)) = text.split_once("<<") {
        return Some(value(left)? << value(right)?);
    }
    if let Some((left, right)) = text.split_once('*') {
        return Some(value(left)? * value(right)?);
    }
    text.replace('_', "").parse().ok()
}

fn shown(value: u64, unit: Unit) -> String {
    let largest = |units: &[(u64, &str)]| {
        let (size, name) = units.iter().find(|(size, _)| value >= *size && value.is_multiple_of(*size)).unwrap();
        format!("{} {name}", value / size)
    };
    match unit {
        Unit::Bytes => largest(&[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")]),
        Unit::Ms => shown(value * 1_000, Unit::Span),
        Unit::Span => largest(&[(3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"), (1, "µs")]),
        Unit::Count => {
            let digits = value.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
            groups.join(",")
        }
    }
}

#[test]
fn constants_are_read_as_the_compiler_does() {
    assert_eq!(value("64 << 20"), Some(64 << 20));
    assert_eq!(value("8 * 1024 * 1024"), Some(8 << 20));
    assert_eq!(value("Duration::from_millis(25)"), Some(25_000));
    assert_eq!(value("100_000"), Some(100_000));
    assert_eq!(value("STEPS_MAX as i64"), None);
    assert_eq!([shown(100_000, Unit::Count), shown(1 << 20, Unit::Bytes)], ["100,000", "1 MiB"]);
    assert_eq!([shown(3_600_000, Unit::Ms), shown(25_000, Unit::Span)], ["1 h", "25 ms"]);
}
