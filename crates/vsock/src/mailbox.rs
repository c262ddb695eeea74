//! How other threads reach the device's thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::EventfdFlags;
use vm_memory::GuestMemoryMmap;

use crate::attachment::{AttachError, Attachment, Positions, QueueKind};
use crate::handle::{ConnectError, ListenError};
use crate::stats::Counters;
use crate::stream::Stream;
use crate::table::ConnectionId;
use crate::transfer::Loan;
use crate::unix::UnixServer;

/// What is called with each connection that the guest makes to a port.
pub(crate) type OnConnect = Arc<dyn Fn(Stream) + Send + Sync>;

/// Where an answer goes. Its receiver may have given up.
pub(crate) type Reply<T> = SyncSender<T>;

/// What the device's thread is asked to do.
pub(crate) enum Command {
    Attach(Box<Attachment>, Reply<Result<(), AttachError>>),
    Detach(Reply<Option<Positions>>),
    SetMemory(Arc<GuestMemoryMmap>, Reply<()>),
    SetCall(QueueKind, Option<OwnedFd>),
    Connect { ticket: u64, guest_port: u32, reply: Reply<Result<Stream, ConnectError>> },
    CancelConnect { ticket: u64 },
    Listen { ticket: u64, port: u32, on_connect: OnConnect, reply: Reply<Result<(), ListenError>> },
    Unlisten { ticket: u64 },
    ServeUnix { ticket: u64, server: UnixServer, reply: Reply<io::Result<()>> },
    Send { id: ConnectionId, bytes: u64, loans: Sender<Loan> },
    Receive { id: ConnectionId, bytes: u64, loans: Sender<Loan> },
    Repay { id: ConnectionId, bytes: u32 },
    Reset { id: ConnectionId },
    CloseAll(Reply<()>),
    Stop,
}

/// Commands for the device's thread, in order, and what it counts.
pub(crate) struct Mailbox {
    // The lock is where any thread that holds a handle meets the device's thread.
    inbox: Mutex<Inbox>,
    repaid: Condvar,
    wake: OwnedFd,
    tickets: AtomicU64,
    pub(crate) counters: Counters,
}

struct Inbox {
    commands: VecDeque<Command>,
    open: bool,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inbox: Mutex::new(Inbox { commands: VecDeque::new(), open: true }),
            repaid: Condvar::new(),
            wake,
            tickets: AtomicU64::new(1),
            counters: Counters::default(),
        })
    }

    /// A number that no other request has.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a command over. Dropped, with its reply, when the device's thread has ended.
    pub(crate) fn post(&self, command: Command) {
        let repays = matches!(command, Command::Repay { .. });
        let mut inbox = self.lock();
        if !inbox.open {
            return;
        }
        let was_empty = inbox.commands.is_empty();
        inbox.commands.push_back(command);
        drop(inbox);
        if repays {
            self.repaid.notify_all();
        }
        if was_empty {
            // An eventfd refuses only when its count is at the top, and then it is readable.
            rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
        }
    }

    /// Takes all commands.
    pub(crate) fn collect(&self) -> VecDeque<Command> {
        // Reading first: a command posted after it wakes the thread again.
        let mut count = [0; 8];
        rustix::io::read(&self.wake, &mut count).ok();
        std::mem::take(&mut self.lock().commands)
    }

    /// Takes the repayments alone, and waits up to `patience` for the first.
    pub(crate) fn collect_repayments(&self, patience: Duration) -> Vec<(ConnectionId, u32)> {
        let pending = |inbox: &mut Inbox| {
            !inbox.commands.iter().any(|command| matches!(command, Command::Repay { .. }))
        };
        let (mut inbox, _) = self
            .repaid
            .wait_timeout_while(self.lock(), patience, pending)
            .unwrap_or_else(PoisonError::into_inner);
        let mut repayments = Vec::new();
        inbox.commands.retain(|command| {
            let Command::Repay { id, bytes } = command else { return true };
            repayments.push((*id, *bytes));
            false
        });
        repayments
    }

    /// Becomes readable when a command arrives.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Refuses further commands and drops those that wait, so that no caller waits for ever.
    pub(crate) fn close(&self) {
        let mut inbox = self.lock();
        inbox.open = false;
        let left = std::mem::take(&mut inbox.commands);
        drop(inbox);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // No code panics while it holds the lock, and the queue is whole between operations.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends of a byte stream inside this process: ours, which blocks, and the device's.
pub(crate) fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, devices) = UnixStream::pair()?;
    for end in [&ours, &devices] {
        // Larger bursts, fewer wake-ups. The system's limit may cut it down, which is fine.
        rustix::net::sockopt::set_socket_send_buffer_size(end, SOCKET_BUFFER).ok();
    }
    Ok((ours, devices.into()))
}

/// Bytes that one direction of a stream may hold on the host's side.
const SOCKET_BUFFER: usize = 1 << 20;
