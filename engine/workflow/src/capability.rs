//! What a step may do and how much of it: grants and limits, as values that the plan carries and the sandbox enforces.
//!
//! Nothing here decides anything: the four keys (wanted, granted, allowed, pinned) are turned when a plan is made, and
//! whether what is left covers a use is for [`permission`](crate::permission) to say.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::description::Want;
use crate::secret::SecretGrant;

/// What the workflow lets a step reach, already narrowed to what its component wants. Empty by default: nothing is
/// ambient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Grants {
    /// Programs by the exact name or path that the guest may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<ProgramGrant>,
    /// Directories, each visible to the guest under the path given here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileGrant>,
    /// Hosts that HTTP requests may go to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Names of the engine's environment variables that the guest and its programs see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The real clocks instead of fixed ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clock: bool,
    /// Real randomness instead of a fixed sequence.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub random: bool,
    /// The store of blobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub artifacts: bool,
    /// The run's own directory, shared by the run's steps: `/workspace` in the guest, the working directory of programs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub workspace: bool,
    /// What it may have of secrets, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretGrant>,
    /// Protections without which no native program of the step is started: what a policy requires.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Protection>,
    /// What the workflow grants and another key took away. It is not among what stands above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// Programs that policies forbid to the step, by whatever name: held against each once more when it is to be started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<Forbidden>,
    /// Where paths led when the policies were asked that are followed through links: what the step's programs read, by its text, and
    /// the files of its secrets, by their whole paths. They are opened there, and through no link. Empty of one that led nowhere.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub led: BTreeMap<String, String>,
    /// The policies' rules that speak of the step and allow what stands above, each with its file and line, for people. One
    /// that only reports allows nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_by: Vec<String>,
}

/// The kinds of grants. The word of each is the same in TOML, in `describe` and in the record of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Native programs.
    Process,
    /// Directories.
    Files,
    /// Destinations of HTTP requests.
    Http,
    /// Environment variables of the engine.
    Env,
    /// Real clocks.
    Clock,
    /// Real randomness.
    Random,
    /// The store of blobs.
    Artifacts,
    /// The run's own directory.
    Workspace,
    /// What is put into requests, programs' variables and inputs in place of secrets.
    Secrets,
}

impl Capability {
    /// All of them, in the order in which they are told.
    pub const ALL: [Capability; 9] = [
        Capability::Process,
        Capability::Files,
        Capability::Http,
        Capability::Env,
        Capability::Clock,
        Capability::Random,
        Capability::Artifacts,
        Capability::Workspace,
        Capability::Secrets,
    ];

    /// Those that are granted as a whole, by `true`.
    pub const WHOLE: [Capability; 4] =
        [Capability::Clock, Capability::Random, Capability::Artifacts, Capability::Workspace];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Capability::Process => "process",
            Capability::Files => "files",
            Capability::Http => "http",
            Capability::Env => "env",
            Capability::Clock => "clock",
            Capability::Random => "random",
            Capability::Artifacts => "artifacts",
            Capability::Workspace => "workspace",
            Capability::Secrets => "secrets",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|capability| capability.word() == word)
    }
}

/// One of the four keys that have to fit before a step may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// What the component wants.
    Component,
    /// What the workflow grants.
    Workflow,
    /// What a policy allows.
    Policy,
    /// What the lock has pinned.
    Lock,
}

/// Something that the workflow grants and another key took away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Withheld {
    /// What it was.
    pub grant: Grant,
    /// Which key did not fit.
    pub key: Key,
    /// For people: the policy's rule with its file and line, or what the lock says.
    pub by: String,
}

/// A program that a policy forbids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forbidden {
    /// Which, and with which arguments and words; its name may be a pattern.
    pub program: ProgramGrant,
    /// For people: the policy's rule with its file and line.
    pub by: String,
}

