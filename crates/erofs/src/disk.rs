//! The structures on disk, little-endian throughout.
//!
//! Source: Linux 6.1 `fs/erofs/erofs_fs.h`; `Documentation/filesystems/erofs.rst`.

use crate::timestamp::Timestamp;

/// Size of a block in bytes.
pub(super) const BLOCK: u64 = 4096;
/// [`BLOCK`] as a length in memory.
pub(super) const BLOCK_LEN: usize = 4096;
/// Log2 of [`BLOCK`].
pub(super) const BLOCK_BITS: u8 = 12;
/// An inode's number is its byte offset in the metadata area divided by this.
pub(super) const SLOT: u64 = 32;
/// Size of an extended inode.
pub(super) const INODE: u64 = 64;
/// Size of a directory entry without its name.
pub(super) const DIRENT: usize = 12;
/// The block address of a hole in a chunk map.
pub(super) const NULL_BLOCK: u32 = u32::MAX;

/// How an inode's data is stored; `i_format` bits 1 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// Consecutive blocks.
    Plain = 0,
    /// Consecutive blocks, and the rest right behind the inode.
    Inline = 2,
    /// A map of chunks behind the inode.
    Chunks = 4,
}

/// What of the superblock varies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    /// Whether any inode uses [`DataLayout::Chunks`].
    pub(super) has_chunks: bool,
}

impl Superblock {
    /// The whole first block of the image.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { root_nid, inodes, blocks, meta_block, has_chunks } = *self;
        let mut sb = Vec::with_capacity(128);
        sb.extend(MAGIC.to_le_bytes());
        sb.extend([0; 4]); // checksum, below
        sb.extend((COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
        sb.extend([BLOCK_BITS, 0]); // no extension slots
        sb.extend(root_nid.to_le_bytes());
        sb.extend(inodes.to_le_bytes());
        sb.extend([0; 12]); // build time: only compact inodes use it, and it would differ from run to run
        sb.extend(blocks.to_le_bytes());
        sb.extend(meta_block.to_le_bytes());
        sb.extend([0; 4]); // no shared xattrs
        sb.extend([0; 16]); // UUID: the image goes by its digest
        sb.extend(VOLUME_NAME);
        sb.extend(if has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 }.to_le_bytes());
        let mut block = vec![0; 1024];
        block.extend(sb);
        block.resize(BLOCK_LEN, 0);
        let checksum = crc32c(block.get(1024..).unwrap_or_default());
        if let Some(field) = block.get_mut(1028..1032) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }
}

/// An extended inode, field by field.
#[derive(Debug, Clone, Copy)]
pub(super) struct InodeRecord {
    pub(super) layout: DataLayout,
    /// `(xattr bytes - 12) / 4 + 1`, or 0 without xattrs.
    pub(super) xattr_count: u16,
    /// Type and permissions.
    pub(super) mode: u16,
    pub(super) size: u64,
    /// First block, device number or chunk format.
    pub(super) union: u32,
    /// Number for 32-bit `stat` only.
    pub(super) ino: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) nlink: u32,
}

impl InodeRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { layout, xattr_count, mode, size, union, ino, uid, gid, mtime, nlink } = *self;
        let format = (layout as u16) << 1 | EXTENDED;
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(format.to_le_bytes());
        bytes.extend(xattr_count.to_le_bytes());
        bytes.extend(mode.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(union.to_le_bytes());
        bytes.extend(ino.to_le_bytes());
        bytes.extend(uid.to_le_bytes());
        bytes.extend(gid.to_le_bytes());
        bytes.extend(mtime.seconds.to_le_bytes());
        bytes.extend(mtime.nanos.to_le_bytes());
        bytes.extend(nlink.to_le_bytes());
        bytes.extend([0; 16]);
        bytes
    }
}

/// A device number as inodes hold it (`new_encode_dev`), if both parts fit: 12 and 20 bits.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    let code = || minor & 0xff | major << 8 | (minor & !0xff) << 12;
    if major < 1 << 12 && minor < 1 << 20 { Some(code()) } else { None }
}

/// CRC-32C without the final inversion, as the kernel's `crc32c(~0, …)`.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc >> 1 ^ carry
        })
    })
}

const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_SB_CHKSUM: u32 = 0x1;
const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const EXTENDED: u16 = 1;
const VOLUME_NAME: [u8; 16] = *b"bandsox-base\0\0\0\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, B.4: 32 bytes of zeros give 0x8a9136aa, inverted at the end.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn records_have_their_sizes() {
        let superblock =
            Superblock { root_nid: 2, inodes: 1, blocks: 2, meta_block: 1, has_chunks: true };
        assert_eq!(superblock.encode().len(), 4096);
        let mtime = Timestamp { seconds: -1, nanos: 1 };
        let inode = InodeRecord {
            layout: DataLayout::Plain,
            xattr_count: 0,
            mode: 0,
            size: 0,
            union: 0,
            ino: 1,
            uid: 0,
            gid: 0,
            mtime,
            nlink: 1,
        };
        assert_eq!(inode.encode().len(), 64);
    }

    #[test]
    fn device_numbers_that_do_not_fit_are_refused() {
        assert_eq!(encode_device(8, 1), Some(0x801));
        assert_eq!(encode_device(0xfff, 0xf_ffff), Some(0xffff_ffff));
        assert_eq!(encode_device(0x1000, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }
}
