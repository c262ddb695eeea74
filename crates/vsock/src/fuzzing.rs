//! Doors for `fuzz/`: a device without threads, whose passes are made by its caller, so that an input that breaks it
//! breaks it every time; and what a Unix socket's client says.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::attachment::{AttachError, Attachment, Positions};
use crate::device::Device;
use crate::handle::ConnectError;
use crate::mailbox::{Command, Mailbox, OnConnect};
use crate::poller::{Poller, Token};
use crate::stats::Stats;
use crate::stream::Stream;
use crate::unix;

/// A device and its mailbox.
pub struct Bench {
    device: Device,
    mailbox: Arc<Mailbox>,
    accepted: Receiver<(OnConnect, Stream)>,
}

impl Bench {
    /// A device without a guest.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new() -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let poller = Poller::new()?;
        poller.add(mailbox.wake(), Token::Mail)?;
        let (sender, accepted) = mpsc::channel();
        Ok(Self { device: Device::new(Arc::clone(&mailbox), poller, sender), mailbox, accepted })
    }

    /// As [`Handle::attach`](crate::Handle::attach).
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn attach(&mut self, attachment: Attachment) -> Result<(), AttachError> {
        attachment.check()?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.device.obey(Command::Attach(Box::new(attachment), reply));
        answer.try_recv().unwrap_or(Err(AttachError::Closed))
    }

    /// As [`Handle::detach`](crate::Handle::detach).
    pub fn detach(&mut self) -> Option<Positions> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.device.obey(Command::Detach(reply));
        answer.try_recv().ok().flatten()
    }

    /// As [`Handle::listen`](crate::Handle::listen); what is accepted comes out of [`Bench::pass`].
    pub fn listen(&mut self, port: u32) {
        let ticket = self.mailbox.ticket();
        let (reply, _) = mpsc::sync_channel(1);
        let on_connect: OnConnect = Arc::new(drop);
        self.device.obey(Command::Listen { ticket, port, on_connect, reply });
    }

    /// As [`Handle::connect`](crate::Handle::connect); the answer comes during some later pass.
    pub fn connect(&mut self, guest_port: u32) -> Receiver<Result<Stream, ConnectError>> {
        let ticket = self.mailbox.ticket();
        let (reply, answer) = mpsc::sync_channel(1);
        self.device.obey(Command::Connect { ticket, guest_port, reply });
        answer
    }

    /// What the device's thread does between two sleeps. Returns what the guest has connected to.
    ///
    /// # Errors
    ///
    /// What the operating system says of waiting for events.
    pub fn pass(&mut self) -> io::Result<Vec<Stream>> {
        let now = Instant::now();
        let mut events = Vec::new();
        self.device.poller.wait(Some(Duration::ZERO), |event| events.push(event))?;
        for event in events {
            if event.token == Token::Mail {
                for command in self.mailbox.collect() {
                    self.device.obey(command);
                }
            } else {
                self.device.note(event, now);
            }
        }
        let pass = self.device.work(now);
        if pass.is_streaming {
            self.device.disarm();
        } else if !pass.unfinished && !self.device.arm() {
            self.device.settle();
        }
        Ok(self.accepted.try_iter().map(|(_, stream)| stream).collect())
    }

    /// As [`Handle::stats`](crate::Handle::stats).
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.mailbox.counters.read()
    }
}

/// Connections that a device has at most.
pub const MOST_CONNECTIONS: usize = crate::device::MOST_CONNECTIONS;

/// Reads `CONNECT <port>\n` and not a byte more; `None` while it is incomplete.
///
/// # Errors
///
/// If it is something else, or the client is gone.
pub fn read_wish(socket: &OwnedFd) -> io::Result<Option<u32>> {
    unix::read_wish(socket)
}
