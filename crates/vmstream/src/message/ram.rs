//! Memory as it is: bytes that can be mapped, and their checksums in a frame of their own.
//!
//! ```text
//!  0   84            array of four
//!  1   1A …4…        region
//!  6   1B …8…        offset in the region, bytes
//! 15   1A …4…        bytes that one checksum covers
//! 20   5B …8…        length of the data
//! 29   data
//! ```

use super::{Fields, Message};
use crate::broken::Broken;
use crate::frame::number;
use crate::limits;
use crate::rule::Rule;
use crate::value::{Map, Value};

/// Bytes of a ram payload before its data.
pub const RAM_PREFIX_BYTES: usize = 29;

/// What a ram frame holds, without the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ram {
    /// Which region.
    pub region: u32,
    /// Offset of the first byte in the region, a multiple of the page size.
    pub offset: u64,
    /// Bytes that one checksum covers: a power of two from 4 KiB to 1 GiB.
    pub chunk: u32,
    /// Bytes of data, a multiple of the page size.
    pub length: u64,
}

impl Ram {
    /// The bytes before the data.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        let mut out = vec![0x84, 0x1a];
        out.extend_from_slice(&self.region.to_be_bytes());
        out.push(0x1b);
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.push(0x1a);
        out.extend_from_slice(&self.chunk.to_be_bytes());
        out.push(0x5b);
        out.extend_from_slice(&self.length.to_be_bytes());
        out
    }

    /// Reads the bytes before the data, of a payload of `payload` bytes.
    ///
    /// # Errors
    ///
    /// [`Rule::R1`].
    pub fn from_prefix(bytes: &[u8], payload: u64) -> Result<Self, Broken> {
        let heads = [(0, 0x84), (1, 0x1a), (6, 0x1b), (15, 0x1a), (20, 0x5b)];
        let wrong = heads.iter().find(|(at, head)| bytes.get(*at) != Some(head));
        if let Some((at, _)) = wrong {
            return Err(Broken::new(Rule::R1).at(u64::try_from(*at).unwrap_or(u64::MAX)));
        }
        let ram = Self {
            region: u32::try_from(number(bytes, 2, 4)).unwrap_or(u32::MAX),
            offset: number(bytes, 7, 8),
            chunk: u32::try_from(number(bytes, 16, 4)).unwrap_or(u32::MAX),
            length: number(bytes, 21, 8),
        };
        let whole = u64::try_from(RAM_PREFIX_BYTES).ok().and_then(|p| p.checked_add(ram.length));
        if whole != Some(payload) {
            return Err(Broken::new(Rule::R1).at(20).found("another length than the frame"));
        }
        if !ram.chunk.is_power_of_two()
            || !(4096..=1 << 30).contains(&ram.chunk)
            || ram.chunks() > limits::CHUNKS
        {
            return Err(Broken::new(Rule::R1)
                .at(15)
                .found(format_args!("chunks of {}", ram.chunk)));
        }
        Ok(ram)
    }

    /// How many checksums there are.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.length.div_ceil(u64::from(self.chunk.max(1)))
    }
}

/// The checksums of the ram frame before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Which region.
    pub region: u32,
    /// Offset of the first chunk in the region.
    pub offset: u64,
    /// Bytes of a chunk; the last may be shorter.
    pub chunk: u32,
    /// CRC-32C of each chunk, in order.
    pub crc32c: Vec<u32>,
}

impl Message for Checksums {
    fn to_value(&self) -> Value {
        let Self { region, offset, chunk, crc32c } = self;
        let sums: Vec<_> = crc32c.iter().map(|sum| Value::from(*sum)).collect();
        let map = Map::new().with("region", *region).with("offset", *offset);
        Value::Map(map.with("chunk", *chunk).with("crc32c", sums))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let sum = |value: Value| {
            let sum = value.as_u64().and_then(|sum| u32::try_from(sum).ok());
            sum.ok_or_else(|| Broken::new(Rule::M1).found(value.noun()))
        };
        let checksums = Self {
            region: fields.small("region")?,
            offset: fields.uint("offset")?,
            chunk: fields.small("chunk")?,
            crc32c: fields.list("crc32c", sum)?,
        };
        fields.done()?;
        Ok(checksums)
    }
}
