//! Every message there and back, and whatever else may come.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::ByteString;

fn bytes() -> impl Strategy<Value = ByteString> {
    vec(any::<u8>(), 0..50).prop_map(ByteString::from)
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId)
}

fn size() -> impl Strategy<Value = WindowSize> {
    any::<(u16, u16)>().prop_map(|(rows, cols)| WindowSize { rows, cols })
}

fn fault() -> impl Strategy<Value = Fault> {
    let code =
        proptest::sample::select(vec![ErrorCode::NotFound, ErrorCode::Io, ErrorCode::NoSpace]);
    (code, ".*", option::of(any::<i32>())).prop_map(|(code, message, errno)| Fault {
        code,
        message,
        errno,
    })
}

fn exec() -> impl Strategy<Value = Exec> {
    let lists = (vec(bytes(), 0..5), vec(bytes(), 0..5));
    let rest =
        (option::of(bytes()), option::of(".*"), option::of(size()), option::of(any::<u64>()));
    (session(), lists, rest, any::<(bool, bool, bool)>()).prop_map(
        |(session, (argv, env), (cwd, user, tty, timeout_ms), (stdin, detach, make_cwd))| Exec {
            session,
            argv,
            env,
            cwd,
            user,
            tty,
            stdin,
            timeout_ms,
            detach,
            make_cwd,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = proptest::sample::select(vec![EntryKind::File, EntryKind::Dir, EntryKind::Socket]);
    let segment = any::<(u64, u64)>().prop_map(|(offset, len)| Segment { offset, len });
    let owner = (option::of(any::<u32>()), option::of(any::<u32>()));
    let rest = (any::<(u32, i64, u64)>(), option::of(bytes()), vec(segment, 0..5));
    (bytes(), kind, owner, rest).prop_map(
        |(path, kind, (uid, gid), ((mode, mtime_ns, size), target, segments))| Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime_ns,
            size,
            target,
            segments,
        },
    )
}

fn done() -> impl Strategy<Value = Done> {
    (any::<(u64, u64, u64, u64)>(), vec(bytes(), 0..16)).prop_map(
        |((files, bytes, others, skipped), skipped_names)| Done {
            files,
            bytes,
            others,
            skipped,
            skipped_names,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        exec().prop_map(Request::Exec),
        (session(), any::<u64>())
            .prop_map(|(session, from_seq)| Request::Attach(Attach { session, from_seq })),
        (any::<u64>(), vec(any::<u8>(), 0..100))
            .prop_map(|(offset, data)| Request::Stdin(Stdin { offset, data })),
        any::<u64>().prop_map(|offset| Request::StdinEof(StdinEof { offset })),
        size().prop_map(Request::Resize),
        any::<u8>().prop_map(|number| Request::Signal(Signal { number })),
        any::<u64>().prop_map(|seq| Request::Ack(Ack { seq })),
        Just(Request::ListSessions),
        (bytes(), any::<(bool, bool)>(), option::of(bytes())).prop_map(
            |(path, (tree, parents), name)| Request::Put(Put { path, tree, name, parents })
        ),
        (bytes(), any::<(bool, bool)>()).prop_map(|(path, (tree, wait_go))| Request::Get(Get {
            path,
            tree,
            wait_go
        })),
        Just(Request::Go),
        (bytes(), any::<bool>()).prop_map(|(path, follow)| Request::Stat(Stat { path, follow })),
        Just(Request::Ping),
        any::<u64>().prop_map(|grace_ms| Request::Shutdown(Shutdown {
            mode: ShutdownMode::Reboot,
            grace_ms
        })),
        any::<u32>().prop_map(|port| Request::Listen(Listen { port })),
        entry().prop_map(Request::Entry),
        done().prop_map(Request::Done),
        fault().prop_map(Request::Error),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let started = (session(), any::<(u32, u64, bool, u64)>()).prop_map(
        |(session, (pid, stdin_offset, resumed, first_seq))| {
            Reply::Started(Started { session, pid, stdin_offset, resumed, first_seq })
        },
    );
    let stream = proptest::sample::select(vec![StreamName::Stdout, StreamName::Stderr]);
    let output = (any::<u64>(), stream, vec(any::<u8>(), 0..100))
        .prop_map(|(seq, stream, data)| Reply::Output(Output { seq, stream, data }));
    let exit = (any::<(Option<u8>, Option<u8>, bool, u64)>(), option::of(fault())).prop_map(
        |((code, signal, timeout, seq), error)| {
            Reply::Exit(Exit { code, signal, timeout, seq, error })
        },
    );
    let info = (session(), bytes(), any::<(u32, bool, bool, u64)>()).prop_map(
        |(session, program, (pid, running, attached, age_ms))| SessionInfo {
            session,
            program,
            pid,
            running,
            attached,
            age_ms,
        },
    );
    let stat = (any::<(u32, u32, u32, i64, u64)>(), option::of(bytes())).prop_map(
        |((mode, uid, gid, mtime_ns, size), target)| {
            let kind = EntryKind::BlockDevice;
            Reply::StatReply(StatReply { kind, mode, uid, gid, mtime_ns, size, target })
        },
    );
    let hello = (".*", any::<(u8, u8)>(), ".*", vec(".*", 0..8), any::<(u64, u32)>()).prop_map(
        |(agent, protocols, kernel, transports, (boot_ms, port))| {
            Reply::Hello(Hello { agent, protocols, kernel, transports, boot_ms, port })
        },
    );
    prop_oneof![
        started,
        output,
        exit,
        any::<u64>().prop_map(|offset| Reply::StdinAck(StdinAck { offset })),
        vec(info, 0..5).prop_map(|sessions| Reply::Sessions(Sessions { sessions })),
        fault().prop_map(Reply::Error),
        (bytes(), any::<bool>()).prop_map(|(path, is_dir)| Reply::Ready(Ready { path, is_dir })),
        entry().prop_map(Reply::Entry),
        done().prop_map(Reply::Done),
        stat,
        Just(Reply::Pong),
        hello,
        any::<u32>().prop_map(|port| Reply::Listening(Listening { port })),
    ]
}

proptest! {
    #[test]
    fn every_request_reads_back(request in request()) {
        let wire = request.to_frame().expect("fits");
        let mut frames = FrameReader::new(&*wire);
        let frame = frames.read().expect("whole").expect("not the end");
        prop_assert_eq!(Request::decode(frame.kind, frame.payload).expect("ours"), request);
        prop_assert!(frames.read().expect("the end").is_none());
    }

    #[test]
    fn every_reply_reads_back_and_is_not_read_before_it_is_whole(reply in reply()) {
        let wire = reply.to_frame().expect("fits");
        for cut in 0..wire.len() {
            prop_assert!(parse_frame(&wire[..cut]).expect("no error").is_none());
        }
        let (frame, used) = parse_frame(&wire).expect("whole").expect("whole");
        prop_assert_eq!(used, wire.len());
        prop_assert_eq!(Reply::decode(frame.kind, frame.payload).expect("ours"), reply);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(wire in vec(any::<u8>(), 0..300)) {
        let mut frames = FrameReader::new(&*wire);
        while let Ok(Some(frame)) = frames.read() {
            Request::decode(frame.kind, frame.payload).ok();
            Reply::decode(frame.kind, frame.payload).ok();
        }
        for kind in 0..=255 {
            Request::decode(kind, &wire).ok();
            Reply::decode(kind, &wire).ok();
        }
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(request in request(), at: usize, value: u8) {
        let mut wire = request.to_frame().expect("fits");
        let at = at % wire.len();
        wire[at] = value;
        if let Ok(Some((frame, _))) = parse_frame(&wire) {
            Request::decode(frame.kind, frame.payload).ok();
        }
    }
}

#[test]
fn unknown_keys_are_skipped_and_missing_ones_have_their_defaults() {
    // {0: 16 bytes, 1: [b"a"], 99: {1: [2, "x"]}}
    let mut payload = vec![0xa3, 0x00, 0x50];
    payload.extend([7; 16]);
    payload.extend([0x01, 0x81, 0x41, b'a', 0x18, 99, 0xa1, 0x01, 0x82, 0x02, 0x61, b'x']);

    let Ok(Request::Exec(exec)) = Request::decode(0x01, &payload) else { panic!("not Exec") };

    assert_eq!(
        (exec.argv, exec.env, exec.stdin, exec.tty),
        (vec!["a".into()], vec![], false, None)
    );
}

#[test]
fn bytes_after_the_map_are_refused() {
    let error = Request::decode(0x07, &[0xa1, 0x00, 0x05, 0x00]).expect_err("one byte too many");

    assert!(matches!(error, DecodeError::Length { kind: Kind::Ack, .. }), "{error}");
}

#[test]
fn a_list_that_is_too_long_is_refused_before_it_is_stored() {
    // {0: 16 bytes, 1: array of 2^32 - 1}
    let mut payload = vec![0xa2, 0x00, 0x50];
    payload.extend([7; 16]);
    payload.extend([0x01, 0x9a, 0xff, 0xff, 0xff, 0xff]);
    payload.resize(200_000, 0x40);

    let error = Request::decode(0x01, &payload).expect_err("too long");

    let DecodeError::Cbor { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("too many items"), "{source}");
}

#[test]
fn a_frame_that_announces_more_than_allowed_is_refused() {
    let wire = [0x01, 0x00, 0x10, 0x00, 0x01];

    let error = FrameReader::new(&wire[..]).read().expect_err("too long");

    assert_eq!(
        error.to_string(),
        "frame of kind 0x01 has 1048577 bytes; at most 1048576 are allowed"
    );
    assert!(parse_frame(&wire).is_err());
}

#[test]
fn a_stream_that_ends_within_a_frame_is_an_error() {
    assert!(matches!(FrameReader::new(&[0; 3][..]).read(), Err(ReadError::Truncated)));
    assert!(matches!(FrameReader::new(&[9, 0, 0, 0, 1, 2][..]).read(), Err(ReadError::Truncated)));
}

#[test]
fn a_message_too_large_for_a_frame_is_not_half_written() {
    let mut out = b"before".to_vec();
    let huge = Request::Stat(Stat { path: vec![b'x'; MAX_PAYLOAD].into(), follow: false });

    huge.encode(&mut out).expect_err("too large");

    assert_eq!(out, b"before");
}

#[test]
fn a_reader_takes_no_byte_beyond_its_frame() {
    let mut wire = Request::Ping.to_frame().expect("fits");
    wire.extend_from_slice(b"raw data");

    let mut frames = FrameReader::new(&*wire);
    frames.read().expect("whole").expect("not the end");

    assert_eq!(frames.into_inner(), b"raw data");
}

#[test]
fn the_golden_bytes_of_a_few_messages() {
    let exec = Exec {
        session: SessionId([1; 16]),
        argv: vec!["ls".into()],
        env: vec![],
        cwd: Some("/".into()),
        user: None,
        tty: None,
        stdin: false,
        timeout_ms: Some(1000),
        detach: false,
        make_cwd: false,
    };
    let frame = Request::Exec(exec).to_frame().expect("fits");
    let mut expected = vec![39, 0, 0, 0, 0x01, 0xa8, 0x00, 0x50];
    expected.extend([1; 16]);
    // 1: ["ls"], 2: [], 3: "/", 6: false, 7: 1000, 8: false, 9: false
    expected.extend([0x01, 0x81, 0x42, b'l', b's', 0x02, 0x80, 0x03, 0x41, b'/']);
    expected.extend([0x06, 0xf4, 0x07, 0x19, 0x03, 0xe8, 0x08, 0xf4, 0x09, 0xf4]);
    assert_eq!(frame, expected);

    let output = Output { seq: 258, stream: StreamName::Stderr, data: b"x".to_vec() };
    let frame = Reply::Output(output).to_frame().expect("fits");
    assert_eq!(frame, [10, 0, 0, 0, 0x82, 2, 1, 0, 0, 0, 0, 0, 0, 2, b'x']);
}
