//! The middle lifetime: a component that was read, compiled, checked against what the host offers, pre-linked, and asked
//! what it is. Once for each digest; from here on an attempt costs microseconds.
//!
//! Compiling is the one thing done to a component before anything bounds it, and it can't be interrupted. So what follows
//! from the code is judged before (`bulk.rs`), and waiting is bounded: a compilation given up goes on in its thread until it
//! ends.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use downbeat_workflow::capability::{Grants, Limits};
use downbeat_workflow::description::{Component as Identity, Description, Digest, Want};
use downbeat_workflow::event::Failure;
use downbeat_workflow::json::Json;
use wasmtime::component::Component;
use wasmtime::component::types::{Component as Type, ComponentItem};
use wasmtime::{Engine, Store};

use crate::attempt::Observer;
use crate::bindings::exports::downbeat::step::step;
use crate::bindings::{Plugin as Bindings, PluginPre};
use crate::bulk::{self, Bulk};
use crate::engine::{SLOTS_MAX, TABLES_PER_SLOT};
use crate::host::log::Log;
use crate::sandbox::Sandbox;
use crate::secrets::Secrets;
use crate::store::{self, Setup, State};
use crate::{failure, host, text};
use downbeat_workflow::log::Level;

/// A component's size in bytes. CPython with its standard library is 35 MiB, the largest that people run.
pub const COMPONENT_MAX: u64 = 64 << 20;

/// A schema's size in bytes. The largest that people write by hand are some 100 KiB.
const SCHEMA_MAX: usize = 1 << 20;

/// Capabilities that a component may want. There are eight kinds to be granted, of some of them single items.
const WANTS_MAX: usize = 64;

/// What one of them is called, in bytes: the name of a kind, and of the longest host.
const CAPABILITY_MAX: usize = 320;

/// The interface that makes a component a step.
const STEP: &str = "downbeat:step/step@0.1.0";

/// A component, ready to run.
pub struct Plugin {
    component: Identity,
    imports: Vec<String>,
    exports: Vec<String>,
    size: u64,
    slots: u32,
    cache_fault: Option<String>,
    pre: PluginPre<State>,
}

impl Plugin {
    /// Its digest and what it says of itself.
    pub fn component(&self) -> &Identity {
        &self.component
    }

    /// The interfaces that it imports, with versions, in its own order.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The interfaces that it exports, with versions, in its own order.
    pub fn exports(&self) -> &[String] {
        &self.exports
    }

    /// The component's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Why its compiled code could not be kept in the cache, if so: it is compiled again the next time.
    pub fn cache_fault(&self) -> Option<&str> {
        self.cache_fault.as_deref()
    }

    /// Places in the pool that one instance takes: one, unless it has unusually many memories or tables.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Bindings> {
        self.pre.instantiate_async(store).await
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({} {})", self.component.description.name, self.component.digest.short())
    }
}

/// Why a component can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct LoadError {
    /// The component's file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: LoadFault,
}

/// What can be wrong with a component.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    /// No such file, or it can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file is too large.
    #[error("is larger than the {COMPONENT_MAX} bytes that a component may have")]
    TooLarge,
    /// Not WebAssembly, or the wrong kind.
    #[error("is no component: {0}")]
    NotAComponent(&'static str),
    /// The compiler refused it.
    #[error("is not valid: {0}")]
    Invalid(String),
    /// The compiler is not asked: it would take too long, or too much memory.
    #[error("is too much for the compiler: {what} are {found}, and at most {max} are compiled")]
    TooMuchCode {
        /// Of what there is too much.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        max: u64,
    },
    /// The compiler did not finish.
    #[error("was not compiled within {0:?}")]
    CompileTimeout(Duration),
    /// It needs what the host does not have.
    #[error(
        "imports what a step may not import: {}; a step may import the interfaces of downbeat:step@0.1 and WASI 0.2",
        .0.join(", ")
    )]
    MissingImports(Vec<String>),
    /// It needs what the host has, but differently.
    #[error("does not fit the host: {0}")]
    Mismatch(String),
    /// It is something else than a step.
    #[error("is no step: it does not export {STEP}; it exports {}", list(.0))]
    NoStep(Vec<String>),
    /// It needs more than one component may take.
    #[error(
        "needs {needed} places of the instance pool (one for each memory and for every four tables); it may take {max}"
    )]
    TooManyPlaces {
        /// What one instance needs.
        needed: u32,
        /// What one instance may take.
        max: u32,
    },
    /// `describe` did not answer.
    #[error("does not say what it is: {}", .0.message)]
    Describe(Box<Failure>),
    /// `describe` answered nonsense.
    #[error("does not describe itself properly: {0}")]
    InvalidDescription(String),
}

