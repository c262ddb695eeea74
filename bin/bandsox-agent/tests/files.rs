//! Files of protocol v2.

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bandsox_files::{
    Limits, Owners, Parents, ReceiveOptions, SendOptions, Source, Staging, Target, receive, send,
};
use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Done, Entry, ErrorCode, Fault, Get, Put, Reply, Request, Segment, Stat, Status, Trailer,
    Transfer,
};

use crate::guest::{Client, Guest};

const RECEIVE: ReceiveOptions = ReceiveOptions {
    tree: true,
    owners: Owners::Ignore,
    mode_mask: 0o777,
    staging: Staging::Always,
    limits: Limits::NONE,
};

fn put(path: ByteString, tree: bool) -> Put {
    Put { path, tree, name: None, parents: false }
}

fn upload(client: &mut Client, source: &Path, put: Put) -> Result<Done, ErrorCode> {
    client.say(&Request::Put(put));
    match client.hear() {
        Reply::Ready(_) => {}
        Reply::Error(fault) => return Err(fault.code),
        other => panic!("not Ready: {other:?}"),
    }
    let options = SendOptions { owners: Owners::Ignore };
    let source = Source::open(source).expect("there");
    send(source, options, client.raw(), &mut |_| ControlFlow::Continue(())).expect("sends");
    match client.hear() {
        Reply::Done(done) => Ok(done),
        Reply::Error(fault) => Err(fault.code),
        other => panic!("not Done: {other:?}"),
    }
}

fn download(client: &mut Client, get: Get, target: &Path) -> Done {
    client.say(&Request::Get(get));
    let target = Target::resolve(target, None, Parents::Require).expect("a place");
    let mut watch = |_| ControlFlow::Continue(());
    receive(&mut client.frames, &target, RECEIVE, &mut watch).expect("receives")
}

fn refused(client: &mut Client) -> (ErrorCode, String) {
    match client.hear() {
        Reply::Error(fault) => (fault.code, fault.message),
        other => panic!("not Error: {other:?}"),
    }
}

#[test]
fn a_file_goes_there_and_back_on_one_connection() {
    let guest = Guest::start();
    let (from, there, back) = (guest.path("from"), guest.bytes("there"), guest.path("back"));
    let mut client = guest.connect();
    for len in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let data: Vec<u8> = (0..=250_u8).cycle().take(len).collect();
        fs::write(&from, &data).expect("writes");

        upload(&mut client, &from, put(there.clone(), false)).expect("stored");
        let get = Get { path: there.clone(), tree: false, wait_go: false };
        let done = download(&mut client, get, &back);

        assert!(fs::read(&back).expect("reads") == data, "{len} bytes");
        assert_eq!(done.bytes, len as u64);
    }
    assert_eq!(client.shell("echo still here").stdout, b"still here\n");
}

#[test]
fn a_tree_of_many_small_files_goes_there_and_back() {
    let guest = Guest::start();
    let from = guest.path("from");
    for n in 0..1000 {
        let dir = from.join(format!("{}", n % 10));
        fs::create_dir_all(&dir).expect("makes");
        fs::write(dir.join(format!("{n}")), format!("file {n}")).expect("writes");
    }
    let mut client = guest.connect();

    let stored = upload(&mut client, &from, put(guest.bytes("there"), true)).expect("stored");
    let get = Get { path: guest.bytes("there"), tree: true, wait_go: false };
    let fetched = download(&mut client, get, &guest.path("back"));

    assert_eq!((stored.files, fetched.files), (1000, 1000));
    assert_eq!(fs::read_to_string(guest.path("back/7/537")).expect("reads"), "file 537");
}

