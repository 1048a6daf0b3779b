//! The journal's file in bad company: a disk that is full, a lock that somebody holds, a file that is damaged, garbage, or
//! a later version's. The engine says what is wrong and what to do, ends with 4, and loses nothing that it acknowledged.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use downbeat_journal::{Journal, LogLine, Mode, RunFilter};
use downbeat_tests::storm::{self, Storm};
use downbeat_tests::{Answer, Bench};
use downbeat_workflow::event::Timestamp;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::StepId;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Pid, Signal, kill_process};

/// The exit code for an engine that can't do its work.
const ENGINE: i32 = 4;

fn new_storm() -> Storm {
    Storm::on(Bench::new(env!("CARGO_BIN_EXE_downbeat-tested"), env!("CARGO_TARGET_TMPDIR")))
}

/// A way to have too little room for the journal of a run, as lines of a shell.
struct Cramped {
    name: &'static str,
    /// What the shell is started with.
    shell: &'static [&'static str],
    /// Before everything.
    prepare: &'static str,
    /// In front of the command that has too little room.
    cramp: &'static str,
    /// Makes room.
    relieve: &'static str,
    /// What the engine says.
    says: &'static str,
}

/// Works everywhere: no file may grow beyond 1 MiB (in blocks of 512 bytes). The signal that would end the process is
/// ignored, as a service manager does, so that the write fails.
const FILE_SIZE: Cramped = Cramped {
    name: "a limit on the size of files",
    shell: &["sh", "-c"],
    prepare: "trap '' XFSZ",
    cramp: "ulimit -f 2048;",
    relieve: "",
    says: "journal.db failed (disk I/O error): check the disk",
};

/// A file system of 1 MiB that is really full, where the system lets this user have a mount namespace.
const FULL: Cramped = Cramped {
    name: "a full disk",
    shell: &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"],
    prepare: "mkdir -p .downbeat && mount -t tmpfs -o size=1m tmpfs .downbeat",
    cramp: "",
    relieve: "mount -o remount,size=64m .downbeat",
    says: "there is no space left for ",
};

