//! One member of an archive, with everything that its extension headers said about it.

use bandsox_erofs::Timestamp;

/// What kind of file a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its stored bytes follow in the archive.
    File {
        /// Where its data lies, in order and without overlap: offset and length in bytes. What is not covered is a hole.
        extents: Vec<(u64, u64)>,
    },
    /// Another name of a file that came earlier.
    HardLink {
        /// The earlier member's path.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, uninterpreted.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One member. Everything in it is a claim of the archive's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name as stored: may be absolute, may hold `..`, may be anything.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Length of a regular file in bytes, holes included; 0 for the others.
    pub size: u64,
    /// Extended attributes: full name and value, in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}
