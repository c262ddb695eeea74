//! Writes a stream from the events of a reader, or from events of one's own.

use std::io::{self, IoSlice, Write};

use crate::element::{
    BlockHead, COMMAND, CONFIGURATION, Command, DESCRIPTION, END, Event, FOOTER, MAGIC, Page,
    RamRecord, SectionHead, SectionKind, VERSION,
};
use crate::encode::{EncodeError, encode, put_counted};
use crate::input::len64;
use crate::ram;

/// Writes QEMU's stream: the events of an unedited stream become the very bytes that they were read from.
///
/// Zero stretches of files that can be mapped are written out; `out` may leave holes instead.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    blocks: Vec<Box<str>>,
    scratch: Vec<u8>,
}

/// Why an event could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A value does not fit its place.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A page is of a block that was not announced.
    #[error("block {block} was not announced")]
    Block {
        /// The block's number.
        block: u32,
    },
    /// What pages of a block hold was not read.
    #[error("what pages of block {block} hold was not read")]
    Passed {
        /// The block's number.
        block: u32,
    },
    /// The operating system refused a write.
    #[error("write failed")]
    Io(#[from] io::Error),
}

impl<W: Write> Writer<W> {
    /// A writer of a stream that has not begun.
    pub fn new(out: W) -> Self {
        Self { out, blocks: Vec::new(), scratch: Vec::new() }
    }

    /// A writer of a stream that has begun and announced these blocks, in this order.
    pub fn resume<'b>(out: W, blocks: impl IntoIterator<Item = &'b str>) -> Self {
        Self { blocks: blocks.into_iter().map(Into::into).collect(), ..Self::new(out) }
    }

    /// What is written to.
    pub const fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Makes the output hand on what it holds back.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes one event.
    ///
    /// # Errors
    ///
    /// When a value does not fit its place, or `out` fails.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), WriteError> {
        self.scratch.clear();
        let out = &mut self.scratch;
        match event {
            Event::Header => {
                out.extend(MAGIC.to_be_bytes());
                out.extend(VERSION.to_be_bytes());
            }
            Event::Configuration(configuration) => {
                out.push(CONFIGURATION);
                out.extend(encode(configuration)?);
            }
            Event::Section(head) => section(head, out)?,
            Event::Ram(record) => return self.ram(record),
            Event::Device(structure) => *out = encode(structure)?,
            Event::Opaque(bytes) | Event::Trailing(bytes) => out.extend_from_slice(bytes),
            Event::Footer { section_id } => {
                out.push(FOOTER);
                out.extend(section_id.to_be_bytes());
            }
            Event::Command(command) => put_command(command, out)?,
            Event::PackageEnd => {}
            Event::End => out.push(END),
            Event::Description { json } => {
                out.push(DESCRIPTION);
                let length = u32::try_from(json.len())
                    .map_err(|_| EncodeError::Length { name: "description".into() })?;
                out.extend(length.to_be_bytes());
                out.extend_from_slice(json);
            }
        }
        self.out.write_all(&self.scratch)?;
        Ok(())
    }

    /// Writes the records of pages, with their data or as zeros if they have none. An output that takes several slices gets them
    /// with one call, and data is not copied.
    ///
    /// # Errors
    ///
    /// As [`Writer::event`].
    pub fn pages(&mut self, pages: &[(Page, Option<&[u8]>)]) -> Result<(), WriteError> {
        self.scratch.clear();
        let mut parts = Vec::new();
        for (page, data) in pages {
            let flag = if data.is_some() { ram::PAGE } else { ram::ZERO };
            page_head(&self.blocks, page, flag, &mut self.scratch)?;
            match data {
                Some(data) => parts.push((self.scratch.len(), *data)),
                None => self.scratch.push(0),
            }
        }
        let mut slices = Vec::with_capacity(parts.len().saturating_mul(2).saturating_add(1));
        let mut rest = &*self.scratch;
        for (end, data) in parts {
            let start = self.scratch.len().saturating_sub(rest.len());
            let (heads, behind) = rest.split_at(end.saturating_sub(start).min(rest.len()));
            slices.extend([IoSlice::new(heads), IoSlice::new(data)]);
            rest = behind;
        }
        slices.push(IoSlice::new(rest));
        Ok(write_all_vectored(&mut self.out, &mut slices)?)
    }

    fn ram(&mut self, record: &RamRecord<'_>) -> Result<(), WriteError> {
        let out = &mut self.scratch;
        let mut data: &[u8] = &[];
        match record {
            RamRecord::Total { bytes } => {
                self.blocks.clear();
                out.extend((bytes | ram::MEM_SIZE).to_be_bytes());
            }
            RamRecord::Block(head) => {
                self.blocks.push(head.name.clone());
                block_head(head, out)?;
            }
            RamRecord::Bitmap { block: _, bits } => data = bits,
            RamRecord::MappedPages { block: _, offset: _, data: pages } => data = pages,
            RamRecord::Passed { block, .. } => return Err(WriteError::Passed { block: *block }),
            RamRecord::Gap { bytes } | RamRecord::MappedZeros { block: _, offset: _, bytes } => {
                return zeros(&mut self.out, *bytes);
            }
            RamRecord::Fill { page, byte } => {
                page_head(&self.blocks, page, ram::ZERO, out)?;
                out.push(*byte);
            }
            RamRecord::Data { page, data: bytes } => {
                page_head(&self.blocks, page, ram::PAGE, out)?;
                data = bytes;
            }
            RamRecord::Xbzrle { page, encoding, data: bytes } => {
                page_head(&self.blocks, page, ram::XBZRLE, out)?;
                out.push(*encoding);
                let length = u16::try_from(bytes.len())
                    .map_err(|_| EncodeError::Length { name: "xbzrle".into() })?;
                out.extend(length.to_be_bytes());
                data = bytes;
            }
            RamRecord::MultifdFlush => out.extend(ram::MULTIFD_FLUSH.to_be_bytes()),
            RamRecord::End => out.extend(ram::EOS.to_be_bytes()),
        }
        self.out.write_all(&self.scratch)?;
        self.out.write_all(data)?;
        Ok(())
    }
}

