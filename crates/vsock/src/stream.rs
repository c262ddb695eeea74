//! One connection, as its user holds it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

use crate::mailbox::{Command, Mailbox};
use crate::table::ConnectionId;
use crate::transfer::{Extents, Transfer};

/// One vsock connection to the guest.
///
/// Its bytes go through [`socket`](Self::socket), an ordinary blocking stream socket. Ending one
/// direction (`shutdown(Write)`) reaches the guest as such, and the guest's end of a direction
/// arrives as end of file. Dropping the stream closes the connection.
///
/// Files need not go through the socket: [`send_file`](Self::send_file) and
/// [`receive_file`](Self::receive_file) move them between the page cache and guest memory.
pub struct Stream {
    socket: UnixStream,
    id: ConnectionId,
    host_port: u32,
    guest_port: u32,
    mailbox: Arc<Mailbox>,
}

/// Breaks a connection from another thread; see [`Stream::breaker`].
#[derive(Clone)]
pub struct Breaker {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
}

/// Why a file transfer ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// The connection is over: the guest closed it, the machine is gone, or it was broken.
    #[error("the connection to the guest ended during the transfer")]
    Closed,
    /// The file ends before the bytes do. What was read has been sent, and the connection goes
    /// on behind it.
    #[error("the file ends at byte {offset}, before all that was to be sent")]
    SourceEnded {
        /// First byte of the file that is missing.
        offset: u64,
    },
    /// The file cannot be read. What was read before has been sent, and the connection goes on
    /// behind it.
    #[error("could not read the file at byte {offset}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file cannot be written. The bytes are lost, so the connection has been reset.
    #[error("could not write the file at byte {offset}")]
    Write {
        /// Where in the file.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Stream {
    pub(crate) fn new(
        socket: UnixStream,
        id: ConnectionId,
        ports: (u32, u32),
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let (host_port, guest_port) = ports;
        Self { socket, id, host_port, guest_port, mailbox }
    }

    /// The connection's bytes.
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// The connection's bytes alone; file transfers are over.
    #[must_use]
    pub fn into_socket(self) -> UnixStream {
        self.socket
    }

    /// Port on the host's side.
    #[must_use]
    pub fn host_port(&self) -> u32 {
        self.host_port
    }

    /// Port on the guest's side.
    #[must_use]
    pub fn guest_port(&self) -> u32 {
        self.guest_port
    }

    /// Something to break the connection with while another thread transfers a file over it.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        Breaker { id: self.id, mailbox: Arc::clone(&self.mailbox) }
    }

    /// Sends the bytes of `file` that `extents` (offset and length, in bytes) name, in that order,
    /// behind all that has been written to the socket. Returns the bytes' XXH64 (seed 0) once the
    /// last is in the guest's memory.
    ///
    /// `progress` grows by what has been handed to the guest. Nothing may be written to the
    /// socket meanwhile.
    ///
    /// # Errors
    ///
    /// [`SpliceError::SourceEnded`] and [`SpliceError::Read`] leave the connection usable,
    /// [`SpliceError::Closed`] says that it is gone.
    pub fn send_file(
        &mut self,
        file: &File,
        extents: &[(u64, u64)],
        progress: &AtomicU64,
    ) -> Result<u64, SpliceError> {
        let (sender, loans) = mpsc::channel();
        let bytes = Extents::total(extents);
        self.mailbox.post(Command::Send { id: self.id, bytes, loans: sender });
        self.transfer(file, extents, progress, &|| Ok(())).run(&loans)
    }

    /// Writes the next bytes from the guest to where `extents` (offset and length, in bytes) of
    /// `file` say, in that order. Returns their XXH64 (seed 0).
    ///
    /// `go` is written to the socket once the device knows where the bytes belong: it is what
    /// makes the guest send them, and none of them may be sent before. `progress` grows by what
    /// has been written.
    ///
    /// # Errors
    ///
    /// [`SpliceError::Write`] and [`SpliceError::Closed`]; the connection is gone in both cases.
    pub fn receive_file(
        &mut self,
        go: &[u8],
        file: &File,
        extents: &[(u64, u64)],
        progress: &AtomicU64,
    ) -> Result<u64, SpliceError> {
        let (sender, loans) = mpsc::channel();
        let bytes = Extents::total(extents);
        self.mailbox.post(Command::Receive { id: self.id, bytes, loans: sender });
        let on_begun = || (&self.socket).write_all(go);
        let result = self.transfer(file, extents, progress, &on_begun).run(&loans);
        if result.is_err() {
            self.mailbox.post(Command::Reset { id: self.id });
        }
        result
    }

    fn transfer<'a>(
        &'a self,
        file: &'a File,
        extents: &'a [(u64, u64)],
        progress: &'a AtomicU64,
        on_begun: &'a dyn Fn() -> io::Result<()>,
    ) -> Transfer<'a> {
        let extents = Extents::new(extents);
        Transfer { mailbox: &self.mailbox, id: self.id, file, extents, progress, on_begun }
    }
}

impl Breaker {
    /// Resets the connection. A transfer over it ends with [`SpliceError::Closed`].
    pub fn break_connection(&self) {
        self.mailbox.post(Command::Reset { id: self.id });
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stream")
            .field("host_port", &self.host_port)
            .field("guest_port", &self.guest_port)
            .finish_non_exhaustive()
    }
}
