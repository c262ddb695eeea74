//! A guest's memory and queues, small, and honest only where it is asked to be.

use std::sync::Arc;

use bandsox_vsock::spec::HEADER_LEN;
use bandsox_vsock::{Attachment, Driver, Header, Positions, Vring};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const MEMORY: u64 = 1 << 20;
const SIZE: u16 = 32;

/// A descriptor as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Where a queue lies, and how far its honest driver has come.
struct Rings {
    at: u64,
    next_descriptor: u16,
    available: u16,
    used: u16,
}

impl Rings {
    fn new(at: u64) -> Self {
        Self { at, next_descriptor: 0, available: 0, used: 0 }
    }

    fn avail_ring(&self) -> u64 {
        self.at + 0x400
    }

    fn used_ring(&self) -> u64 {
        self.at + 0x800
    }
}

pub(crate) struct Guest {
    memory: Arc<GuestMemoryMmap>,
    rx: Rings,
    tx: Rings,
    event_idx: bool,
    /// Next place for a packet or a buffer.
    buffers: u64,
    /// The guest has written into the used rings itself: what is there proves nothing.
    scribbled: bool,
}

impl Guest {
    pub(crate) fn new(setup: u8) -> Self {
        let range = (GuestAddress(0), usize::try_from(MEMORY).expect("small"));
        let memory = GuestMemoryMmap::from_ranges(&[range]).expect("memory");
        Self {
            memory: Arc::new(memory),
            rx: Rings::new(0x1000),
            tx: Rings::new(0x2000),
            event_idx: setup & 1 != 0,
            buffers: 0x1_0000,
            scribbled: false,
        }
    }

    pub(crate) fn attachment(&self, driver: Driver, at: Option<Positions>) -> Attachment {
        let at = at.filter(|_| driver == Driver::Resumed).unwrap_or(Positions { rx: 0, tx: 0 });
        Attachment {
            guest_cid: 3,
            memory: Arc::clone(&self.memory),
            rx: self.vring(&self.rx, at.rx),
            tx: self.vring(&self.tx, at.tx),
            driver,
        }
    }

    fn vring(&self, rings: &Rings, at: u16) -> Vring {
        let mut queue = Queue::new(SIZE).expect("a power of two");
        let address = |at: u64| (Some(u32::try_from(at).expect("small")), Some(0));
        let (low, high) = address(rings.at);
        queue.set_desc_table_address(low, high);
        let (low, high) = address(rings.avail_ring());
        queue.set_avail_ring_address(low, high);
        let (low, high) = address(rings.used_ring());
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(self.event_idx);
        queue.set_next_avail(at);
        queue.set_next_used(at);
        queue.set_ready(true);
        Vring { queue, kick: None, call: None }
    }

    /// Writes anywhere in the low part of memory, where the queues are.
    pub(crate) fn scribble(&mut self, at: u64, bytes: &[u8]) {
        self.scribbled = true;
        self.memory.write_slice(bytes, GuestAddress(at)).expect("in memory");
    }

    pub(crate) fn write_descriptor(&mut self, is_rx: bool, index: u64, part: Part) {
        let rings = if is_rx { &self.rx } else { &self.tx };
        let at = GuestAddress(rings.at + index % u64::from(SIZE) * 16);
        let Part { at: address, len, flags, next } = part;
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        self.memory.write_slice(&bytes, at).expect("in memory");
    }

    pub(crate) fn make_available(&mut self, is_rx: bool, head: u16) {
        let rings = if is_rx { &mut self.rx } else { &mut self.tx };
        let slot = rings.avail_ring() + 4 + u64::from(rings.available % SIZE) * 2;
        rings.available = rings.available.wrapping_add(1);
        let (index, ring) = (rings.available, rings.avail_ring());
        self.memory.write_obj(head, GuestAddress(slot)).expect("in memory");
        self.memory.write_obj(index, GuestAddress(ring + 2)).expect("in memory");
    }

    /// A packet of a header and `length` bytes, in one descriptor or in two or three.
    pub(crate) fn send(&mut self, header: &Header, length: u32, split: u8) {
        let at = self.place(u64::from(HEADER_LEN + length));
        self.memory.write_slice(&header.to_bytes(), GuestAddress(at)).expect("in memory");
        let lengths = match split {
            0 => vec![HEADER_LEN + length],
            1 => vec![HEADER_LEN, length],
            2 => vec![HEADER_LEN / 2, HEADER_LEN / 2 + length],
            _ => vec![HEADER_LEN, length / 2, length - length / 2],
        };
        self.chain(false, at, &lengths, 0);
    }

    /// A receive buffer with `length` bytes for payload.
    pub(crate) fn post_buffer(&mut self, length: u32, split: u8) {
        let at = self.place(u64::from(HEADER_LEN + length));
        let lengths = match split {
            0 => vec![HEADER_LEN + length],
            1 => vec![HEADER_LEN, length],
            2 => vec![1, HEADER_LEN + length],
            _ => vec![length],
        };
        self.chain(true, at, &lengths, WRITE);
    }

    fn chain(&mut self, is_rx: bool, mut at: u64, lengths: &[u32], flags: u16) {
        let rings = if is_rx { &mut self.rx } else { &mut self.tx };
        let head = rings.next_descriptor % SIZE;
        rings.next_descriptor =
            rings.next_descriptor.wrapping_add(u16::try_from(lengths.len()).expect("a few"));
        for (part, len) in (0..).zip(lengths) {
            let index = head.wrapping_add(part) % SIZE;
            let is_last = usize::from(part) + 1 == lengths.len();
            let flags = if is_last { flags } else { flags | NEXT };
            let part = Part { at, len: *len, flags, next: (index + 1) % SIZE };
            self.write_descriptor(is_rx, index.into(), part);
            at += u64::from(*len);
        }
        self.make_available(is_rx, head);
    }

    fn place(&mut self, length: u64) -> u64 {
        if self.buffers + length > MEMORY {
            self.buffers = 0x1_0000;
        }
        let at = self.buffers;
        self.buffers += length;
        at
    }

    /// What the device gave back is taken note of, as a driver does, who then wants to hear of the next.
    pub(crate) fn take_used(&mut self) {
        for rings in [&mut self.rx, &mut self.tx] {
            let used = GuestAddress(rings.used_ring() + 2);
            rings.used = self.memory.read_obj(used).expect("in memory");
            let event = GuestAddress(rings.avail_ring() + 4 + u64::from(SIZE) * 2);
            self.memory.write_obj(rings.used, event).expect("in memory");
        }
    }

    /// Of a driver that left the rings alone, the device gives back no more than it was given, and what exists.
    pub(crate) fn check_used(&self) {
        if self.scribbled {
            return;
        }
        for rings in [&self.rx, &self.tx] {
            let used = GuestAddress(rings.used_ring() + 2);
            let index: u16 = self.memory.read_obj(used).expect("in memory");
            assert!(rings.available.wrapping_sub(index) < 0x8000, "more is used than available");
        }
    }
}
