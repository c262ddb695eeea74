//! A split virtqueue from the driver's side.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use bandsox_vsock::Vring;
use rustix::event::EventfdFlags;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// How the two sides tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notifications {
    /// `EVENT_IDX`: each says at which index it wants to hear.
    EventIdx,
    /// Flags: each says whether it wants to hear.
    Flags,
}

/// One descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) writable: bool,
}

/// A chain that the device has given back.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) parts: Vec<Part>,
}

/// The driver's queue.
pub(crate) struct DriverQueue {
    memory: Arc<GuestMemoryMmap>,
    entries: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    notifications: Notifications,
    kick: OwnedFd,
    call: OwnedFd,
    free: VecDeque<u16>,
    chains: HashMap<u16, Vec<u16>>,
    parts: HashMap<u16, Vec<Part>>,
    added: u16,
    kicked_at: u16,
    taken: u16,
    pub(crate) kicks: u64,
    pub(crate) interrupts: u64,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;

impl DriverQueue {
    pub(crate) fn new(
        memory: Arc<GuestMemoryMmap>,
        at: u64,
        entries: u16,
        notifications: Notifications,
    ) -> Self {
        let eventfd = || {
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .expect("an eventfd")
        };
        Self {
            memory,
            entries,
            descriptors: at,
            available: at + 0x4000,
            used: at + 0x8000,
            notifications,
            kick: eventfd(),
            call: eventfd(),
            free: (0..entries).collect(),
            chains: HashMap::new(),
            parts: HashMap::new(),
            added: 0,
            kicked_at: 0,
            taken: 0,
            kicks: 0,
            interrupts: 0,
        }
    }

    /// The device's side of it.
    pub(crate) fn vring(&self, position: u16) -> Vring {
        let mut queue = Queue::new(1024).expect("a size");
        queue.try_set_size(self.entries).expect("a size");
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).expect("aligned");
        queue.try_set_avail_ring_address(GuestAddress(self.available)).expect("aligned");
        queue.try_set_used_ring_address(GuestAddress(self.used)).expect("aligned");
        queue.set_event_idx(self.notifications == Notifications::EventIdx);
        queue.set_next_avail(position);
        queue.set_next_used(self.load(self.used + 2));
        queue.set_ready(true);
        Vring {
            queue,
            kick: Some(self.kick.try_clone().expect("a descriptor")),
            call: Some(self.call.try_clone().expect("a descriptor")),
        }
    }

    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Descriptor that the next chain begins with.
    pub(crate) fn next_head(&self) -> u16 {
        *self.free.front().expect("a free descriptor")
    }

    /// Makes a chain available. Returns its head.
    pub(crate) fn add(&mut self, parts: &[Part]) -> u16 {
        let indices: Vec<u16> = self.free.drain(..parts.len()).collect();
        for (nth, (part, index)) in parts.iter().zip(&indices).enumerate() {
            let next = indices.get(nth + 1).copied();
            let flags =
                if next.is_some() { NEXT } else { 0 } | if part.writable { WRITE } else { 0 };
            self.write_descriptor(*index, part.at, part.len, flags, next.unwrap_or(0));
        }
        self.parts.insert(indices[0], parts.to_vec());
        let head = indices[0];
        self.chains.insert(head, indices);
        self.make_available(head);
        head
    }

    /// Writes one descriptor, right or wrong.
    pub(crate) fn write_descriptor(&self, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        let entry = self.descriptors + u64::from(index) * 16;
        self.memory.write_obj(at, GuestAddress(entry)).expect("in memory");
        self.memory.write_obj(len, GuestAddress(entry + 8)).expect("in memory");
        self.memory.write_obj(flags, GuestAddress(entry + 12)).expect("in memory");
        self.memory.write_obj(next, GuestAddress(entry + 14)).expect("in memory");
    }

    /// Puts a head into the available ring.
    pub(crate) fn make_available(&mut self, head: u16) {
        let slot = self.available + 4 + u64::from(self.added % self.entries) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).expect("in memory");
        self.added = self.added.wrapping_add(1);
        self.set_available(self.added);
    }

    /// Sets the available ring's index, right or wrong.
    pub(crate) fn set_available(&self, index: u16) {
        let at = GuestAddress(self.available + 2);
        self.memory.store(index, at, Ordering::Release).expect("in memory");
    }

    /// Kicks, if the device wants to hear.
    pub(crate) fn kick_if_wanted(&mut self) {
        fence(Ordering::SeqCst);
        let wanted = match self.notifications {
            Notifications::EventIdx => {
                let event = self.load(self.used + 4 + u64::from(self.entries) * 8);
                self.added.wrapping_sub(event).wrapping_sub(1)
                    < self.added.wrapping_sub(self.kicked_at)
            }
            Notifications::Flags => self.load(self.used) & 1 == 0,
        };
        self.kicked_at = self.added;
        if wanted {
            self.kick();
        }
    }

    pub(crate) fn kick(&mut self) {
        self.kicks += 1;
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).expect("a kick");
    }

    /// Says that no interrupts are wanted (or that they are), by flag.
    pub(crate) fn set_no_interrupt(&self, unwanted: bool) {
        let flags = u16::from(unwanted);
        self.memory.write_obj(flags, GuestAddress(self.available)).expect("in memory");
    }

    /// Takes what the device has given back, and asks to be told of more.
    pub(crate) fn take_used(&mut self) -> Vec<Used> {
        let mut all = Vec::new();
        loop {
            while self.taken != self.load(self.used + 2) {
                let slot = self.used + 4 + u64::from(self.taken % self.entries) * 8;
                let id: u32 = self.memory.read_obj(GuestAddress(slot)).expect("in memory");
                let len: u32 = self.memory.read_obj(GuestAddress(slot + 4)).expect("in memory");
                self.taken = self.taken.wrapping_add(1);
                let id = u16::try_from(id).expect("an index");
                let parts = self.parts.remove(&id).unwrap_or_default();
                self.free.extend(self.chains.remove(&id).unwrap_or_default());
                all.push(Used { at: parts.first().map_or(0, |part| part.at), len, parts });
            }
            let event = self.available + 4 + u64::from(self.entries) * 2;
            self.memory.write_obj(self.taken, GuestAddress(event)).expect("in memory");
            fence(Ordering::SeqCst);
            if self.taken == self.load(self.used + 2) {
                return all;
            }
        }
    }

    /// Waits for an interrupt, for as long as `patience`.
    pub(crate) fn wait_for_interrupt(&mut self, patience: Duration) {
        super::wait_readable(&self.call, patience);
        let mut count = [0; 8];
        if rustix::io::read(&self.call, &mut count).is_ok() {
            self.interrupts += u64::from_ne_bytes(count);
        }
    }

    fn load(&self, at: u64) -> u16 {
        self.memory.load(GuestAddress(at), Ordering::Acquire).expect("in memory")
    }
}
