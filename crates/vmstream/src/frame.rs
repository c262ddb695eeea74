//! Frames: the items of a stream.
//!
//! ```text
//!  0   89            array of nine
//!  1   18 kk         kind
//!  3   19 ffff       flags
//!  6   19 cccc       channel
//!  9   1B …8…        sequence number
//! 18   1A …4…        epoch
//! 23   1B …8…        length of the payload, bytes
//! 32   1A …4…        CRC-32C of the payload
//! 37   1A …4…        CRC-32C of the 37 bytes above
//! 42   5B …8…        the length again, as the head of a byte string
//! 51   payload
//! ```

use crate::broken::Broken;
use crate::limits;
use crate::rule::Rule;

/// What a stream begins with: tag 55799, "this is CBOR", around the first frame.
///
/// Source: RFC 8949, 3.4.6.
pub const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Bytes of a header, up to the payload.
pub const HEADER_BYTES: usize = 51;

/// The part of a header that its own CRC covers.
const COVERED: usize = 37;

/// Flag: a reader that does not know the kind must refuse the stream.
pub const CRITICAL: u16 = 1;
/// Flag: a later record of the same path replaces this one.
pub const PROVISIONAL: u16 = 1 << 1;
/// Flag: the payload is a zlib stream of the metadata.
pub const COMPRESSED: u16 = 1 << 2;
/// Flag: the CRC covers the payload's fixed heads only; the checksums of the rest follow in a frame of their own.
pub const CHECKED_APART: u16 = 1 << 3;

macro_rules! kinds {
    ($($name:ident $number:literal $word:literal $flags:expr, $allowed:expr, $limit:expr, $doc:literal;)+) => {
        /// What a frame holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $name,)+
        }

        impl Kind {
            /// All kinds of version 1.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The kind of a number, if version 1 has it.
            #[must_use]
            pub const fn of(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// The number in a header.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)+ }
            }

            /// The name, for people and for JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The flags that are always set.
            #[must_use]
            pub const fn flags(self) -> u16 {
                match self { $(Self::$name => $flags,)+ }
            }

            /// The flags that may be set besides.
            #[must_use]
            pub const fn allowed(self) -> u16 {
                match self { $(Self::$name => $allowed,)+ }
            }

            /// The longest payload, bytes.
            #[must_use]
            pub const fn limit(self) -> u64 {
                match self { $(Self::$name => $limit,)+ }
            }
        }
    };
}

kinds! {
    Hello 1 "hello" CRITICAL, 0, limits::METADATA, "Who writes, in which version, needing what.";
    Schema 2 "schema" CRITICAL, COMPRESSED, limits::METADATA, "What a kind of record may hold.";
    Manifest 3 "manifest" CRITICAL, COMPRESSED, limits::METADATA, "What the guest can see: memory, devices, the contract.";
    Verdict 4 "verdict" CRITICAL, 0, limits::METADATA, "Whether a destination takes the machine, and why not.";
    Pages 5 "pages" CRITICAL, 0, limits::PAGES, "Pages of memory.";
    Disk 6 "disk" CRITICAL, 0, limits::PAGES, "Pages of a disk.";
    Switch 7 "switch" CRITICAL, 0, limits::METADATA, "The machine has stopped at the source.";
    Device 8 "device" CRITICAL, PROVISIONAL | COMPRESSED, limits::METADATA, "Device records.";
    Finish 9 "finish" CRITICAL, 0, limits::METADATA, "Counts and the digest of all before.";
    Index 10 "index" 0, 0, limits::METADATA, "Where things are, for readers that can seek.";
    Ram 11 "ram" CRITICAL | CHECKED_APART, 0, u64::MAX, "Bytes of a region as they are, to be mapped.";
    Checksums 12 "checksums" CRITICAL, 0, limits::METADATA, "CRC-32Cs of the ram frame before.";
    Pad 13 "pad" 0, 0, limits::PAD, "Zeros, so that what follows lies well.";
    Note 14 "note" 0, COMPRESSED, limits::METADATA, "Something with a name that no reader needs.";
    Abort 15 "abort" CRITICAL, 0, limits::METADATA, "The writer gives up, and why.";
    Request 16 "request" 0, 0, limits::METADATA, "Pages wanted, in an answer.";
    Tail 17 "tail" 0, 0, 9, "Where the index is; the last bytes of a file.";
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the kind; [`Kind::of`] knows those of version 1.
    pub kind: u8,
    /// Flags, as the constants beside this type.
    pub flags: u16,
    /// Which of the streams of one transfer it belongs to.
    pub channel: u16,
    /// Counts the frames of the channel from 0.
    pub sequence: u64,
    /// Counts the passes over memory.
    pub epoch: u32,
    /// Bytes of the payload.
    pub length: u64,
    /// CRC-32C of the payload, or of its fixed heads if it is checked apart.
    pub payload_crc: u32,
}

