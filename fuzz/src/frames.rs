//! Protocol v2: frames, every message in them, preambles.
//!
//! What decodes must encode, and decode to the same again: otherwise the two ends of a channel would not mean the same.

use std::path::{Component, Path};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Attach, Done, Entry, EntryKind, ErrorCode, Exec, Exit, Fault, Frame, FrameReader, Get, Hello,
    Listen, Output, Put, Ready, Reply, Request, Segment, SessionId, Shutdown, ShutdownMode, Stdin,
    StreamName, Transfer, WindowSize, parse_frame, preamble,
};

/// First byte: what follows. 0: frames; 1: a kind and one message's payload; 2: a preamble.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 3 {
        0 => stream(rest),
        1 => {
            if let Some((kind, payload)) = rest.split_first() {
                message(Frame { kind: *kind, payload });
            }
        }
        _ => {
            preamble::receive_client(&mut &*rest).ok();
            if let Ok(range) = preamble::receive_agent(&mut &*rest) {
                assert!(range.contains(&preamble::VERSION));
            }
        }
    }
}

/// Both ways to cut a stream into frames cut it at the same places.
fn stream(bytes: &[u8]) {
    let mut reader = FrameReader::new(bytes);
    let mut rest = bytes;
    loop {
        let parsed = parse_frame(rest);
        match reader.read() {
            Ok(Some(frame)) => {
                let (same, length) = parsed.expect("a frame").expect("a whole frame");
                assert_eq!(frame, same);
                message(frame);
                rest = rest.get(length..).expect("a frame is no longer than what it was read from");
            }
            Ok(None) => {
                assert!(rest.is_empty());
                break;
            }
            Err(_) => {
                assert!(!matches!(parsed, Ok(Some(_))));
                break;
            }
        }
    }
}

fn message(frame: Frame<'_>) {
    if let Ok(request) = Request::decode(frame.kind, frame.payload) {
        let wire = request.to_frame().expect("what came in a frame fits into one");
        let again = whole(&wire);
        assert_eq!(Request::decode(again.kind, again.payload).ok().as_ref(), Some(&request));
        if let Request::Entry(entry) = &request {
            check(entry);
        }
    }
    if let Ok(reply) = Reply::decode(frame.kind, frame.payload) {
        let wire = reply.to_frame().expect("what came in a frame fits into one");
        let again = whole(&wire);
        assert_eq!(Reply::decode(again.kind, again.payload).ok().as_ref(), Some(&reply));
    }
    if let Ok(transfer) = Transfer::decode(frame) {
        let mut wire = Vec::new();
        transfer.encode(&mut wire).expect("what came in a frame fits into one");
        assert_eq!(Transfer::decode(whole(&wire)).ok().as_ref(), Some(&transfer));
    }
}

fn whole(wire: &[u8]) -> Frame<'_> {
    let (frame, length) = parse_frame(wire).expect("our own frame").expect("all of it");
    assert_eq!(length, wire.len());
    frame
}

/// What passes a receiver's first check names nothing outside of the target, and data within the file.
fn check(entry: &Entry) {
    if entry.check().is_err() {
        return;
    }
    let path: &Path = entry.path.as_path();
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
    assert!(entry.data_len() <= entry.size);
    let mut end = 0;
    for Segment { offset, len } in &entry.segments {
        assert!(*offset >= end);
        end = offset + len;
    }
    assert!(end <= entry.size);
}

/// One message of most kinds, alone and as a stream.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let session = SessionId([7; 16]);
    let text = |text: &str| ByteString::from(text);
    let exec = Exec {
        session,
        argv: vec![text("sh"), text("-c"), text("true")],
        env: vec![text("A=b")],
        cwd: Some(text("/")),
        user: Some("root".to_owned()),
        tty: Some(WindowSize { rows: 24, cols: 80 }),
        stdin: true,
        timeout_ms: Some(1000),
        detach: true,
        make_cwd: true,
    };
    let requests = [
        Request::Exec(exec),
        Request::Attach(Attach { session, from_seq: 3 }),
        Request::Stdin(Stdin { offset: 1, data: b"in".to_vec() }),
        Request::Put(Put { path: text("/a"), tree: true, name: Some(text("n")), parents: true }),
        Request::Get(Get { path: text("/a"), tree: true, wait_go: true }),
        Request::Shutdown(Shutdown { mode: ShutdownMode::Reboot, grace_ms: 5 }),
        Request::Listen(Listen { port: 9000 }),
        Request::Entry(entry("a/b")),
        Request::Entry(entry("a/../../b")),
        Request::Entry(entry("/a//b/.")),
        Request::Done(Done { files: 1, skipped_names: vec![text("s")], ..Done::default() }),
    ];
    let fault = Fault { code: ErrorCode::NotFound, message: "no".to_owned(), errno: Some(2) };
    let exit = Exit { code: Some(1), signal: None, timeout: true, seq: 4, error: Some(fault) };
    let hello = Hello {
        agent: "4".to_owned(),
        protocols: (1, 2),
        kernel: "6".to_owned(),
        transports: vec!["vsock".to_owned()],
        boot_ms: 1,
        port: 9000,
    };
    let replies = [
        Reply::Output(Output { seq: 0, stream: StreamName::Stderr, data: b"out".to_vec() }),
        Reply::Exit(exit),
        Reply::Ready(Ready { path: text("/a"), is_dir: true }),
        Reply::Hello(hello),
    ];
    let requests = requests.iter().map(|it| it.to_frame().expect("small"));
    let replies = replies.iter().map(|it| it.to_frame().expect("small"));
    let wires: Vec<Vec<u8>> = requests.chain(replies).collect();
    // Without the length: mode 1 has none.
    let alone = wires.iter().map(|wire| [&[1], wire.get(4..).expect("a header")].concat());
    let stream = [&[0], wires.concat().as_slice()].concat();
    let preamble = [&[2], preamble::AGENT.as_slice()].concat();
    alone.chain([stream, preamble]).collect()
}

fn entry(path: &str) -> Entry {
    Entry {
        path: ByteString::from(path),
        kind: EntryKind::File,
        mode: 0o644,
        uid: Some(1),
        gid: Some(2),
        mtime_ns: -1,
        size: 100,
        target: None,
        segments: vec![Segment { offset: 1, len: 2 }, Segment { offset: 10, len: 90 }],
    }
}
