//! A plugin in JavaScript: from its folder to its component.
//!
//! npm installs exactly what the lock file pins, componentize-qjs puts the modules and an interpreter (QuickJS) into a
//! component that speaks our `wit/` and imports nothing of WASI. This file calls the two when something changed; it
//! deliberately has no options: what a step imports of the host, and which module is its entry, are its manifest's
//! business.
//!
//! Everything made here is below the folder's `node_modules/.downbeat`, so that one ignored directory holds all of it.
//! A snapshot of an interpreter is not the same bytes twice, even of the same source; so a source whose files were only
//! touched keeps its component, and with it its digest.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    build::{Artifact, BuildError, Source, run_with_progress},
    node::{Node, NodeError},
};

/// What makes a folder a plugin in JavaScript.
pub(crate) const MANIFEST: &str = "package.json";
const LOCK_FILE: &str = "package-lock.json";

/// What turns JavaScript into a component. Which version is the lock file's business.
const COMPILER: &str = "componentize-qjs";

/// The version that is tried with this recipe: that of the standard steps.
const COMPILER_VERSION: &str = "0.4.5";

/// Raise when components have to be built again because of a change in this file.
const RECIPE: u32 = 1;

/// The call boundary. Part of this library's code, so that an installed `downbeat` has it at hand.
const WIT: [(&str, &str); 6] = [
    ("artifacts", include_str!("../../../wit/artifacts.wit")),
    ("items", include_str!("../../../wit/items.wit")),
    ("log", include_str!("../../../wit/log.wit")),
    ("process", include_str!("../../../wit/process.wit")),
    ("progress", include_str!("../../../wit/progress.wit")),
    ("types", include_str!("../../../wit/types.wit")),
];

/// The host's interfaces that a step may import.
const INTERFACES: [&str; 5] = ["artifacts", "items", "log", "process", "progress"];

/// Those that need no grant.
const FREE_INTERFACES: [&str; 2] = ["log", "progress"];

/// The world that is generated for a step, so that its component imports what its manifest names and no more: an auditor
/// reads imports.
const WORLD: &str = "javascript-step";

/// How many files a plugin's own sources may have, those of linked packages included: far above what people write, and
/// far below what would make every start slow. More than that is another folder than was meant.
const SOURCES_MAX: usize = 10_000;

/// Why a plugin in JavaScript has no component.
#[derive(Debug, thiserror::Error)]
pub enum JavaScriptError {
    /// A manifest or lock file that is not what npm writes.
    #[error("{} can't be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `package.json` of something else.
    #[error(
        "{} does not say that it is a plugin\n  \
         hint: add to it: \"downbeat\": {{ \"imports\": [\"log\", \"progress\"] }}\n  \
         hint: docs/plugins-javascript.md shows the whole of one",
        path.display()
    )]
    NotAPlugin {
        /// The manifest.
        path: PathBuf,
    },
    /// The manifest names something that the host does not have.
    #[error(
        "{} wants to import `{name}`, which is no interface of the host\n  hint: there are {}",
        path.display(),
        INTERFACES.join(", ")
    )]
    NoInterface {
        /// The manifest.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// The entry module is not there.
    #[error(
        "the entry module {} is not there\n  hint: \"main\" in {MANIFEST} names it, from the plugin's folder",
        entry.display()
    )]
    NoEntry {
        /// Where it should be.
        entry: PathBuf,
    },
    /// Nothing pins what is installed.
    #[error(
        "{} is not there, which pins what the plugin is built with\n  \
         hint: run `npm install --package-lock-only` in its folder, once, and commit {LOCK_FILE}",
        path.display()
    )]
    NoLock {
        /// The lock file.
        path: PathBuf,
    },
    /// Nothing that compiles is among what is pinned.
    #[error(
        "{} does not pin {COMPILER}, which compiles the plugin\n  \
         hint: run `npm install --package-lock-only --save-dev {COMPILER}@{COMPILER_VERSION}` in its folder, once, and \
         commit {LOCK_FILE}",
        path.display()
    )]
    NoCompiler {
        /// The lock file.
        path: PathBuf,
    },
    /// The manifest was changed, and the lock file was not.
    #[error(
        "{} was not made for the {MANIFEST} beside it: their `{section}` differ\n  \
         hint: run `npm install` in its folder and commit the new {LOCK_FILE}",
        path.display()
    )]
    StaleLock {
        /// The lock file.
        path: PathBuf,
        /// Where they differ: `dependencies`, say.
        section: &'static str,
    },
    /// There is nothing to build it with.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A tool could not be started at all.
    #[error("`{program}` could not be started: {error}")]
    Start {
        /// `node` or `npm`.
        program: &'static str,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// npm could not install what the lock file pins. Its words went to `progress` as they came.
    #[error(
        "the packages of {} could not be installed (npm ended with {status})\n  \
         hint: the first build downloads them; later ones need no network",
        folder.display()
    )]
    Install {
        /// The plugin's folder.
        folder: PathBuf,
        /// How npm ended.
        status: ExitStatus,
        /// npm's standard error.
        stderr: String,
    },
    /// The modules can't be made into a component. What was wrong went to `progress` as it came.
    #[error("the plugin in {} can't be made into a component{}", folder.display(), import_hint(stderr))]
    Compile {
        /// The plugin's folder.
        folder: PathBuf,
        /// componentize-qjs's standard error: the error and where it was raised.
        stderr: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Far too many sources.
    #[error("{} has more than {SOURCES_MAX} files: is it the plugin's folder?", folder.display())]
    TooManySources {
        /// The folder.
        folder: PathBuf,
    },
}

