//! Bytes as they arrive, with the offset of each; nothing is held but one window.

use std::io::{self, Read};
use std::ops::Range;

use crate::error::{Broken, ReadError, Rule};

/// The longest stretch that [`Input::need`] serves.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;

/// A buffered source that knows its offset.
pub(crate) struct Input<'r> {
    source: &'r mut dyn Read,
    window: Vec<u8>,
    held: Range<usize>,
    offset: u64,
}

impl<'r> Input<'r> {
    /// `offset` is what the first byte of `source` counts as.
    pub(crate) fn new(source: &'r mut dyn Read, offset: u64) -> Self {
        Self { source, window: vec![0; WINDOW_BYTES], held: 0..0, offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn held(&self) -> &[u8] {
        self.window.get(self.held.clone()).unwrap_or_default()
    }

    /// Reads once; `false` at the end of the source.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.held.is_empty() {
            self.held = 0..0;
        } else if self.held.end == self.window.len() {
            self.window.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let free = self.window.get_mut(self.held.end..).unwrap_or_default();
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

    /// The next `count` bytes, not yet consumed. At most [`WINDOW_BYTES`].
    pub(crate) fn need(&mut self, count: usize) -> Result<&[u8], ReadError> {
        if count > WINDOW_BYTES {
            return Err(Broken::at(self.offset, Rule::Length).into());
        }
        // A window that is nearly used up is moved to the front once, not byte by byte.
        while self.held.len() < count {
            if self.window.len().saturating_sub(self.held.start) < count {
                self.window.copy_within(self.held.clone(), 0);
                self.held = 0..self.held.len();
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
