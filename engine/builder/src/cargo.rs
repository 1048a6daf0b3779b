//! A plugin in Rust: from its folder to its component.
//!
//! cargo does the work and keeps its own counsel about what must be compiled again; this file finds out what to ask it
//! for and hands on what it says. It deliberately has no options: a plugin's profile, features and dependencies are its
//! manifest's business.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    build::{Artifact, BuildError, Source, run_with_progress},
    crates::{self, Kind},
    environment::clean_command,
    stamp,
    toolchain::{TARGET, Toolchain, composite_directory, toolchain},
};

/// What makes a folder a plugin in Rust.
pub(crate) const MANIFEST: &str = "Cargo.toml";

/// What cargo and the toolchain know about the plugin before it is built.
pub(crate) struct Plugin {
    folder: PathBuf,
    package_id: String,
    workspace_root: PathBuf,
    target_directory: PathBuf,
    toolchain: Toolchain,
}

impl Source for Plugin {
    fn stamp_path(&self) -> PathBuf {
        stamp::path_in(&self.target_directory, &self.folder)
    }

    fn compile(&self, progress: &mut dyn FnMut(&str)) -> Result<Artifact, BuildError> {
        let Compiled { component, fresh, mut crates } = self.ask_cargo(progress)?;
        crates.take_in_tree(&self.tree()?);
        let unreadable = |error| BuildError::Component { folder: self.folder.clone(), error };
        let inputs = self.inputs(&component).map_err(unreadable)?;
        let component = with_crates(&component, &crates).map_err(unreadable)?;
        Ok(Artifact { component, fresh, inputs })
    }
}

/// Where the component that says of what it is made lies: beside cargo's, which cargo puts in its place again whenever it is
/// asked. Another process may be about to read it.
const LISTED: &str = "downbeat";

/// Writes the component with the list of its crates, unless it is there already.
fn with_crates(component: &Path, crates: &crates::Compiled) -> io::Result<PathBuf> {
    let bytes = crates.listed_in(&fs::read(component)?);
    let folder = component.parent().unwrap_or(Path::new("")).join(LISTED);
    let listed = folder.join(component.file_name().unwrap_or_default());
    if fs::read(&listed).is_ok_and(|there| there == bytes) {
        return Ok(listed);
    }
    fs::create_dir_all(&folder)?;
    let aside = listed.with_extension(format!("{}.new", std::process::id()));
    fs::write(&aside, bytes)?;
    fs::rename(&aside, &listed)?;
    Ok(listed)
}

/// What cargo says that it made.
struct Compiled {
    component: PathBuf,
    fresh: bool,
    crates: crates::Compiled,
}