/// One thing that is granted: an item of a list, or a capability that is granted as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// One of `process`.
    Process(ProgramGrant),
    /// One of `files`.
    Files(FileGrant),
    /// One of `http`.
    Http(HttpGrant),
    /// One of `env`.
    Env(String),
    /// One of `secrets`.
    Secrets(SecretGrant),
    /// `clock`, `random`, `artifacts` or `workspace`.
    Whole(Capability),
}

impl Grant {
    /// Of which kind it is.
    pub fn capability(&self) -> Capability {
        match self {
            Grant::Process(_) => Capability::Process,
            Grant::Files(_) => Capability::Files,
            Grant::Http(_) => Capability::Http,
            Grant::Env(_) => Capability::Env,
            Grant::Secrets(_) => Capability::Secrets,
            Grant::Whole(capability) => *capability,
        }
    }
}

impl fmt::Display for Grant {
    /// As it is written in TOML alone, `http = ["api.example.org"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.capability().word();
        match self {
            Grant::Process(program) => write!(f, "{word} = [{program}]"),
            Grant::Files(file) => write!(f, "{word} = [{file}]"),
            Grant::Http(host) => write!(f, "{word} = [{host}]"),
            Grant::Env(name) => write!(f, "{word} = [{}]", quoted(name)),
            Grant::Secrets(secret) => write!(f, "{word} = [{secret}]"),
            Grant::Whole(_) => write!(f, "{word} = true"),
        }
    }
}

impl Grants {
    /// Whether they let a step do the same as others do: where the rules stand that allow it makes no difference, nor what is
    /// forbidden of what is not granted, and where a link led at another time.
    pub fn are_those_of(&self, other: &Grants) -> bool {
        let alone = |grants: &Grants| Grants {
            allowed_by: Vec::new(),
            forbidden: Vec::new(),
            led: BTreeMap::new(),
            ..grants.clone()
        };
        alone(self) == alone(other)
    }

    /// Whether anything of the capability of this name is granted.
    pub fn has(&self, capability: &str) -> bool {
        match capability {
            "process" => !self.process.is_empty(),
            "files" => !self.files.is_empty(),
            "http" => !self.http.is_empty(),
            "env" => !self.env.is_empty(),
            "clock" => self.clock,
            "random" => self.random,
            "artifacts" => self.artifacts,
            "workspace" => self.workspace,
            "secrets" => !self.secrets.is_empty(),
            _ => false,
        }
    }

    /// Everything that is granted, one by one, kind by kind.
    pub fn items(&self) -> impl Iterator<Item = Grant> {
        let process = self.process.iter().cloned().map(Grant::Process);
        let files = self.files.iter().cloned().map(Grant::Files);
        let http = self.http.iter().cloned().map(Grant::Http);
        let env = self.env.iter().cloned().map(Grant::Env);
        let secrets = self.secrets.iter().cloned().map(Grant::Secrets);
        let wholes = Capability::WHOLE.into_iter().filter(|whole| self.has(whole.word())).map(Grant::Whole);
        process.chain(files).chain(http).chain(env).chain(wholes).chain(secrets)
    }

    /// Takes an item away. Of a variable also what single programs have of it.
    pub fn take(&mut self, grant: &Grant) {
        match grant {
            Grant::Process(taken) => self.process.retain(|known| known != taken),
            Grant::Files(taken) => self.files.retain(|known| known != taken),
            Grant::Http(taken) => self.http.retain(|known| known != taken),
            Grant::Env(taken) => {
                self.env.retain(|known| known != taken);
                let lists = self.process.iter_mut().filter_map(|program| program.env.as_mut());
                lists.for_each(|env| env.retain(|known| known != taken));
            }
            Grant::Secrets(taken) => self.secrets.retain(|known| known != taken),
            Grant::Whole(Capability::Clock) => self.clock = false,
            Grant::Whole(Capability::Random) => self.random = false,
            Grant::Whole(Capability::Artifacts) => self.artifacts = false,
            Grant::Whole(_) => self.workspace = false,
        }
    }

