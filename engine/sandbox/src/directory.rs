//! Opening the host's directories for guests: component by component from the root, through no symbolic link, and nothing
//! that holds the engine's own. Apart, because attempts, programs and the check of a workflow ask the same.
//!
//! A grant names a directory by its path, and a guest that may write anywhere along that path could put a link in the
//! place of a directory: the next attempt with the grant, in this run or in another one, would get what the link points
//! to. No one can tell a link that the author made from one that a guest made, so none is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat};

/// How each component is opened: to go on from there, which takes the right to pass and not the one to read.
#[cfg(target_os = "linux")]
const STEP: OFlags = OFlags::PATH.union(HERE).union(OFlags::NOFOLLOW);
#[cfg(not(target_os = "linux"))]
const STEP: OFlags = HERE.union(OFlags::NOFOLLOW);

const HERE: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// A directory, held: what happens to its path from now on does not matter.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Open for reading.
    pub(crate) file: File,
    /// Where it was found: absolute, and free of links and `..`.
    pub(crate) path: PathBuf,
}

/// Why a directory is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Barred {
    /// Something on the way is a link.
    #[error(
        "`{}` is a symbolic link to `{}`, and no grant follows one, as a step may have made it; \
         grant the directory itself, or put it there instead of the link",
        path.display(), target.display()
    )]
    Link {
        /// Which.
        path: PathBuf,
        /// Where to.
        target: PathBuf,
    },
    /// It is, holds, or lies in what the engine keeps for itself.
    #[error(
        "`{}` has to do with `{}`, which the engine keeps for itself: who reaches that may change the record of runs and \
         the code of steps; grant a directory beside it, or keep it elsewhere (`--state`, `--cache`)",
        path.display(), reserved.display()
    )]
    Reserved {
        /// What was granted.
        path: PathBuf,
        /// What the engine keeps.
        reserved: PathBuf,
    },
    /// The system.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<rustix::io::Errno> for Barred {
    fn from(error: rustix::io::Errno) -> Barred {
        Barred::System(error.into())
    }
}

impl From<Barred> for io::Error {
    fn from(barred: Barred) -> io::Error {
        match barred {
            Barred::System(error) => error,
            barred => io::Error::new(io::ErrorKind::PermissionDenied, barred.to_string()),
        }
    }
}

impl Directory {
    /// Opens the directory at a path, through no link.
    pub(crate) fn open(path: &Path) -> Result<Directory, Barred> {
        let (file, found) = Directory::reach(path)?;
        Ok(Directory { file: openat(&file, ".", HERE, Mode::empty())?.into(), path: found })
    }

    /// Opens a file at an absolute path, through no link. A pipe does not keep whoever opens it waiting.
    pub(crate) fn open_file(path: &Path) -> Result<File, Barred> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        };
        let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(Directory::reach(parent)?.0, name, file, Mode::empty()) {
            Err(rustix::io::Errno::LOOP) => Err(Barred::Link { path: path.to_owned(), target: PathBuf::new() }),
            opened => Ok(opened?.into()),
        }
    }

    /// Goes to the directory at a path, through no link, and answers where that is.
    fn reach(path: &Path) -> Result<(OwnedFd, PathBuf), Barred> {
        let mut found = PathBuf::from("/");
        let mut file = openat(CWD, "/", STEP, Mode::empty())?;
        for component in std::path::absolute(path)?.components() {
            let name = match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
                // Without links on the way, the parent is what the text says.
                Component::ParentDir => {
                    found.pop();
                    OsStr::new("..")
                }
                Component::Normal(name) => {
                    found.push(name);
                    name
                }
            };
            file = step(&file, name, &found)?;
        }
        Ok((file, found))
    }

    /// Opens the directory at a path, through no link, or the file if one is there.
    pub(crate) fn open_or_file(path: &Path) -> Result<Directory, Barred> {
        let opened = Directory::open(path);
        let (Err(Barred::System(error)), Some(parent), Some(name)) = (&opened, path.parent(), path.file_name()) else {
            return opened;
        };
        if error.kind() != io::ErrorKind::NotADirectory {
            return opened;
        }
        let parent = Directory::open(parent)?;
        // A pipe does not keep whoever opens it waiting.
        let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Directory { file: openat(&parent.file, name, file, Mode::empty())?.into(), path: parent.path.join(name) })
    }

    /// Opens the directory at a path, through no link; makes it if it is not there, and those on the way to it.
    pub(crate) fn open_or_make(path: &Path) -> Result<Directory, Barred> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Directory::open(path) };
        let parent = match Directory::open(parent) {
            Err(Barred::System(error)) if error.kind() == io::ErrorKind::NotFound => Directory::open_or_make(parent)?,
            opened => opened?,
        };
        match mkdirat(&parent.file, name, Mode::from_raw_mode(0o777)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let path = parent.path.join(name);
        let file = step(&parent.file.into(), name, &path)?;
        Ok(Directory { file: openat(&file, ".", HERE, Mode::empty())?.into(), path })
    }

    /// Whether it is free of what the engine keeps for itself.
    pub(crate) fn apart_from(self, reserved: &[PathBuf]) -> Result<Directory, Barred> {
        let around: Vec<Identity> = self.path.ancestors().filter_map(identity).collect();
        for kept in reserved {
            // The name of a link counts as well as what it points to: who may change the folder that it lies in may
            // point it elsewhere.
            let parent = kept.parent().and_then(|parent| parent.canonicalize().ok());
            let named = parent.zip(kept.file_name()).map_or(kept.clone(), |(parent, name)| parent.join(name));
            let meant = kept.canonicalize().ok();
            let inside = meant.as_deref().and_then(identity).is_some_and(|kept| around.contains(&kept));
            let mut holders = [Some(&*named), meant.as_deref()].into_iter().flatten();
            let holds = around
                .first()
                .is_some_and(|own| holders.any(|path| path.ancestors().any(|path| identity(path) == Some(*own))));
            if inside || holds {
                return Err(Barred::Reserved { path: self.path, reserved: kept.clone() });
            }
        }
        Ok(self)
    }
}