#[test]
fn data_waits_for_go() {
    let guest = Guest::start();
    fs::write(guest.path("file"), b"some data").expect("writes");
    let mut client = guest.connect();

    client.say(&Request::Get(Get { path: guest.bytes("file"), tree: false, wait_go: true }));
    let Reply::Entry(entry) = client.hear() else { panic!("not Entry") };
    assert_eq!(entry.segments, [Segment { offset: 0, len: 9 }]);
    let short = Duration::from_millis(200);
    client.raw().set_read_timeout(Some(short)).expect("a timeout");
    client.raw().read(&mut [0]).expect_err("nothing comes before Go");
    client.raw().set_read_timeout(Some(crate::guest::PATIENCE)).expect("a timeout");

    client.say(&Request::Go);
    let mut data = [0; 9 + Trailer::LEN];
    client.raw().read_exact(&mut data).expect("data and trailer");

    assert_eq!(&data[..9], b"some data");
    assert!(matches!(client.hear(), Reply::Done(Done { files: 1, bytes: 9, .. })));
    assert_eq!(client.shell("echo next").stdout, b"next\n");
}

#[test]
fn what_cannot_be_sent_says_so_at_once_and_the_connection_goes_on() {
    let guest = Guest::start();
    fs::create_dir(guest.path("dir")).expect("makes");
    let mut client = guest.connect();
    let mut get = |path: ByteString, tree| {
        client.say(&Request::Get(Get { path, tree, wait_go: true }));
        refused(&mut client)
    };

    let (code, text) = get("/no/such/file".into(), false);
    assert_eq!(code, ErrorCode::NotFound);
    assert_eq!(text, "cannot open /no/such/file: No such file or directory (os error 2)");
    assert_eq!(get(guest.bytes("dir"), false).0, ErrorCode::IsADirectory);
    assert_eq!(get("/dev/zero".into(), true).0, ErrorCode::NotAFile);
    assert_eq!(get("".into(), true).0, ErrorCode::NotFound);
}

#[test]
fn a_target_that_cannot_be_is_refused_before_any_data() {
    let guest = Guest::start();
    fs::create_dir(guest.path("dir")).expect("makes");
    fs::write(guest.path("file"), b"x").expect("writes");
    let mut client = guest.connect();
    let mut refuse = |put: Put| {
        client.say(&Request::Put(put));
        refused(&mut client).0
    };

    assert_eq!(refuse(put(guest.bytes("no/such/dir/file"), false)), ErrorCode::NotFound);
    assert_eq!(refuse(put(guest.bytes("file/below"), false)), ErrorCode::NotADirectory);
    assert_eq!(refuse(put("/dev/null".into(), false)), ErrorCode::NotAFile);
    let evil = Put { name: Some("../evil".into()), ..put(guest.bytes("dir"), false) };
    assert_eq!(refuse(evil), ErrorCode::UnsafeName);
}

#[test]
fn a_file_for_a_directory_goes_inside_and_parents_are_made_on_request() {
    let guest = Guest::start();
    fs::create_dir(guest.path("dir")).expect("makes");
    fs::write(guest.path("from"), b"data").expect("writes");
    let mut client = guest.connect();

    let inside = Put { name: Some("name".into()), ..put(guest.bytes("dir"), false) };
    upload(&mut client, &guest.path("from"), inside).expect("stored");
    let deep = Put { parents: true, ..put(guest.bytes("a/b/c"), false) };
    upload(&mut client, &guest.path("from"), deep).expect("stored");

    assert_eq!(fs::read(guest.path("dir/name")).expect("reads"), b"data");
    assert_eq!(fs::read(guest.path("a/b/c")).expect("reads"), b"data");
}

