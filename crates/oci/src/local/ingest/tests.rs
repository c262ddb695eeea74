//! Archives that are more than they look, and ones that are odd but whole.

use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

const MOST: u64 = 1 << 20;

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// An archive by gzip of what `fill` adds.
fn gzipped(fill: impl FnOnce(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    fill(&mut tar);
    tar.into_inner().expect("ends").finish().expect("ends")
}

fn read(archive: &[u8]) -> (TempDir, Members, Result<(), String>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let blobs = Blobs::open(dir.path().to_owned()).expect("opens");
    let mut members = Members::default();
    let result = ingest(&blobs, &mut &*archive, &mut members, MOST, &mut |_| {});
    let result = result.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    });
    if result.is_err() {
        members.forget(&blobs, |_| false);
    }
    (dir, members, result)
}

/// Why these bytes are refused; nothing of them may stay.
fn refusal(archive: &[u8]) -> String {
    let (dir, _, result) = read(archive);
    for below in ["sha256", "partial"] {
        let left = fs::read_dir(dir.path().join(below)).expect("lists").count();
        assert_eq!(left, 0, "{below}");
    }
    result.expect_err("is refused")
}

#[test]
fn all_members_together_may_have_as_many_bytes_as_the_bound_says() {
    let zeros = |count: u64, each: u64| {
        gzipped(|tar| {
            for number in 0..count {
                let mut header = header(EntryType::Regular, each);
                let content = io::repeat(0).take(each);
                tar.append_data(&mut header, format!("{number}"), content).expect("appends");
            }
        })
    };

    let bomb = zeros(4, MOST / 3);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let said = refusal(&bomb);
    assert!(said.starts_with("the archive has more than 1048576 bytes, decompressed"), "{said}");
    let (_dir, members, result) = read(&zeros(2, MOST / 3));
    assert_eq!((result, members.files.len()), (Ok(()), 2));
}

#[test]
fn what_is_no_file_counts_as_well() {
    let long = gzipped(|tar| {
        let header = header(EntryType::GNULongName, 5 << 20);
        tar.append(&header, io::repeat(b'a').take(5 << 20)).expect("appends");
    });
    assert!(refusal(&long).contains("extended header of 5242880 bytes"));

    // Headers without a member to them, of which none is large.
    let endless = gzipped(|tar| {
        for _ in 0..3000 {
            tar.append(&header(EntryType::GNULongName, 1), &b"a"[..]).expect("appends");
        }
    });
    let said = refusal(&endless);
    assert!(said.starts_with("the archive has more than 1048576 bytes, decompressed"), "{said}");
}

/// As GNU tar writes a file of `size` bytes that has only `data`, at `offset`.
fn sparse(offset: u64, data: &[u8], size: u64) -> Vec<u8> {
    let mut header = header(EntryType::GNUSparse, data.len() as u64);
    header.set_path("sparse").expect("short");
    let gnu = header.as_gnu_mut().expect("is GNU's");
    gnu.sparse[0].offset = *format!("{offset:011o}\0").as_bytes().as_array().expect("twelve");
    let length = format!("{:011o}\0", data.len());
    gnu.sparse[0].numbytes = *length.as_bytes().as_array().expect("twelve");
    gnu.realsize = *format!("{size:011o}\0").as_bytes().as_array().expect("twelve");
    header.set_cksum();
    gzipped(|tar| tar.append(&header, data).expect("appends"))
}

#[test]
fn a_sparse_member_is_stored_with_its_holes_and_counts_with_them() {
    let (dir, members, result) = read(&sparse(1000, b"data", 9000));
    assert_eq!(result, Ok(()));
    let stored = members.get("sparse").expect("is there");
    let content = fs::read(dir.path().join("sha256").join(stored.digest.hex())).expect("reads");
    assert_eq!(content, [&[0; 1000][..], b"data", &[0; 7996]].concat());

    assert!(refusal(&sparse(0, b"data", MOST + 1)).contains("more than 1048576 bytes"));
}

#[test]
fn an_archive_that_is_cut_short_or_is_none_is_called_so() {
    let whole = gzipped(|tar| {
        let mut header = header(EntryType::Regular, 100_000);
        let noise = (0..25_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
        let noise: Vec<u8> = noise.collect();
        tar.append_data(&mut header, "a", &*noise).expect("appends");
    });

    let said = refusal(&whole[..whole.len() / 2]);
    assert!(said.starts_with("the archive cannot be read as a tar"), "{said}");
    for none in [&b"short"[..], &[b'x'; 2000]] {
        assert!(refusal(none).starts_with("it is not a tar archive"));
    }
}