impl From<Bulk> for LoadFault {
    fn from(bulk: Bulk) -> LoadFault {
        match bulk {
            Bulk::Malformed(reason) => LoadFault::Invalid(reason),
            Bulk::TooMuch { what, found, max } => LoadFault::TooMuchCode { what, found, max },
        }
    }
}

fn list(exports: &[String]) -> String {
    if exports.is_empty() { "nothing".into() } else { exports.join(", ") }
}

impl Sandbox {
    /// Loads the component at `path`. What is loaded already is shared; what was compiled before comes from the cache in
    /// less than a millisecond plus the time to hash it; else it is compiled, which takes a second for each 2 MiB or so.
    /// Blocks: not to be called on an executor's thread when compiling is likely.
    pub fn load(&self, path: &Path) -> Result<Arc<Plugin>, LoadError> {
        self.load_file(path).map_err(|fault| LoadError { path: path.to_owned(), fault })
    }

    fn load_file(&self, path: &Path) -> Result<Arc<Plugin>, LoadFault> {
        let bytes = read(path)?;
        let digest = Digest::of(&bytes);
        let entry = {
            let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
            plugins.retain(|_, entry| Arc::strong_count(entry) > 1 || entry.lock().is_ok_and(|e| e.strong_count() > 0));
            plugins.entry(digest.clone()).or_default().clone()
        };
        // Held while compiling: whoever wants the same component waits for it instead of compiling it again.
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = entry.upgrade() {
            return Ok(plugin);
        }
        let plugin = Arc::new(self.prepare(digest, bytes)?);
        *entry = Arc::downgrade(&plugin);
        Ok(plugin)
    }

