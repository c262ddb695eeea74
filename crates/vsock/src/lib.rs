//! The virtio socket device: byte streams between host and guest.
//!
//! ```text
//!   Handle ── commands ──▶ Device (one thread) ◀── kicks ── guest's queues
//!     │                       │  sockets, files ⇄ guest memory
//!   Stream ◀── socket pair ───┘  interrupts ──▶ guest
//! ```
//!
//! A [`Handle`] is the device; an [`Attachment`] is what it needs of a machine (memory, two
//! queues, a way to signal) and comes from whatever runs the guest: a vhost-user front, or a
//! machine in this process. Devices exist without a guest, and a guest may be taken away and
//! given again, with another address, while the handle and its listeners stay.
//!
//! Bytes are copied once: from the guest's buffers into a socket or a file, or the other way
//! round, with one system call for many buffers. Kicks and interrupts are rare; `worker.rs` and
//! `ring.rs` say how.
//!
//! The guest is hostile. Nothing that it puts into its memory makes this crate panic, wait for
//! it, or use memory without bound.
//!
//! Source of everything on the wire: VIRTIO 1.2, sections 2.7 and 5.10.

mod attachment;
mod backlog;
mod chain;
mod connection;
mod credit;
mod device;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod header;
mod mailbox;
mod pace;
mod poller;
mod ring;
mod span;
pub mod spec;
mod stats;
mod stream;
mod table;
mod transfer;
mod unix;
mod vectored;
mod worker;

pub use attachment::{AttachError, Attachment, Driver, Positions, QueueKind, Vring};
pub use handle::{ConnectError, Handle, ListenError, ListenGuard};
pub use header::Header;
pub use stats::Stats;
pub use stream::{Breaker, SpliceError, Stream};
