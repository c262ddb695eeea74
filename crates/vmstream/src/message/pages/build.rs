//! Gathering pages into frames.

use super::code::store;
use super::{Encoding, PageRun, Pages, RunKind};
use crate::broken::Broken;
use crate::limits;
use crate::piece::is_zero;

/// Gathers pages of one region, in ascending order, until a frame is full.
#[derive(Debug)]
pub struct PagesBuilder {
    region: u32,
    page_size: usize,
    encoding: Encoding,
    runs: Vec<PageRun>,
    data: Vec<u8>,
}

impl PagesBuilder {
    /// An empty frame for a region; its data will be stored by `encoding` where that pays.
    #[must_use]
    pub const fn new(region: u32, page_size: usize, encoding: Encoding) -> Self {
        Self { region, page_size, encoding, runs: Vec::new(), data: Vec::new() }
    }

    /// Whether the frame must be built before anything else can be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.runs.len() >= limits::RUNS || self.data.len() + self.page_size > limits::PAGE_DATA
    }

    /// Whether nothing has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a page: as data, or as zeros if it is nothing else.
    pub fn page(&mut self, number: u64, bytes: &[u8]) {
        if is_zero(bytes) {
            self.run(number, 1, RunKind::Zero);
        } else {
            self.run(number, 1, RunKind::Data);
            if self.data.is_empty() {
                self.data.reserve_exact(limits::PAGE_DATA);
            }
            self.data.extend_from_slice(bytes);
        }
    }

    /// Adds pages that need no data.
    pub fn run(&mut self, first: u64, count: u64, kind: RunKind) {
        match self.runs.last_mut() {
            Some(last)
                if last.kind == kind && last.first.checked_add(last.count) == Some(first) =>
            {
                last.count = last.count.saturating_add(count);
            }
            _ => self.runs.push(PageRun { first, count, kind }),
        }
    }

    /// The frame's payload; the builder is empty again.
    ///
    /// # Errors
    ///
    /// [`Broken`] if pages did not ascend or were too many.
    pub fn build(&mut self) -> Result<Pages, Broken> {
        let data = std::mem::take(&mut self.data);
        let length = data.len();
        let (encoding, stored) = store(data, self.encoding);
        Pages::new(self.region, encoding, length, &std::mem::take(&mut self.runs), stored)
    }
}
