//! What keeps native programs within their grants: everything that a child does to itself between fork and exec. Apart,
//! because all of it is the system's own means (Linux: no new privileges, capabilities, Landlock, seccomp, resource
//! limits, sessions), and the only code beside `host/process.rs` that is not safe Rust.
//!
//! A [`Confinement`] is computed before the fork: the rules are in the kernel, the filter is written. The child makes
//! system calls only and allocates nothing. What this system does not have is left out and named in
//! [`Confinement::missing`]; whether a program may run without it is not decided here.

pub(crate) mod complaint;
pub(crate) mod filter;
pub(crate) mod landlock;
pub(crate) mod pids;
pub(crate) mod session;

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use downbeat_workflow::capability::{Limits, Protection};

/// CPU time beyond the limit that a program gets which does not end at the warning (`SIGXCPU`), in seconds: enough to
/// write a message, too little to go on.
const CPU_GRACE_S: u64 = 5;

/// Which means this system has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// The version of Landlock's interface; 0 is none.
    pub(crate) landlock: u32,
    /// Whether system calls can be filtered, and which they are is known for this processor.
    pub(crate) seccomp: bool,
    /// Whether the engine has rights of the superuser, and whether it may take them from others for good.
    rights: Rights,
    /// How many processes there are is bounded by this.
    processes: Processes,
    /// Whether it is Linux: the rest is in every version that Rust runs on.
    linux: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Processes {
    /// Control groups, which are made here.
    Groups(PathBuf),
    /// The resource limit of the user.
    OfUser,
    /// Nothing but a look now and then.
    Nothing,
}

impl Processes {
    fn here() -> Processes {
        match pids::place() {
            Some(place) => Processes::Groups(place),
            None if rustix::process::getuid().is_root() => Processes::Nothing,
            None => Processes::OfUser,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// None that a program must not have.
    None,
    /// To be given up.
    Some,
    /// That can't be given up.
    Stuck,
}

impl System {
    /// This one.
    pub(crate) fn here() -> System {
        System {
            landlock: landlock::version(),
            seccomp: filter::is_available(),
            rights: rights(),
            processes: Processes::here(),
            linux: cfg!(target_os = "linux"),
        }
    }
}

/// What a program is to be kept to.
pub(crate) struct Bounds<'a> {
    /// Directories that it may read, and run programs from; files as well.
    pub(crate) read: &'a [File],
    /// Directories in which it may do what it likes.
    pub(crate) write: &'a [File],
    /// Its own file.
    pub(crate) program: &'a File,
    /// Whether it may talk to others.
    pub(crate) network: bool,
    /// Whether it may leave processes behind.
    pub(crate) daemons: bool,
    pub(crate) limits: &'a Limits,
}

/// Ready to be put on by a child.
pub(crate) struct Confinement {
    ruleset: Option<OwnedFd>,
    filter: Option<filter::Filter>,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux divides the superuser's rights"))]
    gives_up_rights: bool,
    /// Which resource, and how much of it: the warning and the end.
    resources: Vec<(Resource, u64, u64)>,
    group: Option<Arc<pids::Group>>,
    pub(crate) leaves_daemons: bool,
    /// What this system does not have of what it should be.
    pub(crate) missing: Vec<Protection>,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

impl Confinement {
    pub(crate) fn new(system: &System, bounds: &Bounds<'_>) -> io::Result<Confinement> {
        let ruleset = match system.landlock {
            0 => None,
            version => Some(landlock::ruleset(version, bounds)?),
        };
        let filter = system.seccomp.then(|| filter::Filter::new(bounds.network, bounds.daemons));
        let limits = bounds.limits;
        let cpu = limits.process_cpu_ms.div_ceil(1_000).max(1);
        let mut resources = vec![
            (libc::RLIMIT_DATA, limits.process_memory, limits.process_memory),
            (libc::RLIMIT_CPU, cpu, cpu + CPU_GRACE_S),
            (libc::RLIMIT_FSIZE, limits.process_file, limits.process_file),
            (libc::RLIMIT_CORE, 0, 0),
        ];
        let group = match &system.processes {
            Processes::Groups(place) => Some(Arc::new(pids::Group::new(place, limits.processes)?)),
            Processes::OfUser => {
                let most = pids::of_this_user() + limits.processes;
                resources.push((libc::RLIMIT_NPROC, most, most));
                None
            }
            Processes::Nothing => None,
        };
        let missing = Protection::ALL.into_iter().filter(|protection| !has(system, bounds, *protection)).collect();
        let gives_up_rights = system.rights == Rights::Some;
        Ok(Confinement { ruleset, filter, gives_up_rights, resources, group, leaves_daemons: bounds.daemons, missing })
    }

