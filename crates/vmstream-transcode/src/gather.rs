//! Gathers the pages of QEMU's stream into frames, as they come.

use vmstream::message::{Encoding, Pages, PagesBuilder, RunKind};

use crate::op::Odd;

/// Odd pages of one frame; the next one goes into another frame.
const ODD: usize = 8192;

/// Pages of one region, ascending.
#[derive(Debug)]
pub(crate) struct Gather {
    encoding: Encoding,
    page_bytes: usize,
    /// Bytes of data in a frame behind which the next begins.
    most: usize,
    bytes: usize,
    builder: Option<(u32, PagesBuilder)>,
    /// The page behind the last one.
    next: u64,
    count: u64,
    odd: Odd,
    /// The block of the last page, over all frames.
    last: Option<u32>,
    /// Whether any page had data, over all frames.
    pub(crate) has_data: bool,
}

impl Gather {
    pub(crate) fn new(encoding: Encoding, most: usize) -> Self {
        Self {
            encoding,
            page_bytes: 4096,
            most,
            bytes: 0,
            builder: None,
            next: 0,
            count: 0,
            odd: Odd::default(),
            last: None,
            has_data: false,
        }
    }

    pub(crate) const fn set_page_bytes(&mut self, bytes: usize) {
        self.page_bytes = bytes;
    }

    /// Whether a page of that block can be added to the frame that is being gathered.
    pub(crate) fn takes(&self, block: u32, page: u64) -> bool {
        self.builder.as_ref().is_none_or(|(region, builder)| {
            *region == block
                && page >= self.next
                && !builder.is_full()
                && self.bytes < self.most
                && self.odd.named.len().max(self.odd.full.len()) < ODD
        })
    }

    /// Whether one expects that a page of that block names it.
    pub(crate) fn names(&self, block: u32) -> bool {
        self.last != Some(block)
    }

    /// Adds a page; zero if it has no data. `named` is whether it named its block.
    pub(crate) fn page(&mut self, (block, page): (u32, u64), data: Option<&[u8]>, named: bool) {
        if named != self.names(block) {
            self.odd.named.push(self.count);
        }
        self.last = Some(block);
        let (page_bytes, encoding) = (self.page_bytes, self.encoding);
        let new = || (block, PagesBuilder::new(block, page_bytes, encoding));
        let (_, builder) = self.builder.get_or_insert_with(new);
        match data {
            None => builder.run(page, 1, RunKind::Zero),
            Some(data) => {
                self.has_data = true;
                if vmstream::is_zero(data) {
                    self.odd.full.push(self.count);
                }
                self.bytes = self.bytes.saturating_add(data.len());
                builder.page(page, data);
            }
        }
        self.next = page.saturating_add(1);
        self.count = self.count.saturating_add(1);
    }

    /// Adds zero pages that no record named.
    pub(crate) fn zeros(&mut self, block: u32, first: u64, count: u64) {
        let (page_bytes, encoding) = (self.page_bytes, self.encoding);
        let new = || (block, PagesBuilder::new(block, page_bytes, encoding));
        let (_, builder) = self.builder.get_or_insert_with(new);
        builder.run(first, count, RunKind::Zero);
        self.next = first.saturating_add(count);
        self.count = self.count.saturating_add(count);
    }

    /// The frame, if there is any page in it, and what is odd about it.
    pub(crate) fn take(&mut self) -> Result<Option<(Pages, Odd)>, vmstream::Broken> {
        let odd = std::mem::take(&mut self.odd);
        (self.next, self.count, self.bytes) = (0, 0, 0);
        let Some((_, mut builder)) = self.builder.take() else { return Ok(None) };
        Ok(Some((builder.build()?, odd)))
    }
}