    /// The item of a list at a place, or what is granted as a whole, if it is.
    pub fn item(&self, capability: Capability, at: usize) -> Option<Grant> {
        match capability {
            Capability::Process => self.process.get(at).cloned().map(Grant::Process),
            Capability::Files => self.files.get(at).cloned().map(Grant::Files),
            Capability::Http => self.http.get(at).cloned().map(Grant::Http),
            Capability::Env => self.env.get(at).cloned().map(Grant::Env),
            Capability::Secrets => self.secrets.get(at).cloned().map(Grant::Secrets),
            whole => self.has(whole.word()).then_some(Grant::Whole(whole)),
        }
    }

    /// Why an attempt may answer differently from the same input, or do something that a kept answer would not: the first
    /// such grant, and the reason. `None` of what may be cached: variables and directories that are only read are part of
    /// what an answer depends on.
    pub fn impurity(&self) -> Option<(&'static str, &'static str)> {
        let writes = self.files.iter().any(|file| file.write);
        let impure = [
            ("process", !self.process.is_empty(), "a program may do anything, and nobody knows what it reads"),
            ("http", !self.http.is_empty(), "what is out there changes, and may be changed"),
            ("files", writes, "what it writes would not be written again"),
            ("workspace", self.workspace, "what it writes there would be missing in another run"),
            ("clock", self.clock, "the time is another one each time"),
            ("random", self.random, "it is another number each time"),
            ("artifacts", self.artifacts, "a blob that the answer names may be gone by then"),
            ("secrets", !self.secrets.is_empty(), "an answer that a secret has to do with is not kept for others"),
        ];
        impure.into_iter().find(|(_, is_granted, _)| *is_granted).map(|(name, _, reason)| (name, reason))
    }

    /// What a component wants and has nothing of, in its own order. Programs, hosts and blobs are refused when it asks;
    /// the others are absent, and nothing tells that it looked.
    pub fn withheld(&self, wants: &[Want]) -> Vec<String> {
        wants.iter().filter(|want| !self.has(want.kind())).map(|want| want.capability.clone()).collect()
    }
}

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// As written in the workflow; relative paths start at the workflow's folder. The guest sees the directory under
    /// this very text.
    pub path: String,
    /// Whether the guest may change what is there.
    #[serde(default)]
    pub write: bool,
}

/// One program, and optionally how it may be called. A grant without any of the narrowing parts is written and kept as
/// the program alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ProgramForm", into = "ProgramForm")]
pub struct ProgramGrant {
    /// A name that is looked up in the engine's `PATH`, or an absolute path.
    pub program: String,
    /// The arguments that it may be given, one pattern each; any if there are none. See
    /// [`permission`](crate::permission) for what a pattern means.
    pub args: Option<Vec<String>>,
    /// The variables of the engine's environment that it sees, in place of those of the grant `env`.
    pub env: Option<Vec<String>>,
    /// The granted directory, or one below it, in which alone it may run.
    pub directory: Option<String>,
    /// What its file must be, as `sha256:` and 64 digits.
    pub digest: Option<String>,
    /// Whether it may speak with others: over the network, and with programs of this machine that listen.
    pub network: bool,
    /// Whether what it leaves behind on purpose lives on after the step.
    pub daemons: bool,
    /// Directories and files beyond the system's own that it may read and run programs from, and the guest may not: from the
    /// workflow's folder, absolute, below `~/`, or below a variable of the engine's environment, `$CARGO_HOME`.
    pub read: Vec<String>,
}

impl ProgramGrant {
    /// Whether nothing but the program is said.
    pub fn is_plain(&self) -> bool {
        let ProgramGrant { program: _, args, env, directory, digest, network, daemons, read } = self;
        let is_narrow = args.is_some() || env.is_some() || directory.is_some() || digest.is_some();
        !is_narrow && !network && !daemons && read.is_empty()
    }
}

impl From<&str> for ProgramGrant {
    fn from(program: &str) -> ProgramGrant {
        ProgramGrant { program: program.to_owned(), ..ProgramGrant::default() }
    }
}

