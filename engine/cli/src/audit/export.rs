//! `downbeat audit export`: uses and refusals for other programs, one JSON object a line: ours, or the logs of OpenTelemetry
//! (OTLP in JSON, a line for each run, as its file exporter writes it).

use downbeat_journal::RunSummary;
use downbeat_workflow::plan::Signer;
use downbeat_workflow::text::visible;
use serde_json::{Value, json};

use super::uses::{self, Entry, What};
use crate::arguments::{AuditExport, AuditFormat};
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;

/// Severities of the data model of OpenTelemetry's logs: INFO, WARN.
const INFO: (u8, &str) = (9, "INFO");
const WARN: (u8, &str) = (13, "WARN");

pub(crate) fn export(place: &Place, arguments: &AuditExport) -> Result<Exit, Fault> {
    let journal = place.observe()?;
    uses::each(&journal, &arguments.filter, |run, entries| match arguments.format {
        AuditFormat::Jsonl => entries.iter().try_for_each(|entry| talk::put_json(&entry.json().to_string())),
        AuditFormat::Otel => talk::put_json(&logs(run, &entries).to_string()),
    })?;
    Ok(Exit::Success)
}

/// A run's entries as one `ExportLogsServiceRequest`.
fn logs(run: &RunSummary, entries: &[Entry]) -> Value {
    let resource = [attribute("service.name", "downbeat"), attribute("downbeat.workflow", &run.workflow)];
    json!({ "resourceLogs": [{
        "resource": { "attributes": resource },
        "scopeLogs": [{
            "scope": { "name": "downbeat.audit", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": entries.iter().map(log).collect::<Vec<_>>(),
        }],
    }] })
}

fn log(entry: &Entry) -> Value {
    // 64-bit numbers are texts in the JSON form of protocol buffers.
    let nanoseconds = (u128::from(entry.at.0) * 1_000_000).to_string();
    let (severity, word, by) = match &entry.what {
        What::Used(used) if used.unset => (INFO, "looked for", attribute("downbeat.grant", &used.grant)),
        What::Used(used) => (INFO, "used", attribute("downbeat.grant", &used.grant)),
        What::Refused(refusal) => (WARN, "was refused", attribute("downbeat.hint", &refusal.hint)),
    };
    let is_unset = matches!(&entry.what, What::Used(used) if used.unset);
    let mut attributes = vec![
        attribute("downbeat.run", &entry.run.0),
        attribute("downbeat.step", &entry.step),
        json!({ "key": "downbeat.attempt", "value": { "intValue": entry.attempt.to_string() } }),
        attribute("downbeat.plugin", &entry.plugin),
        attribute("downbeat.component", entry.component.as_str()),
        attribute("downbeat.capability", entry.capability()),
        attribute("downbeat.what", entry.what()),
        json!({ "key": "downbeat.count", "value": { "intValue": entry.count().to_string() } }),
        json!({ "key": "downbeat.refused", "value": { "boolValue": matches!(entry.what, What::Refused(_)) } }),
        by,
    ];
    if !entry.signers.is_empty() {
        attributes.push(list("downbeat.signers", entry.signers.iter().map(Signer::to_string)));
    }
    if !entry.rules.is_empty() && matches!(entry.what, What::Used(_)) {
        attributes.push(list("downbeat.rules", entry.rules.iter().cloned()));
    }
    if is_unset {
        attributes.push(json!({ "key": "downbeat.unset", "value": { "boolValue": true } }));
    }
    let text = format!("{} {word} {}: {}", entry.step, entry.capability(), entry.told());
    json!({
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": severity.0,
        "severityText": severity.1,
        "body": { "stringValue": visible(&text, false) },
        "attributes": attributes,
    })
}

fn list(key: &str, texts: impl Iterator<Item = String>) -> Value {
    let values: Vec<Value> = texts.map(|text| json!({ "stringValue": text })).collect();
    json!({ "key": key, "value": { "arrayValue": { "values": values } } })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
