//! Memory as it is, while it comes.

use std::io::Read;

use super::{Event, HEADER, ReadError, Reader};
use crate::broken::Broken;
use crate::frame::Header;
use crate::message::{Checksums, RAM_PREFIX_BYTES, Ram};
use crate::piece::Piece;
use crate::rule::Rule;

/// A ram frame whose data are being read, or have been.
#[derive(Debug)]
pub(super) struct OpenRam {
    ram: Ram,
    left: u64,
    /// Bytes and checksum of the chunk that is not whole yet.
    chunk_done: u64,
    crc: u32,
    sums: Vec<u32>,
    /// Where the data end, for messages.
    end: u64,
    frame: u64,
}

impl OpenRam {
    /// Takes bytes that have come into account; they lie within one chunk.
    fn take(&mut self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(0);
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.chunk_done = self.chunk_done.saturating_add(count);
        self.left = self.left.saturating_sub(count);
        if self.left == 0 || self.chunk_left() == 0 {
            self.sums.push(self.crc);
            (self.crc, self.chunk_done) = (0, 0);
        }
    }

    fn chunk_left(&self) -> u64 {
        u64::from(self.ram.chunk).saturating_sub(self.chunk_done)
    }
}

impl<R: Read> Reader<R> {
    pub(super) fn open_ram(&mut self, header: &Header) -> Result<Event, ReadError> {
        let mut prefix = [0; RAM_PREFIX_BYTES];
        let got = self.fill(&mut prefix, HEADER)?;
        if got < RAM_PREFIX_BYTES {
            let at = u64::try_from(got).unwrap_or(0);
            return Err(self.broken(Broken::new(Rule::F14).at(at), HEADER));
        }
        if crc32c::crc32c(&prefix) != header.payload_crc {
            return Err(self.broken(Broken::new(Rule::F5), HEADER));
        }
        let ram = Ram::from_prefix(&prefix, header.length);
        let ram = ram.and_then(|ram| self.session.learn_ram(&ram).map(|()| ram));
        let ram = ram.map_err(|broken| self.broken(broken, HEADER))?;
        self.ram = Some(OpenRam {
            ram,
            left: ram.length,
            chunk_done: 0,
            crc: 0,
            sums: Vec::new(),
            end: self.session.offset().saturating_add(HEADER).saturating_add(header.length),
            frame: header.sequence,
        });
        Ok(Event::Ram(ram))
    }

    /// The next bytes of the ram frame that the last event announced; 0 when all have come.
    ///
    /// They are not to be trusted before [`Event::Checksums`].
    ///
    /// # Errors
    ///
    /// [`ReadError`], above all [`Rule::F14`].
    pub fn read_ram(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let Some(open) = &self.ram else { return Ok(0) };
        let most = usize::try_from(open.left.min(open.chunk_left())).unwrap_or(usize::MAX);
        let take = most.min(buffer.len());
        let piece = buffer.get_mut(..take).unwrap_or_default();
        let (end, left, frame) = (open.end, open.left, open.frame);
        // The frame has been counted already: what goes wrong lies before the offset that is next.
        let offset = end.saturating_sub(left);
        let got = self.fill(piece, 0)?;
        if got < take {
            let at = offset.saturating_add(u64::try_from(got).unwrap_or(0));
            return Err(ReadError::Broken { frame, broken: Broken::new(Rule::F14).at(at) });
        }
        if let (Some(open), true) = (&mut self.ram, got > 0) {
            open.take(buffer.get(..got).unwrap_or_default());
        }
        Ok(got)
    }

    /// Reads the data that nobody took.
    pub(super) fn drain_ram(&mut self) -> Result<(), ReadError> {
        if self.ram.as_ref().is_none_or(|open| open.left == 0) {
            return Ok(());
        }
        let mut buffer = Piece::new(64 << 10);
        while self.read_ram(buffer.bytes())? > 0 {}
        Ok(())
    }

    pub(super) fn close_ram(&mut self, sums: &Checksums) -> Result<(), Broken> {
        let open = self.ram.take().ok_or_else(|| Broken::new(Rule::O7))?;
        let Ram { region, offset, chunk, .. } = open.ram;
        if (sums.region, sums.offset, sums.chunk) != (region, offset, chunk)
            || sums.crc32c.len() != open.sums.len()
        {
            return Err(Broken::new(Rule::O7).found("checksums of other bytes"));
        }
        let mut pairs = sums.crc32c.iter().zip(&open.sums).enumerate();
        match pairs.find(|(_, (want, got))| want != got) {
            None => Ok(()),
            Some((index, _)) => {
                let start = u64::try_from(index).unwrap_or(0).saturating_mul(chunk.into());
                let at = offset.saturating_add(start);
                let found = format!("region {region}, {at:#x}");
                Err(Broken::new(Rule::R2).path("crc32c").found(found))
            }
        }
    }
}