    /// The group that counts its processes, if there is one.
    pub(crate) fn group(&self) -> Option<Arc<pids::Group>> {
        self.group.clone()
    }

    /// To be called in the child, after everything that needs rights beyond it and right before the program.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if let Some(group) = &self.group {
            group.enter()?;
        }
        for (resource, warning, end) in &self.resources {
            bound(*resource, *warning, *end)?;
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: changes a flag of this process.
            #[allow(unsafe_code)]
            done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
            if self.gives_up_rights {
                give_up_rights()?;
            }
            if let Some(ruleset) = &self.ruleset {
                landlock::restrict(ruleset.as_raw_fd())?;
            }
            if let Some(filter) = &self.filter {
                filter.install()?;
            }
        }
        Ok(())
    }
}

/// Whether this system has a protection, or the program is not to have it.
fn has(system: &System, bounds: &Bounds<'_>, protection: Protection) -> bool {
    match protection {
        Protection::NoNewPrivileges => system.linux,
        Protection::Limits => system.linux && system.processes != Processes::Nothing,
        Protection::Capabilities => system.linux && system.rights != Rights::Stuck,
        // Without the filter, a program can leave its session.
        Protection::Session => bounds.daemons || system.linux && system.seccomp,
        Protection::SystemCalls => system.seccomp,
        Protection::Files => system.landlock >= landlock::FILES,
        // Landlock knows TCP alone.
        Protection::Network => bounds.network || system.seccomp,
        Protection::Signals => bounds.daemons || system.landlock >= landlock::SCOPES,
    }
}

/// Lowers a bound of this process; one that is lower already stays.
fn bound(resource: Resource, warning: u64, end: u64) -> io::Result<()> {
    // SAFETY: both take a place for two numbers, which is here, and keep nothing.
    #[allow(unsafe_code)]
    unsafe {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        done(libc::getrlimit(resource, &mut now).into())?;
        let end = (end as libc::rlim_t).min(now.rlim_max);
        let new = libc::rlimit { rlim_cur: (warning as libc::rlim_t).min(end), rlim_max: end };
        done(libc::setrlimit(resource, &new).into())
    }
}

/// The outcome of a system call.
fn done(returned: i64) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The superuser's rights that programs keep, by their numbers in Linux: to own and change files of the machine's users
/// (`CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`), to signal them (`KILL`), to become one of them (`SETGID`, `SETUID`) and
/// to listen below port 1024 (`NET_BIND_SERVICE`). Builds in containers run as the superuser and need these; the others
/// administer the machine, or would undo the limits.
#[cfg(target_os = "linux")]
const RIGHTS_KEPT: u64 = 0b100_1111_1011;

/// `CAP_SETPCAP`: taking rights away for good is a right itself.
#[cfg(target_os = "linux")]
const SETPCAP: u64 = 1 << 8;

/// The most rights that there can be; Linux 6 has 41.
#[cfg(target_os = "linux")]
const RIGHTS_MAX: libc::c_ulong = 64;

