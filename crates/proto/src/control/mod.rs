//! Client ↔ monitor: one JSON object per packet of a unix `SOCK_SEQPACKET` socket, descriptors beside it.
//!
//! The client's first packet is a [`ClientHello`], answered by a [`MonitorHello`]; then [`Request`]s and [`Reply`]s.
//! A packet has at most [`MAX_PACKET`] bytes. Which requests and replies carry a descriptor (`SCM_RIGHTS`) is said at
//! each [`Op`].

mod path;
mod reply;
mod request;

pub use path::PathB64;
pub use reply::{
    AgentInfo, ControlError, Fetched, Nothing, Opened, Outcome, Progress, Reply, Status, Stored,
};
pub use request::{
    Chosen, ClientHello, MonitorHello, Op, Request, TransferEvent, Transport, Versions,
};

/// Longest packet, in bytes.
pub const MAX_PACKET: usize = 64 * 1024;

/// The version of this protocol.
pub const VERSION: u32 = 1;
