//! Trees sent and received through memory, honest and hostile.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Done, Entry, EntryKind, ErrorCode, FrameReader, Segment, Status, Trailer, Transfer,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::*;

const SEND: SendOptions = SendOptions { owners: Owners::Ignore };
const RECEIVE: ReceiveOptions =
    ReceiveOptions { tree: true, owners: Owners::Ignore, mode_mask: 0o7777, limits: Limits::NONE };

fn temp() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn sent(source: &Path) -> Result<(Vec<u8>, Done), SendError> {
    let mut wire = Vec::new();
    let done = send(Source::open(source)?, SEND, &mut wire, &mut |_| ControlFlow::Continue(()))?;
    Ok((wire, done))
}

fn received(wire: &[u8], target: &Path, options: ReceiveOptions) -> Result<Done, ReceiveError> {
    let target = Target::resolve(target, None, Parents::Require)?;
    let mut frames = FrameReader::new(wire);
    receive(&mut frames, &target, options, &mut |_| ControlFlow::Continue(()))
}

fn copied(source: &Path, target: &Path) -> Done {
    let (wire, sent) = sent(source).expect("sends");
    let got = received(&wire, target, RECEIVE).expect("receives");
    assert_eq!((got.files, got.bytes, got.others), (sent.files, sent.bytes, sent.others));
    sent
}

fn names(dir: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    names
}

/// A wire that a hostile sender makes: entries, each with data and a trailer if it is a file.
fn forged(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (entry, data) in entries {
        Transfer::Entry(entry.clone()).encode(&mut wire).expect("fits");
        if entry.kind == EntryKind::File {
            wire.extend_from_slice(data);
            wire.extend_from_slice(&source::good_trailer(data));
        }
    }
    Transfer::Done(Done::default()).encode(&mut wire).expect("fits");
    wire
}

fn file(path: &[u8], data: &[u8]) -> Entry {
    let len = data.len() as u64;
    Entry {
        path: path.into(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: None,
        gid: None,
        mtime_ns: 0,
        size: len,
        target: None,
        segments: if len > 0 { vec![Segment { offset: 0, len }] } else { Vec::new() },
    }
}

fn dir(path: &[u8]) -> Entry {
    Entry { kind: EntryKind::Dir, mode: 0o755, ..file(path, b"") }
}

fn link(path: &[u8], target: &str) -> Entry {
    Entry { kind: EntryKind::Symlink, target: Some(target.into()), ..file(path, b"") }
}

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

#[test]
fn a_file_that_shrinks_while_it_is_read_leaves_the_old_one() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, vec![1; 3_000_000]).expect("writes");
    fs::write(&to, b"old").expect("writes");
    let mut wire = Vec::new();

    let mut shrink = |_| {
        File::options()
            .write(true)
            .open(&from)
            .and_then(|f| f.set_len(1_000_000))
            .expect("shrinks");
        ControlFlow::Continue(())
    };
    let error = send(Source::open(&from).expect("there"), SEND, &mut wire, &mut shrink);
    let error = error.expect_err("it shrank");
    let told = received(&wire, &to, RECEIVE).expect_err("it shrank");

    assert!(
        error
            .to_string()
            .ends_with("shrank while it was read: 1000000 of 3000000 bytes were there")
    );
    assert_eq!(told.to_string(), error.to_string());
    assert_eq!(fault(&told).code, ErrorCode::SourceChanged);
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(dir.path()).len(), 2, "no temporary file is left");
}

#[test]
fn a_wrong_checksum_leaves_the_old_file_and_says_both() {
    let dir = temp();
    let to = dir.path().join("to");
    fs::write(&to, b"old").expect("writes");
    let mut wire = forged(&[(file(b"", b"new"), b"new")]);
    let at = wire.windows(3).position(|w| w == b"new").expect("there");
    wire[at] = b'N';

    let error = received(&wire, &to, RECEIVE).expect_err("the bytes changed");

    let text = error.to_string();
    assert!(text.starts_with("Checksum mismatch: expected "), "{text}");
    assert!(text.contains(" got "), "{text}");
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(dir.path()), [b"to"]);
}

