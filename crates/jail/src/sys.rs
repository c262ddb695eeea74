//! The few system calls that no safe wrapper offers.
#![expect(
    unsafe_code,
    reason = "fork, dup2 to a chosen number, mount_setattr, close_range, unshare"
)]
// UNSAFETY: each function states what its caller must keep to; all callers are in the launcher,
// a process with one thread.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
pub(crate) enum Forked {
    Child,
    Parent(Pid),
}

/// Forks.
///
/// The caller has one thread, so the child may allocate and lock as it likes.
pub(crate) fn fork() -> Result<Forked, Errno> {
    // SAFETY: the launcher has one thread, so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(Forked::Child),
        _ => Pid::from_raw(pid).filter(|_| pid > 0).map(Forked::Parent).ok_or_else(last_error),
    }
}

/// Leaves the calling process in namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: only namespace flags are passed by callers, never FILES, and there is one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes `fd` available under `number`, to be inherited.
///
/// `number` must not belong to an owned descriptor of this process, since it is replaced.
pub(crate) fn place_fd(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    // SAFETY: dup2 takes any two numbers; that `number` has no other owner is the caller's duty.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor from `first` on.
///
/// To be called before any descriptor from `first` on has an owner.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: no value in this process owns a descriptor from `first` on yet.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Makes every mount below `tree` read-only, without devices and set-user-id programs.
pub(crate) fn make_tree_read_only(tree: &OwnedFd) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, the structure is initialised, and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(last_error()) } else { Ok(()) }
}

/// Takes over a descriptor that was inherited under `number`.
///
/// Each number may be taken once, and only where whoever started this process put one there.
pub(crate) fn inherited(number: RawFd) -> OwnedFd {
    // SAFETY: by the caller's duty it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Whether a descriptor of that number is open.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD changes nothing, whatever the number.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Attaches to another process as a debugger does.
pub(crate) fn attach_debugger(pid: Pid) -> Result<(), Errno> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_ATTACH uses neither address nor data.
    match unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid.as_raw_nonzero().get(), none, none) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Asks for a ring of asynchronous I/O; a null structure, so nothing is ever made.
pub(crate) fn try_io_uring() -> Result<(), Errno> {
    // SAFETY: the kernel refuses a null pointer.
    match unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_u32, 0_usize) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Ends this process without running anything further.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` only ends the process.
    unsafe { libc::_exit(code) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
