//! Seccomp: system calls that a process of this host never makes, and that somebody who took it over would.
//! They fail with `EPERM`; everything else stays as it is, since drivers of GPUs make calls that nobody lists.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
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

/// What neither needs: other processes, programs, networks, mounts, modules, clocks, users.
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
    // Connections of every family: landlock knows TCP only.
    libc::SYS_socket,
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

/// What only some machines have.
#[cfg(target_arch = "x86_64")]
const OF_MACHINE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    // The second numbers that 32-bit pointers have on kernels with such a thing.
    X32 | 520,
    X32 | 521,
    X32 | 528,
    X32 | 539,
    X32 | 540,
    X32 | 545,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_MACHINE: &[c_long] = &[];

/// Every number of x86-64 works with this bit too, on kernels with 32-bit pointers.
const X32: c_long = 0x4000_0000;

const OPENING: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
];

/// Restricts all threads of this process.
pub(super) fn restrict(process: Process) -> Layer {
    match filters(process).and_then(|filters| filters.iter().try_for_each(|f| apply_filter_all_threads(f))) {
        Ok(()) => Layer::On,
        Err(error) => Layer::Missing(error.to_string()),
    }
}

fn filters(process: Process) -> Result<[BpfProgram; 2], seccompiler::Error> {
    let opening = if process == Process::Computation { OPENING } else { &[] };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for &call in [FORBIDDEN, OF_MACHINE, opening].into_iter().flatten() {
        rules.insert(call, Vec::new());
    }
    // A new thread is welcome, a new process is not.
    let flag = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let no_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    if cfg!(target_arch = "x86_64") {
        rules.extend(rules.clone().into_iter().map(|(call, rules)| (call | X32, rules)));
    }
    // Its flags lie in memory, where no filter looks; told that it is not there, C libraries take `clone`.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([refusing(rules, libc::EPERM)?, refusing(newer, libc::ENOSYS)?])
}

fn refusing(calls: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Result<BpfProgram, seccompiler::Error> {
    let machine = std::env::consts::ARCH.try_into()?;
    let refusal = SeccompAction::Errno(error.cast_unsigned());
    Ok(SeccompFilter::new(calls, SeccompAction::Allow, refusal, machine)?.try_into()?)
}
