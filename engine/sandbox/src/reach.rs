//! What an attempt may reach beyond its own memory, and what it was refused. Every host interface asks here before it
//! does anything; a refusal is the same three texts for the guest and for the attempt's record.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use downbeat_workflow::capability::{Capability, FileGrant, Grant, Grants};
use downbeat_workflow::event::Refusal;
use downbeat_workflow::permission::{self, Carried, Command, Denied, Granted, Place, Reason, Request, Use};

use crate::directory::{Barred, Directory};
use crate::secrets::Secrets;
use crate::text;
use crate::used::{Recorded, Uses};

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
    /// Those that become known while others are waited for.
    pub(crate) refused_later: Later,
    pub(crate) uses: Uses,
    /// What it is granted of secrets, with their values.
    pub(crate) secrets: Secrets,
}

/// Refusals of what goes on beside the guest: a request knows only when it is about to connect.
#[derive(Clone, Default)]
pub(crate) struct Later(Arc<Mutex<Vec<Refusal>>>);

impl Later {
    /// Records a refusal, as [`Reach::refuse`] does; with these grants it would be none.
    pub(crate) fn refuse(&self, capability: &str, wanted: &str, enough: &Grants) {
        let refusal = refusal(capability, wanted, &written(enough, ""));
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() < REFUSALS_MAX && !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
    }

