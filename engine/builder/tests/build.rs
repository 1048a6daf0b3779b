//! Plugins of a few lines, made here, built from source with the real compiler. They have no dependencies, so nothing
//! is downloaded. They need the guest toolchain, which `make test` installs first; without it they fail with the message
//! that says how to get it.

use std::{fs, path::Path};

use downbeat_builder::{BuildError, Built, build, install_toolchain, toolchain};

const MANIFEST: &str = "[package]\nname = \"tiny-step\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n[workspace]\n";
const SOURCE: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> u32 {\n    42\n}\n";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        write(&folder.path().join(name), text);
    }
    folder
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("its folder");
    fs::write(path, text).expect("the file written");
}

fn build_quietly(folder: &Path) -> Result<Built, BuildError> {
    build(folder, &mut |_| {})
}

/// Builds a folder that must be up to date, and asserts that no process had anything to say.
fn assert_up_to_date(folder: &Path, before: &Built) {
    let built =
        build(folder, &mut |line| panic!("cargo was asked, and said: {line}")).expect("an up-to-date component");
    assert!(!built.rebuilt);
    assert_eq!((&built.component, &built.digest), (&before.component, &before.digest));
}

#[test]
fn a_folder_becomes_a_component_once() {
    let folder = folder(&[("Cargo.toml", MANIFEST), ("src/lib.rs", SOURCE)]);
    let mut talk = Vec::new();
    let built = build(folder.path(), &mut |line| talk.push(line.to_owned())).expect("a component");

    assert!(built.rebuilt);
    assert!(talk.iter().any(|line| line.contains("Compiling tiny-step")), "cargo's words are handed on: {talk:?}");
    let bytes = fs::read(&built.component).expect("the component");
    assert_eq!(bytes[..8], *b"\0asm\x0d\0\x01\0", "a component, not a core module");
    assert!(built.component.starts_with(folder.path().canonicalize().expect("a real path").join("target")));

    assert_up_to_date(folder.path(), &built);
}

#[test]
fn installing_where_a_toolchain_is_says_so_and_does_nothing() {
    let folder = folder(&[]);
    let found = toolchain(folder.path()).expect("a toolchain");
    let route = install_toolchain(&mut |line| panic!("something was installed: {line}")).expect("the same toolchain");
    assert_eq!(route, found.route);
}

#[test]
fn a_changed_module_is_compiled_again() {
    let folder = folder(&[
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", "mod number;\n#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> u32 { number::get() }\n"),
        ("src/number.rs", "pub fn get() -> u32 { 42 }\n"),
    ]);
    let before = build_quietly(folder.path()).expect("a component");
    assert_up_to_date(folder.path(), &before);

    write(&folder.path().join("src/number.rs"), "pub fn get() -> u32 { 1_000_043 }\n");
    let after = build_quietly(folder.path()).expect("a component");
    assert!(after.rebuilt);
    assert_ne!(after.digest, before.digest);
    assert_up_to_date(folder.path(), &after);
}

#[test]
fn a_changed_path_dependency_is_compiled_again() {
    let shared_manifest = "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let folder = folder(&[
        ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"step\", \"shared\"]\n"),
        ("shared/Cargo.toml", shared_manifest),
        ("shared/src/lib.rs", "pub const NUMBER: u32 = 42;\n"),
        (
            "step/Cargo.toml",
            &(MANIFEST.replace("[workspace]", "[dependencies]") + "shared = { path = \"../shared\" }\n"),
        ),
        ("step/src/lib.rs", "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> u32 { shared::NUMBER }\n"),
    ]);
    let step = folder.path().join("step");
    let before = build_quietly(&step).expect("a component");
    let root = folder.path().canonicalize().expect("a real path");
    assert!(before.component.starts_with(root.join("target")), "it is in the workspace's target directory");
    assert_up_to_date(&step, &before);

    write(&folder.path().join("shared/src/lib.rs"), "pub const NUMBER: u32 = 1_000_043;\n");
    let after = build_quietly(&step).expect("a component");
    assert_ne!(after.digest, before.digest);
}