impl fmt::Display for ProgramGrant {
    /// As it is written in TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return f.write_str(&quoted(&self.program));
        }
        write!(f, "{{ program = {}", quoted(&self.program))?;
        self.args.iter().try_for_each(|args| write!(f, ", args = {}", listed(args)))?;
        self.env.iter().try_for_each(|env| write!(f, ", env = {}", listed(env)))?;
        self.directory.iter().try_for_each(|directory| write!(f, ", directory = {}", quoted(directory)))?;
        self.digest.iter().try_for_each(|digest| write!(f, ", digest = {}", quoted(digest)))?;
        if self.network {
            f.write_str(", network = true")?;
        }
        if self.daemons {
            f.write_str(", daemons = true")?;
        }
        if !self.read.is_empty() {
            write!(f, ", read = {}", listed(&self.read))?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for FileGrant {
    /// As it is written in TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = if self.write { ", write = true" } else { "" };
        write!(f, "{{ path = {}{write} }}", quoted(&self.path))
    }
}

/// One destination, and optionally what may be asked of it. A grant without any of the narrowing parts is written and
/// kept as the host alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HttpForm", into = "HttpForm")]
pub struct HttpGrant {
    /// `host`, `host:port`. Without a port, 80 for `http` and 443 for `https`. Port `*` allows any. Text such as
    /// `127.0.0.1:*`, `api.example.org`, `[::1]:8080`.
    pub host: String,
    /// The methods, in capitals; any if there are none.
    pub methods: Option<Vec<String>>,
    /// The path that a request's path must be or be below of, by whole segments.
    pub path: Option<String>,
    /// Whether the name may lead to an address that is not public: see [`permission::may_connect`](crate::permission::may_connect).
    pub private: bool,
}

impl HttpGrant {
    /// Whether nothing but the host is said.
    pub fn is_plain(&self) -> bool {
        self.methods.is_none() && self.path.is_none() && !self.private
    }
}

impl From<&str> for HttpGrant {
    fn from(host: &str) -> HttpGrant {
        HttpGrant { host: host.to_owned(), ..HttpGrant::default() }
    }
}

impl fmt::Display for HttpGrant {
    /// As it is written in TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return f.write_str(&quoted(&self.host));
        }
        write!(f, "{{ host = {}", quoted(&self.host))?;
        self.methods.iter().try_for_each(|methods| write!(f, ", methods = {}", listed(methods)))?;
        self.path.iter().try_for_each(|path| write!(f, ", path = {}", quoted(path)))?;
        f.write_str(if self.private { ", private = true }" } else { " }" })
    }
}

/// A string as TOML has it. JSON's escapes are a subset of TOML's, except for U+007F.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn listed(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// The two forms in which a plan has a [`ProgramGrant`]: plans of before there was more than a name have texts.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ProgramForm {
    Plain(String),
    Narrow(NarrowProgram),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NarrowProgram {
    program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    network: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    daemons: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<String>,
}

impl From<ProgramForm> for ProgramGrant {
    fn from(form: ProgramForm) -> ProgramGrant {
        match form {
            ProgramForm::Plain(program) => ProgramGrant { program, ..ProgramGrant::default() },
            ProgramForm::Narrow(NarrowProgram { program, args, env, directory, digest, network, daemons, read }) => {
                ProgramGrant { program, args, env, directory, digest, network, daemons, read }
            }
        }
    }
}

impl From<ProgramGrant> for ProgramForm {
    fn from(grant: ProgramGrant) -> ProgramForm {
        if grant.is_plain() {
            return ProgramForm::Plain(grant.program);
        }
        let ProgramGrant { program, args, env, directory, digest, network, daemons, read } = grant;
        ProgramForm::Narrow(NarrowProgram { program, args, env, directory, digest, network, daemons, read })
    }
}

