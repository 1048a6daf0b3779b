//! `downbeat.lock` in the folder of workflows: `downbeat lock` writes it, and whoever loads a plugin for a workflow holds it
//! against what is locked. What is pinned and what counts as different is known in the pure core.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use downbeat_sandbox::Sandbox;
use downbeat_workflow::description::Digest;
use downbeat_workflow::diagnostic::{self, Diagnostic};
use downbeat_workflow::lock::{LOCK_NAME, Lock, Pinned};
use downbeat_workflow::resolve::beside;
use downbeat_workflow::spec::{Source, Spec};

use crate::arguments::Lock as Arguments;
use crate::exit::{Exit, Fault};
use crate::files::read_named_text;
use crate::place::{Place, absolute};
use crate::units::counted;
use crate::{names, talk, workflow_file};

/// What to do about a lock that can't be read.
const MEND: &str =
    "take it as it was committed; or delete it, and `downbeat lock` writes it anew, to be reviewed as a whole";

/// The lock in a folder, if there is one; else what is wrong with it, and in a second line what to do.
pub(crate) fn read(folder: &Path) -> Result<Option<Lock>, String> {
    let path = folder.join(LOCK_NAME);
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let text = read_named_text(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let source = Source::new(path.display().to_string(), text);
    Lock::parse(&source).map(Some).map_err(|found| match found.first() {
        // The second line becomes the diagnostic's hint.
        Some(first) => {
            let line = source.text.as_bytes()[..first.span.start].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("{}:{line} has a fault: {}\n{MEND}", path.display(), first.message)
        }
        None => format!("{} has a fault\n{MEND}", path.display()),
    })
}

/// Whether the lock of a folder lets a plugin be looked at that a workflow there names by this path, before anything of it is
/// compiled; else why not, and in a second line what to do.
pub(crate) fn before_building(lock: &Lock, path: &str, folder: &Path) -> Result<(), String> {
    let pinned = pinned(lock, path, folder)?;
    let whole = folder.join(path);
    // As what links lead to may change, such a source is only known by what becomes of it.
    let is_other = pinned.source_digest.is_some() && whole.is_dir() && source_digest(&whole) != pinned.source_digest;
    match is_other {
        true => Err(differs(folder, path, "its source has changed")),
        false => Ok(()),
    }
}

/// Whether the lock of a folder lets a component be used; else why not, and in a second line what to do.
pub(crate) fn hold(lock: &Lock, path: &str, folder: &Path, now: &Pinned) -> Result<(), String> {
    let pinned = pinned(lock, path, folder)?;
    let now = Pinned { source_digest: source_digest(&folder.join(path)), ..now.clone() };
    // Signatures are for policies to ask for: one more, or one that nobody has fetched, makes no other component.
    let now = Pinned { signers: pinned.signers.clone(), ..now };
    match pinned.differs(&now).as_slice() {
        [] => Ok(()),
        found => Err(differs(folder, path, &found.join("; "))),
    }
}

fn pinned<'l>(lock: &'l Lock, path: &str, folder: &Path) -> Result<&'l Pinned, String> {
    lock.plugins.get(path).ok_or_else(|| {
        format!(
            "{} does not have it\nreview what it wants (`downbeat plugin inspect`), then `downbeat lock` adds it",
            folder.join(LOCK_NAME).display()
        )
    })
}

fn differs(folder: &Path, path: &str, found: &str) -> String {
    format!(
        "it is not what {} has: {found}\nreview that, then `downbeat lock --update {path}` takes it over",
        folder.join(LOCK_NAME).display()
    )
}

/// What a source folder has beside its source, right in it: what was built and fetched, and its history.
const NO_SOURCE: [&str; 3] = ["target", "node_modules", ".git"];

/// The digest of a source folder: of the names and contents of its files but for [`NO_SOURCE`]. Hidden files count, as compilers
/// see them. `None` of what is no folder, and of one with a link to a folder in it, as what is there may change without it, or with
/// a name of which a line can't be made that stands for it alone: then the component's own digest counts.
pub(crate) fn source_digest(folder: &Path) -> Option<Digest> {
    let mut files = BTreeMap::new();
    if !folder.is_dir() || gather(folder, Path::new(""), &mut files).is_err() {
        return None;
    }
    let mut text = String::new();
    for (name, digest) in &files {
        text.push_str(&format!("{} {name}\n", digest.hex()));
    }
    Some(Digest::of(text.as_bytes()))
}

fn gather(folder: &Path, below: &Path, files: &mut BTreeMap<String, Digest>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if below == Path::new("") && NO_SOURCE.iter().any(|other| name == *other) {
            continue;
        }
        if name.to_str().is_none_or(|name| name.contains(char::is_control)) {
            return Err(io::Error::other("a name that is no line of text"));
        }
        let below = below.join(&name);
        // What a link leads to is compiled as well.
        let kind = fs::metadata(entry.path())?.file_type();
        match kind.is_dir() {
            true if entry.file_type()?.is_symlink() => return Err(io::Error::other("a link to a folder")),
            true => gather(&entry.path(), &below, files)?,
            false if kind.is_file() => {
                files.insert(below.display().to_string(), Digest::of(&fs::read(entry.path())?));
            }
            false => {}
        }
    }
    Ok(())
}

