//! Memory as it is, so that it can be mapped.

use std::io::{Read, Write};

use super::{WriteError, Writer};
use crate::broken::Broken;
use crate::frame::Kind;
use crate::message::{Checksums, IndexedRam, Message, RAM_PREFIX_BYTES, Ram};
use crate::piece::Piece;
use crate::rule::Rule;

/// Bytes from the beginning of a ram frame to its data.
const BEFORE_DATA: u64 = 51 + 29;

impl<W: Write> Writer<W> {
    /// Writes bytes of a region as they are, at an offset that is a multiple of `align`, and their checksums.
    ///
    /// Exactly `ram.length` bytes are taken from `data`.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; [`WriteError::Io`] also if `data` ends early, and then the stream is beyond use.
    pub fn ram(&mut self, ram: &Ram, align: u32, data: &mut impl Read) -> Result<(), WriteError> {
        let prefix = ram.prefix();
        let length = ram.length.checked_add(u64::try_from(RAM_PREFIX_BYTES).unwrap_or(0));
        let length = length.ok_or_else(|| self.broken(Broken::new(Rule::R1)))?;
        self.check(Ram::from_prefix(&prefix, length))?;
        let learnt = self.session.learn_ram(ram);
        self.check(learnt)?;
        self.pad_to(u64::from(align.max(1)))?;
        let frame = self.offset();
        let header = self.begin_frame(Kind::Ram, 0, length, crc32c::crc32c(&prefix))?;
        self.put(&prefix)?;
        let crc32c = self.copy(ram, data)?;
        self.session.count(&header);
        let Ram { region, offset, chunk, length } = *ram;
        self.metadata(Kind::Checksums, 0, &Checksums { region, offset, chunk, crc32c }.to_value())?;
        let data = frame.saturating_add(BEFORE_DATA);
        self.index.ram.push(IndexedRam { frame, data, region, offset, length });
        Ok(())
    }

    /// Writes filler, so that the data of a ram frame that comes next lie at a multiple of `align`.
    fn pad_to(&mut self, align: u64) -> Result<(), WriteError> {
        let over = |at: u64| at.checked_rem(align).unwrap_or(0);
        if over(self.offset().saturating_add(BEFORE_DATA)) == 0 {
            return Ok(());
        }
        let data = self.offset().saturating_add(51).saturating_add(BEFORE_DATA);
        let filler = over(align.saturating_sub(over(data)));
        let filler = usize::try_from(filler).unwrap_or(usize::MAX);
        self.frame(Kind::Pad, 0, &vec![0; filler])
    }

    fn copy(&mut self, ram: &Ram, data: &mut impl Read) -> Result<Vec<u32>, WriteError> {
        let offset = self.offset();
        let mut buffer = Piece::new(Piece::BEST);
        let buffer = buffer.bytes();
        let (mut sums, mut left) = (Vec::new(), ram.length);
        while left > 0 {
            let mut chunk = left.min(u64::from(ram.chunk));
            left = left.saturating_sub(chunk);
            let mut crc = 0;
            while chunk > 0 {
                let most = usize::try_from(chunk).unwrap_or(usize::MAX).min(buffer.len());
                let piece = buffer.get_mut(..most).unwrap_or_default();
                data.read_exact(piece).map_err(|source| WriteError::Io { offset, source })?;
                crc = crc32c::crc32c_append(crc, piece);
                chunk = chunk.saturating_sub(u64::try_from(most).unwrap_or(0));
                self.out.write_all(piece).map_err(|source| WriteError::Io { offset, source })?;
            }
            sums.push(crc);
        }
        Ok(sums)
    }
}
