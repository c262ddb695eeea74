//! A client of QEMU's machine protocol (QMP).
//!
//! Source: QEMU 7.2, `docs/interop/qmp-spec.txt`: JSON objects, one a line; a greeting; then
//! commands with ids, replies that repeat them, and events in between.

mod connection;
mod message;

pub(crate) use connection::{Commander, Lines, Listener, handshake};
pub(crate) use message::{Event, Message, Version};
