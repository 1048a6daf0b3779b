//! The fleet's directory: where it serves, how many workers were asked for, and whether it is to end. What must outlive
//! the fleet is here and nowhere else; every file is written whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long to wait for something that takes milliseconds on an idle machine: a process that starts or ends, a port that
/// its last owner has just left.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often to look whether it has happened.
pub const TICK: Duration = Duration::from_millis(10);

/// A fleet's directory.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

/// Where a fleet serves, on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Address {
    /// The port for customers.
    pub front: u16,
    /// The port for orders.
    pub admin: u16,
}

impl Address {
    /// The address as a JSON object.
    pub fn to_json(self) -> String {
        format!(r#"{{"front":{},"admin":{}}}"#, self.front, self.admin)
    }

    fn parse(text: &str) -> Option<Address> {
        let (front, admin) = text.trim().strip_prefix(r#"{"front":"#)?.strip_suffix('}')?.split_once(r#","admin":"#)?;
        Some(Address { front: front.parse().ok()?, admin: admin.parse().ok()? })
    }
}

impl Place {
    /// The place in this directory, which need not exist yet.
    pub fn new(dir: impl AsRef<Path>) -> Place {
        Place(dir.as_ref().to_owned())
    }

    /// Makes the directory and takes its lock, which the system takes away when this process ends, however it ends. A
    /// fleet that was killed may still be about to end: it is waited for.
    pub fn lock(&self) -> Result<File> {
        let failed = |error: io::Error| format!("cannot lock {}: {error}", self.0.display());
        fs::create_dir_all(&self.0).map_err(failed)?;
        let file = File::create(self.0.join("lock")).map_err(failed)?;
        wait("the fleet that has this directory to end", || match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        })?;
        Ok(file)
    }

    /// Where the fleet serves, or did before it was killed.
    pub fn address(&self) -> Result<Option<Address>> {
        let Some(text) = self.read("address")? else { return Ok(None) };
        let address = Address::parse(&text);
        address.map(Some).ok_or_else(|| format!("{} is no address: {text:?}", self.0.join("address").display()))
    }

    /// Where the fleet serves, as soon as it does.
    pub fn wait_for_address(&self) -> Result<Address> {
        wait("the fleet to serve", || self.address())
    }

    /// Says where the fleet serves.
    pub fn set_address(&self, address: Address) -> Result<()> {
        self.write("address", &address.to_json())
    }

    /// How many workers were last asked for.
    pub fn workers(&self) -> Result<Option<u32>> {
        let Some(text) = self.read("workers")? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{} is no number: {text:?}", self.0.join("workers").display()))
    }

    /// Remembers how many workers are asked for.
    pub fn set_workers(&self, workers: u32) -> Result<()> {
        self.write("workers", &workers.to_string())
    }

    /// The file of the messages.
    pub fn messages(&self) -> PathBuf {
        self.0.join("messages")
    }

    /// Whether the fleet is to end. A file that appears, not one that goes: it also ends a fleet that has not begun.
    pub fn is_stopped(&self) -> bool {
        self.0.join("stop").exists()
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        let unfinished = self.0.join(format!("{name}.{}.new", process::id()));
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Looks until there is something, for at most [`PATIENCE`].
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {} s in vain for {what}", PATIENCE.as_secs()));
        }
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        let address = Address { front: 8080, admin: 8081 };
        assert_eq!(address.to_json(), r#"{"front":8080,"admin":8081}"#);
        assert_eq!(Address::parse(&address.to_json()), Some(address));
        for text in ["", "{}", r#"{"front":1}"#, r#"{"front":1,"admin":70000}"#] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
