//! One file, directory or link on its way, and what stands around its data.

use std::fmt;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};

use crate::ByteString;
use crate::list::at_most;

/// Most data segments of one entry; a sender joins the closest ones beyond.
pub const MAX_SEGMENTS: usize = 4096;

/// Longest path in an entry, in bytes: Linux's `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// Longest single name, in bytes: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EntryKind {
    /// 0: regular file.
    #[n(0)]
    File,
    /// 1: directory.
    #[n(1)]
    Dir,
    /// 2: symbolic link.
    #[n(2)]
    Symlink,
    /// 3: named pipe; never transferred, only reported.
    #[n(3)]
    Fifo,
    /// 4: socket; never transferred, only reported.
    #[n(4)]
    Socket,
    /// 5: character device; never transferred, only reported.
    #[n(5)]
    CharDevice,
    /// 6: block device; never transferred, only reported.
    #[n(6)]
    BlockDevice,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "regular file",
            Self::Dir => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        })
    }
}

/// A run of bytes that is data; what lies between segments, and after the last, is a hole.
///
/// On the wire: array of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Length in bytes, not 0.
    pub len: u64,
}

impl<C> Encode<C> for Segment {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(2)?.u64(self.offset)?.u64(self.len)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Segment {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let position = d.position();
        if d.array()? != Some(2) {
            return Err(decode::Error::message("segment is not a pair").at(position));
        }
        Ok(Self { offset: d.u64()?, len: d.u64()? })
    }
}

/// 0x91: what comes next. A file's data follows the frame at once: the bytes of all segments, unframed, then a [`Trailer`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Relative to the target, components separated by one `/`; empty is the target itself, which comes first.
    #[n(0)]
    pub path: ByteString,
    /// File, directory or symbolic link.
    #[n(1)]
    pub kind: EntryKind,
    /// Permission bits, 12 of them.
    #[n(2)]
    pub mode: u32,
    /// Owner, if the sender wants it kept.
    #[n(3)]
    pub uid: Option<u32>,
    /// Group, if the sender wants it kept.
    #[n(4)]
    pub gid: Option<u32>,
    /// Modification time, nanoseconds since 1970, may be negative.
    #[n(5)]
    pub mtime_ns: i64,
    /// Length of a file in bytes, holes included; 0 for others.
    #[cbor(n(6), default)]
    pub size: u64,
    /// Where a symbolic link points.
    #[n(7)]
    pub target: Option<ByteString>,
    /// A file's data, ascending, apart; at most 4,096.
    #[cbor(n(8), decode_with = "at_most::<_, _, MAX_SEGMENTS>", default)]
    pub segments: Vec<Segment>,
}

/// The first rule that an [`Entry`] breaks. Every receiver checks before it acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// A path that is absolute, or has `..`, `.`, an empty component, a NUL, or is too long.
    #[error("entry {path} has an unsafe name")]
    Name {
        /// The path.
        path: ByteString,
    },
    /// A kind that is not transferred.
    #[error("entry {path} is a {kind}, which is not transferred")]
    Kind {
        /// The path.
        path: ByteString,
        /// The kind.
        kind: EntryKind,
    },
    /// A link without target, with an empty one, with a NUL in it; or a target on something else.
    #[error("entry {path} has an impossible link target")]
    Target {
        /// The path.
        path: ByteString,
    },
    /// Segments that overlap, go back, are empty or leave the file.
    #[error("entry {path} has data at {offset}+{len}, outside its {size} bytes or out of order")]
    Segment {
        /// The path.
        path: ByteString,
        /// Start of the segment, in bytes.
        offset: u64,
        /// Its length, in bytes.
        len: u64,
        /// The file's size, in bytes.
        size: u64,
    },
    /// A size that no file has, or one on something that is no file.
    #[error("entry {path} has an impossible size of {size} bytes")]
    Size {
        /// The path.
        path: ByteString,
        /// The size.
        size: u64,
    },
}

impl Entry {
    /// Checks all that can be checked without a disk.
    ///
    /// # Errors
    ///
    /// The first rule broken, see [`InvalidEntry`].
    pub fn check(&self) -> Result<(), InvalidEntry> {
        let path = || self.path.clone();
        if !is_safe_path(self.path.as_bytes()) {
            return Err(InvalidEntry::Name { path: path() });
        }
        match self.kind {
            EntryKind::File | EntryKind::Dir | EntryKind::Symlink => {}
            kind @ (EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice
            | EntryKind::BlockDevice) => return Err(InvalidEntry::Kind { path: path(), kind }),
        }
        if !self.target_is_possible() {
            return Err(InvalidEntry::Target { path: path() });
        }
        let is_file = self.kind == EntryKind::File;
        if i64::try_from(self.size).is_err() || (!is_file && self.size != 0) {
            return Err(InvalidEntry::Size { path: path(), size: self.size });
        }
        let mut end = 0_u64;
        for &Segment { offset, len } in &self.segments {
            let next = offset.checked_add(len).filter(|next| *next <= self.size);
            match next {
                Some(next) if len > 0 && offset >= end => end = next,
                _ => {
                    let size = self.size;
                    return Err(InvalidEntry::Segment { path: path(), offset, len, size });
                }
            }
        }
        Ok(())
    }

    /// How many raw bytes follow the frame before the trailer.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.len))
    }

    fn target_is_possible(&self) -> bool {
        let is_link = self.kind == EntryKind::Symlink;
        match &self.target {
            None => !is_link,
            Some(target) => {
                let bytes = target.as_bytes();
                is_link && !bytes.is_empty() && bytes.len() < MAX_PATH && !bytes.contains(&0)
            }
        }
    }
}

fn is_safe_path(path: &[u8]) -> bool {
    path.is_empty()
        || (path.len() < MAX_PATH
            && !path.contains(&0)
            && path.split(|byte| *byte == b'/').all(|name| {
                !name.is_empty() && name != b"." && name != b".." && name.len() <= MAX_NAME
            }))
}

/// What follows a file's raw data: u8 status, u64 LE xxh64 (seed 0) over the raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Whether the data is good.
    pub status: Status,
    /// xxh64 with seed 0 of the raw bytes, in the order sent.
    pub xxh64: u64,
}

/// The first byte of a [`Trailer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: all of it was read.
    Complete,
    /// 1, or anything else: the source failed; throw the file away. An Error frame says why.
    SourceFailed,
}

impl Trailer {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 9;

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let status = match self.status {
            Status::Complete => 0,
            Status::SourceFailed => 1,
        };
        let [a, b, c, d, e, f, g, h] = self.xxh64.to_le_bytes();
        [status, a, b, c, d, e, f, g, h]
    }

    /// Reads the bytes from the wire.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [status, hash @ ..] = bytes;
        let status = if status == 0 { Status::Complete } else { Status::SourceFailed };
        Self { status, xxh64: u64::from_le_bytes(hash) }
    }
}

/// 0x92: after the last entry, from the sender; then from the receiver once everything is in place. Totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Done {
    /// Files, not counting directories and links.
    #[cbor(n(0), default)]
    pub files: u64,
    /// Raw bytes of data.
    #[cbor(n(1), default)]
    pub bytes: u64,
    /// Directories and links.
    #[cbor(n(2), default)]
    pub others: u64,
    /// What a sender left out: devices, sockets, pipes, and what vanished before it was opened.
    #[cbor(n(3), default)]
    pub skipped: u64,
    /// The first few of those left out, at most 16.
    #[cbor(n(4), decode_with = "at_most::<_, _, 16>", default)]
    pub skipped_names: Vec<ByteString>,
}
