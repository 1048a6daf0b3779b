//! A copy of a run's workspace for a run that goes on from it: files with their times and modes, since build tools compare those,
//! and links as links. Nothing is followed, and what is neither file, folder nor link is left out.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use downbeat_sandbox::remove_tree;

/// The most bytes that are copied. 16 GiB: more is better built again than kept twice.
pub(crate) const WORKSPACE_COPY_BYTES_MAX: u64 = 16 << 30;

/// The most files, folders and links that are copied. A million: a large build has some hundred thousand.
pub(crate) const WORKSPACE_COPY_ENTRIES_MAX: u64 = 1_000_000;

/// Copies a workspace to where none is; on failure nothing of it is left there. The error is for a person.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if !fs::symlink_metadata(from).is_ok_and(|found| found.is_dir()) {
        return Err("it is not there any more".to_owned());
    }
    copy_tree(from, to).map_err(|error| {
        let _ = remove_tree(to);
        error.to_string()
    })
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let (mut bytes, mut entries) = (0, 0);
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent)?;
    let mut open: Vec<(PathBuf, PathBuf)> = vec![(from.to_path_buf(), to.to_path_buf())];
    // A folder's own time is that of its last change, and the copy makes those: it is set once all is in it.
    let mut folders: Vec<(PathBuf, Metadata)> = Vec::new();
    while let Some((source, target)) = open.pop() {
        fs::create_dir(&target)?;
        folders.push((target.clone(), fs::symlink_metadata(&source)?));
        for entry in fs::read_dir(&source)? {
            let entry = entry?;
            let (path, copied) = (entry.path(), target.join(entry.file_name()));
            let found = fs::symlink_metadata(&path)?;
            entries += 1;
            bytes += if found.is_file() { found.len() } else { 0 };
            if bytes > WORKSPACE_COPY_BYTES_MAX || entries > WORKSPACE_COPY_ENTRIES_MAX {
                let gib = WORKSPACE_COPY_BYTES_MAX >> 30;
                let message = format!("it has more than {gib} GiB or {WORKSPACE_COPY_ENTRIES_MAX} entries");
                return Err(io::Error::other(message));
            }
            if found.is_dir() {
                open.push((path, copied));
            } else if found.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, &copied)?;
            } else if found.is_file() {
                // Shares the blocks where the file system can, and takes the mode along.
                fs::copy(&path, &copied)?;
                set_times(&copied, &found)?;
            }
        }
    }
    for (folder, found) in folders.iter().rev() {
        set_times(folder, found)?;
        fs::set_permissions(folder, found.permissions())?;
    }
    Ok(())
}

fn set_times(path: &Path, like: &Metadata) -> io::Result<()> {
    let times = FileTimes::new().set_modified(like.modified()?).set_accessed(like.accessed()?);
    // A copy that may only be read can be opened to be read: times are the owner's affair.
    File::open(path)?.set_times(times)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_copy_has_the_files_their_modes_and_times_and_links_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("old"), folder.path().join("new"));
        fs::create_dir_all(from.join("src/deep")).unwrap();
        fs::write(from.join("src/deep/main.rs"), "fn main() {}").unwrap();
        fs::write(from.join("run"), "#!/bin/sh").unwrap();
        fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(from.join("src/deep/main.rs"), fs::Permissions::from_mode(0o400)).unwrap();
        symlink("/etc/passwd", from.join("away")).unwrap();
        symlink("nowhere", from.join("src/broken")).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for path in ["src/deep/main.rs", "src/deep"] {
            let times = FileTimes::new().set_modified(long_ago);
            File::open(from.join(path)).unwrap().set_times(times).unwrap();
        }
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/deep/main.rs")).unwrap(), "fn main() {}");
        assert_eq!(fs::metadata(to.join("run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(to.join("src/deep/main.rs")).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_link(to.join("away")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(to.join("src/broken")).unwrap(), Path::new("nowhere"));
        for path in ["src/deep/main.rs", "src/deep"] {
            assert_eq!(fs::metadata(to.join(path)).unwrap().modified().unwrap(), long_ago, "{path}");
        }
    }

    #[test]
    fn a_workspace_that_is_gone_or_a_link_is_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("new");
        assert!(copy(&folder.path().join("old"), &to).unwrap_err().contains("not there"));
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        assert!(copy(&folder.path().join("link"), &to).unwrap_err().contains("not there"));
        assert!(!to.exists());
    }
}
