//! The first member of a file: what the others are. Names of members are no paths: they are these four words and digests.

use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Outcome, RunId, Timestamp};
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::StepId;
use serde::{Deserialize, Serialize};

/// What `format` says.
pub const FORMAT: &str = "downbeat-run";

/// The version that is written, and the latest that is read.
pub const VERSION: u32 = 1;

/// The first member's name.
pub(crate) const MANIFEST: &str = "manifest.json";

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// The version of the program that wrote it.
    pub written_by: String,
    /// The run.
    pub run: RunId,
    /// Its workflow's name.
    pub workflow: String,
    /// Of its plan.
    pub plan: Digest,
    /// How it ended; null while it has not.
    pub outcome: Option<Outcome>,
    /// How many records it has.
    pub records: u64,
    /// How many lines its log has.
    pub lines: u64,
    /// The other members, in their order.
    pub members: Vec<Member>,
}

/// A member of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its content.
    pub digest: Digest,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The canonical text of the plan.
    Plan,
    /// `[time, event]` as JSON, one a line.
    Records,
    /// [`Line`]s as JSON, one a line.
    Log,
    /// A blob, named by its digest.
    Blob,
    /// A component, likewise.
    Component,
}

impl Kind {
    /// The name of a member of this kind with this content.
    pub(crate) fn name(self, digest: &Digest) -> String {
        match self {
            Kind::Plan => "plan.json".to_owned(),
            Kind::Records => "records.jsonl".to_owned(),
            Kind::Log => "log.jsonl".to_owned(),
            Kind::Blob => format!("blobs/{}", digest.hex()),
            Kind::Component => format!("components/{}.wasm", digest.hex()),
        }
    }
}

impl Member {
    /// What the member is; `None` if its name is none that there is.
    pub fn kind(&self) -> Option<Kind> {
        let all = [Kind::Plan, Kind::Records, Kind::Log, Kind::Blob, Kind::Component];
        all.into_iter().find(|kind| kind.name(&self.digest) == self.name)
    }
}

/// A line of the run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Line {
    /// Whose.
    pub step: StepId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// How grave.
    pub level: Level,
    /// One line, without its end.
    pub message: String,
}