    fn prepare(&self, digest: Digest, bytes: Vec<u8>) -> Result<Plugin, LoadFault> {
        is_component(&bytes)?;
        let size = bytes.len() as u64;
        let mut cache_fault = None;
        let code = match self.cache.code(&self.engine, &digest) {
            Some(code) => code,
            None => {
                bulk::check(&bytes)?;
                let code = compile(self.engine.clone(), bytes, self.compile_max)?;
                cache_fault = self.cache.keep_code(&digest, &code).err().map(|error| error.to_string());
                code
            }
        };
        let ty = code.component_type();
        let imports: Vec<String> = ty.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports: Vec<String> = ty.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let missing: Vec<String> = imports.iter().filter(|name| !host::offers(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(LoadFault::MissingImports(missing));
        }
        if !exports_step(&ty, &self.engine) {
            return Err(LoadFault::NoStep(exports));
        }
        let mismatch = |error: wasmtime::Error| LoadFault::Mismatch(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(&code).map_err(mismatch)?;
        let pre = PluginPre::new(pre).map_err(mismatch)?;
        let slots = slots(&code);
        let max = SLOTS_MAX.min(self.slots);
        if slots > max {
            return Err(LoadFault::TooManyPlaces { needed: slots, max });
        }
        let description = match self.cache.description(&digest) {
            Some(description) => description,
            None => {
                let description = self.describe(&pre)?;
                let kept = self.cache.keep_description(&digest, &description);
                cache_fault = cache_fault.or(kept.err().map(|error| error.to_string()));
                description
            }
        };
        let items = imports.iter().any(|import| import.starts_with("downbeat:step/items@"));
        Ok(Plugin {
            component: Identity { digest, description, items },
            imports,
            exports,
            size,
            slots,
            cache_fault,
            pre,
        })
    }

    /// Asks the component what it is, in an instance without any grant. In a thread with an executor of its own, since
    /// the caller may or may not be on one. One at a time and in places of its own: the caller may be all that an attempt
    /// waits for to go on and to free its place.
    fn describe(&self, pre: &PluginPre<State>) -> Result<Description, LoadFault> {
        let _turn = self.describing.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = std::thread::scope(|scope| {
            let describe = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(self.call_describe(pre)))
            };
            let thread = std::thread::Builder::new().name("downbeat-describe".into()).spawn_scoped(scope, describe)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let description = answer.map_err(LoadFault::Read)?.map_err(|failure| LoadFault::Describe(Box::new(failure)))?;
        check(description).map_err(LoadFault::InvalidDescription)
    }

    async fn call_describe(&self, pre: &PluginPre<State>) -> Result<step::Description, Failure> {
        let _running = self.ticker.run();
        let limits = Arc::new(Limits::default());
        let log = Arc::new(Log::new(Arc::new(Nobody), 0));
        let max = self.describe_max;
        let setup = Setup {
            host: self.host.clone(),
            grants: Arc::new(Grants::default()),
            limits: limits.clone(),
            log: log.clone(),
            secrets: Secrets::default(),
            directory: Arc::from(Path::new("/")),
            workspace: PathBuf::new(),
            started: Instant::now(),
            timeout: max,
        };
        let mut store = store::build(&self.engine, setup)?;
        let called = tokio::time::timeout(max + Duration::from_secs(1), async {
            let instance = pre.instantiate_async(&mut store).await?;
            instance.downbeat_step_step().call_describe(&mut store).await
        })
        .await;
        match called {
            Ok(Ok(description)) => Ok(description),
            Ok(Err(error)) => {
                log.flush();
                Err(failure::of_error(&error, store.data().meter.denied(), &limits, max, &log))
            }
            Err(_) => Err(failure::timed_out(max, &limits, None)),
        }
    }
}

/// What `describe` logs is for nobody.
struct Nobody;

impl Observer for Nobody {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
}

fn read(path: &Path) -> Result<Vec<u8>, LoadFault> {
    // Opening a pipe would wait for somebody who writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(LoadFault::NotAComponent("it is not a file"));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(COMPONENT_MAX) as usize + 1);
    file.take(COMPONENT_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > COMPONENT_MAX {
        return Err(LoadFault::TooLarge);
    }
    Ok(bytes)
}

/// Tells components from what people mistake for them, by the preamble: `\0asm`, then a version and a layer, two bytes
/// each (WebAssembly 1 is version 1, layer 0; a component is layer 1).
fn is_component(bytes: &[u8]) -> Result<(), LoadFault> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(LoadFault::NotAComponent("it is too short to be WebAssembly"));
    };
    if magic != b"\0asm" {
        let text = bytes.iter().take(64).find(|b| !b.is_ascii_whitespace()) == Some(&b'(');
        return Err(LoadFault::NotAComponent(if text {
            "it looks like the text format; translate it with `wasm-tools parse`"
        } else {
            "it is not WebAssembly"
        }));
    }
    match rest.get(2..4) {
        Some([1, 0]) => Ok(()),
        Some([0, 0]) => Err(LoadFault::NotAComponent(
            "it is a core module; build for the target wasm32-wasip2, or wrap it with `wasm-tools component new`",
        )),
        _ => Err(LoadFault::NotAComponent("its preamble is neither a component's nor a core module's")),
    }
}

fn compile(engine: Engine, bytes: Vec<u8>, max: Duration) -> Result<Component, LoadFault> {
    let (send, receive) = mpsc::channel();
    std::thread::Builder::new().name("downbeat-compile".into()).spawn(move || {
        // Nobody may be waiting any more.
        send.send(Component::from_binary(&engine, &bytes)).ok();
    })?;
    match receive.recv_timeout(max) {
        Ok(compiled) => compiled.map_err(|error| LoadFault::Invalid(format!("{error:#}"))),
        Err(RecvTimeoutError::Timeout) => Err(LoadFault::CompileTimeout(max)),
        Err(RecvTimeoutError::Disconnected) => Err(LoadFault::Invalid("the compiler panicked on it".into())),
    }
}

fn exports_step(ty: &Type, engine: &Engine) -> bool {
    ty.exports(engine).any(|(name, item)| name == STEP && matches!(item.ty, ComponentItem::ComponentInstance(_)))
}

/// Places in the pool: as many as it has memories, or as its tables need.
fn slots(code: &Component) -> u32 {
    code.resources_required()
        .map_or(1, |required| required.num_memories.max(required.num_tables.div_ceil(TABLES_PER_SLOT)).max(1))
}

fn check(description: step::Description) -> Result<Description, String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = description.name;
    if name.len() > 64 || !name.split('-').all(|part| !part.is_empty() && part.chars().all(word)) {
        let name = text::bounded(&name, 80);
        return Err(format!(
            "its name {:?} is not made of lower case words joined by `-`",
            text::visible(&name, false)
        ));
    }
    if description.wants.len() > WANTS_MAX {
        return Err(format!("it wants {} capabilities, and the bound is {WANTS_MAX}", description.wants.len()));
    }
    let line = |text: &str, max| text::visible(&text::bounded(text, max), false).into_owned();
    Ok(Description {
        name,
        version: line(&description.version, 64),
        summary: line(&description.summary, 1024),
        input_schema: schema("input", description.input_schema)?,
        output_schema: schema("output", description.output_schema)?,
        wants: description
            .wants
            .iter()
            .map(|want| Want { capability: line(&want.capability, CAPABILITY_MAX), reason: line(&want.reason, 1024) })
            .collect(),
    })
}

fn schema(which: &str, schema: String) -> Result<Json, String> {
    if schema.len() > SCHEMA_MAX {
        return Err(format!("its {which} schema has {} bytes, and the bound is {SCHEMA_MAX}", schema.len()));
    }
    let schema = Json::parse(schema).map_err(|error| format!("its {which} schema is {error}"))?;
    if !schema.as_str().trim_start().starts_with('{') {
        return Err(format!("its {which} schema is not a JSON object"));
    }
    Ok(schema)
}
