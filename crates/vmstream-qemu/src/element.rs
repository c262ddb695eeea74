//! What a stream is made of, piece by piece, each with the bytes it takes.

use std::io;
use std::ops::Range;

use crate::tree::Structure;

/// The first four bytes of a stream: `QEVM`.
pub(crate) const MAGIC: u32 = 0x5145_564d;
/// The one version that QEMU has written since 2009.
pub(crate) const VERSION: u32 = 3;

pub(crate) const END: u8 = 0x00;
pub(crate) const START: u8 = 0x01;
pub(crate) const PART: u8 = 0x02;
pub(crate) const LAST: u8 = 0x03;
pub(crate) const FULL: u8 = 0x04;
pub(crate) const SUBSECTION: u8 = 0x05;
pub(crate) const DESCRIPTION: u8 = 0x06;
pub(crate) const CONFIGURATION: u8 = 0x07;
pub(crate) const COMMAND: u8 = 0x08;
pub(crate) const FOOTER: u8 = 0x7e;

/// Takes what a reader reads, in stream order.
///
/// The ranges of all events but [`Event::PackageEnd`], which is empty, tile the stream: each begins where the one
/// before it ended.
pub trait Sink {
    /// Takes one event and the bytes that it takes in the stream.
    ///
    /// # Errors
    ///
    /// Ends the reading, which reports it as [`crate::ReadError::Sink`].
    fn event(&mut self, range: Range<u64>, event: &Event<'_>) -> io::Result<()>;

    /// Takes bytes of devices as they arrive, before their events: these wait for the description, which comes last. The end marker
    /// and what is behind it come behind the events of all devices, as the last of it.
    ///
    /// Nothing of a stream without a description need come.
    ///
    /// # Errors
    ///
    /// As [`Sink::event`].
    fn ahead(&mut self, bytes: &[u8], is_last: bool) -> io::Result<()> {
        let _ = (bytes, is_last);
        Ok(())
    }
}

impl<F: FnMut(Range<u64>, &Event<'_>) -> io::Result<()>> Sink for F {
    fn event(&mut self, range: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        self(range, event)
    }
}

/// A piece of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Magic and version.
    Header,
    /// The machine type, and what a destination must agree to.
    Configuration(&'a Structure),
    /// What begins a section.
    Section(&'a SectionHead),
    /// A record of the body of a section `ram`.
    Ram(RamRecord<'a>),
    /// The body of a device's section.
    Device(&'a Structure),
    /// A body that could not be taken apart.
    Opaque(&'a [u8]),
    /// What ends a section.
    Footer {
        /// The section's number.
        section_id: u32,
    },
    /// An order to the destination. After [`Command::PACKAGED`] the package's events follow.
    Command(Command<'a>),
    /// The package's bytes are over.
    PackageEnd,
    /// The end marker.
    End,
    /// QEMU's description of the device state.
    Description {
        /// Its JSON as it stands.
        json: &'a [u8],
    },
    /// Bytes behind the stream, as from a device that is written in whole blocks.
    Trailing(&'a [u8]),
}

/// Which part of its state a section has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// The first of several.
    Start,
    /// A further one.
    Part,
    /// The last of several.
    End,
    /// The only one.
    Full,
}

impl SectionKind {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Start => START,
            Self::Part => PART,
            Self::End => LAST,
            Self::Full => FULL,
        }
    }
}

/// What begins a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionHead {
    /// Which part this is.
    pub kind: SectionKind,
    /// The number that later parts and the footer repeat.
    pub section_id: u32,
    /// Whose state it is. On the wire in the first or only part; a reader repeats it here in the others.
    pub name: Box<str>,
    /// Which of several of that name.
    pub instance_id: u32,
    /// Version of the layout.
    pub version: u32,
}

/// An order to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its number.
    pub number: u16,
    /// What belongs to it.
    pub data: &'a [u8],
}

impl Command<'_> {
    /// The destination shall answer on a return path.
    pub const OPEN_RETURN_PATH: u16 = 1;
    /// The destination shall answer with the same number.
    pub const PING: u16 = 2;
    /// Postcopy may follow.
    pub const POSTCOPY_ADVISE: u16 = 3;
    /// The destination shall take pages as they come.
    pub const POSTCOPY_LISTEN: u16 = 4;
    /// The destination shall run.
    pub const POSTCOPY_RUN: u16 = 5;
    /// Pages that were sent are stale.
    pub const POSTCOPY_RAM_DISCARD: u16 = 6;
    /// A stream of its own follows, in full.
    pub const PACKAGED: u16 = 7;
    /// Continuous replication.
    pub const ENABLE_COLO: u16 = 8;
    /// An interrupted postcopy goes on.
    pub const POSTCOPY_RESUME: u16 = 9;
    /// Which pages arrived is asked for.
    pub const RECV_BITMAP: u16 = 10;
    /// The source has stopped.
    pub const SWITCHOVER_START: u16 = 11;

    /// QEMU's name of the command.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.number {
            Self::OPEN_RETURN_PATH => "OPEN_RETURN_PATH",
            Self::PING => "PING",
            Self::POSTCOPY_ADVISE => "POSTCOPY_ADVISE",
            Self::POSTCOPY_LISTEN => "POSTCOPY_LISTEN",
            Self::POSTCOPY_RUN => "POSTCOPY_RUN",
            Self::POSTCOPY_RAM_DISCARD => "POSTCOPY_RAM_DISCARD",
            Self::PACKAGED => "PACKAGED",
            Self::ENABLE_COLO => "ENABLE_COLO",
            Self::POSTCOPY_RESUME => "POSTCOPY_RESUME",
            Self::RECV_BITMAP => "RECV_BITMAP",
            Self::SWITCHOVER_START => "SWITCHOVER_START",
            _ => "unknown",
        }
    }
}

