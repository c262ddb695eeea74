//! Bytes as they arrive, with the offset of each; nothing is held but one window.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use crate::error::{Broken, ReadError, Rule};

/// The longest stretch that [`Input::need`] serves.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;

/// Bytes of the window beyond those, of which the first ones are left free: see [`KERNEL_PAGE`].
const ROOM: usize = 4096;

/// Bytes that are read at once behind some that were passed over: a record's head, and not much more.
const STEP: usize = 64;

/// Bytes of a file that are read first: who passes over the rest needs no more.
const FIRST: usize = 4096;

/// Bytes of the kernel's pages. Where they are copied to an address that is a little above theirs within such a page, processors
/// take what is read for what has just been written, and wait: it takes five times as long.
const KERNEL_PAGE: u64 = 4096;

/// Where bytes come from.
enum Source<'r> {
    Flow(&'r mut dyn Read),
    /// A regular file of a known length, and where in it the next byte to be read is.
    File {
        file: &'r File,
        at: u64,
        end: u64,
    },
}

impl Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Flow(source) => source.read(buffer),
            Self::File { file, at, .. } => {
                let got = file.read_at(buffer, *at)?;
                *at = at.saturating_add(len64(got));
                Ok(got)
            }
        }
    }

    /// Passes over up to `count` bytes that are there; says over how many.
    fn pass(&mut self, count: u64) -> u64 {
        let Self::File { at, end, .. } = self else { return 0 };
        let count = count.min(end.saturating_sub(*at));
        *at = at.saturating_add(count);
        count
    }
}

/// A buffered source that knows its offset.
pub(crate) struct Input<'r> {
    source: Source<'r>,
    window: Vec<u8>,
    held: Range<usize>,
    offset: u64,
    /// The most that is read next.
    step: usize,
}

impl<'r> Input<'r> {
    /// `offset` is what the first byte of `source` counts as.
    pub(crate) fn new(source: &'r mut dyn Read, offset: u64) -> Self {
        Self::of(Source::Flow(source), offset, WINDOW_BYTES, WINDOW_BYTES)
    }

    /// One that holds so many bytes, which is also the longest stretch that it serves.
    pub(crate) fn with_window(source: &'r mut dyn Read, bytes: usize) -> Self {
        Self::of(Source::Flow(source), 0, bytes, bytes)
    }

    /// A regular file from its beginning; what is passed over is not read.
    pub(crate) fn of_file(file: &'r File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self::of(Source::File { file, at: 0, end }, 0, FIRST, WINDOW_BYTES))
    }

    fn of(source: Source<'r>, offset: u64, step: usize, window: usize) -> Self {
        let window = vec![0; window.saturating_add(ROOM)];
        Self { source, window, held: 0..0, offset, step }
    }

    /// The last bytes of a file, at most `count` of them and none that were consumed, and where they begin; nothing for what is
    /// no file, or has become shorter.
    pub(crate) fn last(&self, count: u64) -> Option<(u64, Vec<u8>)> {
        let Source::File { file, end, .. } = &self.source else { return None };
        let start = end.saturating_sub(count).max(self.offset);
        let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
        file.read_exact_at(&mut bytes, start).ok()?;
        Some((start, bytes))
    }

