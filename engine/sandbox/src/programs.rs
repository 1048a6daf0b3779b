//! Native programs as files: where a granted one is, and by which other paths it is known. A rule that forbids a program is about
//! the file, and `/bin/sh` may be `/usr/bin/sh`, `/usr/bin/dash`, and whatever link leads to one of them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `PATH` of programs if the engine has none itself.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Links that are followed, at most: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// The file of a granted program: an absolute path, or a name in one of the engine's own absolute `PATH` folders. Nothing
/// is looked up in the working directory or in a `PATH` that the guest sets: a guest may write there, and what it put
/// there would run in place of what was granted.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_absolute());
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let runs = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    std::env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(runs)
}

/// The other paths that a program is known by on this machine, at this moment: where its name is found, every link on the way to
/// its file, the file, and those of `others` that are the same file by another name. None of a program that is not there.
pub fn program_paths<'o>(program: &str, others: impl IntoIterator<Item = &'o str>) -> Vec<String> {
    let Some(path) = find_program(program) else { return Vec::new() };
    let Ok(file) = path.metadata() else { return Vec::new() };
    let is_it = |other: &&str| {
        std::fs::metadata(other).is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
    };
    let others = others.into_iter().filter(is_it).map(PathBuf::from);
    let all = std::iter::once(path.clone()).chain(on_the_way(&path)).chain(others);
    all.map(|path| path.display().to_string()).filter(|path| path != program).collect()
}

/// The absolute path that a text stands for, which may start with the user's home (`~/.cargo`) or with what a variable of the engine's
/// environment says (`$CARGO_HOME/bin`). `None` of a relative one, and if there is no such home or variable.
pub(crate) fn expanded(text: &str) -> Option<PathBuf> {
    let (start, rest) = text.split_once('/').unwrap_or((text, ""));
    let start = match start.strip_prefix('$') {
        _ if start.is_empty() => PathBuf::from("/"),
        Some(variable) => PathBuf::from(std::env::var_os(variable)?),
        None if start == "~" => PathBuf::from(std::env::var_os("HOME")?),
        None => return None,
    };
    Some(start.join(rest.trim_start_matches('/'))).filter(|path| path.is_absolute())
}

/// Where such a text leads at this moment, through all links; of what is not there yet, where it would be.
pub fn led_to(text: &str) -> Option<PathBuf> {
    on_the_way(&expanded(text)?).pop()
}

/// Where a path really leads, and every link on the way there: whoever can write where one of them is decides what is found.
pub fn on_the_way(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let parts = |path: &Path| path.iter().rev().map(OsString::from).collect::<Vec<_>>();
    let (mut places, mut here, mut ahead) = (Vec::new(), PathBuf::from("/"), parts(&path));
    while let Some(part) = ahead.pop() {
        match part.to_str() {
            Some(".") => {}
            Some("..") => drop(here.pop()),
            _ => {
                let place = here.join(&part);
                match place.read_link() {
                    Ok(target) if places.len() < LINKS_MAX => {
                        ahead.extend(parts(&target));
                        places.push(place);
                    }
                    _ => here = place,
                }
            }
        }
    }
    places.push(here);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_is_known_by_every_link_to_it_and_by_its_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name).display().to_string();
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/tool"), "").unwrap();
        std::fs::hard_link(at("real/tool"), at("twin")).unwrap();
        symlink("real", at("folder")).unwrap();
        symlink("folder/tool", at("link")).unwrap();
        symlink(at("link"), at("far")).unwrap();
        let known = program_paths(&at("far"), [at("twin").as_str(), at("nothing").as_str(), "/"]);
        for name in ["link", "real/tool", "twin"] {
            assert!(known.contains(&at(name)), "{name}: {known:?}");
        }
        assert!(!known.contains(&at("far")) && !known.contains(&"/".to_owned()), "{known:?}");
        assert!(program_paths(&at("real/tool"), []).is_empty(), "it has no other");
        assert!(program_paths("no-program-of-this-name", []).is_empty());
        assert!(program_paths("relative/sh", []).is_empty());
        assert!(program_paths("sh", []).iter().all(|path| path.starts_with('/')));
    }
}