/// A record of guest memory. `offset` counts bytes inside the block; pages are one target page long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RamRecord<'a> {
    /// All blocks together; one [`RamRecord::Block`] for each follows.
    Total {
        /// Bytes.
        bytes: u64,
    },
    /// A block is announced. Blocks are numbered from 0 in this order.
    Block(&'a BlockHead),
    /// Which pages of the last block are in the file, a bit each, the lowest first.
    Bitmap {
        /// The block's number.
        block: u32,
        /// The bits, in whole words.
        bits: &'a [u8],
    },
    /// Bytes of a file that mean nothing.
    Gap {
        /// How many.
        bytes: u64,
    },
    /// Pages of a block that stand in the file where they stand in memory.
    MappedPages {
        /// The block's number.
        block: u32,
        /// Of the first page.
        offset: u64,
        /// Whole pages.
        data: &'a [u8],
    },
    /// Pages of a block that are zero; what stands in the file there means nothing.
    MappedZeros {
        /// The block's number.
        block: u32,
        /// Of the first page.
        offset: u64,
        /// How much.
        bytes: u64,
    },
    /// A page of one byte over and over, in practice zero.
    Fill {
        /// The page.
        page: Page,
        /// The byte.
        byte: u8,
    },
    /// A page.
    Data {
        /// The page.
        page: Page,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Pages of a block whose bytes are in the file and were not read: see
    /// [`Reader::read_for_state`](crate::Reader::read_for_state).
    Passed {
        /// The block's number.
        block: u32,
        /// Of the first page.
        offset: u64,
        /// How much.
        bytes: u64,
    },
    /// What changed in a page since it was last sent. Needs that earlier page.
    Xbzrle {
        /// The page.
        page: Page,
        /// How it is encoded; 1 is all there is.
        encoding: u8,
        /// The difference.
        data: &'a [u8],
    },
    /// Pages of all channels are complete up to here.
    MultifdFlush,
    /// The end of this section's body.
    End,
}

/// Which page a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The block's number.
    pub block: u32,
    /// Where in the block it begins, in bytes.
    pub offset: u64,
    /// Whether the record names its block; others are of the block of the record before.
    pub named: bool,
}

/// A block of guest memory as announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// QEMU's name for it.
    pub name: Box<str>,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes of a host page, where they are huge and postcopy may follow.
    pub page_bytes: Option<u64>,
    /// Guest-physical address, where shared memory is left out.
    pub gpa: Option<u64>,
    /// Where its pages stand in a file that can be mapped.
    pub mapped: Option<MappedHead>,
}

/// Where a block's pages stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedHead {
    /// Version of this head.
    pub version: u32,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Where in the file the bitmap stands.
    pub bitmap_offset: u64,
    /// Where in the file the pages stand.
    pub pages_offset: u64,
}
