//! How many processes a program may have at once, enforced by the kernel while they are made. A look now and then
//! (`session.rs`) comes too late for a program that forks without end: within a second it has the processor to itself.
//!
//! A control group can count what one program started; making one takes rights that the superuser has, and others where
//! they were given them. The resource limit of a user's processes counts all of the user's, and is not there for the
//! superuser. So the group is used where it can be had, else the resource limit, and if neither can, the attempt's record
//! says so.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::native::done;

/// How the names of groups begin.
const PREFIX: &str = "downbeat-";

/// Groups of this process so far.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Where groups can be made that count processes: in the group of this process, or in one around it.
pub(crate) fn place() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = |wanted: &dyn Fn(&str, &str) -> bool| {
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields.find_map(|field| match field[..] {
            [_, at, kind, options, ..] if wanted(kind, options) => Some(PathBuf::from(at)),
            _ => None,
        })
    };
    let below = |root: &Path, group: &str| root.join(group.trim_start_matches('/'));
    let mut found = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        // The first version of control groups has a tree for each controller.
        if controllers.split(',').any(|controller| controller == "pids") {
            let is_root =
                |kind: &str, options: &str| kind == "cgroup" && options.split(',').any(|option| option == "pids");
            return Some(below(&mounted(&is_root)?, group)).filter(|place| can_make(place));
        }
        if controllers.is_empty() {
            let root = mounted(&|kind, _| kind == "cgroup2")?;
            let group = below(&root, group);
            // A group with processes of its own has no groups that count; those around it may.
            let counts = |group: &&Path| {
                fs::read_to_string(group.join("cgroup.subtree_control"))
                    .is_ok_and(|enabled| enabled.split_whitespace().any(|controller| controller == "pids"))
            };
            let around = group.ancestors().take_while(|group| group.starts_with(&root));
            return around.filter(counts).find(|group| can_make(group)).map(Path::to_owned);
        }
        None
    });
    found.next()
}

/// Whether a group can be made there. What engines left that are no more is removed on the way, where nobody lives on.
fn can_make(place: &Path) -> bool {
    for left in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = left.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            fs::remove_dir(left.path()).ok();
        }
    }
    Group::new(place, 1).is_ok()
}

/// A group for one program and what it starts. Dropped, it is removed, unless somebody lives on in it.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    members: File,
}

impl Group {
    pub(crate) fn new(place: &Path, processes: u64) -> io::Result<Group> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = place.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let opened = (|| {
            File::options().write(true).open(folder.join("pids.max"))?.write_all(processes.to_string().as_bytes())?;
            File::options().write(true).open(folder.join("cgroup.procs"))
        })();
        match opened {
            Ok(members) => Ok(Group { folder, members }),
            Err(error) => {
                fs::remove_dir(&folder).ok();
                Err(error)
            }
        }
    }

    /// For the child: puts this process into it.
    pub(crate) fn enter(&self) -> io::Result<()> {
        const THIS: &[u8] = b"0";
        // SAFETY: the system reads one byte, which is there.
        #[allow(unsafe_code)]
        done(unsafe { libc::write(self.members.as_raw_fd(), THIS.as_ptr().cast(), THIS.len()) } as i64)
    }

    /// From now on none of it makes another: what is left can be killed without a race. An error means that there is no group
    /// any more.
    pub(crate) fn close(&self) {
        fs::write(self.folder.join("pids.max"), "0").ok();
    }

    /// Whether a process was refused, if it is not closed.
    pub(crate) fn was_full(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("pids.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("max ").is_some_and(|count| count != "0"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.folder).ok();
    }
}

/// How many processes this user has, for the resource limit that counts all of them.
pub(crate) fn of_this_user() -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let user = rustix::process::getuid().as_raw();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_process));
    let tasks = own.filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == user));
    // Threads count as well.
    tasks.map(|entry| fs::read_dir(entry.path().join("task")).map_or(1, Iterator::count) as u64).sum()
}
