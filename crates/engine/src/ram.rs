//! Guest RAM: one memfd that belongs to the monitor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// Guest RAM.
///
/// A memfd of a fixed size: it can neither shrink (a mapping of it would fault) nor grow
/// (host memory would be used without bound), and these seals cannot be lifted. Pages are
/// allocated when they are first touched.
#[derive(Debug)]
pub struct GuestRam {
    fd: OwnedFd,
    bytes: u64,
}

impl GuestRam {
    /// Makes RAM of `mib` MiB.
    ///
    /// # Errors
    ///
    /// See [`GuestRamError`].
    pub fn new(mib: u32) -> Result<Self, GuestRamError> {
        let bytes = u64::from(mib) << 20;
        let fail = |step| {
            move |errno: rustix::io::Errno| GuestRamError { mib, step, source: errno.into() }
        };
        let fd = rustix::fs::memfd_create(
            c"bandsox-ram",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(fail("create"))?;
        rustix::fs::ftruncate(&fd, bytes).map_err(fail("size"))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(fail("seal"))?;
        Ok(Self { fd, bytes })
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Another descriptor of the same memory.
    ///
    /// # Errors
    ///
    /// What the operating system said.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, bytes: self.bytes })
    }
}

impl AsFd for GuestRam {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<GuestRam> for OwnedFd {
    fn from(ram: GuestRam) -> Self {
        ram.fd
    }
}

/// Guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} guest memory of {mib} MiB")]
pub struct GuestRamError {
    /// Size asked for.
    pub mib: u32,
    /// What was tried.
    pub step: &'static str,
    /// What the operating system said.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_resize_guest_ram() {
        let ram = GuestRam::new(2).expect("a memfd can be made");

        let shrunk = rustix::fs::ftruncate(&ram, 1 << 20);
        let grown = rustix::fs::ftruncate(&ram, 3 << 20);

        assert_eq!(shrunk, Err(rustix::io::Errno::PERM));
        assert_eq!(grown, Err(rustix::io::Errno::PERM));
        assert_eq!(ram.bytes(), 2 << 20);
    }

    #[test]
    fn guest_ram_is_not_inherited_by_accident() {
        let ram = GuestRam::new(1).expect("a memfd can be made");

        let flags = rustix::io::fcntl_getfd(&ram).expect("the descriptor is open");

        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}
