//! Where each inode goes.

use super::data::{FileData, Stored};
use super::dirents;
use super::disk::{BLOCK, INODE, SLOT};
use super::tree::{Inode, InodeId, Node, Tree};
use super::xattr::{self, XattrError};

/// What follows an inode and its xattrs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Nothing,
    /// The last bytes of the content, in the same block as the inode.
    Inline(u64),
    /// A map of this many chunks.
    Map(u64),
}

/// An inode's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Byte offset in the metadata area; a multiple of [`SLOT`].
    pub(super) offset: u64,
    /// First block of its data, 0 if it has none.
    pub(super) block: u32,
    /// Blocks from there on that the layout gave it and that are still to be written.
    pub(super) late_blocks: u32,
    pub(super) size: u64,
    pub(super) tail: Tail,
    pub(super) nlink: u32,
    pub(super) parent: InodeId,
    /// Position in [`Layout::order`], from 1.
    pub(super) ino: u32,
}

impl Place {
    pub(super) fn nid(&self) -> u64 {
        self.offset / SLOT
    }
}

/// The whole metadata area, and the blocks of content that was held in memory.
#[derive(Debug)]
pub(super) struct Layout {
    /// Inodes in the order of their offsets; every reachable one, once.
    pub(super) order: Vec<InodeId>,
    places: Vec<Option<Place>>,
    /// Length of the metadata area in bytes, whole blocks.
    pub(super) bytes: u64,
    /// Block after the last late one: where the metadata area can begin.
    pub(super) end_block: u32,
}

impl Layout {
    /// Lays `tree` out; the blocks of directories and of what else was held in memory begin at `first_block`.
    ///
    /// Siblings lie side by side, since they are looked at together.
    pub(super) fn of(tree: &Tree, first_block: u32) -> Result<Self, XattrError> {
        // The first slots stay empty: number 0 means "deleted" to some readers of directories.
        let mut layout = Self {
            order: Vec::new(),
            places: vec![None; tree.len()],
            bytes: INODE,
            end_block: first_block,
        };
        let root = tree.root();
        layout.add(tree, root, root)?;
        let mut pending = vec![root];
        while let Some(directory) = pending.pop() {
            let mut below = Vec::new();
            for child in tree.get(directory).children.values() {
                if let Some(place) = layout.place_mut(*child) {
                    place.nlink = place.nlink.saturating_add(1);
                    continue;
                }
                layout.add(tree, *child, directory)?;
                if tree.get(*child).node == Node::Directory {
                    below.push(*child);
                }
            }
            let links = u32::try_from(below.len()).unwrap_or(u32::MAX);
            if let Some(place) = layout.place_mut(directory) {
                place.nlink = place.nlink.saturating_add(links);
            }
            pending.extend(below.into_iter().rev());
        }
        layout.bytes = layout.bytes.saturating_add(XATTR_PROBE).next_multiple_of(BLOCK);
        Ok(layout)
    }

    pub(super) fn place(&self, inode: InodeId) -> &Place {
        let place = self.places.get(inode.index()).and_then(Option::as_ref);
        place.expect("every reachable inode was given a place")
    }

    fn place_mut(&mut self, inode: InodeId) -> Option<&mut Place> {
        self.places.get_mut(inode.index()).and_then(Option::as_mut)
    }

    fn add(&mut self, tree: &Tree, id: InodeId, parent: InodeId) -> Result<(), XattrError> {
        let inode = tree.get(id);
        let xattrs = xattr::encode(&inode.attributes.xattrs).len();
        xattr::count(xattrs)?;
        let fixed = INODE.saturating_add(xattrs as u64);
        let (size, stored) = content(inode);
        let (block, late_blocks, tail) = match stored {
            Some(Stored::Contiguous(block)) => (block, 0, Tail::Nothing),
            Some(Stored::Map(chunks)) => (0, 0, Tail::Map(chunks)),
            None => self.place_held(size, fixed),
        };
        let offset = place_at(self.bytes, fixed, tail);
        let tail_bytes = match tail {
            Tail::Nothing => 0,
            Tail::Inline(bytes) => bytes,
            Tail::Map(chunks) => chunks.saturating_mul(4),
        };
        self.bytes = offset.saturating_add(fixed).saturating_add(tail_bytes).next_multiple_of(SLOT);
        self.order.push(id);
        let ino = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let nlink = if inode.node == Node::Directory { 2 } else { 1 };
        if let Some(place) = self.places.get_mut(id.index()) {
            *place = Some(Place { offset, block, late_blocks, size, tail, nlink, parent, ino });
        }
        Ok(())
    }

    /// Blocks for content that is held in memory, but for a rest that fits behind the inode.
    fn place_held(&mut self, size: u64, fixed: u64) -> (u32, u32, Tail) {
        let rest = size % BLOCK;
        let is_inline = rest > 0 && fixed.saturating_add(rest) <= BLOCK;
        let (blocks, tail) = if is_inline {
            (size / BLOCK, Tail::Inline(rest))
        } else {
            (size.div_ceil(BLOCK), Tail::Nothing)
        };
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let block = if blocks > 0 { self.end_block } else { 0 };
        self.end_block = self.end_block.saturating_add(blocks);
        (block, blocks, tail)
    }
}

/// `fsck.erofs` (1.5) reads the header of an inode's xattrs even where there are none, so it must not lie past the end.
const XATTR_PROBE: u64 = 12;

/// Length of an inode's content, and where it is if it is in the image already.
fn content(inode: &Inode) -> (u64, Option<Stored>) {
    match &inode.node {
        Node::Directory => (dirents::size(inode.children.keys().map(|name| &**name)), None),
        Node::Symlink(target) => (target.len() as u64, None),
        Node::File(FileData::Inline(bytes)) => (bytes.len() as u64, None),
        Node::File(FileData::Blocks { size, chunk_bits, runs }) => {
            (*size, Some(FileData::stored(*size, *chunk_bits, runs)))
        }
        Node::CharDevice { .. } | Node::BlockDevice { .. } | Node::Fifo | Node::Socket => (0, None),
    }
}

/// The next offset at which an inode with this tail may lie. An inode itself does not cross blocks, and one with an inline
/// tail not with all that it has; xattrs and maps may.
fn place_at(bytes: u64, fixed: u64, tail: Tail) -> u64 {
    let together = match tail {
        Tail::Inline(rest) => fixed.saturating_add(rest),
        Tail::Nothing | Tail::Map(_) => INODE,
    };
    if bytes % BLOCK + together > BLOCK { bytes.next_multiple_of(BLOCK) } else { bytes }
}