impl Header {
    /// The 51 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = Put { out: &mut out, at: 0 };
        put.bytes(&[0x89, 0x18, self.kind, 0x19]);
        put.bytes(&self.flags.to_be_bytes());
        put.bytes(&[0x19]);
        put.bytes(&self.channel.to_be_bytes());
        put.bytes(&[0x1b]);
        put.bytes(&self.sequence.to_be_bytes());
        put.bytes(&[0x1a]);
        put.bytes(&self.epoch.to_be_bytes());
        put.bytes(&[0x1b]);
        put.bytes(&self.length.to_be_bytes());
        put.bytes(&[0x1a]);
        put.bytes(&self.payload_crc.to_be_bytes());
        let crc = crc32c::crc32c(put.written());
        put.bytes(&[0x1a]);
        put.bytes(&crc.to_be_bytes());
        put.bytes(&[0x5b]);
        put.bytes(&self.length.to_be_bytes());
        out
    }

    /// Reads a header back, believing nothing before its CRC has been checked.
    ///
    /// # Errors
    ///
    /// [`Rule::F2`], [`Rule::F3`] or [`Rule::F4`], with the offset inside of the header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Broken> {
        if let Some((at, _)) = HEADS.iter().find(|(at, head)| bytes.get(*at) != Some(head)) {
            return Err(Broken::new(Rule::F2).at(u64::try_from(*at).unwrap_or(u64::MAX)));
        }
        let covered = bytes.first_chunk::<COVERED>().map_or(0, |covered| crc32c::crc32c(covered));
        if u64::from(covered) != number(bytes, 38, 4) {
            return Err(Broken::new(Rule::F3).at(37));
        }
        let length = number(bytes, 24, 8);
        if number(bytes, 43, 8) != length {
            return Err(Broken::new(Rule::F4).at(42));
        }
        Ok(Self {
            kind: narrow(number(bytes, 2, 1)),
            flags: narrow(number(bytes, 4, 2)),
            channel: narrow(number(bytes, 7, 2)),
            sequence: number(bytes, 10, 8),
            epoch: narrow(number(bytes, 19, 4)),
            length,
            payload_crc: narrow(number(bytes, 33, 4)),
        })
    }

    /// The kind, if the flags and the length are such as it may have; none for an unknown kind that may be skipped.
    ///
    /// # Errors
    ///
    /// [`Rule::F6`] to [`Rule::F9`].
    pub fn kind(&self) -> Result<Option<Kind>, Broken> {
        let Some(kind) = Kind::of(self.kind) else {
            let all = CRITICAL | PROVISIONAL | COMPRESSED | CHECKED_APART;
            return match () {
                () if self.flags & CRITICAL != 0 => {
                    Err(Broken::new(Rule::F8).at(1).found(format_args!("kind {}", self.kind)))
                }
                () if self.flags & !all != 0 => Err(Broken::new(Rule::F7).at(3)),
                () => Ok(None),
            };
        };
        if self.flags & CRITICAL != kind.flags() & CRITICAL {
            return Err(Broken::new(Rule::F9).at(3).found(kind.name()));
        }
        if self.flags & !(kind.flags() | kind.allowed()) != 0
            || self.flags & kind.flags() != kind.flags()
        {
            let found = format!("flags {:#06x} on {}", self.flags, kind.name());
            return Err(Broken::new(Rule::F7).at(3).found(found));
        }
        if self.length > kind.limit() {
            let found = format!("{} of {} bytes", kind.name(), self.length);
            return Err(Broken::new(Rule::F6).at(23).found(found));
        }
        Ok(Some(kind))
    }

    /// Whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Offsets and values of the bytes that are the same in every header.
const HEADS: [(usize, u8); 10] = [
    (0, 0x89),
    (1, 0x18),
    (3, 0x19),
    (6, 0x19),
    (9, 0x1b),
    (18, 0x1a),
    (23, 0x1b),
    (32, 0x1a),
    (37, 0x1a),
    (42, 0x5b),
];

/// Fills a buffer from its beginning.
struct Put<'a> {
    out: &'a mut [u8; HEADER_BYTES],
    at: usize,
}

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let slots = self.out.iter_mut().skip(self.at);
        slots.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        self.at += bytes.len();
    }

    fn written(&self) -> &[u8] {
        self.out.get(..self.at).unwrap_or_default()
    }
}

/// A big-endian number of `width` bytes at `at`.
pub(crate) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let field = bytes.iter().skip(at).take(width);
    field.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A number into the width that it was read with.
fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}
