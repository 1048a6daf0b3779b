//! What an attempt may reach beyond its own memory, and what it was refused. Every host interface asks here before it
//! does anything; a refusal is the same three texts for the guest and for the attempt's record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_workflow::capability::{FileGrant, Grants};
use downbeat_workflow::event::Refusal;

use crate::directory::{Barred, Directory};
use crate::text;

/// Distinct refusals that are kept in the attempt's record. A step wants a handful of things; a guest that asks for more
/// is probing, and 64 lines say so.
const REFUSALS_MAX: usize = 64;

/// Bytes of a refused name that are repeated. Longer than any real program name, host or path that people write.
const WANTED_MAX: usize = 1024;

/// Bytes of the line that would allow what was refused: the name twice over, and some twenty grants beside it.
const GRANT_MAX: usize = 2 * WANTED_MAX;

/// The guest's path of the run's own directory.
pub(crate) const WORKSPACE: &str = "/workspace";

/// One attempt's grants, and the refusals so far.
pub(crate) struct Reach {
    pub(crate) grants: Arc<Grants>,
    /// Where relative file grants start.
    directory: Arc<Path>,
    workspace: PathBuf,
    /// What no grant may reach.
    reserved: Arc<[PathBuf]>,
    pub(crate) refusals: Vec<Refusal>,
}

impl Reach {
    pub(crate) fn new(
        grants: Arc<Grants>,
        directory: Arc<Path>,
        workspace: PathBuf,
        reserved: Arc<[PathBuf]>,
    ) -> Reach {
        Reach { grants, directory, workspace, reserved, refusals: Vec::new() }
    }

    /// Records and returns a refusal. `grant` is what is missing between the braces of `grant = { }`, as in
    /// `process = ["cargo"]`; the hint has what is granted already as well, since a key is written once.
    pub(crate) fn refuse(&mut self, capability: &str, wanted: &str, grant: &str) -> Refusal {
        let grant = self.grants_with(grant);
        let refusal = Refusal {
            capability: capability.to_owned(),
            wanted: text::visible(&text::bounded(wanted, WANTED_MAX), false).into_owned(),
            hint: format!("grant = {{ {} }}", text::bounded(&grant, GRANT_MAX)),
        };
        if self.refusals.len() < REFUSALS_MAX && !self.refusals.contains(&refusal) {
            self.refusals.push(refusal.clone());
        }
        refusal
    }

    /// A refusal whose grant is a list of names: `process = ["cargo"]`.
    pub(crate) fn refuse_name(&mut self, capability: &str, wanted: &str) -> Refusal {
        let grant = format!("{capability} = [{}]", text::toml_string(&text::bounded(wanted, WANTED_MAX)));
        self.refuse(capability, wanted, &grant)
    }

    /// A refusal whose grant is a switch: `artifacts = true`.
    pub(crate) fn refuse_switch(&mut self, capability: &str, wanted: &str) -> Refusal {
        self.refuse(capability, wanted, &format!("{capability} = true"))
    }

    /// The attempt's grants and one more, as they are written.
    fn grants_with(&self, grant: &str) -> String {
        let grants = &self.grants;
        let strings = |list: &[String]| list.iter().map(|text| text::toml_string(text)).collect();
        let file = |file: &FileGrant| {
            let write = if file.write { ", write = true" } else { "" };
            format!("{{ path = {}{write} }}", text::toml_string(&file.path))
        };
        let lists: [(&str, Vec<String>); 4] = [
            ("process", strings(&grants.process)),
            ("files", grants.files.iter().map(file).collect()),
            ("http", grants.http.iter().map(|host| text::toml_string(&host.0)).collect()),
            ("env", strings(&grants.env)),
        ];
        let (new, value) = grant.split_once(" = ").unwrap_or((grant, ""));
        let mut written = Vec::new();
        for (name, mut items) in lists {
            if name == new {
                let item = value.strip_prefix('[').and_then(|item| item.strip_suffix(']')).unwrap_or(value);
                // A directory that may only be read is the same one, to be written as well.
                items.retain(|known| !item.starts_with(known.trim_end_matches(" }")));
                items.push(item.to_owned());
            }
            if !items.is_empty() {
                written.push(format!("{name} = [{}]", items.join(", ")));
            }
        }
        for name in ["clock", "random", "artifacts", "workspace"] {
            if name == new || grants.has(name) {
                written.push(format!("{name} = true"));
            }
        }
        written.join(", ")
    }

