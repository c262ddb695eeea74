//! The body of section `ram`.
//!
//! Source: QEMU, `migration/ram.c`.

use std::ops::Range;

use crate::element::{BlockHead, Event, MappedHead, Page, RamRecord};
use crate::error::{Broken, ReadError, Rule};
use crate::input::{Input, WINDOW_BYTES, len64};
use crate::reader::Session;

pub(crate) const ZERO: u64 = 0x02;
pub(crate) const MEM_SIZE: u64 = 0x04;
pub(crate) const PAGE: u64 = 0x08;
pub(crate) const EOS: u64 = 0x10;
pub(crate) const CONTINUE: u64 = 0x20;
pub(crate) const XBZRLE: u64 = 0x40;
pub(crate) const MULTIFD_FLUSH: u64 = 0x200;

/// Blocks of one machine; usual ones have about ten.
const BLOCKS: usize = 4096;

/// The bits of a block of 512 GiB.
const BITMAP_BYTES: u64 = 16 << 20;

impl Session<'_> {
    /// Reads records up to the end of this part of the section.
    pub(crate) fn ram(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        loop {
            let start = input.offset();
            let head = input.be64()?;
            let flags = head & self.page_mask();
            let at = head & !self.page_mask();
            match flags & !CONTINUE {
                EOS if head == EOS => return self.record(input, start, RamRecord::End),
                MULTIFD_FLUSH if head == MULTIFD_FLUSH => {
                    self.record(input, start, RamRecord::MultifdFlush)?;
                }
                MEM_SIZE if flags == MEM_SIZE => self.blocks(input, start, at)?,
                ZERO => {
                    let page = self.page(input, flags, at)?;
                    let byte = input.u8()?;
                    self.record(input, start, RamRecord::Fill { page, byte })?;
                }
                PAGE => self.data(input, start, flags, at)?,
                XBZRLE => self.xbzrle(input, start, flags, at)?,
                _ => return Err(Broken::at(start, Rule::RamFlags).found(head).into()),
            }
        }
    }

    fn record(
        &mut self,
        input: &Input<'_>,
        start: u64,
        record: RamRecord<'_>,
    ) -> Result<(), ReadError> {
        self.emit(start..input.offset(), &Event::Ram(record))
    }

    /// Which page a record is about; reads the block's name if it is there.
    fn page(&mut self, input: &mut Input<'_>, flags: u64, offset: u64) -> Result<Page, ReadError> {
        let start = input.offset();
        let named = flags & CONTINUE == 0;
        let block = if named {
            let name = input.counted()?;
            let found = self.blocks.iter().position(|block| block.name == name);
            let number = found.ok_or_else(|| Broken::at(start, Rule::RamBlock).name(name))?;
            u32::try_from(number).unwrap_or(u32::MAX)
        } else {
            self.block.ok_or_else(|| Broken::at(start, Rule::RamContinue))?
        };
        self.block = Some(block);
        let bytes = self.block_bytes(block);
        let end = offset.checked_add(self.page_bytes);
        if end.is_none_or(|end| end > bytes) {
            return Err(Broken::at(start, Rule::RamOffset).found(offset).want(bytes).into());
        }
        Ok(Page { block, offset, named })
    }

    fn block_bytes(&self, block: u32) -> u64 {
        let block = usize::try_from(block).ok().and_then(|block| self.blocks.get(block));
        block.map_or(0, |block| block.bytes)
    }

    fn data(
        &mut self,
        input: &mut Input<'_>,
        start: u64,
        flags: u64,
        offset: u64,
    ) -> Result<(), ReadError> {
        let page = self.page(input, flags, offset)?;
        let length = self.page_length();
        let end = input.offset().saturating_add(self.page_bytes);
        let data = input.need(length)?;
        self.emit(start..end, &Event::Ram(RamRecord::Data { page, data }))?;
        input.consume(length);
        Ok(())
    }

    fn xbzrle(
        &mut self,
        input: &mut Input<'_>,
        start: u64,
        flags: u64,
        offset: u64,
    ) -> Result<(), ReadError> {
        let page = self.page(input, flags, offset)?;
        let encoding = input.u8()?;
        let at = input.offset();
        let length = input.be16()?;
        if u64::from(length) > self.page_bytes {
            let broken = Broken::at(at, Rule::Length).found(length).want(self.page_bytes);
            return Err(broken.into());
        }
        let end = input.offset().saturating_add(length.into());
        let data = input.need(length.into())?;
        self.emit(start..end, &Event::Ram(RamRecord::Xbzrle { page, encoding, data }))?;
        input.consume(length.into());
        Ok(())
    }

    fn blocks(&mut self, input: &mut Input<'_>, start: u64, total: u64) -> Result<(), ReadError> {
        self.record(input, start, RamRecord::Total { bytes: total })?;
        self.blocks.clear();
        let mut left = total;
        while left > 0 {
            let start = input.offset();
            let block = self.block_head(input)?;
            let rest = left.checked_sub(block.bytes).filter(|_| self.blocks.len() < BLOCKS);
            let broken = || Broken::at(start, Rule::RamTotal).found(block.bytes).want(left);
            left = rest.ok_or_else(broken)?;
            self.emit(start..input.offset(), &Event::Ram(RamRecord::Block(&block)))?;
            self.blocks.push(block);
            self.mapped(input)?;
        }
        Ok(())
    }

    fn block_head(&mut self, input: &mut Input<'_>) -> Result<BlockHead, ReadError> {
        let name = input.counted()?;
        let bytes = input.be64()?;
        let next = if self.huge_pages == 0 { 0 } else { input.peek_be64()? };
        let page_bytes = (next.is_power_of_two() && next & self.huge_pages != 0).then_some(next);
        if page_bytes.is_some() {
            input.consume(8);
        }
        let gpa = if self.ignore_shared { Some(input.be64()?) } else { None };
        let mapped = if self.mapped_ram { Some(mapped_head(input)?) } else { None };
        Ok(BlockHead { name, bytes, page_bytes, gpa, mapped })
    }

    /// The bitmap and the pages of the block that was announced last.
    fn mapped(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        let number = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let Some((head, bytes)) =
            self.blocks.last().and_then(|block| Some((block.mapped?, block.bytes)))
        else {
            return Ok(());
        };
        let start = input.offset();
        let broken = |found| Broken::at(start, Rule::MappedHeader).found(found);
        if head.version != 1 || head.page_bytes != self.page_bytes {
            return Err(broken(head.page_bytes).want(self.page_bytes).into());
        }
        if head.bitmap_offset != start {
            return Err(broken(head.bitmap_offset).want(start).into());
        }
        let bits = (bytes / self.page_bytes).div_ceil(64).saturating_mul(8);
        let bitmap = input.vec(bits, BITMAP_BYTES)?;
        self.record(input, start, RamRecord::Bitmap { block: number, bits: &bitmap })?;
        let behind = input.offset();
        let gap = head.pages_offset.checked_sub(behind).filter(|gap| *gap <= MOST_GAP);
        let gap = gap.ok_or_else(|| broken(head.pages_offset).want(behind))?;
        input.skip(gap)?;
        self.record(input, behind, RamRecord::Gap { bytes: gap })?;
        self.mapped_pages(input, number, bytes, &bitmap)
    }

    fn mapped_pages(
        &mut self,
        input: &mut Input<'_>,
        block: u32,
        bytes: u64,
        bitmap: &[u8],
    ) -> Result<(), ReadError> {
        let pages = bytes / self.page_bytes;
        let mut page = 0;
        while page < pages {
            let present = is_set(bitmap, page);
            let most = if present { len64(WINDOW_BYTES) / self.page_bytes } else { pages };
            let mut end = page.saturating_add(1);
            while end < pages && end - page < most && is_set(bitmap, end) == present {
                end = end.saturating_add(1);
            }
            let offset = page.saturating_mul(self.page_bytes);
            let length = (end - page).saturating_mul(self.page_bytes);
            self.mapped_run(input, present, (block, offset), length)?;
            page = end;
        }
        Ok(())
    }

    fn mapped_run(
        &mut self,
        input: &mut Input<'_>,
        present: bool,
        (block, offset): (u32, u64),
        length: u64,
    ) -> Result<(), ReadError> {
        let start = input.offset();
        let range: Range<u64> = start..start.saturating_add(length);
        if present && input.can_pass() {
            input.skip(length)?;
            let passed = RamRecord::Passed { block, offset, bytes: length };
            return self.record(input, start, passed);
        }
        if present {
            let count = usize::try_from(length).unwrap_or(usize::MAX);
            let data = input.need(count)?;
            self.emit(range, &Event::Ram(RamRecord::MappedPages { block, offset, data }))?;
            input.consume(count);
            return Ok(());
        }
        input.skip(length)?;
        self.emit(range, &Event::Ram(RamRecord::MappedZeros { block, offset, bytes: length }))
    }
}

/// Pages begin at the next multiple of this.
///
/// Source: QEMU, `migration/ram.c`, `MAPPED_RAM_FILE_OFFSET_ALIGNMENT`.
const MOST_GAP: u64 = 1 << 20;

fn mapped_head(input: &mut Input<'_>) -> Result<MappedHead, ReadError> {
    Ok(MappedHead {
        version: input.be32()?,
        page_bytes: input.be64()?,
        bitmap_offset: input.be64()?,
        pages_offset: input.be64()?,
    })
}

fn is_set(bitmap: &[u8], bit: u64) -> bool {
    let byte = usize::try_from(bit / 8).ok().and_then(|byte| bitmap.get(byte));
    byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}
