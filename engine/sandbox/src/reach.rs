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

    /// Records and returns a refusal. `grant` is what belongs between the braces of `grant = { }`.
    pub(crate) fn refuse(&mut self, capability: &str, wanted: &str, grant: &str) -> Refusal {
        let refusal = Refusal {
            capability: capability.to_owned(),
            wanted: text::visible(&text::bounded(wanted, WANTED_MAX), false).into_owned(),
            hint: format!("grant = {{ {} }}", text::bounded(grant, 2 * WANTED_MAX)),
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
