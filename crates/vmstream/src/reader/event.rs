//! What a stream says.

use std::sync::Arc;

use crate::finding::Finding;
use crate::frame::Header;
use crate::message::{
    Checksums, DeviceRecord, Finish, Hello, Index, Manifest, Note, Pages, Ram, Request, Switch,
    Verdict,
};
use crate::schema::Schema;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// Offset of the header, bytes from the start of the stream.
    pub offset: u64,
    /// Which frame, counted from 0.
    pub number: u64,
}

/// One thing that a stream says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Who writes.
    Hello(Hello),
    /// A schema, under an id.
    Schema(u32, Arc<Schema>),
    /// What the guest can see.
    Manifest(Manifest),
    /// What a destination said.
    Verdict(Verdict),
    /// Pages of memory.
    Pages(Pages),
    /// Pages of a disk.
    Disk(Pages),
    /// Memory as it is: take it with [`super::Reader::read_ram`].
    Ram(Ram),
    /// The checksums of the memory before; it matched them.
    Checksums(Checksums),
    /// Device records that later ones may replace.
    Provisional(Vec<DeviceRecord>),
    /// The source has stopped.
    Switch(Switch),
    /// Final device records.
    Devices(Vec<DeviceRecord>),
    /// Something that no reader needs.
    Note(Note),
    /// Pages wanted.
    Request(Vec<Request>),
    /// The writer gives up.
    Abort(Finding),
    /// The counts and the digest were right.
    Finish(Finish),
    /// Where things are.
    Index(Index),
    /// Where the index is.
    Tail(u64),
    /// Filler.
    Pad,
    /// A frame of an unknown kind that need not be known.
    Skipped,
}
