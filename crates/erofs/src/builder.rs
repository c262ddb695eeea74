//! From files to an image.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use super::data::{BlockWriter, FileData, StoreError};
use super::dirents::{self, Dirent};
use super::disk::{BLOCK, DataLayout, InodeRecord, Superblock, encode_device};
use super::layout::{Layout, Place, Tail};
use super::reclaim;
use super::tree::{Inode, InodeId, Node, Tree};
use super::xattr::{self, XattrError};
use crate::limits::Limits;

/// An image that is being built: add files to its tree, then finish it.
///
/// What files hold is given to [`Builder::store`] first, and what that returns goes into the tree.
#[derive(Debug)]
pub struct Builder {
    /// Names and attributes.
    pub tree: Tree,
    blocks: BlockWriter,
    limit_bytes: u64,
}

/// An image that is complete, though not synced.
#[derive(Debug)]
pub struct Finished {
    /// The file that [`Builder::new`] was given.
    pub file: File,
    /// Its length.
    pub bytes: u64,
}

/// Why an image could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// A file has more attributes than fit.
    #[error("a file cannot be stored")]
    Xattrs(#[from] XattrError),
    /// The image would be over its limit.
    #[error("the image is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The image could not be written.
    #[error("could not write the image")]
    Image(#[from] io::Error),
}

impl Builder {
    /// Builds into `image`, which must be empty and open for reading and writing.
    pub fn new(image: File, limits: &Limits) -> io::Result<Self> {
        Ok(Self {
            tree: Tree::new(limits.entries, limits.metadata_bytes),
            blocks: BlockWriter::new(image, limits.image_bytes, limits.file_bytes)?,
            limit_bytes: limits.image_bytes,
        })
    }

    /// Takes in the content of a file of `size` bytes: the data at `extents`, in order, read from `source`; zeros elsewhere.
    pub fn store(
        &mut self,
        size: u64,
        extents: &[(u64, u64)],
        source: &mut dyn Read,
    ) -> Result<FileData, StoreError> {
        self.blocks.store(size, extents, source)
    }

    /// Writes what was held back: large directories, then all inodes, then the superblock.
    pub fn finish(self) -> Result<Finished, FinishError> {
        let Self { tree, blocks, limit_bytes } = self;
        let layout = Layout::of(&tree, blocks.position())?;
        let meta_block = layout.end_block;
        let meta_blocks = layout.bytes.div_ceil(BLOCK);
        let blocks_total = u64::from(meta_block).saturating_add(meta_blocks);
        let bytes = blocks_total.saturating_mul(BLOCK);
        let total = u32::try_from(blocks_total).ok().filter(|_| bytes <= limit_bytes);
        let total = total.ok_or(FinishError::TooLarge { limit: limit_bytes })?;

        let (mut file, first_late) = blocks.finish().map_err(|error| match error {
            StoreError::Image(error) | StoreError::Source(error) => FinishError::Image(error),
            StoreError::FileTooLarge { .. } | StoreError::ImageTooLarge { .. } => {
                FinishError::TooLarge { limit: limit_bytes }
            }
        })?;
        reclaim::reclaim(&file, &tree, &layout, first_late)?;
        file.seek(SeekFrom::Start(u64::from(first_late).saturating_mul(BLOCK)))?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        write_late_blocks(&mut out, &tree, &layout)?;
        write_inodes(&mut out, &tree, &layout)?;
        out.flush()?;
        drop(out);

        let superblock = Superblock {
            root_nid: u16::try_from(layout.place(tree.root()).nid())
                .expect("the root is the first inode"),
            inodes: layout.order.len() as u64,
            blocks: total,
            meta_block,
            has_chunks: layout
                .order
                .iter()
                .any(|id| matches!(layout.place(*id).tail, Tail::Map(_))),
        };
        file.write_all_at(&superblock.encode(), 0)?;
        Ok(Finished { file, bytes })
    }
}

/// What an inode's content is, where it is held in memory.
fn held_content<'a>(
    tree: &'a Tree,
    layout: &Layout,
    inode: &'a Inode,
    place: &Place,
) -> std::borrow::Cow<'a, [u8]> {
    match &inode.node {
        Node::Directory => {
            let entries = inode.children.iter().map(|(name, child)| Dirent {
                name,
                nid: layout.place(*child).nid(),
                file_type: file_type(&tree.get(*child).node),
            });
            dirents::encode(place.nid(), layout.place(place.parent).nid(), entries).into()
        }
        Node::Symlink(target) => target.as_ref().into(),
        Node::File(FileData::Inline(bytes)) => bytes.as_ref().into(),
        Node::File(FileData::Blocks { .. })
        | Node::CharDevice { .. }
        | Node::BlockDevice { .. }
        | Node::Fifo
        | Node::Socket => (&[][..]).into(),
    }
}

