//! A byte stream to the guest's agent.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bandsox_proto::control::Transport;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// A byte stream to the agent in a guest, over vsock or over the serial link.
///
/// Reading and writing wait; a clone of the descriptor can be shut down from another thread
/// ([`crate::Cancel`]).
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
    transport: Transport,
}

impl Channel {
    /// Takes a connected stream.
    #[must_use]
    pub fn new(socket: UnixStream, transport: Transport) -> Self {
        Self { socket, transport }
    }

    /// What it runs over.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The stream itself.
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Writes all of `bytes`, or as many as the agent takes before it says something itself and
    /// takes no more; returns how many. An agent that gives up says why, and may then stop reading:
    /// who only wrote would wait for ever.
    pub(crate) fn write_while_unanswered(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0_usize;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => written = written.saturating_add(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let wanted = PollFlags::IN | PollFlags::OUT;
                    let mut entries = [PollFd::from_borrowed_fd(self.socket.as_fd(), wanted)];
                    match poll(&mut entries, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                    let [entry] = &entries;
                    if entry.revents() == PollFlags::IN {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for &Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }
}

impl Write for &Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.socket).flush()
    }
}