/// A module of the host that the generated world does not have looks, to the compiler, like any missing module.
fn import_hint(stderr: &str) -> String {
    let missing = INTERFACES.iter().find(|name| stderr.contains(&format!("resolving module 'downbeat:step/{name}@")));
    missing.map_or_else(String::new, |name| {
        format!(
            "\n  hint: name what it imports of the host in {MANIFEST}: \"downbeat\": {{ \"imports\": [\"{name}\", …] }}"
        )
    })
}

/// What npm's files say about the plugin before it is built.
pub(crate) struct Plugin {
    folder: PathBuf,
    name: String,
    entry: PathBuf,
    imports: BTreeSet<&'static str>,
    /// Packages that are not installed but linked to: folders beside the plugin's, whose files are sources as well.
    linked: Vec<PathBuf>,
    node: Node,
}

impl Source for Plugin {
    fn stamp_path(&self) -> PathBuf {
        stamp_path(&self.folder)
    }

    fn compile(&self, progress: &mut dyn FnMut(&str)) -> Result<Artifact, BuildError> {
        Ok(self.componentize(progress)?)
    }
}

/// The part of a `package.json` that is used here.
#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    main: Option<String>,
    downbeat: Option<Settings>,
    #[serde(default)]
    dependencies: Value,
    #[serde(default, rename = "devDependencies")]
    dev_dependencies: Value,
    #[serde(default, rename = "optionalDependencies")]
    optional_dependencies: Value,
}

/// The manifest's key `downbeat`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The host's interfaces that the step imports; those that need no grant if it does not say.
    imports: Option<Vec<String>>,
}

/// The part of a `package-lock.json` that is used here: packages by their path.
#[derive(Deserialize)]
struct Lock {
    packages: Map<String, Value>,
}

impl Lock {
    /// The section of the manifest that this lock file was not made for.
    fn differs_from(&self, manifest: &Manifest) -> Option<&'static str> {
        let locked = &self.packages.get("").unwrap_or(&Value::Null);
        let sections = [
            ("dependencies", &manifest.dependencies),
            ("devDependencies", &manifest.dev_dependencies),
            ("optionalDependencies", &manifest.optional_dependencies),
        ];
        sections.into_iter().find(|(name, section)| locked[*name] != **section).map(|(name, _)| name)
    }
}