#[test]
fn a_deleted_component_is_built_again() {
    let folder = folder(&[("Cargo.toml", MANIFEST), ("src/lib.rs", SOURCE)]);
    let before = build_quietly(folder.path()).expect("a component");
    fs::remove_dir_all(folder.path().join("target")).expect("a clean folder");
    let after = build_quietly(folder.path()).expect("a component");
    assert!(after.rebuilt);
    assert_eq!(after.digest, before.digest, "the same source gives the same bytes");
}

#[test]
fn a_changed_manifest_is_noticed() {
    let folder = folder(&[("Cargo.toml", MANIFEST), ("src/lib.rs", SOURCE)]);
    build_quietly(folder.path()).expect("a component");
    write(&folder.path().join("Cargo.toml"), &MANIFEST.replace("cdylib", "rlib"));
    let error = build_quietly(folder.path()).expect_err("no component comes out of it any more");
    assert!(matches!(error, BuildError::NoComponent { .. }), "{error}");
}

#[test]
fn a_compile_error_is_reported_as_the_compiler_gave_it() {
    let folder = folder(&[("Cargo.toml", MANIFEST), ("src/lib.rs", "pub fn answer() -> u32 { \"forty-two\" }\n")]);
    let mut talk = String::new();
    let error = build(folder.path(), &mut |line| talk.push_str(&format!("{line}\n"))).expect_err("a type error");
    let BuildError::Compile { stderr, .. } = error else { panic!("{error}") };
    assert_eq!(stderr, talk);
    for part in ["error[E0308]: mismatched types", "src/lib.rs:1:26", "expected `u32`, found `&str`"] {
        assert!(stderr.contains(part), "{part:?} is missing in:\n{stderr}");
    }
}

#[test]
fn a_lock_file_that_does_not_fit_is_an_error_not_an_update() {
    let folder = folder(&[
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", SOURCE),
        ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"another-step\"\nversion = \"0.1.0\"\n"),
    ]);
    let error = build_quietly(folder.path()).expect_err("the lock file is of another package");
    let BuildError::Compile { stderr, .. } = error else { panic!("{error}") };
    assert!(stderr.contains("--locked"), "{stderr}");
}

#[test]
fn a_folder_without_a_manifest_gets_a_hint_for_other_languages() {
    let folder = folder(&[("main.go", "package main\n")]);
    let error = build_quietly(folder.path()).expect_err("not a plugin");
    let text = error.to_string();
    assert!(
        text.contains("has neither a Cargo.toml nor a package.json") && text.contains("give the path of the .wasm"),
        "{text}"
    );
}

#[test]
fn a_package_without_a_cdylib_is_told_which_lines_to_add() {
    let folder = folder(&[
        ("Cargo.toml", "[package]\nname = \"tiny-step\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n"),
        ("src/lib.rs", SOURCE),
    ]);
    let error = build_quietly(folder.path()).expect_err("an rlib is no component");
    let text = error.to_string();
    assert!(text.contains("`tiny-step`") && text.contains("crate-type = [\"cdylib\"]"), "{text}");
}

#[test]
fn a_workspace_root_is_not_a_plugin() {
    let folder = folder(&[("Cargo.toml", "[workspace]\nresolver = \"3\"\n")]);
    let error = build_quietly(folder.path()).expect_err("there is no package");
    assert!(matches!(error, BuildError::NoPackage { .. }), "{error}");
}

#[test]
fn a_broken_manifest_is_reported_in_cargos_words() {
    let folder = folder(&[("Cargo.toml", "[package\n")]);
    let BuildError::Manifest { stderr, .. } = build_quietly(folder.path()).expect_err("not TOML") else {
        panic!("another error")
    };
    assert!(stderr.contains("Cargo.toml"), "{stderr}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = build_quietly(Path::new("/nonexistent/plugin")).expect_err("no folder");
    assert!(error.to_string().contains("/nonexistent/plugin"), "{error}");
}
