//! Where output goes: descriptors that may be slow, or whose reader may be gone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use bandsox_proto::v2::StreamName;
use rustix::fs::FileType;
use rustix::io::Errno;

/// What a pipe takes without waiting once it is writable: `PIPE_BUF`, see pipe(7).
const PIPE_PIECE: usize = 4096;

/// Standard output and standard error, and what waits to be written to them, in the order in which
/// the command wrote it.
#[derive(Debug)]
pub(super) struct Sinks<'a> {
    stdout: Sink<'a>,
    stderr: Sink<'a>,
    pending: VecDeque<(StreamName, Vec<u8>)>,
    /// How much of the first pending piece is written.
    written: usize,
}

#[derive(Debug)]
struct Sink<'a> {
    descriptor: BorrowedFd<'a>,
    /// Most bytes in one write, so that none waits.
    piece: usize,
    closed: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Some bytes, perhaps none, were taken.
    Taken,
    /// Nobody can read it any more; what is pushed from now on is dropped.
    Closed,
}

impl<'a> Sinks<'a> {
    pub(super) fn new(stdout: BorrowedFd<'a>, stderr: BorrowedFd<'a>) -> Self {
        let pending = VecDeque::new();
        Self { stdout: Sink::new(stdout), stderr: Sink::new(stderr), pending, written: 0 }
    }

    pub(super) fn push(&mut self, stream: StreamName, data: Vec<u8>) {
        if !self.sink(stream).closed && !data.is_empty() {
            self.pending.push_back((stream, data));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The descriptor that has to become writable next.
    pub(super) fn waiting_for(&self) -> Option<BorrowedFd<'_>> {
        self.pending.front().map(|(stream, _)| match stream {
            StreamName::Stdout => self.stdout.descriptor.as_fd(),
            StreamName::Stderr => self.stderr.descriptor.as_fd(),
        })
    }

    /// Writes a piece of what waits; does not wait itself if that descriptor is writable.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        let Some((stream, data)) = self.pending.front() else { return Ok(Written::Taken) };
        let stream = *stream;
        let sink = self.sink(stream);
        let rest = data.get(self.written..).unwrap_or_default();
        let rest = rest.get(..sink.piece.min(rest.len())).unwrap_or_default();
        match rustix::io::write(sink.descriptor, rest) {
            Ok(count) => {
                self.written = self.written.saturating_add(count);
                if self.written >= data.len() {
                    self.pending.pop_front();
                    self.written = 0;
                }
                Ok(Written::Taken)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(Written::Taken),
            // EIO: a terminal that was hung up.
            Err(Errno::PIPE | Errno::IO) => {
                self.close(stream);
                Ok(Written::Closed)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sink(&self, stream: StreamName) -> &Sink<'a> {
        match stream {
            StreamName::Stdout => &self.stdout,
            StreamName::Stderr => &self.stderr,
        }
    }

    fn close(&mut self, stream: StreamName) {
        match stream {
            StreamName::Stdout => self.stdout.closed = true,
            StreamName::Stderr => self.stderr.closed = true,
        }
        self.pending.retain(|(pending, _)| *pending != stream);
        self.written = 0;
    }
}

impl<'a> Sink<'a> {
    fn new(descriptor: BorrowedFd<'a>) -> Self {
        let is_file = rustix::fs::fstat(descriptor)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let piece = if is_file { usize::MAX } else { PIPE_PIECE };
        Self { descriptor, piece, closed: false }
    }
}