impl Plugin {
    /// Reads the folder's manifest and lock file, and finds Node.js.
    pub(crate) fn read(folder: &Path) -> Result<Self, JavaScriptError> {
        let path = folder.join(MANIFEST);
        let manifest: Manifest = read_json(&path)?;
        let Some(settings) = &manifest.downbeat else { return Err(JavaScriptError::NotAPlugin { path }) };
        let mut imports = BTreeSet::new();
        let free = || FREE_INTERFACES.map(str::to_owned).to_vec();
        for name in settings.imports.clone().unwrap_or_else(free) {
            match INTERFACES.into_iter().find(|known| *known == name) {
                Some(known) => imports.insert(known),
                None => return Err(JavaScriptError::NoInterface { path, name }),
            };
        }
        let entry = folder.join(manifest.main.as_deref().unwrap_or("index.js"));
        if !entry.is_file() {
            return Err(JavaScriptError::NoEntry { entry });
        }

        let path = folder.join(LOCK_FILE);
        if !path.is_file() {
            return Err(JavaScriptError::NoLock { path });
        }
        let lock: Lock = read_json(&path)?;
        if !lock.packages.contains_key(&format!("node_modules/{COMPILER}")) {
            return Err(JavaScriptError::NoCompiler { path });
        }
        if let Some(section) = lock.differs_from(&manifest) {
            return Err(JavaScriptError::StaleLock { path, section });
        }
        let linked = lock.packages.values().filter(|package| package["link"] == true);
        let linked = linked.filter_map(|package| package["resolved"].as_str());
        let linked: Result<Vec<PathBuf>, JavaScriptError> =
            linked.map(|link| folder.join(link)).map(|path| fs::canonicalize(&path).map_err(at(&path))).collect();

        let name = manifest.name.unwrap_or_else(|| "the plugin".to_owned());
        Ok(Self { folder: folder.to_owned(), name, entry, imports, linked: linked?, node: Node::find()? })
    }

    /// Installs and compiles, unless the sources are those of the component that is there. One process at a time: they
    /// would install into each other's directory.
    fn componentize(&self, progress: &mut dyn FnMut(&str)) -> Result<Artifact, JavaScriptError> {
        let lock_path = self.folder.join(LOCK_FILE);
        let lock = File::open(&lock_path).map_err(at(&lock_path))?;
        lock.lock().map_err(at(&lock_path))?;

        let ours = ours(&self.folder);
        let component = ours.join("component.wasm");
        let inputs = self.sources()?;
        let fingerprint = self.fingerprint(&inputs)?;
        let fresh = component.is_file() && is_marked(&ours.join("source"), &fingerprint);
        if !fresh {
            self.install(progress)?;
            self.write_boundary(&ours.join("wit"))?;
            self.run_compiler(&component, progress)?;
            mark(&ours.join("source"), &fingerprint)?;
        }
        Ok(Artifact { component, fresh, inputs })
    }

    /// Installs what the lock file pins, unless that was done for this manifest and lock file. No package's own scripts are
    /// run: nothing that a build needs has any, and they would run with the author's rights. What npm downloaded before
    /// comes from its cache.
    ///
    /// Not by `npm ci`, which refuses lock files made where a registry lacks the compiler's binary of some other platform;
    /// what it would check besides was checked when the lock file was read.
    fn install(&self, progress: &mut dyn FnMut(&str)) -> Result<(), JavaScriptError> {
        let mut pinned = Sha256::new();
        for name in [MANIFEST, LOCK_FILE] {
            let path = self.folder.join(name);
            pinned.update(fs::read(&path).map_err(at(&path))?);
        }
        let (pinned, marker) = (format!("{:x}", pinned.finalize()), ours(&self.folder).join("installed"));
        if is_marked(&marker, &pinned) {
            return Ok(());
        }
        progress(&format!("  Installing the packages of {}", self.name));
        let mut npm = self.node.npm();
        npm.args(["install", "--no-save", "--ignore-scripts", "--prefer-offline"]);
        npm.args(["--no-audit", "--no-fund", "--loglevel=error"]);
        npm.env("npm_config_update_notifier", "false").current_dir(&self.folder);
        let ended =
            run_with_progress(&mut npm, progress).map_err(|error| JavaScriptError::Start { program: "npm", error })?;
        if !ended.status.success() {
            let folder = self.folder.clone();
            return Err(JavaScriptError::Install { folder, status: ended.status, stderr: ended.stderr });
        }
        mark(&marker, &pinned)
    }

