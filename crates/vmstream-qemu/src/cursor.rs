//! Bytes that are all there, with the offset of each in the stream.

use crate::error::{Broken, Rule};
use crate::input::len64;

/// What is left of a stretch of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn broken(&self, rule: Rule) -> Broken {
        Broken::at(self.offset, rule)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let end = self.offset.saturating_add(len64(self.rest.len()));
            return Err(Broken::at(end, Rule::Truncated));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(len64(count));
        Ok(taken)
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Passes over a byte that [`Cursor::peek`] showed.
    pub(crate) fn skip_one(&mut self) {
        if let Some((_, rest)) = self.rest.split_first() {
            self.rest = rest;
            self.offset = self.offset.saturating_add(1);
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Broken> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn be16(&mut self) -> Result<u16, Broken> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn be32(&mut self) -> Result<u32, Broken> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn counted(&mut self) -> Result<&'a str, Broken> {
        let length = usize::from(self.u8()?);
        let offset = self.offset;
        std::str::from_utf8(self.take(length)?).map_err(|_| Broken::at(offset, Rule::Text))
    }
}
