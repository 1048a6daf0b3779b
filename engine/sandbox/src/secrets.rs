//! Reads secrets, keeps them in memory, and hands an attempt those that it is granted. Nothing but the two files that put them
//! in place (`host/secrets.rs` and `host/process.rs`) takes a value from here, and no error has one in it.
//!
//! A secret is read when the first attempt that is granted it starts, once for the life of the sandbox: a new value needs a new
//! process. What was read is blotted out from then on in all that attempts leave behind (`redact.rs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use downbeat_workflow::capability::Grants;
use downbeat_workflow::event::{Failure, FailureKind};
use downbeat_workflow::json::Json;
use downbeat_workflow::secret::{SECRET_BYTES_MAX, SECRET_BYTES_MIN, SecretGrant, SecretSource, placeholder};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::attempt::failed;
use crate::directory::{Barred, Directory};
use crate::programs::on_the_way;
use crate::redact::{dense, json_string, redactor};
use crate::replace::Replacer;

/// How long a command may take to tell a secret. A vault answers within a second, and its client tries again for some.
const COMMAND_MAX: Duration = Duration::from_secs(30);

type Value = Arc<Zeroizing<String>>;

/// All that were read.
#[derive(Default)]
pub(crate) struct Vault {
    /// One is read at a time.
    kept: Mutex<Kept>,
    redactor: RwLock<Option<Arc<Replacer>>>,
    /// Whether there are any, which nearly no process has.
    any: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// By where they come from: the source, and the folder that it may depend on.
    values: HashMap<(SecretSource, PathBuf), Value>,
    /// Each with the name under which it was read first.
    named: Vec<(String, Value)>,
}

/// One that an attempt is granted.
pub(crate) struct Secret {
    pub(crate) name: String,
    /// What the guest has in its place.
    pub(crate) placeholder: String,
    pub(crate) value: Value,
}

/// Those that an attempt is granted.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) list: Vec<Secret>,
    /// Blots out all that were read.
    pub(crate) redactor: Option<Arc<Replacer>>,
}

/// Why a secret can't be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unread {
    #[error("there is no such variable")]
    NoVariable,
    #[error("there is no such file")]
    NoFile,
    #[error("this process was given no credentials: `$CREDENTIALS_DIRECTORY` is not set")]
    NoCredentials,
    #[error("it can't be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error("it is no regular file")]
    NotAFile,
    #[error("it leads elsewhere than when the policies were asked about it: begin another run")]
    Moved,
    #[error("there is no such program")]
    NoProgram,
    #[error("it ended with {0}; what it wrote is not kept")]
    Failed(std::process::ExitStatus),
    #[error("it took longer than {} seconds", COMMAND_MAX.as_secs())]
    TimedOut,
    #[error("it is empty")]
    Empty,
    #[error(
        "it has less than {SECRET_BYTES_MIN} bytes, white space not counted: one so short would be blotted out of everything"
    )]
    TooShort,
    #[error("it has more than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no text: it is not in UTF-8, or has a zero byte")]
    NoText,
}

impl Vault {
    /// What an attempt is granted, read if need be. `directory` is its workflow's folder.
    pub(crate) async fn open(
        &self,
        grants: &Grants,
        directory: &Path,
        run: &str,
        seed: u64,
    ) -> Result<Secrets, Failure> {
        let mut list: Vec<Secret> = Vec::new();
        for grant in &grants.secrets {
            if list.iter().any(|known| known.name == grant.name) {
                continue;
            }
            let value = self.value(grant, &grants.led, directory).await?;
            let placeholder = placeholder(run, seed, &grant.name);
            list.push(Secret { name: grant.name.clone(), placeholder, value });
        }
        Ok(Secrets { list, redactor: self.redactor() })
    }

    /// What blots out all that were read.
    pub(crate) fn redactor(&self) -> Option<Arc<Replacer>> {
        match self.any.load(Ordering::Acquire) {
            true => self.redactor.read().unwrap_or_else(PoisonError::into_inner).clone(),
            false => None,
        }
    }