/// The two forms in which a plan has an [`HttpGrant`].
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum HttpForm {
    Plain(String),
    Narrow(NarrowHttp),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NarrowHttp {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

impl From<HttpForm> for HttpGrant {
    fn from(form: HttpForm) -> HttpGrant {
        match form {
            HttpForm::Plain(host) => HttpGrant { host, ..HttpGrant::default() },
            HttpForm::Narrow(NarrowHttp { host, methods, path, private }) => HttpGrant { host, methods, path, private },
        }
    }
}

impl From<HttpGrant> for HttpForm {
    fn from(grant: HttpGrant) -> HttpForm {
        if grant.is_plain() {
            return HttpForm::Plain(grant.host);
        }
        let HttpGrant { host, methods, path, private } = grant;
        HttpForm::Narrow(NarrowHttp { host, methods, path, private })
    }
}

/// The bounds of one attempt, in bytes where not said otherwise. Each is enforced by the sandbox and reported in the
/// attempt's [`Usage`](crate::event::Usage).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of all the component's memories together. 256 MiB: several times what the runtimes of Go (3 MB),
    /// JavaScript (2 MB) or Python (12 MB) start with, and eight such steps fit into a small machine.
    pub memory: u64,
    /// Elements of all the component's tables together. 100,000: a CPython component has some 10,000.
    pub table_elements: u64,
    /// The step's output. 16 MiB: outputs are journaled and travel through rules; larger things are artifacts.
    pub output: u64,
    /// Kept log text. 1 MiB: about 10,000 lines, more than anybody reads; the rest is counted and dropped.
    pub log: u64,
    /// What is kept of the end of each of a native program's two outputs. 1 MiB, for the same reason.
    pub process_output: u64,
    /// One artifact. 1 GiB: a container image's layer or a debug build fits.
    pub artifact: u64,
    /// Wall time of one attempt in milliseconds when the step sets no `timeout`. One hour: a forgotten endless loop ends
    /// on the same day.
    pub time_ms: u64,
    /// Private memory of a native program, and what it and all that it started hold in memory together. 8 GiB: linking a
    /// large program takes four, and a program that leaks ends before the machine does.
    #[serde(skip_serializing_if = "is_usual_process_memory")]
    pub process_memory: u64,
    /// CPU time of each native process in milliseconds, taken as whole seconds, rounded up. One hour: a compiler takes
    /// minutes, and what computes for longer without a word is forgotten rather than slow.
    #[serde(skip_serializing_if = "is_usual_process_cpu")]
    pub process_cpu_ms: u64,
    /// One file that a native program writes. 16 GiB: the image of a small disk fits, and a log that repeats itself ends
    /// before the disk is full.
    #[serde(skip_serializing_if = "is_usual_process_file")]
    pub process_file: u64,
    /// Processes and threads of a native program at once, itself and all that it started. 4,000: a parallel build on a
    /// machine of 64 processors has two thousand, most of them threads of its compilers.
    #[serde(skip_serializing_if = "is_usual_processes")]
    pub processes: u64,
    /// Which of them a policy lowered, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lowered: Vec<Lowered>,
}

/// A limit that a policy lowered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lowered {
    /// Which, as `limit` has it, or `timeout`.
    pub limit: String,
    /// The policy's rule, with its file and line.
    pub by: String,
}

impl Limits {
    /// The rule that lowered the limit of this name, with its file and line.
    pub fn lowered_by(&self, limit: &str) -> Option<&str> {
        self.lowered.iter().find(|lowered| lowered.limit == limit).map(|lowered| lowered.by.as_str())
    }

    /// What there is to do for a step that needs more than this limit: where a policy lowered it, the workflow can't.
    pub fn way_to_more(&self, limit: &str) -> String {
        match self.lowered_by(limit) {
            None => format!("raise `limit = {{ {limit} = … }}` if it needs more"),
            Some(by) => format!("{by} lowered it to that"),
        }
    }
}

// Plans of before these limits were there have the same text as those that leave them alone.
fn is_usual_process_memory(bytes: &u64) -> bool {
    *bytes == Limits::default().process_memory
}

