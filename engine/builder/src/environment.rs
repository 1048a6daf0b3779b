//! The environment that a nested cargo is started with.
//!
//! `downbeat` may itself run below a cargo (in tests, or by `cargo run`), which leaves variables behind that would pick
//! the wrong compiler, flags or target directory for a plugin, and would make the same source come out differently.

use std::{ffi::OsStr, process::Command};

/// Cargo's variables that say how to reach the world and how to talk, not what to build.
const KEPT: &[&str] = &["CARGO_HOME", "CARGO_BUILD_JOBS"];
const KEPT_PREFIXES: &[&str] =
    &["CARGO_TERM_", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];

/// A command that inherits everything but an outer cargo's choices.
pub(crate) fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(chooses_a_build) {
            command.env_remove(name);
        }
    }
    command
}

fn chooses_a_build(name: &str) -> bool {
    if KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    name == "CARGO"
        || name == "RUSTUP_TOOLCHAIN"
        || ["CARGO_", "RUSTC", "RUSTDOC", "RUSTFLAGS"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::chooses_a_build;

    #[test]
    fn what_an_outer_cargo_chose_is_not_inherited() {
        for name in [
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_WASM32_WASIP2_LINKER",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(chooses_a_build(name), "{name} must be removed");
        }
    }

    #[test]
    fn the_way_to_registries_and_the_users_taste_is_inherited() {
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_BUILD_JOBS",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "CARGO_TERM_COLOR",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
        ] {
            assert!(!chooses_a_build(name), "{name} must be kept");
        }
    }
}
