//! What becomes a hole, what a map, and what stays in one piece.

use std::os::unix::fs::FileExt as _;

use super::*;

fn writer() -> BlockWriter {
    BlockWriter::new(tempfile::tempfile().expect("a temporary file"), 1 << 40, 1 << 44)
        .expect("seeks")
}

/// Stores `content` as one extent and reads it back through the map, as a kernel would.
fn round_trip(content: &[u8]) -> (FileData, Vec<u8>) {
    let mut writer = writer();
    let size = content.len() as u64;
    let data = writer.store(size, &[(0, size)], &mut &*content).expect("stores");
    let (file, _) = writer.finish().expect("finishes");
    let FileData::Blocks { size, chunk_bits, runs } = &data else {
        let FileData::Inline(bytes) = &data else { unreachable!("the other kind") };
        return (data.clone(), bytes.to_vec());
    };
    let chunks = size.div_ceil(BLOCK << chunk_bits);
    let mut read = Vec::new();
    for block in FileData::map(chunks, *chunk_bits, runs) {
        let mut chunk = vec![0; BLOCK_LEN];
        if block != NULL_BLOCK {
            let at = u64::from(block) * BLOCK;
            assert_eq!(
                file.read_at(&mut chunk, at).expect("reads"),
                BLOCK_LEN,
                "the last block is padded"
            );
        }
        read.extend(chunk);
    }
    read.truncate(content.len());
    (data, read)
}

#[test]
fn a_file_with_short_zeros_stays_in_one_piece() {
    let mut content = vec![1; 200_000];
    content[10_000..60_000].fill(0);

    let (data, read) = round_trip(&content);

    assert!(read == content);
    let FileData::Blocks { size, chunk_bits, runs } = data else { panic!("not inline") };
    assert_eq!(FileData::stored(size, chunk_bits, &runs), Stored::Contiguous(1));
}

#[test]
fn long_zeros_become_holes_at_the_front_in_the_middle_and_at_the_end() {
    for hole in [0..100_000, 100_000..300_000, 400_000..500_001] {
        let mut content = vec![1; 500_001];
        content[hole.clone()].fill(0);

        let (data, read) = round_trip(&content);

        assert!(read == content, "{hole:?}");
        let FileData::Blocks { size, chunk_bits, runs } = data else { panic!("not inline") };
        assert_eq!(FileData::stored(size, chunk_bits, &runs), Stored::Map(123), "{hole:?}");
        let stored: u64 = runs.iter().map(|run| run.chunks).sum();
        assert!(stored * BLOCK < 450_000, "{hole:?}");
    }
}

#[test]
fn terabytes_of_hole_take_a_small_map_and_no_time() {
    let mut writer = writer();
    let extents = [(0, 10), (5 << 40, 10), ((9 << 40) - 10, 10)];

    let data = writer.store(9 << 40, &extents, &mut &[b'x'; 30][..]).expect("stores");

    let FileData::Blocks { size, chunk_bits, runs } = data else { panic!("not inline") };
    assert_eq!(runs.len(), 3);
    let Stored::Map(chunks) = FileData::stored(size, chunk_bits, &runs) else {
        panic!("holes need a map")
    };
    assert!(chunks <= MAX_MAP);
}

#[test]
fn a_source_that_ends_early_and_a_file_over_its_limit_are_refused() {
    let mut writer = writer();

    let short = writer.store(10_000, &[(0, 10_000)], &mut &[1; 9_999][..]);
    assert!(matches!(short, Err(StoreError::Source(_))));
    let long = writer.store(1 << 50, &[], &mut io::empty());
    assert!(matches!(long, Err(StoreError::FileTooLarge { .. })));
}

proptest::proptest! {
    #[test]
    fn every_content_is_read_back(
        pieces in proptest::collection::vec((proptest::bool::ANY, 0usize..150_000), 0..8)
    ) {
        let content: Vec<u8> = pieces
            .iter()
            .flat_map(|(is_data, length)| std::iter::repeat_n(u8::from(*is_data), *length))
            .collect();

        let (_, read) = round_trip(&content);

        proptest::prop_assert!(read == content);
    }

    #[test]
    fn extents_and_the_zeros_between_them_are_read_back(gaps in proptest::collection::vec((0u64..100_000, 1u64..20_000), 1..8)) {
        let mut extents = Vec::new();
        let mut at = 0;
        for (gap, length) in gaps {
            extents.push((at + gap, length));
            at += gap + length;
        }
        let mut content = vec![0; usize::try_from(at).expect("small")];
        for (offset, length) in &extents {
            let range = usize::try_from(*offset).expect("small")..usize::try_from(offset + length).expect("small");
            content[range].fill(7);
        }
        let stored = vec![7; usize::try_from(extents.iter().map(|(_, length)| length).sum::<u64>()).expect("small")];

        let whole = round_trip(&content).0;
        let sparse = writer().store(at, &extents, &mut stored.as_slice()).expect("stores");

        proptest::prop_assert_eq!(sparse, whole);
    }
}
