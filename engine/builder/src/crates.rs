//! Of what a component is made: the list of the crates that it was compiled from, in the component itself.
//!
//! The form is that of cargo-auditable (a custom section `.dep-v0` with zlib's compression of JSON,
//! <https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md>), so that other tools read ours, and ours what
//! other tools put into a component or into a module within it. Lists are written by whoever made the component: reading one
//! is bounded, and believes nothing but that it was written there. What a crate is known for is not known here.

use std::collections::{BTreeMap, BTreeSet};

use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

/// What the custom section is called.
const SECTION: &str = ".dep-v0";

/// Bytes of all lists of a component, uncompressed. Eight MiB are what cargo-auditable's documentation gives as more than any
/// list needs; a crate takes some hundred.
const LISTS_BYTES_MAX: usize = 8 << 20;

/// Sections of one component that are read: one, and one for each component that it was put together from.
const LISTS_MAX: usize = 256;

/// Crates of one component. The largest programs have some thousand.
const CRATES_MAX: usize = 20_000;

/// As cargo-auditable compresses: of what is some KiB, more saves nothing.
const COMPRESSION: u8 = 7;

/// `\0asm` and the version: what a component and a module begin with.
const PREAMBLE: usize = 8;

/// How cargo names the registry that everybody means.
const CRATES_IO: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// A crate that a component was compiled from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its source came from: `crates.io`, `registry` (another one), `git`, `local`, or what somebody else's tool has.
    pub source: String,
    /// When it ran: in the component, or only while that was built.
    pub kind: Kind,
}

impl Crate {
    /// Whether it is what crates.io has under this name and version.
    pub fn is_of_crates_io(&self) -> bool {
        self.source == "crates.io"
    }
}

/// When a crate runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In the component.
    #[default]
    Runtime,
    /// Only while the component is built: build scripts, macros and what they use.
    Build,
}

/// Why what a component says of its crates can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// Not WebAssembly.
    #[error("it is no component: {0}")]
    NotAComponent(String),
    /// The section is not what it says.
    #[error("its list of crates is damaged: {0}")]
    Damaged(String),
    /// More than is read.
    #[error("its list of crates is longer than the {max} {of} that are read")]
    TooLong {
        /// Of what.
        of: &'static str,
        /// How many are read.
        max: usize,
    },
}

/// A list as it is written.
#[derive(Serialize, Deserialize)]
struct List {
    packages: Vec<Package>,
}

/// A crate as it is written: its dependencies are places in the list.
#[derive(Serialize, Deserialize)]
struct Package {
    name: String,
    version: String,
    source: String,
    #[serde(default, skip_serializing_if = "is_runtime")]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    root: bool,
}

fn is_runtime(kind: &Kind) -> bool {
    *kind == Kind::Runtime
}

/// The crates of a component by name, all lists in it and in the modules and components within it taken together. `None` if
/// there is no list.
pub fn crates_of(component: &[u8]) -> Result<Option<Vec<Crate>>, ListFault> {
    let mut crates = None;
    let (mut lists, mut bytes_left) = (0, LISTS_BYTES_MAX);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| ListFault::NotAComponent(error.to_string()))?;
        let Payload::CustomSection(section) = payload else { continue };
        if section.name() != SECTION {
            continue;
        }
        lists += 1;
        if lists > LISTS_MAX {
            return Err(ListFault::TooLong { of: "sections", max: LISTS_MAX });
        }
        let json = uncompressed(section.data(), bytes_left)?;
        bytes_left -= json.len();
        let list: List = serde_json::from_slice(&json).map_err(|error| ListFault::Damaged(error.to_string()))?;
        let crates: &mut BTreeSet<Crate> = crates.get_or_insert_default();
        for Package { name, version, source, kind, .. } in list.packages {
            crates.insert(Crate { name, version, source, kind });
            if crates.len() > CRATES_MAX {
                return Err(ListFault::TooLong { of: "crates", max: CRATES_MAX });
            }
        }
    }
    Ok(crates.map(|crates| crates.into_iter().collect()))
}

