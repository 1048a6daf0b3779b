//! `downbeat export`: writes a run into one file. The file appears whole or not at all, and takes no other one's place.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use downbeat_archive::{Kind, Line, Part, Run, write};
use downbeat_conductor::Kept;
use downbeat_journal::{LogFilter, StateFilter};
use downbeat_workflow::description::digits_in;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::arguments::Export;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::resume::load_plan;
use crate::talk;
use crate::units;

pub(crate) fn export(place: &Place, arguments: &Export) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let found = find_run(&journal, arguments.run.as_deref(), StateFilter::Any)?;
    let id = &found.id;
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.downbeat")));
    let plan_json = journal.plan(&found.plan).map_err(Fault::engine)?;
    let records = journal.load(id).map_err(Fault::engine)?.records;
    let log = journal.load_log(id, LogFilter::default()).map_err(Fault::engine)?;
    let line = |(_, line): (u64, downbeat_journal::LogLine)| Line {
        step: line.step,
        attempt: line.attempt,
        at: line.at,
        level: line.level,
        message: line.message,
    };
    let lines: Vec<Line> = log.into_iter().map(line).collect();

    let kept = place.kept();
    let mut mentioned = HashSet::new();
    let mut look = |text: &str| {
        digits_in(text, |hex| {
            mentioned.insert(hex.to_owned());
        });
    };
    look(&plan_json);
    for record in &records {
        look(&serde_json::to_string(&record.event).expect("an event holds nothing that JSON can't"));
    }
    lines.iter().for_each(|line| look(&line.message));
    let blobs = kept.blobs_among(&mentioned).map_err(|error| Fault::engine(format!("the blobs: {error}")))?;
    let mut parts: Vec<Part> =
        blobs.into_iter().map(|blob| Part { kind: Kind::Blob, digest: blob.digest, bytes: blob.bytes }).collect();
    if arguments.components {
        for plugin in load_plan(&journal, id)?.plugins {
            let digest = plugin.component.digest;
            let (_, bytes) = kept.component(&digest).map_err(|error| {
                let message = format!("the component of the plugin `{}` is not kept any more: {error}", plugin.name);
                Fault::engine(message).hint("without --components, the run can be exported all the same")
            })?;
            parts.push(Part { kind: Kind::Component, digest, bytes });
        }
    }

    let run = Run { run: id, plan_json: &plan_json, records: &records, lines: &lines };
    let unwritten = |error: io::Error| Fault::engine(format!("{} can't be written: {error}", output.display()));
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Fault::engine(format!("there is no folder {}", folder.display())));
    }
    if output.exists() {
        return Err(taken(&output));
    }
    let mut file = NamedTempFile::new_in(folder).map_err(unwritten)?;
    let mut to = BufWriter::new(&mut file);
    let manifest = write(run, parts, &mut to, &mut |part, to| copy(&kept, part, to)).map_err(unwritten)?;
    to.flush().map_err(unwritten)?;
    drop(to);
    file.as_file().sync_all().map_err(unwritten)?;
    let bytes = file.as_file().metadata().map_err(unwritten)?.len();
    file.persist_noclobber(&output).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => taken(&output),
        _ => unwritten(error.error),
    })?;

    let count = |kind: Kind| manifest.members.iter().filter(|member| member.kind() == Some(kind)).count();
    if arguments.json {
        let object = json!({
            "run": id.to_string(),
            "file": output.display().to_string(),
            "bytes": bytes,
            "records": manifest.records,
            "lines": manifest.lines,
            "blobs": count(Kind::Blob),
            "components": count(Kind::Component),
        });
        talk::put_json(&object.to_string())?;
    } else {
        talk::say(format_args!(
            "run {id} is in {} ({}): records {}, lines of logs {}, blobs {}, components {}",
            output.display(),
            units::size(bytes),
            manifest.records,
            manifest.lines,
            count(Kind::Blob),
            count(Kind::Component),
        ));
        if manifest.outcome.is_none() {
            talk::say("it is not over: the file has it as far as it has come");
        }
    }
    Ok(Exit::Success)
}

fn taken(output: &Path) -> Fault {
    Fault::new(Exit::Usage, format!("{} is there already", output.display())).hint("choose another file with --output")
}

fn copy(kept: &Kept, part: &Part, to: &mut dyn io::Write) -> io::Result<u64> {
    match part.kind {
        Kind::Component => io::copy(&mut kept.component(&part.digest)?.0, to),
        _ => kept.copy_blob(&part.digest, to),
    }
}
