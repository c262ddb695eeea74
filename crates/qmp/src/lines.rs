//! The stream, cut into messages, and its beginning.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

use crate::message::{Message, Version};

/// A longer line than QEMU has reason to send.
const MAX_LINE: usize = 4 << 20;

/// Cuts what arrives into lines.
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no end of line.
    searched: usize,
}

impl Lines {
    /// Reads from `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0 }
    }

    /// A message that has already arrived whole.
    ///
    /// # Errors
    ///
    /// `InvalidData` for nonsense.
    pub fn buffered(&mut self) -> io::Result<Option<Message>> {
        while let Some(found) =
            self.buffer.iter().skip(self.searched).position(|&byte| byte == b'\n')
        {
            let end = self.searched.saturating_add(found);
            self.searched = 0;
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Message::decode(line).map(Some);
            }
        }
        self.searched = self.buffer.len();
        Ok(None)
    }

    /// Reads once. 0 is the end.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a line without end.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.len() >= MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut chunk = [0_u8; 16384];
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

    /// Writes all of `line`, with a descriptor if there is one.
    pub(crate) fn send(&self, line: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send(&self.stream, line, fd)
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Writes all of `line` to QEMU. A descriptor travels with the first byte; QEMU has one of its own then.
///
/// # Errors
///
/// What the operating system says.
pub fn send(stream: &UnixStream, line: &[u8], mut fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = fd.take().map(|fd| [fd]);
        if let Some(fds) = &fds {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let piece = [IoSlice::new(rest)];
        let sent = sendmsg(stream, &piece, &mut ancillary, SendFlags::NOSIGNAL)?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Greets QEMU and learns its version, before there is a reading thread.
///
/// # Errors
///
/// `UnexpectedEof` when QEMU ends the connection, `TimedOut`, `InvalidData`.
pub fn handshake(lines: &mut Lines, deadline: Instant) -> io::Result<Version> {
    let version = loop {
        match next_before(lines, deadline)? {
            Message::Greeting(version) => break version,
            Message::Reply { .. } | Message::Event(_) => {}
        }
    };
    let negotiate = json!({"execute": "qmp_capabilities", "id": 0});
    let mut line = negotiate.to_string().into_bytes();
    line.push(b'\n');
    lines.send(&line, None)?;
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

/// The next message, waiting for it no longer than until `deadline`.
///
/// # Errors
///
/// `UnexpectedEof` when QEMU ends the connection, `TimedOut`, `InvalidData`.
pub fn next_before(lines: &mut Lines, deadline: Instant) -> io::Result<Message> {
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
