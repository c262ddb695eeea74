//! One queue as QEMU describes it, piece by piece.

use std::os::fd::OwnedFd;

use bandsox_vsock::Vring;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::memory::MemoryTable;

/// Entries that a queue has at most. QEMU's vsock device uses 128.
const MOST_ENTRIES: u16 = 1024;

/// What is known of a queue so far.
#[derive(Debug, Default)]
pub(super) struct VringSetup {
    pub(super) entries: u16,
    /// Addresses in QEMU's address space.
    pub(super) rings: Option<Rings>,
    /// Next entry of the available ring.
    pub(super) base: u16,
    /// The queue runs from the moment that this is set. `Some(None)`: it runs without kicks.
    pub(super) kick: Option<Option<OwnedFd>>,
    pub(super) call: Option<OwnedFd>,
    pub(super) enabled: bool,
}

/// Where a queue's three parts are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rings {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl VringSetup {
    /// Whether all is known that the device needs.
    pub(super) fn is_ready(&self) -> bool {
        self.enabled && self.kick.is_some() && self.rings.is_some() && self.entries > 0
    }

    /// Takes note of the queue's size; false if it is no size.
    pub(super) fn set_entries(&mut self, entries: u32) -> bool {
        match u16::try_from(entries) {
            Ok(entries) if entries.is_power_of_two() && entries <= MOST_ENTRIES => {
                self.entries = entries;
                true
            }
            _ => false,
        }
    }

    /// The queue for the device, with duplicates of its descriptors. `None` if its addresses are
    /// not in memory, or no descriptors are left.
    pub(super) fn build(&self, memory: &MemoryTable, event_idx: bool) -> Option<Vring> {
        let rings = self.rings?;
        let at = |address| memory.guest_address(address).map(GuestAddress);
        let mut queue = Queue::new(MOST_ENTRIES).ok()?;
        queue.try_set_size(self.entries).ok()?;
        queue.try_set_desc_table_address(at(rings.descriptors)?).ok()?;
        queue.try_set_avail_ring_address(at(rings.available)?).ok()?;
        queue.try_set_used_ring_address(at(rings.used)?).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_next_avail(self.base);
        // The front end does not say where the used ring stands; the ring itself does.
        let used = queue.used_idx(&*memory.guest, std::sync::atomic::Ordering::Acquire).ok()?;
        queue.set_next_used(used.0);
        queue.set_ready(true);
        let duplicate = |fd: &OwnedFd| fd.try_clone().ok();
        let kick = match self.kick.as_ref()? {
            Some(kick) => Some(duplicate(kick)?),
            None => None,
        };
        let call = match &self.call {
            Some(call) => Some(duplicate(call)?),
            None => None,
        };
        Some(Vring { queue, kick, call })
    }
}
