//! What an honest sender sends arrives as it was.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

#[test]
fn a_file_of_every_bound_arrives_whole() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for len in [0, 1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 3_000_001] {
        let data: Vec<u8> = (0..=250_u8).cycle().take(len).collect();
        fs::write(&from, &data).expect("writes");

        let done = copied(&from, &to);

        assert!(fs::read(&to).expect("reads") == data, "{len} bytes");
        assert_eq!((done.files, done.bytes), (1, len as u64));
    }
}

#[test]
fn a_tree_keeps_names_modes_times_links_and_empty_directories() {
    let dir = temp();
    let from = dir.path().join("from");
    let odd = [&b"with space"[..], b"new\nline", b"\xff\xfe not utf-8", b"-rf", b"...", b"\x1b[2J"];
    fs::create_dir_all(from.join("empty")).expect("makes");
    fs::create_dir_all(from.join("a/b/c")).expect("makes");
    for name in odd {
        fs::write(from.join("a/b").join(OsStr::from_bytes(name)), name).expect("writes");
    }
    symlink("../nowhere", from.join("a/link")).expect("links");
    fs::set_permissions(from.join("a/b/-rf"), fs::Permissions::from_mode(0o4711)).expect("modes");
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    File::open(from.join("a/b/...")).and_then(|f| f.set_modified(old)).expect("times");
    File::open(from.join("a/b")).and_then(|f| f.set_modified(old)).expect("times");
    fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o555)).expect("modes");

    let to = dir.path().join("to");
    copied(&from, &to);

    let mut expected: Vec<Vec<u8>> = odd.iter().map(|name| name.to_vec()).collect();
    expected.push(b"c".to_vec());
    expected.sort();
    assert_eq!(names(&to.join("a/b")), expected);
    for name in odd {
        let path = to.join("a/b").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(path).expect("reads"), name);
    }
    assert!(to.join("empty").is_dir() && to.join("a/b/c").is_dir());
    assert_eq!(fs::read_link(to.join("a/link")).expect("a link"), Path::new("../nowhere"));
    let mode = |name: &str| to.join(name).symlink_metadata().expect("there").mode() & 0o7777;
    assert_eq!((mode("a/b/-rf"), mode("a/b"), mode("empty")), (0o4711, 0o555, 0o755));
    let time = |name: &str| to.join(name).metadata().and_then(|m| m.modified()).expect("there");
    assert_eq!((time("a/b/..."), time("a/b")), (old, old));
}

#[test]
fn a_time_before_1970_survives() {
    let dir = temp();
    let from = dir.path().join("from");
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
    File::create(&from).and_then(|f| f.set_modified(old)).expect("times");

    copied(&from, &dir.path().join("to"));

    let got = dir.path().join("to").metadata().and_then(|m| m.modified()).expect("there");
    assert_eq!(got, old);
}

#[test]
fn holes_stay_holes_and_do_not_travel() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let sparse = File::create(&from).expect("creates");
    sparse.write_all_at(b"start", 0).expect("writes");
    sparse.write_all_at(b"middle", 512 * 1024 * 1024).expect("writes");
    sparse.set_len(1024 * 1024 * 1024 + 7).expect("sizes");

    let (wire, _) = sent(&from).expect("sends");
    received(&wire, &to, RECEIVE).expect("receives");

    assert!(wire.len() < 1024 * 1024, "{} bytes travelled", wire.len());
    let got = File::open(&to).expect("there");
    let stat = got.metadata().expect("there");
    assert_eq!(stat.len(), 1024 * 1024 * 1024 + 7);
    assert!(stat.blocks() * 512 < 1024 * 1024, "{} blocks", stat.blocks());
    let mut piece = [0; 6];
    got.read_exact_at(&mut piece, 512 * 1024 * 1024).expect("reads");
    assert_eq!(&piece, b"middle");
}

#[test]
fn a_file_with_more_holes_than_segments_arrives_whole() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut sparse = File::create(&from).expect("creates");
    for at in 0..5000_u64 {
        sparse.seek(SeekFrom::Start(at * 8192)).expect("seeks");
        sparse.write_all(&at.to_le_bytes()).expect("writes");
    }

    copied(&from, &to);

    assert!(fs::read(&from).expect("reads") == fs::read(&to).expect("reads"));
}

#[test]
fn a_file_that_pretends_to_be_empty_is_read_to_its_end() {
    let dir = temp();
    let to = dir.path().join("to");

    copied(Path::new("/proc/self/status"), &to);

    assert!(fs::read_to_string(&to).expect("reads").starts_with("Name:"));
}

#[test]
fn what_is_no_file_is_left_out_by_name() {
    let dir = temp();
    let from = dir.path().join("from");
    fs::create_dir(&from).expect("makes");
    let socket = std::os::unix::net::UnixListener::bind(from.join("socket"));

    let done = copied(&from, &dir.path().join("to"));

    assert_eq!((done.skipped, done.skipped_names), (1, vec![ByteString::from("socket")]));
    drop(socket);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_data_with_any_holes_arrives(pieces in proptest::collection::vec((0_u64..4_000_000, 1_usize..10_000), 0..6)) {
        let outer = temp();
        let (from, to) = (outer.path().join("from"), outer.path().join("to"));
        let sparse = File::create(&from).expect("creates");
        for (at, len) in pieces {
            sparse.write_all_at(&vec![0xA5; len], at).expect("writes");
        }
        copied(&from, &to);
        prop_assert!(fs::read(&from).expect("reads") == fs::read(&to).expect("reads"));
    }
}
