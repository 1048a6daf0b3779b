//! Which system calls a program is refused, as a filter that the kernel runs before each of them (seccomp): a list of
//! rules, and a small compiler for them. Refused is what serves to look into or take over other processes, to administer
//! the machine, to change what a path or a right means or how much of the machine others get, and what is hardly reviewed and widely attacked in kernels.
//!
//! Everything else is allowed: a list of what is allowed would have to follow the system's C library and every program.
//! Such calls fail with `EPERM` as they would without rights, or as if the kernel were too old where programs know how
//! to do without (`ENOSYS`). Two do nothing and say that they did.

use std::io;

/// A filter in the kernel's form.
pub(crate) struct Filter {
    #[cfg(target_os = "linux")]
    program: Vec<libc::sock_filter>,
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod rules {
    use libc::*;

    /// When a system call is refused.
    pub(super) enum When {
        Always,
        /// The argument of this number has one of these bits.
        Any(u32, u32),
        /// It is none of these.
        NotIn(u32, &'static [u32]),
        /// It is one of these.
        In(u32, &'static [u32]),
        /// Of it, these bits are none of these.
        NotMasked(u32, u32, &'static [u32]),
        /// It is no null pointer.
        Given(u32),
        /// It is about others than the caller: the first argument is not this kind of whom, which is a process, or the second,
        /// which of them, is not zero.
        Others(u32),
    }

    use When::{Always, Any, Given, In, NotIn, NotMasked, Others};

    pub(super) type Rule = (c_long, When, c_int);

    const NAMESPACES: u32 =
        (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
            as u32;

    /// `CLONE_NEWTIME`, which for `clone` is a part of the signal's number.
    const NEWTIME: u32 = 0x80;

    /// Of sockets with a network: to other machines, to processes of this one, and what tells of addresses.
    const FAMILIES: &[u32] = &[AF_UNIX as u32, AF_INET as u32, AF_INET6 as u32, AF_NETLINK as u32];

    /// The bits of a socket's type that are its type, and those that are streams.
    const TYPE: u32 = 0xf;
    const STREAMS: &[u32] = &[SOCK_STREAM as u32, SOCK_SEQPACKET as u32];

    /// `PER_LINUX`, and asking.
    const PERSONALITIES: &[u32] = &[0, u32::MAX];

    /// What puts words into a terminal's mouth: `TIOCSTI` and `TIOCLINUX`.
    const TERMINAL: &[u32] = &[0x5412, 0x541c];

    /// `PRIO_PROCESS` of `setpriority`, of which C libraries differ in the type, and `IOPRIO_WHO_PROCESS` of `ioprio_set`.
    const OF_PROCESS: u32 = 0;
    const IO_OF_PROCESS: u32 = 1;

    /// Processors differ in which there are.
    #[cfg(target_arch = "x86_64")]
    const OF_THIS_PROCESSOR: &[c_long] = &[SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs];
    #[cfg(target_arch = "aarch64")]
    const OF_THIS_PROCESSOR: &[c_long] = &[];

    const REFUSED: &[c_long] = &[
        // Other processes.
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_process_madvise,
        SYS_pidfd_getfd,
        SYS_kcmp,
        // What outlives whoever made it, for everybody of this user. What others made is found by its number, without asking.
        SYS_shmget,
        SYS_shmat,
        SYS_shmdt,
        SYS_shmctl,
        SYS_semget,
        SYS_semop,
        SYS_semtimedop,
        SYS_semctl,
        SYS_msgget,
        SYS_msgsnd,
        SYS_msgrcv,
        SYS_msgctl,
        // What a path means.
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_fsopen,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fspick,
        SYS_move_mount,
        SYS_open_tree,
        SYS_mount_setattr,
        SYS_open_by_handle_at,
        SYS_fanotify_init,
        SYS_quotactl,
        SYS_quotactl_fd,
        SYS_setns,
        // The machine.
        SYS_swapon,
        SYS_swapoff,
        SYS_reboot,
        SYS_kexec_load,
        SYS_kexec_file_load,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_acct,
        SYS_syslog,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_clock_adjtime,
        SYS_adjtimex,
        SYS_sethostname,
        SYS_setdomainname,
        SYS_vhangup,
        SYS_nfsservctl,
        SYS_lookup_dcookie,
        // The kernel itself.
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_add_key,
        SYS_request_key,
        SYS_keyctl,
    ];

    pub(super) fn rules(network: bool, daemons: bool) -> Vec<Rule> {
        let refused = REFUSED.iter().chain(OF_THIS_PROCESSOR).map(|call| (*call, Always, EPERM));
        let mut rules: Vec<Rule> = refused.collect();
        rules.extend([
            (SYS_unshare, Any(0, NAMESPACES | NEWTIME), EPERM),
            // A child of one's parent would be the engine's, which does not know of it.
            (SYS_clone, Any(0, NAMESPACES | CLONE_PARENT as u32), EPERM),
            // Its flags are behind a pointer, where no filter looks. C libraries go on with `clone`.
            (SYS_clone3, Always, ENOSYS),
            (SYS_io_uring_setup, Always, ENOSYS),
            (SYS_io_uring_enter, Always, ENOSYS),
            (SYS_io_uring_register, Always, ENOSYS),
            (SYS_personality, NotIn(0, PERSONALITIES), EPERM),
            (SYS_ioctl, In(1, TERMINAL), EPERM),
            // What a program sets for its own children goes with the session; what the engine set for it stays.
            (SYS_prctl, In(0, &[PR_SET_PDEATHSIG as u32]), 0),
            // The limits, the turns and the places of another process: the engine, slowed down, slows down every run.
            (SYS_prlimit64, NotIn(0, &[0]), EPERM),
            (SYS_setpriority, Others(OF_PROCESS), EPERM),
            (SYS_ioprio_set, Others(IO_OF_PROCESS), EPERM),
            (SYS_sched_setaffinity, NotIn(0, &[0]), EPERM),
            (SYS_sched_setparam, NotIn(0, &[0]), EPERM),
            (SYS_sched_setscheduler, NotIn(0, &[0]), EPERM),
            (SYS_sched_setattr, NotIn(0, &[0]), EPERM),
            (SYS_migrate_pages, NotIn(0, &[0]), EPERM),
            (SYS_move_pages, NotIn(0, &[0]), EPERM),
        ]);
        if network {
            rules.push((SYS_socket, NotIn(0, FAMILIES), EACCES));
        } else {
            // A socket by its path may be anybody's, such as that of a container engine, and Landlock does not guard it. Datagrams
            // can name one behind a pointer (`sendmsg`), so that they are between pairs alone that can only be streams.
            rules.push((SYS_socket, Always, EACCES));
            rules.push((SYS_socketpair, NotMasked(1, TYPE, STREAMS), EACCES));
            rules.push((SYS_connect, Always, EACCES));
            rules.push((SYS_sendto, Given(4), EACCES));
        }
        if !daemons {
            // The session is how all that a program started is found. Whoever asks for one of its own is told that it has it:
            // tools put themselves into the background (git tidies up in that way) and complain if they can't.
            rules.push((SYS_setsid, Always, 0));
        }
        rules
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Filter {
    pub(crate) fn new(network: bool, daemons: bool) -> Filter {
        Filter { program: compile(&rules::rules(network, daemons)) }
    }

    /// Puts it before every system call of this process and its children from now on. For the child: allocates nothing.
    pub(crate) fn install(&self) -> io::Result<()> {
        let program =
            libc::sock_fprog { len: self.program.len() as libc::c_ushort, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, and does not write to it.
        #[allow(unsafe_code)]
        super::done(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }.into())
    }
}

/// Whether the kernel filters, and its calls are known here.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn is_available() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number.
    #[allow(unsafe_code)]
    let known = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    known == 0
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) fn is_available() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
impl Filter {
    pub(crate) fn new(_: bool, _: bool) -> Filter {
        unreachable!("asked for only where it is available")
    }

    pub(crate) fn install(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The processor's number in `seccomp_data.arch`: `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Each rule is a comparison with the call's number, behind it what refuses it, and `allow` at the end of both. No call has
/// two rules, so that nothing needs to go on behind one that was met.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn compile(rules: &[rules::Rule]) -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
    use rules::When;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    /// Where the parts of `seccomp_data` begin, in bytes. Both processors have the lower half of a number first.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const ARGUMENTS: u32 = 16;

    let statement = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: usize, jf: usize| sock_filter {
        code: (BPF_JMP | code | BPF_K) as u16,
        jt: jt.try_into().expect("no rule has that many parts"),
        jf: jf.try_into().expect("no rule has that many parts"),
        k,
    };
    let load = |offset: u32| statement(BPF_LD | BPF_W | BPF_ABS, offset);
    let answer = |action: u32| statement(BPF_RET | BPF_K, action);
    let argument = |number: u32| load(ARGUMENTS + 8 * number);

    let mut program = vec![
        load(ARCH),
        // Calls in the way of another processor have other numbers.
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    {
        /// The calls of the x32 way of the same processor: others again.
        const X32: u32 = 0x4000_0000;
        program.extend([jump(BPF_JSET, X32, 0, 1), answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)]);
    }
    for (number, when, errno) in rules {
        let refuse = answer(libc::SECCOMP_RET_ERRNO | *errno as u32);
        // Each ends with `allow, refuse`.
        let body = match when {
            When::Always => vec![refuse],
            When::Any(index, bits) => {
                vec![argument(*index), jump(BPF_JSET, *bits, 1, 0), answer(ALLOW), refuse]
            }
            When::In(index, values) | When::NotIn(index, values) | When::NotMasked(index, _, values) => {
                let mut body = vec![argument(*index)];
                if let When::NotMasked(_, bits, _) = when {
                    body.push(statement(BPF_ALU | BPF_AND | BPF_K, *bits));
                }
                let is_allowed = !matches!(when, When::In(..));
                for (at, value) in values.iter().enumerate() {
                    // Behind the other values are `other, found`.
                    let found = values.len() - at;
                    body.push(jump(BPF_JEQ, *value, found, 0));
                }
                let (other, found) = if is_allowed { (refuse, answer(ALLOW)) } else { (answer(ALLOW), refuse) };
                body.extend([other, found]);
                body
            }
            When::Given(index) => vec![
                argument(*index),
                jump(BPF_JEQ, 0, 0, 3),
                load(ARGUMENTS + 8 * index + 4),
                jump(BPF_JEQ, 0, 0, 1),
                answer(ALLOW),
                refuse,
            ],
            When::Others(kind) => vec![
                argument(0),
                jump(BPF_JEQ, *kind, 0, 3),
                argument(1),
                jump(BPF_JEQ, 0, 0, 1),
                answer(ALLOW),
                refuse,
            ],
        };
        program.push(jump(BPF_JEQ, *number as u32, 0, body.len()));
        program.extend(body);
    }
    program.push(answer(ALLOW));
    program
}

#[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
mod tests {
    use super::*;

    /// The kernel's interpreter, as much of it as filters use.
    fn answer(program: &[libc::sock_filter], number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_le_bytes());
        data.extend(ARCHITECTURE.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut a) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    a = u32::from_le_bytes(data[step.k as usize..][..4].try_into().unwrap());
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ => {
                    at += usize::from(if a == step.k { step.jt } else { step.jf })
                }
                code if code == libc::BPF_JMP | libc::BPF_JSET => {
                    at += usize::from(if a & step.k != 0 { step.jt } else { step.jf })
                }
                code if code == libc::BPF_ALU | libc::BPF_AND => a &= step.k,
                code if code == libc::BPF_RET => return step.k,
                code => panic!("{code}"),
            }
        }
    }

    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const DENIED: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn each_rule_means_what_it_says() {
        let strict = Filter::new(false, false).program;
        let of =
            |number, arguments: [u64; 3]| answer(&strict, number, [arguments[0], arguments[1], arguments[2], 0, 0, 0]);
        assert_eq!(of(libc::SYS_ptrace, [0; 3]), REFUSED);
        assert_eq!(of(libc::SYS_setsid, [0; 3]), libc::SECCOMP_RET_ERRNO);
        assert_eq!(of(libc::SYS_read, [0; 3]), ALLOWED);
        assert_eq!(of(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_unshare, [0x80, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_unshare, [libc::CLONE_FILES as u64, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_ioctl, [0, 0x5412, 0]), REFUSED);
        // The kernel looks at 32 bits of it as well.
        assert_eq!(of(libc::SYS_ioctl, [0, 0xffff_ffff_0000_5412, 0]), REFUSED);
        assert_eq!(of(libc::SYS_ioctl, [0, 0x5413, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_personality, [0xffff_ffff, 0, 0]), ALLOWED);
        assert_eq!(of(libc::SYS_personality, [0x0004_0000, 0, 0]), REFUSED);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_PARENT as u64, 0, 0]), REFUSED);
        for call in [libc::SYS_shmget, libc::SYS_shmat, libc::SYS_semop, libc::SYS_msgrcv, libc::SYS_msgctl] {
            assert_eq!(of(call, [0; 3]), REFUSED);
        }
        assert_eq!(of(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, 0, 0]), libc::SECCOMP_RET_ERRNO);
        assert_eq!(of(libc::SYS_prctl, [libc::PR_SET_NAME as u64, 0, 0]), ALLOWED);
        let turns = |which: u32, who: u64| of(libc::SYS_setpriority, [which.into(), who, 19]);
        assert_eq!([turns(libc::PRIO_PROCESS, 0), turns(libc::PRIO_PROCESS, 1)], [ALLOWED, REFUSED]);
        assert_eq!([turns(libc::PRIO_PGRP, 0), turns(libc::PRIO_USER, 0)], [REFUSED; 2]);
        assert_eq!(of(libc::SYS_ioprio_set, [1, 0, 0]), ALLOWED);
        assert_eq!([[1, 7, 0], [2, 0, 0], [3, 0, 0]].map(|whom| of(libc::SYS_ioprio_set, whom)), [REFUSED; 3]);
        for call in [
            libc::SYS_prlimit64,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_setparam,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setattr,
            libc::SYS_migrate_pages,
            libc::SYS_move_pages,
        ] {
            assert_eq!([0, 7].map(|pid| of(call, [pid, 8, 1])), [ALLOWED, REFUSED], "{call}");
        }
        let pair = |kind: i32| of(libc::SYS_socketpair, [libc::AF_UNIX as u64, kind as u64, 0]);
        assert_eq!(pair(libc::SOCK_STREAM | libc::SOCK_CLOEXEC), ALLOWED);
        assert_eq!(pair(libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK), ALLOWED);
        assert_eq!([pair(libc::SOCK_DGRAM), pair(libc::SOCK_RAW | libc::SOCK_CLOEXEC)], [DENIED; 2]);
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK]
        {
            assert_eq!(of(libc::SYS_socket, [family as u64, 0, 0]), DENIED);
        }
        let to = |address| answer(&strict, libc::SYS_sendto, [0, 0, 0, 0, address, 0]);
        assert_eq!([to(0), to(1), to(1 << 32)], [ALLOWED, DENIED, DENIED]);
        let open = Filter::new(true, true).program;
        assert_eq!(answer(&open, libc::SYS_setsid, [0; 6]), ALLOWED);
        assert_eq!(answer(&open, libc::SYS_connect, [0; 6]), ALLOWED);
        assert_eq!(answer(&open, libc::SYS_socket, [libc::AF_INET as u64, 0, 0, 0, 0, 0]), ALLOWED);
        assert_eq!(answer(&open, libc::SYS_socket, [libc::AF_PACKET as u64, 0, 0, 0, 0, 0]), DENIED);
    }

    #[test]
    fn no_call_has_two_rules() {
        let rules = rules::rules(false, false);
        let mut numbers: Vec<_> = rules.iter().map(|(number, ..)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), rules.len());
    }
}
