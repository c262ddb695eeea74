//! Giving back what replaced and removed files took.
//!
//! Data goes to the image before it is known whether its file stays. What no file refers to in the end becomes a hole of
//! the image file, which reads as zeros: it takes no disk, and nobody finds in it what was removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::data::FileData;
use super::disk::{BLOCK, BLOCK_LEN};
use super::layout::Layout;
use super::tree::{Node, Tree};

/// Makes holes of the blocks between the superblock's and `end` that hold no file's data.
pub(super) fn reclaim(image: &File, tree: &Tree, layout: &Layout, end: u32) -> io::Result<()> {
    for (first, count) in unused(used(tree, layout), end.into()) {
        let (offset, length) = (first.saturating_mul(BLOCK), count.saturating_mul(BLOCK));
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(image, flags, offset, length) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(image, offset, count)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// First block and number of blocks of each run of data that is in use, sorted.
fn used(tree: &Tree, layout: &Layout) -> Vec<(u64, u64)> {
    let mut used = Vec::new();
    for id in &layout.order {
        if let Node::File(FileData::Blocks { size, chunk_bits, runs }) = &tree.get(*id).node {
            used.extend(runs.iter().map(|run| run.blocks(*size, *chunk_bits)));
        }
    }
    used.sort_unstable();
    used
}

/// What lies between `used`, from block 1 to `end`.
fn unused(used: Vec<(u64, u64)>, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = 1;
    used.into_iter().chain([(end, 0)]).filter_map(move |(first, count)| {
        let gap = (next, first.saturating_sub(next));
        next = next.max(first.saturating_add(count));
        (gap.1 > 0).then_some(gap)
    })
}

/// For file systems that cannot make holes.
fn write_zeros(image: &File, offset: u64, blocks: u64) -> io::Result<()> {
    let zeros = [0; BLOCK_LEN];
    for block in 0..blocks {
        image.write_all_at(&zeros, offset.saturating_add(block.saturating_mul(BLOCK)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_no_run_covers_at_both_ends_and_between() {
        let gaps = |used: &[(u64, u64)]| unused(used.to_vec(), 20).collect::<Vec<_>>();

        assert_eq!(gaps(&[]), [(1, 19)]);
        assert_eq!(gaps(&[(1, 19)]), []);
        assert_eq!(gaps(&[(3, 2), (5, 1), (10, 10)]), [(1, 2), (6, 4)]);
    }
}
