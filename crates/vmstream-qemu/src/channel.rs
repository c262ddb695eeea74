//! A multifd channel: packets of pages, beside the main channel.
//!
//! ```text
//! opening   magic, version, the machine's UUID, the channel's number; 64 bytes
//! packet    head of 320 bytes, an array of page offsets, then the pages: as they are, or the next piece of one
//!           zlib or zstd stream that goes on through the whole channel
//! ```
//!
//! Source: QEMU, `migration/multifd.{h,c}`, `multifd-nocomp.c`, `multifd-zlib.c`, `multifd-zstd.c`.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Broken, ReadError, Rule};
use crate::inflate::{Awaited, Inflate, Refused};
use crate::input::{Input, len64};

const MAGIC: u32 = 0x1122_3344;
const VERSION: u32 = 1;

const SYNC: u32 = 1;
const COMPRESSION: u32 = 0x1f << 1;
const DEVICE_STATE: u32 = 32 << 1;

/// Bytes of the pages of a full packet, from which the length of the array of offsets follows.
const PACKET_BYTES: u64 = 512 * 1024;
/// Bytes of the pages of a packet that is read, and of its payload: what cannot be compressed grows a little.
const MOST_BYTES: u64 = 2 * PACKET_BYTES;
const MOST_PAYLOAD: u64 = 4 * PACKET_BYTES;
/// Bytes of a channel that are read at once. There may be hundreds of channels.
const WINDOW_BYTES: usize = 64 * 1024;
/// Bytes that compression may take where there are a few channels.
const ROOM: u64 = 12 << 20;

/// Takes what is read of a channel.
///
/// The ranges tile the channel. [`ChannelEvent::Page`] and [`ChannelEvent::Zero`] say what was in the payloads and have
/// empty ranges; those of compressed channels may come later than the packet that they were in. Rounds never fall.
pub trait ChannelSink {
    /// Takes one event.
    ///
    /// # Errors
    ///
    /// Ends the reading.
    fn event(&mut self, range: Range<u64>, event: &ChannelEvent<'_>) -> io::Result<()>;
}

impl<F: FnMut(Range<u64>, &ChannelEvent<'_>) -> io::Result<()>> ChannelSink for F {
    fn event(&mut self, range: Range<u64>, event: &ChannelEvent<'_>) -> io::Result<()> {
        self(range, event)
    }
}

/// A piece of a channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelEvent<'a> {
    /// What a channel begins with.
    Opening {
        /// The channel's number.
        channel: u8,
        /// The machine's UUID.
        uuid: [u8; 16],
    },
    /// A packet's head and its offsets.
    Packet(&'a PacketHead),
    /// A packet's payload as it stands.
    Payload(&'a [u8]),
    /// A page.
    Page(ChannelPage<'a>, &'a [u8]),
    /// A page of zeros.
    Zero(ChannelPage<'a>),
}

/// Which page, and when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPage<'a> {
    /// How many times the channels had been synchronised before. A page of a later round replaces one of an earlier.
    pub round: u32,
    /// QEMU's name of its block.
    pub block: &'a str,
    /// Where in the block it begins, in bytes.
    pub offset: u64,
}

/// What a packet begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketHead {
    /// Synchronisation, compression, kind.
    pub flags: u32,
    /// Pages that a packet may have, as it says itself; 0 where it has none.
    pub pages_alloc: u32,
    /// Pages in the payload.
    pub normal_pages: u32,
    /// Pages of zeros, which are only named.
    pub zero_pages: u32,
    /// Bytes of the payload, as the packet says; one without pages has none.
    pub payload_bytes: u32,
    /// Counts the packets of all channels.
    pub number: u64,
    /// The block of all its pages, or the device whose state this is.
    pub block: Box<str>,
    /// The device's instance, where it is a device's state.
    pub instance_id: Option<u32>,
    /// Where the pages begin, those of the payload first. As many as stand in the packet, used or not.
    pub offsets: Vec<u64>,
}

impl PacketHead {
    /// Whether a round ends with it.
    #[must_use]
    pub const fn synchronises(&self) -> bool {
        self.flags & SYNC != 0
    }
}

/// Reads one of a few channels from beginning to end: [`read_channel_within`] 12 MiB.
///
/// # Errors
///
/// As there.
pub fn read_channel(
    source: &mut dyn Read,
    page_bytes: u32,
    sink: &mut dyn ChannelSink,
) -> Result<(), ReadError> {
    read_channel_within(source, page_bytes, ROOM, sink)
}

/// Reads one channel from beginning to end.
///
/// `page_bytes` is that of the main channel, usually 4096. `room` is how many bytes compression may take, beside a packet: zlib's need
/// none of it, zstd's window at most 8 MiB and all but one MiB of it.
///
/// # Errors
///
/// At the first rule that the channel breaks; when `source` fails; when `sink` refuses an event.
pub fn read_channel_within(
    source: &mut dyn Read,
    page_bytes: u32,
    room: u64,
    sink: &mut dyn ChannelSink,
) -> Result<(), ReadError> {
    let input = Input::with_window(source, WINDOW_BYTES);
    let page_bytes = page_bytes.clamp(1024, 65_536);
    let slots = u32::try_from(PACKET_BYTES / u64::from(page_bytes)).unwrap_or(1);
    let mut channel = Channel { input, sink, page_bytes, slots, room, round: 0, inflate: None };
    channel.opening()?;
    while !channel.input.at_end()? {
        channel.packet()?;
    }
    channel.finish()
}

struct Channel<'r, 's> {
    input: Input<'r>,
    sink: &'s mut dyn ChannelSink,
    page_bytes: u32,
    /// Offsets in a packet: those that the last packet said, since one without pages says none.
    slots: u32,
    room: u64,
    round: u32,
    inflate: Option<Inflate>,
}

impl Channel<'_, '_> {
    fn magic(&mut self) -> Result<(), ReadError> {
        let start = self.input.offset();
        for want in [MAGIC, VERSION] {
            let found = self.input.be32()?;
            if found != want {
                return Err(Broken::at(start, Rule::Multifd).found(found).want(want).into());
            }
        }
        Ok(())
    }

