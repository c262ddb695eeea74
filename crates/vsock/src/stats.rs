//! What the device has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the device was made; see [`Handle::stats`](crate::Handle::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Packets put into guest memory.
    pub packets_to_guest: u64,
    /// Packets taken from guest memory.
    pub packets_from_guest: u64,
    /// Payload bytes put into guest memory.
    pub bytes_to_guest: u64,
    /// Payload bytes taken from guest memory.
    pub bytes_from_guest: u64,
    /// Times that the guest kicked a queue.
    pub kicks: u64,
    /// Times that the guest was interrupted.
    pub interrupts: u64,
    /// Descriptor chains and packets that broke a rule.
    pub refused: u64,
    /// Connections that exist now, those that only flush what the guest sent included.
    pub connections: u64,
}

/// The live counts: written by the device's thread, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) packets_to_guest: AtomicU64,
    pub(crate) packets_from_guest: AtomicU64,
    pub(crate) bytes_to_guest: AtomicU64,
    pub(crate) bytes_from_guest: AtomicU64,
    pub(crate) kicks: AtomicU64,
    pub(crate) interrupts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        let Self {
            packets_to_guest,
            packets_from_guest,
            bytes_to_guest,
            bytes_from_guest,
            kicks,
            interrupts,
            refused,
            connections,
        } = self;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            packets_to_guest: load(packets_to_guest),
            packets_from_guest: load(packets_from_guest),
            bytes_to_guest: load(bytes_to_guest),
            bytes_from_guest: load(bytes_from_guest),
            kicks: load(kicks),
            interrupts: load(interrupts),
            refused: load(refused),
            connections: load(connections),
        }
    }
}