fn is_usual_process_cpu(ms: &u64) -> bool {
    *ms == Limits::default().process_cpu_ms
}

fn is_usual_process_file(bytes: &u64) -> bool {
    *bytes == Limits::default().process_file
}

fn is_usual_processes(count: &u64) -> bool {
    *count == Limits::default().processes
}

impl Default for Limits {
    fn default() -> Limits {
        const MIB: u64 = 1 << 20;
        Limits {
            memory: 256 * MIB,
            table_elements: 100_000,
            output: 16 * MIB,
            log: MIB,
            process_output: MIB,
            artifact: 1024 * MIB,
            time_ms: 3_600_000,
            process_memory: 8 * 1024 * MIB,
            process_cpu_ms: 3_600_000,
            process_file: 16 * 1024 * MIB,
            processes: 4_000,
            lowered: Vec::new(),
        }
    }
}

/// A part of what keeps native programs within their grants. Each depends on the system: Linux from some version on, and
/// what it was built with. What an attempt's programs had to do without is in its
/// [`Usage`](crate::event::Usage::unprotected); whether they may is for a policy to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// No program gets more rights than the engine has, by a set-user-ID bit or otherwise.
    NoNewPrivileges,
    /// Of the rights of the superuser, those that could undo the other protections are given up.
    Capabilities,
    /// What a program started is killed with it, also what left its process group.
    Session,
    /// Bounds of memory, CPU time, files and processes.
    Limits,
    /// System calls that no step needs are refused: other processes' memory, mounts, namespaces, the kernel's own.
    SystemCalls,
    /// Only granted directories, and those of the system, can be opened.
    Files,
    /// No network without its grant.
    Network,
    /// No signal reaches a process that is none of the program's own, and no abstract socket of such a one is reached.
    Signals,
}

impl Protection {
    /// All of them, in the order in which they are told.
    pub const ALL: [Protection; 8] = [
        Protection::NoNewPrivileges,
        Protection::Capabilities,
        Protection::Session,
        Protection::Limits,
        Protection::SystemCalls,
        Protection::Files,
        Protection::Network,
        Protection::Signals,
    ];

    /// Its word, in policies and in the record.
    pub const fn word(self) -> &'static str {
        match self {
            Protection::NoNewPrivileges => "no-new-privileges",
            Protection::Capabilities => "capabilities",
            Protection::Session => "session",
            Protection::Limits => "limits",
            Protection::SystemCalls => "system-calls",
            Protection::Files => "files",
            Protection::Network => "network",
            Protection::Signals => "signals",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Protection> {
        Protection::ALL.into_iter().find(|protection| protection.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protection_is_written_as_its_word() {
        for protection in Protection::ALL {
            assert_eq!(serde_json::to_value(protection).unwrap(), protection.word());
            assert_eq!(Protection::of_word(protection.word()), Some(protection));
        }
        assert_eq!(Protection::of_word("courage"), None);
    }

    #[test]
    fn limits_that_are_left_alone_are_written_as_before_they_were_there() {
        let text = serde_json::to_string(&Limits::default()).unwrap();
        assert!(!text.contains("processes") && text.contains("process-output"), "{text}");
        let changed = Limits { processes: 5, ..Limits::default() };
        assert_eq!(serde_json::from_str::<Limits>(&serde_json::to_string(&changed).unwrap()).unwrap(), changed);
        let lowered = Lowered { limit: "processes".into(), by: "rule `small` of policy.toml:3".into() };
        let lowered = Limits { lowered: vec![lowered], ..changed.clone() };
        assert_eq!(serde_json::from_str::<Limits>(&serde_json::to_string(&lowered).unwrap()).unwrap(), lowered);
        assert_eq!(lowered.way_to_more("processes"), "rule `small` of policy.toml:3 lowered it to that");
        assert_eq!(lowered.way_to_more("memory"), "raise `limit = { memory = … }` if it needs more");
    }
}
