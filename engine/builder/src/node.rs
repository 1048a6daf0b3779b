//! Which Node.js builds plugins in JavaScript: finding one, and installing one.
//!
//! The same split as for Rust: finding starts one process and changes nothing, installing runs a script that is part of
//! this library's code (`plugins/toolchain-javascript.sh`). Node runs the build only; what it builds runs in the sandbox
//! on an interpreter of its own.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{build::run_with_progress, environment::clean_command};

/// The oldest release that componentize-qjs runs on (`engines` in its package.json).
const NODE_MIN: u32 = 18;

const INSTALLER: &str = include_str!("../../../plugins/toolchain-javascript.sh");

/// A Node.js with its npm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Put in front of `PATH`, because npm looks for `node` there; `None` if it is there already.
    directory: Option<PathBuf>,
}

/// The ways to Node.js, as `plugins/toolchain-javascript.sh` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRoute {
    /// The one in `PATH` is recent enough.
    InUse,
    /// The directory that `plugins/toolchain-javascript.sh` unpacked from PyPI.
    Wheel,
}

impl NodeRoute {
    const ALL: [(&str, Self); 2] = [("in-use", Self::InUse), ("wheel", Self::Wheel)];

    fn from_report(report: &str) -> Option<Self> {
        let (name, _) = report.trim().split_once(": ")?;
        Self::ALL.into_iter().find_map(|(known, route)| (known == name).then_some(route))
    }
}

impl std::fmt::Display for NodeRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InUse => "the Node.js in use is recent enough",
            Self::Wheel => "Node.js was unpacked from PyPI into a directory of ours",
        })
    }
}

/// Why there is no Node.js for plugins.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Neither of the places that are looked into has one.
    #[error(
        "plugins in JavaScript are built by Node.js {NODE_MIN} or later with npm, and there is none: neither in PATH nor in {}\n  \
         hint: run `downbeat plugin toolchain javascript`, which installs it without root, or see https://nodejs.org\n  \
         hint: a workflow can also name a finished component: its path ends in .wasm",
        directory.display()
    )]
    Missing {
        /// The directory that the installer fills.
        directory: PathBuf,
    },
    /// The installer ended without a Node.js; its own words say why and what to do.
    #[error("Node.js could not be installed\n{0}")]
    Install(String),
    /// The installer is a bash script.
    #[error("`bash` could not be started to install Node.js: {0}\n  hint: install Node.js from https://nodejs.org")]
    Bash(#[source] io::Error),
}

impl Node {
    /// The one in `PATH`, or the one that the installer unpacked.
    pub(crate) fn find() -> Result<Self, NodeError> {
        let directory = directory();
        [Self { directory: None }, Self { directory: Some(directory.join("bin")) }]
            .into_iter()
            .find(Self::is_complete)
            .ok_or(NodeError::Missing { directory })
    }

    /// `node`.
    pub(crate) fn node(&self) -> Command {
        self.command("node")
    }

    /// `npm`.
    pub(crate) fn npm(&self) -> Command {
        self.command("npm")
    }

    fn command(&self, name: &str) -> Command {
        let Some(directory) = &self.directory else { return clean_command(name) };
        let mut command = clean_command(directory.join(name));
        let mut path = OsString::from(directory);
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        command.env("PATH", path);
        command
    }

    /// Whether npm is there is seen when it is needed; distributions that part it from node are told by its absence.
    fn is_complete(&self) -> bool {
        let answer = |mut command: Command| {
            let output = command.arg("--version").stdin(Stdio::null()).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        answer(self.node()).as_deref().and_then(major).is_some_and(|major| major >= NODE_MIN) && is_there(self, "npm")
    }
}

/// The first number of a version such as `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Whether a program is there, without starting it: npm takes a third of a second to tell its version.
fn is_there(node: &Node, name: &str) -> bool {
    match &node.directory {
        Some(directory) => directory.join(name).is_file(),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
        }
    }
}

/// Installs Node.js by whichever route works on this machine, unless there is one already. Downloads some 60 MB;
/// `progress` gets what the installer says, line by line.
pub fn install_node(progress: &mut dyn FnMut(&str)) -> Result<NodeRoute, NodeError> {
    let mut bash = clean_command("bash");
    bash.args(["-c", INSTALLER, "toolchain-javascript.sh"]);
    let ended = run_with_progress(&mut bash, progress).map_err(NodeError::Bash)?;
    match NodeRoute::from_report(&ended.stdout) {
        Some(route) if ended.status.success() => Ok(route),
        _ => Err(NodeError::Install(ended.stderr)),
    }
}

/// Where the installer puts it: the same rule as in `plugins/toolchain-javascript.sh`.
fn directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DOWNBEAT_NODE").unwrap_or_else(|| {
        variable("XDG_DATA_HOME")
            .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".local/share"))
            .join(Path::new("downbeat/node"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_report_names_the_route() {
        assert_eq!(NodeRoute::from_report("in-use: /usr/bin/node v20.20.2\n"), Some(NodeRoute::InUse));
        assert_eq!(NodeRoute::from_report("wheel: /somewhere v24.19.0\n"), Some(NodeRoute::Wheel));
        assert_eq!(NodeRoute::from_report("surprise: /somewhere\n"), None);
        assert_eq!(NodeRoute::from_report(""), None);
    }

    #[test]
    fn installer_and_engine_agree_on_routes_version_and_directory() {
        for (name, _) in NodeRoute::ALL {
            assert!(INSTALLER.contains(&format!("echo \"{name}: ")), "the installer never reports {name}");
        }
        assert!(INSTALLER.contains(&format!("\nNODE_MIN={NODE_MIN} ")));
        assert!(INSTALLER.contains("${DOWNBEAT_NODE:-${XDG_DATA_HOME:-$HOME/.local/share}/downbeat/node}"));
    }

    #[test]
    fn a_version_is_read_from_what_node_prints() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v0.10.48"), Some(0));
        assert_eq!(major("node: not found"), None);
    }
}