    /// The call boundary, and a world of it with what this step imports.
    fn write_boundary(&self, directory: &Path) -> Result<(), JavaScriptError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let mut world = format!("package downbeat:step@0.1.0;\n\nworld {WORLD} {{\n");
        for name in &self.imports {
            writeln!(world, "    import {name};").expect("writing to a string succeeds");
        }
        world.push_str("    export step;\n}\n");
        for (name, text) in WIT.into_iter().chain([(WORLD, world.as_str())]) {
            let path = directory.join(name).with_extension("wit");
            fs::write(&path, text).map_err(at(&path))?;
        }
        Ok(())
    }

    fn run_compiler(&self, component: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), JavaScriptError> {
        progress(&format!("   Compiling {}", self.name));
        let packages = self.folder.join("node_modules");
        let aside = component.with_extension("new");
        let mut node = self.node.node();
        node.current_dir(&self.folder).arg(packages.join(COMPILER).join("cli.mjs"));
        node.arg("--wit").arg(ours(&self.folder).join("wit")).args(["--world", WORLD]);
        node.arg("--js").arg(&self.entry).arg("--module-root").arg(self.module_root());
        // Nothing of WASI: a step has what our own interfaces give it. And no async functions, which the boundary has not.
        node.args(["--stub-wasi", "--sync"]).arg("--output").arg(&aside);
        let root = self.module_root();
        let ended = run_with_progress(&mut node, &mut |line| progress(&with_root(without_prefixes(line), &root)))
            .map_err(|error| JavaScriptError::Start { program: "node", error })?;
        if !ended.status.success() {
            return Err(JavaScriptError::Compile { folder: self.folder.clone(), stderr: ended.stderr });
        }
        fs::rename(&aside, component).map_err(at(component))
    }

    /// The compiler reads modules below one directory only: the nearest that holds the plugin and what it links to.
    fn module_root(&self) -> PathBuf {
        let holds_all = |root: &Path| self.linked.iter().all(|linked| linked.starts_with(root));
        self.folder.ancestors().find(|root| holds_all(root)).unwrap_or(Path::new("/")).to_owned()
    }

    /// The plugin's own files and those of linked packages; what is installed is pinned by the lock file, which is one
    /// of them.
    fn sources(&self) -> Result<BTreeSet<PathBuf>, JavaScriptError> {
        let mut sources = BTreeSet::new();
        let mut directories: Vec<PathBuf> = self.linked.iter().chain([&self.folder]).cloned().collect();
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).map_err(at(&directory))? {
                let entry = entry.map_err(at(&directory))?;
                let (path, name) = (entry.path(), entry.file_name());
                let is_directory = entry.file_type().map_err(at(&path))?.is_dir();
                if is_directory && name != "node_modules" && !name.as_encoded_bytes().starts_with(b".") {
                    directories.push(path);
                } else if !is_directory && is_source(&path) {
                    sources.insert(path);
                }
            }
            if sources.len() > SOURCES_MAX {
                return Err(JavaScriptError::TooManySources { folder: self.folder.clone() });
            }
        }
        Ok(sources)
    }

    /// What the component is made of. Names are part of it, as imports and error messages have them.
    fn fingerprint(&self, sources: &BTreeSet<PathBuf>) -> Result<String, JavaScriptError> {
        let mut hasher = Sha256::new();
        hasher.update(compiler());
        for path in sources {
            let bytes = fs::read(path).map_err(at(path))?;
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update([0]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        Ok(format!("{:x}", hasher.finalize()))
    }
}

/// What builds every plugin in JavaScript: this recipe, and the boundary that it builds for.
pub(crate) fn compiler() -> String {
    let mut boundary = Sha256::new();
    for (_, text) in WIT {
        boundary.update(text);
    }
    format!("javascript recipe {RECIPE}, boundary {:x}", boundary.finalize())
}

/// An error of the compiler as an author knows it: it comes with the names of the stages that it went through.
fn without_prefixes(line: &str) -> &str {
    const STAGES: [&str; 4] = [
        "Error: : ",
        "Failed to evaluate user JavaScript module: ",
        "Failed to declare JavaScript module: ",
        "Failed to finish JavaScript module evaluation: ",
    ];
    STAGES.into_iter().fold(line, |line, stage| line.strip_prefix(stage).unwrap_or(line))
}

/// A line of the compiler with its paths as they are on this machine: what it calls `/` is the directory of all modules.
fn with_root(line: &str, root: &Path) -> String {
    let mut whole = String::with_capacity(line.len());
    for word in line.split_inclusive([' ', '(', ')', '\'', '"', '`']) {
        let path = word.split([':', ' ', '(', ')', '\'', '"', '`']).next().unwrap_or_default();
        if let Some(below) = path.strip_prefix('/').filter(|below| !below.is_empty() && root.join(below).is_file()) {
            whole.push_str(&root.join(below).to_string_lossy());
            whole.push_str(&word[path.len()..]);
        } else {
            whole.push_str(word);
        }
    }
    whole
}

/// Where the stamp of the plugin in `folder` is.
pub(crate) fn stamp_path(folder: &Path) -> PathBuf {
    ours(folder).join("stamp")
}

fn ours(folder: &Path) -> PathBuf {
    folder.join("node_modules/.downbeat")
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["js", "mjs", "cjs", "json"].iter().any(|source| end == *source))
}

