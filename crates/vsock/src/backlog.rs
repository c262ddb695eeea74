//! Bytes from the guest that their receiver would not take at once.

use vm_memory::GuestMemoryMmap;

use crate::span::{OutsideMemory, Spans};

/// A queue of bytes. Its bound is the connection's credit: the guest cannot send more than the
/// window, and every byte that waits here still counts against it.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    start: usize,
}

impl Backlog {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Copies `spans` to the end.
    pub(crate) fn append(
        &mut self,
        memory: &GuestMemoryMmap,
        spans: &Spans,
    ) -> Result<(), OutsideMemory> {
        let more = usize::try_from(spans.bytes()).map_err(|_| OutsideMemory)?;
        self.compact();
        let end = self.bytes.len();
        self.bytes.resize(end.saturating_add(more), 0);
        let read = self.bytes.get_mut(end..).map(|room| spans.read(memory, room));
        if !matches!(read, Some(Ok(read)) if read == more) {
            self.bytes.truncate(end);
            return Err(OutsideMemory);
        }
        Ok(())
    }

    /// Copies `spans` to the front.
    pub(crate) fn prepend(
        &mut self,
        memory: &GuestMemoryMmap,
        spans: &Spans,
    ) -> Result<(), OutsideMemory> {
        if spans.bytes() == 0 {
            return Ok(());
        }
        let behind = self.take();
        self.append(memory, spans)?;
        self.bytes.extend_from_slice(&behind);
        Ok(())
    }

    /// Forgets the first `bytes` bytes.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.bytes.len());
        if self.is_empty() {
            // A burst's memory is not kept for the connection's life.
            *self = Self::default();
        }
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(self);
        all.bytes.drain(..all.start);
        all.bytes
    }

    fn compact(&mut self) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}
