//! Writing EROFS images: uncompressed, deterministic, in one pass over the input.
//!
//! File data goes to the image as it is read; names, attributes and small files are held in memory and written behind it.
//! `docs/formats/base-image.md` describes what comes out. The on-disk format is Linux's (`fs/erofs/erofs_fs.h`, 6.1 and
//! later), and the kernel's own driver and `fsck.erofs` are what it is tested with.
//!
//! ```text
//! block 0        superblock at byte 1024
//! block 1 …      file data, in the order in which files were added
//!        …       blocks of large directories
//! meta_blkaddr … inodes, each followed by its xattrs and its chunk map or inline tail
//! ```

mod builder;
mod data;
mod dirents;
mod disk;
mod layout;
mod limits;
mod reclaim;
mod timestamp;
mod tree;
mod xattr;

pub use builder::{Builder, FinishError, Finished};
pub use data::{FileData, StoreError};
pub use limits::Limits;
pub use timestamp::Timestamp;
pub use tree::{Attributes, InodeId, Node, Tree, TreeError, components, held_bytes};
pub use xattr::{Xattr, XattrError};

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use tree::testing;