#[cfg(target_os = "linux")]
#[repr(C)]
struct RightsHeader {
    version: u32,
    pid: libc::c_int,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits in two halves, since Linux 2.6.26.
#[cfg(target_os = "linux")]
const RIGHTS_VERSION: u32 = 0x2008_0522;

#[cfg(target_os = "linux")]
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RightsHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[cfg(target_os = "linux")]
fn rights() -> Rights {
    let mut header = RightsHeader { version: RIGHTS_VERSION, pid: 0 };
    let mut halves = [RightsHalf::default(); 2];
    // SAFETY: the system writes to the two places, which have the layout of this version.
    #[allow(unsafe_code)]
    let got = unsafe { libc::syscall(libc::SYS_capget, &mut header, halves.as_mut_ptr()) };
    if got < 0 {
        return Rights::Stuck;
    }
    let set = |of: fn(&RightsHalf) -> u32| u64::from(of(&halves[1])) << 32 | u64::from(of(&halves[0]));
    let all = set(|half| half.permitted) | set(|half| half.inheritable);
    match (all & !RIGHTS_KEPT, set(|half| half.effective) & SETPCAP) {
        (0, _) => Rights::None,
        (_, 0) => Rights::Stuck,
        _ => Rights::Some,
    }
}

#[cfg(not(target_os = "linux"))]
fn rights() -> Rights {
    Rights::Stuck
}

/// In the child: from the set that bounds those of all programs that follow, and from its own.
#[cfg(target_os = "linux")]
fn give_up_rights() -> io::Result<()> {
    let mut header = RightsHeader { version: RIGHTS_VERSION, pid: 0 };
    // SAFETY: changes sets of this process; the system reads the two places.
    #[allow(unsafe_code)]
    unsafe {
        for right in (0..RIGHTS_MAX).filter(|right| RIGHTS_KEPT & (1 << right) == 0) {
            // There are fewer than this many; the numbers beyond are refused.
            if libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) < 0 {
                break;
            }
        }
        let mut halves = [RightsHalf::default(); 2];
        done(libc::syscall(libc::SYS_capget, &mut header, halves.as_mut_ptr()))?;
        let permitted = halves[0].permitted & RIGHTS_KEPT as u32;
        let halves = [RightsHalf { effective: permitted, permitted, inheritable: 0 }, RightsHalf::default()];
        done(libc::syscall(libc::SYS_capset, &mut header, halves.as_ptr()))
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Output};

