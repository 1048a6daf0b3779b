//! The state file: how a server says that it is ready, where and as which version, and how it is told to end. One line,
//! `{"port":…,"pid":…,"version":"…"}`, written at once; the server ends when the file is gone. The application and the
//! platform agree on this file and on nothing else.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use crate::Result;

/// How often a server looks whether its state file is still there, and a command whether something has happened yet.
pub const TICK: Duration = Duration::from_millis(20);

/// What a state file says. The text between the braces is kept as it is, so that a server may say more.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub port: u16,
    pub version: String,
    fields: String,
}

impl State {
    /// Reads a state file; `None` while there is none.
    pub fn read(path: &Path) -> Result<Option<State>> {
        match fs::read_to_string(path) {
            Ok(text) => match State::parse(&text) {
                Some(state) => Ok(Some(state)),
                None => Err(format!("{} is no state file: {text:?}", path.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn parse(text: &str) -> Option<State> {
        let fields = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let field = |name: &str| {
            let value = fields.split(',').find_map(|pair| pair.strip_prefix(&format!("\"{name}\":")))?;
            Some(value.trim_matches('"').to_owned())
        };
        Some(State { port: field("port")?.parse().ok()?, version: field("version")?, fields: fields.to_owned() })
    }

    /// The state as a JSON object, with the server's name in front.
    pub fn to_json(&self, name: &str) -> String {
        format!("{{\"name\":\"{name}\",{}}}", self.fields)
    }
}

/// Says that this process is ready on the listener, and returns when its state file is gone.
pub fn hold(path: &Path, listener: &TcpListener) -> Result<()> {
    let port = listener.local_addr().map_err(|error| format!("the listener has no address: {error}"))?.port();
    let version = env!("CARGO_PKG_VERSION");
    publish(path, &format!("{{\"port\":{port},\"pid\":{},\"version\":\"{version}\"}}\n", process::id()))?;
    while path.exists() {
        thread::sleep(TICK);
    }
    Ok(())
}

/// Writes a file so that a reader sees the old text or the new one, whole.
pub fn publish(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension(format!("{}.new", process::id()));
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_and_told_with_its_name() {
        let state = State::parse("{\"port\":8080,\"pid\":7,\"version\":\"1.2.0\"}\n").unwrap();
        assert_eq!((state.port, state.version.as_str()), (8080, "1.2.0"));
        assert_eq!(state.to_json("shop"), r#"{"name":"shop","port":8080,"pid":7,"version":"1.2.0"}"#);
    }

    #[test]
    fn what_is_no_state_is_not_taken_for_one() {
        for text in ["", "{}", "{\"port\":\"far\",\"version\":\"1\"}", "{\"port\":1}"] {
            assert_eq!(State::parse(text), None, "{text}");
        }
    }
}
