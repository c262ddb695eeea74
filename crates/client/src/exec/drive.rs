//! Moves bytes between a session in the guest and this process's descriptors.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::attachment::{Attachment, Command, Ended, ExecError, Flow, LinkError, Streams};
use super::conversation::{Conversation, Event, Misbehaved};
use super::patience::{Patience, RECONNECT_FOR};
use super::sink::{Sinks, Written};
use crate::channel::Channel;

/// Pause between two attempts to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How long a command may go on after its output lost its reader and it was told so.
const AFTER_CLOSE: Duration = Duration::from_secs(2);

/// Linux signal numbers, as in the guest.
const SIGPIPE: u8 = 13;
const SIGKILL: u8 = 9;

/// Sees a session to its end: connects, passes streams and signals on, connects again when the
/// connection is lost. A command runs at most once, and its output is written exactly once.
///
/// # Errors
///
/// [`ExecError`]
pub fn run(
    conversation: Conversation,
    attachment: &mut dyn Attachment,
    streams: Streams<'_>,
) -> Result<Ended, ExecError> {
    let sinks = Sinks::new(streams.stdout, streams.stderr);
    let mut drive = Drive {
        conversation,
        attachment,
        stdin: streams.stdin,
        sinks,
        undelivered: 0,
        connected: false,
        ended: None,
        closed: None,
        patience: Patience::default(),
    };
    if streams.stdin.is_none() {
        drive.conversation.end_input();
    }
    drive.run()
}

struct Drive<'a> {
    conversation: Conversation,
    attachment: &'a mut dyn Attachment,
    stdin: Option<BorrowedFd<'a>>,
    sinks: Sinks<'a>,
    /// Output passed to `sinks` and not yet reported as delivered, in bytes.
    undelivered: usize,
    /// Whether there ever was a channel.
    connected: bool,
    ended: Option<Ended>,
    /// When the command is killed, once its output has lost its reader.
    closed: Option<Instant>,
    patience: Patience,
}

/// Why a connection is of no more use.
enum Stop {
    /// It was lost; another may do.
    Lost(io::Error),
    /// Nothing more can be done.
    Failed(ExecError),
}

impl From<ExecError> for Stop {
    fn from(error: ExecError) -> Self {
        Self::Failed(error)
    }
}

impl From<Misbehaved> for Stop {
    fn from(error: Misbehaved) -> Self {
        Self::Failed(error.into())
    }
}

