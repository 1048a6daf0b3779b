use std::fs;
use std::io::Write as _;
use std::path::Path;

use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};
use serde_json::json;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// A granted folder with files in it, and a host that grants it.
struct Place {
    folder: TempDir,
    host: Host,
}

fn place(files: &[(&str, &str)]) -> Place {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let host = Host::new();
    host.grant_files(folder.path().display().to_string(), true);
    let place = Place { folder, host };
    for (name, text) in files {
        place.put(name, text);
    }
    place
}

impl Place {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("its folder can be made");
        fs::write(path, text).expect("it can be written");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// All files below a folder with their texts, links with their targets.
    fn tree(&self, name: &str) -> Vec<String> {
        let root = self.folder.path().join(name);
        let mut lines = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("an entry can be read").path();
                let name = path.strip_prefix(&root).expect("it lies below").display().to_string();
                let metadata = fs::symlink_metadata(&path).expect("it is there");
                if metadata.is_symlink() {
                    lines.push(format!("{name} -> {}", fs::read_link(&path).expect("it is a link").display()));
                } else if metadata.is_dir() {
                    lines.push(format!("{name}/"));
                    folders.push(path);
                } else {
                    lines.push(format!("{name}: {}", fs::read_to_string(&path).expect("it is text")));
                }
            }
        }
        lines.sort();
        lines
    }

    /// An archive of raw entries: kind, path, target, content. Names go in as they are, which no decent program does.
    fn archive(&self, name: &str, entries: &[(EntryType, &str, &str, &str)]) -> String {
        let mut archive = Builder::new(Vec::new());
        for (kind, path, target, content) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).expect("memory takes it");
        }
        self.put(name, archive.into_inner().expect("memory takes it"));
        self.path(name)
    }
}

fn run(input: Value) -> Result<Value, Failure> {
    testing::run::<work_on_files>(input)
}

fn output(input: Value) -> Value {
    run(input).unwrap_or_else(|failure| panic!("{}", failure.message))
}

fn failure(input: Value) -> (Kind, String) {
    let failure = run(input).expect_err("it fails");
    (failure.kind, failure.message)
}

