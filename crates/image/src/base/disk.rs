//! Which file system a disk file holds, and whether all of it is there.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

/// The file system of a base; also the value of `bandsox.base_fs=` on the guest's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// EROFS, as this crate builds it.
    Erofs,
    /// ext4, or ext2/ext3, which the same driver mounts.
    Ext4,
}

impl Format {
    /// The name that `mount -t` takes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a file is not usable as a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Neither an ext4 nor an EROFS superblock at byte 1024.
    #[error("not an image: want an ext4 or EROFS file system, a tar, or a directory")]
    NotAFileSystem,
    /// The superblock describes more than the file holds.
    #[error("{format} file system of {want} bytes in a file of {got} bytes: the file is cut short")]
    Truncated {
        /// Which file system.
        format: Format,
        /// What the superblock says.
        want: u64,
        /// The file's length.
        got: u64,
    },
    /// A superblock field is outside what the format allows.
    #[error("{format} superblock is damaged: {field} is {value}")]
    Damaged {
        /// Which file system.
        format: Format,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// An ext4 external journal, which holds no files.
    #[error("an ext4 journal device, not a file system")]
    JournalDevice,
    /// The operating system refused a read.
    #[error("could not read the superblock")]
    Io(#[from] io::Error),
}

/// What [`inspect`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) format: Format,
    pub(super) dirty_journal: bool,
}

/// Reads the superblock of `file`.
pub(super) fn inspect(file: &File) -> Result<Disk, DiskError> {
    let len = file.metadata()?.len();
    let mut block = [0; 1024];
    match file.read_exact_at(&mut block, SUPERBLOCK_OFFSET) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(DiskError::NotAFileSystem);
        }
        Err(error) => return Err(error.into()),
    }
    if le32(&block, 0) == EROFS_MAGIC {
        inspect_erofs(&block, len)
    } else if le32(&block, 56) & 0xffff == EXT4_MAGIC {
        inspect_ext4(&block, len)
    } else {
        Err(DiskError::NotAFileSystem)
    }
}

/// Source: Linux `fs/erofs/erofs_fs.h`, `struct erofs_super_block`.
fn inspect_erofs(block: &[u8; 1024], len: u64) -> Result<Disk, DiskError> {
    let format = Format::Erofs;
    let bits = le32(block, 12) & 0xff;
    if !(9..=12).contains(&bits) {
        return Err(DiskError::Damaged { format, field: "blkszbits", value: bits.into() });
    }
    check_size(format, u64::from(le32(block, 36)), u64::from(bits), len)?;
    Ok(Disk { format, dirty_journal: false })
}

/// Source: Linux `Documentation/filesystems/ext4/super.rst`.
fn inspect_ext4(block: &[u8; 1024], len: u64) -> Result<Disk, DiskError> {
    let format = Format::Ext4;
    let log_block_size = le32(block, 24);
    if log_block_size > 6 {
        return Err(DiskError::Damaged {
            format,
            field: "s_log_block_size",
            value: log_block_size.into(),
        });
    }
    let incompatible = le32(block, 96);
    if incompatible & EXT4_INCOMPAT_JOURNAL_DEV != 0 {
        return Err(DiskError::JournalDevice);
    }
    let high = if incompatible & EXT4_INCOMPAT_64BIT != 0 { le32(block, 0x150) } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(le32(block, 4));
    if blocks == 0 {
        return Err(DiskError::Damaged { format, field: "s_blocks_count", value: 0 });
    }
    check_size(format, blocks, u64::from(log_block_size).saturating_add(10), len)?;
    Ok(Disk { format, dirty_journal: incompatible & EXT4_INCOMPAT_RECOVER != 0 })
}

fn check_size(format: Format, blocks: u64, block_bits: u64, len: u64) -> Result<(), DiskError> {
    let want = blocks.saturating_mul(
        1u64.checked_shl(u32::try_from(block_bits).unwrap_or(63)).unwrap_or(u64::MAX),
    );
    if want > len {
        return Err(DiskError::Truncated { format, want, got: len });
    }
    Ok(())
}

/// The little-endian 32-bit field at `offset` of a superblock; zero past its end.
fn le32(block: &[u8; 1024], offset: usize) -> u32 {
    let bytes = block.get(offset..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(bytes.copied().unwrap_or_default())
}

const SUPERBLOCK_OFFSET: u64 = 1024;
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
const EXT4_MAGIC: u32 = 0xef53;
const EXT4_INCOMPAT_RECOVER: u32 = 0x4;
const EXT4_INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const EXT4_INCOMPAT_64BIT: u32 = 0x80;

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn ext4(path: &Path) -> File {
        let made = Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .arg(path)
            .arg("8M")
            .status();
        assert!(made.expect("mke2fs runs").success());
        OpenOptions::new().read(true).write(true).open(path).expect("opens")
    }

    #[test]
    fn a_real_ext4_is_accepted_and_its_journal_is_clean() {
        let dir = tempfile::tempdir().expect("a temporary directory");

        let disk = inspect(&ext4(&dir.path().join("disk"))).expect("inspects");

        assert_eq!(disk, Disk { format: Format::Ext4, dirty_journal: false });
    }

    #[test]
    fn a_cut_ext4_is_refused_with_both_sizes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = ext4(&dir.path().join("disk"));
        file.set_len(5 << 20).expect("truncates");

        let refused = inspect(&file).expect_err("it is cut");

        assert_eq!(
            refused.to_string(),
            "ext4 file system of 8388608 bytes in a file of 5242880 bytes: the file is cut short"
        );
    }

    #[test]
    fn damaged_and_foreign_superblocks_are_refused_by_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = ext4(&dir.path().join("disk"));

        file.write_all_at(&99u32.to_le_bytes(), 1024 + 24).expect("writes");
        let refused = inspect(&file).expect_err("no such block size");
        assert_eq!(refused.to_string(), "ext4 superblock is damaged: s_log_block_size is 99");

        file.write_all_at(&0u32.to_le_bytes(), 1024 + 56).expect("writes");
        assert!(matches!(inspect(&file), Err(DiskError::NotAFileSystem)));
        file.set_len(100).expect("truncates");
        assert!(matches!(inspect(&file), Err(DiskError::NotAFileSystem)));
    }
}
