//! One virtqueue, and when to be told of it and to tell of it.
//!
//! Kicks and interrupts are what a transfer costs the guest besides copying, so both are rare:
//!
//! - The guest is asked for a kick only when the device has nothing left to do ([`Ring::arm`]);
//!   otherwise its avail-event index stays where the guest has already passed it, which is how
//!   `EVENT_IDX` says "no kick".
//! - Used buffers are published as they come, and [`Ring::signal`] looks once per batch whether
//!   the guest wants an interrupt.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::attachment::Vring;
use crate::chain::{BadChain, RxBuffer, TxPacket, rx_buffer, tx_packet};
use crate::stats::Counters;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (section 2.7.6).
const NO_INTERRUPT: u16 = 1;

/// A running virtqueue.
#[derive(Debug)]
pub(crate) struct Ring {
    queue: Queue,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    /// The guest has broken the ring's rules; nothing is taken until it is set up anew.
    broken: bool,
    /// Buffers were given back since the guest was last considered for an interrupt.
    unsignalled: bool,
}

impl Ring {
    pub(crate) fn new(vring: Vring) -> Self {
        let Vring { queue, kick, call } = vring;
        for fd in kick.iter().chain(&call) {
            never_wait(fd);
        }
        Self { queue, kick, call, broken: false, unsignalled: false }
    }

    /// What the guest's kicks arrive on.
    pub(crate) fn kick(&self) -> Option<BorrowedFd<'_>> {
        self.kick.as_ref().map(AsFd::as_fd)
    }

    /// Replaces what interrupts go to.
    pub(crate) fn set_call(&mut self, call: Option<OwnedFd>) {
        call.iter().for_each(never_wait);
        self.call = call;
    }

    /// Entries in the ring.
    pub(crate) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Index of the next entry to take, if `unused` of the taken ones are handed back untouched.
    pub(crate) fn position(&self, unused: usize) -> u16 {
        // Fewer than the ring's size are ever taken and unused, so the count fits.
        self.queue.next_avail().wrapping_sub(u16::try_from(unused).unwrap_or(0))
    }

    /// Takes every receive buffer that the guest has posted.
    pub(crate) fn take_buffers(
        &mut self,
        memory: &GuestMemoryMmap,
        counters: &Counters,
        mut keep: impl FnMut(RxBuffer),
    ) {
        let mut refused = Vec::new();
        if self.broken {
            return;
        }
        match self.queue.iter(memory) {
            Ok(chains) => {
                for chain in chains {
                    let head = chain.head_index();
                    match rx_buffer(chain, memory) {
                        Ok(buffer) => keep(buffer),
                        Err(reason) => refused.push((head, reason)),
                    }
                }
            }
            Err(error) => self.give_up(&error),
        }
        for (head, reason) in refused {
            self.refuse(memory, counters, head, reason);
        }
    }

    /// Takes the next packet that the guest has sent, with its descriptor index.
    pub(crate) fn take_packet(
        &mut self,
        memory: &GuestMemoryMmap,
        counters: &Counters,
    ) -> Option<(u16, TxPacket)> {
        loop {
            if self.broken {
                return None;
            }
            let next = match self.queue.iter(memory) {
                Ok(mut chains) => chains.next(),
                Err(error) => {
                    self.give_up(&error);
                    None
                }
            };
            let chain = next?;
            let head = chain.head_index();
            match tx_packet(chain, memory) {
                Ok(packet) => return Some((head, packet)),
                Err(reason) => self.refuse(memory, counters, head, reason),
            }
        }
    }

    /// Gives a buffer back with `bytes` written into it.
    pub(crate) fn give_back(&mut self, memory: &GuestMemoryMmap, head: u16, bytes: u32) {
        match self.queue.add_used(memory, head, bytes) {
            Ok(()) => self.unsignalled = true,
            Err(error) => self.give_up(&error),
        }
    }

    /// Interrupts the guest if it has asked to be told of what was given back.
    pub(crate) fn signal(&mut self, memory: &GuestMemoryMmap, counters: &Counters) {
        if !std::mem::take(&mut self.unsignalled) || !self.wants_interrupt(memory) {
            return;
        }
        let Some(call) = &self.call else { return };
        // An eventfd refuses only when its count is at the top: then the interrupt is pending.
        if rustix::io::write(call, &1_u64.to_ne_bytes()).is_ok() {
            counters.interrupts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks for a kick on the next entry. True if one is already there and none may come.
    pub(crate) fn arm(&mut self, memory: &GuestMemoryMmap) -> bool {
        !self.broken && self.queue.enable_notification(memory).unwrap_or(false)
    }

    /// Asks for no kicks.
    pub(crate) fn disarm(&mut self, memory: &GuestMemoryMmap) {
        if let Err(error) = self.queue.disable_notification(memory) {
            self.give_up(&error);
        }
    }

    /// Whether the guest has put something in since the last take.
    pub(crate) fn has_more(&self, memory: &GuestMemoryMmap) -> bool {
        !self.broken
            && self
                .queue
                .avail_idx(memory, Ordering::Acquire)
                .is_ok_and(|index| index.0 != self.queue.next_avail())
    }

    fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> bool {
        let by_index = self.queue.needs_notification(memory).unwrap_or(true);
        if self.queue.event_idx_enabled() {
            return by_index;
        }
        let flags = GuestAddress(self.queue.avail_ring());
        memory
            .load::<u16>(flags.unchecked_add(0), Ordering::Relaxed)
            .map_or(true, |flags| u16::from_le(flags) & NO_INTERRUPT == 0)
    }

    fn refuse(
        &mut self,
        memory: &GuestMemoryMmap,
        counters: &Counters,
        head: u16,
        reason: BadChain,
    ) {
        tracing::debug!(head, %reason, "vsock: descriptor chain refused");
        counters.refused.fetch_add(1, Ordering::Relaxed);
        self.give_back(memory, head, 0);
    }

    fn give_up(&mut self, error: &virtio_queue::Error) {
        if !self.broken {
            tracing::warn!(%error, "vsock: the guest broke a virtqueue; it is ignored until reset");
        }
        self.broken = true;
    }
}

/// Whoever made an eventfd may have made it one that waits. The device's thread must not.
fn never_wait(fd: &OwnedFd) {
    let flags = rustix::fs::fcntl_getfl(fd);
    let set = flags.and_then(|flags| rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK));
    if let Err(error) = set {
        tracing::warn!(%error, "vsock: a queue's descriptor cannot be made non-blocking");
    }
}