fn uncompressed(bytes: &[u8], max: usize) -> Result<Vec<u8>, ListFault> {
    use miniz_oxide::inflate::TINFLStatus;
    decompress_to_vec_zlib_with_limit(bytes, max).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => ListFault::TooLong { of: "bytes", max: LISTS_BYTES_MAX },
        _ => ListFault::Damaged("it is not what zlib writes".to_owned()),
    })
}

/// What cargo compiled for a component.
#[derive(Default)]
pub(crate) struct Compiled {
    crates: BTreeMap<Id, Kind>,
    root: Option<Id>,
    /// Who depends on whom, by name and version.
    arrows: BTreeSet<(Named, Named)>,
}

/// A crate's name, version and source.
type Id = (String, String, &'static str);

/// A crate's name and version.
type Named = (String, String);

impl Compiled {
    /// Takes in that cargo compiled something of a package, to run in the component or beside the compiler. False if
    /// the package's id is not as cargo writes them.
    pub(crate) fn take_in(&mut self, package_id: &str, kind: Kind, is_root: bool) -> bool {
        let Some(id) = parsed(package_id) else { return false };
        if is_root {
            self.root = Some(id.clone());
        }
        // What is compiled for both runs in the component.
        let known = self.crates.entry(id).or_insert(kind);
        *known = (*known).min(kind);
        true
    }

    /// Takes in who depends on whom, as `cargo tree --prefix depth --format {p}` says it. Each line is a depth, a name, a
    /// version and more; what was told before has its own dependencies there.
    pub(crate) fn take_in_tree(&mut self, text: &str) {
        let mut above: Vec<Named> = Vec::new();
        for line in text.lines() {
            let depth_end = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len());
            let mut words = line[depth_end..].split(' ');
            let (Ok(depth), Some(name), Some(version)) = (line[..depth_end].parse(), words.next(), words.next()) else {
                continue;
            };
            let named = (name.to_owned(), version.trim_start_matches('v').to_owned());
            above.truncate(depth);
            if let Some(parent) = above.last() {
                self.arrows.insert((parent.clone(), named.clone()));
            }
            above.push(named);
        }
    }

    /// The component with the list in it. It stands first, so that it is found without a look at the rest, which is what other
    /// tools do.
    pub(crate) fn listed_in(&self, component: &[u8]) -> Vec<u8> {
        let json = serde_json::to_vec(&self.list()).expect("a list holds nothing that JSON can't");
        let data = compress_to_vec_zlib(&json, COMPRESSION);
        let mut content = leb128(SECTION.len());
        content.extend_from_slice(SECTION.as_bytes());
        content.extend_from_slice(&data);
        let (preamble, rest) = component.split_at(PREAMBLE.min(component.len()));
        [preamble, &[0], &leb128(content.len()), &content, rest].concat()
    }

    fn list(&self) -> List {
        let mut places: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (place, (name, version, _)) in self.crates.keys().enumerate() {
            places.entry((name, version)).or_default().push(place);
        }
        let package = |(id, kind): (&Id, &Kind)| {
            let (name, version, source) = id.clone();
            let own = (name.clone(), version.clone());
            let arrows = self.arrows.iter().filter(|(from, _)| *from == own);
            let to = arrows.filter_map(|(_, to)| places.get(&(to.0.as_str(), to.1.as_str())));
            let dependencies: BTreeSet<usize> = to.flatten().copied().collect();
            let root = self.root.as_ref() == Some(id);
            Package {
                name,
                version,
                source: source.to_owned(),
                kind: *kind,
                dependencies: dependencies.into_iter().collect(),
                root,
            }
        };
        List { packages: self.crates.iter().map(package).collect() }
    }
}

