//! Directory blocks: an array of entries from the front, their names behind it.
//!
//! Entries are sorted by name, `.` and `..` among them, because the kernel searches by halving. An entry's name ends where
//! the next one's begins; the last one of a block ends at a NUL or at the block's end.

use super::disk::{BLOCK, BLOCK_LEN, DIRENT};

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    /// One of the `FT_*` numbers.
    pub(super) file_type: u8,
}

/// Length in bytes of a directory with these entries besides `.` and `..`; the names must be sorted.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut names: Vec<_> = [&b"."[..], b".."].into_iter().chain(names).collect();
    names.sort_unstable();
    let lengths = block_lengths(names.into_iter());
    let full = (lengths.len() as u64).saturating_sub(1);
    full.saturating_mul(BLOCK).saturating_add(lengths.last().copied().unwrap_or(0))
}

/// The content of a directory with these entries besides `.` and `..`, which are given by number.
pub(super) fn encode<'a>(
    own: u64,
    parent: u64,
    entries: impl Iterator<Item = Dirent<'a>>,
) -> Vec<u8> {
    let dots = [(&b"."[..], own), (b"..", parent)].map(|(name, nid)| Dirent {
        name,
        nid,
        file_type: FT_DIRECTORY,
    });
    let mut entries: Vec<_> = dots.into_iter().chain(entries).collect();
    entries.sort_unstable_by_key(|entry| entry.name);
    let mut bytes = Vec::new();
    for block in encode_blocks(&entries) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
        bytes.extend(block);
    }
    bytes
}

/// The directory entry type of a directory.
pub(super) const FT_DIRECTORY: u8 = 2;

/// Lengths in bytes of the blocks that entries with these names, in this order, take. Only the last is shorter than a block
/// on disk; the others are padded.
fn block_lengths<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
    let mut lengths = Vec::new();
    let mut current = 0u64;
    for name in names {
        let bytes = (DIRENT as u64).saturating_add(name.len() as u64);
        if current.saturating_add(bytes) > BLOCK {
            lengths.push(current);
            current = 0;
        }
        current = current.saturating_add(bytes);
    }
    lengths.push(current);
    lengths
}

/// The blocks themselves, each as long as [`block_lengths`] says.
fn encode_blocks(entries: &[Dirent<'_>]) -> Vec<Vec<u8>> {
    let lengths = block_lengths(entries.iter().map(|entry| entry.name));
    let mut rest = entries;
    lengths
        .into_iter()
        .map(|length| {
            let mut used = 0u64;
            let count = rest
                .iter()
                .take_while(|entry| {
                    used =
                        used.saturating_add(DIRENT as u64).saturating_add(entry.name.len() as u64);
                    used <= length
                })
                .count();
            let (block, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = after;
            encode_block(block)
        })
        .collect()
}

fn encode_block(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut name_at = entries.len().saturating_mul(DIRENT);
    let mut bytes = Vec::new();
    for Dirent { name, nid, file_type } in entries {
        bytes.extend(nid.to_le_bytes());
        bytes.extend(u16::try_from(name_at).expect("a block has 4096 bytes").to_le_bytes());
        bytes.extend([*file_type, 0]);
        name_at = name_at.saturating_add(name.len());
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Reads blocks back the way the kernel does.
    fn decode(blocks: &[Vec<u8>]) -> Vec<(Vec<u8>, u64, u8)> {
        let mut entries = Vec::new();
        for block in blocks {
            let at = |index: usize| {
                u16::from_le_bytes([block[index * DIRENT + 8], block[index * DIRENT + 9]]).into()
            };
            let count: usize = at(0);
            let count = count / DIRENT;
            for index in 0..count {
                let start: usize = at(index);
                let end = if index + 1 == count { block.len() } else { at(index + 1) };
                let nid = u64::from_le_bytes(
                    block[index * DIRENT..][..8].try_into().expect("eight bytes"),
                );
                entries.push((block[start..end].to_vec(), nid, block[index * DIRENT + 10]));
            }
        }
        entries
    }

    proptest::proptest! {
        #[test]
        // A directory is never empty: it has `.` and `..`.
        fn every_entry_is_read_back_and_every_block_fits(
            names in proptest::collection::btree_set(proptest::collection::vec(1u8.., 1..=255), 1..400)
        ) {
            let names: BTreeSet<Vec<u8>> = names;
            let entries: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(at, name)| Dirent { name, nid: at as u64 * 7, file_type: 1 })
                .collect();

            let blocks = encode_blocks(&entries);

            let lengths: Vec<_> = blocks.iter().map(|block| block.len() as u64).collect();
            proptest::prop_assert_eq!(&lengths, &block_lengths(names.iter().map(Vec::as_slice)));
            proptest::prop_assert!(lengths.iter().all(|length| *length <= BLOCK));
            let want: Vec<_> =
                entries.iter().map(|entry| (entry.name.to_vec(), entry.nid, entry.file_type)).collect();
            proptest::prop_assert_eq!(decode(&blocks), want);
        }
    }
}
