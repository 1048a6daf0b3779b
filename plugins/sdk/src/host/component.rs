//! The host as a component sees it: the generated bindings, and between them and the SDK's own types one conversion
//! each. What the component exports is here, too.

mod outgoing_http;

use std::io;
use std::marker::PhantomData;
use std::panic::PanicHookInfo;
use std::time::Duration;

use serde_json::Value;
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode};

use self::bindings::downbeat::step as wit;
use self::bindings::exports::downbeat::step::step::{self as exported, Guest};
use crate::{Context, Failure, Kind, Refused, Step, artifacts, files, items, process};

pub(crate) use self::outgoing_http::send as send_http;

/// Generated from `wit/`.
#[allow(missing_docs, unsafe_code, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "plugin",
        pub_export_macro: true,
    });
}

/// A step as the generated bindings want it.
#[derive(Debug)]
pub struct Exported<S>(PhantomData<S>);

impl<S: Step> Guest for Exported<S> {
    fn describe() -> exported::Description {
        std::panic::set_hook(Box::new(log_panic));
        let description = S::describe();
        exported::Description {
            name: description.name,
            version: description.version,
            summary: description.summary,
            input_schema: description.input_schema,
            output_schema: description.output_schema,
            wants: (description.wants.into_iter())
                .map(|want| exported::Want { capability: want.capability, reason: want.reason })
                .collect(),
        }
    }

    fn run(context: exported::Context, input: String) -> Result<String, exported::Failure> {
        std::panic::set_hook(Box::new(log_panic));
        if log::set_logger(&Logger).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        let context = Context {
            run: context.run,
            workflow: context.workflow,
            step: context.step,
            attempt: context.attempt,
            idempotency_key: context.idempotency_key,
            timeout: context.timeout_ms.map(Duration::from_millis),
        };
        S::run(&context, &input).map_err(exported::Failure::from)
    }
}

impl From<Failure> for exported::Failure {
    fn from(failure: Failure) -> exported::Failure {
        let Failure { kind, message, details, retry_after } = failure;
        let details = details.map(|object| Value::Object(object).to_string());
        match kind {
            Kind::InvalidInput => exported::Failure::InvalidInput(wit::types::Problem { message, details }),
            Kind::Permanent => exported::Failure::Permanent(wit::types::Problem { message, details }),
            Kind::Transient => exported::Failure::Transient(wit::types::Setback {
                message,
                details,
                retry_after_ms: retry_after.map(whole_milliseconds),
            }),
        }
    }
}

/// Without this, a trap would say that the guest panicked and not why. Replaces the standard hook, whose text the
/// host would keep a second time as what was written to standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    wit::log::write(wit::log::Level::Error, &panic.to_string());
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => wit::log::Level::Trace,
            log::Level::Debug => wit::log::Level::Debug,
            log::Level::Info => wit::log::Level::Info,
            log::Level::Warn => wit::log::Level::Warn,
            log::Level::Error => wit::log::Level::Error,
        };
        wit::log::write(level, &record.args().to_string());
    }

    fn flush(&self) {}
}

pub(crate) fn report_progress(done: u64, total: Option<u64>, message: &str) {
    wit::progress::report(done, total, message);
}

pub(crate) fn append_items(items: Vec<String>) -> Result<(), items::Error> {
    wit::items::append(&items).map_err(|error| match error {
        wit::items::Error::NotJson((index, why)) => items::Error::NotJson(index, why),
        wit::items::Error::TooMany(most) => items::Error::TooMany(most),
        wit::items::Error::TooLarge(limit) => items::Error::TooLarge(limit),
    })
}

pub(crate) fn run_process(command: &process::Command) -> Result<process::Completed, process::Error> {
    let process::Command { program, arguments, environment, working_directory, stdin, timeout, log_output } =
        command.clone();
    let command = wit::process::Command {
        program,
        arguments,
        environment,
        working_directory,
        stdin,
        timeout_ms: timeout.map(whole_milliseconds),
        log_output,
    };
    wit::process::run(&command).map(Into::into).map_err(Into::into)
}

