//! A byte stream to the host, and what has arrived on it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bandsox_proto::v2::{
    DecodeError, Fault, FrameReader, MAX_PAYLOAD, ReadError, Reply, Request, parse_frame,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Room for what small messages need.
const SMALL: usize = 4 * 1024;

/// A frame's header, in bytes.
const HEADER: usize = 5;

/// A connection: the stream, bytes read ahead, and how the client begins.
pub(crate) struct Connection {
    /// A socket of any family; `File` only reads and writes it.
    pub(crate) stream: Arc<File>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The session that this connection was last attached to, for a late Ack.
    pub(crate) last_session: Option<bandsox_proto::v2::SessionId>,
    /// Keeps the connection counted.
    _admission: crate::agent::Admission,
}

impl Connection {
    pub(crate) fn new(stream: File, admission: crate::agent::Admission) -> Self {
        Self {
            stream: Arc::new(stream),
            buffer: vec![0; SMALL],
            start: 0,
            end: 0,
            last_session: None,
            _admission: admission,
        }
    }

    /// The first byte, which stays where it is; `None` if the client said nothing.
    pub(crate) fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.arrived().is_empty() {
            self.fill()?;
        }
        Ok(self.arrived().first().copied())
    }

    /// Read ahead in larger pieces from now on, if more is to come than small messages.
    pub(crate) fn read_ahead(&mut self, bytes: usize) {
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
    }

    /// Back to a small buffer, as far as what has arrived allows.
    pub(crate) fn read_ahead_no_more(&mut self) {
        if self.arrived().is_empty() && self.buffer.len() > SMALL {
            self.buffer = vec![0; SMALL];
            (self.start, self.end) = (0, 0);
        }
    }

    /// The next request, waiting for it; `None` at the end of the stream.
    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, RequestError> {
        let mut frames = FrameReader::new(self);
        Ok(match frames.read()? {
            Some(frame) => Some(Request::decode(frame.kind, frame.payload)?),
            None => None,
        })
    }

    /// A request among what has arrived already.
    pub(crate) fn arrived_request(&mut self) -> Result<Option<Request>, RequestError> {
        let Some((frame, used)) = parse_frame(self.arrived())? else {
            return Ok(None);
        };
        let request = Request::decode(frame.kind, frame.payload);
        self.start = self.start.saturating_add(used);
        Ok(Some(request?))
    }

    /// Reads once, making room for a whole frame if one is under way. 0 means the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let limit = MAX_PAYLOAD.saturating_add(HEADER);
            let size = self.buffer.len().saturating_mul(2).clamp(SMALL, limit);
            self.buffer.resize(size, 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = (&*self.stream).read(free)?;
        self.end = self.end.saturating_add(count).min(self.buffer.len());
        Ok(count)
    }

    /// Sends one message.
    pub(crate) fn send(&self, reply: &Reply) -> io::Result<()> {
        let frame = reply.to_frame().map_err(io::Error::other)?;
        (&*self.stream).write_all(&frame)
    }

    /// Says why a request was not done.
    pub(crate) fn refuse(&self, fault: Fault) -> io::Result<()> {
        self.send(&Reply::Error(fault))
    }

    /// Lets the client read what was said before the stream goes: closing with unread data may discard it.
    pub(crate) fn drain(&mut self) {
        rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write).ok();
        (self.start, self.end) = (0, 0);
        self.read_ahead(64 * 1024);
        while readable(self.stream.as_fd(), Duration::from_secs(10)) {
            self.end = 0;
            match self.fill() {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn arrived(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.arrived().is_empty() {
            if out.len() >= self.buffer.len() {
                return (&*self.stream).read(out);
            }
            self.fill()?;
        }
        let arrived = self.arrived();
        let count = arrived.len().min(out.len());
        if let (Some(from), Some(to)) = (arrived.get(..count), out.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.start = self.start.saturating_add(count);
        Ok(count)
    }
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The stream is of no more use.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The message is of no use; the one after it may be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Whether there is something to read, or an end, within `patience`.
pub(crate) fn readable(fd: std::os::fd::BorrowedFd<'_>, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(count) => count > 0,
        // Tell the caller to look for itself.
        Err(Errno::INTR) => true,
        Err(_) => false,
    }
}
