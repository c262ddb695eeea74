//! Protocol v2 between host and guest agent: frames with CBOR maps, and raw file data between them.
//!
//! A channel is any byte stream to the agent. It begins with a [`preamble`], then frames follow in both directions;
//! file data goes unframed, its length announced by an [`Entry`]. The text another implementation is written from is
//! `docs/formats/protocol-v2.md`.

mod entry;
mod error_code;
mod frame;
mod kind;
pub mod preamble;
mod reply;
mod request;
mod session_id;
#[cfg(test)]
mod tests;
mod transfer;

pub use entry::{Done, Entry, EntryKind, InvalidEntry, MAX_SEGMENTS, Segment, Status, Trailer};
pub use error_code::{ErrorCode, Fault};
pub use frame::{
    DecodeError, Frame, FrameReader, MAX_PAYLOAD, ReadError, encode_frame, parse_frame,
};
pub use kind::Kind;
pub use reply::{
    Exit, Hello, Listening, Output, Ready, Reply, SessionInfo, Sessions, Started, StatReply,
    StdinAck, StreamName,
};
pub use request::{
    Ack, Attach, Exec, Get, Listen, Put, Request, Shutdown, ShutdownMode, Signal, Stat, Stdin,
    StdinEof, WindowSize,
};
pub use session_id::SessionId;
pub use transfer::Transfer;
