//! Which Rust toolchain compiles plugins: finding one, and installing one.
//!
//! Finding takes a tenth of a second and may add a target through rustup; it never does more. Installing runs
//! `plugins/toolchain.sh`, which is part of this library's code so that an installed `downbeat` has it at hand. Both look
//! for the composite toolchain in the same place.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{build::run_with_progress, environment::clean_command};

/// The target every plugin is compiled for: the compiler's output for it is a component already.
pub const TARGET: &str = "wasm32-wasip2";

const INSTALLER: &str = include_str!("../../../plugins/toolchain.sh");

/// A toolchain that has the standard library of [`TARGET`].
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// How it was found.
    pub route: Route,
    /// What identifies it in a stamp: a change in one of these files makes every component stale.
    pub(crate) files: Vec<PathBuf>,
    cargo: PathBuf,
    /// Named explicitly where it is not the compiler that `cargo` finds by itself.
    rustc: Option<PathBuf>,
}

impl Toolchain {
    /// A cargo of this toolchain, free of what an outer cargo left in the environment.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = clean_command(&self.cargo);
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
        }
        command
    }
}

/// The ways to a toolchain, as `plugins/toolchain.sh` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The toolchain in use has the target.
    InUse,
    /// `rustup target add` gave it to the toolchain in use.
    Rustup,
    /// The directory that `plugins/toolchain.sh` put together from Debian's packages.
    Composite,
}

impl Route {
    const ALL: [(&str, Self); 3] = [("in-use", Self::InUse), ("rustup", Self::Rustup), ("composite", Self::Composite)];

    fn from_report(report: &str) -> Option<Self> {
        let (name, _) = report.trim().split_once(": ")?;
        Self::ALL.into_iter().find_map(|(known, route)| (known == name).then_some(route))
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InUse => "the Rust toolchain in use has the target wasm32-wasip2",
            Self::Rustup => "rustup added the target wasm32-wasip2 to the Rust toolchain in use",
            Self::Composite => "put together from Debian's packages",
        })
    }
}

/// Why there is no toolchain for plugins.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// Neither of the places that [`toolchain`] looks into has the target.
    #[error(
        "no Rust toolchain here can compile plugins: neither the one in use nor {} has the standard library of {TARGET}\n  \
         hint: run `downbeat plugin toolchain`, which installs what is missing\n  \
         hint: a workflow can also name a finished component: its path ends in .wasm",
        composite.display()
    )]
    Missing {
        /// The composite toolchain's directory.
        composite: PathBuf,
    },
    /// The installer ended without a toolchain; its own words say why and what to do.
    #[error("the guest toolchain could not be installed\n{0}")]
    Install(String),
    /// The installer is a bash script.
    #[error(
        "`bash` could not be started to install the guest toolchain: {0}\n  hint: with rustup, run `rustup target add {TARGET}`"
    )]
    Bash(#[source] io::Error),
}

/// Finds the toolchain for the plugin in `folder` (its directory may choose one with a `rust-toolchain.toml`): the one in
/// use, the composite one, or the one in use after `rustup target add`.
pub fn toolchain(folder: &Path) -> Result<Toolchain, ToolchainError> {
    if let Some(files) = files_if_complete(Path::new("rustc"), folder) {
        return Ok(in_use(Route::InUse, files, folder));
    }
    let composite = composite_directory();
    let rustc = composite.join("bin/rustc");
    if let Some(mut files) = files_if_complete(&rustc, folder) {
        files.push(rustc.clone());
        return Ok(Toolchain {
            route: Route::Composite,
            files,
            cargo: composite.join("bin/cargo"),
            rustc: Some(rustc),
        });
    }
    let added = clean_command("rustup").args(["target", "add", TARGET]).current_dir(folder).output();
    if added.is_ok_and(|output| output.status.success())
        && let Some(files) = files_if_complete(Path::new("rustc"), folder)
    {
        return Ok(in_use(Route::Rustup, files, folder));
    }
    Err(ToolchainError::Missing { composite })
}

/// Installs a toolchain for plugins by whichever route works on this machine, unless there is one already. May take
/// minutes and download some 200 MB; `progress` gets what the installer says, line by line.
pub fn install_toolchain(progress: &mut dyn FnMut(&str)) -> Result<Route, ToolchainError> {
    let mut bash = clean_command("bash");
    bash.args(["-c", INSTALLER, "toolchain.sh"]).stdin(Stdio::null());
    let ended = run_with_progress(&mut bash, progress).map_err(ToolchainError::Bash)?;
    match Route::from_report(&ended.stdout) {
        Some(route) if ended.status.success() => Ok(route),
        _ => Err(ToolchainError::Install(ended.stderr)),
    }
}

/// Where the composite toolchain is: the same rule as in `plugins/toolchain.sh`.
pub(crate) fn composite_directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DOWNBEAT_GUEST_TOOLCHAIN").unwrap_or_else(|| {
        variable("XDG_DATA_HOME")
            .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".local/share"))
            .join("downbeat/guest-toolchain")
    })
}

fn in_use(route: Route, mut files: Vec<PathBuf>, folder: &Path) -> Toolchain {
    // rustup's choice: its default toolchain, or a file in or above the folder.
    let rustup = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".rustup")));
    files.extend(rustup.map(|home| home.join("settings.toml")));
    for directory in folder.ancestors() {
        files.extend(["rust-toolchain", "rust-toolchain.toml"].map(|name| directory.join(name)));
    }
    Toolchain { route, files, cargo: PathBuf::from("cargo"), rustc: None }
}

/// The compiler and the target's standard library, if both are there. `rustc` prints the library's directory whether or
/// not anything is installed in it, hence the look inside.
fn files_if_complete(rustc: &Path, folder: &Path) -> Option<Vec<PathBuf>> {
    let output = clean_command(rustc)
        .args(["--print", "sysroot", "--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let printed = String::from_utf8(output.stdout).ok()?;
    let (sysroot, library_directory) = printed.trim_end().split_once('\n')?;
    let library = fs::read_dir(library_directory).ok()?.flatten().find(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
    })?;
    Some(vec![Path::new(sysroot).join("bin/rustc"), library.path()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_report_names_the_route() {
        assert_eq!(Route::from_report("in-use: /somewhere has wasm32-wasip2\n"), Some(Route::InUse));
        assert_eq!(Route::from_report("rustup: added wasm32-wasip2 to /somewhere\n"), Some(Route::Rustup));
        assert_eq!(Route::from_report("composite: /somewhere\n"), Some(Route::Composite));
        assert_eq!(Route::from_report("surprise: /somewhere\n"), None);
        assert_eq!(Route::from_report(""), None);
    }

    #[test]
    fn installer_and_engine_agree_on_routes_target_and_directory() {
        for (name, _) in Route::ALL {
            assert!(INSTALLER.contains(&format!("echo \"{name}: ")), "the installer never reports {name}");
        }
        assert!(INSTALLER.contains(&format!("\nTARGET={TARGET}\n")));
        assert!(
            INSTALLER
                .contains("${DOWNBEAT_GUEST_TOOLCHAIN:-${XDG_DATA_HOME:-$HOME/.local/share}/downbeat/guest-toolchain}")
        );
    }

    #[test]
    fn a_compiler_that_is_not_there_is_no_toolchain() {
        assert!(files_if_complete(Path::new("/nonexistent/rustc"), Path::new("/")).is_none());
    }
}
