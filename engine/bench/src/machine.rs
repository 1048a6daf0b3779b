//! Where figures were measured: they mean nothing without it.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use downbeat_sandbox::Allocation;
use serde::{Deserialize, Serialize};

/// A machine, as far as the figures depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processors: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// Where the sandbox's instances get their memory from.
    pub(crate) allocation: String,
}

impl Machine {
    /// This one. What can't be found out is `unknown`.
    pub(crate) fn this(allocation: &Allocation) -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Machine {
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            kernel: kernel(&said("uname", &["-sr"])).to_owned(),
            rustc: rustc(),
            allocation: match allocation {
                Allocation::Pooled { pagemap_scan: true, .. } => "a pool, reset by PAGEMAP_SCAN".into(),
                Allocation::Pooled { pagemap_scan: false, .. } => {
                    "a pool, reset by writing (this kernel has no PAGEMAP_SCAN)".into()
                }
                Allocation::OnDemand { reason } => format!("on demand, there is no pool: {reason}"),
            },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processors, processor, kernel, rustc, allocation } = self;
        write!(f, "{processors} × {processor}, {kernel}, {rustc}; instances from {allocation}")
    }
}

/// The system's name and the first two parts of its version: what comes after tells who built it.
fn kernel(full: &str) -> &str {
    let dots = full.match_indices('.').nth(1);
    dots.map_or(full, |(second_dot, _)| &full[..second_dot])
}

/// The compiler in use, which is the one that compiled this when `make` did.
pub(crate) fn rustc() -> String {
    said("rustc", &["--version"])
}

/// Where a program is, if it is in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let text = output.filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_by_two_numbers() {
        assert_eq!(
            ["Linux 6.18.44-generic", "Darwin 24.1.0", "unknown"].map(kernel),
            ["Linux 6.18", "Darwin 24.1", "unknown"]
        );
    }
}
