//! Which files a program can open: rules of Landlock, which any process may put on itself. What is not named by a rule is
//! refused, whatever path leads there, and also to the superuser. Where the kernel has them, TCP without the grant and
//! signals to others are refused by the same means.
//!
//! The interface has versions, each of which knows more; a ruleset is made for the one that the kernel has.

use std::os::fd::RawFd;

/// The version that first has files, and scopes of signals and abstract sockets.
pub(crate) const FILES: u32 = 1;
pub(crate) const SCOPES: u32 = 6;

#[cfg(target_os = "linux")]
pub(crate) use here::{is_of_system, restrict, ruleset, version};

#[cfg(target_os = "linux")]
mod here {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

    use super::{RawFd, SCOPES};
    use crate::native::{Bounds, done};

    /// Directories of the system that every program may read, and run programs from: where distributions put programs,
    /// libraries and what belongs to them. Some are not there everywhere.
    const SYSTEM: &[&str] = &[
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/opt",
        "/nix/store",
        "/gnu/store",
        "/etc/alternatives",
        "/etc/ld.so.conf.d",
        "/etc/terminfo",
        "/etc/fonts",
        // Certificates; private keys below them are kept from others than the superuser by their mode, and from all here.
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/pki/tls/certs",
        "/etc/pki/ca-trust/extracted",
        "/etc/ca-certificates",
        // Of `/etc`, what C libraries ask for.
        "/etc/passwd",
        "/etc/group",
        "/etc/nsswitch.conf",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/gai.conf",
        "/etc/services",
        "/etc/protocols",
        "/etc/localtime",
        "/etc/timezone",
        "/etc/locale.alias",
        "/etc/locale.conf",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.preload",
        "/etc/os-release",
        "/etc/debian_version",
        "/etc/mime.types",
        "/etc/gitconfig",
        // A process's own; of others, what their users may see of each other: names and arguments, and not memory,
        // variables or files.
        "/proc",
        // How many processors there are, and how much memory one may have.
        "/sys/devices/system",
        "/sys/fs/cgroup",
        "/sys/kernel/mm",
    ];

    /// Devices that are nobody's.
    const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

    const EXECUTE: u64 = 1 << 0;
    const WRITE_FILE: u64 = 1 << 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    const MAKE_CHAR: u64 = 1 << 6;
    const MAKE_BLOCK: u64 = 1 << 11;
    const REFER: u64 = 1 << 13;
    const TRUNCATE: u64 = 1 << 14;
    const IOCTL_DEV: u64 = 1 << 15;

    /// What a file can have that is no directory.
    const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

    const READ: u64 = EXECUTE | READ_FILE | READ_DIR;

    /// `BIND_TCP` and `CONNECT_TCP`, of version 4.
    const TCP: u64 = 1 << 0 | 1 << 1;
    const NETWORK: u32 = 4;

    /// Abstract sockets and signals.
    const SCOPED: u64 = 1 << 0 | 1 << 1;

    /// All that a version knows of files.
    fn known(version: u32) -> u64 {
        let count = match version {
            ..=1 => 13,
            2 => 14,
            3..=4 => 15,
            5.. => 16,
        };
        (1 << count) - 1
    }

    /// `landlock_ruleset_attr`; earlier versions know only its beginning.
    #[repr(C)]
    struct Handled {
        files: u64,
        network: u64,
        scoped: u64,
    }

    /// `landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        parent: RawFd,
    }

    const CREATE_RULESET_VERSION: u32 = 1 << 0;
    const RULE_PATH_BENEATH: u32 = 1;

    /// The version of the interface that the kernel has, or 0.
    pub(crate) fn version() -> u32 {
        // SAFETY: with this flag and without a place, the kernel only answers.
        #[allow(unsafe_code)]
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Handled>(), 0, CREATE_RULESET_VERSION)
        };
        u32::try_from(version).unwrap_or(0)
    }

    /// The rules for a program, to be put on by [`restrict`].
    pub(crate) fn ruleset(version: u32, bounds: &Bounds<'_>) -> io::Result<OwnedFd> {
        let known = known(version);
        let handled = Handled {
            files: known,
            network: if bounds.network { 0 } else { TCP },
            // Whoever may leave servers behind may also stop those of an earlier step.
            scoped: if bounds.daemons { 0 } else { SCOPED },
        };
        let size = match version {
            ..NETWORK => 8,
            NETWORK..SCOPES => 16,
            SCOPES.. => size_of::<Handled>(),
        };
        // SAFETY: the kernel reads as much as it is told, which is there.
        #[allow(unsafe_code)]
        let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size, 0) };
        done(ruleset)?;
        // SAFETY: it is open, close-on-exec, and nobody else has it.
        #[allow(unsafe_code)]
        let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as RawFd) };

        for path in SYSTEM {
            allow_path(&ruleset, path, READ)?;
        }
        for path in DEVICES {
            allow_path(&ruleset, path, (READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV) & known)?;
        }
        allow(&ruleset, bounds.program, EXECUTE | READ_FILE)?;
        for directory in bounds.read {
            allow(&ruleset, directory, READ)?;
        }
        for directory in bounds.write {
            // Devices are made by those who set up machines.
            allow(&ruleset, directory, known & !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV))?;
        }
        // What it takes to move a file from one directory to another. The first version refuses that.
        debug_assert_eq!(known & REFER != 0, version >= 2);
        Ok(ruleset)
    }

    fn allow_path(ruleset: &OwnedFd, path: &str, allowed: u64) -> io::Result<()> {
        // What is not there needs no rule; what may not be opened can't be opened by the program.
        let Ok(opened) = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return Ok(()) };
        allow(ruleset, &opened, allowed)
    }

    fn allow(ruleset: &OwnedFd, parent: impl AsFd, allowed: u64) -> io::Result<()> {
        let is_directory = FileType::from_raw_mode(fstat(&parent)?.st_mode) == FileType::Directory;
        let allowed = if is_directory { allowed } else { allowed & OF_FILES };
        let beneath = Beneath { allowed, parent: parent.as_fd().as_raw_fd() };
        // SAFETY: the kernel reads the rule, and keeps the directory by itself.
        #[allow(unsafe_code)]
        let added = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const beneath, 0)
        };
        done(added)
    }

    /// Whether every program may read it.
    pub(crate) fn is_of_system(path: &std::path::Path) -> bool {
        SYSTEM.iter().any(|place| path.starts_with(place))
    }

    /// Puts the rules on this process and its children, for good. For the child: allocates nothing.
    pub(crate) fn restrict(ruleset: RawFd) -> io::Result<()> {
        // SAFETY: takes no memory.
        #[allow(unsafe_code)]
        done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) })
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_of_system(_: &std::path::Path) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn version() -> u32 {
    0
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn ruleset(_: u32, _: &super::Bounds<'_>) -> std::io::Result<std::os::fd::OwnedFd> {
    unreachable!("asked for only where there is a version of it")
}
