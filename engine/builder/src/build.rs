//! From a plugin's source folder to its component.
//!
//! cargo does the work and keeps its own counsel about what must be compiled again; this file finds out what to ask it
//! for, hands on what it says, and leaves a stamp. It deliberately has no options: a plugin's profile, features and
//! dependencies are its manifest's business.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

use crate::{
    environment::clean_command,
    stamp::{self, Stamp},
    toolchain::{TARGET, Toolchain, ToolchainError, composite_directory, toolchain},
};

/// How often cargo is asked when files change under the build. The second answer settles it when the change was the
/// build's own (a new lock file, a build script's output); when it does not, somebody is typing or a file's time lies in
/// the future, and going on without a stamp costs the next start a fifth of a second.
const MAX_ROUNDS: u32 = 2;

/// A component that is there and up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The component's absolute path, in the target directory of the plugin's workspace.
    pub component: PathBuf,
    /// `sha256:` and the component's digest in hexadecimal.
    pub digest: String,
    /// False if the component that was there already was good.
    pub rebuilt: bool,
    /// Wall time from the question to the answer.
    pub took: Duration,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder is not there, or can't be read.
    #[error("the plugin folder {} can't be opened: {error}", folder.display())]
    Folder {
        /// The folder as it was given.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// No manifest: the plugin is written in another language, or the path points elsewhere.
    #[error(
        "{} has no Cargo.toml: plugins in Rust are built from source\n  \
         hint: for a plugin in another language, build its component with that language's tools and give the path of \
         the .wasm",
        folder.display()
    )]
    NotRust {
        /// The folder as it was given.
        folder: PathBuf,
    },
    /// The manifest belongs to a workspace and no package.
    #[error("{} is a workspace without a package of its own\n  hint: give the folder of one of its members", folder.display())]
    NoPackage {
        /// The folder as it was given.
        folder: PathBuf,
    },
    /// The package makes no component.
    #[error(
        "the package `{package}` in {} has no target of the kind `cdylib`, so no component comes out of it\n  \
         hint: add to its Cargo.toml:\n      [lib]\n      crate-type = [\"cdylib\"]",
        folder.display()
    )]
    NoComponent {
        /// The package's name.
        package: String,
        /// The folder as it was given.
        folder: PathBuf,
    },
    /// There is nothing to compile it with.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// cargo could not be started at all.
    #[error(
        "`cargo` could not be started: {0}\n  hint: install Rust from https://rustup.rs, or give the path of a finished .wasm"
    )]
    Cargo(#[source] io::Error),
    /// cargo could not make sense of the manifest, in its own words.
    #[error("cargo can't read the manifest in {}\n{stderr}", folder.display())]
    Manifest {
        /// The folder as it was given.
        folder: PathBuf,
        /// cargo's standard error.
        stderr: String,
    },
    /// The compiler refused the source. Its words went to `progress` as they came and are not repeated in the message.
    #[error("the plugin in {} does not compile (cargo ended with {status})", folder.display())]
    Compile {
        /// The folder as it was given.
        folder: PathBuf,
        /// How cargo ended.
        status: ExitStatus,
        /// cargo's standard error: the compiler's messages as it gave them.
        stderr: String,
    },
    /// cargo was content, but what it made can't be read.
    #[error("the component of {} can't be read after its build: {error}", folder.display())]
    Component {
        /// The folder as it was given.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
}

/// Builds the Rust plugin in `folder` in release mode, or finds that its component is up to date (which starts no
/// process and takes less than a millisecond). `progress` gets what cargo says on standard error, line by line, without
/// line ends; it is silent when nothing had to be asked.
///
/// Safe to call from several processes at once: cargo locks the target directory.
pub fn build(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let asked = Instant::now();
    let given = folder;
    let folder = fs::canonicalize(given).map_err(|error| BuildError::Folder { folder: given.to_owned(), error })?;
    let compiler = compiler_in_use();
    let answer = |stamp: Stamp, rebuilt| Built {
        component: stamp.component().to_owned(),
        digest: stamp.digest,
        rebuilt,
        took: asked.elapsed(),
    };
    if let Some(stamp) = stamp::find(&folder, &compiler) {
        return Ok(answer(stamp, false));
    }

    let plugin = Plugin::read(&folder)?;
    let toolchain = toolchain(&folder)?;
    let stamp_path = stamp::path_in(&plugin.target_directory, &folder);
    let mut rebuilt = false;
    let mut rounds = 0;
    loop {
        rounds += 1;
        let started = SystemTime::now();
        let artifact = plugin.compile(&toolchain, progress)?;
        rebuilt |= !artifact.fresh;
        let unreadable = |error| BuildError::Component { folder: folder.clone(), error };
        let inputs = plugin.inputs(&artifact.component, &toolchain).map_err(unreadable)?;
        let stamp = Stamp::record(artifact.component, inputs, compiler.clone()).map_err(unreadable)?;
        let settled = stamp.is_older_than(started);
        if settled {
            stamp.write(&stamp_path).map_err(unreadable)?;
        }
        if settled || rounds == MAX_ROUNDS {
            return Ok(answer(stamp, rebuilt));
        }
    }
}

/// What cargo knows about the plugin before it is built.
struct Plugin {
    folder: PathBuf,
    package_id: String,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

/// What came out of a build.
struct Artifact {
    component: PathBuf,
    fresh: bool,
}

impl Plugin {
    fn read(folder: &Path) -> Result<Self, BuildError> {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(BuildError::NotRust { folder: folder.to_owned() });
        }
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
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.workspace_root.join("Cargo.lock")
    }

    fn compile(&self, toolchain: &Toolchain, progress: &mut dyn FnMut(&str)) -> Result<Artifact, BuildError> {
        let mut cargo = toolchain.cargo();
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
        let artifact = ended.stdout.lines().find_map(|line| Message::component(line, &self.package_id));
        artifact.ok_or_else(|| failed(ended.stderr))
    }

    /// Every file whose change could change the component.
    fn inputs(&self, component: &Path, toolchain: &Toolchain) -> io::Result<BTreeSet<PathBuf>> {
        let sources = stamp::files_in_dep_info(&fs::read_to_string(component.with_extension("d"))?);
        let manifests = [self.folder.join("Cargo.toml"), self.workspace_root.join("Cargo.toml")];
        let mut inputs = BTreeSet::from([self.lock_file()]);
        inputs.extend(manifests);
        inputs.extend(toolchain.files.iter().cloned());
        // The nearest manifest above a source is that of its package, which may be a path dependency.
        inputs.extend(sources.iter().filter_map(|source| {
            source.ancestors().skip(1).map(|directory| directory.join("Cargo.toml")).find(|manifest| manifest.is_file())
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
fn compiler_in_use() -> String {
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
    fn component(line: &str, package_id: &str) -> Option<Artifact> {
        let message: Self = serde_json::from_str(line).ok()?;
        if message.package_id != package_id || !message.target.is_component() {
            return None;
        }
        let component = message.filenames.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"))?;
        Some(Artifact { component, fresh: message.fresh })
    }
}

/// How a command ended and all that it said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end; its standard error goes to `progress` as it comes.
pub(crate) fn run_with_progress(command: &mut Command, progress: &mut dyn FnMut(&str)) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().expect("standard output is piped, three lines above");
    let talk = child.stderr.take().expect("standard error is piped, four lines above");
    // Read beside standard error: a full pipe would stop the child.
    let output = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stderr = String::new();
    for line in BufReader::new(talk).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        progress(&line);
        stderr.push_str(&line);
        stderr.push('\n');
    }
    let stdout = output.join().expect("reading into a buffer does not panic")?;
    Ok(Ended { status: child.wait()?, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
}
