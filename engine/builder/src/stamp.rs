//! The stamp: what a component was built from, so that the next start knows without starting cargo.
//!
//! One JSON file beside the component lists every file that took part (sources, manifests, lock file, compiler) with its
//! size and modification time. A new source file needs no entry: it takes part only once a listed file mentions it. A
//! missing, unreadable or outdated stamp is never an error, it only means that cargo is asked, whose own judgement costs
//! a fifth of a second. It deliberately does not hash sources: a hundred `stat` calls take well below a millisecond.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::toolchain::TARGET;

/// Raise when the meaning of a stamp changes; older ones are then ignored.
const VERSION: u32 = 2;

/// File systems keep times by a clock that ticks every few milliseconds, so a file changed right after an instant may
/// carry a time right before it. Five ticks of the slowest common clock (250 Hz).
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// What a component was built from.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Stamp {
    version: u32,
    /// The compiler that would be asked today is the one that was asked: see [`compiler_in_use`].
    compiler: String,
    component: Input,
    pub(crate) digest: String,
    inputs: Vec<Input>,
}

/// One file as it was; `None` if it wasn't there, for a file whose appearance would matter.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Input {
    path: PathBuf,
    file: Option<FileState>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
struct FileState {
    size: u64,
    modified_ns: u64,
}

impl Stamp {
    /// Records `inputs` and the component as they are now.
    pub(crate) fn record(
        component: PathBuf,
        inputs: impl IntoIterator<Item = PathBuf>,
        compiler: String,
    ) -> io::Result<Self> {
        let digest = format!("sha256:{:x}", Sha256::digest(fs::read(&component)?));
        let inputs = inputs.into_iter().map(Input::now).collect();
        Ok(Self { version: VERSION, compiler, component: Input::now(component), digest, inputs })
    }

    /// Whether all inputs were as they are now before `started`. If not, what was compiled may be older than what is
    /// recorded here, and only cargo can tell.
    pub(crate) fn is_older_than(&self, started: SystemTime) -> bool {
        let deadline = nanoseconds(started - CLOCK_TICK);
        self.inputs.iter().filter_map(|input| input.file).all(|file| file.modified_ns < deadline)
    }

    /// The stamp at `path`, if nothing has changed since it was written.
    pub(crate) fn read_if_current(path: &Path, compiler: &str) -> Option<Self> {
        let stamp: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let current = stamp.version == VERSION
            && stamp.compiler == compiler
            && stamp.component.file.is_some()
            && stamp.inputs.iter().chain([&stamp.component]).all(Input::is_unchanged);
        current.then_some(stamp)
    }

    pub(crate) fn component(&self) -> &Path {
        &self.component.path
    }

    /// Writes the stamp in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        fs::write(&aside, json)?;
        fs::rename(&aside, path)
    }
}

impl Input {
    fn now(path: PathBuf) -> Self {
        Self { file: FileState::of(&path), path }
    }

    fn is_unchanged(&self) -> bool {
        FileState::of(&self.path) == self.file
    }
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { size: metadata.len(), modified_ns: nanoseconds(metadata.modified().ok()?) })
    }
}

/// Where the stamp of the plugin in `folder` is, below its workspace's target directory. The name comes from the folder,
/// because the component's own name is only known to cargo.
pub(crate) fn path_in(target_directory: &Path, folder: &Path) -> PathBuf {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    target_directory.join(TARGET).join("release").join(format!("{name}.downbeat-stamp"))
}

/// The stamp of `folder` in its own target directory or in that of a workspace around it. A target directory that a
/// configuration file moved elsewhere is not found: such a plugin is checked by cargo each time.
pub(crate) fn find(folder: &Path, compiler: &str) -> Option<Stamp> {
    folder
        .ancestors()
        .find_map(|directory| Stamp::read_if_current(&path_in(&directory.join("target"), folder), compiler))
}

