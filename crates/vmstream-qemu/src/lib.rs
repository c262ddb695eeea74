//! QEMU's migration stream: read, taken apart to the last field, and written again.
//!
//! ```text
//! Read ──▶ Reader ──▶ Event, Event, … ──▶ Writer ──▶ Write
//!             │            ├─ Ram(record)          pages as they come
//!             │            ├─ Device(&Structure)   the tree of a section's body
//!             │            └─ Opaque(bytes)        what nothing explains
//!             └─ each event with its range of bytes; the ranges tile the stream
//! ```
//!
//! A body has no length in the stream. It is found by QEMU's description, which follows the state; by a description
//! from elsewhere ([`Reader::with_description`]); or by the footer behind it. What the description leaves opaque,
//! virtio devices above all, is read by layouts that are part of this crate.
//!
//! Memory: pages are handed on as they arrive; device state is held, up to 20 MiB.
//!
//! Source: QEMU 7.2 to 10.0, `migration/{savevm,vmstate,vmstate-types,ram,multifd*}.c`.

#![forbid(unsafe_code)]

mod ahead;
mod answer;
mod bitmap;
mod body;
mod channel;
mod compose;
mod configuration;
mod cursor;
mod decoder;
mod description;
mod element;
mod encode;
mod error;
mod inflate;
mod input;
mod json;
mod lookup;
mod plausible;
mod ram;
mod reader;
mod search;
mod share;
mod state;
mod tail;
mod tree;
mod writer;
mod xbzrle;

pub use answer::{Answer, read_answers, write_answer};
pub use channel::{
    ChannelEvent, ChannelPage, ChannelSink, PacketHead, read_channel, read_channel_within,
};
pub use compose::{Body, Composer, Opening};
pub use configuration::{agreed_capabilities, machine};
pub use description::{DescribedDevice, DescribedField, Description, Shape};
pub use element::{
    BlockHead, Command, Event, MappedHead, Page, RamRecord, SectionHead, SectionKind, Sink,
};
pub use encode::{EncodeError, encode};
pub use error::{Broken, ReadError, Rule};
pub use reader::Reader;
pub use share::{Share, share};
pub use tree::{Field, Framing, Kind, List, Name, Structure, Value};
pub use writer::{WriteError, Writer};
pub use xbzrle::apply_xbzrle;