#[test]
fn a_sender_that_goes_away_leaves_the_old_file() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, vec![7; 1_000_000]).expect("writes");
    fs::write(&to, b"old").expect("writes");
    let (wire, _) = sent(&from).expect("sends");

    for len in [0, 3, 60, 500_000, wire.len() - 10, wire.len() - 1] {
        received(&wire[..len], &to, RECEIVE).expect_err("cut short");
    }

    assert_eq!(names(dir.path()), [&b"from"[..], b"to"]);
    // Cut within Done, the file itself was complete.
    received(&wire[..500_000], &to, RECEIVE).expect_err("cut short");
    fs::write(&to, b"old").expect("writes");
    received(&wire[..wire.len() - 21], &to, RECEIVE).expect_err("cut short");
    assert!(fs::read(&to).expect("reads") == b"old");
}

#[test]
fn names_that_lead_out_are_refused_and_nothing_is_written() {
    let outer = temp();
    let to = outer.path().join("to");
    for path in [
        &b"../escaped"[..],
        b"a/../../escaped",
        b"/etc/escaped",
        b"a//b",
        b"a/",
        b"./a",
        b".",
        b"..",
        b"a\0b",
        &[b'x'; 256],
        &b"y/".repeat(3000),
    ] {
        let wire = forged(&[(dir(b""), b""), (dir(b"a"), b""), (file(path, b"evil"), b"evil")]);

        let error = received(&wire, &to, RECEIVE).expect_err("hostile");

        assert_eq!(fault(&error).code, ErrorCode::UnsafeName, "{error}");
        fs::remove_dir_all(&to).expect("only the honest part is there");
        assert!(names(outer.path()).is_empty());
    }
}

#[test]
fn nothing_is_written_through_a_link_that_the_stream_made() {
    let outer = temp();
    let to = outer.path().join("to");
    let outside = outer.path().join("outside");
    fs::create_dir(&outside).expect("makes");
    let target = outside.to_str().expect("a plain path");

    for hostile in [file(b"out/evil", b""), dir(b"out"), dir(b"out/evil"), link(b"out/evil", "x")] {
        let wire = forged(&[(dir(b""), b""), (link(b"out", target), b""), (hostile, b"")]);
        received(&wire, &to, RECEIVE).expect_err("hostile");

        assert!(names(&outside).is_empty());
    }
    // A file of the link's name takes the link's place, not the place it points to.
    fs::write(outside.join("file"), b"safe").expect("writes");
    let target = outside.join("file");
    let target = target.to_str().expect("a plain path");
    let wire = forged(&[(dir(b""), b""), (link(b"f", target), b""), (file(b"f", b"x"), b"x")]);
    received(&wire, &to, RECEIVE).expect("replaces the link");
    assert_eq!(fs::read(outside.join("file")).expect("reads"), b"safe");
    assert_eq!(fs::read(to.join("f")).expect("reads"), b"x");
}

