//! Locks that belong to an open file description.
//!
//! Such a lock is held as long as any descriptor of that description is open, in whichever process:
//! it can be handed to a child, and it ends with the last holder however that ended. Unlike
//! `flock(2)` it can be asked about without being taken, so that a look at a VM never makes somebody
//! else's attempt to start it fail.
//!
//! Source: fcntl(2), "Open file description locks (non-POSIX)", Linux 3.15.
// UNSAFETY: neither std nor rustix has these commands of fcntl(2); this module is where the
// workspace makes the call.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Takes the exclusive lock on the whole file, or says that another description has it. Succeeds
/// again on the description that already holds it.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let request = whole_file(libc::F_WRLCK);

    // SAFETY: F_OFD_SETLK reads one `struct flock`, and the pointer is to one that outlives the
    // call. The descriptor is open for the call's duration because it is borrowed.
    let rc = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    if rc == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Whether another description of the same file has the lock. Takes nothing.
pub(crate) fn is_locked(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut answer = whole_file(libc::F_WRLCK);

    // SAFETY: F_OFD_GETLK reads and writes one `struct flock`, and the pointer is to one that
    // outlives the call and that nothing else refers to meanwhile. The descriptor is open for the
    // call's duration because it is borrowed.
    let rc = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut answer) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::from(answer.l_type) != libc::F_UNLCK)
}

/// A request about all bytes of a file, however long it becomes.
fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: narrow(kind),
        l_whence: narrow(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        // The kernel refuses an open-file-description request with any other value.
        l_pid: 0,
    }
}

/// The kernel's constants as the kernel's field holds them.
fn narrow(constant: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(constant).expect("lock types and whence values are single digits")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_lock_excludes_another_description_even_in_the_same_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let ours = File::create(&path).expect("a file");
        let theirs = File::options().read(true).write(true).open(&path).expect("the same file");

        assert!(try_lock(ours.as_fd()).expect("a lock"));
        assert!(!try_lock(theirs.as_fd()).expect("an answer"));
        assert!(is_locked(theirs.as_fd()).expect("an answer"));
        assert!(!is_locked(ours.as_fd()).expect("an answer"), "the holder is no other");

        drop(ours);
        assert!(!is_locked(theirs.as_fd()).expect("an answer"));
    }

    #[test]
    fn a_duplicate_keeps_the_lock_when_the_original_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let ours = File::create(&path).expect("a file");
        assert!(try_lock(ours.as_fd()).expect("a lock"));
        let duplicate = ours.try_clone().expect("a duplicate");
        let looker = File::open(&path).expect("the same file");

        drop(ours);
        assert!(is_locked(looker.as_fd()).expect("an answer"));
        assert!(try_lock(duplicate.as_fd()).expect("the holder may ask again"));

        drop(duplicate);
        assert!(!is_locked(looker.as_fd()).expect("an answer"));
    }
}
