//! Seccomp: system calls that a process of this host never makes, and that somebody who took it over would.
//! They fail with `EPERM`; everything else stays as it is, since drivers of GPUs make calls that nobody lists. It sees
//! numbers, not what pointers lead to: which file is meant by a path is landlock's to say.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use super::Layer;

/// What a process still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// Reads and writes files, and talks to devices.
    Job,
    /// Computes, on what it has open.
    Computation,
}

/// What neither needs: other processes, programs, networks, marks of files, mounts, modules, clocks, users.
const FORBIDDEN: &[c_long] = &[
    // Programs and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // C libraries signal their own threads by `tgkill`, or end all the same.
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    // Connections of every family: landlock knows TCP only. The rest is for sockets that were there before.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Memory, semaphores and queues of the user's other processes, which lie in no folder.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // What files are marked with, by which landlock knows no folder: modes, owners, attributes. Times are below.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    // What happens in folders that cannot be opened.
    libc::SYS_inotify_add_watch,
    // Ways round what is looked at here.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_mknodat,
    libc::SYS_quotactl,
    QUOTACTL_FD,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Users, keys and capabilities.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_vhangup,
];

/// Younger than some C libraries' lists of calls; since 2011 a new call has the same number everywhere.
const QUOTACTL_FD: c_long = 443;
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const FILE_SETATTR: c_long = 469;

/// What only some machines have.
#[cfg(target_arch = "x86_64")]
const OF_MACHINE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_MACHINE: &[c_long] = &[];

/// Every number of x86-64 works with this bit too, on kernels with 32-bit pointers.
const X32: c_long = 0x4000_0000;

/// The second numbers that some calls have there.
const OF_X32: std::ops::Range<c_long> = (X32 | 512)..(X32 | 548);

const OPENING: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    // What changes names and sizes: a thread that a library began earlier is outside of landlock.
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
];

/// `F_SETOWN`, `F_SETSIG` and `F_SETOWN_EX`, which have somebody else signalled when a file can be read.
const SIGNALLING: &[u64] = &[8, 10, 15];

/// `TIOCSTI` and `TIOCLINUX`, which type into the terminal that this process was started from; `FS_IOC_SETFLAGS` and
/// `FS_IOC_FSSETXATTR`, which mark files.
const COMMANDS: &[u64] = &[0x5412, 0x541C, 0x4008_6602, 0x401C_5820];

/// Restricts all threads of this process.
pub(super) fn restrict(process: Process) -> Layer {
    match filters(process).and_then(|filters| filters.iter().try_for_each(|f| apply_filter_all_threads(f))) {
        Ok(()) => Layer::On,
        Err(error) => Layer::Missing(error.to_string()),
    }
}

fn filters(process: Process) -> Result<[BpfProgram; 2], seccompiler::Error> {
    let opening = if process == Process::Computation { OPENING } else { &[] };
    let mut rules = by_argument()?;
    for &call in [FORBIDDEN, OF_MACHINE, opening].into_iter().flatten() {
        rules.insert(call, Vec::new());
    }
    if cfg!(target_arch = "x86_64") {
        rules.extend(rules.clone().into_iter().map(|(call, rules)| (call | X32, rules)));
        rules.extend(OF_X32.map(|call| (call, Vec::new())));
    }
    // Its flags lie in memory, where no filter looks; told that it is not there, C libraries take `clone`.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([refusing(rules, libc::EPERM)?, refusing(newer, libc::ENOSYS)?])
}

/// Calls that are made, but not with these arguments.
fn by_argument() -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    // Of processes, commands and kinds of calls the kernel looks at 32 bits.
    let half = |argument, is, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value);
    let whole = |argument, is, value| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, is, value);
    let rule = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    // A process that fails signals itself, by this number.
    let own = u64::from(std::process::id());
    let other = || half(0, SeccompCmpOp::Ne, own);
    let of = |argument, values: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        values.iter().map(|&value| rule(vec![half(argument, SeccompCmpOp::Eq, value)?])).collect()
    };
    // A new thread is welcome, a new process is not.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    Ok(BTreeMap::from([
        (libc::SYS_clone, vec![rule(vec![whole(0, SeccompCmpOp::MaskedEq(thread), 0)?])?]),
        (libc::SYS_kill, vec![rule(vec![other()?])?]),
        (libc::SYS_tgkill, vec![rule(vec![other()?])?]),
        (libc::SYS_rt_sigqueueinfo, vec![rule(vec![other()?])?]),
        (libc::SYS_rt_tgsigqueueinfo, vec![rule(vec![other()?])?]),
        // 0 is this process too, and what C libraries say.
        (libc::SYS_prlimit64, vec![rule(vec![other()?, half(0, SeccompCmpOp::Ne, 0)?])?]),
        (libc::SYS_fcntl, of(1, SIGNALLING)?),
        (libc::SYS_ioctl, of(1, COMMANDS)?),
        // Without a path it is about an open file, whose times scripts may set.
        (libc::SYS_utimensat, vec![rule(vec![whole(1, SeccompCmpOp::Ne, 0)?])?]),
    ]))
}

fn refusing(calls: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Result<BpfProgram, seccompiler::Error> {
    let machine = std::env::consts::ARCH.try_into()?;
    let refusal = SeccompAction::Errno(error.cast_unsigned());
    Ok(SeccompFilter::new(calls, SeccompAction::Allow, refusal, machine)?.try_into()?)
}