    fn opening(&mut self) -> Result<(), ReadError> {
        self.magic()?;
        let uuid = self.input.vec(16, 16)?;
        let uuid = *uuid.first_chunk().unwrap_or(&[0; 16]);
        let channel = self.input.u8()?;
        self.input.skip(39)?;
        emit(self.sink, 0..self.input.offset(), &ChannelEvent::Opening { channel, uuid })
    }

    fn packet(&mut self) -> Result<(), ReadError> {
        let start = self.input.offset();
        self.magic()?;
        let flags = self.input.be32()?;
        let head = if flags & DEVICE_STATE == 0 {
            self.ram_head(start, flags)?
        } else {
            self.device_head(flags)?
        };
        emit(self.sink, start..self.input.offset(), &ChannelEvent::Packet(&head))?;
        self.payload(&head)?;
        self.zeros(&head)?;
        if flags & SYNC != 0 {
            self.round = self.round.saturating_add(1);
        }
        Ok(())
    }

    fn ram_head(&mut self, start: u64, flags: u32) -> Result<PacketHead, ReadError> {
        let input = &mut self.input;
        let pages_alloc = input.be32()?;
        let normal_pages = input.be32()?;
        let payload_bytes = input.be32()?;
        let number = input.be64()?;
        let zero_pages = input.be32()?;
        input.skip(28)?;
        let block = padded_name(input)?;
        if pages_alloc != 0 {
            self.slots = pages_alloc;
        }
        let named = u64::from(normal_pages).saturating_add(zero_pages.into());
        let most = MOST_BYTES / u64::from(self.page_bytes);
        if u64::from(self.slots) > most || named > u64::from(self.slots) {
            return Err(Broken::at(start, Rule::Multifd).found(named).want(self.slots).into());
        }
        let offsets = (0..self.slots).map(|_| input.be64()).collect::<Result<Vec<_>, _>>()?;
        let page_bytes = u64::from(self.page_bytes);
        let unaligned = |offset: &&u64| !offset.is_multiple_of(page_bytes);
        let used = usize::try_from(named).unwrap_or(usize::MAX);
        if let Some(offset) = offsets.iter().take(used).find(unaligned) {
            return Err(Broken::at(start, Rule::RamOffset).found(*offset).into());
        }
        Ok(PacketHead {
            flags,
            pages_alloc,
            normal_pages,
            zero_pages,
            payload_bytes,
            number,
            block,
            instance_id: None,
            offsets,
        })
    }

    fn device_head(&mut self, flags: u32) -> Result<PacketHead, ReadError> {
        let block = padded_name(&mut self.input)?;
        let instance_id = Some(self.input.be32()?);
        let payload_bytes = self.input.be32()?;
        Ok(PacketHead {
            flags,
            pages_alloc: 0,
            normal_pages: 0,
            zero_pages: 0,
            payload_bytes,
            number: 0,
            block,
            instance_id,
            offsets: Vec::new(),
        })
    }