fn section(head: &SectionHead, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let SectionHead { kind, section_id, name, instance_id, version } = head;
    out.push(kind.byte());
    out.extend(section_id.to_be_bytes());
    if matches!(kind, SectionKind::Start | SectionKind::Full) {
        put_counted(name, out)?;
        out.extend(instance_id.to_be_bytes());
        out.extend(version.to_be_bytes());
    }
    Ok(())
}

fn put_command(command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let Command { number, data } = command;
    let length = u16::try_from(data.len())
        .map_err(|_| EncodeError::Length { name: command.name().into() })?;
    out.push(COMMAND);
    out.extend(number.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend_from_slice(data);
    Ok(())
}

fn block_head(head: &BlockHead, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let BlockHead { name, bytes, page_bytes, gpa, mapped } = head;
    put_counted(name, out)?;
    out.extend(bytes.to_be_bytes());
    for number in [page_bytes, gpa].into_iter().flatten() {
        out.extend(number.to_be_bytes());
    }
    if let Some(mapped) = mapped {
        out.extend(mapped.version.to_be_bytes());
        for number in [mapped.page_bytes, mapped.bitmap_offset, mapped.pages_offset] {
            out.extend(number.to_be_bytes());
        }
    }
    Ok(())
}

/// What [`Write::write_all`] is to [`Write::write`].
fn write_all_vectored(out: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Who writes nothing of an empty slice has not refused it.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match out.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn page_head(
    blocks: &[Box<str>],
    page: &Page,
    flag: u64,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let Page { block, offset, named } = *page;
    let flags = if named { flag } else { flag | ram::CONTINUE };
    out.extend((offset | flags).to_be_bytes());
    if named {
        let name = usize::try_from(block).ok().and_then(|block| blocks.get(block));
        put_counted(name.ok_or(WriteError::Block { block })?, out)?;
    }
    Ok(())
}

fn zeros(out: &mut dyn Write, count: u64) -> Result<(), WriteError> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let take = left.min(len64(ZEROS.len()));
        out.write_all(ZEROS.get(..usize::try_from(take).unwrap_or(0)).unwrap_or_default())?;
        left = left.saturating_sub(take);
    }
    Ok(())
}
