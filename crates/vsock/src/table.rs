//! The connections that exist, by identity and by ports.

use std::collections::HashMap;

use crate::connection::Connection;

/// One connection, for as long as it lives; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId {
    index: u32,
    generation: u32,
}

/// What tells connections apart on the wire. The CIDs are always the guest's and the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    pub(crate) guest: u32,
    pub(crate) host: u32,
}

impl ConnectionId {
    /// As a number of 63 bits, for the poller.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation & GENERATIONS) << 32 | u64::from(self.index)
    }

    /// Back from the number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        Self { index: half(bits), generation: half(bits >> 32) & GENERATIONS }
    }
}

/// Generations wrap here: the poller's numbers have no room for more.
const GENERATIONS: u32 = 0xff_ffff;

/// All connections.
///
/// Invariant: `by_ports` names exactly the connections that the guest may still send to. Those
/// that only flush are in `slots` alone, so that the guest may use their ports again.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_ports: HashMap<Ports, ConnectionId>,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Table {
    /// Connections of every kind.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a connection. `None`, and nothing is added, if there are `limit` or its ports are
    /// taken.
    pub(crate) fn insert(&mut self, connection: Connection, limit: usize) -> Option<ConnectionId> {
        if self.len() >= limit || self.by_ports.contains_key(&connection.ports) {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, connection: None });
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let slot = self.slots.get_mut(usize::try_from(index).ok()?)?;
        let id = ConnectionId { index, generation: slot.generation };
        self.by_ports.insert(connection.ports, id);
        slot.connection = Some(connection);
        Some(id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        if slot.generation == id.generation { slot.connection.as_mut() } else { None }
    }

    /// The connection that a packet with these ports belongs to.
    pub(crate) fn find(&self, ports: Ports) -> Option<ConnectionId> {
        self.by_ports.get(&ports).copied()
    }

    /// Hides a connection from the guest.
    pub(crate) fn unlist(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let ports = connection.ports;
        if self.by_ports.get(&ports) == Some(&id) {
            self.by_ports.remove(&ports);
        }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.unlist(id);
        let slot = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        if slot.generation != id.generation {
            return None;
        }
        let gone = slot.connection.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATIONS;
        self.free.push(id.index);
        Some(gone)
    }

    /// Identities of all connections.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let present = self.slots.iter().zip(0_u32..).filter(|(slot, _)| slot.connection.is_some());
        present.map(|(slot, index)| ConnectionId { index, generation: slot.generation }).collect()
    }
}
