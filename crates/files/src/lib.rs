//! Files v2: trees read from and written to a disk, safely, on both sides of a channel.
//!
//! The agent uses this as root inside the guest, the client as an ordinary user on the host; the stream between them is
//! the same in both directions (`docs/formats/protocol-v2.md`). [`send()`] reads a [`Source`] and writes entries;
//! [`receive()`] reads entries and puts them in place at a [`Target`].
//!
//! What arrives is hostile. Every name is one component opened beneath the directory that the stream itself opened,
//! never through a symbolic link; every file is complete and verified under a temporary name before it takes its own.

mod error;
mod fault;
mod incoming;
mod leftovers;
mod receive;
mod segments;
mod send;
mod source;
mod stat;
mod target;
#[cfg(test)]
mod tests;

pub use error::{Action, FileError, ReceiveError, SendError};
pub use fault::{error_code, fault};
pub use incoming::{Incoming, Metadata};
pub use receive::{Limits, ReceiveOptions, Staging, receive};
pub use segments::data_segments;
pub use send::{SendOptions, send};
pub use source::{OpenFile, Source};
pub use stat::stat;
pub use target::{Parents, Target};

use std::ops::ControlFlow;

/// Called with the number of bytes moved since the call before; may stop the transfer.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// What happens to owner and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// They are sent, and set on what arrives.
    Keep,
    /// What arrives belongs to whoever writes it.
    Ignore,
}

/// Files up to this many bytes are read whole before they are announced, so that their size is always true, even in
/// `/proc`; and they travel in one piece with their frame.
pub const SMALL: usize = 64 * 1024;

/// Bytes per read and write of a large file.
pub(crate) const BUFFER: usize = 256 * 1024;

/// Deepest nesting below the target; each level holds one descriptor.
pub const MAX_DEPTH: usize = 256;