#[test]
fn a_wrong_checksum_is_told_and_the_old_file_stays() {
    let guest = Guest::start();
    fs::write(guest.path("file"), b"old").expect("writes");
    let mut client = guest.connect();
    client.say(&Request::Put(put(guest.bytes("file"), false)));
    assert!(matches!(client.hear(), Reply::Ready(_)));

    let mut wire = Vec::new();
    Transfer::Entry(entry(3)).encode(&mut wire).expect("fits");
    wire.extend_from_slice(b"new");
    wire.extend_from_slice(&Trailer { status: Status::Complete, xxh64: 0x1234 }.to_bytes());
    client.raw().write_all(&wire).expect("writes");

    let (code, text) = refused(&mut client);
    assert_eq!(code, ErrorCode::ChecksumMismatch);
    assert!(text.starts_with("Checksum mismatch: expected 0000000000001234 got "), "{text}");
    assert_eq!(fs::read(guest.path("file")).expect("reads"), b"old");
    assert_eq!(fs::read_dir(guest.dir.path()).expect("a directory").count(), 2);
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let guest = Guest::start();
    fs::write(guest.path("file"), b"old").expect("writes");
    let mut client = guest.connect();
    client.say(&Request::Put(put(guest.bytes("file"), false)));
    assert!(matches!(client.hear(), Reply::Ready(_)));
    let mut wire = Vec::new();
    Transfer::Entry(entry(1_000_000)).encode(&mut wire).expect("fits");
    wire.resize(wire.len() + 500_000, 7);
    client.raw().write_all(&wire).expect("writes");

    let temporary = || {
        let entries = fs::read_dir(guest.dir.path()).expect("a directory");
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".bandsox-"))
    };
    crate::guest::eventually("the transfer is under way", temporary);
    drop(client);

    crate::guest::eventually("nothing temporary is left", || !temporary());
    assert_eq!(fs::read(guest.path("file")).expect("reads"), b"old");
}

#[test]
fn what_is_at_a_path_is_told() {
    let guest = Guest::start();
    fs::write(guest.path("file"), b"12345").expect("writes");
    std::os::unix::fs::symlink("file", guest.path("link")).expect("links");
    let mut client = guest.connect();

    client.say(&Request::Stat(Stat { path: guest.bytes("link"), follow: false }));
    let Reply::StatReply(link) = client.hear() else { panic!("not StatReply") };
    client.say(&Request::Stat(Stat { path: guest.bytes("link"), follow: true }));
    let Reply::StatReply(file) = client.hear() else { panic!("not StatReply") };

    assert_eq!(link.target, Some("file".into()));
    assert_eq!((file.size, file.target), (5, None));
}

fn entry(size: u64) -> Entry {
    Entry {
        path: ByteString::default(),
        kind: bandsox_proto::v2::EntryKind::File,
        mode: 0o600,
        uid: None,
        gid: None,
        mtime_ns: 0,
        size,
        target: None,
        segments: vec![Segment { offset: 0, len: size }],
    }
}

#[test]
fn a_receiver_that_gives_up_in_the_middle_is_sent_no_more() {
    const BIG: usize = 64 << 20;
    let guest = Guest::start();
    fs::write(guest.path("big"), vec![b'x'; BIG]).expect("writes");
    let mut client = guest.connect();
    client.say(&Request::Get(Get { path: guest.bytes("big"), tree: true, wait_go: false }));
    let mut some = [0; 100_000];
    client.raw().read_exact(&mut some).expect("it has begun");

    let fault = Fault { code: ErrorCode::NoSpace, message: "full".to_owned(), errno: None };
    client.say(&Request::Error(fault));

    let mut rest = Vec::new();
    // It may hang up in whichever way.
    client.raw().set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    client.raw().read_to_end(&mut rest).ok();
    assert!(rest.len() < BIG / 2, "{} bytes came all the same", rest.len());
}

#[test]
fn nothing_is_understood_after_go_or_an_entry_out_of_place() {
    let guest = Guest::start();
    let mut client = guest.connect();

    client.say(&Request::Go);
    client.say(&Request::Ping);

    assert_eq!(refused(&mut client).0, ErrorCode::Invalid);
    client.raw().shutdown(std::net::Shutdown::Write).expect("a socket");
    assert!(client.at_end(), "what may have been data was taken for a request");
}