/// A package id of cargo's (<https://doc.rust-lang.org/cargo/reference/pkgid-spec.html>): `KIND+URL#NAME@VERSION`, without the
/// name where the URL ends with it.
fn parsed(package_id: &str) -> Option<Id> {
    let (url, fragment) = package_id.rsplit_once('#')?;
    let last = || url.split('?').next().unwrap_or(url).trim_end_matches('/').rsplit('/').next();
    let (name, version) = match fragment.split_once('@') {
        Some(both) => both,
        None => (last()?, fragment),
    };
    let source = match url.split_once('+')?.0 {
        _ if CRATES_IO.contains(&url) => "crates.io",
        "path" => "local",
        "git" => "git",
        _ => "registry",
    };
    Some((name.to_owned(), version.to_owned(), source))
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    /// A custom section with these bytes.
    fn section(name: &str, data: &[u8]) -> Vec<u8> {
        let content = [&leb128(name.len()), name.as_bytes(), data].concat();
        [&[0][..], &leb128(content.len()), &content].concat()
    }

    fn listing(json: &str) -> Vec<u8> {
        section(SECTION, &compress_to_vec_zlib(json.as_bytes(), COMPRESSION))
    }

    fn compiled() -> Compiled {
        let mut compiled = Compiled::default();
        let index = CRATES_IO[0];
        assert!(compiled.take_in(&format!("{index}#serde@1.0.229"), Kind::Build, false));
        assert!(compiled.take_in(&format!("{index}#serde@1.0.229"), Kind::Runtime, false));
        assert!(compiled.take_in(&format!("{index}#serde_derive@1.0.229"), Kind::Build, false));
        assert!(compiled.take_in("git+https://example.org/own.git?rev=1#own@0.2.0+more", Kind::Runtime, false));
        assert!(compiled.take_in("path+file:///work/hello#0.1.0", Kind::Runtime, true));
        compiled.take_in_tree(
            "0hello v0.1.0 (/work/hello)\n1serde v1.0.229\n2serde_derive v1.0.229 (proc-macro)\n\
             1own v0.2.0+more (https://example.org/own.git?rev=1)\n2serde v1.0.229 (*)\n",
        );
        compiled
    }

    fn names(crates: &[Crate]) -> Vec<String> {
        let name = |found: &Crate| format!("{} {} {} {:?}", found.name, found.version, found.source, found.kind);
        crates.iter().map(name).collect()
    }

    #[test]
    fn what_is_written_is_the_form_of_cargo_auditable_and_the_same_each_time() {
        let json = serde_json::to_string(&compiled().list()).unwrap();
        let expected = r#"{"packages":[{"name":"hello","version":"0.1.0","source":"local","dependencies":[1,2],"root":true},{"name":"own","version":"0.2.0+more","source":"git","dependencies":[2]},{"name":"serde","version":"1.0.229","source":"crates.io","dependencies":[3]},{"name":"serde_derive","version":"1.0.229","source":"crates.io","kind":"build"}]}"#;
        assert_eq!(json, expected);
        assert_eq!(compiled().listed_in(COMPONENT), compiled().listed_in(COMPONENT));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let listed = compiled().listed_in(&[COMPONENT, &section("producers", b"somebody")].concat());
        let found = crates_of(&listed).unwrap().unwrap();
        let expected = [
            "hello 0.1.0 local Runtime",
            "own 0.2.0+more git Runtime",
            "serde 1.0.229 crates.io Runtime",
            "serde_derive 1.0.229 crates.io Build",
        ];
        assert_eq!(names(&found), expected);
        assert_eq!(crates_of(COMPONENT), Ok(None));
        assert_eq!(crates_of(&[COMPONENT, &listing(r#"{"packages":[]}"#)].concat()), Ok(Some(Vec::new())));
    }

    #[test]
    fn lists_of_modules_and_components_within_are_found_and_taken_together() {
        let one = listing(r#"{"packages":[{"name":"b","version":"1.0.0","source":"crates.io","more":1}],"format":1}"#);
        let two = listing(
            r#"{"packages":[{"name":"a","version":"2.0.0","source":"somewhere"},{"name":"b","version":"1.0.0","source":"crates.io"}]}"#,
        );
        let within = |id: u8, whole: Vec<u8>| [&[id][..], &leb128(whole.len()), &whole].concat();
        let component =
            [COMPONENT, &within(1, [MODULE, &one].concat()), &within(4, [COMPONENT, &two].concat())].concat();
        let found = crates_of(&component).unwrap().unwrap();
        assert_eq!(names(&found), ["a 2.0.0 somewhere Runtime", "b 1.0.0 crates.io Runtime"]);
    }

    #[test]
    fn a_list_that_is_none_is_a_fault() {
        let fault = |section: Vec<u8>| crates_of(&[COMPONENT, &section].concat()).unwrap_err().to_string();
        assert_eq!(fault(section(SECTION, b"no zlib")), "its list of crates is damaged: it is not what zlib writes");
        assert!(fault(listing("{}")).contains("missing field `packages`"));
        assert!(fault(listing(r#"{"packages":[{"name":1}]}"#)).contains("expected a string"));
        assert!(fault(listing(&"[".repeat(100_000))).contains("its list of crates is damaged"));
        assert!(matches!(crates_of(b"text"), Err(ListFault::NotAComponent(_))));
        assert!(matches!(crates_of(b""), Err(ListFault::NotAComponent(_))));
    }

    #[test]
    fn a_list_that_grows_when_it_is_uncompressed_is_not() {
        let bomb = listing(&" ".repeat(LISTS_BYTES_MAX + 1));
        assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
        let too_long = Err(ListFault::TooLong { of: "bytes", max: LISTS_BYTES_MAX });
        assert_eq!(crates_of(&[COMPONENT, &bomb].concat()), too_long);
        // Nor are many that are each within the bound.
        let half = listing(&format!("{}{{\"packages\":[]}}", " ".repeat(LISTS_BYTES_MAX / 2)));
        assert_eq!(crates_of(&[COMPONENT, &half, &half].concat()), too_long);
        let many = listing(r#"{"packages":[]}"#).repeat(LISTS_MAX + 1);
        assert_eq!(crates_of(&[COMPONENT, &many].concat()), Err(ListFault::TooLong { of: "sections", max: LISTS_MAX }));
        let package = |number: usize| format!(r#"{{"name":"a{number}","version":"1.0.0","source":"local"}}"#);
        let crates: Vec<String> = (0..=CRATES_MAX).map(package).collect();
        let crates = listing(&format!(r#"{{"packages":[{}]}}"#, crates.join(",")));
        assert_eq!(
            crates_of(&[COMPONENT, &crates].concat()),
            Err(ListFault::TooLong { of: "crates", max: CRATES_MAX })
        );
    }

    #[test]
    fn no_byte_that_is_changed_or_missing_makes_a_reader_panic() {
        let listed = compiled().listed_in(COMPONENT);
        for at in 0..listed.len() {
            let _ = crates_of(&listed[..at]);
            for bit in 0..8 {
                let mut changed = listed.clone();
                changed[at] ^= 1 << bit;
                let _ = crates_of(&changed);
            }
        }
    }

    #[test]
    fn ids_of_packages_say_where_they_come_from() {
        let parsed = |id| parsed(id).map(|(name, version, source)| format!("{name} {version} {source}"));
        for (id, expected) in [
            ("registry+https://github.com/rust-lang/crates.io-index#a@1.0.0", Some("a 1.0.0 crates.io")),
            ("sparse+https://index.crates.io/#a@1.0.0", Some("a 1.0.0 crates.io")),
            ("registry+https://example.org/index#a@1.0.0", Some("a 1.0.0 registry")),
            ("sparse+https://index.crates.io.example.org/#a@1.0.0", Some("a 1.0.0 registry")),
            ("git+https://example.org/a?branch=x/y#1.0.0", Some("a 1.0.0 git")),
            ("path+file:///home/a#b@1.0.0-alpha.1", Some("b 1.0.0-alpha.1 local")),
            ("a 1.0.0 (path+file:///home/a)", None),
        ] {
            assert_eq!(parsed(id).as_deref(), expected, "{id}");
        }
    }
}
