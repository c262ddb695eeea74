//! The guest's side: its memory and queues while it is attached.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::GuestMemoryMmap;

use crate::attachment::{Attachment, Positions};
use crate::chain::RxBuffer;
use crate::connection::Connection;
use crate::header::Header;
use crate::ring::Ring;
use crate::spec::{HEADER_LEN, Op};
use crate::stats::Counters;
use crate::table::Ports;

/// An attached guest.
pub(crate) struct Link {
    pub(crate) guest_cid: u64,
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) rx: Ring,
    pub(crate) tx: Ring,
    /// Receive buffers taken from the ring and not used yet: always the ones taken last, in
    /// order, so that they can be handed back by moving the ring's position.
    pub(crate) pool: VecDeque<RxBuffer>,
    /// Transmit descriptors that are done with and not given back yet.
    pub(crate) finished: Vec<u16>,
    /// Descriptors that were taken since transmit descriptors were last given back, at most.
    pub(crate) finished_descriptors: usize,
}

impl Link {
    pub(crate) fn new(attachment: Attachment) -> Self {
        let Attachment { guest_cid, memory, rx, tx, driver: _ } = attachment;
        Self {
            guest_cid: u64::from(guest_cid),
            memory,
            rx: Ring::new(rx),
            tx: Ring::new(tx),
            pool: VecDeque::new(),
            finished: Vec::new(),
            finished_descriptors: 0,
        }
    }

    /// Takes what receive buffers the guest has posted.
    pub(crate) fn refill(&mut self, counters: &Counters) {
        let Self { memory, rx, pool, .. } = self;
        if pool.len() < usize::from(rx.size()) {
            rx.take_buffers(memory, counters, |buffer| pool.push_back(buffer));
        }
    }

    /// Puts one packet into `buffer` and gives it to the guest. The payload is there already.
    pub(crate) fn put(&mut self, buffer: &RxBuffer, mut header: Header, counters: &Counters) {
        header.dst_cid = self.guest_cid;
        let written = buffer.header.write(&self.memory, &header.to_bytes());
        // Memory that went away under a buffer: the guest gets it back empty.
        let bytes = if written.is_ok() { HEADER_LEN.saturating_add(header.len) } else { 0 };
        self.rx.give_back(&self.memory, buffer.head, bytes);
        counters.packets_to_guest.fetch_add(1, Ordering::Relaxed);
        counters.bytes_to_guest.fetch_add(u64::from(header.len), Ordering::Relaxed);
    }

    /// Puts one packet of a connection into `buffer`, with what there is to say about credit.
    pub(crate) fn put_for(
        &mut self,
        connection: &mut Connection,
        buffer: &RxBuffer,
        packet: Packet,
        counters: &Counters,
    ) {
        let Ports { guest, host } = connection.ports;
        let (buf_alloc, fwd_cnt) = connection.credit.tell();
        connection.owed.settle(packet.op);
        let header = Header {
            len: packet.len,
            flags: packet.flags,
            buf_alloc,
            fwd_cnt,
            ..Header::to_guest(self.guest_cid, host, guest, packet.op)
        };
        self.put(buffer, header, counters);
    }

    /// Gives finished transmit descriptors back.
    pub(crate) fn give_back_finished(&mut self) {
        let Self { memory, tx, finished, finished_descriptors, .. } = self;
        *finished_descriptors = 0;
        for head in finished.drain(..) {
            tx.give_back(memory, head, 0);
        }
    }

    /// Interrupts the guest for what it wants to know of.
    pub(crate) fn signal(&mut self, counters: &Counters) {
        self.rx.signal(&self.memory, counters);
        self.tx.signal(&self.memory, counters);
    }

    /// Ends the device's use of the queues.
    pub(crate) fn close(mut self, counters: &Counters) -> Positions {
        self.give_back_finished();
        self.signal(counters);
        Positions { rx: self.rx.position(self.pool.len()), tx: self.tx.position(0) }
    }
}

/// What distinguishes one packet of a connection from the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) op: Op,
    pub(crate) flags: u32,
    pub(crate) len: u32,
}

impl Packet {
    /// One without payload or flags.
    pub(crate) fn bare(op: Op) -> Self {
        Self { op, flags: 0, len: 0 }
    }
}
