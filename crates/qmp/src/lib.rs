//! QEMU's machine protocol (QMP).
//!
//! Source: QEMU 7.2, `docs/interop/qmp-spec.txt`: JSON objects, one a line; a greeting; then commands with ids, replies
//! that repeat them, and events in between.
//!
//! [`Client`] asks one question at a time. Whoever needs commands and events on two threads builds on [`Lines`],
//! [`Message`] and [`handshake`].

mod client;
mod lines;
mod message;

pub use client::{Client, ClientError};
pub use lines::{Lines, handshake, next_before, send};
pub use message::{Event, Message, Refusal, Version};
