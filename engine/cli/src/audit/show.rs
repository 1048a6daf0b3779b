//! `downbeat audit show`: what steps did with what they were granted, and what they were refused.

use super::uses::{self, Entry, What};
use crate::arguments::AuditShow;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::table::table;
use crate::talk;
use crate::units;

pub(crate) fn show(place: &Place, arguments: &AuditShow) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let mut rows = Vec::new();
    uses::each(&journal, &arguments.filter, |_, entries| {
        for entry in entries {
            match arguments.json {
                true => talk::put_json(&entry.json().to_string())?,
                false => rows.push(row(&entry)),
            }
        }
        Ok(())
    })?;
    if !arguments.json {
        match rows.is_empty() {
            true => talk::say("nothing was used, and nothing refused, that fits"),
            false => talk::put(&table(&["AT", "RUN", "STEP", "CAPABILITY", "WHAT", "ALLOWED BY"], &rows))?,
        }
    }
    Ok(Exit::Success)
}

fn row(entry: &Entry) -> Vec<String> {
    let step = match entry.attempt {
        1 => entry.step.clone(),
        attempt => format!("{} (attempt {attempt})", entry.step),
    };
    let by = match &entry.what {
        What::Used(used) => used.grant.clone(),
        What::Refused(_) => "refused".to_owned(),
    };
    let capability = entry.capability().to_owned();
    vec![units::time(entry.at), entry.run.to_string(), step, capability, entry.told(), by]
}
