//! What a page was before, for streams that say only what has changed in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use vmstream_qemu::{BlockHead, Broken, Event, RamRecord, Reader, Rule, apply_xbzrle};

use crate::error::Error;

/// Where a page is found as it was, when QEMU sends only what has changed in it (xbzrle).
#[derive(Clone, Debug, Default)]
pub enum Earlier {
    /// Nowhere: such a stream is refused.
    #[default]
    Nowhere,
    /// In this file, into which every page is written as it comes. Nobody else may use it; it grows to the size of memory at most,
    /// without its zeros.
    Kept(Arc<File>),
    /// In the stream, which is this regular file: it is read again from its beginning when the first difference comes. Pages are kept from there
    /// on, in a temporary file without a name.
    Again(Arc<File>),
}

/// The number of a block, and of a page in it.
pub(crate) type At = (u32, u64);

/// Memory as it has been sent so far.
#[derive(Debug)]
pub(crate) struct Room {
    file: Arc<File>,
    page_bytes: u64,
    /// Where in the file each block begins, in pages.
    starts: Vec<u64>,
    /// Which pages have been sent, and which of these are not zero: 64 of each at a time.
    sent: BTreeMap<u64, [u64; 2]>,
}

impl Room {
    pub(crate) fn new(file: Arc<File>, blocks: &[BlockHead], page_bytes: u64) -> Self {
        let mut next = 0_u64;
        let start = |block: &BlockHead| {
            let start = next;
            next = next.saturating_add(block.bytes.div_ceil(page_bytes.max(1)));
            start
        };
        Self { file, page_bytes, starts: blocks.iter().map(start).collect(), sent: BTreeMap::new() }
    }

    /// Room with all pages of a stream that come before its byte `until`.
    pub(crate) fn caught_up(
        stream: &Arc<File>,
        reader: &Reader,
        blocks: &[BlockHead],
        page_bytes: u64,
        until: u64,
    ) -> Result<Self, Error> {
        let mut room = Self::new(Arc::new(tempfile::tempfile()?), blocks, page_bytes);
        let (mut failed, mut over) = (None, false);
        let mut source = FromStart::of(stream);
        let read = reader.read(&mut source, &mut |range: Range<u64>, event: &Event<'_>| {
            over = range.start >= until;
            if over {
                return Err(io::Error::other("that was all of it"));
            }
            let Event::Ram(record) = event else { return Ok(()) };
            room.record(record).map_err(|error| {
                failed = Some(error);
                io::Error::other("a page could not be kept")
            })
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if !over => Err(error.into()),
            _ => Ok(room),
        }
    }

    /// Keeps a page that came in full.
    fn record(&mut self, record: &RamRecord<'_>) -> Result<(), Error> {
        let (page, data) = if let RamRecord::Data { page, data } = record {
            (page, Some(*data))
        } else if let RamRecord::Fill { page, byte: 0 } = record {
            (page, None)
        } else {
            return Ok(());
        };
        let number = page.offset.checked_div(self.page_bytes).unwrap_or(0);
        self.keep((page.block, number), data)
    }

    /// Keeps a page; nothing is a page of zeros.
    pub(crate) fn keep(&mut self, at: At, data: Option<&[u8]>) -> Result<(), Error> {
        let Some((page, offset)) = self.place(at) else { return Ok(()) };
        let (group, bit) = (page / 64, 1 << (page % 64));
        let [sent, nonzero] = self.sent.entry(group).or_default();
        *sent |= bit;
        if let Some(data) = data {
            *nonzero |= bit;
            self.file.write_all_at(data, offset)?;
        } else {
            *nonzero &= !bit;
        }
        Ok(())
    }

    /// A page as it is when a difference has been applied. `offset` is where in the stream that stands.
    pub(crate) fn changed(&self, at: At, difference: &[u8], offset: u64) -> Result<Vec<u8>, Error> {
        let [sent, nonzero] = self.state(at);
        if !sent {
            let (rule, found) = (Rule::Difference, Some(at.1));
            let broken = Broken { offset, rule, found, want: None, name: None };
            return Err(Error::Qemu(broken.into()));
        }
        let mut page = vec![0; usize::try_from(self.page_bytes).unwrap_or(0)];
        if nonzero && let Some((_, place)) = self.place(at) {
            self.file.read_exact_at(&mut page, place)?;
        }
        apply_xbzrle(&mut page, difference).map_err(|broken| {
            let offset = broken.offset.saturating_add(offset);
            Error::Qemu(Broken { offset, ..broken }.into())
        })?;
        Ok(page)
    }

    /// Whether a page has been sent, and is not zero.
    fn state(&self, at: At) -> [bool; 2] {
        let Some((page, _)) = self.place(at) else { return [false; 2] };
        let bits = self.sent.get(&(page / 64)).copied().unwrap_or_default();
        bits.map(|bits| bits >> (page % 64) & 1 == 1)
    }

    /// A page's number over all blocks, and where in the file it stands.
    fn place(&self, (block, page): At) -> Option<(u64, u64)> {
        let start = self.starts.get(usize::try_from(block).ok()?)?;
        let page = start.checked_add(page)?;
        Some((page, page.checked_mul(self.page_bytes)?))
    }
}

/// Reads a file from its beginning, wherever others are in it.
#[derive(Debug)]
pub(crate) struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl FromStart {
    pub(crate) fn of(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), at: 0 }
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(u64::try_from(got).unwrap_or(0));
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        let block = |name: &str| BlockHead {
            name: name.into(),
            bytes: 8192,
            page_bytes: None,
            gpa: None,
            mapped: None,
        };
        let file = tempfile::tempfile().expect("a file");
        Room::new(Arc::new(file), &[block("a"), block("b")], 4096)
    }

    #[test]
    fn a_difference_is_applied_to_what_was_sent_last() {
        let mut room = room();
        room.keep((0, 1), Some(&[1; 4096])).expect("kept");
        room.keep((1, 1), Some(&[2; 4096])).expect("kept");
        let page = room.changed((1, 1), &[1, 1, 9], 0).expect("valid");
        assert_eq!(page[..3], [2, 9, 2]);

        room.keep((1, 1), None).expect("kept");
        let page = room.changed((1, 1), &[1, 1, 9], 0).expect("valid");
        assert_eq!(page[..3], [0, 9, 0]);
    }

    #[test]
    fn a_difference_of_a_page_that_was_never_sent_is_refused() {
        let mut room = room();
        room.keep((0, 1), Some(&[1; 4096])).expect("kept");

        let refused = room.changed((1, 0), &[1, 1, 9], 77).expect_err("refused").to_string();

        let source = Error::Qemu(
            Broken { offset: 77, rule: Rule::Difference, found: Some(0), want: None, name: None }
                .into(),
        );
        assert_eq!(refused, source.to_string());
        let broken = room.changed((0, 1), &[0, 0x80], 77).expect_err("cut short");
        let cause = std::error::Error::source(&broken).expect("a rule").to_string();
        assert!(cause.starts_with("byte 79"), "{cause}");
    }
}
