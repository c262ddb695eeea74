//! Pieces of guest memory, named by guest address.
//!
//! A span is checked against the memory map when its descriptor is read, and translated again
//! on every use: the map may change in between, and then the use fails instead of reaching
//! memory that is no longer the guest's.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// A run of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) addr: GuestAddress,
    pub(crate) len: u32,
}

/// Runs of guest memory, in order. The usual single one needs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    first: Option<Span>,
    rest: Vec<Span>,
    bytes: u32,
}

/// A piece of memory that a packet names is not the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a descriptor names memory that the guest does not have")]
pub(crate) struct OutsideMemory;

impl Spans {
    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Runs, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.first.iter().chain(&self.rest).copied()
    }

    /// Number of runs.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Adds a run at the end. An empty one adds nothing.
    ///
    /// Runs whose sum passes 2^32 - 1 bytes are refused.
    pub(crate) fn push(&mut self, span: Span) -> Result<(), OutsideMemory> {
        if span.len == 0 {
            return Ok(());
        }
        self.bytes = self.bytes.checked_add(span.len).ok_or(OutsideMemory)?;
        match self.first {
            None => self.first = Some(span),
            Some(_) => self.rest.push(span),
        }
        Ok(())
    }

    /// Splits into the first `bytes` bytes and what follows them.
    pub(crate) fn split(self, bytes: u32) -> (Self, Self) {
        let (mut front, mut back) = (Self::default(), Self::default());
        let mut wanted = bytes;
        for span in self.iter() {
            let here = span.len.min(wanted);
            wanted -= here;
            // Neither half can pass the bytes of the whole, and no address leaves the span.
            let joined = front.push(Span { addr: span.addr, len: here }).and_then(|()| {
                back.push(Span {
                    addr: GuestAddress(span.addr.0.wrapping_add(u64::from(here))),
                    len: span.len - here,
                })
            });
            debug_assert!(joined.is_ok(), "a half is larger than the whole");
        }
        (front, back)
    }

    /// Whether all of it is memory that the guest has.
    pub(crate) fn lies_in(&self, memory: &GuestMemoryMmap) -> bool {
        self.iter().all(|span| {
            usize::try_from(span.len)
                .is_ok_and(|len| GuestMemoryBackend::check_range(memory, span.addr, len))
        })
    }

    /// Copies bytes out of guest memory, as many as both sides have.
    pub(crate) fn read(
        &self,
        memory: &GuestMemoryMmap,
        into: &mut [u8],
    ) -> Result<usize, OutsideMemory> {
        let mut done = 0;
        for span in self.iter() {
            let len = usize::try_from(span.len).map_err(|_| OutsideMemory)?;
            let end = into.len().min(done + len);
            let Some(part) = into.get_mut(done..end) else { break };
            memory.read_slice(part, span.addr).map_err(|_| OutsideMemory)?;
            done = end;
        }
        Ok(done)
    }

    /// Copies bytes into guest memory, as many as both sides have.
    pub(crate) fn write(
        &self,
        memory: &GuestMemoryMmap,
        from: &[u8],
    ) -> Result<usize, OutsideMemory> {
        let mut done = 0;
        for span in self.iter() {
            let len = usize::try_from(span.len).map_err(|_| OutsideMemory)?;
            let end = from.len().min(done + len);
            let Some(part) = from.get(done..end) else { break };
            memory.write_slice(part, span.addr).map_err(|_| OutsideMemory)?;
            done = end;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(parts: &[(u64, u32)]) -> Spans {
        let mut spans = Spans::default();
        for &(addr, len) in parts {
            spans.push(Span { addr: GuestAddress(addr), len }).expect("small sums");
        }
        spans
    }

    #[test]
    fn a_split_inside_a_run_keeps_every_byte_once() {
        let (front, back) = spans(&[(0x100, 40), (0x200, 60)]).split(44);

        assert_eq!(front, spans(&[(0x100, 40), (0x200, 4)]));
        assert_eq!(back, spans(&[(0x204, 56)]));
    }

    #[test]
    fn a_sum_of_lengths_past_32_bits_is_refused() {
        let mut long = spans(&[(0, u32::MAX)]);

        assert_eq!(long.push(Span { addr: GuestAddress(0), len: 1 }), Err(OutsideMemory));
    }

    #[test]
    fn memory_that_ends_early_is_noticed() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).expect("a page");

        assert!(spans(&[(0xff0, 16)]).lies_in(&memory));
        assert!(!spans(&[(0xff0, 17)]).lies_in(&memory));
        assert_eq!(spans(&[(0xff0, 17)]).write(&memory, &[1; 17]), Err(OutsideMemory));
    }
}