/// The sources of a folder that its lock has to have, each with how workflows call it.
type Sources = BTreeMap<String, BTreeSet<String>>;

/// A source as it is now, and all the names by which somebody may mean it.
struct Now {
    source: String,
    names: BTreeSet<String>,
    pinned: Pinned,
}

/// `downbeat lock`
pub(crate) fn lock(place: &Place, arguments: &Arguments) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let mut folders: BTreeMap<PathBuf, Sources> = BTreeMap::new();
    for path in &arguments.workflows {
        for file in workflow_file::files_below(path)? {
            let source = workflow_file::source(&file, &arguments.with)?;
            let directory = folder_of(&file)?;
            add(&source, &directory, &mut folders, &mut BTreeSet::new())?;
        }
    }
    let (mut is_same, mut found) = (true, Vec::new());
    for (directory, sources) in &folders {
        let before = read(directory).map_err(|error| match error.split_once('\n') {
            Some((message, hint)) => Fault::refused(message).hint(hint),
            None => Fault::refused(error),
        })?;
        let now = now(directory, sources, before.as_ref(), &sandbox)?;
        found.push((directory, before, now));
    }
    if let Some(Some(named)) = &arguments.update {
        let all = || found.iter().flat_map(|(_, _, now)| now).flat_map(|now| &now.names).map(String::as_str);
        if !all().any(|name| name == named) {
            return Err(names::unknown("plugin of these workflows", named, all()));
        }
    }
    for (directory, before, now) in found {
        let mut used = used(directory);
        used.sources.extend(now.iter().map(|now| now.source.clone()));
        is_same &= lock_folder(directory, before, now, &used, arguments)?;
    }
    Ok(if is_same { Exit::Success } else { Exit::Changed })
}

fn folder_of(file: &Path) -> Result<PathBuf, Fault> {
    let folder = absolute(file)?.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(folder.canonicalize().unwrap_or(folder))
}

/// Adds what a file uses, and the files of its sub-workflows, which may lie in folders of their own.
fn add(
    source: &Source,
    directory: &Path,
    folders: &mut BTreeMap<PathBuf, Sources>,
    seen: &mut BTreeSet<String>,
) -> Result<(), Fault> {
    let (spec, found) = Spec::parse(source);
    let Some(spec) = spec else {
        talk::say(diagnostic::render(&found, source, true));
        return Err(Fault::refused(format!("{} has errors; nothing was locked", source.path)));
    };
    let folder = folders.entry(directory.to_path_buf()).or_default();
    for (name, path) in spec.plugin_paths() {
        folder.entry(path.to_owned()).or_default().insert(name.to_owned());
    }
    for named in spec.workflow_paths() {
        let whole = beside(&directory.display().to_string(), named);
        if seen.insert(whole.clone()) {
            let source = workflow_file::source(Path::new(&whole), &[])?;
            add(&source, &folder_of(Path::new(&whole))?, folders, seen)?;
        }
    }
    Ok(())
}

/// What the workflows of a folder use.
#[derive(Default)]
struct UsedHere {
    sources: BTreeSet<String>,
    /// What can't be read, if something can't: it may use more.
    unread: Option<PathBuf>,
}

fn used(directory: &Path) -> UsedHere {
    let mut used = UsedHere::default();
    let Ok(files) = workflow_file::files(directory) else {
        return UsedHere { unread: Some(directory.to_path_buf()), ..used };
    };
    for file in files {
        // Also of a file with errors there is a mirror; but what is wrong in it is left out, and may be a plugin.
        let read = workflow_file::source(&file, &[]).map(|source| Spec::parse(&source));
        let (spec, is_whole) = match read {
            Ok((spec, found)) => (spec, !found.iter().any(Diagnostic::is_error)),
            Err(_) => (None, false),
        };
        used.sources.extend(spec.iter().flat_map(Spec::plugin_paths).map(|(_, path)| path.to_owned()));
        if !is_whole || spec.is_none() {
            used.unread = Some(file);
        }
    }
    used
}

/// The sources of a folder as they are now, those that have to be built among them.
fn now(directory: &Path, sources: &Sources, before: Option<&Lock>, sandbox: &Sandbox) -> Result<Vec<Now>, Fault> {
    let now = |(source, names): (&String, &BTreeSet<String>)| {
        let (_, mut pinned) = workflow_file::pin(&directory.join(source), sandbox)
            .map_err(|error| Fault::refused(format!("{source}: {error}")))?;
        pinned.source_digest = source_digest(&directory.join(source));
        if pinned.source_digest.is_some() {
            pinned.signers.clear();
        }
        // What a component calls itself only now, nobody has reviewed: it would be taken over by the name of another one.
        let known = before.and_then(|lock| lock.plugins.get(source)).unwrap_or(&pinned);
        let mut names = names.clone();
        names.extend([source.clone(), known.name.clone()]);
        Ok(Now { source: source.clone(), names, pinned })
    };
    sources.iter().map(now).collect()
}