    async fn value(
        &self,
        grant: &SecretGrant,
        led: &BTreeMap<String, String>,
        directory: &Path,
    ) -> Result<Value, Failure> {
        let Some(source) = &grant.source else {
            return Err(failed(FailureKind::Host, format!("the secret `{}` has no source", grant.name)));
        };
        let led = match source {
            SecretSource::File(path) => led.get(&*directory.join(path).to_string_lossy()).map(PathBuf::from),
            _ => None,
        };
        let key = match (source, &led) {
            // Wherever it is named, it is this file.
            (_, Some(led)) => (source.clone(), led.clone()),
            (SecretSource::Env(_) | SecretSource::Credential(_), None) => (source.clone(), PathBuf::new()),
            (SecretSource::File(_) | SecretSource::Command(_), None) => (source.clone(), directory.to_owned()),
        };
        let mut kept = self.kept.lock().await;
        if let Some(value) = kept.values.get(&key) {
            return Ok(value.clone());
        }
        let value = read(source, directory, led).await.and_then(text).map_err(|unread| {
            let message = format!("the secret `{}` can't be read from {source}: {unread}", grant.name);
            let details = serde_json::json!({ "secret": grant.name, "source": source.word() });
            Failure { details: Some(Json::from(details)), ..failed(FailureKind::Host, message) }
        })?;
        let value = Value::new(value);
        kept.values.insert(key, value.clone());
        kept.named.push((grant.name.clone(), value.clone()));
        let redactor = redactor(kept.named.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        *self.redactor.write().unwrap_or_else(PoisonError::into_inner) = redactor.map(Arc::new);
        self.any.store(true, Ordering::Release);
        Ok(value)
    }
}

impl Secrets {
    /// A text without secrets.
    pub(crate) fn blotted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redactor.as_ref().map_or(Cow::Borrowed(text), |redactor| redactor.text(text))
    }

    /// The value of a secret by its name.
    fn value(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|secret| secret.name == name).map(|secret| secret.value.as_str())
    }

    /// The variables that native programs have.
    pub(crate) fn environment<'s>(&'s self, grants: &'s Grants) -> impl Iterator<Item = (&'s str, &'s str)> {
        grants.secrets.iter().filter_map(|grant| Some((grant.env.as_deref()?, self.value(&grant.name)?)))
    }

    /// The input with what the component may see.
    pub(crate) fn reveal(&self, grants: &Grants, input: Json) -> Json {
        let revealed = grants.secrets.iter().filter(|grant| grant.reveal);
        let named = revealed.filter_map(|grant| self.list.iter().find(|secret| secret.name == grant.name));
        // A placeholder stands in strings alone, where it is never escaped.
        let pairs = named.map(|secret| {
            (Zeroizing::new(secret.placeholder.clone().into_bytes()), Arc::<str>::from(json_string(&secret.value)))
        });
        let Some(replacer) = Replacer::new(pairs) else { return input };
        let revealed = replacer.text(input.as_str()).into_owned();
        Json::parse(revealed).unwrap_or(input)
    }
}

/// A value as it is meant: text, without the line end that editors and programs write behind it.
fn text(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Unread> {
    let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0')).ok_or(Unread::NoText)?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    match text.len() {
        0 => Err(Unread::Empty),
        1..=SECRET_BYTES_MAX if dense(text) < SECRET_BYTES_MIN => Err(Unread::TooShort),
        1..=SECRET_BYTES_MAX => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(Unread::TooLong),
    }
}

/// `led` is where a file was when policies were asked about it.
async fn read(source: &SecretSource, directory: &Path, led: Option<PathBuf>) -> Result<Zeroizing<Vec<u8>>, Unread> {
    match source {
        SecretSource::Env(name) => {
            let value = std::env::var_os(name).ok_or(Unread::NoVariable)?;
            Ok(Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value)))
        }
        SecretSource::File(path) => file(directory.join(path), led).await,
        SecretSource::Credential(name) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(Unread::NoCredentials)?;
            file(Path::new(&folder).join(name), None).await
        }
        SecretSource::Command(words) => match tokio::time::timeout(COMMAND_MAX, command(words, directory)).await {
            Ok(read) => read,
            Err(_) => Err(Unread::TimedOut),
        },
    }
}

/// A file, or as much of it as shows that it is too long.
async fn file(path: PathBuf, led: Option<PathBuf>) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let of_io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unread::NoFile,
        kind => Unread::Unreadable(kind),
    };
    let of_barred = move |barred: Barred| match barred {
        Barred::System(error) => of_io(error),
        _ => Unread::Moved,
    };
    let read = move || {
        let file = match led {
            Some(led) if on_the_way(&path).pop().as_ref() != Some(&led) => return Err(Unread::Moved),
            Some(led) => Directory::open_file(&led).map_err(of_barred)?,
            // Not opened before it is known to be a file: opening a pipe waits for who writes to it.
            None if !std::fs::metadata(&path).map_err(of_io)?.is_file() => return Err(Unread::NotAFile),
            None => std::fs::File::open(&path).map_err(of_io)?,
        };
        if !file.metadata().map_err(of_io)?.is_file() {
            return Err(Unread::NotAFile);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 3));
        let most = (SECRET_BYTES_MAX + 3) as u64;
        file.take(most).read_to_end(&mut bytes).map_err(of_io)?;
        Ok(bytes)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(Unread::Unreadable(std::io::ErrorKind::Other)))
}

