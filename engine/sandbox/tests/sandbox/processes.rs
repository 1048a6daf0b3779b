//! Native programs: by grant only, clean, bounded, and gone with their attempt.

use std::future::pending;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use downbeat_sandbox::{Call, End, Observer};
use downbeat_workflow::capability::{FileGrant, Grants, Limits, ProgramGrant};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{FailureKind, Used};
use downbeat_workflow::log::Level;
use rustix::process::{Pid, test_kill_process};

use crate::bench::{Bench, CallExt, failure, output};
use crate::guests::{Shell, shell};

/// A call that may run `sh` on this script.
fn script(bench: &Bench, script: &str) -> Call {
    granted(bench.call(), Grants { process: vec!["sh".into()], ..Grants::default() }, script)
}

fn granted(call: Call, grants: Grants, script: &str) -> Call {
    call.grants(grants).input(&format!("\"{script}\""))
}

#[tokio::test]
async fn an_ungranted_program_is_refused_with_the_line_to_add() {
    let bench = Bench::new();
    let ended = bench.run(&shell(Shell::default()), bench.call().input("\"touch ../refused\"")).await;
    assert_eq!(failure(&ended).kind, FailureKind::Permanent);
    assert_eq!(failure(&ended).message, r#"grant = { process = ["sh"] }"#);
    assert_eq!(ended.usage.refusals.len(), 1);
    assert_eq!(ended.usage.refusals[0].wanted, "sh");
}

#[tokio::test]
async fn a_grant_is_taken_letter_by_letter() {
    let bench = Bench::new();
    let grants = Grants { process: vec!["/bin/sh".into()], ..Grants::default() };
    let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, "echo 1")).await;
    assert_eq!(failure(&ended).message, r#"grant = { process = ["/bin/sh", "sh"] }"#);
}

