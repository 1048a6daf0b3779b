//! Reading a file that may come from anywhere. Everything is held against the manifest, the manifest against the format, and
//! the run against itself: a plan whose numbers lead nowhere, or records that can't follow each other, are refused here, so
//! that whoever has a [`RecordedRun`] has one that could have been run.
//!
//! What a member's content is for is decided by its name, which is one of a few words or a digest, and never a path.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Record, RunId, Timestamp};
use downbeat_workflow::foreign;
use downbeat_workflow::history::History;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::run::Run;
use sha2::{Digest as _, Sha256};

use crate::manifest::{FORMAT, Kind, Line, MANIFEST, Manifest, VERSION};
use crate::tar;
use crate::write::outcome;

/// The largest manifest. 64 MiB: [`MEMBERS_MAX`] members, each on some lines.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The most members. 100,000 blobs are more than anybody keeps of one run.
pub const MEMBERS_MAX: usize = 100_000;

/// The largest text of a plan. 256 MiB: a hundred thousand steps have some 60.
pub const PLAN_BYTES_MAX: u64 = 256 << 20;

/// The longest text of one record. 512 MiB: an output has 256 MiB at most, and may be written with escapes.
pub const RECORD_BYTES_MAX: u64 = 512 << 20;

/// The most records, and the most lines of the log. Ten million: a run has a million steps at most.
pub const LINES_MAX: u64 = 10_000_000;

/// The longest id of a run. Ours have 14 characters.
const RUN_ID_MAX: usize = 64;

/// The last millisecond of the year 9999: what calendars of other programs end with.
const TIME_MAX: u64 = 253_402_300_799_999;

/// A run as a file has it.
#[derive(Clone, Debug)]
pub struct RecordedRun {
    /// What the file says of itself; all of it is true.
    pub manifest: Manifest,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its canonical text.
    pub plan_json: Arc<str>,
    /// All records; they can follow each other.
    pub records: Vec<Record>,
    /// The log.
    pub lines: Vec<Line>,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It could not be read.
    #[error("it can't be read: {0}")]
    Io(io::Error),
    /// It ends too soon.
    #[error("it ends in the middle of {0}: it was cut off on its way here")]
    Truncated(String),
    /// It does not begin as an exported run does.
    #[error("it is no exported run: it does not begin with {MANIFEST}")]
    Foreign,
    /// Another version of the format.
    #[error(
        "it has version {found} of the format, written by Downbeat {written_by}; this one reads up to version {VERSION}"
    )]
    Version {
        /// The version.
        found: u64,
        /// Of the program.
        written_by: String,
    },
    /// The manifest is not one.
    #[error("its {MANIFEST} says what can't be: {0}")]
    Manifest(String),
    /// What follows is not what the manifest says.
    #[error("{0} is not what {MANIFEST} says of it: {1}")]
    Member(String, &'static str),
    /// The plan is not one.
    #[error("its plan can't be one: {0}")]
    Plan(String),
    /// The records are not those of a run.
    #[error("its records can't be those of a run: {0}")]
    Records(String),
    /// The log is not one.
    #[error("its log can't be read: {0}")]
    Log(String),
    /// What was read could not be kept.
    #[error("{0} can't be kept: {1}")]
    Keep(String, io::Error),
}

