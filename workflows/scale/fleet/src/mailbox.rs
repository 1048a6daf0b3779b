//! The mailbox: where messages for people arrive, in place of a chat's webhook. A message is kept before its sender hears
//! that it arrived, and one whose key is there already is not kept twice: who was interrupted may safely send again.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::Result;

/// Messages at most; a run sends a handful.
const MESSAGES_MAX: usize = 1_000;

/// The messages, in the order of their arrival. In the file, each is a line: its key, a tab, and its JSON.
#[derive(Debug)]
pub struct Mailbox {
    file: File,
    messages: Vec<(String, String)>,
}

impl Mailbox {
    /// Opens the mailbox with what has arrived before.
    pub fn open(path: &Path) -> Result<Mailbox> {
        let failed = |error: std::io::Error| format!("cannot open {}: {error}", path.display());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.map_err(failed)?,
        };
        let pair = |line: &str| line.split_once('\t').map(|(key, message)| (key.to_owned(), message.to_owned()));
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        Ok(Mailbox { file, messages: text.lines().filter_map(pair).collect() })
    }

    /// Keeps a message. Line breaks become spaces, which in JSON means the same.
    pub fn put(&mut self, key: &str, message: &str) -> Result<()> {
        if self.messages.iter().any(|(other, _)| other == key) {
            return Ok(());
        }
        if self.messages.len() == MESSAGES_MAX {
            return Err("the mailbox is full".to_owned());
        }
        let (key, message) = (key.replace('\t', " "), message.replace(['\r', '\n'], " "));
        // In one write: a fleet that is killed has kept all of it or nothing.
        self.file.write_all(format!("{key}\t{message}\n").as_bytes()).map_err(|error| error.to_string())?;
        self.messages.push((key, message));
        Ok(())
    }

    /// All messages, as a JSON array.
    pub fn to_json(&self) -> String {
        let messages: Vec<&str> = self.messages.iter().map(|(_, message)| message.as_str()).collect();
        format!("[{}]", messages.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_kept_once_and_outlives_the_mailbox() {
        let path = std::env::temp_dir().join(format!("fleet-mailbox-{}", std::process::id()));
        let mut mailbox = Mailbox::open(&path).unwrap();
        mailbox.put("a", "{\n\"n\": 1}").unwrap();
        drop(mailbox);
        let mut mailbox = Mailbox::open(&path).unwrap();
        mailbox.put("a", "{\"n\": 1}").unwrap();
        mailbox.put("b", "2").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(mailbox.to_json(), r#"[{ "n": 1},2]"#);
    }
}
