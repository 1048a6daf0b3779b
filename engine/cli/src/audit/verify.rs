//! `downbeat audit verify`: holds the journal against its chain of hashes, and against a checkpoint that was kept elsewhere.

use downbeat_journal::{Difference, StateFilter, Verified};
use serde_json::{Value, json};

use super::checkpoint::{self, hex};
use crate::arguments::AuditVerify;
use crate::exit::{Exit, Fault};
use crate::place::{Place, find_run};
use crate::talk;
use crate::units::counted;

pub(crate) fn verify(place: &Place, arguments: &AuditVerify) -> Result<Exit, Fault> {
    let mark = match (&arguments.checkpoint, &arguments.key) {
        (Some(file), Some(key)) => Some(checkpoint::read(file, key)?),
        _ => None,
    };
    let journal = place.observe()?;
    let verified = match &arguments.run {
        Some(run) => journal.verify_run(&find_run(&journal, Some(run), StateFilter::Any)?.id),
        None => journal.verify(mark.as_ref()),
    };
    let verified = verified.map_err(Fault::engine)?;
    match arguments.json {
        true => talk::put_json(&json(&verified).to_string())?,
        false => {
            let text: String = verified.differences.iter().map(|difference| format!("{difference}\n")).collect();
            talk::put(&text)?;
        }
    }
    if verified.is_whole() {
        if !arguments.json {
            talk::say(good(&verified, mark.is_some()));
        }
        return Ok(Exit::Success);
    }
    let count = verified.differences.len() as u64 + verified.more;
    let more = if verified.more > 0 {
        format!(" (the first {} are listed)", verified.differences.len())
    } else {
        String::new()
    };
    let places = if count == 1 { "one place".to_owned() } else { format!("{count} places") };
    let message = format!("the journal is not as it was written, in {places}{more}");
    Err(Fault::new(Exit::Changed, message).hint("docs/security.md tells what each kind of difference means"))
}

/// That all is well, and what that means.
fn good(verified: &Verified, is_checked: bool) -> String {
    let Verified { records, runs, deleted, since, mark, .. } = verified;
    let records = counted(*records, "record");
    let Some(mark) = mark else { return format!("{records} of the run are as they were written") };
    let mut text = format!("{records} of {} are as they were written", counted(*runs, "run"));
    if *deleted > 0 {
        text.push_str(&format!(", and so are the notes of {}", counted(*deleted, "deleted run")));
    }
    text.push_str(&format!("\nchain at position {}: {}", mark.position.0, hex(&mark.chain)));
    if since.0 > 0 {
        text.push_str(&format!(
            "\nrecords up to position {} were there before the chain began: they are as they were then",
            since.0
        ));
    }
    text.push_str(match is_checked {
        true => "\nnothing that the checkpoint stands for was removed or written anew",
        false => {
            "\nwhether the end was cut off, or all of it written anew, is only told by a checkpoint: --checkpoint FILE"
        }
    });
    text
}

fn json(verified: &Verified) -> Value {
    let span = |span: Option<(u64, u64)>| span.map(|(first, last)| json!([first, last]));
    let difference = |difference: &Difference| {
        json!({
            "kind": difference.kind.word(),
            "run": difference.run.as_ref().map(ToString::to_string),
            "records": span(difference.records),
            "positions": span(difference.positions),
            "message": difference.to_string(),
        })
    };
    json!({
        "whole": verified.is_whole(),
        "records": verified.records,
        "runs": verified.runs,
        "deleted": verified.deleted,
        "since": verified.since.0,
        "position": verified.mark.as_ref().map(|mark| mark.position.0),
        "chain": verified.mark.as_ref().map(|mark| hex(&mark.chain)),
        "differences": verified.differences.iter().map(difference).collect::<Vec<_>>(),
        "more": verified.more,
    })
}