#[test]
fn a_file_is_read_as_text_json_or_lines() {
    let place = place(&[("a.txt", "one\n\ntwo \n"), ("a.json", r#"{"n": [1, null]}"#)]);
    let read = |name: &str, parse: &str| output(json!({ "read": { "path": place.path(name), "parse": parse } }));
    assert_eq!(read("a.txt", "text"), json!({ "text": "one\n\ntwo \n", "files": 1, "bytes": 10 }));
    assert_eq!(read("a.txt", "lines")["lines"], json!(["one", "two"]));
    assert_eq!(read("a.json", "json")["json"], json!({ "n": [1, null] }));
}

#[test]
fn what_cannot_be_read_says_why() {
    let place = place(&[("big", "12345"), ("a.txt", "{")]);
    place.put("latin1", b"ab\xe4");
    let read = |name: &str, more: Value| {
        let mut input = json!({ "path": place.path(name) });
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (kind, text) = failure(json!({ "read": input }));
        assert_eq!(kind, Kind::Permanent);
        text.split_once("can't be ").expect("it says what can't be").1.to_owned()
    };
    assert_eq!(read("none", json!({})), "read: there is no such file or folder");
    assert_eq!(read("latin1", json!({})), "read: it is no UTF-8 after byte 2");
    assert_eq!(read("big", json!({ "max-bytes": 4 })), "read: it has more than 4 bytes, which `max-bytes` allows");
    assert!(read("a.txt", json!({ "parse": "json" })).starts_with("read: it is no JSON: EOF"));
}

#[test]
fn a_file_is_written_whole_with_the_folders_above_it() {
    let place = place(&[("out/old", "old")]);
    let written = output(json!({ "write": { "path": place.path("out/deep/new.txt"), "text": "hello\n" } }));
    assert_eq!(
        written,
        json!({
            "digest": "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", "files": 1, "bytes": 6
        })
    );
    output(json!({ "write": { "path": place.path("out/old"), "json": { "b": [1], "a": null } } }));
    assert_eq!(place.text("out/old"), "{\n  \"b\": [\n    1\n  ],\n  \"a\": null\n}\n");
    // Nothing half-finished is left.
    assert_eq!(place.tree("out").len(), 3);

    assert_eq!(failure(json!({ "write": { "path": place.path("x") } })).0, Kind::InvalidInput);
    assert_eq!(failure(json!({ "write": { "path": place.path("x"), "text": "", "json": 1 } })).0, Kind::InvalidInput);
    assert!(failure(json!({ "write": { "path": place.path("out/old/x"), "text": "" } })).1.contains("in the way"));
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let place = place(&[("folder/inside", "x")]);
    assert_eq!(failure(json!({ "write": { "path": place.path("folder"), "text": "no" } })).0, Kind::Permanent);
    assert_eq!(place.tree(""), ["folder/", "folder/inside: x"]);
}

#[test]
fn files_are_found_by_patterns_in_one_order() {
    let place = place(&[
        ("src/lib.rs", ""),
        ("src/a/b.rs", ""),
        ("src/a/.hidden.rs", ""),
        ("readme.md", ""),
        ("target/debug/x.rs", ""),
        ("src-old/c.rs", ""),
    ]);
    let find = |wanted: Value, except: Value| {
        output(json!({ "glob": { "folder": place.path(""), "match": wanted, "except": except } }))["paths"].clone()
    };
    assert_eq!(find(json!(["src/*.rs"]), json!([])), json!(["src/lib.rs"]));
    assert_eq!(find(json!(["src/**/*.rs"]), json!([])), json!(["src/a/.hidden.rs", "src/a/b.rs", "src/lib.rs"]));
    assert_eq!(
        find(json!([]), json!(["target/**", "**/.*"])),
        json!(["readme.md", "src-old/c.rs", "src/a/b.rs", "src/lib.rs"])
    );
    assert_eq!(find(json!(["*.md", "src/[k-m]ib.rs"]), json!([])), json!(["readme.md", "src/lib.rs"]));
    assert_eq!(find(json!(["nothing"]), json!([])), json!([]));

    let (kind, text) = failure(json!({ "glob": { "folder": place.path(""), "match": ["a**"] } }));
    assert_eq!(kind, Kind::InvalidInput);
    assert!(text.starts_with("`a**` is no pattern: "), "{text}");
    assert!(failure(json!({ "glob": { "folder": place.path("none") } })).1.ends_with("no such file or folder"));
}

#[test]
fn a_hash_is_what_sha256sum_says_of_a_file_and_of_its_own_list() {
    let place = place(&[("d/b", "two"), ("d/a", "one"), ("d/c/x", "")]);
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let file = output(json!({ "hash": { "path": place.path("d/a") } }));
    assert_eq!(file, json!({ "digest": format!("sha256:{one}"), "files": 1, "bytes": 3 }));

    let two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let folder = output(json!({ "hash": { "path": place.path("d") } }));
    assert_eq!(
        folder["digests"],
        json!({ "a": format!("sha256:{one}"), "b": format!("sha256:{two}"), "c/x": format!("sha256:{empty}") })
    );
    let list = format!("{one}  a\n{two}  b\n{empty}  c/x\n");
    place.put("list", list);
    assert_eq!(folder["digest"], output(json!({ "hash": { "path": place.path("list") } }))["digest"]);
    assert_eq!((&folder["files"], &folder["bytes"]), (&json!(3), &json!(6)));
    let some = output(json!({ "hash": { "path": place.path("d"), "except": ["c/**"] } }));
    assert_eq!(some["files"], 2);
    assert_eq!(failure(json!({ "hash": { "path": place.path("d/a"), "match": ["*"] } })).0, Kind::InvalidInput);
}

#[cfg(unix)]
#[test]
fn a_copy_holds_the_same_files_and_links() {
    let place = place(&[("from/a", "1"), ("from/deep/b", "22"), ("to/a", "old"), ("to/kept", "k")]);
    fs::create_dir(place.path("from/empty")).expect("it can be made");
    std::os::unix::fs::symlink("../a", place.path("from/deep/link")).expect("it can be made");
    let input = json!({ "copy": { "from": place.path("from"), "to": place.path("to") } });
    for _ in 0..2 {
        assert_eq!(output(input.clone()), json!({ "files": 3, "bytes": 3 }));
        assert_eq!(place.tree("to"), ["a: 1", "deep/", "deep/b: 22", "deep/link -> ../a", "empty/", "kept: k"]);
    }
    let one = json!({ "copy": { "from": place.path("from/a"), "to": place.path("new/one") } });
    assert_eq!(output(one), json!({ "files": 1, "bytes": 1 }));
    assert_eq!(place.text("new/one"), "1");
    let some = json!({ "copy": { "from": place.path("from"), "to": place.path("some"), "match": ["**/b"] } });
    assert_eq!(output(some)["files"], 1);
    assert_eq!(place.tree("some"), ["deep/", "deep/b: 22"]);

    let inside = json!({ "copy": { "from": place.path("from"), "to": place.path("./from/deep/copy") } });
    assert_eq!(failure(inside).0, Kind::InvalidInput);
    std::os::unix::fs::symlink("../../etc", place.path("from/deep/out")).expect("it can be made");
    let (_, text) = failure(input);
    assert!(text.ends_with("it is a link to `../../etc`, which may lead out of the folder"), "{text}");
}

#[test]
fn removing_comes_to_the_same_end_however_often() {
    let place = place(&[("d/a", "1"), ("d/e/b", "2"), ("f", "3")]);
    let remove = |name: &str| output(json!({ "remove": { "path": place.path(name) } }))["files"].clone();
    assert_eq!((remove("d"), remove("d")), (json!(2), json!(0)));
    assert_eq!((remove("f"), remove("f")), (json!(1), json!(0)));
    assert_eq!(place.tree(""), Vec::<String>::new());
}

#[test]
fn a_granted_directory_stays_with_what_is_in_it_however_it_is_written() {
    let place = place(&[("keep/x", "1"), ("keep/d/y", "2")]);
    let host = Host::new();
    host.grant_files(place.path("keep"), true);
    for end in ["", "/", "//.", "/./"] {
        let (_, text) = failure(json!({ "remove": { "path": place.path("keep") + end } }));
        assert!(text.ends_with("it is the granted directory itself; name what is in it"), "{end}: {text}");
    }
    let (_, text) = failure(json!({ "remove": { "path": place.path("keep/d/..") } }));
    assert!(text.ends_with("it ends with `..`; name the folder itself"), "{text}");
    // A grant that ends with a slash is the same one.
    let host = Host::new();
    host.grant_files(place.path("keep/"), true);
    assert!(failure(json!({ "remove": { "path": place.path("keep") } })).1.contains("the granted directory itself"));
    assert_eq!(place.tree("keep"), ["d/", "d/y: 2", "x: 1"]);
}

#[test]
fn a_path_is_used_as_the_grant_begins_it() {
    let place = place(&[("d/x", "1")]);
    let none = place.path("d/none");
    let winding = none.replace("/d/none", "/.//d/./none/");
    for input in [
        json!({ "read": { "path": winding } }),
        json!({ "glob": { "folder": winding } }),
        json!({ "hash": { "path": winding } }),
        json!({ "copy": { "from": winding, "to": place.path("to") } }),
        json!({ "pack": { "folder": winding, "to": place.path("to.tar") } }),
        json!({ "unpack": { "archive": winding, "to": place.path("to") } }),
    ] {
        assert!(failure(input).1.starts_with(&format!("`{none}` can't be ")));
    }
    let file = winding.replace("/none/", "/x");
    for input in [
        json!({ "write": { "path": format!("{file}/inside"), "text": "" } }),
        json!({ "copy": { "from": place.path("d/x"), "to": format!("{file}/inside") } }),
        json!({ "unpack": { "archive": place.archive("x.tar", &[]), "to": file } }),
        json!({ "make-folder": { "path": file } }),
    ] {
        assert_eq!(
            failure(input).1,
            format!("`{}` can't be made: a file of this name is in the way", place.path("d/x"))
        );
    }
    assert_eq!(output(json!({ "remove": { "path": file } }))["files"], 1);
    assert_eq!(place.tree("d"), Vec::<String>::new());
}

#[test]
fn more_can_be_removed_than_is_walked_through() {
    let place = place(&[]);
    place.put("d/deep/0", "");
    for i in 1..=tree::ENTRIES_MAX {
        fs::File::create(place.path(&format!("d/{i}"))).expect("it can be made");
    }
    let (_, text) = failure(json!({ "glob": { "folder": place.path("d") } }));
    assert!(text.ends_with("more than 1000 entries; leave folders out with `except = [\"name/**\"]`"), "{text}");
    assert_eq!(output(json!({ "remove": { "path": place.path("d") } }))["files"], tree::ENTRIES_MAX + 1);
    assert_eq!(place.tree(""), Vec::<String>::new());
}

#[test]
fn what_a_killed_attempt_left_behind_is_no_content() {
    let place = place(&[("d/a", "1"), ("d/.downbeat.part", "2")]);
    let hash = json!({ "hash": { "path": place.path("d") } });
    let (packed, hashed) = (pack(&place, "d", "clean.tar"), output(hash.clone()));
    let context = Context::default();
    let mut half = whole::Whole::begin(&context, &place.path("d/b")).expect("it can be written");
    half.write_all(b"ha").expect("it can be written");
    std::mem::forget(half);
    assert_eq!(place.tree("d").len(), 3);

    assert_eq!(pack(&place, "d", "again.tar"), packed);
    assert_eq!(output(hash), hashed);
    assert_eq!(output(json!({ "glob": { "folder": place.path("d") } }))["paths"], json!([".downbeat.part", "a"]));
    output(json!({ "copy": { "from": place.path("d"), "to": place.path("copy") } }));
    assert_eq!(place.tree("copy"), [".downbeat.part: 2", "a: 1"]);
    assert_eq!(output(json!({ "remove": { "path": place.path("d") } }))["files"], 3);
}

#[cfg(unix)]
#[test]
fn what_has_no_content_is_passed_over_but_can_be_removed() {
    let place = place(&[("d/a", "1")]);
    std::os::unix::net::UnixListener::bind(place.path("d/socket")).expect("it can be made");
    assert_eq!(output(json!({ "glob": { "folder": place.path("d") } }))["paths"], json!(["a"]));
    assert_eq!(output(json!({ "hash": { "path": place.path("d") } }))["files"], 1);
    assert_eq!(output(json!({ "copy": { "from": place.path("d"), "to": place.path("copy") } }))["files"], 1);
    assert_eq!(pack(&place, "d", "d.tar")["files"], 1);
    assert_eq!(output(json!({ "remove": { "path": place.path("d") } }))["files"], 2);
    assert!(!Path::new(&place.path("d")).exists());
}

#[test]
fn a_folder_is_made_once() {
    let place = place(&[("file", "")]);
    for _ in 0..2 {
        output(json!({ "make-folder": { "path": place.path("a/b") } }));
    }
    assert!(Path::new(&place.path("a/b")).is_dir());
    assert!(failure(json!({ "make-folder": { "path": place.path("file") } })).1.contains("is in the way"));
}

fn pack(place: &Place, folder: &str, to: &str) -> Value {
    output(json!({ "pack": {
        "folder": place.path(folder), "to": place.path(to), "except": ["skip/**"], "executable": ["bin/*"],
    } }))
}

#[cfg(unix)]
#[test]
fn the_same_files_pack_to_the_same_bytes_and_unpack_to_the_same_files() {
    let long = "long-".repeat(30);
    let place = place(&[("a/bin/run", "#!"), ("a/readme", "hi"), ("a/skip/x", "no")]);
    place.put(&format!("a/{long}/file"), "deep");
    std::os::unix::fs::symlink("bin/run", place.path("a/run")).expect("it can be made");
    // The same again, made in another order, at another time, by another owner for all that is known.
    let other = self::place(&[("b/readme", "hi")]);
    std::os::unix::fs::symlink("bin/run", other.path("b/run")).expect("it can be made");
    other.put(&format!("b/{long}/file"), "deep");
    other.put("b/bin/run", "#!");
    for end in ["tar", "tar.gz", "tgz"] {
        other.host.grant_files(place.folder.path().display().to_string(), true);
        let (one, two) = (pack(&place, "a", &format!("x.{end}")), pack(&other, "b", &format!("y.{end}")));
        assert_eq!(one, two);
        assert_eq!(one["files"], 4);
        let name = place.path(&format!("x.{end}"));
        let unpacked = output(json!({ "unpack": { "archive": name, "to": place.path(end) } }));
        assert_eq!((&unpacked["files"], &unpacked["bytes"]), (&json!(4), &json!(8)));
        assert_eq!(
            place.tree(end),
            [
                "bin/".to_owned(),
                "bin/run: #!".into(),
                format!("{long}/"),
                format!("{long}/file: deep"),
                "readme: hi".into(),
                "run -> bin/run".into()
            ]
        );
        // Once more over what is there already.
        output(json!({ "unpack": { "archive": name, "to": place.path(end) } }));
    }
    assert_eq!(
        other.host.log().last().map(String::as_str),
        Some("warn: 1 of the files are programs, which can't be executed from here: a sandbox sets no modes")
    );
}

#[test]
fn an_archive_in_the_folder_that_it_is_made_of_is_not_part_of_itself() {
    let place = place(&[("d/a", "1")]);
    let once = pack(&place, "d", "d/all.tar.gz");
    assert_eq!((pack(&place, "d", "d/./all.tar.gz"), &once["files"]), (once.clone(), &json!(1)));
    assert_eq!(
        failure(json!({ "pack": { "folder": place.path("d"), "to": place.path("d.zip") } })).0,
        Kind::InvalidInput
    );
}

/// The archive is refused for this reason, and nothing of it was written.
fn check_refused(entries: &[(EntryType, &str, &str, &str)], reason: &str) {
    let place = place(&[]);
    let mut all = vec![(EntryType::Regular, "good", "", "first")];
    all.extend_from_slice(entries);
    let archive = place.archive("x.tar", &all);
    let (kind, text) = failure(json!({ "unpack": { "archive": archive, "to": place.path("to") } }));
    assert_eq!(kind, Kind::Permanent);
    assert!(text.contains(reason), "{text}\n  instead of: {reason}");
    assert!(!Path::new(&place.path("to")).exists(), "{text}, but something was written");
}

#[test]
fn an_archive_that_reaches_out_of_its_folder_is_refused_before_anything_is_written() {
    use EntryType::*;
    check_refused(&[(Regular, "/etc/passwd", "", "x")], "`/etc/passwd`: its path is absolute");
    check_refused(&[(Regular, "../x", "", "x")], "its path leads upwards with `..`");
    check_refused(&[(Regular, "a/../../x", "", "x")], "its path leads upwards with `..`");
    check_refused(&[(Regular, "a\\..\\x", "", "x")], "its path has a `\\`");
    check_refused(&[(Directory, "../x/", "", "")], "its path leads upwards");
    check_refused(&[(Symlink, "l", "/etc", "")], "it is a link to `/etc`, which may lead out of the folder");
    check_refused(&[(Symlink, "l", "../..", "")], "it is a link to `../..`");
    check_refused(&[(Symlink, "d/l", "x/../../..", "")], "which may lead out of the folder");
    check_refused(&[(Symlink, "l", "", "")], "it is a link to nothing");
    check_refused(
        &[(Symlink, "l", "d", ""), (Regular, "l/x", "", "x")],
        "it lies below `l`, which is a file or a link",
    );
    check_refused(&[(Regular, "f", "", "x"), (Regular, "f/x", "", "x")], "it lies below `f`");
    check_refused(&[(Regular, "d/x", "", "x"), (Symlink, "d", "e", "")], "it is a folder and something else");
    check_refused(&[(Link, "h", "/etc/passwd", "")], "its path is absolute");
    check_refused(
        &[(Link, "h", "other", "")],
        "it is a hard link to `other`, which is no file of the archive before it",
    );
    check_refused(&[(Symlink, "l", "good", ""), (Link, "h", "l", "")], "a hard link to `l`");
    check_refused(&[(Char, "null", "", "")], "it is a device");
    check_refused(&[(Fifo, "pipe", "", "")], "it is a pipe");
    check_refused(&[(GNUSparse, "holes", "", "")], "it is a sparse file");
    check_refused(
        &[(XHeader, "pax", "", "16 path=../evil\n"), (Regular, "ok", "", "x")],
        "`../evil`: its path leads upwards",
    );
    check_refused(&[(XHeader, "pax", "", "9 size=1\n"), (Regular, "ok", "", "x")], "gives another size");
    check_refused(&[(GNULongName, "long", "", "/abs"), (Regular, "ok", "", "x")], "`/abs`: its path is absolute");
    check_refused(&[(GNULongName, "long", "", &"x".repeat(70_000))], "with more than 65536 bytes");
    check_refused(&[(XGlobalHeader, "pax", "", "9 path=x\n")], "names all entries the same");
    check_refused(&[(GNULongName, "long", "", "name")], "it is damaged");
}

#[cfg(unix)]
#[test]
fn a_link_that_lies_in_the_target_is_not_written_through() {
    let place = place(&[("outside/kept", "k")]);
    let archive =
        place.archive("x.tar", &[(EntryType::Regular, "d/kept", "", "evil"), (EntryType::Regular, "f", "", "new")]);
    fs::create_dir(place.path("to")).expect("it can be made");
    std::os::unix::fs::symlink(place.path("outside/kept"), place.path("to/f")).expect("it can be made");
    let unpack = json!({ "unpack": { "archive": archive, "to": place.path("to") } });
    // A link in the place of a file is replaced; one in the place of a folder is refused.
    output(unpack.clone());
    assert_eq!((place.text("to/f"), place.text("outside/kept")), ("new".to_owned(), "k".to_owned()));
    fs::remove_dir_all(place.path("to/d")).expect("it can be removed");
    std::os::unix::fs::symlink(place.path("outside"), place.path("to/d")).expect("it can be made");
    let (_, text) = failure(unpack);
    assert!(text.ends_with("a file or link of this name is in the way; remove it, or unpack elsewhere"), "{text}");
    assert_eq!(place.text("outside/kept"), "k");
}

#[test]
fn an_archive_that_swells_is_stopped_at_its_bounds() {
    let place = place(&[]);
    // 4 MiB of zeros in 4 KiB of gzip.
    let mut header = Header::new_gnu();
    header.set_size(4 << 20);
    header.set_mode(0o644);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    header.set_path("zeros").expect("it is short");
    header.set_cksum();
    bomb.write_all(header.as_bytes()).expect("memory takes it");
    for _ in 0..4 {
        bomb.write_all(&vec![0; 1 << 20]).expect("memory takes it");
    }
    place.put("bomb.tar.gz", bomb.finish().expect("memory takes it"));
    let unpack = |more: Value| {
        let mut input = json!({ "archive": place.path("bomb.tar.gz"), "to": place.path("to") });
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "unpack": input })
    };
    let (_, text) = failure(unpack(json!({ "max-bytes": 1 << 20 })));
    assert!(text.ends_with("uncompressed, it has more than 1048576 bytes, which `max-bytes` allows"), "{text}");

    let entries: Vec<_> = (0..20).map(|_| (EntryType::Regular, "same", "", "")).collect();
    place.archive("bomb.tar.gz", &entries);
    let (_, text) = failure(unpack(json!({ "max-entries": 19 })));
    assert!(text.ends_with("it has more than 19 entries, which `max-entries` allows"), "{text}");
    assert!(!Path::new(&place.path("to")).exists());
    assert_eq!(output(unpack(json!({ "max-entries": 20 })))["files"], 20);
}

#[test]
fn a_damaged_archive_and_what_is_none_are_told() {
    let place = place(&[
        ("d/a", "some text that fills a few bytes"),
        ("text.tar", &"no archive at all, but long\n".repeat(40)),
    ]);
    place.put("x.zip", b"PK\x03\x04 and so on");
    place.put("x.xz", b"\xfd7zXZ\0and so on");
    pack(&place, "d", "whole.tar.gz");
    pack(&place, "d", "whole.tar");
    let unpack = |name: &str| failure(json!({ "unpack": { "archive": place.path(name), "to": place.path("to") } })).1;
    for (name, keep) in [("whole.tar.gz", 60), ("whole.tar", 520), ("whole.tar", 100)] {
        let bytes = fs::read(place.path(name)).expect("it is there");
        place.put("cut", &bytes[..keep]);
        assert!(unpack("cut").contains("it is damaged, or no tar archive"), "{name} {keep}: {}", unpack("cut"));
    }
    assert!(unpack("text.tar").contains("it is damaged, or no tar archive"));
    assert!(
        unpack("x.zip").ends_with("it is a zip archive, and only tar is understood, as it is or compressed by gzip")
    );
    assert!(unpack("x.xz").contains("it is compressed by xz"));
    assert!(!Path::new(&place.path("to")).exists());
}

#[test]
fn one_flipped_bit_in_a_compressed_archive_is_found_before_anything_is_written() {
    let place = place(&[]);
    let tar = place.archive("x.tar", &[(EntryType::Regular, "a", "", "some text")]);
    // Stored as it is, so that it is still gzip, and tar, with any bit flipped.
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    stored.write_all(&fs::read(tar).expect("it is there")).expect("memory takes it");
    let mut bytes = stored.finish().expect("memory takes it");
    let at = bytes.windows(9).position(|part| part == b"some text").expect("it is stored as it is");
    let unpack = json!({ "unpack": { "archive": place.path("x.tgz"), "to": place.path("to") } });

    bytes[at] ^= 1;
    place.put("x.tgz", &bytes);
    let (_, text) = failure(unpack.clone());
    assert!(text.contains("it is damaged, or no tar archive: ") && text.ends_with("checksum"), "{text}");
    assert!(!Path::new(&place.path("to")).exists());

    bytes[at] ^= 1;
    place.put("x.tgz", &bytes);
    assert_eq!(output(unpack)["bytes"], 9);
}

#[test]
fn leading_names_are_left_out_of_what_is_unpacked() {
    use EntryType::*;
    let place = place(&[]);
    let archive = place.archive(
        "x.tar",
        &[
            (XGlobalHeader, "pax_global_header", "", "52 comment=0123456789012345678901234567890123456789\n"),
            (Directory, "app-1.0/", "", ""),
            (Regular, "app-1.0/readme", "", "hi"),
            (Link, "app-1.0/again", "app-1.0/readme", ""),
            (Regular, "app-1.0/src/", "", ""),
            (Symlink, "./app-1.0/src/l", "../readme", ""),
        ],
    );
    output(json!({ "unpack": { "archive": archive, "to": place.path("to"), "strip": 1 } }));
    assert_eq!(place.tree("to"), ["again: hi", "readme: hi", "src/", "src/l -> ../readme"]);
}

#[test]
fn what_is_not_granted_is_refused_with_the_line_that_would_allow_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("in").display().to_string();
    fs::create_dir(&path).expect("it can be made");
    fs::write(format!("{path}/a"), "x").expect("it can be written");
    let host = Host::new();
    host.grant_files(&path, false);
    let inside = format!("{path}/a");
    let hint = |input: Value| {
        let failure = run(input).expect_err("it is not granted");
        assert_eq!(failure.kind, Kind::Permanent);
        failure.details.expect("a refusal has details")["hint"].as_str().expect("a line").to_owned()
    };
    assert_eq!(output(json!({ "read": { "path": inside } }))["text"], "x");
    let write = format!("grant = {{ files = [{{ path = \"{path}\", write = true }}] }}");
    for input in [
        json!({ "write": { "path": inside, "text": "y" } }),
        json!({ "remove": { "path": inside } }),
        json!({ "make-folder": { "path": format!("{path}/b") } }),
        json!({ "copy": { "from": inside, "to": format!("{path}/b") } }),
        json!({ "pack": { "folder": path, "to": format!("{path}/b.tar") } }),
        json!({ "unpack": { "archive": inside, "to": path } }),
    ] {
        assert_eq!(hint(input), write);
    }
    let elsewhere = r#"grant = { files = [{ path = "data" }] }"#;
    for input in [
        json!({ "read": { "path": "data/x" } }),
        json!({ "glob": { "folder": "data" } }),
        json!({ "hash": { "path": "data/x" } }),
        json!({ "copy": { "from": "data/x", "to": inside } }),
        json!({ "pack": { "folder": "data", "to": "x.tar" } }),
        json!({ "unpack": { "archive": "data/x.tar", "to": path } }),
    ] {
        assert_eq!(hint(input), elsewhere);
    }
    assert_eq!(fs::read_to_string(inside).expect("it is there"), "x");
}

#[test]
fn one_operation_is_asked_for() {
    for input in [json!({}), json!({ "read": { "path": "a" }, "remove": { "path": "a" } }), json!({ "move": {} })] {
        assert_eq!(failure(input).0, Kind::InvalidInput);
    }
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<work_on_files>();
    let operations = input["oneOf"].as_array().expect("one of several");
    assert_eq!(operations.len(), 9);
    assert!(operations.iter().all(|operation| operation["additionalProperties"] == json!(false)));
    assert_eq!(input["$defs"]["Copying"]["required"], json!(["from", "to"]));
    assert_eq!(input["$defs"]["Unpacking"]["properties"]["max-bytes"]["default"], 1_u64 << 30);
    assert_eq!(output["required"], json!(["files", "bytes"]));
}