impl Plugin {
    /// Asks cargo what the folder with this manifest is, and finds a toolchain for it.
    pub(crate) fn read(folder: &Path) -> Result<Self, BuildError> {
        let manifest = folder.join(MANIFEST);
        let output = clean_command("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(folder)
            .output()
            .map_err(BuildError::Cargo)?;
        let unreadable = |stderr: String| BuildError::Manifest { folder: folder.to_owned(), stderr };
        if !output.status.success() {
            return Err(unreadable(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| unreadable(error.to_string()))?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == manifest))
            .ok_or_else(|| BuildError::NoPackage { folder: folder.to_owned() })?;
        if !package.targets.iter().any(MetadataTarget::is_component) {
            return Err(BuildError::NoComponent { package: package.name, folder: folder.to_owned() });
        }
        Ok(Self {
            folder: folder.to_owned(),
            package_id: package.id,
            workspace_root: metadata.workspace_root,
            target_directory: metadata.target_directory,
            toolchain: toolchain(folder)?,
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.workspace_root.join("Cargo.lock")
    }

    fn ask_cargo(&self, progress: &mut dyn FnMut(&str)) -> Result<Compiled, BuildError> {
        let mut cargo = self.toolchain.cargo();
        cargo.current_dir(&self.folder).args(["build", "--release", "--lib", "--target", TARGET]);
        cargo.args(["--package", &self.package_id, "--message-format", "json-render-diagnostics"]);
        if self.lock_file().is_file() {
            cargo.arg("--locked");
        }
        let ended = run_with_progress(&mut cargo, progress).map_err(BuildError::Cargo)?;
        let failed = |stderr| BuildError::Compile { folder: self.folder.clone(), status: ended.status, stderr };
        if !ended.status.success() {
            return Err(failed(ended.stderr));
        }
        let mut crates = crates::Compiled::default();
        let mut component = None;
        for message in ended.stdout.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
            let is_own = message.package_id == self.package_id;
            if !crates.take_in(&message.package_id, message.kind(), is_own) {
                return Err(failed(format!(
                    "cargo names a package in a way that is not known: {}",
                    message.package_id
                )));
            }
            if is_own && message.target.is_component() {
                component = component.or(message.component());
            }
        }
        let (component, fresh) = component.ok_or_else(|| failed(ended.stderr))?;
        Ok(Compiled { component, fresh, crates })
    }

    /// Who depends on whom, of what was compiled. `cargo metadata` would say it in JSON, but has to fetch what was not compiled:
    /// what only tests and other members of the workspace use.
    fn tree(&self) -> Result<String, BuildError> {
        let mut cargo = self.toolchain.cargo();
        cargo.current_dir(&self.folder).args(["tree", "--locked", "--offline", "--target", TARGET]);
        cargo.args(["--package", &self.package_id, "--edges", "normal,build", "--prefix", "depth", "--format", "{p}"]);
        let output = cargo.output().map_err(BuildError::Cargo)?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(BuildError::Manifest { folder: self.folder.clone(), stderr })
            }
        }
    }

    /// Every file whose change could change the component.
    fn inputs(&self, component: &Path) -> io::Result<BTreeSet<PathBuf>> {
        let sources = stamp::files_in_dep_info(&fs::read_to_string(component.with_extension("d"))?);
        let manifests = [self.folder.join(MANIFEST), self.workspace_root.join(MANIFEST)];
        let mut inputs = BTreeSet::from([self.lock_file()]);
        inputs.extend(manifests);
        inputs.extend(self.toolchain.files.iter().cloned());
        // The nearest manifest above a source is that of its package, which may be a path dependency.
        inputs.extend(sources.iter().filter_map(|source| {
            source.ancestors().skip(1).map(|directory| directory.join(MANIFEST)).find(|manifest| manifest.is_file())
        }));
        inputs.extend(sources);
        // cargo's configuration, wherever it may appear.
        for directory in self.folder.ancestors() {
            inputs.extend(["config", "config.toml"].map(|name| directory.join(".cargo").join(name)));
        }
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        inputs.extend(
            cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).map(|home| home.join("config.toml")),
        );
        Ok(inputs)
    }
}

/// Which compiler would be asked, as far as the environment decides: the files of the chosen one are among the inputs.
pub(crate) fn compiler_in_use() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let rustc = std::env::split_paths(&path).map(|directory| directory.join("rustc")).find(|file| file.is_file());
    format!("{} or {}", rustc.unwrap_or_default().display(), composite_directory().display())
}

/// The part of `cargo metadata`'s answer that is used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    kind: Vec<String>,
}

impl MetadataTarget {
    fn is_component(&self) -> bool {
        self.kind.iter().any(|kind| kind == "cdylib")
    }
}

/// A line of cargo's `--message-format json`, as far as it is about a finished artifact.
#[derive(Deserialize)]
struct Message {
    package_id: String,
    target: MetadataTarget,
    filenames: Vec<PathBuf>,
    fresh: bool,
}

impl Message {
    /// When what was made runs: what is compiled for the component lies in a directory of its target's name.
    fn kind(&self) -> Kind {
        let is_for = |file: &PathBuf| file.components().any(|part| part.as_os_str() == TARGET);
        match self.filenames.iter().any(is_for) {
            true => Kind::Runtime,
            false => Kind::Build,
        }
    }

    /// The component, and whether it was there.
    fn component(self) -> Option<(PathBuf, bool)> {
        let component = self.filenames.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"))?;
        Some((component, self.fresh))
    }
}