    /// All so far.
    pub(crate) fn take(&self) -> Vec<Refusal> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reach {
    pub(crate) fn new(
        grants: Arc<Grants>,
        directory: Arc<Path>,
        workspace: PathBuf,
        reserved: Arc<[PathBuf]>,
    ) -> Reach {
        let (refusals, refused_later) = (Vec::new(), Later::default());
        let (uses, secrets) = (Uses::default(), Secrets::default());
        Reach { grants, directory, workspace, reserved, refusals, refused_later, uses, secrets }
    }

    /// Whether the grants cover this use. If not, the refusal is on record.
    pub(crate) fn ask(&mut self, wanted: &Use<'_>) -> Result<Granted, Refusal> {
        let grants = self.grants.clone();
        permission::decide(&grants, wanted).map_err(|denied| self.denied(wanted, &denied))
    }

    /// What the grants cover is about to leave the engine: ready once that is on record. It must not happen before.
    pub(crate) fn leaves(&mut self, granted: Granted, what: &str) -> Recorded {
        let grant = granted.grant(&self.grants).map_or_else(String::new, |grant| grant.to_string());
        self.uses.leaves(granted.capability.word(), &self.secrets.blotted(what), grant)
    }

    /// What the grants cover was used, within the engine.
    pub(crate) fn stays(&mut self, granted: Granted, what: &str) {
        let grant = granted.grant(&self.grants).map_or_else(String::new, |grant| grant.to_string());
        self.uses.stays(granted.capability.word(), &self.secrets.blotted(what), &grant);
    }

    /// Says which granted variables were looked for and are not set: those for which nothing `is_there`.
    pub(crate) fn lacks(&mut self, is_there: impl Fn(&str) -> bool) {
        for name in self.grants.env.iter().filter(|name| !is_there(name)) {
            self.uses.lacks(name, &Grant::Env(name.clone()).to_string());
        }
    }

    fn denied(&mut self, wanted: &Use<'_>, denied: &Denied<'_>) -> Refusal {
        let refusal = match (wanted, denied.reason) {
            (_, Reason::Variable(name)) => self.refuse_name("env", name),
            (Use::Program(command), reason) => self.refuse_program(command, reason),
            (Use::Http(request), reason) => self.refuse_request(request, reason),
            (Use::Env(name), _) => self.refuse_name("env", name),
            (Use::Files { path, write }, _) => {
                let write = if *write { ", write = true" } else { "" };
                let path = &*self.uses.clean(path).into_owned();
                self.refuse("files", path, &format!("files = [{{ path = {}{write} }}]", text::toml_string(path)))
            }
            (Use::Secret(carried), reason) => self.refuse_secret(carried, reason),
            (Use::Whole(capability), _) => self.refuse_switch(capability.word(), capability.word()),
        };
        match denied.withheld {
            None => refusal,
            // No line in the workflow would help: who owns the other key decides.
            Some(taken) => {
                self.refusals.retain(|known| *known != refusal);
                self.record(Refusal { hint: format!("granted, and taken away by {}", taken.by), ..refusal })
            }
        }
    }

    fn refuse_program(&mut self, command: &Command<'_>, reason: Reason<'_>) -> Refusal {
        let program = text::toml_string(&text::bounded(&self.uses.clean(command.program), WANTED_MAX));
        match reason {
            Reason::Arguments => {
                let args: Vec<String> =
                    command.arguments.iter().map(|text| text::toml_string(&self.uses.clean(text))).collect();
                let args = format!("{{ program = {program}, args = [{}] }}", args.join(", "));
                let wanted = format!("{} {}", command.program, command.arguments.join(" "));
                self.refuse("process", &wanted, &format!("process = [{args}]"))
            }
            Reason::Directory => {
                let directory = &*self.uses.clean(command.directory.unwrap_or_default()).into_owned();
                let table = format!("{{ program = {program}, directory = {} }}", text::toml_string(directory));
                let wanted = format!("{} in {directory}", command.program);
                self.refuse("process", &wanted, &format!("process = [{table}]"))
            }
            _ => self.refuse_name("process", command.program),
        }
    }

    fn refuse_secret(&mut self, carried: &Carried<'_>, reason: Reason<'_>) -> Refusal {
        let host = written_host(carried.tls, carried.host, carried.port);
        let (place, key) = match carried.place {
            Place::Header(name) => {
                let name = self.uses.clean(name);
                (format!("the header {name}"), format!("header = {}", text::toml_string(&name)))
            }
            Place::Body => ("the body".to_owned(), "body = true".to_owned()),
            Place::Query => ("the query".to_owned(), "query = true".to_owned()),
            Place::Path => ("the path".to_owned(), "path = true".to_owned()),
        };
        let key = if reason == Reason::InTheOpen { format!("{key}, insecure = true") } else { key };
        let (name, at) = (text::toml_string(carried.name), text::toml_string(&text::bounded(&host, WANTED_MAX)));
        let wanted = format!("{} in {place} of a request to {host}", carried.name);
        self.refuse("secrets", &wanted, &format!("secrets = [{{ name = {name}, host = {at}, {key} }}]"))
    }

    fn refuse_request(&mut self, request: &Request<'_>, reason: Reason<'_>) -> Refusal {
        let host = written_host(request.tls, request.host, request.port);
        let granted = text::toml_string(&text::bounded(&host, WANTED_MAX));
        match reason {
            Reason::Method => {
                let method = self.uses.clean(request.method).into_owned();
                let table = format!("{{ host = {granted}, methods = [{}] }}", text::toml_string(&method));
                self.refuse("http", &format!("{method} {host}"), &format!("http = [{table}]"))
            }
            Reason::Path | Reason::UnclearPath => {
                let path = self.uses.clean(request.path).into_owned();
                let path = text::bounded(&path, WANTED_MAX);
                let wanted = format!("{host}{path}");
                match reason {
                    Reason::Path => {
                        let table = format!("{{ host = {granted}, path = {} }}", text::toml_string(&path));
                        self.refuse("http", &wanted, &format!("http = [{table}]"))
                    }
                    // Such a path is covered by a host that is granted without one.
                    _ => self.refuse("http", &wanted, &format!("http = [{granted}]")),
                }
            }
            _ => self.refuse_name("http", &host),
        }
    }

    /// Records and returns a refusal, in words of the guest's that are blotted out before they are cut: the beginning of a secret would
    /// not be known for one. `grant` is what is missing between the braces of `grant = { }`, as in
    /// `process = ["cargo"]`; the hint has what is granted already as well, since a key is written once.
    pub(crate) fn refuse(&mut self, capability: &str, wanted: &str, grant: &str) -> Refusal {
        let wanted = self.uses.clean(wanted).into_owned();
        self.record(refusal(capability, &wanted, &written(&self.grants, grant)))
    }

    /// Records and returns a refusal of what is granted, and forbidden by a policy's rule: no line in the workflow would help.
    pub(crate) fn forbidden(&mut self, capability: &str, wanted: &str, by: &str) -> Refusal {
        let wanted = self.uses.clean(wanted).into_owned();
        let refusal = refusal(capability, &wanted, "");
        self.record(Refusal { hint: format!("granted, and forbidden by {by}"), ..refusal })
    }

    /// All that were recorded, each once.
    pub(crate) fn take_refusals(&mut self) -> Vec<Refusal> {
        self.refused_later.take().into_iter().for_each(|refusal| drop(self.record(refusal)));
        std::mem::take(&mut self.refusals)
    }

    fn record(&mut self, refusal: Refusal) -> Refusal {
        if self.refusals.len() < REFUSALS_MAX && !self.refusals.contains(&refusal) {
            self.refusals.push(refusal.clone());
        }
        refusal
    }

    /// A refusal whose grant is a list of names: `process = ["cargo"]`.
    pub(crate) fn refuse_name(&mut self, capability: &str, wanted: &str) -> Refusal {
        let name = self.uses.clean(wanted).into_owned();
        let grant = format!("{capability} = [{}]", text::toml_string(&text::bounded(&name, WANTED_MAX)));
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

    /// Whether a path of this machine lies in a directory that is granted, by its text.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let mut roots = self.grants.files.iter().map(|grant| self.host_path(&grant.path));
        roots.any(|root| path.starts_with(root)) || self.grants.workspace && path.starts_with(&self.workspace)
    }

    /// A path of this machine as a grant has it: from the workflow's folder if it lies there.
    pub(crate) fn guest_path<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.directory).unwrap_or(path)
    }

    /// Opens a directory or a file that a program may read, and the guest may not.
    pub(crate) fn open_path(&self, path: &Path) -> Result<Directory, Barred> {
        Directory::open_or_file(path)?.apart_from(&self.reserved)
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

/// A refusal, in words that are bounded and safe to print.
fn refusal(capability: &str, wanted: &str, grant: &str) -> Refusal {
    Refusal {
        capability: capability.to_owned(),
        wanted: text::visible(&text::bounded(wanted, WANTED_MAX), false).into_owned(),
        hint: format!("grant = {{ {} }}", text::bounded(grant, GRANT_MAX)),
    }
}

/// Grants and one more, as they are written; without it if it is empty.
fn written(grants: &Grants, grant: &str) -> String {
    let lists: [(&str, Vec<String>); 5] = [
        ("process", grants.process.iter().map(ToString::to_string).collect()),
        ("files", grants.files.iter().map(ToString::to_string).collect()),
        ("http", grants.http.iter().map(ToString::to_string).collect()),
        ("env", grants.env.iter().map(|name| text::toml_string(name)).collect()),
        ("secrets", grants.secrets.iter().map(ToString::to_string).collect()),
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
    for name in Capability::WHOLE.map(Capability::word) {
        if name == new || grants.has(name) {
            written.push(format!("{name} = true"));
        }
    }
    written.join(", ")
}

/// A host as it is granted: without the port that goes without saying.
fn written_host(tls: bool, host: &str, port: u16) -> String {
    let host = match host.contains(':') {
        true => format!("[{}]", host.trim_matches(['[', ']'])),
        false => host.to_owned(),
    };
    if port == permission::default_port(tls) { host } else { format!("{host}:{port}") }
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
    fn a_refusal_of_a_narrow_grant_is_the_item_to_add() {
        let mut reach = reach();
        let mut hint = |wanted: Use<'_>, reason| {
            let denied = Denied { capability: Capability::Http, reason, withheld: None };
            reach.denied(&wanted, &denied).hint
        };
        let request = Request { tls: true, host: "Example.org", port: 8443, method: "PUT", path: "/v1/a" };
        assert_eq!(hint(Use::Http(request), Reason::Unnamed), r#"grant = { http = ["Example.org:8443"] }"#);
        let request = Request { tls: false, host: "::1", port: 80, ..request };
        assert_eq!(hint(Use::Http(request), Reason::Unnamed), r#"grant = { http = ["[::1]"] }"#);
        assert_eq!(
            hint(Use::Http(request), Reason::Method),
            r#"grant = { http = [{ host = "[::1]", methods = ["PUT"] }] }"#
        );
        assert_eq!(
            hint(Use::Http(request), Reason::Path),
            r#"grant = { http = [{ host = "[::1]", path = "/v1/a" }] }"#
        );
        let arguments = ["push".to_owned(), "a b".to_owned()];
        let command = Command { program: "git", arguments: &arguments, directory: Some("src"), ..Command::default() };
        assert_eq!(
            hint(Use::Program(command), Reason::Arguments),
            r#"grant = { process = [{ program = "git", args = ["push", "a b"] }] }"#
        );
        assert_eq!(
            hint(Use::Program(command), Reason::Directory),
            r#"grant = { process = [{ program = "git", directory = "src" }] }"#
        );
        assert_eq!(hint(Use::Program(command), Reason::Variable("HOME")), r#"grant = { env = ["HOME"] }"#);
    }

    #[test]
    fn a_refusal_of_what_another_key_took_away_names_it_instead_of_a_line() {
        use downbeat_workflow::capability::{Grant, Key, Withheld};
        let taken =
            Withheld { grant: Grant::Http("a.org".into()), key: Key::Policy, by: "rule `web` of p.toml:3".into() };
        let grants = Grants { withheld: vec![taken], ..Grants::default() };
        let mut reach = Reach::new(Arc::new(grants), Arc::from(Path::new("/flow")), PathBuf::new(), Arc::from([]));
        let request = Request { tls: true, host: "a.org", port: 443, method: "GET", path: "/" };
        let refusal = reach.ask(&Use::Http(request)).unwrap_err();
        assert_eq!(refusal.hint, "granted, and taken away by rule `web` of p.toml:3");
        assert_eq!(reach.refusals, [refusal]);
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
