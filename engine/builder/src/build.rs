//! From a plugin's source folder to its component, whatever language it is written in.
//!
//! What the languages have in common lives here: telling them apart, the stamp that makes the next start quick, and the
//! ways in which there may be no component. How each is compiled is in a file of its own ([`crate::cargo`],
//! [`crate::javascript`]).

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    cargo,
    javascript::{self, JavaScriptError},
    stamp::{self, Stamp},
    toolchain::ToolchainError,
};

/// How often a compiler is asked when files change under the build. The second answer settles it when the change was the
/// build's own (a new lock file, a build script's output); when it does not, somebody is typing or a file's time lies in
/// the future, and going on without a stamp costs the next start a fifth of a second.
const MAX_ROUNDS: u32 = 2;

/// A component that is there and up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The component's absolute path: in the target directory of the plugin's workspace (Rust), or in the folder's
    /// `node_modules` (JavaScript).
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
        "{} has neither a Cargo.toml nor a package.json: plugins in Rust and in JavaScript are built from source\n  \
         hint: for a plugin in another language, build its component with that language's tools and give the path of \
         the .wasm",
        folder.display()
    )]
    NoSource {
        /// The folder as it was given.
        folder: PathBuf,
    },
    /// A plugin in JavaScript has no component.
    #[error(transparent)]
    JavaScript(#[from] JavaScriptError),
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
    /// The compiler was content, but what it made can't be read.
    #[error("the component of {} can't be read after its build: {error}", folder.display())]
    Component {
        /// The folder as it was given.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
}

/// Builds the plugin in `folder`, or finds that its component is up to date (which starts no process and takes less than
/// a millisecond). `progress` gets what the compiler says, line by line, without line ends; it is silent when nothing had
/// to be asked.
///
/// Safe to call from several processes at once: cargo locks the target directory, a plugin in JavaScript its lock file.
pub fn build(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let asked = Instant::now();
    let given = folder;
    let folder = fs::canonicalize(given).map_err(|error| BuildError::Folder { folder: given.to_owned(), error })?;
    let language = Language::of(&folder).ok_or_else(|| BuildError::NoSource { folder: folder.clone() })?;
    let compiler = language.compiler();
    let answer = |stamp: Stamp, rebuilt| Built {
        component: stamp.component().to_owned(),
        digest: stamp.digest,
        rebuilt,
        took: asked.elapsed(),
    };
    if let Some(stamp) = language.stamp(&folder, &compiler) {
        return Ok(answer(stamp, false));
    }

    let source = language.read(&folder)?;
    let mut rebuilt = false;
    let mut rounds = 0;
    loop {
        rounds += 1;
        let started = SystemTime::now();
        let artifact = source.compile(progress)?;
        rebuilt |= !artifact.fresh;
        let unreadable = |error| BuildError::Component { folder: folder.clone(), error };
        let stamp = Stamp::record(artifact.component, artifact.inputs, compiler.clone()).map_err(unreadable)?;
        let settled = stamp.is_older_than(started);
        if settled {
            stamp.write(&source.stamp_path()).map_err(unreadable)?;
        }
        if settled || rounds == MAX_ROUNDS {
            return Ok(answer(stamp, rebuilt));
        }
    }
}

/// The component of the plugin in `folder`, if it is up to date. Starts nothing.
pub fn built(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    let language = Language::of(&folder)?;
    Some(language.stamp(&folder, &language.compiler())?.component().to_owned())
}

/// A plugin's source as its language's tools see it.
pub(crate) trait Source {
    /// Where its stamp is kept.
    fn stamp_path(&self) -> PathBuf;

    /// Compiles it, unless its own tools know that nothing changed.
    fn compile(&self, progress: &mut dyn FnMut(&str)) -> Result<Artifact, BuildError>;
}

/// What came out of a build.
pub(crate) struct Artifact {
    pub(crate) component: PathBuf,
    /// Nothing had to be compiled.
    pub(crate) fresh: bool,
    /// Every file whose change could change the component.
    pub(crate) inputs: BTreeSet<PathBuf>,
}

/// The languages that are built from source.
#[derive(Debug, Clone, Copy)]
enum Language {
    Rust,
    JavaScript,
}

impl Language {
    /// By the folder's manifest. A Rust package that also has a `package.json` (for its own tools) is a Rust package.
    fn of(folder: &Path) -> Option<Self> {
        if folder.join(cargo::MANIFEST).is_file() {
            Some(Self::Rust)
        } else if folder.join(javascript::MANIFEST).is_file() {
            Some(Self::JavaScript)
        } else {
            None
        }
    }

    fn compiler(self) -> String {
        match self {
            Self::Rust => cargo::compiler_in_use(),
            Self::JavaScript => javascript::compiler(),
        }
    }

    fn stamp(self, folder: &Path, compiler: &str) -> Option<Stamp> {
        match self {
            Self::Rust => stamp::find(folder, compiler),
            Self::JavaScript => Stamp::read_if_current(&javascript::stamp_path(folder), compiler),
        }
    }

    fn read(self, folder: &Path) -> Result<Box<dyn Source>, BuildError> {
        Ok(match self {
            Self::Rust => Box::new(cargo::Plugin::read(folder)?),
            Self::JavaScript => Box::new(javascript::Plugin::read(folder)?),
        })
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
