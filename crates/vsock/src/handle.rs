//! The device, as the rest of the program holds it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use vm_memory::GuestMemoryMmap;

use crate::attachment::{AttachError, Attachment, Positions, QueueKind};
use crate::mailbox::{Command, Mailbox};
use crate::stats::Stats;
use crate::stream::Stream;
use crate::unix::UnixServer;
use crate::worker;

/// A vsock device.
///
/// It lives as long as a handle to it does, in a thread of its own, whether or not a guest is
/// attached: connections asked for without one wait, and a guest that is unplugged and plugged
/// again (with another CID) finds the same listeners.
#[derive(Clone)]
pub struct Handle {
    device: Arc<Owner>,
}

/// The last one of these that goes takes the device with it.
struct Owner {
    mailbox: Arc<Mailbox>,
}

/// Keeps a port, or a socket, served; see [`Handle::listen`] and [`Handle::serve_unix`].
///
/// Dropping it does not wait for the device: a connection that is just being made may still come.
#[must_use = "dropping it ends the service at once"]
pub struct ListenGuard {
    ticket: u64,
    mailbox: Arc<Mailbox>,
}

/// Why the guest could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens on that port in the guest.
    #[error("the guest refused the connection to vsock port {port}")]
    Refused {
        /// The guest's port.
        port: u32,
    },
    /// No answer came in time: no guest, no driver in it, or a stopped one.
    #[error("the guest did not answer on vsock port {port} in time")]
    TimedOut {
        /// The guest's port.
        port: u32,
    },
    /// As many connections exist as are allowed.
    #[error("the vsock device has {limit} connections already")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The device's thread has ended.
    #[error("the vsock device has been shut down")]
    Closed,
    /// No socket could be made.
    #[error("could not make a socket for the connection")]
    Socket(#[source] io::Error),
}

/// Why a host port could not be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody in this process listens there already.
    #[error("vsock host port {port} is already listened on")]
    InUse {
        /// The host's port.
        port: u32,
    },
    /// The device's thread has ended.
    #[error("the vsock device has been shut down")]
    Closed,
}

impl Handle {
    /// Starts a device without a guest.
    ///
    /// # Errors
    ///
    /// What the operating system said when it was asked for a thread and descriptors.
    pub fn start() -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        worker::spawn(Arc::clone(&mailbox))?;
        Ok(Self { device: Arc::new(Owner { mailbox }) })
    }

    /// Gives the device a guest. One that was attached before is detached first.
    ///
    /// # Errors
    ///
    /// See [`AttachError`]; the device is then without a guest.
    pub fn attach(&self, attachment: Attachment) -> Result<(), AttachError> {
        attachment.check()?;
        self.ask(|reply| Command::Attach(Box::new(attachment), reply))
            .unwrap_or(Err(AttachError::Closed))
    }

    /// Takes the guest away and returns where its queues stand; `None` if there was none.
    ///
    /// When this returns, the device touches its memory no more. Connections stay: whether they
    /// go on is said by the next attachment.
    pub fn detach(&self) -> Option<Positions> {
        self.ask(Command::Detach).flatten()
    }

    /// Replaces the guest's memory map. When this returns the old one is not used any more,
    /// except by file transfers for as long as one read or write of theirs takes.
    pub fn set_memory(&self, memory: Arc<GuestMemoryMmap>) {
        self.ask(|reply| Command::SetMemory(memory, reply));
    }

    /// Replaces the eventfd that interrupts the guest.
    pub fn set_call(&self, queue: QueueKind, call: Option<OwnedFd>) {
        self.device.mailbox.post(Command::SetCall(queue, call));
    }

    /// Connects to a port of the guest and waits for its answer, at most until `deadline`.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(&self, guest_port: u32, deadline: Instant) -> Result<Stream, ConnectError> {
        let mailbox = &self.device.mailbox;
        let ticket = mailbox.ticket();
        let (reply, answer) = mpsc::sync_channel(1);
        mailbox.post(Command::Connect { ticket, guest_port, reply });
        let patience = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                mailbox.post(Command::CancelConnect { ticket });
                Err(ConnectError::TimedOut { port: guest_port })
            }
            Err(RecvTimeoutError::Disconnected) => Err(ConnectError::Closed),
        }
    }

    /// Accepts the guest's connections to a port of the host, until the guard is dropped.
    ///
    /// `on_connect` runs on a thread of the device that serves all listeners: it should hand the
    /// stream over and return.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn listen(
        &self,
        host_port: u32,
        on_connect: Box<dyn Fn(Stream) + Send + Sync>,
    ) -> Result<ListenGuard, ListenError> {
        let mailbox = &self.device.mailbox;
        let ticket = mailbox.ticket();
        self.ask(|reply| Command::Listen {
            ticket,
            port: host_port,
            on_connect: on_connect.into(),
            reply,
        })
        .unwrap_or(Err(ListenError::Closed))?;
        Ok(ListenGuard { ticket, mailbox: Arc::clone(mailbox) })
    }

    /// Serves the guest's ports on a Unix socket, in Firecracker's manner, until the guard is
    /// dropped.
    ///
    /// A client of `dir/name` writes `CONNECT <port>\n` and reads `OK <host port>\n` once the
    /// guest has accepted; the rest is the connection. A connection of the guest to host port P
    /// that nobody in this process listens on goes to the socket `dir/name_P`; without such a
    /// socket it is refused.
    ///
    /// Works whatever the length of `dir`'s path. A socket of that name is replaced: nobody else
    /// may serve it.
    ///
    /// # Errors
    ///
    /// What the operating system said when it was asked for the socket.
    pub fn serve_unix(&self, dir: OwnedFd, name: &Path) -> io::Result<ListenGuard> {
        let server = UnixServer::bind(dir, name)?;
        let mailbox = &self.device.mailbox;
        let ticket = mailbox.ticket();
        self.ask(|reply| Command::ServeUnix { ticket, server, reply })
            .unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(ListenGuard { ticket, mailbox: Arc::clone(mailbox) })
    }

    /// Ends every connection: users see the end of their streams, a guest that is attached is
    /// told. Attempts to connect that the guest has not seen yet go on.
    pub fn close_all(&self) {
        self.ask(Command::CloseAll);
    }

    /// What the device has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.device.mailbox.counters.read()
    }

    /// Posts a command and waits for its answer; `None` when the device's thread has ended.
    ///
    /// A thread that does not answer for long counts as ended: whoever has broken out of a guest
    /// into its engine might make it wait in a descriptor of theirs, and must not stop its monitor.
    fn ask<T>(&self, command: impl FnOnce(mpsc::SyncSender<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.device.mailbox.post(command(reply));
        let result = answer.recv_timeout(PATIENCE);
        if matches!(result, Err(RecvTimeoutError::Timeout)) {
            tracing::error!("vsock: the device's thread does not answer");
        }
        result.ok()
    }
}

/// How long the device's thread may take to answer: longer than it waits for file transfers.
const PATIENCE: Duration = Duration::from_secs(30);

impl Drop for Owner {
    fn drop(&mut self) {
        self.mailbox.post(Command::Stop);
    }
}

impl Drop for ListenGuard {
    fn drop(&mut self) {
        self.mailbox.post(Command::Unlisten { ticket: self.ticket });
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Handle").field("stats", &self.stats()).finish()
    }
}

impl std::fmt::Debug for ListenGuard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ListenGuard").finish_non_exhaustive()
    }
}