/// What a program of the operator's writes to its standard output. It is given no input and of the engine's environment `PATH`
/// and `HOME`; it is killed if it is given up.
async fn command(words: &[String], directory: &Path) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let of_io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unread::NoProgram,
        kind => Unread::Unreadable(kind),
    };
    let (program, arguments) = words.split_first().ok_or(Unread::NoProgram)?;
    let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(kept)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(of_io)?;
    // What it started goes with it, also when it is given up.
    let _all = child.id().and_then(|id| Pid::from_raw(id as i32)).map(AtEnd);
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 3));
    if let Some(output) = child.stdout.take() {
        output.take((SECRET_BYTES_MAX + 3) as u64).read_to_end(&mut bytes).await.map_err(of_io)?;
    }
    if bytes.len() > SECRET_BYTES_MAX + 2 {
        return Err(Unread::TooLong);
    }
    let status = child.wait().await.map_err(of_io)?;
    if status.success() { Ok(bytes) } else { Err(Unread::Failed(status)) }
}

/// Kills a process group when it is dropped.
struct AtEnd(Pid);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // An error means that there is nobody left.
        kill_process_group(self.0, Signal::KILL).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    async fn check(source: SecretSource, expected: Result<&str, Unread>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        write("token", b"t0p-secret\n");
        write("windows", b"t0p-secret\r\n");
        write("short", b"1234567\n");
        write("sparse", b"1 2 3 4 5 6 7\n");
        write("empty", b"\n");
        write("binary", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe");
        write("long", &vec![b'x'; SECRET_BYTES_MAX + 1]);
        write("full", &vec![b'x'; SECRET_BYTES_MAX]);
        let found = read(&source, folder.path(), None).await.and_then(text);
        match expected {
            Ok("") => assert!(found.is_ok(), "{source}"),
            expected => assert_eq!(found.as_ref().map(|text| text.as_str()), expected.as_ref().copied(), "{source}"),
        }
    }

    #[tokio::test]
    async fn a_secret_is_read_from_its_source_without_the_last_line_end() {
        let file = |name: &str| SecretSource::File(name.into());
        check(file("token"), Ok("t0p-secret")).await;
        check(file("windows"), Ok("t0p-secret")).await;
        check(file("full"), Ok("")).await;
        check(SecretSource::Env("PATH".into()), Ok("")).await;
        let run = |words: &[&str]| SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect());
        check(run(&["cat", "token"]), Ok("t0p-secret")).await;
        // What cargo tells tests is not among what a command is told.
        check(run(&["sh", "-c", "echo ${CARGO_MANIFEST_DIR-clean enough}"]), Ok("clean enough")).await;
    }

    #[tokio::test]
    async fn what_is_no_secret_is_refused_in_words_that_have_nothing_of_it() {
        let file = |name: &str| SecretSource::File(name.into());
        check(file("short"), Err(Unread::TooShort)).await;
        check(file("sparse"), Err(Unread::TooShort)).await;
        check(file("empty"), Err(Unread::Empty)).await;
        check(file("binary"), Err(Unread::NoText)).await;
        check(file("long"), Err(Unread::TooLong)).await;
        check(file("missing"), Err(Unread::NoFile)).await;
        check(file("."), Err(Unread::NotAFile)).await;
        check(SecretSource::Env("NO_SUCH_VARIABLE".into()), Err(Unread::NoVariable)).await;
        let run = |words: &[&str]| SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect());
        check(run(&["no-such-program-anywhere"]), Err(Unread::NoProgram)).await;
        check(run(&["yes", "an endless secret"]), Err(Unread::TooLong)).await;
    }

    #[tokio::test]
    async fn what_a_command_started_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        // What it started holds the pipe open for writing until it is gone.
        let script = format!("mkfifo {0}; sleep 1000 > {0} & exec 3< {0}; echo t0p-secret", pipe.display());
        let words = ["sh".to_owned(), "-c".to_owned(), script];
        let found = read(&SecretSource::Command(words.to_vec()), folder.path(), None).await.and_then(text);
        assert_eq!(found.as_ref().map(|text| text.as_str()), Ok("t0p-secret"));
        let mut pipe = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(pipe).unwrap();
        while pipe.read(&mut [0]).is_err() {
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_its_status_and_not_what_it_wrote() {
        let words = ["sh", "-c", "echo t0p-secret; echo t0p-secret >&2; exit 3"].map(str::to_owned).to_vec();
        let grant = SecretGrant {
            name: "token".into(),
            source: Some(SecretSource::Command(vec!["sh".into(), "-c".into(), "cat file; exit 3".into()])),
            ..SecretGrant::default()
        };
        let unread = read(&SecretSource::Command(words), Path::new("/"), None).await.unwrap_err();
        assert_eq!(unread.to_string(), "it ended with exit status: 3; what it wrote is not kept");
        let grants = Grants { secrets: vec![grant], ..Grants::default() };
        let Err(failure) = Vault::default().open(&grants, Path::new("/"), "run", 1).await else { panic!() };
        assert_eq!(failure.kind, FailureKind::Host);
        let message = "the secret `token` can't be read from the command `sh -c cat file; exit 3`: it ended with exit \
                       status: 3; what it wrote is not kept";
        assert_eq!(failure.message, message);
        assert_eq!(failure.details.unwrap().as_str(), r#"{"secret":"token","source":"command"}"#);
    }
}