/// Opens a directory in another one, unless it is a link.
fn step(file: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd, Barred> {
    openat(file, name, STEP, Mode::empty()).map_err(|error| {
        let is_link = statat(file, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        match is_link {
            true => {
                let target = readlinkat(file, name, Vec::new()).unwrap_or_default();
                let target = PathBuf::from(target.to_string_lossy().into_owned());
                Barred::Link { path: path.to_owned(), target }
            }
            false => error.into(),
        }
    })
}

/// The same for all names of one directory.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder with `data/in`, `state` and links to them.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("data/in")).unwrap();
        fs::create_dir_all(root.join("state/inner")).unwrap();
        symlink("data", root.join("link")).unwrap();
        symlink(root.join("state"), root.join("data/kept")).unwrap();
        (folder, root)
    }

    #[test]
    fn a_path_without_links_is_opened_whatever_its_spelling() {
        let (_folder, root) = folder();
        for spelling in ["data/in", "data/./in/", "data/in/../in", "../../../../../../../../.."] {
            let opened = Directory::open(&root.join(spelling)).unwrap();
            assert_eq!(opened.path, root.join(spelling).canonicalize().unwrap(), "{spelling}");
        }
    }

    #[test]
    fn a_file_is_opened_where_one_may_be_and_a_link_is_none() {
        let (_folder, root) = folder();
        fs::write(root.join("data/file"), "text").unwrap();
        symlink("file", root.join("data/name")).unwrap();
        let opened = Directory::open_or_file(&root.join("data/file")).unwrap();
        assert_eq!((io::read_to_string(opened.file).unwrap().as_str(), opened.path), ("text", root.join("data/file")));
        assert!(Directory::open_or_file(&root.join("data")).is_ok());
        assert!(matches!(Directory::open_or_file(&root.join("data/name")), Err(Barred::Link { .. })));
        assert!(matches!(Directory::open_or_file(&root.join("data/none")), Err(Barred::System(_))));
    }

    #[test]
    fn a_link_anywhere_on_the_way_is_refused_and_named() {
        let (_folder, root) = folder();
        for (path, link) in
            [("link", "link"), ("link/in", "link"), ("data/../link/in", "link"), ("data/kept", "data/kept")]
        {
            let refused = Directory::open(&root.join(path)).unwrap_err();
            assert!(matches!(&refused, Barred::Link { path, .. } if *path == root.join(link)), "{path}: {refused}");
        }
        let refused = Directory::open_or_make(&root.join("link/new")).unwrap_err();
        assert!(matches!(refused, Barred::Link { .. }), "{refused}");
        assert!(!root.join("data/new").exists());
    }

    #[test]
    fn a_directory_is_made_once_and_then_opened() {
        let (_folder, root) = folder();
        let made = Directory::open_or_make(&root.join("new/run")).unwrap();
        assert_eq!(made.path, root.join("new/run"));
        fs::write(root.join("new/run/x"), "").unwrap();
        Directory::open_or_make(&root.join("new/run")).unwrap();
        assert!(root.join("new/run/x").exists());
    }

    #[test]
    fn what_holds_or_lies_in_the_engines_own_is_reserved() {
        let (_folder, root) = folder();
        let judge = |granted: &str, kept: &str| {
            Directory::open(&root.join(granted)).unwrap().apart_from(&[root.join(kept)]).map(drop)
        };
        for (granted, kept) in [
            (".", "state"),
            ("state", "state"),
            ("state/inner", "state"),
            ("..", "state"),
            (".", "not-yet"),
            ("data", "data/kept"),
        ] {
            assert!(matches!(judge(granted, kept), Err(Barred::Reserved { .. })), "{granted} {kept}");
        }
        for (granted, kept) in
            [("data", "state"), ("data/in", "data/kept"), ("state/inner", "data"), ("data", "data/../state")]
        {
            assert!(judge(granted, kept).is_ok(), "{granted} {kept}");
        }
    }
}
