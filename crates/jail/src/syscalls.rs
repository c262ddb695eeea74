//! System calls that neither an engine nor its monitor has any use for.
//!
//! A list of what is refused, not of what is allowed: QEMU's own needs change with its version
//! and its libraries. What is listed either reaches parts of the kernel that ordinary programs
//! do not, or would undo the jail (new namespaces bring capabilities back).

use std::collections::BTreeMap;
use std::mem::size_of;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::failure::Failure;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Installs the filter on this thread and all that it makes. Needs `no_new_privs`.
///
/// Refused calls return `EPERM`; `clone3` returns `ENOSYS`, so that the C library falls back to
/// `clone`, whose flags can be looked at.
pub(crate) fn refuse_unneeded() -> Result<(), Failure> {
    install(refused(), libc::EPERM)?;
    install(always(&[libc::SYS_clone3]), libc::ENOSYS)
}

/// The same, and executing programs too: for a process that has started all that it will.
pub(crate) fn refuse_unneeded_and_execution() -> Result<(), Failure> {
    refuse_unneeded()?;
    install(always(&[libc::SYS_execve, libc::SYS_execveat]), libc::EPERM)
}

fn install(rules: Rules, errno: i32) -> Result<(), Failure> {
    let failed = |_| Failure::at("building the system call filter")(Errno::INVAL);
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)
        .map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    apply_filter(&program).map_err(|error| {
        let errno = match error {
            seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => {
                Errno::from_io_error(&source)
            }
            seccompiler::Error::Backend(_)
            | seccompiler::Error::EmptyFilter
            | seccompiler::Error::ThreadSync(_) => None,
        };
        Failure::at("installing the system call filter")(errno.unwrap_or(Errno::INVAL))
    })
}

fn refused() -> Rules {
    let mut rules = always(NEVER);
    for flag in NEW_NAMESPACES {
        rule(&mut rules, libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(flag), flag);
    }
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    rule(&mut rules, libc::SYS_socket, 0, SeccompCmpOp::Ne, unix);
    rules
}

fn always(calls: &[i64]) -> Rules {
    calls.iter().flat_map(|&call| [(call, vec![]), (call | X32, vec![])]).collect()
}

/// The same call under the x32 numbering, where a kernel has it.
const X32: i64 = 0x4000_0000;

fn rule(rules: &mut Rules, call: i64, argument: u8, operator: SeccompCmpOp, value: u64) {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .expect("one condition on one of the first six arguments is a rule");
    for call in [call, call | X32] {
        rules.entry(call).or_default().push(condition.clone());
    }
}

const NEW_NAMESPACES: [u64; 7] = [
    flag(libc::CLONE_NEWUSER),
    flag(libc::CLONE_NEWNS),
    flag(libc::CLONE_NEWPID),
    flag(libc::CLONE_NEWNET),
    flag(libc::CLONE_NEWIPC),
    flag(libc::CLONE_NEWUTS),
    flag(libc::CLONE_NEWCGROUP),
];

const fn flag(flag: i32) -> u64 {
    const { assert!(size_of::<i32>() == 4) };
    flag.unsigned_abs() as u64
}

const NEVER: &[i64] = &[
    // Namespaces, roots and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Kernel interfaces with a history.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    // The host as a whole.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];