#[test]
fn a_link_that_was_there_before_is_not_followed_either() {
    let outer = temp();
    let (to, outside) = (outer.path().join("to"), outer.path().join("outside"));
    fs::create_dir(&to).expect("makes");
    fs::create_dir(&outside).expect("makes");
    symlink(&outside, to.join("sub")).expect("links");

    let wire = forged(&[(dir(b""), b""), (dir(b"sub"), b""), (file(b"sub/evil", b""), b"")]);
    let error = received(&wire, &to, RECEIVE).expect_err("a link is in the way");

    assert!(error.to_string().ends_with("/to/sub is a symbolic link, not a directory"), "{error}");
    assert!(names(&outside).is_empty());
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let dir_ = temp();
    let to = dir_.path().join("to");
    let segment = |offset, len| vec![Segment { offset, len }];
    let many = |pairs: &[(u64, u64)]| {
        pairs.iter().map(|&(offset, len)| Segment { offset, len }).collect::<Vec<_>>()
    };
    for hostile in [
        Entry { segments: segment(0, 4), ..file(b"", b"abc") },
        Entry { segments: segment(u64::MAX, 2), ..file(b"", b"abc") },
        Entry { segments: many(&[(0, 2), (1, 2)]), ..file(b"", b"abc") },
        Entry { segments: many(&[(2, 1), (0, 1)]), ..file(b"", b"abc") },
        Entry { segments: segment(1, 0), ..file(b"", b"abc") },
        Entry { size: u64::MAX, ..file(b"", b"abc") },
        Entry { size: 5, segments: Vec::new(), ..dir(b"") },
        Entry { target: None, ..link(b"", "x") },
        link(b"", ""),
        link(b"", "a\0b"),
        Entry { target: Some("x".into()), ..file(b"", b"abc") },
        Entry { kind: EntryKind::CharDevice, ..file(b"", b"") },
    ] {
        let wire = forged(&[(hostile.clone(), b"abc")]);

        let error = received(&wire, &to, RECEIVE).expect_err("hostile");

        assert!(matches!(error, ReceiveError::Entry(_)), "{hostile:?}: {error}");
        assert!(names(dir_.path()).is_empty());
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let outer = temp();
    let to = outer.path().join("to");
    let cases: [&[(Entry, &[u8])]; 4] = [
        &[(file(b"a", b""), b"")],
        &[(dir(b""), b""), (file(b"a/b", b""), b"")],
        &[(dir(b""), b""), (dir(b""), b"")],
        &[(dir(b""), b""), (dir(b"a"), b""), (dir(b"b"), b""), (file(b"a/x", b""), b"")],
    ];
    for case in cases {
        let error = received(&forged(case), &to, RECEIVE).expect_err("out of order");

        assert!(matches!(error, ReceiveError::Order { .. }), "{error}");
    }
}

#[test]
fn more_than_the_limits_is_refused_before_it_is_stored() {
    let outer = temp();
    let to = outer.path().join("to");
    let limits = Limits { entries: 3, bytes: 10 };
    let options = ReceiveOptions { limits, ..RECEIVE };

    let many = [(dir(b""), &b""[..]), (dir(b"a"), b""), (dir(b"b"), b""), (dir(b"c"), b"")];
    let error = received(&forged(&many), &to, options).expect_err("too many");
    assert_eq!(error.to_string(), "more than 3 files arrived");

    let large = [(dir(b""), &b""[..]), (file(b"f", b"12345678901"), b"12345678901")];
    let error = received(&forged(&large), &to, options).expect_err("too large");
    assert_eq!(error.to_string(), "more than 10 bytes arrived");
    assert!(!to.join("f").exists());

    let deep: Vec<(Entry, &[u8])> = (0..300)
        .map(|n| (dir("d/".repeat(n).trim_end_matches('/').as_bytes()), &b""[..]))
        .collect();
    let error = received(&forged(&deep), &to, RECEIVE).expect_err("too deep");
    assert_eq!(error.to_string(), "more than 256 levels arrived");
}

#[test]
fn a_host_takes_no_set_user_id_from_a_guest() {
    let outer = temp();
    let to = outer.path().join("to");
    let hostile = Entry { mode: 0o177_6777, ..file(b"", b"") };

    let options = ReceiveOptions { mode_mask: 0o777, ..RECEIVE };
    received(&forged(&[(hostile, b"")]), &to, options).expect("receives");

    assert_eq!(to.metadata().expect("there").mode() & 0o7777, 0o777);
}

#[test]
fn a_directory_is_refused_where_one_file_was_asked_for() {
    let outer = temp();
    let to = outer.path().join("to");
    let options = ReceiveOptions { tree: false, ..RECEIVE };

    received(&forged(&[(dir(b""), b"")]), &to, options).expect_err("a directory");
    received(&forged(&[(link(b"", "/etc/passwd"), b"")]), &to, options).expect_err("a link");
    let two = forged(&[(file(b"", b"1"), b"1"), (file(b"x", b"2"), b"2")]);
    received(&two, &to, options).expect_err("two files");

    assert_eq!(fs::read(&to).expect("the first was complete"), b"1");
}

#[test]
fn a_file_into_a_directory_keeps_its_name() {
    let outer = temp();
    let inside = |path: &str, name: &str, parents| {
        Target::resolve(Path::new(path), Some(name.as_bytes()), parents)
            .map(|t| t.path().to_printable())
    };
    let root = outer.path().to_str().expect("a plain path");

    assert_eq!(inside(root, "f", Parents::Require).expect("there"), format!("{root}/f"));
    assert_eq!(
        inside(&format!("{root}/x"), "f", Parents::Require).expect("there"),
        format!("{root}/x")
    );
    inside(&format!("{root}/x/"), "f", Parents::Require).expect_err("no such directory");
    let made = inside(&format!("{root}/x/y/"), "f", Parents::Create).expect("made");
    assert_eq!(made, format!("{root}/x/y/f"));
    for evil in ["", ".", "..", "a/b", "../x", "a\0"] {
        inside(root, evil, Parents::Create).expect_err("hostile");
    }
}

#[test]
fn a_target_that_is_a_link_is_followed_once_named_by_the_user() {
    let outer = temp();
    let real = outer.path().join("real");
    fs::write(&real, b"old").expect("writes");
    symlink("real", outer.path().join("link")).expect("links");

    received(&forged(&[(file(b"", b"new"), b"new")]), &outer.path().join("link"), RECEIVE)
        .expect("receives");

    assert_eq!(fs::read(&real).expect("reads"), b"new");
    assert!(outer.path().join("link").is_symlink());
}

#[test]
fn a_link_that_leads_round_in_circles_is_an_error() {
    let outer = temp();
    symlink("b", outer.path().join("a")).expect("links");
    symlink("a", outer.path().join("b")).expect("links");

    Target::resolve(&outer.path().join("a"), None, Parents::Require).expect_err("a loop");
}

#[test]
fn a_device_is_not_replaced_by_a_file() {
    let error =
        Target::resolve(Path::new("/dev/null"), None, Parents::Require).expect_err("a device");

    assert_eq!(error.to_string(), "/dev/null is a character device, not a regular file");
    assert_eq!(fault(&error).code, ErrorCode::NotAFile);
}

#[test]
fn a_missing_source_says_so() {
    let error = sent(Path::new("/nonexistent/file")).expect_err("not there");

    let fault = fault(&error);
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert_eq!(
        fault.message,
        "cannot open /nonexistent/file: No such file or directory (os error 2)"
    );
}

#[test]
fn a_full_disk_names_the_file_and_leaves_the_old_one() {
    let Some(outer) = std::env::var_os("BANDSOX_TEST_FULL_DISK") else {
        return run_on_a_small_disk("a_full_disk_names_the_file_and_leaves_the_old_one");
    };
    let outer = Path::new(&outer);
    let to = outer.join("to");
    fs::write(&to, b"old").expect("writes");
    let data = vec![1; 1_000_000];
    let wire = forged(&[(file(b"", &data), &data)]);

    let error = received(&wire, &to, RECEIVE).expect_err("no room");

    let fault = fault(&error);
    assert_eq!(fault.code, ErrorCode::NoSpace);
    let path = to.to_str().expect("a plain path");
    assert_eq!(
        fault.message,
        format!("cannot write {path}: No space left on device (os error 28)")
    );
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(outer), [b"to"]);
}