    fn zeros(&mut self, head: &PacketHead) -> Result<(), ReadError> {
        let normal = usize::try_from(head.normal_pages).unwrap_or(usize::MAX);
        let zero = usize::try_from(head.zero_pages).unwrap_or(usize::MAX);
        let at = self.input.offset();
        let block = Arc::from(&*head.block);
        for offset in head.offsets.iter().skip(normal).take(zero) {
            // What is kept back comes first, so that no page comes behind one of a later round.
            if let Some(inflate) = self.inflate.as_mut().filter(|inflate| inflate.is_waiting()) {
                let queued = inflate.zero(self.round, &block, *offset);
                queued.map_err(|_| Broken::at(at, Rule::Compression))?;
                continue;
            }
            let page = ChannelPage { round: self.round, block: &head.block, offset: *offset };
            emit(self.sink, at..at, &ChannelEvent::Zero(page))?;
        }
        Ok(())
    }

    fn payload(&mut self, head: &PacketHead) -> Result<(), ReadError> {
        let start = self.input.offset();
        // A packet without pages may repeat the size of the one before.
        let empty = head.normal_pages == 0 && head.instance_id.is_none();
        let bytes = if empty { 0 } else { u64::from(head.payload_bytes) };
        let payload = self.input.vec(bytes, MOST_PAYLOAD)?;
        let end = self.input.offset();
        if !payload.is_empty() {
            emit(self.sink, start..end, &ChannelEvent::Payload(&payload))?;
        }
        if head.instance_id.is_some() || empty {
            return Ok(());
        }
        let normal = usize::try_from(head.normal_pages).unwrap_or(usize::MAX);
        let offsets = head.offsets.iter().take(normal).copied();
        let broken = || Broken::at(start, Rule::Compression);
        if head.flags & COMPRESSION == 0 {
            let pages = u64::from(head.normal_pages).saturating_mul(self.page_bytes.into());
            if len64(payload.len()) != pages {
                let found = len64(payload.len());
                return Err(Broken::at(start, Rule::Multifd).found(found).want(pages).into());
            }
            let length = usize::try_from(self.page_bytes).unwrap_or(usize::MAX);
            for (offset, data) in offsets.zip(payload.chunks_exact(length)) {
                let page = ChannelPage { round: self.round, block: &head.block, offset };
                emit(self.sink, end..end, &ChannelEvent::Page(page, data))?;
            }
            return Ok(());
        }
        let inflate = match &mut self.inflate {
            Some(inflate) if inflate.flags() == head.flags & COMPRESSION => inflate,
            Some(_) => return Err(broken().found(head.flags).into()),
            none => {
                let new = Inflate::new(head.flags & COMPRESSION, self.page_bytes, self.room)
                    .ok_or_else(|| broken().found(head.flags))?;
                none.insert(new)
            }
        };
        let (round, block) = (self.round, Arc::from(&*head.block));
        let awaited = |offset| Awaited { round, block: Arc::clone(&block), offset, zeros: 0 };
        let expected = offsets.map(awaited);
        inflate.push(&payload, expected).map_err(|refused| match refused {
            Refused::Broken => broken(),
            Refused::Window { found, most } => {
                Broken::at(start, Rule::Window).found(found).want(most)
            }
        })?;
        // Pages may wait for long.
        drop(payload);
        self.inflated()
    }

    /// Hands on the pages that are complete.
    fn inflated(&mut self) -> Result<(), ReadError> {
        let at = self.input.offset();
        let Some(inflate) = &mut self.inflate else { return Ok(()) };
        while let Some((Awaited { round, block, offset, zeros: _ }, data)) = inflate.page() {
            let page = ChannelPage { round, block: &block, offset };
            let event = data
                .as_deref()
                .map_or(ChannelEvent::Zero(page), |data| ChannelEvent::Page(page, data));
            emit(self.sink, at..at, &event)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReadError> {
        let at = self.input.offset();
        if let Some(inflate) = &mut self.inflate {
            inflate.finish().map_err(|_| Broken::at(at, Rule::Compression))?;
            self.inflated()?;
        }
        let left = self.inflate.as_ref().is_some_and(Inflate::is_waiting);
        if left { Err(Broken::at(at, Rule::Compression).into()) } else { Ok(()) }
    }
}

fn emit(
    sink: &mut dyn ChannelSink,
    range: Range<u64>,
    event: &ChannelEvent<'_>,
) -> Result<(), ReadError> {
    let offset = range.start;
    sink.event(range, event).map_err(|source| ReadError::Sink { offset, source })
}

/// A name in 256 bytes, filled up with zeros.
fn padded_name(input: &mut Input<'_>) -> Result<Box<str>, ReadError> {
    let start = input.offset();
    let bytes = input.vec(256, 256)?;
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| Broken::at(start, Rule::Text))?;
    Ok(name.into())
}
