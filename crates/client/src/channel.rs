//! A byte stream to the guest's agent.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bandsox_proto::control::Transport;

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