/// Runs the named test again in namespaces of its own, on a file system of 256 KiB.
fn run_on_a_small_disk(test: &str) {
    let dir = temp();
    let script = r#"mount -t tmpfs -o size=256k none "$BANDSOX_TEST_FULL_DISK" && exec "$0" "$@""#;
    let status = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", &format!("tests::{test}")])
        .env("BANDSOX_TEST_FULL_DISK", dir.path())
        .status();
    assert!(status.expect("unshare is there").success());
}

#[test]
fn a_trailer_with_any_bad_status_voids_the_file() {
    let outer = temp();
    let to = outer.path().join("to");
    let mut wire = Vec::new();
    Transfer::Entry(file(b"", b"x")).encode(&mut wire).expect("fits");
    wire.push(b'x');
    let xxh64 = xxhash_rust::xxh64::xxh64(b"x", 0);
    wire.extend_from_slice(&Trailer { status: Status::SourceFailed, xxh64 }.to_bytes());

    let error = received(&wire, &to, RECEIVE).expect_err("void");

    assert!(matches!(error, ReceiveError::SourceFailed { .. }), "{error}");
    assert!(names(outer.path()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_receiver_panic_or_write_outside(wire: Vec<u8>, cut in 0_usize..200, at in 0_usize..200, byte: u8) {
        let outer = temp();
        let to = outer.path().join("to");
        received(&wire, &to, RECEIVE).ok();
        let mut damaged = forged(&[(dir(b""), b""), (link(b"l", "/tmp"), b""), (file(b"f", b"data"), b"data")]);
        damaged.truncate(damaged.len().saturating_sub(cut));
        if let Some(place) = damaged.get_mut(at) {
            *place = byte;
        }
        received(&damaged, &to, RECEIVE).ok();
        prop_assert!(names(outer.path()).iter().all(|name| name == b"to"));
    }

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