/// Reads a file to its end. Each blob and component is given to `keep`, which reads what it wants of it; what it has kept is
/// right once this has returned a run, and not before.
pub fn read(
    from: &mut dyn Read,
    keep: &mut dyn FnMut(Kind, &Digest, &mut dyn Read) -> io::Result<()>,
) -> Result<RecordedRun, Refusal> {
    let mut from = BufReader::with_capacity(1 << 16, from);
    let manifest = manifest(&mut from)?;
    let (mut plan_json, mut records, mut lines) = (String::new(), Vec::new(), Vec::new());
    for member in &manifest.members {
        let name = &member.name;
        let header = tar::block(&mut from).map_err(|error| cut(error, name))?;
        if !tar::is_header(&header, name, member.bytes) {
            return Err(Refusal::Member(name.clone(), "another member is in its place, or one of another size"));
        }
        let mut content = Hashed { inner: (&mut from).take(member.bytes), hash: Sha256::new() };
        match member.kind().expect("the manifest was judged") {
            Kind::Plan => {
                let read = content.read_to_string(&mut plan_json);
                read.map_err(|error| unread(error, name, |error| Refusal::Plan(error.to_string())))?;
            }
            Kind::Records => each_line(&mut content, name, |text| records.push(record(text)))?,
            Kind::Log => each_line(&mut content, name, |text| lines.push(serde_json::from_slice::<Line>(text)))?,
            kind => keep(kind, &member.digest, &mut content).map_err(|error| Refusal::Keep(name.clone(), error))?,
        }
        io::copy(&mut content, &mut io::sink()).map_err(Refusal::Io)?;
        let Hashed { inner, hash } = content;
        if inner.limit() > 0 {
            return Err(Refusal::Truncated(name.clone()));
        }
        if Digest::from_sha256(hash.finalize().into()) != member.digest {
            return Err(Refusal::Member(name.clone(), "its content has another digest"));
        }
        after(&mut from, name, member.bytes)?;
    }
    for _ in 0..2 {
        let end = tar::block(&mut from).map_err(|error| cut(error, "the end of the archive"))?;
        if end != [0; tar::BLOCK] {
            return Err(Refusal::Manifest("the file has more members".to_owned()));
        }
    }
    // Whatever program has written more zeros; nothing else may follow.
    let mut rest = [0; tar::BLOCK];
    loop {
        match from.read(&mut rest).map_err(Refusal::Io)? {
            0 => break,
            read if rest[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Err(Refusal::Manifest("something follows the end of the archive".to_owned())),
        }
    }
    let lines = lines.into_iter().collect::<Result<Vec<Line>, _>>().map_err(|error| Refusal::Log(error.to_string()))?;
    let records = records.into_iter().collect::<Result<Vec<Record>, _>>().map_err(Refusal::Records)?;
    judge(manifest, plan_json, records, lines)
}

/// The manifest, judged by itself.
fn manifest(from: &mut dyn Read) -> Result<Manifest, Refusal> {
    let header = match tar::block(from) {
        Ok(header) => header,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Refusal::Foreign),
        Err(error) => return Err(Refusal::Io(error)),
    };
    let bytes =
        tar::size_in(&header).filter(|bytes| tar::is_header(&header, MANIFEST, *bytes)).ok_or(Refusal::Foreign)?;
    let wrong = |what: String| Refusal::Manifest(what);
    if bytes > MANIFEST_BYTES_MAX {
        return Err(wrong(format!("it has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")));
    }
    let mut text = Vec::new();
    from.take(bytes).read_to_end(&mut text).map_err(Refusal::Io)?;
    if (text.len() as u64) < bytes {
        return Err(Refusal::Truncated(MANIFEST.to_owned()));
    }
    after(from, MANIFEST, bytes)?;
    // The version before the rest, which may look otherwise in another one.
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if value["format"] != FORMAT {
        return Err(wrong(format!("`format` is not `{FORMAT}`")));
    }
    match value["version"].as_u64() {
        Some(found) if found == u64::from(VERSION) => {}
        Some(found) => {
            let written_by = value["written-by"].as_str().unwrap_or("of an unknown version").to_owned();
            return Err(Refusal::Version { found, written_by });
        }
        None => return Err(wrong("it has no `version`".to_owned())),
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    judge_manifest(&manifest).map_err(wrong)?;
    Ok(manifest)
}

fn judge_manifest(manifest: &Manifest) -> Result<(), String> {
    let id = &*manifest.run.0;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty() || id.len() > RUN_ID_MAX || !id.bytes().all(is_plain) || id.starts_with('-') {
        return Err(format!("the run's id is not up to {RUN_ID_MAX} lower-case letters, digits and `-`"));
    }
    if manifest.members.len() > MEMBERS_MAX {
        return Err(format!("it has more than {MEMBERS_MAX} members"));
    }
    if manifest.records > LINES_MAX || manifest.lines > LINES_MAX {
        return Err(format!("it has more than {LINES_MAX} records, or lines of the log"));
    }
    let mut names = BTreeSet::new();
    let mut kinds = Vec::with_capacity(manifest.members.len());
    for member in &manifest.members {
        let Some(kind) = member.kind() else { return Err(format!("there is no member `{}`", shown(&member.name))) };
        let most = if kind == Kind::Plan { PLAN_BYTES_MAX } else { tar::MEMBER_BYTES_MAX };
        if member.bytes > most {
            return Err(format!("{} has {} bytes, more than {most}", member.name, member.bytes));
        }
        if !names.insert(&member.name) {
            return Err(format!("{} is there twice", member.name));
        }
        if kind == Kind::Plan && member.digest != manifest.plan {
            return Err("the digest of the plan is not the plan's".to_owned());
        }
        kinds.push(kind);
    }
    match kinds.starts_with(&[Kind::Plan, Kind::Records, Kind::Log]) {
        true => Ok(()),
        false => Err("plan, records and log have to be its first members, in this order".to_owned()),
    }
}

/// A name that may be anything, in an error.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

/// The run, judged as a whole.
fn judge(
    manifest: Manifest,
    plan_json: String,
    records: Vec<Record>,
    lines: Vec<Line>,
) -> Result<RecordedRun, Refusal> {
    let wrong = |what: &str| Refusal::Records(what.to_owned());
    if records.len() as u64 != manifest.records || lines.len() as u64 != manifest.lines {
        return Err(Refusal::Manifest("the number of its records, or of its lines, is another one".to_owned()));
    }
    match records.first().map(|record| &record.event) {
        Some(Event::RunCreated { workflow, plan, .. }) => {
            if *workflow != manifest.workflow || *plan != manifest.plan {
                return Err(wrong("the first one is of another workflow or plan"));
            }
        }
        _ => return Err(wrong("the first one is not its creation")),
    }
    if outcome(&records) != manifest.outcome {
        return Err(wrong("they end otherwise than the manifest says"));
    }
    let is_late = |record: &Record| match &record.event {
        Event::StepReused { origin, .. } | Event::CacheHit { origin, .. } => record.at.max(origin.at).0 > TIME_MAX,
        _ => record.at.0 > TIME_MAX,
    };
    if records.iter().any(is_late) || lines.iter().any(|line| line.at.0 > TIME_MAX) {
        return Err(wrong("one is from after the year 9999"));
    }
    let plan = Arc::new(foreign::plan(&plan_json).map_err(Refusal::Plan)?);
    if let Event::RunCreated { priority, group, .. } = &records[0].event
        && !foreign::may_begin(&plan, *priority, group.as_deref())
    {
        return Err(wrong("the first one has a priority, or a group, that no run of its plan can have"));
    }
    // What no index and no number gives away: a plan that resolving would not have made. It is tried as whoever looks at the
    // run would try it; what breaks a promise that plans keep to each other ends in a panic, which is caught here.
    let run: RunId = manifest.run.clone();
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let replayed = Run::replay(plan.clone(), run, &records).map_err(|misplaced| misplaced.to_string());
        replayed.map(|_| drop(History::of(&plan, &records)))
    }));
    match tried {
        Ok(Ok(())) => {}
        Ok(Err(misplaced)) => return Err(Refusal::Records(misplaced)),
        Err(_) => return Err(Refusal::Plan("it does not hold together".to_owned())),
    }
    Ok(RecordedRun { manifest, plan, plan_json: plan_json.into(), records, lines })
}

