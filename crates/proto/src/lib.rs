//! What the parts of BandSox say to each other.
//!
//! - [`v2`]: host ↔ guest agent, binary, the default (`docs/formats/protocol-v2.md`).
//! - [`v1`]: host ↔ guest agent, JSON lines, the migration guide's (`docs/formats/protocol-v1.md`).
//! - [`control`]: client ↔ monitor of one VM, one JSON object per packet.
//! - [`mux`]: many streams over one serial line.
//!
//! Everything that arrives here was written by somebody else, mostly by a hostile guest: no length is believed before
//! it is bounded, and nothing panics on any input.

mod byte_string;
mod chain;
pub mod control;
mod list;
pub mod mux;
pub mod v1;
pub mod v2;

pub use byte_string::ByteString;
pub use chain::chain;