fn write_late_blocks(out: &mut impl io::Write, tree: &Tree, layout: &Layout) -> io::Result<()> {
    for id in &layout.order {
        let place = layout.place(*id);
        let bytes = u64::from(place.late_blocks).saturating_mul(BLOCK);
        if bytes > 0 {
            let content = held_content(tree, layout, tree.get(*id), place);
            let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(content.len());
            out.write_all(content.get(..length).unwrap_or_default())?;
            write_zeros(out, bytes.saturating_sub(length as u64))?;
        }
    }
    Ok(())
}

fn write_inodes(out: &mut impl io::Write, tree: &Tree, layout: &Layout) -> Result<(), FinishError> {
    let mut at = 0u64;
    for id in &layout.order {
        let place = layout.place(*id);
        let inode = tree.get(*id);
        let xattrs = xattr::encode(&inode.attributes.xattrs);
        write_zeros(out, place.offset.saturating_sub(at))?;
        out.write_all(&record(inode, place, xattr::count(xattrs.len())?).encode())?;
        out.write_all(&xattrs)?;
        let tail = write_tail(out, tree, layout, *id)?;
        at = place
            .offset
            .saturating_add(super::disk::INODE)
            .saturating_add(xattrs.len() as u64)
            .saturating_add(tail);
    }
    write_zeros(out, layout.bytes.saturating_sub(at))?;
    Ok(())
}

/// Writes what follows an inode and its xattrs, and says how many bytes that was.
fn write_tail(
    out: &mut impl io::Write,
    tree: &Tree,
    layout: &Layout,
    id: InodeId,
) -> io::Result<u64> {
    let place = layout.place(id);
    let inode = tree.get(id);
    match place.tail {
        Tail::Nothing => Ok(0),
        Tail::Inline(bytes) => {
            let content = held_content(tree, layout, inode, place);
            let start = content.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
            out.write_all(content.get(start..).unwrap_or_default())?;
            Ok(bytes)
        }
        Tail::Map(chunks) => {
            if let Node::File(FileData::Blocks { chunk_bits, runs, .. }) = &inode.node {
                for block in FileData::map(chunks, *chunk_bits, runs) {
                    out.write_all(&block.to_le_bytes())?;
                }
            }
            Ok(chunks.saturating_mul(4))
        }
    }
}

fn record(inode: &Inode, place: &Place, xattr_count: u16) -> InodeRecord {
    let layout = match place.tail {
        Tail::Nothing => DataLayout::Plain,
        Tail::Inline(_) => DataLayout::Inline,
        Tail::Map(_) => DataLayout::Chunks,
    };
    let union = match &inode.node {
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            encode_device(*major, *minor).expect("the tree takes only numbers that fit")
        }
        Node::File(FileData::Blocks { chunk_bits, .. }) if layout == DataLayout::Chunks => {
            (*chunk_bits).into()
        }
        Node::File(_) | Node::Directory | Node::Symlink(_) | Node::Fifo | Node::Socket => {
            place.block
        }
    };
    InodeRecord {
        layout,
        xattr_count,
        mode: inode.attributes.mode & 0o7777 | mode_type(&inode.node),
        size: place.size,
        union,
        ino: place.ino,
        uid: inode.attributes.uid,
        gid: inode.attributes.gid,
        mtime: inode.attributes.mtime,
        nlink: place.nlink,
    }
}

/// `S_IFMT` bits.
fn mode_type(node: &Node) -> u16 {
    match node {
        Node::Directory => 0o040_000,
        Node::File(_) => 0o100_000,
        Node::Symlink(_) => 0o120_000,
        Node::CharDevice { .. } => 0o020_000,
        Node::BlockDevice { .. } => 0o060_000,
        Node::Fifo => 0o010_000,
        Node::Socket => 0o140_000,
    }
}

/// `FT_*` of directory entries.
fn file_type(node: &Node) -> u8 {
    match node {
        Node::File(_) => 1,
        Node::Directory => dirents::FT_DIRECTORY,
        Node::CharDevice { .. } => 3,
        Node::BlockDevice { .. } => 4,
        Node::Fifo => 5,
        Node::Socket => 6,
        Node::Symlink(_) => 7,
    }
}

fn write_zeros(out: &mut impl io::Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(|_| ())
}
