//! Writing a file. The same run gives the same bytes: members are sorted, and nothing of this machine is in them.

use std::io::{self, Write};

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Event, Outcome, Record, RunId};

use crate::manifest::{FORMAT, Kind, Line, MANIFEST, Manifest, Member, VERSION};
use crate::tar;

/// A run to be written.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// Its plan's canonical text.
    pub plan_json: &'a str,
    /// All of its records.
    pub records: &'a [Record],
    /// All lines of its log.
    pub lines: &'a [Line],
}

/// A blob or a component to be written with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// [`Kind::Blob`] or [`Kind::Component`].
    pub kind: Kind,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Writes the run with its parts. `copy` writes the content of a part, and fails if it is not what its digest says.
///
/// # Panics
/// If the run has no records: each begins with one.
pub fn write(
    run: Run<'_>,
    mut parts: Vec<Part>,
    to: &mut dyn Write,
    copy: &mut dyn FnMut(&Part, &mut dyn Write) -> io::Result<u64>,
) -> io::Result<Manifest> {
    parts.sort();
    parts.dedup();
    let Some(Event::RunCreated { workflow, plan, .. }) = run.records.first().map(|record| &record.event) else {
        panic!("a run's first record is its creation")
    };
    let mut records = Vec::new();
    for record in run.records {
        serde_json::to_writer(&mut records, &(record.at, &record.event))?;
        records.push(b'\n');
    }
    let mut log = Vec::new();
    for line in run.lines {
        serde_json::to_writer(&mut log, line)?;
        log.push(b'\n');
    }
    let texts = [(Kind::Plan, run.plan_json.as_bytes()), (Kind::Records, &records), (Kind::Log, &log)];
    let member = |kind: Kind, digest: Digest, bytes| Member { name: kind.name(&digest), bytes, digest };
    let of_texts = texts.iter().map(|(kind, text)| member(*kind, Digest::of(text), text.len() as u64));
    let of_parts = parts.iter().map(|part| member(part.kind, part.digest.clone(), part.bytes));
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.run.clone(),
        workflow: workflow.clone(),
        plan: plan.clone(),
        outcome: outcome(run.records),
        records: run.records.len() as u64,
        lines: run.lines.len() as u64,
        members: of_texts.chain(of_parts).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    for (name, text) in std::iter::once((MANIFEST, &text[..]))
        .chain(texts.iter().zip(&manifest.members).map(|((_, text), member)| (member.name.as_str(), *text)))
    {
        let bytes = text.len() as u64;
        refuse_too_large(name, bytes)?;
        to.write_all(&tar::header(name, bytes))?;
        to.write_all(text)?;
        tar::pad(to, bytes)?;
    }
    for (part, member) in parts.iter().zip(&manifest.members[texts.len()..]) {
        refuse_too_large(&member.name, part.bytes)?;
        to.write_all(&tar::header(&member.name, part.bytes))?;
        let copied = copy(part, to)?;
        if copied != part.bytes {
            return Err(io::Error::other(format!("{} has {copied} bytes, not {}", member.name, part.bytes)));
        }
        tar::pad(to, part.bytes)?;
    }
    tar::end(to)?;
    Ok(manifest)
}

fn refuse_too_large(name: &str, bytes: u64) -> io::Result<()> {
    match bytes > tar::MEMBER_BYTES_MAX {
        true => {
            Err(io::Error::other(format!("{name} has {bytes} bytes, and a member at most {}", tar::MEMBER_BYTES_MAX)))
        }
        false => Ok(()),
    }
}

/// How the run ended, as its records say.
pub(crate) fn outcome(records: &[Record]) -> Option<Outcome> {
    records.iter().rev().find_map(|record| match record.event {
        Event::RunFinished { outcome, .. } => Some(outcome),
        _ => None,
    })
}