impl Drive<'_> {
    fn run(&mut self) -> Result<Ended, ExecError> {
        loop {
            let channel = self.connect()?;
            self.connected = true;
            let made = Instant::now();
            channel.socket().set_nonblocking(true).map_err(local("use the channel"))?;
            self.conversation.connected()?;
            match self.converse(&channel) {
                Ok(ended) => return Ok(ended),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Lost(error)) => {
                    tracing::debug!(%error, "channel lost");
                    self.attachment.lost();
                    if !self.patience.lasts(made, Instant::now()) {
                        let session = self.conversation.session();
                        return Err(ExecError::Lost { session, source: error.into() });
                    }
                    self.pause()?;
                }
            }
        }
    }

    /// Gets a channel: the first one at once or not at all, a later one with patience.
    fn connect(&mut self) -> Result<Channel, ExecError> {
        let started = Instant::now();
        let first = !self.connected;
        loop {
            let session = self.conversation.session();
            let source = match self.attachment.connect() {
                Ok(channel) => return Ok(channel),
                Err(LinkError::Temporary(source))
                    if !first && started.elapsed() < RECONNECT_FOR =>
                {
                    source
                }
                Err(LinkError::Temporary(source) | LinkError::Final(source)) if first => {
                    return Err(ExecError::Connect(source));
                }
                Err(LinkError::Temporary(source) | LinkError::Final(source)) => {
                    return Err(ExecError::Lost { session, source });
                }
            };
            tracing::debug!(error = %source, "no channel yet");
            self.pause()?;
        }
    }

    /// Waits before the next attempt; a signal ends everything, since it cannot be passed on.
    fn pause(&mut self) -> Result<(), ExecError> {
        let wake = self.attachment.wake();
        let mut entries: Vec<_> =
            wake.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        wait(&mut entries, Some(RECONNECT_PAUSE))?;
        drop(entries);
        for command in self.attachment.commands() {
            match command {
                Command::Signal(signal) => {
                    let session = self.conversation.session();
                    return Err(ExecError::Interrupted { session, signal });
                }
                Command::Resize(size) => self.conversation.resize(size),
            }
        }
        Ok(())
    }

    fn converse(&mut self, channel: &Channel) -> Result<Ended, Stop> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if let Some(ended) = self.finished(channel)? {
                return Ok(ended);
            }
            let ready = self.wait(channel)?;
            if ready.wake {
                self.obey();
            }
            if ready.sink {
                self.write_output()?;
            }
            if ready.stdin {
                self.read_input(&mut buffer)?;
            }
            if !self.conversation.outbound().is_empty() {
                self.send(channel)?;
            }
            if ready.channel {
                self.receive(channel, &mut buffer)?;
            }
        }
    }

    /// What to return, once everything that arrived has been passed on.
    fn finished(&mut self, channel: &Channel) -> Result<Option<Ended>, Stop> {
        let late = self.closed.is_some_and(|when| Instant::now() > when);
        if late {
            self.conversation.signal(SIGKILL);
        }
        if !(late || self.ended.is_some() && self.sinks.is_empty()) {
            return Ok(None);
        }
        // The last acknowledgement lets the agent forget the session; it is not worth a wait, nor
        // a failure.
        drop(self.send(channel));
        if self.closed.is_some() {
            return Ok(Some(Ended::OutputClosed));
        }
        Ok(self.ended.take())
    }

    fn wait(&self, channel: &Channel) -> Result<Ready, Stop> {
        let mut interest = PollFlags::empty();
        if self.ended.is_none() && self.sinks.is_empty() {
            interest |= PollFlags::IN;
        }
        if !self.conversation.outbound().is_empty() {
            interest |= PollFlags::OUT;
        }
        let stdin = self.stdin.filter(|_| self.conversation.input_room() > 0);
        let mut entries = Vec::with_capacity(4);
        // A channel that nothing is wanted of is left out: a hang-up would be reported all the
        // same, again and again.
        let channel = Some(channel.as_fd()).filter(|_| !interest.is_empty());
        let channel = place(&mut entries, channel, interest);
        let wake = place(&mut entries, self.attachment.wake(), PollFlags::IN);
        let sink = place(&mut entries, self.sinks.waiting_for(), PollFlags::OUT);
        let stdin = place(&mut entries, stdin, PollFlags::IN);
        let limit = self.closed.map(|when| when.saturating_duration_since(Instant::now()));
        wait(&mut entries, limit)?;
        let is_ready = |place: Option<usize>| {
            place.and_then(|at| entries.get(at)).is_some_and(|entry| !entry.revents().is_empty())
        };
        Ok(Ready {
            channel: is_ready(channel),
            wake: is_ready(wake),
            sink: is_ready(sink),
            stdin: is_ready(stdin),
        })
    }

    fn obey(&mut self) {
        for command in self.attachment.commands() {
            match command {
                Command::Signal(number) => self.conversation.signal(number),
                Command::Resize(size) => self.conversation.resize(size),
            }
        }
    }

    fn write_output(&mut self) -> Result<(), Stop> {
        match self.sinks.write().map_err(local("write the command's output"))? {
            Written::Taken => {}
            Written::Closed if self.closed.is_none() => {
                self.conversation.signal(SIGPIPE);
                self.closed = Some(Instant::now() + AFTER_CLOSE);
            }
            Written::Closed => {}
        }
        if self.sinks.is_empty() {
            self.conversation.delivered(self.undelivered);
            self.undelivered = 0;
        }
        Ok(())
    }

    fn read_input(&mut self, buffer: &mut [u8]) -> Result<(), Stop> {
        let Some(stdin) = self.stdin else { return Ok(()) };
        let room = self.conversation.input_room().min(buffer.len());
        let Some(space) = buffer.get_mut(..room).filter(|space| !space.is_empty()) else {
            return Ok(());
        };
        match rustix::io::read(stdin, &mut *space) {
            // EIO: the terminal was hung up, or belongs to another process group.
            Ok(0) | Err(Errno::IO) => {
                self.stdin = None;
                self.conversation.end_input();
                Ok(())
            }
            Ok(count) => {
                self.conversation.input(space.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(error) => Err(local("read standard input")(error.into()).into()),
        }
    }

    fn send(&mut self, channel: &Channel) -> Result<(), Stop> {
        while !self.conversation.outbound().is_empty() {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(channel, self.conversation.outbound(), flags) {
                Ok(count) => self.conversation.sent(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // What the agent said last may still be there to read.
                Err(Errno::PIPE) => {
                    let length = self.conversation.outbound().len();
                    self.conversation.sent(length);
                }
                Err(error) => return Err(Stop::Lost(error.into())),
            }
        }
        Ok(())
    }

    fn receive(&mut self, channel: &Channel, buffer: &mut [u8]) -> Result<(), Stop> {
        if self.ended.is_some() || !self.sinks.is_empty() {
            return Ok(());
        }
        match rustix::io::read(channel, &mut *buffer) {
            Ok(0) => return Err(Stop::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => self.conversation.receive(buffer.get(..count).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(Stop::Lost(error.into())),
        }
        // Whoever leaves reads no further: what came in the same piece is for the next client.
        while self.ended.is_none()
            && let Some(event) = self.conversation.next_event()?
        {
            self.happened(event)?;
        }
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::Started(started) => {
                // A program that did not start is not left running: its failure follows.
                if self.attachment.started(&started) == Flow::Leave && started.pid != 0 {
                    self.ended = Some(Ended::Left);
                }
            }
            Event::Output(stream, data) => {
                self.patience.renew();
                self.undelivered = self.undelivered.saturating_add(data.len());
                self.sinks.push(stream, data);
            }
            Event::Exited(exit) => self.ended = Some(Ended::Exited(exit)),
            Event::Refused(fault) => return Err(ExecError::Refused(fault).into()),
        }
        Ok(())
    }
}

/// Which descriptors have something.
struct Ready {
    channel: bool,
    wake: bool,
    sink: bool,
    stdin: bool,
}

/// Adds a descriptor to wait for; says where its entry is.
fn place<'fd>(
    entries: &mut Vec<PollFd<'fd>>,
    fd: Option<BorrowedFd<'fd>>,
    flags: PollFlags,
) -> Option<usize> {
    let fd = fd?;
    entries.push(PollFd::from_borrowed_fd(fd, flags));
    entries.len().checked_sub(1)
}

fn wait(entries: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), ExecError> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(entries, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(local("wait for the command")(error.into())),
    }
}

fn local(what: &'static str) -> impl Fn(io::Error) -> ExecError {
    move |source| ExecError::Local { what, source }
}