    /// Whether bytes can be passed over without being read.
    pub(crate) const fn can_pass(&self) -> bool {
        matches!(self.source, Source::File { .. })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn held(&self) -> &[u8] {
        self.window.get(self.held.clone()).unwrap_or_default()
    }

    /// Moves what is held to the front, so that what is read behind it is half a page from where it is in the source's pages.
    fn settle(&mut self) {
        let start = len64(self.window.as_ptr().addr());
        let end = start.wrapping_add(len64(self.held.len()));
        let next = self.offset.wrapping_add(len64(self.held.len()));
        let room = next.wrapping_add(KERNEL_PAGE / 2).wrapping_sub(end) % KERNEL_PAGE;
        let room = usize::try_from(room).unwrap_or(0);
        let held = room..room.saturating_add(self.held.len());
        self.window.copy_within(self.held.clone(), room);
        self.held = held;
    }

    /// Reads once; `false` at the end of the source.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.held.is_empty() || self.held.end == self.window.len() {
            self.settle();
        }
        let end = self.window.len().min(self.held.end.saturating_add(self.step));
        self.step = self.step.saturating_mul(2).min(WINDOW_BYTES);
        let free = self.window.get_mut(self.held.end..end).unwrap_or_default();
        loop {
            match self.source.read(free) {
                Ok(count) => {
                    self.held.end = self.held.end.saturating_add(count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: self.offset, source }),
            }
        }
    }

    /// The next `count` bytes, not yet consumed. At most a window of them.
    pub(crate) fn need(&mut self, count: usize) -> Result<&[u8], ReadError> {
        if count > self.window.len().saturating_sub(ROOM) {
            return Err(Broken::at(self.offset, Rule::Length).into());
        }
        // A window that is nearly used up is moved to the front once, not byte by byte.
        while self.held.len() < count {
            if self.window.len().saturating_sub(self.held.start) < count {
                self.settle();
            }
            if !self.fill()? {
                let end = self.offset.saturating_add(len64(self.held.len()));
                return Err(Broken::at(end, Rule::Truncated).into());
            }
        }
        Ok(self.held().get(..count).unwrap_or_default())
    }

    /// Takes back what [`Input::need`] showed.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.held.len());
        self.held.start = self.held.start.saturating_add(count);
        self.offset = self.offset.saturating_add(len64(count));
    }

    /// Whether nothing is left.
    pub(crate) fn at_end(&mut self) -> Result<bool, ReadError> {
        Ok(self.held.is_empty() && !self.fill()?)
    }

    /// Whatever is at hand, at least a byte unless the source has ended; not yet consumed.
    pub(crate) fn some(&mut self) -> Result<&[u8], ReadError> {
        if self.held.is_empty() {
            self.fill()?;
        }
        Ok(self.held())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.need(N)?);
        self.consume(N);
        Ok(array)
    }

    pub(crate) fn peek_u8(&mut self) -> Result<u8, ReadError> {
        Ok(self.need(1)?.first().copied().unwrap_or_default())
    }

    pub(crate) fn peek_be64(&mut self) -> Result<u64, ReadError> {
        let mut array = [0; 8];
        array.copy_from_slice(self.need(8)?);
        Ok(u64::from_be_bytes(array))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn be16(&mut self) -> Result<u16, ReadError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn be32(&mut self) -> Result<u32, ReadError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn be64(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A string of one length byte and that many bytes.
    pub(crate) fn counted(&mut self) -> Result<Box<str>, ReadError> {
        let length = usize::from(self.u8()?);
        let offset = self.offset;
        let text = std::str::from_utf8(self.need(length)?)
            .map_err(|_| Broken::at(offset, Rule::Text))?
            .into();
        self.consume(length);
        Ok(text)
    }

    /// Exactly `count` bytes, allocated as they arrive.
    pub(crate) fn vec(&mut self, count: u64, bound: u64) -> Result<Vec<u8>, ReadError> {
        if count > bound {
            return Err(Broken::at(self.offset, Rule::Length).found(count).want(bound).into());
        }
        let mut bytes = Vec::new();
        let mut left = count;
        while left > 0 {
            let offset = self.offset;
            let some = self.some()?;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(some.len());
            if take == 0 {
                return Err(Broken::at(offset, Rule::Truncated).into());
            }
            bytes.extend_from_slice(some.get(..take).unwrap_or_default());
            self.consume(take);
            left = left.saturating_sub(len64(take));
        }
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), ReadError> {
        let mut left = count;
        while left > 0 {
            if self.held.is_empty() {
                let passed = self.source.pass(left);
                if passed > 0 {
                    self.step = STEP;
                }
                self.offset = self.offset.saturating_add(passed);
                left = left.saturating_sub(passed);
                if left == 0 {
                    break;
                }
            }
            let offset = self.offset;
            let some = self.some()?.len();
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(some);
            if take == 0 {
                return Err(Broken::at(offset, Rule::Truncated).into());
            }
            self.consume(take);
            left = left.saturating_sub(len64(take));
        }
        Ok(())
    }
}

/// A length as a number of the stream.
pub(crate) fn len64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