/// Whether the file at `path` says `text`.
fn is_marked(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found == text)
}

fn mark(path: &Path, text: &str) -> Result<(), JavaScriptError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(at(directory))?;
    }
    fs::write(path, text).map_err(at(path))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, JavaScriptError> {
    let bytes = fs::read(path).map_err(at(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| JavaScriptError::Unreadable { path: path.to_owned(), reason: error.to_string() })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> JavaScriptError {
    move |error| JavaScriptError::File { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_boundary_is_known() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let files = fs::read_dir(directory).expect("the boundary's folder");
        let mut found: Vec<_> = files.flatten().map(|file| file.file_name()).collect();
        found.sort_unstable();
        assert_eq!(found, WIT.map(|(name, _)| format!("{name}.wit")).map(std::ffi::OsString::from));
        for name in INTERFACES {
            assert!(WIT.iter().any(|(_, text)| text.contains(&format!("\n    import {name};\n"))), "{name}");
        }
    }

    #[test]
    fn paths_are_those_of_this_machine() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = root.join("src/lib.rs").display().to_string();
        assert_eq!(with_root("    at <anonymous> (/src/lib.rs:3:4)", root), format!("    at <anonymous> ({file}:3:4)"));
        assert_eq!(
            with_root("resolving '/src/lib.rs' from /nowhere.js:1", root),
            format!("resolving '{file}' from /nowhere.js:1")
        );
        assert_eq!(with_root("/src is a folder, 1 / 2", root), "/src is a folder, 1 / 2");
        assert_eq!(with_root(&file, Path::new("/")), file);
    }

    #[test]
    fn the_compiler_that_is_named_is_that_of_the_standard_steps() {
        let manifest = include_str!("../../../plugins/report/package.json");
        assert!(manifest.contains(&format!("\"{COMPILER}\": \"{COMPILER_VERSION}\"")), "{manifest}");
    }

    #[test]
    fn an_error_is_shown_without_the_compilers_stages() {
        let line = "Error: : Failed to evaluate user JavaScript module: Failed to declare JavaScript module: Error: x";
        assert_eq!(without_prefixes(line), "Error: x");
        assert_eq!(without_prefixes("    at /a.js:1:2"), "    at /a.js:1:2");
    }
}