    /// A place to work in, and what a program there is kept to.
    struct Place {
        folder: tempfile::TempDir,
        system: System,
        network: bool,
        daemons: bool,
        limits: Limits,
    }

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            for name in ["read", "write", "other"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
                std::fs::write(folder.path().join(name).join("note"), name).unwrap();
            }
            Place { folder, system: System::here(), network: false, daemons: false, limits: Limits::default() }
        }

        /// Runs a script of `sh` in the folder that it may write to.
        fn run(&self, script: &str) -> Output {
            let at = |name: &str| File::open(self.folder.path().join(name)).unwrap();
            let (read, write, program) = ([at("read")], [at("write")], File::open("/bin/sh").unwrap());
            let bounds = Bounds {
                read: &read,
                write: &write,
                program: &program,
                network: self.network,
                daemons: self.daemons,
                limits: &self.limits,
            };
            let confinement = Confinement::new(&self.system, &bounds).unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).current_dir(self.folder.path().join("write"));
            // SAFETY: `enter` makes system calls only.
            #[allow(unsafe_code)]
            unsafe {
                command.pre_exec(move || {
                    rustix::process::setsid()?;
                    confinement.enter()
                })
            };
            command.output().unwrap()
        }

        fn check(&self, script: &str, says: &str) {
            let output = self.run(script);
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(says), "{script}: {said:?} {}", output.status);
        }
    }

    fn missing(system: System, network: bool, daemons: bool) -> Vec<Protection> {
        let program = File::open("/bin/sh").unwrap();
        let limits = Limits::default();
        let bounds = Bounds { read: &[], write: &[], program: &program, network, daemons, limits: &limits };
        Confinement::new(&system, &bounds).unwrap().missing
    }

    #[test]
    fn this_machine_has_all_of_it() {
        assert_eq!(missing(System::here(), false, false), []);
    }

    #[test]
    fn what_an_older_system_lacks_is_named() {
        let processes = Processes::OfUser;
        let new = System { landlock: landlock::SCOPES, seccomp: true, rights: Rights::None, processes, linux: true };
        assert_eq!(missing(new.clone(), false, false), []);
        // Linux 5.13 to 6.11, where there is no scope yet.
        assert_eq!(missing(System { landlock: 1, ..new.clone() }, false, false), [Protection::Signals]);
        // Linux before 5.13.
        let old = System { landlock: 0, ..new.clone() };
        assert_eq!(missing(old.clone(), false, false), [Protection::Files, Protection::Signals]);
        assert_eq!(missing(old, true, true), [Protection::Files]);
        // The superuser in a container that may make no control group.
        let held = System { processes: Processes::Nothing, ..new };
        assert_eq!(missing(held, false, false), [Protection::Limits]);
        let processes = Processes::Nothing;
        let bare = System { landlock: 0, seccomp: false, rights: Rights::Stuck, processes, linux: false };
        assert_eq!(missing(bare, false, false), Protection::ALL);
    }

    #[test]
    fn the_rules_are_taken_by_every_version_of_the_interface() {
        for version in 1..=System::here().landlock {
            let mut place = Place::new();
            place.system.landlock = version;
            place.check("cat ../read/note", "read");
            place.check("cat ../other/note", "Permission denied");
        }
    }

    #[test]
    fn what_is_granted_can_be_read_and_what_is_to_be_written_written() {
        let place = Place::new();
        place.check("cat ../read/note && ls ../read", "readnote");
        place.check("echo new > note && mkdir a && mv note a/ && ln -s a b && rm b && cat a/note", "new");
        place.check("echo new > ../read/note", "Permission denied");
        place.check("rm ../read/note", "Permission denied");
        place.check("mv ../read/note .", "Permission denied");
        place.check("mkfifo pipe && mknod device c 1 3", "mknod: device: ");
    }

    #[test]
    fn nothing_else_is_opened_by_whatever_path() {
        let place = Place::new();
        let other = place.folder.path().join("other/note");
        for path in [
            "../other/note",
            "../write/../other/note",
            "/proc/self/cwd/../other/note",
            "/proc/self/root/etc/shadow",
            "/etc/shadow",
            "/root",
            other.to_str().unwrap(),
        ] {
            place.check(&format!("cat {path}"), "Permission denied");
        }
        place.check("ln -s ../other/note link && cat link", "Permission denied");
        place.check("ln ../other/note hard && cat hard", "failed to create hard link");
        place.check("ls ..", "Permission denied");
        place.check(&format!("cat /proc/{}/environ", std::process::id()), "Permission denied");
    }

    #[test]
    fn the_system_is_there_to_be_used() {
        let place = Place::new();
        place.check("echo gone > /dev/null; id -u > here; head -c 3 /dev/zero | wc -c", "3");
        place.check("grep -c root /etc/passwd && date > /dev/stdout && cat <<. && nproc\nhere\n.\n", "here");
        place.check("echo > /usr/lib/x", "Permission denied");
    }

    #[test]
    fn system_calls_that_no_step_needs_are_refused() {
        let place = Place::new();
        for (script, says) in [
            ("mount -t tmpfs none .", "mount"),
            ("unshare -U true", "Operation not permitted"),
            ("unshare -n true", "Operation not permitted"),
            ("chroot . true", "Operation not permitted"),
            ("prlimit --pid 1 --core=0", "Operation not permitted"),
            ("hostname rogue", "hostname"),
            ("renice -n 19 -p $PPID", "Operation not permitted"),
            ("ionice -c 3 -p $PPID", "Operation not permitted"),
            ("taskset -p 1 $PPID", "Operation not permitted"),
        ] {
            assert!(!place.run(script).status.success(), "{script}");
            place.check(script, says);
        }
        place.check("nice -n 5 nice && ionice -c 3 true && taskset 1 true", "5");
        place.check("grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status | tr -d '\\n\\t'", "NoNewPrivs:1Seccomp:2");
    }

    #[test]
    fn without_the_grant_there_is_no_network_of_any_kind() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut place = Place::new();
        let socket = place.folder.path().join("read/socket");
        let _other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let python = |code: &str| format!("python3 -c \"import socket as s\n{code}\"");
        let tcp = python(&format!("s.create_connection(('127.0.0.1', {port})); print('reached')"));
        let path = python(&format!("s.socket(s.AF_UNIX).connect('{}'); print('reached')", socket.display()));
        place.check(&tcp, "Permission denied");
        place.check(&path, "Permission denied");
        for kind in ["s.AF_INET, s.SOCK_DGRAM", "s.AF_INET6", "s.AF_NETLINK, s.SOCK_RAW", "s.AF_PACKET, s.SOCK_RAW"] {
            place.check(&python(&format!("s.socket({kind})")), "Permission denied");
        }
        place.check(&python("a, b = s.socketpair(); a.send(b'x'); print(b.recv(1))"), "b'x'");
        // A datagram can be sent to a path without a connection, and the path is where no filter looks.
        let datagrams = [
            "s.socket(s.AF_UNIX, s.SOCK_DGRAM)".to_owned(),
            format!("a, b = s.socketpair(type=s.SOCK_DGRAM); a.sendmsg([b'x'], [], 0, '{}')", socket.display()),
        ];
        for code in datagrams {
            place.check(&python(&code), "Permission denied");
        }
        place.network = true;
        place.check(&tcp, "reached");
        place.check(&path, "reached");
        place.check(&python("s.socket(s.AF_PACKET, s.SOCK_RAW)"), "Permission denied");
    }

    #[test]
    fn no_signal_reaches_others() {
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let place = Place::new();
        place.check(&format!("kill -9 {}", other.id()), "not permitted");
        assert!(other.try_wait().unwrap().is_none());
        place.check("sleep 1000 & kill $! && echo stopped", "stopped");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn memory_time_and_files_are_bounded() {
        let mut place = Place::new();
        place.limits.process_memory = 64 << 20;
        place.check("python3 -c \"x = bytearray(200 << 20)\"", "MemoryError");
        place.limits.process_file = 1000;
        place.check("head -c 5000 /dev/zero > big; wc -c < big", "1000");
        place.limits.process_cpu_ms = 1;
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(place.run("while :; do :; done").status.signal(), Some(libc::SIGXCPU));
        place.check("ulimit -c", "0");
    }

    #[test]
    fn processes_are_bounded_while_they_are_made() {
        let mut place = Place::new();
        place.limits.processes = 5;
        // A line of processes, each made by the one before it.
        place.check("n=0; f() { n=$((n+1)); [ $n -gt 20 ] || (f); }; f; echo over", "fork");
        if let Processes::Groups(folder) = &place.system.processes {
            let group = pids::Group::new(folder, 5).unwrap();
            assert!(!group.was_full());
        }
        // What counts all of a user's processes does not count those of the superuser.
        if !rustix::process::getuid().is_root() {
            place.system.processes = Processes::OfUser;
            place.check("n=0; f() { n=$((n+1)); [ $n -gt 20 ] || (f); }; f; echo over", "fork");
        }
        assert!(pids::of_this_user() > 0);
    }

    #[test]
    fn the_superusers_rights_are_few_and_do_not_come_back() {
        let output = Place::new().run("grep CapBnd /proc/self/status; ulimit -H -c 5");
        let bounding = String::from_utf8(output.stdout).unwrap();
        let set = u64::from_str_radix(bounding.trim().rsplit('\t').next().unwrap(), 16).unwrap();
        if System::here().rights == Rights::Some {
            assert_eq!(set & !RIGHTS_KEPT, 0, "{bounding}");
        }
        assert!(!output.status.success(), "a limit was raised");
    }
}
