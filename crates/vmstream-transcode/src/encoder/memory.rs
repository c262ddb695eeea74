//! Memory: blocks, pages, the manifest.

use std::io::Write;

use vmstream::WriteError;
use vmstream::message::{Manifest, Region};
use vmstream_qemu::{BlockHead, Page, RamRecord};

use super::Encoder;
use crate::error::Error;
use crate::groups::kind_of;
use crate::op::Op;
use crate::to::Content;

impl<W: Write> Encoder<W> {
    pub(super) fn ram(&mut self, record: &RamRecord<'_>) -> Result<(), Error> {
        match record {
            RamRecord::Total { bytes } => {
                if self.described {
                    let why = "memory was announced already";
                    return Err(Error::Unsupported { what: "blocks of memory", why });
                }
                self.op(Op::Total(*bytes))
            }
            RamRecord::Block(head) => {
                // Of mapped memory, the pages follow each block, and the manifest, which has all blocks, comes before.
                if head.mapped.is_some() && !self.known {
                    let why = "its blocks must be known before; it can be read from a file";
                    return Err(Error::Unsupported { what: "mapped-ram", why });
                }
                if !self.known {
                    self.blocks.push((*head).clone());
                }
                self.op(Op::Block((*head).clone()))
            }
            RamRecord::Bitmap { .. } | RamRecord::Gap { .. } => Ok(()),
            RamRecord::MappedPages { block, offset, data } => {
                let pages = data.chunks(usize::try_from(self.page_bytes).unwrap_or(4096));
                let first = offset.checked_div(self.page_bytes).unwrap_or(0);
                for (page, data) in (first..).zip(pages) {
                    self.page((*block, page), Some(data), false)?;
                }
                Ok(())
            }
            RamRecord::MappedZeros { block, offset, bytes } => {
                let pages = |bytes: &u64| bytes.checked_div(self.page_bytes).unwrap_or(0);
                let (first, count) = (pages(offset), pages(bytes));
                if self.content == Content::State {
                    return Ok(());
                }
                if !self.gather.takes(*block, first) {
                    self.flush_pages()?;
                }
                self.gather.zeros(*block, first, count);
                Ok(())
            }
            RamRecord::Passed { .. } if self.content == Content::State => self.manifest(),
            RamRecord::Fill { page, byte: 0 } => self.page_record(page, None),
            RamRecord::Fill { .. } => {
                let why = "QEMU sends pages of zeros only";
                Err(Error::Unsupported { what: "a page of one byte over and over", why })
            }
            RamRecord::Data { page, data } => self.page_record(page, Some(data)),
            RamRecord::Xbzrle { page, encoding: 1, data } => self.difference(page, data),
            RamRecord::Xbzrle { .. } => {
                let why = "how it is encoded is not known";
                Err(Error::Unsupported { what: "a difference of a page", why })
            }
            RamRecord::MultifdFlush if self.blocks.iter().any(|block| block.mapped.is_some()) => {
                self.op(Op::Flush)
            }
            RamRecord::MultifdFlush => {
                self.flush_of_channels()?;
                self.op(Op::Flush)
            }
            RamRecord::End => {
                self.manifest()?;
                self.end_of_memory()?;
                self.op(Op::RamEnd)
            }
            RamRecord::Passed { .. } => {
                Err(Error::Unsupported { what: "a page", why: "what it holds was not read" })
            }
            _ => Err(Error::Unsupported { what: "a record of memory", why: "it is not known" }),
        }
    }

    /// Makes sure that the pages came through here. Firmware alone is some hundred pages that are not zero; where none is, the
    /// set of channels that has them is not all here, and machine types up to 8.0 send no flush that would tell.
    pub(super) fn expect_data(&self) -> Result<(), Error> {
        if self.content == Content::State {
            return Ok(());
        }
        let is_sent = |block: &BlockHead| block.bytes > 0 && block.gpa.is_none();
        if self.gather.has_data || !self.blocks.iter().any(is_sent) {
            return Ok(());
        }
        let why = "no page with data came; with multifd, they are in channels of their own";
        Err(Error::Unsupported { what: "memory", why })
    }

    pub(super) fn page_record(&mut self, page: &Page, data: Option<&[u8]>) -> Result<(), Error> {
        let Page { block, offset, named } = *page;
        let number = offset.checked_div(self.page_bytes).unwrap_or(0);
        self.page((block, number), data, named)
    }

    pub(super) fn page(
        &mut self,
        at: (u32, u64),
        data: Option<&[u8]>,
        named: bool,
    ) -> Result<(), Error> {
        if !self.described {
            self.manifest()?;
        }
        if self.content == Content::State {
            return Ok(());
        }
        if !self.gather.takes(at.0, at.1) {
            self.flush_pages()?;
        }
        if let Some(room) = &mut self.apart.room {
            room.keep(at, data)?;
        }
        self.gather.page(at, data, named);
        Ok(())
    }

    pub(super) fn flush_pages(&mut self) -> Result<(), Error> {
        let taken = self.gather.take().map_err(|broken| WriteError::Broken { frame: 0, broken })?;
        if let Some((pages, odd)) = taken {
            if !(odd.named.is_empty() && odd.full.is_empty()) {
                self.ops.push(Op::Odd(odd));
            }
            self.flush_ops()?;
            self.writer.pages(&pages)?;
            self.writer.flush()?;
        }
        Ok(())
    }

    pub(super) fn manifest(&mut self) -> Result<(), Error> {
        if self.described {
            return Ok(());
        }
        self.described = true;
        let region = |block: &BlockHead| Region {
            name: block.name.to_string(),
            kind: kind_of(&block.name).to_owned(),
            bytes: block.bytes,
            gpa: block.gpa,
        };
        if self.content == Content::All {
            self.apart.begin(&self.blocks, self.page_bytes)?;
        }
        let manifest = Manifest {
            page_size: self.page_bytes,
            memory: self.blocks.iter().map(region).collect(),
            contract: std::mem::take(&mut self.machine),
            ..Manifest::default()
        };
        self.writer.manifest(&manifest)?;
        // Options that are used twice have the first stream's.
        drop(self.written.set(manifest));
        match self.verdict.take() {
            Some(verdict) => Ok(self.writer.verdict(&verdict)?),
            None => Ok(()),
        }
    }
}