impl From<wit::process::Completed> for process::Completed {
    fn from(completed: wit::process::Completed) -> process::Completed {
        process::Completed {
            exit: match completed.exit {
                wit::process::Exit::Code(code) => process::Exit::Code(code),
                wit::process::Exit::Signal(signal) => process::Exit::Signal(signal),
            },
            stdout: completed.stdout,
            stderr: completed.stderr,
            stdout_dropped: completed.stdout_dropped,
            stderr_dropped: completed.stderr_dropped,
            elapsed: Duration::from_millis(completed.elapsed_ms),
        }
    }
}

impl From<wit::process::Error> for process::Error {
    fn from(error: wit::process::Error) -> process::Error {
        match error {
            wit::process::Error::Refused(refusal) => process::Error::Refused(refusal.into()),
            wit::process::Error::NotFound(program) => process::Error::NotFound(program),
            wit::process::Error::TimedOut(completed) => process::Error::TimedOut(Box::new(completed.into())),
            wit::process::Error::Failed(reason) => process::Error::Failed(reason),
        }
    }
}

pub(crate) fn put_artifact(data: &[u8]) -> Result<String, artifacts::Error> {
    Ok(wit::artifacts::put(data)?)
}

pub(crate) fn get_artifact(digest: &str) -> Result<Vec<u8>, artifacts::Error> {
    Ok(wit::artifacts::get(digest)?)
}

#[derive(Debug)]
pub(crate) struct Writer(wit::artifacts::Writer);

impl Writer {
    pub(crate) fn open() -> Result<Writer, artifacts::Error> {
        Ok(Writer(wit::artifacts::Writer::open()?))
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), artifacts::Error> {
        Ok(self.0.write(data)?)
    }

    pub(crate) fn finish(self) -> Result<String, artifacts::Error> {
        Ok(wit::artifacts::Writer::finish(self.0)?)
    }
}

#[derive(Debug)]
pub(crate) struct Reader(wit::artifacts::Reader);

impl Reader {
    pub(crate) fn open(digest: &str) -> Result<Reader, artifacts::Error> {
        Ok(Reader(wit::artifacts::Reader::open(digest)?))
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.size()
    }

    pub(crate) fn read(&mut self, max: u32) -> Result<Vec<u8>, artifacts::Error> {
        Ok(self.0.read(max)?)
    }
}

impl From<wit::artifacts::Error> for artifacts::Error {
    fn from(error: wit::artifacts::Error) -> artifacts::Error {
        match error {
            wit::artifacts::Error::Refused(refusal) => artifacts::Error::Refused(refusal.into()),
            wit::artifacts::Error::NotFound(digest) => artifacts::Error::NotFound(digest),
            wit::artifacts::Error::TooLarge(limit) => artifacts::Error::TooLarge(limit),
            wit::artifacts::Error::Failed(reason) => artifacts::Error::Failed(reason),
        }
    }
}

pub(crate) fn directories() -> Vec<files::Directory> {
    preopens::get_directories().into_iter().map(|(descriptor, path)| directory(&descriptor, path)).collect()
}

fn directory(descriptor: &Descriptor, path: String) -> files::Directory {
    let write = descriptor.get_flags().is_ok_and(|flags| flags.contains(DescriptorFlags::MUTATE_DIRECTORY));
    files::Directory { path, write }
}

pub(crate) fn symlink(directory: &files::Directory, target: &str, below: &str, _: &str) -> io::Result<()> {
    let found = preopens::get_directories().into_iter().find(|(_, path)| *path == directory.path);
    let (descriptor, _) = found.ok_or(io::ErrorKind::NotFound)?;
    descriptor.symlink_at(target, below).map_err(|code| match code {
        ErrorCode::Exist => io::ErrorKind::AlreadyExists.into(),
        ErrorCode::NoEntry => io::ErrorKind::NotFound.into(),
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::ReadOnly => io::ErrorKind::PermissionDenied.into(),
        code => io::Error::other(code.message()),
    })
}

impl From<wit::types::Refusal> for Refused {
    fn from(refusal: wit::types::Refusal) -> Refused {
        Refused { capability: refusal.capability, wanted: refusal.wanted, hint: refusal.hint }
    }
}

/// Rounded up, so that a wait is never cut short; more than 584 million years is as good as that.
fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
