//! What comes as text: protocol v1, the control socket's packets, Firecracker's `CONNECT`.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use bandsox_proto::control::{
    ClientHello, ControlError, MAX_PACKET, MonitorHello, Op, Opened, PathB64, Reply, Request,
    Status, Transport, Versions,
};
use bandsox_proto::v1::{CHUNK, LineReader, MAX_LINE, Message, decode_data, encode_message};
use bandsox_proto::{ByteString, v1};
use serde_json::Value;

/// First byte: what follows. 0: lines of v1; 1: a packet of the control socket; 2: a client of the Unix socket.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 3 {
        0 => version_1(rest),
        1 => packet(rest.get(..MAX_PACKET).unwrap_or(rest)),
        _ => connect(rest),
    }
}

fn version_1(bytes: &[u8]) {
    let mut lines = LineReader::new(bytes);
    let mut raw = Vec::new();
    while let Ok(Some(line)) = lines.read() {
        assert!(line.len() < MAX_LINE && !line.contains(&b'\n'));
        let Ok(message) = Message::parse(line) else { continue };
        if let Message::Chunk { data, size, .. } = &message
            && decode_data(data, *size, &mut raw).is_ok()
        {
            assert!(raw.len() <= CHUNK && raw.len() as u64 == *size);
        }
        let mut again = String::new();
        encode_message(&message, &mut again);
        let (line, rest) = again.split_once('\n').expect("a whole line");
        assert!(rest.is_empty());
        assert_eq!(Message::parse(line.as_bytes()).expect("our own line"), message);
    }
}

fn packet(bytes: &[u8]) {
    round_trip::<ClientHello>(bytes);
    round_trip::<MonitorHello>(bytes);
    round_trip::<Request>(bytes);
    round_trip::<Reply>(bytes);
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        Reply::content::<Status>(value.clone()).ok();
        Reply::content::<Opened>(value).ok();
    }
}

fn round_trip<T>(bytes: &[u8])
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    if let Ok(message) = serde_json::from_slice::<T>(bytes) {
        let again = serde_json::to_vec(&message).expect("what was read can be written");
        let same: T = serde_json::from_slice(&again).expect("our own packet");
        assert_eq!(same, message);
    }
}

/// However a client's words arrive, its line is taken and not a byte beyond.
fn connect(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (now, later) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let (mut client, device) = UnixStream::pair().expect("a pair");
    let device = OwnedFd::from(device);
    let mut sent = 0;
    for part in [now, later] {
        let part = part.get(..part.len().min(4096)).unwrap_or_default();
        client.write_all(part).expect("there is room");
        sent += part.len();
        match bandsox_vsock::fuzzing::read_wish(&device) {
            Ok(Some(_)) => {
                let line = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
                let left = rustix::io::ioctl_fionread(&device).expect("asked");
                assert_eq!(left, (sent - line) as u64);
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// The lines and packets that the documents show.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let upload = Message::Upload { path: "/tmp/a".into(), size: 3, checksum: "ab".into() };
    let mut session = String::from("\0");
    for message in [
        upload,
        Message::Ready { path: "/tmp/a".into() },
        Message::Ack { bytes: 3 },
        Message::Verify,
        Message::Complete { size: 3, checksum: "cd".into() },
        Message::Download { path: "/x\"\u{e9}".into() },
        Message::Error { error: "no".into() },
    ] {
        encode_message(&message, &mut session);
    }
    v1::encode_chunk(b"abc", 0, &mut session);

    let put = Op::PutFile {
        path_b64: PathB64(ByteString::from("/a")),
        name_b64: Some(PathB64(ByteString::from("n"))),
        mode: 0o644,
        mtime_ns: -1,
        uid: Some(1),
        gid: None,
        size: 10,
        transport: Some(Transport::Vsock),
    };
    let refused =
        ControlError { code: "x".to_owned(), message: "m".to_owned(), hint: Some("h".to_owned()) };
    let packets = [
        serde_json::to_vec(&ClientHello { hello: Versions { versions: vec![1] } }),
        serde_json::to_vec(&Request { id: 1, op: Op::Stop { timeout_ms: 10 } }),
        serde_json::to_vec(&Request { id: 2, op: put }),
        serde_json::to_vec(&Reply::ok(3, &Opened { transport: Transport::Serial })),
        serde_json::to_vec(&Reply::error(4, refused)),
        serde_json::to_vec(&Reply::progress(5, 9)),
    ];
    let packets = packets.map(|packet| [&[1], packet.expect("plain data").as_slice()].concat());
    let connects = [&b"\x02\xffCONNECT 9000\nrest"[..], b"\x02\x05connect 1 \r\n"];
    let connects = connects.map(<[u8]>::to_vec);
    [vec![session.into_bytes()], packets.to_vec(), connects.to_vec()].concat()
}
