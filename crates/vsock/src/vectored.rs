//! One system call between a descriptor and many pieces of guest memory.
// UNSAFETY: the kernel is handed raw addresses of guest memory. They must stay raw: the guest
// writes there at any time, so that no Rust reference to those bytes may exist.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::span::{OutsideMemory, Span};

/// Pieces that one system call takes at most (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

/// Host addresses of guest memory, ready for a system call.
///
/// Invariant: every entry lies inside a mapping of the `GuestMemoryMmap` that is borrowed for
/// `'m`, so it stays mapped, readable and writable for as long as this value lives.
pub(crate) struct IoVecs<'m> {
    pieces: Vec<libc::iovec>,
    bytes: usize,
    memory: &'m GuestMemoryMmap,
}

impl<'m> IoVecs<'m> {
    /// None yet.
    pub(crate) fn new(memory: &'m GuestMemoryMmap) -> Self {
        Self { pieces: Vec::with_capacity(64), bytes: 0, memory }
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the first `limit` bytes of `spans`, or as many as one call takes. Returns how many
    /// were added.
    pub(crate) fn push(
        &mut self,
        spans: impl Iterator<Item = Span>,
        limit: usize,
    ) -> Result<usize, OutsideMemory> {
        let before = self.bytes;
        let mut left = limit;
        for span in spans {
            let len = usize::try_from(span.len).map_err(|_| OutsideMemory)?.min(left);
            left -= len;
            for slice in GuestMemoryBackend::get_slices(self.memory, span.addr, len) {
                if self.pieces.len() == MOST_PIECES {
                    return Ok(self.bytes - before);
                }
                let slice = slice.map_err(|_| OutsideMemory)?;
                self.pieces.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
                self.bytes += slice.len();
            }
            if left == 0 {
                break;
            }
        }
        Ok(self.bytes - before)
    }

    /// Receives from a socket without waiting.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut message = self.message();
        // SAFETY: `message` points at `self.pieces`, which this borrow keeps in place, and each
        // piece is mapped and writable by the type's invariant. The kernel writes nothing else:
        // there is no room for a name or control data.
        let got =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Sends to a socket without waiting and without a signal.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let message = self.message();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as in `receive`; the kernel only reads the pieces.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Reads from a file at an offset.
    pub(crate) fn read_at(&self, file: &File, offset: u64) -> io::Result<usize> {
        let (count, offset) = self.file_arguments(offset)?;
        // SAFETY: the first `count` pieces are live entries of `self.pieces`, and each is mapped
        // and writable by the type's invariant.
        let got = unsafe { libc::preadv(file.as_raw_fd(), self.pieces.as_ptr(), count, offset) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Writes to a file at an offset.
    pub(crate) fn write_at(&self, file: &File, offset: u64) -> io::Result<usize> {
        let (count, offset) = self.file_arguments(offset)?;
        // SAFETY: as in `read_at`; the kernel only reads the pieces.
        let put = unsafe { libc::pwritev(file.as_raw_fd(), self.pieces.as_ptr(), count, offset) };
        usize::try_from(put).map_err(|_| io::Error::last_os_error())
    }

    /// Forgets the first `bytes` bytes.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        let mut whole = 0;
        for piece in &mut self.pieces {
            let here = piece.iov_len.min(left);
            left -= here;
            if here < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(here);
                piece.iov_len -= here;
                break;
            }
            whole += 1;
        }
        self.pieces.drain(..whole);
        self.bytes -= bytes - left;
    }

    fn message(&mut self) -> libc::msghdr {
        // SAFETY: a message header is plain data for which all zeros mean "nothing there".
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.pieces.as_mut_ptr();
        message.msg_iovlen = self.pieces.len();
        message
    }

    fn file_arguments(&self, offset: u64) -> io::Result<(libc::c_int, libc::off_t)> {
        let count = libc::c_int::try_from(self.pieces.len());
        let offset = libc::off_t::try_from(offset);
        count.ok().zip(offset.ok()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}
