//! All that a program started, found by its session: every program is the leader of one, its children are born into it,
//! and without the grant `daemons` no one leaves it (`filter.rs`). A process group can be left, and a parent can end
//! before its children; the session stays.
//!
//! Sessions are also what is counted and weighed: the kernel has bounds for one process, and for all of a user, and none
//! that fits what one program started.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// How often a program's processes are counted and weighed. Between two looks a program touches some hundred megabytes; a
/// look takes some microseconds for each process of the machine.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// The first look. Most programs are over by then; those that run away do it at once.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(10);

/// How long the processes of a program are killed again and again that make new ones meanwhile. Whoever is killed makes
/// none, and looking takes less time than starting a process, so that few rounds do; where a group counts them
/// (`pids.rs`), none makes another from the first round on.
const KILL: Duration = Duration::from_secs(2);

/// How long those that are about to end may take when the program itself has ended, before they count as left behind: the
/// other end of a pipe ends a moment later.
const LINGER: Duration = Duration::from_millis(20);

/// What the processes of one session are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) processes: u64,
    /// Private memory, bytes.
    pub(crate) memory: u64,
}

/// The sessions of this machine as they were at the last look, for all programs that are watched.
#[derive(Default)]
pub(crate) struct Census(Mutex<Option<(Instant, Sessions)>>);

/// The members of each session, by the one that leads it.
type Sessions = HashMap<Pid, Vec<Pid>>;

impl Census {
    /// Counts and weighs a session. Reads files: not for a thread that must not wait.
    pub(crate) fn weigh(&self, session: Pid) -> Weight {
        let members = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_none_or(|(at, _)| at.elapsed() > LOOK / 2) {
                *last = Some((Instant::now(), sessions()));
            }
            last.as_ref().and_then(|(_, sessions)| sessions.get(&session).cloned()).unwrap_or_default()
        };
        let memory = members.iter().filter_map(|member| private_memory(*member)).sum();
        Weight { processes: members.len() as u64, memory }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use here::kill;

#[cfg(target_os = "linux")]
use here::{private_memory, sessions};

#[cfg(target_os = "linux")]
mod here {
    use std::collections::{HashMap, HashSet};
    use std::time::Instant;

    use rustix::io::Errno;
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

    use super::{KILL, LINGER};
    use crate::native::pids::Group;

    fn processes() -> impl Iterator<Item = Pid> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
    }

    /// A process that is no more.
    struct Gone;

    /// `None` of those who have none that could be named from here: the kernel's own, and those of containers.
    fn session_of(process: Pid) -> Result<Option<Pid>, Gone> {
        // SAFETY: takes a number and gives one.
        #[allow(unsafe_code)]
        let session = unsafe { libc::getsid(process.as_raw_nonzero().get()) };
        let is_gone = session < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        if is_gone { Err(Gone) } else { Ok(Pid::from_raw(session.max(0))) }
    }

    pub(super) fn sessions() -> HashMap<Pid, Vec<Pid>> {
        let mut sessions: HashMap<Pid, Vec<Pid>> = HashMap::new();
        for process in processes() {
            if let Ok(Some(session)) = session_of(process) {
                sessions.entry(session).or_default().push(process);
            }
        }
        sessions
    }

    /// Kills all of a session, and says how many there were beside its leader. The leader's number is its own until it is
    /// reaped: to be called before that. `group` is what counts the session's processes.
    pub(crate) fn kill(session: Pid, group: Option<&Group>) -> usize {
        let deadline = Instant::now() + KILL;
        let alive = || Look::at(session).members.iter().filter(|member| !is_dead(**member)).count();
        let mut left = alive();
        if left > 0 {
            std::thread::sleep(LINGER);
            left = alive();
        }
        group.map(Group::close);
        // Those of its group at once: none of them makes another meanwhile.
        kill_process_group(session, Signal::KILL).ok();
        // Who was alive when the processes were listed and is dead when looked at may have made another in between, which
        // is not listed. So it is over when all that were listed are there, and of the session only those who were dead
        // the last time.
        let mut dead = HashSet::new();
        while Instant::now() < deadline {
            let look = Look::at(session);
            let killed = look.members.iter().filter(|member| end(**member, session)).count();
            if killed == 0 && look.is_whole && look.members.is_subset(&dead) {
                break;
            }
            dead = look.members;
        }
        left
    }

    /// The processes of a session beside its leader.
    struct Look {
        members: HashSet<Pid>,
        /// Whether each process of the machine was there still when it was asked for its session.
        is_whole: bool,
    }

    impl Look {
        fn at(session: Pid) -> Look {
            let mut look = Look { members: HashSet::new(), is_whole: true };
            for process in processes().filter(|process| *process != session) {
                match session_of(process) {
                    Ok(of) if of == Some(session) => drop(look.members.insert(process)),
                    Ok(_) => (),
                    Err(Gone) => look.is_whole = false,
                }
            }
            look
        }
    }

    /// Kills a process if it is alive and of the session still; whether it was.
    fn end(process: Pid, session: Pid) -> bool {
        // Held, it stays the one that is looked at.
        let held = match pidfd_open(process, PidfdFlags::empty()) {
            Ok(held) => Some(held),
            // Linux before 5.3.
            Err(Errno::NOSYS) => None,
            Err(_) => return false,
        };
        if !matches!(session_of(process), Ok(of) if of == Some(session)) || is_dead(process) {
            return false;
        }
        match held {
            Some(held) => pidfd_send_signal(&held, Signal::KILL).is_ok(),
            None => kill_process(process, Signal::KILL).is_ok(),
        }
    }

    /// Whether it is gone, or only waits for its parent to ask.
    fn is_dead(process: Pid) -> bool {
        status(process, "State:").is_none_or(|state| state.starts_with(['Z', 'X']))
    }

    /// A field of a process's status, by its name with the colon.
    fn status(process: Pid, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
        Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned())
    }

    /// What is resident and comes from no file.
    pub(super) fn private_memory(process: Pid) -> Option<u64> {
        let kib: u64 = status(process, "RssAnon:")?.strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn kill(session: Pid, _: Option<&crate::native::pids::Group>) -> usize {
    rustix::process::kill_process_group(session, rustix::process::Signal::KILL).ok();
    0
}

#[cfg(not(target_os = "linux"))]
fn sessions() -> HashMap<Pid, Vec<Pid>> {
    HashMap::new()
}

#[cfg(not(target_os = "linux"))]
fn private_memory(_: Pid) -> Option<u64> {
    None
}