/// The files of a dep-info file (`target: file file …`, spaces in names escaped by a backslash).
pub(crate) fn files_in_dep_info(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, list)) = line.split_once(": ") else { continue };
        let mut name = String::new();
        let mut characters = list.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if characters.peek() == Some(&' ') => name.extend(characters.next()),
                ' ' => files.push(PathBuf::from(std::mem::take(&mut name))),
                _ => name.push(character),
            }
        }
        files.push(PathBuf::from(name));
    }
    files.retain(|file| !file.as_os_str().is_empty());
    files
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILER: &str = "a compiler";

    /// A folder with a component and one source file, both an hour old, and a stamp of them.
    fn stamped() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for name in ["source.rs", "component.wasm"] {
            let file = fs::File::create(folder.path().join(name)).expect("a new file");
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).expect("its time set back");
        }
        let stamp = record(folder.path());
        let path = folder.path().join("stamp");
        stamp.write(&path).expect("the stamp written");
        (folder, path)
    }

    fn record(folder: &Path) -> Stamp {
        let inputs = ["source.rs", "absent.toml"].map(|name| folder.join(name));
        Stamp::record(folder.join("component.wasm"), inputs, COMPILER.into()).expect("the component read")
    }

    #[test]
    fn a_stamp_is_current_while_nothing_changes() {
        let (folder, path) = stamped();
        let stamp = Stamp::read_if_current(&path, COMPILER).expect("a current stamp");
        assert_eq!(stamp.component(), folder.path().join("component.wasm"));
        let of_nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(stamp.digest, of_nothing, "the component is an empty file");
    }

    #[test]
    fn a_changed_input_makes_the_stamp_stale() {
        let (folder, path) = stamped();
        fs::write(folder.path().join("source.rs"), "changed").expect("written");
        assert!(Stamp::read_if_current(&path, COMPILER).is_none());
    }

    #[test]
    fn a_touched_input_makes_the_stamp_stale() {
        let (folder, path) = stamped();
        let file = fs::File::options().append(true).open(folder.path().join("source.rs")).expect("opened");
        file.set_modified(SystemTime::now()).expect("touched");
        assert!(Stamp::read_if_current(&path, COMPILER).is_none());
    }

    #[test]
    fn a_file_that_appears_makes_the_stamp_stale() {
        let (folder, path) = stamped();
        fs::write(folder.path().join("absent.toml"), "").expect("written");
        assert!(Stamp::read_if_current(&path, COMPILER).is_none());
    }

    #[test]
    fn a_deleted_component_makes_the_stamp_stale() {
        let (folder, path) = stamped();
        fs::remove_file(folder.path().join("component.wasm")).expect("deleted");
        assert!(Stamp::read_if_current(&path, COMPILER).is_none());
    }

    #[test]
    fn another_compiler_makes_the_stamp_stale() {
        let (_folder, path) = stamped();
        assert!(Stamp::read_if_current(&path, "another compiler").is_none());
    }

    #[test]
    fn a_torn_stamp_is_no_stamp() {
        let (_folder, path) = stamped();
        let text = fs::read(&path).expect("the stamp");
        fs::write(&path, &text[..text.len() / 2]).expect("cut");
        assert!(Stamp::read_if_current(&path, COMPILER).is_none());
    }

    #[test]
    fn a_source_that_changed_during_the_build_is_noticed() {
        let (folder, _) = stamped();
        let stamp = record(folder.path());
        assert!(stamp.is_older_than(SystemTime::now()));
        let before_its_change = SystemTime::now() - Duration::from_secs(7200);
        assert!(!stamp.is_older_than(before_its_change));
    }

    #[test]
    fn dep_info_lists_files_with_spaces_and_skips_comments() {
        let text = "/t/plugin.wasm: /s/lib.rs /s/with\\ space.rs C:\\s\\mod.rs\n\n# env-dep:X=1\n/s/lib.rs:\n";
        let expected = ["/s/lib.rs", "/s/with space.rs", "C:\\s\\mod.rs"].map(PathBuf::from);
        assert_eq!(files_in_dep_info(text), expected);
    }
}
