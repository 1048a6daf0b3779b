//! Which directories there are, by the grants `files` and `workspace`.
//!
//! The files themselves are read and written through `std::fs`. What that can't tell is whether a path is missing or was
//! never granted: [`check_file`] and [`check_folder`] can, before anything is touched, and their refusal carries the line
//! to add to the workflow. Nor does it find `./data/x` where `data` is granted, as it compares texts: what they give back
//! is the path as it finds it. It also can't make symbolic links on WASI; [`symlink`] can.
//!
//! ```
//! use downbeat_sdk::prelude::*;
//! use downbeat_sdk::files::{self, Access};
//!
//! let host = downbeat_sdk::testing::Host::new();
//! host.grant_files("data", false);
//! assert_eq!(files::check_file("./data//report.json", Access::Read)?, "data/report.json");
//! let refused = files::check_file("data/report.json", Access::Write).expect_err("it may only be read");
//! assert_eq!(refused.hint, r#"grant = { files = [{ path = "data", write = true }] }"#);
//! # Ok::<(), Failure>(())
//! ```

use std::io;

use crate::{Refused, host};

/// The run's own directory, where the grant `workspace` shows it.
pub const WORKSPACE: &str = "/workspace";

/// A granted directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// As the workflow writes it: paths below begin with this very text.
    pub path: String,
    /// Whether what is in it may be changed.
    pub write: bool,
}

/// What is meant to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looking, and reading.
    Read,
    /// Making, changing, removing.
    Write,
}

/// The granted directories.
pub fn granted() -> Vec<Directory> {
    host::directories()
}

/// Whether the file at `path` may be reached. Whether it is there, `std::fs` will say, if it is asked for the path that
/// this gives back: the granted directory as the workflow writes it, and the names below it. `..` below it stays.
///
/// # Errors
///
/// No granted directory holds the path, or none that may be written to. The hint grants the directory that it lies in.
pub fn check_file(path: &str, access: Access) -> Result<String, Refused> {
    check(&granted(), path, access, parent(path))
}

/// As [`check_file`], for a directory: the hint grants the directory itself.
///
/// # Errors
///
/// As [`check_file`].
pub fn check_folder(path: &str, access: Access) -> Result<String, Refused> {
    check(&granted(), path, access, path)
}

/// Makes a symbolic link at `link` that leads to `target`, which is relative to where the link lies. Nothing may be at
/// `link` before. The sandbox makes no link that is absolute.
///
/// # Errors
///
/// As any function of `std::fs`; and permission is denied where no granted directory holds `link`.
pub fn symlink(target: &str, link: &str) -> io::Result<()> {
    let directories = granted();
    let (directory, below) = find(&directories, link).ok_or(io::ErrorKind::PermissionDenied)?;
    host::symlink(directory, target, &below.join("/"), link)
}

fn check(directories: &[Directory], path: &str, access: Access, folder: &str) -> Result<String, Refused> {
    let granted = match find(directories, path) {
        Some((directory, below)) if directory.write || access == Access::Read => {
            return Ok(canonical(directory, &below));
        }
        // The grant that is there lacks `write`.
        Some((directory, _)) => directory.path.as_str(),
        None => folder,
    };
    let in_workspace = parts(path).is_some_and(|parts| parts.first() == Some(&"workspace")) && path.starts_with('/');
    let (capability, grant) = match (in_workspace, access) {
        (true, _) => ("workspace", "workspace = true".to_owned()),
        (false, Access::Read) => ("files", format!("files = [{{ path = {granted:?} }}]")),
        (false, Access::Write) => ("files", format!("files = [{{ path = {granted:?}, write = true }}]")),
    };
    Err(Refused { capability: capability.into(), wanted: path.to_owned(), hint: format!("grant = {{ {grant} }}") })
}

/// The innermost granted directory that holds a path, and the path's names below it.
fn find<'d, 'p>(directories: &'d [Directory], path: &'p str) -> Option<(&'d Directory, Vec<&'p str>)> {
    let names = parts(path)?;
    (directories.iter())
        .filter_map(|directory| {
            let above = parts(&directory.path)?;
            let same_start = directory.path.starts_with('/') == path.starts_with('/') && names.starts_with(&above);
            let below = same_start.then(|| names[above.len()..].to_vec())?;
            is_inside(&below).then_some((directory, above.len(), below))
        })
        .max_by_key(|(_, depth, _)| *depth)
        .map(|(directory, _, below)| (directory, below))
}

/// The one text by which `std::fs` finds what lies below a granted directory. On WASI it looks for a directory whose text
/// the path begins with, as it stands; only, of the directory's text it leaves out every leading `/` and `./` before.
fn canonical(directory: &Directory, below: &[&str]) -> String {
    let root = if directory.path.starts_with('/') { "/" } else { "" };
    let mut granted = directory.path.as_str();
    while let Some(rest) = granted.strip_prefix('/').or_else(|| granted.strip_prefix("./")) {
        granted = rest;
    }
    let below = below.join("/");
    match (granted, below.as_str()) {
        ("" | ".", "") if root.is_empty() => ".".to_owned(),
        ("" | ".", below) => format!("{root}{below}"),
        (granted, "") => format!("{root}{granted}"),
        // Of a directory granted as `data/`, this leaves `data/` to whoever cuts off a name.
        (granted, below) => format!("{root}{granted}/{below}"),
    }
}

