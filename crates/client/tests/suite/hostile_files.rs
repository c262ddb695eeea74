//! Agents that try to reach beyond the target, or to fill the host.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bandsox_client::files::{
    GetError, Parents, PutError, Source, StreamError, Target, get_stream, get_tree, put_tree,
};
use bandsox_proto::v2::{
    Done, Entry, EntryKind, ErrorCode, Fault, Ready, Reply, Request, Segment, Status, Trailer,
};
use tempfile::TempDir;

use crate::peer::{Agent, channel_to};

/// `outside/` with a file to protect, and `outside/target/` to download into.
fn bed() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("target")).expect("created");
    fs::write(dir.path().join("precious"), "precious").expect("written");
    dir
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o7777,
        uid: Some(0),
        gid: Some(0),
        mtime_ns: 0,
        size: 0,
        target: None,
        segments: vec![],
    }
}

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u64;
    let segments = if len == 0 { vec![] } else { vec![Segment { offset: 0, len }] };
    let entry = Entry { size: len, segments, ..entry(path, EntryKind::File) };
    let mut bytes = Reply::Entry(entry).to_frame().expect("fits");
    bytes.extend_from_slice(content);
    let xxh64 = xxhash(content);
    bytes.extend_from_slice(&Trailer { status: Status::Complete, xxh64 }.to_bytes());
    bytes
}

fn xxhash(content: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(content, 0)
}

fn link(path: &str, target: &str) -> Vec<u8> {
    let entry = Entry { target: Some(target.into()), ..entry(path, EntryKind::Symlink) };
    Reply::Entry(entry).to_frame().expect("fits")
}

fn directory(path: &str) -> Vec<u8> {
    Reply::Entry(entry(path, EntryKind::Dir)).to_frame().expect("fits")
}

fn done() -> Vec<u8> {
    Reply::Done(Done::default()).to_frame().expect("fits")
}

/// Downloads what a scripted agent sends, into `outside/target/tree`.
fn fetch(dir: &Path, sent: Vec<Vec<u8>>) -> Result<Done, GetError> {
    let (channel, agent) = channel_to(move |socket: UnixStream| {
        let mut agent = Agent::greet(socket);
        let Some(Request::Get(get)) = agent.hear() else { panic!("no Get") };
        assert!(get.tree);
        for bytes in sent {
            agent.raw(&bytes);
        }
        agent.wait_for_end();
    });
    let target = Target::resolve(&dir.join("target/tree"), None, Parents::Require);
    let target = target.expect("resolves");
    let got = get_tree(&channel, "/tree".into(), &target, 1 << 20, &mut |_| ());
    drop(channel);
    agent.join().expect("the agent met what it expected");
    got
}

fn nothing_outside(dir: &Path, what: &str) {
    assert_eq!(fs::read(dir.join("precious")).expect("there"), b"precious", "{what}");
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["precious", "target"], "{what}");
}

#[test]
fn an_honest_tree_arrives() {
    let bed = bed();

    let got = fetch(
        bed.path(),
        vec![directory(""), directory("sub"), file("sub/a", b"hello"), link("sub/l", "a"), done()],
    );

    assert_eq!(got.expect("arrives").files, 1);
    let tree = bed.path().join("target/tree");
    assert_eq!(fs::read(tree.join("sub/a")).expect("there"), b"hello");
    assert_eq!(fs::read_link(tree.join("sub/l")).expect("there"), Path::new("a"));
}