fn record(text: &[u8]) -> Result<Record, String> {
    let pair: Result<(Timestamp, Event), _> = serde_json::from_slice(text);
    pair.map(|(at, event)| Record { at, event }).map_err(|error| error.to_string())
}

/// Gives `each` the lines of a text, without their ends.
fn each_line<R: Read>(content: &mut Hashed<R>, name: &str, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
    let mut content = BufReader::new(content);
    let (mut line, mut lines) = (Vec::new(), 0);
    loop {
        line.clear();
        (&mut content).take(RECORD_BYTES_MAX).read_until(b'\n', &mut line).map_err(Refusal::Io)?;
        match line.pop() {
            None => return Ok(()),
            Some(b'\n') if lines < LINES_MAX => lines += 1,
            _ => {
                return Err(Refusal::Member(
                    name.to_owned(),
                    "it has too many lines, a too long one, or no end of its last",
                ));
            }
        }
        each(&line);
    }
}

/// The zeros after a member.
fn after(from: &mut dyn Read, name: &str, bytes: u64) -> Result<(), Refusal> {
    let mut zeros = [0; tar::BLOCK];
    let zeros = &mut zeros[..tar::padding(bytes)];
    from.read_exact(zeros).map_err(|error| cut(error, name))?;
    match zeros.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Refusal::Member(name.to_owned(), "it is not followed by zeros")),
    }
}

fn cut(error: io::Error, name: &str) -> Refusal {
    unread(error, name, Refusal::Io)
}

fn unread(error: io::Error, name: &str, other: impl FnOnce(io::Error) -> Refusal) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::Truncated(name.to_owned()),
        _ => other(error),
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: io::Take<R>,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
