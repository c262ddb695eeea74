//! Many byte streams over one serial line: virtio-serial port or UART.
//!
//! [`Mux`] is the state machine, without I/O, the same on both ends; [`Link`] drives one over a descriptor with a thread
//! and hands each stream out as one end of a unix socket pair. The bytes are described in `docs/formats/protocol-v2.md`.
//!
//! ```text
//!          Hello ⇄ Hello (epochs agree)            frame lost, or a Hello of a new epoch
//!   Down ───────────────────────────────▶ Up ───────────────────────────────────────────▶ Down, all streams reset
//! ```
//!
//! A line may lose or garble bytes: every frame has a CRC and a sequence number, so that loss is noticed, never passed
//! on. Nothing is sent again here; the protocols above reattach or start over.

mod frame;
mod link;
mod machine;
#[cfg(test)]
mod tests;

pub use frame::{FrameKind, MAGIC, MAX_DATA};
pub use link::{Arrival, Hangup, Link, OpenError};
pub use machine::{CONTROL, Event, INITIAL_WINDOW, MAX_STREAMS, Mux, Role, StreamId};