/// Brings a folder's lock up to date, or tells in what it is not. Whether it is now, or was. What the lock has beside what is
/// `used` is taken out, but stays while a workflow here can't be read.
fn lock_folder(
    directory: &Path,
    before: Option<Lock>,
    sources: Vec<Now>,
    used: &UsedHere,
    arguments: &Arguments,
) -> Result<bool, Fault> {
    let path = directory.join(LOCK_NAME);
    let mut lock = before.clone().unwrap_or_default();
    let (mut is_same, mut told) = (true, Vec::new());
    for Now { source, names, pinned: now } in sources {
        let known = lock.plugins.get(&source).map(|pinned| pinned.differs(&now));
        let is_meant = |named: &Option<String>| named.as_ref().is_none_or(|named| names.contains(named));
        match known {
            Some(found) if found.is_empty() => {}
            Some(found) if arguments.update.as_ref().is_some_and(is_meant) => {
                told.push(format!("~ {source}: {}", found.join("; ")));
                lock.plugins.insert(source.clone(), now);
            }
            Some(found) => {
                is_same = false;
                told.push(format!("! {source}: {}", found.join("; ")));
            }
            None => {
                is_same &= !arguments.check;
                let wants: Vec<&str> = now.wants.iter().map(|want| want.capability.as_str()).collect();
                let wants = if wants.is_empty() { "nothing".to_owned() } else { wants.join(", ") };
                told.push(format!("+ {source}: {} {}, wants {wants}", now.name, now.version));
                lock.plugins.insert(source.clone(), now);
            }
        }
    }
    let unused: Vec<String> = lock.plugins.keys().filter(|source| !used.sources.contains(*source)).cloned().collect();
    for source in unused {
        if let Some(unread) = &used.unread {
            told.push(format!("? {source}: kept, as {} can't be read, and may use it", unread.display()));
            continue;
        }
        is_same &= !arguments.check;
        told.push(format!("- {source}: no workflow here uses it"));
        lock.plugins.remove(&source);
    }
    told.iter().for_each(|line| talk::say(format_args!("{}: {line}", path.display())));
    if arguments.check {
        if is_same {
            talk::say(format_args!("{}: {}, up to date", path.display(), counted(lock.plugins.len() as u64, "plugin")));
        } else {
            talk::say(
                "hint: `downbeat diff` shows capabilities; review them, then `downbeat lock --update` takes them over",
            );
        }
        return Ok(is_same);
    }
    if !is_same {
        talk::say(
            "hint: what is marked with ! is as it was; review it, then `downbeat lock --update PLUGIN` takes it over",
        );
    }
    let text = lock.text();
    if before.is_none_or(|before| before.text() != text) {
        // In one step: a run that begins now reads the old one or the new one.
        let aside = directory.join(format!(".{LOCK_NAME}.{}", std::process::id()));
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, &path));
        written.map_err(|error| Fault::engine(format!("{} can't be written: {error}", path.display())))?;
    }
    Ok(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_source_is_over_all_that_compilers_see() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::create_dir_all(place.join("src/target")).unwrap();
        fs::create_dir_all(place.join("target")).unwrap();
        fs::write(place.join("src/lib.rs"), "").unwrap();
        let mut known = source_digest(place);
        assert!(known.is_some());
        fs::write(place.join("target/built"), "").unwrap();
        assert_eq!(source_digest(place), known, "what was built is no source");
        for name in ["src/lib.rs", "src/target/mod.rs", "src/.hidden.rs", ".cargo"] {
            fs::write(place.join(name), "fn x() {}").unwrap();
            let now = source_digest(place);
            assert!(now.is_some() && now != known, "{name}");
            known = now;
        }
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("a.rs"), "1").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("a.rs"), place.join("src/a.rs")).unwrap();
        let linked = source_digest(place);
        fs::write(elsewhere.path().join("a.rs"), "2").unwrap();
        assert_ne!(source_digest(place), linked, "what a link leads to");
        std::os::unix::fs::symlink(elsewhere.path(), place.join("src/b")).unwrap();
        assert_eq!(source_digest(place), None);
    }

    #[test]
    fn no_name_of_a_file_stands_for_two_in_the_digest_of_a_source() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::write(place.join("README.md"), "read").unwrap();
        fs::write(place.join("build.rs"), "").unwrap();
        assert!(source_digest(place).is_some());
        fs::remove_file(place.join("build.rs")).unwrap();
        let both = format!("README.md\n{} build.rs", Digest::of(b"").hex());
        fs::rename(place.join("README.md"), place.join(both)).unwrap();
        assert_eq!(source_digest(place), None);
    }
}
