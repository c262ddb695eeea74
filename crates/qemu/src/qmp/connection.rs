//! The connection's two halves: commands are sent by one thread, everything that arrives is
//! read by another.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bandsox_engine::CommandError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::qmp::message::{Message, Refusal, Version};

/// A longer line than QEMU has reason to send.
const MAX_LINE: usize = 1 << 20;

/// Cuts what arrives into lines.
pub(crate) struct Lines {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads from `stream`.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// A message that has already arrived whole.
    ///
    /// # Errors
    ///
    /// `InvalidData` for nonsense.
    pub(crate) fn buffered(&mut self) -> io::Result<Option<Message>> {
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Message::decode(line).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads once. 0 is the end.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a line without end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.len() >= MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut chunk = [0_u8; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend(chunk.iter().take(count));
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The peer died with something of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What the reading thread passes to the commanding one.
#[derive(Debug)]
enum Answer {
    Reply { id: Option<u64>, result: Result<Value, Refusal> },
    DeviceGone { id: String },
    DeviceKept { id: String },
}

/// The reading thread's end of the way to a [`Commander`].
pub(crate) struct Listener {
    answers: Sender<Answer>,
}

impl Listener {
    /// Passes a reply on.
    pub(crate) fn reply(&self, id: Option<u64>, result: Result<Value, Refusal>) {
        // Nobody commands any more: nobody waits for it either.
        self.answers.send(Answer::Reply { id, result }).ok();
    }

    /// Passes on that a device was unplugged.
    pub(crate) fn device_gone(&self, id: String) {
        self.answers.send(Answer::DeviceGone { id }).ok();
    }

    /// Passes on that the guest refuses to let go of a device.
    pub(crate) fn device_kept(&self, id: String) {
        self.answers.send(Answer::DeviceKept { id }).ok();
    }
}

/// Sends commands and waits for their replies.
pub(crate) struct Commander {
    stream: UnixStream,
    answers: Receiver<Answer>,
    last_id: u64,
}

impl Commander {
    /// A commander on `stream`, and the listener that feeds it.
    pub(crate) fn new(stream: UnixStream) -> (Self, Listener) {
        let (sender, answers) = channel();
        (Self { stream, answers, last_id: 0 }, Listener { answers: sender })
    }

    /// Runs a command.
    ///
    /// `what` says it in words, for errors.
    pub(crate) fn run(
        &mut self,
        what: &'static str,
        name: &str,
        arguments: Value,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        self.run_with_fd(what, name, arguments, None, timeout)
    }

    /// Runs a command, handing over a descriptor with it.
    pub(crate) fn run_with_fd(
        &mut self,
        what: &'static str,
        name: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        let deadline = Instant::now() + timeout;
        self.last_id += 1;
        let id = self.last_id;
        let command = json!({"execute": name, "arguments": arguments, "id": id});
        self.send(&command, fd).map_err(|source| {
            if source.kind() == io::ErrorKind::BrokenPipe {
                CommandError::Gone { command: what }
            } else {
                CommandError::Connection { command: what, source }
            }
        })?;
        loop {
            match self.answer(what, deadline, timeout)? {
                Answer::Reply { id: Some(answered), result } if answered == id => {
                    return result.map_err(|Refusal { class, description }| {
                        CommandError::Refused { command: what, class, description }
                    });
                }
                // Late replies to commands that were given up, and news of no interest.
                Answer::Reply { .. } | Answer::DeviceGone { .. } | Answer::DeviceKept { .. } => {}
            }
        }
    }

    /// Waits until the device `device` is unplugged.
    pub(crate) fn wait_for_device_gone(
        &mut self,
        what: &'static str,
        device: &str,
        timeout: Duration,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.answer(what, deadline, timeout)? {
                Answer::DeviceGone { id } if id == device => return Ok(()),
                Answer::DeviceKept { id } if id == device => {
                    return Err(CommandError::Refused {
                        command: what,
                        class: "GuestError".to_owned(),
                        description: "the guest keeps the device".to_owned(),
                    });
                }
                Answer::DeviceGone { .. } | Answer::DeviceKept { .. } | Answer::Reply { .. } => {}
            }
        }
    }

    fn answer(
        &mut self,
        command: &'static str,
        deadline: Instant,
        waited: Duration,
    ) -> Result<Answer, CommandError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.answers.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => CommandError::NoAnswer { command, waited },
            RecvTimeoutError::Disconnected => CommandError::Gone { command },
        })
    }

    fn send(&mut self, command: &Value, fd: Option<OwnedFd>) -> io::Result<()> {
        let mut line = command.to_string().into_bytes();
        line.push(b'\n');
        let mut rest = line.as_slice();
        let mut fd = fd;
        while !rest.is_empty() {
            let sent = send_some(&self.stream, rest, fd.as_ref())?;
            // A descriptor travels with the first byte.
            fd = None;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed = fd.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &borrowed {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// Greets QEMU and learns its version, before there is a reading thread.
///
/// # Errors
///
/// `UnexpectedEof` when QEMU ends the connection, `TimedOut`, `InvalidData`.
pub(crate) fn handshake(lines: &mut Lines, deadline: Instant) -> io::Result<Version> {
    let version = loop {
        match next_before(lines, deadline)? {
            Message::Greeting(version) => break version,
            Message::Reply { .. } | Message::Event(_) => {}
        }
    };
    let negotiate = json!({"execute": "qmp_capabilities", "id": 0});
    let mut line = negotiate.to_string().into_bytes();
    line.push(b'\n');
    io::Write::write_all(&mut &lines.stream, &line)?;
    loop {
        match next_before(lines, deadline)? {
            Message::Reply { result: Ok(_), .. } => return Ok(version),
            Message::Reply { result: Err(_), .. } => {
                return Err(io::ErrorKind::InvalidData.into());
            }
            Message::Greeting(_) | Message::Event(_) => {}
        }
    }
}

fn next_before(lines: &mut Lines, deadline: Instant) -> io::Result<Message> {
    loop {
        if let Some(message) = lines.buffered()? {
            return Ok(message);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = [PollFd::new(&*lines, PollFlags::IN)];
        let timeout = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {
                if lines.fill()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
