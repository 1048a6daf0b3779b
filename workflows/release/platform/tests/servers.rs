//! The platform as a release uses it: whole commands, real servers, repeated and in disorder. The servers started here
//! are the platform's own, so that nothing else has to be built.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A directory that ends with its servers, also when the test fails.
struct Platform(PathBuf);

impl Platform {
    fn new(test: &str) -> Platform {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Platform(dir)
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        let output =
            Command::new(env!("CARGO_BIN_EXE_platform")).arg(command).arg(&self.0).args(arguments).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn start_receiver(&self) -> Result<String, String> {
        let messages = self.0.join("messages");
        let messages = messages.to_str().unwrap();
        let program = env!("CARGO_BIN_EXE_platform");
        self.run("start", &["receiver", program, "receiver", "--messages", messages, "--state", "{state}"])
    }
}

impl Platform {
    /// A server of the test's own, as if it had been started: it answers everything with one version, as `/health` does,
    /// and claims another in its state file.
    fn pretend(&self, name: &str, claimed: &str, version: &'static str) -> File {
        let folder = self.0.join(name);
        fs::create_dir(&folder).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        log.lock().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        fs::write(folder.join("state.json"), format!(r#"{{"port":{port},"pid":0,"version":"{claimed}"}}"#)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"version\":\"{version}\"}}").unwrap();
            }
        });
        log
    }

    fn start_front(&self) -> String {
        let (program, route) = (env!("CARGO_BIN_EXE_platform"), self.0.join("route"));
        self.run("start", &["front", program, "front", "--route", route.to_str().unwrap(), "--state", "{state}"])
            .unwrap()
    }
}

/// What a customer gets on this port.
fn ask(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

impl Drop for Platform {
    fn drop(&mut self) {
        for name in ["receiver", "front"] {
            let _ = self.run("stop", &[name]);
        }
    }
}

#[test]
fn a_server_that_is_running_is_found_and_not_started_again() {
    let platform = Platform::new("found");
    let first = platform.start_receiver().unwrap();
    assert!(first.starts_with(r#"{"name":"receiver","port":"#), "{first}");
    assert_eq!(platform.start_receiver().unwrap(), first);
    let status = platform.run("status", &[]).unwrap();
    assert!(status.starts_with(first.trim_end().trim_end_matches('}')), "{status}");
}

#[test]
fn of_two_that_start_the_same_server_at_once_both_get_the_one() {
    let platform = Platform::new("at-once");
    let states: Vec<String> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| platform.start_receiver().unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}

#[test]
fn a_stopped_server_has_ended_and_may_be_stopped_and_started_again() {
    let platform = Platform::new("stopped");
    let first = platform.start_receiver().unwrap();
    let stopped = "{\"name\":\"receiver\",\"running\":false}\n";
    assert_eq!(platform.run("stop", &["receiver"]).unwrap(), stopped);
    assert_eq!(platform.run("stop", &["receiver"]).unwrap(), stopped);
    assert_eq!(platform.run("status", &[]).unwrap(), stopped);
    assert_ne!(platform.start_receiver().unwrap(), first);
}

#[test]
fn what_a_dead_server_left_behind_is_not_believed() {
    let platform = Platform::new("dead");
    let folder = platform.0.join("receiver");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("log"), "").unwrap();
    fs::write(folder.join("state.json"), r#"{"port":1,"pid":1,"version":"0"}"#).unwrap();
    assert_eq!(platform.run("status", &[]).unwrap(), "{\"name\":\"receiver\",\"running\":false}\n");
    assert!(!platform.start_receiver().unwrap().contains(r#""port":1,"#));
}

#[test]
fn a_name_is_not_given_to_another_program() {
    let platform = Platform::new("another");
    platform.start_receiver().unwrap();
    let error = platform.run("start", &["receiver", "true"]).unwrap_err();
    assert!(error.contains("receiver is already running as"), "{error}");
}

#[test]
fn a_server_that_ends_at_once_is_shown_with_its_log() {
    let platform = Platform::new("ends");
    let error = platform.run("start", &["broken", "ls", "/no/such/file"]).unwrap_err();
    assert!(error.contains("broken ended before it was ready; its log ends with:\n"), "{error}");
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn nobody_is_led_to_a_server_that_is_not_running() {
    let platform = Platform::new("led");
    let error = platform.run("route", &["candidate"]).unwrap_err();
    assert_eq!(error, "platform: candidate is not running, so nobody can be led to it\n");
}

#[test]
fn customers_get_the_server_that_the_route_names_from_one_moment_to_the_next() {
    let platform = Platform::new("customers");
    let _old = platform.pretend("old", "1.0.0", "1.0.0");
    let _new = platform.pretend("new", "1.1.0", "1.1.0");
    platform.run("route", &["old"]).unwrap();
    let front = platform.start_front();
    let port = front.split(&[':', ',']).nth(3).unwrap().parse().unwrap();
    assert_eq!(ask(port), r#"{"version":"1.0.0"}"#);
    platform.run("route", &["new"]).unwrap();
    assert_eq!(ask(port), r#"{"version":"1.1.0"}"#);
    platform.run("route", &["old"]).unwrap();
    assert_eq!(ask(port), r#"{"version":"1.0.0"}"#);
}

#[test]
fn a_route_that_does_not_lead_to_the_version_meant_is_a_failure() {
    let platform = Platform::new("version-meant");
    let _new = platform.pretend("new", "1.1.0", "0.9.0");
    platform.start_front();
    let error = platform.run("route", &["new"]).unwrap_err();
    assert!(error.starts_with("platform: the front was to lead to version 1.1.0, but answers:\n"), "{error}");
}
