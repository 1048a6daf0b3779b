//! A run there and back, and files that are not what was written: whatever is changed in one is refused, with words.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::io;

use downbeat_archive::{Kind, Line, Part, RecordedRun, Refusal, Run, read, write};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{PoolId, StepId};
use serde_json::json;

const BLOCK: usize = 512;

/// A plan of one step that waits.
fn plan() -> String {
    let retry = json!({ "attempts": 1, "delay-ms": 1000, "factor": 2.0, "max-delay-ms": 300_000, "jitter": true });
    let step = json!({ "name": "a", "work": { "wait": { "for-ms": 5 } }, "retry": retry });
    json!({ "name": "w", "directory": "/", "plugins": [], "steps": [step] }).to_string()
}

/// From its text, which later fields leave as it is.
fn created(plan: &str) -> Event {
    let digest = Digest::of(plan.as_bytes());
    let created = json!({ "workflow": "w", "plan": digest, "inputs": {}, "seed": 1 });
    serde_json::from_str(&json!({ "run-created": created }).to_string()).unwrap()
}

fn records() -> Vec<Record> {
    let empty = || Json::parse("{}").unwrap();
    let events = [
        created(&plan()),
        Event::StepOpened { step: StepId(0) },
        Event::StepSucceeded { step: StepId(0), output: Some(Json::parse(r#"{"by":"time"}"#).unwrap()) },
        Event::RunFinished { outcome: Outcome::Succeeded, outputs: empty(), faults: Vec::new() },
    ];
    (10..).zip(events).map(|(at, event)| Record { at: Timestamp(at), event }).collect()
}

fn lines() -> Vec<Line> {
    let line = |message: &str| Line {
        step: StepId(0),
        attempt: 1,
        at: Timestamp(11),
        level: Level::Info,
        message: message.to_owned(),
    };
    vec![line("one"), line("zwei\u{2028}süß")]
}

const BLOBS: [&[u8]; 2] = [b"hello", b""];

/// The file of this run, with these records and this plan.
fn file_of(plan: &str, records: &[Record]) -> Vec<u8> {
    let id = RunId("1jn7w80-zzzzzz".into());
    let blob = |content: &&[u8]| Part { kind: Kind::Blob, digest: Digest::of(content), bytes: content.len() as u64 };
    let component = Part { kind: Kind::Component, digest: Digest::of(b"wasm"), bytes: 4 };
    let parts = BLOBS.iter().map(blob).chain([component]).collect();
    let mut file = Vec::new();
    let run = Run { run: &id, plan_json: plan, records, lines: &lines() };
    let copied = write(run, parts, &mut file, &mut |part, to| {
        let content =
            BLOBS.into_iter().chain([&b"wasm"[..]]).find(|content| Digest::of(content) == part.digest).unwrap();
        to.write_all(content)?;
        Ok(content.len() as u64)
    });
    assert_eq!(copied.unwrap().members.len(), 6);
    file
}

fn file() -> Vec<u8> {
    file_of(&plan(), &records())
}

fn taken(file: &[u8]) -> Result<RecordedRun, Refusal> {
    read(&mut &*file, &mut |_, _, from| io::copy(from, &mut io::sink()).map(drop))
}

/// What is said of a file.
fn said(file: &[u8]) -> String {
    taken(file).expect_err("it is refused").to_string()
}

/// Where a member's header is.
fn header_of(file: &[u8], name: &str) -> usize {
    let begins = |block: &[u8]| block.starts_with(name.as_bytes()) && block[name.len()] == 0;
    file.chunks(BLOCK).position(begins).unwrap() * BLOCK
}

/// The file with another manifest, whose header fits it.
fn with_manifest(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let file = file();
    let plan = header_of(&file, "plan.json");
    let size = usize::from_str_radix(std::str::from_utf8(&file[124..135]).unwrap(), 8).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&file[BLOCK..BLOCK + size]).unwrap();
    change(&mut manifest);
    let text = serde_json::to_vec(&manifest).unwrap();
    let mut changed = file[..BLOCK].to_vec();
    changed[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
    sign(&mut changed);
    changed.extend(&text);
    changed.resize(changed.len().next_multiple_of(BLOCK), 0);
    changed.extend(&file[plan..]);
    changed
}

/// Makes a header's sum right again.
fn sign(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..BLOCK].iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn a_run_is_read_as_it_was_written_and_written_the_same_each_time() {
    let mut parts = Vec::new();
    let run = read(&mut &file()[..], &mut |kind, digest, from| {
        let mut content = Vec::new();
        from.read_to_end(&mut content)?;
        assert_eq!(Digest::of(&content), *digest);
        parts.push((kind, content));
        Ok(())
    });
    let run = run.unwrap();
    assert_eq!((&run.records, &run.lines, &*run.plan_json), (&records(), &lines(), &*plan()));
    assert_eq!((&*run.manifest.run.0, run.manifest.outcome), ("1jn7w80-zzzzzz", Some(Outcome::Succeeded)));
    parts.sort();
    assert_eq!(
        parts,
        [(Kind::Blob, b"".to_vec()), (Kind::Blob, b"hello".to_vec()), (Kind::Component, b"wasm".to_vec())]
    );
    assert_eq!(file(), file());
    assert!(read(&mut &file()[..], &mut |_, _, _| Ok(())).is_ok(), "who keeps nothing need not read");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let file = file();
    for length in (0..file.len()).step_by(97).chain([BLOCK, file.len() - 1, file.len() - BLOCK]) {
        let said = said(&file[..length]);
        assert!(!said.is_empty(), "{length}");
    }
    assert!(said(&file[..100]).contains("is no exported run"));
    assert!(said(&file[..file.len() - 1]).contains("ends in the middle of the end of the archive"));
}

#[test]
fn a_bit_that_is_changed_anywhere_is_noticed() {
    let file = file();
    let truth = taken(&file).unwrap();
    for at in (0..file.len()).step_by(7) {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        // What the manifest alone says, nothing else contradicts: the run's id, the version of the program.
        if let Ok(run) = taken(&changed) {
            assert!(run.manifest != truth.manifest && run.records == truth.records, "byte {at} was not looked at");
        }
    }
}

#[test]
fn names_that_are_paths_and_members_that_are_links_are_none() {
    for name in ["../evil", "/etc/passwd", "blobs/../../evil", "blobs/abc", "components/x", "manifest.json", ""] {
        let file = with_manifest(|manifest| manifest["members"][3]["name"] = name.into());
        assert!(said(&file).contains("there is no member"), "{name}");
    }
    let mut link = file();
    let at = header_of(&link, "records.jsonl");
    link[at + 156] = b'2';
    sign(&mut link[at..]);
    assert!(said(&link).contains("records.jsonl is not what manifest.json says of it"));
}

#[test]
fn sizes_and_digests_are_what_the_manifest_says_or_the_file_is_refused() {
    let size = |bytes: u64| with_manifest(move |manifest| manifest["members"][3]["bytes"] = bytes.into());
    assert!(said(&size(u64::MAX)).contains("more than"));
    assert!(said(&size(7)).contains("another member is in its place"));
    assert!(
        said(&with_manifest(|manifest| manifest["members"][0]["bytes"] = (1u64 << 32).into()))
            .contains("plan.json has")
    );
    let other = Digest::of(b"other").as_str().to_owned();
    let wrong = with_manifest(|manifest| manifest["members"][1]["digest"] = other.clone().into());
    assert!(
        said(&wrong).contains("records.jsonl is not what manifest.json says of it: its content has another digest")
    );
    let mut swapped = file();
    let at = header_of(&swapped, "plan.json") + BLOCK;
    swapped[at + 2] ^= 1;
    assert!(said(&swapped).contains("plan.json is not what"));
    assert!(said(&with_manifest(|manifest| manifest["plan"] = other.into())).contains("digest of the plan"));
    let twice = with_manifest(|manifest| {
        let again = manifest["members"][3].clone();
        manifest["members"].as_array_mut().unwrap().push(again);
    });
    assert!(said(&twice).contains("is there twice"));
    let mut more = file();
    more.extend(file());
    assert!(said(&more).contains("something follows the end"));
}

#[test]
fn another_format_version_or_manifest_is_told() {
    let newer = with_manifest(|manifest| {
        manifest["version"] = 2.into();
        manifest["written-by"] = "7.1.0".into();
        manifest["new"] = true.into();
    });
    assert!(
        said(&newer).contains("version 2 of the format, written by Downbeat 7.1.0; this one reads up to version 1")
    );
    assert!(said(&with_manifest(|manifest| manifest["new"] = true.into())).contains("unknown field `new`"));
    assert!(said(&with_manifest(|manifest| manifest["format"] = "x".into())).contains("`format` is not"));
    for run in ["", "..", "a/b", "A", "-a"] {
        assert!(
            said(&with_manifest(|manifest| manifest["run"] = run.into())).contains("the run's id is not up to"),
            "{run}"
        );
    }
    let orderless = with_manifest(|manifest| manifest["members"].as_array_mut().unwrap().swap(0, 1));
    assert!(said(&orderless).contains("in this order"));
    assert!(said(b"PK\x03\x04").contains("no exported run"));
    assert!(said(&[0; 4 * BLOCK]).contains("no exported run"));
}

#[test]
fn records_that_cannot_follow_each_other_and_plans_that_lead_nowhere_are_refused() {
    let mut twice = records();
    twice.insert(2, twice[1].clone());
    assert!(said(&file_of(&plan(), &twice)).starts_with("its records can't be those of a run"));
    let mut foreign = records();
    foreign[1].event = Event::StepOpened { step: StepId(4_000_000_000) };
    assert!(said(&file_of(&plan(), &foreign)).contains("can't be"));
    let mut late = records();
    late[3].at = Timestamp(u64::MAX);
    assert!(said(&file_of(&plan(), &late)).contains("the year 9999"));
    let mut grouped = records();
    if let Event::RunCreated { group, .. } = &mut grouped[0].event {
        *group = Some("site".to_owned());
    }
    assert!(said(&file_of(&plan(), &grouped)).contains("a group, that no run of its plan can have"));
    let mut paused = records();
    paused.insert(1, Record { at: Timestamp(10), event: Event::Unpaused { step: None } });
    assert!(said(&file_of(&plan(), &paused)).contains("can't be"));
    let mut queued = records();
    queued.insert(1, Record { at: Timestamp(10), event: Event::WaitQueued { step: StepId(0), pool: PoolId(9) } });
    assert!(said(&file_of(&plan(), &queued)).contains("can't be"));

    let bad_plan = plan().replace("\"for-ms\":5", "\"signal\":3");
    assert_ne!(bad_plan, plan());
    let mut records = records();
    if let Event::RunCreated { plan, .. } = &mut records[0].event {
        *plan = Digest::of(bad_plan.as_bytes());
    }
    assert!(said(&file_of(&bad_plan, &records)).contains("a signal that is none of the plan's"));
}