#[tokio::test]
async fn a_program_is_called_as_its_grant_says_with_its_own_variables_and_in_its_own_directory() {
    let bench = Bench::new();
    let own = vec!["CARGO_PKG_NAME".to_owned()];
    let sh = ProgramGrant {
        args: Some(vec!["-c".into(), "printf*".into()]),
        env: Some(own),
        directory: Some("/workspace".into()),
        ..ProgramGrant::from("sh")
    };
    let grants = Grants { process: vec![sh], workspace: true, ..Grants::default() };
    let guest = shell(Shell::default());
    let call = |script| granted(bench.call(), grants.clone(), script);
    assert_eq!(output(&bench.run(&guest, call("printf 1 > here; printf 2")).await), "2");
    assert_eq!(output(&bench.run(&guest, call("printf %s $(cat here)")).await), "1");
    let said = bench.run(&guest, call("printf %s ${#CARGO_PKG_NAME}")).await;
    assert_ne!(output(&said), "0", "the tests' own environment has it");
    let ended = bench.run(&guest, call("cat here")).await;
    assert!(
        failure(&ended).message.ends_with(r#", { program = "sh", args = ["-c", "cat here"] }], workspace = true }"#),
        "{}",
        failure(&ended).message
    );
    assert_eq!(ended.usage.refusals[0].wanted, "sh -c cat here");
}

#[tokio::test]
async fn a_program_that_is_another_file_than_was_granted_is_refused() {
    let bench = Bench::new();
    let digest = |text: &[u8]| Some(Digest::of(text).to_string());
    let path = std::fs::canonicalize("/bin/sh").unwrap();
    let guest = shell(Shell::default());
    let call = |digest| {
        let sh = ProgramGrant { digest, ..ProgramGrant::from("sh") };
        granted(bench.call(), Grants { process: vec![sh], ..Grants::default() }, "echo 1")
    };
    let right = digest(&std::fs::read(path).unwrap());
    let found = Command::new("sh").args(["-c", "command -v sh"]).output().unwrap().stdout;
    let found = std::fs::canonicalize(String::from_utf8(found).unwrap().trim()).unwrap();
    assert_eq!(found, std::fs::canonicalize("/bin/sh").unwrap(), "these tests take them for one");
    assert_eq!(output(&bench.run(&guest, call(right)).await), "1");
    let ended = bench.run(&guest, call(digest(b"another"))).await;
    assert!(ended.usage.refusals[0].wanted.starts_with("sh with the digest sha256:"), "{:?}", ended.usage.refusals);
}

#[tokio::test]
async fn a_granted_program_runs_and_its_cpu_time_is_accounted() {
    let bench = Bench::new();
    let ended = bench
        .run(&shell(Shell::default()), script(&bench, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i"))
        .await;
    assert_eq!(output(&ended), "20000");
    assert!(ended.usage.process_cpu_us > 0);
    assert!(ended.usage.refusals.is_empty());
}

#[tokio::test]
async fn a_program_is_on_record_with_its_arguments_and_its_grant() {
    let bench = Bench::new();
    let ended = bench.run(&shell(Shell::default()), script(&bench, "echo 1")).await;
    assert_eq!((output(&ended), ended.usage.used.len()), ("1", 0));
    let used = bench.observer.used.lock().unwrap().clone();
    let [used] = &used[..] else { panic!("{used:?}") };
    assert_eq!((&*used.capability, &*used.grant, used.count), ("process", r#"process = ["sh"]"#, 1));
    assert!(used.what.starts_with("sh ") && used.what.ends_with("'echo 1'"), "{}", used.what);
}

/// Never gets to keep what it is told.
#[derive(Default)]
struct Stuck(Arc<tokio::sync::Notify>);

impl Observer for Stuck {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
    fn used(&self, _: Used) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.notify_one();
        Box::pin(pending())
    }
}

#[tokio::test]
async fn a_program_whose_record_is_not_kept_is_not_started() {
    let bench = Bench::new();
    let started = bench.path().join("started");
    let call = script(&bench, &format!("touch {}", started.display()));
    let stuck = Stuck::default();
    let told = stuck.0.clone();
    let plugin = bench.load(&shell(Shell::default()));
    let ended = bench.sandbox.attempt(&plugin, call, Arc::new(stuck), async move { told.notified().await }).await;
    assert_eq!(ended.end, End::Cancelled);
    assert!(!started.exists());
}

#[tokio::test]
async fn a_program_reads_what_it_is_given() {
    let bench = Bench::new();
    let guest = shell(Shell { stdin: "[1, 2]", ..Shell::default() });
    assert_eq!(output(&bench.run(&guest, script(&bench, "cat")).await), "[1, 2]");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_told_apart() {
    let bench = Bench::new();
    let name = "downbeat-no-such-program";
    let guest = shell(Shell { program: name, ..Shell::default() });
    let grants = Grants { process: vec![name.into()], ..Grants::default() };
    let ended = bench.run(&guest, granted(bench.call(), grants, "")).await;
    assert_eq!(failure(&ended).message, name);
}

#[tokio::test]
async fn the_environment_is_clean_and_the_directory_empty_and_removed() {
    let bench = Bench::new();
    let names = "env | cut -d= -f1 | grep -vE '^(_|PWD|OLDPWD|SHLVL)$' | sort >&2";
    let script_text = format!("ls -A | wc -l >&2; pwd >&2; {names}; echo 1");
    let guest = shell(Shell { log_output: true, ..Shell::default() });
    bench.run(&guest, script(&bench, &script_text)).await;
    let mut lines = bench.observer.lines();
    lines.retain(|line| line.starts_with("Warn"));
    assert_eq!(lines[0], "Warn: 0");
    let directory = lines[1].strip_prefix("Warn: ").unwrap();
    assert!(!std::path::Path::new(directory).exists(), "{directory}");
    assert_eq!(lines[2..], ["Warn: LANG", "Warn: PATH", "Warn: TMPDIR"]);
}

#[tokio::test]
async fn a_variable_is_set_only_if_its_name_is_granted() {
    let bench = Bench::new();
    let guest = shell(Shell { variable: "FLAVOUR", ..Shell::default() });
    let say = "printf '%s' '{}'; [ x$FLAVOUR = xvalue ]";
    let ended = bench.run(&guest, script(&bench, say)).await;
    assert_eq!(failure(&ended).message, r#"grant = { process = ["sh"], env = ["FLAVOUR"] }"#);
    let grants = Grants { process: vec!["sh".into()], env: vec!["FLAVOUR".into()], ..Grants::default() };
    assert_eq!(output(&bench.run(&guest, granted(bench.call(), grants, say)).await), "{}");
}

#[tokio::test]
async fn programs_of_a_run_share_its_workspace() {
    let bench = Bench::new();
    let grants = Grants { process: vec!["sh".into()], workspace: true, ..Grants::default() };
    let guest = shell(Shell::default());
    let call = |script| granted(bench.call(), grants.clone(), script);
    assert_eq!(output(&bench.run(&guest, call("echo 42 > answer; echo 1")).await), "1");
    assert_eq!(output(&bench.run(&guest, call("cat answer")).await), "42");
}

#[tokio::test]
async fn the_end_of_a_flood_of_output_is_kept() {
    let bench = Bench::new();
    let call = script(&bench, "yes xxxxxxxxx | head -c 3000000; printf ' %s' 12345");
    let limits = Limits { process_output: 5, ..Limits::default() };
    assert_eq!(output(&bench.run(&shell(Shell::default()), call.limits(limits)).await), "12345");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_and_what_it_wrote_is_there() {
    let bench = Bench::new();
    let guest = shell(Shell { timeout_ms: Some(300), ..Shell::default() });
    let ended = bench.run(&guest, script(&bench, "echo early; sleep 1000; echo late")).await;
    assert_eq!((&failure(&ended).kind, failure(&ended).message.as_str()), (&FailureKind::Transient, "early\n"));
}

#[tokio::test]
async fn a_fork_bomb_ends_at_the_limit_and_says_so() {
    let bench = Bench::new();
    let limits = Limits { processes: 20, ..Limits::default() };
    let call = script(&bench, "b() { b & b & }; b; wait; sleep 60").limits(limits);
    let ended = bench.run(&shell(Shell::default()), call).await;
    assert_eq!(failure(&ended).kind, FailureKind::Limit { limit: "processes".into() });
    assert!(failure(&ended).message.contains("the limit `processes` of 20"), "{}", failure(&ended).message);
}

#[tokio::test]
async fn memory_of_many_processes_counts_together() {
    let bench = Bench::new();
    let limits = Limits { process_memory: 128 << 20, ..Limits::default() };
    let hoard = "for i in 1 2 3 4 5 6; do dd if=/dev/zero of=/dev/null bs=50M & done; wait";
    let ended = bench.run(&shell(Shell::default()), script(&bench, hoard).limits(limits)).await;
    assert_eq!(failure(&ended).kind, FailureKind::Limit { limit: "process-memory".into() });
    assert!(
        ended.usage.programs.as_ref().is_some_and(|programs| programs.memory_peak > 128 << 20),
        "{:?}",
        ended.usage
    );
}

/// A shell that computes without end, and how it ended.
const COMPUTE: &str = "sh -c 'while :; do :; done'; echo $?";

#[tokio::test]
async fn a_program_that_computes_too_long_is_ended_by_its_limit() {
    let bench = Bench::new();
    let limits = Limits { process_cpu_ms: 1_000, ..Limits::default() };
    let ended = bench.run(&shell(Shell::default()), script(&bench, COMPUTE).limits(limits)).await;
    // 128 and SIGXCPU, by which the inner shell was ended.
    assert_eq!(output(&ended), "152");
}

#[tokio::test]
async fn this_machine_has_every_protection() {
    let bench = Bench::new();
    let ended = bench.run(&shell(Shell::default()), script(&bench, "echo 1")).await;
    assert_eq!(output(&ended), "1");
    assert!(ended.usage.programs.is_none_or(|programs| programs.unprotected.is_empty()));
}

/// Says the number of its own process and of a background process of its group, and then waits.
const LINGER: &str = "sleep 1000 & echo $$ $!; wait";

fn processes(line: &str) -> Vec<Pid> {
    let numbers = line.strip_prefix("Info: ").unwrap().split(' ');
    numbers.map(|number| Pid::from_raw(number.parse().unwrap()).unwrap()).collect()
}

/// Waits until a killed process is gone, which is up to the kernel and to whoever reaps it.
async fn check_gone(processes: &[Pid]) {
    for process in processes {
        for _ in 0..1000 {
            if is_gone(*process) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(is_gone(*process), "{process:?} is still there");
    }
}

/// Whether there is no such process, or it is dead and only waits for its parent to ask.
fn is_gone(process: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(process).is_err() || state.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

#[tokio::test]
async fn a_time_out_of_the_attempt_kills_the_program_with_its_group() {
    let bench = Bench::new();
    let guest = shell(Shell { log_output: true, ..Shell::default() });
    let ended = bench.run(&guest, script(&bench, LINGER).timeout_ms(400)).await;
    assert_eq!(failure(&ended).kind, FailureKind::TimedOut);
    let processes = processes(&bench.observer.first_line().await);
    assert!(is_gone(processes[0]), "the program itself is reaped when the attempt has ended");
    check_gone(&processes).await;
}

#[tokio::test]
async fn cancelling_kills_the_program_with_its_group() {
    let bench = Bench::new();
    let guest = shell(Shell { log_output: true, ..Shell::default() });
    let observer = bench.observer.clone();
    let cancelled = async move { drop(observer.first_line().await) };
    let ended = bench.run_until(&guest, script(&bench, LINGER), cancelled).await;
    assert_eq!(ended.end, End::Cancelled);
    check_gone(&processes(&bench.observer.first_line().await)).await;
}

#[tokio::test]
async fn dropping_the_attempt_kills_the_program_with_its_group() {
    let bench = Bench::new();
    let guest = shell(Shell { log_output: true, ..Shell::default() });
    let line = tokio::select! {
        ended = bench.run(&guest, script(&bench, LINGER)) => panic!("{ended:?}"),
        line = bench.observer.first_line() => line,
    };
    check_gone(&processes(&line)).await;
}

#[tokio::test]
async fn a_background_process_that_keeps_the_pipes_open_does_not_hold_the_step_up() {
    let bench = Bench::new();
    let call = script(&bench, "sleep 1000 & echo 1").timeout_ms(60_000);
    assert_eq!(output(&bench.run(&shell(Shell::default()), call).await), "1");
}

#[tokio::test]
async fn a_process_that_left_the_group_lives_on_if_that_is_granted() {
    let bench = Bench::new();
    let guest = shell(Shell { log_output: true, ..Shell::default() });
    // Waits until the new session is there, which is a fact of the other process.
    let call = script(
        &bench,
        "setsid sh -c 'echo $$ > server; exec sleep 1000' & while [ ! -s server ]; do :; done; cat server",
    );
    let sh = ProgramGrant { daemons: true, ..ProgramGrant::from("sh") };
    let call = call.grants(Grants { process: vec![sh], ..Grants::default() });
    let ended = bench.run(&guest, call).await;
    let server = Pid::from_raw(output(&ended).parse().unwrap()).unwrap();
    assert!(!is_gone(server));
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    check_gone(&[server]).await;
}

/// Of two ways to leave: a process group of one's own, and a session of one's own, each with a parent that ends.
const LEAVE: &str = "set -m; (sleep 1000 & echo $! > one) & set +m; (setsid sleep 1001 & echo $! > two) & \
    while [ ! -s one ] || [ ! -s two ]; do :; done; echo $(cat one) $(cat two) >&2; echo 1";

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_left_the_group_is_killed_with_the_program() {
    let bench = Bench::new();
    let guest = shell(Shell { log_output: true, program: "bash", ..Shell::default() });
    let grants = Grants { process: vec!["bash".into()], ..Grants::default() };
    let ended = bench.run(&guest, granted(bench.call(), grants, LEAVE)).await;
    assert_eq!(output(&ended), "1");
    let lines = bench.observer.lines();
    let numbers = lines.iter().find_map(|line| line.strip_prefix("Warn: ")).unwrap();
    let left: Vec<Pid> = numbers.split(' ').map(|number| Pid::from_raw(number.parse().unwrap()).unwrap()).collect();
    assert_eq!(left.len(), 2, "{lines:?}");
    check_gone(&left).await;
    let [refusal] = &ended.usage.refusals[..] else { panic!("{:?}", ended.usage.refusals) };
    assert_eq!(refusal.wanted, "bash: to live on, for 2 of the processes that it started");
    assert_eq!(refusal.hint, r#"grant = { process = [{ program = "bash", daemons = true }] }"#);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_chain_of_processes_that_run_away_is_killed() {
    let bench = Bench::new();
    // Each process of the chain makes the next one in a group of its own (`timeout` does so), and ends.
    let chain = "echo '[ -e stop ] || timeout 9 sh next &' > next; sh next; echo 1";
    let grants = Grants { process: vec!["sh".into()], workspace: true, ..Grants::default() };
    let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, chain)).await;
    assert_eq!(output(&ended), "1");
    let workspace = bench.path().join("workspace");
    let here = |process: &std::path::Path| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == workspace);
    let left = || std::fs::read_dir("/proc").unwrap().flatten().filter(|process| here(&process.path())).count();
    for _ in 0..100 {
        if left() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let still = left();
    std::fs::write(workspace.join("stop"), "").unwrap();
    assert_eq!(still, 0, "the chain goes on");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_program_reads_what_is_granted_and_nothing_beside_it() {
    let bench = Bench::new();
    for name in ["data", "other"] {
        std::fs::create_dir_all(bench.path().join(name)).unwrap();
        std::fs::write(bench.path().join(name).join("note"), format!("\"{name}\"")).unwrap();
    }
    let data = FileGrant { path: "data".into(), write: false };
    let grants = Grants { process: vec!["sh".into()], files: vec![data], ..Grants::default() };
    let read = |name: &str| format!("cat {}/{name}/note", bench.path().display());
    let call = |script: &str| granted(bench.call(), grants.clone(), script);
    assert_eq!(output(&bench.run(&shell(Shell::default()), call(&read("data"))).await), "\"data\"");
    let refused = bench.run(&shell(Shell::default()), call(&format!("{} || echo 2", read("other")))).await;
    assert_eq!(output(&refused), "2");
    let sh = ProgramGrant { read: vec![format!("{}/other", bench.path().display())], ..ProgramGrant::from("sh") };
    let grants = Grants { process: vec![sh], ..Grants::default() };
    let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, &read("other"))).await;
    assert_eq!(output(&ended), "\"other\"");
    // One file from the workflow's folder, and nothing beside it.
    std::fs::write(bench.path().join("other/secret"), "3").unwrap();
    let sh = ProgramGrant { read: vec!["other/note".into()], ..ProgramGrant::from("sh") };
    let grants = Grants { process: vec![sh], ..Grants::default() };
    let script = format!("{}; cat {}/other/secret || true", read("other"), bench.path().display());
    let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, &script)).await;
    assert_eq!(output(&ended), "\"other\"");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_a_program_complains_of_is_on_record_with_the_line_that_grants_it() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path().join("data")).unwrap();
    std::fs::write(bench.path().join("data/note"), "1").unwrap();
    let place = bench.path().display();
    for (script, hint) in [
        (format!("cat {place}/data/note"), r#"grant = { process = [{ program = "sh", read = ["data/note"] }] }"#),
        (
            format!("echo 1 > {place}/data/new"),
            r#"grant = { process = ["sh"], files = [{ path = "data", write = true }] }"#,
        ),
        (
            "echo 'server: Permission denied (os error 13)' >&2; false".into(),
            r#"grant = { process = [{ program = "sh", network = true }] }"#,
        ),
        (
            "bash -c 'echo > /dev/tcp/127.0.0.1/1'".into(),
            r#"grant = { process = [{ program = "sh", network = true }] }"#,
        ),
    ] {
        let grants = Grants { process: vec!["sh".into()], ..Grants::default() };
        let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, &script)).await;
        let hints: Vec<&str> = ended.usage.refusals.iter().map(|refusal| refusal.hint.as_str()).collect();
        assert_eq!(hints, [hint], "{script}");
    }
}

#[tokio::test]
async fn what_the_engine_keeps_for_itself_is_not_a_toolchain() {
    let bench = Bench::new();
    let sh = ProgramGrant { read: vec![bench.path().display().to_string()], ..ProgramGrant::from("sh") };
    let grants = Grants { process: vec![sh], ..Grants::default() };
    let ended = bench.run(&shell(Shell::default()), granted(bench.call(), grants, "echo 1")).await;
    assert!(failure(&ended).message.contains("which the engine keeps for itself"), "{}", failure(&ended).message);
}

#[tokio::test]
async fn a_program_reaches_the_network_if_that_is_granted() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("exec 3<> /dev/tcp/127.0.0.1/{} && echo 1 || echo 2", listener.local_addr().unwrap().port());
    let guest = || shell(Shell { program: "bash", ..Shell::default() });
    for (network, says) in [(false, "2"), (true, "1")] {
        let bash = ProgramGrant { network, ..ProgramGrant::from("bash") };
        let grants = Grants { process: vec![bash], ..Grants::default() };
        assert_eq!(output(&bench.run(&guest(), granted(bench.call(), grants, &connect)).await), says);
    }
}

/// Set for the process that plays the engine in the next test.
const ENGINE: &str = "DOWNBEAT_TEST_ENGINE";

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_death_of_the_engine_kills_the_program() {
    use std::io::BufRead;
    let bench = Bench::new();
    if std::env::var_os(ENGINE).is_some() {
        let guest = shell(Shell { log_output: true, ..Shell::default() });
        let plugin = bench.load(&guest);
        let call = script(&bench, "echo $$; exec sleep 1000");
        let attempt = bench.sandbox.attempt(&plugin, call, bench.observer.clone(), pending());
        let say = async { eprintln!("\n{}", bench.observer.first_line().await) };
        tokio::join!(attempt, say);
        return;
    }
    let mut engine = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::the_death_of_the_engine_kills_the_program", "--nocapture"])
        .env(ENGINE, "1")
        // What it can no longer remove itself is removed with this test.
        .env("TMPDIR", bench.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = std::io::BufReader::new(engine.stderr.take().unwrap());
    let line = said.lines().map(Result::unwrap).find(|line| line.starts_with("Info: ")).unwrap();
    engine.kill().unwrap();
    engine.wait().unwrap();
    check_gone(&processes(&line)).await;
}

#[tokio::test]
async fn a_program_inherits_nothing_that_somebody_left_open() {
    use std::os::fd::AsRawFd as _;
    let bench = Bench::new();
    let left = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
    let look = format!("if [ -e /dev/fd/{} ]; then echo 1; else echo 2; fi", left.as_raw_fd());
    assert_eq!(output(&bench.run(&shell(Shell::default()), script(&bench, &look)).await), "2");
}

#[tokio::test]
async fn a_directory_that_grows_while_it_is_removed_is_removed() {
    let bench = Bench::new();
    let grow = "for j in 1 2 3 4; do (i=0; while :; do i=$((i+1)); mkdir -p $TMPDIR/$j.$i/a/b; done) & done; wait";
    let ended = bench.run(&shell(Shell::default()), script(&bench, grow).timeout_ms(500)).await;
    assert_eq!(failure(&ended).kind, FailureKind::TimedOut);
    empty(&bench.path().join("scratch"));
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_away() {
    let bench = Bench::new();
    for left in ["artifacts/new", "scratch/downbeat-left/deep"] {
        std::fs::create_dir_all(bench.path().join(left)).unwrap();
        std::fs::write(bench.path().join(left).join("half"), "half").unwrap();
    }
    std::fs::create_dir_all(bench.path().join("artifacts/sha256/ab")).unwrap();
    bench.sandbox.sweep().unwrap();
    empty(&bench.path().join("artifacts/new"));
    empty(&bench.path().join("scratch"));
    assert!(bench.path().join("artifacts/sha256/ab").is_dir());
}

/// Waits until nothing is in a directory: a thread removes it.
fn empty(directory: &std::path::Path) {
    let started = std::time::Instant::now();
    while std::fs::read_dir(directory).unwrap().next().is_some() {
        assert!(started.elapsed() < Duration::from_secs(30), "{} is not empty", directory.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