#[test]
fn nothing_that_an_agent_sends_is_written_outside_the_target() {
    let attempts: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("a parent", vec![directory(""), file("../precious", b"owned")]),
        ("far parents", vec![directory(""), file("../../../../../../etc/bandsox-test", b"owned")]),
        ("a parent in the middle", vec![directory(""), file("a/../../precious", b"owned")]),
        ("an absolute name", vec![directory(""), file("/tmp/bandsox-owned", b"owned")]),
        ("a dot", vec![directory(""), file(".", b"owned")]),
        ("an empty component", vec![directory(""), file("a//b", b"owned")]),
        ("a NUL", vec![directory(""), file("a\0b", b"owned")]),
        (
            "a link to the parent, then through it",
            vec![directory(""), link("up", ".."), file("up/precious", b"owned")],
        ),
        (
            "a link to the parent, then a directory of that name",
            vec![
                directory(""),
                link("up", "../.."),
                directory("up"),
                file("up/precious", b"owned"),
            ],
        ),
        (
            "an absolute link, then through it",
            vec![directory(""), link("tmp", "/tmp"), file("tmp/bandsox-owned", b"owned")],
        ),
        ("a link as the target itself", vec![link("", ".."), file("precious", b"owned")]),
        ("a child before its parent", vec![directory(""), file("sub/precious", b"owned")]),
        (
            "a device",
            vec![
                directory(""),
                Reply::Entry(entry("d", EntryKind::BlockDevice)).to_frame().expect("fits"),
            ],
        ),
    ];
    for (what, mut sent) in attempts {
        let bed = bed();
        sent.push(done());

        let got = fetch(bed.path(), sent);

        nothing_outside(bed.path(), what);
        assert!(got.is_err(), "{what}: {got:?}");
        assert!(!Path::new("/tmp/bandsox-owned").exists(), "{what}");
    }
}

#[test]
fn links_out_of_the_target_arrive_as_links_and_are_not_followed() {
    let bed = bed();

    let got = fetch(
        bed.path(),
        vec![
            directory(""),
            link("precious", "../../precious"),
            file("precious", b"a file in place of the link"),
            done(),
        ],
    );

    nothing_outside(bed.path(), "a file over a link");
    got.expect("arrives");
    let arrived = bed.path().join("target/tree/precious");
    assert!(arrived.symlink_metadata().expect("there").is_file());
}

#[test]
fn sizes_that_lie_and_broken_data_leave_no_file() {
    let lying = |size: u64, segments: Vec<Segment>, follows: &[u8]| {
        let entry = Entry { size, segments, ..entry("f", EntryKind::File) };
        let mut bytes = Reply::Entry(entry).to_frame().expect("fits");
        bytes.extend_from_slice(follows);
        bytes
    };
    let segment = |offset, len| Segment { offset, len };
    let attempts = [
        ("data beyond the size", lying(1, vec![segment(0, 2)], b"ab")),
        ("data that wraps around", lying(9, vec![segment(u64::MAX, 2)], b"ab")),
        ("data that overlaps", lying(9, vec![segment(0, 4), segment(2, 4)], b"abcdefgh")),
        ("more than there is room for", lying(1 << 60, vec![segment(0, 1 << 60)], b"abc")),
        ("a size that no file has", lying(u64::MAX, vec![], b"")),
        ("a wrong checksum", lying(3, vec![segment(0, 3)], b"abc\0\0\0\0\0\0\0\0\0")),
        ("a source that failed", lying(3, vec![segment(0, 3)], b"abc\x01\0\0\0\0\0\0\0\0")),
        ("more than a frame holds", vec![0xff; 64]),
    ];
    for (what, bytes) in attempts {
        let bed = bed();

        let got = fetch(bed.path(), vec![directory(""), bytes, done()]);

        assert!(got.is_err(), "{what}: {got:?}");
        let tree = bed.path().join("target/tree");
        let left = fs::read_dir(&tree).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{what} left something");
        nothing_outside(bed.path(), what);
    }
}

#[test]
fn set_user_id_does_not_survive() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = bed();

    fetch(bed.path(), vec![directory(""), file("su", b"#!/bin/sh"), done()]).expect("arrives");

    let mode = fs::metadata(bed.path().join("target/tree/su")).expect("there").permissions();
    assert_eq!(mode.mode() & 0o6000, 0, "{:o}", mode.mode());
}