impl Cramped {
    fn is_possible(&self) -> bool {
        let (program, arguments) = self.shell.split_first().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut shell = Command::new(program);
        shell.args(arguments).arg(self.prepare).current_dir(scratch.path());
        shell.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// A run that gets stuck, a look at it, and its resumption once there is room, each with its exit code; all in one
    /// shell, as a file system of its own is gone with it.
    fn play(&self) -> [Answer; 4] {
        let storm = new_storm();
        let script = format!(
            "{}\n\
             said() {{ name=$1; shift; \"$@\" > $name.out 2> $name.err; echo $? > $name.code; }}\n\
             ({} said stuck \"$0\" run storm.toml --json)\n\
             said before \"$0\" show --json\n\
             {}\n\
             said resumed \"$0\" resume --json\n\
             said after \"$0\" show --json\n",
            self.prepare, self.cramp, self.relieve,
        );
        let downbeat = storm.bench.command(&[]);
        let (program, arguments) = self.shell.split_first().unwrap();
        let mut shell = Command::new(program);
        shell.args(arguments).arg(script).arg(downbeat.get_program()).current_dir(storm.bench.path());
        for (name, value) in downbeat.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        assert!(shell.stdin(Stdio::null()).status().unwrap().success());
        let answers = ["stuck", "before", "resumed", "after"].map(|name| {
            let read = |part: &str| fs::read_to_string(storm.bench.path().join(format!("{name}.{part}"))).unwrap();
            Answer { code: read("code").trim().parse().unwrap(), stdout: read("out"), stderr: read("err") }
        });
        storm.check_all(&lines(&answers[3]));
        answers
    }
}

fn lines(answer: &Answer) -> Vec<String> {
    answer.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn without_room_a_run_stops_and_loses_nothing_and_with_room_it_goes_on() {
    // The component is compiled and kept in the cache before anything is cramped.
    let calm = new_storm();
    assert_eq!(calm.bench.run(&["run", "storm.toml"]).code, 0);
    let expected = calm.check_all(&calm.journal());

    for cramped in
        [&FILE_SIZE, &FULL].into_iter().filter(|cramped| cramped.name == FILE_SIZE.name || cramped.is_possible())
    {
        let [stuck, before, resumed, after] = cramped.play();
        let story = format!("{}: {}\n{}", cramped.name, stuck.stderr, resumed.stderr);
        assert_eq!((stuck.code, before.code, resumed.code, after.code), (ENGINE, 0, 0, 0), "{story}");
        assert!(stuck.stderr.contains(cramped.says), "{story}");
        assert!(stuck.stderr.contains("hint: once the cause is gone, `downbeat resume"), "{story}");
        let (before, after) = (lines(&before), lines(&after));
        storm::check_life(&[], &stuck.stdout, &before, &story);
        assert!(!storm::is_over(&before) && before.len() > 10, "it did not get stuck half way: {story}");
        storm::check_life(&before, &resumed.stdout, &after, &story);
        assert_eq!(storm::outputs(&after), expected["run"], "{story}");
    }
}

#[test]
fn a_lock_of_another_process_is_waited_for_and_then_told_with_its_holder() {
    let storm = new_storm();
    assert_eq!(storm.bench.run(&["run", "storm.toml"]).code, 0);
    let file =
        fs::OpenOptions::new().read(true).write(true).open(storm.bench.path().join(".downbeat/journal.db")).unwrap();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    for command in [&["list"][..], &["run", "storm.toml"]] {
        let began = Instant::now();
        let answer = storm.bench.run(command);
        assert_eq!(answer.code, ENGINE, "{}", answer.stderr);
        assert!(began.elapsed() >= Duration::from_secs(5), "it did not wait: {}", answer.stderr);
        let holder = if cfg!(target_os = "linux") {
            format!("process {} (", std::process::id())
        } else {
            "another program".to_owned()
        };
        assert!(answer.stderr.contains(&format!("journal.db has been locked by {holder}")), "{}", answer.stderr);
        assert!(answer.stderr.contains("for 5 s: end that program's transaction"), "{}", answer.stderr);
    }
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    assert_eq!(storm.bench.run(&["list"]).code, 0);
}

/// A run that was asked to stop half way, with everything in the database.
fn stopped() -> Storm {
    let storm = new_storm();
    let mut engine = storm.bench.spawn(&["run", "storm.toml", "--json"]);
    let mut stdout = std::io::BufReader::new(engine.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..100 {
        assert!(std::io::BufRead::read_line(&mut stdout, &mut line).unwrap() > 0, "the run ended early");
    }
    kill_process(Pid::from_child(&engine), Signal::TERM).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    // What may still be in the write-ahead log goes into the database when a journal is closed.
    drop(Journal::open(&storm.bench.path().join(".downbeat"), Mode::Drive).unwrap());
    storm
}

/// What every command that needs the journal says of a file like this; the file stays as it is.
fn check_refused(storm: &Storm, bytes: &[u8], said: &str) {
    let path = storm.bench.path().join(".downbeat/journal.db");
    fs::write(&path, bytes).unwrap();
    for command in [&["show"][..], &["logs"], &["resume"], &["cancel"]] {
        let answer = storm.bench.run(command);
        assert_eq!(answer.code, ENGINE, "{command:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(said), "{command:?}: {}", answer.stderr);
        assert!(fs::read(&path).unwrap() == bytes, "{command:?} has written to it");
    }
}

#[test]
fn a_damaged_database_is_told_and_left_as_it_is() {
    let storm = stopped();
    let path = storm.bench.path().join(".downbeat/journal.db");
    let good = fs::read(&path).unwrap();
    let mut damaged = good.clone();
    // All but the first page, which holds the header and the schema.
    damaged[16 * 1024..].fill(0xA5);
    check_refused(&storm, &damaged, "journal.db is damaged (");
    // A copy that is put back is all that it takes.
    fs::write(&path, good).unwrap();
    assert_eq!(storm.bench.run(&["resume"]).code, 0);
    storm.check_all(&storm.journal());
}

#[test]
fn a_file_that_is_garbage_or_a_later_versions_is_told_and_left_as_it_is() {
    let storm = stopped();
    let good = fs::read(storm.bench.path().join(".downbeat/journal.db")).unwrap();
    check_refused(&storm, &b"dear diary, ".repeat(2_000), "journal.db is not a journal: it is no SQLite database");
    let mut later = good.clone();
    // The header's `user version`, at byte 60 (SQLite's file format): the schema's.
    later[60..64].copy_from_slice(&99_u32.to_be_bytes());
    check_refused(&storm, &later, "(schema 99); this is 0.1.0, which knows schemas up to ");
    let mut foreign = good;
    // Byte 68: the application's id.
    foreign[68..72].copy_from_slice(&0x4750_4B47_u32.to_be_bytes());
    check_refused(&storm, &foreign, "journal.db is another program's database (application id 0x47504b47)");
}

#[test]
fn a_place_where_nothing_can_be_written_is_told() {
    let storm = new_storm();
    // Not even root makes a folder there.
    let answer = storm.bench.run(&["--state", "/dev/null/state", "run", "storm.toml"]);
    assert_eq!(answer.code, ENGINE, "{}", answer.stderr);
    assert!(answer.stderr.contains("/dev/null/state"), "{}", answer.stderr);
}

#[test]
fn a_line_of_the_log_that_belongs_to_no_step_is_told() {
    let storm = stopped();
    let journal = Journal::open(&storm.bench.path().join(".downbeat"), Mode::Drive).unwrap();
    let run = journal.runs(&RunFilter::default()).unwrap().remove(0).id;
    let (step, attempt, at) = (StepId(u32::MAX), 1, Timestamp(1));
    journal.append_log(&run, vec![LogLine { step, attempt, at, level: Level::Info, message: "x".to_owned() }]);
    // Its end writes what waits.
    drop(journal);
    for command in [&["logs"][..], &["logs", "--json"]] {
        let answer = storm.bench.run(command);
        assert_eq!(answer.code, ENGINE, "{command:?}: {}", answer.stderr);
        assert!(answer.stderr.contains("the log has a line of step number 4294967296"), "{}", answer.stderr);
    }
}
