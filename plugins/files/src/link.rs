//! Symbolic links: which are harmless, and how one is made.
//!
//! Harmless are those that can't lead out of the folder that is copied, packed or unpacked, whatever else is in it.

use std::{fs, io};

use downbeat_sdk::{Failure, files};

use crate::trouble;

/// Refuses a link that could lead out. `deed` is what was meant to happen to it.
pub(crate) fn check(name: &str, path: &str, target: &str, deed: &str) -> Result<(), Failure> {
    match stays_inside(path, target) {
        true => Ok(()),
        false => {
            Err(trouble::failed(name, deed, format!("it is a link to `{target}`, which may lead out of the folder")))
        }
    }
}

/// Makes a link, in the place of a file or link that may be there.
pub(crate) fn make(target: &str, path: &str) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => fs::remove_file(path).map_err(|error| trouble::io(path, "replaced", &error))?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(trouble::io(path, "made", &error)),
        _ => (),
    }
    files::symlink(target, path).map_err(|error| trouble::io(path, "made", &error))
}

/// Whether a link at `path`, below some folder, to `target` stays in the folder. It may go up, as far as it lies deep, and
/// then down. Going up again after going down is refused: what it went down through may itself be a link, and up from
/// where that leads is anywhere. So, as long as the folders above `path` are real, every chain of such links stays inside.
pub(crate) fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.split('/').filter(|name| !name.is_empty()).count().saturating_sub(1);
    let mut names = target.split('/').filter(|name| !matches!(*name, "" | ".")).peekable();
    let mut up = 0;
    while names.next_if_eq(&"..").is_some() {
        up += 1;
    }
    let absolute = target.starts_with('/') || target.contains(['\\', '\0']);
    !absolute && !target.is_empty() && up <= depth && names.all(|name| name != "..")
}

#[cfg(test)]
mod tests {
    use super::stays_inside;

    #[test]
    fn a_link_may_go_up_as_far_as_it_lies_deep_and_then_only_down() {
        for (path, target) in
            [("a", "b"), ("a", "b/c"), ("lib/a", "../b"), ("x/y/a", "../../b/c"), ("lib/a", "./a.1"), ("lib/a", "..")]
        {
            assert!(stays_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a", "../b"),
            ("lib/a", "../../b"),
            ("lib/a", "b/../../c"),
            ("lib/a", "b/.."),
            ("a", ""),
            ("a", "\\\\server\\x"),
            ("a", "b\0c"),
        ] {
            assert!(!stays_inside(path, target), "{path} -> {target}");
        }
    }
}