#[test]
fn an_agent_that_never_stops_is_stopped() {
    let bed = bed();
    let (channel, agent) = channel_to(|socket: UnixStream| {
        let mut agent = Agent::greet(socket.try_clone().expect("a descriptor"));
        agent.hear();
        agent.raw(&directory(""));
        let mut socket = socket;
        let piece = file("same", &[b'x'; 4096]);
        // Ends only when the client hangs up.
        while socket.write_all(&piece).is_ok() {}
    });
    let target = Target::resolve(&bed.path().join("target/tree"), None, Parents::Require);
    let target = target.expect("resolves");

    let got = get_tree(&channel, "/tree".into(), &target, 1 << 20, &mut |_| ());

    drop(channel);
    agent.join().expect("the agent noticed");
    assert!(got.is_err(), "{got:?}");
}

#[test]
fn a_stream_is_checked_to_its_end() {
    let serve = |bytes: Vec<u8>| {
        channel_to(move |socket: UnixStream| {
            let mut agent = Agent::greet(socket);
            agent.hear();
            agent.raw(&bytes);
            agent.wait_for_end();
        })
    };
    let (sparse, mut bytes) = (
        Entry {
            size: 10,
            segments: vec![Segment { offset: 4, len: 3 }],
            ..entry("", EntryKind::File)
        },
        vec![],
    );
    Reply::Entry(sparse).encode(&mut bytes).expect("fits");
    bytes.extend_from_slice(b"abc");
    bytes.extend(Trailer { status: Status::Complete, xxh64: xxhash(b"abc") }.to_bytes());
    bytes.extend(done());
    let mut wrong = bytes.clone();
    let data = wrong.windows(3).position(|window| window == b"abc").expect("is there");
    wrong[data] ^= 1;

    let mut out = Vec::new();
    let (channel, _agent) = serve(bytes.clone());
    let got = get_stream(&channel, "/f".into(), &mut out, &mut |_| ()).expect("arrives");
    assert_eq!((got, out.as_slice()), (10, &b"\0\0\0\0abc\0\0\0"[..]));

    let (channel, _agent) = serve(wrong);
    let got = get_stream(&channel, "/f".into(), &mut Vec::new(), &mut |_| ());
    assert!(matches!(got, Err(StreamError::Checksum { .. })), "{got:?}");

    let (channel, _agent) = serve(bytes[..bytes.len() - 30].to_vec());
    drop(channel_to(|_| ()));
    let cut = std::thread::spawn(move || {
        let watch = bandsox_client::Cancel::new();
        let _watching = watch.watch(&channel).expect("watched");
        watch.request();
        get_stream(&channel, "/f".into(), &mut Vec::new(), &mut |_| ()).is_err()
    });
    assert!(cut.join().expect("no panic"), "half a file was taken for a whole one");
}

#[test]
fn an_agent_that_refuses_in_the_middle_of_an_upload_is_heard() {
    let source = tempfile::tempdir().expect("a directory");
    fs::write(source.path().join("big"), vec![1; 8 << 20]).expect("written");
    let (channel, _agent) = channel_to(|socket: UnixStream| {
        let mut agent = Agent::greet(socket);
        agent.hear();
        agent.say(&Reply::Ready(Ready { path: "/t".into(), is_dir: false }));
        agent.hear();
        let message = "/t/big: no space left".to_owned();
        agent.say(&Reply::Error(Fault { code: ErrorCode::NoSpace, message, errno: Some(28) }));
        // Reads no more, and does not close either.
        std::thread::park();
    });
    let tree = Source::open(source.path()).expect("opens");

    let failed = put_tree(&channel, tree, "/t".into(), None, &mut |_| ()).expect_err("refused");

    assert!(matches!(failed, PutError::Talk(_)), "{failed:?}");
    assert_eq!(failed.to_string(), "/t/big: no space left");
}
