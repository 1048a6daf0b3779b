//! The fleet as a run uses it: whole commands, real processes, killed from outside and repeated.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A directory with a fleet in it, which ends with the test, also when the test fails.
struct Fleet {
    dir: PathBuf,
    process: Child,
    admin: u16,
}

impl Fleet {
    fn start(test: &str, workers: u32) -> Fleet {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&dir);
        let process = serve(&dir, workers);
        let mut fleet = Fleet { dir, process, admin: 0 };
        fleet.admin = fleet.address();
        fleet
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fleet")).arg(command).arg(&self.dir).args(arguments).output().unwrap()
    }

    /// The port for orders.
    fn address(&self) -> u16 {
        let address = String::from_utf8(self.command("address", &[]).stdout).unwrap();
        address.split("\"admin\":").nth(1).unwrap().trim_end().trim_end_matches('}').parse().unwrap()
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The process ids of the workers that serve.
    fn pids(&self) -> Vec<u32> {
        let window = self.ask("GET", "/window");
        let list = window.split_once("\"pids\":[").unwrap().1.trim_end_matches("]}").to_owned();
        list.split(", ").filter(|pid| !pid.is_empty()).map(|pid| pid.parse().unwrap()).collect()
    }

    fn stop(&mut self) -> String {
        fs::write(self.dir.join("stop"), "").unwrap();
        let mut report = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        assert!(self.process.wait().unwrap().success());
        report
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn serve(dir: &Path, workers: u32) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
    command.arg("serve").arg(dir).arg(workers.to_string()).stdout(Stdio::piped()).spawn().unwrap()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// Whether the process runs. One that has ended and is not reaped has no command line any more.
fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Waits for a fact.
fn until(what: &str, fact: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fact() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_fleet_is_as_large_as_was_asked_for_when_the_answer_comes() {
    let mut fleet = Fleet::start("large", 1);
    let one = fleet.pids();
    assert_eq!(one.len(), 1);
    fleet.ask("PUT", "/workers/4");
    let four = fleet.pids();
    assert!(four.len() == 4 && four.contains(&one[0]) && four.iter().all(|pid| runs(*pid)), "{one:?} {four:?}");
    fleet.ask("PUT", "/workers/1");
    assert_eq!(fleet.pids(), one);
    assert_eq!(four.iter().filter(|pid| runs(**pid)).count(), 1);
    assert_eq!(fleet.stop(), "{\"peak\":4,\"started\":4,\"lost\":0}\n");
    assert!(!runs(one[0]));
}

#[test]
fn a_worker_that_was_killed_is_replaced() {
    let mut fleet = Fleet::start("replaced", 2);
    let before = fleet.pids();
    kill(before[0]);
    until("another worker serves", || {
        let pids = fleet.pids();
        pids.len() == 2 && !pids.contains(&before[0]) && pids.contains(&before[1])
    });
    assert_eq!(fleet.stop(), "{\"peak\":2,\"started\":3,\"lost\":1}\n");
}

#[test]
fn a_fleet_that_shrinks_under_load_loses_nobody() {
    let fleet = Fleet::start("shrinks", 4);
    let came = thread::scope(|scope| {
        let customers = scope.spawn(|| fleet.command("customers", &["30", "1000"]));
        for workers in [3, 2, 1, 3, 1] {
            fleet.ask("PUT", &format!("/workers/{workers}"));
        }
        customers.join().unwrap()
    });
    let came = String::from_utf8(came.stdout).unwrap();
    assert!(came.contains("\"failed\":0,"), "{came}");
    assert!(came.contains("\"requests\":30,\"refused\":0,\"broken\":0,"), "{came}");
}

#[test]
fn customers_notice_when_there_are_too_few_workers() {
    let fleet = Fleet::start("too-few", 1);
    let came = String::from_utf8(fleet.command("customers", &["100", "400"]).stdout).unwrap();
    // 40 pieces of work at 50 ms each, two at a time, can't be done before 1,000 ms; the last was due at 390.
    let max: f64 = came.split("\"max-ms\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(max >= 610.0 && came.contains("\"failed\":0,"), "{came}");
}

#[test]
fn the_workers_of_a_fleet_that_was_killed_end_and_it_starts_again_where_and_as_large_as_it_was() {
    let mut fleet = Fleet::start("killed", 1);
    fleet.ask("PUT", "/workers/3");
    let before = fleet.pids();
    fleet.process.kill().unwrap();
    fleet.process.wait().unwrap();
    until("the workers have ended", || !before.iter().any(|pid| runs(*pid)));
    fleet.process = serve(&fleet.dir, 1);
    until("it serves", || TcpStream::connect(("127.0.0.1", fleet.admin)).is_ok());
    assert_eq!(fleet.address(), fleet.admin);
    assert_eq!(fleet.pids().len(), 3);
}

#[test]
fn a_fleet_that_was_stopped_before_it_began_ends_at_once() {
    let mut fleet = Fleet::start("stopped", 1);
    fleet.stop();
    fleet.process = serve(&fleet.dir, 1);
    assert_eq!(fleet.stop(), "{\"peak\":1,\"started\":1,\"lost\":0}\n");
}

#[test]
fn more_workers_than_a_machine_should_have_are_refused() {
    let fleet = Fleet::start("refused", 1);
    assert_eq!(fleet.ask("PUT", "/workers/65"), r#"{"error":"a fleet has 64 workers at most"}"#);
    assert_eq!(fleet.ask("PUT", "/workers/many"), r#"{"error":"there is PUT /workers/N, /window and /messages"}"#);
    assert_eq!(fleet.pids().len(), 1);
}
