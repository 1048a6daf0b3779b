//! What the tests of the whole house share: a folder to work in, the program, and conversations with it.
//!
//! A conversation is what a person sees: the command, what it printed, its exit code, with everything that differs from
//! run to run (ids, times, sizes) replaced by a word for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use regex::Regex;
use tempfile::TempDir;

pub mod page;
pub mod storm;

/// A folder of its own, with its own state; compiled components are shared by all tests.
pub struct Bench {
    folder: TempDir,
    program: PathBuf,
    cache: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Bench {
    /// A bench for the program at `program` (`env!("CARGO_BIN_EXE_downbeat-tested")`), caching in `scratch`
    /// (`env!("CARGO_TARGET_TMPDIR")`).
    pub fn new(program: &str, scratch: &str) -> Bench {
        let folder = TempDir::new().expect("a temporary folder can be made");
        Bench { folder, program: program.into(), cache: Path::new(scratch).join("cache") }
    }

    /// Builds a plugin of the repository, so that a conversation about it does not depend on whether it is built.
    pub fn build(&self, plugin: &str) {
        let built = self.run(&["plugin", "build", &format!("{{repo}}/{plugin}")]);
        assert_eq!(built.code, 0, "{}", built.stderr);
    }

    /// Puts the release workflow into its folder, as `workflows/release`: all but what was built there. It uses the plugins
    /// of the repository.
    pub fn copy_release(&self) {
        const RELEASE: &str = "workflows/release";
        copy(&repository().join(RELEASE), &self.path().join(RELEASE));
        for name in ["release.toml", "deploy.toml"] {
            let file = format!("{RELEASE}/{name}");
            let text = std::fs::read_to_string(self.path().join(&file)).expect("it was copied");
            self.write(&file, &text.replace("\"../../plugins", &format!("\"{}/plugins", repository().display())));
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("its folder can be made");
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// The command `downbeat` with these arguments, in its folder. `{repo}` in an argument is the repository's root.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.path()).stdin(Stdio::null());
        command.env("DOWNBEAT_STATE", self.path().join(".downbeat")).env("DOWNBEAT_CACHE", &self.cache);
        command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
        // Policies of the machine's user are none of the tests' business.
        command.env("XDG_CONFIG_HOME", self.path().join(".config")).env_remove("DOWNBEAT_POLICY");
        let root = repository().display().to_string();
        command.args(arguments.iter().map(|argument| argument.replace("{repo}", &root)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let output = self.command(arguments).output().expect("the program can be started");
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("standard output is text"),
            stderr: String::from_utf8(output.stderr).expect("standard error is text"),
        }
    }

    /// Starts a command and lets it go on; both outputs are piped.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started")
    }

    /// A conversation for a page: the command as it is typed, what it said to standard error and then to standard output.
    pub fn show(&self, arguments: &[&str]) -> page::Talk {
        let answer = self.run(arguments);
        self.told(arguments, &format!("{}{}", answer.stderr, answer.stdout))
    }

    /// The same of a command that was run otherwise.
    pub fn told(&self, arguments: &[&str], said: &str) -> page::Talk {
        let quoted = |word: &&str| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() };
        let typed = format!("downbeat {}", arguments.iter().map(quoted).collect::<Vec<_>>().join(" "));
        let said = said.replace(&format!("{}/", repository().display()), "");
        let said = said.replace(&format!("{}/", self.path().display()), "").trim_end().to_owned();
        page::Talk { typed, said, any_order: false, varies: None }
    }

    /// The whole conversation, as a person sees it, with what differs from run to run redacted.
    pub fn talk(&self, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        let mut text = format!("$ downbeat {}\n", arguments.join(" "));
        for (name, part) in [("stdout", &answer.stdout), ("stderr", &answer.stderr)] {
            if !part.is_empty() {
                text.push_str(&format!("--- {name}\n{}\n", part.trim_end()));
            }
        }
        text.push_str(&format!("--- exit {}\n", answer.code));
        self.redact(&text)
    }

    fn redact(&self, text: &str) -> String {
        let text = text.replace(&self.path().display().to_string(), "<bench>");
        let text = text.replace(&repository().display().to_string(), "<repo>");
        redact(&text)
    }
}

/// Copies a folder, without what was built in it and what locks its plugins.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    let left_out = |name: &std::ffi::OsStr| name == "target" || name == "downbeat.lock";
    let entries = std::fs::read_dir(from).expect("it is there").flatten();
    for entry in entries.filter(|entry| !left_out(&entry.file_name())) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => _ = std::fs::copy(&from, &to).expect("a file can be copied"),
        }
    }
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_path_buf()
}

/// Replaces what differs from run to run.
pub fn redact(text: &str) -> String {
    const RULES: [(&str, &str); 8] = [
        (r"\b[0-9a-hjkmnp-tv-z]{7}-[0-9a-hjkmnp-tv-z]{6}\b", "<run>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
        (r"sha256:[0-9a-f]{64}", "<digest>"),
        (r"\b[0-9a-f]{12}\b", "<digest>"),
        (r"\b\d+(\.\d+)? (µs|ms|s)\b|\b\d+ min \d\d s\b", "<duration>"),
        (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "<size>"),
        (r#""(wall|cpu|process-cpu)-us":\d+"#, r#""$1-us":<n>"#),
        (r#""(memory-peak|table-elements-peak)":\d+"#, r#""$1":<n>"#),
    ];
    let mut text = text.to_owned();
    for (pattern, word) in RULES {
        text = Regex::new(pattern).expect("the pattern is a constant").replace_all(&text, word).into_owned();
    }
    // Columns are as wide as what was redacted; the pictures of diagnostics stay as they are.
    let spaces = Regex::new(r"(\S) {2,}").expect("the pattern is a constant");
    let line = |line: &str| match line.contains(" | ") || line.trim_end().ends_with(" |") {
        true => line.to_owned(),
        false => spaces.replace_all(line, "$1  ").into_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Numbers that look random and are the same for the same seed, so that a failure can be played again.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that begin at `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`, which is at least 1. SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014); that small
    /// numbers are a little likelier does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