    /// Whether anything out there can change while the guest waits. If not, waiting is pointless and skipped.
    pub(crate) fn is_isolated(&self) -> bool {
        let grants = &self.grants;
        grants.process.is_empty() && grants.http.is_empty() && grants.files.is_empty() && !grants.workspace
    }

    /// A granted directory on the host: the text as it stands in the grant, started at the workflow's folder.
    pub(crate) fn host_path(&self, granted: &str) -> PathBuf {
        self.directory.join(granted)
    }

    /// Opens a granted directory, as it is at this moment.
    pub(crate) fn open(&self, grant: &FileGrant) -> Result<Directory, Barred> {
        Directory::open(&self.host_path(&grant.path))?.apart_from(&self.reserved)
    }

    /// Opens the run's own directory, made if it is not there yet. Only for attempts that it is granted to.
    pub(crate) fn workspace(&self) -> Result<Directory, Barred> {
        Directory::open_or_make(&self.workspace)
    }

    /// The variables of the engine's own environment that the workflow grants; what is not set is left out, and so is
    /// what is not Unicode, which WASI can't carry.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        self.grants.env.iter().filter_map(|name| Some((name.as_str(), std::env::var(name).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach() -> Reach {
        Reach::new(Arc::default(), Arc::from(Path::new("/flow")), PathBuf::new(), Arc::default())
    }

    #[test]
    fn a_refusal_is_the_line_to_add_and_is_recorded_once() {
        let mut reach = reach();
        let refusal = reach.refuse_name("process", "cargo");
        assert_eq!(refusal.hint, r#"grant = { process = ["cargo"] }"#);
        reach.refuse_name("process", "cargo");
        assert_eq!(reach.refuse_switch("artifacts", "put").hint, "grant = { artifacts = true }");
        assert_eq!(reach.refusals.len(), 2);
    }

    #[test]
    fn what_is_granted_already_is_in_the_line_to_write() {
        let read = FileGrant { path: "data".into(), write: false };
        let grants = Grants { process: vec!["git".into()], files: vec![read], workspace: true, ..Grants::default() };
        let mut reach = Reach::new(Arc::new(grants), Arc::from(Path::new("/flow")), PathBuf::new(), Arc::from([]));
        assert_eq!(
            reach.refuse_name("process", "curl").hint,
            r#"grant = { process = ["git", "curl"], files = [{ path = "data" }], workspace = true }"#
        );
        assert_eq!(
            reach.refuse("files", "data/x", r#"files = [{ path = "data", write = true }]"#).hint,
            r#"grant = { process = ["git"], files = [{ path = "data", write = true }], workspace = true }"#
        );
        assert_eq!(
            reach.refuse_switch("artifacts", "put").hint,
            r#"grant = { process = ["git"], files = [{ path = "data" }], artifacts = true, workspace = true }"#
        );
    }

    #[test]
    fn a_probing_guest_does_not_fill_the_record() {
        let mut reach = reach();
        (0..1000).for_each(|n| drop(reach.refuse_name("process", &n.to_string())));
        assert_eq!(reach.refusals.len(), REFUSALS_MAX);
        assert!(reach.refuse_name("process", &"x".repeat(1 << 20)).hint.len() < 3 * WANTED_MAX);
    }

    #[test]
    fn relative_grants_start_at_the_workflows_folder() {
        assert_eq!(reach().host_path("data"), Path::new("/flow/data"));
        assert_eq!(reach().host_path("/data"), Path::new("/data"));
    }
}
