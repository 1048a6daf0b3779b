//! How grave a line of an attempt's log is: the one word that the guest, the journal and the screen share about it. The
//! lines themselves are no events; they decide nothing.

use serde::{Deserialize, Serialize};

/// How grave a line is; later is graver. The levels of the host interface `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every detail, for whoever debugs the step.
    Trace,
    /// For whoever debugs the workflow.
    Debug,
    /// What happens; also what the guest writes to standard output.
    Info,
    /// May be wrong; also what the guest writes to standard error.
    Warn,
    /// Is wrong.
    Error,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Level; 5] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// Its name, as in the WIT.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}