/// A path's names, without those that lead nowhere. `None`: there is no such path.
fn parts(path: &str) -> Option<Vec<&str>> {
    let right = !path.is_empty() && !path.contains('\0');
    right.then(|| path.split('/').filter(|name| !matches!(*name, "" | ".")).collect())
}

/// Whether names never lead above where they start.
fn is_inside(names: &[&str]) -> bool {
    let mut depth = 0_u32;
    names.iter().all(|name| {
        match *name {
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            _ => depth += 1,
        }
        true
    })
}

fn parent(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    fn directories(paths: &[&str]) -> Vec<Directory> {
        paths.iter().map(|path| Directory { path: (*path).to_owned(), write: !path.starts_with("read") }).collect()
    }

    fn check_hint(paths: &[&str], path: &str, access: Access, hint: &str) {
        let refused = check(&directories(paths), path, access, parent(path)).expect_err(path);
        assert_eq!((refused.wanted.as_str(), refused.hint), (path, format!("grant = {{ {hint} }}")));
    }

    #[test]
    fn a_path_is_granted_by_the_innermost_directory_that_holds_it() {
        let directories = directories(&[".", "read", "read/write", "/abs", "../up"]);
        for (path, directory, below) in [
            ("a/b", ".", "a/b"),
            ("./a//b/", ".", "a/b"),
            ("read/x", "read", "x"),
            ("readme", ".", "readme"),
            ("read/write/x", "read/write", "x"),
            ("read", "read", ""),
            ("read/a/../b", "read", "a/../b"),
            ("read/../x", ".", "read/../x"),
            ("/abs/x", "/abs", "x"),
            ("../up/x", "../up", "x"),
        ] {
            let (found, names) = find(&directories, path).expect(path);
            assert_eq!((found.path.as_str(), names.join("/").as_str()), (directory, below), "{path}");
        }
        for path in ["/etc/passwd", "../x", "a/../../x", "/abs/../etc", "", "a\0b", "../up/../x"] {
            assert_eq!(find(&directories, path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_given_back_as_the_grant_begins_it() {
        for (granted, path, canonical) in [
            ("keep", "keep/x", "keep/x"),
            ("keep", "./keep/x", "keep/x"),
            ("keep", "././/keep//./a/../x/", "keep/a/../x"),
            ("keep", "./keep/", "keep"),
            ("./keep", "keep/x", "keep/x"),
            ("./keep", "./keep/x", "keep/x"),
            (".//keep", "./keep", "keep"),
            ("keep/", "./keep/x", "keep//x"),
            ("a//b/./c", "a/b/c/x", "a//b/./c/x"),
            (".", "./x", "x"),
            ("./", "x/y", "x/y"),
            (".", "./", "."),
            (".hidden", "./.hidden/x", ".hidden/x"),
            ("../up", "./../up/x", "../up/x"),
            ("/abs", "/./abs//x", "/abs/x"),
            ("/./abs", "/abs/x", "/abs/x"),
            ("/", "//x", "/x"),
            ("/", "/", "/"),
        ] {
            let given = check(&directories(&[granted]), path, Access::Read, "").expect(path);
            assert_eq!(given, canonical, "{granted}: {path}");
            // It is its own canonical path.
            assert_eq!(check(&directories(&[granted]), &given, Access::Read, "").as_ref(), Ok(&given));
        }
    }

    #[test]
    fn a_refusal_is_the_line_that_would_allow_it() {
        check_hint(&[], "data/in/a.json", Access::Read, r#"files = [{ path = "data/in" }]"#);
        check_hint(&[], "a.json", Access::Read, r#"files = [{ path = "." }]"#);
        check_hint(&[], "/etc/passwd", Access::Read, r#"files = [{ path = "/etc" }]"#);
        check_hint(&["data"], "out/x", Access::Write, r#"files = [{ path = "out", write = true }]"#);
        check_hint(&["read"], "read/deep/x", Access::Write, r#"files = [{ path = "read", write = true }]"#);
        check_hint(&["."], "/workspace/x", Access::Write, "workspace = true");
    }

    #[test]
    fn natively_nothing_is_granted_until_the_host_says_so() {
        assert!(check_folder("data", Access::Read).is_err());
        let host = Host::new();
        assert!(check_folder("data", Access::Read).is_err());
        host.grant_files("data", true);
        assert_eq!(check_folder("./data", Access::Write), Ok("data".to_owned()));
        assert_eq!(
            check_folder("other", Access::Read).expect_err("not granted").hint,
            r#"grant = { files = [{ path = "other" }] }"#
        );
    }
}
