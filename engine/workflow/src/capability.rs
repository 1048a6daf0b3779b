//! What a step may do and how much of it: grants and limits, as values that the plan carries and the sandbox enforces.
//!
//! Nothing here decides anything; the four keys (wanted, granted, allowed, pinned) are turned in `resolve`.

use serde::{Deserialize, Serialize};

use crate::description::Want;

/// What the workflow lets a step reach, already narrowed to what its component wants. Empty by default: nothing is
/// ambient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Grants {
    /// Programs by the exact name or path that the guest may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<String>,
    /// Directories, each visible to the guest under the path given here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileGrant>,
    /// Hosts that HTTP requests may go to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Names of the engine's environment variables that the guest and its programs see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The real clocks instead of fixed ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clock: bool,
    /// Real randomness instead of a fixed sequence.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub random: bool,
    /// The store of blobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub artifacts: bool,
    /// The run's own directory, shared by the run's steps: `/workspace` in the guest, the working directory of programs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub workspace: bool,
}

impl Grants {
    /// Whether anything of the capability of this name is granted.
    pub fn has(&self, capability: &str) -> bool {
        match capability {
            "process" => !self.process.is_empty(),
            "files" => !self.files.is_empty(),
            "http" => !self.http.is_empty(),
            "env" => !self.env.is_empty(),
            "clock" => self.clock,
            "random" => self.random,
            "artifacts" => self.artifacts,
            "workspace" => self.workspace,
            _ => false,
        }
    }

    /// Why an attempt may answer differently from the same input, or do something that a kept answer would not: the first
    /// such grant, and the reason. `None` of what may be cached: variables and directories that are only read are part of
    /// what an answer depends on.
    pub fn impurity(&self) -> Option<(&'static str, &'static str)> {
        let writes = self.files.iter().any(|file| file.write);
        let impure = [
            ("process", !self.process.is_empty(), "a program may do anything, and nobody knows what it reads"),
            ("http", !self.http.is_empty(), "what is out there changes, and may be changed"),
            ("files", writes, "what it writes would not be written again"),
            ("workspace", self.workspace, "what it writes there would be missing in another run"),
            ("clock", self.clock, "the time is another one each time"),
            ("random", self.random, "it is another number each time"),
            ("artifacts", self.artifacts, "a blob that the answer names may be gone by then"),
        ];
        impure.into_iter().find(|(_, is_granted, _)| *is_granted).map(|(name, _, reason)| (name, reason))
    }

    /// What a component wants and has nothing of, in its own order. Programs, hosts and blobs are refused when it asks;
    /// the others are absent, and nothing tells that it looked.
    pub fn withheld(&self, wants: &[Want]) -> Vec<String> {
        wants.iter().map(|want| want.capability.clone()).filter(|capability| !self.has(capability)).collect()
    }
}

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// As written in the workflow; relative paths start at the workflow's folder. The guest sees the directory under
    /// this very text.
    pub path: String,
    /// Whether the guest may change what is there.
    #[serde(default)]
    pub write: bool,
}

/// One destination: `host`, `host:port`. Without a port, 80 for `http` and 443 for `https`. Port `*` allows any.
/// Text such as `127.0.0.1:*`, `api.example.org`, `[::1]:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HttpGrant(pub String);

/// The bounds of one attempt, in bytes where not said otherwise. Each is enforced by the sandbox and reported in the
/// attempt's [`Usage`](crate::event::Usage).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of all the component's memories together. 256 MiB: several times what the runtimes of Go (3 MB),
    /// JavaScript (2 MB) or Python (12 MB) start with, and eight such steps fit into a small machine.
    pub memory: u64,
    /// Elements of all the component's tables together. 100,000: a CPython component has some 10,000.
    pub table_elements: u64,
    /// The step's output. 16 MiB: outputs are journaled and travel through rules; larger things are artifacts.
    pub output: u64,
    /// Kept log text. 1 MiB: about 10,000 lines, more than anybody reads; the rest is counted and dropped.
    pub log: u64,
    /// What is kept of the end of each of a native program's two outputs. 1 MiB, for the same reason.
    pub process_output: u64,
    /// One artifact. 1 GiB: a container image's layer or a debug build fits.
    pub artifact: u64,
    /// Wall time of one attempt in milliseconds when the step sets no `timeout`. One hour: a forgotten endless loop ends
    /// on the same day.
    pub time_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        const MIB: u64 = 1 << 20;
        Limits {
            memory: 256 * MIB,
            table_elements: 100_000,
            output: 16 * MIB,
            log: MIB,
            process_output: MIB,
            artifact: 1024 * MIB,
            time_ms: 3_600_000,
        }
    }
}
