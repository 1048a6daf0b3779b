//! `downbeat audit show`: what steps did with what they were granted, and what they were refused.

use super::uses::{self, Entry, What};
use crate::arguments::AuditShow;
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::table::table;
use crate::talk;
use crate::units;

/// The column that is left out where nothing is signed.
const SIGNED_BY: usize = 3;

pub(crate) fn show(place: &Place, arguments: &AuditShow) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    let (mut rows, mut is_any_signed) = (Vec::new(), false);
    uses::each(&journal, &arguments.filter, |_, entries| {
        for entry in entries {
            match arguments.json {
                true => talk::put_json(&entry.json().to_string())?,
                false => {
                    is_any_signed |= !entry.signers.is_empty();
                    rows.push(row(&entry));
                }
            }
        }
        Ok(())
    })?;
    if !arguments.json {
        match rows.is_empty() {
            true => talk::say("nothing was used, and nothing refused, that fits"),
            false => {
                let mut headings = vec!["AT", "RUN", "STEP", "SIGNED BY", "CAPABILITY", "WHAT", "ALLOWED BY"];
                if !is_any_signed {
                    headings.remove(SIGNED_BY);
                    rows.iter_mut().for_each(|row| drop(row.remove(SIGNED_BY)));
                }
                talk::put(&table(&headings, &rows))?;
            }
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
        What::Used(used) if entry.rules.is_empty() => used.grant.clone(),
        What::Used(used) => format!("{}, {}", used.grant, entry.rules.join(", ")),
        What::Refused(_) => "refused".to_owned(),
    };
    let capability = entry.capability().to_owned();
    let signers = uses::in_a_line(&entry.signers);
    vec![units::time(entry.at), entry.run.to_string(), step, signers, capability, entry.told(), by]
}
