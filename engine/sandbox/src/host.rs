//! What a component may import: one file for each interface, and here the list of them. Nothing else can be linked, and
//! every function asks for its grant by itself (`reach.rs`), so that linking grants nothing.

pub(crate) mod artifacts;
pub(crate) mod http;
pub(crate) mod items;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod progress;
mod secrets;
pub(crate) mod wasi;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings;
use crate::secrets::Vault;
use crate::store::State;
use artifacts::Artifacts;
use process::Spawner;

/// What the host interfaces keep for the life of the sandbox.
pub(crate) struct Host {
    pub(crate) artifacts: Artifacts,
    pub(crate) spawner: Spawner,
    /// Where each program gets a directory of its own.
    pub(crate) scratch: PathBuf,
    /// The secrets that were read.
    pub(crate) vault: Vault,
    /// What no grant may reach. Absolute.
    pub(crate) reserved: Arc<[PathBuf]>,
}

impl Host {
    pub(crate) fn new(artifacts: PathBuf, scratch: PathBuf, reserved: Vec<PathBuf>) -> io::Result<Host> {
        Ok(Host {
            artifacts: Artifacts::new(artifacts),
            spawner: Spawner::start()?,
            scratch,
            vault: Vault::default(),
            reserved: reserved.into(),
        })
    }
}

/// The interfaces that can be imported, with the versions that are compatible.
const OFFERED: &[(&str, &str, &[&str])] = &[
    ("downbeat:step", "0.1.", &["artifacts", "items", "log", "process", "progress", "types"]),
    (
        "wasi:cli",
        "0.2.",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
    ("wasi:clocks", "0.2.", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:http", "0.2.", &["outgoing-handler", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:random", "0.2.", &["insecure", "insecure-seed", "random"]),
    (
        "wasi:sockets",
        "0.2.",
        &["instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    ),
];

/// Whether an import of this name (`package/interface@version`) can be met at all.
pub(crate) fn offers(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = interface.split_once('/') else { return false };
    OFFERED.iter().any(|(name, track, interfaces)| {
        *name == package && version.starts_with(track) && interfaces.contains(&interface)
    })
}

/// Links all of it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::Plugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    wasi::link(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::Engine;
    use wasmtime::component::Component;

    #[test]
    fn everything_on_the_list_is_linked() {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        link(&mut linker).unwrap();
        for (package, track, interfaces) in OFFERED {
            for interface in *interfaces {
                let name = format!("{package}/{interface}@{track}0");
                assert!(offers(&name));
                let component = wat::parse_str(format!("(component (import \"{name}\" (instance)))")).unwrap();
                let component = Component::from_binary(&engine, &component).unwrap();
                linker.instantiate_pre(&component).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            }
        }
    }

    #[test]
    fn other_names_and_versions_are_not_offered() {
        for name in ["wasi:io/poll@0.3.0", "wasi:io/poll", "wasi:nn/tensor@0.2.0", "downbeat:step/step@0.1.0", "env"] {
            assert!(!offers(name), "{name}");
        }
        assert!(offers("wasi:io/poll@0.2.99"));
    }
}
